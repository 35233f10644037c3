/*
 * Messages byte for byte, against those of Linux.
 */
#include "tests/unit/rdma_cm/rig.h"

#include "tests/unit/rdma_cm/capture.h"

static struct rig rig;

/* What Linux chose by chance, or of what it is another opinion, becomes as ours is. */
static void adopt(struct cm_mad *expected, const struct cm_mad *ours)
{
    expected->header.tid = ours->header.tid;
    if (be16_get(ours->header.attribute_id) == CM_ATTR_REQ) {
        struct cm_req *req = &expected->req;
        req->local_comm_id = ours->req.local_comm_id;
        req->starting_psn = ours->req.starting_psn;
        req->primary_flow = be32_make(0); /* a hash, for the UDP port */
        req->remote_response &= 0xfe;     /* end-to-end flow control: there is none */
        memcpy(req->private_data + 2, ours->req.private_data + 2, 2); /* port */
    } else if (be16_get(ours->header.attribute_id) == CM_ATTR_REP) {
        struct cm_rep *rep = &expected->rep;
        rep->local_comm_id = ours->rep.local_comm_id;
        rep->starting_psn = ours->rep.starting_psn;
        rep->ack_delay &= 0xfe;
    }
}

static struct cm_mad mad_of(const uint8_t bytes[MAD_BYTES])
{
    struct cm_mad mad;
    memcpy(&mad, bytes, sizeof(mad));
    return mad;
}

/* The target of the capture is the peer: 192.0.2.1. */
static void active_side_sends_what_linux_sends(void **state)
{
    (void)state;
    struct cm_mad linux_req = mad_of(capture_req);
    struct cm_mad linux_rep = mad_of(capture_rep);
    struct cm_mad linux_rtu = mad_of(capture_rtu);
    struct cm_mad linux_dreq = mad_of(capture_dreq);
    struct cm_mad linux_drep = mad_of(capture_drep);

    rig_start();
    rig_init(&rig, 2, NULL);
    rig.fake.device.attr.dest_rd_atomic_max = 128;
    struct rdma_cm_id *id = rig_resolve(&rig);
    struct rdma_cm_param param = {
        .qp = &rig.qp.qp,
        .private_data = linux_req.req.private_data + 36,
        .private_bytes = 56,
        .responder_resources = 128,
        .retry_count = 7,
        .rnr_retry_count = 7,
    };
    assert_int_equal(rdma_cm_connect(id, &param), STATUS_OK);
    struct cm_mad req = *rig_expect_sent(&rig, CM_ATTR_REQ);
    adopt(&linux_req, &req);
    assert_memory_equal(&req, &linux_req, sizeof(req));
    assert_int_equal((uint32_t)be64_get(req.header.tid), be32_get(req.req.local_comm_id));

    linux_rep.rep.remote_comm_id = req.req.local_comm_id;
    rig_from_peer(&rig, &linux_rep);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_ESTABLISHED);
    assert_memory_equal(rig.events[0].data, linux_rep.rep.private_data, 196);
    assert_int_equal(rig.events[0].event.private_bytes, 196);
    assert_int_equal(rig.events[0].event.responder_resources, 128);
    assert_int_equal(rig.events[0].event.initiator_depth, 0);
    struct cm_mad rtu = *rig_expect_sent(&rig, CM_ATTR_RTU);
    linux_rtu.rtu.local_comm_id = req.req.local_comm_id;
    linux_rtu.header.tid = req.header.tid;
    assert_memory_equal(&rtu, &linux_rtu, sizeof(rtu));
    assert_int_equal(rig.qp.moves[1].attr.dest_qpn, 0x11);
    assert_int_equal(rig.qp.moves[2].attr.sq_psn, 0x617808);
    assert_int_equal(rig.qp.moves[1].attr.rq_psn, be24_get(req.req.starting_psn));
    assert_int_equal(rig.qp.moves[2].attr.timeout, 17);

    assert_int_equal(rdma_cm_disconnect(id), STATUS_OK);
    struct cm_mad dreq = *rig_expect_sent(&rig, CM_ATTR_DREQ);
    linux_dreq.dreq.local_comm_id = req.req.local_comm_id;
    linux_dreq.header.tid = dreq.header.tid;
    assert_memory_equal(&dreq, &linux_dreq, sizeof(dreq));
    linux_drep.drep.remote_comm_id = req.req.local_comm_id;
    rig_from_peer(&rig, &linux_drep);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_DISCONNECTED);
    rdma_cm_destroy(id);
    rig_end(&rig);
}

