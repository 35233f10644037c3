/*
 * Two nodes, each an interface and a device in software with its CM, joined by a wire; both on one
 * core, under the standing clock.
 */
#ifndef TESTS_UNIT_RDMA_PAIR_PAIR_H
#define TESTS_UNIT_RDMA_PAIR_PAIR_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "hal/clock.h"
#include "hal/native/native.h"
#include "rdma/cm.h"
#include "rdma/soft.h"
#include "rdma/verbs.h"
#include "tests/model/node.h"

#define PAIR_DATA_BYTES (1u << 20)
#define PAIR_WRS        64

struct node {
    struct model_node model;

    /* Made by node_qp(). */
    struct rdma_pd *pd;
    struct rdma_cq *cq;
    struct rdma_mr *mr;
    struct rdma_qp *qp;
    void *cq_memory;
    void *qp_memory;
    uint8_t *data; /* PAIR_DATA_BYTES, registered with all rights */

    /* What the CM told last. */
    struct rdma_cm_id *listener;
    struct rdma_cm_id *id;
    int event; /* enum rdma_cm_event_type, or -1 */
    uint32_t reason;
    uint8_t private_data[256];
    uint32_t private_bytes;
    uint32_t disconnects;
    bool refuse; /* the next request */
};

struct pair {
    struct wire *wire;
    struct node nodes[2];
};
extern struct pair pair;

void pair_open(uint16_t mtu_bytes, bool ipv6);
/* Everything must have come back. */
void pair_close(void);
int pair_setup(void **state);    /* MTU 4200, IPv4 */
int pair_teardown(void **state); /* pair_close() */

void pair_advance(uint64_t duration_ns);

/* PD, CQ, region and a QP in RESET. */
void node_qp(struct node *node);
void node_qp_free(struct node *node);
void node_listen(struct node *node, uint16_t port);
/* Node 0 connects to node 1, which listens on `port`. */
void pair_connect(uint16_t port);
void pair_disconnect(void);
/* The next completion at `node`; fails when there is none within `patience_ns`. */
struct rdma_wc node_wc(struct node *node, uint64_t patience_ns);

void node_recv(struct node *node, uint64_t wr_id, uint32_t offset, uint32_t len_bytes);
void node_send(struct node *node, const struct rdma_send_wr *wr, uint32_t offset,
               uint32_t len_bytes);

#endif
