/*
 * The rig's function, its registers and windows, the block devices behind it, start and stop; the
 * host's half is in rig_host.c. Programs that give RIG_RAM_BYTES include both.
 */
#include "tests/unit/nvme_ep/rig.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>
#include "hal/cpu.h"
#include "hal/native/native.h"

#if defined(__SANITIZE_ADDRESS__)
#define RIG_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define RIG_ASAN 1
#endif
#endif
#ifdef RIG_ASAN
#include <sanitizer/asan_interface.h>
#define POISON(p, n)   ASAN_POISON_MEMORY_REGION(p, n)
#define UNPOISON(p, n) ASAN_UNPOISON_MEMORY_REGION(p, n)
#else
#define POISON(p, n)   ((void)(p), (void)(n))
#define UNPOISON(p, n) ((void)(p), (void)(n))
#endif

struct rig rig;
struct rig_queue rig_admin_queue;
static struct nvme_ep_memory *ep_memory;
static pthread_t core0; /* with threads */

/* --- windows ------------------------------------------------------------------------------- */

static bool window_covers_all(const struct pcie_ep_window *windows, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (windows[i].host_addr == RIG_HOST_BASE && windows[i].len_bytes >= RIG_RAM_BYTES) {
            return true;
        }
    }
    return false;
}

static void windows_unpoison(const struct pcie_ep_window *windows, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        UNPOISON((void *)(uintptr_t)windows[i].bus_addr, windows[i].len_bytes);
    }
}

/* What the firmware may touch during a turn. */
static void guards_up(void)
{
    uint32_t count = rig.bus_master ? rig.window_count : 0;

    if (window_covers_all(rig.windows, count) ||
        window_covers_all(rig.old_windows, rig.old_window_count)) {
        return;
    }
    POISON(rig.ram, RIG_RAM_BYTES);
    windows_unpoison(rig.windows, count);
    windows_unpoison(rig.old_windows, rig.old_window_count);
}

static void guards_down(void)
{
    UNPOISON(rig.ram, RIG_RAM_BYTES);
}

static void windows_settle(void)
{
    rig.old_window_count = rig.bus_master ? rig.window_count : 0;
    memcpy(rig.old_windows, rig.windows, sizeof(rig.windows));
}

/* --- the function -------------------------------------------------------------------------- */

static bool fake_event_pop(struct pcie_ep *ep, struct pcie_ep_event *event)
{
    (void)ep;
    uint32_t tail = shm_load32(&rig.event_tail);

    if (tail == shm_load32_acquire(&rig.event_head)) {
        return false;
    }
    *event = rig.events[tail % RIG_EVENTS];
    rig.pcie.event_seen = tail + 1;
    shm_store32_release(&rig.event_tail, tail + 1);
    return true;
}

static void fake_event_ack(struct pcie_ep *ep, const struct pcie_ep_event *event)
{
    (void)ep;
    rig.last_ack = *event;
    shm_store32_release(&rig.ack_count, rig.ack_count + 1);
    if (!rig.config.threads && event->type != PCIE_EP_EVENT_VECTORS) {
        windows_settle();
        guards_down();
        guards_up();
    }
}

static void fake_view_load(struct pcie_ep *ep, struct pcie_ep_view *view)
{
    (void)ep;
    memset(view, 0, sizeof(*view));
    view->generation = rig.generation;
    view->window_count = rig.bus_master ? rig.window_count : 0;
    memcpy(view->windows, rig.windows, view->window_count * sizeof(view->windows[0]));
}

static void fake_reg_protect(struct pcie_ep *ep, uint32_t offset, uint32_t writable_mask)
{
    (void)ep;
    rig.masks[offset / 4] = writable_mask;
}

static void fake_irq_raise(struct pcie_ep *ep, uint16_t vector)
{
    (void)ep;
    ASSERT(vector < LIMIT_VECTORS);
    __atomic_fetch_add(&rig.irq_count[vector], 1, __ATOMIC_RELAXED);
}

static void fake_doorbells_arm(struct pcie_ep *ep, bool armed)
{
    (void)ep;
    __atomic_fetch_add(&rig.armed_count, armed ? 1u : -1u, __ATOMIC_SEQ_CST);
}

static void fake_ready(struct pcie_ep *ep)
{
    (void)ep;
    rig.is_ready = true;
}

static const struct pcie_ep_ops fake_ops = {
    .event_pop = fake_event_pop,
    .event_ack = fake_event_ack,
    .view_load = fake_view_load,
    .reg_protect = fake_reg_protect,
    .irq_raise = fake_irq_raise,
    .doorbells_arm = fake_doorbells_arm,
    .ready = fake_ready,
};