/* The host of the capture is the peer: 192.0.2.2. */
static void passive_side_sends_what_linux_sends(void **state)
{
    (void)state;
    struct cm_mad linux_req = mad_of(capture_req);
    struct cm_mad linux_rep = mad_of(capture_rep);
    struct cm_mad linux_rtu = mad_of(capture_rtu);
    struct cm_mad linux_dreq = mad_of(capture_dreq);
    struct cm_mad linux_drep = mad_of(capture_drep);

    rig_start();
    rig_init(&rig, 1, NULL);
    rig.fake.device.attr.rd_atomic_max = 128;
    struct rdma_cm_id *listener = rig_listen(&rig, 4);
    rig_from_peer(&rig, &linux_req);
    rig_expect_event(&rig, NULL, RDMA_CM_EVENT_REQUEST);
    struct rdma_cm_id *id = rig.events[0].id;
    assert_memory_equal(rig.events[0].data, linux_req.req.private_data + 36, 56);
    assert_int_equal(rig.events[0].event.private_bytes, 56);
    assert_int_equal(rig.events[0].event.responder_resources, 0);
    assert_int_equal(rig.events[0].event.initiator_depth, 128);
    assert_memory_equal(&id->peer, &rig.peer, 16);
    assert_memory_equal(&id->local, &rig.us, 16);
    assert_int_equal(id->peer_port, 0xb906);
    assert_int_equal(id->local_port, 4420);

    struct rdma_cm_param param = {
        .qp = &rig.qp.qp,
        .private_data = linux_rep.rep.private_data,
        .private_bytes = 196,
        .initiator_depth = 128,
        .rnr_retry_count = 7,
    };
    assert_int_equal(rdma_cm_accept(id, &param), STATUS_OK);
    struct cm_mad rep = *rig_expect_sent(&rig, CM_ATTR_REP);
    assert_memory_equal(&rep.header, &linux_rep.header, sizeof(rep.header));
    adopt(&linux_rep, &rep);
    assert_memory_equal(&rep, &linux_rep, sizeof(rep));
    assert_int_equal(rig.qp.moves[1].attr.dest_qpn, 0x11);
    assert_int_equal(rig.qp.moves[1].attr.path_mtu, RDMA_MTU_4096);
    assert_int_equal(rig.qp.moves[2].attr.sq_psn, 0xcc73b9);
    assert_int_equal(rig.qp.moves[2].attr.retry_cnt, 7);
    assert_int_equal(rig.qp.moves[2].attr.max_rd_atomic, 128);

    linux_rtu.rtu.remote_comm_id = rep.rep.local_comm_id;
    rig_from_peer(&rig, &linux_rtu);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_ESTABLISHED);
    linux_dreq.dreq.remote_comm_id = rep.rep.local_comm_id;
    rig_from_peer(&rig, &linux_dreq);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_DISCONNECTED);
    struct cm_mad drep = *rig_expect_sent(&rig, CM_ATTR_DREP);
    linux_drep.drep.local_comm_id = rep.rep.local_comm_id;
    assert_memory_equal(&drep, &linux_drep, sizeof(drep));
    rdma_cm_destroy(id);
    rdma_cm_destroy(listener);
    rig_end(&rig);
}

/* A11.3 with IPv6: whole addresses, version 6. */
static void req_over_ipv6_names_the_addresses(void **state)
{
    (void)state;
    rig_start();
    rig_init(&rig, RIG_US, NULL);
    struct net_addr peer = {{0x20, 0x01, 0x0d, 0xb8, [15] = 9}};
    struct rdma_cm_id *id = NULL;
    struct rdma_cm_param param = rig_param(&rig);

    rig.peer = peer;
    assert_int_equal(rdma_cm_resolve(&rig.fake.device, &peer, 7, rig_on_event, &rig, &id),
                     STATUS_OK);
    rig_expect_event(&rig, id, RDMA_CM_EVENT_RESOLVED);
    assert_memory_equal(&id->local, &rig.fake.addrs[2].addr, 16);
    assert_int_equal(rdma_cm_connect(id, &param), STATUS_OK);
    const struct cm_mad *req = rig_expect_sent(&rig, CM_ATTR_REQ);
    assert_int_equal(req->req.private_data[1], 0x60);
    assert_memory_equal(req->req.private_data + 4, &rig.fake.addrs[2].addr, 16);
    assert_memory_equal(req->req.private_data + 20, &peer, 16);
    assert_memory_equal(req->req.private_data + 36, "hello", 6);
    assert_memory_equal(req->req.primary_remote_gid, &peer, 16);
    rdma_cm_destroy(id);
    (void)rig_expect_sent(&rig, CM_ATTR_REJ);
    rig_end(&rig);
}

