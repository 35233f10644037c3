/*
 * CM: the state machine of a connection (IBA 12.9, figures of the active and the passive side):
 * a table of functions, one for each state and input that means something; each returns the next
 * state. They set timers, queue events and owe messages; nothing leaves and nobody is called from
 * here.
 */
#include "rdma/cm_priv.h"

#include "base/trace.h"

typedef enum rdma_cm_state handler(struct cm_conn *c, const struct cm_mad *mad);

static enum rdma_cm_state keep(struct cm_conn *c, const struct cm_mad *mad)
{
    (void)mad;
    return (enum rdma_cm_state)c->id.state;
}

static enum rdma_cm_state forget(struct cm_conn *c, const struct cm_mad *mad)
{
    (void)c;
    (void)mad;
    return RDMA_CM_DEAD;
}

/* --- timers, messages that are repeated ---------------------------------------------------- */

void cm_start_timer(struct cm_conn *c, uint64_t duration_ns)
{
    timer_arm(&c->timer, sched_now_ns() + duration_ns);
}

void cm_start_msg(struct cm_conn *c, uint8_t tries)
{
    c->tries_left = tries;
    c->got_mra = false;
    cm_owe(c, CM_OWES_MSG);
    cm_start_timer(c, c->wait_ns);
}

/* Once more, if there is a try left. The same bytes, with the same transaction ID (12.9). */
static bool repeat(struct cm_conn *c, uint8_t message)
{
    if (c->tries_left == 0) {
        CM_COUNT(c->cm, timeouts);
        return false;
    }
    c->tries_left--;
    c->got_mra = false;
    CM_COUNT(c->cm, retransmits);
    cm_owe(c, message);
    cm_start_timer(c, c->wait_ns);
    return true;
}

/* The peer wants time: once for each message sent, so that it cannot hold an id for ever. */
static void extend(struct cm_conn *c, const struct cm_mad *mad, uint8_t message)
{
    uint8_t service = (uint8_t)FIELD_GET(CM_MRA_SERVICE, mad->mra.service);

    if (c->got_mra || FIELD_GET(CM_MESSAGE, mad->mra.message) != message) {
        CM_COUNT(c->cm, rx_unexpected);
        return;
    }
    c->got_mra = true;
    cm_start_timer(c, cm_time_ns(cm_min_u8(service, CM_SERVICE_TIME)) +
                          2 * cm_time_ns(c->cm->config.packet_lifetime));
}

static void owe_rej(struct cm_conn *c, uint8_t message, uint16_t reason)
{
    cm_mad_rej(c, message, reason, NULL, 0, &c->msg);
    cm_owe(c, CM_OWES_MSG);
}

/* --- active side: until the reply ---------------------------------------------------------- */

static enum rdma_cm_state resolved(struct cm_conn *c, const struct cm_mad *mad)
{
    (void)mad;
    cm_event(c, CM_EV_RESOLVED, NULL, 0);
    return RDMA_CM_RESOLVED;
}

static enum rdma_cm_state unreachable(struct cm_conn *c, const struct cm_mad *mad)
{
    (void)mad;
    cm_event(c, CM_EV_UNREACHABLE, NULL, 0);
    return RDMA_CM_DEAD;
}

/* The owner lets go: whoever may have the request already is told (as Linux does). */
static enum rdma_cm_state req_abandon(struct cm_conn *c, const struct cm_mad *mad)
{
    (void)mad;
    owe_rej(c, CM_MESSAGE_OTHER, RDMA_CM_REJ_TIMEOUT);
    return RDMA_CM_DEAD;
}

static enum rdma_cm_state req_timeout(struct cm_conn *c, const struct cm_mad *mad)
{
    if (repeat(c, CM_OWES_MSG)) {
        return RDMA_CM_REQ_SENT;
    }
    cm_event(c, CM_EV_UNREACHABLE, NULL, 0);
    return req_abandon(c, mad);
}

static enum rdma_cm_state req_mra(struct cm_conn *c, const struct cm_mad *mad)
{
    extend(c, mad, CM_MESSAGE_REQ);
    return keep(c, mad);
}

static enum rdma_cm_state req_rejected(struct cm_conn *c, const struct cm_mad *mad)
{
    c->owed = 0;
    c->reason = be16_get(mad->rej.reason);
    cm_event(c, CM_EV_REJECTED, mad->rej.private_data, sizeof(mad->rej.private_data));
    /* A stale connection is an old one of this QP's number: it has to die out (12.9.8.3.1). */
    return c->reason == RDMA_CM_REJ_STALE_CONN ? RDMA_CM_TIMEWAIT : RDMA_CM_DEAD;
}

