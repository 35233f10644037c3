/*
 * Defects that a reading of the engine found: each of these failed before.
 */
#include "rdma/rig.h"

static void bind_wr(struct rdma_qp *qp, struct rdma_key *key, const struct mem_ref *ref)
{
    struct rdma_send_wr wr = {
        .wr_id = 9,
        .opcode = RDMA_WR_BIND,
        .flags = RDMA_SEND_SIGNALED,
        .bind = {
            .key = key, .ref = ref, .access = RDMA_ACCESS_LOCAL_WRITE | RDMA_ACCESS_REMOTE_WRITE}};

    post_wr(qp, &wr);
}

/* The memory was given back before the bind had its turn: the key stays closed. */
static void bind_that_waits_is_void_after_its_key_was_invalidated(void **state)
{
    (void)state;
    struct mem_seg seg = {.bus_addr = addr_at(0), .len_bytes = 4096};
    struct mem_ref ref = {.segs = &seg, .len_bytes = 4096, .seg_count = 1, .space = MEM_SPACE_NIC};
    struct rdma_qp *qp = rig_qp(NULL);
    struct rdma_key *key = rig_key(rig.pd);
    uint32_t value = rdma_key_prepare(key);

    post(1, RDMA_WR_SEND, 0, 10);
    expect(SEND_ONLY, SQ_PSN);
    peer_nak(SQ_PSN, RNR_SYNDROME | 31); /* half a second */
    bind_wr(qp, key, &ref);
    rdma_key_invalidate(key);
    assert_true(rdma_key_is_quiet(key));
    memset(&seg, 0xff, sizeof(seg)); /* whoever follows it goes astray */
    rig_advance(NS_PER_S / 2 + NS_PER_MS);
    expect(SEND_ONLY, SQ_PSN);
    peer_ack(SQ_PSN);
    expect_wc(1, RDMA_WC_SUCCESS);
    expect_wc(9, RDMA_WC_MW_BIND_ERR);
    assert_false(key->is_bound);
    assert_int_not_equal(rdma_key_prepare(key), value);
    take_events();
}

/* And bind, invalidate by work request, bind again in one chain is no cancel. */
static void bind_again_behind_an_invalidation_is_good(void **state)
{
    (void)state;
    struct mem_seg seg = {.bus_addr = addr_at(0), .len_bytes = 4096};
    struct mem_ref ref = {.segs = &seg, .len_bytes = 4096, .seg_count = 1, .space = MEM_SPACE_NIC};
    struct rdma_qp *qp = rig_qp(NULL);
    struct rdma_key *key = rig_key(rig.pd);

    bind_wr(qp, key, &ref);
    expect_wc(9, RDMA_WC_SUCCESS);
    struct rdma_send_wr wr = {
        .wr_id = 10, .opcode = RDMA_WR_LOCAL_INV, .flags = RDMA_SEND_SIGNALED, .imm = key->value};
    post_wr(qp, &wr);
    expect_wc(10, RDMA_WC_SUCCESS);
    bind_wr(qp, key, &ref);
    expect_wc(9, RDMA_WC_SUCCESS);
    assert_true(key->is_bound);
    rdma_key_invalidate(key);
}

/* 9.7.5.1: the NAK of a WRITE waits for the READ before it. */
static void fatal_nak_comes_behind_the_read_before_it(void **state)
{
    (void)state;
    struct rdma_qp *qp = rig_qp(NULL);

    fill(0, 4096, 3);
    peer_queue(pkt_rdma(READ_REQUEST, RQ_PSN, 0, addr_at(0), rig.mr->rkey, 2000));
    peer_queue(pkt_rdma(WRITE_ONLY, RQ_PSN + 2, 10, addr_at(0), rig.mr->rkey ^ 0x10000, 10));
    rig_turn();
    expect_data(READ_FIRST, RQ_PSN, 1024, 3, 0);
    expect_data(READ_LAST, RQ_PSN + 1, 976, 3, 1024);
    expect_nak(RQ_PSN + 2, NAK_ACCESS, 1);
    expect_event(RDMA_EVENT_QP_ACCESS_ERR);
    assert_int_equal(qp->state, RDMA_QP_ERR);
}

/* 9.7.5.2.8: in the pause of an RNR NAK a sequence NAK says nothing new. */
static void sequence_nak_in_an_rnr_pause_costs_no_retry(void **state)
{
    (void)state;
    struct rdma_qp *qp = rig_qp(&(struct rig_qp_options){.retry_cnt = 255, .rnr_retry = 7});

    post(1, RDMA_WR_SEND, 0, 10);
    post(2, RDMA_WR_SEND, 0, 10);
    peer_drain();
    peer_nak(SQ_PSN, RNR_SYNDROME | RNR_TIMER);
    peer_nak(SQ_PSN, NAK_SEQUENCE);
    expect_no_wc();
    assert_int_equal(qp->state, RDMA_QP_RTS);
    rig_advance(NS_PER_MS);
    expect(SEND_ONLY, SQ_PSN);
    expect(SEND_ONLY, SQ_PSN + 1);
    peer_ack(SQ_PSN + 1);
    expect_wc(1, RDMA_WC_SUCCESS);
    expect_wc(2, RDMA_WC_SUCCESS);
}

