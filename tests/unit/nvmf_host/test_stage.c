/*
 * Staging: the allocator, the terminate path, what keys cannot express, exhaustion.
 */
#include "rig.h"

/* --- allocator ------------------------------------------------------------------------------- */

static void stage_pieces_are_contiguous_and_first_fit(void **state)
{
    static uint8_t memory[130 * 4096] ALIGNED(4096);
    uint64_t map[3];
    struct nvmf_stage stage;
    void *all[130];

    (void)state;
    assert_int_equal(nvmf_stage_map_bytes(sizeof(memory)), sizeof(map));
    nvmf_stage_init(&stage, memory, map, sizeof(memory));
    assert_true(nvmf_stage_can_hold(&stage, sizeof(memory)));
    assert_false(nvmf_stage_can_hold(&stage, sizeof(memory) + 1));
    assert_ptr_equal(nvmf_stage_get(&stage, sizeof(memory)), memory);
    assert_null(nvmf_stage_get(&stage, 1));
    nvmf_stage_put(&stage, memory, sizeof(memory));
    for (uint32_t i = 0; i < 130; i++) {
        all[i] = nvmf_stage_get(&stage, i % 2 == 0 ? 4096 : 1);
        assert_ptr_equal(all[i], memory + i * 4096);
    }
    assert_null(nvmf_stage_get(&stage, 1));
    nvmf_stage_put(&stage, all[3], 1);
    nvmf_stage_put(&stage, all[70], 4096);
    nvmf_stage_put(&stage, all[71], 1);
    assert_null(nvmf_stage_get(&stage, 3 * 4096));
    assert_ptr_equal(nvmf_stage_get(&stage, 4097), all[70]);
    assert_ptr_equal(nvmf_stage_get(&stage, 4096), all[3]);
    for (uint32_t i = 0; i < 130; i++) {
        nvmf_stage_put(&stage, all[i], 4096);
    }
    assert_int_equal(stage.free_count, 130);
    assert_ptr_equal(nvmf_stage_get(&stage, 129 * 4096), memory);
}

/* Pieces never overlap and all come back, against a plain model. */
static void stage_of_random_sizes_never_overlaps(void **state)
{
    static uint8_t memory[200 * 4096] ALIGNED(4096);
    uint64_t map[4];
    uint8_t owner[200] = {0};
    struct nvmf_stage stage;
    void *pieces[64] = {0};
    uint32_t sizes[64] = {0};
    uint32_t seed = 1;

    (void)state;
    nvmf_stage_init(&stage, memory, map, sizeof(memory));
    for (uint32_t round = 0; round < 20000; round++) {
        seed = seed * 1664525u + 1013904223u;
        uint32_t i = (seed >> 8) % 64;
        if (pieces[i] != NULL) {
            uint32_t first = (uint32_t)((uint8_t *)pieces[i] - memory) / 4096;
            nvmf_stage_put(&stage, pieces[i], sizes[i]);
            memset(owner + first, 0, (sizes[i] + 4095) / 4096);
            pieces[i] = NULL;
            continue;
        }
        sizes[i] = (seed >> 16) % 40000 + 1;
        pieces[i] = nvmf_stage_get(&stage, sizes[i]);
        uint32_t count = (sizes[i] + 4095) / 4096;
        uint32_t run = 0;
        uint32_t fit = 200;
        for (uint32_t page = 0; page < 200 && fit == 200; page++) {
            run = owner[page] == 0 ? run + 1 : 0;
            fit = run == count ? page + 1 - count : 200;
        }
        if (fit == 200) {
            assert_null(pieces[i]);
        } else {
            assert_ptr_equal(pieces[i], memory + fit * 4096);
            memset(owner + fit, 1, count);
        }
    }
}

/* --- the terminate path ---------------------------------------------------------------------- */

#define STAGE_BYTES (64u * 1024)

static int setup(void **state)
{
    (void)state;
    rig_open(&(struct rig_config){.stage_bytes = STAGE_BYTES, .in_capsule_bytes = 1024});
    rig_connect();
    rig.ns.path = NVMF_PATH_TERMINATE;
    return 0;
}

static void round_trip(uint64_t slba, uint32_t lba_count, uint32_t segs)
{
    struct rig_req w;
    struct rig_req r;
    uint32_t done = 0;

    rig_fill(0, lba_count * RIG_BLOCK, (uint32_t)slba + 1);
    rig_req(&w, NVME_IO_WRITE, slba, lba_count, 0);
    rig_req_scatter(&w, segs);
    assert_int_equal(rig_do(&w), 0);
    assert_true(rig_media_is(slba, lba_count, rig.data));
    rig_req(&r, NVME_IO_READ, slba, lba_count, 1u << 20);
    rig_req_scatter(&r, segs);
    assert_int_equal(rig_do(&r), 0);
    for (uint32_t i = 0; i < segs; i++) {
        assert_memory_equal(mem_seg_ptr(&r.segs[i]), rig.data + done, r.segs[i].len_bytes);
        done += r.segs[i].len_bytes;
    }
}

