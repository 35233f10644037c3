/*
 * What ties the parts of pcielink together: start, one turn of the loop, end.
 */
#include "boards/qemu-virt/pcielink/pcielink.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "base/bits.h"

#define NS_PER_S UINT64_C(1000000000)

void pcielink_log(const char *format, ...)
{
    static uint64_t start_ns;
    uint64_t now_ns = pcielink_now_ns();
    char text[256];
    va_list args;

    start_ns = start_ns == 0 ? now_ns : start_ns;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    fprintf(stderr, "[%9.3f] pcielink: %s\n", (double)(now_ns - start_ns) / 1e9, text);
}

uint64_t pcielink_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

int pcielink_listen(const char *path)
{
    return vfu_server_listen(path);
}

void pcielink_signal(int event_fd)
{
    const uint64_t one = 1;
    if (write(event_fd, &one, sizeof(one)) < 0) {
        return; /* full: it is signalled already */
    }
}

void pcielink_drain(int event_fd)
{
    uint64_t count;
    if (read(event_fd, &count, sizeof(count)) < 0) {
        return;
    }
}

/* --- what the link and the server ask for --------------------------------------------------------
 */

static void on_wake(void *ctx, uint32_t core_mask)
{
    struct pcielink *p = ctx;
    for (uint32_t core = 0; core < LIMIT_CORES; core++) {
        if ((core_mask & BIT32(core)) != 0) {
            pcielink_signal(p->nic.wake_fd[core]);
        }
    }
}

/* During a fence only the NIC is listened to. */
static bool on_wait(void *ctx, uint64_t timeout_ns)
{
    struct pcielink *p = ctx;
    struct pollfd polls[3] = {{.fd = p->nic.notify_fd, .events = POLLIN},
                              {.fd = p->nic.conn_fd, .events = POLLIN | POLLRDHUP},
                              {.fd = p->nic.pid_fd, .events = POLLIN}};
    struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / NS_PER_S),
                               .tv_nsec = (long)(timeout_ns % NS_PER_S)};

    if (ppoll(polls, 3, &timeout, NULL) > 0) {
        if (polls[0].revents != 0) {
            pcielink_drain(p->nic.notify_fd);
        }
        if ((polls[1].revents | polls[2].revents) != 0) {
            return pcielink_nic_check(p);
        }
    }
    return p->nic.conn_fd >= 0;
}

static void on_stop(void *ctx, const char *why)
{
    pcielink_nic_stop(ctx, why);
}

static uint64_t on_now(void *ctx)
{
    (void)ctx;
    return pcielink_now_ns();
}

static void on_log(void *ctx, const char *text)
{
    (void)ctx;
    pcielink_log("%s", text);
}

static int on_map(void *ctx, int fd, uint64_t offset, uint64_t len_bytes, bool writable,
                  uint64_t *target)
{
    (void)writable; /* the table says so; the NIC's QEMU maps the whole file */
    return pcielink_ram_map(ctx, fd, offset, len_bytes, target);
}

static void on_unmap(void *ctx, uint64_t target, uint64_t len_bytes)
{
    (void)ctx;
    (void)target;
    (void)len_bytes;
}

static void on_irq_set(void *ctx, uint32_t vector, int fd)
{
    pcielink_vectors_set(ctx, vector, fd);
}

static void on_irq_commit(void *ctx)
{
    (void)ctx; /* the loop takes changes up, several at once */
}

static void on_irq_trigger(void *ctx, uint32_t vector)
{
    pcielink_vectors_relay(ctx, vector);
}

/* --- start -------------------------------------------------------------------------------------
 */

