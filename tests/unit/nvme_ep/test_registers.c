/* Registers and the CSTS state machine: sections 3.1, 7.3, 7.6. */
#include <string.h>
#include "tests/unit/nvme_ep/rig_test.h"

static int setup(void **state)
{
    (void)state;
    rig_start(NULL);
    return 0;
}

static enum nvme_ep_state state_now(void)
{
    return nvme_ep_snapshot(rig.ep).state;
}

static void write_cc(uint32_t cc)
{
    rig_write32(NVME_REG_CC, cc);
    rig_turn(8);
}

/* --- at rest ------------------------------------------------------------------------------- */

static void registers_after_start_say_what_we_can(void **state)
{
    (void)state;
    uint64_t cap = rig_read64(NVME_REG_CAP);

    assert_int_equal(FIELD_GET(NVME_CAP_MQES, cap), LIMIT_QUEUE_ENTRIES - 1);
    assert_true((cap & NVME_CAP_CQR) != 0);
    assert_int_equal(FIELD_GET(NVME_CAP_TO, cap), 20);
    assert_int_equal(FIELD_GET(NVME_CAP_DSTRD, cap), 0);
    assert_int_equal(FIELD_GET(NVME_CAP_CSS, cap), NVME_CAP_CSS_NVM);
    assert_int_equal(FIELD_GET(NVME_CAP_AMS, cap), 0);
    assert_int_equal(FIELD_GET(NVME_CAP_MPSMAX, cap), 0);
    assert_int_equal(cap & NVME_CAP_NSSRS, 0);
    assert_int_equal(rig_read32(NVME_REG_VS), NVME_VERSION_1_4);
    assert_int_equal(rig_csts(), 0);
    assert_true(rig.is_ready);
}

static void registers_read_only_ones_are_protected(void **state)
{
    (void)state;
    uint64_t cap = rig_read64(NVME_REG_CAP);

    for (uint32_t offset = 0; offset <= NVME_REG_CMBSZ; offset += 4) {
        if (offset != NVME_REG_CC && (offset < NVME_REG_AQA || offset > NVME_REG_ACQ + 4)) {
            assert_int_equal(rig.masks[offset / 4], 0);
        }
    }
    rig_write64(NVME_REG_CAP, UINT64_MAX);
    rig_write32(NVME_REG_CSTS, UINT32_MAX);
    rig_turn(2);
    assert_int_equal(rig_read64(NVME_REG_CAP), cap);
    assert_int_equal(rig_csts(), 0);
}

static void init_bad_configuration_is_refused(void **state)
{
    (void)state;
    static struct nvme_ep_memory memory;
    struct nvme_ep *ep;
    struct nvme_ep_config good = rig.ep->config;
    struct nvme_ep_config bad = good;

    assert_int_equal(nvme_ep_init(&memory, &good, &ep), STATUS_OK);
    bad.core_mask = 0;
    assert_int_equal(nvme_ep_init(&memory, &bad, &ep), STATUS_INVALID);
    bad = good;
    bad.core_mask = 2; /* that core does not run */
    assert_int_equal(nvme_ep_init(&memory, &bad, &ep), STATUS_INVALID);
    bad = good;
    bad.dstrd = 8; /* the doorbells do not fit */
    assert_int_equal(nvme_ep_init(&memory, &bad, &ep), STATUS_INVALID);
    bad = good;
    bad.ready_timeout_500ms = 0;
    assert_int_equal(nvme_ep_init(&memory, &bad, &ep), STATUS_INVALID);
    bad = good;
    bad.fence_cancel_ms = 1000;
    assert_int_equal(nvme_ep_init(&memory, &bad, &ep), STATUS_INVALID);
    bad = good;
    bad.ctrl.io_queue_count = LIMIT_IO_QUEUES + 1;
    assert_int_equal(nvme_ep_init(&memory, &bad, &ep), STATUS_INVALID);
    bad = good;
    bad.pcie = NULL;
    assert_int_equal(nvme_ep_init(&memory, &bad, &ep), STATUS_INVALID);
}

/* --- enable and disable -------------------------------------------------------------------- */

