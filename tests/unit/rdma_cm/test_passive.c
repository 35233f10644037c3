/*
 * The passive side of a connection (IBA 12.9): listeners, requests, accept, reject. Requests that
 * come again, that are stale, or too many: test_passive_again.c.
 */
#include "tests/unit/rdma_cm/rig_test.h"

/* --- listeners ----------------------------------------------------------------------------- */

static void listen_checks_what_it_is_given(void **state)
{
    (void)state;
    struct net_addr any = {{0}};
    struct net_addr foreign = fake_ipv4(200);
    struct rdma_device *device = &rig.fake.device;
    struct rdma_cm_id *id = NULL;
    struct rdma_cm_id *other = NULL;

    assert_int_equal(rdma_cm_listen(device, &any, 0, 1, rig_on_event, NULL, &id), STATUS_INVALID);
    assert_int_equal(rdma_cm_listen(device, &any, 1, 0, rig_on_event, NULL, &id), STATUS_INVALID);
    assert_int_equal(rdma_cm_listen(device, &any, 1, 65, rig_on_event, NULL, &id), STATUS_INVALID);
    assert_int_equal(rdma_cm_listen(device, &foreign, 1, 1, rig_on_event, NULL, &id),
                     STATUS_INVALID);
    assert_int_equal(rdma_cm_listen(device, &rig.us, 1, 64, rig_on_event, NULL, &id), STATUS_OK);
    assert_int_equal(rdma_cm_listen(device, &rig.us, 1, 64, rig_on_event, NULL, &other),
                     STATUS_EXISTS);
    assert_int_equal(rdma_cm_listen(device, &any, 1, 64, rig_on_event, NULL, &other),
                     STATUS_EXISTS);
    assert_int_equal(
        rdma_cm_listen(device, &rig.fake.addrs[2].addr, 1, 1, rig_on_event, NULL, &other),
        STATUS_OK);
    rdma_cm_destroy(other);
    assert_int_equal(rdma_cm_listen(device, &any, 2, 1, rig_on_event, NULL, &other), STATUS_OK);
    rdma_cm_destroy(id);
    rdma_cm_destroy(other);
    assert_int_equal(rdma_cm_listen(device, &any, 1, 1, rig_on_event, NULL, &id), STATUS_OK);
    rdma_cm_destroy(id);
}

static void listen_with_the_pool_empty_is_refused(void **state)
{
    (void)state;
    struct net_addr any = {{0}};
    struct rdma_cm_id *ids[RIG_IDS];
    struct rdma_cm_id *one_more = NULL;

    for (uint16_t i = 0; i < RIG_IDS; i++) {
        assert_int_equal(rdma_cm_listen(&rig.fake.device, &any, (uint16_t)(i + 1), 1, rig_on_event,
                                        NULL, &ids[i]),
                         STATUS_OK);
    }
    assert_int_equal(rdma_cm_listen(&rig.fake.device, &any, 99, 1, rig_on_event, NULL, &one_more),
                     STATUS_NO_SPACE);
    for (uint16_t i = 0; i < RIG_IDS; i++) {
        rdma_cm_destroy(ids[i]);
    }
}

static void request_for_no_listener_is_refused(void **state)
{
    (void)state;
    struct cm_mad req = rig_req(&rig);

    rig_from_peer(&rig, &req);
    rig_expect_refusal(&rig, RDMA_CM_REJ_INVALID_SERVICE_ID);
    struct rdma_cm_id *id = NULL;
    assert_int_equal(rdma_cm_listen(&rig.fake.device, &rig.fake.addrs[2].addr, RIG_PORT, 1,
                                    rig_on_event, NULL, &id),
                     STATUS_OK);
    rig_from_peer(&rig, &req); /* at another address of ours */
    rig_expect_refusal(&rig, RDMA_CM_REJ_INVALID_SERVICE_ID);
    rdma_cm_destroy(id);
    assert_int_equal(RIG_STAT(&rig, refused), 2);
}

