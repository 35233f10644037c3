#include "tests/bench/bench_rdma.h"

#include <stdio.h>
#include <string.h>
#include "base/assert.h"
#include "base/bits.h"
#include "hal/clock.h"
#include "net/net.h"
#include "rdma/soft.h"
#include "rdma/soft_priv.h"
#include "rdma/verbs.h"
#include "tests/bench/bench_counter.h"
#include "tests/bench/bench_stage.h"

#define SIDES       2
#define RING        256u
#define FRAME_BYTES 4352u
#define DATA_BYTES  (256u << 10)
#define DEPTH_MAX   32u
#define WARM_COUNT  256u
#define RUN_COUNT   2048u
#define PORT_MTU    4200
#define KEY_PIECES  4u

static const struct bench_rdma_case cases[] = {
    {"send", RDMA_WR_SEND, 1, 64, RDMA_MTU_4096, false, 0, 0, 0},
    {"send", RDMA_WR_SEND, 32, 64, RDMA_MTU_4096, false, 700, 700, 0},
    {"write", RDMA_WR_RDMA_WRITE, 1, 4096, RDMA_MTU_1024, false, 0, 0, 0},
    {"write", RDMA_WR_RDMA_WRITE, 32, 4096, RDMA_MTU_1024, false, 0, 0, 0},
    {"write", RDMA_WR_RDMA_WRITE, 1, 4096, RDMA_MTU_4096, false, 0, 0, 0},
    {"write", RDMA_WR_RDMA_WRITE, 32, 4096, RDMA_MTU_4096, false, 0, 0, 6000},
    {"read", RDMA_WR_RDMA_READ, 1, 4096, RDMA_MTU_1024, false, 0, 0, 0},
    {"read", RDMA_WR_RDMA_READ, 32, 4096, RDMA_MTU_1024, false, 0, 0, 0},
    {"read", RDMA_WR_RDMA_READ, 1, 4096, RDMA_MTU_4096, false, 0, 0, 0},
    {"read", RDMA_WR_RDMA_READ, 32, 4096, RDMA_MTU_4096, false, 0, 0, 6000},
    {"write key", RDMA_WR_RDMA_WRITE, 32, 4096, RDMA_MTU_4096, true, 0, 0, 6000},
    {"read key", RDMA_WR_RDMA_READ, 32, 4096, RDMA_MTU_4096, true, 0, 0, 6000},
};

/* A port whose frames lie in the other's memory as soon as they were flushed. */
struct port {
    struct eth_port eth;
    struct port *other;
    uint32_t tx_count; /* taken, not flushed; then in `done` */
    uint32_t done_count;
    void *queued[RING];
    void *done[RING];
    uint32_t rx_head; /* free running */
    uint32_t rx_tail;
    uint32_t lens[RING];
    uint8_t (*frames)[FRAME_BYTES];
};

struct side {
    struct port port;
    struct net_if *nif;
    struct rdma_device *device;
    struct rng rng;
    const struct poller *pollers[SIDES];
    struct rdma_pd *pd;
    struct rdma_cq *cq;
    struct rdma_mr *mr;
    struct rdma_key *keys[DEPTH_MAX];
    struct mem_seg segs[DEPTH_MAX][KEY_PIECES];
    struct mem_ref refs[DEPTH_MAX];
    struct rdma_qp *qp;
    uint8_t *data;
    uint64_t sum; /* instructions */
    uint64_t stages[STAGE_COUNT];
};

static struct {
    struct side sides[SIDES];
    uint8_t *memory;
    uint8_t *end;
    uint64_t overhead; /* of reading the counter twice */
    uint64_t excluded; /* in ports, since the count began */
    void (*print)(const char *line);
} b;

static void *take(uint64_t len_bytes)
{
    void *part = b.memory;

    b.memory += align_up(len_bytes, 4096);
    ASSERT(b.memory <= b.end);
    return part;
}

/* --- counting ----------------------------------------------------------------------------------- */

ALWAYS_INLINE uint64_t count_begin(void)
{
    b.excluded = 0;
    return bench_count();
}

