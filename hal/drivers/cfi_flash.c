#include "hal/drivers/cfi_flash.h"

#include "base/bits.h"

/* JESD68.01: word addresses within a chip */
#define CFI_QUERY_ADDR  0x55u
#define CFI_QUERY       0x98u
#define CFI_READ_ARRAY  0xffu
#define CFI_Q           0x10u /* 'Q', 'R', 'Y' */
#define CFI_COMMAND_SET 0x13u /* 2 bytes */
#define CFI_SIZE        0x27u /* log2 of the bytes of a chip */
#define CFI_BLOCKS      0x2du /* region 1: count - 1 (2 bytes), size / 256 (2 bytes) */

static void command(const struct cfi_flash *flash, uint32_t word, uint16_t value)
{
    if (flash->chip_count == 2) {
        mmio_write32(flash->regs, word * 4, (uint32_t)value << 16 | value);
    } else {
        mmio_write16(flash->regs, word * 2, value);
    }
}

/* A byte as the chips answer it; they must agree. -1: they do not. */
static int query(const struct cfi_flash *flash, uint32_t word)
{
    if (flash->chip_count == 1) {
        return mmio_read16(flash->regs, word * 2) & 0xff;
    }
    uint32_t both = mmio_read32(flash->regs, word * 4);
    return (both & 0xff) == (both >> 16 & 0xff) ? (int)(both & 0xff) : -1;
}

static uint32_t query_u16(const struct cfi_flash *flash, uint32_t word)
{
    return (uint32_t)(query(flash, word) & 0xff) | (uint32_t)(query(flash, word + 1) & 0xff) << 8;
}

static enum status read_geometry(struct cfi_flash *flash)
{
    if (query(flash, CFI_Q) != 'Q' || query(flash, CFI_Q + 1) != 'R' ||
        query(flash, CFI_Q + 2) != 'Y') {
        return STATUS_NOT_FOUND;
    }
    int size_log2 = query(flash, CFI_SIZE);
    uint32_t block_bytes = query_u16(flash, CFI_BLOCKS + 2) * 256;
    if (size_log2 < 10 || size_log2 > 32 || block_bytes == 0) {
        return STATUS_BAD_DATA;
    }
    flash->command_set = (uint16_t)query_u16(flash, CFI_COMMAND_SET);
    flash->len_bytes = BIT64(size_log2) * flash->chip_count;
    flash->block_bytes = block_bytes * flash->chip_count;
    return STATUS_OK;
}

enum status cfi_flash_probe(struct cfi_flash *flash, uintptr_t base, uint32_t bank_width)
{
    if (bank_width != 2 && bank_width != 4) {
        return STATUS_INVALID;
    }
    flash->regs.base = base;
    flash->chip_count = (uint8_t)(bank_width / 2);
    command(flash, CFI_QUERY_ADDR, CFI_QUERY);
    enum status status = read_geometry(flash);
    command(flash, 0, CFI_READ_ARRAY);
    return status;
}
