/* What the responder makes of what should not be: gaps, repetitions, no receive, broken rules (IBA
 * 9.7.4, 9.7.5.2, 9.9.3 with tables 60 and 61). */
#include "rdma/rig.h"

/* The peer hears `syndrome` about `psn`, the QP is dead, it is told, receives are flushed. */
static void expect_fatal(uint32_t psn, uint8_t syndrome, uint32_t msn, enum rdma_event_type event)
{
    expect_nak(psn, syndrome, msn);
    expect_silence();
    assert_int_equal(rig.qp->state, RDMA_QP_ERR);
    expect_event(event);
    assert_ptr_equal(rig.last_event.qp, rig.qp);
    peer_send(pkt(SEND_ONLY, psn, 4)); /* nothing more is taken */
    peer_send(pkt(SEND_ONLY, psn - 1, 4));
    expect_silence();
}

/* A new connection for the next row of a table. */
static void again(void)
{
    if (rig.qp != NULL) {
        rig_qp_destroy(rig.qp);
    }
    peer_drain();
    take_events();
    rig_qp(NULL);
}

/* --- gaps ------------------------------------------------------------------------------------- */

/* 9.7.5.2.8: one NAK with the expected PSN; then silence until that packet comes. */
static void gap_is_told_once(void **state)
{
    (void)state;
    rig_qp(NULL);
    for (uint32_t i = 0; i < 8; i++) {
        post_recv(i, 0, 64);
    }
    peer_send(pkt(SEND_ONLY, RQ_PSN, 4));
    expect_ack(RQ_PSN, 1);
    peer_send(pkt(SEND_ONLY, RQ_PSN + 2, 4));
    expect_nak(RQ_PSN + 1, NAK_SEQUENCE, 1);
    peer_send(pkt(SEND_ONLY, RQ_PSN + 3, 4));
    peer_send(pkt(SEND_ONLY, RQ_PSN + 9, 4));
    expect_silence();
    peer_send(pkt(SEND_ONLY, RQ_PSN + 1, 4));
    expect_ack(RQ_PSN + 1, 2);
    peer_send(pkt(SEND_ONLY, RQ_PSN + 3, 4)); /* a new gap */
    expect_nak(RQ_PSN + 2, NAK_SEQUENCE, 2);
    assert_int_equal(rig_info(rig.qp).stats.out_of_order, 4);
    assert_int_equal(rig_info(rig.qp).stats.nak_seq_tx, 2);
    expect_recv_wc(0, RDMA_WC_SUCCESS);
    expect_recv_wc(1, RDMA_WC_SUCCESS);
    expect_no_wc();
}

/* Two packets changed places on the way, in one batch: the first one was dropped. The peer must
 * hear that the second one arrived, and that the first one is missing. */
static void gap_that_closes_in_the_batch_is_told_behind_it(void **state)
{
    (void)state;
    rig_qp(NULL);
    for (uint32_t i = 0; i < 4; i++) {
        post_recv(i, 0, 64);
    }
    peer_queue(pkt(SEND_ONLY, RQ_PSN + 1, 4));
    peer_queue(pkt(SEND_ONLY, RQ_PSN, 4));
    rig_turn();
    expect_nak(RQ_PSN + 1, NAK_SEQUENCE, 1);
    expect_silence();
    peer_send(pkt(SEND_ONLY, RQ_PSN + 1, 4));
    expect_ack(RQ_PSN + 1, 2);
}

/* The gap was filled and all that was dropped came again before anything was said: nothing is
 * missing. A NAK would name a packet that the peer has never sent, and be dropped as a ghost. */
static void gap_that_is_gone_at_the_end_of_the_batch_is_an_ack(void **state)
{
    (void)state;
    rig_qp(NULL);
    for (uint32_t i = 0; i < 4; i++) {
        post_recv(i, 0, 64);
    }
    peer_queue(pkt(SEND_ONLY, RQ_PSN + 1, 4));
    peer_queue(pkt(SEND_ONLY, RQ_PSN, 4));
    peer_queue(pkt(SEND_ONLY, RQ_PSN + 1, 4));
    rig_turn();
    expect_ack(RQ_PSN + 1, 2);
    expect_silence();
}