/* The reply cannot be used: the peer is told, and the owner. */
static enum rdma_cm_state rep_refuse(struct cm_conn *c, uint16_t reason)
{
    owe_rej(c, CM_MESSAGE_REP, reason);
    cm_qp_error(c);
    memset(c->private_data, 0, sizeof(c->private_data));
    c->reason = reason;
    cm_event(c, CM_EV_REJECTED, NULL, 0);
    return RDMA_CM_DEAD;
}

static enum rdma_cm_state rep_received(struct cm_conn *c, const struct cm_mad *mad)
{
    struct cm *cm = c->cm;

    if (!cm_mad_take_rep(c, &mad->rep)) {
        CM_COUNT(cm, rx_malformed);
        return keep(c, mad);
    }
    struct cm_conn *old = cm_table_find(cm, CM_BY_REMOTE_QPN, c->remote_qpn, &c->id.peer);
    if (old != NULL && old != c) {
        CM_COUNT(cm, rx_stale);
        cm_fsm(old, CM_IN_STALE, NULL); /* another connection, and it feeds no third one */
        return rep_refuse(c, RDMA_CM_REJ_STALE_CONN);
    }
    cm_table_add(c, CM_BY_REMOTE_ID);
    cm_table_add(c, CM_BY_REMOTE_QPN);
    if (cm_qp_connect(c) != STATUS_OK) {
        return rep_refuse(c, RDMA_CM_REJ_NO_RESOURCES);
    }
    c->owed = 0;
    cm_owe(c, CM_OWES_RTU);
    CM_COUNT(cm, established);
    cm_event(c, CM_EV_ESTABLISHED, mad->rep.private_data, sizeof(mad->rep.private_data));
    return RDMA_CM_ESTABLISHED;
}

/* --- passive side: until the owner has decided --------------------------------------------- */

static enum rdma_cm_state request_wait(struct cm_conn *c, const struct cm_mad *mad)
{
    cm_owe(c, CM_OWES_MRA);
    return keep(c, mad);
}

static enum rdma_cm_state request_again(struct cm_conn *c, const struct cm_mad *mad)
{
    CM_COUNT(c->cm, rx_duplicates);
    return request_wait(c, mad);
}

/* The peer does not want any more. The owner may not even have heard that it did. */
static enum rdma_cm_state request_gone(struct cm_conn *c, const struct cm_mad *mad)
{
    c->reason = mad != NULL ? be16_get(mad->rej.reason) : (uint16_t)RDMA_CM_REJ_STALE_CONN;
    c->owed = 0;
    if (c->is_owned) {
        cm_event(c, CM_EV_DISCONNECTED, NULL, 0);
    } else {
        cm_events_drop(c);
    }
    return RDMA_CM_DEAD;
}

static enum rdma_cm_state refuse(struct cm_conn *c, uint16_t reason, const void *private_data,
                                 uint32_t private_bytes)
{
    cm_mad_rej(c, CM_MESSAGE_REQ, reason, private_data, private_bytes, &c->msg);
    c->owed = 0;
    cm_owe(c, CM_OWES_MSG);
    c->is_rejected = true;
    /* Neither QP was connected: both may be used again at once. */
    cm_table_remove(c, CM_BY_REMOTE_QPN);
    cm_table_remove(c, CM_BY_QPN);
    return RDMA_CM_TIMEWAIT;
}

static enum rdma_cm_state request_refuse(struct cm_conn *c, const struct cm_mad *mad)
{
    (void)mad;
    return refuse(c, RDMA_CM_REJ_CONSUMER, NULL, 0);
}

void cm_refuse(struct cm_conn *c, uint16_t reason, const void *private_data, uint32_t private_bytes)
{
    cm_set_state(c, refuse(c, reason, private_data, private_bytes));
}

/* --- passive side: until the peer has confirmed -------------------------------------------- */

static enum rdma_cm_state rep_again(struct cm_conn *c, const struct cm_mad *mad)
{
    CM_COUNT(c->cm, rx_duplicates);
    cm_owe(c, CM_OWES_MSG);
    return keep(c, mad);
}

static enum rdma_cm_state rep_mra(struct cm_conn *c, const struct cm_mad *mad)
{
    extend(c, mad, CM_MESSAGE_REP);
    return keep(c, mad);
}

/* RTU, or the first packet of the connection (12.9). */
static enum rdma_cm_state confirmed(struct cm_conn *c, const struct cm_mad *mad)
{
    (void)mad;
    c->owed = 0;
    CM_COUNT(c->cm, established);
    cm_event(c, CM_EV_ESTABLISHED, NULL, 0);
    return RDMA_CM_ESTABLISHED;
}

static enum rdma_cm_state rep_abandon(struct cm_conn *c, const struct cm_mad *mad)
{
    (void)mad;
    owe_rej(c, CM_MESSAGE_OTHER, RDMA_CM_REJ_CONSUMER);
    return RDMA_CM_TIMEWAIT;
}

