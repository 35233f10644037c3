/*
 * pcielink between a scripted host and a NIC process: attach and detach, fences against a NIC that
 * hangs, interrupt vectors through every kind of change, windows, doorbells, commands.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/shm.h"
#include "boards/qemu-virt/pcielink/pcielink.h"
#include "hal/pcie_ep.h"
#include "pcielink/fake_nic.h"
#include "spec/nvme.h"

#define RAM_BYTES (16u << 20)
#define BUS_BASE  UINT64_C(0x8000000000)
#define SET_FDS   (VFU_IRQ_DATA_EVENTFD | VFU_IRQ_ACTION_TRIGGER)

struct fixture {
    struct pcielink p;
    struct fake_nic nic;
    char dir[64];
    char ram_path[80];
    int host_fd;
    int ram_fd;
    uint16_t next_id;
    int vector[LIMIT_VECTORS];
};

/* --- host: a client in the same thread -----------------------------------------------------------
 */

static void turns(struct fixture *f, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        pcielink_turn(&f->p, 1);
    }
}

/* Turns until *condition holds, up to ~3 s. */
#define TURN_UNTIL(f, condition)                                          \
    do {                                                                  \
        for (uint32_t turn_ = 0; turn_ < 3000 && !(condition); turn_++) { \
            pcielink_turn(&(f)->p, 1);                                    \
        }                                                                 \
        assert_true(condition);                                           \
    } while (0)

static int call(struct fixture *f, uint16_t command, const void *payload, uint32_t bytes,
                const int *fds, uint32_t fd_count, void *reply, uint32_t reply_bytes)
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

static int host_irqs(struct fixture *f, uint32_t start, uint32_t count, const int *fds)
{
    struct vfu_irq_set set = {.argsz = sizeof(set),
                              .flags = SET_FDS,
                              .index = VFU_IRQ_MSIX,
                              .start = start,
                              .count = count};
    return call(f, VFU_CMD_IRQ_SET, &set, sizeof(set), fds, fds == NULL ? 0 : count, NULL, 0);
}

static int host_map(struct fixture *f, uint64_t addr, uint64_t size, uint64_t offset, int fd)
{
    struct vfu_dma_map map = {
        .argsz = sizeof(map), .flags = 3, .offset = offset, .addr = addr, .size = size};
    return call(f, VFU_CMD_DMA_MAP, &map, sizeof(map), &fd, 1, NULL, 0);
}

static int host_unmap(struct fixture *f, uint64_t addr, uint64_t size)
{
    struct vfu_dma_unmap unmap = {.argsz = sizeof(unmap), .addr = addr, .size = size};
    return call(f, VFU_CMD_DMA_UNMAP, &unmap, sizeof(unmap), NULL, 0, NULL, 0);
}

static void host_write(struct fixture *f, uint32_t region, uint64_t offset, uint32_t value)
{
    struct {
        struct vfu_region_access access;
        uint32_t value;
        uint32_t pad;
    } request = {{.offset = offset, .region = region, .count = 4}, value, 0};
    assert_int_equal(call(f, VFU_CMD_REGION_WRITE, &request, 20, NULL, 0, NULL, 0), 0);
}

static uint32_t host_read(struct fixture *f, uint32_t region, uint64_t offset)
{
    struct vfu_region_access access = {.offset = offset, .region = region, .count = 4};
    struct {
        struct vfu_region_access access;
        uint32_t value;
        uint32_t pad;
    } reply;
    assert_int_equal(call(f, VFU_CMD_REGION_READ, &access, sizeof(access), NULL, 0, &reply, 20), 0);
    return reply.value;
}

