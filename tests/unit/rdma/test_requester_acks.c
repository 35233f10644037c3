/* What the requester makes of acknowledgements: cumulative, old, of nobody, NAKs, RNR (IBA 9.7.5.1,
 * 9.7.5.2, 9.7.6.1, 9.7.7, tables 43 to 46). */
#include "rdma/rig.h"

/* `count` SENDs of one packet each, taken by the peer. */
static void post_sends(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        post(i, RDMA_WR_SEND, 0, 16);
        expect(SEND_ONLY, SQ_PSN + i);
    }
}

static void expect_sends(uint32_t first, uint32_t end)
{
    for (uint32_t i = first; i < end; i++) {
        expect(SEND_ONLY, SQ_PSN + i);
    }
    expect_silence();
}

static void expect_wcs(uint32_t first, uint32_t end)
{
    for (uint32_t i = first; i < end; i++) {
        expect_wc(i, RDMA_WC_SUCCESS);
    }
    expect_no_wc();
}

/* The one that failed, then the rest flushed; the QP is in error. */
static void expect_failed(uint32_t first, uint32_t end, enum rdma_wc_status status)
{
    expect_wc(first, status);
    for (uint32_t i = first + 1; i < end; i++) {
        expect_wc(i, RDMA_WC_WR_FLUSH_ERR);
    }
    expect_no_wc();
    assert_int_equal(rig.qp->state, RDMA_QP_ERR);
    expect_silence();
}

/* --- ACK -------------------------------------------------------------------------------------- */

/* 9.7.5.1.2 */
static void ack_covers_all_before_it(void **state)
{
    (void)state;
    rig_qp(NULL);
    post_sends(5);
    peer_ack(SQ_PSN + 2);
    expect_wcs(0, 3);
    peer_ack(SQ_PSN + 4);
    expect_wcs(3, 5);
}

static void ack_in_the_middle_of_a_message_completes_nothing(void **state)
{
    (void)state;
    rig_qp(NULL);
    post(0, RDMA_WR_SEND, 0, 4096);
    post(1, RDMA_WR_SEND, 0, 1);
    assert_int_equal(peer_drain(), 5);
    peer_ack(SQ_PSN + 2);
    expect_no_wc();
    assert_int_equal(rig_info(rig.qp).sq_una_psn, SQ_PSN + 3);
    peer_ack(SQ_PSN + 3);
    expect_wcs(0, 1);
    peer_ack(SQ_PSN + 4);
    expect_wcs(1, 2);
}

