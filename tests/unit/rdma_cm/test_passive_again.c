/*
 * The passive side of a connection (IBA 12.9): requests that come again, stale connections, and
 * bounds.
 */
#include "tests/unit/rdma_cm/rig_test.h"

/* --- repeated requests --------------------------------------------------------------------- */

/* One request for each state of its connection; the peer asks again and gets the same answer. */
static void request_again_is_answered_as_before(void **state)
{
    (void)state;
    struct rdma_cm_id *listener;
    struct cm_mad req = rig_req(&rig);
    struct rdma_cm_id *id = rig_request(&rig, &listener);

    rig_from_peer(&rig, &req); /* undecided: message receipt acknowledged */
    const struct cm_mad *mra = rig_expect_sent(&rig, CM_ATTR_MRA);
    assert_int_equal(mra->mra.message >> 6, CM_MESSAGE_REQ);
    assert_int_equal(mra->mra.service >> 3, 24);
    assert_int_equal(be64_get(mra->header.tid), RIG_PEER_TID);
    rig_expect_no_event(&rig);

    struct rdma_cm_param param = rig_param(&rig);
    assert_int_equal(rdma_cm_accept(id, &param), STATUS_OK);
    struct cm_mad rep = *rig_expect_sent(&rig, CM_ATTR_REP);
    rig_from_peer(&rig, &req);
    assert_memory_equal(rig_expect_sent(&rig, CM_ATTR_REP), &rep, sizeof(rep));

    struct cm_mad rtu = rig_answer(&rep, CM_ATTR_RTU);
    rig_from_peer(&rig, &rtu);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_ESTABLISHED);
    rig_from_peer(&rig, &req); /* one that took a detour */
    rig_from_peer(&rig, &rtu);
    rig_expect_nothing_sent(&rig);

    assert_int_equal(rdma_cm_disconnect(id), STATUS_OK);
    (void)rig_expect_sent(&rig, CM_ATTR_DREQ);
    rig_from_peer(&rig, &req);
    rig_expect_nothing_sent(&rig);
    struct cm_mad drep = rig_answer(&rep, CM_ATTR_DREP);
    rig_from_peer(&rig, &drep);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_DISCONNECTED);
    rig_from_peer(&rig, &req); /* time wait */
    rig_expect_refusal(&rig, RDMA_CM_REJ_STALE_CONN);
    rdma_cm_destroy(id);
    rig_from_peer(&rig, &req);
    rig_expect_refusal(&rig, RDMA_CM_REJ_STALE_CONN);
    assert_int_equal(RIG_STAT(&rig, rx_duplicates), 7);
    rdma_cm_destroy(listener);
}

static void request_undecided_for_long_gets_time(void **state)
{
    (void)state;
    struct rdma_cm_id *listener;
    struct rdma_cm_id *id = rig_request(&rig, &listener);

    rig_pass(NS_PER_S);
    rig_expect_nothing_sent(&rig);
    rig_pass(1100 * NS_PER_MS);
    (void)rig_expect_sent(&rig, CM_ATTR_MRA);
    rig_pass(100 * NS_PER_S); /* whose peer asks again when it has not heard for that time */
    rig_expect_nothing_sent(&rig);
    rig_expect_no_event(&rig);
    assert_int_equal(id->state, RDMA_CM_REQ_RCVD);
    rdma_cm_destroy(id);
    rdma_cm_destroy(listener);
}

static void reject_is_repeated_with_its_data(void **state)
{
    (void)state;
    struct rdma_cm_id *listener;
    struct cm_mad req = rig_req(&rig);
    struct rdma_cm_id *id = rig_request(&rig, &listener);
    uint8_t data[RDMA_CM_REJ_PRIVATE_BYTES + 1];

    memset(data, 0x5a, sizeof(data));
    assert_int_equal(rdma_cm_reject(id, data, sizeof(data)), STATUS_INVALID);
    assert_int_equal(rdma_cm_reject(id, NULL, 1), STATUS_INVALID);
    assert_int_equal(rdma_cm_reject(id, data, sizeof(data) - 1), STATUS_OK);
    assert_int_equal(rdma_cm_reject(id, data, 1), STATUS_INVALID);
    struct cm_mad rej = *rig_expect_sent(&rig, CM_ATTR_REJ);
    assert_int_equal(be16_get(rej.rej.reason), RDMA_CM_REJ_CONSUMER);
    assert_memory_equal(rej.rej.private_data, data, RDMA_CM_REJ_PRIVATE_BYTES);
    for (uint32_t i = 0; i < 2; i++) { /* owned, then not */
        rig_from_peer(&rig, &req);
        assert_memory_equal(rig_expect_sent(&rig, CM_ATTR_REJ), &rej, sizeof(rej));
        rig_expect_no_event(&rig);
        if (i == 0) {
            rdma_cm_destroy(id);
        }
    }
    req.header.tid = be64_make(1); /* the same QP asks anew, with the same number even */
    rig_from_peer(&rig, &req);
    rig_expect_event(&rig, NULL, RDMA_CM_EVENT_REQUEST);
    rdma_cm_destroy(rig.events[0].id);
    rdma_cm_destroy(listener);
}

