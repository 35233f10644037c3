/* The end in order: commands end, the controller is shut down, nothing is left. */
#include <stdlib.h>
#include "tests/unit/nvmf_ctrl/rig.h"

static void on_done(void *arg)
{
    uint32_t *count = arg;
    (*count)++;
}

/* 7.6.2: CC.SHN, then CSTS.SHST is waited for. */
static void close_live_shuts_down_in_order(void **state)
{
    uint32_t done_count = 0;
    (void)state;
    rig_init(2);
    (void)fake_ns_add(rig.target, 1, 1, 100);
    rig_start();
    struct rig_user *user = rig_use(0, 1, 1);
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_LIVE, NS_PER_S));
    rig_turn();
    uint32_t changed_count = user->changed_count;
    rig.target->ready_delay_ns = 300 * NS_PER_MS;
    nvmf_ctrl_close(rig.ctrl, on_done, &done_count);
    assert_true(rig_is_usable(0)); /* not from inside of the call */
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_SHUT_DOWN, NS_PER_MS));
    rig_turn();
    assert_false(rig_is_usable(0));
    assert_int_equal(user->changed_count, changed_count + 1);
    rig_run(100 * NS_PER_MS);
    assert_int_equal(rig_info(rig.ctrl).state, NVMF_CTRL_SHUT_DOWN);
    assert_int_equal(FIELD_GET(NVME_CC_SHN, rig.target->cc), 1);
    assert_int_equal(done_count, 0);
    rig_run(220 * NS_PER_MS);
    assert_int_equal(done_count, 1);
    assert_int_equal(fake_queue_state(rig.target, 0), NVMF_QUEUE_CLOSED);
    free(rig.ctrl);
    rig.ctrl = NULL;
    rig_end();
}

static void close_waits_for_commands_under_way(void **state)
{
    (void)state;
    rig_init(1);
    rig_up();
    fake_set_in_flight(rig.target, 1, 3);
    uint32_t done_count = 0;
    nvmf_ctrl_close(rig.ctrl, on_done, &done_count);
    rig_run(500 * NS_PER_MS);
    assert_int_equal(FIELD_GET(NVME_CC_SHN, rig.target->cc), 0);
    fake_set_in_flight(rig.target, 1, 0);
    rig_run(20 * NS_PER_MS);
    assert_int_equal(done_count, 1);
    free(rig.ctrl);
    rig.ctrl = NULL;
    rig_end();
}

static void close_of_what_never_ends_takes_two_seconds(void **state)
{
    uint32_t done_count = 0;
    (void)state;
    rig_init(1);
    rig.target->never_shut = true;
    rig_up();
    fake_set_in_flight(rig.target, 1, 3);
    uint64_t from_ns = clock_now_ns();
    nvmf_ctrl_close(rig.ctrl, on_done, &done_count);
    rig_run(1900 * NS_PER_MS);
    assert_int_equal(done_count, 0);
    assert_int_equal(FIELD_GET(NVME_CC_SHN, rig.target->cc), 1);
    rig_run(200 * NS_PER_MS);
    assert_int_equal(done_count, 1);
    assert_true(rig.target->last_quiet_ns > from_ns + 10 * NS_PER_S);
    free(rig.ctrl);
    rig.ctrl = NULL;
    rig_end();
}

/* What close finds: each state has its way down. */
static void close_in_each_state_ends(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 8; i++) {
        uint32_t done_count = 0;
        enum nvmf_ctrl_state at = NVMF_CTRL_LIVE;
        rig_init(2);
        struct fake_target *t = rig.target;
        t->fault = FAKE_SILENT;
        switch (i) {
        case 0:
            t->opens_never[0] = true;
            at = NVMF_CTRL_CONNECT_ADMIN;
            break;
        case 1:
            t->never_ready = true;
            at = NVMF_CTRL_ENABLE;
            break;
        case 2:
            t->fault_opcode = NVME_ADMIN_IDENTIFY;
            at = NVMF_CTRL_IDENTIFY;
            break;
        case 3:
            t->fault_opcode = NVME_ADMIN_SET_FEATURES;
            t->fault_cdw10 = NVME_FEATURE_QUEUES;
            at = NVMF_CTRL_SET_QUEUES;
            break;
        case 4:
            t->opens_never[2] = true;
            at = NVMF_CTRL_CONNECT_IO;
            break;
        case 5:
            t->fault_opcode = NVME_ADMIN_SET_FEATURES;
            t->fault_cdw10 = NVME_FEATURE_ASYNC_EVENT;
            at = NVMF_CTRL_SET_EVENTS;
            break;
        case 6:
            t->fault_opcode = NVME_ADMIN_IDENTIFY;
            t->fault_cdw10 = NVME_CNS_ACTIVE_NS_LIST;
            at = NVMF_CTRL_SCAN;
            break;
        default:
            t->open_fail[0] = NVMF_FAIL_CTRL_FULL;
            at = NVMF_CTRL_BACKOFF;
            break;
        }
        rig_start();
        assert_true(rig_run_to(rig.ctrl, at, NS_PER_S));
        rig_run(10 * NS_PER_MS);
        assert_int_equal(rig_info(rig.ctrl).state, at);
        nvmf_ctrl_close(rig.ctrl, on_done, &done_count);
        rig_run(50 * NS_PER_MS);
        assert_int_equal(done_count, 1);
        free(rig.ctrl);
        rig.ctrl = NULL;
        rig_end();
    }
}

static void close_while_it_is_disabled_ends(void **state)
{
    uint32_t done_count = 0;
    (void)state;
    rig_init(1);
    rig.target->never_idle = true;
    rig_up();
    fake_lose(rig.target, 1, NVMF_FAIL_TRANSPORT);
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_DISABLE, 10 * NS_PER_MS));
    nvmf_ctrl_close(rig.ctrl, on_done, &done_count);
    rig_run(1100 * NS_PER_MS); /* CAP.TO: 1 s */
    assert_int_equal(done_count, 1);
    free(rig.ctrl);
    rig.ctrl = NULL;
    rig_end();
}

static void close_with_the_connection_lost_drains(void **state)
{
    uint32_t done_count = 0;
    (void)state;
    rig_init(1);
    rig.target->never_shut = true;
    rig_up();
    nvmf_ctrl_close(rig.ctrl, on_done, &done_count);
    rig_run(10 * NS_PER_MS);
    assert_int_equal(rig_info(rig.ctrl).state, NVMF_CTRL_SHUT_DOWN);
    fake_lose(rig.target, 0, NVMF_FAIL_DISCONNECTED);
    rig_run(10 * NS_PER_MS);
    assert_int_equal(done_count, 1);
    free(rig.ctrl);
    rig.ctrl = NULL;
    rig_end();
}

static void close_at_once_ends(void **state)
{
    (void)state;
    rig_init(1);
    rig_start();
    rig_end();
    rig_init(1);
    rig_start();
    nvmf_ctrl_reset(rig.ctrl); /* before it began: nothing to reset */
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_LIVE, NS_PER_S));
    assert_int_equal(rig_info(rig.ctrl).connect_count, 1);
    rig_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(close_live_shuts_down_in_order),
        cmocka_unit_test(close_waits_for_commands_under_way),
        cmocka_unit_test(close_of_what_never_ends_takes_two_seconds),
        cmocka_unit_test(close_in_each_state_ends),
        cmocka_unit_test(close_while_it_is_disabled_ends),
        cmocka_unit_test(close_with_the_connection_lost_drains),
        cmocka_unit_test(close_at_once_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
