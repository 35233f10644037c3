/* What the requester makes of a work request: opcodes, lengths, PSNs, AckReq, headers (IBA 9.2,
 * 9.3, 9.4, 9.7.2, 9.7.7). */
#include "rdma/rig.h"

struct message {
    enum rdma_wr_opcode opcode;
    enum op first;
    enum op middle;
    enum op last;
    enum op only;
};

static const struct message messages[] = {
    {RDMA_WR_SEND, SEND_FIRST, SEND_MIDDLE, SEND_LAST, SEND_ONLY},
    {RDMA_WR_SEND_WITH_IMM, SEND_FIRST, SEND_MIDDLE, SEND_LAST_IMM, SEND_ONLY_IMM},
    {RDMA_WR_SEND_WITH_INV, SEND_FIRST, SEND_MIDDLE, SEND_LAST_INV, SEND_ONLY_INV},
    {RDMA_WR_RDMA_WRITE, WRITE_FIRST, WRITE_MIDDLE, WRITE_LAST, WRITE_ONLY},
    {RDMA_WR_RDMA_WRITE_WITH_IMM, WRITE_FIRST, WRITE_MIDDLE, WRITE_LAST_IMM, WRITE_ONLY_IMM},
};

static uint32_t packets_of(uint32_t len, uint32_t mtu)
{
    return len == 0 ? 1 : (len - 1) / mtu + 1;
}

/* The peer takes one message of `len` bytes and acknowledges where it is asked to. */
static void take_message(const struct message *m, uint32_t psn, uint32_t len, uint32_t mtu,
                         uint32_t seed)
{
    uint32_t count = packets_of(len, mtu);

    for (uint32_t i = 0; i < count; i++) {
        bool last = i == count - 1;
        enum op opcode = count == 1 ? m->only : i == 0 ? m->first : last ? m->last : m->middle;
        uint32_t bytes = last ? len - i * mtu : mtu;
        const struct pkt *got = expect_data(opcode, psn + i, bytes, seed, i * mtu);
        if (op_has_reth(got->opcode)) {
            assert_int_equal(got->va, REMOTE_VA);
            assert_int_equal(got->rkey, REMOTE_RKEY);
            assert_int_equal(got->dma_len, len);
        }
        if (op_has_imm(got->opcode)) {
            assert_int_equal(got->imm, 0x89abcdef);
        }
        assert_false(got->solicited);
        if (last) {
            assert_true(got->ack_req);
        }
        if (got->ack_req) {
            peer_ack(psn + i);
        }
    }
}

static void post_message(const struct message *m, uint64_t id, uint32_t offset, uint32_t len)
{
    struct send *send = send_wr(id, m->opcode, offset, len);
    send->wr.imm = 0x89abcdef;
    post_wr(rig.qp, &send->wr);
}

/* Table 38; 9.7.2: PSNs count packets. Each length around one and two MTUs, each MTU. */
static void requester_every_opcode_at_every_mtu_is_cut_right(void **state)
{
    (void)state;
    for (uint32_t mtu = RDMA_MTU_256; mtu <= RDMA_MTU_4096; mtu++) {
        struct rdma_qp *qp = rig_qp(&(struct rig_qp_options){.mtu = (enum rdma_mtu)mtu});
        uint32_t bytes = rdma_mtu_bytes((enum rdma_mtu)mtu);
        const uint32_t lens[] = {0,         1,
                                 2,         3,
                                 64,        128,
                                 129,       bytes - 1,
                                 bytes,     bytes + 1,
                                 2 * bytes, 2 * bytes + 3,
                                 3 * bytes, 5 * bytes - 2};
        uint32_t psn = SQ_PSN;
        for (uint32_t i = 0; i < ARRAY_SIZE(messages); i++) {
            for (uint32_t j = 0; j < ARRAY_SIZE(lens); j++) {
                fill(j * 3, lens[j], i + j);
                post_message(&messages[i], j, j * 3, lens[j]);
                take_message(&messages[i], psn, lens[j], bytes, i + j);
                assert_int_equal(expect_wc(j, RDMA_WC_SUCCESS)->len_bytes, lens[j]);
                psn += packets_of(lens[j], bytes);
            }
        }
        expect_silence();
        assert_int_equal(rig_info(qp).sq_una_psn, psn);
        rig_qp_destroy(qp);
    }
}

