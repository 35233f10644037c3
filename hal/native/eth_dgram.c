/*
 * See eth_dgram.h.
 */
#include "hal/native/eth_dgram.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "base/assert.h"
#include "base/bits.h"
#include "base/counter.h"
#include "hal/clock.h"
#include "hal/cpu.h"

#define ETH_HDR_BYTES 14u
#define VLAN_BYTES    4u
#define MTU_MIN       68u

#define TX_MASK (ETH_DGRAM_TX_COUNT - 1)

_Static_assert((ETH_DGRAM_RX_PAD_BYTES + ETH_HDR_BYTES) % 4 == 0,
               "hal/eth.h: data + 14 is aligned to 4");
_Static_assert((ETH_DGRAM_RX_PAD_BYTES + ETH_HDR_BYTES + 40) % 16 == 0, "behind IPv4, UDP and BTH");
_Static_assert(ETH_DGRAM_RX_PAD_BYTES + ETH_DGRAM_MTU_MAX + ETH_HDR_BYTES + VLAN_BYTES <=
                   ETH_DGRAM_RX_BUFFER_BYTES,
               "the largest frame fits");
_Static_assert(ETH_DGRAM_RX_BUFFER_BYTES % 64 == 0, "buffers keep their alignment");

static struct eth_dgram *dgram_of(struct eth_port *port)
{
    return CONTAINER_OF(port, struct eth_dgram, port);
}

static uint32_t frame_max(const struct eth_port *port)
{
    return port->mtu_bytes + ETH_HDR_BYTES + VLAN_BYTES;
}

/* --- sending -----------------------------------------------------------------------------------
 */

static void update_room(struct eth_dgram *eth)
{
    eth->port.tx_room_count = ETH_DGRAM_TX_COUNT - (eth->pushed - eth->reaped);
}

static enum status dgram_tx(struct eth_port *port, const struct eth_tx *frame)
{
    struct eth_dgram *eth = dgram_of(port);
    uint32_t slot = eth->pushed & TX_MASK;
    uint32_t sum_bytes = 0;

    if (frame->seg_count - 1 >= ETH_TX_SEGS || frame->len_bytes < ETH_HDR_BYTES ||
        frame->len_bytes > frame_max(port) || frame->segs[0].len_bytes < ETH_HDR_BYTES ||
        frame->cookie == NULL) {
        return STATUS_INVALID;
    }
    if (port->tx_room_count == 0) {
        counter_add(&port->stats.tx_full_count, 1);
        return STATUS_AGAIN;
    }
    for (uint32_t i = 0; i < frame->seg_count; i++) {
        const struct mem_seg *seg = &frame->segs[i];
        if (seg->len_bytes == 0 || seg->len_bytes > frame->len_bytes - sum_bytes) {
            return STATUS_INVALID;
        }
        eth->tx_segs[slot][i] = (struct iovec){mem_seg_ptr(seg), seg->len_bytes};
        sum_bytes += seg->len_bytes;
    }
    if (sum_bytes != frame->len_bytes) {
        return STATUS_INVALID;
    }
    eth->tx[slot].msg_hdr.msg_iovlen = frame->seg_count;
    eth->cookies[slot] = frame->cookie;
    eth->pushed++;
    update_room(eth);
    return STATUS_OK;
}

/* The oldest `count` frames that wait are sent (the kernel has left their lengths) or lost. */
static void retire(struct eth_dgram *eth, uint32_t count, bool is_sent)
{
    struct eth_stats *stats = &eth->port.stats;

    for (uint32_t i = 0; i < count; i++) {
        if (is_sent) {
            counter_add(&stats->tx_bytes, eth->tx[eth->sent & TX_MASK].msg_len);
        }
        eth->sent++;
    }
    counter_add(is_sent ? &stats->tx_count : &stats->tx_drop_count, count);
    eth->refused_ns = 0;
}

/* The kernel refused the oldest frame with `error`. True: go on with the others. */
static bool refused(struct eth_dgram *eth, int error)
{
    if (error != EAGAIN && error != EWOULDBLOCK && error != ENOBUFS) {
        retire(eth, 1, false); /* nobody is there, or our memory went away (EFAULT) */
        return true;
    }
    uint64_t now_ns = clock_now_ns();
    if (eth->refused_ns == 0) {
        eth->refused_ns = now_ns;
    } else if (now_ns - eth->refused_ns >= ETH_DGRAM_WAIT_NS) {
        retire(eth, eth->flushed - eth->sent, false);
    }
    return false;
}

