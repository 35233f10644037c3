/* Lost packets: time-outs, their number and their length, what is sent again (IBA 9.7.6.1); and the
 * memory of what is under way (IBA 10.8.5 and the contract of rdma/verbs.h). */
#include "rdma/rig.h"

/* Past the next deadline, and not past the one after it. */
static void let_it_time_out(void)
{
    native_clock_advance(RTO_NS + RIG_TICK_NS);
    rig_turn();
}

/* 9.7.6.1.3: 4.096 us * 2^n, at least. */
static void timeout_is_as_long_as_the_attribute_says(void **state)
{
    (void)state;
    const uint8_t timeouts[] = {1, 5, 10, 14, 20};
    for (uint32_t i = 0; i < ARRAY_SIZE(timeouts); i++) {
        struct rdma_qp *qp = rig_qp(&(struct rig_qp_options){.timeout = timeouts[i]});
        uint64_t wait_ns = UINT64_C(4096) << timeouts[i];
        post(1, RDMA_WR_SEND, 0, 8);
        expect(SEND_ONLY, SQ_PSN);
        native_clock_advance(wait_ns - 1);
        rig_turn();
        expect_silence();
        native_clock_advance(RIG_TICK_NS + 1);
        rig_turn();
        expect(SEND_ONLY, SQ_PSN);
        expect_silence();
        rig_qp_destroy(qp);
    }
}

/* 9.7.6.1.1: retry_cnt times again, then the work request fails. */
static void timeout_retries_exactly_retry_cnt_times(void **state)
{
    (void)state;
    for (uint8_t retries = 0; retries <= 7; retries++) {
        struct rdma_qp *qp =
            rig_qp(&(struct rig_qp_options){.retry_cnt = retries == 0 ? 255 : retries});
        post(1, RDMA_WR_SEND, 0, 8);
        post(2, RDMA_WR_SEND, 0, 8);
        expect(SEND_ONLY, SQ_PSN);
        expect(SEND_ONLY, SQ_PSN + 1);
        for (uint32_t i = 0; i < retries; i++) {
            let_it_time_out();
            expect(SEND_ONLY, SQ_PSN);
            expect(SEND_ONLY, SQ_PSN + 1);
            expect_silence();
            expect_no_wc();
        }
        let_it_time_out();
        expect_silence();
        expect_wc(1, RDMA_WC_RETRY_EXC_ERR);
        expect_wc(2, RDMA_WC_WR_FLUSH_ERR);
        assert_int_equal(qp->state, RDMA_QP_ERR);
        assert_int_equal(rig_info(qp).stats.timeouts, retries + 1);
        rig_qp_destroy(qp);
    }
}

static void timeout_0_waits_for_ever(void **state)
{
    (void)state;
    rig_qp(&(struct rig_qp_options){.timeout = 255});
    post(1, RDMA_WR_SEND, 0, 8);
    expect(SEND_ONLY, SQ_PSN);
    rig_advance(600 * NS_PER_S);
    expect_silence();
    peer_ack(SQ_PSN);
    expect_wc(1, RDMA_WC_SUCCESS);
}

/* Each acknowledgement starts the clock anew, and gives all retries back. */
static void timeout_starts_anew_with_progress(void **state)
{
    (void)state;
    rig_qp(&(struct rig_qp_options){.retry_cnt = 1});
    for (uint32_t i = 0; i < 4; i++) {
        post(i, RDMA_WR_SEND, 0, 8);
    }
    assert_int_equal(peer_drain(), 4);
    for (uint32_t i = 0; i < 3; i++) {
        rig_advance(RTO_NS - 100 * NS_PER_US);
        expect_silence();
        peer_ack(SQ_PSN + i);
        expect_wc(i, RDMA_WC_SUCCESS);
    }
    let_it_time_out();
    expect(SEND_ONLY, SQ_PSN + 3);
    peer_ack(SQ_PSN + 3);
    expect_wc(3, RDMA_WC_SUCCESS);
    rig_advance(10 * RTO_NS);
    expect_silence();
    assert_int_equal(rig_info(rig.qp).stats.timeouts, 1);
}