static int connect_to(const char *dir, const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", dir, name);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static void host_connect(struct fixture *f)
{
    const uint32_t version = 0;
    f->host_fd = connect_to(f->dir, "cntrl");
    assert_int_equal(call(f, VFU_CMD_VERSION, &version, 4, NULL, 0, NULL, 0), 0);
}

static void host_brings_up(struct fixture *f)
{
    host_connect(f);
    host_write(f, VFU_REGION_CONFIG, 4, 6);
    assert_int_equal(host_map(f, 0x100000, 0x100000, 0x200000, f->ram_fd), 0);
}

/* --- fixture -----------------------------------------------------------------------------------
 */

static int setup_mode(void **state, bool trapped)
{
    struct fixture *f = calloc(1, sizeof(*f));

    snprintf(f->dir, sizeof(f->dir), "/tmp/snic-link-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->ram_path, sizeof(f->ram_path), "%s/ram", f->dir);
    struct pcielink_options options = {
        .dir = f->dir, .ram = f->ram_path, .ram_bytes = RAM_BYTES, .trapped = trapped, .dstrd = 4};
    assert_int_equal(pcielink_open(&f->p, &options), 0);
    f->ram_fd = f->p.ram.fd;
    f->host_fd = -1;
    for (uint32_t v = 0; v < LIMIT_VECTORS; v++) {
        f->vector[v] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    }
    *state = f;
    return 0;
}

static int setup(void **state)
{
    return setup_mode(state, true);
}

static int setup_mapped(void **state)
{
    return setup_mode(state, false);
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    if (f->host_fd >= 0) {
        close(f->host_fd);
    }
    if (f->nic.shared != NULL) {
        assert_int_equal(atomic_load(&f->nic.shared->reused_count), 0);
    }
    fake_nic_kill(&f->nic);
    turns(f, 3);
    pcielink_close(&f->p);
    for (uint32_t v = 0; v < LIMIT_VECTORS; v++) {
        close(f->vector[v]);
    }
    unlink(f->ram_path);
    assert_int_equal(rmdir(f->dir), 0); /* sockets are gone */
    free(f);
    return 0;
}

static void nic_start(struct fixture *f)
{
    fake_nic_start(&f->nic, f->p.nic_path);
    TURN_UNTIL(f, f->p.link.nic_ready);
}

/* The NIC raises `vector`: true if the host's eventfd `fd` counts it. */
static bool raise_arrives(struct fixture *f, uint32_t vector, int fd)
{
    uint64_t count;

    if (read(fd, &count, sizeof(count)) < 0) {
        assert_int_equal(errno, EAGAIN); /* nothing left from before */
    }
    atomic_store(&f->nic.shared->raise, vector + 1);
    for (uint32_t i = 0; i < 500; i++) {
        pcielink_turn(&f->p, 1);
        if (read(fd, &count, sizeof(count)) > 0) {
            return true;
        }
        if (atomic_load(&f->nic.shared->raise) == 0 && i > 20) {
            return false;
        }
    }
    return false;
}

static bool vectors_settled(const struct fixture *f)
{
    return f->p.vectors.state == PCIELINK_VECTORS_IDLE && !f->p.vectors.dirty;
}

/* --- windows and fences ------------------------------------------------------------------------
 */

static void windows_reach_nic_as_offsets_in_ram_file(void **state)
{
    struct fixture *f = *state;
    struct fake_nic_shared *nic;

    nic_start(f);
    nic = f->nic.shared;
    host_brings_up(f);
    assert_int_equal(atomic_load(&nic->dma), BUS_BASE + 0x200000); /* at once: no waiting */
    assert_int_equal(host_unmap(f, 0x100000, 0x100000), 0);
    assert_true(atomic_load(&nic->dma) == PCIE_EP_NO_ADDR);
}

static void window_in_other_file_not_reachable(void **state)
{
    struct fixture *f = *state;
    int other = memfd_create("other", MFD_CLOEXEC);

    nic_start(f);
    host_connect(f);
    host_write(f, VFU_REGION_CONFIG, 4, 6);
    assert_int_equal(ftruncate(other, RAM_BYTES), 0);
    assert_int_equal(host_map(f, 0x100000, 0x100000, 0, other), 0);
    assert_int_equal(f->p.server.dma.reachable_count, 0);
    assert_true(atomic_load(&f->nic.shared->dma) == PCIE_EP_NO_ADDR);
    assert_int_equal(host_unmap(f, 0x100000, 0x100000), 0);
    assert_int_equal(host_map(f, 0x100000, 0x100000, RAM_BYTES - 0x1000, f->ram_fd), EINVAL);
    close(other);
}

static void fence_nic_hangs_is_killed_before_host_is_answered(void **state)
{
    struct fixture *f = *state;

    nic_start(f);
    host_brings_up(f);
    atomic_store(&f->nic.shared->silent, true);
    uint64_t start_ns = pcielink_now_ns();
    assert_int_equal(host_unmap(f, 0x100000, 0x100000), 0);
    assert_true(pcielink_now_ns() - start_ns >= VFU_LINK_FENCE_NS);
    assert_true(fake_nic_ended(&f->nic)); /* already, not some time */
    assert_int_equal(host_read(f, VFU_REGION_BAR0, NVME_REG_CSTS), UINT32_MAX);
    assert_int_equal(f->p.nic.stop_count, 1);

    fake_nic_kill(&f->nic);
    nic_start(f);
    assert_int_equal(host_read(f, VFU_REGION_BAR0, NVME_REG_VS), 0x00010400);
}

static void nic_killed_while_host_waits_ends_fence_early(void **state)
{
    struct fixture *f = *state;

    nic_start(f);
    host_brings_up(f);
    atomic_store(&f->nic.shared->silent, true);
    kill(f->nic.pid, SIGKILL);
    uint64_t start_ns = pcielink_now_ns();
    assert_int_equal(host_unmap(f, 0x100000, 0x100000), 0);
    assert_true(pcielink_now_ns() - start_ns < VFU_LINK_FENCE_NS / 2);
    assert_int_equal(f->p.nic.stop_count, 0);
}

static void nic_restarts_while_host_stays(void **state)
{
    struct fixture *f = *state;

    nic_start(f);
    host_brings_up(f);
    host_write(f, VFU_REGION_BAR0, NVME_REG_AQA, 0x001f001f);
    fake_nic_kill(&f->nic);
    TURN_UNTIL(f, f->p.nic.conn_fd < 0);
    host_write(f, VFU_REGION_BAR0, NVME_REG_CC, NVME_CC_EN); /* nobody serves: kept */
    nic_start(f);
    TURN_UNTIL(f, atomic_load(&f->nic.shared->event_count[PCIE_EP_EVENT_REG_WRITE]) == 4);
    assert_int_equal(host_read(f, VFU_REGION_BAR0, NVME_REG_AQA), 0x001f001f);
    assert_int_equal(atomic_load(&f->nic.shared->dma), BUS_BASE + 0x200000);
}

static void nic_guest_resets_itself_same_process(void **state)
{
    struct fixture *f = *state;

    nic_start(f);
    host_brings_up(f);
    assert_int_equal(host_irqs(f, 0, 1, f->vector), 0);
    TURN_UNTIL(f, vectors_settled(f));
    uint32_t epoch = f->p.link.epoch;
    uint32_t vectors_before = atomic_load(&f->nic.shared->event_count[PCIE_EP_EVENT_VECTORS]);
    atomic_store(&f->nic.shared->restart, true);
    TURN_UNTIL(f, f->p.link.epoch != epoch && f->p.link.nic_ready);
    TURN_UNTIL(f, atomic_load(&f->nic.shared->event_count[PCIE_EP_EVENT_VECTORS]) > vectors_before);
    assert_int_equal(atomic_load(&f->nic.shared->dma), BUS_BASE + 0x200000);
    assert_true(raise_arrives(f, 0, f->vector[0]));
}

static void nic_leaves_block_but_lives_is_killed(void **state)
{
    struct fixture *f = *state;

    nic_start(f);
    host_brings_up(f);
    atomic_store(&f->nic.shared->leave, true);
    TURN_UNTIL(f, f->p.nic.conn_fd < 0);
    assert_true(fake_nic_ended(&f->nic));
}

static void second_nic_turned_away(void **state)
{
    struct fixture *f = *state;
    char byte;

    nic_start(f);
    int fd = connect_to(f->dir, "ivshmem.sock");
    turns(f, 3);
    assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), 0);
    assert_true(f->p.link.nic_ready);
    close(fd);
}

