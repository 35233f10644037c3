/*
 * CM: what arrives at QP1. Finds the connection that a message is about, or answers as one who has
 * none (IBA 12.9); new requests. Nothing here trusts the sender: a message counts only when it
 * comes from the address of the connection's peer and names the numbers of both sides.
 */
#include "rdma/cm_priv.h"

#include "base/log.h"

/* A datagram and where it came from. */
struct arrival {
    const struct cm_mad *mad;
    const struct net_addr *src;
    const struct net_addr *dst;
    uint8_t sgid_index;
};

/* The messages have consecutive attributes, in the order of the inputs. */
_Static_assert(CM_ATTR_MRA - CM_ATTR_REQ == CM_IN_MRA && CM_ATTR_REJ - CM_ATTR_REQ == CM_IN_REJ &&
                   CM_ATTR_REP - CM_ATTR_REQ == CM_IN_REP &&
                   CM_ATTR_RTU - CM_ATTR_REQ == CM_IN_RTU &&
                   CM_ATTR_DREQ - CM_ATTR_REQ == CM_IN_DREQ &&
                   CM_ATTR_DREP - CM_ATTR_REQ == CM_IN_DREP,
               "an attribute minus CM_ATTR_REQ is an input");

static void answer_rej(struct cm *cm, const struct arrival *in, uint8_t message, uint16_t reason)
{
    struct cm_mad rej;

    cm_mad_stray_rej(in->mad, message, reason, &rej);
    cm_send_stray(cm, in->src, in->sgid_index, &rej);
}

/* --- messages of connections --------------------------------------------------------------- */

/* The sender believes in a connection that is not here. Only a REJ must not be answered. */
static void answer_stranger(struct cm *cm, const struct arrival *in, enum cm_input input)
{
    struct cm_mad drep;

    CM_COUNT(cm, rx_no_id);
    if (input == CM_IN_REP) {
        answer_rej(cm, in, CM_MESSAGE_REP, RDMA_CM_REJ_INVALID_COMM_ID);
    } else if (input == CM_IN_RTU) {
        answer_rej(cm, in, CM_MESSAGE_OTHER, RDMA_CM_REJ_INVALID_COMM_ID);
    } else if (input == CM_IN_DREQ) {
        cm_mad_stray_drep(in->mad, &drep);
        cm_send_stray(cm, in->src, in->sgid_index, &drep);
    }
}

/* Who gave up on a request had no number of ours yet: the peer's own one tells then. */
static bool is_anonymous_rej(const struct cm_mad *mad, enum cm_input input)
{
    return input == CM_IN_REJ && be32_get(mad->ids.remote_comm_id) == 0 &&
           be16_get(mad->rej.reason) == RDMA_CM_REJ_TIMEOUT;
}

static void receive_message(struct cm *cm, const struct arrival *in, enum cm_input input)
{
    const struct cm_mad *mad = in->mad;
    uint32_t theirs = be32_get(mad->ids.local_comm_id);
    struct cm_conn *c =
        is_anonymous_rej(mad, input)
            ? cm_table_find(cm, CM_BY_REMOTE_ID, theirs, in->src)
            : cm_table_find(cm, CM_BY_COMM_ID, be32_get(mad->ids.remote_comm_id), NULL);

    if (c == NULL) {
        answer_stranger(cm, in, input);
        return;
    }
    if (!net_addr_equal(&c->id.peer, in->src)) {
        CM_COUNT(cm, rx_wrong_peer);
        return;
    }
    if (c->has_remote_id && c->remote_id != theirs) {
        answer_stranger(cm, in, input);
        return;
    }
    if (input == CM_IN_DREQ && c->local_qpn != 0 &&
        c->local_qpn != be24_get(mad->dreq.remote_qpn)) {
        CM_COUNT(cm, rx_unexpected);
        return;
    }
    cm_fsm(c, input, mad);
}

/* --- requests ------------------------------------------------------------------------------ */

static bool is_same_request(const struct cm_conn *c, const struct cm_mad *mad)
{
    return !c->is_active && c->tid == be64_get(mad->header.tid) &&
           c->remote_qpn == be24_get(mad->req.local_qpn) &&
           c->sq_psn == be24_get(mad->req.starting_psn);
}

/* The peer uses a number anew that is in use here: it has forgotten the old connection, and has to
 * come again when that is gone (12.9.8.3.1). */
static void refuse_stale(struct cm *cm, const struct arrival *in, struct cm_conn *old)
{
    CM_COUNT(cm, rx_stale);
    CM_COUNT(cm, refused);
    answer_rej(cm, in, CM_MESSAGE_REQ, RDMA_CM_REJ_STALE_CONN);
    cm_fsm(old, CM_IN_STALE, NULL);
}

