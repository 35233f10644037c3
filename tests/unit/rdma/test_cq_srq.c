/* Completion queues and shared receive queues: overrun, order, purge, limit, last WQE (IBA 10.2.9,
 * 10.3.1, 11.2.8, 11.6.3). */
#include "rdma/rig.h"

/* --- completion queues ------------------------------------------------------------------------ */

static void cq_poll_takes_the_oldest_at_most_as_many(void **state)
{
    (void)state;
    rig_qp(NULL);
    for (uint32_t i = 0; i < 5; i++) {
        post(i, RDMA_WR_SEND, 0, 4);
    }
    peer_drain();
    peer_ack(SQ_PSN + 4);
    struct rdma_wc wcs[8];
    assert_int_equal(rdma_cq_poll(rig.cq, wcs, 0), 0);
    assert_int_equal(rdma_cq_poll(rig.cq, wcs, 3), 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(wcs[i].wr_id, i);
    }
    assert_int_equal(rdma_cq_poll(rig.cq, wcs, 8), 2);
    assert_int_equal(wcs[0].wr_id, 3);
    assert_int_equal(rdma_cq_poll(rig.cq, wcs, 8), 0);
}

static void cq_with_a_count_out_of_range_is_refused(void **state)
{
    (void)state;
    static uint8_t memory[4096] __attribute__((aligned(64)));
    struct rdma_cq *cq = NULL;
    struct rdma_cq_attr attr = {.entry_count = 0, .memory = memory};
    assert_int_equal(rdma_cq_create(rig.dev, &attr, &cq), STATUS_INVALID);
    attr.entry_count = rig.dev->attr.cqe_count_max + 1;
    assert_int_equal(rdma_cq_create(rig.dev, &attr, &cq), STATUS_INVALID);
    attr = (struct rdma_cq_attr){.entry_count = 4};
    assert_int_equal(rdma_cq_create(rig.dev, &attr, &cq), STATUS_INVALID);
    for (uint32_t i = 2; i < RIG_QPS; i++) {
        rig_cq(4);
    }
    attr.memory = memory;
    assert_int_equal(rdma_cq_create(rig.dev, &attr, &cq), STATUS_NO_SPACE);
}

/* It wraps, whatever its size; a size is rounded up. */
static void cq_wraps_for_every_small_size(void **state)
{
    (void)state;
    for (uint32_t size = 1; size <= 9; size += 2) {
        struct rdma_cq *cq = rig_cq(size);
        struct rdma_qp *qp = rig_qp(&(struct rig_qp_options){.send_cq = cq});
        for (uint32_t i = 0; i < 40; i++) {
            for (uint32_t j = 0; j < size; j++) {
                post(i * size + j, RDMA_WR_SEND, 0, 4);
            }
            peer_drain();
            peer_ack(SQ_PSN + i * size + size - 1);
            for (uint32_t j = 0; j < size; j++) {
                expect_wc_at(cq, i * size + j, RDMA_WC_SUCCESS, __FILE__, __LINE__);
            }
        }
        rig_qp_destroy(qp);
    }
    assert_int_equal(rig.event_count, 0);
}

/* 10.2.9, 11.6.3.2: an overrun is told once; the QP that could not complete dies. What is in the CQ
 * stays good. */
static void cq_overrun_by_sends_kills_the_qp(void **state)
{
    (void)state;
    struct rdma_cq *cq = rig_cq(2);
    rig_qp(&(struct rig_qp_options){.send_cq = cq});
    post_recv(9, 0, 64);
    for (uint32_t i = 0; i < 5; i++) {
        post(i, RDMA_WR_SEND, 0, 4);
    }
    peer_drain();
    peer_ack(SQ_PSN + 3);
    assert_int_equal(rig.qp->state, RDMA_QP_ERR);
    assert_int_equal(rig.event_count, 2);
    assert_true((rig.events[0] == RDMA_EVENT_CQ_ERR && rig.events[1] == RDMA_EVENT_QP_FATAL) ||
                (rig.events[1] == RDMA_EVENT_CQ_ERR && rig.events[0] == RDMA_EVENT_QP_FATAL));
    take_events();
    expect_recv_wc(9, RDMA_WC_WR_FLUSH_ERR);
    expect_wc_at(cq, 0, RDMA_WC_SUCCESS, __FILE__, __LINE__);
    expect_wc_at(cq, 1, RDMA_WC_SUCCESS, __FILE__, __LINE__);
    assert_int_equal(rig_info(rig.qp).send_posted, 0);
}