static void count_end(struct side *side, uint64_t start)
{
    side->sum += bench_count() - start - b.overhead - b.excluded;
}

#define PORT_BEGIN()                      \
    uint64_t port_start_ = bench_count(); \
    STAGE_PUSH(OTHER)
#define PORT_END() \
    STAGE_POP();   \
    b.excluded += bench_count() - port_start_ + b.overhead

/* --- ports -------------------------------------------------------------------------------------- */

static struct port *port_of(struct eth_port *eth)
{
    return CONTAINER_OF(eth, struct port, eth);
}

static enum status port_tx(struct eth_port *eth, const struct eth_tx *frame)
{
    PORT_BEGIN();
    struct port *port = port_of(eth);
    struct port *to = port->other;
    uint8_t *bytes = to->frames[to->rx_head % RING] + 2;

    ASSERT(to->rx_head - to->rx_tail < RING && frame->len_bytes <= FRAME_BYTES - 2);
    for (uint32_t i = 0; i < frame->seg_count; i++) {
        memcpy(bytes, mem_seg_ptr(&frame->segs[i]), frame->segs[i].len_bytes);
        bytes += frame->segs[i].len_bytes;
    }
    to->lens[to->rx_head++ % RING] = frame->len_bytes;
    port->queued[port->tx_count++] = frame->cookie;
    eth->tx_room_count = RING - port->tx_count - port->done_count;
    PORT_END();
    return STATUS_OK;
}

static void port_tx_flush(struct eth_port *eth)
{
    PORT_BEGIN();
    struct port *port = port_of(eth);

    memcpy(&port->done[port->done_count], port->queued, port->tx_count * sizeof(void *));
    port->done_count += port->tx_count;
    port->tx_count = 0;
    PORT_END();
}

static uint32_t port_tx_reap(struct eth_port *eth, void **cookies, uint32_t max)
{
    PORT_BEGIN();
    struct port *port = port_of(eth);
    uint32_t count = min_u32(max, port->done_count);

    memcpy(cookies, port->done, count * sizeof(void *));
    port->done_count -= count;
    memmove(port->done, &port->done[count], port->done_count * sizeof(void *));
    eth->tx_room_count = RING - port->tx_count - port->done_count;
    PORT_END();
    return count;
}

static uint32_t port_rx(struct eth_port *eth, struct eth_rx *frames, uint32_t max)
{
    PORT_BEGIN();
    struct port *port = port_of(eth);
    uint32_t count = min_u32(max, port->rx_head - port->rx_tail);

    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = (port->rx_tail + i) % RING;
        frames[i] = (struct eth_rx){.data = port->frames[at] + 2, .len_bytes = port->lens[at]};
    }
    PORT_END();
    return count;
}

static void port_rx_done(struct eth_port *eth, uint32_t count)
{
    PORT_BEGIN();
    port_of(eth)->rx_tail += count;
    PORT_END();
}

static bool port_arm(struct eth_port *eth, bool armed)
{
    (void)eth;
    (void)armed;
    return false;
}

static const struct eth_ops port_ops = {.tx = port_tx,
                                        .tx_flush = port_tx_flush,
                                        .tx_reap = port_tx_reap,
                                        .rx = port_rx,
                                        .rx_done = port_rx_done,
                                        .arm = port_arm};

/* --- sides -------------------------------------------------------------------------------------- */

static void port_open(struct side *side, uint32_t index)
{
    side->port = (struct port){.eth = {.ops = &port_ops,
                                       .name = "bench",
                                       .addr = {2, 0, 0, 0, 0, (uint8_t)(index + 1)},
                                       .mtu_bytes = PORT_MTU,
                                       .tx_room_count = RING,
                                       .link_up = true},
                               .other = &b.sides[1 - index].port};
    side->port.frames = take(RING * FRAME_BYTES);
}