static void requester_one_mebibyte_is_sent_in_windows(void **state)
{
    (void)state;
    for (uint32_t mtu = RDMA_MTU_256; mtu <= RDMA_MTU_4096; mtu += 2) {
        struct rdma_qp *qp = rig_qp(&(struct rig_qp_options){.mtu = (enum rdma_mtu)mtu});
        fill(0, 1 << 20, mtu);
        post_message(&messages[0], 1, 0, 1 << 20);
        take_message(&messages[0], SQ_PSN, 1 << 20, rdma_mtu_bytes((enum rdma_mtu)mtu), mtu);
        expect_wc(1, RDMA_WC_SUCCESS);
        post_message(&messages[3], 2, 0, (1 << 20) - 1);
        take_message(&messages[3], SQ_PSN + (1 << 20) / rdma_mtu_bytes((enum rdma_mtu)mtu),
                     (1 << 20) - 1, rdma_mtu_bytes((enum rdma_mtu)mtu), mtu);
        expect_wc(2, RDMA_WC_SUCCESS);
        expect_silence();
        rig_qp_destroy(qp);
    }
}

/* 9.7.7.2 leaves it to us; without credits we promise RDMA_SOFT_WINDOW_PACKETS. */
static void requester_window_full_waits_for_an_acknowledgement(void **state)
{
    (void)state;
    rig_qp(NULL);
    fill(0, 100 * 1024, 1);
    post(1, RDMA_WR_SEND, 0, 100 * 1024);
    uint32_t asked = 0;
    for (uint32_t i = 0; i < RDMA_SOFT_WINDOW_PACKETS; i++) {
        asked += expect(i == 0 ? SEND_FIRST : SEND_MIDDLE, SQ_PSN + i)->ack_req;
    }
    expect_silence();
    assert_true(asked >= 1); /* or nobody would ever go on */
    assert_int_equal(rig_info(rig.qp).stats.window_full, 1);
    peer_ack(SQ_PSN + 2);
    for (uint32_t i = 0; i < 3; i++) {
        expect(SEND_MIDDLE, SQ_PSN + RDMA_SOFT_WINDOW_PACKETS + i);
    }
    expect_silence();
    expect_no_wc();
    peer_ack(SQ_PSN + 66);
    for (uint32_t i = 67; i < 99; i++) {
        expect(SEND_MIDDLE, SQ_PSN + i);
    }
    assert_true(expect(SEND_LAST, SQ_PSN + 99)->ack_req);
    peer_ack(SQ_PSN + 99);
    expect_wc(1, RDMA_WC_SUCCESS);
}

/* The window counts packets of many messages, too. */
static void requester_window_holds_over_messages(void **state)
{
    (void)state;
    rig_qp(NULL);
    for (uint32_t i = 0; i < 100; i++) {
        post(i, RDMA_WR_SEND, 0, 10);
    }
    assert_int_equal(peer_drain(), RDMA_SOFT_WINDOW_PACKETS);
    peer_ack(SQ_PSN + 63);
    assert_int_equal(peer_drain(), 36);
    peer_ack(SQ_PSN + 99);
    for (uint32_t i = 0; i < 100; i++) {
        expect_wc(i, RDMA_WC_SUCCESS);
    }
}

/* 9.7.1: 24 bits, modulo. */
static void requester_psn_wraps_from_ffffff_to_0(void **state)
{
    (void)state;
    rig_qp(&(struct rig_qp_options){.sq_psn = 0xfffffe});
    fill(0, 4096, 5);
    post(1, RDMA_WR_RDMA_WRITE, 0, 4096);
    expect_data(WRITE_FIRST, 0xfffffe, 1024, 5, 0);
    expect_data(WRITE_MIDDLE, 0xffffff, 1024, 5, 1024);
    expect_data(WRITE_MIDDLE, 0x000000, 1024, 5, 2048);
    expect_data(WRITE_LAST, 0x000001, 1024, 5, 3072);
    post(2, RDMA_WR_SEND, 0, 1);
    expect_data(SEND_ONLY, 0x000002, 1, 5, 0);
    peer_ack(0xffffff);
    expect_no_wc();
    peer_nak(0x000000, NAK_SEQUENCE); /* goes back over the edge as well */
    expect_data(WRITE_MIDDLE, 0x000000, 1024, 5, 2048);
    expect_data(WRITE_LAST, 0x000001, 1024, 5, 3072);
    expect_data(SEND_ONLY, 0x000002, 1, 5, 0);
    peer_ack(2);
    expect_wc(1, RDMA_WC_SUCCESS);
    expect_wc(2, RDMA_WC_SUCCESS);
}

