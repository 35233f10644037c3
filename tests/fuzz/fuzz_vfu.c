/*
 * Bytes -> messages with descriptors for the vfio-user server, and scribbles into the link block,
 * with the real driver as NIC behind it. One thread, a clock that only waiting moves.
 *
 * Found here: crashes, sanitizer reports, descriptors or windows left behind, malformed replies.
 * Input: a row of steps, each one opcode byte and its arguments; see enum step.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "hal/drivers/pcie_ep_link.h"
#include "hal/native/vfu/vfu_server.h"
#include "spec/nvme.h"
#include "tests/fuzz/input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

enum step {
    STEP_MESSAGE,  /* command, flags, descriptors, length; payload: a message with a sound header */
    STEP_RAW,      /* length; bytes as they are */
    STEP_NIC_POP,  /* ack or not: the NIC takes events */
    STEP_NIC_MODE, /* acknowledges fences or not; dies in a fence or not */
    STEP_NIC_HELLO,
    STEP_NIC_GONE,
    STEP_SCRIBBLE, /* offset / 4, value: somebody writes into the block */
    STEP_RECONNECT,
    STEP_LINK, /* down or up */
    STEP_COUNT,
};

#define STEPS_MAX 200

static struct {
    struct vfu_link link;
    struct vfu_server server;
    struct pcie_ep_link nic;
    struct pcie_ep_view view;
    bool nic_there;
    bool nic_acks;
    bool nic_dies;
    int client_fd;
    int event_fd;
    int ram_fd;
    int other_fd;
    uint64_t now_ns;
    uint32_t map_count;
    uint32_t vector_fd_count;
    int vector_fds[LIMIT_VECTORS];
    void *block;
} t;

static void fail(const char *what)
{
    fprintf(stderr, "fuzz_vfu: %s\n", what);
    abort();
}

/* --- NIC ---------------------------------------------------------------------------------------
 */

static void nic_turn(bool ack)
{
    struct pcie_ep_event event;

    for (uint32_t i = 0; t.nic_there && i < 2 * LINK_EVENT_COUNT; i++) {
        if (!pcie_ep_event_pop(&t.nic.ep, &event)) {
            return;
        }
        pcie_ep_view_load(&t.nic.ep, &t.view);
        for (uint32_t w = 0; w < t.view.window_count; w++) {
            if (t.view.windows[w].bus_addr < 0x10000000 ||
                t.view.windows[w].bus_addr - 0x10000000 > 0x1000000 ||
                t.view.windows[w].len_bytes > 0x1000000) {
                fail("a window outside of host RAM");
            }
        }
        pcie_ep_irq_raise(&t.nic.ep, (uint16_t)event.value);
        if (ack) {
            pcie_ep_event_ack(&t.nic.ep, &event);
        }
    }
}

static void on_raise(void *ctx, uint32_t peer, uint32_t vector)
{
    (void)ctx;
    if (peer > LINK_PEER_LAST || vector > UINT8_MAX) {
        fail("a signal to an impossible vector");
    }
}

static void on_notify(void *ctx)
{
    (void)ctx;
    vfu_link_poll(&t.link);
}

static void nic_hello(void)
{
    struct pcie_ep_link_params params = {.name = "ep",
                                         .block = t.block,
                                         .bus_base = 0x10000000,
                                         .bus_bytes = 0x1000000,
                                         .raise = on_raise,
                                         .notify = on_notify,
                                         .hello_timeout_ns = 0};
    t.nic_there = pcie_ep_link_init(&t.nic, &params) == STATUS_OK;
    if (t.nic_there) {
        pcie_ep_ready(&t.nic.ep);
    }
}

/* --- host side ---------------------------------------------------------------------------------
 */

static void on_wake(void *ctx, uint32_t core_mask)
{
    (void)ctx;
    (void)core_mask;
}

static bool on_wait(void *ctx, uint64_t timeout_ns)
{
    (void)ctx;
    t.now_ns += timeout_ns * 100;
    if (t.nic_dies) {
        t.nic_there = false;
        return false;
    }
    if (t.nic_acks) {
        nic_turn(true);
    }
    return true;
}

static void on_stop(void *ctx, const char *why)
{
    (void)ctx;
    (void)why;
    t.nic_there = false;
}

static uint64_t on_now(void *ctx)
{
    (void)ctx;
    return t.now_ns;
}

static void on_log(void *ctx, const char *text)
{
    (void)ctx;
    (void)text;
}

