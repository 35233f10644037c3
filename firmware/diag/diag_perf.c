/*
 * The perftest server: connections, their receives, the poller. Completions and events of the CM
 * only leave what happened in the connection; the poller acts.
 *
 * Bounded: LIMIT_PERF_CONNS connections, LIMIT_PERF_SESSIONS clients with memory. When all are
 * taken and one has been silent for a minute it makes room: a peer that vanished without a word is
 * not known otherwise.
 */
#include "diag/diag_perf_priv.h"

#include <string.h>
#include "base/assert.h"
#include "base/bits.h"
#include "base/log.h"
#include "hal/clock.h"

#define BATCH     32
#define CHAIN     16
#define SWEEP_NS  (UINT64_C(10) * NS_PER_S)
#define LOOK_NS   NS_PER_MS
#define NO_TENANT 0
#define ACCESS    (RDMA_ACCESS_REMOTE_READ | RDMA_ACCESS_REMOTE_WRITE)
#define WR_SEND   PERF_RECVS /* below: the number of the receive */

#define CQ_ENTRIES (LIMIT_PERF_CONNS * (PERF_RECVS + PERF_SENDS))

/* --- memory -------------------------------------------------------------------------------- */

static struct diag_conn_config conn_config(struct rdma_pd *pd, struct rdma_cq *cq)
{
    return (struct diag_conn_config){.pd = pd,
                                     .cq = cq,
                                     .send_wr_count = PERF_SENDS,
                                     .recv_wr_count = PERF_RECVS,
                                     .send_sge_count = 1,
                                     .recv_sge_count = 2};
}

struct layout {
    uint8_t *sessions; /* first: page aligned */
    uint8_t *sink;
    struct diag_perf *perf;
    void *cq;
    struct perf_buffers *buffers;
    uint8_t *qps;
    uint64_t qp_bytes;
};

static uint64_t lay_out(uint8_t *memory, const struct diag_perf_config *given, struct layout *out)
{
    struct diag_cut cut = {.next = memory};
    struct rdma_pd pd = {.device = given->device};
    struct diag_conn_config config = conn_config(&pd, NULL);

    out->qp_bytes = align_up(diag_conn_memory_bytes(&config), CACHE_LINE_BYTES);
    out->sessions = diag_cut(&cut, (uint64_t)LIMIT_PERF_SESSIONS * given->len_bytes);
    out->sink = diag_cut(&cut, given->len_bytes);
    out->perf = diag_cut(&cut, sizeof(struct diag_perf));
    out->cq = diag_cut(&cut, rdma_cq_memory_bytes(given->device, CQ_ENTRIES));
    out->buffers = diag_cut(&cut, LIMIT_PERF_CONNS * sizeof(struct perf_buffers));
    out->qps = diag_cut(&cut, LIMIT_PERF_CONNS * out->qp_bytes);
    return cut.bytes;
}

uint64_t diag_perf_memory_bytes(const struct diag_perf_config *config)
{
    struct layout layout;

    return lay_out(NULL, config, &layout);
}

/* --- a connection -------------------------------------------------------------------------- */

void perf_conn_fail(struct perf_conn *conn, _Atomic uint64_t *counter, const char *why)
{
    conn->is_over = true;
    counter_add(counter, 1);
    LOG_LIMITED(WARN, "diag: perftest client: %s", why);
}

static void conn_close(struct perf_conn *conn)
{
    struct perf_session *session = conn->session;

    timer_cancel(&conn->timer);
    conn->session = NULL;
    if (session != NULL && conn->state == PERF_CONN_CONTROL) {
        perf_session_close(session);
    }
    conn->state = PERF_CONN_CLOSING;
    if (diag_conn_close(&conn->link)) {
        conn->state = PERF_CONN_FREE;
        conn->perf->conn_count--;
    }
}

bool perf_post(struct perf_conn *conn, struct rdma_send_wr *wr)
{
    wr->wr_id = WR_SEND;
    wr->flags = RDMA_SEND_SIGNALED;
    /* Full, or the QP is not in RTS yet: in a later turn. */
    if (conn->send_under_way == PERF_SENDS ||
        rdma_post_send(conn->link.qp, wr, NULL) != STATUS_OK) {
        return false;
    }
    conn->send_count++;
    conn->send_under_way++;
    return true;
}

/* --- receives ------------------------------------------------------------------------------ */

/* Receives under construction, posted together. */
struct chain {
    struct rdma_sge sges[CHAIN][2];
    struct rdma_recv_wr wrs[CHAIN];
    uint32_t count;
};

