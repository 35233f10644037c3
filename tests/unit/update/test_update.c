#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "update/rig.h"

#define WHO RIG_WHO

static struct update_rig rig;
static struct update_report report;

static int setup(void **state)
{
    (void)state;
    rig_init(&rig, "good");
    assert_true(rig_boot(&rig));
    assert_int_equal(rig.running, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_free(&rig);
    return 0;
}

static enum status receive(const struct test_image *image, uint32_t start, uint32_t end)
{
    return update_receive(rig.update, WHO, start, image->bytes + start, end - start);
}

static void ask(void)
{
    update_report(rig.update, &report);
}

static void never(void *ctx, enum status status)
{
    (void)ctx;
    (void)status;
    fail();
}

/* --- receiving ------------------------------------------------------------------------------- */

static void update_receive_any_order_with_overlaps_and_repeats_is_whole(void **state)
{
    (void)state;
    const struct test_image *image = rig_image("good-new");
    static const uint32_t pieces[][2] = {{4000, 6000}, {1000, 1500}, {1400, 4100}, {0, 1000},
                                         {0, 1000},    {200, 300},   {6000, 6715}, {2000, 2001}};
    assert_int_equal(image->len_bytes, 6715);
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(receive(image, pieces[i][0], pieces[i][1]), STATUS_OK);
        ask();
        assert_int_equal(report.state, UPDATE_RECEIVING);
        assert_int_equal(report.received_bytes, i < 3 ? 0 : i < 6 ? 6000 : 6715);
    }
    assert_int_equal(rig_commit(&rig, UPDATE_REPLACE, BOOT_SLOT_NONE), STATUS_OK);
    assert_true(rig_slot_holds(&rig, 1, image));
}

static void update_receive_other_start_begins_anew(void **state)
{
    (void)state;
    rig_send(&rig, rig_image("good-new"));
    assert_int_equal(receive(rig_image("good-old"), 0, 500), STATUS_OK);
    ask();
    assert_int_equal(report.received_bytes, 500);
}

static void update_receive_beyond_the_slot_is_no_space(void **state)
{
    (void)state;
    uint8_t byte = 0;
    assert_int_equal(update_receive(rig.update, WHO, RIG_SLOT_BYTES, &byte, 1), STATUS_NO_SPACE);
    assert_int_equal(update_receive(rig.update, WHO, UINT32_MAX, &byte, 1), STATUS_NO_SPACE);
    assert_int_equal(update_receive(rig.update, WHO, RIG_SLOT_BYTES - 1, &byte, 1), STATUS_OK);
    assert_int_equal(update_receive(rig.update, WHO, RIG_SLOT_BYTES, &byte, 0), STATUS_OK);
}

static void update_receive_too_many_holes_is_no_space_until_they_close(void **state)
{
    (void)state;
    const struct test_image *image = rig_image("good-new");
    for (uint32_t i = 0; i < UPDATE_EXTENTS; i++) {
        assert_int_equal(receive(image, 100 * i, 100 * i + 50), STATUS_OK);
    }
    assert_int_equal(receive(image, 5000, 5050), STATUS_NO_SPACE);
    assert_int_equal(receive(image, 50, 100), STATUS_OK);
    assert_int_equal(receive(image, 5000, 5050), STATUS_OK);
    assert_int_equal(receive(image, 0, 6715), STATUS_OK);
    ask();
    assert_int_equal(report.received_bytes, 6715);
}

/* --- what a commit may not ------------------------------------------------------------------- */

static void update_commit_refuses_what_makes_no_sense(void **state)
{
    (void)state;
    struct update *update = rig.update;
    assert_int_equal(update_commit(update, WHO, 0, 1, never, NULL), STATUS_INVALID);
    assert_int_equal(update_commit(update, WHO, 5, 1, never, NULL), STATUS_INVALID);
    assert_int_equal(update_commit(update, WHO, UPDATE_REPLACE, 2, never, NULL), STATUS_INVALID);
    assert_int_equal(update_commit(update, WHO, UPDATE_REPLACE, 1, never, NULL), STATUS_NOT_FOUND);
    assert_int_equal(update_commit(update, WHO, UPDATE_REPLACE, 0, never, NULL), STATUS_EXISTS);
    assert_int_equal(update_commit(update, WHO, UPDATE_ACTIVATE, 1, never, NULL), STATUS_NOT_FOUND);
    assert_int_equal(update_commit(update, WHO, UPDATE_ACTIVATE, BOOT_SLOT_NONE, never, NULL),
                     STATUS_NOT_FOUND);
    assert_int_equal(update_poll(update), 0);
    assert_int_equal(rig.flash.operations, 0);
}

