/* Firmware Image Download, Firmware Commit, Firmware Slot log: NVM Express 1.4, sections 5.11,
 * 5.12, 5.14.1.3. */
#include "tests/unit/nvme/rig.h"

#include "base/bits.h"
#include "nvme/handover.h"
#include "nvme/nvme_priv.h"

#define KIB 1024u

/* What keeps images: takes what it is told to, ends a commit when the test says so. */
static struct fake {
    uint8_t image[LIMIT_FIRMWARE_BYTES];
    uint32_t receive_count;
    uint32_t offset_bytes, len_bytes; /* of the last piece */
    enum status receive_status;
    uint32_t commit_count;
    uint32_t what;
    uint8_t slot;
    enum status commit_status; /* what the call returns */
    void (*done)(void *arg, enum status status);
    void *arg;
    struct nvme_firmware_report report;
    uint32_t disabled_count;
} fake;

static enum status fake_receive(void *ctx, uint32_t offset_bytes, const struct mem_ref *data)
{
    assert_ptr_equal(ctx, &fake);
    if (fake.receive_status != STATUS_OK) {
        return fake.receive_status;
    }
    fake.receive_count++;
    fake.offset_bytes = offset_bytes;
    fake.len_bytes = data->len_bytes;
    assert_true(range_fits(offset_bytes, data->len_bytes, sizeof(fake.image)));
    assert_int_equal(mem_ref_read(data, 0, fake.image + offset_bytes, data->len_bytes),
                     data->len_bytes);
    return STATUS_OK;
}

static enum status fake_commit(void *ctx, uint32_t what, uint8_t slot,
                               void (*done)(void *arg, enum status status), void *arg)
{
    assert_ptr_equal(ctx, &fake);
    fake.commit_count++;
    fake.what = what;
    fake.slot = slot;
    if (fake.done != NULL) {
        return STATUS_AGAIN;
    }
    if (fake.commit_status == STATUS_OK) {
        fake.done = done;
        fake.arg = arg;
    }
    return fake.commit_status;
}

static void fake_end(enum status status)
{
    void (*done)(void *arg, enum status status) = fake.done;

    assert_non_null(done);
    fake.done = NULL;
    done(fake.arg, status);
}

static void fake_report(void *ctx, struct nvme_firmware_report *report)
{
    assert_ptr_equal(ctx, &fake);
    *report = fake.report;
}

static void fake_disabled(void *ctx)
{
    assert_ptr_equal(ctx, &fake);
    fake.disabled_count++;
}

static struct nvme_firmware_ops ops = {
    .slot_count = 2,
    .receive = fake_receive,
    .commit = fake_commit,
    .report = fake_report,
    .disabled = fake_disabled,
};

static int setup(void **state)
{
    rig_setup(state);
    memset(&fake, 0, sizeof(fake));
    fake.report.active = 1;
    memcpy(fake.report.revision[0], "1.0     ", 8);
    rig.config.firmware_ops = &ops;
    rig.config.firmware_ctx = &fake;
    ops.slot_count = 2;
    rig_restart();
    return 0;
}

#undef TEST
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, rig_teardown)

static struct rig_cmd *download(uint32_t offset_bytes, uint32_t len_bytes)
{
    return rig_admin((struct nvme_sqe){.opcode = NVME_ADMIN_FIRMWARE_DOWNLOAD,
                                       .cdw10 = len_bytes / 4 - 1,
                                       .cdw11 = offset_bytes / 4});
}

static struct rig_cmd *commit(uint32_t action, uint32_t slot)
{
    return rig_admin((struct nvme_sqe){.opcode = NVME_ADMIN_FIRMWARE_COMMIT,
                                       .cdw10 = slot | action << NVME_FIRMWARE_ACTION_SHIFT |
                                                0x80000000u /* boot partition id */});
}

static void assert_try_again(const struct rig_cmd *cmd, uint32_t code)
{
    assert_ended(cmd, code);
    assert_false((cmd->nvme.blk.status & NVME_STATUS_DNR) != 0);
}

/* --- what is offered ------------------------------------------------------------------------ */

