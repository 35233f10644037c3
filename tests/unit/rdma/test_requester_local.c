/* Work requests that cannot be carried out here, fences, local invalidation and bind, flush, drain
 * (IBA 10.7.2.2, 10.8.3.3, 10.8.6, 11.6.2). */
#include "rdma/rig.h"

/* --- keys and their work requests ------------------------------------------------------------- */

static struct mem_seg seg;

/* 4 KiB for a key; one at a time. */
static const struct mem_ref *memory_at(uint32_t offset)
{
    static struct mem_ref ref;

    seg = (struct mem_seg){.bus_addr = addr_at(offset), .len_bytes = 4096};
    ref = (struct mem_ref){.segs = &seg, .len_bytes = 4096, .seg_count = 1};
    return &ref;
}

static struct rdma_key *bound_key(uint64_t iova)
{
    struct rdma_key *key = rig_key(rig.pd);
    assert_int_equal(rdma_key_bind(key, memory_at(0), iova, RDMA_ACCESS_LOCAL_WRITE), STATUS_OK);
    return key;
}

static struct send *inv_wr(uint64_t id, uint32_t value)
{
    struct send *inv = send_wr(id, RDMA_WR_LOCAL_INV, 0, 0);
    inv->wr.sge_count = 0;
    inv->wr.imm = value;
    return inv;
}

/* At address 0, with all rights. */
static struct send *bind_wr(uint64_t id, struct rdma_key *key, const struct mem_ref *ref)
{
    struct send *bind = send_wr(id, RDMA_WR_BIND, 0, 0);
    bind->wr.sge_count = 0;
    bind->wr.bind.key = key;
    bind->wr.bind.ref = ref;
    bind->wr.bind.iova = 0;
    bind->wr.bind.access = ALL;
    return bind;
}

/* --- local errors ----------------------------------------------------------------------------- */

/* The work request has `status`, those before it succeed in order, those behind are flushed. */
static void expect_local_error(struct send *bad, enum rdma_wc_status status)
{
    post(1, RDMA_WR_SEND, 0, 8);
    bad->wr.wr_id = 2;
    post_wr(rig.qp, &bad->wr);
    assert_int_equal(rdma_post_send(rig.qp, &send_wr(3, RDMA_WR_SEND, 0, 8)->wr, NULL), STATUS_OK);
    rig_turn();
    expect(SEND_ONLY, SQ_PSN);
    peer_drain(); /* packets of the bad one that were still good */
    expect_no_wc();
    assert_int_equal(rig.qp->state, RDMA_QP_RTS); /* until the first is acknowledged */
    peer_ack(SQ_PSN);
    expect_wc(1, RDMA_WC_SUCCESS);
    expect_wc(2, status);
    expect_wc(3, RDMA_WC_WR_FLUSH_ERR);
    expect_no_wc();
    expect_silence();
    assert_int_equal(rig.qp->state, RDMA_QP_ERR);
    rig_advance(10 * RTO_NS);
    expect_silence();
}

static void local_error_bad_lkey_ends_in_order(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct send *send = send_wr(0, RDMA_WR_SEND, 0, 1000);
    send->sges[0].lkey ^= 0x10000;
    expect_local_error(send, RDMA_WC_LOC_PROT_ERR);
    assert_int_equal(STAT(key_violations), 1);
}

static void local_error_lkey_beyond_the_table_ends_in_order(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct send *send = send_wr(0, RDMA_WR_SEND, 0, 20);
    send->sges[0].lkey = 0xffffffff;
    expect_local_error(send, RDMA_WC_LOC_PROT_ERR);
}

static void local_error_range_ends_in_order(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_mr *mr = rig_mr(rig.pd, 4096, 4096, 0);
    struct send *send = send_wr(0, RDMA_WR_RDMA_WRITE, 4096 + 2048, 2049);
    send->sges[0].lkey = mr->lkey;
    expect_local_error(send, RDMA_WC_LOC_PROT_ERR);
}

