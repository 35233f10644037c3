/*
 * Connection management, and sleeping until something arrives.
 */
#include <stdio.h>
#include <string.h>
#include "hal/clock.h"
#include "sched/sched.h"
#include "tests/native/ibv_check.h"

#define CONNECTS 200

static struct pair pair;

static void test_connect_carries_private_data_and_addresses(void)
{
    static const struct pair_options options = {.reads = 3};
    struct net_addr self = rdma_ibv_addr(check_device());

    if (EXPECT(pair_open(&pair, check_device(), &options))) {
        EXPECT(pair.b.private_bytes == RDMA_CM_REQ_PRIVATE_BYTES);
        EXPECT(strcmp((const char *)pair.b.private_data, "request of the active side") == 0);
        EXPECT(pair.a.private_bytes == RDMA_CM_REP_PRIVATE_BYTES);
        EXPECT(strcmp((const char *)pair.a.private_data, "reply of the passive side") == 0);
        EXPECT(pair.a.responder_resources == 3 && pair.a.initiator_depth == 3);
        EXPECT(pair.b.responder_resources == 3 && pair.b.initiator_depth == 3);
        EXPECT(net_addr_equal(&pair.a.id->peer, &self) && net_addr_equal(&pair.a.id->local, &self));
        EXPECT(net_addr_equal(&pair.b.id->peer, &self));
        EXPECT(pair.a.id->peer_port == pair.b.id->local_port);
        EXPECT(pair.a.qp->state == RDMA_QP_RTS && pair.b.qp->state == RDMA_QP_RTS);
        EXPECT(pair.a.id->state == RDMA_CM_ESTABLISHED);
        EXPECT(pair.a.id->qp == pair.a.qp);
    }
    pair_close(&pair);
}

static void test_reject_carries_reason_and_data(void)
{
    static const struct pair_options options = {.refuse = true};

    EXPECT(!pair_open(&pair, check_device(), &options));
    EXPECT(pair.a.rejected && pair.a.reason == RDMA_CM_REJ_CONSUMER);
    EXPECT(pair.a.private_bytes == RDMA_CM_REJ_PRIVATE_BYTES);
    EXPECT(strcmp((const char *)pair.a.private_data, "not today") == 0);
    pair_close(&pair);
}

static void note_event(struct rdma_cm_id *id, const struct rdma_cm_event *event)
{
    struct side *side = id->ctx;

    side->resolved |= event->type == RDMA_CM_EVENT_RESOLVED;
    side->unreachable |= event->type == RDMA_CM_EVENT_UNREACHABLE;
    side->rejected |= event->type == RDMA_CM_EVENT_REJECTED;
    side->reason = event->reason;
}

static void test_nobody_listens(void)
{
    static const struct pair_options none;
    struct side *a = &pair.a;
    struct net_addr self = rdma_ibv_addr(check_device());

    pair = (struct pair){.device = check_device()};
    EXPECT(side_open(a, check_device(), &none, false));
    EXPECT(rdma_cm_resolve(check_device(), &self, 7999, note_event, a, &a->id) == STATUS_OK);
    struct rdma_cm_param param = {.qp = a->qp, .retry_count = 7, .rnr_retry_count = 7};
    EXPECT(rdma_cm_connect(a->id, &param) == STATUS_INVALID); /* too early */
    EXPECT(WAIT(a, NULL, a->resolved) && a->id->state == RDMA_CM_RESOLVED);
    EXPECT(rdma_cm_qp_init(a->id, a->qp, 0) == STATUS_OK && a->qp->state == RDMA_QP_INIT);
    EXPECT(post_recv(a, 1, 0, 64));
    param.private_bytes = RDMA_CM_REQ_PRIVATE_BYTES + 1;
    EXPECT(rdma_cm_connect(a->id, &param) == STATUS_INVALID);
    param.private_bytes = 0;
    EXPECT(rdma_cm_connect(a->id, &param) == STATUS_OK);
    EXPECT(WAIT(a, NULL, a->rejected) && a->reason == RDMA_CM_REJ_INVALID_SERVICE_ID);
    EXPECT(rdma_cm_disconnect(a->id) == STATUS_INVALID);
    side_close(a);
}