static void host_silent_is_dropped_and_next_is_served(void **state)
{
    struct fixture *f = *state;

    f->p.server.config.version_timeout_ns = 50000000;
    int silent = connect_to(f->dir, "cntrl");
    turns(f, 3);
    assert_true(vfu_server_has_client(&f->p.server));
    host_connect(f); /* waits behind it, for at most 3 s */
    char byte;
    assert_int_equal(recv(silent, &byte, 1, MSG_DONTWAIT), 0);
    assert_int_equal(f->p.server.stats.dropped_count, 1);
    close(silent);
}

static void descriptors_used_up_pauses_listening_and_goes_on(void **state)
{
    struct fixture *f = *state;
    struct rlimit limit;
    struct rlimit none = {.rlim_cur = 3};
    struct pollfd fds[CTL_FDS];

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none.rlim_max = limit.rlim_max;
    int host = connect_to(f->dir, "cntrl");
    int ctl = connect_to(f->dir, "ctl");
    /* poll() takes no more descriptors than the limit: the listeners are called as it would. */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    vfu_server_turn(&f->p.server);
    pcielink_nic_accept(&f->p);
    ctl_watch(&f->p.ctl, pcielink_now_ns(), fds);
    fds[0].revents = POLLIN;
    assert_int_equal(ctl_turn(&f->p.ctl, pcielink_now_ns(), fds), -EMFILE);
    assert_int_equal(ctl_turn(&f->p.ctl, pcielink_now_ns(), fds), 0); /* told once */
    ctl_watch(&f->p.ctl, pcielink_now_ns(), fds);
    assert_int_equal(fds[0].fd, -1);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    uint64_t start_ns = pcielink_now_ns();
    pcielink_turn(&f->p, 100); /* nobody is ready: it sleeps */
    assert_true(pcielink_now_ns() - start_ns >= 90 * UINT64_C(1000000));
    assert_int_equal(vfu_server_poll_fd(&f->p.server), -1);
    TURN_UNTIL(f, vfu_server_has_client(&f->p.server) && f->p.ctl.clients[0].fd >= 0);
    close(host);
    close(ctl);
}

