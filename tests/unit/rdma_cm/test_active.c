/*
 * The active side of a connection (IBA 12.9): resolve, REQ, what can come back.
 */
#include "tests/unit/rdma_cm/rig_test.h"

/* --- resolve ------------------------------------------------------------------------------- */

static void resolve_waits_for_the_neighbour(void **state)
{
    (void)state;
    struct rdma_cm_id *id = NULL;

    rig.fake.ah_state = NET_PATH_RESOLVING;
    assert_int_equal(
        rdma_cm_resolve(&rig.fake.device, &rig.peer, RIG_PORT, rig_on_event, &rig, &id), STATUS_OK);
    rig_pass(NS_PER_S);
    rig_expect_no_event(&rig);
    assert_int_equal(id->state, RDMA_CM_RESOLVING);
    fake_ah_move(&rig.fake, NET_PATH_READY);
    assert_int_equal(rig.event_count, 0); /* not from inside */
    rig_expect_event(&rig, id, RDMA_CM_EVENT_RESOLVED);
    assert_int_equal(id->peer_port, RIG_PORT);
    assert_memory_equal(&id->local, &rig.us, 16);
    assert_ptr_equal(id->ctx, &rig);
    rdma_cm_destroy(id);
    rig_expect_nothing_sent(&rig);
}

static void resolve_of_a_silent_neighbour_is_unreachable(void **state)
{
    (void)state;
    struct rdma_cm_id *id = NULL;
    struct rdma_cm_param param = rig_param(&rig);

    rig.fake.ah_state = NET_PATH_RESOLVING;
    assert_int_equal(
        rdma_cm_resolve(&rig.fake.device, &rig.peer, RIG_PORT, rig_on_event, &rig, &id), STATUS_OK);
    fake_ah_move(&rig.fake, NET_PATH_FAILED);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_UNREACHABLE);
    assert_int_equal(id->state, RDMA_CM_DEAD);
    assert_int_equal(rdma_cm_connect(id, &param), STATUS_INVALID);
    rdma_cm_destroy(id);
}

static void resolve_that_failed_before_it_returned_is_unreachable(void **state)
{
    (void)state;
    struct rdma_cm_id *id = NULL;

    rig.fake.ah_state = NET_PATH_FAILED;
    assert_int_equal(
        rdma_cm_resolve(&rig.fake.device, &rig.peer, RIG_PORT, rig_on_event, &rig, &id), STATUS_OK);
    assert_int_equal(rig.event_count, 0);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_UNREACHABLE);
    rdma_cm_destroy(id);
}

static void resolve_destroyed_meanwhile_says_nothing(void **state)
{
    (void)state;
    struct rdma_cm_id *id = NULL;

    rig.fake.ah_state = NET_PATH_RESOLVING;
    assert_int_equal(
        rdma_cm_resolve(&rig.fake.device, &rig.peer, RIG_PORT, rig_on_event, &rig, &id), STATUS_OK);
    rdma_cm_destroy(id);
    assert_int_equal(rig.fake.ah_count, 0);
    rig_expect_no_event(&rig);
}

static void resolve_without_a_way_is_refused(void **state)
{
    (void)state;
    struct rdma_cm_id *id = NULL;
    struct net_addr none = {{0}};

    rig.fake.ah_status = STATUS_NOT_FOUND;
    assert_int_equal(
        rdma_cm_resolve(&rig.fake.device, &rig.peer, RIG_PORT, rig_on_event, &rig, &id),
        STATUS_NOT_FOUND);
    rig.fake.ah_status = STATUS_OK;
    assert_int_equal(rdma_cm_resolve(&rig.fake.device, &none, RIG_PORT, rig_on_event, &rig, &id),
                     STATUS_NOT_FOUND);
    rig.fake.addr_count = 1;
    assert_int_equal(
        rdma_cm_resolve(&rig.fake.device, &rig.peer, RIG_PORT, rig_on_event, &rig, &id),
        STATUS_NOT_FOUND);
}

