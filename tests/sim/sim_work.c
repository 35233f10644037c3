/*
 * Work requests and receives of the simulation: drawn, posted, and noted.
 */
#include "tests/sim/sim.h"

#include <string.h>
#include "base/bits.h"

#define CHAIN_MAX 4

/* --- lengths ---------------------------------------------------------------------------------- */

static uint32_t draw_len(const struct sim_qp *qp, uint32_t max_bytes)
{
    uint32_t mtu = qp->pair->mtu_bytes;
    uint64_t draw = sim_below(100);
    uint64_t len;

    if (draw < 5) {
        len = 0;
    } else if (draw < 30) {
        len = sim_range(1, 64);
    } else if (draw < 70) { /* near a border of packets */
        len = mtu * sim_range(1, sim_chance(80) ? 4 : 64) + sim_range(0, 4) - 2;
    } else {
        len = sim_below(max_bytes + 1u);
    }
    len = min_u64(min_u64(len, max_bytes), sim.plan.packets_left * mtu);
    return min_u32((uint32_t)len, sim.plan.bytes_left);
}

static enum sim_kind draw_kind(void)
{
    uint64_t draw = sim_below(100);

    return draw < 50 ? SIM_NIC : draw < 80 ? SIM_HOST : SIM_KEY;
}

/* --- memory of a work request ----------------------------------------------------------------- */

static void bufs_put(struct sim_buf *bufs, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (bufs[i].node != NULL && bufs[i].key != NULL) {
            rdma_key_invalidate(bufs[i].key->key);
        }
        if (bufs[i].node != NULL) {
            sim_buf_put(&bufs[i]);
        }
    }
}

/* `len_bytes` in at most SIM_SGES pieces; returns their count, or UINT32_MAX: no memory. */
static uint32_t local_get(struct sim_node *node, struct sim_buf *bufs, uint32_t len_bytes,
                          uint32_t access, bool is_inline)
{
    uint32_t count = sim_chance(60) ? 1 : (uint32_t)sim_range(1, SIM_SGES);
    uint32_t left = len_bytes;

    if (len_bytes == 0 && sim_chance(50)) {
        return 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t bytes = i == count - 1 ? left : (uint32_t)sim_below(left + 1u);
        if (!sim_buf_get(node, &bufs[i], is_inline ? SIM_NIC : draw_kind(), bytes, access)) {
            bufs_put(bufs, i);
            return UINT32_MAX;
        }
        left -= bytes;
    }
    return count;
}

static void sges_make(struct rdma_sge *sges, const struct sim_buf *bufs, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        sges[i] = (struct rdma_sge){
            .addr = bufs[i].addr, .len_bytes = bufs[i].len_bytes, .lkey = bufs[i].value};
        if (bufs[i].len_bytes == 0 && sim_chance(50)) {
            sges[i].lkey = (uint32_t)sim_random(); /* of no meaning */
        }
    }
}

/* --- receives --------------------------------------------------------------------------------- */

void sim_recvs_post(struct sim_recv_queue *rq, uint32_t count)
{
    uint32_t most = sim.plan.arena_bytes / 8 / (rq->buf_bytes + 1) + 1;

    for (; count > 0 && rq->count < SIM_RECVS && rq->posted < rq->ring && rq->posted < most;
         count--) {
        struct sim_recv *recv = &rq->recvs[rq->count];
        struct rdma_sge sges[SIM_SGES];
        struct rdma_recv_wr wr = {.wr_id = sim.next_id, .sges = sges};
        recv->buf_count =
            local_get(rq->node, recv->bufs, rq->buf_bytes, RDMA_ACCESS_LOCAL_WRITE, false);
        if (recv->buf_count == UINT32_MAX) {
            return;
        }
        recv->id = sim.next_id++;
        recv->len_bytes = rq->buf_bytes;
        sges_make(sges, recv->bufs, recv->buf_count);
        wr.sge_count = (uint8_t)recv->buf_count;
        enum status status = rq->srq != NULL ? rdma_srq_post(rq->srq, &wr, NULL)
                                             : rdma_post_recv(rq->qp->qp, &wr, NULL);
        SIM_CHECK(status == STATUS_OK, "node %u: a receive was refused: %s, %u of %u are posted",
                  rq->node->index, status_text(status), rq->posted, rq->ring);
        rq->count++;
        rq->posted++;
    }
}

