/* Requests of every shape against a reference, with drives of every capability. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/trace.h"
#include "nvme_drv/nvme_drv_priv.h"
#include "rig.h"

#define ARENA_BYTES (8u << 20)
#define DISK_BYTES  (8u << 20)
#define FILL        0xee

static struct rig rig;
static uint8_t *arena; /* what requests refer to; page aligned */
static uint8_t shadow[DISK_BYTES];
static uint8_t flat[2u << 20];
static uint32_t seed;

static uint32_t pick(uint32_t limit)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % limit;
}

static int setup(void **state)
{
    (void)state;
    arena = aligned_alloc(4096, ARENA_BYTES);
    return arena == NULL;
}

static int teardown(void **state)
{
    (void)state;
    free(arena);
    return 0;
}

/* --- shapes of memory ----------------------------------------------------------------------------
 */

enum shape {
    SHAPE_CONTIGUOUS, /* one segment, page aligned */
    SHAPE_OFFSET,     /* one segment, at a dword */
    SHAPE_ODD,        /* one segment, at any byte */
    SHAPE_PAGES,      /* scattered pages, unaligned start: what PRPs are made for */
    SHAPE_TOUCHING,   /* segments that touch on the bus, cut anywhere */
    SHAPE_SECTORS,    /* 512 byte pieces at dword addresses */
    SHAPE_CRUMBS,     /* pieces of any length at any address */
    SHAPE_COUNT
};

static uint32_t next_piece(enum shape shape, uint32_t left_bytes, uint32_t *at, bool is_first)
{
    uint32_t len_bytes = left_bytes;
    switch (shape) {
    case SHAPE_OFFSET:
        *at += is_first ? 4 * pick(1024) : 0;
        break;
    case SHAPE_ODD:
        *at += is_first ? 1 + 2 * pick(2000) : 0;
        break;
    case SHAPE_PAGES:
        *at = (*at + 4095) / 4096 * 4096 + 4096 * pick(3);
        *at += is_first ? 4 * pick(1024) : 0;
        len_bytes = 4096 - *at % 4096;
        break;
    case SHAPE_TOUCHING:
        *at += is_first ? 4 * pick(1024) : 0;
        len_bytes = 1 + pick(6000);
        break;
    case SHAPE_SECTORS:
        *at = (*at + 3) / 4 * 4 + 4 * pick(300);
        len_bytes = 512;
        break;
    case SHAPE_CRUMBS:
        *at += 1 + pick(500);
        len_bytes = 1 + pick(9000);
        break;
    case SHAPE_CONTIGUOUS:
    case SHAPE_COUNT:
        break;
    }
    return len_bytes < left_bytes ? len_bytes : left_bytes;
}

static void add_shape(struct rig_req *r, enum shape shape, uint32_t len_bytes)
{
    uint32_t at = 4096;
    bool is_first = true;

    while (len_bytes != 0) {
        uint32_t piece_bytes = next_piece(shape, len_bytes, &at, is_first);
        if (r->req.data.seg_count == ARRAY_SIZE(r->segs) - 1) {
            piece_bytes = len_bytes;
        }
        assert_true(at + piece_bytes <= ARENA_BYTES);
        rig_req_seg(r, arena + at, piece_bytes);
        at += piece_bytes;
        len_bytes -= piece_bytes;
        is_first = false;
    }
}

/* Checks what a read left: the data in the segments, nothing beside them. */
static void check_read(const struct rig_req *r, const uint8_t *expected)
{
    uint32_t total_bytes = 0;
    for (uint32_t i = 0; i < r->req.data.seg_count; i++) {
        uint8_t *ptr = mem_seg_ptr(&r->segs[i]);
        assert_memory_equal(ptr, expected + total_bytes, r->segs[i].len_bytes);
        total_bytes += r->segs[i].len_bytes;
        memset(ptr, FILL, r->segs[i].len_bytes);
    }
    for (uint32_t i = 0; i < ARENA_BYTES; i += 8) {
        uint64_t word;
        memcpy(&word, arena + i, 8);
        if (word != 0xeeeeeeeeeeeeeeeeull) {
            fail_msg("memory beside the segments was written at %u", (unsigned)i);
        }
    }
}

/* --- the matrix
 * ------------------------------------------------------------------------------------ */

