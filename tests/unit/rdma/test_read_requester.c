/* READs of ours: requests, responses as they should be and as they should not, lost ones (IBA
 * 9.4.4, 9.7.5.1.1, 9.7.6.1, 9.9.2 with table 59). */
#include "rdma/rig.h"

static void let_it_time_out(void)
{
    native_clock_advance(RTO_NS + RIG_TICK_NS);
    rig_turn();
}

/* One response of a READ whose data are the pattern of seed 0 as one piece. */
static void queue_response(enum op op, uint32_t psn, uint32_t from, uint32_t len)
{
    static uint8_t bytes[1 << 20];
    struct pkt *made = pkt(op, psn, len);

    pattern(bytes, from + len, 0);
    memcpy(made->payload, bytes + from, len);
    made->syndrome = ACK_SYNDROME;
    peer_queue(made);
}

static void answer(enum op op, uint32_t psn, uint32_t from, uint32_t len)
{
    queue_response(op, psn, from, len);
    rig_turn();
}

/* All responses from packet `first` on, to a READ of `len` bytes whose first PSN is `psn`. */
static void answer_all(uint32_t psn, uint32_t first, uint32_t len, uint32_t mtu)
{
    uint32_t count = len == 0 ? 1 : (len - 1) / mtu + 1;
    for (uint32_t i = first; i < count; i++) {
        bool last = i == count - 1;
        bool begins = i == first;
        enum op op = begins && last ? READ_ONLY
                     : begins       ? READ_FIRST
                     : last         ? READ_LAST
                                    : READ_MIDDLE;
        queue_response(op, psn + i, i * mtu, last ? len - i * mtu : mtu);
        if (i % 64 == 63) {
            rig_turn();
        }
    }
    rig_turn();
}

static const struct pkt *expect_request(uint32_t psn, uint64_t va, uint32_t len)
{
    const struct pkt *got = expect(READ_REQUEST, psn);
    assert_int_equal(got->va, va);
    assert_int_equal(got->rkey, REMOTE_RKEY);
    assert_int_equal(got->dma_len, len);
    assert_int_equal(got->len, 0);
    return got;
}

/* --- as it should be -------------------------------------------------------------------------- */

static void read_of_every_length_at_every_mtu_is_placed(void **state)
{
    (void)state;
    for (uint32_t mtu = RDMA_MTU_256; mtu <= RDMA_MTU_4096; mtu++) {
        struct rdma_qp *qp = rig_qp(&(struct rig_qp_options){.mtu = (enum rdma_mtu)mtu});
        uint32_t bytes = rdma_mtu_bytes((enum rdma_mtu)mtu);
        const uint32_t lens[] = {0,     1,         3,         128,          bytes - 1,
                                 bytes, bytes + 1, 3 * bytes, 5 * bytes - 2};
        uint32_t psn = SQ_PSN;
        for (uint32_t i = 0; i < ARRAY_SIZE(lens); i++) {
            memset(rig.memory, 0xee, 6 * bytes);
            post(i, RDMA_WR_RDMA_READ, 3, lens[i]);
            expect_request(psn, REMOTE_VA, lens[i]);
            expect_silence();
            answer_all(psn, 0, lens[i], bytes);
            const struct rdma_wc *wc = expect_wc(i, RDMA_WC_SUCCESS);
            assert_int_equal(wc->opcode, RDMA_WC_RDMA_READ);
            assert_int_equal(wc->len_bytes, lens[i]);
            assert_filled(3, lens[i], 0);
            assert_int_equal(rig.memory[2], 0xee);
            assert_int_equal(rig.memory[3 + lens[i]], 0xee);
            psn += lens[i] == 0 ? 1 : (lens[i] - 1) / bytes + 1;
        }
        expect_silence();
        rig_qp_destroy(qp);
    }
}

