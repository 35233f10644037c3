/* READs of the peer: responses, their order among acknowledgements, repetitions, limits, memory
 * that goes away (IBA 9.4.4, 9.7.4.1.4, 9.7.5.1, 9.7.5.2.4, 9.7.7.1). */
#include "rdma/rig.h"

static void ask(uint32_t psn, uint32_t offset, uint32_t len)
{
    peer_queue(pkt_rdma(READ_REQUEST, psn, 0, addr_at(offset), rig.mr->rkey, len));
}

/* The responses to one request, of `len` bytes that fill(offset 0, seed) made. */
static void expect_responses(uint32_t psn, uint32_t from, uint32_t len, uint32_t seed, uint32_t msn)
{
    uint32_t count = len == 0 ? 1 : (len - 1) / 1024 + 1;
    for (uint32_t i = 0; i < count; i++) {
        bool last = i == count - 1;
        enum op op = count == 1 ? READ_ONLY : i == 0 ? READ_FIRST : last ? READ_LAST : READ_MIDDLE;
        const struct pkt *got =
            expect_data(op, psn + i, last ? len - i * 1024 : 1024, seed, from + i * 1024);
        if (op != READ_MIDDLE) {
            assert_int_equal(got->syndrome, ACK_SYNDROME);
            assert_int_equal(got->msn, msn);
        }
        assert_false(got->ack_req);
        assert_false(got->solicited);
    }
}

/* --- responses -------------------------------------------------------------------------------- */

static void read_of_every_length_is_answered(void **state)
{
    (void)state;
    rig_qp(NULL);
    const uint32_t lens[] = {0, 1, 3, 4, 128, 129, 1023, 1024, 1025, 2048, 2049, 5000};
    uint32_t psn = RQ_PSN;
    fill(0, 8192, 1);
    for (uint32_t i = 0; i < ARRAY_SIZE(lens); i++) {
        ask(psn, 7, lens[i]);
        rig_turn();
        expect_responses(psn, 7, lens[i], 1, i + 1);
        expect_silence();
        psn += lens[i] == 0 ? 1 : (lens[i] - 1) / 1024 + 1;
        assert_int_equal(rig_info(rig.qp).rq_psn, psn);
    }
}

static void read_of_one_mebibyte_is_answered(void **state)
{
    (void)state;
    rig_qp(NULL);
    fill(0, 1 << 20, 2);
    ask(RQ_PSN, 0, 1 << 20);
    rig_turn();
    expect_responses(RQ_PSN, 0, 1 << 20, 2, 1);
    expect_silence();
}

static void read_responses_wrap_from_ffffff_to_0(void **state)
{
    (void)state;
    rig_qp(&(struct rig_qp_options){.rq_psn = 0xfffffe});
    fill(0, 4096, 2);
    ask(0xfffffe, 0, 4096);
    rig_turn();
    expect_responses(0xfffffe, 0, 4096, 2, 1);
    ask(0xffffff, 1024, 3072); /* the rest again */
    rig_turn();
    expect_responses(0xffffff, 1024, 3072, 2, 1);
}

/* 9.7.4.1.3: the key of nothing does not matter. */
static void read_of_nothing_needs_no_key(void **state)
{
    (void)state;
    rig_qp(NULL);
    peer_send(pkt_rdma(READ_REQUEST, RQ_PSN, 0, 1, 2, 0));
    expect_responses(RQ_PSN, 0, 0, 0, 1);
}

/* --- order ------------------------------------------------------------------------------------ */

/* 9.7.5.1.2: what comes behind a READ is acknowledged behind its responses, which are the
 * acknowledgement for what stood before it. */
static void read_among_sends_is_answered_in_order(void **state)
{
    (void)state;
    rig_qp(NULL);
    fill(8192, 3000, 3);
    for (uint32_t i = 0; i < 2; i++) {
        post_recv(i, i * 64, 64);
    }
    peer_queue(pkt(SEND_ONLY, RQ_PSN, 4));
    ask(RQ_PSN + 1, 8192, 3000);
    peer_queue(pkt(SEND_ONLY, RQ_PSN + 4, 4));
    rig_turn();
    expect_responses(RQ_PSN + 1, 0, 3000, 3, 2);
    expect_ack(RQ_PSN + 4, 3);
    expect_silence();
    expect_recv_wc(0, RDMA_WC_SUCCESS);
    expect_recv_wc(1, RDMA_WC_SUCCESS);
}

/* 9.7.5.1.2: the acknowledgement of a SEND, late behind the responses of a READ that came after it,
 * does not name that READ: its last response may have been lost on the way. */
