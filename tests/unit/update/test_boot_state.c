#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/crc.h"
#include "update/boot_state.h"

static const struct boot_image_head head_v1 = {.security_version = 1, .version = "1.0"};
static const struct boot_image_head head_v2 = {.security_version = 2, .version = "2.0"};

/* Slot 0 active with version 1. */
static struct boot_record one_image(void)
{
    struct boot_record record;
    boot_state_init(&record);
    boot_state_end_write(&record, 0, 1000, &head_v1);
    record.active = 0;
    boot_state_seal(&record);
    return record;
}

/* And slot 1 holds version 2. */
static struct boot_record two_images(void)
{
    struct boot_record record = one_image();
    boot_state_end_write(&record, 1, 2000, &head_v2);
    boot_state_seal(&record);
    return record;
}

static void seal_again(struct boot_record *record)
{
    record->crc = crc32_update(0, record, offsetof(struct boot_record, crc));
}

static bool is_valid_sealed(struct boot_record record)
{
    boot_state_seal(&record);
    return boot_state_is_valid(&record);
}

/* --- validity -------------------------------------------------------------------------------- */

static void boot_state_init_sealed_is_valid_and_first(void **state)
{
    (void)state;
    struct boot_record record;
    bool is_changed = true;
    boot_state_init(&record);
    assert_int_equal(record.sequence, 0);
    assert_false(boot_state_is_valid(&record));
    boot_state_seal(&record);
    assert_int_equal(record.sequence, 1);
    assert_true(boot_state_is_valid(&record));
    assert_int_equal(boot_state_choose(&record, &is_changed), BOOT_SLOT_NONE);
    assert_false(is_changed);
}

