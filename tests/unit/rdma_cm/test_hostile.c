/*
 * What a peer, or somebody who pretends to be one, must not bring about: datagrams that cannot be,
 * messages from elsewhere, floods; and too few buffers.
 */
#include "tests/unit/rdma_cm/rig_test.h"

static void malformed_datagrams_are_dropped_and_counted(void **state)
{
    (void)state;
    struct rdma_cm_id *listener = rig_listen(&rig, 4);
    const struct cm_mad good = rig_req(&rig);
    static const uint32_t lengths[] = {0, 1, 24, 255, 257, 4096};
    uint32_t count = 0;

    for (uint32_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        fake_inject(&rig.fake, &rig.peer, &rig.us, &good, lengths[i]);
        rig_turn();
        assert_int_equal(RIG_STAT(&rig, rx_malformed), ++count);
    }
    for (uint32_t byte = 0; byte < 4; byte++) { /* versions, class, method */
        for (uint32_t bit = 0; bit < 8; bit++) {
            struct cm_mad mad = good;
            ((uint8_t *)&mad)[byte] ^= (uint8_t)(1u << bit);
            rig_from_peer(&rig, &mad);
            assert_int_equal(RIG_STAT(&rig, rx_malformed), ++count);
        }
    }
    rig_expect_no_event(&rig);
    rig_expect_nothing_sent(&rig);
    rdma_cm_destroy(listener);
}

static void unknown_attributes_are_dropped_and_counted(void **state)
{
    (void)state;
    struct rdma_cm_id *listener = rig_listen(&rig, 4);
    struct cm_mad mad = rig_req(&rig);
    static const uint16_t attributes[] = {0, 1, 0x0f, 0x17, 0x18, 0x19, 0x1a, 0x0110, 0xffff};

    for (uint32_t i = 0; i < ARRAY_SIZE(attributes); i++) {
        mad.header.attribute_id = be16_make(attributes[i]);
        rig_from_peer(&rig, &mad);
    }
    assert_int_equal(RIG_STAT(&rig, rx_unknown), ARRAY_SIZE(attributes));
    rig_expect_no_event(&rig);
    rig_expect_nothing_sent(&rig);
    rdma_cm_destroy(listener);
}

/* Only QP1 speaks for a node, and only to an address of ours, with a header of IPv4 or IPv6. */
static void datagrams_from_elsewhere_are_dropped(void **state)
{
    (void)state;
    struct rdma_cm_id *listener = rig_listen(&rig, 4);
    struct cm_mad mad = rig_req(&rig);
    struct net_addr foreign = fake_ipv4(99);
    struct fake *fake = &rig.fake;

    fake_inject(fake, &rig.peer, &foreign, &mad, sizeof(mad));
    fake_inject(fake, &rig.peer, &rig.us, &mad, sizeof(mad));
    fake->cqes[(fake->cq_tail - 1) % FAKE_CQES].src_qpn = 2;
    fake_inject(fake, &rig.peer, &rig.us, &mad, sizeof(mad));
    fake->cqes[(fake->cq_tail - 1) % FAKE_CQES].flags = 0;
    fake_inject(fake, &rig.peer, &rig.us, &mad, sizeof(mad));
    fake->cqes[(fake->cq_tail - 1) % FAKE_CQES].len_bytes = 39;
    fake_inject(fake, &rig.peer, &rig.us, &mad, sizeof(mad));
    fake->recvs[(fake->recv_head - 1) % FAKE_RECVS].memory[20] = 0x55;
    rig_turn();
    assert_int_equal(RIG_STAT(&rig, rx_malformed), 5);
    fake_inject(fake, &rig.peer, &rig.us, &mad, sizeof(mad));
    fake->cqes[(fake->cq_tail - 1) % FAKE_CQES].status = RDMA_WC_LOC_LEN_ERR;
    rig_expect_no_event(&rig);
    rig_expect_nothing_sent(&rig);
    rdma_cm_destroy(listener);
}

/* An IPv4 header stands in the last 20 bytes; what IPv6 left before them is no header. */
static void ipv4_after_ipv6_in_the_same_buffer_is_ipv4(void **state)
{
    (void)state;
    struct cm_mad mad = rig_req(&rig);
    struct net_addr six = {{0x20, 0x01, 0x0d, 0xb8, [15] = 9}};

    for (uint32_t i = 0; i < CM_RX_MADS; i++) {
        fake_inject(&rig.fake, &six, &rig.fake.addrs[2].addr, &mad, sizeof(mad));
        rig_turn();
        fake_clear(&rig.fake);
    }
    for (uint32_t i = 0; i < CM_RX_MADS; i++) {
        rig_from_peer(&rig, &mad);
        (void)rig_expect_sent(&rig, CM_ATTR_REJ); /* to the IPv4 address of the peer */
    }
}

