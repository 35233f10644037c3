/* PRPs and SGLs: sections 4.3, 4.4. Each rule by itself, then random ones against the reference. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "tests/unit/nvme_ep/reference.h"
#include "tests/unit/nvme_ep/rig.h"

#define OUTSIDE (RIG_HOST_BASE - 0x100000)
#define SGL     (NVME_PSDT_SGL_MPTR << NVME_SQE_PSDT_SHIFT)

static uint64_t data;
static uint64_t list;

/* A command of the endpoint by itself: what the core would give to map(). */
static struct nvme_ep_cmd *cmd;

static int setup(void **state)
{
    (void)state;
    rig_start(NULL);
    rig_enable();
    data = rig_alloc(3 << 20);
    list = rig_alloc(4 * 4096);
    cmd = pool_get(&rig.ep->cores[0].io.cmds);
    return 0;
}

static void let_go(void)
{
    if ((cmd->nvme.state & NVME_EP_CMD_BIG) != 0) {
        pool_put(&rig.ep->cores[0].io.bigs, cmd->big);
        cmd->nvme.state = NVME_EP_CMD_ACTIVE;
    }
}

static int teardown(void **state)
{
    (void)state;
    let_go();
    cmd->nvme.state = NVME_EP_CMD_FREE;
    pool_put(&rig.ep->cores[0].io.cmds, cmd);
    rig_stop();
    return 0;
}

static nvme_status_t map_dir(const struct nvme_sqe *sqe, uint32_t len_bytes, uint8_t dir)
{
    let_go();
    cmd->nvme.blk.cmd = *sqe;
    cmd->nvme.blk.dir = dir;
    cmd->nvme.blk.data = (struct mem_ref){0};
    cmd->nvme.sq_id = 1;
    cmd->nvme.state = NVME_EP_CMD_ACTIVE;
    cmd->is_mapped = false;
    rig.ep->sqs[1].pools = &rig.ep->cores[0].io;
    cmd->sq = &rig.ep->sqs[1];
    return nvme_ep_map(&cmd->nvme, len_bytes);
}

static nvme_status_t map(const struct nvme_sqe *sqe, uint32_t len_bytes)
{
    return map_dir(sqe, len_bytes, NVME_DIR_FROM_CONTROLLER);
}

static nvme_status_t map_prp(uint64_t prp1, uint64_t prp2, uint32_t len_bytes)
{
    struct nvme_sqe sqe = {.prp1 = prp1, .prp2 = prp2};
    return map(&sqe, len_bytes);
}

static uint64_t *entry(uint32_t index)
{
    return (uint64_t *)rig_ptr(list + index * 8);
}

#define BAD_OFFSET  (NVME_SC_INVALID_PRP_OFFSET | NVME_STATUS_DNR)
#define BAD_ADDRESS (NVME_SC_DATA_TRANSFER_ERROR | NVME_STATUS_DNR)

/* --- PRP ----------------------------------------------------------------------------------- */

static void prp_in_one_page_is_one_segment(void **state)
{
    (void)state;
    assert_int_equal(map_prp(data, 0xdead, 4096), 0); /* PRP2 is reserved */
    assert_int_equal(cmd->nvme.blk.data.seg_count, 1);
    assert_int_equal(cmd->nvme.blk.data.len_bytes, 4096);
    assert_int_equal(cmd->nvme.blk.data.space, MEM_SPACE_HOST);
    assert_ptr_equal(mem_seg_ptr(&cmd->segs[0]), rig_ptr(data));
    assert_int_equal(map_prp(data + 3584, 0xdead, 512), 0);
    assert_ptr_equal(mem_seg_ptr(&cmd->segs[0]), rig_ptr(data + 3584));
    assert_int_equal(map_prp(data + 4, 0xdead, 512), 0);
}

static void prp1_not_dword_aligned_is_refused(void **state)
{
    (void)state;
    for (uint32_t i = 1; i < 4; i++) {
        assert_int_equal(map_prp(data + i, data + 4096, 512), BAD_OFFSET);
        assert_int_equal(map_prp(data + i, data + 4096, 8192), BAD_OFFSET);
        assert_int_equal(cmd->nvme.error_location, 24);
    }
}

