/*
 * PCIe root complex with the Enhanced Configuration Access Mechanism (PCI Express Base 7.2.2) and
 * nothing else of its own: what a device tree calls pci-host-ecam-generic. Supplies hal/pcie_rc.h.
 *
 * Finds the functions of the root bus, gives each memory BAR an address in the windows, programs
 * MSI-X. Leaves out: devices behind bridges (logged), I/O BARs, hot plug, resizable BARs, AER.
 */
#ifndef DRIVERS_PCIE_ECAM_H
#define DRIVERS_PCIE_ECAM_H

#include <stdint.h>
#include "base/status.h"

/* Functions that are remembered; more are logged and left alone. */
#define PCIE_ECAM_MAX_DEVICES 32u

/* A range of addresses for BARs, the same on the bus as for the cores. */
struct pcie_ecam_window {
    uint64_t base;
    uint64_t len_bytes; /* 0: none */
};

/* Makes a BAR that got its address visible to the cores, before anyone uses it. */
typedef enum status pcie_ecam_map_fn(uint64_t base, uint64_t len_bytes, uint16_t vendor_id,
                                     uint16_t device_id, uint32_t bar);

struct pcie_ecam_params {
    uintptr_t ecam;      /* configuration space of `bus`, mapped as device */
    uint64_t ecam_bytes; /* 1 MiB per bus */
    uint8_t bus;         /* the root bus */
    struct pcie_ecam_window memory32;
    struct pcie_ecam_window memory64;
    pcie_ecam_map_fn *map;
};

/* Enumerates. All devices have memory decoding and bus mastering off afterwards. Core 0, once.
 * INVALID: params. NO_SPACE: some BAR or device did not fit (logged; the others work). */
MUST_USE enum status pcie_ecam_init(const struct pcie_ecam_params *params);

#endif