static void event_push(const struct pcie_ep_event *event)
{
    ASSERT(rig.event_head - shm_load32_acquire(&rig.event_tail) < RIG_EVENTS);
    rig.events[rig.event_head % RIG_EVENTS] = *event;
    shm_store32_release(&rig.event_head, rig.event_head + 1);
    if (rig.config.threads) {
        cpu_wake(0);
    }
}

uint32_t rig_event(enum pcie_ep_event_type type, uint64_t value, bool revokes)
{
    struct pcie_ep_event event = {
        .type = type, .value = value, .revokes = revokes, .generation = ++rig.generation};
    event_push(&event);
    return event.generation;
}

void rig_windows_set(const struct pcie_ep_window *windows, uint32_t count, bool revokes)
{
    memcpy(rig.windows, windows, count * sizeof(*windows));
    rig.window_count = count;
    rig_event(PCIE_EP_EVENT_WINDOWS, 0, revokes);
}

void rig_bus_master_set(bool on)
{
    rig.bus_master = on;
    rig_event(PCIE_EP_EVENT_BUS_MASTER, on, !on);
    if (on) {
        windows_settle();
    }
}

/* --- registers ----------------------------------------------------------------------------- */

static void reg_store(uint32_t offset, uint32_t value)
{
    uint32_t mask = rig.masks[offset / 4];
    uint32_t old = rig_read32(offset);

    shm_store32(rig.regs + offset, (old & ~mask) | (value & mask));
}

void rig_write32(uint32_t offset, uint32_t value)
{
    struct pcie_ep_event event = {
        .type = PCIE_EP_EVENT_REG_WRITE, .offset = offset, .len_bytes = 4, .value = value};

    reg_store(offset, value);
    event_push(&event);
}

void rig_write64(uint32_t offset, uint64_t value)
{
    struct pcie_ep_event event = {
        .type = PCIE_EP_EVENT_REG_WRITE, .offset = offset, .len_bytes = 8, .value = value};

    reg_store(offset, (uint32_t)value);
    reg_store(offset + 4, (uint32_t)(value >> 32));
    event_push(&event);
}

uint32_t rig_read32(uint32_t offset)
{
    return shm_load32_acquire(rig.regs + offset);
}

uint64_t rig_read64(uint32_t offset)
{
    return shm_load64_acquire(rig.regs + offset);
}

uint32_t rig_csts(void)
{
    return rig_read32(NVME_REG_CSTS);
}

/* --- the slow device ----------------------------------------------------------------------- */

static void slow_submit(struct blk_dev *dev, struct blk_req *req)
{
    struct rig_slow *slow = CONTAINER_OF(dev, struct rig_slow, dev);

    if (slow->is_open) {
        blk_complete(req, NVME_SC_SUCCESS);
        return;
    }
    list_push_back(&slow->held, &req->link);
    slow->held_count++;
}

static void slow_end(struct rig_slow *slow, struct blk_req *req, nvme_status_t status)
{
    uint32_t self = cpu_self();

    list_remove(&req->link);
    slow->held_count--;
    native_cpu_become(req->owner_core);
    guards_up();
    blk_complete(req, status);
    guards_down();
    native_cpu_become(self);
}

static void slow_cancel(struct blk_dev *dev, struct blk_req *req)
{
    struct rig_slow *slow = CONTAINER_OF(dev, struct rig_slow, dev);

    slow->cancel_count++;
    if (slow->obeys_cancel) {
        list_remove(&req->link);
        slow->held_count--;
        blk_complete(req, NVME_SC_ABORT_REQUESTED);
    }
}

static const struct blk_ops slow_ops = {.submit = slow_submit, .cancel = slow_cancel};

/* Writes what a read would bring, as a device's DMA does, so that a late one is caught. */
static void slow_touch(const struct blk_req *req)
{
    guards_up();
    if (req->dir == NVME_DIR_FROM_CONTROLLER && req->data.space == MEM_SPACE_HOST) {
        mem_ref_zero(&req->data, 0, req->data.len_bytes);
    }
    guards_down();
}

bool rig_slow_release(struct rig_slow *slow, nvme_status_t status)
{
    if (list_is_empty(&slow->held)) {
        return false;
    }
    struct blk_req *req = LIST_ENTRY(slow->held.next, struct blk_req, link);
    slow_touch(req);
    slow_end(slow, req, status);
    return true;
}

uint32_t rig_slow_release_all(struct rig_slow *slow)
{
    uint32_t count = 0;

    while (rig_slow_release(slow, NVME_SC_SUCCESS)) {
        count++;
    }
    return count;
}

/* --- the user of the Host Memory Buffer ------------------------------------------------------ */