/* Every message of a connection counts only when it comes from its peer and names both numbers. */
static void messages_of_others_do_not_touch_a_connection(void **state)
{
    (void)state;
    struct cm_mad req;
    struct rdma_cm_id *id = rig_active(&rig, &req);
    struct net_addr attacker = fake_ipv4(66);
    uint64_t wrong = 0;

    for (uint16_t attribute = CM_ATTR_MRA; attribute <= CM_ATTR_DREP; attribute++) {
        struct cm_mad mad = rig_answer(&req, attribute);
        if (attribute == CM_ATTR_DREQ) {
            mad.dreq.remote_qpn = be24_make(0x11);
        }
        fake_inject(&rig.fake, &attacker, &rig.us, &mad, sizeof(mad));
        rig_turn();
        assert_int_equal(RIG_STAT(&rig, rx_wrong_peer), ++wrong);
        mad.ids.local_comm_id = be32_make(RIG_PEER_ID ^ 1);
        rig_from_peer(&rig, &mad);
        assert_int_equal(id->state, RDMA_CM_ESTABLISHED);
        mad.ids.local_comm_id = be32_make(RIG_PEER_ID);
        mad.ids.remote_comm_id = be32_make(be32_get(req.ids.local_comm_id) + 1);
        rig_from_peer(&rig, &mad);
        assert_int_equal(id->state, RDMA_CM_ESTABLISHED);
        rig_expect_no_event(&rig);
    }
    /* A REJ that names none of our numbers finds a connection by the peer's, and only its own. */
    struct cm_mad rej = rig_answer(&req, CM_ATTR_REJ);
    rej.rej.remote_comm_id = be32_make(0);
    rej.rej.reason = be16_make(RDMA_CM_REJ_TIMEOUT);
    fake_inject(&rig.fake, &attacker, &rig.us, &rej, sizeof(rej));
    rig_expect_no_event(&rig);
    assert_int_equal(id->state, RDMA_CM_ESTABLISHED);
    rdma_cm_destroy(id);
}

/* 12.9.8.3.1: a request with the QPN of a connection shows that one to be dead, but only when it
 * can be a request: its sender's address in it, a service and an MTU that we have. */
static void bad_request_with_the_qpn_of_a_connection_is_only_rejected(void **state)
{
    (void)state;
    struct rdma_cm_id *listener;
    struct rdma_cm_id *id = rig_passive(&rig, &listener);
    struct cm_mad reqs[4];
    static const uint16_t reasons[] = {RDMA_CM_REJ_INVALID_SERVICE_ID, RDMA_CM_REJ_UNSUPPORTED,
                                       RDMA_CM_REJ_INVALID_MTU, RDMA_CM_REJ_UNSUPPORTED};

    for (uint32_t i = 0; i < ARRAY_SIZE(reqs); i++) {
        reqs[i] = rig_req(&rig);
        reqs[i].header.tid = be64_make(RIG_PEER_TID + 1 + i);
        reqs[i].req.local_comm_id = be32_make(RIG_PEER_ID + 1 + i);
    }
    reqs[0].req.service_id = be64_make(0x1234);
    reqs[1].req.primary_local_gid[15] ^= 1;
    reqs[2].req.mtu = 7 << 4;
    reqs[3].req.local_comm_id = be32_make(RIG_PEER_ID); /* found by this, not by the QPN */
    reqs[3].req.private_data[0] = 1;                    /* a version of the IP header unknown */
    for (uint32_t i = 0; i < ARRAY_SIZE(reqs); i++) {
        rig_from_peer(&rig, &reqs[i]);
        const struct cm_mad *rej = rig_expect_sent(&rig, CM_ATTR_REJ);
        assert_int_equal(be16_get(rej->rej.reason), reasons[i]);
        rig_expect_no_event(&rig);
        assert_int_equal(id->state, RDMA_CM_ESTABLISHED);
    }
    assert_int_equal(RIG_STAT(&rig, rx_stale), 0);
    rdma_cm_destroy(id);
    rdma_cm_destroy(listener);
}

