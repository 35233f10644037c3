#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "diag/diag_perf.h"
#include "diag/diag_perf_priv.h"
#include "hal/clock.h"
#include "hal/native/native.h"
#include "sched/sched.h"
#include "tests/unit/diag/fake_rdma.h"

/* A client as perftest is one: what it sends on its control connection in which order, and the data
 * QP that it then connects to the same port. */

#define SIZE    (1u << 20)
#define CLIENTS (LIMIT_PERF_CONNS + 1)

static struct rdma_device *device;
static struct diag_perf *perf;
static void *perf_memory;

static void turns(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        sched_turn();
        native_clock_advance(1000);
    }
}

/* So that timers fire in between. */
static void pass(uint32_t seconds)
{
    while (seconds-- > 0) {
        native_clock_advance(NS_PER_S);
        turns(100);
    }
}

static struct diag_perf_config config(uint16_t port)
{
    return (struct diag_perf_config){.device = device, .port = port, .len_bytes = SIZE};
}

static void *zeroed(uint64_t bytes)
{
    void *memory = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    assert_non_null(memory);
    memset(memory, 0, bytes);
    return memory;
}

static int setup(void **state)
{
    (void)state;
    native_clock_set(NS_PER_S);
    sched_init(1, SCHED_IDLE_POLL);
    device = fake_rdma_start();
    struct diag_perf_config c = config(DIAG_PERF_PORT);
    perf_memory = zeroed(diag_perf_memory_bytes(&c));
    assert_int_equal(diag_perf_init(perf_memory, &c, &perf), STATUS_OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    turns(200);
    assert_true(diag_perf_is_quiet(perf));
    assert_true(fake_rdma_is_quiet(1));
    for (uint64_t i = 0; i < (uint64_t)LIMIT_PERF_SESSIONS * SIZE; i++) {
        assert_int_equal(((uint8_t *)perf_memory)[i], 0); /* clean for the next */
    }
    free(perf_memory);
    return 0;
}

#define STAT(name) counter_get(&diag_perf_stats(perf)->name)

/* --- the client ---------------------------------------------------------------------------- */

struct end {
    struct rdma_cm_id *id;
    struct rdma_qp *qp;
    bool is_connected;
    bool is_over;
    uint8_t responder_resources;
    ALIGNED(64) uint8_t qp_memory[512];
};

struct client {
    struct rdma_pd *pd;
    struct rdma_cq *cq;
    struct rdma_mr *mr;
    struct end control;
    struct end data;
    uint32_t sends_done;
    uint32_t recvs_done;
    uint32_t recv_bytes;
    uint32_t failures;
    ALIGNED(64) uint8_t cq_memory[32 * 1024];
    uint8_t message[64];
    uint8_t reply[64];
    struct perf_dest server; /* as it said last */
    uint8_t post[SIZE];      /* what it sends */
    uint8_t poll[SIZE];      /* where it is written to */
};
static struct client clients[CLIENTS];

static void on_event(struct rdma_cm_id *id, const struct rdma_cm_event *event)
{
    struct end *end = id->ctx;
    end->is_connected = event->type == RDMA_CM_EVENT_ESTABLISHED;
    end->is_over =
        event->type == RDMA_CM_EVENT_DISCONNECTED || event->type == RDMA_CM_EVENT_REJECTED;
    end->responder_resources = event->responder_resources;
}

static void client_make(struct client *client)
{
    memset(client, 0, sizeof(*client));
    struct rdma_cq_attr cq = {.entry_count = 1024, .memory = client->cq_memory};
    struct rdma_mr_attr mr = {.kind = RDMA_MR_NIC,
                              .access = RDMA_ACCESS_LOCAL_WRITE | RDMA_ACCESS_REMOTE_WRITE,
                              .memory = client,
                              .len_bytes = sizeof(*client)};
    assert_int_equal(rdma_pd_alloc(device, 0, &client->pd), STATUS_OK);
    assert_int_equal(rdma_cq_create(device, &cq, &client->cq), STATUS_OK);
    assert_int_equal(rdma_mr_reg(client->pd, &mr, &client->mr), STATUS_OK);
}

static void end_connect(struct client *client, struct end *end, uint8_t reads)
{
    struct rdma_qp_init_attr attr = {.pd = client->pd,
                                     .send_cq = client->cq,
                                     .recv_cq = client->cq,
                                     .send_wr_count = 128,
                                     .recv_wr_count = 128,
                                     .send_sge_count = 1,
                                     .recv_sge_count = 1,
                                     .memory = end->qp_memory};
    struct net_addr to = fake_rdma_addr(2);
    uint8_t access = RDMA_ACCESS_REMOTE_WRITE;
    assert_int_equal(rdma_qp_create(&attr, &end->qp), STATUS_OK);
    assert_int_equal(rdma_cm_resolve(device, &to, DIAG_PERF_PORT, on_event, end, &end->id),
                     STATUS_OK);
    assert_int_equal(rdma_cm_qp_init(end->id, end->qp, access), STATUS_OK);
    struct rdma_cm_param param = {
        .qp = end->qp, .initiator_depth = reads, .responder_resources = reads, .access = access};
    assert_int_equal(rdma_cm_connect(end->id, &param), STATUS_OK);
    turns(10);
}

static void client_poll(struct client *client)
{
    struct rdma_wc wc;
    while (rdma_cq_poll(client->cq, &wc, 1) == 1) {
        if (wc.status != RDMA_WC_SUCCESS) {
            client->failures++;
        } else if (wc.opcode == RDMA_WC_RECV) {
            client->recvs_done++;
            client->recv_bytes = wc.len_bytes;
        } else {
            client->sends_done++;
        }
    }
}

static void end_recv(struct client *client, struct end *end, void *to, uint32_t len_bytes)
{
    struct rdma_sge sge = {.addr = (uintptr_t)to, .len_bytes = len_bytes, .lkey = client->mr->lkey};
    struct rdma_recv_wr wr = {.sges = &sge, .sge_count = 1};
    assert_int_equal(rdma_post_recv(end->qp, &wr, NULL), STATUS_OK);
}

static enum status end_post(struct client *client, struct end *end, enum rdma_wr_opcode opcode,
                            const void *from, uint32_t len_bytes, uint64_t offset)
{
    struct rdma_sge sge = {
        .addr = (uintptr_t)from, .len_bytes = len_bytes, .lkey = client->mr->lkey};
    struct rdma_send_wr wr = {
        .sges = &sge,
        .sge_count = 1,
        .opcode = (uint8_t)opcode,
        .flags = RDMA_SEND_SIGNALED,
        .rdma = {.remote_addr = be64_get(client->server.addr) + offset,
                 .rkey = be32_get(client->server.rkey)},
    };
    return rdma_post_send(end->qp, &wr, NULL);
}

/* ctx_xchg_data(): a message there and one of the same length back. */
static void exchange(struct client *client, const void *message, uint32_t len_bytes)
{
    uint32_t before = client->recvs_done;
    memcpy(client->message, message, len_bytes);
    memset(client->reply, 0xee, sizeof(client->reply));
    end_recv(client, &client->control, client->reply, sizeof(struct perf_dest));
    assert_int_equal(
        end_post(client, &client->control, RDMA_WR_SEND, client->message, len_bytes, 0), STATUS_OK);
    turns(5);
    client_poll(client);
    assert_int_equal(client->recvs_done, before + 1);
    assert_int_equal(client->recv_bytes, len_bytes);
}

/* ctx_hand_shake() */
static void hand_shake(struct client *client, bool with_data)
{
    struct perf_dest dest = {.out_reads = be32_make(1)};
    if (with_data) {
        dest.qpn = be32_make(client->data.qp->num);
        dest.rkey = be32_make(client->mr->rkey);
        dest.addr = be64_make((uintptr_t)client->poll);
    }
    exchange(client, &dest, sizeof(dest));
    memcpy(&client->server, client->reply, sizeof(client->server));
}

static const char version[PERF_VERSION_BYTES] = "6.06";

static void client_greet(struct client *client)
{
    struct be32 cycle_buffer = be32_make(4096);
    struct be32 cache_line = be32_make(64);
    client_make(client);
    end_connect(client, &client->control, 0);
    assert_true(client->control.is_connected);
    exchange(client, version, sizeof(version));
    assert_memory_equal(client->reply, version, sizeof(version));
    exchange(client, &cycle_buffer, 4);
    assert_memory_equal(client->reply, &cycle_buffer, 4);
    exchange(client, &cache_line, 4);
    exchange(client, "5", 2);
    assert_string_equal((char *)client->reply, "5");
}

/* All up to the first data. */
static void client_begin(struct client *client, uint8_t reads)
{
    client_greet(client);
    hand_shake(client, false);
    end_connect(client, &client->data, reads);
    assert_true(client->data.is_connected);
    hand_shake(client, false);
    hand_shake(client, true); /* the addresses */
    assert_true(be32_get(client->server.qpn) != 0);
    assert_true(be64_get(client->server.addr) != 0);
    hand_shake(client, true);
    hand_shake(client, true);
}

static void end_leave(struct end *end)
{
    if (end->id != NULL) {
        rdma_cm_destroy(end->id);
        assert_int_equal(rdma_qp_destroy(end->qp), STATUS_OK);
        end->id = NULL;
    }
}

static void client_free(struct client *client)
{
    assert_int_equal(rdma_cq_destroy(client->cq), STATUS_OK);
    assert_int_equal(rdma_mr_dereg(client->mr), STATUS_OK);
    assert_int_equal(rdma_pd_free(client->pd), STATUS_OK);
}

static void client_leave(struct client *client)
{
    end_leave(&client->data);
    turns(5);
    end_leave(&client->control);
    turns(30);
    client_free(client);
}

static void fill(uint8_t *bytes, uint32_t len_bytes)
{
    for (uint32_t i = 0; i < len_bytes; i++) {
        bytes[i] = (uint8_t)(rand() | 0x40);
    }
}

/* --- bandwidth ----------------------------------------------------------------------------- */

static void write_bw_data_arrive_and_nothing_is_answered(void **state)
{
    (void)state;
    struct client *client = &clients[0];
    client_begin(client, 0);
    for (uint32_t size = 1; size <= SIZE; size *= 2) {
        fill(client->post, size);
        assert_int_equal(end_post(client, &client->data, RDMA_WR_RDMA_WRITE, client->post, size, 0),
                         STATUS_OK);
        turns(5);
        assert_memory_equal((void *)(uintptr_t)be64_get(client->server.addr), client->post, size);
    }
    client_poll(client);
    assert_int_equal(client->sends_done, 9 + 21); /* control and data */
    assert_int_equal(client->failures, 0);
    hand_shake(client, true);
    for (uint32_t i = 0; i < 5; i++) {
        exchange(client, "resultxx", 8); /* xchg_bw_reports() */
        assert_memory_equal(client->reply, "resultxx", 8);
    }
    hand_shake(client, true);
    assert_int_equal(STAT(answers), 0);
    assert_int_equal(STAT(protocol_errors), 0);
    for (uint32_t i = 0; i < SIZE; i++) {
        assert_int_equal(client->poll[i], 0);
    }
    client_leave(client);
}

static void write_beyond_the_largest_message_is_refused(void **state)
{
    (void)state;
    struct client *client = &clients[0];
    client_begin(client, 0);
    assert_int_equal(end_post(client, &client->data, RDMA_WR_RDMA_WRITE, client->post, 2, SIZE - 1),
                     STATUS_OK);
    turns(10);
    client_poll(client);
    assert_int_equal(client->failures, 1);
    client_leave(client);
}

static void read_gets_reads_granted_and_memory_read(void **state)
{
    (void)state;
    struct client *client = &clients[0];
    client_begin(client, 16);
    assert_int_equal(client->data.responder_resources, 16);
    memset(client->post, 0xee, 4096);
    assert_int_equal(end_post(client, &client->data, RDMA_WR_RDMA_READ, client->post, 4096, 0),
                     STATUS_OK);
    turns(5);
    client_poll(client);
    assert_int_equal(client->failures, 0);
    assert_int_equal(client->post[0], 0);
    assert_int_equal(client->post[4095], 0);
    hand_shake(client, true);
    client_leave(client);
}

static void read_depth_beyond_the_device_is_cut(void **state)
{
    (void)state;
    client_begin(&clients[0], 200);
    assert_int_equal(clients[0].data.responder_resources, 16);
    client_leave(&clients[0]);
}

static void send_bw_all_messages_are_taken_and_none_answered(void **state)
{
    (void)state;
    struct client *client = &clients[0];
    uint32_t sent = 0;
    client_begin(client, 0);
    hand_shake(client, true);
    uint32_t control = client->sends_done;
    while (sent < 5000) {
        while (sent < 5000 &&
               end_post(client, &client->data, RDMA_WR_SEND, client->post, 65, 0) == STATUS_OK) {
            sent++;
        }
        turns(7);
        client_poll(client);
    }
    turns(3000);
    native_clock_advance(NS_PER_S);
    turns(10);
    client_poll(client);
    assert_int_equal(client->sends_done - control, 5000);
    assert_int_equal(STAT(messages), 5000);
    assert_int_equal(STAT(bytes), 5000 * 65);
    assert_int_equal(STAT(answers), 0);
    hand_shake(client, true);
    client_leave(client);
}

/* --- latency ------------------------------------------------------------------------------- */

/* The first one waits for 5 ms, the rest are answered at once; -a: lengths change. */
static void send_lat_each_message_is_answered_by_one_as_long(void **state)
{
    (void)state;
    struct client *client = &clients[0];
    client_begin(client, 0);
    uint32_t count = 0;
    for (uint32_t size = 1; size <= SIZE; size *= 2) {
        hand_shake(client, true);
        for (uint32_t i = 0; i < 3; i++) {
            uint32_t before = client->recvs_done;
            end_recv(client, &client->data, client->poll, SIZE);
            assert_int_equal(end_post(client, &client->data, RDMA_WR_SEND, client->post, size, 0),
                             STATUS_OK);
            turns(10);
            client_poll(client);
            if (count == 0) {
                assert_int_equal(client->recvs_done, before);
                native_clock_advance(5 * NS_PER_MS);
                turns(100);
                client_poll(client);
            }
            assert_int_equal(client->recvs_done, before + 1);
            assert_int_equal(client->recv_bytes, size);
            count++;
        }
    }
    assert_int_equal(STAT(answers), count);
    assert_int_equal(client->failures, 0);
    client_leave(client);
}

/* ib_send_bw whose first packet came long before the others: one answer too many, no harm. */
static void send_bw_slow_start_is_found_out(void **state)
{
    (void)state;
    struct client *client = &clients[0];
    client_begin(client, 0);
    assert_int_equal(end_post(client, &client->data, RDMA_WR_SEND, client->post, 64, 0), STATUS_OK);
    turns(10);
    native_clock_advance(10 * NS_PER_MS);
    turns(100);
    assert_int_equal(STAT(answers), 1);
    for (uint32_t i = 0; i < 100; i++) {
        assert_int_equal(end_post(client, &client->data, RDMA_WR_SEND, client->post, 64, 0),
                         STATUS_OK);
    }
    turns(300);
    client_poll(client);
    assert_int_equal(STAT(messages), 101);
    assert_in_range(STAT(answers), 1, 4); /* the rest waits for receives */
    assert_int_equal(client->failures, 0);
    client_leave(client);

    client_begin(client, 0); /* the next one in its place begins afresh */
    uint32_t before = client->recvs_done;
    end_recv(client, &client->data, client->poll, SIZE);
    assert_int_equal(end_post(client, &client->data, RDMA_WR_SEND, client->post, 64, 0), STATUS_OK);
    turns(10);
    native_clock_advance(5 * NS_PER_MS);
    turns(100);
    client_poll(client);
    assert_int_equal(client->recvs_done, before + 1);
    client_leave(client);
}

/* --- clients that misbehave ---------------------------------------------------------------- */

static void expect_control_lost(struct client *client, uint64_t protocol_errors)
{
    turns(20);
    assert_true(client->control.is_over);
    assert_int_equal(STAT(protocol_errors), protocol_errors);
    client_leave(client);
}

static void first_message_that_is_no_version_ends_the_connection(void **state)
{
    (void)state;
    static const char *const texts[] = {"", ".5", "6", "6.", "x.y", "6x06", "GET / HTTP/1.0"};
    uint64_t errors = 0;
    for (uint32_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct client *client = &clients[0];
        client_make(client);
        end_connect(client, &client->control, 0);
        strncpy((char *)client->message, texts[i], 16);
        end_post(client, &client->control, RDMA_WR_SEND, client->message, 16, 0);
        expect_control_lost(client, ++errors);
    }
    for (uint32_t len = 0; len < 40; len += 15) { /* not 16 bytes */
        struct client *client = &clients[0];
        client_make(client);
        end_connect(client, &client->control, 0);
        memcpy(client->message, version, sizeof(version));
        end_post(client, &client->control, RDMA_WR_SEND, client->message, len, 0);
        expect_control_lost(client, ++errors);
    }
    assert_int_equal(STAT(sessions), 0);
}

static void control_message_too_long_or_empty_ends_the_session(void **state)
{
    (void)state;
    static const uint32_t lengths[] = {0, 57, 64, 65, 1000, SIZE};
    for (uint32_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        struct client *client = &clients[0];
        client_begin(client, 0);
        end_post(client, &client->control, RDMA_WR_SEND, client->post, lengths[i], 0);
        turns(20);
        assert_true(client->control.is_over);
        assert_true(client->data.is_over); /* it goes with its session */
        assert_int_equal(STAT(protocol_errors), i + 1);
        client_leave(client);
    }
}

static void control_messages_faster_than_answers_end_the_session(void **state)
{
    (void)state;
    struct client *client = &clients[0];
    client_begin(client, 0);
    for (uint32_t i = 0; i < 50; i++) {
        end_post(client, &client->control, RDMA_WR_SEND, client->message, 8, 0);
    }
    turns(100);
    assert_true(client->control.is_over);
    client_leave(client);
}

static void write_to_an_address_not_given_ends_its_connection(void **state)
{
    (void)state;
    struct client *client = &clients[0];
    client_begin(client, 0);
    client->server.addr = be64_make(0);
    assert_int_equal(end_post(client, &client->data, RDMA_WR_RDMA_WRITE, client->post, 1, 0),
                     STATUS_OK);
    turns(20);
    assert_true(client->data.is_over);
    assert_false(client->control.is_over);
    hand_shake(client, true);
    client_leave(client);
}

/* Somebody else's QP number is not his to take. */
static void data_of_another_peer_is_not_bound_to_the_session(void **state)
{
    (void)state;
    client_greet(&clients[0]);
    end_connect(&clients[0], &clients[0].data, 0);
    fake_rdma_source = 7;
    client_greet(&clients[1]);
    clients[1].data.qp = clients[0].data.qp;
    hand_shake(&clients[1], true);
    assert_int_equal(be32_get(clients[1].server.qpn), 0);
    clients[1].data.qp = NULL;
    hand_shake(&clients[0], true);
    assert_true(be32_get(clients[0].server.qpn) != 0);
    client_leave(&clients[1]);
    client_leave(&clients[0]);
}

static void keys_of_a_session_die_with_it(void **state)
{
    (void)state;
    client_begin(&clients[0], 0);
    struct perf_dest old = clients[0].server;
    client_leave(&clients[0]);
    client_begin(&clients[1], 0);
    assert_true(be32_get(clients[1].server.rkey) != be32_get(old.rkey));
    clients[1].server.rkey = old.rkey;
    end_post(&clients[1], &clients[1].data, RDMA_WR_RDMA_WRITE, clients[1].post, 1, 0);
    turns(10);
    assert_true(clients[1].data.is_over);
    client_leave(&clients[1]);
}

/* --- many clients -------------------------------------------------------------------------- */

static void clients_at_once_do_not_disturb_each_other(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < LIMIT_PERF_SESSIONS; i++) {
        fake_rdma_source = (uint8_t)(10 + i);
        client_begin(&clients[i], 0);
    }
    for (uint32_t size = 1; size <= SIZE; size *= 2) {
        for (uint32_t i = 0; i < LIMIT_PERF_SESSIONS; i++) {
            fill(clients[i].post, size);
            end_post(&clients[i], &clients[i].data, RDMA_WR_RDMA_WRITE, clients[i].post, size, 0);
        }
        turns(5);
        for (uint32_t i = 0; i < LIMIT_PERF_SESSIONS; i++) {
            assert_memory_equal((void *)(uintptr_t)be64_get(clients[i].server.addr),
                                clients[i].post, size);
        }
    }
    for (uint32_t i = 0; i < LIMIT_PERF_SESSIONS; i++) {
        assert_int_equal(clients[i].failures, 0);
        client_leave(&clients[i]);
    }
}

