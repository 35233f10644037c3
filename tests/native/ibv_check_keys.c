/*
 * Keys (memory windows of type 2) and host regions: what a peer may reach, and from when on it may
 * no more.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/native/ibv_check.h"

#define ALL (RDMA_ACCESS_LOCAL_WRITE | RDMA_ACCESS_REMOTE_WRITE | RDMA_ACCESS_REMOTE_READ)

/* Where the memory of the key begins in b's buffer, and how long it is. */
#define AT    8192u
#define BYTES 10000u

static struct pair pair;
static struct rdma_key *key;
static struct mem_seg seg;
static struct mem_ref ref;

static bool open_pair(void)
{
    key = NULL;
    return EXPECT(pair_open(&pair, check_device(), NULL)) &&
           EXPECT(rdma_key_alloc(pair.b.pd, &key) == STATUS_OK);
}

static void close_pair(void)
{
    if (key != NULL) {
        rdma_key_invalidate(key);
        EXPECT(rdma_key_is_quiet(key));
        EXPECT(rdma_key_free(key) == STATUS_OK);
    }
    pair_close(&pair);
}

/* BIND by b, signalled. */
static bool bind(uint64_t iova, uint32_t access)
{
    struct rdma_wc wc;
    uint32_t value = rdma_key_prepare(key);

    seg = (struct mem_seg){.bus_addr = sge(&pair.b, AT, 0).addr, .len_bytes = BYTES};
    ref =
        (struct mem_ref){.segs = &seg, .len_bytes = BYTES, .seg_count = 1, .space = MEM_SPACE_NIC};
    struct rdma_send_wr wr = {.wr_id = 100,
                              .opcode = RDMA_WR_BIND,
                              .flags = RDMA_SEND_SIGNALED,
                              .bind = {.key = key, .ref = &ref, .iova = iova, .access = access}};
    return EXPECT(rdma_post_send(pair.b.qp, &wr, NULL) == STATUS_OK) &&
           EXPECT(take_status(&pair, &pair.b, RDMA_WC_SUCCESS, &wc)) &&
           EXPECT(wc.opcode == RDMA_WC_BIND && wc.wr_id == 100) &&
           EXPECT(key->is_bound && key->value == value);
}

/* One RDMA operation of a under `rkey`. */
static bool reach(enum rdma_wr_opcode opcode, uint32_t rkey, uint64_t addr, uint32_t bytes,
                  enum rdma_wc_status status)
{
    struct rdma_wc wc;
    struct rdma_sge entry = sge(&pair.a, 0, bytes);
    struct rdma_send_wr wr = {.opcode = (uint8_t)opcode,
                              .rdma = {.remote_addr = addr, .rkey = rkey}};

    return EXPECT(post_one(&pair.a, &wr, &entry)) &&
           EXPECT(take_status(&pair, &pair.a, status, &wc));
}

static void test_key_reaches_what_it_is_bound_to(void)
{
    if (open_pair() && bind(0, ALL)) {
        fill(pair.a.buffer, BYTES, 1);
        reach(RDMA_WR_RDMA_WRITE, key->value, 0, BYTES, RDMA_WC_SUCCESS);
        EXPECT(filled(pair.b.buffer + AT, BYTES, 1));
        EXPECT(pair.b.buffer[AT - 1] == 0 && pair.b.buffer[AT + BYTES] == 0);
        memset(pair.a.buffer, 0, BYTES);
        reach(RDMA_WR_RDMA_READ, key->value, 100, 1000, RDMA_WC_SUCCESS);
        EXPECT(memcmp(pair.a.buffer, pair.b.buffer + AT + 100, 1000) == 0);
        EXPECT(rdma_key_free(key) == STATUS_AGAIN);
    }
    close_pair();
}

static void test_key_with_the_regions_addresses(void)
{
    if (open_pair() && bind(sge(&pair.b, AT, 0).addr, ALL)) {
        fill(pair.a.buffer, 64, 2);
        reach(RDMA_WR_RDMA_WRITE, key->value, sge(&pair.b, AT + 10, 0).addr, 64, RDMA_WC_SUCCESS);
        EXPECT(filled(pair.b.buffer + AT + 10, 64, 2));
    }
    close_pair();
}

