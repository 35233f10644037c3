/* Doorbell buffers (5.7, 7.13), with drivers that shadow the admin queue and with those that do
 * not. */
#include "tests/unit/nvme_ep/rig_test.h"

static uint64_t shadow;
static uint64_t event_idx;

static void start(bool trapped, uint8_t dstrd)
{
    rig_start(&(struct rig_config){
        .doorbell_buffers = true, .trapped = trapped, .dstrd = dstrd, .io_queue_count = 8});
    rig_enable();
    shadow = rig_alloc(4096);
    event_idx = rig_alloc(4096);
}

static int setup(void **state)
{
    (void)state;
    start(false, 0);
    return 0;
}

static void some_io(struct rig_queue *queue, uint32_t count)
{
    uint64_t buffer = rig_alloc(4096);
    struct nvme_cqe cqe;

    for (uint32_t i = 0; i < count; i++) {
        struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 1, i, 1, buffer, 0);
        assert_int_equal(rig_do(queue, &sqe, &cqe), 0);
    }
}

static void some_admin(uint32_t count)
{
    struct nvme_sqe sqe = rig_identify(rig_alloc(4096));

    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(rig_admin(&sqe, NULL), 0);
    }
}

/* 5.7.1: invalid addresses are Invalid Field in Command. */
static void dbbuf_bad_buffers_are_refused(void **state)
{
    (void)state;
    assert_int_equal(NVME_STATUS_CODE(rig_doorbell_buffers(shadow + 8, event_idx)),
                     NVME_SC_INVALID_FIELD);
    assert_int_equal(NVME_STATUS_CODE(rig_doorbell_buffers(shadow, event_idx + 64)),
                     NVME_SC_INVALID_FIELD);
    assert_int_equal(NVME_STATUS_CODE(rig_doorbell_buffers(0, event_idx)), NVME_SC_INVALID_FIELD);
    assert_int_equal(NVME_STATUS_CODE(rig_doorbell_buffers(shadow, RIG_HOST_BASE + RIG_RAM_BYTES)),
                     NVME_SC_INVALID_FIELD);
    some_admin(40); /* and MMIO goes on */
}

static void dbbuf_driver_that_leaves_the_admin_queue_in_mmio(void **state)
{
    (void)state;
    struct rig_queue queue;

    some_admin(5);
    assert_int_equal(rig_doorbell_buffers(shadow, event_idx), 0);
    some_admin(70); /* twice round */
    rig_create_pair(&queue, 1, 8);
    rig_shadow(&queue, shadow, event_idx);
    some_io(&queue, 30);
    some_admin(5);
    /* MMIO was rung for the first command alone: EventIdx stood at 0. */
    assert_true(*rig_sq_doorbell(1) <= 1);
}

static void dbbuf_driver_that_shadows_the_admin_queue(void **state)
{
    (void)state;
    struct rig_queue queue;

    some_admin(5);
    assert_int_equal(rig_doorbell_buffers(shadow, event_idx), 0);
    rig_shadow(&rig_admin_queue, shadow, event_idx);
    some_admin(70);
    rig_create_pair(&queue, 1, 8);
    rig_shadow(&queue, shadow, event_idx);
    some_io(&queue, 30);
    some_admin(5);
}

static void dbbuf_late_mmio_of_a_shadowing_driver_changes_nothing(void **state)
{
    (void)state;
    some_admin(3);
    uint32_t mmio = *rig_sq_doorbell(0);
    assert_int_equal(rig_doorbell_buffers(shadow, event_idx), 0);
    rig_shadow(&rig_admin_queue, shadow, event_idx);
    some_admin(4);
    *rig_sq_doorbell(0) = mmio + 2; /* a doorbell that was on its way */
    rig_turn(3);
    assert_int_equal(nvme_ep_queue_info(rig.ep, 0).sqe_count, 8);
    some_admin(4);
}

static void dbbuf_queue_that_existed_before_may_be_rung_either_way(void **state)
{
    (void)state;
    struct rig_queue first;
    struct rig_queue second;

    rig_create_pair(&first, 1, 8);
    rig_create_pair(&second, 2, 8);
    some_io(&first, 5);
    some_io(&second, 3);
    assert_int_equal(rig_doorbell_buffers(shadow, event_idx), 0);
    some_io(&first, 20);
    rig_shadow(&second, shadow, event_idx);
    some_io(&second, 20);
    rig_shadow(&first, shadow, event_idx);
    *first.shadow = first.sq_tail; /* as a driver would start: where it stands */
    some_io(&first, 20);
}

static void dbbuf_queue_created_anew_starts_at_zero(void **state)
{
    (void)state;
    struct rig_queue queue;

    assert_int_equal(rig_doorbell_buffers(shadow, event_idx), 0);
    for (uint32_t i = 0; i < 4; i++) {
        rig_create_pair(&queue, 1, 8);
        rig_shadow(&queue, shadow, event_idx);
        some_io(&queue, 5); /* leaves stale values in the buffers */
        assert_int_equal(rig_delete_sq(1), 0);
        assert_int_equal(rig_delete_cq(1), 0);
    }
}

