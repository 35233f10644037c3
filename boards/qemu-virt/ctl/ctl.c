/*
 * See ctl.h.
 */
#include "boards/qemu-virt/ctl/ctl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "hal/native/vfu/vfu_server.h"

static void client_close(struct ctl_client *client)
{
    close(client->fd);
    client->fd = -1;
    client->have = 0;
}

/* NULL: all places are taken. */
static const struct ctl_client *free_client(const struct ctl *ctl)
{
    for (uint32_t i = 0; i < CTL_CLIENTS; i++) {
        if (ctl->clients[i].fd < 0) {
            return &ctl->clients[i];
        }
    }
    return NULL;
}

/* What came, and each line that is whole. */
static void client_read(struct ctl *ctl, struct ctl_client *client)
{
    ssize_t got = recv(client->fd, client->line + client->have,
                       sizeof(client->line) - 1 - client->have, MSG_DONTWAIT);
    char *end;

    if (got <= 0) {
        client_close(client);
        return;
    }
    client->have += (uint32_t)got;
    while ((end = memchr(client->line, '\n', client->have)) != NULL) {
        uint32_t used = (uint32_t)(end - client->line) + 1;
        *end = 0;
        ctl->run(ctl->ctx, client->fd, client->line);
        client->have -= used;
        memmove(client->line, client->line + used, client->have);
    }
    if (client->have == sizeof(client->line) - 1) {
        client_close(client); /* no command is that long */
    }
}

static int accept_client(struct ctl *ctl, uint64_t now_ns)
{
    const struct ctl_client *client = free_client(ctl);

    if (client == NULL) {
        return 0;
    }
    int fd = vfu_accept(&ctl->accept, ctl->listen_fd, now_ns);
    if (fd >= 0) {
        ctl->clients[client - ctl->clients] = (struct ctl_client){.fd = fd};
    }
    return fd >= 0 || fd == -EAGAIN ? 0 : fd;
}

void ctl_watch(const struct ctl *ctl, uint64_t now_ns, struct pollfd *fds)
{
    bool full = free_client(ctl) == NULL;

    fds[0].fd = full ? -1 : vfu_accept_poll_fd(&ctl->accept, ctl->listen_fd, now_ns);
    for (uint32_t i = 0; i < CTL_CLIENTS; i++) {
        fds[1 + i].fd = ctl->clients[i].fd; /* poll() skips those below 0 */
    }
    for (uint32_t i = 0; i < CTL_FDS; i++) {
        fds[i].events = POLLIN;
        fds[i].revents = 0;
    }
}

int ctl_turn(struct ctl *ctl, uint64_t now_ns, const struct pollfd *fds)
{
    for (uint32_t i = 0; i < CTL_CLIENTS; i++) {
        if (fds[1 + i].revents != 0) {
            client_read(ctl, &ctl->clients[i]);
        }
    }
    return fds[0].revents != 0 ? accept_client(ctl, now_ns) : 0;
}

void ctl_say(int fd, const char *text)
{
    if (send(fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
        return; /* one who does not read does not learn */
    }
}

void ctl_init(struct ctl *ctl)
{
    *ctl = (struct ctl){.listen_fd = -1};
    for (uint32_t i = 0; i < CTL_CLIENTS; i++) {
        ctl->clients[i].fd = -1;
    }
}

int ctl_open(struct ctl *ctl, const char *dir, const char *name, ctl_fn *run, void *ctx)
{
    ctl_init(ctl);
    ctl->run = run;
    ctl->ctx = ctx;
    int len = snprintf(ctl->path, sizeof(ctl->path), "%s/%s", dir, name);
    if (len < 0 || (size_t)len >= sizeof(ctl->path)) {
        return -ENAMETOOLONG;
    }
    ctl->listen_fd = vfu_server_listen(ctl->path);
    return ctl->listen_fd < 0 ? ctl->listen_fd : 0;
}

void ctl_close(struct ctl *ctl)
{
    for (uint32_t i = 0; i < CTL_CLIENTS; i++) {
        if (ctl->clients[i].fd >= 0) {
            client_close(&ctl->clients[i]);
        }
    }
    if (ctl->listen_fd >= 0) {
        close(ctl->listen_fd);
        ctl->listen_fd = -1;
        unlink(ctl->path);
    }
}
