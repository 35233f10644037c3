#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "bootloader/choose.h"
#include "tests/model/flash.h"
#include "update/boot_state.h"

#define BLOCK_BYTES 1024u
#define FLASH_BYTES (4 * BLOCK_BYTES + 2 * 4096)

static struct {
    struct model_flash flash;
    struct store store;
    bool is_good[BOOT_SLOT_COUNT]; /* what loading finds */
    bool is_read_lost;             /* from the next load on */
    uint32_t load_count[BOOT_SLOT_COUNT];
    uint32_t written_at_load; /* flash operations before the last load */
    uint32_t least;           /* that the last load was told */
} rig;

static enum image_fault load(void *ctx, uint8_t slot, uint32_t min_security_version,
                             struct choose_image *image)
{
    assert_ptr_equal(ctx, &rig);
    assert_true(slot < BOOT_SLOT_COUNT);
    rig.load_count[slot]++;
    rig.written_at_load = rig.flash.operations;
    rig.least = min_security_version;
    if (rig.is_read_lost) {
        rig.flash.is_unreadable = true;
    }
    if (!rig.is_good[slot] || rig.flash.is_unreadable) {
        return IMAGE_BAD_HASH;
    }
    image->fit_bytes = 1000;
    image->head = (struct boot_image_head){.security_version = 3, .version = "1.0"};
    return IMAGE_OK;
}

static struct choice choose(void)
{
    model_flash_power_on(&rig.flash, 1);
    assert_int_equal(store_open(&rig.store, &rig.flash.flash), STATUS_OK);
    return choose_slot(&rig.store, load, &rig);
}

static void settle(const struct boot_record *record)
{
    enum status status = store_write_record(&rig.store, record);
    while (status == STATUS_AGAIN || (status == STATUS_OK && rig.store.state != 0)) {
        status = store_poll(&rig.store);
    }
    assert_int_equal(status, STATUS_OK);
}

/* Both slots hold an image; one is active, one on trial. */
static void have_record(uint8_t active, uint8_t trial)
{
    struct boot_record record = rig.store.record;
    const struct boot_image_head head = {.security_version = 2, .version = "0.9"};
    for (uint8_t slot = 0; slot < BOOT_SLOT_COUNT; slot++) {
        boot_state_end_write(&record, slot, 1000, &head);
    }
    if (active != BOOT_SLOT_NONE) {
        assert_int_equal(boot_state_activate(&record, active), STATUS_OK);
        assert_true(boot_state_confirm(&record, active));
    }
    if (trial != BOOT_SLOT_NONE) {
        assert_int_equal(boot_state_activate(&record, trial), STATUS_OK);
    }
    settle(&record);
}

static int setup(void **state)
{
    (void)state;
    memset(&rig, 0, sizeof(rig));
    model_flash_init(&rig.flash, FLASH_BYTES, BLOCK_BYTES, 256);
    rig.is_good[0] = rig.is_good[1] = true;
    return store_open(&rig.store, &rig.flash.flash) == STATUS_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    model_flash_free(&rig.flash);
    return 0;
}

static void choose_new_flash_takes_a_and_makes_it_active(void **state)
{
    (void)state;
    struct choice choice = choose();
    assert_int_equal(choice.slot, 0);
    assert_false(choice.is_trial);
    assert_int_equal(rig.load_count[1], 0);
    assert_true(rig.store.has_record);
    assert_int_equal(rig.store.record.active, 0);
    assert_int_equal(rig.store.record.slots[0].image_bytes, 1000);
    assert_string_equal(rig.store.record.slots[0].version, "1.0");
    assert_int_equal(rig.store.record.min_security_version, 3);
    choice = choose(); /* the second start changes nothing */
    assert_int_equal(choice.slot, 0);
    assert_int_equal(rig.flash.operations, 0);
}

static void choose_new_flash_with_bad_a_takes_b(void **state)
{
    (void)state;
    rig.is_good[0] = false;
    assert_int_equal(choose().slot, 1);
    assert_int_equal(rig.store.record.active, 1);
}

static void choose_new_flash_without_images_takes_none_and_writes_nothing(void **state)
{
    (void)state;
    rig.is_good[0] = rig.is_good[1] = false;
    assert_int_equal(choose().slot, BOOT_SLOT_NONE);
    assert_int_equal(rig.flash.operations, 0);
}

static void choose_new_flash_that_takes_no_record_starts_all_the_same(void **state)
{
    (void)state;
    for (uint32_t at = 1; at <= 2; at++) {
        model_flash_power_on(&rig.flash, at);
        rig.flash.fail_at = at;
        rig.flash.fail_count = 1000;
        assert_int_equal(store_open(&rig.store, &rig.flash.flash), STATUS_OK);
        assert_int_equal(choose_slot(&rig.store, load, &rig).slot, 0);
        assert_false(rig.store.has_record);
    }
}

static void choose_active_is_started_without_a_write(void **state)
{
    (void)state;
    have_record(1, BOOT_SLOT_NONE);
    struct choice choice = choose();
    assert_int_equal(choice.slot, 1);
    assert_false(choice.is_trial);
    assert_int_equal(rig.flash.operations, 0);
    assert_int_equal(rig.least, 2);
}

static void choose_trial_is_counted_in_flash_before_it_is_loaded(void **state)
{
    (void)state;
    have_record(0, 1);
    for (uint32_t left = BOOT_TRIAL_ATTEMPTS; left-- > 0;) {
        struct choice choice = choose();
        assert_int_equal(choice.slot, 1);
        assert_true(choice.is_trial);
        assert_int_equal(choice.attempts_left, left);
        assert_int_not_equal(rig.written_at_load, 0);
        assert_int_equal(rig.store.record.attempts_left, left);
    }
    struct choice choice = choose();
    assert_int_equal(choice.slot, 0);
    assert_false(choice.is_trial);
    assert_int_equal(rig.store.record.slots[1].failed, 1);
    assert_int_equal(rig.store.record.trial, BOOT_SLOT_NONE);
}

