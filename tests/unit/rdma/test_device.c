/* The device itself: configuration, what it offers on which port, names, when its core may sleep.
 * */
#include "rdma/rig.h"

#include <stdlib.h>
#include "sched/sched.h"

/* A device on a port of its own, beside the rig's. */
struct second {
    struct wire *wire;
    void *nif_memory;
    struct net_if *nif;
    void *memory;
    struct rdma_device *dev;
};

static void second_open(struct second *s, uint16_t mtu_bytes)
{
    struct net_if_config config = {
        .addr_count = 0, .buf_count = 16, .big_buf_count = 1, .neighbor_count = 4};
    s->wire = wire_open(&(struct wire_config){.port_count = 1, .mtu_bytes = mtu_bytes});
    static const uint8_t seed[RNG_SEED_BYTES] = {1};
    assert_int_equal(rng_seed(&rig.rng, seed, sizeof(seed)), STATUS_OK);
    sched_init(1, SCHED_IDLE_POLL);
    config.port = wire_port(s->wire, 0);
    s->nif_memory = aligned_alloc(64, (net_if_memory_bytes(&config) + 63) / 64 * 64);
    assert_int_equal(net_if_init(s->nif_memory, &config, &s->nif), STATUS_OK);
}

static struct rdma_soft_config config_of(struct net_if *nif)
{
    return (struct rdma_soft_config){.nif = nif,
                                     .rng = &rig.rng,
                                     .name = "second",
                                     .qp_count = 1,
                                     .cq_count = 1,
                                     .srq_count = 0,
                                     .pd_count = 1,
                                     .mr_count = 1,
                                     .key_count = 1,
                                     .ah_count = 1};
}

static enum status second_init(struct second *s, const struct rdma_soft_config *config)
{
    s->memory = aligned_alloc(64, (rdma_soft_memory_bytes(config) + 63) / 64 * 64);
    return rdma_soft_init(s->memory, config, &s->dev);
}

/* IBA 9.2, A17: the largest path MTU whose packets fit, with all headers that they may have. */
static void device_offers_the_largest_path_mtu_of_each_port(void **state)
{
    (void)state;
    const struct {
        uint16_t port;
        uint8_t mtu;
    } rows[] = {{1280, RDMA_MTU_1024}, {1500, RDMA_MTU_1024}, {2131, RDMA_MTU_1024},
                {2132, RDMA_MTU_2048}, {4179, RDMA_MTU_2048}, {4180, RDMA_MTU_4096},
                {9000, RDMA_MTU_4096}};
    for (uint32_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct second s = {0};
        second_open(&s, rows[i].port);
        struct rdma_soft_config config = config_of(s.nif);
        assert_int_equal(second_init(&s, &config), STATUS_OK);
        assert_int_equal(s.dev->attr.path_mtu_max, rows[i].mtu);
        assert_int_equal(s.dev->attr.rd_atomic_max, RDMA_SOFT_READS);
        assert_true(rdma_soft_is_quiet(s.dev));
        free(s.memory);
        free(s.nif_memory);
        wire_close(s.wire);
    }
}

static void device_with_a_value_out_of_range_is_refused(void **state)
{
    (void)state;
    struct second s = {0};
    static struct rng unseeded;
    second_open(&s, 1500);
    struct rdma_soft_config good = config_of(s.nif);
    struct rdma_soft_config bad[12];
    for (uint32_t i = 0; i < ARRAY_SIZE(bad); i++) {
        bad[i] = good;
    }
    bad[0].nif = NULL;
    bad[1].rng = NULL;
    bad[2].rng = &unseeded;
    bad[3].qp_count = 0;
    bad[4].qp_count = 16385;
    bad[5].cq_count = 0;
    bad[6].cq_count = 16385;
    bad[7].pd_count = 0;
    bad[8].ah_count = 0;
    bad[9].srq_count = 16385;
    bad[10].mr_count = 65536;
    bad[11].key_count = 65536;
    for (uint32_t i = 0; i < ARRAY_SIZE(bad); i++) {
        static uint8_t none[64];
        assert_int_equal(rdma_soft_init(none, &bad[i], &s.dev), STATUS_INVALID);
    }
    assert_int_equal(second_init(&s, &good), STATUS_OK);
    void *first = s.memory;
    assert_int_equal(second_init(&s, &good), STATUS_EXISTS); /* the port is taken */
    free(first);
    free(s.memory);
    free(s.nif_memory);
    wire_close(s.wire);
}

static void names_are_those_of_the_specification(void **state)
{
    (void)state;
    assert_string_equal(rdma_qp_state_name(RDMA_QP_RESET), "RESET");
    assert_string_equal(rdma_qp_state_name(RDMA_QP_ERR), "ERR");
    assert_string_equal(rdma_qp_state_name((enum rdma_qp_state)77), "?");
    assert_string_equal(rdma_wc_status_text(RDMA_WC_SUCCESS), "success");
    assert_string_equal(rdma_wc_status_text(RDMA_WC_GENERAL_ERR), "general error");
    assert_string_equal(rdma_wc_status_text((enum rdma_wc_status)99), "unknown status");
}

