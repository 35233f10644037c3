#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static uint64_t fake_now_ns(void);

#define MMIO_MOCK
#define clock_now_ns fake_now_ns
#include "hal/drivers/cfi_flash.c"

#define BANK_BYTES  (16u << 10)
#define BLOCK_BYTES (2u << 10) /* of a chip */
#define BUFFER_LOG2 6

/* A bank of 16-bit chips with the command interface of Intel's: what the driver writes goes to all
 * chips, and each has its own status. */
static struct {
    uint32_t chips;
    bool answers;
    bool chips_differ;
    uint8_t size_log2; /* of a chip, as told */
    uint16_t block_256;
    uint8_t command_set;
    bool has_locks;
    /* state of the command interface */
    uint8_t mode;    /* last command that decides what reads give */
    uint8_t pending; /* first half of a command of two */
    uint32_t left;   /* words that the write buffer waits for; UINT32_MAX: their number */
    bool wants_confirm;
    uint8_t status[2];
    uint32_t busy_reads; /* status reads that say busy, still to come */
    bool is_stuck;       /* at work for longer than it should: it takes no command */
    uint64_t unlocked_block;
    uint32_t unlock_count;
    uint32_t array_count; /* commands 0xff */
    uint32_t op_count;
    /* what is to go wrong */
    uint32_t busy_count;      /* each operation is busy for so many looks */
    uint8_t error;            /* bits that the next operation sets ... */
    uint32_t error_chip;      /* ... in this chip */
    uint32_t buffer_busy;     /* so many 0xe8 find no buffer */
    uint64_t now_ns, step_ns; /* each look at the clock takes so long */
    uint8_t memory[BANK_BYTES];
} fake;

static uint64_t fake_now_ns(void)
{
    return fake.now_ns += fake.step_ns;
}

static uint8_t answer(uint32_t word)
{
    switch (word) {
    case 0x10:
        return 'Q';
    case 0x11:
        return 'R';
    case 0x12:
        return 'Y';
    case 0x13:
        return fake.command_set;
    case 0x15:
        return 0x31;
    case 0x20:
        return 7; /* 128 us ... */
    case 0x24:
        return 4; /* ... times 16 */
    case 0x21:
        return 10;
    case 0x25:
        return 4;
    case 0x27:
        return fake.size_log2;
    case 0x2a:
        return BUFFER_LOG2;
    case 0x2f:
        return (uint8_t)fake.block_256;
    case 0x30:
        return (uint8_t)(fake.block_256 >> 8);
    case 0x36:
        return fake.has_locks ? 1 << 5 : 0;
    default:
        return 0;
    }
}

static uint64_t both(uint8_t first, uint8_t second)
{
    return fake.chips == 1 ? first : (uint64_t)second << 16 | first;
}

uint64_t mmio_mock_read(uintptr_t address, unsigned bits)
{
    if (fake.mode == 0xff) {
        uint32_t word;
        assert_int_equal(bits, 32);
        assert_int_equal(address % 4, 0);
        memcpy(&word, fake.memory + address, 4);
        return word;
    }
    assert_int_equal(bits, fake.chips * 16);
    if (fake.mode == 0x98) {
        uint8_t byte = fake.answers ? answer((uint32_t)address / (2 * fake.chips)) : 0;
        return both(byte, (uint8_t)(byte + (fake.chips_differ ? 1 : 0)));
    }
    if (fake.is_stuck) {
        return both(0, 0);
    }
    if (fake.busy_reads > 0) {
        fake.busy_reads--;
        return both(0x80, 0); /* one chip is quicker: not ready before both are */
    }
    return both(fake.status[0], fake.status[1]);
}

static void operation_done(void)
{
    fake.busy_reads = fake.busy_count;
    fake.status[fake.error_chip] |= fake.error;
    fake.error = 0;
    fake.op_count++;
    fake.mode = 0x70;
}

