/* Paths: routes, headers, lengths, limits. */
#include "net/rig.h"

static void settle(const struct net_if_config *config, uint16_t mtu_bytes)
{
    rig_open(config, mtu_bytes, true);
}

/* Where the first request for `dst` goes: the neighbour's address; fails when there is none. */
static void expect_route(const char *dst_text, const char *src_text, const char *hop_text)
{
    struct told_path told;
    struct frame frame;
    struct net_addr dst = addr(dst_text);
    char found[NET_ADDR_TEXT_BYTES];
    assert_int_equal(path_open(&told, &dst), STATUS_OK);
    assert_true(frame_take(&frame));
    struct net_addr hop = net_addr_is_ipv4(&dst) ? net_addr_from_4(frame.bytes + 14 + 24)
                                                 : net_addr_from_6(frame.bytes + 14 + 40 + 8);
    net_addr_text(&hop, found);
    assert_string_equal(found, hop_text);
    net_addr_text(&told.path.config.src, found);
    assert_string_equal(found, src_text);
    net_path_close(&told.path);
}

static void route_on_the_link_is_direct_and_beyond_by_gateway(void **state)
{
    (void)state;
    expect_route("192.0.2.77", "192.0.2.1", "192.0.2.77");
    expect_route("198.51.100.1", "192.0.2.1", "192.0.2.254");
    expect_route("2001:db8::77", "2001:db8::1", "2001:db8::77");
    /* The gateway is link-local; the world gets our global address. */
    expect_route("2001:db8:1::1", "2001:db8::1", "fe80::fe");
    expect_route("fe80::77", "fe80::ff:fe00:1", "fe80::77");
}

static void route_takes_the_longest_prefix(void **state)
{
    (void)state;
    struct net_if_config config = rig_config();
    config.addr_count = 3;
    config.addrs[1] = (struct net_if_addr){.addr = addr("192.0.2.17"), .prefix_bits = 28};
    config.addrs[2] = (struct net_if_addr){.addr = addr("10.0.0.1"), .prefix_bits = 31};
    settle(&config, 0);
    expect_route("192.0.2.18", "192.0.2.17", "192.0.2.18");
    expect_route("192.0.2.33", "192.0.2.1", "192.0.2.33");
    expect_route("10.0.0.0", "10.0.0.1", "10.0.0.0"); /* RFC 3021 */
    expect_route("10.0.0.2", "192.0.2.1", "192.0.2.254");
}

static void expect_no_route(const char *src, const char *dst)
{
    struct told_path told;
    struct net_path_config config = {.dst = addr(dst), .src = addr(src)};
    memset(&told, 0x77, sizeof(told));
    enum status status = net_path_open(rig.nif, &told.path, &config, NULL);
    if (status != STATUS_NOT_FOUND) {
        fail_msg("from %s to %s: %s", src, dst, status_text(status));
    }
    assert_int_equal(told.path.state, NET_PATH_CLOSED);
    net_path_close(&told.path);
    assert_int_equal(peer_drain(), 0);
}

static void route_to_what_is_no_host_is_not_found(void **state)
{
    (void)state;
    static const char *const DSTS[] = {"0.0.0.0",   "::",          "127.0.0.1",       "::1",
                                       "224.0.0.1", "ff02::1",     "255.255.255.255", "192.0.2.255",
                                       "192.0.2.1", "2001:db8::1", "fe80::ff:fe00:1", "fe80:1::2"};
    for (uint32_t i = 0; i < ARRAY_SIZE(DSTS); i++) {
        expect_no_route("::", DSTS[i]);
    }
}

static void route_from_what_is_not_ours_is_not_found(void **state)
{
    (void)state;
    expect_no_route("192.0.2.3", "192.0.2.2");
    expect_no_route("2001:db8::1", "192.0.2.2");
    expect_no_route("192.0.2.1", "2001:db8::2");
    expect_no_route("0.0.0.0", "192.0.2.2");
    struct net_path path;
    struct net_path_config config = {.dst = rig.peer6, .src = rig.link6};
    assert_int_equal(net_path_open(rig.nif, &path, &config, NULL), STATUS_OK);
    assert_true(net_addr_equal(&path.config.src, &rig.link6));
    net_path_close(&path);
}

static void route_without_gateway_or_address_is_not_found(void **state)
{
    (void)state;
    struct net_if_config config = rig_config();
    config.addr_count = 0;
    config.gateway4 = addr("::");
    config.gateway6 = addr("fe80::fe");
    settle(&config, 0);
    expect_no_route("::", "192.0.2.2");
    expect_no_route("::", "2001:db8::2"); /* link-local alone does not leave the link */
    expect_route("fe80::2", "fe80::ff:fe00:1", "fe80::2");
    expect_no_route("::", "fe80:1::2"); /* nor does what is of another link */
}

