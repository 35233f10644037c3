/*
 * UDP, receive side: RFC 768. A checksum that is there is checked; none is accepted over IPv6 too,
 * as RFC 6935 lets a tunnel do and RoCEv2 does (IBA annex A17.3.1).
 */
#include "net/net_priv.h"

struct net_addr net_rx_src(const struct net_rx *rx)
{
    return rx->is_ipv6 ? net_addr_from_6(rx->l3 + offsetof(struct ipv6_header, src))
                       : net_addr_from_4(rx->l3 + offsetof(struct ipv4_header, src));
}

struct net_addr net_rx_dst(const struct net_rx *rx)
{
    return rx->is_ipv6 ? net_addr_from_6(rx->l3 + offsetof(struct ipv6_header, dst))
                       : net_addr_from_4(rx->l3 + offsetof(struct ipv4_header, dst));
}

void net_udp_init(struct net_if *nif)
{
    for (uint32_t i = 0; i < NET_UDP_PORTS; i++) {
        nif->binds[i].port = UINT32_MAX;
    }
}

/* The place of `port`; UINT32_MAX finds a free one. NULL: none. */
ALWAYS_INLINE struct net_bind *find(struct net_if *nif, uint32_t port)
{
    for (struct net_bind *bind = nif->binds; bind != nif->binds + NET_UDP_PORTS; bind++) {
        if (bind->port == port) {
            return bind;
        }
    }
    return NULL;
}

enum status net_udp_bind(struct net_if *nif, uint16_t port, net_udp_fn *fn, void *ctx)
{
    if (find(nif, port) != NULL) {
        return STATUS_EXISTS;
    }
    struct net_bind *bind = find(nif, UINT32_MAX);
    if (bind == NULL) {
        return STATUS_NO_SPACE;
    }
    *bind = (struct net_bind){.port = port, .fn = fn, .ctx = ctx};
    return STATUS_OK;
}

void net_udp_unbind(struct net_if *nif, uint16_t port)
{
    struct net_bind *bind = find(nif, port);
    if (bind != NULL) {
        bind->port = UINT32_MAX;
    }
}

ALWAYS_INLINE void deliver(struct net_if *nif, const uint8_t *l3, const struct udp_header *udp,
                           uint32_t len_bytes, bool is_ipv6, uint8_t ecn)
{
    const struct net_bind *bind = find(nif, be16_get(udp->dst_port));
    if (UNLIKELY(bind == NULL)) {
        NET_COUNT(nif, rx_no_port);
        return;
    }
    if (UNLIKELY(ecn == IP_ECN_CE)) {
        NET_COUNT(nif, rx_ecn_ce);
    }
    struct net_rx rx = {
        .l3 = l3,
        .payload = (const uint8_t *)(udp + 1),
        .payload_bytes = len_bytes - (uint32_t)sizeof(*udp),
        .ecn = ecn,
        .is_ipv6 = is_ipv6,
    };
    NET_COUNT(nif, rx_udp);
    bind->fn(bind->ctx, &rx);
}

NOINLINE static void rx_with_sum(struct net_if *nif, const uint8_t *l3, const uint8_t *at,
                                 uint32_t len_bytes, bool is_ipv6, uint8_t ecn)
{
    const struct udp_header *udp = ASSUME_ALIGNED(at, 4);
    uint16_t pseudo = net_sum_pseudo(l3, is_ipv6, IP_PROTOCOL_UDP, len_bytes);

    if (net_sum_add(pseudo, net_sum(udp, len_bytes)) == 0xffff) {
        deliver(nif, l3, udp, len_bytes, is_ipv6, ecn);
    } else {
        NET_COUNT(nif, rx_checksum);
    }
}

void net_udp_rx(struct net_if *nif, const uint8_t *l3, const uint8_t *at, uint32_t bytes,
                bool is_ipv6, uint8_t ecn)
{
    const struct udp_header *udp = ASSUME_ALIGNED(at, 4);

    if (UNLIKELY(bytes < sizeof(*udp))) {
        NET_COUNT(nif, rx_malformed);
        return;
    }
    uint32_t len_bytes = be16_get(udp->len_bytes);
    if (UNLIKELY(len_bytes < sizeof(*udp) || len_bytes > bytes)) {
        NET_COUNT(nif, rx_malformed);
    } else if (LIKELY(be16_get(udp->checksum) == 0)) {
        deliver(nif, l3, udp, len_bytes, is_ipv6, ecn);
    } else {
        rx_with_sum(nif, l3, at, len_bytes, is_ipv6, ecn);
    }
}
