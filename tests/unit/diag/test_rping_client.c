/*
 * rping's client of ours against our server, and against one that is written out in the test.
 */
#include "hal/clock.h"
#include "hal/native/native.h"
#include "tests/unit/diag/rping_rig.h"

/* --- against our server -------------------------------------------------------------------- */

static void client_pings_own_server_data_come_back(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {DIAG_RPING_LOW_BYTES, 64, 65, 4096, DIAG_RPING_HIGH_BYTES};
    struct diag_rping_client *client = rping_client_new();
    for (uint32_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct rping_outcome outcome;
        struct diag_rping_run run = rping_run_of(&outcome, 130, sizes[i]);
        assert_int_equal(diag_rping_client_start(client, &run), STATUS_OK);
        assert_int_equal(diag_rping_client_start(client, &run), STATUS_AGAIN);
        rig_turns(3000);
        assert_int_equal(outcome.count, 1);
        assert_int_equal(outcome.result.end, DIAG_RPING_DONE);
        assert_int_equal(outcome.result.pings, 130);
        assert_int_equal(outcome.result.mismatches, 0);
        assert_true(outcome.result.low_ns <= outcome.result.high_ns);
        assert_true(outcome.result.sum_ns >= outcome.result.high_ns);
    }
    assert_int_equal(RPING_STAT(connections), ARRAY_SIZE(sizes));
    assert_int_equal(RPING_STAT(pings), 130 * ARRAY_SIZE(sizes));
    assert_int_equal(RPING_STAT(mismatches), 0);
    assert_int_equal(RPING_STAT(protocol_errors), 0);
}

static void server_serves_several_clients_at_once(void **state)
{
    (void)state;
    struct diag_rping_client *clients[3];
    struct rping_outcome outcomes[3];
    for (uint32_t i = 0; i < 3; i++) {
        clients[i] = rping_client_new();
        struct diag_rping_run run = rping_run_of(&outcomes[i], 20 + i, 64 + 1000 * i);
        assert_int_equal(diag_rping_client_start(clients[i], &run), STATUS_OK);
    }
    rig_turns(1000);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(outcomes[i].result.end, DIAG_RPING_DONE);
        assert_int_equal(outcomes[i].result.pings, 20 + i);
        assert_int_equal(outcomes[i].result.mismatches, 0);
    }
    assert_int_equal(RPING_STAT(pings), 63);
}

static void client_and_server_full_queues_are_tried_again(void **state)
{
    (void)state;
    struct diag_rping_client *client = rping_client_new();
    for (uint32_t again = 1; again < 20; again++) {
        struct rping_outcome outcome;
        struct diag_rping_run run = rping_run_of(&outcome, 3, 64);
        assert_int_equal(diag_rping_client_start(client, &run), STATUS_OK);
        rig_turns(3);
        fake_rdma_faults.post_again = again;
        fake_rdma_faults.destroy_again = again;
        rig_turns(200);
        assert_int_equal(outcome.result.end, DIAG_RPING_DONE);
        assert_int_equal(outcome.result.pings, 3);
        fake_rdma_faults.destroy_again = 0;
        rig_turns(10);
        assert_int_equal(fake_rdma_qp_count(), 0);
    }
}

static void client_without_server_is_rejected_or_unreachable(void **state)
{
    (void)state;
    struct diag_rping_client *client = rping_client_new();
    struct rping_outcome outcome;
    struct diag_rping_run run = rping_run_of(&outcome, 1, 64);
    run.port = 1;
    assert_int_equal(diag_rping_client_start(client, &run), STATUS_OK);
    rig_turns(20);
    assert_int_equal(outcome.result.end, DIAG_RPING_REJECTED);
    run = rping_run_of(&outcome, 1, 64);
    run.addr = FAKE_UNREACHABLE;
    assert_int_equal(diag_rping_client_start(client, &run), STATUS_OK);
    rig_turns(20);
    assert_int_equal(outcome.count, 1);
    assert_int_equal(outcome.result.end, DIAG_RPING_UNREACHABLE);
}

static void client_values_out_of_range_are_invalid(void **state)
{
    (void)state;
    struct diag_rping_client *client = rping_client_new();
    struct rping_outcome outcome;
    struct diag_rping_run run = rping_run_of(&outcome, 0, 64);
    assert_int_equal(diag_rping_client_start(client, &run), STATUS_INVALID);
    run = rping_run_of(&outcome, 1, DIAG_RPING_LOW_BYTES - 1);
    assert_int_equal(diag_rping_client_start(client, &run), STATUS_INVALID);
    run = rping_run_of(&outcome, 1, DIAG_RPING_HIGH_BYTES + 1);
    assert_int_equal(diag_rping_client_start(client, &run), STATUS_INVALID);
}

