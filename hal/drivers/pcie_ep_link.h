/*
 * The pcie_ep contract over a link block (spec/link.h): the same driver on the native board and on
 * qemu-virt. What differs between boards comes in as parameters.
 *
 * The block and everything in it is checked when it is read: the other end may be wrong.
 * Leaves out: finding the block (hal/drivers/ivshmem.c, hal/native/pcie_ep_native.c).
 */
#ifndef DRIVERS_PCIE_EP_LINK_H
#define DRIVERS_PCIE_EP_LINK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/limits.h"
#include "base/status.h"
#include "hal/pcie_ep.h"
#include "spec/link.h"

struct pcie_ep_link_params {
    const char *name;   /* for people; stays valid */
    void *block;        /* link block of the function, LINK_BLOCK_BYTES, 4 KiB aligned */
    uint8_t *doorbells; /* LINK_DOORBELL_BYTES; NULL: those inside the block */
    uint64_t bus_base;  /* address on the NIC's bus of what windows call target 0 */
    uint64_t bus_bytes; /* targets lie in [0, bus_bytes); UINT64_MAX: anywhere */
    void *ctx;          /* for the two functions */

    /* Signals vector `vector` of peer `peer`; stores made before are seen before. Any core. */
    void (*raise)(void *ctx, uint32_t peer, uint32_t vector);

    /* Wakes the other end: it looks at hello, ready and the acknowledgements. Any core. */
    void (*notify)(void *ctx);

    uint64_t hello_timeout_ns; /* how long the other end may take to answer */

    /* Goes on in place of the NIC that said hello last, without the other end's notice: its events
     * wait in the ring. NOT_FOUND when there is none that the other end serves. */
    bool resume;
};

struct pcie_ep_link {
    struct pcie_ep ep; /* first: the contract's handle */
    struct pcie_ep_link_params params;
    struct link_host_page *host;
    struct link_nic_page *nic;
    struct link_event *events;
    uint32_t epoch;
    _Atomic uint32_t raise_to; /* peer << 16 | first */
    _Atomic uint32_t live[(LIMIT_VECTORS + 31) / 32];
    uint32_t arm_count[LIMIT_CORES];   /* each written by its core alone */
    _Atomic uint32_t bad_event_count;  /* records that failed their check */
    _Atomic uint32_t bad_window_count; /* windows that were not taken over */
};

/* Attaches to the block: says hello, waits for the answer. Then ep is usable; events arrive after
 * pcie_ep_ready(). Control core, at start, also after a warm reset.
 * INVALID: params. BAD_DATA: not a link block, or one of another version or geometry.
 * TIMED_OUT: the other end did not answer. NOT_FOUND: nothing to resume. */
MUST_USE enum status pcie_ep_link_init(struct pcie_ep_link *link,
                                       const struct pcie_ep_link_params *params);

#endif
