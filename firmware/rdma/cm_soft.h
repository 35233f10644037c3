/*
 * Connection management (rdma/cm.h) on the verbs of any provider that has QP1: speaks the CM
 * protocol of IBA chapter 12 with the RDMA IP CM service (annex A11), as Linux does.
 *
 * CM has a PD, a CQ (128 entries), a region, QP1 (64 work requests each way) and up to id_count +
 * RDMA_CM_SOFT_EXTRA_AHS address handles of the device for itself, and a poller. Everything belongs
 * to the device's core.
 *
 * What it needs of the provider: a received datagram has the network header in its first 40 bytes.
 * An IPv4 header is the last 20 of them, and the bytes before it are zero or left as they were. The
 * two up-calls at the end of this file are made. QP1 goes to INIT with STATE and QKEY, to RTR with
 * STATE, to RTS with STATE and SQ_PSN.
 *
 * What rdma/cm.h leaves open: a request that its sender takes back, and a reply that the peer
 * rejects, are DISCONNECTED, with the reason. REJECTED with NO_RESOURCES can also mean that our
 * own QP could not be moved when the reply came. After a rejection no TIMEWAIT_EXIT follows,
 * except when the reason was STALE_CONN.
 *
 * Leaves out: alternate paths (LAP, APR), SIDR, REQs of peers for UC and RD, redirection.
 */
#ifndef RDMA_CM_SOFT_H
#define RDMA_CM_SOFT_H

#include <stdbool.h>
#include <stdint.h>
#include "base/rng.h"
#include "base/status.h"
#include "net/net.h"
#include "rdma/cm.h"

/* Address handles beside those of connections: for answers to who has none. */
#define RDMA_CM_SOFT_EXTRA_AHS 16

/* Times are exponents as on the wire: 4.096 us * 2^n. */
struct rdma_cm_soft_config {
    uint32_t id_count; /* listeners, connections, those in time wait; 2..16384 */
    /* Ours by index, as GIDs: net_if_addr() of the interface. */
    const struct net_if *nif;
    const struct net_if_addr *(*addr)(const struct net_if *nif, uint32_t index);
    /* Ids, PSNs, ports: rng_u32() of a seeded generator. */
    struct rng *rng;
    uint32_t (*random)(struct rng *rng);
    uint8_t packet_lifetime;  /* 1..20; 0: 16, 0.27 s, what Linux takes for RoCE */
    uint8_t ack_delay;        /* of this device, 1..20; 0: 15 */
    uint8_t response_timeout; /* that CMs grant each other, 10..24; 0: 20, 4.3 s, as Linux */
    uint8_t max_retries;      /* of a REQ or REP, 1..15; 0: 15, as Linux */
};

/* Bytes that rdma_cm_soft_init() wants. Of `device` ops and attr are looked at, nothing else. */
uint64_t rdma_cm_soft_memory_bytes(const struct rdma_device *device,
                                   const struct rdma_cm_soft_config *config);

/* Makes the device's CM in `memory` (64-byte aligned, stays), takes QP1 to RTS, fills in
 * device->cm_ops, adds a poller to the calling core, the device's owner. The device works by now.
 * INVALID: a value out of range. What the verbs say else: NO_SPACE, EXISTS;
 * then the device is of no use. */
MUST_USE enum status rdma_cm_soft_init(void *memory, struct rdma_device *device,
                                       const struct rdma_cm_soft_config *config);

/* No id, no address handle and no datagram is under way. For tests; owner core. */
bool rdma_cm_soft_is_quiet(const struct rdma_device *device);

/* Since start. Any core. */
#define RDMA_CM_SOFT_STAT_LIST(X)                                          \
    X(rx_mads, "datagrams received at QP1")                                \
    X(rx_malformed, "dropped: length, version, class, method, fields")     \
    X(rx_unknown, "dropped: an attribute that is not spoken here")         \
    X(rx_no_id, "for a connection that is not there")                      \
    X(rx_wrong_peer, "dropped: not from the connection's peer")            \
    X(rx_unexpected, "dropped: the connection's state has no use for it")  \
    X(rx_duplicates, "repeated requests and replies")                      \
    X(rx_stale, "requests that showed an old connection to be dead")       \
    X(rx_lost_buffers, "receives that QP1 did not take")                   \
    X(tx_mads, "datagrams sent")                                           \
    X(tx_errors, "sends that failed")                                      \
    X(tx_dropped, "answers that had no buffer or no way")                  \
    X(qp_errors, "queue pairs that did not move as they must")             \
    X(retransmits, "messages sent again because nobody answered")          \
    X(timeouts, "messages that were never answered")                       \
    X(refused, "requests rejected: no listener, no resources, bad values") \
    X(established, "connections established")

struct rdma_cm_soft_stats {
#define RDMA_CM_SOFT_STAT_FIELD(name, text) _Atomic uint64_t name;
    RDMA_CM_SOFT_STAT_LIST(RDMA_CM_SOFT_STAT_FIELD)
#undef RDMA_CM_SOFT_STAT_FIELD
};

const struct rdma_cm_soft_stats *rdma_cm_soft_stats(const struct rdma_device *device);

/* A QP's number may not be given to another one: a connection of it is in time wait (IBA 12.9). The
 * provider asks when it chooses numbers. */
bool rdma_cm_soft_is_qpn_busy(const struct rdma_device *device, uint32_t qpn);

/* --- up-calls of the provider; owner core ---------------------------------------------------- */

/* The first packet of the peer arrived at this RC QP, which is in RTR or RTS: that confirms the
 * connection, should the RTU be lost (IBA 12.9, event of 11.6.3). No callback from inside. */
void rdma_cm_soft_comm_est(struct rdma_device *device, const struct rdma_qp *qp);

/* This QP is being destroyed: CM touches it no more. */
void rdma_cm_soft_qp_gone(struct rdma_device *device, const struct rdma_qp *qp);

#endif