static void firmware_is_told_in_identify(void **state)
{
    (void)state;
    const struct nvme_identify_ctrl *id = (const void *)rig.data;
    assert_ended(
        rig_admin((struct nvme_sqe){.opcode = NVME_ADMIN_IDENTIFY, .cdw10 = NVME_CNS_CTRL}),
        NVME_SC_SUCCESS);
    assert_int_equal(id->oacs & NVME_OACS_FIRMWARE, NVME_OACS_FIRMWARE);
    assert_int_equal(id->frmw, 2 << 1); /* two slots, none read only, a reset activates */
    assert_int_equal(id->fwug, 1);
    assert_int_equal(id->mtfa, 0);
    assert_int_equal(id->oaes, NVME_OAES_NS_ATTRIBUTE | NVME_OAES_FIRMWARE);
    const struct nvme_effects_log *log = rig_log_page(NVME_LOG_EFFECTS, 4096, true);
    assert_int_equal(log->admin[NVME_ADMIN_FIRMWARE_COMMIT], NVME_EFFECT_SUPPORTED);
    assert_int_equal(log->admin[NVME_ADMIN_FIRMWARE_DOWNLOAD], NVME_EFFECT_SUPPORTED);
}

static void firmware_without_ops_is_no_command(void **state)
{
    (void)state;
    rig.config.firmware_ops = NULL;
    rig_restart();
    assert_refused_at(download(0, 4 * KIB), NVME_SC_INVALID_OPCODE, 0);
    assert_refused_at(commit(NVME_FIRMWARE_ACTIVATE, 1), NVME_SC_INVALID_OPCODE, 0);
    nvme_ctrl_disable(rig.ctrl);
    assert_int_equal(fake.disabled_count, 0);
}

static void firmware_slot_count_out_of_range_is_invalid(void **state)
{
    (void)state;
    static struct nvme_ctrl_memory memory;
    struct nvme_ctrl *ctrl;
    ops.slot_count = 0;
    assert_int_equal(nvme_ctrl_init(&memory, &rig.config, &ctrl), STATUS_INVALID);
    ops.slot_count = 8;
    assert_int_equal(nvme_ctrl_init(&memory, &rig.config, &ctrl), STATUS_INVALID);
    ops.slot_count = 7;
    assert_int_equal(nvme_ctrl_init(&memory, &rig.config, &ctrl), STATUS_OK);
}

/* Figure 139: no namespace. */
static void firmware_commands_with_an_nsid_are_refused(void **state)
{
    (void)state;
    assert_refused_at(rig_admin((struct nvme_sqe){
                          .opcode = NVME_ADMIN_FIRMWARE_DOWNLOAD, .nsid = 1, .cdw10 = 1023}),
                      NVME_SC_INVALID_FIELD, NVME_AT_NSID);
    assert_refused_at(rig_admin((struct nvme_sqe){.opcode = NVME_ADMIN_FIRMWARE_COMMIT,
                                                  .nsid = NVME_NSID_ALL,
                                                  .cdw10 = 2 << 3}),
                      NVME_SC_INVALID_FIELD, NVME_AT_NSID);
}

/* --- Firmware Image Download (5.12) ---------------------------------------------------------- */

static void download_takes_pieces_in_any_order(void **state)
{
    (void)state;
    static const uint32_t offsets[] = {8 * KIB, 0, 20 * KIB, 4 * KIB, 16 * KIB, 12 * KIB};
    for (uint32_t i = 0; i < ARRAY_SIZE(offsets); i++) {
        memset(rig.data, (int)(offsets[i] / KIB + 1), 4 * KIB);
        assert_ended(download(offsets[i], 4 * KIB), NVME_SC_SUCCESS);
        assert_int_equal(rig.map_dir, NVME_DIR_TO_CONTROLLER);
    }
    for (uint32_t at = 0; at < 24 * KIB; at += 4 * KIB) {
        assert_int_equal(fake.image[at], at / KIB + 1);
        assert_int_equal(fake.image[at + 4 * KIB - 1], at / KIB + 1);
    }
}

/* An image is any number of dwords long. */
static void download_last_piece_may_be_short(void **state)
{
    (void)state;
    assert_ended(download(0, 4 * KIB), NVME_SC_SUCCESS);
    assert_ended(download(4 * KIB, 4), NVME_SC_SUCCESS);
    assert_int_equal(fake.offset_bytes, 4 * KIB);
    assert_int_equal(fake.len_bytes, 4);
    assert_refused_at(download(4 * KIB, 4 * KIB), NVME_SC_OVERLAPPING_RANGE, NVME_AT_CDW11);
}