static void local_error_range_below_ends_in_order(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_mr *mr = rig_mr(rig.pd, 4096, 4096, 0);
    struct send *send = send_wr(0, RDMA_WR_SEND, 4095, 200);
    send->sges[0].lkey = mr->lkey;
    expect_local_error(send, RDMA_WC_LOC_PROT_ERR);
}

/* 10.2.3: another domain's key. */
static void local_error_other_domain_ends_in_order(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_mr *mr = rig_mr(rig_pd(), 0, 4096, RDMA_ACCESS_LOCAL_WRITE);
    struct send *send = send_wr(0, RDMA_WR_SEND, 0, 200);
    send->sges[0].lkey = mr->lkey;
    expect_local_error(send, RDMA_WC_LOC_PROT_ERR);
}

/* In the second SGE, in the second packet: the first packet has left. */
static void local_error_in_a_later_packet_ends_in_order(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct send *send = send_wr(0, RDMA_WR_SEND, 0, 1024);
    send->sges[1] = (struct rdma_sge){.addr = addr_at(0), .len_bytes = 200, .lkey = 0};
    send->wr.sge_count = 2;
    expect_local_error(send, RDMA_WC_LOC_PROT_ERR);
}

/* 10.8.5: a message is at most as long as the device says; the sum is meant. */
static void local_error_length_ends_in_order(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct send *send = send_wr(0, RDMA_WR_SEND, 0, rig.dev->attr.msg_bytes_max);
    send->sges[1] = (struct rdma_sge){.addr = addr_at(0), .len_bytes = 1, .lkey = rig.mr->lkey};
    send->wr.sge_count = 2;
    expect_local_error(send, RDMA_WC_LOC_LEN_ERR);
}

/* The sum does not wrap. */
static void local_error_length_beyond_32_bits_ends_in_order(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct send *send = send_wr(0, RDMA_WR_SEND, 0, 0x80000000);
    send->sges[1] = send->sges[0];
    send->sges[1].len_bytes += 16;
    send->wr.sge_count = 2;
    expect_local_error(send, RDMA_WC_LOC_LEN_ERR);
}

static void local_error_read_without_resources_ends_in_order(void **state)
{
    (void)state;
    rig_qp(&(struct rig_qp_options){.rd_atomic = 255});
    expect_local_error(send_wr(0, RDMA_WR_RDMA_READ, 0, 8), RDMA_WC_LOC_QP_OP_ERR);
}

static void local_error_invalidation_of_no_key_ends_in_order(void **state)
{
    (void)state;
    rig_qp(NULL);
    /* a region's is none */
    expect_local_error(inv_wr(0, rig.mr->lkey), RDMA_WC_LOC_QP_OP_ERR);
}

/* What stands before the bad one is lost on the way: it is sent again and succeeds as if the bad
 * one were not there (10.7.2.2: each work request before the one in error completes as it would).
 * */
static void local_error_waits_for_what_is_sent_again(void **state)
{
    (void)state;
    rig_qp(NULL);
    post(1, RDMA_WR_SEND, 0, 8);
    struct send *bad = send_wr(2, RDMA_WR_SEND, 0, 1000);
    bad->sges[0].lkey = 0;
    post_wr(rig.qp, &bad->wr);
    post(3, RDMA_WR_SEND, 0, 8);
    expect(SEND_ONLY, SQ_PSN);
    rig_advance(RTO_NS + RIG_TICK_NS);
    expect(SEND_ONLY, SQ_PSN);
    expect_silence();
    expect_no_wc();
    peer_nak(SQ_PSN, NAK_SEQUENCE);
    expect(SEND_ONLY, SQ_PSN);
    peer_ack(SQ_PSN);
    expect_wc(1, RDMA_WC_SUCCESS);
    expect_wc(2, RDMA_WC_LOC_PROT_ERR);
    expect_wc(3, RDMA_WC_WR_FLUSH_ERR);
    expect_silence();
}

