/* Get Log Page: NVM Express 1.4, section 5.14. */
#include "tests/unit/nvme/rig.h"

static struct rig_cmd *get_log(struct nvme_sqe sqe)
{
    memset(rig.data, 0xee, 8192);
    sqe.opcode = NVME_ADMIN_GET_LOG_PAGE;
    return rig_admin(sqe);
}

#define DWORDS(bytes) (((bytes) / 4 - 1) << NVME_LOG_NUMDL_SHIFT)

/* --- the command ---------------------------------------------------------------------------- */

/* Figure 128, Invalid Log Page: also for reserved ones. */
static void log_page_unknown_is_refused(void **state)
{
    (void)state;
    for (uint32_t lid = 0; lid < 256; lid++) {
        if (lid >= 1 && lid <= 5) {
            assert_ended(get_log((struct nvme_sqe){.cdw10 = lid | DWORDS(64)}), NVME_SC_SUCCESS);
        } else {
            assert_refused_at(get_log((struct nvme_sqe){.cdw10 = lid | DWORDS(64)}),
                              NVME_SC_INVALID_LOG_PAGE, 40);
        }
    }
}

/* 5.14: pages of the controller take NSID 0 or FFFFFFFFh; LPA bit 0 is clear. */
static void log_page_of_a_namespace_is_refused(void **state)
{
    (void)state;
    rig_attach(0, 1);
    for (uint32_t lid = 1; lid <= 5; lid++) {
        assert_refused_at(get_log((struct nvme_sqe){.nsid = 1, .cdw10 = lid | DWORDS(64)}),
                          NVME_SC_INVALID_FIELD, 4);
        assert_ended(get_log((struct nvme_sqe){.nsid = NVME_NSID_ALL, .cdw10 = lid | DWORDS(64)}),
                     NVME_SC_SUCCESS);
    }
}

static void log_page_length_is_the_number_of_dwords(void **state)
{
    (void)state;
    assert_ended(get_log((struct nvme_sqe){.cdw10 = NVME_LOG_FIRMWARE_SLOT}), NVME_SC_SUCCESS);
    assert_int_equal(rig.map_len_bytes, 4); /* NUMDL is zeroes based */
    assert_memory_equal(rig.data, ((uint8_t[]){1, 0, 0, 0, 0xee}), 5);
    assert_ended(get_log((struct nvme_sqe){.cdw10 = NVME_LOG_FIRMWARE_SLOT | DWORDS(4096)}),
                 NVME_SC_SUCCESS);
    assert_int_equal(rig.data[511], 0);
    assert_int_equal(rig.data[4095], 0); /* behind the page: zeroes */
    assert_int_equal(rig.data[4096], 0xee);
}

static void log_page_beyond_mdts_is_an_invalid_field(void **state)
{
    (void)state;
    const uint32_t mdts_bytes = 4096u << 5;
    const uint32_t last = mdts_bytes / 4 - 1;
    assert_ended(get_log((struct nvme_sqe){.cdw10 = NVME_LOG_ERROR | (last & 0xffff) << 16,
                                           .cdw11 = last >> 16}),
                 NVME_SC_SUCCESS);
    assert_int_equal(rig.map_len_bytes, mdts_bytes);
    assert_refused(get_log((struct nvme_sqe){.cdw10 = NVME_LOG_ERROR | ((last + 1) & 0xffff) << 16,
                                             .cdw11 = (last + 1) >> 16}),
                   NVME_SC_INVALID_FIELD);
    assert_refused(
        get_log((struct nvme_sqe){.cdw10 = NVME_LOG_ERROR | 0xffff0000, .cdw11 = 0xffff}),
        NVME_SC_INVALID_FIELD); /* NUMDU: 16 GiB must not wrap */
}

