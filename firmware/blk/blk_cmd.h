/*
 * What drivers of NVMe devices, local and remote, and volumes have to know of commands and of what
 * devices tell of themselves.
 */
#ifndef BLK_BLK_CMD_H
#define BLK_BLK_CMD_H

#include <stdbool.h>
#include <stdint.h>
#include "blk/blk.h"

/* Whether a late execution of an I/O command could change what others read, or who may read it.
 * What is not known does. Any core. */
bool blk_changes_state(uint8_t opcode);

/* Identifiers out of the list of namespace identification descriptors (NVMe 1.4, 5.15.2.4), which
 * ends with a zero type, or where it breaks its form. `data` may be memory that a
 * drive still writes: each byte is read once. Core 0. */
void blk_take_descriptors(struct blk_geometry *geometry, const uint8_t *data, uint32_t len_bytes);

#endif