/* Messages that mean nothing in a state are counted and change nothing. */
static void messages_out_of_order_change_nothing(void **state)
{
    (void)state;
    struct cm_mad req;
    struct rdma_cm_id *resolved = rig_resolve(&rig);
    struct cm_mad to = rig_req(&rig);

    to.ids.local_comm_id = be32_make(cm_conn_of(resolved)->comm_id);
    for (uint16_t attribute = CM_ATTR_MRA; attribute <= CM_ATTR_DREP; attribute++) {
        struct cm_mad mad = rig_answer(&to, attribute);
        rig_from_peer(&rig, &mad);
        assert_int_equal(resolved->state, RDMA_CM_RESOLVED);
    }
    rig_expect_nothing_sent(&rig);
    rdma_cm_destroy(resolved);

    struct rdma_cm_id *id = rig_connect(&rig, &req);
    static const uint16_t too_early[] = {CM_ATTR_RTU, CM_ATTR_DREP};
    for (uint32_t i = 0; i < 2; i++) {
        struct cm_mad mad = rig_answer(&req, too_early[i]);
        rig_from_peer(&rig, &mad);
        assert_int_equal(id->state, RDMA_CM_REQ_SENT);
    }
    rig_expect_nothing_sent(&rig);
    struct cm_mad rep = rig_rep(&req);
    rep.rep.local_qpn = be24_make(1); /* nobody's QP */
    rig_from_peer(&rig, &rep);
    assert_int_equal(id->state, RDMA_CM_REQ_SENT);
    rig_expect_nothing_sent(&rig);
    rep = rig_rep(&req);
    rig_from_peer(&rig, &rep);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_ESTABLISHED);
    (void)rig_expect_sent(&rig, CM_ATTR_RTU);
    static const uint16_t too_late[] = {CM_ATTR_MRA, CM_ATTR_RTU, CM_ATTR_DREP};
    for (uint32_t i = 0; i < 3; i++) {
        struct cm_mad mad = rig_answer(&req, too_late[i]);
        rig_from_peer(&rig, &mad);
        assert_int_equal(id->state, RDMA_CM_ESTABLISHED);
    }
    rig_expect_nothing_sent(&rig);
    struct cm_mad dreq = rig_answer(&req, CM_ATTR_DREQ);
    dreq.dreq.remote_qpn = be24_make(0x11);
    rig_from_peer(&rig, &dreq);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_DISCONNECTED);
    (void)rig_expect_sent(&rig, CM_ATTR_DREP);
    for (uint16_t attribute = CM_ATTR_MRA; attribute <= CM_ATTR_DREP; attribute++) {
        struct cm_mad mad = rig_answer(&req, attribute);
        if (attribute != CM_ATTR_DREQ) {
            rig_from_peer(&rig, &mad);
            assert_int_equal(id->state, RDMA_CM_TIMEWAIT);
        }
    }
    rig_expect_nothing_sent(&rig);
    rdma_cm_destroy(id);
}

/* Addresses that nobody has: strangers' answers wait for them in a few buffers only, and a
 * connection that is there still gets its messages out. */
static void strangers_that_cannot_be_found_hold_few_buffers(void **state)
{
    (void)state;
    struct cm_mad req;
    struct rdma_cm_id *id = rig_connect(&rig, &req);
    struct cm_mad stray = rig_req(&rig);

    rig.fake.ah_state = NET_PATH_RESOLVING;
    for (uint8_t i = 0; i < 60; i++) {
        struct net_addr src = fake_ipv4((uint8_t)(100 + i));
        fake_inject(&rig.fake, &src, &rig.us, &stray, sizeof(stray));
        rig_turn();
    }
    assert_int_equal(rig.fake.ah_count, CM_STRAYS_MAX + 1);
    assert_int_equal(RIG_STAT(&rig, tx_dropped), 60 - CM_STRAYS_MAX);
    struct cm_mad rep = rig_rep(&req);
    rig_from_peer(&rig, &rep);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_ESTABLISHED);
    (void)rig_expect_sent(&rig, CM_ATTR_RTU);
    for (uint32_t i = 0; i < FAKE_AHS; i++) {
        struct rdma_ah *ah = &rig.fake.ahs[i].ah;
        if (rig.fake.ahs[i].in_use && ah->state == NET_PATH_RESOLVING) {
            ah->state = i % 2 == 0 ? NET_PATH_FAILED : NET_PATH_READY;
            ah->changed(ah);
        }
    }
    rig_turn();
    assert_int_equal(rig.fake.sent_count, CM_STRAYS_MAX / 2);
    assert_int_equal(rig.fake.ah_count, 1);
    rdma_cm_destroy(id);
}