/* The same for receives: the message is not acknowledged, since nobody will ever hear of it. */
static void cq_overrun_by_receives_kills_the_qp(void **state)
{
    (void)state;
    struct rdma_cq *cq = rig_cq(2);
    rig_qp(&(struct rig_qp_options){.recv_cq = cq});
    for (uint32_t i = 0; i < 5; i++) {
        post_recv(i, 0, 64);
    }
    for (uint32_t i = 0; i < 2; i++) {
        peer_send(pkt(SEND_ONLY, RQ_PSN + i, 4));
        expect_ack(RQ_PSN + i, i + 1);
    }
    post(7, RDMA_WR_SEND, 0, 4);
    expect(SEND_ONLY, SQ_PSN);
    peer_send(pkt(SEND_ONLY, RQ_PSN + 2, 4));
    expect_nak(RQ_PSN + 2, NAK_OPERATION, 2);
    assert_int_equal(rig.qp->state, RDMA_QP_ERR);
    assert_int_equal(rig.event_count, 2);
    take_events();
    expect_wc(7, RDMA_WC_WR_FLUSH_ERR);
    peer_send(pkt(SEND_ONLY, RQ_PSN + 3, 4));
    expect_silence();
    expect_wc_at(cq, 0, RDMA_WC_SUCCESS, __FILE__, __LINE__);
    expect_wc_at(cq, 1, RDMA_WC_SUCCESS, __FILE__, __LINE__);
}

/* A CQ that serves several QPs: one that overruns it takes no other with it. */
static void cq_overrun_by_one_leaves_the_others(void **state)
{
    (void)state;
    struct rdma_cq *cq = rig_cq(2);
    rig_qp(&(struct rig_qp_options){.send_cq = cq});
    struct rdma_qp *other = rig_qp(&(struct rig_qp_options){.send_cq = cq});
    for (uint32_t i = 0; i < 3; i++) {
        post(i, RDMA_WR_SEND, 0, 4);
    }
    post_wr(other, &send_wr(9, RDMA_WR_SEND, 0, 4)->wr);
    peer_drain();
    peer_ack(SQ_PSN + 2);
    assert_int_equal(rig.qp->state, RDMA_QP_ERR);
    assert_int_equal(other->state, RDMA_QP_RTS);
    take_events();
    expect_wc_at(cq, 0, RDMA_WC_SUCCESS, __FILE__, __LINE__);
    expect_wc_at(cq, 1, RDMA_WC_SUCCESS, __FILE__, __LINE__);
    struct pkt *ack = pkt_ack(SQ_PSN, ACK_SYNDROME, 1);
    ack->qpn = other->num;
    peer_send(ack);
    expect_wc_at(cq, 9, RDMA_WC_SUCCESS, __FILE__, __LINE__);
}

/* The CQ's error is told once, however many queue pairs die of it. */
static void cq_overrun_is_told_once(void **state)
{
    (void)state;
    struct rdma_cq *cq = rig_cq(1);
    for (uint32_t round = 0; round < 3; round++) {
        struct rdma_qp *qp = rig_qp(&(struct rig_qp_options){.send_cq = cq});
        post_wr(qp, &send_wr(1, RDMA_WR_SEND, 0, 4)->wr);
        post_wr(qp, &send_wr(2, RDMA_WR_SEND, 0, 4)->wr);
        peer_drain();
        struct pkt *ack = pkt_ack(SQ_PSN + 1, ACK_SYNDROME, 2);
        ack->qpn = qp->num;
        peer_send(ack);
        assert_int_equal(qp->state, RDMA_QP_ERR);
        assert_int_equal(take_events(), round == 0 ? 2 : 1);
        struct rdma_wc wc;
        while (rdma_cq_poll(cq, &wc, 1) != 0) {
        }
        rig_qp_destroy(qp);
    }
}