static void choose_trial_that_cannot_be_counted_is_left_out(void **state)
{
    (void)state;
    have_record(0, 1);
    rig.flash.fail_count = 1000;
    model_flash_power_on(&rig.flash, 1);
    rig.flash.fail_at = 1;
    rig.flash.fail_count = 1000;
    assert_int_equal(store_open(&rig.store, &rig.flash.flash), STATUS_OK);
    struct choice choice = choose_slot(&rig.store, load, &rig);
    assert_int_equal(choice.slot, 0);
    assert_false(choice.is_trial);
    assert_int_equal(rig.load_count[1], 0);
}

/* It could end and start without end. */
static void choose_only_trial_that_cannot_be_counted_is_not_started(void **state)
{
    (void)state;
    have_record(BOOT_SLOT_NONE, 1);
    model_flash_power_on(&rig.flash, 1);
    rig.flash.fail_at = 1;
    rig.flash.fail_count = 1000;
    assert_int_equal(store_open(&rig.store, &rig.flash.flash), STATUS_OK);
    assert_int_equal(choose_slot(&rig.store, load, &rig).slot, BOOT_SLOT_NONE);
    assert_int_equal(rig.load_count[1], 0);
}

static void choose_bad_trial_is_rejected_at_once(void **state)
{
    (void)state;
    have_record(0, 1);
    rig.is_good[1] = false;
    struct choice choice = choose();
    assert_int_equal(choice.slot, 0);
    assert_false(choice.is_trial);
    assert_int_equal(rig.store.record.slots[1].image_bytes, 0);
    choose();
    assert_int_equal(rig.load_count[1], 1); /* not tried again */
}

static void choose_bad_active_is_followed_by_a_trial_of_the_other(void **state)
{
    (void)state;
    have_record(0, BOOT_SLOT_NONE);
    rig.is_good[0] = false;
    struct choice choice = choose();
    assert_int_equal(choice.slot, 1);
    assert_true(choice.is_trial);
    assert_int_equal(rig.store.record.active, BOOT_SLOT_NONE);
    assert_int_equal(rig.store.record.slots[0].image_bytes, 0);
}

static void choose_two_bad_ones_end_in_none_for_ever(void **state)
{
    (void)state;
    have_record(0, 1);
    rig.is_good[0] = rig.is_good[1] = false;
    assert_int_equal(choose().slot, BOOT_SLOT_NONE);
    assert_int_equal(rig.load_count[0], 1);
    assert_int_equal(rig.load_count[1], 1);
    rig.is_good[0] = rig.is_good[1] = true; /* the record knows better */
    assert_int_equal(choose().slot, BOOT_SLOT_NONE);
}

static void choose_flash_that_cannot_be_read_rejects_nothing(void **state)
{
    (void)state;
    for (uint8_t trial = 0; trial < 2; trial++) {
        teardown(NULL);
        setup(NULL);
        have_record(0, trial == 0 ? BOOT_SLOT_NONE : 1);
        rig.is_read_lost = true;
        assert_int_equal(choose().slot, BOOT_SLOT_NONE);
        assert_int_equal(rig.flash.operations, trial == 0 ? 0 : 2); /* an attempt is counted */
        rig.is_read_lost = false;
        rig.flash.is_unreadable = false;
        assert_int_equal(choose().slot, trial);
        assert_int_equal(rig.store.record.slots[0].failed, 0);
        assert_int_equal(rig.store.record.slots[1].failed, 0);
    }
}

static void choose_power_cut_at_each_operation_never_loses_both(void **state)
{
    (void)state;
    for (uint32_t kind = 0; kind < 4; kind++) {
        for (uint32_t cut_at = 1; cut_at < 20; cut_at++) {
            teardown(NULL);
            setup(NULL);
            have_record(0, 1);
            rig.is_good[1] = kind % 2 == 0;
            rig.is_good[0] = kind < 2;
            model_flash_power_on(&rig.flash, cut_at);
            rig.flash.cut_at = cut_at;
            assert_int_equal(store_open(&rig.store, &rig.flash.flash), STATUS_OK);
            (void)choose_slot(&rig.store, load, &rig);
            struct choice choice = choose();
            bool is_any_good = rig.is_good[0] || rig.is_good[1];
            assert_true(is_any_good == (choice.slot != BOOT_SLOT_NONE));
            assert_true(choice.slot == BOOT_SLOT_NONE || rig.is_good[choice.slot]);
        }
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(choose_new_flash_takes_a_and_makes_it_active),
        TEST(choose_new_flash_with_bad_a_takes_b),
        TEST(choose_new_flash_without_images_takes_none_and_writes_nothing),
        TEST(choose_new_flash_that_takes_no_record_starts_all_the_same),
        TEST(choose_active_is_started_without_a_write),
        TEST(choose_trial_is_counted_in_flash_before_it_is_loaded),
        TEST(choose_trial_that_cannot_be_counted_is_left_out),
        TEST(choose_only_trial_that_cannot_be_counted_is_not_started),
        TEST(choose_bad_trial_is_rejected_at_once),
        TEST(choose_bad_active_is_followed_by_a_trial_of_the_other),
        TEST(choose_two_bad_ones_end_in_none_for_ever),
        TEST(choose_flash_that_cannot_be_read_rejects_nothing),
        TEST(choose_power_cut_at_each_operation_never_loses_both),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
