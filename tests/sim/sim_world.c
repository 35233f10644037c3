/*
 * The devices of a run, the steps of its clock, and its end.
 */
#include "tests/sim/sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/bits.h"
#include "base/counter.h"
#include "hal/native/native.h"
#include "sched/sched_priv.h"
#include "spec/roce.h"

#define TURNS_MAX      5000u
#define STEPS_MAX      1000000u
#define LIVE_NS        (UINT64_C(200) * NS_PER_S) /* without a completion: it hangs */
#define CQES           2048u
#define HOST_BASE_MASK UINT64_C(0xffffff0000)

const uint32_t sim_runs_max = UINT32_MAX;
const char *const sim_sum_names[] = {NULL};
struct sim sim;

/* --- random: splitmix64 ----------------------------------------------------------------------- */

uint64_t sim_random(void)
{
    uint64_t z = sim.random += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t sim_below(uint64_t limit)
{
    return limit == 0 ? 0 : sim_random() % limit;
}

uint64_t sim_range(uint64_t low, uint64_t high)
{
    return low + sim_below(high - low + 1);
}

bool sim_chance(uint32_t percent)
{
    return sim_below(100) < percent;
}

/* --- what is said ----------------------------------------------------------------------------- */

void sim_fail(const char *format, ...)
{
    va_list args;

    fflush(stdout);
    fprintf(stderr, "seed %llu: ", (unsigned long long)sim.seed);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\n");
    fflush(stderr);
    _exit(1);
}

void sim_trace(const char *format, ...)
{
    va_list args;

    if (!sim.trace) {
        return;
    }
    printf("%12.3f us  ", (double)(clock_now_ns() - SIM_START_NS) / 1000);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
}

static const char *opcode_name(uint8_t opcode)
{
    static const char *const names[] = {
        [ROCE_RC_SEND_FIRST] = "SEND_FIRST",
        [ROCE_RC_SEND_MIDDLE] = "SEND_MIDDLE",
        [ROCE_RC_SEND_LAST] = "SEND_LAST",
        [ROCE_RC_SEND_LAST_IMM] = "SEND_LAST_IMM",
        [ROCE_RC_SEND_ONLY] = "SEND_ONLY",
        [ROCE_RC_SEND_ONLY_IMM] = "SEND_ONLY_IMM",
        [ROCE_RC_WRITE_FIRST] = "WRITE_FIRST",
        [ROCE_RC_WRITE_MIDDLE] = "WRITE_MIDDLE",
        [ROCE_RC_WRITE_LAST] = "WRITE_LAST",
        [ROCE_RC_WRITE_LAST_IMM] = "WRITE_LAST_IMM",
        [ROCE_RC_WRITE_ONLY] = "WRITE_ONLY",
        [ROCE_RC_WRITE_ONLY_IMM] = "WRITE_ONLY_IMM",
        [ROCE_RC_READ_REQUEST] = "READ_REQUEST",
        [ROCE_RC_READ_RESP_FIRST] = "READ_RESP_FIRST",
        [ROCE_RC_READ_RESP_MIDDLE] = "READ_RESP_MIDDLE",
        [ROCE_RC_READ_RESP_LAST] = "READ_RESP_LAST",
        [ROCE_RC_READ_RESP_ONLY] = "READ_RESP_ONLY",
        [ROCE_RC_ACK] = "ACK",
        [ROCE_RC_SEND_LAST_INV] = "SEND_LAST_INV",
        [ROCE_RC_SEND_ONLY_INV] = "SEND_ONLY_INV",
        [ROCE_CNP] = "CNP",
    };
    return opcode < ARRAY_SIZE(names) && names[opcode] != NULL ? names[opcode] : "?";
}

/* Each packet, as the device read it, before the wire does something to it. */
static bool trace_packet(void *ctx, uint32_t from, uint8_t *frame, uint32_t len_bytes)
{
    uint32_t l4 = frame[14] >> 4 == 4 ? 34 : 54;

    (void)ctx;
    if (len_bytes < l4 + 8 + sizeof(struct roce_bth) || frame[l4 + 2] != (ROCE_UDP_PORT >> 8) ||
        frame[l4 + 3] != (ROCE_UDP_PORT & 0xff)) {
        sim_trace("node %u sends %u bytes that are not RoCE", from, len_bytes);
        return true;
    }
    const struct roce_bth *bth = (const struct roce_bth *)(frame + l4 + 8);
    const char *text = opcode_name(bth->opcode);
    const uint8_t *next = (const uint8_t *)(bth + 1);
    sim_trace("node %u to %u %-16s qpn %06x psn %06x%s%s %u bytes", from, frame[5] - 1u, text,
              be24_get(bth->dest_qpn), be24_get(bth->psn), bth->ack_req != 0 ? " A" : "",
              bth->opcode == ROCE_RC_ACK ? (next[0] == ROCE_AETH_ACK ? " ack" : " NAK") : "",
              len_bytes);
    if (bth->opcode == ROCE_RC_ACK && next[0] != ROCE_AETH_ACK) {
        sim_trace("         syndrome %02x", next[0]);
    }
    return true;
}

/* --- devices ---------------------------------------------------------------------------------- */

static void net_open(struct sim_node *node)
{
    uint8_t last = (uint8_t)(node->index + 1);
    struct net_if_config config = {
        .port = wire_port(sim.wire, node->index),
        .addr_count = 2,
        .addrs = {{.addr = net_addr_ipv4(10, 0, 0, last), .prefix_bits = 24},
                  {.addr = {.bytes = {0xfd, [15] = last}}, .prefix_bits = 64}},
        .buf_count = sim.plan.buf_count,
        .big_buf_count = sim.plan.big_count,
        .neighbor_count = 8,
    };
    node->net_memory = aligned_alloc(64, align_up(net_if_memory_bytes(&config), 64));
    SIM_CHECK(node->net_memory != NULL, "no memory");
    SIM_CHECK(net_if_init(node->net_memory, &config, &node->nif) == STATUS_OK, "net_if_init");
}

static void windows_open(struct sim_node *node)
{
    uint32_t count = (uint32_t)sim_range(1, SIM_WINDOWS);
    uint32_t each = (uint32_t)align_down(node->host.len_bytes / count, 4096);

    node->host_base = sim_random() & HOST_BASE_MASK;
    node->view.window_count = count;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t start = i * each;
        node->view.windows[i] = (struct pcie_ep_window){
            .host_addr = node->host_base + start,
            .len_bytes = i == count - 1 ? node->host.len_bytes - start : each,
            .bus_addr = (uintptr_t)node->host.bytes + start,
            .readable = true,
            .writable = true};
    }
}