static void one_round(enum shape shape, uint32_t len_bytes, uint32_t lba_shift)
{
    static struct rig_req r;
    uint32_t lba_count = len_bytes >> lba_shift;
    uint64_t slba = pick((DISK_BYTES - len_bytes) >> lba_shift);
    uint8_t *expected = shadow + (slba << lba_shift);

    rig_req_init(&rig, &r, NVME_IO_WRITE, slba, lba_count);
    add_shape(&r, shape, len_bytes);
    for (uint32_t i = 0; i < len_bytes; i++) {
        flat[i] = (uint8_t)(seed = seed * 1664525 + 1013904223, seed >> 24);
    }
    assert_int_equal(mem_ref_write(&r.req.data, 0, flat, len_bytes), len_bytes);
    memcpy(expected, flat, len_bytes);
    assert_int_equal(rig_do(&rig, &r), 0);
    assert_memory_equal(rig.model.ns[0].blocks + (slba << lba_shift), expected, len_bytes);

    rig_req_init(&rig, &r, NVME_IO_COMPARE, slba, lba_count);
    memset(arena, FILL, ARENA_BYTES);
    add_shape(&r, shape, len_bytes);
    assert_int_equal(mem_ref_write(&r.req.data, 0, flat, len_bytes), len_bytes);
    assert_int_equal(rig_do(&rig, &r), 0);
    memset(arena, FILL, ARENA_BYTES);

    rig_req_init(&rig, &r, NVME_IO_READ, slba, lba_count);
    add_shape(&r, shape, len_bytes);
    assert_int_equal(rig_do(&rig, &r), 0);
    check_read(&r, expected);
}

/* All shapes and lengths on a drive of the given kind; returns its counters. */
static struct nvme_drv_stats run_matrix(uint8_t lba_shift, uint8_t mdts, uint8_t sgls,
                                        uint64_t *data_bytes)
{
    static const uint32_t lengths[] = {512,   1024,  4096,   8192,   12288,
                                       20480, 65536, 131072, 262144, 1u << 20};
    rig_init(&rig, 1, lba_shift);
    rig.model.mdts = mdts;
    rig.model.sgls = sgls;
    rig.model.shuffles = true;
    rig_bring_up(&rig);
    memset(shadow, 0, sizeof(shadow));
    memset(arena, FILL, ARENA_BYTES);
    for (uint32_t shape = 0; shape < SHAPE_COUNT; shape++) {
        for (uint32_t i = 0; i < ARRAY_SIZE(lengths); i++) {
            if (lengths[i] >> lba_shift != 0) {
                one_round((enum shape)shape, lengths[i], lba_shift);
            }
        }
    }
    assert_memory_equal(rig.model.ns[0].blocks, shadow, DISK_BYTES);
    struct nvme_drv_stats stats = nvme_drv_stats(rig.drv);
    assert_int_equal(stats.error_count, 0);
    assert_int_equal(stats.reset_count, 0);
    *data_bytes = rig.model.data_bytes;
    rig_end(&rig);
    return stats;
}

static void matrix_drive_with_sgl_needs_no_bounce(void **state)
{
    uint64_t data_bytes;
    (void)state;
    seed = 1;
    struct nvme_drv_stats stats = run_matrix(9, 0, 1, &data_bytes);
    assert_int_equal(stats.bounced_bytes, 0);
    assert_true(rig.model.sgl_count > 0);
    assert_true(rig.model.prp_count > 0);
    stats = run_matrix(12, 8, 1, &data_bytes);
    assert_int_equal(stats.bounced_bytes, 0);
}

static void matrix_drive_with_small_mdts_splits(void **state)
{
    uint64_t data_bytes;
    (void)state;
    seed = 2;
    struct nvme_drv_stats stats = run_matrix(9, 1, 1, &data_bytes);
    assert_true(stats.split_count > 100);
    assert_int_equal(stats.bounced_bytes, 0);
    stats = run_matrix(12, 5, 1, &data_bytes);
    assert_true(stats.split_count > 20);
}

static void matrix_drive_without_sgl_bounces_some(void **state)
{
    uint64_t data_bytes;
    (void)state;
    seed = 3;
    struct nvme_drv_stats stats = run_matrix(9, 7, 0, &data_bytes);
    assert_int_equal(rig.model.sgl_count, 0);
    assert_in_range(stats.bounced_bytes, 1, data_bytes);
    stats = run_matrix(12, 3, 0, &data_bytes);
    assert_in_range(stats.bounced_bytes, 1, data_bytes);
}

static void matrix_drive_with_dword_sgl_bounces_odd_memory_only(void **state)
{
    uint64_t data_bytes;
    (void)state;
    seed = 4;
    struct nvme_drv_stats stats = run_matrix(9, 7, 2, &data_bytes);
    assert_true(rig.model.sgl_count > 0);
    assert_true(stats.bounced_bytes > 0);
}

/* --- what is staged, and what is not -----------------------------------------------------------
 */

