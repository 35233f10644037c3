/* What the responder takes, what it drops in silence, and what it makes of messages that are as
 * they should be (IBA 9.6, 9.7.4, 9.7.5.1, 9.7.5.2). */
#include "rdma/rig.h"

/* --- messages --------------------------------------------------------------------------------- */

struct message {
    bool is_write;
    bool has_imm;
    enum op first;
    enum op middle;
    enum op last;
    enum op only;
};

static const struct message messages[] = {
    {false, false, SEND_FIRST, SEND_MIDDLE, SEND_LAST, SEND_ONLY},
    {false, true, SEND_FIRST, SEND_MIDDLE, SEND_LAST_IMM, SEND_ONLY_IMM},
    {true, false, WRITE_FIRST, WRITE_MIDDLE, WRITE_LAST, WRITE_ONLY},
    {true, true, WRITE_FIRST, WRITE_MIDDLE, WRITE_LAST_IMM, WRITE_ONLY_IMM},
};

static uint32_t packets_of(uint32_t len, uint32_t mtu)
{
    return len == 0 ? 1 : (len - 1) / mtu + 1;
}

/* Queues the packets of a message whose payload is fill()'s pattern of seed 0 as one piece. */
static void queue_message(const struct message *m, uint32_t psn, uint32_t len, uint32_t mtu,
                          uint32_t offset)
{
    static uint8_t bytes[1 << 20];
    uint32_t count = packets_of(len, mtu);

    pattern(bytes, len, 0);
    for (uint32_t i = 0; i < count; i++) {
        bool last = i == count - 1;
        enum op opcode = count == 1 ? m->only : i == 0 ? m->first : last ? m->last : m->middle;
        struct pkt *made = pkt(opcode, psn + i, last ? len - i * mtu : mtu);
        memcpy(made->payload, bytes + i * mtu, made->len);
        made->va = addr_at(offset);
        made->rkey = rig.mr->rkey;
        made->dma_len = len;
        made->imm = 0x01020304;
        peer_queue(made);
        if (i % 16 == 15) {
            rig_turn();
        }
    }
    rig_turn();
}

/* Table 38: each opcode in its place, at each MTU, placed where it belongs, one completion each. */
static void responder_every_opcode_at_every_mtu_is_placed(void **state)
{
    (void)state;
    for (uint32_t mtu = RDMA_MTU_256; mtu <= RDMA_MTU_4096; mtu++) {
        struct rdma_qp *qp = rig_qp(&(struct rig_qp_options){.mtu = (enum rdma_mtu)mtu});
        uint32_t bytes = rdma_mtu_bytes((enum rdma_mtu)mtu);
        const uint32_t lens[] = {0,     1,         3,         4,         63,           bytes - 1,
                                 bytes, bytes + 1, 2 * bytes, 3 * bytes, 5 * bytes - 3};
        uint32_t psn = RQ_PSN;
        uint32_t msn = 0;
        for (uint32_t i = 0; i < ARRAY_SIZE(messages); i++) {
            const struct message *m = &messages[i];
            for (uint32_t j = 0; j < ARRAY_SIZE(lens); j++) {
                bool has_wc = !m->is_write || m->has_imm;
                memset(rig.memory, 0xee, 6 * bytes);
                if (has_wc) {
                    post_recv(j, 5, lens[j]);
                }
                queue_message(m, psn, lens[j], bytes, 5);
                psn += packets_of(lens[j], bytes);
                expect_ack(psn - 1, ++msn);
                expect_silence();
                assert_filled(5, lens[j], 0);
                assert_int_equal(rig.memory[4], 0xee);
                assert_int_equal(rig.memory[5 + lens[j]], 0xee);
                if (has_wc) {
                    const struct rdma_wc *wc = expect_recv_wc(j, RDMA_WC_SUCCESS);
                    assert_int_equal(wc->len_bytes, lens[j]);
                    assert_int_equal(wc->opcode,
                                     m->is_write ? RDMA_WC_RECV_RDMA_WITH_IMM : RDMA_WC_RECV);
                    assert_int_equal(wc->flags, m->has_imm ? RDMA_WC_WITH_IMM : 0);
                    assert_int_equal(wc->imm, m->has_imm ? 0x01020304 : 0);
                    assert_ptr_equal(wc->qp, qp);
                }
                expect_no_wc();
            }
        }
        rig_qp_destroy(qp);
    }
}