static void second_half(uintptr_t address, uint8_t value)
{
    uint32_t block_bytes = BLOCK_BYTES * fake.chips;
    uint64_t block = address / block_bytes;
    uint8_t first = fake.pending;

    fake.pending = 0;
    assert_int_equal(value, 0xd0);
    if (first == 0x60) {
        fake.unlocked_block = block;
        fake.unlock_count++;
    } else if (first == 0x20) {
        if (!fake.has_locks || fake.unlocked_block == block) {
            memset(fake.memory + block * block_bytes, 0xff, block_bytes);
        } else {
            fake.error = 0x22;
        }
        operation_done();
    }
}

static void program(uintptr_t address, unsigned bits, uint64_t value)
{
    for (uint32_t i = 0; i < bits / 8; i++) {
        fake.memory[address + i] &= (uint8_t)(value >> 8 * i);
    }
}

/* In the write buffer: words, then the confirmation. */
static void buffer_write(uintptr_t address, unsigned bits, uint64_t value)
{
    if (fake.left == UINT32_MAX) {
        assert_true((value & 0xffff) < (1u << BUFFER_LOG2) / 2);
        assert_int_not_equal(value & 0xffff, 0); /* QEMU calls that a programming error */
        fake.left = (uint32_t)(value & 0xffff) + 1;
    } else if (fake.left > 0) {
        program(address, bits, value);
        fake.left--;
        fake.wants_confirm = fake.left == 0;
    } else {
        assert_int_equal(value & 0xff, 0xd0);
        fake.wants_confirm = false;
        fake.pending = 0;
        operation_done();
    }
}

static void first_half(uint8_t value)
{
    switch (value) {
    case 0x98:
    case 0x70:
        fake.mode = value;
        break;
    case 0xff:
        fake.mode = value;
        fake.array_count++;
        break;
    case 0x50:
        fake.status[0] = fake.status[1] = 0x80;
        break;
    case 0x20:
    case 0x40:
    case 0x60:
        fake.pending = value;
        fake.mode = 0x70;
        break;
    case 0xe8:
        fake.mode = 0x70;
        fake.status[0] = fake.buffer_busy > 0 ? 0 : 0x80;
        if (fake.buffer_busy > 0) {
            fake.buffer_busy--;
            break;
        }
        fake.pending = value;
        fake.left = UINT32_MAX;
        break;
    default:
        fail_msg("command 0x%02x", value);
    }
}

void mmio_mock_write(uintptr_t address, unsigned bits, uint64_t value)
{
    assert_int_equal(bits, fake.chips * 16);
    if (fake.is_stuck) {
        return;
    }
    if (fake.pending == 0xe8) {
        buffer_write(address, bits, value);
        return;
    }
    if (fake.pending == 0x40) {
        program(address, bits, value);
        fake.pending = 0;
        operation_done();
        return;
    }
    if (fake.chips == 2) {
        assert_int_equal(value >> 16, value & 0xffff);
    }
    if (fake.pending != 0) {
        second_half(address, (uint8_t)value);
    } else {
        first_half((uint8_t)value);
    }
}

static int setup(void **state)
{
    (void)state;
    memset(&fake, 0, sizeof(fake));
    memset(fake.memory, 0x5a, sizeof(fake.memory));
    fake.chips = 2;
    fake.answers = true;
    fake.size_log2 = 13;
    fake.block_256 = BLOCK_BYTES / 256;
    fake.command_set = 1;
    fake.mode = 0xff;
    fake.unlocked_block = UINT64_MAX;
    fake.status[0] = fake.status[1] = 0x80;
    fake.step_ns = 1000;
    return 0;
}

static struct cfi_flash cfi;

/* The bank as app would have it. */
static struct flash *open_bank(void)
{
    assert_int_equal(cfi_flash_probe(&cfi, 0, BANK_BYTES, fake.chips * 2), STATUS_OK);
    return &cfi.base;
}

static enum status finish(struct flash *flash)
{
    for (uint32_t i = 0; i < 100000; i++) {
        enum status status = flash->ops->poll(flash);
        if (status != STATUS_AGAIN) {
            return status;
        }
    }
    fail_msg("no end");
    return STATUS_AGAIN;
}

/* --- probe ------------------------------------------------------------------------------------ */

