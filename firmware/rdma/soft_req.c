/*
 * The requester: turns work requests into packets, keeps them until they are acknowledged, and goes
 * back when they are not (IBA 9.7.2, 9.7.5.1, 9.7.6). What comes back is read in soft_comp.c.
 *
 * wqes: tail <= una <= next <= head. From una on nothing is acknowledged; next is being sent;
 * packet numbers una_psn <= send_psn <= max_psn. Behind max_psn nothing was ever sent; before it a
 * packet is sent again, and then as a copy: the memory may have changed since the checksum was
 * made.
 */
#include "rdma/soft_packet_priv.h"

#include "hal/clock.h"

/* --- opcodes ---------------------------------------------------------------------------------- */

/* By the work request's opcode: first, middle, last and only packet. */
static const uint8_t opcodes[][4] = {
    [RDMA_WR_SEND] = {ROCE_RC_SEND_FIRST, ROCE_RC_SEND_MIDDLE, ROCE_RC_SEND_LAST,
                      ROCE_RC_SEND_ONLY},
    [RDMA_WR_SEND_WITH_IMM] = {ROCE_RC_SEND_FIRST, ROCE_RC_SEND_MIDDLE, ROCE_RC_SEND_LAST_IMM,
                               ROCE_RC_SEND_ONLY_IMM},
    [RDMA_WR_SEND_WITH_INV] = {ROCE_RC_SEND_FIRST, ROCE_RC_SEND_MIDDLE, ROCE_RC_SEND_LAST_INV,
                               ROCE_RC_SEND_ONLY_INV},
    [RDMA_WR_RDMA_WRITE] = {ROCE_RC_WRITE_FIRST, ROCE_RC_WRITE_MIDDLE, ROCE_RC_WRITE_LAST,
                            ROCE_RC_WRITE_ONLY},
    [RDMA_WR_RDMA_WRITE_WITH_IMM] = {ROCE_RC_WRITE_FIRST, ROCE_RC_WRITE_MIDDLE,
                                     ROCE_RC_WRITE_LAST_IMM, ROCE_RC_WRITE_ONLY_IMM},
    [RDMA_WR_RDMA_READ] = {ROCE_RC_READ_REQUEST, ROCE_RC_READ_REQUEST, ROCE_RC_READ_REQUEST,
                           ROCE_RC_READ_REQUEST},
};

static uint8_t opcode_of(const struct soft_send_wqe *wqe, bool first, bool last)
{
    uint32_t column = first ? (last ? 3 : 0) : (last ? 2 : 1);

    return opcodes[wqe->opcode][column];
}

/* --- begin: a work request has its turn for the first time ------------------------------------ */

/* It cannot be carried out: it fails when those before it have ended. */
static void fail_locally(struct soft_qp *qp, struct soft_send_wqe *wqe, enum rdma_wc_status status)
{
    wqe->status = (uint8_t)status;
    qp->req.has_local_error = true;
    soft_complete(qp);
}

/* Bind and invalidate: no packets. */
static bool begin_local(struct soft_qp *qp, struct soft_send_wqe *wqe)
{
    if (wqe->opcode == RDMA_WR_BIND) {
        struct rdma_key *key = wqe->bind.key;
        if (key->pd != qp->qp.pd || soft_key_cancels(key) != wqe->bind.cancels ||
            soft_key_bind(key, wqe->bind.ref, wqe->remote_addr, wqe->bind.access) != STATUS_OK) {
            fail_locally(qp, wqe, RDMA_WC_MW_BIND_ERR);
            return false;
        }
    } else if (!soft_key_invalidate_value(qp->dev, qp->qp.pd, wqe->imm, &wqe->tx_seq)) {
        fail_locally(qp, wqe, RDMA_WC_LOC_QP_OP_ERR);
        return false;
    }
    wqe->is_begun = true;
    return true;
}

/* A READ when none is allowed fails at once: there is nothing that it could wait for. */
static bool begin_read(struct soft_qp *qp, struct soft_send_wqe *wqe)
{
    if (qp->attr.max_rd_atomic == 0) {
        fail_locally(qp, wqe, RDMA_WC_LOC_QP_OP_ERR);
        return false;
    }
    qp->req.reads_out++;
    return true;
}

/* READs before it, and for an invalidation everything before it, must have ended. */
static bool is_fenced(const struct soft_qp *qp, const struct soft_send_wqe *wqe)
{
    if ((wqe->flags & RDMA_SEND_FENCE) == 0) {
        return false;
    }
    return wqe->opcode == RDMA_WR_LOCAL_INV ? qp->req.una != qp->req.next : qp->req.reads_out > 0;
}

