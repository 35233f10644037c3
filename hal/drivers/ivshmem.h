/*
 * QEMU's ivshmem devices (qemu: docs/specs/ivshmem-spec.rst): shared memory in BAR2, with peers'
 * doorbells in BAR0 for the ivshmem-doorbell variant. On qemu-virt the link block lies in such a
 * one and the host's RAM in a plain one. Leaves out: INTx, the memory's meaning
 * (hal/drivers/pcie_ep_link.c).
 */
#ifndef DRIVERS_IVSHMEM_H
#define DRIVERS_IVSHMEM_H

#include <stdbool.h>
#include <stdint.h>
#include "base/status.h"
#include "hal/mmio.h"
#include "hal/pcie_rc.h"

struct ivshmem {
    const struct pcie_rc_device *device;
    struct mmio regs;     /* BAR0 */
    uint64_t memory_addr; /* BAR2, bus address */
    uint64_t memory_bytes;
    bool has_doorbell; /* ivshmem-doorbell: peers and vectors; else plain memory */
};

/* Finds the `nth` (from 0) ivshmem device with or without doorbell and lets it answer.
 * NOT_FOUND: fewer of them. BAD_DATA: a BAR has no address or is too small. Core 0, at start. */
MUST_USE enum status ivshmem_find(uint32_t nth, bool has_doorbell, struct ivshmem *out);

/* Our own id among the peers, or -1 as long as the server has not given one. */
int32_t ivshmem_own_id(const struct ivshmem *ivshmem);

/* Signals vector `vector` (0..255) of peer `peer` (0..65535). One store; order against memory
 * before it is the caller's. Dropped by the device when there is no such peer or vector. Any core.
 */
void ivshmem_ring(const struct ivshmem *ivshmem, uint32_t peer, uint32_t vector);

/* From now on a signal to our own vector n wakes core n (cpu_wake() in interrupt context), for n
 * below `core_count`. As pcie_rc_msix(). Core 0, at start. */
MUST_USE enum status ivshmem_wake_cores(const struct ivshmem *ivshmem, uint32_t core_count);

#endif
