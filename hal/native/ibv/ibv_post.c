/*
 * Posting: chains are translated in batches, each handed to the library in one call, which rings
 * one doorbell.
 */
#include "hal/native/ibv/ibv_priv.h"

#include <arpa/inet.h>
#include <errno.h>

/* --- scatter/gather entries ------------------------------------------------------------------ */

/* Empty entries are left out: some devices take a length of 0 for 2 GiB. */
static int convert_sges(struct rdma_ibv_device *d, struct rdma_pd *pd, const struct rdma_sge *sges,
                        uint32_t count, struct ibv_sge *out)
{
    int used = 0;

    for (uint32_t i = 0; i < count; i++) {
        if (sges[i].len_bytes == 0) {
            continue;
        }
        out[used] = (struct ibv_sge){
            .addr = sges[i].addr, .length = sges[i].len_bytes, .lkey = sges[i].lkey};
        rdma_ibv_key_translate(d, pd, &out[used]);
        used++;
    }
    return used;
}

/* --- send ------------------------------------------------------------------------------------ */

static unsigned int send_flags(uint32_t flags)
{
    return ((flags & RDMA_SEND_SIGNALED) != 0 ? (unsigned int)IBV_SEND_SIGNALED : 0) |
           ((flags & RDMA_SEND_FENCE) != 0 ? (unsigned int)IBV_SEND_FENCE : 0) |
           ((flags & RDMA_SEND_SOLICITED) != 0 ? (unsigned int)IBV_SEND_SOLICITED : 0) |
           ((flags & RDMA_SEND_INLINE) != 0 ? (unsigned int)IBV_SEND_INLINE : 0);
}

static bool fits_inline(const struct rdma_ibv_qp *qp, const struct rdma_send_wr *wr)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < wr->sge_count; i++) {
        bytes += wr->sges[i].len_bytes;
    }
    return bytes <= qp->inline_bytes;
}

static enum status fill_ud(const struct rdma_ibv_qp *qp, const struct rdma_send_wr *wr,
                           struct ibv_send_wr *out)
{
    if (qp->base.type == RDMA_QP_RC) {
        return STATUS_OK;
    }
    if (wr->ud.ah == NULL) {
        return STATUS_INVALID;
    }
    out->wr.ud.ah = CONTAINER_OF(wr->ud.ah, struct rdma_ibv_ah, base)->ibv;
    out->wr.ud.remote_qpn = wr->ud.remote_qpn;
    out->wr.ud.remote_qkey = wr->ud.remote_qkey;
    return STATUS_OK;
}

static enum status fill_rdma(const struct rdma_ibv_qp *qp, const struct rdma_send_wr *wr,
                             struct ibv_send_wr *out)
{
    out->wr.rdma.remote_addr = wr->rdma.remote_addr;
    out->wr.rdma.rkey = wr->rdma.rkey;
    return qp->base.type == RDMA_QP_RC ? STATUS_OK : STATUS_INVALID;
}

/* The key counts as not bound from here on; its window may be in use until the work request has
 * ended. */
static void begin_invalidate(struct rdma_ibv_qp *qp, const struct rdma_send_wr *wr,
                             struct rdma_ibv_send_slot *slot)
{
    struct rdma_ibv_key *key = rdma_ibv_key_find(rdma_ibv_device_of(qp->base.pd->device), wr->imm);

    if (key != NULL && key->base.pd == qp->base.pd) {
        rdma_ibv_key_unbound(key);
        key->invalidates++;
        slot->key = key;
        slot->value = wr->imm;
    }
}

/* What differs from opcode to opcode. */
static enum status fill_opcode(struct rdma_ibv_qp *qp, const struct rdma_send_wr *wr,
                               struct ibv_send_wr *out, struct rdma_ibv_send_slot *slot)
{
    bool is_rc = qp->base.type == RDMA_QP_RC;

    switch ((enum rdma_wr_opcode)wr->opcode) {
    case RDMA_WR_SEND:
        out->opcode = IBV_WR_SEND;
        return fill_ud(qp, wr, out);
    case RDMA_WR_SEND_WITH_IMM:
        out->opcode = IBV_WR_SEND_WITH_IMM;
        out->imm_data = htonl(wr->imm);
        return fill_ud(qp, wr, out);
    case RDMA_WR_SEND_WITH_INV:
        out->opcode = IBV_WR_SEND_WITH_INV;
        out->invalidate_rkey = wr->imm;
        return is_rc ? STATUS_OK : STATUS_INVALID;
    case RDMA_WR_RDMA_WRITE:
        out->opcode = IBV_WR_RDMA_WRITE;
        return fill_rdma(qp, wr, out);
    case RDMA_WR_RDMA_WRITE_WITH_IMM:
        out->opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
        out->imm_data = htonl(wr->imm);
        return fill_rdma(qp, wr, out);
    case RDMA_WR_RDMA_READ:
        out->opcode = IBV_WR_RDMA_READ;
        return fill_rdma(qp, wr, out);
    case RDMA_WR_LOCAL_INV:
        if (!is_rc) {
            return STATUS_INVALID;
        }
        out->opcode = IBV_WR_LOCAL_INV;
        out->invalidate_rkey = wr->imm;
        begin_invalidate(qp, wr, slot);
        return STATUS_OK;
    case RDMA_WR_BIND: {
        enum status status = is_rc ? rdma_ibv_key_begin_bind(qp, wr, out) : STATUS_INVALID;
        if (status == STATUS_OK) {
            slot->key = rdma_ibv_key_of(wr->bind.key);
            slot->value = slot->key->base.value;
        }
        return status;
    }
    default:
        return STATUS_INVALID;
    }
}

