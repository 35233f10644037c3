/*
 * The server of perftest's clients, one client at a time: bandwidth, latency, and clients that do
 * other than perftest does. Many at once, and calls that fail: test_perf_clients.c.
 */
#include <string.h>
#include "hal/clock.h"
#include "hal/native/native.h"
#include "tests/unit/diag/perf_client.h"

/* --- bandwidth ----------------------------------------------------------------------------- */

static void write_bw_data_arrive_and_nothing_is_answered(void **state)
{
    (void)state;
    struct perf_client *client = &perf_clients[0];
    perf_client_begin(client, 0);
    for (uint32_t size = 1; size <= PERF_SIZE; size *= 2) {
        perf_fill(client->post, size);
        assert_int_equal(
            perf_end_post(client, &client->data, RDMA_WR_RDMA_WRITE, client->post, size, 0),
            STATUS_OK);
        rig_turns(5);
        assert_memory_equal((void *)(uintptr_t)be64_get(client->server.addr), client->post, size);
    }
    perf_client_poll(client);
    assert_int_equal(client->sends_done, 9 + 21); /* control and data */
    assert_int_equal(client->failures, 0);
    perf_hand_shake(client, true);
    for (uint32_t i = 0; i < 5; i++) {
        perf_exchange(client, "resultxx", 8); /* xchg_bw_reports() */
        assert_memory_equal(client->reply, "resultxx", 8);
    }
    perf_hand_shake(client, true);
    assert_int_equal(PERF_STAT(answers), 0);
    assert_int_equal(PERF_STAT(protocol_errors), 0);
    for (uint32_t i = 0; i < PERF_SIZE; i++) {
        assert_int_equal(client->poll[i], 0);
    }
    perf_client_leave(client);
}

static void write_beyond_the_largest_message_is_refused(void **state)
{
    (void)state;
    struct perf_client *client = &perf_clients[0];
    perf_client_begin(client, 0);
    assert_int_equal(
        perf_end_post(client, &client->data, RDMA_WR_RDMA_WRITE, client->post, 2, PERF_SIZE - 1),
        STATUS_OK);
    rig_turns(10);
    perf_client_poll(client);
    assert_int_equal(client->failures, 1);
    perf_client_leave(client);
}

static void read_gets_reads_granted_and_memory_read(void **state)
{
    (void)state;
    struct perf_client *client = &perf_clients[0];
    perf_client_begin(client, 16);
    assert_int_equal(client->data.responder_resources, 16);
    memset(client->post, 0xee, 4096);
    assert_int_equal(perf_end_post(client, &client->data, RDMA_WR_RDMA_READ, client->post, 4096, 0),
                     STATUS_OK);
    rig_turns(5);
    perf_client_poll(client);
    assert_int_equal(client->failures, 0);
    assert_int_equal(client->post[0], 0);
    assert_int_equal(client->post[4095], 0);
    perf_hand_shake(client, true);
    perf_client_leave(client);
}

static void read_depth_beyond_the_device_is_cut(void **state)
{
    (void)state;
    perf_client_begin(&perf_clients[0], 200);
    assert_int_equal(perf_clients[0].data.responder_resources, 16);
    perf_client_leave(&perf_clients[0]);
}

static void send_bw_all_messages_are_taken_and_none_answered(void **state)
{
    (void)state;
    struct perf_client *client = &perf_clients[0];
    uint32_t sent = 0;
    perf_client_begin(client, 0);
    perf_hand_shake(client, true);
    uint32_t control = client->sends_done;
    while (sent < 5000) {
        while (sent < 5000 && perf_end_post(client, &client->data, RDMA_WR_SEND, client->post, 65,
                                            0) == STATUS_OK) {
            sent++;
        }
        rig_turns(7);
        perf_client_poll(client);
    }
    rig_turns(3000);
    native_clock_advance(NS_PER_S);
    rig_turns(10);
    perf_client_poll(client);
    assert_int_equal(client->sends_done - control, 5000);
    assert_int_equal(PERF_STAT(messages), 5000);
    assert_int_equal(PERF_STAT(bytes), 5000 * 65);
    assert_int_equal(PERF_STAT(answers), 0);
    perf_hand_shake(client, true);
    perf_client_leave(client);
}