static void host_reconnects_after_disconnect(void **state)
{
    struct fixture *f = *state;

    nic_start(f);
    for (uint32_t i = 0; i < 3; i++) {
        host_brings_up(f);
        assert_int_equal(atomic_load(&f->nic.shared->dma), BUS_BASE + 0x200000);
        close(f->host_fd);
        TURN_UNTIL(f, !f->p.link.host_present);
        assert_true(atomic_load(&f->nic.shared->dma) == PCIE_EP_NO_ADDR);
    }
    f->host_fd = -1;
}

/* --- interrupts --------------------------------------------------------------------------------
 */

static void vectors_set_before_nic_reach_it(void **state)
{
    struct fixture *f = *state;

    host_brings_up(f);
    assert_int_equal(host_irqs(f, 0, 3, f->vector), 0);
    nic_start(f);
    TURN_UNTIL(f, vectors_settled(f));
    assert_true(raise_arrives(f, 2, f->vector[2]));
}

static void vectors_grow_in_order_appends_to_one_peer(void **state)
{
    struct fixture *f = *state;

    nic_start(f);
    host_brings_up(f);
    for (uint32_t v = 0; v < LIMIT_VECTORS; v++) {
        assert_int_equal(host_irqs(f, v, 1, &f->vector[v]), 0);
        TURN_UNTIL(f, vectors_settled(f));
    }
    assert_int_equal(f->p.vectors.peer_total, 1);
    for (uint32_t v = 0; v < LIMIT_VECTORS; v += 8) {
        assert_true(raise_arrives(f, v, f->vector[v]));
    }
    assert_int_equal(atomic_load(&f->nic.shared->retired_count), 0);
}

static void vectors_burst_of_changes_needs_few_peers(void **state)
{
    struct fixture *f = *state;

    nic_start(f);
    host_brings_up(f);
    for (uint32_t v = LIMIT_VECTORS; v-- > 0;) { /* downward: every one is a hole filled */
        assert_int_equal(host_irqs(f, v, 1, &f->vector[v]), 0);
    }
    TURN_UNTIL(f, vectors_settled(f));
    assert_true(f->p.vectors.peer_total < LIMIT_VECTORS);
    assert_true(raise_arrives(f, 0, f->vector[0]));
    assert_true(raise_arrives(f, 64, f->vector[64]));
}