static void boot_state_is_valid_any_flipped_bit_is_refused(void **state)
{
    (void)state;
    struct boot_record record = two_images();
    for (uint32_t bit = 0; bit < sizeof(record) * 8; bit++) {
        struct boot_record flipped = record;
        ((uint8_t *)&flipped)[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        assert_false(boot_state_is_valid(&flipped));
    }
}

static void boot_state_is_valid_fields_that_contradict_are_refused(void **state)
{
    (void)state;
    struct boot_record good = two_images();
    struct boot_record bad[18];
    for (uint32_t i = 0; i < 18; i++) {
        bad[i] = good;
        bad[i].trial = 1;
        bad[i].attempts_left = 1;
        seal_again(&bad[i]);
        assert_true(boot_state_is_valid(&bad[i]));
    }
    bad[0].magic++;
    bad[1].version = 2;
    bad[2].size_bytes = 92;
    bad[3].active = 2;
    bad[4].active = 0xfe;
    bad[5].trial = 2;
    bad[6].trial = 0; /* the active one */
    bad[7].attempts_left = BOOT_TRIAL_ATTEMPTS + 1;
    bad[8].trial = BOOT_SLOT_NONE; /* with attempts */
    bad[9].slots[0].image_bytes = 0;
    bad[10].slots[1].image_bytes = 0;
    bad[11].slots[0].image_bytes = BOOT_SLOT_MAX_BYTES + 1;
    bad[12].slots[0].failed = 1;
    bad[13].slots[1].failed = 1;
    bad[14].slots[1].failed = 2;
    bad[15].slots[1].version[15] = 'x';
    bad[16].min_security_version = 2; /* above the active one's */
    bad[17].active = BOOT_SLOT_NONE;
    bad[17].min_security_version = 3; /* above the trial's */
    for (uint32_t i = 0; i < 18; i++) {
        seal_again(&bad[i]);
        assert_false(boot_state_is_valid(&bad[i]));
    }
}

static void boot_state_newer_higher_sequence_counts_over_the_wrap(void **state)
{
    (void)state;
    struct boot_record a = one_image();
    struct boot_record b = one_image();
    a.sequence = UINT32_MAX;
    seal_again(&a);
    b.sequence = UINT32_MAX;
    boot_state_seal(&b);
    assert_int_equal(b.sequence, 0);
    assert_ptr_equal(boot_state_newer(&a, &b), &b);
    assert_ptr_equal(boot_state_newer(&b, &a), &b);
    b.crc++;
    assert_ptr_equal(boot_state_newer(&a, &b), &a);
    assert_ptr_equal(boot_state_newer(&b, &a), &a);
    a.crc++;
    assert_null(boot_state_newer(&a, &b));
}

/* --- trials ---------------------------------------------------------------------------------- */

static void boot_state_choose_trial_has_three_starts_then_the_active_one_is_back(void **state)
{
    (void)state;
    struct boot_record record = two_images();
    bool is_changed;
    assert_int_equal(boot_state_activate(&record, 1), STATUS_OK);
    for (uint32_t left = BOOT_TRIAL_ATTEMPTS; left-- > 0;) {
        assert_int_equal(boot_state_choose(&record, &is_changed), 1);
        assert_true(is_changed);
        assert_int_equal(record.attempts_left, left);
        assert_true(is_valid_sealed(record));
    }
    assert_int_equal(boot_state_choose(&record, &is_changed), 0);
    assert_true(is_changed);
    assert_int_equal(record.slots[1].failed, 1);
    assert_int_equal(record.trial, BOOT_SLOT_NONE);
    assert_int_equal(boot_state_choose(&record, &is_changed), 0);
    assert_false(is_changed);
    assert_true(is_valid_sealed(record));
}

static void boot_state_choose_trial_alone_fails_to_none(void **state)
{
    (void)state;
    struct boot_record record = two_images();
    bool is_changed;
    record.active = BOOT_SLOT_NONE;
    assert_int_equal(boot_state_activate(&record, 1), STATUS_OK);
    for (uint32_t i = 0; i < BOOT_TRIAL_ATTEMPTS; i++) {
        assert_int_equal(boot_state_choose(&record, &is_changed), 1);
    }
    assert_int_equal(boot_state_choose(&record, &is_changed), BOOT_SLOT_NONE);
    assert_true(is_valid_sealed(record));
}

static void boot_state_confirm_trial_becomes_active_and_raises_the_least_version(void **state)
{
    (void)state;
    struct boot_record record = two_images();
    bool is_changed;
    assert_int_equal(boot_state_activate(&record, 1), STATUS_OK);
    boot_state_choose(&record, &is_changed);
    assert_true(boot_state_confirm(&record, 1));
    assert_int_equal(record.active, 1);
    assert_int_equal(record.trial, BOOT_SLOT_NONE);
    assert_int_equal(record.attempts_left, 0);
    assert_int_equal(record.min_security_version, 2);
    assert_true(is_valid_sealed(record));
    assert_false(boot_state_confirm(&record, 1));
    /* The one before is too old now. */
    assert_int_equal(boot_state_activate(&record, 0), STATUS_BAD_DATA);
}

static void boot_state_confirm_last_attempt_is_early_enough(void **state)
{
    (void)state;
    struct boot_record record = two_images();
    bool is_changed;
    assert_int_equal(boot_state_activate(&record, 1), STATUS_OK);
    for (uint32_t i = 0; i < BOOT_TRIAL_ATTEMPTS; i++) {
        boot_state_choose(&record, &is_changed);
    }
    assert_true(boot_state_confirm(&record, 1));
    assert_int_equal(boot_state_choose(&record, &is_changed), 1);
    assert_false(is_changed);
}

static void boot_state_confirm_active_raises_the_least_version_and_ends_a_trial_below(void **state)
{
    (void)state;
    struct boot_record record = two_images();
    record.slots[0].security_version = 5;
    assert_int_equal(boot_state_activate(&record, 1), STATUS_OK);
    assert_true(boot_state_confirm(&record, 0));
    assert_int_equal(record.min_security_version, 5);
    assert_int_equal(record.trial, BOOT_SLOT_NONE);
    assert_int_equal(record.active, 0);
    assert_true(is_valid_sealed(record));
}

static void boot_state_confirm_trial_taken_back_changes_nothing(void **state)
{
    (void)state;
    struct boot_record record = two_images();
    bool is_changed;
    assert_int_equal(boot_state_activate(&record, 1), STATUS_OK);
    boot_state_choose(&record, &is_changed);
    assert_int_equal(boot_state_activate(&record, 0), STATUS_OK);
    assert_int_equal(record.trial, BOOT_SLOT_NONE);
    assert_false(boot_state_confirm(&record, 1));
    assert_false(boot_state_confirm(&record, BOOT_SLOT_NONE));
    assert_int_equal(record.active, 0);
}

static void boot_state_activate_says_what_is_wrong(void **state)
{
    (void)state;
    struct boot_record record = one_image();
    assert_int_equal(boot_state_activate(&record, 2), STATUS_INVALID);
    assert_int_equal(boot_state_activate(&record, BOOT_SLOT_NONE), STATUS_INVALID);
    assert_int_equal(boot_state_activate(&record, 1), STATUS_NOT_FOUND);
    boot_state_end_write(&record, 1, 2000, &head_v1);
    record.slots[0].security_version = 2;
    assert_true(boot_state_confirm(&record, 0));
    assert_int_equal(boot_state_activate(&record, 1), STATUS_BAD_DATA);
    assert_int_equal(record.trial, BOOT_SLOT_NONE);
}

static void boot_state_activate_failed_slot_gets_another_trial(void **state)
{
    (void)state;
    struct boot_record record = two_images();
    record.slots[1].failed = 1;
    assert_int_equal(boot_state_activate(&record, 1), STATUS_OK);
    assert_int_equal(record.slots[1].failed, 0);
    assert_int_equal(record.attempts_left, BOOT_TRIAL_ATTEMPTS);
    assert_true(is_valid_sealed(record));
}

/* --- writing, rejecting ---------------------------------------------------------------------- */

static void boot_state_begin_write_takes_the_image_out_of_the_record(void **state)
{
    (void)state;
    struct boot_record record = two_images();
    assert_int_equal(boot_state_activate(&record, 1), STATUS_OK);
    assert_int_equal(boot_state_begin_write(&record, 2), STATUS_INVALID);
    assert_int_equal(boot_state_begin_write(&record, 0), STATUS_EXISTS);
    assert_int_equal(record.trial, 1);
    assert_int_equal(boot_state_begin_write(&record, 1), STATUS_OK);
    assert_int_equal(record.trial, BOOT_SLOT_NONE);
    assert_int_equal(record.slots[1].image_bytes, 0);
    assert_string_equal(record.slots[1].version, "");
    assert_true(is_valid_sealed(record));
    boot_state_end_write(&record, 1, 2000, &head_v2);
    assert_string_equal(record.slots[1].version, "2.0");
    assert_int_equal(record.slots[1].security_version, 2);
    assert_int_equal(record.trial, BOOT_SLOT_NONE);
    assert_true(is_valid_sealed(record));
}

static void boot_state_reject_trial_leaves_the_active_one(void **state)
{
    (void)state;
    struct boot_record record = two_images();
    bool is_changed;
    assert_int_equal(boot_state_activate(&record, 1), STATUS_OK);
    assert_int_equal(boot_state_choose(&record, &is_changed), 1);
    boot_state_reject(&record, 1);
    assert_int_equal(boot_state_choose(&record, &is_changed), 0);
    assert_false(is_changed);
    assert_int_equal(record.slots[1].failed, 1);
    assert_int_equal(boot_state_activate(&record, 1), STATUS_NOT_FOUND);
    assert_true(is_valid_sealed(record));
}

static void boot_state_reject_active_tries_the_other(void **state)
{
    (void)state;
    struct boot_record record = two_images();
    bool is_changed;
    boot_state_reject(&record, 0);
    assert_int_equal(record.active, BOOT_SLOT_NONE);
    assert_int_equal(boot_state_choose(&record, &is_changed), 1);
    assert_true(is_changed);
    assert_true(is_valid_sealed(record));
    boot_state_reject(&record, 1);
    assert_int_equal(boot_state_choose(&record, &is_changed), BOOT_SLOT_NONE);
    assert_true(is_valid_sealed(record));
}

static void boot_state_reject_active_never_tries_a_failed_or_old_one(void **state)
{
    (void)state;
    struct boot_record record = two_images();
    bool is_changed;
    record.slots[1].failed = 1;
    boot_state_reject(&record, 0);
    assert_int_equal(boot_state_choose(&record, &is_changed), BOOT_SLOT_NONE);
    record = two_images();
    record.slots[0].security_version = 3;
    assert_true(boot_state_confirm(&record, 0));
    boot_state_reject(&record, 0);
    assert_int_equal(boot_state_choose(&record, &is_changed), BOOT_SLOT_NONE);
    assert_true(is_valid_sealed(record));
}

/* --- anything, in any order ------------------------------------------------------------------ */

static uint32_t draw(uint64_t *random)
{
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*random >> 33);
}