static void responder_one_mebibyte_is_placed(void **state)
{
    (void)state;
    rig_qp(NULL);
    post_recv(1, 0, 1 << 20);
    queue_message(&messages[0], RQ_PSN, 1 << 20, 1024, 0);
    assert_filled(0, 1 << 20, 0);
    assert_int_equal(expect_recv_wc(1, RDMA_WC_SUCCESS)->len_bytes, 1 << 20);
    expect_ack(RQ_PSN + 1023, 1);
    memset(rig.memory, 0, 1 << 20);
    queue_message(&messages[2], RQ_PSN + 1024, 1 << 20, 1024, 4096);
    assert_filled(4096, 1 << 20, 0);
    expect_ack(RQ_PSN + 2047, 2);
    expect_no_wc();
}

/* 9.7.1 */
static void responder_psn_wraps_from_ffffff_to_0(void **state)
{
    (void)state;
    rig_qp(&(struct rig_qp_options){.rq_psn = 0xfffffe});
    post_recv(1, 0, 4096);
    queue_message(&messages[0], 0xfffffe, 4096, 1024, 0);
    expect_ack(1, 1);
    expect_recv_wc(1, RDMA_WC_SUCCESS);
    assert_filled(0, 4096, 0);
    peer_send(pkt(SEND_LAST, 0x000001, 1024)); /* again: over the edge it is still old */
    expect_ack(1, 1);
    peer_send(pkt(SEND_MIDDLE, 0xffffff, 1024));
    expect_ack(1, 1);
    assert_int_equal(rig_info(rig.qp).stats.duplicates, 2);
}

/* The receive is larger, its pieces are scattered. */
static void responder_scatters_over_all_sges(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_sge sges[4];
    const uint32_t lens[4] = {700, 0, 1000, 800};
    for (uint32_t i = 0; i < 4; i++) {
        sges[i] = (struct rdma_sge){
            .addr = addr_at(i * 8192), .len_bytes = lens[i], .lkey = rig.mr->lkey};
    }
    struct rdma_recv_wr wr = {.wr_id = 1, .sges = sges, .sge_count = 4};
    assert_int_equal(rdma_post_recv(rig.qp, &wr, NULL), STATUS_OK);
    queue_message(&messages[0], RQ_PSN, 2400, 1024, 0);
    assert_int_equal(expect_recv_wc(1, RDMA_WC_SUCCESS)->len_bytes, 2400);
    static uint8_t all[2400];
    pattern(all, 2400, 0);
    assert_memory_equal(rig.memory, all, 700);
    assert_memory_equal(rig.memory + 2 * 8192, all + 700, 1000);
    assert_memory_equal(rig.memory + 3 * 8192, all + 1700, 700);
    assert_int_equal(rig.memory[3 * 8192 + 700], 0xee);
    expect_ack(RQ_PSN + 2, 1);
}

/* Receives are used in the order in which they were posted. */
static void responder_uses_receives_in_order(void **state)
{
    (void)state;
    rig_qp(NULL);
    for (uint32_t i = 0; i < 100; i++) {
        post_recv(i, i * 16, 16);
    }
    for (uint32_t i = 0; i < 100; i++) {
        peer_send(pkt(SEND_ONLY, RQ_PSN + i, i % 17));
        expect_ack(RQ_PSN + i, i + 1);
        assert_int_equal(expect_recv_wc(i, RDMA_WC_SUCCESS)->len_bytes, i % 17);
    }
}

/* 9.7.4.1.3, 9.4.3.1: with a length of 0 neither address nor key are looked at. */
static void responder_write_of_nothing_needs_no_key(void **state)
{
    (void)state;
    rig_qp(NULL);
    peer_send(pkt_rdma(WRITE_ONLY, RQ_PSN, 0, 0xdead, 0xbeef, 0));
    expect_ack(RQ_PSN, 1);
    post_recv(1, 0, 0);
    struct pkt *made = pkt_rdma(WRITE_ONLY_IMM, RQ_PSN + 1, 0, 0, 0, 0);
    made->imm = 77;
    peer_send(made);
    expect_ack(RQ_PSN + 1, 2);
    const struct rdma_wc *wc = expect_recv_wc(1, RDMA_WC_SUCCESS);
    assert_int_equal(wc->imm, 77);
    assert_int_equal(wc->len_bytes, 0);
}

/* A WRITE's immediate data use a receive up, but not its memory. */
static void responder_write_with_imm_leaves_the_receives_memory(void **state)
{
    (void)state;
    rig_qp(NULL);
    post_recv(1, 8192, 4);
    queue_message(&messages[3], RQ_PSN, 2000, 1024, 0);
    assert_int_equal(expect_recv_wc(1, RDMA_WC_SUCCESS)->len_bytes, 2000);
    assert_int_equal(rig.memory[8192], 0xee);
    assert_filled(0, 2000, 0);
    expect_ack(RQ_PSN + 1, 1);
}

