/* Datagrams: UD queue pairs and QP1 (IBA 9.8.3, 10.2.2, 10.2.5, 11.2.2.1, A17.4.5). */
#include "rdma/rig.h"

#define QKEY      0x11112222u
#define GRH_BYTES 40u

static struct rdma_qp *ud(enum rdma_qp_type type)
{
    struct rdma_qp *qp = rig_qp_create(type, NULL);
    struct rdma_qp_attr attr = rig_qp_attr(NULL);

    attr.qkey = QKEY;
    attr.state = RDMA_QP_INIT;
    assert_int_equal(rdma_qp_modify(qp, &attr, RDMA_QP_STATE | RDMA_QP_QKEY), STATUS_OK);
    attr.state = RDMA_QP_RTR;
    assert_int_equal(rdma_qp_modify(qp, &attr, RDMA_QP_STATE), STATUS_OK);
    attr.state = RDMA_QP_RTS;
    assert_int_equal(rdma_qp_modify(qp, &attr, RDMA_QP_STATE | RDMA_QP_SQ_PSN), STATUS_OK);
    return qp;
}

static struct send *datagram(uint64_t id, struct rdma_ah *ah, uint32_t len)
{
    struct send *send = send_wr(id, RDMA_WR_SEND, 0, len);
    send->wr.ud.ah = ah;
    send->wr.ud.remote_qpn = 0x1234;
    send->wr.ud.remote_qkey = 0x55667788;
    return send;
}

static struct pkt *a_datagram(uint32_t len)
{
    struct pkt *made = pkt(UD_SEND_ONLY, 7, len);
    made->qkey = QKEY;
    made->src_qpn = 0x1234;
    made->migrated = false;
    return made;
}

/* --- send ------------------------------------------------------------------------------------- */

static void ud_send_of_every_length_leaves_and_completes(void **state)
{
    (void)state;
    struct rdma_qp *qp = ud(RDMA_QP_UD);
    struct rdma_ah *ah = rig_ah(false);
    const uint32_t lens[] = {0, 1, 4, 128, 129, 256, 1024, 4096};
    fill(0, 4096, 1);
    for (uint32_t i = 0; i < ARRAY_SIZE(lens); i++) {
        post_wr(qp, &datagram(i, ah, lens[i])->wr);
        const struct pkt *got = expect_data(UD_SEND_ONLY, SQ_PSN + i, lens[i], 1, 0);
        assert_int_equal(got->qpn, 0x1234);
        assert_int_equal(got->qkey, 0x55667788);
        assert_int_equal(got->src_qpn, qp->num);
        assert_false(got->ack_req);
        assert_int_equal(expect_wc(i, RDMA_WC_SUCCESS)->opcode, RDMA_WC_SEND);
    }
    expect_silence();
}

static void ud_send_with_immediate_over_ipv6(void **state)
{
    (void)state;
    struct rdma_qp *qp = ud(RDMA_QP_UD);
    struct send *send = datagram(1, rig_ah(true), 100);
    send->wr.opcode = RDMA_WR_SEND_WITH_IMM;
    send->wr.imm = 0xabcd1234;
    fill(0, 100, 2);
    post_wr(qp, &send->wr);
    const struct pkt *got = expect_data(UD_SEND_ONLY_IMM, SQ_PSN, 100, 2, 0);
    assert_int_equal(got->imm, 0xabcd1234);
    assert_true(got->is_ipv6);
    expect_wc(1, RDMA_WC_SUCCESS);
}

/* 10.2.5: with the uppermost bit the QP's own key is meant. */
static void ud_send_with_a_controlled_qkey_uses_the_qps_own(void **state)
{
    (void)state;
    struct rdma_qp *qp = ud(RDMA_QP_UD);
    struct send *send = datagram(1, rig_ah(false), 4);
    send->wr.ud.remote_qkey = 0x80000000;
    post_wr(qp, &send->wr);
    assert_int_equal(expect(UD_SEND_ONLY, SQ_PSN)->qkey, QKEY);
    expect_wc(1, RDMA_WC_SUCCESS);
}

