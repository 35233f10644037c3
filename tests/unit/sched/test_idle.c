#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <sched.h>
#include <stdlib.h>
#include <time.h>
#include "hal/clock.h"
#include "hal/cpu.h"
#include "hal/native/native.h"
#include "sched/sched.h"

static void run_reactor(void *arg)
{
    (void)arg;
    sched_run();
}

static int setup(void **state)
{
    (void)state;
    native_cpu_set_count(2);
    sched_init(2, SCHED_IDLE_ADAPTIVE);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    native_clock_use_real();
    sched_stop();
    native_cpu_join();
    return 0;
}

static void start_core_1(void)
{
    assert_int_equal(cpu_start(1, run_reactor, NULL), STATUS_OK);
}

/* Spins so that the other side is caught at all points of its way to sleep (20 us of polling
 * first). */
static void random_pause(void)
{
    uint64_t end_ns = clock_now_ns() + 10 * NS_PER_US + (uint64_t)random() % (30 * NS_PER_US);
    while (clock_now_ns() < end_ns) {
        cpu_relax();
    }
}

/* Waits until *counter reaches `value`; false after some seconds: the wake-up was lost for good,
 * since the sleeping core has no deadline. */
static bool wait_for(_Atomic uint32_t *counter, uint32_t value)
{
    uint64_t end_ns = clock_now_ns() + 10 * NS_PER_S;
    while (atomic_load_explicit(counter, memory_order_acquire) != value) {
        if (clock_now_ns() > end_ns) {
            return false;
        }
        sched_yield();
    }
    return true;
}

/* --- messages against sleep ------------------------------------------------------------------ */

#define WAKES 8000

static _Atomic uint32_t answers;

static void answer(struct msg *msg)
{
    (void)msg;
    atomic_fetch_add_explicit(&answers, 1, memory_order_release);
}

static void msg_send_to_a_core_falling_asleep_is_never_lost(void **state)
{
    (void)state;
    struct msg msg = {.fn = answer};
    atomic_store(&answers, 0);
    start_core_1();
    srandom(1);
    for (uint32_t i = 1; i <= WAKES; i++) {
        msg_send(1, &msg);
        if (!wait_for(&answers, i)) {
            fail_msg("message %u never ran", i);
        }
        random_pause();
    }
    assert_true(sched_stats(1).sleep_count > WAKES / 20);
}

/* --- a device against sleep --------------------------------------------------------------------
 */

/* A doorbell as a trapped one: whoever rings stores, and wakes the core if it is armed. */
static _Atomic uint32_t doorbell;
static _Atomic uint32_t doorbell_seen;
static _Atomic bool doorbell_armed;

static uint32_t doorbell_run(void *ctx)
{
    (void)ctx;
    uint32_t now = atomic_load_explicit(&doorbell, memory_order_acquire);
    if (now == atomic_load_explicit(&doorbell_seen, memory_order_relaxed)) {
        return 0;
    }
    atomic_store_explicit(&doorbell_seen, now, memory_order_release);
    return 1;
}

static uint64_t doorbell_arm(void *ctx, bool armed)
{
    (void)ctx;
    atomic_store(&doorbell_armed, armed); /* then look again; partner: ring() */
    return atomic_load(&doorbell) != atomic_load(&doorbell_seen) ? 0 : UINT64_MAX;
}

static void ring(uint32_t value)
{
    atomic_store(&doorbell, value); /* then look whether it is armed; partner: doorbell_arm() */
    if (atomic_load(&doorbell_armed)) {
        cpu_wake(1);
    }
}

static void poller_arm_doorbell_rung_while_falling_asleep_is_never_lost(void **state)
{
    (void)state;
    static struct poller poller = {.name = "bell", .run = doorbell_run, .arm = doorbell_arm};
    atomic_store(&doorbell, 0);
    atomic_store(&doorbell_seen, 0);
    sched_poller_add_to(1, &poller);
    start_core_1();
    srandom(2);
    for (uint32_t i = 1; i <= WAKES; i++) {
        ring(i);
        if (!wait_for(&doorbell_seen, i)) {
            fail_msg("ring %u was never seen", i);
        }
        random_pause();
    }
    assert_true(sched_stats(1).sleep_count > WAKES / 20);
}