/* Nothing under way: no clock runs. */
static void timeout_of_an_idle_queue_never_comes(void **state)
{
    (void)state;
    rig_qp(NULL);
    post(1, RDMA_WR_SEND, 0, 8);
    expect(SEND_ONLY, SQ_PSN);
    peer_ack(SQ_PSN);
    expect_wc(1, RDMA_WC_SUCCESS);
    rig_advance(50 * RTO_NS);
    expect_silence();
    post(2, RDMA_WR_SEND, 0, 8);
    expect(SEND_ONLY, SQ_PSN + 1);
    rig_advance(RTO_NS - 100 * NS_PER_US);
    expect_silence(); /* a whole time-out from now, not from then */
    peer_ack(SQ_PSN + 1);
    expect_wc(2, RDMA_WC_SUCCESS);
}

/* Only what is not acknowledged is sent again. */
static void timeout_sends_again_from_the_oldest_packet(void **state)
{
    (void)state;
    rig_qp(NULL);
    fill(0, 4096, 3);
    post(1, RDMA_WR_SEND, 0, 4096);
    assert_int_equal(peer_drain(), 4);
    peer_ack(SQ_PSN + 1);
    let_it_time_out();
    expect_data(SEND_MIDDLE, SQ_PSN + 2, 1024, 3, 2048);
    expect_data(SEND_LAST, SQ_PSN + 3, 1024, 3, 3072);
    expect_silence();
    peer_ack(SQ_PSN + 3);
    expect_wc(1, RDMA_WC_SUCCESS);
}

/* The acknowledgement of the first transmission comes while it is sent again. */
static void timeout_then_the_late_ack_ends_it(void **state)
{
    (void)state;
    rig_qp(NULL);
    for (uint32_t i = 0; i < 3; i++) {
        post(i, RDMA_WR_SEND, 0, 8);
    }
    assert_int_equal(peer_drain(), 3);
    let_it_time_out();
    assert_int_equal(peer_drain(), 3);
    peer_ack(SQ_PSN + 2);
    for (uint32_t i = 0; i < 3; i++) {
        expect_wc(i, RDMA_WC_SUCCESS);
    }
    expect_silence();
    post(3, RDMA_WR_SEND, 0, 8);
    expect(SEND_ONLY, SQ_PSN + 3);
    peer_ack(SQ_PSN + 3);
    expect_wc(3, RDMA_WC_SUCCESS);
}

/* A gap may be told anew after a time-out: the NAK of the retransmission counts. */
static void timeout_then_a_nak_goes_back_again(void **state)
{
    (void)state;
    rig_qp(NULL);
    for (uint32_t i = 0; i < 3; i++) {
        post(i, RDMA_WR_SEND, 0, 8);
    }
    assert_int_equal(peer_drain(), 3);
    peer_nak(SQ_PSN + 1, NAK_SEQUENCE);
    assert_int_equal(peer_drain(), 2);
    let_it_time_out();
    assert_int_equal(peer_drain(), 2);
    peer_nak(SQ_PSN + 1, NAK_SEQUENCE);
    assert_int_equal(peer_drain(), 2);
    peer_ack(SQ_PSN + 2);
    for (uint32_t i = 0; i < 3; i++) {
        expect_wc(i, RDMA_WC_SUCCESS);
    }
}

/* What is posted after a time-out goes behind what is sent again. */
static void timeout_with_more_posted_keeps_the_order(void **state)
{
    (void)state;
    rig_qp(NULL);
    post(0, RDMA_WR_SEND, 0, 8);
    expect(SEND_ONLY, SQ_PSN);
    native_clock_advance(RTO_NS + RIG_TICK_NS);
    assert_int_equal(rdma_post_send(rig.qp, &send_wr(1, RDMA_WR_SEND, 0, 8)->wr, NULL), STATUS_OK);
    rig_turn();
    expect(SEND_ONLY, SQ_PSN);
    expect(SEND_ONLY, SQ_PSN + 1);
    expect_silence();
    peer_ack(SQ_PSN + 1);
    expect_wc(0, RDMA_WC_SUCCESS);
    expect_wc(1, RDMA_WC_SUCCESS);
}

/* --- the way to the peer ---------------------------------------------------------------------- */

