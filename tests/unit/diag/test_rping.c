/*
 * rping's server against a peer that is written out in the test: what librdmacm's client says, what
 * none says, and calls of the device that fail. Our client: test_rping_client.c.
 */
#include <stdio.h>
#include <string.h>
#include "hal/clock.h"
#include "hal/native/native.h"
#include "tests/unit/diag/rping_rig.h"

/* As rping.c formats its data: an own reading of it, by snprintf. */
static void reference_pattern(uint8_t *data, uint32_t len_bytes, uint32_t ping)
{
    int head = snprintf((char *)data, len_bytes, "rdma-ping-%d: ", (int)ping);
    int start = 65;
    for (uint32_t i = 0; i < ping; i++) {
        start = start + 1 > 122 ? 65 : start + 1;
    }
    int c = start;
    for (uint32_t i = (uint32_t)head; i < len_bytes; i++) {
        data[i] = (uint8_t)c;
        c = c + 1 > 122 ? 65 : c + 1;
    }
    data[len_bytes - 1] = 0;
}

static void pattern_is_rpings_for_every_number_and_length(void **state)
{
    (void)state;
    static const uint32_t pings[] = {0, 1, 9, 10, 57, 58, 59, 99, 100, 12345, INT32_MAX};
    static uint8_t ours[300];
    static uint8_t theirs[300];
    for (uint32_t p = 0; p < ARRAY_SIZE(pings); p++) {
        for (uint32_t len = DIAG_RPING_LOW_BYTES; len <= sizeof(ours); len += 7) {
            if (pings[p] < INT32_MAX) {
                reference_pattern(theirs, len, pings[p]);
                diag_rping_pattern(ours, len, pings[p]);
                assert_memory_equal(ours, theirs, len);
            } else {
                diag_rping_pattern(ours, len, pings[p]);
            }
            assert_true(diag_rping_is_pattern(ours, len));
            for (uint32_t i = 0; i < len; i++) {
                ours[i] ^= 0x80;
                assert_false(diag_rping_is_pattern(ours, len));
                ours[i] ^= 0x80;
            }
        }
    }
    assert_false(diag_rping_is_pattern((const uint8_t *)"rdma-ping-", 10));
    assert_false(diag_rping_is_pattern((const uint8_t *)"rdma-ping-99999999999999: A", 28));
}

/* What librdmacm's client does, step by step. */
static void server_foreign_client_is_served_as_rping_does(void **state)
{
    (void)state;
    struct rping_peer *peer = &rping_peers[0];
    rping_peer_connect(peer);
    assert_true(peer->is_connected);
    for (uint32_t ping = 0; ping < 5; ping++) {
        uint8_t expected[64];
        reference_pattern(expected, sizeof(expected), ping);
        memcpy(peer->data, expected, sizeof(expected));
        rping_peer_tell(peer, peer->mr->rkey, sizeof(expected));
        rig_turns(10);
        assert_true(rping_peer_told(peer));
        rping_peer_recv(peer);
        memset(peer->data, 0xee, sizeof(expected) + 1);
        rping_peer_tell(peer, peer->mr->rkey, sizeof(expected));
        rig_turns(10);
        assert_true(rping_peer_told(peer));
        rping_peer_recv(peer);
        assert_memory_equal(peer->data, expected, sizeof(expected));
        assert_int_equal(peer->data[sizeof(expected)], 0xee);
    }
    assert_int_equal(RPING_STAT(pings), 5);
    assert_int_equal(RPING_STAT(mismatches), 0);
    rping_peer_leave(peer);
}

/* rping puts back the text with its end, not the rest: here the text ends early. */
static void server_other_data_are_counted_and_put_back_to_their_end(void **state)
{
    (void)state;
    struct rping_peer *peer = &rping_peers[0];
    rping_peer_connect(peer);
    strcpy((char *)peer->data, "hello");
    memset(peer->data + 6, 'x', 10);
    rping_peer_tell(peer, peer->mr->rkey, 16);
    rig_turns(10);
    memset(peer->data, 0xee, 16);
    rping_peer_recv(peer);
    rping_peer_tell(peer, peer->mr->rkey, 16);
    rig_turns(10);
    assert_string_equal((char *)peer->data, "hello");
    assert_int_equal(peer->data[6], 0xee);
    assert_int_equal(RPING_STAT(mismatches), 1);
    assert_int_equal(RPING_STAT(pings), 1);
    rping_peer_leave(peer);
}

