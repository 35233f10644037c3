/*
 * The provider in software on port 0 of a wire, and on port 1 a peer that the test writes packet by
 * packet (rdma/peer.h). The clock stands. What a test makes is taken down by rig_teardown(), which
 * then wants every pool full and every queue empty.
 */
#ifndef TESTS_UNIT_RDMA_RIG_H
#define TESTS_UNIT_RDMA_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "hal/clock.h"
#include "hal/native/native.h"
#include "rdma/peer.h"
#include "rdma/soft.h"
#include "rdma/verbs.h"
#include "tests/sim/wire.h"

#define RIG_QPS          8
#define RIG_KEYS         8
#define RIG_MRS          8
#define RIG_AHS          4
#define RIG_EVENTS       64
#define RIG_MEMORY_BYTES (3u << 20)
#define RIG_WRS          128u /* of each queue */
#define RIG_CQES         512u
#define RIG_PORT         1 /* of the peer */
#define RIG_MTU          4200
#define RIG_TICK_NS      UINT64_C(65536) /* timers fire at most so late (sched/sched.h) */

/* Every right. */
#define ALL (RDMA_ACCESS_LOCAL_WRITE | RDMA_ACCESS_REMOTE_WRITE | RDMA_ACCESS_REMOTE_READ)

/* Of the connection that rig_qp() makes. */
#define PEER_QPN  0x4321u
#define SQ_PSN    0x001000u /* of the first packet that we send */
#define RQ_PSN    0x5a0000u /* of the first one that the peer sends */
#define RNR_TIMER 12u       /* 0.64 ms */
#define TIMEOUT   10u       /* 4.19 ms */
#define RETRIES   3u
#define RTO_NS    (UINT64_C(4096) << TIMEOUT)

/* What differs from the defaults; the values of `mtu` and the counts: 0 is the default. */
struct rig_qp_options {
    enum rdma_mtu mtu; /* 1024 */
    bool is_ipv6;
    enum rdma_qp_state state; /* RESET: RTS */
    uint32_t sq_psn;          /* 0: SQ_PSN */
    uint32_t rq_psn;          /* 0: RQ_PSN */
    uint8_t timeout;          /* 0: TIMEOUT; 255: none */
    uint8_t retry_cnt;        /* 0: RETRIES; 255: none */
    uint8_t rnr_retry;        /* 0: RETRIES; 255: none */
    uint8_t rd_atomic;        /* 0: 4; 255: none. As requester */
    uint8_t dest_rd_atomic;   /* 0: 4; 255: none. As responder */
    uint8_t access;           /* 0: all; 255: none */
    uint32_t send_wrs;        /* 0: RIG_WRS */
    uint32_t recv_wrs;
    bool signal_all;
    struct rdma_pd *pd; /* NULL: rig.pd */
    struct rdma_srq *srq;
    struct rdma_cq *send_cq; /* NULL: rig.cq */
    struct rdma_cq *recv_cq;
    const struct rdma_host_recv *host_recv;
};

struct rig {
    struct wire *wire;
    struct net_if *nif;
    struct rdma_device *dev;
    struct rng rng;
    struct rdma_pd *pd;
    struct rdma_cq *cq;      /* of all sends */
    struct rdma_cq *recv_cq; /* of all receives */
    struct rdma_mr *mr;      /* all of `memory`, all rights */
    uint8_t *memory;         /* RIG_MEMORY_BYTES, page aligned */
    struct rdma_qp *qp;      /* the first that rig_qp() made */
    bool is_deaf;            /* the peer answers no ARP and no solicitation */

    struct pkt *inbox; /* what arrived at the peer, oldest first */
    struct pkt **inbox_end;
    uint32_t events[RIG_EVENTS]; /* enum rdma_event_type */
    struct rdma_event last_event;
    uint32_t event_count;
};
extern struct rig rig;

#define RIG_TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
int rig_setup(void **state);
int rig_teardown(void **state);
/* As rig_setup(), without ECN: no notification is sent or heeded. */
int rig_setup_no_ecn(void **state);

