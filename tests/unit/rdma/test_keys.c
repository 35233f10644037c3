/* Keys bound for one I/O: who may reach what, when they are quiet, remote invalidation (IBA 9.4,
 * 9.7.4.1.3, 10.6.7). */
#include "rdma/rig.h"

#include "base/mem_ref.h"

#define IOVA UINT64_C(0x7000000000)

/* --- keys for one I/O ------------------------------------------------------------------------- */

static struct mem_seg segs[64];
static struct mem_ref ref;

/* Three segments with gaps between: 100, 3000 and 900 bytes. */
static void scattered(void)
{
    segs[0] = (struct mem_seg){.bus_addr = addr_at(0x10000), .len_bytes = 100};
    segs[1] = (struct mem_seg){.bus_addr = addr_at(0x08000), .len_bytes = 3000};
    segs[2] = (struct mem_seg){.bus_addr = addr_at(0x20000), .len_bytes = 900};
    ref = (struct mem_ref){.segs = segs, .len_bytes = 4000, .seg_count = 3};
}

static struct rdma_key *bound(uint32_t access)
{
    struct rdma_key *key = rig_key(rig.pd);
    scattered();
    assert_int_equal(rdma_key_bind(key, &ref, IOVA, access), STATUS_OK);
    assert_true(key->is_bound);
    return key;
}

static void key_bound_to_a_scatter_list_is_one_range(void **state)
{
    (void)state;
    rig_qp(&(struct rig_qp_options){.mtu = RDMA_MTU_4096});
    struct rdma_key *key = bound(ALL);
    expect_reachable(RQ_PSN, IOVA, key->value, 4000, 1);
    uint8_t all[4000];
    pattern(all, sizeof(all), 0);
    assert_memory_equal(rig.memory + 0x10000, all, 100);
    assert_memory_equal(rig.memory + 0x08000, all + 100, 3000);
    assert_memory_equal(rig.memory + 0x20000, all + 3100, 900);
    assert_int_equal(rig.memory[0x10000 + 100], 0xee);
    assert_int_equal(rig.memory[0x08000 + 3000], 0xee);
    assert_int_equal(rig.memory[0x20000 + 900], 0xee);
    /* Anywhere, back and forth: the cursor finds it. */
    const uint32_t offsets[] = {3999, 0, 3099, 99, 100, 3100, 50, 2000};
    uint32_t psn = RQ_PSN + 2;
    for (uint32_t i = 0; i < ARRAY_SIZE(offsets); i++, psn++) {
        uint32_t len = 4000 - offsets[i] < 500 ? 4000 - offsets[i] : 500;
        peer_send(pkt_rdma(READ_REQUEST, psn, 0, IOVA + offsets[i], key->value, len));
        expect_data(READ_ONLY, psn, len, 0, offsets[i]);
    }
}

/* More pieces than a frame can point at: copied, and right. */
static void key_with_more_pieces_than_a_frame_is_copied(void **state)
{
    (void)state;
    rig_qp(NULL);
    for (uint32_t i = 0; i < 64; i++) {
        segs[i] = (struct mem_seg){.bus_addr = addr_at(i * 4096 + 3), .len_bytes = 16};
        pattern(rig.memory + i * 4096 + 3, 16, 0);
    }
    ref = (struct mem_ref){.segs = segs, .len_bytes = 1024, .seg_count = 64};
    struct rdma_key *key = rig_key(rig.pd);
    assert_int_equal(rdma_key_bind(key, &ref, 0, ALL), STATUS_OK);
    peer_send(a_read(0, key->value, 1024));
    const struct pkt *got = expect(READ_ONLY, RQ_PSN);
    uint8_t piece[16];
    pattern(piece, 16, 0);
    for (uint32_t i = 0; i < 64; i++) {
        assert_memory_equal(got->payload + i * 16, piece, 16);
    }
    assert_int_equal(STAT(copied_bytes), 1024);
    assert_int_equal(STAT(zero_copy_bytes), 0);
}

