/*
 * RUN_DIR/fabric.ctl: a person or a script says one command per line (cmd.c) and reads lines up to
 * "ok" or "error: ...".
 */
#include "boards/qemu-virt/fabric/fabric.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CTL_NAME     "fabric.ctl"
#define ANSWER_BYTES 65536

static void client_close(struct fabric_ctl_client *client)
{
    close(client->fd);
    client->fd = -1;
    client->have = 0;
}

static void answer_line(struct fabric *f, struct fabric_ctl_client *client)
{
    static char answer[ANSWER_BYTES];

    fabric_cmd(f, client->line, answer, sizeof(answer));
    if (send(client->fd, answer, strlen(answer), MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
        return; /* one who does not read does not learn */
    }
}

void fabric_ctl_read(struct fabric *f, struct fabric_ctl_client *client)
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
        answer_line(f, client);
        client->have -= used;
        memmove(client->line, client->line + used, client->have);
    }
    if (client->have == sizeof(client->line) - 1) {
        client_close(client); /* no command is that long */
    }
}

void fabric_ctl_accept(struct fabric *f)
{
    int fd = accept4(f->ctl_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    for (uint32_t i = 0; fd >= 0 && i < FABRIC_CTL_CLIENTS; i++) {
        if (f->clients[i].fd < 0) {
            f->clients[i] = (struct fabric_ctl_client){.fd = fd};
            return;
        }
    }
    if (fd >= 0) {
        close(fd);
    }
}

int fabric_ctl_open(struct fabric *f)
{
    struct sockaddr_un address;

    if (!fabric_address(&address, f->dir, CTL_NAME)) {
        return -ENAMETOOLONG;
    }
    f->ctl_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (f->ctl_fd < 0) {
        return -errno;
    }
    unlink(address.sun_path);
    if (bind(f->ctl_fd, (const struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(f->ctl_fd, FABRIC_CTL_CLIENTS) != 0) {
        return -errno;
    }
    return 0;
}

void fabric_ctl_close(struct fabric *f)
{
    struct sockaddr_un address;

    for (uint32_t i = 0; i < FABRIC_CTL_CLIENTS; i++) {
        if (f->clients[i].fd >= 0) {
            client_close(&f->clients[i]);
        }
    }
    if (f->ctl_fd >= 0 && fabric_address(&address, f->dir, CTL_NAME)) {
        close(f->ctl_fd);
        f->ctl_fd = -1;
        unlink(address.sun_path);
    }
}
