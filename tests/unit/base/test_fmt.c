/*
 * fmt_vsnprintf() against the C library's vsnprintf(): the same text and length for everything that
 * fmt.h claims, cut or whole.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/fmt.h"

#define ROOM 160

/* Both into a buffer of `room` bytes, which must not be exceeded. */
static void compare_in(size_t room, const char *format, va_list args)
{
    char ours[ROOM + 1], theirs[ROOM + 1];
    va_list again;

    memset(ours, '~', sizeof(ours));
    memset(theirs, '~', sizeof(theirs));
    va_copy(again, args);
    int want = vsnprintf(theirs, room, format, again);
    va_end(again);
    va_copy(again, args);
    int have = fmt_vsnprintf(ours, room, format, again);
    va_end(again);
    if (want != have || memcmp(ours, theirs, sizeof(ours)) != 0) {
        fail_msg("\"%s\" in %zu bytes: \"%s\" (%d), but libc: \"%s\" (%d)", format, room,
                 room > 0 ? ours : "", have, room > 0 ? theirs : "", want);
    }
}

static void compare(const char *format, ...) PRINTF_LIKE(1, 2);

static void compare(const char *format, ...)
{
    static const size_t rooms[] = {0, 1, 2, 5, 12, ROOM};
    va_list args;

    va_start(args, format);
    for (size_t i = 0; i < ARRAY_SIZE(rooms); i++) {
        compare_in(rooms[i], format, args);
    }
    va_end(args);
}

static int print(char *text, size_t text_bytes, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int len = fmt_vsnprintf(text, text_bytes, format, args);
    va_end(args);
    return len;
}

/* The formats are made here: the compiler cannot look at them. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat"
#pragma GCC diagnostic ignored "-Wformat-security"
#pragma GCC diagnostic ignored "-Wformat-nonliteral"

static const char *const widths[] = {"", "1", "3", "12", "30"};
static const char *const precisions[] = {"", ".", ".0", ".1", ".5", ".25"};

/* Every combination of flags, widths and precisions of `length` and `letter`, for 64-bit `value`
 * or what an int has of it. */
static void compare_number(const char *flags, const char *length, char letter, uint64_t value)
{
    for (uint32_t mask = 0; mask < 1u << strlen(flags); mask++) {
        char chosen[8];
        uint32_t count = 0;
        for (uint32_t i = 0; flags[i] != '\0'; i++) {
            if ((mask >> i & 1) != 0) {
                chosen[count++] = flags[i];
            }
        }
        chosen[count] = '\0';
        for (size_t w = 0; w < ARRAY_SIZE(widths); w++) {
            for (size_t p = 0; p < ARRAY_SIZE(precisions); p++) {
                char format[40];
                snprintf(format, sizeof(format), "<%%%s%s%s%s%c|%%u>", chosen, widths[w],
                         precisions[p], length, letter);
                if (length[0] == '\0' || length[0] == 'h') {
                    compare(format, (unsigned)value, 7u);
                } else {
                    compare(format, (unsigned long long)value, 7u);
                }
            }
        }
    }
}

static const uint64_t values[] = {0,
                                  1,
                                  9,
                                  10,
                                  127,
                                  128,
                                  255,
                                  256,
                                  32768,
                                  65535,
                                  INT_MAX,
                                  1u << 31,
                                  UINT_MAX,
                                  INT64_MAX,
                                  (uint64_t)1 << 63,
                                  65537,
                                  0x89abcdef,
                                  UINT64_MAX,
                                  UINT64_MAX - 9};
static const char *const lengths[] = {"", "hh", "h", "l", "ll", "j", "z", "t"};

static void vsnprintf_numbers_are_those_of_libc(void **state)
{
    (void)state;
    for (size_t l = 0; l < ARRAY_SIZE(lengths); l++) {
        for (size_t v = 0; v < ARRAY_SIZE(values); v++) {
            compare_number("-0+ ", lengths[l], 'd', values[v]);
            compare_number("-0", lengths[l], 'i', values[v]);
            compare_number("-0", lengths[l], 'u', values[v]);
            compare_number("-0#", lengths[l], 'x', values[v]);
            compare_number("-0#", lengths[l], 'X', values[v]);
        }
    }
}

static void vsnprintf_unknown_conversion_is_copied_with_the_rest(void **state)
{
    (void)state;
    static const char *const formats[] = {"a %q %u", "a %5.3q %u", "a %", "a %08l"};
    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        char text[32];
        const char *format = formats[i];
        assert_int_equal(print(text, sizeof(text), format, 1u), strlen(format));
        assert_string_equal(text, format);
    }
}

#pragma GCC diagnostic pop

static void vsnprintf_text_is_that_of_libc(void **state)
{
    (void)state;
    static const char unended[3] = {'a', 'b', 'c'};

    compare("%s", "");
    compare("%s and %s", "one", "two");
    compare("<%10s|%-10s|%.2s|%10.2s|%-10.2s>", "text", "text", "text", "text", "text");
    compare("<%.*s|%*s|%-*s>", 2, "text", 9, "text", 9, "text");
    compare("<%*s|%.*s>", -9, "text", -1, "text");
    compare("<%.3s>", unended); /* no zero is looked for behind the precision */
    compare("<%c%c|%4c|%-4c>", 'a', 0xe4, 'b', 'c');
    compare("100%% of %s %%", "it");
    compare("%p %20p|%-20p|", (const void *)state, (const void *)state, (const void *)state);
}

static void vsnprintf_many_arguments_come_in_order(void **state)
{
    (void)state;
    compare("%u %llu %s %x %c %d %zu %hhx %lu %lld %s %02x%02x%02x", 1u, 2ull, "three", 4u, '5', -6,
            (size_t)7, (unsigned char)8, 9ul, -10ll, "eleven", 12u, 13u, 14u);
}

static void vsnprintf_no_text_is_said_so(void **state)
{
    (void)state;
    char text[8];
    assert_int_equal(print(text, sizeof(text), "%.9s", (const char *)NULL), 6);
    assert_string_equal(text, "(null)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vsnprintf_numbers_are_those_of_libc),
        cmocka_unit_test(vsnprintf_text_is_that_of_libc),
        cmocka_unit_test(vsnprintf_many_arguments_come_in_order),
        cmocka_unit_test(vsnprintf_unknown_conversion_is_copied_with_the_rest),
        cmocka_unit_test(vsnprintf_no_text_is_said_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