/* Exactly as many as fit, and one more. */
static void key_with_as_many_pieces_as_a_frame_is_not_copied(void **state)
{
    (void)state;
    rig_qp(NULL);
    uint32_t psn = RQ_PSN;
    for (uint32_t count = 5; count <= 7; count++) {
        uint64_t before = STAT(zero_copy_bytes);
        for (uint32_t i = 0; i < count; i++) {
            segs[i] = (struct mem_seg){.bus_addr = addr_at(i * 4096), .len_bytes = 100};
        }
        ref =
            (struct mem_ref){.segs = segs, .len_bytes = count * 100, .seg_count = (uint16_t)count};
        struct rdma_key *key = rig_key(rig.pd);
        assert_int_equal(rdma_key_bind(key, &ref, 0, ALL), STATUS_OK);
        peer_send(pkt_rdma(READ_REQUEST, psn, 0, 0, key->value, count * 100));
        assert_int_equal(expect(READ_ONLY, psn++)->len, count * 100);
        assert_int_equal(STAT(zero_copy_bytes) - before, count <= 6 ? count * 100 : 0);
    }
}

static void key_out_of_range_or_right_refuses(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_key *key = bound(ALL);
    expect_refused(a_write(IOVA - 1, key->value, 1));
    expect_refused(a_write(IOVA + 4000, key->value, 1));
    expect_refused(a_write(IOVA + 3999, key->value, 2));
    expect_refused(a_read(IOVA, key->value, 4001));
    struct rdma_key *read = bound(RDMA_ACCESS_REMOTE_READ);
    expect_refused(a_write(IOVA, read->value, 1));
    struct rdma_key *write = bound(RDMA_ACCESS_LOCAL_WRITE | RDMA_ACCESS_REMOTE_WRITE);
    expect_refused(a_read(IOVA, write->value, 1));
    assert_int_equal(rig.memory[0x10000], 0xee);
}

/* 10.6.7.2: a value is good for one bind. */
static void key_old_value_refuses(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_key *key = bound(ALL);
    uint32_t old = key->value;
    rdma_key_invalidate(key);
    assert_false(key->is_bound);
    expect_refused(a_write(IOVA, old, 1));
    for (uint32_t i = 0; i < 100; i++) {
        assert_int_equal(rdma_key_bind(key, &ref, IOVA, ALL), STATUS_OK);
        assert_int_not_equal(key->value, old);
        old = key->value;
        rdma_key_invalidate(key);
    }
    assert_int_equal(rdma_key_bind(key, &ref, IOVA, ALL), STATUS_OK);
    expect_refused(a_read(IOVA, old, 1));
    expect_reachable(RQ_PSN, IOVA, key->value, 4, 1);
}

/* Prepared but not bound: the value is of no use yet. */
static void key_prepared_value_before_the_bind_refuses(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_key *key = rig_key(rig.pd);
    uint32_t value = rdma_key_prepare(key);
    expect_refused(a_read(0, value, 1));
    scattered();
    assert_int_equal(rdma_key_bind(key, &ref, IOVA, ALL), STATUS_OK);
    assert_int_equal(key->value, value);
    assert_int_not_equal(rdma_key_prepare(key), value); /* the next one */
    expect_reachable(RQ_PSN, IOVA, value, 4, 1);
}

static void key_of_another_tenant_refuses(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_key *key = rig_key(rig_pd());
    scattered();
    assert_int_equal(rdma_key_bind(key, &ref, IOVA, ALL), STATUS_OK);
    expect_refused(a_write(IOVA, key->value, 4));
    expect_refused(a_read(IOVA, key->value, 4));
}

static void key_bind_that_cannot_be_is_refused(void **state)
{
    (void)state;
    struct rdma_key *key = rig_key(rig.pd);
    scattered();
    assert_int_equal(rdma_key_bind(key, &ref, IOVA, RDMA_ACCESS_REMOTE_WRITE), STATUS_INVALID);
    assert_int_equal(rdma_key_bind(key, &ref, IOVA, 16), STATUS_INVALID);
    assert_int_equal(rdma_key_bind(key, &ref, UINT64_MAX - 3998, ALL), STATUS_INVALID);
    struct mem_ref empty = {.segs = segs};
    assert_int_equal(rdma_key_bind(key, &empty, IOVA, ALL), STATUS_INVALID);
    assert_int_equal(rdma_key_bind(key, &ref, UINT64_MAX - 3999, ALL), STATUS_OK);
    assert_int_equal(rdma_key_bind(key, &ref, IOVA, ALL), STATUS_EXISTS);
    assert_int_equal(rdma_key_free(key), STATUS_AGAIN);
}

