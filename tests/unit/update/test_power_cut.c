/*
 * The power goes at every operation of the flash, in whole lives of a device: updates, trials,
 * confirmations, ways back; and again while it recovers. What must hold:
 *
 *   - it always starts an image, a whole one that is signed;
 *   - which is the old one, or the new one if that was completely written and its activation begun;
 *   - what was reported as done stays done;
 *   - a trial has at most BOOT_TRIAL_ATTEMPTS starts; a confirmed image never goes back;
 *   - afterwards another update works.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "update/rig.h"

/* What a device was asked for, and how far that came. */
struct progress {
    bool is_activating; /* the record with the trial may be under way */
    bool is_activated;  /* said to be done */
    bool is_confirming;
    bool is_confirmed;
    uint32_t starts; /* of the new one */
};

struct life {
    struct update_rig rig;
    struct progress progress;
    const struct test_image *old_image;
    const struct test_image *new_image;
};

static bool has_power(const struct life *life)
{
    return !life->rig.flash.is_off;
}

/* What may run now does. */
static void check_started(struct life *life)
{
    struct progress *progress = &life->progress;
    const struct update_rig *rig = &life->rig;

    assert_true(rig->image == life->old_image || rig->image == life->new_image);
    assert_true(rig_slot_holds(rig, rig->running, rig->image));
    if (rig->image == life->new_image) {
        progress->starts++;
        assert_true(progress->is_activating || progress->is_activated);
        assert_true(progress->is_confirming || progress->starts <= BOOT_TRIAL_ATTEMPTS);
        progress->is_activated = true; /* it cannot be as if nothing had been */
    } else {
        assert_false(progress->is_confirmed);
        /* Unless its trial is over, an activated one comes first. */
        assert_true(!progress->is_activated || progress->starts > 0);
        const struct boot_record_slot *slot = &rig->store.record.slots[rig->running ^ 1];
        assert_true(!progress->is_activated || slot->failed == 1);
    }
}

/* False: the power went. */
static bool start(struct life *life)
{
    if (!rig_boot(&life->rig)) {
        assert_false(has_power(life)); /* with power it always starts */
        return false;
    }
    check_started(life);
    return true;
}

static bool install(struct life *life)
{
    struct update_rig *rig = &life->rig;

    rig_send(rig, life->new_image);
    if (rig_commit(rig, UPDATE_REPLACE, BOOT_SLOT_NONE) != STATUS_OK) {
        assert_false(has_power(life));
        return false;
    }
    life->progress.is_activating = true;
    if (rig_commit(rig, UPDATE_ACTIVATE, BOOT_SLOT_NONE) != STATUS_OK) {
        assert_false(has_power(life));
        return false;
    }
    life->progress.is_activated = true;
    return true;
}

static bool confirm(struct life *life)
{
    struct update_report report;

    life->progress.is_confirming = life->rig.image == life->new_image;
    update_confirm(life->rig.update);
    rig_settle(&life->rig);
    update_report(life->rig.update, &report);
    life->progress.is_confirmed = life->progress.is_confirming && !report.is_trial;
    return has_power(life);
}

/* --- lives ----------------------------------------------------------------------------------- */

/* Each returns false when the power went. They start behind rig_init(). */
static bool life_of_an_update(struct life *life)
{
    return start(life) && confirm(life) && install(life) && start(life) && confirm(life) &&
           start(life) && start(life);
}

/* Both in one record, as most hosts do it. */
static bool life_of_a_quick_update(struct life *life)
{
    if (!start(life)) {
        return false;
    }
    life->progress.is_activating = true;
    rig_send(&life->rig, life->new_image);
    if (rig_commit(&life->rig, UPDATE_REPLACE | UPDATE_ACTIVATE, BOOT_SLOT_NONE) != STATUS_OK) {
        return false;
    }
    life->progress.is_activated = true;
    return start(life) && confirm(life) && start(life);
}

/* The new one never confirms: back after its attempts. */
static bool life_of_a_way_back(struct life *life)
{
    bool goes_on = start(life) && install(life);

    for (uint32_t i = 0; goes_on && i < BOOT_TRIAL_ATTEMPTS + 2; i++) {
        goes_on = start(life);
        assert_true(!goes_on || (life->rig.image == life->new_image) == (i < BOOT_TRIAL_ATTEMPTS));
    }
    return goes_on;
}

/* It confirms at its last attempt. */
static bool life_of_a_late_confirmation(struct life *life)
{
    return start(life) && install(life) && start(life) && start(life) && start(life) &&
           confirm(life) && start(life);
}

/* --- cuts ------------------------------------------------------------------------------------ */

