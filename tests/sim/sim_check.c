/*
 * Completions of the simulation against what must come: each work request once, in order, with a
 * status that the faults allow, its data where they belong.
 */
#include "tests/sim/sim.h"

#include <string.h>
#include "base/bits.h"
#include "base/counter.h"

static uint32_t bit(enum rdma_wc_status status)
{
    return 1u << status;
}

/* --- buffers come back ------------------------------------------------------------------------ */

static void linger(const struct sim_buf *buf, struct sim_qp *qp, const struct sim_wr *wr,
                   bool is_target)
{
    SIM_CHECK(sim.linger_count < SIM_LINGERS, "the simulation is too small: lingers");
    sim.lingers[sim.linger_count++] = (struct sim_linger){
        .buf = *buf, .qp = qp, .pattern = wr->pattern, .other = wr->other, .is_target = is_target};
}

static void linger_end(uint32_t index)
{
    struct sim_linger *l = &sim.lingers[index];

    if (l->is_target) {
        sim_settle(&l->buf, 1, l->pattern, l->other, "memory that a failed request named");
    }
    sim_buf_put(&l->buf);
    sim.lingers[index] = sim.lingers[--sim.linger_count];
}

/* Keys that were invalidated are quiet by and by; what hangs on a queue pair waits for its end. */
static void lingers_look(const struct sim_qp *gone)
{
    for (uint32_t i = sim.linger_count; i-- > 0;) {
        const struct sim_linger *l = &sim.lingers[i];
        if (l->buf.key != NULL ? rdma_key_is_quiet(l->buf.key->key) : l->qp == gone) {
            linger_end(i);
        }
    }
}

/* What the peer named at our node, `owner` ours: the peer says that it is done, or gave up. */
static void remote_release(struct sim_wr *wr, struct sim_qp *owner, bool succeeded)
{
    struct sim_buf *buf = &wr->remote;
    bool is_target = sim_wr_is_write(wr);

    if (buf->node == NULL) {
        return;
    }
    if (buf->key != NULL) {
        rdma_key_invalidate(buf->key->key);
        wr->recv_allowed |= wr->opcode == RDMA_WR_SEND_WITH_INV ? bit(RDMA_WC_LOC_ACCESS_ERR) : 0;
        linger(buf, NULL, wr, is_target && !succeeded);
    } else if ((is_target && succeeded) || owner->qp == NULL) {
        if (is_target && !succeeded) {
            sim_settle(buf, 1, wr->pattern, wr->other, "memory that a failed request named");
        }
        sim_buf_put(buf);
    } else {
        linger(buf, owner, wr, is_target && !succeeded);
    }
    buf->node = NULL;
}

void sim_remote_revoke(struct sim_wr *wr)
{
    bool is_target = sim_wr_is_write(wr);

    rdma_key_invalidate(wr->remote.key->key);
    linger(&wr->remote, NULL, wr, is_target);
    wr->remote.node = NULL;
    wr->allowed |= 1u << RDMA_WC_REM_ACCESS_ERR;
    if (wr->opcode == RDMA_WR_SEND_WITH_INV) {
        wr->recv_allowed |= 1u << RDMA_WC_LOC_ACCESS_ERR;
    }
}

static void local_release(struct sim_buf *bufs, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (bufs[i].key != NULL) {
            rdma_key_invalidate(bufs[i].key->key);
            SIM_CHECK(rdma_key_is_quiet(bufs[i].key->key),
                      "node %u: a work request has ended, and its key is not quiet",
                      bufs[i].node->index);
        }
        sim_buf_put(&bufs[i]);
    }
}

/* --- the end of a work request ---------------------------------------------------------------- */

static void landed(struct sim_wr *wr)
{
    if (sim_wr_is_write(wr) && !wr->is_landed && wr->remote.node != NULL) {
        sim_expect(&wr->remote, 1, wr->pattern, wr->other, wr->len_bytes, "data written");
        wr->is_landed = true;
    }
}