static void prp2_as_page_has_no_offset(void **state)
{
    (void)state;
    assert_int_equal(map_prp(data + 512, data + 8192, 4096), 0);
    assert_int_equal(cmd->nvme.blk.data.seg_count, 2);
    assert_int_equal(cmd->segs[0].len_bytes, 3584);
    assert_int_equal(cmd->segs[1].len_bytes, 512);
    assert_ptr_equal(mem_seg_ptr(&cmd->segs[1]), rig_ptr(data + 8192));
    assert_int_equal(map_prp(data + 512, data + 8192 + 4, 4096), BAD_OFFSET);
    assert_int_equal(cmd->nvme.error_location, 32);
}

static void prp_neighbours_are_merged(void **state)
{
    (void)state;
    assert_int_equal(map_prp(data + 512, data + 4096, 4608), 0);
    assert_int_equal(cmd->nvme.blk.data.seg_count, 1);
    for (uint32_t i = 0; i < 31; i++) {
        *entry(i) = data + 4096 * (i + 1);
    }
    assert_int_equal(map_prp(data, list, 131072), 0);
    assert_int_equal(cmd->nvme.blk.data.seg_count, 1);
    assert_int_equal(cmd->segs[0].len_bytes, 131072);
    *entry(7) = data;
    assert_int_equal(map_prp(data, list, 131072), 0);
    assert_int_equal(cmd->nvme.blk.data.seg_count, 3);
}

static void prp_list_starts_qword_aligned_anywhere(void **state)
{
    (void)state;
    *entry(5) = data + 8192;
    *entry(6) = data;
    assert_int_equal(map_prp(data + 4096, list + 40, 12288), 0);
    assert_int_equal(cmd->nvme.blk.data.seg_count, 2);
    for (uint32_t i = 1; i < 8; i++) {
        assert_int_equal(map_prp(data, list + i, 12288), BAD_OFFSET);
    }
}

static void prp_list_entries_have_no_offset(void **state)
{
    (void)state;
    *entry(0) = data + 4096;
    *entry(1) = data + 8192 + 8;
    assert_int_equal(map_prp(data, list, 12288), BAD_OFFSET);
    *entry(0) = data + 4096 + 8;
    *entry(1) = data + 8192;
    assert_int_equal(map_prp(data, list, 12288), BAD_OFFSET);
    *entry(0) = data + 4096;
    assert_int_equal(map_prp(data, list, 12288), 0);
    assert_int_equal(map_prp(data, list, 12288 - 512), 0);
}

static void prp_list_last_slot_chains_only_when_more_follows(void **state)
{
    (void)state;
    /* Two slots to the end of the page: both are data when two pages are left. */
    *entry(510) = data + 8192;
    *entry(511) = data + 16384;
    assert_int_equal(map_prp(data, list + 510 * 8, 12288), 0);
    assert_int_equal(cmd->nvme.blk.data.seg_count, 3);
    /* Three pages are left: the last slot points at the next list. */
    *entry(511) = list + 4096;
    *entry(512) = data + 16384;
    *entry(513) = data + 24576;
    assert_int_equal(map_prp(data, list + 510 * 8, 16384), 0);
    assert_int_equal(cmd->nvme.blk.data.seg_count, 4);
    assert_ptr_equal(mem_seg_ptr(&cmd->segs[3]), rig_ptr(data + 24576));
    assert_int_equal(map_prp(data, list + 510 * 8, 16384 - 1024), 0);
    assert_int_equal(cmd->segs[3].len_bytes, 3072);
    *entry(511) = list + 4096 + 8; /* a list inside a list starts at its page */
    assert_int_equal(map_prp(data, list + 510 * 8, 16384), BAD_OFFSET);
    *entry(511) = OUTSIDE;
    assert_int_equal(map_prp(data, list + 510 * 8, 16384), BAD_ADDRESS);
    /* A first list of the chain slot alone. */
    *entry(511) = list + 4096;
    *entry(512) = data + 8192;
    assert_int_equal(map_prp(data, list + 511 * 8, 12288), 0);
}

