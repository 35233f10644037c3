/* Asynchronous Event Request: NVM Express 1.4, sections 5.2, 5.14.1.4, 5.21.1.11. */
#include "tests/unit/nvme/rig.h"

#define NOTICE_NS_CHANGED \
    (NVME_EVENT_NOTICE | NVME_EVENT_NOTICE_NS_ATTRIBUTE << 8 | (uint32_t)NVME_LOG_CHANGED_NS << 16)

static struct rig_cmd *request(void)
{
    return rig_admin((struct nvme_sqe){.opcode = NVME_ADMIN_ASYNC_EVENT});
}

static void doorbell_event(uint8_t info)
{
    nvme_ctrl_event(rig.ctrl, NVME_EVENT_ERROR, info, NVME_LOG_ERROR);
}

static void assert_event(const struct rig_cmd *cmd, uint32_t dw0)
{
    assert_ended(cmd, NVME_SC_SUCCESS);
    assert_int_equal(cmd->nvme.blk.dw0, dw0);
}

static const uint32_t *changed_list(bool rae)
{
    return rig_log_page(NVME_LOG_CHANGED_NS, 4096, rae);
}

/* --- 5.2 ------------------------------------------------------------------------------------ */

/* AERL is zeroes based. */
static void aer_beyond_the_limit_is_refused(void **state)
{
    (void)state;
    struct rig_cmd *cmds[LIMIT_AERS];
    for (uint32_t i = 0; i < LIMIT_AERS; i++) {
        cmds[i] = request();
        assert_pending(cmds[i]);
    }
    assert_refused(request(), NVME_SC_AER_LIMIT_EXCEEDED);
    doorbell_event(0);
    assert_event(cmds[0], 0x010000); /* oldest first */
    assert_pending(request());
    assert_refused(request(), NVME_SC_AER_LIMIT_EXCEEDED);
}

static void aer_waits_for_an_event_and_an_event_for_an_aer(void **state)
{
    (void)state;
    struct rig_cmd *cmd = request();
    assert_pending(cmd);
    doorbell_event(NVME_EVENT_ERROR_INVALID_DOORBELL_VALUE);
    assert_event(cmd, 0x010100);
    rig_log_page(NVME_LOG_ERROR, 64, false);
    doorbell_event(NVME_EVENT_ERROR_INVALID_DOORBELL);
    assert_event(request(), 0x010000);
}

/* "subsequent events of that event type are automatically masked until the host clears that event"
 */
static void aer_type_is_masked_until_its_log_page_is_read(void **state)
{
    (void)state;
    struct rig_cmd *first = request();
    struct rig_cmd *second = request();
    doorbell_event(0);
    assert_ended(first, NVME_SC_SUCCESS);
    doorbell_event(1);
    assert_pending(second);
    rig_log_page(NVME_LOG_SMART, 64, false); /* another page */
    assert_pending(second);
    rig_log_page(NVME_LOG_ERROR, 64, true); /* RAE */
    assert_pending(second);
    rig_log_page(NVME_LOG_ERROR, 64, false);
    assert_pending(second); /* the page told of the second one too */
    doorbell_event(1);
    assert_event(second, 0x010100);
}

static void aer_masks_one_type_alone(void **state)
{
    (void)state;
    struct rig_cmd *first = request();
    struct rig_cmd *second = request();
    doorbell_event(0);
    rig_attach(0, 1);
    assert_event(first, 0x010000);
    assert_event(second, NOTICE_NS_CHANGED);
}

static void aer_keeps_one_event_of_a_kind(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 5; i++) {
        doorbell_event(1);
    }
    assert_event(request(), 0x010100);
    assert_pending(request());
}

static void aer_log_page_that_fails_clears_nothing(void **state)
{
    (void)state;
    struct rig_cmd *first = request();
    struct rig_cmd *second = request();
    doorbell_event(0);
    assert_ended(first, NVME_SC_SUCCESS);
    rig.map_fail_after = 1;
    assert_ended(
        rig_admin((struct nvme_sqe){.opcode = NVME_ADMIN_GET_LOG_PAGE, .cdw10 = NVME_LOG_ERROR}),
        NVME_SC_DATA_TRANSFER_ERROR);
    doorbell_event(1);
    assert_pending(second);
}

/* "If outstanding when the controller is reset, the commands are aborted": without completions. */
static void aer_is_dropped_at_disable(void **state)
{
    (void)state;
    struct rig_cmd *cmd = request();
    nvme_ctrl_disable(rig.ctrl);
    doorbell_event(0);
    nvme_ctrl_enable(rig.ctrl);
    assert_pending(cmd);
    doorbell_event(0);
    assert_pending(cmd);
    cmd->completions = 1; /* the transport forgets it */
    assert_event(request(), 0x010000);
    for (uint32_t i = 0; i < LIMIT_AERS; i++) {
        assert_pending(request());
    }
}

static void aer_cancelled_ends_aborted(void **state)
{
    (void)state;
    struct rig_cmd *first = request();
    struct rig_cmd *second = request();
    nvme_cancel(&first->nvme);
    assert_int_equal(first->nvme.blk.status, NVME_SC_ABORT_REQUESTED);
    assert_int_equal(first->completions, 1);
    doorbell_event(0);
    assert_event(second, 0x010000);
}