static void chain_add(struct chain *chain, const struct perf_conn *conn, uint64_t index)
{
    const struct diag_perf *perf = conn->perf;
    struct rdma_sge *sges = chain->sges[chain->count];
    struct rdma_recv_wr *wr = &chain->wrs[chain->count];

    sges[0] = (struct rdma_sge){.addr = (uintptr_t)conn->buffers->heads[index],
                                .len_bytes = PERF_HEAD_BYTES,
                                .lkey = perf->buffers_mr->lkey};
    sges[1] = (struct rdma_sge){.addr = (uintptr_t)perf->sink,
                                .len_bytes = perf->len_bytes - PERF_HEAD_BYTES,
                                .lkey = perf->sink_mr->lkey};
    *wr = (struct rdma_recv_wr){.wr_id = index, .sges = sges, .sge_count = 2};
    if (chain->count > 0) {
        wr[-1].next = wr;
    }
    chain->count++;
}

static void chain_post(struct chain *chain, struct perf_conn *conn)
{
    if (chain->count > 0 && !conn->is_over &&
        rdma_post_recv(conn->link.qp, chain->wrs, NULL) != STATUS_OK) {
        perf_conn_fail(conn, &conn->perf->stats.errors, "no receive can be posted");
    }
    chain->count = 0;
}

static void recvs_post_all(struct perf_conn *conn)
{
    struct chain chain = {.count = 0};

    for (uint64_t i = 0; i < PERF_RECVS && !conn->is_over; i++) {
        chain_add(&chain, conn, i);
        if (chain.count == CHAIN) {
            chain_post(&chain, conn);
        }
    }
    chain_post(&chain, conn);
}

/* --- what happens -------------------------------------------------------------------------- */

static void conn_received(struct perf_conn *conn, const struct rdma_wc *wc)
{
    const uint8_t *head = conn->buffers->heads[wc->wr_id];

    switch (conn->state) {
    case PERF_CONN_NEW:
        perf_session_open(conn, head, wc->len_bytes);
        break;
    case PERF_CONN_CONTROL:
        perf_control_received(conn, head, wc->len_bytes);
        break;
    case PERF_CONN_DATA:
    case PERF_CONN_STREAM:
    case PERF_CONN_PING_PONG:
        perf_data_received(conn, wc->len_bytes);
        break;
    case PERF_CONN_FREE:
    case PERF_CONN_CLOSING:
    default:
        break;
    }
}

static void conn_completed(struct perf_conn *conn, const struct rdma_wc *wc)
{
    if (conn->is_over) {
        return;
    }
    if (wc->status != RDMA_WC_SUCCESS) {
        conn->is_over = true;
        if (wc->status != RDMA_WC_WR_FLUSH_ERR) { /* else the peer went away */
            perf_conn_fail(conn, &conn->perf->stats.errors,
                           rdma_wc_status_text((enum rdma_wc_status)wc->status));
        }
        return;
    }
    conn->heard_ns = sched_now_ns();
    if (wc->wr_id == WR_SEND) {
        conn->send_under_way--;
        return;
    }
    conn_received(conn, wc);
}

/* Receives that are used up are posted again, those of neighbours in the batch together. */
static void completed(const struct rdma_wc *wcs, uint32_t count)
{
    struct chain chain = {.count = 0};
    struct perf_conn *conn = NULL;

    for (uint32_t i = 0; i < count; i++) {
        if (wcs[i].qp->ctx != conn || chain.count == CHAIN) {
            if (chain.count > 0) {
                chain_post(&chain, conn);
            }
            conn = wcs[i].qp->ctx;
        }
        conn_completed(conn, &wcs[i]);
        if (wcs[i].status == RDMA_WC_SUCCESS && wcs[i].wr_id < PERF_RECVS && !conn->is_over) {
            chain_add(&chain, conn, wcs[i].wr_id);
        }
    }
    if (chain.count > 0) {
        chain_post(&chain, conn);
    }
}

/* --- requests ------------------------------------------------------------------------------ */

static struct perf_conn *conn_get(struct diag_perf *perf)
{
    struct perf_conn *oldest = &perf->conns[0];

    for (uint32_t i = 0; i < LIMIT_PERF_CONNS; i++) {
        struct perf_conn *conn = &perf->conns[i];
        if (conn->state == PERF_CONN_FREE) {
            return conn;
        }
        if (conn->heard_ns < oldest->heard_ns) {
            oldest = conn;
        }
    }
    if (sched_now_ns() - oldest->heard_ns < PERF_IDLE_NS) {
        return NULL;
    }
    counter_add(&perf->stats.evicted, 1);
    conn_close(oldest);
    return oldest->state == PERF_CONN_FREE ? oldest : NULL;
}