/* Each turn sends or retires a frame at least, or is the last. */
static void send_waiting(struct eth_dgram *eth)
{
    bool goes_on = true;

    while (goes_on && eth->sent != eth->flushed) {
        uint32_t slot = eth->sent & TX_MASK;
        uint32_t count = min_u32(eth->flushed - eth->sent, ETH_DGRAM_TX_COUNT - slot);
        int sent = sendmmsg(eth->socket, &eth->tx[slot], count, MSG_DONTWAIT | MSG_NOSIGNAL);
        counter_add(&eth->port.stats.tx_kick_count, 1);
        if (sent > 0) {
            retire(eth, (uint32_t)sent, true);
        } else {
            goes_on = refused(eth, errno);
        }
    }
}

static void dgram_tx_flush(struct eth_port *port)
{
    struct eth_dgram *eth = dgram_of(port);

    eth->flushed = eth->pushed;
    send_waiting(eth);
}

static uint32_t dgram_tx_reap(struct eth_port *port, void **cookies, uint32_t max)
{
    struct eth_dgram *eth = dgram_of(port);
    uint32_t count = 0;

    send_waiting(eth); /* what did not fit */
    while (count < max && eth->reaped != eth->sent) {
        cookies[count++] = eth->cookies[eth->reaped++ & TX_MASK];
    }
    update_room(eth);
    return count;
}

/* --- receiving ---------------------------------------------------------------------------------
 */

static uint32_t dgram_rx(struct eth_port *port, struct eth_rx *frames, uint32_t max)
{
    struct eth_dgram *eth = dgram_of(port);
    uint32_t count = 0;

    ASSERT(eth->lent_count == 0);
    int got = recvmmsg(eth->socket, eth->rx, min_u32(max, ETH_DGRAM_RX_COUNT), MSG_DONTWAIT, NULL);
    for (int i = 0; i < got; i++) {
        uint32_t len_bytes = eth->rx[i].msg_len;
        if (len_bytes < ETH_HDR_BYTES || (eth->rx[i].msg_hdr.msg_flags & MSG_TRUNC) != 0) {
            counter_add(&port->stats.rx_error_count, 1);
            continue;
        }
        frames[count++] = (struct eth_rx){eth->rx_segs[i].iov_base, len_bytes};
        counter_add(&port->stats.rx_bytes, len_bytes);
    }
    counter_add(&port->stats.rx_count, count);
    eth->lent_count = count;
    return count;
}

static void dgram_rx_done(struct eth_port *port, uint32_t count)
{
    struct eth_dgram *eth = dgram_of(port);

    ASSERT(count == eth->lent_count);
    eth->lent_count = 0;
}

/* --- waking ------------------------------------------------------------------------------------
 */

/* Once: after an event the kernel watches no more until the next arming. What is there already
 * counts as an event, so nothing is lost between arming and sleeping. */
static void watch(struct eth_dgram *eth, uint32_t events)
{
    struct epoll_event event = {.events = events | EPOLLONESHOT, .data.fd = eth->socket};

    ASSERT(epoll_ctl(eth->epoll, EPOLL_CTL_MOD, eth->socket, &event) == 0);
}

static bool dgram_arm(struct eth_port *port, bool armed)
{
    struct eth_dgram *eth = dgram_of(port);

    if (!armed) {
        if (eth->is_armed) {
            watch(eth, 0);
        }
        eth->is_armed = false;
        return false;
    }
    struct pollfd there = {.fd = eth->socket, .events = POLLIN};
    /* ETH-OWNER (release): first the core, then what makes the thread wake it. */
    atomic_store_explicit(&eth->core, cpu_self(), memory_order_release);
    watch(eth, EPOLLIN);
    eth->is_armed = true;
    return eth->sent != eth->flushed || poll(&there, 1, 0) > 0;
}

/* What is the interrupt elsewhere. */
static void *wake_main(void *arg)
{
    struct eth_dgram *eth = arg;

    for (;;) {
        struct epoll_event event;
        int count = epoll_wait(eth->epoll, &event, 1, -1);
        if (count == 1 && event.data.fd == eth->stop) {
            return NULL;
        }
        if (count == 1) {
            /* Pairs with ETH-OWNER; between them the kernel. */
            cpu_wake(atomic_load_explicit(&eth->core, memory_order_acquire));
        }
    }
}