/* Turns the reactor until nothing moves; what arrives at the peer is in its inbox. */
void rig_turn(void);
/* Moves the clock on in steps, turning. */
void rig_advance(uint64_t duration_ns);

/* --- objects ---------------------------------------------------------------------------------- */

/* An RC QP in RTS, its path ready. NULL: defaults. */
struct rdma_qp *rig_qp(const struct rig_qp_options *options);
/* Created, in RESET; nothing else done. */
struct rdma_qp *rig_qp_create(enum rdma_qp_type type, const struct rig_qp_options *options);
/* All attributes that a way through the states wants, for modify. */
struct rdma_qp_attr rig_qp_attr(const struct rig_qp_options *options);
#define RTR_MASK                                                                         \
    (RDMA_QP_STATE | RDMA_QP_AV | RDMA_QP_PATH_MTU | RDMA_QP_DEST_QPN | RDMA_QP_RQ_PSN | \
     RDMA_QP_MAX_DEST_RD_ATOMIC | RDMA_QP_MIN_RNR_TIMER)
#define RTS_MASK                                                                                \
    (RDMA_QP_STATE | RDMA_QP_TIMEOUT | RDMA_QP_RETRY_CNT | RDMA_QP_RNR_RETRY | RDMA_QP_SQ_PSN | \
     RDMA_QP_MAX_RD_ATOMIC)
/* To that state alone. */
enum status rig_qp_to(struct rdma_qp *qp, enum rdma_qp_state state);
void rig_qp_destroy(struct rdma_qp *qp); /* and turns until it is gone */
struct rdma_cq *rig_cq(uint32_t entries);
/* In memory that the test may change, for receives of `pd`. */
struct rdma_cq *rig_host_cq(struct rdma_pd *pd, uint32_t entries, uint8_t **memory);
struct rdma_srq *rig_srq(uint32_t entries, uint32_t limit);
struct rdma_pd *rig_pd(void); /* of another tenant */
struct rdma_mr *rig_mr(struct rdma_pd *pd, uint32_t offset, uint32_t len, uint32_t access);
struct rdma_mr *rig_mr_host(struct pcie_ep_view *view, uint64_t host_addr, uint64_t len);
void rig_mr_dereg(struct rdma_mr *mr);
struct rdma_key *rig_key(struct rdma_pd *pd);
struct rdma_ah *rig_ah(bool is_ipv6);
struct rdma_qp_info rig_info(const struct rdma_qp *qp);
uint64_t rig_stat(const _Atomic uint64_t *stat);
#define STAT(name) rig_stat(&rdma_soft_stats(rig.dev)->name)

/* --- memory ----------------------------------------------------------------------------------- */

/* [offset, + len) of rig.memory becomes a pattern that depends on seed and place. */
void fill(uint32_t offset, uint32_t len, uint32_t seed);
void pattern(uint8_t *bytes, uint32_t len, uint32_t seed);
#define assert_filled(offset, len, seed) assert_filled_at(offset, len, seed, __FILE__, __LINE__)
void assert_filled_at(uint32_t offset, uint32_t len, uint32_t seed, const char *file, int line);
uint64_t addr_at(uint32_t offset);

/* --- posting ---------------------------------------------------------------------------------- */

/* One SGE in rig.memory under rig.mr, signalled; for post_send_wr() to be changed before. */
struct send {
    struct rdma_send_wr wr;
    struct rdma_sge sges[4];
};
struct send *send_wr(uint64_t id, enum rdma_wr_opcode opcode, uint32_t offset, uint32_t len);
void post_wr(struct rdma_qp *qp, const struct rdma_send_wr *wr); /* and turns */
#define REMOTE_VA   UINT64_C(0x1122334455667000)
#define REMOTE_RKEY 0xcafe0123u
/* RDMA: REMOTE_VA, REMOTE_RKEY. Turns. */
void post(uint64_t id, enum rdma_wr_opcode opcode, uint32_t offset, uint32_t len);
void post_recv(uint64_t id, uint32_t offset, uint32_t len);
void post_recv_to(struct rdma_qp *qp, uint64_t id, uint32_t offset, uint32_t len);
void post_srq_recv(struct rdma_srq *srq, uint64_t id, uint32_t offset, uint32_t len);

