/*
 * What the files of the perftest server share: connections, sessions, the message.
 */
#ifndef DIAG_DIAG_PERF_PRIV_H
#define DIAG_DIAG_PERF_PRIV_H

#include "base/counter.h"
#include "base/endian.h"
#include "base/limits.h"
#include "diag/diag_conn_priv.h"
#include "diag/diag_perf.h"
#include "hal/clock.h"
#include "sched/sched.h"

/* --- wire ---------------------------------------------------------------------------------- */

/* Who speaks, and where his memory is. As a 64-bit host lays out perftest's structure; integers in
 * network order. */
struct perf_dest {
    struct be32 lid;
    struct be32 out_reads;
    struct be32 qpn; /* of the data QP; 0: there is none yet */
    struct be32 psn;
    struct be32 rkey;
    uint8_t reserved[4];
    struct be64 addr;
    uint8_t gid[16];
    struct be32 srqn;
    struct be32 gid_index;
};
ASSERT_SIZE(struct perf_dest, 56);
ASSERT_OFFSET(struct perf_dest, addr, 24);
ASSERT_OFFSET(struct perf_dest, srqn, 48);

/* The first message of a control connection: digits, a point, digits, filled up with zeros. */
#define PERF_VERSION_BYTES 16

/* --- connections --------------------------------------------------------------------------- */

/* Who was silent for so long makes room for others. */
#define PERF_IDLE_NS (UINT64_C(60) * NS_PER_S)

#define PERF_RECVS 128 /* what a client sends ahead (its tx-depth) */
#define PERF_SENDS 16
/* Of each message the beginning is kept apart: all that there is of control messages. */
#define PERF_HEAD_BYTES 64

struct perf_buffers {
    uint8_t heads[PERF_RECVS][PERF_HEAD_BYTES];
    uint8_t replies[PERF_SENDS][PERF_HEAD_BYTES];
};

#define PERF_CONN_STATE_LIST(X)                             \
    X(FREE, "nobody's")                                     \
    X(NEW, "accepted; what it is for is not known")         \
    X(CONTROL, "messages are answered one by one")          \
    X(DATA, "reads, writes or sends; its session is known") \
    X(STREAM, "sends that want no answers")                 \
    X(PING_PONG, "sends of which each wants an answer")     \
    X(CLOSING, "over; the device still reads our memory")

enum perf_conn_state {
#define PERF_CONN_STATE_ENUM(name, text) PERF_CONN_##name,
    PERF_CONN_STATE_LIST(PERF_CONN_STATE_ENUM)
#undef PERF_CONN_STATE_ENUM
};

struct perf_session;

struct perf_conn {
    struct diag_conn link;
    struct diag_perf *perf;
    struct perf_buffers *buffers;
    struct perf_session *session;
    uint8_t state;       /* enum perf_conn_state */
    bool is_over;        /* disconnected, or broke the protocol */
    uint8_t reply_bytes; /* CONTROL: of the answer that is to be sent; 0: none */
    uint32_t send_count; /* ever posted; modulo PERF_SENDS the next buffer */
    uint32_t send_under_way;
    uint32_t answers_due;  /* DATA, PING_PONG: sends that were not answered */
    uint32_t answer_bytes; /* length of the last one */
    struct timer timer;    /* DATA: one send came alone */
    uint64_t heard_ns;
    uint64_t rx_packets; /* of the QP, when last looked at */
};

/* --- sessions ------------------------------------------------------------------------------ */

#define PERF_SESSION_STATE_LIST(X)                         \
    X(FREE, "its memory is zero")                          \
    X(BUSY, "a client's")                                  \
    X(RETIRING, "over; the device still reads its memory") \
    X(CLEANING, "its memory is being made zero")

enum perf_session_state {
#define PERF_SESSION_STATE_ENUM(name, text) PERF_SESSION_##name,
    PERF_SESSION_STATE_LIST(PERF_SESSION_STATE_ENUM)
#undef PERF_SESSION_STATE_ENUM
};

/* Memory of one client, with a key of its own. */
struct perf_session {
    struct diag_perf *perf;
    uint8_t *memory; /* perf->len_bytes */
    struct rdma_mr *mr;
    uint8_t state; /* enum perf_session_state */
    uint32_t cleaned_bytes;
};

struct diag_perf {
    struct rdma_device *device;
    struct rdma_pd *pd;
    struct rdma_cq *cq;
    struct rdma_mr *buffers_mr; /* of all connections; nobody else's */
    struct rdma_mr *sink_mr;
    struct rdma_cm_id *listener;
    struct poller poller;
    struct timer sweep_timer;
    uint32_t len_bytes;
    uint32_t conn_count;    /* not FREE */
    uint32_t session_count; /* not FREE */
    uint8_t *sink;          /* where the rest of messages goes; never read */
    struct perf_conn conns[LIMIT_PERF_CONNS];
    struct perf_session sessions[LIMIT_PERF_SESSIONS];
    struct diag_perf_stats stats;
};

/* --- between the files --------------------------------------------------------------------- */

/* Marks the connection as over; the poller ends it. */
void perf_conn_fail(struct perf_conn *conn, _Atomic uint64_t *counter, const char *why);

/* Posts a signalled work request; false: not now. On success the next buffer is another. */
bool perf_post(struct perf_conn *conn, struct rdma_send_wr *wr);

/* A message of `len_bytes` came; its beginning is `head`. */
void perf_control_received(struct perf_conn *conn, const uint8_t *head, uint32_t len_bytes);
void perf_data_received(struct perf_conn *conn, uint32_t len_bytes);

/* Sends what is due; returns the work done. */
uint32_t perf_control_run(struct perf_conn *conn);
uint32_t perf_data_run(struct perf_conn *conn);
void perf_data_timer(struct timer *timer);

/* Makes a NEW connection whose first message is a version a control connection. */
void perf_session_open(struct perf_conn *conn, const uint8_t *head, uint32_t len_bytes);
/* Its control connection ended: those of its data end too. */
void perf_session_close(struct perf_session *session);
/* Cleans up; returns the work done. */
uint32_t perf_session_run(struct perf_session *session);

#endif
