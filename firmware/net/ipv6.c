/*
 * IPv6: RFC 8200. Leaves out: extension headers (dropped), groups but for neighbour discovery.
 */
#include "net/net_priv.h"

ALWAYS_INLINE bool is_ours(const struct net_if *nif, const uint8_t *dst)
{
    const word32 *words = (const word32 *)dst;
    for (uint32_t i = 0; i < nif->addr6_count; i++) {
        const uint32_t *own = nif->addrs6[i];
        if (((own[3] ^ words[3]) | (own[2] ^ words[2]) | (own[1] ^ words[1]) |
             (own[0] ^ words[0])) == 0) {
            return true;
        }
    }
    return false;
}

/* All nodes, and the solicited-node groups of our addresses: RFC 4291 2.8. */
static bool is_our_group(const struct net_if *nif, const struct net_addr *dst)
{
    if (net_addr_equal(dst, &net_all_nodes)) {
        return true;
    }
    for (uint32_t i = 0; i < nif->addr_count; i++) {
        struct net_addr group = net_addr_solicited_node(&nif->addrs[i].addr);
        if (!net_addr_is_ipv4(&nif->addrs[i].addr) && net_addr_equal(dst, &group)) {
            return true;
        }
    }
    return false;
}

/* Group addresses send nothing (RFC 4291 2.7), and ::ffff:a.b.c.d is not on the wire: it would pass
 * for the IPv4 host above. */
ALWAYS_INLINE bool is_src_possible(const uint8_t *src)
{
    const word32 *words = (const word32 *)src;
    bool is_mapped = (words[0] | words[1] | (words[2] ^ 0xffff0000)) == 0;
    return src[0] != IPV6_GROUP_FIRST_BYTE && !is_mapped;
}

/* What is no datagram for one of our addresses. `bytes`: behind the header. */
NOINLINE static void rx_other(struct net_if *nif, const uint8_t *eth, const uint8_t *l3,
                              uint32_t bytes, bool is_for_us)
{
    const struct ipv6_header *ip = (const struct ipv6_header *)l3;
    struct net_addr dst = net_addr_from_6(ip->dst);

    if (!is_for_us && !is_our_group(nif, &dst)) {
        NET_COUNT(nif, rx_not_ours);
    } else if (ip->next_header == IP_PROTOCOL_ICMPV6) {
        net_icmp6_rx(nif, eth, l3, l3 + sizeof(*ip), bytes, !is_for_us);
    } else if (ip->next_header == IP_PROTOCOL_FRAGMENT) {
        NET_COUNT(nif, rx_fragment);
    } else {
        NET_COUNT(nif, rx_not_ours);
    }
}

void net_ipv6_rx(struct net_if *nif, const uint8_t *eth, const uint8_t *l3, uint32_t bytes)
{
    const struct ipv6_header *ip = ASSUME_ALIGNED(l3, 4);

    if (UNLIKELY(bytes < sizeof(*ip))) {
        NET_COUNT(nif, rx_malformed);
        return;
    }
    uint32_t first = be32_get(ip->version_class_flow);
    uint32_t payload_bytes = be16_get(ip->payload_bytes);
    if (UNLIKELY(FIELD_GET(IPV6_VERSION, first) != 6 ||
                 payload_bytes > bytes - (uint32_t)sizeof(*ip) || !is_src_possible(ip->src))) {
        NET_COUNT(nif, rx_malformed);
        return;
    }
    bool is_for_us = is_ours(nif, ip->dst);
    /* A datagram for our address in a group frame is none for us: RFC 1122 3.3.6 in spirit. */
    if (LIKELY(is_for_us && ip->next_header == IP_PROTOCOL_UDP && (eth[0] & ETH_GROUP_BIT) == 0)) {
        net_udp_rx(nif, l3, l3 + sizeof(*ip), payload_bytes, true,
                   (uint8_t)(first >> IPV6_CLASS_SHIFT) & IP_ECN_MASK);
        return;
    }
    rx_other(nif, eth, l3, payload_bytes, is_for_us);
}

void net_ipv6_header(uint8_t *l3, const struct net_addr *src, const struct net_addr *dst,
                     uint8_t next_header, uint8_t traffic_class, uint8_t hop_limit,
                     uint32_t payload_bytes)
{
    struct ipv6_header *ip = (struct ipv6_header *)l3;
    uint32_t first =
        (uint32_t)(FIELD_PREP(IPV6_VERSION, 6) | FIELD_PREP(IPV6_CLASS, traffic_class));

    *ip = (struct ipv6_header){
        .version_class_flow = be32_make(first),
        .payload_bytes = be16_make((uint16_t)payload_bytes),
        .next_header = next_header,
        .hop_limit = hop_limit,
    };
    memcpy(ip->src, src->bytes, sizeof(ip->src));
    memcpy(ip->dst, dst->bytes, sizeof(ip->dst));
}
