/*
 * rping's server: one state machine for each client. Completions and events of the CM only leave
 * what happened in the connection; the poller looks and acts.
 *
 * Bounded: LIMIT_RPING_CONNS clients, two receives and a buffer of 64 KiB each. When all are taken
 * and one has said nothing for a minute, a new client takes its place: a peer that vanished without
 * a word is not known otherwise. Leaves out: retries (the transport's).
 */
#include "diag/diag_rping.h"

#include <string.h>
#include "base/assert.h"
#include "base/bits.h"
#include "base/counter.h"
#include "base/limits.h"
#include "base/log.h"
#include "diag/diag_conn_priv.h"
#include "diag/diag_rping_priv.h"
#include "hal/clock.h"
#include "sched/sched.h"

#define RECVS       2
#define SENDS       8
#define DATA_BYTES  (DIAG_RPING_HIGH_BYTES + 1)
#define BATCH       16
#define BACKLOG     LIMIT_RPING_CONNS
#define IDLE_NS     (UINT64_C(60) * NS_PER_S)
#define LOOK_NS     NS_PER_MS
#define STEPS       4 /* of one connection in a turn */
#define NO_TENANT   0
#define WR_RECV     0 /* and 1 */
#define WR_DATA     2
#define WR_GO_AHEAD 3

#define CONN_STATE_LIST(X)                                        \
    X(FREE, "nobody's")                                           \
    X(SOURCE, "the client is to name where its data are")         \
    X(READ, "the data are to be fetched")                         \
    X(READING, "and are on their way")                            \
    X(TELL_READ, "the client is to be told that they are here")   \
    X(SINK, "the client is to name where they shall go")          \
    X(WRITE, "the data are to be put there")                      \
    X(WRITING, "and are on their way")                            \
    X(TELL_WRITE, "the client is to be told that they are there") \
    X(CLOSING, "over; the device still reads our memory")

enum conn_state {
#define CONN_STATE_ENUM(name, text) CONN_##name,
    CONN_STATE_LIST(CONN_STATE_ENUM)
#undef CONN_STATE_ENUM
    CONN_STATE_COUNT
};

/* Memory of one connection that the device reads and writes. */
struct conn_buffers {
    struct diag_rping_info recvs[RECVS];
    struct diag_rping_info go_ahead; /* its content means nothing */
    uint8_t data[DATA_BYTES];
};

struct conn {
    struct diag_conn link;
    struct diag_rping *rping;
    struct conn_buffers *buffers;
    enum conn_state state;
    bool is_told; /* `told` is a message of the client not yet looked at */
    bool is_done; /* the READ or WRITE is complete */
    bool is_over; /* disconnected, or broke the protocol */
    struct diag_rping_info told;
    uint32_t len_bytes; /* of the data at hand */
    uint64_t heard_ns;
};

struct diag_rping {
    struct rdma_device *device;
    struct rdma_pd *pd;
    struct rdma_cq *cq;
    struct rdma_mr *mr;
    struct rdma_cm_id *listener;
    struct poller poller;
    uint32_t conn_count; /* not FREE */
    struct conn conns[LIMIT_RPING_CONNS];
    struct diag_rping_stats stats;
};

/* --- memory -------------------------------------------------------------------------------- */

static struct diag_conn_config conn_config(struct rdma_pd *pd, struct rdma_cq *cq)
{
    return (struct diag_conn_config){.pd = pd,
                                     .cq = cq,
                                     .send_wr_count = SENDS,
                                     .recv_wr_count = RECVS,
                                     .send_sge_count = 1,
                                     .recv_sge_count = 1};
}

#define CQ_ENTRIES (LIMIT_RPING_CONNS * (SENDS + RECVS))

struct layout {
    struct diag_rping *rping;
    void *cq;
    struct conn_buffers *buffers;
    uint8_t *qps;
    uint64_t qp_bytes;
};

static uint64_t lay_out(uint8_t *memory, struct rdma_device *device, struct layout *out)
{
    struct diag_cut cut = {.next = memory};
    struct rdma_pd pd = {.device = device};
    struct diag_conn_config config = conn_config(&pd, NULL);

    out->qp_bytes = align_up(diag_conn_memory_bytes(&config), CACHE_LINE_BYTES);
    out->rping = diag_cut(&cut, sizeof(struct diag_rping));
    out->cq = diag_cut(&cut, rdma_cq_memory_bytes(device, CQ_ENTRIES));
    out->buffers = diag_cut(&cut, LIMIT_RPING_CONNS * sizeof(struct conn_buffers));
    out->qps = diag_cut(&cut, LIMIT_RPING_CONNS * out->qp_bytes);
    return cut.bytes;
}

