/*
 * The fabric side's start: what of it there is when memory or places run out.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "app/rig.h"

#define CONFIG "ip=192.0.2.1/24 diag=rping,perf"

/* What one port with all its services takes. */
static uint64_t bytes_of_all(void)
{
    rig_start(1, 0, RIG_POOL_BYTES, CONFIG);
    uint64_t used = RIG_POOL_BYTES - app.pool_left;
    assert_true(app.fabrics[0].is_up);
    assert_non_null(app.fabrics[0].rping_client);
    assert_non_null(app.fabrics[0].rping);
    assert_non_null(app.fabrics[0].perf);
    rig_stop();
    return used;
}

static void service_without_memory_leaves_the_others(void **state)
{
    (void)state;
    uint64_t all = bytes_of_all();

    rig_start(1, 0, all - 4096, CONFIG);
    assert_true(app.fabrics[0].is_up);
    assert_non_null(app.fabrics[0].rping_client);
    assert_non_null(app.fabrics[0].rping);
    assert_null(app.fabrics[0].perf);
    assert_non_null(strstr(rig.log, "rdma0: perf: "));
    rig_stop();
}

static void port_without_memory_for_any_service_is_up(void **state)
{
    (void)state;
    rig_start(1, 0, RIG_POOL_BYTES, "ip=192.0.2.1/24");
    struct app_fabric *fabric = &app.fabrics[0];
    uint64_t used = RIG_POOL_BYTES - app.pool_left;
    uint64_t client = diag_rping_client_memory_bytes(fabric->rdma);
    rig_stop();

    rig_start(1, 0, used - client, CONFIG);
    assert_true(fabric->is_up);
    assert_non_null(fabric->rdma);
    assert_null(fabric->rping_client);
    assert_null(fabric->rping);
    assert_null(fabric->perf);
    rig_stop();
}

static void rnics_beyond_the_places_are_told_of(void **state)
{
    (void)state;
    rig_start(2, 3, RIG_POOL_BYTES, "ip=192.0.2.1/24");
    assert_int_equal(app.fabric_count, LIMIT_ETH_PORTS);
    assert_int_equal(rig.opened, 3);
    assert_non_null(strstr(rig.log, "RNIC 2 and those behind it are not used"));
    rig_stop();
}

static void rnics_of_a_board_without_seed_are_opened(void **state)
{
    (void)state;
    rig_start(0, 0, RIG_POOL_BYTES, "");
    rig.board.eth_count = 1;
    rig.board.rng_seed_bytes = 0;
    rig.board.rdma_count = 1;
    app_fabric_start();
    assert_int_equal(app.fabric_count, 1);
    assert_int_equal(rig.opened, 1);
    rig_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(service_without_memory_leaves_the_others),
        cmocka_unit_test(port_without_memory_for_any_service_is_up),
        cmocka_unit_test(rnics_beyond_the_places_are_told_of),
        cmocka_unit_test(rnics_of_a_board_without_seed_are_opened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
