/* The rig's devices and objects, made and taken down (rdma/rig.h). */
#include "rdma/rig.h"

#include <stdlib.h>
#include "base/counter.h"
#include "sched/sched.h"

#define START_NS   (UINT64_C(100) * NS_PER_S)
#define TURNS_MAX  20000
#define IDLE_TURNS 4

struct rig rig;

static void *nif_memory;
static void *dev_memory;

/* What is to be taken down. */
struct made_qp {
    struct rdma_qp *qp;
    void *memory;
};
struct made_cq {
    struct rdma_cq *cq;
    void *memory;
};
static struct made_qp qps[RIG_QPS];
static struct made_cq cqs[RIG_QPS];
static struct rdma_srq *srqs[2];
static void *srq_memory[2];
static struct rdma_pd *pds[4];
static struct rdma_mr *mrs[RIG_MRS];
static struct rdma_key *keys[RIG_KEYS];
static struct rdma_ah *ahs[RIG_AHS];

/* --- start ------------------------------------------------------------------------------------ */

static void note_event(void *ctx, const struct rdma_event *event)
{
    (void)ctx;
    assert_true(rig.event_count < RIG_EVENTS);
    rig.events[rig.event_count++] = event->type;
    rig.last_event = *event;
}

static struct net_addr addr(const char *text)
{
    struct net_addr result;
    assert_true(net_addr_parse(text, &result));
    return result;
}

static void open_interface(void)
{
    struct net_if_config config = {
        .port = wire_port(rig.wire, 0),
        .addr_count = 2,
        .addrs = {{.addr = addr("192.0.2.1"), .prefix_bits = 24},
                  {.addr = addr("2001:db8::1"), .prefix_bits = 64}},
        .buf_count = 256,
        .big_buf_count = 16,
        .neighbor_count = 8,
    };
    uint64_t bytes = net_if_memory_bytes(&config);
    nif_memory = aligned_alloc(64, bytes);
    memset(nif_memory, 0x5a, bytes);
    assert_int_equal(net_if_init(nif_memory, &config, &rig.nif), STATUS_OK);
}

static void open_device(bool ecn)
{
    static const uint8_t seed[RNG_SEED_BYTES] = "a seed for tests, ever the same";
    assert_int_equal(rng_seed(&rig.rng, seed, sizeof(seed)), STATUS_OK);
    struct rdma_soft_config config = {
        .nif = rig.nif,
        .rng = &rig.rng,
        .name = "rig",
        .qp_count = RIG_QPS,
        .cq_count = RIG_QPS,
        .srq_count = ARRAY_SIZE(srqs),
        .pd_count = ARRAY_SIZE(pds),
        .mr_count = RIG_MRS,
        .key_count = RIG_KEYS,
        .ah_count = RIG_AHS,
        .ecn = ecn,
    };
    uint64_t bytes = rdma_soft_memory_bytes(&config);
    dev_memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    memset(dev_memory, 0x5a, bytes);
    assert_int_equal(rdma_soft_init(dev_memory, &config, &rig.dev), STATUS_OK);
    rig.dev->event = note_event;
}

static void open_all(bool ecn)
{
    native_clock_set(START_NS);
    sched_init(1, SCHED_IDLE_POLL);
    memset(&rig, 0, sizeof(rig));
    memset(qps, 0, sizeof(qps)); /* what a test that failed has left */
    memset(cqs, 0, sizeof(cqs));
    memset(srqs, 0, sizeof(srqs));
    memset(pds, 0, sizeof(pds));
    memset(mrs, 0, sizeof(mrs));
    memset(keys, 0, sizeof(keys));
    memset(ahs, 0, sizeof(ahs));
    rig.inbox_end = &rig.inbox;
    rig.wire = wire_open(&(struct wire_config){.port_count = 2, .mtu_bytes = RIG_MTU, .seed = 1});
    open_interface();
    open_device(ecn);
    rig.memory = aligned_alloc(4096, RIG_MEMORY_BYTES);
    memset(rig.memory, 0xee, RIG_MEMORY_BYTES);
    for (uint32_t i = 0; i < 80; i++) { /* announcements are over */
        native_clock_advance(50 * NS_PER_MS);
        rig_turn();
    }
    peer_drain();
    rig.pd = rig_pd();
    rig.cq = rig_cq(RIG_CQES);
    rig.recv_cq = rig_cq(RIG_CQES);
    rig.mr = rig_mr(rig.pd, 0, RIG_MEMORY_BYTES, ALL);
}

int rig_setup(void **state)
{
    (void)state;
    open_all(true);
    return 0;
}

int rig_setup_no_ecn(void **state)
{
    (void)state;
    open_all(false);
    return 0;
}