static void resolve_with_the_pool_empty_is_refused(void **state)
{
    (void)state;
    struct rdma_cm_id *ids[RIG_IDS];
    struct rdma_cm_id *one_more = NULL;

    for (uint32_t i = 0; i < RIG_IDS; i++) {
        assert_int_equal(
            rdma_cm_resolve(&rig.fake.device, &rig.peer, RIG_PORT, rig_on_event, &rig, &ids[i]),
            STATUS_OK);
    }
    assert_int_equal(rig.fake.ah_count, 1); /* one peer, one handle */
    assert_int_equal(
        rdma_cm_resolve(&rig.fake.device, &rig.peer, RIG_PORT, rig_on_event, &rig, &one_more),
        STATUS_NO_SPACE);
    rig_turn();
    assert_int_equal(rig.event_count, RIG_IDS);
    for (uint32_t i = 0; i < RIG_IDS; i++) {
        rdma_cm_destroy(ids[i]);
    }
}

/* --- connect ------------------------------------------------------------------------------- */

static void connect_checks_what_it_is_given(void **state)
{
    (void)state;
    struct rdma_cm_id *id = rig_resolve(&rig);
    struct rdma_cm_param param = rig_param(&rig);

    param.qp = NULL;
    assert_int_equal(rdma_cm_connect(id, &param), STATUS_INVALID);
    param = rig_param(&rig);
    param.private_bytes = RDMA_CM_REQ_PRIVATE_BYTES + 1;
    assert_int_equal(rdma_cm_connect(id, &param), STATUS_INVALID);
    param = rig_param(&rig);
    param.private_data = NULL;
    assert_int_equal(rdma_cm_connect(id, &param), STATUS_INVALID);
    param = rig_param(&rig);
    param.retry_count = 8;
    assert_int_equal(rdma_cm_connect(id, &param), STATUS_INVALID);
    param = rig_param(&rig);
    param.rnr_retry_count = 8;
    assert_int_equal(rdma_cm_connect(id, &param), STATUS_INVALID);
    param = rig_param(&rig);
    assert_int_equal(rdma_cm_accept(id, &param), STATUS_INVALID);
    assert_int_equal(rdma_cm_reject(id, NULL, 0), STATUS_INVALID);
    assert_int_equal(rdma_cm_disconnect(id), STATUS_INVALID);
    rig.qp.qp.type = RDMA_QP_UD;
    assert_int_equal(rdma_cm_connect(id, &param), STATUS_INVALID);
    rig.qp.qp.type = RDMA_QP_RC;
    rig.qp.qp.state = RDMA_QP_RTS;
    assert_int_equal(rdma_cm_connect(id, &param), STATUS_INVALID);
    rig.qp.qp.state = RDMA_QP_RESET;
    rig.fake.modify_status = STATUS_NO_SPACE;
    rig.fake.modify_state = RDMA_QP_INIT;
    assert_int_equal(rdma_cm_connect(id, &param), STATUS_NO_SPACE);
    assert_int_equal(id->state, RDMA_CM_RESOLVED);
    rig_expect_nothing_sent(&rig);
    rdma_cm_destroy(id);
}

