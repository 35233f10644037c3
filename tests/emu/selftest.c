#include "selftest.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "base/bits.h"
#include "base/log.h"
#include "hal/arch/aarch64/pmu.h"
#include "hal/arch.h"
#include "hal/clock.h"
#include "hal/console.h"
#include "hal/cpu.h"

static uint32_t fail_count;

void selftest_check(bool holds, const char *name, const char *format, ...)
{
    char detail[128];
    va_list args;

    va_start(args, format);
    vsnprintf(detail, sizeof(detail), format, args);
    va_end(args);
    fail_count += holds ? 0 : 1;
    LOG_INFO("selftest: %s %s: %s", holds ? "ok" : "FAIL", name, detail);
}

/* --- memory ------------------------------------------------------------------------------------
 */

void selftest_memory(const struct board *board)
{
    uint64_t *first = board->pool_base;
    uint64_t *last = first + board->pool_bytes / sizeof(*last) - 1;
    char bytes[16];
    uint64_t value = UINT64_C(0x0123456789abcdef);

    *first = 1;
    *last = 2;
    selftest_check(*first == 1 && *last == 2, "memory_pool_ends_hold_data", "%llu MiB",
                   (unsigned long long)(board->pool_bytes >> 20));
    selftest_check(is_aligned((uintptr_t)first, 2u << 20), "memory_pool_is_aligned", "%p",
                   (void *)first);
    for (int i = 0; i < 1000; i++) { /* newlib's copies are unaligned: only normal memory allows */
        memmove(bytes + 1, &value, sizeof(value));
    }
    selftest_check(memcmp(bytes + 1, &value, sizeof(value)) == 0, "memory_unaligned_copy_works",
                   "0x%02x", (unsigned)bytes[1]);
    char text[32];
    snprintf(text, sizeof(text), "%zu %llu %hhx %s", (size_t)7, 1ull << 63, (unsigned char)0xfe,
             "x");
    selftest_check(strcmp(text, "7 9223372036854775808 fe x") == 0, "libc_formats_are_complete",
                   "'%s'", text);
    void *block = malloc(4096);
    void *too_much = malloc(64u << 20);
    selftest_check(block != NULL && too_much == NULL && errno == ENOMEM, "heap_is_bounded", "%p",
                   block);
    free(block);
    selftest_check(board->rng_seed != NULL && board->rng_seed_bytes >= 32,
                   "rng_seed_is_handed_over", "%u bytes", (unsigned)board->rng_seed_bytes);
    enum status again = arch_map(align_down((uintptr_t)first, 4096), 4096, ARCH_MAP_DEVICE);
    selftest_check(again == STATUS_EXISTS, "map_twice_is_refused", "%s", status_text(again));
    enum status odd = arch_map(UINT64_C(0x7f12345000), 123, ARCH_MAP_MEMORY);
    selftest_check(odd == STATUS_INVALID, "map_unaligned_is_refused", "%s", status_text(odd));
    enum status far = arch_map(UINT64_C(1) << 48, 4096, ARCH_MAP_MEMORY);
    selftest_check(far == STATUS_INVALID, "map_beyond_48_bits_is_refused", "%s", status_text(far));
}

/* --- time --------------------------------------------------------------------------------------
 */

#define ALARM_LATE_MAX_NS    (200 * NS_PER_MS) /* wall clock of a busy machine */
#define ALARM_LATE_ICOUNT_NS (20 * NS_PER_US)

static bool has_word(const struct board *board, const char *word)
{
    return strstr(board->config, word) != NULL;
}