static void request_that_cannot_be_served_is_refused(void **state)
{
    (void)state;
    struct rdma_cm_id *listener = rig_listen(&rig, 4);
    const struct cm_mad good = rig_req(&rig);
    struct cm_mad req = good;

    req.req.service_id = be64_make(RIG_PORT);
    rig_from_peer(&rig, &req);
    rig_expect_refusal(&rig, RDMA_CM_REJ_INVALID_SERVICE_ID);
    req = good;
    req.req.remote_response |= 1 << 1; /* UC */
    rig_from_peer(&rig, &req);
    rig_expect_refusal(&rig, RDMA_CM_REJ_INVALID_TRANSPORT);
    req = good;
    req.req.max_retries |= 1; /* an extended transport */
    rig_from_peer(&rig, &req);
    rig_expect_refusal(&rig, RDMA_CM_REJ_INVALID_TRANSPORT);
    for (uint8_t mtu = 0; mtu < 16; mtu++) {
        if (mtu >= RDMA_MTU_256 && mtu <= RDMA_MTU_4096) {
            continue;
        }
        req = good;
        req.req.mtu = (uint8_t)(mtu << 4);
        rig_from_peer(&rig, &req);
        rig_expect_refusal(&rig, RDMA_CM_REJ_INVALID_MTU);
    }
    rig.fake.device.attr.path_mtu_max = RDMA_MTU_512;
    rig_from_peer(&rig, &good);
    rig_expect_refusal(&rig, RDMA_CM_REJ_INVALID_MTU);
    rig.fake.device.attr.path_mtu_max = RDMA_MTU_4096;
    static const uint32_t offsets[] = {
        offsetof(struct cm_req, pkey) + 1,
        offsetof(struct cm_req, primary_local_gid) + 15,
        offsetof(struct cm_req, primary_remote_gid) + 14,
        offsetof(struct cm_req, private_data) + 0, /* version of the IP CM header */
        offsetof(struct cm_req, private_data) + 1, /* of IP */
        offsetof(struct cm_req, private_data) + 4 + 15,
        offsetof(struct cm_req, private_data) + 20 + 3,
    };
    for (uint32_t i = 0; i < ARRAY_SIZE(offsets); i++) {
        req = good;
        ((uint8_t *)&req.req)[offsets[i]] ^= 0x30;
        rig_from_peer(&rig, &req);
        rig_expect_refusal(&rig, RDMA_CM_REJ_UNSUPPORTED);
    }
    for (uint32_t qpn = 0; qpn < 2; qpn++) {
        req = good;
        req.req.local_qpn = be24_make(qpn);
        rig_from_peer(&rig, &req);
        rig_expect_refusal(&rig, RDMA_CM_REJ_UNSUPPORTED);
    }
    rdma_cm_destroy(listener);
}

/* --- accept -------------------------------------------------------------------------------- */

static void request_tells_what_the_peer_wants(void **state)
{
    (void)state;
    struct rdma_cm_id *listener;
    struct rdma_cm_id *id = rig_request(&rig, &listener);
    const struct rig_event *e = &rig.events[0];

    assert_int_equal(e->event.responder_resources, 4);
    assert_int_equal(e->event.initiator_depth, 8);
    assert_int_equal(e->event.private_bytes, RDMA_CM_REQ_PRIVATE_BYTES);
    for (uint8_t i = 0; i < 56; i++) {
        assert_int_equal(e->data[i], i + 1);
    }
    assert_ptr_equal(id->ctx, &rig); /* the listener's, until its owner changes it */
    assert_int_equal(id->peer_port, 50000);
    assert_int_equal(id->local_port, RIG_PORT);
    rdma_cm_destroy(listener);
    rdma_cm_destroy(id);
}

static void accept_moves_the_qp_before_the_reply(void **state)
{
    (void)state;
    struct rdma_cm_id *listener;
    struct rdma_cm_id *id = rig_request(&rig, &listener);
    struct rdma_cm_param param = rig_param(&rig);

    param.responder_resources = 3;
    param.rnr_retry_count = 2;
    assert_int_equal(rdma_cm_accept(id, &param), STATUS_OK);
    assert_int_equal(rig.qp.qp.state, RDMA_QP_RTS);
    assert_int_equal(rig.fake.sent_count, 0); /* it leaves in the poller's turn */
    struct cm_mad rep = *rig_expect_sent(&rig, CM_ATTR_REP);
    const struct rdma_qp_attr *rtr = &rig.qp.moves[1].attr;
    const struct rdma_qp_attr *rts = &rig.qp.moves[2].attr;

    assert_int_equal(rtr->path_mtu, RDMA_MTU_1024);
    assert_int_equal(rtr->dest_qpn, RIG_PEER_QPN);
    assert_int_equal(rtr->rq_psn, be24_get(rep.rep.starting_psn));
    assert_int_equal(rtr->max_dest_rd_atomic, 3);
    assert_int_equal(rtr->access, RDMA_ACCESS_REMOTE_WRITE);
    assert_memory_equal(&rtr->av.dgid, &rig.peer, 16);
    assert_int_equal(rtr->av.sgid_index, 1);
    assert_int_equal(rts->sq_psn, RIG_PEER_PSN);
    assert_int_equal(rts->timeout, 17);
    assert_int_equal(rts->retry_cnt, 7);
    assert_int_equal(rts->rnr_retry, 6);
    assert_int_equal(rts->max_rd_atomic, 8);
    assert_int_equal(rep.rep.responder_resources, 3);
    assert_int_equal(rep.rep.initiator_depth, 8);
    assert_int_equal(rep.rep.rnr_retry, 2 << 5);
    assert_int_equal(be24_get(rep.rep.local_qpn), 0x11);
    assert_int_equal(be32_get(rep.rep.remote_comm_id), RIG_PEER_ID);
    assert_memory_equal(rep.rep.private_data, "hello\0", 6);
    assert_int_equal(rdma_cm_accept(id, &param), STATUS_INVALID);
    rdma_cm_destroy(listener);
    rdma_cm_destroy(id);
}