/* Only a part of what was dropped came again: the rest is still missing. */
static void gap_that_closes_in_part_is_told_behind_it(void **state)
{
    (void)state;
    rig_qp(NULL);
    for (uint32_t i = 0; i < 4; i++) {
        post_recv(i, 0, 64);
    }
    peer_queue(pkt(SEND_ONLY, RQ_PSN + 1, 4));
    peer_queue(pkt(SEND_ONLY, RQ_PSN + 2, 4));
    peer_queue(pkt(SEND_ONLY, RQ_PSN, 4));
    peer_queue(pkt(SEND_ONLY, RQ_PSN + 1, 4));
    rig_turn();
    expect_nak(RQ_PSN + 2, NAK_SEQUENCE, 2);
    expect_silence();
}

/* --- no receive ------------------------------------------------------------------------------- */

/* 9.7.5.2.8, table 45: RNR NAK with our timer, once; then silence until it is tried again. */
static void rnr_is_told_once_then_silence(void **state)
{
    (void)state;
    rig_qp(NULL);
    peer_send(pkt(SEND_ONLY, RQ_PSN, 4));
    expect_nak(RQ_PSN, RNR_SYNDROME | RNR_TIMER, 0);
    peer_send(pkt(SEND_ONLY, RQ_PSN + 1, 4));
    peer_send(pkt(SEND_ONLY, RQ_PSN + 2, 4));
    expect_silence();
    peer_send(pkt(SEND_ONLY, RQ_PSN, 4)); /* still none */
    expect_nak(RQ_PSN, RNR_SYNDROME | RNR_TIMER, 0);
    post_recv(1, 0, 64);
    peer_send(pkt(SEND_ONLY, RQ_PSN, 4));
    expect_ack(RQ_PSN, 1);
    expect_recv_wc(1, RDMA_WC_SUCCESS);
    assert_int_equal(rig_info(rig.qp).stats.rnr_tx, 2);
    assert_int_equal(rig.qp->state, RDMA_QP_RTS);
}

/* It acknowledges what stands before it, in one answer. */
static void rnr_in_a_batch_stands_for_all_before_it(void **state)
{
    (void)state;
    rig_qp(NULL);
    post_recv(1, 0, 64);
    peer_queue(pkt(SEND_ONLY, RQ_PSN, 4));
    peer_queue(pkt(SEND_ONLY, RQ_PSN + 1, 4));
    peer_queue(pkt(SEND_ONLY, RQ_PSN + 2, 4));
    rig_turn();
    expect_nak(RQ_PSN + 1, RNR_SYNDROME | RNR_TIMER, 1);
    expect_silence();
    expect_recv_wc(1, RDMA_WC_SUCCESS);
}

/* No room to say it until a receive was there and the packet came again: it is an ACK. */
static void rnr_that_is_over_before_it_was_told_is_an_ack(void **state)
{
    (void)state;
    rig_qp(NULL);
    wire_hold_reap(rig.wire, true);
    for (uint32_t i = 0; i < 4; i++) { /* all buffers are under way */
        struct rdma_qp *other = rig_qp(&(struct rig_qp_options){.timeout = 255});
        post_wr(other, &send_wr(i, RDMA_WR_SEND, 0, 64 * 1024)->wr);
        assert_int_equal(peer_drain(), 64);
    }
    peer_send(pkt(SEND_ONLY, RQ_PSN, 4));
    expect_silence();
    post_recv(1, 0, 64);
    peer_send(pkt(SEND_ONLY, RQ_PSN, 4));
    expect_silence();
    wire_hold_reap(rig.wire, false);
    rig_turn();
    expect_ack(RQ_PSN, 1);
    expect_recv_wc(1, RDMA_WC_SUCCESS);
}