/* The connection is over, whoever ended it. */
static enum rdma_cm_state over(struct cm_conn *c, const struct cm_mad *mad)
{
    (void)mad;
    c->owed &= CM_OWES_MSG | CM_OWES_DREP;
    cm_qp_error(c);
    cm_event(c, CM_EV_DISCONNECTED, NULL, 0);
    return RDMA_CM_TIMEWAIT;
}

static enum rdma_cm_state rep_timeout(struct cm_conn *c, const struct cm_mad *mad)
{
    if (repeat(c, CM_OWES_MSG)) {
        return RDMA_CM_REP_SENT;
    }
    owe_rej(c, CM_MESSAGE_OTHER, RDMA_CM_REJ_TIMEOUT);
    return over(c, mad);
}

/* --- both sides ---------------------------------------------------------------------------- */

static enum rdma_cm_state rejected_late(struct cm_conn *c, const struct cm_mad *mad)
{
    c->owed = 0;
    c->reason = be16_get(mad->rej.reason);
    return over(c, mad);
}

static enum rdma_cm_state forgotten(struct cm_conn *c, const struct cm_mad *mad)
{
    c->owed = 0;
    c->reason = RDMA_CM_REJ_STALE_CONN;
    return over(c, mad);
}

static enum rdma_cm_state repeated(struct cm_conn *c, const struct cm_mad *mad)
{
    CM_COUNT(c->cm, rx_duplicates);
    return keep(c, mad);
}

/* The RTU was lost, or the reply was faster than it. */
static enum rdma_cm_state rtu_again(struct cm_conn *c, const struct cm_mad *mad)
{
    if (c->is_active) {
        cm_owe(c, CM_OWES_RTU);
    }
    return repeated(c, mad);
}

static enum rdma_cm_state dreq_start(struct cm_conn *c, const struct cm_mad *mad)
{
    (void)mad;
    cm_qp_error(c);
    c->dreq_tid = (uint64_t)cm_random(c->cm) << 32 | c->comm_id;
    c->tries_left = CM_DREQ_RETRIES;
    c->owed = 0;
    cm_owe(c, CM_OWES_DREQ);
    cm_start_timer(c, c->wait_ns);
    return RDMA_CM_DREQ_SENT;
}

static enum rdma_cm_state dreq_timeout(struct cm_conn *c, const struct cm_mad *mad)
{
    return repeat(c, CM_OWES_DREQ) ? RDMA_CM_DREQ_SENT : over(c, mad);
}

/* Whatever state we are in, who disconnects gets his answer (12.9). */
static enum rdma_cm_state dreq_answer(struct cm_conn *c, const struct cm_mad *mad)
{
    c->drep_tid = be64_get(mad->header.tid);
    cm_owe(c, CM_OWES_DREP);
    return keep(c, mad);
}

static enum rdma_cm_state dreq_received(struct cm_conn *c, const struct cm_mad *mad)
{
    c->owed = 0;
    (void)dreq_answer(c, mad);
    return over(c, mad);
}

static enum rdma_cm_state timewait_req(struct cm_conn *c, const struct cm_mad *mad)
{
    struct cm_mad rej;

    CM_COUNT(c->cm, rx_duplicates);
    if (c->is_rejected) {
        cm_owe(c, CM_OWES_MSG);
    } else {
        cm_mad_stray_rej(mad, CM_MESSAGE_REQ, RDMA_CM_REJ_STALE_CONN, &rej);
        cm_send_stray(c->cm, &c->id.peer, c->sgid_index, &rej);
    }
    return keep(c, mad);
}

static enum rdma_cm_state timewait_end(struct cm_conn *c, const struct cm_mad *mad)
{
    (void)mad;
    if (!c->is_rejected) {
        cm_event(c, CM_EV_TIMEWAIT_EXIT, NULL, 0);
    }
    return RDMA_CM_DEAD;
}

/* --- the table ----------------------------------------------------------------------------- */

