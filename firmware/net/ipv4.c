/*
 * IPv4: RFC 791, host requirements of RFC 1122 3.2. Leaves out: options (dropped as malformed),
 * fragments (dropped), broadcast and multicast (dropped: nothing here needs them).
 */
#include "net/net_priv.h"

#define FRAGMENT_MASK (IPV4_MF | IPV4_FRAGMENT_OFFSET)

/* The sum over a header without options is all ones when its checksum is right, in any byte order
 * (RFC 1071 1, 2 B). */
ALWAYS_INLINE bool is_header_sum_right(const uint8_t *l3)
{
    const word32 *words = (const word32 *)l3;
    uint64_t sum = (uint64_t)words[0] + words[1] + words[2] + words[3] + words[4];

    /* Less than 2^35; not all words are zero, so that all ones is the one form of zero. */
    uint32_t folded =
        (uint32_t)(sum & 0xffff) + (uint32_t)(sum >> 16 & 0xffff) + (uint32_t)(sum >> 32);
    folded = (folded & 0xffff) + (folded >> 16);
    return folded == 0xffff;
}

ALWAYS_INLINE bool is_ours(const struct net_if *nif, const uint8_t *dst)
{
    uint32_t addr = *(const word32 *)dst;
    for (uint32_t i = 0; i < nif->addr4_count; i++) {
        if (nif->addrs4[i] == addr) {
            return true;
        }
    }
    return false;
}

void net_ipv4_rx(struct net_if *nif, const uint8_t *eth, const uint8_t *l3, uint32_t bytes)
{
    const struct ipv4_header *ip = ASSUME_ALIGNED(l3, 4);

    if (UNLIKELY(bytes < sizeof(*ip) || ip->version_ihl != IPV4_VERSION_IHL)) {
        NET_COUNT(nif, rx_malformed);
        return;
    }
    uint32_t total_bytes = be16_get(ip->total_bytes);
    if (UNLIKELY(total_bytes < sizeof(*ip) || total_bytes > bytes)) {
        NET_COUNT(nif, rx_malformed);
        return;
    }
    if (UNLIKELY(!is_header_sum_right(l3))) {
        NET_COUNT(nif, rx_checksum);
        return;
    }
    if (UNLIKELY(!is_ours(nif, ip->dst))) {
        NET_COUNT(nif, rx_not_ours);
        return;
    }
    if (UNLIKELY((be16_get(ip->fragment) & FRAGMENT_MASK) != 0)) {
        NET_COUNT(nif, rx_fragment);
        return;
    }
    const uint8_t *l4 = l3 + sizeof(*ip);
    if (LIKELY(ip->protocol == IP_PROTOCOL_UDP)) {
        net_udp_rx(nif, l3, l4, total_bytes - (uint32_t)sizeof(*ip), false, ip->tos & IP_ECN_MASK);
    } else if (ip->protocol == IP_PROTOCOL_ICMP) {
        net_icmp4_rx(nif, eth, l3, l4, total_bytes - (uint32_t)sizeof(*ip));
    } else {
        NET_COUNT(nif, rx_not_ours);
    }
}

void net_ipv4_header(uint8_t *l3, const struct net_addr *src, const struct net_addr *dst,
                     uint8_t protocol, uint8_t tos, uint8_t ttl, uint32_t total_bytes)
{
    struct ipv4_header *ip = (struct ipv4_header *)l3;

    *ip = (struct ipv4_header){
        .version_ihl = IPV4_VERSION_IHL,
        .tos = tos,
        .total_bytes = be16_make((uint16_t)total_bytes),
        .fragment = be16_make(IPV4_DF),
        .ttl = ttl,
        .protocol = protocol,
    };
    memcpy(ip->src, net_addr_4(src), sizeof(ip->src));
    memcpy(ip->dst, net_addr_4(dst), sizeof(ip->dst));
    ip->checksum = be16_make((uint16_t)~net_sum(ip, sizeof(*ip)));
}
