/* Frames received: who they are for, tags, IPv4, IPv6 and UDP with hostile lengths. */
#include "net/rig.h"

#define PORT 4791

static struct {
    uint32_t count;
    struct net_rx rx;
    struct net_addr src;
    struct net_addr dst;
    uint8_t payload[2048];
} got;

static void take(void *ctx, const struct net_rx *rx)
{
    assert_ptr_equal(ctx, &got);
    got.count++;
    got.rx = *rx;
    got.src = net_rx_src(rx);
    got.dst = net_rx_dst(rx);
    assert_true(rx->payload_bytes <= sizeof(got.payload));
    assert_int_equal((uintptr_t)rx->l3 % 4, 0);
    assert_int_equal((uintptr_t)rx->payload % 4, 0);
    memcpy(got.payload, rx->payload, rx->payload_bytes);
}

static void bind(void)
{
    memset(&got, 0, sizeof(got));
    assert_int_equal(net_udp_bind(rig.nif, PORT, take, &got), STATUS_OK);
}

static int setup(void **state)
{
    rig_setup(state);
    bind();
    return 0;
}

static void setup_vlan(uint16_t vlan)
{
    struct net_if_config config = rig_config();
    config.vlan = vlan;
    rig_open(&config, 0, true);
    bind();
}

/* Injects; true: it came up. Each frame that does not must be counted once. */
static bool comes_up(const struct frame *frame)
{
    uint32_t before = got.count;
    uint64_t frames = STAT(rx_frames);
    uint64_t dropped = STAT(rx_malformed) + STAT(rx_checksum) + STAT(rx_not_ours) +
                       STAT(rx_fragment) + STAT(rx_no_port);
    frame_inject(frame);
    assert_int_equal(STAT(rx_frames), frames + 1);
    dropped = STAT(rx_malformed) + STAT(rx_checksum) + STAT(rx_not_ours) + STAT(rx_fragment) +
              STAT(rx_no_port) - dropped;
    assert_int_equal(dropped + (got.count - before), 1);
    return got.count != before;
}

#define EXPECT_DROP(frame, stat)                       \
    do {                                               \
        uint64_t stat_before = STAT(stat);             \
        assert_false(comes_up(frame));                 \
        assert_int_equal(STAT(stat), stat_before + 1); \
    } while (0)

/* --- datagrams that are right ----------------------------------------------------------------- */

static void udp_datagram_ipv4_comes_up_with_its_addresses(void **state)
{
    (void)state;
    struct frame frame;
    frame_datagram(&frame, false, PORT, 100);
    frame.bytes[frame.l3 + 1] = 0xb9; /* ECT(1) */
    frame_done(&frame, false);
    assert_true(comes_up(&frame));
    assert_false(got.rx.is_ipv6);
    assert_int_equal(got.rx.payload_bytes, 100);
    assert_int_equal(got.rx.ecn, 1);
    assert_true(net_addr_equal(&got.src, &rig.peer4));
    assert_true(net_addr_equal(&got.dst, &rig.addr4));
    assert_memory_equal(got.payload, frame.bytes + frame.l4 + 8, 100);
    assert_int_equal(STAT(rx_udp), 1);
}

static void udp_datagram_ipv6_comes_up_with_its_addresses(void **state)
{
    (void)state;
    struct frame frame;
    frame_datagram(&frame, true, PORT, 33);
    frame.bytes[frame.l3 + 1] = 0x20; /* ECT(0): RFC 8200 3 */
    assert_true(comes_up(&frame));
    assert_true(got.rx.is_ipv6);
    assert_int_equal(got.rx.payload_bytes, 33);
    assert_int_equal(got.rx.ecn, 2);
    assert_true(net_addr_equal(&got.src, &rig.peer6));
    assert_true(net_addr_equal(&got.dst, &rig.addr6));
    memcpy(frame.bytes + frame.l3 + 24, rig.link6.bytes, 16);
    assert_true(comes_up(&frame));
    assert_true(net_addr_equal(&got.dst, &rig.link6));
}

