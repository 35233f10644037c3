#include "hal/drivers/cfi_flash.h"

#include "base/assert.h"
#include "base/bits.h"
#include "hal/clock.h"

/* JESD68.01: word addresses within a chip */
#define CFI_QUERY_ADDR   0x55u
#define CFI_Q            0x10u /* 'Q', 'R', 'Y' */
#define CFI_COMMAND_SET  0x13u /* 2 bytes */
#define CFI_PRIMARY      0x15u /* 2 bytes: where the command set's own table is */
#define CFI_PROGRAM_TYP  0x20u /* log2 of us, of the write buffer; 0: there is none */
#define CFI_ERASE_TYP    0x21u /* log2 of ms, of a block */
#define CFI_PROGRAM_MAX  0x24u /* log2 of the factor from typical to most */
#define CFI_ERASE_MAX    0x25u
#define CFI_SIZE         0x27u /* log2 of the bytes of a chip */
#define CFI_BUFFER       0x2au /* 2 bytes: log2 of the bytes of the write buffer */
#define CFI_BLOCKS       0x2du /* region 1: count - 1 (2 bytes), size / 256 (2 bytes) */
#define PRIMARY_FEATURES 5u    /* in that table, 4 bytes */
#define FEATURE_LOCKS    BIT32(5)

#define SET_INTEL_EXTENDED 1
#define SET_INTEL_STANDARD 3

/* Commands, 306666 table 18 */
#define CMD_ERASE        0x20u
#define CMD_WORD         0x40u
#define CMD_CLEAR_STATUS 0x50u
#define CMD_LOCK         0x60u
#define CMD_STATUS       0x70u
#define CMD_QUERY        0x98u
#define CMD_CONFIRM      0xd0u
#define CMD_BUFFER       0xe8u
#define CMD_READ_ARRAY   0xffu

/* Status register */
#define STATUS_READY  BIT32(7)
#define STATUS_ERRORS 0x3au /* erase, program, Vpp, locked */

/* What a chip may ask for; more is nonsense, and cut. */
#define PROGRAM_LOG2_MAX_US 20
#define ERASE_LOG2_MAX_MS   16

/* Between 0xe8 and the free buffer. */
#define BUFFER_FREE_NS (1 * NS_PER_MS)

static void write_bank(const struct cfi_flash *flash, uint64_t offset, uint32_t value)
{
    if (flash->chip_count == 2) {
        mmio_write32(flash->regs, (uint32_t)offset, value);
    } else {
        mmio_write16(flash->regs, (uint32_t)offset, (uint16_t)value);
    }
}

static uint32_t read_bank(const struct cfi_flash *flash, uint64_t offset)
{
    return flash->chip_count == 2 ? mmio_read32(flash->regs, (uint32_t)offset)
                                  : mmio_read16(flash->regs, (uint32_t)offset);
}

/* The same to each chip. */
static void command(const struct cfi_flash *flash, uint64_t offset, uint32_t value)
{
    write_bank(flash, offset, flash->chip_count == 2 ? value << 16 | value : value);
}

/* --- query ------------------------------------------------------------------------------------ */

/* A byte as the chips answer it; they must agree. -1: they do not. */
static int query(const struct cfi_flash *flash, uint32_t word)
{
    uint32_t both = read_bank(flash, (uint64_t)word * 2 * flash->chip_count);
    uint32_t second = flash->chip_count == 2 ? both >> 16 : both;

    return (both & 0xff) == (second & 0xff) ? (int)(both & 0xff) : -1;
}

static uint32_t query_u16(const struct cfi_flash *flash, uint32_t word)
{
    return (uint32_t)(query(flash, word) & 0xff) | (uint32_t)(query(flash, word + 1) & 0xff) << 8;
}

static uint32_t exponent(int log2, int factor_log2, int limit)
{
    int sum = log2 + factor_log2;
    return (uint32_t)(log2 < 0 || factor_log2 < 0 || sum > limit ? limit : sum);
}