static void accept_says_that_there_is_a_shared_queue(void **state)
{
    (void)state;
    struct rdma_cm_id *listener;
    struct rdma_cm_id *id = rig_request(&rig, &listener);
    struct rdma_cm_param param = rig_param(&rig);
    struct rdma_srq srq = {0};

    rig.qp.qp.srq = &srq;
    assert_int_equal(rdma_cm_qp_init(id, &rig.qp.qp, 0), STATUS_OK);
    assert_int_equal(rdma_cm_accept(id, &param), STATUS_OK);
    assert_int_equal(rig_expect_sent(&rig, CM_ATTR_REP)->rep.rnr_retry, 7 << 5 | 1 << 4);
    rdma_cm_destroy(listener);
    rdma_cm_destroy(id);
}

static void accept_that_fails_leaves_the_request(void **state)
{
    (void)state;
    struct rdma_cm_id *listener;
    struct rdma_cm_id *id = rig_request(&rig, &listener);
    struct rdma_cm_param param = rig_param(&rig);

    rig.fake.modify_status = STATUS_NOT_FOUND;
    rig.fake.modify_state = RDMA_QP_RTR;
    assert_int_equal(rdma_cm_accept(id, &param), STATUS_NOT_FOUND);
    assert_int_equal(id->state, RDMA_CM_REQ_RCVD);
    rig.fake.modify_status = STATUS_OK;
    assert_int_equal(rdma_cm_accept(id, &param), STATUS_OK); /* what was agreed on is unspoilt */
    const struct cm_mad *rep = rig_expect_sent(&rig, CM_ATTR_REP);
    assert_int_equal(rep->rep.responder_resources, 4);
    assert_int_equal(rep->rep.initiator_depth, 8);
    rdma_cm_destroy(listener);
    rdma_cm_destroy(id);
}

/* Values of the peer that would stop or starve us are taken with a bound. */
static void times_of_the_peer_are_bounded(void **state)
{
    (void)state;
    static const struct {
        uint8_t wish;
        uint8_t taken;
    } cases[] = {
        {0, CM_ACK_TIMEOUT_MIN}, {3, CM_ACK_TIMEOUT_MIN}, {14, 14}, {31, CM_ACK_TIMEOUT_MAX}};

    for (uint32_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct cm_mad req = rig_req(&rig);
        struct rdma_cm_param param = rig_param(&rig);
        struct rdma_cm_id *listener = rig_listen(&rig, 1);
        req.req.primary_ack_timeout = (uint8_t)(cases[i].wish << 3);
        req.req.local_response = 31 << 3;
        req.req.remote_response = 31 << 3;
        req.req.max_retries = 0;
        rig_from_peer(&rig, &req);
        rig_expect_event(&rig, NULL, RDMA_CM_EVENT_REQUEST);
        struct rdma_cm_id *id = rig.events[0].id;
        fake_qp_init(&rig.fake, &rig.qp, 0x20 + i);
        assert_int_equal(rdma_cm_accept(id, &param), STATUS_OK);
        assert_int_equal(rig.qp.moves[2].attr.timeout, cases[i].taken);
        (void)rig_expect_sent(&rig, CM_ATTR_REP);
        rig_pass(5 * NS_PER_S); /* the peer's wish, but not more than we grant */
        rig_expect_event(&rig, id, RDMA_CM_EVENT_DISCONNECTED);
        rdma_cm_destroy(id);
        rdma_cm_destroy(listener);
        rig_pass(13 * NS_PER_S); /* time wait */
        fake_clear(&rig.fake);
    }
}

/* --- until the peer confirms --------------------------------------------------------------- */