/* LPOL, LPOU: dword aligned, at most the page's length. */
static void log_page_offset_selects_and_is_checked(void **state)
{
    (void)state;
    const uint32_t cdw10 = NVME_LOG_FIRMWARE_SLOT | DWORDS(8);
    assert_ended(get_log((struct nvme_sqe){.cdw10 = cdw10, .cdw12 = 8}), NVME_SC_SUCCESS);
    assert_memory_equal(rig.data, "1.0     ", 8);
    assert_ended(get_log((struct nvme_sqe){.cdw10 = cdw10, .cdw12 = 508}), NVME_SC_SUCCESS);
    assert_ended(get_log((struct nvme_sqe){.cdw10 = cdw10, .cdw12 = 512}), NVME_SC_SUCCESS);
    assert_int_equal(rig.data[7], 0);
    assert_refused_at(get_log((struct nvme_sqe){.cdw10 = cdw10, .cdw12 = 516}),
                      NVME_SC_INVALID_FIELD, 48);
    assert_refused_at(get_log((struct nvme_sqe){.cdw10 = cdw10, .cdw12 = 2}), NVME_SC_INVALID_FIELD,
                      48);
    assert_refused_at(get_log((struct nvme_sqe){.cdw10 = cdw10, .cdw13 = 1}), NVME_SC_INVALID_FIELD,
                      48);
}

static void log_page_bad_data_pointer_ends_with_its_status(void **state)
{
    (void)state;
    rig.map_fail_after = 1;
    assert_ended(get_log((struct nvme_sqe){.cdw10 = NVME_LOG_SMART | DWORDS(512)}),
                 NVME_SC_DATA_TRANSFER_ERROR);
}

/* --- 5.14.1.1 Error Information ------------------------------------------------------------- */

static void error_log_names_queue_command_status_place_block_and_namespace(void **state)
{
    (void)state;
    rig_attach(0, 3);
    assert_refused(rig_io(rig_rw(NVME_IO_READ, 3, 995, 10)), NVME_SC_LBA_OUT_OF_RANGE);
    struct nvme_error_entry entry = rig_last_error();
    assert_int_equal(entry.error_count, 1);
    assert_int_equal(entry.sqid, 1);
    assert_int_equal(entry.cid, 0x1234);
    assert_int_equal(entry.status, (NVME_SC_LBA_OUT_OF_RANGE | NVME_STATUS_DNR | NVME_STATUS_MORE)
                                       << 1);
    assert_int_equal(entry.parameter_location, 40);
    assert_int_equal(entry.lba, 995);
    assert_int_equal(entry.nsid, 3);
    assert_int_equal(entry.trtype, 0);
}

static void error_log_of_a_device_failure_names_no_parameter(void **state)
{
    (void)state;
    struct rig_dev *dev = rig_attach(0, 1);
    dev->fail_after = 1;
    dev->fail_status = NVME_SC_UNRECOVERED_READ;
    struct rig_cmd *cmd = rig_io(rig_rw(NVME_IO_READ, 1, 7, 1));
    assert_int_equal(cmd->nvme.blk.status, NVME_SC_UNRECOVERED_READ | NVME_STATUS_MORE);
    struct nvme_error_entry entry = rig_last_error();
    assert_int_equal(entry.parameter_location, 0xffff);
    assert_int_equal(entry.lba, 7);
}

/* Newest first; unused entries are zero; 64 are kept. */
static void error_log_keeps_the_newest_64(void **state)
{
    (void)state;
    const struct nvme_error_entry *log;
    for (uint32_t i = 0; i < 3; i++) {
        rig_admin((struct nvme_sqe){.opcode = 0xff});
    }
    log = rig_log_page(NVME_LOG_ERROR, 4096, false);
    assert_int_equal(log[0].error_count, 3);
    assert_int_equal(log[2].error_count, 1);
    assert_int_equal(log[3].error_count, 0);
    for (uint32_t i = 0; i < 100; i++) {
        rig_admin((struct nvme_sqe){.opcode = 0xff});
    }
    log = rig_log_page(NVME_LOG_ERROR, 4096, false);
    for (uint32_t i = 0; i < 64; i++) {
        assert_int_equal(log[i].error_count, 103 - i);
    }
}

/* Each core keeps its own entries; the page merges them by error count. */
static void error_log_merges_the_cores(void **state)
{
    (void)state;
    const struct nvme_error_entry *log;
    for (uint32_t i = 0; i < 80; i++) {
        struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 9, i, 1);
        struct rig_cmd *cmd = rig_cmd_new(&sqe);
        cmd->nvme.sq_id = (uint16_t)(i % LIMIT_CORES + 1);
        cmd->nvme.blk.owner_core = (uint8_t)(i % LIMIT_CORES);
        nvme_submit_io(&cmd->nvme);
        assert_refused(cmd, NVME_SC_INVALID_FIELD);
    }
    log = rig_log_page(NVME_LOG_ERROR, 4096, false);
    for (uint32_t i = 0; i < 64; i++) {
        assert_int_equal(log[i].error_count, 80 - i);
        assert_int_equal(log[i].lba, 79 - i);
        assert_int_equal(log[i].sqid, (79 - i) % LIMIT_CORES + 1);
    }
}

