/*
 * Two connected queue pairs of one device of the libibverbs provider, for ibv_check.c: the packets
 * go round through the network interface below (rxe loops them back).
 */
#ifndef NATIVE_IBV_PAIR_H
#define NATIVE_IBV_PAIR_H

#include <stdbool.h>
#include <stdint.h>
#include "hal/native/ibv/rdma_ibv.h"
#include "rdma/cm.h"
#include "rdma/verbs.h"

#define PAIR_BUFFER_BYTES (1u << 20)
#define PAIR_WCS          256
#define PAIR_WRS          64
#define PAIR_TIMEOUT_MS   20000

/* One end, with a domain, a CQ and memory of its own. */
struct side {
    struct rdma_pd *pd;
    struct rdma_cq *cq;
    struct rdma_srq *srq;
    struct rdma_qp *qp;
    struct rdma_mr *mr; /* all of buffer, all rights */
    struct rdma_cm_id *id;
    uint8_t *buffer;
    void *cq_memory;
    void *srq_memory;
    void *qp_memory;
    /* Completions taken from the CQ and not yet by the test. */
    struct rdma_wc wcs[PAIR_WCS];
    uint32_t wc_count;
    /* What CM said. */
    bool resolved;
    bool unreachable;
    bool rejected;
    bool requested;
    bool established;
    bool disconnected;
    bool timewait_exit;
    uint32_t reason;
    uint8_t private_data[256];
    uint32_t private_bytes;
    uint8_t responder_resources;
    uint8_t initiator_depth;
};

struct pair_options {
    bool srq; /* the second end receives from a shared queue */
    uint32_t srq_limit;
    bool refuse;       /* the second end rejects */
    uint8_t access;    /* remote rights; 0: all */
    uint8_t reads;     /* READs under way each way; 0: 4 */
    uint32_t wr_count; /* of each queue; 0: PAIR_WRS */
};

struct pair {
    struct rdma_device *device;
    struct rdma_cm_id *listener;
    struct side a; /* active */
    struct side b; /* passive */
    struct pair_options options;
};

/* Makes both ends' objects and queue pairs. */
bool side_open(struct side *side, struct rdma_device *device, const struct pair_options *options,
               bool has_srq);
void side_close(struct side *side);

/* Connects a to b by CM; false: see the flags. Objects are there in any case. */
bool pair_open(struct pair *pair, struct rdma_device *device, const struct pair_options *options);
/* Disconnects, if need be, and gives everything back. */
void pair_close(struct pair *pair);

/* Turns the reactor once and takes completions of both ends (either may be NULL). */
void turn(struct side *a, struct side *b);
uint64_t now_ms(void);
/* Until `condition` holds; its value at the end. */
#define WAIT_MS(a, b, condition, timeout_ms)           \
    ({                                                 \
        uint64_t until_ms_ = now_ms() + (timeout_ms);  \
        while (!(condition) && now_ms() < until_ms_) { \
            turn((a), (b));                            \
        }                                              \
        (bool)(condition);                             \
    })
#define WAIT(a, b, condition) WAIT_MS(a, b, condition, PAIR_TIMEOUT_MS)

/* The oldest completion of `side`, waited for; false: none came. */
bool take(struct pair *pair, struct side *side, struct rdma_wc *wc);
/* The same, and whether it has this status. */
bool take_status(struct pair *pair, struct side *side, enum rdma_wc_status status,
                 struct rdma_wc *wc);

struct rdma_sge sge(const struct side *side, uint32_t offset, uint32_t len_bytes);
bool post_recv(struct side *side, uint64_t wr_id, uint32_t offset, uint32_t len_bytes);
/* A signalled work request of one entry; fields that differ are set by the caller before. */
bool post_one(struct side *side, struct rdma_send_wr *wr, struct rdma_sge *entry);

void fill(uint8_t *p, uint32_t bytes, uint32_t seed);
bool filled(const uint8_t *p, uint32_t bytes, uint32_t seed);

#endif