/* The last packet of a WRITE with immediate data wants one: the packets before were placed. */
static void rnr_at_the_end_of_a_write_with_imm(void **state)
{
    (void)state;
    rig_qp(NULL);
    peer_send(pkt_rdma(WRITE_FIRST, RQ_PSN, 1024, addr_at(0), rig.mr->rkey, 1028));
    peer_send(pkt(WRITE_LAST_IMM, RQ_PSN + 1, 4));
    expect_nak(RQ_PSN + 1, RNR_SYNDROME | RNR_TIMER, 0);
    post_recv(1, 0, 0);
    peer_send(pkt(WRITE_LAST_IMM, RQ_PSN + 1, 4));
    expect_ack(RQ_PSN + 1, 1);
    assert_int_equal(expect_recv_wc(1, RDMA_WC_SUCCESS)->len_bytes, 1028);
    assert_filled(0, 1024, 0);
    assert_filled(1024, 4, 0);
}

/* A WRITE without immediate data wants none, and passes after an RNR NAK for what comes behind. */
static void rnr_does_not_concern_a_write(void **state)
{
    (void)state;
    rig_qp(NULL);
    peer_send(pkt_rdma(WRITE_ONLY, RQ_PSN, 4, addr_at(0), rig.mr->rkey, 4));
    expect_ack(RQ_PSN, 1);
    peer_send(pkt(SEND_ONLY, RQ_PSN + 1, 4));
    expect_nak(RQ_PSN + 1, RNR_SYNDROME | RNR_TIMER, 1);
}

static void rnr_timer_is_the_attribute(void **state)
{
    (void)state;
    rig_qp(NULL);
    for (uint8_t timer = 0; timer < 32; timer++) {
        struct rdma_qp_attr attr = {.min_rnr_timer = timer};
        assert_int_equal(rdma_qp_modify(rig.qp, &attr, RDMA_QP_MIN_RNR_TIMER), STATUS_OK);
        peer_send(pkt(SEND_ONLY, RQ_PSN, 4));
        expect_nak(RQ_PSN, RNR_SYNDROME | timer, 0);
    }
}

/* --- repetitions ------------------------------------------------------------------------------ */

/* 9.7.5.2.4 and 9.7.4.5: not carried out again, acknowledged with the newest. */
static void repeated_send_is_acknowledged_not_placed(void **state)
{
    (void)state;
    rig_qp(NULL);
    for (uint32_t i = 0; i < 4; i++) {
        post_recv(i, i * 64, 64);
    }
    for (uint32_t i = 0; i < 3; i++) {
        peer_send(pkt(SEND_ONLY, RQ_PSN + i, 8));
        expect_ack(RQ_PSN + i, i + 1);
        expect_recv_wc(i, RDMA_WC_SUCCESS);
    }
    memset(rig.memory, 0, 256);
    for (uint32_t i = 0; i < 3; i++) {
        peer_send(pkt(SEND_ONLY, RQ_PSN + i, 8));
        expect_ack(RQ_PSN + 2, 3);
    }
    peer_send(pkt_rdma(WRITE_ONLY, RQ_PSN + 1, 8, addr_at(0), rig.mr->rkey, 8));
    expect_ack(RQ_PSN + 2, 3);
    assert_int_equal(rig.memory[0], 0);
    assert_int_equal(rig.memory[64], 0);
    expect_no_wc();
    assert_int_equal(rig_info(rig.qp).recv_posted, 1);
    assert_int_equal(rig_info(rig.qp).stats.duplicates, 4);
}

/* In the middle of a message: what was placed stays, the message goes on. */
static void repeated_middle_does_not_disturb_the_message(void **state)
{
    (void)state;
    rig_qp(NULL);
    post_recv(1, 0, 4096);
    peer_send(pkt(SEND_FIRST, RQ_PSN, 1024));
    peer_send(pkt(SEND_MIDDLE, RQ_PSN + 1, 1024));
    peer_drain();
    peer_send(pkt(SEND_FIRST, RQ_PSN, 1024));
    peer_send(pkt(SEND_MIDDLE, RQ_PSN + 1, 1024));
    assert_int_equal(peer_drain(), 2);
    peer_send(pkt(SEND_LAST, RQ_PSN + 2, 1000));
    expect_ack(RQ_PSN + 2, 1);
    assert_int_equal(expect_recv_wc(1, RDMA_WC_SUCCESS)->len_bytes, 3048);
    expect_no_wc();
}

