/*
 * The Internet checksum, RFC 1071: sums are taken as the core loads them and turned at the end
 * (section 2 B), since the order of bytes changes no ones' complement sum but its order.
 */
#include "net/net_priv.h"

static uint16_t fold(uint64_t sum)
{
    sum = (sum & UINT32_MAX) + (sum >> 32);
    sum = (sum & UINT32_MAX) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

uint16_t net_sum(const void *data, uint32_t len_bytes)
{
    const uint8_t *at = data;
    uint64_t sum = 0;

    /* Less than 2^30 words: no carry out of 64 bits. */
    for (; len_bytes >= 4; len_bytes -= 4, at += 4) {
        uint32_t word;
        COPY_FIXED(&word, at, sizeof(word));
        sum += word;
    }
    if (len_bytes > 0) {
        uint32_t word = 0;
        memcpy(&word, at, len_bytes);
        sum += word;
    }
    return __builtin_bswap16(fold(sum));
}

uint16_t net_sum_pseudo(const uint8_t *l3, bool is_ipv6, uint8_t protocol, uint32_t len_bytes)
{
    uint16_t addrs = is_ipv6 ? net_sum(l3 + offsetof(struct ipv6_header, src), 32)
                             : net_sum(l3 + offsetof(struct ipv4_header, src), 8);
    return net_sum_add(net_sum_add(addrs, protocol), (uint16_t)len_bytes);
}
