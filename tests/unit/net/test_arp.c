/* ARP: RFC 826 and RFC 5227. */
#include "net/rig.h"

static const uint8_t OTHER_MAC[6] = {0x02, 0x99, 0x99, 0x99, 0x99, 0x01};

static struct arp_packet arp_of(const struct frame *frame)
{
    struct arp_packet arp;
    assert_int_equal(frame->len, 14 + sizeof(arp));
    assert_int_equal(frame->bytes[12] << 8 | frame->bytes[13], ETH_TYPE_ARP);
    memcpy(&arp, frame->bytes + 14, sizeof(arp));
    assert_int_equal(be16_get(arp.hardware), 1);
    assert_int_equal(be16_get(arp.protocol), 0x0800);
    assert_int_equal(arp.hardware_bytes, 6);
    assert_int_equal(arp.protocol_bytes, 4);
    assert_memory_equal(arp.sender_mac, rig.mac, 6);
    assert_memory_equal(frame->bytes + 6, rig.mac, 6);
    return arp;
}

static void arp_request_for_us_is_answered(void **state)
{
    (void)state;
    struct frame frame;
    frame_arp(&frame, ARP_REQUEST, rig.peer_mac, &rig.peer4, &rig.addr4);
    frame_inject(&frame);
    assert_true(frame_take(&frame));
    struct arp_packet arp = arp_of(&frame);
    assert_memory_equal(frame.bytes, rig.peer_mac, 6);
    assert_int_equal(be16_get(arp.operation), ARP_REPLY);
    assert_memory_equal(arp.sender_ip, rig.addr4.bytes + 12, 4);
    assert_memory_equal(arp.target_mac, rig.peer_mac, 6);
    assert_memory_equal(arp.target_ip, rig.peer4.bytes + 12, 4);
    assert_false(frame_take(&frame));
    assert_int_equal(STAT(arp_replies), 1);
}

static void arp_request_unicast_and_padded_is_answered(void **state)
{
    (void)state;
    struct frame frame;
    frame_arp(&frame, ARP_REQUEST, rig.peer_mac, &rig.peer4, &rig.addr4);
    memcpy(frame.bytes, rig.mac, 6);
    frame_put(&frame, NULL, 18); /* to 60 bytes */
    frame_inject(&frame);
    assert_int_equal(peer_drain(), 1);
}

/* RFC 5227 2.1.1, 2.4: a probe has no sender address; answering defends ours. */
static void arp_probe_for_our_address_is_answered(void **state)
{
    (void)state;
    struct frame frame;
    struct net_addr none = addr("0.0.0.0");
    frame_arp(&frame, ARP_REQUEST, rig.peer_mac, &none, &rig.addr4);
    frame_inject(&frame);
    assert_true(frame_take(&frame));
    struct arp_packet arp = arp_of(&frame);
    assert_int_equal(be16_get(arp.operation), ARP_REPLY);
    assert_memory_equal(arp.target_ip, none.bytes + 12, 4);
    assert_int_equal(STAT(addr_conflicts), 0);
}

static void arp_request_for_another_is_not_ours(void **state)
{
    (void)state;
    struct frame frame;
    struct net_addr third = addr("192.0.2.3");
    uint64_t before = STAT(rx_not_ours);
    frame_arp(&frame, ARP_REQUEST, rig.peer_mac, &rig.peer4, &third);
    frame_inject(&frame);
    assert_int_equal(peer_drain(), 0);
    assert_int_equal(STAT(rx_not_ours), before + 1);
}

static void arp_malformed_is_dropped_and_counted(void **state)
{
    (void)state;
    static const struct {
        uint8_t offset, value;
    } BAD[] = {{0, 1},   {1, 2}, {2, 0x86}, {3, 0xdd}, {4, 5}, {4, 8},    {5, 16},
               {5, 3},   {6, 1}, {7, 0},    {7, 3},    {7, 8}, {8, 0x01}, /* a group sends it */
               {8, 0xff}};
    struct frame frame;
    for (uint32_t i = 0; i < ARRAY_SIZE(BAD); i++) {
        frame_arp(&frame, ARP_REQUEST, rig.peer_mac, &rig.peer4, &rig.addr4);
        frame.bytes[14 + BAD[i].offset] = BAD[i].value;
        frame_inject(&frame);
        assert_int_equal(STAT(rx_malformed), i + 1);
    }
    frame_arp(&frame, ARP_REQUEST, (const uint8_t[6]){0}, &rig.peer4, &rig.addr4);
    frame_inject(&frame);
    assert_int_equal(STAT(rx_malformed), ARRAY_SIZE(BAD) + 1);
    for (uint32_t len = 14; len < 42; len++) {
        frame_arp(&frame, ARP_REQUEST, rig.peer_mac, &rig.peer4, &rig.addr4);
        frame.len = len;
        frame_inject(&frame);
    }
    assert_int_equal(STAT(rx_malformed), ARRAY_SIZE(BAD) + 1 + 28);
    assert_int_equal(peer_drain(), 0);
}

