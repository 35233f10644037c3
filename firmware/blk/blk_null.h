/*
 * A block device that completes at once and moves no data: reads leave the host's memory as it is.
 * For measurements of what lies above it; never a place for data.
 */
#ifndef BLK_BLK_NULL_H
#define BLK_BLK_NULL_H

#include <stdint.h>
#include "base/status.h"
#include "blk/blk.h"

struct blk_null {
    struct blk_dev dev;
};

/* `size_bytes` is a multiple of the block; `lba_shift` 9 or 12; `name` stays valid. Core 0, at
 * start. */
MUST_USE enum status blk_null_init(struct blk_null *null, const char *name, uint64_t size_bytes,
                                   uint8_t lba_shift);

#endif
