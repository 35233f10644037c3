/*
 * One RC connection of a diagnostic service; see diag_conn_priv.h.
 */
#include "diag/diag_conn_priv.h"

#include "base/bits.h"

#define RETRY_COUNT     7
#define RNR_RETRY_COUNT 7

static struct rdma_qp_init_attr qp_attr(const struct diag_conn_config *config)
{
    return (struct rdma_qp_init_attr){
        .type = RDMA_QP_RC,
        .pd = config->pd,
        .send_cq = config->cq,
        .recv_cq = config->cq,
        .send_wr_count = config->send_wr_count,
        .recv_wr_count = config->recv_wr_count,
        .send_sge_count = config->send_sge_count,
        .recv_sge_count = config->recv_sge_count,
    };
}

uint64_t diag_conn_memory_bytes(const struct diag_conn_config *config)
{
    struct rdma_qp_init_attr attr = qp_attr(config);

    return rdma_qp_memory_bytes(&attr);
}

enum status diag_conn_open(struct diag_conn *conn, struct rdma_cm_id *id,
                           const struct diag_conn_config *config, uint8_t access, void *ctx)
{
    struct rdma_qp_init_attr attr = qp_attr(config);

    attr.memory = conn->qp_memory;
    attr.ctx = ctx;
    enum status status = rdma_qp_create(&attr, &conn->qp);
    if (status != STATUS_OK) {
        conn->qp = NULL;
        return status;
    }
    status = rdma_cm_qp_init(id, conn->qp, access);
    if (status != STATUS_OK) {
        return status;
    }
    conn->id = id;
    id->ctx = ctx;
    return STATUS_OK;
}

bool diag_conn_close(struct diag_conn *conn)
{
    if (conn->id != NULL) {
        rdma_cm_destroy(conn->id);
        conn->id = NULL;
    }
    if (conn->qp != NULL) {
        if (rdma_qp_destroy(conn->qp) != STATUS_OK) {
            return false;
        }
        conn->qp = NULL;
    }
    return true;
}

struct rdma_cm_param diag_accept_param(const struct diag_conn *conn,
                                       const struct rdma_cm_event *request, uint8_t access)
{
    const struct rdma_device_attr *attr = &conn->id->device->attr;

    return (struct rdma_cm_param){
        .qp = conn->qp,
        .responder_resources =
            (uint8_t)min_u32(request->responder_resources, attr->dest_rd_atomic_max),
        .initiator_depth = (uint8_t)min_u32(request->initiator_depth, attr->rd_atomic_max),
        .retry_count = RETRY_COUNT,
        .rnr_retry_count = RNR_RETRY_COUNT,
        .access = access,
    };
}

void *diag_cut(struct diag_cut *cut, uint64_t len_bytes)
{
    void *piece = cut->next == NULL ? NULL : cut->next + cut->bytes;

    cut->bytes += align_up(len_bytes, CACHE_LINE_BYTES);
    return piece;
}