static void sessions_all_taken_idle_one_makes_room(void **state)
{
    (void)state;
    struct client *last = &clients[LIMIT_PERF_SESSIONS];
    for (uint32_t i = 0; i < LIMIT_PERF_SESSIONS; i++) {
        client_begin(&clients[i], 0);
    }
    for (uint32_t round = 0; round < 2; round++) {
        client_make(last);
        end_connect(last, &last->control, 0);
        memcpy(last->message, version, sizeof(version));
        end_post(last, &last->control, RDMA_WR_SEND, last->message, sizeof(version), 0);
        turns(20);
        assert_true(last->control.is_over);
        client_leave(last);
        assert_int_equal(STAT(refused), round + 1);
        assert_int_equal(STAT(evicted), round);
        pass(71);
        for (uint32_t i = 1; i < LIMIT_PERF_SESSIONS && round == 0; i++) {
            hand_shake(&clients[i], true); /* these are alive */
        }
    }
    assert_true(clients[0].control.is_over);
    assert_true(clients[0].data.is_over);
    client_begin(last, 0);
    client_leave(last);
    for (uint32_t i = 0; i < LIMIT_PERF_SESSIONS; i++) {
        client_leave(&clients[i]);
    }
}

/* WRITEs are seen by nobody but the QP's count of packets: they keep the control connection. */
static void sessions_whose_data_flow_are_not_idle(void **state)
{
    (void)state;
    struct client *last = &clients[LIMIT_PERF_SESSIONS];
    for (uint32_t i = 0; i < LIMIT_PERF_SESSIONS; i++) {
        client_begin(&clients[i], 0);
        fill(clients[i].post, 64);
    }
    for (uint32_t s = 0; s < 70; s += 5) {
        for (uint32_t i = 0; i < LIMIT_PERF_SESSIONS; i++) {
            end_post(&clients[i], &clients[i].data, RDMA_WR_RDMA_WRITE, clients[i].post, 64, 0);
        }
        pass(5);
    }
    client_make(last);
    end_connect(last, &last->control, 0);
    memcpy(last->message, version, sizeof(version));
    end_post(last, &last->control, RDMA_WR_SEND, last->message, sizeof(version), 0);
    turns(20);
    assert_int_equal(STAT(evicted), 0);
    client_leave(last);
    for (uint32_t i = 0; i < LIMIT_PERF_SESSIONS; i++) {
        assert_false(clients[i].control.is_over);
        client_leave(&clients[i]);
    }
}

