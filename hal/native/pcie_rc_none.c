/*
 * The native board has no root complex of its own: no drives, no other devices.
 */
#include "hal/pcie_rc.h"

#include "base/assert.h"

const struct pcie_rc_device *pcie_rc_device(uint32_t index)
{
    (void)index;
    return NULL;
}

uint32_t pcie_rc_read32(const struct pcie_rc_device *device, uint16_t offset)
{
    panic("pcie_rc_read32(%p, 0x%x): there is no device", (const void *)device, offset);
}

void pcie_rc_write32(const struct pcie_rc_device *device, uint16_t offset, uint32_t value)
{
    panic("pcie_rc_write32(%p, 0x%x, 0x%x): there is no device", (const void *)device, offset,
          value);
}

void pcie_rc_enable(const struct pcie_rc_device *device, bool memory, bool bus_master)
{
    panic("pcie_rc_enable(%p, %d, %d): there is no device", (const void *)device, memory,
          bus_master);
}

enum status pcie_rc_msix(const struct pcie_rc_device *device, uint16_t vector, uint32_t core,
                         void (*handler)(void *arg), void *arg)
{
    (void)device;
    (void)vector;
    (void)core;
    (void)handler;
    (void)arg;
    return STATUS_UNSUPPORTED;
}
