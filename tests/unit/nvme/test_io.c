/* Read, Write, Compare, Write Zeroes, Verify and what every I/O command is checked for:
 * NVM Express 1.4, sections 4.2, 6.1, 6.2, 6.6, 6.9, 6.14, 6.15, 6.17. */
#include "tests/unit/nvme/rig.h"

static const uint8_t ranged[] = {NVME_IO_READ, NVME_IO_WRITE, NVME_IO_COMPARE, NVME_IO_WRITE_ZEROES,
                                 NVME_IO_VERIFY};

static bool moves_data(uint8_t opcode)
{
    return opcode == NVME_IO_READ || opcode == NVME_IO_WRITE || opcode == NVME_IO_COMPARE;
}

/* --- to the device and back ----------------------------------------------------------------- */

static void io_command_reaches_the_device_as_it_is(void **state)
{
    (void)state;
    struct rig_dev *dev = rig_attach(0, 2);
    for (uint32_t i = 0; i < sizeof(ranged); i++) {
        struct nvme_sqe sqe = rig_rw(ranged[i], 2, 17, 9);
        sqe.cdw13 = 0x77; /* DSM hints of Read and Write */
        rig.map_len_bytes = 0;
        struct rig_cmd *cmd = rig_io(sqe);
        assert_int_equal(cmd->completions, 1);
        assert_int_equal(cmd->nvme.blk.status, 0);
        assert_int_equal(cmd->nvme.blk.dw0, 0);
        assert_int_equal(cmd->nvme.blk.dw1, 0);
        assert_int_equal(dev->request_count, i + 1);
        assert_memory_equal(&dev->last, &sqe, sizeof(sqe));
        if (moves_data(ranged[i])) {
            assert_int_equal(rig.map_len_bytes, 9 * 512);
            assert_int_equal(rig.map_dir, ranged[i] & 3);
            assert_int_equal(dev->last_data.len_bytes, 9 * 512);
            assert_int_equal(dev->last_data.space, MEM_SPACE_HOST);
        } else {
            assert_int_equal(rig.map_len_bytes, 0);
            assert_int_equal(dev->last_data.space, MEM_SPACE_NONE);
        }
        assert_null(cmd->nvme.blk.meta);
        assert_int_equal(cmd->nvme.blk.deadline_ns, 0);
    }
}

static void io_that_ends_later_completes_once(void **state)
{
    (void)state;
    struct rig_dev *dev = rig_attach(0, 1);
    dev->hold = true;
    struct rig_cmd *cmds[sizeof(ranged)];
    for (uint32_t i = 0; i < sizeof(ranged); i++) {
        cmds[i] = rig_io(rig_rw(ranged[i], 1, 0, 1));
        assert_pending(cmds[i]);
        assert_int_equal(rig_in_flight(1), i + 1);
    }
    rig_dev_release(dev, NVME_SC_SUCCESS);
    for (uint32_t i = 0; i < sizeof(ranged); i++) {
        assert_ended(cmds[i], NVME_SC_SUCCESS);
    }
}

static void io_device_status_is_passed_on(void **state)
{
    (void)state;
    const nvme_status_t statuses[] = {NVME_SC_UNRECOVERED_READ | NVME_STATUS_DNR,
                                      NVME_SC_COMPARE_FAILURE, NVME_SC_INTERNAL_PATH_ERROR,
                                      NVME_SC_NS_NOT_READY};
    struct rig_dev *dev = rig_attach(0, 1);
    for (uint32_t i = 0; i < ARRAY_SIZE(statuses); i++) {
        for (uint32_t k = 0; k < sizeof(ranged); k++) {
            dev->fail_after = 1;
            dev->fail_status = statuses[i];
            struct rig_cmd *cmd = rig_io(rig_rw(ranged[k], 1, 0, 1));
            assert_int_equal(cmd->completions, 1);
            assert_int_equal(cmd->nvme.blk.status, statuses[i] | NVME_STATUS_MORE);
        }
    }
}

/* --- 6.1, figure 105: NSID ------------------------------------------------------------------ */

