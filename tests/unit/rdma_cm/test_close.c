/*
 * The end of a connection (IBA 12.9): disconnect, DREQ in every state, time wait, destroy at any
 * time; and what is left of the QP.
 */
#include "tests/unit/rdma_cm/rig_test.h"

#define TIMEWAIT_NS (2 * cm_time_ns(16) + cm_time_ns(15))

static struct cm_mad dreq_for(const struct cm_mad *ours, uint64_t tid)
{
    struct cm_mad dreq = rig_answer(ours, CM_ATTR_DREQ);

    dreq.header.tid = be64_make(tid);
    dreq.dreq.remote_qpn = be24_make(rig.qp.qp.num);
    return dreq;
}

static void expect_drep(uint64_t tid, uint32_t theirs, struct be32 ours)
{
    const struct cm_mad *drep = rig_expect_sent(&rig, CM_ATTR_DREP);

    assert_int_equal(be64_get(drep->header.tid), tid);
    assert_int_equal(be32_get(drep->drep.remote_comm_id), theirs);
    assert_memory_equal(&drep->drep.local_comm_id, &ours, 4);
}

/* --- our own disconnect -------------------------------------------------------------------- */

static void disconnect_ends_with_the_reply(void **state)
{
    (void)state;
    struct cm_mad req;
    struct rdma_cm_id *id = rig_active(&rig, &req);

    assert_int_equal(rdma_cm_disconnect(id), STATUS_OK);
    assert_int_equal(rig.qp.qp.state, RDMA_QP_ERR);
    assert_int_equal(id->state, RDMA_CM_DREQ_SENT);
    assert_int_equal(rdma_cm_disconnect(id), STATUS_INVALID);
    struct cm_mad dreq = *rig_expect_sent(&rig, CM_ATTR_DREQ);
    assert_int_equal(be24_get(dreq.dreq.remote_qpn), RIG_PEER_QPN);
    assert_int_equal(be32_get(dreq.dreq.remote_comm_id), RIG_PEER_ID);
    assert_int_not_equal(be64_get(dreq.header.tid), be64_get(req.header.tid));
    rig_expect_no_event(&rig);
    struct cm_mad drep = rig_answer(&dreq, CM_ATTR_DREP);
    rig_from_peer(&rig, &drep);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_DISCONNECTED);
    assert_int_equal(id->state, RDMA_CM_TIMEWAIT);
    assert_true(rdma_cm_soft_is_qpn_busy(&rig.fake.device, 0x11));
    rig_pass(TIMEWAIT_NS - NS_PER_MS);
    rig_expect_no_event(&rig);
    rig_pass(2 * NS_PER_MS);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_TIMEWAIT_EXIT);
    assert_int_equal(id->state, RDMA_CM_DEAD);
    assert_false(rdma_cm_soft_is_qpn_busy(&rig.fake.device, 0x11));
    assert_int_equal(rig.qp.move_count, 4);
    rdma_cm_destroy(id);
}

static void dreq_without_an_answer_is_repeated_and_over(void **state)
{
    (void)state;
    struct cm_mad req;
    struct rdma_cm_id *id = rig_active(&rig, &req);

    assert_int_equal(rdma_cm_disconnect(id), STATUS_OK);
    struct cm_mad dreq = *rig_expect_sent(&rig, CM_ATTR_DREQ);
    for (uint32_t i = 0; i < 4; i++) {
        rig_pass(RIG_WAIT_NS + NS_PER_MS);
        assert_memory_equal(rig_expect_sent(&rig, CM_ATTR_DREQ), &dreq, sizeof(dreq));
        rig_expect_no_event(&rig);
    }
    rig_pass(RIG_WAIT_NS + NS_PER_MS);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_DISCONNECTED);
    rig_expect_nothing_sent(&rig);
    rdma_cm_destroy(id);
}

