/*
 * Confirmation, watchdog and configuration in flash, under the standing clock.
 */
#include "app/handover.h"
#include "app/rig.h"

#include <string.h>
#include "app/update.h"
#include "base/crc.h"
#include "hal/native/native.h"
#include "tests/model/flash.h"
#include "update/boot_state.h"

#define BLOCK_BYTES 4096u
#define FLASH_BYTES (4 * BLOCK_BYTES + 2 * 65536)

static struct model_flash flash;
static uint32_t feed_count;

static void feed(struct watchdog *watchdog)
{
    (void)watchdog;
    feed_count++;
}

static const struct watchdog_ops ops = {.feed = feed};
static struct watchdog watchdog = {.ops = &ops};

static void settle(struct store *store)
{
    enum status status;
    do {
        status = store_poll(store);
    } while (status == STATUS_AGAIN);
    assert_int_equal(status, STATUS_OK);
}

/* Slot 0 is active, slot 1 on trial and runs, with a watchdog. */
static void start(uint32_t cores)
{
    struct store store;
    const struct boot_image_head head = {.security_version = 1, .version = "1.0"};

    rig_start(0, 0, RIG_POOL_BYTES, "");
    sched_init(cores, SCHED_IDLE_POLL);
    model_flash_init(&flash, FLASH_BYTES, BLOCK_BYTES, 256);
    assert_int_equal(store_open(&store, &flash.flash), STATUS_OK);
    struct boot_record record = store.record;
    boot_state_end_write(&record, 0, 1000, &head);
    boot_state_end_write(&record, 1, 1000, &head);
    assert_int_equal(boot_state_activate(&record, 0), STATUS_OK);
    assert_true(boot_state_confirm(&record, 0));
    assert_int_equal(boot_state_activate(&record, 1), STATUS_OK);
    assert_int_equal(store_write_record(&store, &record), STATUS_OK);
    settle(&store);

    feed_count = 0;
    rig.board.name = "test";
    rig.board.flash = &flash.flash;
    rig.board.watchdog = &watchdog;
    rig.board.handoff =
        (struct boot_handoff){.magic = BOOT_HANDOFF_MAGIC, .slot = 1, .is_trial = 1, .watchdog = 1};
    app_update_open(&rig.board);
}

static int teardown(void **state)
{
    (void)state;
    model_flash_free(&flash);
    rig_stop();
    return 0;
}

static void update_trial_that_serves_is_confirmed(void **state)
{
    (void)state;
    start(1);
    app_update_start();
    rig_advance(NS_PER_S);
    assert_int_equal(app_update_store()->record.active, 0);
    app_update_serving();
    rig_advance(NS_PER_S);
    assert_int_equal(app_update_store()->record.active, 1);
    assert_int_equal(app_update_store()->record.trial, BOOT_SLOT_NONE);
}

static void update_trial_that_never_serves_is_not_confirmed(void **state)
{
    (void)state;
    start(1);
    app_update_start();
    rig_advance(40 * NS_PER_S);
    assert_int_equal(app_update_store()->record.active, 0);
    assert_int_equal(app_update_store()->record.trial, 1);
    assert_non_null(strstr(rig.log, "does not serve"));
}

static void update_trial_whose_volumes_stay_away_is_confirmed_after_30_s(void **state)
{
    (void)state;
    static const char tree[] =
        "/dts-v1/; / { compatible = \"snic,config\";"
        " subsystems { t0: a { nqn = \"nqn.2014-08.org.example:a\"; address = \"192.0.2.1\"; }; };"
        " volumes { v0: v { paths { path@0 { reg = <0>; subsystem = <&t0>; nsid = <1>; }; }; }; };"
        " functions { function@0 { reg = <0>; namespace@1 { reg = <1>; volume = <&v0>; }; }; }; };";
    start(1);
    rig_tree(tree);
    app_update_start();
    app_update_serving();
    app.fabrics_due = 1; /* the volumes are not even made */
    rig_advance(29 * NS_PER_S);
    assert_int_equal(app_update_store()->record.active, 0);
    rig_advance(2 * NS_PER_S);
    assert_int_equal(app_update_store()->record.active, 1);
}

static void update_watchdog_is_fed_each_second(void **state)
{
    (void)state;
    start(1);
    app_update_start();
    rig_advance(10 * NS_PER_S);
    assert_in_range(feed_count, 9, 11);
}

