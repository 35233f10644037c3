#include "pcielink/fake_nic.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "hal/drivers/pcie_ep_link.h"
#include "hal/native/native.h"

#define BUS_BASE UINT64_C(0x8000000000)

struct peer {
    uint32_t count;
    bool retired;
    int fds[LINK_IVSHMEM_VECTORS];
};

struct nic {
    int fd;
    struct fake_nic_shared *shared;
    struct peer *peers; /* FAKE_NIC_PEERS */
    void *block;
    struct pcie_ep_link link;
    struct pcie_ep_view view;
};

/* One message of the server; false: none there. Exits when the server is gone. */
static bool receive(struct nic *nic, int64_t *value, int *fd, int flags)
{
    char control[CMSG_SPACE(sizeof(int))];
    struct iovec iov = {.iov_base = value, .iov_len = sizeof(*value)};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control,
                         .msg_controllen = sizeof(control)};
    ssize_t got = recvmsg(nic->fd, &msg, flags);

    *fd = -1;
    if (got < 0 && errno == EAGAIN) {
        return false;
    }
    if (got != sizeof(*value)) {
        _exit(10);
    }
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    if (c != NULL) {
        memcpy(fd, CMSG_DATA(c), sizeof(*fd));
    }
    return true;
}

/* As QEMU's ivshmem device does it: the n-th message of a peer is its vector n-1. */
static void take_peer(struct nic *nic, int64_t value, int fd)
{
    if (value < 0 || value >= FAKE_NIC_PEERS) {
        _exit(11);
    }
    struct peer *peer = &nic->peers[value];
    if (fd < 0) {
        for (uint32_t i = 0; i < peer->count; i++) {
            close(peer->fds[i]);
        }
        peer->count = 0;
        peer->retired = true;
        atomic_fetch_add(&nic->shared->retired_count, 1);
        return;
    }
    if (peer->retired) {
        atomic_fetch_add(&nic->shared->reused_count, 1); /* QEMU would write into freed memory */
    }
    if (peer->count == LINK_IVSHMEM_VECTORS) {
        _exit(12);
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    peer->fds[peer->count++] = fd;
    if ((uint32_t)value > atomic_load(&nic->shared->peer_now)) {
        atomic_store(&nic->shared->peer_now, (uint32_t)value);
    }
}

static void ring(void *ctx, uint32_t peer, uint32_t vector)
{
    struct nic *nic = ctx;
    const uint64_t one = 1;

    if (peer >= FAKE_NIC_PEERS || vector >= nic->peers[peer].count ||
        write(nic->peers[peer].fds[vector], &one, sizeof(one)) < 0) {
        atomic_fetch_add(&nic->shared->raise_lost, 1);
    }
}

static void notify(void *ctx)
{
    ring(ctx, LINK_PEER_HOST, 0);
}

static void connect_server(struct nic *nic, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int64_t value;
    int fd;

    memcpy(address.sun_path, path, strlen(path) + 1);
    nic->fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(nic->fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        _exit(13);
    }
    if (!receive(nic, &value, &fd, 0) || value != 0 || fd != -1 || !receive(nic, &value, &fd, 0) ||
        value != LINK_PEER_NIC || fd != -1) {
        _exit(14); /* version, own id */
    }
    while (receive(nic, &value, &fd, 0) && value != -1) {
        take_peer(nic, value, fd);
    }
    nic->block = mmap(NULL, LINK_BLOCK_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (nic->block == MAP_FAILED) {
        _exit(15);
    }
}

static void attach(struct nic *nic)
{
    struct pcie_ep_link_params params = {.name = "ep0",
                                         .block = nic->block,
                                         .bus_base = BUS_BASE,
                                         .bus_bytes = 16u << 20,
                                         .ctx = nic,
                                         .raise = ring,
                                         .notify = notify,
                                         .hello_timeout_ns = 2000000000};

    atomic_store(&nic->shared->ready, false);
    if (pcie_ep_link_init(&nic->link, &params) != STATUS_OK) {
        _exit(16);
    }
    pcie_ep_ready(&nic->link.ep);
    atomic_fetch_add(&nic->shared->start_count, 1);
    atomic_store(&nic->shared->ready, true);
}

static void act(struct nic *nic)
{
    struct fake_nic_shared *shared = nic->shared;
    struct pcie_ep_event event;

    if (atomic_exchange(&shared->restart, false)) {
        attach(nic);
    }
    if (atomic_load(&shared->leave)) {
        close(nic->fd);
        nic->fd = -1;
        for (;;) {
            pause();
        }
    }
    uint32_t vector = atomic_load(&shared->raise);
    if (vector != 0) {
        pcie_ep_irq_raise(&nic->link.ep, (uint16_t)(vector - 1));
        atomic_store(&shared->raise, 0);
    }
    if (atomic_exchange(&shared->arm, false)) {
        pcie_ep_doorbells_arm(&nic->link.ep, true);
    }
    atomic_store(&shared->doorbell, shm_load32_acquire(nic->link.ep.doorbells));
    while (!atomic_load(&shared->silent) && pcie_ep_event_pop(&nic->link.ep, &event)) {
        pcie_ep_view_load(&nic->link.ep, &nic->view);
        atomic_store(&shared->dma, pcie_ep_map(&nic->view, 0x100000, 8, true));
        atomic_fetch_add(&shared->event_count[event.type], 1);
        pcie_ep_event_ack(&nic->link.ep, &event);
    }
}

static void run(struct nic *nic)
{
    for (;;) {
        int64_t value;
        int fd;
        uint64_t count;
        while (!atomic_load(&nic->shared->deaf) && receive(nic, &value, &fd, MSG_DONTWAIT)) {
            take_peer(nic, value, fd);
        }
        if (nic->peers[LINK_PEER_NIC].count > 0 &&
            read(nic->peers[LINK_PEER_NIC].fds[0], &count, sizeof(count)) > 0) {
            atomic_fetch_add(&nic->shared->wake_count, 1);
        }
        act(nic);
        usleep(100);
    }
}

void fake_nic_start(struct fake_nic *nic, const char *socket_path)
{
    nic->shared =
        mmap(NULL, sizeof(*nic->shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    atomic_store(&nic->shared->dma, PCIE_EP_NO_ADDR);
    nic->pid = fork();
    if (nic->pid == 0) {
        struct nic *self = calloc(1, sizeof(*self));
        self->peers = calloc(FAKE_NIC_PEERS, sizeof(*self->peers));
        self->shared = nic->shared;
        connect_server(self, socket_path);
        attach(self);
        run(self);
    }
}

void fake_nic_kill(struct fake_nic *nic)
{
    if (nic->pid > 0) {
        kill(nic->pid, SIGKILL);
        waitpid(nic->pid, NULL, 0);
        nic->pid = -1;
    }
    if (nic->shared != NULL) {
        munmap(nic->shared, sizeof(*nic->shared));
        nic->shared = NULL;
    }
}

bool fake_nic_ended(struct fake_nic *nic)
{
    if (nic->pid > 0 && waitpid(nic->pid, NULL, WNOHANG) == nic->pid) {
        nic->pid = -1;
    }
    return nic->pid < 0;
}
