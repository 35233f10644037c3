/*
 * The completer: acknowledgements and READ responses move the requester on (IBA 9.7.5.1, 9.7.6),
 * and work requests complete in order once the device has let go of their memory.
 */
#include "rdma/soft_packet_priv.h"

#include "hal/clock.h"

/* --- completions ------------------------------------------------------------------------------ */

static const uint8_t wc_opcodes[] = {
    [RDMA_WR_SEND] = RDMA_WC_SEND,
    [RDMA_WR_SEND_WITH_IMM] = RDMA_WC_SEND,
    [RDMA_WR_SEND_WITH_INV] = RDMA_WC_SEND,
    [RDMA_WR_RDMA_WRITE] = RDMA_WC_RDMA_WRITE,
    [RDMA_WR_RDMA_WRITE_WITH_IMM] = RDMA_WC_RDMA_WRITE,
    [RDMA_WR_RDMA_READ] = RDMA_WC_RDMA_READ,
    [RDMA_WR_LOCAL_INV] = RDMA_WC_LOCAL_INV,
    [RDMA_WR_BIND] = RDMA_WC_BIND,
};

/* False: the CQ overran. */
static bool push_wc(struct soft_qp *qp, const struct soft_send_wqe *wqe)
{
    if (wqe->status == RDMA_WC_SUCCESS && (wqe->flags & RDMA_SEND_SIGNALED) == 0) {
        return true;
    }
    struct rdma_wc *wc = soft_cq_push(soft_cq_of(qp->qp.send_cq));
    if (wc == NULL) {
        return false;
    }
    *wc = (struct rdma_wc){.wr_id = wqe->wr_id,
                           .qp = &qp->qp,
                           .len_bytes = wqe->len_bytes,
                           .status = wqe->status,
                           .opcode = wc_opcodes[wqe->opcode],
                           .vendor_err = wqe->vendor_err};
    return true;
}

/* Bind and invalidate need no acknowledgement: they are over when they are the oldest. Before that
 * they may still be flushed, though they were carried out. */
static void pass_local(struct soft_qp *qp)
{
    struct soft_requester *req = &qp->req;

    while (req->una != req->next && soft_wqe(qp, req->una)->is_local) {
        soft_wqe(qp, req->una++)->status = RDMA_WC_SUCCESS;
    }
}

/* Those up to `una`, or all when the QP is in error, complete unless a frame still points at their
 * memory; then the device's poller tries again. */
static void push_ready(struct soft_qp *qp)
{
    struct soft_requester *req = &qp->req;
    uint64_t done_seq = net_tx_done_seq(qp->dev->nif);
    uint32_t end = qp->qp.state == RDMA_QP_ERR ? req->head : req->una;

    while (req->tail != end) {
        const struct soft_send_wqe *wqe = soft_wqe(qp, req->tail);
        if (UNLIKELY(wqe->tx_seq > done_seq)) {
            list_remove(&qp->reap_link);
            list_push_back(&qp->dev->reaps, &qp->reap_link);
            return;
        }
        req->tail++;
        if (UNLIKELY(!push_wc(qp, wqe))) {
            soft_qp_stop(qp);
            soft_event_raise(qp->dev, &qp->event, RDMA_EVENT_QP_FATAL);
            end = req->head;
        }
    }
}

void soft_complete(struct soft_qp *qp)
{
    struct soft_requester *req = &qp->req;

    if (LIKELY(qp->qp.state != RDMA_QP_ERR)) {
        pass_local(qp);
    }
    if (UNLIKELY(req->has_local_error && req->una == req->next && qp->qp.state != RDMA_QP_ERR)) {
        req->has_local_error = false;
        soft_qp_stop(qp);
    }
    push_ready(qp);
}

/* --- progress --------------------------------------------------------------------------------- */