/* --- one work request ------------------------------------------------------------------------- */

static uint8_t draw_opcode(void)
{
    static const uint8_t opcodes[] = {
        RDMA_WR_SEND,       RDMA_WR_SEND,       RDMA_WR_SEND_WITH_IMM,
        RDMA_WR_RDMA_WRITE, RDMA_WR_RDMA_WRITE, RDMA_WR_RDMA_WRITE_WITH_IMM,
        RDMA_WR_RDMA_READ,  RDMA_WR_RDMA_READ,  RDMA_WR_SEND_WITH_INV,
    };
    return opcodes[sim_below(ARRAY_SIZE(opcodes))];
}

static bool takes_recv(const struct sim_wr *wr)
{
    return sim_wr_is_send(wr) || wr->opcode == RDMA_WR_RDMA_WRITE_WITH_IMM;
}

/* There is a receive for it, or it may come later. */
static bool has_recv(const struct sim_qp *qp)
{
    const struct sim_recv_queue *rq = qp->peer->rq;
    uint32_t early = qp->peer->late_recvs ? 8 : 0;

    return rq->count < SIM_RECVS && rq->wanted < rq->posted + early;
}

static bool remote_get(struct sim_qp *qp, struct sim_wr *wr)
{
    struct sim_node *node = qp->peer->node;

    if (wr->opcode == RDMA_WR_SEND_WITH_INV) {
        if (!sim_buf_get(node, &wr->remote, SIM_KEY, (uint32_t)sim_range(1, 100),
                         RDMA_ACCESS_REMOTE_READ)) {
            return false;
        }
        wr->imm = wr->remote.value;
        if (wr->remote.key == NULL) { /* there was none */
            bufs_put(&wr->remote, 1);
            return false;
        }
    } else if (!sim_wr_is_send(wr)) {
        uint32_t access = wr->opcode == RDMA_WR_RDMA_READ
                              ? RDMA_ACCESS_REMOTE_READ
                              : RDMA_ACCESS_REMOTE_WRITE | RDMA_ACCESS_LOCAL_WRITE;
        return sim_buf_get(node, &wr->remote, draw_kind(), wr->len_bytes, access);
    }
    return true;
}

/* --- those that must fail --------------------------------------------------------------------- */

static bool poison_remote(struct sim_wr *wr)
{
    if (wr->remote.node == NULL || (!sim_wr_is_send(wr) && wr->len_bytes == 0)) {
        return false;
    }
    wr->allowed = 1u << RDMA_WC_REM_ACCESS_ERR;
    wr->remote.is_frozen = true;
    if (sim_wr_is_send(wr)) {
        wr->imm ^= 0x10000; /* a key that is none */
        wr->recv_allowed |= 1u << RDMA_WC_LOC_ACCESS_ERR;
    } else if (wr->remote.key != NULL && sim_chance(50)) {
        wr->remote.addr++;
    } else {
        wr->remote.value ^= 0x10000;
    }
    return true;
}

static bool poison_local(struct sim_wr *wr)
{
    uint32_t index = (uint32_t)sim_below(wr->local_count);

    if ((wr->flags & RDMA_SEND_INLINE) != 0 || wr->local_count == 0 ||
        wr->local[index].len_bytes == 0) {
        return false;
    }
    wr->allowed = 1u << RDMA_WC_LOC_PROT_ERR;
    wr->local[index].value ^= 0x10000;
    return true;
}

static void poison(struct sim_qp *qp, struct sim_wr *wr)
{
    if (wr->len_bytes > qp->peer->rq->buf_bytes && sim_wr_is_send(wr)) {
        wr->allowed = 1u << RDMA_WC_REM_INV_REQ_ERR;
        wr->recv_allowed |= 1u << RDMA_WC_LOC_LEN_ERR;
        wr->must_fail = true;
    } else {
        wr->must_fail = sim_chance(50) ? poison_remote(wr) : poison_local(wr);
    }
}

