#include "hal/drivers/pcie_ecam.h"

#include <stdbool.h>
#include "base/bits.h"
#include "base/log.h"
#include "hal/barrier.h"
#include "hal/irq.h"
#include "hal/pcie_rc.h"

/* Configuration space header, PCI Express Base 7.5.1 */
#define CFG_ID              0x00u
#define CFG_COMMAND         0x04u
#define CFG_CLASS           0x08u
#define CFG_HEADER          0x0cu
#define CFG_BAR(n)          ((uint16_t)(0x10u + 4 * (n)))
#define CFG_CAPABILITIES    0x34u
#define CFG_BYTES           4096u
#define FUNCTION_STRIDE     4096u
#define DEVICE_STRIDE       (8 * FUNCTION_STRIDE)
#define DEVICES             32u
#define FUNCTIONS           8u
#define COMMAND_MEMORY      BIT32(1)
#define COMMAND_BUS_MASTER  BIT32(2)
#define COMMAND_NO_INTX     BIT32(10)
#define STATUS_CAPABILITIES BIT32(20) /* in the status half */
#define HEADER_TYPE_SHIFT   16
#define HEADER_TYPE_BITS    7
#define HEADER_MULTI        BIT32(23)
#define CLASS_BRIDGE        0x06u
#define CAPABILITY_MSIX     0x11u
#define CAPABILITY_MAX      48u /* 192 bytes of them, 4 bytes each: a longer chain is a loop */

#define BAR_IO        BIT32(0)
#define BAR_TYPE_MASK 0x6u
#define BAR_TYPE_64   0x4u
#define BAR_FLAGS     0xfu
#define BAR_COUNT     6u
#define BAR_MIN_BYTES 4096u /* one page: BARs never share a mapping */

/* MSI-X, 7.7.2 */
#define MSIX_CONTROL          0u
#define MSIX_TABLE            4u
#define MSIX_CONTROL_ENABLE   BIT32(31)
#define MSIX_CONTROL_MASK_ALL BIT32(30)
#define MSIX_SIZE_SHIFT       16
#define MSIX_SIZE_BITS        11
#define MSIX_BIR_MASK         0x7u
#define MSIX_ENTRY_BYTES      16u
#define MSIX_ENTRY_MASKED     BIT32(0)

static struct {
    struct pcie_ecam_params params;
    struct pcie_rc_device devices[PCIE_ECAM_MAX_DEVICES];
    uint32_t device_count;
    uint64_t next32; /* free part of the windows */
    uint64_t next64;
} rc;

static struct mmio config_space(const struct pcie_rc_device *device)
{
    return (struct mmio){rc.params.ecam + device->device * DEVICE_STRIDE +
                         device->function * FUNCTION_STRIDE};
}

const struct pcie_rc_device *pcie_rc_device(uint32_t index)
{
    return index < rc.device_count ? &rc.devices[index] : NULL;
}

uint32_t pcie_rc_read32(const struct pcie_rc_device *device, uint16_t offset)
{
    return mmio_read32(config_space(device), offset & (CFG_BYTES - 4));
}

void pcie_rc_write32(const struct pcie_rc_device *device, uint16_t offset, uint32_t value)
{
    mmio_write32(config_space(device), offset & (CFG_BYTES - 4), value);
}

void pcie_rc_write16(const struct pcie_rc_device *device, uint16_t offset, uint16_t value)
{
    mmio_write16(config_space(device), offset & (CFG_BYTES - 2), value);
}

void pcie_rc_write8(const struct pcie_rc_device *device, uint16_t offset, uint8_t value)
{
    mmio_write8(config_space(device), offset & (CFG_BYTES - 1), value);
}

void pcie_rc_enable(const struct pcie_rc_device *device, bool memory, bool bus_master)
{
    /* The status half is cleared by writing ones: write zeroes there. */
    uint32_t command = pcie_rc_read32(device, CFG_COMMAND) & 0xffff;
    command &= ~(COMMAND_MEMORY | COMMAND_BUS_MASTER);
    command |= (memory ? COMMAND_MEMORY : 0) | (bus_master ? COMMAND_BUS_MASTER : 0);
    pcie_rc_write32(device, CFG_COMMAND, command | COMMAND_NO_INTX);
    (void)pcie_rc_read32(device, CFG_COMMAND); /* the write has arrived */
}

/* --- BARs ------------------------------------------------------------------------------------- */

