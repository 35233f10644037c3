/*
 * rping's client: one run at a time, its data checked after each ping.
 *
 * A ping ends by the server's two go-aheads. A server that is connected but silent is given up when
 * the run's time-out passes, one that vanished after the retries of the transport.
 */
#include "diag/diag_rping.h"

#include <string.h>
#include "base/assert.h"
#include "base/bits.h"
#include "diag/diag_conn_priv.h"
#include "diag/diag_rping_priv.h"
#include "hal/clock.h"
#include "rdma/cm.h"
#include "sched/sched.h"

#define RECVS      2
#define SENDS      4
#define DATA_BYTES (DIAG_RPING_HIGH_BYTES + 1)
#define BATCH      8
#define LOOK_NS    NS_PER_MS
#define STEPS      4
#define READS      1 /* of ours that the server may have under way */
#define NO_TENANT  0
#define WR_SEND    RECVS

#define CLIENT_STATE_LIST(X)                                 \
    X(IDLE, "no run")                                        \
    X(RESOLVING, "the way to the server is looked for")      \
    X(CONNECTING, "the server is asked")                     \
    X(SOURCE, "the server is to be told where our data are") \
    X(FETCH, "the server fetches them")                      \
    X(SINK, "the server is to be told where to put them")    \
    X(PUT, "the server puts them there")                     \
    X(CLOSING, "over; the device still reads our memory")

enum client_state {
#define CLIENT_STATE_ENUM(name, text) CLIENT_##name,
    CLIENT_STATE_LIST(CLIENT_STATE_ENUM)
#undef CLIENT_STATE_ENUM
    CLIENT_STATE_COUNT
};

struct client_buffers {
    struct diag_rping_info recvs[RECVS]; /* go-aheads */
    struct diag_rping_info source_info;
    struct diag_rping_info sink_info;
    uint8_t source[DATA_BYTES];
    uint8_t sink[DATA_BYTES];
};

struct diag_rping_client {
    struct rdma_device *device;
    struct rdma_pd *pd;
    struct rdma_cq *cq;
    struct rdma_mr *mr;        /* messages: nobody else's */
    struct rdma_mr *source_mr; /* what the server may read ... */
    struct rdma_mr *sink_mr;   /* ... and write */
    struct client_buffers *buffers;
    struct diag_conn link;
    struct rdma_cm_id *id; /* until link has it */
    struct poller poller;
    struct timer timer;
    enum client_state state;
    bool is_over;            /* result.end says why */
    uint32_t go_ahead_count; /* not yet looked at */
    struct diag_rping_run run;
    struct diag_rping_result result;
    uint64_t begin_ns; /* of this ping */
};

/* --- memory -------------------------------------------------------------------------------- */

#define CQ_ENTRIES (SENDS + RECVS)

static struct diag_conn_config conn_config(struct rdma_pd *pd, struct rdma_cq *cq)
{
    return (struct diag_conn_config){.pd = pd,
                                     .cq = cq,
                                     .send_wr_count = SENDS,
                                     .recv_wr_count = RECVS,
                                     .send_sge_count = 1,
                                     .recv_sge_count = 1};
}

struct layout {
    struct diag_rping_client *client;
    void *cq;
    struct client_buffers *buffers;
    void *qp;
};

static uint64_t lay_out(uint8_t *memory, struct rdma_device *device, struct layout *out)
{
    struct diag_cut cut = {.next = memory};
    struct rdma_pd pd = {.device = device};
    struct diag_conn_config config = conn_config(&pd, NULL);

    out->client = diag_cut(&cut, sizeof(struct diag_rping_client));
    out->cq = diag_cut(&cut, rdma_cq_memory_bytes(device, CQ_ENTRIES));
    out->buffers = diag_cut(&cut, sizeof(struct client_buffers));
    out->qp = diag_cut(&cut, diag_conn_memory_bytes(&config));
    return cut.bytes;
}

uint64_t diag_rping_client_memory_bytes(struct rdma_device *device)
{
    struct layout layout;

    return lay_out(NULL, device, &layout);
}

/* --- ends ---------------------------------------------------------------------------------- */

static void give_up(struct diag_rping_client *client, enum diag_rping_end end)
{
    if (!client->is_over) {
        client->is_over = true;
        client->result.end = end;
    }
}