static void update_commit_while_one_is_under_way_is_again(void **state)
{
    (void)state;
    const struct test_image *image = rig_image("good-new");
    rig_send(&rig, image);
    rig.flash.busy_polls = 3;
    assert_int_equal(rig_commit(&rig, UPDATE_REPLACE, 1), STATUS_OK);
    rig_send(&rig, image);
    assert_int_equal(update_commit(rig.update, WHO, UPDATE_REPLACE, 1, never, NULL), STATUS_OK);
    assert_int_equal(update_poll(rig.update), 1);
    assert_int_equal(update_commit(rig.update, WHO, UPDATE_ACTIVATE, 1, never, NULL), STATUS_AGAIN);
    assert_int_equal(receive(image, 0, 10), STATUS_AGAIN);
    ask();
    assert_int_equal(report.state, UPDATE_WRITING);
}

static void update_commit_bad_images_are_refused_and_leave_the_flash_alone(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < test_image_count; i++) {
        if (strncmp(test_images[i].name, "good", 4) != 0) {
            rig_send(&rig, &test_images[i]);
            assert_int_equal(rig_commit(&rig, UPDATE_REPLACE | UPDATE_ACTIVATE, BOOT_SLOT_NONE),
                             STATUS_BAD_DATA);
            ask();
            assert_int_not_equal(report.last_fault, IMAGE_OK);
            assert_int_equal(report.state, UPDATE_IDLE);
            assert_int_equal(report.received_bytes, 0);
        }
    }
    assert_int_equal(rig.flash.operations, 0);
}

static void update_commit_image_with_a_hole_is_cut(void **state)
{
    (void)state;
    const struct test_image *image = rig_image("good-new");
    assert_int_equal(receive(image, 0, 3000), STATUS_OK);
    assert_int_equal(receive(image, 3001, 6715), STATUS_OK);
    assert_int_equal(rig_commit(&rig, UPDATE_REPLACE, BOOT_SLOT_NONE), STATUS_BAD_DATA);
    ask();
    assert_int_equal(report.last_fault, IMAGE_CUT);
    assert_int_equal(receive(image, 10, 20), STATUS_OK); /* without a start */
    assert_int_equal(rig_commit(&rig, UPDATE_REPLACE, BOOT_SLOT_NONE), STATUS_BAD_DATA);
}

/* --- the life of an update ------------------------------------------------------------------- */

static void update_commit_replace_and_activate_goes_on_trial_and_is_confirmed(void **state)
{
    (void)state;
    assert_int_equal(rig_install(&rig, "good-new"), STATUS_OK);
    ask();
    assert_int_equal(report.trial, 1);
    assert_int_equal(report.active, 0);
    assert_int_equal(report.state, UPDATE_IDLE);
    assert_false(report.is_trial);
    assert_string_equal(report.record.slots[1].version, "2.0");
    assert_true(rig_boot(&rig));
    assert_int_equal(rig.running, 1);
    assert_ptr_equal(rig.image, rig_image("good-new"));
    ask();
    assert_true(report.is_trial);
    /* Neither slot may be replaced: the one runs, the other is what comes back. */
    rig_send(&rig, rig_image("good-new"));
    assert_int_equal(update_commit(rig.update, WHO, UPDATE_REPLACE, BOOT_SLOT_NONE, never, NULL),
                     STATUS_EXISTS);
    update_confirm(rig.update);
    rig_settle(&rig);
    ask();
    assert_false(report.is_trial);
    assert_int_equal(report.active, 1);
    assert_int_equal(report.record.min_security_version, 2);
    assert_true(rig_boot(&rig));
    assert_int_equal(rig.running, 1);
    assert_false(rig.is_trial);
    /* What is below it now is refused: in a slot, and as an image. */
    assert_int_equal(update_commit(rig.update, WHO, UPDATE_ACTIVATE, 0, never, NULL),
                     STATUS_BAD_DATA);
    assert_int_equal(rig_install(&rig, "good"), STATUS_BAD_DATA);
    ask();
    assert_int_equal(report.last_fault, IMAGE_TOO_OLD);
}