static void read_is_never_acknowledged_by_an_ack(void **state)
{
    (void)state;
    rig_qp(NULL);
    fill(8192, 3000, 3);
    post_recv(0, 0, 64);
    for (uint32_t round = 0; round < 2; round++) {
        peer_queue(pkt(SEND_ONLY, RQ_PSN, 4));
        ask(RQ_PSN + 1, 8192, 3000);
        rig_turn();
        expect_responses(RQ_PSN + 1, 0, 3000, 3, 2);
        expect_ack(RQ_PSN, 1);
        expect_silence();
    }
    expect_recv_wc(0, RDMA_WC_SUCCESS);
}

/* A NAK too. */
static void read_then_a_fault_is_answered_first(void **state)
{
    (void)state;
    rig_qp(NULL);
    fill(0, 3000, 3);
    ask(RQ_PSN, 0, 3000);
    peer_queue(pkt(SEND_ONLY, RQ_PSN + 3, 4)); /* no receive */
    rig_turn();
    expect_responses(RQ_PSN, 0, 3000, 3, 1);
    expect_nak(RQ_PSN + 3, RNR_SYNDROME | RNR_TIMER, 1);
    expect_silence();
}

/* 9.7.7.1: each response carries the MSN of its own request, not that of others noted meanwhile:
 * the peer would take these for complete. */
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

static void read_responses_carry_their_own_msn(void **state)
{
    (void)state;
    rig_qp(NULL);
    fill(0, 1 << 14, 4);
    for (uint32_t i = 0; i < 4; i++) {
        ask(RQ_PSN + 2 * i, i * 2048, 2048);
    }
    rig_turn();
    for (uint32_t i = 0; i < 4; i++) {
        expect_responses(RQ_PSN + 2 * i, i * 2048, 2048, 4, i + 1);
    }
    expect_silence();
}

/* --- limits ----------------------------------------------------------------------------------- */

/* 9.7.4.1.4: as many as agreed; one more is an invalid request. */
static void read_within_max_dest_rd_atomic_is_taken(void **state)
{
    (void)state;
    for (uint8_t max = 1; max <= 16; max += 5) {
        struct rdma_qp *qp = rig_qp(&(struct rig_qp_options){.dest_rd_atomic = max});
        fill(0, 4096, 4);
        for (uint32_t i = 0; i < max; i++) {
            ask(RQ_PSN + i, i * 10, 10);
        }
        rig_turn();
        for (uint32_t i = 0; i < max; i++) {
            expect_responses(RQ_PSN + i, i * 10, 10, 4, i + 1);
        }
        expect_silence();
        rig_qp_destroy(qp);
    }
}

static void read_beyond_max_dest_rd_atomic_is_an_invalid_request(void **state)
{
    (void)state;
    rig_qp(&(struct rig_qp_options){.dest_rd_atomic = 2});
    fill(0, 4096, 4);
    for (uint32_t i = 0; i < 3; i++) {
        ask(RQ_PSN + i, 0, 10);
    }
    rig_turn();
    /* 9.7.5.1: a NAK that overtook the answers would say that they were lost */
    expect_responses(RQ_PSN, 0, 10, 4, 1);
    expect_responses(RQ_PSN + 1, 0, 10, 4, 2);
    expect_nak(RQ_PSN + 2, NAK_INVALID, 2);
    expect_event(RDMA_EVENT_QP_REQ_ERR);
    assert_int_equal(rig.qp->state, RDMA_QP_ERR);
}

static void read_without_resources_is_an_invalid_request(void **state)
{
    (void)state;
    rig_qp(&(struct rig_qp_options){.dest_rd_atomic = 255});
    ask(RQ_PSN, 0, 10);
    rig_turn();
    expect_nak(RQ_PSN, NAK_INVALID, 0);
    expect_event(RDMA_EVENT_QP_REQ_ERR);
}

/* --- repetitions ------------------------------------------------------------------------------ */

/* 9.7.5.2.4: carried out again, from the packet that is asked for; the first of these responses is
 * a First. */
static void repeated_read_is_answered_from_where_it_asks(void **state)
{
    (void)state;
    rig_qp(NULL);
    fill(0, 8192, 5);
    ask(RQ_PSN, 0, 5000);
    rig_turn();
    expect_responses(RQ_PSN, 0, 5000, 5, 1);
    for (uint32_t i = 0; i < 5; i++) {
        ask(RQ_PSN + i, i * 1024, 5000 - i * 1024);
        rig_turn();
        expect_responses(RQ_PSN + i, i * 1024, 5000 - i * 1024, 5, 1);
        expect_silence();
    }
    assert_int_equal(rig_info(rig.qp).rq_psn, RQ_PSN + 5);
    assert_int_equal(rig_info(rig.qp).msn, 1);
}