static void rejected_id_that_is_kept_tells_nothing_more(void **state)
{
    (void)state;
    struct rdma_cm_id *listener;
    struct rdma_cm_id *id = rig_request(&rig, &listener);

    assert_int_equal(rdma_cm_reject(id, NULL, 0), STATUS_OK);
    rig_pass(100 * NS_PER_S);
    rig_expect_no_event(&rig);
    assert_int_equal(id->state, RDMA_CM_DEAD);
    rdma_cm_destroy(id);
    rdma_cm_destroy(listener);
}

/* The peer's id was destroyed, or has waited for long enough: it has no number of ours. */
static void request_withdrawn_reaches_its_owner(void **state)
{
    (void)state;
    struct rdma_cm_id *listener;
    struct rdma_cm_id *id = rig_request(&rig, &listener);
    struct cm_mad req = rig_req(&rig);
    struct cm_mad rej = {.header = req.header};
    struct rdma_cm_param param = rig_param(&rig);

    rej.header.attribute_id = be16_make(CM_ATTR_REJ);
    rej.rej.local_comm_id = be32_make(RIG_PEER_ID);
    rej.rej.message = CM_MESSAGE_OTHER << 6;
    rej.rej.reason = be16_make(RDMA_CM_REJ_TIMEOUT);
    rig_from_peer(&rig, &rej);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_DISCONNECTED);
    assert_int_equal(rdma_cm_accept(id, &param), STATUS_INVALID);
    assert_int_equal(rdma_cm_reject(id, NULL, 0), STATUS_INVALID);
    rdma_cm_destroy(id);
    rig_from_peer(&rig, &rej); /* nobody's */
    assert_int_equal(RIG_STAT(&rig, rx_no_id), 1);
    rig_expect_nothing_sent(&rig);

    /* Withdrawn in the same turn: the owner never hears of it. */
    fake_inject(&rig.fake, &rig.peer, &rig.us, &req, sizeof(req));
    fake_inject(&rig.fake, &rig.peer, &rig.us, &rej, sizeof(rej));
    rig_expect_no_event(&rig);
    rdma_cm_destroy(listener);
}

/* --- stale connections --------------------------------------------------------------------- */

/* 12.9.8.3.1, 12.4.1: a peer that started anew asks with the number of a QP that is connected. */
static void request_with_a_qpn_in_use_is_stale_for_both(void **state)
{
    (void)state;
    struct rdma_cm_id *listener;
    struct rdma_cm_id *id = rig_passive(&rig, &listener);
    struct cm_mad req = rig_req(&rig);

    req.req.local_comm_id = be32_make(RIG_PEER_ID + 5);
    rig_from_peer(&rig, &req);
    assert_int_equal(rig.fake.sent_count, 2);
    const struct cm_mad *rej = &rig.fake.sent[0].mad;
    assert_int_equal(be16_get(rej->rej.reason), RDMA_CM_REJ_STALE_CONN);
    assert_int_equal(be32_get(rej->rej.remote_comm_id), RIG_PEER_ID + 5);
    struct cm_mad dreq = rig.fake.sent[1].mad;
    assert_int_equal(be16_get(dreq.header.attribute_id), CM_ATTR_DREQ);
    assert_int_equal(be24_get(dreq.dreq.remote_qpn), RIG_PEER_QPN);
    assert_int_equal(rig.qp.qp.state, RDMA_QP_ERR);
    rig_expect_no_event(&rig); /* not before it is over */
    fake_clear(&rig.fake);
    struct cm_mad drep = rig_answer(&dreq, CM_ATTR_DREP);
    rig_from_peer(&rig, &drep);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_DISCONNECTED);
    rig_from_peer(&rig, &req); /* still in time wait */
    (void)rig_expect_sent(&rig, CM_ATTR_REJ);
    rig_pass(NS_PER_S);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_TIMEWAIT_EXIT);
    rig_from_peer(&rig, &req);
    rig_expect_event(&rig, NULL, RDMA_CM_EVENT_REQUEST);
    rdma_cm_destroy(rig.events[0].id);
    rdma_cm_destroy(id);
    rdma_cm_destroy(listener);
}

