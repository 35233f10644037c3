/*
 * A port's two sockets: one bound, on which all of the station's frames come; one connected to the
 * station, made anew whenever the station was. Frames for a station that is not there are lost.
 */
#include "boards/qemu-virt/fabric/fabric.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SUFFIX ".switch"

bool fabric_address(struct sockaddr_un *address, const char *dir, const char *name)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    int len = snprintf(address->sun_path, sizeof(address->sun_path), "%s/%s", dir, name);
    return len > 0 && (size_t)len < sizeof(address->sun_path);
}

static int datagram_socket(void)
{
    return socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

static bool switch_address(struct sockaddr_un *address, const char *dir, const char *name)
{
    char path[FABRIC_NAME_BYTES + sizeof(SUFFIX)];

    snprintf(path, sizeof(path), "%s" SUFFIX, name);
    return fabric_address(address, dir, path);
}

int fabric_port_open(struct fabric_port *port, const char *dir, const char *name)
{
    struct sockaddr_un address;
    struct sockaddr_un station;
    size_t len = strlen(name);

    *port = (struct fabric_port){.rx_fd = -1, .tx_fd = -1};
    if (len == 0 || len >= sizeof(port->name) || strpbrk(name, "/ ") != NULL) {
        return -EINVAL;
    }
    memcpy(port->name, name, len);
    if (!switch_address(&address, dir, name) || !fabric_address(&station, dir, name)) {
        return -ENAMETOOLONG;
    }
    for (uint32_t dir_index = 0; dir_index < FABRIC_DIRS; dir_index++) {
        fabric_fault_clear(&port->stages[dir_index].fault);
    }
    port->rx_fd = datagram_socket();
    if (port->rx_fd < 0) {
        return -errno;
    }
    unlink(address.sun_path);
    return bind(port->rx_fd, (const struct sockaddr *)&address, sizeof(address)) == 0 ? 0 : -errno;
}

static void disconnect(struct fabric_port *port)
{
    if (port->tx_fd >= 0) {
        close(port->tx_fd);
        port->tx_fd = -1;
    }
    port->blocked = false;
}

void fabric_port_close(struct fabric_port *port, const char *dir)
{
    struct sockaddr_un address;

    disconnect(port);
    if (port->rx_fd >= 0 && switch_address(&address, dir, port->name)) {
        close(port->rx_fd);
        port->rx_fd = -1;
        unlink(address.sun_path);
    }
    if (port->capture != NULL) {
        fclose(port->capture);
        port->capture = NULL;
    }
}

/* --- from the station ------------------------------------------------------------------------- */

/* No buffer is free: the datagram is taken, or poll() would come back at once for ever. */
static void read_away(struct fabric_port *port)
{
    uint8_t byte;

    for (uint32_t i = 0; i < FABRIC_BATCH; i++) {
        if (recv(port->rx_fd, &byte, sizeof(byte), MSG_DONTWAIT) < 0) {
            return;
        }
        port->stats.no_buffer++;
    }
}

/* Buffers for the next frames; those left over from the last ones come first. */
static uint32_t fill_batch(struct fabric *f)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < FABRIC_BATCH; i++) {
        struct fabric_frame *frame = f->batch[i];
        f->batch[i] = NULL;
        if (frame != NULL) {
            f->batch[count++] = frame;
        }
    }
    while (count < FABRIC_BATCH) {
        f->batch[count] = fabric_frame_get(&f->pool);
        if (f->batch[count] == NULL) {
            break;
        }
        count++;
    }
    return count;
}

static bool has_good_length(struct fabric_port *port, const struct mmsghdr *message)
{
    if ((message->msg_hdr.msg_flags & MSG_TRUNC) != 0) {
        port->stats.giants++;
        return false;
    }
    if (message->msg_len < FABRIC_MIN_BYTES) {
        port->stats.runts++;
        return false;
    }
    return true;
}

void fabric_port_read(struct fabric *f, uint32_t port)
{
    struct fabric_port *p = &f->ports[port];
    struct mmsghdr messages[FABRIC_BATCH];
    struct iovec iov[FABRIC_BATCH];
    uint32_t count = fill_batch(f);

    if (count == 0) {
        read_away(p);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        iov[i] =
            (struct iovec){.iov_base = f->batch[i]->bytes, .iov_len = sizeof(f->batch[i]->bytes)};
        messages[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &iov[i], .msg_iovlen = 1}};
    }
    int got = recvmmsg(p->rx_fd, messages, count, MSG_DONTWAIT, NULL);
    for (uint32_t i = 0; got > 0 && i < (uint32_t)got; i++) {
        if (has_good_length(p, &messages[i])) {
            struct fabric_frame *frame = f->batch[i];
            f->batch[i] = NULL;
            frame->len_bytes = messages[i].msg_len;
            fabric_receive(f, port, frame);
        }
    }
}

/* --- to the station --------------------------------------------------------------------------- */

static bool connect_station(struct fabric_port *port, const char *dir)
{
    struct sockaddr_un address;

    if (port->tx_fd >= 0) {
        return true;
    }
    port->tx_fd = datagram_socket();
    if (port->tx_fd < 0) {
        return false;
    }
    if (!fabric_address(&address, dir, port->name) ||
        connect(port->tx_fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
        disconnect(port);
        return false;
    }
    return true;
}

static void lose_all(struct fabric *f, struct fabric_port *port)
{
    struct fabric_frame *frame;

    while ((frame = fabric_queue_pop(&port->tx)) != NULL) {
        fabric_frame_put(&f->pool, frame);
        port->stats.absent++;
    }
}

/* How many of the first frames the station took; -errno if none. */
static int send_batch(struct fabric_port *port)
{
    struct mmsghdr messages[FABRIC_BATCH];
    struct iovec iov[FABRIC_BATCH];
    uint32_t count = 0;

    for (struct fabric_frame *frame = port->tx.first; frame != NULL && count < FABRIC_BATCH;
         frame = frame->next) {
        iov[count] = (struct iovec){.iov_base = frame->bytes, .iov_len = frame->len_bytes};
        messages[count] = (struct mmsghdr){.msg_hdr = {.msg_iov = &iov[count], .msg_iovlen = 1}};
        count++;
    }
    int sent = sendmmsg(port->tx_fd, messages, count, MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent < 0 ? -errno : sent;
}

static void take_sent(struct fabric *f, struct fabric_port *port, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct fabric_frame *frame = fabric_queue_pop(&port->tx);
        port->stats.frames[FABRIC_OUT]++;
        port->stats.bytes[FABRIC_OUT] += frame->len_bytes;
        fabric_capture(port, frame);
        fabric_frame_put(&f->pool, frame);
    }
}

void fabric_port_flush(struct fabric *f, uint32_t port)
{
    struct fabric_port *p = &f->ports[port];
    bool is_new = false; /* a second refusal in a row says that nobody is there */

    p->blocked = false;
    while (p->tx.first != NULL) {
        if (p->tx_fd < 0) {
            is_new = true;
        }
        if (!connect_station(p, f->dir)) {
            lose_all(f, p);
            return;
        }
        int sent = send_batch(p);
        if (sent > 0) {
            take_sent(f, p, (uint32_t)sent);
        } else if (sent == -EAGAIN || sent == -EINTR || sent == -ENOBUFS) {
            p->blocked = true;
            return;
        } else {
            disconnect(p);
            if (is_new) {
                lose_all(f, p);
                return;
            }
        }
    }
}
