/*
 * Inside of CM: its objects, who owns them, and what its files call of each other. Everything
 * belongs to the device's core.
 *
 *   cm.c        memory, start, ids and their pool, tables, events, reports
 *   cm_api.c    the calls of rdma/cm.h
 *   cm_mad.c    messages to bytes and back (no state but what they are built from)
 *   cm_recv.c   what arrives: checks, whose it is, answers to what is nobody's; new requests
 *   cm_fsm.c    the state machine of a connection
 *   cm_qp.c     takes queue pairs through their states
 *   cm_qp1.c    makes QP1
 *   cm_wire.c   QP1: buffers, address handles, sending, the poller
 *
 * A connection is a pooled object, and what its owner holds is the first member of it. When the
 * owner lets go, or before he has heard of it, the object lives on for what the protocol owes.
 */
#ifndef RDMA_CM_PRIV_H
#define RDMA_CM_PRIV_H

#include <string.h>
#include "base/counter.h"
#include "base/list.h"
#include "base/pool.h"
#include "rdma/cm.h"
#include "rdma/cm_soft.h"
#include "rdma/verbs.h"
#include "sched/sched.h"
#include "spec/rdma_cm.h"

/* --- sizes --------------------------------------------------------------------------------- */

#define CM_TX_MADS     64 /* datagrams under way */
#define CM_RX_MADS     64 /* receives posted */
#define CM_STRAYS_MAX  16 /* answers of no connection that wait for an address */
#define CM_BACKLOG_MAX 64
#define CM_BATCH       16      /* completions, messages and events of one turn, each */
#define CM_PORT_FIRST  0xc000u /* of those that active ids get, up to 0xffff */

/* Times of a peer (exponents) are taken as they are only between these: 67 ms, 17 s. */
#define CM_PEER_RESPONSE_MIN 14
#define CM_PEER_RESPONSE_MAX 22
/* The ack timeout that a peer wishes for our QP: 4 ms to 8.6 s. */
#define CM_ACK_TIMEOUT_MIN 10
#define CM_ACK_TIMEOUT_MAX 21
/* What an MRA asks for: Linux asks for this too, 69 s; a longer time is not granted. */
#define CM_SERVICE_TIME 24
/* A DREQ is repeated so often: a peer that is gone holds an id so long. */
#define CM_DREQ_RETRIES 4

/* Of connections, IBA table 45: 0.64 ms. */
#define CM_MIN_RNR_TIMER 12

/* A request that is undecided so long gets an MRA, if its sender does not want one sooner. */
#define CM_MRA_AFTER_NS UINT64_C(2000000000)

/* --- connections --------------------------------------------------------------------------- */

/* What moves the state machine. */
#define CM_INPUT_LIST(X)                               \
    X(REQ, "its own request once more")                \
    X(MRA, "message")                                  \
    X(REJ, "message")                                  \
    X(REP, "message")                                  \
    X(RTU, "message")                                  \
    X(DREQ, "message")                                 \
    X(DREP, "message")                                 \
    X(TIMEOUT, "the timer")                            \
    X(PATH_READY, "the neighbour is known")            \
    X(PATH_FAILED, "it does not answer")               \
    X(COMM_EST, "the peer's first packet came")        \
    X(STALE, "the peer has forgotten this connection") \
    X(DISCONNECT, "the owner asks for the end")        \
    X(DESTROY, "the owner lets go")

enum cm_input {
#define CM_INPUT_ENUM(name, text) CM_IN_##name,
    CM_INPUT_LIST(CM_INPUT_ENUM)
#undef CM_INPUT_ENUM
    CM_INPUTS,
};

#define CM_STATES (RDMA_CM_DEAD + 1)

/* Ways to find a connection: by number, and by number and peer. */
enum cm_table {
    CM_BY_COMM_ID,
    CM_BY_QPN, /* ours */
    CM_BY_REMOTE_ID,
    CM_BY_REMOTE_QPN,
    CM_TABLES,
};

/* Messages that a connection has yet to send, in this order. */
#define CM_OWES_MSG  (1u << 0) /* what is in msg: REQ, REP or REJ */
#define CM_OWES_MRA  (1u << 1)
#define CM_OWES_RTU  (1u << 2)
#define CM_OWES_DREP (1u << 3)
#define CM_OWES_DREQ (1u << 4)

struct cm;
struct cm_path;

