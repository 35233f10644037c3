/* Reservations, NVM Express 1.4, sections 6.10 - 6.13 and 8.8; and statuses that are the device's
 * own business. */
#include "tests/unit/nvme/rig.h"

#include "base/bits.h"

static const struct {
    uint8_t opcode;
    uint8_t dir;
    uint32_t len_bytes;
} commands[] = {
    {NVME_IO_RESERVATION_REGISTER, NVME_DIR_TO_CONTROLLER, 16},
    {NVME_IO_RESERVATION_REPORT, NVME_DIR_FROM_CONTROLLER, 64},
    {NVME_IO_RESERVATION_ACQUIRE, NVME_DIR_TO_CONTROLLER, 16},
    {NVME_IO_RESERVATION_RELEASE, NVME_DIR_TO_CONTROLLER, 8},
};

/* cdw10 is NUMD of Report; of the others action, type, key. */
static struct nvme_sqe command(uint8_t opcode)
{
    return (struct nvme_sqe){.opcode = opcode,
                             .nsid = 1,
                             .cdw10 = opcode == NVME_IO_RESERVATION_REPORT ? 15 : 0x80000309,
                             .cdw11 = 1};
}

static struct rig_dev *attach(uint32_t features)
{
    rig.config.host_id[3] = 0x77;
    rig_restart();
    return rig_attach_with(0, 1, features);
}

static void reservation_reaches_the_device_as_it_is(void **state)
{
    (void)state;
    struct rig_dev *dev = attach(BLK_FEATURE_RESERVATIONS | BLK_FEATURE_READ_ONLY);
    for (uint32_t i = 0; i < ARRAY_SIZE(commands); i++) {
        struct nvme_sqe sqe = command(commands[i].opcode);
        for (uint32_t k = 0; k < 64; k++) {
            rig.data[k] = (uint8_t)(i + k);
        }
        struct rig_cmd *cmd = rig_io(sqe);
        assert_ended(cmd, NVME_SC_SUCCESS);
        assert_memory_equal(&dev->last, &sqe, sizeof(sqe));
        assert_int_equal(dev->last_data.space, MEM_SPACE_HOST);
        assert_int_equal(dev->last_data.len_bytes, commands[i].len_bytes);
        assert_int_equal(rig.map_dir, commands[i].dir);
        assert_memory_equal(dev->last_bytes, rig.data, commands[i].len_bytes);
    }
}

static void reservation_report_has_as_many_dwords_as_it_says(void **state)
{
    (void)state;
    attach(BLK_FEATURE_RESERVATIONS);
    struct nvme_sqe sqe = command(NVME_IO_RESERVATION_REPORT);
    sqe.cdw10 = 0;
    assert_ended(rig_io(sqe), NVME_SC_SUCCESS);
    assert_int_equal(rig.map_len_bytes, 4);
    sqe.cdw10 = (4096u << rig.config.mdts) / 4 - 1;
    assert_ended(rig_io(sqe), NVME_SC_SUCCESS);
    assert_int_equal(rig.map_len_bytes, 4096u << rig.config.mdts);
}

static void reservation_report_beyond_mdts_is_an_invalid_field(void **state)
{
    (void)state;
    struct rig_dev *dev = attach(BLK_FEATURE_RESERVATIONS);
    const uint32_t numds[] = {(4096u << rig.config.mdts) / 4, 0x3fffffff, UINT32_MAX};
    for (uint32_t i = 0; i < ARRAY_SIZE(numds); i++) {
        struct nvme_sqe sqe = command(NVME_IO_RESERVATION_REPORT);
        sqe.cdw10 = numds[i];
        assert_refused_at(rig_io(sqe), NVME_SC_INVALID_FIELD, NVME_ERROR_LOCATION(40, 0));
    }
    assert_int_equal(dev->request_count, 0);
}

static void reservation_bad_data_pointer_ends_with_its_status(void **state)
{
    (void)state;
    struct rig_dev *dev = attach(BLK_FEATURE_RESERVATIONS);
    for (uint32_t i = 0; i < ARRAY_SIZE(commands); i++) {
        rig.map_fail_after = 1;
        rig.map_status = NVME_SC_INVALID_PRP_OFFSET | NVME_STATUS_DNR;
        assert_refused(rig_io(command(commands[i].opcode)), NVME_SC_INVALID_PRP_OFFSET);
    }
    assert_int_equal(dev->request_count, 0);
    assert_int_equal(rig_in_flight(1), 0);
}

