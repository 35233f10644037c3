/*
 * What the wire's two halves share: the frames under way and the devices (wire.c), the ports as
 * struct eth_port (wire_port.c).
 */
#ifndef TESTS_SIM_WIRE_PRIV_H
#define TESTS_SIM_WIRE_PRIV_H

#include "tests/sim/wire.h"

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

/* Does what is due. Returns the present. */
uint64_t wire_run(struct wire *wire);

void wire_port_open(struct wire *wire, uint32_t index);
/* Drops what it has. */
void wire_port_close(struct port *port);

#endif
