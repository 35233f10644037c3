/* Echo: RFC 792, RFC 1122 3.2.2.6, RFC 4443 4. */
#include "net/rig.h"

/* An echo request of the peer with `len` bytes of data. */
static void echo(struct frame *frame, bool is_ipv6, uint32_t len)
{
    const uint8_t header[8] = {is_ipv6 ? 128 : 8, 0, 0, 0, 0x12, 0x34, 0x00, 0x01};
    if (is_ipv6) {
        frame_ipv6(frame, IP_PROTOCOL_ICMPV6);
    } else {
        frame_ipv4(frame, IP_PROTOCOL_ICMP);
    }
    frame_put(frame, header, sizeof(header));
    for (uint32_t i = 0; i < len; i++) {
        uint8_t byte = (uint8_t)(i * 3);
        frame_put(frame, &byte, 1);
    }
    frame_done(frame, true);
}

/* What must come back: the request the other way round. */
static void expect_reply(const struct frame *request, bool is_ipv6)
{
    struct frame reply;
    struct frame expected = *request;
    uint8_t *ip = expected.bytes + expected.l3;
    uint32_t addr_bytes = is_ipv6 ? 16 : 4;
    uint8_t *src = ip + (is_ipv6 ? 8 : 12);
    uint8_t swap[16];

    memcpy(expected.bytes, request->bytes + 6, 6);
    memcpy(expected.bytes + 6, rig.mac, 6);
    memcpy(swap, src, addr_bytes);
    memcpy(src, src + addr_bytes, addr_bytes);
    memcpy(src + addr_bytes, swap, addr_bytes);
    expected.bytes[expected.l4] = is_ipv6 ? 129 : 0;
    if (!is_ipv6) {
        ip[4] = 0;
        ip[5] = 0;
        ip[6] = 0x40;
        ip[1] &= 0xfc;
    }
    frame_done(&expected, true);
    assert_true(frame_take(&reply));
    assert_int_equal(reply.len, expected.len);
    assert_memory_equal(reply.bytes, expected.bytes, expected.len);
    assert_false(frame_take(&reply));
}

static void echo_of_any_length_is_answered(void **state)
{
    (void)state;
    static const uint32_t LENGTHS[] = {0, 1, 2, 56, 327, 328, 329, 336, 337, 500, 1451, 1452};
    for (uint32_t i = 0; i < 2 * ARRAY_SIZE(LENGTHS); i++) {
        struct frame frame;
        echo(&frame, i % 2, LENGTHS[i / 2]);
        frame_inject(&frame);
        expect_reply(&frame, i % 2);
        rig_advance(NS_PER_MS);
    }
    assert_int_equal(STAT(echo_replies), 2 * ARRAY_SIZE(LENGTHS));
}

static void echo_at_the_mtu_is_answered(void **state)
{
    (void)state;
    static const uint16_t MTUS[] = {1280, 1500, 4200};
    for (uint32_t i = 0; i < ARRAY_SIZE(MTUS); i++) {
        struct net_if_config config = rig_config();
        struct frame frame;
        rig_open(&config, MTUS[i], true);
        echo(&frame, false, MTUS[i] - 28u);
        frame_inject(&frame);
        expect_reply(&frame, false);
        echo(&frame, true, MTUS[i] - 48u);
        frame_inject(&frame);
        expect_reply(&frame, true);
        if (i + 1 < ARRAY_SIZE(MTUS)) {
            assert_int_equal(rig_teardown(NULL), 0);
        }
    }
}

static void echo_longer_than_what_fits_is_dropped(void **state)
{
    (void)state;
    struct net_if_config config = rig_config();
    struct frame frame;
    rig_open(&config, 9000, true);
    /* The longest is what a buffer and a big one hold. */
    echo(&frame, false, NET_BUF_INLINE_BYTES + NET_BIG_BYTES - 8);
    frame_inject(&frame);
    expect_reply(&frame, false);
    echo(&frame, false, NET_BUF_INLINE_BYTES + NET_BIG_BYTES - 7);
    frame_inject(&frame);
    assert_int_equal(peer_drain(), 0);
    assert_int_equal(STAT(tx_no_buf), 1);
    echo(&frame, true, 8900);
    frame_inject(&frame);
    assert_int_equal(peer_drain(), 0);
}

