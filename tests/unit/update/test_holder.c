/* One sender of an image at a time, and checks that write nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "update/rig.h"

#define TENANT  1u
#define OTHER   2u
#define SECOND  (UINT64_C(1000000000))
#define REPLACE UPDATE_REPLACE

static struct update_rig rig;
static const struct test_image *image;
static uint32_t done_count;
static enum status done_status;

static int setup(void **state)
{
    (void)state;
    rig_init(&rig, "good");
    assert_true(rig_boot(&rig));
    image = rig_image("good-new");
    done_count = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_free(&rig);
    return 0;
}

static enum status send(uint16_t who, uint32_t start, uint32_t end)
{
    return update_receive(rig.update, who, start, image->bytes + start, end - start);
}

static enum status send_all(uint16_t who)
{
    return send(who, 0, image->len_bytes);
}

static void done(void *ctx, enum status status)
{
    (void)ctx;
    done_count++;
    done_status = status;
}

static enum status commit(uint16_t who, uint32_t actions)
{
    return update_commit(rig.update, who, actions, BOOT_SLOT_NONE, done, NULL);
}

static struct update_report report(void)
{
    struct update_report now;

    update_report(rig.update, &now);
    return now;
}

static void holder_keeps_others_out_for_30_s_after_its_last_piece(void **state)
{
    (void)state;
    assert_int_equal(send(TENANT, 0, 100), STATUS_OK);
    rig_pass(29 * SECOND);
    assert_int_equal(send(OTHER, 0, 100), STATUS_AGAIN);
    assert_int_equal(send(TENANT, 100, 200), STATUS_OK);
    rig_pass(29 * SECOND);
    assert_int_equal(send(OTHER, 0, 100), STATUS_AGAIN);
    rig_pass(SECOND);
    assert_int_equal(send(OTHER, 100, 200), STATUS_OK);
    assert_int_equal(report().received_bytes, 0); /* nothing of the first one's */
    assert_int_equal(send(TENANT, 200, 300), STATUS_AGAIN);
}

static void holder_that_releases_makes_room(void **state)
{
    (void)state;
    assert_int_equal(send(TENANT, 0, 100), STATUS_OK);
    update_release(rig.update, OTHER); /* not its own */
    assert_int_equal(send(OTHER, 0, 100), STATUS_AGAIN);
    update_release(rig.update, TENANT);
    assert_int_equal(report().state, UPDATE_IDLE);
    assert_int_equal(commit(TENANT, REPLACE), STATUS_NOT_FOUND);
    assert_int_equal(send(OTHER, 0, 100), STATUS_OK);
}

static void holder_alone_commits(void **state)
{
    (void)state;
    assert_int_equal(send_all(TENANT), STATUS_OK);
    assert_int_equal(commit(OTHER, REPLACE), STATUS_AGAIN);
    assert_int_equal(commit(UPDATE_CONSOLE, REPLACE), STATUS_NOT_FOUND); /* it sent nothing */
    rig_pass(30 * SECOND);
    assert_int_equal(commit(OTHER, REPLACE), STATUS_NOT_FOUND);
    /* Late, but nobody came in between. */
    assert_int_equal(commit(TENANT, REPLACE), STATUS_OK);
    rig_settle(&rig);
    assert_int_equal(done_status, STATUS_OK);
    assert_true(rig_slot_holds(&rig, 1, image));
    assert_int_equal(commit(TENANT, REPLACE), STATUS_NOT_FOUND);
    assert_int_equal(send(OTHER, 0, 100), STATUS_OK);
}

static void console_takes_over_and_the_tenant_learns_it(void **state)
{
    (void)state;
    assert_int_equal(send_all(TENANT), STATUS_OK);
    assert_int_equal(send(UPDATE_CONSOLE, 0, 100), STATUS_OK);
    assert_int_equal(report().received_bytes, 100);
    assert_int_equal(send(TENANT, 0, 100), STATUS_AGAIN);
    assert_int_equal(commit(TENANT, REPLACE), STATUS_AGAIN);
    update_release(rig.update, TENANT); /* its controller is reset */
    assert_int_equal(send_all(UPDATE_CONSOLE), STATUS_OK);
    assert_int_equal(commit(UPDATE_CONSOLE, REPLACE), STATUS_OK);
    rig_settle(&rig);
    assert_int_equal(done_status, STATUS_OK);
    assert_int_equal(commit(TENANT, REPLACE), STATUS_NOT_FOUND);
}

