#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/counter.h"
#include "base/endian.h"
#include "base/limits.h"
#include "diag/diag_rping.h"
#include "diag/diag_rping_priv.h"
#include "hal/clock.h"
#include "hal/native/native.h"
#include "sched/sched.h"
#include "tests/unit/diag/fake_rdma.h"

#define TURNS 200

static struct rdma_device *device;
static struct diag_rping *server;
static void *memories[8];
static uint32_t memory_count;

static void *take(uint64_t bytes)
{
    void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    assert_non_null(memory);
    assert_true(memory_count < ARRAY_SIZE(memories));
    memories[memory_count++] = memory;
    return memory;
}

static void turns(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        sched_turn();
        native_clock_advance(1000);
    }
}

static int setup(void **state)
{
    (void)state;
    native_clock_set(NS_PER_S);
    sched_init(1, SCHED_IDLE_POLL);
    device = fake_rdma_start();
    memory_count = 0;
    void *memory = take(diag_rping_memory_bytes(device));
    assert_int_equal(diag_rping_init(memory, device, DIAG_RPING_PORT, &server), STATUS_OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    turns(TURNS);
    assert_true(diag_rping_is_quiet(server));
    assert_true(fake_rdma_is_quiet(1));
    while (memory_count > 0) {
        free(memories[--memory_count]);
    }
    return 0;
}

#define STAT(name) counter_get(&diag_rping_stats(server)->name)

/* --- our client ---------------------------------------------------------------------------- */

struct outcome {
    uint32_t count; /* callbacks */
    struct diag_rping_result result;
};

static void note(void *ctx, const struct diag_rping_result *result)
{
    struct outcome *outcome = ctx;
    outcome->count++;
    outcome->result = *result;
}

static struct diag_rping_client *client_new(void)
{
    struct diag_rping_client *client;
    void *memory = take(diag_rping_client_memory_bytes(device));
    assert_int_equal(diag_rping_client_init(memory, device, &client), STATUS_OK);
    return client;
}

static struct diag_rping_run run_of(struct outcome *outcome, uint32_t count, uint32_t len_bytes)
{
    memset(outcome, 0, sizeof(*outcome));
    return (struct diag_rping_run){.addr = fake_rdma_addr(2),
                                   .port = DIAG_RPING_PORT,
                                   .count = count,
                                   .len_bytes = len_bytes,
                                   .timeout_ms = 100,
                                   .done = note,
                                   .ctx = outcome};
}

static void client_pings_own_server_data_come_back(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {DIAG_RPING_LOW_BYTES, 64, 65, 4096, DIAG_RPING_HIGH_BYTES};
    struct diag_rping_client *client = client_new();
    for (uint32_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct outcome outcome;
        struct diag_rping_run run = run_of(&outcome, 130, sizes[i]);
        assert_int_equal(diag_rping_client_start(client, &run), STATUS_OK);
        assert_int_equal(diag_rping_client_start(client, &run), STATUS_AGAIN);
        turns(3000);
        assert_int_equal(outcome.count, 1);
        assert_int_equal(outcome.result.end, DIAG_RPING_DONE);
        assert_int_equal(outcome.result.pings, 130);
        assert_int_equal(outcome.result.mismatches, 0);
        assert_true(outcome.result.low_ns <= outcome.result.high_ns);
        assert_true(outcome.result.sum_ns >= outcome.result.high_ns);
    }
    assert_int_equal(STAT(connections), ARRAY_SIZE(sizes));
    assert_int_equal(STAT(pings), 130 * ARRAY_SIZE(sizes));
    assert_int_equal(STAT(mismatches), 0);
    assert_int_equal(STAT(protocol_errors), 0);
}

static void server_serves_several_clients_at_once(void **state)
{
    (void)state;
    struct diag_rping_client *clients[3];
    struct outcome outcomes[3];
    for (uint32_t i = 0; i < 3; i++) {
        clients[i] = client_new();
        struct diag_rping_run run = run_of(&outcomes[i], 20 + i, 64 + 1000 * i);
        assert_int_equal(diag_rping_client_start(clients[i], &run), STATUS_OK);
    }
    turns(1000);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(outcomes[i].result.end, DIAG_RPING_DONE);
        assert_int_equal(outcomes[i].result.pings, 20 + i);
        assert_int_equal(outcomes[i].result.mismatches, 0);
    }
    assert_int_equal(STAT(pings), 63);
}