/* The same communication ID, but another request: the peer forgot the first one. */
static void request_with_a_number_in_use_is_stale(void **state)
{
    (void)state;
    struct rdma_cm_id *listener;
    struct rdma_cm_id *id = rig_accept(&rig, &listener);
    struct cm_mad req = rig_req(&rig);

    (void)rig_expect_sent(&rig, CM_ATTR_REP);
    req.req.starting_psn = be24_make(1);
    rig_from_peer(&rig, &req);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_DISCONNECTED);
    assert_int_equal(rig.events[0].event.reason, RDMA_CM_REJ_STALE_CONN);
    const struct cm_mad *rej = rig_expect_sent(&rig, CM_ATTR_REJ);
    assert_int_equal(be16_get(rej->rej.reason), RDMA_CM_REJ_STALE_CONN);
    rdma_cm_destroy(id);
    rdma_cm_destroy(listener);
}

static void request_that_replaces_an_undecided_one_is_stale(void **state)
{
    (void)state;
    struct rdma_cm_id *listener;
    struct rdma_cm_id *id = rig_request(&rig, &listener);
    struct cm_mad req = rig_req(&rig);

    req.req.local_comm_id = be32_make(RIG_PEER_ID + 5);
    rig_from_peer(&rig, &req);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_DISCONNECTED);
    (void)rig_expect_sent(&rig, CM_ATTR_REJ);
    rig_from_peer(&rig, &req); /* by now there is nothing in its way */
    rig_expect_event(&rig, NULL, RDMA_CM_EVENT_REQUEST);
    rdma_cm_destroy(rig.events[0].id);
    rdma_cm_destroy(id);
    rdma_cm_destroy(listener);
}

/* --- bounds -------------------------------------------------------------------------------- */

static struct cm_mad numbered_req(uint32_t i)
{
    struct cm_mad req = rig_req(&rig);

    req.header.tid = be64_make(i);
    req.req.local_comm_id = be32_make(1000 + i);
    req.req.local_qpn = be24_make(1000 + i);
    return req;
}

static void requests_beyond_the_backlog_are_refused(void **state)
{
    (void)state;
    struct rdma_cm_id *listener = rig_listen(&rig, 3);

    for (uint32_t i = 0; i < 5; i++) {
        struct cm_mad req = numbered_req(i);
        rig_from_peer(&rig, &req);
    }
    assert_int_equal(rig.event_count, 3);
    assert_int_equal(rig.fake.sent_count, 2);
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(be16_get(rig.fake.sent[i].mad.rej.reason), RDMA_CM_REJ_NO_RESOURCES);
    }
    /* Each decision makes room for one. */
    assert_int_equal(rdma_cm_reject(rig.events[0].id, NULL, 0), STATUS_OK);
    struct cm_mad req = numbered_req(6);
    rig_from_peer(&rig, &req);
    assert_int_equal(rig.event_count, 4);
    struct rdma_cm_param param = rig_param(&rig);
    assert_int_equal(rdma_cm_accept(rig.events[1].id, &param), STATUS_OK);
    req = numbered_req(7);
    rig_from_peer(&rig, &req);
    assert_int_equal(rig.event_count, 5);
    rdma_cm_destroy(rig.events[2].id);
    req = numbered_req(8);
    rig_from_peer(&rig, &req);
    assert_int_equal(rig.event_count, 6);
    for (uint32_t i = 0; i < 6; i++) {
        if (i != 2) {
            rdma_cm_destroy(rig.events[i].id);
        }
    }
    rdma_cm_destroy(listener);
}

