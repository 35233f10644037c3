/*
 * See vfu_conn.h.
 */
#include "hal/native/vfu/vfu_conn.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

void vfu_conn_open(struct vfu_conn *conn, int fd)
{
    conn->fd = fd;
    conn->have_bytes = 0;
    conn->fd_count = 0;
}

void vfu_conn_release(struct vfu_conn *conn)
{
    for (uint32_t i = 0; i < conn->fd_count; i++) {
        if (conn->fds[i] >= 0) {
            close(conn->fds[i]);
        }
    }
    conn->fd_count = 0;
}

void vfu_conn_close(struct vfu_conn *conn)
{
    vfu_conn_release(conn);
    if (conn->fd >= 0) {
        close(conn->fd);
        conn->fd = -1;
    }
}

/* --- receiving ---------------------------------------------------------------------------------
 */

/* Keeps the descriptors of one recvmsg(). False: more than a message may carry. */
static bool keep_fds(struct vfu_conn *conn, struct msghdr *msg)
{
    bool fits = (msg->msg_flags & MSG_CTRUNC) == 0;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
            if (conn->fd_count < VFU_MAX_FDS) {
                conn->fds[conn->fd_count++] = fd;
            } else {
                close(fd);
                fits = false;
            }
        }
    }
    return fits;
}

/* Reads up to `want_bytes`, never beyond: descriptors then belong to the message under way. */
static ssize_t read_some(struct vfu_conn *conn, uint8_t *to, size_t want_bytes)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(VFU_MAX_FDS * sizeof(int))];
    } control;
    struct iovec iov = {.iov_base = to, .iov_len = want_bytes};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof(control.bytes)};
    ssize_t got;

    do {
        got = recvmsg(conn->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    if (got > 0 && !keep_fds(conn, &msg)) {
        return 0; /* as if the client had closed: its framing is wrong */
    }
    return got;
}

static bool header_is_sound(const struct vfu_header *header)
{
    return header->msg_bytes >= sizeof(*header) &&
           header->msg_bytes - sizeof(*header) <= VFU_MAX_PAYLOAD &&
           (header->flags & VFU_FLAG_TYPE_MASK) == VFU_FLAG_COMMAND;
}

enum vfu_conn_result vfu_conn_receive(struct vfu_conn *conn, struct vfu_message *message)
{
    uint32_t header_bytes = sizeof(conn->header);

    for (;;) {
        bool in_header = conn->have_bytes < header_bytes;
        uint32_t goal_bytes = in_header ? header_bytes : conn->header.msg_bytes;

        if (!in_header && conn->have_bytes == goal_bytes) {
            break;
        }
        uint8_t *to = in_header ? (uint8_t *)&conn->header + conn->have_bytes
                                : conn->payload + (conn->have_bytes - header_bytes);
        ssize_t got = read_some(conn, to, goal_bytes - conn->have_bytes);
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            return VFU_CONN_AGAIN;
        }
        if (got <= 0) {
            return VFU_CONN_ENDED;
        }
        conn->have_bytes += (uint32_t)got;
        if (conn->have_bytes == header_bytes && !header_is_sound(&conn->header)) {
            return VFU_CONN_ENDED;
        }
    }
    conn->have_bytes = 0;
    *message = (struct vfu_message){
        .header = conn->header,
        .payload = conn->payload,
        .payload_bytes = conn->header.msg_bytes - header_bytes,
        .fds = conn->fds,
        .fd_count = conn->fd_count,
    };
    return VFU_CONN_MESSAGE;
}

/* --- sending -----------------------------------------------------------------------------------
 */

static void attach_fd(struct msghdr *msg, void *control, size_t control_bytes, int fd)
{
    memset(control, 0, control_bytes);
    msg->msg_control = control;
    msg->msg_controllen = control_bytes;
    struct cmsghdr *c = CMSG_FIRSTHDR(msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof(fd));
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Waits until the client reads. The limit is for the whole message (*deadline_ms is 0 at first):
 * who takes it in small bites would hold us up for ever. */
static bool wait_for_room(const struct vfu_conn *conn, int64_t *deadline_ms)
{
    struct pollfd wait = {.fd = conn->fd, .events = POLLOUT};

    if (*deadline_ms == 0) {
        *deadline_ms = now_ms() + VFU_CONN_SEND_MS;
    }
    int64_t left_ms = *deadline_ms - now_ms();
    int ready = left_ms > 0 ? poll(&wait, 1, (int)left_ms) : 0;
    return ready > 0 || (ready < 0 && errno == EINTR);
}

/* Drops `bytes` from the front of the vectors. */
static void advance(struct msghdr *msg, size_t bytes)
{
    while (msg->msg_iovlen > 0 && bytes >= msg->msg_iov->iov_len) {
        bytes -= msg->msg_iov->iov_len;
        msg->msg_iov++;
        msg->msg_iovlen--;
    }
    if (msg->msg_iovlen > 0) {
        msg->msg_iov->iov_base = (uint8_t *)msg->msg_iov->iov_base + bytes;
        msg->msg_iov->iov_len -= bytes;
    }
}

bool vfu_conn_send(struct vfu_conn *conn, const struct vfu_header *header, const void *head,
                   size_t head_bytes, const void *body, size_t body_bytes, int fd)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov[3] = {
        /* sendmsg() only reads: the casts drop a const that iovec cannot have. */
        {.iov_base = (void *)(uintptr_t)header, .iov_len = sizeof(*header)},
        {.iov_base = (void *)(uintptr_t)head, .iov_len = head_bytes},
        {.iov_base = (void *)(uintptr_t)body, .iov_len = body_bytes},
    };
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 3};
    size_t left_bytes = sizeof(*header) + head_bytes + body_bytes;
    int64_t deadline_ms = 0;

    if (fd >= 0) {
        attach_fd(&msg, control.bytes, sizeof(control.bytes), fd);
    }
    while (left_bytes > 0) {
        ssize_t sent = sendmsg(conn->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent > 0) {
            left_bytes -= (size_t)sent;
            advance(&msg, (size_t)sent);
            msg.msg_control = NULL; /* went with the first byte */
            msg.msg_controllen = 0;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            if (!wait_for_room(conn, &deadline_ms)) {
                return false; /* a client that does not read its replies */
            }
        } else if (errno != EINTR) {
            return false;
        }
    }
    return true;
}
