/*
 * The server of perftest's clients: many of them, room that has to be made, and calls of the device
 * that fail. What one client gets: test_perf.c.
 */
#include <stdlib.h>
#include <string.h>
#include "hal/clock.h"
#include "hal/native/native.h"
#include "tests/unit/diag/perf_client.h"

/* So that timers fire in between. */
static void pass(uint32_t seconds)
{
    while (seconds-- > 0) {
        native_clock_advance(NS_PER_S);
        rig_turns(100);
    }
}

/* The first of its messages; what comes of it is the test's. */
static void send_version(struct perf_client *client)
{
    memcpy(client->message, perf_version, sizeof(perf_version));
    perf_end_post(client, &client->control, RDMA_WR_SEND, client->message, sizeof(perf_version), 0);
    rig_turns(20);
}

static void clients_at_once_do_not_disturb_each_other(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < LIMIT_PERF_SESSIONS; i++) {
        fake_rdma_source = (uint8_t)(10 + i);
        perf_client_begin(&perf_clients[i], 0);
    }
    for (uint32_t size = 1; size <= PERF_SIZE; size *= 2) {
        for (uint32_t i = 0; i < LIMIT_PERF_SESSIONS; i++) {
            perf_fill(perf_clients[i].post, size);
            perf_end_post(&perf_clients[i], &perf_clients[i].data, RDMA_WR_RDMA_WRITE,
                          perf_clients[i].post, size, 0);
        }
        rig_turns(5);
        for (uint32_t i = 0; i < LIMIT_PERF_SESSIONS; i++) {
            assert_memory_equal((void *)(uintptr_t)be64_get(perf_clients[i].server.addr),
                                perf_clients[i].post, size);
        }
    }
    for (uint32_t i = 0; i < LIMIT_PERF_SESSIONS; i++) {
        assert_int_equal(perf_clients[i].failures, 0);
        perf_client_leave(&perf_clients[i]);
    }
}

static void sessions_all_taken_idle_one_makes_room(void **state)
{
    (void)state;
    struct perf_client *last = &perf_clients[LIMIT_PERF_SESSIONS];
    for (uint32_t i = 0; i < LIMIT_PERF_SESSIONS; i++) {
        perf_client_begin(&perf_clients[i], 0);
    }
    for (uint32_t round = 0; round < 2; round++) {
        perf_client_make(last);
        perf_end_connect(last, &last->control, 0);
        send_version(last);
        assert_true(last->control.is_over);
        perf_client_leave(last);
        assert_int_equal(PERF_STAT(refused), round + 1);
        assert_int_equal(PERF_STAT(evicted), round);
        pass(71);
        for (uint32_t i = 1; i < LIMIT_PERF_SESSIONS && round == 0; i++) {
            perf_hand_shake(&perf_clients[i], true); /* these are alive */
        }
    }
    assert_true(perf_clients[0].control.is_over);
    assert_true(perf_clients[0].data.is_over);
    perf_client_begin(last, 0);
    perf_client_leave(last);
    for (uint32_t i = 0; i < LIMIT_PERF_SESSIONS; i++) {
        perf_client_leave(&perf_clients[i]);
    }
}

/* WRITEs are seen by nobody but the QP's count of packets: they keep the control connection. */
static void sessions_whose_data_flow_are_not_idle(void **state)
{
    (void)state;
    struct perf_client *last = &perf_clients[LIMIT_PERF_SESSIONS];
    for (uint32_t i = 0; i < LIMIT_PERF_SESSIONS; i++) {
        perf_client_begin(&perf_clients[i], 0);
        perf_fill(perf_clients[i].post, 64);
    }
    for (uint32_t s = 0; s < 70; s += 5) {
        for (uint32_t i = 0; i < LIMIT_PERF_SESSIONS; i++) {
            perf_end_post(&perf_clients[i], &perf_clients[i].data, RDMA_WR_RDMA_WRITE,
                          perf_clients[i].post, 64, 0);
        }
        pass(5);
    }
    perf_client_make(last);
    perf_end_connect(last, &last->control, 0);
    send_version(last);
    assert_int_equal(PERF_STAT(evicted), 0);
    perf_client_leave(last);
    for (uint32_t i = 0; i < LIMIT_PERF_SESSIONS; i++) {
        assert_false(perf_clients[i].control.is_over);
        perf_client_leave(&perf_clients[i]);
    }
}

