/* PRP lists and SGLs at their edges: alignment, joints, counts, where a plan ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "nvme_drv/nvme_drv_priv.h"

#define K          UINT32_C(1024)
#define PAGE_AT(n) (UINT64_C(0x4000000000) + (uint64_t)(n)*4096)

static struct mem_seg segs[600];
static struct mem_ref ref;
static const struct nvme_drv_caps prp_only = {.max_bytes = 1024 * K};
static const struct nvme_drv_caps with_sgl = {.max_bytes = 1024 * K, .sgl = true};
static const struct nvme_drv_cursor begin;

static int setup(void **state)
{
    (void)state;
    memset(segs, 0, sizeof(segs));
    ref = (struct mem_ref){.segs = segs};
    return 0;
}

static void add(uint64_t addr, uint32_t len_bytes)
{
    segs[ref.seg_count++] = (struct mem_seg){.bus_addr = addr, .len_bytes = len_bytes};
    ref.len_bytes += len_bytes;
}

static void check_plan(const struct nvme_drv_caps *caps, uint32_t granule_bytes,
                       enum nvme_drv_how how, uint32_t len_bytes, uint32_t entry_count)
{
    struct nvme_drv_part part = nvme_drv_plan(caps, &ref, &begin, granule_bytes);
    assert_int_equal(part.how, how);
    assert_int_equal(part.len_bytes, len_bytes);
    assert_int_equal(part.entry_count, entry_count);
}

static void plan_no_data_needs_nothing(void **state)
{
    (void)state;
    check_plan(&prp_only, 0, NVME_DRV_NO_DATA, 0, 0);
}

static void plan_pages_are_one_prp_command(void **state)
{
    (void)state;
    add(PAGE_AT(5) + 1024, 3 * K);
    add(PAGE_AT(9), 4 * K);
    add(PAGE_AT(2), 1 * K);
    check_plan(&prp_only, 512, NVME_DRV_PRP, 8 * K, 3);
}

static void plan_touching_segments_are_one_piece(void **state)
{
    (void)state;
    add(PAGE_AT(1) + 4092, 1);
    add(PAGE_AT(1) + 4093, 3); /* ends the page */
    add(PAGE_AT(2), 100);
    add(PAGE_AT(2) + 100, 408);
    check_plan(&prp_only, 512, NVME_DRV_PRP, 512, 2);
    struct nvme_sqe sqe = {0};
    nvme_drv_build_prp(&sqe, NULL, &ref, &begin, 512);
    assert_int_equal(sqe.prp1, PAGE_AT(1) + 4092);
    assert_int_equal(sqe.prp2, PAGE_AT(2));
    nvme_drv_build_sgl(&sqe, NULL, &ref, &begin, 512);
    assert_int_equal(sqe.sgl1.len_bytes, 512);
    assert_int_equal(sqe.sgl1.type, 0);
    assert_int_equal(sqe.flags, 0x40);
}

static void plan_gap_in_a_page_ends_the_command_at_a_block(void **state)
{
    (void)state;
    add(PAGE_AT(1), 2000);
    add(PAGE_AT(7), 4 * K - 2000);
    check_plan(&prp_only, 512, NVME_DRV_PRP, 3 * 512, 1);
    check_plan(&with_sgl, 512, NVME_DRV_SGL, 4 * K, 2);
    check_plan(&prp_only, 4096, NVME_DRV_BOUNCE, 4 * K, 0);
}

static void plan_unaligned_start_is_bounced_up_to_the_buffer(void **state)
{
    (void)state;
    add(PAGE_AT(1) + 2, 64 * K);
    check_plan(&prp_only, 512, NVME_DRV_BOUNCE, NVME_DRV_BOUNCE_BYTES, 0);
    check_plan(&with_sgl, 512, NVME_DRV_SGL, 64 * K, 1);
    struct nvme_drv_caps dwords = with_sgl;
    dwords.sgl_align_mask = 3;
    check_plan(&dwords, 512, NVME_DRV_BOUNCE, NVME_DRV_BOUNCE_BYTES, 0);
}