static void timed_out(struct timer *timer)
{
    give_up(CONTAINER_OF(timer, struct diag_rping_client, timer), DIAG_RPING_TIMED_OUT);
}

static enum client_state client_close(struct diag_rping_client *client)
{
    timer_cancel(&client->timer);
    if (client->id != NULL) {
        rdma_cm_destroy(client->id);
        client->id = NULL;
    }
    if (!diag_conn_close(&client->link)) {
        return CLIENT_CLOSING;
    }
    client->state = CLIENT_IDLE; /* the callback may start the next run */
    client->is_over = false;
    struct diag_rping_result result = client->result;
    client->run.done(client->run.ctx, &result);
    return client->state;
}

/* --- states -------------------------------------------------------------------------------- */

typedef enum client_state state_fn(struct diag_rping_client *client);

static enum client_state post_info(struct diag_rping_client *client,
                                   const struct diag_rping_info *info, enum client_state next)
{
    struct rdma_sge sge = {
        .addr = (uintptr_t)info, .len_bytes = sizeof(*info), .lkey = client->mr->lkey};
    struct rdma_send_wr wr = {.wr_id = WR_SEND,
                              .sges = &sge,
                              .sge_count = 1,
                              .opcode = RDMA_WR_SEND,
                              .flags = RDMA_SEND_SIGNALED};

    return rdma_post_send(client->link.qp, &wr, NULL) == STATUS_OK ? next : client->state;
}

static enum client_state state_wait(struct diag_rping_client *client)
{
    return client->state;
}

static enum client_state state_source(struct diag_rping_client *client)
{
    return post_info(client, &client->buffers->source_info, CLIENT_FETCH);
}

static bool take_go_ahead(struct diag_rping_client *client)
{
    if (client->go_ahead_count == 0) {
        return false;
    }
    client->go_ahead_count--;
    return true;
}

static enum client_state state_fetch(struct diag_rping_client *client)
{
    return take_go_ahead(client) ? CLIENT_SINK : CLIENT_FETCH;
}

static enum client_state state_sink(struct diag_rping_client *client)
{
    return post_info(client, &client->buffers->sink_info, CLIENT_PUT);
}

static void ping_begin(struct diag_rping_client *client)
{
    client->begin_ns = clock_now_ns();
    memset(client->buffers->sink, 0, client->run.len_bytes);
    diag_rping_pattern(client->buffers->source, client->run.len_bytes, client->result.pings);
    timer_arm(&client->timer, client->begin_ns + client->run.timeout_ms * NS_PER_MS);
}

static void ping_end(struct diag_rping_client *client)
{
    struct diag_rping_result *result = &client->result;
    uint64_t took_ns = clock_now_ns() - client->begin_ns;

    result->low_ns = result->pings == 0 ? took_ns : min_u64(result->low_ns, took_ns);
    result->high_ns = max_u64(result->high_ns, took_ns);
    result->sum_ns += took_ns;
    result->pings++;
    if (memcmp(client->buffers->source, client->buffers->sink, client->run.len_bytes) != 0) {
        result->mismatches++;
    }
}

static enum client_state state_put(struct diag_rping_client *client)
{
    if (!take_go_ahead(client)) {
        return CLIENT_PUT;
    }
    ping_end(client);
    if (client->result.pings == client->run.count) {
        give_up(client, DIAG_RPING_DONE);
        return CLIENT_PUT;
    }
    ping_begin(client);
    return CLIENT_SOURCE;
}

static state_fn *const states[CLIENT_STATE_COUNT] = {
    [CLIENT_IDLE] = state_wait,       [CLIENT_RESOLVING] = state_wait,
    [CLIENT_CONNECTING] = state_wait, [CLIENT_SOURCE] = state_source,
    [CLIENT_FETCH] = state_fetch,     [CLIENT_SINK] = state_sink,
    [CLIENT_PUT] = state_put,         [CLIENT_CLOSING] = client_close,
};

/* --- what happens -------------------------------------------------------------------------- */

static enum status recv_post(struct diag_rping_client *client, uint64_t index)
{
    struct rdma_sge sge = {.addr = (uintptr_t)&client->buffers->recvs[index],
                           .len_bytes = sizeof(struct diag_rping_info),
                           .lkey = client->mr->lkey};
    struct rdma_recv_wr wr = {.wr_id = index, .sges = &sge, .sge_count = 1};

