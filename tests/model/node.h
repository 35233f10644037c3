/*
 * A node for tests: an IP interface and an RDMA device in software, with its CM, on a port of the
 * wire (tests/sim/wire.h). Node i has the address 192.0.2.<i + 1>, or fd00::<i + 1>. Memory is the
 * heap's. And what every test of nodes needs: memory, and turns until nothing moves.
 */
#ifndef TESTS_MODEL_NODE_H
#define TESTS_MODEL_NODE_H

#include <stdbool.h>
#include <stdint.h>
#include "base/rng.h"
#include "net/net.h"
#include "rdma/types.h"
#include "tests/sim/wire.h"

/* Objects of the device; zeroes take the defaults. */
struct node_counts {
    uint32_t qps;    /* 64 */
    uint32_t cqs;    /* 64 */
    uint32_t srqs;   /* 4 */
    uint32_t pds;    /* 16 */
    uint32_t mrs;    /* 64 */
    uint32_t keys;   /* 1024 */
    uint32_t cm_ids; /* 128 */
    uint32_t bufs;   /* frames under way: 512 */
    bool ipv6;
};

struct model_node {
    struct net_if *nif;
    struct rdma_device *device;
    struct net_addr addr;
    struct rng rng;
    void *nif_memory;
    void *device_memory;
    uint64_t memory_bytes; /* of both */
};

/* `seed`: of the node's random numbers. `counts` may be NULL. Adds the pollers to the calling core.
 */
void model_node_open(struct model_node *node, struct wire *wire, uint32_t index, uint32_t seed,
                     const struct node_counts *counts);
/* The pollers must not run again: sched_init() first. */
void model_node_close(struct model_node *node);

/* Zeroed, of a page's alignment, not a byte more than asked for: ASan sees the next one. For
 * free(). */
void *model_memory(uint64_t bytes);

/* Turns the calling core's reactor until nothing moves. */
void model_turn(void);

#endif
