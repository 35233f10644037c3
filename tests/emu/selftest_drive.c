/*
 * The NVMe driver against QEMU's NVMe drives: patterns of 512 bytes to 1 MiB in memory of many
 * shapes, from every core; a reset under load; what a read costs. Destroys what is on the drives.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include "base/bits.h"
#include "blk/blk.h"
#include "hal/arch/aarch64/pmu.h"
#include "hal/clock.h"
#include "hal/cpu.h"
#include "nvme_drv/nvme_drv.h"
#include "sched/sched.h"
#include "selftest.h"

#define TEST_BYTES    (1u << 20)
#define REGION_BYTES  (4u << 20) /* of one core: 2 MiB to write from, 2 MiB to read into */
#define READY_NS      (10 * NS_PER_S)
#define REQUEST_NS    (20 * NS_PER_S)
#define COST_DEPTH    32u
#define COST_BUDGET   250u
#define COST_TURN_MAX 4000u
#define COST_TRIES    3
#define SEGS          1100u

enum shape {
    SHAPE_CONTIGUOUS,
    SHAPE_DWORD_OFFSET,
    SHAPE_PAGES, /* scattered, the first one not from its start */
    SHAPE_GAPS,  /* pieces of 1000 bytes with gaps: no PRP list goes on there */
    SHAPE_ODD,   /* begins at an odd byte */
    SHAPE_COUNT
};
static const char *const shape_names[] = {"contiguous", "dword_offset", "pages", "gaps", "odd"};

struct io {
    struct blk_req req;
    struct mem_seg segs[SEGS];
    bool is_done;
    struct msg msg; /* carries the next step to the core of the request */
    struct blk_dev *dev;
    bool was_sent;
    _Atomic bool is_back;
};

static uint8_t *region;
static struct io io;
static struct io many[COST_DEPTH];

/* --- requests ----------------------------------------------------------------------------------
 */

static void on_back(struct msg *msg)
{
    struct io *i = CONTAINER_OF(msg, struct io, msg);
    atomic_store(&i->is_back, true);
}

static void on_done(struct blk_req *req)
{
    struct io *i = CONTAINER_OF(req, struct io, req);
    i->is_done = true;
    if (i->was_sent) {
        i->msg.fn = on_back;
        msg_send(0, &i->msg);
    }
}

static void on_submit(struct msg *msg)
{
    struct io *i = CONTAINER_OF(msg, struct io, msg);
    blk_submit(i->dev, &i->req);
}

static void add_seg(struct io *i, uint8_t *ptr, uint32_t len_bytes)
{
    i->segs[i->req.data.seg_count++] =
        (struct mem_seg){.bus_addr = (uintptr_t)ptr, .len_bytes = len_bytes};
    i->req.data.len_bytes += len_bytes;
}

/* A request over [offset, +len) of the drive, its data in `memory` in the given shape. */
static void prepare(struct io *i, struct blk_dev *dev, uint8_t opcode, uint32_t offset_bytes,
                    uint32_t len_bytes, enum shape shape, uint8_t *memory)
{
    uint8_t lba_shift = dev->geometry.lba_shift;
    *i = (struct io){.dev = dev};
    i->req.cmd.opcode = opcode;
    i->req.cmd.cdw10 = offset_bytes >> lba_shift;
    i->req.cmd.cdw12 = (len_bytes >> lba_shift) - 1;
    i->req.data.segs = i->segs;
    i->req.data.space = MEM_SPACE_NIC;
    i->req.done = on_done;
    if (shape == SHAPE_DWORD_OFFSET) {
        memory += 1004;
    } else if (shape == SHAPE_ODD) {
        memory += 1;
    } else if (shape == SHAPE_PAGES) {
        memory += 2048;
    }
    while (len_bytes != 0) {
        uint32_t piece_bytes = len_bytes;
        if (shape == SHAPE_PAGES) {
            piece_bytes = min_u32(len_bytes, 4096 - ((uintptr_t)memory & 4095));
        } else if (shape == SHAPE_GAPS && i->req.data.seg_count < SEGS - 1) {
            piece_bytes = min_u32(len_bytes, 1000);
        }
        add_seg(i, memory, piece_bytes);
        memory += piece_bytes;
        len_bytes -= piece_bytes;
        if (shape == SHAPE_PAGES && i->req.data.seg_count % 2 == 1) {
            memory += 4096;
        } else if (shape == SHAPE_GAPS) {
            memory += 500;
        }
    }
}

