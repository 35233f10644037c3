/*
 * Two CMs joined by a wire that delays, loses and repeats, with consumers that connect, accept,
 * reject, disconnect and destroy as a seed says. Everything that must hold of two sides of a
 * connection is checked as it goes.
 */
#ifndef TESTS_UNIT_RDMA_CM_PAIR_H
#define TESTS_UNIT_RDMA_CM_PAIR_H

#include "tests/unit/rdma_cm/rig.h"

#define PAIR_ENDS    256 /* of both sides together */
#define PAIR_FLIGHTS 1024

/* One side's view of a connection. */
struct pair_end {
    struct pair *pair;
    struct rig *rig;
    struct rdma_cm_id *id; /* NULL: free */
    struct fake_qp qp;
    bool is_active;
    bool was_resolved;
    bool was_established;
    bool is_over; /* REJECTED, UNREACHABLE or DISCONNECTED came */
};

struct pair {
    struct rig sides[2];
    struct rdma_cm_id *listeners[2];
    struct pair_end ends[PAIR_ENDS];
    struct {
        struct cm_mad mad;
        struct net_addr src;
        uint8_t to; /* side */
        bool is_full;
        uint64_t due_ns;
    } flights[PAIR_FLIGHTS];
    uint32_t seed;
    uint32_t next_qpn;
    /* Of a thousand: */
    uint32_t loss;
    uint32_t duplicates;
    uint32_t rejects;
    uint32_t surprises; /* destroys where one would not expect it */
    uint64_t delay_max_ns;
    /* What came about. */
    uint32_t established[2]; /* active, passive */
    uint32_t rejected;
    uint32_t unreachable;
    uint32_t disconnected;
};

void pair_init(struct pair *pair, uint32_t seed);
/* Destroys what lives, lets everything end, checks for leaks. */
void pair_end(struct pair *pair);
uint32_t pair_random(struct pair *pair, uint32_t below);
/* One side asks the other for a connection. */
struct pair_end *pair_connect(struct pair *pair, uint32_t side);
void pair_destroy(struct pair_end *end);
void pair_pass(struct pair *pair, uint64_t duration_ns);

#endif