static void client_and_server_full_queues_are_tried_again(void **state)
{
    (void)state;
    struct diag_rping_client *client = client_new();
    for (uint32_t again = 1; again < 20; again++) {
        struct outcome outcome;
        struct diag_rping_run run = run_of(&outcome, 3, 64);
        assert_int_equal(diag_rping_client_start(client, &run), STATUS_OK);
        turns(3);
        fake_rdma_faults.post_again = again;
        fake_rdma_faults.destroy_again = again;
        turns(TURNS);
        assert_int_equal(outcome.result.end, DIAG_RPING_DONE);
        assert_int_equal(outcome.result.pings, 3);
        fake_rdma_faults.destroy_again = 0;
        turns(10);
        assert_int_equal(fake_rdma_qp_count(), 0);
    }
}

static void client_without_server_is_rejected_or_unreachable(void **state)
{
    (void)state;
    struct diag_rping_client *client = client_new();
    struct outcome outcome;
    struct diag_rping_run run = run_of(&outcome, 1, 64);
    run.port = 1;
    assert_int_equal(diag_rping_client_start(client, &run), STATUS_OK);
    turns(20);
    assert_int_equal(outcome.result.end, DIAG_RPING_REJECTED);
    run = run_of(&outcome, 1, 64);
    run.addr = FAKE_UNREACHABLE;
    assert_int_equal(diag_rping_client_start(client, &run), STATUS_OK);
    turns(20);
    assert_int_equal(outcome.count, 1);
    assert_int_equal(outcome.result.end, DIAG_RPING_UNREACHABLE);
}

static void client_values_out_of_range_are_invalid(void **state)
{
    (void)state;
    struct diag_rping_client *client = client_new();
    struct outcome outcome;
    struct diag_rping_run run = run_of(&outcome, 0, 64);
    assert_int_equal(diag_rping_client_start(client, &run), STATUS_INVALID);
    run = run_of(&outcome, 1, DIAG_RPING_LOW_BYTES - 1);
    assert_int_equal(diag_rping_client_start(client, &run), STATUS_INVALID);
    run = run_of(&outcome, 1, DIAG_RPING_HIGH_BYTES + 1);
    assert_int_equal(diag_rping_client_start(client, &run), STATUS_INVALID);
}

static void client_stopped_at_any_turn_gives_all_back(void **state)
{
    (void)state;
    struct diag_rping_client *client = client_new();
    for (uint32_t at = 0; at < 40; at++) {
        struct outcome outcome;
        struct diag_rping_run run = run_of(&outcome, 1000, 64);
        assert_int_equal(diag_rping_client_start(client, &run), STATUS_OK);
        turns(at);
        diag_rping_client_stop(client);
        turns(20);
        assert_int_equal(outcome.count, 1);
        assert_int_equal(outcome.result.end, DIAG_RPING_DISCONNECTED);
        assert_true(diag_rping_is_quiet(server));
        assert_true(fake_rdma_is_quiet(1));
    }
}

/* --- a peer in the test's hands ------------------------------------------------------------ */

struct peer {
    struct rdma_pd *pd;
    struct rdma_cq *cq;
    struct rdma_mr *mr;
    struct rdma_qp *qp;
    struct rdma_cm_id *id;
    bool is_connected;
    bool is_over;
    ALIGNED(64) uint8_t cq_memory[64 * 40];
    ALIGNED(64) uint8_t qp_memory[256];
    struct diag_rping_info info;
    struct diag_rping_info reply;
    uint8_t data[65536];
};
static struct peer peers[LIMIT_RPING_CONNS + 1];

static void peer_event(struct rdma_cm_id *id, const struct rdma_cm_event *event)
{
    struct peer *peer = id->ctx;
    peer->is_connected = event->type == RDMA_CM_EVENT_ESTABLISHED;
    peer->is_over =
        event->type == RDMA_CM_EVENT_DISCONNECTED || event->type == RDMA_CM_EVENT_REJECTED;
}

