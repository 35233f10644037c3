/*
 * Marks of congestion (RFC 3168), which packets are RoCE, flipped bits: on good and on broken
 * frames.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "boards/qemu-virt/fabric/fabric.h"

#define IP_AT     14u
#define TAG_BYTES 4u

struct packet {
    uint8_t bytes[128];
    uint32_t len;
};

static void put16(uint8_t *bytes, uint32_t value)
{
    bytes[0] = (uint8_t)(value >> 8);
    bytes[1] = (uint8_t)value;
}

/* RFC 1071: 0 over a header whose checksum is right. */
static uint32_t checksum(const uint8_t *bytes, uint32_t len)
{
    uint32_t sum = 0;

    for (uint32_t i = 0; i < len; i += 2) {
        sum += ((uint32_t)bytes[i] << 8) | bytes[i + 1];
    }
    while (sum > 0xffff) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return ~sum & 0xffff;
}

/* A frame with `tags` VLAN tags and a UDP packet to `port`; `ecn` 0..3. */
static struct packet make(uint32_t version, uint32_t tags, uint32_t ecn, uint32_t port)
{
    struct packet p = {.len = 0};
    uint8_t *at = p.bytes + 12;

    for (uint32_t i = 0; i < tags; i++) {
        put16(at, i + 1 < tags ? 0x88a8 : 0x8100);
        put16(at + 2, 100);
        at += TAG_BYTES;
    }
    put16(at, version == 4 ? 0x0800 : 0x86dd);
    uint8_t *ip = at + 2;
    uint8_t *udp = ip + (version == 4 ? 20 : 40);
    if (version == 4) {
        ip[0] = 0x45;
        ip[1] = (uint8_t)((26 << 2) | ecn);
        put16(ip + 2, 36);
        ip[8] = 64;
        ip[9] = 17;
        ip[12] = 192;
        ip[16] = 192;
        put16(ip + 10, checksum(ip, 20));
    } else {
        put16(ip, 0x6000u | (26u << 6) | (ecn << 4));
        ip[6] = 17;
        ip[7] = 64;
    }
    put16(udp + 2, port);
    p.len = (uint32_t)(udp + 16 - p.bytes);
    return p;
}

static void mark_ce_on_ect_sets_it_and_keeps_the_checksum_right(void **state)
{
    (void)state;
    for (uint32_t tags = 0; tags <= 2; tags++) {
        for (uint32_t ecn = 1; ecn <= 2; ecn++) {
            struct packet p = make(4, tags, ecn, 4791);
            uint8_t *ip = p.bytes + IP_AT + tags * TAG_BYTES;
            assert_true(fabric_mark_ce(p.bytes, p.len));
            assert_int_equal(ip[1], (26 << 2) | 3);
            assert_int_equal(checksum(ip, 20), 0);

            p = make(6, tags, ecn, 4791);
            ip = p.bytes + IP_AT + tags * TAG_BYTES;
            struct packet want = make(6, tags, 3, 4791);
            assert_true(fabric_mark_ce(p.bytes, p.len));
            assert_memory_equal(p.bytes, want.bytes, p.len);
        }
    }
}

static void mark_ce_every_header_keeps_the_checksum_right(void **state)
{
    (void)state;
    for (uint32_t id = 0; id < 0x10000; id++) {
        struct packet p = make(4, 0, 2, 4791);
        uint8_t *ip = p.bytes + IP_AT;
        put16(ip + 4, id);
        put16(ip + 10, 0);
        put16(ip + 10, checksum(ip, 20));
        assert_true(fabric_mark_ce(p.bytes, p.len));
        assert_int_equal(checksum(ip, 20), 0);
    }
}

static void mark_ce_on_others_changes_nothing(void **state)
{
    (void)state;
    for (uint32_t version = 4; version <= 6; version += 2) {
        for (uint32_t ecn = 0; ecn <= 3; ecn += 3) { /* not capable; marked already */
            struct packet p = make(version, 0, ecn, 4791);
            struct packet before = p;
            assert_false(fabric_mark_ce(p.bytes, p.len));
            assert_memory_equal(p.bytes, before.bytes, sizeof(p.bytes));
        }
    }
    struct packet arp = make(4, 0, 2, 4791);
    put16(arp.bytes + 12, 0x0806);
    assert_false(fabric_mark_ce(arp.bytes, arp.len));
}

static void mark_ce_on_a_cut_frame_reads_no_byte_behind(void **state)
{
    (void)state;
    for (uint32_t version = 4; version <= 6; version += 2) {
        struct packet p = make(version, 1, 2, 4791);
        uint32_t need = IP_AT + TAG_BYTES + (version == 4 ? 20 : 40);
        for (uint32_t len = 0; len < p.len; len++) {
            uint8_t exact[128]; /* the sanitizer sees what lies behind exact[len] */
            uint8_t *start = exact + sizeof(exact) - len;
            memcpy(start, p.bytes, len);
            assert_int_equal(fabric_mark_ce(start, len), len >= need);
            assert_int_equal(fabric_is_roce(start, len), len >= need + 4);
        }
    }
}

static void is_roce_says_so_for_udp_4791_alone(void **state)
{
    (void)state;
    for (uint32_t tags = 0; tags <= 2; tags++) {
        for (uint32_t version = 4; version <= 6; version += 2) {
            struct packet p = make(version, tags, 0, 4791);
            assert_true(fabric_is_roce(p.bytes, p.len));
            p = make(version, tags, 0, 4790);
            assert_false(fabric_is_roce(p.bytes, p.len));
        }
    }
    struct packet tcp = make(4, 0, 0, 4791);
    tcp.bytes[IP_AT + 9] = 6;
    assert_false(fabric_is_roce(tcp.bytes, tcp.len));
    struct packet three_tags = make(4, 2, 0, 4791);
    put16(three_tags.bytes + 12 + 2 * TAG_BYTES, 0x8100);
    assert_false(fabric_is_roce(three_tags.bytes, three_tags.len));
}

static uint32_t bits_set(const uint8_t *bytes, uint32_t len)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < len; i++) {
        count += (uint32_t)__builtin_popcount(bytes[i]);
    }
    return count;
}

static void flip_bits_flips_as_many_as_told(void **state)
{
    (void)state;
    uint64_t rng = 7;

    for (uint32_t len = 1; len <= 100; len++) {
        for (uint32_t count = 1; count <= FABRIC_CORRUPT_BITS; count++) {
            uint8_t bytes[100] = {0};
            fabric_flip_bits(bytes, len, count, &rng);
            uint32_t want = count < 8 * len ? count : 8 * len;
            assert_int_equal(bits_set(bytes, sizeof(bytes)), want);
            assert_int_equal(bits_set(bytes, len), want);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mark_ce_on_ect_sets_it_and_keeps_the_checksum_right),
        cmocka_unit_test(mark_ce_every_header_keeps_the_checksum_right),
        cmocka_unit_test(mark_ce_on_others_changes_nothing),
        cmocka_unit_test(mark_ce_on_a_cut_frame_reads_no_byte_behind),
        cmocka_unit_test(is_roce_says_so_for_udp_4791_alone),
        cmocka_unit_test(flip_bits_flips_as_many_as_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
