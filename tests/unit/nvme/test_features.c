/* Get and Set Features: NVM Express 1.4, sections 5.13 and 5.21. */
#include "tests/unit/nvme/rig.h"

static struct rig_cmd *get(uint32_t fid, uint32_t select, uint32_t nsid, uint32_t cdw11)
{
    memset(rig.data, 0xee, 4096);
    return rig_admin((struct nvme_sqe){.opcode = NVME_ADMIN_GET_FEATURES,
                                       .nsid = nsid,
                                       .cdw10 = fid | select << NVME_FEATURE_SEL_SHIFT,
                                       .cdw11 = cdw11});
}

static struct rig_cmd *set_ns(uint32_t fid, uint32_t nsid, uint32_t cdw11)
{
    return rig_admin((struct nvme_sqe){
        .opcode = NVME_ADMIN_SET_FEATURES, .nsid = nsid, .cdw10 = fid, .cdw11 = cdw11});
}

static struct rig_cmd *set(uint32_t fid, uint32_t cdw11)
{
    return set_ns(fid, 0, cdw11);
}

static uint32_t value_of(struct rig_cmd *cmd)
{
    assert_ended(cmd, NVME_SC_SUCCESS);
    return cmd->nvme.blk.dw0;
}

static uint32_t current(uint32_t fid)
{
    return value_of(get(fid, NVME_SELECT_CURRENT, 0, 0));
}

static const uint8_t plain[] = {NVME_FEATURE_ARBITRATION,
                                NVME_FEATURE_POWER_MANAGEMENT,
                                NVME_FEATURE_QUEUES,
                                NVME_FEATURE_VOLATILE_WRITE_CACHE,
                                NVME_FEATURE_INTERRUPT_COALESCING,
                                NVME_FEATURE_INTERRUPT_VECTOR,
                                NVME_FEATURE_WRITE_ATOMICITY,
                                NVME_FEATURE_ASYNC_EVENT,
                                NVME_FEATURE_KEEP_ALIVE,
                                NVME_FEATURE_TEMPERATURE_THRESHOLD};

/* --- figure 275: what there is -------------------------------------------------------------- */

static void features_unknown_are_invalid_fields(void **state)
{
    (void)state;
    const uint8_t known[] = {1, 2, 4, 5, 6, 7, 8, 9, 0xa, 0xb, 0xe, 0xf, 0x16};
    rig_attach(0, 1);
    for (uint32_t fid = 0; fid < 256; fid++) {
        bool is_known = memchr(known, (int)fid, sizeof(known)) != NULL;
        if (is_known) {
            assert_ended(get(fid, NVME_SELECT_CURRENT, 1, 0), NVME_SC_SUCCESS);
        } else {
            assert_refused_at(get(fid, NVME_SELECT_CURRENT, 0, 0), NVME_SC_INVALID_FIELD, 40);
            assert_refused_at(set(fid, 0), NVME_SC_INVALID_FIELD, 40);
        }
    }
}

static void features_without_keep_alive_have_no_timer_feature(void **state)
{
    (void)state;
    rig.config.keep_alive = false;
    rig_restart();
    assert_refused(set(NVME_FEATURE_KEEP_ALIVE, 1000), NVME_SC_INVALID_FIELD);
    assert_refused(get(NVME_FEATURE_KEEP_ALIVE, 0, 0, 0), NVME_SC_INVALID_FIELD);
}

/* --- figure 183, 185: Select ---------------------------------------------------------------- */

static void features_select_tells_current_default_saved_and_capabilities(void **state)
{
    (void)state;
    assert_ended(set(NVME_FEATURE_INTERRUPT_COALESCING, 0x0503), NVME_SC_SUCCESS);
    assert_int_equal(current(NVME_FEATURE_INTERRUPT_COALESCING), 0x0503);
    assert_int_equal(value_of(get(NVME_FEATURE_INTERRUPT_COALESCING, 1, 0, 0)), 0);
    assert_int_equal(value_of(get(NVME_FEATURE_INTERRUPT_COALESCING, 2, 0, 0)), 0);
    assert_int_equal(value_of(get(NVME_FEATURE_INTERRUPT_COALESCING, 3, 0, 0)), 4);
    assert_int_equal(value_of(get(NVME_FEATURE_ERROR_RECOVERY, 3, 0, 0)), 6);
    assert_int_equal(value_of(get(NVME_FEATURE_TIMESTAMP, 3, 0, 0)), 4);
    for (uint32_t select = 4; select < 8; select++) {
        assert_refused_at(get(NVME_FEATURE_ARBITRATION, select, 0, 0), NVME_SC_INVALID_FIELD, 41);
    }
}

