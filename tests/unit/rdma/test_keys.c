/* Memory under keys: NIC memory, host windows, keys bound for one I/O; who may reach what, and when
 * (IBA 9.4, 9.7.4.1.3, 10.2.3, 10.6.3, 10.6.7). */
#include "rdma/rig.h"

#include "base/mem_ref.h"

#define ALL  (RDMA_ACCESS_LOCAL_WRITE | RDMA_ACCESS_REMOTE_WRITE | RDMA_ACCESS_REMOTE_READ)
#define IOVA UINT64_C(0x7000000000)
#define HOST UINT64_C(0x100000)

/* The peer's attempt is refused: NAK Remote Access Error, the QP is dead, memory is as it was. */
static void expect_refused(const struct pkt *made)
{
    uint32_t msn = rig_info(rig.qp).msn;
    uint64_t before = STAT(key_violations);
    peer_send(made);
    expect_nak(made->psn, NAK_ACCESS, msn);
    expect_silence();
    assert_int_equal(rig.qp->state, RDMA_QP_ERR);
    expect_event(RDMA_EVENT_QP_ACCESS_ERR);
    assert_true(STAT(key_violations) > before);
    rig_qp_destroy(rig.qp);
    rig_qp(NULL);
}

static const struct pkt *a_write(uint64_t va, uint32_t rkey, uint32_t len)
{
    return pkt_rdma(WRITE_ONLY, RQ_PSN, len, va, rkey, len);
}

static const struct pkt *a_read(uint64_t va, uint32_t rkey, uint32_t len)
{
    return pkt_rdma(READ_REQUEST, RQ_PSN, 0, va, rkey, len);
}

/* Both work, at psn and psn + 1. */
static void expect_reachable(uint32_t psn, uint64_t va, uint32_t rkey, uint32_t len, uint32_t msn)
{
    peer_send(pkt_rdma(WRITE_ONLY, psn, len, va, rkey, len));
    expect_ack(psn, msn);
    peer_send(pkt_rdma(READ_REQUEST, psn + 1, 0, va, rkey, len));
    expect_data(READ_ONLY, psn + 1, len, 0, 0);
}

/* --- NIC memory ------------------------------------------------------------------------------- */

static void nic_region_is_reachable_within_its_range_only(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_mr *mr = rig_mr(rig.pd, 4096, 1000, ALL);
    expect_reachable(RQ_PSN, addr_at(4096), mr->rkey, 1000, 1);
    expect_reachable(RQ_PSN + 2, addr_at(4096 + 999), mr->rkey, 1, 3);
    const struct {
        uint32_t offset;
        uint32_t len;
    } bad[] = {{4095, 1}, {4095, 2}, {4096, 1001}, {5095, 2}, {5096, 1}, {0, 1}, {8192, 1}};
    for (uint32_t i = 0; i < ARRAY_SIZE(bad); i++) {
        rig.memory[bad[i].offset] = 0x77;
        rig_qp_destroy(rig.qp);
        rig_qp(NULL);
        expect_refused(a_write(addr_at(bad[i].offset), mr->rkey, bad[i].len));
        assert_int_equal(rig.memory[bad[i].offset], 0x77);
        expect_refused(a_read(addr_at(bad[i].offset), mr->rkey, bad[i].len));
    }
    expect_refused(a_write(UINT64_MAX, mr->rkey, 2)); /* wraps */
    expect_refused(a_read(0, mr->rkey, 1));
    expect_refused(a_read(addr_at(4096), mr->rkey, 0x40000000));
}

/* 9.7.4.1.3: the whole range counts when the message begins: nothing of it is written. */
static void write_that_ends_beyond_the_range_writes_nothing(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_mr *mr = rig_mr(rig.pd, 0, 2000, ALL);
    expect_refused(pkt_rdma(WRITE_FIRST, RQ_PSN, 1024, addr_at(0), mr->rkey, 2001));
    assert_int_equal(rig.memory[0], 0xee);
}

static void region_without_the_right_refuses(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_mr *read_only = rig_mr(rig.pd, 0, 4096, RDMA_ACCESS_REMOTE_READ);
    struct rdma_mr *write_only =
        rig_mr(rig.pd, 0, 4096, RDMA_ACCESS_LOCAL_WRITE | RDMA_ACCESS_REMOTE_WRITE);
    struct rdma_mr *local = rig_mr(rig.pd, 0, 4096, RDMA_ACCESS_LOCAL_WRITE);
    expect_refused(a_write(addr_at(0), read_only->rkey, 4));
    expect_refused(a_read(addr_at(0), write_only->rkey, 4));
    expect_refused(a_write(addr_at(0), local->rkey, 4));
    expect_refused(a_read(addr_at(0), local->rkey, 4));
    assert_int_equal(rig.memory[0], 0xee);
}