static void update_trial_without_confirmation_goes_back(void **state)
{
    (void)state;
    assert_int_equal(rig_install(&rig, "good-new"), STATUS_OK);
    for (uint32_t i = 0; i < BOOT_TRIAL_ATTEMPTS; i++) {
        assert_true(rig_boot(&rig));
        assert_int_equal(rig.running, 1);
        assert_true(rig.is_trial);
    }
    for (uint32_t i = 0; i < 3; i++) {
        assert_true(rig_boot(&rig));
        assert_int_equal(rig.running, 0);
        assert_false(rig.is_trial);
    }
    ask();
    assert_int_equal(report.record.slots[1].failed, 1);
    /* It may be tried again, and replaced. */
    assert_int_equal(rig_commit(&rig, UPDATE_ACTIVATE, BOOT_SLOT_NONE), STATUS_OK);
    assert_true(rig_boot(&rig));
    assert_int_equal(rig.running, 1);
    for (uint32_t i = 0; i < BOOT_TRIAL_ATTEMPTS; i++) {
        assert_true(rig_boot(&rig));
    }
    assert_int_equal(rig_install(&rig, "good-full"), STATUS_OK);
    assert_true(rig_boot(&rig));
    assert_ptr_equal(rig.image, rig_image("good-full"));
}

static void update_commit_replace_alone_starts_nothing_else(void **state)
{
    (void)state;
    rig_send(&rig, rig_image("good-new"));
    assert_int_equal(rig_commit(&rig, UPDATE_REPLACE, BOOT_SLOT_NONE), STATUS_OK);
    assert_true(rig_boot(&rig));
    assert_int_equal(rig.running, 0);
    assert_int_equal(rig_commit(&rig, UPDATE_ACTIVATE, 1), STATUS_OK);
    assert_int_equal(rig_commit(&rig, UPDATE_ACTIVATE, 0), STATUS_OK); /* taken back */
    assert_true(rig_boot(&rig));
    assert_int_equal(rig.running, 0);
    assert_int_equal(rig_commit(&rig, UPDATE_ACTIVATE, 1), STATUS_OK);
    assert_true(rig_boot(&rig));
    assert_int_equal(rig.running, 1);
}

static void update_commit_from_no_slot_takes_an_empty_one(void **state)
{
    (void)state;
    rig.running = BOOT_SLOT_NONE;
    rig.is_trial = false;
    rig_start_update(&rig);
    assert_int_equal(rig_install(&rig, "good-new"), STATUS_OK);
    ask();
    assert_int_equal(report.trial, 1);
    assert_true(rig_boot(&rig));
    assert_int_equal(rig.running, 1);
}

/* The active one rots: the other starts on trial, and may confirm. */
static void rig_boot_damaged_active_image_gives_way_to_the_other(void **state)
{
    (void)state;
    rig_send(&rig, rig_image("good-new"));
    assert_int_equal(rig_commit(&rig, UPDATE_REPLACE, BOOT_SLOT_NONE), STATUS_OK);
    rig.flash.bytes[rig.store.slot_offset[0] + 1000] ^= 0x10;
    assert_true(rig_boot(&rig));
    assert_int_equal(rig.running, 1);
    assert_true(rig.is_trial);
    update_confirm(rig.update);
    rig_settle(&rig);
    ask();
    assert_int_equal(report.active, 1);
    assert_int_equal(rig_install(&rig, "good-new"), STATUS_OK);
    assert_true(rig_boot(&rig));
    assert_int_equal(rig.running, 0);
}

/* --- a flash that fails, a store that is busy ------------------------------------------------ */

static void update_commit_flash_failing_at_each_operation_keeps_the_old_and_can_repeat(void **state)
{
    (void)state;
    enum status status = STATUS_IO;
    uint32_t n = 0;
    rig_send(&rig, rig_image("good-new"));
    while (status != STATUS_OK) {
        model_flash_power_on(&rig.flash, n);
        rig.flash.fail_at = ++n;
        status = rig_commit(&rig, UPDATE_REPLACE | UPDATE_ACTIVATE, 1);
        ask();
        assert_int_equal(report.active, 0);
        assert_int_equal(report.trial, status == STATUS_OK ? 1 : BOOT_SLOT_NONE);
        assert_true(status == STATUS_OK || status == STATUS_IO);
        assert_int_equal(report.state, status == STATUS_OK ? UPDATE_IDLE : UPDATE_RECEIVING);
    }
    assert_true(n > 30);
    model_flash_power_on(&rig.flash, 1);
    assert_true(rig_boot(&rig));
    assert_int_equal(rig.running, 1);
}

