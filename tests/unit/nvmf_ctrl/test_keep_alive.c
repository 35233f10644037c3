/* Keep Alive: often enough, not more often than needed, and what its absence means. */
#include "tests/unit/nvmf_ctrl/rig.h"

/* 7.12.1: without traffic based keep alive it is due whatever else is sent. */
static void keep_alive_plain_is_sent_twice_a_period(void **state)
{
    (void)state;
    rig_init(2);
    rig.step_ns = NS_PER_MS;
    rig.config.keep_alive_ms = 1000;
    rig.target->id.ctratt = 0;
    rig_up();
    rig.target->keep_alive_count = 0;
    for (uint32_t i = 0; i < 10000; i++) {
        fake_set_traffic(rig.target, 1, true);
        rig_turn();
    }
    assert_in_range(rig.target->keep_alive_count, 19, 20);
    rig_end();
}

/* 7.12.2: any command keeps the controller alive. */
static void keep_alive_with_traffic_is_not_sent(void **state)
{
    (void)state;
    rig_init(3);
    rig.step_ns = NS_PER_MS;
    rig_up();
    rig.target->keep_alive_count = 0;
    for (uint32_t i = 0; i < 20000; i++) {
        if (i % 1000 == 0) {
            fake_set_traffic(rig.target, 3, true); /* of the last core alone */
        }
        rig_turn();
    }
    assert_int_equal(rig.target->keep_alive_count, 0);
    rig_end();
}

/* Never a whole period without a command. */
static void keep_alive_without_traffic_leaves_no_gap(void **state)
{
    (void)state;
    rig_init(2);
    rig.step_ns = NS_PER_MS;
    rig.config.keep_alive_ms = 1000;
    rig_up();
    uint64_t last_ns = clock_now_ns();
    uint32_t count = rig.target->keep_alive_count;
    for (uint32_t i = 0; i < 20000; i++) {
        if (i % 770 == 1) { /* traffic now and then */
            fake_set_traffic(rig.target, 2, true);
            last_ns = clock_now_ns();
        }
        rig_turn();
        if (rig.target->keep_alive_count != count) {
            count = rig.target->keep_alive_count;
            last_ns = clock_now_ns();
        }
        assert_true(clock_now_ns() - last_ns <= 600 * NS_PER_MS);
    }
    assert_true(count > 10);
    rig_end();
}

static void keep_alive_unanswered_ends_the_association(void **state)
{
    (void)state;
    rig_init(1);
    rig.step_ns = NS_PER_MS;
    rig.config.keep_alive_ms = 2000;
    rig_up();
    rig.target->no_keep_alive = true;
    uint64_t from_ns = clock_now_ns();
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_BACKOFF, 10 * NS_PER_S));
    assert_int_equal(rig_info(rig.ctrl).fail, NVMF_FAIL_KEEP_ALIVE);
    assert_true(clock_now_ns() - from_ns >= 2 * NS_PER_S);
    assert_true(clock_now_ns() - from_ns <= 4 * NS_PER_S);
    /* Its admin queue is no use: nothing was disabled in order. */
    assert_true(rig.target->last_quiet_ns > clock_now_ns() + 4 * NS_PER_S);
    rig.target->no_keep_alive = false;
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_LIVE, NS_PER_S));
    fake_lose(rig.target, 1, NVMF_FAIL_TRANSPORT); /* the new admin queue is as good as any */
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_DISABLE, 10 * NS_PER_MS));
    rig_end();
}

/* It answers, so it can be disabled in order. */
static void keep_alive_refused_ends_the_association_in_order(void **state)
{
    (void)state;
    rig_init(1);
    rig.step_ns = NS_PER_MS;
    rig_up();
    rig.target->fault_opcode = NVME_ADMIN_KEEP_ALIVE;
    rig.target->fault = FAKE_STATUS;
    rig.target->fault_status = NVME_SC_KEEP_ALIVE_EXPIRED;
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_BACKOFF, 10 * NS_PER_S));
    assert_int_equal(rig_info(rig.ctrl).fail, NVMF_FAIL_KEEP_ALIVE);
    assert_int_equal(rig_info(rig.ctrl).fail_code, NVME_SC_KEEP_ALIVE_EXPIRED);
    assert_in_range(rig.target->last_quiet_ns, 1, clock_now_ns() + NS_PER_S);
    rig_end();
}

/* A bring-up that takes long (namespaces) is kept alive too. */
static void keep_alive_runs_during_a_long_scan(void **state)
{
    (void)state;
    rig_init(1);
    rig.step_ns = 5 * NS_PER_MS;
    rig.config.keep_alive_ms = 1000;
    rig.target->id.ctratt = 0;
    for (uint32_t nsid = 1; nsid <= 300; nsid++) {
        (void)fake_ns_add(rig.target, nsid, 1, 10);
    }
    rig_start();
    (void)rig_use(0, 2, 1); /* is not there: all are looked at */
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_LIVE, 20 * NS_PER_S));
    assert_true(clock_now_ns() > 3 * NS_PER_S);
    assert_true(rig.target->keep_alive_count >= 4);
    rig_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keep_alive_plain_is_sent_twice_a_period),
        cmocka_unit_test(keep_alive_with_traffic_is_not_sent),
        cmocka_unit_test(keep_alive_without_traffic_leaves_no_gap),
        cmocka_unit_test(keep_alive_unanswered_ends_the_association),
        cmocka_unit_test(keep_alive_refused_ends_the_association_in_order),
        cmocka_unit_test(keep_alive_runs_during_a_long_scan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
