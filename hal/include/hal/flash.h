/*
 * NOR flash that the firmware may write: boot records, configuration and images lie in it.
 *
 * Bits are programmed from 1 to 0; an erase sets a whole block to 1. Power may go at any time: a
 * block whose erase was cut holds anything, a piece whose programming was cut holds anything
 * between old and new. Nothing waits: an operation is started and asked for. One at a time per
 * device. Core 0 only.
 */
#ifndef HAL_FLASH_H
#define HAL_FLASH_H

#include <stdint.h>
#include "base/status.h"

struct flash;

struct flash_ops {
    /* Copies out, at once. Not while an operation is under way: BUSY bits would be read. */
    void (*read)(struct flash *flash, uint64_t offset, void *out, uint32_t len_bytes);
    /* Starts the erase of the block at `offset`, a multiple of block_bytes. */
    void (*erase)(struct flash *flash, uint64_t offset);
    /* Starts programming within one piece: [offset, offset + len_bytes), both multiples of 4, does
     * not cross a multiple of program_bytes. `data` stays until the end; it may lie anywhere. */
    void (*program)(struct flash *flash, uint64_t offset, const void *data, uint32_t len_bytes);
    /* AGAIN: under way. OK: done, or nothing was. IO: the device says that it failed, or gave
     * no answer in its time; it can be read again. */
    enum status (*poll)(struct flash *flash);
};

/* A driver embeds it and fills it in. */
struct flash {
    const struct flash_ops *ops;
    uint64_t len_bytes;     /* a multiple of block_bytes */
    uint32_t block_bytes;   /* what an erase takes, a power of two */
    uint32_t program_bytes; /* most that one operation programs, a power of two */
};

#endif
