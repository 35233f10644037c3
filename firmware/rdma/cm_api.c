/*
 * CM: the calls of rdma/cm.h. Guards first; what follows goes through the state machine, and events
 * are queued for the poller.
 */
#include "rdma/cm_priv.h"

#include "base/bits.h"

/* --- listen -------------------------------------------------------------------------------- */

static enum status api_listen(struct rdma_device *device, const struct net_addr *addr,
                              uint16_t port, uint32_t backlog, rdma_cm_event_fn *event, void *ctx,
                              struct rdma_cm_id **out)
{
    struct cm *cm = cm_of(device);
    uint8_t index;

    if (port == 0 || backlog == 0 || backlog > CM_BACKLOG_MAX ||
        (!net_addr_is_zero(addr) && !cm_local_index(cm, addr, &index))) {
        return STATUS_INVALID;
    }
    if (cm_listener_find(cm, addr, port) != NULL) {
        return STATUS_EXISTS;
    }
    struct cm_conn *c = cm_conn_get(cm);
    if (c == NULL) {
        return STATUS_NO_SPACE;
    }
    c->is_owned = true;
    c->id.event = event;
    c->id.ctx = ctx;
    c->id.local = *addr;
    c->id.local_port = port;
    c->backlog = backlog;
    list_push_back(&cm->listeners, &c->listen_link);
    cm_set_state(c, RDMA_CM_LISTEN);
    *out = &c->id;
    return STATUS_OK;
}

/* Requests that its owner has heard of stay his; the others are refused. */
static void close_listener(struct cm_conn *listener)
{
    struct cm *cm = listener->cm;

    for (uint32_t i = 0; i < cm->config.id_count && listener->undecided > 0; i++) {
        struct cm_conn *c = &cm->conns[i];
        if (!c->in_use || c->listener != listener) {
            continue;
        }
        if (c->is_owned) {
            listener->undecided--;
            c->listener = NULL;
        } else {
            cm_events_drop(c);
            cm_fsm(c, CM_IN_DESTROY, NULL);
        }
    }
}

/* --- active side --------------------------------------------------------------------------- */

static enum status api_resolve(struct rdma_device *device, const struct net_addr *dst,
                               uint16_t port, rdma_cm_event_fn *event, void *ctx,
                               struct rdma_cm_id **out)
{
    struct cm *cm = cm_of(device);
    uint8_t index = 0;
    const struct net_addr *local = cm_local_for(cm, dst, &index);

    if (local == NULL || net_addr_is_zero(dst)) {
        return STATUS_NOT_FOUND;
    }
    struct cm_conn *c = cm_conn_get(cm);
    if (c == NULL) {
        return STATUS_NO_SPACE;
    }
    c->id.event = event;
    c->id.ctx = ctx;
    c->id.peer = *dst;
    c->id.peer_port = port;
    c->id.local = *local;
    c->id.local_port = (uint16_t)(CM_PORT_FIRST | cm_random(cm));
    c->sgid_index = index;
    c->is_active = true;
    enum status status = cm_wire_attach(c);
    if (status != STATUS_OK) {
        cm_set_state(c, RDMA_CM_DEAD);
        cm_conn_settle(c);
        return status;
    }
    c->is_owned = true;
    cm_set_state(c, RDMA_CM_RESOLVING);
    if (c->path->ah->state == NET_PATH_READY) {
        cm_fsm(c, CM_IN_PATH_READY, NULL);
    }
    *out = &c->id;
    return STATUS_OK;
}

/* The QP, in INIT, is the id's from now on. A number belongs to one connection, its time wait
 * included. */
static enum status take_qp(struct cm_conn *c, struct rdma_qp *qp, uint8_t access)
{
    const struct cm_conn *other = cm_table_find(c->cm, CM_BY_QPN, qp->num, NULL);

    if (other != NULL && other != c) {
        return other->id.state == RDMA_CM_TIMEWAIT ? STATUS_AGAIN : STATUS_INVALID;
    }
    enum status status = cm_qp_init(qp, access);
    if (status == STATUS_OK) {
        c->id.qp = qp;
        c->local_qpn = qp->num;
        cm_table_add(c, CM_BY_QPN);
    }
    return status;
}

static enum status api_qp_init(struct rdma_cm_id *id, struct rdma_qp *qp, uint8_t access)
{
    struct cm_conn *c = cm_conn_of(id);

    if (qp == NULL || (id->state != RDMA_CM_RESOLVED && id->state != RDMA_CM_REQ_RCVD)) {
        return STATUS_INVALID;
    }
    return take_qp(c, qp, access);
}

/* What connect and accept have in common: guards, and the QP in INIT. */
static enum status begin(struct cm_conn *c, enum rdma_cm_state state,
                         const struct rdma_cm_param *param, uint32_t private_max)
{
    if (c->id.state != (uint8_t)state || param->qp == NULL || param->private_bytes > private_max ||
        (param->private_data == NULL && param->private_bytes > 0) || param->retry_count > 7 ||
        param->rnr_retry_count > 7) {
        return STATUS_INVALID;
    }
    enum status status = take_qp(c, param->qp, param->access);
    if (status != STATUS_OK) {
        return status;
    }
    c->access = param->access;
    return STATUS_OK;
}

