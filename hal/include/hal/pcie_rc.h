/*
 * PCIe root complex of the NIC: the devices behind it (drives, Ethernet, the link to the host).
 * The board enumerates and assigns BARs at start; drivers find their device here.
 */
#ifndef HAL_PCIE_RC_H
#define HAL_PCIE_RC_H

#include <stdbool.h>
#include <stdint.h>
#include "base/status.h"
#include "hal/mmio.h"

struct pcie_rc_device {
    uint8_t bus;
    uint8_t device;
    uint8_t function;
    uint16_t vendor_id;
    uint16_t device_id;
    uint32_t class_code; /* 24 bits: base class, sub class, programming interface */
    struct {
        uint64_t bus_addr;  /* 0: not assigned */
        uint64_t len_bytes; /* 0: no such BAR, or upper half of a 64-bit one */
    } bar[6];
    uint16_t msix_cap; /* offset of the capability, 0 when there is none */
};

/* The `index`-th device found, in bus order; NULL past the last. Valid for ever. */
const struct pcie_rc_device *pcie_rc_device(uint32_t index);

/* Configuration space; `offset` is aligned to the width. Core 0 only. */
uint32_t pcie_rc_read32(const struct pcie_rc_device *device, uint16_t offset);
void pcie_rc_write32(const struct pcie_rc_device *device, uint16_t offset, uint32_t value);
/* For registers that understand only their own width. */
void pcie_rc_write16(const struct pcie_rc_device *device, uint16_t offset, uint16_t value);
void pcie_rc_write8(const struct pcie_rc_device *device, uint16_t offset, uint8_t value);

/* Lets the device answer on its BARs and do DMA, or stops it. */
void pcie_rc_enable(const struct pcie_rc_device *device, bool memory, bool bus_master);

/* Programs MSI-X entry `vector` to call `handler(arg)` on `core`, in interrupt context.
 * UNSUPPORTED: no MSI-X or no interrupt left. */
MUST_USE enum status pcie_rc_msix(const struct pcie_rc_device *device, uint16_t vector,
                                  uint32_t core, void (*handler)(void *arg), void *arg);

#endif