/* The memory is free when it completes: it was copied. */
static void ud_send_is_a_copy(void **state)
{
    (void)state;
    struct rdma_qp *qp = ud(RDMA_QP_UD);
    struct rdma_ah *ah = rig_ah(false);
    wire_hold_reap(rig.wire, true);
    post_wr(qp, &datagram(1, ah, 2000)->wr);
    expect_wc(1, RDMA_WC_SUCCESS);
    assert_int_equal(STAT(zero_copy_bytes), 0);
    expect(UD_SEND_ONLY, SQ_PSN);
}

static void ud_send_inline_and_from_four_pieces(void **state)
{
    (void)state;
    struct rdma_qp *qp = ud(RDMA_QP_UD);
    struct send *send = datagram(1, rig_ah(false), 20);
    fill(0, 80, 3);
    for (uint32_t i = 1; i < 4; i++) {
        send->sges[i] = send->sges[0];
        send->sges[i].addr += i * 20;
    }
    send->wr.sge_count = 4;
    post_wr(qp, &send->wr);
    expect_data(UD_SEND_ONLY, SQ_PSN, 80, 3, 0);
    expect_wc(1, RDMA_WC_SUCCESS);
    send->wr.sge_count = 3;
    send->wr.flags |= RDMA_SEND_INLINE;
    post_wr(qp, &send->wr);
    expect_data(UD_SEND_ONLY, SQ_PSN + 1, 60, 3, 0);
    expect_wc(1, RDMA_WC_SUCCESS);
}

/* One that cannot be sent fails alone; the queue goes on, in order. */
static void ud_send_that_fails_fails_alone(void **state)
{
    (void)state;
    struct rdma_qp *qp = ud(RDMA_QP_UD);
    struct rdma_ah *ah = rig_ah(false);
    rig.is_deaf = true;
    struct rdma_av av = {.sgid_index = 1};
    assert_true(net_addr_parse("192.0.2.77", &av.dgid)); /* nobody is there */
    struct rdma_ah *lost = NULL;
    assert_int_equal(rdma_ah_create(rig.pd, &av, &lost), STATUS_OK);
    struct send *bad = datagram(2, ah, 300);
    bad->sges[0].lkey = 0;
    struct send *sends[] = {datagram(1, lost, 4), bad, datagram(3, ah, 4097), datagram(4, ah, 4)};
    for (uint32_t i = 0; i < 3; i++) {
        sends[i]->wr.next = &sends[i + 1]->wr;
    }
    post_wr(qp, &sends[0]->wr);
    expect_wc(1, RDMA_WC_GENERAL_ERR);
    expect_wc(2, RDMA_WC_LOC_PROT_ERR);
    expect_wc(3, RDMA_WC_LOC_LEN_ERR);
    expect_wc(4, RDMA_WC_SUCCESS);
    expect(UD_SEND_ONLY, SQ_PSN);
    expect_silence();
    assert_int_equal(qp->state, RDMA_QP_RTS);
    rdma_ah_destroy(lost);
}

/* 10.2.2.2: an address handle of another domain is none of this QP's. */
static void ud_send_over_another_domains_handle_fails(void **state)
{
    (void)state;
    struct rdma_qp *qp = ud(RDMA_QP_UD);
    struct rdma_av av = {.sgid_index = 1};
    assert_true(net_addr_parse("192.0.2.2", &av.dgid));
    struct rdma_ah *ah = NULL;
    assert_int_equal(rdma_ah_create(rig_pd(), &av, &ah), STATUS_OK);
    rig_turn();
    post_wr(qp, &datagram(1, ah, 4)->wr);
    expect_wc(1, RDMA_WC_LOC_QP_OP_ERR);
    expect_silence();
    rdma_ah_destroy(ah);
}

