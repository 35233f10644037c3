#include "hal/console.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>
#include "hal/native/native.h"

/* A reader that does not read (a full pipe) may hold a line back this long, then the line is
 * dropped. */
#define WRITE_WAIT_MS 1000

/* Bytes that `take` gets before a call of console_read() returns. */
#define TAKEN_MOST 4096

static _Atomic int console_fd = STDERR_FILENO;
static bool (*take_byte)(uint8_t byte);

void native_console_set_fd(int fd)
{
    atomic_store(&console_fd, fd);
}

void console_write(const char *bytes, size_t len_bytes)
{
    int fd = atomic_load(&console_fd);

    while (fd >= 0 && len_bytes > 0) {
        struct pollfd ready = {.fd = fd, .events = POLLOUT};
        if (poll(&ready, 1, WRITE_WAIT_MS) <= 0) {
            return;
        }
        ssize_t written = write(fd, bytes, len_bytes);
        if (written < 0 && (errno == EINTR || errno == EAGAIN)) {
            continue;
        }
        if (written <= 0) {
            return;
        }
        bytes += written;
        len_bytes -= (size_t)written;
    }
}

/* A byte of standard input, or -1. */
static int read_byte(void)
{
    static bool has_ended; /* end of file is told again and again */
    struct pollfd ready = {.fd = STDIN_FILENO, .events = POLLIN};
    unsigned char byte;

    if (has_ended || poll(&ready, 1, 0) <= 0) {
        return -1;
    }
    ssize_t count = read(STDIN_FILENO, &byte, 1);
    if (count == 1) {
        return byte;
    }
    has_ended = count == 0;
    return -1;
}

int console_read(void)
{
    for (int i = 0; i < TAKEN_MOST; i++) {
        int byte = read_byte();
        if (byte < 0 || take_byte == NULL || !take_byte((uint8_t)byte)) {
            return byte;
        }
    }
    return -1;
}

void console_set_take(bool (*take)(uint8_t byte))
{
    take_byte = take;
}