static void vectors_hole_replacement_and_removal(void **state)
{
    struct fixture *f = *state;

    nic_start(f);
    host_brings_up(f);
    assert_int_equal(host_irqs(f, 5, 1, &f->vector[5]), 0); /* 0-4 are holes */
    TURN_UNTIL(f, vectors_settled(f));
    assert_true(raise_arrives(f, 5, f->vector[5]));
    assert_false(raise_arrives(f, 3, f->vector[3]));
    assert_int_equal(atomic_load(&f->nic.shared->raise_lost), 0);

    assert_int_equal(host_irqs(f, 5, 1, &f->vector[6]), 0); /* another eventfd */
    TURN_UNTIL(f, vectors_settled(f));
    TURN_UNTIL(f, atomic_load(&f->nic.shared->retired_count) == 1);
    assert_true(raise_arrives(f, 5, f->vector[6]));
    assert_false(raise_arrives(f, 5, f->vector[5]));

    assert_int_equal(host_irqs(f, 5, 1, NULL), 0); /* nobody listens */
    TURN_UNTIL(f, vectors_settled(f));
    assert_false(raise_arrives(f, 5, f->vector[6]));
    TURN_UNTIL(f, atomic_load(&f->nic.shared->retired_count) == 2);
}

static void vectors_change_while_nic_qemu_is_stopped_waits_for_it(void **state)
{
    struct fixture *f = *state;

    nic_start(f);
    host_brings_up(f);
    assert_int_equal(host_irqs(f, 0, 1, &f->vector[0]), 0);
    TURN_UNTIL(f, vectors_settled(f));
    atomic_store(&f->nic.shared->deaf, true);
    turns(f, 5);
    assert_int_equal(host_irqs(f, 0, 1, &f->vector[1]), 0);
    turns(f, 50);
    assert_false(vectors_settled(f)); /* the NIC still uses the old peer, which exists */
    assert_true(raise_arrives(f, 0, f->vector[0]));
    assert_int_equal(atomic_load(&f->nic.shared->raise_lost), 0);
    atomic_store(&f->nic.shared->deaf, false);
    TURN_UNTIL(f, vectors_settled(f));
    assert_true(raise_arrives(f, 0, f->vector[1]));
}

static void vectors_ids_used_up_are_relayed(void **state)
{
    struct fixture *f = *state;

    nic_start(f);
    host_brings_up(f);
    TURN_UNTIL(f, vectors_settled(f));
    f->p.vectors.next_id = LINK_PEER_LAST + 1;
    assert_int_equal(host_irqs(f, 0, 2, f->vector), 0);
    TURN_UNTIL(f, vectors_settled(f));
    assert_true(f->p.vectors.relay);
    assert_true(raise_arrives(f, 1, f->vector[1]));
    assert_int_equal(host_irqs(f, 1, 1, &f->vector[7]), 0);
    TURN_UNTIL(f, vectors_settled(f));
    assert_true(raise_arrives(f, 1, f->vector[7]));
}

/* --- doorbells, registers ------------------------------------------------------------------------
 */

static void doorbell_trapped_wakes_armed_nic(void **state)
{
    struct fixture *f = *state;

    nic_start(f);
    host_brings_up(f);
    turns(f, 20);
    uint32_t before = atomic_load(&f->nic.shared->wake_count);
    host_write(f, VFU_REGION_BAR0, LINK_DOORBELL_OFFSET, 5);
    turns(f, 20);
    assert_int_equal(atomic_load(&f->nic.shared->wake_count), before);
    atomic_store(&f->nic.shared->arm, true);
    TURN_UNTIL(f, !atomic_load(&f->nic.shared->arm));
    turns(f, 2);
    host_write(f, VFU_REGION_BAR0, LINK_DOORBELL_OFFSET, 6);
    TURN_UNTIL(f, atomic_load(&f->nic.shared->wake_count) > before);
    assert_int_equal(atomic_load(&f->nic.shared->doorbell), 6);
}

static void doorbell_mapped_is_seen_without_message(void **state)
{
    struct fixture *f = *state;

    nic_start(f);
    host_brings_up(f);
    uint8_t *page = mmap(NULL, LINK_DOORBELL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
                         f->p.block_fd, LINK_OFFSET_BAR + LINK_DOORBELL_OFFSET);
    assert_true(page != MAP_FAILED);
    shm_store32_release(page, 9);
    TURN_UNTIL(f, atomic_load(&f->nic.shared->doorbell) == 9);
    assert_int_equal(f->p.link.stats.doorbell_count, 0);
    munmap(page, LINK_DOORBELL_BYTES);
}

