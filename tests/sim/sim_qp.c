/*
 * Queue pairs of the simulation: made, connected, taken down.
 */
#include "tests/sim/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/bits.h"

const char *sim_qp_name(const struct sim_qp *qp)
{
    static char text[4][48];
    static uint32_t turn;
    char *to = text[turn++ % 4];

    snprintf(to, sizeof(text[0]), "pair %u side %u (node %u)", (unsigned)(qp->pair - sim.pairs),
             qp == &qp->pair->qps[1], qp->node->index);
    return to;
}

/* --- attributes ------------------------------------------------------------------------------- */

static void attr_draw(struct sim_qp *qp, uint8_t path_mtu)
{
    bool is_heavy = sim.plan.class == SIM_HEAVY;
    struct rdma_qp_attr *attr = &qp->attr;

    attr->access = RDMA_ACCESS_LOCAL_WRITE | RDMA_ACCESS_REMOTE_WRITE | RDMA_ACCESS_REMOTE_READ;
    attr->path_mtu = path_mtu;
    attr->timeout = (uint8_t)(sim.plan.class == SIM_CLEAN ? sim_range(14, 16) : sim_range(10, 14));
    attr->retry_cnt = (uint8_t)(is_heavy && sim_chance(30) ? sim_below(8) : 7);
    attr->rnr_retry = (uint8_t)(is_heavy && sim_chance(30) ? sim_below(8) : 7);
    attr->max_dest_rd_atomic = (uint8_t)sim_range(1, RDMA_SOFT_READS);
    attr->min_rnr_timer = (uint8_t)(sim_chance(5) ? 0 : sim_range(1, 16));
    attr->rq_psn = (uint32_t)sim_below(1 << 24);
    if (sim_chance(30)) {
        attr->rq_psn = (0xfffff0 + (uint32_t)sim_below(32)) & 0xffffff; /* wraps soon */
    }
    attr->av = (struct rdma_av){.sgid_index = sim.plan.is_ipv6 ? 2 : 1,
                                .traffic_class = (uint8_t)sim_below(256)};
}

static void attr_match(struct sim_qp *qp, struct sim_qp *peer)
{
    uint8_t last = (uint8_t)(peer->node->index + 1);

    qp->attr.sq_psn = peer->attr.rq_psn;
    qp->attr.dest_qpn = peer->qp->num;
    qp->attr.max_rd_atomic = (uint8_t)sim_range(1, peer->attr.max_dest_rd_atomic);
    qp->attr.av.dgid = sim.plan.is_ipv6 ? (struct net_addr){.bytes = {0xfd, [15] = last}}
                                        : net_addr_ipv4(10, 0, 0, last);
}

/* --- open ------------------------------------------------------------------------------------- */

static void rq_open(struct sim_qp *qp, struct rdma_qp_init_attr *init)
{
    struct sim_recv_queue *own = &qp->own_rq;
    uint32_t max_bytes = min_u32(sim.plan.msg_bytes_max, 1 << 16);

    if (qp->node->has_srq && sim_chance(60)) {
        qp->rq = &qp->node->srq;
        init->srq = qp->rq->srq;
        return;
    }
    qp->rq = own;
    own->node = qp->node;
    own->qp = qp;
    own->ring = (uint32_t)sim_range(1, 64);
    own->buf_bytes = (uint32_t)sim_range(0, max_bytes);
    init->recv_wr_count = own->ring;
}

static void qp_create(struct sim_qp *qp)
{
    struct rdma_qp_init_attr init = {.type = RDMA_QP_RC,
                                     .pd = qp->node->pd,
                                     .send_cq = qp->node->cqs[0],
                                     .recv_cq = qp->node->cqs[1],
                                     .send_sge_count = SIM_SGES,
                                     .recv_sge_count = SIM_SGES,
                                     .ctx = qp};

    qp->ring = (uint32_t)sim_range(4, 64);
    qp->signal_all = sim_chance(30);
    qp->late_recvs = sim_chance(20);
    init.send_wr_count = qp->ring;
    init.signal_all = qp->signal_all;
    rq_open(qp, &init);
    qp->memory = aligned_alloc(64, align_up(rdma_qp_memory_bytes(&init), 64));
    init.memory = qp->memory;
    SIM_CHECK(qp->memory != NULL && rdma_qp_create(&init, &qp->qp) == STATUS_OK, "qp_create");
}

