/*
 * See virtio_net.h: frames out and in, and what happens when the device breaks.
 */
#include "hal/drivers/virtio_net_priv.h"

#include <string.h>
#include "base/assert.h"
#include "base/bits.h"
#include "base/counter.h"
#include "base/log.h"
#include "hal/cpu.h"

static struct virtio_net *net_of(struct eth_port *port)
{
    return CONTAINER_OF(port, struct virtio_net, port);
}

/* --- broken devices and changes ----------------------------------------------------------------
 */

/* The device did what none may do. Its memory is its own until the reset has happened. */
COLD static void break_device(struct virtio_net *net, const char *why)
{
    LOG_LIMITED(ERROR, "virtio_net: %s: %s: reset", net->port.name, why);
    counter_add(&net->break_count, 1);
    net->port.link_up = false;
    net->state = VIRTIO_NET_RESETTING;
    virtio_reset(&net->dev);
    virtio_net_set_needs_look(net, true); /* until it is up again */
}

void virtio_net_look_at_config(struct virtio_net *net)
{
    virtio_net_set_needs_look(net, false); /* first: a change while we look is seen later */
    if ((virtio_status(&net->dev) & VIRTIO_STATUS_NEEDS_RESET) != 0) {
        break_device(net, "needs reset");
        return;
    }
    bool is_up = true;
    if ((net->dev.features & VIRTIO_NET_F_STATUS) != 0) {
        uint16_t status = mmio_read16(net->dev.config, CONFIG(status));
        is_up = (status & VIRTIO_NET_STATUS_LINK_UP) != 0;
    }
    if (is_up != net->port.link_up) {
        LOG_LIMITED(INFO, "virtio_net: %s: link %s", net->port.name, is_up ? "up" : "down");
    }
    net->port.link_up = is_up;
}

static void look_at_reset(struct virtio_net *net)
{
    if (net->state == VIRTIO_NET_RESETTING && virtio_is_reset(&net->dev)) {
        net->state = VIRTIO_NET_DOWN;
    }
}

/* --- sending -----------------------------------------------------------------------------------
 */

/* Takes the chain from the free ones; its links are theirs. */
ALWAYS_INLINE void slots_take(struct virtio_net *net, uint16_t last, uint32_t count, void *cookie)
{
    struct virtio_net_slot *first = &net->slots[net->free_head];

    first->cookie = cookie;
    first->last = last;
    first->count = (uint16_t)count;
    net->free_head = net->slots[last].next;
    net->free_count -= count;
    virtio_net_update_room(net);
}

/* Gives the chain back; returns its cookie. */
ALWAYS_INLINE void *slots_free(struct virtio_net *net, uint16_t head)
{
    struct virtio_net_slot *first = &net->slots[head];
    void *cookie = first->cookie;

    first->cookie = NULL;
    net->slots[first->last].next = net->free_head;
    net->free_head = head;
    net->free_count += first->count;
    return cookie;
}

/* All zero: no checksum, no segmentation (5.1.6.2). Frames in memory mostly lie so that what
 * follows their 14 bytes is aligned to 4: the header then begins at 2 modulo 4. */
ALWAYS_INLINE void write_header(uint64_t addr)
{
    uint8_t *at = mem_bus_ptr(addr);

    if (LIKELY((addr & 3) == 2)) {
        shm_store16(at, 0);
        shm_store32(at + 2, 0);
        shm_store32(at + 6, 0);
        shm_store16(at + 10, 0);
        return;
    }
    for (uint32_t i = 0; i < HDR_BYTES; i++) {
        shm_store8(at + i, 0);
    }
}

ALWAYS_INLINE bool is_sendable(const struct eth_port *port, const struct eth_tx *frame)
{
    return frame->seg_count - 1 < ETH_TX_SEGS && frame->len_bytes >= ETH_HDR_BYTES &&
           frame->len_bytes <= port->mtu_bytes + ETH_HDR_BYTES + VLAN_BYTES &&
           frame->segs[0].len_bytes >= ETH_HDR_BYTES && frame->cookie != NULL;
}

/* Fills free descriptors, which stay free, with the segments; the header stands in front of the
 * first (VERSION_1: 2.7.4.1, framing is free). False: a segment is empty or the sum is wrong. */