static void udp_datagram_empty_comes_up(void **state)
{
    (void)state;
    struct frame frame;
    frame_datagram(&frame, false, PORT, 0);
    assert_true(comes_up(&frame));
    assert_int_equal(got.rx.payload_bytes, 0);
    frame_datagram(&frame, true, PORT, 0);
    assert_true(comes_up(&frame));
}

/* RFC 894: Ethernet pads short frames; IP says how long it is. */
static void udp_datagram_padded_is_cut_to_its_length(void **state)
{
    (void)state;
    struct frame frame;
    frame_datagram(&frame, false, PORT, 2);
    frame_put(&frame, "padding!padding!", 16);
    assert_true(comes_up(&frame));
    assert_int_equal(got.rx.payload_bytes, 2);
    frame_datagram(&frame, true, PORT, 2);
    frame_put(&frame, "padding!", 8);
    assert_true(comes_up(&frame));
    assert_int_equal(got.rx.payload_bytes, 2);
}

static void udp_datagram_of_the_full_mtu_comes_up(void **state)
{
    (void)state;
    struct frame frame;
    frame_datagram(&frame, false, PORT, 1472);
    assert_int_equal(frame.len, 1514);
    assert_true(comes_up(&frame));
    frame_datagram(&frame, true, PORT, 1452);
    assert_true(comes_up(&frame));
}

/* --- frames ----------------------------------------------------------------------------------- */

static void frame_too_short_is_malformed(void **state)
{
    (void)state;
    struct frame frame;
    frame_datagram(&frame, false, PORT, 10);
    for (uint32_t len = 0; len < 14; len++) {
        frame.len = len;
        EXPECT_DROP(&frame, rx_malformed);
    }
}

static void frame_cut_anywhere_is_dropped(void **state)
{
    (void)state;
    for (uint32_t is_ipv6 = 0; is_ipv6 < 2; is_ipv6++) {
        struct frame frame;
        frame_datagram(&frame, is_ipv6, PORT, 10);
        uint32_t whole = frame.len;
        for (uint32_t len = 14; len < whole; len++) {
            frame.len = len;
            EXPECT_DROP(&frame, rx_malformed);
        }
        frame.len = whole;
        assert_true(comes_up(&frame));
    }
}

static void frame_to_another_address_is_not_ours(void **state)
{
    (void)state;
    for (uint32_t is_ipv6 = 0; is_ipv6 < 2; is_ipv6++) {
        struct frame frame;
        for (uint32_t byte = 0; byte < 6; byte++) {
            frame_datagram(&frame, is_ipv6, PORT, 10);
            frame.bytes[byte] ^= 0x10;
            EXPECT_DROP(&frame, rx_not_ours);
        }
        frame_datagram(&frame, is_ipv6, PORT, 10);
        memset(frame.bytes, 0xff, 6); /* unicast IP in a broadcast frame */
        EXPECT_DROP(&frame, rx_not_ours);
    }
}

static void frame_of_another_protocol_is_not_ours(void **state)
{
    (void)state;
    struct frame frame;
    static const uint16_t TYPES[] = {0x0000, 0x002e, 0x0801, 0x8035, 0x88cc, 0x8915, 0xffff};
    for (uint32_t i = 0; i < ARRAY_SIZE(TYPES); i++) {
        frame_datagram(&frame, false, PORT, 10);
        frame.bytes[12] = (uint8_t)(TYPES[i] >> 8);
        frame.bytes[13] = (uint8_t)TYPES[i];
        EXPECT_DROP(&frame, rx_not_ours);
    }
}

/* --- VLAN: IEEE 802.1Q 6.9, 9.6 --------------------------------------------------------------- */