/* RFC 5227 2.4 */
static void arp_claim_of_our_address_is_a_conflict(void **state)
{
    (void)state;
    struct frame frame;
    struct told_path told;
    path_open_ready(&told, &rig.peer4);
    frame_arp(&frame, ARP_REQUEST, OTHER_MAC, &rig.addr4, &rig.addr4); /* an announcement */
    frame_inject(&frame);
    assert_int_equal(STAT(addr_conflicts), 1);
    frame_arp(&frame, ARP_REPLY, OTHER_MAC, &rig.addr4, &rig.peer4);
    frame_inject(&frame);
    assert_int_equal(STAT(addr_conflicts), 2);
    assert_int_equal(peer_drain(), 0);
    assert_int_equal(told.path.state, NET_PATH_READY);
    net_path_close(&told.path);
}

/* A loop or a hub that sends back what we sent is no conflict. */
static void arp_of_our_own_is_no_conflict(void **state)
{
    (void)state;
    struct frame frame;
    frame_arp(&frame, ARP_REQUEST, rig.mac, &rig.addr4, &rig.addr4);
    frame_inject(&frame);
    memcpy(frame.bytes + 6, rig.mac, 6);
    frame_inject(&frame);
    assert_int_equal(STAT(addr_conflicts), 0);
}

static void arp_request_asks_by_broadcast_from_our_address(void **state)
{
    (void)state;
    struct frame frame;
    struct told_path told;
    assert_int_equal(path_open(&told, &rig.peer4), STATUS_OK);
    assert_true(frame_take(&frame));
    struct arp_packet arp = arp_of(&frame);
    assert_memory_equal(frame.bytes, net_mac_broadcast, 6);
    assert_int_equal(be16_get(arp.operation), ARP_REQUEST);
    assert_memory_equal(arp.sender_ip, rig.addr4.bytes + 12, 4);
    assert_memory_equal(arp.target_ip, rig.peer4.bytes + 12, 4);
    assert_memory_equal(arp.target_mac, ((const uint8_t[6]){0}), 6);
    net_path_close(&told.path);
}

static void arp_with_a_vlan_is_asked_and_answered_with_the_tag(void **state)
{
    (void)state;
    struct net_if_config config = rig_config();
    struct frame frame;
    config.vlan = 0x123;
    rig_open(&config, 0, true);
    frame_arp(&frame, ARP_REQUEST, rig.peer_mac, &rig.peer4, &rig.addr4);
    frame_inject(&frame);
    assert_int_equal(peer_drain(), 0);
    frame_tag(&frame, 0x123);
    frame_inject(&frame);
    assert_true(frame_take(&frame));
    static const uint8_t TAG_AND_TYPE[] = {0x81, 0x00, 0x01, 0x23, 0x08, 0x06};
    assert_memory_equal(frame.bytes + 12, TAG_AND_TYPE, 6);
    assert_int_equal(frame.len, 18 + 28);
    assert_memory_equal(frame.bytes + 18 + 8, rig.mac, 6);
}

static void arp_without_a_free_buffer_drops_the_answer(void **state)
{
    (void)state;
    struct net_buf *bufs[32];
    struct frame frame;
    for (uint32_t i = 0; i < 32; i++) {
        bufs[i] = net_buf_get(rig.nif);
    }
    frame_arp(&frame, ARP_REQUEST, rig.peer_mac, &rig.peer4, &rig.addr4);
    frame_inject(&frame);
    assert_int_equal(peer_drain(), 0);
    assert_int_equal(STAT(tx_no_buf), 1);
    for (uint32_t i = 0; i < 32; i++) {
        net_buf_put(rig.nif, bufs[i]);
    }
    frame_inject(&frame);
    assert_int_equal(peer_drain(), 1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(arp_request_for_us_is_answered),
        T(arp_request_unicast_and_padded_is_answered),
        T(arp_probe_for_our_address_is_answered),
        T(arp_request_for_another_is_not_ours),
        T(arp_malformed_is_dropped_and_counted),
        T(arp_claim_of_our_address_is_a_conflict),
        T(arp_of_our_own_is_no_conflict),
        T(arp_request_asks_by_broadcast_from_our_address),
        cmocka_unit_test_teardown(arp_with_a_vlan_is_asked_and_answered_with_the_tag, rig_teardown),
        T(arp_without_a_free_buffer_drops_the_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
