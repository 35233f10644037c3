/*
 * What the kernel says about connections, and what becomes of ids and queue pairs then.
 */
#include "hal/native/ibv/ibv_cm_priv.h"

#include <string.h>
#include "base/bits.h"
#include "base/log.h"

/* Events of one turn. */
#define EVENTS_AT_ONCE 16

static void emit(struct rdma_ibv_cm_id *id, struct rdma_cm_event *event)
{
    id->base.event(&id->base, event); /* may destroy the id */
}

static void emit_type(struct rdma_ibv_cm_id *id, enum rdma_cm_event_type type)
{
    struct rdma_cm_event event = {.type = type};
    emit(id, &event);
}

/* Ids that resolve, connect or are asked for by way of another device are of no use to our queue
 * pairs. */
static bool is_ours(const struct rdma_ibv_cm *cm, const struct rdma_ibv_cma_id *handle)
{
    return strcmp(rdma_ibv_cma_device(handle), cm->device->name) == 0 &&
           rdma_ibv_cma_port(handle) == cm->device->port;
}

static void fail(struct rdma_ibv_cm_id *id)
{
    id->base.state = RDMA_CM_DEAD;
    emit_type(id, RDMA_CM_EVENT_UNREACHABLE);
}

static void on_addr_resolved(struct rdma_ibv_cm_id *id)
{
    if (id->base.state != RDMA_CM_RESOLVING) {
        return;
    }
    if (!is_ours(rdma_ibv_cm_of(id), id->handle)) {
        LOG_LIMITED(WARN, "ibv: %s: the way to a peer leads through '%s'", id->base.device->name,
                    rdma_ibv_cma_device(id->handle));
        fail(id);
    } else if (rdma_ibv_cma_resolve_route(id->handle, RDMA_IBV_CM_RESOLVE_MS) != 0) {
        fail(id);
    }
}

static void on_route_resolved(struct rdma_ibv_cm_id *id)
{
    if (id->base.state != RDMA_CM_RESOLVING) {
        return;
    }
    id->base.state = RDMA_CM_RESOLVED;
    rdma_ibv_cm_fill_addrs(id);
    emit_type(id, RDMA_CM_EVENT_RESOLVED);
}

static void refuse(struct rdma_ibv_cma_id *handle)
{
    rdma_ibv_cma_reject(handle, NULL, 0);
    rdma_ibv_cma_destroy(handle);
}

static void on_request(struct rdma_ibv_cm_id *listener, const struct rdma_ibv_cma_event *in)
{
    struct rdma_ibv_cm *cm = rdma_ibv_cm_of(listener);
    const struct rdma_device_attr *limits = &cm->device->base.attr;

    if (listener->undecided >= listener->backlog || !is_ours(cm, in->id)) {
        refuse(in->id);
        return;
    }
    struct rdma_ibv_cm_id *id = rdma_ibv_cm_id_get(cm, listener->base.event, listener->base.ctx);
    if (id == NULL) {
        refuse(in->id);
        return;
    }
    id->handle = in->id;
    rdma_ibv_cma_set_ctx(in->id, id);
    id->base.state = RDMA_CM_REQ_RCVD;
    id->listener = listener;
    listener->undecided++;
    id->responder_resources = (uint8_t)min_u32(in->responder_resources, limits->dest_rd_atomic_max);
    id->initiator_depth = (uint8_t)min_u32(in->initiator_depth, limits->rd_atomic_max);
    rdma_ibv_cm_fill_addrs(id);
    struct rdma_cm_event event = {
        .type = RDMA_CM_EVENT_REQUEST,
        .listener = &listener->base,
        .private_data = in->private_data,
        .private_bytes = in->private_bytes,
        .responder_resources = id->responder_resources,
        .initiator_depth = id->initiator_depth,
    };
    emit(id, &event);
}

static void on_response(struct rdma_ibv_cm_id *id, const struct rdma_ibv_cma_event *in)
{
    if (id->base.state != RDMA_CM_REQ_SENT || id->base.qp == NULL) {
        rdma_ibv_cma_reject(id->handle, NULL, 0);
        return;
    }
    id->responder_resources = (uint8_t)min_u32(id->responder_resources, in->responder_resources);
    id->initiator_depth = (uint8_t)min_u32(id->initiator_depth, in->initiator_depth);
    enum status status = rdma_ibv_cm_qp_connect(id);
    if (status == STATUS_OK) {
        status = rdma_ibv_status(rdma_ibv_cma_establish(id->handle));
    }
    if (status != STATUS_OK) {
        LOG_LIMITED(WARN, "ibv: %s: the peer accepted, but the queue pair does not connect: %s",
                    id->base.device->name, status_text(status));
        rdma_ibv_cma_reject(id->handle, NULL, 0);
        rdma_ibv_cm_kill_qp(id);
        fail(id);
        return;
    }
    id->base.state = RDMA_CM_ESTABLISHED;
    struct rdma_cm_event event = {
        .type = RDMA_CM_EVENT_ESTABLISHED,
        .private_data = in->private_data,
        .private_bytes = in->private_bytes,
        .responder_resources = id->responder_resources,
        .initiator_depth = id->initiator_depth,
    };
    emit(id, &event);
}