struct cm_conn {
    struct rdma_cm_id id; /* first: what the owner has */
    struct cm *cm;
    struct list links[CM_TABLES];
    struct list event_link;  /* cm->events while pending != 0 */
    struct list sender_link; /* cm->senders */
    struct list path_link;   /* at its path */
    struct list linger_link; /* cm->lingering: rejected, nobody's */
    struct timer timer;
    struct cm_path *path;     /* NULL: a send finds one */
    struct cm_conn *listener; /* of an undecided request; NULL: gone */

    uint32_t comm_id;
    uint32_t remote_id;
    uint64_t tid;        /* of the messages that make the connection */
    uint64_t dreq_tid;   /* of ours */
    uint64_t drep_tid;   /* of the peer's DREQ */
    uint32_t local_qpn;  /* 0: none yet */
    uint32_t remote_qpn; /* 0: not known */
    uint32_t rq_psn;
    uint32_t sq_psn;
    uint64_t wait_ns; /* for an answer to REQ, REP, DREQ */

    bool in_use;
    bool is_owned;      /* somebody has &id */
    bool is_active;     /* we asked for the connection */
    bool is_rejected;   /* TIMEWAIT only repeats the REJ */
    bool has_remote_id; /* remote_id is known */
    bool got_mra;       /* since msg was sent last */
    uint8_t owed;       /* CM_OWES_* */
    uint8_t pending;    /* events to deliver, 1 << enum cm_event_order */
    uint8_t tries_left;
    uint8_t sgid_index;
    uint16_t reason; /* for the event */

    /* What goes into the QP, agreed on step by step. */
    uint8_t access;
    uint8_t path_mtu;
    uint8_t responder_resources; /* READs that we serve */
    uint8_t initiator_depth;     /* READs of ours */
    uint8_t ack_timeout;
    uint8_t retry_count;
    uint8_t rnr_retry;
    uint8_t peer_response; /* the time that the peer grants us, exponent */
    bool has_alternate;    /* the REQ names an alternate path */

    /* Listener */
    uint32_t backlog;
    uint32_t undecided;
    struct list listen_link; /* cm->listeners */

    struct cm_mad msg;                          /* REQ, REP or REJ, as sent last */
    uint8_t private_data[CM_REP_PRIVATE_BYTES]; /* of a message, for the event */
};

/* Events in the order in which they can come in the life of an id; each comes once. */
enum cm_event_order {
    CM_EV_RESOLVED,
    CM_EV_REQUEST,
    CM_EV_ESTABLISHED,
    CM_EV_REJECTED,
    CM_EV_UNREACHABLE,
    CM_EV_DISCONNECTED,
    CM_EV_TIMEWAIT_EXIT,
};

/* --- QP1 ----------------------------------------------------------------------------------- */

/* The way to a peer: one address handle, shared. Lives while somebody uses it. */
struct cm_path {
    struct cm *cm;
    struct list hash_link;
    struct list changed_link; /* cm->changed: the handle's state moved */
    struct list users;        /* connections */
    struct list waiting;      /* datagrams, until the neighbour is known */
    uint32_t tx_count;        /* datagrams that name it, waiting ones too */
    struct net_addr peer;
    uint8_t sgid_index;
    struct rdma_ah *ah;
};

struct cm_tx {
    struct list link; /* cm->free_tx, or waiting at a path */
    struct cm_path *path;
    uint32_t index;
};

struct cm_rx {
    uint8_t grh[MAD_GRH_BYTES];
    struct cm_mad mad;
};

/* What the device reads and writes; one region. */
struct cm_dma {
    struct cm_mad tx[CM_TX_MADS];
    struct cm_rx rx[CM_RX_MADS];
};

struct cm {
    struct rdma_cm_ops ops; /* the device points here: that is how a device leads to its CM */
    struct rdma_device *device;
    struct rdma_cm_soft_config config; /* defaults filled in */
    struct poller poller;
    struct rdma_cm_soft_stats stats;
    struct be64 guid; /* ours */

    struct pool conn_pool;
    struct cm_conn *conns;
    struct list *heads[CM_TABLES]; /* buckets */
    uint32_t bucket_mask;
    uint32_t hash_key; /* so that nobody can fill one bucket */
    struct list listeners;
    struct list events;    /* connections with something to tell */
    struct list senders;   /* connections with something to send */
    struct list lingering; /* oldest first: may be taken when the pool is empty */
    uint8_t event_data[CM_REP_PRIVATE_BYTES]; /* of the event that is being delivered */