static void download_bounds_are_checked(void **state)
{
    (void)state;
    uint32_t mdts_bytes = 4 * KIB << rig.config.mdts;
    assert_refused_at(download(2 * KIB, 4 * KIB), NVME_SC_INVALID_FIELD, NVME_AT_CDW11);
    assert_refused_at(download(4, 4), NVME_SC_INVALID_FIELD, NVME_AT_CDW11);
    assert_refused_at(download(0, mdts_bytes + 4), NVME_SC_INVALID_FIELD, NVME_AT_CDW10);
    assert_refused_at(download(LIMIT_FIRMWARE_BYTES, 4), NVME_SC_INVALID_FIELD, NVME_AT_CDW11);
    assert_refused_at(download(LIMIT_FIRMWARE_BYTES - 4 * KIB, 4 * KIB + 4), NVME_SC_INVALID_FIELD,
                      NVME_AT_CDW11);
    assert_refused_at(rig_admin((struct nvme_sqe){.opcode = NVME_ADMIN_FIRMWARE_DOWNLOAD,
                                                  .cdw10 = UINT32_MAX,
                                                  .cdw11 = UINT32_MAX}),
                      NVME_SC_INVALID_FIELD, NVME_AT_CDW10);
    assert_refused_at(rig_admin((struct nvme_sqe){.opcode = NVME_ADMIN_FIRMWARE_DOWNLOAD,
                                                  .cdw10 = 0,
                                                  .cdw11 = UINT32_MAX - 1023}),
                      NVME_SC_INVALID_FIELD, NVME_AT_CDW11);
    assert_int_equal(fake.receive_count, 0);
    assert_ended(download(0, mdts_bytes), NVME_SC_SUCCESS);
    assert_ended(download(LIMIT_FIRMWARE_BYTES - 4 * KIB, 4 * KIB), NVME_SC_SUCCESS);
    assert_int_equal(fake.receive_count, 2);
}

static void download_overlap_is_refused(void **state)
{
    (void)state;
    assert_ended(download(8 * KIB, 8 * KIB), NVME_SC_SUCCESS);
    assert_refused_at(download(8 * KIB, 4 * KIB), NVME_SC_OVERLAPPING_RANGE, NVME_AT_CDW11);
    assert_refused_at(download(12 * KIB, 8 * KIB), NVME_SC_OVERLAPPING_RANGE, NVME_AT_CDW11);
    assert_refused_at(download(0, 12 * KIB), NVME_SC_OVERLAPPING_RANGE, NVME_AT_CDW11);
    assert_ended(download(0, 8 * KIB), NVME_SC_SUCCESS);
    assert_ended(download(16 * KIB, 4 * KIB), NVME_SC_SUCCESS);
    assert_int_equal(fake.receive_count, 3);
}

/* A host whose download was interrupted begins again. */
static void download_from_the_start_again_starts_anew(void **state)
{
    (void)state;
    assert_ended(download(0, 8 * KIB), NVME_SC_SUCCESS);
    assert_ended(download(8 * KIB, 8 * KIB), NVME_SC_SUCCESS);
    assert_ended(download(0, 4 * KIB), NVME_SC_SUCCESS);
    assert_ended(download(4 * KIB, 8 * KIB), NVME_SC_SUCCESS);
    assert_refused(download(8 * KIB, 4 * KIB), NVME_SC_OVERLAPPING_RANGE);
}

static void download_failures_leave_the_range_free(void **state)
{
    (void)state;
    rig.map_fail_after = 1;
    assert_ended(download(0, 4 * KIB), NVME_SC_DATA_TRANSFER_ERROR);
    fake.receive_status = STATUS_AGAIN;
    assert_try_again(download(4 * KIB, 4 * KIB), NVME_SC_COMMAND_SEQUENCE_ERROR);
    fake.receive_status = STATUS_NO_SPACE;
    assert_refused_at(download(4 * KIB, 4 * KIB), NVME_SC_INVALID_FIELD, NVME_AT_CDW11);
    fake.receive_status = STATUS_INVALID;
    assert_try_again(download(4 * KIB, 4 * KIB), NVME_SC_INTERNAL_ERROR);
    fake.receive_status = STATUS_OK;
    assert_ended(download(4 * KIB, 4 * KIB), NVME_SC_SUCCESS);
}

