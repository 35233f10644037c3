/*
 * The provider in software: RoCEv2 (IBA annex A17) reliable connections and QP1 over one IP
 * interface. Opcodes and transitions of queue pairs are tables; the responder goes step by step
 * (SOFT_RESP_LIST) as a chain, which costs less than a table. Nothing is copied on the way out
 * (descriptors point at the caller's memory, host memory included), once on the way in, from the
 * packet to its place.
 *
 * Leaves out: UC, atomics, end-to-end credits (the AETH says "no credit count", and a peer's count
 * is not looked at: a receiver that is not ready answers RNR, IBA 9.7.7.2).
 */
#ifndef RDMA_SOFT_H
#define RDMA_SOFT_H

#include <stdint.h>
#include "base/rng.h"
#include "base/status.h"
#include "net/net.h"
#include "rdma/types.h"

/* Scatter/gather entries of a work request, and bytes that it can hold inline instead. */
#define RDMA_SOFT_SGES         4
#define RDMA_SOFT_INLINE_BYTES 64
/* READs under way of one QP, each way. */
#define RDMA_SOFT_READS 16
/* Packet numbers under way of one QP, at most: what a peer's socket buffer holds for sure. A READ
 * counts for its responses: those of as many packets or more go one by one. */
#define RDMA_SOFT_WINDOW_PACKETS 64

struct rdma_soft_config {
    struct net_if *nif; /* of the calling core */
    struct rng *rng;    /* seeded; QP numbers, keys, PSNs */
    const char *name;   /* stays */
    uint32_t qp_count;  /* beside QP1; 1..16384 */
    uint32_t cq_count;
    uint32_t srq_count;
    uint32_t pd_count;
    uint32_t mr_count; /* with key_count: at most 65535, the CM's own included */
    uint32_t key_count;
    uint32_t ah_count;
    uint32_t cm_id_count; /* connections and listeners of the CM, time wait included */
    bool ecn;             /* packets are sent as ECN capable (RFC 3168), CNPs are heeded */
};

/* The counts alone matter: there need be no interface yet. */
uint64_t rdma_soft_memory_bytes(const struct rdma_soft_config *config);

/* Makes the device in `memory` (64-byte aligned, stays), binds UDP port 4791 and adds its poller to
 * the calling core. INVALID: a count out of range, an unseeded generator. EXISTS: the port is
 * taken. */
MUST_USE enum status rdma_soft_init(void *memory, const struct rdma_soft_config *config,
                                    struct rdma_device **out);

/* Since start, of all QPs together, those that are gone too. Any core. */
#define RDMA_SOFT_STAT_LIST(X)                                               \
    X(rx_packets, "RoCE packets received")                                   \
    X(rx_icrc, "dropped: ICRC does not match")                               \
    X(rx_malformed, "dropped: header, length or opcode cannot be")           \
    X(rx_no_qp, "dropped: no such QP, or not in a state to receive")         \
    X(rx_wrong_peer, "dropped: another address than the QP's peer")          \
    X(tx_packets, "RoCE packets sent")                                       \
    X(tx_stalled, "times that the port had no room, or there was no buffer") \
    X(icrc_bytes, "bytes that went through the ICRC, both ways")             \
    X(placed_bytes, "bytes copied from packets to their place")              \
    X(copied_bytes, "bytes copied in order to be sent")                      \
    X(zero_copy_bytes, "bytes sent from where they lay")                     \
    X(key_violations, "accesses refused: key, rights, range or domain")      \
    X(host_ring_reads, "entries read from rings in host memory")             \
    X(host_ring_read_bytes, "and their bytes")                               \
    X(host_ring_writes, "entries written to rings in host memory")           \
    X(host_ring_write_bytes, "and their bytes")                              \
    X(host_ring_faults, "entries that the host has spoiled")                 \
    X(events, "asynchronous events")

struct rdma_soft_stats {
#define RDMA_SOFT_STAT_FIELD(name, text) _Atomic uint64_t name;
    RDMA_SOFT_STAT_LIST(RDMA_SOFT_STAT_FIELD)
#undef RDMA_SOFT_STAT_FIELD
};

const struct rdma_soft_stats *rdma_soft_stats(const struct rdma_device *device);

/* Nothing was leaked: every object is back in its pool. For tests; owner core. */
bool rdma_soft_is_quiet(const struct rdma_device *device);

/* Bytes of a QP's own state, without its rings: for the budget. */
uint32_t rdma_soft_qp_bytes(void);

#endif