static void on_established(struct rdma_ibv_cm_id *id)
{
    if (id->base.state != RDMA_CM_REP_SENT) {
        return;
    }
    id->base.state = RDMA_CM_ESTABLISHED;
    struct rdma_cm_event event = {
        .type = RDMA_CM_EVENT_ESTABLISHED,
        .responder_resources = id->responder_resources,
        .initiator_depth = id->initiator_depth,
    };
    emit(id, &event);
}

/* The passive side hears that it never came to a connection as the end of one. */
static void on_never(struct rdma_ibv_cm_id *id)
{
    rdma_ibv_cm_kill_qp(id);
    id->base.state = RDMA_CM_DEAD;
    emit_type(id, RDMA_CM_EVENT_DISCONNECTED);
}

static void on_failed(struct rdma_ibv_cm_id *id)
{
    switch ((enum rdma_cm_state)id->base.state) {
    case RDMA_CM_RESOLVING:
    case RDMA_CM_RESOLVED:
    case RDMA_CM_REQ_SENT:
        fail(id);
        return;
    case RDMA_CM_REP_SENT:
        on_never(id);
        return;
    case RDMA_CM_IDLE:
    case RDMA_CM_LISTEN:
    case RDMA_CM_REQ_RCVD:
    case RDMA_CM_ESTABLISHED:
    case RDMA_CM_DREQ_SENT:
    case RDMA_CM_TIMEWAIT:
    case RDMA_CM_DEAD:
    default:
        return;
    }
}

static void on_rejected(struct rdma_ibv_cm_id *id, const struct rdma_ibv_cma_event *in)
{
    if (id->base.state == RDMA_CM_REP_SENT) {
        on_never(id);
        return;
    }
    if (id->base.state != RDMA_CM_REQ_SENT) {
        return;
    }
    id->base.state = RDMA_CM_DEAD;
    struct rdma_cm_event event = {
        .type = RDMA_CM_EVENT_REJECTED,
        .private_data = in->private_data,
        .private_bytes = in->private_bytes,
        .reason = in->status < 0 ? 0 : (uint32_t)in->status,
    };
    emit(id, &event);
}

static void on_disconnected(struct rdma_ibv_cm_id *id)
{
    uint8_t state = id->base.state;

    if (state != RDMA_CM_ESTABLISHED && state != RDMA_CM_REP_SENT && state != RDMA_CM_DREQ_SENT) {
        return;
    }
    rdma_ibv_cm_kill_qp(id);
    if (state != RDMA_CM_DREQ_SENT) {
        rdma_ibv_cma_disconnect(id->handle); /* answers the peer's request */
    }
    list_remove(&id->owed_link);
    id->base.state = RDMA_CM_TIMEWAIT;
    emit_type(id, RDMA_CM_EVENT_DISCONNECTED);
}

static void on_timewait_exit(struct rdma_ibv_cm_id *id)
{
    if (id->base.state == RDMA_CM_TIMEWAIT) {
        id->base.state = RDMA_CM_DEAD;
        emit_type(id, RDMA_CM_EVENT_TIMEWAIT_EXIT);
    }
}

static void on_removed(struct rdma_ibv_cm_id *id)
{
    if (id->base.state == RDMA_CM_ESTABLISHED || id->base.state == RDMA_CM_DREQ_SENT) {
        on_never(id);
    } else {
        on_failed(id);
    }
}

static void dispatch(const struct rdma_ibv_cma_event *in)
{
    struct rdma_ibv_cm_id *id = in->ctx;

    switch (in->type) {
    case RDMA_IBV_CMA_ADDR_RESOLVED:
        on_addr_resolved(id);
        return;
    case RDMA_IBV_CMA_ROUTE_RESOLVED:
        on_route_resolved(id);
        return;
    case RDMA_IBV_CMA_REQUEST:
        on_request(id, in);
        return;
    case RDMA_IBV_CMA_RESPONSE:
        on_response(id, in);
        return;
    case RDMA_IBV_CMA_ESTABLISHED:
        on_established(id);
        return;
    case RDMA_IBV_CMA_FAILED:
        on_failed(id);
        return;
    case RDMA_IBV_CMA_REJECTED:
        on_rejected(id, in);
        return;
    case RDMA_IBV_CMA_DISCONNECTED:
        on_disconnected(id);
        return;
    case RDMA_IBV_CMA_TIMEWAIT_EXIT:
        on_timewait_exit(id);
        return;
    case RDMA_IBV_CMA_REMOVED:
        on_removed(id);
        return;
    case RDMA_IBV_CMA_OTHER:
    default:
        return;
    }
}

uint32_t rdma_ibv_cm_poll(struct rdma_ibv_device *device)
{
    struct rdma_ibv_cm *cm = device->cm;
    struct rdma_ibv_cma_event event;
    uint32_t count = 0;

    while (count < EVENTS_AT_ONCE && !list_is_empty(&cm->owed)) {
        on_disconnected(LIST_ENTRY(cm->owed.next, struct rdma_ibv_cm_id, owed_link));
        count++;
    }
    while (count < EVENTS_AT_ONCE && rdma_ibv_cma_next(cm->channel, &event)) {
        dispatch(&event);
        count++;
    }
    return count;
}