ALWAYS_INLINE bool fill_chain(struct virtio_net *net, const struct eth_tx *frame, uint16_t *last)
{
    const struct mem_seg *seg = frame->segs;
    const struct mem_seg *end = seg + frame->seg_count;
    uint32_t left_bytes = frame->len_bytes - seg->len_bytes;
    struct virtq_desc *desc = &net->tx.desc[net->free_head];

    desc->addr = seg->bus_addr - HDR_BYTES;
    desc->len_bytes = seg->len_bytes + HDR_BYTES;
    *last = net->free_head;
    while (++seg != end) {
        if (UNLIKELY(seg->len_bytes - 1 >= left_bytes)) {
            return false;
        }
        left_bytes -= seg->len_bytes;
        desc->flags = VIRTQ_DESC_NEXT;
        desc->next = net->slots[*last].next;
        *last = desc->next;
        desc = &net->tx.desc[*last];
        desc->addr = seg->bus_addr;
        desc->len_bytes = seg->len_bytes;
    }
    desc->flags = 0;
    return left_bytes == 0;
}

/* No device takes the frame: its cookie is kept for reaping. */
COLD NOINLINE static enum status tx_lost(struct virtio_net *net, const struct eth_tx *frame)
{
    if (net->free_count == 0) {
        counter_add(&net->port.stats.tx_full_count, 1);
        return STATUS_AGAIN;
    }
    slots_take(net, net->free_head, 1, frame->cookie);
    return STATUS_OK;
}

static enum status net_tx(struct eth_port *port, const struct eth_tx *frame)
{
    struct virtio_net *net = net_of(port);
    uint16_t head = net->free_head;
    uint16_t last;

    if (UNLIKELY(!is_sendable(port, frame))) {
        return STATUS_INVALID;
    }
    if (UNLIKELY(net->state != VIRTIO_NET_UP)) {
        return tx_lost(net, frame);
    }
    if (UNLIKELY(frame->seg_count > net->free_count)) {
        counter_add(&port->stats.tx_full_count, 1);
        return STATUS_AGAIN;
    }
    if (UNLIKELY(!fill_chain(net, frame, &last))) {
        return STATUS_INVALID;
    }
    write_header(frame->segs[0].bus_addr - HDR_BYTES);
    slots_take(net, last, frame->seg_count, frame->cookie);
    virtq_push(&net->tx, head);
    counter_add(&port->stats.tx_bytes, frame->len_bytes);
    return STATUS_OK;
}

static void net_tx_flush(struct eth_port *port)
{
    struct virtio_net *net = net_of(port);

    if (LIKELY(net->state == VIRTIO_NET_UP)) {
        counter_add(&port->stats.tx_count, virtq_unpublished(&net->tx));
        if (virtq_publish(&net->tx)) {
            counter_add(&port->stats.tx_kick_count, 1);
        }
    }
}

/* The device is gone: whatever there is was lost, once the device has let go of it. */
COLD static uint32_t reap_lost(struct virtio_net *net, void **cookies, uint32_t max)
{
    uint32_t count = 0;

    look_at_reset(net);
    if (net->state == VIRTIO_NET_RESETTING || net->free_count == net->tx_size) {
        return 0;
    }
    for (uint32_t i = 0; i < net->tx_size && count < max; i++) {
        if (net->slots[i].cookie != NULL) {
            cookies[count++] = slots_free(net, (uint16_t)i);
        }
    }
    counter_add(&net->port.stats.tx_drop_count, count);
    virtio_net_update_room(net);
    return count;
}

static uint32_t net_tx_reap(struct eth_port *port, void **cookies, uint32_t max)
{
    struct virtio_net *net = net_of(port);
    uint32_t count = 0;

    if (UNLIKELY(net->state != VIRTIO_NET_UP)) {
        return reap_lost(net, cookies, max);
    }
    uint32_t ready = virtq_ready(&net->tx);
    if (ready == 0) {
        return 0;
    }
    if (UNLIKELY(ready > virtq_given(&net->tx))) {
        break_device(net, "used more frames than it was given");
        return 0;
    }
    ready = min_u32(ready, max);
    while (count < ready) {
        uint32_t id = shm_load32(&virtq_take(&net->tx)->id);
        if (UNLIKELY(id >= net->tx_size || net->slots[id].cookie == NULL)) {
            break_device(net, "used a frame that it was not given");
            break;
        }
        cookies[count++] = slots_free(net, (uint16_t)id);
    }
    virtio_net_update_room(net);
    return count;
}

/* --- receiving ---------------------------------------------------------------------------------
 */

