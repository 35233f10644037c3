/*
 * See pcie_ep_native.h. Memory of the host: pcie_ep_native_mem.c.
 */
#include "hal/native/pcie_ep_native.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "base/bits.h"
#include "base/log.h"
#include "hal/clock.h"
#include "hal/cpu.h"
#include "hal/drivers/pcie_ep_link.h"
#include "hal/native/pcie_ep_native_mem.h"
#include "hal/native/vfu/vfu_server.h"

#define PATH_BYTES       256
#define HELLO_TIMEOUT_NS UINT64_C(2000000000)
#define NS_PER_SECOND    UINT64_C(1000000000)

/* How often the thread looks whether a core hangs in a client's eventfd. */
#define RAISE_LOOK_MS 250

/* A core's raises of interrupts: who hangs in one is called back. */
struct native_raiser {
    _Atomic uint32_t count; /* odd: in write() */
    uint32_t count_seen;    /* by the server's thread */
    _Atomic pthread_t thread;
    uint8_t reserved[48]; /* cores do not share a line */
};

/* One function. The thread owns link and server; the reactors own ep_link. */
struct native_fn {
    struct vfu_link link;
    struct vfu_server server;
    struct pcie_ep_link ep_link;
    struct native_mem mem;
    char path[PATH_BYTES];
    char name[16];
    void *block;
    uint8_t *doorbells;
    int doorbell_fd;
    int notify_fd;                /* the reactors ring, the thread listens */
    int quiet_fd;                 /* an eventfd that nobody reads */
    int vector_fd[LIMIT_VECTORS]; /* numbers that never change: what they name is replaced */
    uint32_t live[8];
    struct native_raiser raisers[LIMIT_CORES];
    uint64_t raise_look_ns;
    pthread_t thread;
    bool thread_runs;
    _Atomic bool stopping;
};

static struct native_fn *fns[LIMIT_FUNCTIONS];
static uint32_t fn_count;

static void ring(int fd)
{
    const uint64_t one = 1;
    /* Full or not there: then somebody has been told already, or nobody listens. */
    if (write(fd, &one, sizeof(one)) < 0) {
        return;
    }
}

/* --- what the link asks for: thread of the server ------------------------------------------------
 */

static void on_wake(void *ctx, uint32_t core_mask)
{
    (void)ctx;
    while (core_mask != 0) {
        uint32_t core = lowest_bit(core_mask);
        core_mask &= core_mask - 1;
        if (core < LIMIT_CORES) {
            cpu_wake(core);
        }
    }
}

static void drain(int fd)
{
    uint64_t count;
    if (read(fd, &count, sizeof(count)) < 0) {
        return;
    }
}

static bool on_wait(void *ctx, uint64_t timeout_ns)
{
    struct native_fn *fn = ctx;
    struct pollfd poll_fd = {.fd = fn->notify_fd, .events = POLLIN};
    struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / NS_PER_SECOND),
                               .tv_nsec = (long)(timeout_ns % NS_PER_SECOND)};

    if (atomic_load(&fn->stopping)) {
        return false; /* the reactors have ended */
    }
    if (ppoll(&poll_fd, 1, &timeout, NULL) > 0) {
        drain(fn->notify_fd);
    }
    return true;
}

static void on_stop(void *ctx, const char *why)
{
    struct native_fn *fn = ctx;
    (void)why;
    native_mem_cut_all(&fn->mem);
}