static void console_waits_while_a_slot_is_written(void **state)
{
    (void)state;
    assert_int_equal(send_all(TENANT), STATUS_OK);
    assert_int_equal(commit(TENANT, REPLACE), STATUS_OK);
    assert_int_equal(send(UPDATE_CONSOLE, 0, 100), STATUS_AGAIN);
    update_release(rig.update, TENANT); /* it goes on without its sender */
    rig_settle(&rig);
    assert_int_equal(done_status, STATUS_OK);
    assert_true(rig_slot_holds(&rig, 1, image));
}

static void holder_after_a_flash_that_failed_may_commit_again(void **state)
{
    (void)state;
    assert_int_equal(send_all(TENANT), STATUS_OK);
    model_flash_power_on(&rig.flash, 1);
    rig.flash.fail_at = 2;
    assert_int_equal(commit(TENANT, REPLACE), STATUS_OK);
    rig_settle(&rig);
    assert_int_equal(done_status, STATUS_IO);
    model_flash_power_on(&rig.flash, 1);
    assert_int_equal(commit(TENANT, REPLACE), STATUS_OK);
    rig_settle(&rig);
    assert_int_equal(done_status, STATUS_OK);
}

static void activation_needs_no_holder(void **state)
{
    (void)state;
    assert_int_equal(send_all(TENANT), STATUS_OK);
    assert_int_equal(commit(TENANT, REPLACE), STATUS_OK);
    rig_settle(&rig);
    assert_int_equal(send(TENANT, 0, 100), STATUS_OK);
    assert_int_equal(commit(OTHER, UPDATE_ACTIVATE), STATUS_OK);
    rig_settle(&rig);
    assert_int_equal(report().trial, 1);
    assert_int_equal(report().received_bytes, 100);
}

/* --- check only ------------------------------------------------------------------------------ */

static void check_of_a_good_image_writes_nothing_and_keeps_it(void **state)
{
    (void)state;
    assert_int_equal(commit(TENANT, UPDATE_CHECK), STATUS_NOT_FOUND);
    assert_int_equal(send_all(TENANT), STATUS_OK);
    assert_int_equal(commit(TENANT, UPDATE_CHECK | UPDATE_ACTIVATE), STATUS_INVALID);
    assert_int_equal(update_commit(rig.update, TENANT, UPDATE_CHECK, rig.running, done, NULL),
                     STATUS_EXISTS);
    assert_int_equal(commit(TENANT, UPDATE_CHECK), STATUS_OK);
    assert_int_equal(report().state, UPDATE_CHECKING);
    assert_true(update_is_busy(rig.update));
    assert_int_equal(send(TENANT, 0, 100), STATUS_AGAIN); /* it must not change now */
    rig_settle(&rig);
    assert_int_equal(done_count, 1);
    assert_int_equal(done_status, STATUS_OK);
    assert_int_equal(rig.flash.operations, 0);
    assert_false(update_is_busy(rig.update));
    assert_int_equal(report().received_bytes, image->len_bytes);
    assert_int_equal(commit(TENANT, REPLACE), STATUS_OK);
    rig_settle(&rig);
    assert_true(rig_slot_holds(&rig, 1, image));
}

static void check_of_bad_images_tells_why(void **state)
{
    (void)state;
    uint32_t bad_count = 0;

    for (uint32_t i = 0; i < test_image_count; i++) {
        if (strncmp(test_images[i].name, "good", 4) != 0) {
            image = &test_images[i];
            assert_int_equal(send_all(TENANT), STATUS_OK);
            assert_int_equal(commit(TENANT, UPDATE_CHECK), STATUS_OK);
            rig_settle(&rig);
            assert_int_equal(done_status, STATUS_BAD_DATA);
            assert_int_not_equal(report().last_fault, IMAGE_OK);
            update_release(rig.update, TENANT);
            bad_count++;
        }
    }
    assert_true(bad_count > 3);
    assert_int_equal(rig.flash.operations, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(holder_keeps_others_out_for_30_s_after_its_last_piece),
        TEST(holder_that_releases_makes_room),
        TEST(holder_alone_commits),
        TEST(console_takes_over_and_the_tenant_learns_it),
        TEST(console_waits_while_a_slot_is_written),
        TEST(holder_after_a_flash_that_failed_may_commit_again),
        TEST(activation_needs_no_holder),
        TEST(check_of_a_good_image_writes_nothing_and_keeps_it),
        TEST(check_of_bad_images_tells_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
