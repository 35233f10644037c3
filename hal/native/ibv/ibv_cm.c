/*
 * Connection management over librdmacm: the protocol is the kernel's. Queue pairs are ours: the
 * kernel says what to set them to (rdma_init_qp_attr), so that the active side hears of the
 * acceptance before it is confirmed, and confirms when its queue pair is ready.
 */
#include "hal/native/ibv/ibv_cm_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/bits.h"
#include "base/log.h"

#define BACKLOG_MAX 64
/* The kernel's CM leaves the timer of a receiver that is not ready at 0, which is 655 ms; 12 is
 * 0.64 ms (IBA table 45). */
#define MIN_RNR_TIMER 12

static struct rdma_ibv_cm_id *id_of(struct rdma_cm_id *id)
{
    return CONTAINER_OF(id, struct rdma_ibv_cm_id, base);
}

/* --- ids -------------------------------------------------------------------------------------- */

struct rdma_ibv_cm_id *rdma_ibv_cm_id_get(struct rdma_ibv_cm *cm, rdma_cm_event_fn *event,
                                          void *ctx)
{
    struct rdma_ibv_cm_id *id = pool_get(&cm->ids);

    if (id != NULL) {
        *id = (struct rdma_ibv_cm_id){
            .base = {.device = &cm->device->base, .event = event, .ctx = ctx}};
        list_push_back(&cm->all_ids, &id->link);
        list_init(&id->owed_link);
    }
    return id;
}

void rdma_ibv_cm_id_put(struct rdma_ibv_cm_id *id)
{
    list_remove(&id->link);
    list_remove(&id->owed_link);
    pool_put(&rdma_ibv_cm_of(id)->ids, id);
}

void rdma_ibv_cm_fill_addrs(struct rdma_ibv_cm_id *id)
{
    rdma_ibv_cma_local(id->handle, &id->base.local, &id->base.local_port);
    rdma_ibv_cma_peer(id->handle, &id->base.peer, &id->base.peer_port);
}

/* With a handle of the library's; NULL and *status otherwise. */
static struct rdma_ibv_cm_id *id_make(struct rdma_device *device, rdma_cm_event_fn *event,
                                      void *ctx, enum status *status)
{
    struct rdma_ibv_cm *cm = rdma_ibv_device_of(device)->cm;
    struct rdma_ibv_cm_id *id = rdma_ibv_cm_id_get(cm, event, ctx);

    if (id == NULL) {
        *status = STATUS_NO_SPACE;
        return NULL;
    }
    int error = rdma_ibv_cma_create(cm->channel, id, &id->handle);
    if (error != 0) {
        *status = rdma_ibv_status(error);
        rdma_ibv_cm_id_put(id);
        return NULL;
    }
    return id;
}

static void id_unmake(struct rdma_ibv_cm_id *id)
{
    rdma_ibv_cma_destroy(id->handle);
    rdma_ibv_cm_id_put(id);
}

/* --- queue pairs ------------------------------------------------------------------------------ */

static void attach(struct rdma_ibv_cm_id *id, struct rdma_qp *qp)
{
    id->base.qp = qp;
    rdma_ibv_qp_of(qp)->cm_id = id;
}

static void detach(struct rdma_ibv_cm_id *id)
{
    if (id->base.qp != NULL) {
        rdma_ibv_qp_of(id->base.qp)->cm_id = NULL;
        id->base.qp = NULL;
    }
}

void rdma_ibv_cm_forget_qp(struct rdma_ibv_qp *qp)
{
    if (qp->cm_id != NULL) {
        detach(qp->cm_id);
    }
}

void rdma_ibv_cm_first_packet(struct rdma_ibv_qp *qp)
{
    if (qp->cm_id != NULL && qp->cm_id->base.state == RDMA_CM_REP_SENT) {
        rdma_ibv_cma_first_packet(qp->cm_id->handle);
    }
}

void rdma_ibv_cm_kill_qp(struct rdma_ibv_cm_id *id)
{
    if (id->base.qp != NULL) {
        rdma_ibv_qp_to_error(rdma_ibv_qp_of(id->base.qp));
    }
}

static enum status qp_init(struct rdma_ibv_cm_id *id, struct rdma_qp *qp, uint8_t access)
{
    struct ibv_qp_attr attr = {.qp_state = IBV_QPS_INIT};
    int mask = 0;
    int error = rdma_ibv_cma_qp_attr(id->handle, &attr, &mask);

