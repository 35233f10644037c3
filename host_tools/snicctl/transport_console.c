/*
 * A console: a serial line, or the unix socket that stands for one. Frames are found in the
 * console's text; the text itself is dropped.
 */
#include "transport.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

/* Where a line has no flow control, a receiver with a FIFO of 16 bytes must keep up. */
#define WRITE_WAIT_MS 2000
/* No answer for so long after a request: an empty frame asks the interrupt handler. */
#define CLOSED   "the other side has closed it"
#define NUDGE_MS (MGMT_FRAME_HANG_MS + 50u)

uint64_t transport_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static enum transport_result lost(struct transport *t, const char *what)
{
    snprintf(t->why, sizeof(t->why), "%s", what);
    return TRANSPORT_LOST;
}

static enum transport_result write_all(struct transport *t, const char *bytes, uint32_t len)
{
    uint64_t deadline_ms = transport_now_ms() + WRITE_WAIT_MS;

    for (uint32_t done = 0; done < len;) {
        ssize_t count = send(t->fd, bytes + done, len - done, MSG_NOSIGNAL);
        if (count < 0 && errno == ENOTSOCK) {
            count = write(t->fd, bytes + done, len - done);
        }
        if (count > 0) {
            done += (uint32_t)count;
        } else if (count < 0 && errno != EAGAIN && errno != EINTR) {
            return lost(t, errno == EPIPE ? CLOSED : strerror(errno));
        } else if (transport_now_ms() > deadline_ms) {
            return TRANSPORT_SILENT;
        } else {
            struct pollfd wait = {.fd = t->fd, .events = POLLOUT};
            poll(&wait, 1, 50);
        }
    }
    return TRANSPORT_OK;
}

static enum transport_result console_send(struct transport *t, const uint8_t *message,
                                          uint32_t len_bytes)
{
    char frame[MESSAGE_FRAME_ROOM];

    t->nudge_ms = transport_now_ms() + NUDGE_MS;
    return write_all(t, frame, message_frame(message, len_bytes, frame));
}

/* Takes what was received up to the end of a frame. */
static bool take_frame(struct transport *t)
{
    while (t->input_pos < t->input_len) {
        if (message_scan_byte(&t->scan, t->input[t->input_pos++])) {
            return true;
        }
    }
    return false;
}

/* Waits for bytes, at most until `until_ms`. */
static enum transport_result fill(struct transport *t, uint64_t until_ms)
{
    uint64_t now_ms = transport_now_ms();
    struct pollfd wait = {.fd = t->fd, .events = POLLIN};

    if (now_ms >= until_ms || poll(&wait, 1, (int)(until_ms - now_ms)) == 0) {
        return TRANSPORT_SILENT;
    }
    ssize_t count = read(t->fd, t->input, sizeof(t->input));
    if (count == 0) {
        return lost(t, CLOSED);
    }
    if (count < 0 && errno != EAGAIN && errno != EINTR) {
        return lost(t, strerror(errno));
    }
    t->input_pos = 0;
    t->input_len = count < 0 ? 0 : (uint32_t)count;
    return TRANSPORT_OK;
}

/* Until a frame has ended. */
static enum transport_result await_frame(struct transport *t, uint64_t deadline_ms)
{
    static const char nudge[2] = {(char)MGMT_FRAME_START, '\n'};

    while (!take_frame(t)) {
        bool is_nudge_next = t->nudge_ms < deadline_ms;
        enum transport_result result = fill(t, is_nudge_next ? t->nudge_ms : deadline_ms);
        if (result == TRANSPORT_SILENT && is_nudge_next) {
            t->nudge_ms += NUDGE_MS;
            result = write_all(t, nudge, sizeof(nudge));
        }
        if (result != TRANSPORT_OK) {
            return result;
        }
    }
    return TRANSPORT_OK;
}

static enum transport_result console_receive(struct transport *t, uint8_t *message,
                                             uint32_t room_bytes, uint32_t *len_bytes,
                                             uint32_t timeout_ms)
{
    uint64_t deadline_ms = transport_now_ms() + timeout_ms;
    size_t len = 0;

    for (;;) {
        enum transport_result result = await_frame(t, deadline_ms);
        if (result != TRANSPORT_OK) {
            return result;
        }
        if (message_base64(t->scan.text, t->scan.chars, message, room_bytes, &len)) {
            *len_bytes = (uint32_t)len;
            return TRANSPORT_OK;
        } /* else a frame in which bytes were lost, or text that looks like one */
    }
}