/* --- Firmware Commit (5.11) ------------------------------------------------------------------ */

static void commit_actions_say_what_is_done(void **state)
{
    (void)state;
    static const struct {
        uint32_t action;
        bool has_image;
        uint32_t what;
        uint16_t code;
    } rows[] = {
        {0, true, NVME_FIRMWARE_DO_REPLACE, NVME_SC_SUCCESS},
        {1, true, NVME_FIRMWARE_DO_REPLACE | NVME_FIRMWARE_DO_ACTIVATE, NVME_SC_SUCCESS},
        {2, false, NVME_FIRMWARE_DO_ACTIVATE, NVME_SC_SUCCESS},
        {2, true, NVME_FIRMWARE_DO_ACTIVATE, NVME_SC_SUCCESS},
        {3, false, NVME_FIRMWARE_DO_ACTIVATE, NVME_SC_FIRMWARE_NEEDS_RESET},
        {3, true, NVME_FIRMWARE_DO_REPLACE | NVME_FIRMWARE_DO_ACTIVATE,
         NVME_SC_FIRMWARE_NEEDS_RESET},
    };
    for (uint32_t i = 0; i < ARRAY_SIZE(rows); i++) {
        if (rows[i].has_image) {
            assert_ended(download(0, 4 * KIB), NVME_SC_SUCCESS);
        }
        for (uint32_t slot = 0; slot <= 2; slot++) {
            if (slot > 0 && (rows[i].what & NVME_FIRMWARE_DO_REPLACE) != 0) {
                assert_ended(download(0, 4 * KIB), NVME_SC_SUCCESS);
            }
            struct rig_cmd *cmd = commit(rows[i].action, slot);
            assert_pending(cmd);
            assert_int_equal(fake.what, rows[i].what);
            assert_int_equal(fake.slot, slot);
            fake_end(STATUS_OK);
            assert_ended(cmd, rows[i].code);
        }
        rig_restart();
    }
    assert_int_equal(fake.commit_count, 3 * ARRAY_SIZE(rows));
    assert_int_equal(rig_last_error().error_count, 0); /* 11h is no failure */
}

/* Boot partitions, reserved ones. */
static void commit_other_actions_are_refused(void **state)
{
    (void)state;
    assert_ended(download(0, 4 * KIB), NVME_SC_SUCCESS);
    for (uint32_t action = 4; action < 8; action++) {
        assert_refused_at(commit(action, 1), NVME_SC_INVALID_FIELD, NVME_AT_CDW10);
    }
    assert_int_equal(fake.commit_count, 0);
}

static void commit_of_a_slot_that_is_not_there_is_refused(void **state)
{
    (void)state;
    assert_ended(download(0, 4 * KIB), NVME_SC_SUCCESS);
    for (uint32_t slot = 3; slot < 8; slot++) {
        assert_refused_at(commit(NVME_FIRMWARE_REPLACE, slot), NVME_SC_INVALID_FIRMWARE_SLOT,
                          NVME_AT_CDW10);
    }
    assert_int_equal(fake.commit_count, 0);
}

static void commit_without_a_download_is_an_invalid_image(void **state)
{
    (void)state;
    assert_refused(commit(NVME_FIRMWARE_REPLACE, 0), NVME_SC_INVALID_FIRMWARE_IMAGE);
    assert_refused(commit(NVME_FIRMWARE_REPLACE_AND_ACTIVATE, 2), NVME_SC_INVALID_FIRMWARE_IMAGE);
    assert_int_equal(fake.commit_count, 0);
}

static const struct {
    enum status status;
    uint16_t code;
    bool again;
} refusals[] = {
    {STATUS_AGAIN, NVME_SC_COMMAND_SEQUENCE_ERROR, true},
    {STATUS_INVALID, NVME_SC_INVALID_FIRMWARE_SLOT, false},
    {STATUS_EXISTS, NVME_SC_INVALID_FIRMWARE_SLOT, false},
    {STATUS_NOT_FOUND, NVME_SC_INVALID_FIRMWARE_IMAGE, false},
    {STATUS_BAD_DATA, NVME_SC_INVALID_FIRMWARE_IMAGE, false},
    {STATUS_UNSUPPORTED, NVME_SC_FIRMWARE_PROHIBITED, false},
    {STATUS_IO, NVME_SC_INTERNAL_ERROR, true},
    {STATUS_CANCELLED, NVME_SC_INTERNAL_ERROR, true},
};

