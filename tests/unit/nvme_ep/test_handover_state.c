/*
 * What the next image finds: settings of arbitration and interrupts, a function without bus
 * mastering, and what reports say.
 */
#include "nvme/nvme_priv.h"
#include "tests/unit/nvme_ep/images.h"
#include "tests/unit/nvme_ep/rig_test.h"

static struct rig_queue io;

static int setup(void **state)
{
    (void)state;
    rig_start_pair(NULL, &io, 16);
    return 0;
}

static void do_flush(struct rig_queue *queue)
{
    struct nvme_sqe sqe = {.opcode = NVME_IO_FLUSH, .nsid = 1};
    struct nvme_cqe cqe;

    assert_int_equal(rig_do(queue, &sqe, &cqe), 0);
}

/* --- arbitration ----------------------------------------------------------------------------- */

static struct rig_queue prioritized(uint16_t id, uint32_t priority)
{
    uint64_t cq = rig_alloc(4096);
    uint64_t sq = rig_alloc(4096);

    assert_int_equal(
        rig_create_cq(id, 16, cq, NVME_CREATE_CQ_PC | NVME_CREATE_CQ_IEN | (uint32_t)id << 16), 0);
    assert_int_equal(rig_create_sq(id, 16, sq,
                                   NVME_CREATE_SQ_PC | priority << NVME_CREATE_SQ_PRIO_SHIFT |
                                       (uint32_t)id << 16),
                     0);
    return (struct rig_queue){
        .id = id, .sq_size = 16, .cq_size = 16, .sq_addr = sq, .cq_addr = cq, .phase = 1};
}

/* The slow device keeps requests in the order in which they were fetched. */
static void expect_fetched(const uint32_t *slbas, uint32_t count)
{
    struct list *node = rig.slow.held.next;

    assert_int_equal(rig.slow.held_count, count);
    for (uint32_t i = 0; i < count; i++) {
        const struct blk_req *req = LIST_ENTRY(node, struct blk_req, link);
        assert_int_equal(nvme_rw_slba(&req->cmd), slbas[i]);
        node = node->next;
    }
}

static void weighted_round_robin_goes_on(void **state)
{
    static const uint32_t order[] = {400, 401, 300, 301, 200, 100, 101, 102};
    (void)state;
    struct rig_queue queues[4];

    rig_stop();
    rig_start(&(struct rig_config){.weighted_round_robin = true});
    rig_enable_sized(32, 32, RIG_CC | NVME_CC_AMS_WRR << NVME_CC_AMS_SHIFT);
    /* Weights 1, 2, 8 of low, medium, high; burst 1. */
    assert_int_equal(rig_set_feature(NVME_FEATURE_ARBITRATION, 7u << 24 | 1u << 16 | 0u << 8), 0);
    for (uint16_t i = 0; i < 4; i++) {
        queues[i] = prioritized((uint16_t)(i + 1), 3u - i); /* 4 is urgent */
    }
    images_next();
    assert_int_equal(nvme_ep_queue_info(rig.ep, 1).priority, 3);
    assert_int_equal(nvme_ep_queue_info(rig.ep, 4).priority, 0);
    static const uint32_t counts[] = {3, 1, 2, 2};
    for (uint32_t i = 0; i < 4; i++) {
        for (uint32_t n = 0; n < counts[i]; n++) {
            struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 2, 100 * (i + 1) + n, 1, rig_alloc(4096), 0);
            rig_push(&queues[i], &sqe);
        }
        rig_ring(&queues[i]);
    }
    rig_turn(6);
    expect_fetched(order, ARRAY_SIZE(order));
    rig_slow_release_all(&rig.slow);
    rig_turn(4);
    for (uint32_t i = 0; i < 4; i++) {
        struct nvme_cqe cqe;
        while (rig_pop(&queues[i], &cqe)) {
            rig_ring_head(&queues[i]);
        }
    }
}

/* --- without bus mastering -------------------------------------------------------------------- */

static void bus_mastering_that_is_off_stays_off(void **state)
{
    (void)state;
    struct nvme_sqe flush = {.opcode = NVME_IO_FLUSH, .nsid = 1};
    struct nvme_cqe cqe;

    do_flush(&io);
    rig_bus_master_set(false);
    rig_turn(4);
    images_next();
    uint32_t irqs = rig.irq_count[1];
    rig_push(&io, &flush);
    rig_ring(&io);
    rig_turn(4);
    assert_false(rig_pop(&io, &cqe));
    assert_int_equal(rig.irq_count[1], irqs);
    rig_bus_master_set(true);
    rig_turn(6);
    assert_true(rig_pop(&io, &cqe));
    rig_ring_head(&io);
    assert_true(rig.irq_count[1] > irqs);
}

static void bus_mastering_that_goes_between_images_is_answered_by_the_next(void **state)
{
    (void)state;
    do_flush(&io);
    images_hand_over();
    rig_turn(6);
    assert_int_equal(images.done_count, 1);
    uint32_t acks = rig.ack_count;
    rig_bus_master_set(false);
    rig_turn(4);
    assert_int_equal(rig.ack_count, acks);
    images_take_over();
    assert_int_equal(rig.ack_count, acks + 1);
    images_serve();
    rig_bus_master_set(true);
    rig_turn(6);
    do_flush(&io);
}