static void vlan_none_takes_untagged_and_priority_tagged(void **state)
{
    (void)state;
    struct frame frame;
    frame_datagram(&frame, false, PORT, 10);
    frame_tag(&frame, 0xe000); /* priority 7, VID 0 */
    assert_true(comes_up(&frame));
    assert_int_equal(got.rx.payload_bytes, 10);
    frame_datagram(&frame, true, PORT, 10);
    frame_tag(&frame, 0);
    assert_true(comes_up(&frame));
    frame_datagram(&frame, false, PORT, 10);
    frame_tag(&frame, 5);
    EXPECT_DROP(&frame, rx_not_ours);
    frame_datagram(&frame, false, PORT, 10); /* two tags */
    frame_tag(&frame, 0);
    frame_tag(&frame, 0);
    EXPECT_DROP(&frame, rx_not_ours);
}

static void vlan_set_takes_its_own_tag_alone(void **state)
{
    (void)state;
    struct frame frame;
    setup_vlan(100);
    for (uint32_t is_ipv6 = 0; is_ipv6 < 2; is_ipv6++) {
        frame_datagram(&frame, is_ipv6, PORT, 10);
        EXPECT_DROP(&frame, rx_not_ours);
        frame_tag(&frame, 100);
        assert_true(comes_up(&frame));
        frame_datagram(&frame, is_ipv6, PORT, 10);
        frame_tag(&frame, 0x7000 | 100); /* priority and DEI do not matter */
        assert_true(comes_up(&frame));
        frame_datagram(&frame, is_ipv6, PORT, 10);
        frame_tag(&frame, 0);
        EXPECT_DROP(&frame, rx_not_ours);
        frame_datagram(&frame, is_ipv6, PORT, 10);
        frame_tag(&frame, 101);
        EXPECT_DROP(&frame, rx_not_ours);
    }
}

static void vlan_frame_cut_anywhere_is_dropped(void **state)
{
    (void)state;
    struct frame frame;
    setup_vlan(100);
    frame_datagram(&frame, false, PORT, 10);
    frame_tag(&frame, 100);
    uint32_t whole = frame.len;
    for (uint32_t len = 0; len < whole; len++) {
        frame.len = len;
        EXPECT_DROP(&frame, rx_malformed);
    }
}

/* --- IPv4: RFC 791 ---------------------------------------------------------------------------- */

/* One byte of the IPv4 header set, its checksum right. */
static void ipv4_with(struct frame *frame, uint32_t offset, uint8_t value)
{
    frame_datagram(frame, false, PORT, 60);
    frame->bytes[frame->l3 + offset] = value;
    frame_ipv4_sum(frame);
}

static void ipv4_version_or_length_wrong_is_malformed(void **state)
{
    (void)state;
    struct frame frame;
    for (uint32_t value = 0; value < 256; value++) {
        if (value != 0x45) { /* 46 to 4f: options, which this firmware does not take */
            ipv4_with(&frame, 0, (uint8_t)value);
            EXPECT_DROP(&frame, rx_malformed);
        }
    }
}

static void ipv4_total_length_that_cannot_be_is_malformed(void **state)
{
    (void)state;
    struct frame frame;
    frame_datagram(&frame, false, PORT, 60);
    uint32_t there = frame.len - frame.l3;
    static const uint32_t LENGTHS[] = {0, 1, 19, 20, 27, 0xffff, 0x8000};
    for (uint32_t i = 0; i < ARRAY_SIZE(LENGTHS); i++) {
        frame_datagram(&frame, false, PORT, 60);
        frame.bytes[frame.l3 + 2] = (uint8_t)(LENGTHS[i] >> 8);
        frame.bytes[frame.l3 + 3] = (uint8_t)LENGTHS[i];
        frame_ipv4_sum(&frame);
        EXPECT_DROP(&frame, rx_malformed);
    }
    ipv4_with(&frame, 3, (uint8_t)(there + 1));
    EXPECT_DROP(&frame, rx_malformed);
}