static void cfi_probe_two_chips_adds_them_up(void **state)
{
    (void)state;
    struct flash *flash = open_bank();
    assert_int_equal(flash->len_bytes, BANK_BYTES);
    assert_int_equal(flash->block_bytes, 2 * BLOCK_BYTES);
    assert_int_equal(flash->program_bytes, 128);
    assert_int_equal(cfi.command_set, 1);
    assert_int_equal(cfi.program_limit_ns, 2048 * NS_PER_US);
    assert_int_equal(cfi.erase_limit_ns, 16384 * NS_PER_MS);
    assert_int_equal(fake.mode, 0xff);
}

static void cfi_probe_one_chip_uses_16_bits(void **state)
{
    (void)state;
    fake.chips = 1;
    struct flash *flash = open_bank();
    assert_int_equal(flash->len_bytes, BANK_BYTES / 2);
    assert_int_equal(flash->program_bytes, 64);
}

static void cfi_probe_nobody_there_is_not_found(void **state)
{
    (void)state;
    fake.answers = false;
    assert_int_equal(cfi_flash_probe(&cfi, 0, BANK_BYTES, 4), STATUS_NOT_FOUND);
    assert_int_equal(fake.mode, 0xff);
    assert_null(cfi.base.ops);
}

static void cfi_probe_chips_that_disagree_are_not_found(void **state)
{
    (void)state;
    fake.chips_differ = true;
    assert_int_equal(cfi_flash_probe(&cfi, 0, BANK_BYTES, 4), STATUS_NOT_FOUND);
}

static void cfi_probe_impossible_geometry_is_bad_data(void **state)
{
    (void)state;
    fake.size_log2 = 64;
    assert_int_equal(cfi_flash_probe(&cfi, 0, UINT64_MAX, 4), STATUS_BAD_DATA);
    fake.size_log2 = 25;
    fake.block_256 = 0;
    assert_int_equal(cfi_flash_probe(&cfi, 0, UINT64_MAX, 4), STATUS_BAD_DATA);
    fake.block_256 = 3;
    assert_int_equal(cfi_flash_probe(&cfi, 0, UINT64_MAX, 4), STATUS_BAD_DATA);
}

static void cfi_probe_larger_than_what_is_mapped_is_bad_data(void **state)
{
    (void)state;
    assert_int_equal(cfi_flash_probe(&cfi, 0, BANK_BYTES - 1, 4), STATUS_BAD_DATA);
    assert_null(cfi.base.ops);
    assert_int_equal(cfi_flash_probe(&cfi, 0, BANK_BYTES, 4), STATUS_OK);
}

static void cfi_probe_odd_width_is_invalid(void **state)
{
    (void)state;
    assert_int_equal(cfi_flash_probe(&cfi, 0, BANK_BYTES, 1), STATUS_INVALID);
    assert_int_equal(cfi_flash_probe(&cfi, 0, BANK_BYTES, 8), STATUS_INVALID);
}

static void cfi_probe_other_command_set_is_read_only(void **state)
{
    (void)state;
    fake.command_set = 2;
    assert_int_equal(cfi_flash_probe(&cfi, 0, BANK_BYTES, 4), STATUS_UNSUPPORTED);
    assert_int_equal(cfi.base.len_bytes, BANK_BYTES);
    assert_null(cfi.base.ops);
}

/* --- operations ------------------------------------------------------------------------------- */

static void cfi_read_any_alignment_gives_the_bytes(void **state)
{
    (void)state;
    struct flash *flash = open_bank();
    uint8_t out[16];
    for (uint32_t i = 0; i < 64; i++) {
        fake.memory[i] = (uint8_t)i;
    }
    for (uint32_t offset = 0; offset < 8; offset++) {
        for (uint32_t length = 0; length < 12; length++) {
            memset(out, 0xee, sizeof(out));
            flash->ops->read(flash, offset, out, length);
            assert_memory_equal(out, fake.memory + offset, length);
            assert_int_equal(out[length], 0xee);
        }
    }
}

static void cfi_erase_sets_one_block_to_ones(void **state)
{
    (void)state;
    struct flash *flash = open_bank();
    uint8_t byte;
    flash->ops->erase(flash, flash->block_bytes);
    assert_int_equal(finish(flash), STATUS_OK);
    flash->ops->read(flash, flash->block_bytes - 1, &byte, 1);
    assert_int_equal(byte, 0x5a);
    flash->ops->read(flash, 2 * flash->block_bytes - 1, &byte, 1);
    assert_int_equal(byte, 0xff);
    flash->ops->read(flash, 2 * flash->block_bytes, &byte, 1);
    assert_int_equal(byte, 0x5a);
}

