/*
 * An Ethernet port (hal/eth.h) on a modern virtio network device: QEMU's virtio-net-pci, or
 * hardware that speaks it.
 *
 * One queue each way, split rings, suppression of notifications both ways (EVENT_IDX), no copy:
 * segments of a frame to send become descriptors as they are, the packet header stands in the
 * headroom of the first one. Leaves out: offloads, mergeable buffers, the control queue (so the
 * device stays promiscuous, as hal/eth.h wants), several queue pairs, the legacy interface.
 * Source: VIRTIO 1.2, sections 2.7, 4.1 and 5.1.
 *
 * What the device says is checked. A received length out of range: the frame is counted
 * (rx_error_count) and dropped. An index that it was never given, more entries than it was given,
 * or DEVICE_NEEDS_RESET: the device is broken. Then the link goes down, the device is reset, frames
 * that it had are reaped as if sent and counted (tx_drop_count), and as soon as they are, at most
 * once a second, the port starts again. If the device does not let itself be reset, the memory of
 * those frames stays its own.
 *
 * Interrupts: MSI-X vector 0 for changes of configuration, vector 1 for received frames. Both are
 * core 0's, which wakes the owner: the core that armed last. A device or board without them:
 * eth_arm() always says true, so that the owner goes on polling.
 */
#ifndef DRIVERS_VIRTIO_NET_H
#define DRIVERS_VIRTIO_NET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/status.h"
#include "hal/drivers/virtio.h"
#include "hal/eth.h"

/* Entries of a ring that are used, if the device has so many; it must have at least the smaller
 * number. */
#define VIRTIO_NET_RING_MAX 1024u
#define VIRTIO_NET_RING_MIN 16u

/* Largest MTU taken from the device; one that offers more is used with that of Ethernet, 1500. */
#define VIRTIO_NET_MTU_MAX 9216u

#define VIRTIO_NET_STATE_LIST(X)                                                      \
    X(CLOSED, "not started")                                                          \
    X(UP, "the device works")                                                         \
    X(RESETTING, "broken: a reset was asked for, memory is still the device's")       \
    X(DOWN, "reset: waits for its frames to be reaped and for the time of a restart") \
    X(DEAD, "could not be started again")

enum virtio_net_state {
#define VIRTIO_NET_STATE_ENUM(name, text) VIRTIO_NET_##name,
    VIRTIO_NET_STATE_LIST(VIRTIO_NET_STATE_ENUM)
#undef VIRTIO_NET_STATE_ENUM
};

/* A descriptor of the sending side; of a frame the first one holds what belongs to the frame. */
struct virtio_net_slot {
    void *cookie;  /* NULL: does not begin a frame that is under way */
    uint16_t next; /* in the frame, or among the free ones */
    uint16_t last; /* descriptor of the frame */
    uint16_t count;
    uint16_t reserved;
};

struct virtio_net {
    struct eth_port port; /* first */
    struct virtio_device dev;
    struct virtq rx;
    struct virtq tx;
    enum virtio_net_state state;
    bool has_irq;
    _Atomic bool needs_look; /* the device's configuration changed; set by its interrupt */

    struct virtio_net_slot *slots; /* one for each descriptor of tx */
    uint32_t free_count;           /* of these ... */
    uint16_t free_head;            /* ... a chain */

    uint8_t *buffers; /* one for each descriptor of rx, buffer_bytes apart */
    uint32_t buffer_bytes;
    uint32_t frame_max_bytes;
    bool *is_posted; /* the device has the buffer */
    uint16_t *lent;  /* buffers that the last eth_rx() handed up */
    uint32_t lent_count;

    uint32_t rx_size; /* entries of the rings */
    uint32_t tx_size;
    _Atomic uint32_t core; /* that armed last: the owner */
    void *memory;
    uint64_t restart_ns;          /* not before */
    _Atomic uint64_t break_count; /* the device was found broken */
};

/* The `nth` (from 0) virtio network device, NULL past the last. */
const struct pcie_rc_device *virtio_net_device(uint32_t nth);

/* Resets the device, reads what it is, fills net->port. `name` is kept. Core 0, at start.
 * UNSUPPORTED: a legacy device, no address, rings too small, or it does not like our choice of
 * features. BAD_DATA, TIMED_OUT: as virtio_open(). */
MUST_USE enum status virtio_net_open(struct virtio_net *net, const struct pcie_rc_device *device,
                                     const char *name);

/* What the open port needs. */
uint64_t virtio_net_memory_bytes(const struct virtio_net *net);

/* Gives the port its memory (devices reach it, content undefined, aligned to CACHE_LINE_BYTES; for
 * ever) and starts it. Core 0, at start; then the port is its owner's.
 * UNSUPPORTED, BAD_DATA, INVALID: the device contradicts itself; it is FAILED. */
MUST_USE enum status virtio_net_start(struct virtio_net *net, void *memory);

#endif