static const struct eth_ops ops = {
    .tx = dgram_tx,
    .tx_flush = dgram_tx_flush,
    .tx_reap = dgram_tx_reap,
    .rx = dgram_rx,
    .rx_done = dgram_rx_done,
    .arm = dgram_arm,
};

/* --- start -------------------------------------------------------------------------------------
 */

/* False: the path is too long. */
static bool set_path(struct sockaddr_un *address, const char *path, const char *suffix)
{
    address->sun_family = AF_UNIX;
    int len = snprintf(address->sun_path, sizeof(address->sun_path), "%s%s", path, suffix);
    return len > 0 && (size_t)len < sizeof(address->sun_path);
}

/* Messages whose parts never change. */
static void prepare(struct eth_dgram *eth)
{
    for (uint32_t i = 0; i < ETH_DGRAM_TX_COUNT; i++) {
        eth->tx[i].msg_hdr.msg_name = &eth->peer;
        eth->tx[i].msg_hdr.msg_namelen = sizeof(eth->peer);
        eth->tx[i].msg_hdr.msg_iov = eth->tx_segs[i];
    }
    for (uint32_t i = 0; i < ETH_DGRAM_RX_COUNT; i++) {
        eth->rx_segs[i] =
            (struct iovec){eth->buffers[i] + ETH_DGRAM_RX_PAD_BYTES, frame_max(&eth->port)};
        eth->rx[i].msg_hdr.msg_iov = &eth->rx_segs[i];
        eth->rx[i].msg_hdr.msg_iovlen = 1;
    }
}

static void close_all(struct eth_dgram *eth)
{
    const int fds[] = {eth->socket, eth->epoll, eth->stop};

    for (uint32_t i = 0; i < ARRAY_SIZE(fds); i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
}

static bool open_all(struct eth_dgram *eth)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = -1};

    eth->socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    eth->epoll = epoll_create1(EPOLL_CLOEXEC);
    eth->stop = eventfd(0, EFD_CLOEXEC);
    if (eth->socket < 0 || eth->epoll < 0 || eth->stop < 0) {
        return false;
    }
    unlink(eth->own.sun_path); /* of a process that ended */
    if (bind(eth->socket, (const struct sockaddr *)&eth->own, sizeof(eth->own)) != 0) {
        return false;
    }
    event.data.fd = eth->stop;
    if (epoll_ctl(eth->epoll, EPOLL_CTL_ADD, eth->stop, &event) != 0) {
        return false;
    }
    event = (struct epoll_event){.events = EPOLLONESHOT, .data.fd = eth->socket};
    return epoll_ctl(eth->epoll, EPOLL_CTL_ADD, eth->socket, &event) == 0;
}

int eth_dgram_open(struct eth_dgram *eth, const struct eth_dgram_params *params)
{
    memset(eth, 0, sizeof(*eth));
    if (params->mtu_bytes < MTU_MIN || params->mtu_bytes > ETH_DGRAM_MTU_MAX) {
        return EINVAL;
    }
    bool fits = params->peer != NULL ? set_path(&eth->peer, params->peer, "")
                                     : set_path(&eth->peer, params->path, ".switch");
    if (!fits || !set_path(&eth->own, params->path, "")) {
        return ENAMETOOLONG;
    }
    eth->port.ops = &ops;
    eth->port.name = params->name;
    memcpy(eth->port.addr, params->addr, ETH_ADDR_BYTES);
    eth->port.mtu_bytes = params->mtu_bytes;
    eth->port.link_up = true;
    update_room(eth);
    prepare(eth);
    int error = open_all(eth) ? 0 : errno;
    if (error == 0) {
        error = pthread_create(&eth->thread, NULL, wake_main, eth);
    }
    if (error != 0) {
        close_all(eth);
    }
    return error;
}

void eth_dgram_close(struct eth_dgram *eth)
{
    uint64_t one = 1;

    if (write(eth->stop, &one, sizeof(one)) != sizeof(one)) {
        panic("eth_dgram: %s: its thread cannot be stopped", eth->port.name);
    }
    pthread_join(eth->thread, NULL);
    unlink(eth->own.sun_path);
    close_all(eth);
}