/* A work request that has not begun must wait: for the state, a fence, or the end of a READ. */
static bool is_held(const struct soft_qp *qp, const struct soft_send_wqe *wqe)
{
    return qp->qp.state != RDMA_QP_RTS || is_fenced(qp, wqe) ||
           (wqe->opcode == RDMA_WR_RDMA_READ && qp->attr.max_rd_atomic != 0 &&
            qp->req.reads_out >= qp->attr.max_rd_atomic);
}

/* Gives the work request its packet numbers. False: it must wait, or it failed. */
static bool begin(struct soft_qp *qp, struct soft_send_wqe *wqe)
{
    if (is_held(qp, wqe)) {
        return false;
    }
    if (wqe->is_local) {
        return begin_local(qp, wqe);
    }
    if (wqe->len_bytes > qp->dev->device.attr.msg_bytes_max) {
        fail_locally(qp, wqe, RDMA_WC_LOC_LEN_ERR);
        return false;
    }
    if (wqe->opcode == RDMA_WR_RDMA_READ && !begin_read(qp, wqe)) {
        return false;
    }
    uint32_t packets = soft_packet_count(qp, wqe->len_bytes);
    wqe->first_psn = qp->req.next_psn;
    wqe->last_psn = roce_psn_add(wqe->first_psn, packets - 1);
    qp->req.next_psn = roce_psn_add(wqe->first_psn, packets);
    wqe->is_begun = true;
    return true;
}

/* --- packets ---------------------------------------------------------------------------------- */

static bool is_again(const struct soft_qp *qp)
{
    return roce_psn_diff(qp->req.send_psn, qp->req.max_psn) < 0;
}

/* A packet left: `next_psn` follows it. */
static void sent(struct soft_qp *qp, uint32_t next_psn, bool last)
{
    struct soft_requester *req = &qp->req;

    if (is_again(qp)) {
        qp->stats.retransmits++;
    }
    req->send_psn = next_psn;
    if (roce_psn_diff(next_psn, req->max_psn) > 0) {
        req->max_psn = next_psn;
    }
    if (last) {
        req->next++;
    }
    if (req->rto_ns == 0 && req->rto_duration_ns != 0) {
        req->rto_ns = sched_now_ns() + req->rto_duration_ns;
        soft_timer_update(qp);
    }
}

static void put_reth(struct soft_tx *tx, uint64_t va, uint32_t rkey, uint32_t len_bytes)
{
    struct roce_reth *reth = soft_tx_header(tx, sizeof(*reth));

    reth->va = be64_make(va);
    reth->rkey = be32_make(rkey);
    reth->len_bytes = be32_make(len_bytes);
}

/* Asks for what is missing: from the first response that has not come. */
static bool send_read(struct soft_qp *qp, struct soft_send_wqe *wqe)
{
    uint32_t skip = (uint32_t)roce_psn_diff(qp->req.send_psn, wqe->first_psn) * qp->mtu_bytes;
    struct soft_tx tx;

    if (!soft_tx_begin(&tx, qp, &qp->path, ROCE_RC_READ_REQUEST, qp->req.send_psn)) {
        return false;
    }
    put_reth(&tx, wqe->remote_addr + skip, wqe->rkey, wqe->len_bytes - skip);
    tx.bth->ack_req = ROCE_BTH_ACK_REQ;
    soft_tx_end(&tx);
    soft_rate_sent(qp, tx.frame_bytes);
    qp->req.since_ack_req = 0;
    sent(qp, roce_psn_add(wqe->last_psn, 1), true);
    return true;
}

static bool put_payload(struct soft_tx *tx, struct soft_send_wqe *wqe, uint32_t offset_bytes,
                        uint32_t bytes)
{
    struct soft_qp *qp = tx->qp;

    if ((wqe->flags & RDMA_SEND_INLINE) != 0) {
        soft_tx_copy(tx, wqe->inline_data + offset_bytes, bytes);
        return true;
    }
    if (bytes == 0) {
        return true;
    }
    enum soft_tx_result result =
        soft_tx_payload(tx, wqe->sges, wqe->sge_count, offset_bytes, bytes, 0, is_again(qp));
    if (result == SOFT_TX_REFUSED) {
        fail_locally(qp, wqe, RDMA_WC_LOC_PROT_ERR);
    }
    return result == SOFT_TX_OK;
}

