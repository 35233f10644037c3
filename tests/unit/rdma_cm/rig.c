#include "tests/unit/rdma_cm/rig.h"

#include <stdlib.h>

void rig_start(void)
{
    native_clock_set(1000 * NS_PER_S);
    sched_init(1, SCHED_IDLE_POLL);
    (void)sched_turn();
}

void rig_init(struct rig *rig, uint8_t last, const struct rdma_cm_soft_config *given)
{
    struct rdma_cm_soft_config config;

    memset(rig, 0, sizeof(*rig));
    fake_init(&rig->fake, last);
    config = fake_config(&rig->fake, RIG_IDS);
    if (given != NULL) {
        struct rdma_cm_soft_config own = config;
        config = *given;
        config.id_count = given->id_count != 0 ? given->id_count : RIG_IDS;
        config.nif = own.nif;
        config.addr = own.addr;
        config.rng = own.rng;
        config.random = own.random;
    }
    uint64_t bytes = rdma_cm_soft_memory_bytes(&rig->fake.device, &config);
    rig->memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    assert_non_null(rig->memory);
    memset(rig->memory, 0xa5, bytes);
    assert_int_equal(rdma_cm_soft_init(rig->memory, &rig->fake.device, &config), STATUS_OK);
    assert_true(rdma_cm_soft_is_quiet(&rig->fake.device));
    fake_qp_init(&rig->fake, &rig->qp, 0x11);
    rig->us = fake_ipv4(last);
    rig->peer = fake_ipv4(last == RIG_PEER ? RIG_US : RIG_PEER);
}

void rig_turn(void)
{
    for (uint32_t i = 0; i < 6; i++) {
        (void)sched_turn();
    }
}

void rig_pass(uint64_t duration_ns)
{
    uint64_t end = clock_now_ns() + duration_ns;

    rig_turn();
    while (clock_now_ns() < end) {
        uint64_t left = end - clock_now_ns();
        native_clock_advance(left < 50 * NS_PER_MS ? left : 50 * NS_PER_MS);
        rig_turn();
    }
}

void rig_end(struct rig *rig)
{
    struct cm *cm = cm_of(&rig->fake.device);

    for (uint32_t i = 0; i < 1000 && !rdma_cm_soft_is_quiet(&rig->fake.device); i++) {
        native_clock_advance(500 * NS_PER_MS);
        rig_turn();
    }
    assert_true(rdma_cm_soft_is_quiet(&rig->fake.device));
    assert_int_equal(rig->fake.ah_count, 0);
    assert_int_equal(rig->fake.recv_tail - rig->fake.recv_head, CM_RX_MADS);
    for (uint32_t table = 0; table < CM_TABLES; table++) {
        for (uint32_t i = 0; i <= cm->bucket_mask; i++) {
            assert_true(list_is_empty(&cm->heads[table][i]));
        }
    }
    sched_poller_remove(&cm->poller);
    free(rig->memory);
}

/* --- events -------------------------------------------------------------------------------- */

void rig_on_event(struct rdma_cm_id *id, const struct rdma_cm_event *event)
{
    struct rig *rig = CONTAINER_OF(id->device, struct rig, fake.device);
    void (*react)(struct rig *, struct rdma_cm_id *, const struct rdma_cm_event *) = rig->react;

    assert_true(rig->event_count < RIG_EVENTS);
    struct rig_event *e = &rig->events[rig->event_count++];
    e->id = id;
    e->event = *event;
    memset(e->data, 0, sizeof(e->data));
    if (event->private_bytes > 0) {
        assert_non_null(event->private_data);
        memcpy(e->data, event->private_data, event->private_bytes);
    }
    if (react != NULL) {
        react(rig, id, event);
    }
}

const struct rig_event *rig_last(const struct rig *rig)
{
    return rig->event_count == 0 ? NULL : &rig->events[rig->event_count - 1];
}

void rig_expect_event(struct rig *rig, struct rdma_cm_id *id, enum rdma_cm_event_type type)
{
    rig_turn();
    assert_int_equal(rig->event_count, 1);
    assert_int_equal(rig->events[0].event.type, type);
    if (id != NULL) {
        assert_ptr_equal(rig->events[0].id, id);
    }
    rig->event_count = 0; /* the entry stays readable */
}