/* 5.21: Save for a feature that is not saveable. */
static void features_save_is_refused_and_changes_nothing(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < sizeof(plain); i++) {
        uint32_t before = current(plain[i]);
        assert_refused_at(rig_admin((struct nvme_sqe){.opcode = NVME_ADMIN_SET_FEATURES,
                                                      .cdw10 = plain[i] | NVME_FEATURE_SAVE}),
                          NVME_SC_FEATURE_NOT_SAVEABLE, NVME_ERROR_LOCATION(43, 7));
        assert_int_equal(current(plain[i]), before);
    }
}

/* 5.21, figure 128: a controller's feature is not set through a namespace. */
static void features_of_the_controller_refuse_a_namespace(void **state)
{
    (void)state;
    rig_attach(0, 1);
    for (uint32_t i = 0; i < sizeof(plain); i++) {
        assert_refused_at(set_ns(plain[i], 1, 0), NVME_SC_FEATURE_NOT_NS_SPECIFIC, 4);
        assert_refused(set_ns(plain[i], LIMIT_NAMESPACES, 0), NVME_SC_FEATURE_NOT_NS_SPECIFIC);
        assert_refused(set_ns(plain[i], LIMIT_NAMESPACES + 1, 0), NVME_SC_INVALID_NS_OR_FORMAT);
        assert_ended(get(plain[i], 0, 1, 0), NVME_SC_SUCCESS);
    }
    assert_ended(set_ns(NVME_FEATURE_ARBITRATION, NVME_NSID_ALL, 3), NVME_SC_SUCCESS);
}

/* --- 7.8: enable brings the defaults back --------------------------------------------------- */

static void features_are_at_their_defaults_after_enable(void **state)
{
    (void)state;
    uint32_t before[sizeof(plain)];
    for (uint32_t i = 0; i < sizeof(plain); i++) {
        before[i] = current(plain[i]);
    }
    set(NVME_FEATURE_ARBITRATION, 0x11223301);
    set(NVME_FEATURE_TEMPERATURE_THRESHOLD, 300);
    set(NVME_FEATURE_VOLATILE_WRITE_CACHE, 0);
    set(NVME_FEATURE_QUEUES, 0);
    set(NVME_FEATURE_INTERRUPT_COALESCING, 0xffff);
    set(NVME_FEATURE_INTERRUPT_VECTOR, 0);
    set(NVME_FEATURE_WRITE_ATOMICITY, 1);
    set(NVME_FEATURE_ASYNC_EVENT, 0);
    set(NVME_FEATURE_KEEP_ALIVE, 100);
    nvme_ctrl_disable(rig.ctrl);
    nvme_ctrl_enable(rig.ctrl);
    for (uint32_t i = 0; i < sizeof(plain); i++) {
        assert_int_equal(current(plain[i]), before[i]);
    }
    native_clock_advance(NS_PER_S);
    rig_turns(4);
    assert_int_equal(rig.fatal_count, 0); /* nor does the old timer run */
}

/* --- 5.21.1.1, .8, .9: what the transport acts on ------------------------------------------- */

static void features_of_the_transport_reach_it(void **state)
{
    (void)state;
    const uint8_t fids[] = {NVME_FEATURE_ARBITRATION, NVME_FEATURE_QUEUES,
                            NVME_FEATURE_INTERRUPT_COALESCING, NVME_FEATURE_INTERRUPT_VECTOR};
    for (uint32_t i = 0; i < sizeof(fids); i++) {
        assert_ended(set(fids[i], 1), NVME_SC_SUCCESS);
        assert_int_equal(rig.feature_changed_count, i + 1);
        assert_int_equal(rig.feature_changed_fid, fids[i]);
    }
    assert_ended(set(NVME_FEATURE_WRITE_ATOMICITY, 1), NVME_SC_SUCCESS);
    assert_int_equal(rig.feature_changed_count, 4);
}