static void peer_make(struct peer *peer)
{
    memset(peer, 0, sizeof(*peer));
    struct rdma_cq_attr cq = {.entry_count = 64, .memory = peer->cq_memory};
    struct rdma_mr_attr mr = {.kind = RDMA_MR_NIC,
                              .access = RDMA_ACCESS_LOCAL_WRITE | RDMA_ACCESS_REMOTE_READ |
                                        RDMA_ACCESS_REMOTE_WRITE,
                              .memory = peer,
                              .len_bytes = sizeof(*peer)};
    assert_int_equal(rdma_pd_alloc(device, 0, &peer->pd), STATUS_OK);
    assert_int_equal(rdma_cq_create(device, &cq, &peer->cq), STATUS_OK);
    assert_int_equal(rdma_mr_reg(peer->pd, &mr, &peer->mr), STATUS_OK);
    struct rdma_qp_init_attr qp = {.pd = peer->pd,
                                   .send_cq = peer->cq,
                                   .recv_cq = peer->cq,
                                   .send_wr_count = 16,
                                   .recv_wr_count = 16,
                                   .send_sge_count = 1,
                                   .recv_sge_count = 1,
                                   .memory = peer->qp_memory};
    assert_int_equal(rdma_qp_create(&qp, &peer->qp), STATUS_OK);
}

static void peer_recv(struct peer *peer)
{
    struct rdma_sge sge = {
        .addr = (uintptr_t)&peer->reply, .len_bytes = sizeof(peer->reply), .lkey = peer->mr->lkey};
    struct rdma_recv_wr wr = {.wr_id = 1, .sges = &sge, .sge_count = 1};
    assert_int_equal(rdma_post_recv(peer->qp, &wr, NULL), STATUS_OK);
}

static void peer_connect(struct peer *peer)
{
    uint8_t access = RDMA_ACCESS_REMOTE_READ | RDMA_ACCESS_REMOTE_WRITE;
    struct net_addr to = fake_rdma_addr(2);
    struct rdma_cm_param param = {.qp = peer->qp, .responder_resources = 1, .access = access};
    peer_make(peer);
    param.qp = peer->qp;
    assert_int_equal(rdma_cm_resolve(device, &to, DIAG_RPING_PORT, peer_event, peer, &peer->id),
                     STATUS_OK);
    assert_int_equal(rdma_cm_qp_init(peer->id, peer->qp, access), STATUS_OK);
    peer_recv(peer);
    assert_int_equal(rdma_cm_connect(peer->id, &param), STATUS_OK);
    turns(10);
}

static void peer_leave(struct peer *peer)
{
    rdma_cm_destroy(peer->id);
    assert_int_equal(rdma_qp_destroy(peer->qp), STATUS_OK);
    assert_int_equal(rdma_cq_destroy(peer->cq), STATUS_OK);
    assert_int_equal(rdma_mr_dereg(peer->mr), STATUS_OK);
    assert_int_equal(rdma_pd_free(peer->pd), STATUS_OK);
}

static void peer_send(struct peer *peer, uint32_t len_bytes)
{
    struct rdma_sge sge = {
        .addr = (uintptr_t)&peer->info, .len_bytes = len_bytes, .lkey = peer->mr->lkey};
    struct rdma_send_wr wr = {.sges = &sge, .sge_count = 1, .opcode = RDMA_WR_SEND};
    assert_int_equal(rdma_post_send(peer->qp, &wr, NULL), STATUS_OK);
}

static void peer_tell(struct peer *peer, uint32_t rkey, uint32_t len_bytes)
{
    peer->info = (struct diag_rping_info){.addr = be64_make((uintptr_t)peer->data),
                                          .rkey = be32_make(rkey),
                                          .len_bytes = be32_make(len_bytes)};
    peer_send(peer, sizeof(peer->info));
}

