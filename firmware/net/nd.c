/*
 * Neighbour discovery for IPv6: solicitations and advertisements of RFC 4861 7, probes of RFC 4862
 * 5.4. Leaves out: routers (their advertisements, redirects: addresses and gateway are configured),
 * multicast listener reports.
 */
#include "net/net_priv.h"

#define MESSAGE_BYTES (sizeof(struct nd_message) + sizeof(struct nd_option_link_addr))

/* --- send ------------------------------------------------------------------------------------- */

static void mac_of_group(uint8_t mac[ETH_ADDR_BYTES], const struct net_addr *group)
{
    mac[0] = ETH_IPV6_GROUP_PREFIX;
    mac[1] = ETH_IPV6_GROUP_PREFIX;
    memcpy(mac + 2, group->bytes + 12, 4);
}

struct message {
    enum icmpv6_type type;
    uint8_t flags;
    const struct net_addr *src;
    const struct net_addr *dst;
    const struct net_addr *target;
    const uint8_t *mac; /* of dst; NULL: dst is a group */
};

/* Our address as an option is left out where the sender is unspecified: RFC 4861 4.3. */
static void send(struct net_if *nif, const struct message *message)
{
    uint8_t group_mac[ETH_ADDR_BYTES];
    const uint8_t *mac = message->mac;
    if (mac == NULL) {
        mac_of_group(group_mac, message->dst);
        mac = group_mac;
    }
    struct net_buf *buf = net_frame_begin(nif, mac, ETH_TYPE_IPV6);
    if (buf == NULL) {
        return;
    }
    uint8_t *l3 = net_frame_l3(buf);
    uint32_t bytes = net_addr_is_zero(message->src) ? sizeof(struct nd_message) : MESSAGE_BYTES;
    net_ipv6_header(l3, message->src, message->dst, IP_PROTOCOL_ICMPV6, 0, ND_HOP_LIMIT, bytes);

    struct nd_message *nd = (struct nd_message *)(l3 + sizeof(struct ipv6_header));
    *nd = (struct nd_message){
        .icmp = {.type = (uint8_t)message->type},
        .flags = message->flags,
    };
    memcpy(nd->target, message->target->bytes, sizeof(nd->target));
    if (bytes == MESSAGE_BYTES) {
        struct nd_option_link_addr *option = (struct nd_option_link_addr *)(nd + 1);
        option->type = message->type == ICMPV6_NEIGHBOR_SOLICITATION ? ND_OPTION_SOURCE_LINK_ADDR
                                                                     : ND_OPTION_TARGET_LINK_ADDR;
        option->length = sizeof(*option) / 8;
        memcpy(option->mac, nif->port->addr, sizeof(option->mac));
    }
    uint16_t sum =
        net_sum_add(net_sum_pseudo(l3, true, IP_PROTOCOL_ICMPV6, bytes), net_sum(nd, bytes));
    nd->icmp.checksum = be16_make((uint16_t)~sum);
    net_frame_send(nif, buf, (uint32_t)sizeof(struct ipv6_header) + bytes);
}

void net_nd_solicit(struct net_if *nif, const struct net_addr *src, const struct net_addr *target,
                    const uint8_t *mac)
{
    struct net_addr group = net_addr_solicited_node(target);

    NET_COUNT(nif, arp_requests);
    send(nif, &(struct message){
                  .type = ICMPV6_NEIGHBOR_SOLICITATION,
                  .src = src,
                  .dst = mac == NULL ? &group : target,
                  .target = target,
                  .mac = mac,
              });
}

void net_nd_announce(struct net_if *nif, const struct net_addr *target)
{
    send(nif, &(struct message){
                  .type = ICMPV6_NEIGHBOR_ADVERTISEMENT,
                  .flags = ND_FLAG_OVERRIDE,
                  .src = target,
                  .dst = &net_all_nodes,
                  .target = target,
              });
}

/* RFC 4861 7.2.4: to a probe the answer goes to all nodes, and is not "solicited". */
static void answer(struct net_if *nif, const struct net_addr *asker, const uint8_t *mac,
                   const struct net_addr *target)
{
    NET_COUNT(nif, arp_replies);
    if (net_addr_is_zero(asker)) {
        net_nd_announce(nif, target);
        return;
    }
    send(nif, &(struct message){
                  .type = ICMPV6_NEIGHBOR_ADVERTISEMENT,
                  .flags = ND_FLAG_SOLICITED | ND_FLAG_OVERRIDE,
                  .src = target,
                  .dst = asker,
                  .target = target,
                  .mac = mac,
              });
}

/* --- receive ---------------------------------------------------------------------------------- */

/* Walks the options, RFC 4861 4.6: false when one has no length or is longer than the message. The
 * link address of kind `type` is left in *mac, NULL when there is none. */
