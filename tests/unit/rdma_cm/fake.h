/*
 * A device of the verbs made for CM's tests: QP1 hands out what is sent and takes what a test
 * injects, RC queue pairs write down how they are moved. No packets, no engine. Used by the fuzzer
 * too: asserts by ASSERT.
 */
#ifndef TESTS_UNIT_RDMA_CM_FAKE_H
#define TESTS_UNIT_RDMA_CM_FAKE_H

#include "rdma/cm_priv.h"

#define FAKE_AHS   96
#define FAKE_CQES  512
#define FAKE_RECVS 128
#define FAKE_SENT  512
#define FAKE_MOVES 16

struct fake;

struct fake_ah {
    struct rdma_ah ah;
    struct rdma_av av;
    bool in_use;
};

/* An RC queue pair (or QP1). */
struct fake_qp {
    struct rdma_qp qp;
    uint32_t move_count;
    struct {
        struct rdma_qp_attr attr;
        uint32_t mask;
    } moves[FAKE_MOVES];
};

struct fake_sent {
    struct cm_mad mad;
    struct net_addr to;
};

/* What becomes of a datagram on the way out. */
typedef void fake_wire_fn(struct fake *fake, const struct fake_sent *sent);

struct fake {
    struct rdma_device device; /* first */
    struct net_if_addr addrs[NET_IF_ADDRS];
    uint32_t addr_count;
    uint32_t random; /* next of the generator */

    struct rdma_pd pd;
    struct rdma_mr mr;
    struct rdma_cq cq;
    struct fake_qp qp1;
    struct fake_ah ahs[FAKE_AHS];
    uint32_t ah_count;         /* in use */
    uint8_t ah_state;          /* of new ones; READY at start */
    enum status ah_status;     /* what ah_create says, when not OK */
    enum status modify_status; /* what qp_modify of RC says for this state, when not OK */
    uint8_t modify_state;
    bool holds_sends;       /* completions of sends wait for fake_release() */
    uint8_t send_wc_status; /* with which they complete */
    uint32_t held_count;
    uint64_t held[FAKE_CQES];

    struct rdma_wc cqes[FAKE_CQES];
    uint32_t cq_head;
    uint32_t cq_tail;
    struct {
        uint64_t wr_id;
        uint8_t *memory;
    } recvs[FAKE_RECVS];
    uint32_t recv_head;
    uint32_t recv_tail;
    uint32_t no_recv_count; /* injected with no receive posted */

    struct fake_sent sent[FAKE_SENT]; /* since fake_clear() */
    uint32_t sent_count;
    fake_wire_fn *wire; /* NULL: nowhere */
    void *wire_ctx;
};

/* 192.0.2.`last` with a link-local address as its MAC 52:54:00:00:00:`last` would make it, and
 * 2001:db8::`last`. */
void fake_init(struct fake *fake, uint8_t last);
/* For config.addr and config.random. */
const struct net_if_addr *fake_addr(const struct net_if *nif, uint32_t index);
uint32_t fake_random(struct rng *rng);
/* A configuration that names them. */
struct rdma_cm_soft_config fake_config(struct fake *fake, uint32_t id_count);

void fake_qp_init(struct fake *fake, struct fake_qp *qp, uint32_t num);
void fake_clear(struct fake *fake);
/* A datagram of `src` arrives for `dst`. */
void fake_inject(struct fake *fake, const struct net_addr *src, const struct net_addr *dst,
                 const void *mad, uint32_t len_bytes);
/* Moves every handle of the device to this state and tells CM. */
void fake_ah_move(struct fake *fake, uint8_t state);
/* Completes the sends that were held back. */
void fake_release(struct fake *fake);

struct net_addr fake_ipv4(uint8_t last);

#endif