static enum status api_connect(struct rdma_cm_id *id, const struct rdma_cm_param *param)
{
    struct cm_conn *c = cm_conn_of(id);
    struct cm *cm = c->cm;
    const struct rdma_device_attr *attr = &cm->device->attr;
    enum status status = begin(c, RDMA_CM_RESOLVED, param, RDMA_CM_REQ_PRIVATE_BYTES);

    if (status != STATUS_OK) {
        return status;
    }
    c->responder_resources = cm_min_u8(param->responder_resources, attr->dest_rd_atomic_max);
    c->initiator_depth = cm_min_u8(param->initiator_depth, attr->rd_atomic_max);
    c->retry_count = param->retry_count;
    c->rnr_retry = param->rnr_retry_count;
    c->path_mtu = attr->path_mtu_max;
    c->rq_psn = cm_random(cm) & 0xffffff;
    c->tid = (uint64_t)cm_random(cm) << 32 | c->comm_id;
    c->ack_timeout = (uint8_t)(cm->config.packet_lifetime + 1);
    c->wait_ns =
        cm_time_ns(cm->config.response_timeout) + 2 * cm_time_ns(cm->config.packet_lifetime);
    cm_mad_req(c, param->private_data, param->private_bytes, &c->msg);
    cm_set_state(c, RDMA_CM_REQ_SENT);
    cm_start_msg(c, cm->config.max_retries);
    return STATUS_OK;
}

/* --- passive side -------------------------------------------------------------------------- */

static enum status api_accept(struct rdma_cm_id *id, const struct rdma_cm_param *param)
{
    struct cm_conn *c = cm_conn_of(id);
    struct cm *cm = c->cm;
    enum status status = begin(c, RDMA_CM_REQ_RCVD, param, RDMA_CM_REP_PRIVATE_BYTES);

    if (status != STATUS_OK) {
        return status;
    }
    /* Until now they hold what the peer wants and what the device can do. */
    uint8_t responder_resources = c->responder_resources;
    uint8_t initiator_depth = c->initiator_depth;
    c->responder_resources = cm_min_u8(param->responder_resources, responder_resources);
    c->initiator_depth = cm_min_u8(param->initiator_depth, initiator_depth);
    c->rq_psn = cm_random(cm) & 0xffffff;
    /* To RTS before the REP leaves: the peer's first request may come before its RTU. */
    status = cm_qp_connect(c);
    if (status != STATUS_OK) {
        c->responder_resources = responder_resources;
        c->initiator_depth = initiator_depth;
        return status;
    }
    /* The REP's RNR count is the peer's to use; what it wishes of us came in its REQ. */
    c->rnr_retry = param->rnr_retry_count;
    cm_mad_rep(c, param->private_data, param->private_bytes, &c->msg);
    cm_decided(c);
    cm_set_state(c, RDMA_CM_REP_SENT);
    cm_start_msg(c, c->tries_left);
    return STATUS_OK;
}

static enum status api_reject(struct rdma_cm_id *id, const void *private_data,
                              uint32_t private_bytes)
{
    if (id->state != RDMA_CM_REQ_RCVD || private_bytes > RDMA_CM_REJ_PRIVATE_BYTES ||
        (private_data == NULL && private_bytes > 0)) {
        return STATUS_INVALID;
    }
    cm_refuse(cm_conn_of(id), RDMA_CM_REJ_CONSUMER, private_data, private_bytes);
    return STATUS_OK;
}

/* --- the end ------------------------------------------------------------------------------- */

static enum status api_disconnect(struct rdma_cm_id *id)
{
    if (id->state != RDMA_CM_ESTABLISHED) {
        return STATUS_INVALID;
    }
    cm_fsm(cm_conn_of(id), CM_IN_DISCONNECT, NULL);
    return STATUS_OK;
}

static void api_destroy(struct rdma_cm_id *id)
{
    struct cm_conn *c = cm_conn_of(id);

    ASSERT(c->in_use && c->is_owned);
    if (id->state == RDMA_CM_LISTEN) {
        close_listener(c);
    }
    /* The owner may destroy the QP from now on, or has done so before: then it is NULL. */
    cm_qp_error(c);
    id->qp = NULL;
    id->event = NULL;
    c->is_owned = false;
    cm_events_drop(c);
    cm_fsm(c, CM_IN_DESTROY, NULL);
}

static void api_visit(struct rdma_device *device,
                      void (*visit)(const struct rdma_cm_id *id, void *ctx), void *ctx)
{
    const struct cm *cm = cm_of(device);

    for (uint32_t i = 0; i < cm->config.id_count; i++) {
        if (cm->conns[i].in_use) {
            visit(&cm->conns[i].id, ctx);
        }
    }
}

void cm_api_fill(struct rdma_cm_ops *ops)
{
    *ops = (struct rdma_cm_ops){
        .listen = api_listen,
        .resolve = api_resolve,
        .qp_init = api_qp_init,
        .connect = api_connect,
        .accept = api_accept,
        .reject = api_reject,
        .disconnect = api_disconnect,
        .destroy = api_destroy,
        .visit = api_visit,
    };
}
