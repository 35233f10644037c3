/*
 * The parts of a running firmware, as app wires them. Core 0 owns all of it.
 */
#ifndef APP_APP_PRIV_H
#define APP_APP_PRIV_H

#include <stdbool.h>
#include <stdint.h>
#include "app/config.h"
#include "base/limits.h"
#include "blk/blk.h"
#include "hal/board.h"
#include "nvme_drv/nvme_drv.h"
#include "nvme_ep/nvme_ep.h"
#include "sched/sched.h"

/* One function: what a host sees. */
struct app_function {
    struct nvme_ep *ep;
    struct pcie_ep *pcie;
    bool serving;
    char serial[CONFIG_SERIAL_BYTES + 6]; /* "-65535" at most */
    char subnqn[48];
};

struct app {
    const struct board *board;
    struct config config;
    struct app_function functions[LIMIT_FUNCTIONS];
    uint32_t function_count;
    struct nvme_drv *drives[LIMIT_DRIVES];
    uint32_t drive_count;
    uint8_t *pool_next; /* what is left of the board's pool */
    uint64_t pool_left;
    struct timer serve_timer;
    uint64_t serve_deadline_ns;
};

extern struct app app;

/* Zeroed memory out of the board's pool, aligned to `alignment` (a power of two), never given back.
 * NULL: none left. Only during start-up. */
void *app_pool_take(uint64_t bytes, uint64_t alignment);

/* Makes the block devices of every function's namespaces and attaches them. NO_SPACE, NOT_FOUND (no
 * such drive); what is wrong is logged. */
MUST_USE enum status app_volumes_attach(void);

/* Finds the drives that the configuration names and starts their bring-up. */
void app_drives_start(void);
/* Every drive that is used is ready or has failed. */
bool app_drives_settled(void);

/* The console: a line editor and commands; a poller of core 0. */
void app_console_start(void);

#endif