/* The half of the circle that is behind us is old, however old. */
static void repeated_long_ago_is_still_a_repetition(void **state)
{
    (void)state;
    rig_qp(NULL);
    peer_send(pkt(SEND_ONLY, RQ_PSN - 1, 4));
    expect_ack(RQ_PSN - 1, 0);
    peer_send(pkt(SEND_ONLY, RQ_PSN - 0x7fffff, 4));
    expect_ack(RQ_PSN - 1, 0);
    expect_no_wc();
}

/* A broken one is a repetition first (9.7.4.1: the PSN is looked at before anything else). */
static void repeated_with_nonsense_is_only_acknowledged(void **state)
{
    (void)state;
    rig_qp(NULL);
    post_recv(1, 0, 64);
    peer_send(pkt(SEND_ONLY, RQ_PSN, 4));
    expect_ack(RQ_PSN, 1);
    peer_send(pkt(SEND_MIDDLE, RQ_PSN, 3));
    expect_ack(RQ_PSN, 1);
    peer_send(pkt_rdma(WRITE_FIRST, RQ_PSN, 9, 1, 2, 3));
    expect_ack(RQ_PSN, 1);
    assert_int_equal(rig.qp->state, RDMA_QP_RTS);
}

/* --- the order of opcodes: 9.7.4.1.2, table 61 class C ---------------------------------------- */

static bool is_first_or_only(enum op op)
{
    return op == SEND_FIRST || op == SEND_ONLY || op == SEND_ONLY_IMM || op == SEND_ONLY_INV ||
           op == WRITE_FIRST || op == WRITE_ONLY || op == WRITE_ONLY_IMM || op == READ_REQUEST;
}

static bool goes_on_with(enum op begun, enum op op)
{
    if (begun == SEND_FIRST) {
        return op == SEND_MIDDLE || op == SEND_LAST || op == SEND_LAST_IMM || op == SEND_LAST_INV;
    }
    return op == WRITE_MIDDLE || op == WRITE_LAST || op == WRITE_LAST_IMM;
}

static const enum op requests[] = {
    SEND_FIRST,    SEND_MIDDLE,    SEND_LAST,    SEND_LAST_IMM, SEND_ONLY,
    SEND_ONLY_IMM, WRITE_FIRST,    WRITE_MIDDLE, WRITE_LAST,    WRITE_LAST_IMM,
    WRITE_ONLY,    WRITE_ONLY_IMM, READ_REQUEST, SEND_LAST_INV, SEND_ONLY_INV,
};

static struct pkt *sized(enum op op, uint32_t psn)
{
    bool full = op == SEND_FIRST || op == SEND_MIDDLE || op == WRITE_FIRST || op == WRITE_MIDDLE;
    uint32_t len = full ? 1024 : op == READ_REQUEST ? 0 : 4;
    return pkt_rdma(op, psn, len, addr_at(8192), rig.mr->rkey, full ? 8192 : 4);
}

static void sequence_outside_of_a_message_wants_first_or_only(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < ARRAY_SIZE(requests); i++) {
        again();
        post_recv(1, 0, 8192);
        peer_send(sized(requests[i], RQ_PSN));
        if (!is_first_or_only(requests[i])) {
            expect_fatal(RQ_PSN, NAK_INVALID, 0, RDMA_EVENT_QP_REQ_ERR);
            expect_recv_wc(1, RDMA_WC_WR_FLUSH_ERR);
        } else if (requests[i] != SEND_ONLY_INV) { /* whose key is wrong: test_keys */
            assert_int_equal(rig.qp->state, RDMA_QP_RTS);
        }
        struct rdma_wc wc;
        while (rdma_cq_poll(rig.recv_cq, &wc, 1) != 0) {
        }
    }
}

