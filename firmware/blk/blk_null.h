/*
 * blk_null: completes every request at once and keeps nothing. For measurements: reads leave the
 * host's buffer as it is, writes go nowhere. Never for data.
 */
#ifndef BLK_BLK_NULL_H
#define BLK_BLK_NULL_H

#include <stdint.h>
#include "base/status.h"
#include "blk/blk.h"

struct blk_null {
    struct blk_dev dev; /* first */
};

/* Makes a device that claims `size_bytes`, in blocks of 1 << lba_shift bytes (9 or 12). `name`
 * stays with the caller. INVALID: another block size, or a size that is no multiple of it. Core 0,
 * at start. */
MUST_USE enum status blk_null_init(struct blk_null *null, const char *name, uint64_t size_bytes,
                                   uint8_t lba_shift);

#endif