/* A request over IPv6 to a listener at all addresses. */
static void request_over_ipv6_is_taken(void **state)
{
    (void)state;
    rig_start();
    rig_init(&rig, RIG_US, NULL);
    struct rdma_cm_id *listener = rig_listen(&rig, 1);

    rig.peer = (struct net_addr){{0x20, 0x01, 0x0d, 0xb8, [15] = 9}};
    rig.us = rig.fake.addrs[2].addr;
    struct cm_mad req = rig_req(&rig);
    req.req.private_data[1] = 0x60;
    memcpy(req.req.private_data + 4, &rig.peer, 16);
    memcpy(req.req.private_data + 20, &rig.us, 16);
    rig_from_peer(&rig, &req);
    rig_expect_event(&rig, NULL, RDMA_CM_EVENT_REQUEST);
    assert_memory_equal(&rig.events[0].id->peer, &rig.peer, 16);
    rdma_cm_destroy(rig.events[0].id);
    const struct cm_mad *rej = rig_expect_sent(&rig, CM_ATTR_REJ);
    assert_int_equal(be16_get(rej->rej.reason), RDMA_CM_REJ_CONSUMER);
    rdma_cm_destroy(listener);
    rig_end(&rig);
}

static void local_address_is_of_the_family_and_near(void **state)
{
    (void)state;
    rig_start();
    rig_init(&rig, RIG_US, NULL);
    struct cm *cm = cm_of(&rig.fake.device);
    struct net_addr link_local = {{0xfe, 0x80, [15] = 77}};
    struct net_addr far = {{0x20, 0x02, [15] = 77}};
    struct net_addr near4 = {{[10] = 0xff, 0xff, 10, 0, 0, 5}};
    struct net_addr far4 = {{[10] = 0xff, 0xff, 8, 8, 8, 8}};
    uint8_t index = 9;

    rig.fake.addrs[3] =
        (struct net_if_addr){.addr = {{[10] = 0xff, 0xff, 10, 0, 0, 1}}, .prefix_bits = 30};
    rig.fake.addr_count = 4;
    assert_ptr_equal(cm_local_for(cm, &link_local, &index), &rig.fake.addrs[0].addr);
    assert_ptr_equal(cm_local_for(cm, &far, &index), &rig.fake.addrs[2].addr);
    assert_ptr_equal(cm_local_for(cm, &far4, &index), &rig.fake.addrs[1].addr);
    assert_ptr_equal(cm_local_for(cm, &near4, &index), &rig.fake.addrs[1].addr);
    near4.bytes[15] = 2;
    assert_ptr_equal(cm_local_for(cm, &near4, &index), &rig.fake.addrs[3].addr);
    assert_int_equal(index, 3);
    rig.fake.addr_count = 1;
    assert_null(cm_local_for(cm, &near4, &index));
    rig_end(&rig);
}

static void state_names_are_there(void **state)
{
    (void)state;
    assert_string_equal(rdma_cm_state_name(RDMA_CM_IDLE), "IDLE");
    assert_string_equal(rdma_cm_state_name(RDMA_CM_DEAD), "DEAD");
    assert_string_equal(rdma_cm_state_name((enum rdma_cm_state)99), "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(active_side_sends_what_linux_sends),
        cmocka_unit_test(passive_side_sends_what_linux_sends),
        cmocka_unit_test(req_over_ipv6_names_the_addresses),
        cmocka_unit_test(request_over_ipv6_is_taken),
        cmocka_unit_test(local_address_is_of_the_family_and_near),
        cmocka_unit_test(state_names_are_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