static void new_request(struct cm *cm, const struct arrival *in, const struct cm_request *request,
                        struct cm_conn *listener)
{
    struct cm_conn *c =
        listener->undecided < listener->backlog ? cm_conn_get(cm) : (struct cm_conn *)NULL;

    if (c == NULL) {
        CM_COUNT(cm, refused);
        answer_rej(cm, in, CM_MESSAGE_REQ, RDMA_CM_REJ_NO_RESOURCES);
        return;
    }
    c->id.event = listener->id.event;
    c->id.ctx = listener->id.ctx;
    c->id.peer = *in->src;
    c->id.peer_port = request->peer_port;
    c->id.local = *in->dst;
    c->id.local_port = request->port;
    c->sgid_index = in->sgid_index;
    c->tid = be64_get(in->mad->header.tid);
    if (cm_wire_attach(c) != STATUS_OK) {
        CM_COUNT(cm, tx_dropped); /* no way to answer: the peer will ask again */
        cm_set_state(c, RDMA_CM_DEAD);
        cm_conn_settle(c);
        return;
    }
    cm_mad_take_req(c, &in->mad->req);
    cm_table_add(c, CM_BY_REMOTE_ID);
    cm_table_add(c, CM_BY_REMOTE_QPN);
    c->listener = listener;
    listener->undecided++;
    cm_set_state(c, RDMA_CM_REQ_RCVD);
    cm_event(c, CM_EV_REQUEST, in->mad->req.private_data + sizeof(struct cm_ip_header),
             CM_IP_PRIVATE_BYTES);
    cm_start_timer(c, min_u64(CM_MRA_AFTER_NS, cm_time_ns(c->peer_response) / 2));
}

/* A request that is here already, in whatever state. True: there is no more to do. */
static bool receive_known(struct cm *cm, const struct arrival *in)
{
    const struct cm_req *req = &in->mad->req;
    struct cm_conn *c = cm_table_find(cm, CM_BY_REMOTE_ID, be32_get(req->local_comm_id), in->src);

    if (c != NULL && is_same_request(c, in->mad)) {
        cm_fsm(c, CM_IN_REQ, in->mad);
        return true;
    }
    if (c != NULL && c->is_rejected) {
        cm_table_remove(c, CM_BY_REMOTE_ID);
        c = NULL;
    }
    if (c == NULL) {
        c = cm_table_find(cm, CM_BY_REMOTE_QPN, be24_get(req->local_qpn), in->src);
    }
    if (c != NULL) {
        refuse_stale(cm, in, c);
        return true;
    }
    return false;
}

static void receive_req(struct cm *cm, const struct arrival *in)
{
    struct cm_request request;
    struct cm_conn *listener = NULL;
    uint16_t reason = cm_mad_read_req(cm, in->mad, in->src, in->dst, &request);

    /* Only what can be a request shows an older connection to be dead. */
    if (reason == 0) {
        if (receive_known(cm, in)) {
            return;
        }
        listener = cm_listener_find(cm, in->dst, request.port);
        if (listener == NULL) {
            reason = RDMA_CM_REJ_INVALID_SERVICE_ID;
        }
    }
    if (reason != 0) {
        CM_COUNT(cm, refused);
        LOG_LIMITED(INFO, "rdma: CM rejects a request for port %u: reason %u", request.port,
                    reason);
        answer_rej(cm, in, CM_MESSAGE_REQ, reason);
        return;
    }
    new_request(cm, in, &request, listener);
}

/* --- all ----------------------------------------------------------------------------------- */

void cm_receive(struct cm *cm, const struct cm_mad *mad, uint32_t len_bytes,
                const struct net_addr *src, const struct net_addr *dst, uint8_t sgid_index)
{
    struct arrival in = {.mad = mad, .src = src, .dst = dst, .sgid_index = sgid_index};
    enum status status = cm_mad_check(mad, len_bytes);

    if (status == STATUS_BAD_DATA) {
        CM_COUNT(cm, rx_malformed);
        return;
    }
    if (status != STATUS_OK) {
        CM_COUNT(cm, rx_unknown);
        return;
    }
    uint16_t attribute = be16_get(mad->header.attribute_id);
    if (attribute == CM_ATTR_REQ) {
        receive_req(cm, &in);
    } else {
        receive_message(cm, &in, (enum cm_input)(attribute - CM_ATTR_REQ));
    }
}