static void connections_all_taken_are_refused_until_one_is_idle(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < LIMIT_PERF_CONNS; i++) {
        client_make(&clients[i]);
        end_connect(&clients[i], &clients[i].control, 0);
        assert_true(clients[i].control.is_connected);
    }
    struct client *last = &clients[LIMIT_PERF_CONNS];
    client_make(last);
    end_connect(last, &last->control, 0);
    assert_true(last->control.is_over);
    assert_int_equal(STAT(refused), 1);
    client_leave(last);
    pass(71);
    client_greet(last);
    assert_int_equal(STAT(evicted), 1);
    client_leave(last);
    for (uint32_t i = 0; i < LIMIT_PERF_CONNS; i++) {
        client_leave(&clients[i]);
    }
}

static void clients_come_and_go_a_thousand_times_nothing_is_leaked(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 1000; i++) {
        struct client *client = &clients[0];
        if (i % 2 == 0) {
            client_begin(client, 0);
        } else {
            client_greet(client);
        }
        fake_rdma_faults.destroy_again = i % 4;
        fake_rdma_faults.dereg_again = i % 3;
        rdma_cm_destroy(client->control.id); /* control first: as when a client is killed */
        turns(20);
        fake_rdma_faults.destroy_again = 0;
        fake_rdma_faults.dereg_again = 0;
        client->control.id = NULL;
        assert_int_equal(rdma_qp_destroy(client->control.qp), STATUS_OK);
        end_leave(&client->data);
        turns(30);
        client_free(client);
        assert_true(diag_perf_is_quiet(perf));
        assert_true(fake_rdma_is_quiet(1));
    }
    assert_int_equal(STAT(sessions), 1000);
}