static void device_open(struct side *side, uint32_t index)
{
    uint8_t seed[RNG_SEED_BYTES] = {(uint8_t)index};
    struct net_if_config net = {
        .port = &side->port.eth,
        .addr_count = 1,
        .addrs = {{.addr = net_addr_ipv4(10, 0, 0, (uint8_t)(index + 1)), .prefix_bits = 24}},
        .buf_count = RING,
        .big_buf_count = 16,
        .neighbor_count = 4};
    ASSERT(net_if_init(take(net_if_memory_bytes(&net)), &net, &side->nif) == STATUS_OK);
    ASSERT(rng_seed(&side->rng, seed, sizeof(seed)) == STATUS_OK);
    struct rdma_soft_config rdma = {.nif = side->nif,
                                    .rng = &side->rng,
                                    .name = "bench",
                                    .qp_count = 64,
                                    .cq_count = 1,
                                    .pd_count = 1,
                                    .mr_count = 1,
                                    .key_count = DEPTH_MAX,
                                    .ah_count = 1};
    ASSERT(rdma_soft_init(take(rdma_soft_memory_bytes(&rdma)), &rdma, &side->device) == STATUS_OK);
}

static void memory_open(struct side *side)
{
    uint32_t access = RDMA_ACCESS_LOCAL_WRITE | RDMA_ACCESS_REMOTE_WRITE | RDMA_ACCESS_REMOTE_READ;
    struct rdma_cq_attr cq = {.entry_count = 256};

    side->data = take(DATA_BYTES);
    struct rdma_mr_attr mr = {
        .kind = RDMA_MR_NIC, .access = access, .memory = side->data, .len_bytes = DATA_BYTES};
    ASSERT(rdma_pd_alloc(side->device, 0, &side->pd) == STATUS_OK);
    ASSERT(rdma_mr_reg(side->pd, &mr, &side->mr) == STATUS_OK);
    cq.memory = take(rdma_cq_memory_bytes(side->device, cq.entry_count));
    ASSERT(rdma_cq_create(side->device, &cq, &side->cq) == STATUS_OK);
    for (uint32_t i = 0; i < DEPTH_MAX; i++) { /* the pages of an I/O, in pieces of 1 KiB */
        for (uint32_t k = 0; k < KEY_PIECES; k++) {
            side->segs[i][k] = (struct mem_seg){
                .bus_addr = (uintptr_t)side->data + i * 8192 + k * 2048, .len_bytes = 1024};
        }
        side->refs[i] = (struct mem_ref){.segs = side->segs[i],
                                         .len_bytes = KEY_PIECES * 1024,
                                         .seg_count = KEY_PIECES,
                                         .space = MEM_SPACE_NIC};
        ASSERT(rdma_key_alloc(side->pd, &side->keys[i]) == STATUS_OK);
        ASSERT(rdma_key_bind(side->keys[i], &side->refs[i], 0, access) == STATUS_OK);
    }
}

static uint32_t visited;

/* Those of the reactor in the order of their making: interface and device of each side. */
static void visit(const struct poller *poller, void *ctx)
{
    (void)ctx;
    if (visited < SIDES * SIDES) {
        b.sides[visited / SIDES].pollers[visited % SIDES] = poller;
    }
    visited++;
}

/* Time goes on, timers fire: not counted. */
static void turn_reactor(void)
{
    sched_turn();
}

static void turn(struct side *side)
{
    uint64_t start = count_begin();

    side->pollers[0]->run(side->pollers[0]->ctx);
    side->pollers[1]->run(side->pollers[1]->ctx);
    count_end(side, start);
}

static void qp_create(struct side *side)
{
    struct rdma_qp_init_attr init = {.type = RDMA_QP_RC,
                                     .pd = side->pd,
                                     .send_cq = side->cq,
                                     .recv_cq = side->cq,
                                     .send_wr_count = 64,
                                     .recv_wr_count = 64,
                                     .send_sge_count = 1,
                                     .recv_sge_count = 1};

    init.memory = take(rdma_qp_memory_bytes(&init));
    ASSERT(rdma_qp_create(&init, &side->qp) == STATUS_OK);
}

