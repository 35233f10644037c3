/*
 * Host memory of one function, mapped into this process; for pcie_ep_native.c.
 *
 * The list belongs to the server's thread. The handler of SIGBUS reads it from any thread: a client
 * can cut the file behind a window short at any time, and a core that touches it must not die of
 * that.
 */
#ifndef NATIVE_PCIE_EP_NATIVE_MEM_H
#define NATIVE_PCIE_EP_NATIVE_MEM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/limits.h"

struct native_mem_window {
    _Atomic uintptr_t addr; /* of the mapping: whole pages, huge ones too; 0: free */
    _Atomic uint64_t len_bytes;
    uint64_t target;  /* of the window in it; the server's thread alone */
    _Atomic bool cut; /* by native_mem_cut_all(): anonymous memory stands there now, for good */
};

struct native_mem {
    struct native_mem_window windows[LIMIT_DMA_WINDOWS];
    _Atomic bool faulted;
    int notify_fd; /* rung by the signal handler */
    bool is_open;
};

/* Installs the handler of SIGBUS, unless it is there. 0 or -errno. For tests, whose framework has
 * one of its own; native_mem_open() calls it. */
int native_mem_catch(void);

/* 0 or -errno. */
int native_mem_open(struct native_mem *mem, int notify_fd);
void native_mem_close(struct native_mem *mem);

/* As vfu_dma_ops.map: `*target` is the pointer. -EINVAL: the file is shorter than that. */
int native_mem_map(struct native_mem *mem, int fd, uint64_t offset, uint64_t len_bytes,
                   bool writable, uint64_t *target);
void native_mem_unmap(struct native_mem *mem, uint64_t target);

/* Puts anonymous memory in the place of every window: the host's is out of reach when this returns.
 * Cores that still write there hit nobody. */
void native_mem_cut_all(struct native_mem *mem);

/* True once after a window was cut because its file became shorter. */
bool native_mem_take_fault(struct native_mem *mem);

#endif
