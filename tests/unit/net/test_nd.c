/* Neighbour discovery: RFC 4861 4.3, 4.4, 7; RFC 4862 5.4. */
#include "net/rig.h"

static const uint8_t OTHER_MAC[6] = {0x02, 0x99, 0x99, 0x99, 0x99, 0x01};

struct nd {
    struct net_addr src, dst, target;
    uint8_t type, flags;
    uint8_t option; /* its type; 0: none */
    uint8_t mac[6];
};

/* A message of ours, whose checksum and hop limit are right. */
static struct nd nd_of(struct frame *frame)
{
    struct nd nd = {0};
    const uint8_t *ip = frame->bytes + 14;
    const uint8_t *icmp = ip + 40;
    uint32_t len = frame->len - 54;

    assert_int_equal(frame->bytes[12] << 8 | frame->bytes[13], ETH_TYPE_IPV6);
    assert_memory_equal(frame->bytes + 6, rig.mac, 6);
    assert_int_equal(ip[0], 0x60);
    assert_int_equal(ip[4] << 8 | ip[5], len);
    assert_int_equal(ip[6], 58);
    assert_int_equal(ip[7], 255);
    assert_true(len == 24 || len == 32);
    uint8_t sum[2] = {icmp[2], icmp[3]};
    frame->l3 = 14;
    frame->l4 = 54;
    frame_done(frame, true); /* the rig's own sum */
    assert_memory_equal(sum, icmp + 2, 2);
    nd.src = net_addr_from_6(ip + 8);
    nd.dst = net_addr_from_6(ip + 24);
    nd.type = icmp[0];
    nd.flags = icmp[4];
    nd.target = net_addr_from_6(icmp + 8);
    if (len == 32) {
        assert_int_equal(icmp[25], 1);
        nd.option = icmp[24];
        memcpy(nd.mac, icmp + 26, 6);
    }
    return nd;
}

static void expect_addr(const struct net_addr *a, const char *text)
{
    char found[NET_ADDR_TEXT_BYTES];
    net_addr_text(a, found);
    assert_string_equal(found, text);
}

/* A sound solicitation for our global address from the peer. */
static void solicitation(struct frame *frame)
{
    struct net_addr group = addr("ff02::1:ff00:1");
    frame_nd(frame, ICMPV6_NEIGHBOR_SOLICITATION, &rig.peer6, &group, &rig.addr6, 0, rig.peer_mac);
}

/* RFC 4861 7.2.4 */
static void ns_for_us_is_answered(void **state)
{
    (void)state;
    struct frame frame;
    solicitation(&frame);
    frame_inject(&frame);
    assert_true(frame_take(&frame));
    assert_memory_equal(frame.bytes, rig.peer_mac, 6);
    struct nd nd = nd_of(&frame);
    assert_int_equal(nd.type, ICMPV6_NEIGHBOR_ADVERTISEMENT);
    assert_int_equal(nd.flags, ND_FLAG_SOLICITED | ND_FLAG_OVERRIDE);
    expect_addr(&nd.src, "2001:db8::1");
    expect_addr(&nd.dst, "2001:db8::2");
    expect_addr(&nd.target, "2001:db8::1");
    assert_int_equal(nd.option, ND_OPTION_TARGET_LINK_ADDR);
    assert_memory_equal(nd.mac, rig.mac, 6);
    assert_int_equal(STAT(arp_replies), 1);
}

/* A unicast one may come without the option: RFC 4861 4.3. */
static void ns_unicast_without_option_is_answered_to_the_frame_s_sender(void **state)
{
    (void)state;
    struct frame frame;
    frame_nd(&frame, ICMPV6_NEIGHBOR_SOLICITATION, &rig.peer6, &rig.link6, &rig.link6, 0, NULL);
    frame_inject(&frame);
    assert_true(frame_take(&frame));
    assert_memory_equal(frame.bytes, rig.peer_mac, 6);
    struct nd nd = nd_of(&frame);
    expect_addr(&nd.target, "fe80::ff:fe00:1");
}

/* RFC 4862 5.4.3, RFC 4861 7.2.4: to all nodes, not solicited. */
static void ns_of_a_probe_is_answered_to_all_nodes(void **state)
{
    (void)state;
    struct frame frame;
    struct net_addr none = addr("::");
    struct net_addr group = addr("ff02::1:ff00:1");
    frame_nd(&frame, ICMPV6_NEIGHBOR_SOLICITATION, &none, &group, &rig.addr6, 0, NULL);
    frame_inject(&frame);
    assert_true(frame_take(&frame));
    static const uint8_t ALL_NODES[6] = {0x33, 0x33, 0, 0, 0, 1};
    assert_memory_equal(frame.bytes, ALL_NODES, 6);
    struct nd nd = nd_of(&frame);
    assert_int_equal(nd.flags, ND_FLAG_OVERRIDE);
    expect_addr(&nd.dst, "ff02::1");
    expect_addr(&nd.target, "2001:db8::1");
    assert_int_equal(STAT(addr_conflicts), 0);
}

