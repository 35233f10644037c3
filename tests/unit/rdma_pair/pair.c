#include "pair.h"

#include <stdlib.h>

struct pair pair;

#define STEP_NS (100 * NS_PER_US)

/* --- turning ------------------------------------------------------------------------------- */

void pair_turn(void)
{
    for (uint32_t quiet = 0, turns = 0; quiet < 4; turns++) {
        assert_true(turns < 100000);
        quiet = sched_turn() == 0 ? quiet + 1 : 0;
    }
}

void pair_advance(uint64_t duration_ns)
{
    uint64_t end_ns = clock_now_ns() + duration_ns;

    while (clock_now_ns() < end_ns) {
        native_clock_advance(STEP_NS < end_ns - clock_now_ns() ? STEP_NS : end_ns - clock_now_ns());
        pair_turn();
    }
}

/* --- nodes --------------------------------------------------------------------------------- */

static void *aligned(uint64_t bytes)
{
    void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);

    assert_non_null(memory);
    return memory;
}

static void node_open(struct node *node, uint32_t index, bool ipv6)
{
    uint8_t seed[RNG_SEED_BYTES] = {(uint8_t)(index + 1)};
    struct net_if_config net = {.port = wire_port(pair.wire, index),
                                .addr_count = 1,
                                .buf_count = 256,
                                .big_buf_count = 64,
                                .neighbor_count = 16};

    memset(node, 0, sizeof(*node));
    node->event = -1;
    node->addr = net_addr_ipv4(192, 0, 2, (uint8_t)(index + 1));
    if (ipv6) {
        assert_true(net_addr_parse(index == 0 ? "fd00::1" : "fd00::2", &node->addr));
    }
    net.addrs[0] = (struct net_if_addr){.addr = node->addr, .prefix_bits = ipv6 ? 64 : 24};
    node->nif_memory = aligned(net_if_memory_bytes(&net));
    assert_int_equal(net_if_init(node->nif_memory, &net, &node->nif), STATUS_OK);
    assert_int_equal(rng_seed(&node->rng, seed, sizeof(seed)), STATUS_OK);
    struct rdma_soft_config config = {.nif = node->nif,
                                      .rng = &node->rng,
                                      .name = "soft",
                                      .qp_count = 16,
                                      .cq_count = 8,
                                      .srq_count = 2,
                                      .pd_count = 4,
                                      .mr_count = 8,
                                      .key_count = 8,
                                      .ah_count = 4,
                                      .cm_id_count = 16,
                                      .ecn = true};
    node->device_memory = aligned(rdma_soft_memory_bytes(&config));
    assert_int_equal(rdma_soft_init(node->device_memory, &config, &node->device), STATUS_OK);
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
    pair_turn();
    for (uint32_t i = 0; i < 2; i++) {
        struct node *node = &pair.nodes[i];
        assert_true(rdma_soft_is_quiet(node->device));
        assert_true(net_tx_room(node->nif) > 0);
    }
    assert_true(wire_is_quiet(pair.wire));
    for (uint32_t i = 0; i < 2; i++) {
        free(pair.nodes[i].nif_memory);
        free(pair.nodes[i].device_memory);
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
    struct rdma_device *device = node->device;

    assert_int_equal(rdma_pd_alloc(device, 0, &node->pd), STATUS_OK);
    node->cq_memory = aligned(rdma_cq_memory_bytes(device, 4 * PAIR_WRS));
    struct rdma_cq_attr cq = {.entry_count = 4 * PAIR_WRS, .memory = node->cq_memory};
    assert_int_equal(rdma_cq_create(device, &cq, &node->cq), STATUS_OK);
    node->data = aligned(PAIR_DATA_BYTES);
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
    node->qp_memory = aligned(rdma_qp_memory_bytes(&attr));
    attr.memory = node->qp_memory;
    assert_int_equal(rdma_qp_create(&attr, &node->qp), STATUS_OK);
}

void node_qp_free(struct node *node)
{
    while (rdma_qp_destroy(node->qp) == STATUS_AGAIN) {
        pair_turn();
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

    assert_int_equal(rdma_cm_listen(node->device, &any, port, 8, on_event, node, &node->listener),
                     STATUS_OK);
}

void pair_connect(uint16_t port)
{
    struct node *node = &pair.nodes[0];

    node->event = -1;
    assert_int_equal(
        rdma_cm_resolve(node->device, &pair.nodes[1].addr, port, on_event, node, &node->id),
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

    pair_turn();
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