static void to_state(struct sim_qp *qp, enum rdma_qp_state state, uint32_t mask)
{
    qp->attr.state = (uint8_t)state;
    enum status status = rdma_qp_modify(qp->qp, &qp->attr, RDMA_QP_STATE | mask);
    SIM_CHECK(status == STATUS_OK, "%s: to %s: %s", sim_qp_name(qp), rdma_qp_state_name(state),
              status_text(status));
}

void sim_pair_open(struct sim_pair *pair, struct sim_node *a, struct sim_node *b)
{
    uint8_t path_mtu = (uint8_t)sim_range(RDMA_MTU_256, a->device->attr.path_mtu_max);

    pair->mtu_bytes = rdma_mtu_bytes((enum rdma_mtu)path_mtu);
    for (uint32_t side = 0; side < 2; side++) {
        struct sim_qp *qp = &pair->qps[side];
        qp->node = side == 0 ? a : b;
        qp->pair = pair;
        qp->peer = &pair->qps[1 - side];
        qp->wr_target = (uint32_t)sim_below(sim_chance(20) ? 120 : 30);
        qp_create(qp);
        attr_draw(qp, path_mtu);
    }
    for (uint32_t side = 0; side < 2; side++) {
        struct sim_qp *qp = &pair->qps[side];
        attr_match(qp, qp->peer);
        to_state(qp, RDMA_QP_INIT, RDMA_QP_ACCESS);
        to_state(qp, RDMA_QP_RTR,
                 RDMA_QP_AV | RDMA_QP_PATH_MTU | RDMA_QP_DEST_QPN | RDMA_QP_RQ_PSN |
                     RDMA_QP_MAX_DEST_RD_ATOMIC | RDMA_QP_MIN_RNR_TIMER);
        to_state(qp, RDMA_QP_RTS,
                 RDMA_QP_TIMEOUT | RDMA_QP_RETRY_CNT | RDMA_QP_RNR_RETRY | RDMA_QP_SQ_PSN |
                     RDMA_QP_MAX_RD_ATOMIC);
    }
}

/* --- end -------------------------------------------------------------------------------------- */

bool sim_qp_is_done(const struct sim_qp *qp)
{
    uint32_t received = 0;
    uint32_t sent = 0;

    for (uint32_t i = 0; i < qp->wr_count; i++) {
        sent += qp->wrs[i].takes_recv;
        received += qp->wrs[i].is_received;
    }
    return qp->wr_count >= qp->wr_target && qp->wr_done == qp->wr_count && received == sent;
}

void sim_qp_flush(struct sim_qp *qp)
{
    qp->is_flushed = true;
    sim_qp_state(qp, RDMA_QP_ERR);
}

void sim_qp_state(struct sim_qp *qp, enum rdma_qp_state state)
{
    sim_trace("%s goes to %s", sim_qp_name(qp), rdma_qp_state_name(state));
    to_state(qp, state, 0);
}

bool sim_qp_destroy(struct sim_qp *qp)
{
    if (!qp->is_dying) {
        sim_stats_check(qp);
    }
    qp->is_dying = true;
    enum status status = rdma_qp_destroy(qp->qp);
    if (status == STATUS_AGAIN) {
        return false;
    }
    SIM_CHECK(status == STATUS_OK, "%s: destroy: %s", sim_qp_name(qp), status_text(status));
    sim_trace("%s is destroyed", sim_qp_name(qp));
    qp->qp = NULL;
    sim_qp_gone(qp);
    memset(qp->memory, 0xdb, 64); /* it is ours again */
    free(qp->memory);
    qp->memory = NULL;
    return true;
}