struct plan {
    const char *name;
    bool (*live)(struct life *life);
    const char *before; /* an image that the slot to write holds already; NULL: it is blank */
};

static void begin(struct life *life, const struct plan *plan)
{
    rig_init(&life->rig, "good");
    if (plan->before != NULL) {
        assert_true(rig_boot(&life->rig));
        rig_send(&life->rig, rig_image(plan->before));
        assert_int_equal(rig_commit(&life->rig, UPDATE_REPLACE, 1), STATUS_OK);
        model_flash_power_on(&life->rig.flash, 1);
    }
    memset(&life->progress, 0, sizeof(life->progress));
    life->old_image = rig_image("good");
    life->new_image = rig_image("good-new");
}

/* What runs now takes another update, after all that. */
static void update_again(struct life *life)
{
    struct update_rig *rig = &life->rig;
    bool is_confirmed = false;

    update_confirm(rig->update);
    rig_settle(rig);
    is_confirmed = rig->store.record.active == rig->running;
    assert_true(is_confirmed);
    assert_int_equal(rig_install(rig, "good-new"), STATUS_OK);
    assert_true(rig_boot(rig));
    assert_ptr_equal(rig->image, rig_image("good-new"));
    assert_true(rig->is_trial);
    update_confirm(rig->update);
    rig_settle(rig);
    assert_true(rig_boot(rig));
    assert_ptr_equal(rig->image, rig_image("good-new"));
    assert_false(rig->is_trial);
}

/* One life: cut at operation `cut` (false: it has fewer), then at `second` of the recovery. */
static bool live_once(const struct plan *plan, uint32_t cut, uint32_t second, uint64_t seed,
                      bool *is_second)
{
    struct life life;

    begin(&life, plan);
    model_flash_power_on(&life.rig.flash, seed);
    life.rig.flash.cut_at = cut;
    plan->live(&life);
    bool is_cut = !has_power(&life);
    *is_second = false;
    if (is_cut) {
        model_flash_power_on(&life.rig.flash, seed + 77);
        life.rig.flash.cut_at = second;
        *is_second = !start(&life);
        if (*is_second) {
            model_flash_power_on(&life.rig.flash, seed + 154);
            assert_true(start(&life));
        }
        life.rig.flash.cut_at = 0;
        update_again(&life);
    }
    rig_free(&life.rig);
    return is_cut;
}

/* Every operation, with every operation of the recovery, with many seeds. Returns the cuts. */
static uint32_t live_all(const struct plan *plan, uint32_t seeds)
{
    uint32_t cuts = 0;
    uint32_t seconds = 0;
    uint32_t operations = 0;

    for (uint64_t seed = 1; seed <= seeds; seed++) {
        bool is_cut = true;
        for (uint32_t cut = 1; is_cut; cut++) {
            bool is_second = true;
            for (uint32_t second = 0; is_second || second == 1; second++) {
                is_cut = live_once(plan, cut, second, seed, &is_second);
                cuts += is_cut;
                seconds += is_second;
                is_second = is_second || second == 0;
                if (!is_cut) {
                    operations = cut - 1;
                    break;
                }
            }
        }
    }
    print_message("%s: %u operations, %u cuts, %u of them twice\n", plan->name, operations, cuts,
                  seconds);
    return cuts;
}

static void power_cut_during_an_update_old_or_new(void **state)
{
    (void)state;
    struct plan plan = {"update", life_of_an_update, NULL};
    assert_true(live_all(&plan, 5) > 400);
}

static void power_cut_during_an_update_over_an_image_old_or_new(void **state)
{
    (void)state;
    struct plan plan = {"update over an image", life_of_an_update, "good-full"};
    assert_true(live_all(&plan, 5) > 400);
}

static void power_cut_during_a_quick_update_old_or_new(void **state)
{
    (void)state;
    struct plan plan = {"quick update", life_of_a_quick_update, "good-full"};
    assert_true(live_all(&plan, 5) > 400);
}

static void power_cut_during_a_way_back_ends_with_the_old(void **state)
{
    (void)state;
    struct plan plan = {"way back", life_of_a_way_back, NULL};
    assert_true(live_all(&plan, 5) > 400);
}

static void power_cut_during_a_late_confirmation_old_or_new(void **state)
{
    (void)state;
    struct plan plan = {"late confirmation", life_of_a_late_confirmation, NULL};
    assert_true(live_all(&plan, 5) > 400);
}

/* --- damage ---------------------------------------------------------------------------------- */

static void wipe_records(struct update_rig *rig)
{
    memset(rig->flash.bytes, 0xff, 2 * RIG_BLOCK_BYTES);
}

