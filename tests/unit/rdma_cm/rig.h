/*
 * A CM on a fake device under the standing clock, with a consumer that writes down its events.
 */
#ifndef TESTS_UNIT_RDMA_CM_RIG_H
#define TESTS_UNIT_RDMA_CM_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "hal/clock.h"
#include "hal/native/native.h"
#include "tests/unit/rdma_cm/fake.h"

#define RIG_IDS    24
#define RIG_EVENTS 256
#define RIG_PORT   4420
#define RIG_US     2 /* the last byte of our address, and of the peer's */
#define RIG_PEER   1

struct rig_event {
    struct rdma_cm_id *id;
    struct rdma_cm_event event;
    uint8_t data[256];
};

struct rig {
    struct fake fake; /* first */
    uint8_t *memory;
    struct fake_qp qp;
    uint32_t event_count;
    struct rig_event events[RIG_EVENTS];
    /* The consumer does this in the callback of such an event (once), if not NULL. */
    void (*react)(struct rig *rig, struct rdma_cm_id *id, const struct rdma_cm_event *event);
    struct net_addr us;
    struct net_addr peer;
};

/* Clock and scheduler anew: before the first rig of a test. */
void rig_start(void);
/* Defaults for zero fields of `config` (which may be NULL). */
void rig_init(struct rig *rig, uint8_t last, const struct rdma_cm_soft_config *config);
/* Lets time pass until nothing lives any more, checks that nothing leaked, frees. */
void rig_end(struct rig *rig);

/* A few turns at the same time. */
void rig_turn(void);
/* Turns while time passes. */
void rig_pass(uint64_t duration_ns);

void rig_on_event(struct rdma_cm_id *id, const struct rdma_cm_event *event);
/* The last event; NULL: none since rig_clear(). */
const struct rig_event *rig_last(const struct rig *rig);
/* Fails unless exactly this has come since the last call. */
void rig_expect_event(struct rig *rig, struct rdma_cm_id *id, enum rdma_cm_event_type type);
void rig_expect_no_event(struct rig *rig);

/* A message of the peer; what the test does not set is plausible. */
void rig_from_peer(struct rig *rig, const struct cm_mad *mad);
/* Fails unless exactly one message has left since the last call, and this one. */
const struct cm_mad *rig_expect_sent(struct rig *rig, uint16_t attribute);
/* The same: it rejects the peer's request for this reason, and nobody is told. */
void rig_expect_refusal(struct rig *rig, enum rdma_cm_reject reason);
void rig_expect_nothing_sent(struct rig *rig);

/* Messages as the peer would make them. `id` is its communication ID. */
#define RIG_PEER_ID  0xaabbccdd
#define RIG_PEER_QPN 0x4711
#define RIG_PEER_PSN 0x123456
#define RIG_PEER_TID UINT64_C(0x7777000011112222)
/* What CM waits for an answer: the time that a message promises, and the way twice. */
#define RIG_WAIT_NS (cm_time_ns(20) + 2 * cm_time_ns(16))
struct cm_mad rig_req(const struct rig *rig);
struct cm_mad rig_rep(const struct cm_mad *req);
/* An answer of another kind to a message of ours, or about a connection whose numbers it has. */
struct cm_mad rig_answer(const struct cm_mad *to, uint16_t attribute);

struct rdma_cm_param rig_param(struct rig *rig);
struct rdma_cm_id *rig_listen(struct rig *rig, uint32_t backlog);
/* Listens and takes a request (the listener goes to *listener); accepts it; until established. */
struct rdma_cm_id *rig_request(struct rig *rig, struct rdma_cm_id **listener);
struct rdma_cm_id *rig_accept(struct rig *rig, struct rdma_cm_id **listener);
struct rdma_cm_id *rig_passive(struct rig *rig, struct rdma_cm_id **listener);
/* Resolves; connects (the REQ goes to *req); until it is established. */
struct rdma_cm_id *rig_resolve(struct rig *rig);
struct rdma_cm_id *rig_connect(struct rig *rig, struct cm_mad *req);
struct rdma_cm_id *rig_active(struct rig *rig, struct cm_mad *req);

#define RIG_STAT(rig, name) counter_get(&rdma_cm_soft_stats(&(rig)->fake.device)->name)

#endif
