#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "hal/clock.h"
#include "hal/native/native.h"
#include "sched/sched.h"

/* A poller that gives out its work, and does something to the table once. */
struct probe {
    struct poller poller;
    uint32_t work;
    uint32_t runs;
    struct poller *remove; /* in its next turn */
    struct poller *add;
    uint64_t takes_ns;
};

static struct probe probes[LIMIT_POLLERS_PER_CORE];

static uint32_t probe_run(void *ctx)
{
    struct probe *probe = ctx;
    probe->runs++;
    if (probe->remove != NULL) {
        sched_poller_remove(probe->remove);
        probe->remove = NULL;
    }
    if (probe->add != NULL) {
        sched_poller_add(probe->add);
        probe->add = NULL;
    }
    if (probe->takes_ns != 0) {
        native_clock_advance(probe->takes_ns);
    }
    return probe->work;
}

static int setup(void **state)
{
    (void)state;
    native_clock_set(1000);
    sched_init(2, SCHED_IDLE_POLL);
    memset(probes, 0, sizeof(probes));
    for (uint32_t i = 0; i < LIMIT_POLLERS_PER_CORE; i++) {
        probes[i].poller = (struct poller){.name = "probe", .run = probe_run, .ctx = &probes[i]};
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    native_clock_use_real();
    return 0;
}

static void sched_turn_runs_each_poller_once_and_sums_the_work(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        probes[i].work = i;
        sched_poller_add(&probes[i].poller);
    }
    assert_int_equal(sched_turn(), 3);
    assert_int_equal(sched_turn(), 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(probes[i].runs, 2);
        assert_int_equal(probes[i].poller.run_count, 2);
        assert_int_equal(probes[i].poller.work_count, 2 * i);
    }
    assert_int_equal(sched_stats(0).turn_count, 2);
    assert_int_equal(sched_stats(0).busy_turn_count, 2);
}

static void sched_turn_without_work_is_not_busy(void **state)
{
    (void)state;
    sched_poller_add(&probes[0].poller);
    assert_int_equal(sched_turn(), 0);
    assert_int_equal(sched_stats(0).turn_count, 1);
    assert_int_equal(sched_stats(0).busy_turn_count, 0);
}

static void sched_poller_remove_itself_in_its_turn_lets_others_run(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        sched_poller_add(&probes[i].poller);
    }
    probes[1].remove = &probes[1].poller;
    probes[1].work = 5;
    assert_int_equal(sched_turn(), 5);
    assert_int_equal(sched_turn(), 0);
    assert_int_equal(probes[0].runs, 2);
    assert_int_equal(probes[1].runs, 1);
    assert_int_equal(probes[2].runs, 2);
}

static void sched_poller_remove_next_in_a_turn_keeps_it_from_running(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        sched_poller_add(&probes[i].poller);
    }
    probes[0].remove = &probes[1].poller;
    (void)sched_turn();
    assert_int_equal(probes[1].runs, 0);
    assert_int_equal(probes[2].runs, 1);
}

static void sched_poller_remove_earlier_in_a_turn_runs_the_rest_once(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        sched_poller_add(&probes[i].poller);
    }
    probes[1].remove = &probes[0].poller;
    (void)sched_turn();
    (void)sched_turn();
    assert_int_equal(probes[0].runs, 1);
    assert_int_equal(probes[1].runs, 2);
    assert_int_equal(probes[2].runs, 2);
}

static void sched_poller_add_in_a_turn_runs_from_then_on(void **state)
{
    (void)state;
    sched_poller_add(&probes[0].poller);
    probes[0].add = &probes[1].poller;
    (void)sched_turn();
    (void)sched_turn();
    assert_in_range(probes[1].runs, 1, 2);
    assert_int_equal(probes[0].runs, 2);
}

static void sched_poller_remove_unknown_is_harmless(void **state)
{
    (void)state;
    sched_poller_add(&probes[0].poller);
    sched_poller_remove(&probes[1].poller);
    (void)sched_turn();
    assert_int_equal(probes[0].runs, 1);
}

static void sched_poller_add_uses_the_hole_of_a_removed_one(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < LIMIT_POLLERS_PER_CORE; i++) {
        sched_poller_add(&probes[i].poller);
    }
    for (uint32_t round = 0; round < 100; round++) {
        struct poller *poller = &probes[round % LIMIT_POLLERS_PER_CORE].poller;
        sched_poller_remove(poller);
        sched_poller_add(poller);
    }
    (void)sched_turn();
    for (uint32_t i = 0; i < LIMIT_POLLERS_PER_CORE; i++) {
        assert_int_equal(probes[i].runs, 1);
    }
}

static void count_visits(const struct poller *poller, void *ctx)
{
    assert_string_equal(poller->name, "probe");
    (*(uint32_t *)ctx)++;
}

static void sched_visit_pollers_sees_those_of_one_core(void **state)
{
    (void)state;
    uint32_t visits = 0;
    sched_poller_add(&probes[0].poller);
    sched_poller_add(&probes[1].poller);
    sched_poller_add_to(1, &probes[2].poller);
    sched_poller_remove(&probes[0].poller);

    sched_visit_pollers(0, count_visits, &visits);
    assert_int_equal(visits, 1);
    sched_visit_pollers(1, count_visits, &visits);
    assert_int_equal(visits, 2);
    sched_visit_pollers(77, count_visits, &visits);
    assert_int_equal(visits, 2);
}

static void poller_busy_ns_estimates_the_time_of_busy_turns(void **state)
{
    (void)state;
    probes[0].work = 1;
    probes[0].takes_ns = 1000;
    probes[1].work = 1;
    probes[1].takes_ns = 3000;
    probes[2].takes_ns = 500; /* time without work does not count */
    for (uint32_t i = 0; i < 3; i++) {
        sched_poller_add(&probes[i].poller);
    }
    for (uint32_t i = 0; i < 6100; i++) {
        (void)sched_turn();
    }
    assert_in_range(probes[0].poller.busy_ns, 6000000, 6200000);
    assert_in_range(probes[1].poller.busy_ns, 18000000, 18600000);
    assert_int_equal(probes[2].poller.busy_ns, 0);
}

static void sched_now_ns_is_the_time_of_the_turn(void **state)
{
    (void)state;
    native_clock_set(5000);
    (void)sched_turn();
    native_clock_set(6000);
    assert_int_equal(sched_now_ns(), 5000);
    (void)sched_turn();
    assert_int_equal(sched_now_ns(), 6000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define POLLER_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        POLLER_TEST(sched_turn_runs_each_poller_once_and_sums_the_work),
        POLLER_TEST(sched_turn_without_work_is_not_busy),
        POLLER_TEST(sched_poller_remove_itself_in_its_turn_lets_others_run),
        POLLER_TEST(sched_poller_remove_next_in_a_turn_keeps_it_from_running),
        POLLER_TEST(sched_poller_remove_earlier_in_a_turn_runs_the_rest_once),
        POLLER_TEST(sched_poller_add_in_a_turn_runs_from_then_on),
        POLLER_TEST(sched_poller_remove_unknown_is_harmless),
        POLLER_TEST(sched_poller_add_uses_the_hole_of_a_removed_one),
        POLLER_TEST(sched_visit_pollers_sees_those_of_one_core),
        POLLER_TEST(poller_busy_ns_estimates_the_time_of_busy_turns),
        POLLER_TEST(sched_now_ns_is_the_time_of_the_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