/* Size of BAR `index` and whether it takes two registers; 0: none that we serve. */
static uint64_t bar_size(const struct pcie_rc_device *device, uint32_t index, bool *is_64)
{
    uint32_t low = pcie_rc_read32(device, CFG_BAR(index));
    *is_64 = (low & BAR_IO) == 0 && (low & BAR_TYPE_MASK) == BAR_TYPE_64 && index + 1 < BAR_COUNT;
    if ((low & BAR_IO) != 0) {
        return 0;
    }
    pcie_rc_write32(device, CFG_BAR(index), UINT32_MAX);
    uint64_t mask = pcie_rc_read32(device, CFG_BAR(index)) & ~BAR_FLAGS;
    if (mask == 0 && !*is_64) {
        return 0;
    }
    uint64_t high = UINT32_MAX;
    if (*is_64) {
        pcie_rc_write32(device, CFG_BAR(index + 1), UINT32_MAX);
        high = pcie_rc_read32(device, CFG_BAR(index + 1));
    }
    mask |= high << 32;
    uint64_t size = ~mask + 1;
    return mask != 0 && is_power_of_two(size) ? size : 0;
}

/* Takes naturally aligned space; 0: does not fit. */
static uint64_t window_take(const struct pcie_ecam_window *window, uint64_t *next,
                            uint64_t len_bytes)
{
    uint64_t size = max_u64(len_bytes, BAR_MIN_BYTES);
    uint64_t base = align_up(*next, size);
    if (base < *next || !range_fits(base - window->base, size, window->len_bytes)) {
        return 0;
    }
    *next = base + size;
    return base;
}

static bool bar_assign(struct pcie_rc_device *device, uint32_t index, uint64_t size, bool is_64)
{
    uint64_t base = 0;
    if (is_64) {
        base = window_take(&rc.params.memory64, &rc.next64, size);
    }
    if (base == 0) {
        base = window_take(&rc.params.memory32, &rc.next32, size);
    }
    pcie_rc_write32(device, CFG_BAR(index), (uint32_t)base);
    if (is_64) {
        pcie_rc_write32(device, CFG_BAR(index + 1), (uint32_t)(base >> 32));
    }
    device->bar[index].len_bytes = size;
    if (base == 0) {
        LOG_ERROR("pcie: %02x:%02x.%u BAR%u of 0x%llx bytes does not fit the windows", device->bus,
                  device->device, device->function, (unsigned)index, (unsigned long long)size);
        return false;
    }
    enum status status = rc.params.map(base, align_up(size, BAR_MIN_BYTES), device->vendor_id,
                                       device->device_id, index);
    if (status != STATUS_OK) {
        LOG_ERROR("pcie: %02x:%02x.%u BAR%u cannot be mapped: %s", device->bus, device->device,
                  device->function, (unsigned)index, status_text(status));
        return false;
    }
    device->bar[index].bus_addr = base;
    return true;
}

static bool bars_assign(struct pcie_rc_device *device)
{
    bool all_fit = true;
    bool is_64;
    for (uint32_t i = 0; i < BAR_COUNT; i += is_64 ? 2 : 1) {
        uint64_t size = bar_size(device, i, &is_64);
        if (size != 0) {
            all_fit = bar_assign(device, i, size, is_64) && all_fit;
        }
    }
    return all_fit;
}

/* --- enumeration ------------------------------------------------------------------------------ */

static uint16_t capability_find(const struct pcie_rc_device *device, uint8_t id)
{
    if ((pcie_rc_read32(device, CFG_COMMAND) & STATUS_CAPABILITIES) == 0) {
        return 0;
    }
    uint16_t at = pcie_rc_read32(device, CFG_CAPABILITIES) & 0xfc;
    for (uint32_t i = 0; i < CAPABILITY_MAX && at >= 0x40; i++) {
        uint32_t head = pcie_rc_read32(device, at);
        if ((head & 0xff) == id) {
            return at;
        }
        at = head >> 8 & 0xfc;
    }
    return 0;
}

/* Takes the function into the table; false: something of it did not fit. */
static bool function_add(const struct pcie_rc_device *found, uint32_t header_type)
{
    LOG_INFO("pcie: %02x:%02x.%u %04x:%04x class %06x", found->bus, found->device, found->function,
             found->vendor_id, found->device_id, (unsigned)found->class_code);
    if (header_type != 0) {
        if (header_type == 1) {
            LOG_WARN("pcie: %02x:%02x.%u is a bridge: what is behind it stays unused", found->bus,
                     found->device, found->function);
        }
        return true;
    }
    if (found->class_code >> 16 == CLASS_BRIDGE) {
        return true; /* the root complex itself */
    }
    if (rc.device_count == PCIE_ECAM_MAX_DEVICES) {
        LOG_ERROR("pcie: more than %u devices", PCIE_ECAM_MAX_DEVICES);
        return false;
    }
    struct pcie_rc_device *device = &rc.devices[rc.device_count++];
    *device = *found;
    pcie_rc_enable(device, false, false); /* BARs move: nobody may decode meanwhile */
    device->msix_cap = capability_find(device, CAPABILITY_MSIX);
    return bars_assign(device);
}

