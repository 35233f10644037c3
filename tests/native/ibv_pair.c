/*
 * See ibv_pair.h.
 */
#include "tests/native/ibv_pair.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "hal/clock.h"
#include "sched/sched.h"

#define PORT 7471

static const char request_text[] = "request of the active side";
static const char reply_text[] = "reply of the passive side";
static const char reject_text[] = "not today";

uint64_t now_ms(void)
{
    return clock_now_ns() / NS_PER_MS;
}

static void collect(struct side *side)
{
    if (side != NULL && side->cq != NULL) {
        side->wc_count +=
            rdma_cq_poll(side->cq, &side->wcs[side->wc_count], PAIR_WCS - side->wc_count);
    }
}

void turn(struct side *a, struct side *b)
{
    sched_turn();
    collect(a);
    collect(b);
}

bool take(struct pair *pair, struct side *side, struct rdma_wc *wc)
{
    if (!WAIT(&pair->a, &pair->b, side->wc_count > 0)) {
        printf("     no completion in time\n");
        return false;
    }
    *wc = side->wcs[0];
    side->wc_count--;
    memmove(side->wcs, side->wcs + 1, side->wc_count * sizeof(side->wcs[0]));
    return true;
}

bool take_status(struct pair *pair, struct side *side, enum rdma_wc_status status,
                 struct rdma_wc *wc)
{
    if (!take(pair, side, wc)) {
        return false;
    }
    if (wc->status != (uint8_t)status) {
        printf("     status %u instead of %u (wr_id %llx)\n", (unsigned)wc->status,
               (unsigned)status, (unsigned long long)wc->wr_id);
        return false;
    }
    return true;
}

struct rdma_sge sge(const struct side *side, uint32_t offset, uint32_t len_bytes)
{
    return (struct rdma_sge){(uint64_t)(uintptr_t)(side->buffer + offset), len_bytes,
                             side->mr->lkey};
}

bool post_recv(struct side *side, uint64_t wr_id, uint32_t offset, uint32_t len_bytes)
{
    struct rdma_sge entry = sge(side, offset, len_bytes);
    struct rdma_recv_wr wr = {.wr_id = wr_id, .sges = &entry, .sge_count = 1};

    return side->srq != NULL ? rdma_srq_post(side->srq, &wr, NULL) == STATUS_OK
                             : rdma_post_recv(side->qp, &wr, NULL) == STATUS_OK;
}

bool post_one(struct side *side, struct rdma_send_wr *wr, struct rdma_sge *entry)
{
    wr->sges = entry;
    wr->sge_count = entry != NULL ? 1 : 0;
    wr->flags |= RDMA_SEND_SIGNALED;
    return rdma_post_send(side->qp, wr, NULL) == STATUS_OK;
}

void fill(uint8_t *p, uint32_t bytes, uint32_t seed)
{
    for (uint32_t i = 0; i < bytes; i++) {
        seed = seed * 1664525u + 1013904223u; /* Numerical Recipes' generator */
        p[i] = (uint8_t)(seed >> 24);
    }
}

bool filled(const uint8_t *p, uint32_t bytes, uint32_t seed)
{
    for (uint32_t i = 0; i < bytes; i++) {
        seed = seed * 1664525u + 1013904223u;
        if (p[i] != (uint8_t)(seed >> 24)) {
            return false;
        }
    }
    return true;
}

/* --- one end ---------------------------------------------------------------------------------- */

static void *memory(uint64_t bytes)
{
    return aligned_alloc(64, (size_t)((bytes + 127) / 64 * 64));
}