/* Something was acknowledged: counters and clock start anew, the window has moved. */
static void progressed(struct soft_qp *qp)
{
    struct soft_requester *req = &qp->req;

    req->retries_left = qp->attr.retry_cnt;
    req->rnr_left = qp->attr.rnr_retry;
    req->went_back = false;
    req->is_paused = false;
    req->window_is_full = false;
    if (roce_psn_diff(req->una_psn, req->send_psn) > 0 || (int32_t)(req->una - req->next) > 0) {
        req->has_local_error = false; /* the one that failed when it was sent again had arrived */
        req->send_psn = req->una_psn; /* what was to be sent again has arrived */
        req->next = req->una;
    }
    req->rto_ns = req->una_psn != req->max_psn && req->rto_duration_ns != 0
                      ? sched_now_ns() + req->rto_duration_ns
                      : 0;
    if (UNLIKELY(req->rto_ns != 0 && !timer_is_armed(&qp->timer))) {
        soft_timer_update(qp); /* it had nothing to wait for after a pause */
    }
    if (req->next != req->head || qp->qp.state == RDMA_QP_SQD) {
        soft_qp_activate(qp);
    }
}

/* A packet is missing at una_psn: send from there, once until there is progress or a time-out. Such
 * a NAK, said or implied, uses up a retry like a time-out (9.7.6.1.1). */
static void go_back(struct soft_qp *qp)
{
    struct soft_requester *req = &qp->req;

    if (req->went_back || req->is_paused) {
        return; /* it is on its way, or will be */
    }
    if (req->retries_left == 0) {
        soft_request_fail(qp, RDMA_WC_RETRY_EXC_ERR, 0);
        return;
    }
    req->retries_left--;
    req->went_back = true;
    soft_request_again(qp);
}

/* Everything up to `psn` has arrived. False: it has not, since a READ before it lacks responses
 * (9.7.5.1.1: an implied NAK). */
static bool acknowledge(struct soft_qp *qp, uint32_t psn)
{
    struct soft_requester *req = &qp->req;
    uint32_t before = req->una_psn;
    bool complete = true;

    for (; req->una != req->head; req->una++) {
        struct soft_send_wqe *wqe = soft_wqe(qp, req->una);
        if (!wqe->is_begun) {
            break;
        }
        if (wqe->is_local) {
            wqe->status = RDMA_WC_SUCCESS;
            continue;
        }
        if (roce_psn_diff(psn, req->una_psn) < 0) {
            break;
        }
        if (wqe->opcode == RDMA_WR_RDMA_READ) {
            complete = false;
            break;
        }
        if (roce_psn_diff(psn, wqe->last_psn) < 0) {
            req->una_psn = roce_psn_add(psn, 1);
            break;
        }
        wqe->status = RDMA_WC_SUCCESS;
        req->una_psn = roce_psn_add(wqe->last_psn, 1);
    }
    if (before != req->una_psn) {
        progressed(qp);
    }
    return complete;
}

/* --- acknowledgements ------------------------------------------------------------------------- */

static void negative(struct soft_qp *qp, uint8_t syndrome)
{
    switch (ROCE_AETH_VALUE(syndrome)) {
    case ROCE_NAK_PSN_SEQUENCE:
        qp->stats.nak_seq_rx++;
        go_back(qp);
        break;
    case ROCE_NAK_INVALID:
        soft_request_fail(qp, RDMA_WC_REM_INV_REQ_ERR, syndrome);
        break;
    case ROCE_NAK_ACCESS:
        soft_request_fail(qp, RDMA_WC_REM_ACCESS_ERR, syndrome);
        break;
    case ROCE_NAK_OPERATION:
        soft_request_fail(qp, RDMA_WC_REM_OP_ERR, syndrome);
        break;
    default:
        break; /* reserved: not there (9.7.5.2.8) */
    }
}

/* The receiver is not ready (9.7.5.2.8): wait as long as it says. */
static void not_ready(struct soft_qp *qp, uint8_t syndrome)
{
    struct soft_requester *req = &qp->req;

    qp->stats.rnr_rx++;
    if (req->is_paused) {
        return; /* the same refusal once more: nothing was sent since */
    }
    if (qp->attr.rnr_retry != 7) {
        if (req->rnr_left == 0) {
            soft_request_fail(qp, RDMA_WC_RNR_RETRY_EXC_ERR, syndrome);
            return;
        }
        req->rnr_left--;
    }
    soft_request_again(qp);
    req->is_paused = true;
    req->rto_ns = 0;
    req->rnr_until_ns = sched_now_ns() + soft_rnr_timer_us[ROCE_AETH_VALUE(syndrome)] * NS_PER_US;
    soft_timer_update(qp);
}