static void update_confirm_failing_flash_is_tried_three_times(void **state)
{
    (void)state;
    assert_int_equal(rig_install(&rig, "good-new"), STATUS_OK);
    assert_true(rig_boot(&rig));
    model_flash_power_on(&rig.flash, 1);
    rig.flash.fail_at = 1;
    rig.flash.fail_count = 100;
    update_confirm(rig.update);
    rig_settle(&rig);
    assert_int_equal(rig.flash.operations, 3);
    ask();
    assert_true(report.is_trial);
    model_flash_power_on(&rig.flash, 1);
    rig.flash.fail_at = 1;
    rig.flash.fail_count = 2;
    update_confirm(rig.update);
    rig_settle(&rig);
    ask();
    assert_false(report.is_trial);
}

static void update_commit_during_a_confirmation_comes_after_it(void **state)
{
    (void)state;
    assert_int_equal(rig_install(&rig, "good-new"), STATUS_OK);
    assert_true(rig_boot(&rig));
    update_confirm(rig.update);
    assert_int_equal(update_poll(rig.update), 1);
    assert_int_equal(update_poll(rig.update), 1);
    ask();
    assert_int_equal(report.state, UPDATE_RECORDING);
    /* The confirmation makes slot 0 too old, which nobody knows yet. */
    assert_int_equal(rig_commit(&rig, UPDATE_ACTIVATE, 0), STATUS_BAD_DATA);
    ask();
    assert_int_equal(report.active, 1);
    assert_int_equal(report.trial, BOOT_SLOT_NONE);
}

static void update_poll_store_busy_with_a_configuration_waits(void **state)
{
    (void)state;
    static const uint8_t tree[900] = {1, 2, 3};
    uint8_t back[900];
    uint32_t len_bytes;
    rig_send(&rig, rig_image("good-new"));
    assert_int_equal(store_write_config(&rig.store, tree, sizeof(tree)), STATUS_OK);
    assert_int_equal(update_commit(rig.update, WHO, UPDATE_REPLACE, BOOT_SLOT_NONE, never, NULL),
                     STATUS_OK);
    for (uint32_t i = 0; i < 50; i++) {
        assert_int_equal(update_poll(rig.update), 1);
    }
    assert_int_equal(rig.flash.operations, 0);
    assert_int_equal(rig_store_settle(&rig.store), STATUS_OK);
    assert_int_equal(store_read_config(&rig.store, back, sizeof(back), &len_bytes), STATUS_OK);
    assert_memory_equal(back, tree, sizeof(tree));
    uint32_t before = rig.flash.operations;
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(update_poll(rig.update), 1);
    }
    assert_true(rig.flash.operations > before);
}

/* A device that takes 9 polls for each operation: progress is told. */
static void update_report_tells_progress(void **state)
{
    (void)state;
    const struct test_image *image = rig_image("good-new");
    uint32_t last = 0;
    uint32_t steps = 0;
    rig.flash.busy_polls = 9;
    rig_send(&rig, image);
    assert_int_equal(update_commit(rig.update, WHO, UPDATE_REPLACE, 1, never, NULL), STATUS_OK);
    for (ask(); report.state != UPDATE_RECORDING; ask()) {
        assert_int_equal(update_poll(rig.update), 1);
        assert_true(report.done_bytes >= last && report.done_bytes <= image->len_bytes);
        steps += report.done_bytes > last;
        last = report.done_bytes;
    }
    assert_int_equal(report.image_bytes, image->len_bytes);
    assert_int_equal(report.done_bytes, image->len_bytes);
    assert_true(steps > 20);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(update_receive_any_order_with_overlaps_and_repeats_is_whole),
        TEST(update_receive_other_start_begins_anew),
        TEST(update_receive_beyond_the_slot_is_no_space),
        TEST(update_receive_too_many_holes_is_no_space_until_they_close),
        TEST(update_commit_refuses_what_makes_no_sense),
        TEST(update_commit_while_one_is_under_way_is_again),
        TEST(update_commit_bad_images_are_refused_and_leave_the_flash_alone),
        TEST(update_commit_image_with_a_hole_is_cut),
        TEST(update_commit_replace_and_activate_goes_on_trial_and_is_confirmed),
        TEST(update_trial_without_confirmation_goes_back),
        TEST(update_commit_replace_alone_starts_nothing_else),
        TEST(update_commit_from_no_slot_takes_an_empty_one),
        TEST(rig_boot_damaged_active_image_gives_way_to_the_other),
        TEST(update_commit_flash_failing_at_each_operation_keeps_the_old_and_can_repeat),
        TEST(update_confirm_failing_flash_is_tried_three_times),
        TEST(update_commit_during_a_confirmation_comes_after_it),
        TEST(update_poll_store_busy_with_a_configuration_waits),
        TEST(update_report_tells_progress),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
