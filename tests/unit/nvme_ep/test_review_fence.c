/*
 * What arrives in the very turn in which a fence starts, and what a controller that was shut down
 * may still write: nothing of either may reach host memory after the host was answered.
 */
#include <string.h>
#include "hal/cpu.h"
#include "hal/native/native.h"
#include "tests/unit/nvme_ep/rig_test.h"

static struct rig_queue io;

/* --- a device in whose submit the other core takes its turns, as it may at any moment -------- */

static void hook_submit(struct blk_dev *dev, struct blk_req *req)
{
    uint32_t self = cpu_self();

    (void)dev;
    native_cpu_become(1);
    for (uint32_t i = 0; i < 4; i++) {
        sched_turn();
    }
    native_cpu_become(self);
    blk_complete(req, NVME_SC_SUCCESS);
}

static const struct blk_ops hook_ops = {.submit = hook_submit};

/* --- Create while the reset begins ------------------------------------------------------------ */

static int setup_two_cores(void **state)
{
    (void)state;
    rig_start_pair(&(struct rig_config){.core_count = 2, .core_mask = 2}, &io, 16);
    rig.slow.dev.ops = &hook_ops;
    return 0;
}

static void push_admin(const struct nvme_sqe *sqe)
{
    rig_push(&rig_admin_queue, sqe);
}

/* Switching the cache off flushes: there core 1 is a whole fence ahead of core 0. */
static void push_turns_of_core_1(void)
{
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_SET_FEATURES,
                           .cdw10 = NVME_FEATURE_VOLATILE_WRITE_CACHE};
    push_admin(&sqe);
}

static void reset_with_a_create_behind_it_leaves_no_queue(void **state)
{
    (void)state;
    uint64_t sq_addr = rig_alloc(16 * NVME_SQE_BYTES);
    uint64_t data = rig_alloc(4096);
    struct rig_queue late = {.id = 2, .sq_size = 16, .sq_addr = sq_addr};
    struct nvme_sqe create = {.opcode = NVME_ADMIN_CREATE_SQ,
                              .prp1 = sq_addr,
                              .cdw10 = 15u << 16 | 2,
                              .cdw11 = 1u << 16 | NVME_CREATE_SQ_PC};
    struct nvme_sqe read = rig_rw(NVME_IO_READ, 1, 0, 8, data, 0);

    push_turns_of_core_1();
    push_admin(&create);
    rig_ring(&rig_admin_queue);
    rig_write32(NVME_REG_CC, RIG_CC & ~NVME_CC_EN);
    rig_turn(20);
    assert_int_equal(rig_csts(), 0);

    memset(rig_ptr(data), 0xee, 4096);
    uint64_t sqe_count = nvme_ep_stats(rig.ep, NVME_EP_ALL_CORES).sqe_count;
    rig_push(&late, &read);
    rig_ring(&late);
    rig_turn(10);
    assert_int_equal(nvme_ep_stats(rig.ep, NVME_EP_ALL_CORES).sqe_count, sqe_count);
    assert_int_equal(*(const uint8_t *)rig_ptr(data), 0xee);
    assert_int_equal(rig.ep->cores[1].sq_count, 0);
    assert_int_equal(rig.ep->cores[1].cq_count, 0);
}

static void reset_with_a_create_cq_behind_it_leaves_no_queue(void **state)
{
    (void)state;
    struct nvme_sqe create = {.opcode = NVME_ADMIN_CREATE_CQ,
                              .prp1 = rig_alloc(16 * NVME_CQE_BYTES),
                              .cdw10 = 15u << 16 | 2,
                              .cdw11 = NVME_CREATE_CQ_PC};

    push_turns_of_core_1();
    push_admin(&create);
    rig_ring(&rig_admin_queue);
    rig_write32(NVME_REG_CC, RIG_CC & ~NVME_CC_EN);
    rig_turn(20);
    assert_int_equal(rig_csts(), 0);
    assert_int_equal(rig.ep->cores[1].cq_count, 0);
}

