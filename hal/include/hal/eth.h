/*
 * An Ethernet port: frames in and out, polled. On qemu-virt hal/drivers/virtio_net.c, natively
 * hal/native/eth_dgram.c; a port to silicon writes this driver once more.
 *
 * A port belongs to one core, its owner; every call is made there. Frames are whole, from the
 * destination address to the last byte of payload: no FCS, no padding needed, one VLAN tag is
 * content. Leaves out: offloads, several queues (a core more takes a port more), filters: a port
 * hands up whatever the wire brings, multicast included.
 */
#ifndef HAL_ETH_H
#define HAL_ETH_H

#include <stdbool.h>
#include <stdint.h>
#include "base/compiler.h"
#include "base/mem_ref.h"
#include "base/status.h"

#define ETH_ADDR_BYTES 6

/* In front of the first segment of a frame to send so much memory is the driver's to write. */
#define ETH_TX_HEADROOM_BYTES 16

/* Segments of a frame to send. */
#define ETH_TX_SEGS 8

/* A frame to send. The device reads the segments until the frame is reaped: they may lie in NIC
 * memory or in host memory (bus addresses), the first one in NIC memory and at least 14 bytes. */
struct eth_tx {
    const struct mem_seg *segs; /* read before tx() returns; what they point at: until reaped */
    uint32_t seg_count;         /* 1..ETH_TX_SEGS */
    uint32_t len_bytes;         /* sum, at least 14, at most the port's mtu_bytes + 18 */
    void *cookie;               /* comes back by reap(); not NULL */
};

/* A frame that was received, contiguous and in NIC memory. */
struct eth_rx {
    uint8_t *data; /* ours until rx_done(); may be written; data + 14 is 4-byte aligned */
    uint32_t len_bytes;
};

struct eth_port;

struct eth_ops {
    enum status (*tx)(struct eth_port *port, const struct eth_tx *frame);
    void (*tx_flush)(struct eth_port *port);
    uint32_t (*tx_reap)(struct eth_port *port, void **cookies, uint32_t max);
    uint32_t (*rx)(struct eth_port *port, struct eth_rx *frames, uint32_t max);
    void (*rx_done)(struct eth_port *port, uint32_t count);
    bool (*arm)(struct eth_port *port, bool armed);
};

/* Since start; the owner core writes, any core reads (base/counter.h). */
struct eth_stats {
    _Atomic uint64_t tx_count;
    _Atomic uint64_t tx_bytes;
    _Atomic uint64_t tx_full_count; /* tx() said AGAIN */
    _Atomic uint64_t tx_drop_count; /* taken, but lost: no peer, or the device broke */
    _Atomic uint64_t tx_kick_count; /* the device was told: exits, on an emulated board */
    _Atomic uint64_t rx_count;
    _Atomic uint64_t rx_bytes;
    _Atomic uint64_t rx_error_count; /* what the device gave was no frame; dropped */
};

/* The driver embeds this as its first member and fills all fields before anyone sees it. */
struct eth_port {
    const struct eth_ops *ops;
    const char *name;
    uint8_t addr[ETH_ADDR_BYTES];
    uint16_t mtu_bytes;     /* payload of an untagged frame, at most: 1500, 4200, 9000 ... */
    uint32_t tx_room_count; /* frames that tx() takes for sure, whatever their segments; driver's */
    bool link_up;           /* the driver keeps it; a change is seen by who looks */
    struct eth_stats stats;
};

/* Hands a frame to the device; it may wait for tx_flush() there. Frames leave in order.
 * AGAIN: the ring is full; reaping makes room. INVALID: lengths or segment count out of range. */
MUST_USE ALWAYS_INLINE enum status eth_tx(struct eth_port *port, const struct eth_tx *frame)
{
    return port->ops->tx(port, frame);
}

/* Makes sure that the device looks at what was handed over: once per batch. */
ALWAYS_INLINE void eth_tx_flush(struct eth_port *port)
{
    port->ops->tx_flush(port);
}

/* Cookies of frames that the device no longer reads, at most `max`, in any order. */
ALWAYS_INLINE uint32_t eth_tx_reap(struct eth_port *port, void **cookies, uint32_t max)
{
    return port->ops->tx_reap(port, cookies, max);
}

/* Received frames, oldest first, at most `max` (the call for those before must be done). */
ALWAYS_INLINE uint32_t eth_rx(struct eth_port *port, struct eth_rx *frames, uint32_t max)
{
    return port->ops->rx(port, frames, max);
}

/* Gives the `count` frames of the last eth_rx() back to the device. */
ALWAYS_INLINE void eth_rx_done(struct eth_port *port, uint32_t count)
{
    port->ops->rx_done(port, count);
}

/* armed: from the return on, a frame that arrives wakes the calling core, the owner (hal/cpu.h).
 * True: one is there already, do not sleep. Not armed: no more interrupts wanted; the result is
 * false. */
MUST_USE ALWAYS_INLINE bool eth_arm(struct eth_port *port, bool armed)
{
    return port->ops->arm(port, armed);
}

#endif