static void ipv4_checksum_wrong_is_counted(void **state)
{
    (void)state;
    struct frame frame;
    for (uint32_t bit = 0; bit < 16; bit++) {
        frame_datagram(&frame, false, PORT, 60);
        frame.bytes[frame.l3 + 10 + bit / 8] ^= (uint8_t)(1 << bit % 8);
        EXPECT_DROP(&frame, rx_checksum);
    }
    frame_datagram(&frame, false, PORT, 60);
    frame.bytes[frame.l3 + 8]--; /* a TTL that was not summed */
    EXPECT_DROP(&frame, rx_checksum);
}

/* A bit that turned over anywhere in the header is never taken. */
static void ipv4_header_bit_error_is_always_found(void **state)
{
    (void)state;
    for (uint32_t bit = 0; bit < 160; bit++) {
        struct frame frame;
        frame_datagram(&frame, false, PORT, 60);
        frame.bytes[frame.l3 + bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_false(comes_up(&frame));
    }
}

static void ipv4_fragments_are_dropped_and_counted(void **state)
{
    (void)state;
    struct frame frame;
    ipv4_with(&frame, 6, 0x20); /* more fragments */
    EXPECT_DROP(&frame, rx_fragment);
    ipv4_with(&frame, 7, 0x01); /* an offset */
    EXPECT_DROP(&frame, rx_fragment);
    ipv4_with(&frame, 6, 0x1f);
    EXPECT_DROP(&frame, rx_fragment);
    ipv4_with(&frame, 6, 0x40); /* DF */
    assert_true(comes_up(&frame));
}

static void ipv4_to_another_address_is_not_ours(void **state)
{
    (void)state;
    static const uint8_t OTHERS[][4] = {{192, 0, 2, 3}, {192, 0, 2, 255}, {255, 255, 255, 255},
                                        {224, 0, 0, 1}, {127, 0, 0, 1},   {0, 0, 0, 0}};
    for (uint32_t i = 0; i < ARRAY_SIZE(OTHERS); i++) {
        struct frame frame;
        frame_datagram(&frame, false, PORT, 10);
        memcpy(frame.bytes + frame.l3 + 16, OTHERS[i], 4);
        frame_done(&frame, false);
        EXPECT_DROP(&frame, rx_not_ours);
    }
}

static void ipv4_of_another_protocol_is_not_ours(void **state)
{
    (void)state;
    struct frame frame;
    static const uint8_t PROTOCOLS[] = {0, 2, 6, 16, 18, 41, 58, 255};
    for (uint32_t i = 0; i < ARRAY_SIZE(PROTOCOLS); i++) {
        ipv4_with(&frame, 9, PROTOCOLS[i]);
        EXPECT_DROP(&frame, rx_not_ours);
    }
}

/* --- IPv6: RFC 8200 --------------------------------------------------------------------------- */

static void ipv6_version_wrong_is_malformed(void **state)
{
    (void)state;
    for (uint32_t version = 0; version < 16; version++) {
        struct frame frame;
        frame_datagram(&frame, true, PORT, 10);
        frame.bytes[frame.l3] = (uint8_t)(version << 4);
        if (version != 6) {
            EXPECT_DROP(&frame, rx_malformed);
        }
    }
}

static void ipv6_payload_length_that_cannot_be_is_malformed(void **state)
{
    (void)state;
    struct frame frame;
    static const uint16_t LENGTHS[] = {0, 7, 17, 19, 0x8000, 0xffff};
    for (uint32_t i = 0; i < ARRAY_SIZE(LENGTHS); i++) {
        frame_datagram(&frame, true, PORT, 10);
        frame.bytes[frame.l3 + 4] = (uint8_t)(LENGTHS[i] >> 8);
        frame.bytes[frame.l3 + 5] = (uint8_t)LENGTHS[i];
        EXPECT_DROP(&frame, rx_malformed);
    }
}

/* RFC 4291 2.7: a group sends nothing; 2.5.5.2: a mapped address stands for an IPv4 host, and is
 * not on the wire. */
static void ipv6_source_that_cannot_be_is_malformed(void **state)
{
    (void)state;
    static const char *const SOURCES[] = {"ff02::1", "192.0.2.2", "0.0.0.0"};
    for (uint32_t i = 0; i < ARRAY_SIZE(SOURCES); i++) {
        struct frame frame;
        struct net_addr src = addr(SOURCES[i]);
        frame_datagram(&frame, true, PORT, 10);
        memcpy(frame.bytes + frame.l3 + 8, src.bytes, 16);
        EXPECT_DROP(&frame, rx_malformed);
    }
}

static void ipv6_to_another_address_is_not_ours(void **state)
{
    (void)state;
    /* The fifth is our IPv4 address as a mapped one; then all nodes, our own group. */
    static const char *const OTHERS[] = {"2001:db8::3", "2001:db8:0:1::1", "::", "::1", "192.0.2.1",
                                         "ff02::1",     "ff02::1:ff00:1"};
    for (uint32_t i = 0; i < ARRAY_SIZE(OTHERS); i++) {
        struct frame frame;
        struct net_addr dst = addr(OTHERS[i]);
        frame_datagram(&frame, true, PORT, 10);
        memcpy(frame.bytes + frame.l3 + 24, dst.bytes, 16);
        EXPECT_DROP(&frame, rx_not_ours);
        frame.bytes[0] = 0x33; /* the same in a group frame */
        frame.bytes[1] = 0x33;
        EXPECT_DROP(&frame, rx_not_ours);
    }
    for (uint32_t byte = 0; byte < 16; byte++) {
        struct frame frame;
        frame_datagram(&frame, true, PORT, 10);
        frame.bytes[frame.l3 + 24 + byte] ^= 0x80;
        EXPECT_DROP(&frame, rx_not_ours);
    }
}

static void ipv6_extension_headers_are_dropped(void **state)
{
    (void)state;
    static const uint8_t HEADERS[] = {0, 43, 51, 59, 60, 135, 6, 1};
    struct frame frame;
    for (uint32_t i = 0; i < ARRAY_SIZE(HEADERS); i++) {
        frame_datagram(&frame, true, PORT, 10);
        frame.bytes[frame.l3 + 6] = HEADERS[i];
        EXPECT_DROP(&frame, rx_not_ours);
    }
    frame_datagram(&frame, true, PORT, 10);
    frame.bytes[frame.l3 + 6] = IP_PROTOCOL_FRAGMENT;
    EXPECT_DROP(&frame, rx_fragment);
}

/* --- UDP: RFC 768 ----------------------------------------------------------------------------- */

static void udp_length_that_cannot_be_is_malformed(void **state)
{
    (void)state;
    static const uint16_t LENGTHS[] = {0, 1, 7, 19, 0x8000, 0xffff};
    for (uint32_t i = 0; i < 2 * ARRAY_SIZE(LENGTHS); i++) {
        struct frame frame;
        uint16_t length = LENGTHS[i / 2];
        frame_datagram(&frame, i % 2, PORT, 10);
        frame.bytes[frame.l4 + 4] = (uint8_t)(length >> 8);
        frame.bytes[frame.l4 + 5] = (uint8_t)length;
        EXPECT_DROP(&frame, rx_malformed);
    }
}

static void udp_length_shorter_than_ip_cuts(void **state)
{
    (void)state;
    struct frame frame;
    frame_datagram(&frame, false, PORT, 10);
    frame.bytes[frame.l4 + 5] = 12;
    assert_true(comes_up(&frame));
    assert_int_equal(got.rx.payload_bytes, 4);
}

static void udp_checksum_that_is_there_is_checked(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 64; i++) {
        struct frame frame;
        bool is_ipv6 = i % 2;
        frame_datagram(&frame, is_ipv6, PORT, 10 + i);
        frame_done(&frame, true);
        assert_true(comes_up(&frame));
        assert_int_equal(got.rx.payload_bytes, 10 + i);
        frame.bytes[frame.len - 1 - i % 10] ^= 0x40;
        EXPECT_DROP(&frame, rx_checksum);
    }
}