    struct rdma_pd *pd;
    struct rdma_cq *cq;
    struct rdma_mr *mr;
    struct rdma_qp *qp;
    struct cm_dma *dma;
    struct pool path_pool;
    struct list *path_heads;
    struct list changed;
    struct list free_tx;
    uint32_t free_tx_count;
    uint32_t stray_count; /* datagrams that wait at paths */
    struct cm_tx tx[CM_TX_MADS];
};

ALWAYS_INLINE struct cm *cm_of(const struct rdma_device *device)
{
    /* The ops are a member of what CM itself may write. */
    return (struct cm *)((uintptr_t)device->cm_ops - offsetof(struct cm, ops));
}

ALWAYS_INLINE struct cm_conn *cm_conn_of(struct rdma_cm_id *id)
{
    return CONTAINER_OF(id, struct cm_conn, id);
}

#define CM_COUNT(cm, name) counter_add(&(cm)->stats.name, 1)

/* --- helpers ------------------------------------------------------------------------------- */

ALWAYS_INLINE uint8_t cm_min_u8(uint8_t a, uint8_t b)
{
    return a < b ? a : b;
}

ALWAYS_INLINE uint8_t cm_clamp_u8(uint8_t value, uint8_t low, uint8_t high)
{
    return value < low ? low : cm_min_u8(value, high);
}

ALWAYS_INLINE uint64_t cm_time_ns(uint8_t exponent)
{
    return CM_TIME_UNIT_NS << exponent;
}

/* Buckets of a hash table: a power of two. */
ALWAYS_INLINE uint32_t cm_bucket_count(const struct rdma_cm_soft_config *config)
{
    uint32_t count = 16;

    while (count < config->id_count) {
        count *= 2;
    }
    return count;
}

/* --- cm.c ---------------------------------------------------------------------------------- */

uint32_t cm_random(struct cm *cm);

/* A fresh object, IDLE, with a communication ID; NULL: none left. Rejected requests that nobody
 * owns make room. */
struct cm_conn *cm_conn_get(struct cm *cm);

/* Gives the object back if nobody owns it and the protocol owes nothing more. After this `c` may be
 * gone. */
void cm_conn_settle(struct cm_conn *c);

/* Into the table by the number (and peer) that `c` has now; out of it. */
void cm_table_add(struct cm_conn *c, enum cm_table table);
void cm_table_remove(struct cm_conn *c, enum cm_table table);
/* NULL: none. `peer` counts in the tables of remote numbers. */
struct cm_conn *cm_table_find(const struct cm *cm, enum cm_table table, uint32_t number,
                              const struct net_addr *peer);

/* The bucket of a number and a peer (NULL: of the number alone). */
uint32_t cm_hash(const struct cm *cm, uint32_t number, const struct net_addr *peer);

/* The listener for a request at our address; NULL: none. A zero address of either kind fits all. */
struct cm_conn *cm_listener_find(const struct cm *cm, const struct net_addr *local, uint16_t port);

/* The request was decided about, or is over. */
void cm_decided(struct cm_conn *c);

/* Queues an event; `data` (may be NULL: none) is copied. Nobody is called from inside. */
void cm_event(struct cm_conn *c, enum cm_event_order event, const uint8_t *data,
              uint32_t data_bytes);
void cm_events_drop(struct cm_conn *c);
/* Delivers a bounded batch; returns how many. */
uint32_t cm_events_deliver(struct cm *cm);

/* Index of one of our addresses; false: it is not ours. */
bool cm_local_index(const struct cm *cm, const struct net_addr *addr, uint8_t *index);
/* The address of ours from which `dst` is reached: of its family, on its network if there is one.
 * NULL: none. */
const struct net_addr *cm_local_for(const struct cm *cm, const struct net_addr *dst,
                                    uint8_t *index);

/* --- cm_api.c ------------------------------------------------------------------------------ */

void cm_api_fill(struct rdma_cm_ops *ops);

/* --- cm_mad.c ------------------------------------------------------------------------------ */

/* Each makes a whole MAD. Private data: as much as fits, the rest is zero. */
void cm_mad_req(const struct cm_conn *c, const void *private_data, uint32_t private_bytes,
                struct cm_mad *mad);
void cm_mad_rep(const struct cm_conn *c, const void *private_data, uint32_t private_bytes,
                struct cm_mad *mad);