static int on_map(void *ctx, int fd, uint64_t offset, uint64_t len_bytes, bool writable,
                  uint64_t *target)
{
    struct stat info;
    (void)ctx;
    (void)writable;
    if (fstat(fd, &info) != 0 || info.st_size != 0x100000) {
        return VFU_DMA_UNREACHABLE;
    }
    if (!range_fits(offset, len_bytes, 0x100000)) {
        return -EINVAL;
    }
    t.map_count++;
    *target = offset;
    return 0;
}

static void on_unmap(void *ctx, uint64_t target, uint64_t len_bytes)
{
    (void)ctx;
    (void)target;
    (void)len_bytes;
    t.map_count--;
}

static void on_irq_set(void *ctx, uint32_t vector, int fd)
{
    (void)ctx;
    if (vector >= LIMIT_VECTORS) {
        fail("a vector that does not exist");
    }
    if (t.vector_fds[vector] >= 0) {
        close(t.vector_fds[vector]);
    }
    t.vector_fds[vector] = fd;
}

static void on_irq_commit(void *ctx)
{
    struct link_vector_table table = {.peer = 5, .count = LIMIT_VECTORS};
    (void)ctx;
    for (uint32_t v = 0; v < LIMIT_VECTORS; v++) {
        table.live[v / 32] |= (uint32_t)(t.vector_fds[v] >= 0) << (v % 32);
    }
    vfu_link_set_vectors(&t.link, &table);
}

static void on_irq_trigger(void *ctx, uint32_t vector)
{
    (void)ctx;
    if (vector >= LIMIT_VECTORS) {
        fail("a trigger of a vector that does not exist");
    }
}

/* --- client ------------------------------------------------------------------------------------
 */

/* Takes all replies off the socket; each must be well formed. */
static void check_replies(void)
{
    static uint8_t buffer[1u << 20];
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(8 * sizeof(int))];
    } control;
    struct iovec iov = {.iov_base = buffer, .iov_len = sizeof(struct vfu_header)};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    struct vfu_header header;

    for (;;) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = sizeof(control.bytes);
        ssize_t got = recvmsg(t.client_fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (got <= 0) {
            return;
        }
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c != NULL; c = CMSG_NXTHDR(&msg, c)) {
            int fd;
            memcpy(&fd, CMSG_DATA(c), sizeof(fd));
            close(fd);
        }
        memcpy(&header, buffer, sizeof(header));
        if (got != sizeof(header) || header.msg_bytes < sizeof(header) ||
            header.msg_bytes > sizeof(header) + VFU_MAX_PAYLOAD ||
            (header.flags & VFU_FLAG_TYPE_MASK) != VFU_FLAG_REPLY ||
            ((header.flags & VFU_FLAG_ERROR) != 0) != (header.error != 0)) {
            fail("a malformed reply");
        }
        size_t left = header.msg_bytes - sizeof(header);
        if (left > 0 && recv(t.client_fd, buffer, left, MSG_DONTWAIT) != (ssize_t)left) {
            fail("a short reply");
        }
    }
}

static void client_send(const void *bytes, size_t len, uint32_t fd_spec)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(20 * sizeof(int))];
    } control;
    struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    uint32_t fd_count = (fd_spec & 0x3f) % 19;
    const int kinds[] = {t.event_fd, t.ram_fd, t.other_fd, t.client_fd};

    if (fd_count > 0 && len > 0) {
        memset(&control, 0, sizeof(control));
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
        for (uint32_t i = 0; i < fd_count; i++) {
            memcpy(CMSG_DATA(c) + i * sizeof(int), &kinds[fd_spec >> 6], sizeof(int));
        }
    }
    if (sendmsg(t.client_fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
        return;
    }
    for (uint32_t i = 0; i < 4 && vfu_server_has_client(&t.server); i++) {
        vfu_server_turn(&t.server);
        check_replies();
    }
}

static void client_connect(void)
{
    int ends[2];
    if (t.client_fd >= 0) {
        close(t.client_fd);
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        fail("no socket pair");
    }
    vfu_server_adopt(&t.server, ends[0]);
    t.client_fd = ends[1];
}

/* --- steps -------------------------------------------------------------------------------------
 */

static void step_message(struct input *in)
{
    uint8_t message[sizeof(struct vfu_header) + 256];
    struct vfu_header header = {.id = 1, .command = take8(in), .flags = take8(in) & 0x1fu};
    uint32_t fd_spec = take8(in);
    uint32_t len = take8(in);

    header.msg_bytes = (uint32_t)sizeof(header) + len;
    memcpy(message, &header, sizeof(header));
    for (uint32_t i = 0; i < len; i++) {
        message[sizeof(header) + i] = take8(in);
    }
    client_send(message, header.msg_bytes, fd_spec);
}

static void step_raw(struct input *in)
{
    uint32_t len = take8(in);
    if (len > (size_t)(in->end - in->at)) {
        len = (uint32_t)(in->end - in->at);
    }
    client_send(in->at, len, 0);
    in->at += len;
}

