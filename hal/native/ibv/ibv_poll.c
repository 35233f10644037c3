/*
 * Completions: the library's into the contract's, and what they say about keys and queue pairs.
 */
#include "hal/native/ibv/ibv_priv.h"

#include <arpa/inet.h>
#include "base/log.h"

/* --- ends of send work requests --------------------------------------------------------------- */

/* `is_done`: it did what it was to do. Else nobody knows how far it got: its window must go. */
static void end_send(const struct rdma_ibv_send_slot *slot, bool is_done)
{
    struct rdma_ibv_key *key = slot->key;

    if (key == NULL) {
        return;
    }
    if (slot->opcode == RDMA_WR_BIND) {
        if (!is_done && key->base.value == slot->value) {
            rdma_ibv_key_invalidate(&key->base);
        }
        return;
    }
    key->invalidates--;
    if (!is_done && !key->base.is_bound) {
        rdma_ibv_key_renew(key);
    }
}

void rdma_ibv_sends_drop(struct rdma_ibv_qp *qp)
{
    while (qp->send_tail != qp->send_head) {
        end_send(&qp->sends[qp->send_tail++ & qp->send_mask], false);
    }
}

/* The completion of number `number` ends those before it too: they were not signalled and went
 * well, for failures always complete. */
static bool end_sends(struct rdma_ibv_qp *qp, uint32_t number, bool is_done, struct rdma_wc *out)
{
    if (number - qp->send_tail >= qp->send_head - qp->send_tail) {
        return false;
    }
    while (qp->send_tail != number) {
        end_send(&qp->sends[qp->send_tail++ & qp->send_mask], true);
    }
    const struct rdma_ibv_send_slot *slot = &qp->sends[qp->send_tail++ & qp->send_mask];
    end_send(slot, is_done);
    out->wr_id = slot->wr_id;
    switch ((enum rdma_wr_opcode)slot->opcode) {
    case RDMA_WR_RDMA_WRITE:
    case RDMA_WR_RDMA_WRITE_WITH_IMM:
        out->opcode = RDMA_WC_RDMA_WRITE;
        break;
    case RDMA_WR_RDMA_READ:
        out->opcode = RDMA_WC_RDMA_READ;
        break;
    case RDMA_WR_LOCAL_INV:
        out->opcode = RDMA_WC_LOCAL_INV;
        break;
    case RDMA_WR_BIND:
        out->opcode = RDMA_WC_BIND;
        break;
    case RDMA_WR_SEND:
    case RDMA_WR_SEND_WITH_IMM:
    case RDMA_WR_SEND_WITH_INV:
    default:
        out->opcode = RDMA_WC_SEND;
        break;
    }
    return true;
}

/* --- one completion --------------------------------------------------------------------------- */

static void fill_recv(struct rdma_ibv_device *d, const struct rdma_ibv_qp *qp,
                      const struct ibv_wc *wc, struct rdma_wc *out)
{
    out->wr_id = rdma_ibv_recv_slot_put(rdma_ibv_recv_slots_of(qp), (uint32_t)wc->wr_id);
    out->opcode = RDMA_WC_RECV;
    if (wc->status != IBV_WC_SUCCESS) {
        return;
    }
    if (wc->opcode == IBV_WC_RECV_RDMA_WITH_IMM) {
        out->opcode = RDMA_WC_RECV_RDMA_WITH_IMM;
    }
    out->src_qpn = wc->src_qp;
    if ((wc->wc_flags & IBV_WC_GRH) != 0 && qp->base.type == RDMA_QP_UD) {
        out->flags |= RDMA_WC_GRH;
    }
    if ((wc->wc_flags & IBV_WC_WITH_IMM) != 0) {
        out->flags |= RDMA_WC_WITH_IMM;
        out->imm = ntohl(wc->imm_data);
    } else if ((wc->wc_flags & d->inv_flags) != 0 && qp->base.type == RDMA_QP_RC) {
        out->flags |= RDMA_WC_WITH_INV;
        out->imm = wc->invalidated_rkey;
        struct rdma_ibv_key *key = rdma_ibv_key_find(d, out->imm);
        if (key != NULL && key->base.pd == qp->base.pd) {
            rdma_ibv_key_unbound(key);
        }
    }
}

