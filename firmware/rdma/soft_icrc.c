/*
 * The invariant CRC of RoCEv2: CRC-32 of IEEE 802.3 over the packet from the IP header on, with the
 * fields that may change on the way as ones and eight bytes of ones in front, where InfiniBand has
 * its local route header (IBA 9.8.1, A17.3.3). aarch64 cores have an instruction for it; elsewhere
 * eight tables take a word per step.
 */
#include "rdma/soft_packet_priv.h"

#if defined(CRC32_STEP8)

void soft_icrc_init(void)
{
}

ALWAYS_INLINE uint32_t crc_word(uint32_t crc, uint64_t word)
{
    return CRC32_STEP8(crc, word);
}

ALWAYS_INLINE uint32_t crc_half(uint32_t crc, uint32_t half)
{
    return CRC32_STEP4(crc, half);
}

ALWAYS_INLINE uint32_t crc_byte(uint32_t crc, uint8_t byte)
{
    return CRC32_STEP1(crc, byte);
}

#else

#include <stdatomic.h>
#include "hal/cpu.h"

#define POLYNOMIAL 0xedb88320u /* reflected */
#define TABLES     8

static uint32_t tables[TABLES][256];

/* Table t: what a byte does to the CRC t bytes later. */
void soft_icrc_init(void)
{
    static _Atomic uint32_t state; /* 0: nobody began, 1: somebody fills them, 2: they are full */
    uint32_t before = 0;

    if (!atomic_compare_exchange_strong(&state, &before, 1)) {
        while (atomic_load(&state) != 2) { /* some microseconds */
            cpu_relax();
        }
        return;
    }
    for (uint32_t n = 0; n < 256; n++) {
        uint32_t crc = n;
        for (uint32_t bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ ((crc & 1) != 0 ? POLYNOMIAL : 0);
        }
        tables[0][n] = crc;
    }
    for (uint32_t t = 1; t < TABLES; t++) {
        for (uint32_t n = 0; n < 256; n++) {
            tables[t][n] = tables[t - 1][n] >> 8 ^ tables[0][tables[t - 1][n] & 0xff];
        }
    }
    atomic_store(&state, 2);
}

ALWAYS_INLINE uint32_t crc_word(uint32_t crc, uint64_t word)
{
    word ^= crc;
    crc = 0;
    for (uint32_t t = 0; t < TABLES; t++) {
        crc ^= tables[TABLES - 1 - t][word >> 8 * t & 0xff];
    }
    return crc;
}

ALWAYS_INLINE uint32_t crc_half(uint32_t crc, uint32_t half)
{
    half ^= crc;
    return tables[3][half & 0xff] ^ tables[2][half >> 8 & 0xff] ^ tables[1][half >> 16 & 0xff] ^
           tables[0][half >> 24];
}

ALWAYS_INLINE uint32_t crc_byte(uint32_t crc, uint8_t byte)
{
    return crc >> 8 ^ tables[0][(crc ^ byte) & 0xff];
}

#endif

/* --- bytes ------------------------------------------------------------------------------------ */

uint32_t soft_icrc_update(uint32_t crc, const void *bytes, uint32_t len_bytes)
{
    const uint8_t *p = bytes;

    for (; len_bytes > 0 && !is_aligned((uintptr_t)p, 4); len_bytes--) {
        crc = crc_byte(crc, *p++);
    }
    if (len_bytes >= 4 && !is_aligned((uintptr_t)p, 8)) {
        crc = crc_half(crc, *(const word32 *)ASSUME_ALIGNED(p, 4));
        p += 4;
        len_bytes -= 4;
    }
    /* Loads of whole words: host memory may change under way, each byte is read once. */
    const word64 *words = (const void *)p; /* aligned, if there are eight bytes */
    for (; len_bytes >= 64; len_bytes -= 64, words += 8) {
        crc = crc_word(crc_word(crc, words[0]), words[1]);
        crc = crc_word(crc_word(crc, words[2]), words[3]);
        crc = crc_word(crc_word(crc, words[4]), words[5]);
        crc = crc_word(crc_word(crc, words[6]), words[7]);
    }
    for (; len_bytes >= 8; len_bytes -= 8) {
        crc = crc_word(crc, *words++);
    }
    p = (const uint8_t *)words;
    if (len_bytes >= 4) {
        crc = crc_half(crc, *(const word32 *)words);
        p += 4;
        len_bytes -= 4;
    }
    for (; len_bytes > 0; len_bytes--) {
        crc = crc_byte(crc, *p++);
    }
    return crc;
}

/* --- headers ---------------------------------------------------------------------------------- */

/* What the eight bytes of ones in front make of the start value. */
#define AFTER_ONES 0xdebb20e3u

/* Masks of what changes on the way, in words as a load gives them. */
#define IPV4_TOS          0x0000ff00u
#define IPV4_TTL_CHECKSUM 0xffff00ffu
#define IPV6_CLASS_FLOW   0xffffff0fu
#define IPV6_HOP_LIMIT    0xff000000u
#define UDP_CHECKSUM      0xffff0000u
#define BTH_CONGESTION    0x000000ffu
#define IPV4_WORDS        5u
#define IPV6_WORDS        10u

ALWAYS_INLINE uint32_t two(uint32_t crc, uint32_t low, uint32_t high)
{
    return crc_word(crc, (uint64_t)high << 32 | low);
}

uint32_t soft_icrc_begin(const uint8_t *l3, bool is_ipv6, const struct roce_bth *bth_header)
{
    const word32 *ip = ASSUME_ALIGNED(l3, 4);
    const word32 *udp = ip + (is_ipv6 ? IPV6_WORDS : IPV4_WORDS);
    const word32 *bth = ASSUME_ALIGNED(bth_header, 4);
    uint32_t crc = AFTER_ONES;

    if (!is_ipv6) {
        crc = two(crc, ip[0] | IPV4_TOS, ip[1]);
        crc = two(crc, ip[2] | IPV4_TTL_CHECKSUM, ip[3]);
        crc = two(crc, ip[4], udp[0]);
        crc = two(crc, udp[1] | UDP_CHECKSUM, bth[0]);
        return two(crc, bth[1] | BTH_CONGESTION, bth[2]);
    }
    crc = two(crc, ip[0] | IPV6_CLASS_FLOW, ip[1] | IPV6_HOP_LIMIT);
    for (uint32_t i = 2; i < IPV6_WORDS; i += 2) {
        crc = two(crc, ip[i], ip[i + 1]);
    }
    crc = two(crc, udp[0], udp[1] | UDP_CHECKSUM);
    crc = two(crc, bth[0], bth[1] | BTH_CONGESTION);
    return crc_half(crc, bth[2]);
}