static void qp_connect(struct side *side, const struct side *peer, uint8_t mtu, uint8_t host)
{
    struct rdma_qp_attr attr = {.state = RDMA_QP_INIT,
                                .access = RDMA_ACCESS_REMOTE_WRITE | RDMA_ACCESS_REMOTE_READ,
                                .path_mtu = mtu,
                                .timeout = 20,
                                .retry_cnt = 7,
                                .rnr_retry = 7,
                                .max_rd_atomic = RDMA_SOFT_READS,
                                .max_dest_rd_atomic = RDMA_SOFT_READS,
                                .min_rnr_timer = 12,
                                .rq_psn = 1,
                                .sq_psn = 1,
                                .dest_qpn = peer->qp->num,
                                .av = {.dgid = net_addr_ipv4(10, 0, 0, host), .sgid_index = 1}};

    ASSERT(rdma_qp_modify(side->qp, &attr, RDMA_QP_STATE | RDMA_QP_ACCESS) == STATUS_OK);
    attr.state = RDMA_QP_RTR;
    ASSERT(rdma_qp_modify(side->qp, &attr,
                          RDMA_QP_STATE | RDMA_QP_AV | RDMA_QP_PATH_MTU | RDMA_QP_DEST_QPN |
                              RDMA_QP_RQ_PSN | RDMA_QP_MAX_DEST_RD_ATOMIC |
                              RDMA_QP_MIN_RNR_TIMER) == STATUS_OK);
    attr.state = RDMA_QP_RTS;
    ASSERT(rdma_qp_modify(side->qp, &attr,
                          RDMA_QP_STATE | RDMA_QP_TIMEOUT | RDMA_QP_RETRY_CNT | RDMA_QP_RNR_RETRY |
                              RDMA_QP_SQ_PSN | RDMA_QP_MAX_RD_ATOMIC) == STATUS_OK);
}

/* --- a round: `depth` work requests, then turns of both sides until all have ended -------------- */

static void recvs_post(struct side *side, uint32_t count, uint32_t bytes)
{
    struct rdma_sge sge = {.len_bytes = bytes, .lkey = side->mr->lkey};
    struct rdma_recv_wr wr = {.sges = &sge, .sge_count = 1};
    uint64_t start = count_begin();

    for (uint32_t i = 0; i < count; i++) {
        sge.addr = (uintptr_t)side->data + i * 4096;
        ASSERT(rdma_post_recv(side->qp, &wr, NULL) == STATUS_OK);
    }
    count_end(side, start);
}

static void sends_post(struct side *side, const struct side *peer, const struct bench_rdma_case *c)
{
    struct rdma_sge sge = {.len_bytes = c->bytes, .lkey = side->mr->lkey};
    struct rdma_send_wr wr = {
        .sges = &sge, .sge_count = 1, .opcode = c->opcode, .flags = RDMA_SEND_SIGNALED};
    uint64_t start = count_begin();

    for (uint32_t i = 0; i < c->depth; i++) {
        sge.addr = (uintptr_t)side->data + i * 4096;
        wr.wr_id = i;
        wr.rdma.remote_addr = c->with_keys ? 0 : (uintptr_t)peer->data + i * 4096;
        wr.rdma.rkey = c->with_keys ? peer->keys[i]->value : peer->mr->rkey;
        ASSERT(rdma_post_send(side->qp, &wr, NULL) == STATUS_OK);
    }
    count_end(side, start);
}

static uint32_t poll(struct side *side)
{
    struct rdma_wc wcs[DEPTH_MAX];
    uint64_t start = count_begin();
    uint32_t count = rdma_cq_poll(side->cq, wcs, DEPTH_MAX);

    count_end(side, start);
    for (uint32_t i = 0; i < count; i++) {
        ASSERT(wcs[i].status == RDMA_WC_SUCCESS);
    }
    return count;
}

#ifdef STAGE_MARKS
static void stages_take(struct side *side)
{
    for (uint32_t s = 0; s < STAGE_COUNT; s++) {
        side->stages[s] += bench_stage_sum((enum stage)s);
    }
    bench_stages_start();
}
#else
static void stages_take(struct side *side)
{
    (void)side;
}
#endif

