/* The wire itself: what happens to frames between two ports. The ports: wire_port.c. */
#include "tests/sim/wire_priv.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "hal/clock.h"

#define TX_RING_DEFAULT 256
#define RX_RING_DEFAULT 4096
#define PPM             1000000

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

uint64_t wire_run(struct wire *wire)
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

/* --- the wire --------------------------------------------------------------------------------- */

struct wire *wire_open(const struct wire_config *config)
{
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
        wire_port_open(wire, i);
    }
    return wire;
}

void wire_close(struct wire *wire)
{
    for (uint32_t i = 0; i < wire->config.port_count; i++) {
        wire_port_close(&wire->ports[i]);
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
    wire_run(wire);
    for (uint32_t i = 0; i < wire->config.port_count; i++) {
        if (from == WIRE_ALL_PORTS || from == i) {
            wire->ports[i].faults = *faults;
        }
    }
}

void wire_set_device(struct wire *wire, uint64_t read_delay_ns, uint64_t reap_delay_ns)
{
    wire_run(wire);
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
    wire_run(wire);
    port_at(wire, port)->is_cut = is_cut;
}

void wire_set_filter(struct wire *wire, wire_filter_fn *filter, void *ctx)
{
    wire_run(wire);
    wire->filter = filter;
    wire->filter_ctx = ctx;
}

void wire_inject(struct wire *wire, uint32_t to, const void *frame, uint32_t len_bytes)
{
    uint64_t now_ns = wire_run(wire);
    arrive(port_at(wire, to), frame, len_bytes, now_ns);
}

uint32_t wire_take(struct wire *wire, uint32_t at, void *frame, uint32_t max_bytes)
{
    struct eth_port *eth = wire_port(wire, at);
    struct eth_rx rx;

    if (eth_rx(eth, &rx, 1) == 0) {
        return 0;
    }
    memcpy(frame, rx.data, rx.len_bytes < max_bytes ? rx.len_bytes : max_bytes);
    eth_rx_done(eth, 1);
    return rx.len_bytes;
}

uint32_t wire_drain(struct wire *wire, uint32_t at)
{
    struct eth_port *eth = wire_port(wire, at);
    struct eth_rx rx;
    uint32_t count = 0;

    while (eth_rx(eth, &rx, 1) != 0) {
        eth_rx_done(eth, 1);
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
    uint64_t now_ns = wire_run(wire);
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
    wire_run(wire);
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
