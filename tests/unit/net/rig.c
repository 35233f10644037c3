#include "net/rig.h"

#include <stdlib.h>

struct rig rig;
static void *memory;

struct net_addr addr(const char *text)
{
    struct net_addr result;
    assert_true(net_addr_parse(text, &result));
    return result;
}

struct net_if_config rig_config(void)
{
    return (struct net_if_config){
        .addr_count = 2,
        .addrs = {{.addr = addr("192.0.2.1"), .prefix_bits = 24},
                  {.addr = addr("2001:db8::1"), .prefix_bits = 64}},
        .gateway4 = addr("192.0.2.254"),
        .gateway6 = addr("fe80::fe"),
        .buf_count = 32,
        .big_buf_count = 4,
        .neighbor_count = 8,
    };
}

void rig_open(const struct net_if_config *config, uint16_t mtu_bytes, bool is_settled)
{
    native_clock_set(RIG_START_NS);
    sched_init(1, SCHED_IDLE_POLL);
    rig = (struct rig){.config = *config};
    rig.wire = wire_open(&(struct wire_config){.port_count = 2, .mtu_bytes = mtu_bytes, .seed = 1});
    rig.config.port = wire_port(rig.wire, 0);
    memcpy(rig.mac, rig.config.port->addr, ETH_ADDR_BYTES);
    memcpy(rig.peer_mac, wire_port(rig.wire, PEER)->addr, ETH_ADDR_BYTES);
    rig.addr4 = addr("192.0.2.1");
    rig.peer4 = addr("192.0.2.2");
    rig.addr6 = addr("2001:db8::1");
    rig.peer6 = addr("2001:db8::2");
    rig.link6 = addr("fe80::ff:fe00:1");
    uint64_t bytes = net_if_memory_bytes(&rig.config);
    memory = aligned_alloc(64, bytes);
    assert_non_null(memory);
    memset(memory, 0x5a, bytes);
    assert_int_equal(net_if_init(memory, &rig.config, &rig.nif), STATUS_OK);
    if (is_settled) {
        rig_advance(4 * NS_PER_S);
        peer_drain();
    }
}

int rig_setup(void **state)
{
    (void)state;
    struct net_if_config config = rig_config();
    rig_open(&config, 0, true);
    return 0;
}

int rig_teardown(void **state)
{
    (void)state;
    wire_hold_reap(rig.wire, false);
    rig_advance(NS_PER_MS);
    bool is_quiet = net_if_is_quiet(rig.nif);
    wire_close(rig.wire);
    free(memory);
    native_clock_use_real();
    return is_quiet ? 0 : -1;
}

void rig_turn(void)
{
    for (uint32_t i = 0; i < 4; i++) {
        sched_turn();
    }
}

void rig_advance(uint64_t duration_ns)
{
    while (duration_ns > 0) {
        uint64_t step_ns = duration_ns < 5 * NS_PER_MS ? duration_ns : 5 * NS_PER_MS;
        native_clock_advance(step_ns);
        rig_turn();
        duration_ns -= step_ns;
    }
}

uint64_t rig_stat(const _Atomic uint64_t *stat)
{
    return counter_get(stat);
}

/* --- frames ----------------------------------------------------------------------------------- */

void frame_put(struct frame *frame, const void *bytes, uint32_t len)
{
    assert_true(frame->len + len <= RIG_FRAME_BYTES);
    if (bytes != NULL) {
        memcpy(frame->bytes + frame->len, bytes, len);
    } else {
        memset(frame->bytes + frame->len, 0, len);
    }
    frame->len += len;
}

void frame_eth(struct frame *frame, const uint8_t *dst, const uint8_t *src, uint16_t type)
{
    struct eth_header eth = {.type = be16_make(type)};
    memcpy(eth.dst, dst, sizeof(eth.dst));
    memcpy(eth.src, src, sizeof(eth.src));
    frame->len = 0;
    frame->l3 = 0;
    frame->l4 = 0;
    frame_put(frame, &eth, sizeof(eth));
}

void frame_tag(struct frame *frame, uint16_t tci)
{
    const uint8_t tag[4] = {0x81, 0x00, (uint8_t)(tci >> 8), (uint8_t)tci};
    memmove(frame->bytes + 16, frame->bytes + 12, frame->len - 12);
    memcpy(frame->bytes + 12, tag, sizeof(tag));
    frame->len += 4;
    frame->l3 += frame->l3 == 0 ? 0 : 4;
    frame->l4 += frame->l4 == 0 ? 0 : 4;
}