static void features_arbitration_keeps_weights_and_drops_reserved_bits(void **state)
{
    (void)state;
    assert_ended(set(NVME_FEATURE_ARBITRATION, 0x112233ff), NVME_SC_SUCCESS);
    assert_int_equal(current(NVME_FEATURE_ARBITRATION), 0x11223307);
}

static void features_interrupt_vector_is_kept_per_vector(void **state)
{
    (void)state;
    assert_int_equal(current(NVME_FEATURE_INTERRUPT_VECTOR), NVME_VECTOR_COALESCING_DISABLE);
    assert_ended(set(NVME_FEATURE_INTERRUPT_VECTOR, 8 | NVME_VECTOR_COALESCING_DISABLE), 0);
    assert_int_equal(value_of(get(NVME_FEATURE_INTERRUPT_VECTOR, 0, 0, 8)), 0x10008);
    assert_int_equal(value_of(get(NVME_FEATURE_INTERRUPT_VECTOR, 0, 0, 7)), 7);
    assert_int_equal(value_of(get(NVME_FEATURE_INTERRUPT_VECTOR, 1, 0, 8)), 8);
    assert_ended(set(NVME_FEATURE_INTERRUPT_VECTOR, 8), 0);
    assert_int_equal(value_of(get(NVME_FEATURE_INTERRUPT_VECTOR, 0, 0, 8)), 8);
    assert_refused_at(set(NVME_FEATURE_INTERRUPT_VECTOR, 9), NVME_SC_INVALID_FIELD, 44);
    assert_refused_at(get(NVME_FEATURE_INTERRUPT_VECTOR, 0, 0, 0xffff), NVME_SC_INVALID_FIELD, 44);
}

/* --- 5.21.1.2, .4, .5 ----------------------------------------------------------------------- */

static void features_power_state_beyond_npss_is_an_invalid_field(void **state)
{
    (void)state;
    assert_ended(set(NVME_FEATURE_POWER_MANAGEMENT, 1u << 5), NVME_SC_SUCCESS); /* workload hint */
    assert_refused_at(set(NVME_FEATURE_POWER_MANAGEMENT, 1), NVME_SC_INVALID_FIELD, 44);
}

static void features_temperature_has_an_over_and_an_under_threshold(void **state)
{
    (void)state;
    const uint32_t under = 1u << NVME_TEMPERATURE_TYPE_SHIFT;
    assert_int_equal(value_of(get(NVME_FEATURE_TEMPERATURE_THRESHOLD, 0, 0, 0)), 343);
    assert_int_equal(value_of(get(NVME_FEATURE_TEMPERATURE_THRESHOLD, 0, 0, under)), 0);
    assert_ended(set(NVME_FEATURE_TEMPERATURE_THRESHOLD, 350), NVME_SC_SUCCESS);
    assert_ended(set(NVME_FEATURE_TEMPERATURE_THRESHOLD, under | 270), NVME_SC_SUCCESS);
    assert_int_equal(value_of(get(NVME_FEATURE_TEMPERATURE_THRESHOLD, 0, 0, 0)), 350);
    assert_int_equal(value_of(get(NVME_FEATURE_TEMPERATURE_THRESHOLD, 0, 0, under)), 270);
    assert_int_equal(value_of(get(NVME_FEATURE_TEMPERATURE_THRESHOLD, 1, 0, under)), 0);
    assert_ended(set(NVME_FEATURE_TEMPERATURE_THRESHOLD, 15u << 16 | 351), NVME_SC_SUCCESS);
    assert_int_equal(value_of(get(NVME_FEATURE_TEMPERATURE_THRESHOLD, 0, 0, 0)), 351);
    assert_refused(set(NVME_FEATURE_TEMPERATURE_THRESHOLD, 1u << 16), NVME_SC_INVALID_FIELD);
    assert_refused(get(NVME_FEATURE_TEMPERATURE_THRESHOLD, 0, 0, 15u << 16), NVME_SC_INVALID_FIELD);
    assert_refused(set(NVME_FEATURE_TEMPERATURE_THRESHOLD, 2u << 20), NVME_SC_INVALID_FIELD);
}