/* A port may hand up more than our MTU; what we send keeps to it. */
static void echo_longer_than_the_mtu_is_dropped(void **state)
{
    (void)state;
    struct net_if_config config = rig_config();
    struct frame frame;
    config.mtu_bytes = 1280;
    rig_open(&config, 1500, true);
    echo(&frame, false, 1253);
    frame_inject(&frame);
    assert_int_equal(peer_drain(), 0);
    echo(&frame, false, 1252);
    frame_inject(&frame);
    expect_reply(&frame, false);
}

static void echo_without_a_big_buffer_is_dropped(void **state)
{
    (void)state;
    struct net_buf *bufs[4];
    struct frame frame;
    for (uint32_t i = 0; i < 4; i++) {
        bufs[i] = net_buf_get(rig.nif);
        assert_non_null(net_big_get(rig.nif, bufs[i]));
    }
    echo(&frame, false, 1000);
    frame_inject(&frame);
    assert_int_equal(peer_drain(), 0);
    assert_int_equal(STAT(tx_no_buf), 1);
    echo(&frame, false, 100); /* a short one needs none */
    frame_inject(&frame);
    expect_reply(&frame, false);
    for (uint32_t i = 0; i < 4; i++) {
        net_buf_put(rig.nif, bufs[i]);
    }
}

/* RFC 1122 3.2.2.6, RFC 4443 4.2: we may drop these, and do. */
static void echo_to_or_from_a_group_is_never_answered(void **state)
{
    (void)state;
    struct frame frame;
    static const char *const SOURCES[] = {"0.0.0.0", "255.255.255.255", "224.0.0.1", "127.0.0.1",
                                          "192.0.2.255"};
    for (uint32_t i = 0; i < ARRAY_SIZE(SOURCES); i++) {
        struct net_addr src = addr(SOURCES[i]);
        echo(&frame, false, 56);
        memcpy(frame.bytes + frame.l3 + 12, src.bytes + 12, 4);
        frame_done(&frame, true);
        frame_inject(&frame);
    }
    static const char *const SOURCES6[] = {"::", "::1"};
    for (uint32_t i = 0; i < ARRAY_SIZE(SOURCES6); i++) {
        struct net_addr src = addr(SOURCES6[i]);
        echo(&frame, true, 56);
        memcpy(frame.bytes + frame.l3 + 8, src.bytes, 16);
        frame_done(&frame, true);
        frame_inject(&frame);
    }
    echo(&frame, true, 56); /* to all nodes */
    memcpy(frame.bytes + frame.l3 + 24, net_all_nodes.bytes, 16);
    memcpy(frame.bytes, ((const uint8_t[6]){0x33, 0x33, 0, 0, 0, 1}), 6);
    frame_done(&frame, true);
    frame_inject(&frame);
    echo(&frame, true, 56); /* to us, in a group frame */
    memcpy(frame.bytes, ((const uint8_t[6]){0x33, 0x33, 0, 0, 0, 1}), 6);
    frame_inject(&frame);
    echo(&frame, false, 56); /* to the broadcast address */
    frame.bytes[frame.l3 + 19] = 255;
    frame_done(&frame, true);
    frame_inject(&frame);
    echo(&frame, false, 56); /* from a group MAC */
    frame.bytes[6] |= 1;
    frame_inject(&frame);
    assert_int_equal(peer_drain(), 0);
    assert_int_equal(STAT(echo_replies), 0);
}

static void echo_malformed_is_dropped(void **state)
{
    (void)state;
    struct frame frame;
    for (uint32_t is_ipv6 = 0; is_ipv6 < 2; is_ipv6++) {
        for (uint32_t len = 0; len < 8; len++) {
            uint64_t before = STAT(rx_malformed);
            echo(&frame, is_ipv6, 0);
            frame.len = frame.l4 + len;
            frame_done(&frame, false);
            frame_inject(&frame);
            assert_int_equal(STAT(rx_malformed), before + 1);
        }
        uint64_t before = STAT(rx_checksum);
        echo(&frame, is_ipv6, 57);
        frame.bytes[frame.len - 1] ^= 1;
        frame_inject(&frame);
        assert_int_equal(STAT(rx_checksum), before + 1);
        echo(&frame, is_ipv6, 10);
        frame.bytes[frame.l4 + 1] = 1; /* code */
        frame_done(&frame, true);
        frame_inject(&frame);
    }
    assert_int_equal(peer_drain(), 0);
}

