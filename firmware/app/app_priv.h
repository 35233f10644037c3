/*
 * The parts of a running firmware, as app wires them. Core 0 owns all of it.
 */
#ifndef APP_APP_PRIV_H
#define APP_APP_PRIV_H

#include <stdbool.h>
#include <stdint.h>
#include "app/config.h"
#include "base/limits.h"
#include "base/rng.h"
#include "blk/blk.h"
#include "diag/diag_perf.h"
#include "diag/diag_rping.h"
#include "hal/board.h"
#include "nvme_drv/nvme_drv.h"
#include "net/net.h"
#include "nvme_ep/nvme_ep.h"
#include "rdma/cm.h"
#include "rdma/soft.h"
#include "rdma/verbs.h"
#include "sched/sched.h"

/* One function: what a host sees. */
struct app_function {
    struct nvme_ep *ep;
    struct pcie_ep *pcie;
    bool serving;
    char serial[CONFIG_SERIAL_BYTES + 6]; /* "-65535" at most */
    char subnqn[48];
};

/* One Ethernet port and what stands on it. What is made stays; it is the owner core's. */
struct app_fabric {
    uint32_t index;
    uint32_t core; /* the owner */
    char name[12];
    struct eth_port *port;                  /* NULL: an RNIC of the operating system, ... */
    uint32_t rnic;                          /* ... the board's so many-th */
    struct net_if *nif;                     /* NULL: it did not start, or there is no port */
    struct rdma_device *rdma;               /* NULL: likewise */
    struct diag_rping_client *rping_client; /* NULL: it did not start */
    struct diag_rping *rping;               /* NULL: not wanted, or it did not start */
    struct diag_perf *perf;                 /* likewise */
    bool is_up;                             /* all of the above that there will be is there */
    struct rng rng;
    /* While it starts. */
    struct msg msg;
    void (*step)(struct app_fabric *fabric);
    void *net_memory;
    void *rdma_memory;
    void *client_memory;
    void *rping_memory;
    void *perf_memory;
};

struct app {
    const struct board *board;
    struct config config;
    struct app_function functions[LIMIT_FUNCTIONS];
    uint32_t function_count;
    struct nvme_drv *drives[LIMIT_DRIVES];
    uint32_t drive_count;
    struct app_fabric fabrics[LIMIT_ETH_PORTS];
    uint32_t fabric_count;
    struct rng rng;     /* of which each fabric has a fork */
    uint8_t *pool_next; /* what is left of the board's pool */
    uint64_t pool_left;
    struct timer serve_timer;
    uint64_t serve_deadline_ns;
};

extern struct app app;

/* Zeroed memory out of the board's pool, aligned to `alignment` (a power of two), never given back.
 * NULL: none left. Core 0, only during start-up. */
void *app_pool_take(uint64_t bytes, uint64_t alignment);

/* Makes the block devices of every function's namespaces and attaches them. NO_SPACE, NOT_FOUND (no
 * such drive); what is wrong is logged. */
MUST_USE enum status app_volumes_attach(void);

/* Finds the drives that the configuration names and starts their bring-up. */
void app_drives_start(void);
/* Every drive that is used is ready or has failed. */
bool app_drives_settled(void);

/* Starts what stands on the board's Ethernet ports; other cores take part when they run. */
void app_fabric_start(void);

/* The console: a line editor and commands; a poller of core 0. */
void app_console_start(void);

#endif
