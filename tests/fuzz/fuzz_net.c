/*
 * Bytes -> frames into an interface, with paths, pings, time and a device that gives back late. The
 * frames are raw, or sound ones with bytes changed and their checksums put right, so that what
 * stands behind the checks is reached.
 *
 * Found here: reads beyond a frame, buffers lost, answers to more than what was asked, neighbours
 * made by packets, paths that change their state without reason.
 * Input: a row of steps, each one opcode byte and its arguments; see enum step.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hal/clock.h"
#include "hal/native/native.h"
#include "net/net_priv.h"
#include "tests/fuzz/input.h"
#include "tests/sim/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum step {
    STEP_RAW,   /* length; bytes */
    STEP_CRAFT, /* kind, length of payload; count of changes, each offset and value; mends or not */
    STEP_TIME,  /* how long */
    STEP_OPEN,  /* which, to whom */
    STEP_CLOSE, /* which */
    STEP_SEND,  /* which, length */
    STEP_PING,  /* whom, length */
    STEP_DEVICE, /* delays */
    STEP_HOLD,   /* the reap stands still or goes on */
    STEP_LINK,   /* up or down */
    STEP_COUNT,
};

enum kind {
    KIND_ARP,
    KIND_ND,
    KIND_ICMP4,
    KIND_ICMP6,
    KIND_UDP4,
    KIND_UDP6,
    KIND_COUNT,
};

#define STEPS_MAX    200
#define PATHS        6
#define PORT         4791
#define CRAFT_MAX    1600
#define MEMORY_BYTES (256 << 10)
#define PEER         1
#define NEIGHBORS    4
#define START_NS     (UINT64_C(100) * NS_PER_S)

static struct {
    struct wire *wire;
    struct net_if *nif;
    struct net_path paths[PATHS];
    uint32_t ready_count[PATHS];
    uint32_t failed_count[PATHS];
    uint32_t ping_count;
    uint32_t ping_told;
    bool is_held;
} t;

static ALIGNED(64) uint8_t memory[MEMORY_BYTES];

static void fail(const char *what)
{
    fprintf(stderr, "fuzz_net: %s\n", what);
    abort();
}

static struct net_addr addr(const char *text)
{
    struct net_addr result;
    if (!net_addr_parse(text, &result)) {
        fail("an address");
    }
    return result;
}

/* --- what is watched -------------------------------------------------------------------------- */

static void check_datagram(void *ctx, const struct net_rx *rx)
{
    (void)ctx;
    struct net_addr src = net_rx_src(rx);
    struct net_addr dst = net_rx_dst(rx);
    if (net_addr_is_ipv4(&src) == rx->is_ipv6 || net_addr_is_ipv4(&dst) == rx->is_ipv6) {
        fail("a datagram whose addresses are of the other family");
    }
    if (net_if_addr_index(t.nif, &dst) == NET_IF_ADDRS) {
        fail("a datagram for somebody else");
    }
    if (rx->ecn > 3 || ((uintptr_t)rx->payload & 3) != 0) {
        fail("a datagram that cannot be");
    }
    uint32_t sum = 0;
    for (uint32_t i = 0; i < rx->payload_bytes; i++) {
        sum += rx->payload[i]; /* all of it can be read */
    }
    if (sum == UINT32_MAX) {
        fail("cannot be");
    }
}

static void path_changed(struct net_path *path)
{
    size_t i = (size_t)(path - t.paths);
    if (path->state == NET_PATH_READY) {
        t.ready_count[i]++;
        if (!net_mac_is_station(path->head + 2)) {
            fail("a path to no station");
        }
    } else if (path->state == NET_PATH_FAILED) {
        t.failed_count[i]++;
    } else {
        fail("a path told of another state");
    }
    if (t.ready_count[i] + t.failed_count[i] > 1) {
        fail("a path told twice");
    }
}

static void pinged(void *ctx, bool answered, uint64_t round_trip_ns)
{
    (void)ctx;
    (void)answered;
    (void)round_trip_ns;
    t.ping_told++;
}

static void count_visit(const struct net_neighbor_info *info, void *ctx)
{
    (void)info;
    (*(uint32_t *)ctx)++;
}

static uint32_t neighbor_count(void)
{
    uint32_t count = 0;
    net_neighbors_visit(t.nif, count_visit, &count);
    return count;
}