void frame_ipv4(struct frame *frame, uint8_t protocol)
{
    struct ipv4_header ip = {.version_ihl = 0x45, .ttl = 64, .protocol = protocol};
    frame_eth(frame, rig.mac, rig.peer_mac, ETH_TYPE_IPV4);
    memcpy(ip.src, rig.peer4.bytes + 12, 4);
    memcpy(ip.dst, rig.addr4.bytes + 12, 4);
    frame->l3 = frame->len;
    frame_put(frame, &ip, sizeof(ip));
    frame->l4 = frame->len;
}

void frame_ipv6(struct frame *frame, uint8_t next_header)
{
    struct ipv6_header ip = {
        .version_class_flow = be32_make(0x60000000),
        .next_header = next_header,
        .hop_limit = 64,
    };
    frame_eth(frame, rig.mac, rig.peer_mac, ETH_TYPE_IPV6);
    memcpy(ip.src, rig.peer6.bytes, 16);
    memcpy(ip.dst, rig.addr6.bytes, 16);
    frame->l3 = frame->len;
    frame_put(frame, &ip, sizeof(ip));
    frame->l4 = frame->len;
}

void frame_udp(struct frame *frame, uint16_t src_port, uint16_t dst_port, uint32_t len)
{
    struct udp_header udp = {
        .src_port = be16_make(src_port),
        .dst_port = be16_make(dst_port),
        .len_bytes = be16_make((uint16_t)(sizeof(udp) + len)),
    };
    frame_put(frame, &udp, sizeof(udp));
    for (uint32_t i = 0; i < len; i++) {
        uint8_t byte = (uint8_t)(i + 1);
        frame_put(frame, &byte, 1);
    }
}

/* The sums here are the simplest that can be, and share nothing with the firmware's. */
static uint32_t add_up(const uint8_t *bytes, uint32_t len)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < len; i++) {
        sum += i % 2 == 0 ? (uint32_t)bytes[i] << 8 : bytes[i];
    }
    return sum;
}

static void store_sum(uint8_t *at, uint32_t sum)
{
    while (sum > 0xffff) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    at[0] = (uint8_t)(~sum >> 8);
    at[1] = (uint8_t)~sum;
}

void frame_ipv4_sum(struct frame *frame)
{
    uint8_t *ip = frame->bytes + frame->l3;
    memset(ip + 10, 0, 2);
    store_sum(ip + 10, add_up(ip, (ip[0] & 15u) * 4));
}

static void l4_sum(struct frame *frame, bool is_ipv6, uint8_t protocol)
{
    uint8_t *ip = frame->bytes + frame->l3;
    uint8_t *l4 = frame->bytes + frame->l4;
    uint32_t len = frame->len - frame->l4;
    uint32_t pseudo = is_ipv6 ? add_up(ip + 8, 32) : add_up(ip + 12, 8);
    uint8_t *at = l4 + (protocol == IP_PROTOCOL_UDP ? 6 : 2);

    memset(at, 0, 2);
    store_sum(at, add_up(l4, len) + (protocol == IP_PROTOCOL_ICMP ? 0 : pseudo + len + protocol));
}

void frame_done(struct frame *frame, bool with_l4_sum)
{
    uint8_t *ip = frame->bytes + frame->l3;
    bool is_ipv6 = ip[0] >> 4 == 6;
    uint32_t len = is_ipv6 ? frame->len - frame->l4 : frame->len - frame->l3;
    uint32_t at = is_ipv6 ? 4 : 2;

    ip[at] = (uint8_t)(len >> 8);
    ip[at + 1] = (uint8_t)len;
    if (with_l4_sum) {
        l4_sum(frame, is_ipv6, is_ipv6 ? ip[6] : ip[9]);
    }
    if (!is_ipv6) {
        frame_ipv4_sum(frame);
    }
}

void frame_datagram(struct frame *frame, bool is_ipv6, uint16_t dst_port, uint32_t len)
{
    if (is_ipv6) {
        frame_ipv6(frame, IP_PROTOCOL_UDP);
    } else {
        frame_ipv4(frame, IP_PROTOCOL_UDP);
    }
    frame_udp(frame, 50000, dst_port, len);
    frame_done(frame, false);
}