/* B's region goes while A is sent again; then both turn out to have arrived. */
static void acknowledgement_passes_what_failed_when_sent_again(void **state)
{
    (void)state;
    struct rdma_qp *qp = rig_qp(NULL);
    struct rdma_mr *mr = rig_mr(rig.pd, 0, 4096, 0);
    struct send *b = send_wr(2, RDMA_WR_SEND, 0, 512);

    post(1, RDMA_WR_SEND, 0, 512);
    b->sges[0].lkey = mr->lkey;
    post_wr(qp, &b->wr);
    peer_drain();
    rig_mr_dereg(mr);
    rig_advance(RTO_NS + 2 * RIG_TICK_NS); /* A goes out again, B cannot */
    peer_drain();
    peer_ack(SQ_PSN + 1);
    expect_wc(1, RDMA_WC_SUCCESS);
    expect_wc(2, RDMA_WC_SUCCESS);
    assert_int_equal(qp->state, RDMA_QP_RTS);
    post(3, RDMA_WR_SEND, 0, 10);
    expect(SEND_ONLY, SQ_PSN + 2);
    peer_ack(SQ_PSN + 2);
    expect_wc(3, RDMA_WC_SUCCESS);
}

/* Acknowledgements are not limited, so they must not use up the limit. */
static void acknowledgements_do_not_use_up_a_limited_rate(void **state)
{
    (void)state;
    struct rdma_qp *qp = rig_qp(NULL);

    for (uint32_t i = 0; i < 40; i++) { /* to the slowest */
        peer_send(pkt(CNP, 0, 0));
        rig_advance(60 * NS_PER_US);
    }
    assert_true(rig_info(qp).rate_mbps > 0);
    for (uint32_t i = 0; i < 2000; i++) { /* half a second's worth at 10 Mb/s */
        if (i % 100 == 0) {
            for (uint32_t k = 0; k < 100; k++) {
                post_recv(100 + k, 0, 16);
            }
        }
        peer_send(pkt(SEND_ONLY, RQ_PSN + i, 1));
        expect_recv_wc(100 + i % 100, RDMA_WC_SUCCESS);
    }
    peer_drain();
    post(1, RDMA_WR_SEND, 0, 10);
    rig_advance(2 * NS_PER_MS);
    expect(SEND_ONLY, SQ_PSN);
    peer_ack(SQ_PSN);
    expect_wc(1, RDMA_WC_SUCCESS);
}

/* Without a time-out of its own a QP still asks for its neighbour again. */
static void requester_without_time_out_looks_for_its_neighbor_again(void **state)
{
    (void)state;
    rig.is_deaf = true;
    struct rdma_qp *qp = rig_qp_create(RDMA_QP_RC, NULL);
    struct rdma_qp_attr attr = rig_qp_attr(&(struct rig_qp_options){.timeout = 255});

    attr.state = RDMA_QP_INIT;
    assert_int_equal(rdma_qp_modify(qp, &attr, RDMA_QP_STATE | RDMA_QP_ACCESS), STATUS_OK);
    attr.state = RDMA_QP_RTR;
    assert_int_equal(rdma_qp_modify(qp, &attr, RTR_MASK), STATUS_OK);
    attr.state = RDMA_QP_RTS;
    assert_int_equal(rdma_qp_modify(qp, &attr, RTS_MASK), STATUS_OK);
    rig.qp = qp;
    post(1, RDMA_WR_SEND, 0, 10);
    rig_advance(10 * NS_PER_S);
    expect_silence();
    rig.is_deaf = false;
    rig_advance(5 * NS_PER_S);
    expect(SEND_ONLY, SQ_PSN);
    peer_ack(SQ_PSN);
    expect_wc(1, RDMA_WC_SUCCESS);
}

/* What the peer could not have been asked does not show that it is there. */
static void packet_of_any_psn_does_not_establish(void **state)
{
    (void)state;
    rig_qp(&(struct rig_qp_options){.state = RDMA_QP_RTR});
    peer_send(pkt(SEND_ONLY, RQ_PSN + 77, 10));
    peer_drain();
    assert_int_equal(take_events(), 0);
    post_recv(1, 0, 100);
    peer_send(pkt(SEND_ONLY, RQ_PSN, 10));
    peer_drain();
    expect_recv_wc(1, RDMA_WC_SUCCESS);
    expect_event(RDMA_EVENT_COMM_EST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(bind_that_waits_is_void_after_its_key_was_invalidated),
        RIG_TEST(bind_again_behind_an_invalidation_is_good),
        RIG_TEST(fatal_nak_comes_behind_the_read_before_it),
        RIG_TEST(sequence_nak_in_an_rnr_pause_costs_no_retry),
        RIG_TEST(acknowledgement_passes_what_failed_when_sent_again),
        RIG_TEST(acknowledgements_do_not_use_up_a_limited_rate),
        RIG_TEST(requester_without_time_out_looks_for_its_neighbor_again),
        RIG_TEST(packet_of_any_psn_does_not_establish),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