static bool make_queues(struct side *side, struct rdma_device *device,
                        const struct pair_options *options, bool has_srq)
{
    uint32_t wr_count = options->wr_count != 0 ? options->wr_count : PAIR_WRS;

    side->cq_memory = memory(rdma_cq_memory_bytes(device, PAIR_WCS));
    struct rdma_cq_attr cq = {.entry_count = PAIR_WCS, .memory = side->cq_memory, .ctx = side};
    if (rdma_cq_create(device, &cq, &side->cq) != STATUS_OK) {
        return false;
    }
    if (has_srq) {
        side->srq_memory = memory(rdma_srq_memory_bytes(device, wr_count));
        struct rdma_srq_attr srq = {.pd = side->pd,
                                    .wr_count = wr_count,
                                    .limit = 0,
                                    .memory = side->srq_memory,
                                    .ctx = side};
        srq.limit = options->srq_limit;
        if (rdma_srq_create(&srq, &side->srq) != STATUS_OK) {
            return false;
        }
    }
    struct rdma_qp_init_attr qp = {.type = RDMA_QP_RC,
                                   .pd = side->pd,
                                   .send_cq = side->cq,
                                   .recv_cq = side->cq,
                                   .srq = side->srq,
                                   .send_wr_count = wr_count,
                                   .recv_wr_count = has_srq ? 0 : wr_count,
                                   .send_sge_count = 4,
                                   .recv_sge_count = 4,
                                   .ctx = side};
    side->qp_memory = memory(rdma_qp_memory_bytes(&qp));
    qp.memory = side->qp_memory;
    return rdma_qp_create(&qp, &side->qp) == STATUS_OK;
}

bool side_open(struct side *side, struct rdma_device *device, const struct pair_options *options,
               bool has_srq)
{
    *side = (struct side){0};
    side->buffer = aligned_alloc(4096, PAIR_BUFFER_BYTES);
    memset(side->buffer, 0, PAIR_BUFFER_BYTES);
    struct rdma_mr_attr mr = {.kind = RDMA_MR_NIC,
                              .access = RDMA_ACCESS_LOCAL_WRITE | RDMA_ACCESS_REMOTE_WRITE |
                                        RDMA_ACCESS_REMOTE_READ,
                              .memory = side->buffer,
                              .len_bytes = PAIR_BUFFER_BYTES};
    return rdma_pd_alloc(device, 0, &side->pd) == STATUS_OK &&
           rdma_mr_reg(side->pd, &mr, &side->mr) == STATUS_OK &&
           make_queues(side, device, options, has_srq);
}

static void complain(const char *what, enum status status)
{
    if (status != STATUS_OK) {
        printf("     closing: %s: %s\n", what, status_text(status));
    }
}

void side_close(struct side *side)
{
    if (side->id != NULL) {
        rdma_cm_destroy(side->id);
    }
    if (side->qp != NULL) {
        complain("qp", rdma_qp_destroy(side->qp));
    }
    if (side->srq != NULL) {
        complain("srq", rdma_srq_destroy(side->srq));
    }
    if (side->cq != NULL) {
        complain("cq", rdma_cq_destroy(side->cq));
    }
    if (side->mr != NULL) {
        complain("mr", rdma_mr_dereg(side->mr));
    }
    if (side->pd != NULL) {
        complain("pd", rdma_pd_free(side->pd));
    }
    free(side->buffer);
    free(side->cq_memory);
    free(side->srq_memory);
    free(side->qp_memory);
    *side = (struct side){0};
}

/* --- connecting ------------------------------------------------------------------------------- */

static struct rdma_cm_param param_of(const struct pair *pair, const struct side *side,
                                     const char *text, size_t bytes)
{
    uint8_t reads = pair->options.reads != 0 ? pair->options.reads : 4;

    return (struct rdma_cm_param){
        .qp = side->qp,
        .private_data = text,
        .private_bytes = (uint32_t)bytes,
        .responder_resources = reads,
        .initiator_depth = reads,
        .retry_count = 5,
        .rnr_retry_count = 7,
        .access = pair->options.access != 0 ? pair->options.access
                                            : RDMA_ACCESS_REMOTE_WRITE | RDMA_ACCESS_REMOTE_READ,
    };
}