/* A flush that overruns stops nowhere: the QP can be destroyed. */
static void cq_overrun_by_a_flush_ends(void **state)
{
    (void)state;
    struct rdma_cq *cq = rig_cq(1);
    rig_qp(&(struct rig_qp_options){.send_cq = cq, .recv_cq = cq});
    for (uint32_t i = 0; i < 5; i++) {
        post(i, RDMA_WR_SEND, 0, 4);
        post_recv(10 + i, 0, 4);
    }
    peer_drain();
    assert_int_equal(rig_qp_to(rig.qp, RDMA_QP_ERR), STATUS_OK);
    rig_turn();
    take_events();
    assert_int_equal(rig_info(rig.qp).send_posted, 0);
    assert_int_equal(rig_info(rig.qp).recv_posted, 0);
}

/* 11.2.5.5 destroy: what nobody polled is taken out; what belongs to others stays, in order. */
static void cq_is_purged_when_a_qp_goes(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_qp *first = rig.qp;
    struct rdma_qp *second = rig_qp(NULL);
    struct rdma_qp *both[] = {first, second};
    for (uint32_t i = 0; i < 6; i++) {
        post_wr(both[i % 2], &send_wr(i, RDMA_WR_SEND, 0, 4)->wr);
        peer_drain();
        struct pkt *ack = pkt_ack(SQ_PSN + i / 2, ACK_SYNDROME, 1);
        ack->qpn = both[i % 2]->num;
        peer_send(ack);
    }
    rig_qp_destroy(first);
    expect_wc(1, RDMA_WC_SUCCESS);
    assert_int_equal(rig_qp_to(second, RDMA_QP_RESET), STATUS_OK);
    expect_no_wc();
}

/* --- shared receive queues -------------------------------------------------------------------- */

static struct pkt *for_qp(struct pkt *made, const struct rdma_qp *qp)
{
    made->qpn = qp->num;
    return made;
}

/* 10.2.9.1: whoever has a message takes the oldest. */
static void srq_serves_queue_pairs_in_order(void **state)
{
    (void)state;
    struct rdma_srq *srq = rig_srq(8, 0);
    rig_qp(&(struct rig_qp_options){.srq = srq});
    struct rdma_qp *other = rig_qp(&(struct rig_qp_options){.srq = srq});
    for (uint32_t i = 0; i < 4; i++) {
        post_srq_recv(srq, i, i * 64, 64);
    }
    peer_send(pkt(SEND_ONLY, RQ_PSN, 8));
    peer_send(for_qp(pkt(SEND_ONLY, RQ_PSN, 9), other));
    peer_send(pkt(SEND_ONLY, RQ_PSN + 1, 10));
    assert_ptr_equal(expect_recv_wc(0, RDMA_WC_SUCCESS)->qp, rig.qp);
    assert_ptr_equal(expect_recv_wc(1, RDMA_WC_SUCCESS)->qp, other);
    assert_ptr_equal(expect_recv_wc(2, RDMA_WC_SUCCESS)->qp, rig.qp);
    assert_filled(128, 10, 0);
    assert_int_equal(peer_drain(), 3);
}

