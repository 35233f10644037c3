/* The invariant CRC (IBA 9.8.1, A17.3.3) against packets that Linux' rxe sent, against vectors that
 * zlib made, and against the simplest way to compute it. */
#include "rdma/rig.h"

#include <stdio.h>
#include "rdma/soft_packet_priv.h"

#define CAPTURE "tests/data/roce/opcodes.pcap" /* from the top folder, where tests run */

/* Out of a capture of NVMe over rxe: acknowledgement */
static const uint8_t ack_of_rxe[] = {
    0x52, 0x54, 0x00, 0x00, 0x00, 0x02, 0x52, 0x54, 0x00, 0x00, 0x00, 0x01, 0x08, 0x00, 0x45, 0x00,
    0x00, 0x30, 0x32, 0xf8, 0x40, 0x00, 0x40, 0x11, 0x83, 0xc1, 0xc0, 0x00, 0x02, 0x01, 0xc0, 0x00,
    0x02, 0x02, 0xf8, 0xe7, 0x12, 0xb7, 0x00, 0x1c, 0x00, 0x00, 0x11, 0x00, 0xff, 0xff, 0x00, 0x00,
    0x00, 0x11, 0x00, 0x61, 0x78, 0x08, 0x1f, 0x00, 0x00, 0x01, 0x60, 0x6a, 0x23, 0xf5,
};
/* By zlib. IPv6: SEND only, one byte and three of pad */
static const uint8_t send_ipv6[] = {
    0x02, 0x00, 0x00, 0x00, 0x00, 0x01, 0x02, 0x00, 0x00, 0x00, 0x00, 0x02, 0x86, 0xdd,
    0x60, 0x02, 0x12, 0x34, 0x00, 0x1c, 0x11, 0x3f, 0x20, 0x01, 0x0d, 0xb8, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x20, 0x01, 0x0d, 0xb8,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0xd0, 0x0d,
    0x12, 0xb7, 0x00, 0x1c, 0x00, 0x00, 0x04, 0xf0, 0xff, 0xff, 0x00, 0x00, 0x12, 0x34,
    0x80, 0xab, 0xcd, 0xef, 0x5a, 0x00, 0x00, 0x00, 0x1b, 0x4e, 0xb1, 0x8a,
};
/* IPv6: acknowledgement with BECN */
static const uint8_t ack_ipv6_becn[] = {
    0x02, 0x00, 0x00, 0x00, 0x00, 0x01, 0x02, 0x00, 0x00, 0x00, 0x00, 0x02, 0x86, 0xdd,
    0x60, 0x02, 0x12, 0x34, 0x00, 0x1c, 0x11, 0x3f, 0x20, 0x01, 0x0d, 0xb8, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x20, 0x01, 0x0d, 0xb8,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0xd0, 0x0d,
    0x12, 0xb7, 0x00, 0x1c, 0x00, 0x00, 0x11, 0x40, 0xff, 0xff, 0x40, 0x00, 0x43, 0x21,
    0x00, 0x00, 0x00, 0x07, 0x1f, 0x00, 0x00, 0x09, 0x20, 0x85, 0x3d, 0x52,
};

static const struct {
    const uint8_t *bytes;
    uint32_t len;
} packets[] = {
    {ack_of_rxe, sizeof(ack_of_rxe)},
    {send_ipv6, sizeof(send_ipv6)},
    {ack_ipv6_becn, sizeof(ack_ipv6_becn)},
};

/* As the engine computes it, in two pieces of payload. */
static uint32_t icrc_of(const uint8_t *frame, uint32_t len, uint32_t cut)
{
    ALIGNED(16) uint8_t copy[8192];
    memcpy(copy + 2, frame, len); /* IP is aligned, as in a frame */
    uint8_t *ip = copy + 2 + 14;
    bool is_ipv6 = ip[0] >> 4 == 6;
    uint8_t *bth = ip + (is_ipv6 ? 40 : 20) + 8;
    uint32_t rest = len - (uint32_t)(bth - copy - 2) - 12 - 4;

    soft_icrc_init();
    uint32_t crc = soft_icrc_begin(ip, is_ipv6, (const struct roce_bth *)(const void *)bth);
    cut = cut < rest ? cut : rest;
    crc = soft_icrc_update(crc, bth + 12, cut);
    return soft_icrc_end(soft_icrc_update(crc, bth + 12 + cut, rest - cut));
}

static uint32_t icrc_in(const uint8_t *frame, uint32_t len)
{
    uint32_t icrc;
    memcpy(&icrc, frame + len - 4, sizeof(icrc));
    return icrc;
}

static void icrc_of_single_packets_matches(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < ARRAY_SIZE(packets); i++) {
        for (uint32_t cut = 0; cut < 20; cut++) {
            assert_int_equal(icrc_of(packets[i].bytes, packets[i].len, cut),
                             icrc_in(packets[i].bytes, packets[i].len));
        }
        /* The peer of these tests has it right, too. */
        assert_int_equal(peer_icrc(packets[i].bytes, packets[i].len),
                         icrc_in(packets[i].bytes, packets[i].len));
    }
}

/* What Linux sends: 17 opcodes over IPv4, most of them over IPv6 too. A VLAN tag is not the
 * checksum's matter: it is taken out. */
