/*
 * The host's side of the qemu-virt board: PCIe functions towards a host, through pcielink.
 *
 * Two ivshmem devices make it: one with doorbells, whose memory holds the link blocks, and a plain
 * one, whose memory is the host's RAM. Without them the board runs, but no host can see it.
 */
#include "boards/qemu-virt/endpoint.h"

#include <stddef.h>
#include "base/bits.h"
#include "base/crc.h"
#include "base/log.h"
#include "base/mem_ref.h"
#include "base/shm.h"
#include "boards/qemu-virt/machine.h"
#include "boot/crash_record.h"
#include "hal/arch.h"
#include "hal/barrier.h"
#include "hal/clock.h"
#include "hal/drivers/ivshmem.h"
#include "hal/drivers/pcie_ep_link.h"
#include "spec/handover.h"
#include "spec/link.h"

#define HELLO_TIMEOUT_NS (UINT64_C(5) * NS_PER_S)

extern char __warm_start[];

static struct ivshmem link_device;
static struct ivshmem ram_device;
static struct pcie_ep_link links[LIMIT_FUNCTIONS];
static const char *const names[] = {"pcielink.0", "pcielink.1", "pcielink.2", "pcielink.3"};
_Static_assert(ARRAY_SIZE(names) == LIMIT_FUNCTIONS, "a name for each function");

/* The device's doorbell register is reached by a store: what was stored before must be seen before.
 */
static void ring(void *ctx, uint32_t peer, uint32_t vector)
{
    (void)ctx;
    barrier_before_doorbell();
    ivshmem_ring(&link_device, peer, vector);
}

static void notify(void *ctx)
{
    ring(ctx, LINK_PEER_HOST, 0);
}

/* How many functions the other end says there are, as far as they fit. */
static uint32_t function_count(void)
{
    const struct link_host_page *page = mem_bus_ptr(link_device.memory_addr + LINK_OFFSET_HOST);
    uint32_t count = shm_load16(&page->function_count);
    uint64_t fit = link_device.memory_bytes / LINK_BLOCK_BYTES;

    return (uint32_t)min_u64(min_u64(count, fit), LIMIT_FUNCTIONS);
}

static enum status function_init(uint32_t index, bool resume)
{
    struct pcie_ep_link_params params = {
        .name = names[index],
        .block = mem_bus_ptr(link_device.memory_addr + (uint64_t)index * LINK_BLOCK_BYTES),
        .bus_base = ram_device.memory_addr,
        .bus_bytes = ram_device.memory_bytes,
        .raise = ring,
        .notify = notify,
        .hello_timeout_ns = HELLO_TIMEOUT_NS,
        .resume = resume,
    };
    return pcie_ep_link_init(&links[index], &params);
}

/* What the image before has left, checked as a whole; read once. */
static bool is_handed_over(struct board *board, uint32_t count)
{
    struct handover *handover = (struct handover *)(void *)(__warm_start + MACHINE_HANDOVER_OFFSET);
    _Static_assert(MACHINE_HANDOVER_OFFSET + sizeof(*handover) + sizeof(struct machine_warm_end) <=
                       0x10000,
                   "BOARD_WARM_BYTES");

    board->handover = handover;
    bool is_whole =
        crash_record_start_count() > 1 && handover->magic == HANDOVER_MAGIC &&
        handover->version == HANDOVER_VERSION && handover->size_bytes == sizeof(*handover) &&
        handover->crc ==
            crc32_update(0, &handover->function_count,
                         sizeof(*handover) - offsetof(struct handover, function_count)) &&
        handover->function_count == count;
    handover->magic = 0;
    arch_cache_clean(handover, sizeof(handover->magic));
    return is_whole;
}

/* All functions as the image before had them, or none. */
static bool resume(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (function_init(i, true) != STATUS_OK) {
            LOG_WARN("board: function %u cannot be taken over: its host sees a reset", (unsigned)i);
            return false;
        }
    }
    return true;
}

void qemu_virt_endpoint_init(struct board *board)
{
    if (ivshmem_find(0, true, &link_device) != STATUS_OK) {
        LOG_INFO("board: no link to a host (ivshmem-doorbell)");
        return;
    }
    if (ivshmem_find(0, false, &ram_device) != STATUS_OK) {
        LOG_ERROR("board: a link to a host, but not its RAM (ivshmem-plain)");
        return;
    }
    enum status status = ivshmem_wake_cores(&link_device, board->core_count);
    if (status != STATUS_OK) {
        LOG_ERROR("board: the link's interrupts: %s", status_text(status));
        return;
    }
    uint32_t count = function_count();
    board->is_handed_over = is_handed_over(board, count) && resume(count);
    for (uint32_t i = 0; i < count; i++) {
        status = board->is_handed_over ? STATUS_OK : function_init(i, false);
        if (status != STATUS_OK) {
            LOG_ERROR("board: link block %u: %s", (unsigned)i, status_text(status));
            return;
        }
        board->eps[board->ep_count++] = &links[i].ep;
    }
    LOG_INFO("board: %u function%s to a host with %llu MiB", (unsigned)count, count == 1 ? "" : "s",
             (unsigned long long)(ram_device.memory_bytes >> 20));
}