static void wr_end(struct sim_qp *qp, struct sim_wr *wr, uint8_t status)
{
    bool succeeded = status == RDMA_WC_SUCCESS;

    SIM_CHECK(!succeeded || !wr->must_fail,
              "%s: work request %llu (opcode %u) must fail, but did not", sim_qp_name(qp),
              (unsigned long long)wr->id, wr->opcode);
    wr->is_done = true;
    wr->status = status;
    sim.progress_ns = clock_now_ns();
    if (succeeded) {
        landed(wr);
    }
    if (wr->opcode == RDMA_WR_RDMA_READ) {
        if (succeeded) {
            sim_expect(wr->local, wr->local_count, wr->pattern, wr->other, wr->len_bytes,
                       "data read");
        } else {
            sim_settle(wr->local, wr->local_count, wr->pattern, wr->other, "data of a failed READ");
        }
    }
    if (succeeded && wr->opcode == RDMA_WR_LOCAL_INV) {
        SIM_CHECK(!wr->local[0].key->key->is_bound, "%s: a key is bound after LOCAL_INV",
                  sim_qp_name(qp));
    }
    if (wr->keeps_local) {
        wr->local_count = 0;
    }
    if (succeeded && wr->local_count == 1 && wr->local[0].is_prepared && sim_chance(60) &&
        wr->opcode != RDMA_WR_LOCAL_INV && qp->to_invalidate.node == NULL &&
        qp->wr_count < qp->wr_target && !qp->is_dying) {
        qp->to_invalidate = wr->local[0];
        wr->local_count = 0;
    }
    local_release(wr->local, wr->local_count);
    wr->local_count = 0;
    if (wr->opcode != RDMA_WR_SEND_WITH_INV || wr->is_received || !succeeded) {
        remote_release(wr, qp->peer, succeeded || wr->is_landed);
    }
}

/* --- send completions ------------------------------------------------------------------------- */

void sim_doom(struct sim_pair *pair, enum sim_doom why)
{
    if (pair->doom == 0) {
        for (uint32_t side = 0; side < 2; side++) {
            struct sim_qp *qp = &pair->qps[side];
            for (uint32_t i = 0; i < qp->wr_count; i++) {
                qp->peer->rq->wanted -= qp->wrs[i].takes_recv && !qp->wrs[i].is_received;
            }
        }
    }
    pair->doom |= 1u << why;
}

/* Statuses that the work request at hand may have. */
static uint32_t allowed_of(const struct sim_qp *qp, const struct sim_wr *wr)
{
    const struct sim_pair *pair = qp->pair;
    bool is_heavy = sim.plan.class == SIM_HEAVY;
    uint32_t may_fail = is_heavy ? bit(RDMA_WC_RETRY_EXC_ERR) : 0;
    bool is_exact = sim.plan.class == SIM_CLEAN && !sim.was_disturbed && qp->has_poison &&
                    pair->doom == 1u << SIM_DOOM_POISON && !qp->peer->has_poison;

    if (qp->has_failed) {
        return bit(RDMA_WC_WR_FLUSH_ERR);
    }
    if (is_heavy && qp->attr.rnr_retry != 7) {
        may_fail |= bit(RDMA_WC_RNR_RETRY_EXC_ERR);
    }
    if (pair->doom != 0 && !is_exact) {
        may_fail |= bit(RDMA_WC_WR_FLUSH_ERR) | bit(RDMA_WC_RETRY_EXC_ERR) | pair->allowed;
    }
    return may_fail | wr->allowed | (wr->must_fail ? 0 : bit(RDMA_WC_SUCCESS));
}

static void status_check(struct sim_qp *qp, const struct sim_wr *wr, const struct rdma_wc *wc)
{
    SIM_CHECK((allowed_of(qp, wr) >> wc->status & 1) != 0,
              "%s: work request %llu (opcode %u) ended with %s", sim_qp_name(qp),
              (unsigned long long)wr->id, wr->opcode,
              rdma_wc_status_text((enum rdma_wc_status)wc->status));
}

static uint8_t wc_opcode_of(uint8_t opcode)
{
    switch (opcode) {
    case RDMA_WR_RDMA_WRITE:
    case RDMA_WR_RDMA_WRITE_WITH_IMM:
        return RDMA_WC_RDMA_WRITE;
    case RDMA_WR_RDMA_READ:
        return RDMA_WC_RDMA_READ;
    case RDMA_WR_LOCAL_INV:
        return RDMA_WC_LOCAL_INV;
    case RDMA_WR_BIND:
        return RDMA_WC_BIND;
    default:
        return RDMA_WC_SEND;
    }
}