static void features_error_recovery_is_kept_per_namespace(void **state)
{
    (void)state;
    rig_attach(0, 1);
    rig_attach(1, 2);
    assert_ended(set_ns(NVME_FEATURE_ERROR_RECOVERY, 2, 50), NVME_SC_SUCCESS);
    assert_int_equal(value_of(get(NVME_FEATURE_ERROR_RECOVERY, 0, 1, 0)), 0);
    assert_int_equal(value_of(get(NVME_FEATURE_ERROR_RECOVERY, 0, 2, 0)), 50);
    assert_ended(set_ns(NVME_FEATURE_ERROR_RECOVERY, NVME_NSID_ALL, 60), NVME_SC_SUCCESS);
    assert_int_equal(value_of(get(NVME_FEATURE_ERROR_RECOVERY, 0, 1, 0)), 60);
    assert_int_equal(value_of(get(NVME_FEATURE_ERROR_RECOVERY, 1, 1, 0)), 0);
    /* DULBE without NSFEAT bit 2 */
    assert_refused(set_ns(NVME_FEATURE_ERROR_RECOVERY, 1, BIT32(16)), NVME_SC_INVALID_FIELD);
}

static void features_error_recovery_checks_nsid(void **state)
{
    (void)state;
    rig_attach(0, 1);
    const uint32_t fid = NVME_FEATURE_ERROR_RECOVERY;
    assert_refused_at(get(fid, 0, NVME_NSID_ALL, 0), NVME_SC_INVALID_NS_OR_FORMAT, 4);
    assert_refused(get(fid, 0, 0, 0), NVME_SC_INVALID_NS_OR_FORMAT);
    assert_refused(get(fid, 0, 2, 0), NVME_SC_INVALID_FIELD);
    assert_refused(set_ns(fid, 0, 0), NVME_SC_INVALID_NS_OR_FORMAT);
    assert_refused(set_ns(fid, 2, 0), NVME_SC_INVALID_FIELD);
    assert_refused(set_ns(fid, LIMIT_NAMESPACES + 1, 0), NVME_SC_INVALID_NS_OR_FORMAT);
}

/* --- 5.21.1.7 Number of Queues -------------------------------------------------------------- */

static void features_queues_allocates_at_most_what_is_offered(void **state)
{
    (void)state;
    assert_int_equal(current(NVME_FEATURE_QUEUES), 0x00070007);
    assert_int_equal(value_of(set(NVME_FEATURE_QUEUES, 0x00020005)), 0x00020005);
    assert_int_equal(current(NVME_FEATURE_QUEUES), 0x00020005);
    assert_int_equal(value_of(set(NVME_FEATURE_QUEUES, 0x003f003f)), 0x00070007);
    assert_int_equal(value_of(set(NVME_FEATURE_QUEUES, 0xfffe0000)), 0x00070000);
}

static void features_queues_of_65536_is_an_invalid_field(void **state)
{
    (void)state;
    assert_refused_at(set(NVME_FEATURE_QUEUES, 0x0000ffff), NVME_SC_INVALID_FIELD, 44);
    assert_refused_at(set(NVME_FEATURE_QUEUES, 0xffff0000), NVME_SC_INVALID_FIELD, 46);
    assert_int_equal(current(NVME_FEATURE_QUEUES), 0x00070007);
}