/* Injects a frame and turns once; what it may cause is bounded. */
static void inject(const uint8_t *frame, uint32_t len)
{
    struct net_stats *stats = &t.nif->stats;
    bool was_ready[PATHS];
    sched_turn(); /* what timers that are due do by themselves is not the frame's doing */
    uint64_t sent = counter_get(&stats->tx_frames);
    uint32_t neighbors = neighbor_count();
    for (uint32_t i = 0; i < PATHS; i++) {
        was_ready[i] = t.paths[i].state == NET_PATH_READY;
    }
    wire_inject(t.wire, 0, frame, len);
    sched_turn();
    if (counter_get(&stats->tx_frames) > sent + 2) {
        fail("more than an answer and what it sets free");
    }
    if (neighbor_count() > neighbors) {
        fail("a packet made a neighbour");
    }
    for (uint32_t i = 0; i < PATHS; i++) {
        if (was_ready[i] && t.paths[i].state != NET_PATH_READY) {
            fail("a packet ended a path");
        }
    }
    wire_drain(t.wire, PEER);
}

/* --- frames ----------------------------------------------------------------------------------- */

struct craft {
    uint8_t bytes[CRAFT_MAX + 128];
    uint32_t len;
    uint32_t l3;
    uint32_t l4;
    uint8_t protocol;
    bool is_ipv6;
};

static void put(struct craft *c, const void *bytes, uint32_t len)
{
    memcpy(c->bytes + c->len, bytes, len);
    c->len += len;
}

static void put_eth(struct craft *c, uint16_t type, bool is_tagged)
{
    static const uint8_t HEAD[12] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2};
    const uint8_t tag[4] = {0x81, 0, 0xe0, 0};
    const uint8_t end[2] = {(uint8_t)(type >> 8), (uint8_t)type};
    put(c, HEAD, sizeof(HEAD));
    if (is_tagged) {
        put(c, tag, sizeof(tag));
    }
    put(c, end, sizeof(end));
    c->l3 = c->len;
}

static void put_ip(struct craft *c)
{
    static const uint8_t V4[20] = {0x45, 0, 0,   0, 0, 0, 0x40, 0, 64, 0,
                                   0,    0, 192, 0, 2, 2, 192,  0, 2,  1};
    static const uint8_t V6[40] = {0x60, 0,    0,    0,    0, 0, 0, 64, /* then the addresses */
                                   0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0,  0, 0, 0, 0, 0, 0, 0, 2,
                                   0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0,  0, 0, 0, 0, 0, 0, 0, 1};
    if (c->is_ipv6) {
        put(c, V6, sizeof(V6));
        c->bytes[c->l3 + 6] = c->protocol;
    } else {
        put(c, V4, sizeof(V4));
        c->bytes[c->l3 + 9] = c->protocol;
    }
    c->l4 = c->len;
}

static void craft(struct craft *c, enum kind kind, uint32_t payload, bool is_tagged)
{
    static const uint8_t ARP[28] = {0,   1, 8, 0, 6, 4, 0, 1, 2, 0, 0,   0, 0, 2,
                                    192, 0, 2, 2, 0, 0, 0, 0, 0, 0, 192, 0, 2, 1};
    static const uint8_t ND[32] = {136,  0,    0,    0,    0x60, 0, 0, 0, /* then the target */
                                   0x20, 0x01, 0x0d, 0xb8, 0,    0, 0, 0, 0, 0, 0, 0,
                                   0,    0,    0,    2,    2,    1, 2, 0, 0, 0, 0, 2};
    const uint8_t echo[8] = {kind == KIND_ICMP6 ? 128 : 8, 0, 0, 0, 0x53, 0x4e, 0, 1};
    const uint8_t udp[8] = {
        0xc0, 0, PORT >> 8, PORT & 0xff, (uint8_t)((payload + 8) >> 8), (uint8_t)(payload + 8),
        0,    0};

    memset(c, 0, sizeof(*c));
    c->is_ipv6 = kind == KIND_ND || kind == KIND_ICMP6 || kind == KIND_UDP6;
    put_eth(c, kind == KIND_ARP ? 0x0806 : c->is_ipv6 ? 0x86dd : 0x0800, is_tagged);
    switch (kind) {
    case KIND_ARP:
        put(c, ARP, sizeof(ARP));
        return;
    case KIND_ND:
        c->protocol = 58;
        put_ip(c);
        c->bytes[c->l3 + 7] = 255;
        put(c, ND, sizeof(ND));
        return;
    case KIND_ICMP4:
    case KIND_ICMP6:
        c->protocol = kind == KIND_ICMP6 ? 58 : 1;
        put_ip(c);
        put(c, echo, sizeof(echo));
        break;
    case KIND_UDP4:
    case KIND_UDP6:
    case KIND_COUNT:
        c->protocol = 17;
        put_ip(c);
        put(c, udp, sizeof(udp));
        break;
    }
    for (uint32_t i = 0; i < payload; i++) {
        c->bytes[c->len++] = (uint8_t)(i * 7 + 1); /* what a ping of ours carries */
    }
}