void rig_expect_no_event(struct rig *rig)
{
    rig_turn();
    assert_int_equal(rig->event_count, 0);
}

/* --- messages ------------------------------------------------------------------------------ */

void rig_from_peer(struct rig *rig, const struct cm_mad *mad)
{
    fake_inject(&rig->fake, &rig->peer, &rig->us, mad, sizeof(*mad));
    rig_turn();
}

const struct cm_mad *rig_expect_sent(struct rig *rig, uint16_t attribute)
{
    rig_turn();
    assert_int_equal(rig->fake.sent_count, 1);
    const struct fake_sent *sent = &rig->fake.sent[0];
    assert_int_equal(be16_get(sent->mad.header.attribute_id), attribute);
    assert_memory_equal(&sent->to, &rig->peer, sizeof(sent->to));
    fake_clear(&rig->fake); /* the entry stays readable until the next is sent */
    return &sent->mad;
}

void rig_expect_refusal(struct rig *rig, enum rdma_cm_reject reason)
{
    const struct cm_mad *rej = rig_expect_sent(rig, CM_ATTR_REJ);

    assert_int_equal(be16_get(rej->rej.reason), reason);
    assert_int_equal(rej->rej.message >> 6, CM_MESSAGE_REQ);
    assert_int_equal(be32_get(rej->rej.remote_comm_id), RIG_PEER_ID);
    assert_int_equal(be64_get(rej->header.tid), RIG_PEER_TID);
    rig_expect_no_event(rig);
}

void rig_expect_nothing_sent(struct rig *rig)
{
    rig_turn();
    assert_int_equal(rig->fake.sent_count, 0);
}

static struct cm_mad begin(uint16_t attribute, uint64_t tid)
{
    return (struct cm_mad){.header = {.base_version = 1,
                                      .mgmt_class = 7,
                                      .class_version = 2,
                                      .method = 3,
                                      .tid = be64_make(tid),
                                      .attribute_id = be16_make(attribute)}};
}

struct cm_mad rig_req(const struct rig *rig)
{
    struct cm_mad mad = begin(CM_ATTR_REQ, RIG_PEER_TID);
    struct cm_req *req = &mad.req;
    struct cm_ip_header ip = {.ip_version = 0x40, .src_port = be16_make(50000)};

    req->local_comm_id = be32_make(RIG_PEER_ID);
    req->service_id = be64_make(0x01060000 + RIG_PORT);
    req->local_qpn = be24_make(RIG_PEER_QPN);
    req->responder_resources = 8;
    req->initiator_depth = 4;
    req->remote_response = 20 << 3;
    req->starting_psn = be24_make(RIG_PEER_PSN);
    req->local_response = 20 << 3 | 7;
    req->pkey = be16_make(0xffff);
    req->mtu = RDMA_MTU_1024 << 4 | 6;
    req->max_retries = 15 << 4;
    req->primary_local_lid = be16_make(0xffff);
    req->primary_remote_lid = be16_make(0xffff);
    memcpy(req->primary_local_gid, &rig->peer, 16);
    memcpy(req->primary_remote_gid, &rig->us, 16);
    req->primary_hop_limit = 64;
    req->primary_ack_timeout = 17 << 3;
    memcpy(ip.src_addr + 12, rig->peer.bytes + 12, 4);
    memcpy(ip.dst_addr + 12, rig->us.bytes + 12, 4);
    memcpy(req->private_data, &ip, sizeof(ip));
    for (uint8_t i = 0; i < 56; i++) {
        req->private_data[36 + i] = (uint8_t)(i + 1);
    }
    return mad;
}

struct cm_mad rig_answer(const struct cm_mad *to, uint16_t attribute)
{
    struct cm_mad mad = begin(attribute, be64_get(to->header.tid));

    mad.ids.remote_comm_id = to->ids.local_comm_id;
    mad.ids.local_comm_id = be32_make(RIG_PEER_ID);
    return mad;
}

struct cm_mad rig_rep(const struct cm_mad *req)
{
    struct cm_mad mad = rig_answer(req, CM_ATTR_REP);
    struct cm_rep *rep = &mad.rep;