/* --- end -------------------------------------------------------------------------------------- */

static void destroy_keys(void)
{
    for (uint32_t i = 0; i < RIG_KEYS; i++) {
        if (keys[i] != NULL) {
            rdma_key_invalidate(keys[i]);
            assert_int_equal(rdma_key_free(keys[i]), STATUS_OK);
            keys[i] = NULL;
        }
    }
    for (uint32_t i = 0; i < RIG_MRS; i++) {
        if (mrs[i] != NULL) {
            rig_mr_dereg(mrs[i]);
        }
    }
}

static void destroy_queues(void)
{
    for (uint32_t i = 0; i < ARRAY_SIZE(srqs); i++) {
        if (srqs[i] != NULL) {
            assert_int_equal(rdma_srq_destroy(srqs[i]), STATUS_OK);
            free(srq_memory[i]);
            srqs[i] = NULL;
        }
    }
    for (uint32_t i = 0; i < RIG_QPS; i++) {
        if (cqs[i].cq != NULL) {
            assert_int_equal(rdma_cq_destroy(cqs[i].cq), STATUS_OK);
            free(cqs[i].memory);
            cqs[i].cq = NULL;
        }
    }
}

static void destroy_all(void)
{
    for (uint32_t i = 0; i < RIG_QPS; i++) {
        if (qps[i].qp != NULL) {
            rig_qp_destroy(qps[i].qp);
        }
    }
    for (uint32_t i = 0; i < RIG_AHS; i++) {
        if (ahs[i] != NULL) {
            rdma_ah_destroy(ahs[i]);
            ahs[i] = NULL;
        }
    }
    destroy_keys();
    destroy_queues();
    for (uint32_t i = 0; i < ARRAY_SIZE(pds); i++) {
        if (pds[i] != NULL) {
            assert_int_equal(rdma_pd_free(pds[i]), STATUS_OK);
            pds[i] = NULL;
        }
    }
}

/* Of what open_all() has opened, the objects are destroyed. */
static void close_all(void)
{
    wire_close(rig.wire);
    free(rig.memory);
    free(dev_memory);
    free(nif_memory);
}

int rig_teardown(void **state)
{
    (void)state;
    wire_hold_reap(rig.wire, false);
    rig_advance(NS_PER_MS);
    destroy_all();
    rig_advance(NS_PER_MS);
    peer_drain();
    bool is_quiet =
        rdma_soft_is_quiet(rig.dev) && net_if_is_quiet(rig.nif) && wire_is_quiet(rig.wire);
    close_all();
    native_clock_use_real();
    return is_quiet ? 0 : -1;
}

/* --- time ------------------------------------------------------------------------------------- */

static void inbox_put(const uint8_t *frame, uint32_t len)
{
    struct pkt *pkt = malloc(sizeof(*pkt));
    if (!pkt_parse(frame, len, pkt)) {
        free(pkt);
        return;
    }
    pkt->next = NULL;
    *rig.inbox_end = pkt;
    rig.inbox_end = &pkt->next;
}

/* Takes what arrived; true: there was something. */
static bool peer_look(void)
{
    static uint8_t frame[PKT_FRAME_MAX];
    uint8_t answer[128];
    bool any = false;

    for (;;) {
        uint32_t len = wire_take(rig.wire, RIG_PORT, frame, sizeof(frame));
        if (len == 0) {
            return any;
        }
        assert_true(len <= sizeof(frame));
        any = true;
        inbox_put(frame, len);
        uint32_t answer_len = rig.is_deaf ? 0 : peer_answer(frame, len, answer);
        if (answer_len != 0) {
            wire_inject(rig.wire, 0, answer, answer_len);
        }
    }
}

void rig_turn(void)
{
    uint32_t idle = 0;

    for (uint32_t i = 0; i < TURNS_MAX && idle < IDLE_TURNS; i++) {
        bool moved = sched_turn() != 0;
        moved = peer_look() || moved;
        idle = moved ? 0 : idle + 1;
    }
    assert_int_equal(idle, IDLE_TURNS);
}

void rig_advance(uint64_t duration_ns)
{
    uint64_t step_ns = duration_ns / 64;

    step_ns = step_ns < 20 * NS_PER_US ? 20 * NS_PER_US : step_ns;
    step_ns = step_ns > 50 * NS_PER_MS ? 50 * NS_PER_MS : step_ns;
    while (duration_ns > 0) {
        uint64_t now_ns = step_ns < duration_ns ? step_ns : duration_ns;
        native_clock_advance(now_ns);
        rig_turn();
        duration_ns -= now_ns;
    }
}

/* --- objects ---------------------------------------------------------------------------------- */

