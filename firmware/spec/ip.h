/*
 * IPv4, ICMP, IPv6, ICMPv6 with neighbour discovery, UDP, ECN. Nothing else.
 *
 * Sources: RFC 791, 792, 768, 1112, 2474, 3168, 8200, 4291, 4443, 4861, 6935.
 */
#ifndef SPEC_IP_H
#define SPEC_IP_H

#include <stdint.h>
#include "base/bits.h"
#include "base/compiler.h"
#include "base/endian.h"

/* Protocol (RFC 791) and next header (RFC 8200) have one number space. */
enum ip_protocol {
    IP_PROTOCOL_HOP_BY_HOP = 0, /* RFC 8200 4.3 */
    IP_PROTOCOL_ICMP = 1,
    IP_PROTOCOL_TCP = 6,
    IP_PROTOCOL_UDP = 17,
    IP_PROTOCOL_ROUTING = 43,  /* RFC 8200 4.4 */
    IP_PROTOCOL_FRAGMENT = 44, /* RFC 8200 4.5 */
    IP_PROTOCOL_ICMPV6 = 58,
    IP_PROTOCOL_NONE = 59,
    IP_PROTOCOL_DST_OPTIONS = 60, /* RFC 8200 4.6 */
};

/* RFC 3168 5: the low bits of TOS and of the traffic class; above them the DSCP (RFC 2474 3). */
enum ip_ecn {
    IP_ECN_NOT_ECT = 0,
    IP_ECN_ECT1 = 1,
    IP_ECN_ECT0 = 2,
    IP_ECN_CE = 3,
};
#define IP_ECN_MASK 0x03

/* RFC 791 3.1 */
struct ipv4_header {
    uint8_t version_ihl; /* version 7:4, header length in 4 bytes 3:0 */
    uint8_t tos;         /* DSCP 7:2, ECN 1:0 */
    struct be16 total_bytes;
    struct be16 identification;
    struct be16 fragment; /* flags 15:13, offset in 8 bytes 12:0 */
    uint8_t ttl;
    uint8_t protocol;
    struct be16 checksum; /* of the header */
    uint8_t src[4];
    uint8_t dst[4];
};
ASSERT_SIZE(struct ipv4_header, 20);
ASSERT_OFFSET(struct ipv4_header, total_bytes, 2);
ASSERT_OFFSET(struct ipv4_header, fragment, 6);
ASSERT_OFFSET(struct ipv4_header, protocol, 9);
ASSERT_OFFSET(struct ipv4_header, checksum, 10);
ASSERT_OFFSET(struct ipv4_header, src, 12);
ASSERT_OFFSET(struct ipv4_header, dst, 16);

#define IPV4_VERSION_IHL     0x45 /* version 4, 20 bytes: no options */
#define IPV4_DF              0x4000
#define IPV4_MF              0x2000
#define IPV4_FRAGMENT_OFFSET 0x1fff
/* RFC 1112 4: 224.0.0.0/4 are groups; what is above is reserved or broadcast. */
#define IPV4_GROUP_FIRST_BYTE 0xe0

/* RFC 792, echo */
struct icmp_echo {
    uint8_t type;
    uint8_t code;
    struct be16 checksum; /* of this and the data */
    struct be16 identifier;
    struct be16 sequence;
};
ASSERT_SIZE(struct icmp_echo, 8);
ASSERT_OFFSET(struct icmp_echo, checksum, 2);
ASSERT_OFFSET(struct icmp_echo, identifier, 4);
ASSERT_OFFSET(struct icmp_echo, sequence, 6);

enum icmp_type {
    ICMP_ECHO_REPLY = 0,
    ICMP_ECHO_REQUEST = 8,
};

/* RFC 8200 3 */
struct ipv6_header {
    struct be32 version_class_flow; /* version 31:28, traffic class 27:20, flow label 19:0 */
    struct be16 payload_bytes;      /* behind this header */
    uint8_t next_header;
    uint8_t hop_limit;
    uint8_t src[16];
    uint8_t dst[16];
};
ASSERT_SIZE(struct ipv6_header, 40);
ASSERT_OFFSET(struct ipv6_header, payload_bytes, 4);
ASSERT_OFFSET(struct ipv6_header, next_header, 6);
ASSERT_OFFSET(struct ipv6_header, hop_limit, 7);
ASSERT_OFFSET(struct ipv6_header, src, 8);
ASSERT_OFFSET(struct ipv6_header, dst, 24);

#define IPV6_VERSION_SHIFT 28
#define IPV6_VERSION_BITS  4
#define IPV6_CLASS_SHIFT   20
#define IPV6_CLASS_BITS    8

#define IPV6_GROUP_FIRST_BYTE 0xff /* ff00::/8, RFC 4291 2.7 */
#define IPV6_MTU_MIN          1280 /* RFC 8200 5 */

/* Every ICMPv6 message begins so: RFC 4443 2.1. Echo (4.1, 4.2) has the shape of icmp_echo. */
struct icmpv6_header {
    uint8_t type;
    uint8_t code;
    struct be16 checksum; /* with the pseudo-header of RFC 8200 8.1 */
};
ASSERT_SIZE(struct icmpv6_header, 4);
ASSERT_OFFSET(struct icmpv6_header, checksum, 2);

enum icmpv6_type {
    ICMPV6_ECHO_REQUEST = 128,
    ICMPV6_ECHO_REPLY = 129,
    ICMPV6_NEIGHBOR_SOLICITATION = 135,
    ICMPV6_NEIGHBOR_ADVERTISEMENT = 136,
};

/* RFC 4861 4.3 and 4.4: solicitation and advertisement; options follow. */
struct nd_message {
    struct icmpv6_header icmp;
    uint8_t flags; /* of an advertisement; else reserved */
    uint8_t reserved[3];
    uint8_t target[16];
};
ASSERT_SIZE(struct nd_message, 24);
ASSERT_OFFSET(struct nd_message, flags, 4);
ASSERT_OFFSET(struct nd_message, target, 8);

#define ND_FLAG_ROUTER    0x80
#define ND_FLAG_SOLICITED 0x40
#define ND_FLAG_OVERRIDE  0x20
#define ND_HOP_LIMIT      255 /* RFC 4861 7.1.1: from anything less it came through a router */

/* RFC 4861 4.6; of these two 4.6.1 */
struct nd_option_link_addr {
    uint8_t type;   /* enum nd_option */
    uint8_t length; /* in 8 bytes, never 0 */
    uint8_t mac[6];
};
ASSERT_SIZE(struct nd_option_link_addr, 8);
ASSERT_OFFSET(struct nd_option_link_addr, mac, 2);

enum nd_option {
    ND_OPTION_SOURCE_LINK_ADDR = 1,
    ND_OPTION_TARGET_LINK_ADDR = 2,
};

/* RFC 768 */
struct udp_header {
    struct be16 src_port;
    struct be16 dst_port;
    struct be16 len_bytes; /* of header and data */
    struct be16 checksum;  /* 0: none (IPv6: RFC 6935 5) */
};
ASSERT_SIZE(struct udp_header, 8);
ASSERT_OFFSET(struct udp_header, dst_port, 2);
ASSERT_OFFSET(struct udp_header, len_bytes, 4);
ASSERT_OFFSET(struct udp_header, checksum, 6);

#endif