static void memory_open(struct sim_node *node)
{
    uint32_t access = RDMA_ACCESS_LOCAL_WRITE | RDMA_ACCESS_REMOTE_WRITE | RDMA_ACCESS_REMOTE_READ;
    struct rdma_mr_attr nic = {.kind = RDMA_MR_NIC, .access = access};
    struct rdma_mr_attr host = {.kind = RDMA_MR_HOST, .access = access, .view = &node->view};

    sim_arena_open(&node->nic, sim.plan.arena_bytes);
    sim_arena_open(&node->host, sim.plan.arena_bytes);
    windows_open(node);
    nic.memory = node->nic.bytes;
    nic.len_bytes = node->nic.len_bytes;
    host.host_addr = node->host_base;
    host.len_bytes = node->host.len_bytes;
    SIM_CHECK(rdma_mr_reg(node->pd, &nic, &node->nic_mr) == STATUS_OK, "mr_reg");
    SIM_CHECK(rdma_mr_reg(node->pd, &host, &node->host_mr) == STATUS_OK, "mr_reg");
    for (uint32_t i = 0; i < SIM_KEYS; i++) {
        SIM_CHECK(rdma_key_alloc(node->pd, &node->keys[i].key) == STATUS_OK, "key_alloc");
    }
}

static struct rdma_cq *cq_open(struct sim_node *node, uint32_t index)
{
    struct rdma_cq_attr attr = {.entry_count = CQES};
    struct rdma_cq *cq;

