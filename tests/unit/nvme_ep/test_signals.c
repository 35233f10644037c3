/*
 * What host and controller signal to each other: doorbells and what is wrong about them, interrupts
 * and their coalescing, going to sleep and being woken. Sections 5.2, 7.5.
 */
#include "tests/unit/nvme_ep/rig_test.h"

/* --- doorbells ----------------------------------------------------------------------------- */

static uint32_t wait_for_event(void)
{
    struct nvme_cqe cqe;

    rig_turn(3);
    if (!rig_pop(&rig_admin_queue, &cqe)) {
        return 0xffffffff;
    }
    rig_ring_head(&rig_admin_queue);
    return cqe.dw0;
}

static void ask_for_event(void)
{
    struct nvme_sqe event = {.opcode = NVME_ADMIN_ASYNC_EVENT};

    rig_push(&rig_admin_queue, &event);
    rig_ring(&rig_admin_queue);
    rig_turn(1);
}

#define EVENT_DOORBELL(info) (NVME_EVENT_ERROR | (info) << 8 | NVME_LOG_ERROR << 16)

static void doorbell_tail_out_of_range_is_an_event_and_fetches_nothing(void **state)
{
    (void)state;
    struct rig_queue queue;
    struct nvme_cqe cqe;

    rig_create_pair(&queue, 1, 16);
    ask_for_event();
    *rig_sq_doorbell(1) = 16;
    assert_int_equal(wait_for_event(), EVENT_DOORBELL(NVME_EVENT_ERROR_INVALID_DOORBELL_VALUE));
    rig_turn(5);
    assert_int_equal(nvme_ep_stats(rig.ep, 0).doorbell_error_count, 1); /* once */
    assert_int_equal(nvme_ep_queue_info(rig.ep, 1).sqe_count, 0);

    *rig_sq_doorbell(1) = 0x10001;
    rig_turn(2);
    assert_int_equal(nvme_ep_stats(rig.ep, 0).doorbell_error_count, 2);

    struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 1, 0, 1, rig_alloc(4096), 0);
    assert_int_equal(rig_do(&queue, &sqe, &cqe), 0); /* a valid value heals it */
}

static void doorbell_rung_before_the_queue_existed_means_nothing(void **state)
{
    (void)state;
    struct rig_queue queue;
    struct nvme_cqe cqe;

    *rig_sq_doorbell(1) = 3;
    *rig_cq_doorbell(1) = 3;
    rig_create_pair(&queue, 1, 16);
    rig_turn(3);
    assert_int_equal(nvme_ep_queue_info(rig.ep, 1).sqe_count, 0);
    struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 1, 0, 1, rig_alloc(4096), 0);
    assert_int_equal(rig_do(&queue, &sqe, &cqe), 0);
}

static void doorbell_of_no_queue_is_an_event(void **state)
{
    (void)state;
    ask_for_event();
    *rig_sq_doorbell(5) = 3;
    rig_advance_ms(260);
    assert_int_equal(wait_for_event(), EVENT_DOORBELL(NVME_EVENT_ERROR_INVALID_DOORBELL));
    assert_int_equal(*rig_sq_doorbell(5), 0);
    *rig_cq_doorbell(6) = 1;
    rig_advance_ms(260);
    assert_int_equal(nvme_ep_stats(rig.ep, 0).doorbell_error_count, 2);
}

static void doorbell_cq_head_ahead_of_tail_is_an_event(void **state)
{
    (void)state;
    struct rig_queue queue;
    uint64_t buffer = rig_alloc(4096);

    rig_create_pair(&queue, 1, 4);
    ask_for_event();
    *rig_cq_doorbell(1) = 3; /* nothing was posted */
    for (uint32_t i = 0; i < 3; i++) {
        struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 1, i, 1, buffer, 0);
        rig_push(&queue, &sqe);
    }
    *rig_cq_doorbell(1) = 99;
    rig_ring(&queue);
    rig_turn(2);
    struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 1, 0, 1, buffer, 0);
    rig_push(&queue, &sqe); /* the fourth needs the head */
    rig_ring(&queue);
    assert_int_equal(wait_for_event(), EVENT_DOORBELL(NVME_EVENT_ERROR_INVALID_DOORBELL_VALUE));
    assert_int_equal(rig_pop_all(&queue), 3);
    rig_ring_head(&queue);
    rig_turn(2);
    assert_int_equal(rig_pop_all(&queue), 1);
}

/* --- coalescing ---------------------------------------------------------------------------- */

static void one_read(struct rig_queue *queue, uint64_t buffer)
{
    struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 1, 0, 1, buffer, 0);

    rig_push(queue, &sqe);
    rig_ring(queue);
    rig_turn(1);
    rig_pop_all(queue);
    rig_ring_head(queue);
}

