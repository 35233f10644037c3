#include "pair.h"

#include <stdlib.h>

struct pair pair;

#define STEP_NS (100 * NS_PER_US)

/* --- turning ------------------------------------------------------------------------------- */

void pair_advance(uint64_t duration_ns)
{
    uint64_t end_ns = clock_now_ns() + duration_ns;

    while (clock_now_ns() < end_ns) {
        native_clock_advance(STEP_NS < end_ns - clock_now_ns() ? STEP_NS : end_ns - clock_now_ns());
        model_turn();
    }
}

/* --- nodes --------------------------------------------------------------------------------- */

static void node_open(struct node *node, uint32_t index, bool ipv6)
{
    struct node_counts counts = {.qps = 16,
                                 .cqs = 8,
                                 .srqs = 2,
                                 .pds = 4,
                                 .mrs = 8,
                                 .keys = 8,
                                 .cm_ids = 16,
                                 .bufs = 256,
                                 .ipv6 = ipv6};

    memset(node, 0, sizeof(*node));
    node->event = -1;
    model_node_open(&node->model, pair.wire, index, 0, &counts);
}

void pair_open(uint16_t mtu_bytes, bool ipv6)
{
    struct wire_config config = {.seed = 1, .port_count = 2, .mtu_bytes = mtu_bytes};

    native_clock_set(100 * NS_PER_S);
    sched_init(1, SCHED_IDLE_POLL);
    pair.wire = wire_open(&config);
    node_open(&pair.nodes[0], 0, ipv6);
    node_open(&pair.nodes[1], 1, ipv6);
    pair_advance(5 * NS_PER_S);
}

void pair_close(void)
{
    pair_advance(60 * NS_PER_S); /* time wait */
    for (uint32_t i = 0; i < 2; i++) {
        if (pair.nodes[i].listener != NULL) {
            rdma_cm_destroy(pair.nodes[i].listener);
        }
    }
    model_turn();
    for (uint32_t i = 0; i < 2; i++) {
        struct node *node = &pair.nodes[i];
        assert_true(rdma_soft_is_quiet(node->model.device));
        assert_true(net_tx_room(node->model.nif) > 0);
    }
    assert_true(wire_is_quiet(pair.wire));
    for (uint32_t i = 0; i < 2; i++) {
        model_node_close(&pair.nodes[i].model);
    }
    wire_close(pair.wire);
    native_clock_use_real();
}

int pair_setup(void **state)
{
    (void)state;
    pair_open(4200, false);
    return 0;
}

int pair_teardown(void **state)
{
    (void)state;
    pair_close();
    return 0;
}

/* --- objects ------------------------------------------------------------------------------- */

void node_qp(struct node *node)
{
    struct rdma_device *device = node->model.device;

    assert_int_equal(rdma_pd_alloc(device, 0, &node->pd), STATUS_OK);
    node->cq_memory = model_memory(rdma_cq_memory_bytes(device, 4 * PAIR_WRS));
    struct rdma_cq_attr cq = {.entry_count = 4 * PAIR_WRS, .memory = node->cq_memory};
    assert_int_equal(rdma_cq_create(device, &cq, &node->cq), STATUS_OK);
    node->data = model_memory(PAIR_DATA_BYTES);
    struct rdma_mr_attr mr = {.kind = RDMA_MR_NIC,
                              .access = RDMA_ACCESS_LOCAL_WRITE | RDMA_ACCESS_REMOTE_WRITE |
                                        RDMA_ACCESS_REMOTE_READ,
                              .memory = node->data,
                              .len_bytes = PAIR_DATA_BYTES};
    assert_int_equal(rdma_mr_reg(node->pd, &mr, &node->mr), STATUS_OK);
    struct rdma_qp_init_attr attr = {.type = RDMA_QP_RC,
                                     .pd = node->pd,
                                     .send_cq = node->cq,
                                     .recv_cq = node->cq,
                                     .send_wr_count = PAIR_WRS,
                                     .recv_wr_count = PAIR_WRS,
                                     .send_sge_count = 1,
                                     .recv_sge_count = 1,
                                     .ctx = node};
    node->qp_memory = model_memory(rdma_qp_memory_bytes(&attr));
    attr.memory = node->qp_memory;
    assert_int_equal(rdma_qp_create(&attr, &node->qp), STATUS_OK);
}

void node_qp_free(struct node *node)
{
    while (rdma_qp_destroy(node->qp) == STATUS_AGAIN) {
        model_turn();
    }
    assert_int_equal(rdma_mr_dereg(node->mr), STATUS_OK);
    assert_int_equal(rdma_cq_destroy(node->cq), STATUS_OK);
    assert_int_equal(rdma_pd_free(node->pd), STATUS_OK);
    free(node->qp_memory);
    free(node->cq_memory);
    free(node->data);
}

