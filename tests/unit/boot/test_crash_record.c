#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <stdlib.h>
#include "boot/crash_record.c"
#include "hal/clock.h"

/* The memory that a warm reset keeps. */
struct crash_record __warm_start[1];

static uint32_t clean_count;
static uint32_t line_count;

void arch_cache_clean(const void *base, size_t len_bytes)
{
    assert_ptr_equal(base, __warm_start);
    assert_int_equal(len_bytes, sizeof(struct crash_record));
    clean_count++;
}

uint32_t arch_backtrace(const struct arch_regs *regs, uint64_t *pcs, uint32_t max_count)
{
    for (uint32_t i = 0; i < max_count; i++) {
        pcs[i] = regs->pc + i;
    }
    return max_count;
}

static const struct arch_regs regs = {.pc = 0x40200000, .far = 0x10};

static int setup(void **state)
{
    (void)state;
    clean_count = 0;
    line_count = 0;
    memset(__warm_start, 0xa5, sizeof(__warm_start));
    assert_int_equal(crash_record_start(), CRASH_START_POWER_ON);
    return 0;
}

static void crash_record_after_power_on_is_empty(void **state)
{
    (void)state;
    assert_null(crash_record_previous());
    assert_int_equal(crash_record_start_count(), 1);
    assert_int_equal(clean_count, 1);
}

static void crash_record_after_reset_counts_starts(void **state)
{
    (void)state;
    assert_int_equal(crash_record_start(), CRASH_START_WARM);
    assert_int_equal(crash_record_start(), CRASH_START_WARM);
    assert_int_equal(crash_record_start_count(), 3);
    assert_null(crash_record_previous());
}

static void crash_record_after_panic_is_handed_over_once(void **state)
{
    (void)state;
    crash_record_write("it broke", &regs, 2, 1234, 1000);
    assert_int_equal(crash_record_start(), CRASH_START_PANIC);
    const struct crash_record *crash = crash_record_previous();
    assert_non_null(crash);
    assert_string_equal(crash->text, "it broke");
    assert_int_equal(crash->core, 2);
    assert_int_equal(crash->time_ns, 1234);
    assert_int_equal(crash->panic_count, 1);
    assert_int_equal(crash->frame_count, CRASH_RECORD_FRAMES);
    assert_int_equal(crash->frames[1], 0x40200001);
    assert_int_equal(crash->regs.far, 0x10);
    assert_int_equal(crash_record_start(), CRASH_START_WARM);
    assert_null(crash_record_previous());
}

static void crash_record_with_any_bit_wrong_is_power_on(void **state)
{
    (void)state;
    crash_record_write("it broke", &regs, 0, 1, 0);
    struct crash_record good = __warm_start[0];
    for (size_t bit = 0; bit < sizeof(good) * 8; bit++) {
        __warm_start[0] = good;
        ((uint8_t *)__warm_start)[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(crash_record_start(), CRASH_START_POWER_ON);
        assert_null(crash_record_previous());
    }
}

static void crash_record_counts_early_panics_in_a_row(void **state)
{
    (void)state;
    for (uint32_t i = 1; i <= 3; i++) {
        assert_int_equal(crash_record_write("early", &regs, 0, 999, 1000), i);
        assert_int_equal(crash_record_start(), CRASH_START_PANIC);
    }
    assert_int_equal(crash_record_write("late", &regs, 0, 1000, 1000), 0);
    assert_int_equal(crash_record_start(), CRASH_START_PANIC);
    assert_int_equal(crash_record_write("early", &regs, 0, 999, 1000), 1);
    assert_int_equal(crash_record_start(), CRASH_START_PANIC);
    assert_int_equal(crash_record_start(), CRASH_START_WARM); /* a good run ends the row */
    assert_int_equal(crash_record_write("early", &regs, 0, 999, 1000), 1);
    assert_int_equal(__warm_start[0].panic_count, 6);
}

static void crash_record_long_text_is_cut(void **state)
{
    (void)state;
    char text[400];
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    crash_record_write(text, &regs, 0, 1, 0);
    assert_int_equal(crash_record_start(), CRASH_START_PANIC);
    assert_int_equal(strlen(crash_record_previous()->text), CRASH_RECORD_TEXT_BYTES - 1);
}

static void count_line(const char *bytes, size_t len_bytes)
{
    assert_true(len_bytes > 0 && bytes[len_bytes - 1] == '\n');
    line_count++;
}

static uint32_t core_0(void)
{
    return 0;
}

static void crash_record_log_tells_only_a_panic(void **state)
{
    (void)state;
    const struct log_sink sink = {.write = count_line, .now_ns = clock_now_ns, .core = core_0};
    log_set_sink(&sink);
    crash_record_log();
    assert_int_equal(line_count, 0);
    crash_record_write("it broke", &regs, 0, 1, 0);
    assert_int_equal(crash_record_start(), CRASH_START_PANIC);
    crash_record_log();
    assert_true(line_count >= 4);
    log_set_sink(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(crash_record_after_power_on_is_empty, setup),
        cmocka_unit_test_setup(crash_record_after_reset_counts_starts, setup),
        cmocka_unit_test_setup(crash_record_after_panic_is_handed_over_once, setup),
        cmocka_unit_test_setup(crash_record_with_any_bit_wrong_is_power_on, setup),
        cmocka_unit_test_setup(crash_record_counts_early_panics_in_a_row, setup),
        cmocka_unit_test_setup(crash_record_long_text_is_cut, setup),
        cmocka_unit_test_setup(crash_record_log_tells_only_a_panic, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
