#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "blk/blk_null.h"
#include "blk/blk_ram.h"
#include "hal/native/native.h"
#include "sched/sched.h"

#define BLOCKS 64u

static uint8_t medium[BLOCKS * 4096];
static struct blk_ram ram;
static uint8_t data[32768];
static struct mem_seg segs[4];
static struct blk_req req;
static uint32_t done_count;

static void done(struct blk_req *r)
{
    assert_ptr_equal(r, &req);
    done_count++;
}

static int setup(void **state)
{
    (void)state;
    struct blk_ram_config config = {.name = "ram0",
                                    .memory = medium,
                                    .size_bytes = BLOCKS * 512,
                                    .lba_shift = 9,
                                    .uuid = {1, 2}};
    for (uint32_t i = 0; i < sizeof(medium); i++) {
        medium[i] = (uint8_t)(i / 512 + 1);
    }
    assert_int_equal(blk_ram_init(&ram, &config), STATUS_OK);
    return 0;
}

/* Segments of `data`: three, with odd lengths, so that pieces cross block borders. */
static void refer(uint32_t bytes)
{
    uint32_t first = bytes > 1000 ? 300 : bytes;
    uint32_t second = bytes > 1000 ? 517 : 0;
    uint32_t third = bytes - first - second;
    segs[0] = (struct mem_seg){.bus_addr = (uintptr_t)data, .len_bytes = first};
    segs[1] = (struct mem_seg){.bus_addr = (uintptr_t)data + 4000, .len_bytes = second};
    segs[2] = (struct mem_seg){.bus_addr = (uintptr_t)data + 8001, .len_bytes = third};
    req.data =
        (struct mem_ref){.segs = segs, .len_bytes = bytes, .seg_count = 3, .space = MEM_SPACE_HOST};
}

static nvme_status_t run(uint8_t opcode, uint64_t slba, uint32_t count)
{
    req.cmd = (struct nvme_sqe){.opcode = opcode,
                                .cdw10 = (uint32_t)slba,
                                .cdw11 = (uint32_t)(slba >> 32),
                                .cdw12 = count - 1};
    req.done = done;
    done_count = 0;
    blk_submit(&ram.dev, &req);
    assert_int_equal(done_count, 1);
    return NVME_STATUS_CODE(req.status);
}

static void blk_ram_write_then_read_gives_the_data_back(void **state)
{
    (void)state;
    uint8_t before[1536];
    for (uint32_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)(i * 7);
    }
    refer(1536);
    assert_int_equal(mem_ref_read(&req.data, 0, before, sizeof(before)), sizeof(before));
    assert_int_equal(run(NVME_IO_WRITE, 5, 3), NVME_SC_SUCCESS);
    assert_memory_equal(medium + 5 * 512, before, sizeof(before));
    assert_int_equal(medium[5 * 512 - 1], 5);
    assert_int_equal(medium[8 * 512], 9);

    memset(data, 0xee, sizeof(data));
    assert_int_equal(run(NVME_IO_READ, 5, 3), NVME_SC_SUCCESS);
    uint8_t after[1536];
    mem_ref_read(&req.data, 0, after, sizeof(after));
    assert_memory_equal(after, before, sizeof(before));
    assert_int_equal(data[300], 0xee);
}

static void blk_ram_compare_finds_one_wrong_byte(void **state)
{
    (void)state;
    refer(1536);
    assert_int_equal(run(NVME_IO_READ, 1, 3), NVME_SC_SUCCESS);
    assert_int_equal(run(NVME_IO_COMPARE, 1, 3), NVME_SC_SUCCESS);
    data[8001 + 718]++; /* the last byte */
    assert_int_equal(run(NVME_IO_COMPARE, 1, 3), NVME_SC_COMPARE_FAILURE);
}

static void blk_ram_write_zeroes_clears_its_range_alone(void **state)
{
    (void)state;
    assert_int_equal(run(NVME_IO_WRITE_ZEROES, 10, 2), NVME_SC_SUCCESS);
    assert_int_equal(medium[10 * 512 - 1], 10);
    assert_int_equal(medium[10 * 512], 0);
    assert_int_equal(medium[12 * 512 - 1], 0);
    assert_int_equal(medium[12 * 512], 13);
}