static void read_of_one_mebibyte_is_placed(void **state)
{
    (void)state;
    rig_qp(&(struct rig_qp_options){.mtu = RDMA_MTU_256});
    post(1, RDMA_WR_RDMA_READ, 0, 1 << 20);
    expect_request(SQ_PSN, REMOTE_VA, 1 << 20);
    answer_all(SQ_PSN, 0, 1 << 20, 256);
    expect_wc(1, RDMA_WC_SUCCESS);
    assert_filled(0, 1 << 20, 0);
    post(2, RDMA_WR_SEND, 0, 4); /* the PSNs of all responses are used up (9.7.2) */
    expect(SEND_ONLY, SQ_PSN + 4096);
}

static void read_psn_wraps_from_ffffff_to_0(void **state)
{
    (void)state;
    rig_qp(&(struct rig_qp_options){.sq_psn = 0xfffffe});
    post(1, RDMA_WR_RDMA_READ, 0, 4096);
    expect_request(0xfffffe, REMOTE_VA, 4096);
    answer_all(0xfffffe, 0, 4096, 1024);
    expect_wc(1, RDMA_WC_SUCCESS);
    assert_filled(0, 4096, 0);
    post(2, RDMA_WR_SEND, 0, 4);
    expect(SEND_ONLY, 2);
}

/* 9.7.5.1.2: a response acknowledges what stands before its READ. */
static void read_response_acknowledges_what_is_before(void **state)
{
    (void)state;
    rig_qp(NULL);
    post(1, RDMA_WR_SEND, 0, 4);
    post(2, RDMA_WR_RDMA_WRITE, 0, 3000);
    post(3, RDMA_WR_RDMA_READ, 0, 2000);
    post(4, RDMA_WR_SEND, 0, 4);
    assert_int_equal(peer_drain(), 6);
    answer(READ_FIRST, SQ_PSN + 4, 0, 1024);
    expect_wc(1, RDMA_WC_SUCCESS);
    expect_wc(2, RDMA_WC_SUCCESS);
    expect_no_wc();
    answer(READ_LAST, SQ_PSN + 5, 1024, 976);
    expect_wc(3, RDMA_WC_SUCCESS);
    peer_ack(SQ_PSN + 6);
    expect_wc(4, RDMA_WC_SUCCESS);
}

static void reads_at_once_end_in_order(void **state)
{
    (void)state;
    rig_qp(NULL);
    for (uint32_t i = 0; i < 4; i++) {
        post(i, RDMA_WR_RDMA_READ, i * 4096, 2000);
        expect_request(SQ_PSN + 2 * i, REMOTE_VA, 2000);
    }
    for (uint32_t i = 0; i < 4; i++) {
        answer_all(SQ_PSN + 2 * i, 0, 2000, 1024);
        expect_wc(i, RDMA_WC_SUCCESS);
        assert_filled(i * 4096, 2000, 0);
    }
}

static void read_scatters_over_all_sges(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct send *send = send_wr(1, RDMA_WR_RDMA_READ, 0, 0);
    const uint32_t lens[4] = {1000, 0, 48, 1400};
    for (uint32_t i = 0; i < 4; i++) {
        send->sges[i] = (struct rdma_sge){
            .addr = addr_at(i * 4096), .len_bytes = lens[i], .lkey = rig.mr->lkey};
    }
    send->wr.sge_count = 4;
    post_wr(rig.qp, &send->wr);
    expect_request(SQ_PSN, REMOTE_VA, 2448);
    answer_all(SQ_PSN, 0, 2448, 1024);
    assert_int_equal(expect_wc(1, RDMA_WC_SUCCESS)->len_bytes, 2448);
    static uint8_t all[2448];
    pattern(all, 2448, 0);
    assert_memory_equal(rig.memory, all, 1000);
    assert_memory_equal(rig.memory + 2 * 4096, all + 1000, 48);
    assert_memory_equal(rig.memory + 3 * 4096, all + 1048, 1400);
    assert_int_equal(rig.memory[4096], 0xee);
}

/* --- lost ones -------------------------------------------------------------------------------- */