/* Linux' rxe looks for the end of the region instead (drivers/infiniband/sw/rxe/rxe_resp.c,
 * check_rkey()): then only that is shown. */
static void test_key_ends_at_its_end(void)
{
    if (strncmp(check_device()->name, "rxe", 3) == 0) {
        printf("     not tried: rxe lets a key reach to the end of its region\n");
        return;
    }
    if (open_pair() && bind(0, ALL)) {
        fill(pair.a.buffer, 64, 2);
        reach(RDMA_WR_RDMA_WRITE, key->value, BYTES - 63, 64, RDMA_WC_REM_ACCESS_ERR);
        EXPECT(pair.b.buffer[AT + BYTES - 1] == 0 && pair.b.buffer[AT + BYTES] == 0);
    }
    close_pair();
}

static void test_key_without_write_is_not_written(void)
{
    if (open_pair() && bind(0, RDMA_ACCESS_REMOTE_READ)) {
        pair.a.buffer[0] = 1;
        reach(RDMA_WR_RDMA_READ, key->value, 0, 64, RDMA_WC_SUCCESS);
        reach(RDMA_WR_RDMA_WRITE, key->value, 0, 64, RDMA_WC_REM_ACCESS_ERR);
        EXPECT(pair.b.buffer[AT] == 0);
    }
    close_pair();
}

/* From the return on nothing begins: the very next operation of the peer is refused. */
static void test_invalidated_key_is_dead_at_once(void)
{
    if (open_pair() && bind(0, ALL)) {
        uint32_t value = key->value;
        reach(RDMA_WR_RDMA_WRITE, value, 0, 64, RDMA_WC_SUCCESS);
        rdma_key_invalidate(key);
        EXPECT(!key->is_bound && rdma_key_is_quiet(key));
        memset(pair.b.buffer + AT, 0x55, 64);
        reach(RDMA_WR_RDMA_WRITE, value, 0, 64, RDMA_WC_REM_ACCESS_ERR);
        EXPECT(pair.b.buffer[AT] == 0x55);
        rdma_key_invalidate(key); /* harmless */
        EXPECT(rdma_key_prepare(key) != value);
    }
    close_pair();
}

static bool local_invalidate(uint32_t value)
{
    struct rdma_wc wc;
    struct rdma_send_wr wr = {
        .wr_id = 7, .opcode = RDMA_WR_LOCAL_INV, .flags = RDMA_SEND_SIGNALED, .imm = value};

    return EXPECT(rdma_post_send(pair.b.qp, &wr, NULL) == STATUS_OK) &&
           EXPECT(take_status(&pair, &pair.b, RDMA_WC_SUCCESS, &wc)) &&
           EXPECT(wc.opcode == RDMA_WC_LOCAL_INV && wc.wr_id == 7) && EXPECT(!key->is_bound) &&
           EXPECT(rdma_key_is_quiet(key));
}

static void test_local_invalidation_and_bind_again(void)
{
    uint32_t values[4];

    if (open_pair()) {
        for (uint32_t i = 0; i < 4; i++) {
            EXPECT(bind(0, ALL));
            values[i] = key->value;
            EXPECT(i == 0 || values[i] != values[i - 1]);
            reach(RDMA_WR_RDMA_WRITE, values[i], 0, 64, RDMA_WC_SUCCESS);
            EXPECT(local_invalidate(values[i]));
        }
        EXPECT(bind(0, ALL));
        pair.b.buffer[AT] = 0x55;
        reach(RDMA_WR_RDMA_WRITE, values[3], 0, 64, RDMA_WC_REM_ACCESS_ERR);
        EXPECT(pair.b.buffer[AT] == 0x55);
    }
    close_pair();
}