static void program_and_compare(struct flash *flash)
{
    uint8_t data[128];
    uint8_t back[128];
    for (uint32_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)(i * 7 + 1);
    }
    flash->ops->erase(flash, 0);
    assert_int_equal(finish(flash), STATUS_OK);
    for (uint32_t length = 4; length <= flash->program_bytes; length += 4) {
        uint32_t offset = flash->program_bytes - length;
        memset(fake.memory, 0xff, flash->program_bytes);
        flash->ops->program(flash, offset, data, length);
        assert_int_equal(finish(flash), STATUS_OK);
        flash->ops->read(flash, offset, back, length);
        assert_memory_equal(back, data, length);
    }
}

static void cfi_program_writes_each_length_in_one_piece(void **state)
{
    (void)state;
    program_and_compare(open_bank());
    assert_int_equal(fake.op_count, 1 + 32);
}

static void cfi_program_one_chip_works(void **state)
{
    (void)state;
    fake.chips = 1;
    program_and_compare(open_bank());
}

static void cfi_poll_says_again_until_the_slower_chip_is_ready(void **state)
{
    (void)state;
    struct flash *flash = open_bank();
    fake.busy_count = 3;
    flash->ops->erase(flash, 0);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(flash->ops->poll(flash), STATUS_AGAIN);
    }
    assert_int_equal(flash->ops->poll(flash), STATUS_OK);
    assert_int_equal(flash->ops->poll(flash), STATUS_OK);
}

static void cfi_error_in_either_chip_is_told_once_and_cleared(void **state)
{
    (void)state;
    static const uint8_t errors[] = {0x20, 0x10, 0x08, 0x02};
    struct flash *flash = open_bank();
    uint32_t word = 0;
    for (uint32_t chip = 0; chip < 2; chip++) {
        for (uint32_t i = 0; i < ARRAY_SIZE(errors); i++) {
            fake.error = errors[i];
            fake.error_chip = chip;
            flash->ops->program(flash, 0, &word, 4);
            assert_int_equal(finish(flash), STATUS_IO);
            assert_int_equal(finish(flash), STATUS_OK);
            flash->ops->erase(flash, 0);
            assert_int_equal(finish(flash), STATUS_OK);
        }
    }
    flash->ops->read(flash, 0, &word, 4);
    assert_int_equal(word, UINT32_MAX);
}

static void cfi_chip_that_stays_busy_times_out_with_io(void **state)
{
    (void)state;
    struct flash *flash = open_bank();
    uint32_t word = 0;
    fake.busy_count = UINT32_MAX;
    fake.step_ns = NS_PER_MS / 4;
    flash->ops->program(flash, 0, &word, 4);
    uint64_t start_ns = fake.now_ns;
    assert_int_equal(finish(flash), STATUS_IO);
    assert_in_range(fake.now_ns - start_ns, 2 * NS_PER_MS, 4 * NS_PER_MS);
    fake.busy_reads = 0;
    flash->ops->read(flash, 0, &word, 4); /* can be read again */
}

/* What it answers meanwhile is its status; once it is done it can be read. */
static void cfi_chip_that_is_done_after_its_time_can_be_read_then(void **state)
{
    (void)state;
    struct flash *flash = open_bank();
    uint32_t word = 0x11223344;
    uint32_t back = 0;
    fake.step_ns = NS_PER_MS;
    memset(fake.memory, 0xff, 8);
    flash->ops->program(flash, 0, &word, 4);
    fake.is_stuck = true;
    assert_int_equal(finish(flash), STATUS_IO);
    flash->ops->read(flash, 0, &back, 4);
    assert_int_not_equal(back, word);
    fake.is_stuck = false;
    flash->ops->read(flash, 0, &back, 4);
    assert_int_equal(back, word);
    uint32_t before = fake.array_count;
    flash->ops->read(flash, 0, &back, 4);
    assert_int_equal(fake.array_count, before);
    flash->ops->erase(flash, 0);
    assert_int_equal(finish(flash), STATUS_OK);
}