static void region_with_impossible_attributes_is_refused(void **state)
{
    (void)state;
    struct rdma_mr_attr good = {
        .kind = RDMA_MR_NIC, .access = ALL, .memory = rig.memory, .len_bytes = 64};
    struct rdma_mr *mr = NULL;
    struct rdma_mr_attr bad = good;
    bad.access = RDMA_ACCESS_REMOTE_WRITE; /* 10.6.3.1: needs local write */
    assert_int_equal(rdma_mr_reg(rig.pd, &bad, &mr), STATUS_INVALID);
    bad.access = 8;
    assert_int_equal(rdma_mr_reg(rig.pd, &bad, &mr), STATUS_INVALID);
    bad = good;
    bad.len_bytes = 0;
    assert_int_equal(rdma_mr_reg(rig.pd, &bad, &mr), STATUS_INVALID);
    bad.len_bytes = UINT64_MAX;
    assert_int_equal(rdma_mr_reg(rig.pd, &bad, &mr), STATUS_INVALID);
    bad = good;
    bad.memory = NULL;
    assert_int_equal(rdma_mr_reg(rig.pd, &bad, &mr), STATUS_INVALID);
    bad = good;
    bad.kind = RDMA_MR_HOST;
    assert_int_equal(rdma_mr_reg(rig.pd, &bad, &mr), STATUS_INVALID); /* no view */
}

/* 10.2.3: a domain of another tenant: its key is as good as none. */
static void region_of_another_tenant_refuses(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_mr *mr = rig_mr(rig_pd(), 0, 4096, ALL);
    expect_refused(a_write(addr_at(0), mr->rkey, 4));
    expect_refused(a_read(addr_at(0), mr->rkey, 4));
    assert_int_equal(rig.memory[0], 0xee);
}

/* Guesses: other tags, other places, no place at all. */
static void key_that_nobody_gave_refuses(void **state)
{
    (void)state;
    rig_qp(NULL);
    for (uint32_t i = 0; i < 32; i++) {
        expect_refused(a_read(addr_at(0), rig.mr->rkey ^ 1u << i, 4));
    }
    expect_refused(a_read(addr_at(0), 0, 4));
    expect_refused(a_read(addr_at(0), 0xffffffff, 4));
    expect_refused(a_write(addr_at(0), rig.mr->rkey & 0xffff, 4));
}

/* After deregistration the key is dead, at once, and stays so when its place is used again. */
static void region_that_is_gone_refuses(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_mr *mr = rig_mr(rig.pd, 0, 4096, ALL);
    uint32_t old = mr->rkey;
    rig_mr_dereg(mr);
    expect_refused(a_write(addr_at(0), old, 4));
    mr = rig_mr(rig.pd, 0, 4096, ALL);
    assert_int_not_equal(mr->rkey, old);
    expect_refused(a_write(addr_at(0), old, 4));
    expect_reachable(RQ_PSN, addr_at(0), mr->rkey, 4, 1);
}

/* The device still reads the memory for a READ of the peer: it is not given back yet; but nothing
 * new is read. */
static void dereg_under_a_read_says_again_until_the_device_is_done(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_mr_attr attr = {
        .kind = RDMA_MR_NIC, .access = ALL, .memory = rig.memory, .len_bytes = 8192};
    struct rdma_mr *mr = NULL;
    assert_int_equal(rdma_mr_reg(rig.pd, &attr, &mr), STATUS_OK);
    wire_hold_reap(rig.wire, true);
    peer_send(a_read(addr_at(0), mr->rkey, 1024));
    expect(READ_ONLY, RQ_PSN);
    uint32_t rkey = mr->rkey;
    assert_int_equal(rdma_mr_dereg(mr), STATUS_AGAIN);
    assert_int_equal(rdma_mr_dereg(mr), STATUS_AGAIN);
    peer_send(pkt_rdma(READ_REQUEST, RQ_PSN + 1, 0, addr_at(0), rkey, 4));
    expect_nak(RQ_PSN + 1, NAK_ACCESS, 1);
    take_events();
    wire_hold_reap(rig.wire, false);
    rig_advance(100 * NS_PER_US);
    assert_int_equal(rdma_mr_dereg(mr), STATUS_OK);
}

