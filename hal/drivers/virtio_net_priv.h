/*
 * What the data path (virtio_net.c) and the start (virtio_net_start.c) share.
 */
#ifndef DRIVERS_VIRTIO_NET_PRIV_H
#define DRIVERS_VIRTIO_NET_PRIV_H

#include <stddef.h>
#include "base/counter.h"
#include "hal/drivers/virtio_net.h"

#define HDR_BYTES     ((uint32_t)sizeof(struct virtio_net_hdr))
#define ETH_HDR_BYTES 14u
#define VLAN_BYTES    4u

/* A received frame's header starts here in its buffer. So the frame's IP header, behind 12 and 14
 * bytes, is aligned to 8, and what follows 40 bytes later (IPv4, UDP, BTH: the payload of a RoCEv2
 * packet in the middle of a message) to 16. */
#define RX_PAD_BYTES 14u
_Static_assert((RX_PAD_BYTES + sizeof(struct virtio_net_hdr) + ETH_HDR_BYTES) % 4 == 0,
               "hal/eth.h: data + 14 is aligned to 4");
_Static_assert(sizeof(struct virtio_net_hdr) <= ETH_TX_HEADROOM_BYTES,
               "the packet header fits the headroom");

#define CONFIG(field) ((uint32_t)offsetof(struct virtio_net_config, field))

ALWAYS_INLINE void virtio_net_set_needs_look(struct virtio_net *net, bool needs_look)
{
    /* The owner's own notes to itself: no order needed (on_config() sets it otherwise). */
    atomic_store_explicit(&net->needs_look, needs_look, memory_order_relaxed);
}

ALWAYS_INLINE bool virtio_net_needs_look(const struct virtio_net *net)
{
    return atomic_load_explicit(&net->needs_look, memory_order_relaxed);
}

ALWAYS_INLINE uint8_t *virtio_net_buffer(const struct virtio_net *net, uint32_t id)
{
    return net->buffers + (uint64_t)id * net->buffer_bytes + RX_PAD_BYTES;
}

ALWAYS_INLINE void virtio_net_post(struct virtio_net *net, uint32_t id)
{
    net->is_posted[id] = true;
    virtq_push(&net->rx, (uint16_t)id);
}

/* Kicks of this queue are counted, too: they cost the same. */
ALWAYS_INLINE void virtio_net_publish_posted(struct virtio_net *net)
{
    /* VIRTQ-REFILL: our loads from the buffers are done before the device may fill them again (a
     * load barrier orders loads before it against the stores after it); partner: the device. */
    barrier_after_device_read();
    if (virtq_publish(&net->rx)) {
        counter_add(&net->port.stats.tx_kick_count, 1);
    }
}

ALWAYS_INLINE void virtio_net_update_room(struct virtio_net *net)
{
    net->port.tx_room_count = net->free_count / ETH_TX_SEGS;
}

extern const struct eth_ops virtio_net_ops;

/* Link state, DEVICE_NEEDS_RESET. Owner. */
void virtio_net_look_at_config(struct virtio_net *net);

/* A port that is DOWN comes up again, when all is reaped and the time has come; or it is DEAD.
 * Owner, with no frame lent. */
void virtio_net_restart(struct virtio_net *net);

#endif