/* Anywhere: both ends must bear it. */
static void step_scribble(struct input *in)
{
    uint32_t offset = (take32(in) * 4) % LINK_BLOCK_BYTES;
    uint32_t value = take32(in);
    shm_store32((uint8_t *)t.block + offset, value);
}

static void step(struct input *in)
{
    switch (take8(in) % STEP_COUNT) {
    case STEP_MESSAGE:
        step_message(in);
        break;
    case STEP_RAW:
        step_raw(in);
        break;
    case STEP_NIC_POP:
        nic_turn(take8(in) & 1);
        break;
    case STEP_NIC_MODE: {
        uint8_t mode = take8(in);
        t.nic_acks = (mode & 1) != 0;
        t.nic_dies = (mode & 2) != 0;
        break;
    }
    case STEP_NIC_HELLO:
        nic_hello();
        break;
    case STEP_NIC_GONE:
        t.nic_there = false;
        vfu_link_nic_gone(&t.link);
        break;
    case STEP_SCRIBBLE:
        step_scribble(in);
        break;
    case STEP_RECONNECT:
        client_connect();
        break;
    case STEP_LINK:
        vfu_link_set_down(&t.link, take8(in) & 1);
        break;
    default:
        break;
    }
}

/* --- one run -----------------------------------------------------------------------------------
 */

static void open_all(void)
{
    static const struct vfu_link_ops ops = {
        .wake = on_wake, .wait = on_wait, .stop_nic = on_stop, .now_ns = on_now, .log = on_log};
    static const struct vfu_dma_ops dma_ops = {.map = on_map, .unmap = on_unmap};
    static const struct vfu_irq_ops irq_ops = {
        .set = on_irq_set, .commit = on_irq_commit, .trigger = on_irq_trigger};
    struct vfu_link_config link_config = {.ops = &ops,
                                          .block = t.block,
                                          .function_count = 1,
                                          .vector_count = LIMIT_VECTORS,
                                          .dstrd = 4,
                                          .host_ram_bytes = 0x1000000};
    struct vfu_server_config config = {.link = &t.link,
                                       .dma_ops = &dma_ops,
                                       .irq_ops = &irq_ops,
                                       .vendor_id = LINK_PCI_VENDOR_ID,
                                       .device_id = LINK_PCI_DEVICE_ID,
                                       .doorbell_fd = t.ram_fd,
                                       .doorbell_fd_offset = LINK_DOORBELL_OFFSET};

    t.client_fd = -1;
    t.nic_there = false;
    t.nic_acks = true;
    t.nic_dies = false;
    t.now_ns = 0;
    t.map_count = 0;
    memset(t.vector_fds, 0xff, sizeof(t.vector_fds));
    if (vfu_link_init(&t.link, &link_config) != 0 || vfu_server_open(&t.server, &config) != 0) {
        fail("cannot start");
    }
    client_connect();
}

static void close_all(void)
{
    vfu_server_close(&t.server);
    close(t.client_fd);
    for (uint32_t v = 0; v < LIMIT_VECTORS; v++) {
        if (t.vector_fds[v] >= 0) {
            close(t.vector_fds[v]);
        }
    }
    if (t.map_count != 0) {
        fail("a window was left behind");
    }
}

/* The lowest free descriptor number: grows when one is left open. */
static int lowest_free_fd(void)
{
    int fd = dup(t.event_fd);
    close(fd);
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {.at = data, .end = data + size};

    if (t.block == NULL) {
        t.block = aligned_alloc(LINK_PAGE_BYTES, LINK_BLOCK_BYTES);
        t.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        t.ram_fd = memfd_create("ram", MFD_CLOEXEC);
        t.other_fd = memfd_create("other", MFD_CLOEXEC);
        if (t.block == NULL || ftruncate(t.ram_fd, 0x100000) != 0) {
            fail("no memory");
        }
    }
    int free_fd = lowest_free_fd();
    open_all();
    for (uint32_t i = 0; i < STEPS_MAX && in.at < in.end; i++) {
        step(&in);
    }
    close_all();
    if (lowest_free_fd() != free_fd) {
        fail("a descriptor was left behind");
    }
    return 0;
}

/* --- seeds -------------------------------------------------------------------------------------
 */

struct seed {
    uint8_t bytes[2048];
    size_t len;
};

static void seed_put(struct seed *seed, const void *bytes, size_t len)
{
    if (seed->len + len <= sizeof(seed->bytes)) {
        memcpy(seed->bytes + seed->len, bytes, len);
        seed->len += len;
    }
}

