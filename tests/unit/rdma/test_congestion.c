/* Congestion: marks become notifications, notifications slow the sender down, and it recovers (RFC
 * 3168, IBA A17.9; DCQCN: Zhu et al., SIGCOMM 2015). */
#include "rdma/rig.h"

#define FRAME_BYTES (14u + 20 + 8 + 12 + 1024 + 4) /* of a Middle packet */
#define CNP_NS      (50 * NS_PER_US)

static struct pkt *marked(struct pkt *made)
{
    made->tos = 3;
    return made;
}

static struct pkt *a_cnp(void)
{
    struct pkt *made = pkt(CNP, 0, 16);
    memset(made->payload, 0, 16);
    made->congestion = 0x40;
    return made;
}

/* --- notification point ----------------------------------------------------------------------- */

/* A17.9.3: a CNP to the sender's QP, BECN set, sixteen bytes that are zero; then the packet is
 * taken as ever. */
static void mark_is_notified_and_the_packet_taken(void **state)
{
    (void)state;
    rig_qp(NULL);
    post_recv(1, 0, 64);
    peer_send(marked(pkt(SEND_ONLY, RQ_PSN, 8)));
    const struct pkt *cnp = expect(CNP, 0);
    assert_int_equal(cnp->congestion, 0x40);
    assert_int_equal(cnp->len, 16);
    for (uint32_t i = 0; i < 16; i++) {
        assert_int_equal(cnp->payload[i], 0);
    }
    assert_false(cnp->ack_req);
    expect_ack(RQ_PSN, 1);
    expect_silence();
    expect_recv_wc(1, RDMA_WC_SUCCESS);
    assert_int_equal(rig_info(rig.qp).stats.cnp_tx, 1);
}

/* At most one in 50 us for a connection; each connection has its own. */
static void mark_is_notified_once_in_50_us(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_qp *other = rig_qp(NULL);
    for (uint32_t i = 0; i < 20; i++) {
        peer_send(marked(pkt_rdma(WRITE_ONLY, RQ_PSN + i, 4, addr_at(0), rig.mr->rkey, 4)));
        if (i % 5 == 0) {
            expect(CNP, 0);
        }
        expect_ack(RQ_PSN + i, i + 1);
        expect_silence();
        native_clock_advance(CNP_NS / 5);
    }
    struct pkt *made = marked(pkt_rdma(WRITE_ONLY, RQ_PSN, 4, addr_at(0), rig.mr->rkey, 4));
    made->qpn = other->num;
    peer_send(made);
    expect(CNP, 0);
    expect_ack(RQ_PSN, 1);
}

/* READ responses are marked, too. Acknowledgements carry no data: nobody is to slow down. */
static void mark_of_a_read_response_is_notified(void **state)
{
    (void)state;
    rig_qp(NULL);
    post(1, RDMA_WR_RDMA_READ, 0, 100);
    post(2, RDMA_WR_SEND, 0, 4);
    assert_int_equal(peer_drain(), 2);
    struct pkt *answer = marked(pkt(READ_ONLY, SQ_PSN, 100));
    answer->syndrome = ACK_SYNDROME;
    peer_send(answer);
    expect(CNP, 0);
    expect_wc(1, RDMA_WC_SUCCESS);
    native_clock_advance(CNP_NS);
    peer_send(marked(pkt_ack(SQ_PSN + 1, ACK_SYNDROME, 2)));
    expect_silence();
    expect_wc(2, RDMA_WC_SUCCESS);
}

/* ECN-capable without a mark, and marks when it is not configured. */
static void no_mark_is_not_notified(void **state)
{
    (void)state;
    rig_qp(NULL);
    for (uint8_t ecn = 0; ecn < 3; ecn++) {
        struct pkt *made = pkt_rdma(WRITE_ONLY, RQ_PSN + ecn, 4, addr_at(0), rig.mr->rkey, 4);
        made->tos = ecn;
        peer_send(made);
        expect_ack(RQ_PSN + ecn, ecn + 1u);
        expect_silence();
    }
}

static void mark_without_ecn_is_not_notified(void **state)
{
    (void)state;
    rig_qp(NULL);
    peer_send(marked(pkt_rdma(WRITE_ONLY, RQ_PSN, 4, addr_at(0), rig.mr->rkey, 4)));
    expect_ack(RQ_PSN, 1);
    expect_silence();
    peer_send(a_cnp());
    assert_int_equal(rig_info(rig.qp).rate_mbps, 0);
}