uint64_t diag_rping_memory_bytes(struct rdma_device *device)
{
    struct layout layout;

    return lay_out(NULL, device, &layout);
}

/* --- ends of a connection ------------------------------------------------------------------ */

static enum conn_state conn_close(struct conn *conn)
{
    if (!diag_conn_close(&conn->link)) {
        return CONN_CLOSING;
    }
    conn->rping->conn_count--;
    return CONN_FREE;
}

static void conn_fail(struct conn *conn, _Atomic uint64_t *counter, const char *why)
{
    conn->is_over = true;
    counter_add(counter, 1);
    LOG_LIMITED(WARN, "diag: rping client: %s", why);
}

/* --- states -------------------------------------------------------------------------------- */

typedef enum conn_state state_fn(struct conn *conn);

/* The message that names memory of the client, checked. False: none, or one that cannot be. */
static bool take_info(struct conn *conn)
{
    if (!conn->is_told) {
        return false;
    }
    conn->is_told = false;
    conn->len_bytes = be32_get(conn->told.len_bytes);
    if (conn->len_bytes == 0 || conn->len_bytes > DATA_BYTES) {
        conn_fail(conn, &conn->rping->stats.protocol_errors, "a length that cannot be");
        return false;
    }
    return true;
}

static enum conn_state post_rdma(struct conn *conn, enum rdma_wr_opcode opcode, uint32_t len_bytes,
                                 enum conn_state next)
{
    struct rdma_sge sge = {.addr = (uintptr_t)conn->buffers->data,
                           .len_bytes = len_bytes,
                           .lkey = conn->rping->mr->lkey};
    struct rdma_send_wr wr = {
        .wr_id = WR_DATA,
        .sges = &sge,
        .sge_count = 1,
        .opcode = (uint8_t)opcode,
        .flags = RDMA_SEND_SIGNALED,
        .rdma = {.remote_addr = be64_get(conn->told.addr), .rkey = be32_get(conn->told.rkey)},
    };

    conn->is_done = false;
    /* Full, or the QP is not in RTS yet: in a later turn. */
    return rdma_post_send(conn->link.qp, &wr, NULL) == STATUS_OK ? next : conn->state;
}

static enum conn_state post_go_ahead(struct conn *conn, enum conn_state next)
{
    struct rdma_sge sge = {.addr = (uintptr_t)&conn->buffers->go_ahead,
                           .len_bytes = sizeof(struct diag_rping_info),
                           .lkey = conn->rping->mr->lkey};
    struct rdma_send_wr wr = {
        .wr_id = WR_GO_AHEAD, .sges = &sge, .sge_count = 1, .opcode = RDMA_WR_SEND};

    return rdma_post_send(conn->link.qp, &wr, NULL) == STATUS_OK ? next : conn->state;
}

static enum conn_state state_free(struct conn *conn)
{
    return conn->state;
}

static enum conn_state state_source(struct conn *conn)
{
    return take_info(conn) ? CONN_READ : CONN_SOURCE;
}

static enum conn_state state_read(struct conn *conn)
{
    return post_rdma(conn, RDMA_WR_RDMA_READ, conn->len_bytes, CONN_READING);
}

static enum conn_state state_reading(struct conn *conn)
{
    if (!conn->is_done) {
        return CONN_READING;
    }
    if (!diag_rping_is_pattern(conn->buffers->data, conn->len_bytes)) {
        counter_add(&conn->rping->stats.mismatches, 1);
    }
    return CONN_TELL_READ;
}

static enum conn_state state_tell_read(struct conn *conn)
{
    return post_go_ahead(conn, CONN_SINK);
}

static enum conn_state state_sink(struct conn *conn)
{
    uint32_t fetched_bytes = conn->len_bytes;

    if (!take_info(conn)) {
        return CONN_SINK;
    }
    /* As much as came, up to the end of the text, which is what rping puts back. */
    const uint8_t *end = memchr(conn->buffers->data, 0, fetched_bytes);
    if (end != NULL) {
        fetched_bytes = (uint32_t)(end - conn->buffers->data) + 1;
    }
    conn->len_bytes = min_u32(conn->len_bytes, fetched_bytes);
    return CONN_WRITE;
}

static enum conn_state state_write(struct conn *conn)
{
    return post_rdma(conn, RDMA_WR_RDMA_WRITE, conn->len_bytes, CONN_WRITING);
}

static enum conn_state state_writing(struct conn *conn)
{
    if (!conn->is_done) {
        return CONN_WRITING;
    }
    counter_add(&conn->rping->stats.pings, 1);
    counter_add(&conn->rping->stats.bytes, conn->len_bytes);
    return CONN_TELL_WRITE;
}

