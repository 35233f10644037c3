/*
 * What happens besides work in the simulation: queue pairs go to ERR or are destroyed, keys and
 * windows are taken away, hosts change memory that is being sent, peers die.
 */
#include "tests/sim/sim.h"

#include <stdlib.h>
#include <string.h>
#include "base/bits.h"

#define SHORT_NS (5 * NS_PER_MS) /* retries outlast it */

/* --- a victim --------------------------------------------------------------------------------- */

static bool is_alive(const struct sim_qp *qp)
{
    return qp->qp != NULL && !qp->is_dying;
}

static struct sim_qp *any_qp(void)
{
    struct sim_qp *qp = &sim.pairs[sim_below(sim.plan.pair_count)].qps[sim_below(2)];

    return is_alive(qp) && is_alive(qp->peer) ? qp : NULL;
}

/* One that is under way. */
static struct sim_wr *any_wr(struct sim_qp *qp)
{
    uint32_t count = qp->wr_count - qp->wr_done;

    return count == 0 ? NULL : &qp->wrs[qp->wr_done + sim_below(count)];
}

/* --- the events ------------------------------------------------------------------------------- */

static void to_err(struct sim_qp *qp)
{
    sim_doom(qp->pair, SIM_DOOM_ERR);
    sim_qp_flush(qp);
}

static void destroy(struct sim_qp *qp)
{
    sim_doom(qp->pair, SIM_DOOM_DESTROY);
    sim_trace("%s gets destroyed", sim_qp_name(qp));
    sim_qp_destroy(qp);
}

/* A key is invalidated while its owner's peer uses it. */
static void revoke_key(struct sim_qp *qp)
{
    struct sim_wr *wr = any_wr(qp);

    if (wr == NULL || wr->remote.node == NULL || wr->remote.key == NULL || wr->is_received) {
        return;
    }
    sim_trace("%s: the key of %llu is invalidated", sim_qp_name(qp), (unsigned long long)wr->id);
    sim_doom(qp->pair, SIM_DOOM_KEY);
    sim_remote_revoke(wr);
}

/* Or one of its own. */
static void revoke_local_key(struct sim_qp *qp)
{
    struct sim_wr *wr = any_wr(qp);

    for (uint32_t i = 0; wr != NULL && i < wr->local_count; i++) {
        if (wr->local[i].key != NULL && !wr->local[i].is_prepared) {
            sim_trace("%s: a key here of %llu is invalidated", sim_qp_name(qp),
                      (unsigned long long)wr->id);
            sim_doom(qp->pair, SIM_DOOM_KEY);
            rdma_key_invalidate(wr->local[i].key->key);
            wr->allowed |= 1u << RDMA_WC_LOC_PROT_ERR;
            return;
        }
    }
}

/* Memory changes while it is sent: what arrives is of the one or the other. */
static void mutate(struct sim_qp *qp)
{
    struct sim_wr *wr = any_wr(qp);

    if (wr == NULL || wr->is_linked || wr->other != wr->pattern || wr->opcode > RDMA_WR_RDMA_READ) {
        return;
    }
    bool is_read = wr->opcode == RDMA_WR_RDMA_READ;
    struct sim_buf *bufs = is_read ? &wr->remote : wr->local;
    if (is_read && wr->remote.node == NULL) {
        return;
    }
    sim_trace("%s: the data of %llu change", sim_qp_name(qp), (unsigned long long)wr->id);
    wr->other = sim_random();
    sim_fill(bufs, is_read ? 1 : wr->local_count, wr->other);
    sim.has_mutated = true;
    sim.was_disturbed = true;
}

static void cut(struct sim_node *node, bool for_ever)
{
    if (node->cut_until_ns != 0) {
        return;
    }
    sim_trace("node %u is cut off%s", node->index, for_ever ? " for ever" : "");
    wire_cut(sim.wire, node->index, true);
    node->cut_until_ns = for_ever ? UINT64_MAX : clock_now_ns() + sim_range(1, SHORT_NS);
    sim.was_disturbed = true;
    for (uint32_t i = 0; for_ever && i < sim.plan.pair_count; i++) {
        struct sim_pair *pair = &sim.pairs[i];
        if (pair->qps[0].node == node || pair->qps[1].node == node) {
            sim_doom(pair, SIM_DOOM_CUT);
        }
    }
}

static void hold_reap(void)
{
    sim_trace("reaping stands still");
    wire_hold_reap(sim.wire, true);
    sim.is_held = true;
    sim.held_until_ns = clock_now_ns() + sim_range(1, SHORT_NS);
    sim.was_disturbed = true;
}

static void take_window(struct sim_node *node)
{
    uint32_t index = (uint32_t)sim_below(node->view.window_count);
    struct pcie_ep_window *window = &node->view.windows[index];

    if (window->len_bytes == 0) {
        return;
    }
    sim_trace("node %u loses a window", node->index);
    for (uint32_t i = 0; i < sim.plan.pair_count; i++) {
        struct sim_pair *pair = &sim.pairs[i];
        if (pair->qps[0].node == node || pair->qps[1].node == node) {
            sim_doom(pair, SIM_DOOM_WINDOW);
            pair->allowed |= 1u << RDMA_WC_LOC_PROT_ERR | 1u << RDMA_WC_REM_ACCESS_ERR |
                             1u << RDMA_WC_REM_OP_ERR;
        }
    }
    sim_window_freeze(node, window);
    window->len_bytes = 0;
    node->lost_windows |= 1u << index;
}