static void test_peer_invalidates(void)
{
    struct rdma_wc wc;

    if (open_pair() && bind(0, ALL)) {
        uint32_t value = key->value;
        EXPECT(post_recv(&pair.b, 1, 0, 64));
        struct rdma_sge entry = sge(&pair.a, 0, 16);
        struct rdma_send_wr wr = {.opcode = RDMA_WR_SEND_WITH_INV, .imm = value};
        EXPECT(post_one(&pair.a, &wr, &entry));
        EXPECT(take_status(&pair, &pair.b, RDMA_WC_SUCCESS, &wc));
        EXPECT(wc.flags == RDMA_WC_WITH_INV && wc.imm == value);
        EXPECT(!key->is_bound && rdma_key_is_quiet(key));
        EXPECT(take_status(&pair, &pair.a, RDMA_WC_SUCCESS, &wc));
        EXPECT(bind(0, ALL) && key->value != value);
        reach(RDMA_WR_RDMA_WRITE, value, 0, 64, RDMA_WC_REM_ACCESS_ERR);
    }
    close_pair();
}

/* BIND and the SEND that names the key, in one chain: the usual way of an I/O. The key as lkey of
 * that SEND too. */
static void test_bind_and_send_in_one_chain(void)
{
    struct rdma_wc wc;

    if (open_pair()) {
        EXPECT(post_recv(&pair.a, 1, 4096, 64));
        fill(pair.b.buffer + AT, BYTES, 9);
        seg = (struct mem_seg){.bus_addr = sge(&pair.b, AT, 0).addr, .len_bytes = BYTES};
        ref = (struct mem_ref){
            .segs = &seg, .len_bytes = BYTES, .seg_count = 1, .space = MEM_SPACE_NIC};
        struct rdma_sge entry = {.addr = 200, .len_bytes = 32, .lkey = rdma_key_prepare(key)};
        struct rdma_send_wr send = {.wr_id = 2,
                                    .sges = &entry,
                                    .sge_count = 1,
                                    .opcode = RDMA_WR_SEND,
                                    .flags = RDMA_SEND_SIGNALED};
        struct rdma_send_wr wr = {
            .wr_id = 1,
            .next = &send,
            .opcode = RDMA_WR_BIND,
            .bind = {.key = key, .ref = &ref, .access = RDMA_ACCESS_REMOTE_READ}};
        EXPECT(rdma_post_send(pair.b.qp, &wr, NULL) == STATUS_OK);
        EXPECT(take_status(&pair, &pair.b, RDMA_WC_SUCCESS, &wc) && wc.wr_id == 2);
        EXPECT(take_status(&pair, &pair.a, RDMA_WC_SUCCESS, &wc) && wc.len_bytes == 32);
        EXPECT(memcmp(pair.a.buffer + 4096, pair.b.buffer + AT + 200, 32) == 0);
        reach(RDMA_WR_RDMA_READ, entry.lkey, 0, BYTES, RDMA_WC_SUCCESS);
        EXPECT(filled(pair.a.buffer, BYTES, 9));
    }
    close_pair();
}

static void test_bind_that_cannot_be_is_refused(void)
{
    struct mem_seg segs[2];

    if (open_pair()) {
        segs[0] = (struct mem_seg){.bus_addr = sge(&pair.b, 0, 0).addr, .len_bytes = 4096};
        segs[1] = (struct mem_seg){.bus_addr = sge(&pair.b, 65536, 0).addr, .len_bytes = 4096};
        ref = (struct mem_ref){
            .segs = segs, .len_bytes = 8192, .seg_count = 2, .space = MEM_SPACE_NIC};
        struct rdma_send_wr wr = {
            .opcode = RDMA_WR_BIND,
            .bind = {.key = key, .ref = &ref, .access = RDMA_ACCESS_REMOTE_READ}};
        EXPECT(rdma_post_send(pair.b.qp, &wr, NULL) == STATUS_INVALID); /* two segments */
        ref.seg_count = 1;
        ref.len_bytes = 4096;
        wr.bind.iova = 4096; /* neither 0 nor the region's address */
        EXPECT(rdma_post_send(pair.b.qp, &wr, NULL) == STATUS_INVALID);
        wr.bind.iova = 0;
        segs[0].bus_addr = (uint64_t)(uintptr_t)segs; /* no region */
        EXPECT(rdma_post_send(pair.b.qp, &wr, NULL) == STATUS_INVALID);
        EXPECT(rdma_key_bind(key, &ref, 0, RDMA_ACCESS_REMOTE_READ) == STATUS_UNSUPPORTED);
        EXPECT(!key->is_bound && pair.b.qp->state == RDMA_QP_RTS);
        EXPECT(bind(0, ALL));
    }
    close_pair();
}