static void ud_without_room_at_the_port_goes_on_later(void **state)
{
    (void)state;
    struct rdma_qp *qp = ud(RDMA_QP_UD);
    struct rdma_ah *ah = rig_ah(false);
    wire_hold_reap(rig.wire, true);
    for (uint32_t i = 0; i < 30; i++) { /* sixteen large buffers are there */
        post_wr(qp, &datagram(i, ah, 1000)->wr);
    }
    assert_int_equal(peer_drain(), 16);
    wire_hold_reap(rig.wire, false);
    rig_turn();
    assert_int_equal(peer_drain(), 14);
    for (uint32_t i = 0; i < 30; i++) {
        expect_wc(i, RDMA_WC_SUCCESS);
    }
}

static void ud_refuses_what_only_a_connection_can(void **state)
{
    (void)state;
    struct rdma_qp *qp = ud(RDMA_QP_UD);
    const enum rdma_wr_opcode ops[] = {RDMA_WR_SEND_WITH_INV, RDMA_WR_RDMA_WRITE, RDMA_WR_RDMA_READ,
                                       RDMA_WR_LOCAL_INV, RDMA_WR_BIND};
    for (uint32_t i = 0; i < ARRAY_SIZE(ops); i++) {
        assert_int_equal(rdma_post_send(qp, &send_wr(1, ops[i], 0, 4)->wr, NULL), STATUS_INVALID);
    }
    for (uint32_t opcode = 0; opcode <= 0x17; opcode++) { /* and the wire the same */
        struct pkt *made = pkt((enum op)opcode, 0, 0);
        peer_send(made);
        expect_silence();
    }
}

/* --- receive ---------------------------------------------------------------------------------- */

/* 11.4.2.1, A17.4.5.2: 40 bytes in front; IPv4's header is in the last twenty. */
static void ud_receive_has_the_network_header_in_front(void **state)
{
    (void)state;
    rig.qp = ud(RDMA_QP_UD);
    post_recv(1, 0, 4096);
    peer_send(a_datagram(300));
    const struct rdma_wc *wc = expect_recv_wc(1, RDMA_WC_SUCCESS);
    assert_int_equal(wc->len_bytes, 340);
    assert_int_equal(wc->src_qpn, 0x1234);
    assert_int_equal(wc->flags, RDMA_WC_GRH);
    assert_filled(GRH_BYTES, 300, 0);
    assert_int_equal(rig.memory[340], 0xee);
    assert_int_equal(rig.memory[20], 0x45);
    const uint8_t addrs[8] = {192, 0, 2, 2, 192, 0, 2, 1};
    assert_memory_equal(rig.memory + 32, addrs, 8);
    assert_int_equal(rig.memory[0], 0);
    expect_silence();
}

static void ud_receive_over_ipv6_has_its_header(void **state)
{
    (void)state;
    rig.qp = ud(RDMA_QP_UD);
    post_recv(1, 0, 4096);
    struct pkt *made = a_datagram(17);
    made->opcode = UD_SEND_ONLY_IMM;
    made->imm = 99;
    made->is_ipv6 = true;
    peer_send(made);
    const struct rdma_wc *wc = expect_recv_wc(1, RDMA_WC_SUCCESS);
    assert_int_equal(wc->len_bytes, 57);
    assert_int_equal(wc->imm, 99);
    assert_int_equal(wc->flags, RDMA_WC_GRH | RDMA_WC_WITH_IMM);
    assert_int_equal(rig.memory[0] >> 4, 6);
    assert_int_equal(rig.memory[23], 2); /* from ... */
    assert_int_equal(rig.memory[39], 1); /* ... to */
    assert_filled(GRH_BYTES, 17, 0);
}

/* 9.6.1.3.1: a wrong Q_Key is dropped, and counted. 9.8.3.2: so is what does not fit, or finds
 * none. */
