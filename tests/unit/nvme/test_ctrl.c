/* The controller as a whole: configuration, enable, disable, shutdown (NVM
 * Express 1.4, 3.1.5, 7.6). */
#include "tests/unit/nvme/rig.h"

static struct nvme_ctrl_memory other;

static enum status init(const struct nvme_ctrl_config *config)
{
    struct nvme_ctrl *ctrl;
    return nvme_ctrl_init(&other, config, &ctrl);
}

/* Changes one field of a good configuration, which must then be refused. */
#define assert_bad(field, value)                       \
    do {                                               \
        struct nvme_ctrl_config bad_ = rig.config;     \
        bad_.field = (value);                          \
        assert_int_equal(init(&bad_), STATUS_INVALID); \
    } while (0)

static void ctrl_config_out_of_range_is_refused(void **state)
{
    (void)state;
    static const struct nvme_transport_ops none;
    assert_int_equal(init(&rig.config), STATUS_OK);
    assert_bad(ops, NULL);
    assert_bad(ops, &none);
    assert_bad(serial, NULL);
    assert_bad(serial, "");
    assert_bad(serial, "123456789012345678901");
    assert_bad(serial, "tab\tinside");
    assert_bad(model, "12345678901234567890123456789012345678901");
    assert_bad(firmware, "123456789");
    assert_bad(subnqn, NULL);
    assert_bad(io_queue_count, 0);
    assert_bad(io_queue_count, LIMIT_IO_QUEUES + 1);
    assert_bad(vector_count, 0);
    assert_bad(vector_count, LIMIT_VECTORS + 1);
    assert_bad(namespace_count, LIMIT_NAMESPACES + 1);
    assert_bad(mdts, 0);
    assert_bad(mdts, LIMIT_MDTS + 1);
}

static void ctrl_config_at_its_ends_is_taken(void **state)
{
    (void)state;
    rig.config.io_queue_count = 1;
    rig.config.vector_count = 1;
    rig.config.mdts = 1;
    rig.config.namespace_count = 1;
    rig.config.serial = " ~";
    assert_int_equal(init(&rig.config), STATUS_OK);
    rig.config.io_queue_count = LIMIT_IO_QUEUES;
    rig.config.vector_count = LIMIT_VECTORS;
    rig.config.mdts = LIMIT_MDTS;
    rig.config.namespace_count = LIMIT_NAMESPACES;
    assert_int_equal(init(&rig.config), STATUS_OK);
}

static void ctrl_names_of_full_length_are_taken(void **state)
{
    (void)state;
    static char nqn[225];
    memset(nqn, 'n', 224);
    assert_bad(subnqn, nqn);
    nqn[223] = '\0';
    rig.config.subnqn = nqn;
    rig.config.serial = "12345678901234567890";
    rig.config.model = "1234567890123456789012345678901234567890";
    rig.config.firmware = "12345678";
    assert_int_equal(init(&rig.config), STATUS_OK);
}

static void ctrl_transport_is_what_was_given(void **state)
{
    (void)state;
    assert_ptr_equal(nvme_ctrl_transport(rig.ctrl), &rig);
}

static void ctrl_namespaces_stay_over_a_reset(void **state)
{
    (void)state;
    rig_attach(0, 1);
    nvme_ctrl_disable(rig.ctrl);
    nvme_ctrl_enable(rig.ctrl);
    assert_ended(rig_io(rig_rw(NVME_IO_READ, 1, 0, 1)), NVME_SC_SUCCESS);
}

/* --- 7.6.2 shutdown ------------------------------------------------------------------------- */

static void shutdown_begin(void)
{
    nvme_ctrl_shutdown(rig.ctrl, rig_shutdown_done, &rig);
}

static void shutdown_flushes_every_namespace_first(void **state)
{
    (void)state;
    rig_attach(0, 1)->hold = true;
    rig_attach(1, 2)->hold = true;
    rig_attach_with(2, 3, 0);
    shutdown_begin();
    assert_int_equal(rig.devs[0].opcodes[0], NVME_IO_FLUSH);
    rig_dev_release(&rig.devs[0], NVME_SC_SUCCESS);
    assert_int_equal(rig.shutdown_count, 0);
    rig_dev_release(&rig.devs[1], NVME_SC_SUCCESS);
    assert_int_equal(rig.shutdown_count, 1);
    assert_int_equal(rig.devs[2].request_count, 0);
    native_clock_advance(10 * NS_PER_S);
    rig_turns(4);
    assert_int_equal(rig.shutdown_count, 1);
}

static void shutdown_without_namespaces_is_done(void **state)
{
    (void)state;
    shutdown_begin();
    assert_int_equal(rig.shutdown_count, 1);
}