/* In the middle of a WRITE: what came is there, the rest is refused. */
static void key_invalidated_in_the_middle_of_a_write(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_key *key = bound(ALL);
    peer_send(pkt_rdma(WRITE_FIRST, RQ_PSN, 1024, IOVA, key->value, 3000));
    rdma_key_invalidate(key);
    peer_send(pkt(WRITE_MIDDLE, RQ_PSN + 1, 1024));
    expect_nak(RQ_PSN + 1, NAK_ACCESS, 0);
    expect_event(RDMA_EVENT_QP_ACCESS_ERR);
    assert_int_equal(rig.memory[0x08000 + 924], 0xee);
}

/* ... also when it is bound anew meanwhile, to other memory. */
static void key_bound_anew_in_the_middle_of_a_write(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_key *key = bound(ALL);
    peer_send(pkt_rdma(WRITE_FIRST, RQ_PSN, 1024, IOVA, key->value, 3000));
    rdma_key_invalidate(key);
    assert_int_equal(rdma_key_bind(key, &ref, IOVA, ALL), STATUS_OK);
    peer_send(pkt(WRITE_MIDDLE, RQ_PSN + 1, 1024));
    expect_nak(RQ_PSN + 1, NAK_ACCESS, 0);
    expect_event(RDMA_EVENT_QP_ACCESS_ERR);
}

/* In the middle of a READ of the peer, whose responses wait for room at the port. */
static void key_invalidated_in_the_middle_of_a_read(void **state)
{
    (void)state;
    rig_qp(&(struct rig_qp_options){.mtu = RDMA_MTU_256});
    segs[0] = (struct mem_seg){.bus_addr = addr_at(0), .len_bytes = 1 << 20};
    ref = (struct mem_ref){.segs = segs, .len_bytes = 1 << 20, .seg_count = 1};
    struct rdma_key *key = rig_key(rig.pd);
    assert_int_equal(rdma_key_bind(key, &ref, IOVA, ALL), STATUS_OK);
    wire_hold_reap(rig.wire, true);
    peer_send(a_read(IOVA, key->value, 1 << 20));
    uint32_t before = peer_drain();
    assert_true(before > 16 && before < 4096);
    assert_false(rdma_key_is_quiet(key));
    rdma_key_invalidate(key);
    assert_false(rdma_key_is_quiet(key)); /* frames under way point at it */
    assert_int_equal(rdma_key_free(key), STATUS_AGAIN);
    wire_hold_reap(rig.wire, false);
    rig_turn();
    expect_nak(RQ_PSN + before, NAK_ACCESS, 1);
    expect_silence();
    expect_event(RDMA_EVENT_QP_ACCESS_ERR);
    assert_true(rdma_key_is_quiet(key));
}

/* A READ was answered, then its memory was taken back; now the peer asks again, since a response
 * was lost, or a copy of the request is late: no reason to die, and nothing is told. */
static void key_invalidated_before_a_repeated_read_drops_it(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_key *key = bound(ALL);
    const struct pkt *request = a_read(IOVA, key->value, 1000);
    peer_send(request);
    expect(READ_ONLY, RQ_PSN);
    rdma_key_invalidate(key);
    peer_send(request);
    expect_silence();
    assert_int_equal(rig.qp->state, RDMA_QP_RTS);
    assert_int_equal(rig.event_count, 0);
    peer_send(pkt_rdma(WRITE_ONLY, RQ_PSN + 1, 4, addr_at(0), rig.mr->rkey, 4));
    expect_ack(RQ_PSN + 1, 2);
}