/* As the request says: a part in the middle of the old range is a lawful repetition. */
static void repeated_read_of_less_is_answered_with_less(void **state)
{
    (void)state;
    rig_qp(NULL);
    fill(0, 8192, 5);
    ask(RQ_PSN, 0, 5000);
    rig_turn();
    peer_drain();
    ask(RQ_PSN + 1, 1024, 2048);
    rig_turn();
    expect_responses(RQ_PSN + 1, 1024, 2048, 5, 1);
    expect_silence();
}

/* What is asked for again must lie in what was asked for then: other memory is none of its
 * business, nor is a longer one (9.7.5.2.4); it is dropped. */
static void repeated_read_of_other_memory_is_dropped(void **state)
{
    (void)state;
    rig_qp(NULL);
    ask(RQ_PSN, 0, 5000);
    rig_turn();
    peer_drain();
    ask(RQ_PSN, 0, 5001);
    ask(RQ_PSN, 1, 4096);
    ask(RQ_PSN + 1, 1025, 1024);
    ask(RQ_PSN + 1, 0, 1024);
    ask(RQ_PSN + 4, 4096, 905);
    peer_queue(pkt_rdma(READ_REQUEST, RQ_PSN, 0, addr_at(0), rig.mr->rkey ^ 0x10000, 5000));
    rig_turn();
    expect_silence();
    assert_int_equal(rig.qp->state, RDMA_QP_RTS);
}

/* Two that were answered are asked for again together, with the SEND behind them: in their order.
 * */
static void repeated_reads_and_send_are_answered_in_order(void **state)
{
    (void)state;
    rig_qp(NULL);
    fill(0, 8192, 6);
    post_recv(1, 8192, 64);
    for (uint32_t round = 0; round < 3; round++) {
        ask(RQ_PSN, 0, 2000);
        ask(RQ_PSN + 2, 2000, 2000);
        peer_queue(pkt(SEND_ONLY, RQ_PSN + 4, 4));
        rig_turn();
        expect_responses(RQ_PSN, 0, 2000, 6, 1);
        expect_responses(RQ_PSN + 2, 2000, 2000, 6, 2);
        expect_ack(RQ_PSN + 4, 3);
        expect_silence();
    }
    expect_recv_wc(1, RDMA_WC_SUCCESS);
    expect_no_wc();
}

/* A copy of an old request that the network made comes late, together with as many new ones as were
 * agreed: it takes no place from them. */
static void repeated_read_counts_against_no_limit(void **state)
{
    (void)state;
    for (uint8_t max = 1; max <= 16; max += 5) {
        struct rdma_qp *qp = rig_qp(&(struct rig_qp_options){.dest_rd_atomic = max});
        fill(0, 8192, 7);
        for (uint32_t i = 0; i < max; i++) {
            ask(RQ_PSN + i, i * 10, 10);
        }
        rig_turn();
        assert_int_equal(peer_drain(), max);
        ask(RQ_PSN, 0, 10);
        for (uint32_t i = max; i < 2u * max; i++) {
            ask(RQ_PSN + i, i * 10, 10);
        }
        rig_turn();
        assert_int_equal(qp->state, RDMA_QP_RTS);
        struct pkt got;
        uint32_t next = max;
        while (peer_take(&got)) { /* the copy may be answered or not */
            if (got.psn != RQ_PSN) {
                assert_int_equal(got.psn, RQ_PSN + next);
                next++;
            }
        }
        assert_int_equal(next, 2u * max);
        rig_qp_destroy(qp);
    }
}

/* Older than what the peer may still ask for. */
static void repeated_read_that_nobody_remembers_is_dropped(void **state)
{
    (void)state;
    rig_qp(&(struct rig_qp_options){.dest_rd_atomic = 16});
    for (uint32_t i = 0; i < 20; i++) {
        ask(RQ_PSN + i, 0, 10);
        rig_turn();
        expect(READ_ONLY, RQ_PSN + i);
    }
    ask(RQ_PSN, 0, 10);
    rig_turn();
    expect_silence();
    ask(RQ_PSN + 4, 0, 10);
    rig_turn();
    expect(READ_ONLY, RQ_PSN + 4);
    assert_int_equal(rig.qp->state, RDMA_QP_RTS);
}

