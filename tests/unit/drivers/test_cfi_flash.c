#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#define MMIO_MOCK
#include "hal/drivers/cfi_flash.c"

/* A bank of 16-bit chips that answer the query as JESD68.01 says. */
static struct {
    uint32_t chips;
    bool answers;
    bool chips_differ;
    uint8_t size_log2;
    uint16_t block_256; /* bytes / 256 */
    bool in_query;
    bool back_to_array;
} fake;

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
        return 1;
    case 0x27:
        return fake.size_log2;
    case 0x2f:
        return (uint8_t)fake.block_256;
    case 0x30:
        return (uint8_t)(fake.block_256 >> 8);
    default:
        return 0;
    }
}

uint64_t mmio_mock_read(uintptr_t address, unsigned bits)
{
    assert_int_equal(bits, fake.chips * 16);
    uint64_t byte =
        fake.in_query && fake.answers ? answer((uint32_t)address / (2 * fake.chips)) : 0;
    return fake.chips == 1 ? byte : (byte + (fake.chips_differ ? 1 : 0)) << 16 | byte;
}

void mmio_mock_write(uintptr_t address, unsigned bits, uint64_t value)
{
    assert_int_equal(bits, fake.chips * 16);
    if (address == 0x55 * 2 * fake.chips && (value & 0xff) == 0x98) {
        assert_int_equal(value, fake.chips == 1 ? 0x98 : 0x00980098);
        fake.in_query = true;
    } else {
        fake.back_to_array = (value & 0xff) == 0xff;
        fake.in_query = false;
    }
}

static int setup(void **state)
{
    (void)state;
    memset(&fake, 0, sizeof(fake));
    fake.chips = 2;
    fake.answers = true;
    fake.size_log2 = 25;
    fake.block_256 = 0x200;
    return 0;
}

static void cfi_probe_two_chips_adds_them_up(void **state)
{
    (void)state;
    struct cfi_flash flash;
    assert_int_equal(cfi_flash_probe(&flash, 0, 4), STATUS_OK);
    assert_int_equal(flash.len_bytes, 64u << 20);
    assert_int_equal(flash.block_bytes, 256u << 10);
    assert_int_equal(flash.command_set, 1);
    assert_true(fake.back_to_array);
}

static void cfi_probe_one_chip_uses_16_bits(void **state)
{
    (void)state;
    struct cfi_flash flash;
    fake.chips = 1;
    assert_int_equal(cfi_flash_probe(&flash, 0, 2), STATUS_OK);
    assert_int_equal(flash.len_bytes, 32u << 20);
    assert_int_equal(flash.chip_count, 1);
}

static void cfi_probe_nobody_there_is_not_found(void **state)
{
    (void)state;
    struct cfi_flash flash;
    fake.answers = false;
    assert_int_equal(cfi_flash_probe(&flash, 0, 4), STATUS_NOT_FOUND);
    assert_true(fake.back_to_array);
}

static void cfi_probe_chips_that_disagree_are_not_found(void **state)
{
    (void)state;
    struct cfi_flash flash;
    fake.chips_differ = true;
    assert_int_equal(cfi_flash_probe(&flash, 0, 4), STATUS_NOT_FOUND);
}

static void cfi_probe_impossible_geometry_is_bad_data(void **state)
{
    (void)state;
    struct cfi_flash flash;
    fake.size_log2 = 64;
    assert_int_equal(cfi_flash_probe(&flash, 0, 4), STATUS_BAD_DATA);
    fake.size_log2 = 25;
    fake.block_256 = 0;
    assert_int_equal(cfi_flash_probe(&flash, 0, 4), STATUS_BAD_DATA);
}

static void cfi_probe_odd_width_is_invalid(void **state)
{
    (void)state;
    struct cfi_flash flash;
    assert_int_equal(cfi_flash_probe(&flash, 0, 1), STATUS_INVALID);
    assert_int_equal(cfi_flash_probe(&flash, 0, 8), STATUS_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(cfi_probe_two_chips_adds_them_up, setup),
        cmocka_unit_test_setup(cfi_probe_one_chip_uses_16_bits, setup),
        cmocka_unit_test_setup(cfi_probe_nobody_there_is_not_found, setup),
        cmocka_unit_test_setup(cfi_probe_chips_that_disagree_are_not_found, setup),
        cmocka_unit_test_setup(cfi_probe_impossible_geometry_is_bad_data, setup),
        cmocka_unit_test_setup(cfi_probe_odd_width_is_invalid, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
