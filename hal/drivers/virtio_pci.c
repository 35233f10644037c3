/*
 * See virtio.h: the PCI transport, VIRTIO 1.2 section 4.1, and the start of a device, 3.1.1.
 */
#include "hal/drivers/virtio.h"

#include <stddef.h>
#include <string.h>
#include "hal/clock.h"

/* Configuration space, PCI Express Base 7.5.1 */
#define CFG_COMMAND         0x04u
#define CFG_CAPABILITIES    0x34u
#define STATUS_CAPABILITIES BIT32(20) /* in the status half */
#define CAPABILITY_FIRST    0x40u
#define CAPABILITY_MAX      48u /* 192 bytes of them, 4 bytes each: a longer chain is a loop */
#define CONFIG_SPACE_BYTES  256u

#define RESET_POLLS   1000u
#define RESET_POLL_NS NS_PER_MS

#define COMMON(field) ((uint32_t)offsetof(struct virtio_pci_common, field))

/* --- capabilities ----------------------------------------------------------------------------- */

/* One register block, as a capability describes it. */
struct block {
    struct mmio regs; /* base 0: not found yet */
    uint32_t len_bytes;
    uint32_t extra; /* the dword behind the capability */
};

/* BAD_DATA: it leads outside of its BAR. */
static enum status block_read(const struct pcie_rc_device *pci, uint16_t at, uint32_t bar,
                              struct block *block)
{
    uint32_t offset = pcie_rc_read32(pci, (uint16_t)(at + offsetof(struct virtio_pci_cap, offset)));
    uint32_t length = pcie_rc_read32(pci, (uint16_t)(at + offsetof(struct virtio_pci_cap, length)));

    if (pci->bar[bar].bus_addr == 0 || !range_fits(offset, length, pci->bar[bar].len_bytes) ||
        !is_aligned(offset, 4)) {
        return STATUS_BAD_DATA;
    }
    block->regs.base = (uintptr_t)(pci->bar[bar].bus_addr + offset);
    block->len_bytes = length;
    block->extra = pcie_rc_read32(pci, (uint16_t)(at + sizeof(struct virtio_pci_cap)));
    return STATUS_OK;
}

/* Goes through the chain; of each type the first with a BAR that exists counts (4.1.4.1). */
static enum status blocks_find(const struct pcie_rc_device *pci, struct block *blocks)
{
    if ((pcie_rc_read32(pci, CFG_COMMAND) & STATUS_CAPABILITIES) == 0) {
        return STATUS_OK;
    }
    uint16_t at = pcie_rc_read32(pci, CFG_CAPABILITIES) & 0xfc;
    for (uint32_t i = 0; i < CAPABILITY_MAX && at >= CAPABILITY_FIRST; i++) {
        uint32_t head = pcie_rc_read32(pci, at);
        uint32_t type = head >> 24;
        bool is_wanted = (head & 0xff) == VIRTIO_PCI_CAP_ID && type >= VIRTIO_PCI_CAP_COMMON &&
                         type <= VIRTIO_PCI_CAP_DEVICE && blocks[type].regs.base == 0 &&
                         at + sizeof(struct virtio_pci_cap) + 4 <= CONFIG_SPACE_BYTES;
        if (is_wanted) {
            uint32_t bar = pcie_rc_read32(pci, (uint16_t)(at + 4)) & 0xff;
            if (bar < 6 && block_read(pci, at, bar, &blocks[type]) != STATUS_OK) {
                return STATUS_BAD_DATA;
            }
        }
        at = head >> 8 & 0xfc;
    }
    return STATUS_OK;
}

enum status virtio_open(struct virtio_device *dev, const struct pcie_rc_device *pci)
{
    struct block blocks[VIRTIO_PCI_CAP_DEVICE + 1];

    memset(blocks, 0, sizeof(blocks));
    enum status status = blocks_find(pci, blocks);
    if (status != STATUS_OK) {
        return status;
    }
    const struct block *common = &blocks[VIRTIO_PCI_CAP_COMMON];
    const struct block *notify = &blocks[VIRTIO_PCI_CAP_NOTIFY];
    const struct block *config = &blocks[VIRTIO_PCI_CAP_DEVICE];
    if (common->regs.base == 0 || notify->regs.base == 0) {
        return STATUS_UNSUPPORTED; /* legacy alone */
    }
    if (common->len_bytes < sizeof(struct virtio_pci_common) || !is_aligned(notify->extra, 2)) {
        return STATUS_BAD_DATA;
    }
    *dev = (struct virtio_device){
        .pci = pci,
        .common = common->regs,
        .notify = notify->regs,
        .config = config->regs,
        .notify_bytes = notify->len_bytes,
        .notify_multiplier = notify->extra,
        .config_bytes = config->len_bytes,
    };
    pcie_rc_enable(pci, true, false);
    virtio_reset(dev);
    for (uint32_t i = 0; i < RESET_POLLS && !virtio_is_reset(dev); i++) {
        clock_delay_ns(RESET_POLL_NS);
    }
    if (!virtio_is_reset(dev)) {
        return STATUS_TIMED_OUT;
    }
    /* A device that was reset reaches for no memory before DRIVER_OK. */
    pcie_rc_enable(pci, true, true);
    return STATUS_OK;
}

