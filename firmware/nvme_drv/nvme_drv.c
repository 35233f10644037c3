/*
 * Drives and their memory: attach, namespaces, reports. See nvme_drv.h; the work is done in the
 * files that nvme_drv_priv.h lists.
 */
#include "nvme_drv/nvme_drv.h"

#include <string.h>
#include "base/log.h"
#include "nvme_drv/nvme_drv_priv.h"

#define CLASS_NVME      0x010802u /* mass storage, non-volatile memory, NVMe I/O controller */
#define MAX_PCI_DEVICES 256

/* Pool memory of one core; devices read the lists and bounce buffers. */
struct core_memory {
    ALIGNED(4096) uint8_t big_lists[NVME_DRV_BIG_LISTS][NVME_DRV_BIG_LIST_BYTES];
    uint8_t bounces[NVME_DRV_BOUNCES][NVME_DRV_BOUNCE_BYTES];
    uint8_t small_lists[NVME_DRV_SMALL_LISTS][NVME_DRV_SMALL_LIST_BYTES];
    struct nvme_drv_split splits[NVME_DRV_SPLITS];
};

struct nvme_drv_pools nvme_drv_pools[LIMIT_CORES];

static struct core_memory core_memory[LIMIT_CORES];
static struct nvme_drv_dma drive_memory[LIMIT_DRIVES];
static struct nvme_drv_slot slots[LIMIT_DRIVES][LIMIT_CORES][NVME_DRV_QUEUE_ENTRIES];
static struct nvme_drv drives[LIMIT_DRIVES];
static uint32_t drive_count;

/* One poller per core for the queues of all drives, one on core 0 for the drives themselves. */
static struct poller io_pollers[LIMIT_CORES];
static struct poller admin_poller;

static const struct blk_ops ops = {.submit = nvme_drv_submit, .cancel = nvme_drv_cancel};

void nvme_drv_init(void)
{
    drive_count = 0;
}

static void init_pools(uint32_t core)
{
    struct nvme_drv_pools *pools = &nvme_drv_pools[core];
    struct core_memory *memory = &core_memory[core];

    pool_init(&pools->small_lists, "nvme_drv small lists", memory->small_lists,
              NVME_DRV_SMALL_LIST_BYTES, NVME_DRV_SMALL_LISTS);
    pool_init(&pools->big_lists, "nvme_drv big lists", memory->big_lists, NVME_DRV_BIG_LIST_BYTES,
              NVME_DRV_BIG_LISTS);
    pool_init(&pools->bounces, "nvme_drv bounces", memory->bounces, NVME_DRV_BOUNCE_BYTES,
              NVME_DRV_BOUNCES);
    pool_init(&pools->splits, "nvme_drv splits", memory->splits, sizeof(struct nvme_drv_split),
              NVME_DRV_SPLITS);
}

bool nvme_drv_pools_are_full(uint32_t core)
{
    const struct nvme_drv_pools *pools = &nvme_drv_pools[core];
    return pool_is_full(&pools->small_lists) && pool_is_full(&pools->big_lists) &&
           pool_is_full(&pools->bounces) && pool_is_full(&pools->splits);
}

const struct pcie_rc_device *nvme_drv_device(uint32_t index)
{
    for (uint32_t i = 0; i < MAX_PCI_DEVICES; i++) {
        const struct pcie_rc_device *device = pcie_rc_device(i);
        if (device == NULL) {
            break;
        }
        if (device->class_code == CLASS_NVME && index-- == 0) {
            return device;
        }
    }
    return NULL;
}

/* --- pollers ---------------------------------------------------------------------------------- */

static uint32_t io_run(void *ctx)
{
    const struct poller *poller = ctx;
    uint32_t core = (uint32_t)(poller - io_pollers);
    uint32_t count = 0;

    for (uint32_t i = 0; i < drive_count; i++) {
        count += nvme_drv_queue_run(&drives[i].queues[core]);
    }
    return count;
}

static uint64_t io_arm(void *ctx, bool is_armed)
{
    const struct poller *poller = ctx;
    uint32_t core = (uint32_t)(poller - io_pollers);
    uint64_t sleep_ns = UINT64_MAX;

    for (uint32_t i = 0; is_armed && i < drive_count; i++) {
        sleep_ns = min_u64(sleep_ns, nvme_drv_queue_sleep_ns(&drives[i].queues[core]));
    }
    return sleep_ns;
}

static uint32_t admin_run(void *ctx)
{
    uint64_t now_ns = sched_now_ns();
    uint32_t count = 0;
    (void)ctx;

    for (uint32_t i = 0; i < drive_count; i++) {
        count += nvme_drv_run(&drives[i], now_ns);
    }
    return count;
}

static uint64_t admin_arm(void *ctx, bool is_armed)
{
    uint64_t sleep_ns = UINT64_MAX;
    (void)ctx;

    for (uint32_t i = 0; is_armed && i < drive_count; i++) {
        sleep_ns = min_u64(sleep_ns, nvme_drv_sleep_ns(&drives[i]));
    }
    return sleep_ns;
}

/* With the first drive: a board without drives has no pollers of ours, and its memory stays unused.
 */
static void start_cores(void)
{
    for (uint32_t core = 0; core < sched_core_count(); core++) {
        init_pools(core);
        io_pollers[core] = (struct poller){
            .name = "nvme_drv io", .run = io_run, .arm = io_arm, .ctx = &io_pollers[core]};
        sched_poller_add_to(core, &io_pollers[core]);
    }
    admin_poller = (struct poller){.name = "nvme_drv admin", .run = admin_run, .arm = admin_arm};
    sched_poller_add_to(0, &admin_poller);
}