/* A queue pair or a region may go while keys are bound: they are not any more then. */
static void test_keys_die_with_their_queue_pair_and_region(void)
{
    if (open_pair() && bind(0, ALL)) {
        uint64_t start_ms = now_ms();
        EXPECT(rdma_qp_destroy(pair.b.qp) == STATUS_OK);
        pair.b.qp = NULL;
        EXPECT(!key->is_bound && rdma_key_is_quiet(key));
        EXPECT(now_ms() - start_ms < 2000); /* the kernel would wait for the window */
    }
    close_pair();
    if (open_pair() && bind(0, ALL)) {
        uint32_t value = key->value;
        EXPECT(rdma_mr_dereg(pair.b.mr) == STATUS_OK);
        pair.b.mr = NULL;
        EXPECT(!key->is_bound);
        reach(RDMA_WR_RDMA_READ, value, 0, 64, RDMA_WC_REM_ACCESS_ERR);
    }
    close_pair();
}

/* Binds and invalidations that the error state flushes leave a key that can be used again. */
static void test_flushed_bind_leaves_a_good_key(void)
{
    struct rdma_wc wc;
    struct rdma_qp_attr attr = {.state = RDMA_QP_ERR};

    if (open_pair() && bind(0, ALL)) {
        EXPECT(rdma_qp_modify(pair.b.qp, &attr, RDMA_QP_STATE) == STATUS_OK);
        struct rdma_send_wr wr = {
            .opcode = RDMA_WR_LOCAL_INV, .flags = RDMA_SEND_SIGNALED, .imm = key->value};
        EXPECT(rdma_post_send(pair.b.qp, &wr, NULL) == STATUS_OK);
        EXPECT(!key->is_bound);
        EXPECT(take_status(&pair, &pair.b, RDMA_WC_WR_FLUSH_ERR, &wc));
        EXPECT(rdma_key_is_quiet(key));
        struct rdma_send_wr again = {
            .opcode = RDMA_WR_BIND,
            .flags = RDMA_SEND_SIGNALED,
            .bind = {.key = key, .ref = &ref, .access = RDMA_ACCESS_REMOTE_READ}};
        EXPECT(rdma_post_send(pair.b.qp, &again, NULL) == STATUS_OK);
        EXPECT(take_status(&pair, &pair.b, RDMA_WC_WR_FLUSH_ERR, &wc));
        EXPECT(!key->is_bound && rdma_key_is_quiet(key));
    }
    close_pair();
}

static void test_key_of_the_peer_is_not_of_use(void)
{
    if (open_pair() && bind(0, ALL)) {
        /* b's key used by b towards a: another domain, another queue pair. */
        struct rdma_wc wc;
        struct rdma_sge entry = sge(&pair.b, 0, 8);
        struct rdma_send_wr wr = {.opcode = RDMA_WR_RDMA_WRITE,
                                  .rdma = {.remote_addr = 0, .rkey = key->value}};
        EXPECT(post_one(&pair.b, &wr, &entry));
        EXPECT(take_status(&pair, &pair.b, RDMA_WC_REM_ACCESS_ERR, &wc));
    }
    close_pair();
}

/* --- host memory ------------------------------------------------------------------------------ */

#define HOST_ADDR UINT64_C(0x100000000)

static struct pcie_ep_view view;