static void icrc_of_17_opcodes_of_linux_matches(void **state)
{
    (void)state;
    FILE *file = fopen(CAPTURE, "rb");
    assert_non_null(file);
    uint8_t record[24];
    static uint8_t frame[8192];
    bool seen[256] = {false};
    uint32_t over_ipv6 = 0;
    uint32_t opcodes = 0;
    assert_int_equal(fread(record, 1, 24, file), 24);
    while (fread(record, 1, 16, file) == 16) {
        uint32_t len = record[8] | (uint32_t)record[9] << 8;
        assert_true(len >= 60 && len <= sizeof(frame));
        assert_int_equal(fread(frame, 1, len, file), len);
        if (frame[12] == 0x81 && frame[13] == 0) {
            memmove(frame + 12, frame + 16, len - 16);
            len -= 4;
        }
        bool is_ipv6 = frame[14] >> 4 == 6;
        uint8_t opcode = frame[14 + (is_ipv6 ? 40 : 20) + 8];
        assert_int_equal(icrc_of(frame, len, 13), icrc_in(frame, len));
        assert_int_equal(peer_icrc(frame, len), icrc_in(frame, len));
        assert_true(soft_op_flags[opcode] != 0); /* we know what it means */
        opcodes += !seen[opcode];
        seen[opcode] = true;
        over_ipv6 += is_ipv6;
    }
    fclose(file);
    assert_true(opcodes == 17 && over_ipv6 > 0);
}

/* The bits that may change on the way: DSCP and ECN, hop count, checksums, flow label, FECN and
 * BECN. */
static bool is_variant(const uint8_t *frame, uint32_t at, uint32_t bit)
{
    bool is_ipv6 = frame[14] >> 4 == 6;
    uint32_t udp = is_ipv6 ? 54 : 34;

    if (at == udp + 6 || at == udp + 7 || at == udp + 8 + 4) {
        return true;
    }
    if (is_ipv6) {
        return (at == 14 && bit < 4) || (at > 14 && at < 18) || at == 21;
    }
    return at == 15 || at == 22 || at == 24 || at == 25;
}

/* Every bit from the IP header on is covered, but for these. */
static void icrc_covers_what_may_not_change(void **state)
{
    (void)state;
    uint8_t frame[2048];
    for (uint32_t i = 0; i < ARRAY_SIZE(packets); i++) {
        uint32_t len = packets[i].len;
        uint32_t right = icrc_in(packets[i].bytes, len);
        memcpy(frame, packets[i].bytes, len);
        for (uint32_t at = 14; at < len - 4; at++) {
            for (uint32_t bit = 0; bit < 8; bit++) {
                if (at == 14 && bit >= 4) {
                    continue; /* the version says how to read the rest */
                }
                frame[at] ^= (uint8_t)(1 << bit);
                bool same = icrc_of(frame, len, 0) == right;
                assert_int_equal(same, is_variant(frame, at, bit));
                frame[at] ^= (uint8_t)(1 << bit);
            }
        }
    }
}

/* CRC-32/ISO-HDLC's check value. */
static void crc_of_the_check_string_is_cbf43926(void **state)
{
    (void)state;
    soft_icrc_init();
    assert_int_equal(~soft_icrc_update(UINT32_MAX, "123456789", 9), 0xcbf43926);
    assert_int_equal(~soft_icrc_update(UINT32_MAX, "", 0), 0);
    assert_int_equal(~peer_crc(UINT32_MAX, (const uint8_t *)"123456789", 9), 0xcbf43926);
}

/* Each alignment, each length around the steps of the loop, cut anywhere. */
static void crc_of_pieces_is_that_of_the_whole(void **state)
{
    (void)state;
    ALIGNED(8) uint8_t bytes[160];
    pattern(bytes, sizeof(bytes), 7);
    soft_icrc_init();
    for (uint32_t at = 0; at < 9; at++) {
        for (uint32_t len = 0; len <= 140; len++) {
            uint32_t right = peer_crc(0x12345678, bytes + at, len);
            assert_int_equal(soft_icrc_update(0x12345678, bytes + at, len), right);
            uint32_t cut = (len * 5 + at) % (len + 1);
            uint32_t crc = soft_icrc_update(0x12345678, bytes + at, cut);
            assert_int_equal(soft_icrc_update(crc, bytes + at + cut, len - cut), right);
        }
    }
}

/* Each bit of a packet that arrives, turned over: dropped, or taken where it may change. */
static void icrc_wrong_in_any_bit_is_dropped(void **state)
{
    (void)state;
    rig_qp(NULL);
    uint8_t frame[PKT_FRAME_MAX];
    uint32_t psn = RQ_PSN;
    uint32_t len = 0;
    for (uint32_t at = 34; at == 34 || at < len; at++) {
        for (uint32_t bit = 0; bit < 8; bit++) {
            struct pkt *made = pkt_rdma(WRITE_ONLY, psn, 4, addr_at(0), rig.mr->rkey, 4);
            len = pkt_build(made, frame);
            frame[at] ^= (uint8_t)(1 << bit);
            peer_send_raw(frame, len);
            /* UDP's length, ports and checksum are the interface's matter; FECN and BECN may
             * change. */
            bool taken = at == 34 + 8 + 4;
            assert_int_equal(rig_info(rig.qp).rq_psn, taken ? PKT_PSN(psn + 1) : psn);
            psn += taken;
            peer_drain();
        }
    }
    assert_int_equal(rig.qp->state, RDMA_QP_RTS);
    assert_true(STAT(rx_icrc) > 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(icrc_of_single_packets_matches),
        cmocka_unit_test(icrc_of_17_opcodes_of_linux_matches),
        cmocka_unit_test(icrc_covers_what_may_not_change),
        cmocka_unit_test(crc_of_the_check_string_is_cbf43926),
        cmocka_unit_test(crc_of_pieces_is_that_of_the_whole),
        RIG_TEST(icrc_wrong_in_any_bit_is_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
