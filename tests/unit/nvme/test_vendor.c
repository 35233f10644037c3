/* Vendor commands and log page: NVM Express 1.4, figure 106; docs/spec/mgmt.md. */
#include "tests/unit/nvme/rig.h"

static struct {
    uint16_t fn;
    uint32_t count;
    uint32_t len_bytes;
    uint8_t request[NVME_VENDOR_BYTES];
    uint32_t answer_bytes;
} seen;

static uint32_t serve(uint16_t fn, const void *request, uint32_t len_bytes, void *response)
{
    assert_true(len_bytes <= NVME_VENDOR_BYTES);
    assert_int_equal((uintptr_t)response % 8, 0);
    seen.fn = fn;
    seen.count++;
    seen.len_bytes = len_bytes;
    memcpy(seen.request, request, len_bytes);
    memset(response, 'r', seen.answer_bytes);
    return seen.answer_bytes;
}

static void fill_log(uint16_t fn, void *page)
{
    assert_int_equal(((uint8_t *)page)[NVME_VENDOR_BYTES - 1], 0);
    memset(page, 'l', 8);
    seen.fn = fn;
}

static int setup(void **state)
{
    static const struct nvme_vendor_ops ops = {serve, fill_log};

    int result = rig_setup(state);
    memset(&seen, 0, sizeof(seen));
    seen.answer_bytes = 100;
    rig.config.vendor = &ops;
    rig.config.fn = 3;
    rig_restart();
    return result;
}

static struct rig_cmd *vendor(uint8_t opcode, uint32_t dwords)
{
    return rig_admin((struct nvme_sqe){.opcode = opcode, .cdw10 = dwords});
}

static void vendor_send_hands_over_and_receive_brings_the_answer(void **state)
{
    (void)state;
    memset(rig.data, 'q', 44);
    assert_ended(vendor(NVME_ADMIN_VENDOR_SEND, 11), NVME_SC_SUCCESS);
    assert_int_equal(seen.fn, 3);
    assert_int_equal(seen.len_bytes, 44);
    assert_memory_equal(seen.request, rig.data, 44);
    for (uint32_t again = 0; again < 2; again++) {
        memset(rig.data, 0xee, 8192);
        struct rig_cmd *cmd = vendor(NVME_ADMIN_VENDOR_RECEIVE, 1024);
        assert_ended(cmd, NVME_SC_SUCCESS);
        assert_int_equal(cmd->nvme.blk.dw0, 100);
        assert_int_equal(rig.data[99], 'r');
        assert_int_equal(rig.data[100], 0);
        assert_int_equal(rig.data[4095], 0);
        assert_int_equal(rig.data[4096], 0xee);
    }
    memset(rig.data, 0xee, 100);
    assert_ended(vendor(NVME_ADMIN_VENDOR_RECEIVE, 2), NVME_SC_SUCCESS);
    assert_memory_equal(rig.data, "rrrrrrrr\xee", 9);
}

static void vendor_receive_before_send_is_a_sequence_error(void **state)
{
    (void)state;
    assert_refused(vendor(NVME_ADMIN_VENDOR_RECEIVE, 1), NVME_SC_COMMAND_SEQUENCE_ERROR);
    assert_ended(vendor(NVME_ADMIN_VENDOR_SEND, 1024), NVME_SC_SUCCESS);
    assert_ended(vendor(NVME_ADMIN_VENDOR_RECEIVE, 1), NVME_SC_SUCCESS);
    nvme_ctrl_disable(rig.ctrl);
    nvme_ctrl_enable(rig.ctrl); /* another host, perhaps */
    assert_refused(vendor(NVME_ADMIN_VENDOR_RECEIVE, 1), NVME_SC_COMMAND_SEQUENCE_ERROR);
}