static void pd_beyond_the_pool_is_no_space(void **state)
{
    (void)state;
    struct rdma_pd *pd = NULL;
    for (uint32_t i = 1; i < 4; i++) {
        rig_pd();
    }
    assert_int_equal(rdma_pd_alloc(rig.dev, 9, &pd), STATUS_NO_SPACE);
}

/* Its own state, without the rings: a thousand of them are at home in 4 MiB. */
static void queue_pair_takes_at_most_4_kib(void **state)
{
    (void)state;
    assert_in_range(rdma_soft_qp_bytes(), 1, 4096);
}

/* 11.6.3.1 */
static void device_tells_of_the_link(void **state)
{
    (void)state;
    wire_port(rig.wire, 0)->link_up = false;
    rig_turn();
    expect_event(RDMA_EVENT_PORT_ERR);
    wire_port(rig.wire, 0)->link_up = true;
    rig_turn();
    expect_event(RDMA_EVENT_PORT_ACTIVE);
    rig_advance(4 * NS_PER_S); /* announcements */
}

/* --- sleep: what the poller says before the core does ----------------------------------------- */

static uint64_t shortest_sleep;

static void ask(const struct poller *poller, void *ctx)
{
    (void)ctx;
    if (strcmp(poller->name, "rdma") == 0) {
        shortest_sleep = poller->arm(poller->ctx, true);
        (void)poller->arm(poller->ctx, false);
    }
}

static uint64_t may_sleep_ns(void)
{
    shortest_sleep = 1;
    sched_visit_pollers(0, ask, NULL);
    assert_int_not_equal(shortest_sleep, 1);
    return shortest_sleep;
}

/* Idle, or waiting for the peer: as long as it likes, timers and frames wake it. */
static void core_of_an_idle_device_may_sleep(void **state)
{
    (void)state;
    rig_qp(NULL);
    assert_true(may_sleep_ns() == UINT64_MAX);
    post(1, RDMA_WR_SEND, 0, 1000);
    post(2, RDMA_WR_RDMA_READ, 0, 1000);
    assert_true(may_sleep_ns() == UINT64_MAX);
    peer_nak(SQ_PSN, RNR_SYNDROME | 0);
    assert_true(may_sleep_ns() == UINT64_MAX);
    peer_drain();
}

static void core_of_a_device_with_work_may_not_sleep(void **state)
{
    (void)state;
    rig_qp(NULL);
    assert_int_equal(rdma_post_send(rig.qp, &send_wr(1, RDMA_WR_SEND, 0, 8)->wr, NULL), STATUS_OK);
    assert_int_equal(may_sleep_ns(), 0);
    rig_turn();
    peer_drain();
    assert_int_equal(rig_qp_to(rig.qp, RDMA_QP_SQD), STATUS_OK);
    rig_turn();
    peer_ack(SQ_PSN);
    assert_true(may_sleep_ns() == UINT64_MAX); /* the event was delivered */
    take_events();
    expect_wc(1, RDMA_WC_SUCCESS);
}

/* Completions wait for frames: a look now and then. */
static void core_that_waits_for_frames_looks_now_and_then(void **state)
{
    (void)state;
    rig_qp(NULL);
    wire_hold_reap(rig.wire, true);
    post(1, RDMA_WR_SEND, 0, 1000);
    peer_drain();
    peer_ack(SQ_PSN);
    uint64_t sleep_ns = may_sleep_ns();
    assert_in_range(sleep_ns, 1, NS_PER_MS);
    wire_hold_reap(rig.wire, false);
    rig_turn();
    expect_wc(1, RDMA_WC_SUCCESS);
    assert_true(may_sleep_ns() == UINT64_MAX);
}

/* No way to the peer, a READ of his to be answered: nothing spins, before and after it is known. */
static void core_without_a_way_to_the_peer_may_sleep(void **state)
{
    (void)state;
    rig.is_deaf = true;
    rig_qp(&(struct rig_qp_options){.timeout = 255});
    post(1, RDMA_WR_SEND, 0, 8);
    assert_true(may_sleep_ns() == UINT64_MAX);
    rig_advance(5 * NS_PER_S);
    assert_true(may_sleep_ns() != 0);
    peer_send(pkt_rdma(READ_REQUEST, RQ_PSN, 0, addr_at(0), rig.mr->rkey, 8));
    peer_send(pkt(SEND_ONLY, RQ_PSN + 1, 8));
    assert_true(may_sleep_ns() != 0); /* the acknowledgement waits behind the READ */
    rig_advance(5 * NS_PER_S);
    assert_true(may_sleep_ns() != 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(names_are_those_of_the_specification),
        RIG_TEST(pd_beyond_the_pool_is_no_space),
        cmocka_unit_test(queue_pair_takes_at_most_4_kib),
        RIG_TEST(device_tells_of_the_link),
        RIG_TEST(core_of_an_idle_device_may_sleep),
        RIG_TEST(core_of_a_device_with_work_may_not_sleep),
        RIG_TEST(core_that_waits_for_frames_looks_now_and_then),
        RIG_TEST(core_without_a_way_to_the_peer_may_sleep),
        cmocka_unit_test(device_offers_the_largest_path_mtu_of_each_port),
        cmocka_unit_test(device_with_a_value_out_of_range_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