/* Lengths (if wanted) and checksums, as far as the frame still has their places. */
static void mend(struct craft *c, bool with_lengths)
{
    uint8_t *ip = c->bytes + c->l3;
    uint8_t *l4 = c->bytes + c->l4;
    uint32_t l4_bytes = c->len - c->l4;
    if (c->l4 == 0) {
        return;
    }
    if (with_lengths) {
        uint32_t len = c->is_ipv6 ? l4_bytes : c->len - c->l3;
        uint32_t at = c->is_ipv6 ? 4 : 2;
        ip[at] = (uint8_t)(len >> 8);
        ip[at + 1] = (uint8_t)len;
    }
    if (c->protocol != 17) {
        memset(l4 + 2, 0, 2);
        uint16_t sum = c->is_ipv6 ? net_sum_pseudo(ip, true, c->protocol, l4_bytes) : 0;
        sum = (uint16_t)~net_sum_add(sum, net_sum(l4, l4_bytes));
        l4[2] = (uint8_t)(sum >> 8);
        l4[3] = (uint8_t)sum;
    }
    if (!c->is_ipv6) {
        memset(ip + 10, 0, 2);
        uint16_t sum = (uint16_t)~net_sum(ip, 20);
        ip[10] = (uint8_t)(sum >> 8);
        ip[11] = (uint8_t)sum;
    }
}

static void step_craft(struct input *in)
{
    struct craft c;
    uint8_t what = take8(in);
    uint8_t how = take8(in);
    uint32_t payload = (how & 1) != 0 ? take16(in) % CRAFT_MAX : how >> 4;

    craft(&c, what % KIND_COUNT, payload, (how & 2) != 0);
    mend(&c, true);
    for (uint32_t changes = take8(in) % 8; changes > 0; changes--) {
        uint32_t at = take8(in);
        uint8_t value = take8(in);
        if (at < c.len) {
            c.bytes[at] = value;
        }
    }
    if ((how & 4) != 0) {
        mend(&c, (how & 8) != 0);
    }
    if (what >= 128) {
        c.len -= take8(in) % c.len; /* cut */
    }
    inject(c.bytes, c.len);
}

static void step_raw(struct input *in)
{
    uint32_t len = take16(in) % 2048;
    uint8_t frame[2048] = {0};
    for (uint32_t i = 0; i < len && in->at < in->end; i++) {
        frame[i] = take8(in);
    }
    inject(frame, len);
}

/* --- what the firmware does ------------------------------------------------------------------- */

static struct net_addr whom(uint8_t choice)
{
    static const char *const WHOM[] = {"192.0.2.2",    "2001:db8::2", "192.0.2.3",   "fe80::2",
                                       "198.51.100.1", "2001:db9::1", "192.0.2.255", "::"};
    return addr(WHOM[choice % ARRAY_SIZE(WHOM)]);
}

static void close_path(uint32_t i)
{
    net_path_close(&t.paths[i]);
    t.ready_count[i] = 0;
    t.failed_count[i] = 0;
}

static void step_open(struct input *in)
{
    uint32_t i = take8(in) % PATHS;
    struct net_path_config config = {.dst = whom(take8(in)), .src_port = 50000, .dst_port = PORT};
    close_path(i);
    enum status status = net_path_open(t.nif, &t.paths[i], &config, path_changed);
    if (status != STATUS_OK && t.paths[i].state != NET_PATH_CLOSED) {
        fail("a path half open");
    }
}

