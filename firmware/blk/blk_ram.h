/*
 * A block device in RAM: the memory is the medium, so a copy to or from host memory is the transfer
 * itself, not staging. Every request completes before submit returns. Any number of cores may
 * submit; overlapping commands of several cores are ordered by nobody, as NVMe allows.
 */
#ifndef BLK_BLK_RAM_H
#define BLK_BLK_RAM_H

#include <stdint.h>
#include "base/status.h"
#include "blk/blk.h"

struct blk_ram {
    struct blk_dev dev; /* what to hand on */
    uint8_t *memory;
    uint64_t size_bytes;
};

struct blk_ram_config {
    const char *name; /* stays valid */
    void *memory; /* size_bytes, the caller's, for ever; its content is the content of the device */
    uint64_t size_bytes; /* a multiple of the block, not 0 */
    uint8_t lba_shift;   /* 9 or 12 */
    uint8_t uuid[16];    /* all zero: none */
};

/* INVALID: a field is out of range. Core 0, at start. */
MUST_USE enum status blk_ram_init(struct blk_ram *ram, const struct blk_ram_config *config);

#endif
