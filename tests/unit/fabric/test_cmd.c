/*
 * The switch's commands: what they set, what they refuse, that a refused one changes nothing.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "fabric/rig.h"

static const struct fabric_fault *fault_of(uint32_t port, enum fabric_dir dir)
{
    return &fabric.ports[port].stages[dir].fault;
}

static void fault_all_settings_arrive(void **state)
{
    (void)state;
    assert_true(rig_command("fault b.eth out only=roce loss=1% lose_next=2 corrupt=0.5% "
                            "corrupt_bits=3 ecn=2500ppm dup=100% reorder=0.0001% "
                            "reorder_frames=4 reorder_us=5 delay_us=6"));
    const struct fabric_fault want = {.only = FABRIC_ONLY_ROCE,
                                      .loss_ppm = 10000,
                                      .lose_next = 2,
                                      .corrupt_ppm = 5000,
                                      .corrupt_bits = 3,
                                      .ecn_ppm = 2500,
                                      .dup_ppm = 1000000,
                                      .reorder_ppm = 1,
                                      .reorder_frames = 4,
                                      .reorder_us = 5,
                                      .delay_us = 6};
    assert_memory_equal(fault_of(1, FABRIC_OUT), &want, sizeof(want));
    assert_int_equal(fault_of(1, FABRIC_IN)->loss_ppm, 0);
    assert_int_equal(fault_of(0, FABRIC_OUT)->loss_ppm, 0);
}

static void fault_changes_only_what_it_names(void **state)
{
    (void)state;
    assert_true(rig_command("fault all both loss=1%"));
    assert_true(rig_command("fault a.eth in dup=2%"));
    assert_int_equal(fault_of(0, FABRIC_IN)->loss_ppm, 10000);
    assert_int_equal(fault_of(0, FABRIC_IN)->dup_ppm, 20000);
    assert_int_equal(fault_of(2, FABRIC_OUT)->loss_ppm, 10000);
    assert_int_equal(fault_of(2, FABRIC_OUT)->dup_ppm, 0);
    assert_true(rig_command("fault a.eth both none"));
    assert_int_equal(fault_of(0, FABRIC_IN)->loss_ppm, 0);
    assert_int_equal(fault_of(0, FABRIC_IN)->corrupt_bits, 1);
    assert_int_equal(fault_of(1, FABRIC_IN)->loss_ppm, 10000);
    assert_true(rig_command("fault a.eth both none loss=3%"));
    assert_int_equal(fault_of(0, FABRIC_OUT)->loss_ppm, 30000);
}

static void fault_refused_changes_nothing(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "loss",
        "loss=",
        "loss=1",
        "loss=101%",
        "loss=-1%",
        "loss=nan%",
        "loss=1000001ppm",
        "loss=1%%",
        "corrupt_bits=0",
        "corrupt_bits=65",
        "reorder_frames=0",
        "reorder_frames=65",
        "reorder_us=0",
        "delay_us=-1",
        "delay_us=10000001",
        "delay_us=5ms",
        "only=",
        "only=tcp",
        "speed=1",
        "=1%",
        "lose_next=4294967296",
        "NONE",
    };
    char line[CTL_LINE_BYTES];

    for (uint32_t i = 0; i < ARRAY_SIZE(bad); i++) {
        snprintf(line, sizeof(line), "fault all both dup=5%% %s", bad[i]);
        assert_false(rig_command(line));
        for (uint32_t port = 0; port < RIG_STATIONS; port++) {
            assert_int_equal(fault_of(port, FABRIC_IN)->dup_ppm, 0);
            assert_int_equal(fault_of(port, FABRIC_OUT)->dup_ppm, 0);
        }
    }
}

static void command_that_is_none_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        " ",
        "status2",
        "fault",
        "fault a.eth",
        "fault a.eth in",
        "fault d.eth in loss=1%",
        "fault a.eth up loss=1%",
        "seed",
        "seed x",
        "seed -1",
        "seed 1 2",
        "cut",
        "cut d.eth",
        "cut a.eth d.eth",
        "cut a.eth b.eth c.eth",
        "join",
        "join x",
        "capture",
        "capture a.eth",
        "capture d.eth x",
        "capture all x",
        "a b c d e f g h i j k l m n o p q r",
    };

    for (uint32_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_false(rig_command(bad[i]));
    }
    assert_false(fabric.quit);
}

static void seed_starts_the_generator_anew(void **state)
{
    (void)state;
    assert_true(rig_command("seed 0x10"));
    assert_int_equal(rig_status("addresses"), 0);
    assert_true(fabric.seed == 16);
    uint64_t first = fabric_random(&fabric.rng);
    assert_true(rig_command("seed 16"));
    assert_true(fabric_random(&fabric.rng) == first);
}

static void zero_clears_the_counters_and_keeps_the_faults(void **state)
{
    (void)state;
    assert_true(rig_command("fault a.eth in loss=100%"));
    rig_send(0, 1, 1, 60);
    assert_int_equal(rig_status("a.eth.in.lost"), 1);
    assert_int_equal(rig_status("a.eth.in.frames"), 1);
    assert_true(rig_command("zero"));
    assert_int_equal(rig_status("a.eth.in.lost"), 0);
    assert_int_equal(rig_status("a.eth.in.frames"), 0);
    assert_int_equal(fault_of(0, FABRIC_IN)->loss_ppm, FABRIC_PPM);
}

static void answer_longer_than_its_buffer_is_cut(void **state)
{
    (void)state;
    char line[] = "status";
    char answer[100];

    memset(answer, 'x', sizeof(answer));
    fabric_cmd(&fabric, line, answer, sizeof(answer));
    assert_true(strlen(answer) < sizeof(answer));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(fault_all_settings_arrive),
        TEST(fault_changes_only_what_it_names),
        TEST(fault_refused_changes_nothing),
        TEST(command_that_is_none_is_refused),
        TEST(seed_starts_the_generator_anew),
        TEST(zero_clears_the_counters_and_keeps_the_faults),
        TEST(answer_longer_than_its_buffer_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