static const struct transport_ops console_ops = {
    .send = console_send,
    .receive = console_receive,
};

/* --- open ------------------------------------------------------------------------------------ */

void transport_use_console(struct transport *t, int fd, const char *name)
{
    memset(t, 0, sizeof(*t));
    t->ops = &console_ops;
    t->fd = fd;
    t->is_console = true;
    t->message_max = MGMT_FRAME_BYTES;
    snprintf(t->name, sizeof(t->name), "%s", name);
}

void transport_close(struct transport *t)
{
    if (t->fd >= 0) {
        close(t->fd);
        t->fd = -1;
    }
}

static const struct {
    uint32_t baud;
    speed_t speed;
} speeds[] = {
    {9600, B9600},       {19200, B19200},     {38400, B38400},     {57600, B57600},
    {115200, B115200},   {230400, B230400},   {460800, B460800},   {921600, B921600},
    {1000000, B1000000}, {1500000, B1500000}, {3000000, B3000000},
};

static enum fault line_lock(int fd, const char *path)
{
    if (isatty(fd) == 0) {
        return fault_say(FAULT_NO_DEVICE, "%s: neither a terminal line nor a unix socket", path);
    }
    return flock(fd, LOCK_EX | LOCK_NB) == 0
               ? FAULT_NONE
               : fault_say(FAULT_NO_DEVICE, "%s: another snicctl uses it", path);
}

static enum fault line_start(int fd, const char *path, uint32_t baud)
{
    struct termios line;

    if (tcgetattr(fd, &line) != 0) {
        return fault_say(FAULT_NO_DEVICE, "%s: %s", path, strerror(errno));
    }
    cfmakeraw(&line);
    line.c_cflag |= CLOCAL | CREAD;
    bool is_known = baud == 0;
    for (size_t i = 0; i < ARRAY_SIZE(speeds); i++) {
        if (speeds[i].baud == baud) {
            cfsetspeed(&line, speeds[i].speed);
            is_known = true;
        }
    }
    if (!is_known) {
        return fault_say(FAULT_USAGE, "--baud %u: no speed that serial lines have", baud);
    }
    return tcsetattr(fd, TCSANOW, &line) == 0
               ? FAULT_NONE
               : fault_say(FAULT_NO_DEVICE, "%s: %s", path, strerror(errno));
}

/* The way through /proc keeps the address within its 108 bytes. */
static int connect_socket(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char folder[4096];
    char name[4096];

    snprintf(folder, sizeof(folder), "%s", path);
    snprintf(name, sizeof(name), "%s", path);
    int folder_fd = open(dirname(folder), O_PATH | O_DIRECTORY | O_CLOEXEC);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int len = snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", folder_fd,
                       basename(name));
    if (folder_fd < 0 || fd < 0 || len >= (int)sizeof(address.sun_path) ||
        connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
        int error = errno;
        close(fd);
        fd = -1;
        errno = error;
    }
    if (folder_fd >= 0) {
        int error = errno;
        close(folder_fd);
        errno = error;
    }
    return fd;
}

static enum fault open_fault(const char *path, bool is_socket)
{
    if (errno == EACCES || errno == EPERM) {
        return fault_say(
            FAULT_PERMISSION,
            "%s: permission denied; serial lines belong to the group dialout: join it, "
            "or use sudo",
            path);
    }
    if (errno == ECONNREFUSED) {
        return fault_say(FAULT_NO_DEVICE, "%s: nobody listens: the machine behind it has ended",
                         path);
    }
    return fault_say(FAULT_NO_DEVICE, "%s: %s%s", path, strerror(errno),
                     is_socket ? " (while connecting)" : "");
}

enum fault transport_open_console(struct transport *t, const char *path, uint32_t baud)
{
    struct stat info;

    if (stat(path, &info) != 0) {
        return open_fault(path, false);
    }
    bool is_socket = S_ISSOCK(info.st_mode);
    /* A line without carrier would keep open() waiting. */
    int fd =
        is_socket ? connect_socket(path) : open(path, O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return open_fault(path, is_socket);
    }
    if (!is_socket) {
        enum fault fault = line_lock(fd, path);
        if (fault == FAULT_NONE) { /* only now: it may be another's line */
            fault = line_start(fd, path, baud);
        }
        if (fault != FAULT_NONE) {
            close(fd);
            return fault;
        }
    }
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    transport_use_console(t, fd, path);
    return FAULT_NONE;
}