/* --- acknowledgements ------------------------------------------------------------------------- */

/* 9.7.5.1.2: one for a batch, for the last packet that asks or a later one. */
static void responder_batch_has_one_acknowledgement(void **state)
{
    (void)state;
    rig_qp(NULL);
    for (uint32_t i = 0; i < 10; i++) {
        post_recv(i, i * 64, 64);
        peer_queue(pkt(SEND_ONLY, RQ_PSN + i, 64));
    }
    rig_turn();
    expect_ack(RQ_PSN + 9, 10);
    expect_silence();
    for (uint32_t i = 0; i < 10; i++) {
        expect_recv_wc(i, RDMA_WC_SUCCESS);
    }
}

/* Who is not asked says nothing (9.7.5.1.1). */
static void responder_without_ackreq_says_nothing(void **state)
{
    (void)state;
    rig_qp(NULL);
    post_recv(1, 0, 4096);
    struct pkt *made = pkt(SEND_ONLY, RQ_PSN, 64);
    made->ack_req = false;
    peer_send(made);
    expect_silence();
    expect_recv_wc(1, RDMA_WC_SUCCESS);
    made = pkt_rdma(WRITE_FIRST, RQ_PSN + 1, 1024, addr_at(0), rig.mr->rkey, 1025);
    made->ack_req = true; /* also in the middle of a message */
    peer_send(made);
    expect_ack(RQ_PSN + 1, 1);
    peer_send(pkt(WRITE_LAST, RQ_PSN + 2, 1));
    expect_ack(RQ_PSN + 2, 2);
}

/* 9.7.7.1: MSN counts messages, 24 bits, and is in each answer. */
static void responder_msn_counts_messages(void **state)
{
    (void)state;
    rig_qp(NULL);
    post_recv(1, 0, 4096);
    post_recv(2, 0, 4096);
    queue_message(&messages[0], RQ_PSN, 3000, 1024, 0);
    expect_ack(RQ_PSN + 2, 1);
    queue_message(&messages[2], RQ_PSN + 3, 10, 1024, 0);
    expect_ack(RQ_PSN + 3, 2);
    peer_send(pkt_rdma(READ_REQUEST, RQ_PSN + 4, 0, addr_at(0), rig.mr->rkey, 10));
    assert_int_equal(expect(READ_ONLY, RQ_PSN + 4)->msn, 3);
    peer_send(pkt(SEND_ONLY, RQ_PSN + 5, 1));
    expect_ack(RQ_PSN + 5, 4);
    assert_int_equal(rig_info(rig.qp).msn, 4);
}

/* --- what is dropped in silence (9.6) --------------------------------------------------------- */

static void expect_dropped(const struct pkt *made)
{
    uint32_t psn = rig_info(rig.qp).rq_psn;
    peer_send(made);
    expect_silence();
    expect_no_wc();
    assert_int_equal(rig_info(rig.qp).rq_psn, psn);
    assert_int_equal(rig.qp->state, RDMA_QP_RTS);
    assert_int_equal(take_events(), 0);
}

/* 9.6.1.1 and 9.8: each as it should be but for one field. */
static void responder_wrong_header_is_dropped(void **state)
{
    (void)state;
    rig_qp(NULL);
    post_recv(1, 0, 64);
    struct pkt *made = pkt(SEND_ONLY, RQ_PSN, 64);
    made->version = 1;
    expect_dropped(made);
    made = pkt(SEND_ONLY, RQ_PSN, 64);
    made->pkey = 0xfffe;
    expect_dropped(made);
    made = pkt(SEND_ONLY, RQ_PSN, 64);
    made->pkey = 0;
    expect_dropped(made);
    assert_int_equal(STAT(rx_malformed), 3);
    made = pkt(SEND_ONLY, RQ_PSN, 64);
    made->is_icrc_wrong = true;
    expect_dropped(made);
    assert_int_equal(STAT(rx_icrc), 1);
    made = pkt(SEND_ONLY, RQ_PSN, 64);
    made->qpn ^= 0x800000;
    expect_dropped(made);
    made = pkt(SEND_ONLY, RQ_PSN, 64);
    made->qpn = 0;
    expect_dropped(made);
    made = pkt(SEND_ONLY, RQ_PSN, 64);
    made->qpn = 1; /* no QP1 was made */
    expect_dropped(made);
    made = pkt(SEND_ONLY, RQ_PSN, 64);
    made->qpn = 0xffffff;
    expect_dropped(made);
    assert_int_equal(STAT(rx_no_qp), 4);
    /* 9.6.1.4.1: from another address than the connection's. */
    made = pkt(SEND_ONLY, RQ_PSN, 64);
    made->src_host = 3;
    expect_dropped(made);
    made = pkt(SEND_ONLY, RQ_PSN, 64);
    made->is_ipv6 = true;
    expect_dropped(made);
    assert_int_equal(STAT(rx_wrong_peer), 2);
    /* A limited member's key is of the same partition (10.9.3). */
    made = pkt(SEND_ONLY, RQ_PSN, 64);
    made->pkey = 0x7fff;
    peer_send(made);
    expect_recv_wc(1, RDMA_WC_SUCCESS);
    expect_ack(RQ_PSN, 1);
}