/* --- namespace attribute notices, changed namespace list ------------------------------------ */

static void ns_notice_follows_attach_detach_and_growth(void **state)
{
    (void)state;
    struct rig_cmd *cmd = request();
    struct rig_dev *dev = rig_attach(0, 3);
    assert_event(cmd, NOTICE_NS_CHANGED);
    assert_int_equal(changed_list(false)[0], 3);
    cmd = request();
    assert_pending(cmd);
    dev->dev.geometry.lba_count = 2000;
    dev->dev.changed(&dev->dev, dev->dev.changed_ctx);
    assert_event(cmd, NOTICE_NS_CHANGED);
    assert_int_equal(changed_list(false)[0], 3);
    cmd = request();
    assert_int_equal(nvme_ns_detach(rig.ctrl, 3, rig_detached, &rig), STATUS_OK);
    assert_event(cmd, NOTICE_NS_CHANGED);
    assert_int_equal(changed_list(false)[0], 3);
    assert_int_equal(changed_list(false)[0], 0);
    rig_turns(4);
}

static void ns_notice_is_sent_if_the_host_enabled_it(void **state)
{
    (void)state;
    assert_ended(rig_admin((struct nvme_sqe){.opcode = NVME_ADMIN_SET_FEATURES,
                                             .cdw10 = NVME_FEATURE_ASYNC_EVENT}),
                 NVME_SC_SUCCESS);
    struct rig_cmd *cmd = request();
    rig_attach(0, 1);
    assert_pending(cmd);
    assert_int_equal(changed_list(false)[0], 1); /* the log page knows all the same */
}

/* AEC bits 0, 1, 2: spare, temperature, reliability; informations 2, 1, 0. */
static void smart_event_is_sent_if_its_warning_is_enabled(void **state)
{
    (void)state;
    assert_ended(rig_admin((struct nvme_sqe){.opcode = NVME_ADMIN_SET_FEATURES,
                                             .cdw10 = NVME_FEATURE_ASYNC_EVENT,
                                             .cdw11 = BIT32(1)}),
                 NVME_SC_SUCCESS);
    struct rig_cmd *cmd = request();
    nvme_ctrl_event(rig.ctrl, NVME_EVENT_SMART, NVME_EVENT_SMART_RELIABILITY, NVME_LOG_SMART);
    nvme_ctrl_event(rig.ctrl, NVME_EVENT_SMART, NVME_EVENT_SMART_SPARE, NVME_LOG_SMART);
    assert_pending(cmd);
    nvme_ctrl_event(rig.ctrl, NVME_EVENT_SMART, NVME_EVENT_SMART_TEMPERATURE, NVME_LOG_SMART);
    assert_event(cmd, 0x020101);
    rig_log_page(NVME_LOG_SMART, 64, false);
    assert_ended(rig_admin((struct nvme_sqe){.opcode = NVME_ADMIN_SET_FEATURES,
                                             .cdw10 = NVME_FEATURE_ASYNC_EVENT,
                                             .cdw11 = BIT32(0) | BIT32(2)}),
                 NVME_SC_SUCCESS);
    cmd = request();
    nvme_ctrl_event(rig.ctrl, NVME_EVENT_SMART, NVME_EVENT_SMART_TEMPERATURE, NVME_LOG_SMART);
    assert_pending(cmd);
    nvme_ctrl_event(rig.ctrl, NVME_EVENT_SMART, NVME_EVENT_SMART_SPARE, NVME_LOG_SMART);
    assert_event(cmd, 0x020201);
}

/* 5.14.1.4: ascending, zero behind the last, gone once read; kept with RAE for reads in pieces. */
static void changed_list_is_ascending_and_cleared_by_reading(void **state)
{
    (void)state;
    rig_attach(0, 900);
    rig_attach(1, 64);
    rig_attach(2, 65);
    for (uint32_t i = 0; i < 2; i++) {
        const uint32_t *list = changed_list(i == 0);
        assert_int_equal(list[0], 64);
        assert_int_equal(list[1], 65);
        assert_int_equal(list[2], 900);
        assert_int_equal(list[3], 0);
    }
    assert_int_equal(changed_list(false)[0], 0);
}

static void changed_list_is_empty_after_enable(void **state)
{
    (void)state;
    rig_attach(0, 1);
    nvme_ctrl_disable(rig.ctrl);
    rig_attach(1, 2);
    nvme_ctrl_enable(rig.ctrl);
    assert_int_equal(changed_list(false)[0], 0);
    assert_pending(request());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(aer_beyond_the_limit_is_refused),
        TEST(aer_waits_for_an_event_and_an_event_for_an_aer),
        TEST(aer_type_is_masked_until_its_log_page_is_read),
        TEST(aer_masks_one_type_alone),
        TEST(aer_keeps_one_event_of_a_kind),
        TEST(aer_log_page_that_fails_clears_nothing),
        TEST(aer_is_dropped_at_disable),
        TEST(aer_cancelled_ends_aborted),
        TEST(ns_notice_follows_attach_detach_and_growth),
        TEST(ns_notice_is_sent_if_the_host_enabled_it),
        TEST(smart_event_is_sent_if_its_warning_is_enabled),
        TEST(changed_list_is_ascending_and_cleared_by_reading),
        TEST(changed_list_is_empty_after_enable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
