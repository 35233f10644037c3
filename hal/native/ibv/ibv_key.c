/*
 * Keys are memory windows of type 2: bound by a work request, invalidated by one, by the peer, or
 * by giving up the window.
 */
#include "hal/native/ibv/ibv_priv.h"

#include <errno.h>
#include <string.h>
#include "base/bits.h"
#include "base/log.h"

static struct ibv_mw *window_alloc(struct rdma_pd *pd)
{
    struct rdma_ibv_device *d = rdma_ibv_device_of(pd->device);
    return ibv_alloc_mw(rdma_ibv_pd_of(pd)->ibv, (enum ibv_mw_type)d->window_type);
}

enum status rdma_ibv_key_alloc(struct rdma_pd *pd, struct rdma_key **out)
{
    struct rdma_ibv_device *d = rdma_ibv_device_of(pd->device);

    if (d->window_type == 0) {
        return STATUS_UNSUPPORTED;
    }
    struct rdma_ibv_key *key = pool_get(&d->keys);
    if (key == NULL) {
        return STATUS_NO_SPACE;
    }
    *key = (struct rdma_ibv_key){.base = {.pd = pd}};
    key->mw = window_alloc(pd);
    if (key->mw == NULL) {
        pool_put(&d->keys, key);
        return STATUS_NO_SPACE;
    }
    key->base.value = key->mw->rkey;
    list_init(&key->mr_link);
    list_init(&key->qp_link);
    rdma_ibv_pd_of(pd)->user_count++;
    *out = &key->base;
    return STATUS_OK;
}

enum status rdma_ibv_key_free(struct rdma_key *base)
{
    struct rdma_ibv_device *d = rdma_ibv_device_of(base->pd->device);
    struct rdma_ibv_key *key = rdma_ibv_key_of(base);

    if (base->is_bound || key->invalidates > 0) {
        return STATUS_AGAIN;
    }
    if (key->mw != NULL && ibv_dealloc_mw(key->mw) != 0) {
        return STATUS_AGAIN;
    }
    rdma_ibv_pd_of(base->pd)->user_count--;
    pool_put(&d->keys, key);
    return STATUS_OK;
}

uint32_t rdma_ibv_key_prepare(struct rdma_key *base)
{
    struct rdma_ibv_key *key = rdma_ibv_key_of(base);

    if (key->mw == NULL) {
        key->mw = window_alloc(base->pd);
    }
    return key->mw != NULL ? ibv_inc_rkey(key->mw->rkey) : 0;
}

enum status rdma_ibv_key_bind(struct rdma_key *key, const struct mem_ref *ref, uint64_t iova,
                              uint32_t access)
{
    (void)key;
    (void)ref;
    (void)iova;
    (void)access;
    return STATUS_UNSUPPORTED;
}

bool rdma_ibv_key_is_quiet(const struct rdma_key *base)
{
    return CONTAINER_OF((struct rdma_key *)(uintptr_t)base, struct rdma_ibv_key, base)
               ->invalidates == 0;
}

struct rdma_ibv_key *rdma_ibv_key_find(struct rdma_ibv_device *device, uint32_t value)
{
    struct rdma_ibv_node *node = rdma_ibv_find(&device->key_by_value, value);
    return node != NULL ? CONTAINER_OF(node, struct rdma_ibv_key, node) : NULL;
}

void rdma_ibv_key_unbound(struct rdma_ibv_key *key)
{
    if (!key->base.is_bound) {
        return;
    }
    key->base.is_bound = false;
    rdma_ibv_remove(&rdma_ibv_device_of(key->base.pd->device)->key_by_value, &key->node);
    list_remove(&key->mr_link);
    list_remove(&key->qp_link);
    key->mr = NULL;
}

void rdma_ibv_key_renew(struct rdma_ibv_key *key)
{
    struct ibv_mw *old = key->mw;

    /* The new one first: its number differs from the old one's then, and stays different. */
    key->mw = window_alloc(key->base.pd);
    if (old != NULL && ibv_dealloc_mw(old) != 0) {
        LOG_LIMITED(ERROR, "ibv: %s: a memory window is not given back: %s",
                    key->base.pd->device->name, strerror(errno));
    }
    if (key->mw == NULL) {
        key->mw = window_alloc(key->base.pd);
    }
}