static void connections_all_taken_are_refused_until_one_is_idle(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < LIMIT_PERF_CONNS; i++) {
        perf_client_make(&perf_clients[i]);
        perf_end_connect(&perf_clients[i], &perf_clients[i].control, 0);
        assert_true(perf_clients[i].control.is_connected);
    }
    struct perf_client *last = &perf_clients[LIMIT_PERF_CONNS];
    perf_client_make(last);
    perf_end_connect(last, &last->control, 0);
    assert_true(last->control.is_over);
    assert_int_equal(PERF_STAT(refused), 1);
    perf_client_leave(last);
    pass(71);
    perf_client_greet(last);
    assert_int_equal(PERF_STAT(evicted), 1);
    perf_client_leave(last);
    for (uint32_t i = 0; i < LIMIT_PERF_CONNS; i++) {
        perf_client_leave(&perf_clients[i]);
    }
}

static void clients_come_and_go_a_thousand_times_nothing_is_leaked(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 1000; i++) {
        struct perf_client *client = &perf_clients[0];
        if (i % 2 == 0) {
            perf_client_begin(client, 0);
        } else {
            perf_client_greet(client);
        }
        fake_rdma_faults.destroy_again = i % 4;
        fake_rdma_faults.dereg_again = i % 3;
        rdma_cm_destroy(client->control.id); /* control first: as when a client is killed */
        rig_turns(20);
        fake_rdma_faults.destroy_again = 0;
        fake_rdma_faults.dereg_again = 0;
        client->control.id = NULL;
        assert_int_equal(rdma_qp_destroy(client->control.qp), STATUS_OK);
        perf_end_leave(&client->data);
        rig_turns(30);
        perf_client_free(client);
        assert_true(diag_perf_is_quiet(perf_server));
        assert_true(fake_rdma_is_quiet(1));
    }
    assert_int_equal(PERF_STAT(sessions), 1000);
}

static void any_call_failing_while_accepting_leaks_nothing(void **state)
{
    (void)state;
    bool is_accepted = false;
    for (uint32_t n = 1; !is_accepted; n++) {
        struct perf_client *client = &perf_clients[0];
        assert_true(n < 20);
        perf_client_make(client);
        perf_end_ask(client, &client->control, 0);
        fake_rdma_faults.fail_at = n;
        rig_turns(20);
        is_accepted = client->control.is_connected;
        fake_rdma_faults.fail_at = 0;
        assert_int_equal(diag_perf_is_quiet(perf_server), !is_accepted);
        perf_client_leave(client);
    }
}

static void memory_that_cannot_be_registered_ends_the_session(void **state)
{
    (void)state;
    struct perf_client *client = &perf_clients[0];
    perf_client_make(client);
    perf_end_connect(client, &client->control, 0);
    fake_rdma_faults.fail_at = 1;
    send_version(client);
    assert_true(client->control.is_over);
    assert_int_equal(PERF_STAT(errors), 1);
    perf_client_leave(client);
}

static void init_any_call_failing_leaks_nothing(void **state)
{
    (void)state;
    struct diag_perf *second;
    struct diag_perf_config c = perf_config(DIAG_PERF_PORT);
    void *memory = perf_zeroed(diag_perf_memory_bytes(&c));
    assert_int_equal(diag_perf_init(memory, &c, &second), STATUS_EXISTS);
    c.port = 5;
    c.len_bytes = 5000;
    assert_int_equal(diag_perf_init(memory, &c, &second), STATUS_INVALID);
    c.len_bytes = PERF_SIZE;
    for (uint32_t n = 1; n <= 5; n++) { /* domain, queue, two regions, id */
        fake_rdma_faults.fail_at = n;
        assert_int_equal(diag_perf_init(memory, &c, &second), STATUS_NO_SPACE);
        assert_true(fake_rdma_is_quiet(1));
    }
    free(memory);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, perf_setup, perf_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(clients_at_once_do_not_disturb_each_other),
        TEST(sessions_all_taken_idle_one_makes_room),
        TEST(sessions_whose_data_flow_are_not_idle),
        TEST(connections_all_taken_are_refused_until_one_is_idle),
        TEST(clients_come_and_go_a_thousand_times_nothing_is_leaked),
        TEST(any_call_failing_while_accepting_leaks_nothing),
        TEST(memory_that_cannot_be_registered_ends_the_session),
        TEST(init_any_call_failing_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