static void cfi_chip_ready_but_looked_at_late_is_ok(void **state)
{
    (void)state;
    struct flash *flash = open_bank();
    uint32_t word = 0;
    flash->ops->program(flash, 0, &word, 4);
    fake.now_ns += 3600 * NS_PER_S;
    assert_int_equal(finish(flash), STATUS_OK);
}

static void cfi_buffer_that_comes_late_is_waited_for_and_never_is_io(void **state)
{
    (void)state;
    struct flash *flash = open_bank();
    uint32_t words[2] = {0x01020304, 0x05060708};
    flash->ops->erase(flash, 0);
    assert_int_equal(finish(flash), STATUS_OK);
    fake.buffer_busy = 3;
    flash->ops->program(flash, 0, words, 8);
    assert_int_equal(finish(flash), STATUS_OK);
    fake.buffer_busy = UINT32_MAX;
    flash->ops->program(flash, 8, words, 8);
    assert_int_equal(finish(flash), STATUS_IO);
    assert_memory_equal(fake.memory, "\x04\x03\x02\x01\x08\x07\x06\x05\xff\xff\xff\xff", 12);
}

static void cfi_locked_blocks_are_unlocked_first(void **state)
{
    (void)state;
    fake.has_locks = true;
    struct flash *flash = open_bank();
    flash->ops->erase(flash, flash->block_bytes);
    assert_int_equal(finish(flash), STATUS_OK);
    assert_int_equal(fake.unlock_count, 1);
}

static void cfi_programming_piece_by_piece_does_not_go_back_to_the_array(void **state)
{
    (void)state;
    struct flash *flash = open_bank();
    uint32_t word = 0;
    uint32_t before = fake.array_count;
    for (uint32_t i = 0; i < 8; i++) {
        flash->ops->program(flash, 4 * i, &word, 4);
        assert_int_equal(finish(flash), STATUS_OK);
    }
    assert_int_equal(fake.array_count, before);
    flash->ops->read(flash, 0, &word, 4);
    flash->ops->read(flash, 4, &word, 4);
    assert_int_equal(fake.array_count, before + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(cfi_probe_two_chips_adds_them_up, setup),
        cmocka_unit_test_setup(cfi_probe_one_chip_uses_16_bits, setup),
        cmocka_unit_test_setup(cfi_probe_nobody_there_is_not_found, setup),
        cmocka_unit_test_setup(cfi_probe_chips_that_disagree_are_not_found, setup),
        cmocka_unit_test_setup(cfi_probe_impossible_geometry_is_bad_data, setup),
        cmocka_unit_test_setup(cfi_probe_larger_than_what_is_mapped_is_bad_data, setup),
        cmocka_unit_test_setup(cfi_probe_odd_width_is_invalid, setup),
        cmocka_unit_test_setup(cfi_probe_other_command_set_is_read_only, setup),
        cmocka_unit_test_setup(cfi_read_any_alignment_gives_the_bytes, setup),
        cmocka_unit_test_setup(cfi_erase_sets_one_block_to_ones, setup),
        cmocka_unit_test_setup(cfi_program_writes_each_length_in_one_piece, setup),
        cmocka_unit_test_setup(cfi_program_one_chip_works, setup),
        cmocka_unit_test_setup(cfi_poll_says_again_until_the_slower_chip_is_ready, setup),
        cmocka_unit_test_setup(cfi_error_in_either_chip_is_told_once_and_cleared, setup),
        cmocka_unit_test_setup(cfi_chip_that_stays_busy_times_out_with_io, setup),
        cmocka_unit_test_setup(cfi_chip_that_is_done_after_its_time_can_be_read_then, setup),
        cmocka_unit_test_setup(cfi_chip_ready_but_looked_at_late_is_ok, setup),
        cmocka_unit_test_setup(cfi_buffer_that_comes_late_is_waited_for_and_never_is_io, setup),
        cmocka_unit_test_setup(cfi_locked_blocks_are_unlocked_first, setup),
        cmocka_unit_test_setup(cfi_programming_piece_by_piece_does_not_go_back_to_the_array, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