static void requester_chain_goes_in_order(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct send *sends[3];
    for (uint32_t i = 0; i < 3; i++) {
        sends[i] = send_wr(i, RDMA_WR_SEND, i * 100, 100);
        fill(i * 100, 100, i);
    }
    sends[0]->wr.next = &sends[1]->wr;
    sends[1]->wr.next = &sends[2]->wr;
    post_wr(rig.qp, &sends[0]->wr);
    for (uint32_t i = 0; i < 3; i++) {
        expect_data(SEND_ONLY, SQ_PSN + i, 100, i, 0);
    }
    peer_ack(SQ_PSN + 2);
    for (uint32_t i = 0; i < 3; i++) {
        expect_wc(i, RDMA_WC_SUCCESS);
    }
}

static void requester_chain_with_a_bad_one_says_which(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct send *sends[3];
    for (uint32_t i = 0; i < 3; i++) {
        sends[i] = send_wr(i, RDMA_WR_SEND, 0, 10);
    }
    sends[0]->wr.next = &sends[1]->wr;
    sends[1]->wr.next = &sends[2]->wr;
    sends[1]->wr.sge_count = 5;
    const struct rdma_send_wr *bad = NULL;
    assert_int_equal(rdma_post_send(rig.qp, &sends[0]->wr, &bad), STATUS_INVALID);
    assert_ptr_equal(bad, &sends[1]->wr);
    rig_turn();
    expect(SEND_ONLY, SQ_PSN);
    expect_silence();
    peer_ack(SQ_PSN);
    expect_wc(0, RDMA_WC_SUCCESS);
}

static void requester_full_queue_says_again(void **state)
{
    (void)state;
    rig_qp(&(struct rig_qp_options){.send_wrs = 4});
    for (uint32_t i = 0; i < 4; i++) {
        post(i, RDMA_WR_SEND, 0, 10);
    }
    assert_int_equal(rdma_post_send(rig.qp, &send_wr(4, RDMA_WR_SEND, 0, 10)->wr, NULL),
                     STATUS_AGAIN);
    assert_int_equal(peer_drain(), 4);
    peer_ack(SQ_PSN);
    expect_wc(0, RDMA_WC_SUCCESS);
    post(4, RDMA_WR_SEND, 0, 10);
    expect(SEND_ONLY, SQ_PSN + 4);
    peer_ack(SQ_PSN + 4);
    for (uint32_t i = 1; i < 5; i++) {
        expect_wc(i, RDMA_WC_SUCCESS);
    }
}

/* What is copied when it is posted may change afterwards; the lkey does not matter. */
static void requester_inline_is_taken_at_once(void **state)
{
    (void)state;
    rig_qp(NULL);
    for (uint32_t len = 0; len <= RDMA_SOFT_INLINE_BYTES; len += 7) {
        uint32_t psn = SQ_PSN + len / 7;
        struct send *send = send_wr(len, RDMA_WR_SEND, 0, len / 2);
        fill(0, len, 9);
        send->sges[0].lkey = 0;
        send->sges[1] = (struct rdma_sge){.addr = addr_at(len / 2), .len_bytes = len - len / 2};
        send->wr.sge_count = 2;
        send->wr.flags |= RDMA_SEND_INLINE;
        assert_int_equal(rdma_post_send(rig.qp, &send->wr, NULL), STATUS_OK);
        memset(rig.memory, 0, 128);
        rig_turn();
        expect_data(SEND_ONLY, psn, len, 9, 0);
        peer_ack(psn);
        expect_wc(len, RDMA_WC_SUCCESS);
    }
    struct send *send = send_wr(1, RDMA_WR_SEND, 0, RDMA_SOFT_INLINE_BYTES + 1);
    send->wr.flags |= RDMA_SEND_INLINE;
    assert_int_equal(rdma_post_send(rig.qp, &send->wr, NULL), STATUS_INVALID);
    send = send_wr(1, RDMA_WR_RDMA_READ, 0, 8);
    send->wr.flags |= RDMA_SEND_INLINE;
    assert_int_equal(rdma_post_send(rig.qp, &send->wr, NULL), STATUS_INVALID);
}

static void requester_inline_is_sent_again_out_of_the_queue(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct send *send = send_wr(1, RDMA_WR_RDMA_WRITE, 0, 33);
    fill(0, 33, 4);
    send->wr.flags |= RDMA_SEND_INLINE;
    post_wr(rig.qp, &send->wr);
    memset(rig.memory, 0, 64);
    expect_data(WRITE_ONLY, SQ_PSN, 33, 4, 0);
    peer_nak(SQ_PSN, NAK_SEQUENCE);
    expect_data(WRITE_ONLY, SQ_PSN, 33, 4, 0);
    peer_ack(SQ_PSN);
    expect_wc(1, RDMA_WC_SUCCESS);
}

