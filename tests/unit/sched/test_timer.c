#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <stdlib.h>
#include "base/bits.h"
#include "hal/clock.h"
#include "hal/native/native.h"
#include "sched/sched_priv.h"

#define TICK_NS    (UINT64_C(1) << WHEEL_TICK_SHIFT)
#define DAY_NS     (86400 * NS_PER_S)
#define TIMERS_MAX 2000

static struct timer timers[TIMERS_MAX];
static uint32_t fired[TIMERS_MAX]; /* times */
static uint32_t order[TIMERS_MAX]; /* index by order of firing */
static uint32_t fired_count;

static uint32_t index_of(const struct timer *timer)
{
    return (uint32_t)(timer - timers);
}

static void note(struct timer *timer)
{
    assert_true(clock_now_ns() >= timer->deadline_ns);
    assert_false(timer_is_armed(timer));
    fired[index_of(timer)]++;
    if (fired_count < TIMERS_MAX) {
        order[fired_count] = index_of(timer);
    }
    fired_count++;
}

static int setup_at(uint64_t now_ns)
{
    native_clock_set(now_ns);
    sched_init(1, SCHED_IDLE_POLL);
    for (uint32_t i = 0; i < TIMERS_MAX; i++) {
        timer_init(&timers[i], note);
    }
    memset(fired, 0, sizeof(fired));
    fired_count = 0;
    (void)sched_turn();
    return 0;
}

static int setup(void **state)
{
    (void)state;
    return setup_at(UINT64_C(123456789));
}

static int teardown(void **state)
{
    (void)state;
    native_clock_use_real();
    return 0;
}

static void turn_at(uint64_t now_ns)
{
    native_clock_set(now_ns);
    (void)sched_turn();
}

static void timer_arm_fires_once_within_a_tick_and_never_early(void **state)
{
    (void)state;
    uint64_t deadline_ns = clock_now_ns() + 5 * NS_PER_MS;

    timer_arm(&timers[0], deadline_ns);
    assert_true(timer_is_armed(&timers[0]));
    turn_at(deadline_ns - 1);
    assert_int_equal(fired[0], 0);
    turn_at(deadline_ns + TICK_NS);
    assert_int_equal(fired[0], 1);
    turn_at(deadline_ns + NS_PER_S);
    assert_int_equal(fired[0], 1);
}

static void timer_arm_deadline_on_a_tick_fires_at_it(void **state)
{
    (void)state;
    timer_arm(&timers[0], 70000 * TICK_NS);
    turn_at(70000 * TICK_NS - 1);
    assert_int_equal(fired[0], 0);
    turn_at(70000 * TICK_NS);
    assert_int_equal(fired[0], 1);
}

static void timer_arm_in_the_past_fires_next_turn(void **state)
{
    (void)state;
    timer_arm(&timers[0], 0);
    timer_arm(&timers[1], clock_now_ns());
    turn_at(clock_now_ns() + TICK_NS);
    assert_int_equal(fired[0], 1);
    assert_int_equal(fired[1], 1);
}

static void timer_arm_again_moves_it(void **state)
{
    (void)state;
    uint64_t start_ns = clock_now_ns();

    timer_arm(&timers[0], start_ns + NS_PER_MS);
    timer_arm(&timers[0], start_ns + 10 * NS_PER_MS);
    turn_at(start_ns + 2 * NS_PER_MS);
    assert_int_equal(fired[0], 0);
    timer_arm(&timers[0], start_ns + 3 * NS_PER_MS);
    turn_at(start_ns + 4 * NS_PER_MS);
    assert_int_equal(fired[0], 1);
}

static void timer_cancel_prevents_it(void **state)
{
    (void)state;
    timer_arm(&timers[0], clock_now_ns() + NS_PER_MS);
    timer_cancel(&timers[0]);
    assert_false(timer_is_armed(&timers[0]));
    timer_cancel(&timers[0]);
    turn_at(clock_now_ns() + NS_PER_S);
    assert_int_equal(fired[0], 0);
}

