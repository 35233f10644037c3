/* Asynchronous events: as many requests as the controller takes, each armed again. */
#include "tests/unit/nvmf_ctrl/rig.h"

static uint32_t dw0(uint32_t type, uint32_t info, uint32_t page)
{
    return (uint32_t)(FIELD_PREP(NVME_EVENT_TYPE, type) | FIELD_PREP(NVME_EVENT_INFO, info) |
                      FIELD_PREP(NVME_EVENT_LOG, page));
}

/* 5.2: at most AERL + 1 at a time. */
static void requests_are_as_many_as_aerl_says(void **state)
{
    static const uint8_t aerls[] = {0, 1, 3, 255};
    (void)state;
    for (size_t i = 0; i < sizeof(aerls); i++) {
        rig_init(1);
        rig.target->id.aerl = aerls[i];
        rig.target->aer_limit = aerls[i] + 1u;
        rig_up();
        rig_run(5 * NS_PER_MS);
        assert_int_equal(rig.target->aer_count, aerls[i] >= 3 ? LIMIT_AERS : aerls[i] + 1);
        rig_end();
    }
}

static void configuration_asks_for_what_is_offered(void **state)
{
    (void)state;
    rig_init(1);
    rig.target->id.oaes = NVME_OAES_NS_ATTRIBUTE | NVME_OAES_FIRMWARE | BIT32(11);
    rig_up();
    assert_int_equal(rig.target->aen_config, NVME_AEC_NS_ATTRIBUTE | NVME_AEC_FIRMWARE);
    rig_end();
    rig_init(1);
    rig.target->id.oaes = 0;
    rig_up();
    assert_int_equal(rig.target->aen_config, 0);
    rig_end();
}

static void every_event_is_counted_and_armed_again(void **state)
{
    static const struct {
        uint8_t type;
        uint8_t info;
        uint8_t page;
        bool is_read;
    } cases[] = {
        {NVME_EVENT_NOTICE, NVME_EVENT_NOTICE_NS_ATTRIBUTE, NVME_LOG_CHANGED_NS, true},
        {NVME_EVENT_NOTICE, NVME_EVENT_NOTICE_FIRMWARE, NVME_LOG_FIRMWARE_SLOT, true},
        {NVME_EVENT_ERROR, 3, NVME_LOG_ERROR, true},
        {NVME_EVENT_SMART, 1, NVME_LOG_SMART, true},
        {NVME_EVENT_IO, 0, 0x80, false},
        {NVME_EVENT_VENDOR, 0xff, 0xff, false},
        {5, 0xff, 0, false},
    };
    (void)state;
    rig_init(1);
    rig_up();
    for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        rig_run(150 * NS_PER_MS);
        assert_int_equal(rig.target->aer_count, 4);
        assert_true(fake_event(rig.target, dw0(cases[i].type, cases[i].info, cases[i].page)));
        rig_run(150 * NS_PER_MS);
        assert_int_equal(rig_info(rig.ctrl).event_count, i + 1);
        assert_int_equal(rig.target->log_count[cases[i].page], cases[i].is_read);
    }
    rig_run(15 * NS_PER_MS);
    assert_int_equal(rig.target->aer_count, 4);
    assert_int_equal(rig_info(rig.ctrl).state, NVMF_CTRL_LIVE);
    rig_end();
}

/* A target that answers every request at once costs little. */
static void endless_events_are_slowed_down(void **state)
{
    (void)state;
    rig_init(1);
    rig_up();
    rig.target->identify_count = 0;
    for (uint32_t i = 0; i < 10000; i++) {
        while (fake_event(rig.target, dw0(NVME_EVENT_NOTICE, 0, NVME_LOG_CHANGED_NS))) {
        }
        rig_turn();
    }
    assert_true(rig_info(rig.ctrl).event_count <= 4 * 101 + 4); /* in a second */
    assert_true(rig.target->identify_count <= 12);
    assert_true(rig.target->log_count[NVME_LOG_CHANGED_NS] <= 12);
    assert_int_equal(rig_info(rig.ctrl).state, NVMF_CTRL_LIVE);
    rig_end();
}

static void refused_requests_are_not_asked_again(void **state)
{
    (void)state;
    rig_init(1);
    rig.target->aer_limit = 1; /* though AERL says 4 */
    rig_up();
    rig_run(100 * NS_PER_MS);
    assert_int_equal(rig.target->aer_count, 1);
    assert_true(fake_event(rig.target, dw0(NVME_EVENT_ERROR, 0, NVME_LOG_ERROR)));
    rig_run(100 * NS_PER_MS);
    assert_int_equal(rig.target->aer_count, 1); /* the good one is armed again */
    assert_int_equal(rig_info(rig.ctrl).event_count, 1);

    rig.target->aer_limit = 4;
    nvmf_ctrl_reset(rig.ctrl);
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_BACKOFF, NS_PER_S));
    assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_LIVE, NS_PER_S));
    rig_run(NS_PER_MS);
    assert_int_equal(rig.target->aer_count, 4); /* a new controller: all of them */
    rig_end();
}

static void requests_survive_any_number_of_resets(void **state)
{
    (void)state;
    rig_init(1);
    rig.config.backoff_low_ms = 1;
    rig.config.backoff_high_ms = 1;
    rig_up();
    for (uint32_t i = 0; i < 10; i++) {
        if (i % 2 != 0) {
            (void)fake_event(rig.target, dw0(NVME_EVENT_NOTICE, 0, NVME_LOG_CHANGED_NS));
        }
        fake_lose(rig.target, i % 2, NVMF_FAIL_TRANSPORT);
        rig_turn();
        assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_BACKOFF, NS_PER_S));
        assert_true(rig_run_to(rig.ctrl, NVMF_CTRL_LIVE, NS_PER_S));
        rig_run(15 * NS_PER_MS);
        assert_int_equal(rig.target->aer_count, 4);
    }
    rig_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_as_many_as_aerl_says),
        cmocka_unit_test(configuration_asks_for_what_is_offered),
        cmocka_unit_test(every_event_is_counted_and_armed_again),
        cmocka_unit_test(endless_events_are_slowed_down),
        cmocka_unit_test(refused_requests_are_not_asked_again),
        cmocka_unit_test(requests_survive_any_number_of_resets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