static void bounce_of_prp_shapes_is_zero(void **state)
{
    static struct rig_req r;
    (void)state;
    rig_init(&rig, 1, 9);
    rig.model.sgls = 0;
    rig_bring_up(&rig);
    for (uint32_t shape = SHAPE_CONTIGUOUS; shape <= SHAPE_PAGES; shape++) {
        if (shape != SHAPE_ODD) {
            rig_req_init(&rig, &r, NVME_IO_READ, 0, 2048);
            add_shape(&r, (enum shape)shape, 1u << 20);
            assert_int_equal(rig_do(&rig, &r), 0);
        }
    }
    assert_int_equal(nvme_drv_stats(rig.drv).bounced_bytes, 0);
    rig_end(&rig);
}

/* Two pages that touch neither each other nor page borders, blocks of 512: only the block across
 * the gap is copied. */
static void bounce_of_one_gap_copies_one_block(void **state)
{
    static struct rig_req r;
    (void)state;
    rig_init(&rig, 1, 9);
    rig.model.sgls = 0;
    rig_bring_up(&rig);
    rig_req_init(&rig, &r, NVME_IO_READ, 0, 8);
    rig_req_seg(&r, arena + 100 * 4, 1000);
    rig_req_seg(&r, arena + 9000 * 4, 4096 - 1000);
    assert_int_equal(rig_do(&rig, &r), 0);
    struct nvme_drv_stats stats = nvme_drv_stats(rig.drv);
    assert_int_equal(stats.bounced_bytes, 512);
    assert_int_equal(stats.command_count, 3);
    assert_int_equal(stats.split_count, 1);
    rig_end(&rig);
}

/* --- other commands ------------------------------------------------------------------------------
 */

static void command_fields_pass_through_but_addresses_do_not(void **state)
{
    static struct rig_req r;
    (void)state;
    rig_init(&rig, 1, 9);
    drive_model_add_ns(&rig.model, 5, 9, 100);
    rig_bring_up(&rig);
    rig_req_init(&rig, &r, NVME_IO_WRITE, 3, 8);
    r.req.cmd.cdw12 |= NVME_RW_FUA | NVME_RW_LR;
    r.req.cmd.cdw13 = 0x1301;
    r.req.cmd.cdw14 = 0x1402;
    r.req.cmd.cdw15 = 0x1503;
    r.req.cmd.flags = NVME_PSDT_SGL_MPTR << 6; /* as the host sent it */
    rig_req_seg(&r, arena, 4096);
    rig_become(0);
    blk_submit(nvme_drv_blk(rig.drv, 5), &r.req);
    assert_true(rig_wait(&rig, &r, 1, RIG_S));
    const struct nvme_sqe *seen = &rig.model.last_io;
    assert_int_equal(seen->nsid, 5);
    assert_int_equal(seen->flags, 0);
    assert_int_equal(seen->cdw12, 7 | NVME_RW_FUA | NVME_RW_LR);
    assert_int_equal(seen->cdw13, 0x1301);
    assert_int_equal(seen->cdw14, 0x1402);
    assert_int_equal(seen->cdw15, 0x1503);
    assert_int_equal(seen->prp1, (uintptr_t)arena);
    assert_int_equal(seen->mptr, 0);
    assert_int_equal(r.req.dw0, 0x10);
    assert_int_equal(r.req.dw1, 0xdd000001);
    rig_end(&rig);
}

static void flush_write_zeroes_verify_dsm_reach_the_drive(void **state)
{
    static struct rig_req r;
    static uint8_t ranges[16 * 3 + 4];
    uint8_t *unaligned = ranges + 2;
    uint8_t *blocks;
    (void)state;
    rig_init(&rig, 1, 9);
    rig_bring_up(&rig);
    blocks = rig.model.ns[0].blocks;
    memset(blocks, 0x77, 64 * 512);

    rig_req_init(&rig, &r, NVME_IO_FLUSH, 0, 1);
    assert_int_equal(rig_do(&rig, &r), 0);
    assert_int_equal(r.req.dw0, 0xf1);
    rig_req_init(&rig, &r, NVME_IO_WRITE_ZEROES, 4, 2);
    r.req.cmd.cdw12 |= NVME_WZ_DEAC;
    assert_int_equal(rig_do(&rig, &r), 0);
    assert_int_equal(rig.model.last_io.cdw12, 1 | NVME_WZ_DEAC);
    assert_int_equal(blocks[4 * 512], 0);
    assert_int_equal(blocks[6 * 512], 0x77);
    rig_req_init(&rig, &r, NVME_IO_VERIFY, 4, 2);
    assert_int_equal(rig_do(&rig, &r), 0);

    for (uint8_t sgls = 0; sgls < 2; sgls++) { /* with and without the bounce */
        memset(ranges, 0, sizeof(ranges));
        for (uint8_t i = 0; i < 3; i++) {
            unaligned[i * 16 + 4] = 1;
            unaligned[i * 16 + 8] = (uint8_t)(10 + 2 * i + sgls * 20);
        }
        rig_req_init(&rig, &r, NVME_IO_DSM, 0, 1);
        r.req.cmd.cdw10 = 2;
        r.req.cmd.cdw11 = 4;
        rig_req_seg(&r, unaligned, 30);
        rig_req_seg(&r, unaligned + 30, 18);
        rig.drv->queues[0].caps.sgl = sgls == 1;
        assert_int_equal(rig_do(&rig, &r), 0);
        assert_int_equal(blocks[(14 + sgls * 20) * 512], 0);
        assert_int_equal(blocks[(15 + sgls * 20) * 512], 0x77);
    }
    rig_end(&rig);
}