/* Nothing that lives makes room; rejected requests that nobody owns do. */
static void requests_with_the_pool_empty_are_refused(void **state)
{
    (void)state;
    struct rdma_cm_id *listener = rig_listen(&rig, 64);
    uint32_t taken = RIG_IDS - 1;

    for (uint32_t i = 0; i < taken + 2; i++) {
        struct cm_mad req = numbered_req(i);
        rig_from_peer(&rig, &req);
    }
    assert_int_equal(rig.event_count, taken);
    assert_int_equal(rig.fake.sent_count, 2);
    assert_int_equal(be16_get(rig.fake.sent[0].mad.rej.reason), RDMA_CM_REJ_NO_RESOURCES);
    for (uint32_t i = 0; i < taken; i++) {
        rdma_cm_destroy(rig.events[i].id);
    }
    rig_turn();
    rig.event_count = 0;
    for (uint32_t i = 0; i < 3 * taken; i++) { /* each finds room at once */
        struct cm_mad req = numbered_req(100 + i);
        rig_from_peer(&rig, &req);
        rig_expect_event(&rig, NULL, RDMA_CM_EVENT_REQUEST);
        rdma_cm_destroy(rig.events[0].id);
    }
    rdma_cm_destroy(listener);
}

static void listener_gone_refuses_what_nobody_has_seen(void **state)
{
    (void)state;
    struct rdma_cm_id *listener = rig_listen(&rig, 64);
    struct cm_mad first = numbered_req(1);
    struct cm_mad second = numbered_req(2);

    rig_from_peer(&rig, &first);
    rig_expect_event(&rig, NULL, RDMA_CM_EVENT_REQUEST);
    struct rdma_cm_id *seen = rig.events[0].id;
    /* The second lies in the queue of events when the listener goes. */
    struct net_addr src = rig.peer;
    cm_receive(cm_of(&rig.fake.device), &second, sizeof(second), &src, &rig.us, 1);
    rdma_cm_destroy(listener);
    rig_expect_no_event(&rig);
    const struct cm_mad *rej = rig_expect_sent(&rig, CM_ATTR_REJ);
    assert_int_equal(be32_get(rej->rej.remote_comm_id), 1002);
    struct rdma_cm_param param = rig_param(&rig);
    assert_int_equal(rdma_cm_accept(seen, &param), STATUS_OK); /* this one is its owner's */
    (void)rig_expect_sent(&rig, CM_ATTR_REP);
    rdma_cm_destroy(seen);
}

static void request_whose_sender_cannot_be_answered_is_forgotten(void **state)
{
    (void)state;
    struct rdma_cm_id *listener = rig_listen(&rig, 1);
    struct cm_mad req = rig_req(&rig);

    rig.fake.ah_status = STATUS_NO_SPACE;
    rig_from_peer(&rig, &req);
    rig_expect_no_event(&rig);
    assert_int_equal(RIG_STAT(&rig, tx_dropped), 1);
    rig.fake.ah_status = STATUS_OK;
    rig_from_peer(&rig, &req);
    rig_expect_event(&rig, NULL, RDMA_CM_EVENT_REQUEST);
    rdma_cm_destroy(rig.events[0].id);
    rdma_cm_destroy(listener);
}

static void reply_waits_for_the_address_of_the_peer(void **state)
{
    (void)state;
    rig.fake.ah_state = NET_PATH_RESOLVING;
    struct rdma_cm_id *listener;
    struct rdma_cm_id *id = rig_accept(&rig, &listener);

    rig_expect_nothing_sent(&rig);
    fake_ah_move(&rig.fake, NET_PATH_READY);
    struct cm_mad rtu = rig_answer(rig_expect_sent(&rig, CM_ATTR_REP), CM_ATTR_RTU);
    rig_from_peer(&rig, &rtu);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_ESTABLISHED);
    rdma_cm_destroy(id);
    rdma_cm_destroy(listener);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        TEST(request_again_is_answered_as_before),
        TEST(request_undecided_for_long_gets_time),
        TEST(reject_is_repeated_with_its_data),
        TEST(rejected_id_that_is_kept_tells_nothing_more),
        TEST(request_withdrawn_reaches_its_owner),
        TEST(request_with_a_qpn_in_use_is_stale_for_both),
        TEST(request_with_a_number_in_use_is_stale),
        TEST(request_that_replaces_an_undecided_one_is_stale),
        TEST(requests_beyond_the_backlog_are_refused),
        TEST(requests_with_the_pool_empty_are_refused),
        TEST(listener_gone_refuses_what_nobody_has_seen),
        TEST(request_whose_sender_cannot_be_answered_is_forgotten),
        TEST(reply_waits_for_the_address_of_the_peer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