static void sequence_inside_of_a_message_wants_its_kind(void **state)
{
    (void)state;
    const enum op begun[] = {SEND_FIRST, WRITE_FIRST};
    for (uint32_t b = 0; b < 2; b++) {
        for (uint32_t i = 0; i < ARRAY_SIZE(requests); i++) {
            again();
            post_recv(1, 0, 8192);
            peer_send(sized(begun[b], RQ_PSN));
            assert_int_equal(rig.qp->state, RDMA_QP_RTS);
            struct pkt *made = sized(requests[i], RQ_PSN + 1);
            peer_send(made);
            if (!goes_on_with(begun[b], requests[i])) {
                expect_fatal(RQ_PSN + 1, NAK_INVALID, 0, RDMA_EVENT_QP_REQ_ERR);
                expect_recv_wc(1, RDMA_WC_WR_FLUSH_ERR);
            }
            struct rdma_wc wc;
            while (rdma_cq_poll(rig.recv_cq, &wc, 1) != 0) {
            }
        }
    }
}

/* --- lengths: 9.7.4.1.5, 9.7.4.1.6 ------------------------------------------------------------ */

static void length_of_a_packet_that_cannot_be_is_an_invalid_request(void **state)
{
    (void)state;
    static const struct {
        enum op begin; /* CNP: none */
        enum op op;
        uint32_t len;
        uint32_t dma_len;
    } rows[] = {
        {CNP, SEND_FIRST, 1023, 0},
        {CNP, SEND_FIRST, 0, 0},
        {CNP, SEND_FIRST, 1025, 0},
        {CNP, SEND_ONLY, 1025, 0},
        {SEND_FIRST, SEND_MIDDLE, 1020, 0},
        {SEND_FIRST, SEND_MIDDLE, 1028, 0},
        {SEND_FIRST, SEND_LAST, 0, 0},
        {SEND_FIRST, SEND_LAST, 1025, 0},
        {SEND_FIRST, SEND_LAST_IMM, 0, 0},
        {CNP, WRITE_ONLY, 4, 5},
        {CNP, WRITE_ONLY, 4, 3},
        {CNP, WRITE_ONLY, 0, 1},
        {CNP, WRITE_ONLY, 1025, 1025},
        {CNP, WRITE_FIRST, 1024, 1024},
        {CNP, WRITE_FIRST, 1024, 1000},
        {CNP, WRITE_FIRST, 1023, 4000},
        {CNP, WRITE_FIRST, 1024, 0x40000001},
        {CNP, WRITE_FIRST, 1024, 0xffffffff},
        {WRITE_FIRST, WRITE_MIDDLE, 1023, 4096},
        {WRITE_FIRST, WRITE_LAST, 1023, 2048},
        {WRITE_FIRST, WRITE_LAST, 1024, 2047},
        {WRITE_FIRST, WRITE_LAST, 0, 1024 + 1},
        {WRITE_FIRST, WRITE_LAST, 1028, 2052},
        {WRITE_FIRST, WRITE_MIDDLE, 1024, 2048},
        {WRITE_FIRST, WRITE_LAST_IMM, 3, 1030},
        {CNP, READ_REQUEST, 0, 0x40000001},
        {CNP, READ_REQUEST, 0, 0xffffffff},
    };
    for (uint32_t i = 0; i < ARRAY_SIZE(rows); i++) {
        uint32_t psn = RQ_PSN;
        again();
        post_recv(1, 0, 8192);
        if (rows[i].begin != CNP) {
            peer_send(
                pkt_rdma(rows[i].begin, psn++, 1024, addr_at(0), rig.mr->rkey, rows[i].dma_len));
        }
        assert_int_equal(rig.qp->state, RDMA_QP_RTS);
        peer_send(
            pkt_rdma(rows[i].op, psn, rows[i].len, addr_at(0), rig.mr->rkey, rows[i].dma_len));
        expect_fatal(psn, NAK_INVALID, 0, RDMA_EVENT_QP_REQ_ERR);
        expect_recv_wc(1, RDMA_WC_WR_FLUSH_ERR);
        expect_no_wc();
    }
}

