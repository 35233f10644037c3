#include "tests/bench/bench_rdma.h"

#include <stdio.h>
#include <string.h>
#include "base/assert.h"
#include "base/bits.h"
#include "net/net.h"
#include "rdma/soft.h"
#include "rdma/verbs.h"
#include "sched/sched.h"
#include "tests/bench/bench_counter.h"
#include "tests/bench/bench_ep.h"
#include "tests/bench/bench_port.h"

#define RING_FRAMES  256u
#define DEPTH_MAX    32u
#define DATA_BYTES   (DEPTH_MAX * 4096u)
#define WARM_COUNT   128u
#define RUN_COUNT    1024u
#define SETUP_TURNS  200000u
#define TURNS_MAX    10000u
#define NODES        2u
#define NODE_POLLERS 2u

struct node {
    struct bench_port port;
    void *cookies[RING_FRAMES];
    struct net_if *nif;
    struct rdma_device *device;
    struct rng rng;
    struct rdma_pd *pd;
    struct rdma_cq *cq;
    struct rdma_mr *mr;
    struct rdma_qp *qp;
    uint8_t *data;
    const struct poller *pollers[NODE_POLLERS];
    uint64_t spent; /* instructions, ports excluded */
};

static struct {
    struct node nodes[NODES];
    uint8_t *memory;
    uint64_t used_bytes;
    void (*print)(const char *line);
} r;

static void *take(uint64_t bytes, uint64_t alignment)
{
    r.used_bytes = align_up(r.used_bytes, alignment);
    void *memory = r.memory + r.used_bytes;
    r.used_bytes += bytes;
    ASSERT(r.used_bytes <= BENCH_RDMA_MEMORY_BYTES);
    return memory;
}

/* --- nodes --------------------------------------------------------------------------------- */

static void note_poller(const struct poller *poller, void *ctx)
{
    struct node *node = ctx;

    if (strcmp(poller->name, "rdma") == 0) {
        node->pollers[1] = poller; /* the last one added stands */
    } else if (strcmp(poller->name, "net") == 0) {
        node->pollers[0] = poller;
    }
}

static void node_open(uint32_t index)
{
    struct node *node = &r.nodes[index];
    uint8_t seed[RNG_SEED_BYTES] = {(uint8_t)(index + 1)};
    struct net_if_config net = {.port = &node->port.eth,
                                .addr_count = 1,
                                .buf_count = 256,
                                .big_buf_count = 16,
                                .neighbor_count = 8};

    net.addrs[0] = (struct net_if_addr){.addr = net_addr_ipv4(192, 0, 2, (uint8_t)(index + 1)),
                                        .prefix_bits = 24};
    ASSERT(net_if_init(take(net_if_memory_bytes(&net), 64), &net, &node->nif) == STATUS_OK);
    ASSERT(rng_seed(&node->rng, seed, sizeof(seed)) == STATUS_OK);
    struct rdma_soft_config config = {.nif = node->nif,
                                      .rng = &node->rng,
                                      .name = "bench",
                                      .qp_count = 4,
                                      .cq_count = 2,
                                      .pd_count = 1,
                                      .mr_count = 2,
                                      .key_count = 2,
                                      .ah_count = 1,
                                      .ecn = true};
    ASSERT(rdma_soft_init(take(rdma_soft_memory_bytes(&config), 64), &config, &node->device) ==
           STATUS_OK);
    sched_visit_pollers(0, note_poller, node);
    ASSERT(node->pollers[0] != NULL && node->pollers[1] != NULL);
    ASSERT(rdma_pd_alloc(node->device, 0, &node->pd) == STATUS_OK);
    struct rdma_cq_attr cq = {.entry_count = 4 * DEPTH_MAX,
                              .memory =
                                  take(rdma_cq_memory_bytes(node->device, 4 * DEPTH_MAX), 64)};
    ASSERT(rdma_cq_create(node->device, &cq, &node->cq) == STATUS_OK);
    node->data = take(DATA_BYTES, 4096);
    struct rdma_mr_attr mr = {.kind = RDMA_MR_NIC,
                              .access = RDMA_ACCESS_LOCAL_WRITE | RDMA_ACCESS_REMOTE_WRITE |
                                        RDMA_ACCESS_REMOTE_READ,
                              .memory = node->data,
                              .len_bytes = DATA_BYTES};
    ASSERT(rdma_mr_reg(node->pd, &mr, &node->mr) == STATUS_OK);
}

static void node_qp(struct node *node, void *memory)
{
    struct rdma_qp_init_attr attr = {.type = RDMA_QP_RC,
                                     .pd = node->pd,
                                     .send_cq = node->cq,
                                     .recv_cq = node->cq,
                                     .send_wr_count = DEPTH_MAX,
                                     .recv_wr_count = DEPTH_MAX,
                                     .send_sge_count = 1,
                                     .recv_sge_count = 1,
                                     .memory = memory};

    ASSERT(rdma_qp_create(&attr, &node->qp) == STATUS_OK);
}