/* Submits on `core`, turns until it is done; false: it never ended. */
static bool run(struct io *i, uint32_t core)
{
    uint64_t end_ns = clock_now_ns() + REQUEST_NS;
    i->req.owner_core = (uint8_t)core;
    i->was_sent = core != 0;
    if (core == 0) {
        blk_submit(i->dev, &i->req);
    } else {
        i->msg.fn = on_submit;
        msg_send(core, &i->msg);
    }
    while (core == 0 ? !i->is_done : !atomic_load(&i->is_back)) {
        (void)sched_turn();
        if (clock_now_ns() > end_ns) {
            return false;
        }
    }
    return true;
}

/* --- patterns ----------------------------------------------------------------------------------
 */

/* Calls `value` bytes out of a sequence: writes them into the segments, or compares. */
static bool pattern(const struct io *i, uint32_t seed, bool writes)
{
    bool equal = true;
    for (uint32_t s = 0; s < i->req.data.seg_count; s++) {
        uint8_t *ptr = mem_seg_ptr(&i->segs[s]);
        for (uint32_t b = 0; b < i->segs[s].len_bytes; b++) {
            seed = seed * 1664525 + 1013904223;
            if (writes) {
                ptr[b] = (uint8_t)(seed >> 24);
            } else {
                equal = equal && ptr[b] == (uint8_t)(seed >> 24);
            }
        }
    }
    return equal;
}

/* Writes in one shape, reads in another; 0 or what went wrong. */
static const char *round_trip(struct blk_dev *dev, uint32_t core, uint32_t len_bytes,
                              enum shape shape)
{
    uint32_t offset_bytes = (len_bytes * 3) % (1u << 22) & ~4095u;
    uint32_t seed = len_bytes + (uint32_t)shape * 7 + core;

    prepare(&io, dev, NVME_IO_WRITE, offset_bytes, len_bytes, shape, region);
    (void)pattern(&io, seed, true);
    if (!run(&io, core) || io.req.status != 0) {
        return "write";
    }
    enum shape other = (enum shape)(((uint32_t)shape + 2) % SHAPE_COUNT);
    memset(region + REGION_BYTES / 2, 0, REGION_BYTES / 2);
    prepare(&io, dev, NVME_IO_READ, offset_bytes, len_bytes, other, region + REGION_BYTES / 2);
    if (!run(&io, core) || io.req.status != 0) {
        return "read";
    }
    return pattern(&io, seed, false) ? NULL : "data";
}

static void check_shapes(struct blk_dev *dev, uint32_t core)
{
    for (uint32_t shape = 0; shape < SHAPE_COUNT; shape++) {
        const char *wrong = NULL;
        uint32_t count = 0;
        for (uint32_t len_bytes = 512; len_bytes <= TEST_BYTES && wrong == NULL; len_bytes *= 2) {
            if (len_bytes >> dev->geometry.lba_shift != 0) {
                wrong = round_trip(dev, core, len_bytes, (enum shape)shape);
                count++;
            }
        }
        char name[64];
        snprintf(name, sizeof(name), "drive_%s_core%u_%s", dev->name, (unsigned)core,
                 shape_names[shape]);
        selftest_check(wrong == NULL, name, "%u lengths, status %03x %s", (unsigned)count,
                       (unsigned)io.req.status, wrong == NULL ? "" : wrong);
    }
}

