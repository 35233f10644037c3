/*
 * Interrupt vectors: the host's eventfds become an ivshmem peer of the NIC. See pcielink.h.
 */
#include "boards/qemu-virt/pcielink/pcielink.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "base/bits.h"

/* --- what the host wants -----------------------------------------------------------------------
 */

void pcielink_vectors_set(struct pcielink *p, uint32_t vector, int fd)
{
    struct pcielink_vectors *v = &p->vectors;

    if (fd < 0 && v->host_fd[vector] < 0) {
        return; /* nothing changes */
    }
    if (v->host_fd[vector] >= 0) {
        close(v->host_fd[vector]);
    }
    v->host_fd[vector] = fd;
    v->serial[vector]++;
    v->dirty = true;
    v->change_count++;
}

/* Vectors that a table must have: up to the last one that somebody listens to. */
static uint32_t wanted_count(const struct pcielink_vectors *v)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < LIMIT_VECTORS; i++) {
        if (v->host_fd[i] >= 0) {
            count = i + 1;
        }
    }
    return count;
}

/* True if the NIC's peer has the right eventfds as far as it goes. */
static bool peer_holds(const struct pcielink_vectors *v)
{
    for (uint32_t i = 0; i < v->peer_count; i++) {
        if (v->peer_serial[i] != v->serial[i]) {
            return false;
        }
    }
    return v->peer != 0;
}

/* --- transition --------------------------------------------------------------------------------
 */

static void publish(struct pcielink *p)
{
    struct pcielink_vectors *v = &p->vectors;
    struct link_vector_table table = {.peer = v->peer, .count = v->peer_count};

    if (v->relay) {
        table =
            (struct link_vector_table){.peer = LINK_PEER_HOST, .first = 1, .count = LIMIT_VECTORS};
    }
    for (uint32_t i = 0; i < LIMIT_VECTORS; i++) {
        bool live = v->relay ? v->host_fd[i] >= 0 : i < v->peer_count && v->peer_live[i];
        table.live[i / 32] |= (uint32_t)live << (i % 32);
    }
    v->generation = vfu_link_set_vectors(&p->link, &table);
    v->state = PCIELINK_VECTORS_PUBLISHED;
}

static void begin(struct pcielink *p)
{
    struct pcielink_vectors *v = &p->vectors;
    uint32_t count = wanted_count(v);

    v->dirty = false;
    v->old_peer = 0;
    if (v->relay) {
        publish(p);
        return;
    }
    if (peer_holds(v) && count >= v->peer_count) {
        if (count == v->peer_count) {
            return; /* changed there and back */
        }
    } else {
        v->old_peer = v->peer;
        v->peer = 0;
        v->peer_count = 0;
        if (count == 0) {
            publish(p);
            return;
        }
        if (v->next_id > LINK_PEER_LAST) {
            pcielink_log("all ivshmem peer ids are used; interrupts are passed on from now");
            v->relay = true;
            publish(p);
            return;
        }
        v->peer = v->next_id++;
        v->peer_total++;
    }
    v->goal_count = count;
    v->state = PCIELINK_VECTORS_SENDING;
}

static void send_more(struct pcielink *p)
{
    struct pcielink_vectors *v = &p->vectors;

    while (v->peer_count < v->goal_count) {
        uint32_t i = v->peer_count;
        bool live = v->host_fd[i] >= 0;
        int result = pcielink_nic_send(p, v->peer, live ? v->host_fd[i] : v->quiet_fd);
        if (result != 0) {
            return; /* full: later. Broken: the loop finds out */
        }
        v->peer_serial[i] = v->serial[i];
        v->peer_live[i] = live;
        v->peer_count++;
    }
    v->state = PCIELINK_VECTORS_SENT;
}

/* The NIC's QEMU has read all that we sent: it handles a message before it lets a core go on. */
static bool all_read(const struct pcielink *p)
{
    int unread = 0;
    return ioctl(p->nic.conn_fd, SIOCOUTQ, &unread) == 0 && unread == 0;
}

bool pcielink_vectors_turn(struct pcielink *p)
{
    struct pcielink_vectors *v = &p->vectors;

    if (p->nic.conn_fd < 0) {
        return false;
    }
    if (v->state == PCIELINK_VECTORS_IDLE && v->dirty) {
        begin(p);
    }
    if (v->state == PCIELINK_VECTORS_SENDING) {
        send_more(p);
    }
    if (v->state == PCIELINK_VECTORS_SENT && all_read(p)) {
        publish(p);
    }
    if (v->state == PCIELINK_VECTORS_PUBLISHED && vfu_link_vectors_acked(&p->link, v->generation)) {
        if (v->old_peer != 0 && pcielink_nic_send(p, v->old_peer, -1) == -EAGAIN) {
            return true;
        }
        v->old_peer = 0;
        v->state = PCIELINK_VECTORS_IDLE;
    }
    /* Waiting for an acknowledgement needs no timer: the NIC notifies. */
    return v->dirty ? v->state != PCIELINK_VECTORS_PUBLISHED
                    : v->state == PCIELINK_VECTORS_SENDING || v->state == PCIELINK_VECTORS_SENT;
}

void pcielink_vectors_relay(struct pcielink *p, uint32_t vector)
{
    if (p->vectors.host_fd[vector] >= 0) {
        pcielink_signal(p->vectors.host_fd[vector]);
    }
}

/* --- NIC, start, end ---------------------------------------------------------------------------
 */

void pcielink_vectors_nic_changed(struct pcielink *p)
{
    struct pcielink_vectors *v = &p->vectors;

    v->state = PCIELINK_VECTORS_IDLE;
    v->peer = 0;
    v->old_peer = 0;
    v->peer_count = 0;
    v->next_id = LINK_PEER_FIRST;
    v->relay = false;
    v->dirty = true;
    /* What the block names belonged to the NIC that is gone. */
    (void)vfu_link_set_vectors(&p->link, &(struct link_vector_table){.count = 0});
}

int pcielink_vectors_open(struct pcielink *p)
{
    struct pcielink_vectors *v = &p->vectors;

    v->next_id = LINK_PEER_FIRST;
    memset(v->host_fd, 0xff, sizeof(v->host_fd)); /* -1 */
    v->quiet_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return v->quiet_fd < 0 ? -errno : 0;
}

void pcielink_vectors_close(struct pcielink *p)
{
    for (uint32_t i = 0; i < LIMIT_VECTORS; i++) {
        if (p->vectors.host_fd[i] >= 0) {
            close(p->vectors.host_fd[i]);
        }
    }
    close(p->vectors.quiet_fd);
}