static enum conn_state state_tell_write(struct conn *conn)
{
    return post_go_ahead(conn, CONN_SOURCE);
}

static state_fn *const states[CONN_STATE_COUNT] = {
    [CONN_FREE] = state_free,
    [CONN_SOURCE] = state_source,
    [CONN_READ] = state_read,
    [CONN_READING] = state_reading,
    [CONN_TELL_READ] = state_tell_read,
    [CONN_SINK] = state_sink,
    [CONN_WRITE] = state_write,
    [CONN_WRITING] = state_writing,
    [CONN_TELL_WRITE] = state_tell_write,
    [CONN_CLOSING] = conn_close,
};

/* Returns the steps done. */
static uint32_t conn_run(struct conn *conn)
{
    uint32_t steps = 0;

    for (; steps < STEPS; steps++) {
        if (conn->is_over && conn->state != CONN_FREE && conn->state != CONN_CLOSING) {
            conn->state = conn_close(conn);
        }
        enum conn_state next = states[conn->state](conn);
        if (next == conn->state) {
            break;
        }
        conn->state = next;
    }
    return steps;
}

/* --- what happens -------------------------------------------------------------------------- */

static void recv_post(struct conn *conn, uint64_t index)
{
    struct rdma_sge sge = {.addr = (uintptr_t)&conn->buffers->recvs[index],
                           .len_bytes = sizeof(struct diag_rping_info),
                           .lkey = conn->rping->mr->lkey};
    struct rdma_recv_wr wr = {.wr_id = WR_RECV + index, .sges = &sge, .sge_count = 1};

    if (rdma_post_recv(conn->link.qp, &wr, NULL) != STATUS_OK) {
        conn_fail(conn, &conn->rping->stats.errors, "no receive can be posted");
    }
}

static void conn_received(struct conn *conn, const struct rdma_wc *wc)
{
    if (wc->len_bytes != sizeof(struct diag_rping_info) || conn->is_told) {
        conn_fail(conn, &conn->rping->stats.protocol_errors, "a message that cannot be");
        return;
    }
    conn->told = conn->buffers->recvs[wc->wr_id];
    conn->is_told = true;
    recv_post(conn, wc->wr_id);
}

static void conn_completed(struct conn *conn, const struct rdma_wc *wc)
{
    conn->heard_ns = sched_now_ns();
    if (conn->is_over) {
        return;
    }
    if (wc->status != RDMA_WC_SUCCESS) {
        conn_fail(conn, &conn->rping->stats.errors, rdma_wc_status_text(wc->status));
    } else if (wc->wr_id < RECVS) {
        conn_received(conn, wc);
    } else if (wc->wr_id == WR_DATA) {
        conn->is_done = true;
    }
}

static struct conn *conn_get(struct diag_rping *rping)
{
    struct conn *oldest = &rping->conns[0];

    for (uint32_t i = 0; i < LIMIT_RPING_CONNS; i++) {
        struct conn *conn = &rping->conns[i];
        if (conn->state == CONN_FREE) {
            return conn;
        }
        if (conn->heard_ns < oldest->heard_ns) {
            oldest = conn;
        }
    }
    if (sched_now_ns() - oldest->heard_ns < IDLE_NS) {
        return NULL;
    }
    counter_add(&rping->stats.evicted, 1);
    oldest->state = conn_close(oldest);
    return oldest->state == CONN_FREE ? oldest : NULL;
}

static enum status conn_accept(struct conn *conn, struct rdma_cm_id *id,
                               const struct rdma_cm_event *request)
{
    struct diag_conn_config config = conn_config(conn->rping->pd, conn->rping->cq);

    conn->is_told = false;
    conn->is_over = false;
    conn->heard_ns = sched_now_ns();
    enum status status = diag_conn_open(&conn->link, id, &config, 0, conn);
    if (status != STATUS_OK) {
        return status;
    }
    for (uint64_t i = 0; i < RECVS; i++) {
        recv_post(conn, i);
    }
    struct rdma_cm_param param = diag_accept_param(&conn->link, request, 0);
    return conn->is_over ? STATUS_IO : rdma_cm_accept(id, &param);
}