static void timer_same_tick_fires_in_order_of_arming(void **state)
{
    (void)state;
    /* Far enough that they come down through several levels, armed from different distances. */
    uint64_t deadline_ns = align_up(clock_now_ns() + NS_PER_S, TICK_NS);

    for (uint32_t i = 0; i < 30; i++) {
        if (i % 10 == 0) {
            turn_at(clock_now_ns() + 300 * NS_PER_MS);
        }
        timer_arm(&timers[i], deadline_ns);
    }
    turn_at(deadline_ns);
    assert_int_equal(fired_count, 30);
    for (uint32_t i = 0; i < 30; i++) {
        assert_int_equal(order[i], i);
    }
}

static void timer_across_every_carry_of_the_wheel_fires_in_its_tick(void **state)
{
    (void)state;
    /* Starts one tick before each digit carries, and arms over the carry. */
    for (uint32_t level = 1; level < WHEEL_LEVELS; level++) {
        uint64_t carry = BIT64(level * WHEEL_DIGIT_BITS) * TICK_NS;
        setup_at(carry - TICK_NS);
        for (uint32_t i = 0; i < 100; i++) {
            timer_arm(&timers[i], carry - TICK_NS + i * TICK_NS);
        }
        for (uint32_t i = 0; i < 100; i++) {
            turn_at(carry - TICK_NS + i * TICK_NS);
            assert_int_equal(fired_count, i + 1);
            assert_int_equal(order[i], i);
        }
    }
}

static void timer_far_deadlines_never_fire_early(void **state)
{
    (void)state;
    uint64_t start_ns = clock_now_ns();

    timer_arm(&timers[0], UINT64_MAX);
    timer_arm(&timers[1], UINT64_MAX - 1);
    timer_arm(&timers[2], start_ns + 100 * 365 * DAY_NS);
    timer_arm(&timers[3], start_ns + 30 * DAY_NS);
    turn_at(start_ns + 30 * DAY_NS - 1);
    assert_int_equal(fired_count, 0);
    turn_at(start_ns + 30 * DAY_NS + TICK_NS);
    assert_int_equal(fired[3], 1);
    turn_at(start_ns + 100 * 365 * DAY_NS + TICK_NS);
    assert_int_equal(fired[2], 1);
    assert_int_equal(fired_count, 2);
    timer_cancel(&timers[0]);
    assert_true(timer_is_armed(&timers[1]));
}

/* --- callbacks that change timers ------------------------------------------------------------ */

static void rearm_past(struct timer *timer)
{
    note(timer);
    timer_arm(timer, 0);
}

static void timer_rearm_for_the_past_in_callback_fires_once_a_turn(void **state)
{
    (void)state;
    timer_init(&timers[0], rearm_past);
    timer_arm(&timers[0], 0);
    for (uint32_t turn = 1; turn <= 5; turn++) {
        (void)sched_turn();
        assert_int_equal(fired[0], turn);
    }
}

static void rearm_in_a_ms(struct timer *timer)
{
    note(timer);
    timer_arm(timer, timer->deadline_ns + NS_PER_MS);
}

static void timer_rearm_in_callback_is_periodic(void **state)
{
    (void)state;
    uint64_t start_ns = clock_now_ns();

    timer_init(&timers[0], rearm_in_a_ms);
    timer_arm(&timers[0], start_ns + NS_PER_MS);
    for (uint64_t t = 0; t <= 100 * NS_PER_MS; t += NS_PER_MS / 4) {
        turn_at(start_ns + t);
    }
    /* The one of ms 100 may still be up to a tick away. */
    assert_in_range(fired[0], 99, 100);
}

static void cancel_next(struct timer *timer)
{
    note(timer);
    timer_cancel(timer + 1);
}

