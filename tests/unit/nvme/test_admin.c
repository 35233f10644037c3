/* Admin commands as such: NVM Express 1.4, sections 4.2, 5, 7.12. */
#include "tests/unit/nvme/rig.h"

static struct rig_cmd *admin(uint8_t opcode)
{
    return rig_admin((struct nvme_sqe){.opcode = opcode});
}

static const uint8_t offered[] = {0x00, 0x01, 0x02, 0x04, 0x05, 0x06,
                                  0x08, 0x09, 0x0a, 0x0c, 0x18, 0x7c};

/* Figure 139: what is not offered (firmware, namespaces, format, security, ...) and what is
 * reserved. */
static void admin_unknown_opcode_is_refused(void **state)
{
    (void)state;
    for (uint32_t opcode = 0; opcode < 256; opcode++) {
        if (memchr(offered, (int)opcode, sizeof(offered)) == NULL) {
            assert_refused_at(admin((uint8_t)opcode), NVME_SC_INVALID_OPCODE, 0);
        }
    }
}

static void admin_opcode_that_the_configuration_lacks_is_refused(void **state)
{
    (void)state;
    static struct nvme_transport_ops fewer;
    fewer = rig_ops;
    fewer.create_cq = NULL;
    fewer.create_sq = NULL;
    fewer.delete_cq = NULL;
    fewer.delete_sq = NULL;
    fewer.abort = NULL;
    rig.config.ops = &fewer;
    rig.config.keep_alive = false;
    rig.config.doorbell_buffers = false;
    rig_restart();
    assert_refused(admin(NVME_ADMIN_CREATE_CQ), NVME_SC_INVALID_OPCODE);
    assert_refused(admin(NVME_ADMIN_CREATE_SQ), NVME_SC_INVALID_OPCODE);
    assert_refused(admin(NVME_ADMIN_DELETE_CQ), NVME_SC_INVALID_OPCODE);
    assert_refused(admin(NVME_ADMIN_DELETE_SQ), NVME_SC_INVALID_OPCODE);
    assert_refused(admin(NVME_ADMIN_KEEP_ALIVE), NVME_SC_INVALID_OPCODE);
    assert_refused(admin(NVME_ADMIN_DOORBELL_BUFFER_CONFIG), NVME_SC_INVALID_OPCODE);
    struct rig_cmd *cmd = admin(NVME_ADMIN_ABORT); /* mandatory: answers "not aborted" */
    assert_ended(cmd, NVME_SC_SUCCESS);
    assert_int_equal(cmd->nvme.blk.dw0, 1);
}

/* 6.2: FUSES is 0. 4.2: PRPs alone for admin commands over PCIe, whatever I/O commands may use. */
static void admin_flags_are_refused(void **state)
{
    (void)state;
    rig.config.sgl = true;
    rig_restart();
    for (uint32_t flags = 1; flags < 256; flags++) {
        struct rig_cmd *cmd = rig_admin((struct nvme_sqe){
            .opcode = NVME_ADMIN_IDENTIFY, .flags = (uint8_t)flags, .cdw10 = NVME_CNS_CTRL});
        if ((flags & 0x3) != 0) {
            assert_refused_at(cmd, NVME_SC_INVALID_FIELD, NVME_ERROR_LOCATION(1, 0));
        } else if ((flags & 0xc0) != 0) {
            assert_refused_at(cmd, NVME_SC_INVALID_FIELD, NVME_ERROR_LOCATION(1, 6));
        } else {
            assert_ended(cmd, NVME_SC_SUCCESS); /* reserved bits: no reason to refuse */
        }
    }
}

static void admin_sgl_is_taken_where_the_transport_says_so(void **state)
{
    (void)state;
    rig.config.sgl = true;
    rig.config.admin_sgl = true;
    rig_restart();
    assert_ended(rig_admin((struct nvme_sqe){
                     .opcode = NVME_ADMIN_IDENTIFY, .flags = 0x40, .cdw10 = NVME_CNS_CTRL}),
                 NVME_SC_SUCCESS);
}

/* Figure 105: commands that use no NSID have it cleared. */
static void admin_nsid_that_is_not_used_is_refused(void **state)
{
    (void)state;
    const uint8_t opcodes[] = {0x00, 0x01, 0x04, 0x05, 0x08, 0x0c, 0x18, 0x7c};
    rig_attach(0, 1);
    for (uint32_t i = 0; i < sizeof(opcodes); i++) {
        assert_refused_at(rig_admin((struct nvme_sqe){.opcode = opcodes[i], .nsid = 1}),
                          NVME_SC_INVALID_FIELD, 4);
    }
    assert_int_equal(rig.transport_op_count, 0);
}

static void admin_queue_commands_go_to_the_transport(void **state)
{
    (void)state;
    const uint8_t opcodes[] = {NVME_ADMIN_CREATE_CQ, NVME_ADMIN_CREATE_SQ, NVME_ADMIN_DELETE_SQ,
                               NVME_ADMIN_DELETE_CQ, NVME_ADMIN_DOORBELL_BUFFER_CONFIG};
    for (uint32_t i = 0; i < sizeof(opcodes); i++) {
        assert_ended(admin(opcodes[i]), NVME_SC_SUCCESS);
        assert_int_equal(rig.transport_op_count, i + 1);
    }
    rig.op_status = NVME_SC_INVALID_QUEUE_ID | NVME_STATUS_DNR;
    assert_refused(admin(NVME_ADMIN_DELETE_CQ), NVME_SC_INVALID_QUEUE_ID);
}