    if (error != 0) {
        return rdma_ibv_status(error);
    }
    attr.qp_access_flags = (unsigned int)rdma_ibv_access(access & ~RDMA_ACCESS_LOCAL_WRITE);
    return rdma_ibv_qp_apply(rdma_ibv_qp_of(qp), &attr, mask | IBV_QP_ACCESS_FLAGS);
}

/* From INIT to RTS. */
enum status rdma_ibv_cm_qp_connect(struct rdma_ibv_cm_id *id)
{
    struct rdma_ibv_qp *qp = rdma_ibv_qp_of(id->base.qp);
    struct ibv_qp_attr attr = {.qp_state = IBV_QPS_RTR};
    int mask = 0;

    int error = rdma_ibv_cma_qp_attr(id->handle, &attr, &mask);
    if (error != 0) {
        return rdma_ibv_status(error);
    }
    attr.max_dest_rd_atomic = id->responder_resources;
    attr.min_rnr_timer = MIN_RNR_TIMER;
    enum status status = rdma_ibv_qp_apply(qp, &attr, mask);
    if (status != STATUS_OK) {
        return status;
    }
    attr = (struct ibv_qp_attr){.qp_state = IBV_QPS_RTS};
    mask = 0;
    error = rdma_ibv_cma_qp_attr(id->handle, &attr, &mask);
    if (error != 0) {
        return rdma_ibv_status(error);
    }
    attr.max_rd_atomic = id->initiator_depth;
    return rdma_ibv_qp_apply(qp, &attr, mask);
}

/* --- calls ------------------------------------------------------------------------------------ */

static enum status cm_listen(struct rdma_device *device, const struct net_addr *addr, uint16_t port,
                             uint32_t backlog, rdma_cm_event_fn *event, void *ctx,
                             struct rdma_cm_id **out)
{
    enum status status = STATUS_OK;

    if (backlog == 0 || backlog > BACKLOG_MAX || port == 0) {
        return STATUS_INVALID;
    }
    struct rdma_ibv_cm_id *id = id_make(device, event, ctx, &status);
    if (id == NULL) {
        return status;
    }
    int error = rdma_ibv_cma_listen(id->handle, addr, port, (int)backlog);
    if (error != 0) {
        id_unmake(id);
        /* For a port that is taken Linux says "not available". */
        return error == EADDRNOTAVAIL ? STATUS_EXISTS : rdma_ibv_status(error);
    }
    id->backlog = backlog;
    id->base.local = *addr;
    id->base.local_port = port;
    id->base.state = RDMA_CM_LISTEN;
    *out = &id->base;
    return STATUS_OK;
}

static enum status cm_resolve(struct rdma_device *device, const struct net_addr *dst, uint16_t port,
                              rdma_cm_event_fn *event, void *ctx, struct rdma_cm_id **out)
{
    struct rdma_ibv_device *d = rdma_ibv_device_of(device);
    enum status status = STATUS_OK;

    struct rdma_ibv_cm_id *id = id_make(device, event, ctx, &status);
    if (id == NULL) {
        return status;
    }
    id->base.peer = *dst;
    id->base.peer_port = port;
    id->base.state = RDMA_CM_RESOLVING;
    int error = rdma_ibv_cma_resolve_addr(id->handle, &d->addr, dst, port, RDMA_IBV_CM_RESOLVE_MS);
    if (error != 0) {
        id_unmake(id);
        return rdma_ibv_status(error);
    }
    *out = &id->base;
    return STATUS_OK;
}

static enum status cm_qp_init(struct rdma_cm_id *base, struct rdma_qp *qp, uint8_t access)
{
    if ((base->state != RDMA_CM_RESOLVED && base->state != RDMA_CM_REQ_RCVD) || qp == NULL ||
        qp->pd->device != base->device || qp->type != RDMA_QP_RC || qp->state != RDMA_QP_RESET) {
        return STATUS_INVALID;
    }
    return qp_init(id_of(base), qp, access);
}

static enum status check(const struct rdma_cm_id *id, const struct rdma_cm_param *param,
                         enum rdma_cm_state state, uint32_t private_max)
{
    const struct rdma_qp *qp = param->qp;