static uint64_t on_now(void *ctx)
{
    struct timespec now;
    (void)ctx;
    clock_gettime(CLOCK_MONOTONIC, &now); /* real time also when the board's clock stands */
    return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

static void on_log(void *ctx, const char *text)
{
    (void)ctx;
    LOG_INFO("vfu: %s", text);
}

static const struct vfu_link_ops link_ops = {
    .wake = on_wake, .wait = on_wait, .stop_nic = on_stop, .now_ns = on_now, .log = on_log};

/* --- interrupts --------------------------------------------------------------------------------
 */

/* The number of the vector's descriptor stays; dup3() replaces what it names in one step, so a core
 * that raises meanwhile signals the old or the new eventfd, never a stranger. */
static void irq_set(void *ctx, uint32_t vector, int fd)
{
    struct native_fn *fn = ctx;
    bool live = fd >= 0;

    dup3(live ? fd : fn->quiet_fd, fn->vector_fd[vector], O_CLOEXEC);
    if (fd >= 0) {
        close(fd);
    }
    fn->live[vector / 32] &= ~BIT32(vector % 32);
    fn->live[vector / 32] |= (uint32_t)live << (vector % 32);
}

static void irq_commit(void *ctx)
{
    struct native_fn *fn = ctx;
    struct link_vector_table table = {.count = LIMIT_VECTORS};

    memcpy(table.live, fn->live, sizeof(table.live));
    (void)vfu_link_set_vectors(&fn->link,
                               &table); /* no peer to retire: nothing waits for the ack */
}

static void irq_trigger(void *ctx, uint32_t vector)
{
    struct native_fn *fn = ctx;
    struct pollfd room = {.fd = fn->vector_fd[vector], .events = POLLOUT};

    if (poll(&room, 1, 0) > 0) { /* nobody looks after this thread */
        ring(fn->vector_fd[vector]);
    }
}

static const struct vfu_irq_ops irq_ops = {
    .set = irq_set, .commit = irq_commit, .trigger = irq_trigger};

/* --- what the driver asks for: any core ----------------------------------------------------------
 */

static void on_raise(void *ctx, uint32_t peer, uint32_t vector)
{
    struct native_fn *fn = ctx;
    struct native_raiser *raiser = &fn->raisers[cpu_self()];
    uint32_t count = atomic_load_explicit(&raiser->count, memory_order_relaxed);
    (void)peer;

    atomic_store_explicit(&raiser->thread, pthread_self(), memory_order_relaxed);
    /* RAISE (release): the thread is known before the count is odd. */
    atomic_store_explicit(&raiser->count, count + 1, memory_order_release);
    ring(fn->vector_fd[vector]); /* the driver checked vector against LIMIT_VECTORS, first is 0 */
    atomic_store_explicit(&raiser->count, count + 2, memory_order_relaxed);
}

static void on_notify(void *ctx)
{
    struct native_fn *fn = ctx;
    ring(fn->notify_fd);
}

/* --- DMA windows -------------------------------------------------------------------------------
 */

static int dma_map(void *ctx, int fd, uint64_t offset, uint64_t len_bytes, bool writable,
                   uint64_t *target)
{
    struct native_fn *fn = ctx;
    return native_mem_map(&fn->mem, fd, offset, len_bytes, writable, target);
}

static void dma_unmap(void *ctx, uint64_t target, uint64_t len_bytes)
{
    struct native_fn *fn = ctx;
    (void)len_bytes;
    native_mem_unmap(&fn->mem, target);
}

static const struct vfu_dma_ops dma_ops = {.map = dma_map, .unmap = dma_unmap};

/* --- the thread --------------------------------------------------------------------------------
 */

static void look_at_memory(struct native_fn *fn)
{
    if (native_mem_take_fault(&fn->mem)) {
        LOG_WARN("vfu: fn %u: the client cut its memory short and is dropped",
                 (unsigned)fn->link.config.fn);
        vfu_server_drop(&fn->server);
    }
}

static void on_call_back(int number)
{
    (void)number; /* the system call ends with EINTR: that is all */
}

static int catch_call_back(void)
{
    struct sigaction action = {.sa_handler = on_call_back}; /* without SA_RESTART */
    sigemptyset(&action.sa_mask);
    return sigaction(SIGURG, &action, NULL) == 0 ? 0 : -errno;
}

/* True if a core has been in the same write() since the look before. */
static bool some_core_hangs(struct native_fn *fn)
{
    bool hangs = false;

    for (uint32_t core = 0; core < LIMIT_CORES; core++) {
        struct native_raiser *raiser = &fn->raisers[core];
        uint32_t count = atomic_load_explicit(&raiser->count, memory_order_relaxed);
        hangs |= (count & 1) != 0 && count == raiser->count_seen;
        raiser->count_seen = count;
    }
    return hangs;
}

/* The client can make its eventfd block after we have set it not to, and fill it: then a core hangs
 * in write(), with all functions that it serves. */
static void look_at_raises(struct native_fn *fn)
{
    uint64_t now_ns = on_now(NULL);

    if (now_ns - fn->raise_look_ns < RAISE_LOOK_MS * NS_PER_MS) {
        return;
    }
    fn->raise_look_ns = now_ns;
    if (!some_core_hangs(fn)) {
        return;
    }
    for (uint32_t v = 0; v < LIMIT_VECTORS; v++) {
        irq_set(fn, v, -1); /* who raises from now on signals nobody */
    }
    for (uint32_t core = 0; core < LIMIT_CORES; core++) {
        struct native_raiser *raiser = &fn->raisers[core];
        /* RAISE (acquire) */
        if ((atomic_load_explicit(&raiser->count, memory_order_acquire) & 1) != 0) {
            pthread_kill(atomic_load_explicit(&raiser->thread, memory_order_relaxed), SIGURG);
        }
    }
    LOG_WARN("vfu: fn %u: an eventfd of the client takes no signals; the client is dropped",
             (unsigned)fn->link.config.fn);
    vfu_server_drop(&fn->server);
}

static void *fn_main(void *arg)
{
    struct native_fn *fn = arg;

    while (!atomic_load(&fn->stopping)) {
        struct pollfd poll_fds[2] = {
            {.fd = fn->notify_fd, .events = POLLIN},
            {.fd = vfu_server_poll_fd(&fn->server), .events = POLLIN},
        };
        int timeout_ms = vfu_server_wait_ms(&fn->server);
        if (vfu_server_has_client(&fn->server) && (timeout_ms < 0 || timeout_ms > RAISE_LOOK_MS)) {
            timeout_ms = RAISE_LOOK_MS;
        }
        if (poll(poll_fds, 2, timeout_ms) < 0 && errno != EINTR) {
            break;
        }
        if (poll_fds[0].revents != 0) {
            drain(fn->notify_fd);
        }
        if (poll_fds[1].revents != 0 || vfu_server_wait_ms(&fn->server) == 0) {
            vfu_server_turn(&fn->server);
        }
        vfu_link_poll(&fn->link); /* also after a turn: its fences may have eaten a notification */
        look_at_memory(fn);
        look_at_raises(fn);
    }
    vfu_server_close(&fn->server);
    return NULL;
}

/* --- start and end -----------------------------------------------------------------------------
 */

static void fn_free(struct native_fn *fn)
{
    if (fn->thread_runs) {
        atomic_store(&fn->stopping, true);
        ring(fn->notify_fd);
        pthread_join(fn->thread, NULL);
    }
    native_mem_close(&fn->mem);
    for (uint32_t v = 0; v < LIMIT_VECTORS; v++) {
        if (fn->vector_fd[v] >= 0) {
            close(fn->vector_fd[v]);
        }
    }
    const int fds[] = {fn->doorbell_fd, fn->notify_fd, fn->quiet_fd};
    for (uint32_t i = 0; i < ARRAY_SIZE(fds); i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    if (fn->doorbells != NULL) {
        munmap(fn->doorbells, LINK_DOORBELL_BYTES);
    }
    free(fn->block);
    free(fn);
}

/* Doorbells are memory that the client maps; nothing else of the link is in that file. */
static int open_doorbells(struct native_fn *fn)
{
    uint64_t file_bytes = LINK_DOORBELL_OFFSET + LINK_DOORBELL_BYTES;

    fn->doorbell_fd = memfd_create("snic-doorbells", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fn->doorbell_fd < 0 || ftruncate(fn->doorbell_fd, (off_t)file_bytes) != 0 ||
        fcntl(fn->doorbell_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        return -errno;
    }
    void *memory = mmap(NULL, LINK_DOORBELL_BYTES, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_POPULATE, fn->doorbell_fd, LINK_DOORBELL_OFFSET);
    if (memory == MAP_FAILED) {
        return -errno;
    }
    fn->doorbells = memory;
    return 0;
}

static int open_events(struct native_fn *fn)
{
    fn->notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    fn->quiet_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fn->notify_fd < 0 || fn->quiet_fd < 0) {
        return -errno;
    }
    for (uint32_t v = 0; v < LIMIT_VECTORS; v++) {
        fn->vector_fd[v] = fcntl(fn->quiet_fd, F_DUPFD_CLOEXEC, 0);
        if (fn->vector_fd[v] < 0) {
            return -errno;
        }
    }
    int result = catch_call_back();
    return result == 0 ? native_mem_open(&fn->mem, fn->notify_fd) : result;
}

static int open_link(struct native_fn *fn, uint32_t index, uint32_t count,
                     const struct pcie_ep_native_options *options)
{
    fn->block = aligned_alloc(LINK_PAGE_BYTES, LINK_BLOCK_BYTES);
    if (fn->block == NULL) {
        return -ENOMEM;
    }
    struct vfu_link_config link_config = {
        .ops = &link_ops,
        .ctx = fn,
        .block = fn->block,
        .doorbells = fn->doorbells,
        .fn = (uint16_t)index,
        .function_count = (uint16_t)count,
        .vector_count = LIMIT_VECTORS,
        .trapped = options->trapped,
        .cheap_poll = true,
        .revive = true,
        .dstrd = options->dstrd,
    };
    int result = vfu_link_init(&fn->link, &link_config);
    if (result != 0) {
        return result;
    }
    struct vfu_server_config server_config = {
        .path = fn->path,
        .link = &fn->link,
        .dma_ops = &dma_ops,
        .irq_ops = &irq_ops,
        .ctx = fn,
        .vendor_id = LINK_PCI_VENDOR_ID,
        .device_id = LINK_PCI_DEVICE_ID,
        .doorbell_fd = options->trapped ? -1 : fn->doorbell_fd,
        .doorbell_fd_offset = LINK_DOORBELL_OFFSET,
    };
    return vfu_server_open(&fn->server, &server_config);
}

/* Starts the thread, then attaches the driver, which the thread answers. */
static int start_fn(struct native_fn *fn)
{
    struct pcie_ep_link_params params = {
        .name = fn->name,
        .block = fn->block,
        .doorbells = fn->doorbells,
        .bus_base = 0,
        .bus_bytes = UINT64_MAX,
        .ctx = fn,
        .raise = on_raise,
        .notify = on_notify,
        .hello_timeout_ns = HELLO_TIMEOUT_NS,
    };
    int error = pthread_create(&fn->thread, NULL, fn_main, fn);
    if (error != 0) {
        return -error;
    }
    fn->thread_runs = true;
    return pcie_ep_link_init(&fn->ep_link, &params) == STATUS_OK ? 0 : -EIO;
}

static int open_fn(struct native_fn *fn, uint32_t index, uint32_t count, const char *folder,
                   const struct pcie_ep_native_options *options)
{
    snprintf(fn->name, sizeof(fn->name), "ep%u", (unsigned)index);
    if (snprintf(fn->path, sizeof(fn->path), "%s/cntrl", folder) >= (int)sizeof(fn->path)) {
        return -ENAMETOOLONG;
    }
    if (mkdir(folder, 0700) != 0 && errno != EEXIST) {
        return -errno;
    }
    int result = open_doorbells(fn);
    if (result == 0) {
        result = open_events(fn);
    }
    if (result == 0) {
        result = open_link(fn, index, count, options);
    }
    return result == 0 ? start_fn(fn) : result;
}

int pcie_ep_native_start(const char *const *folders, uint32_t count,
                         const struct pcie_ep_native_options *options, struct pcie_ep **eps)
{
    if (count == 0 || count > LIMIT_FUNCTIONS || fn_count != 0) {
        return -EINVAL;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct native_fn *fn = calloc(1, sizeof(*fn));
        if (fn == NULL) {
            pcie_ep_native_stop();
            return -ENOMEM;
        }
        fn->doorbell_fd = fn->notify_fd = fn->quiet_fd = -1;
        fn->server.listen_fd = fn->server.conn.fd = -1;
        memset(fn->vector_fd, 0xff, sizeof(fn->vector_fd)); /* -1 */
        fns[fn_count++] = fn;
        int result = open_fn(fn, i, count, folders[i], options);
        if (result != 0) {
            LOG_ERROR("vfu: cannot serve at %s: %s", folders[i], strerror(-result));
            pcie_ep_native_stop();
            return result;
        }
        eps[i] = &fn->ep_link.ep;
    }
    return 0;
}

void pcie_ep_native_stop(void)
{
    for (uint32_t i = 0; i < fn_count; i++) {
        fn_free(fns[i]);
        fns[i] = NULL;
    }
    fn_count = 0;
}
