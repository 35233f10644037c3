/*
 * Frames received: is it for us, with the right tag, and what is in it. IEEE 802.1Q, RFC 894.
 * Every length is checked against the frame before what it says is read.
 */
#include "net/net_priv.h"

/* Group frames are for us when ARP or neighbour discovery is in them. */
enum dst_kind {
    DST_US,
    DST_GROUP,
    DST_OTHER
};

/* `eth` is 2 bytes off a word. */
ALWAYS_INLINE enum dst_kind dst_kind(const struct net_if *nif, const uint8_t *eth)
{
    uint32_t high = *(const word16 *)eth;
    uint32_t low = *(const word32 *)(eth + 2);

    if (LIKELY(high == nif->mac_high && low == nif->mac_low)) {
        return DST_US;
    }
    return (eth[0] & ETH_GROUP_BIT) != 0 ? DST_GROUP : DST_OTHER;
}

/* Looks behind the tag: the type there; -1: not for us, counted. A frame without a tag and one with
 * VID 0 (priority alone, IEEE 802.1Q 6.9) are of no VLAN. */
NOINLINE static int32_t untag(struct net_if *nif, const uint8_t *eth, uint32_t bytes, uint16_t type,
                              uint32_t *l3_offset)
{
    uint16_t vid = 0;
    if (type == ETH_TYPE_VLAN) {
        const struct eth_vlan_tag *tag =
            (const struct eth_vlan_tag *)(eth + sizeof(struct eth_header));
        if (bytes < sizeof(struct eth_header) + sizeof(*tag)) {
            NET_COUNT(nif, rx_malformed);
            return -1;
        }
        vid = be16_get(tag->tci) & ETH_VLAN_VID_MASK;
        type = be16_get(tag->type);
        *l3_offset += NET_TAG_BYTES;
    }
    if (vid != nif->vlan) {
        NET_COUNT(nif, rx_not_ours);
        return -1;
    }
    return type;
}

/* Whatever is not the plain case below; `bytes` are 14 at least. */
NOINLINE static void rx_any(struct net_if *nif, const uint8_t *eth, uint32_t bytes)
{
    const struct eth_header *header = ASSUME_ALIGNED(eth, 2);
    uint32_t l3_offset = sizeof(*header);
    int32_t type = be16_get(header->type);

    if (type == ETH_TYPE_VLAN || nif->vlan != 0) {
        type = untag(nif, eth, bytes, (uint16_t)type, &l3_offset);
        if (type < 0) {
            return;
        }
    }
    const uint8_t *l3 = eth + l3_offset;
    enum dst_kind kind = dst_kind(nif, eth);
    bytes -= l3_offset;
    if (kind == DST_US && type == ETH_TYPE_IPV4) {
        net_ipv4_rx(nif, eth, l3, bytes);
        return;
    }
    if (kind == DST_US && type == ETH_TYPE_IPV6) {
        net_ipv6_rx(nif, eth, l3, bytes);
        return;
    }
    /* What comes from our own address is an echo of some loop. */
    bool is_own = net_mac_equal(header->src, nif->port->addr);
    if (kind != DST_OTHER && type == ETH_TYPE_ARP && !is_own) {
        net_arp_rx(nif, l3, bytes);
    } else if (kind == DST_GROUP && type == ETH_TYPE_IPV6 && !is_own) {
        net_ipv6_rx(nif, eth, l3, bytes);
    } else {
        NET_COUNT(nif, rx_not_ours);
    }
}

void net_frame_rx(struct net_if *nif, const uint8_t *eth, uint32_t bytes)
{
    const struct eth_header *header = ASSUME_ALIGNED(eth, 2);

    if (UNLIKELY(bytes < sizeof(*header))) {
        NET_COUNT(nif, rx_malformed);
    } else if (LIKELY(be16_get(header->type) == ETH_TYPE_IPV4 && nif->vlan == 0 &&
                      dst_kind(nif, eth) == DST_US)) {
        net_ipv4_rx(nif, eth, eth + sizeof(*header), bytes - (uint32_t)sizeof(*header));
    } else {
        rx_any(nif, eth, bytes);
    }
}