static void listener_event(struct rdma_cm_id *id, const struct rdma_cm_event *event)
{
    struct conn *conn;

    switch (event->type) {
    case RDMA_CM_EVENT_REQUEST: {
        struct diag_rping *rping = event->listener->ctx;
        conn = conn_get(rping);
        if (conn == NULL) {
            counter_add(&rping->stats.refused, 1);
            rdma_cm_destroy(id);
            return;
        }
        rping->conn_count++;
        conn->state = CONN_SOURCE;
        enum status status = conn_accept(conn, id, event);
        if (status != STATUS_OK) {
            if (conn->link.id == NULL) {
                rdma_cm_destroy(id);
            }
            conn_fail(conn, &rping->stats.errors, status_text(status));
            return;
        }
        counter_add(&rping->stats.connections, 1);
        break;
    }
    case RDMA_CM_EVENT_DISCONNECTED:
    case RDMA_CM_EVENT_UNREACHABLE:
    case RDMA_CM_EVENT_REJECTED:
        conn = id->ctx;
        conn->is_over = true;
        break;
    case RDMA_CM_EVENT_ESTABLISHED:
    case RDMA_CM_EVENT_TIMEWAIT_EXIT:
    case RDMA_CM_EVENT_RESOLVED:
    default:
        break;
    }
}

/* --- poller -------------------------------------------------------------------------------- */

static uint32_t rping_run(void *ctx)
{
    struct diag_rping *rping = ctx;
    struct rdma_wc wcs[BATCH];

    if (LIKELY(rping->conn_count == 0)) {
        return 0;
    }
    uint32_t work = rdma_cq_poll(rping->cq, wcs, BATCH);
    for (uint32_t i = 0; i < work; i++) {
        conn_completed(wcs[i].qp->ctx, &wcs[i]);
    }
    for (uint32_t i = 0; i < LIMIT_RPING_CONNS; i++) {
        work += conn_run(&rping->conns[i]);
    }
    return work;
}

/* What may be posted or destroyed only later is tried again. */
static uint64_t rping_arm(void *ctx, bool armed)
{
    const struct diag_rping *rping = ctx;
    (void)armed;
    return rping->conn_count == 0 ? UINT64_MAX : LOOK_NS;
}

/* --- start --------------------------------------------------------------------------------- */

/* What was made so far goes again: nothing was posted, so nothing can be busy. */
static enum status undo(struct diag_rping *rping, enum status status)
{
    bool is_gone = (rping->mr == NULL || rdma_mr_dereg(rping->mr) == STATUS_OK) &&
                   (rping->cq == NULL || rdma_cq_destroy(rping->cq) == STATUS_OK) &&
                   (rping->pd == NULL || rdma_pd_free(rping->pd) == STATUS_OK);
    ASSERT(is_gone);
    return status;
}

static enum status make_objects(struct diag_rping *rping, const struct layout *layout)
{
    struct rdma_device *device = rping->device;
    struct rdma_mr_attr mr = {
        .kind = RDMA_MR_NIC,
        .access = RDMA_ACCESS_LOCAL_WRITE,
        .memory = layout->buffers,
        .len_bytes = LIMIT_RPING_CONNS * sizeof(struct conn_buffers),
    };
    struct rdma_cq_attr cq = {.entry_count = CQ_ENTRIES, .memory = layout->cq, .ctx = rping};

    enum status status = rdma_pd_alloc(device, NO_TENANT, &rping->pd);
    if (status == STATUS_OK) {
        status = rdma_cq_create(device, &cq, &rping->cq);
    }
    if (status == STATUS_OK) {
        status = rdma_mr_reg(rping->pd, &mr, &rping->mr);
    }
    return status;
}

enum status diag_rping_init(void *memory, struct rdma_device *device, uint16_t port,
                            struct diag_rping **out)
{
    static const struct net_addr any;
    struct layout layout;

    lay_out(memory, device, &layout);
    struct diag_rping *rping = layout.rping;
    memset(rping, 0, sizeof(*rping));
    rping->device = device;
    for (uint32_t i = 0; i < LIMIT_RPING_CONNS; i++) {
        rping->conns[i].rping = rping;
        rping->conns[i].buffers = &layout.buffers[i];
        rping->conns[i].link.qp_memory = layout.qps + i * layout.qp_bytes;
    }
    enum status status = make_objects(rping, &layout);
    if (status == STATUS_OK) {
        status =
            rdma_cm_listen(device, &any, port, BACKLOG, listener_event, rping, &rping->listener);
    }
    if (status != STATUS_OK) {
        return undo(rping, status);
    }
    rping->poller =
        (struct poller){.name = "rping", .run = rping_run, .arm = rping_arm, .ctx = rping};
    sched_poller_add(&rping->poller);
    *out = rping;
    return STATUS_OK;
}

const struct diag_rping_stats *diag_rping_stats(const struct diag_rping *rping)
{
    return &rping->stats;
}

bool diag_rping_is_quiet(const struct diag_rping *rping)
{
    return rping->conn_count == 0;
}