    if (id->state != state || qp == NULL || qp->pd->device != id->device ||
        qp->type != RDMA_QP_RC || (qp->state != RDMA_QP_RESET && qp->state != RDMA_QP_INIT) ||
        param->private_bytes > private_max || param->retry_count > 7 ||
        param->rnr_retry_count > 7 ||
        CONTAINER_OF((struct rdma_qp *)(uintptr_t)qp, struct rdma_ibv_qp, base)->cm_id != NULL) {
        return STATUS_INVALID;
    }
    return STATUS_OK;
}

static struct rdma_ibv_cma_param convert_param(const struct rdma_ibv_cm_id *id,
                                               const struct rdma_cm_param *param)
{
    return (struct rdma_ibv_cma_param){
        .qpn = param->qp->num,
        .has_srq = param->qp->srq != NULL,
        .private_data = param->private_data,
        .private_bytes = (uint8_t)param->private_bytes,
        .responder_resources = id->responder_resources,
        .initiator_depth = id->initiator_depth,
        .retry_count = param->retry_count,
        .rnr_retry_count = param->rnr_retry_count,
    };
}

static enum status ready_qp(struct rdma_ibv_cm_id *id, const struct rdma_cm_param *param)
{
    if (param->qp->state == RDMA_QP_INIT) {
        /* Done by rdma_cm_qp_init(), perhaps with other rights. */
        struct ibv_qp_attr attr = {.qp_state = IBV_QPS_INIT};
        attr.qp_access_flags =
            (unsigned int)rdma_ibv_access(param->access & ~RDMA_ACCESS_LOCAL_WRITE);
        return rdma_ibv_qp_apply(rdma_ibv_qp_of(param->qp), &attr,
                                 IBV_QP_STATE | IBV_QP_ACCESS_FLAGS);
    }
    return qp_init(id, param->qp, param->access);
}

static enum status cm_connect(struct rdma_cm_id *base, const struct rdma_cm_param *param)
{
    struct rdma_ibv_cm_id *id = id_of(base);
    const struct rdma_device_attr *limits = &base->device->attr;
    enum status status = check(base, param, RDMA_CM_RESOLVED, RDMA_CM_REQ_PRIVATE_BYTES);

    if (status == STATUS_OK) {
        status = ready_qp(id, param);
    }
    if (status != STATUS_OK) {
        return status;
    }
    id->responder_resources =
        (uint8_t)min_u32(param->responder_resources, limits->dest_rd_atomic_max);
    id->initiator_depth = (uint8_t)min_u32(param->initiator_depth, limits->rd_atomic_max);
    struct rdma_ibv_cma_param out = convert_param(id, param);
    int error = rdma_ibv_cma_connect(id->handle, &out);
    if (error != 0) {
        return rdma_ibv_status(error);
    }
    attach(id, param->qp);
    base->state = RDMA_CM_REQ_SENT;
    return STATUS_OK;
}

/* The owner of a request has decided. */
static void decided(struct rdma_ibv_cm_id *id)
{
    if (id->listener != NULL) {
        id->listener->undecided--;
        id->listener = NULL;
    }
}

static enum status cm_accept(struct rdma_cm_id *base, const struct rdma_cm_param *param)
{
    struct rdma_ibv_cm_id *id = id_of(base);
    enum status status = check(base, param, RDMA_CM_REQ_RCVD, RDMA_CM_REP_PRIVATE_BYTES);

    if (status == STATUS_OK) {
        status = ready_qp(id, param);
    }
    if (status != STATUS_OK) {
        return status;
    }
    id->responder_resources = (uint8_t)min_u32(param->responder_resources, id->responder_resources);
    id->initiator_depth = (uint8_t)min_u32(param->initiator_depth, id->initiator_depth);
    attach(id, param->qp);
    status = rdma_ibv_cm_qp_connect(id);
    if (status == STATUS_OK) {
        struct rdma_ibv_cma_param out = convert_param(id, param);
        status = rdma_ibv_status(rdma_ibv_cma_accept(id->handle, &out));
    }
    if (status != STATUS_OK) {
        rdma_ibv_cm_kill_qp(id);
        detach(id);
        return status;
    }
    decided(id);
    base->state = RDMA_CM_REP_SENT;
    return STATUS_OK;
}

