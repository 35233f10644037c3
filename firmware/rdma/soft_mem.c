/*
 * Protection domains, memory regions, keys: one table. A key's value names its place in the table
 * and carries a random tag, so a wrong value is found out by one comparison and an old one is of no
 * use (IBA 10.6.3, C10-46: each access is checked).
 */
#include "rdma/soft_priv.h"

#define TAG_SHIFT  16
#define INDEX_MASK SOFT_VALUE_INDEX
#define HOST_PAGE  4096u

static struct soft_pd *pd_of(struct rdma_pd *pd)
{
    return (struct soft_pd *)(void *)pd;
}

static struct soft_region *region_of_key(struct rdma_key *key)
{
    return CONTAINER_OF(key, struct soft_region, key);
}

/* A value for the region that differs from the one before. */
static uint32_t new_value(struct soft_device *dev, const struct soft_region *region)
{
    uint32_t index = (uint32_t)(region - dev->regions);
    uint32_t tag = rng_u32(dev->rng) >> TAG_SHIFT;

    if (tag == region->value >> TAG_SHIFT) {
        tag ^= 1;
    }
    return tag << TAG_SHIFT | index;
}

/* --- domains ---------------------------------------------------------------------------------- */

enum status soft_pd_alloc(struct rdma_device *device, uint16_t fn, struct rdma_pd **out)
{
    struct soft_pd *pd = pool_get(&soft_device_of(device)->pd_pool);

    if (pd == NULL) {
        return STATUS_NO_SPACE;
    }
    *pd = (struct soft_pd){.pd = {.device = device, .fn = fn}};
    *out = &pd->pd;
    return STATUS_OK;
}

enum status soft_pd_free(struct rdma_pd *pd)
{
    if (pd_of(pd)->use_count > 0) {
        return STATUS_AGAIN;
    }
    pool_put(&soft_device_of(pd->device)->pd_pool, pd);
    return STATUS_OK;
}

void soft_pd_use(struct rdma_pd *pd, bool more)
{
    pd_of(pd)->use_count += more ? 1 : UINT32_MAX;
}

/* --- regions ---------------------------------------------------------------------------------- */

static bool access_is_valid(uint32_t access)
{
    uint32_t known = RDMA_ACCESS_LOCAL_WRITE | RDMA_ACCESS_REMOTE_WRITE | RDMA_ACCESS_REMOTE_READ;

    return (access & ~known) == 0 &&
           ((access & RDMA_ACCESS_REMOTE_WRITE) == 0 || (access & RDMA_ACCESS_LOCAL_WRITE) != 0);
}

COLD enum status soft_mr_reg(struct rdma_pd *pd, const struct rdma_mr_attr *attr,
                             struct rdma_mr **out)
{
    struct soft_device *dev = soft_device_of(pd->device);
    bool is_host = attr->kind == RDMA_MR_HOST;
    uint64_t base = is_host ? attr->host_addr : (uintptr_t)attr->memory;

    if (attr->len_bytes == 0 || base + attr->len_bytes - 1 < base ||
        !access_is_valid(attr->access) || (is_host ? attr->view == NULL : attr->memory == NULL)) {
        return STATUS_INVALID;
    }
    struct soft_region *region = pool_get(&dev->region_pool);
    if (region == NULL) {
        return STATUS_NO_SPACE;
    }
    uint32_t value = new_value(dev, region);
    *region = (struct soft_region){.mr = {.pd = pd, .lkey = value, .rkey = value},
                                   .base = base,
                                   .len_bytes = attr->len_bytes,
                                   .view = attr->view,
                                   .value = value,
                                   .kind = is_host ? SOFT_REGION_HOST : SOFT_REGION_NIC,
                                   .access = (uint8_t)attr->access,
                                   .is_valid = true};
    soft_pd_use(pd, true);
    *out = &region->mr;
    return STATUS_OK;
}