/* Those before it that are not signalled have ended well, or they would have been told. */
static void send_wc(struct sim_qp *qp, const struct rdma_wc *wc)
{
    while (qp->wr_done < qp->wr_count && qp->wrs[qp->wr_done].id != wc->wr_id) {
        struct sim_wr *wr = &qp->wrs[qp->wr_done];
        SIM_CHECK((wr->flags & RDMA_SEND_SIGNALED) == 0 && !qp->has_failed,
                  "%s: work request %llu has no completion, but a later one has", sim_qp_name(qp),
                  (unsigned long long)wr->id);
        wr_end(qp, wr, RDMA_WC_SUCCESS);
        qp->wr_done++;
    }
    SIM_CHECK(qp->wr_done < qp->wr_count, "%s: a completion of %llu, which is none or had one",
              sim_qp_name(qp), (unsigned long long)wc->wr_id);
    struct sim_wr *wr = &qp->wrs[qp->wr_done++];
    sim_trace("%s: %llu has ended: %s", sim_qp_name(qp), (unsigned long long)wr->id,
              rdma_wc_status_text((enum rdma_wc_status)wc->status));
    status_check(qp, wr, wc);
    if (wc->status == RDMA_WC_SUCCESS) {
        SIM_CHECK((wr->flags & RDMA_SEND_SIGNALED) != 0, "%s: %llu is not signalled, but told",
                  sim_qp_name(qp), (unsigned long long)wr->id);
        SIM_CHECK(wc->opcode == wc_opcode_of(wr->opcode), "%s: %llu: opcode %u in its completion",
                  sim_qp_name(qp), (unsigned long long)wr->id, wc->opcode);
        SIM_CHECK(wr->opcode != RDMA_WR_RDMA_READ || wc->len_bytes == wr->len_bytes,
                  "%s: %llu: %u bytes were read", sim_qp_name(qp), (unsigned long long)wr->id,
                  wc->len_bytes);
    } else if (!qp->has_failed) {
        qp->has_failed = true;
        sim_doom(qp->pair, SIM_DOOM_RETRY);
    }
    wr_end(qp, wr, wc->status);
}

/* --- receive completions ---------------------------------------------------------------------- */

static struct sim_recv *recv_find(struct sim_qp *qp, uint64_t id)
{
    struct sim_recv_queue *rq = qp->rq;

    if (rq->srq == NULL) {
        SIM_CHECK(rq->done < rq->count && rq->recvs[rq->done].id == id,
                  "%s: receive %llu has ended out of order", sim_qp_name(qp),
                  (unsigned long long)id);
        return &rq->recvs[rq->done++];
    }
    for (uint32_t i = 0; i < rq->count; i++) {
        if (rq->recvs[i].id == id && !rq->recvs[i].is_done) {
            return &rq->recvs[i];
        }
    }
    sim_fail("%s: a completion of receive %llu, which is none or had one", sim_qp_name(qp),
             (unsigned long long)id);
}

/* The peer's next message that takes a receive; NULL: it has posted none. */
static struct sim_wr *message_next(struct sim_qp *qp)
{
    struct sim_qp *peer = qp->peer;

    while (qp->recv_seen < peer->wr_count && !peer->wrs[qp->recv_seen].takes_recv) {
        qp->recv_seen++;
    }
    return qp->recv_seen < peer->wr_count ? &peer->wrs[qp->recv_seen] : NULL;
}

static void message_check(struct sim_qp *qp, const struct sim_recv *recv, const struct sim_wr *wr,
                          const struct rdma_wc *wc)
{
    bool is_write = wr->opcode == RDMA_WR_RDMA_WRITE_WITH_IMM;
    bool has_imm = is_write || wr->opcode == RDMA_WR_SEND_WITH_IMM;
    bool has_inv = wr->opcode == RDMA_WR_SEND_WITH_INV;
    uint8_t flags = (uint8_t)((has_imm ? RDMA_WC_WITH_IMM : 0) | (has_inv ? RDMA_WC_WITH_INV : 0));

    SIM_CHECK(wc->opcode == (is_write ? RDMA_WC_RECV_RDMA_WITH_IMM : RDMA_WC_RECV) &&
                  wc->flags == flags && wc->len_bytes == wr->len_bytes &&
                  (flags == 0 || wc->imm == wr->imm),
              "%s: message %llu (opcode %u, %u bytes, imm %08x) arrived as opcode %u, flags %x, "
              "%u bytes, imm %08x",
              sim_qp_name(qp), (unsigned long long)wr->id, wr->opcode, wr->len_bytes, wr->imm,
              wc->opcode, wc->flags, wc->len_bytes, wc->imm);
    if (has_inv) {
        SIM_CHECK(wr->remote.node == NULL || !wr->remote.key->key->is_bound,
                  "%s: message %llu did not invalidate its key", sim_qp_name(qp),
                  (unsigned long long)wr->id);
    }
    if (!is_write) {
        sim_expect(recv->bufs, recv->buf_count, wr->pattern, wr->other, wr->len_bytes,
                   "a message received");
    }
}

