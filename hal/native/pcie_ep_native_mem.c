/*
 * See pcie_ep_native_mem.h.
 */
#include "hal/native/pcie_ep_native_mem.h"

#include <errno.h>
#include <linux/magic.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/bits.h"

/* What the signal handler searches. Entries are set before the handler can need them. */
static struct native_mem *_Atomic open_mems[LIMIT_FUNCTIONS];
static struct sigaction previous;

/* Replaces the mapping in one step; there is no moment without memory. The system call itself,
 * because it is made in a signal handler, and because cores that still use the memory are not a
 * mistake here, as checkers that intercept mmap() would say. */
static bool window_cut(struct native_mem_window *w)
{
    uintptr_t addr = atomic_load(&w->addr);
    long now = syscall(SYS_mmap, addr, (size_t)atomic_load(&w->len_bytes), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0L);

    return now == (long)addr;
}

static struct native_mem_window *window_find(struct native_mem *mem, uintptr_t addr)
{
    for (uint32_t i = 0; i < LIMIT_DMA_WINDOWS; i++) {
        struct native_mem_window *w = &mem->windows[i];
        uintptr_t start = atomic_load(&w->addr);
        if (start != 0 && addr - start < atomic_load(&w->len_bytes)) {
            return w;
        }
    }
    return NULL;
}

/* A core touched a page that its file no longer has. */
static void on_sigbus(int number, siginfo_t *info, void *context)
{
    int saved_errno = errno;
    (void)number;
    (void)context;

    for (uint32_t i = 0; i < LIMIT_FUNCTIONS; i++) {
        struct native_mem *mem = atomic_load(&open_mems[i]);
        struct native_mem_window *w =
            mem == NULL ? NULL : window_find(mem, (uintptr_t)info->si_addr);
        if (w == NULL || !window_cut(w)) {
            continue;
        }
        const uint64_t one = 1;
        atomic_store(&mem->faulted, true);
        if (write(mem->notify_fd, &one, sizeof(one)) < 0) {
            /* The thread has been told already. */
        }
        errno = saved_errno;
        return; /* the access is made again, in anonymous memory */
    }
    sigaction(SIGBUS, &previous, NULL); /* not ours: dies as it would have */
    errno = saved_errno;
}

int native_mem_catch(void)
{
    struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};
    struct sigaction now;

    if (sigaction(SIGBUS, NULL, &now) != 0) {
        return -errno;
    }
    if ((now.sa_flags & SA_SIGINFO) != 0 && now.sa_sigaction == on_sigbus) {
        return 0;
    }
    previous = now;
    sigemptyset(&action.sa_mask);
    return sigaction(SIGBUS, &action, NULL) == 0 ? 0 : -errno;
}

int native_mem_open(struct native_mem *mem, int notify_fd)
{
    int result = native_mem_catch();

    mem->notify_fd = notify_fd;
    if (result != 0) {
        return result;
    }
    for (uint32_t i = 0; i < LIMIT_FUNCTIONS; i++) {
        struct native_mem *none = NULL;
        if (atomic_compare_exchange_strong(&open_mems[i], &none, mem)) {
            mem->is_open = true;
            return 0;
        }
    }
    return -ENOSPC;
}

void native_mem_close(struct native_mem *mem)
{
    if (!mem->is_open) {
        return;
    }
    for (uint32_t i = 0; i < LIMIT_FUNCTIONS; i++) {
        struct native_mem *self = mem;
        atomic_compare_exchange_strong(&open_mems[i], &self, NULL);
    }
    for (uint32_t i = 0; i < LIMIT_DMA_WINDOWS; i++) {
        uintptr_t addr = atomic_load(&mem->windows[i].addr);
        if (addr != 0) {
            munmap((void *)addr, (size_t)atomic_load(&mem->windows[i].len_bytes));
            atomic_store(&mem->windows[i].addr, 0);
        }
    }
    mem->is_open = false;
}

/* What mappings of `fd` come in. The files that have larger pages are those of hugetlbfs. */
static uint64_t page_bytes_of(int fd)
{
    struct statfs info;
    bool is_huge = fstatfs(fd, &info) == 0 && info.f_type == HUGETLBFS_MAGIC && info.f_bsize > 0;

    return is_huge ? (uint64_t)info.f_bsize : (uint64_t)sysconf(_SC_PAGESIZE);
}

int native_mem_map(struct native_mem *mem, int fd, uint64_t offset, uint64_t len_bytes,
                   bool writable, uint64_t *target)
{
    struct native_mem_window *w = NULL;
    struct stat info;

    for (uint32_t i = 0; i < LIMIT_DMA_WINDOWS && w == NULL; i++) {
        w = atomic_load(&mem->windows[i].addr) == 0 ? &mem->windows[i] : NULL;
    }
    if (w == NULL) {
        return -ENOSPC;
    }
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || (uint64_t)info.st_size < offset ||
        (uint64_t)info.st_size - offset < len_bytes) {
        return -EINVAL;
    }
    /* A window may be a part of a huge page; no sum wraps: the file has that many bytes. */
    uint64_t page_bytes = page_bytes_of(fd);
    uint64_t start = align_down(offset, page_bytes);
    uint64_t map_bytes = align_up(offset + len_bytes - start, page_bytes);
    void *memory = mmap(NULL, (size_t)map_bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ,
                        MAP_SHARED, fd, (off_t)start);
    if (memory == MAP_FAILED) {
        return -errno;
    }
    w->target = (uint64_t)(uintptr_t)memory + (offset - start);
    atomic_store(&w->cut, false);
    atomic_store(&w->len_bytes, map_bytes);
    atomic_store(&w->addr, (uintptr_t)memory);
    *target = w->target;
    return 0;
}

void native_mem_unmap(struct native_mem *mem, uint64_t target)
{
    for (uint32_t i = 0; i < LIMIT_DMA_WINDOWS; i++) {
        struct native_mem_window *w = &mem->windows[i];
        uintptr_t addr = atomic_load(&w->addr);
        if (addr == 0 || w->target != target) {
            continue;
        }
        atomic_store(&w->addr, 0);
        if (!atomic_load(&w->cut)) {
            munmap((void *)addr, (size_t)atomic_load(&w->len_bytes));
        }
        /* Cut: the firmware did not answer a fence and may still hold the address, so the range is
         * never given out again. */
        return;
    }
}

void native_mem_cut_all(struct native_mem *mem)
{
    for (uint32_t i = 0; i < LIMIT_DMA_WINDOWS; i++) {
        if (atomic_load(&mem->windows[i].addr) != 0) {
            window_cut(&mem->windows[i]);
            atomic_store(&mem->windows[i].cut, true);
        }
    }
}

bool native_mem_take_fault(struct native_mem *mem)
{
    return atomic_exchange(&mem->faulted, false);
}