/* Four pieces, of which some are empty, cut anywhere by packets. */
static void requester_gathers_over_all_sges(void **state)
{
    (void)state;
    rig_qp(&(struct rig_qp_options){.mtu = RDMA_MTU_256});
    const uint32_t lens[4] = {300, 0, 77, 523};
    struct send *send = send_wr(1, RDMA_WR_SEND, 0, 0);
    uint8_t all[900];
    uint32_t at = 0;
    pattern(all, sizeof(all), 3);
    for (uint32_t i = 0; i < 4; i++) {
        memcpy(rig.memory + i * 10001, all + at, lens[i]);
        send->sges[i] = (struct rdma_sge){
            .addr = addr_at(i * 10001), .len_bytes = lens[i], .lkey = rig.mr->lkey};
        at += lens[i];
    }
    send->wr.sge_count = 4;
    post_wr(rig.qp, &send->wr);
    expect_data(SEND_FIRST, SQ_PSN, 256, 3, 0);
    expect_data(SEND_MIDDLE, SQ_PSN + 1, 256, 3, 256);
    expect_data(SEND_MIDDLE, SQ_PSN + 2, 256, 3, 512);
    expect_data(SEND_LAST, SQ_PSN + 3, 132, 3, 768);
    peer_ack(SQ_PSN + 3);
    assert_int_equal(expect_wc(1, RDMA_WC_SUCCESS)->len_bytes, 900);
}

/* 9.2.3: the bit stands in the last packet of the message. */
static void requester_solicited_is_told_in_the_last_packet(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct send *send = send_wr(1, RDMA_WR_SEND, 0, 2000);
    send->wr.flags |= RDMA_SEND_SOLICITED;
    post_wr(rig.qp, &send->wr);
    assert_false(expect(SEND_FIRST, SQ_PSN)->solicited);
    assert_true(expect(SEND_LAST, SQ_PSN + 1)->solicited);
    peer_ack(SQ_PSN + 1);
    expect_wc(1, RDMA_WC_SUCCESS);
}

/* 10.7.3.1 */
static void requester_unsignalled_completes_silently(void **state)
{
    (void)state;
    rig_qp(NULL);
    for (uint32_t i = 0; i < 3; i++) {
        struct send *send = send_wr(i, RDMA_WR_SEND, 0, 10);
        send->wr.flags = i == 2 ? RDMA_SEND_SIGNALED : 0;
        post_wr(rig.qp, &send->wr);
    }
    assert_int_equal(peer_drain(), 3);
    peer_ack(SQ_PSN + 1);
    expect_no_wc();
    assert_int_equal(rig_info(rig.qp).send_posted, 1);
    peer_ack(SQ_PSN + 2);
    expect_wc(2, RDMA_WC_SUCCESS);
    expect_no_wc();
}

static void requester_signal_all_signals_all(void **state)
{
    (void)state;
    rig_qp(&(struct rig_qp_options){.signal_all = true});
    struct send *send = send_wr(5, RDMA_WR_SEND, 0, 10);
    send->wr.flags = 0;
    post_wr(rig.qp, &send->wr);
    peer_drain();
    peer_ack(SQ_PSN);
    expect_wc(5, RDMA_WC_SUCCESS);
}

/* A17.3.1: one flow has one source port; QPs differ so that ways through the fabric do. */
static void requester_source_port_is_constant(void **state)
{
    (void)state;
    rig_qp(NULL);
    post(1, RDMA_WR_SEND, 0, 10);
    uint16_t port = expect(SEND_ONLY, SQ_PSN)->src_port;
    post(2, RDMA_WR_SEND, 0, 10);
    assert_int_equal(expect(SEND_ONLY, SQ_PSN + 1)->src_port, port);
    peer_ack(SQ_PSN + 1);
    expect_wc(1, RDMA_WC_SUCCESS);
    expect_wc(2, RDMA_WC_SUCCESS);
}

/* 11.2.2.1, A17.3.1: what the address vector says, in requests and answers; the ECN bits are ours.
 * */