static void recv_failed(struct sim_qp *qp, const struct sim_recv *recv, const struct sim_wr *wr,
                        const struct rdma_wc *wc)
{
    uint32_t allowed = bit(RDMA_WC_WR_FLUSH_ERR);

    if (sim.plan.class == SIM_HEAVY && qp->pair->doom == 0) {
        sim_doom(qp->pair, SIM_DOOM_RETRY); /* told by the receives first */
    }
    if (wr != NULL) {
        allowed |= wr->recv_allowed;
    }
    if ((qp->pair->doom & 1u << SIM_DOOM_WINDOW) != 0) {
        allowed |= bit(RDMA_WC_LOC_PROT_ERR);
    }
    SIM_CHECK((allowed >> wc->status & 1) != 0 && qp->pair->doom != 0,
              "%s: receive %llu ended with %s", sim_qp_name(qp), (unsigned long long)recv->id,
              rdma_wc_status_text((enum rdma_wc_status)wc->status));
}

static void recv_wc(struct sim_qp *qp, const struct rdma_wc *wc)
{
    struct sim_recv *recv = recv_find(qp, wc->wr_id);
    struct sim_wr *wr = message_next(qp);

    recv->is_done = true;
    qp->rq->posted--;
    sim.progress_ns = clock_now_ns();
    sim_trace("%s: receive %llu has ended: %s", sim_qp_name(qp), (unsigned long long)recv->id,
              rdma_wc_status_text((enum rdma_wc_status)wc->status));
    if (wc->status == RDMA_WC_SUCCESS) {
        SIM_CHECK(wr != NULL, "%s: a message came that was not sent", sim_qp_name(qp));
        message_check(qp, recv, wr, wc);
        wr->is_received = true;
        qp->rq->wanted -= qp->pair->doom == 0;
        for (uint32_t i = 0; i <= qp->recv_seen; i++) { /* what was sent before has arrived */
            landed(&qp->peer->wrs[i]);
        }
        qp->recv_seen++;
        if (wr->is_done && wr->opcode == RDMA_WR_SEND_WITH_INV) {
            remote_release(wr, qp, true);
        }
    } else {
        recv_failed(qp, recv, wr, wc);
    }
    uint64_t pattern = wr != NULL ? wr->pattern : 0;
    sim_settle(recv->bufs, recv->buf_count, pattern, wr != NULL ? wr->other : 0,
               "a receive that has ended");
    local_release(recv->bufs, recv->buf_count);
    recv->buf_count = 0;
}

/* Those at the end that are not signalled: the queue is empty, so they have ended well. */
void sim_silent_ends(struct sim_qp *qp)
{
    struct rdma_qp_info info;

    for (uint32_t i = qp->wr_done; i < qp->wr_count; i++) {
        if ((qp->wrs[i].flags & RDMA_SEND_SIGNALED) != 0) {
            return;
        }
    }
    rdma_qp_query(qp->qp, &info);
    for (; info.send_posted == 0 && qp->wr_done < qp->wr_count; qp->wr_done++) {
        wr_end(qp, &qp->wrs[qp->wr_done], RDMA_WC_SUCCESS);
    }
}

void sim_poll(uint32_t max)
{
    for (uint32_t i = 0; i < sim.plan.node_count; i++) {
        struct sim_node *node = &sim.nodes[i];
        for (uint32_t n = 0; n < 2; n++) {
            struct rdma_wc wcs[16];
            uint32_t count = rdma_cq_poll(node->cqs[n], wcs, min_u32(max, ARRAY_SIZE(wcs)));
            for (uint32_t k = 0; k < count; k++) {
                struct sim_qp *qp = wcs[k].qp->ctx;
                SIM_CHECK(qp->node == node && !qp->is_dying,
                          "%s: a completion at node %u, or after its destruction", sim_qp_name(qp),
                          node->index);
                if (wcs[k].opcode >= RDMA_WC_RECV) {
                    recv_wc(qp, &wcs[k]);
                } else {
                    send_wc(qp, &wcs[k]);
                }
            }
        }
    }
    for (uint32_t i = 0; i < 2 * sim.plan.pair_count; i++) {
        struct sim_qp *qp = &sim.pairs[i / 2].qps[i % 2];
        if (qp->qp != NULL && !qp->is_dying && !qp->has_failed && qp->qp->state == RDMA_QP_RTS) {
            sim_silent_ends(qp);
        }
    }
    lingers_look(NULL);
}

/* --- without completions ---------------------------------------------------------------------- */