/* "shall only be issued during initialization prior to creation of any I/O queue" */
static void features_queues_after_a_queue_was_created_is_a_sequence_error(void **state)
{
    (void)state;
    rig.op_status = NVME_SC_INVALID_QUEUE_SIZE | NVME_STATUS_DNR;
    rig_admin((struct nvme_sqe){.opcode = NVME_ADMIN_CREATE_CQ});
    assert_ended(set(NVME_FEATURE_QUEUES, 1), NVME_SC_SUCCESS); /* that one failed */
    rig.op_status = 0;
    rig_admin((struct nvme_sqe){.opcode = NVME_ADMIN_CREATE_CQ});
    assert_refused(set(NVME_FEATURE_QUEUES, 2), NVME_SC_COMMAND_SEQUENCE_ERROR);
    assert_int_equal(current(NVME_FEATURE_QUEUES), 1);
    rig_admin((struct nvme_sqe){.opcode = NVME_ADMIN_DELETE_CQ});
    assert_refused(set(NVME_FEATURE_QUEUES, 2), NVME_SC_COMMAND_SEQUENCE_ERROR);
    nvme_ctrl_disable(rig.ctrl);
    nvme_ctrl_enable(rig.ctrl);
    assert_ended(set(NVME_FEATURE_QUEUES, 2), NVME_SC_SUCCESS);
}

/* --- 5.21.1.6 Volatile Write Cache ---------------------------------------------------------- */

static void features_write_cache_off_flushes_and_forces_writes(void **state)
{
    (void)state;
    struct rig_dev *dev = rig_attach(0, 1);
    dev->hold = true;
    struct rig_cmd *cmd = set(NVME_FEATURE_VOLATILE_WRITE_CACHE, 0);
    assert_pending(cmd);
    assert_int_equal(dev->opcodes[0], NVME_IO_FLUSH);
    rig_dev_release(dev, NVME_SC_SUCCESS);
    assert_ended(cmd, NVME_SC_SUCCESS);
    dev->hold = false;
    assert_ended(rig_io(rig_rw(NVME_IO_WRITE, 1, 0, 1)), NVME_SC_SUCCESS);
    assert_int_equal(dev->last.cdw12 & NVME_RW_FUA, NVME_RW_FUA);
    assert_ended(rig_io(rig_rw(NVME_IO_READ, 1, 0, 1)), NVME_SC_SUCCESS);
    assert_int_equal(dev->last.cdw12 & NVME_RW_FUA, 0);
    assert_ended(set(NVME_FEATURE_VOLATILE_WRITE_CACHE, 1), NVME_SC_SUCCESS);
    assert_ended(rig_io(rig_rw(NVME_IO_WRITE, 1, 0, 1)), NVME_SC_SUCCESS);
    assert_int_equal(dev->last.cdw12 & NVME_RW_FUA, 0);
}

static void features_write_cache_flush_that_fails_is_told(void **state)
{
    (void)state;
    struct rig_dev *dev = rig_attach(0, 1);
    dev->fail_after = 1;
    dev->fail_status = NVME_SC_WRITE_FAULT;
    assert_ended(set(NVME_FEATURE_VOLATILE_WRITE_CACHE, 0), NVME_SC_WRITE_FAULT);
}

/* --- 5.21.1.11 Asynchronous Event Configuration --------------------------------------------- */

static void features_async_event_config_refuses_what_oaes_does_not_offer(void **state)
{
    (void)state;
    assert_int_equal(current(NVME_FEATURE_ASYNC_EVENT), NVME_AEC_NS_ATTRIBUTE);
    assert_ended(set(NVME_FEATURE_ASYNC_EVENT, 0x1ff), NVME_SC_SUCCESS);
    for (uint32_t bit = 9; bit < 32; bit++) {
        assert_refused_at(set(NVME_FEATURE_ASYNC_EVENT, BIT32(bit)), NVME_SC_INVALID_FIELD, 44);
    }
    assert_int_equal(current(NVME_FEATURE_ASYNC_EVENT), 0x1ff);
}

/* --- 5.21.1.14 Timestamp, 5.21.1.22 Host Behavior Support ----------------------------------- */

static uint64_t timestamp(uint32_t select)
{
    uint64_t ms = 0;
    assert_ended(get(NVME_FEATURE_TIMESTAMP, select, 0, 0), NVME_SC_SUCCESS);
    assert_int_equal(rig.map_len_bytes, 8);
    memcpy(&ms, rig.data, 6);
    return ms;
}

