/*
 * The model target's I/O commands, and the faults that tests ask it for. Its controller:
 * test_target.c.
 */
#include <string.h>
#include "tests/unit/model/rig.h"

/* --- I/O ------------------------------------------------------------------------------------ */

static void write_then_read_moves_the_blocks(void **state)
{
    (void)state;
    rig_io_up();
    rig_fill(1, 65536);
    struct nvme_sqe sqe = rig_io_sqe(NVME_IO_WRITE, 1, 8, 128);
    struct nvme_cqe cqe = rig_run(&rig.io, &sqe, 65536);
    assert_int_equal(rig_status(&cqe), NVME_SC_SUCCESS);
    assert_memory_equal(target_block(rig.target, 0, 1, 9), rig.data + RIG_AT_DATA + 512, 512);
    assert_int_equal(target_block_version(rig.target, 0, 1, 8), 1);
    assert_int_equal(target_block_version(rig.target, 0, 1, 7), 0);
    memset(rig.data + RIG_AT_DATA, 0, 65536);
    sqe = rig_io_sqe(NVME_IO_READ, 1, 8, 128);
    cqe = rig_run(&rig.io, &sqe, 65536);
    assert_int_equal(rig_status(&cqe), NVME_SC_SUCCESS);
    assert_memory_equal(target_block(rig.target, 0, 1, 8), rig.data + RIG_AT_DATA, 65536);
    sqe = rig_io_sqe(NVME_IO_READ, 1, 1020, 8);
    cqe = rig_run(&rig.io, &sqe, 4096);
    assert_int_equal(NVME_STATUS_CODE(rig_status(&cqe)), NVME_SC_LBA_OUT_OF_RANGE);
    sqe = rig_io_sqe(NVME_IO_READ, 2, 0, 8);
    cqe = rig_run(&rig.io, &sqe, 4096);
    assert_int_equal(NVME_STATUS_CODE(rig_status(&cqe)), NVME_SC_INVALID_NS_OR_FORMAT);
}

static void write_in_the_capsule_needs_no_read(void **state)
{
    struct nvme_sqe sqe = rig_io_sqe(NVME_IO_WRITE, 3, 5, 1);
    struct nvme_cqe cqe;

    (void)state;
    rig_io_up();
    uint64_t reads = target_stats(rig.target)->rdma_reads;
    rig_fill(2, 4096);
    sqe.cid = 60;
    sqe.flags = NVME_PSDT_SGL_MPTR << NVME_SQE_PSDT_SHIFT;
    sqe.sgl1 = (struct nvme_sgl_desc){.addr = 0, .len_bytes = 4096, .type = NVMF_SGL_IN_CAPSULE};
    rig_send(&rig.io, &sqe, 4096);
    assert_true(rig_take(&rig.io, 60, &cqe, RIG_PATIENCE_NS));
    assert_int_equal(rig_status(&cqe), NVME_SC_SUCCESS);
    assert_memory_equal(target_block(rig.target, 0, 3, 5), rig.data + RIG_AT_DATA, 4096);
    assert_int_equal(target_stats(rig.target)->rdma_reads, reads);
    sqe.sgl1.addr = 16; /* beyond IOCCSZ */
    rig_send(&rig.io, &sqe, 4096);
    assert_true(rig_take(&rig.io, 60, &cqe, RIG_PATIENCE_NS));
    assert_int_equal(NVME_STATUS_CODE(rig_status(&cqe)), NVME_SC_INVALID_SGL_OFFSET);
}