/* ... and if the peer does not answer, the older one is the one that fails. */
static void local_error_behind_a_lost_peer_is_flushed(void **state)
{
    (void)state;
    rig_qp(&(struct rig_qp_options){.retry_cnt = 1});
    post(1, RDMA_WR_SEND, 0, 8);
    struct send *bad = send_wr(2, RDMA_WR_SEND, 0, 1000);
    bad->sges[0].lkey = 0;
    post_wr(rig.qp, &bad->wr);
    rig_advance(5 * RTO_NS);
    assert_int_equal(peer_drain(), 2);
    expect_wc(1, RDMA_WC_RETRY_EXC_ERR);
    const struct rdma_wc *wc = expect_wc(2, RDMA_WC_WR_FLUSH_ERR);
    assert_int_equal(wc->vendor_err, 0);
    expect_no_wc();
}

/* What a READ brings must be writable here, each time (10.6.3.1). */
static void local_error_read_into_what_may_not_be_written(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_mr *mr = rig_mr(rig.pd, 0, 4096, 0);
    struct send *send = send_wr(1, RDMA_WR_RDMA_READ, 0, 100);
    send->sges[0].lkey = mr->lkey;
    post_wr(rig.qp, &send->wr);
    expect(READ_REQUEST, SQ_PSN);
    struct pkt *answer = pkt(READ_ONLY, SQ_PSN, 100);
    answer->syndrome = ACK_SYNDROME;
    peer_send(answer);
    expect_wc(1, RDMA_WC_LOC_PROT_ERR);
    assert_int_equal(rig.qp->state, RDMA_QP_ERR);
    assert_int_equal(rig.memory[0], 0xee);
}

/* --- forms ------------------------------------------------------------------------------------ */

static void post_of_a_bad_form_is_refused(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct send *send = send_wr(1, RDMA_WR_SEND, 0, 8);
    send->wr.opcode = 99;
    assert_int_equal(rdma_post_send(rig.qp, &send->wr, NULL), STATUS_INVALID);
    send = send_wr(1, RDMA_WR_SEND, 0, 8);
    send->wr.sge_count = 5;
    assert_int_equal(rdma_post_send(rig.qp, &send->wr, NULL), STATUS_INVALID);
    struct rdma_sge sges[5] = {0};
    struct rdma_recv_wr recv = {.sges = sges, .sge_count = 5};
    assert_int_equal(rdma_post_recv(rig.qp, &recv, NULL), STATUS_INVALID);
    rig_turn();
    expect_silence();
    expect_no_wc();
}

/* 10.8.1, 10.3.1: where nothing is sent yet nothing is taken; in error it is flushed. */
static void post_in_each_state_is_taken_refused_or_flushed(void **state)
{
    (void)state;
    static const struct {
        enum rdma_qp_state state;
        enum status send;
        enum status recv;
    } rows[] = {
        {RDMA_QP_INIT, STATUS_INVALID, STATUS_OK}, {RDMA_QP_RTR, STATUS_INVALID, STATUS_OK},
        {RDMA_QP_RTS, STATUS_OK, STATUS_OK},       {RDMA_QP_SQD, STATUS_OK, STATUS_OK},
        {RDMA_QP_ERR, STATUS_OK, STATUS_OK},
    };
    struct rdma_sge sge = {.addr = addr_at(0), .len_bytes = 8, .lkey = rig.mr->lkey};
    struct rdma_recv_wr recv = {.wr_id = 2, .sges = &sge, .sge_count = 1};
    struct rdma_qp *qp = rig_qp_create(RDMA_QP_RC, NULL);
    assert_int_equal(rdma_post_send(qp, &send_wr(1, RDMA_WR_SEND, 0, 8)->wr, NULL), STATUS_INVALID);
    assert_int_equal(rdma_post_recv(qp, &recv, NULL), STATUS_INVALID);
    rig_qp_destroy(qp);
    for (uint32_t i = 0; i < ARRAY_SIZE(rows); i++) {
        qp = rig_qp(&(struct rig_qp_options){.state = rows[i].state});
        assert_int_equal(rdma_post_send(qp, &send_wr(1, RDMA_WR_SEND, 0, 8)->wr, NULL),
                         rows[i].send);
        assert_int_equal(rdma_post_recv(qp, &recv, NULL), rows[i].recv);
        rig_turn();
        if (rows[i].state == RDMA_QP_ERR) {
            expect_wc(1, RDMA_WC_WR_FLUSH_ERR);
            expect_recv_wc(2, RDMA_WC_WR_FLUSH_ERR);
        }
        expect_no_wc();
        assert_int_equal(peer_drain(), rows[i].state == RDMA_QP_RTS ? 1 : 0);
        rig_qp_destroy(qp);
    }
}

