#include "tests/unit/diag/rping_rig.h"

#include <stdlib.h>
#include <string.h>

struct diag_rping *rping_server;
struct rping_peer rping_peers[LIMIT_RPING_CONNS + 1];

static void *memories[8];
static uint32_t memory_count;

void *rping_take(uint64_t bytes)
{
    void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    assert_non_null(memory);
    assert_true(memory_count < ARRAY_SIZE(memories));
    memories[memory_count++] = memory;
    return memory;
}

void rping_start(void)
{
    rig_start();
    void *memory = rping_take(diag_rping_memory_bytes(rig_device));
    assert_int_equal(diag_rping_init(memory, rig_device, DIAG_RPING_PORT, &rping_server),
                     STATUS_OK);
}

int rping_setup(void **state)
{
    (void)state;
    memory_count = 0; /* also after a test that has failed */
    rping_start();
    return 0;
}

int rping_teardown(void **state)
{
    (void)state;
    rig_turns(200);
    assert_true(diag_rping_is_quiet(rping_server));
    assert_true(fake_rdma_is_quiet(1));
    while (memory_count > 0) {
        free(memories[--memory_count]);
    }
    return 0;
}

/* --- our client ---------------------------------------------------------------------------- */

static void note(void *ctx, const struct diag_rping_result *result)
{
    struct rping_outcome *outcome = ctx;
    outcome->count++;
    outcome->result = *result;
}

struct diag_rping_client *rping_client_new(void)
{
    struct diag_rping_client *client;
    void *memory = rping_take(diag_rping_client_memory_bytes(rig_device));
    assert_int_equal(diag_rping_client_init(memory, rig_device, &client), STATUS_OK);
    return client;
}

struct diag_rping_run rping_run_of(struct rping_outcome *outcome, uint32_t count,
                                   uint32_t len_bytes)
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

/* --- a peer in the test's hands ------------------------------------------------------------ */

static void on_event(struct rdma_cm_id *id, const struct rdma_cm_event *event)
{
    struct rping_peer *peer = id->ctx;
    peer->is_connected = event->type == RDMA_CM_EVENT_ESTABLISHED;
    peer->is_over =
        event->type == RDMA_CM_EVENT_DISCONNECTED || event->type == RDMA_CM_EVENT_REJECTED;
}

void rping_peer_make(struct rping_peer *peer)
{
    memset(peer, 0, sizeof(*peer));
    struct rdma_cq_attr cq = {.entry_count = 64, .memory = peer->cq_memory};
    struct rdma_mr_attr mr = {.kind = RDMA_MR_NIC,
                              .access = RDMA_ACCESS_LOCAL_WRITE | RDMA_ACCESS_REMOTE_READ |
                                        RDMA_ACCESS_REMOTE_WRITE,
                              .memory = peer,
                              .len_bytes = sizeof(*peer)};
    assert_int_equal(rdma_pd_alloc(rig_device, 0, &peer->pd), STATUS_OK);
    assert_int_equal(rdma_cq_create(rig_device, &cq, &peer->cq), STATUS_OK);
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

void rping_peer_recv(struct rping_peer *peer)
{
    struct rdma_sge sge = {
        .addr = (uintptr_t)&peer->reply, .len_bytes = sizeof(peer->reply), .lkey = peer->mr->lkey};
    struct rdma_recv_wr wr = {.wr_id = 1, .sges = &sge, .sge_count = 1};
    assert_int_equal(rdma_post_recv(peer->qp, &wr, NULL), STATUS_OK);
}

void rping_peer_ask(struct rping_peer *peer)
{
    uint8_t access = RDMA_ACCESS_REMOTE_READ | RDMA_ACCESS_REMOTE_WRITE;
    struct net_addr to = fake_rdma_addr(2);
    rping_peer_make(peer);
    struct rdma_cm_param param = {.qp = peer->qp, .responder_resources = 1, .access = access};
    assert_int_equal(rdma_cm_resolve(rig_device, &to, DIAG_RPING_PORT, on_event, peer, &peer->id),
                     STATUS_OK);
    assert_int_equal(rdma_cm_qp_init(peer->id, peer->qp, access), STATUS_OK);
    rping_peer_recv(peer);
    assert_int_equal(rdma_cm_connect(peer->id, &param), STATUS_OK);
}

void rping_peer_connect(struct rping_peer *peer)
{
    rping_peer_ask(peer);
    rig_turns(10);
}

void rping_peer_leave(struct rping_peer *peer)
{
    rdma_cm_destroy(peer->id);
    assert_int_equal(rdma_qp_destroy(peer->qp), STATUS_OK);
    assert_int_equal(rdma_cq_destroy(peer->cq), STATUS_OK);
    assert_int_equal(rdma_mr_dereg(peer->mr), STATUS_OK);
    assert_int_equal(rdma_pd_free(peer->pd), STATUS_OK);
}

void rping_peer_send(struct rping_peer *peer, uint32_t len_bytes)
{
    struct rdma_sge sge = {
        .addr = (uintptr_t)&peer->info, .len_bytes = len_bytes, .lkey = peer->mr->lkey};
    struct rdma_send_wr wr = {.sges = &sge, .sge_count = 1, .opcode = RDMA_WR_SEND};
    assert_int_equal(rdma_post_send(peer->qp, &wr, NULL), STATUS_OK);
}

void rping_peer_tell(struct rping_peer *peer, uint32_t rkey, uint32_t len_bytes)
{
    peer->info = (struct diag_rping_info){.addr = be64_make((uintptr_t)peer->data),
                                          .rkey = be32_make(rkey),
                                          .len_bytes = be32_make(len_bytes)};
    rping_peer_send(peer, sizeof(peer->info));
}

/* A message of the server came. */
bool rping_peer_told(struct rping_peer *peer)
{
    struct rdma_wc wc;
    return rdma_cq_poll(peer->cq, &wc, 1) == 1 && wc.status == RDMA_WC_SUCCESS && wc.wr_id == 1;
}