static void shutdown_goes_on_when_a_flush_fails(void **state)
{
    (void)state;
    rig_attach(0, 1)->fail_after = 1;
    rig.devs[0].fail_status = NVME_SC_WRITE_FAULT;
    rig_attach(1, 2);
    shutdown_begin();
    assert_int_equal(rig.shutdown_count, 1);
    assert_int_equal(rig.devs[1].request_count, 1);
}

static void shutdown_is_done_after_five_seconds_whatever_a_device_does(void **state)
{
    (void)state;
    rig_attach(0, 1)->hold = true;
    rig.devs[0].ignores_cancel = true;
    shutdown_begin();
    native_clock_advance(4900 * NS_PER_MS);
    rig_turns(4);
    assert_int_equal(rig.shutdown_count, 0);
    native_clock_advance(200 * NS_PER_MS);
    rig_turns(4);
    assert_int_equal(rig.shutdown_count, 1);
    rig_dev_release(&rig.devs[0], NVME_SC_SUCCESS); /* too late: nobody is told twice */
    assert_int_equal(rig.shutdown_count, 1);
}

/* A flush that was given up says nothing about what was written since. */
static void shutdown_after_one_that_was_given_up_flushes_anew(void **state)
{
    (void)state;
    rig_attach(0, 1)->hold = true;
    rig.devs[0].ignores_cancel = true;
    shutdown_begin();
    nvme_ctrl_disable(rig.ctrl);
    nvme_ctrl_enable(rig.ctrl);
    shutdown_begin();
    assert_int_equal(rig.devs[0].request_count, 1);
    rig_dev_release(&rig.devs[0], NVME_SC_SUCCESS);
    assert_int_equal(rig.shutdown_count, 0);
    rig_turns(4);
    assert_int_equal(rig.devs[0].request_count, 2);
    rig_dev_release(&rig.devs[0], NVME_SC_SUCCESS);
    assert_int_equal(rig.shutdown_count, 1);
}

static void shutdown_ends_untold_at_disable(void **state)
{
    (void)state;
    rig_attach(0, 1)->hold = true;
    shutdown_begin();
    nvme_ctrl_disable(rig.ctrl);
    assert_int_equal(rig_dev_held(&rig.devs[0]), 0); /* cancelled */
    native_clock_advance(10 * NS_PER_S);
    rig_turns(4);
    assert_int_equal(rig.shutdown_count, 0);
}

static void shutdown_twice_flushes_twice(void **state)
{
    (void)state;
    rig_attach(0, 1);
    shutdown_begin();
    shutdown_begin();
    assert_int_equal(rig.shutdown_count, 2);
    assert_int_equal(rig.devs[0].request_count, 2);
}

/* 7.6.2: after SHST complete the host's memory may be gone: no completions but those of commands.
 */
static void shutdown_reports_no_event_until_the_next_enable(void **state)
{
    (void)state;
    struct rig_cmd *cmd = rig_admin((struct nvme_sqe){.opcode = NVME_ADMIN_ASYNC_EVENT});
    assert_ended(rig_admin((struct nvme_sqe){.opcode = NVME_ADMIN_SET_FEATURES,
                                             .cdw10 = NVME_FEATURE_KEEP_ALIVE,
                                             .cdw11 = 100}),
                 NVME_SC_SUCCESS);
    shutdown_begin();
    rig_attach(0, 1);
    nvme_ctrl_event(rig.ctrl, NVME_EVENT_ERROR, 0, NVME_LOG_ERROR);
    native_clock_advance(NS_PER_S);
    rig_turns(4);
    assert_pending(cmd);
    assert_int_equal(rig.fatal_count, 0);
    nvme_ctrl_disable(rig.ctrl);
    cmd->completions = 1; /* the transport forgets it */
    nvme_ctrl_enable(rig.ctrl);
    cmd = rig_admin((struct nvme_sqe){.opcode = NVME_ADMIN_ASYNC_EVENT});
    nvme_ctrl_event(rig.ctrl, NVME_EVENT_ERROR, 0, NVME_LOG_ERROR);
    assert_ended(cmd, NVME_SC_SUCCESS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(ctrl_config_out_of_range_is_refused),
        TEST(ctrl_config_at_its_ends_is_taken),
        TEST(ctrl_names_of_full_length_are_taken),
        TEST(ctrl_transport_is_what_was_given),
        TEST(ctrl_namespaces_stay_over_a_reset),
        TEST(shutdown_flushes_every_namespace_first),
        TEST(shutdown_without_namespaces_is_done),
        TEST(shutdown_goes_on_when_a_flush_fails),
        TEST(shutdown_is_done_after_five_seconds_whatever_a_device_does),
        TEST(shutdown_after_one_that_was_given_up_flushes_anew),
        TEST(shutdown_ends_untold_at_disable),
        TEST(shutdown_twice_flushes_twice),
        TEST(shutdown_reports_no_event_until_the_next_enable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