/* 9.7.4.1.6: the receive ends with a local length error, the peer hears Invalid Request; nothing is
 * written behind the receive's memory. */
static void length_beyond_the_receive_is_a_local_length_error(void **state)
{
    (void)state;
    rig_qp(NULL);
    post_recv(1, 4096, 63);
    post_recv(2, 0, 64);
    peer_send(pkt(SEND_ONLY, RQ_PSN, 64));
    expect_fatal(RQ_PSN, NAK_INVALID, 0, RDMA_EVENT_QP_REQ_ERR);
    expect_recv_wc(1, RDMA_WC_LOC_LEN_ERR);
    expect_recv_wc(2, RDMA_WC_WR_FLUSH_ERR);
    assert_int_equal(rig.memory[4096 + 63], 0xee);
}

static void length_beyond_the_receive_in_the_second_packet(void **state)
{
    (void)state;
    rig_qp(NULL);
    post_recv(1, 4096, 1500);
    peer_send(pkt(SEND_FIRST, RQ_PSN, 1024));
    peer_send(pkt(SEND_MIDDLE, RQ_PSN + 1, 1024));
    expect_fatal(RQ_PSN + 1, NAK_INVALID, 0, RDMA_EVENT_QP_REQ_ERR);
    expect_recv_wc(1, RDMA_WC_LOC_LEN_ERR);
    assert_int_equal(rig.memory[4096 + 1500], 0xee);
}

/* --- the receive's own memory ----------------------------------------------------------------- */

/* 9.9.3, table 61 class A: our own fault; the peer hears Remote Operational Error. */
static void receive_with_a_bad_lkey_is_an_operational_error(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_sge sge = {.addr = addr_at(0), .len_bytes = 64, .lkey = 0x12340000};
    struct rdma_recv_wr wr = {.wr_id = 1, .sges = &sge, .sge_count = 1};
    assert_int_equal(rdma_post_recv(rig.qp, &wr, NULL), STATUS_OK);
    peer_send(pkt(SEND_ONLY, RQ_PSN, 4));
    expect_fatal(RQ_PSN, NAK_OPERATION, 0, RDMA_EVENT_QP_FATAL);
    expect_recv_wc(1, RDMA_WC_LOC_PROT_ERR);
    expect_no_wc();
}

static void receive_into_what_may_not_be_written_is_an_operational_error(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_mr *mr = rig_mr(rig.pd, 0, 4096, RDMA_ACCESS_REMOTE_READ);
    struct rdma_sge sge = {.addr = addr_at(0), .len_bytes = 64, .lkey = mr->lkey};
    struct rdma_recv_wr wr = {.wr_id = 1, .sges = &sge, .sge_count = 1};
    assert_int_equal(rdma_post_recv(rig.qp, &wr, NULL), STATUS_OK);
    peer_send(pkt(SEND_ONLY, RQ_PSN, 4));
    expect_fatal(RQ_PSN, NAK_OPERATION, 0, RDMA_EVENT_QP_FATAL);
    expect_recv_wc(1, RDMA_WC_LOC_PROT_ERR);
    assert_int_equal(rig.memory[0], 0xee);
}

/* --- the QP's own rights ---------------------------------------------------------------------- */

/* 9.7.4.1.2: a QP that is not open for the operation. */
static void operation_that_the_qp_is_not_open_for_is_an_invalid_request(void **state)
{
    (void)state;
    const enum op ops[] = {WRITE_ONLY, WRITE_FIRST, WRITE_ONLY_IMM, READ_REQUEST};
    for (uint32_t i = 0; i < ARRAY_SIZE(ops); i++) {
        for (uint32_t other = 0; other < 2; other++) {
            uint8_t right =
                ops[i] == READ_REQUEST ? RDMA_ACCESS_REMOTE_WRITE : RDMA_ACCESS_REMOTE_READ;
            if (rig.qp != NULL) {
                rig_qp_destroy(rig.qp);
            }
            rig_qp(&(struct rig_qp_options){.access = other ? right : 255});
            peer_send(sized(ops[i], RQ_PSN));
            expect_fatal(RQ_PSN, NAK_INVALID, 0, RDMA_EVENT_QP_REQ_ERR);
        }
    }
}

