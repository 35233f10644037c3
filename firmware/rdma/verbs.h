/*
 * Verbs: the polled RDMA interface of the firmware. Terms, rules and work-completion statuses are
 * those of the InfiniBand Architecture (IBA, volume 1, release 1.4, chapters 10 and 11) and of
 * libibverbs; nothing blocks, nothing allocates.
 *
 * A device belongs to one core, its owner, and so does everything made from it: every call is made
 * there, and so is every callback. A provider implements a device: RoCEv2 in software over an
 * Ethernet port (rdma/soft.h), or rdma-core's libibverbs (hal/native/ibv, native board).
 *
 * Unlike libibverbs: memory of rings is the caller's; completion channels do not exist, one polls;
 * immediate data are numbers in host order; memory regions come in three kinds, of which keys
 * bound to a scatter list (struct rdma_key) are made for one I/O. Leaves out: atomics, UC, RD, XRC,
 * multicast, partitions other than the default.
 */
#ifndef RDMA_VERBS_H
#define RDMA_VERBS_H

#include "rdma/types.h"

/* --- provider --------------------------------------------------------------------------------- */

struct rdma_ops {
    enum status (*pd_alloc)(struct rdma_device *device, uint16_t fn, struct rdma_pd **out);
    enum status (*pd_free)(struct rdma_pd *pd);
    enum status (*mr_reg)(struct rdma_pd *pd, const struct rdma_mr_attr *attr,
                          struct rdma_mr **out);
    enum status (*mr_dereg)(struct rdma_mr *mr);
    enum status (*key_alloc)(struct rdma_pd *pd, struct rdma_key **out);
    enum status (*key_free)(struct rdma_key *key);
    uint32_t (*key_prepare)(struct rdma_key *key);
    enum status (*key_bind)(struct rdma_key *key, const struct mem_ref *ref, uint64_t iova,
                            uint32_t access);
    void (*key_invalidate)(struct rdma_key *key);
    bool (*key_is_quiet)(const struct rdma_key *key);
    uint64_t (*cq_memory_bytes)(const struct rdma_device *device, uint32_t entry_count);
    enum status (*cq_create)(struct rdma_device *device, const struct rdma_cq_attr *attr,
                             struct rdma_cq **out);
    enum status (*cq_destroy)(struct rdma_cq *cq);
    uint32_t (*cq_poll)(struct rdma_cq *cq, struct rdma_wc *wcs, uint32_t max);
    uint64_t (*srq_memory_bytes)(const struct rdma_device *device, uint32_t wr_count);
    enum status (*srq_create)(const struct rdma_srq_attr *attr, struct rdma_srq **out);
    enum status (*srq_destroy)(struct rdma_srq *srq);
    enum status (*srq_post)(struct rdma_srq *srq, const struct rdma_recv_wr *wr,
                            const struct rdma_recv_wr **bad);
    uint64_t (*qp_memory_bytes)(const struct rdma_device *device,
                                const struct rdma_qp_init_attr *attr);
    enum status (*qp_create)(const struct rdma_qp_init_attr *attr, struct rdma_qp **out);
    enum status (*qp_destroy)(struct rdma_qp *qp);
    enum status (*qp_modify)(struct rdma_qp *qp, const struct rdma_qp_attr *attr, uint32_t mask);
    void (*qp_query)(const struct rdma_qp *qp, struct rdma_qp_info *info);
    enum status (*post_send)(struct rdma_qp *qp, const struct rdma_send_wr *wr,
                             const struct rdma_send_wr **bad);
    enum status (*post_recv)(struct rdma_qp *qp, const struct rdma_recv_wr *wr,
                             const struct rdma_recv_wr **bad);
    enum status (*ah_create)(struct rdma_pd *pd, const struct rdma_av *av, struct rdma_ah **out);
    void (*ah_destroy)(struct rdma_ah *ah);
    void (*qp_visit)(struct rdma_device *device, void (*visit)(struct rdma_qp *qp, void *ctx),
                     void *ctx);
};

/* --- the verbs -------------------------------------------------------------------------------- */

/* NO_SPACE: as many as attr says. AGAIN (free): something made from it is still there. */
MUST_USE ALWAYS_INLINE enum status rdma_pd_alloc(struct rdma_device *device, uint16_t fn,
                                                 struct rdma_pd **out)
{
    return device->ops->pd_alloc(device, fn, out);
}
MUST_USE ALWAYS_INLINE enum status rdma_pd_free(struct rdma_pd *pd)
{
    return pd->device->ops->pd_free(pd);
}