/* --- connections --------------------------------------------------------------------------- */

static const struct rdma_cm_param param = {
    .responder_resources = 16,
    .initiator_depth = 16,
    .retry_count = 7,
    .rnr_retry_count = 7,
    .access = RDMA_ACCESS_REMOTE_READ | RDMA_ACCESS_REMOTE_WRITE | RDMA_ACCESS_LOCAL_WRITE};

static void connect_now(struct node *node, struct rdma_cm_id *id, bool active)
{
    struct rdma_cm_param p = param;

    p.qp = node->qp;
    p.private_data = active ? "hello" : "welcome";
    p.private_bytes = active ? 5 : 7;
    assert_int_equal(active ? rdma_cm_connect(id, &p) : rdma_cm_accept(id, &p), STATUS_OK);
}

static void on_event(struct rdma_cm_id *id, const struct rdma_cm_event *event)
{
    struct node *node = id->ctx;

    node->event = (int)event->type;
    node->id = id;
    if (event->private_data != NULL && event->private_bytes > 0) {
        node->private_bytes = event->private_bytes;
        memcpy(node->private_data, event->private_data,
               event->private_bytes < 256 ? event->private_bytes : 256);
    }
    switch (event->type) {
    case RDMA_CM_EVENT_RESOLVED:
        connect_now(node, id, true);
        break;
    case RDMA_CM_EVENT_REQUEST:
        if (node->refuse) {
            assert_int_equal(rdma_cm_reject(id, "no", 2), STATUS_OK);
            rdma_cm_destroy(id);
            node->id = NULL;
        } else {
            connect_now(node, id, false);
        }
        break;
    case RDMA_CM_EVENT_REJECTED:
        node->reason = event->reason;
        break;
    case RDMA_CM_EVENT_DISCONNECTED:
        node->disconnects++;
        break;
    case RDMA_CM_EVENT_UNREACHABLE:
    case RDMA_CM_EVENT_ESTABLISHED:
    case RDMA_CM_EVENT_TIMEWAIT_EXIT:
    default:
        break;
    }
}

void node_listen(struct node *node, uint16_t port)
{
    struct net_addr any = {{0}};

    assert_int_equal(
        rdma_cm_listen(node->model.device, &any, port, 8, on_event, node, &node->listener),
        STATUS_OK);
}

void pair_connect(uint16_t port)
{
    struct node *node = &pair.nodes[0];

    node->event = -1;
    assert_int_equal(rdma_cm_resolve(node->model.device, &pair.nodes[1].model.addr, port, on_event,
                                     node, &node->id),
                     STATUS_OK);
    pair_advance(2 * NS_PER_MS);
}

void pair_disconnect(void)
{
    assert_int_equal(rdma_cm_disconnect(pair.nodes[0].id), STATUS_OK);
    pair_advance(2 * NS_PER_MS);
    for (uint32_t i = 0; i < 2; i++) {
        rdma_cm_destroy(pair.nodes[i].id);
    }
}

/* --- work ---------------------------------------------------------------------------------- */

struct rdma_wc node_wc(struct node *node, uint64_t patience_ns)
{
    uint64_t end_ns = clock_now_ns() + patience_ns;
    struct rdma_wc wc;

    model_turn();
    while (rdma_cq_poll(node->cq, &wc, 1) == 0) {
        assert_true(clock_now_ns() < end_ns);
        pair_advance(STEP_NS);
    }
    return wc;
}

void node_recv(struct node *node, uint64_t wr_id, uint32_t offset, uint32_t len_bytes)
{
    struct rdma_sge sge = {
        .addr = (uintptr_t)node->data + offset, .len_bytes = len_bytes, .lkey = node->mr->lkey};
    struct rdma_recv_wr wr = {.wr_id = wr_id, .sges = &sge, .sge_count = 1};

    assert_int_equal(rdma_post_recv(node->qp, &wr, NULL), STATUS_OK);
}

void node_send(struct node *node, const struct rdma_send_wr *wr, uint32_t offset,
               uint32_t len_bytes)
{
    struct rdma_sge sge = {
        .addr = (uintptr_t)node->data + offset, .len_bytes = len_bytes, .lkey = node->mr->lkey};
    struct rdma_send_wr copy = *wr;

    copy.sges = &sge;
    copy.sge_count = 1;
    assert_int_equal(rdma_post_send(node->qp, &copy, NULL), STATUS_OK);
}