/* Two windows that follow on each other in host addresses, not in memory. */
static void make_view(uint8_t *memory)
{
    view = (struct pcie_ep_view){.generation = 1, .window_count = 2};
    view.windows[0] = (struct pcie_ep_window){.host_addr = HOST_ADDR,
                                              .len_bytes = 65536,
                                              .bus_addr = (uint64_t)(uintptr_t)memory,
                                              .readable = true,
                                              .writable = true};
    view.windows[1] = (struct pcie_ep_window){.host_addr = HOST_ADDR + 65536,
                                              .len_bytes = 65536,
                                              .bus_addr = (uint64_t)(uintptr_t)memory + 131072,
                                              .readable = true,
                                              .writable = false};
}

static void test_host_region_has_host_addresses(void)
{
    uint8_t *memory = aligned_alloc(4096, 262144);
    struct rdma_mr *mr = NULL;
    struct rdma_mr *other = NULL;

    make_view(memory);
    if (open_pair()) {
        struct rdma_mr_attr attr = {.kind = RDMA_MR_HOST,
                                    .access = ALL,
                                    .view = &view,
                                    .host_addr = HOST_ADDR + 4096,
                                    .len_bytes = 8192};
        EXPECT(rdma_mr_reg(pair.b.pd, &attr, &mr) == STATUS_OK);
        fill(pair.a.buffer, 8192, 3);
        reach(RDMA_WR_RDMA_WRITE, mr->rkey, HOST_ADDR + 4096, 8192, RDMA_WC_SUCCESS);
        EXPECT(filled(memory + 4096, 8192, 3));
        attr.len_bytes = 65536; /* into the next window */
        EXPECT(rdma_mr_reg(pair.b.pd, &attr, &other) == STATUS_UNSUPPORTED);
        attr.host_addr = HOST_ADDR + 65536; /* which may not be written */
        EXPECT(rdma_mr_reg(pair.b.pd, &attr, &other) == STATUS_UNSUPPORTED);
        attr.host_addr = HOST_ADDR - 4096;
        EXPECT(rdma_mr_reg(pair.b.pd, &attr, &other) == STATUS_UNSUPPORTED);
        attr.host_addr = UINT64_MAX - 100;
        EXPECT(rdma_mr_reg(pair.b.pd, &attr, &other) == STATUS_INVALID);
        EXPECT(rdma_mr_dereg(mr) == STATUS_OK);
    }
    close_pair();
    free(memory);
}

static void test_key_of_host_memory(void)
{
    uint8_t *memory = aligned_alloc(4096, 262144);
    struct rdma_mr *mr = NULL;

    make_view(memory);
    memset(memory, 0, 262144);
    if (open_pair()) {
        struct rdma_mr_attr attr = {.kind = RDMA_MR_HOST,
                                    .access = RDMA_ACCESS_LOCAL_WRITE,
                                    .view = &view,
                                    .host_addr = HOST_ADDR,
                                    .len_bytes = 65536};
        struct rdma_wc wc;
        EXPECT(rdma_mr_reg(pair.b.pd, &attr, &mr) == STATUS_OK);
        seg = (struct mem_seg){.bus_addr = (uint64_t)(uintptr_t)memory + 512, .len_bytes = 1024};
        ref = (struct mem_ref){
            .segs = &seg, .len_bytes = 1024, .seg_count = 1, .space = MEM_SPACE_HOST};
        struct rdma_send_wr wr = {.opcode = RDMA_WR_BIND,
                                  .flags = RDMA_SEND_SIGNALED,
                                  .bind = {.key = key, .ref = &ref, .access = ALL}};
        EXPECT(rdma_post_send(pair.b.qp, &wr, NULL) == STATUS_OK);
        EXPECT(take_status(&pair, &pair.b, RDMA_WC_SUCCESS, &wc));
        fill(pair.a.buffer, 1024, 4);
        reach(RDMA_WR_RDMA_WRITE, key->value, 0, 1024, RDMA_WC_SUCCESS);
        EXPECT(filled(memory + 512, 1024, 4) && memory[511] == 0 && memory[1536] == 0);
        /* The region itself has no remote rights. */
        reach(RDMA_WR_RDMA_WRITE, mr->rkey, HOST_ADDR, 64, RDMA_WC_REM_ACCESS_ERR);
        rdma_key_invalidate(key);
        EXPECT(rdma_mr_dereg(mr) == STATUS_OK);
    }
    close_pair();
    free(memory);
}