/* --- 5.1 Abort ------------------------------------------------------------------------------ */

static void abort_hands_queue_and_cid_over(void **state)
{
    (void)state;
    assert_ended(rig_admin((struct nvme_sqe){.opcode = NVME_ADMIN_ABORT, .cdw10 = 0xbeef0003}),
                 NVME_SC_SUCCESS);
    assert_int_equal(rig.abort_sq_id, 3);
    assert_int_equal(rig.abort_cid, 0xbeef);
}

/* ACL is zeroes based. */
static void abort_beyond_acl_is_refused(void **state)
{
    (void)state;
    struct rig_cmd *cmds[4];
    rig.ops_answer_later = true;
    for (uint32_t i = 0; i < 4; i++) {
        cmds[i] = admin(NVME_ADMIN_ABORT);
        assert_pending(cmds[i]);
    }
    assert_refused(admin(NVME_ADMIN_ABORT), NVME_SC_ABORT_LIMIT_EXCEEDED);
    nvme_admin_done(&cmds[0]->nvme, NVME_SC_SUCCESS, 1);
    assert_int_equal(cmds[0]->nvme.blk.dw0, 1);
    cmds[0] = admin(NVME_ADMIN_ABORT);
    assert_pending(cmds[0]);
    assert_refused(admin(NVME_ADMIN_ABORT), NVME_SC_ABORT_LIMIT_EXCEEDED);
    for (uint32_t i = 0; i < 4; i++) {
        nvme_admin_done(&cmds[i]->nvme, i == 0 ? NVME_SC_INTERNAL_ERROR : NVME_SC_SUCCESS, 0);
    }
    rig.ops_answer_later = false;
    for (uint32_t i = 0; i < 6; i++) {
        assert_ended(admin(NVME_ADMIN_ABORT), NVME_SC_SUCCESS);
    }
}

/* --- 5.18 and 7.12 Keep Alive --------------------------------------------------------------- */

static void keep_alive_set(uint32_t kato_ms)
{
    assert_ended(rig_admin((struct nvme_sqe){.opcode = NVME_ADMIN_SET_FEATURES,
                                             .cdw10 = NVME_FEATURE_KEEP_ALIVE,
                                             .cdw11 = kato_ms}),
                 NVME_SC_SUCCESS);
}

static void pass_ms(uint32_t ms)
{
    native_clock_advance(ms * NS_PER_MS);
    rig_turns(4);
}

/* "The Keep Alive Timer expires: log, stop, CSTS.CFS." */
static void keep_alive_expiry_is_fatal_and_logged(void **state)
{
    (void)state;
    keep_alive_set(200);
    pass_ms(150);
    assert_int_equal(rig.fatal_count, 0);
    pass_ms(60);
    assert_int_equal(rig.fatal_count, 1);
    struct nvme_error_entry entry = rig_last_error();
    assert_int_equal(entry.status >> 1, NVME_SC_KEEP_ALIVE_EXPIRED);
    pass_ms(1000);
    assert_int_equal(rig.fatal_count, 1);
}

static void keep_alive_command_restarts_the_timer(void **state)
{
    (void)state;
    keep_alive_set(200);
    for (uint32_t i = 0; i < 10; i++) {
        pass_ms(150);
        assert_ended(admin(NVME_ADMIN_KEEP_ALIVE), NVME_SC_SUCCESS);
    }
    assert_int_equal(rig.fatal_count, 0);
    keep_alive_set(0); /* 0: off */
    pass_ms(10000);
    assert_int_equal(rig.fatal_count, 0);
}

static void keep_alive_without_kato_does_nothing(void **state)
{
    (void)state;
    assert_ended(admin(NVME_ADMIN_KEEP_ALIVE), NVME_SC_SUCCESS);
    pass_ms(10000);
    assert_int_equal(rig.fatal_count, 0);
}

static void keep_alive_stops_at_disable(void **state)
{
    (void)state;
    keep_alive_set(200);
    nvme_ctrl_disable(rig.ctrl);
    pass_ms(1000);
    assert_int_equal(rig.fatal_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(admin_unknown_opcode_is_refused),
        TEST(admin_opcode_that_the_configuration_lacks_is_refused),
        TEST(admin_flags_are_refused),
        TEST(admin_sgl_is_taken_where_the_transport_says_so),
        TEST(admin_nsid_that_is_not_used_is_refused),
        TEST(admin_queue_commands_go_to_the_transport),
        TEST(abort_hands_queue_and_cid_over),
        TEST(abort_beyond_acl_is_refused),
        TEST(keep_alive_expiry_is_fatal_and_logged),
        TEST(keep_alive_command_restarts_the_timer),
        TEST(keep_alive_without_kato_does_nothing),
        TEST(keep_alive_stops_at_disable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