static void step_send(struct input *in)
{
    struct net_path *path = &t.paths[take8(in) % PATHS];
    uint32_t len = take16(in) % (NET_BUF_INLINE_BYTES + 1);
    if (path->state != NET_PATH_READY || net_tx_room(t.nif) == 0) {
        return;
    }
    struct net_buf *buf = net_buf_get(t.nif);
    if (buf != NULL) {
        memset(net_path_begin(path, buf), 0x5a, len);
        buf->segs[0].len_bytes += len;
        buf->len_bytes += len;
        net_path_finish(path, buf);
        net_send(t.nif, buf);
    }
}

static void step_ping(struct input *in)
{
    struct net_addr dst = whom(take8(in));
    if (net_ping(t.nif, &dst, take16(in) % 400, 1500, pinged, NULL) == STATUS_OK) {
        t.ping_count++;
    }
}

static void advance(uint64_t duration_ns)
{
    native_clock_advance(duration_ns);
    sched_turn();
    sched_turn();
    wire_drain(t.wire, PEER);
}

static void step(enum step what, struct input *in)
{
    static const uint64_t TIMES_NS[] = {
        1000, NS_PER_MS, 200 * NS_PER_MS, NS_PER_S, 31 * NS_PER_S, 61 * NS_PER_S, 10, 3 * NS_PER_S};
    switch (what) {
    case STEP_RAW:
        step_raw(in);
        break;
    case STEP_CRAFT:
    case STEP_COUNT:
        step_craft(in);
        break;
    case STEP_TIME:
        advance(TIMES_NS[take8(in) % ARRAY_SIZE(TIMES_NS)]);
        break;
    case STEP_OPEN:
        step_open(in);
        break;
    case STEP_CLOSE:
        close_path(take8(in) % PATHS);
        break;
    case STEP_SEND:
        step_send(in);
        break;
    case STEP_PING:
        step_ping(in);
        break;
    case STEP_DEVICE:
        native_clock_advance(NS_PER_MS); /* nothing waits to be read: the order stays */
        wire_set_device(t.wire, take8(in) * 100u, take8(in) * 1000u);
        break;
    case STEP_HOLD:
        t.is_held = !t.is_held;
        wire_hold_reap(t.wire, t.is_held);
        break;
    case STEP_LINK:
        wire_port(t.wire, 0)->link_up = !wire_port(t.wire, 0)->link_up;
        sched_turn();
        break;
    }
}

static void begin(uint8_t choice)
{
    struct net_if_config config = {
        .addr_count = 2,
        .addrs = {{.addr = addr("192.0.2.1"), .prefix_bits = 24},
                  {.addr = addr("2001:db8::1"), .prefix_bits = 64}},
        .gateway4 = addr("192.0.2.254"),
        .gateway6 = addr("fe80::fe"),
        .buf_count = 16,
        .big_buf_count = 2,
        .neighbor_count = NEIGHBORS,
        .vlan = (choice & 7) == 7 ? 0x0e0 : 0,
    };
    memset(&t, 0, sizeof(t));
    native_clock_set(START_NS);
    sched_init(1, SCHED_IDLE_POLL);
    t.wire = wire_open(&(struct wire_config){
        .port_count = 2,
        .seed = choice,
        .tx_ring_count = (choice & 8) != 0 ? 4 : 0, /* fewer than buffers */
    });
    config.port = wire_port(t.wire, 0);
    if (net_if_memory_bytes(&config) > sizeof(memory) ||
        net_if_init(memory, &config, &t.nif) != STATUS_OK ||
        net_udp_bind(t.nif, PORT, check_datagram, NULL) != STATUS_OK) {
        fail("no interface");
    }
}

static void end(void)
{
    for (uint32_t i = 0; i < PATHS; i++) {
        close_path(i);
    }
    wire_hold_reap(t.wire, false);
    advance(2 * NS_PER_S); /* the ping is told of */
    for (uint32_t i = 0; i < 8; i++) {
        advance(NS_PER_MS);
    }
    if (!net_if_is_quiet(t.nif)) {
        fail("something did not come back");
    }
    if (t.ping_told != t.ping_count) {
        fail("a ping without an end");
    }
    wire_close(t.wire);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};

    begin(take8(&in));
    for (uint32_t i = 0; i < STEPS_MAX && in.at < in.end; i++) {
        step(take8(&in) % STEP_COUNT, &in);
    }
    end();
    return 0;
}