/* 9.7.5.1.1: a response that is too far ahead says that those before it are lost: the rest is asked
 * for at once, from the one that is missing, once. */
static void read_response_gap_asks_for_the_rest(void **state)
{
    (void)state;
    rig_qp(NULL);
    post(1, RDMA_WR_RDMA_READ, 0, 8192);
    expect_request(SQ_PSN, REMOTE_VA, 8192);
    answer(READ_FIRST, SQ_PSN, 0, 1024);
    answer(READ_MIDDLE, SQ_PSN + 2, 2048, 1024);
    expect_request(SQ_PSN + 1, REMOTE_VA + 1024, 7168);
    answer(READ_MIDDLE, SQ_PSN + 3, 3072, 1024);
    answer(READ_LAST, SQ_PSN + 7, 7168, 1024);
    expect_silence();
    answer_all(SQ_PSN, 1, 8192, 1024);
    expect_wc(1, RDMA_WC_SUCCESS);
    assert_filled(0, 8192, 0);
    expect_silence();
    assert_int_equal(rig_info(rig.qp).stats.retransmits, 1);
}

/* What was sent behind the READ is sent again with it, in order. */
static void read_response_gap_sends_what_is_behind_again(void **state)
{
    (void)state;
    rig_qp(NULL);
    post(1, RDMA_WR_RDMA_READ, 0, 2048);
    post(2, RDMA_WR_RDMA_READ, 4096, 1024);
    post(3, RDMA_WR_SEND, 0, 4);
    assert_int_equal(peer_drain(), 3);
    answer(READ_LAST, SQ_PSN + 1, 1024, 1024);
    expect_request(SQ_PSN, REMOTE_VA, 2048);
    expect_request(SQ_PSN + 2, REMOTE_VA, 1024);
    expect(SEND_ONLY, SQ_PSN + 3);
    expect_silence();
    assert_int_equal(rig_info(rig.qp).reads_out, 2);
    answer_all(SQ_PSN, 0, 2048, 1024);
    answer_all(SQ_PSN + 2, 0, 1024, 1024);
    peer_ack(SQ_PSN + 3);
    for (uint32_t i = 1; i <= 3; i++) {
        expect_wc(i, RDMA_WC_SUCCESS);
    }
    assert_int_equal(rig_info(rig.qp).reads_out, 0);
}

/* An ACK of something behind it says the same. */
static void ack_beyond_an_open_read_is_an_implied_nak(void **state)
{
    (void)state;
    rig_qp(NULL);
    post(1, RDMA_WR_SEND, 0, 4);
    post(2, RDMA_WR_RDMA_READ, 0, 1024);
    post(3, RDMA_WR_SEND, 0, 4);
    assert_int_equal(peer_drain(), 3);
    peer_ack(SQ_PSN + 2);
    expect_wc(1, RDMA_WC_SUCCESS);
    expect_no_wc();
    expect_request(SQ_PSN + 1, REMOTE_VA, 1024);
    expect(SEND_ONLY, SQ_PSN + 2);
    answer_all(SQ_PSN + 1, 0, 1024, 1024);
    peer_ack(SQ_PSN + 2);
    expect_wc(2, RDMA_WC_SUCCESS);
    expect_wc(3, RDMA_WC_SUCCESS);
}

/* A NAK beyond it, too: what it says may be looked at when it comes again. */
static void nak_beyond_an_open_read_is_an_implied_nak(void **state)
{
    (void)state;
    rig_qp(NULL);
    post(1, RDMA_WR_RDMA_READ, 0, 1024);
    post(2, RDMA_WR_SEND, 0, 4);
    assert_int_equal(peer_drain(), 2);
    peer_nak(SQ_PSN + 1, NAK_ACCESS);
    expect_no_wc();
    expect_request(SQ_PSN, REMOTE_VA, 1024);
    expect(SEND_ONLY, SQ_PSN + 1);
    answer_all(SQ_PSN, 0, 1024, 1024);
    expect_wc(1, RDMA_WC_SUCCESS);
    peer_nak(SQ_PSN + 1, NAK_ACCESS);
    expect_wc(2, RDMA_WC_REM_ACCESS_ERR);
}