/* --- fence and READs at once ------------------------------------------------------------------ */

static void answer_read(uint32_t psn, uint32_t len)
{
    struct pkt *answer = pkt(READ_ONLY, psn, len);
    answer->syndrome = ACK_SYNDROME;
    peer_send(answer);
}

/* 10.8.3.3 */
static void fence_waits_for_reads_before_it(void **state)
{
    (void)state;
    rig_qp(NULL);
    post(1, RDMA_WR_RDMA_READ, 0, 8);
    post(2, RDMA_WR_RDMA_READ, 0, 8);
    struct send *send = send_wr(3, RDMA_WR_SEND, 0, 8);
    send->wr.flags |= RDMA_SEND_FENCE;
    post_wr(rig.qp, &send->wr);
    post(4, RDMA_WR_SEND, 0, 8); /* may not overtake it */
    expect(READ_REQUEST, SQ_PSN);
    expect(READ_REQUEST, SQ_PSN + 1);
    expect_silence();
    answer_read(SQ_PSN, 8);
    expect_silence();
    answer_read(SQ_PSN + 1, 8);
    expect(SEND_ONLY, SQ_PSN + 2);
    expect(SEND_ONLY, SQ_PSN + 3);
    peer_ack(SQ_PSN + 3);
    for (uint32_t i = 1; i <= 4; i++) {
        expect_wc(i, RDMA_WC_SUCCESS);
    }
}

static void fence_does_not_wait_for_sends(void **state)
{
    (void)state;
    rig_qp(NULL);
    post(1, RDMA_WR_SEND, 0, 8);
    struct send *send = send_wr(2, RDMA_WR_SEND, 0, 8);
    send->wr.flags |= RDMA_SEND_FENCE;
    post_wr(rig.qp, &send->wr);
    expect(SEND_ONLY, SQ_PSN);
    expect(SEND_ONLY, SQ_PSN + 1);
    peer_ack(SQ_PSN + 1);
    expect_wc(1, RDMA_WC_SUCCESS);
    expect_wc(2, RDMA_WC_SUCCESS);
}

/* 9.7.2, max_rd_atomic: no more READs at once than the peer can take; what is behind waits too. */
static void read_beyond_max_rd_atomic_waits(void **state)
{
    (void)state;
    for (uint8_t max = 1; max <= 16; max += 5) {
        struct rdma_qp *qp = rig_qp(&(struct rig_qp_options){.rd_atomic = max});
        for (uint32_t i = 0; i <= max; i++) {
            post(i, RDMA_WR_RDMA_READ, i * 8, 8);
        }
        post(99, RDMA_WR_SEND, 0, 8);
        for (uint32_t i = 0; i < max; i++) {
            expect(READ_REQUEST, SQ_PSN + i);
        }
        expect_silence();
        assert_int_equal(rig_info(qp).reads_out, max);
        answer_read(SQ_PSN, 8);
        expect(READ_REQUEST, SQ_PSN + max);
        expect(SEND_ONLY, SQ_PSN + max + 1);
        expect_wc(0, RDMA_WC_SUCCESS);
        rig_qp_destroy(qp);
    }
}

/* --- local invalidation and bind -------------------------------------------------------------- */

