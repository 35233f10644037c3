/*
 * An Ethernet port (hal/eth.h) of the native board: a unix datagram socket, one frame a datagram,
 * as QEMU's `-netdev dgram` and the rack's switch speak it.
 *
 * The socket is bound at a path and never connected: the switch may begin, end and come again at
 * any time, and sends from a socket without a name. A frame that nobody takes (no such socket, or
 * none behind it) is lost and counted, as on a wire. One that does not fit the other's queue waits
 * for at most ETH_DGRAM_WAIT_NS and is lost then; meanwhile eth_arm() says true, because nothing
 * tells when there is room again.
 *
 * Segments are gathered by the kernel. Each call of eth_rx() is a system call. Leaves out: a link
 * state (always up).
 */
#ifndef NATIVE_ETH_DGRAM_H
#define NATIVE_ETH_DGRAM_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "base/compiler.h"
#include "hal/eth.h"

#define ETH_DGRAM_MTU_MAX  9198u /* frames on the wire: at most 9216 bytes */
#define ETH_DGRAM_TX_COUNT 128u  /* frames that wait to be sent or reaped; a power of two */
#define ETH_DGRAM_RX_COUNT 64u   /* frames of one eth_rx() */
#define ETH_DGRAM_WAIT_NS  (UINT64_C(100) * 1000 * 1000)

/* A received frame begins here in its buffer: what follows Ethernet, IPv4, UDP and BTH is aligned
 * to 16. */
#define ETH_DGRAM_RX_PAD_BYTES    10u
#define ETH_DGRAM_RX_BUFFER_BYTES 9280u

struct eth_dgram_params {
    const char *name; /* kept */
    const char *path; /* where our socket is; what lies there is removed */
    const char *peer; /* where frames go; NULL: `path` with ".switch" behind */
    uint8_t addr[ETH_ADDR_BYTES];
    uint16_t mtu_bytes; /* 68..ETH_DGRAM_MTU_MAX */
};

struct eth_dgram {
    struct eth_port port; /* first */
    int socket;
    int epoll; /* watches the socket, once for each arming, and `stop` */
    int stop;  /* eventfd */
    bool is_armed;
    _Atomic uint32_t core; /* that armed last: the owner */
    pthread_t thread;      /* waits on `epoll`, wakes the core */
    struct sockaddr_un own;
    struct sockaddr_un peer;

    /* Frames under way: reaped <= sent <= flushed <= pushed; free running. */
    uint32_t pushed;
    uint32_t flushed;
    uint32_t sent;
    uint32_t reaped;
    uint64_t refused_ns; /* since when the other's queue is full, 0: it is not */
    struct mmsghdr tx[ETH_DGRAM_TX_COUNT];
    struct iovec tx_segs[ETH_DGRAM_TX_COUNT][ETH_TX_SEGS];
    void *cookies[ETH_DGRAM_TX_COUNT];

    struct mmsghdr rx[ETH_DGRAM_RX_COUNT];
    struct iovec rx_segs[ETH_DGRAM_RX_COUNT];
    uint32_t lent_count;
    ALIGNED(64) uint8_t buffers[ETH_DGRAM_RX_COUNT][ETH_DGRAM_RX_BUFFER_BYTES];
};

/* 0, or an errno: EINVAL (MTU), ENAMETOOLONG, what bind() and others say. At start, on any core:
 * the owner is who arms the port. */
MUST_USE int eth_dgram_open(struct eth_dgram *eth, const struct eth_dgram_params *params);

/* Ends the thread, removes the socket. Nobody uses the port meanwhile or afterwards. */
void eth_dgram_close(struct eth_dgram *eth);

#endif
