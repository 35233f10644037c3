/*
 * The thread that wakes the owner core: it waits for descriptors while the core sleeps, and for
 * being armed while the core is awake, so that a busy core pays nothing for it.
 *
 * No lost wake-up: descriptors are level triggered. An arm that finds the thread still watching
 * from before needs to do nothing: what the thread then sees, it reports after the arm.
 */
#include "hal/native/ibv/ibv_priv.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "base/log.h"
#include "hal/cpu.h"

static void ring(int fd)
{
    const uint64_t one = 1;
    if (write(fd, &one, sizeof(one)) < 0) {
        /* It has been rung already. */
    }
}

/* True: armed; false: an interrupted read, try again. */
static bool wait_until_armed(const struct rdma_ibv_wake *wake)
{
    uint64_t count;
    return read(wake->arm_fd, &count, sizeof(count)) == (ssize_t)sizeof(count);
}

static void *watch(void *arg)
{
    struct rdma_ibv_wake *wake = arg;
    struct pollfd polled[RDMA_IBV_WAKE_FDS];

    for (uint32_t i = 0; i < RDMA_IBV_WAKE_FDS; i++) {
        polled[i] = (struct pollfd){.fd = wake->fds[i], .events = POLLIN};
    }
    do {
        if (!wait_until_armed(wake)) {
            continue;
        }
        if (poll(polled, RDMA_IBV_WAKE_FDS, -1) < 0 && errno != EINTR) {
            LOG_ERROR("ibv: poll: %s", strerror(errno));
            return NULL;
        }
        /* IBV-WATCH (release): an arm that still sees true was before this, and is woken. */
        atomic_store_explicit(&wake->is_watching, false, memory_order_seq_cst);
        cpu_wake(wake->core);
    } while ((polled[0].revents & POLLIN) == 0);
    return NULL;
}

enum status rdma_ibv_wake_start(struct rdma_ibv_wake *wake, uint32_t core, const int *fds,
                                uint32_t count)
{
    *wake = (struct rdma_ibv_wake){.core = core};
    wake->arm_fd = eventfd(0, EFD_CLOEXEC);
    wake->fds[0] = eventfd(0, EFD_CLOEXEC);
    for (uint32_t i = 1; i < RDMA_IBV_WAKE_FDS; i++) {
        wake->fds[i] = i - 1 < count ? fds[i - 1] : -1; /* poll() ignores those below 0 */
    }
    if (wake->arm_fd < 0 || wake->fds[0] < 0 ||
        pthread_create(&wake->thread, NULL, watch, wake) != 0) {
        close(wake->arm_fd);
        close(wake->fds[0]);
        return STATUS_IO;
    }
    wake->is_started = true;
    return STATUS_OK;
}

void rdma_ibv_wake_arm(struct rdma_ibv_wake *wake)
{
    /* Pairs with IBV-WATCH. */
    if (!atomic_exchange_explicit(&wake->is_watching, true, memory_order_seq_cst)) {
        ring(wake->arm_fd);
    }
}

void rdma_ibv_wake_stop(struct rdma_ibv_wake *wake)
{
    if (!wake->is_started) {
        return;
    }
    ring(wake->fds[0]);
    ring(wake->arm_fd);
    pthread_join(wake->thread, NULL);
    close(wake->arm_fd);
    close(wake->fds[0]);
    wake->is_started = false;
}