/* A message of the server came. */
static bool peer_told(struct peer *peer)
{
    struct rdma_wc wc;
    return rdma_cq_poll(peer->cq, &wc, 1) == 1 && wc.status == RDMA_WC_SUCCESS && wc.wr_id == 1;
}

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
    struct peer *peer = &peers[0];
    peer_connect(peer);
    assert_true(peer->is_connected);
    for (uint32_t ping = 0; ping < 5; ping++) {
        uint8_t expected[64];
        reference_pattern(expected, sizeof(expected), ping);
        memcpy(peer->data, expected, sizeof(expected));
        peer_tell(peer, peer->mr->rkey, sizeof(expected));
        turns(10);
        assert_true(peer_told(peer));
        peer_recv(peer);
        memset(peer->data, 0xee, sizeof(expected) + 1);
        peer_tell(peer, peer->mr->rkey, sizeof(expected));
        turns(10);
        assert_true(peer_told(peer));
        peer_recv(peer);
        assert_memory_equal(peer->data, expected, sizeof(expected));
        assert_int_equal(peer->data[sizeof(expected)], 0xee);
    }
    assert_int_equal(STAT(pings), 5);
    assert_int_equal(STAT(mismatches), 0);
    peer_leave(peer);
}

/* rping puts back the text with its end, not the rest: here the text ends early. */
static void server_other_data_are_counted_and_put_back_to_their_end(void **state)
{
    (void)state;
    struct peer *peer = &peers[0];
    peer_connect(peer);
    strcpy((char *)peer->data, "hello");
    memset(peer->data + 6, 'x', 10);
    peer_tell(peer, peer->mr->rkey, 16);
    turns(10);
    memset(peer->data, 0xee, 16);
    peer_recv(peer);
    peer_tell(peer, peer->mr->rkey, 16);
    turns(10);
    assert_string_equal((char *)peer->data, "hello");
    assert_int_equal(peer->data[6], 0xee);
    assert_int_equal(STAT(mismatches), 1);
    assert_int_equal(STAT(pings), 1);
    peer_leave(peer);
}

static void server_sink_shorter_than_data_is_not_overrun(void **state)
{
    (void)state;
    struct peer *peer = &peers[0];
    peer_connect(peer);
    reference_pattern(peer->data, 64, 0);
    peer_tell(peer, peer->mr->rkey, 64);
    turns(10);
    memset(peer->data, 0xee, 64);
    peer_recv(peer);
    peer_tell(peer, peer->mr->rkey, 10);
    turns(10);
    assert_memory_equal(peer->data, "rdma-ping-", 10);
    assert_int_equal(peer->data[10], 0xee);
    peer_leave(peer);
}

static void expect_thrown_out(struct peer *peer, uint64_t protocol_errors, uint64_t errors)
{
    turns(20);
    assert_true(peer->is_over);
    assert_int_equal(STAT(protocol_errors), protocol_errors);
    assert_int_equal(STAT(errors), errors);
    assert_true(diag_rping_is_quiet(server));
    peer_leave(peer);
}

static void server_message_of_other_length_ends_the_connection(void **state)
{
    (void)state;
    for (uint32_t len = 0; len < 16; len++) {
        peer_connect(&peers[0]);
        peer_send(&peers[0], len);
        expect_thrown_out(&peers[0], len + 1, 0);
    }
    peer_connect(&peers[0]); /* and longer than its receive (IBA 9.7.5.2.4) */
    peer_send(&peers[0], 17);
    expect_thrown_out(&peers[0], 16, 1);
}

static void server_length_out_of_range_ends_the_connection(void **state)
{
    (void)state;
    static const uint32_t lengths[] = {0, 65537, UINT32_MAX};
    for (uint32_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        peer_connect(&peers[0]);
        peer_tell(&peers[0], peers[0].mr->rkey, lengths[i]);
        expect_thrown_out(&peers[0], i + 1, 0);
    }
}

static void server_two_messages_at_once_end_the_connection(void **state)
{
    (void)state;
    struct peer *peer = &peers[0];
    peer_connect(peer);
    for (uint32_t i = 0; i < 5; i++) {
        peer_tell(peer, peer->mr->rkey, 64);
    }
    turns(40);
    assert_true(peer->is_over);
    assert_true(STAT(protocol_errors) > 0);
    peer_leave(peer);
}

static void server_wrong_key_ends_that_connection_alone(void **state)
{
    (void)state;
    struct diag_rping_client *client = client_new();
    struct outcome outcome;
    struct diag_rping_run run = run_of(&outcome, 50, 64);
    assert_int_equal(diag_rping_client_start(client, &run), STATUS_OK);
    peer_connect(&peers[0]);
    peer_tell(&peers[0], 0xdeadbeef, 64);
    turns(TURNS * 5);
    assert_true(peers[0].is_over);
    assert_true(STAT(errors) > 0);
    assert_int_equal(outcome.result.end, DIAG_RPING_DONE);
    assert_int_equal(outcome.result.pings, 50);
    peer_leave(&peers[0]);
}