/* In its turn, and complete when those before it are (10.8.4). */
static void local_inv_is_done_in_its_turn(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_key *key = bound_key(0x1000);
    struct send *send = send_wr(1, RDMA_WR_SEND, 0, 1000);
    send->sges[0] = (struct rdma_sge){.addr = 0x1000, .len_bytes = 1000, .lkey = key->value};
    struct send *inv = inv_wr(2, key->value);
    send->wr.next = &inv->wr;
    post_wr(rig.qp, &send->wr);
    expect(SEND_ONLY, SQ_PSN);
    assert_false(key->is_bound);
    expect_no_wc(); /* in order */
    peer_ack(SQ_PSN);
    assert_int_equal(expect_wc(1, RDMA_WC_SUCCESS)->opcode, RDMA_WC_SEND);
    assert_int_equal(expect_wc(2, RDMA_WC_SUCCESS)->opcode, RDMA_WC_LOCAL_INV);
    assert_true(rdma_key_is_quiet(key));
}

static void local_inv_alone_completes_at_once(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_key *key = bound_key(0x1000);
    struct send *inv = inv_wr(2, key->value);
    post_wr(rig.qp, &inv->wr);
    expect_wc(2, RDMA_WC_SUCCESS);
    expect_silence();
    assert_false(key->is_bound);
}

/* The value is known before, goes out in a message, and holds from the bind on. */
static void bind_is_done_in_its_turn_with_the_prepared_value(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_key *key = rig_key(rig.pd);
    uint32_t value = rdma_key_prepare(key);
    assert_int_equal(rdma_key_prepare(key), value);
    struct send *bind = bind_wr(1, key, memory_at(8192));
    bind->wr.bind.iova = 0x70000;
    struct send *send = send_wr(2, RDMA_WR_SEND, 0, 8);
    bind->wr.next = &send->wr;
    post_wr(rig.qp, &bind->wr);
    expect(SEND_ONLY, SQ_PSN);
    assert_int_equal(expect_wc(1, RDMA_WC_SUCCESS)->opcode, RDMA_WC_BIND);
    assert_true(key->is_bound);
    assert_int_equal(key->value, value);
    peer_send(pkt_rdma(WRITE_ONLY, RQ_PSN, 100, 0x70010, value, 100));
    assert_filled(8192 + 16, 100, 0);
    expect_ack(RQ_PSN, 1);
    peer_ack(SQ_PSN);
    expect_wc(2, RDMA_WC_SUCCESS);
}

static void bind_of_a_bound_key_is_a_bind_error(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_key *key = bound_key(0);
    expect_local_error(bind_wr(0, key, memory_at(0)), RDMA_WC_MW_BIND_ERR);
}

static void bind_of_another_domains_key_is_a_bind_error(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_key *key = rig_key(rig_pd());
    expect_local_error(bind_wr(0, key, memory_at(0)), RDMA_WC_MW_BIND_ERR);
}

/* A fence holds an invalidation until READs that use the key have ended (10.8.3.3, table 79). */
static void local_inv_with_fence_waits_for_reads(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_key *key = bound_key(0);
    struct send *read = send_wr(1, RDMA_WR_RDMA_READ, 0, 8);
    read->sges[0] = (struct rdma_sge){.addr = 16, .len_bytes = 8, .lkey = key->value};
    struct send *inv = inv_wr(2, key->value);
    inv->wr.flags |= RDMA_SEND_FENCE;
    read->wr.next = &inv->wr;
    post_wr(rig.qp, &read->wr);
    expect(READ_REQUEST, SQ_PSN);
    assert_true(key->is_bound);
    answer_read(SQ_PSN, 8);
    expect_wc(1, RDMA_WC_SUCCESS);
    expect_wc(2, RDMA_WC_SUCCESS);
    assert_false(key->is_bound);
    assert_filled(16, 8, 0);
}