/* Commands without data. */
static void check_others(struct blk_dev *dev)
{
    prepare(&io, dev, NVME_IO_WRITE, 0, 65536, SHAPE_CONTIGUOUS, region);
    (void)pattern(&io, 1, true);
    bool good = run(&io, 0) && io.req.status == 0;
    prepare(&io, dev, NVME_IO_WRITE_ZEROES, 4096, 4096, SHAPE_CONTIGUOUS, region);
    io.req.data = (struct mem_ref){0};
    good = good && run(&io, 0) && io.req.status == 0;
    prepare(&io, dev, NVME_IO_FLUSH, 0, 4096, SHAPE_CONTIGUOUS, region);
    io.req.data = (struct mem_ref){0};
    good = good && run(&io, 0) && io.req.status == 0;
    prepare(&io, dev, NVME_IO_READ, 4096, 8192, SHAPE_CONTIGUOUS, region + 65536);
    good = good && run(&io, 0) && io.req.status == 0;
    bool zero = true;
    for (uint32_t i = 0; i < 4096; i++) {
        zero = zero && region[65536 + i] == 0;
    }
    good = good && zero && memcmp(region + 65536 + 4096, region + 8192, 4096) == 0;
    selftest_check(good, "drive_flush_and_write_zeroes", "%s", dev->name);
    prepare(&io, dev, NVME_IO_COMPARE, 8192, 4096, SHAPE_CONTIGUOUS, region);
    good = run(&io, 0) && NVME_STATUS_CODE(io.req.status) == NVME_SC_COMPARE_FAILURE;
    selftest_check(good, "drive_error_status_comes_through", "%03x", (unsigned)io.req.status);
}

/* --- reset and cost ----------------------------------------------------------------------------
 */

static uint32_t done_count(void)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < COST_DEPTH; i++) {
        count += many[i].is_done ? 1 : 0;
    }
    return count;
}

static void submit_many(struct blk_dev *dev)
{
    for (uint32_t i = 0; i < COST_DEPTH; i++) {
        prepare(&many[i], dev, NVME_IO_READ, i * 4096, 4096, SHAPE_CONTIGUOUS, region + i * 4096);
        blk_submit(dev, &many[i].req);
    }
}

static void check_reset(struct nvme_drv *drv, struct blk_dev *dev)
{
    uint32_t bad_count = 0;
    uint64_t end_ns = clock_now_ns() + REQUEST_NS;

    submit_many(dev);
    (void)sched_turn();
    nvme_drv_reset(drv);
    while ((done_count() != COST_DEPTH || nvme_drv_stats(drv).reset_count == 0) &&
           clock_now_ns() < end_ns) {
        (void)sched_turn();
    }
    for (uint32_t i = 0; i < COST_DEPTH; i++) {
        bad_count += (many[i].req.status & NVME_STATUS_DNR) != 0 ? 1 : 0;
    }
    selftest_check(done_count() == COST_DEPTH && bad_count == 0, "drive_reset_ends_requests",
                   "%u done", (unsigned)done_count());
    uint64_t start_ns = clock_now_ns();
    while (nvme_drv_state(drv) != NVME_DRV_READY && clock_now_ns() < end_ns) {
        (void)sched_turn();
    }
    uint64_t ready_ns = clock_now_ns() - start_ns;
    const char *wrong = round_trip(dev, 0, 65536, SHAPE_GAPS);
    selftest_check(wrong == NULL && nvme_drv_stats(drv).reset_count == 1,
                   "drive_serves_after_reset", "%llu us",
                   (unsigned long long)(ready_ns / NS_PER_US));
}

struct cost {
    uint32_t submit; /* per read */
    uint32_t each;
    uint32_t done; /* in the turns that were counted; 0: nothing was measured */
    uint32_t empty;
};

/* Instructions for 4 KiB reads: all submits, then the turns that ring and find the completions.
 * Empty turns are taken off. Only exact with -icount. */
static struct cost measure_cost(struct blk_dev *dev)
{
    struct cost cost = {0};

