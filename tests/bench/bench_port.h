/*
 * Two Ethernet ports in memory, joined: what one sends the other receives. What they do (copying
 * frames, which a wire does) is summed in bench_port_excluded, so that it can be taken out of what
 * is counted around it.
 */
#ifndef BENCH_BENCH_PORT_H
#define BENCH_BENCH_PORT_H

#include <stdint.h>
#include "base/compiler.h"
#include "hal/eth.h"

#define BENCH_MTU_BYTES   4200u
#define BENCH_FRAME_BYTES 4352u

struct bench_rx_slot {
    uint32_t len_bytes;
    ALIGNED(8) uint8_t bytes[2 + BENCH_FRAME_BYTES]; /* data + 14 is 4-byte aligned */
};

struct bench_port {
    struct eth_port eth; /* first */
    struct bench_port *peer;
    struct bench_rx_slot *slots; /* ring_frames */
    void **cookies;              /* likewise */
    uint32_t ring_frames;
    uint32_t head;
    uint32_t tail;
    uint32_t cookie_count;
};

/* Instructions of the ports' own, since it was set to 0. */
extern uint64_t bench_port_excluded;
/* What it costs to look at the counter twice. */
extern uint64_t bench_port_overhead;

/* Fields but eth are the caller's. At most ring_frames / 2 frames are under way from it. */
void bench_port_open(struct bench_port *port, uint32_t index);

#endif
