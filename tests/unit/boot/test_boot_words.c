#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "boot/boot_words.c"

static void boot_take_word_present_is_blanked(void **state)
{
    (void)state;
    char config[] = "ns=ram:1G panic=halt idle=poll";
    char value[16];
    assert_true(boot_take_word(config, "panic", value, sizeof(value)));
    assert_string_equal(value, "halt");
    assert_string_equal(config, "ns=ram:1G            idle=poll");
}

static void boot_take_word_absent_changes_nothing(void **state)
{
    (void)state;
    char config[] = "ns=ram:1G nopanic=halt panic";
    char value[16] = "kept";
    assert_false(boot_take_word(config, "panic", value, sizeof(value)));
    assert_string_equal(value, "kept");
    assert_string_equal(config, "ns=ram:1G nopanic=halt panic");
}

static void boot_take_word_long_value_is_cut(void **state)
{
    (void)state;
    char config[] = "  panic=0123456789";
    char value[4];
    assert_true(boot_take_word(config, "panic", value, sizeof(value)));
    assert_string_equal(value, "012");
}

static void boot_take_word_empty_config_and_value_are_fine(void **state)
{
    (void)state;
    char empty[] = "";
    char no_value[] = "panic=";
    char value[4];
    assert_false(boot_take_word(empty, "panic", value, sizeof(value)));
    assert_true(boot_take_word(no_value, "panic", value, sizeof(value)));
    assert_string_equal(value, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(boot_take_word_present_is_blanked),
        cmocka_unit_test(boot_take_word_absent_changes_nothing),
        cmocka_unit_test(boot_take_word_long_value_is_cut),
        cmocka_unit_test(boot_take_word_empty_config_and_value_are_fine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