/* ... but one that was never answered in whole is refused, also when it was asked for twice. */
static void key_invalidated_before_the_answer_refuses_it(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_key *key = bound(ALL);
    wire_hold_reap(rig.wire, true);
    for (uint32_t i = 0; i < 4; i++) { /* no buffer is left */
        struct rdma_qp *other = rig_qp(&(struct rig_qp_options){.timeout = 255});
        post_wr(other, &send_wr(i, RDMA_WR_SEND, 0, 64 * 1024)->wr);
    }
    peer_drain();
    const struct pkt *request = a_read(IOVA, key->value, 1000);
    peer_send(request);
    peer_send(request);
    expect_silence();
    rdma_key_invalidate(key);
    wire_hold_reap(rig.wire, false);
    rig_turn();
    expect_nak(RQ_PSN, NAK_ACCESS, 1);
    expect_silence();
    expect_event(RDMA_EVENT_QP_ACCESS_ERR);
}

/* In the middle of what we send, the next packet fails. */
static void key_invalidated_under_a_work_request_fails_it(void **state)
{
    (void)state;
    rig_qp(NULL);
    segs[0] = (struct mem_seg){.bus_addr = addr_at(0), .len_bytes = 1 << 20};
    ref = (struct mem_ref){.segs = segs, .len_bytes = 1 << 20, .seg_count = 1};
    struct rdma_key *key = rig_key(rig.pd);
    assert_int_equal(rdma_key_bind(key, &ref, IOVA, ALL), STATUS_OK);
    struct send *send = send_wr(1, RDMA_WR_SEND, 0, 100 * 1024);
    send->sges[0] = (struct rdma_sge){.addr = IOVA, .len_bytes = 100 * 1024, .lkey = key->value};
    post_wr(rig.qp, &send->wr);
    assert_int_equal(peer_drain(), 64);
    rdma_key_invalidate(key);
    assert_true(rdma_key_is_quiet(key));
    peer_ack(SQ_PSN + 9);
    expect_silence();
    expect_wc(1, RDMA_WC_LOC_PROT_ERR);
    assert_int_equal(rig.qp->state, RDMA_QP_ERR);
}

/* Quiet as soon as the device let go, not before; nothing new begins meanwhile. */
static void key_is_quiet_when_the_device_has_read(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_key *key = bound(ALL);
    wire_hold_reap(rig.wire, true);
    peer_send(a_read(IOVA, key->value, 1000));
    expect(READ_ONLY, RQ_PSN);
    rdma_key_invalidate(key);
    assert_false(rdma_key_is_quiet(key));
    wire_hold_reap(rig.wire, false);
    rig_turn();
    assert_true(rdma_key_is_quiet(key));
}

static void key_whose_data_were_copied_is_quiet_at_once(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_key *key = bound(ALL);
    wire_hold_reap(rig.wire, true);
    peer_send(a_read(IOVA, key->value, 100));
    expect(READ_ONLY, RQ_PSN);
    peer_send(pkt_rdma(WRITE_ONLY, RQ_PSN + 1, 1000, IOVA, key->value, 1000));
    rdma_key_invalidate(key);
    assert_true(rdma_key_is_quiet(key));
}

/* --- remote invalidation (9.4.1.1.3, 10.6.7.2.3) ---------------------------------------------- */

static struct pkt *a_send_with_inv(uint32_t psn, uint32_t value)
{
    struct pkt *made = pkt(SEND_ONLY_INV, psn, 16);
    made->imm = value;
    return made;
}

static void remote_inv_invalidates_and_tells(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_key *key = bound(ALL);
    uint32_t value = key->value;
    post_recv(1, 0, 64);
    peer_send(a_send_with_inv(RQ_PSN, value));
    expect_ack(RQ_PSN, 1);
    const struct rdma_wc *wc = expect_recv_wc(1, RDMA_WC_SUCCESS);
    assert_int_equal(wc->flags, RDMA_WC_WITH_INV);
    assert_int_equal(wc->imm, value);
    assert_int_equal(wc->len_bytes, 16);
    assert_false(key->is_bound);
    peer_send(pkt_rdma(WRITE_ONLY, RQ_PSN + 1, 4, IOVA, value, 4));
    expect_nak(RQ_PSN + 1, NAK_ACCESS, 1);
    take_events();
}