static void other_commands_do_what_they_say(void **state)
{
    struct nvme_dsm_range range = {.slba = 4, .lba_count = 2};
    uint64_t keys[2] = {0, 0x1234};

    (void)state;
    rig_io_up();
    rig_fill(3, 4096);
    struct nvme_sqe sqe = rig_io_sqe(NVME_IO_WRITE, 1, 0, 8);
    rig_run(&rig.io, &sqe, 4096);
    sqe = rig_io_sqe(NVME_IO_COMPARE, 1, 0, 8);
    struct nvme_cqe cqe = rig_run(&rig.io, &sqe, 4096);
    assert_int_equal(rig_status(&cqe), NVME_SC_SUCCESS);
    rig.data[RIG_AT_DATA + 4095] ^= 1;
    cqe = rig_run(&rig.io, &sqe, 4096);
    assert_int_equal(NVME_STATUS_CODE(rig_status(&cqe)), NVME_SC_COMPARE_FAILURE);
    sqe = rig_io_sqe(NVME_IO_WRITE_ZEROES, 1, 0, 2);
    rig_run(&rig.io, &sqe, 0);
    assert_int_equal(target_block(rig.target, 0, 1, 1)[511], 0);
    memcpy(rig.data + RIG_AT_DATA, &range, sizeof(range));
    sqe = (struct nvme_sqe){.opcode = NVME_IO_DSM, .nsid = 1, .cdw11 = NVME_DSM_DEALLOCATE};
    rig_run(&rig.io, &sqe, sizeof(range));
    assert_int_equal(target_block_version(rig.target, 0, 1, 5), 2);
    assert_int_equal(target_block_version(rig.target, 0, 1, 6), 1);
    memcpy(rig.data + RIG_AT_DATA, keys, sizeof(keys));
    sqe = (struct nvme_sqe){.opcode = 0x0d, .nsid = 1};
    cqe = rig_run(&rig.io, &sqe, sizeof(keys));
    assert_int_equal(rig_status(&cqe), NVME_SC_SUCCESS);
    sqe = (struct nvme_sqe){.opcode = 0x0e, .nsid = 1, .cdw10 = 31, .cdw11 = 1};
    rig_run(&rig.io, &sqe, 128);
    assert_int_equal(rig.data[RIG_AT_DATA + 5], 1);         /* one registrant */
    assert_int_equal(rig.data[RIG_AT_DATA + 64 + 8], 0x34); /* its key */
    sqe = rig_io_sqe(NVME_IO_FLUSH, 1, 0, 1);
    cqe = rig_run(&rig.io, &sqe, 0);
    assert_int_equal(rig_status(&cqe), NVME_SC_SUCCESS);
}

/* --- faults --------------------------------------------------------------------------------- */

/* Commands of `opcode` on I/O queues lie in the target for so long. */
static void hold(int opcode, uint64_t delay_ns)
{
    struct target_fault fault = {.kind = TARGET_FAULT_HOLD,
                                 .qid = TARGET_IO,
                                 .opcode = opcode,
                                 .fctype = TARGET_ANY,
                                 .cid = TARGET_ANY,
                                 .delay_ns = delay_ns};

    target_fault_add(rig.target, &fault);
}

static void send_keyed(struct nvme_sqe *sqe)
{
    rig_keyed(sqe, 4096);
    rig_send(&rig.io, sqe, 0);
}

/* The old controller may still execute: after the association is gone too. */
static void held_write_is_executed_after_the_association(void **state)
{
    struct nvme_sqe sqe = rig_io_sqe(NVME_IO_WRITE, 1, 0, 8);

    (void)state;
    rig_io_up();
    hold(NVME_IO_WRITE, NS_PER_S);
    rig_fill(4, 4096);
    sqe.cid = 50;
    send_keyed(&sqe);
    rig_advance(NS_PER_MS);
    assert_int_equal(target_held_count(rig.target), 1);
    rig_queue_close(&rig.io);
    rig_queue_close(&rig.admin);
    rig_advance(100 * NS_PER_MS);
    assert_int_equal(target_ctrl_count(rig.target), 0);
    assert_int_equal(target_block_version(rig.target, 0, 1, 0), 0);
    rig_advance(NS_PER_S);
    assert_int_equal(target_block_version(rig.target, 0, 1, 0), 1);
    assert_int_equal(target_stats(rig.target)->late, 1);
}

/* A controller level reset ends commands before RDY is 0 (7.3.2 of the base specification). */
static void held_write_dies_with_a_disable_in_order(void **state)
{
    struct nvme_sqe sqe = rig_io_sqe(NVME_IO_WRITE, 1, 0, 8);

    (void)state;
    rig_io_up();
    hold(TARGET_ANY, NS_PER_S);
    sqe.cid = 50;
    send_keyed(&sqe);
    rig_advance(NS_PER_MS);
    rig_cc_set(0);
    assert_int_equal(rig_property(NVME_REG_CSTS), 0);
    assert_true(rig.io.is_down);
    rig_advance(2 * NS_PER_S);
    assert_int_equal(target_block_version(rig.target, 0, 1, 0), 0);
}

static void abort_ends_a_held_command(void **state)
{
    struct nvme_sqe read = rig_io_sqe(NVME_IO_READ, 1, 0, 8);
    struct nvme_cqe cqe;

    (void)state;
    rig_io_up();
    hold(TARGET_ANY, 100 * NS_PER_S);
    read.cid = 51;
    send_keyed(&read);
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_ABORT, .cdw10 = 1 | 51u << NVME_ABORT_CID_SHIFT};
    cqe = rig_run(&rig.admin, &sqe, 0);
    assert_int_equal(cqe.dw0, 0);
    assert_true(rig_take(&rig.io, 51, &cqe, RIG_PATIENCE_NS));
    assert_int_equal(NVME_STATUS_CODE(rig_status(&cqe)), NVME_SC_ABORT_REQUESTED);
    cqe = rig_run(&rig.admin, &sqe, 0);
    assert_int_equal(cqe.dw0, 1); /* none left */
}

