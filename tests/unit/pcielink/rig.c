#include "tests/unit/pcielink/rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SET_FDS (VFU_IRQ_DATA_EVENTFD | VFU_IRQ_ACTION_TRIGGER)

/* --- host: a client in the same thread -----------------------------------------------------------
 */

void rig_turns(struct rig *f, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        pcielink_turn(&f->p, 1);
    }
}

int rig_call(struct rig *f, uint16_t command, const void *payload, uint32_t bytes, const int *fds,
             uint32_t fd_count, void *reply, uint32_t reply_bytes)
{
    uint8_t message[512];
    char control[CMSG_SPACE(16 * sizeof(int))] = {0};
    struct vfu_header header = {
        .id = ++f->next_id, .command = command, .msg_bytes = (uint32_t)sizeof(header) + bytes};
    struct iovec iov = {.iov_base = message, .iov_len = header.msg_bytes};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    memcpy(message, &header, sizeof(header));
    if (bytes > 0) {
        memcpy(message + sizeof(header), payload, bytes);
    }
    if (fd_count > 0) {
        msg.msg_control = control;
        msg.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
        memcpy(CMSG_DATA(c), fds, fd_count * sizeof(int));
    }
    assert_int_equal(sendmsg(f->host_fd, &msg, MSG_NOSIGNAL), header.msg_bytes);
    uint8_t answer[4096];
    ssize_t got = -1;
    for (uint32_t i = 0; i < 3000 && got < 0; i++) {
        pcielink_turn(&f->p, 1);
        got = recv(f->host_fd, answer, sizeof(answer), MSG_DONTWAIT);
    }
    assert_true(got >= (ssize_t)sizeof(header));
    memcpy(&header, answer, sizeof(header));
    assert_int_equal(header.id, f->next_id);
    if (reply != NULL) {
        assert_true(got >= (ssize_t)(sizeof(header) + reply_bytes));
        memcpy(reply, answer + sizeof(header), reply_bytes);
    }
    return (header.flags & VFU_FLAG_ERROR) != 0 ? (int)header.error : 0;
}

int rig_host_irqs(struct rig *f, uint32_t start, uint32_t count, const int *fds)
{
    struct vfu_irq_set set = {.argsz = sizeof(set),
                              .flags = SET_FDS,
                              .index = VFU_IRQ_MSIX,
                              .start = start,
                              .count = count};
    return rig_call(f, VFU_CMD_IRQ_SET, &set, sizeof(set), fds, fds == NULL ? 0 : count, NULL, 0);
}

int rig_host_map(struct rig *f, uint64_t addr, uint64_t size, uint64_t offset, int fd)
{
    struct vfu_dma_map map = {
        .argsz = sizeof(map), .flags = 3, .offset = offset, .addr = addr, .size = size};
    return rig_call(f, VFU_CMD_DMA_MAP, &map, sizeof(map), &fd, 1, NULL, 0);
}

int rig_host_unmap(struct rig *f, uint64_t addr, uint64_t size)
{
    struct vfu_dma_unmap unmap = {.argsz = sizeof(unmap), .addr = addr, .size = size};
    return rig_call(f, VFU_CMD_DMA_UNMAP, &unmap, sizeof(unmap), NULL, 0, NULL, 0);
}

void rig_host_write(struct rig *f, uint32_t region, uint64_t offset, uint32_t value)
{
    struct {
        struct vfu_region_access access;
        uint32_t value;
        uint32_t pad;
    } request = {{.offset = offset, .region = region, .count = 4}, value, 0};
    assert_int_equal(rig_call(f, VFU_CMD_REGION_WRITE, &request, 20, NULL, 0, NULL, 0), 0);
}

uint32_t rig_host_read(struct rig *f, uint32_t region, uint64_t offset)
{
    struct vfu_region_access access = {.offset = offset, .region = region, .count = 4};
    struct {
        struct vfu_region_access access;
        uint32_t value;
        uint32_t pad;
    } reply;
    assert_int_equal(rig_call(f, VFU_CMD_REGION_READ, &access, sizeof(access), NULL, 0, &reply, 20),
                     0);
    return reply.value;
}

int rig_connect_to(const char *dir, const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", dir, name);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

void rig_host_connect(struct rig *f)
{
    const uint32_t version = 0;
    f->host_fd = rig_connect_to(f->dir, "cntrl");
    assert_int_equal(rig_call(f, VFU_CMD_VERSION, &version, 4, NULL, 0, NULL, 0), 0);
}

void rig_host_brings_up(struct rig *f)
{
    rig_host_connect(f);
    rig_host_write(f, VFU_REGION_CONFIG, 4, 6);
    assert_int_equal(rig_host_map(f, 0x100000, 0x100000, 0x200000, f->ram_fd), 0);
}

/* --- fixture -----------------------------------------------------------------------------------
 */

static int setup_mode(void **state, bool trapped)
{
    struct rig *f = calloc(1, sizeof(*f));

    snprintf(f->dir, sizeof(f->dir), "/tmp/snic-link-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->ram_path, sizeof(f->ram_path), "%s/ram", f->dir);
    struct pcielink_options options = {.dir = f->dir,
                                       .ram = f->ram_path,
                                       .ram_bytes = RIG_RAM_BYTES,
                                       .trapped = trapped,
                                       .dstrd = 4};
    assert_int_equal(pcielink_open(&f->p, &options), 0);
    f->ram_fd = f->p.ram.fd;
    f->host_fd = -1;
    for (uint32_t v = 0; v < LIMIT_VECTORS; v++) {
        f->vector[v] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    }
    *state = f;
    return 0;
}

int rig_setup(void **state)
{
    return setup_mode(state, true);
}

int rig_setup_mapped(void **state)
{
    return setup_mode(state, false);
}

int rig_teardown(void **state)
{
    struct rig *f = *state;

    if (f->host_fd >= 0) {
        close(f->host_fd);
    }
    if (f->nic.shared != NULL) {
        assert_int_equal(atomic_load(&f->nic.shared->reused_count), 0);
    }
    fake_nic_kill(&f->nic);
    rig_turns(f, 3);
    pcielink_close(&f->p);
    for (uint32_t v = 0; v < LIMIT_VECTORS; v++) {
        close(f->vector[v]);
    }
    unlink(f->ram_path);
    assert_int_equal(rmdir(f->dir), 0); /* sockets are gone */
    free(f);
    return 0;
}

void rig_nic_start(struct rig *f)
{
    fake_nic_start(&f->nic, f->p.nic_path);
    RIG_TURN_UNTIL(f, f->p.link.nic_ready);
}