    attr.memory = aligned_alloc(64, rdma_cq_memory_bytes(node->device, CQES));
    SIM_CHECK(rdma_cq_create(node->device, &attr, &cq) == STATUS_OK, "cq_create");
    node->cq_memory[index] = attr.memory;
    return cq;
}

static void srq_open(struct sim_node *node)
{
    struct sim_recv_queue *rq = &node->srq;
    struct rdma_srq_attr attr = {.pd = node->pd, .ctx = rq};

    rq->node = node;
    rq->ring = (uint32_t)sim_range(4, 64);
    rq->buf_bytes = sim.plan.msg_bytes_max;
    attr.wr_count = rq->ring;
    rq->memory = aligned_alloc(64, align_up(rdma_srq_memory_bytes(node->device, rq->ring), 64));
    attr.memory = rq->memory;
    SIM_CHECK(rdma_srq_create(&attr, &rq->srq) == STATUS_OK, "srq_create");
}

static void rdma_open(struct sim_node *node)
{
    uint64_t seed[RNG_SEED_BYTES / 8] = {sim_random(), sim_random(), sim_random(), sim_random()};
    struct rdma_soft_config config = {
        .nif = node->nif,
        .rng = &node->rng,
        .name = "sim",
        .qp_count = SIM_PAIRS * 2,
        .cq_count = 2,
        .srq_count = 1,
        .pd_count = 1,
        .mr_count = 2,
        .key_count = SIM_KEYS,
        .ah_count = 1,
        .ecn = sim.plan.ecn,
    };
    SIM_CHECK(rng_seed(&node->rng, seed, sizeof(seed)) == STATUS_OK, "rng_seed");
    node->rdma_memory = aligned_alloc(64, align_up(rdma_soft_memory_bytes(&config), 64));
    SIM_CHECK(rdma_soft_init(node->rdma_memory, &config, &node->device) == STATUS_OK, "soft_init");
    node->device->event = sim_event_fn;
    node->device->event_ctx = node;
    SIM_CHECK(rdma_pd_alloc(node->device, 0, &node->pd) == STATUS_OK, "pd_alloc");
    memory_open(node);
    node->one_cq = sim_chance(30);
    node->cqs[0] = cq_open(node, 0);
    node->cqs[1] = node->one_cq ? node->cqs[0] : cq_open(node, 1);
    node->has_srq = sim_chance(40);
    if (node->has_srq) {
        srq_open(node);
    }
}

/* --- time ------------------------------------------------------------------------------------- */

void sim_settle_turns(void)
{
    uint32_t idle = 0;

    for (uint32_t n = 0; idle < 2; n++) {
        idle = sched_turn() == 0 ? idle + 1 : 0;
        SIM_CHECK(n < TURNS_MAX, "the devices do not come to rest");
    }
}

/* The clock goes to the next thing that can happen, at most to `limit_ns`. */
static void step(uint64_t limit_ns)
{
    uint64_t now_ns = clock_now_ns();
    uint64_t next_ns = min_u64(wire_next_ns(sim.wire), reactors[0].wheel.next_ns);

    next_ns = min_u64(next_ns, limit_ns);
    native_clock_set(max_u64(next_ns, now_ns + 1));
    sim_settle_turns();
}

static void advance(uint64_t duration_ns)
{
    uint64_t end_ns = clock_now_ns() + duration_ns;

    while (clock_now_ns() < end_ns) {
        step(end_ns);
    }
}

/* --- a run ------------------------------------------------------------------------------------ */