/* --- headers ---------------------------------------------------------------------------------- */

static void send(struct told_path *told, uint32_t len, struct frame *frame)
{
    struct net_buf *buf = net_buf_get(rig.nif);
    uint8_t *payload = net_path_begin(&told->path, buf);
    assert_int_equal((uintptr_t)payload % 4, 0);
    assert_int_equal(buf->segs[0].len_bytes, buf->len_bytes);
    for (uint32_t i = 0; i < len; i++) {
        payload[i] = (uint8_t)(i + 1);
    }
    buf->segs[0].len_bytes += len;
    buf->len_bytes += len;
    assert_ptr_equal(buf->head + 2 + told->path.headers_bytes, payload);
    net_path_finish(&told->path, buf);
    net_send(rig.nif, buf);
    rig_turn();
    assert_true(frame_take(frame));
}

/* The frame is what the rig makes by other code, but for the way round. */
static void expect_datagram(const struct frame *frame, bool is_ipv6, uint32_t len, uint8_t tos,
                            uint8_t ttl, uint16_t tci)
{
    struct frame expected;
    frame_datagram(&expected, is_ipv6, 4791, len);
    uint8_t *ip = expected.bytes + expected.l3;
    memcpy(expected.bytes, rig.peer_mac, 6);
    memcpy(expected.bytes + 6, rig.mac, 6);
    expected.bytes[expected.l4] = 49152 >> 8;
    expected.bytes[expected.l4 + 1] = 49152 & 0xff;
    if (is_ipv6) {
        memcpy(ip + 8, rig.addr6.bytes, 16);
        memcpy(ip + 24, rig.peer6.bytes, 16);
        ip[0] = (uint8_t)(0x60 | tos >> 4);
        ip[1] = (uint8_t)(tos << 4);
        ip[7] = ttl;
    } else {
        memcpy(ip + 12, rig.addr4.bytes + 12, 4);
        memcpy(ip + 16, rig.peer4.bytes + 12, 4);
        ip[1] = tos;
        ip[6] = 0x40; /* DF, identification 0: RFC 6864 4.1 */
        ip[8] = ttl;
        frame_ipv4_sum(&expected);
    }
    if (tci != 0) {
        frame_tag(&expected, tci);
    }
    assert_int_equal(frame->len, expected.len);
    assert_memory_equal(frame->bytes, expected.bytes, expected.len);
}

static void datagram_is_right_for_each_length(void **state)
{
    (void)state;
    struct told_path told4;
    struct told_path told6;
    struct frame frame;
    path_open_ready(&told4, &rig.peer4);
    path_open_ready(&told6, &rig.peer6);
    for (uint32_t len = 0; len <= NET_BUF_INLINE_BYTES; len++) {
        send(&told4, len, &frame);
        expect_datagram(&frame, false, len, 0, 64, 0);
        send(&told6, len, &frame);
        expect_datagram(&frame, true, len, 0, 64, 0);
    }
    net_path_close(&told4.path);
    net_path_close(&told6.path);
}

static void datagram_with_a_vlan_is_tagged(void **state)
{
    (void)state;
    struct net_if_config config = rig_config();
    struct told_path told = {.ready_count = 0};
    struct frame frame;
    config.vlan = 0x0fa;
    settle(&config, 0);
    struct net_addr dsts[2] = {rig.peer4, rig.peer6};
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(path_open(&told, &dsts[i]), STATUS_OK);
        peer_drain();
        if (i == 0) {
            frame_arp(&frame, ARP_REPLY, rig.peer_mac, &rig.peer4, &rig.addr4);
        } else {
            frame_nd(&frame, ICMPV6_NEIGHBOR_ADVERTISEMENT, &rig.peer6, &rig.addr6, &rig.peer6,
                     ND_FLAG_SOLICITED | ND_FLAG_OVERRIDE, rig.peer_mac);
        }
        frame_tag(&frame, 0x0fa);
        frame_inject(&frame);
        assert_int_equal(told.path.state, NET_PATH_READY);
        send(&told, 100, &frame);
        expect_datagram(&frame, i == 1, 100, 0, 64, 0x0fa);
        net_path_close(&told.path);
    }
}

static void datagram_has_the_traffic_class_and_hop_limit_asked_for(void **state)
{
    (void)state;
    struct net_addr dsts[2] = {rig.peer4, rig.peer6};
    for (uint32_t i = 0; i < 2; i++) {
        struct told_path told;
        struct frame frame;
        path_open_ready(&told, &dsts[i]);
        net_path_close(&told.path);
        struct net_path_config config = {.dst = dsts[i],
                                         .src_port = 49152,
                                         .dst_port = 4791,
                                         .traffic_class = 0xb6,
                                         .hop_limit = 1};
        assert_int_equal(net_path_open(rig.nif, &told.path, &config, NULL), STATUS_OK);
        assert_int_equal(told.path.state, NET_PATH_READY);
        send(&told, 10, &frame);
        expect_datagram(&frame, i == 1, 10, 0xb6, 1, 0);
        net_path_close(&told.path);
    }
}

