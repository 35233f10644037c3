/* Updates that hosts send; who may: update/test_holder.c. Images, commits and restarts:
 * tests/emu/rack_update.py. */
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
    rig_stop();
    return 0;
}

static void board_without_flash_offers_nothing(void **state)
{
    (void)state;
    assert_null(app_update_nvme_ops());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(board_without_flash_offers_nothing, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
