/* A port of the wire as a module under test has it: eth_ops over the frames under way. */
#include "tests/sim/wire_priv.h"

#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "base/counter.h"

#define MTU_DEFAULT  1500
#define RX_BURST_MAX 64
#define SCRIBBLE     0xa5

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

    wire_run(port->wire);
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
    uint64_t now_ns = wire_run(port->wire);

    counter_add(&eth->stats.tx_kick_count, 1);
    for (struct tx *tx = port->queued; tx != NULL; tx = tx->next) {
        tx->read_ns = now_ns + port->wire->config.read_delay_ns;
    }
    append(&port->flushed, port->queued);
    port->queued = NULL;
    wire_run(port->wire);
}

static uint32_t port_tx_reap(struct eth_port *eth, void **cookies, uint32_t max)
{
    struct port *port = port_of(eth);
    uint64_t now_ns = wire_run(port->wire);
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
    uint64_t now_ns = wire_run(port->wire);

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
    uint64_t now_ns = wire_run(port->wire);

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

/* --- made and freed --------------------------------------------------------------------------- */

void wire_port_open(struct wire *wire, uint32_t index)
{
    static const char *const NAMES[WIRE_PORTS] = {"wire0", "wire1", "wire2", "wire3",
                                                  "wire4", "wire5", "wire6", "wire7"};
    struct port *port = &wire->ports[index];
    port->wire = wire;
    port->index = index;
    port->eth.ops = &OPS;
    port->eth.name = NAMES[index];
    port->eth.addr[0] = 0x02;
    port->eth.addr[5] = (uint8_t)(index + 1);
    port->eth.mtu_bytes = wire->config.mtu_bytes == 0 ? MTU_DEFAULT : wire->config.mtu_bytes;
    port->eth.link_up = true;
    room_update(port);
}

static void free_all(struct tx *tx)
{
    while (tx != NULL) {
        struct tx *next = tx->next;
        free(tx);
        tx = next;
    }
}

void wire_port_close(struct port *port)
{
    free_all(port->queued);
    free_all(port->flushed);
    free_all(port->read);
    while (port->inbound != NULL) {
        drop_first(port);
    }
}
