/*
 * An RDMA device for unit tests, all in memory: its queue pairs are joined by its own CM, each with
 * another one of the same device. Work requests are done in later turns, in order, with the checks
 * of keys, rights, ranges and states that a responder makes (IBA 9.7.4.1, 10.6.3). There are no
 * packets: nothing is lost, nothing is retried; a SEND waits while the peer has no receive.
 */
#ifndef TESTS_UNIT_DIAG_FAKE_RDMA_H
#define TESTS_UNIT_DIAG_FAKE_RDMA_H

#include <stdbool.h>
#include <stdint.h>
#include "rdma/cm.h"
#include "rdma/verbs.h"

/* Nobody answers there. */
#define FAKE_UNREACHABLE fake_rdma_addr(99)
/* 192.0.2.n */
struct net_addr fake_rdma_addr(uint8_t n);

struct fake_rdma_faults {
    uint32_t post_again;    /* so many of the next rdma_post_send() say AGAIN */
    uint32_t destroy_again; /* so many of the next rdma_qp_destroy() say AGAIN */
    uint32_t dereg_again;
    uint32_t fail_at; /* the n-th call that makes an object says NO_SPACE; 0: none */
};
extern struct fake_rdma_faults fake_rdma_faults;

/* A fresh device; its poller is added to the calling core (once). Addresses of clients are
 * 192.0.2.1; see fake_rdma_source. */
struct rdma_device *fake_rdma_start(void);

/* Whose address clients have from now on: fake_rdma_addr() of it. */
extern uint8_t fake_rdma_source;

/* Every object is given back but `listeners` ids. */
bool fake_rdma_is_quiet(uint32_t listeners);

/* How many QPs there are. */
uint32_t fake_rdma_qp_count(void);

#endif