static enum status cm_reject(struct rdma_cm_id *base, const void *private_data,
                             uint32_t private_bytes)
{
    struct rdma_ibv_cm_id *id = id_of(base);

    if (base->state != RDMA_CM_REQ_RCVD || private_bytes > RDMA_CM_REJ_PRIVATE_BYTES) {
        return STATUS_INVALID;
    }
    int error = rdma_ibv_cma_reject(id->handle, private_data, (uint8_t)private_bytes);
    decided(id);
    base->state = RDMA_CM_DEAD;
    return rdma_ibv_status(error);
}

static enum status cm_disconnect(struct rdma_cm_id *base)
{
    struct rdma_ibv_cm_id *id = id_of(base);

    if (base->state != RDMA_CM_ESTABLISHED) {
        return STATUS_INVALID;
    }
    rdma_ibv_cm_kill_qp(id);
    base->state = RDMA_CM_DREQ_SENT;
    if (rdma_ibv_cma_disconnect(id->handle) != 0) {
        /* The peer was faster, or the device is going. */
        list_push_back(&rdma_ibv_cm_of(id)->owed, &id->owed_link);
    }
    return STATUS_OK;
}

/* Requests that came through a listener that goes stay their owner's. */
static void orphan(struct rdma_ibv_cm_id *listener)
{
    LIST_FOR_EACH(node, next, &rdma_ibv_cm_of(listener)->all_ids)
    {
        struct rdma_ibv_cm_id *id = LIST_ENTRY(node, struct rdma_ibv_cm_id, link);
        if (id->listener == listener) {
            id->listener = NULL;
        }
    }
}

static void cm_destroy(struct rdma_cm_id *base)
{
    struct rdma_ibv_cm_id *id = id_of(base);

    if (base->state == RDMA_CM_LISTEN) {
        orphan(id);
    } else if (base->state == RDMA_CM_REQ_RCVD) {
        rdma_ibv_cma_reject(id->handle, NULL, 0);
        decided(id);
    } else if (base->state == RDMA_CM_ESTABLISHED || base->state == RDMA_CM_REP_SENT) {
        rdma_ibv_cm_kill_qp(id);
        rdma_ibv_cma_disconnect(id->handle);
    }
    detach(id);
    id_unmake(id);
}

static void cm_visit(struct rdma_device *device,
                     void (*visit)(const struct rdma_cm_id *id, void *ctx), void *ctx)
{
    LIST_FOR_EACH(node, next, &rdma_ibv_device_of(device)->cm->all_ids)
    {
        visit(&LIST_ENTRY(node, struct rdma_ibv_cm_id, link)->base, ctx);
    }
}

const struct rdma_cm_ops rdma_ibv_cm_ops = {
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

/* --- open, close ------------------------------------------------------------------------------ */

enum status rdma_ibv_cm_open(struct rdma_ibv_device *device, uint32_t id_count)
{
    struct rdma_ibv_cm *cm = calloc(1, sizeof(*cm));

    if (cm == NULL) {
        return STATUS_NO_SPACE;
    }
    cm->device = device;
    list_init(&cm->all_ids);
    list_init(&cm->owed);
    cm->memory = calloc(id_count, sizeof(struct rdma_ibv_cm_id));
    int error = cm->memory != NULL ? rdma_ibv_cma_open(&cm->channel) : ENOMEM;
    if (error != 0) {
        LOG_ERROR("ibv: %s: connection management: %s%s", device->name, strerror(error),
                  error == ENODEV || error == ENOENT ? " (module rdma_ucm?)" : "");
        free(cm->memory);
        free(cm);
        return error == ENOMEM ? STATUS_NO_SPACE : STATUS_UNSUPPORTED;
    }
    pool_init(&cm->ids, "ibv cm ids", cm->memory, sizeof(struct rdma_ibv_cm_id), id_count);
    device->cm = cm;
    return STATUS_OK;
}

void rdma_ibv_cm_close(struct rdma_ibv_device *device)
{
    if (device->cm != NULL) {
        rdma_ibv_cma_close(device->cm->channel);
        free(device->cm->memory);
        free(device->cm);
        device->cm = NULL;
    }
}

int rdma_ibv_cm_fd(const struct rdma_ibv_device *device)
{
    return rdma_ibv_cma_fd(device->cm->channel);
}

bool rdma_ibv_cm_is_quiet(const struct rdma_ibv_device *device)
{
    return pool_is_full(&device->cm->ids);
}