static void acknowledgement(struct soft_qp *qp, const struct soft_packet *packet)
{
    uint8_t syndrome = packet->aeth->syndrome;

    if (ROCE_AETH_KIND(syndrome) == ROCE_AETH_KIND_ACK) {
        if (!acknowledge(qp, packet->psn)) {
            go_back(qp);
        }
        return;
    }
    /* A NAK names the packet that it is about and acknowledges those before. */
    if (!acknowledge(qp, roce_psn_add(packet->psn, ROCE_PSN_MASK))) {
        go_back(qp);
        return;
    }
    if (packet->psn != qp->req.una_psn) {
        return;
    }
    if (ROCE_AETH_KIND(syndrome) == ROCE_AETH_KIND_RNR) {
        not_ready(qp, syndrome);
    } else if (ROCE_AETH_KIND(syndrome) == ROCE_AETH_KIND_NAK) {
        negative(qp, syndrome);
    }
}

/* --- READ responses --------------------------------------------------------------------------- */

/* The first one of all is a First or Only; later ones may be, too: an answer that was asked for
 * anew. An AETH in it is an acknowledgement. */
static bool response_fits(const struct soft_send_wqe *wqe, const struct soft_packet *packet,
                          uint32_t bytes)
{
    bool last = packet->psn == wqe->last_psn;

    if (packet->aeth != NULL && ROCE_AETH_KIND(packet->aeth->syndrome) != ROCE_AETH_KIND_ACK) {
        return false;
    }
    if (packet->psn == wqe->first_psn && (packet->flags & ROCE_OP_FIRST) == 0) {
        return false;
    }
    return packet->payload_bytes == bytes && ((packet->flags & ROCE_OP_LAST) != 0) == last;
}

static void read_response(struct soft_qp *qp, const struct soft_packet *packet)
{
    struct soft_requester *req = &qp->req;

    if (packet->psn != req->una_psn && !acknowledge(qp, roce_psn_add(packet->psn, ROCE_PSN_MASK))) {
        go_back(qp); /* a response before it is missing */
        return;
    }
    pass_local(qp);
    struct soft_send_wqe *wqe = soft_wqe(qp, req->una);
    if (req->una == req->head || !wqe->is_begun || wqe->opcode != RDMA_WR_RDMA_READ ||
        packet->psn != req->una_psn) {
        return; /* nobody asked */
    }
    uint32_t offset = (uint32_t)roce_psn_diff(packet->psn, wqe->first_psn) * qp->mtu_bytes;
    uint32_t bytes = min_u32(wqe->len_bytes - offset, qp->mtu_bytes);
    bool last = packet->psn == wqe->last_psn;
    if (!response_fits(wqe, packet, bytes)) {
        soft_request_fail(qp, RDMA_WC_BAD_RESP_ERR, 0);
        return;
    }
    if (!soft_respond_place(qp, wqe->sges, wqe->sge_count, offset, packet->payload, bytes)) {
        soft_request_fail(qp, RDMA_WC_LOC_PROT_ERR, 0);
        return;
    }
    req->una_psn = roce_psn_add(packet->psn, 1);
    if (last) {
        wqe->status = RDMA_WC_SUCCESS;
        req->reads_out--;
        req->una++;
    }
    progressed(qp);
}

void soft_complete_packet(struct soft_qp *qp, const struct soft_packet *packet)
{
    struct soft_requester *req = &qp->req;
    int32_t ahead = roce_psn_diff(packet->psn, req->una_psn);

    if (ahead < 0 || ahead >= roce_psn_diff(req->max_psn, req->una_psn)) {
        return; /* old, or about what was never sent (9.7.5.1.3: ghosts) */
    }
    if ((packet->flags & ROCE_OP_ACK) != 0) {
        acknowledgement(qp, packet);
    } else {
        read_response(qp, packet);
    }
    if (qp->qp.state != RDMA_QP_ERR) {
        soft_complete(qp);
    }
}