/* What seldom happens, as a step at a time. */
COLD static void service(struct virtio_net *net)
{
    switch (net->state) {
    case VIRTIO_NET_UP:
        virtio_net_look_at_config(net);
        break;
    case VIRTIO_NET_RESETTING:
        look_at_reset(net);
        break;
    case VIRTIO_NET_DOWN:
        virtio_net_restart(net);
        break;
    case VIRTIO_NET_CLOSED:
    case VIRTIO_NET_DEAD:
        break;
    }
}

/* Takes one used entry; false: it names no frame (then the buffer is posted again, or the device is
 * found broken). */
static bool take_frame(struct virtio_net *net, struct eth_rx *frame)
{
    const struct virtq_used_elem *elem = virtq_take(&net->rx);
    uint32_t id = shm_load32(&elem->id);

    if (UNLIKELY(id >= net->rx_size || !net->is_posted[id])) {
        counter_add(&net->port.stats.rx_error_count, 1);
        break_device(net, "filled a buffer that it was not given");
        return false;
    }
    /* A length below the two headers becomes a very large one. */
    uint32_t len_bytes = shm_load32(&elem->len_bytes) - HDR_BYTES;
    if (UNLIKELY(len_bytes - ETH_HDR_BYTES > net->frame_max_bytes - ETH_HDR_BYTES)) {
        counter_add(&net->port.stats.rx_error_count, 1);
        virtio_net_post(net, id);
        return false;
    }
    net->is_posted[id] = false;
    net->lent[net->lent_count++] = (uint16_t)id;
    frame->data = virtio_net_buffer(net, id) + HDR_BYTES;
    frame->len_bytes = len_bytes;
    PREFETCH_READ(frame->data);
    return true;
}

static uint32_t net_rx(struct eth_port *port, struct eth_rx *frames, uint32_t max)
{
    struct virtio_net *net = net_of(port);
    uint32_t count = 0;
    uint64_t bytes = 0;

    ASSERT(net->lent_count == 0);
    if (UNLIKELY(virtio_net_needs_look(net))) {
        service(net);
        if (net->state != VIRTIO_NET_UP) {
            return 0;
        }
    }
    uint32_t ready = virtq_ready(&net->rx);
    if (ready == 0) {
        return 0;
    }
    uint32_t given = virtq_given(&net->rx);
    if (UNLIKELY(ready > given)) {
        break_device(net, "filled more buffers than it was given");
        return 0;
    }
    for (; ready != 0 && count < max && net->state == VIRTIO_NET_UP; ready--) {
        if (LIKELY(take_frame(net, &frames[count]))) {
            bytes += frames[count++].len_bytes;
        }
    }
    if (UNLIKELY(virtq_unpublished(&net->rx) != 0 && net->state == VIRTIO_NET_UP)) {
        virtio_net_publish_posted(net); /* buffers of bad frames */
    }
    counter_add(&port->stats.rx_count, count);
    counter_add(&port->stats.rx_bytes, bytes);
    return count;
}

static void net_rx_done(struct eth_port *port, uint32_t count)
{
    struct virtio_net *net = net_of(port);

    ASSERT(count == net->lent_count);
    net->lent_count = 0;
    if (UNLIKELY(net->state != VIRTIO_NET_UP)) {
        return; /* a restart posts all buffers */
    }
    for (uint32_t i = 0; i < count; i++) {
        virtio_net_post(net, net->lent[i]);
    }
    virtio_net_publish_posted(net);
}

static bool net_arm(struct eth_port *port, bool armed)
{
    struct virtio_net *net = net_of(port);

    if (net->state != VIRTIO_NET_UP) {
        return armed && net->state != VIRTIO_NET_DEAD; /* turns are needed to come up again */
    }
    if (!net->has_irq) {
        if (armed) {
            virtio_net_set_needs_look(net, true); /* nobody else says so */
        }
        return armed;
    }
    if (armed) {
        /* VIRTIO-OWNER: who is to be woken, the full barrier of virtq_arm(), then the looks. */
        atomic_store_explicit(&net->core, cpu_self(), memory_order_relaxed);
    }
    return virtq_arm(&net->rx, armed) || (armed && virtio_net_needs_look(net));
}

const struct eth_ops virtio_net_ops = {
    .tx = net_tx,
    .tx_flush = net_tx_flush,
    .tx_reap = net_tx_reap,
    .rx = net_rx,
    .rx_done = net_rx_done,
    .arm = net_arm,
};