struct rdma_pd *rig_pd(void)
{
    for (uint32_t i = 0; i < ARRAY_SIZE(pds); i++) {
        if (pds[i] == NULL) {
            assert_int_equal(rdma_pd_alloc(rig.dev, (uint16_t)i, &pds[i]), STATUS_OK);
            return pds[i];
        }
    }
    fail_msg("no room for a domain");
    return NULL;
}

struct rdma_cq *rig_host_cq(struct rdma_pd *pd, uint32_t entries, uint8_t **memory)
{
    uint32_t i = 0;
    while (cqs[i].cq != NULL) {
        assert_true(++i < RIG_QPS);
    }
    uint64_t bytes = rdma_cq_memory_bytes(rig.dev, entries);
    cqs[i].memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    struct rdma_cq_attr attr = {.entry_count = entries, .memory = cqs[i].memory, .host_pd = pd};
    assert_int_equal(rdma_cq_create(rig.dev, &attr, &cqs[i].cq), STATUS_OK);
    *memory = cqs[i].memory;
    return cqs[i].cq;
}

struct rdma_cq *rig_cq(uint32_t entries)
{
    uint8_t *memory;
    return rig_host_cq(NULL, entries, &memory);
}

struct rdma_srq *rig_srq(uint32_t entries, uint32_t limit)
{
    uint32_t i = srqs[0] == NULL ? 0 : 1;
    assert_null(srqs[i]);
    uint64_t bytes = rdma_srq_memory_bytes(rig.dev, entries);
    srq_memory[i] = aligned_alloc(64, (bytes + 63) / 64 * 64);
    struct rdma_srq_attr attr = {
        .pd = rig.pd, .wr_count = entries, .limit = limit, .memory = srq_memory[i]};
    assert_int_equal(rdma_srq_create(&attr, &srqs[i]), STATUS_OK);
    return srqs[i];
}

static struct rdma_mr *mr_reg(struct rdma_pd *pd, const struct rdma_mr_attr *attr)
{
    uint32_t i = 0;
    while (mrs[i] != NULL) {
        assert_true(++i < RIG_MRS);
    }
    assert_int_equal(rdma_mr_reg(pd, attr, &mrs[i]), STATUS_OK);
    return mrs[i];
}

struct rdma_mr *rig_mr(struct rdma_pd *pd, uint32_t offset, uint32_t len, uint32_t access)
{
    struct rdma_mr_attr attr = {
        .kind = RDMA_MR_NIC, .access = access, .memory = rig.memory + offset, .len_bytes = len};
    return mr_reg(pd, &attr);
}

struct rdma_mr *rig_mr_host(struct pcie_ep_view *view, uint64_t host_addr, uint64_t len)
{
    struct rdma_mr_attr attr = {.kind = RDMA_MR_HOST,
                                .access = ALL,
                                .view = view,
                                .host_addr = host_addr,
                                .len_bytes = len};
    return mr_reg(rig.pd, &attr);
}

void rig_mr_dereg(struct rdma_mr *mr)
{
    uint32_t i = 0;
    while (mrs[i] != mr) {
        assert_true(++i < RIG_MRS);
    }
    assert_int_equal(rdma_mr_dereg(mr), STATUS_OK);
    mrs[i] = NULL;
}

struct rdma_key *rig_key(struct rdma_pd *pd)
{
    uint32_t i = 0;
    while (keys[i] != NULL) {
        assert_true(++i < RIG_KEYS);
    }
    assert_int_equal(rdma_key_alloc(pd, &keys[i]), STATUS_OK);
    return keys[i];
}

static struct rdma_av av_of(bool is_ipv6)
{
    return (struct rdma_av){.dgid = addr(is_ipv6 ? "2001:db8::2" : "192.0.2.2"),
                            .sgid_index = is_ipv6 ? 2 : 1};
}

struct rdma_ah *rig_ah(bool is_ipv6)
{
    struct rdma_av av = av_of(is_ipv6);
    uint32_t i = 0;
    while (ahs[i] != NULL) {
        assert_true(++i < RIG_AHS);
    }
    assert_int_equal(rdma_ah_create(rig.pd, &av, &ahs[i]), STATUS_OK);
    rig_turn();
    return ahs[i];
}

static uint8_t or_default(uint8_t value, uint8_t by_default)
{
    return value == 0 ? by_default : value == 255 ? 0 : value;
}

struct rdma_qp_attr rig_qp_attr(const struct rig_qp_options *options)
{
    static const struct rig_qp_options defaults;
    const struct rig_qp_options *o = options == NULL ? &defaults : options;