/* Each implied NAK uses up a retry (9.7.6.1.1), progress gives them back. */
static void read_gap_without_retries_fails(void **state)
{
    (void)state;
    rig_qp(&(struct rig_qp_options){.retry_cnt = 255});
    post(1, RDMA_WR_RDMA_READ, 0, 4096);
    expect_request(SQ_PSN, REMOTE_VA, 4096);
    answer(READ_MIDDLE, SQ_PSN + 1, 1024, 1024);
    expect_wc(1, RDMA_WC_RETRY_EXC_ERR);
    assert_int_equal(rig.qp->state, RDMA_QP_ERR);
    expect_silence();
}

static void read_timeout_asks_from_the_middle(void **state)
{
    (void)state;
    rig_qp(NULL);
    post(1, RDMA_WR_RDMA_READ, 0, 5000);
    expect_request(SQ_PSN, REMOTE_VA, 5000);
    answer(READ_FIRST, SQ_PSN, 0, 1024);
    answer(READ_MIDDLE, SQ_PSN + 1, 1024, 1024);
    let_it_time_out();
    expect_request(SQ_PSN + 2, REMOTE_VA + 2048, 2952);
    let_it_time_out();
    expect_request(SQ_PSN + 2, REMOTE_VA + 2048, 2952);
    answer_all(SQ_PSN, 2, 5000, 1024);
    expect_wc(1, RDMA_WC_SUCCESS);
    assert_filled(0, 5000, 0);
    expect_silence();
}

static void read_timeout_retries_exactly_retry_cnt_times(void **state)
{
    (void)state;
    rig_qp(NULL);
    post(1, RDMA_WR_RDMA_READ, 0, 5000);
    expect_request(SQ_PSN, REMOTE_VA, 5000);
    for (uint32_t i = 0; i < RETRIES; i++) {
        let_it_time_out();
        expect_request(SQ_PSN, REMOTE_VA, 5000);
    }
    let_it_time_out();
    expect_silence();
    expect_wc(1, RDMA_WC_RETRY_EXC_ERR);
}

/* The late responses of the first request end it while the second is on its way; then come those of
 * the second: nobody needs them. */
static void read_responses_twice_are_placed_once(void **state)
{
    (void)state;
    rig_qp(NULL);
    post(1, RDMA_WR_RDMA_READ, 0, 3000);
    expect_request(SQ_PSN, REMOTE_VA, 3000);
    let_it_time_out();
    expect_request(SQ_PSN, REMOTE_VA, 3000);
    answer_all(SQ_PSN, 0, 3000, 1024);
    expect_wc(1, RDMA_WC_SUCCESS);
    memset(rig.memory, 0x11, 3000);
    answer_all(SQ_PSN, 0, 3000, 1024);
    assert_int_equal(rig.memory[0], 0x11);
    expect_no_wc();
    expect_silence();
    assert_int_equal(rig.qp->state, RDMA_QP_RTS);
}

/* A response comes before the repeated request has left: what is asked for is what is still
 * missing. */
static void read_response_before_the_request_left_again(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_qp *other = rig_qp(&(struct rig_qp_options){.timeout = 255});
    post(1, RDMA_WR_RDMA_READ, 0, 3000);
    expect_request(SQ_PSN, REMOTE_VA, 3000);
    wire_hold_reap(rig.wire, true);
    struct rdma_qp *others[4] = {other};
    for (uint32_t i = 0; i < 4; i++) { /* no buffer is left */
        if (others[i] == NULL) {
            others[i] = rig_qp(&(struct rig_qp_options){.timeout = 255});
        }
        post_wr(others[i], &send_wr(i, RDMA_WR_SEND, 0, 64 * 1024)->wr);
    }
    peer_drain();
    let_it_time_out();
    expect_silence();
    answer(READ_FIRST, SQ_PSN, 0, 1024);
    wire_hold_reap(rig.wire, false);
    rig_turn();
    expect_request(SQ_PSN + 1, REMOTE_VA + 1024, 1976);
    answer_all(SQ_PSN, 1, 3000, 1024);
    expect_wc(1, RDMA_WC_SUCCESS);
    assert_filled(0, 3000, 0);
}