static void reservation_conflict_is_passed_on(void **state)
{
    (void)state;
    struct rig_dev *dev = attach(BLK_FEATURE_RESERVATIONS);
    const uint8_t opcodes[] = {NVME_IO_READ, NVME_IO_WRITE, NVME_IO_RESERVATION_REGISTER,
                               NVME_IO_RESERVATION_ACQUIRE, NVME_IO_RESERVATION_RELEASE};
    const nvme_status_t dnrs[] = {0, NVME_STATUS_DNR};
    for (uint32_t i = 0; i < sizeof(opcodes) * 2; i++) {
        nvme_status_t status = NVME_SC_RESERVATION_CONFLICT | dnrs[i % 2];
        dev->fail_after = 1;
        dev->fail_status = status;
        struct nvme_sqe sqe = command(opcodes[i / 2]);
        if (i < 4) {
            sqe = rig_rw(opcodes[i / 2], 1, 0, 1);
        }
        struct rig_cmd *cmd = rig_io(sqe);
        assert_int_equal(cmd->completions, 1);
        assert_int_equal(cmd->nvme.blk.status, status | NVME_STATUS_MORE);
    }
}

/* SCT 3 (figure 131), without DNR: a host retries. Whoever knows the paths has chosen the status;
 * the core adds nothing to it but the error log entry. */
static void io_path_status_is_passed_on(void **state)
{
    (void)state;
    struct rig_dev *dev = rig_attach(0, 1);
    const uint8_t opcodes[] = {NVME_IO_READ, NVME_IO_WRITE, NVME_IO_FLUSH, NVME_IO_DSM};
    const nvme_status_t statuses[] = {NVME_SC_INTERNAL_PATH_ERROR, NVME_SC_HOST_PATH_ERROR,
                                      NVME_SC_ASYMMETRIC_ACCESS_TRANSITION,
                                      NVME_SC_COMMAND_INTERRUPTED};
    for (uint32_t i = 0; i < sizeof(opcodes) * ARRAY_SIZE(statuses); i++) {
        struct nvme_sqe sqe = {
            .opcode = opcodes[i % 4], .nsid = 1, .cdw11 = opcodes[i % 4] == NVME_IO_DSM ? 4 : 0};
        memset(rig.data, 0, 16);
        dev->fail_after = 1;
        dev->fail_status = statuses[i / 4];
        struct rig_cmd *cmd = rig_io(sqe);
        assert_int_equal(cmd->completions, 1);
        assert_int_equal(cmd->nvme.blk.status, statuses[i / 4] | NVME_STATUS_MORE);
        assert_int_equal(dev->request_count, i + 1);
    }
    assert_int_equal(rig_dsm_buffers_free(0), 4);
}

static void reservation_that_is_not_offered_is_an_invalid_opcode(void **state)
{
    (void)state;
    rig_attach_with(0, 1, BLK_FEATURE_RESERVATIONS); /* the host has no identifier */
    rig_attach(1, 2);
    for (uint32_t i = 0; i < ARRAY_SIZE(commands) * 2; i++) {
        struct nvme_sqe sqe = command(commands[i / 2].opcode);
        sqe.nsid = 1 + i % 2;
        assert_refused(rig_io(sqe), NVME_SC_INVALID_OPCODE);
    }
    assert_int_equal(rig.devs[0].request_count + rig.devs[1].request_count, 0);
}

static void reservation_of_all_namespaces_is_refused(void **state)
{
    (void)state;
    struct rig_dev *dev = attach(BLK_FEATURE_RESERVATIONS);
    for (uint32_t i = 0; i < ARRAY_SIZE(commands); i++) {
        struct nvme_sqe sqe = command(commands[i].opcode);
        sqe.nsid = NVME_NSID_ALL;
        assert_refused(rig_io(sqe), NVME_SC_INVALID_FIELD);
    }
    assert_int_equal(dev->request_count, 0);
}

static void reservation_cancelled_ends_by_its_device(void **state)
{
    (void)state;
    struct rig_dev *dev = attach(BLK_FEATURE_RESERVATIONS);
    dev->hold = true;
    struct rig_cmd *cmd = rig_io(command(NVME_IO_RESERVATION_ACQUIRE));
    assert_pending(cmd);
    nvme_cancel(&cmd->nvme);
    assert_ended(cmd, NVME_SC_ABORT_REQUESTED);
}

/* A path that has them comes, so to speak. */
static void reservation_support_that_comes_is_seen(void **state)
{
    (void)state;
    struct rig_dev *dev = attach(0);
    assert_refused(rig_io(command(NVME_IO_RESERVATION_ACQUIRE)), NVME_SC_INVALID_OPCODE);
    dev->dev.geometry.features |= BLK_FEATURE_RESERVATIONS;
    dev->dev.changed(&dev->dev, dev->dev.changed_ctx);
    rig_turns(4);
    assert_ended(rig_io(command(NVME_IO_RESERVATION_ACQUIRE)), NVME_SC_SUCCESS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(reservation_reaches_the_device_as_it_is),
        TEST(reservation_report_has_as_many_dwords_as_it_says),
        TEST(reservation_report_beyond_mdts_is_an_invalid_field),
        TEST(reservation_bad_data_pointer_ends_with_its_status),
        TEST(reservation_conflict_is_passed_on),
        TEST(io_path_status_is_passed_on),
        TEST(reservation_that_is_not_offered_is_an_invalid_opcode),
        TEST(reservation_of_all_namespaces_is_refused),
        TEST(reservation_cancelled_ends_by_its_device),
        TEST(reservation_support_that_comes_is_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
