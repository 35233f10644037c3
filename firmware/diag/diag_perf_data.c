/*
 * Data connections of the perftest server: SENDs. READs and WRITEs go by without us.
 *
 * ib_send_lat waits for an answer after each of its SENDs, ib_send_bw sends on and has nothing to
 * receive an answer with. So when the first SEND stays alone for a while, it is answered, and so is
 * each that follows, until answers are not taken: then it was the other test, whose packets were
 * slow; the answers that are too many wait at a peer that posts no receive.
 */
#include "diag/diag_perf_priv.h"

#include "hal/clock.h"

#define ALONE_NS (UINT64_C(5) * NS_PER_MS)
/* Answers not acknowledged while SENDs still come. One may be when its acknowledgement is lost; the
 * next one then serves for both. */
#define NOT_TAKEN 4

void perf_data_timer(struct timer *timer)
{
    struct perf_conn *conn = CONTAINER_OF(timer, struct perf_conn, timer);

    if (conn->state == PERF_CONN_DATA) {
        conn->state = PERF_CONN_PING_PONG;
    }
}

void perf_data_received(struct perf_conn *conn, uint32_t len_bytes)
{
    counter_add(&conn->perf->stats.messages, 1);
    counter_add(&conn->perf->stats.bytes, len_bytes);
    if (conn->state == PERF_CONN_STREAM) {
        return;
    }
    conn->answers_due++;
    conn->answer_bytes = len_bytes;
    if (conn->answers_due > 1 || conn->send_under_way >= NOT_TAKEN) {
        conn->state = PERF_CONN_STREAM;
        timer_cancel(&conn->timer);
    } else if (conn->state == PERF_CONN_DATA) {
        timer_arm(&conn->timer, sched_now_ns() + ALONE_NS);
    }
}

uint32_t perf_data_run(struct perf_conn *conn)
{
    if (conn->state != PERF_CONN_PING_PONG || conn->answers_due == 0) {
        return 0;
    }
    struct rdma_sge sge = {
        .addr = (uintptr_t)conn->session->memory, /* zeros: nobody writes in this test */
        .len_bytes = conn->answer_bytes,
        .lkey = conn->session->mr->lkey,
    };
    struct rdma_send_wr wr = {.sges = &sge, .sge_count = 1, .opcode = RDMA_WR_SEND};
    if (!perf_post(conn, &wr)) {
        return 0;
    }
    conn->answers_due = 0;
    counter_add(&conn->perf->stats.answers, 1);
    return 1;
}
