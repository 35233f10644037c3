/*
 * NOR flash with the Common Flash Interface (JEDEC JESD68.01) and the Intel command set (primary
 * command set 1 or 3; Intel StrataFlash P30, 306666, chapters 6 to 11): a bank of one or two 16-bit
 * chips as hal/flash.h. Programs through the chips' write buffer.
 *
 * Leaves out: chips without a write buffer, erase regions after the first, suspending, protection
 * registers. Blocks that the chip locks at power-on are unlocked.
 */
#ifndef DRIVERS_CFI_FLASH_H
#define DRIVERS_CFI_FLASH_H

#include <stdbool.h>
#include <stdint.h>
#include "base/status.h"
#include "hal/flash.h"
#include "hal/mmio.h"

struct cfi_flash {
    struct flash base; /* len_bytes and block_bytes are over all chips; ops NULL: read only */
    struct mmio regs;
    uint16_t command_set; /* 1: Intel/Sharp extended, 2: AMD/Fujitsu, ... */
    uint8_t chip_count;   /* 16-bit chips side by side: 1 or 2 */
    bool has_locks;       /* blocks are locked one by one */
    uint64_t erase_limit_ns;
    uint64_t program_limit_ns;
    /* The operation that is under way. */
    bool in_array; /* reads give the content; else the status, or it is not known */
    bool is_busy;
    uint64_t deadline_ns;
    enum status failed; /* before it began; OK: it did begin */
};

/* Asks the bank of `bank_width` bytes (2 or 4, made of 16-bit chips) at `base`, where
 * `mapped_bytes` are mapped as device. INVALID: bank_width. NOT_FOUND: it does not answer.
 * BAD_DATA: its geometry makes no sense, or says more than is mapped. UNSUPPORTED: all is known,
 * but it cannot be erased and programmed here (base.ops is NULL). */
MUST_USE enum status cfi_flash_probe(struct cfi_flash *flash, uintptr_t base, uint64_t mapped_bytes,
                                     uint32_t bank_width);

#endif