static void region_beyond_the_pool_is_no_space(void **state)
{
    (void)state;
    for (uint32_t i = 1; i < RIG_MRS; i++) {
        rig_mr(rig.pd, 0, 64, 0);
    }
    struct rdma_mr_attr attr = {.kind = RDMA_MR_NIC, .memory = rig.memory, .len_bytes = 64};
    struct rdma_mr *mr = NULL;
    assert_int_equal(rdma_mr_reg(rig.pd, &attr, &mr), STATUS_NO_SPACE);
    for (uint32_t i = 0; i < RIG_KEYS; i++) {
        rig_key(rig.pd);
    }
    struct rdma_key *key = NULL;
    assert_int_equal(rdma_key_alloc(rig.pd, &key), STATUS_NO_SPACE);
}

/* --- host windows ----------------------------------------------------------------------------- */

static struct pcie_ep_view view;

static void window(uint32_t i, uint64_t host_addr, uint64_t len, uint32_t offset, bool writable)
{
    view.windows[i] = (struct pcie_ep_window){.host_addr = host_addr,
                                              .len_bytes = len,
                                              .bus_addr = addr_at(offset),
                                              .readable = true,
                                              .writable = writable};
    if (view.window_count <= i) {
        view.window_count = i + 1;
    }
}

static struct rdma_mr *host_region(void)
{
    view = (struct pcie_ep_view){0};
    window(0, HOST, 0x10000, 0x40000, true);
    return rig_mr_host(&view, 0, UINT64_C(1) << 40);
}

static void host_region_is_reachable_through_its_windows(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_mr *mr = host_region();
    peer_send(a_write(HOST + 5, mr->rkey, 1000));
    expect_ack(RQ_PSN, 1);
    assert_filled(0x40005, 1000, 0);
    peer_send(pkt_rdma(READ_REQUEST, RQ_PSN + 1, 0, HOST + 5, mr->rkey, 1000));
    expect_data(READ_ONLY, RQ_PSN + 1, 1000, 0, 0);
    struct send *send = send_wr(1, RDMA_WR_SEND, 0, 1000);
    send->sges[0] = (struct rdma_sge){.addr = HOST + 5, .len_bytes = 1000, .lkey = mr->lkey};
    post_wr(rig.qp, &send->wr);
    expect_data(SEND_ONLY, SQ_PSN, 1000, 0, 0);
    assert_int_equal(STAT(zero_copy_bytes), 2000); /* host memory is sent from where it lies */
    peer_ack(SQ_PSN);
    expect_wc(1, RDMA_WC_SUCCESS);
}

/* A payload that lies in two windows, in host pages that touch. */
static void host_region_over_two_windows_is_one_payload(void **state)
{
    (void)state;
    rig_qp(&(struct rig_qp_options){.mtu = RDMA_MTU_4096});
    struct rdma_mr *mr = host_region();
    window(1, HOST + 0x10000, 0x10000, 0x20000, true);
    peer_send(a_write(HOST + 0x10000 - 1000, mr->rkey, 4000));
    expect_ack(RQ_PSN, 1);
    uint8_t all[4000];
    pattern(all, sizeof(all), 0);
    assert_memory_equal(rig.memory + 0x50000 - 1000, all, 1000);
    assert_memory_equal(rig.memory + 0x20000, all + 1000, 3000);
    peer_send(pkt_rdma(READ_REQUEST, RQ_PSN + 1, 0, HOST + 0x10000 - 1000, mr->rkey, 4000));
    expect_data(READ_ONLY, RQ_PSN + 1, 4000, 0, 0);
    peer_send(pkt_rdma(READ_REQUEST, RQ_PSN + 2, 0, HOST + 0x10000 - 50, mr->rkey, 100));
    expect_data(READ_ONLY, RQ_PSN + 2, 100, 0, 950); /* small: copied */
}

/* Each access looks: what the host took away is out of reach (IOMMU, reset, memory hot-unplug). */
static void host_window_that_is_gone_refuses(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_mr *mr = host_region();
    expect_reachable(RQ_PSN, HOST, mr->rkey, 8, 1);
    view = (struct pcie_ep_view){0};
    peer_send(pkt_rdma(WRITE_ONLY, RQ_PSN + 2, 8, HOST, mr->rkey, 8));
    expect_nak(RQ_PSN + 2, NAK_ACCESS, 2);
    expect_event(RDMA_EVENT_QP_ACCESS_ERR);
    rig_qp_destroy(rig.qp);
    rig_qp(NULL);
    /* A READ is noted; its response finds that the memory is gone. */
    peer_send(a_read(HOST, mr->rkey, 8));
    expect_nak(RQ_PSN, NAK_ACCESS, 1);
    expect_event(RDMA_EVENT_QP_ACCESS_ERR);
    rig_qp_destroy(rig.qp);
    rig_qp(NULL);
    peer_send(a_read(HOST, mr->rkey, 1024));
    expect_nak(RQ_PSN, NAK_ACCESS, 1);
    expect_event(RDMA_EVENT_QP_ACCESS_ERR);
    assert_int_equal(rig.qp->state, RDMA_QP_ERR);
}