static void ns_for_another_is_not_answered(void **state)
{
    (void)state;
    struct frame frame;
    struct net_addr group = addr("ff02::1:ff00:1");
    struct net_addr other = addr("2001:db8::ff00:1"); /* the same group */
    frame_nd(&frame, ICMPV6_NEIGHBOR_SOLICITATION, &rig.peer6, &group, &other, 0, rig.peer_mac);
    uint64_t before = STAT(rx_not_ours);
    frame_inject(&frame);
    assert_int_equal(STAT(rx_not_ours), before + 1);
    /* a group in which we are not */
    group = addr("ff02::1:ff00:77");
    other = addr("2001:db8::77");
    frame_nd(&frame, ICMPV6_NEIGHBOR_SOLICITATION, &rig.peer6, &group, &other, 0, rig.peer_mac);
    frame_inject(&frame);
    assert_int_equal(STAT(rx_not_ours), before + 2);
    assert_int_equal(peer_drain(), 0);
}

static void expect_malformed(const struct frame *frame)
{
    uint64_t before = STAT(rx_malformed);
    frame_inject(frame);
    assert_int_equal(STAT(rx_malformed), before + 1);
    assert_int_equal(peer_drain(), 0);
}

/* RFC 4861 7.1.1, each "MUST silently discard" */
static void ns_malformed_is_dropped_and_counted(void **state)
{
    (void)state;
    struct frame frame;
    struct net_addr none = addr("::");
    struct net_addr group = addr("ff02::1:ff00:1");

    solicitation(&frame);
    frame.bytes[frame.l3 + 7] = 254; /* hop limit: it came through a router */
    expect_malformed(&frame);

    solicitation(&frame);
    frame.bytes[frame.l4 + 1] = 1; /* code */
    frame_done(&frame, true);
    expect_malformed(&frame);

    static const char *const TARGETS[] = {"ff02::1", "::", "::1", "192.0.2.1"};
    for (uint32_t i = 0; i < ARRAY_SIZE(TARGETS); i++) {
        struct net_addr target = addr(TARGETS[i]);
        frame_nd(&frame, ICMPV6_NEIGHBOR_SOLICITATION, &rig.peer6, &group, &target, 0, NULL);
        expect_malformed(&frame);
    }
    for (uint32_t len = 0; len < 24; len++) { /* shorter than 24 bytes */
        solicitation(&frame);
        frame.len = frame.l4 + len;
        frame_done(&frame, len >= 4);
        if (len >= 8) {
            expect_malformed(&frame);
        } else {
            frame_inject(&frame);
            assert_int_equal(peer_drain(), 0);
        }
    }
    solicitation(&frame);
    frame.bytes[frame.l4 + 25] = 0; /* an option without length */
    frame_done(&frame, true);
    expect_malformed(&frame);

    solicitation(&frame);
    frame.bytes[frame.l4 + 25] = 2; /* longer than the message */
    frame_done(&frame, true);
    expect_malformed(&frame);

    for (uint32_t cut = 1; cut < 8; cut++) { /* half an option */
        solicitation(&frame);
        frame.len -= cut;
        frame_done(&frame, true);
        expect_malformed(&frame);
    }
    /* unspecified source: with an option, or not to the solicited-node group */
    frame_nd(&frame, ICMPV6_NEIGHBOR_SOLICITATION, &none, &group, &rig.addr6, 0, rig.peer_mac);
    expect_malformed(&frame);
    frame_nd(&frame, ICMPV6_NEIGHBOR_SOLICITATION, &none, &rig.addr6, &rig.addr6, 0, NULL);
    expect_malformed(&frame);
    frame_nd(&frame, ICMPV6_NEIGHBOR_SOLICITATION, &none, &net_all_nodes, &rig.addr6, 0, NULL);
    expect_malformed(&frame);
    /* a group as link address */
    frame_nd(&frame, ICMPV6_NEIGHBOR_SOLICITATION, &rig.peer6, &group, &rig.addr6, 0,
             net_mac_broadcast);
    expect_malformed(&frame);
}

