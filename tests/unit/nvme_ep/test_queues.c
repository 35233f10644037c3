/* Create, Delete and Abort: sections 5.1, 5.3 - 5.6. */
#include "tests/unit/nvme_ep/rig_test.h"

#define DNR(code) (NVME_SC_##code | NVME_STATUS_DNR)
#define PC_IEN    (NVME_CREATE_CQ_PC | NVME_CREATE_CQ_IEN)

/* The error log adds "more" to what fails. */
static uint16_t plain(uint16_t status)
{
    return status & (uint16_t)~NVME_STATUS_MORE;
}

/* --- Create I/O Completion Queue ------------------------------------------------------------ */

static void create_cq_checks_each_field(void **state)
{
    (void)state;
    uint64_t addr = rig_alloc(LIMIT_QUEUE_ENTRIES * NVME_CQE_BYTES);
    uint64_t end = RIG_HOST_BASE + RIG_RAM_BYTES;

    assert_int_equal(plain(rig_create_cq(0, 16, addr, PC_IEN)), DNR(INVALID_QUEUE_ID));
    assert_int_equal(plain(rig_create_cq(9, 16, addr, PC_IEN)), DNR(INVALID_QUEUE_ID));
    assert_int_equal(plain(rig_create_cq(0xffff, 16, addr, PC_IEN)), DNR(INVALID_QUEUE_ID));
    assert_int_equal(plain(rig_create_cq(1, 1, addr, PC_IEN)), DNR(INVALID_QUEUE_SIZE));
    assert_int_equal(plain(rig_create_cq(1, LIMIT_QUEUE_ENTRIES + 1, addr, PC_IEN)),
                     DNR(INVALID_QUEUE_SIZE));
    assert_int_equal(plain(rig_create_cq(1, 16, addr, NVME_CREATE_CQ_IEN)), DNR(INVALID_FIELD));
    assert_int_equal(plain(rig_create_cq(1, 16, addr, PC_IEN | LIMIT_VECTORS << 16)),
                     DNR(INVALID_INTERRUPT_VECTOR));
    assert_int_equal(plain(rig_create_cq(1, 16, addr + 16, PC_IEN)), DNR(INVALID_PRP_OFFSET));
    assert_int_equal(plain(rig_create_cq(1, 16, 0, PC_IEN)), DNR(INVALID_FIELD));
    assert_int_equal(plain(rig_create_cq(1, 1024, end - 4096, PC_IEN)), DNR(INVALID_FIELD));

    /* After all that it is still free, and the vector of a CQ without interrupts is of no interest.
     */
    assert_int_equal(rig_create_cq(1, LIMIT_QUEUE_ENTRIES, addr, 0xffff0001), 0);
    assert_int_equal(plain(rig_create_cq(1, 16, addr, PC_IEN)), DNR(INVALID_QUEUE_ID));
    assert_int_equal(nvme_ep_snapshot(rig.ep).cq_count, 1);
}

static void create_checks_entry_sizes_of_cc(void **state)
{
    (void)state;
    uint64_t addr = rig_alloc(4096);

    rig_disable();
    rig_enable_sized(8, 8, NVME_CC_EN); /* IOSQES, IOCQES are 0 */
    assert_int_equal(plain(rig_create_cq(1, 16, addr, PC_IEN)), DNR(INVALID_QUEUE_SIZE));
    rig_write32(NVME_REG_CC, NVME_CC_EN | 4u << NVME_CC_IOCQES_SHIFT);
    rig_turn(2);
    assert_int_equal(rig_create_cq(1, 16, addr, PC_IEN), 0);
    assert_int_equal(plain(rig_create_sq(1, 16, addr, 1u << 16 | 1)), DNR(INVALID_QUEUE_SIZE));
}

static void create_obeys_the_number_of_queues_feature(void **state)
{
    (void)state;
    uint64_t addr = rig_alloc(4096);

    assert_int_equal(rig_set_feature(NVME_FEATURE_QUEUES, 0x00010002), 0); /* 3 SQs, 2 CQs */
    if (nvme_ctrl_feature(rig.ctrl, NVME_FEATURE_QUEUES, 0) == 0x00010002) {
        assert_int_equal(rig_create_cq(2, 16, addr, PC_IEN), 0);
        assert_int_equal(plain(rig_create_cq(3, 16, addr, PC_IEN)), DNR(INVALID_QUEUE_ID));
        assert_int_equal(rig_create_sq(3, 16, addr, 2u << 16 | 1), 0);
        assert_int_equal(plain(rig_create_sq(4, 16, addr, 2u << 16 | 1)), DNR(INVALID_QUEUE_ID));
    }
}