static void prp_outside_the_windows_is_a_transfer_error(void **state)
{
    (void)state;
    uint64_t end = RIG_HOST_BASE + RIG_RAM_BYTES;

    assert_int_equal(map_prp(OUTSIDE, 0, 512), BAD_ADDRESS);
    assert_int_equal(map_prp(end, 0, 512), BAD_ADDRESS);
    assert_int_equal(map_prp(UINT64_MAX - 4095, 0, 4096), BAD_ADDRESS);
    assert_int_equal(map_prp(data, OUTSIDE, 8192), BAD_ADDRESS);
    assert_int_equal(map_prp(data, OUTSIDE, 12288), BAD_ADDRESS);
    *entry(0) = data + 4096;
    *entry(1) = OUTSIDE;
    assert_int_equal(map_prp(data, list, 12288), BAD_ADDRESS);
    assert_int_equal(nvme_ep_stats(rig.ep, 0).bad_address_count, 6);
    assert_int_equal(cmd->nvme.blk.data.seg_count, 0);
}

static void prp_largest_transfer_of_single_pages_fits(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 511; i++) {
        *entry(i) = data + (i % 2) * 8192;
    }
    assert_int_equal(map_prp(data + 512, list, LIMIT_TRANSFER_BYTES), 0);
    assert_int_equal(cmd->nvme.blk.data.seg_count, LIMIT_SEGS);
    assert_true((cmd->nvme.state & NVME_EP_CMD_BIG) != 0);
    struct nvme_ep_stats stats = nvme_ep_stats(rig.ep, 0);
    assert_int_equal(stats.list_reads.bytes, 256 * 8);
}

/* --- windows ------------------------------------------------------------------------------- */

static void windows_decide_what_may_be_read_and_written(void **state)
{
    (void)state;
    struct pcie_ep_window windows[3] = {
        {.host_addr = RIG_HOST_BASE,
         .len_bytes = RIG_RAM_BYTES / 2,
         .bus_addr = (uintptr_t)rig.ram,
         .readable = true,
         .writable = true},
        {.host_addr = RIG_HOST_BASE + RIG_RAM_BYTES / 2,
         .len_bytes = 8192,
         .bus_addr = (uintptr_t)rig.ram + RIG_RAM_BYTES / 2,
         .readable = true},
        {.host_addr = RIG_HOST_BASE + RIG_RAM_BYTES / 2 + 8192,
         .len_bytes = 8192,
         .bus_addr = (uintptr_t)rig.ram + RIG_RAM_BYTES / 2 + 8192,
         .writable = true},
    };
    uint64_t read_only = windows[1].host_addr;
    uint64_t write_only = windows[2].host_addr;
    struct nvme_sqe sqe = {.prp1 = read_only};

    rig_windows_set(windows, 3, true);
    rig_turn(4);
    assert_int_equal(map_dir(&sqe, 4096, NVME_DIR_TO_CONTROLLER), 0);
    assert_int_equal(map_dir(&sqe, 4096, NVME_DIR_FROM_CONTROLLER), BAD_ADDRESS);
    sqe.prp1 = write_only;
    assert_int_equal(map_dir(&sqe, 4096, NVME_DIR_TO_CONTROLLER), BAD_ADDRESS);
    assert_int_equal(map_dir(&sqe, 4096, NVME_DIR_FROM_CONTROLLER), 0);
    /* A page of two windows, and pages of each in one list. */
    sqe.prp1 = read_only - 4096;
    sqe.prp2 = read_only;
    assert_int_equal(map_dir(&sqe, 8192, NVME_DIR_TO_CONTROLLER), 0);
    assert_int_equal(map_dir(&sqe, 8192, NVME_DIR_FROM_CONTROLLER), BAD_ADDRESS);
    sqe.prp1 = data;
    sqe.prp2 = list;
    *entry(0) = read_only;
    *entry(1) = data + 4096;
    *entry(2) = read_only + 4096;
    assert_int_equal(map_dir(&sqe, 16384, NVME_DIR_TO_CONTROLLER), 0);
    *entry(1) = write_only;
    assert_int_equal(map_dir(&sqe, 16384, NVME_DIR_TO_CONTROLLER), BAD_ADDRESS);
    /* A list is read, whatever the direction. */
    sqe.prp2 = write_only;
    assert_int_equal(map_dir(&sqe, 16384, NVME_DIR_FROM_CONTROLLER), BAD_ADDRESS);
}