static void seed_message(struct seed *seed, uint8_t command, uint8_t fd_spec, const void *payload,
                         uint8_t len)
{
    const uint8_t head[] = {STEP_MESSAGE, command, 0, fd_spec, len};
    seed_put(seed, head, sizeof(head));
    seed_put(seed, payload, len);
}

static void seed_write(struct seed *seed, uint32_t region, uint64_t offset, uint32_t value)
{
    uint8_t payload[20];
    struct vfu_region_access access = {.offset = offset, .region = region, .count = 4};
    memcpy(payload, &access, sizeof(access));
    memcpy(payload + sizeof(access), &value, sizeof(value));
    seed_message(seed, VFU_CMD_REGION_WRITE, 0, payload, sizeof(payload));
}

/* A host that comes up as QEMU does. */
static void seed_bring_up(struct seed *seed)
{
    static const char version[] = "\0\0\1\0{\"capabilities\":{\"max_msg_fds\":8,\"x\":[1,true]}}";
    const struct vfu_dma_map map = {.argsz = 32, .flags = 3, .addr = 0x10000, .size = 0x10000};
    const uint8_t hello = STEP_NIC_HELLO;

    seed_put(seed, &hello, 1);
    seed_message(seed, VFU_CMD_VERSION, 0, version, sizeof(version));
    seed_message(seed, VFU_CMD_DEVICE_GET_INFO, 0, (const uint8_t[16]){16}, 16);
    seed_message(seed, VFU_CMD_REGION_GET_INFO, 0, (const uint8_t[32]){64}, 32);
    seed_message(seed, VFU_CMD_IRQ_GET_INFO, 0, (const uint8_t[16]){16, [8] = 2}, 16);
    seed_message(seed, VFU_CMD_DMA_MAP, 1 << 6 | 1, &map, sizeof(map));
    seed_write(seed, VFU_REGION_CONFIG, 4, 6);
}

static void seed_write_file(const char *folder, const char *name, const struct seed *seed)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/seed-%s", folder, name);
    FILE *file = fopen(path, "wb");
    if (file != NULL) {
        fwrite(seed->bytes, 1, seed->len, file);
        fclose(file);
    }
}

static void seeds_write(const char *folder)
{
    static struct seed seed;
    const struct vfu_irq_set irqs = {.argsz = 20, .flags = 0x24, .index = 2, .count = 3};
    const struct vfu_irq_set off = {.argsz = 20, .flags = 0x21, .index = 2};
    const struct vfu_dma_unmap unmap = {.argsz = 24, .addr = 0x10000, .size = 0x10000};
    const struct vfu_region_access read = {.offset = 0, .region = 7, .count = 256};

    seed.len = 0;
    seed_bring_up(&seed);
    seed_message(&seed, VFU_CMD_IRQ_SET, 3, &irqs, sizeof(irqs));
    seed_message(&seed, VFU_CMD_REGION_READ, 0, &read, sizeof(read));
    seed_write(&seed, 0, NVME_REG_CC, 0x00460001);
    seed_write(&seed, 0, LINK_DOORBELL_OFFSET, 1);
    seed_message(&seed, VFU_CMD_IRQ_SET, 0, &off, sizeof(off));
    seed_message(&seed, VFU_CMD_DMA_UNMAP, 0, &unmap, sizeof(unmap));
    seed_message(&seed, VFU_CMD_DEVICE_RESET, 0, "", 0);
    seed_write_file(folder, "life", &seed);

    seed.len = 0;
    seed_bring_up(&seed);
    seed_write(&seed, VFU_REGION_CONFIG, 0x68, 0xa810); /* FLR */
    seed_write(&seed, VFU_REGION_CONFIG, 0x10, UINT32_MAX);
    seed_put(&seed, (const uint8_t[]){STEP_NIC_MODE, 0, STEP_RECONNECT}, 3);
    seed_bring_up(&seed);
    seed_put(&seed, (const uint8_t[]){STEP_SCRIBBLE, 0x10, 0, 0, 0, 9, 9, 0, 0}, 9);
    seed_put(&seed, (const uint8_t[]){STEP_NIC_POP, 1, STEP_LINK, 1, STEP_LINK, 0}, 6);
    seed_put(&seed, (const uint8_t[]){STEP_RAW, 4, 1, 2, 3, 4}, 6);
    seed_write_file(folder, "faults", &seed);
}

/* The corpus folder, named on the command line, gets the seeds. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct stat info;
    for (int i = 1; i < *argc; i++) {
        if ((*argv)[i][0] != '-' && stat((*argv)[i], &info) == 0 && S_ISDIR(info.st_mode)) {
            seeds_write((*argv)[i]);
            break;
        }
    }
    return 0;
}