static void connect_moves_the_qp_and_confirms(void **state)
{
    (void)state;
    struct cm_mad req;
    struct rdma_cm_id *id = rig_active(&rig, &req);
    const struct rdma_qp_attr *init = &rig.qp.moves[0].attr;
    const struct rdma_qp_attr *rtr = &rig.qp.moves[1].attr;
    const struct rdma_qp_attr *rts = &rig.qp.moves[2].attr;

    assert_int_equal(be64_get(req.req.service_id), 0x0000000001060000 + RIG_PORT);
    assert_int_equal(req.req.mtu >> 4, RDMA_MTU_4096);
    assert_int_equal(req.req.responder_resources, 16);
    assert_int_equal(req.req.initiator_depth, 16);
    assert_memory_equal(req.req.private_data + 36, "hello\0", 6);

    assert_int_equal(rig.qp.move_count, 3);
    assert_int_equal(init->state, RDMA_QP_INIT);
    assert_int_equal(rig.qp.moves[0].mask, RDMA_QP_STATE | RDMA_QP_ACCESS);
    assert_int_equal(init->access, RDMA_ACCESS_REMOTE_WRITE);
    assert_int_equal(rtr->state, RDMA_QP_RTR);
    assert_int_equal(rtr->dest_qpn, RIG_PEER_QPN);
    assert_int_equal(rtr->rq_psn, be24_get(req.req.starting_psn));
    assert_int_equal(rtr->path_mtu, RDMA_MTU_4096);
    assert_int_equal(rtr->max_dest_rd_atomic, 2);
    assert_int_equal(rtr->min_rnr_timer, 12);
    assert_int_equal(rtr->av.sgid_index, 1);
    assert_memory_equal(&rtr->av.dgid, &rig.peer, 16);
    assert_int_equal(rts->state, RDMA_QP_RTS);
    assert_int_equal(rts->sq_psn, RIG_PEER_PSN);
    assert_int_equal(rts->timeout, 17);
    assert_int_equal(rts->retry_cnt, 6);
    assert_int_equal(rts->rnr_retry, 5);
    assert_int_equal(rts->max_rd_atomic, 3);

    const struct rig_event *e = &rig.events[0];
    assert_int_equal(e->event.responder_resources, 2);
    assert_int_equal(e->event.initiator_depth, 3);
    assert_int_equal(e->event.private_bytes, RDMA_CM_REP_PRIVATE_BYTES);
    assert_int_equal(e->data[0], 200);
    assert_int_equal(e->data[195], 5);
    assert_ptr_equal(id->qp, &rig.qp.qp);
    assert_int_equal(RIG_STAT(&rig, established), 1);
    rdma_cm_destroy(id);
}

/* A reply that claims more READs than the request offered gets what was offered. */
static void rep_that_wants_more_than_offered_gets_no_more(void **state)
{
    (void)state;
    struct cm_mad req;
    struct rdma_cm_id *id = rig_connect(&rig, &req);
    struct cm_mad rep = rig_rep(&req);

    rep.rep.initiator_depth = 200;
    rep.rep.responder_resources = 255;
    rig_from_peer(&rig, &rep);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_ESTABLISHED);
    assert_int_equal(rig.qp.moves[1].attr.max_dest_rd_atomic, 16);
    assert_int_equal(rig.qp.moves[2].attr.max_rd_atomic, 16);
    rdma_cm_destroy(id);
}

static void connect_takes_a_qp_that_is_in_init(void **state)
{
    (void)state;
    struct rdma_cm_id *id = rig_resolve(&rig);
    struct rdma_cm_param param = rig_param(&rig);

    assert_int_equal(rdma_cm_qp_init(id, &rig.qp.qp, RDMA_ACCESS_REMOTE_READ), STATUS_OK);
    assert_int_equal(rig.qp.move_count, 1);
    assert_int_equal(rdma_cm_connect(id, &param), STATUS_OK);
    assert_int_equal(rig.qp.move_count, 1);
    assert_int_equal(rdma_cm_qp_init(id, &rig.qp.qp, 0), STATUS_INVALID);
    rdma_cm_destroy(id);
    rig_turn();
}

/* The tag of the event may be used for calls: a QP is made and connected in the callback. */
static void connect_in_callback(struct rig *r, struct rdma_cm_id *id,
                                const struct rdma_cm_event *event)
{
    struct rdma_cm_param param = rig_param(r);

    if (event->type == RDMA_CM_EVENT_RESOLVED) {
        assert_int_equal(rdma_cm_connect(id, &param), STATUS_OK);
    }
}

static void connect_from_inside_the_callback_works(void **state)
{
    (void)state;
    rig.react = connect_in_callback;
    struct rdma_cm_id *id = NULL;

    assert_int_equal(
        rdma_cm_resolve(&rig.fake.device, &rig.peer, RIG_PORT, rig_on_event, &rig, &id), STATUS_OK);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_RESOLVED);
    struct cm_mad rep = rig_rep(rig_expect_sent(&rig, CM_ATTR_REQ));
    rig_from_peer(&rig, &rep);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_ESTABLISHED);
    rdma_cm_destroy(id);
}

/* --- time ---------------------------------------------------------------------------------- */