void frame_arp(struct frame *frame, uint16_t operation, const uint8_t *sender_mac,
               const struct net_addr *sender, const struct net_addr *target)
{
    struct arp_packet arp = {
        .hardware = be16_make(1),
        .protocol = be16_make(0x0800),
        .hardware_bytes = 6,
        .protocol_bytes = 4,
        .operation = be16_make(operation),
    };
    memcpy(arp.sender_mac, sender_mac, 6);
    memcpy(arp.sender_ip, sender->bytes + 12, 4);
    memcpy(arp.target_ip, target->bytes + 12, 4);
    if (operation == ARP_REPLY) {
        memcpy(arp.target_mac, rig.mac, 6);
    }
    frame_eth(frame, operation == ARP_REPLY ? rig.mac : net_mac_broadcast, rig.peer_mac,
              ETH_TYPE_ARP);
    frame_put(frame, &arp, sizeof(arp));
}

void frame_nd(struct frame *frame, uint8_t type, const struct net_addr *src,
              const struct net_addr *dst, const struct net_addr *target, uint8_t flags,
              const uint8_t *mac)
{
    struct nd_message nd = {.icmp = {.type = type}, .flags = flags};

    frame_ipv6(frame, IP_PROTOCOL_ICMPV6);
    uint8_t *ip = frame->bytes + frame->l3;
    ip[7] = 255;
    memcpy(ip + 8, src->bytes, 16);
    memcpy(ip + 24, dst->bytes, 16);
    if (dst->bytes[0] == 0xff) {
        const uint8_t group[6] = {0x33,           0x33,           dst->bytes[12],
                                  dst->bytes[13], dst->bytes[14], dst->bytes[15]};
        memcpy(frame->bytes, group, sizeof(group));
    }
    memcpy(nd.target, target->bytes, 16);
    frame_put(frame, &nd, sizeof(nd));
    if (mac != NULL) {
        uint8_t option[8] = {type == ICMPV6_NEIGHBOR_SOLICITATION ? 1 : 2, 1};
        memcpy(option + 2, mac, 6);
        frame_put(frame, option, sizeof(option));
    }
    frame_done(frame, true);
}

void frame_inject(const struct frame *frame)
{
    wire_inject(rig.wire, 0, frame->bytes, frame->len);
    rig_turn();
}

bool frame_take(struct frame *frame)
{
    frame->len = wire_take(rig.wire, PEER, frame->bytes, RIG_FRAME_BYTES);
    frame->l3 = 14;
    return frame->len != 0;
}

uint32_t peer_drain(void)
{
    rig_turn();
    return wire_drain(rig.wire, PEER);
}

void peer_says_arp(const struct net_addr *sender, const uint8_t *mac)
{
    struct frame frame;
    frame_arp(&frame, ARP_REPLY, mac, sender, &rig.addr4);
    frame_inject(&frame);
}

void peer_says_nd(const struct net_addr *target, const uint8_t *mac)
{
    struct frame frame;
    frame_nd(&frame, ICMPV6_NEIGHBOR_ADVERTISEMENT, target, &rig.addr6, target,
             ND_FLAG_SOLICITED | ND_FLAG_OVERRIDE, mac);
    frame_inject(&frame);
}

/* --- paths ------------------------------------------------------------------------------------ */

static void tell(struct net_path *path)
{
    struct told_path *told = (struct told_path *)path;
    assert_true(path->state == NET_PATH_READY || path->state == NET_PATH_FAILED);
    told->ready_count += path->state == NET_PATH_READY;
    told->failed_count += path->state == NET_PATH_FAILED;
}

enum status path_open(struct told_path *told, const struct net_addr *dst)
{
    struct net_path_config config = {.dst = *dst, .src_port = 49152, .dst_port = 4791};
    memset(told, 0x77, sizeof(*told)); /* as the caller's memory may be */
    told->ready_count = 0;
    told->failed_count = 0;
    enum status status = net_path_open(rig.nif, &told->path, &config, tell);
    rig_turn();
    return status;
}

void path_open_ready(struct told_path *told, const struct net_addr *dst)
{
    assert_int_equal(path_open(told, dst), STATUS_OK);
    if (net_addr_is_ipv4(dst)) {
        peer_says_arp(dst, rig.peer_mac);
    } else {
        peer_says_nd(dst, rig.peer_mac);
    }
    assert_int_equal(told->path.state, NET_PATH_READY);
    peer_drain();
}