void cm_mad_rtu(const struct cm_conn *c, struct cm_mad *mad);
void cm_mad_mra(const struct cm_conn *c, struct cm_mad *mad);
void cm_mad_dreq(const struct cm_conn *c, struct cm_mad *mad);
void cm_mad_drep(const struct cm_conn *c, struct cm_mad *mad);
/* `message`: CM_MESSAGE_* that is rejected. With reason TIMEOUT our GUID is the information. */
void cm_mad_rej(const struct cm_conn *c, uint8_t message, uint16_t reason, const void *private_data,
                uint32_t private_bytes, struct cm_mad *mad);
/* Answers to a message that belongs to no connection. */
void cm_mad_stray_rej(const struct cm_mad *to, uint8_t message, uint16_t reason,
                      struct cm_mad *mad);
void cm_mad_stray_drep(const struct cm_mad *to, struct cm_mad *mad);

/* Header and length of what came in: BAD_DATA, or UNSUPPORTED for an attribute that is unknown. */
MUST_USE enum status cm_mad_check(const struct cm_mad *mad, uint32_t len_bytes);

/* What a REQ says, checked. The result is a reason to reject it, or 0. */
struct cm_request {
    uint16_t port;
    uint16_t peer_port;
};
uint16_t cm_mad_read_req(const struct cm *cm, const struct cm_mad *mad, const struct net_addr *src,
                         const struct net_addr *dst, struct cm_request *request);
/* Takes over into `c` what a REQ (checked) says about QP, PSN, times. */
void cm_mad_take_req(struct cm_conn *c, const struct cm_req *req);
/* The same of a REP; false: it cannot be. */
MUST_USE bool cm_mad_take_rep(struct cm_conn *c, const struct cm_rep *rep);

/* --- cm_recv.c ----------------------------------------------------------------------------- */

/* A datagram from QP1 of `src` to our address with that index. */
void cm_receive(struct cm *cm, const struct cm_mad *mad, uint32_t len_bytes,
                const struct net_addr *src, const struct net_addr *dst, uint8_t sgid_index);

/* --- cm_fsm.c ------------------------------------------------------------------------------ */

/* Feeds the state machine; `mad`: the message, with CM_IN_REQ .. CM_IN_DREP, else NULL. After this
 * `c` may be gone. */
void cm_fsm(struct cm_conn *c, enum cm_input input, const struct cm_mad *mad);
/* The one setter of id.state. */
void cm_set_state(struct cm_conn *c, enum rdma_cm_state state);
/* Sends msg, from now on again until there is an answer. */
void cm_start_msg(struct cm_conn *c, uint8_t tries);
void cm_start_timer(struct cm_conn *c, uint64_t duration_ns);
/* The owner or CM rejects an undecided request; ends in TIMEWAIT. */
void cm_refuse(struct cm_conn *c, uint16_t reason, const void *private_data,
               uint32_t private_bytes);

/* --- cm_qp.c ------------------------------------------------------------------------------- */

/* From RESET to INIT; nothing to do in INIT. INVALID: neither, or not an RC QP. */
MUST_USE enum status cm_qp_init(struct rdma_qp *qp, uint8_t access);
/* id.qp, from INIT through RTR to RTS, with what was agreed on. */
MUST_USE enum status cm_qp_connect(struct cm_conn *c);
/* To ERR, if it is there and `c` is in CM_BY_QPN: else it may be another one's, or gone. */
void cm_qp_error(struct cm_conn *c);

/* --- cm_qp1.c ------------------------------------------------------------------------------ */

uint64_t cm_wire_memory_bytes(const struct rdma_device *device,
                              const struct rdma_cm_soft_config *config);
/* Makes QP1 and what belongs to it in `memory`. */
MUST_USE enum status cm_wire_init(struct cm *cm, void *memory);

/* --- cm_wire.c ----------------------------------------------------------------------------- */

bool cm_wire_is_quiet(const struct cm *cm);

/* Gives a receive buffer to QP1. */
void cm_post_recv(struct cm *cm, uint32_t index);

/* Finds or makes the way to id.peer. NOT_FOUND, NO_SPACE. */
MUST_USE enum status cm_wire_attach(struct cm_conn *c);
void cm_wire_detach(struct cm_conn *c);

/* The connection owes these messages (CM_OWES_*): sent in the poller's turn. */
void cm_owe(struct cm_conn *c, uint8_t messages);

/* Sends what belongs to no connection, if there is a buffer. */
void cm_send_stray(struct cm *cm, const struct net_addr *peer, uint8_t sgid_index,
                   const struct cm_mad *mad);

uint32_t cm_poll(void *ctx);
uint64_t cm_arm(void *ctx, bool armed);

#endif
