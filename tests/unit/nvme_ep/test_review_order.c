/* What the host is promised about order: completions of Abort, registers at start. */
#include "tests/unit/nvme_ep/rig_test.h"

static int setup(void **state)
{
    (void)state;
    rig_start(NULL);
    return 0;
}

/* --- Abort ------------------------------------------------------------------------------------ */

/* 5.1: dword 0 bit 0 may be 0 only when the entry of the aborted command is there already. */
static void abort_whose_target_finds_the_cq_full_says_not_aborted(void **state)
{
    (void)state;
    struct rig_queue io;
    struct nvme_sqe flush = {.opcode = NVME_IO_FLUSH, .nsid = 1};
    struct nvme_sqe slow = {.opcode = NVME_IO_FLUSH, .nsid = 2};
    struct nvme_cqe cqe;

    rig_enable();
    rig_create_pair(&io, 1, 4);
    io.sq_size = 4;
    uint16_t cid = rig_push(&io, &slow);
    rig_push(&io, &flush);
    rig_push(&io, &flush);
    rig_ring(&io);
    rig_turn(2);
    rig_push(&io, &flush);
    rig_ring(&io);
    rig_turn(2); /* three entries: full */
    struct nvme_sqe abort = {.opcode = NVME_ADMIN_ABORT, .cdw10 = (uint32_t)cid << 16 | 1};
    uint32_t dw0;
    assert_int_equal(rig_admin(&abort, &dw0), 0);
    assert_int_equal(nvme_ep_queue_info(rig.ep, 1).cq_held, 1);
    assert_int_equal(dw0, 1);

    for (uint32_t i = 0; i < 3; i++) {
        assert_true(rig_pop(&io, &cqe));
    }
    rig_ring_head(&io);
    rig_turn(2);
    assert_true(rig_pop(&io, &cqe));
    assert_int_equal(rig_cid(&cqe), cid);
    assert_int_equal(NVME_STATUS_CODE(rig_status(&cqe)), NVME_SC_ABORT_REQUESTED);
}

/* --- start ------------------------------------------------------------------------------------ */

static const struct pcie_ep_ops *real_ops;
static struct rig_queue admin;
static bool host_waits;

/* The host enables the controller in the moment after the ring was found empty. */
static bool pop_and_then_enable(struct pcie_ep *ep, struct pcie_ep_event *event)
{
    if (real_ops->event_pop(ep, event)) {
        return true;
    }
    if (host_waits) {
        host_waits = false;
        rig_write32(NVME_REG_AQA, 31 << 16 | 31);
        rig_write64(NVME_REG_ASQ, admin.sq_addr);
        rig_write64(NVME_REG_ACQ, admin.cq_addr);
        rig_write32(NVME_REG_CC, RIG_CC);
    }
    return false;
}

static void enable_while_the_page_is_compared_waits_for_the_registers_before_it(void **state)
{
    (void)state;
    struct pcie_ep_ops ops = *rig.pcie.ops;

    real_ops = rig.pcie.ops;
    ops.event_pop = pop_and_then_enable;
    rig.pcie.ops = &ops;
    admin.sq_addr = rig_alloc(32 * NVME_SQE_BYTES);
    admin.cq_addr = rig_alloc(32 * NVME_CQE_BYTES);
    host_waits = true;
    rig.ep->must_reconcile = true; /* as before the first window comes */
    nvme_ep_control_wake(rig.ep);
    rig_turn(20);
    rig.pcie.ops = real_ops;
    assert_int_equal(rig_csts(), NVME_CSTS_RDY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, rig_teardown)
        T(abort_whose_target_finds_the_cq_full_says_not_aborted),
        T(enable_while_the_page_is_compared_waits_for_the_registers_before_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