/* In the middle of a READ: responses until there, then the NAK with the PSN of the one that cannot
 * be. */
static void host_window_that_goes_in_the_middle_of_a_read(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_mr *mr = host_region();
    view.windows[0].len_bytes = 2048 + 100;
    peer_send(a_read(HOST, mr->rkey, 5000));
    expect(READ_FIRST, RQ_PSN);
    expect(READ_MIDDLE, RQ_PSN + 1);
    expect_nak(RQ_PSN + 2, NAK_ACCESS, 1);
    expect_silence();
    expect_event(RDMA_EVENT_QP_ACCESS_ERR);
}

static void host_window_that_goes_in_the_middle_of_a_write(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_mr *mr = host_region();
    peer_send(pkt_rdma(WRITE_FIRST, RQ_PSN, 1024, HOST, mr->rkey, 3000));
    view.windows[0].len_bytes = 1500;
    peer_send(pkt(WRITE_MIDDLE, RQ_PSN + 1, 1024));
    expect_nak(RQ_PSN + 1, NAK_ACCESS, 0);
    expect_event(RDMA_EVENT_QP_ACCESS_ERR);
    assert_int_equal(rig.memory[0x40000 + 1500], 0xee);
}

/* Read-only windows are not written by the peer, nor by receives, nor by READs of ours. */
static void host_window_that_may_not_be_written_refuses(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_mr *mr = host_region();
    view.windows[0].writable = false;
    fill(0x40000, 64, 0);
    peer_send(a_read(HOST, mr->rkey, 64));
    expect_data(READ_ONLY, RQ_PSN, 64, 0, 0);
    peer_send(pkt_rdma(WRITE_ONLY, RQ_PSN + 1, 64, HOST, mr->rkey, 64));
    expect_nak(RQ_PSN + 1, NAK_ACCESS, 1);
    expect_event(RDMA_EVENT_QP_ACCESS_ERR);
    rig_qp_destroy(rig.qp);
    rig_qp(NULL);
    struct rdma_sge sge = {.addr = HOST, .len_bytes = 64, .lkey = mr->lkey};
    struct rdma_recv_wr wr = {.wr_id = 1, .sges = &sge, .sge_count = 1};
    assert_int_equal(rdma_post_recv(rig.qp, &wr, NULL), STATUS_OK);
    peer_send(pkt(SEND_ONLY, RQ_PSN, 64));
    expect_nak(RQ_PSN, NAK_OPERATION, 0);
    expect_event(RDMA_EVENT_QP_FATAL);
    expect_recv_wc(1, RDMA_WC_LOC_PROT_ERR);
}

/* A work request of ours whose host memory went away fails, and nobody else's does. */
static void host_window_that_is_gone_fails_the_work_request(void **state)
{
    (void)state;
    rig_qp(NULL);
    struct rdma_mr *mr = host_region();
    for (uint32_t len = 64; len <= 1024; len += 960) { /* copied and pointed at */
        struct send *send = send_wr(1, RDMA_WR_SEND, 0, len);
        send->sges[0] =
            (struct rdma_sge){.addr = HOST + 0x10000, .len_bytes = len, .lkey = mr->lkey};
        post_wr(rig.qp, &send->wr);
        expect_silence();
        expect_wc(1, RDMA_WC_LOC_PROT_ERR);
        rig_qp_destroy(rig.qp);
        rig_qp(NULL);
    }
}

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
        RIG_TEST(nic_region_is_reachable_within_its_range_only),
        RIG_TEST(write_that_ends_beyond_the_range_writes_nothing),
        RIG_TEST(region_without_the_right_refuses),
        RIG_TEST(region_with_impossible_attributes_is_refused),
        RIG_TEST(region_of_another_tenant_refuses),
        RIG_TEST(key_that_nobody_gave_refuses),
        RIG_TEST(region_that_is_gone_refuses),
        RIG_TEST(dereg_under_a_read_says_again_until_the_device_is_done),
        RIG_TEST(region_beyond_the_pool_is_no_space),
        RIG_TEST(host_region_is_reachable_through_its_windows),
        RIG_TEST(host_region_over_two_windows_is_one_payload),
        RIG_TEST(host_window_that_is_gone_refuses),
        RIG_TEST(host_window_that_goes_in_the_middle_of_a_read),
        RIG_TEST(host_window_that_goes_in_the_middle_of_a_write),
        RIG_TEST(host_window_that_may_not_be_written_refuses),
        RIG_TEST(host_window_that_is_gone_fails_the_work_request),
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
