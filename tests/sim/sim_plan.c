/*
 * What a seed draws before a run begins.
 */
#include "tests/sim/sim.h"

#include <string.h>
#include "base/bits.h"

static void draw_class(struct sim_plan *plan)
{
    uint64_t draw = sim_below(100);

    plan->class = draw < 30 ? SIM_CLEAN : draw < 60 ? SIM_MILD : SIM_HEAVY;
}

static uint32_t some_ppm(uint32_t max_percent)
{
    return sim_chance(50) ? 0 : (uint32_t)sim_below(max_percent * 10000 + 1);
}

static void draw_faults(struct sim_plan *plan)
{
    struct wire_faults *faults = &plan->faults;
    uint32_t max = plan->class == SIM_MILD ? 1 : 20;

    faults->delay_ns = sim_chance(30) ? 0 : sim_below(50 * NS_PER_US);
    if (plan->class == SIM_CLEAN) {
        faults->jitter_ns = sim_chance(50) ? 0 : sim_below(20 * NS_PER_US);
        return;
    }
    faults->jitter_ns = sim_chance(50) ? 0 : sim_below(50 * NS_PER_US);
    faults->loss_ppm = some_ppm(max);
    faults->duplicate_ppm = some_ppm(max * 3);
    faults->reorder_ppm = some_ppm(max);
    faults->reorder_ns = sim_range(NS_PER_US, sim_chance(80) ? 100 * NS_PER_US : 5 * NS_PER_MS);
    /* ARP has no checksum: a damaged answer makes a neighbour unreachable for a while. */
    if (plan->class == SIM_HEAVY || plan->is_ipv6) {
        faults->corrupt_ppm = some_ppm(max);
    }
    plan->faults_early = plan->class == SIM_HEAVY && sim_chance(20);
}

static void draw_device(struct sim_plan *plan)
{
    struct wire_config *wire = &plan->wire;
    bool is_small = plan->class == SIM_HEAVY && sim_chance(20);

    wire->seed = sim_random();
    wire->port_count = plan->node_count;
    wire->mtu_bytes = plan->port_mtu;
    wire->tx_ring_count = sim_chance(30) ? (uint32_t)sim_range(2, 32) : 256;
    wire->rx_ring_count = is_small ? (uint32_t)sim_range(8, 64) : 0;
    wire->read_delay_ns =
        sim_chance(40) ? 0 : sim_below(sim_chance(70) ? 20 * NS_PER_US : 200 * NS_PER_US);
    wire->reap_delay_ns = sim_chance(50) ? 0 : sim_below(60 * NS_PER_US);
}

static void draw_sizes(struct sim_plan *plan)
{
    uint64_t draw = sim_below(plan->class == SIM_HEAVY ? 96 : 100);

    plan->msg_bytes_max = draw < 60 ? 4096 : draw < 80 ? 16384 : draw < 97 ? 65536 : 1 << 20;
    plan->bytes_left = plan->msg_bytes_max == 1 << 20 ? 2 << 20 : 150 << 10;
    plan->packets_left = plan->msg_bytes_max == 1 << 20 ? 5000 : 600;
    plan->arena_bytes = (uint32_t)align_up(plan->msg_bytes_max * 6 + (512u << 10), 1 << 16);
}

void sim_plan_draw(struct sim_plan *plan)
{
    static const uint16_t mtus[] = {1280, 1500, 2200, 4200, 9000};

    memset(plan, 0, sizeof(*plan));
    draw_class(plan);
    plan->node_count = sim_chance(20) ? 3 : 2;
    plan->pair_count = sim_chance(50) ? 1 : (uint32_t)sim_range(2, SIM_PAIRS);
    plan->port_mtu = mtus[sim_below(ARRAY_SIZE(mtus))];
    plan->is_ipv6 = sim_chance(40);
    plan->ecn = sim_chance(30);
    plan->buf_count = sim_chance(30) ? (uint32_t)sim_range(16, 40) : 160;
    plan->big_count = sim_chance(30) ? (uint32_t)sim_range(1, 8) : 16;
    draw_faults(plan);
    if (plan->ecn && sim_chance(60)) {
        plan->faults.mark_ppm = (uint32_t)sim_below(sim_chance(70) ? 20000 : 300000);
    }
    draw_device(plan);
    draw_sizes(plan);
    plan->event_percent = sim_chance(50) ? 0 : (uint32_t)sim_range(1, 6);
    plan->poison_percent = sim_chance(70) ? 0 : (uint32_t)sim_range(1, 5);
    plan->local_percent = sim_chance(50) ? 0 : (uint32_t)sim_range(1, 20);
    plan->reopen_count = (uint32_t)sim_below(4);
    plan->act_ns = sim_range(NS_PER_US, 100 * NS_PER_US);
    plan->poll_ns = sim_range(NS_PER_US, 50 * NS_PER_US);
}