static void server_full_table_refuses_until_one_is_silent_for_a_minute(void **state)
{
    (void)state;
    uint32_t last = LIMIT_RPING_CONNS;
    for (uint32_t i = 0; i < LIMIT_RPING_CONNS; i++) {
        peer_connect(&peers[i]);
        assert_true(peers[i].is_connected);
    }
    peer_connect(&peers[last]);
    assert_true(peers[last].is_over);
    assert_int_equal(STAT(refused), 1);
    peer_leave(&peers[last]);

    native_clock_advance(61 * NS_PER_S);
    turns(5);
    reference_pattern(peers[0].data, 64, 0); /* all but the second say something */
    for (uint32_t i = 0; i < LIMIT_RPING_CONNS; i++) {
        if (i != 1) {
            peer_tell(&peers[i], peers[i].mr->rkey, 64);
        }
    }
    turns(20);
    peer_connect(&peers[last]);
    assert_true(peers[last].is_connected);
    assert_int_equal(STAT(evicted), 1);
    for (uint32_t i = 0; i <= LIMIT_RPING_CONNS; i++) {
        assert_int_equal(peers[i].is_over, i == 1);
        peer_leave(&peers[i]);
    }
}

static void server_connect_and_leave_a_thousand_times_leaks_nothing(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 1000; i++) {
        peer_connect(&peers[0]);
        if (i % 3 == 0) {
            peer_tell(&peers[0], peers[0].mr->rkey, 64);
        }
        turns(i % 7);
        peer_leave(&peers[0]);
        turns(5);
        assert_true(diag_rping_is_quiet(server));
        assert_true(fake_rdma_is_quiet(1));
    }
    assert_int_equal(STAT(connections), 1000);
}

static void server_any_call_failing_while_accepting_leaks_nothing(void **state)
{
    (void)state;
    bool is_accepted = false;
    for (uint32_t n = 1; !is_accepted; n++) {
        assert_true(n < 10);
        peer_make(&peers[0]);
        struct net_addr to = fake_rdma_addr(2);
        struct rdma_cm_param param = {.qp = peers[0].qp};
        assert_int_equal(
            rdma_cm_resolve(device, &to, DIAG_RPING_PORT, peer_event, &peers[0], &peers[0].id),
            STATUS_OK);
        assert_int_equal(rdma_cm_qp_init(peers[0].id, peers[0].qp, 0), STATUS_OK);
        assert_int_equal(rdma_cm_connect(peers[0].id, &param), STATUS_OK);
        fake_rdma_faults.fail_at = n;
        turns(20);
        is_accepted = peers[0].is_connected;
        assert_true(is_accepted || peers[0].is_over);
        assert_int_equal(diag_rping_is_quiet(server), !is_accepted);
        fake_rdma_faults.fail_at = 0;
        peer_leave(&peers[0]);
    }
}

static void init_any_call_failing_leaks_nothing(void **state)
{
    (void)state;
    struct diag_rping *second;
    void *memory = take(diag_rping_memory_bytes(device));
    assert_int_equal(diag_rping_init(memory, device, DIAG_RPING_PORT, &second), STATUS_EXISTS);
    enum status status = STATUS_NO_SPACE;
    for (uint32_t n = 1; status != STATUS_OK; n++) {
        assert_true(n < 10);
        fake_rdma_faults.fail_at = n;
        status = diag_rping_init(memory, device, 9, &second);
        assert_true(status == STATUS_OK || fake_rdma_is_quiet(1));
        fake_rdma_faults.fail_at = 0;
    }
    turns(3);
    assert_true(fake_rdma_is_quiet(2)); /* the second's listener is there */
    /* teardown wants one: start afresh */
    sched_init(1, SCHED_IDLE_POLL);
    device = fake_rdma_start();
    memory = take(diag_rping_memory_bytes(device));
    assert_int_equal(diag_rping_init(memory, device, DIAG_RPING_PORT, &server), STATUS_OK);
}

/* --- a server in the test's hands ---------------------------------------------------------- */

#define OTHER_PORT 99
static struct peer other;

