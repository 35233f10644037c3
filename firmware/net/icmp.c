/*
 * ICMP (RFC 792) and ICMPv6 (RFC 4443): echo. Leaves out: errors, sent or received; echo of more
 * than NET_BUF_INLINE_BYTES + NET_BIG_BYTES, whatever the MTU.
 */
#include "net/net_priv.h"

/* RFC 4443 2.4 (f) asks for a limit; it bounds what a flood costs. */
#define ECHO_PER_WINDOW 1000
#define ECHO_WINDOW_NS  NS_PER_S

static bool echo_limit_pass(struct net_if *nif)
{
    uint64_t now_ns = sched_now_ns();
    if (now_ns - nif->echo_window_ns >= ECHO_WINDOW_NS) {
        nif->echo_window_ns = now_ns;
        nif->echo_count = 0;
    }
    if (nif->echo_count == ECHO_PER_WINDOW) {
        return false;
    }
    nif->echo_count++;
    return true;
}

/* The message `icmp` behind an IP header of `ip_bytes`: the beginning into the buffer's own memory,
 * the rest into a big one. False, counted: it does not fit. */
static bool message_copy(struct net_if *nif, struct net_buf *buf, uint32_t ip_bytes,
                         const uint8_t *icmp, uint32_t bytes)
{
    uint32_t rest = bytes > NET_BUF_INLINE_BYTES ? bytes - NET_BUF_INLINE_BYTES : 0;

    if (rest > 0) {
        uint8_t *big = rest > NET_BIG_BYTES ? NULL : net_big_get(nif, buf);
        if (big == NULL) {
            NET_COUNT(nif, tx_no_buf);
            return false;
        }
        memcpy(big, icmp + bytes - rest, rest);
        buf->segs[1] = (struct mem_seg){.bus_addr = (uint64_t)(uintptr_t)big, .len_bytes = rest};
        buf->seg_count = 2;
        buf->len_bytes += rest;
    }
    memcpy(net_frame_l3(buf) + ip_bytes, icmp, bytes - rest);
    return true;
}

struct echo {
    const struct eth_header *eth;
    const struct icmp_echo *icmp;
    uint32_t bytes; /* of icmp */
    struct net_addr src;
    struct net_addr dst; /* ours */
    bool is_ipv6;
    uint8_t dscp; /* in place: the traffic class without ECN */
};

/* Sends the message back, its type changed and the checksum with it (RFC 1624 3): the pseudo-header
 * of ICMPv6 has the same sum with the addresses exchanged. */
static void echo_answer(struct net_if *nif, const struct echo *request)
{
    uint32_t ip_bytes = request->is_ipv6 ? sizeof(struct ipv6_header) : sizeof(struct ipv4_header);
    uint8_t type = request->is_ipv6 ? ICMPV6_ECHO_REPLY : ICMP_ECHO_REPLY;

    if ((request->eth->dst[0] & ETH_GROUP_BIT) != 0 || !net_mac_is_station(request->eth->src) ||
        !net_addr_is_host(&request->src) || ip_bytes + request->bytes > nif->mtu_bytes ||
        !echo_limit_pass(nif)) {
        return;
    }
    struct net_buf *buf =
        net_frame_begin(nif, request->eth->src, request->is_ipv6 ? ETH_TYPE_IPV6 : ETH_TYPE_IPV4);
    if (buf == NULL) {
        return;
    }
    if (!message_copy(nif, buf, ip_bytes, (const uint8_t *)request->icmp, request->bytes)) {
        net_buf_put(nif, buf);
        return;
    }
    uint8_t *l3 = net_frame_l3(buf);
    if (request->is_ipv6) {
        net_ipv6_header(l3, &request->dst, &request->src, IP_PROTOCOL_ICMPV6, request->dscp,
                        NET_HOP_LIMIT, request->bytes);
    } else {
        net_ipv4_header(l3, &request->dst, &request->src, IP_PROTOCOL_ICMP, request->dscp,
                        NET_HOP_LIMIT, ip_bytes + request->bytes);
    }
    struct icmp_echo *reply = (struct icmp_echo *)(l3 + ip_bytes);
    uint16_t sum = (uint16_t)~be16_get(reply->checksum);
    sum = net_sum_add(sum, (uint16_t) ~(reply->type << 8));
    sum = net_sum_add(sum, (uint16_t)(type << 8));
    reply->type = type;
    reply->checksum = be16_make((uint16_t)~sum);
    NET_COUNT(nif, echo_replies);
    uint32_t in_head =
        request->bytes < NET_BUF_INLINE_BYTES ? request->bytes : NET_BUF_INLINE_BYTES;
    net_frame_send(nif, buf, ip_bytes + in_head);
}