/* --- life ------------------------------------------------------------------------------------- */

uint8_t virtio_status(const struct virtio_device *dev)
{
    return mmio_read8(dev->common, COMMON(device_status));
}

static void status_add(const struct virtio_device *dev, uint8_t bits)
{
    mmio_write8(dev->common, COMMON(device_status), (uint8_t)(virtio_status(dev) | bits));
}

void virtio_reset(const struct virtio_device *dev)
{
    mmio_write8(dev->common, COMMON(device_status), 0);
}

bool virtio_is_reset(const struct virtio_device *dev)
{
    return virtio_status(dev) == 0;
}

static uint64_t features_offered(const struct virtio_device *dev)
{
    uint64_t features = 0;

    for (uint32_t i = 0; i < 2; i++) {
        mmio_write32(dev->common, COMMON(device_feature_select), i);
        features |= (uint64_t)mmio_read32(dev->common, COMMON(device_feature)) << (32 * i);
    }
    return features;
}

enum status virtio_negotiate(struct virtio_device *dev, uint64_t wanted, uint64_t required)
{
    status_add(dev, VIRTIO_STATUS_ACKNOWLEDGE);
    status_add(dev, VIRTIO_STATUS_DRIVER);
    uint64_t features = features_offered(dev) & wanted;
    if ((features & required) != required) {
        virtio_fail(dev);
        return STATUS_UNSUPPORTED;
    }
    for (uint32_t i = 0; i < 2; i++) {
        mmio_write32(dev->common, COMMON(driver_feature_select), i);
        mmio_write32(dev->common, COMMON(driver_feature), (uint32_t)(features >> (32 * i)));
    }
    status_add(dev, VIRTIO_STATUS_FEATURES_OK);
    if ((virtio_status(dev) & VIRTIO_STATUS_FEATURES_OK) == 0) {
        virtio_fail(dev);
        return STATUS_UNSUPPORTED;
    }
    dev->features = features;
    return STATUS_OK;
}

bool virtio_set_config_vector(const struct virtio_device *dev, uint16_t vector)
{
    mmio_write16(dev->common, COMMON(config_msix_vector), vector);
    return mmio_read16(dev->common, COMMON(config_msix_vector)) == vector;
}

void virtio_start(const struct virtio_device *dev)
{
    status_add(dev, VIRTIO_STATUS_DRIVER_OK);
}

void virtio_fail(const struct virtio_device *dev)
{
    status_add(dev, VIRTIO_STATUS_FAILED);
}

/* --- queues ----------------------------------------------------------------------------------- */

uint32_t virtio_queue_size(const struct virtio_device *dev, uint16_t index)
{
    if (index >= mmio_read16(dev->common, COMMON(num_queues))) {
        return 0;
    }
    mmio_write16(dev->common, COMMON(queue_select), index);
    uint32_t size = mmio_read16(dev->common, COMMON(queue_size));
    return is_power_of_two(size) && size <= VIRTQ_SIZE_MAX ? size : 0;
}

void virtq_init(struct virtq *q, void *memory, uint32_t size, bool has_event_idx)
{
    uint8_t *at = memory;

    memset(memory, 0, VIRTQ_MEMORY_BYTES(size));
    *q = (struct virtq){
        .desc = (void *)at,
        .avail = (void *)(at + VIRTQ_LINES(16u * size)),
        .used = (void *)(at + VIRTQ_LINES(16u * size) + VIRTQ_LINES(VIRTQ_AVAIL_BYTES(size))),
        .mask = (uint16_t)(size - 1),
        .has_event_idx = has_event_idx,
    };
    (void)virtq_arm(q, false);
}

static void write_address(struct mmio common, uint32_t low, const void *memory)
{
    mmio_write32(common, low, (uint32_t)(uintptr_t)memory);
    mmio_write32(common, low + 4, (uint32_t)((uint64_t)(uintptr_t)memory >> 32));
}

enum status virtio_queue_start(const struct virtio_device *dev, uint16_t index, struct virtq *q,
                               uint16_t vector)
{
    uint32_t size = q->mask + 1u;

    if (virtio_queue_size(dev, index) < size) { /* selects the queue, too */
        return STATUS_INVALID;
    }
    uint64_t notify_off = mmio_read16(dev->common, COMMON(queue_notify_off));
    uint64_t offset = notify_off * dev->notify_multiplier;
    if (!range_fits(offset, 2, dev->notify_bytes)) {
        return STATUS_BAD_DATA;
    }
    q->notify.base = dev->notify.base + (uintptr_t)offset;
    q->index = index;
    mmio_write16(dev->common, COMMON(queue_size), (uint16_t)size);
    mmio_write16(dev->common, COMMON(queue_msix_vector), vector);
    if (mmio_read16(dev->common, COMMON(queue_msix_vector)) != vector) {
        return STATUS_UNSUPPORTED;
    }
    write_address(dev->common, COMMON(queue_desc_low), q->desc);
    write_address(dev->common, COMMON(queue_driver_low), q->avail);
    write_address(dev->common, COMMON(queue_device_low), q->used);
    /* The rings are in memory before the device may look at them; partner: the device. */
    barrier_before_doorbell();
    mmio_write16(dev->common, COMMON(queue_enable), 1);
    return STATUS_OK;
}