/* --- commands ----------------------------------------------------------------------------------
 */

static const char *command(struct fixture *f, int fd, const char *line)
{
    static char answer[4096];
    size_t have = 0;

    assert_true(send(fd, line, strlen(line), MSG_NOSIGNAL) > 0);
    for (uint32_t i = 0; i < 50; i++) {
        pcielink_turn(&f->p, 1);
        ssize_t got = recv(fd, answer + have, sizeof(answer) - 1 - have, MSG_DONTWAIT);
        have += got > 0 ? (size_t)got : 0;
        answer[have] = 0;
        if (strstr(answer, "ok\n") != NULL || strstr(answer, "error") != NULL) {
            break;
        }
    }
    return answer;
}

static void commands_status_flr_link_quit(void **state)
{
    struct fixture *f = *state;
    int fd = connect_to(f->dir, "ctl");

    nic_start(f);
    host_brings_up(f);
    const char *status = command(f, fd, "status\n");
    assert_non_null(strstr(status, "link up\n"));
    assert_non_null(strstr(status, "nic ready\n"));
    assert_non_null(strstr(status, "windows 1\n"));
    assert_non_null(strstr(command(f, fd, "flr\n"), "ok"));
    assert_int_equal(atomic_load(&f->nic.shared->event_count[PCIE_EP_EVENT_RESET]), 1);
    assert_non_null(strstr(command(f, fd, "link down\n"), "ok"));
    assert_int_equal(host_read(f, VFU_REGION_BAR0, NVME_REG_VS), UINT32_MAX);
    assert_non_null(strstr(command(f, fd, "status\n"), "link down\n"));
    assert_non_null(strstr(command(f, fd, "link up\n"), "ok"));
    assert_int_equal(host_read(f, VFU_REGION_BAR0, NVME_REG_VS), 0x00010400);
    assert_non_null(strstr(command(f, fd, "nonsense\n"), "error"));
    assert_non_null(strstr(command(f, fd, "quit\n"), "ok"));
    assert_true(f->p.quit);
    close(fd);
}

static void commands_endless_line_and_many_clients_survived(void **state)
{
    struct fixture *f = *state;
    char line[300];
    int fds[CTL_CLIENTS + 3];

    memset(line, 'x', sizeof(line));
    for (uint32_t i = 0; i < CTL_CLIENTS + 3; i++) {
        fds[i] = connect_to(f->dir, "ctl");
        turns(f, 2);
    }
    assert_true(send(fds[0], line, sizeof(line), MSG_NOSIGNAL) > 0);
    turns(f, 5);
    assert_true(recv(fds[0], line, 1, MSG_DONTWAIT) == 0 || errno == ECONNRESET);
    assert_non_null(strstr(command(f, fds[CTL_CLIENTS], "status\n"), "ok\n")); /* the next */
    for (uint32_t i = 0; i < CTL_CLIENTS + 3; i++) {
        close(fds[i]);
    }
    turns(f, 5);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(windows_reach_nic_as_offsets_in_ram_file),
        T(window_in_other_file_not_reachable),
        T(fence_nic_hangs_is_killed_before_host_is_answered),
        T(nic_killed_while_host_waits_ends_fence_early),
        T(nic_restarts_while_host_stays),
        T(nic_guest_resets_itself_same_process),
        T(nic_leaves_block_but_lives_is_killed),
        T(second_nic_turned_away),
        T(host_silent_is_dropped_and_next_is_served),
        T(descriptors_used_up_pauses_listening_and_goes_on),
        T(host_reconnects_after_disconnect),
        T(vectors_set_before_nic_reach_it),
        T(vectors_grow_in_order_appends_to_one_peer),
        T(vectors_burst_of_changes_needs_few_peers),
        T(vectors_hole_replacement_and_removal),
        T(vectors_change_while_nic_qemu_is_stopped_waits_for_it),
        T(vectors_ids_used_up_are_relayed),
        T(doorbell_trapped_wakes_armed_nic),
        cmocka_unit_test_setup_teardown(doorbell_mapped_is_seen_without_message, setup_mapped,
                                        teardown),
        T(commands_status_flr_link_quit),
        T(commands_endless_line_and_many_clients_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
