/* Requests that are longer than a path takes. */
#include "tests/unit/vol/rig.h"
#include "vol/vol_priv.h"

static void limit_paths(uint32_t bytes)
{
    for (uint32_t i = 0; i < RIG_PATHS; i++) {
        rig.models[i].dev.geometry.max_transfer_bytes = bytes;
    }
}

static void request_of_just_the_limit_passes_whole(void **state)
{
    (void)state;
    limit_paths(8192);
    rig_make(1);
    assert_int_equal(rig.dev->geometry.max_transfer_bytes, 0); /* the volume has no limit */
    struct blk_req *req = rig_submit(NVME_IO_READ, 0, 16);
    assert_ptr_equal(rig_held(0), req);
    rig_finish(0);
}

static void longer_write_becomes_parts_of_whole_blocks(void **state)
{
    (void)state;
    limit_paths(8192 + 100); /* not a whole block */
    rig_make(1);
    struct blk_req *req = rig_prepare(0, NVME_IO_WRITE, 100, 40);
    req->cmd.cdw12 |= NVME_RW_FUA;
    req->trace_id = 0x10042;
    rig_send(req);
    assert_int_equal(rig.models[0].held_count, 3);
    static const uint32_t slbas[] = {100, 116, 132};
    static const uint32_t counts[] = {16, 16, 8};
    for (uint32_t i = 0; i < 3; i++) {
        struct blk_req *part = rig_held(0);
        assert_int_equal(nvme_rw_slba(&part->cmd), slbas[i]);
        assert_int_equal(nvme_rw_lba_count(&part->cmd), counts[i]);
        assert_true((part->cmd.cdw12 & NVME_RW_FUA) != 0);
        assert_int_equal(part->fn, 3);
        assert_int_equal(part->trace_id, 0x10042);
        assert_int_equal(part->dir, NVME_DIR_TO_CONTROLLER);
        assert_int_equal(part->data.space, MEM_SPACE_HOST);
        assert_int_equal(part->data.segs[0].bus_addr, (uintptr_t)rig.data + i * 8192);
        assert_false(rig_is_done(req));
        rig_finish(0);
    }
    assert_true(rig_is_done(req));
    assert_int_equal(req->status, 0);
    assert_memory_equal(rig.medium + 100 * 512, rig.data, 40 * 512);
    assert_int_equal(rig_info().stats.splits, 1);
    assert_int_equal(rig_info().stats.requests, 1);
}

/* Segments of any length are cut where the parts are: blocks cross segments, and the other way. */
static void odd_segments_are_cut_right(void **state)
{
    (void)state;
    limit_paths(4096);
    rig.models[0].is_prompt = true;
    rig_make(1);
    for (uint32_t lens = 1; lens < 9; lens++) {
        struct blk_req *req = rig_prepare(0, NVME_IO_WRITE, lens * 64, 64);
        struct mem_seg *segs = CONTAINER_OF(req, struct rig_req, blk)->segs;
        uint32_t used = 0;
        uint16_t count = 0;
        while (used < 64 * 512) {
            uint32_t len = min_u32(64 * 512 - used, 131 * lens + 900 * (count % 3));
            segs[count++] =
                (struct mem_seg){.bus_addr = (uintptr_t)rig.data + used, .len_bytes = len};
            used += len;
        }
        req->data.seg_count = count;
        rig_send(req);
        assert_int_equal(req->status, 0);
        assert_memory_equal(rig.medium + lens * 64 * 512, rig.data, 64 * 512);
    }
}

static void all_commands_with_a_range_are_split(void **state)
{
    (void)state;
    static const uint8_t opcodes[] = {NVME_IO_READ, NVME_IO_COMPARE, NVME_IO_WRITE_ZEROES,
                                      NVME_IO_VERIFY};
    limit_paths(4096);
    rig_make(1);
    for (uint32_t i = 0; i < sizeof(opcodes); i++) {
        struct blk_req *req = rig_submit(opcodes[i], 8, 24);
        assert_int_equal(rig.models[0].held_count, 3);
        for (uint32_t part = 0; part < 3; part++) {
            assert_int_equal(nvme_rw_lba_count(&rig_held(0)->cmd), 8);
            rig_finish(0);
        }
        assert_int_equal(req->status, 0);
    }
    struct blk_req *dsm = rig_submit(NVME_IO_DSM, 0, 0x10000); /* not a range: passes */
    assert_ptr_equal(rig_held(0), dsm);
    rig_finish(0);
}

static void first_failure_wins_and_all_parts_are_waited_for(void **state)
{
    (void)state;
    limit_paths(4096);
    rig_make(1);
    struct blk_req *req = rig_submit(NVME_IO_READ, 0, 24);
    rig_finish(0);
    rig_refuse(0, NVME_SC_UNRECOVERED_READ);
    assert_false(rig_is_done(req));
    rig_refuse(0, NVME_SC_INTERNAL_ERROR);
    assert_true(rig_is_done(req));
    assert_int_equal(req->status, NVME_SC_UNRECOVERED_READ);
}