/* --- as it should not be ---------------------------------------------------------------------- */

/* Table 59, bad response: the READ fails, what was before has not. Row by row: the READ has 3000
 * bytes; good responses before; then the bad one. */
static void read_response_that_cannot_be_is_a_bad_response(void **state)
{
    (void)state;
    static const struct {
        uint32_t good; /* responses before */
        enum op op;
        uint32_t len;
        uint8_t syndrome;
    } rows[] = {
        {0, READ_FIRST, 1023, ACK_SYNDROME},  {0, READ_FIRST, 1028, ACK_SYNDROME},
        {0, READ_FIRST, 0, ACK_SYNDROME},     {0, READ_ONLY, 1024, ACK_SYNDROME},
        {0, READ_ONLY, 3000, ACK_SYNDROME},   {0, READ_LAST, 1024, ACK_SYNDROME},
        {0, READ_MIDDLE, 1024, ACK_SYNDROME}, {1, READ_MIDDLE, 1000, ACK_SYNDROME},
        {1, READ_MIDDLE, 1028, ACK_SYNDROME}, {1, READ_LAST, 1024, ACK_SYNDROME},
        {1, READ_LAST, 952, ACK_SYNDROME},    {2, READ_LAST, 951, ACK_SYNDROME},
        {2, READ_LAST, 953, ACK_SYNDROME},    {2, READ_LAST, 0, ACK_SYNDROME},
        {2, READ_MIDDLE, 952, ACK_SYNDROME},  {2, READ_LAST, 1024, ACK_SYNDROME},
        {0, READ_FIRST, 1024, NAK_ACCESS},    {2, READ_LAST, 952, RNR_SYNDROME},
    };
    for (uint32_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct rdma_qp *qp = rig_qp(NULL);
        post(1, RDMA_WR_SEND, 0, 4);
        post(2, RDMA_WR_RDMA_READ, 4096, 3000);
        post(3, RDMA_WR_SEND, 0, 4);
        assert_int_equal(peer_drain(), 3);
        for (uint32_t j = 0; j < rows[i].good; j++) {
            answer(j == 0 ? READ_FIRST : READ_MIDDLE, SQ_PSN + 1 + j, j * 1024, 1024);
        }
        struct pkt *made = pkt(rows[i].op, SQ_PSN + 1 + rows[i].good, rows[i].len);
        made->syndrome = rows[i].syndrome;
        peer_send(made);
        expect_wc(1, RDMA_WC_SUCCESS);
        expect_wc(2, RDMA_WC_BAD_RESP_ERR);
        expect_wc(3, RDMA_WC_WR_FLUSH_ERR);
        assert_int_equal(qp->state, RDMA_QP_ERR);
        expect_silence();
        assert_int_equal(rig.memory[4096 + 3000], 0xee);
        rig_qp_destroy(qp);
    }
}

/* A response where a SEND is the oldest, or before what is missing, or behind all: dropped. */
static void read_response_that_nobody_waits_for_is_dropped(void **state)
{
    (void)state;
    rig_qp(NULL);
    answer(READ_ONLY, SQ_PSN, 0, 4);
    post(1, RDMA_WR_SEND, 0, 4);
    expect(SEND_ONLY, SQ_PSN);
    answer(READ_ONLY, SQ_PSN, 0, 4);
    answer(READ_ONLY, SQ_PSN + 1, 0, 4);
    answer(READ_ONLY, SQ_PSN - 1, 0, 4);
    expect_no_wc();
    expect_silence();
    assert_int_equal(rig.qp->state, RDMA_QP_RTS);
    peer_ack(SQ_PSN);
    expect_wc(1, RDMA_WC_SUCCESS);
}