static void error_log_survives_a_reset_and_aborts_leave_no_entry(void **state)
{
    (void)state;
    struct rig_dev *dev = rig_attach(0, 1);
    rig_admin((struct nvme_sqe){.opcode = 0xff});
    dev->fail_after = 1;
    dev->fail_status = NVME_SC_ABORT_REQUESTED;
    struct rig_cmd *cmd = rig_io(rig_rw(NVME_IO_READ, 1, 0, 1));
    assert_int_equal(cmd->nvme.blk.status, NVME_SC_ABORT_REQUESTED);
    nvme_ctrl_disable(rig.ctrl);
    nvme_ctrl_enable(rig.ctrl);
    assert_int_equal(rig_last_error().error_count, 1);
}

static void error_log_takes_what_no_command_ended_by(void **state)
{
    (void)state;
    nvme_ctrl_log_error(rig.ctrl, 4, 0xffff, NVME_SC_INVALID_FIELD, 0xffff, 0, 0);
    struct nvme_error_entry entry = rig_last_error();
    assert_int_equal(entry.sqid, 4);
    assert_int_equal(entry.cid, 0xffff);
}

/* --- 5.14.1.2 SMART ------------------------------------------------------------------------- */

static const struct nvme_smart_log *smart(void)
{
    return rig_log_page(NVME_LOG_SMART, 512, false);
}

static void smart_counts_what_hosts_did(void **state)
{
    (void)state;
    rig_attach(0, 1);
    assert_ended(rig_io(rig_rw(NVME_IO_READ, 1, 0, 200)), NVME_SC_SUCCESS);
    assert_ended(rig_io(rig_rw(NVME_IO_READ, 1, 0, 8)), NVME_SC_SUCCESS);
    assert_int_equal(smart()->data_units_read[0], 1); /* rounded up */
    assert_int_equal(smart()->host_read_commands[0], 2);
    for (uint32_t i = 0; i < 9; i++) {
        assert_ended(rig_io(rig_rw(NVME_IO_WRITE, 1, 0, 250)), NVME_SC_SUCCESS);
    }
    assert_int_equal(smart()->data_units_written[0], 3); /* 2,250 blocks */
    assert_int_equal(smart()->host_write_commands[0], 9);
}

/* 5.14.1.2: Compare counts as read command and units, Verify as units; Write Zeroes as neither. */
static void smart_counts_compare_and_verify_as_reads(void **state)
{
    (void)state;
    rig_attach(0, 1);
    assert_ended(rig_io(rig_rw(NVME_IO_COMPARE, 1, 0, 250)), NVME_SC_SUCCESS);
    assert_int_equal(smart()->host_read_commands[0], 1);
    for (uint32_t i = 0; i < 4; i++) {
        assert_ended(rig_io(rig_rw(NVME_IO_VERIFY, 1, 0, 250)), NVME_SC_SUCCESS);
    }
    assert_int_equal(smart()->host_read_commands[0], 1);
    assert_int_equal(smart()->data_units_read[0], 2);
    assert_ended(rig_io(rig_rw(NVME_IO_WRITE_ZEROES, 1, 0, 250)), NVME_SC_SUCCESS);
    assert_int_equal(smart()->data_units_written[0], 0);
    assert_int_equal(smart()->host_write_commands[0], 0);
}

static void smart_keeps_the_counts_of_detached_namespaces(void **state)
{
    (void)state;
    rig_attach(0, 1);
    assert_ended(rig_io(rig_rw(NVME_IO_READ, 1, 0, 200)), NVME_SC_SUCCESS);
    assert_int_equal(nvme_ns_detach(rig.ctrl, 1, NULL, NULL), STATUS_OK);
    rig_turns(4);
    assert_int_equal(smart()->host_read_commands[0], 1);
    rig_attach(1, 1);
    assert_ended(rig_io(rig_rw(NVME_IO_READ, 1, 0, 200)), NVME_SC_SUCCESS);
    assert_int_equal(smart()->host_read_commands[0], 2);
}