/* 9.6.1.2: opcodes of other services, of none, reserved. */
static void responder_foreign_opcode_is_dropped(void **state)
{
    (void)state;
    rig_qp(NULL);
    for (uint32_t opcode = 0; opcode < 256; opcode++) {
        bool is_known = opcode <= 0x11 || opcode == 0x16 || opcode == 0x17 || opcode == CNP;
        bool is_atomic = opcode == 0x13 || opcode == 0x14;
        if (!is_known && !is_atomic) {
            struct pkt *made = pkt((enum op)opcode, RQ_PSN, 64);
            made->qkey = 0x11112222;
            expect_dropped(made);
        }
    }
}

/* 9.7.4.1.2: a request that is not served here is an invalid one. */
static void responder_atomic_is_an_invalid_request(void **state)
{
    (void)state;
    rig_qp(NULL);
    peer_send(pkt((enum op)0x13, RQ_PSN, 28));
    expect_nak(RQ_PSN, NAK_INVALID, 0);
    expect_event(RDMA_EVENT_QP_REQ_ERR);
    assert_int_equal(rig.qp->state, RDMA_QP_ERR);
}

/* A response of a READ that was not asked for, and acknowledgements of nothing. */
static void responses_to_nobody_are_dropped(void **state)
{
    (void)state;
    rig_qp(NULL);
    expect_dropped(pkt(READ_FIRST, SQ_PSN, 1024));
    expect_dropped(pkt(READ_MIDDLE, SQ_PSN, 1024));
    expect_dropped(pkt(READ_LAST, SQ_PSN, 1024));
    expect_dropped(pkt(READ_ONLY, SQ_PSN, 0));
    expect_dropped(pkt_ack(SQ_PSN, ACK_SYNDROME, 0));
    expect_dropped(pkt_ack(SQ_PSN - 1, NAK_ACCESS, 0));
}

/* Lengths that cannot be: too short for the headers, pad beyond the payload, not in words. */
static void responder_impossible_length_is_dropped(void **state)
{
    (void)state;
    rig_qp(NULL);
    post_recv(1, 0, 64);
    struct pkt *made = pkt(SEND_ONLY, RQ_PSN, 0);
    made->pad = 3;
    uint8_t frame[PKT_FRAME_MAX];
    uint32_t len = pkt_build(made, frame);
    for (uint32_t cut = 1; cut <= 20; cut++) { /* down to nothing behind UDP */
        uint32_t rest = len - cut;
        frame[16] = 0;
        frame[17] = (uint8_t)(rest - 14);
        frame[38] = 0;
        frame[39] = (uint8_t)(rest - 34);
        if ((rest - 34 - 8) % 4 == 0 && rest >= 34 + 8 + 16 + 3) {
            continue;
        }
        pkt_seal(frame, rest);
        peer_send_raw(frame, rest);
        expect_silence();
    }
    for (uint32_t opcode = 0; opcode <= 0x17; opcode++) { /* a BTH, and half of what it announces */
        made = pkt((enum op)opcode, RQ_PSN, 0);
        if (op_has_reth((uint8_t)opcode) || op_has_aeth((uint8_t)opcode) ||
            op_has_imm((uint8_t)opcode)) {
            made->opcode = SEND_ONLY;
            len = pkt_build(made, frame);
            frame[42] = (uint8_t)opcode;
            pkt_seal(frame, len);
            peer_send_raw(frame, len);
            expect_silence();
        }
    }
    for (uint32_t bytes = 5; bytes < 8; bytes++) { /* payload and pad are whole words (9.2.4) */
        made = pkt(SEND_ONLY, RQ_PSN, bytes);
        made->pad = 0;
        expect_dropped(made);
    }
    made = pkt(ACKNOWLEDGE, SQ_PSN, 4); /* an ACK has no payload */
    expect_dropped(made);
    made = pkt_rdma(READ_REQUEST, RQ_PSN, 4, addr_at(0), rig.mr->rkey, 4); /* nor has this */
    expect_dropped(made);
    expect_no_wc();
    assert_int_equal(rig_info(rig.qp).rq_psn, RQ_PSN);
}