static void features_timestamp_counts_from_what_was_set(void **state)
{
    (void)state;
    native_clock_advance(5 * NS_PER_S);
    assert_int_equal(timestamp(0), 5000); /* since the reset, origin 000b */
    assert_int_equal(rig.data[6], 0);
    memcpy(rig.data, ((uint8_t[]){0, 0, 0, 0, 1, 0, 0xff, 0xff}), 8);
    assert_ended(set(NVME_FEATURE_TIMESTAMP, 0), NVME_SC_SUCCESS);
    assert_int_equal(rig.map_dir, NVME_DIR_TO_CONTROLLER);
    native_clock_advance(250 * NS_PER_MS);
    assert_int_equal(timestamp(0), (UINT64_C(1) << 32) + 250);
    assert_int_equal(rig.data[6], 1 << 1); /* origin 001b: Set Features */
    assert_int_equal(rig.data[7], 0);
    assert_int_equal(timestamp(1), 0);
    nvme_ctrl_disable(rig.ctrl);
    nvme_ctrl_enable(rig.ctrl);
    assert_int_equal(timestamp(0), 0);
}

static void features_host_behavior_keeps_acre(void **state)
{
    (void)state;
    memset(rig.data, 0, 512);
    rig.data[0] = 1;
    assert_ended(set(NVME_FEATURE_HOST_BEHAVIOR, 0), NVME_SC_SUCCESS);
    assert_int_equal(rig.map_len_bytes, 512);
    assert_ended(get(NVME_FEATURE_HOST_BEHAVIOR, 0, 0, 0), NVME_SC_SUCCESS);
    assert_int_equal(rig.data[0], 1);
    assert_int_equal(rig.data[1], 0);
    assert_int_equal(rig.data[512], 0xee);
    assert_ended(get(NVME_FEATURE_HOST_BEHAVIOR, 1, 0, 0), NVME_SC_SUCCESS);
    assert_int_equal(rig.data[0], 0);
    rig.data[0] = 2;
    assert_refused(set(NVME_FEATURE_HOST_BEHAVIOR, 0), NVME_SC_INVALID_FIELD);
}

static void features_bad_data_pointer_ends_with_its_status(void **state)
{
    (void)state;
    rig.map_status = NVME_SC_INVALID_PRP_OFFSET | NVME_STATUS_DNR;
    rig.map_fail_after = 1;
    assert_refused(set(NVME_FEATURE_TIMESTAMP, 0), NVME_SC_INVALID_PRP_OFFSET);
    rig.map_fail_after = 1;
    assert_refused(get(NVME_FEATURE_HOST_BEHAVIOR, 0, 0, 0), NVME_SC_INVALID_PRP_OFFSET);
}

/* --- 5.21.1.15 Keep Alive Timer, 7.12 ------------------------------------------------------- */

static void features_keep_alive_is_rounded_up(void **state)
{
    (void)state;
    assert_int_equal(current(NVME_FEATURE_KEEP_ALIVE), 0);
    assert_ended(set(NVME_FEATURE_KEEP_ALIVE, 1), NVME_SC_SUCCESS);
    assert_int_equal(current(NVME_FEATURE_KEEP_ALIVE), 100);
    assert_ended(set(NVME_FEATURE_KEEP_ALIVE, 1500), NVME_SC_SUCCESS);
    assert_int_equal(current(NVME_FEATURE_KEEP_ALIVE), 1500);
    assert_ended(set(NVME_FEATURE_KEEP_ALIVE, 0xffffffff), NVME_SC_SUCCESS);
    assert_int_equal(current(NVME_FEATURE_KEEP_ALIVE), 4294967200);
    assert_ended(set(NVME_FEATURE_KEEP_ALIVE, 0), NVME_SC_SUCCESS);
}

/* --- 5.21.1.26 Host Identifier --------------------------------------------------------------- */

static void host_id_configure(void)
{
    for (uint32_t i = 0; i < sizeof(rig.config.host_id); i++) {
        rig.config.host_id[i] = (uint8_t)(0x10 + i);
    }
    rig_restart();
}