static void io_nsid_is_checked(void **state)
{
    (void)state;
    const uint8_t opcodes[] = {NVME_IO_READ,   NVME_IO_WRITE, NVME_IO_COMPARE, NVME_IO_WRITE_ZEROES,
                               NVME_IO_VERIFY, NVME_IO_DSM,   NVME_IO_FLUSH};
    rig.config.namespace_count = 16;
    rig_restart();
    rig_attach(0, 1);
    for (uint32_t i = 0; i < sizeof(opcodes); i++) {
        uint8_t op = opcodes[i];
        assert_refused_at(rig_io(rig_rw(op, 0, 0, 1)), NVME_SC_INVALID_NS_OR_FORMAT, 4);
        assert_refused_at(rig_io(rig_rw(op, 17, 0, 1)), NVME_SC_INVALID_NS_OR_FORMAT, 4);
        assert_refused_at(rig_io(rig_rw(op, 0xfffffffe, 0, 1)), NVME_SC_INVALID_NS_OR_FORMAT, 4);
        assert_refused_at(rig_io(rig_rw(op, 2, 0, 1)), NVME_SC_INVALID_FIELD, 4); /* inactive */
        assert_refused_at(rig_io(rig_rw(op, 16, 0, 1)), NVME_SC_INVALID_FIELD, 4);
        if (op != NVME_IO_FLUSH) {
            assert_refused_at(rig_io(rig_rw(op, NVME_NSID_ALL, 0, 1)), NVME_SC_INVALID_FIELD, 4);
        }
    }
    assert_int_equal(rig.devs[0].request_count, 0);
}

/* --- figure 346: opcodes -------------------------------------------------------------------- */

static void io_unknown_opcode_is_refused(void **state)
{
    (void)state;
    const uint8_t known[] = {0x00, 0x01, 0x02, 0x05, 0x08, 0x09, 0x0c};
    rig_attach(0, 1);
    for (uint32_t opcode = 0; opcode < 256; opcode++) {
        if (memchr(known, (int)opcode, sizeof(known)) == NULL) {
            assert_refused_at(rig_io(rig_rw((uint8_t)opcode, 1, 0, 1)), NVME_SC_INVALID_OPCODE, 0);
        }
    }
}

/* ONCS tells what every namespace can do; one that cannot refuses for itself. */
static void io_opcode_that_the_device_lacks_is_refused(void **state)
{
    (void)state;
    rig_attach_with(0, 1, BLK_FEATURE_FLUSH | BLK_FEATURE_FUA);
    assert_refused(rig_io(rig_rw(NVME_IO_COMPARE, 1, 0, 1)), NVME_SC_INVALID_OPCODE);
    assert_refused(rig_io(rig_rw(NVME_IO_WRITE_ZEROES, 1, 0, 1)), NVME_SC_INVALID_OPCODE);
    assert_refused(rig_io(rig_rw(NVME_IO_VERIFY, 1, 0, 1)), NVME_SC_INVALID_OPCODE);
    assert_ended(rig_io(rig_rw(NVME_IO_READ, 1, 0, 1)), NVME_SC_SUCCESS);
}

/* --- 6.2 and figure 104: FUSE, PSDT --------------------------------------------------------- */

static void io_fused_is_an_invalid_field(void **state)
{
    (void)state;
    rig_attach(0, 1);
    for (uint32_t i = 0; i < sizeof(ranged); i++) {
        for (uint8_t fuse = 1; fuse < 4; fuse++) {
            struct nvme_sqe sqe = rig_rw(ranged[i], 1, 0, 1);
            sqe.flags = fuse;
            assert_refused_at(rig_io(sqe), NVME_SC_INVALID_FIELD, NVME_ERROR_LOCATION(1, 0));
        }
    }
}

static void io_psdt_is_what_identify_offers(void **state)
{
    (void)state;
    for (uint32_t sgl = 0; sgl < 2; sgl++) {
        nvme_ctrl_disable(rig.ctrl);
        rig.config.sgl = sgl != 0;
        rig_restart();
        rig_attach(0, 1);
        for (uint32_t psdt = 0; psdt < 4; psdt++) {
            for (uint32_t i = 0; i < sizeof(ranged); i++) {
                struct nvme_sqe sqe = rig_rw(ranged[i], 1, 0, 1);
                sqe.flags = (uint8_t)(psdt << 6);
                struct rig_cmd *cmd = rig_io(sqe);
                if (psdt == 0 || (psdt == 1 && sgl != 0)) {
                    assert_ended(cmd, NVME_SC_SUCCESS);
                } else {
                    assert_refused_at(cmd, NVME_SC_INVALID_FIELD, NVME_ERROR_LOCATION(1, 6));
                }
            }
        }
    }
}

/* --- LBA range, MDTS ------------------------------------------------------------------------ */