/* Both sides ask at the same time: each answers, and is done. */
static void crossing_dreqs_end_both(void **state)
{
    (void)state;
    struct cm_mad req;
    struct rdma_cm_id *id = rig_active(&rig, &req);

    assert_int_equal(rdma_cm_disconnect(id), STATUS_OK);
    struct cm_mad ours = *rig_expect_sent(&rig, CM_ATTR_DREQ);
    struct cm_mad theirs = dreq_for(&ours, 5);
    rig_from_peer(&rig, &theirs);
    expect_drep(5, RIG_PEER_ID, req.req.local_comm_id);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_DISCONNECTED);
    struct cm_mad drep = rig_answer(&ours, CM_ATTR_DREP);
    rig_from_peer(&rig, &drep);
    rig_expect_no_event(&rig);
    rig_pass(100 * NS_PER_S);
    rig_expect_nothing_sent(&rig);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_TIMEWAIT_EXIT);
    rdma_cm_destroy(id);
}

/* --- the peer's ---------------------------------------------------------------------------- */

static void dreq_of_the_peer_disconnects(void **state)
{
    (void)state;
    struct rdma_cm_id *listener;
    struct rdma_cm_id *id = rig_accept(&rig, &listener);
    struct cm_mad rep = *rig_expect_sent(&rig, CM_ATTR_REP);
    struct cm_mad rtu = rig_answer(&rep, CM_ATTR_RTU);
    struct cm_mad dreq = dreq_for(&rep, 77);

    rig_from_peer(&rig, &rtu);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_ESTABLISHED);
    dreq.dreq.remote_qpn = be24_make(0x12); /* of another QP than ours */
    rig_from_peer(&rig, &dreq);
    rig_expect_nothing_sent(&rig);
    assert_int_equal(id->state, RDMA_CM_ESTABLISHED);
    dreq.dreq.remote_qpn = be24_make(0x11);
    rig_from_peer(&rig, &dreq);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_DISCONNECTED);
    expect_drep(77, RIG_PEER_ID, rep.rep.local_comm_id);
    assert_int_equal(rig.qp.qp.state, RDMA_QP_ERR);
    rig_from_peer(&rig, &dreq); /* the answer was lost: time wait */
    expect_drep(77, RIG_PEER_ID, rep.rep.local_comm_id);
    rig_pass(NS_PER_S);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_TIMEWAIT_EXIT);
    rig_from_peer(&rig, &dreq); /* over, but not destroyed */
    expect_drep(77, RIG_PEER_ID, rep.rep.local_comm_id);
    rdma_cm_destroy(id);
    rig_from_peer(&rig, &dreq); /* gone */
    expect_drep(77, RIG_PEER_ID, rep.rep.local_comm_id);
    rdma_cm_destroy(listener);
}

/* RTU lost, and the peer has changed its mind already. */
static void dreq_before_the_rtu_disconnects(void **state)
{
    (void)state;
    struct rdma_cm_id *listener;
    struct rdma_cm_id *id = rig_accept(&rig, &listener);
    struct cm_mad dreq = dreq_for(rig_expect_sent(&rig, CM_ATTR_REP), 6);

    rig_from_peer(&rig, &dreq);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_DISCONNECTED);
    (void)rig_expect_sent(&rig, CM_ATTR_DREP);
    rig_pass(100 * NS_PER_S);
    rig_expect_nothing_sent(&rig);
    rdma_cm_destroy(id);
    rdma_cm_destroy(listener);
}

/* A peer whose RTU never arrived and that was told so by a REJ; or one whose id is gone. */
static void rej_after_the_connection_disconnects(void **state)
{
    (void)state;
    struct cm_mad req;
    struct rdma_cm_id *id = rig_active(&rig, &req);
    struct cm_mad rej = rig_answer(&req, CM_ATTR_REJ);

    rej.rej.message = CM_MESSAGE_OTHER << 6;
    rej.rej.reason = be16_make(RDMA_CM_REJ_TIMEOUT);
    rig_from_peer(&rig, &rej);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_DISCONNECTED);
    assert_int_equal(rig.events[0].event.reason, RDMA_CM_REJ_TIMEOUT);
    assert_int_equal(rig.qp.qp.state, RDMA_QP_ERR);
    assert_int_equal(id->state, RDMA_CM_TIMEWAIT);
    rdma_cm_destroy(id);
    rig_expect_nothing_sent(&rig);
}