/* --- Create I/O Submission Queue ------------------------------------------------------------ */

static void create_sq_checks_each_field(void **state)
{
    (void)state;
    uint64_t addr = rig_alloc(LIMIT_QUEUE_ENTRIES * NVME_SQE_BYTES);
    uint32_t on_1 = 1u << 16 | NVME_CREATE_SQ_PC;

    assert_int_equal(plain(rig_create_sq(1, 16, addr, on_1)), DNR(CQ_INVALID));
    assert_int_equal(rig_create_cq(1, 16, rig_alloc(4096), PC_IEN), 0);
    assert_int_equal(plain(rig_create_sq(1, 16, addr, NVME_CREATE_SQ_PC)), DNR(INVALID_QUEUE_ID));
    assert_int_equal(plain(rig_create_sq(1, 16, addr, 9u << 16 | 1)), DNR(INVALID_QUEUE_ID));
    assert_int_equal(plain(rig_create_sq(1, 16, addr, 2u << 16 | 1)), DNR(CQ_INVALID));
    assert_int_equal(plain(rig_create_sq(0, 16, addr, on_1)), DNR(INVALID_QUEUE_ID));
    assert_int_equal(plain(rig_create_sq(9, 16, addr, on_1)), DNR(INVALID_QUEUE_ID));
    assert_int_equal(plain(rig_create_sq(1, 1, addr, on_1)), DNR(INVALID_QUEUE_SIZE));
    assert_int_equal(plain(rig_create_sq(1, LIMIT_QUEUE_ENTRIES + 1, addr, on_1)),
                     DNR(INVALID_QUEUE_SIZE));
    assert_int_equal(plain(rig_create_sq(1, 16, addr, 1u << 16)), DNR(INVALID_FIELD));
    assert_int_equal(plain(rig_create_sq(1, 16, addr + 64, on_1)), DNR(INVALID_PRP_OFFSET));
    assert_int_equal(plain(rig_create_sq(1, 16, 0, on_1)), DNR(INVALID_FIELD));
    assert_int_equal(rig_create_sq(1, LIMIT_QUEUE_ENTRIES, addr, on_1), 0);
    assert_int_equal(plain(rig_create_sq(1, 16, addr, on_1)), DNR(INVALID_QUEUE_ID));
}

static void create_after_failure_leaves_the_cq_deletable(void **state)
{
    (void)state;
    assert_int_equal(rig_create_cq(1, 16, rig_alloc(4096), PC_IEN), 0);
    assert_int_equal(plain(rig_create_sq(1, 16, 0, 1u << 16 | 1)), DNR(INVALID_FIELD));
    assert_int_equal(rig_delete_cq(1), 0);
}

/* --- Delete -------------------------------------------------------------------------------- */

static void delete_checks_order_and_identifiers(void **state)
{
    (void)state;
    struct rig_queue queue;

    rig_create_pair(&queue, 3, 16);
    assert_int_equal(plain(rig_delete_cq(3)), DNR(INVALID_QUEUE_DELETION));
    assert_int_equal(plain(rig_delete_cq(0)), DNR(INVALID_QUEUE_ID));
    assert_int_equal(plain(rig_delete_cq(4)), DNR(INVALID_QUEUE_ID));
    assert_int_equal(plain(rig_delete_cq(0xffff)), DNR(INVALID_QUEUE_ID));
    assert_int_equal(plain(rig_delete_sq(0)), DNR(INVALID_QUEUE_ID));
    assert_int_equal(plain(rig_delete_sq(4)), DNR(INVALID_QUEUE_ID));
    assert_int_equal(plain(rig_delete_sq(0xffff)), DNR(INVALID_QUEUE_ID));
    assert_int_equal(rig_delete_sq(3), 0);
    assert_int_equal(plain(rig_delete_sq(3)), DNR(INVALID_QUEUE_ID));
    assert_int_equal(rig_delete_cq(3), 0);
    assert_int_equal(plain(rig_delete_cq(3)), DNR(INVALID_QUEUE_ID));
    rig_create_pair(&queue, 3, 16);
}

static void delete_and_create_again_starts_at_zero(void **state)
{
    (void)state;
    struct rig_queue queue;
    struct nvme_cqe cqe;
    uint64_t buffer = rig_alloc(4096);

    for (uint32_t i = 0; i < 5; i++) {
        rig_create_pair(&queue, 1, 8);
        for (uint32_t n = 0; n < 5; n++) { /* leaves the doorbells at 5 */
            struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 1, n, 1, buffer, 0);
            assert_int_equal(rig_do(&queue, &sqe, &cqe), 0);
        }
        assert_int_equal(rig_delete_sq(1), 0);
        assert_int_equal(rig_delete_cq(1), 0);
    }
}