static void damage_active(struct update_rig *rig)
{
    rig->flash.bytes[rig->store.slot_offset[0] + 999] ^= 4;
}

/* Slot 1 holds an image, too; then something happens to the flash, and the power goes at each
 * operation of the start: `image` starts in the end. */
static void check_damage(void (*damage)(struct update_rig *rig), const char *image)
{
    bool is_cut = true;

    for (uint32_t cut = 1; is_cut; cut++) {
        for (uint64_t seed = 1; seed <= 20; seed++) {
            struct update_rig rig;
            rig_init(&rig, "good");
            assert_true(rig_boot(&rig));
            rig_send(&rig, rig_image("good-new"));
            assert_int_equal(rig_commit(&rig, UPDATE_REPLACE, 1), STATUS_OK);
            damage(&rig);
            model_flash_power_on(&rig.flash, seed);
            rig.flash.cut_at = cut;
            is_cut = !rig_boot(&rig);
            model_flash_power_on(&rig.flash, seed + 1);
            assert_true(rig_boot(&rig));
            assert_ptr_equal(rig.image, rig_image(image));
            rig_free(&rig);
        }
    }
}

static void power_cut_while_a_damaged_image_is_left_the_other_starts(void **state)
{
    (void)state;
    check_damage(damage_active, "good-new");
}

static void power_cut_while_a_lost_record_is_made_anew_the_first_slot_starts(void **state)
{
    (void)state;
    check_damage(wipe_records, "good");
}

/* --- long lives ------------------------------------------------------------------------------ */

static uint32_t draw(uint64_t *random)
{
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*random >> 33);
}

/* Something, of which nobody knows how it ends. */
static void do_something(struct update_rig *rig, uint64_t *random)
{
    const struct test_image *image = &test_images[draw(random) % test_image_count];
    enum status ignored;

    switch (draw(random) % 4) {
    case 0:
        update_confirm(rig->update);
        rig_settle(rig);
        break;
    case 1:
        ignored = rig_commit(rig, UPDATE_ACTIVATE, (uint8_t)(draw(random) % 2));
        break;
    case 2:
        rig_send(rig, image);
        ignored = rig_commit(rig, UPDATE_REPLACE, BOOT_SLOT_NONE);
        break;
    default:
        /* (More often one that is good.) */
        image = &test_images[draw(random) % 4];
        rig_send(rig, image);
        ignored = rig_commit(rig, UPDATE_REPLACE | UPDATE_ACTIVATE, BOOT_SLOT_NONE);
        break;
    }
    (void)ignored;
}

/* Anything in any order, the power goes now and then: a good image starts, each time, and none that
 * is older than the least version. */
static void power_cut_anywhere_in_a_long_life_always_starts_a_good_image(void **state)
{
    (void)state;
    uint32_t cuts = 0;
    for (uint64_t seed = 1; seed <= 120; seed++) {
        struct update_rig rig;
        uint64_t random = seed;
        uint32_t min = 0;
        rig_init(&rig, "good-old");
        for (uint32_t i = 0; i < 40; i++) {
            model_flash_power_on(&rig.flash, draw(&random));
            rig.flash.cut_at = draw(&random) % 4 == 0 ? 0 : 1 + draw(&random) % 60;
            if (rig_boot(&rig)) {
                assert_non_null(rig.image);
                assert_true(rig_slot_holds(&rig, rig.running, rig.image));
                assert_true(rig.store.record.min_security_version >= min);
                min = rig.store.record.min_security_version;
                for (uint32_t k = draw(&random) % 4; k > 0 && !rig.flash.is_off; k--) {
                    do_something(&rig, &random);
                }
            } else {
                assert_true(rig.flash.is_off);
            }
            cuts += rig.flash.is_off;
        }
        rig_free(&rig);
    }
    print_message("long lives: %u cuts\n", cuts);
    assert_true(cuts > 300);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(power_cut_during_an_update_old_or_new),
        cmocka_unit_test(power_cut_during_an_update_over_an_image_old_or_new),
        cmocka_unit_test(power_cut_during_a_quick_update_old_or_new),
        cmocka_unit_test(power_cut_during_a_way_back_ends_with_the_old),
        cmocka_unit_test(power_cut_during_a_late_confirmation_old_or_new),
        cmocka_unit_test(power_cut_while_a_damaged_image_is_left_the_other_starts),
        cmocka_unit_test(power_cut_while_a_lost_record_is_made_anew_the_first_slot_starts),
        cmocka_unit_test(power_cut_anywhere_in_a_long_life_always_starts_a_good_image),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