/* No neighbour: the clock of the oldest request runs all the same. */
static void timeout_without_a_way_to_the_peer_gives_up(void **state)
{
    (void)state;
    rig.is_deaf = true;
    rig_qp(&(struct rig_qp_options){.timeout = 18}); /* 1.07 s */
    post(1, RDMA_WR_SEND, 0, 8);
    rig_advance(30 * NS_PER_S);
    expect_silence();
    expect_wc(1, RDMA_WC_RETRY_EXC_ERR);
    assert_int_equal(rig.qp->state, RDMA_QP_ERR);
}

static void timeout_asks_for_the_neighbour_anew(void **state)
{
    (void)state;
    rig.is_deaf = true;
    rig_qp(&(struct rig_qp_options){.timeout = 18, .retry_cnt = 7});
    post(1, RDMA_WR_SEND, 0, 8);
    rig_advance(4 * NS_PER_S); /* ARP has given up by now */
    rig.is_deaf = false;
    rig_advance(3 * NS_PER_S);
    expect(SEND_ONLY, SQ_PSN);
    expect_no_wc();
    peer_ack(SQ_PSN);
    expect_wc(1, RDMA_WC_SUCCESS);
}

static void requester_waits_for_the_neighbour(void **state)
{
    (void)state;
    rig.is_deaf = true;
    rig_qp(&(struct rig_qp_options){.timeout = 20});
    post(1, RDMA_WR_SEND, 0, 8);
    expect_silence();
    rig.is_deaf = false;
    rig_advance(2 * NS_PER_S);
    expect(SEND_ONLY, SQ_PSN);
    peer_ack(SQ_PSN);
    expect_wc(1, RDMA_WC_SUCCESS);
}

/* Without a time-out of its own a QP still asks for its neighbour again. */
static void requester_without_time_out_looks_for_its_neighbor_again(void **state)
{
    (void)state;
    rig.is_deaf = true;
    rig_qp(&(struct rig_qp_options){.timeout = 255});
    post(1, RDMA_WR_SEND, 0, 10);
    rig_advance(10 * NS_PER_S);
    expect_silence();
    rig.is_deaf = false;
    rig_advance(5 * NS_PER_S);
    expect(SEND_ONLY, SQ_PSN);
    peer_ack(SQ_PSN);
    expect_wc(1, RDMA_WC_SUCCESS);
}

/* --- memory under way ------------------------------------------------------------------------- */

/* The device has not let go of the frame that points at the memory: no completion yet. */
static void completion_waits_until_the_device_has_read(void **state)
{
    (void)state;
    rig_qp(NULL);
    wire_hold_reap(rig.wire, true);
    post(1, RDMA_WR_SEND, 0, 1000); /* points at the memory */
    post(2, RDMA_WR_SEND, 0, 8);    /* is copied */
    expect(SEND_ONLY, SQ_PSN);
    expect(SEND_ONLY, SQ_PSN + 1);
    peer_ack(SQ_PSN + 1);
    expect_no_wc();
    assert_int_equal(rig_info(rig.qp).send_posted, 2);
    wire_hold_reap(rig.wire, false);
    rig_advance(100 * NS_PER_US);
    expect_wc(1, RDMA_WC_SUCCESS);
    expect_wc(2, RDMA_WC_SUCCESS);
}

static void completion_of_a_copy_does_not_wait(void **state)
{
    (void)state;
    rig_qp(NULL);
    wire_hold_reap(rig.wire, true);
    post(1, RDMA_WR_SEND, 0, 128);
    expect(SEND_ONLY, SQ_PSN);
    peer_ack(SQ_PSN);
    expect_wc(1, RDMA_WC_SUCCESS);
}

static void flush_waits_until_the_device_has_read(void **state)
{
    (void)state;
    rig_qp(NULL);
    wire_hold_reap(rig.wire, true);
    post(1, RDMA_WR_SEND, 0, 1000);
    post(2, RDMA_WR_SEND, 0, 8);
    peer_drain();
    assert_int_equal(rig_qp_to(rig.qp, RDMA_QP_ERR), STATUS_OK);
    rig_turn();
    expect_no_wc();
    wire_hold_reap(rig.wire, false);
    rig_advance(100 * NS_PER_US);
    expect_wc(1, RDMA_WC_WR_FLUSH_ERR);
    expect_wc(2, RDMA_WC_WR_FLUSH_ERR);
}