/* INVALID: rights without LOCAL_WRITE, no length, wraps. NO_SPACE. UNSUPPORTED: the provider has no
 * such kind. After dereg the keys are dead; AGAIN: the device still reads the memory, call again
 * (the keys are dead already). */
MUST_USE ALWAYS_INLINE enum status rdma_mr_reg(struct rdma_pd *pd, const struct rdma_mr_attr *attr,
                                               struct rdma_mr **out)
{
    return pd->device->ops->mr_reg(pd, attr, out);
}
MUST_USE ALWAYS_INLINE enum status rdma_mr_dereg(struct rdma_mr *mr)
{
    return mr->pd->device->ops->mr_dereg(mr);
}

/* NO_SPACE. AGAIN (free): bound, or not quiet. */
MUST_USE ALWAYS_INLINE enum status rdma_key_alloc(struct rdma_pd *pd, struct rdma_key **out)
{
    return pd->device->ops->key_alloc(pd, out);
}
MUST_USE ALWAYS_INLINE enum status rdma_key_free(struct rdma_key *key)
{
    return key->pd->device->ops->key_free(key);
}

/* The value that the next bind will have, for who must name it before: with RDMA_WR_BIND. */
ALWAYS_INLINE uint32_t rdma_key_prepare(struct rdma_key *key)
{
    return key->pd->device->ops->key_prepare(key);
}

/* Binds now, without a work request: nothing that was posted waits for it. Takes the prepared
 * value, or a new one. INVALID: what the provider's key_kind excludes, no data, rights without
 * LOCAL_WRITE. EXISTS: it is bound. UNSUPPORTED: this provider binds by RDMA_WR_BIND alone. */
MUST_USE ALWAYS_INLINE enum status rdma_key_bind(struct rdma_key *key, const struct mem_ref *ref,
                                                 uint64_t iova, uint32_t access)
{
    return key->pd->device->ops->key_bind(key, ref, iova, access);
}

/* From now on no access under the key begins, not by the peer and not by work requests of ours. The
 * memory may be given back once it is quiet: what a device has begun to read is not yet. Nothing to
 * do when it is not bound (the peer may have invalidated it). */
ALWAYS_INLINE void rdma_key_invalidate(struct rdma_key *key)
{
    key->pd->device->ops->key_invalidate(key);
}

/* Nothing of the device refers to what the key was bound to. Nearly always true at once; else a
 * later turn tells. */
ALWAYS_INLINE bool rdma_key_is_quiet(const struct rdma_key *key)
{
    return key->pd->device->ops->key_is_quiet(key);
}

ALWAYS_INLINE uint64_t rdma_cq_memory_bytes(const struct rdma_device *device, uint32_t entry_count)
{
    return device->ops->cq_memory_bytes(device, entry_count);
}
/* Of a receive ring in host memory (struct rdma_host_recv). */
ALWAYS_INLINE uint64_t rdma_host_ring_bytes(uint32_t wr_count)
{
    uint64_t entries = wr_count <= 1 ? 1 : UINT64_C(1) << (32 - __builtin_clz(wr_count - 1));

    return entries * sizeof(uint32_t);
}
/* INVALID: entry_count. NO_SPACE. UNSUPPORTED: a host ring. AGAIN (destroy): a QP uses it. */
MUST_USE ALWAYS_INLINE enum status
rdma_cq_create(struct rdma_device *device, const struct rdma_cq_attr *attr, struct rdma_cq **out)
{
    return device->ops->cq_create(device, attr, out);
}
MUST_USE ALWAYS_INLINE enum status rdma_cq_destroy(struct rdma_cq *cq)
{
    return cq->device->ops->cq_destroy(cq);
}

/* Takes at most `max` completions, oldest first. */
ALWAYS_INLINE uint32_t rdma_cq_poll(struct rdma_cq *cq, struct rdma_wc *wcs, uint32_t max)
{
    return cq->device->ops->cq_poll(cq, wcs, max);
}