static void do_anything(struct boot_record *record, uint64_t *random)
{
    uint8_t slot = (uint8_t)(draw(random) % BOOT_SLOT_COUNT);
    struct boot_image_head head = {.security_version = draw(random) % 6, .version = "x"};
    bool is_changed;
    enum status ignored = STATUS_OK;
    switch (draw(random) % 6) {
    case 0:
        boot_state_choose(record, &is_changed);
        break;
    case 1:
        boot_state_reject(record, slot);
        break;
    case 2:
        ignored = boot_state_begin_write(record, slot);
        break;
    case 3:
        if (boot_state_begin_write(record, slot) == STATUS_OK) {
            boot_state_end_write(record, slot, 1 + draw(random) % BOOT_SLOT_MAX_BYTES, &head);
        }
        break;
    case 4:
        ignored = boot_state_activate(record, slot);
        break;
    default:
        boot_state_confirm(record, slot);
        break;
    }
    (void)ignored;
}

static void boot_state_anything_in_any_order_stays_valid(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct boot_record record;
        uint64_t random = seed;
        uint32_t min = 0;
        boot_state_init(&record);
        for (uint32_t i = 0; i < 500; i++) {
            do_anything(&record, &random);
            assert_true(is_valid_sealed(record));
            assert_true(record.min_security_version >= min);
            min = record.min_security_version;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(boot_state_init_sealed_is_valid_and_first),
        cmocka_unit_test(boot_state_is_valid_any_flipped_bit_is_refused),
        cmocka_unit_test(boot_state_is_valid_fields_that_contradict_are_refused),
        cmocka_unit_test(boot_state_newer_higher_sequence_counts_over_the_wrap),
        cmocka_unit_test(boot_state_choose_trial_has_three_starts_then_the_active_one_is_back),
        cmocka_unit_test(boot_state_choose_trial_alone_fails_to_none),
        cmocka_unit_test(boot_state_confirm_trial_becomes_active_and_raises_the_least_version),
        cmocka_unit_test(boot_state_confirm_last_attempt_is_early_enough),
        cmocka_unit_test(boot_state_confirm_active_raises_the_least_version_and_ends_a_trial_below),
        cmocka_unit_test(boot_state_confirm_trial_taken_back_changes_nothing),
        cmocka_unit_test(boot_state_activate_says_what_is_wrong),
        cmocka_unit_test(boot_state_activate_failed_slot_gets_another_trial),
        cmocka_unit_test(boot_state_begin_write_takes_the_image_out_of_the_record),
        cmocka_unit_test(boot_state_reject_trial_leaves_the_active_one),
        cmocka_unit_test(boot_state_reject_active_tries_the_other),
        cmocka_unit_test(boot_state_reject_active_never_tries_a_failed_or_old_one),
        cmocka_unit_test(boot_state_anything_in_any_order_stays_valid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