static void ns_with_a_wrong_checksum_is_dropped(void **state)
{
    (void)state;
    struct frame frame;
    solicitation(&frame);
    frame.bytes[frame.l4 + 20] ^= 1;
    frame_inject(&frame);
    assert_int_equal(STAT(rx_checksum), 1);
    assert_int_equal(peer_drain(), 0);
}

/* RFC 4861 4.6: unknown options are skipped. */
static void ns_with_unknown_options_is_answered(void **state)
{
    (void)state;
    struct frame frame;
    struct net_addr group = addr("ff02::1:ff00:1");
    static const uint8_t OPTIONS[] = {14, 1, 1, 2, 3, 4, 5, 6, /* nonce */
                                      99, 2, 0, 0, 0, 0, 0, 0, 0, 0,    0,    0,
                                      0,  0, 0, 0, 1, 1, 2, 0, 0, 0xaa, 0xbb, 0xcc};
    frame_nd(&frame, ICMPV6_NEIGHBOR_SOLICITATION, &rig.peer6, &group, &rig.addr6, 0, NULL);
    frame_put(&frame, OPTIONS, sizeof(OPTIONS));
    frame_done(&frame, true);
    frame_inject(&frame);
    /* To the address in the option: a station that the wire does not know, so it is flooded. */
    assert_true(frame_take(&frame));
    assert_memory_equal(frame.bytes, OPTIONS + 26, 6);
}

/* RFC 4861 7.1.2 */
static void na_malformed_is_dropped_and_counted(void **state)
{
    (void)state;
    struct frame frame;
    struct told_path told;
    assert_int_equal(path_open(&told, &rig.peer6), STATUS_OK);
    peer_drain();
    frame_nd(&frame, ICMPV6_NEIGHBOR_ADVERTISEMENT, &rig.peer6, &rig.addr6, &rig.peer6, 0x60,
             rig.peer_mac);
    frame.bytes[frame.l3 + 7] = 64;
    expect_malformed(&frame);
    /* to a group and yet solicited */
    frame_nd(&frame, ICMPV6_NEIGHBOR_ADVERTISEMENT, &rig.peer6, &net_all_nodes, &rig.peer6, 0x60,
             rig.peer_mac);
    expect_malformed(&frame);
    frame_nd(&frame, ICMPV6_NEIGHBOR_ADVERTISEMENT, &rig.peer6, &rig.addr6, &net_all_nodes, 0x60,
             rig.peer_mac);
    expect_malformed(&frame);
    frame_nd(&frame, ICMPV6_NEIGHBOR_ADVERTISEMENT, &rig.peer6, &rig.addr6, &rig.peer6, 0x60,
             net_mac_broadcast);
    expect_malformed(&frame);
    assert_int_equal(told.path.state, NET_PATH_RESOLVING);
    net_path_close(&told.path);
}

/* RFC 4861 7.2.2: to the solicited-node group, with our link address. */
static void ns_asks_the_solicited_node_group(void **state)
{
    (void)state;
    struct frame frame;
    struct told_path told;
    struct net_addr dst = addr("2001:db8::12:3456");
    assert_int_equal(path_open(&told, &dst), STATUS_OK);
    assert_true(frame_take(&frame));
    static const uint8_t GROUP[6] = {0x33, 0x33, 0xff, 0x12, 0x34, 0x56};
    assert_memory_equal(frame.bytes, GROUP, 6);
    struct nd nd = nd_of(&frame);
    assert_int_equal(nd.type, ICMPV6_NEIGHBOR_SOLICITATION);
    expect_addr(&nd.src, "2001:db8::1");
    expect_addr(&nd.dst, "ff02::1:ff12:3456");
    expect_addr(&nd.target, "2001:db8::12:3456");
    assert_int_equal(nd.option, ND_OPTION_SOURCE_LINK_ADDR);
    assert_memory_equal(nd.mac, rig.mac, 6);
    net_path_close(&told.path);
}

static void na_makes_the_path_ready(void **state)
{
    (void)state;
    struct told_path told;
    assert_int_equal(path_open(&told, &rig.peer6), STATUS_OK);
    peer_drain();
    peer_says_nd(&rig.peer6, NULL); /* 7.2.5: an incomplete entry needs the link address */
    assert_int_equal(told.path.state, NET_PATH_RESOLVING);
    peer_says_nd(&rig.peer6, rig.peer_mac);
    assert_int_equal(told.path.state, NET_PATH_READY);
    assert_memory_equal(told.path.head + 2, rig.peer_mac, 6);
    net_path_close(&told.path);
}

static void advertise(uint8_t flags, const uint8_t *mac)
{
    struct frame frame;
    frame_nd(&frame, ICMPV6_NEIGHBOR_ADVERTISEMENT, &rig.peer6, &rig.addr6, &rig.peer6, flags, mac);
    frame_inject(&frame);
}