static void test_window_that_goes_takes_the_region_along(void)
{
    uint8_t *memory = aligned_alloc(4096, 262144);
    struct rdma_mr *mr = NULL;

    make_view(memory);
    memset(memory, 0, 262144);
    if (open_pair()) {
        struct rdma_mr_attr attr = {.kind = RDMA_MR_HOST,
                                    .access = ALL,
                                    .view = &view,
                                    .host_addr = HOST_ADDR,
                                    .len_bytes = 65536};
        EXPECT(rdma_mr_reg(pair.b.pd, &attr, &mr) == STATUS_OK);
        view.generation++; /* as it was: nothing happens */
        turn(NULL, NULL);
        fill(pair.a.buffer, 64, 3);
        reach(RDMA_WR_RDMA_WRITE, mr->rkey, HOST_ADDR, 64, RDMA_WC_SUCCESS);
        EXPECT(filled(memory, 64, 3));
        view.windows[0].bus_addr += 65536;
        view.generation++;
        turn(NULL, NULL);
        memory[0] = 0x55;
        reach(RDMA_WR_RDMA_WRITE, mr->rkey, HOST_ADDR, 64, RDMA_WC_REM_ACCESS_ERR);
        EXPECT(memory[0] == 0x55);
        EXPECT(rdma_mr_dereg(mr) == STATUS_OK);
    }
    close_pair();
    free(memory);
}

/* --- what it costs: shown, not judged --------------------------------------------------------- */

static void test_rates_of_both_invalidations(void)
{
    if (open_pair()) {
        uint64_t start_ms = now_ms();
        for (uint32_t i = 0; i < 300; i++) { /* the changing byte comes round */
            if (!bind(0, ALL) || !local_invalidate(key->value)) {
                break;
            }
        }
        uint64_t by_wr_ms = now_ms() - start_ms;
        start_ms = now_ms();
        for (uint32_t i = 0; i < 300 && bind(0, ALL); i++) {
            rdma_key_invalidate(key);
        }
        printf("     300 x bind and invalidate: by work request %llu ms, at once %llu ms\n",
               (unsigned long long)by_wr_ms, (unsigned long long)(now_ms() - start_ms));
    }
    close_pair();
}

const struct check_test check_key_tests[] = {
    {"key_reaches_what_it_is_bound_to", test_key_reaches_what_it_is_bound_to},
    {"key_with_the_regions_addresses", test_key_with_the_regions_addresses},
    {"key_ends_at_its_end", test_key_ends_at_its_end},
    {"key_without_write_is_not_written", test_key_without_write_is_not_written},
    {"invalidated_key_is_dead_at_once", test_invalidated_key_is_dead_at_once},
    {"local_invalidation_and_bind_again", test_local_invalidation_and_bind_again},
    {"peer_invalidates", test_peer_invalidates},
    {"bind_and_send_in_one_chain", test_bind_and_send_in_one_chain},
    {"bind_that_cannot_be_is_refused", test_bind_that_cannot_be_is_refused},
    {"keys_die_with_their_queue_pair_and_region", test_keys_die_with_their_queue_pair_and_region},
    {"flushed_bind_leaves_a_good_key", test_flushed_bind_leaves_a_good_key},
    {"key_of_the_peer_is_not_of_use", test_key_of_the_peer_is_not_of_use},
    {"host_region_has_host_addresses", test_host_region_has_host_addresses},
    {"key_of_host_memory", test_key_of_host_memory},
    {"window_that_goes_takes_the_region_along", test_window_that_goes_takes_the_region_along},
    {"rates_of_both_invalidations", test_rates_of_both_invalidations},
    {NULL, NULL},
};