/* SEND or WRITE. */
static bool send_data(struct soft_qp *qp, struct soft_send_wqe *wqe)
{
    struct soft_requester *req = &qp->req;
    uint32_t psn = req->send_psn;
    uint32_t offset = (uint32_t)roce_psn_diff(psn, wqe->first_psn) * qp->mtu_bytes;
    uint32_t bytes = min_u32(wqe->len_bytes - offset, qp->mtu_bytes);
    bool last = psn == wqe->last_psn;
    uint8_t opcode = opcode_of(wqe, psn == wqe->first_psn, last);
    uint32_t flags = soft_op_flags[opcode];
    struct soft_tx tx;

    if (!soft_tx_begin(&tx, qp, &qp->path, opcode, psn)) {
        return false;
    }
    if ((flags & ROCE_OP_RETH) != 0) {
        put_reth(&tx, wqe->remote_addr, wqe->rkey, wqe->len_bytes);
    }
    if ((flags & (ROCE_OP_IMM | ROCE_OP_INV)) != 0) {
        struct roce_imm *imm = soft_tx_header(&tx, sizeof(*imm));
        imm->value = be32_make(wqe->imm);
    }
    bool wants_ack = last || req->since_ack_req + 1 >= SOFT_ACK_EVERY;
    tx.bth->ack_req = wants_ack ? ROCE_BTH_ACK_REQ : 0;
    if (last && (wqe->flags & RDMA_SEND_SOLICITED) != 0) {
        tx.bth->flags |= ROCE_BTH_SOLICITED;
    }
    if (!put_payload(&tx, wqe, offset, bytes)) {
        return false;
    }
    uint64_t seq = soft_tx_end(&tx);
    soft_rate_sent(qp, tx.frame_bytes);
    req->since_ack_req = wants_ack ? 0 : req->since_ack_req + 1;
    if (tx.points_out) {
        wqe->tx_seq = seq;
    }
    sent(qp, roce_psn_add(psn, 1), last);
    return true;
}

/* --- turn ------------------------------------------------------------------------------------- */

/* While there is no way to the peer the clock of the oldest request runs all the same. */
static bool path_is_ready(struct soft_qp *qp)
{
    if (LIKELY(qp->path.state == NET_PATH_READY)) {
        return true;
    }
    if (qp->req.rto_duration_ns == 0) {
        if (qp->path.state == NET_PATH_FAILED) {
            (void)soft_path_reopen(qp); /* no time-out will: net's own sets the pace */
        }
    } else if (qp->req.rto_ns == 0) {
        qp->req.rto_ns = sched_now_ns() + qp->req.rto_duration_ns;
        soft_timer_update(qp);
    }
    return false;
}

static bool window_is_open(struct soft_qp *qp)
{
    struct soft_requester *req = &qp->req;
    bool full = roce_psn_diff(req->send_psn, req->una_psn) >= RDMA_SOFT_WINDOW_PACKETS;

    if (full && !req->window_is_full) {
        qp->stats.window_full++;
    }
    req->window_is_full = full;
    return !full;
}

/* Something is posted, and nothing of its own holds the queue back. */
static bool has_turn(const struct soft_qp *qp)
{
    const struct soft_requester *req = &qp->req;

    return req->next != req->head && !req->is_paused && !req->has_local_error &&
           (qp->qp.state == RDMA_QP_RTS || qp->qp.state == RDMA_QP_SQD);
}

static bool may_send(struct soft_qp *qp)
{
    return has_turn(qp) && path_is_ready(qp) && window_is_open(qp) && soft_rate_allows(qp);
}

/* In SQD, when all that had begun is acknowledged (IBA 10.3.1, SQ drained). */
static void tell_when_drained(struct soft_qp *qp)
{
    struct soft_requester *req = &qp->req;

    if (req->una == req->next && !req->is_drained &&
        (req->next == req->head || !soft_wqe(qp, req->next)->is_begun)) {
        req->is_drained = true;
        soft_event_raise(qp->dev, &qp->event, RDMA_EVENT_SQ_DRAINED);
    }
}