static void hmb_touch(void)
{
    for (uint32_t i = 0; i < rig.hmb.memory->piece_count; i++) {
        const struct nvme_ep_hmb_piece *piece = &rig.hmb.memory->pieces[i];
        memset(mem_bus_ptr(piece->bus_addr), 0x5a, piece->len_bytes);
    }
}

static void hmb_granted(void *ctx, const struct nvme_ep_hmb *hmb)
{
    ASSERT(ctx == &rig.hmb && rig.hmb.memory == NULL && rig.hmb.done == NULL);
    rig.hmb.memory = hmb;
    rig.hmb.granted_count++;
    hmb_touch();
}

void rig_hmb_let_go(void)
{
    void (*done)(void *arg) = rig.hmb.done;

    ASSERT(done != NULL);
    rig.hmb.done = NULL;
    guards_up();
    hmb_touch();
    rig.hmb.memory = NULL;
    done(rig.hmb.arg);
    guards_down();
}

static void hmb_revoke(void *ctx, void (*done)(void *arg), void *arg)
{
    ASSERT(ctx == &rig.hmb && rig.hmb.memory != NULL && rig.hmb.done == NULL);
    rig.hmb.revoke_count++;
    rig.hmb.done = done;
    rig.hmb.arg = arg;
    if (!rig.hmb.holds_on) {
        hmb_touch();
        rig.hmb.memory = NULL;
        rig.hmb.done = NULL;
        done(arg);
    }
}

static const struct nvme_ep_hmb_ops hmb_ops = {.granted = hmb_granted, .revoke = hmb_revoke};

/* --- start and stop ------------------------------------------------------------------------ */

void rig_devices_start(void)
{
    struct blk_ram_config disk = {
        .name = "disk", .memory = rig.disk_memory, .size_bytes = RIG_DISK_BYTES, .lba_shift = 9};

    ASSERT(blk_ram_init(&rig.disk, &disk) == STATUS_OK);
    rig.slow.dev.ops = &slow_ops;
    rig.slow.dev.name = "slow";
    rig.slow.dev.geometry.lba_count = 1 << 20;
    rig.slow.dev.geometry.lba_shift = 12;
    rig.slow.dev.geometry.known = true;
    rig.slow.dev.geometry.features = BLK_FEATURE_FLUSH | BLK_FEATURE_FUA | BLK_FEATURE_COMPARE;
    list_init(&rig.slow.held);
    rig.slow.obeys_cancel = true;
    ASSERT(nvme_ns_attach(rig.ctrl, 1, &rig.disk.dev) == STATUS_OK);
    ASSERT(nvme_ns_attach(rig.ctrl, 2, &rig.slow.dev) == STATUS_OK);
}

static void function_start(void)
{
    rig.pcie = (struct pcie_ep){.ops = &fake_ops,
                                .name = "fake",
                                .regs = rig.regs,
                                .doorbells = rig.doorbells,
                                .doorbells_bytes = RIG_DOORBELL_BYTES,
                                .fn = 1,
                                .vector_count = LIMIT_VECTORS,
                                .doorbell_mode = rig.config.trapped ? PCIE_EP_DOORBELLS_TRAPPED
                                                                    : PCIE_EP_DOORBELLS_MAPPED,
                                .host_poll_is_cheap = true,
                                .event_head = &rig.event_head};
    rig.bus_master = true;
    rig.windows[0] = (struct pcie_ep_window){.host_addr = RIG_HOST_BASE,
                                             .len_bytes = RIG_RAM_BYTES,
                                             .bus_addr = (uintptr_t)rig.ram,
                                             .readable = true,
                                             .writable = true};
    rig.window_count = 1;
    windows_settle();
}

static void memory_make(void)
{
    if (ep_memory == NULL) {
        ep_memory = aligned_alloc(64, sizeof(*ep_memory));
        rig.ram = aligned_alloc(4096, RIG_RAM_BYTES);
        rig.disk_memory = aligned_alloc(4096, RIG_DISK_BYTES);
    }
    guards_down();
    memset(rig.ram, 0xa5, RIG_RAM_BYTES);
    for (uint32_t i = 0; i < RIG_DISK_BYTES; i++) {
        rig.disk_memory[i] = (uint8_t)(i ^ i >> 9);
    }
}

static void run_core(void *arg)
{
    (void)arg;
    sched_run();
}

static void *run_core0(void *arg)
{
    native_cpu_become(0);
    run_core(arg);
    return NULL;
}

/* Core 0 is a thread of ours: the test's own is the host. */
static void threads_start(uint32_t cores)
{
    native_clock_use_real();
    native_cpu_set_count(cores);
    for (uint32_t core = 1; core < cores; core++) {
        ASSERT(cpu_start(core, run_core, NULL) == STATUS_OK);
    }
    ASSERT(pthread_create(&core0, NULL, run_core0, NULL) == 0);
}