static void any_call_failing_while_accepting_leaks_nothing(void **state)
{
    (void)state;
    bool is_accepted = false;
    for (uint32_t n = 1; !is_accepted; n++) {
        struct client *client = &clients[0];
        assert_true(n < 20);
        client_make(client);
        /* The first four are the client's own: id, and its peer's, then qp_init. */
        struct rdma_qp_init_attr attr = {.pd = client->pd,
                                         .send_cq = client->cq,
                                         .recv_cq = client->cq,
                                         .send_wr_count = 1,
                                         .recv_wr_count = 1,
                                         .send_sge_count = 1,
                                         .recv_sge_count = 1,
                                         .memory = client->control.qp_memory};
        struct net_addr to = fake_rdma_addr(2);
        assert_int_equal(rdma_qp_create(&attr, &client->control.qp), STATUS_OK);
        assert_int_equal(rdma_cm_resolve(device, &to, DIAG_PERF_PORT, on_event, &client->control,
                                         &client->control.id),
                         STATUS_OK);
        assert_int_equal(rdma_cm_qp_init(client->control.id, client->control.qp, 0), STATUS_OK);
        struct rdma_cm_param param = {.qp = client->control.qp};
        assert_int_equal(rdma_cm_connect(client->control.id, &param), STATUS_OK);
        fake_rdma_faults.fail_at = n;
        turns(20);
        is_accepted = client->control.is_connected;
        fake_rdma_faults.fail_at = 0;
        assert_int_equal(diag_perf_is_quiet(perf), !is_accepted);
        client_leave(client);
    }
}

