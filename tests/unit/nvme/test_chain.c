/* Commands of several steps: Flush, Force Unit Access without FUA, Dataset Management.
 * NVM Express 1.4, sections 6.7, 6.8, 6.9, 6.15. */
#include "tests/unit/nvme/rig.h"

#define DROPS (BLK_FEATURE_FLUSH | BLK_FEATURE_WRITE_ZEROES | BLK_FEATURE_COMPARE) /* no FUA */

static struct nvme_sqe flush(uint32_t nsid)
{
    return (struct nvme_sqe){.opcode = NVME_IO_FLUSH, .nsid = nsid};
}

static struct nvme_sqe fua(uint8_t opcode)
{
    struct nvme_sqe sqe = rig_rw(opcode, 1, 5, 3);
    sqe.cdw12 |= NVME_RW_FUA;
    return sqe;
}

/* --- 6.8 Flush ------------------------------------------------------------------------------ */

static void flush_of_one_namespace_reaches_its_device(void **state)
{
    (void)state;
    rig_attach(0, 1);
    rig_attach(1, 2);
    assert_ended(rig_io(flush(2)), NVME_SC_SUCCESS);
    assert_int_equal(rig.devs[0].request_count, 0);
    assert_int_equal(rig.devs[1].request_count, 1);
    assert_int_equal(rig.map_len_bytes, 0);
}

static void flush_without_volatile_cache_succeeds_at_once(void **state)
{
    (void)state;
    rig_attach_with(0, 1, 0);
    assert_ended(rig_io(flush(1)), NVME_SC_SUCCESS);
    assert_int_equal(rig.devs[0].request_count, 0);
}

/* VWC bits 2:1 are 11b: FFFFFFFFh flushes every active namespace. */
static void flush_all_visits_every_namespace_with_a_cache(void **state)
{
    (void)state;
    rig_attach(0, 1);
    rig_attach_with(1, 7, 0);
    rig_attach(2, LIMIT_NAMESPACES);
    assert_ended(rig_io(flush(NVME_NSID_ALL)), NVME_SC_SUCCESS);
    assert_int_equal(rig.devs[0].request_count, 1);
    assert_int_equal(rig.devs[1].request_count, 0);
    assert_int_equal(rig.devs[2].request_count, 1);
}

static void flush_all_without_namespaces_succeeds(void **state)
{
    (void)state;
    assert_ended(rig_io(flush(NVME_NSID_ALL)), NVME_SC_SUCCESS);
}

static void flush_all_goes_on_after_each_device_and_tells_the_first_failure(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        rig_attach(i, i + 1)->hold = i != 1;
    }
    rig.devs[1].fail_after = 1;
    rig.devs[1].fail_status = NVME_SC_WRITE_FAULT;
    struct rig_cmd *cmd = rig_io(flush(NVME_NSID_ALL));
    assert_pending(cmd);
    assert_int_equal(rig.devs[1].request_count, 0);
    rig_dev_release(&rig.devs[0], NVME_SC_SUCCESS);
    assert_pending(cmd);
    assert_int_equal(rig_dev_held(&rig.devs[2]), 1);
    rig_dev_release(&rig.devs[2], NVME_SC_INTERNAL_ERROR);
    assert_ended(cmd, NVME_SC_WRITE_FAULT);
}

static void flush_all_cancelled_visits_no_further_device(void **state)
{
    (void)state;
    rig_attach(0, 1)->hold = true;
    rig_attach(1, 2);
    rig.devs[0].ignores_cancel = true;
    struct rig_cmd *cmd = rig_io(flush(NVME_NSID_ALL));
    nvme_cancel(&cmd->nvme);
    assert_pending(cmd);
    rig_dev_release(&rig.devs[0], NVME_SC_SUCCESS);
    assert_ended(cmd, NVME_SC_ABORT_REQUESTED);
    assert_int_equal(rig.devs[1].request_count, 0);
}

/* --- FUA ------------------------------------------------------------------------------------ */

