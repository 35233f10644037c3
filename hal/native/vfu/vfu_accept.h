/*
 * accept() that does not spin: when descriptors or memory run out, the connection stays in the
 * backlog and the socket stays readable, so it is not polled for a while.
 */
#ifndef VFU_ACCEPT_H
#define VFU_ACCEPT_H

#include <stdbool.h>
#include <stdint.h>

#define VFU_ACCEPT_PAUSE_NS UINT64_C(200000000)
#define VFU_ACCEPT_PAUSE_MS 200

/* Of one listening socket; starts as zeroes. Times are of one monotonic clock. */
struct vfu_accept {
    uint64_t again_ns; /* not before */
    bool is_failing;
};

/* A connection; -EAGAIN: none now; another -errno: it failed for the first time in a row. */
int vfu_accept(struct vfu_accept *accept, int listen_fd, uint64_t now_ns);

/* What to poll: the socket, or -1 during the pause. Poll for no longer than VFU_ACCEPT_PAUSE_MS
 * then. */
int vfu_accept_poll_fd(const struct vfu_accept *accept, int listen_fd, uint64_t now_ns);

#endif