static void io_range_beyond_the_namespace_is_refused(void **state)
{
    (void)state;
    rig_attach(0, 1); /* 1,000 blocks; MDTS is 256 blocks */
    for (uint32_t i = 0; i < sizeof(ranged); i++) {
        uint8_t op = ranged[i];
        assert_ended(rig_io(rig_rw(op, 1, 999, 1)), NVME_SC_SUCCESS);
        assert_ended(rig_io(rig_rw(op, 1, 744, 256)), NVME_SC_SUCCESS);
        assert_refused_at(rig_io(rig_rw(op, 1, 1000, 1)), NVME_SC_LBA_OUT_OF_RANGE, 40);
        assert_refused_at(rig_io(rig_rw(op, 1, 745, 256)), NVME_SC_LBA_OUT_OF_RANGE, 40);
        assert_refused(rig_io(rig_rw(op, 1, UINT64_MAX, 1)), NVME_SC_LBA_OUT_OF_RANGE);
        assert_refused(rig_io(rig_rw(op, 1, UINT64_MAX - 1, 2)), NVME_SC_LBA_OUT_OF_RANGE);
        assert_refused(rig_io(rig_rw(op, 1, UINT64_C(1) << 32, 1)), NVME_SC_LBA_OUT_OF_RANGE);
    }
    assert_int_equal(rig.devs[0].request_count, 2 * sizeof(ranged));
}

/* Figure 247, MDTS: Invalid Field; commands without a transfer are not bound by it. */
static void io_transfer_beyond_mdts_is_an_invalid_field(void **state)
{
    (void)state;
    rig_attach(0, 1);
    for (uint32_t i = 0; i < sizeof(ranged); i++) {
        assert_ended(rig_io(rig_rw(ranged[i], 1, 0, 256)), NVME_SC_SUCCESS);
        struct rig_cmd *cmd = rig_io(rig_rw(ranged[i], 1, 0, 257));
        if (moves_data(ranged[i])) {
            assert_refused_at(cmd, NVME_SC_INVALID_FIELD, 48);
            assert_refused(rig_io(rig_rw(ranged[i], 1, 0, 65536)), NVME_SC_INVALID_FIELD);
        } else {
            assert_ended(cmd, NVME_SC_SUCCESS);
        }
    }
}

static void io_of_4096_byte_blocks_counts_in_them(void **state)
{
    (void)state;
    rig_dev_init(&rig.devs[0], 0);
    rig.devs[0].dev.geometry.lba_shift = 12;
    rig.devs[0].dev.geometry.lba_count = 100;
    assert_int_equal(nvme_ns_attach(rig.ctrl, 1, &rig.devs[0].dev), STATUS_OK);
    assert_ended(rig_io(rig_rw(NVME_IO_READ, 1, 68, 32)), NVME_SC_SUCCESS);
    assert_int_equal(rig.map_len_bytes, 131072);
    assert_refused(rig_io(rig_rw(NVME_IO_READ, 1, 0, 33)), NVME_SC_INVALID_FIELD);
    assert_refused(rig_io(rig_rw(NVME_IO_WRITE, 1, 69, 32)), NVME_SC_LBA_OUT_OF_RANGE);
}

static void io_range_follows_a_namespace_that_grows(void **state)
{
    (void)state;
    struct rig_dev *dev = rig_attach(0, 1);
    assert_refused(rig_io(rig_rw(NVME_IO_READ, 1, 1000, 1)), NVME_SC_LBA_OUT_OF_RANGE);
    dev->dev.geometry.lba_count = 1001;
    dev->dev.changed(&dev->dev, dev->dev.changed_ctx);
    assert_ended(rig_io(rig_rw(NVME_IO_READ, 1, 1000, 1)), NVME_SC_SUCCESS);
}

/* --- other fields --------------------------------------------------------------------------- */

/* Figure 376: without protection information PRINFO has no meaning. LR is a hint. */
static void io_prinfo_and_limited_retry_are_ignored(void **state)
{
    (void)state;
    rig_attach(0, 1);
    for (uint32_t i = 0; i < sizeof(ranged); i++) {
        for (uint32_t prinfo = 0; prinfo < 16; prinfo++) {
            struct nvme_sqe sqe = rig_rw(ranged[i], 1, 0, 1);
            sqe.cdw12 |= prinfo << NVME_RW_PRINFO_SHIFT | NVME_RW_LR;
            assert_ended(rig_io(sqe), NVME_SC_SUCCESS);
        }
    }
}