/* RFC 4861 7.2.5 */
static void na_changes_a_known_address_with_override_alone(void **state)
{
    (void)state;
    struct told_path told;
    path_open_ready(&told, &rig.peer6);
    advertise(ND_FLAG_SOLICITED, OTHER_MAC);
    assert_memory_equal(told.path.head + 2, rig.peer_mac, 6);
    assert_int_equal(STAT(neighbor_changes), 0);
    advertise(ND_FLAG_OVERRIDE, OTHER_MAC);
    assert_memory_equal(told.path.head + 2, OTHER_MAC, 6);
    assert_int_equal(STAT(neighbor_changes), 1);
    assert_int_equal(told.ready_count, 1);
    net_path_close(&told.path);
}

/* RFC 4861 7.2.3: a solicitation for us tells where its sender is. */
static void ns_from_a_known_neighbour_updates_it(void **state)
{
    (void)state;
    struct frame frame;
    struct told_path told;
    struct net_addr group = addr("ff02::1:ff00:1");
    path_open_ready(&told, &rig.peer6);
    frame_nd(&frame, ICMPV6_NEIGHBOR_SOLICITATION, &rig.peer6, &group, &rig.addr6, 0, OTHER_MAC);
    frame_inject(&frame);
    assert_memory_equal(told.path.head + 2, OTHER_MAC, 6);
    net_path_close(&told.path);
}

/* RFC 4862 5.4.4 */
static void na_of_our_address_is_a_conflict(void **state)
{
    (void)state;
    struct frame frame;
    struct net_addr group = addr("ff02::1:ff00:1");
    frame_nd(&frame, ICMPV6_NEIGHBOR_ADVERTISEMENT, &rig.addr6, &net_all_nodes, &rig.addr6,
             ND_FLAG_OVERRIDE, OTHER_MAC);
    frame_inject(&frame);
    assert_int_equal(STAT(addr_conflicts), 1);
    frame_nd(&frame, ICMPV6_NEIGHBOR_SOLICITATION, &rig.addr6, &group, &rig.addr6, 0, OTHER_MAC);
    frame_inject(&frame);
    assert_int_equal(STAT(addr_conflicts), 2);
    assert_int_equal(peer_drain(), 0);
}

/* What a loop brings back of ours is no conflict. */
static void na_of_our_own_is_no_conflict(void **state)
{
    (void)state;
    struct frame frame;
    frame_nd(&frame, ICMPV6_NEIGHBOR_ADVERTISEMENT, &rig.addr6, &net_all_nodes, &rig.addr6,
             ND_FLAG_OVERRIDE, rig.mac);
    frame_inject(&frame);
    struct net_addr none = addr("::");
    struct net_addr group = addr("ff02::1:ff00:1");
    frame_nd(&frame, ICMPV6_NEIGHBOR_SOLICITATION, &none, &group, &rig.addr6, 0, NULL);
    memcpy(frame.bytes + 6, rig.mac, 6);
    frame_inject(&frame);
    assert_int_equal(STAT(addr_conflicts), 0);
    assert_int_equal(peer_drain(), 0);
}

static void nd_router_messages_are_not_ours(void **state)
{
    (void)state;
    static const uint8_t TYPES[] = {133, 134, 137, 130, 1, 2, 255};
    for (uint32_t i = 0; i < ARRAY_SIZE(TYPES); i++) {
        struct frame frame;
        uint64_t before = STAT(rx_not_ours);
        frame_nd(&frame, TYPES[i], &rig.peer6, &net_all_nodes, &rig.peer6, 0, NULL);
        frame_inject(&frame);
        assert_int_equal(STAT(rx_not_ours), before + 1);
    }
    assert_int_equal(peer_drain(), 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(ns_for_us_is_answered),
        T(ns_unicast_without_option_is_answered_to_the_frame_s_sender),
        T(ns_of_a_probe_is_answered_to_all_nodes),
        T(ns_for_another_is_not_answered),
        T(ns_malformed_is_dropped_and_counted),
        T(ns_with_a_wrong_checksum_is_dropped),
        T(ns_with_unknown_options_is_answered),
        T(na_malformed_is_dropped_and_counted),
        T(ns_asks_the_solicited_node_group),
        T(na_makes_the_path_ready),
        T(na_changes_a_known_address_with_override_alone),
        T(ns_from_a_known_neighbour_updates_it),
        T(na_of_our_address_is_a_conflict),
        T(na_of_our_own_is_no_conflict),
        T(nd_router_messages_are_not_ours),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