static void commit_refused_at_once_names_the_reason(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < ARRAY_SIZE(refusals); i++) {
        fake.commit_status = refusals[i].status;
        struct rig_cmd *cmd = commit(NVME_FIRMWARE_ACTIVATE_NOW, 1);
        assert_ended(cmd, refusals[i].code);
        assert_int_equal((cmd->nvme.blk.status & NVME_STATUS_DNR) == 0, refusals[i].again);
    }
}

static void commit_refused_later_names_the_reason(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < ARRAY_SIZE(refusals); i++) {
        assert_ended(download(0, 4 * KIB), NVME_SC_SUCCESS);
        struct rig_cmd *cmd = commit(NVME_FIRMWARE_REPLACE_AND_ACTIVATE, 2);
        assert_pending(cmd);
        fake_end(refusals[i].status);
        assert_ended(cmd, refusals[i].code);
        assert_int_equal((cmd->nvme.blk.status & NVME_STATUS_DNR) == 0, refusals[i].again);
        /* What was received is of no use any more. */
        assert_refused(commit(NVME_FIRMWARE_REPLACE, 2), NVME_SC_INVALID_FIRMWARE_IMAGE);
        rig_restart();
    }
}

/* The host may name another slot. */
static void commit_refused_at_once_keeps_what_was_received(void **state)
{
    (void)state;
    assert_ended(download(0, 4 * KIB), NVME_SC_SUCCESS);
    fake.commit_status = STATUS_EXISTS;
    assert_refused_at(commit(NVME_FIRMWARE_REPLACE, 1), NVME_SC_INVALID_FIRMWARE_SLOT,
                      NVME_AT_CDW10);
    fake.commit_status = STATUS_OK;
    struct rig_cmd *cmd = commit(NVME_FIRMWARE_REPLACE, 2);
    assert_pending(cmd);
    fake_end(STATUS_OK);
    assert_ended(cmd, NVME_SC_SUCCESS);
}

static void commit_second_one_has_to_wait(void **state)
{
    (void)state;
    assert_ended(download(0, 4 * KIB), NVME_SC_SUCCESS);
    struct rig_cmd *first = commit(NVME_FIRMWARE_REPLACE, 2);
    assert_try_again(commit(NVME_FIRMWARE_ACTIVATE, 1), NVME_SC_COMMAND_SEQUENCE_ERROR);
    assert_int_equal(fake.commit_count, 1);
    fake_end(STATUS_OK);
    assert_ended(first, NVME_SC_SUCCESS);
}

/* Two functions, one flash: the second controller's commit finds the first one's. */
static void commit_of_another_controller_has_to_wait(void **state)
{
    (void)state;
    static struct nvme_ctrl_memory memory;
    struct nvme_ctrl *first = rig.ctrl;
    struct nvme_ctrl *second;
    assert_int_equal(nvme_ctrl_init(&memory, &rig.config, &second), STATUS_OK);
    nvme_ctrl_enable(second);
    struct rig_cmd *cmd = commit(NVME_FIRMWARE_ACTIVATE, 2);
    rig.ctrl = second;
    assert_try_again(commit(NVME_FIRMWARE_ACTIVATE, 1), NVME_SC_COMMAND_SEQUENCE_ERROR);
    /* Its reset does not touch the other's. */
    nvme_ctrl_disable(second);
    rig.ctrl = first;
    assert_pending(cmd);
    fake_end(STATUS_OK);
    assert_ended(cmd, NVME_SC_SUCCESS);
}

/* --- resets and aborts ----------------------------------------------------------------------- */