    return rdma_post_recv(client->link.qp, &wr, NULL);
}

static void completed(struct diag_rping_client *client, const struct rdma_wc *wc)
{
    if (wc->status != RDMA_WC_SUCCESS) {
        give_up(client, DIAG_RPING_DISCONNECTED);
    } else if (wc->wr_id < RECVS) {
        client->go_ahead_count++;
        if (recv_post(client, wc->wr_id) != STATUS_OK) {
            give_up(client, DIAG_RPING_DISCONNECTED);
        }
    }
}

static enum status connect_now(struct diag_rping_client *client)
{
    struct diag_conn_config config = conn_config(client->pd, client->cq);
    uint8_t access = RDMA_ACCESS_REMOTE_READ | RDMA_ACCESS_REMOTE_WRITE;

    enum status status = diag_conn_open(&client->link, client->id, &config, access, client);
    if (status != STATUS_OK) {
        return status;
    }
    struct rdma_cm_id *id = client->id;
    client->id = NULL; /* it is link's now */
    for (uint64_t i = 0; status == STATUS_OK && i < RECVS; i++) {
        status = recv_post(client, i);
    }
    struct rdma_cm_param param = {
        .qp = client->link.qp,
        .responder_resources = READS,
        .initiator_depth = READS,
        .retry_count = 7,
        .rnr_retry_count = 7,
        .access = access,
    };
    return status == STATUS_OK ? rdma_cm_connect(id, &param) : status;
}

static void cm_event(struct rdma_cm_id *id, const struct rdma_cm_event *event)
{
    struct diag_rping_client *client = id->ctx;

    switch (event->type) {
    case RDMA_CM_EVENT_RESOLVED:
        if (!client->is_over && client->state == CLIENT_RESOLVING) {
            client->state = CLIENT_CONNECTING;
            if (connect_now(client) != STATUS_OK) {
                give_up(client, DIAG_RPING_NO_RESOURCES);
            }
        }
        break;
    case RDMA_CM_EVENT_ESTABLISHED:
        if (!client->is_over && client->state == CLIENT_CONNECTING) {
            client->state = CLIENT_SOURCE;
            ping_begin(client);
        }
        break;
    case RDMA_CM_EVENT_UNREACHABLE:
        give_up(client, DIAG_RPING_UNREACHABLE);
        break;
    case RDMA_CM_EVENT_REJECTED:
        give_up(client, DIAG_RPING_REJECTED);
        break;
    case RDMA_CM_EVENT_DISCONNECTED:
        give_up(client, DIAG_RPING_DISCONNECTED);
        break;
    case RDMA_CM_EVENT_REQUEST:
    case RDMA_CM_EVENT_TIMEWAIT_EXIT:
    default:
        break;
    }
}

/* --- poller -------------------------------------------------------------------------------- */

static uint32_t client_run(void *ctx)
{
    struct diag_rping_client *client = ctx;
    struct rdma_wc wcs[BATCH];

    if (LIKELY(client->state == CLIENT_IDLE)) {
        return 0;
    }
    uint32_t work = rdma_cq_poll(client->cq, wcs, BATCH);
    for (uint32_t i = 0; i < work; i++) {
        completed(client, &wcs[i]);
    }
    for (uint32_t i = 0; i < STEPS; i++) {
        enum client_state before = client->state;
        client->state = client->is_over ? client_close(client) : states[client->state](client);
        if (client->state == before) {
            break;
        }
        work++;
    }
    return work;
}

static uint64_t client_arm(void *ctx, bool armed)
{
    const struct diag_rping_client *client = ctx;
    (void)armed;
    return client->state == CLIENT_IDLE ? UINT64_MAX : LOOK_NS;
}

/* --- start --------------------------------------------------------------------------------- */