static void requester_address_vector_is_in_each_packet(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_qp_attr attr = rig_qp_attr(NULL);
    attr.av.traffic_class = 0x6b;
    attr.av.hop_limit = 3;
    attr.av.udp_src_port = 0xc123;
    assert_int_equal(
        rdma_qp_modify(rig.qp, &(struct rdma_qp_attr){.state = RDMA_QP_SQD}, RDMA_QP_STATE),
        STATUS_OK);
    assert_int_equal(rdma_qp_modify(rig.qp, &attr, RDMA_QP_AV), STATUS_OK);
    assert_int_equal(rig_qp_to(rig.qp, RDMA_QP_RTS), STATUS_OK);
    post_recv(1, 0, 8);
    post(1, RDMA_WR_SEND, 0, 8);
    peer_send(pkt(SEND_ONLY, RQ_PSN, 8));
    static struct pkt got;
    for (uint32_t i = 0; i < 2; i++) {
        assert_true(peer_take(&got));
        assert_int_equal(got.opcode, i == 0 ? SEND_ONLY : ACKNOWLEDGE);
        assert_int_equal(got.tos, 0x6a);
        assert_int_equal(got.ttl, 3);
        assert_int_equal(got.src_port, 0xc123);
        assert_false(got.is_icrc_wrong);
    }
    peer_ack(SQ_PSN);
    expect_wc(1, RDMA_WC_SUCCESS);
    take_events();
}

/* RFC 3168, A17.9: ECN capable when configured. */
static void requester_packets_are_ecn_capable_when_configured(void **state)
{
    (void)state;
    rig_qp(NULL);
    post(1, RDMA_WR_SEND, 0, 10);
    assert_int_equal(expect(SEND_ONLY, SQ_PSN)->tos, 2);
    peer_ack(SQ_PSN);
    expect_wc(1, RDMA_WC_SUCCESS);
}

static void requester_packets_without_ecn_say_so(void **state)
{
    (void)state;
    rig_qp(NULL);
    post(1, RDMA_WR_SEND, 0, 10);
    assert_int_equal(expect(SEND_ONLY, SQ_PSN)->tos, 0);
    peer_ack(SQ_PSN);
    expect_wc(1, RDMA_WC_SUCCESS);
}

/* What lies in host or NIC memory leaves from there; small payloads are copied. */
static void requester_payload_is_sent_from_where_it_lies(void **state)
{
    (void)state;
    rig_qp(NULL);
    post(1, RDMA_WR_SEND, 0, 1024);
    post(2, RDMA_WR_SEND, 0, 128);
    peer_drain();
    assert_int_equal(STAT(zero_copy_bytes), 1024);
    assert_int_equal(STAT(copied_bytes), 128);
    peer_ack(SQ_PSN + 1);
    expect_wc(1, RDMA_WC_SUCCESS);
    expect_wc(2, RDMA_WC_SUCCESS);
}

/* Two QPs that have much to say take turns. */
static void requester_qps_share_the_port(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_qp *other = rig_qp(NULL);
    post_wr(rig.qp, &send_wr(1, RDMA_WR_SEND, 0, 10)->wr);
    peer_drain();
    assert_int_equal(rdma_post_send(rig.qp, &send_wr(2, RDMA_WR_SEND, 0, 40 * 1024)->wr, NULL),
                     STATUS_OK);
    assert_int_equal(rdma_post_send(other, &send_wr(3, RDMA_WR_SEND, 0, 1024)->wr, NULL),
                     STATUS_OK);
    rig_turn();
    struct pkt got;
    uint32_t before = 0;
    while (peer_take(&got) && got.opcode != SEND_ONLY) {
        before++;
    }
    assert_int_equal(got.opcode, SEND_ONLY);
    assert_true(before <= 16);
    peer_drain();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(requester_every_opcode_at_every_mtu_is_cut_right),
        RIG_TEST(requester_one_mebibyte_is_sent_in_windows),
        RIG_TEST(requester_window_full_waits_for_an_acknowledgement),
        RIG_TEST(requester_window_holds_over_messages),
        RIG_TEST(requester_psn_wraps_from_ffffff_to_0),
        RIG_TEST(requester_chain_goes_in_order),
        RIG_TEST(requester_chain_with_a_bad_one_says_which),
        RIG_TEST(requester_full_queue_says_again),
        RIG_TEST(requester_inline_is_taken_at_once),
        RIG_TEST(requester_inline_is_sent_again_out_of_the_queue),
        RIG_TEST(requester_gathers_over_all_sges),
        RIG_TEST(requester_solicited_is_told_in_the_last_packet),
        RIG_TEST(requester_unsignalled_completes_silently),
        RIG_TEST(requester_signal_all_signals_all),
        RIG_TEST(requester_source_port_is_constant),
        RIG_TEST(requester_address_vector_is_in_each_packet),
        RIG_TEST(requester_packets_are_ecn_capable_when_configured),
        cmocka_unit_test_setup_teardown(requester_packets_without_ecn_say_so, rig_setup_no_ecn,
                                        rig_teardown),
        RIG_TEST(requester_payload_is_sent_from_where_it_lies),
        RIG_TEST(requester_qps_share_the_port),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