/* 12.9: the same message, with the same transaction ID, at most Max CM Retries times. */
static void req_without_an_answer_is_repeated_and_given_up(void **state)
{
    (void)state;
    struct cm_mad req;
    struct rdma_cm_id *id = rig_connect(&rig, &req);

    for (uint32_t i = 0; i < 15; i++) {
        rig_pass(RIG_WAIT_NS - NS_PER_MS);
        rig_expect_nothing_sent(&rig);
        rig_pass(2 * NS_PER_MS);
        assert_memory_equal(rig_expect_sent(&rig, CM_ATTR_REQ), &req, sizeof(req));
        rig_expect_no_event(&rig);
    }
    assert_int_equal(RIG_STAT(&rig, retransmits), 15);
    rig_pass(RIG_WAIT_NS + NS_PER_MS);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_UNREACHABLE);
    assert_int_equal(id->state, RDMA_CM_DEAD);
    assert_int_equal(RIG_STAT(&rig, timeouts), 1);
    /* Whoever took the request is told (12.9, reason 4). */
    const struct cm_mad *rej = rig_expect_sent(&rig, CM_ATTR_REJ);
    assert_int_equal(be16_get(rej->rej.reason), RDMA_CM_REJ_TIMEOUT);
    assert_int_equal(be32_get(rej->rej.remote_comm_id), 0);
    assert_memory_equal(&rej->rej.local_comm_id, &req.req.local_comm_id, 4);
    assert_int_equal(rej->rej.info_len, 8 << 1);
    assert_memory_equal(rej->rej.info, &req.req.local_ca_guid, 8);
    rdma_cm_destroy(id);
}

static void req_repeated_once_still_connects(void **state)
{
    (void)state;
    struct cm_mad req;
    struct rdma_cm_id *id = rig_connect(&rig, &req);

    rig_pass(RIG_WAIT_NS + NS_PER_MS);
    struct cm_mad rep = rig_rep(rig_expect_sent(&rig, CM_ATTR_REQ));
    rig_from_peer(&rig, &rep);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_ESTABLISHED);
    (void)rig_expect_sent(&rig, CM_ATTR_RTU);
    rig_pass(100 * NS_PER_S);
    rig_expect_nothing_sent(&rig);
    rdma_cm_destroy(id);
}

static struct cm_mad mra_of(const struct cm_mad *req, uint8_t message, uint8_t service)
{
    struct cm_mad mra = rig_answer(req, CM_ATTR_MRA);
    mra.mra.message = (uint8_t)(message << 6);
    mra.mra.service = (uint8_t)(service << 3);
    return mra;
}

/* 12.9: the service timeout of the MRA replaces the one that runs. */
static void mra_extends_the_time_for_the_reply(void **state)
{
    (void)state;
    struct cm_mad req;
    struct rdma_cm_id *id = rig_connect(&rig, &req);
    struct cm_mad mra = mra_of(&req, CM_MESSAGE_REQ, 22);

    rig_pass(NS_PER_S);
    rig_from_peer(&rig, &mra);
    assert_int_equal(id->state, RDMA_CM_REQ_SENT);
    rig_pass(cm_time_ns(22));
    rig_expect_nothing_sent(&rig);
    rig_pass(2 * cm_time_ns(16) + NS_PER_MS);
    assert_memory_equal(rig_expect_sent(&rig, CM_ATTR_REQ), &req, sizeof(req));
    assert_int_equal(id->state, RDMA_CM_REQ_SENT);
    rig_from_peer(&rig, &mra); /* another one, for the message sent again */
    assert_int_equal(id->state, RDMA_CM_REQ_SENT);
    struct cm_mad rep = rig_rep(&req);
    rig_from_peer(&rig, &rep);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_ESTABLISHED);
    rdma_cm_destroy(id);
}

