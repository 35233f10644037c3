/*
 * Queue pairs: made, destroyed, emptied, looked at. Attributes and states: soft_modify.c.
 */
#include "rdma/soft_priv.h"

#include "rdma/cm_soft.h"

#define NUMBER_TRIES 64 /* of many thousands; one that is taken is rare */

uint64_t soft_qp_memory_bytes(const struct rdma_device *device,
                              const struct rdma_qp_init_attr *attr)
{
    uint64_t bytes =
        (uint64_t)soft_ring_entries(attr->send_wr_count) * sizeof(struct soft_send_wqe);

    (void)device;
    if (attr->srq == NULL && attr->host_recv == NULL) {
        bytes += (uint64_t)soft_ring_entries(attr->recv_wr_count) * sizeof(struct soft_recv_wqe);
    }
    return bytes;
}

/* Completions of a host ring may go to any CQ for receives; a CQ in host memory takes no others,
 * since a wr_id that is no slot could not be checked. */
static bool host_rings_are_valid(const struct rdma_qp_init_attr *attr)
{
    const struct soft_cq *recv_cq = soft_cq_of(attr->recv_cq);
    bool is_host =
        attr->srq != NULL ? soft_srq_of(attr->srq)->ring.wqes == NULL : attr->host_recv != NULL;

    if (attr->host_recv != NULL && (attr->srq != NULL || attr->type != RDMA_QP_RC ||
                                    !soft_host_recv_is_valid(attr->host_recv))) {
        return false;
    }
    return soft_cq_of(attr->send_cq)->host_pd == NULL &&
           (recv_cq->host_pd == NULL || (recv_cq->host_pd == attr->pd && is_host));
}

static bool attr_is_valid(const struct soft_device *dev, const struct rdma_qp_init_attr *attr)
{
    const struct rdma_device_attr *limits = &dev->device.attr;

    if (attr->memory == NULL || attr->send_cq == NULL || attr->recv_cq == NULL ||
        attr->send_cq->device != &dev->device || attr->recv_cq->device != &dev->device ||
        !host_rings_are_valid(attr)) {
        return false;
    }
    if (attr->srq != NULL && (attr->srq->pd != attr->pd || attr->type != RDMA_QP_RC)) {
        return false;
    }
    return attr->send_wr_count >= 1 && attr->send_wr_count <= limits->wr_count_max &&
           attr->recv_wr_count <= limits->wr_count_max &&
           (attr->srq != NULL || attr->recv_wr_count >= 1) && attr->send_sge_count >= 1 &&
           attr->send_sge_count <= limits->sge_max && attr->recv_sge_count >= 1 &&
           attr->recv_sge_count <= limits->sge_max;
}

/* 0 and 1 are reserved, 0xffffff is multicast (IBA 3.5.10); one that a connection in time wait had
 * must not come back yet (12.4.5). */
static bool number_is_free(struct soft_device *dev, uint32_t number)
{
    return number > SOFT_QP1 && number != SOFT_QPN_MASK &&
           !(dev->has_cm && rdma_cm_soft_is_qpn_busy(&dev->device, number));
}

/* The upper part of a number is random, the lower the place in the table. 0: none is free. */
static uint32_t new_number(struct soft_device *dev, uint32_t index)
{
    for (uint32_t i = 0; i < NUMBER_TRIES; i++) {
        uint32_t number = (rng_u32(dev->rng) << dev->qp_index_bits | index) & SOFT_QPN_MASK;
        if (number_is_free(dev, number)) {
            return number;
        }
    }
    return 0;
}

static void users_count(const struct soft_qp *qp, bool more)
{
    uint32_t step = more ? 1 : UINT32_MAX;

    soft_cq_of(qp->qp.send_cq)->use_count += step;
    soft_cq_of(qp->qp.recv_cq)->use_count += step;
    if (qp->qp.srq != NULL) {
        soft_srq_of(qp->qp.srq)->use_count += step;
    }
    soft_pd_use(qp->qp.pd, more);
}

enum status soft_qp_create(const struct rdma_qp_init_attr *attr, struct rdma_qp **out)
{
    struct soft_device *dev = soft_device_of(attr->pd->device);
    struct soft_qp *qp;