static void open_all(void)
{
    native_clock_set(SIM_START_NS);
    sched_init(1, SCHED_IDLE_POLL);
    sim.wire = wire_open(&sim.plan.wire);
    if (sim.trace) {
        wire_set_filter(sim.wire, trace_packet, NULL);
    }
    if (sim.plan.faults_early) {
        wire_set_faults(sim.wire, WIRE_ALL_PORTS, &sim.plan.faults);
    }
    for (uint32_t i = 0; i < sim.plan.node_count; i++) {
        sim.nodes[i].index = i;
        net_open(&sim.nodes[i]);
        rdma_open(&sim.nodes[i]);
    }
    for (uint32_t i = 0; i < sim.plan.pair_count; i++) {
        uint32_t a = (uint32_t)sim_below(sim.plan.node_count);
        uint32_t b = (a + (uint32_t)sim_range(1, sim.plan.node_count - 1)) % sim.plan.node_count;
        sim_pair_open(&sim.pairs[i], &sim.nodes[a], &sim.nodes[b]);
    }
    if (!sim.plan.faults_early) {
        advance(3 * NS_PER_S); /* the neighbours are found */
        wire_set_faults(sim.wire, WIRE_ALL_PORTS, &sim.plan.faults);
    }
}

static bool is_over(void)
{
    for (uint32_t i = 0; i < sim.plan.pair_count; i++) {
        const struct sim_pair *pair = &sim.pairs[i];
        if (pair->doom == 0 && !(sim_qp_is_done(&pair->qps[0]) && sim_qp_is_done(&pair->qps[1]))) {
            return false;
        }
    }
    return true;
}

static void act(void)
{
    for (uint32_t i = 0; i < sim.plan.pair_count; i++) {
        for (uint32_t side = 0; side < 2; side++) {
            struct sim_qp *qp = &sim.pairs[i].qps[side];
            if (qp->qp != NULL && !qp->is_dying && sim_chance(60)) {
                sim_recvs_post(qp->rq, (uint32_t)sim_range(1, 8));
            }
            if (qp->qp != NULL && !qp->is_dying && sim_chance(60)) {
                sim_work_post(qp);
            }
        }
    }
    sim_event_act();
    sim_pairs_tend();
}

static void hang_check(void)
{
    if (clock_now_ns() - sim.progress_ns <= LIVE_NS) {
        return;
    }
    for (uint32_t i = 0; i < 2 * sim.plan.pair_count; i++) {
        const struct sim_qp *qp = &sim.pairs[i / 2].qps[i % 2];
        SIM_CHECK(qp->pair->doom != 0 || sim_qp_is_done(qp),
                  "%s: it hangs: %u of %u work requests have ended, %u were posted",
                  sim_qp_name(qp), qp->wr_done, qp->wr_target, qp->wr_count);
    }
}

static void live(void)
{
    uint64_t steps = 0;

    sim.progress_ns = clock_now_ns();
    while (!is_over()) {
        uint64_t now_ns = clock_now_ns();
        uint64_t quiet_ns = (now_ns - sim.progress_ns) / 32; /* the longer, the longer the steps */
        if (now_ns >= sim.act_ns) {
            act();
            sim.act_ns = now_ns + 1 + sim_below(2 * sim.plan.act_ns) + quiet_ns;
        }
        if (now_ns >= sim.poll_ns) {
            sim_poll((uint32_t)sim_range(1, 16));
            sim.poll_ns = now_ns + 1 + sim_below(2 * sim.plan.poll_ns) + quiet_ns;
        }
        sim_settle_turns();
        step(min_u64(sim.act_ns, sim.poll_ns));
        SIM_CHECK(++steps < STEPS_MAX, "more steps than plausible");
        hang_check();
    }
}

static void free_node(struct sim_node *node)
{
    sim_arena_close(&node->nic);
    sim_arena_close(&node->host);
    free(node->net_memory);
    free(node->rdma_memory);
    free(node->cq_memory[0]);
    free(node->cq_memory[1]);
    free(node->srq.memory);
}

static void stats_check(const struct sim_node *node)
{
    const struct rdma_soft_stats *stats = rdma_soft_stats(node->device);

    if (sim.plan.faults.corrupt_ppm == 0) {
        SIM_CHECK(counter_get(&stats->rx_malformed) == 0, "node %u: malformed packets",
                  node->index);
        SIM_CHECK(sim.has_mutated || counter_get(&stats->rx_icrc) == 0,
                  "node %u: packets with a wrong ICRC", node->index);
    }
}