static void stage_path_moves_data_through_nic_memory(void **state)
{
    const struct nvmf_path_counters *c = rig_counters(NVMF_PATH_TERMINATE);

    (void)state;
    round_trip(0, 1, 2);    /* in the capsule */
    round_trip(3, 8, 3);    /* by a key */
    round_trip(99, 128, 9); /* all of it */
    assert_int_equal(rig_count(&c->staged_bytes), 2 * (1 + 8 + 128) * RIG_BLOCK);
    assert_int_equal(rig_count(&c->in_capsule_bytes), RIG_BLOCK);
    assert_int_equal(rig_count(&c->stage_waits), 0);
    assert_int_equal(rig.core->stage.free_count, STAGE_BYTES / 4096);
}

/* What the target writes goes to NIC memory alone until the response is there. */
static void stage_read_that_fails_leaves_the_data_alone(void **state)
{
    struct target_fault fail = {.kind = TARGET_FAULT_FAIL,
                                .qid = TARGET_IO,
                                .opcode = NVME_IO_READ,
                                .cid = TARGET_ANY,
                                .value = NVME_SC_UNRECOVERED_READ};
    struct rig_req r;

    (void)state;
    target_fault_add(rig.target, &fail);
    rig_fill(0, 4096, 77);
    memcpy(rig.data + 8192, rig.data, 4096);
    rig_req(&r, NVME_IO_READ, 0, 8, 0);
    assert_int_equal(rig_do(&r), NVME_SC_UNRECOVERED_READ);
    assert_memory_equal(rig.data, rig.data + 8192, 4096);
    assert_int_equal(rig_count(&rig_counters(NVMF_PATH_TERMINATE)->staged_bytes), 0);
}

static void stage_that_is_too_small_is_an_error(void **state)
{
    struct rig_req r;

    (void)state;
    rig_req(&r, NVME_IO_READ, 0, STAGE_BYTES / RIG_BLOCK + 1, 0);
    assert_int_equal(rig_do(&r), NVME_SC_INTERNAL_ERROR | NVME_STATUS_DNR);
    assert_false(r.req.is_path_error);
    rig_req(&r, NVME_IO_WRITE, 0, 8, 0);
    r.segs[0].len_bytes -= 1; /* data shorter than they say */
    assert_int_equal(rig_do(&r), NVME_SC_INTERNAL_ERROR | NVME_STATUS_DNR);
}

#define MANY 60
static struct rig_req many[MANY];

/* A long one in the middle is not overtaken for ever by short ones. */
static void stage_requests_wait_for_memory_in_order(void **state)
{
    uint32_t left = MANY;
    uint32_t order[MANY];
    uint32_t ended = 0;

    (void)state;
    for (uint32_t i = 0; i < MANY; i++) {
        uint32_t blocks = i == 20 ? 128 : 8;
        rig_req(&many[i], NVME_IO_READ, i, blocks, i * 65536);
        rig_submit(&many[i]);
    }
    assert_int_equal(rig.io.queue.in_flight, 16); /* 16 pages */
    for (uint32_t i = 0; i < 1000 && left > 0; i++) {
        rig_run(RIG_STEP_NS);
        for (uint32_t k = 0; k < MANY; k++) {
            if (many[k].done_count == 1) {
                many[k].done_count = 2;
                order[ended++] = k;
                left--;
            }
        }
    }
    assert_int_equal(left, 0);
    for (uint32_t i = 0; i < MANY; i++) {
        assert_int_equal(many[i].req.status, 0);
        assert_true(order[i] == i || i != 20);
    }
    assert_true(rig_count(&rig_counters(NVMF_PATH_TERMINATE)->stage_waits) > 0);
}

static void stage_waiter_that_is_cancelled_lets_others_go_on(void **state)
{
    struct target_fault hold = {.kind = TARGET_FAULT_DELAY,
                                .qid = TARGET_IO,
                                .opcode = TARGET_ANY,
                                .cid = TARGET_ANY,
                                .count = 1,
                                .delay_ns = 10 * NS_PER_MS};
    (void)state;
    target_fault_add(rig.target, &hold);
    rig_req(&many[0], NVME_IO_READ, 0, 8, 0);
    rig_req(&many[1], NVME_IO_READ, 0, 128, 65536);
    rig_req(&many[2], NVME_IO_READ, 0, 8, 2 * 65536);
    for (uint32_t i = 0; i < 3; i++) {
        rig_submit(&many[i]);
    }
    rig_run(NS_PER_MS);
    assert_int_equal(many[2].done_count, 0); /* behind the long one */
    blk_cancel(&rig.ns.dev, &many[1].req);
    assert_int_equal(many[1].done_count, 1);
    assert_int_equal(many[1].req.status, NVME_SC_ABORT_REQUESTED);
    rig_run(NS_PER_MS);
    assert_int_equal(many[2].done_count, 1);
    assert_int_equal(many[0].done_count, 0);
    rig_run(20 * NS_PER_MS);
    assert_int_equal(many[0].done_count, 1);
}

/* --- keys that are less able ------------------------------------------------------------------ */