static void test_nobody_there(void)
{
    struct side *a = &pair.a;
    struct net_addr nobody = rdma_ibv_addr(check_device());

    /* A neighbour that does not exist. */
    nobody.bytes[15] ^= 0x40;
    *a = (struct side){0};
    EXPECT(rdma_cm_resolve(check_device(), &nobody, 7999, note_event, a, &a->id) == STATUS_OK);
    EXPECT(WAIT(NULL, NULL, a->unreachable));
    rdma_cm_destroy(a->id);
}

static void test_two_listeners_need_two_ports(void)
{
    static const struct net_addr any;
    struct rdma_cm_id *first = NULL;
    struct rdma_cm_id *second = NULL;

    EXPECT(rdma_cm_listen(check_device(), &any, 7500, 8, note_event, &pair.a, &first) == STATUS_OK);
    EXPECT(first->state == RDMA_CM_LISTEN && first->local_port == 7500);
    EXPECT(rdma_cm_listen(check_device(), &any, 7500, 8, note_event, &pair.a, &second) ==
           STATUS_EXISTS);
    EXPECT(rdma_cm_listen(check_device(), &any, 7501, 65, note_event, &pair.a, &second) ==
           STATUS_INVALID);
    EXPECT(rdma_cm_listen(check_device(), &any, 7501, 1, note_event, &pair.a, &second) ==
           STATUS_OK);
    rdma_cm_destroy(first);
    rdma_cm_destroy(second);
}

/* --- ends ------------------------------------------------------------------------------------- */

static void test_disconnect_flushes_both_ends(void)
{
    struct rdma_wc wc;

    if (EXPECT(pair_open(&pair, check_device(), NULL))) {
        EXPECT(post_recv(&pair.a, 1, 0, 64) && post_recv(&pair.b, 2, 0, 64));
        EXPECT(rdma_cm_disconnect(pair.b.id) == STATUS_OK);
        EXPECT(pair.b.qp->state == RDMA_QP_ERR);
        EXPECT(WAIT(&pair.a, &pair.b, pair.a.disconnected && pair.b.disconnected));
        EXPECT(pair.a.qp->state == RDMA_QP_ERR);
        EXPECT(take_status(&pair, &pair.a, RDMA_WC_WR_FLUSH_ERR, &wc));
        EXPECT(take_status(&pair, &pair.b, RDMA_WC_WR_FLUSH_ERR, &wc));
        EXPECT(rdma_cm_disconnect(pair.b.id) == STATUS_INVALID);
        EXPECT(WAIT(&pair.a, &pair.b, pair.a.timewait_exit && pair.b.timewait_exit));
        EXPECT(pair.a.id->state == RDMA_CM_DEAD && pair.b.id->state == RDMA_CM_DEAD);
    }
    pair_close(&pair);
}

static void test_both_disconnect_at_once(void)
{
    if (EXPECT(pair_open(&pair, check_device(), NULL))) {
        EXPECT(rdma_cm_disconnect(pair.a.id) == STATUS_OK);
        EXPECT(rdma_cm_disconnect(pair.b.id) == STATUS_OK);
        EXPECT(WAIT(&pair.a, &pair.b, pair.a.disconnected && pair.b.disconnected));
    }
    pair_close(&pair);
}

static void test_destroy_of_a_connected_id_ends_the_peer(void)
{
    if (EXPECT(pair_open(&pair, check_device(), NULL))) {
        rdma_cm_destroy(pair.a.id);
        pair.a.id = NULL;
        EXPECT(WAIT(&pair.a, &pair.b, pair.b.disconnected));
        EXPECT(pair.b.qp->state == RDMA_QP_ERR && !pair.a.disconnected);
    }
    pair_close(&pair);
}

static void test_queue_pair_may_go_before_its_id(void)
{
    if (EXPECT(pair_open(&pair, check_device(), NULL))) {
        EXPECT(rdma_qp_destroy(pair.b.qp) == STATUS_OK);
        pair.b.qp = NULL;
        EXPECT(pair.b.id->qp == NULL);
        EXPECT(rdma_cm_disconnect(pair.a.id) == STATUS_OK);
        EXPECT(WAIT(&pair.a, &pair.b, pair.a.disconnected && pair.b.disconnected));
    }
    pair_close(&pair);
}