static void server_sink_shorter_than_data_is_not_overrun(void **state)
{
    (void)state;
    struct rping_peer *peer = &rping_peers[0];
    rping_peer_connect(peer);
    reference_pattern(peer->data, 64, 0);
    rping_peer_tell(peer, peer->mr->rkey, 64);
    rig_turns(10);
    memset(peer->data, 0xee, 64);
    rping_peer_recv(peer);
    rping_peer_tell(peer, peer->mr->rkey, 10);
    rig_turns(10);
    assert_memory_equal(peer->data, "rdma-ping-", 10);
    assert_int_equal(peer->data[10], 0xee);
    rping_peer_leave(peer);
}

static void expect_thrown_out(struct rping_peer *peer, uint64_t protocol_errors, uint64_t errors)
{
    rig_turns(20);
    assert_true(peer->is_over);
    assert_int_equal(RPING_STAT(protocol_errors), protocol_errors);
    assert_int_equal(RPING_STAT(errors), errors);
    assert_true(diag_rping_is_quiet(rping_server));
    rping_peer_leave(peer);
}

static void server_message_of_other_length_ends_the_connection(void **state)
{
    (void)state;
    for (uint32_t len = 0; len < 16; len++) {
        rping_peer_connect(&rping_peers[0]);
        rping_peer_send(&rping_peers[0], len);
        expect_thrown_out(&rping_peers[0], len + 1, 0);
    }
    rping_peer_connect(&rping_peers[0]); /* and longer than its receive (IBA 9.7.5.2.4) */
    rping_peer_send(&rping_peers[0], 17);
    expect_thrown_out(&rping_peers[0], 16, 1);
}

static void server_length_out_of_range_ends_the_connection(void **state)
{
    (void)state;
    static const uint32_t lengths[] = {0, 65537, UINT32_MAX};
    for (uint32_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        rping_peer_connect(&rping_peers[0]);
        rping_peer_tell(&rping_peers[0], rping_peers[0].mr->rkey, lengths[i]);
        expect_thrown_out(&rping_peers[0], i + 1, 0);
    }
}

static void server_two_messages_at_once_end_the_connection(void **state)
{
    (void)state;
    struct rping_peer *peer = &rping_peers[0];
    rping_peer_connect(peer);
    for (uint32_t i = 0; i < 5; i++) {
        rping_peer_tell(peer, peer->mr->rkey, 64);
    }
    rig_turns(40);
    assert_true(peer->is_over);
    assert_true(RPING_STAT(protocol_errors) > 0);
    rping_peer_leave(peer);
}

static void server_wrong_key_ends_that_connection_alone(void **state)
{
    (void)state;
    struct diag_rping_client *client = rping_client_new();
    struct rping_outcome outcome;
    struct diag_rping_run run = rping_run_of(&outcome, 50, 64);
    assert_int_equal(diag_rping_client_start(client, &run), STATUS_OK);
    rping_peer_connect(&rping_peers[0]);
    rping_peer_tell(&rping_peers[0], 0xdeadbeef, 64);
    rig_turns(1000);
    assert_true(rping_peers[0].is_over);
    assert_true(RPING_STAT(errors) > 0);
    assert_int_equal(outcome.result.end, DIAG_RPING_DONE);
    assert_int_equal(outcome.result.pings, 50);
    rping_peer_leave(&rping_peers[0]);
}

