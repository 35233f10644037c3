/*
 * A wire in software: N Ethernet ports joined by a switch that loses, doubles, delays, reorders,
 * damages and marks frames as a seed says. For unit tests and simulations: one thread, under the
 * standing clock (hal/native/native.h), the same seed gives the same run.
 *
 * Each port is a struct eth_port, so that the module under test uses it as any other. A frame goes
 * to the port that has its destination address, else (multicast, unknown) to all others. It goes
 * this way: eth_tx() takes it; it waits for eth_tx_flush(); the device reads the segments
 * read_delay_ns later; the switch hands it over delay_ns + jitter later; the sender may reap it up
 * to reap_delay_ns after it was read, in any order. Nothing happens by itself: each call of a port
 * looks at clock_now_ns(), so a test moves the clock (wire_next_ns() says to where) and turns its
 * reactor. With all delays 0 a frame is there as soon as it was flushed.
 *
 * The device scribbles over the headroom in front of the first segment, as a real one may, and
 * gives received frames in memory that ends with the frame, for sanitizers.
 *
 * Leaves out: bandwidth, links that differ by receiver, threads.
 */
#ifndef TESTS_SIM_WIRE_H
#define TESTS_SIM_WIRE_H

#include <stdbool.h>
#include <stdint.h>
#include "hal/eth.h"

#define WIRE_PORTS     8
#define WIRE_ALL_PORTS UINT32_MAX

/* What happens to what a port sends. Chances are in parts per million, each drawn alone. */
struct wire_faults {
    uint32_t loss_ppm;
    uint32_t duplicate_ppm; /* arrives twice; the second one with a delay of its own */
    uint32_t reorder_ppm;   /* is held back by reorder_ns, while later ones pass */
    uint32_t corrupt_ppm;   /* one bit is turned over, behind the 14 bytes of Ethernet header */
    uint32_t mark_ppm;      /* an ECN-capable IPv4 or IPv6 packet becomes CE, its checksum right */
    uint64_t delay_ns;
    uint64_t jitter_ns; /* 0..jitter_ns more; keeps the order */
    uint64_t reorder_ns;
};

struct wire_config {
    uint64_t seed;
    uint32_t port_count;    /* 1..WIRE_PORTS */
    uint16_t mtu_bytes;     /* 0: 1500 */
    uint32_t tx_ring_count; /* frames taken and not reaped; 0: 256 */
    uint32_t rx_ring_count; /* frames under way to a port or waiting there; 0: 4096 */
    uint64_t read_delay_ns; /* from the flush until the device reads the segments */
    uint64_t reap_delay_ns; /* from then, 0..reap_delay_ns until the frame is reaped */
};

struct wire;

/* Out of the heap. Port i has the address 02:00:00:00:00:<i + 1> and its link up. */
struct wire *wire_open(const struct wire_config *config);
/* Drops what is under way. */
void wire_close(struct wire *wire);

struct eth_port *wire_port(struct wire *wire, uint32_t index);

/* --- faults; each may change at any time, for frames that the device reads from then on ------- */

/* `from`: the sending port, or WIRE_ALL_PORTS. */
void wire_set_faults(struct wire *wire, uint32_t from, const struct wire_faults *faults);
/* As in wire_config; for frames flushed from now on. */
void wire_set_device(struct wire *wire, uint64_t read_delay_ns, uint64_t reap_delay_ns);
/* The reap of all ports stands still (true) until it goes on (false). */
void wire_hold_reap(struct wire *wire, bool is_held);
/* Cut: what the port sends and what arrives for it is lost, silently (link_up stays). */
void wire_cut(struct wire *wire, uint32_t port, bool is_cut);

/* Sees each frame as it was read, before the faults; may change its bytes, not its length. False:
 * it is lost. NULL: none. For captures, and to lose a certain frame. */
typedef bool wire_filter_fn(void *ctx, uint32_t from, uint8_t *frame, uint32_t len_bytes);
void wire_set_filter(struct wire *wire, wire_filter_fn *filter, void *ctx);

/* --- for a peer that is written in the test --------------------------------------------------- */

/* A frame that arrives at port `to` now, without faults or filter. 0..65535 bytes: also what no
 * device would hand up. */
void wire_inject(struct wire *wire, uint32_t to, const void *frame, uint32_t len_bytes);
/* The oldest frame that has arrived at port `at`: its whole length, as much as fits is copied; 0:
 * none. Not while frames of eth_rx() are not done. */
uint32_t wire_take(struct wire *wire, uint32_t at, void *frame, uint32_t max_bytes);
/* Drops all that has arrived at port `at`; returns how many. */
uint32_t wire_drain(struct wire *wire, uint32_t at);

/* --- state ------------------------------------------------------------------------------------ */

/* When the next frame is read, arrives or can be reaped: not before the present; UINT64_MAX:
 * nothing is under way. Frames that wait to be flushed or taken do not count. */
uint64_t wire_next_ns(struct wire *wire);

/* Nothing is under way, no frame waits to be flushed, taken or reaped. */
bool wire_is_quiet(struct wire *wire);

struct wire_counts {
    uint64_t sent;      /* read by the device */
    uint64_t arrived;   /* handed to a port, copies of flooding and doubling counted each */
    uint64_t lost;      /* by loss_ppm */
    uint64_t filtered;  /* by the filter */
    uint64_t cut;       /* by a cut or a link that is down */
    uint64_t overflown; /* the port's ring was full */
    uint64_t duplicated;
    uint64_t reordered;
    uint64_t corrupted;
    uint64_t marked;
    uint64_t armed; /* calls of eth_arm(true) */
};
const struct wire_counts *wire_counts(const struct wire *wire);

/* The wire's own generator, for tests that want a seeded number: 0..limit - 1. */
uint64_t wire_random(struct wire *wire, uint64_t limit);

#endif