static void client_stopped_at_any_turn_gives_all_back(void **state)
{
    (void)state;
    struct diag_rping_client *client = rping_client_new();
    for (uint32_t at = 0; at < 40; at++) {
        struct rping_outcome outcome;
        struct diag_rping_run run = rping_run_of(&outcome, 1000, 64);
        assert_int_equal(diag_rping_client_start(client, &run), STATUS_OK);
        rig_turns(at);
        diag_rping_client_stop(client);
        rig_turns(20);
        assert_int_equal(outcome.count, 1);
        assert_int_equal(outcome.result.end, DIAG_RPING_DISCONNECTED);
        assert_true(diag_rping_is_quiet(rping_server));
        assert_true(fake_rdma_is_quiet(1));
    }
}

/* --- a server in the test's hands ---------------------------------------------------------- */

#define OTHER_PORT 99
static struct rping_peer other;

static void other_event(struct rdma_cm_id *id, const struct rdma_cm_event *event)
{
    if (event->type == RDMA_CM_EVENT_REQUEST) {
        struct rdma_cm_param param = {.qp = other.qp};
        other.id = id;
        id->ctx = &other;
        assert_int_equal(rdma_cm_qp_init(id, other.qp, 0), STATUS_OK);
        rping_peer_recv(&other);
        rping_peer_recv(&other);
        assert_int_equal(rdma_cm_accept(id, &param), STATUS_OK);
    }
}

static struct rdma_cm_id *other_listen(void)
{
    struct rdma_cm_id *listener;
    struct net_addr any = {{0}};
    rping_peer_make(&other);
    assert_int_equal(rdma_cm_listen(rig_device, &any, OTHER_PORT, 1, other_event, NULL, &listener),
                     STATUS_OK);
    return listener;
}

/* Starts a client of ours on it. */
static struct rdma_cm_id *other_run(struct diag_rping_client *client, struct rping_outcome *outcome,
                                    uint32_t count)
{
    struct rdma_cm_id *listener = other_listen();
    struct diag_rping_run run = rping_run_of(outcome, count, 64);
    run.port = OTHER_PORT;
    assert_int_equal(diag_rping_client_start(client, &run), STATUS_OK);
    return listener;
}

static void client_silent_server_is_given_up_in_time(void **state)
{
    (void)state;
    struct diag_rping_client *client = rping_client_new();
    struct rping_outcome outcome;
    struct rdma_cm_id *listener = other_run(client, &outcome, 5);
    rig_turns(20);
    native_clock_advance(90 * NS_PER_MS);
    rig_turns(20);
    assert_int_equal(outcome.count, 0);
    native_clock_advance(20 * NS_PER_MS);
    rig_turns(20);
    assert_int_equal(outcome.result.end, DIAG_RPING_TIMED_OUT);
    assert_int_equal(outcome.result.pings, 0);
    rping_peer_leave(&other);
    rdma_cm_destroy(listener);
}

/* Go-aheads without the data: each ping is a mismatch, and counted. */
static void client_data_that_do_not_come_back_are_mismatches(void **state)
{
    (void)state;
    struct diag_rping_client *client = rping_client_new();
    struct rping_outcome outcome;
    struct rdma_cm_id *listener = other_run(client, &outcome, 5);
    for (uint32_t i = 0; i < 10; i++) {
        rig_turns(10);
        assert_true(rping_peer_told(&other));
        rping_peer_recv(&other);
        rping_peer_send(&other, sizeof(other.info));
    }
    rig_turns(10);
    assert_int_equal(outcome.result.end, DIAG_RPING_DONE);
    assert_int_equal(outcome.result.pings, 5);
    assert_int_equal(outcome.result.mismatches, 5);
    rping_peer_leave(&other);
    rdma_cm_destroy(listener);
}

/* More go-aheads than asked for do not run past the end, and a server that goes is noticed. */
static void client_server_that_sends_too_much_or_leaves_is_survived(void **state)
{
    (void)state;
    struct diag_rping_client *client = rping_client_new();
    struct rping_outcome outcome;
    struct rdma_cm_id *listener = other_run(client, &outcome, 3);
    rig_turns(10);
    for (uint32_t i = 0; i < 10; i++) {
        rping_peer_send(&other, 16);
    }
    rig_turns(50);
    assert_int_equal(outcome.count, 1);
    rping_peer_leave(&other);
    rdma_cm_destroy(listener);

    listener = other_run(client, &outcome, 3);
    rig_turns(10);
    rping_peer_leave(&other);
    rig_turns(10);
    assert_int_equal(outcome.result.end, DIAG_RPING_DISCONNECTED);
    rdma_cm_destroy(listener);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rping_setup, rping_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(client_pings_own_server_data_come_back),
        TEST(server_serves_several_clients_at_once),
        TEST(client_and_server_full_queues_are_tried_again),
        TEST(client_without_server_is_rejected_or_unreachable),
        TEST(client_values_out_of_range_are_invalid),
        TEST(client_stopped_at_any_turn_gives_all_back),
        TEST(client_silent_server_is_given_up_in_time),
        TEST(client_data_that_do_not_come_back_are_mismatches),
        TEST(client_server_that_sends_too_much_or_leaves_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