static void enable_then_identify_answers(void **state)
{
    (void)state;
    rig_enable();
    uint64_t buffer = rig_alloc(4096);
    struct nvme_sqe sqe = rig_identify(buffer);

    assert_int_equal(rig_admin(&sqe, NULL), 0);
    assert_memory_equal((char *)rig_ptr(buffer) + 24, "rig ", 4); /* MN */
    assert_int_equal(rig.irq_count[0], 1);
}

static void enable_before_serving_waits(void **state)
{
    (void)state;
    rig_stop();
    rig_start(&(struct rig_config){.not_serving = true});
    rig_enable_sized(4, 4, RIG_CC);
    assert_int_equal(rig_csts(), 0);
    assert_int_equal(state_now(), NVME_EP_STATE_ENABLING);
    nvme_ep_serve(rig.ep);
    rig_turn(2);
    assert_int_equal(rig_csts(), NVME_CSTS_RDY);
}

static void enable_withdrawn_before_serving_stays_disabled(void **state)
{
    (void)state;
    rig_stop();
    rig_start(&(struct rig_config){.not_serving = true});
    rig_enable_sized(4, 4, RIG_CC);
    write_cc(RIG_CC & ~NVME_CC_EN);
    nvme_ep_serve(rig.ep);
    rig_turn(4);
    assert_int_equal(rig_csts(), 0);
    assert_int_equal(state_now(), NVME_EP_STATE_DISABLED);
}

/* A firmware that goes, to start another: enabled or not, nothing becomes ready until it serves. */
static void enable_while_held_waits(void **state)
{
    (void)state;
    rig_enable();
    nvme_ep_hold(rig.ep);
    rig_turn(4);
    assert_int_equal(state_now(), NVME_EP_STATE_READY);
    rig_disable();
    assert_int_equal(rig_csts(), 0);
    write_cc(RIG_CC);
    assert_int_equal(state_now(), NVME_EP_STATE_ENABLING);
    assert_int_equal(rig_csts(), 0);
    nvme_ep_serve(rig.ep);
    rig_turn(4);
    assert_int_equal(rig_csts(), NVME_CSTS_RDY);
}

static void enable_twice_gives_fresh_queues(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        rig_enable();
        uint64_t buffer = rig_alloc(4096);
        struct nvme_sqe sqe = rig_identify(buffer);
        assert_int_equal(rig_admin(&sqe, NULL), 0);
        rig_disable();
        assert_int_equal(rig_csts(), 0);
        assert_true(rig_pools_are_full());
    }
}

static void enable_keeps_admin_registers_over_disable(void **state)
{
    (void)state;
    rig_enable();
    rig_disable();
    /* 7.3.2: AQA, ASQ, ACQ are not reset by CC.EN. */
    memset(rig_ptr(rig_admin_queue.cq_addr), 0, 32 * NVME_CQE_BYTES);
    rig_admin_queue.sq_tail = 0;
    rig_admin_queue.cq_head = 0;
    rig_admin_queue.phase = 1;
    write_cc(RIG_CC);
    assert_int_equal(rig_csts(), NVME_CSTS_RDY);
    struct nvme_sqe sqe = rig_identify(rig_alloc(4096));
    assert_int_equal(rig_admin(&sqe, NULL), 0);
}

static void enable_toggled_in_one_go_is_acted_on_in_order(void **state)
{
    (void)state;
    rig_enable();
    rig_write32(NVME_REG_CC, RIG_CC & ~NVME_CC_EN);
    rig_write32(NVME_REG_CC, RIG_CC);
    rig_turn(10);
    assert_int_equal(rig_csts(), NVME_CSTS_RDY);
    /* It is a new controller: the old doorbell value is gone. */
    assert_int_equal(*rig_sq_doorbell(0), 0);
}