static void mra_that_asks_too_much_or_too_often_is_not_granted(void **state)
{
    (void)state;
    struct cm_mad req;
    struct rdma_cm_id *id = rig_connect(&rig, &req);
    struct cm_mad mra = mra_of(&req, CM_MESSAGE_REP, 24);

    rig_from_peer(&rig, &mra); /* of another message */
    assert_int_equal(id->state, RDMA_CM_REQ_SENT);
    mra = mra_of(&req, CM_MESSAGE_REQ, 31);
    for (uint32_t i = 0; i < 60; i++) {
        rig_from_peer(&rig, &mra);
        rig_pass(NS_PER_S);
    }
    rig_expect_nothing_sent(&rig);
    assert_int_equal(RIG_STAT(&rig, rx_unexpected), 60);
    rig_pass(10 * NS_PER_S);
    (void)rig_expect_sent(&rig, CM_ATTR_REQ);
    rdma_cm_destroy(id);
}

/* --- other answers ------------------------------------------------------------------------- */

static void rejection_reaches_the_owner(void **state)
{
    (void)state;
    struct cm_mad req;
    struct rdma_cm_id *id = rig_connect(&rig, &req);
    struct cm_mad rej = rig_answer(&req, CM_ATTR_REJ);

    rej.rej.local_comm_id = be32_make(0); /* as Linux does when it has no number yet */
    rej.rej.reason = be16_make(RDMA_CM_REJ_CONSUMER);
    memcpy(rej.rej.private_data, "go away", 8);
    rig_from_peer(&rig, &rej);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_REJECTED);
    assert_int_equal(rig.events[0].event.reason, RDMA_CM_REJ_CONSUMER);
    assert_int_equal(rig.events[0].event.private_bytes, RDMA_CM_REJ_PRIVATE_BYTES);
    assert_string_equal((const char *)rig.events[0].data, "go away");
    assert_int_equal(id->state, RDMA_CM_DEAD);
    rig_pass(100 * NS_PER_S);
    rig_expect_nothing_sent(&rig);
    rdma_cm_destroy(id);
}

/* 12.9.8.3.1: after "stale connection" the QP's number has to wait. */
static void rejection_as_stale_goes_through_time_wait(void **state)
{
    (void)state;
    struct cm_mad req;
    struct rdma_cm_id *id = rig_connect(&rig, &req);
    struct cm_mad rej = rig_answer(&req, CM_ATTR_REJ);

    rej.rej.reason = be16_make(RDMA_CM_REJ_STALE_CONN);
    rig_from_peer(&rig, &rej);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_REJECTED);
    assert_int_equal(id->state, RDMA_CM_TIMEWAIT);
    assert_true(rdma_cm_soft_is_qpn_busy(&rig.fake.device, rig.qp.qp.num));
    rig_pass(NS_PER_S);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_TIMEWAIT_EXIT);
    assert_false(rdma_cm_soft_is_qpn_busy(&rig.fake.device, rig.qp.qp.num));
    rdma_cm_destroy(id);
}

/* 12.9.8.3.1: a REP that shows another connection to be dead is rejected, and ends that one. */
static void rep_with_a_qpn_in_use_is_stale_for_both(void **state)
{
    (void)state;
    struct cm_mad req;
    struct rdma_cm_id *first = rig_active(&rig, &req);
    struct fake_qp qp;
    struct rdma_cm_param param = rig_param(&rig);

    fake_qp_init(&rig.fake, &qp, 0x12);
    param.qp = &qp.qp;
    struct rdma_cm_id *second = rig_resolve(&rig);
    assert_int_equal(rdma_cm_connect(second, &param), STATUS_OK);
    struct cm_mad rep = rig_rep(rig_expect_sent(&rig, CM_ATTR_REQ));
    rep.rep.local_comm_id = be32_make(RIG_PEER_ID + 1);
    rig_from_peer(&rig, &rep);
    rig_expect_event(&rig, second, RDMA_CM_EVENT_REJECTED);
    assert_int_equal(rig.events[0].event.reason, RDMA_CM_REJ_STALE_CONN);
    assert_int_equal(rig.fake.sent_count, 2);
    assert_int_equal(be16_get(rig.fake.sent[0].mad.header.attribute_id), CM_ATTR_DREQ);
    const struct cm_mad *rej = &rig.fake.sent[1].mad;
    assert_int_equal(be16_get(rej->header.attribute_id), CM_ATTR_REJ);
    assert_int_equal(be16_get(rej->rej.reason), RDMA_CM_REJ_STALE_CONN);
    assert_int_equal(rej->rej.message >> 6, CM_MESSAGE_REP);
    assert_int_equal(first->state, RDMA_CM_DREQ_SENT);
    assert_int_equal(rig.qp.qp.state, RDMA_QP_ERR);
    struct cm_mad drep = rig_answer(&rig.fake.sent[0].mad, CM_ATTR_DREP);
    rig_from_peer(&rig, &drep);
    rig_expect_event(&rig, first, RDMA_CM_EVENT_DISCONNECTED);
    rdma_cm_destroy(first);
    rdma_cm_destroy(second);
}

