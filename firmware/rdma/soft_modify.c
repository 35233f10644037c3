/*
 * The states of a queue pair and the attributes that lead from one to the next (IBA 10.3.1 and
 * 11.2.4.2 with tables 91 and 92).
 */
#include "rdma/soft_priv.h"

#define RTR_NEEDS_RC                                                     \
    (RDMA_QP_AV | RDMA_QP_PATH_MTU | RDMA_QP_DEST_QPN | RDMA_QP_RQ_PSN | \
     RDMA_QP_MAX_DEST_RD_ATOMIC | RDMA_QP_MIN_RNR_TIMER)
#define RTS_NEEDS_RC                                                            \
    (RDMA_QP_TIMEOUT | RDMA_QP_RETRY_CNT | RDMA_QP_RNR_RETRY | RDMA_QP_SQ_PSN | \
     RDMA_QP_MAX_RD_ATOMIC)

/* A way from one state to another: what must be given, what may be. */
struct transition {
    uint8_t from;
    uint8_t to;
    uint16_t rc_needs;
    uint16_t rc_may;
    uint16_t ud_needs;
    uint16_t ud_may;
};

static const struct transition transitions[] = {
    {RDMA_QP_RESET, RDMA_QP_INIT, RDMA_QP_ACCESS, 0, RDMA_QP_QKEY, 0},
    {RDMA_QP_INIT, RDMA_QP_INIT, 0, RDMA_QP_ACCESS, 0, RDMA_QP_QKEY},
    {RDMA_QP_INIT, RDMA_QP_RTR, RTR_NEEDS_RC, RDMA_QP_ACCESS, 0, RDMA_QP_QKEY},
    {RDMA_QP_RTR, RDMA_QP_RTS, RTS_NEEDS_RC, RDMA_QP_ACCESS | RDMA_QP_MIN_RNR_TIMER, RDMA_QP_SQ_PSN,
     RDMA_QP_QKEY},
    {RDMA_QP_RTS, RDMA_QP_RTS, 0, RDMA_QP_ACCESS | RDMA_QP_MIN_RNR_TIMER, 0, RDMA_QP_QKEY},
    {RDMA_QP_RTS, RDMA_QP_SQD, 0, 0, 0, 0},
    {RDMA_QP_SQD, RDMA_QP_RTS, 0, RDMA_QP_ACCESS | RDMA_QP_MIN_RNR_TIMER, 0, RDMA_QP_QKEY},
    {RDMA_QP_SQD, RDMA_QP_SQD, 0,
     RDMA_QP_ACCESS | RDMA_QP_MIN_RNR_TIMER | RDMA_QP_TIMEOUT | RDMA_QP_RETRY_CNT |
         RDMA_QP_RNR_RETRY | RDMA_QP_AV,
     0, RDMA_QP_QKEY},
};

/* --- checks ----------------------------------------------------------------------------------- */

static bool transition_is_allowed(const struct soft_qp *qp, enum rdma_qp_state to, uint32_t mask)
{
    bool is_rc = qp->qp.type == RDMA_QP_RC;
    uint32_t given = mask & ~RDMA_QP_STATE;

    if (to == RDMA_QP_RESET || to == RDMA_QP_ERR) { /* from any state */
        return given == 0 && (to == RDMA_QP_RESET || qp->qp.state != RDMA_QP_RESET);
    }
    for (uint32_t i = 0; i < ARRAY_SIZE(transitions); i++) {
        const struct transition *t = &transitions[i];
        uint32_t needs = is_rc ? t->rc_needs : t->ud_needs;
        uint32_t may = is_rc ? t->rc_may : t->ud_may;
        if (t->from == qp->qp.state && t->to == to) {
            return (given & needs) == needs && (given & ~(needs | may)) == 0;
        }
    }
    return false;
}

static bool values_are_valid(const struct soft_qp *qp, const struct rdma_qp_attr *attr,
                             uint32_t mask)
{
    const struct rdma_device_attr *limits = &qp->dev->device.attr;
    const struct {
        uint32_t bit;
        uint32_t value;
        uint32_t low;
        uint32_t high;
    } rows[] = {
        {RDMA_QP_ACCESS, attr->access, 0,
         RDMA_ACCESS_LOCAL_WRITE | RDMA_ACCESS_REMOTE_WRITE | RDMA_ACCESS_REMOTE_READ},
        {RDMA_QP_PATH_MTU, attr->path_mtu, RDMA_MTU_256, limits->path_mtu_max},
        {RDMA_QP_TIMEOUT, attr->timeout, 0, 31},
        {RDMA_QP_RETRY_CNT, attr->retry_cnt, 0, 7},
        {RDMA_QP_RNR_RETRY, attr->rnr_retry, 0, 7},
        {RDMA_QP_RQ_PSN, attr->rq_psn, 0, ROCE_PSN_MASK},
        {RDMA_QP_SQ_PSN, attr->sq_psn, 0, ROCE_PSN_MASK},
        {RDMA_QP_DEST_QPN, attr->dest_qpn, SOFT_QP1 + 1, SOFT_QPN_MASK - 1},
        {RDMA_QP_MAX_RD_ATOMIC, attr->max_rd_atomic, 0, limits->rd_atomic_max},
        {RDMA_QP_MAX_DEST_RD_ATOMIC, attr->max_dest_rd_atomic, 0, limits->dest_rd_atomic_max},
        {RDMA_QP_MIN_RNR_TIMER, attr->min_rnr_timer, 0, 31},
    };

    for (uint32_t i = 0; i < ARRAY_SIZE(rows); i++) {
        if ((mask & rows[i].bit) != 0 &&
            (rows[i].value < rows[i].low || rows[i].value > rows[i].high)) {
            return false;
        }
    }
    return true;
}