static bool options_read(const uint8_t *at, uint32_t bytes, enum nd_option type,
                         const uint8_t **mac)
{
    *mac = NULL;
    while (bytes > 0) {
        const struct nd_option_link_addr *option = (const struct nd_option_link_addr *)at;
        if (bytes < sizeof(*option)) {
            return false;
        }
        uint32_t option_bytes = 8 * (uint32_t)option->length;
        if (option_bytes == 0 || option_bytes > bytes) {
            return false;
        }
        if (option->type == type) {
            *mac = option->mac;
        }
        at += option_bytes;
        bytes -= option_bytes;
    }
    return *mac == NULL || net_mac_is_station(*mac);
}

static void solicitation_rx(struct net_if *nif, const struct eth_header *eth,
                            const struct net_addr *src, const struct net_addr *target,
                            const uint8_t *mac)
{
    if (net_addr_is_zero(src) && mac != NULL) { /* RFC 4861 7.1.1 */
        NET_COUNT(nif, rx_malformed);
        return;
    }
    if (net_if_addr_index(nif, src) != NET_IF_ADDRS) {
        net_conflict(nif, net_if_addr_index(nif, src), mac != NULL ? mac : eth->src);
        return;
    }
    if (net_if_addr_index(nif, target) == NET_IF_ADDRS) {
        NET_COUNT(nif, rx_not_ours);
        return;
    }
    if (mac != NULL) {
        net_neighbor_learn(nif, src, mac, true);
    }
    const uint8_t *to = mac != NULL ? mac : eth->src;
    if (net_mac_is_station(to)) {
        answer(nif, src, to, target);
    }
}

static void advertisement_rx(struct net_if *nif, const struct eth_header *eth, uint8_t flags,
                             const struct net_addr *target, const uint8_t *mac)
{
    uint32_t claimed = net_if_addr_index(nif, target);

    if (claimed != NET_IF_ADDRS) {
        net_conflict(nif, claimed, mac != NULL ? mac : eth->src);
    } else if (mac != NULL) {
        net_neighbor_learn(nif, target, mac, (flags & ND_FLAG_OVERRIDE) != 0);
    } else if ((flags & ND_FLAG_SOLICITED) != 0) {
        net_neighbor_confirm(nif, target);
    }
}

/* RFC 4861 7.1.1 and 7.1.2; the checksum is right. */
static bool is_sound(const struct ipv6_header *ip, const struct nd_message *nd, uint32_t bytes,
                     bool is_group)
{
    if (bytes < sizeof(*nd) || ip->hop_limit != ND_HOP_LIMIT || nd->icmp.code != 0) {
        return false;
    }
    struct net_addr target = net_addr_from_6(nd->target);
    if (!net_addr_is_host(&target) || net_addr_is_ipv4(&target)) {
        return false;
    }
    return nd->icmp.type == ICMPV6_NEIGHBOR_SOLICITATION || !is_group ||
           (nd->flags & ND_FLAG_SOLICITED) == 0;
}

/* RFC 4861 7.1.1: a probe goes to the solicited-node group. */
static bool is_probe_misdirected(const struct net_addr *src, const struct ipv6_header *ip,
                                 const struct net_addr *target)
{
    struct net_addr group = net_addr_solicited_node(target);
    return net_addr_is_zero(src) && memcmp(ip->dst, group.bytes, sizeof(ip->dst)) != 0;
}

void net_nd_rx(struct net_if *nif, const uint8_t *eth, const uint8_t *l3, const uint8_t *icmp,
               uint32_t bytes, bool is_group)
{
    const struct ipv6_header *ip = (const struct ipv6_header *)l3;
    const struct nd_message *nd = (const struct nd_message *)icmp;
    const uint8_t *mac = NULL;
    bool is_solicitation = nd->icmp.type == ICMPV6_NEIGHBOR_SOLICITATION;

    if (!is_sound(ip, nd, bytes, is_group) ||
        !options_read(icmp + sizeof(*nd), bytes - (uint32_t)sizeof(*nd),
                      is_solicitation ? ND_OPTION_SOURCE_LINK_ADDR : ND_OPTION_TARGET_LINK_ADDR,
                      &mac)) {
        NET_COUNT(nif, rx_malformed);
        return;
    }
    struct net_addr src = net_addr_from_6(ip->src);
    struct net_addr target = net_addr_from_6(nd->target);
    if (mac != NULL && net_mac_equal(mac, nif->port->addr)) {
        NET_COUNT(nif, rx_not_ours); /* our own, come back by some loop */
        return;
    }
    if (!is_solicitation) {
        advertisement_rx(nif, (const struct eth_header *)eth, nd->flags, &target, mac);
    } else if (is_probe_misdirected(&src, ip, &target)) {
        NET_COUNT(nif, rx_malformed);
    } else {
        solicitation_rx(nif, (const struct eth_header *)eth, &src, &target, mac);
    }
}