static void plan_largest_transfer_fits_one_list(void **state)
{
    (void)state;
    add(PAGE_AT(1) + 4, 4092);
    for (uint32_t i = 0; i < 255; i++) {
        add(PAGE_AT(10 + 2 * i), 4096);
    }
    add(PAGE_AT(1000), 4);
    assert_int_equal(ref.seg_count, LIMIT_SEGS);
    check_plan(&prp_only, 512, NVME_DRV_PRP, 1024 * K, LIMIT_SEGS);
    static ALIGNED(4096) uint64_t list[512];
    struct nvme_sqe sqe = {0};
    nvme_drv_build_prp(&sqe, list, &ref, &begin, ref.len_bytes);
    assert_int_equal(sqe.prp2, (uintptr_t)list);
    assert_int_equal(list[0], PAGE_AT(10));
    assert_int_equal(list[254], PAGE_AT(10 + 2 * 254));
    assert_int_equal(list[255], PAGE_AT(1000));
    assert_int_equal(list[256], 0);
}

static void plan_more_descriptors_than_a_list_holds_is_cut_at_a_block(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 300; i++) {
        add(PAGE_AT(2 * i) + 8, 700);
    }
    add(PAGE_AT(5000), 1024 * K - 300 * 700);
    struct nvme_drv_part part = nvme_drv_plan(&with_sgl, &ref, &begin, 512);
    assert_int_equal(part.how, NVME_DRV_SGL);
    assert_int_equal(part.len_bytes, 256 * 700 / 512 * 512);
}

static void plan_what_cannot_be_split_is_one_command_or_none(void **state)
{
    struct nvme_drv_caps small = {.max_bytes = 8 * K};
    (void)state;
    add(PAGE_AT(1) + 4000, 500);
    add(PAGE_AT(3) + 12, 524);
    check_plan(&prp_only, ref.len_bytes, NVME_DRV_BOUNCE, 1024, 0);
    add(PAGE_AT(8), 8 * K);
    check_plan(&prp_only, ref.len_bytes, NVME_DRV_CANNOT, 0, 0); /* larger than a buffer */
    check_plan(&small, ref.len_bytes, NVME_DRV_CANNOT, 0, 0);
}

static void plan_segments_that_end_too_early_are_refused(void **state)
{
    (void)state;
    add(PAGE_AT(1), 512);
    ref.len_bytes = 1024;
    struct nvme_drv_cursor cursor = {0};
    nvme_drv_cursor_advance(&cursor, &ref, 512);
    assert_int_equal(nvme_drv_plan(&prp_only, &ref, &cursor, 512).how, NVME_DRV_CANNOT);
    assert_int_equal(nvme_drv_plan(&with_sgl, &ref, &cursor, 512).how, NVME_DRV_CANNOT);
}

static void plan_empty_segments_are_skipped(void **state)
{
    (void)state;
    add(PAGE_AT(1), 0);
    add(PAGE_AT(2), 512);
    add(PAGE_AT(9) + 1, 0);
    add(PAGE_AT(2) + 512, 512);
    check_plan(&prp_only, 512, NVME_DRV_PRP, 1024, 1);
    check_plan(&with_sgl, 512, NVME_DRV_PRP, 1024, 1);
}

static void cursor_advance_stops_inside_or_between_segments(void **state)
{
    struct nvme_drv_cursor cursor = {0};
    (void)state;
    add(PAGE_AT(1), 1000);
    add(PAGE_AT(2), 0);
    add(PAGE_AT(3), 1000);
    nvme_drv_cursor_advance(&cursor, &ref, 400);
    assert_int_equal(cursor.seg, 0);
    nvme_drv_cursor_advance(&cursor, &ref, 600);
    assert_int_equal(cursor.seg, 2);
    assert_int_equal(cursor.seg_offset_bytes, 0);
    nvme_drv_cursor_advance(&cursor, &ref, 1000);
    assert_int_equal(cursor.seg, 3);
    assert_int_equal(cursor.offset_bytes, 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(plan_no_data_needs_nothing, setup),
        cmocka_unit_test_setup(plan_pages_are_one_prp_command, setup),
        cmocka_unit_test_setup(plan_touching_segments_are_one_piece, setup),
        cmocka_unit_test_setup(plan_gap_in_a_page_ends_the_command_at_a_block, setup),
        cmocka_unit_test_setup(plan_unaligned_start_is_bounced_up_to_the_buffer, setup),
        cmocka_unit_test_setup(plan_largest_transfer_fits_one_list, setup),
        cmocka_unit_test_setup(plan_more_descriptors_than_a_list_holds_is_cut_at_a_block, setup),
        cmocka_unit_test_setup(plan_what_cannot_be_split_is_one_command_or_none, setup),
        cmocka_unit_test_setup(plan_segments_that_end_too_early_are_refused, setup),
        cmocka_unit_test_setup(plan_empty_segments_are_skipped, setup),
        cmocka_unit_test_setup(cursor_advance_stops_inside_or_between_segments, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