/* The answers of a flood have no buffers left: dropped. Connections wait, and lose nothing. */
static void sends_wait_for_buffers(void **state)
{
    (void)state;
    struct cm_mad stray = rig_req(&rig);
    struct cm_mad req;
    struct rdma_cm_id *id = rig_connect(&rig, &req);
    struct cm_mad rep = rig_rep(&req);

    rig.fake.holds_sends = true;
    for (uint32_t i = 0; i < 2 * CM_TX_MADS; i++) {
        rig_from_peer(&rig, &stray);
    }
    assert_int_equal(rig.fake.sent_count, CM_TX_MADS);
    assert_int_equal(RIG_STAT(&rig, tx_dropped), CM_TX_MADS);
    rig_from_peer(&rig, &rep);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_ESTABLISHED);
    assert_int_equal(rig.fake.sent_count, CM_TX_MADS);
    rig.fake.holds_sends = false;
    fake_clear(&rig.fake);
    fake_release(&rig.fake);
    (void)rig_expect_sent(&rig, CM_ATTR_RTU);
    rdma_cm_destroy(id);
}

/* IBA table 92: an error puts the send queue of QP1 into SQE, from where CM takes it back. */
static void send_that_fails_does_not_stop_qp1(void **state)
{
    (void)state;
    struct cm_mad stray = rig_req(&rig);

    rig.fake.send_wc_status = RDMA_WC_GENERAL_ERR;
    rig_from_peer(&rig, &stray);
    assert_int_equal(RIG_STAT(&rig, tx_errors), 1);
    rig.fake.qp1.qp.state = RDMA_QP_RTS;
    rig.fake.holds_sends = true;
    rig_from_peer(&rig, &stray);
    rig.fake.qp1.qp.state = RDMA_QP_SQE;
    fake_release(&rig.fake);
    rig_turn();
    assert_int_equal(rig.fake.qp1.qp.state, RDMA_QP_RTS);
    assert_int_equal(RIG_STAT(&rig, tx_errors), 2);
    rig.fake.holds_sends = false;
    rig.fake.send_wc_status = RDMA_WC_SUCCESS;
    rig_from_peer(&rig, &stray);
    assert_int_equal(RIG_STAT(&rig, tx_errors), 2);
}

/* --- configuration ------------------------------------------------------------------------- */

static void config_out_of_range_is_refused(void **state)
{
    (void)state;
    static struct fake fake;
    struct rdma_cm_soft_config configs[8];
    ALIGNED(64) static uint8_t memory[64];

    fake_init(&fake, 1);
    for (uint32_t i = 0; i < ARRAY_SIZE(configs); i++) {
        configs[i] = fake_config(&fake, 8);
    }
    configs[0].id_count = 1;
    configs[1].id_count = 16385;
    configs[2].packet_lifetime = 21;
    configs[3].ack_delay = 21;
    configs[4].response_timeout = 9;
    configs[5].max_retries = 16;
    configs[6].addr = NULL;
    configs[7].random = NULL;
    for (uint32_t i = 0; i < ARRAY_SIZE(configs); i++) {
        assert_int_equal(rdma_cm_soft_init(memory, &fake.device, &configs[i]), STATUS_INVALID);
        assert_null(fake.device.cm_ops);
    }
}

static void qp1_is_brought_up_with_its_key(void **state)
{
    (void)state;
    const struct fake_qp *qp1 = &rig.fake.qp1;

    assert_int_equal(qp1->move_count, 3);
    assert_int_equal(qp1->moves[0].mask, RDMA_QP_STATE | RDMA_QP_QKEY);
    assert_int_equal(qp1->moves[0].attr.qkey, 0x80010000);
    assert_int_equal(qp1->moves[1].mask, RDMA_QP_STATE);
    assert_int_equal(qp1->moves[2].mask, RDMA_QP_STATE | RDMA_QP_SQ_PSN);
    assert_int_equal(qp1->qp.state, RDMA_QP_RTS);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        TEST(malformed_datagrams_are_dropped_and_counted),
        TEST(unknown_attributes_are_dropped_and_counted),
        TEST(datagrams_from_elsewhere_are_dropped),
        TEST(ipv4_after_ipv6_in_the_same_buffer_is_ipv4),
        TEST(messages_of_others_do_not_touch_a_connection),
        TEST(bad_request_with_the_qpn_of_a_connection_is_only_rejected),
        TEST(messages_out_of_order_change_nothing),
        TEST(strangers_that_cannot_be_found_hold_few_buffers),
        TEST(sends_wait_for_buffers),
        TEST(send_that_fails_does_not_stop_qp1),
        TEST(config_out_of_range_is_refused),
        TEST(qp1_is_brought_up_with_its_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