/* Messages that had arrived, or had begun to, lie in the next receives. */
static void recvs_gone(struct sim_qp *qp)
{
    for (uint32_t i = qp->own_rq.done; i < qp->own_rq.count; i++) {
        struct sim_recv *recv = &qp->own_rq.recvs[i];
        const struct sim_wr *wr = message_next(qp);
        bool has_data = wr != NULL && sim_wr_is_send(wr);
        sim_settle(recv->bufs, recv->buf_count, has_data ? wr->pattern : 0,
                   has_data ? wr->other : 0, "a receive of a destroyed queue pair");
        local_release(recv->bufs, recv->buf_count);
        recv->buf_count = 0;
        recv->is_done = true;
        qp->recv_seen += wr != NULL;
    }
    qp->own_rq.done = qp->own_rq.count;
}

/* The shared receives that it had taken are lost; nobody knows which. */
static void shared_recvs_gone(struct sim_qp *qp)
{
    const struct sim_wr *wr;

    for (; (wr = message_next(qp)) != NULL; qp->recv_seen++) {
        for (uint32_t i = 0; sim_wr_is_send(wr) && i < qp->rq->count; i++) {
            struct sim_recv *recv = &qp->rq->recvs[i];
            if (!recv->is_done) {
                sim_absorb(recv->bufs, recv->buf_count, wr->pattern, wr->other);
            }
        }
    }
}

void sim_qp_gone(struct sim_qp *qp)
{
    for (; qp->wr_done < qp->wr_count; qp->wr_done++) {
        wr_end(qp, &qp->wrs[qp->wr_done], RDMA_WC_WR_FLUSH_ERR);
    }
    if (qp->to_invalidate.node != NULL) {
        local_release(&qp->to_invalidate, 1);
    }
    if (qp->rq->srq == NULL) {
        recvs_gone(qp);
    } else {
        shared_recvs_gone(qp);
    }
    lingers_look(qp);
}

/* --- windows, counts -------------------------------------------------------------------------- */

static void freeze(struct sim_buf *bufs, uint32_t count, const struct sim_node *node,
                   const struct pcie_ep_window *window, const struct sim_wr *wr)
{
    for (uint32_t i = 0; i < count; i++) {
        if (bufs[i].node == node && sim_buf_in_window(&bufs[i], window)) {
            bufs[i].is_frozen = true;
            sim_absorb(bufs, count, wr->pattern, wr->other);
        }
    }
}

static void freeze_recvs(struct sim_recv_queue *rq, const struct pcie_ep_window *window,
                         const struct sim_wr *wr)
{
    for (uint32_t i = 0; i < rq->count; i++) {
        if (!rq->recvs[i].is_done) {
            freeze(rq->recvs[i].bufs, rq->recvs[i].buf_count, rq->node, window, wr);
        }
    }
}

/* Receives are looked at against each message that may lie there. */
void sim_window_freeze(struct sim_node *node, const struct pcie_ep_window *window)
{
    for (uint32_t n = 0; n < 2 * sim.plan.pair_count; n++) {
        struct sim_qp *qp = &sim.pairs[n / 2].qps[n % 2];
        if (qp->qp == NULL) {
            continue;
        }
        for (uint32_t i = 0; i < qp->wr_count; i++) {
            struct sim_wr *wr = &qp->wrs[i];
            freeze(wr->local, wr->local_count, node, window, wr);
            freeze(&wr->remote, 1, node, window, wr);
            if (wr->takes_recv && !wr->is_received && qp->peer->node == node) {
                freeze_recvs(qp->peer->rq, window, wr);
            }
        }
    }
}

void sim_stats_check(const struct sim_qp *qp)
{
    struct rdma_qp_info info;

    rdma_qp_query(qp->qp, &info);
    const struct rdma_qp_stats *stats = &info.stats;
    if (sim.plan.class == SIM_CLEAN && !sim.was_disturbed &&
        (qp->pair->doom & ~(1u << SIM_DOOM_END)) == 0 && stats->rnr_rx + stats->rnr_tx == 0) {
        SIM_CHECK(stats->retransmits + stats->timeouts + stats->nak_seq_rx + stats->nak_seq_tx +
                          stats->duplicates + stats->out_of_order ==
                      0,
                  "%s: the wire is clean, but %llu retransmits, %llu timeouts, %llu and %llu NAKs, "
                  "%llu duplicates, %llu out of order",
                  sim_qp_name(qp), (unsigned long long)stats->retransmits,
                  (unsigned long long)stats->timeouts, (unsigned long long)stats->nak_seq_rx,
                  (unsigned long long)stats->nak_seq_tx, (unsigned long long)stats->duplicates,
                  (unsigned long long)stats->out_of_order);
    }
}