static void icmp_of_other_types_is_not_answered(void **state)
{
    (void)state;
    for (uint32_t type = 0; type < 256; type++) {
        struct frame frame;
        echo(&frame, false, 20);
        frame.bytes[frame.l4] = (uint8_t)type;
        frame_done(&frame, true);
        frame_inject(&frame);
        assert_int_equal(peer_drain(), type == 8);
        echo(&frame, true, 20);
        frame.bytes[frame.l4] = (uint8_t)type;
        frame_done(&frame, true);
        frame_inject(&frame);
        assert_int_equal(peer_drain(), type == 128);
    }
}

/* RFC 4443 2.4 (f) */
static void echo_flood_is_answered_1000_times_a_second(void **state)
{
    (void)state;
    struct frame frame;
    echo(&frame, false, 56);
    rig_advance(NS_PER_S);
    for (uint32_t second = 0; second < 3; second++) {
        uint32_t answered = 0;
        for (uint32_t i = 0; i < 1500; i++) {
            frame_inject(&frame);
            answered += peer_drain();
        }
        assert_int_equal(answered, 1000);
        rig_advance(NS_PER_S);
    }
}

/* The DSCP comes back, the ECN field does not (RFC 3168 6.1.1 is about the data's transport). */
static void echo_keeps_the_dscp(void **state)
{
    (void)state;
    struct frame frame;
    echo(&frame, false, 56);
    frame.bytes[frame.l3 + 1] = 0xbb;
    frame_done(&frame, true);
    frame_inject(&frame);
    expect_reply(&frame, false);
}

static void echo_without_room_at_the_device_is_dropped(void **state)
{
    (void)state;
    struct frame frame;
    wire_hold_reap(rig.wire, true);
    echo(&frame, false, 56);
    for (uint32_t i = 0; i < 40; i++) { /* 32 buffers */
        frame_inject(&frame);
    }
    assert_int_equal(peer_drain(), 32);
    assert_int_equal(STAT(tx_no_buf), 8);
}

/* A checksum of all ones or zeros is the same number: the turned type must not spoil it. */
static void echo_checksum_edge_values_are_answered_rightly(void **state)
{
    (void)state;
    rig_advance(NS_PER_S);
    for (uint32_t i = 0; i < 0x1200; i += 0x11) {
        struct frame frame;
        for (uint32_t is_ipv6 = 0; is_ipv6 < 2; is_ipv6++) {
            echo(&frame, is_ipv6, 2);
            frame.bytes[frame.l4 + 8] = (uint8_t)((0xf7ff - 0x1000 + i) >> 8);
            frame.bytes[frame.l4 + 9] = (uint8_t)(0xf7ff - 0x1000 + i);
            frame_done(&frame, true);
            frame_inject(&frame);
            /* To be right is all that counts: 0 and ffff are both zero. */
            struct frame reply;
            assert_true(frame_take(&reply));
            reply.l4 = frame.l4;
            uint16_t pseudo = is_ipv6 ? net_sum_pseudo(reply.bytes + 14, true, 58, 10) : 0;
            assert_int_equal(net_sum_add(pseudo, net_sum(reply.bytes + reply.l4, 10)), 0xffff);
        }
        rig_advance(2 * NS_PER_MS);
    }
}

#define T(name)     cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
#define T_OWN(name) cmocka_unit_test_teardown(name, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(echo_of_any_length_is_answered),
        T_OWN(echo_at_the_mtu_is_answered),
        T_OWN(echo_longer_than_what_fits_is_dropped),
        T_OWN(echo_longer_than_the_mtu_is_dropped),
        T(echo_without_a_big_buffer_is_dropped),
        T(echo_to_or_from_a_group_is_never_answered),
        T(echo_malformed_is_dropped),
        T(icmp_of_other_types_is_not_answered),
        T(echo_flood_is_answered_1000_times_a_second),
        T(echo_keeps_the_dscp),
        T(echo_without_room_at_the_device_is_dropped),
        T(echo_checksum_edge_values_are_answered_rightly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
