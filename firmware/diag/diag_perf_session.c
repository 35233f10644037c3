/*
 * Sessions of the perftest server: the control protocol and the memory of a client.
 */
#include "diag/diag_perf_priv.h"

#include <string.h>
#include "base/bits.h"

#define CLEAN_BYTES 65536 /* in a turn */

/* --- control ------------------------------------------------------------------------------- */

static bool is_version(const uint8_t *text, uint32_t len_bytes)
{
    uint32_t at = 0;

    if (len_bytes != PERF_VERSION_BYTES || text[len_bytes - 1] != 0) {
        return false;
    }
    while (text[at] >= '0' && text[at] <= '9') {
        at++;
    }
    if (at == 0 || text[at] != '.') {
        return false;
    }
    return text[at + 1] >= '0' && text[at + 1] <= '9';
}

/* NULL: all are taken. One that is idle goes then, for who comes next. */
static struct perf_session *session_get(struct diag_perf *perf)
{
    for (uint32_t i = 0; i < LIMIT_PERF_SESSIONS; i++) {
        if (perf->sessions[i].state == PERF_SESSION_FREE) {
            return &perf->sessions[i];
        }
    }
    for (uint32_t i = 0; i < LIMIT_PERF_CONNS; i++) {
        struct perf_conn *conn = &perf->conns[i];
        if (conn->state == PERF_CONN_CONTROL && !conn->is_over &&
            sched_now_ns() - conn->heard_ns >= PERF_IDLE_NS) {
            counter_add(&perf->stats.evicted, 1);
            conn->is_over = true;
            break;
        }
    }
    return NULL;
}

void perf_session_open(struct perf_conn *conn, const uint8_t *head, uint32_t len_bytes)
{
    struct diag_perf *perf = conn->perf;

    if (!is_version(head, len_bytes)) {
        perf_conn_fail(conn, &perf->stats.protocol_errors, "neither control nor anybody's data");
        return;
    }
    struct perf_session *session = session_get(perf);
    if (session == NULL) {
        perf_conn_fail(conn, &perf->stats.refused, "as many clients as there may be");
        return;
    }
    struct rdma_mr_attr attr = {
        .kind = RDMA_MR_NIC,
        .access = RDMA_ACCESS_LOCAL_WRITE | RDMA_ACCESS_REMOTE_WRITE | RDMA_ACCESS_REMOTE_READ,
        .memory = session->memory,
        .len_bytes = perf->len_bytes,
    };
    enum status status = rdma_mr_reg(perf->pd, &attr, &session->mr);
    if (status != STATUS_OK) {
        perf_conn_fail(conn, &perf->stats.errors, status_text(status));
        return;
    }
    session->state = PERF_SESSION_BUSY;
    perf->session_count++;
    counter_add(&perf->stats.sessions, 1);
    conn->session = session;
    conn->state = PERF_CONN_CONTROL;
    perf_control_received(conn, head, len_bytes);
}

/* The data connection of the same client whose QP at the client has this number. */
static struct perf_conn *find_data(const struct perf_conn *control, uint32_t qpn)
{
    struct diag_perf *perf = control->perf;

    for (uint32_t i = 0; i < LIMIT_PERF_CONNS; i++) {
        struct perf_conn *conn = &perf->conns[i];
        struct rdma_qp_info info;
        bool is_candidate = conn->state == PERF_CONN_NEW ||
                            (conn->state >= PERF_CONN_DATA && conn->session == control->session &&
                             conn->state != PERF_CONN_CLOSING);
        if (!is_candidate || conn->is_over ||
            !net_addr_equal(&conn->link.id->peer, &control->link.id->peer)) {
            continue;
        }
        rdma_qp_query(conn->link.qp, &info);
        if (info.attr.dest_qpn == qpn) {
            return conn;
        }
    }
    return NULL;
}

static void answer_dest(struct perf_conn *conn, struct perf_dest *reply)
{
    const struct perf_session *session = conn->session;
    uint32_t qpn = be32_get(reply->qpn);
    struct perf_conn *data = qpn == 0 ? NULL : find_data(conn, qpn);

    if (data != NULL && data->state == PERF_CONN_NEW) {
        data->state = PERF_CONN_DATA;
        data->session = conn->session;
    }
    reply->lid = be32_make(0);
    reply->qpn = be32_make(data == NULL ? 0 : data->link.qp->num);
    reply->psn = be32_make(0);
    reply->rkey = be32_make(session->mr->rkey);
    reply->addr = be64_make((uintptr_t)session->memory);
    memcpy(reply->gid, conn->link.id->local.bytes, sizeof(reply->gid));
    reply->srqn = be32_make(0);
}

void perf_control_received(struct perf_conn *conn, const uint8_t *head, uint32_t len_bytes)
{
    if (len_bytes == 0 || len_bytes > sizeof(struct perf_dest) || conn->reply_bytes != 0) {
        perf_conn_fail(conn, &conn->perf->stats.protocol_errors, "a control message out of turn");
        return;
    }
    uint8_t *reply = conn->buffers->replies[conn->send_count % PERF_SENDS];
    memcpy(reply, head, len_bytes);
    if (len_bytes == sizeof(struct perf_dest)) {
        struct perf_dest dest;
        memcpy(&dest, head, sizeof(dest));
        answer_dest(conn, &dest);
        memcpy(reply, &dest, sizeof(dest));
    }
    conn->reply_bytes = (uint8_t)len_bytes;
}

uint32_t perf_control_run(struct perf_conn *conn)
{
    if (conn->reply_bytes == 0) {
        return 0;
    }
    struct rdma_sge sge = {
        .addr = (uintptr_t)conn->buffers->replies[conn->send_count % PERF_SENDS],
        .len_bytes = conn->reply_bytes,
        .lkey = conn->perf->buffers_mr->lkey,
    };
    struct rdma_send_wr wr = {.sges = &sge, .sge_count = 1, .opcode = RDMA_WR_SEND};
    if (!perf_post(conn, &wr)) {
        return 0;
    }
    conn->reply_bytes = 0;
    return 1;
}

/* --- end ----------------------------------------------------------------------------------- */

void perf_session_close(struct perf_session *session)
{
    struct diag_perf *perf = session->perf;

    for (uint32_t i = 0; i < LIMIT_PERF_CONNS; i++) {
        struct perf_conn *conn = &perf->conns[i];
        if (conn->session == session) {
            conn->is_over = true;
        }
    }
    session->state = PERF_SESSION_RETIRING;
}

/* The keys die at the first call. */
static uint32_t retire(struct perf_session *session)
{
    if (rdma_mr_dereg(session->mr) != STATUS_OK) {
        return 0;
    }
    session->mr = NULL;
    session->cleaned_bytes = 0;
    session->state = PERF_SESSION_CLEANING;
    return 1;
}

static uint32_t clean(struct perf_session *session)
{
    uint32_t len_bytes = session->perf->len_bytes;
    uint32_t part_bytes = min_u32(CLEAN_BYTES, len_bytes - session->cleaned_bytes);

    memset(session->memory + session->cleaned_bytes, 0, part_bytes);
    session->cleaned_bytes += part_bytes;
    if (session->cleaned_bytes == len_bytes) {
        session->state = PERF_SESSION_FREE;
        session->perf->session_count--;
    }
    return 1;
}

uint32_t perf_session_run(struct perf_session *session)
{
    switch (session->state) {
    case PERF_SESSION_RETIRING:
        return retire(session);
    case PERF_SESSION_CLEANING:
        return clean(session);
    case PERF_SESSION_FREE:
    case PERF_SESSION_BUSY:
    default:
        return 0;
    }
}
