/*
 * Posting: work requests are checked in form, copied into the ring, and left to the poller. What
 * they name (memory, keys) is looked at when they are carried out.
 */
#include "rdma/soft_priv.h"

static bool is_inline(const struct rdma_send_wr *wr)
{
    return (wr->flags & RDMA_SEND_INLINE) != 0;
}

static bool form_is_valid(const struct soft_qp *qp, const struct rdma_send_wr *wr)
{
    uint32_t bytes = 0;

    if (wr->opcode > RDMA_WR_BIND || wr->sge_count > qp->send_sge_count ||
        (qp->qp.type != RDMA_QP_RC && wr->opcode > RDMA_WR_SEND_WITH_IMM)) {
        return false;
    }
    if (!is_inline(wr)) {
        return true;
    }
    for (uint32_t i = 0; i < wr->sge_count; i++) {
        bytes += wr->sges[i].len_bytes;
        if (wr->sges[i].len_bytes > RDMA_SOFT_INLINE_BYTES || bytes > RDMA_SOFT_INLINE_BYTES) {
            return false;
        }
    }
    return wr->opcode != RDMA_WR_RDMA_READ;
}

static void take_data(struct soft_send_wqe *wqe, const struct rdma_send_wr *wr)
{
    uint64_t len_bytes = 0;

    for (uint32_t i = 0; i < wr->sge_count; i++) {
        if (is_inline(wr)) {
            memcpy(wqe->inline_data + len_bytes, mem_bus_ptr(wr->sges[i].addr),
                   wr->sges[i].len_bytes);
        } else {
            wqe->sges[i] = wr->sges[i];
        }
        len_bytes += wr->sges[i].len_bytes;
    }
    wqe->len_bytes = (uint32_t)min_u64(len_bytes, UINT32_MAX); /* too long in any case */
    wqe->sge_count = wr->sge_count;
}

static void take_rest(struct soft_send_wqe *wqe, const struct rdma_send_wr *wr, bool is_rc)
{
    wqe->is_local = false;
    if (!is_rc) {
        wqe->ah = wr->ud.ah;
        wqe->remote_qpn = wr->ud.remote_qpn;
        wqe->rkey = wr->ud.remote_qkey;
        return;
    }
    if (wr->opcode == RDMA_WR_BIND) {
        wqe->is_local = true;
        wqe->bind.key = wr->bind.key;
        wqe->bind.ref = wr->bind.ref;
        wqe->bind.access = wr->bind.access;
        wqe->bind.cancels = soft_key_cancels(wr->bind.key);
        wqe->remote_addr = wr->bind.iova;
        return;
    }
    wqe->is_local = wr->opcode == RDMA_WR_LOCAL_INV;
    wqe->remote_addr = wr->rdma.remote_addr;
    wqe->rkey = wr->rdma.rkey;
}

static void take(struct soft_qp *qp, const struct rdma_send_wr *wr)
{
    struct soft_send_wqe *wqe = soft_wqe(qp, qp->req.head);

    wqe->wr_id = wr->wr_id;
    wqe->opcode = wr->opcode;
    wqe->flags = (uint8_t)(wr->flags | (qp->signal_all ? RDMA_SEND_SIGNALED : 0));
    wqe->imm = wr->imm;
    wqe->tx_seq = 0;
    wqe->status = RDMA_WC_WR_FLUSH_ERR;
    wqe->vendor_err = 0;
    wqe->is_begun = false;
    take_data(wqe, wr);
    take_rest(wqe, wr, qp->qp.type == RDMA_QP_RC);
    qp->req.head++;
}

enum status soft_post_send(struct rdma_qp *rdma_qp, const struct rdma_send_wr *wr,
                           const struct rdma_send_wr **bad)
{
    struct soft_qp *qp = soft_qp_of(rdma_qp);
    enum status status = rdma_qp->state >= RDMA_QP_RTS ? STATUS_OK : STATUS_INVALID;

    for (; status == STATUS_OK && wr != NULL; wr = wr->next) {
        if (!form_is_valid(qp, wr)) {
            status = STATUS_INVALID;
            break;
        }
        if (qp->req.head - qp->req.tail > qp->req.mask) {
            status = STATUS_AGAIN;
            break;
        }
        take(qp, wr);
    }
    if (status != STATUS_OK && bad != NULL) {
        *bad = wr;
    }
    if (rdma_qp->state == RDMA_QP_ERR) {
        soft_complete(qp);
    } else if (qp->req.next != qp->req.head) {
        soft_qp_activate(qp);
    }
    return status;
}

enum status soft_post_recv(struct rdma_qp *rdma_qp, const struct rdma_recv_wr *wr,
                           const struct rdma_recv_wr **bad)
{
    struct soft_qp *qp = soft_qp_of(rdma_qp);

    if (rdma_qp->state == RDMA_QP_RESET || rdma_qp->srq != NULL) {
        if (bad != NULL) {
            *bad = wr;
        }
        return STATUS_INVALID;
    }
    enum status status = soft_recv_ring_post(qp->dev, &qp->rq, qp->recv_sge_count, wr, bad);
    if (rdma_qp->state == RDMA_QP_ERR) {
        soft_respond_flush(qp);
    }
    return status;
}
