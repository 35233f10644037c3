/*
 * Ethernet: frame header, VLAN tag, ARP for IPv4. Nothing else.
 *
 * Sources: IEEE 802.3 3.2, IEEE 802.1Q 9.6, RFC 826 and RFC 5227 (ARP), RFC 2464 7 (multicast of
 * IPv6).
 */
#ifndef SPEC_ETH_H
#define SPEC_ETH_H

#include <stdint.h>
#include "base/compiler.h"
#include "base/endian.h"

/* IEEE 802.3 3.2.3 to 3.2.6; a first octet with bit 0 set is a group address. */
struct eth_header {
    uint8_t dst[6];
    uint8_t src[6];
    struct be16 type; /* enum eth_type; up to 1500 a length */
};
ASSERT_SIZE(struct eth_header, 14);
ASSERT_OFFSET(struct eth_header, src, 6);
ASSERT_OFFSET(struct eth_header, type, 12);

#define ETH_GROUP_BIT 0x01

enum eth_type {
    ETH_TYPE_IPV4 = 0x0800,
    ETH_TYPE_ARP = 0x0806,
    ETH_TYPE_VLAN = 0x8100, /* a tag follows */
    ETH_TYPE_IPV6 = 0x86dd,
};

/* IEEE 802.1Q 9.6: what stands behind type ETH_TYPE_VLAN. */
struct eth_vlan_tag {
    struct be16 tci; /* priority 15:13, DEI 12, VLAN identifier 11:0 */
    struct be16 type;
};
ASSERT_SIZE(struct eth_vlan_tag, 4);
ASSERT_OFFSET(struct eth_vlan_tag, type, 2);

#define ETH_VLAN_VID_MASK 0x0fff /* 0: priority tag, no VLAN; fffh is reserved */

/* RFC 2464 7: 33-33 and the last four octets of the IPv6 group. */
#define ETH_IPV6_GROUP_PREFIX 0x33

/* RFC 826 for Ethernet and IPv4 */
struct arp_packet {
    struct be16 hardware; /* ARP_HARDWARE_ETHERNET */
    struct be16 protocol; /* ETH_TYPE_IPV4 */
    uint8_t hardware_bytes;
    uint8_t protocol_bytes;
    struct be16 operation; /* enum arp_operation */
    uint8_t sender_mac[6];
    uint8_t sender_ip[4]; /* 0: a probe, RFC 5227 1.1 */
    uint8_t target_mac[6];
    uint8_t target_ip[4];
};
ASSERT_SIZE(struct arp_packet, 28);
ASSERT_OFFSET(struct arp_packet, operation, 6);
ASSERT_OFFSET(struct arp_packet, sender_mac, 8);
ASSERT_OFFSET(struct arp_packet, sender_ip, 14);
ASSERT_OFFSET(struct arp_packet, target_mac, 18);
ASSERT_OFFSET(struct arp_packet, target_ip, 24);

#define ARP_HARDWARE_ETHERNET 1

enum arp_operation {
    ARP_REQUEST = 1,
    ARP_REPLY = 2,
};

#endif