static void smart_tells_hours_errors_and_no_warning(void **state)
{
    (void)state;
    struct rig_dev *dev = rig_attach(0, 1);
    dev->fail_after = 1;
    dev->fail_status = NVME_SC_UNRECOVERED_READ;
    rig_io(rig_rw(NVME_IO_READ, 1, 0, 1));
    rig_admin((struct nvme_sqe){.opcode = 0xff});
    native_clock_advance(2 * 3600 * NS_PER_S + 1);
    const struct nvme_smart_log *log = smart();
    assert_int_equal(log->critical_warning, 0);
    assert_int_equal(log->available_spare_percent, 100);
    assert_int_equal(log->percentage_used, 0);
    assert_int_equal(log->power_on_hours[0], 2);
    assert_int_equal(log->power_cycles[0], 1);
    assert_int_equal(log->unsafe_shutdowns[0], 0);
    assert_int_equal(log->media_errors[0], 1);
    assert_int_equal(log->error_entries[0], 2);
    assert_int_equal(log->temperature_sensor_kelvin[0], 0);
}

/* --- 5.14.1.3 Firmware Slot, 5.14.1.5 Effects ----------------------------------------------- */

static void firmware_log_has_one_active_slot(void **state)
{
    (void)state;
    const struct nvme_firmware_log *log = rig_log_page(NVME_LOG_FIRMWARE_SLOT, 512, false);
    assert_int_equal(log->afi, 1);
    assert_memory_equal(log->revision[0], "1.0     ", 8);
    assert_memory_equal(log->revision[1], "\0\0\0\0\0\0\0\0", 8);
}

static void effects_log_agrees_with_what_is_executed(void **state)
{
    (void)state;
    rig.config.host_id[0] = 1;
    rig_restart();
    rig_attach_with(0, 1, BLK_FEATURE_COMPARE | BLK_FEATURE_RESERVATIONS);
    static struct nvme_effects_log log;
    memcpy(&log, rig_log_page(NVME_LOG_EFFECTS, sizeof(log), false), sizeof(log));
    for (uint32_t opcode = 0; opcode < 256; opcode++) {
        struct rig_cmd *cmd = rig_io((struct nvme_sqe){.opcode = (uint8_t)opcode, .nsid = 1});
        bool refused = NVME_STATUS_CODE(cmd->nvme.blk.status) == NVME_SC_INVALID_OPCODE;
        assert_int_equal(refused, (log.io[opcode] & NVME_EFFECT_SUPPORTED) == 0);
        if (opcode == NVME_ADMIN_ASYNC_EVENT) {
            assert_int_equal(log.admin[opcode], NVME_EFFECT_SUPPORTED);
            continue;
        }
        cmd = rig_admin((struct nvme_sqe){.opcode = (uint8_t)opcode});
        refused = NVME_STATUS_CODE(cmd->nvme.blk.status) == NVME_SC_INVALID_OPCODE;
        assert_int_equal(refused, (log.admin[opcode] & NVME_EFFECT_SUPPORTED) == 0);
    }
    assert_int_equal(log.io[NVME_IO_WRITE], NVME_EFFECT_SUPPORTED | NVME_EFFECT_BLOCK_CONTENT);
    assert_int_equal(log.io[NVME_IO_READ], NVME_EFFECT_SUPPORTED);
    assert_int_equal(log.io[NVME_IO_VERIFY], 0);
    assert_int_equal(log.io[NVME_IO_RESERVATION_ACQUIRE], NVME_EFFECT_SUPPORTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(log_page_unknown_is_refused),
        TEST(log_page_of_a_namespace_is_refused),
        TEST(log_page_length_is_the_number_of_dwords),
        TEST(log_page_beyond_mdts_is_an_invalid_field),
        TEST(log_page_offset_selects_and_is_checked),
        TEST(log_page_bad_data_pointer_ends_with_its_status),
        TEST(error_log_names_queue_command_status_place_block_and_namespace),
        TEST(error_log_of_a_device_failure_names_no_parameter),
        TEST(error_log_keeps_the_newest_64),
        TEST(error_log_merges_the_cores),
        TEST(error_log_survives_a_reset_and_aborts_leave_no_entry),
        TEST(error_log_takes_what_no_command_ended_by),
        TEST(smart_counts_what_hosts_did),
        TEST(smart_counts_compare_and_verify_as_reads),
        TEST(smart_keeps_the_counts_of_detached_namespaces),
        TEST(smart_tells_hours_errors_and_no_warning),
        TEST(firmware_log_has_one_active_slot),
        TEST(effects_log_agrees_with_what_is_executed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
