/*
 * Frames to send: the pools, and the order in which they come back. A device gives frames back in
 * any order; sequence numbers complete in the order of sending, so that one number says which
 * memory is free.
 */
#include "net/net_priv.h"

struct net_buf *net_buf_get(struct net_if *nif)
{
    struct net_buf *buf = pool_get(&nif->bufs);
    if (LIKELY(buf != NULL)) {
        buf->big = NULL;
        buf->seg_count = 0;
        buf->len_bytes = 0;
    }
    return buf;
}

void net_buf_put(struct net_if *nif, struct net_buf *buf)
{
    if (buf->big != NULL) {
        pool_put(&nif->bigs, buf->big);
    }
    pool_put(&nif->bufs, buf);
}

uint8_t *net_big_get(struct net_if *nif, struct net_buf *buf)
{
    ASSERT(buf->big == NULL);
    buf->big = pool_get(&nif->bigs);
    return buf->big;
}

/* --- under way -------------------------------------------------------------------------------- */

uint32_t net_tx_room(const struct net_if *nif)
{
    return nif->port->tx_room_count;
}

uint64_t net_tx_done_seq(const struct net_if *nif)
{
    return nif->done_seq;
}

/* Gives back what is done up to the first that is not. Bounded by the pool. */
static void release_done(struct net_if *nif)
{
    struct net_buf *buf = nif->flying;

    while (buf != NULL && buf->is_done) {
        struct net_buf *next = buf->next;
        nif->done_seq = buf->seq;
        net_buf_put(nif, buf);
        buf = next;
    }
    nif->flying = buf;
    if (buf == NULL) {
        nif->flying_end = &nif->flying;
    }
}

/* The device refused it in spite of its room: lost, as on a wire. */
COLD NOINLINE static void lose(struct net_if *nif, struct net_buf *buf)
{
    NET_COUNT(nif, tx_no_buf);
    buf->is_done = true;
    release_done(nif);
}

uint64_t net_send(struct net_if *nif, struct net_buf *buf)
{
    uint64_t seq = nif->sent_seq + 1;
    struct eth_tx frame = {
        .segs = buf->segs,
        .seg_count = buf->seg_count,
        .len_bytes = buf->len_bytes,
        .cookie = buf,
    };

    nif->sent_seq = seq;
    buf->seq = seq;
    buf->is_done = false;
    buf->next = NULL;
    *nif->flying_end = buf;
    nif->flying_end = &buf->next;
    nif->is_flush_due = true;
    NET_COUNT(nif, tx_frames);
    if (UNLIKELY(eth_tx(nif->port, &frame) != STATUS_OK)) {
        lose(nif, buf);
    }
    return seq;
}

void net_flush(struct net_if *nif)
{
    if (nif->is_flush_due) {
        nif->is_flush_due = false;
        eth_tx_flush(nif->port);
    }
}

uint32_t net_reap(struct net_if *nif)
{
    void *cookies[NET_REAP_BURST];

    if (nif->flying == NULL) {
        return 0;
    }
    uint32_t count = eth_tx_reap(nif->port, cookies, NET_REAP_BURST);
    for (uint32_t i = 0; i < count; i++) {
        struct net_buf *buf = cookies[i];
        buf->is_done = true;
    }
    if (count != 0) {
        release_done(nif);
    }
    return count;
}

/* --- net's own frames ------------------------------------------------------------------------- */

uint32_t net_eth_header(const struct net_if *nif, uint8_t *to, const uint8_t *dst_mac,
                        enum eth_type type)
{
    struct eth_header *eth = (struct eth_header *)to;

    memcpy(eth->dst, dst_mac, sizeof(eth->dst));
    memcpy(eth->src, nif->port->addr, sizeof(eth->src));
    if (nif->vlan == 0) {
        eth->type = be16_make((uint16_t)type);
        return sizeof(*eth);
    }
    struct eth_vlan_tag *tag = (struct eth_vlan_tag *)(eth + 1);
    eth->type = be16_make(ETH_TYPE_VLAN);
    tag->tci = be16_make(nif->vlan);
    tag->type = be16_make((uint16_t)type);
    return sizeof(*eth) + sizeof(*tag);
}

static void seg_set(struct net_buf *buf, uint32_t index, void *at, uint32_t len_bytes)
{
    buf->segs[index] = (struct mem_seg){
        .bus_addr = (uint64_t)(uintptr_t)at,
        .len_bytes = len_bytes,
    };
}

struct net_buf *net_frame_begin(struct net_if *nif, const uint8_t *dst_mac, enum eth_type type)
{
    struct net_buf *buf = net_tx_room(nif) == 0 ? NULL : net_buf_get(nif);
    if (buf == NULL) {
        NET_COUNT(nif, tx_no_buf);
        return NULL;
    }
    uint32_t eth_bytes = net_eth_header(nif, buf->head + 2, dst_mac, type);
    buf->l3_offset = (uint16_t)(2 + eth_bytes);
    seg_set(buf, 0, buf->head + 2, eth_bytes);
    buf->seg_count = 1;
    buf->len_bytes = eth_bytes;
    return buf;
}

void net_frame_send(struct net_if *nif, struct net_buf *buf, uint32_t l3_bytes)
{
    buf->segs[0].len_bytes += l3_bytes;
    buf->len_bytes += l3_bytes;
    net_send(nif, buf);
}