/* The RTU was lost: the peer sends its REP once more (12.9). */
static void rep_again_is_answered_by_the_rtu_again(void **state)
{
    (void)state;
    struct cm_mad req;
    struct rdma_cm_id *id = rig_active(&rig, &req);
    struct cm_mad rep = rig_rep(&req);

    for (uint32_t i = 0; i < 3; i++) {
        rig_from_peer(&rig, &rep);
        const struct cm_mad *rtu = rig_expect_sent(&rig, CM_ATTR_RTU);
        assert_int_equal(be32_get(rtu->rtu.remote_comm_id), RIG_PEER_ID);
        rig_expect_no_event(&rig);
    }
    assert_int_equal(RIG_STAT(&rig, rx_duplicates), 3);
    assert_int_equal(rig.qp.move_count, 3);
    rep.rep.local_comm_id = be32_make(1); /* of another instance */
    rig_from_peer(&rig, &rep);
    const struct cm_mad *rej = rig_expect_sent(&rig, CM_ATTR_REJ);
    assert_int_equal(be16_get(rej->rej.reason), RDMA_CM_REJ_INVALID_COMM_ID);
    assert_int_equal(id->state, RDMA_CM_ESTABLISHED);
    rdma_cm_destroy(id);
}

static void rep_for_a_qp_that_cannot_move_is_rejected(void **state)
{
    (void)state;
    for (uint8_t to = RDMA_QP_RTR; to <= RDMA_QP_RTS; to++) {
        struct cm_mad req;

        fake_qp_init(&rig.fake, &rig.qp, 0x11);
        struct rdma_cm_id *id = rig_connect(&rig, &req);
        struct cm_mad rep = rig_rep(&req);
        rig.fake.modify_status = STATUS_INVALID;
        rig.fake.modify_state = to;
        rig_from_peer(&rig, &rep);
        rig_expect_event(&rig, id, RDMA_CM_EVENT_REJECTED);
        rig.fake.modify_status = STATUS_OK;
        const struct cm_mad *rej = rig_expect_sent(&rig, CM_ATTR_REJ);
        assert_int_equal(rej->rej.message >> 6, CM_MESSAGE_REP);
        assert_int_equal(be16_get(rej->rej.reason), RDMA_CM_REJ_NO_RESOURCES);
        assert_int_equal(rig.qp.qp.state, RDMA_QP_ERR);
        rdma_cm_destroy(id);
        rig_turn();
        fake_clear(&rig.fake);
    }
}

static void rep_after_the_qp_is_gone_is_rejected(void **state)
{
    (void)state;
    struct cm_mad req;
    struct rdma_cm_id *id = rig_connect(&rig, &req);
    struct cm_mad rep = rig_rep(&req);

    rdma_cm_soft_qp_gone(&rig.fake.device, &rig.qp.qp);
    assert_null(id->qp);
    rig_from_peer(&rig, &rep);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_REJECTED);
    (void)rig_expect_sent(&rig, CM_ATTR_REJ);
    assert_int_equal(rig.qp.move_count, 1);
    rdma_cm_destroy(id);
}