/* The command ends at once, as a fence needs it; the commit goes on, and its end meets nobody. */
static void commit_cancelled_ends_at_once(void **state)
{
    (void)state;
    assert_ended(download(0, 4 * KIB), NVME_SC_SUCCESS);
    struct rig_cmd *cmd = commit(NVME_FIRMWARE_REPLACE_AND_ACTIVATE, 2);
    nvme_cancel(&cmd->nvme);
    assert_ended(cmd, NVME_SC_ABORT_REQUESTED);
    nvme_ctrl_disable(rig.ctrl);
    nvme_ctrl_enable(rig.ctrl);
    assert_try_again(commit(NVME_FIRMWARE_ACTIVATE, 2), NVME_SC_COMMAND_SEQUENCE_ERROR);
    assert_ended(download(0, 4 * KIB), NVME_SC_SUCCESS); /* of the next one */
    fake_end(STATUS_OK);
    assert_int_equal(cmd->completions, 1);
    cmd = commit(NVME_FIRMWARE_REPLACE, 2); /* is still there */
    assert_pending(cmd);
    fake_end(STATUS_OK);
    assert_ended(cmd, NVME_SC_SUCCESS);
}

/* An Abort, no reset: the image went with the commit, good or not. */
static void commit_aborted_forgets_the_image(void **state)
{
    (void)state;
    assert_ended(download(0, 4 * KIB), NVME_SC_SUCCESS);
    struct rig_cmd *cmd = commit(NVME_FIRMWARE_REPLACE, 2);
    nvme_cancel(&cmd->nvme);
    assert_ended(cmd, NVME_SC_ABORT_REQUESTED);
    fake_end(STATUS_OK);
    assert_refused(commit(NVME_FIRMWARE_REPLACE, 2), NVME_SC_INVALID_FIRMWARE_IMAGE);
}

/* 5.11: "the controller shall discard" what was downloaded before a Controller Level Reset. */
static void download_is_discarded_by_a_reset(void **state)
{
    (void)state;
    assert_ended(download(0, 4 * KIB), NVME_SC_SUCCESS);
    nvme_ctrl_disable(rig.ctrl);
    assert_int_equal(fake.disabled_count, 1);
    nvme_ctrl_enable(rig.ctrl);
    assert_refused(commit(NVME_FIRMWARE_REPLACE, 2), NVME_SC_INVALID_FIRMWARE_IMAGE);
    assert_ended(download(0, 4 * KIB), NVME_SC_SUCCESS);
}

/* --- log page and events --------------------------------------------------------------------- */

static void firmware_log_tells_slots(void **state)
{
    (void)state;
    fake.report.active = 2;
    fake.report.next = 1;
    memcpy(fake.report.revision[1], "1.1     ", 8);
    const struct nvme_firmware_log *log = rig_log_page(NVME_LOG_FIRMWARE_SLOT, 512, true);
    assert_int_equal(log->afi, 0x12);
    assert_memory_equal(log->revision[0], "1.0     ", 8);
    assert_memory_equal(log->revision[1], "1.1     ", 8);
    for (uint32_t i = 2; i < 7; i++) {
        assert_memory_equal(log->revision[i], "\0\0\0\0\0\0\0\0", 8);
    }
}

static void firmware_log_can_be_read_in_parts(void **state)
{
    (void)state;
    memcpy(fake.report.revision[1], "2.5     ", 8);
    memset(rig.data, 0xee, 64);
    assert_ended(rig_admin((struct nvme_sqe){.opcode = NVME_ADMIN_GET_LOG_PAGE,
                                             .cdw10 = NVME_LOG_FIRMWARE_SLOT |
                                                      (8 / 4 - 1) << NVME_LOG_NUMDL_SHIFT,
                                             .cdw12 = 16}),
                 NVME_SC_SUCCESS);
    assert_memory_equal(rig.data, "2.5     \xee", 9);
    assert_ended(rig_admin((struct nvme_sqe){.opcode = NVME_ADMIN_GET_LOG_PAGE,
                                             .cdw10 = NVME_LOG_FIRMWARE_SLOT,
                                             .cdw12 = 0}),
                 NVME_SC_SUCCESS);
    assert_int_equal(rig.data[0], 1);
}

static struct rig_cmd *event_request(void)
{
    return rig_admin((struct nvme_sqe){.opcode = NVME_ADMIN_ASYNC_EVENT});
}