/* --- drives ----------------------------------------------------------------------------------- */

/* The place of a device among all NVMe drives: what people call it by. */
static uint32_t number_of(const struct pcie_rc_device *device)
{
    for (uint32_t i = 0; i < MAX_PCI_DEVICES; i++) {
        const struct pcie_rc_device *other = nvme_drv_device(i);
        if (other == device || other == NULL) {
            return i;
        }
    }
    return MAX_PCI_DEVICES;
}

/* Appends text and a number to a name of `to_bytes`; what does not fit is cut. */
static void name_append(char *to, uint32_t to_bytes, const char *text, uint32_t number)
{
    char digits[10];
    uint32_t count = 0;
    uint32_t at = (uint32_t)strlen(to);

    do {
        digits[count++] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    while (*text != '\0' && at + 1 < to_bytes) {
        to[at++] = *text++;
    }
    while (count > 0 && at + 1 < to_bytes) {
        to[at++] = digits[--count];
    }
    to[at] = '\0';
}

enum status nvme_drv_attach(const struct pcie_rc_device *device,
                            void (*found)(struct blk_dev *dev, uint32_t nsid, void *ctx), void *ctx,
                            struct nvme_drv **out)
{
    if (device->class_code != CLASS_NVME || device->bar[0].bus_addr == 0 ||
        device->bar[0].len_bytes < 2 * NVME_DOORBELLS_OFFSET) {
        return STATUS_INVALID;
    }
    if (drive_count == LIMIT_DRIVES) {
        return STATUS_NO_SPACE;
    }
    struct nvme_drv *drv = &drives[drive_count];
    *drv = (struct nvme_drv){0};
    drv->index = drive_count++;
    drv->device = device;
    drv->dma = &drive_memory[drv->index];
    drv->regs.base = (uintptr_t)device->bar[0].bus_addr;
    drv->core_count = sched_core_count();
    drv->found = found;
    drv->found_ctx = ctx;
    drv->state = NVME_DRV_STOPPING;
    drv->verdict = NVME_DRV_BACKOFF;
    drv->number = number_of(device);
    name_append(drv->name, sizeof(drv->name), "nvme", drv->number);
    pcie_rc_enable(device, true, false); /* registers; no DMA before we say so */
    (void)nvme_drv_read_cap(drv);        /* for CAP.TO; checked when it is used */

    for (uint32_t core = 0; core < drv->core_count; core++) {
        nvme_drv_queue_init(&drv->queues[core], drv, core, slots[drv->index][core]);
    }
    if (drv->index == 0) {
        start_cores();
    }
    *out = drv;
    return STATUS_OK;
}

struct blk_dev *nvme_drv_blk(struct nvme_drv *drv, uint32_t nsid)
{
    struct nvme_drv_ns *unused = NULL;

    if (nsid == 0 || nsid == NVME_NSID_ALL) {
        return NULL;
    }
    for (uint32_t i = 0; i < NVME_DRV_NAMESPACES; i++) {
        struct nvme_drv_ns *ns = &drv->ns[i];
        if (ns->nsid == nsid) {
            return &ns->dev;
        }
        if (ns->nsid == 0 && unused == NULL) {
            unused = ns;
        }
    }
    if (unused == NULL) {
        return NULL;
    }
    unused->nsid = nsid;
    unused->drv = drv;
    for (uint32_t core = 0; core < LIMIT_CORES; core++) {
        unused->queues[core] = &drv->queues[core];
    }
    unused->name[0] = '\0';
    name_append(unused->name, sizeof(unused->name), "nvme", drv->number);
    name_append(unused->name, sizeof(unused->name), "n", nsid);
    unused->dev.ops = &ops;
    unused->dev.name = unused->name;
    return &unused->dev;
}

void nvme_drv_reset(struct nvme_drv *drv)
{
    drv->reset_reason = "a wish from above";
}

const char *nvme_drv_name(const struct nvme_drv *drv)
{
    return drv->name;
}

enum nvme_drv_state nvme_drv_state(const struct nvme_drv *drv)
{
    return drv->state;
}

const char *nvme_drv_state_name(enum nvme_drv_state state)
{
    static const char *const names[] = {
#define STATE_NAME(name, text) [NVME_DRV_##name] = #name,
        NVME_DRV_STATE_LIST(STATE_NAME)
#undef STATE_NAME
    };
    return (uint32_t)state < ARRAY_SIZE(names) ? names[state] : "?";
}

struct nvme_drv_stats nvme_drv_stats(const struct nvme_drv *drv)
{
    struct nvme_drv_stats stats = {
        .event_count = drv->event_count,
        .reset_count = drv->reset_count,
        .bad_completion_count = drv->bad_completion_count,
        .critical_warning = drv->critical_warning,
    };
    for (uint32_t core = 0; core < drv->core_count; core++) {
        const struct nvme_drv_queue *q = &drv->queues[core];
        stats.command_count += counter_get(&q->command_count);
        stats.split_count += counter_get(&q->split_count);
        stats.bounced_bytes += counter_get(&q->bounced_bytes);
        stats.error_count += counter_get(&q->error_count);
        stats.timeout_count += counter_get(&q->timeout_count);
        stats.abort_count += counter_get(&q->abort_count);
        stats.bad_completion_count += counter_get(&q->bad_completion_count);
    }
    return stats;
}