/* The pseudo-header too: the same datagram from another host. */
static void udp_checksum_covers_the_addresses(void **state)
{
    (void)state;
    struct frame frame;
    frame_datagram(&frame, true, PORT, 10);
    frame_done(&frame, true);
    frame.bytes[frame.l3 + 8 + 15] ^= 1;
    EXPECT_DROP(&frame, rx_checksum);
    frame_datagram(&frame, false, PORT, 10);
    frame_done(&frame, true);
    frame.bytes[frame.l3 + 15] ^= 1;
    frame_ipv4_sum(&frame);
    EXPECT_DROP(&frame, rx_checksum);
}

static void udp_port_that_nobody_bound_is_counted(void **state)
{
    (void)state;
    struct frame frame;
    frame_datagram(&frame, false, PORT + 1, 10);
    EXPECT_DROP(&frame, rx_no_port);
    frame_datagram(&frame, true, 0xffff, 10);
    EXPECT_DROP(&frame, rx_no_port);
    assert_int_equal(peer_drain(), 0); /* no ICMP error either */
}

/* RFC 3168 5 */
static void udp_congestion_is_counted_and_handed_up(void **state)
{
    (void)state;
    struct frame frame;
    ipv4_with(&frame, 1, 3);
    assert_true(comes_up(&frame));
    assert_int_equal(got.rx.ecn, 3);
    frame_datagram(&frame, true, PORT, 10);
    frame.bytes[frame.l3 + 1] = 0x30;
    assert_true(comes_up(&frame));
    assert_int_equal(got.rx.ecn, 3);
    assert_int_equal(STAT(rx_ecn_ce), 2);
}