static void status_of_the_drive_is_returned_with_dnr(void **state)
{
    static struct rig_req r;
    (void)state;
    rig_init(&rig, 1, 9);
    rig_bring_up(&rig);
    rig_req_init(&rig, &r, NVME_IO_READ, 1u << 30, 8);
    rig_req_seg(&r, arena, 4096);
    assert_int_equal(rig_do(&rig, &r), NVME_SC_LBA_OUT_OF_RANGE | NVME_STATUS_DNR);
    /* More and CRD speak of the drive's own log and Identify data. */
    rig.model.io_fault = MODEL_FAULT_STATUS;
    rig.model.fault_status = NVME_SC_UNRECOVERED_READ | NVME_STATUS_MORE | 0x1800;
    rig_req_init(&rig, &r, NVME_IO_READ, 0, 8);
    rig_req_seg(&r, arena, 4096);
    assert_int_equal(rig_do(&rig, &r), NVME_SC_UNRECOVERED_READ);
    assert_int_equal(r.req.dw0, 0xbad);
    assert_int_equal(nvme_drv_stats(rig.drv).error_count, 2);
    rig_end(&rig);
}

static void request_that_cannot_be_is_refused(void **state)
{
    static struct rig_req r;
    const struct mem_ref meta = {0};
    (void)state;
    rig_init(&rig, 1, 9);
    rig_bring_up(&rig);
    for (uint32_t i = 0; i < 6; i++) {
        rig_req_init(&rig, &r, NVME_IO_READ, 0, 8);
        rig_req_seg(&r, arena, i == 0 ? 2048 : 4096); /* shorter than its LBA range */
        if (i == 1) {
            r.req.meta = &meta;
        } else if (i == 2) {
            r.req.cmd.flags = 1; /* fused */
        } else if (i == 3) {
            r.req.data.len_bytes = 8192; /* longer than its segments */
            r.req.cmd.cdw12 = 15;
        } else if (i == 4) {
            r.req.data.seg_count = 0;
        } else if (i == 5) { /* no LBA data, so not splittable; larger than the drive takes */
            r.req.cmd.opcode = NVME_IO_DSM;
            r.req.data.len_bytes = 2u << 20;
            r.segs[0].len_bytes = 2u << 20;
        }
        assert_int_equal(rig_do(&rig, &r), NVME_SC_INVALID_FIELD | NVME_STATUS_DNR);
    }
    assert_int_equal(rig.model.io_count, 1); /* the half of the one whose segments end early */
    rig_end(&rig);
}

/* --- many at once
 * ---------------------------------------------------------------------------------- */

#define MANY 600

static struct rig_req many[MANY];