/* --- doorbells ------------------------------------------------------------------------------- */

/* One queue is older than the buffers and watched at both places, the other one is shadowed. */
static void doorbells_rung_between_images_are_seen(void **state)
{
    (void)state;
    struct nvme_sqe flush = {.opcode = NVME_IO_FLUSH, .nsid = 1};
    struct rig_queue later;
    struct nvme_cqe cqe;

    rig_stop();
    rig_start_pair(&(struct rig_config){.doorbell_buffers = true}, &io, 16);
    uint64_t shadow = rig_alloc(4096);
    uint64_t event_idx = rig_alloc(4096);
    assert_int_equal(rig_doorbell_buffers(shadow, event_idx), 0);
    rig_create_pair(&later, 2, 16);
    rig_shadow(&later, shadow, event_idx);
    for (uint32_t i = 0; i < 20; i++) {
        images_hand_over();
        rig_turn(6);
        assert_int_equal(images.done_count, 1);
        if (i == 10) {
            rig_shadow(&io, shadow, event_idx); /* turns to the shadow while nobody looks */
        }
        rig_push(&io, &flush);
        rig_ring(&io);
        rig_push(&later, &flush);
        rig_ring(&later);
        images_take_over();
        images_serve();
        assert_true(rig_pop(&io, &cqe));
        rig_ring_head(&io);
        assert_true(rig_pop(&later, &cqe));
        rig_ring_head(&later);
    }
}

/* --- interrupts ------------------------------------------------------------------------------ */

/* Masked at the function: what is raised is lost there. When the mask goes, the image that serves
 * then raises again what the host has not taken. */
static void interrupt_that_was_masked_is_raised_when_the_mask_goes(void **state)
{
    (void)state;
    struct nvme_sqe flush = {.opcode = NVME_IO_FLUSH, .nsid = 1};
    struct nvme_cqe cqe;

    rig_push(&io, &flush);
    rig_ring(&io);
    rig_turn(2); /* raised, to nobody */
    images_hand_over();
    rig_turn(6);
    rig_event(PCIE_EP_EVENT_VECTORS, 0, false); /* the host has unmasked it */
    images_take_over();
    images_serve();
    uint32_t irqs = rig.irq_count[1];
    assert_true(irqs >= 2);
    assert_true(rig_pop(&io, &cqe));
    rig_ring_head(&io);
    rig_event(PCIE_EP_EVENT_VECTORS, 0, false);
    rig_turn(4);
    assert_int_equal(rig.irq_count[1], irqs); /* all is taken: nothing to tell */
}

/* Entries that wait for the aggregation threshold are counted again: one interrupt more, none less.
 */
static void interrupt_that_was_held_back_is_raised(void **state)
{
    (void)state;
    struct nvme_sqe flush = {.opcode = NVME_IO_FLUSH, .nsid = 1};
    struct nvme_cqe cqe;

    assert_int_equal(rig_set_feature(NVME_FEATURE_INTERRUPT_COALESCING, 0xff07), 0);
    rig_push(&io, &flush);
    rig_ring(&io);
    rig_turn(2);
    assert_int_equal(rig.irq_count[1], 0);
    images_next();
    assert_int_equal(rig.irq_count[1], 1);
    assert_true(rig_pop(&io, &cqe));
    rig_ring_head(&io);
}

/* --- reports --------------------------------------------------------------------------------- */

static void reports_tell_phase_and_tail_in_every_round(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 40; i++) {
        struct nvme_ep_queue_info before = nvme_ep_queue_info(rig.ep, 1);
        assert_int_equal(before.cq_tail, i % 16);
        assert_int_equal(before.phase, i / 16 % 2 == 0);
        if (i % 5 == 0) {
            images_next();
            struct nvme_ep_queue_info after = nvme_ep_queue_info(rig.ep, 1);
            assert_int_equal(after.cq_tail, before.cq_tail);
            assert_int_equal(after.sq_head, before.sq_head);
            assert_int_equal(after.phase, before.phase);
        }
        do_flush(&io);
    }
}

static void reports_tell_the_age_of_event_requests_since_the_handover(void **state)
{
    (void)state;
    struct nvme_sqe aer = {.opcode = NVME_ADMIN_ASYNC_EVENT};
    uint64_t oldest_ns;

    for (uint32_t i = 0; i < LIMIT_AERS; i++) {
        rig_push(&rig_admin_queue, &aer);
    }
    rig_ring(&rig_admin_queue);
    rig_turn(2);
    uint64_t before_ns = clock_now_ns();
    rig_advance_ms(1000);
    images_next();
    assert_int_equal(nvme_ep_queue_commands(rig.ep, 0, &oldest_ns), LIMIT_AERS);
    assert_true(oldest_ns > before_ns && oldest_ns <= clock_now_ns());
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(weighted_round_robin_goes_on),
        TEST(bus_mastering_that_is_off_stays_off),
        TEST(bus_mastering_that_goes_between_images_is_answered_by_the_next),
        TEST(doorbells_rung_between_images_are_seen),
        TEST(interrupt_that_was_masked_is_raised_when_the_mask_goes),
        TEST(interrupt_that_was_held_back_is_raised),
        TEST(reports_tell_phase_and_tail_in_every_round),
        TEST(reports_tell_the_age_of_event_requests_since_the_handover),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