/* As Linux does when an id is destroyed: the peer may have a request that nobody wants. */
static void destroy_before_the_reply_tells_the_peer(void **state)
{
    (void)state;
    struct cm_mad req;
    struct rdma_cm_id *id = rig_connect(&rig, &req);

    rdma_cm_destroy(id);
    const struct cm_mad *rej = rig_expect_sent(&rig, CM_ATTR_REJ);
    assert_int_equal(be16_get(rej->rej.reason), RDMA_CM_REJ_TIMEOUT);
    /* A REP that was under way is for nobody (12.9). */
    struct cm_mad rep = rig_rep(&req);
    rig_from_peer(&rig, &rep);
    rej = rig_expect_sent(&rig, CM_ATTR_REJ);
    assert_int_equal(be16_get(rej->rej.reason), RDMA_CM_REJ_INVALID_COMM_ID);
    assert_int_equal(rej->rej.message >> 6, CM_MESSAGE_REP);
    assert_memory_equal(&rej->rej.local_comm_id, &req.req.local_comm_id, 4);
    assert_int_equal(be32_get(rej->rej.remote_comm_id), RIG_PEER_ID);
    rig_expect_no_event(&rig);
}

static void dreq_before_the_reply_is_answered(void **state)
{
    (void)state;
    struct cm_mad req;
    struct rdma_cm_id *id = rig_connect(&rig, &req);
    struct cm_mad dreq = rig_answer(&req, CM_ATTR_DREQ);

    dreq.dreq.remote_qpn = be24_make(rig.qp.qp.num);
    rig_from_peer(&rig, &dreq);
    (void)rig_expect_sent(&rig, CM_ATTR_DREP);
    assert_int_equal(id->state, RDMA_CM_REQ_SENT);
    rdma_cm_destroy(id);
}

static void req_over_a_neighbour_that_went_silent_is_repeated(void **state)
{
    (void)state;
    struct rdma_cm_id *id = rig_resolve(&rig);
    struct rdma_cm_param param = rig_param(&rig);

    fake_ah_move(&rig.fake, NET_PATH_FAILED);
    rig_turn();
    assert_int_equal(rig.fake.ah_count, 0);
    rig.fake.ah_status = STATUS_NO_SPACE;
    assert_int_equal(rdma_cm_connect(id, &param), STATUS_OK);
    rig_turn();
    assert_int_equal(RIG_STAT(&rig, tx_dropped), 1);
    rig.fake.ah_status = STATUS_OK;
    rig.fake.ah_state = NET_PATH_RESOLVING;
    rig_pass(RIG_WAIT_NS + NS_PER_MS);
    rig_expect_nothing_sent(&rig);
    fake_ah_move(&rig.fake, NET_PATH_READY);
    struct cm_mad rep = rig_rep(rig_expect_sent(&rig, CM_ATTR_REQ));
    rig_from_peer(&rig, &rep);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_ESTABLISHED);
    rdma_cm_destroy(id);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        TEST(resolve_waits_for_the_neighbour),
        TEST(resolve_of_a_silent_neighbour_is_unreachable),
        TEST(resolve_that_failed_before_it_returned_is_unreachable),
        TEST(resolve_destroyed_meanwhile_says_nothing),
        TEST(resolve_without_a_way_is_refused),
        TEST(resolve_with_the_pool_empty_is_refused),
        TEST(connect_checks_what_it_is_given),
        TEST(connect_moves_the_qp_and_confirms),
        TEST(rep_that_wants_more_than_offered_gets_no_more),
        TEST(connect_takes_a_qp_that_is_in_init),
        TEST(connect_from_inside_the_callback_works),
        TEST(req_without_an_answer_is_repeated_and_given_up),
        TEST(req_repeated_once_still_connects),
        TEST(mra_extends_the_time_for_the_reply),
        TEST(mra_that_asks_too_much_or_too_often_is_not_granted),
        TEST(rejection_reaches_the_owner),
        TEST(rejection_as_stale_goes_through_time_wait),
        TEST(rep_with_a_qpn_in_use_is_stale_for_both),
        TEST(rep_again_is_answered_by_the_rtu_again),
        TEST(rep_for_a_qp_that_cannot_move_is_rejected),
        TEST(rep_after_the_qp_is_gone_is_rejected),
        TEST(destroy_before_the_reply_tells_the_peer),
        TEST(dreq_before_the_reply_is_answered),
        TEST(req_over_a_neighbour_that_went_silent_is_repeated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