static void with_kind(enum rdma_key_kind kind)
{
    rig_open(&(struct rig_config){
        .stage_bytes = STAGE_BYTES, .limit_keys = true, .key_kind = (uint8_t)kind});
    rig_connect();
}

static void stage_takes_what_contiguous_keys_cannot_express(void **state)
{
    struct rig_req r;

    (void)state;
    with_kind(RDMA_KEY_CONTIGUOUS);
    const struct nvmf_path_counters *c = rig_counters(NVMF_PATH_ZERO_COPY);
    rig_req(&r, NVME_IO_READ, 0, 8, 0);
    assert_int_equal(rig_do(&r), 0);
    assert_int_equal(rig_count(&c->staged_bytes), 0);
    round_trip(0, 8, 2);
    assert_int_equal(rig_count(&c->staged_bytes), 8192);
    rig_close();
}

static void stage_takes_what_page_keys_cannot_express(void **state)
{
    struct rig_req r;

    (void)state;
    with_kind(RDMA_KEY_PAGES);
    const struct nvmf_path_counters *c = rig_counters(NVMF_PATH_ZERO_COPY);
    rig_req(&r, NVME_IO_READ, 0, 24, 512);
    r.segs[0] = (struct mem_seg){.bus_addr = (uintptr_t)rig.data + 512, .len_bytes = 3584};
    r.segs[1] = (struct mem_seg){.bus_addr = (uintptr_t)rig.data + 16384, .len_bytes = 4096};
    r.segs[2] = (struct mem_seg){.bus_addr = (uintptr_t)rig.data + 8192, .len_bytes = 4608};
    r.req.data.seg_count = 3;
    assert_int_equal(rig_do(&r), 0);
    assert_int_equal(rig_count(&c->staged_bytes), 0);
    r.segs[1].bus_addr += 4; /* does not begin on a page */
    assert_int_equal(rig_do(&r), 0);
    assert_int_equal(rig_count(&c->staged_bytes), 24 * RIG_BLOCK);
    r.segs[1].bus_addr -= 4;
    r.segs[0].len_bytes -= 512; /* does not end on one */
    r.segs[2].len_bytes += 512;
    assert_int_equal(rig_do(&r), 0);
    assert_int_equal(rig_count(&c->staged_bytes), 48 * RIG_BLOCK);
    rig_close();
}

/* A provider that binds no keys to memory that nobody has registered. */
static const struct rdma_ops *true_ops;
static bool binds_nic;

static enum status picky_bind(struct rdma_key *key, const struct mem_ref *ref, uint64_t iova,
                              uint32_t access)
{
    if (ref->space != MEM_SPACE_NIC || !binds_nic) {
        return STATUS_INVALID;
    }
    return true_ops->key_bind(key, ref, iova, access);
}

static void stage_takes_what_the_provider_refuses(void **state)
{
    struct rdma_ops ops = *rig.host.device->ops;
    struct rig_req r;

    (void)state;
    rig.ns.path = NVMF_PATH_ZERO_COPY;
    true_ops = rig.host.device->ops;
    ops.key_bind = picky_bind;
    rig.host.device->ops = &ops;
    binds_nic = true;
    round_trip(0, 1, 2);
    round_trip(3, 8, 3);
    assert_int_equal(rig_count(&rig_counters(NVMF_PATH_ZERO_COPY)->staged_bytes),
                     2 * 9 * RIG_BLOCK);
    rig_req(&r, NVME_IO_READ, 0, STAGE_BYTES / RIG_BLOCK + 1, 0);
    assert_int_equal(rig_do(&r), NVME_SC_INTERNAL_ERROR | NVME_STATUS_DNR);
    for (uint32_t i = 0; i < MANY; i++) {
        rig_req(&many[i], i % 2 == 0 ? NVME_IO_READ : NVME_IO_WRITE, i, 16, i * 8192);
        rig_submit(&many[i]);
    }
    rig_run(100 * NS_PER_MS);
    for (uint32_t i = 0; i < MANY; i++) {
        assert_int_equal(many[i].done_count, 1);
        assert_int_equal(many[i].req.status, 0);
    }
    binds_nic = false;
    rig_req(&r, NVME_IO_READ, 0, 8, 0);
    assert_int_equal(rig_do(&r), NVME_SC_INTERNAL_ERROR | NVME_STATUS_DNR);
    rig_req(&r, NVME_IO_WRITE, 0, 2, 0);
    assert_int_equal(rig_do(&r), NVME_SC_INTERNAL_ERROR | NVME_STATUS_DNR);
    rig.host.device->ops = true_ops;
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stage_pieces_are_contiguous_and_first_fit),
        cmocka_unit_test(stage_of_random_sizes_never_overlaps),
        T(stage_path_moves_data_through_nic_memory),
        T(stage_read_that_fails_leaves_the_data_alone),
        T(stage_that_is_too_small_is_an_error),
        T(stage_requests_wait_for_memory_in_order),
        T(stage_takes_what_the_provider_refuses),
        T(stage_waiter_that_is_cancelled_lets_others_go_on),
        cmocka_unit_test(stage_takes_what_contiguous_keys_cannot_express),
        cmocka_unit_test(stage_takes_what_page_keys_cannot_express),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