/* --- draw ------------------------------------------------------------------------------------- */

/* Draws a work request; false: it cannot be now. */
static bool wr_draw(struct sim_qp *qp, struct sim_wr *wr, bool is_poison)
{
    bool is_read;

    memset(wr, 0, sizeof(*wr));
    wr->opcode = draw_opcode();
    is_read = wr->opcode == RDMA_WR_RDMA_READ;
    wr->takes_recv = takes_recv(wr);
    if (wr->takes_recv && !has_recv(qp)) {
        return false;
    }
    wr->len_bytes =
        draw_len(qp, sim_wr_is_send(wr) ? qp->peer->rq->buf_bytes : sim.plan.msg_bytes_max);
    if (is_poison && sim_wr_is_send(wr) && sim_chance(50)) {
        wr->len_bytes = qp->peer->rq->buf_bytes + (uint32_t)sim_range(1, 2 * qp->pair->mtu_bytes);
    }
    wr->imm = (uint32_t)sim_random();
    wr->flags = (uint8_t)((qp->signal_all || sim_chance(60) ? RDMA_SEND_SIGNALED : 0) |
                          (sim_chance(10) ? RDMA_SEND_FENCE : 0) |
                          (sim_chance(10) ? RDMA_SEND_SOLICITED : 0));
    if (wr->len_bytes <= RDMA_SOFT_INLINE_BYTES && !is_read && sim_chance(30)) {
        wr->flags |= RDMA_SEND_INLINE;
    }
    if (!remote_get(qp, wr)) {
        return false;
    }
    wr->local_count =
        local_get(qp->node, wr->local, wr->len_bytes, is_read ? RDMA_ACCESS_LOCAL_WRITE : 0,
                  (wr->flags & RDMA_SEND_INLINE) != 0);
    if (wr->local_count == UINT32_MAX) {
        wr->local_count = 0;
        bufs_put(&wr->remote, 1);
        return false;
    }
    wr->id = sim.next_id++;
    wr->pattern = sim_random();
    wr->other = wr->pattern;
    if (is_read) {
        sim_fill(&wr->remote, 1, wr->pattern);
    } else {
        sim_fill(wr->local, wr->local_count, wr->pattern);
    }
    if (is_poison) {
        poison(qp, wr);
    }
    return true;
}

static void wr_make(struct rdma_send_wr *to, const struct sim_wr *wr, struct rdma_sge *sges)
{
    uint32_t sge_count = wr->opcode >= RDMA_WR_LOCAL_INV ? 0 : wr->local_count;

    sges_make(sges, wr->local, sge_count);
    *to = (struct rdma_send_wr){.wr_id = wr->id,
                                .sges = sges,
                                .sge_count = (uint8_t)sge_count,
                                .opcode = wr->opcode,
                                .flags = wr->flags,
                                .imm = wr->imm};
    if (wr->opcode == RDMA_WR_BIND) {
        const struct sim_buf *buf = &(wr + 1)->local[0]; /* of the next one, which uses it */
        to->bind.key = buf->key->key;
        to->bind.ref = &buf->key->ref;
        to->bind.iova = buf->addr;
        to->bind.access = wr->access;
        return;
    }
    to->rdma.remote_addr = wr->remote.addr;
    to->rdma.rkey = wr->remote.value;
    if (!sim_wr_is_send(wr) && wr->len_bytes == 0 && sim_chance(50)) { /* of no meaning */
        to->rdma.remote_addr = sim_random();
        to->rdma.rkey = (uint32_t)sim_random();
    }
}

/* --- taken ------------------------------------------------------------------------------------ */