/* A message takes its receive with its first packet: two that arrive interleaved do not mix. */
static void srq_messages_at_once_do_not_mix(void **state)
{
    (void)state;
    struct rdma_srq *srq = rig_srq(8, 0);
    rig_qp(&(struct rig_qp_options){.srq = srq});
    struct rdma_qp *other = rig_qp(&(struct rig_qp_options){.srq = srq});
    post_srq_recv(srq, 1, 0, 4096);
    post_srq_recv(srq, 2, 8192, 4096);
    peer_send(pkt(SEND_FIRST, RQ_PSN, 1024));
    peer_send(for_qp(pkt(SEND_FIRST, RQ_PSN, 1024), other));
    peer_send(for_qp(pkt(SEND_LAST, RQ_PSN + 1, 4), other));
    peer_send(pkt(SEND_LAST, RQ_PSN + 1, 8));
    assert_int_equal(expect_recv_wc(2, RDMA_WC_SUCCESS)->len_bytes, 1028);
    assert_int_equal(expect_recv_wc(1, RDMA_WC_SUCCESS)->len_bytes, 1032);
    assert_filled(1024, 8, 0);
    assert_int_equal(rig.memory[1032], 0xee);
    assert_filled(8192, 1024, 0);
    peer_drain();
}

static void srq_empty_is_not_ready(void **state)
{
    (void)state;
    struct rdma_srq *srq = rig_srq(8, 0);
    rig_qp(&(struct rig_qp_options){.srq = srq});
    peer_send(pkt(SEND_ONLY, RQ_PSN, 8));
    expect_nak(RQ_PSN, RNR_SYNDROME | RNR_TIMER, 0);
    post_srq_recv(srq, 1, 0, 64);
    peer_send(pkt(SEND_ONLY, RQ_PSN, 8));
    expect_ack(RQ_PSN, 1);
    expect_recv_wc(1, RDMA_WC_SUCCESS);
}

static void srq_full_says_again(void **state)
{
    (void)state;
    struct rdma_srq *srq = rig_srq(4, 0);
    rig_qp(&(struct rig_qp_options){.srq = srq});
    struct rdma_sge sge = {.addr = addr_at(0), .len_bytes = 64, .lkey = rig.mr->lkey};
    struct rdma_recv_wr wrs[6] = {0};
    for (uint32_t i = 0; i < 6; i++) {
        wrs[i] = (struct rdma_recv_wr){
            .wr_id = i, .sges = &sge, .sge_count = 1, .next = i < 5 ? &wrs[i + 1] : NULL};
    }
    const struct rdma_recv_wr *bad = NULL;
    assert_int_equal(rdma_srq_post(srq, wrs, &bad), STATUS_AGAIN);
    assert_ptr_equal(bad, &wrs[4]);
    wrs[0].sge_count = 5;
    assert_int_equal(rdma_srq_post(srq, wrs, &bad), STATUS_INVALID);
    assert_ptr_equal(bad, &wrs[0]);
    wrs[0].sge_count = 1;
    assert_int_equal(rdma_post_recv(rig.qp, wrs, &bad),
                     STATUS_INVALID); /* it has none of its own */
    assert_ptr_equal(bad, &wrs[0]);
}

static void srq_with_a_count_out_of_range_is_refused(void **state)
{
    (void)state;
    static uint8_t memory[4096] __attribute__((aligned(64)));
    struct rdma_srq *srq = NULL;
    struct rdma_srq_attr attr = {.pd = rig.pd, .memory = memory};
    assert_int_equal(rdma_srq_create(&attr, &srq), STATUS_INVALID);
    attr.wr_count = rig.dev->attr.wr_count_max + 1;
    assert_int_equal(rdma_srq_create(&attr, &srq), STATUS_INVALID);
    attr = (struct rdma_srq_attr){.pd = rig.pd, .wr_count = 1};
    assert_int_equal(rdma_srq_create(&attr, &srq), STATUS_INVALID);
    rig_srq(1, 0);
    rig_srq(1, 0);
    attr.memory = memory;
    assert_int_equal(rdma_srq_create(&attr, &srq), STATUS_NO_SPACE);
}