COLD enum status soft_mr_dereg(struct rdma_mr *mr)
{
    struct soft_region *region = CONTAINER_OF(mr, struct soft_region, mr);
    struct soft_device *dev = soft_device_of(mr->pd->device);

    region->is_valid = false;
    if (net_tx_done_seq(dev->nif) < region->tx_seq) {
        return STATUS_AGAIN;
    }
    soft_pd_use(mr->pd, false);
    region->kind = SOFT_REGION_FREE;
    pool_put(&dev->region_pool, region);
    return STATUS_OK;
}

struct soft_region *soft_region_refuse(struct soft_device *dev)
{
    counter_add(&dev->stats.key_violations, 1);
    return NULL;
}

/* --- keys ------------------------------------------------------------------------------------- */

enum status soft_key_alloc(struct rdma_pd *pd, struct rdma_key **out)
{
    struct soft_device *dev = soft_device_of(pd->device);
    struct soft_region *region = pool_get(&dev->key_pool);

    if (region == NULL) {
        return STATUS_NO_SPACE;
    }
    *region = (struct soft_region){.key = {.pd = pd},
                                   .value = region->value,
                                   .cancels = region->cancels + 1,
                                   .kind = SOFT_REGION_KEY};
    soft_pd_use(pd, true);
    *out = &region->key;
    return STATUS_OK;
}

enum status soft_key_free(struct rdma_key *key)
{
    struct soft_region *region = region_of_key(key);

    if (key->is_bound || !soft_key_is_quiet(key)) {
        return STATUS_AGAIN;
    }
    soft_pd_use(key->pd, false);
    region->kind = SOFT_REGION_FREE;
    pool_put(&soft_device_of(key->pd->device)->key_pool, region);
    return STATUS_OK;
}

uint32_t soft_key_prepare(struct rdma_key *key)
{
    struct soft_region *region = region_of_key(key);

    if (region->next_value == 0) {
        region->next_value = new_value(soft_device_of(key->pd->device), region);
    }
    return region->next_value;
}

enum status soft_key_bind(struct rdma_key *key, const struct mem_ref *ref, uint64_t iova,
                          uint32_t access)
{
    struct soft_region *region = region_of_key(key);

    if (key->is_bound) {
        return STATUS_EXISTS;
    }
    if (ref->len_bytes == 0 || ref->seg_count == 0 || !access_is_valid(access) ||
        iova + ref->len_bytes - 1 < iova) {
        return STATUS_INVALID;
    }
    region->value = soft_key_prepare(key);
    region->next_value = 0;
    region->base = iova;
    region->len_bytes = ref->len_bytes;
    region->ref = ref;
    region->cursor_seg = 0;
    region->cursor_bytes = 0;
    region->access = (uint8_t)access;
    region->is_valid = true;
    key->value = region->value;
    key->is_bound = true;
    return STATUS_OK;
}

static void close_key(struct soft_region *region)
{
    region->is_valid = false;
    region->key.is_bound = false;
}

/* By its owner, who takes the memory back: a bind that was posted and has not had its turn must not
 * have it any more. */
void soft_key_invalidate(struct rdma_key *key)
{
    struct soft_region *region = region_of_key(key);

    close_key(region);
    region->cancels++;
    region->next_value = 0;
}

uint32_t soft_key_cancels(const struct rdma_key *key)
{
    return ((const struct soft_region *)(const void *)key)->cancels;
}

bool soft_key_is_quiet(const struct rdma_key *key)
{
    /* The first member. */
    const struct soft_region *region = (const struct soft_region *)(const void *)key;

    return !region->is_valid &&
           net_tx_done_seq(soft_device_of(key->pd->device)->nif) >= region->tx_seq;
}

