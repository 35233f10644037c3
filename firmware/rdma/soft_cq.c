/*
 * Completion queues and shared receive queues.
 */
#include "rdma/soft_priv.h"

/* --- completion queues ------------------------------------------------------------------------ */

uint64_t soft_cq_memory_bytes(const struct rdma_device *device, uint32_t entry_count)
{
    (void)device;
    return (uint64_t)soft_ring_entries(entry_count) * sizeof(struct rdma_wc);
}

COLD enum status soft_cq_create(struct rdma_device *device, const struct rdma_cq_attr *attr,
                                struct rdma_cq **out)
{
    if (attr->entry_count == 0 || attr->entry_count > device->attr.cqe_count_max ||
        attr->memory == NULL || (attr->host_pd != NULL && attr->host_pd->device != device)) {
        return STATUS_INVALID;
    }
    struct soft_cq *cq = pool_get(&soft_device_of(device)->cq_pool);
    if (cq == NULL) {
        return STATUS_NO_SPACE;
    }
    uint32_t mask = soft_ring_entries(attr->entry_count) - 1;
    *cq = (struct soft_cq){.cq = {.device = device, .ctx = attr->ctx},
                           .wcs = attr->memory,
                           .mask = mask,
                           .wcs_mask = mask};
    if (attr->host_pd != NULL) {
        cq->wcs = &cq->host_wc;
        cq->wcs_mask = 0;
        cq->host_cqes = attr->memory;
        cq->host_pd = attr->host_pd;
        soft_pd_use(cq->host_pd, true);
    }
    cq->event.cq = &cq->cq;
    list_init(&cq->event.link);
    *out = &cq->cq;
    return STATUS_OK;
}

COLD enum status soft_cq_destroy(struct rdma_cq *cq)
{
    struct soft_cq *soft = soft_cq_of(cq);

    if (soft->use_count > 0) {
        return STATUS_AGAIN;
    }
    if (soft->host_pd != NULL) {
        soft_pd_use(soft->host_pd, false);
    }
    list_remove(&soft->event.link);
    pool_put(&soft_device_of(cq->device)->cq_pool, soft);
    return STATUS_OK;
}

uint32_t soft_cq_poll(struct rdma_cq *cq, struct rdma_wc *wcs, uint32_t max)
{
    struct soft_cq *soft = soft_cq_of(cq);
    uint32_t count = 0;

    if (UNLIKELY(soft->host_cqes != NULL)) {
        return soft_host_poll(soft, wcs, max);
    }
    while (count < max && soft->tail != soft->head) {
        const struct rdma_wc *wc = &soft->wcs[soft->tail++ & soft->mask];
        if (LIKELY(wc->qp != NULL)) { /* else its QP is gone */
            wcs[count++] = *wc;
        }
    }
    return count;
}

struct rdma_wc *soft_cq_push(struct soft_cq *cq)
{
    if (UNLIKELY(cq->head - cq->tail > cq->mask)) {
        if (!cq->has_overrun) {
            cq->has_overrun = true;
            soft_event_raise(soft_device_of(cq->cq.device), &cq->event, RDMA_EVENT_CQ_ERR);
        }
        return NULL;
    }
    return &cq->wcs[cq->head++ & cq->wcs_mask];
}

void soft_cq_purge(struct soft_cq *cq, struct rdma_qp *qp)
{
    if (cq->host_cqes != NULL) {
        soft_host_purge(cq, soft_qp_of(qp));
        return;
    }
    for (uint32_t i = cq->tail; i != cq->head; i++) {
        struct rdma_wc *wc = &cq->wcs[i & cq->mask];
        if (wc->qp == qp) {
            wc->qp = NULL;
        }
    }
}

/* --- receive queues --------------------------------------------------------------------------- */

enum status soft_recv_ring_post(struct soft_device *dev, struct soft_recv_ring *ring,
                                uint32_t sge_max, const struct rdma_recv_wr *wr,
                                const struct rdma_recv_wr **bad)
{
    enum status status = STATUS_OK;

    if (UNLIKELY(ring->wqes == NULL)) {
        return soft_host_post(dev, ring, wr, bad);
    }
    for (; wr != NULL; wr = wr->next) {
        if (wr->sge_count > sge_max) {
            status = STATUS_INVALID;
            break;
        }
        if (ring->head - ring->tail > ring->mask) {
            status = STATUS_AGAIN;
            break;
        }
        struct soft_recv_wqe *wqe = &ring->wqes[ring->head & ring->mask];
        wqe->wr_id = wr->wr_id;
        wqe->sge_count = wr->sge_count;
        uint64_t len_bytes = 0;
        for (uint32_t i = 0; i < wr->sge_count; i++) {
            wqe->sges[i] = wr->sges[i];
            len_bytes += wr->sges[i].len_bytes;
        }
        wqe->len_bytes = (uint32_t)min_u64(len_bytes, UINT32_MAX); /* more than any message has */
        ring->head++;
    }
    if (status != STATUS_OK && bad != NULL) {
        *bad = wr;
    }
    return status;
}

uint64_t soft_srq_memory_bytes(const struct rdma_device *device, uint32_t wr_count)
{
    (void)device;
    return (uint64_t)soft_ring_entries(wr_count) * sizeof(struct soft_recv_wqe);
}

COLD enum status soft_srq_create(const struct rdma_srq_attr *attr, struct rdma_srq **out)
{
    struct soft_device *dev = soft_device_of(attr->pd->device);

    if (attr->wr_count == 0 || attr->wr_count > dev->device.attr.wr_count_max ||
        (attr->host_recv == NULL ? attr->memory == NULL
                                 : !soft_host_recv_is_valid(attr->host_recv))) {
        return STATUS_INVALID;
    }
    struct soft_srq *srq = pool_get(&dev->srq_pool);
    if (srq == NULL) {
        return STATUS_NO_SPACE;
    }
    *srq = (struct soft_srq){
        .srq = {.pd = attr->pd, .ctx = attr->ctx},
        .ring = {.wqes = attr->memory, .mask = soft_ring_entries(attr->wr_count) - 1},
        .limit = attr->limit};
    if (attr->host_recv != NULL) {
        srq->ring.wqes = NULL;
        srq->ring.host = *attr->host_recv;
    }
    srq->event.srq = &srq->srq;
    list_init(&srq->event.link);
    soft_pd_use(attr->pd, true);
    *out = &srq->srq;
    return STATUS_OK;
}

COLD enum status soft_srq_destroy(struct rdma_srq *srq)
{
    struct soft_srq *soft = soft_srq_of(srq);

    if (soft->use_count > 0) {
        return STATUS_AGAIN;
    }
    soft_pd_use(srq->pd, false);
    list_remove(&soft->event.link);
    pool_put(&soft_device_of(srq->pd->device)->srq_pool, soft);
    return STATUS_OK;
}

enum status soft_srq_post(struct rdma_srq *srq, const struct rdma_recv_wr *wr,
                          const struct rdma_recv_wr **bad)
{
    return soft_recv_ring_post(soft_device_of(srq->pd->device), &soft_srq_of(srq)->ring,
                               RDMA_SOFT_SGES, wr, bad);
}