static void enable_with_unusable_settings_is_fatal(void **state)
{
    (void)state;
    static const struct {
        uint32_t cc;
        uint32_t aqa;
        uint64_t asq;
    } cases[] = {
        {RIG_CC | 1u << NVME_CC_MPS_SHIFT, 0x001f001f, RIG_HOST_BASE},
        {RIG_CC | 1u << NVME_CC_CSS_SHIFT, 0x001f001f, RIG_HOST_BASE},
        {RIG_CC | 1u << NVME_CC_AMS_SHIFT, 0x001f001f, RIG_HOST_BASE},
        {RIG_CC, 0x001f0000, RIG_HOST_BASE},
        {RIG_CC, 0x0000001f, RIG_HOST_BASE},
        {RIG_CC, 0x001f001f, RIG_HOST_BASE - 4096},
        {RIG_CC, 0x001f001f, RIG_HOST_BASE + RIG_RAM_BYTES},
    };

    for (uint32_t i = 0; i < ARRAY_SIZE(cases); i++) {
        rig_write32(NVME_REG_AQA, cases[i].aqa);
        rig_write64(NVME_REG_ASQ, cases[i].asq);
        rig_write64(NVME_REG_ACQ, RIG_HOST_BASE + 4096);
        write_cc(cases[i].cc);
        assert_int_equal(rig_csts(), NVME_CSTS_CFS);
        assert_int_equal(state_now(), NVME_EP_STATE_FATAL);
        write_cc(0);
        assert_int_equal(rig_csts(), 0);
    }
    rig_enable();
}

static void admin_queue_of_two_entries_works(void **state)
{
    (void)state;
    rig_enable_sized(2, 2, RIG_CC);
    struct nvme_sqe sqe = rig_identify(rig_alloc(4096));
    for (uint32_t i = 0; i < 9; i++) {
        assert_int_equal(rig_admin(&sqe, NULL), 0);
    }
}

static void admin_queue_of_4096_entries_works(void **state)
{
    (void)state;
    rig_enable_sized(4096, 4096, RIG_CC);
    struct nvme_sqe sqe = rig_identify(rig_alloc(4096));
    for (uint32_t i = 0; i < 4100; i++) {
        assert_int_equal(rig_admin(&sqe, NULL), 0);
    }
}

/* --- shutdown ------------------------------------------------------------------------------ */

static uint32_t shst(void)
{
    return (uint32_t)FIELD_GET(NVME_CSTS_SHST, rig_csts());
}

static void shutdown_flushes_then_reports_complete(void **state)
{
    (void)state;
    rig_enable();
    write_cc(RIG_CC | 1u << NVME_CC_SHN_SHIFT);
    assert_int_equal(shst(), NVME_SHST_OCCURRING); /* namespace 2 has a cache and is slow */
    assert_int_equal(rig.slow.held_count, 1);
    rig_slow_release_all(&rig.slow);
    rig_turn(4);
    assert_int_equal(shst(), NVME_SHST_COMPLETE);
    assert_int_equal(state_now(), NVME_EP_STATE_SHUT_DOWN);
    assert_true((rig_csts() & NVME_CSTS_RDY) != 0);
}

static void shutdown_waits_for_commands_under_way(void **state)
{
    (void)state;
    struct rig_queue queue;
    struct nvme_cqe cqe;
    rig_enable();
    rig_create_pair(&queue, 1, 16);
    struct nvme_sqe sqe = rig_rw(NVME_IO_WRITE, 2, 0, 1, rig_alloc(4096), 0);
    rig_push(&queue, &sqe);
    rig_ring(&queue);
    rig_turn(2);
    write_cc(RIG_CC | 1u << NVME_CC_SHN_SHIFT);
    assert_int_equal(state_now(), NVME_EP_STATE_QUIESCING);
    assert_int_equal(rig.slow.held_count, 1);
    rig_slow_release(&rig.slow, 0);
    rig_turn(4);
    assert_true(rig_pop(&queue, &cqe)); /* it completed as usual */
    assert_int_equal(rig_status(&cqe), 0);
    assert_int_equal(state_now(), NVME_EP_STATE_FLUSHING);
    rig_slow_release_all(&rig.slow);
    rig_turn(4);
    assert_int_equal(shst(), NVME_SHST_COMPLETE);

    /* From now on nothing is fetched. */
    rig_push(&queue, &sqe);
    rig_ring(&queue);
    rig_turn(4);
    assert_int_equal(rig.slow.held_count, 0);
}