static void drain(struct sim_qp *qp)
{
    if (qp->pair->doom == 0 && !qp->is_draining) {
        qp->is_draining = true;
        qp->is_drained = false;
        sim_qp_state(qp, RDMA_QP_SQD);
    }
}

static void one_event(struct sim_qp *qp)
{
    switch (sim_below(12)) {
    case 0:
        to_err(qp);
        break;
    case 1:
        destroy(qp);
        break;
    case 2:
    case 3:
        revoke_key(qp);
        break;
    case 4:
        revoke_local_key(qp);
        break;
    case 5:
    case 6:
        mutate(qp);
        break;
    case 7:
        cut(qp->node, sim_chance(30));
        break;
    case 8:
        hold_reap();
        break;
    case 9:
        take_window(qp->node);
        break;
    default:
        drain(qp);
        break;
    }
}

/* --- turns ------------------------------------------------------------------------------------ */

void sim_event_end(void)
{
    uint64_t now_ns = clock_now_ns();

    if (sim.is_held && (now_ns >= sim.held_until_ns || sim.is_ending)) {
        wire_hold_reap(sim.wire, false);
        sim.is_held = false;
    }
    for (uint32_t i = 0; i < sim.plan.node_count; i++) {
        struct sim_node *node = &sim.nodes[i];
        if (node->cut_until_ns != 0 && now_ns >= node->cut_until_ns) {
            wire_cut(sim.wire, i, false);
            node->cut_until_ns = 0;
        }
    }
}

/* The queue is drained: it goes on. */
static void undrain(struct sim_qp *qp)
{
    if (qp->is_draining && qp->is_drained && is_alive(qp) && sim_chance(50)) {
        qp->is_draining = false;
        if (qp->qp->state == RDMA_QP_SQD) {
            sim_qp_state(qp, RDMA_QP_RTS);
        }
    }
}

void sim_event_act(void)
{
    sim_event_end();
    for (uint32_t i = 0; i < 2 * sim.plan.pair_count; i++) {
        undrain(&sim.pairs[i / 2].qps[i % 2]);
    }
    if (sim_chance(sim.plan.event_percent)) {
        struct sim_qp *qp = any_qp();
        if (qp != NULL) {
            one_event(qp);
        }
    }
}

/* By way of ERR or at once, one side after the other. */
static void side_end(struct sim_qp *qp)
{
    if (qp->is_dying) {
        sim_qp_destroy(qp);
    } else if (sim_chance(5)) {
        destroy(qp);
    } else if (sim_chance(5) && !qp->is_flushed) {
        to_err(qp);
    }
}

void sim_pairs_tend(void)
{
    for (uint32_t i = 0; i < sim.plan.pair_count; i++) {
        struct sim_pair *pair = &sim.pairs[i];
        for (uint32_t side = 0; pair->doom != 0 && side < 2; side++) {
            if (pair->qps[side].qp != NULL) {
                side_end(&pair->qps[side]);
            }
        }
        bool is_cut = pair->qps[0].node->cut_until_ns != 0 || pair->qps[1].node->cut_until_ns != 0;
        bool is_gone = pair->qps[0].qp == NULL && pair->qps[1].qp == NULL;
        bool is_whole =
            pair->qps[0].node->lost_windows == 0 && pair->qps[1].node->lost_windows == 0;
        if (is_gone && !is_cut && is_whole && sim.plan.reopen_count > 0 && sim_chance(20)) {
            struct sim_node *a = pair->qps[0].node;
            struct sim_node *b = pair->qps[1].node;
            sim.plan.reopen_count--;
            memset(pair, 0, sizeof(*pair));
            sim_pair_open(pair, a, b);
        }
    }
}

void sim_event_fn(void *ctx, const struct rdma_event *event)
{
    const struct sim_node *node = ctx;

    sim_trace("node %u: event %u", node->index, event->type);
    if (event->qp == NULL) {
        SIM_CHECK(event->type == RDMA_EVENT_SRQ_LIMIT, "node %u: event %u", node->index,
                  event->type);
        return;
    }
    struct sim_qp *qp = event->qp->ctx;
    bool is_plain = event->type == RDMA_EVENT_COMM_EST ||
                    event->type == RDMA_EVENT_LAST_WQE_REACHED ||
                    (event->type == RDMA_EVENT_SQ_DRAINED && qp->is_draining);
    SIM_CHECK(is_plain || qp->pair->doom != 0, "%s: event %u", sim_qp_name(qp), event->type);
    qp->events |= 1u << event->type;
    qp->is_drained |= event->type == RDMA_EVENT_SQ_DRAINED;
}
