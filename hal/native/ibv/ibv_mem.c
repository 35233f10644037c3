/*
 * Domains and regions. A region is pinned by the kernel when it is registered and let go when it is
 * deregistered: both enter the kernel and take as long as the memory is large.
 */
#include "hal/native/ibv/ibv_priv.h"

#include <errno.h>
#include <string.h>
#include "base/log.h"

/* --- domains --------------------------------------------------------------------------------- */

enum status rdma_ibv_pd_alloc(struct rdma_device *device, uint16_t fn, struct rdma_pd **out)
{
    struct rdma_ibv_device *d = rdma_ibv_device_of(device);
    struct rdma_ibv_pd *pd = pool_get(&d->pds);

    if (pd == NULL) {
        return STATUS_NO_SPACE;
    }
    *pd = (struct rdma_ibv_pd){.base = {.device = device, .fn = fn}};
    pd->ibv = ibv_alloc_pd(d->context);
    if (pd->ibv == NULL) {
        enum status status = rdma_ibv_status(errno);
        pool_put(&d->pds, pd);
        return status;
    }
    list_init(&pd->mrs);
    *out = &pd->base;
    return STATUS_OK;
}

enum status rdma_ibv_pd_free(struct rdma_pd *base)
{
    struct rdma_ibv_pd *pd = rdma_ibv_pd_of(base);

    if (pd->user_count > 0 || ibv_dealloc_pd(pd->ibv) != 0) {
        return STATUS_AGAIN;
    }
    pool_put(&rdma_ibv_device_of(base->device)->pds, pd);
    return STATUS_OK;
}

/* --- regions --------------------------------------------------------------------------------- */

int rdma_ibv_access(uint32_t access)
{
    return ((access & RDMA_ACCESS_LOCAL_WRITE) != 0 ? IBV_ACCESS_LOCAL_WRITE : 0) |
           ((access & RDMA_ACCESS_REMOTE_WRITE) != 0 ? IBV_ACCESS_REMOTE_WRITE : 0) |
           ((access & RDMA_ACCESS_REMOTE_READ) != 0 ? IBV_ACCESS_REMOTE_READ : 0);
}

/* Where [host_addr, + len_bytes) lies in this process, when it is in one window that allows the
 * access: windows are longer than the 32 bits that pcie_ep_map() takes. 0: it does not. */
static uintptr_t find_window(const struct pcie_ep_view *view, uint64_t host_addr,
                             uint64_t len_bytes, bool for_write)
{
    for (uint32_t i = 0; i < view->window_count; i++) {
        const struct pcie_ep_window *w = &view->windows[i];
        uint64_t offset = host_addr - w->host_addr;
        if (host_addr >= w->host_addr && offset < w->len_bytes &&
            len_bytes <= w->len_bytes - offset && w->readable && (w->writable || !for_write)) {
            return (uintptr_t)(w->bus_addr + offset);
        }
    }
    return 0;
}

static enum status place(const struct rdma_mr_attr *attr, struct rdma_ibv_mr *mr)
{
    mr->len_bytes = attr->len_bytes;
    mr->for_write = (attr->access & RDMA_ACCESS_LOCAL_WRITE) != 0;
    switch (attr->kind) {
    case RDMA_MR_NIC:
        mr->memory = (uintptr_t)attr->memory;
        mr->addr = mr->memory;
        return attr->memory != NULL && mr->addr + mr->len_bytes > mr->addr ? STATUS_OK
                                                                           : STATUS_INVALID;
    case RDMA_MR_HOST:
        if (attr->view == NULL || attr->host_addr + attr->len_bytes <= attr->host_addr) {
            return STATUS_INVALID;
        }
        mr->memory = find_window(attr->view, attr->host_addr, attr->len_bytes, mr->for_write);
        mr->addr = attr->host_addr;
        mr->view = attr->view;
        mr->generation = attr->view->generation;
        return mr->memory != 0 ? STATUS_OK : STATUS_UNSUPPORTED;
    default:
        return STATUS_INVALID;
    }
}