/* --- path ------------------------------------------------------------------------------------- */

static void path_changed(struct net_path *path)
{
    struct soft_qp *qp = CONTAINER_OF(path, struct soft_qp, path);

    soft_qp_activate(qp);
}

static enum status open_path(struct soft_qp *qp, const struct rdma_av *av)
{
    struct net_path_config config;
    enum status status = soft_path_config(qp->dev, av, qp->qp.num, &config);

    if (status != STATUS_OK) {
        return status;
    }
    net_path_close(&qp->path);
    return net_path_open(qp->dev->nif, &qp->path, &config, path_changed);
}

bool soft_path_reopen(struct soft_qp *qp)
{
    return open_path(qp, &qp->attr.av) == STATUS_OK;
}

/* --- modify ----------------------------------------------------------------------------------- */

static uint64_t rto_of(uint32_t timeout)
{
    return timeout == 0 ? 0 : UINT64_C(4096) << timeout;
}

static void take(struct soft_qp *qp, const struct rdma_qp_attr *attr, uint32_t mask)
{
    struct rdma_qp_attr *own = &qp->attr;

#define TAKE(bit, field)              \
    do {                              \
        if ((mask & (bit)) != 0) {    \
            own->field = attr->field; \
        }                             \
    } while (0)
    TAKE(RDMA_QP_ACCESS, access);
    TAKE(RDMA_QP_QKEY, qkey);
    TAKE(RDMA_QP_AV, av);
    TAKE(RDMA_QP_PATH_MTU, path_mtu);
    TAKE(RDMA_QP_TIMEOUT, timeout);
    TAKE(RDMA_QP_RETRY_CNT, retry_cnt);
    TAKE(RDMA_QP_RNR_RETRY, rnr_retry);
    TAKE(RDMA_QP_RQ_PSN, rq_psn);
    TAKE(RDMA_QP_SQ_PSN, sq_psn);
    TAKE(RDMA_QP_DEST_QPN, dest_qpn);
    TAKE(RDMA_QP_MAX_RD_ATOMIC, max_rd_atomic);
    TAKE(RDMA_QP_MAX_DEST_RD_ATOMIC, max_dest_rd_atomic);
    TAKE(RDMA_QP_MIN_RNR_TIMER, min_rnr_timer);
#undef TAKE
    if ((mask & RDMA_QP_PATH_MTU) != 0) {
        qp->mtu_bytes = rdma_mtu_bytes((enum rdma_mtu)own->path_mtu);
    }
    if ((mask & RDMA_QP_RQ_PSN) != 0) {
        qp->resp.psn = own->rq_psn;
        qp->resp.ack_psn = roce_psn_add(own->rq_psn, ROCE_PSN_MASK);
    }
    if ((mask & RDMA_QP_SQ_PSN) != 0) {
        qp->req.next_psn = own->sq_psn;
        qp->req.send_psn = own->sq_psn;
        qp->req.max_psn = own->sq_psn;
        qp->req.una_psn = own->sq_psn;
    }
    if ((mask & RDMA_QP_TIMEOUT) != 0) {
        qp->req.rto_duration_ns = rto_of(own->timeout);
    }
    if ((mask & RDMA_QP_RETRY_CNT) != 0) {
        qp->req.retries_left = own->retry_cnt;
    }
    if ((mask & RDMA_QP_RNR_RETRY) != 0) {
        qp->req.rnr_left = own->rnr_retry;
    }
}

enum status soft_qp_modify(struct rdma_qp *rdma_qp, const struct rdma_qp_attr *attr, uint32_t mask)
{
    struct soft_qp *qp = soft_qp_of(rdma_qp);
    enum rdma_qp_state to =
        (enum rdma_qp_state)((mask & RDMA_QP_STATE) != 0 ? attr->state : qp->qp.state);

    if (qp->is_dying || !transition_is_allowed(qp, to, mask) || !values_are_valid(qp, attr, mask)) {
        return STATUS_INVALID;
    }
    if ((mask & RDMA_QP_AV) != 0) {
        enum status status = open_path(qp, &attr->av);
        if (status != STATUS_OK) {
            if (qp->qp.state != RDMA_QP_INIT) {
                (void)open_path(qp, &qp->attr.av); /* the old one was good */
            }
            return status;
        }
    }
    if (to == RDMA_QP_ERR) {
        soft_qp_error(qp);
        return STATUS_OK;
    }
    if (to == RDMA_QP_RESET) {
        qp->qp.state = RDMA_QP_RESET;
        soft_qp_clear(qp);
        return STATUS_OK;
    }
    take(qp, attr, mask);
    qp->req.is_drained = false;
    qp->qp.state = (uint8_t)to;
    soft_qp_activate(qp); /* what was posted may go, or the queue is drained already */
    return STATUS_OK;
}