static void close_node(struct sim_node *node)
{
    SIM_CHECK(!node->has_srq || rdma_srq_destroy(node->srq.srq) == STATUS_OK, "srq_destroy");
    for (uint32_t i = 0; i < SIM_KEYS; i++) {
        rdma_key_invalidate(node->keys[i].key);
        SIM_CHECK(rdma_key_free(node->keys[i].key) == STATUS_OK, "node %u: a key is not quiet",
                  node->index);
    }
    SIM_CHECK(rdma_mr_dereg(node->nic_mr) == STATUS_OK, "mr_dereg");
    SIM_CHECK(rdma_mr_dereg(node->host_mr) == STATUS_OK, "mr_dereg");
    SIM_CHECK(rdma_cq_destroy(node->cqs[0]) == STATUS_OK, "cq_destroy");
    SIM_CHECK(node->one_cq || rdma_cq_destroy(node->cqs[1]) == STATUS_OK, "cq_destroy");
    SIM_CHECK(rdma_pd_free(node->pd) == STATUS_OK, "pd_free");
    sim_settle_turns();
    stats_check(node);
    SIM_CHECK(rdma_soft_is_quiet(node->device), "node %u: the device is not quiet", node->index);
    SIM_CHECK(net_if_is_quiet(node->nif), "node %u: the interface is not quiet", node->index);
}

/* All that was posted has come back, some of it flushed. */
static void flushed_check(const struct sim_qp *qp)
{
    SIM_CHECK(qp->wr_done == qp->wr_count, "%s: %u of %u work requests were flushed or ended",
              sim_qp_name(qp), qp->wr_done, qp->wr_count);
    SIM_CHECK(qp->rq->srq != NULL || qp->rq->done == qp->rq->count,
              "%s: %u of %u receives were flushed or ended", sim_qp_name(qp), qp->rq->done,
              qp->rq->count);
    SIM_CHECK(qp->rq->srq == NULL || (qp->events & 1u << RDMA_EVENT_LAST_WQE_REACHED) != 0,
              "%s: in ERR, but not told that no more receives are taken", sim_qp_name(qp));
}

/* Both sides are emptied: some by way of ERR, whose flushes are looked at. */
static void drain(void)
{
    sim.is_ending = true;
    sim_event_end();
    for (uint32_t i = 0; i < sim.plan.pair_count; i++) {
        sim_doom(&sim.pairs[i], SIM_DOOM_END);
        for (uint32_t side = 0; side < 2; side++) {
            struct sim_qp *qp = &sim.pairs[i].qps[side];
            if (qp->qp != NULL && !qp->is_dying && !qp->is_flushed && sim_chance(50)) {
                sim_qp_flush(qp);
            }
        }
    }
    advance(NS_PER_MS);
    for (uint32_t n = 0; n < 1000; n++) {
        sim_poll(1000);
    }
    for (uint32_t i = 0; i < sim.plan.pair_count; i++) {
        for (uint32_t side = 0; side < 2; side++) {
            struct sim_qp *qp = &sim.pairs[i].qps[side];
            if (qp->qp != NULL && !qp->is_dying && !qp->has_failed) {
                sim_silent_ends(qp);
            }
            if (qp->is_flushed && qp->qp != NULL && !qp->is_dying) {
                flushed_check(qp);
            }
            for (uint32_t tries = 0; qp->qp != NULL && !sim_qp_destroy(qp); tries++) {
                SIM_CHECK(tries < 1000, "%s: it does not get destroyed", sim_qp_name(qp));
                advance(NS_PER_US);
            }
        }
    }
    advance(10 * NS_PER_MS); /* what was held back on the wire arrives */
}

void sim_run(uint64_t seed, bool trace)
{
    memset(&sim, 0, sizeof(sim));
    sim.seed = seed;
    sim.random = seed * UINT64_C(0xd1342543de82ef95) + 1;
    sim.trace = trace;
    sim_plan_draw(&sim.plan);
    open_all();
    live();
    drain();
    for (uint32_t i = 0; i < sim.plan.node_count; i++) {
        close_node(&sim.nodes[i]);
    }
    wire_close(sim.wire);
    for (uint32_t i = 0; i < sim.plan.node_count; i++) {
        free_node(&sim.nodes[i]);
    }
}