static int open_block(struct pcielink *p)
{
    p->block_fd = memfd_create("snic-link", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (p->block_fd < 0 || ftruncate(p->block_fd, LINK_BLOCK_BYTES) != 0 ||
        fcntl(p->block_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        return -errno;
    }
    void *memory = mmap(NULL, LINK_BLOCK_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, p->block_fd, 0);
    if (memory == MAP_FAILED) {
        return -errno;
    }
    p->block = memory;
    return 0;
}

static int open_link(struct pcielink *p)
{
    static const struct vfu_link_ops ops = {
        .wake = on_wake, .wait = on_wait, .stop_nic = on_stop, .now_ns = on_now, .log = on_log};
    struct vfu_link_config config = {
        .ops = &ops,
        .ctx = p,
        .block = p->block,
        .function_count = 1,
        .vector_count = LIMIT_VECTORS,
        .trapped = p->options.trapped,
        .cheap_poll = p->options.cheap_poll,
        .dstrd = p->options.dstrd,
        .host_ram_bytes = p->options.ram_bytes,
        .fence_timeout_ns = p->options.fence_ns,
    };
    return vfu_link_init(&p->link, &config);
}

static int open_server(struct pcielink *p)
{
    static const struct vfu_dma_ops dma_ops = {.map = on_map, .unmap = on_unmap};
    static const struct vfu_irq_ops irq_ops = {
        .set = on_irq_set, .commit = on_irq_commit, .trigger = on_irq_trigger};
    struct vfu_server_config config = {
        .path = p->cntrl_path,
        .link = &p->link,
        .dma_ops = &dma_ops,
        .irq_ops = &irq_ops,
        .ctx = p,
        .vendor_id = LINK_PCI_VENDOR_ID,
        .device_id = LINK_PCI_DEVICE_ID,
        .doorbell_fd = p->options.trapped ? -1 : p->block_fd,
        .doorbell_fd_offset = LINK_OFFSET_BAR + LINK_DOORBELL_OFFSET,
        .version_timeout_ns = p->options.version_ns,
    };
    return vfu_server_open(&p->server, &config);
}

static bool path_make(char *to, const char *dir, const char *name)
{
    return snprintf(to, PCIELINK_PATH_BYTES, "%s/%s", dir, name) < PCIELINK_PATH_BYTES;
}

static int open_ctl(struct pcielink *p)
{
    return ctl_open(&p->ctl, p->options.dir, "ctl", pcielink_cmd, p);
}

int pcielink_open(struct pcielink *p, const struct pcielink_options *options)
{
    int (*const steps[])(struct pcielink *) = {
        open_block,        pcielink_ram_open, pcielink_vectors_open, open_link,
        pcielink_nic_open, open_ctl,          open_server,
    };

    memset(p, 0, sizeof(*p));
    p->options = *options;
    p->nic.conn_fd = p->nic.pid_fd = p->nic.listen_fd = -1;
    ctl_init(&p->ctl);
    p->ram.fd = p->block_fd = p->server.conn.fd = p->server.listen_fd = -1;
    if (!path_make(p->cntrl_path, options->dir, "cntrl") ||
        !path_make(p->nic_path, options->dir, "ivshmem.sock")) {
        return -ENAMETOOLONG;
    }
    if (mkdir(options->dir, 0700) != 0 && errno != EEXIST) {
        return -errno;
    }
    for (uint32_t i = 0; i < ARRAY_SIZE(steps); i++) {
        int result = steps[i](p);
        if (result != 0) {
            return result;
        }
    }
    return 0;
}

/* --- loop --------------------------------------------------------------------------------------
 */

/* What became readable; in poll order. */
struct polls {
    struct pollfd fds[5 + CTL_FDS + LIMIT_VECTORS];
    uint32_t count;
};

static uint32_t watch(struct polls *polls, int fd)
{
    polls->fds[polls->count] = (struct pollfd){.fd = fd, .events = POLLIN | POLLRDHUP};
    return polls->count++;
}

static void handle_relays(struct pcielink *p, const struct pollfd *fds)
{
    for (uint32_t v = 0; v < LIMIT_VECTORS; v++) {
        if (fds[v].revents != 0) {
            pcielink_drain(p->nic.relay_fd[v]);
            pcielink_vectors_relay(p, v);
        }
    }
}

/* How long poll() may take; no longer than `timeout_ms`. */
static int wait_ms(struct pcielink *p, int timeout_ms)
{
    int server_ms = vfu_server_wait_ms(&p->server);

    if (pcielink_vectors_turn(p)) {
        return 1;
    }
    return server_ms >= 0 && (timeout_ms < 0 || server_ms < timeout_ms) ? server_ms : timeout_ms;
}

void pcielink_turn(struct pcielink *p, int timeout_ms)
{
    struct polls polls = {.count = 0};
    uint64_t now_ns = pcielink_now_ns();
    uint32_t notify = watch(&polls, p->nic.notify_fd);
    uint32_t host = watch(&polls, vfu_server_poll_fd(&p->server));
    uint32_t nic = watch(&polls, vfu_accept_poll_fd(&p->nic.accept, p->nic.listen_fd, now_ns));
    uint32_t conn = watch(&polls, p->nic.conn_fd); /* -1 is skipped by poll() */
    uint32_t pid = watch(&polls, p->nic.pid_fd);
    uint32_t ctl = polls.count;
    ctl_watch(&p->ctl, now_ns, &polls.fds[ctl]);
    polls.count += CTL_FDS;
    uint32_t relays = polls.count;
    for (uint32_t v = 0; p->vectors.relay && v < LIMIT_VECTORS; v++) {
        watch(&polls, p->nic.relay_fd[v]);
    }

    if (poll(polls.fds, polls.count, wait_ms(p, timeout_ms)) <= 0 &&
        vfu_server_wait_ms(&p->server) != 0) {
        return;
    }
    if (polls.fds[notify].revents != 0) {
        pcielink_drain(p->nic.notify_fd);
    }
    if ((polls.fds[conn].revents | polls.fds[pid].revents) != 0) {
        pcielink_nic_check(p);
    }
    if (polls.fds[nic].revents != 0) {
        pcielink_nic_accept(p);
    }
    vfu_link_poll(&p->link);
    if (polls.fds[host].revents != 0 || vfu_server_wait_ms(&p->server) == 0) {
        vfu_server_turn(&p->server);
        vfu_link_poll(&p->link); /* its fences may have eaten a notification */
    }
    int result = ctl_turn(&p->ctl, pcielink_now_ns(), &polls.fds[ctl]);
    if (result != 0) {
        pcielink_log("no command is accepted for now: %s", strerror(-result));
    }
    if (relays < polls.count) {
        handle_relays(p, &polls.fds[relays]);
    }
}

void pcielink_close(struct pcielink *p)
{
    vfu_server_close(&p->server);
    ctl_close(&p->ctl);
    pcielink_nic_close(p);
    pcielink_vectors_close(p);
    pcielink_ram_close(p);
    if (p->block != NULL) {
        munmap(p->block, LINK_BLOCK_BYTES);
    }
    if (p->block_fd >= 0) {
        close(p->block_fd);
    }
}
