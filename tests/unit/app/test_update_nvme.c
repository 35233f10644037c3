/* Updates that hosts send: who may send. Images, commits and restarts: tests/emu/rack_update.py. */
#include "app/rig.h"

#include "app/update_nvme.h"
#include "hal/native/native.h"

static int setup(void **state)
{
    (void)state;
    rig_start(0, 0, RIG_POOL_BYTES, "");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    app_update_release(&app.functions[0]);
    app_update_release(&app.functions[1]);
    rig_stop();
    return 0;
}

static void claim_of_another_has_to_wait(void **state)
{
    (void)state;
    assert_true(app_update_claim(&app.functions[0]));
    assert_false(app_update_claim(&app.functions[1]));
    assert_true(app_update_claim(&app.functions[0]));
    app_update_release(&app.functions[1]); /* not its own */
    assert_false(app_update_claim(&app.functions[1]));
    app_update_release(&app.functions[0]);
    assert_true(app_update_claim(&app.functions[1]));
}

/* A host that began and went away does not keep the others out for ever. */
static void claim_ends_when_nothing_is_sent_for_long(void **state)
{
    (void)state;
    assert_true(app_update_claim(&app.functions[0]));
    native_clock_advance(29 * NS_PER_S);
    rig_turn();
    assert_false(app_update_claim(&app.functions[1]));
    assert_true(app_update_claim(&app.functions[0])); /* a piece */
    native_clock_advance(29 * NS_PER_S);
    rig_turn();
    assert_false(app_update_claim(&app.functions[1]));
    native_clock_advance(2 * NS_PER_S);
    rig_turn();
    assert_true(app_update_claim(&app.functions[1]));
    assert_false(app_update_claim(&app.functions[0]));
}

static void board_without_flash_offers_nothing(void **state)
{
    (void)state;
    assert_null(app_update_nvme_ops());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(claim_of_another_has_to_wait, setup, teardown),
        cmocka_unit_test_setup_teardown(claim_ends_when_nothing_is_sent_for_long, setup, teardown),
        cmocka_unit_test_setup_teardown(board_without_flash_offers_nothing, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