static uint8_t convert_status(enum ibv_wc_status status)
{
    switch ((int)status) {
    case RDMA_WC_SUCCESS:
    case RDMA_WC_LOC_LEN_ERR:
    case RDMA_WC_LOC_QP_OP_ERR:
    case RDMA_WC_LOC_PROT_ERR:
    case RDMA_WC_WR_FLUSH_ERR:
    case RDMA_WC_MW_BIND_ERR:
    case RDMA_WC_BAD_RESP_ERR:
    case RDMA_WC_LOC_ACCESS_ERR:
    case RDMA_WC_REM_INV_REQ_ERR:
    case RDMA_WC_REM_ACCESS_ERR:
    case RDMA_WC_REM_OP_ERR:
    case RDMA_WC_RETRY_EXC_ERR:
    case RDMA_WC_RNR_RETRY_EXC_ERR:
    case RDMA_WC_FATAL_ERR:
        return (uint8_t)status; /* the same numbers */
    default:
        return RDMA_WC_GENERAL_ERR;
    }
}

/* Errors take a reliable queue pair to ERR, a datagram's send queue to SQE (IBA 10.3.1). */
static void note_error(struct rdma_ibv_qp *qp, bool is_recv)
{
    if (qp->base.type == RDMA_QP_RC) {
        qp->base.state = RDMA_QP_ERR;
    } else if (!is_recv && qp->base.state == RDMA_QP_RTS) {
        qp->base.state = RDMA_QP_SQE;
    }
}

/* False: of a queue pair or work request that is no more. */
static bool convert(struct rdma_ibv_device *d, const struct ibv_wc *wc, struct rdma_wc *out)
{
    struct rdma_ibv_node *node = rdma_ibv_find(&d->qp_by_num, wc->qp_num);
    bool is_recv = (wc->wr_id & RDMA_IBV_WR_ID_RECV) != 0;

    if (node == NULL) {
        return false;
    }
    struct rdma_ibv_qp *qp = CONTAINER_OF(node, struct rdma_ibv_qp, node);
    *out = (struct rdma_wc){
        .qp = &qp->base,
        .status = convert_status(wc->status),
        .len_bytes = wc->status == IBV_WC_SUCCESS ? wc->byte_len : 0,
    };
    if (is_recv) {
        fill_recv(d, qp, wc, out);
    } else if (!end_sends(qp, (uint32_t)wc->wr_id, wc->status == IBV_WC_SUCCESS, out)) {
        return false;
    }
    if (UNLIKELY(wc->status != IBV_WC_SUCCESS)) {
        note_error(qp, is_recv);
    }
    return true;
}

uint32_t rdma_ibv_cq_poll(struct rdma_cq *base, struct rdma_wc *wcs, uint32_t max)
{
    struct rdma_ibv_cq *cq = rdma_ibv_cq_of(base);
    struct rdma_ibv_device *d = rdma_ibv_device_of(base->device);
    uint32_t count = 0;

    while (UNLIKELY(cq->saved_tail != cq->saved_head) && count < max) {
        const struct ibv_wc *wc = &cq->saved[cq->saved_tail++ & cq->saved_mask];
        count += convert(d, wc, &wcs[count]) ? 1 : 0;
    }
    while (count < max) {
        int wanted = max - count < RDMA_IBV_BATCH ? (int)(max - count) : RDMA_IBV_BATCH;
        int got = ibv_poll_cq(cq->ibv, wanted, d->wcs);
        if (UNLIKELY(got < 0)) {
            LOG_LIMITED(ERROR, "ibv: %s: a completion queue cannot be polled", d->base.name);
            break;
        }
        for (int i = 0; i < got; i++) {
            count += convert(d, &d->wcs[i], &wcs[count]) ? 1 : 0;
        }
        if (got < wanted) {
            break;
        }
    }
    return count;
}