/* 10.3.1: who is not ready to receive hears nothing; RTR and SQD answer. */
static void responder_in_each_state_answers_or_is_silent(void **state)
{
    (void)state;
    const enum rdma_qp_state states[] = {RDMA_QP_INIT, RDMA_QP_RTR, RDMA_QP_RTS, RDMA_QP_SQD,
                                         RDMA_QP_ERR};
    for (uint32_t i = 0; i < ARRAY_SIZE(states); i++) {
        bool answers = states[i] >= RDMA_QP_RTR && states[i] <= RDMA_QP_SQD;
        struct rdma_qp *qp = rig_qp(&(struct rig_qp_options){.state = states[i]});
        take_events();
        peer_send(pkt_rdma(WRITE_ONLY, RQ_PSN, 4, addr_at(0), rig.mr->rkey, 4));
        if (answers) {
            expect_ack(RQ_PSN, 1);
        }
        expect_silence();
        take_events();
        rig_qp_destroy(qp);
    }
    assert_int_equal(STAT(rx_no_qp), 2);
}

/* 11.6.3.1: the first packet in RTR, once. */
static void responder_in_rtr_tells_that_the_peer_is_there(void **state)
{
    (void)state;
    struct rdma_qp *qp = rig_qp(&(struct rig_qp_options){.state = RDMA_QP_RTR});
    post_recv(1, 0, 8);
    peer_send(pkt(SEND_ONLY, RQ_PSN, 8));
    expect_event(RDMA_EVENT_COMM_EST);
    assert_ptr_equal(rig.last_event.qp, qp);
    expect_ack(RQ_PSN, 1);
    expect_recv_wc(1, RDMA_WC_SUCCESS);
    peer_send(pkt_rdma(WRITE_ONLY, RQ_PSN + 1, 0, 0, 0, 0));
    assert_int_equal(take_events(), 0);
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

/* --- the way back ----------------------------------------------------------------------------- */

/* Nobody answered ARP when the QP was connected; now the peer speaks, so it is there: it must be
 * answered in the end, though nothing of ours is to be sent. */
static void responder_finds_the_way_back_after_it_failed(void **state)
{
    (void)state;
    rig.is_deaf = true;
    rig_qp(NULL);
    rig_advance(5 * NS_PER_S); /* ARP gave up */
    rig.is_deaf = false;
    fill(0, 10, 1);
    peer_send(pkt_rdma(READ_REQUEST, RQ_PSN, 0, addr_at(0), rig.mr->rkey, 10));
    rig_advance(NS_PER_S);
    peer_drain(); /* what it says to the first one does not matter, the peer asks again */
    peer_send(pkt_rdma(READ_REQUEST, RQ_PSN, 0, addr_at(0), rig.mr->rkey, 10));
    expect_data(READ_ONLY, RQ_PSN, 10, 1, 0);
    peer_send(pkt_rdma(WRITE_ONLY, RQ_PSN + 1, 4, addr_at(0), rig.mr->rkey, 4));
    expect_ack(RQ_PSN + 1, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(responder_every_opcode_at_every_mtu_is_placed),
        RIG_TEST(responder_one_mebibyte_is_placed),
        RIG_TEST(responder_psn_wraps_from_ffffff_to_0),
        RIG_TEST(responder_scatters_over_all_sges),
        RIG_TEST(responder_uses_receives_in_order),
        RIG_TEST(responder_write_of_nothing_needs_no_key),
        RIG_TEST(responder_write_with_imm_leaves_the_receives_memory),
        RIG_TEST(responder_batch_has_one_acknowledgement),
        RIG_TEST(responder_without_ackreq_says_nothing),
        RIG_TEST(responder_msn_counts_messages),
        RIG_TEST(responder_wrong_header_is_dropped),
        RIG_TEST(responder_foreign_opcode_is_dropped),
        RIG_TEST(responder_atomic_is_an_invalid_request),
        RIG_TEST(responses_to_nobody_are_dropped),
        RIG_TEST(responder_impossible_length_is_dropped),
        RIG_TEST(responder_in_each_state_answers_or_is_silent),
        RIG_TEST(responder_in_rtr_tells_that_the_peer_is_there),
        RIG_TEST(packet_of_any_psn_does_not_establish),
        RIG_TEST(responder_finds_the_way_back_after_it_failed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