static void delete_sq_aborts_what_is_under_way(void **state)
{
    (void)state;
    struct rig_queue queue;
    struct nvme_cqe cqe;
    uint32_t count = 0;

    rig_create_pair(&queue, 1, 16);
    for (uint32_t i = 0; i < 5; i++) {
        struct nvme_sqe sqe = rig_rw(NVME_IO_WRITE, 2, i, 1, rig_alloc(4096), 0);
        rig_push(&queue, &sqe);
    }
    rig_ring(&queue);
    rig_turn(2);
    assert_int_equal(rig.slow.held_count, 5);
    assert_int_equal(rig_delete_sq(1), 0);
    assert_int_equal(rig.slow.held_count, 0);
    while (rig_pop(&queue, &cqe)) {
        assert_int_equal(NVME_STATUS_CODE(rig_status(&cqe)), NVME_SC_ABORT_SQ_DELETION);
        count++;
    }
    assert_int_equal(count, 5);
}

static void delete_sq_waits_for_a_device_that_cannot_cancel(void **state)
{
    (void)state;
    struct rig_queue queue;
    struct nvme_cqe cqe;
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_DELETE_SQ, .cdw10 = 1};

    rig.slow.obeys_cancel = false;
    rig_create_pair(&queue, 1, 16);
    struct nvme_sqe write = rig_rw(NVME_IO_WRITE, 2, 0, 1, rig_alloc(4096), 0);
    rig_push(&queue, &write);
    rig_ring(&queue);
    rig_turn(2);
    rig_push(&rig_admin_queue, &sqe);
    rig_ring(&rig_admin_queue);
    rig_turn(20);
    assert_false(rig_pop(&rig_admin_queue, &cqe));
    assert_int_equal(rig.slow.cancel_count, 1);
    rig_slow_release(&rig.slow, 0);
    rig_turn(4);
    assert_true(rig_pop(&rig_admin_queue, &cqe));
    assert_int_equal(rig_status(&cqe), 0);
    assert_true(rig_pop(&queue, &cqe)); /* it was written after all */
    assert_int_equal(rig_status(&cqe), 0);
}

static void delete_sq_drops_completions_that_the_host_never_takes(void **state)
{
    (void)state;
    struct rig_queue queue;
    uint64_t buffer = rig_alloc(4096);

    rig_create_pair(&queue, 1, 16);
    queue.sq_size = 16;
    assert_int_equal(rig_delete_sq(1), 0);
    assert_int_equal(rig_delete_cq(1), 0);
    /* A CQ of 2 entries: one fits. */
    assert_int_equal(rig_create_cq(1, 2, queue.cq_addr, PC_IEN), 0);
    assert_int_equal(rig_create_sq(1, 16, queue.sq_addr, 1u << 16 | 1), 0);
    queue.sq_tail = 0;
    for (uint32_t i = 0; i < 6; i++) {
        struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 1, i, 1, buffer, 0);
        rig_push(&queue, &sqe);
    }
    rig_ring(&queue);
    rig_turn(3);
    assert_true(nvme_ep_queue_info(rig.ep, 1).cq_held > 0);
    assert_int_equal(rig_delete_sq(1), 0);
    assert_int_equal(rig_delete_cq(1), 0);
}

static void delete_of_one_sq_leaves_its_sister_running(void **state)
{
    (void)state;
    struct rig_queue queue;
    struct rig_queue sister;
    struct nvme_cqe cqe;
    uint64_t buffer = rig_alloc(4096);

    rig_create_pair(&queue, 1, 16);
    sister = queue;
    sister.id = 2;
    sister.sq_addr = rig_alloc(4096);
    assert_int_equal(rig_create_sq(2, 16, sister.sq_addr, 1u << 16 | 1), 0);
    assert_int_equal(rig_delete_sq(1), 0);
    struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 1, 0, 1, buffer, 0);
    rig_push(&sister, &sqe);
    rig_ring(&sister);
    rig_turn(2);
    assert_true(rig_pop(&sister, &cqe));
    assert_int_equal(cqe.sq_id, 2);
}

/* --- Abort --------------------------------------------------------------------------------- */