/* Each in time wait when the next begins; with data, so that each end knows the other. */
static void test_many_connects(void)
{
    uint64_t start_ms = now_ms();
    uint32_t done = 0;

    for (uint32_t i = 0; i < CONNECTS; i++) {
        struct rdma_wc wc;
        bool ok = pair_open(&pair, check_device(), NULL);
        if (ok) {
            fill(pair.a.buffer, 128, i);
            struct rdma_sge entry = sge(&pair.a, 0, 128);
            struct rdma_send_wr wr = {.opcode = RDMA_WR_SEND};
            ok = post_recv(&pair.b, 1, 0, 4096) && post_one(&pair.a, &wr, &entry) &&
                 take_status(&pair, &pair.b, RDMA_WC_SUCCESS, &wc) && filled(pair.b.buffer, 128, i);
        }
        pair_close(&pair);
        done += ok;
        if (!ok) {
            break;
        }
    }
    EXPECT(done == CONNECTS);
    printf("     %u connections in %llu ms\n", (unsigned)done,
           (unsigned long long)(now_ms() - start_ms));
}

/* --- sleeping --------------------------------------------------------------------------------- */

#define NAPS   10
#define NAP_NS (20 * NS_PER_MS)

static struct timer nap;
static struct poller sleeper;
static uint32_t sent;
static uint32_t received;
static uint32_t late; /* completions that came more than a second after they were caused */
static uint64_t sent_ns;

static void on_nap(struct timer *timer)
{
    struct rdma_sge entry = sge(&pair.a, 0, 64);
    struct rdma_send_wr wr = {.opcode = RDMA_WR_SEND};

    (void)timer;
    sent_ns = clock_now_ns();
    sent += post_recv(&pair.b, sent, 0, 64) && post_one(&pair.a, &wr, &entry);
}

static uint32_t sleeper_run(void *ctx)
{
    struct rdma_wc wc;

    (void)ctx;
    uint32_t count = rdma_cq_poll(pair.a.cq, &wc, 1);
    if (rdma_cq_poll(pair.b.cq, &wc, 1) == 0) {
        return count;
    }
    received++;
    late += clock_now_ns() - sent_ns > NS_PER_S;
    if (received == NAPS) {
        sched_stop();
    } else {
        timer_arm(&nap, clock_now_ns() + NAP_NS);
    }
    return count + 1;
}

/* Trusts that the device wakes the core. */
static uint64_t sleeper_arm(void *ctx, bool armed)
{
    (void)ctx;
    (void)armed;
    return UINT64_MAX;
}

static void test_completion_wakes_a_sleeping_core(void)
{
    sent = 0;
    received = 0;
    late = 0;
    if (EXPECT(pair_open(&pair, check_device(), NULL))) {
        uint64_t sleeps = sched_stats(0).sleep_count;
        sleeper = (struct poller){.name = "sleeper", .run = sleeper_run, .arm = sleeper_arm};
        sched_poller_add(&sleeper);
        timer_init(&nap, on_nap);
        timer_arm(&nap, clock_now_ns() + NAP_NS);
        sched_run();
        sched_poller_remove(&sleeper);
        EXPECT(sent == NAPS && received == NAPS && late == 0);
        EXPECT(sched_stats(0).sleep_count - sleeps >= NAPS);
    }
    pair_close(&pair);
}

const struct check_test check_cm_tests[] = {
    {"connect_carries_private_data_and_addresses", test_connect_carries_private_data_and_addresses},
    {"reject_carries_reason_and_data", test_reject_carries_reason_and_data},
    {"nobody_listens", test_nobody_listens},
    {"nobody_there", test_nobody_there},
    {"two_listeners_need_two_ports", test_two_listeners_need_two_ports},
    {"disconnect_flushes_both_ends", test_disconnect_flushes_both_ends},
    {"both_disconnect_at_once", test_both_disconnect_at_once},
    {"destroy_of_a_connected_id_ends_the_peer", test_destroy_of_a_connected_id_ends_the_peer},
    {"queue_pair_may_go_before_its_id", test_queue_pair_may_go_before_its_id},
    {"many_connects", test_many_connects},
    {"completion_wakes_a_sleeping_core", test_completion_wakes_a_sleeping_core},
    {NULL, NULL},
};