static void rej_of_our_dreq_ends_it(void **state)
{
    (void)state;
    struct cm_mad req;
    struct rdma_cm_id *id = rig_active(&rig, &req);

    assert_int_equal(rdma_cm_disconnect(id), STATUS_OK);
    struct cm_mad rej = rig_answer(rig_expect_sent(&rig, CM_ATTR_DREQ), CM_ATTR_REJ);
    rig_from_peer(&rig, &rej);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_DISCONNECTED);
    rdma_cm_destroy(id);
}

/* --- strangers ----------------------------------------------------------------------------- */

static void strangers_get_the_answer_of_one_who_knows_nothing(void **state)
{
    (void)state;
    struct cm_mad req = rig_req(&rig);
    struct cm_mad mad = rig_answer(&req, CM_ATTR_DREQ);

    mad.ids.remote_comm_id = be32_make(12345);
    rig_from_peer(&rig, &mad);
    expect_drep(RIG_PEER_TID, RIG_PEER_ID, be32_make(12345));
    mad.header.attribute_id = be16_make(CM_ATTR_RTU);
    rig_from_peer(&rig, &mad);
    const struct cm_mad *rej = rig_expect_sent(&rig, CM_ATTR_REJ);
    assert_int_equal(be16_get(rej->rej.reason), RDMA_CM_REJ_INVALID_COMM_ID);
    assert_int_equal(rej->rej.message >> 6, CM_MESSAGE_OTHER);
    static const uint16_t silent[] = {CM_ATTR_DREP, CM_ATTR_REJ, CM_ATTR_MRA};
    for (uint32_t i = 0; i < ARRAY_SIZE(silent); i++) {
        mad.header.attribute_id = be16_make(silent[i]);
        rig_from_peer(&rig, &mad);
        rig_expect_nothing_sent(&rig);
    }
    assert_int_equal(RIG_STAT(&rig, rx_no_id), 5);
}

/* --- destroy ------------------------------------------------------------------------------- */

static void destroy_of_a_connection_disconnects_it(void **state)
{
    (void)state;
    struct cm_mad req;
    struct rdma_cm_id *id = rig_active(&rig, &req);

    rdma_cm_destroy(id);
    assert_int_equal(rig.qp.qp.state, RDMA_QP_ERR);
    memset(&rig.qp, 0xee, sizeof(rig.qp)); /* destroyed: CM does not look at it any more */
    struct cm_mad dreq = *rig_expect_sent(&rig, CM_ATTR_DREQ);
    rig_pass(RIG_WAIT_NS + NS_PER_MS);
    assert_memory_equal(rig_expect_sent(&rig, CM_ATTR_DREQ), &dreq, sizeof(dreq));
    assert_true(rdma_cm_soft_is_qpn_busy(&rig.fake.device, 0x11));
    struct cm_mad drep = rig_answer(&dreq, CM_ATTR_DREP);
    rig_from_peer(&rig, &drep);
    rig_pass(TIMEWAIT_NS + NS_PER_MS);
    rig_expect_no_event(&rig);
    assert_true(rdma_cm_soft_is_quiet(&rig.fake.device));
}

static void destroy_while_the_peer_has_not_confirmed_tells_it(void **state)
{
    (void)state;
    struct rdma_cm_id *listener;
    struct rdma_cm_id *id = rig_accept(&rig, &listener);
    struct cm_mad rep = *rig_expect_sent(&rig, CM_ATTR_REP);

    rdma_cm_destroy(id);
    assert_int_equal(rig.qp.qp.state, RDMA_QP_ERR);
    const struct cm_mad *rej = rig_expect_sent(&rig, CM_ATTR_REJ);
    assert_int_equal(be16_get(rej->rej.reason), RDMA_CM_REJ_CONSUMER);
    assert_int_equal(be32_get(rej->rej.remote_comm_id), RIG_PEER_ID);
    assert_memory_equal(&rej->rej.local_comm_id, &rep.rep.local_comm_id, 4);
    rig_expect_no_event(&rig);
    rdma_cm_destroy(listener);
}

