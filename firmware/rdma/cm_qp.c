/*
 * CM: takes the queue pair of a connection through its states (IBA 10.3.1, table 92; 12.9 says
 * where each attribute comes from).
 */
#include "rdma/cm_priv.h"

enum status cm_qp_init(struct rdma_qp *qp, uint8_t access)
{
    if (qp->type != RDMA_QP_RC) {
        return STATUS_INVALID;
    }
    if (qp->state == RDMA_QP_INIT) {
        return STATUS_OK;
    }
    if (qp->state != RDMA_QP_RESET) {
        return STATUS_INVALID;
    }
    struct rdma_qp_attr attr = {.state = RDMA_QP_INIT, .access = access};
    return rdma_qp_modify(qp, &attr, RDMA_QP_STATE | RDMA_QP_ACCESS);
}

enum status cm_qp_connect(struct cm_conn *c)
{
    struct rdma_qp_attr attr = {
        .state = RDMA_QP_RTR,
        .access = c->access,
        .path_mtu = c->path_mtu,
        .rq_psn = c->rq_psn,
        .dest_qpn = c->remote_qpn,
        .max_dest_rd_atomic = c->responder_resources,
        .min_rnr_timer = CM_MIN_RNR_TIMER,
        .av =
            {
                .dgid = c->id.peer,
                .sgid_index = c->sgid_index,
            },
    };

    if (c->id.qp == NULL) {
        return STATUS_INVALID;
    }
    enum status status = rdma_qp_modify(c->id.qp, &attr,
                                        RDMA_QP_STATE | RDMA_QP_ACCESS | RDMA_QP_AV |
                                            RDMA_QP_PATH_MTU | RDMA_QP_RQ_PSN | RDMA_QP_DEST_QPN |
                                            RDMA_QP_MAX_DEST_RD_ATOMIC | RDMA_QP_MIN_RNR_TIMER);
    if (status != STATUS_OK) {
        return status;
    }
    attr = (struct rdma_qp_attr){
        .state = RDMA_QP_RTS,
        .sq_psn = c->sq_psn,
        .timeout = c->ack_timeout,
        .retry_cnt = c->retry_count,
        .rnr_retry = c->rnr_retry,
        .max_rd_atomic = c->initiator_depth,
    };
    return rdma_qp_modify(c->id.qp, &attr,
                          RDMA_QP_STATE | RDMA_QP_SQ_PSN | RDMA_QP_TIMEOUT | RDMA_QP_RETRY_CNT |
                              RDMA_QP_RNR_RETRY | RDMA_QP_MAX_RD_ATOMIC);
}

void cm_qp_error(struct cm_conn *c)
{
    struct rdma_qp_attr attr = {.state = RDMA_QP_ERR};

    /* Who is not in the table has no QP any more, though its owner can still read which it was. */
    if (c->id.qp == NULL || list_is_empty(&c->links[CM_BY_QPN]) || c->id.qp->state == RDMA_QP_ERR ||
        c->id.qp->state == RDMA_QP_RESET) {
        return;
    }
    if (rdma_qp_modify(c->id.qp, &attr, RDMA_QP_STATE) != STATUS_OK) {
        CM_COUNT(c->cm, qp_errors);
    }
}