void selftest_time(const struct board *board)
{
    /* Ticks read outside and inside of the nanoseconds: whatever interrupts us, they bracket them.
     */
    uint64_t khz = SYSREG_READ(cntfrq_el0) / 1000;
    uint64_t outer = SYSREG_READ(cntvct_el0);
    uint64_t start_ns = clock_now_ns();
    uint64_t inner = SYSREG_READ(cntvct_el0);
    clock_delay_ns(20 * NS_PER_MS);
    inner = SYSREG_READ(cntvct_el0) - inner;
    uint64_t elapsed_ns = clock_now_ns() - start_ns;
    outer = SYSREG_READ(cntvct_el0) - outer;
    selftest_check(elapsed_ns >= 20 * NS_PER_MS && elapsed_ns + 100 >= inner * 1000000 / khz &&
                       elapsed_ns <= outer * 1000000 / khz + 100,
                   "clock_follows_the_counter", "%llu ns for %llu ticks",
                   (unsigned long long)elapsed_ns, (unsigned long long)inner);

    uint64_t limit_ns = has_word(board, "icount") ? ALARM_LATE_ICOUNT_NS : ALARM_LATE_MAX_NS;
    uint64_t worst_ns = 0;
    bool early = false;
    cpu_idle(0); /* takes a wake that is still remembered */
    for (uint32_t i = 1; i <= 10; i++) {
        uint64_t deadline_ns = clock_now_ns() + i * 137 * NS_PER_US;
        cpu_idle(deadline_ns);
        uint64_t now_ns = clock_now_ns();
        early |= now_ns < deadline_ns;
        worst_ns = max_u64(worst_ns, now_ns - deadline_ns);
    }
    selftest_check(!early, "idle_deadline_is_not_early", "10 alarms");
    selftest_check(worst_ns <= limit_ns, "idle_deadline_is_kept", "at most %llu ns late",
                   (unsigned long long)worst_ns);

    start_ns = clock_now_ns();
    cpu_wake(cpu_self());
    cpu_idle(UINT64_MAX);
    cpu_idle(start_ns); /* passed */
    cpu_idle(0);
    elapsed_ns = clock_now_ns() - start_ns;
    selftest_check(elapsed_ns < ALARM_LATE_MAX_NS, "idle_with_wake_remembered_returns_at_once",
                   "%llu ns", (unsigned long long)elapsed_ns);
}

void selftest_pmu(const struct board *board)
{
    (void)board;
    uint32_t counts[2];
    for (int i = 0; i < 2; i++) {
        uint64_t turns = 100000;
        pmu_start();
        uint32_t before = pmu_instructions();
        __asm__ volatile("1: subs %0, %0, #1\n b.ne 1b" : "+r"(turns)::"cc");
        counts[i] = pmu_instructions() - before;
    }
    /* QEMU adds a few where it leaves its translated code between the two readings. */
    selftest_check(counts[0] - 200000 < 16 && counts[1] - 200000 < 16, "pmu_counts_are_exact",
                   "%u and %u instructions", (unsigned)counts[0], (unsigned)counts[1]);
}

/* --- choice ------------------------------------------------------------------------------------
 */

static const struct {
    const char *name;
    void (*run)(const struct board *board);
} tests[] = {
    {"memory", selftest_memory},   {"cores", selftest_cores},   {"time", selftest_time},
    {"devices", selftest_devices}, {"pmu", selftest_pmu},       {"idle", selftest_idle},
    {"faults", selftest_faults},   {"drives", selftest_drives}, {"eth", selftest_eth},
    {"hang", selftest_hang},
};

static bool wanted(const char *list, const char *name)
{
    size_t length = strlen(name);
    for (const char *at = strstr(list, name); at != NULL; at = strstr(at + 1, name)) {
        if ((at[-1] == '=' || at[-1] == ',') &&
            (at[length] == ',' || at[length] == ' ' || at[length] == '\0')) {
            return true;
        }
    }
    return false;
}

/* test=NAME[,NAME...] */
void app_main(const struct board *board)
{
    const char *list = strstr(board->config, "test=");

    if (list == NULL) {
        LOG_INFO("selftest: nothing to do: bootargs have no test=");
        board_exit(2);
    }
    if (wanted(list, "panic")) {
        selftest_panic_once();
    }
    for (uint32_t i = 0; i < ARRAY_SIZE(tests); i++) {
        if (wanted(list, tests[i].name)) {
            tests[i].run(board);
        }
    }
    LOG_INFO("selftest: end, %u failed", (unsigned)fail_count);
    board_exit(fail_count == 0 ? 0 : 1);
}
