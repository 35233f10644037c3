/*
 * See vfu_accept.h.
 */
#include "hal/native/vfu/vfu_accept.h"

#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>

int vfu_accept(struct vfu_accept *accept, int listen_fd, uint64_t now_ns)
{
    int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
    int error = errno;

    if (fd >= 0) {
        accept->is_failing = false;
        return fd;
    }
    if (error == EAGAIN || error == EINTR || error == ECONNABORTED) {
        return -EAGAIN;
    }
    bool is_new = !accept->is_failing;
    accept->is_failing = true;
    accept->again_ns = now_ns + VFU_ACCEPT_PAUSE_NS;
    return is_new ? -error : -EAGAIN;
}

int vfu_accept_poll_fd(const struct vfu_accept *accept, int listen_fd, uint64_t now_ns)
{
    return now_ns < accept->again_ns ? -1 : listen_fd;
}