/* --- arm and disarm ----------------------------------------------------------------------------
 */

struct armed_probe {
    struct poller poller;
    uint64_t limit_ns;
    uint32_t arms;
    uint32_t disarms;
};

static uint32_t nothing_to_do(void *ctx)
{
    (void)ctx;
    return 0;
}

static uint64_t probe_arm(void *ctx, bool armed)
{
    struct armed_probe *probe = ctx;
    assert_int_equal(probe->arms - probe->disarms, armed ? 0 : 1);
    if (armed) {
        probe->arms++;
    } else {
        probe->disarms++;
    }
    return probe->limit_ns;
}

static void stop(struct timer *timer)
{
    (void)timer;
    sched_stop();
}

/* Runs core 0 alone for `duration_ns`. */
static void run_for(uint64_t duration_ns)
{
    struct timer end;
    timer_init(&end, stop);
    timer_arm(&end, clock_now_ns() + duration_ns);
    sched_run();
}

static void poller_arm_limits_bound_the_sleep(void **state)
{
    (void)state;
    static struct armed_probe probes[2];
    probes[0] = (struct armed_probe){.limit_ns = NS_PER_MS};
    probes[1] = (struct armed_probe){.limit_ns = UINT64_MAX};
    for (uint32_t i = 0; i < 2; i++) {
        probes[i].poller = (struct poller){
            .name = "probe", .run = nothing_to_do, .arm = probe_arm, .ctx = &probes[i]};
        sched_poller_add(&probes[i].poller);
    }
    run_for(50 * NS_PER_MS);
    /* Slow machines sleep longer, never shorter. */
    assert_in_range(sched_stats(0).sleep_count, 2, 52);
    assert_in_range(probes[0].arms, sched_stats(0).sleep_count, sched_stats(0).sleep_count + 2);
    assert_int_equal(probes[0].arms, probes[0].disarms);
    assert_int_equal(probes[1].arms, probes[1].disarms);
}

static void poller_arm_that_finds_work_prevents_sleep(void **state)
{
    (void)state;
    static struct armed_probe probes[2];
    probes[0] = (struct armed_probe){.limit_ns = 0};
    probes[1] = (struct armed_probe){.limit_ns = UINT64_MAX};
    for (uint32_t i = 0; i < 2; i++) {
        probes[i].poller = (struct poller){
            .name = "probe", .run = nothing_to_do, .arm = probe_arm, .ctx = &probes[i]};
        sched_poller_add(&probes[i].poller);
    }
    run_for(2 * NS_PER_MS);
    assert_int_equal(sched_stats(0).sleep_count, 0);
    assert_true(probes[0].arms > 0);
    assert_int_equal(probes[0].arms, probes[0].disarms);
    assert_int_equal(probes[1].arms, 0);
}

/* --- what idling costs -------------------------------------------------------------------------
 */

static uint64_t cpu_time_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static void sched_run_idle_adaptive_uses_hardly_any_cpu(void **state)
{
    (void)state;
    uint64_t cpu_ns = cpu_time_ns();
    uint64_t wall_ns = clock_now_ns();
    run_for(200 * NS_PER_MS);
    assert_true(clock_now_ns() - wall_ns >= 200 * NS_PER_MS);
    assert_true(cpu_time_ns() - cpu_ns < 40 * NS_PER_MS);
    assert_in_range(sched_stats(0).sleep_count, 1, 20);
    assert_true(sched_stats(0).sleep_ns > 150 * NS_PER_MS);
}

