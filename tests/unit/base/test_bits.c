#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/bits.h"
#include "base/crc.h"
#include "base/status.h"

static void crc32_check_string_gives_the_published_value(void **state)
{
    (void)state;
    assert_int_equal(crc32_update(0, "123456789", 9), 0xcbf43926);
    assert_int_equal(crc32_update(0, "", 0), 0);
}

static void crc32_in_pieces_equals_whole(void **state)
{
    (void)state;
    uint8_t bytes[200];
    for (uint32_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)(i * 7);
    }
    uint32_t whole = crc32_update(0, bytes, sizeof(bytes));
    for (size_t cut = 0; cut <= sizeof(bytes); cut++) {
        uint32_t crc = crc32_update(0, bytes, cut);
        assert_int_equal(crc32_update(crc, bytes + cut, sizeof(bytes) - cut), whole);
    }
}

static void crc32_any_flipped_bit_changes_it(void **state)
{
    (void)state;
    uint8_t bytes[16] = {1, 2, 3};
    uint32_t right = crc32_update(0, bytes, sizeof(bytes));
    for (uint32_t bit = 0; bit < sizeof(bytes) * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_not_equal(crc32_update(0, bytes, sizeof(bytes)), right);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void status_text_names_each_and_survives_others(void **state)
{
    (void)state;
    assert_string_equal(status_text(STATUS_OK), "done");
    assert_string_equal(status_text(STATUS_CANCELLED), "ended by a cancel, reset or fence");
    assert_string_equal(status_text((enum status)999), "unknown status");
}

static void range_fits_does_not_wrap(void **state)
{
    (void)state;
    assert_true(range_fits(0, 10, 10));
    assert_true(range_fits(10, 0, 10));
    assert_false(range_fits(1, 10, 10));
    assert_false(range_fits(UINT64_MAX, 2, 10));
    assert_false(range_fits(5, UINT64_MAX, 10));
}

#define PROBE_SHIFT 4
#define PROBE_BITS  3

static void field_get_and_prep_cut_to_the_width(void **state)
{
    (void)state;
    assert_int_equal(FIELD_GET(PROBE, 0xffffffff), 7);
    assert_int_equal(FIELD_GET(PROBE, 0x50), 5);
    assert_int_equal(FIELD_PREP(PROBE, 0xf), 0x70);
}

static void align_helpers_round_to_powers_of_two(void **state)
{
    (void)state;
    assert_int_equal(align_up(1, 4096), 4096);
    assert_int_equal(align_up(4096, 4096), 4096);
    assert_int_equal(align_down(4097, 4096), 4096);
    assert_true(is_aligned(0, 8));
    assert_false(is_aligned(9, 8));
    assert_true(is_power_of_two(64));
    assert_false(is_power_of_two(0));
    assert_false(is_power_of_two(96));
    assert_int_equal(lowest_bit(0x8000000000000000u), 63);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc32_check_string_gives_the_published_value),
        cmocka_unit_test(crc32_in_pieces_equals_whole),
        cmocka_unit_test(crc32_any_flipped_bit_changes_it),
        cmocka_unit_test(status_text_names_each_and_survives_others),
        cmocka_unit_test(range_fits_does_not_wrap),
        cmocka_unit_test(field_get_and_prep_cut_to_the_width),
        cmocka_unit_test(align_helpers_round_to_powers_of_two),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
