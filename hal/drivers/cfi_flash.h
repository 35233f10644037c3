/*
 * NOR flash with the Common Flash Interface (JEDEC JESD68.01): is it there, how large is it, how is
 * it divided. Leaves out: reading as memory (it is), erasing and programming.
 */
#ifndef DRIVERS_CFI_FLASH_H
#define DRIVERS_CFI_FLASH_H

#include <stdint.h>
#include "base/status.h"
#include "hal/mmio.h"

struct cfi_flash {
    struct mmio regs;
    uint64_t len_bytes;   /* of the bank, over all of its chips */
    uint32_t block_bytes; /* erase block of the first region, over all chips */
    uint16_t command_set; /* 1: Intel/Sharp extended, 2: AMD/Fujitsu, ... */
    uint8_t chip_count;   /* 16-bit chips side by side: 1 or 2 */
};

/* Asks the bank of `bank_width` bytes (2 or 4, made of 16-bit chips) at `base`, mapped as device.
 * INVALID: bank_width. NOT_FOUND: it does not answer. BAD_DATA: its geometry makes no sense. */
MUST_USE enum status cfi_flash_probe(struct cfi_flash *flash, uintptr_t base, uint32_t bank_width);

#endif