static void sched_run_idle_poll_never_sleeps(void **state)
{
    (void)state;
    sched_init(1, SCHED_IDLE_POLL);
    run_for(5 * NS_PER_MS);
    assert_int_equal(sched_stats(0).sleep_count, 0);
    assert_true(sched_stats(0).turn_count > 100);
}

static void timer_wakes_a_sleeping_core_in_order_of_deadlines(void **state)
{
    (void)state;
    static struct timer far; /* armed first, never fires: must not hold back the near one */
    timer_init(&far, stop);
    timer_arm(&far, clock_now_ns() + 3600 * NS_PER_S);
    uint64_t start_ns = clock_now_ns();
    run_for(10 * NS_PER_MS);
    assert_true(clock_now_ns() - start_ns >= 10 * NS_PER_MS);
    assert_true(timer_is_armed(&far));
}

static void sched_stop_ends_a_sleeping_core(void **state)
{
    (void)state;
    for (int i = 0; i < 200; i++) {
        sched_init(2, SCHED_IDLE_ADAPTIVE);
        start_core_1();
        random_pause();
        sched_stop();
        native_cpu_join();
    }
}

/* --- cpu_idle itself -----------------------------------------------------------------------------
 */

static void cpu_idle_remembers_one_wake(void **state)
{
    (void)state;
    cpu_idle(0); /* takes the wake of an earlier sched_stop() */
    cpu_wake(0);
    cpu_wake(0);
    cpu_idle(UINT64_MAX); /* returns at once */
    uint64_t start_ns = clock_now_ns();
    cpu_idle(start_ns + 5 * NS_PER_MS); /* the second wake was not counted apart */
    assert_true(clock_now_ns() >= start_ns + 5 * NS_PER_MS);
}

static void cpu_idle_deadline_passed_returns_at_once(void **state)
{
    (void)state;
    uint64_t start_ns = clock_now_ns();
    cpu_idle(0);
    cpu_idle(start_ns);
    assert_true(clock_now_ns() - start_ns < NS_PER_S);
}

static void cpu_idle_with_a_standing_clock_jumps_to_the_deadline(void **state)
{
    (void)state;
    cpu_idle(0); /* takes the wake of an earlier sched_stop() */
    native_clock_set(1000);
    cpu_idle(24 * 3600 * NS_PER_S);
    assert_int_equal(clock_now_ns(), 24 * 3600 * NS_PER_S);
    cpu_wake(0);
    cpu_idle(48 * 3600 * NS_PER_S); /* woken before: no time passes */
    assert_int_equal(clock_now_ns(), 24 * 3600 * NS_PER_S);
    native_clock_use_real();
}

static void cpu_start_refuses_what_is_not_there(void **state)
{
    (void)state;
    assert_int_equal(cpu_start(0, run_reactor, NULL), STATUS_INVALID);
    assert_int_equal(cpu_start(2, run_reactor, NULL), STATUS_INVALID);
    start_core_1();
    assert_int_equal(cpu_start(1, run_reactor, NULL), STATUS_EXISTS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define IDLE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        IDLE_TEST(msg_send_to_a_core_falling_asleep_is_never_lost),
        IDLE_TEST(poller_arm_doorbell_rung_while_falling_asleep_is_never_lost),
        IDLE_TEST(poller_arm_limits_bound_the_sleep),
        IDLE_TEST(poller_arm_that_finds_work_prevents_sleep),
        IDLE_TEST(sched_run_idle_adaptive_uses_hardly_any_cpu),
        IDLE_TEST(sched_run_idle_poll_never_sleeps),
        IDLE_TEST(timer_wakes_a_sleeping_core_in_order_of_deadlines),
        IDLE_TEST(cpu_idle_with_a_standing_clock_jumps_to_the_deadline),
        IDLE_TEST(sched_stop_ends_a_sleeping_core),
        IDLE_TEST(cpu_idle_remembers_one_wake),
        IDLE_TEST(cpu_idle_deadline_passed_returns_at_once),
        IDLE_TEST(cpu_start_refuses_what_is_not_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
