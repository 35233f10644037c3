/* The shortest ways through the engine: one SEND each way, one WRITE and READ each way. */
#include "rdma/rig.h"

static void send_with_ack_completes(void **state)
{
    (void)state;
    rig_qp(NULL);
    fill(0, 100, 1);
    post(7, RDMA_WR_SEND, 0, 100);
    const struct pkt *got = expect_data(SEND_ONLY, SQ_PSN, 100, 1, 0);
    assert_true(got->ack_req);
    expect_silence();
    expect_no_wc();
    peer_ack(SQ_PSN);
    const struct rdma_wc *wc = expect_wc(7, RDMA_WC_SUCCESS);
    assert_int_equal(wc->opcode, RDMA_WC_SEND);
    assert_ptr_equal(wc->qp, rig.qp);
    expect_no_wc();
}

static void receive_of_a_send_is_placed_and_acknowledged(void **state)
{
    (void)state;
    rig_qp(NULL);
    post_recv(9, 4096, 200);
    peer_send(pkt(SEND_ONLY, RQ_PSN, 100));
    const struct rdma_wc *wc = expect_recv_wc(9, RDMA_WC_SUCCESS);
    assert_int_equal(wc->len_bytes, 100);
    assert_int_equal(wc->opcode, RDMA_WC_RECV);
    assert_filled(4096, 100, 0);
    assert_int_equal(rig.memory[4196], 0xee);
    expect_ack(RQ_PSN, 1);
    expect_silence();
}

static void everything_over_ipv6_works_too(void **state)
{
    (void)state;
    rig_qp(&(struct rig_qp_options){.is_ipv6 = true});
    fill(0, 5000, 1);
    post(1, RDMA_WR_SEND, 0, 1001);
    assert_true(expect_data(SEND_ONLY, SQ_PSN, 1001, 1, 0)->is_ipv6);
    struct pkt *ack = pkt_ack(SQ_PSN, ACK_SYNDROME, 1);
    ack->is_ipv6 = true;
    peer_send(ack);
    expect_wc(1, RDMA_WC_SUCCESS);
    post_recv(2, 8192, 2000);
    struct pkt *in = pkt(SEND_ONLY, RQ_PSN, 333);
    in->is_ipv6 = true;
    peer_send(in);
    expect_recv_wc(2, RDMA_WC_SUCCESS);
    assert_filled(8192, 333, 0);
    expect_ack(RQ_PSN, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(send_with_ack_completes, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(receive_of_a_send_is_placed_and_acknowledged, rig_setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(everything_over_ipv6_works_too, rig_setup, rig_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