/* Acks that were overtaken by later ones are old. */
static void ack_out_of_order_is_ignored(void **state)
{
    (void)state;
    rig_qp(NULL);
    post_sends(4);
    peer_ack(SQ_PSN + 2);
    expect_wcs(0, 3);
    peer_ack(SQ_PSN);
    peer_ack(SQ_PSN + 1);
    peer_ack(SQ_PSN + 2); /* again */
    expect_no_wc();
    expect_silence();
    peer_ack(SQ_PSN + 3);
    expect_wcs(3, 4);
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

/* 9.7.5.1.3: an acknowledgement for what was never sent is dropped. */
static void ack_of_what_was_never_sent_is_ignored(void **state)
{
    (void)state;
    rig_qp(NULL);
    peer_ack(SQ_PSN);
    post_sends(2);
    peer_ack(SQ_PSN + 2);
    peer_nak(SQ_PSN + 2, NAK_ACCESS);
    peer_nak(SQ_PSN + 2, NAK_SEQUENCE);
    peer_nak(SQ_PSN + 2, RNR_SYNDROME | 1);
    peer_ack(SQ_PSN + 0x7fffff);
    peer_ack(SQ_PSN - 0x7fffff);
    expect_no_wc();
    expect_silence();
    assert_int_equal(rig.qp->state, RDMA_QP_RTS);
    peer_ack(SQ_PSN + 1);
    expect_wcs(0, 2);
}

/* A work request that is posted but has not begun is not acknowledged by chance. */
static void ack_stops_at_what_has_not_begun(void **state)
{
    (void)state;
    rig_qp(NULL);
    for (uint32_t i = 0; i < 70; i++) {
        post(i, RDMA_WR_SEND, 0, 16);
    }
    expect_sends(0, 64);
    peer_ack(SQ_PSN + 63);
    expect_wcs(0, 64);
    expect_sends(64, 70);
    peer_ack(SQ_PSN + 69);
    expect_wcs(64, 70);
}

/* Table 44: with a credit count instead of 1fh it is an ACK all the same (9.7.7.2: no credits). */
static void ack_with_credits_is_an_ack(void **state)
{
    (void)state;
    rig_qp(NULL);
    for (uint8_t credits = 0; credits < 0x1f; credits++) {
        uint32_t psn = SQ_PSN + credits;
        post(credits, RDMA_WR_SEND, 0, 16);
        expect(SEND_ONLY, psn);
        peer_send(pkt_ack(psn, credits, 1));
        expect_wc(credits, RDMA_WC_SUCCESS);
    }
}

/* --- NAK -------------------------------------------------------------------------------------- */

/* 9.7.5.2.8: it acknowledges all before it and asks for the rest anew. */
static void nak_sequence_goes_back_to_its_psn(void **state)
{
    (void)state;
    rig_qp(NULL);
    post_sends(5);
    peer_nak(SQ_PSN + 2, NAK_SEQUENCE);
    expect_wcs(0, 2);
    expect_sends(2, 5);
    assert_int_equal(rig_info(rig.qp).stats.retransmits, 3);
    assert_int_equal(rig_info(rig.qp).stats.nak_seq_rx, 1);
    peer_ack(SQ_PSN + 4);
    expect_wcs(2, 5);
}

static void nak_sequence_in_the_middle_of_a_message_resumes_there(void **state)
{
    (void)state;
    rig_qp(NULL);
    fill(0, 5000, 2);
    post(0, RDMA_WR_RDMA_WRITE, 0, 5000);
    assert_int_equal(peer_drain(), 5);
    peer_nak(SQ_PSN + 3, NAK_SEQUENCE);
    expect_data(WRITE_MIDDLE, SQ_PSN + 3, 1024, 2, 3072);
    assert_true(expect_data(WRITE_LAST, SQ_PSN + 4, 904, 2, 4096)->ack_req);
    expect_silence();
    peer_nak(SQ_PSN + 4, NAK_SEQUENCE);
    expect_data(WRITE_LAST, SQ_PSN + 4, 904, 2, 4096);
    peer_ack(SQ_PSN + 4);
    expect_wcs(0, 1);
}

/* The whole message again: First has its RETH with the whole length. */
static void nak_sequence_of_the_first_packet_sends_all_again(void **state)
{
    (void)state;
    rig_qp(NULL);
    fill(0, 3000, 2);
    post(0, RDMA_WR_RDMA_WRITE, 0, 3000);
    for (uint32_t i = 0; i < 2; i++) {
        const struct pkt *first = expect_data(WRITE_FIRST, SQ_PSN, 1024, 2, 0);
        assert_int_equal(first->dma_len, 3000);
        assert_int_equal(first->va, REMOTE_VA);
        expect_data(WRITE_MIDDLE, SQ_PSN + 1, 1024, 2, 1024);
        expect_data(WRITE_LAST, SQ_PSN + 2, 952, 2, 2048);
        if (i == 0) {
            peer_nak(SQ_PSN, NAK_SEQUENCE);
        }
    }
    peer_ack(SQ_PSN + 2);
    expect_wcs(0, 1);
}

/* One gap, told twice: sent again once. */
static void nak_sequence_twice_goes_back_once(void **state)
{
    (void)state;
    rig_qp(NULL);
    post_sends(3);
    peer_nak(SQ_PSN + 1, NAK_SEQUENCE);
    expect_wcs(0, 1);
    expect_sends(1, 3);
    peer_nak(SQ_PSN + 1, NAK_SEQUENCE);
    expect_silence();
    peer_ack(SQ_PSN + 2);
    expect_wcs(1, 3);
}

/* 9.7.6.1.1: it uses up a retry as a time-out does; progress gives all back. */
static void nak_sequence_uses_up_retries(void **state)
{
    (void)state;
    rig_qp(&(struct rig_qp_options){.retry_cnt = 255});
    post_sends(2);
    peer_nak(SQ_PSN, NAK_SEQUENCE);
    expect_failed(0, 2, RDMA_WC_RETRY_EXC_ERR);
}

static void nak_after_progress_has_all_retries(void **state)
{
    (void)state;
    rig_qp(&(struct rig_qp_options){.retry_cnt = 1});
    post_sends(4);
    for (uint32_t i = 1; i < 4; i++) {
        peer_nak(SQ_PSN + i, NAK_SEQUENCE);
        expect_wcs(i - 1, i);
        expect_sends(i, 4);
    }
    peer_ack(SQ_PSN + 3);
    expect_wcs(3, 4);
}

/* Table 46, 9.9.2 class B: the work request that was refused fails, those before have succeeded. */
static void nak_of_each_kind_has_its_status(void **state)
{
    (void)state;
    const struct {
        uint8_t syndrome;
        enum rdma_wc_status status;
    } rows[] = {{NAK_INVALID, RDMA_WC_REM_INV_REQ_ERR},
                {NAK_ACCESS, RDMA_WC_REM_ACCESS_ERR},
                {NAK_OPERATION, RDMA_WC_REM_OP_ERR}};
    for (uint32_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct rdma_qp *qp = rig_qp(NULL);
        post_recv(100, 0, 64);
        post_sends(4);
        peer_nak(SQ_PSN + 2, rows[i].syndrome);
        expect_wc(0, RDMA_WC_SUCCESS);
        expect_wc(1, RDMA_WC_SUCCESS);
        assert_int_equal(expect_wc(2, rows[i].status)->vendor_err, rows[i].syndrome);
        expect_wc(3, RDMA_WC_WR_FLUSH_ERR);
        expect_recv_wc(100, RDMA_WC_WR_FLUSH_ERR);
        expect_no_wc();
        assert_int_equal(qp->state, RDMA_QP_ERR);
        expect_silence();
        rig_advance(10 * RTO_NS);
        expect_silence();
        rig_qp_destroy(qp);
    }
}

/* It names a packet in the middle: the message fails. */
static void nak_access_in_the_middle_of_a_write_fails_it(void **state)
{
    (void)state;
    rig_qp(NULL);
    post(0, RDMA_WR_SEND, 0, 8);
    post(1, RDMA_WR_RDMA_WRITE, 0, 4000);
    post(2, RDMA_WR_SEND, 0, 8);
    assert_int_equal(peer_drain(), 6);
    peer_nak(SQ_PSN + 3, NAK_ACCESS);
    expect_wc(0, RDMA_WC_SUCCESS);
    expect_failed(1, 3, RDMA_WC_REM_ACCESS_ERR);
}

/* Codes 4 to 31 and the kind 10b are reserved: as if they were not there, but for what they say of
 * the packets before. */
static void nak_reserved_is_ignored(void **state)
{
    (void)state;
    rig_qp(NULL);
    post_sends(2);
    for (uint32_t code = 4; code < 32; code++) {
        peer_nak(SQ_PSN, (uint8_t)(0x60 | code));
    }
    for (uint32_t value = 0; value < 32; value++) {
        peer_nak(SQ_PSN, (uint8_t)(0x40 | value));
    }
    expect_no_wc();
    expect_silence();
    assert_int_equal(rig.qp->state, RDMA_QP_RTS);
    peer_ack(SQ_PSN + 1);
    expect_wcs(0, 2);
}

/* --- RNR -------------------------------------------------------------------------------------- */

/* Table 45 in microseconds. */
static const uint32_t rnr_us[32] = {655360, 10,    20,    30,     40,     60,     80,     120,
                                    160,    240,   320,   480,    640,    960,    1280,   1920,
                                    2560,   3840,  5120,  7680,   10240,  15360,  20480,  30720,
                                    40960,  61440, 81920, 122880, 163840, 245760, 327680, 491520};

/* 9.7.5.2.8: not before the time that the responder says; at most a tick of the timers later. */
static void rnr_waits_the_time_of_each_code(void **state)
{
    (void)state;
    rig_qp(&(struct rig_qp_options){.rnr_retry = 7, .timeout = 255});
    post_sends(2);
    for (uint8_t code = 0; code < 32; code++) {
        peer_nak(SQ_PSN, RNR_SYNDROME | code);
        expect_silence();
        uint64_t wait_ns = rnr_us[code] * NS_PER_US;
        native_clock_advance(wait_ns - 1);
        rig_turn();
        expect_silence();
        native_clock_advance(RIG_TICK_NS + 1);
        rig_turn();
        expect_sends(0, 2);
    }
    expect_no_wc();
    assert_int_equal(rig_info(rig.qp).stats.rnr_rx, 32);
    peer_ack(SQ_PSN + 1);
    expect_wcs(0, 2);
}

/* 9.7.6.1.2: as many retries as rnr_retry says; 7: for ever. */
static void rnr_gives_up_after_as_many_retries(void **state)
{
    (void)state;
    for (uint8_t retries = 0; retries <= 7; retries++) {
        struct rdma_qp *qp =
            rig_qp(&(struct rig_qp_options){.rnr_retry = retries == 0 ? 255 : retries});
        uint32_t rounds = retries == 7 ? 40 : retries;
        post_sends(2);
        for (uint32_t i = 0; i < rounds; i++) {
            peer_nak(SQ_PSN, RNR_SYNDROME | 1);
            rig_advance(RIG_TICK_NS + 10 * NS_PER_US);
            expect_sends(0, 2);
        }
        expect_no_wc();
        peer_nak(SQ_PSN, RNR_SYNDROME | 1);
        if (retries == 7) {
            expect_no_wc();
        } else {
            expect_failed(0, 2, RDMA_WC_RNR_RETRY_EXC_ERR);
        }
        rig_qp_destroy(qp);
    }
}

/* It acknowledges what stands before it; the counter starts anew with progress. */
static void rnr_acknowledges_those_before(void **state)
{
    (void)state;
    rig_qp(&(struct rig_qp_options){.rnr_retry = 1});
    post_sends(4);
    for (uint32_t i = 1; i < 4; i++) {
        peer_nak(SQ_PSN + i, RNR_SYNDROME | 1);
        expect_wcs(i - 1, i);
        rig_advance(RIG_TICK_NS + 10 * NS_PER_US);
        expect_sends(i, 4);
    }
    peer_ack(SQ_PSN + 3);
    expect_wcs(3, 4);
}

/* While it waits nothing is sent, also not what is posted meanwhile, and no time-out runs. */
static void rnr_pause_holds_everything_back(void **state)
{
    (void)state;
    rig_qp(NULL);
    post_sends(1);
    peer_nak(SQ_PSN, RNR_SYNDROME | 0); /* 655 ms, far more than the time-out */
    post(1, RDMA_WR_SEND, 0, 16);
    post(2, RDMA_WR_RDMA_READ, 0, 16);
    rig_advance(600 * NS_PER_MS);
    expect_silence();
    assert_int_equal(rig_info(rig.qp).stats.timeouts, 0);
    peer_nak(SQ_PSN + 1, NAK_SEQUENCE); /* of what was never sent */
    expect_silence();
    native_clock_advance(56 * NS_PER_MS);
    rig_turn();
    expect(SEND_ONLY, SQ_PSN);
    expect(SEND_ONLY, SQ_PSN + 1);
    expect(READ_REQUEST, SQ_PSN + 2);
    expect_silence();
}

/* Who refuses a packet may complain of the gap that those behind it leave, as Linux' rxe does; and
 * the network may double the NAK. All of it is one refusal, and the pause goes on. */
static void rnr_pause_uses_up_one_retry(void **state)
{
    (void)state;
    rig_qp(&(struct rig_qp_options){.rnr_retry = 1, .retry_cnt = 255});
    post_sends(3);
    peer_nak(SQ_PSN, RNR_SYNDROME | 12); /* 640 us */
    peer_nak(SQ_PSN, NAK_SEQUENCE);
    peer_nak(SQ_PSN, RNR_SYNDROME | 12);
    peer_nak(SQ_PSN, NAK_SEQUENCE);
    expect_no_wc();
    rig_advance(600 * NS_PER_US);
    expect_silence();
    rig_advance(40 * NS_PER_US + RIG_TICK_NS);
    expect_sends(0, 3);
    peer_ack(SQ_PSN + 2);
    expect_wcs(0, 3);
}

/* A late ACK shows that the receiver was ready after all. */
static void rnr_pause_ends_with_an_ack(void **state)
{
    (void)state;
    rig_qp(NULL);
    post_sends(2);
    peer_nak(SQ_PSN, RNR_SYNDROME | 0);
    peer_ack(SQ_PSN + 1);
    expect_wcs(0, 2);
    post(2, RDMA_WR_SEND, 0, 16);
    expect_sends(2, 3);
    peer_ack(SQ_PSN + 2);
    expect_wcs(2, 3);
}

/* The message goes on at the packet that was refused: WRITE with immediate data. */
static void rnr_in_the_middle_of_a_message_resumes_there(void **state)
{
    (void)state;
    rig_qp(NULL);
    fill(0, 2048, 6);
    post(0, RDMA_WR_RDMA_WRITE_WITH_IMM, 0, 2048);
    assert_int_equal(peer_drain(), 2);
    peer_nak(SQ_PSN + 1, RNR_SYNDROME | 1);
    rig_advance(RIG_TICK_NS + 10 * NS_PER_US);
    expect_data(WRITE_LAST_IMM, SQ_PSN + 1, 1024, 6, 1024);
    expect_silence();
    peer_ack(SQ_PSN + 1);
    expect_wcs(0, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(ack_covers_all_before_it),
        RIG_TEST(ack_in_the_middle_of_a_message_completes_nothing),
        RIG_TEST(ack_out_of_order_is_ignored),
        RIG_TEST(acknowledgement_passes_what_failed_when_sent_again),
        RIG_TEST(ack_of_what_was_never_sent_is_ignored),
        RIG_TEST(ack_stops_at_what_has_not_begun),
        RIG_TEST(ack_with_credits_is_an_ack),
        RIG_TEST(nak_sequence_goes_back_to_its_psn),
        RIG_TEST(nak_sequence_in_the_middle_of_a_message_resumes_there),
        RIG_TEST(nak_sequence_of_the_first_packet_sends_all_again),
        RIG_TEST(nak_sequence_twice_goes_back_once),
        RIG_TEST(nak_sequence_uses_up_retries),
        RIG_TEST(nak_after_progress_has_all_retries),
        RIG_TEST(nak_of_each_kind_has_its_status),
        RIG_TEST(nak_access_in_the_middle_of_a_write_fails_it),
        RIG_TEST(nak_reserved_is_ignored),
        RIG_TEST(rnr_waits_the_time_of_each_code),
        RIG_TEST(rnr_gives_up_after_as_many_retries),
        RIG_TEST(rnr_acknowledges_those_before),
        RIG_TEST(rnr_pause_holds_everything_back),
        RIG_TEST(rnr_pause_uses_up_one_retry),
        RIG_TEST(rnr_pause_ends_with_an_ack),
        RIG_TEST(rnr_in_the_middle_of_a_message_resumes_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