static void destroy_in_the_callback(struct rig *r, struct rdma_cm_id *id,
                                    const struct rdma_cm_event *event)
{
    struct rdma_cm_id *other = NULL;

    rdma_cm_destroy(id);
    /* What lies in the event survives that its id is made anew. */
    assert_int_equal(rdma_cm_resolve(&r->fake.device, &r->peer, 1, rig_on_event, NULL, &other),
                     STATUS_OK);
    rdma_cm_destroy(other);
    if (event->private_bytes > 0) {
        assert_memory_equal(rig_last(r)->data, event->private_data, event->private_bytes);
    }
}

static void destroy_inside_every_callback_is_safe(void **state)
{
    (void)state;
    struct rdma_cm_id *listener = rig_listen(&rig, 4);
    struct cm_mad mad = rig_req(&rig);
    struct cm_mad req;

    rig.react = destroy_in_the_callback;
    rig_from_peer(&rig, &mad);
    rig_expect_event(&rig, NULL, RDMA_CM_EVENT_REQUEST);
    struct rdma_cm_id *id = NULL;
    assert_int_equal(rdma_cm_resolve(&rig.fake.device, &rig.peer, 1, rig_on_event, NULL, &id),
                     STATUS_OK);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_RESOLVED);
    rig_pass(20 * NS_PER_S);
    static const uint16_t attributes[] = {CM_ATTR_REP, CM_ATTR_REJ};
    for (uint32_t i = 0; i < 2; i++) {
        fake_clear(&rig.fake);
        fake_qp_init(&rig.fake, &rig.qp, 0x30 + i);
        rig.react = NULL;
        id = rig_connect(&rig, &req);
        rig.react = destroy_in_the_callback;
        mad = attributes[i] == CM_ATTR_REP ? rig_rep(&req) : rig_answer(&req, CM_ATTR_REJ);
        rig_from_peer(&rig, &mad);
        rig_expect_event(&rig, id,
                         attributes[i] == CM_ATTR_REP ? RDMA_CM_EVENT_ESTABLISHED
                                                      : RDMA_CM_EVENT_REJECTED);
        rig_pass(100 * NS_PER_S);
    }
    static const bool waits[] = {false, true};
    for (uint32_t i = 0; i < 2; i++) { /* DISCONNECTED, TIMEWAIT_EXIT */
        fake_clear(&rig.fake);
        fake_qp_init(&rig.fake, &rig.qp, 0x40 + i);
        rig.react = NULL;
        id = rig_active(&rig, &req);
        mad = dreq_for(&req, 1);
        rig.react = waits[i] ? NULL : destroy_in_the_callback;
        rig_from_peer(&rig, &mad);
        rig_expect_event(&rig, id, RDMA_CM_EVENT_DISCONNECTED);
        rig.react = destroy_in_the_callback;
        rig_pass(NS_PER_S);
        if (waits[i]) {
            rig_expect_event(&rig, id, RDMA_CM_EVENT_TIMEWAIT_EXIT);
        } else {
            rig_expect_no_event(&rig);
        }
    }
    rig.react = NULL;
    rdma_cm_destroy(listener);
}

/* Events that wait when the id goes are for nobody. */
static void destroy_drops_events_that_wait(void **state)
{
    (void)state;
    struct rdma_cm_id *id = NULL;

    assert_int_equal(rdma_cm_resolve(&rig.fake.device, &rig.peer, 1, rig_on_event, NULL, &id),
                     STATUS_OK);
    assert_int_equal(id->state, RDMA_CM_RESOLVED);
    rdma_cm_destroy(id);
    rig_expect_no_event(&rig);
}