/* The memory was given back before the bind had its turn: the key stays closed. */
static void bind_that_waits_is_void_after_its_key_was_invalidated(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_key *key = rig_key(rig.pd);
    uint32_t value = rdma_key_prepare(key);

    post(1, RDMA_WR_SEND, 0, 10);
    expect(SEND_ONLY, SQ_PSN);
    peer_nak(SQ_PSN, RNR_SYNDROME | 31); /* half a second */
    post_wr(rig.qp, &bind_wr(9, key, memory_at(0))->wr);
    rdma_key_invalidate(key);
    assert_true(rdma_key_is_quiet(key));
    memset(&seg, 0xff, sizeof(seg)); /* whoever follows it goes astray */
    rig_advance(NS_PER_S / 2 + NS_PER_MS);
    expect(SEND_ONLY, SQ_PSN);
    peer_ack(SQ_PSN);
    expect_wc(1, RDMA_WC_SUCCESS);
    expect_wc(9, RDMA_WC_MW_BIND_ERR);
    assert_false(key->is_bound);
    assert_int_not_equal(rdma_key_prepare(key), value);
    take_events();
}

/* Bind, invalidate by work request, bind again: that is no cancel. */
static void bind_again_behind_an_invalidation_is_good(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_key *key = rig_key(rig.pd);

    post_wr(rig.qp, &bind_wr(9, key, memory_at(0))->wr);
    expect_wc(9, RDMA_WC_SUCCESS);
    post_wr(rig.qp, &inv_wr(10, key->value)->wr);
    expect_wc(10, RDMA_WC_SUCCESS);
    post_wr(rig.qp, &bind_wr(9, key, memory_at(0))->wr);
    expect_wc(9, RDMA_WC_SUCCESS);
    assert_true(key->is_bound);
    rdma_key_invalidate(key);
}

/* --- flush and drain -------------------------------------------------------------------------- */

/* 10.3.1.8: all of both queues, each in its order. */
static void flush_completes_everything_in_order(void **state)
{
    (void)state;
    rig_qp(NULL);
    for (uint32_t i = 0; i < 100; i++) {
        struct send *send = send_wr(i, RDMA_WR_SEND, 0, 8);
        send->wr.flags = i % 2 == 0 ? RDMA_SEND_SIGNALED : 0; /* an error is always told */
        post_wr(rig.qp, &send->wr);
        post_recv(1000 + i, 0, 8);
    }
    peer_drain();
    assert_int_equal(rig_qp_to(rig.qp, RDMA_QP_ERR), STATUS_OK);
    for (uint32_t i = 0; i < 100; i++) {
        expect_wc(i, RDMA_WC_WR_FLUSH_ERR);
        expect_recv_wc(1000 + i, RDMA_WC_WR_FLUSH_ERR);
    }
    expect_no_wc();
    rig_advance(10 * RTO_NS);
    peer_ack(SQ_PSN);
    expect_no_wc();
    expect_silence();
}

/* 10.3.1.6: what has begun ends, nothing more begins, then it is told. */
static void sqd_drains_what_has_begun(void **state)
{
    (void)state;
    rig_qp(NULL);
    post(1, RDMA_WR_SEND, 0, 8);
    assert_int_equal(rdma_post_send(rig.qp, &send_wr(2, RDMA_WR_SEND, 0, 100 * 1024)->wr, NULL),
                     STATUS_OK);
    rig_turn();
    post(3, RDMA_WR_SEND, 0, 8);
    assert_int_equal(peer_drain(), 64);
    assert_int_equal(rig_qp_to(rig.qp, RDMA_QP_SQD), STATUS_OK);
    rig_turn();
    assert_int_equal(rig.event_count, 0);
    peer_ack(SQ_PSN + 63);
    assert_int_equal(peer_drain(), 37);
    assert_int_equal(rig.event_count, 0);
    peer_ack(SQ_PSN + 100);
    expect_wc(1, RDMA_WC_SUCCESS);
    expect_wc(2, RDMA_WC_SUCCESS);
    expect_no_wc();
    expect_event(RDMA_EVENT_SQ_DRAINED);
    assert_ptr_equal(rig.last_event.qp, rig.qp);
    expect_silence();
    assert_int_equal(rig_qp_to(rig.qp, RDMA_QP_RTS), STATUS_OK);
    rig_turn();
    expect(SEND_ONLY, SQ_PSN + 101);
    peer_ack(SQ_PSN + 101);
    expect_wc(3, RDMA_WC_SUCCESS);
    assert_int_equal(rig.event_count, 0);
}