/* --- SGL ----------------------------------------------------------------------------------- */

static struct nvme_sgl_desc desc(uint8_t type, uint64_t addr, uint32_t len_bytes)
{
    return (struct nvme_sgl_desc){
        .addr = addr, .len_bytes = len_bytes, .type = (uint8_t)(type << 4)};
}

static nvme_status_t map_sgl(struct nvme_sgl_desc first, uint32_t len_bytes)
{
    struct nvme_sqe sqe = {.flags = SGL, .sgl1 = first};
    return map(&sqe, len_bytes);
}

static void put(uint32_t index, struct nvme_sgl_desc d)
{
    memcpy(rig_ptr(list + index * 16), &d, sizeof(d));
}

#define FAILS(code) (NVME_SC_##code | NVME_STATUS_DNR)

static void sgl_data_block_alone_is_one_segment(void **state)
{
    (void)state;
    assert_int_equal(map_sgl(desc(NVME_SGL_DATA_BLOCK, data + 3, 5000), 5000), 0);
    assert_int_equal(cmd->nvme.blk.data.seg_count, 1);
    assert_ptr_equal(mem_seg_ptr(&cmd->segs[0]), rig_ptr(data + 3));
    assert_int_equal(map_sgl(desc(NVME_SGL_DATA_BLOCK, data, 4999), 5000),
                     FAILS(DATA_SGL_LENGTH_INVALID));
    assert_int_equal(map_sgl(desc(NVME_SGL_DATA_BLOCK, data, 5001), 5000),
                     FAILS(DATA_SGL_LENGTH_INVALID));
    assert_int_equal(map_sgl(desc(NVME_SGL_DATA_BLOCK, OUTSIDE, 5000), 5000), BAD_ADDRESS);
    assert_int_equal(map_sgl(desc(NVME_SGL_DATA_BLOCK, UINT64_MAX, 5000), 5000), BAD_ADDRESS);
}

static void sgl_types_that_pcie_has_not_are_refused(void **state)
{
    (void)state;
    for (uint8_t type = NVME_SGL_KEYED; type < 16; type++) {
        assert_int_equal(map_sgl(desc(type, data, 512), 512), FAILS(SGL_TYPE_INVALID));
    }
    struct nvme_sgl_desc offset = desc(NVME_SGL_DATA_BLOCK, data, 512);
    offset.type |= NVME_SGL_SUB_OFFSET;
    assert_int_equal(map_sgl(offset, 512), FAILS(SGL_TYPE_INVALID));
}

static void sgl_segments_chain_up_to_a_last_one(void **state)
{
    (void)state;
    put(0, desc(NVME_SGL_DATA_BLOCK, data, 512));
    put(1, desc(NVME_SGL_DATA_BLOCK, data + 8192, 512));
    put(2, desc(NVME_SGL_SEGMENT, list + 160, 32));
    put(10, desc(NVME_SGL_DATA_BLOCK, data + 16384, 1024));
    put(11, desc(NVME_SGL_LAST_SEGMENT, list + 320, 16));
    put(20, desc(NVME_SGL_DATA_BLOCK, data + 32768, 2048));
    assert_int_equal(map_sgl(desc(NVME_SGL_SEGMENT, list, 48), 4096), 0);
    assert_int_equal(cmd->nvme.blk.data.seg_count, 4);
    assert_int_equal(cmd->segs[3].len_bytes, 2048);
    assert_int_equal(nvme_ep_stats(rig.ep, 0).list_reads.count, 3);
    assert_int_equal(nvme_ep_stats(rig.ep, 0).list_reads.bytes, 96);
}

