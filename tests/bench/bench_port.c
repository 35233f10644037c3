#include "tests/bench/bench_port.h"

#include <string.h>
#include "base/assert.h"
#include "base/bits.h"
#include "tests/bench/bench_counter.h"

uint64_t bench_port_excluded;
uint64_t bench_port_overhead;

static void exclude(uint64_t start)
{
    bench_port_excluded += bench_count() - start + bench_port_overhead;
}

static enum status port_tx(struct eth_port *eth, const struct eth_tx *frame)
{
    uint64_t start = bench_count();
    struct bench_port *port = (struct bench_port *)(void *)eth;
    struct bench_port *peer = port->peer;
    struct bench_rx_slot *slot = &peer->slots[peer->head % peer->ring_frames];

    ASSERT(peer->head - peer->tail < peer->ring_frames && port->cookie_count < port->ring_frames);
    slot->len_bytes = 0;
    for (uint32_t i = 0; i < frame->seg_count; i++) {
        memcpy(slot->bytes + 2 + slot->len_bytes, mem_seg_ptr(&frame->segs[i]),
               frame->segs[i].len_bytes);
        slot->len_bytes += frame->segs[i].len_bytes;
    }
    peer->head++;
    port->cookies[port->cookie_count++] = frame->cookie;
    exclude(start);
    return STATUS_OK;
}

static void port_flush(struct eth_port *eth)
{
    (void)eth;
}

static uint32_t port_reap(struct eth_port *eth, void **cookies, uint32_t max)
{
    uint64_t start = bench_count();
    struct bench_port *port = (struct bench_port *)(void *)eth;
    uint32_t count = min_u32(max, port->cookie_count);

    memcpy(cookies, port->cookies, count * sizeof(*cookies));
    port->cookie_count -= count;
    memmove(port->cookies, port->cookies + count, port->cookie_count * sizeof(*cookies));
    exclude(start);
    return count;
}

static uint32_t port_rx(struct eth_port *eth, struct eth_rx *frames, uint32_t max)
{
    uint64_t start = bench_count();
    struct bench_port *port = (struct bench_port *)(void *)eth;
    uint32_t count = min_u32(max, port->head - port->tail);

    for (uint32_t i = 0; i < count; i++) {
        struct bench_rx_slot *slot = &port->slots[(port->tail + i) % port->ring_frames];
        frames[i] = (struct eth_rx){.data = slot->bytes + 2, .len_bytes = slot->len_bytes};
    }
    exclude(start);
    return count;
}

static void port_rx_done(struct eth_port *eth, uint32_t count)
{
    ((struct bench_port *)(void *)eth)->tail += count;
}

static bool port_arm(struct eth_port *eth, bool armed)
{
    (void)eth;
    (void)armed;
    return false;
}

static const struct eth_ops ops = {.tx = port_tx,
                                   .tx_flush = port_flush,
                                   .tx_reap = port_reap,
                                   .rx = port_rx,
                                   .rx_done = port_rx_done,
                                   .arm = port_arm};

void bench_port_open(struct bench_port *port, uint32_t index)
{
    port->eth = (struct eth_port){.ops = &ops,
                                  .name = "loop",
                                  .addr = {2, 0, 0, 0, 0, (uint8_t)(index + 1)},
                                  .mtu_bytes = BENCH_MTU_BYTES,
                                  .tx_room_count = port->ring_frames / 2,
                                  .link_up = true};
}