static void round_run(const struct bench_rdma_case *c)
{
    struct side *requester = &b.sides[0];
    struct side *responder = &b.sides[1];
    uint32_t left = c->depth;
    uint32_t recvs = c->opcode == RDMA_WR_SEND ? c->depth : 0;

    recvs_post(responder, recvs, c->bytes);
    sends_post(requester, responder, c);
    for (uint32_t n = 0; left > 0 || recvs > 0; n++) {
        ASSERT(n < 1000);
        stages_take(responder); /* what was between */
        turn(requester);
        left -= poll(requester);
        stages_take(requester);
        turn(responder);
        recvs -= c->opcode == RDMA_WR_SEND ? poll(responder) : 0;
        stages_take(responder);
    }
    turn_reactor();
}

static void rounds_run(const struct bench_rdma_case *c, uint32_t count)
{
    for (uint32_t i = 0; i < SIDES; i++) {
        b.sides[i].sum = 0;
        memset(b.sides[i].stages, 0, sizeof(b.sides[i].stages));
    }
    for (uint32_t n = 0; n < count; n += c->depth) {
        round_run(c);
    }
}

/* --- report ------------------------------------------------------------------------------------- */

static void connect(const struct bench_rdma_case *c)
{
    qp_create(&b.sides[0]);
    qp_create(&b.sides[1]);
    qp_connect(&b.sides[0], &b.sides[1], c->mtu, 2);
    qp_connect(&b.sides[1], &b.sides[0], c->mtu, 1);
    for (uint32_t i = 0; i < 8; i++) {
        turn(&b.sides[0]);
        turn(&b.sides[1]);
    }
}

static void disconnect(void)
{
    for (uint32_t i = 0; i < SIDES; i++) {
        while (rdma_qp_destroy(b.sides[i].qp) != STATUS_OK) {
            turn(&b.sides[i]);
        }
    }
}

static void report(const struct bench_rdma_case *c)
{
    uint8_t *memory = b.memory;
    char line[160];

    connect(c);
    rounds_run(c, WARM_COUNT);
    rounds_run(c, RUN_COUNT);
    for (uint32_t i = 0; i < SIDES; i++) {
        const struct side *side = &b.sides[i];
        snprintf(line, sizeof(line),
                 "rdma %-10s depth %2u bytes %4u mtu %4u %-9s %5llu (budget %u, both %u) "
                 "icrc %llu place %llu",
                 c->name, (unsigned)c->depth, (unsigned)c->bytes,
                 (unsigned)rdma_mtu_bytes((enum rdma_mtu)c->mtu),
                 i == 0 ? "requester" : "responder", (unsigned long long)(side->sum / RUN_COUNT),
                 (unsigned)(i == 0 ? c->budget_requester : c->budget_responder),
                 (unsigned)c->budget_both,
                 (unsigned long long)(side->stages[STAGE_ICRC] / RUN_COUNT),
                 (unsigned long long)(side->stages[STAGE_PLACE] / RUN_COUNT));
        b.print(line);
    }
    disconnect();
    b.memory = memory;
}

void bench_rdma(void *memory, void (*print)(const char *line))
{
    char line[160];

    memset(&b, 0, sizeof(b));
    b.memory = memory;
    b.end = b.memory + BENCH_RDMA_MEMORY_BYTES;
    b.print = print;
    sched_init(1, SCHED_IDLE_POLL);
    for (uint32_t i = 0; i < SIDES; i++) {
        port_open(&b.sides[i], i);
    }
    for (uint32_t i = 0; i < SIDES; i++) {
        device_open(&b.sides[i], i);
        memory_open(&b.sides[i]);
    }
    visited = 0;
    sched_visit_pollers(0, visit, NULL);
    ASSERT(visited == SIDES * SIDES);
    sched_init(1, SCHED_IDLE_POLL); /* whose timers stay armed in vain: announcements */
    uint64_t start = bench_count();
    b.overhead = bench_count() - start;
    snprintf(line, sizeof(line), "rdma memory: qp %u send wr %u recv wr %u cqe %u",
             (unsigned)rdma_soft_qp_bytes(), (unsigned)sizeof(struct soft_send_wqe),
             (unsigned)sizeof(struct soft_recv_wqe), (unsigned)sizeof(struct rdma_wc));
    b.print(line);
    for (uint32_t i = 0; i < ARRAY_SIZE(cases); i++) {
        report(&cases[i]);
    }
}
