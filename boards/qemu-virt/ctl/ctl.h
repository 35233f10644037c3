/*
 * The command socket of the rack's host programs: a person or a script connects, says one command
 * per line and reads lines up to "ok" or "error: ...". What the commands are, the program knows.
 *
 * One who does not read does not learn; one whose line has no end is hung up on; who comes when all
 * places are taken waits until one is free. One thread: that of the program's poll() loop.
 */
#ifndef QEMU_VIRT_CTL_H
#define QEMU_VIRT_CTL_H

#include <poll.h>
#include <stdint.h>
#include "base/compiler.h"
#include "hal/native/vfu/vfu_accept.h"

#define CTL_CLIENTS    4
#define CTL_LINE_BYTES 256 /* with the zero behind it */
#define CTL_PATH_BYTES 108 /* sun_path */
#define CTL_FDS        (1 + CTL_CLIENTS)

/* Runs `line`, which is the callee's to take apart, and answers on `fd` by ctl_say(). */
typedef void ctl_fn(void *ctx, int fd, char *line);

struct ctl_client {
    int fd; /* -1: free */
    uint32_t have;
    char line[CTL_LINE_BYTES];
};

struct ctl {
    int listen_fd; /* -1: not open */
    struct vfu_accept accept;
    struct ctl_client clients[CTL_CLIENTS];
    ctl_fn *run;
    void *ctx;
    char path[CTL_PATH_BYTES];
};

/* Nothing is open: ctl_close() may be called. */
void ctl_init(struct ctl *ctl);

/* Listens at dir/name, in the place of a socket that nobody serves. 0; -ENAMETOOLONG; -EADDRINUSE:
 * it is served, or no socket; another -errno. */
MUST_USE int ctl_open(struct ctl *ctl, const char *dir, const char *name, ctl_fn *run, void *ctx);

/* Hangs up and removes the socket. */
void ctl_close(struct ctl *ctl);

/* What to poll, CTL_FDS of them, and what to do when they are polled, at least once a second.
 * `now_ns` is of one monotonic clock. 0; -errno: a connection could not be taken, for the first
 * time in a row: to be told. */
void ctl_watch(const struct ctl *ctl, uint64_t now_ns, struct pollfd *fds);
MUST_USE int ctl_turn(struct ctl *ctl, uint64_t now_ns, const struct pollfd *fds);

void ctl_say(int fd, const char *text);

#endif