static void timer_cancel_in_callback_stops_one_due_in_the_same_turn(void **state)
{
    (void)state;
    timer_init(&timers[0], cancel_next);
    for (uint32_t i = 0; i < 3; i++) {
        timer_arm(&timers[i], clock_now_ns() + NS_PER_MS);
    }
    turn_at(clock_now_ns() + 2 * NS_PER_MS);
    assert_int_equal(fired[0], 1);
    assert_int_equal(fired[1], 0);
    assert_int_equal(fired[2], 1);
}

static void move_next(struct timer *timer)
{
    note(timer);
    timer_arm(timer + 1, clock_now_ns() + NS_PER_S);
}

static void timer_arm_in_callback_moves_one_due_in_the_same_turn(void **state)
{
    (void)state;
    timer_init(&timers[0], move_next);
    timer_arm(&timers[0], clock_now_ns() + NS_PER_MS);
    timer_arm(&timers[1], clock_now_ns() + NS_PER_MS);
    turn_at(clock_now_ns() + 2 * NS_PER_MS);
    assert_int_equal(fired[1], 0);
    turn_at(clock_now_ns() + 2 * NS_PER_S);
    assert_int_equal(fired[1], 1);
}

/* --- against a model ------------------------------------------------------------------------- */

static uint64_t random_span_ns(void)
{
    /* All magnitudes alike, from below a tick to days. */
    return ((uint64_t)(unsigned)random() << 16 | (unsigned)random() % 65536) >> (random() % 40);
}

static void timer_random_operations_agree_with_the_model(void **state)
{
    (void)state;
    static uint64_t armed_for[TIMERS_MAX]; /* 0: not armed */
    uint32_t fired_before[TIMERS_MAX] = {0};
    unsigned seed = 4711;

    srandom(seed);
    memset(armed_for, 0, sizeof(armed_for));
    for (uint32_t step = 0; step < 20000; step++) {
        uint32_t i = (uint32_t)random() % 300;
        if (random() % 5 != 0) {
            armed_for[i] = clock_now_ns() + random_span_ns();
            timer_arm(&timers[i], armed_for[i]);
        } else {
            armed_for[i] = 0;
            timer_cancel(&timers[i]);
        }
        if (random() % 3 != 0) {
            continue;
        }
        turn_at(clock_now_ns() + random_span_ns());
        for (i = 0; i < 300; i++) {
            bool did = fired[i] != fired_before[i];
            bool may = armed_for[i] != 0 && armed_for[i] <= clock_now_ns();
            bool must = armed_for[i] != 0 && armed_for[i] + TICK_NS <= clock_now_ns();
            if ((did && !may) || (must && !did) || fired[i] > fired_before[i] + 1) {
                fail_msg("seed %u step %u timer %u", seed, step, i);
            }
            if (did) {
                armed_for[i] = 0;
            }
            fired_before[i] = fired[i];
        }
    }
    assert_true(fired_count > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TIMER_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TIMER_TEST(timer_arm_fires_once_within_a_tick_and_never_early),
        TIMER_TEST(timer_arm_deadline_on_a_tick_fires_at_it),
        TIMER_TEST(timer_arm_in_the_past_fires_next_turn),
        TIMER_TEST(timer_arm_again_moves_it),
        TIMER_TEST(timer_cancel_prevents_it),
        TIMER_TEST(timer_same_tick_fires_in_order_of_arming),
        TIMER_TEST(timer_across_every_carry_of_the_wheel_fires_in_its_tick),
        TIMER_TEST(timer_far_deadlines_never_fire_early),
        TIMER_TEST(timer_rearm_for_the_past_in_callback_fires_once_a_turn),
        TIMER_TEST(timer_rearm_in_callback_is_periodic),
        TIMER_TEST(timer_cancel_in_callback_stops_one_due_in_the_same_turn),
        TIMER_TEST(timer_arm_in_callback_moves_one_due_in_the_same_turn),
        TIMER_TEST(timer_random_operations_agree_with_the_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