/* A request with the PSN of a SEND that was done is no READ of ours: nothing is told. */
static void repeated_read_with_the_psn_of_a_send_is_dropped(void **state)
{
    (void)state;
    rig_qp(NULL);
    post_recv(1, 0, 64);
    peer_send(pkt(SEND_ONLY, RQ_PSN, 4));
    expect_ack(RQ_PSN, 1);
    ask(RQ_PSN, 0, 4);
    rig_turn();
    expect_silence();
}

/* --- memory ----------------------------------------------------------------------------------- */

/* The port has no room: the rest leaves later, once, and the core is not kept busy. */
static void read_without_room_at_the_port_goes_on_later(void **state)
{
    (void)state;
    rig_qp(NULL);
    fill(0, 1 << 20, 2);
    wire_hold_reap(rig.wire, true);
    ask(RQ_PSN, 0, 1 << 20);
    rig_turn();
    wire_hold_reap(rig.wire, false);
    rig_turn();
    expect_responses(RQ_PSN, 0, 1 << 20, 2, 1);
    expect_silence();
}

/* Who asks for much does not keep the others waiting. */
static void read_of_much_lets_others_have_their_turn(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_qp *other = rig_qp(NULL);
    ask(RQ_PSN, 0, 200 * 1024);
    struct pkt *made = pkt_rdma(READ_REQUEST, RQ_PSN, 0, addr_at(0), rig.mr->rkey, 10);
    made->qpn = other->num;
    peer_queue(made);
    rig_turn();
    struct pkt got;
    uint32_t before = 0;
    while (peer_take(&got) && got.opcode != READ_ONLY) {
        before++;
    }
    assert_int_equal(got.opcode, READ_ONLY);
    assert_true(before <= 16);
    assert_int_equal(peer_drain() + before, 200);
}

/* The QP dies or is destroyed in the middle: no more responses. */
static void read_of_a_qp_that_dies_stops(void **state)
{
    (void)state;
    rig_qp(NULL);
    wire_hold_reap(rig.wire, true);
    ask(RQ_PSN, 0, 1 << 20);
    rig_turn();
    uint32_t before = peer_drain();
    assert_true(before < 1024);
    assert_int_equal(rig_qp_to(rig.qp, RDMA_QP_ERR), STATUS_OK);
    wire_hold_reap(rig.wire, false);
    rig_turn();
    expect_silence();
}

static void read_of_a_qp_that_is_destroyed_stops(void **state)
{
    (void)state;
    rig_qp(NULL);
    wire_hold_reap(rig.wire, true);
    ask(RQ_PSN, 0, 1 << 20);
    rig_turn();
    peer_drain();
    assert_int_equal(rdma_qp_destroy(rig.qp), STATUS_AGAIN);
    wire_hold_reap(rig.wire, false);
    rig_turn();
    expect_silence();
    rig_qp_destroy(rig.qp);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(read_of_every_length_is_answered),
        RIG_TEST(read_of_one_mebibyte_is_answered),
        RIG_TEST(read_responses_wrap_from_ffffff_to_0),
        RIG_TEST(read_of_nothing_needs_no_key),
        RIG_TEST(read_among_sends_is_answered_in_order),
        RIG_TEST(read_is_never_acknowledged_by_an_ack),
        RIG_TEST(read_then_a_fault_is_answered_first),
        RIG_TEST(fatal_nak_comes_behind_the_read_before_it),
        RIG_TEST(read_responses_carry_their_own_msn),
        RIG_TEST(read_within_max_dest_rd_atomic_is_taken),
        RIG_TEST(read_beyond_max_dest_rd_atomic_is_an_invalid_request),
        RIG_TEST(read_without_resources_is_an_invalid_request),
        RIG_TEST(repeated_read_is_answered_from_where_it_asks),
        RIG_TEST(repeated_read_of_less_is_answered_with_less),
        RIG_TEST(repeated_read_of_other_memory_is_dropped),
        RIG_TEST(repeated_reads_and_send_are_answered_in_order),
        RIG_TEST(repeated_read_counts_against_no_limit),
        RIG_TEST(repeated_read_that_nobody_remembers_is_dropped),
        RIG_TEST(repeated_read_with_the_psn_of_a_send_is_dropped),
        RIG_TEST(read_without_room_at_the_port_goes_on_later),
        RIG_TEST(read_of_much_lets_others_have_their_turn),
        RIG_TEST(read_of_a_qp_that_dies_stops),
        RIG_TEST(read_of_a_qp_that_is_destroyed_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
