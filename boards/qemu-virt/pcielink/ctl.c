/*
 * RUN_DIR/ctl: a person or a script says one command per line and reads lines up to "ok" or "error:
 * ...".
 */
#include "boards/qemu-virt/pcielink/pcielink.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/bits.h"

static void say(struct pcielink_ctl_client *client, const char *format, ...) PRINTF_LIKE(2, 3);

static void say(struct pcielink_ctl_client *client, const char *format, ...)
{
    char text[256];
    va_list args;

    va_start(args, format);
    int len = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (len > 0 && send(client->fd, text, min_u32((uint32_t)len, sizeof(text) - 1),
                        MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
        return; /* one who does not read does not learn */
    }
}

static const char *link_text(const struct vfu_link *link)
{
    if (link->failed) {
        return "failed";
    }
    if (link->admin_down) {
        return "down";
    }
    return link->host_present ? "up" : "no-host";
}

static void cmd_status(struct pcielink *p, struct pcielink_ctl_client *client)
{
    const struct vfu_link *link = &p->link;
    const char *nic = link->nic_ready ? "ready" : p->nic.conn_fd >= 0 ? "attached" : "none";

    say(client, "link %s\nhost %s\nnic %s\nnic_pid %d\nepoch %u\n", link_text(link),
        link->host_present ? "connected" : "none", nic, p->nic.conn_fd >= 0 ? (int)p->nic.pid : 0,
        (unsigned)link->epoch);
    say(client, "bus_master %d\nwindows %u\nwindows_unreachable %u\n", link->bus_master,
        (unsigned)p->server.dma.reachable_count,
        (unsigned)(p->server.dma.count - p->server.dma.reachable_count));
    say(client, "fences %llu\nfence_max_us %llu\nnic_stops %llu\n",
        (unsigned long long)link->stats.fence_count,
        (unsigned long long)link->stats.fence_max_ns / 1000, (unsigned long long)p->nic.stop_count);
    say(client, "vector_changes %llu\npeers %llu\npeer %u\nrelay %d\n",
        (unsigned long long)p->vectors.change_count, (unsigned long long)p->vectors.peer_total,
        (unsigned)p->vectors.peer, p->vectors.relay);
    say(client, "reg_writes %llu\nreg_bad %llu\ndoorbell_writes %llu\nring_full %llu\n",
        (unsigned long long)link->stats.reg_write_count,
        (unsigned long long)link->stats.reg_bad_count,
        (unsigned long long)link->stats.doorbell_count,
        (unsigned long long)link->stats.ring_full_count);
    say(client, "messages %llu\nmessage_errors %llu\nclients %llu\nclients_dropped %llu\n",
        (unsigned long long)p->server.stats.message_count,
        (unsigned long long)p->server.stats.error_count,
        (unsigned long long)p->server.stats.client_count,
        (unsigned long long)p->server.stats.dropped_count);
}

static void cmd_flr(struct pcielink *p, struct pcielink_ctl_client *client)
{
    (void)client;
    vfu_server_reset(&p->server);
}

static void cmd_link_down(struct pcielink *p, struct pcielink_ctl_client *client)
{
    (void)client;
    vfu_link_set_down(&p->link, true);
}

static void cmd_link_up(struct pcielink *p, struct pcielink_ctl_client *client)
{
    (void)client;
    vfu_link_set_down(&p->link, false);
}

static void cmd_quit(struct pcielink *p, struct pcielink_ctl_client *client)
{
    (void)client;
    p->quit = true;
}

static void run_line(struct pcielink *p, struct pcielink_ctl_client *client)
{
    static const struct {
        const char *line;
        void (*run)(struct pcielink *p, struct pcielink_ctl_client *client);
    } commands[] = {
        {"status", cmd_status},   {"flr", cmd_flr},   {"link down", cmd_link_down},
        {"link up", cmd_link_up}, {"quit", cmd_quit},
    };

    for (uint32_t i = 0; i < ARRAY_SIZE(commands); i++) {
        if (strcmp(client->line, commands[i].line) == 0) {
            commands[i].run(p, client);
            say(client, "ok\n");
            return;
        }
    }
    say(client, "error: status, flr, link down, link up, quit\n");
}

static void client_close(struct pcielink_ctl_client *client)
{
    close(client->fd);
    client->fd = -1;
}

void pcielink_ctl_read(struct pcielink *p, struct pcielink_ctl_client *client)
{
    ssize_t got = recv(client->fd, client->line + client->have,
                       sizeof(client->line) - 1 - client->have, MSG_DONTWAIT);

    if (got <= 0) {
        client_close(client);
        return;
    }
    client->have += (uint32_t)got;
    char *end;
    while ((end = memchr(client->line, '\n', client->have)) != NULL) {
        uint32_t used = (uint32_t)(end - client->line) + 1;
        *end = 0;
        run_line(p, client);
        client->have -= used;
        memmove(client->line, client->line + used, client->have);
    }
    if (client->have == sizeof(client->line) - 1) {
        client_close(client); /* no command is that long */
    }
}

void pcielink_ctl_accept(struct pcielink *p)
{
    int fd = vfu_accept(&p->ctl.accept, p->ctl.listen_fd, pcielink_now_ns());

    if (fd < 0 && fd != -EAGAIN) {
        pcielink_log("no command is accepted for now: %s", strerror(-fd));
    }

    for (uint32_t i = 0; fd >= 0 && i < PCIELINK_CTL_CLIENTS; i++) {
        if (p->ctl.clients[i].fd < 0) {
            p->ctl.clients[i] = (struct pcielink_ctl_client){.fd = fd};
            return;
        }
    }
    if (fd >= 0) {
        close(fd);
    }
}

int pcielink_ctl_open(struct pcielink *p)
{
    for (uint32_t i = 0; i < PCIELINK_CTL_CLIENTS; i++) {
        p->ctl.clients[i].fd = -1;
    }
    p->ctl.listen_fd = pcielink_listen(p->ctl_path);
    return p->ctl.listen_fd < 0 ? p->ctl.listen_fd : 0;
}

void pcielink_ctl_close(struct pcielink *p)
{
    for (uint32_t i = 0; i < PCIELINK_CTL_CLIENTS; i++) {
        if (p->ctl.clients[i].fd >= 0) {
            client_close(&p->ctl.clients[i]);
        }
    }
    if (p->ctl.listen_fd >= 0) {
        close(p->ctl.listen_fd);
        unlink(p->ctl_path);
    }
}
