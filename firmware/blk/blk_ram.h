/*
 * blk_ram: a block device in the NIC's own memory. Its RAM is the medium, so moving data between it
 * and a request's reference is the transfer itself, not staging.
 *
 * Read, Write, Compare, Verify, Flush, Write Zeroes and Dataset Management. Deallocated blocks read
 * as zeroes. There is no volatile cache: Flush and FUA have nothing to do. All cores may use it at
 * the same time; requests on the same blocks are not ordered (as NVMe has it).
 *
 * A range too long for one turn is zeroed in steps of BLK_RAM_STEP_BYTES, with a message to the own
 * core between them; such a request can be cancelled.
 */
#ifndef BLK_BLK_RAM_H
#define BLK_BLK_RAM_H

#include <stdint.h>
#include "base/status.h"
#include "blk/blk.h"

/* Zeroed in one turn at most. */
#define BLK_RAM_STEP_BYTES (1u << 20)

struct blk_ram {
    struct blk_dev dev; /* first */
    uint8_t *memory;
};

struct blk_ram_config {
    const char *name;    /* stays with the caller */
    void *memory;        /* the medium, as it is: the caller clears it or not */
    uint64_t size_bytes; /* a multiple of the block */
    uint8_t lba_shift;   /* 9 or 12 */
    uint8_t uuid[16];    /* all zero: none */
};

/* Makes a device. INVALID: no memory, another block size, or a size that is no multiple of it.
 * Core 0, at start. */
MUST_USE enum status blk_ram_init(struct blk_ram *ram, const struct blk_ram_config *config);

#endif