/* More parts than the pool holds: the rest follows, and after a failure does not. */
static void pool_that_is_empty_delays_parts(void **state)
{
    (void)state;
    limit_paths(4096);
    rig_make(1);
    struct blk_req *a = rig_submit(NVME_IO_READ, 0, 512); /* 64 parts */
    struct blk_req *b = rig_submit(NVME_IO_READ, 0, 256);
    struct blk_req *c = rig_submit(NVME_IO_READ, 0, 16);
    assert_int_equal(rig.models[0].held_count, VOL_PARTS_OF_FUNCTION);
    rig_finish(0);
    assert_int_equal(rig.models[0].held_count, VOL_PARTS_OF_FUNCTION);
    while (rig_held(0) != NULL) {
        rig_finish(0);
    }
    assert_int_equal(a->status | b->status | c->status, 0);
    assert_true(rig_is_done(a) && rig_is_done(b) && rig_is_done(c));
    assert_int_equal(rig.models[0].submits, 64 + 32 + 2);
}

/* The parts of one function hang; those of another go on. */
static void parts_of_one_function_leave_some_to_others(void **state)
{
    (void)state;
    limit_paths(4096);
    rig_make(1);
    struct blk_req *a = rig_submit(NVME_IO_READ, 0, 512);
    struct blk_req *b = rig_prepare(0, NVME_IO_READ, 0, 32); /* 4 parts */
    b->fn = 1;
    rig_send(b);
    assert_int_equal(rig.models[0].held_count, VOL_PARTS_OF_FUNCTION + 4);
    while (rig_held(0) != NULL) {
        rig_finish(0);
    }
    assert_true(rig_is_done(a) && rig_is_done(b));
}

/* Both have more to send than there is room for: what is freed is shared, whoever came first. */
static void functions_take_turns_with_parts_that_end(void **state)
{
    (void)state;
    uint32_t count = 0;

    limit_paths(4096);
    rig_make(1);
    struct blk_req *a = rig_submit(NVME_IO_READ, 0, 512);
    struct blk_req *b = rig_prepare(0, NVME_IO_READ, 0, 512);
    b->fn = 1;
    rig_send(b);
    assert_int_equal(rig.models[0].held_count, LIMIT_VOLUME_CHILDREN);
    for (uint32_t i = 0; i < 24; i++) {
        rig_finish(0);
    }
    LIST_FOR_EACH(node, next, &rig.models[0].held)
    {
        count += LIST_ENTRY(node, struct blk_req, link)->fn == 1;
    }
    assert_int_equal(count, LIMIT_VOLUME_CHILDREN - VOL_PARTS_OF_FUNCTION + 12);
    while (rig_held(0) != NULL) {
        rig_finish(0);
    }
    assert_true(rig_is_done(a) && rig_is_done(b));
}

static void failed_request_sends_no_more_parts(void **state)
{
    (void)state;
    limit_paths(4096);
    rig_make(1);
    struct blk_req *a = rig_submit(NVME_IO_READ, 0, 2048); /* 256 parts */
    rig_refuse(0, NVME_SC_INTERNAL_ERROR);
    while (rig_held(0) != NULL) {
        rig_finish(0);
    }
    assert_int_equal(a->status, NVME_SC_INTERNAL_ERROR);
    assert_int_equal(rig.models[0].submits, VOL_PARTS_OF_FUNCTION);
}

static void cancel_reaches_all_parts(void **state)
{
    (void)state;
    limit_paths(4096);
    rig_make(1);
    struct blk_req *req = rig_submit(NVME_IO_WRITE, 0, 2048); /* more than the pool */
    rig_cancel(req);
    assert_int_equal(rig.models[0].cancels, VOL_PARTS_OF_FUNCTION);
    assert_false(rig_is_done(req));
    while (rig_held(0) != NULL) {
        rig_refuse(0, NVME_SC_ABORT_REQUESTED);
    }
    assert_true(rig_is_done(req));
    assert_int_equal(req->status, NVME_SC_ABORT_REQUESTED);
}

static void cancel_of_parts_that_wait_ends_at_once(void **state)
{
    (void)state;
    limit_paths(4096);
    rig_make(1);
    struct blk_req *req = rig_submit(NVME_IO_READ, 0, 32);
    rig_set_usable(0, false);
    for (uint32_t i = 0; i < 4; i++) {
        rig_lose(0, true, 0);
    }
    assert_int_equal(rig_info().waiting, 4);
    rig_cancel(req);
    assert_true(rig_is_done(req));
    assert_int_equal(req->status, NVME_SC_ABORT_REQUESTED);
}