static enum status convert_send(struct rdma_ibv_qp *qp, const struct rdma_send_wr *wr,
                                uint32_t index)
{
    struct rdma_ibv_device *d = rdma_ibv_device_of(qp->base.pd->device);
    struct ibv_send_wr *out = &d->send_wrs[index];
    uint32_t number = qp->send_head + index;
    struct rdma_ibv_send_slot *slot = &qp->sends[number & qp->send_mask];
    bool has_data = wr->opcode != RDMA_WR_LOCAL_INV && wr->opcode != RDMA_WR_BIND;
    uint32_t sge_count = has_data ? wr->sge_count : 0;

    if (number - qp->send_tail > qp->send_mask) {
        return STATUS_AGAIN;
    }
    if (sge_count > qp->send_sge_count ||
        (has_data && (wr->flags & RDMA_SEND_INLINE) != 0 && !fits_inline(qp, wr))) {
        return STATUS_INVALID;
    }
    *out = (struct ibv_send_wr){
        .wr_id = number,
        .sg_list = d->sges[index],
        .send_flags = send_flags(has_data ? wr->flags : wr->flags & ~RDMA_SEND_INLINE),
    };
    *slot = (struct rdma_ibv_send_slot){.wr_id = wr->wr_id, .opcode = wr->opcode};
    enum status status = fill_opcode(qp, wr, out, slot);
    if (status == STATUS_OK) {
        out->num_sge = convert_sges(d, qp->base.pd, wr->sges, sge_count, d->sges[index]);
    }
    return status;
}

/* The library did not take it: what the translation did to a key is undone. */
static void undo(struct rdma_ibv_qp *qp, const struct rdma_ibv_send_slot *slot)
{
    (void)qp;
    if (slot->key == NULL) {
        return;
    }
    if (slot->opcode == RDMA_WR_BIND) {
        rdma_ibv_key_unbound(slot->key);
        return;
    }
    /* What the window is bound to was forgotten with the invalidation: it must go. */
    slot->key->invalidates--;
    rdma_ibv_key_renew(slot->key);
}

/* The kernel names a window by its current value when the bind is posted, so the next value is
 * written down only then. */
static void commit(const struct rdma_ibv_send_slot *slot)
{
    if (slot->key != NULL && slot->opcode == RDMA_WR_BIND) {
        slot->key->mw->rkey = slot->value;
    }
}

/* A key that was bound in this batch already has another value by the next bind. */
static bool ends_batch(const struct rdma_ibv_device *d, const struct rdma_send_wr *wr)
{
    return wr->opcode == RDMA_WR_BIND && rdma_ibv_key_of(wr->bind.key)->batch == d->batch;
}

/* Posts the first `count` of send_wrs[]; returns how many the library took. */
static uint32_t hand_over(struct rdma_ibv_qp *qp, uint32_t count, enum status *status)
{
    struct rdma_ibv_device *d = rdma_ibv_device_of(qp->base.pd->device);
    struct ibv_send_wr *bad = NULL;
    uint32_t taken = count;

    if (count == 0) {
        return 0;
    }
    for (uint32_t i = 0; i + 1 < count; i++) {
        d->send_wrs[i].next = &d->send_wrs[i + 1];
    }
    int error = ibv_post_send(qp->ibv, d->send_wrs, &bad);
    if (error != 0) {
        taken = bad != NULL ? (uint32_t)(bad - d->send_wrs) : 0;
        *status = error == ENOMEM || error == -ENOMEM ? STATUS_AGAIN : STATUS_INVALID;
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct rdma_ibv_send_slot *slot = &qp->sends[(qp->send_head + i) & qp->send_mask];
        if (i < taken) {
            commit(slot);
        } else {
            undo(qp, slot);
        }
    }
    qp->send_head += taken;
    return taken;
}

