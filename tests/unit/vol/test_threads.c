/* Two cores submit while core 0 takes paths away and brings them back: nothing is lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sched.h>
#include <cmocka.h>
#include "base/assert.h"
#include "hal/clock.h"
#include "hal/cpu.h"
#include "hal/native/native.h"
#include "sched/sched.h"
#include "vol/vol.h"

#define CORES   2
#define PATHS   2
#define DEPTH   16
#define TOGGLES 400

struct path {
    struct blk_dev dev; /* first */
    _Atomic bool is_usable;
};

static struct path paths[PATHS];
static struct blk_dev *dev;

/* Of one core. */
struct load {
    struct poller poller;
    struct blk_req reqs[DEPTH];
    bool is_busy[DEPTH];
    struct list held; /* at a device, until the next turn */
    uint32_t turn;
    _Atomic uint32_t busy_count;
    _Atomic uint64_t done_count;
};
static struct load loads[CORES];
static _Atomic bool is_over;
static struct mem_seg seg = {.bus_addr = 0x1000, .len_bytes = 4096};

static void path_submit(struct blk_dev *at, struct blk_req *req)
{
    (void)at;
    ASSERT(cpu_self() == req->owner_core);
    list_push_back(&loads[req->owner_core].held, &req->link);
}

/* Some end well, some are lost: unseen, seen, and with a quiet time of a millisecond. */
static void path_end(struct blk_req *req, uint32_t dice)
{
    req->is_path_error = dice % 4 == 0;
    if (req->is_path_error) {
        req->is_sent = dice % 8 == 0;
        req->quiet_ns = dice % 16 == 0 ? clock_now_ns() + NS_PER_MS : 0;
    }
    blk_complete(req, req->is_path_error ? NVME_SC_HOST_PATH_ERROR : NVME_SC_SUCCESS);
}

static const struct blk_ops path_ops = {.submit = path_submit};

static bool path_is_usable(const struct blk_dev *at)
{
    return atomic_load(&((const struct path *)(const void *)at)->is_usable);
}

static void load_done(struct blk_req *req)
{
    struct load *load = &loads[req->owner_core];
    uint32_t index = (uint32_t)(req - load->reqs);

    ASSERT(cpu_self() == req->owner_core && load->is_busy[index]);
    ASSERT(req->status == 0 || req->status == NVME_SC_NS_NOT_READY ||
           req->status == NVME_SC_COMMAND_INTERRUPTED);
    load->is_busy[index] = false;
    atomic_fetch_sub(&load->busy_count, 1);
    atomic_fetch_add(&load->done_count, 1);
}

static uint32_t load_run(void *ctx)
{
    static const uint8_t opcodes[] = {NVME_IO_READ, NVME_IO_WRITE, NVME_IO_COMPARE, NVME_IO_FLUSH};
    struct load *load = ctx;
    uint32_t core = cpu_self();

    for (uint32_t i = 0; i < DEPTH && !atomic_load(&is_over); i++) {
        if (!load->is_busy[i]) {
            load->is_busy[i] = true;
            atomic_fetch_add(&load->busy_count, 1);
            load->reqs[i] = (struct blk_req){
                .cmd = {.opcode = opcodes[load->turn % 4], .cdw10 = i * 8, .cdw12 = 7},
                .data = {.segs = &seg, .len_bytes = 4096, .seg_count = 1, .space = MEM_SPACE_NIC},
                .done = load_done,
                .owner_core = (uint8_t)core};
            blk_submit(dev, &load->reqs[i]);
        }
    }
    struct list *last = load->held.prev;
    while (!list_is_empty(&load->held)) {
        struct list *node = list_pop_front(&load->held);
        path_end(LIST_ENTRY(node, struct blk_req, link), load->turn++);
        if (node == last) {
            break;
        }
    }
    return 1;
}

static void run_reactor(void *arg)
{
    (void)arg;
    sched_run();
}

static void toggle(uint32_t index, bool is_usable)
{
    atomic_store(&paths[index].is_usable, is_usable);
    paths[index].dev.changed(&paths[index].dev, paths[index].dev.changed_ctx);
    for (uint32_t i = 0; i < 20; i++) {
        sched_turn();
        sched_yield();
    }
}

static bool is_all_seen(const struct vol *vol)
{
    struct vol_info info;

    vol_info(vol, &info);
    return info.stats.retries > 0 && info.stats.splits > 0 && info.stats.quieted > 0;
}

static void requests_end_once_while_paths_come_and_go(void **state)
{
    (void)state;
    struct vol *vol;
    struct vol_config config = {.name = "v", .path_count = PATHS, .wait_ms = 10000};

    native_clock_use_real();
    native_cpu_become(0);
    native_cpu_set_count(CORES);
    sched_init(CORES, SCHED_IDLE_POLL);
    void *home = aligned_alloc(64, vol_memory_bytes(CORES));
    void *memory = aligned_alloc(64, (vol_bytes() + 63) / 64 * 64);
    memset(home, 0, vol_memory_bytes(CORES));
    vol_init(home, CORES);
    for (uint32_t i = 0; i < PATHS; i++) {
        paths[i].dev = (struct blk_dev){
            .ops = &path_ops,
            .name = "p",
            .geometry = {
                .lba_count = 4096, .lba_shift = 9, .known = true, .max_transfer_bytes = 2048}};
        config.paths[i] = (struct vol_path_config){&paths[i].dev, path_is_usable};
    }
    assert_int_equal(vol_create(memory, &config, &vol), STATUS_OK);
    dev = vol_blk(vol);
    for (uint32_t core = 0; core < CORES; core++) {
        list_init(&loads[core].held);
        loads[core].poller = (struct poller){.name = "load", .run = load_run, .ctx = &loads[core]};
        sched_poller_add_to(core, &loads[core].poller);
    }
    assert_int_equal(cpu_start(1, run_reactor, NULL), STATUS_OK);
    /* At least so often; then until each of the rare things has happened. */
    for (uint32_t i = 0; i < TOGGLES || (i < 200 * TOGGLES && !is_all_seen(vol)); i++) {
        toggle(i % PATHS, (i / PATHS) % 3 != 0);
    }
    toggle(0, true);
    atomic_store(&is_over, true);
    while (atomic_load(&loads[0].busy_count) + atomic_load(&loads[1].busy_count) > 0) {
        sched_turn();
        sched_yield();
    }
    struct vol_info info;
    vol_info(vol, &info);
    assert_int_equal(info.waiting, 0);
    assert_int_equal(info.stats.requests,
                     atomic_load(&loads[0].done_count) + atomic_load(&loads[1].done_count));
    assert_true(is_all_seen(vol));
    sched_stop();
    native_cpu_join();
    vol_destroy(vol);
    free(memory);
    free(home);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_end_once_while_paths_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