/* It was taken: what follows from that at once. */
static void taken(struct sim_qp *qp, struct sim_wr *wr)
{
    sim_trace("%s posts %llu: opcode %u, %u bytes, flags %x", sim_qp_name(qp),
              (unsigned long long)wr->id, wr->opcode, wr->len_bytes, wr->flags);
    uint32_t packets = (wr->len_bytes + qp->pair->mtu_bytes - 1) / qp->pair->mtu_bytes;
    sim.plan.bytes_left -= min_u32(wr->len_bytes, sim.plan.bytes_left);
    sim.plan.packets_left -= min_u32(packets, sim.plan.packets_left);
    if (wr->takes_recv && qp->pair->doom == 0) {
        qp->peer->rq->wanted++;
    }
    if (wr->must_fail) {
        qp->has_poison = true;
        sim_doom(qp->pair, SIM_DOOM_POISON);
    }
    if ((wr->flags & RDMA_SEND_INLINE) != 0) {
        bufs_put(wr->local, wr->local_count); /* its data were copied */
        wr->local_count = 0;
    }
}

/* --- keys bound and invalidated by work requests ---------------------------------------------- */

/* What a work request without data has. */
static void wr_plain(struct sim_qp *qp, struct sim_wr *wr, uint8_t opcode)
{
    memset(wr, 0, sizeof(*wr));
    wr->id = sim.next_id++;
    wr->opcode = opcode;
    wr->flags = (uint8_t)(qp->signal_all || sim_chance(60) ? RDMA_SEND_SIGNALED : 0);
}

/* BIND, and a WRITE or READ whose memory here is under that key; perhaps a fenced LOCAL_INV, which
 * waits for it. */
static uint32_t draw_bind(struct sim_qp *qp, struct sim_wr *wrs, bool with_invalidate)
{
    struct sim_wr *wr = &wrs[1];
    bool is_read = sim_chance(50);
    uint8_t opcode = is_read ? RDMA_WR_RDMA_READ : RDMA_WR_RDMA_WRITE;

    wr_plain(qp, &wrs[0], RDMA_WR_BIND);
    wrs[0].access = is_read ? RDMA_ACCESS_LOCAL_WRITE : 0;
    wr_plain(qp, wr, opcode);
    wr->len_bytes = draw_len(qp, sim.plan.msg_bytes_max);
    if (wr->len_bytes == 0 || !remote_get(qp, wr)) {
        return 0;
    }
    if (!sim_buf_prepare(qp->node, &wr->local[0], wr->len_bytes)) {
        bufs_put(&wr->remote, 1);
        return 0;
    }
    wr->local_count = 1;
    wr->pattern = sim_random();
    wr->other = wr->pattern;
    sim_fill(is_read ? &wr->remote : wr->local, 1, wr->pattern);
    if (!with_invalidate) {
        return 2;
    }
    wr_plain(qp, &wrs[2], RDMA_WR_LOCAL_INV);
    wrs[2].flags |= RDMA_SEND_FENCE;
    wrs[2].local[0] = wr->local[0];
    wrs[2].local_count = 1;
    wrs[2].imm = wr->local[0].value;
    wr->keeps_local = true;
    return 3;
}

/* A READ, and a fenced WRITE of what it brings. */
static uint32_t draw_read_and_write(struct sim_qp *qp, struct sim_wr *wrs)
{
    uint32_t len_bytes = draw_len(qp, sim.plan.msg_bytes_max / 2);
    struct sim_buf local[SIM_SGES];
    uint32_t count = local_get(qp->node, local, len_bytes, RDMA_ACCESS_LOCAL_WRITE, false);

    if (count == UINT32_MAX) {
        return 0;
    }
    uint64_t pattern = sim_random();
    for (uint32_t i = 0; i < 2; i++) {
        wr_plain(qp, &wrs[i], i == 0 ? RDMA_WR_RDMA_READ : RDMA_WR_RDMA_WRITE);
        wrs[i].len_bytes = len_bytes;
        wrs[i].pattern = pattern;
        wrs[i].other = pattern;
        wrs[i].is_linked = true;
        wrs[i].local_count = count;
        memcpy(wrs[i].local, local, sizeof(local));
        if (!remote_get(qp, &wrs[i])) {
            bufs_put(local, count);
            if (i == 1) {
                bufs_put(&wrs[0].remote, 1);
            }
            return 0;
        }
    }
    wrs[0].keeps_local = true;
    wrs[1].flags |= RDMA_SEND_FENCE;
    sim_fill(&wrs[0].remote, 1, pattern);
    return 2;
}