static void destroy_says_again_until_the_device_has_read(void **state)
{
    (void)state;
    struct rdma_qp *qp = rig_qp(NULL);
    wire_hold_reap(rig.wire, true);
    post(1, RDMA_WR_SEND, 0, 1000);
    peer_drain();
    assert_int_equal(rdma_qp_destroy(qp), STATUS_AGAIN);
    assert_int_equal(rdma_qp_destroy(qp), STATUS_AGAIN);
    peer_ack(SQ_PSN);
    peer_send(pkt(SEND_ONLY, RQ_PSN, 8));
    expect_silence();
    expect_no_wc();
    wire_hold_reap(rig.wire, false);
    rig_advance(100 * NS_PER_US);
    rig_qp_destroy(qp);
}

/* A completion waits for its frame when the QP goes, over RESET or for good: nobody looks at it any
 * more, also when another QP has its place. */
static void destroy_while_a_completion_waits_leaves_nothing(void **state)
{
    (void)state;
    for (uint32_t round = 0; round < 2; round++) {
        struct rdma_qp *qp = rig_qp(NULL);
        wire_hold_reap(rig.wire, true);
        post(1, RDMA_WR_SEND, 0, 1000);
        peer_drain();
        peer_ack(SQ_PSN);
        expect_no_wc();
        if (round == 1) {
            assert_int_equal(rig_qp_to(qp, RDMA_QP_RESET), STATUS_OK);
            rig_turn();
        }
        assert_int_equal(rdma_qp_destroy(qp), STATUS_AGAIN);
        wire_hold_reap(rig.wire, false);
        rig_turn();
        rig_qp_destroy(qp);
        rig_qp(NULL);
        rig_advance(NS_PER_MS);
        expect_no_wc();
        rig_qp_destroy(rig.qp);
    }
}

/* Room at the port runs out and comes back: everything leaves, in order, once. */
static void requester_without_room_at_the_port_goes_on_later(void **state)
{
    (void)state;
    rig_qp(&(struct rig_qp_options){.timeout = 255});
    struct rdma_qp *others[5];
    for (uint32_t i = 0; i < 5; i++) {
        others[i] = rig_qp(&(struct rig_qp_options){.timeout = 255});
    }
    wire_hold_reap(rig.wire, true);
    fill(0, 60 * 1024, 1);
    for (uint32_t i = 0; i < 5; i++) {
        post_wr(others[i], &send_wr(i, RDMA_WR_SEND, 0, 60 * 1024)->wr);
    }
    uint32_t before = peer_drain();
    assert_true(before >= 200 && before < 300); /* buffers have run out */
    post(9, RDMA_WR_SEND, 0, 4000);
    expect_silence();
    assert_true(STAT(tx_stalled) > 0);
    wire_hold_reap(rig.wire, false);
    rig_turn();
    assert_int_equal(peer_drain(), 5 * 60 + 4 - before);
    peer_ack(SQ_PSN + 3);
    expect_wc(9, RDMA_WC_SUCCESS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(timeout_is_as_long_as_the_attribute_says),
        RIG_TEST(timeout_retries_exactly_retry_cnt_times),
        RIG_TEST(timeout_0_waits_for_ever),
        RIG_TEST(timeout_starts_anew_with_progress),
        RIG_TEST(timeout_of_an_idle_queue_never_comes),
        RIG_TEST(timeout_sends_again_from_the_oldest_packet),
        RIG_TEST(timeout_then_the_late_ack_ends_it),
        RIG_TEST(timeout_then_a_nak_goes_back_again),
        RIG_TEST(timeout_with_more_posted_keeps_the_order),
        RIG_TEST(timeout_without_a_way_to_the_peer_gives_up),
        RIG_TEST(timeout_asks_for_the_neighbour_anew),
        RIG_TEST(requester_waits_for_the_neighbour),
        RIG_TEST(requester_without_time_out_looks_for_its_neighbor_again),
        RIG_TEST(completion_waits_until_the_device_has_read),
        RIG_TEST(completion_of_a_copy_does_not_wait),
        RIG_TEST(flush_waits_until_the_device_has_read),
        RIG_TEST(destroy_says_again_until_the_device_has_read),
        RIG_TEST(destroy_while_a_completion_waits_leaves_nothing),
        RIG_TEST(requester_without_room_at_the_port_goes_on_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
