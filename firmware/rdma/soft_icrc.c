/*
 * The invariant CRC of RoCEv2: CRC-32 of IEEE 802.3 over the packet from the IP header on, with the
 * fields that may change on the way as ones and eight bytes of ones in front, where InfiniBand has
 * its local route header (IBA 9.8.1, A17.3.3). aarch64 cores have an instruction for it; elsewhere
 * eight tables take a word per step.
 */
#include "rdma/soft_priv.h"

#if defined(CRC32_STEP8)

void soft_icrc_init(void)
{
}

ALWAYS_INLINE uint32_t crc_word(uint32_t crc, uint64_t word)
{
    return CRC32_STEP8(crc, word);
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

ALWAYS_INLINE uint32_t crc_byte(uint32_t crc, uint8_t byte)
{
    return crc >> 8 ^ tables[0][(crc ^ byte) & 0xff];
}

#endif

/* One load where the core can do it unaligned; host memory may change under way: each byte is read
 * once. */
ALWAYS_INLINE uint64_t load_word(const uint8_t *p)
{
    uint64_t word;

    memcpy(&word, __builtin_assume_aligned(p, 8), sizeof(word));
    return word;
}

uint32_t soft_icrc_update(uint32_t crc, const void *bytes, uint32_t len_bytes)
{
    const uint8_t *p = bytes;

    for (; len_bytes > 0 && !is_aligned((uintptr_t)p, 8); len_bytes--) {
        crc = crc_byte(crc, *p++);
    }
    for (; len_bytes >= 32; len_bytes -= 32, p += 32) {
        uint64_t a = load_word(p);
        uint64_t b = load_word(p + 8);
        uint64_t c = load_word(p + 16);
        uint64_t d = load_word(p + 24);
        crc = crc_word(crc_word(crc_word(crc_word(crc, a), b), c), d);
    }
    for (; len_bytes >= 8; len_bytes -= 8, p += 8) {
        crc = crc_word(crc, load_word(p));
    }
    for (; len_bytes > 0; len_bytes--) {
        crc = crc_byte(crc, *p++);
    }
    return crc;
}

#define LRH_BYTES  8u
#define UDP_BYTES  8u
#define IPV4_BYTES 20u
#define IPV6_BYTES 40u

uint32_t soft_icrc_begin(const uint8_t *l3, bool is_ipv6, const struct roce_bth *bth)
{
    ALIGNED(8) uint8_t b[LRH_BYTES + IPV6_BYTES + UDP_BYTES + sizeof(struct roce_bth)];
    uint32_t ip_bytes = is_ipv6 ? IPV6_BYTES : IPV4_BYTES;
    uint8_t *ip = b + LRH_BYTES;
    uint8_t *udp = ip + ip_bytes;

    memset(b, 0xff, LRH_BYTES);
    if (is_ipv6) {
        memcpy(ip, l3, IPV6_BYTES + UDP_BYTES);
        ip[0] |= 0x0f; /* traffic class and flow label */
        memset(ip + 1, 0xff, 3);
        ip[7] = 0xff; /* hop limit */
    } else {
        memcpy(ip, l3, IPV4_BYTES + UDP_BYTES);
        ip[1] = 0xff;             /* type of service */
        ip[8] = 0xff;             /* time to live */
        memset(ip + 10, 0xff, 2); /* header checksum */
    }
    memset(udp + 6, 0xff, 2); /* checksum */
    memcpy(udp + UDP_BYTES, bth, sizeof(*bth));
    udp[UDP_BYTES + offsetof(struct roce_bth, congestion)] = 0xff;
    return soft_icrc_update(UINT32_MAX, b,
                            LRH_BYTES + ip_bytes + UDP_BYTES + (uint32_t)sizeof(*bth));
}