    return (struct rdma_qp_attr){
        .access = or_default(o->access, RDMA_ACCESS_REMOTE_READ | RDMA_ACCESS_REMOTE_WRITE),
        .path_mtu = o->mtu == 0 ? RDMA_MTU_1024 : (uint8_t)o->mtu,
        .timeout = or_default(o->timeout, TIMEOUT),
        .retry_cnt = or_default(o->retry_cnt, RETRIES),
        .rnr_retry = or_default(o->rnr_retry, RETRIES),
        .max_rd_atomic = or_default(o->rd_atomic, 4),
        .max_dest_rd_atomic = or_default(o->dest_rd_atomic, 4),
        .min_rnr_timer = RNR_TIMER,
        .qkey = 0x11112222,
        .rq_psn = o->rq_psn == 0 ? RQ_PSN : o->rq_psn,
        .sq_psn = o->sq_psn == 0 ? SQ_PSN : o->sq_psn,
        .dest_qpn = PEER_QPN,
        .av = av_of(o->is_ipv6),
    };
}

static uint32_t or_count(uint32_t value, uint32_t by_default)
{
    return value == 0 ? by_default : value;
}

struct rdma_qp *rig_qp_create(enum rdma_qp_type type, const struct rig_qp_options *options)
{
    static const struct rig_qp_options defaults;
    const struct rig_qp_options *o = options == NULL ? &defaults : options;
    uint32_t i = 0;
    while (qps[i].qp != NULL) {
        assert_true(++i < RIG_QPS);
    }
    struct rdma_qp_init_attr attr = {
        .type = type,
        .pd = o->pd != NULL ? o->pd : rig.pd,
        .send_cq = o->send_cq != NULL ? o->send_cq : rig.cq,
        .recv_cq = o->recv_cq != NULL ? o->recv_cq : rig.recv_cq,
        .srq = o->srq,
        .send_wr_count = or_count(o->send_wrs, RIG_WRS),
        .recv_wr_count = o->srq != NULL ? 0 : or_count(o->recv_wrs, RIG_WRS),
        .send_sge_count = 4,
        .recv_sge_count = 4,
        .signal_all = o->signal_all,
        .host_recv = o->host_recv,
    };
    uint64_t bytes = rdma_qp_memory_bytes(&attr);
    qps[i].memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    memset(qps[i].memory, 0x5a, bytes);
    attr.memory = qps[i].memory;
    assert_int_equal(rdma_qp_create(&attr, &qps[i].qp), STATUS_OK);
    if (rig.qp == NULL) {
        rig.qp = qps[i].qp;
    }
    return qps[i].qp;
}

struct rdma_qp *rig_qp(const struct rig_qp_options *options)
{
    struct rdma_qp *qp = rig_qp_create(RDMA_QP_RC, options);
    enum rdma_qp_state state =
        options == NULL || options->state == RDMA_QP_RESET ? RDMA_QP_RTS : options->state;
    struct rdma_qp_attr attr = rig_qp_attr(options);

    attr.state = RDMA_QP_INIT;
    assert_int_equal(rdma_qp_modify(qp, &attr, RDMA_QP_STATE | RDMA_QP_ACCESS), STATUS_OK);
    if (state >= RDMA_QP_RTR) {
        attr.state = RDMA_QP_RTR;
        assert_int_equal(rdma_qp_modify(qp, &attr, RTR_MASK), STATUS_OK);
        rig_turn();
    }
    if (state >= RDMA_QP_RTS) {
        attr.state = RDMA_QP_RTS;
        assert_int_equal(rdma_qp_modify(qp, &attr, RTS_MASK), STATUS_OK);
    }
    if (state > RDMA_QP_RTS) {
        assert_int_equal(rig_qp_to(qp, state), STATUS_OK);
    }
    rig_turn();
    peer_drain();
    return qp;
}

enum status rig_qp_to(struct rdma_qp *qp, enum rdma_qp_state state)
{
    struct rdma_qp_attr attr = {.state = (uint8_t)state};
    return rdma_qp_modify(qp, &attr, RDMA_QP_STATE);
}

void rig_qp_destroy(struct rdma_qp *qp)
{
    uint32_t i = 0;
    while (qps[i].qp != qp) {
        assert_true(++i < RIG_QPS);
    }
    enum status status = rdma_qp_destroy(qp);
    if (status == STATUS_AGAIN) {
        rig_turn();
        status = rdma_qp_destroy(qp);
    }
    assert_int_equal(status, STATUS_OK);
    free(qps[i].memory);
    qps[i].qp = NULL;
    if (rig.qp == qp) {
        rig.qp = NULL;
    }
}

struct rdma_qp_info rig_info(const struct rdma_qp *qp)
{
    struct rdma_qp_info info;
    rdma_qp_query(qp, &info);
    return info;
}

uint64_t rig_stat(const _Atomic uint64_t *stat)
{
    return counter_get(stat);
}