    if (!attr_is_valid(dev, attr)) {
        return STATUS_INVALID;
    }
    if (attr->type == RDMA_QP_GSI) {
        qp = &dev->qps[0];
        if (qp->is_used) {
            return STATUS_EXISTS;
        }
    } else {
        qp = pool_get(&dev->qp_pool);
        if (qp == NULL) {
            return STATUS_NO_SPACE;
        }
    }
    uint32_t index = (uint32_t)(qp - dev->qps);
    uint32_t number = index == 0 ? SOFT_QP1 : new_number(dev, index);
    if (number == 0) {
        pool_put(&dev->qp_pool, qp);
        return STATUS_NO_SPACE;
    }
    uint32_t send_entries = soft_ring_entries(attr->send_wr_count);
    memset(qp, 0, sizeof(*qp));
    qp->qp = (struct rdma_qp){.pd = attr->pd,
                              .send_cq = attr->send_cq,
                              .recv_cq = attr->recv_cq,
                              .srq = attr->srq,
                              .ctx = attr->ctx,
                              .num = number,
                              .type = (uint8_t)attr->type,
                              .state = RDMA_QP_RESET};
    qp->dev = dev;
    qp->index = index;
    qp->is_used = true;
    qp->signal_all = attr->signal_all;
    qp->send_sge_count = attr->send_sge_count;
    qp->recv_sge_count = attr->recv_sge_count;
    qp->event.qp = &qp->qp;
    qp->req.wqes = attr->memory;
    qp->req.mask = send_entries - 1;
    if (attr->srq == NULL) {
        qp->rq.mask = soft_ring_entries(attr->recv_wr_count) - 1;
    }
    if (attr->host_recv != NULL) {
        qp->rq.host = *attr->host_recv;
    } else if (attr->srq == NULL) {
        qp->rq.wqes = (struct soft_recv_wqe *)(void *)(qp->req.wqes + send_entries);
    }
    list_init(&qp->active_link);
    list_init(&qp->ack_link);
    list_init(&qp->reap_link);
    list_init(&qp->event.link);
    timer_init(&qp->timer, soft_timer_fired);
    users_count(qp, true);
    *out = &qp->qp;
    return STATUS_OK;
}

void soft_qp_clear(struct soft_qp *qp)
{
    struct soft_send_wqe *wqes = qp->req.wqes;
    uint32_t mask = qp->req.mask;

    soft_cq_purge(soft_cq_of(qp->qp.send_cq), &qp->qp);
    soft_cq_purge(soft_cq_of(qp->qp.recv_cq), &qp->qp);
    timer_cancel(&qp->timer);
    list_remove(&qp->active_link);
    list_remove(&qp->ack_link);
    list_remove(&qp->reap_link);
    net_path_close(&qp->path);
    soft_rate_reset(qp);
    memset(&qp->req, 0, sizeof(qp->req));
    memset(&qp->resp, 0, sizeof(qp->resp));
    qp->req.wqes = wqes;
    qp->req.mask = mask;
    qp->rq.tail = qp->rq.head;
    qp->comm_est = false;
}

enum status soft_qp_destroy(struct rdma_qp *rdma_qp)
{
    struct soft_qp *qp = soft_qp_of(rdma_qp);
    struct soft_device *dev = qp->dev;

    if (!qp->is_dying) {
        qp->is_dying = true;
        if (dev->has_cm && qp->index != 0) {
            rdma_cm_soft_qp_gone(&dev->device, rdma_qp);
        }
        qp->qp.state = RDMA_QP_RESET;
        soft_qp_clear(qp);
        list_remove(&qp->event.link);
        qp->event.bits = 0;
    }
    if (net_tx_done_seq(dev->nif) < qp->tx_seq) {
        return STATUS_AGAIN;
    }
    users_count(qp, false);
    qp->is_used = false;
    if (qp->index != 0) {
        pool_put(&dev->qp_pool, qp);
    }
    return STATUS_OK;
}

void soft_qp_stop(struct soft_qp *qp)
{
    if (qp->qp.state == RDMA_QP_ERR || qp->qp.state == RDMA_QP_RESET) {
        return;
    }
    qp->qp.state = RDMA_QP_ERR;
    soft_forget_local_error(qp); /* one before it was the cause */
    timer_cancel(&qp->timer);
    qp->req.rto_ns = 0;
    qp->req.is_paused = false;
    qp->resp.read_next = qp->resp.read_head;
    if (qp->resp.nak_due == 0) {
        qp->resp.ack_due = false; /* a NAK that tells why still goes out */
    }
    soft_respond_flush(qp);
}

void soft_qp_error(struct soft_qp *qp)
{
    soft_qp_stop(qp);
    soft_complete(qp);
}

/* --- reports ---------------------------------------------------------------------------------- */

void soft_qp_query(const struct rdma_qp *rdma_qp, struct rdma_qp_info *info)
{
    const struct soft_qp *qp = (const struct soft_qp *)(const void *)rdma_qp;

    *info = (struct rdma_qp_info){
        .attr = qp->attr,
        .stats = qp->stats,
        .send_posted = qp->req.head - qp->req.tail,
        .recv_posted = qp->rq.head - qp->rq.tail,
        .sq_next_psn = qp->req.next_psn,
        .sq_una_psn = qp->req.una_psn,
        .rq_psn = qp->resp.psn,
        .msn = qp->resp.msn,
        .window_packets = RDMA_SOFT_WINDOW_PACKETS,
        .rate_mbps = qp->rate.current_mbps,
        .retries_left = qp->req.retries_left,
        .rnr_retries_left = qp->req.rnr_left,
        .reads_out = qp->req.reads_out,
        .reads_in = (uint8_t)(qp->resp.read_head - qp->resp.read_next),
    };
    info->attr.state = qp->qp.state;
}

void soft_qp_visit(struct rdma_device *device, void (*visit)(struct rdma_qp *qp, void *ctx),
                   void *ctx)
{
    struct soft_device *dev = soft_device_of(device);
    uint32_t count = dev->qp_pool.count + 1;

    for (uint32_t i = 0; i < count; i++) {
        if (dev->qps[i].is_used && !dev->qps[i].is_dying) {
            visit(&dev->qps[i].qp, ctx);
        }
    }
}

uint32_t rdma_soft_qp_bytes(void)
{
    return sizeof(struct soft_qp);
}