static void vendor_length_out_of_range_is_an_invalid_field(void **state)
{
    (void)state;
    for (uint8_t opcode = NVME_ADMIN_VENDOR_SEND; opcode <= NVME_ADMIN_VENDOR_RECEIVE; opcode++) {
        assert_refused_at(vendor(opcode, 0), NVME_SC_INVALID_FIELD, 40);
        assert_refused_at(vendor(opcode, 1025), NVME_SC_INVALID_FIELD, 40);
        assert_refused_at(vendor(opcode, UINT32_MAX), NVME_SC_INVALID_FIELD, 40);
        assert_refused_at(rig_admin((struct nvme_sqe){.opcode = opcode, .cdw10 = 1, .cdw11 = 1}),
                          NVME_SC_INVALID_FIELD, 44);
        assert_refused_at(rig_admin((struct nvme_sqe){.opcode = opcode, .cdw10 = 1, .nsid = 1}),
                          NVME_SC_INVALID_FIELD, 4);
    }
    assert_int_equal(seen.count, 0);
}

static void vendor_failed_transfer_asks_nobody(void **state)
{
    (void)state;
    rig.map_fail_after = 1;
    rig.map_status = NVME_SC_DATA_TRANSFER_ERROR;
    assert_ended(vendor(NVME_ADMIN_VENDOR_SEND, 8), NVME_SC_DATA_TRANSFER_ERROR);
    assert_int_equal(seen.count, 0);
}

static void vendor_other_opcodes_are_invalid(void **state)
{
    (void)state;
    for (uint32_t opcode = NVME_ADMIN_VENDOR_FIRST; opcode < 256; opcode++) {
        if (opcode != NVME_ADMIN_VENDOR_SEND && opcode != NVME_ADMIN_VENDOR_RECEIVE) {
            assert_refused_at(vendor((uint8_t)opcode, 1), NVME_SC_INVALID_OPCODE, 0);
        }
    }
}

static const struct nvme_identify_ctrl *identify(void)
{
    assert_ended(rig_admin((struct nvme_sqe){.opcode = NVME_ADMIN_IDENTIFY, .cdw10 = 1}),
                 NVME_SC_SUCCESS);
    return (const struct nvme_identify_ctrl *)(const void *)rig.data;
}

static void vendor_is_told_of_where_it_is_offered_alone(void **state)
{
    (void)state;
    assert_int_equal(identify()->avscc, 1);
    const struct nvme_effects_log *log = rig_log_page(NVME_LOG_EFFECTS, sizeof(*log), false);
    assert_int_equal(log->admin[NVME_ADMIN_VENDOR_SEND], NVME_EFFECT_SUPPORTED);
    rig.config.vendor = NULL;
    rig_restart();
    assert_int_equal(identify()->avscc, 0);
    assert_refused_at(vendor(NVME_ADMIN_VENDOR_SEND, 1), NVME_SC_INVALID_OPCODE, 0);
    assert_refused(rig_admin((struct nvme_sqe){.opcode = NVME_ADMIN_GET_LOG_PAGE,
                                               .cdw10 = NVME_LOG_VENDOR | 15u << 16}),
                   NVME_SC_INVALID_LOG_PAGE);
}

static void vendor_log_page_is_filled(void **state)
{
    (void)state;
    const uint8_t *page = rig_log_page(NVME_LOG_VENDOR, 4096, false);
    assert_memory_equal(page, "llllllll\0", 9);
    assert_int_equal(seen.fn, 3);
}

int main(void)
{
#define VENDOR_TEST(name) cmocka_unit_test_setup_teardown(name, setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        VENDOR_TEST(vendor_send_hands_over_and_receive_brings_the_answer),
        VENDOR_TEST(vendor_receive_before_send_is_a_sequence_error),
        VENDOR_TEST(vendor_length_out_of_range_is_an_invalid_field),
        VENDOR_TEST(vendor_failed_transfer_asks_nobody),
        VENDOR_TEST(vendor_other_opcodes_are_invalid),
        VENDOR_TEST(vendor_is_told_of_where_it_is_offered_alone),
        VENDOR_TEST(vendor_log_page_is_filled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
