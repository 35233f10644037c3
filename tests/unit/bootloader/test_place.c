#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "bootloader/place.h"

static struct place two_banks(void)
{
    struct place place = {0};
    place_add_ram(&place, 0x40000000, 0x10000000);
    place_add_ram(&place, 0x50000000, 0x10000000);
    place_take(&place, 0x40100000, 0x10000);
    place_take(&place, 0x4e000000, 0x200000);
    return place;
}

static void place_free_ram_is_free(void **state)
{
    (void)state;
    struct place place = two_banks();
    assert_true(place_is_free(&place, 0x40200000, 0x1000000));
    assert_true(place_is_free(&place, 0x40110000, 1));
    assert_true(place_is_free(&place, 0x40000000, 0x100000));
    assert_true(place_is_free(&place, 0x4e200000, 0x1e00000));
}

static void place_outside_of_ram_is_not_free(void **state)
{
    (void)state;
    struct place place = two_banks();
    assert_false(place_is_free(&place, 0, 1));
    assert_false(place_is_free(&place, 0x3fffffff, 2));
    assert_false(place_is_free(&place, 0x5fffffff, 2));
    assert_false(place_is_free(&place, 0x60000000, 1));
    assert_false(place_is_free(&place, 0x4ffff000, 0x2000)); /* over two banks */
    assert_false(place_is_free(&place, 0x40200000, UINT64_MAX));
    assert_false(place_is_free(&place, UINT64_MAX, UINT64_MAX));
    assert_false(place_is_free(&place, 0x40200000, 0));
}

static void place_that_touches_what_is_taken_is_not_free(void **state)
{
    (void)state;
    struct place place = two_banks();
    assert_false(place_is_free(&place, 0x400fffff, 2));
    assert_false(place_is_free(&place, 0x4010ffff, 1));
    assert_false(place_is_free(&place, 0x40000000, 0x10000000));
    assert_false(place_is_free(&place, 0x4e100000, 0x1000));
    assert_false(place_is_free(&place, 0x40200000, 0xde00001));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(place_free_ram_is_free),
        cmocka_unit_test(place_outside_of_ram_is_not_free),
        cmocka_unit_test(place_that_touches_what_is_taken_is_not_free),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