static uint32_t abort_dw0(uint16_t sq_id, uint16_t cid)
{
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_ABORT, .cdw10 = (uint32_t)cid << 16 | sq_id};
    uint32_t dw0 = 0xffffffff;

    assert_int_equal(rig_admin(&sqe, &dw0), 0);
    return dw0;
}

static void abort_ends_the_command_and_says_so(void **state)
{
    (void)state;
    struct rig_queue queue;
    struct nvme_cqe cqe;

    rig_create_pair(&queue, 1, 16);
    struct nvme_sqe sqe = rig_rw(NVME_IO_WRITE, 2, 0, 1, rig_alloc(4096), 0);
    uint16_t first = rig_push(&queue, &sqe);
    uint16_t second = rig_push(&queue, &sqe);
    rig_ring(&queue);
    rig_turn(2);
    assert_int_equal(abort_dw0(1, second), 0);
    assert_true(rig_pop(&queue, &cqe));
    assert_int_equal(rig_cid(&cqe), second);
    assert_int_equal(NVME_STATUS_CODE(rig_status(&cqe)), NVME_SC_ABORT_REQUESTED);
    assert_false(rig_pop(&queue, &cqe));
    assert_int_equal(rig.slow.held_count, 1);
    assert_int_equal(abort_dw0(1, second), 1); /* it is gone */
    assert_int_equal(abort_dw0(1, first), 0);
}

static void abort_of_nothing_says_not_aborted(void **state)
{
    (void)state;
    struct rig_queue queue;

    rig_create_pair(&queue, 1, 16);
    assert_int_equal(abort_dw0(1, 7), 1);
    assert_int_equal(abort_dw0(0, 0x7777), 1);
}

static void abort_too_late_tells_the_truth(void **state)
{
    (void)state;
    struct rig_queue queue;
    struct nvme_cqe cqe;

    rig.slow.obeys_cancel = false;
    rig_create_pair(&queue, 1, 16);
    struct nvme_sqe write = rig_rw(NVME_IO_WRITE, 2, 0, 1, rig_alloc(4096), 0);
    uint16_t cid = rig_push(&queue, &write);
    rig_ring(&queue);
    rig_turn(2);
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_ABORT, .cdw10 = (uint32_t)cid << 16 | 1};
    rig_push(&rig_admin_queue, &sqe);
    rig_ring(&rig_admin_queue);
    rig_turn(5);
    assert_false(rig_pop(&rig_admin_queue, &cqe)); /* the device has not said yet */
    rig_slow_release(&rig.slow, 0);
    rig_turn(3);
    assert_true(rig_pop(&rig_admin_queue, &cqe));
    assert_int_equal(rig_status(&cqe), 0);
    assert_int_equal(cqe.dw0, 1);
    assert_true(rig_pop(&queue, &cqe));
    assert_int_equal(rig_status(&cqe), 0);
}

static void abort_of_an_event_request_ends_it(void **state)
{
    (void)state;
    struct nvme_sqe event = {.opcode = NVME_ADMIN_ASYNC_EVENT};
    struct nvme_cqe cqe;
    uint16_t cid = rig_push(&rig_admin_queue, &event);

    rig_ring(&rig_admin_queue);
    rig_turn(2);
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_ABORT, .cdw10 = (uint32_t)cid << 16};
    uint16_t abort_cid = rig_push(&rig_admin_queue, &sqe);
    rig_ring(&rig_admin_queue);
    rig_turn(4);
    assert_true(rig_pop(&rig_admin_queue, &cqe));
    assert_int_equal(rig_cid(&cqe), cid);
    assert_int_equal(NVME_STATUS_CODE(rig_status(&cqe)), NVME_SC_ABORT_REQUESTED);
    assert_true(rig_pop(&rig_admin_queue, &cqe));
    assert_int_equal(rig_cid(&cqe), abort_cid);
    assert_int_equal(cqe.dw0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
        T(create_cq_checks_each_field),
        T(create_checks_entry_sizes_of_cc),
        T(create_obeys_the_number_of_queues_feature),
        T(create_sq_checks_each_field),
        T(create_after_failure_leaves_the_cq_deletable),
        T(delete_checks_order_and_identifiers),
        T(delete_and_create_again_starts_at_zero),
        T(delete_sq_aborts_what_is_under_way),
        T(delete_sq_waits_for_a_device_that_cannot_cancel),
        T(delete_sq_drops_completions_that_the_host_never_takes),
        T(delete_of_one_sq_leaves_its_sister_running),
        T(abort_ends_the_command_and_says_so),
        T(abort_of_nothing_says_not_aborted),
        T(abort_too_late_tells_the_truth),
        T(abort_of_an_event_request_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
