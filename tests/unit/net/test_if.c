/* The interface: configuration, announcements, poller. */
#include "net/rig.h"

#include <stdlib.h>

static void open_default(bool is_settled)
{
    struct net_if_config config = rig_config();
    rig_open(&config, 0, is_settled);
}

/* --- configuration ---------------------------------------------------------------------------- */

static enum status try_config(const struct net_if_config *config)
{
    struct net_if *nif;
    static ALIGNED(64) uint8_t memory[8 << 20];
    assert_true(net_if_memory_bytes(config) <= sizeof(memory));
    enum status status = net_if_init(memory, config, &nif);
    if (status == STATUS_OK) {
        sched_poller_remove(&nif->poller);
        timer_cancel(&nif->announce_timer);
        wire_drain(rig.wire, PEER);
    }
    return status;
}

#define EXPECT_CONFIG(expected, change)                      \
    do {                                                     \
        struct net_if_config c = rig_config();               \
        c.port = rig.config.port;                            \
        change;                                              \
        assert_int_equal(try_config(&c), STATUS_##expected); \
    } while (0)

static void config_at_its_ends_is_taken(void **state)
{
    (void)state;
    EXPECT_CONFIG(OK, (void)c);
    EXPECT_CONFIG(OK, c.mtu_bytes = 1280);
    EXPECT_CONFIG(OK, c.mtu_bytes = 1500);
    EXPECT_CONFIG(OK, c.vlan = 1);
    EXPECT_CONFIG(OK, c.vlan = 4094);
    EXPECT_CONFIG(OK, c.buf_count = 16);
    EXPECT_CONFIG(OK, c.buf_count = 4096);
    EXPECT_CONFIG(OK, c.big_buf_count = 1);
    EXPECT_CONFIG(OK, c.big_buf_count = 32);
    EXPECT_CONFIG(OK, c.neighbor_count = 4);
    EXPECT_CONFIG(OK, c.neighbor_count = 1024);
    EXPECT_CONFIG(OK, c.addrs[0].prefix_bits = 0);
    EXPECT_CONFIG(OK, c.gateway4 = addr("::"));
    EXPECT_CONFIG(OK, c.gateway6 = addr("2001:db8::ffff"));
    EXPECT_CONFIG(OK, c.addrs[0].addr = addr("10.0.0.1"); c.addrs[0].prefix_bits = 32;
                  c.gateway4 = addr("::"));
    EXPECT_CONFIG(OK, c.addrs[1].prefix_bits = 128);
}

static void config_out_of_range_is_invalid(void **state)
{
    (void)state;
    EXPECT_CONFIG(INVALID, c.port = NULL);
    EXPECT_CONFIG(INVALID, c.mtu_bytes = 1279);
    EXPECT_CONFIG(INVALID, c.mtu_bytes = 1501); /* the port's is 1500 */
    EXPECT_CONFIG(INVALID, c.mtu_bytes = 9001);
    EXPECT_CONFIG(INVALID, c.vlan = 4095);
    EXPECT_CONFIG(INVALID, c.vlan = 65535);
    EXPECT_CONFIG(INVALID, c.buf_count = 15);
    EXPECT_CONFIG(INVALID, c.buf_count = 4097);
    EXPECT_CONFIG(INVALID, c.big_buf_count = 0);
    EXPECT_CONFIG(INVALID, c.big_buf_count = 33);
    EXPECT_CONFIG(INVALID, c.neighbor_count = 3);
    EXPECT_CONFIG(INVALID, c.neighbor_count = 1025);
    EXPECT_CONFIG(INVALID, c.addr_count = 4);
}

static void config_with_wrong_addresses_is_invalid(void **state)
{
    (void)state;
    static const char *const BAD[] = {"0.0.0.0",     "127.0.0.1", "224.0.0.1", "255.255.255.255",
                                      "192.0.2.255", "::",        "::1",       "ff02::1"};
    for (uint32_t i = 0; i < ARRAY_SIZE(BAD); i++) {
        EXPECT_CONFIG(INVALID, c.addrs[0].addr = addr(BAD[i]); c.gateway4 = addr("::"));
    }
    EXPECT_CONFIG(INVALID, c.addrs[0].prefix_bits = 33);
    EXPECT_CONFIG(INVALID, c.addrs[1].prefix_bits = 129);
    EXPECT_CONFIG(INVALID, c.addrs[1] = c.addrs[0]);           /* twice */
    EXPECT_CONFIG(INVALID, c.addrs[1].addr = rig.link6);       /* is there already */
    EXPECT_CONFIG(INVALID, c.gateway4 = addr("198.51.100.1")); /* not on the link */
    EXPECT_CONFIG(INVALID, c.gateway6 = addr("2001:db8:1::1"));
    EXPECT_CONFIG(INVALID, c.gateway4 = addr("fe80::1")); /* families */
    EXPECT_CONFIG(INVALID, c.gateway6 = addr("192.0.2.254"));
    EXPECT_CONFIG(INVALID, c.gateway4 = addr("192.0.2.1")); /* ourselves */
    EXPECT_CONFIG(INVALID, c.gateway6 = addr("ff02::1"));
}

static void config_with_a_port_that_cannot_is_invalid(void **state)
{
    (void)state;
    struct eth_port *port = rig.config.port;
    port->mtu_bytes = 1279;
    EXPECT_CONFIG(INVALID, (void)c);
    port->mtu_bytes = 1500;
    port->addr[0] |= 1;
    EXPECT_CONFIG(INVALID, (void)c);
    port->addr[0] &= 0xfe;
}

/* RFC 4291 2.5.6 and appendix A */
static void addresses_begin_with_the_link_local_one(void **state)
{
    (void)state;
    char text[NET_ADDR_TEXT_BYTES];
    net_addr_text(&net_if_addr(rig.nif, 0)->addr, text);
    assert_string_equal(text, "fe80::ff:fe00:1");
    assert_int_equal(net_if_addr(rig.nif, 0)->prefix_bits, 64);
    assert_true(net_addr_equal(&net_if_addr(rig.nif, 1)->addr, &rig.addr4));
    assert_true(net_addr_equal(&net_if_addr(rig.nif, 2)->addr, &rig.addr6));
    assert_null(net_if_addr(rig.nif, 3));
    assert_null(net_if_addr(rig.nif, UINT32_MAX));
    assert_ptr_equal(net_if_port(rig.nif), rig.config.port);
}

/* --- announcements ---------------------------------------------------------------------------- */

struct announced {
    uint32_t arp_probe, arp_announcement, ns_probe, na;
};

static struct announced collect(void)
{
    struct announced found = {0};
    struct frame frame;
    rig_turn();
    while (frame_take(&frame)) {
        const uint8_t *l3 = frame.bytes + 14;
        static const uint8_t ZERO[16];
        if (frame.bytes[13] == 0x06) {
            assert_memory_equal(l3 + 24, rig.addr4.bytes + 12, 4);
            assert_int_equal(l3[7], ARP_REQUEST);
            found.arp_probe += memcmp(l3 + 14, ZERO, 4) == 0;
            found.arp_announcement += memcmp(l3 + 14, rig.addr4.bytes + 12, 4) == 0;
        } else if (l3[40] == ICMPV6_NEIGHBOR_SOLICITATION) {
            assert_memory_equal(l3 + 8, ZERO, 16);
            assert_int_equal(frame.len, 14 + 40 + 24); /* no link address: RFC 4861 4.3 */
            assert_int_equal(l3[24], 0xff);
            found.ns_probe++;
        } else {
            assert_int_equal(l3[40], ICMPV6_NEIGHBOR_ADVERTISEMENT);
            assert_int_equal(l3[44], ND_FLAG_OVERRIDE);
            assert_memory_equal(l3 + 24, net_all_nodes.bytes, 16);
            found.na++;
        }
    }
    return found;
}

/* RFC 5227 2.1 and 2.3, RFC 4862 5.4, RFC 4861 7.2.6 */
static void announce_at_the_start_probes_then_tells_twice(void **state)
{
    (void)state;
    open_default(false);
    struct announced found = collect();
    assert_int_equal(found.arp_probe, 1);
    assert_int_equal(found.ns_probe, 2);
    assert_int_equal(found.arp_announcement + found.na, 0);
    rig_advance(1010 * NS_PER_MS);
    found = collect();
    assert_int_equal(found.arp_announcement, 1);
    assert_int_equal(found.na, 2);
    assert_int_equal(found.arp_probe + found.ns_probe, 0);
    rig_advance(2010 * NS_PER_MS);
    found = collect();
    assert_int_equal(found.arp_announcement, 1);
    assert_int_equal(found.na, 2);
    rig_advance(20 * NS_PER_S);
    assert_int_equal(peer_drain(), 0);
}

/* Who has our address already keeps it in his neighbours' caches. */
static void announce_leaves_out_an_address_in_conflict(void **state)
{
    (void)state;
    struct frame frame;
    static const uint8_t OTHER_MAC[6] = {0x02, 0x99, 0, 0, 0, 1};
    open_default(false);
    collect();
    frame_arp(&frame, ARP_REPLY, OTHER_MAC, &rig.addr4, &rig.addr4);
    frame_inject(&frame);
    frame_nd(&frame, ICMPV6_NEIGHBOR_ADVERTISEMENT, &rig.link6, &net_all_nodes, &rig.link6, 0,
             OTHER_MAC);
    frame_inject(&frame);
    assert_int_equal(STAT(addr_conflicts), 2);
    rig_advance(4 * NS_PER_S);
    struct announced found = collect();
    assert_int_equal(found.arp_announcement, 0);
    assert_int_equal(found.na, 2);
}

static void announce_is_made_anew_when_the_link_comes_up(void **state)
{
    (void)state;
    open_default(true);
    rig.config.port->link_up = false;
    rig_advance(NS_PER_S);
    assert_int_equal(peer_drain(), 0);
    rig.config.port->link_up = true;
    rig_advance(4 * NS_PER_S);
    struct announced found = collect();
    assert_int_equal(found.arp_probe, 1);
    assert_int_equal(found.ns_probe, 2);
    assert_int_equal(found.arp_announcement, 2);
    assert_int_equal(found.na, 4);
}

static void announce_in_a_vlan_is_tagged(void **state)
{
    (void)state;
    struct net_if_config config = rig_config();
    struct frame frame;
    config.vlan = 5;
    rig_open(&config, 0, false);
    rig_advance(4 * NS_PER_S);
    uint32_t count = 0;
    for (; frame_take(&frame); count++) {
        assert_int_equal(frame.bytes[12], 0x81);
        assert_int_equal(frame.bytes[15], 5);
    }
    assert_int_equal(count, 9);
}

/* --- poller ----------------------------------------------------------------------------------- */

static uint32_t hook_count;
static uint32_t rx_count;
static uint32_t rx_at_hook;

static void hook(void *ctx)
{
    assert_ptr_equal(ctx, &hook_count);
    hook_count++;
    rx_at_hook = rx_count;
}

static void count_rx(void *ctx, const struct net_rx *rx)
{
    (void)ctx;
    (void)rx;
    rx_count++;
}

static void poller_takes_32_frames_a_turn_then_calls_the_hook(void **state)
{
    (void)state;
    struct frame frame;
    hook_count = 0;
    rx_count = 0;
    net_set_batch_hook(rig.nif, hook, &hook_count);
    assert_int_equal(net_udp_bind(rig.nif, 9, count_rx, NULL), STATUS_OK);
    assert_int_equal(sched_turn(), 0);
    assert_int_equal(hook_count, 0); /* nothing, no call */
    frame_datagram(&frame, false, 9, 100);
    for (uint32_t i = 0; i < 40; i++) {
        wire_inject(rig.wire, 0, frame.bytes, frame.len);
    }
    assert_int_equal(sched_turn(), 32);
    assert_int_equal(hook_count, 1);
    assert_int_equal(rx_at_hook, 32);
    assert_int_equal(sched_turn(), 8);
    assert_int_equal(hook_count, 2);
    assert_int_equal(rx_at_hook, 40);
    net_set_batch_hook(rig.nif, NULL, NULL);
    frame_inject(&frame);
    assert_int_equal(hook_count, 2);
    assert_int_equal(STAT(rx_frames), 41);
}

static void reply_in_the_hook(void *ctx)
{
    struct told_path *told = ctx;
    struct net_buf *buf = net_buf_get(rig.nif);
    net_path_begin(&told->path, buf);
    net_path_finish(&told->path, buf);
    net_send(rig.nif, buf);
}

static void poller_flushes_after_the_hook_in_the_same_turn(void **state)
{
    (void)state;
    struct told_path told;
    struct frame frame;
    path_open_ready(&told, &rig.peer4);
    net_set_batch_hook(rig.nif, reply_in_the_hook, &told);
    frame_datagram(&frame, false, 9, 100);
    wire_inject(rig.wire, 0, frame.bytes, frame.len);
    sched_turn();
    assert_int_equal(wire_drain(rig.wire, PEER), 1);
    net_path_close(&told.path);
}

static void arm_says_whether_to_sleep(void **state)
{
    (void)state;
    struct poller *poller = &rig.nif->poller;
    struct frame frame;
    struct told_path told;
    assert_true(poller->arm(poller->ctx, true) == UINT64_MAX);
    frame_datagram(&frame, false, 9, 100);
    wire_inject(rig.wire, 0, frame.bytes, frame.len);
    assert_int_equal(poller->arm(poller->ctx, true), 0);
    rig_turn();
    /* Frames at the device: nobody wakes us for those, so the sleep is short. */
    wire_hold_reap(rig.wire, true);
    assert_int_equal(path_open(&told, &rig.peer4), STATUS_OK);
    uint64_t sleep_ns = poller->arm(poller->ctx, true);
    assert_true(sleep_ns > 0 && sleep_ns <= NS_PER_MS);
    wire_hold_reap(rig.wire, false);
    rig_turn();
    assert_true(poller->arm(poller->ctx, true) == UINT64_MAX);
    net_path_close(&told.path);
}

static void quiet_is_false_while_anything_is_open(void **state)
{
    (void)state;
    struct told_path told;
    assert_true(net_if_is_quiet(rig.nif));
    assert_int_equal(path_open(&told, &rig.peer4), STATUS_OK);
    assert_false(net_if_is_quiet(rig.nif));
    net_path_close(&told.path);
    assert_true(net_if_is_quiet(rig.nif));
    struct net_buf *buf = net_buf_get(rig.nif);
    assert_false(net_if_is_quiet(rig.nif));
    net_buf_put(rig.nif, buf);
    assert_true(net_if_is_quiet(rig.nif));
}

#define T(name)     cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
#define T_OWN(name) cmocka_unit_test_teardown(name, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(config_at_its_ends_is_taken),
        T(config_out_of_range_is_invalid),
        T(config_with_wrong_addresses_is_invalid),
        T(config_with_a_port_that_cannot_is_invalid),
        T(addresses_begin_with_the_link_local_one),
        T_OWN(announce_at_the_start_probes_then_tells_twice),
        T_OWN(announce_leaves_out_an_address_in_conflict),
        T_OWN(announce_is_made_anew_when_the_link_comes_up),
        T_OWN(announce_in_a_vlan_is_tagged),
        T(poller_takes_32_frames_a_turn_then_calls_the_hook),
        T(poller_flushes_after_the_hook_in_the_same_turn),
        T(arm_says_whether_to_sleep),
        T(quiet_is_false_while_anything_is_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
