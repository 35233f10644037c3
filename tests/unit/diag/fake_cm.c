#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/compiler.h"
#include "tests/unit/diag/fake_rdma_priv.h"

static void queue(struct fake_id *id, struct rdma_cm_event event)
{
    assert_true(fake.event_count < FAKE_EVENTS);
    fake.events[fake.event_count++] = (struct fake_event){.id = id, .event = event};
}

/* One event a turn: what others do meanwhile is seen in any order. */
uint32_t fake_cm_run(void)
{
    if (fake.event_count == 0) {
        return 0;
    }
    struct fake_event first = fake.events[0];
    fake.event_count--;
    memmove(fake.events, fake.events + 1, fake.event_count * sizeof(first));
    first.id->base.event(&first.id->base, &first.event);
    return 1;
}

static struct fake_id *id_new(struct rdma_device *device, rdma_cm_event_fn *event, void *ctx)
{
    for (uint32_t i = 0; !fake_fails() && i < FAKE_IDS; i++) {
        struct fake_id *id = &fake.ids[i];
        if (!id->is_used) {
            *id = (struct fake_id){.is_used = true};
            id->base = (struct rdma_cm_id){.device = device, .event = event, .ctx = ctx};
            return id;
        }
    }
    return NULL;
}

static enum status cm_listen(struct rdma_device *device, const struct net_addr *addr, uint16_t port,
                             uint32_t backlog, rdma_cm_event_fn *event, void *ctx,
                             struct rdma_cm_id **out)
{
    (void)addr;
    assert_in_range(backlog, 1, 64);
    for (uint32_t i = 0; i < FAKE_IDS; i++) {
        if (fake.ids[i].is_used && fake.ids[i].base.state == RDMA_CM_LISTEN &&
            fake.ids[i].base.local_port == port) {
            return STATUS_EXISTS;
        }
    }
    struct fake_id *id = id_new(device, event, ctx);
    if (id == NULL) {
        return STATUS_NO_SPACE;
    }
    id->base.state = RDMA_CM_LISTEN;
    id->base.local_port = port;
    *out = &id->base;
    return STATUS_OK;
}

static enum status cm_resolve(struct rdma_device *device, const struct net_addr *dst, uint16_t port,
                              rdma_cm_event_fn *event, void *ctx, struct rdma_cm_id **out)
{
    struct net_addr nobody = FAKE_UNREACHABLE;
    struct fake_id *id = id_new(device, event, ctx);
    if (id == NULL) {
        return STATUS_NO_SPACE;
    }
    id->base.peer = *dst;
    id->base.peer_port = port;
    id->base.state = RDMA_CM_RESOLVED;
    bool is_there = memcmp(dst, &nobody, sizeof(nobody)) != 0;
    queue(id, (struct rdma_cm_event){.type = is_there ? RDMA_CM_EVENT_RESOLVED
                                                      : RDMA_CM_EVENT_UNREACHABLE});
    *out = &id->base;
    return STATUS_OK;
}

static enum status cm_qp_init(struct rdma_cm_id *id, struct rdma_qp *qp, uint8_t access)
{
    (void)id;
    if (fake_fails()) {
        return STATUS_NO_SPACE;
    }
    assert_int_equal(qp->state, RDMA_QP_RESET);
    qp->state = RDMA_QP_INIT;
    ((struct fake_qp *)qp)->access = access;
    return STATUS_OK;
}

static enum status cm_connect(struct rdma_cm_id *base, const struct rdma_cm_param *param)
{
    struct fake_id *id = (struct fake_id *)base;
    struct fake_id *listener = NULL;
    assert_int_equal(base->state, RDMA_CM_RESOLVED);
    for (uint32_t i = 0; i < FAKE_IDS; i++) {
        if (fake.ids[i].is_used && fake.ids[i].base.state == RDMA_CM_LISTEN &&
            fake.ids[i].base.local_port == base->peer_port) {
            listener = &fake.ids[i];
        }
    }
    struct fake_id *other =
        listener == NULL ? NULL : id_new(base->device, listener->base.event, listener->base.ctx);
    base->state = RDMA_CM_REQ_SENT;
    base->qp = param->qp;
    id->param = *param;
    if (other == NULL) {
        queue(id, (struct rdma_cm_event){.type = RDMA_CM_EVENT_REJECTED,
                                         .reason = RDMA_CM_REJ_INVALID_SERVICE_ID});
        return STATUS_OK;
    }
    other->base.state = RDMA_CM_REQ_RCVD;
    other->base.peer = fake_rdma_addr(fake_rdma_source);
    other->base.local_port = base->peer_port;
    other->peer = id;
    id->peer = other;
    queue(other, (struct rdma_cm_event){.type = RDMA_CM_EVENT_REQUEST,
                                        .listener = &listener->base,
                                        .responder_resources = param->initiator_depth,
                                        .initiator_depth = param->responder_resources});
    return STATUS_OK;
}