/* --- latency ------------------------------------------------------------------------------- */

/* The first one waits for 5 ms, the rest are answered at once; -a: lengths change. */
static void send_lat_each_message_is_answered_by_one_as_long(void **state)
{
    (void)state;
    struct perf_client *client = &perf_clients[0];
    perf_client_begin(client, 0);
    uint32_t count = 0;
    for (uint32_t size = 1; size <= PERF_SIZE; size *= 2) {
        perf_hand_shake(client, true);
        for (uint32_t i = 0; i < 3; i++) {
            uint32_t before = client->recvs_done;
            perf_end_recv(client, &client->data, client->poll, PERF_SIZE);
            assert_int_equal(
                perf_end_post(client, &client->data, RDMA_WR_SEND, client->post, size, 0),
                STATUS_OK);
            rig_turns(10);
            perf_client_poll(client);
            if (count == 0) {
                assert_int_equal(client->recvs_done, before);
                native_clock_advance(5 * NS_PER_MS);
                rig_turns(100);
                perf_client_poll(client);
            }
            assert_int_equal(client->recvs_done, before + 1);
            assert_int_equal(client->recv_bytes, size);
            count++;
        }
    }
    assert_int_equal(PERF_STAT(answers), count);
    assert_int_equal(client->failures, 0);
    perf_client_leave(client);
}

/* ib_send_bw whose first packet came long before the others: one answer too many, no harm. */
static void send_bw_slow_start_is_found_out(void **state)
{
    (void)state;
    struct perf_client *client = &perf_clients[0];
    perf_client_begin(client, 0);
    assert_int_equal(perf_end_post(client, &client->data, RDMA_WR_SEND, client->post, 64, 0),
                     STATUS_OK);
    rig_turns(10);
    native_clock_advance(10 * NS_PER_MS);
    rig_turns(100);
    assert_int_equal(PERF_STAT(answers), 1);
    for (uint32_t i = 0; i < 100; i++) {
        assert_int_equal(perf_end_post(client, &client->data, RDMA_WR_SEND, client->post, 64, 0),
                         STATUS_OK);
    }
    rig_turns(300);
    perf_client_poll(client);
    assert_int_equal(PERF_STAT(messages), 101);
    assert_in_range(PERF_STAT(answers), 1, 4); /* the rest waits for receives */
    assert_int_equal(client->failures, 0);
    perf_client_leave(client);

    perf_client_begin(client, 0); /* the next one in its place begins afresh */
    uint32_t before = client->recvs_done;
    perf_end_recv(client, &client->data, client->poll, PERF_SIZE);
    assert_int_equal(perf_end_post(client, &client->data, RDMA_WR_SEND, client->post, 64, 0),
                     STATUS_OK);
    rig_turns(10);
    native_clock_advance(5 * NS_PER_MS);
    rig_turns(100);
    perf_client_poll(client);
    assert_int_equal(client->recvs_done, before + 1);
    perf_client_leave(client);
}

/* --- clients that misbehave ---------------------------------------------------------------- */

static void expect_control_lost(struct perf_client *client, uint64_t protocol_errors)
{
    rig_turns(20);
    assert_true(client->control.is_over);
    assert_int_equal(PERF_STAT(protocol_errors), protocol_errors);
    perf_client_leave(client);
}

static void first_message_that_is_no_version_ends_the_connection(void **state)
{
    (void)state;
    static const char *const texts[] = {"", ".5", "6", "6.", "x.y", "6x06", "GET / HTTP/1.0"};
    uint64_t errors = 0;
    for (uint32_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct perf_client *client = &perf_clients[0];
        perf_client_make(client);
        perf_end_connect(client, &client->control, 0);
        strncpy((char *)client->message, texts[i], 16);
        perf_end_post(client, &client->control, RDMA_WR_SEND, client->message, 16, 0);
        expect_control_lost(client, ++errors);
    }
    for (uint32_t len = 0; len < 40; len += 15) { /* not 16 bytes */
        struct perf_client *client = &perf_clients[0];
        perf_client_make(client);
        perf_end_connect(client, &client->control, 0);
        memcpy(client->message, perf_version, sizeof(perf_version));
        perf_end_post(client, &client->control, RDMA_WR_SEND, client->message, len, 0);
        expect_control_lost(client, ++errors);
    }
    assert_int_equal(PERF_STAT(sessions), 0);
}