static void fua_is_passed_to_a_device_that_has_it(void **state)
{
    (void)state;
    struct rig_dev *dev = rig_attach(0, 1);
    assert_ended(rig_io(fua(NVME_IO_WRITE)), NVME_SC_SUCCESS);
    assert_int_equal(dev->request_count, 1);
    assert_int_equal(dev->last.cdw12 & NVME_RW_FUA, NVME_RW_FUA);
}

static void fua_without_cache_needs_nothing(void **state)
{
    (void)state;
    struct rig_dev *dev = rig_attach_with(0, 1, 0);
    assert_ended(rig_io(fua(NVME_IO_WRITE)), NVME_SC_SUCCESS);
    assert_int_equal(dev->request_count, 1);
}

/* 6.15, 6.17: the data is on the medium before the completion. */
static void fua_write_is_followed_by_a_flush(void **state)
{
    (void)state;
    const uint8_t opcodes[] = {NVME_IO_WRITE, NVME_IO_WRITE_ZEROES};
    for (uint32_t i = 0; i < 2; i++) {
        struct rig_dev *dev = rig_attach_with(i, 1, DROPS);
        dev->hold = true;
        struct rig_cmd *cmd = rig_io(fua(opcodes[i]));
        assert_int_equal(dev->opcodes[0], opcodes[i]);
        rig_dev_release(dev, NVME_SC_SUCCESS);
        assert_pending(cmd);
        assert_int_equal(dev->opcodes[1], NVME_IO_FLUSH);
        assert_int_equal(dev->last_data.space, MEM_SPACE_NONE);
        rig_dev_release(dev, NVME_SC_SUCCESS);
        assert_ended(cmd, NVME_SC_SUCCESS);
        assert_int_equal(dev->request_count, 2);
        assert_int_equal(cmd->nvme.blk.cmd.opcode, opcodes[i]);
        dev->hold = false;
        assert_ended(rig_io(rig_rw(NVME_IO_WRITE, 1, 0, 1)), NVME_SC_SUCCESS);
        assert_int_equal(dev->request_count, 3); /* without FUA: no flush */
        assert_int_equal(nvme_ns_detach(rig.ctrl, 1, NULL, NULL), STATUS_OK);
        rig_turns(4);
    }
}

/* 6.9: what the cache holds goes to the medium, then the medium is read. */
static void fua_read_follows_a_flush(void **state)
{
    (void)state;
    struct rig_dev *dev = rig_attach_with(0, 1, DROPS);
    const uint8_t opcodes[] = {NVME_IO_READ, NVME_IO_COMPARE};
    for (uint32_t i = 0; i < 2; i++) {
        assert_ended(rig_io(fua(opcodes[i])), NVME_SC_SUCCESS);
        assert_int_equal(dev->opcodes[2 * i], NVME_IO_FLUSH);
        assert_int_equal(dev->opcodes[2 * i + 1], opcodes[i]);
        assert_int_equal(rig.map_dir, opcodes[i] & 3);
        assert_int_equal(dev->last_data.len_bytes, 3 * 512);
    }
}

/* The n-th request fails for n = 1, 2, ...: the failure is told, and nothing is left behind. */
static void fua_failure_of_any_step_ends_the_command(void **state)
{
    (void)state;
    const uint8_t opcodes[] = {NVME_IO_READ, NVME_IO_WRITE, NVME_IO_COMPARE, NVME_IO_WRITE_ZEROES};
    struct rig_dev *dev = rig_attach_with(0, 1, DROPS);
    dev->fail_status = NVME_SC_INTERNAL_ERROR;
    for (uint32_t i = 0; i < sizeof(opcodes); i++) {
        for (uint32_t n = 1; n <= 2; n++) {
            dev->fail_after = n;
            assert_ended(rig_io(fua(opcodes[i])), NVME_SC_INTERNAL_ERROR);
            assert_int_equal(rig_in_flight(1), 0);
        }
        dev->fail_after = 3;
        assert_ended(rig_io(fua(opcodes[i])), NVME_SC_SUCCESS);
        dev->fail_after = 0;
        if (opcodes[i] != NVME_IO_WRITE_ZEROES) {
            rig.map_fail_after = 1;
            assert_ended(rig_io(fua(opcodes[i])), NVME_SC_DATA_TRANSFER_ERROR);
        }
    }
}