/* --- completions and events ------------------------------------------------------------------- */

/* The next completion of the CQ must be this one; returned for a closer look. */
#define expect_wc(id, status)      expect_wc_at(rig.cq, id, status, __FILE__, __LINE__)
#define expect_recv_wc(id, status) expect_wc_at(rig.recv_cq, id, status, __FILE__, __LINE__)
const struct rdma_wc *expect_wc_at(struct rdma_cq *cq, uint64_t id, enum rdma_wc_status status,
                                   const char *file, int line);
#define expect_no_wc() expect_no_wc_at(__FILE__, __LINE__)
void expect_no_wc_at(const char *file, int line);
/* One event of this type came, and no other since the last expectation. */
#define expect_event(type) expect_event_at(type, __FILE__, __LINE__)
void expect_event_at(enum rdma_event_type type, const char *file, int line);
uint32_t take_events(void); /* forgets them; how many there were */

/* --- the peer speaks -------------------------------------------------------------------------- */

/* A packet of the peer to rig.qp with all fields as they should be; valid until the next call. Last
 * and Only packets ask for an acknowledgement. Payload: the pattern of seed 0. */
struct pkt *pkt(enum op opcode, uint32_t psn, uint32_t len);
struct pkt *pkt_rdma(enum op opcode, uint32_t psn, uint32_t len, uint64_t va, uint32_t rkey,
                     uint32_t dma_len);
struct pkt *pkt_ack(uint32_t psn, uint8_t syndrome, uint32_t msn);
void peer_queue(const struct pkt *pkt); /* arrives with the next turn: several make a batch */
void peer_send(const struct pkt *pkt);  /* and turns */
void peer_send_raw(const uint8_t *frame, uint32_t len);
void peer_ack(uint32_t psn);
void peer_nak(uint32_t psn, uint8_t syndrome);

/* --- the peer hears --------------------------------------------------------------------------- */

/* The next packet must have this opcode and PSN; what is not the test's matter is checked
 * (ICRC, QPN, P_Key, version, pad, flags). Valid until the next expectation. */
#define expect(opcode, psn) expect_at(opcode, psn, __FILE__, __LINE__)
const struct pkt *expect_at(enum op opcode, uint32_t psn, const char *file, int line);
#define expect_data(opcode, psn, len, seed, offset) \
    expect_data_at(opcode, psn, len, seed, offset, __FILE__, __LINE__)
const struct pkt *expect_data_at(enum op opcode, uint32_t psn, uint32_t len, uint32_t seed,
                                 uint32_t offset, const char *file, int line);
#define expect_ack(psn, msn)           expect_response_at(psn, 0x1f, msn, __FILE__, __LINE__)
#define expect_nak(psn, syndrome, msn) expect_response_at(psn, syndrome, msn, __FILE__, __LINE__)
void expect_response_at(uint32_t psn, uint8_t syndrome, uint32_t msn, const char *file, int line);
#define expect_silence() expect_silence_at(__FILE__, __LINE__)
void expect_silence_at(const char *file, int line);
/* The oldest packet, whatever it is; false: none. */
bool peer_take(struct pkt *pkt);
uint32_t peer_drain(void);

/* --- who may reach what ----------------------------------------------------------------------- */

/* The peer's attempt is refused: NAK Remote Access Error, the QP is dead. rig.qp is a new one then.
 */
void expect_refused(const struct pkt *made);
/* A WRITE at psn and a READ at psn + 1 work. */
void expect_reachable(uint32_t psn, uint64_t va, uint32_t rkey, uint32_t len, uint32_t msn);
const struct pkt *a_write(uint64_t va, uint32_t rkey, uint32_t len); /* at RQ_PSN */
const struct pkt *a_read(uint64_t va, uint32_t rkey, uint32_t len);

#endif