static void shutdown_then_reset_and_enable_works(void **state)
{
    (void)state;
    rig.slow.is_open = true;
    rig_enable();
    write_cc(RIG_CC | 1u << NVME_CC_SHN_SHIFT);
    assert_int_equal(shst(), NVME_SHST_COMPLETE);
    write_cc(0);
    assert_int_equal(rig_csts(), 0);
    rig_enable();
    struct nvme_sqe sqe = rig_identify(rig_alloc(4096));
    assert_int_equal(rig_admin(&sqe, NULL), 0);
}

static void shutdown_while_disabled_flushes_too(void **state)
{
    (void)state;
    write_cc(1u << NVME_CC_SHN_SHIFT);
    assert_int_equal(shst(), NVME_SHST_OCCURRING);
    rig_slow_release_all(&rig.slow);
    rig_turn(4);
    assert_int_equal(shst(), NVME_SHST_COMPLETE);
    write_cc(0);
    assert_int_equal(rig_csts(), 0);
}

static void shutdown_interrupted_by_reset_ends(void **state)
{
    (void)state;
    rig_enable();
    write_cc(RIG_CC | 1u << NVME_CC_SHN_SHIFT);
    assert_int_equal(shst(), NVME_SHST_OCCURRING);
    write_cc(0);
    assert_int_equal(rig_csts(), 0);
    rig_slow_release_all(&rig.slow);
    rig_turn(4);
    rig.slow.is_open = true;
    rig_enable();
}

/* --- resets -------------------------------------------------------------------------------- */

static void reset_function_goes_back_to_power_on(void **state)
{
    (void)state;
    rig_enable();
    rig_event(PCIE_EP_EVENT_RESET, 0, true);
    rig_turn(8);
    assert_int_equal(rig.last_ack.type, PCIE_EP_EVENT_RESET);
    assert_int_equal(rig_csts(), 0);
    assert_int_equal(rig_read32(NVME_REG_CC), 0);
    assert_int_equal(rig_read32(NVME_REG_AQA), 0);
    assert_int_equal(rig_read64(NVME_REG_ASQ), 0);
    assert_int_equal(rig_read64(NVME_REG_ACQ), 0);
    assert_int_equal(state_now(), NVME_EP_STATE_DISABLED);
    rig_enable();
}

static void reset_link_down_is_as_a_reset(void **state)
{
    (void)state;
    rig_enable();
    rig_event(PCIE_EP_EVENT_LINK, 0, true);
    rig_turn(8);
    assert_int_equal(rig.last_ack.type, PCIE_EP_EVENT_LINK);
    assert_int_equal(rig_read32(NVME_REG_CC), 0);
    rig_event(PCIE_EP_EVENT_LINK, 1, false);
    rig_turn(4);
    rig_enable();
}

static void reset_in_every_state_ends_disabled(void **state)
{
    (void)state;
    /* Turns between the steps of a life: a reset at any of them must lead out. */
    for (uint32_t at = 0; at < 40; at++) {
        rig_stop();
        rig_start(NULL);
        rig_write32(NVME_REG_AQA, 0x001f001f);
        rig_write64(NVME_REG_ASQ, rig_alloc(4096));
        rig_write64(NVME_REG_ACQ, rig_alloc(4096));
        for (uint32_t turn = 0; turn < at; turn++) {
            if (turn == 2) {
                rig_write32(NVME_REG_CC, RIG_CC);
            } else if (turn == 12) {
                rig_write32(NVME_REG_CC, RIG_CC | 1u << NVME_CC_SHN_SHIFT);
            } else if (turn == 22) {
                rig_slow_release_all(&rig.slow);
            } else if (turn == 30) {
                rig_write32(NVME_REG_CC, 0);
            }
            rig_turn(1);
        }
        rig_event(PCIE_EP_EVENT_RESET, 0, true);
        rig_turn(12);
        assert_int_equal(rig.last_ack.type, PCIE_EP_EVENT_RESET);
        assert_int_equal(rig_csts(), 0);
        rig_slow_release_all(&rig.slow);
        rig_turn(4);
        assert_true(rig_pools_are_full());
    }
}