static void memory_that_cannot_be_registered_ends_the_session(void **state)
{
    (void)state;
    struct client *client = &clients[0];
    client_make(client);
    end_connect(client, &client->control, 0);
    fake_rdma_faults.fail_at = 1;
    memcpy(client->message, version, sizeof(version));
    end_post(client, &client->control, RDMA_WR_SEND, client->message, sizeof(version), 0);
    turns(20);
    assert_true(client->control.is_over);
    assert_int_equal(STAT(errors), 1);
    client_leave(client);
}

static void init_any_call_failing_leaks_nothing(void **state)
{
    (void)state;
    struct diag_perf *second;
    struct diag_perf_config c = config(DIAG_PERF_PORT);
    void *memory = zeroed(diag_perf_memory_bytes(&c));
    assert_int_equal(diag_perf_init(memory, &c, &second), STATUS_EXISTS);
    c.port = 5;
    c.len_bytes = 5000;
    assert_int_equal(diag_perf_init(memory, &c, &second), STATUS_INVALID);
    c.len_bytes = SIZE;
    for (uint32_t n = 1; n <= 5; n++) { /* domain, queue, two regions, id */
        fake_rdma_faults.fail_at = n;
        assert_int_equal(diag_perf_init(memory, &c, &second), STATUS_NO_SPACE);
        assert_true(fake_rdma_is_quiet(1));
    }
    free(memory);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

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
