/*
 * ARP for IPv4 over Ethernet: RFC 826, with the probes and announcements of RFC 5227. Leaves out:
 * proxy ARP, defence of an address (RFC 5227 2.4: who has it first here keeps it).
 */
#include "net/net_priv.h"

static bool is_sound(const struct arp_packet *arp)
{
    return be16_get(arp->hardware) == ARP_HARDWARE_ETHERNET &&
           be16_get(arp->protocol) == ETH_TYPE_IPV4 &&
           arp->hardware_bytes == sizeof(arp->sender_mac) &&
           arp->protocol_bytes == sizeof(arp->sender_ip) &&
           (be16_get(arp->operation) == ARP_REQUEST || be16_get(arp->operation) == ARP_REPLY) &&
           net_mac_is_station(arp->sender_mac);
}

static void send(struct net_if *nif, const uint8_t *dst_mac, const struct arp_packet *arp)
{
    struct net_buf *buf = net_frame_begin(nif, dst_mac, ETH_TYPE_ARP);
    if (buf != NULL) {
        memcpy(net_frame_l3(buf), arp, sizeof(*arp));
        net_frame_send(nif, buf, sizeof(*arp));
    }
}

static struct arp_packet packet_of(const struct net_if *nif, enum arp_operation operation)
{
    struct arp_packet arp = {
        .hardware = be16_make(ARP_HARDWARE_ETHERNET),
        .protocol = be16_make(ETH_TYPE_IPV4),
        .hardware_bytes = sizeof(arp.sender_mac),
        .protocol_bytes = sizeof(arp.sender_ip),
        .operation = be16_make((uint16_t)operation),
    };
    memcpy(arp.sender_mac, nif->port->addr, sizeof(arp.sender_mac));
    return arp;
}

void net_arp_request(struct net_if *nif, const struct net_addr *src, const struct net_addr *target,
                     const uint8_t *mac)
{
    struct arp_packet arp = packet_of(nif, ARP_REQUEST);

    memcpy(arp.sender_ip, net_addr_4(src), sizeof(arp.sender_ip));
    memcpy(arp.target_ip, net_addr_4(target), sizeof(arp.target_ip));
    NET_COUNT(nif, arp_requests);
    send(nif, mac == NULL ? net_mac_broadcast : mac, &arp);
}

/* Also to a probe, whose sender address is 0: RFC 5227 2.1.1. */
static void reply(struct net_if *nif, const struct arp_packet *request)
{
    struct arp_packet arp = packet_of(nif, ARP_REPLY);

    memcpy(arp.sender_ip, request->target_ip, sizeof(arp.sender_ip));
    memcpy(arp.target_mac, request->sender_mac, sizeof(arp.target_mac));
    memcpy(arp.target_ip, request->sender_ip, sizeof(arp.target_ip));
    NET_COUNT(nif, arp_replies);
    send(nif, request->sender_mac, &arp);
}

void net_arp_rx(struct net_if *nif, const uint8_t *l3, uint32_t bytes)
{
    const struct arp_packet *arp = (const struct arp_packet *)l3;

    if (bytes < sizeof(*arp) || !is_sound(arp)) {
        NET_COUNT(nif, rx_malformed);
        return;
    }
    /* An echo of our own by some loop: it would be a conflict with ourselves. */
    if (net_mac_equal(arp->sender_mac, nif->port->addr)) {
        NET_COUNT(nif, rx_not_ours);
        return;
    }
    struct net_addr sender = net_addr_from_4(arp->sender_ip);
    struct net_addr target = net_addr_from_4(arp->target_ip);
    uint32_t claimed = net_if_addr_index(nif, &sender);
    if (claimed != NET_IF_ADDRS) {
        net_conflict(nif, claimed, arp->sender_mac);
        return;
    }
    /* RFC 826: whoever speaks, what is known of him is brought up to date; gratuitous ones too. */
    net_neighbor_learn(nif, &sender, arp->sender_mac, true);
    if (be16_get(arp->operation) == ARP_REQUEST) {
        if (net_if_addr_index(nif, &target) != NET_IF_ADDRS) {
            reply(nif, arp);
        } else {
            NET_COUNT(nif, rx_not_ours);
        }
    }
}