static void ud_receive_that_cannot_be_is_dropped(void **state)
{
    (void)state;
    rig.qp = ud(RDMA_QP_UD);
    peer_send(a_datagram(4)); /* no receive */
    post_recv(1, 0, 60);
    struct pkt *made = a_datagram(4);
    made->qkey ^= 1;
    peer_send(made);
    assert_int_equal(STAT(key_violations), 1);
    peer_send(a_datagram(21)); /* one byte too long */
    made = a_datagram(4);
    made->opcode = SEND_ONLY;
    peer_send(made);
    expect_no_wc();
    expect_silence();
    assert_int_equal(rig.event_count, 0);
    peer_send(a_datagram(20));
    assert_int_equal(expect_recv_wc(1, RDMA_WC_SUCCESS)->len_bytes, 60);
}

/* From anybody: a datagram has no peer. */
static void ud_receive_is_from_anybody(void **state)
{
    (void)state;
    rig.qp = ud(RDMA_QP_UD);
    for (uint8_t host = 2; host < 10; host++) {
        post_recv(host, 0, 64);
        struct pkt *made = a_datagram(4);
        made->src_host = host;
        made->psn = host * 1000u; /* PSNs do not matter */
        peer_send(made);
        expect_recv_wc(host, RDMA_WC_SUCCESS);
        assert_int_equal(rig.memory[35], host);
    }
}

static void ud_receive_with_a_bad_lkey_ends_in_error_alone(void **state)
{
    (void)state;
    rig.qp = ud(RDMA_QP_UD);
    struct rdma_sge sge = {.addr = addr_at(0), .len_bytes = 64, .lkey = 0};
    struct rdma_recv_wr wr = {.wr_id = 1, .sges = &sge, .sge_count = 1};
    assert_int_equal(rdma_post_recv(rig.qp, &wr, NULL), STATUS_OK);
    post_recv(2, 0, 64);
    peer_send(a_datagram(4));
    expect_recv_wc(1, RDMA_WC_LOC_PROT_ERR);
    peer_send(a_datagram(4));
    expect_recv_wc(2, RDMA_WC_SUCCESS);
}

static void ud_in_error_is_flushed(void **state)
{
    (void)state;
    rig.qp = ud(RDMA_QP_UD);
    post_recv(1, 0, 64);
    assert_int_equal(rig_qp_to(rig.qp, RDMA_QP_ERR), STATUS_OK);
    expect_recv_wc(1, RDMA_WC_WR_FLUSH_ERR);
    post_wr(rig.qp, &datagram(2, rig_ah(false), 4)->wr);
    expect_wc(2, RDMA_WC_WR_FLUSH_ERR);
    peer_send(a_datagram(4));
    expect_silence();
    expect_no_wc();
}

/* --- QP1 -------------------------------------------------------------------------------------- */

static void qp1_is_one_and_has_its_number(void **state)
{
    (void)state;
    rig.qp = ud(RDMA_QP_GSI);
    assert_int_equal(rig.qp->num, 1);
    static uint8_t memory[4096] __attribute__((aligned(64)));
    struct rdma_qp_init_attr attr = {.type = RDMA_QP_GSI,
                                     .pd = rig.pd,
                                     .send_cq = rig.cq,
                                     .recv_cq = rig.recv_cq,
                                     .send_wr_count = 4,
                                     .recv_wr_count = 4,
                                     .send_sge_count = 1,
                                     .recv_sge_count = 1,
                                     .memory = memory};
    struct rdma_qp *second = NULL;
    assert_int_equal(rdma_qp_create(&attr, &second), STATUS_EXISTS);
    post_recv(1, 0, 512);
    peer_send(a_datagram(256));
    assert_int_equal(expect_recv_wc(1, RDMA_WC_SUCCESS)->len_bytes, 296);
    post_wr(rig.qp, &datagram(2, rig_ah(false), 256)->wr);
    assert_int_equal(expect(UD_SEND_ONLY, SQ_PSN)->src_qpn, 1);
    expect_wc(2, RDMA_WC_SUCCESS);
}

/* --- address handles -------------------------------------------------------------------------- */