static void blk_ram_deallocate_clears_each_range(void **state)
{
    (void)state;
    struct nvme_dsm_range ranges[2] = {{.lba_count = 1, .slba = 3}, {.lba_count = 2, .slba = 20}};
    memcpy(data, ranges, sizeof(ranges));
    refer(sizeof(ranges));
    req.cmd = (struct nvme_sqe){.opcode = NVME_IO_DSM, .cdw10 = 1, .cdw11 = NVME_DSM_DEALLOCATE};
    req.done = done;
    blk_submit(&ram.dev, &req);
    assert_int_equal(req.status, NVME_SC_SUCCESS);
    assert_int_equal(medium[3 * 512], 0);
    assert_int_equal(medium[4 * 512], 5);
    assert_int_equal(medium[21 * 512 + 511], 0);
    assert_int_equal(medium[22 * 512], 23);

    ranges[1].slba = BLOCKS - 1;
    memcpy(data, ranges, sizeof(ranges));
    blk_submit(&ram.dev, &req);
    assert_int_equal(NVME_STATUS_CODE(req.status), NVME_SC_LBA_OUT_OF_RANGE);

    req.data.len_bytes = 16;
    segs[0].len_bytes = 16;
    blk_submit(&ram.dev, &req);
    assert_int_equal(NVME_STATUS_CODE(req.status), NVME_SC_INVALID_FIELD);
}

static void blk_ram_hints_change_nothing(void **state)
{
    (void)state;
    struct nvme_dsm_range range = {.lba_count = BLOCKS, .slba = 0};
    memcpy(data, &range, sizeof(range));
    refer(sizeof(range));
    req.cmd = (struct nvme_sqe){.opcode = NVME_IO_DSM, .cdw10 = 0, .cdw11 = 3};
    blk_submit(&ram.dev, &req);
    assert_int_equal(req.status, NVME_SC_SUCCESS);
    assert_int_equal(medium[0], 1);
}

static void blk_ram_outside_the_medium_is_refused(void **state)
{
    (void)state;
    refer(1024);
    assert_int_equal(run(NVME_IO_READ, BLOCKS - 1, 2), NVME_SC_LBA_OUT_OF_RANGE);
    assert_int_equal(run(NVME_IO_WRITE, UINT64_MAX, 2), NVME_SC_LBA_OUT_OF_RANGE);
    assert_int_equal(run(NVME_IO_WRITE_ZEROES, BLOCKS, 1), NVME_SC_LBA_OUT_OF_RANGE);
    assert_int_equal(run(NVME_IO_READ, BLOCKS - 2, 2), NVME_SC_SUCCESS);
}

static void blk_ram_length_that_differs_is_refused(void **state)
{
    (void)state;
    refer(1024);
    assert_int_equal(run(NVME_IO_READ, 0, 3), NVME_SC_INVALID_FIELD);
    assert_int_equal(run(NVME_IO_WRITE, 0, 1), NVME_SC_INVALID_FIELD);
}

static void blk_ram_flush_verify_and_unknown_opcodes(void **state)
{
    (void)state;
    assert_int_equal(run(NVME_IO_FLUSH, UINT64_MAX, 1), NVME_SC_SUCCESS);
    assert_int_equal(run(NVME_IO_VERIFY, 0, BLOCKS), NVME_SC_SUCCESS);
    assert_int_equal(run(NVME_IO_VERIFY, 1, BLOCKS), NVME_SC_LBA_OUT_OF_RANGE);
    assert_int_equal(run(0x7f, 0, 1), NVME_SC_INVALID_OPCODE);
}

static void blk_ram_init_bad_geometry_is_refused(void **state)
{
    (void)state;
    struct blk_ram_config good = {
        .name = "x", .memory = medium, .size_bytes = 8192, .lba_shift = 12};
    struct blk_ram_config bad = good;
    assert_int_equal(blk_ram_init(&ram, &good), STATUS_OK);
    assert_int_equal(ram.dev.geometry.lba_count, 2);
    bad.lba_shift = 10;
    assert_int_equal(blk_ram_init(&ram, &bad), STATUS_INVALID);
    bad = good;
    bad.size_bytes = 8192 + 512;
    assert_int_equal(blk_ram_init(&ram, &bad), STATUS_INVALID);
    bad.size_bytes = 0;
    assert_int_equal(blk_ram_init(&ram, &bad), STATUS_INVALID);
    bad = good;
    bad.memory = NULL;
    assert_int_equal(blk_ram_init(&ram, &bad), STATUS_INVALID);
}

/* --- long ranges --------------------------------------------------------------------------- */

#define LONG_BYTES (5u * BLK_RAM_STEP_BYTES / 2)

static uint8_t long_medium[LONG_BYTES];

static void start_long(uint8_t opcode)
{
    struct blk_ram_config config = {
        .name = "long", .memory = long_medium, .size_bytes = LONG_BYTES, .lba_shift = 9};

    native_cpu_become(0);
    sched_init(1, SCHED_IDLE_POLL);
    assert_int_equal(blk_ram_init(&ram, &config), STATUS_OK);
    memset(long_medium, 0x77, sizeof(long_medium));
    req.cmd = (struct nvme_sqe){.opcode = opcode, .cdw12 = LONG_BYTES / 512 - 1};
    req.done = done;
    req.owner_core = 0;
    done_count = 0;
}