static void cancel_while_waiting_for_the_pool_ends_at_once(void **state)
{
    (void)state;
    limit_paths(4096);
    rig_make(1);
    rig_submit(NVME_IO_READ, 0, 512);
    struct blk_req *b = rig_submit(NVME_IO_READ, 0, 16);
    rig_cancel(b);
    assert_true(rig_is_done(b));
    assert_int_equal(b->status, NVME_SC_ABORT_REQUESTED);
    while (rig_held(0) != NULL) {
        rig_finish(0);
    }
}

/* Each part goes its own way after a loss, under the same rules. */
static void lost_parts_of_a_write_wait_until_quiet(void **state)
{
    (void)state;
    limit_paths(4096);
    rig_make(2);
    struct blk_req *req = rig_submit(NVME_IO_WRITE, 0, 24);
    rig_finish(0);
    rig_lose(0, true, RIG_START_NS + 100 * MS);
    rig_lose(0, true, RIG_START_NS + 100 * MS);
    rig_advance_ms(90);
    assert_null(rig_held(1));
    rig_advance_ms(18);
    rig_finish(1);
    rig_finish(1);
    assert_int_equal(req->status, 0);
    assert_memory_equal(rig.medium, rig.data, 24 * 512);
}

static void lost_part_of_a_compare_interrupts_the_whole(void **state)
{
    (void)state;
    limit_paths(4096);
    rig_make(2);
    struct blk_req *req = rig_submit(NVME_IO_COMPARE, 0, 16);
    rig_lose(0, true, 0);
    rig_finish(0);
    assert_int_equal(req->status, NVME_SC_COMMAND_INTERRUPTED);
}

/* The parts fit every path, so that each can be sent again on any. */
static void parts_are_as_long_as_the_smallest_path_takes(void **state)
{
    (void)state;
    rig.models[0].dev.geometry.max_transfer_bytes = 16384;
    rig.models[1].dev.geometry.max_transfer_bytes = 4096;
    rig_make(2);
    struct blk_req *req = rig_submit(NVME_IO_READ, 0, 16);
    assert_int_equal(rig.models[0].held_count, 2);
    rig_lose(0, true, 0);
    rig_settle();
    rig_finish(1);
    rig_finish(0);
    assert_int_equal(req->status, 0);
}

/* A path that takes less comes while a request waits: it is split when it goes. */
static void request_that_waited_is_split_for_the_path_that_came(void **state)
{
    (void)state;
    rig.models[0].is_usable = false;
    rig.models[1].dev.geometry.known = false;
    rig_make(2);
    struct blk_req *req = rig_submit(NVME_IO_READ, 0, 16);
    rig.models[1].dev.geometry.known = true;
    rig.models[1].dev.geometry.max_transfer_bytes = 4096;
    rig_change(1);
    rig_settle();
    assert_int_equal(rig.models[1].held_count, 2);
    rig_finish(1);
    rig_finish(1);
    assert_int_equal(req->status, 0);
}

static void block_of_too_many_pieces_is_refused(void **state)
{
    (void)state;
    limit_paths(512);
    rig_make(1);
    struct blk_req *req = rig_prepare(0, NVME_IO_READ, 0, 2);
    struct mem_seg *segs = CONTAINER_OF(req, struct rig_req, blk)->segs;
    for (uint32_t i = 0; i < 299; i++) {
        segs[i] = (struct mem_seg){.bus_addr = (uintptr_t)rig.data + i, .len_bytes = 1};
    }
    segs[299] = (struct mem_seg){.bus_addr = (uintptr_t)rig.data + 299, .len_bytes = 1024 - 299};
    req->data.seg_count = 300;
    rig_send(req);
    assert_true(rig_is_done(req));
    assert_int_equal(req->status, NVME_SC_INVALID_FIELD | NVME_STATUS_DNR);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(request_of_just_the_limit_passes_whole),
        TEST(longer_write_becomes_parts_of_whole_blocks),
        TEST(odd_segments_are_cut_right),
        TEST(all_commands_with_a_range_are_split),
        TEST(first_failure_wins_and_all_parts_are_waited_for),
        TEST(pool_that_is_empty_delays_parts),
        TEST(parts_of_one_function_leave_some_to_others),
        TEST(functions_take_turns_with_parts_that_end),
        TEST(failed_request_sends_no_more_parts),
        TEST(cancel_reaches_all_parts),
        TEST(cancel_of_parts_that_wait_ends_at_once),
        TEST(cancel_while_waiting_for_the_pool_ends_at_once),
        TEST(lost_parts_of_a_write_wait_until_quiet),
        TEST(lost_part_of_a_compare_interrupts_the_whole),
        TEST(parts_are_as_long_as_the_smallest_path_takes),
        TEST(request_that_waited_is_split_for_the_path_that_came),
        TEST(block_of_too_many_pieces_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