/* Figure 148, 5h; the Error Information log clears it. Once for a host, not with each reset. */
static void firmware_load_error_is_an_event(void **state)
{
    (void)state;
    fake.report.load_failed = true;
    nvme_ctrl_disable(rig.ctrl);
    nvme_ctrl_enable(rig.ctrl);
    struct rig_cmd *cmd = event_request();
    assert_ended(cmd, NVME_SC_SUCCESS);
    assert_int_equal(cmd->nvme.blk.dw0, 0x010500);
    struct nvme_error_entry entry = rig_last_error();
    assert_int_equal(entry.sqid, 0xffff);
    assert_int_equal(entry.status >> 1, NVME_SC_INVALID_FIRMWARE_IMAGE);
    nvme_ctrl_disable(rig.ctrl);
    nvme_ctrl_enable(rig.ctrl);
    assert_pending(event_request());
}

/* The next image has failed, and the one before goes on: told beside what waited already. */
static void firmware_load_error_is_told_after_a_handover(void **state)
{
    (void)state;
    static struct handover_ctrl saved;

    nvme_ctrl_event(rig.ctrl, NVME_EVENT_ERROR, NVME_EVENT_ERROR_INVALID_DOORBELL, NVME_LOG_ERROR);
    nvme_ctrl_save(rig.ctrl, &saved);
    nvme_ctrl_disable(rig.ctrl);
    fake.report.load_failed = true;
    assert_true(nvme_ctrl_can_restore(rig.ctrl, &saved));
    nvme_ctrl_restore(rig.ctrl, &saved);
    assert_int_equal(rig.ctrl->events[NVME_EVENT_ERROR].pending,
                     BIT32(NVME_EVENT_ERROR_INVALID_DOORBELL) |
                         BIT32(NVME_EVENT_ERROR_FIRMWARE_LOAD));
    assert_int_equal(event_request()->nvme.blk.dw0, 0x010000);
    assert_int_equal(rig_last_error().status >> 1, NVME_SC_INVALID_FIRMWARE_IMAGE);
}

/* 5.21.1.11: bit 9 lets Firmware Activation Starting through. */
static void firmware_activation_event_needs_its_bit(void **state)
{
    (void)state;
    struct rig_cmd *cmd = event_request();
    nvme_ctrl_event(rig.ctrl, NVME_EVENT_NOTICE, NVME_EVENT_NOTICE_FIRMWARE,
                    NVME_LOG_FIRMWARE_SLOT);
    assert_pending(cmd);
    assert_ended(rig_admin((struct nvme_sqe){.opcode = NVME_ADMIN_SET_FEATURES,
                                             .cdw10 = NVME_FEATURE_ASYNC_EVENT,
                                             .cdw11 = NVME_AEC_FIRMWARE}),
                 NVME_SC_SUCCESS);
    nvme_ctrl_event(rig.ctrl, NVME_EVENT_NOTICE, NVME_EVENT_NOTICE_FIRMWARE,
                    NVME_LOG_FIRMWARE_SLOT);
    assert_ended(cmd, NVME_SC_SUCCESS);
    assert_int_equal(cmd->nvme.blk.dw0, 0x030102);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(firmware_is_told_in_identify),
        TEST(firmware_without_ops_is_no_command),
        TEST(firmware_slot_count_out_of_range_is_invalid),
        TEST(firmware_commands_with_an_nsid_are_refused),
        TEST(download_takes_pieces_in_any_order),
        TEST(download_last_piece_may_be_short),
        TEST(download_bounds_are_checked),
        TEST(download_overlap_is_refused),
        TEST(download_from_the_start_again_starts_anew),
        TEST(download_failures_leave_the_range_free),
        TEST(commit_actions_say_what_is_done),
        TEST(commit_other_actions_are_refused),
        TEST(commit_of_a_slot_that_is_not_there_is_refused),
        TEST(commit_without_a_download_is_an_invalid_image),
        TEST(commit_refused_at_once_names_the_reason),
        TEST(commit_refused_later_names_the_reason),
        TEST(commit_refused_at_once_keeps_what_was_received),
        TEST(commit_second_one_has_to_wait),
        TEST(commit_of_another_controller_has_to_wait),
        TEST(commit_cancelled_ends_at_once),
        TEST(commit_aborted_forgets_the_image),
        TEST(download_is_discarded_by_a_reset),
        TEST(firmware_log_tells_slots),
        TEST(firmware_log_can_be_read_in_parts),
        TEST(firmware_load_error_is_an_event),
        TEST(firmware_load_error_is_told_after_a_handover),
        TEST(firmware_activation_event_needs_its_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
