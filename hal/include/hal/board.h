/*
 * What a board hands to the application, and how a run of the firmware ends.
 *
 * The board's start-up code (boards/<name>/board.c, or the main() of the native board) finds out
 * what there is, fills one struct board and calls app_main() on core 0. The other cores are off
 * until somebody calls cpu_start(). From then on only app decides; the board has no state of its
 * own.
 */
#ifndef HAL_BOARD_H
#define HAL_BOARD_H

#include <stdbool.h>
#include <stdint.h>
#include "base/compiler.h"
#include "base/limits.h"
#include "base/status.h"
#include "hal/eth.h"
#include "hal/pcie_ep.h"

struct rdma_device; /* rdma/types.h */

struct board {
    const char *name;   /* "qemu-virt", "native" */
    const char *config; /* key=value words, blank separated; never NULL. From whoever starts the
                            board (device tree bootargs, command line): check before use */
    const void *config_tree; /* device tree of the configuration, 8-byte aligned, app/config_tree.h;
                                NULL: none. Stays; check before use */
    uint32_t config_tree_bytes; /* at most so long */
    uint32_t core_count;        /* cores that can run, 1..LIMIT_CORES; also cpu_count() */
    uint32_t ep_count;          /* PCIe functions towards hosts; 0 is a valid board */
    struct pcie_ep *eps[LIMIT_FUNCTIONS];
    uint32_t eth_count; /* Ethernet ports; 0: no fabric */
    struct eth_port *eths[LIMIT_ETH_PORTS];
    uint32_t rdma_count; /* RNICs of an operating system (native board); 0: none */
    /* Opens the `index`-th of them. On the core that will own it, after sched_init(). */
    enum status (*rdma_open)(uint32_t index, struct rdma_device **out);
    void *pool_base;     /* RAM that nobody uses, 2 MiB aligned where there is so much: RAM disks */
    uint64_t pool_bytes; /* devices can reach it; its content is undefined ... */
    bool pool_is_zero;   /* ... or zero, and touching it costs memory */
    const uint8_t *rng_seed; /* seed of the CSPRNG; NULL: the board has none (no fabric then) */
    uint32_t rng_seed_bytes;
    const void
        *crash; /* what a panic of the run before left (boot/crash_record.h); NULL: nothing */
    uint32_t crash_bytes;
    const char *reset_cause; /* for people: "power-on", "warm reset", "panic" ...; never NULL */
};

/* The application's entry, on core 0, with a running console and clock. Everything that `board`
 * points at stays valid for ever. Returns only on boards that can end: the native one. */
void app_main(const struct board *board);

/* No call of malloc() and friends succeeds after this: a later one panics. Called by app when all
 * modules are initialised. Nothing to do on boards whose heap is somebody else's (native). */
void board_seal_heap(void);

/* Ends the run. Where a firmware cannot end (silicon), halts all cores. 0: success. */
NORETURN void board_exit(int code);

/* Warm reset of the whole board; RAM keeps its content where the hardware lets it. */
NORETURN void board_reset(void);

#endif