/* The last packet of a longer one; a repetition does nothing, also when the key is bound anew. */
static void remote_inv_of_a_long_message_once(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_key *key = bound(ALL);
    uint32_t value = key->value;
    post_recv(1, 0, 4096);
    peer_send(pkt(SEND_FIRST, RQ_PSN, 1024));
    assert_true(key->is_bound);
    struct pkt *last = pkt(SEND_LAST_INV, RQ_PSN + 1, 8);
    last->imm = value;
    peer_send(last);
    assert_false(key->is_bound);
    expect_ack(RQ_PSN + 1, 1);
    expect_recv_wc(1, RDMA_WC_SUCCESS);
    assert_int_equal(rdma_key_bind(key, &ref, IOVA, ALL), STATUS_OK);
    peer_send(last);
    expect_ack(RQ_PSN + 1, 1);
    assert_true(key->is_bound);
}

/* A wrong one: of another tenant, old, of a region, of nothing. The receive ends in error, the peer
 * hears Remote Access Error, the key lives. */
static void remote_inv_of_a_wrong_key_is_an_access_error(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_key *other = rig_key(rig_pd());
    struct rdma_key *key = bound(ALL);
    uint32_t old = key->value;
    rdma_key_invalidate(key);
    assert_int_equal(rdma_key_bind(key, &ref, IOVA, ALL), STATUS_OK);
    assert_int_equal(rdma_key_bind(other, &ref, IOVA, ALL), STATUS_OK);
    const uint32_t values[] = {other->value,           old, rig.mr->rkey, 0, 0xffffffff,
                               key->value ^ 0x80000000};
    for (uint32_t i = 0; i < ARRAY_SIZE(values); i++) {
        post_recv(1, 0, 64);
        post_recv(2, 0, 64);
        expect_refused(a_send_with_inv(RQ_PSN, values[i]));
        struct rdma_wc wc[2];
        assert_int_equal(rdma_cq_poll(rig.recv_cq, wc, 2), 0); /* gone with the QP */
    }
    post_recv(1, 0, 64);
    post_recv(2, 0, 64);
    peer_send(a_send_with_inv(RQ_PSN, old));
    expect_recv_wc(1, RDMA_WC_LOC_ACCESS_ERR);
    expect_recv_wc(2, RDMA_WC_WR_FLUSH_ERR);
    expect_nak(RQ_PSN, NAK_ACCESS, 0);
    assert_true(key->is_bound && other->is_bound);
    take_events();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(key_bound_to_a_scatter_list_is_one_range),
        RIG_TEST(key_with_more_pieces_than_a_frame_is_copied),
        RIG_TEST(key_with_as_many_pieces_as_a_frame_is_not_copied),
        RIG_TEST(key_out_of_range_or_right_refuses),
        RIG_TEST(key_old_value_refuses),
        RIG_TEST(key_prepared_value_before_the_bind_refuses),
        RIG_TEST(key_of_another_tenant_refuses),
        RIG_TEST(key_bind_that_cannot_be_is_refused),
        RIG_TEST(key_invalidated_in_the_middle_of_a_write),
        RIG_TEST(key_bound_anew_in_the_middle_of_a_write),
        RIG_TEST(key_invalidated_in_the_middle_of_a_read),
        RIG_TEST(key_invalidated_before_a_repeated_read_drops_it),
        RIG_TEST(key_invalidated_before_the_answer_refuses_it),
        RIG_TEST(key_invalidated_under_a_work_request_fails_it),
        RIG_TEST(key_is_quiet_when_the_device_has_read),
        RIG_TEST(key_whose_data_were_copied_is_quiet_at_once),
        RIG_TEST(remote_inv_invalidates_and_tells),
        RIG_TEST(remote_inv_of_a_long_message_once),
        RIG_TEST(remote_inv_of_a_wrong_key_is_an_access_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