static void features_host_id_is_the_configured_one(void **state)
{
    (void)state;
    host_id_configure();
    const uint32_t selects[] = {NVME_SELECT_CURRENT, NVME_SELECT_DEFAULT};
    for (uint32_t i = 0; i < 2; i++) {
        memset(rig.data, 0, 32);
        struct nvme_sqe get = {.opcode = NVME_ADMIN_GET_FEATURES,
                               .cdw10 = NVME_FEATURE_HOST_ID |
                                        (uint32_t)FIELD_PREP(NVME_FEATURE_SEL, selects[i]),
                               .cdw11 = NVME_HOST_ID_EXTENDED};
        assert_ended(rig_admin(get), NVME_SC_SUCCESS);
        assert_memory_equal(rig.data, rig.config.host_id, NVME_HOST_ID_BYTES);
        assert_int_equal(rig.map_len_bytes, NVME_HOST_ID_BYTES);
        get.cdw11 = 0; /* 64 bits: ours are more */
        assert_refused_at(rig_admin(get), NVME_SC_INVALID_FIELD, NVME_ERROR_LOCATION(44, 0));
    }
    struct rig_cmd *identify =
        rig_admin((struct nvme_sqe){.opcode = NVME_ADMIN_IDENTIFY, .cdw10 = NVME_CNS_CTRL});
    assert_ended(identify, NVME_SC_SUCCESS);
    assert_int_equal(((struct nvme_identify_ctrl *)(void *)rig.data)->ctratt,
                     NVME_CTRATT_HOST_ID_128);
}

static void features_host_id_cannot_be_changed(void **state)
{
    (void)state;
    host_id_configure();
    struct nvme_sqe set = {.opcode = NVME_ADMIN_SET_FEATURES,
                           .cdw10 = NVME_FEATURE_HOST_ID,
                           .cdw11 = NVME_HOST_ID_EXTENDED};
    assert_refused(rig_admin(set), NVME_SC_FEATURE_NOT_CHANGEABLE);
    struct rig_cmd *caps =
        rig_admin((struct nvme_sqe){.opcode = NVME_ADMIN_GET_FEATURES,
                                    .cdw10 = NVME_FEATURE_HOST_ID | NVME_SELECT_CAPABILITIES << 8});
    assert_ended(caps, NVME_SC_SUCCESS);
    assert_int_equal(caps->nvme.blk.dw0, 0);
}

static void features_host_id_of_nobody_is_an_invalid_field(void **state)
{
    (void)state;
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_GET_FEATURES,
                           .cdw10 = NVME_FEATURE_HOST_ID,
                           .cdw11 = NVME_HOST_ID_EXTENDED};
    assert_refused(rig_admin(sqe), NVME_SC_INVALID_FIELD);
    sqe.opcode = NVME_ADMIN_SET_FEATURES;
    assert_refused(rig_admin(sqe), NVME_SC_INVALID_FIELD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(features_host_id_is_the_configured_one),
        TEST(features_host_id_cannot_be_changed),
        TEST(features_host_id_of_nobody_is_an_invalid_field),
        TEST(features_unknown_are_invalid_fields),
        TEST(features_without_keep_alive_have_no_timer_feature),
        TEST(features_select_tells_current_default_saved_and_capabilities),
        TEST(features_save_is_refused_and_changes_nothing),
        TEST(features_of_the_controller_refuse_a_namespace),
        TEST(features_are_at_their_defaults_after_enable),
        TEST(features_of_the_transport_reach_it),
        TEST(features_arbitration_keeps_weights_and_drops_reserved_bits),
        TEST(features_interrupt_vector_is_kept_per_vector),
        TEST(features_power_state_beyond_npss_is_an_invalid_field),
        TEST(features_temperature_has_an_over_and_an_under_threshold),
        TEST(features_error_recovery_is_kept_per_namespace),
        TEST(features_error_recovery_checks_nsid),
        TEST(features_queues_allocates_at_most_what_is_offered),
        TEST(features_queues_of_65536_is_an_invalid_field),
        TEST(features_queues_after_a_queue_was_created_is_a_sequence_error),
        TEST(features_write_cache_off_flushes_and_forces_writes),
        TEST(features_write_cache_flush_that_fails_is_told),
        TEST(features_async_event_config_refuses_what_oaes_does_not_offer),
        TEST(features_timestamp_counts_from_what_was_set),
        TEST(features_host_behavior_keeps_acre),
        TEST(features_bad_data_pointer_ends_with_its_status),
        TEST(features_keep_alive_is_rounded_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