static void fua_cancelled_starts_no_second_step(void **state)
{
    (void)state;
    struct rig_dev *dev = rig_attach_with(0, 1, DROPS);
    dev->hold = true;
    dev->ignores_cancel = true;
    const uint8_t opcodes[] = {NVME_IO_READ, NVME_IO_WRITE};
    for (uint32_t i = 0; i < 2; i++) {
        struct rig_cmd *cmd = rig_io(fua(opcodes[i]));
        nvme_cancel(&cmd->nvme);
        rig_dev_release(dev, NVME_SC_SUCCESS);
        assert_ended(cmd, NVME_SC_ABORT_REQUESTED);
        assert_int_equal(dev->request_count, i + 1);
    }
}

/* --- 6.7 Dataset Management ----------------------------------------------------------------- */

static struct nvme_dsm_range *ranges(void)
{
    return (struct nvme_dsm_range *)(void *)rig.data;
}

static struct rig_cmd *dsm(uint32_t count, uint32_t attributes)
{
    return rig_io((struct nvme_sqe){
        .opcode = NVME_IO_DSM, .nsid = 1, .cdw10 = count - 1, .cdw11 = attributes});
}

static void dsm_gives_the_device_a_copy_of_the_ranges(void **state)
{
    (void)state;
    struct rig_dev *dev = rig_attach(0, 1);
    dev->hold = true;
    for (uint32_t i = 0; i < 256; i++) {
        ranges()[i] = (struct nvme_dsm_range){.lba_count = 2, .slba = i};
    }
    struct rig_cmd *cmd = dsm(256, NVME_DSM_DEALLOCATE);
    assert_int_equal(rig.map_len_bytes, 4096);
    assert_int_equal(rig.map_dir, NVME_DIR_TO_CONTROLLER);
    assert_int_equal(dev->last_data.space, MEM_SPACE_NIC);
    assert_int_equal(dev->last_data.len_bytes, 4096);
    assert_memory_equal(dev->last_bytes, rig.data, 4096);
    memset(rig.data, 0xff, 4096); /* too late */
    uint8_t seen[16];
    assert_int_equal(mem_ref_read(&cmd->nvme.blk.data, 16, seen, 16), 16);
    assert_int_equal(seen[8], 1);
    rig_dev_release(dev, NVME_SC_SUCCESS);
    assert_ended(cmd, NVME_SC_SUCCESS);
}

static void dsm_range_beyond_the_namespace_is_refused(void **state)
{
    (void)state;
    struct rig_dev *dev = rig_attach(0, 1);
    ranges()[0] = (struct nvme_dsm_range){.slba = 990, .lba_count = 10};
    ranges()[1] = (struct nvme_dsm_range){.slba = 990, .lba_count = 11};
    ranges()[2] = (struct nvme_dsm_range){.slba = UINT64_MAX, .lba_count = UINT32_MAX};
    ranges()[3] = (struct nvme_dsm_range){0};
    assert_ended(dsm(1, NVME_DSM_DEALLOCATE), NVME_SC_SUCCESS);
    assert_refused(dsm(2, NVME_DSM_DEALLOCATE), NVME_SC_LBA_OUT_OF_RANGE);
    ranges()[1] = ranges()[2];
    assert_refused(dsm(2, NVME_DSM_DEALLOCATE), NVME_SC_LBA_OUT_OF_RANGE);
    ranges()[1] = ranges()[3]; /* an empty range */
    assert_ended(dsm(2, NVME_DSM_DEALLOCATE), NVME_SC_SUCCESS);
    assert_int_equal(dev->request_count, 2);
}