/* Each fault is seen by the peer as what it is. */
static void faults_of_the_answer_are_seen(void **state)
{
    struct target_fault fault = {.qid = TARGET_IO,
                                 .opcode = NVME_IO_READ,
                                 .fctype = TARGET_ANY,
                                 .cid = TARGET_ANY,
                                 .count = 1,
                                 .value = 3};
    struct nvme_sqe sqe = rig_io_sqe(NVME_IO_READ, 1, 0, 8);
    struct nvme_cqe cqe;

    (void)state;
    rig_io_up();
    sqe.cid = 64;
    fault.kind = TARGET_FAULT_WRONG_CID;
    target_fault_add(rig.target, &fault);
    send_keyed(&sqe);
    assert_true(rig_take(&rig.io, 67, &cqe, RIG_PATIENCE_NS));
    fault.kind = TARGET_FAULT_TWICE;
    target_fault_add(rig.target, &fault);
    send_keyed(&sqe);
    assert_true(rig_take(&rig.io, 64, &cqe, RIG_PATIENCE_NS));
    assert_true(rig_take(&rig.io, 64, &cqe, RIG_PATIENCE_NS));
    fault.kind = TARGET_FAULT_DROP;
    uint32_t drop = target_fault_add(rig.target, &fault);
    send_keyed(&sqe);
    assert_false(rig_take(&rig.io, 64, &cqe, 10 * NS_PER_MS));
    assert_int_equal(target_fault_hits(rig.target, drop), 1);
    fault.kind = TARGET_FAULT_SHORT;
    target_fault_add(rig.target, &fault);
    send_keyed(&sqe);
    rig_advance(NS_PER_MS);
    rig_take(&rig.io, 64, &cqe, NS_PER_MS);
    assert_int_equal(rig.io.last_bytes, 3);
    target_faults_clear(rig.target);
    fault.kind = TARGET_FAULT_DIE;
    target_fault_add(rig.target, &fault);
    send_keyed(&sqe);
    rig_advance(NS_PER_S);
    assert_true(rig.io.is_down);
    assert_true(rig.admin.is_down); /* the association ends with one of its queues */
}

static void commands_that_want_buffers_wait_for_them(void **state)
{
    struct nvme_sqe sqe = rig_io_sqe(NVME_IO_FLUSH, 1, 0, 1);
    struct nvme_cqe cqe;

    (void)state;
    rig_io_up();
    hold(TARGET_ANY, 10 * NS_PER_MS);
    rig_keyed(&sqe, 0);
    for (uint16_t cid = 100; cid < 106; cid++) { /* there are 4 */
        sqe.cid = cid;
        rig_send(&rig.io, &sqe, 0);
    }
    for (uint16_t cid = 100; cid < 106; cid++) {
        assert_true(rig_take(&rig.io, cid, &cqe, RIG_PATIENCE_NS));
    }
}

static void power_loss_leaves_the_media(void **state)
{
    (void)state;
    rig_io_up();
    rig_fill(5, 4096);
    struct nvme_sqe sqe = rig_io_sqe(NVME_IO_WRITE, 1, 0, 8);
    rig_run(&rig.io, &sqe, 4096);
    target_power(rig.target, false);
    rig_advance(NS_PER_S);
    assert_true(rig.io.is_down && rig.admin.is_down);
    rig_queue_close(&rig.io);
    rig_queue_close(&rig.admin);
    rig_queue_open(&rig.admin, 0, NVMF_CNTLID_DYNAMIC);
    assert_false(rig.admin.is_up);
    rig_queue_close(&rig.admin);
    target_power(rig.target, true);
    rig_io_up();
    memset(rig.data + RIG_AT_DATA, 0, 4096);
    sqe = rig_io_sqe(NVME_IO_READ, 1, 0, 8);
    rig_run(&rig.io, &sqe, 4096);
    assert_int_equal(rig.data[RIG_AT_DATA], 5);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(write_then_read_moves_the_blocks),
        TEST(write_in_the_capsule_needs_no_read),
        TEST(other_commands_do_what_they_say),
        TEST(held_write_is_executed_after_the_association),
        TEST(held_write_dies_with_a_disable_in_order),
        TEST(abort_ends_a_held_command),
        TEST(faults_of_the_answer_are_seen),
        TEST(commands_that_want_buffers_wait_for_them),
        TEST(power_loss_leaves_the_media),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