static void note(struct side *side, const struct rdma_cm_event *event)
{
    if (event->private_bytes > 0) {
        memcpy(side->private_data, event->private_data, event->private_bytes);
        side->private_bytes = event->private_bytes;
    }
    if (event->responder_resources != 0 || event->initiator_depth != 0) {
        side->responder_resources = event->responder_resources;
        side->initiator_depth = event->initiator_depth;
    }
    side->reason = event->reason;
    side->resolved |= event->type == RDMA_CM_EVENT_RESOLVED;
    side->unreachable |= event->type == RDMA_CM_EVENT_UNREACHABLE;
    side->rejected |= event->type == RDMA_CM_EVENT_REJECTED;
    side->established |= event->type == RDMA_CM_EVENT_ESTABLISHED;
    side->disconnected |= event->type == RDMA_CM_EVENT_DISCONNECTED;
    side->timewait_exit |= event->type == RDMA_CM_EVENT_TIMEWAIT_EXIT;
}

static void on_active(struct rdma_cm_id *id, const struct rdma_cm_event *event)
{
    struct pair *pair = id->ctx;

    note(&pair->a, event);
    if (event->type == RDMA_CM_EVENT_RESOLVED && pair->a.qp != NULL) {
        struct rdma_cm_param param = param_of(pair, &pair->a, request_text, sizeof(request_text));
        enum status status = rdma_cm_connect(id, &param);
        if (status != STATUS_OK) {
            printf("     connect: %s\n", status_text(status));
        }
    }
}

static void on_passive(struct rdma_cm_id *id, const struct rdma_cm_event *event)
{
    struct pair *pair = id->ctx;

    note(&pair->b, event);
    if (event->type != RDMA_CM_EVENT_REQUEST) {
        return;
    }
    pair->b.id = id;
    pair->b.requested = true;
    if (pair->options.refuse) {
        complain("reject", rdma_cm_reject(id, reject_text, sizeof(reject_text)));
        return;
    }
    struct rdma_cm_param param = param_of(pair, &pair->b, reply_text, sizeof(reply_text));
    enum status status = rdma_cm_accept(id, &param);
    if (status != STATUS_OK) {
        printf("     accept: %s\n", status_text(status));
    }
}

bool pair_open(struct pair *pair, struct rdma_device *device, const struct pair_options *options)
{
    static const struct pair_options none;
    static const struct net_addr any;
    struct net_addr self = rdma_ibv_addr(device);

    *pair = (struct pair){.device = device, .options = options != NULL ? *options : none};
    if (!side_open(&pair->a, device, &pair->options, false) ||
        !side_open(&pair->b, device, &pair->options, pair->options.srq)) {
        printf("     objects are missing\n");
        return false;
    }
    enum status status = rdma_cm_listen(device, &any, PORT, 8, on_passive, pair, &pair->listener);
    if (status == STATUS_OK) {
        status = rdma_cm_resolve(device, &self, PORT, on_active, pair, &pair->a.id);
    }
    if (status != STATUS_OK) {
        printf("     listen or resolve: %s\n", status_text(status));
        return false;
    }
    bool done = WAIT(&pair->a, &pair->b,
                     (pair->a.established && pair->b.established) || pair->a.rejected ||
                         pair->a.unreachable);
    return done && pair->a.established && pair->b.established;
}

void pair_close(struct pair *pair)
{
    struct side *a = &pair->a;
    struct side *b = &pair->b;

    if (a->established && !a->disconnected && a->id != NULL && b->id != NULL &&
        rdma_cm_disconnect(a->id) == STATUS_OK) {
        if (!WAIT(a, b, a->disconnected && b->disconnected)) {
            printf("     no DISCONNECTED\n");
        }
    }
    side_close(a);
    side_close(b);
    if (pair->listener != NULL) {
        rdma_cm_destroy(pair->listener);
        pair->listener = NULL;
    }
}