/* IDR, IDW are hints; deallocation is advisory. */
static void dsm_without_effect_succeeds_without_the_device(void **state)
{
    (void)state;
    struct rig_dev *dev = rig_attach(0, 1);
    assert_ended(dsm(1, 3), NVME_SC_SUCCESS);
    assert_int_equal(dev->request_count, 0);
    rig.map_fail_after = 1;
    assert_ended(dsm(1, 3), NVME_SC_DATA_TRANSFER_ERROR);
    assert_int_equal(nvme_ns_detach(rig.ctrl, 1, NULL, NULL), STATUS_OK);
    rig_turns(4);
    dev = rig_attach_with(1, 1, 0);
    ranges()[0] = (struct nvme_dsm_range){.slba = 0, .lba_count = 10};
    assert_ended(dsm(1, NVME_DSM_DEALLOCATE), NVME_SC_SUCCESS);
    ranges()[0].slba = 1000;
    assert_refused(dsm(1, NVME_DSM_DEALLOCATE), NVME_SC_LBA_OUT_OF_RANGE);
    assert_int_equal(dev->request_count, 0);
}

/* More than there are buffers for: they wait, in order. */
static void dsm_beyond_the_buffers_waits(void **state)
{
    (void)state;
    struct rig_dev *dev = rig_attach(0, 1);
    struct rig_cmd *cmds[9];
    dev->hold = true;
    for (uint32_t i = 0; i < 9; i++) {
        ranges()[0] = (struct nvme_dsm_range){.slba = i, .lba_count = 1};
        cmds[i] = dsm(1, NVME_DSM_DEALLOCATE);
        assert_pending(cmds[i]);
    }
    assert_int_equal(rig_dev_held(dev), 4);
    nvme_cancel(&cmds[8]->nvme); /* one that waits */
    assert_int_equal(cmds[8]->nvme.blk.status, NVME_SC_ABORT_REQUESTED);
    dev->fail_after = 1; /* the first that gets a buffer fails at once */
    dev->fail_status = NVME_SC_INTERNAL_ERROR;
    dev->hold = false;
    rig_dev_release(dev, NVME_SC_SUCCESS);
    for (uint32_t i = 0; i < 8; i++) {
        assert_ended(cmds[i], i == 4 ? NVME_SC_INTERNAL_ERROR : NVME_SC_SUCCESS);
    }
    assert_int_equal(rig_dsm_buffers_free(0), 4);
}

static void dsm_failures_give_the_buffer_back(void **state)
{
    (void)state;
    struct rig_dev *dev = rig_attach(0, 1);
    ranges()[0] = (struct nvme_dsm_range){.slba = 0, .lba_count = 1};
    dev->fail_status = NVME_SC_INTERNAL_ERROR;
    for (uint32_t i = 0; i < 10; i++) {
        dev->fail_after = 1;
        assert_ended(dsm(1, NVME_DSM_DEALLOCATE), NVME_SC_INTERNAL_ERROR);
        rig.map_fail_after = 1;
        assert_ended(dsm(1, NVME_DSM_DEALLOCATE), NVME_SC_DATA_TRANSFER_ERROR);
    }
    assert_ended(dsm(1, NVME_DSM_DEALLOCATE), NVME_SC_SUCCESS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(flush_of_one_namespace_reaches_its_device),
        TEST(flush_without_volatile_cache_succeeds_at_once),
        TEST(flush_all_visits_every_namespace_with_a_cache),
        TEST(flush_all_without_namespaces_succeeds),
        TEST(flush_all_goes_on_after_each_device_and_tells_the_first_failure),
        TEST(flush_all_cancelled_visits_no_further_device),
        TEST(fua_is_passed_to_a_device_that_has_it),
        TEST(fua_without_cache_needs_nothing),
        TEST(fua_write_is_followed_by_a_flush),
        TEST(fua_read_follows_a_flush),
        TEST(fua_failure_of_any_step_ends_the_command),
        TEST(fua_cancelled_starts_no_second_step),
        TEST(dsm_gives_the_device_a_copy_of_the_ranges),
        TEST(dsm_range_beyond_the_namespace_is_refused),
        TEST(dsm_without_effect_succeeds_without_the_device),
        TEST(dsm_beyond_the_buffers_waits),
        TEST(dsm_failures_give_the_buffer_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