/* NAKs of a READ: of its first packet, and in its middle when the responder's memory went away. */
static void read_refused_fails(void **state)
{
    (void)state;
    for (uint32_t good = 0; good < 3; good++) {
        struct rdma_qp *qp = rig_qp(NULL);
        post(1, RDMA_WR_RDMA_READ, 0, 3000);
        expect_request(SQ_PSN, REMOTE_VA, 3000);
        for (uint32_t j = 0; j < good; j++) {
            answer(j == 0 ? READ_FIRST : READ_MIDDLE, SQ_PSN + j, j * 1024, 1024);
        }
        peer_nak(SQ_PSN + good, NAK_ACCESS);
        assert_int_equal(expect_wc(1, RDMA_WC_REM_ACCESS_ERR)->vendor_err, NAK_ACCESS);
        assert_int_equal(qp->state, RDMA_QP_ERR);
        rig_qp_destroy(qp);
    }
}

/* RNR for what is behind a READ: the READ was answered. */
static void rnr_behind_a_read_waits_for_what_is_behind(void **state)
{
    (void)state;
    rig_qp(NULL);
    post(1, RDMA_WR_RDMA_READ, 0, 1024);
    post(2, RDMA_WR_SEND, 0, 4);
    assert_int_equal(peer_drain(), 2);
    answer(READ_ONLY, SQ_PSN, 0, 1024);
    peer_nak(SQ_PSN + 1, RNR_SYNDROME | 1);
    expect_wc(1, RDMA_WC_SUCCESS);
    rig_advance(RIG_TICK_NS + 10 * NS_PER_US);
    expect(SEND_ONLY, SQ_PSN + 1);
    peer_ack(SQ_PSN + 1);
    expect_wc(2, RDMA_WC_SUCCESS);
    expect_silence();
}

/* Responses to a QP that died meanwhile touch nothing. */
static void read_response_after_the_flush_is_not_placed(void **state)
{
    (void)state;
    rig_qp(NULL);
    post(1, RDMA_WR_RDMA_READ, 0, 1024);
    peer_drain();
    assert_int_equal(rig_qp_to(rig.qp, RDMA_QP_ERR), STATUS_OK);
    answer(READ_ONLY, SQ_PSN, 0, 1024);
    assert_int_equal(rig.memory[0], 0xee);
    expect_wc(1, RDMA_WC_WR_FLUSH_ERR);
    expect_no_wc();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(read_of_every_length_at_every_mtu_is_placed),
        RIG_TEST(read_of_one_mebibyte_is_placed),
        RIG_TEST(read_psn_wraps_from_ffffff_to_0),
        RIG_TEST(read_response_acknowledges_what_is_before),
        RIG_TEST(reads_at_once_end_in_order),
        RIG_TEST(read_scatters_over_all_sges),
        RIG_TEST(read_response_gap_asks_for_the_rest),
        RIG_TEST(read_response_gap_sends_what_is_behind_again),
        RIG_TEST(ack_beyond_an_open_read_is_an_implied_nak),
        RIG_TEST(nak_beyond_an_open_read_is_an_implied_nak),
        RIG_TEST(read_gap_without_retries_fails),
        RIG_TEST(read_timeout_asks_from_the_middle),
        RIG_TEST(read_timeout_retries_exactly_retry_cnt_times),
        RIG_TEST(read_responses_twice_are_placed_once),
        RIG_TEST(read_response_before_the_request_left_again),
        RIG_TEST(read_response_that_cannot_be_is_a_bad_response),
        RIG_TEST(read_response_that_nobody_waits_for_is_dropped),
        RIG_TEST(read_refused_fails),
        RIG_TEST(rnr_behind_a_read_waits_for_what_is_behind),
        RIG_TEST(read_response_after_the_flush_is_not_placed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