static void control_message_too_long_or_empty_ends_the_session(void **state)
{
    (void)state;
    static const uint32_t lengths[] = {0, 57, 64, 65, 1000, PERF_SIZE};
    for (uint32_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        struct perf_client *client = &perf_clients[0];
        perf_client_begin(client, 0);
        perf_end_post(client, &client->control, RDMA_WR_SEND, client->post, lengths[i], 0);
        rig_turns(20);
        assert_true(client->control.is_over);
        assert_true(client->data.is_over); /* it goes with its session */
        assert_int_equal(PERF_STAT(protocol_errors), i + 1);
        perf_client_leave(client);
    }
}

static void control_messages_faster_than_answers_end_the_session(void **state)
{
    (void)state;
    struct perf_client *client = &perf_clients[0];
    perf_client_begin(client, 0);
    for (uint32_t i = 0; i < 50; i++) {
        perf_end_post(client, &client->control, RDMA_WR_SEND, client->message, 8, 0);
    }
    rig_turns(100);
    assert_true(client->control.is_over);
    perf_client_leave(client);
}

static void write_to_an_address_not_given_ends_its_connection(void **state)
{
    (void)state;
    struct perf_client *client = &perf_clients[0];
    perf_client_begin(client, 0);
    client->server.addr = be64_make(0);
    assert_int_equal(perf_end_post(client, &client->data, RDMA_WR_RDMA_WRITE, client->post, 1, 0),
                     STATUS_OK);
    rig_turns(20);
    assert_true(client->data.is_over);
    assert_false(client->control.is_over);
    perf_hand_shake(client, true);
    perf_client_leave(client);
}

/* Somebody else's QP number is not his to take. */
static void data_of_another_peer_is_not_bound_to_the_session(void **state)
{
    (void)state;
    perf_client_greet(&perf_clients[0]);
    perf_end_connect(&perf_clients[0], &perf_clients[0].data, 0);
    fake_rdma_source = 7;
    perf_client_greet(&perf_clients[1]);
    perf_clients[1].data.qp = perf_clients[0].data.qp;
    perf_hand_shake(&perf_clients[1], true);
    assert_int_equal(be32_get(perf_clients[1].server.qpn), 0);
    perf_clients[1].data.qp = NULL;
    perf_hand_shake(&perf_clients[0], true);
    assert_true(be32_get(perf_clients[0].server.qpn) != 0);
    perf_client_leave(&perf_clients[1]);
    perf_client_leave(&perf_clients[0]);
}

static void keys_of_a_session_die_with_it(void **state)
{
    (void)state;
    perf_client_begin(&perf_clients[0], 0);
    struct perf_dest old = perf_clients[0].server;
    perf_client_leave(&perf_clients[0]);
    perf_client_begin(&perf_clients[1], 0);
    assert_true(be32_get(perf_clients[1].server.rkey) != be32_get(old.rkey));
    perf_clients[1].server.rkey = old.rkey;
    perf_end_post(&perf_clients[1], &perf_clients[1].data, RDMA_WR_RDMA_WRITE, perf_clients[1].post,
                  1, 0);
    rig_turns(10);
    assert_true(perf_clients[1].data.is_over);
    perf_client_leave(&perf_clients[1]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, perf_setup, perf_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(write_bw_data_arrive_and_nothing_is_answered),
        TEST(write_beyond_the_largest_message_is_refused),
        TEST(read_gets_reads_granted_and_memory_read),
        TEST(read_depth_beyond_the_device_is_cut),
        TEST(send_bw_all_messages_are_taken_and_none_answered),
        TEST(send_lat_each_message_is_answered_by_one_as_long),
        TEST(send_bw_slow_start_is_found_out),
        TEST(first_message_that_is_no_version_ends_the_connection),
        TEST(control_message_too_long_or_empty_ends_the_session),
        TEST(control_messages_faster_than_answers_end_the_session),
        TEST(write_to_an_address_not_given_ends_its_connection),
        TEST(data_of_another_peer_is_not_bound_to_the_session),
        TEST(keys_of_a_session_die_with_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