static void node_connect(uint32_t index, enum rdma_mtu mtu)
{
    struct node *node = &r.nodes[index];
    struct rdma_qp_attr attr = {
        .state = RDMA_QP_INIT,
        .access = RDMA_ACCESS_REMOTE_READ | RDMA_ACCESS_REMOTE_WRITE,
        .path_mtu = (uint8_t)mtu,
        .timeout = 18,
        .retry_cnt = 7,
        .rnr_retry = 7,
        .max_rd_atomic = 16,
        .max_dest_rd_atomic = 16,
        .min_rnr_timer = 12,
        .rq_psn = 100,
        .sq_psn = 100,
        .dest_qpn = r.nodes[1 - index].qp->num,
        .av = {.dgid = net_addr_ipv4(192, 0, 2, (uint8_t)(2 - index)), .sgid_index = 1}};

    ASSERT(rdma_qp_modify(node->qp, &attr, RDMA_QP_STATE | RDMA_QP_ACCESS) == STATUS_OK);
    attr.state = RDMA_QP_RTR;
    ASSERT(rdma_qp_modify(node->qp, &attr,
                          RDMA_QP_STATE | RDMA_QP_AV | RDMA_QP_PATH_MTU | RDMA_QP_DEST_QPN |
                              RDMA_QP_RQ_PSN | RDMA_QP_MAX_DEST_RD_ATOMIC |
                              RDMA_QP_MIN_RNR_TIMER) == STATUS_OK);
    attr.state = RDMA_QP_RTS;
    ASSERT(rdma_qp_modify(node->qp, &attr,
                          RDMA_QP_STATE | RDMA_QP_TIMEOUT | RDMA_QP_RETRY_CNT | RDMA_QP_RNR_RETRY |
                              RDMA_QP_SQ_PSN | RDMA_QP_MAX_RD_ATOMIC) == STATUS_OK);
}

/* --- counted work ---------------------------------------------------------------------------- */

/* What `node` spent since `start`, without what its port did. */
static void spent(struct node *node, uint64_t start)
{
    node->spent += bench_count() - start - bench_port_overhead - bench_port_excluded;
    bench_port_excluded = 0;
}

static void turn(struct node *node)
{
    bench_port_excluded = 0;
    uint64_t start = bench_count();
    for (uint32_t i = 0; i < NODE_POLLERS; i++) {
        node->pollers[i]->run(node->pollers[i]->ctx);
    }
    spent(node, start);
}

struct bench_rdma_case {
    const char *name;
    uint8_t opcode; /* enum rdma_wr_opcode */
    uint32_t bytes;
    uint32_t depth;
};

static const struct bench_rdma_case cases[] = {
    {"send", RDMA_WR_SEND, 64, 1},          {"send", RDMA_WR_SEND, 64, 32},
    {"write", RDMA_WR_RDMA_WRITE, 4096, 1}, {"write", RDMA_WR_RDMA_WRITE, 4096, 32},
    {"read", RDMA_WR_RDMA_READ, 4096, 1},   {"read", RDMA_WR_RDMA_READ, 4096, 32},
};

static void post_receives(struct node *node, const struct bench_rdma_case *c)
{
    struct rdma_recv_wr wrs[DEPTH_MAX];
    struct rdma_sge sges[DEPTH_MAX];

    for (uint32_t i = 0; i < c->depth; i++) {
        sges[i] = (struct rdma_sge){
            .addr = (uintptr_t)node->data + i * 4096, .len_bytes = 4096, .lkey = node->mr->lkey};
        wrs[i] = (struct rdma_recv_wr){.wr_id = i,
                                       .next = i + 1 < c->depth ? &wrs[i + 1] : NULL,
                                       .sges = &sges[i],
                                       .sge_count = 1};
    }
    bench_port_excluded = 0;
    uint64_t start = bench_count();
    ASSERT(rdma_post_recv(node->qp, wrs, NULL) == STATUS_OK);
    spent(node, start);
}

static void post_sends(struct node *node, const struct bench_rdma_case *c)
{
    const struct node *peer = &r.nodes[1];
    struct rdma_send_wr wrs[DEPTH_MAX];
    struct rdma_sge sges[DEPTH_MAX];

    for (uint32_t i = 0; i < c->depth; i++) {
        sges[i] = (struct rdma_sge){.addr = (uintptr_t)node->data + i * 4096,
                                    .len_bytes = c->bytes,
                                    .lkey = node->mr->lkey};
        wrs[i] = (struct rdma_send_wr){
            .wr_id = i,
            .next = i + 1 < c->depth ? &wrs[i + 1] : NULL,
            .sges = &sges[i],
            .sge_count = 1,
            .opcode = c->opcode,
            .flags = RDMA_SEND_SIGNALED,
            .rdma = {.remote_addr = (uintptr_t)peer->data + i * 4096, .rkey = peer->mr->rkey}};
    }
    bench_port_excluded = 0;
    uint64_t start = bench_count();
    ASSERT(rdma_post_send(node->qp, wrs, NULL) == STATUS_OK);
    spent(node, start);
}