uint32_t soft_request(struct soft_qp *qp, uint32_t budget)
{
    struct soft_requester *req = &qp->req;
    uint32_t count = 0;
    bool was_local = false;

    while (count < budget && may_send(qp)) {
        struct soft_send_wqe *wqe = soft_wqe(qp, req->next);
        if (!wqe->is_begun && !begin(qp, wqe)) {
            break;
        }
        if (wqe->is_local) {
            was_local = true;
            req->next++;
            continue;
        }
        if (!(wqe->opcode == RDMA_WR_RDMA_READ ? send_read(qp, wqe) : send_data(qp, wqe))) {
            break;
        }
        count++;
    }
    if (was_local) {
        soft_complete(qp);
    }
    if (UNLIKELY(qp->qp.state == RDMA_QP_SQD)) {
        tell_when_drained(qp);
    }
    return count;
}

/* What may_send() and begin() would say, without their effects. */
bool soft_request_waits(const struct soft_qp *qp)
{
    const struct soft_requester *req = &qp->req;

    if (!has_turn(qp) || qp->path.state != NET_PATH_READY || req->window_is_full ||
        qp->rate_waits) {
        return false;
    }
    const struct soft_send_wqe *wqe = &req->wqes[req->next & req->mask];
    return wqe->is_begun || !is_held(qp, wqe);
}

/* --- when it goes wrong ----------------------------------------------------------------------- */

void soft_request_again(struct soft_qp *qp)
{
    soft_forget_local_error(qp); /* it fails anew when it has its turn again */
    qp->req.send_psn = qp->req.una_psn;
    qp->req.next = qp->req.una;
    qp->req.since_ack_req = 0;
    qp->req.window_is_full = false;
    soft_qp_activate(qp);
}

void soft_request_fail(struct soft_qp *qp, enum rdma_wc_status status, uint8_t vendor_err)
{
    struct soft_send_wqe *wqe = soft_wqe(qp, qp->req.una);

    wqe->status = (uint8_t)status;
    wqe->vendor_err = vendor_err;
    soft_qp_error(qp);
}

/* No acknowledgement in time (9.7.6.1.3). */
static void timed_out(struct soft_qp *qp)
{
    struct soft_requester *req = &qp->req;
    bool has_path = qp->path.state == NET_PATH_READY;

    req->rto_ns = 0;
    if (req->una == req->head || (has_path && req->una_psn == req->max_psn)) {
        return; /* nothing is under way */
    }
    qp->stats.timeouts++;
    if (req->retries_left == 0) {
        soft_request_fail(qp, RDMA_WC_RETRY_EXC_ERR, 0);
        return;
    }
    req->retries_left--;
    req->rto_ns = sched_now_ns() + req->rto_duration_ns;
    req->went_back = false; /* a gap may be told again */
    if ((qp->path.state == NET_PATH_FAILED || qp->path.state == NET_PATH_CLOSED) &&
        !soft_path_reopen(qp)) {
        soft_request_fail(qp, RDMA_WC_RETRY_EXC_ERR, 0);
        return;
    }
    soft_request_again(qp);
}

void soft_timer_fired(struct timer *timer)
{
    struct soft_qp *qp = CONTAINER_OF(timer, struct soft_qp, timer);
    struct soft_requester *req = &qp->req;
    uint64_t now_ns = sched_now_ns();

    if (qp->qp.state != RDMA_QP_RTS && qp->qp.state != RDMA_QP_SQD && qp->qp.state != RDMA_QP_RTR) {
        return;
    }
    if (req->is_paused && now_ns >= req->rnr_until_ns) {
        req->is_paused = false;
        soft_qp_activate(qp);
    }
    if (qp->rate_waits && now_ns >= qp->rate.next_tx_ns) {
        qp->rate_waits = false;
        soft_qp_activate(qp);
    }
    if (req->rto_ns != 0 && now_ns >= req->rto_ns) {
        timed_out(qp);
    }
    soft_timer_update(qp);
}

/* The earliest deadline. One that has moved on is found out when the timer fires. */
void soft_timer_update(struct soft_qp *qp)
{
    const struct soft_requester *req = &qp->req;
    uint64_t first_ns = req->rto_ns != 0 ? req->rto_ns : UINT64_MAX;

    if (qp->qp.state == RDMA_QP_ERR || qp->qp.state == RDMA_QP_RESET) {
        return;
    }
    if (req->is_paused) {
        first_ns = min_u64(first_ns, req->rnr_until_ns);
    }
    if (qp->rate_waits) {
        first_ns = min_u64(first_ns, qp->rate.next_tx_ns);
    }
    if (first_ns != UINT64_MAX &&
        (!timer_is_armed(&qp->timer) || first_ns < qp->timer.deadline_ns)) {
        timer_arm(&qp->timer, first_ns);
    }
}