/* False when there is no function. */
static bool function_probe(struct pcie_rc_device *found, uint32_t *header)
{
    uint32_t id = pcie_rc_read32(found, CFG_ID);
    found->vendor_id = (uint16_t)id;
    found->device_id = (uint16_t)(id >> 16);
    if (found->vendor_id == 0xffff || found->vendor_id == 0) {
        return false;
    }
    found->class_code = pcie_rc_read32(found, CFG_CLASS) >> 8;
    *header = pcie_rc_read32(found, CFG_HEADER);
    return true;
}

enum status pcie_ecam_init(const struct pcie_ecam_params *params)
{
    if (params->ecam_bytes < DEVICES * DEVICE_STRIDE || params->map == NULL) {
        return STATUS_INVALID;
    }
    rc.params = *params;
    rc.next32 = max_u64(params->memory32.base, BAR_MIN_BYTES); /* address 0 means: not assigned */
    rc.next64 = max_u64(params->memory64.base, BAR_MIN_BYTES);
    rc.device_count = 0;

    bool all_fit = true;
    for (uint32_t slot = 0; slot < DEVICES; slot++) {
        uint32_t function_count = 1;
        for (uint32_t function = 0; function < function_count; function++) {
            struct pcie_rc_device found = {
                .bus = params->bus, .device = (uint8_t)slot, .function = (uint8_t)function};
            uint32_t header;
            if (!function_probe(&found, &header)) {
                continue;
            }
            if (function == 0 && (header & HEADER_MULTI) != 0) {
                function_count = FUNCTIONS;
            }
            all_fit = function_add(&found, (uint32_t)FIELD_GET(HEADER_TYPE, header)) && all_fit;
        }
    }
    return all_fit ? STATUS_OK : STATUS_NO_SPACE;
}

/* --- MSI-X ------------------------------------------------------------------------------------ */

/* Where the table entry lies; base 0: the device describes it wrongly. */
static struct mmio msix_entry(const struct pcie_rc_device *device, uint16_t vector)
{
    uint32_t table = pcie_rc_read32(device, (uint16_t)(device->msix_cap + MSIX_TABLE));
    uint32_t bar = table & MSIX_BIR_MASK;
    uint64_t offset = (table & ~MSIX_BIR_MASK) + (uint64_t)vector * MSIX_ENTRY_BYTES;
    if (bar >= BAR_COUNT || device->bar[bar].bus_addr == 0 ||
        !range_fits(offset, MSIX_ENTRY_BYTES, device->bar[bar].len_bytes)) {
        return (struct mmio){0};
    }
    return (struct mmio){(uintptr_t)(device->bar[bar].bus_addr + offset)};
}

enum status pcie_rc_msix(const struct pcie_rc_device *device, uint16_t vector, uint32_t core,
                         void (*handler)(void *arg), void *arg)
{
    if (device->msix_cap == 0) {
        return STATUS_UNSUPPORTED;
    }
    uint32_t control = pcie_rc_read32(device, device->msix_cap);
    struct mmio entry = msix_entry(device, vector);
    if (vector > FIELD_GET(MSIX_SIZE, control) || entry.base == 0) {
        return STATUS_UNSUPPORTED;
    }
    struct irq_msi msi;
    if (irq_msi_attach(core, handler, arg, &msi) != STATUS_OK) {
        return STATUS_UNSUPPORTED;
    }
    /* The table answers only while memory decoding is on; enabled but masked as a whole meanwhile.
     */
    uint32_t command = pcie_rc_read32(device, CFG_COMMAND) & 0xffff;
    pcie_rc_write32(device, CFG_COMMAND, command | COMMAND_MEMORY);
    pcie_rc_write32(device, device->msix_cap,
                    control | MSIX_CONTROL_ENABLE | MSIX_CONTROL_MASK_ALL);
    mmio_write32(entry, 0, (uint32_t)msi.bus_addr);
    mmio_write32(entry, 4, (uint32_t)(msi.bus_addr >> 32));
    mmio_write32(entry, 8, msi.data);
    mmio_write32(entry, 12, mmio_read32(entry, 12) & ~MSIX_ENTRY_MASKED);
    barrier_full_system();
    pcie_rc_write32(device, device->msix_cap,
                    (control | MSIX_CONTROL_ENABLE) & ~MSIX_CONTROL_MASK_ALL);
    return STATUS_OK;
}