/* Several events of one id come in the order in which they happened. */
static void events_of_one_turn_keep_their_order(void **state)
{
    (void)state;
    struct cm_mad req;
    struct rdma_cm_id *id = rig_connect(&rig, &req);
    struct cm_mad rep = rig_rep(&req);
    struct cm_mad dreq = dreq_for(&req, 9);

    fake_inject(&rig.fake, &rig.peer, &rig.us, &rep, sizeof(rep));
    fake_inject(&rig.fake, &rig.peer, &rig.us, &dreq, sizeof(dreq));
    rig_turn();
    assert_int_equal(rig.event_count, 2);
    assert_int_equal(rig.events[0].event.type, RDMA_CM_EVENT_ESTABLISHED);
    assert_int_equal(rig.events[0].data[0], 200);
    assert_int_equal(rig.events[1].event.type, RDMA_CM_EVENT_DISCONNECTED);
    assert_ptr_equal(rig.events[1].id, id);
    rdma_cm_destroy(id);
}

/* The owner destroyed the QP first, which rdma/cm.h allows. */
static void qp_that_is_gone_is_not_touched(void **state)
{
    (void)state;
    struct cm_mad req;
    struct rdma_cm_id *id = rig_active(&rig, &req);

    rdma_cm_soft_qp_gone(&rig.fake.device, &rig.qp.qp);
    memset(&rig.qp, 0xee, sizeof(rig.qp));
    assert_null(id->qp);
    assert_int_equal(rdma_cm_disconnect(id), STATUS_OK);
    struct cm_mad drep = rig_answer(rig_expect_sent(&rig, CM_ATTR_DREQ), CM_ATTR_DREP);
    rig_from_peer(&rig, &drep);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_DISCONNECTED);
    rdma_cm_destroy(id);
}

/* One number, one connection: also when the owner takes the same QP once more. */
static void qp_in_time_wait_is_not_connected_again(void **state)
{
    (void)state;
    struct cm_mad req;
    struct rdma_cm_param param = rig_param(&rig);
    struct rdma_cm_id *first = rig_active(&rig, &req);
    struct rdma_cm_id *second = rig_resolve(&rig);
    struct cm_mad dreq = dreq_for(&req, 1);

    assert_int_equal(rdma_cm_qp_init(second, &rig.qp.qp, 0), STATUS_INVALID); /* it is connected */
    rig_from_peer(&rig, &dreq);
    rig_expect_event(&rig, first, RDMA_CM_EVENT_DISCONNECTED);
    rig.qp.qp.state = RDMA_QP_RESET;
    assert_int_equal(rdma_cm_qp_init(second, &rig.qp.qp, 0), STATUS_AGAIN);
    assert_int_equal(rdma_cm_connect(second, &param), STATUS_AGAIN);
    rig_pass(NS_PER_S);
    rig_expect_event(&rig, first, RDMA_CM_EVENT_TIMEWAIT_EXIT);
    assert_int_equal(rdma_cm_connect(second, &param), STATUS_OK);
    rdma_cm_destroy(first);
    assert_int_equal(rig.qp.qp.state, RDMA_QP_INIT);
    rdma_cm_destroy(second);
}

/* A request that was refused has connected nothing: its QP serves the next one. */
static void qp_of_a_refused_request_serves_the_next(void **state)
{
    (void)state;
    struct rdma_cm_param param = rig_param(&rig);
    struct rdma_cm_id *listener;
    struct rdma_cm_id *id = rig_request(&rig, &listener);
    struct cm_mad req = rig_req(&rig);

    assert_int_equal(rdma_cm_qp_init(id, &rig.qp.qp, 0), STATUS_OK);
    assert_int_equal(rdma_cm_reject(id, NULL, 0), STATUS_OK);
    req.header.tid = be64_make(1);
    rig_from_peer(&rig, &req);
    rig_expect_event(&rig, NULL, RDMA_CM_EVENT_REQUEST);
    assert_int_equal(rdma_cm_accept(rig.events[0].id, &param), STATUS_OK);
    rdma_cm_destroy(id); /* the QP is another one's by now */
    assert_int_equal(rig.qp.qp.state, RDMA_QP_RTS);
    rdma_cm_destroy(rig.events[0].id);
    rdma_cm_destroy(listener);
}

