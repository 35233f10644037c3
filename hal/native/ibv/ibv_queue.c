/*
 * Completion queues, shared receive queues and address handles. The rings that the contracts give
 * memory for hold what the library cannot tell: which work request a number stood for, and
 * completions that were taken out of turn.
 */
#include "hal/native/ibv/ibv_priv.h"

#include <errno.h>
#include <string.h>
#include "base/bits.h"
#include "base/log.h"

/* --- completion queues ----------------------------------------------------------------------- */

uint64_t rdma_ibv_cq_memory_bytes(const struct rdma_device *device, uint32_t entry_count)
{
    (void)device;
    return (uint64_t)rdma_ibv_round_up(entry_count) * sizeof(struct ibv_wc);
}

enum status rdma_ibv_cq_create(struct rdma_device *device, const struct rdma_cq_attr *attr,
                               struct rdma_cq **out)
{
    struct rdma_ibv_device *d = rdma_ibv_device_of(device);

    if (attr->host_pd != NULL) {
        return STATUS_UNSUPPORTED;
    }
    if (attr->entry_count == 0 || attr->entry_count > device->attr.cqe_count_max ||
        attr->memory == NULL) {
        return STATUS_INVALID;
    }
    struct rdma_ibv_cq *cq = pool_get(&d->cqs);
    if (cq == NULL) {
        return STATUS_NO_SPACE;
    }
    *cq = (struct rdma_ibv_cq){
        .base = {.device = device, .ctx = attr->ctx},
        .saved = attr->memory,
        .saved_mask = rdma_ibv_round_up(attr->entry_count) - 1,
    };
    cq->ibv = ibv_create_cq(d->context, (int)attr->entry_count, cq, d->channel, 0);
    if (cq->ibv == NULL) {
        enum status status = rdma_ibv_status(errno);
        pool_put(&d->cqs, cq);
        return status;
    }
    list_push_back(&d->all_cqs, &cq->link);
    *out = &cq->base;
    return STATUS_OK;
}

enum status rdma_ibv_cq_destroy(struct rdma_cq *base)
{
    struct rdma_ibv_device *d = rdma_ibv_device_of(base->device);
    struct rdma_ibv_cq *cq = rdma_ibv_cq_of(base);

    if (cq->qp_count > 0 || ibv_destroy_cq(cq->ibv) != 0) {
        return STATUS_AGAIN;
    }
    list_remove(&cq->link);
    pool_put(&d->cqs, cq);
    return STATUS_OK;
}

static bool is_full(const struct rdma_ibv_cq *cq)
{
    return cq->saved_head - cq->saved_tail > cq->saved_mask;
}

static void save(struct rdma_ibv_cq *cq, const struct ibv_wc *wc)
{
    cq->saved[cq->saved_head++ & cq->saved_mask] = *wc;
}

bool rdma_ibv_cq_arm(struct rdma_ibv_cq *cq)
{
    if (cq->saved_head != cq->saved_tail) {
        return false;
    }
    if (ibv_req_notify_cq(cq->ibv, 0) != 0) {
        return false;
    }
    /* What came before the request is announced by nobody: look once more. */
    struct ibv_wc wc;
    if (ibv_poll_cq(cq->ibv, 1, &wc) <= 0) {
        return true;
    }
    save(cq, &wc);
    return false;
}

/* A completion of a queue pair that is no more. */
static void drop(const struct rdma_ibv_qp *qp, const struct ibv_wc *wc)
{
    if ((wc->wr_id & RDMA_IBV_WR_ID_RECV) != 0) {
        rdma_ibv_recv_slot_put(rdma_ibv_recv_slots_of(qp), (uint32_t)wc->wr_id);
    }
}

void rdma_ibv_cq_purge(struct rdma_ibv_cq *cq, const struct rdma_ibv_qp *qp)
{
    uint32_t count = cq->saved_head - cq->saved_tail;
    struct ibv_wc wc;

    for (uint32_t i = 0; i < count; i++) {
        wc = cq->saved[cq->saved_tail++ & cq->saved_mask];
        if (wc.qp_num == qp->base.num) {
            drop(qp, &wc);
        } else {
            save(cq, &wc);
        }
    }
    while (!is_full(cq) && ibv_poll_cq(cq->ibv, 1, &wc) > 0) {
        if (wc.qp_num == qp->base.num) {
            drop(qp, &wc);
        } else {
            save(cq, &wc);
        }
    }
}

/* --- receives -------------------------------------------------------------------------------- */

void rdma_ibv_recv_slots_init(struct rdma_ibv_recv_slots *slots, void *memory, uint32_t count,
                              uint8_t sge_count)
{
    *slots = (struct rdma_ibv_recv_slots){
        .slots = memory,
        .count = count,
        .first_free = count > 0 ? 0 : RDMA_IBV_NO_SLOT,
        .sge_count = sge_count,
    };
    for (uint32_t i = 0; i < count; i++) {
        slots->slots[i] = (struct rdma_ibv_recv_slot){
            .next_free = i + 1 < count ? i + 1 : RDMA_IBV_NO_SLOT,
        };
    }
}

struct rdma_ibv_recv_slots *rdma_ibv_recv_slots_of(const struct rdma_ibv_qp *qp)
{
    return qp->base.srq != NULL ? &rdma_ibv_srq_of(qp->base.srq)->recvs
                                : &((struct rdma_ibv_qp *)(uintptr_t)qp)->recvs;
}

uint64_t rdma_ibv_recv_slot_put(struct rdma_ibv_recv_slots *slots, uint32_t slot)
{
    /* The number was ours and came back from the device once. */
    ASSERT(slot < slots->count && slots->slots[slot].is_posted == 1);
    slots->slots[slot].is_posted = 0;
    slots->slots[slot].next_free = slots->first_free;
    slots->first_free = slot;
    slots->posted--;
    return slots->slots[slot].wr_id;
}

