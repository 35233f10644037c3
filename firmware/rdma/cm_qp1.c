/*
 * CM: makes QP1 and what it needs of the verbs, in memory that is laid out here.
 */
#include "rdma/cm_priv.h"

#include "base/bits.h"

static uint32_t path_count(const struct rdma_cm_soft_config *config)
{
    return config->id_count + RDMA_CM_SOFT_EXTRA_AHS;
}

static struct rdma_qp_init_attr qp_attr(struct cm *cm, struct rdma_pd *pd)
{
    return (struct rdma_qp_init_attr){
        .type = RDMA_QP_GSI,
        .pd = pd,
        .send_cq = cm != NULL ? cm->cq : NULL,
        .recv_cq = cm != NULL ? cm->cq : NULL,
        .send_wr_count = CM_TX_MADS,
        .recv_wr_count = CM_RX_MADS,
        .send_sge_count = 1,
        .recv_sge_count = 1,
        .ctx = cm,
    };
}

/* Where things lie, one behind the other. */
struct layout {
    uint64_t paths;
    uint64_t heads;
    uint64_t cq;
    uint64_t qp;
    uint64_t end;
};

static struct layout lay_out(const struct rdma_device *device,
                             const struct rdma_cm_soft_config *config)
{
    struct rdma_device plain = {.ops = device->ops, .attr = device->attr};
    struct rdma_pd pd = {.device = &plain};
    struct rdma_qp_init_attr attr = qp_attr(NULL, &pd);
    struct layout at;

    at.paths = align_up(sizeof(struct cm_dma), 64);
    at.heads = at.paths + align_up(path_count(config) * sizeof(struct cm_path), 64);
    at.cq = at.heads + align_up((uint64_t)cm_bucket_count(config) * sizeof(struct list), 64);
    at.qp = at.cq + align_up(rdma_cq_memory_bytes(&plain, CM_TX_MADS + CM_RX_MADS), 64);
    at.end = at.qp + align_up(rdma_qp_memory_bytes(&attr), 64);
    return at;
}

uint64_t cm_wire_memory_bytes(const struct rdma_device *device,
                              const struct rdma_cm_soft_config *config)
{
    return lay_out(device, config).end;
}

static enum status qp1_to_rts(struct rdma_qp *qp, uint32_t sq_psn)
{
    struct rdma_qp_attr attr = {.state = RDMA_QP_INIT, .qkey = MAD_GSI_QKEY};
    enum status status = rdma_qp_modify(qp, &attr, RDMA_QP_STATE | RDMA_QP_QKEY);

    if (status == STATUS_OK) {
        attr.state = RDMA_QP_RTR;
        status = rdma_qp_modify(qp, &attr, RDMA_QP_STATE);
    }
    if (status == STATUS_OK) {
        attr.state = RDMA_QP_RTS;
        attr.sq_psn = sq_psn;
        status = rdma_qp_modify(qp, &attr, RDMA_QP_STATE | RDMA_QP_SQ_PSN);
    }
    return status;
}

static enum status make_objects(struct cm *cm, uint8_t *memory, const struct layout *at)
{
    struct rdma_mr_attr mr_attr = {
        .kind = RDMA_MR_NIC,
        .access = RDMA_ACCESS_LOCAL_WRITE,
        .memory = cm->dma,
        .len_bytes = sizeof(*cm->dma),
    };
    struct rdma_cq_attr cq_attr = {
        .entry_count = CM_TX_MADS + CM_RX_MADS,
        .memory = memory + at->cq,
        .ctx = cm,
    };
    enum status status = rdma_pd_alloc(cm->device, 0, &cm->pd);

    if (status == STATUS_OK) {
        status = rdma_mr_reg(cm->pd, &mr_attr, &cm->mr);
    }
    if (status == STATUS_OK) {
        status = rdma_cq_create(cm->device, &cq_attr, &cm->cq);
    }
    if (status == STATUS_OK) {
        struct rdma_qp_init_attr attr = qp_attr(cm, cm->pd);
        attr.memory = memory + at->qp;
        status = rdma_qp_create(&attr, &cm->qp);
    }
    return status;
}

enum status cm_wire_init(struct cm *cm, void *memory)
{
    struct layout at = lay_out(cm->device, &cm->config);
    uint8_t *bytes = memory;

    cm->dma = memory;
    pool_init(&cm->path_pool, "cm paths", bytes + at.paths, sizeof(struct cm_path),
              path_count(&cm->config));
    cm->path_heads = (struct list *)(void *)(bytes + at.heads);
    for (uint32_t i = 0; i < cm_bucket_count(&cm->config); i++) {
        list_init(&cm->path_heads[i]);
    }
    list_init(&cm->changed);
    list_init(&cm->free_tx);
    for (uint32_t i = 0; i < CM_TX_MADS; i++) {
        cm->tx[i].index = i;
        list_push_back(&cm->free_tx, &cm->tx[i].link);
    }
    cm->free_tx_count = CM_TX_MADS;
    enum status status = make_objects(cm, bytes, &at);
    if (status == STATUS_OK) {
        status = qp1_to_rts(cm->qp, cm_random(cm) & 0xffffff);
    }
    if (status != STATUS_OK) {
        return status;
    }
    for (uint32_t i = 0; i < CM_RX_MADS; i++) {
        cm_post_recv(cm, i);
    }
    return STATUS_OK;
}