static void other_event(struct rdma_cm_id *id, const struct rdma_cm_event *event)
{
    if (event->type == RDMA_CM_EVENT_REQUEST) {
        struct rdma_cm_param param = {.qp = other.qp};
        other.id = id;
        id->ctx = &other;
        assert_int_equal(rdma_cm_qp_init(id, other.qp, 0), STATUS_OK);
        peer_recv(&other);
        peer_recv(&other);
        assert_int_equal(rdma_cm_accept(id, &param), STATUS_OK);
    }
}

static struct rdma_cm_id *other_listen(void)
{
    struct rdma_cm_id *listener;
    struct net_addr any = {{0}};
    peer_make(&other);
    assert_int_equal(rdma_cm_listen(device, &any, OTHER_PORT, 1, other_event, NULL, &listener),
                     STATUS_OK);
    return listener;
}

static void client_silent_server_is_given_up_in_time(void **state)
{
    (void)state;
    struct diag_rping_client *client = client_new();
    struct rdma_cm_id *listener = other_listen();
    struct outcome outcome;
    struct diag_rping_run run = run_of(&outcome, 5, 64);
    run.port = OTHER_PORT;
    assert_int_equal(diag_rping_client_start(client, &run), STATUS_OK);
    turns(20);
    native_clock_advance(90 * NS_PER_MS);
    turns(20);
    assert_int_equal(outcome.count, 0);
    native_clock_advance(20 * NS_PER_MS);
    turns(20);
    assert_int_equal(outcome.result.end, DIAG_RPING_TIMED_OUT);
    assert_int_equal(outcome.result.pings, 0);
    peer_leave(&other);
    rdma_cm_destroy(listener);
}

/* Go-aheads without the data: each ping is a mismatch, and counted. */
static void client_data_that_do_not_come_back_are_mismatches(void **state)
{
    (void)state;
    struct diag_rping_client *client = client_new();
    struct rdma_cm_id *listener = other_listen();
    struct outcome outcome;
    struct diag_rping_run run = run_of(&outcome, 5, 64);
    run.port = OTHER_PORT;
    assert_int_equal(diag_rping_client_start(client, &run), STATUS_OK);
    for (uint32_t i = 0; i < 10; i++) {
        turns(10);
        assert_true(peer_told(&other));
        peer_recv(&other);
        peer_send(&other, sizeof(other.info));
    }
    turns(10);
    assert_int_equal(outcome.result.end, DIAG_RPING_DONE);
    assert_int_equal(outcome.result.pings, 5);
    assert_int_equal(outcome.result.mismatches, 5);
    peer_leave(&other);
    rdma_cm_destroy(listener);
}

/* More go-aheads than asked for do not run past the end, and a server that goes is noticed. */
static void client_server_that_sends_too_much_or_leaves_is_survived(void **state)
{
    (void)state;
    struct diag_rping_client *client = client_new();
    struct rdma_cm_id *listener = other_listen();
    struct outcome outcome;
    struct diag_rping_run run = run_of(&outcome, 3, 64);
    run.port = OTHER_PORT;
    assert_int_equal(diag_rping_client_start(client, &run), STATUS_OK);
    turns(10);
    for (uint32_t i = 0; i < 10; i++) {
        peer_send(&other, 16);
    }
    turns(50);
    assert_int_equal(outcome.count, 1);
    peer_leave(&other);
    rdma_cm_destroy(listener);

    listener = other_listen();
    run = run_of(&outcome, 3, 64);
    run.port = OTHER_PORT;
    assert_int_equal(diag_rping_client_start(client, &run), STATUS_OK);
    turns(10);
    peer_leave(&other);
    turns(10);
    assert_int_equal(outcome.result.end, DIAG_RPING_DISCONNECTED);
    rdma_cm_destroy(listener);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(client_pings_own_server_data_come_back),
        TEST(server_serves_several_clients_at_once),
        TEST(client_and_server_full_queues_are_tried_again),
        TEST(client_without_server_is_rejected_or_unreachable),
        TEST(client_values_out_of_range_are_invalid),
        TEST(client_stopped_at_any_turn_gives_all_back),
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
        TEST(client_silent_server_is_given_up_in_time),
        TEST(client_data_that_do_not_come_back_are_mismatches),
        TEST(client_server_that_sends_too_much_or_leaves_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