static void read_limits(struct cfi_flash *flash)
{
    uint32_t primary = query_u16(flash, CFI_PRIMARY);

    flash->program_limit_ns =
        NS_PER_US << exponent(query(flash, CFI_PROGRAM_TYP), query(flash, CFI_PROGRAM_MAX),
                              PROGRAM_LOG2_MAX_US);
    flash->erase_limit_ns = NS_PER_MS << exponent(query(flash, CFI_ERASE_TYP),
                                                  query(flash, CFI_ERASE_MAX), ERASE_LOG2_MAX_MS);
    flash->has_locks = primary != 0 && primary < 0x1000 &&
                       (query_u16(flash, primary + PRIMARY_FEATURES) & FEATURE_LOCKS) != 0;
}

static enum status read_geometry(struct cfi_flash *flash, uint64_t mapped_bytes)
{
    if (query(flash, CFI_Q) != 'Q' || query(flash, CFI_Q + 1) != 'R' ||
        query(flash, CFI_Q + 2) != 'Y') {
        return STATUS_NOT_FOUND;
    }
    int size_log2 = query(flash, CFI_SIZE);
    uint32_t block_bytes = query_u16(flash, CFI_BLOCKS + 2) * 256;
    if (size_log2 < 10 || size_log2 > 31 || !is_power_of_two(block_bytes) ||
        block_bytes > BIT64(size_log2)) {
        return STATUS_BAD_DATA;
    }
    flash->command_set = (uint16_t)query_u16(flash, CFI_COMMAND_SET);
    flash->base.len_bytes = BIT64(size_log2) * flash->chip_count;
    if (flash->base.len_bytes > mapped_bytes) {
        return STATUS_BAD_DATA;
    }
    flash->base.block_bytes = block_bytes * flash->chip_count;
    uint32_t buffer_log2 = query_u16(flash, CFI_BUFFER);
    if ((flash->command_set != SET_INTEL_EXTENDED && flash->command_set != SET_INTEL_STANDARD) ||
        buffer_log2 < 2 || buffer_log2 > 16 || BIT64(buffer_log2) > block_bytes) {
        return STATUS_UNSUPPORTED;
    }
    flash->base.program_bytes = BIT32(buffer_log2) * flash->chip_count;
    read_limits(flash);
    return STATUS_OK;
}

/* --- operations ------------------------------------------------------------------------------- */

static struct cfi_flash *self(struct flash *base)
{
    return CONTAINER_OF(base, struct cfi_flash, base);
}

/* Bits that any of the chips shows, or that all of them show. */
static uint32_t status_any(const struct cfi_flash *flash)
{
    uint32_t both = read_bank(flash, 0);
    return (both | both >> 16) & 0xff;
}

static bool is_ready(const struct cfi_flash *flash)
{
    uint32_t both = read_bank(flash, 0);
    uint32_t second = flash->chip_count == 2 ? both >> 16 : both;
    return (both & second & STATUS_READY) != 0;
}

/* Each change between content and status costs QEMU a new memory map: only when needed. A chip that
 * has outlasted its time and still works shows its status whatever it is told, so it is told again
 * before the next look. */
static void show_array(struct cfi_flash *flash)
{
    if (!flash->in_array) {
        command(flash, 0, CMD_STATUS);
        flash->in_array = is_ready(flash);
        command(flash, 0, CMD_READ_ARRAY);
    }
}

static void cfi_read(struct flash *base, uint64_t offset, void *out, uint32_t len_bytes)
{
    struct cfi_flash *flash = self(base);
    uint8_t *to = out;

    ASSERT(!flash->is_busy && range_fits(offset, len_bytes, base->len_bytes));
    show_array(flash);
    while (len_bytes > 0) {
        /* Aligned words, as the chips have them: the ends may be within one. */
        uint32_t skip = (uint32_t)(offset % 4);
        uint32_t part = min_u32(4 - skip, len_bytes);
        uint32_t word = mmio_read32(flash->regs, (uint32_t)(offset - skip)) >> 8 * skip;
        for (uint32_t i = 0; i < part; i++) {
            to[i] = (uint8_t)(word >> 8 * i);
        }
        to += part;
        offset += part;
        len_bytes -= part;
    }
}

/* Before the first command of an operation. */
static void begin(struct cfi_flash *flash, uint64_t offset)
{
    flash->is_busy = true;
    flash->in_array = false;
    flash->failed = STATUS_OK;
    if (flash->has_locks) {
        command(flash, offset, CMD_LOCK);
        command(flash, offset, CMD_CONFIRM);
    }
}

