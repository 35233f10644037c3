/*
 * See vfu_dma.h.
 */
#include "hal/native/vfu/vfu_dma.h"

#include <errno.h>
#include <string.h>
#include "base/bits.h"

void vfu_dma_init(struct vfu_dma *dma, struct vfu_link *link, const struct vfu_dma_ops *ops,
                  void *ctx)
{
    memset(dma, 0, sizeof(*dma));
    dma->link = link;
    dma->ops = ops;
    dma->ctx = ctx;
}

/* Gives the link all that is reachable. */
static void tell_link(struct vfu_dma *dma, bool revokes)
{
    struct link_window table[LIMIT_DMA_WINDOWS];
    uint32_t count = 0;

    for (uint32_t i = 0; i < dma->count && count < LIMIT_DMA_WINDOWS; i++) {
        if (dma->windows[i].reachable) {
            table[count++] = dma->windows[i].window;
        }
    }
    vfu_link_set_windows(dma->link, table, count, revokes);
}

static bool overlaps(const struct link_window *w, uint64_t addr, uint64_t size)
{
    return addr - w->host_addr < w->len_bytes || w->host_addr - addr < size;
}

static int map_check(const struct vfu_dma *dma, const struct vfu_dma_map *map)
{
    uint32_t access = map->flags & (VFU_DMA_READ | VFU_DMA_WRITE);

    if (map->argsz < sizeof(*map) || (map->flags & ~VFU_DMA_FLAGS) != 0 || access == 0 ||
        map->size == 0 || !is_aligned(map->addr | map->size | map->offset, LINK_PAGE_BYTES) ||
        map->addr > UINT64_MAX - map->size || map->offset > (uint64_t)INT64_MAX ||
        map->size > (uint64_t)INT64_MAX - map->offset) {
        return -EINVAL;
    }
    for (uint32_t i = 0; i < dma->count; i++) {
        if (overlaps(&dma->windows[i].window, map->addr, map->size)) {
            return -EEXIST;
        }
    }
    return dma->count == VFU_DMA_WINDOWS_MAX ? -ENOSPC : 0;
}

int vfu_dma_map(struct vfu_dma *dma, const struct vfu_dma_map *map, int fd)
{
    uint64_t target = 0;
    int result = map_check(dma, map);

    if (result != 0) {
        return result;
    }
    result = VFU_DMA_UNREACHABLE;
    if (fd >= 0) {
        if (dma->reachable_count == LIMIT_DMA_WINDOWS) {
            return -ENOSPC;
        }
        bool writable = (map->flags & VFU_DMA_WRITE) != 0;
        result = dma->ops->map(dma->ctx, fd, map->offset, map->size, writable, &target);
        if (result < 0) {
            return result;
        }
    }
    dma->windows[dma->count++] = (struct vfu_dma_window){
        .window = {.host_addr = map->addr,
                   .len_bytes = map->size,
                   .target = target,
                   .flags = ((map->flags & VFU_DMA_READ) != 0 ? LINK_WINDOW_READ : 0) |
                            ((map->flags & VFU_DMA_WRITE) != 0 ? LINK_WINDOW_WRITE : 0)},
        .reachable = result == 0,
    };
    if (result == 0) {
        dma->reachable_count++;
        tell_link(dma, false);
    }
    return result;
}

/* Takes the windows marked in `gone` out of the list, tells the NIC, then lets go of the memory. */
static uint64_t remove_windows(struct vfu_dma *dma, const bool *gone, bool tell)
{
    struct vfu_dma_window removed[VFU_DMA_WINDOWS_MAX];
    uint32_t removed_count = 0;
    uint32_t kept = 0;
    uint64_t bytes = 0;
    bool revokes = false;

    for (uint32_t i = 0; i < dma->count; i++) {
        if (!gone[i]) {
            dma->windows[kept++] = dma->windows[i];
            continue;
        }
        removed[removed_count++] = dma->windows[i];
        bytes += dma->windows[i].window.len_bytes;
        revokes |= dma->windows[i].reachable;
    }
    dma->count = kept;
    if (revokes && tell) {
        tell_link(dma, true);
    }
    for (uint32_t i = 0; i < removed_count; i++) {
        if (removed[i].reachable) {
            dma->reachable_count--;
            dma->ops->unmap(dma->ctx, removed[i].window.target, removed[i].window.len_bytes);
        }
    }
    return bytes;
}

int vfu_dma_unmap(struct vfu_dma *dma, uint64_t addr, uint64_t size, uint64_t *bytes)
{
    bool gone[VFU_DMA_WINDOWS_MAX] = {false};
    bool any = false;

    if (size == 0 || addr > UINT64_MAX - size) {
        return -EINVAL;
    }
    for (uint32_t i = 0; i < dma->count; i++) {
        const struct link_window *w = &dma->windows[i].window;
        if (!overlaps(w, addr, size)) {
            continue;
        }
        if (w->host_addr < addr || !range_fits(w->host_addr - addr, w->len_bytes, size)) {
            return -EINVAL;
        }
        gone[i] = true;
        any = true;
    }
    if (!any) {
        return -ENOENT;
    }
    *bytes = remove_windows(dma, gone, true);
    return 0;
}

uint64_t vfu_dma_unmap_all(struct vfu_dma *dma, bool tell)
{
    bool gone[VFU_DMA_WINDOWS_MAX];

    memset(gone, true, sizeof(gone));
    return remove_windows(dma, gone, tell);
}