static uint32_t changes;
static void note_change(struct rdma_ah *ah)
{
    assert_ptr_equal(ah->ctx, &changes);
    changes++;
}

static void ah_tells_when_its_way_is_found(void **state)
{
    (void)state;
    struct rdma_av av = {.sgid_index = 1};
    assert_true(net_addr_parse("192.0.2.2", &av.dgid));
    struct rdma_ah *ah = NULL;
    changes = 0;
    assert_int_equal(rdma_ah_create(rig.pd, &av, &ah), STATUS_OK);
    ah->changed = note_change;
    ah->ctx = &changes;
    assert_int_equal(ah->state, NET_PATH_RESOLVING);
    rig_turn();
    assert_int_equal(ah->state, NET_PATH_READY);
    assert_int_equal(changes, 1);
    rdma_ah_destroy(ah);
}

static void ah_tells_that_there_is_no_way(void **state)
{
    (void)state;
    rig.is_deaf = true;
    struct rdma_av av = {.sgid_index = 1};
    assert_true(net_addr_parse("192.0.2.2", &av.dgid));
    struct rdma_ah *ah = NULL;
    changes = 0;
    assert_int_equal(rdma_ah_create(rig.pd, &av, &ah), STATUS_OK);
    ah->changed = note_change;
    ah->ctx = &changes;
    rig_advance(5 * NS_PER_S);
    assert_int_equal(ah->state, NET_PATH_FAILED);
    assert_int_equal(changes, 1);
    rdma_ah_destroy(ah);
}

static void ah_without_route_or_room_is_refused(void **state)
{
    (void)state;
    struct rdma_av av = {.sgid_index = 1};
    struct rdma_ah *ahs[RIG_AHS + 1];
    assert_true(net_addr_parse("198.51.100.1", &av.dgid));
    assert_int_equal(rdma_ah_create(rig.pd, &av, &ahs[0]), STATUS_NOT_FOUND);
    av.sgid_index = 9;
    assert_true(net_addr_parse("192.0.2.2", &av.dgid));
    assert_int_equal(rdma_ah_create(rig.pd, &av, &ahs[0]), STATUS_NOT_FOUND);
    av.sgid_index = 1;
    for (uint32_t i = 0; i < RIG_AHS; i++) {
        assert_int_equal(rdma_ah_create(rig.pd, &av, &ahs[i]), STATUS_OK);
    }
    assert_int_equal(rdma_ah_create(rig.pd, &av, &ahs[RIG_AHS]), STATUS_NO_SPACE);
    assert_int_equal(rdma_pd_free(rig.pd), STATUS_AGAIN);
    for (uint32_t i = 0; i < RIG_AHS; i++) {
        rdma_ah_destroy(ahs[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(ud_send_of_every_length_leaves_and_completes),
        RIG_TEST(ud_send_with_immediate_over_ipv6),
        RIG_TEST(ud_send_with_a_controlled_qkey_uses_the_qps_own),
        RIG_TEST(ud_send_is_a_copy),
        RIG_TEST(ud_send_inline_and_from_four_pieces),
        RIG_TEST(ud_send_that_fails_fails_alone),
        RIG_TEST(ud_send_over_another_domains_handle_fails),
        RIG_TEST(ud_without_room_at_the_port_goes_on_later),
        RIG_TEST(ud_refuses_what_only_a_connection_can),
        RIG_TEST(ud_receive_has_the_network_header_in_front),
        RIG_TEST(ud_receive_over_ipv6_has_its_header),
        RIG_TEST(ud_receive_that_cannot_be_is_dropped),
        RIG_TEST(ud_receive_is_from_anybody),
        RIG_TEST(ud_receive_with_a_bad_lkey_ends_in_error_alone),
        RIG_TEST(ud_in_error_is_flushed),
        RIG_TEST(qp1_is_one_and_has_its_number),
        RIG_TEST(ah_tells_when_its_way_is_found),
        RIG_TEST(ah_tells_that_there_is_no_way),
        RIG_TEST(ah_without_route_or_room_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