static void make_infos(struct diag_rping_client *client, uint32_t len_bytes)
{
    struct client_buffers *buffers = client->buffers;

    buffers->source_info = (struct diag_rping_info){
        .addr = be64_make((uintptr_t)buffers->source),
        .rkey = be32_make(client->source_mr->rkey),
        .len_bytes = be32_make(len_bytes),
    };
    buffers->sink_info = (struct diag_rping_info){
        .addr = be64_make((uintptr_t)buffers->sink),
        .rkey = be32_make(client->sink_mr->rkey),
        .len_bytes = be32_make(len_bytes),
    };
}

enum status diag_rping_client_start(struct diag_rping_client *client,
                                    const struct diag_rping_run *run)
{
    if (client->state != CLIENT_IDLE) {
        return STATUS_AGAIN;
    }
    if (run->count == 0 || run->timeout_ms == 0 || run->len_bytes < DIAG_RPING_LOW_BYTES ||
        run->len_bytes > DIAG_RPING_HIGH_BYTES) {
        return STATUS_INVALID;
    }
    enum status status =
        rdma_cm_resolve(client->device, &run->addr, run->port, cm_event, client, &client->id);
    if (status != STATUS_OK) {
        client->id = NULL;
        return status;
    }
    client->run = *run;
    client->result = (struct diag_rping_result){0};
    client->go_ahead_count = 0;
    client->is_over = false;
    make_infos(client, run->len_bytes);
    client->state = CLIENT_RESOLVING;
    return STATUS_OK;
}

void diag_rping_client_stop(struct diag_rping_client *client)
{
    if (client->state != CLIENT_IDLE) {
        give_up(client, DIAG_RPING_DISCONNECTED);
    }
}

static enum status mr_make(struct diag_rping_client *client, void *memory, uint64_t len_bytes,
                           uint32_t access, struct rdma_mr **out)
{
    struct rdma_mr_attr attr = {
        .kind = RDMA_MR_NIC, .access = access, .memory = memory, .len_bytes = len_bytes};

    return rdma_mr_reg(client->pd, &attr, out);
}

static enum status make_objects(struct diag_rping_client *client, void *cq_memory)
{
    struct client_buffers *buffers = client->buffers;
    struct rdma_cq_attr cq = {.entry_count = CQ_ENTRIES, .memory = cq_memory, .ctx = client};

    enum status status = rdma_pd_alloc(client->device, NO_TENANT, &client->pd);
    if (status == STATUS_OK) {
        status = rdma_cq_create(client->device, &cq, &client->cq);
    }
    if (status == STATUS_OK) {
        status = mr_make(client, buffers, offsetof(struct client_buffers, source),
                         RDMA_ACCESS_LOCAL_WRITE, &client->mr);
    }
    if (status == STATUS_OK) {
        status = mr_make(client, buffers->source, DATA_BYTES, RDMA_ACCESS_REMOTE_READ,
                         &client->source_mr);
    }
    if (status == STATUS_OK) {
        status = mr_make(client, buffers->sink, DATA_BYTES,
                         RDMA_ACCESS_LOCAL_WRITE | RDMA_ACCESS_REMOTE_WRITE, &client->sink_mr);
    }
    return status;
}

static bool mr_is_gone(struct rdma_mr *mr)
{
    return mr == NULL || rdma_mr_dereg(mr) == STATUS_OK;
}

enum status diag_rping_client_init(void *memory, struct rdma_device *device,
                                   struct diag_rping_client **out)
{
    struct layout layout;

    lay_out(memory, device, &layout);
    struct diag_rping_client *client = layout.client;
    memset(client, 0, sizeof(*client));
    client->device = device;
    client->buffers = layout.buffers;
    client->link.qp_memory = layout.qp;
    timer_init(&client->timer, timed_out);
    enum status status = make_objects(client, layout.cq);
    if (status != STATUS_OK) {
        /* Nothing was posted, so nothing can be busy. */
        bool is_gone = mr_is_gone(client->sink_mr) && mr_is_gone(client->source_mr) &&
                       mr_is_gone(client->mr) &&
                       (client->cq == NULL || rdma_cq_destroy(client->cq) == STATUS_OK) &&
                       (client->pd == NULL || rdma_pd_free(client->pd) == STATUS_OK);
        ASSERT(is_gone);
        return status;
    }
    client->poller = (struct poller){
        .name = "rping client", .run = client_run, .arm = client_arm, .ctx = client};
    sched_poller_add(&client->poller);
    *out = client;
    return STATUS_OK;
}