static enum status register_it(struct rdma_ibv_mr *mr, struct rdma_ibv_pd *pd, uint32_t access,
                               bool has_windows)
{
    /* The right to bind makes the kernel ask for writable pages, so it comes with that right. */
    mr->may_bind = has_windows && mr->for_write;
    unsigned int flags =
        (unsigned int)(rdma_ibv_access(access) | (mr->may_bind ? IBV_ACCESS_MW_BIND : 0));

    mr->ibv = ibv_reg_mr_iova(pd->ibv, (void *)mr->memory, (size_t)mr->len_bytes, mr->addr, flags);
    if (mr->ibv == NULL) {
        int error = errno;
        LOG_LIMITED(WARN, "ibv: %s: a region of %llu KiB is not registered: %s%s",
                    pd->base.device->name, (unsigned long long)(mr->len_bytes >> 10),
                    strerror(error), error == ENOMEM ? " (RLIMIT_MEMLOCK?)" : "");
        return error == ENOMEM ? STATUS_NO_SPACE : rdma_ibv_status(error);
    }
    mr->base.lkey = mr->ibv->lkey;
    mr->base.rkey = mr->ibv->rkey;
    return STATUS_OK;
}

enum status rdma_ibv_mr_reg(struct rdma_pd *base, const struct rdma_mr_attr *attr,
                            struct rdma_mr **out)
{
    struct rdma_ibv_device *d = rdma_ibv_device_of(base->device);
    struct rdma_ibv_pd *pd = rdma_ibv_pd_of(base);

    if ((attr->access & RDMA_ACCESS_REMOTE_WRITE) != 0 &&
        (attr->access & RDMA_ACCESS_LOCAL_WRITE) == 0) {
        return STATUS_INVALID;
    }
    struct rdma_ibv_mr *mr = pool_get(&d->mrs);
    if (mr == NULL) {
        return STATUS_NO_SPACE;
    }
    *mr = (struct rdma_ibv_mr){.base = {.pd = base}};
    enum status status = place(attr, mr);
    if (status == STATUS_OK) {
        status = register_it(mr, pd, attr->access, d->window_type != 0);
    }
    if (status != STATUS_OK) {
        pool_put(&d->mrs, mr);
        return status;
    }
    list_init(&mr->keys);
    list_init(&mr->host_link);
    list_push_back(&pd->mrs, &mr->link);
    if (mr->view != NULL) {
        list_push_back(&d->host_mrs, &mr->host_link);
    }
    pd->user_count++;
    *out = &mr->base;
    return STATUS_OK;
}

/* Ends the keys with it: a region with windows bound to it cannot be deregistered. */
static int deregister(struct rdma_ibv_mr *mr)
{
    LIST_FOR_EACH(node, next, &mr->keys)
    {
        rdma_ibv_key_invalidate(&LIST_ENTRY(node, struct rdma_ibv_key, mr_link)->base);
    }
    int error = mr->ibv != NULL ? ibv_dereg_mr(mr->ibv) : 0;
    if (error == 0) {
        mr->ibv = NULL;
    }
    return error;
}

enum status rdma_ibv_mr_dereg(struct rdma_mr *base)
{
    struct rdma_ibv_device *d = rdma_ibv_device_of(base->pd->device);
    struct rdma_ibv_mr *mr = CONTAINER_OF(base, struct rdma_ibv_mr, base);

    if (deregister(mr) != 0) {
        return STATUS_AGAIN;
    }
    list_remove(&mr->link);
    list_remove(&mr->host_link);
    rdma_ibv_pd_of(base->pd)->user_count--;
    pool_put(&d->mrs, mr);
    return STATUS_OK;
}

uint32_t rdma_ibv_mr_sweep(struct rdma_ibv_device *device)
{
    uint32_t count = 0;

    LIST_FOR_EACH(node, next, &device->host_mrs)
    {
        struct rdma_ibv_mr *mr = LIST_ENTRY(node, struct rdma_ibv_mr, host_link);
        if (LIKELY(mr->generation == mr->view->generation)) {
            continue;
        }
        mr->generation = mr->view->generation;
        if (mr->memory == find_window(mr->view, mr->addr, mr->len_bytes, mr->for_write)) {
            continue;
        }
        LOG_LIMITED(WARN, "ibv: %s: a host region outlived its window", device->base.name);
        if (deregister(mr) == 0) {
            list_remove(&mr->host_link);
        } else {
            mr->generation = mr->view->generation - 1; /* once more in the next turn */
        }
        count++;
    }
    return count;
}
