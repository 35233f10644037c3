/*
 * The NIC's QEMU as a client of our ivshmem server (qemu: docs/specs/ivshmem-spec.rst): version,
 * its id, the link block, our eventfds, its own. When it goes, nothing of it may reach host memory
 * any more, so its process must have ended before the host gets an answer.
 */
#include "boards/qemu-virt/pcielink/pcielink.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define IVSHMEM_VERSION 0
#define EXIT_GRACE_MS   200  /* a QEMU that closed its socket is about to end */
#define EXIT_KILL_MS    5000 /* SIGKILL takes effect unless the kernel is stuck */

/* --- sending -----------------------------------------------------------------------------------
 */

int pcielink_nic_send(struct pcielink *p, int64_t value, int fd)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.bytes = {0}};
    struct iovec iov = {.iov_base = &value, .iov_len = sizeof(value)};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (fd >= 0) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = sizeof(control.bytes);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof(fd));
    }
    /* A unix stream takes 8 bytes whole or not at all. */
    ssize_t sent = sendmsg(p->nic.conn_fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent == sizeof(value)) {
        return 0;
    }
    return sent < 0 ? -errno : -EIO;
}

static int send_setup(struct pcielink *p)
{
    struct pcielink_nic *nic = &p->nic;
    int result = pcielink_nic_send(p, IVSHMEM_VERSION, -1);

    if (result == 0) {
        result = pcielink_nic_send(p, LINK_PEER_NIC, -1);
    }
    /* Our own eventfds come before the memory: the device reads up to there before it exists, so
     * the NIC's first notification cannot be lost. */
    if (result == 0) {
        result = pcielink_nic_send(p, LINK_PEER_HOST, nic->notify_fd);
    }
    for (uint32_t v = 0; result == 0 && v < LIMIT_VECTORS; v++) {
        result = pcielink_nic_send(p, LINK_PEER_HOST, nic->relay_fd[v]);
    }
    if (result == 0) {
        result = pcielink_nic_send(p, -1, p->block_fd);
    }
    for (uint32_t core = 0; result == 0 && core < LIMIT_CORES; core++) {
        result = pcielink_nic_send(p, LINK_PEER_NIC, nic->wake_fd[core]);
    }
    return result;
}

/* --- coming and going --------------------------------------------------------------------------
 */

static bool process_ended(const struct pcielink_nic *nic, int timeout_ms)
{
    struct pollfd wait = {.fd = nic->pid_fd, .events = POLLIN};
    return poll(&wait, 1, timeout_ms) > 0;
}

static void kill_process(struct pcielink *p)
{
    struct pcielink_nic *nic = &p->nic;

    syscall(SYS_pidfd_send_signal, nic->pid_fd, SIGKILL, NULL, 0);
    if (!process_ended(nic, EXIT_KILL_MS)) {
        pcielink_log("NIC process %d does not end; giving up, the host loses its device",
                     (int)nic->pid);
        _exit(3); /* the one safe way left: no answer to the host */
    }
}

/* The process has ended: forget it. */
static void detach(struct pcielink *p)
{
    close(p->nic.conn_fd);
    close(p->nic.pid_fd);
    p->nic.conn_fd = -1;
    p->nic.pid_fd = -1;
    vfu_link_nic_gone(&p->link);
    pcielink_vectors_nic_changed(p);
}

bool pcielink_nic_check(struct pcielink *p)
{
    struct pcielink_nic *nic = &p->nic;

    if (nic->conn_fd < 0) {
        return false;
    }
    struct pollfd polls[2] = {{.fd = nic->conn_fd, .events = POLLIN | POLLRDHUP},
                              {.fd = nic->pid_fd, .events = POLLIN}};
    if (poll(polls, 2, 0) <= 0) {
        return true;
    }
    if (polls[1].revents == 0) {
        /* The socket ended, or talks, which an ivshmem client never does. */
        if (!process_ended(nic, EXIT_GRACE_MS)) {
            pcielink_log("the NIC left the link block but its process %d lives on: killed",
                         (int)nic->pid);
            kill_process(p);
        }
    }
    pcielink_log("NIC (process %d) is gone", (int)nic->pid);
    detach(p);
    return false;
}

void pcielink_nic_stop(struct pcielink *p, const char *why)
{
    if (p->nic.conn_fd < 0) {
        return;
    }
    pcielink_log("NIC (process %d) is killed: %s", (int)p->nic.pid, why);
    p->nic.stop_count++;
    kill_process(p);
    detach(p);
}

void pcielink_nic_accept(struct pcielink *p)
{
    struct pcielink_nic *nic = &p->nic;
    struct ucred peer;
    socklen_t len = sizeof(peer);
    int fd = vfu_accept(&nic->accept, nic->listen_fd, pcielink_now_ns());

    if (fd < 0) {
        if (fd != -EAGAIN) {
            pcielink_log("no NIC is accepted for now: %s", strerror(-fd));
        }
        return;
    }
    if (nic->conn_fd >= 0 && pcielink_nic_check(p)) {
        pcielink_log("a second NIC is turned away");
        close(fd);
        return;
    }
    int pid_fd = -1;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.pid > 0) {
        pid_fd = (int)syscall(SYS_pidfd_open, peer.pid, 0);
    }
    if (pid_fd < 0) {
        pcielink_log("a NIC whose process cannot be watched is turned away");
        close(fd);
        return;
    }
    nic->conn_fd = fd;
    nic->pid_fd = pid_fd;
    nic->pid = peer.pid;
    nic->attach_count++;
    int result = send_setup(p);
    if (result != 0) {
        pcielink_log("NIC (process %d): %s while it was set up", (int)nic->pid, strerror(-result));
        pcielink_nic_stop(p, "it does not take the set-up");
        return;
    }
    pcielink_log("NIC (process %d) is attached", (int)nic->pid);
    pcielink_vectors_nic_changed(p);
}

/* --- start and end -----------------------------------------------------------------------------
 */

int pcielink_nic_open(struct pcielink *p)
{
    struct pcielink_nic *nic = &p->nic;

    nic->notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (nic->notify_fd < 0) {
        return -errno;
    }
    for (uint32_t core = 0; core < LIMIT_CORES; core++) {
        nic->wake_fd[core] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (nic->wake_fd[core] < 0) {
            return -errno;
        }
    }
    for (uint32_t v = 0; v < LIMIT_VECTORS; v++) {
        nic->relay_fd[v] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (nic->relay_fd[v] < 0) {
            return -errno;
        }
    }
    nic->listen_fd = pcielink_listen(p->nic_path);
    return nic->listen_fd < 0 ? nic->listen_fd : 0;
}

void pcielink_nic_close(struct pcielink *p)
{
    struct pcielink_nic *nic = &p->nic;

    if (nic->conn_fd >= 0) {
        close(nic->conn_fd);
        close(nic->pid_fd);
        nic->conn_fd = -1;
    }
    if (nic->listen_fd >= 0) {
        close(nic->listen_fd);
        unlink(p->nic_path);
    }
    close(nic->notify_fd);
    for (uint32_t core = 0; core < LIMIT_CORES; core++) {
        close(nic->wake_fd[core]);
    }
    for (uint32_t v = 0; v < LIMIT_VECTORS; v++) {
        close(nic->relay_fd[v]);
    }
}