static void sgl_segment_errors_have_their_names(void **state)
{
    (void)state;
    put(0, desc(NVME_SGL_DATA_BLOCK, data, 512));
    put(1, desc(NVME_SGL_DATA_BLOCK, data, 512));
    assert_int_equal(map_sgl(desc(NVME_SGL_LAST_SEGMENT, list, 32), 1024), 0);
    assert_int_equal(map_sgl(desc(NVME_SGL_LAST_SEGMENT, list, 0), 1024),
                     FAILS(INVALID_SGL_SEGMENT));
    assert_int_equal(map_sgl(desc(NVME_SGL_LAST_SEGMENT, list, 24), 1024),
                     FAILS(INVALID_SGL_SEGMENT));
    assert_int_equal(map_sgl(desc(NVME_SGL_LAST_SEGMENT, list + 4, 32), 1024),
                     FAILS(INVALID_SGL_SEGMENT));
    assert_int_equal(map_sgl(desc(NVME_SGL_SEGMENT, OUTSIDE, 32), 1024), BAD_ADDRESS);
    assert_int_equal(map_sgl(desc(NVME_SGL_SEGMENT, list, 0xfffffff0), 1024),
                     FAILS(INVALID_SGL_COUNT));
    /* Not the last of its segment. */
    put(0, desc(NVME_SGL_SEGMENT, list + 32, 16));
    assert_int_equal(map_sgl(desc(NVME_SGL_SEGMENT, list, 32), 1024), FAILS(INVALID_SGL_COUNT));
    /* A last segment ends the list. */
    put(0, desc(NVME_SGL_DATA_BLOCK, data, 512));
    put(1, desc(NVME_SGL_LAST_SEGMENT, list + 32, 16));
    put(2, desc(NVME_SGL_DATA_BLOCK, data, 512));
    assert_int_equal(map_sgl(desc(NVME_SGL_SEGMENT, list, 32), 1024), 0);
    assert_int_equal(map_sgl(desc(NVME_SGL_LAST_SEGMENT, list, 32), 1024),
                     FAILS(INVALID_SGL_SEGMENT));
    /* Too short altogether. */
    assert_int_equal(map_sgl(desc(NVME_SGL_SEGMENT, list, 16), 1024),
                     FAILS(DATA_SGL_LENGTH_INVALID));
}

static void sgl_that_points_at_itself_ends(void **state)
{
    (void)state;
    put(0, desc(NVME_SGL_SEGMENT, list, 16));
    assert_int_equal(map_sgl(desc(NVME_SGL_SEGMENT, list, 16), 1024), FAILS(INVALID_SGL_COUNT));
}

static void sgl_empty_blocks_count_for_nothing(void **state)
{
    (void)state;
    put(0, desc(NVME_SGL_DATA_BLOCK, OUTSIDE, 0));
    put(1, desc(NVME_SGL_DATA_BLOCK, data, 512));
    put(2, desc(NVME_SGL_DATA_BLOCK, data + 512, 512));
    put(3, desc(NVME_SGL_DATA_BLOCK, 1, 0));
    assert_int_equal(map_sgl(desc(NVME_SGL_LAST_SEGMENT, list, 64), 1024), 0);
    assert_int_equal(cmd->nvme.blk.data.seg_count, 1);
}

static void sgl_bit_bucket_swallows_reads_and_is_nothing_for_writes(void **state)
{
    (void)state;
    put(0, desc(NVME_SGL_DATA_BLOCK, data, 512));
    put(1, desc(NVME_SGL_BIT_BUCKET, OUTSIDE, 200000));
    put(2, desc(NVME_SGL_DATA_BLOCK, data + 512, 512));
    struct nvme_sqe sqe = {.flags = SGL, .sgl1 = desc(NVME_SGL_LAST_SEGMENT, list, 48)};
    assert_int_equal(map_dir(&sqe, 201024, NVME_DIR_FROM_CONTROLLER), 0);
    assert_int_equal(map_dir(&sqe, 1024, NVME_DIR_FROM_CONTROLLER), FAILS(DATA_SGL_LENGTH_INVALID));
    assert_int_equal(map_dir(&sqe, 1024, NVME_DIR_TO_CONTROLLER), 0);
    assert_int_equal(cmd->nvme.blk.data.seg_count, 1);
}