/* NULL: the input means nothing in this state; it is counted. */
static handler *const table[CM_STATES][CM_INPUTS] = {
    [RDMA_CM_IDLE] = {[CM_IN_DESTROY] = forget},
    [RDMA_CM_LISTEN] = {[CM_IN_DESTROY] = forget},
    [RDMA_CM_RESOLVING] =
        {
            [CM_IN_PATH_READY] = resolved,
            [CM_IN_PATH_FAILED] = unreachable,
            [CM_IN_DESTROY] = forget,
        },
    [RDMA_CM_RESOLVED] = {[CM_IN_DESTROY] = forget},
    [RDMA_CM_REQ_SENT] =
        {
            [CM_IN_MRA] = req_mra,
            [CM_IN_REJ] = req_rejected,
            [CM_IN_REP] = rep_received,
            [CM_IN_DREQ] = dreq_answer,
            [CM_IN_TIMEOUT] = req_timeout,
            [CM_IN_DESTROY] = req_abandon,
        },
    [RDMA_CM_REQ_RCVD] =
        {
            [CM_IN_REQ] = request_again,
            [CM_IN_REJ] = request_gone,
            [CM_IN_DREQ] = dreq_answer,
            [CM_IN_TIMEOUT] = request_wait,
            [CM_IN_STALE] = request_gone,
            [CM_IN_DESTROY] = request_refuse,
        },
    [RDMA_CM_REP_SENT] =
        {
            [CM_IN_REQ] = rep_again,
            [CM_IN_MRA] = rep_mra,
            [CM_IN_REJ] = rejected_late,
            [CM_IN_RTU] = confirmed,
            [CM_IN_DREQ] = dreq_received,
            [CM_IN_TIMEOUT] = rep_timeout,
            [CM_IN_COMM_EST] = confirmed,
            [CM_IN_STALE] = forgotten,
            [CM_IN_DESTROY] = rep_abandon,
        },
    [RDMA_CM_ESTABLISHED] =
        {
            [CM_IN_REQ] = repeated,
            [CM_IN_REJ] = rejected_late,
            [CM_IN_REP] = rtu_again,
            [CM_IN_RTU] = repeated,
            [CM_IN_DREQ] = dreq_received,
            [CM_IN_COMM_EST] = keep,
            [CM_IN_STALE] = dreq_start,
            [CM_IN_DISCONNECT] = dreq_start,
            [CM_IN_DESTROY] = dreq_start,
        },
    [RDMA_CM_DREQ_SENT] =
        {
            [CM_IN_REQ] = repeated,
            [CM_IN_REJ] = rejected_late,
            [CM_IN_DREQ] = dreq_received,
            [CM_IN_DREP] = over,
            [CM_IN_TIMEOUT] = dreq_timeout,
            [CM_IN_COMM_EST] = keep,
            [CM_IN_STALE] = keep,
            [CM_IN_DESTROY] = keep,
        },
    [RDMA_CM_TIMEWAIT] =
        {
            [CM_IN_REQ] = timewait_req,
            [CM_IN_DREQ] = dreq_answer,
            [CM_IN_TIMEOUT] = timewait_end,
            [CM_IN_STALE] = keep,
            [CM_IN_DESTROY] = keep,
        },
    [RDMA_CM_DEAD] = {[CM_IN_DREQ] = dreq_answer, [CM_IN_DESTROY] = keep},
};

/* Late packets: there and back, and the time that the peer takes to answer (12.9). A rejected
 * request stays until its sender would have repeated it. */
static uint64_t timewait_ns(const struct cm_conn *c)
{
    const struct rdma_cm_soft_config *config = &c->cm->config;

    if (c->is_rejected) {
        return cm_time_ns(c->peer_response) + 4 * cm_time_ns(config->packet_lifetime);
    }
    return 2 * cm_time_ns(config->packet_lifetime) + cm_time_ns(config->ack_delay);
}

void cm_set_state(struct cm_conn *c, enum rdma_cm_state state)
{
    if (c->id.state == (uint8_t)state) {
        return;
    }
    TRACE(c->cm->device->core, CM_STATE, 0, c->comm_id, c->id.state, state);
    c->id.state = (uint8_t)state;
    switch (state) {
    case RDMA_CM_TIMEWAIT:
        cm_start_timer(c, timewait_ns(c));
        cm_decided(c);
        break;
    case RDMA_CM_DEAD:
        /* Found no more but by our own number, which is nobody else's until the object is free. */
        cm_table_remove(c, CM_BY_QPN);
        cm_table_remove(c, CM_BY_REMOTE_ID);
        cm_table_remove(c, CM_BY_REMOTE_QPN);
        cm_decided(c);
        timer_cancel(&c->timer);
        break;
    case RDMA_CM_ESTABLISHED:
        timer_cancel(&c->timer);
        break;
    case RDMA_CM_IDLE:
    case RDMA_CM_LISTEN:
    case RDMA_CM_RESOLVING:
    case RDMA_CM_RESOLVED:
    case RDMA_CM_REQ_SENT:
    case RDMA_CM_REQ_RCVD:
    case RDMA_CM_REP_SENT:
    case RDMA_CM_DREQ_SENT:
    default:
        break;
    }
}

void cm_fsm(struct cm_conn *c, enum cm_input input, const struct cm_mad *mad)
{
    handler *fn = table[c->id.state][input];

    if (fn == NULL) {
        CM_COUNT(c->cm, rx_unexpected);
        return;
    }
    cm_set_state(c, fn(c, mad));
    cm_conn_settle(c);
}
