/*
 * What alters a frame on its way: marks of congestion, flipped bits. Reads frames of any content.
 */
#include "boards/qemu-virt/fabric/fabric.h"

#include "base/bits.h"

#define TYPE_VLAN 0x8100u
#define TYPE_QINQ 0x88a8u
#define TYPE_IPV4 0x0800u
#define TYPE_IPV6 0x86ddu
#define MAX_TAGS  2

#define IPV4_BYTES 20
#define IPV6_BYTES 40
#define UDP        17
#define ROCE_PORT  4791u

#define ECN_MASK    3u
#define ECN_NOT_ECT 0u
#define ECN_CE      3u

static uint32_t get16(const uint8_t *bytes)
{
    return ((uint32_t)bytes[0] << 8) | bytes[1];
}

static void put16(uint8_t *bytes, uint32_t value)
{
    bytes[0] = (uint8_t)(value >> 8);
    bytes[1] = (uint8_t)value;
}

/* Where the packet begins behind the tags, and its type; false: the frame ends before. */
static bool find_packet(const uint8_t *bytes, uint32_t len_bytes, uint32_t *start, uint32_t *type)
{
    uint32_t at = 12;

    for (uint32_t tags = 0; tags <= MAX_TAGS; tags++) {
        if (!range_fits(at, 2, len_bytes)) {
            return false;
        }
        *type = get16(bytes + at);
        *start = at + 2;
        if (*type != TYPE_VLAN && *type != TYPE_QINQ) {
            return true;
        }
        at += 4;
    }
    return false;
}

bool fabric_is_roce(const uint8_t *bytes, uint32_t len_bytes)
{
    uint32_t ip;
    uint32_t type;
    uint32_t header;

    if (!find_packet(bytes, len_bytes, &ip, &type)) {
        return false;
    }
    if (type == TYPE_IPV4 && range_fits(ip, IPV4_BYTES, len_bytes) && bytes[ip + 9] == UDP) {
        header = 4u * (bytes[ip] & 15u);
    } else if (type == TYPE_IPV6 && range_fits(ip, IPV6_BYTES, len_bytes) && bytes[ip + 6] == UDP) {
        header = IPV6_BYTES;
    } else {
        return false;
    }
    return range_fits(ip + header, 4, len_bytes) && get16(bytes + ip + header + 2) == ROCE_PORT;
}

/* RFC 1624, equation 3: HC' = ~(~HC + ~m + m') for the word that changes from m to m'. */
static void fix_checksum(uint8_t *checksum, uint32_t old_word, uint32_t new_word)
{
    uint32_t sum = (~get16(checksum) & 0xffff) + (~old_word & 0xffff) + new_word;

    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    put16(checksum, ~sum & 0xffff);
}

bool fabric_mark_ce(uint8_t *bytes, uint32_t len_bytes)
{
    uint32_t ip;
    uint32_t type;

    if (!find_packet(bytes, len_bytes, &ip, &type)) {
        return false;
    }
    if (type == TYPE_IPV4 && range_fits(ip, IPV4_BYTES, len_bytes)) {
        uint32_t word = get16(bytes + ip); /* version, length, DSCP, ECN */
        uint32_t ecn = word & ECN_MASK;
        if (ecn == ECN_NOT_ECT || ecn == ECN_CE) {
            return false;
        }
        put16(bytes + ip, word | ECN_CE);
        fix_checksum(bytes + ip + 10, word, word | ECN_CE);
        return true;
    }
    if (type == TYPE_IPV6 && range_fits(ip, IPV6_BYTES, len_bytes)) {
        uint32_t ecn = (bytes[ip + 1] >> 4) & ECN_MASK; /* the traffic class starts at bit 4 */
        if (ecn == ECN_NOT_ECT || ecn == ECN_CE) {
            return false;
        }
        bytes[ip + 1] |= (uint8_t)(ECN_CE << 4);
        return true;
    }
    return false;
}

void fabric_flip_bits(uint8_t *bytes, uint32_t len_bytes, uint32_t count, uint64_t *rng)
{
    uint32_t bits = len_bytes * 8;

    count = min_u32(count, bits);
    for (uint32_t i = 0; i < count; i++) {
        /* one in each of `count` equal parts: no bit is flipped back */
        uint32_t part = bits / count;
        uint32_t bit = i * part + (uint32_t)(fabric_random(rng) % part);
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
}