static uint32_t poll(struct node *node)
{
    struct rdma_wc wcs[DEPTH_MAX];

    bench_port_excluded = 0;
    uint64_t start = bench_count();
    uint32_t count = rdma_cq_poll(node->cq, wcs, DEPTH_MAX);
    spent(node, start);
    for (uint32_t i = 0; i < count; i++) {
        ASSERT(wcs[i].status == RDMA_WC_SUCCESS);
    }
    return count;
}

static void round_run(const struct bench_rdma_case *c)
{
    uint32_t wanted = c->depth;
    uint32_t received = c->opcode == RDMA_WR_SEND ? c->depth : 0;

    if (received > 0) {
        post_receives(&r.nodes[1], c);
    }
    post_sends(&r.nodes[0], c);
    for (uint32_t i = 0; wanted > 0 || received > 0; i++) {
        ASSERT(i < TURNS_MAX);
        turn(&r.nodes[0]);
        turn(&r.nodes[1]);
        wanted -= poll(&r.nodes[0]);
        received -= received > 0 ? poll(&r.nodes[1]) : 0;
    }
    sched_turn(); /* the clock; timers */
}

static void case_run(const struct bench_rdma_case *c, uint32_t count)
{
    for (uint32_t done = 0; done < count; done += c->depth) {
        round_run(c);
    }
}

/* --- report ---------------------------------------------------------------------------------- */

static void case_report(const struct bench_rdma_case *c, uint32_t mtu_bytes)
{
    char line[160];

    case_run(c, WARM_COUNT);
    r.nodes[0].spent = 0;
    r.nodes[1].spent = 0;
    bench_stages_reset();
    case_run(c, RUN_COUNT);
    snprintf(line, sizeof(line),
             "rdma %-5s mtu %4u depth %2u bytes %4u: requester %llu responder %llu icrc %llu place "
             "%llu",
             c->name, (unsigned)mtu_bytes, (unsigned)c->depth, (unsigned)c->bytes,
             (unsigned long long)(r.nodes[0].spent / RUN_COUNT),
             (unsigned long long)(r.nodes[1].spent / RUN_COUNT),
             (unsigned long long)(bench_stage_sum(STAGE_ICRC) / RUN_COUNT),
             (unsigned long long)(bench_stage_sum(STAGE_PLACE) / RUN_COUNT));
    r.print(line);
}

static void mtu_report(enum rdma_mtu mtu, void *const memory[NODES])
{
    for (uint32_t i = 0; i < NODES; i++) {
        node_qp(&r.nodes[i], memory[i]);
    }
    for (uint32_t i = 0; i < NODES; i++) {
        node_connect(i, mtu);
    }
    /* the first message finds the neighbours */
    case_run(&cases[0], 1);
    for (uint32_t i = 0; i < ARRAY_SIZE(cases); i++) {
        case_report(&cases[i], rdma_mtu_bytes(mtu));
    }
    for (uint32_t i = 0; i < NODES; i++) {
        uint32_t turns = 0;
        while (rdma_qp_destroy(r.nodes[i].qp) == STATUS_AGAIN) {
            ASSERT(turns++ < SETUP_TURNS);
            sched_turn();
        }
    }
}

void bench_rdma_report(void *memory, void (*print)(const char *line))
{
    struct rdma_qp_init_attr one = {.send_wr_count = DEPTH_MAX, .recv_wr_count = DEPTH_MAX};
    void *rings[NODES];
    char line[160];

    memset(&r, 0, sizeof(r));
    r.memory = memory;
    r.print = print;
    uint64_t start = bench_count();
    bench_port_overhead = bench_count() - start;
    for (uint32_t i = 0; i < NODES; i++) {
        r.nodes[i].port.slots = take(RING_FRAMES * sizeof(struct bench_rx_slot), 64);
        r.nodes[i].port.peer = &r.nodes[1 - i].port;
        r.nodes[i].port.cookies = r.nodes[i].cookies;
        r.nodes[i].port.ring_frames = RING_FRAMES;
        bench_port_open(&r.nodes[i].port, i);
    }
    for (uint32_t i = 0; i < NODES; i++) {
        node_open(i);
    }
    one.pd = r.nodes[0].pd;
    uint64_t ring_bytes = rdma_qp_memory_bytes(&one);
    for (uint32_t i = 0; i < NODES; i++) {
        rings[i] = take(ring_bytes, 64);
    }
    snprintf(line, sizeof(line), "rdma memory: queue pair %u, ring for %u + %u work requests %llu",
             (unsigned)rdma_soft_qp_bytes(), DEPTH_MAX, DEPTH_MAX, (unsigned long long)ring_bytes);
    print(line);
    mtu_report(RDMA_MTU_1024, rings);
    mtu_report(RDMA_MTU_4096, rings);
}