#define T(name)     cmocka_unit_test_setup_teardown(name, setup, rig_teardown)
#define T_OWN(name) cmocka_unit_test_teardown(name, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(udp_datagram_ipv4_comes_up_with_its_addresses),
        T(udp_datagram_ipv6_comes_up_with_its_addresses),
        T(udp_datagram_empty_comes_up),
        T(udp_datagram_padded_is_cut_to_its_length),
        T(udp_datagram_of_the_full_mtu_comes_up),
        T(frame_too_short_is_malformed),
        T(frame_cut_anywhere_is_dropped),
        T(frame_to_another_address_is_not_ours),
        T(frame_of_another_protocol_is_not_ours),
        T(vlan_none_takes_untagged_and_priority_tagged),
        T_OWN(vlan_set_takes_its_own_tag_alone),
        T_OWN(vlan_frame_cut_anywhere_is_dropped),
        T(ipv4_version_or_length_wrong_is_malformed),
        T(ipv4_total_length_that_cannot_be_is_malformed),
        T(ipv4_checksum_wrong_is_counted),
        T(ipv4_header_bit_error_is_always_found),
        T(ipv4_fragments_are_dropped_and_counted),
        T(ipv4_to_another_address_is_not_ours),
        T(ipv4_of_another_protocol_is_not_ours),
        T(ipv6_version_wrong_is_malformed),
        T(ipv6_payload_length_that_cannot_be_is_malformed),
        T(ipv6_source_that_cannot_be_is_malformed),
        T(ipv6_to_another_address_is_not_ours),
        T(ipv6_extension_headers_are_dropped),
        T(udp_length_that_cannot_be_is_malformed),
        T(udp_length_shorter_than_ip_cuts),
        T(udp_checksum_that_is_there_is_checked),
        T(udp_checksum_covers_the_addresses),
        T(udp_port_that_nobody_bound_is_counted),
        T(udp_congestion_is_counted_and_handed_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