enum status rdma_ibv_post_send(struct rdma_qp *base, const struct rdma_send_wr *wr,
                               const struct rdma_send_wr **bad)
{
    struct rdma_ibv_qp *qp = rdma_ibv_qp_of(base);
    struct rdma_ibv_device *d = rdma_ibv_device_of(base->pd->device);
    enum status status = base->state < RDMA_QP_RTS ? STATUS_INVALID : STATUS_OK;

    while (wr != NULL && status == STATUS_OK) {
        const struct rdma_send_wr *first = wr;
        uint32_t count = 0;
        d->batch++;
        while (wr != NULL && count < RDMA_IBV_BATCH && !ends_batch(d, wr)) {
            status = convert_send(qp, wr, count);
            if (status != STATUS_OK) {
                break;
            }
            count++;
            wr = wr->next;
        }
        uint32_t taken = hand_over(qp, count, &status);
        for (wr = first; taken > 0; taken--) {
            wr = wr->next;
        }
    }
    if (bad != NULL && status != STATUS_OK) {
        *bad = wr;
    }
    return status;
}

/* --- receive --------------------------------------------------------------------------------- */

static enum status convert_recv(struct rdma_ibv_device *d, struct rdma_pd *pd,
                                struct rdma_ibv_recv_slots *slots, const struct rdma_recv_wr *wr,
                                uint32_t index)
{
    uint32_t number = slots->first_free;

    if (wr->sge_count > slots->sge_count) {
        return STATUS_INVALID;
    }
    if (number == RDMA_IBV_NO_SLOT) {
        return STATUS_AGAIN;
    }
    struct rdma_ibv_recv_slot *slot = &slots->slots[number];
    slots->first_free = slot->next_free;
    slots->posted++;
    slot->wr_id = wr->wr_id;
    slot->is_posted = 1;
    d->recv_wrs[index] = (struct ibv_recv_wr){
        .wr_id = RDMA_IBV_WR_ID_RECV | number,
        .sg_list = d->sges[index],
        .num_sge = convert_sges(d, pd, wr->sges, wr->sge_count, d->sges[index]),
    };
    if (index > 0) {
        d->recv_wrs[index - 1].next = &d->recv_wrs[index];
    }
    return STATUS_OK;
}

/* One of the two is given. Returns how many the library took. */
static uint32_t hand_over_recv(struct rdma_ibv_device *d, struct ibv_qp *qp, struct ibv_srq *srq,
                               struct rdma_ibv_recv_slots *slots, uint32_t count,
                               enum status *status)
{
    struct ibv_recv_wr *bad = NULL;
    uint32_t taken = count;

    if (count == 0) {
        return 0;
    }
    int error = qp != NULL ? ibv_post_recv(qp, d->recv_wrs, &bad)
                           : ibv_post_srq_recv(srq, d->recv_wrs, &bad);
    if (error != 0) {
        taken = bad != NULL ? (uint32_t)(bad - d->recv_wrs) : 0;
        *status = error == ENOMEM || error == -ENOMEM ? STATUS_AGAIN : STATUS_INVALID;
    }
    for (uint32_t i = count; i > taken; i--) {
        rdma_ibv_recv_slot_put(slots, (uint32_t)d->recv_wrs[i - 1].wr_id);
    }
    return taken;
}

static enum status post_recvs(struct rdma_pd *pd, struct ibv_qp *qp, struct ibv_srq *srq,
                              struct rdma_ibv_recv_slots *slots, const struct rdma_recv_wr *wr,
                              const struct rdma_recv_wr **bad)
{
    struct rdma_ibv_device *d = rdma_ibv_device_of(pd->device);
    enum status status = STATUS_OK;

    while (wr != NULL && status == STATUS_OK) {
        const struct rdma_recv_wr *first = wr;
        uint32_t count = 0;
        while (wr != NULL && count < RDMA_IBV_BATCH) {
            status = convert_recv(d, pd, slots, wr, count);
            if (status != STATUS_OK) {
                break;
            }
            count++;
            wr = wr->next;
        }
        uint32_t taken = hand_over_recv(d, qp, srq, slots, count, &status);
        for (wr = first; taken > 0; taken--) {
            wr = wr->next;
        }
    }
    if (bad != NULL && status != STATUS_OK) {
        *bad = wr;
    }
    return status;
}

enum status rdma_ibv_post_recv(struct rdma_qp *base, const struct rdma_recv_wr *wr,
                               const struct rdma_recv_wr **bad)
{
    struct rdma_ibv_qp *qp = rdma_ibv_qp_of(base);

    if (base->state == RDMA_QP_RESET || base->srq != NULL) {
        if (bad != NULL) {
            *bad = wr;
        }
        return STATUS_INVALID;
    }
    return post_recvs(base->pd, qp->ibv, NULL, &qp->recvs, wr, bad);
}

enum status rdma_ibv_srq_post(struct rdma_srq *base, const struct rdma_recv_wr *wr,
                              const struct rdma_recv_wr **bad)
{
    struct rdma_ibv_srq *srq = rdma_ibv_srq_of(base);

    return post_recvs(base->pd, NULL, srq->ibv, &srq->recvs, wr, bad);
}