static enum status conn_accept(struct perf_conn *conn, struct rdma_cm_id *id,
                               const struct rdma_cm_event *request)
{
    struct diag_conn_config config = conn_config(conn->perf->pd, conn->perf->cq);

    enum status status = diag_conn_open(&conn->link, id, &config, ACCESS, conn);
    if (status != STATUS_OK) {
        return status;
    }
    recvs_post_all(conn);
    struct rdma_cm_param param = diag_accept_param(&conn->link, request, ACCESS);
    return conn->is_over ? STATUS_IO : rdma_cm_accept(id, &param);
}

static void conn_start(struct diag_perf *perf, struct rdma_cm_id *id,
                       const struct rdma_cm_event *event)
{
    struct perf_conn *conn = conn_get(perf);
    if (conn == NULL) {
        counter_add(&perf->stats.refused, 1);
        rdma_cm_destroy(id);
        return;
    }
    perf->conn_count++;
    conn->state = PERF_CONN_NEW;
    conn->is_over = false;
    conn->session = NULL;
    conn->reply_bytes = 0;
    conn->send_count = 0;
    conn->send_under_way = 0;
    conn->answers_due = 0;
    conn->heard_ns = sched_now_ns();
    conn->rx_packets = 0;
    enum status status = conn_accept(conn, id, event);
    if (status != STATUS_OK) {
        if (conn->link.id == NULL) {
            rdma_cm_destroy(id);
        }
        perf_conn_fail(conn, &perf->stats.errors, status_text(status));
        return;
    }
    counter_add(&perf->stats.connections, 1);
}

static void cm_event(struct rdma_cm_id *id, const struct rdma_cm_event *event)
{
    switch (event->type) {
    case RDMA_CM_EVENT_REQUEST:
        conn_start(event->listener->ctx, id, event);
        break;
    case RDMA_CM_EVENT_DISCONNECTED:
    case RDMA_CM_EVENT_UNREACHABLE:
    case RDMA_CM_EVENT_REJECTED:
        ((struct perf_conn *)id->ctx)->is_over = true;
        break;
    case RDMA_CM_EVENT_ESTABLISHED:
    case RDMA_CM_EVENT_TIMEWAIT_EXIT:
    case RDMA_CM_EVENT_RESOLVED:
    default:
        break;
    }
}

/* --- poller -------------------------------------------------------------------------------- */

static uint32_t conn_run(struct perf_conn *conn)
{
    if (conn->state == PERF_CONN_FREE) {
        return 0;
    }
    if (conn->is_over) {
        conn_close(conn);
        return 0;
    }
    return conn->state == PERF_CONN_CONTROL ? perf_control_run(conn) : perf_data_run(conn);
}

static uint32_t perf_run(void *ctx)
{
    struct diag_perf *perf = ctx;
    struct rdma_wc wcs[BATCH];

    if (LIKELY(perf->conn_count + perf->session_count == 0)) {
        return 0;
    }
    uint32_t work = rdma_cq_poll(perf->cq, wcs, BATCH);
    completed(wcs, work);
    for (uint32_t i = 0; i < LIMIT_PERF_CONNS; i++) {
        work += conn_run(&perf->conns[i]);
    }
    for (uint32_t i = 0; i < LIMIT_PERF_SESSIONS; i++) {
        work += perf_session_run(&perf->sessions[i]);
    }
    return work;
}

/* What may be posted or destroyed only later is tried again. */
static uint64_t perf_arm(void *ctx, bool armed)
{
    const struct diag_perf *perf = ctx;
    (void)armed;
    return perf->conn_count + perf->session_count == 0 ? UINT64_MAX : LOOK_NS;
}

/* Connections on which packets arrived are not idle, nor is the control connection of their
 * session. */
static void sweep(struct timer *timer)
{
    struct diag_perf *perf = CONTAINER_OF(timer, struct diag_perf, sweep_timer);
    uint64_t now_ns = sched_now_ns();

    for (uint32_t i = 0; i < LIMIT_PERF_CONNS; i++) {
        struct perf_conn *conn = &perf->conns[i];
        struct rdma_qp_info info;
        if (conn->state == PERF_CONN_FREE || conn->state == PERF_CONN_CLOSING || conn->is_over) {
            continue;
        }
        rdma_qp_query(conn->link.qp, &info);
        if (info.stats.rx_packets == conn->rx_packets) {
            continue;
        }
        conn->rx_packets = info.stats.rx_packets;
        for (uint32_t k = 0; k < LIMIT_PERF_CONNS; k++) {
            struct perf_conn *other = &perf->conns[k];
            if (other == conn || (conn->session != NULL && other->session == conn->session)) {
                other->heard_ns = now_ns;
            }
        }
    }
    timer_arm(timer, now_ns + SWEEP_NS);
}