/* --- shared receive queues ------------------------------------------------------------------- */

uint64_t rdma_ibv_srq_memory_bytes(const struct rdma_device *device, uint32_t wr_count)
{
    (void)device;
    return (uint64_t)rdma_ibv_round_up(wr_count) * sizeof(struct rdma_ibv_recv_slot);
}

static enum status srq_make(struct rdma_ibv_device *d, const struct rdma_srq_attr *attr,
                            struct rdma_ibv_srq *srq)
{
    struct ibv_srq_init_attr init = {
        .srq_context = srq,
        .attr = {.max_wr = rdma_ibv_round_up(attr->wr_count), .max_sge = d->base.attr.sge_max},
    };
    srq->ibv = ibv_create_srq(rdma_ibv_pd_of(attr->pd)->ibv, &init);
    if (srq->ibv == NULL) {
        return rdma_ibv_status(errno);
    }
    if (attr->limit > 0) {
        struct ibv_srq_attr limit = {.srq_limit = attr->limit};
        int error = ibv_modify_srq(srq->ibv, &limit, IBV_SRQ_LIMIT);
        if (error != 0) {
            ibv_destroy_srq(srq->ibv);
            return rdma_ibv_status(error);
        }
    }
    rdma_ibv_recv_slots_init(&srq->recvs, attr->memory, rdma_ibv_round_up(attr->wr_count),
                             d->base.attr.sge_max);
    return STATUS_OK;
}

enum status rdma_ibv_srq_create(const struct rdma_srq_attr *attr, struct rdma_srq **out)
{
    struct rdma_ibv_device *d = rdma_ibv_device_of(attr->pd->device);

    if (attr->host_recv != NULL) {
        return STATUS_UNSUPPORTED;
    }
    if (attr->wr_count == 0 || attr->wr_count > d->base.attr.wr_count_max ||
        attr->limit > attr->wr_count || attr->memory == NULL) {
        return STATUS_INVALID;
    }
    struct rdma_ibv_srq *srq = pool_get(&d->srqs);
    if (srq == NULL) {
        return STATUS_NO_SPACE;
    }
    *srq = (struct rdma_ibv_srq){.base = {.pd = attr->pd, .ctx = attr->ctx}};
    enum status status = srq_make(d, attr, srq);
    if (status != STATUS_OK) {
        pool_put(&d->srqs, srq);
        return status;
    }
    rdma_ibv_pd_of(attr->pd)->user_count++;
    *out = &srq->base;
    return STATUS_OK;
}

enum status rdma_ibv_srq_destroy(struct rdma_srq *base)
{
    struct rdma_ibv_device *d = rdma_ibv_device_of(base->pd->device);
    struct rdma_ibv_srq *srq = rdma_ibv_srq_of(base);

    if (srq->qp_count > 0 || ibv_destroy_srq(srq->ibv) != 0) {
        return STATUS_AGAIN;
    }
    rdma_ibv_pd_of(base->pd)->user_count--;
    pool_put(&d->srqs, srq);
    return STATUS_OK;
}

/* --- address handles ------------------------------------------------------------------------- */

void rdma_ibv_fill_ah(const struct rdma_ibv_device *device, const struct rdma_av *av,
                      struct ibv_ah_attr *out)
{
    *out = (struct ibv_ah_attr){.is_global = 1, .port_num = device->port};
    memcpy(out->grh.dgid.raw, av->dgid.bytes, sizeof(out->grh.dgid.raw));
    out->grh.sgid_index = av->sgid_index;
    out->grh.hop_limit = av->hop_limit != 0 ? av->hop_limit : 64;
    out->grh.traffic_class = av->traffic_class;
    /* rdma_flow_label_to_udp_sport() makes 0xc000 | these bits of it; 0 lets the kernel choose. */
    out->grh.flow_label = av->udp_src_port & 0x3fff;
}

enum status rdma_ibv_ah_create(struct rdma_pd *pd, const struct rdma_av *av, struct rdma_ah **out)
{
    struct rdma_ibv_device *d = rdma_ibv_device_of(pd->device);
    struct rdma_ibv_ah *ah = pool_get(&d->ahs);
    struct ibv_ah_attr attr;

    if (ah == NULL) {
        return STATUS_NO_SPACE;
    }
    rdma_ibv_fill_ah(d, av, &attr);
    *ah = (struct rdma_ibv_ah){.base = {.pd = pd, .state = NET_PATH_READY}};
    ah->ibv = ibv_create_ah(rdma_ibv_pd_of(pd)->ibv, &attr);
    if (ah->ibv == NULL) {
        int error = errno;
        pool_put(&d->ahs, ah);
        return error == ENOMEM ? STATUS_NO_SPACE : STATUS_NOT_FOUND;
    }
    rdma_ibv_pd_of(pd)->user_count++;
    *out = &ah->base;
    return STATUS_OK;
}

void rdma_ibv_ah_destroy(struct rdma_ah *base)
{
    struct rdma_ibv_device *d = rdma_ibv_device_of(base->pd->device);
    struct rdma_ibv_ah *ah = CONTAINER_OF(base, struct rdma_ibv_ah, base);

    int error = ibv_destroy_ah(ah->ibv);
    if (error != 0) {
        LOG_LIMITED(ERROR, "ibv: %s: an address handle is not given back: %s", d->base.name,
                    strerror(error));
    }
    rdma_ibv_pd_of(base->pd)->user_count--;
    pool_put(&d->ahs, ah);
}