/* More requests than slots, of all sizes, from two cores, answered out of order. */
static void many_requests_from_two_cores_all_end_right(void **state)
{
    (void)state;
    seed = 5;
    rig_init(&rig, 2, 9);
    rig.model.shuffles = true;
    rig.model.sgls = 0;
    rig.model.delay_ns = RIG_MS;
    rig_bring_up(&rig);
    for (uint32_t i = 0; i < DISK_BYTES; i++) {
        rig.model.ns[0].blocks[i] = (uint8_t)(seed = seed * 1664525 + 1013904223, seed >> 24);
    }
    for (uint32_t i = 0; i < MANY; i++) {
        uint32_t lba_count = i % 50 == 0 ? 512 : 1 + pick(16);
        uint32_t slba = pick(8000);
        rig_req_init(&rig, &many[i], NVME_IO_READ, slba, lba_count);
        many[i].req.owner_core = i % 3 == 0;
        uint8_t *buffer = malloc(lba_count * 512 + 8);
        if (i % 4 == 0 && lba_count > 1) {
            rig_req_seg(&many[i], buffer + 1, 700);
            rig_req_seg(&many[i], buffer + 701, lba_count * 512 - 700);
        } else {
            rig_req_seg(&many[i], buffer, lba_count * 512);
        }
        rig_submit(&rig, &many[i]);
    }
    assert_true(rig_wait(&rig, many, MANY, 60 * RIG_S));
    for (uint32_t i = 0; i < MANY; i++) {
        uint8_t *ptr = mem_seg_ptr(&many[i].segs[0]);
        assert_int_equal(many[i].req.status, 0);
        assert_memory_equal(ptr, rig.model.ns[0].blocks + nvme_rw_slba(&many[i].req.cmd) * 512,
                            many[i].req.data.len_bytes);
        free(ptr - (many[i].req.data.seg_count == 2 ? 1 : 0));
    }
    assert_int_equal(nvme_drv_stats(rig.drv).timeout_count, 0);
    rig_end(&rig);
}

/* First error wins, and what was not yet submitted is not. */
static void split_with_an_error_ends_with_the_first_error(void **state)
{
    static struct rig_req r;
    (void)state;
    rig_init(&rig, 1, 9);
    rig.model.mdts = 1;
    rig.model.mqes = 7; /* seven of 128 commands at a time */
    rig.model.io_fault = MODEL_FAULT_STATUS;
    rig.model.io_fault_number = 3;
    rig.model.fault_repeats = 2;
    rig.model.fault_status = NVME_SC_UNRECOVERED_READ | NVME_STATUS_DNR;
    rig_bring_up(&rig);
    rig_req_init(&rig, &r, NVME_IO_READ, 0, 2048);
    rig_req_seg(&r, arena, 1u << 20);
    assert_int_equal(rig_do(&rig, &r), NVME_SC_UNRECOVERED_READ | NVME_STATUS_DNR);
    assert_int_equal(r.req.dw0, 0xbad);
    assert_int_equal(nvme_drv_stats(rig.drv).split_count, 1);
    assert_in_range(rig.model.io_count, 4, 14);
    rig_end(&rig);
}

static void trace_of_a_request_tells_when_it_was_sent_and_answered(void **state)
{
    static struct rig_req r;
    struct trace_record records[4];
    uint64_t next = UINT64_MAX;
    (void)state;
    rig_init(&rig, 1, 9);
    rig_bring_up(&rig);
    rig_req_init(&rig, &r, NVME_IO_READ, 3, 8);
    rig_req_seg(&r, arena, 4096);
    r.req.trace_id = 0x70042;
    (void)trace_read(0, &next, records, 0, NULL); /* from now on */
    trace_enable(TRACE_CLASS_IO);
    assert_int_equal(rig_do(&rig, &r), 0);
    trace_enable(TRACE_CLASS_CONTROL | TRACE_CLASS_FAULT);
    assert_int_equal(trace_read(0, &next, records, 4, NULL), 2);
    assert_int_equal(records[0].event, TRACE_DRIVE_SEND);
    assert_int_equal(records[1].event, TRACE_DRIVE_DONE);
    assert_int_equal(records[0].id, 0x70042);
    assert_int_equal(records[1].id, 0x70042);
    assert_int_equal(records[0].a >> 16, 1); /* drive 0, its queue 1 */
    assert_int_equal(records[1].a, records[0].a);
    assert_int_equal(records[0].b, 4096);
    assert_int_equal(records[1].b, 0);
    rig_end(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matrix_drive_with_sgl_needs_no_bounce),
        cmocka_unit_test(matrix_drive_with_small_mdts_splits),
        cmocka_unit_test(matrix_drive_without_sgl_bounces_some),
        cmocka_unit_test(matrix_drive_with_dword_sgl_bounces_odd_memory_only),
        cmocka_unit_test(bounce_of_prp_shapes_is_zero),
        cmocka_unit_test(bounce_of_one_gap_copies_one_block),
        cmocka_unit_test(command_fields_pass_through_but_addresses_do_not),
        cmocka_unit_test(flush_write_zeroes_verify_dsm_reach_the_drive),
        cmocka_unit_test(status_of_the_drive_is_returned_with_dnr),
        cmocka_unit_test(request_that_cannot_be_is_refused),
        cmocka_unit_test(many_requests_from_two_cores_all_end_right),
        cmocka_unit_test(split_with_an_error_ends_with_the_first_error),
        cmocka_unit_test(trace_of_a_request_tells_when_it_was_sent_and_answered),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