    for (uint32_t i = 0; i < COST_DEPTH; i++) {
        prepare(&many[i], dev, NVME_IO_READ, i * 4096, 4096, SHAPE_CONTIGUOUS, region + i * 4096);
    }
    (void)sched_turn();
    pmu_start();
    uint32_t start = pmu_instructions();
    (void)sched_turn();
    cost.empty = pmu_instructions() - start;
    start = pmu_instructions();
    for (uint32_t i = 0; i < COST_DEPTH; i++) {
        blk_submit(dev, &many[i].req);
    }
    uint32_t submits = pmu_instructions() - start;
    /* One turn rings the doorbell; what the drive has answered by its end, or by the next one. */
    start = pmu_instructions();
    (void)sched_turn();
    uint32_t completions = pmu_instructions() - start;
    clock_delay_ns(20 * NS_PER_MS);
    start = pmu_instructions();
    (void)sched_turn();
    completions += pmu_instructions() - start - 2 * cost.empty;
    cost.done = done_count();
    cost.submit = submits / COST_DEPTH;
    cost.each = cost.done == 0 ? UINT32_MAX : cost.submit + completions / cost.done;
    while (done_count() != COST_DEPTH) {
        (void)sched_turn();
    }
    return cost;
}

/* The best of a few: the driver's look at late commands may fall into one. */
static void check_cost(struct blk_dev *dev)
{
    struct cost best = measure_cost(dev);

    for (uint32_t i = 1; i < COST_TRIES; i++) {
        struct cost cost = measure_cost(dev);
        if (cost.each < best.each) {
            best = cost;
        }
    }
    selftest_check(best.done != 0 && best.empty < COST_TURN_MAX && best.each <= COST_BUDGET,
                   "drive_read_instructions",
                   "%u for 4 KiB at depth %u: %u submit, %u of %u done "
                   "in a turn, empty turn %u",
                   (unsigned)best.each, COST_DEPTH, (unsigned)best.submit, (unsigned)best.done,
                   COST_DEPTH, (unsigned)best.empty);
}

/* --- start ---------------------------------------------------------------------------------------
 */

static void core_main(void *arg)
{
    (void)arg;
    sched_run();
}

static void check_drive(const struct board *board, struct nvme_drv *drv)
{
    struct blk_dev *dev = nvme_drv_blk(drv, 1);
    uint64_t start_ns = clock_now_ns();

    while (nvme_drv_state(drv) != NVME_DRV_READY && clock_now_ns() - start_ns < READY_NS) {
        (void)sched_turn();
    }
    selftest_check(dev->geometry.known, "drive_comes_up", "%s after %llu us: %llu blocks of %u",
                   dev->name, (unsigned long long)((clock_now_ns() - start_ns) / NS_PER_US),
                   (unsigned long long)dev->geometry.lba_count, 1u << dev->geometry.lba_shift);
    if (!dev->geometry.known) {
        return;
    }
    for (uint32_t core = 0; core < board->core_count; core++) {
        check_shapes(dev, core);
    }
    check_others(dev);
    struct nvme_drv_stats stats = nvme_drv_stats(drv);
    selftest_check(stats.bounced_bytes == 0 && stats.bad_completion_count == 0 &&
                       stats.timeout_count == 0,
                   "drive_stages_nothing", "%llu commands, %llu requests split",
                   (unsigned long long)stats.command_count, (unsigned long long)stats.split_count);
    if (strstr(board->config, "icount") != NULL) {
        check_cost(dev);
    }
    check_reset(drv, dev);
}

void selftest_drives(const struct board *board)
{
    uint32_t count = 0;
    struct nvme_drv *drives[LIMIT_DRIVES];
    const struct pcie_rc_device *device;

    region = board->pool_base;
    sched_init(board->core_count, SCHED_IDLE_ADAPTIVE);
    nvme_drv_init();
    while (count < LIMIT_DRIVES && (device = nvme_drv_device(count)) != NULL) {
        enum status status = nvme_drv_attach(device, NULL, NULL, &drives[count]);
        selftest_check(status == STATUS_OK, "drive_attaches", "%s", status_text(status));
        if (status != STATUS_OK) {
            return;
        }
        count++;
    }
    selftest_check(count != 0 && board->pool_bytes >= REGION_BYTES, "drive_is_found", "%u drives",
                   (unsigned)count);
    for (uint32_t core = 1; core < board->core_count; core++) {
        enum status status = cpu_start(core, core_main, NULL);
        selftest_check(status == STATUS_OK, "drive_core_starts", "%u", (unsigned)core);
    }
    for (uint32_t i = 0; i < count; i++) {
        check_drive(board, drives[i]);
    }
}
