/*
 * What happens besides work in the simulation: queue pairs go to ERR or are destroyed, keys and
 * windows are taken away, hosts change memory that is being sent, peers die.
 */
#include "tests/sim/sim.h"

void sim_event_act(void)
{
}

void sim_event_fn(void *ctx, const struct rdma_event *event)
{
    const struct sim_node *node = ctx;

    sim_trace("node %u: event %u", node->index, event->type);
    if (event->qp != NULL) {
        struct sim_qp *qp = event->qp->ctx;
        qp->events |= 1u << event->type;
        bool is_plain = event->type == RDMA_EVENT_COMM_EST ||
                        event->type == RDMA_EVENT_LAST_WQE_REACHED;
        SIM_CHECK(is_plain || qp->pair->doom != 0, "%s: event %u", sim_qp_name(qp), event->type);
    }
}
