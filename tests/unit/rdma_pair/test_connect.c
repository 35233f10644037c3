/*
 * The whole stack against itself: connections by CM over the engine, data both ways, disconnects,
 * a thousand times; what is in the way.
 */
#include "pair.h"

#define PORT 7174

static struct node *a = &pair.nodes[0];
static struct node *b = &pair.nodes[1];

static void open_pair(void)
{
    node_qp(a);
    node_qp(b);
    node_listen(b, PORT);
    pair_connect(PORT);
    assert_int_equal(a->event, RDMA_CM_EVENT_ESTABLISHED);
    assert_int_equal(b->event, RDMA_CM_EVENT_ESTABLISHED);
    assert_int_equal(a->qp->state, RDMA_QP_RTS);
    assert_int_equal(b->qp->state, RDMA_QP_RTS);
}

static void close_pair(void)
{
    pair_disconnect();
    assert_int_equal(a->disconnects, 1);
    assert_int_equal(b->disconnects, 1);
    node_qp_free(a);
    node_qp_free(b);
}

static void exchange(uint32_t len_bytes)
{
    struct rdma_wc wc;

    for (uint32_t i = 0; i < len_bytes; i++) {
        a->data[i] = (uint8_t)(i * 7 + len_bytes);
    }
    memset(b->data, 0, PAIR_DATA_BYTES);
    node_recv(b, 1, 0, PAIR_DATA_BYTES);
    node_send(a,
              &(struct rdma_send_wr){.wr_id = 2,
                                     .opcode = RDMA_WR_SEND_WITH_IMM,
                                     .flags = RDMA_SEND_SIGNALED,
                                     .imm = 0x12345678},
              0, len_bytes);
    wc = node_wc(b, NS_PER_S);
    assert_int_equal(wc.status, RDMA_WC_SUCCESS);
    assert_int_equal(wc.len_bytes, len_bytes);
    assert_int_equal(wc.imm, 0x12345678);
    assert_int_equal(wc.flags, RDMA_WC_WITH_IMM);
    assert_memory_equal(a->data, b->data, len_bytes);
    wc = node_wc(a, NS_PER_S);
    assert_int_equal(wc.status, RDMA_WC_SUCCESS);
    assert_int_equal(wc.wr_id, 2);
    /* and back by READ, into the second half */
    node_send(
        a,
        &(struct rdma_send_wr){.wr_id = 3,
                               .opcode = RDMA_WR_RDMA_READ,
                               .flags = RDMA_SEND_SIGNALED,
                               .rdma = {.remote_addr = (uintptr_t)b->data, .rkey = b->mr->rkey}},
        PAIR_DATA_BYTES / 2, len_bytes);
    wc = node_wc(a, NS_PER_S);
    assert_int_equal(wc.status, RDMA_WC_SUCCESS);
    assert_memory_equal(a->data + PAIR_DATA_BYTES / 2, b->data, len_bytes);
    /* and again by WRITE */
    node_send(
        a,
        &(struct rdma_send_wr){
            .wr_id = 4,
            .opcode = RDMA_WR_RDMA_WRITE,
            .flags = RDMA_SEND_SIGNALED,
            .rdma = {.remote_addr = (uintptr_t)b->data + PAIR_DATA_BYTES / 2, .rkey = b->mr->rkey}},
        0, len_bytes);
    wc = node_wc(a, NS_PER_S);
    assert_int_equal(wc.status, RDMA_WC_SUCCESS);
    assert_memory_equal(a->data, b->data + PAIR_DATA_BYTES / 2, len_bytes);
}

static void all_sizes(void)
{
    static const uint32_t sizes[] = {0,    1,    2,    3,     64,    127,    128,
                                     129,  1023, 1024, 1025,  4095,  4096,   4097,
                                     8191, 8192, 8193, 65536, 99999, 262144, 524288};

    open_pair();
    for (uint32_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        exchange(sizes[i]);
    }
    close_pair();
}

static void pair_sizes_mtu_4096_arrive(void **state)
{
    (void)state;
    pair_open(4200, false);
    all_sizes();
    assert_int_equal(rdma_soft_stats(a->model.device)->rx_icrc, 0);
    pair_close();
}

static void pair_sizes_mtu_1024_arrive(void **state)
{
    (void)state;
    pair_open(1500, false);
    all_sizes();
    pair_close();
}

static void pair_sizes_ipv6_arrive(void **state)
{
    (void)state;
    pair_open(4200, true);
    all_sizes();
    pair_close();
}

static void pair_private_data_is_passed_both_ways(void **state)
{
    (void)state;
    open_pair();
    assert_memory_equal(a->private_data, "welcome", 7);
    assert_int_equal(a->private_bytes, RDMA_CM_REP_PRIVATE_BYTES);
    assert_memory_equal(b->private_data, "hello", 5);
    assert_int_equal(b->private_bytes, RDMA_CM_REQ_PRIVATE_BYTES);
    close_pair();
}

static void pair_refused_hears_the_reason(void **state)
{
    (void)state;
    node_qp(a);
    node_listen(b, PORT);
    b->refuse = true;
    pair_connect(PORT);
    assert_int_equal(a->event, RDMA_CM_EVENT_REJECTED);
    assert_int_equal(a->reason, RDMA_CM_REJ_CONSUMER);
    assert_memory_equal(a->private_data, "no", 2);
    rdma_cm_destroy(a->id);
    node_qp_free(a);
}

static void pair_without_listener_is_rejected(void **state)
{
    (void)state;
    node_qp(a);
    pair_connect(PORT);
    assert_int_equal(a->event, RDMA_CM_EVENT_REJECTED);
    assert_int_equal(a->reason, RDMA_CM_REJ_INVALID_SERVICE_ID);
    rdma_cm_destroy(a->id);
    node_qp_free(a);
}

static void pair_thousand_connections_leak_nothing(void **state)
{
    (void)state;
    node_listen(b, PORT);
    for (uint32_t i = 0; i < 1000; i++) {
        node_qp(a);
        node_qp(b);
        a->disconnects = 0;
        b->disconnects = 0;
        pair_connect(PORT);
        assert_int_equal(a->event, RDMA_CM_EVENT_ESTABLISHED);
        assert_int_equal(b->event, RDMA_CM_EVENT_ESTABLISHED);
        close_pair();
        if (i % 8 == 7) {
            pair_advance(NS_PER_S); /* time wait: there are 16 ids */
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pair_sizes_mtu_4096_arrive),
        cmocka_unit_test(pair_sizes_mtu_1024_arrive),
        cmocka_unit_test(pair_sizes_ipv6_arrive),
        cmocka_unit_test_setup_teardown(pair_private_data_is_passed_both_ways, pair_setup,
                                        pair_teardown),
        cmocka_unit_test_setup_teardown(pair_refused_hears_the_reason, pair_setup, pair_teardown),
        cmocka_unit_test_setup_teardown(pair_without_listener_is_rejected, pair_setup,
                                        pair_teardown),
        cmocka_unit_test_setup_teardown(pair_thousand_connections_leak_nothing, pair_setup,
                                        pair_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