static uint32_t draw_invalidate(struct sim_qp *qp, struct sim_wr *wr)
{
    wr_plain(qp, wr, RDMA_WR_LOCAL_INV);
    if (qp->to_invalidate.node == NULL) { /* a key that is none */
        wr->imm = (uint32_t)sim_random();
        wr->allowed = 1u << RDMA_WC_LOC_QP_OP_ERR;
        wr->must_fail = true;
        return 1;
    }
    wr->local[0] = qp->to_invalidate;
    wr->local_count = 1;
    wr->imm = wr->local[0].value;
    qp->to_invalidate.node = NULL;
    return 1;
}

/* --- posting ---------------------------------------------------------------------------------- */

/* A chain behind those that were posted; returns its length. */
static uint32_t draw_chain(struct sim_qp *qp, uint32_t outstanding)
{
    struct sim_wr *wrs = &qp->wrs[qp->wr_count];
    uint32_t left = qp->wr_target - qp->wr_count;
    uint32_t want = min_u32((uint32_t)sim_range(1, CHAIN_MAX), left);
    bool is_poison = sim_chance(sim.plan.poison_percent);
    uint32_t count = 0;

    if (left >= 1 && outstanding < qp->ring && qp->to_invalidate.node != NULL) {
        return draw_invalidate(qp, wrs);
    }
    if (left >= 3 && outstanding + 3 <= qp->ring && sim_chance(sim.plan.local_percent)) {
        return draw_bind(qp, wrs, sim_chance(50));
    }
    if (left >= 2 && outstanding + 2 <= qp->ring && sim_chance(5)) {
        return draw_read_and_write(qp, wrs);
    }
    if (left >= 1 && outstanding < qp->ring && is_poison && sim_chance(10)) {
        return draw_invalidate(qp, wrs);
    }
    while (count < want && outstanding + count <= qp->ring &&
           wr_draw(qp, &wrs[count], is_poison && count + 1 == want)) {
        count++;
        if (wrs[count - 1].takes_recv) {
            break; /* has_recv() counts those that were posted */
        }
    }
    return count;
}

void sim_work_post(struct sim_qp *qp)
{
    struct rdma_send_wr wrs[CHAIN_MAX];
    struct rdma_sge sges[CHAIN_MAX][SIM_SGES];
    const struct rdma_send_wr *bad = NULL;
    uint32_t outstanding = qp->wr_count - qp->wr_done;
    uint32_t count = draw_chain(qp, outstanding);

    for (uint32_t i = 0; i < count; i++) {
        wr_make(&wrs[i], &qp->wrs[qp->wr_count + i], sges[i]);
        wrs[i].next = i + 1 < count ? &wrs[i + 1] : NULL;
    }
    if (count == 0) {
        return;
    }
    enum status status = rdma_post_send(qp->qp, wrs, &bad);
    SIM_CHECK(status == STATUS_OK || status == STATUS_AGAIN, "%s: post_send: %s", sim_qp_name(qp),
              status_text(status));
    uint32_t done = status == STATUS_OK ? count : (uint32_t)(bad - wrs);
    SIM_CHECK(status == STATUS_OK || outstanding + done >= qp->ring,
              "%s: post_send: full with %u of %u", sim_qp_name(qp), outstanding + done, qp->ring);
    for (uint32_t i = 0; i < count; i++) {
        struct sim_wr *wr = &qp->wrs[qp->wr_count];
        if (i < done) {
            taken(qp, wr);
            qp->wr_count++;
        } else {
            wr = &qp->wrs[qp->wr_count + i - done];
            bufs_put(wr->local, wr->local_count);
            bufs_put(&wr->remote, 1);
        }
    }
}