/* --- doorbell buffers again, while the memory goes -------------------------------------------- */

static int setup_buffers(void **state)
{
    (void)state;
    rig_start(&(struct rig_config){.doorbell_buffers = true, .trapped = true});
    rig_enable();
    return 0;
}

static void bus_master_off_with_a_buffer_config_behind_it_is_survived(void **state)
{
    (void)state;
    uint64_t shadow = rig_alloc(4096);
    uint64_t event_idx = rig_alloc(4096);
    struct nvme_sqe config = {
        .opcode = NVME_ADMIN_DOORBELL_BUFFER_CONFIG, .prp1 = shadow, .prp2 = event_idx};
    struct nvme_cqe cqe;

    assert_int_equal(rig_doorbell_buffers(shadow, event_idx), 0);
    rig_create_pair(&io, 1, 16); /* shadowed from the start */
    push_admin(&config);
    rig_ring(&rig_admin_queue);
    rig_bus_master_set(false);
    rig_turn(10);
    assert_int_equal(rig.last_ack.type, PCIE_EP_EVENT_BUS_MASTER);

    rig_bus_master_set(true);
    rig_turn(10);
    assert_int_equal(rig_csts(), NVME_CSTS_RDY);
    assert_true(rig_pop(&rig_admin_queue, &cqe));
    assert_int_equal(rig_status(&cqe), 0);
}

/* --- after a shutdown ------------------------------------------------------------------------- */

static int setup_plain(void **state)
{
    (void)state;
    rig_start(&(struct rig_config){.trapped = true});
    rig_enable();
    return 0;
}

static void shut_down(void)
{
    rig_write32(NVME_REG_CC, RIG_CC | 1u << NVME_CC_SHN_SHIFT);
    rig_turn(10);
    assert_int_equal(FIELD_GET(NVME_CSTS_SHST, rig_csts()), NVME_SHST_COMPLETE);
}

/* 7.6.2: the host takes its memory back when SHST says complete. */
static void shut_down_controller_reports_no_event(void **state)
{
    (void)state;
    struct nvme_sqe event = {.opcode = NVME_ADMIN_ASYNC_EVENT};
    struct nvme_cqe cqe;

    push_admin(&event);
    rig_ring(&rig_admin_queue);
    rig_turn(4);
    rig.slow.is_open = true;
    shut_down();
    assert_int_equal(nvme_ns_detach(rig.ctrl, 1, NULL, NULL), STATUS_OK);
    rig_turn(10);
    assert_false(rig_pop(&rig_admin_queue, &cqe));
    rig_write32(NVME_REG_CC, RIG_CC & ~NVME_CC_EN);
    rig_turn(8);
    assert_int_equal(rig_csts(), 0);
}

static void shut_down_controller_writes_no_event_index(void **state)
{
    (void)state;
    uint64_t shadow = rig_alloc(4096);
    uint64_t event_idx = rig_alloc(4096);

    assert_int_equal(rig_doorbell_buffers(shadow, event_idx), 0);
    rig_create_pair(&io, 1, 16);
    rig.slow.is_open = true;
    shut_down();
    memset(rig_ptr(event_idx), 0xee, 4096);
    nvme_ep_arm(&rig.ep->cores[0], true);
    nvme_ep_arm(&rig.ep->cores[0], false);
    for (uint32_t i = 0; i < 4096; i++) {
        assert_int_equal(((const uint8_t *)rig_ptr(event_idx))[i], 0xee);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name, setup) cmocka_unit_test_setup_teardown(name, setup, rig_teardown)
        T(reset_with_a_create_behind_it_leaves_no_queue, setup_two_cores),
        T(reset_with_a_create_cq_behind_it_leaves_no_queue, setup_two_cores),
        T(bus_master_off_with_a_buffer_config_behind_it_is_survived, setup_buffers),
        T(shut_down_controller_reports_no_event, setup_plain),
        T(shut_down_controller_writes_no_event_index, setup_buffers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
