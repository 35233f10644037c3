/*
 * The commands of RUN_DIR/ctl.
 */
#include "boards/qemu-virt/pcielink/pcielink.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "base/bits.h"

static void say(int fd, const char *format, ...) PRINTF_LIKE(2, 3);

static void say(int fd, const char *format, ...)
{
    char text[256];
    va_list args;

    va_start(args, format);
    int len = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (len > 0) {
        ctl_say(fd, text);
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

static void cmd_status(struct pcielink *p, int fd)
{
    const struct vfu_link *link = &p->link;
    const char *nic = link->nic_ready ? "ready" : p->nic.conn_fd >= 0 ? "attached" : "none";

    say(fd, "link %s\nhost %s\nnic %s\nnic_pid %d\nepoch %u\n", link_text(link),
        link->host_present ? "connected" : "none", nic, p->nic.conn_fd >= 0 ? (int)p->nic.pid : 0,
        (unsigned)link->epoch);
    say(fd, "bus_master %d\nwindows %u\nwindows_unreachable %u\n", link->bus_master,
        (unsigned)p->server.dma.reachable_count,
        (unsigned)(p->server.dma.count - p->server.dma.reachable_count));
    say(fd, "fences %llu\nfence_max_us %llu\nnic_stops %llu\n",
        (unsigned long long)link->stats.fence_count,
        (unsigned long long)link->stats.fence_max_ns / 1000, (unsigned long long)p->nic.stop_count);
    say(fd, "vector_changes %llu\npeers %llu\npeer %u\nrelay %d\n",
        (unsigned long long)p->vectors.change_count, (unsigned long long)p->vectors.peer_total,
        (unsigned)p->vectors.peer, p->vectors.relay);
    say(fd, "reg_writes %llu\nreg_bad %llu\ndoorbell_writes %llu\nring_full %llu\n",
        (unsigned long long)link->stats.reg_write_count,
        (unsigned long long)link->stats.reg_bad_count,
        (unsigned long long)link->stats.doorbell_count,
        (unsigned long long)link->stats.ring_full_count);
    say(fd, "messages %llu\nmessage_errors %llu\nclients %llu\nclients_dropped %llu\n",
        (unsigned long long)p->server.stats.message_count,
        (unsigned long long)p->server.stats.error_count,
        (unsigned long long)p->server.stats.client_count,
        (unsigned long long)p->server.stats.dropped_count);
}

static void cmd_flr(struct pcielink *p, int fd)
{
    (void)fd;
    vfu_server_reset(&p->server);
}

static void cmd_link_down(struct pcielink *p, int fd)
{
    (void)fd;
    vfu_link_set_down(&p->link, true);
}

static void cmd_link_up(struct pcielink *p, int fd)
{
    (void)fd;
    vfu_link_set_down(&p->link, false);
}

static void cmd_quit(struct pcielink *p, int fd)
{
    (void)fd;
    p->quit = true;
}

void pcielink_cmd(void *ctx, int fd, char *line)
{
    static const struct {
        const char *line;
        void (*run)(struct pcielink *p, int fd);
    } commands[] = {
        {"status", cmd_status},   {"flr", cmd_flr},   {"link down", cmd_link_down},
        {"link up", cmd_link_up}, {"quit", cmd_quit},
    };

    for (uint32_t i = 0; i < ARRAY_SIZE(commands); i++) {
        if (strcmp(line, commands[i].line) == 0) {
            commands[i].run(ctx, fd);
            say(fd, "ok\n");
            return;
        }
    }
    say(fd, "error: status, flr, link down, link up, quit\n");
}
