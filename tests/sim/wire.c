#include "tests/sim/wire.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "base/counter.h"
#include "hal/clock.h"

#define TX_RING_DEFAULT 256
#define RX_RING_DEFAULT 4096
#define MTU_DEFAULT     1500
#define PPM             1000000
#define RX_BURST_MAX    64
#define SCRIBBLE        0xa5

/* A frame that was taken: waits for the flush, for being read, for being reaped. */
struct tx {
    struct tx *next;
    void *cookie;
    uint64_t read_ns; /* from the flush on */
    uint64_t reap_ns; /* once it was read */
    uint32_t len_bytes;
    uint32_t seg_count;
    struct mem_seg segs[ETH_TX_SEGS];
};

/* A frame on its way to one port. */
struct frame {
    struct frame *next;
    uint64_t due_ns;
    uint32_t len_bytes;
    ALIGNED(16) uint8_t pad[2]; /* so that what follows the Ethernet header is aligned */
    uint8_t bytes[];
};

struct port {
    struct eth_port eth;
    struct wire *wire;
    uint32_t index;
    struct wire_faults faults;
    bool is_cut;
    uint64_t last_due_ns; /* of what it sent: jitter keeps the order */
    struct tx *queued;    /* taken, not flushed */
    struct tx *flushed;   /* not read */
    struct tx *read;      /* not reaped; the first to be reaped is first */
    uint32_t tx_count;
    struct frame *inbound; /* sorted by due_ns; the head has `taken_count` that are not done */
    uint32_t inbound_count;
    uint32_t taken_count;
};

struct wire {
    struct wire_config config;
    uint64_t random_state;
    bool is_reap_held;
    wire_filter_fn *filter;
    void *filter_ctx;
    struct wire_counts counts;
    struct port ports[WIRE_PORTS];
};

/* --- random: splitmix64 ----------------------------------------------------------------------- */