    rep->local_qpn = be24_make(RIG_PEER_QPN);
    rep->starting_psn = be24_make(RIG_PEER_PSN);
    rep->responder_resources = 3;
    rep->initiator_depth = 2;
    rep->ack_delay = 15 << 3;
    rep->rnr_retry = 5 << 5;
    for (uint8_t i = 0; i < 196; i++) {
        rep->private_data[i] = (uint8_t)(200 - i);
    }
    return mad;
}

/* --- connections --------------------------------------------------------------------------- */

struct rdma_cm_param rig_param(struct rig *rig)
{
    return (struct rdma_cm_param){
        .qp = &rig->qp.qp,
        .private_data = "hello",
        .private_bytes = 5,
        .responder_resources = 16,
        .initiator_depth = 16,
        .retry_count = 6,
        .rnr_retry_count = 7,
        .access = RDMA_ACCESS_REMOTE_WRITE,
    };
}

struct rdma_cm_id *rig_listen(struct rig *rig, uint32_t backlog)
{
    struct net_addr any = {{0}};
    struct rdma_cm_id *listener = NULL;

    assert_int_equal(
        rdma_cm_listen(&rig->fake.device, &any, RIG_PORT, backlog, rig_on_event, rig, &listener),
        STATUS_OK);
    assert_int_equal(listener->state, RDMA_CM_LISTEN);
    return listener;
}

struct rdma_cm_id *rig_request(struct rig *rig, struct rdma_cm_id **listener)
{
    struct cm_mad req = rig_req(rig);

    *listener = rig_listen(rig, 4);
    rig_from_peer(rig, &req);
    rig_expect_event(rig, NULL, RDMA_CM_EVENT_REQUEST);
    assert_ptr_equal(rig->events[0].event.listener, *listener);
    rig_expect_nothing_sent(rig);
    assert_int_equal(rig->events[0].id->state, RDMA_CM_REQ_RCVD);
    return rig->events[0].id;
}

struct rdma_cm_id *rig_accept(struct rig *rig, struct rdma_cm_id **listener)
{
    struct rdma_cm_id *id = rig_request(rig, listener);
    struct rdma_cm_param param = rig_param(rig);

    assert_int_equal(rdma_cm_accept(id, &param), STATUS_OK);
    assert_int_equal(id->state, RDMA_CM_REP_SENT);
    return id;
}

struct rdma_cm_id *rig_passive(struct rig *rig, struct rdma_cm_id **listener)
{
    struct rdma_cm_id *id = rig_accept(rig, listener);
    struct cm_mad rtu = rig_answer(rig_expect_sent(rig, CM_ATTR_REP), CM_ATTR_RTU);

    rig_from_peer(rig, &rtu);
    rig_expect_event(rig, id, RDMA_CM_EVENT_ESTABLISHED);
    assert_int_equal(id->state, RDMA_CM_ESTABLISHED);
    return id;
}

struct rdma_cm_id *rig_resolve(struct rig *rig)
{
    struct rdma_cm_id *id = NULL;

    assert_int_equal(
        rdma_cm_resolve(&rig->fake.device, &rig->peer, RIG_PORT, rig_on_event, rig, &id),
        STATUS_OK);
    rig_expect_event(rig, id, RDMA_CM_EVENT_RESOLVED);
    assert_int_equal(id->state, RDMA_CM_RESOLVED);
    return id;
}

struct rdma_cm_id *rig_connect(struct rig *rig, struct cm_mad *req)
{
    struct rdma_cm_id *id = rig_resolve(rig);
    struct rdma_cm_param param = rig_param(rig);

    assert_int_equal(rdma_cm_connect(id, &param), STATUS_OK);
    assert_int_equal(id->state, RDMA_CM_REQ_SENT);
    *req = *rig_expect_sent(rig, CM_ATTR_REQ);
    return id;
}

struct rdma_cm_id *rig_active(struct rig *rig, struct cm_mad *req)
{
    struct rdma_cm_id *id = rig_connect(rig, req);
    struct cm_mad rep = rig_rep(req);

    rig_from_peer(rig, &rep);
    rig_expect_event(rig, id, RDMA_CM_EVENT_ESTABLISHED);
    (void)rig_expect_sent(rig, CM_ATTR_RTU);
    assert_int_equal(id->state, RDMA_CM_ESTABLISHED);
    return id;
}