static void io_deac_of_write_zeroes_is_passed_on(void **state)
{
    (void)state;
    struct rig_dev *dev = rig_attach(0, 1);
    struct nvme_sqe sqe = rig_rw(NVME_IO_WRITE_ZEROES, 1, 0, 10);
    sqe.cdw12 |= NVME_WZ_DEAC;
    assert_ended(rig_io(sqe), NVME_SC_SUCCESS);
    assert_int_equal(dev->last.cdw12 & NVME_WZ_DEAC, NVME_WZ_DEAC);
}

/* Figure 127: Namespace is Write Protected. */
static void io_write_protected_namespace_refuses_what_changes_it(void **state)
{
    (void)state;
    rig_attach_with(0, 1,
                    BLK_FEATURE_READ_ONLY | BLK_FEATURE_COMPARE | BLK_FEATURE_VERIFY |
                        BLK_FEATURE_WRITE_ZEROES | BLK_FEATURE_DSM);
    assert_ended(rig_io(rig_rw(NVME_IO_READ, 1, 0, 1)), NVME_SC_SUCCESS);
    assert_ended(rig_io(rig_rw(NVME_IO_COMPARE, 1, 0, 1)), NVME_SC_SUCCESS);
    assert_ended(rig_io(rig_rw(NVME_IO_VERIFY, 1, 0, 1)), NVME_SC_SUCCESS);
    assert_ended(rig_io(rig_rw(NVME_IO_FLUSH, 1, 0, 1)), NVME_SC_SUCCESS);
    assert_refused(rig_io(rig_rw(NVME_IO_WRITE, 1, 0, 1)), NVME_SC_NS_WRITE_PROTECTED);
    assert_refused(rig_io(rig_rw(NVME_IO_WRITE_ZEROES, 1, 0, 1)), NVME_SC_NS_WRITE_PROTECTED);
    assert_refused(rig_io(rig_rw(NVME_IO_DSM, 1, 0, 1)), NVME_SC_NS_WRITE_PROTECTED);
}

static void io_bad_data_pointer_ends_with_its_status(void **state)
{
    (void)state;
    rig_attach(0, 1);
    rig.map_status = NVME_SC_INVALID_PRP_OFFSET | NVME_STATUS_DNR;
    for (uint32_t i = 0; i < 3; i++) {
        rig.map_fail_after = 1;
        assert_refused(rig_io(rig_rw(ranged[i], 1, 0, 1)), NVME_SC_INVALID_PRP_OFFSET);
        assert_int_equal(rig_in_flight(1), 0);
    }
    assert_int_equal(rig.devs[0].request_count, 0);
}

/* --- cancel --------------------------------------------------------------------------------- */

static void io_cancelled_ends_once_by_its_device(void **state)
{
    (void)state;
    struct rig_dev *dev = rig_attach(0, 1);
    dev->hold = true;
    for (uint32_t i = 0; i < sizeof(ranged); i++) {
        struct rig_cmd *cmd = rig_io(rig_rw(ranged[i], 1, 0, 1));
        nvme_cancel(&cmd->nvme);
        assert_int_equal(cmd->nvme.blk.status, NVME_SC_ABORT_REQUESTED);
        assert_int_equal(cmd->completions, 1);
    }
    dev->ignores_cancel = true;
    struct rig_cmd *cmd = rig_io(rig_rw(NVME_IO_READ, 1, 0, 1));
    nvme_cancel(&cmd->nvme);
    assert_pending(cmd);
    rig_dev_release(dev, NVME_SC_SUCCESS);
    assert_ended(cmd, NVME_SC_SUCCESS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(io_command_reaches_the_device_as_it_is),
        TEST(io_that_ends_later_completes_once),
        TEST(io_device_status_is_passed_on),
        TEST(io_nsid_is_checked),
        TEST(io_unknown_opcode_is_refused),
        TEST(io_opcode_that_the_device_lacks_is_refused),
        TEST(io_fused_is_an_invalid_field),
        TEST(io_psdt_is_what_identify_offers),
        TEST(io_range_beyond_the_namespace_is_refused),
        TEST(io_transfer_beyond_mdts_is_an_invalid_field),
        TEST(io_of_4096_byte_blocks_counts_in_them),
        TEST(io_range_follows_a_namespace_that_grows),
        TEST(io_prinfo_and_limited_retry_are_ignored),
        TEST(io_deac_of_write_zeroes_is_passed_on),
        TEST(io_write_protected_namespace_refuses_what_changes_it),
        TEST(io_bad_data_pointer_ends_with_its_status),
        TEST(io_cancelled_ends_once_by_its_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