static void blk_ram_long_zeroing_goes_in_steps(void **state)
{
    (void)state;
    start_long(NVME_IO_WRITE_ZEROES);
    blk_submit(&ram.dev, &req);
    assert_int_equal(done_count, 0);
    assert_int_equal(long_medium[BLK_RAM_STEP_BYTES - 1], 0);
    assert_int_equal(long_medium[BLK_RAM_STEP_BYTES], 0x77);
    sched_turn();
    assert_int_equal(done_count, 0);
    assert_int_equal(long_medium[2 * BLK_RAM_STEP_BYTES - 1], 0);
    sched_turn();
    assert_int_equal(done_count, 1);
    assert_int_equal(req.status, 0);
    assert_int_equal(long_medium[LONG_BYTES - 1], 0);
    sched_turn();
    assert_int_equal(done_count, 1);
}

static void blk_ram_long_zeroing_can_be_cancelled(void **state)
{
    (void)state;
    start_long(NVME_IO_WRITE_ZEROES);
    blk_submit(&ram.dev, &req);
    blk_cancel(&ram.dev, &req);
    assert_int_equal(done_count, 0); /* still exactly once, and later */
    sched_turn();
    assert_int_equal(done_count, 1);
    assert_int_equal(NVME_STATUS_CODE(req.status), NVME_SC_ABORT_REQUESTED);
    assert_int_equal(long_medium[LONG_BYTES - 1], 0x77);
}

static void blk_ram_long_deallocate_goes_on_over_ranges(void **state)
{
    (void)state;
    struct nvme_dsm_range ranges[2] = {
        {.lba_count = LONG_BYTES / 512 - 4096, .slba = 0},
        {.lba_count = 4000, .slba = LONG_BYTES / 512 - 4096},
    };
    start_long(NVME_IO_DSM);
    memcpy(data, ranges, sizeof(ranges));
    refer(sizeof(ranges));
    req.cmd = (struct nvme_sqe){.opcode = NVME_IO_DSM, .cdw10 = 1, .cdw11 = NVME_DSM_DEALLOCATE};
    blk_submit(&ram.dev, &req);
    for (uint32_t i = 0; i < 4 && done_count == 0; i++) {
        sched_turn();
    }
    assert_int_equal(done_count, 1);
    assert_int_equal(req.status, 0);
    assert_int_equal(long_medium[LONG_BYTES - 96 * 512 - 1], 0);
    assert_int_equal(long_medium[LONG_BYTES - 96 * 512], 0x77);
}

static void blk_null_completes_and_moves_nothing(void **state)
{
    (void)state;
    struct blk_null null;
    assert_int_equal(blk_null_init(&null, "null0", 1000, 9), STATUS_INVALID);
    assert_int_equal(blk_null_init(&null, "null0", 4096, 11), STATUS_INVALID);
    assert_int_equal(blk_null_init(&null, "null0", 1 << 20, 9), STATUS_OK);
    memset(data, 0x33, sizeof(data));
    refer(1024);
    req.cmd = (struct nvme_sqe){.opcode = NVME_IO_READ, .cdw12 = 1};
    req.done = done;
    done_count = 0;
    blk_submit(&null.dev, &req);
    assert_int_equal(done_count, 1);
    assert_int_equal(req.status, 0);
    assert_int_equal(data[0], 0x33);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(blk_ram_write_then_read_gives_the_data_back, setup),
        cmocka_unit_test_setup(blk_ram_compare_finds_one_wrong_byte, setup),
        cmocka_unit_test_setup(blk_ram_write_zeroes_clears_its_range_alone, setup),
        cmocka_unit_test_setup(blk_ram_deallocate_clears_each_range, setup),
        cmocka_unit_test_setup(blk_ram_hints_change_nothing, setup),
        cmocka_unit_test_setup(blk_ram_outside_the_medium_is_refused, setup),
        cmocka_unit_test_setup(blk_ram_length_that_differs_is_refused, setup),
        cmocka_unit_test_setup(blk_ram_flush_verify_and_unknown_opcodes, setup),
        cmocka_unit_test_setup(blk_ram_init_bad_geometry_is_refused, setup),
        cmocka_unit_test_setup(blk_ram_long_zeroing_goes_in_steps, setup),
        cmocka_unit_test_setup(blk_ram_long_zeroing_can_be_cancelled, setup),
        cmocka_unit_test_setup(blk_ram_long_deallocate_goes_on_over_ranges, setup),
        cmocka_unit_test_setup(blk_null_completes_and_moves_nothing, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