static void update_watchdog_starves_while_another_core_does_not_turn(void **state)
{
    (void)state;
    start(2);
    app_update_start();
    rig_advance(10 * NS_PER_S);
    assert_int_equal(feed_count, 1); /* before it was known */
    assert_non_null(strstr(rig.log, "core 1 does not turn"));
    native_cpu_become(1);
    rig_turn();
    native_cpu_become(0);
    rig_advance(2 * NS_PER_S);
    assert_int_equal(feed_count, 2);
}

static void update_watchdog_that_nobody_started_is_left_alone(void **state)
{
    (void)state;
    start(1);
    rig.board.handoff.watchdog = 0;
    app_update_start();
    rig_advance(3 * NS_PER_S);
    assert_int_equal(feed_count, 0);
}

static void update_configuration_in_flash_is_copied_out(void **state)
{
    (void)state;
    _Alignas(8) uint8_t tree[1000];
    uint32_t bytes = 0;
    start(1);
    assert_null(app_update_config_tree(&bytes));
    for (uint32_t i = 0; i < sizeof(tree); i++) {
        tree[i] = (uint8_t)i;
    }
    assert_int_equal(store_write_config(app_update_store(), tree, sizeof(tree)), STATUS_OK);
    settle(app_update_store());
    app_update_open(&rig.board);
    const void *copy = app_update_config_tree(&bytes);
    assert_non_null(copy);
    assert_int_equal(bytes, sizeof(tree));
    assert_memory_equal(copy, tree, sizeof(tree));
}

static jmp_buf was_reset;

/* True: the board was reset meanwhile. */
static bool resets_within(uint64_t duration_ns)
{
    rig.on_reset = &was_reset;
    if (setjmp(was_reset) != 0) {
        rig.on_reset = NULL;
        return true;
    }
    rig_advance(duration_ns);
    rig.on_reset = NULL;
    return false;
}

/* The flash does not end what confirms the image. */
static void start_stuck(void)
{
    start(1);
    app_update_start();
    flash.busy_polls = UINT32_MAX;
    update_confirm(app_update_get());
    rig_turn();
}

static void restart_waits_for_its_time_and_the_flash(void **state)
{
    (void)state;
    start_stuck();
    app_restart(100 * NS_PER_MS);
    assert_false(resets_within(2 * NS_PER_S));
    flash.busy_polls = 0;
    flash.left_polls = 0;
    assert_true(resets_within(100 * NS_PER_MS));
    assert_int_equal(app_update_store()->record.active, 1); /* it is confirmed */
}

static void restart_of_an_idle_board_comes_in_time(void **state)
{
    (void)state;
    start(1);
    app_update_start();
    app_restart(100 * NS_PER_MS);
    app_restart(0);
    assert_false(resets_within(98 * NS_PER_MS));
    assert_true(resets_within(4 * NS_PER_MS));
}

static void restart_waits_no_more_than_a_minute(void **state)
{
    (void)state;
    start_stuck();
    app_restart(0);
    assert_false(resets_within(59 * NS_PER_S));
    assert_true(resets_within(2 * NS_PER_S));
}

/* Once hosts may wait for the restart, nothing puts it off. */
static void restart_lets_nothing_more_into_flash(void **state)
{
    (void)state;
    start(1);
    app_update_start();
    assert_true(app_update_may_begin());
    app_update_serving();
    app_restart(600 * NS_PER_MS);
    assert_false(app_update_may_begin());
    assert_int_equal(app_hand_over(0), STATUS_AGAIN);
    assert_false(resets_within(500 * NS_PER_MS)); /* the time to confirm has come */
    assert_int_equal(app_update_store()->record.active, 0);
    assert_true(resets_within(200 * NS_PER_MS));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, teardown)
    const struct CMUnitTest tests[] = {
        TEST(update_trial_that_serves_is_confirmed),
        TEST(update_trial_that_never_serves_is_not_confirmed),
        TEST(update_trial_whose_volumes_stay_away_is_confirmed_after_30_s),
        TEST(update_watchdog_is_fed_each_second),
        TEST(update_watchdog_starves_while_another_core_does_not_turn),
        TEST(update_watchdog_that_nobody_started_is_left_alone),
        TEST(update_configuration_in_flash_is_copied_out),
        TEST(restart_waits_for_its_time_and_the_flash),
        TEST(restart_of_an_idle_board_comes_in_time),
        TEST(restart_waits_no_more_than_a_minute),
        TEST(restart_lets_nothing_more_into_flash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