/* As a provider destroys a QP: it says so, and then the memory is something else. */
static void destroy_qp(void)
{
    rdma_cm_soft_qp_gone(&rig.fake.device, &rig.qp.qp);
    memset(&rig.qp, 0xee, sizeof(rig.qp));
}

/* In whatever way it ended: the QP may be destroyed before the id (rdma/cm.h). */
static void qp_may_go_before_an_id_that_is_over(void **state)
{
    (void)state;
    struct cm_mad req;
    struct rdma_cm_id *id = rig_connect(&rig, &req);
    struct cm_mad mad = rig_answer(&req, CM_ATTR_REJ);

    mad.rej.reason = be16_make(RDMA_CM_REJ_CONSUMER);
    rig_from_peer(&rig, &mad);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_REJECTED);
    destroy_qp();
    rdma_cm_destroy(id);

    fake_qp_init(&rig.fake, &rig.qp, 0x12);
    id = rig_connect(&rig, &req);
    rig_pass(100 * NS_PER_S);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_UNREACHABLE);
    destroy_qp();
    rdma_cm_destroy(id);

    fake_clear(&rig.fake);
    fake_qp_init(&rig.fake, &rig.qp, 0x13);
    id = rig_active(&rig, &req);
    mad = dreq_for(&req, 1);
    rig_from_peer(&rig, &mad);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_DISCONNECTED);
    rig_pass(NS_PER_S);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_TIMEWAIT_EXIT);
    destroy_qp();
    rdma_cm_destroy(id);

    fake_clear(&rig.fake);
    fake_qp_init(&rig.fake, &rig.qp, 0x14);
    struct rdma_cm_id *listener;
    id = rig_request(&rig, &listener);
    assert_int_equal(rdma_cm_qp_init(id, &rig.qp.qp, 0), STATUS_OK);
    assert_int_equal(rdma_cm_reject(id, NULL, 0), STATUS_OK);
    destroy_qp();
    rdma_cm_destroy(id);
    rdma_cm_destroy(listener);
}

static uint32_t visited;
static void count_id(const struct rdma_cm_id *id, void *ctx)
{
    assert_ptr_equal(ctx, &rig);
    assert_ptr_equal(id->device, &rig.fake.device);
    visited++;
}

static void visit_shows_each_id_and_time_wait(void **state)
{
    (void)state;
    struct rdma_cm_id *listener;
    struct rdma_cm_id *id = rig_passive(&rig, &listener);

    visited = 0;
    rdma_cm_visit(&rig.fake.device, count_id, &rig);
    assert_int_equal(visited, 2);
    rdma_cm_destroy(id);
    rdma_cm_visit(&rig.fake.device, count_id, &rig);
    assert_int_equal(visited, 4);
    rdma_cm_destroy(listener);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        TEST(disconnect_ends_with_the_reply),
        TEST(dreq_without_an_answer_is_repeated_and_over),
        TEST(crossing_dreqs_end_both),
        TEST(dreq_of_the_peer_disconnects),
        TEST(dreq_before_the_rtu_disconnects),
        TEST(rej_after_the_connection_disconnects),
        TEST(rej_of_our_dreq_ends_it),
        TEST(strangers_get_the_answer_of_one_who_knows_nothing),
        TEST(destroy_of_a_connection_disconnects_it),
        TEST(destroy_while_the_peer_has_not_confirmed_tells_it),
        TEST(destroy_inside_every_callback_is_safe),
        TEST(destroy_drops_events_that_wait),
        TEST(events_of_one_turn_keep_their_order),
        TEST(qp_that_is_gone_is_not_touched),
        TEST(qp_in_time_wait_is_not_connected_again),
        TEST(qp_of_a_refused_request_serves_the_next),
        TEST(qp_may_go_before_an_id_that_is_over),
        TEST(visit_shows_each_id_and_time_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