static void reset_of_the_subsystem_is_offered_by_configuration(void **state)
{
    (void)state;
    rig_enable();
    rig_write32(NVME_REG_NSSR, NVME_NSSR_MAGIC);
    rig_turn(4);
    assert_int_equal(rig_csts(), NVME_CSTS_RDY); /* not offered: nothing happens */

    rig_stop();
    rig_start(&(struct rig_config){.subsystem_reset = true});
    assert_true((rig_read64(NVME_REG_CAP) & NVME_CAP_NSSRS) != 0);
    rig_enable();
    rig_write32(NVME_REG_NSSR, 0x12345678);
    rig_turn(4);
    assert_int_equal(rig_csts(), NVME_CSTS_RDY);
    rig_write32(NVME_REG_NSSR, NVME_NSSR_MAGIC);
    rig_turn(8);
    assert_int_equal(rig_csts(), NVME_CSTS_NSSRO);
    assert_int_equal(rig_read32(NVME_REG_CC), 0);
    rig_write32(NVME_REG_CSTS, NVME_CSTS_NSSRO); /* 3.1.6: write 1 to clear */
    rig_turn(2);
    assert_int_equal(rig_csts(), 0);
}

/* --- another life -------------------------------------------------------------------------- */

static void start_into_a_served_host_reports_fatal(void **state)
{
    (void)state;
    rig_enable();
    /* The page says EN and RDY, but this firmware knows of no queue. */
    nvme_ep_control_start(rig.ep);
    assert_int_equal(rig_csts(), NVME_CSTS_RDY | NVME_CSTS_CFS);
    rig_turn(2);
    write_cc(0);
    assert_int_equal(rig_csts(), 0);
    rig_enable();
}

static void start_finds_an_enable_that_nobody_answered(void **state)
{
    (void)state;
    /* The page says EN, the event was eaten by an earlier life. */
    shm_store32(rig.regs + NVME_REG_AQA, 0x001f001f);
    shm_store64(rig.regs + NVME_REG_ASQ, rig_alloc(4096));
    shm_store64(rig.regs + NVME_REG_ACQ, rig_alloc(4096));
    shm_store32(rig.regs + NVME_REG_CC, RIG_CC);
    nvme_ep_control_start(rig.ep);
    rig_turn(6);
    assert_int_equal(rig_csts(), NVME_CSTS_RDY);
}

static void fatal_error_of_the_core_stops_everything(void **state)
{
    (void)state;
    struct rig_queue queue;
    rig_enable();
    rig_create_pair(&queue, 1, 16);
    rig.ep->config.ctrl.ops->fatal(rig.ctrl);
    rig_turn(8);
    assert_int_equal(rig_csts(), NVME_CSTS_RDY | NVME_CSTS_CFS);
    struct nvme_sqe sqe = rig_rw(NVME_IO_WRITE, 2, 0, 1, rig_alloc(4096), 0);
    rig_push(&queue, &sqe);
    rig_ring(&queue);
    rig_turn(4);
    assert_int_equal(rig.slow.held_count, 0);
    rig_disable();
    assert_int_equal(rig_csts(), 0);
    rig_enable();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, rig_teardown)
        T(registers_after_start_say_what_we_can),
        T(registers_read_only_ones_are_protected),
        T(init_bad_configuration_is_refused),
        T(enable_then_identify_answers),
        T(enable_before_serving_waits),
        T(enable_withdrawn_before_serving_stays_disabled),
        T(enable_while_held_waits),
        T(enable_twice_gives_fresh_queues),
        T(enable_keeps_admin_registers_over_disable),
        T(enable_toggled_in_one_go_is_acted_on_in_order),
        T(enable_with_unusable_settings_is_fatal),
        T(admin_queue_of_two_entries_works),
        T(admin_queue_of_4096_entries_works),
        T(shutdown_flushes_then_reports_complete),
        T(shutdown_waits_for_commands_under_way),
        T(shutdown_then_reset_and_enable_works),
        T(shutdown_while_disabled_flushes_too),
        T(shutdown_interrupted_by_reset_ends),
        T(reset_function_goes_back_to_power_on),
        T(reset_link_down_is_as_a_reset),
        T(reset_in_every_state_ends_disabled),
        T(reset_of_the_subsystem_is_offered_by_configuration),
        T(start_into_a_served_host_reports_fatal),
        T(start_finds_an_enable_that_nobody_answered),
        T(fatal_error_of_the_core_stops_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