static void sqd_of_an_idle_queue_is_told_at_once(void **state)
{
    (void)state;
    rig_qp(NULL);
    assert_int_equal(rig_qp_to(rig.qp, RDMA_QP_SQD), STATUS_OK);
    rig_turn();
    expect_event(RDMA_EVENT_SQ_DRAINED);
    rig_advance(NS_PER_MS);
    assert_int_equal(rig.event_count, 0);
    assert_int_equal(rig_qp_to(rig.qp, RDMA_QP_RTS), STATUS_OK);
    rig_turn();
    assert_int_equal(rig.event_count, 0);
    assert_int_equal(rig_qp_to(rig.qp, RDMA_QP_SQD), STATUS_OK);
    rig_turn();
    expect_event(RDMA_EVENT_SQ_DRAINED); /* each time */
}

/* Retries go on in SQD. */
static void sqd_goes_on_with_retries(void **state)
{
    (void)state;
    rig_qp(NULL);
    post(1, RDMA_WR_SEND, 0, 8);
    peer_drain();
    assert_int_equal(rig_qp_to(rig.qp, RDMA_QP_SQD), STATUS_OK);
    rig_advance(RTO_NS + RIG_TICK_NS);
    expect(SEND_ONLY, SQ_PSN);
    assert_int_equal(rig.event_count, 0);
    peer_ack(SQ_PSN);
    expect_wc(1, RDMA_WC_SUCCESS);
    expect_event(RDMA_EVENT_SQ_DRAINED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(local_error_bad_lkey_ends_in_order),
        RIG_TEST(local_error_lkey_beyond_the_table_ends_in_order),
        RIG_TEST(local_error_range_ends_in_order),
        RIG_TEST(local_error_range_below_ends_in_order),
        RIG_TEST(local_error_other_domain_ends_in_order),
        RIG_TEST(local_error_in_a_later_packet_ends_in_order),
        RIG_TEST(local_error_length_ends_in_order),
        RIG_TEST(local_error_length_beyond_32_bits_ends_in_order),
        RIG_TEST(local_error_read_without_resources_ends_in_order),
        RIG_TEST(local_error_invalidation_of_no_key_ends_in_order),
        RIG_TEST(local_error_waits_for_what_is_sent_again),
        RIG_TEST(local_error_behind_a_lost_peer_is_flushed),
        RIG_TEST(local_error_read_into_what_may_not_be_written),
        RIG_TEST(post_of_a_bad_form_is_refused),
        RIG_TEST(post_in_each_state_is_taken_refused_or_flushed),
        RIG_TEST(fence_waits_for_reads_before_it),
        RIG_TEST(fence_does_not_wait_for_sends),
        RIG_TEST(read_beyond_max_rd_atomic_waits),
        RIG_TEST(local_inv_is_done_in_its_turn),
        RIG_TEST(local_inv_alone_completes_at_once),
        RIG_TEST(bind_is_done_in_its_turn_with_the_prepared_value),
        RIG_TEST(bind_of_a_bound_key_is_a_bind_error),
        RIG_TEST(bind_of_another_domains_key_is_a_bind_error),
        RIG_TEST(local_inv_with_fence_waits_for_reads),
        RIG_TEST(bind_that_waits_is_void_after_its_key_was_invalidated),
        RIG_TEST(bind_again_behind_an_invalidation_is_good),
        RIG_TEST(flush_completes_everything_in_order),
        RIG_TEST(sqd_drains_what_has_begun),
        RIG_TEST(sqd_of_an_idle_queue_is_told_at_once),
        RIG_TEST(sqd_goes_on_with_retries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