static void sgl_of_too_many_pieces_is_refused(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 400; i++) {
        put(i, desc(NVME_SGL_DATA_BLOCK, data + i * 1024, 512));
    }
    assert_int_equal(map_sgl(desc(NVME_SGL_LAST_SEGMENT, list, LIMIT_SEGS * 16), LIMIT_SEGS * 512),
                     0);
    assert_int_equal(cmd->nvme.blk.data.seg_count, LIMIT_SEGS);
    assert_int_equal(
        map_sgl(desc(NVME_SGL_LAST_SEGMENT, list, (LIMIT_SEGS + 1) * 16), (LIMIT_SEGS + 1) * 512),
        FAILS(INVALID_SGL_COUNT));
}

static void sgl_where_it_is_not_allowed_is_an_invalid_field(void **state)
{
    (void)state;
    struct nvme_sqe sqe = {.flags = 3 << NVME_SQE_PSDT_SHIFT,
                           .sgl1 = desc(NVME_SGL_DATA_BLOCK, data, 512)};
    assert_int_equal(map(&sqe, 512), FAILS(INVALID_FIELD));
    struct nvme_sqe identify = rig_identify(data);
    identify.flags = SGL;
    uint16_t status = rig_admin(&identify, NULL);
    assert_int_equal(NVME_STATUS_CODE(status), NVME_SC_INVALID_FIELD);
}

/* --- against the reference ----------------------------------------------------------------- */

static uint64_t random_addr(uint64_t *seed, uint32_t align)
{
    uint32_t r = rig_random(seed);

    if (r % 61 == 0) {
        return OUTSIDE + rig_random(seed) % 8192;
    }
    if (r % 67 == 0) {
        align = 1;
    }
    return data + align_down(rig_random(seed) % (1 << 20), align);
}

static struct nvme_sqe random_prp(uint64_t *seed, uint32_t len_bytes)
{
    struct nvme_sqe sqe = {.prp1 = random_addr(seed, rig_random(seed) % 3 == 0 ? 4 : 4096)};
    uint32_t start =
        rig_random(seed) % 3 == 0 ? 512 - rig_random(seed) % 6 : rig_random(seed) % 512;

    for (uint32_t i = 0; i < 4 * 512; i++) {
        /* Runs of neighbours, so that there is something to merge. */
        *entry(i) =
            rig_random(seed) % 2 != 0 && i > 0 ? *entry(i - 1) + 4096 : random_addr(seed, 4096);
        if (*entry(i) > data + (2 << 20)) {
            *entry(i) = data;
        }
    }
    *entry(511) = rig_random(seed) % 4 != 0 ? list + 4096 : *entry(511);
    if (len_bytes + sqe.prp1 % 4096 > 8192) {
        sqe.prp2 = list + start * 8;
    } else {
        sqe.prp2 = random_addr(seed, 4096);
    }
    if (rig_random(seed) % 50 == 0) {
        sqe.prp2 += rig_random(seed) % 16;
    }
    return sqe;
}

static struct nvme_sgl_desc random_desc(uint64_t *seed, uint32_t *left, bool may_chain)
{
    uint32_t r = rig_random(seed) % 100;
    uint32_t len = r % 5 == 0 ? 0 : rig_random(seed) % 3000;

    len = len > *left ? *left : len;
    if (r < 3) {
        return desc((uint8_t)(rig_random(seed) % 16), random_addr(seed, 1), len);
    }
    if (may_chain && r < 50) {
        uint32_t count = rig_random(seed) % 12;
        uint64_t at = list + (rig_random(seed) % 900) * 16;
        uint8_t type = rig_random(seed) % 2 != 0 ? NVME_SGL_SEGMENT : NVME_SGL_LAST_SEGMENT;
        return desc(type, r == 4 ? at + 4 : at, r == 5 ? 24 : count * 16);
    }
    *left -= len;
    return desc(r < 60 ? NVME_SGL_BIT_BUCKET : NVME_SGL_DATA_BLOCK, random_addr(seed, 1), len);
}

static struct nvme_sqe random_sgl(uint64_t *seed, uint32_t len_bytes)
{
    uint32_t left = len_bytes;
    struct nvme_sqe sqe = {.flags = SGL, .sgl1 = random_desc(seed, &left, true)};