static void coalescing_waits_for_threshold_or_time(void **state)
{
    (void)state;
    struct rig_queue queue;
    uint64_t buffer = rig_alloc(4096);

    rig_create_pair(&queue, 1, 64);
    /* 4 entries or 5 ms */
    assert_int_equal(rig_set_feature(NVME_FEATURE_INTERRUPT_COALESCING, 50u << 8 | 3), 0);
    rig_turn(2);
    for (uint32_t i = 0; i < 3; i++) {
        one_read(&queue, buffer);
        assert_int_equal(rig.irq_count[1], 0);
    }
    one_read(&queue, buffer);
    assert_int_equal(rig.irq_count[1], 1);
    one_read(&queue, buffer);
    rig_advance_ms(3);
    assert_int_equal(rig.irq_count[1], 1);
    rig_advance_ms(3);
    assert_int_equal(rig.irq_count[1], 2);
    rig_advance_ms(20);
    assert_int_equal(rig.irq_count[1], 2);
    uint32_t admin = rig.irq_count[0];
    struct nvme_sqe sqe = rig_identify(buffer);
    assert_int_equal(rig_admin(&sqe, NULL), 0);
    assert_int_equal(rig.irq_count[0], admin + 1); /* never the admin queue's */
}

static void coalescing_disabled_for_a_vector_signals_at_once(void **state)
{
    (void)state;
    struct rig_queue queue;
    uint64_t buffer = rig_alloc(4096);

    assert_int_equal(rig_set_feature(NVME_FEATURE_INTERRUPT_COALESCING, 50u << 8 | 3), 0);
    rig_create_pair(&queue, 1, 64);
    one_read(&queue, buffer);
    assert_int_equal(rig.irq_count[1], 0);
    assert_int_equal(
        rig_set_feature(NVME_FEATURE_INTERRUPT_VECTOR, 1 | NVME_VECTOR_COALESCING_DISABLE), 0);
    rig_turn(2);
    assert_int_equal(rig.irq_count[1], 1); /* what waited is signalled */
    one_read(&queue, buffer);
    assert_int_equal(rig.irq_count[1], 2);
}

static void vectors_event_raises_what_is_not_acknowledged(void **state)
{
    (void)state;
    struct rig_queue queue;
    struct rig_queue quiet;
    uint64_t buffer = rig_alloc(4096);

    rig_create_pair(&queue, 1, 16);
    rig_create_pair(&quiet, 2, 16);
    struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 1, 0, 1, buffer, 0);
    rig_push(&queue, &sqe);
    rig_ring(&queue);
    rig_turn(1);
    assert_int_equal(rig.irq_count[1], 1);
    uint32_t acks = rig.ack_count;
    rig_event(PCIE_EP_EVENT_VECTORS, 0, false);
    rig_turn(3);
    assert_int_equal(rig.ack_count, acks + 1);
    assert_int_equal(rig.irq_count[1], 2);
    assert_int_equal(rig.irq_count[2], 0);
    rig_pop_all(&queue);
    rig_ring_head(&queue);
    rig_event(PCIE_EP_EVENT_VECTORS, 0, false);
    rig_turn(3);
    assert_int_equal(rig.irq_count[1], 2);
}

/* --- sleeping ------------------------------------------------------------------------------ */

static void arm_finds_work_that_came_meanwhile(void **state)
{
    (void)state;
    struct rig_queue queue;
    struct nvme_ep_core *core = &rig.ep->cores[0];

    rig_create_pair(&queue, 1, 16);
    rig_turn(2);
    uint64_t first_ns = nvme_ep_arm(core, true);
    nvme_ep_arm(core, false);
    assert_true(first_ns > 0 && first_ns <= NS_PER_MS);
    uint64_t last_ns = first_ns;
    for (uint32_t i = 0; i < 20; i++) { /* mapped doorbells: it backs off up to 1 ms */
        last_ns = nvme_ep_arm(core, true);
        nvme_ep_arm(core, false);
    }
    assert_int_equal(last_ns, NS_PER_MS);
    struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 1, 0, 1, rig_alloc(4096), 0);
    rig_push(&queue, &sqe);
    rig_ring(&queue);
    assert_int_equal(nvme_ep_arm(core, true), 0);
    nvme_ep_arm(core, false);
    rig_turn(2);
    rig_write32(NVME_REG_INTMS, 0);
    assert_int_equal(nvme_ep_arm(core, true), 0); /* an event */
    nvme_ep_arm(core, false);
    assert_int_equal(rig.armed_count, 0);
}

static void arm_trapped_sleeps_until_it_is_woken(void **state)
{
    (void)state;
    rig_stop();
    rig_start(&(struct rig_config){.trapped = true});
    rig_enable();
    rig_turn(2);
    assert_true(nvme_ep_arm(&rig.ep->cores[0], true) == UINT64_MAX);
    assert_int_equal(rig.armed_count, 1);
    nvme_ep_arm(&rig.ep->cores[0], false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
        T(doorbell_tail_out_of_range_is_an_event_and_fetches_nothing),
        T(doorbell_rung_before_the_queue_existed_means_nothing),
        T(doorbell_of_no_queue_is_an_event),
        T(doorbell_cq_head_ahead_of_tail_is_an_event),
        T(coalescing_waits_for_threshold_or_time),
        T(coalescing_disabled_for_a_vector_signals_at_once),
        T(vectors_event_raises_what_is_not_acknowledged),
        T(arm_finds_work_that_came_meanwhile),
        T(arm_trapped_sleeps_until_it_is_woken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
