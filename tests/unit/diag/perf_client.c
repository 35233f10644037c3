#include "tests/unit/diag/perf_client.h"

#include <stdlib.h>
#include <string.h>

struct diag_perf *perf_server;
struct perf_client perf_clients[PERF_CLIENTS];
const char perf_version[PERF_VERSION_BYTES] = "6.06";

static void *perf_memory;

struct diag_perf_config perf_config(uint16_t port)
{
    return (struct diag_perf_config){.device = rig_device, .port = port, .len_bytes = PERF_SIZE};
}

void *perf_zeroed(uint64_t bytes)
{
    void *memory = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    assert_non_null(memory);
    memset(memory, 0, bytes);
    return memory;
}

int perf_setup(void **state)
{
    (void)state;
    rig_start();
    struct diag_perf_config c = perf_config(DIAG_PERF_PORT);
    perf_memory = perf_zeroed(diag_perf_memory_bytes(&c));
    assert_int_equal(diag_perf_init(perf_memory, &c, &perf_server), STATUS_OK);
    return 0;
}

int perf_teardown(void **state)
{
    (void)state;
    rig_turns(200);
    assert_true(diag_perf_is_quiet(perf_server));
    assert_true(fake_rdma_is_quiet(1));
    for (uint64_t i = 0; i < (uint64_t)LIMIT_PERF_SESSIONS * PERF_SIZE; i++) {
        assert_int_equal(((uint8_t *)perf_memory)[i], 0); /* clean for the next */
    }
    free(perf_memory);
    return 0;
}

/* --- the client ---------------------------------------------------------------------------- */

static void on_event(struct rdma_cm_id *id, const struct rdma_cm_event *event)
{
    struct perf_end *end = id->ctx;
    end->is_connected = event->type == RDMA_CM_EVENT_ESTABLISHED;
    end->is_over =
        event->type == RDMA_CM_EVENT_DISCONNECTED || event->type == RDMA_CM_EVENT_REJECTED;
    end->responder_resources = event->responder_resources;
}

void perf_client_make(struct perf_client *client)
{
    memset(client, 0, sizeof(*client));
    struct rdma_cq_attr cq = {.entry_count = 1024, .memory = client->cq_memory};
    struct rdma_mr_attr mr = {.kind = RDMA_MR_NIC,
                              .access = RDMA_ACCESS_LOCAL_WRITE | RDMA_ACCESS_REMOTE_WRITE,
                              .memory = client,
                              .len_bytes = sizeof(*client)};
    assert_int_equal(rdma_pd_alloc(rig_device, 0, &client->pd), STATUS_OK);
    assert_int_equal(rdma_cq_create(rig_device, &cq, &client->cq), STATUS_OK);
    assert_int_equal(rdma_mr_reg(client->pd, &mr, &client->mr), STATUS_OK);
}

void perf_end_ask(struct perf_client *client, struct perf_end *end, uint8_t reads)
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
    assert_int_equal(rdma_cm_resolve(rig_device, &to, DIAG_PERF_PORT, on_event, end, &end->id),
                     STATUS_OK);
    assert_int_equal(rdma_cm_qp_init(end->id, end->qp, access), STATUS_OK);
    struct rdma_cm_param param = {
        .qp = end->qp, .initiator_depth = reads, .responder_resources = reads, .access = access};
    assert_int_equal(rdma_cm_connect(end->id, &param), STATUS_OK);
}

void perf_end_connect(struct perf_client *client, struct perf_end *end, uint8_t reads)
{
    perf_end_ask(client, end, reads);
    rig_turns(10);
}

void perf_client_poll(struct perf_client *client)
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

void perf_end_recv(struct perf_client *client, struct perf_end *end, void *to, uint32_t len_bytes)
{
    struct rdma_sge sge = {.addr = (uintptr_t)to, .len_bytes = len_bytes, .lkey = client->mr->lkey};
    struct rdma_recv_wr wr = {.sges = &sge, .sge_count = 1};
    assert_int_equal(rdma_post_recv(end->qp, &wr, NULL), STATUS_OK);
}

enum status perf_end_post(struct perf_client *client, struct perf_end *end,
                          enum rdma_wr_opcode opcode, const void *from, uint32_t len_bytes,
                          uint64_t offset)
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
void perf_exchange(struct perf_client *client, const void *message, uint32_t len_bytes)
{
    uint32_t before = client->recvs_done;
    memcpy(client->message, message, len_bytes);
    memset(client->reply, 0xee, sizeof(client->reply));
    perf_end_recv(client, &client->control, client->reply, sizeof(struct perf_dest));
    assert_int_equal(
        perf_end_post(client, &client->control, RDMA_WR_SEND, client->message, len_bytes, 0),
        STATUS_OK);
    rig_turns(5);
    perf_client_poll(client);
    assert_int_equal(client->recvs_done, before + 1);
    assert_int_equal(client->recv_bytes, len_bytes);
}

/* ctx_hand_shake() */
void perf_hand_shake(struct perf_client *client, bool with_data)
{
    struct perf_dest dest = {.out_reads = be32_make(1)};
    if (with_data) {
        dest.qpn = be32_make(client->data.qp->num);
        dest.rkey = be32_make(client->mr->rkey);
        dest.addr = be64_make((uintptr_t)client->poll);
    }
    perf_exchange(client, &dest, sizeof(dest));
    memcpy(&client->server, client->reply, sizeof(client->server));
}

void perf_client_greet(struct perf_client *client)
{
    struct be32 cycle_buffer = be32_make(4096);
    struct be32 cache_line = be32_make(64);
    perf_client_make(client);
    perf_end_connect(client, &client->control, 0);
    assert_true(client->control.is_connected);
    perf_exchange(client, perf_version, sizeof(perf_version));
    assert_memory_equal(client->reply, perf_version, sizeof(perf_version));
    perf_exchange(client, &cycle_buffer, 4);
    assert_memory_equal(client->reply, &cycle_buffer, 4);
    perf_exchange(client, &cache_line, 4);
    perf_exchange(client, "5", 2);
    assert_string_equal((char *)client->reply, "5");
}

/* All up to the first data. */
void perf_client_begin(struct perf_client *client, uint8_t reads)
{
    perf_client_greet(client);
    perf_hand_shake(client, false);
    perf_end_connect(client, &client->data, reads);
    assert_true(client->data.is_connected);
    perf_hand_shake(client, false);
    perf_hand_shake(client, true); /* the addresses */
    assert_true(be32_get(client->server.qpn) != 0);
    assert_true(be64_get(client->server.addr) != 0);
    perf_hand_shake(client, true);
    perf_hand_shake(client, true);
}

void perf_end_leave(struct perf_end *end)
{
    if (end->id != NULL) {
        rdma_cm_destroy(end->id);
        assert_int_equal(rdma_qp_destroy(end->qp), STATUS_OK);
        end->id = NULL;
    }
}

void perf_client_free(struct perf_client *client)
{
    assert_int_equal(rdma_cq_destroy(client->cq), STATUS_OK);
    assert_int_equal(rdma_mr_dereg(client->mr), STATUS_OK);
    assert_int_equal(rdma_pd_free(client->pd), STATUS_OK);
}

void perf_client_leave(struct perf_client *client)
{
    perf_end_leave(&client->data);
    rig_turns(5);
    perf_end_leave(&client->control);
    rig_turns(30);
    perf_client_free(client);
}

void perf_fill(uint8_t *bytes, uint32_t len_bytes)
{
    for (uint32_t i = 0; i < len_bytes; i++) {
        bytes[i] = (uint8_t)(rand() | 0x40);
    }
}