static void dbbuf_cq_full_looks_at_the_shadow_head(void **state)
{
    (void)state;
    struct rig_queue queue;
    struct nvme_cqe cqe;
    uint64_t buffer = rig_alloc(4096);
    uint32_t got = 0;

    assert_int_equal(rig_doorbell_buffers(shadow, event_idx), 0);
    rig_create_pair(&queue, 1, 4);
    rig_shadow(&queue, shadow, event_idx);
    for (uint32_t i = 0; i < 40; i++) {
        struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 1, i, 1, buffer, 0);
        rig_push(&queue, &sqe);
        rig_ring(&queue);
        rig_turn(1);
        if (i % 3 == 2) {
            while (rig_pop(&queue, &cqe)) {
                got++;
            }
            rig_ring_head(&queue);
            rig_turn(1);
        }
    }
    while (rig_pop(&queue, &cqe)) {
        got++;
    }
    assert_int_equal(got, 40);
}

static void dbbuf_before_sleep_event_idx_asks_for_the_next_doorbell(void **state)
{
    (void)state;
    struct rig_queue queue;

    rig_stop();
    start(true, 0);
    assert_int_equal(rig_doorbell_buffers(shadow, event_idx), 0);
    rig_create_pair(&queue, 1, 16);
    rig_shadow(&queue, shadow, event_idx);
    some_io(&queue, 5);
    uint32_t mmio = *rig_sq_doorbell(1);
    assert_true(nvme_ep_arm(&rig.ep->cores[0], true) == UINT64_MAX);
    assert_int_equal(*queue.event_idx, 5);
    struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 1, 0, 1, rig_alloc(4096), 0);
    rig_push(&queue, &sqe);
    rig_ring(&queue);
    assert_int_not_equal(*rig_sq_doorbell(1), mmio); /* it woke us */
    nvme_ep_arm(&rig.ep->cores[0], false);
    /* Work that came between EventIdx and the second look is found. */
    assert_int_equal(nvme_ep_arm(&rig.ep->cores[0], true), 0);
    nvme_ep_arm(&rig.ep->cores[0], false);
}

static void dbbuf_reset_ends_it(void **state)
{
    (void)state;
    struct rig_queue queue;

    assert_int_equal(rig_doorbell_buffers(shadow, event_idx), 0);
    rig_disable();
    rig_enable();
    rig_create_pair(&queue, 1, 8);
    some_io(&queue, 20); /* MMIO alone */
}

static void dbbuf_stays_over_a_change_of_windows(void **state)
{
    (void)state;
    struct rig_queue queue;
    struct pcie_ep_window window = rig.windows[0];

    assert_int_equal(rig_doorbell_buffers(shadow, event_idx), 0);
    rig_create_pair(&queue, 1, 8);
    rig_shadow(&queue, shadow, event_idx);
    some_io(&queue, 5);
    window.len_bytes -= 4096;
    rig_windows_set(&window, 1, true);
    rig_turn(4);
    some_io(&queue, 20);
    some_admin(5);
}

static void dbbuf_is_not_offered_when_it_does_not_fit(void **state)
{
    (void)state;
    rig_stop();
    rig_start(&(struct rig_config){.doorbell_buffers = true, .dstrd = 4, .io_queue_count = 32});
    assert_false(rig.ep->config.ctrl.doorbell_buffers);
    rig_enable();
    shadow = rig_alloc(4096);
    assert_int_equal(NVME_STATUS_CODE(rig_doorbell_buffers(shadow, shadow)),
                     NVME_SC_INVALID_OPCODE);
}

static void dbbuf_with_a_wide_stride(void **state)
{
    (void)state;
    struct rig_queue queue;

    rig_stop();
    start(false, 4);
    assert_int_equal(rig_doorbell_buffers(shadow, event_idx), 0);
    rig_create_pair(&queue, 8, 8);
    rig_shadow(&queue, shadow, event_idx);
    some_io(&queue, 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, rig_teardown)
        T(dbbuf_bad_buffers_are_refused),
        T(dbbuf_driver_that_leaves_the_admin_queue_in_mmio),
        T(dbbuf_driver_that_shadows_the_admin_queue),
        T(dbbuf_late_mmio_of_a_shadowing_driver_changes_nothing),
        T(dbbuf_queue_that_existed_before_may_be_rung_either_way),
        T(dbbuf_queue_created_anew_starts_at_zero),
        T(dbbuf_cq_full_looks_at_the_shadow_head),
        T(dbbuf_before_sleep_event_idx_asks_for_the_next_doorbell),
        T(dbbuf_reset_ends_it),
        T(dbbuf_stays_over_a_change_of_windows),
        T(dbbuf_is_not_offered_when_it_does_not_fit),
        T(dbbuf_with_a_wide_stride),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