/* 11.6.3.1: once, when fewer are left than the limit. */
static void srq_limit_is_told_once(void **state)
{
    (void)state;
    struct rdma_srq *srq = rig_srq(8, 3);
    rig_qp(&(struct rig_qp_options){.srq = srq});
    for (uint32_t i = 0; i < 5; i++) {
        post_srq_recv(srq, i, 0, 64);
    }
    peer_send(pkt(SEND_ONLY, RQ_PSN, 8));
    peer_send(pkt(SEND_ONLY, RQ_PSN + 1, 8)); /* three are left */
    assert_int_equal(rig.event_count, 0);
    peer_send(pkt(SEND_ONLY, RQ_PSN + 2, 8));
    expect_event(RDMA_EVENT_SRQ_LIMIT);
    assert_ptr_equal(rig.last_event.srq, srq);
    assert_null(rig.last_event.qp);
    peer_send(pkt(SEND_ONLY, RQ_PSN + 3, 8));
    assert_int_equal(rig.event_count, 0);
    peer_drain();
}

/* 11.6.3.1: a QP in error tells that it takes no more; the queue serves the others. The receive of
 * a message under way ends with the QP. */
static void srq_qp_in_error_tells_of_its_last_wqe(void **state)
{
    (void)state;
    struct rdma_srq *srq = rig_srq(8, 0);
    rig_qp(&(struct rig_qp_options){.srq = srq});
    struct rdma_qp *other = rig_qp(&(struct rig_qp_options){.srq = srq});
    post_srq_recv(srq, 1, 0, 4096);
    post_srq_recv(srq, 2, 0, 4096);
    peer_send(pkt(SEND_FIRST, RQ_PSN, 1024));
    assert_int_equal(rig_qp_to(rig.qp, RDMA_QP_ERR), STATUS_OK);
    rig_turn();
    expect_event(RDMA_EVENT_LAST_WQE_REACHED);
    assert_ptr_equal(rig.last_event.qp, rig.qp);
    expect_recv_wc(1, RDMA_WC_WR_FLUSH_ERR);
    expect_no_wc();
    peer_send(for_qp(pkt(SEND_ONLY, RQ_PSN, 8), other));
    expect_recv_wc(2, RDMA_WC_SUCCESS);
    peer_drain();
}

/* Destroyed in the middle of a message: the receive is lost with it, as the verbs say; the queue
 * goes on with the next. */
static void srq_qp_destroyed_in_a_message_leaves_the_queue_sound(void **state)
{
    (void)state;
    struct rdma_srq *srq = rig_srq(8, 0);
    struct rdma_qp *qp = rig_qp(&(struct rig_qp_options){.srq = srq});
    post_srq_recv(srq, 1, 0, 4096);
    post_srq_recv(srq, 2, 0, 4096);
    peer_send(pkt(SEND_FIRST, RQ_PSN, 1024));
    rig_qp_destroy(qp);
    rig_qp(&(struct rig_qp_options){.srq = srq});
    peer_send(pkt(SEND_ONLY, RQ_PSN, 8));
    expect_recv_wc(2, RDMA_WC_SUCCESS);
    expect_no_wc();
    peer_drain();
    assert_int_equal(rig.event_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(cq_poll_takes_the_oldest_at_most_as_many),
        RIG_TEST(cq_with_a_count_out_of_range_is_refused),
        RIG_TEST(cq_wraps_for_every_small_size),
        RIG_TEST(cq_overrun_by_sends_kills_the_qp),
        RIG_TEST(cq_overrun_by_receives_kills_the_qp),
        RIG_TEST(cq_overrun_by_one_leaves_the_others),
        RIG_TEST(cq_overrun_is_told_once),
        RIG_TEST(cq_overrun_by_a_flush_ends),
        RIG_TEST(cq_is_purged_when_a_qp_goes),
        RIG_TEST(srq_serves_queue_pairs_in_order),
        RIG_TEST(srq_messages_at_once_do_not_mix),
        RIG_TEST(srq_empty_is_not_ready),
        RIG_TEST(srq_full_says_again),
        RIG_TEST(srq_with_a_count_out_of_range_is_refused),
        RIG_TEST(srq_limit_is_told_once),
        RIG_TEST(srq_qp_in_error_tells_of_its_last_wqe),
        RIG_TEST(srq_qp_destroyed_in_a_message_leaves_the_queue_sound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