static enum status cm_accept(struct rdma_cm_id *base, const struct rdma_cm_param *param)
{
    struct fake_id *id = (struct fake_id *)base;
    if (fake_fails()) {
        return STATUS_NO_SPACE;
    }
    if (base->state != RDMA_CM_REQ_RCVD || id->peer == NULL) {
        return STATUS_INVALID;
    }
    base->qp = param->qp;
    struct fake_qp *ours = (struct fake_qp *)param->qp;
    struct fake_qp *theirs = (struct fake_qp *)id->peer->base.qp;
    ours->peer = theirs;
    theirs->peer = ours;
    ours->dest_qpn = theirs->base.num;
    theirs->dest_qpn = ours->base.num;
    ours->base.state = RDMA_QP_RTS;
    theirs->base.state = RDMA_QP_RTS;
    base->state = RDMA_CM_ESTABLISHED;
    id->peer->base.state = RDMA_CM_ESTABLISHED;
    queue(id->peer, (struct rdma_cm_event){.type = RDMA_CM_EVENT_ESTABLISHED,
                                           .responder_resources = param->initiator_depth,
                                           .initiator_depth = param->responder_resources});
    queue(id, (struct rdma_cm_event){.type = RDMA_CM_EVENT_ESTABLISHED});
    return STATUS_OK;
}

static void break_up(struct fake_id *id, enum rdma_cm_event_type type)
{
    if (id->peer != NULL) {
        struct fake_id *peer = id->peer;
        peer->peer = NULL;
        id->peer = NULL;
        peer->base.state = RDMA_CM_DEAD;
        if (peer->base.qp != NULL) {
            fake_qp_error((struct fake_qp *)peer->base.qp);
        }
        queue(peer, (struct rdma_cm_event){.type = type, .reason = RDMA_CM_REJ_CONSUMER});
    }
}

static enum status cm_reject(struct rdma_cm_id *base, const void *private_data,
                             uint32_t private_bytes)
{
    (void)private_data;
    (void)private_bytes;
    break_up((struct fake_id *)base, RDMA_CM_EVENT_REJECTED);
    return STATUS_OK;
}

static enum status cm_disconnect(struct rdma_cm_id *base)
{
    struct fake_id *id = (struct fake_id *)base;
    if (base->state != RDMA_CM_ESTABLISHED) {
        return STATUS_INVALID;
    }
    base->state = RDMA_CM_DEAD;
    break_up(id, RDMA_CM_EVENT_DISCONNECTED);
    fake_qp_error((struct fake_qp *)base->qp);
    queue(id, (struct rdma_cm_event){.type = RDMA_CM_EVENT_DISCONNECTED});
    return STATUS_OK;
}

static void cm_destroy(struct rdma_cm_id *base)
{
    struct fake_id *id = (struct fake_id *)base;
    uint32_t kept = 0;
    assert_true(id->is_used);
    break_up(id, base->state == RDMA_CM_ESTABLISHED ? RDMA_CM_EVENT_DISCONNECTED
                                                    : RDMA_CM_EVENT_REJECTED);
    for (uint32_t i = 0; i < fake.event_count; i++) {
        if (fake.events[i].id != id) {
            fake.events[kept++] = fake.events[i];
        }
    }
    fake.event_count = kept;
    id->is_used = false;
}

static void cm_visit(struct rdma_device *device,
                     void (*visit)(const struct rdma_cm_id *id, void *ctx), void *ctx)
{
    (void)device;
    for (uint32_t i = 0; i < FAKE_IDS; i++) {
        if (fake.ids[i].is_used) {
            visit(&fake.ids[i].base, ctx);
        }
    }
}

const struct rdma_cm_ops fake_cm_ops = {
    .listen = cm_listen,
    .resolve = cm_resolve,
    .qp_init = cm_qp_init,
    .connect = cm_connect,
    .accept = cm_accept,
    .reject = cm_reject,
    .disconnect = cm_disconnect,
    .destroy = cm_destroy,
    .visit = cm_visit,
};