static void server_full_table_refuses_until_one_is_silent_for_a_minute(void **state)
{
    (void)state;
    uint32_t last = LIMIT_RPING_CONNS;
    for (uint32_t i = 0; i < LIMIT_RPING_CONNS; i++) {
        rping_peer_connect(&rping_peers[i]);
        assert_true(rping_peers[i].is_connected);
    }
    rping_peer_connect(&rping_peers[last]);
    assert_true(rping_peers[last].is_over);
    assert_int_equal(RPING_STAT(refused), 1);
    rping_peer_leave(&rping_peers[last]);

    native_clock_advance(61 * NS_PER_S);
    rig_turns(5);
    reference_pattern(rping_peers[0].data, 64, 0); /* all but the second say something */
    for (uint32_t i = 0; i < LIMIT_RPING_CONNS; i++) {
        if (i != 1) {
            rping_peer_tell(&rping_peers[i], rping_peers[i].mr->rkey, 64);
        }
    }
    rig_turns(20);
    rping_peer_connect(&rping_peers[last]);
    assert_true(rping_peers[last].is_connected);
    assert_int_equal(RPING_STAT(evicted), 1);
    for (uint32_t i = 0; i <= LIMIT_RPING_CONNS; i++) {
        assert_int_equal(rping_peers[i].is_over, i == 1);
        rping_peer_leave(&rping_peers[i]);
    }
}

static void server_connect_and_leave_a_thousand_times_leaks_nothing(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 1000; i++) {
        rping_peer_connect(&rping_peers[0]);
        if (i % 3 == 0) {
            rping_peer_tell(&rping_peers[0], rping_peers[0].mr->rkey, 64);
        }
        rig_turns(i % 7);
        rping_peer_leave(&rping_peers[0]);
        rig_turns(5);
        assert_true(diag_rping_is_quiet(rping_server));
        assert_true(fake_rdma_is_quiet(1));
    }
    assert_int_equal(RPING_STAT(connections), 1000);
}

static void server_any_call_failing_while_accepting_leaks_nothing(void **state)
{
    (void)state;
    bool is_accepted = false;
    for (uint32_t n = 1; !is_accepted; n++) {
        assert_true(n < 10);
        rping_peer_ask(&rping_peers[0]);
        fake_rdma_faults.fail_at = n;
        rig_turns(20);
        is_accepted = rping_peers[0].is_connected;
        assert_true(is_accepted || rping_peers[0].is_over);
        assert_int_equal(diag_rping_is_quiet(rping_server), !is_accepted);
        fake_rdma_faults.fail_at = 0;
        rping_peer_leave(&rping_peers[0]);
    }
}

static void init_any_call_failing_leaks_nothing(void **state)
{
    (void)state;
    struct diag_rping *second;
    void *memory = rping_take(diag_rping_memory_bytes(rig_device));
    assert_int_equal(diag_rping_init(memory, rig_device, DIAG_RPING_PORT, &second), STATUS_EXISTS);
    enum status status = STATUS_NO_SPACE;
    for (uint32_t n = 1; status != STATUS_OK; n++) {
        assert_true(n < 10);
        fake_rdma_faults.fail_at = n;
        status = diag_rping_init(memory, rig_device, 9, &second);
        assert_true(status == STATUS_OK || fake_rdma_is_quiet(1));
        fake_rdma_faults.fail_at = 0;
    }
    rig_turns(3);
    assert_true(fake_rdma_is_quiet(2)); /* the second's listener is there */
    /* teardown wants one: start afresh */
    rping_start();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rping_setup, rping_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(pattern_is_rpings_for_every_number_and_length),
        TEST(server_foreign_client_is_served_as_rping_does),
        TEST(server_other_data_are_counted_and_put_back_to_their_end),
        TEST(server_sink_shorter_than_data_is_not_overrun),
        TEST(server_message_of_other_length_ends_the_connection),
        TEST(server_length_out_of_range_ends_the_connection),
        TEST(server_two_messages_at_once_end_the_connection),
        TEST(server_wrong_key_ends_that_connection_alone),
        TEST(server_full_table_refuses_until_one_is_silent_for_a_minute),
        TEST(server_connect_and_leave_a_thousand_times_leaks_nothing),
        TEST(server_any_call_failing_while_accepting_leaks_nothing),
        TEST(init_any_call_failing_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