    for (uint32_t i = 0; i < 1024; i++) {
        uint32_t here = len_bytes / (1 + rig_random(seed) % 8);
        put(i, random_desc(seed, &here, rig_random(seed) % 6 == 0));
    }
    if (sqe.sgl1.type >> 4 == NVME_SGL_DATA_BLOCK && rig_random(seed) % 2 != 0) {
        sqe.sgl1.len_bytes = len_bytes;
    }
    return sqe;
}

static void compare(uint64_t seed, const struct nvme_sqe *sqe, uint32_t len_bytes, bool to_host,
                    uint64_t *addrs, uint32_t *good)
{
    nvme_status_t expected = reference_map(sqe, len_bytes, to_host, addrs);
    nvme_status_t status =
        map_dir(sqe, len_bytes, to_host ? NVME_DIR_FROM_CONTROLLER : NVME_DIR_TO_CONTROLLER);
    uint32_t at = 0;

    if (NVME_STATUS_CODE(status) != expected) {
        fail_msg("seed %llu: status %x, expected %x", (unsigned long long)seed, status, expected);
    }
    if (expected != 0) {
        assert_false(cmd->is_mapped);
        return;
    }
    ++*good;
    for (uint32_t s = 0; s < cmd->nvme.blk.data.seg_count; s++) {
        const struct mem_seg *seg = &cmd->nvme.blk.data.segs[s];
        for (uint32_t i = 0; i < seg->len_bytes; i++, at++) {
            const uint8_t *byte = (uint8_t *)mem_seg_ptr(seg) + i;
            bool in_trash = byte >= rig.ep->trash && byte < rig.ep->trash + NVME_EP_TRASH_BYTES;
            if (addrs[at] == UINT64_MAX ? !in_trash : byte != rig_ptr(addrs[at])) {
                fail_msg("seed %llu: byte %u is elsewhere", (unsigned long long)seed, at);
            }
        }
    }
    assert_int_equal(at, len_bytes);
}

static void map_random_lists_agree_with_the_reference(void **state)
{
    (void)state;
    uint64_t *addrs = malloc(LIMIT_TRANSFER_BYTES * sizeof(*addrs));
    uint32_t good = 0;
    const char *from = getenv("SEED");
    uint64_t first = from != NULL ? strtoull(from, NULL, 0) : 1;

    for (uint64_t seed = first; seed < first + 600; seed++) {
        uint64_t s = seed * 77;
        uint32_t len_bytes = 512 * (1 + rig_random(&s) % (rig_random(&s) % 4 == 0 ? 2048 : 40));
        bool is_sgl = rig_random(&s) % 2 != 0;
        if (is_sgl) {
            len_bytes = 512 * (1 + rig_random(&s) % 8);
        }
        struct nvme_sqe sqe = is_sgl ? random_sgl(&s, len_bytes) : random_prp(&s, len_bytes);
        compare(seed, &sqe, len_bytes, rig_random(&s) % 2 != 0, addrs, &good);
    }
    free(addrs);
    assert_true(good > 100); /* not only errors */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(prp_in_one_page_is_one_segment),
        T(prp1_not_dword_aligned_is_refused),
        T(prp2_as_page_has_no_offset),
        T(prp_neighbours_are_merged),
        T(prp_list_starts_qword_aligned_anywhere),
        T(prp_list_entries_have_no_offset),
        T(prp_list_last_slot_chains_only_when_more_follows),
        T(prp_outside_the_windows_is_a_transfer_error),
        T(prp_largest_transfer_of_single_pages_fits),
        T(windows_decide_what_may_be_read_and_written),
        T(sgl_data_block_alone_is_one_segment),
        T(sgl_types_that_pcie_has_not_are_refused),
        T(sgl_segments_chain_up_to_a_last_one),
        T(sgl_segment_errors_have_their_names),
        T(sgl_that_points_at_itself_ends),
        T(sgl_empty_blocks_count_for_nothing),
        T(sgl_bit_bucket_swallows_reads_and_is_nothing_for_writes),
        T(sgl_of_too_many_pieces_is_refused),
        T(sgl_where_it_is_not_allowed_is_an_invalid_field),
        T(map_random_lists_agree_with_the_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