static void ping_answered(struct net_if *nif, const struct echo *echo)
{
    net_ping_answered(nif, &echo->src, echo->icmp, (const uint8_t *)(echo->icmp + 1),
                      echo->bytes - (uint32_t)sizeof(*echo->icmp));
}

void net_icmp4_rx(struct net_if *nif, const uint8_t *eth, const uint8_t *l3, const uint8_t *icmp,
                  uint32_t bytes)
{
    const struct ipv4_header *ip = (const struct ipv4_header *)l3;
    struct echo echo = {
        .eth = (const struct eth_header *)eth,
        .icmp = (const struct icmp_echo *)icmp,
        .bytes = bytes,
        .src = net_addr_from_4(ip->src),
        .dst = net_addr_from_4(ip->dst),
        .dscp = ip->tos & (uint8_t)~IP_ECN_MASK,
    };

    if (bytes < sizeof(*echo.icmp)) {
        NET_COUNT(nif, rx_malformed);
    } else if (net_sum(icmp, bytes) != 0xffff) {
        NET_COUNT(nif, rx_checksum);
    } else if (echo.icmp->type == ICMP_ECHO_REQUEST && echo.icmp->code == 0) {
        const struct net_if_addr *own = net_if_addr_covering(nif, &echo.src);
        if (own == NULL || !net_is_subnet_broadcast(own, &echo.src)) {
            echo_answer(nif, &echo);
        }
    } else if (echo.icmp->type == ICMP_ECHO_REPLY && echo.icmp->code == 0) {
        ping_answered(nif, &echo);
    } else {
        NET_COUNT(nif, rx_not_ours);
    }
}

void net_icmp6_rx(struct net_if *nif, const uint8_t *eth, const uint8_t *l3, const uint8_t *icmp,
                  uint32_t bytes, bool is_group)
{
    const struct ipv6_header *ip = (const struct ipv6_header *)l3;
    struct echo echo = {
        .eth = (const struct eth_header *)eth,
        .icmp = (const struct icmp_echo *)icmp,
        .bytes = bytes,
        .src = net_addr_from_6(ip->src),
        .dst = net_addr_from_6(ip->dst),
        .is_ipv6 = true,
        .dscp =
            (uint8_t)(be32_get(ip->version_class_flow) >> IPV6_CLASS_SHIFT) & (uint8_t)~IP_ECN_MASK,
    };

    if (bytes < sizeof(*echo.icmp)) {
        NET_COUNT(nif, rx_malformed);
        return;
    }
    if (net_sum_add(net_sum_pseudo(l3, true, IP_PROTOCOL_ICMPV6, bytes), net_sum(icmp, bytes)) !=
        0xffff) {
        NET_COUNT(nif, rx_checksum);
        return;
    }
    switch (echo.icmp->type) {
    case ICMPV6_NEIGHBOR_SOLICITATION:
    case ICMPV6_NEIGHBOR_ADVERTISEMENT:
        net_nd_rx(nif, eth, l3, icmp, bytes, is_group);
        break;
    case ICMPV6_ECHO_REQUEST:
        if (!is_group && echo.icmp->code == 0) {
            echo_answer(nif, &echo);
        }
        break;
    case ICMPV6_ECHO_REPLY:
        if (!is_group && echo.icmp->code == 0) {
            ping_answered(nif, &echo);
        }
        break;
    default:
        NET_COUNT(nif, rx_not_ours);
        break;
    }
}