static void threads_stop(void)
{
    sched_stop();
    pthread_join(core0, NULL);
    native_cpu_join();
}

void rig_ep_make(void)
{
    uint16_t queues = rig.config.doorbell_buffers && rig.config.dstrd == 4 ? 31 : LIMIT_IO_QUEUES;
    struct nvme_ep_config ep_config = {
        .pcie = &rig.pcie,
        .ctrl = {.serial = "1",
                 .model = "rig",
                 .firmware = "1",
                 .subnqn = "nqn.2026-11.org.snic:rig",
                 .cntlid = 1,
                 .io_queue_count =
                     rig.config.io_queue_count != 0 ? rig.config.io_queue_count : queues,
                 .namespace_count = 8,
                 .mdts = rig.config.mdts != 0 ? rig.config.mdts : LIMIT_MDTS,
                 .doorbell_buffers = rig.config.doorbell_buffers,
                 .hmb_preferred_bytes = rig.config.hmb_preferred_bytes,
                 .hmb_min_bytes = rig.config.hmb_min_bytes,
                 .sgl = !rig.config.no_sgl},
        .core_mask =
            rig.config.core_mask != 0 ? rig.config.core_mask : (1u << sched_core_count()) - 1,
        .dstrd = rig.config.dstrd,
        .ready_timeout_500ms = 20,
        .weighted_round_robin = rig.config.weighted_round_robin,
        .subsystem_reset = rig.config.subsystem_reset,
        .fence_cancel_ms = rig.config.fence_cancel_ms != 0 ? rig.config.fence_cancel_ms : 500};
    ASSERT(nvme_ep_init(ep_memory, &ep_config, &rig.ep) == STATUS_OK);
    rig.ctrl = nvme_ep_ctrl(rig.ep);
    if (rig.config.hmb_user) {
        nvme_ep_hmb_use(rig.ep, &hmb_ops, &rig.hmb);
    }
}

void rig_start(const struct rig_config *config)
{
    uint8_t *ram = rig.ram;
    uint8_t *disk_memory = rig.disk_memory;
    uint32_t cores = config != NULL && config->core_count != 0 ? config->core_count : 1;

    memset(&rig, 0, sizeof(rig));
    rig.ram = ram;
    rig.disk_memory = disk_memory;
    if (config != NULL) {
        rig.config = *config;
    }
    memory_make();
    native_cpu_become(0);
    native_clock_set(NS_PER_S);
    sched_init(cores, rig.config.threads ? SCHED_IDLE_ADAPTIVE : SCHED_IDLE_POLL);
    function_start();
    rig_ep_make();
    rig_devices_start();
    nvme_ep_start(rig.ep);
    if (!rig.config.not_serving) {
        nvme_ep_serve(rig.ep);
    }
    if (rig.config.threads) {
        threads_start(cores);
    }
    rig_turn(2);
}

bool rig_pools_are_full(void)
{
    for (uint32_t core = 0; core < LIMIT_CORES; core++) {
        if (!pool_is_full(&rig.ep->cores[core].io.cmds) ||
            !pool_is_full(&rig.ep->cores[core].io.bigs)) {
            return false;
        }
    }
    return pool_is_full(&rig.ep->admin.cmds) && pool_is_full(&rig.ep->admin.bigs);
}

void rig_stop(void)
{
    uint32_t acks = shm_load32(&rig.ack_count);

    rig.slow.obeys_cancel = true;
    rig.hmb.holds_on = false;
    if (rig.hmb.done != NULL) {
        rig_hmb_let_go();
    }
    rig_event(PCIE_EP_EVENT_RESET, 0, true);
    rig_turn(4);
    if (rig.config.threads) {
        while (shm_load32_acquire(&rig.ack_count) == acks) {
            rig_turn(1);
        }
        threads_stop();
    }
    rig_slow_release_all(&rig.slow);
    rig_turn(20);
    ASSERT(rig_pools_are_full());
    ASSERT(rig.last_ack.type == PCIE_EP_EVENT_RESET);
    ASSERT(rig_csts() == 0);
    ASSERT(rig.event_head == rig.event_tail);
}

void rig_turn(uint32_t count)
{
    uint32_t cores = sched_core_count();

    if (rig.config.threads) {
        usleep(20 * count);
        return;
    }
    guards_up();
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t core = 0; core < cores; core++) {
            native_cpu_become(core);
            sched_turn();
        }
    }
    native_cpu_become(0);
    guards_down();
}

void rig_advance_ms(uint32_t ms)
{
    for (uint32_t i = 0; i < ms; i++) {
        native_clock_advance(NS_PER_MS);
        rig_turn(1);
    }
}