ALWAYS_INLINE uint64_t rdma_srq_memory_bytes(const struct rdma_device *device, uint32_t wr_count)
{
    return device->ops->srq_memory_bytes(device, wr_count);
}
/* As rdma_cq_create(). */
MUST_USE ALWAYS_INLINE enum status rdma_srq_create(const struct rdma_srq_attr *attr,
                                                   struct rdma_srq **out)
{
    return attr->pd->device->ops->srq_create(attr, out);
}
MUST_USE ALWAYS_INLINE enum status rdma_srq_destroy(struct rdma_srq *srq)
{
    return srq->pd->device->ops->srq_destroy(srq);
}
/* AGAIN: full; INVALID: too many SGEs, no such slot. *bad: the first that was not taken; may be
 * NULL. */
MUST_USE ALWAYS_INLINE enum status
rdma_srq_post(struct rdma_srq *srq, const struct rdma_recv_wr *wr, const struct rdma_recv_wr **bad)
{
    return srq->pd->device->ops->srq_post(srq, wr, bad);
}

ALWAYS_INLINE uint64_t rdma_qp_memory_bytes(const struct rdma_qp_init_attr *attr)
{
    return attr->pd->device->ops->qp_memory_bytes(attr->pd->device, attr);
}
/* In RESET. INVALID: counts beyond the device's attr, CQ or SRQ of another device or domain.
 * NO_SPACE. EXISTS: QP1 is there. UNSUPPORTED: QP1 is the operating system's, a host ring. */
MUST_USE ALWAYS_INLINE enum status rdma_qp_create(const struct rdma_qp_init_attr *attr,
                                                  struct rdma_qp **out)
{
    return attr->pd->device->ops->qp_create(attr, out);
}
/* Work under way ends without completions; what is in the CQs for it is taken out. AGAIN: the
 * device still reads memory that its work requests named, call again: nothing else of it lives any
 * more. */
MUST_USE ALWAYS_INLINE enum status rdma_qp_destroy(struct rdma_qp *qp)
{
    return qp->pd->device->ops->qp_destroy(qp);
}

/* The transitions of IBA 10.3.1 (figure 124), with the attributes that `mask` names. To ERR: work
 * requests are flushed with completions. To RESET: without, and out of the CQs. INVALID: not from
 * this state, an attribute missing or out of range; then nothing changed. NOT_FOUND: no way to the
 * address. To RTR does not wait until the neighbour is found: packets do. */
MUST_USE ALWAYS_INLINE enum status rdma_qp_modify(struct rdma_qp *qp,
                                                  const struct rdma_qp_attr *attr, uint32_t mask)
{
    return qp->pd->device->ops->qp_modify(qp, attr, mask);
}
ALWAYS_INLINE void rdma_qp_query(const struct rdma_qp *qp, struct rdma_qp_info *info)
{
    qp->pd->device->ops->qp_query(qp, info);
}

/* Takes a chain of work requests, in order. AGAIN: the queue is full: a completion makes room.
 * INVALID: state RESET, INIT or RTR, unknown opcode, too many SGEs, inline too long. In ERR they
 * are flushed. What is wrong with memory or keys ends the work request, not this call. *bad: the
 * first that was not taken; may be NULL. */
MUST_USE ALWAYS_INLINE enum status rdma_post_send(struct rdma_qp *qp, const struct rdma_send_wr *wr,
                                                  const struct rdma_send_wr **bad)
{
    return qp->pd->device->ops->post_send(qp, wr, bad);
}
/* The same; INVALID: state RESET, or an SRQ is there. */
MUST_USE ALWAYS_INLINE enum status rdma_post_recv(struct rdma_qp *qp, const struct rdma_recv_wr *wr,
                                                  const struct rdma_recv_wr **bad)
{
    return qp->pd->device->ops->post_recv(qp, wr, bad);
}

/* NO_SPACE. NOT_FOUND: no way to the address. Set ->changed after it. */
MUST_USE ALWAYS_INLINE enum status rdma_ah_create(struct rdma_pd *pd, const struct rdma_av *av,
                                                  struct rdma_ah **out)
{
    return pd->device->ops->ah_create(pd, av, out);
}
ALWAYS_INLINE void rdma_ah_destroy(struct rdma_ah *ah)
{
    ah->pd->device->ops->ah_destroy(ah);
}

/* For reports: each QP of the device. */
ALWAYS_INLINE void rdma_qp_visit(struct rdma_device *device,
                                 void (*visit)(struct rdma_qp *qp, void *ctx), void *ctx)
{
    device->ops->qp_visit(device, visit, ctx);
}

#endif
