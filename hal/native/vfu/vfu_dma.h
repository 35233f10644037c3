/*
 * The windows into host memory that a client maps: checked, kept, given to the link.
 * Windows that cannot be reached (no descriptor, another file) are kept too, so that the client can
 * unmap them, but the NIC never sees them.
 */
#ifndef VFU_DMA_H
#define VFU_DMA_H

#include <stdbool.h>
#include <stdint.h>
#include "hal/native/vfu/vfu_link.h"
#include "hal/native/vfu/vfu_proto.h"

#define VFU_DMA_WINDOWS_MAX 256u
#define VFU_DMA_UNREACHABLE 1

struct vfu_dma_ops {
    /* Makes [offset, offset + len) of `fd` reachable for the NIC, at *target. The descriptor stays
     * the caller's. 0; VFU_DMA_UNREACHABLE: fine, but the NIC cannot get there; -errno: refused. */
    int (*map)(void *ctx, int fd, uint64_t offset, uint64_t len_bytes, bool writable,
               uint64_t *target);

    /* Undoes map(); called when the NIC has acknowledged that the window is gone, or was stopped.
     */
    void (*unmap)(void *ctx, uint64_t target, uint64_t len_bytes);
};

struct vfu_dma_window {
    struct link_window window;
    bool reachable;
};

struct vfu_dma {
    const struct vfu_dma_ops *ops;
    void *ctx;
    struct vfu_link *link;
    uint32_t count;
    uint32_t reachable_count;
    struct vfu_dma_window windows[VFU_DMA_WINDOWS_MAX];
};

void vfu_dma_init(struct vfu_dma *dma, struct vfu_link *link, const struct vfu_dma_ops *ops,
                  void *ctx);

/* `fd` is -1 when the client sent none. 0: reachable; VFU_DMA_UNREACHABLE: recorded only;
 * -EINVAL: malformed, or not in whole pages; -EEXIST: overlaps; -ENOSPC: table full; others as
 * ops->map() says. */
int vfu_dma_map(struct vfu_dma *dma, const struct vfu_dma_map *map, int fd);

/* Removes every window inside [addr, addr + size); returns when the NIC lost them. *bytes: how much
 * that was. -EINVAL: wraps, or cuts a window; -ENOENT: none there. */
int vfu_dma_unmap(struct vfu_dma *dma, uint64_t addr, uint64_t size, uint64_t *bytes);

/* Removes all. The link may have been told already (host left): then pass `tell` false. */
uint64_t vfu_dma_unmap_all(struct vfu_dma *dma, bool tell);

#endif
