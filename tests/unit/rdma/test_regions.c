/* Memory under regions: NIC memory, host windows; who may reach what, and when (IBA 9.4, 9.7.4.1.3,
 * 10.2.3, 10.6.3). */
#include "rdma/rig.h"

#define HOST UINT64_C(0x100000)

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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