/* What was good before the bad one in the same batch is acknowledged by the NAK. */
static void fault_in_a_batch_stands_for_all_before_it(void **state)
{
    (void)state;
    rig_qp(NULL);
    post_recv(1, 0, 64);
    post_recv(2, 0, 64);
    post_recv(3, 0, 64);
    peer_queue(pkt(SEND_ONLY, RQ_PSN, 4));
    peer_queue(pkt(SEND_ONLY, RQ_PSN + 1, 4));
    peer_queue(pkt(SEND_MIDDLE, RQ_PSN + 2, 1024));
    peer_queue(pkt(SEND_ONLY, RQ_PSN + 3, 4));
    rig_turn();
    expect_fatal(RQ_PSN + 2, NAK_INVALID, 2, RDMA_EVENT_QP_REQ_ERR);
    expect_recv_wc(1, RDMA_WC_SUCCESS);
    expect_recv_wc(2, RDMA_WC_SUCCESS);
    expect_recv_wc(3, RDMA_WC_WR_FLUSH_ERR);
    expect_no_wc();
}

/* Requests of ours that are under way are flushed, too (10.3.1.8). */
static void fault_of_the_peer_flushes_what_we_had_under_way(void **state)
{
    (void)state;
    rig_qp(NULL);
    post(1, RDMA_WR_SEND, 0, 8);
    peer_drain();
    peer_send(pkt(SEND_MIDDLE, RQ_PSN, 1024));
    expect_wc(1, RDMA_WC_WR_FLUSH_ERR);
    expect_fatal(RQ_PSN, NAK_INVALID, 0, RDMA_EVENT_QP_REQ_ERR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(gap_is_told_once),
        RIG_TEST(gap_that_closes_in_the_batch_is_told_behind_it),
        RIG_TEST(gap_that_is_gone_at_the_end_of_the_batch_is_an_ack),
        RIG_TEST(gap_that_closes_in_part_is_told_behind_it),
        RIG_TEST(rnr_is_told_once_then_silence),
        RIG_TEST(rnr_in_a_batch_stands_for_all_before_it),
        RIG_TEST(rnr_that_is_over_before_it_was_told_is_an_ack),
        RIG_TEST(rnr_at_the_end_of_a_write_with_imm),
        RIG_TEST(rnr_does_not_concern_a_write),
        RIG_TEST(rnr_timer_is_the_attribute),
        RIG_TEST(repeated_send_is_acknowledged_not_placed),
        RIG_TEST(repeated_middle_does_not_disturb_the_message),
        RIG_TEST(repeated_long_ago_is_still_a_repetition),
        RIG_TEST(repeated_with_nonsense_is_only_acknowledged),
        RIG_TEST(sequence_outside_of_a_message_wants_first_or_only),
        RIG_TEST(sequence_inside_of_a_message_wants_its_kind),
        RIG_TEST(length_of_a_packet_that_cannot_be_is_an_invalid_request),
        RIG_TEST(length_beyond_the_receive_is_a_local_length_error),
        RIG_TEST(length_beyond_the_receive_in_the_second_packet),
        RIG_TEST(receive_with_a_bad_lkey_is_an_operational_error),
        RIG_TEST(receive_into_what_may_not_be_written_is_an_operational_error),
        RIG_TEST(operation_that_the_qp_is_not_open_for_is_an_invalid_request),
        RIG_TEST(fault_in_a_batch_stands_for_all_before_it),
        RIG_TEST(fault_of_the_peer_flushes_what_we_had_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