/* A marked packet that is not from the peer, or broken, says nothing about the way. */
static void mark_of_a_stranger_is_not_notified(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct pkt *made = marked(pkt_rdma(WRITE_ONLY, RQ_PSN, 4, addr_at(0), rig.mr->rkey, 4));
    made->src_host = 9;
    peer_send(made);
    made = marked(pkt_rdma(WRITE_ONLY, RQ_PSN, 4, addr_at(0), rig.mr->rkey, 4));
    made->is_icrc_wrong = true;
    peer_send(made);
    expect_silence();
}

/* --- reaction point --------------------------------------------------------------------------- */

static uint32_t next_psn;
static uint64_t posted;

/* For so long there is always something to send, and the peer acknowledges at once. Returns bytes.
 * */
static uint64_t pump(uint64_t duration_ns)
{
    static struct pkt got;
    uint64_t bytes = 0;

    for (uint64_t t = 0; t < duration_ns; t += 10 * NS_PER_US) {
        if (rig_info(rig.qp).send_posted < 8) {
            assert_int_equal(rdma_post_send(rig.qp,
                                            &send_wr(posted, RDMA_WR_RDMA_WRITE, 0, 256 * 1024)->wr,
                                            NULL),
                             STATUS_OK);
            posted++;
        }
        native_clock_advance(10 * NS_PER_US);
        rig_turn();
        bool any = false;
        while (peer_take(&got)) {
            assert_int_equal(got.psn, PKT_PSN(next_psn));
            next_psn++;
            bytes += FRAME_BYTES;
            any = true;
        }
        if (any) {
            peer_queue(pkt_ack(next_psn - 1, ACK_SYNDROME, 0));
        }
        struct rdma_wc wc;
        while (rdma_cq_poll(rig.cq, &wc, 1) != 0) {
            assert_int_equal(wc.status, RDMA_WC_SUCCESS);
        }
    }
    return bytes;
}

static void notify(uint32_t times)
{
    for (uint32_t i = 0; i < times; i++) {
        peer_queue(a_cnp());
        pump(CNP_NS);
    }
}

static void start(void)
{
    next_psn = SQ_PSN;
    posted = 0;
    rig_qp(&(struct rig_qp_options){.retry_cnt = 7, .timeout = 20});
}

static uint32_t rate(void)
{
    return rig_info(rig.qp).rate_mbps;
}

/* The first one limits to half of what was sent; each more halves it, 50 us apart; never below
 * 10 Mbit/s. */
static void cnp_halves_the_rate(void **state)
{
    (void)state;
    start();
    uint64_t bytes = pump(2 * NS_PER_MS);
    uint64_t mbps = bytes * 8 * 1000 / (2 * NS_PER_MS);
    assert_int_equal(rate(), 0);
    notify(1);
    assert_in_range(rate(), mbps * 35 / 100, mbps * 65 / 100);
    uint32_t before = rate();
    notify(1);
    assert_in_range(rate(), before * 45 / 100, before * 55 / 100);
    before = rate();
    for (uint32_t i = 0; i < 10; i++) {
        peer_queue(a_cnp()); /* at once: they tell of the same congestion */
    }
    notify(1);
    assert_in_range(rate(), before * 45 / 100, before * 55 / 100);
    notify(20);
    assert_int_equal(rate(), 10);
    assert_int_equal(rig_info(rig.qp).stats.cnp_rx, 33);
}

/* What leaves is what the limit says, over a time that is long against the timers' tick. */
static void cnp_limit_is_what_is_sent(void **state)
{
    (void)state;
    start();
    for (uint32_t cuts = 1; cuts <= 7; cuts++) {
        pump(2 * NS_PER_MS);
        notify(cuts == 1 ? 2 : 4);
        uint32_t mbps = rate();
        uint64_t bytes = pump(250 * NS_PER_US); /* it is raised after 300 us */
        uint64_t should = (uint64_t)mbps * 250 * NS_PER_US / 8000;
        /* One burst more or less: what fits into a tick. */
        uint64_t burst = (uint64_t)mbps * 100 * NS_PER_US / 8000 + FRAME_BYTES;
        assert_in_range(bytes, should < burst ? 0 : should - burst, should + burst);
    }
}

/* A peer that does not mark any more gives all of it back. */
static void cnp_limit_is_raised_until_it_limits_no_more(void **state)
{
    (void)state;
    start();
    pump(2 * NS_PER_MS);
    notify(6);
    uint32_t before = rate();
    uint32_t least = before;
    for (uint32_t i = 0; i < 100 && rate() != 0; i++) {
        pump(NS_PER_MS);
        assert_true(rate() == 0 || rate() >= least);
        least = rate();
    }
    assert_int_equal(rate(), 0);
    assert_true(pump(NS_PER_MS) > 0);
}