static void rep_without_an_rtu_is_repeated_and_given_up(void **state)
{
    (void)state;
    struct rdma_cm_id *listener;
    struct rdma_cm_id *id = rig_accept(&rig, &listener);
    struct cm_mad rep = *rig_expect_sent(&rig, CM_ATTR_REP);

    for (uint32_t i = 0; i < 15; i++) {
        rig_pass(RIG_WAIT_NS - NS_PER_MS);
        rig_expect_nothing_sent(&rig);
        rig_pass(2 * NS_PER_MS);
        assert_memory_equal(rig_expect_sent(&rig, CM_ATTR_REP), &rep, sizeof(rep));
    }
    rig_pass(RIG_WAIT_NS + NS_PER_MS);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_DISCONNECTED);
    const struct cm_mad *rej = rig_expect_sent(&rig, CM_ATTR_REJ);
    assert_int_equal(be16_get(rej->rej.reason), RDMA_CM_REJ_TIMEOUT);
    assert_int_equal(be32_get(rej->rej.remote_comm_id), RIG_PEER_ID);
    assert_int_equal(rig.qp.qp.state, RDMA_QP_ERR);
    assert_int_equal(id->state, RDMA_CM_TIMEWAIT);
    rig_pass(NS_PER_S);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_TIMEWAIT_EXIT);
    rdma_cm_destroy(id);
    rdma_cm_destroy(listener);
}

/* 11.6.3, 12.9: the first packet says what the lost RTU would have said. */
static void first_packet_establishes_when_the_rtu_is_lost(void **state)
{
    (void)state;
    struct rdma_cm_id *listener;
    struct rdma_cm_id *id = rig_accept(&rig, &listener);
    struct fake_qp other;

    struct cm_mad rtu = rig_answer(rig_expect_sent(&rig, CM_ATTR_REP), CM_ATTR_RTU);
    fake_qp_init(&rig.fake, &other, 0x99);
    rdma_cm_soft_comm_est(&rig.fake.device, &other.qp);
    assert_int_equal(id->state, RDMA_CM_REP_SENT);
    rdma_cm_soft_comm_est(&rig.fake.device, &rig.qp.qp);
    assert_int_equal(id->state, RDMA_CM_ESTABLISHED);
    assert_int_equal(rig.event_count, 0);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_ESTABLISHED);
    assert_null(rig.events[0].event.private_data);
    rdma_cm_soft_comm_est(&rig.fake.device, &rig.qp.qp);
    rig_from_peer(&rig, &rtu);
    rig_expect_no_event(&rig);
    assert_int_equal(RIG_STAT(&rig, established), 1);
    rig_pass(100 * NS_PER_S);
    rig_expect_nothing_sent(&rig);
    rdma_cm_destroy(id);
    rdma_cm_destroy(listener);
}

static void mra_extends_the_time_for_the_rtu(void **state)
{
    (void)state;
    struct rdma_cm_id *listener;
    struct rdma_cm_id *id = rig_accept(&rig, &listener);
    struct cm_mad rep = *rig_expect_sent(&rig, CM_ATTR_REP);
    struct cm_mad mra = rig_answer(&rep, CM_ATTR_MRA);

    mra.mra.message = CM_MESSAGE_REP << 6;
    mra.mra.service = 23 << 3;
    rig_from_peer(&rig, &mra);
    rig_pass(cm_time_ns(23));
    rig_expect_nothing_sent(&rig);
    rig_pass(NS_PER_S);
    (void)rig_expect_sent(&rig, CM_ATTR_REP);
    struct cm_mad rtu = rig_answer(&rep, CM_ATTR_RTU);
    rig_from_peer(&rig, &rtu);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_ESTABLISHED);
    rdma_cm_destroy(id);
    rdma_cm_destroy(listener);
}

static void rejection_of_the_reply_is_a_disconnect(void **state)
{
    (void)state;
    struct rdma_cm_id *listener;
    struct rdma_cm_id *id = rig_accept(&rig, &listener);
    struct cm_mad rej = rig_answer(rig_expect_sent(&rig, CM_ATTR_REP), CM_ATTR_REJ);

    rej.rej.reason = be16_make(RDMA_CM_REJ_INVALID_COMM_ID);
    rig_from_peer(&rig, &rej);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_DISCONNECTED);
    assert_int_equal(rig.events[0].event.reason, RDMA_CM_REJ_INVALID_COMM_ID);
    assert_int_equal(rig.qp.qp.state, RDMA_QP_ERR);
    rig_pass(100 * NS_PER_S);
    rig_expect_nothing_sent(&rig);
    rdma_cm_destroy(id);
    rdma_cm_destroy(listener);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        TEST(listen_checks_what_it_is_given),
        TEST(listen_with_the_pool_empty_is_refused),
        TEST(request_for_no_listener_is_refused),
        TEST(request_that_cannot_be_served_is_refused),
        TEST(request_tells_what_the_peer_wants),
        TEST(accept_moves_the_qp_before_the_reply),
        TEST(accept_says_that_there_is_a_shared_queue),
        TEST(accept_that_fails_leaves_the_request),
        TEST(times_of_the_peer_are_bounded),
        TEST(rep_without_an_rtu_is_repeated_and_given_up),
        TEST(first_packet_establishes_when_the_rtu_is_lost),
        TEST(mra_extends_the_time_for_the_rtu),
        TEST(rejection_of_the_reply_is_a_disconnect),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