void rdma_ibv_key_invalidate(struct rdma_key *base)
{
    struct rdma_ibv_key *key = rdma_ibv_key_of(base);

    if (!base->is_bound) {
        return;
    }
    rdma_ibv_key_unbound(key);
    rdma_ibv_key_renew(key);
}

/* The region of the domain that covers the segment. Regions are few, and those used last lie in
 * front. */
static struct rdma_ibv_mr *find_region(struct rdma_ibv_pd *pd, const struct mem_seg *seg,
                                       uint32_t len_bytes)
{
    LIST_FOR_EACH(node, next, &pd->mrs)
    {
        struct rdma_ibv_mr *mr = LIST_ENTRY(node, struct rdma_ibv_mr, link);
        uint64_t offset = seg->bus_addr - mr->memory;
        if (seg->bus_addr < mr->memory || offset >= mr->len_bytes ||
            len_bytes > mr->len_bytes - offset || !mr->may_bind || mr->ibv == NULL) {
            continue;
        }
        list_remove(node);
        list_push_back(pd->mrs.next, node); /* in front of the first */
        return mr;
    }
    return NULL;
}

enum status rdma_ibv_key_begin_bind(struct rdma_ibv_qp *qp, const struct rdma_send_wr *wr,
                                    struct ibv_send_wr *out)
{
    struct rdma_ibv_device *d = rdma_ibv_device_of(qp->base.pd->device);
    struct rdma_ibv_key *key = rdma_ibv_key_of(wr->bind.key);
    const struct mem_ref *ref = wr->bind.ref;
    uint32_t access = wr->bind.access;

    bool writes = (access & RDMA_ACCESS_REMOTE_WRITE) != 0;
    if (key->mw == NULL || key->base.is_bound || key->base.pd != qp->base.pd || ref == NULL ||
        ref->seg_count != 1 || ref->len_bytes == 0 ||
        (writes && (access & RDMA_ACCESS_LOCAL_WRITE) == 0)) {
        return STATUS_INVALID;
    }
    struct rdma_ibv_mr *mr =
        find_region(rdma_ibv_pd_of(qp->base.pd), &ref->segs[0], ref->len_bytes);
    if (mr == NULL) {
        return STATUS_INVALID;
    }
    uint64_t addr = mr->addr + (ref->segs[0].bus_addr - mr->memory);
    if (wr->bind.iova != 0 && wr->bind.iova != addr) {
        return STATUS_INVALID;
    }
    key->base.value = ibv_inc_rkey(key->mw->rkey);
    key->base.is_bound = true;
    key->batch = d->batch;
    key->mr = mr;
    key->memory = (uintptr_t)ref->segs[0].bus_addr;
    key->iova = wr->bind.iova;
    key->len_bytes = ref->len_bytes;
    rdma_ibv_insert(&d->key_by_value, &key->node, key->base.value);
    list_push_back(&mr->keys, &key->mr_link);
    list_push_back(&qp->keys, &key->qp_link);

    out->opcode = IBV_WR_BIND_MW;
    out->bind_mw.mw = key->mw;
    out->bind_mw.rkey = key->base.value;
    out->bind_mw.bind_info.mr = mr->ibv;
    out->bind_mw.bind_info.addr = addr;
    out->bind_mw.bind_info.length = ref->len_bytes;
    out->bind_mw.bind_info.mw_access_flags =
        (unsigned int)(rdma_ibv_access(access & ~RDMA_ACCESS_LOCAL_WRITE) |
                       (wr->bind.iova == 0 ? IBV_ACCESS_ZERO_BASED : 0));
    return STATUS_OK;
}

void rdma_ibv_key_translate(struct rdma_ibv_device *device, struct rdma_pd *pd, struct ibv_sge *sge)
{
    struct rdma_ibv_key *key = rdma_ibv_key_find(device, sge->lkey);

    if (key == NULL || key->base.pd != pd || sge->addr < key->iova ||
        !range_fits(sge->addr - key->iova, sge->length, key->len_bytes)) {
        return; /* no key, or not of this memory: the device says so */
    }
    sge->addr = key->mr->addr + (key->memory - key->mr->memory) + (sge->addr - key->iova);
    sge->lkey = key->mr->base.lkey;
}