static void cfi_erase(struct flash *base, uint64_t offset)
{
    struct cfi_flash *flash = self(base);

    ASSERT(!flash->is_busy && is_aligned(offset, base->block_bytes) && offset < base->len_bytes);
    begin(flash, offset);
    command(flash, offset, CMD_ERASE);
    command(flash, offset, CMD_CONFIRM);
    flash->deadline_ns = clock_now_ns() + flash->erase_limit_ns;
}

/* The chips give their buffers at once, unless they are broken. */
static bool buffer_take(struct cfi_flash *flash, uint64_t offset)
{
    uint64_t deadline_ns = clock_now_ns() + BUFFER_FREE_NS;
    bool is_late = false;

    command(flash, offset, CMD_BUFFER);
    while (!is_ready(flash)) {
        if (is_late) {
            return false;
        }
        is_late = clock_now_ns() >= deadline_ns;
        command(flash, offset, CMD_BUFFER);
    }
    return true;
}

static void write_words(const struct cfi_flash *flash, uint64_t offset, const uint8_t *from,
                        uint32_t len_bytes)
{
    for (uint32_t at = 0; at < len_bytes; at += 2u * flash->chip_count) {
        uint32_t word = from[at] | (uint32_t)from[at + 1] << 8;
        if (flash->chip_count == 2) {
            word |= (uint32_t)from[at + 2] << 16 | (uint32_t)from[at + 3] << 24;
        }
        write_bank(flash, offset + at, word);
    }
}

static void cfi_program(struct flash *base, uint64_t offset, const void *data, uint32_t len_bytes)
{
    struct cfi_flash *flash = self(base);
    uint32_t step = 2u * flash->chip_count;

    ASSERT(!flash->is_busy && is_aligned(offset | len_bytes, 4) && len_bytes > 0 &&
           range_fits(offset, len_bytes, base->len_bytes) &&
           offset % base->program_bytes + len_bytes <= base->program_bytes);
    begin(flash, offset);
    if (len_bytes == step) {
        command(flash, offset, CMD_WORD); /* (QEMU's chip takes no single word by its buffer) */
        write_words(flash, offset, data, len_bytes);
    } else if (buffer_take(flash, offset)) {
        command(flash, offset, len_bytes / step - 1);
        write_words(flash, offset, data, len_bytes);
        command(flash, offset, CMD_CONFIRM);
    } else {
        flash->failed = STATUS_IO;
    }
    flash->deadline_ns = clock_now_ns() + flash->program_limit_ns;
}

static enum status cfi_poll(struct flash *base)
{
    struct cfi_flash *flash = self(base);

    if (!flash->is_busy) {
        return STATUS_OK;
    }
    /* The clock first: a chip that was ready in time is not late because we were. */
    uint64_t now_ns = clock_now_ns();
    enum status status = flash->failed;
    command(flash, 0, CMD_STATUS);
    if (status == STATUS_OK && !is_ready(flash)) {
        if (now_ns < flash->deadline_ns) {
            return STATUS_AGAIN;
        }
        status = STATUS_IO;
    }
    if ((status_any(flash) & STATUS_ERRORS) != 0) {
        status = STATUS_IO;
    }
    if (status != STATUS_OK) {
        command(flash, 0, CMD_CLEAR_STATUS);
    }
    flash->is_busy = false;
    return status;
}

static const struct flash_ops ops = {
    .read = cfi_read, .erase = cfi_erase, .program = cfi_program, .poll = cfi_poll};

enum status cfi_flash_probe(struct cfi_flash *flash, uintptr_t base, uint64_t mapped_bytes,
                            uint32_t bank_width)
{
    if (bank_width != 2 && bank_width != 4) {
        return STATUS_INVALID;
    }
    *flash = (struct cfi_flash){.regs.base = base, .chip_count = (uint8_t)(bank_width / 2)};
    command(flash, (uint64_t)CFI_QUERY_ADDR * bank_width, CMD_QUERY);
    enum status status = read_geometry(flash, mapped_bytes);
    if (flash->base.program_bytes != 0) {
        command(flash, 0, CMD_CLEAR_STATUS); /* from here on only our own errors set bits */
    }
    show_array(flash);
    flash->base.ops = status == STATUS_OK ? &ops : NULL;
    return status;
}