bool soft_key_invalidate_value(struct soft_device *dev, const struct rdma_pd *pd, uint32_t value,
                               uint64_t *tx_seq)
{
    uint32_t index = value & INDEX_MASK;
    struct soft_region *region = index < dev->region_count ? &dev->regions[index] : NULL;

    if (region == NULL || region->kind != SOFT_REGION_KEY || !region->is_valid ||
        region->value != value || region->key.pd != pd) {
        counter_add(&dev->stats.key_violations, 1);
        return false;
    }
    close_key(region);
    *tx_seq = region->tx_seq;
    return true;
}

/* --- segments --------------------------------------------------------------------------------- */

/* Moves the cursor to the segment that holds `offset_bytes`, which lies inside of the reference.
 * Accesses follow each other, so it rarely moves more than one on. */
static void cursor_seek(struct soft_region *region, uint32_t offset_bytes)
{
    const struct mem_seg *segs = region->ref->segs;

    if (offset_bytes < region->cursor_bytes) {
        region->cursor_seg = 0;
        region->cursor_bytes = 0;
    }
    while (offset_bytes - region->cursor_bytes >= segs[region->cursor_seg].len_bytes) {
        region->cursor_bytes += segs[region->cursor_seg].len_bytes;
        region->cursor_seg++;
    }
}

static uint32_t key_segs(struct soft_region *region, uint32_t offset_bytes, uint32_t len_bytes,
                         struct mem_seg *segs, uint32_t max, uint32_t *count)
{
    uint32_t done_bytes = 0;

    while (done_bytes < len_bytes && *count < max) {
        cursor_seek(region, offset_bytes + done_bytes);
        const struct mem_seg *seg = &region->ref->segs[region->cursor_seg];
        uint32_t skip = offset_bytes + done_bytes - region->cursor_bytes;
        uint32_t bytes = min_u32(seg->len_bytes - skip, len_bytes - done_bytes);
        segs[(*count)++] = (struct mem_seg){.bus_addr = seg->bus_addr + skip, .len_bytes = bytes};
        done_bytes += bytes;
    }
    return done_bytes;
}

/* Mostly one window holds it all; else page by page, which windows do not cut. */
static uint32_t host_segs(struct soft_region *region, uint64_t addr, uint32_t len_bytes,
                          bool for_write, struct mem_seg *segs, uint32_t max, uint32_t *count)
{
    uint64_t bus_addr = pcie_ep_map(region->view, addr, len_bytes, for_write);
    uint32_t done_bytes = 0;

    if (bus_addr != PCIE_EP_NO_ADDR) {
        segs[0] = (struct mem_seg){.bus_addr = bus_addr, .len_bytes = len_bytes};
        *count = 1;
        return len_bytes;
    }
    while (done_bytes < len_bytes && *count < max) {
        uint32_t in_page = HOST_PAGE - (uint32_t)((addr + done_bytes) & (HOST_PAGE - 1));
        uint32_t bytes = min_u32(in_page, len_bytes - done_bytes);
        bus_addr = pcie_ep_map(region->view, addr + done_bytes, bytes, for_write);
        if (bus_addr == PCIE_EP_NO_ADDR) {
            break;
        }
        segs[(*count)++] = (struct mem_seg){.bus_addr = bus_addr, .len_bytes = bytes};
        done_bytes += bytes;
    }
    return done_bytes;
}

uint32_t soft_region_segs_any(struct soft_region *region, uint64_t addr, uint32_t len_bytes,
                              bool for_write, struct mem_seg *segs, uint32_t max, uint32_t *count)
{
    *count = 0;
    if (len_bytes == 0 || max == 0) {
        return 0;
    }
    if (region->kind == SOFT_REGION_KEY) {
        return key_segs(region, (uint32_t)(addr - region->base), len_bytes, segs, max, count);
    }
    if (region->kind == SOFT_REGION_HOST) {
        return host_segs(region, addr, len_bytes, for_write, segs, max, count);
    }
    segs[0] = (struct mem_seg){.bus_addr = addr, .len_bytes = len_bytes};
    *count = 1;
    return len_bytes;
}