/* After a cut it goes back to the rate before it in five rounds, and not beyond in these. */
static void cnp_starts_recovery_anew(void **state)
{
    (void)state;
    start();
    pump(NS_PER_MS);
    notify(25);
    pump(4 * NS_PER_MS); /* many rounds */
    uint32_t before = rate();
    assert_true(before > 50);
    notify(1);
    /* It has been quiet for long: the way is not that congested, the cut is less than half. */
    assert_in_range(rate(), before * 6 / 10, before * 95 / 100);
    pump(1200 * NS_PER_US);
    assert_in_range(rate(), before * 8 / 10, before);
}

static uint32_t responses_taken(void)
{
    static struct pkt got;
    uint32_t count = 0;

    while (peer_take(&got)) {
        count += got.opcode <= READ_ONLY && got.opcode >= READ_FIRST;
    }
    return count;
}

/* READ responses of ours are limited, too, and acknowledgements behind them wait as ever. */
static void cnp_slows_read_responses_down(void **state)
{
    (void)state;
    start();
    pump(NS_PER_MS);
    notify(25);
    assert_int_equal(rate(), 10);
    rig_advance(10 * NS_PER_US);
    while (peer_drain() != 0) {
    }
    struct rdma_qp *qp = rig.qp;
    peer_send(pkt_rdma(READ_REQUEST, RQ_PSN, 0, addr_at(0), rig.mr->rkey, 64 * 1024));
    uint32_t at_once = responses_taken();
    assert_true(at_once <= 2); /* 0.86 ms for each at 10 Mbit/s */
    rig_advance(NS_PER_S);
    assert_int_equal(at_once + responses_taken(), 64); /* the rest comes in time */
    assert_int_equal(qp->state, RDMA_QP_RTS);
}

/* One connection is limited, the other is not. */
static void cnp_concerns_its_own_connection(void **state)
{
    (void)state;
    start();
    pump(NS_PER_MS);
    notify(2);
    struct rdma_qp *other = rig_qp(NULL);
    assert_true(rate() != 0);
    assert_int_equal(rig_info(other).rate_mbps, 0);
    post_wr(other, &send_wr(1, RDMA_WR_SEND, 0, 64 * 1024)->wr);
    struct pkt got;
    uint32_t count = 0;
    while (peer_take(&got)) {
        count += got.opcode <= SEND_LAST;
    }
    assert_int_equal(count, 64);
}

/* A QP that only answers is in RTR: its READ responses may be too fast as well. */
static void cnp_in_rtr_is_heeded(void **state)
{
    (void)state;
    rig_qp(&(struct rig_qp_options){.state = RDMA_QP_RTR});
    peer_send(a_cnp());
    assert_true(rig_info(rig.qp).rate_mbps != 0);
    take_events();
}

/* Acknowledgements are not limited, so they must not use up the limit. */
static void acknowledgements_do_not_use_up_a_limited_rate(void **state)
{
    (void)state;
    struct rdma_qp *qp = rig_qp(NULL);

    for (uint32_t i = 0; i < 40; i++) { /* to the slowest */
        peer_send(a_cnp());
        rig_advance(60 * NS_PER_US);
    }
    assert_true(rig_info(qp).rate_mbps > 0);
    for (uint32_t i = 0; i < 2000; i++) {
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

/* The limiter dies with the connection. */
static void reset_forgets_the_limit(void **state)
{
    (void)state;
    start();
    pump(NS_PER_MS);
    notify(5);
    assert_int_equal(rig_qp_to(rig.qp, RDMA_QP_RESET), STATUS_OK);
    assert_int_equal(rate(), 0);
    rig_advance(10 * NS_PER_MS);
    peer_drain();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(mark_is_notified_and_the_packet_taken),
        RIG_TEST(mark_is_notified_once_in_50_us),
        RIG_TEST(mark_of_a_read_response_is_notified),
        RIG_TEST(no_mark_is_not_notified),
        cmocka_unit_test_setup_teardown(mark_without_ecn_is_not_notified, rig_setup_no_ecn,
                                        rig_teardown),
        RIG_TEST(mark_of_a_stranger_is_not_notified),
        RIG_TEST(cnp_halves_the_rate),
        RIG_TEST(cnp_limit_is_what_is_sent),
        RIG_TEST(cnp_limit_is_raised_until_it_limits_no_more),
        RIG_TEST(cnp_starts_recovery_anew),
        RIG_TEST(cnp_slows_read_responses_down),
        RIG_TEST(cnp_concerns_its_own_connection),
        RIG_TEST(cnp_in_rtr_is_heeded),
        RIG_TEST(acknowledgements_do_not_use_up_a_limited_rate),
        RIG_TEST(reset_forgets_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