/* --- start --------------------------------------------------------------------------------- */

static enum status mr_make(struct diag_perf *perf, void *memory, uint64_t len_bytes,
                           struct rdma_mr **out)
{
    struct rdma_mr_attr attr = {.kind = RDMA_MR_NIC,
                                .access = RDMA_ACCESS_LOCAL_WRITE,
                                .memory = memory,
                                .len_bytes = len_bytes};

    return rdma_mr_reg(perf->pd, &attr, out);
}

static enum status make_objects(struct diag_perf *perf, const struct layout *layout)
{
    struct rdma_cq_attr cq = {.entry_count = CQ_ENTRIES, .memory = layout->cq, .ctx = perf};

    enum status status = rdma_pd_alloc(perf->device, NO_TENANT, &perf->pd);
    if (status == STATUS_OK) {
        status = rdma_cq_create(perf->device, &cq, &perf->cq);
    }
    if (status == STATUS_OK) {
        status = mr_make(perf, layout->buffers, LIMIT_PERF_CONNS * sizeof(struct perf_buffers),
                         &perf->buffers_mr);
    }
    if (status == STATUS_OK) {
        status = mr_make(perf, layout->sink, perf->len_bytes, &perf->sink_mr);
    }
    return status;
}

/* What was made so far goes again: nothing was posted, so nothing can be busy. */
static enum status undo(struct diag_perf *perf, enum status status)
{
    bool is_gone = (perf->sink_mr == NULL || rdma_mr_dereg(perf->sink_mr) == STATUS_OK) &&
                   (perf->buffers_mr == NULL || rdma_mr_dereg(perf->buffers_mr) == STATUS_OK) &&
                   (perf->cq == NULL || rdma_cq_destroy(perf->cq) == STATUS_OK) &&
                   (perf->pd == NULL || rdma_pd_free(perf->pd) == STATUS_OK);
    ASSERT(is_gone);
    return status;
}

static void init_parts(struct diag_perf *perf, const struct layout *layout)
{
    for (uint32_t i = 0; i < LIMIT_PERF_CONNS; i++) {
        struct perf_conn *conn = &perf->conns[i];
        conn->perf = perf;
        conn->buffers = &layout->buffers[i];
        conn->link.qp_memory = layout->qps + i * layout->qp_bytes;
        timer_init(&conn->timer, perf_data_timer);
    }
    for (uint32_t i = 0; i < LIMIT_PERF_SESSIONS; i++) {
        perf->sessions[i].perf = perf;
        perf->sessions[i].memory = layout->sessions + (uint64_t)i * perf->len_bytes;
    }
}

enum status diag_perf_init(void *memory, const struct diag_perf_config *config,
                           struct diag_perf **out)
{
    static const struct net_addr any;
    struct layout layout;

    if (config->len_bytes < 4096 || !is_aligned(config->len_bytes, 4096)) {
        return STATUS_INVALID;
    }
    lay_out(memory, config, &layout);
    struct diag_perf *perf = layout.perf;
    memset(perf, 0, sizeof(*perf));
    perf->device = config->device;
    perf->len_bytes = config->len_bytes;
    perf->sink = layout.sink;
    init_parts(perf, &layout);
    enum status status = make_objects(perf, &layout);
    if (status == STATUS_OK) {
        status = rdma_cm_listen(config->device, &any, config->port, LIMIT_PERF_CONNS, cm_event,
                                perf, &perf->listener);
    }
    if (status != STATUS_OK) {
        return undo(perf, status);
    }
    perf->poller = (struct poller){.name = "perf", .run = perf_run, .arm = perf_arm, .ctx = perf};
    sched_poller_add(&perf->poller);
    timer_init(&perf->sweep_timer, sweep);
    timer_arm(&perf->sweep_timer, sched_now_ns() + SWEEP_NS);
    *out = perf;
    return STATUS_OK;
}

const struct diag_perf_stats *diag_perf_stats(const struct diag_perf *perf)
{
    return &perf->stats;
}

bool diag_perf_is_quiet(const struct diag_perf *perf)
{
    return perf->conn_count == 0 && perf->session_count == 0;
}
