/*
 * See ivshmem.h.
 */
#include "hal/drivers/ivshmem.h"

#include <stddef.h>
#include "hal/cpu.h"

#define IVSHMEM_VENDOR_ID 0x1af4u
#define IVSHMEM_DEVICE_ID 0x1110u

/* Registers of BAR0, 32 bit. */
#define IVSHMEM_REG_POSITION 0x08u
#define IVSHMEM_REG_DOORBELL 0x0cu /* peer in the upper, vector in the lower half */
#define IVSHMEM_REGS_BYTES   0x100u

/* The plain variant has no MSI-X (and uses no interrupt). */
static bool is_wanted(const struct pcie_rc_device *device, bool has_doorbell)
{
    return device->vendor_id == IVSHMEM_VENDOR_ID && device->device_id == IVSHMEM_DEVICE_ID &&
           (device->msix_cap != 0) == has_doorbell;
}

enum status ivshmem_find(uint32_t nth, bool has_doorbell, struct ivshmem *out)
{
    const struct pcie_rc_device *device;

    for (uint32_t i = 0; (device = pcie_rc_device(i)) != NULL; i++) {
        if (is_wanted(device, has_doorbell) && nth-- == 0) {
            break;
        }
    }
    if (device == NULL) {
        return STATUS_NOT_FOUND;
    }
    if (device->bar[0].bus_addr == 0 || device->bar[0].len_bytes < IVSHMEM_REGS_BYTES ||
        device->bar[2].bus_addr == 0 || device->bar[2].len_bytes == 0) {
        return STATUS_BAD_DATA;
    }
    *out = (struct ivshmem){
        .device = device,
        .regs = {.base = (uintptr_t)device->bar[0].bus_addr},
        .memory_addr = device->bar[2].bus_addr,
        .memory_bytes = device->bar[2].len_bytes,
        .has_doorbell = has_doorbell,
    };
    /* Bus mastering: message signalled interrupts are writes of the device. */
    pcie_rc_enable(device, true, has_doorbell);
    return STATUS_OK;
}

int32_t ivshmem_own_id(const struct ivshmem *ivshmem)
{
    return (int32_t)mmio_read32(ivshmem->regs, IVSHMEM_REG_POSITION);
}

void ivshmem_ring(const struct ivshmem *ivshmem, uint32_t peer, uint32_t vector)
{
    mmio_write32(ivshmem->regs, IVSHMEM_REG_DOORBELL, (peer & 0xffff) << 16 | (vector & 0xff));
}

static void wake_core(void *arg)
{
    cpu_wake((uint32_t)(uintptr_t)arg);
}

enum status ivshmem_wake_cores(const struct ivshmem *ivshmem, uint32_t core_count)
{
    for (uint32_t core = 0; core < core_count; core++) {
        enum status status =
            pcie_rc_msix(ivshmem->device, (uint16_t)core, core, wake_core, (void *)(uintptr_t)core);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}