static uint64_t random_next(struct wire *wire)
{
    uint64_t z = wire->random_state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t wire_random(struct wire *wire, uint64_t limit)
{
    return limit == 0 ? 0 : random_next(wire) % limit;
}

static bool happens(struct wire *wire, uint32_t chance_ppm)
{
    return chance_ppm != 0 && wire_random(wire, PPM) < chance_ppm;
}

/* --- the way of a frame ----------------------------------------------------------------------- */

/* Behind all that are due no later. Those that eth_rx() has handed out stay in front. */
static void inbound_insert(struct port *port, struct frame *frame)
{
    struct frame **at = &port->inbound;
    for (uint32_t i = 0; *at != NULL; i++) {
        if (i >= port->taken_count && (*at)->due_ns > frame->due_ns) {
            break;
        }
        at = &(*at)->next;
    }
    frame->next = *at;
    *at = frame;
    port->inbound_count++;
}

static void arrive(struct port *to, const uint8_t *bytes, uint32_t len_bytes, uint64_t due_ns)
{
    struct wire *wire = to->wire;
    if (to->is_cut || !to->eth.link_up) {
        wire->counts.cut++;
        return;
    }
    if (to->inbound_count - to->taken_count >= wire->config.rx_ring_count) {
        wire->counts.overflown++;
        return;
    }
    struct frame *frame = malloc(offsetof(struct frame, bytes) + len_bytes);
    ASSERT(frame != NULL);
    frame->due_ns = due_ns;
    frame->len_bytes = len_bytes;
    memcpy(frame->bytes, bytes, len_bytes);
    inbound_insert(to, frame);
    wire->counts.arrived++;
}

/* Sets CE in an ECN-capable packet (RFC 3168 5); false: it is none. The IPv4 checksum is brought up
 * to date as RFC 1624 says. */
static bool mark(uint8_t *bytes, uint32_t len_bytes)
{
    uint32_t l3 = len_bytes >= 18 && bytes[12] == 0x81 && bytes[13] == 0x00 ? 18 : 14;
    if (len_bytes < l3 + 20) {
        return false;
    }
    uint8_t *ip = bytes + l3;
    if (ip[0] >> 4 == 6 && (ip[1] & 0x30) != 0) {
        ip[1] |= 0x30;
        return true;
    }
    if (ip[0] >> 4 != 4 || (ip[1] & 3) == 0) {
        return false;
    }
    uint32_t sum = (uint16_t) ~(ip[10] << 8 | ip[11]);
    sum += (uint16_t) ~(ip[0] << 8 | ip[1]);
    ip[1] |= 3;
    sum += (uint32_t)(ip[0] << 8 | ip[1]);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    ip[10] = (uint8_t)(~sum >> 8);
    ip[11] = (uint8_t)~sum;
    return true;
}

static struct port *port_with_addr(struct wire *wire, const uint8_t *addr)
{
    for (uint32_t i = 0; i < wire->config.port_count; i++) {
        if (memcmp(wire->ports[i].eth.addr, addr, ETH_ADDR_BYTES) == 0) {
            return &wire->ports[i];
        }
    }
    return NULL;
}

/* One copy: delayed, and to whom it is for. */
static void forward(struct port *from, const uint8_t *bytes, uint32_t len_bytes, uint64_t now_ns)
{
    struct wire *wire = from->wire;
    const struct wire_faults *faults = &from->faults;
    uint64_t due_ns = now_ns + faults->delay_ns;

    if (faults->jitter_ns != 0) {
        due_ns += wire_random(wire, faults->jitter_ns + 1);
    }
    due_ns = due_ns > from->last_due_ns ? due_ns : from->last_due_ns;
    from->last_due_ns = due_ns;
    if (happens(wire, faults->reorder_ppm)) {
        wire->counts.reordered++;
        due_ns += faults->reorder_ns;
    }
    struct port *to = port_with_addr(wire, bytes);
    if (to == from) {
        return; /* a switch does not send back */
    }
    if (to != NULL) {
        arrive(to, bytes, len_bytes, due_ns);
        return;
    }
    for (uint32_t i = 0; i < wire->config.port_count; i++) {
        if (&wire->ports[i] != from) {
            arrive(&wire->ports[i], bytes, len_bytes, due_ns);
        }
    }
}

static void transmit(struct port *from, uint8_t *bytes, uint32_t len_bytes, uint64_t now_ns)
{
    struct wire *wire = from->wire;
    const struct wire_faults *faults = &from->faults;

    wire->counts.sent++;
    if (from->is_cut || !from->eth.link_up) {
        wire->counts.cut++;
        return;
    }
    if (wire->filter != NULL && !wire->filter(wire->filter_ctx, from->index, bytes, len_bytes)) {
        wire->counts.filtered++;
        return;
    }
    if (happens(wire, faults->loss_ppm)) {
        wire->counts.lost++;
        return;
    }
    if (happens(wire, faults->mark_ppm) && mark(bytes, len_bytes)) {
        wire->counts.marked++;
    }
    if (len_bytes > 14 && happens(wire, faults->corrupt_ppm)) {
        uint64_t bit = wire_random(wire, (uint64_t)(len_bytes - 14) * 8);
        bytes[14 + bit / 8] ^= (uint8_t)(1 << bit % 8);
        wire->counts.corrupted++;
    }
    forward(from, bytes, len_bytes, now_ns);
    if (happens(wire, faults->duplicate_ppm)) {
        wire->counts.duplicated++;
        forward(from, bytes, len_bytes, now_ns);
    }
}

/* --- the device ------------------------------------------------------------------------------- */

static void read_frame(struct port *port, struct tx *tx)
{
    uint8_t *bytes = malloc(tx->len_bytes);
    ASSERT(bytes != NULL);
    uint32_t at = 0;
    for (uint32_t i = 0; i < tx->seg_count; i++) {
        memcpy(bytes + at, mem_seg_ptr(&tx->segs[i]), tx->segs[i].len_bytes);
        at += tx->segs[i].len_bytes;
    }
    transmit(port, bytes, tx->len_bytes, tx->read_ns);
    free(bytes);

    tx->reap_ns = tx->read_ns + wire_random(port->wire, port->wire->config.reap_delay_ns + 1);
    struct tx **place = &port->read;
    while (*place != NULL && (*place)->reap_ns <= tx->reap_ns) {
        place = &(*place)->next;
    }
    tx->next = *place;
    *place = tx;
}

/* The next frame to be read by any device: the earliest, of equals that of the lowest port. */
static struct port *next_to_read(struct wire *wire)
{
    struct port *next = NULL;
    for (uint32_t i = 0; i < wire->config.port_count; i++) {
        struct port *port = &wire->ports[i];
        if (port->flushed != NULL &&
            (next == NULL || port->flushed->read_ns < next->flushed->read_ns)) {
            next = port;
        }
    }
    return next;
}

/* Does what is due. */
static uint64_t run(struct wire *wire)
{
    uint64_t now_ns = clock_now_ns();
    struct port *port;

    while ((port = next_to_read(wire)) != NULL && port->flushed->read_ns <= now_ns) {
        struct tx *tx = port->flushed;
        port->flushed = tx->next;
        read_frame(port, tx);
    }
    return now_ns;
}

/* --- eth_ops ---------------------------------------------------------------------------------- */

static struct port *port_of(struct eth_port *eth)
{
    return CONTAINER_OF(eth, struct port, eth);
}

static void append(struct tx **list, struct tx *tx)
{
    while (*list != NULL) {
        list = &(*list)->next;
    }
    *list = tx;
}

static void room_update(struct port *port)
{
    port->eth.tx_room_count = port->wire->config.tx_ring_count - port->tx_count;
}

static bool is_valid(const struct port *port, const struct eth_tx *frame)
{
    uint64_t sum = 0;
    if (frame->seg_count == 0 || frame->seg_count > ETH_TX_SEGS) {
        return false;
    }
    for (uint32_t i = 0; i < frame->seg_count; i++) {
        sum += frame->segs[i].len_bytes;
    }
    return frame->segs[0].len_bytes >= 14 && sum == frame->len_bytes &&
           sum <= (uint64_t)port->eth.mtu_bytes + 18 && frame->cookie != NULL;
}

static enum status port_tx(struct eth_port *eth, const struct eth_tx *frame)
{
    struct port *port = port_of(eth);

    run(port->wire);
    if (!is_valid(port, frame)) {
        return STATUS_INVALID;
    }
    if (port->tx_count == port->wire->config.tx_ring_count) {
        counter_add(&eth->stats.tx_full_count, 1);
        return STATUS_AGAIN;
    }
    struct tx *tx = calloc(1, sizeof(*tx));
    ASSERT(tx != NULL);
    tx->cookie = frame->cookie;
    tx->len_bytes = frame->len_bytes;
    tx->seg_count = frame->seg_count;
    memcpy(tx->segs, frame->segs, frame->seg_count * sizeof(tx->segs[0]));
    memset((uint8_t *)mem_seg_ptr(&tx->segs[0]) - ETH_TX_HEADROOM_BYTES, SCRIBBLE,
           ETH_TX_HEADROOM_BYTES);
    append(&port->queued, tx);
    port->tx_count++;
    room_update(port);
    counter_add(&eth->stats.tx_count, 1);
    counter_add(&eth->stats.tx_bytes, frame->len_bytes);
    return STATUS_OK;
}

static void port_tx_flush(struct eth_port *eth)
{
    struct port *port = port_of(eth);
    uint64_t now_ns = run(port->wire);

    counter_add(&eth->stats.tx_kick_count, 1);
    for (struct tx *tx = port->queued; tx != NULL; tx = tx->next) {
        tx->read_ns = now_ns + port->wire->config.read_delay_ns;
    }
    append(&port->flushed, port->queued);
    port->queued = NULL;
    run(port->wire);
}

static uint32_t port_tx_reap(struct eth_port *eth, void **cookies, uint32_t max)
{
    struct port *port = port_of(eth);
    uint64_t now_ns = run(port->wire);
    uint32_t count = 0;

    while (!port->wire->is_reap_held && count < max && port->read != NULL &&
           port->read->reap_ns <= now_ns) {
        struct tx *tx = port->read;
        port->read = tx->next;
        cookies[count] = tx->cookie;
        free(tx);
        port->tx_count--;
        count++;
    }
    room_update(port);
    return count;
}

static uint32_t port_rx(struct eth_port *eth, struct eth_rx *frames, uint32_t max)
{
    struct port *port = port_of(eth);
    uint64_t now_ns = run(port->wire);

    ASSERT(port->taken_count == 0);
    max = max < RX_BURST_MAX ? max : RX_BURST_MAX;
    uint32_t count = 0;
    for (struct frame *frame = port->inbound;
         count < max && frame != NULL && frame->due_ns <= now_ns; frame = frame->next) {
        frames[count] = (struct eth_rx){.data = frame->bytes, .len_bytes = frame->len_bytes};
        counter_add(&eth->stats.rx_count, 1);
        counter_add(&eth->stats.rx_bytes, frame->len_bytes);
        count++;
    }
    port->taken_count = count;
    return count;
}

static void drop_first(struct port *port)
{
    struct frame *frame = port->inbound;
    port->inbound = frame->next;
    port->inbound_count--;
    free(frame);
}

static void port_rx_done(struct eth_port *eth, uint32_t count)
{
    struct port *port = port_of(eth);

    ASSERT(count == port->taken_count);
    for (uint32_t i = 0; i < count; i++) {
        drop_first(port);
    }
    port->taken_count = 0;
}

static bool port_arm(struct eth_port *eth, bool armed)
{
    struct port *port = port_of(eth);
    uint64_t now_ns = run(port->wire);

    if (armed) {
        port->wire->counts.armed++;
    }
    return armed && port->inbound != NULL && port->inbound->due_ns <= now_ns;
}

static const struct eth_ops OPS = {
    .tx = port_tx,
    .tx_flush = port_tx_flush,
    .tx_reap = port_tx_reap,
    .rx = port_rx,
    .rx_done = port_rx_done,
    .arm = port_arm,
};

/* --- the wire --------------------------------------------------------------------------------- */

struct wire *wire_open(const struct wire_config *config)
{
    static const char *const NAMES[WIRE_PORTS] = {"wire0", "wire1", "wire2", "wire3",
                                                  "wire4", "wire5", "wire6", "wire7"};
    struct wire *wire = calloc(1, sizeof(*wire));

    ASSERT(wire != NULL && config->port_count >= 1 && config->port_count <= WIRE_PORTS);
    wire->config = *config;
    wire->random_state = config->seed;
    if (config->tx_ring_count == 0) {
        wire->config.tx_ring_count = TX_RING_DEFAULT;
    }
    if (config->rx_ring_count == 0) {
        wire->config.rx_ring_count = RX_RING_DEFAULT;
    }
    for (uint32_t i = 0; i < config->port_count; i++) {
        struct port *port = &wire->ports[i];
        port->wire = wire;
        port->index = i;
        port->eth.ops = &OPS;
        port->eth.name = NAMES[i];
        port->eth.addr[0] = 0x02;
        port->eth.addr[5] = (uint8_t)(i + 1);
        port->eth.mtu_bytes = config->mtu_bytes == 0 ? MTU_DEFAULT : config->mtu_bytes;
        port->eth.link_up = true;
        room_update(port);
    }
    return wire;
}

static void free_all(struct tx *tx)
{
    while (tx != NULL) {
        struct tx *next = tx->next;
        free(tx);
        tx = next;
    }
}

void wire_close(struct wire *wire)
{
    for (uint32_t i = 0; i < wire->config.port_count; i++) {
        struct port *port = &wire->ports[i];
        free_all(port->queued);
        free_all(port->flushed);
        free_all(port->read);
        while (port->inbound != NULL) {
            drop_first(port);
        }
    }
    free(wire);
}

static struct port *port_at(struct wire *wire, uint32_t index)
{
    ASSERT(index < wire->config.port_count);
    return &wire->ports[index];
}

struct eth_port *wire_port(struct wire *wire, uint32_t index)
{
    return &port_at(wire, index)->eth;
}

void wire_set_faults(struct wire *wire, uint32_t from, const struct wire_faults *faults)
{
    run(wire);
    for (uint32_t i = 0; i < wire->config.port_count; i++) {
        if (from == WIRE_ALL_PORTS || from == i) {
            wire->ports[i].faults = *faults;
        }
    }
}

void wire_set_device(struct wire *wire, uint64_t read_delay_ns, uint64_t reap_delay_ns)
{
    run(wire);
    /* The frames of a port are read in order, also when the delay becomes shorter. */
    for (uint32_t i = 0; i < wire->config.port_count; i++) {
        ASSERT(wire->ports[i].flushed == NULL || read_delay_ns >= wire->config.read_delay_ns);
    }
    wire->config.read_delay_ns = read_delay_ns;
    wire->config.reap_delay_ns = reap_delay_ns;
}

void wire_hold_reap(struct wire *wire, bool is_held)
{
    wire->is_reap_held = is_held;
}

void wire_cut(struct wire *wire, uint32_t port, bool is_cut)
{
    run(wire);
    port_at(wire, port)->is_cut = is_cut;
}

void wire_set_filter(struct wire *wire, wire_filter_fn *filter, void *ctx)
{
    run(wire);
    wire->filter = filter;
    wire->filter_ctx = ctx;
}

void wire_inject(struct wire *wire, uint32_t to, const void *frame, uint32_t len_bytes)
{
    uint64_t now_ns = run(wire);
    arrive(port_at(wire, to), frame, len_bytes, now_ns);
}

uint32_t wire_take(struct wire *wire, uint32_t at, void *frame, uint32_t max_bytes)
{
    struct eth_port *eth = wire_port(wire, at);
    struct eth_rx rx;

    if (port_rx(eth, &rx, 1) == 0) {
        return 0;
    }
    memcpy(frame, rx.data, rx.len_bytes < max_bytes ? rx.len_bytes : max_bytes);
    port_rx_done(eth, 1);
    return rx.len_bytes;
}

uint32_t wire_drain(struct wire *wire, uint32_t at)
{
    struct eth_port *eth = wire_port(wire, at);
    struct eth_rx rx;
    uint32_t count = 0;

    while (port_rx(eth, &rx, 1) != 0) {
        port_rx_done(eth, 1);
        count++;
    }
    return count;
}

static uint64_t earliest(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t wire_next_ns(struct wire *wire)
{
    uint64_t now_ns = run(wire);
    uint64_t next_ns = UINT64_MAX;

    for (uint32_t i = 0; i < wire->config.port_count; i++) {
        const struct port *port = &wire->ports[i];
        if (port->flushed != NULL) {
            next_ns = earliest(next_ns, port->flushed->read_ns);
        }
        if (port->read != NULL && !wire->is_reap_held) {
            next_ns = earliest(next_ns, port->read->reap_ns);
        }
        for (const struct frame *frame = port->inbound; frame != NULL; frame = frame->next) {
            if (frame->due_ns > now_ns) {
                next_ns = earliest(next_ns, frame->due_ns);
                break;
            }
        }
    }
    return next_ns == UINT64_MAX || next_ns > now_ns ? next_ns : now_ns;
}

bool wire_is_quiet(struct wire *wire)
{
    run(wire);
    for (uint32_t i = 0; i < wire->config.port_count; i++) {
        if (wire->ports[i].tx_count != 0 || wire->ports[i].inbound != NULL) {
            return false;
        }
    }
    return true;
}

const struct wire_counts *wire_counts(const struct wire *wire)
{
    return &wire->counts;
}