/* Payload in segments of the caller's. */
static void datagram_of_segments_counts_them_all(void **state)
{
    (void)state;
    static uint8_t parts[3][200];
    struct told_path told;
    struct frame frame;
    path_open_ready(&told, &rig.peer4);
    struct net_buf *buf = net_buf_get(rig.nif);
    net_path_begin(&told.path, buf);
    for (uint32_t i = 0; i < 3; i++) {
        for (uint32_t k = 0; k < 200; k++) {
            parts[i][k] = (uint8_t)(200 * i + k + 1);
        }
        buf->segs[buf->seg_count++] =
            (struct mem_seg){.bus_addr = (uint64_t)(uintptr_t)parts[i], .len_bytes = 200};
        buf->len_bytes += 200;
    }
    net_path_finish(&told.path, buf);
    net_send(rig.nif, buf);
    rig_turn();
    assert_true(frame_take(&frame));
    expect_datagram(&frame, false, 600, 0, 64, 0);
    net_path_close(&told.path);
}

/* --- limits ----------------------------------------------------------------------------------- */

static void payload_max_follows_the_mtu(void **state)
{
    (void)state;
    static const struct {
        uint16_t port_mtu, mtu, vlan, expected4, expected6;
    } CASES[] = {{1500, 0, 0, 1472, 1452}, {1500, 1280, 0, 1252, 1232},
                 {1500, 0, 7, 1472, 1452}, /* the tag is not of the MTU */
                 {4200, 0, 0, 4172, 4152}, {9000, 0, 0, 8972, 8952},
                 {9216, 0, 0, 8972, 8952}};
    for (uint32_t i = 0; i < ARRAY_SIZE(CASES); i++) {
        struct net_if_config config = rig_config();
        struct told_path told;
        config.mtu_bytes = CASES[i].mtu;
        config.vlan = CASES[i].vlan;
        settle(&config, CASES[i].port_mtu);
        assert_int_equal(path_open(&told, &rig.peer4), STATUS_OK);
        assert_int_equal(net_path_payload_max(&told.path), CASES[i].expected4);
        assert_int_equal(net_if_mtu(rig.nif), CASES[i].expected4 + 28);
        net_path_close(&told.path);
        assert_int_equal(path_open(&told, &rig.peer6), STATUS_OK);
        assert_int_equal(net_path_payload_max(&told.path), CASES[i].expected6);
        net_path_close(&told.path);
        if (i + 1 < ARRAY_SIZE(CASES)) {
            assert_int_equal(rig_teardown(NULL), 0);
        }
    }
}

static void datagram_of_the_largest_payload_is_taken_and_no_more(void **state)
{
    (void)state;
    static uint8_t payload[1473];
    struct told_path told;
    struct frame frame;
    path_open_ready(&told, &rig.peer4);
    struct net_buf *buf = net_buf_get(rig.nif);
    net_path_begin(&told.path, buf);
    buf->segs[1] = (struct mem_seg){.bus_addr = (uint64_t)(uintptr_t)payload, .len_bytes = 1472};
    buf->seg_count = 2;
    buf->len_bytes += 1472;
    net_path_finish(&told.path, buf);
    net_send(rig.nif, buf);
    rig_turn();
    assert_true(frame_take(&frame));
    assert_int_equal(frame.len, 1514);
    assert_int_equal(frame.bytes[16] << 8 | frame.bytes[17], 1500);
    net_path_close(&told.path);
}

static void path_closed_never_opened_is_harmless(void **state)
{
    (void)state;
    struct net_path path = {.state = NET_PATH_CLOSED};
    net_path_close(&path);
}

#define T(name)     cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
#define T_OWN(name) cmocka_unit_test_teardown(name, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(route_on_the_link_is_direct_and_beyond_by_gateway),
        T_OWN(route_takes_the_longest_prefix),
        T(route_to_what_is_no_host_is_not_found),
        T(route_from_what_is_not_ours_is_not_found),
        T_OWN(route_without_gateway_or_address_is_not_found),
        T(datagram_is_right_for_each_length),
        T_OWN(datagram_with_a_vlan_is_tagged),
        T(datagram_has_the_traffic_class_and_hop_limit_asked_for),
        T(datagram_of_segments_counts_them_all),
        T_OWN(payload_max_follows_the_mtu),
        T(datagram_of_the_largest_payload_is_taken_and_no_more),
        T(path_closed_never_opened_is_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
