/*
 * Another image goes on serving the same host (spec/handover.h). The host does nothing meanwhile
 * but what hosts do: it rings, takes completions, and waits.
 */
#include <stdlib.h>
#include "hal/native/native.h"
#include "nvme/nvme_priv.h"
#include "tests/unit/nvme_ep/images.h"
#include "tests/unit/nvme_ep/rig_test.h"

static struct rig_queue io;

static int setup(void **state)
{
    (void)state;
    rig_start_pair(&(struct rig_config){.core_count = 2}, &io, 16);
    return 0;
}

/* --- going on ------------------------------------------------------------------------------ */

static void host_goes_on_in_the_middle_of_its_queues(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 37; i++) { /* heads, tails and phases are somewhere */
        rig_read_block(&io, i);
    }
    for (uint32_t round = 0; round < 5; round++) {
        images_next();
        assert_int_equal(rig_csts(), NVME_CSTS_RDY);
        for (uint32_t i = 0; i < 23; i++) {
            rig_read_block(&io, i + round);
        }
        assert_int_equal(rig_admin(&(struct nvme_sqe){.opcode = NVME_ADMIN_GET_FEATURES,
                                                      .cdw10 = NVME_FEATURE_QUEUES},
                                   NULL),
                         0);
    }
}

static void commands_under_way_end_first_and_none_is_cancelled(void **state)
{
    (void)state;
    uint64_t data = rig_alloc(4096);
    struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 2, 0, 1, data, 0);
    struct nvme_cqe cqe;

    rig_push(&io, &sqe);
    rig_ring(&io);
    rig_turn(2);
    assert_int_equal(rig.slow.held_count, 1);
    images_hand_over();
    rig_advance_ms(3000); /* longer than any fence waits elsewhere */
    assert_int_equal(images.done_count, 0);
    assert_int_equal(rig.slow.cancel_count, 0);
    rig_slow_release_all(&rig.slow);
    rig_turn(4);
    assert_int_equal(images.done_count, 1);
    assert_true(rig_pop(&io, &cqe)); /* the image before has posted it */
    assert_int_equal(rig_status(&cqe), 0);
    assert_int_equal(rig.irq_count[1], 1);
    rig_ring_head(&io);
    images_take_over();
    images_serve();
    rig_read_block(&io, 1);
}

/* Completions that wait for room are the old image's: it waits until the host has taken some. */
static void completions_that_wait_for_room_are_posted_first(void **state)
{
    (void)state;
    struct rig_queue small;
    struct nvme_cqe cqe;
    uint32_t count = 0;
    uint64_t cq = rig_alloc(4096);
    uint64_t sq = rig_alloc(4096);

    assert_int_equal(rig_create_cq(2, 3, cq, NVME_CREATE_CQ_PC | NVME_CREATE_CQ_IEN | 2u << 16), 0);
    assert_int_equal(rig_create_sq(2, 8, sq, NVME_CREATE_SQ_PC | 2u << 16), 0);
    small = (struct rig_queue){
        .id = 2, .sq_size = 8, .cq_size = 3, .sq_addr = sq, .cq_addr = cq, .phase = 1};
    struct nvme_sqe flush = {.opcode = NVME_IO_FLUSH, .nsid = 1};
    for (uint32_t i = 0; i < 4; i++) {
        rig_push(&small, &flush);
    }
    rig_ring(&small);
    rig_turn(2);
    images_hand_over();
    rig_advance_ms(100);
    assert_int_equal(images.done_count, 0);
    while (rig_pop(&small, &cqe)) {
        rig_ring_head(&small);
        rig_turn(4);
        count++;
    }
    assert_int_equal(count, 4);
    assert_int_equal(images.done_count, 1);
    images_take_over();
    images_serve();
    assert_int_equal(rig_do(&small, &flush, &cqe), 0);
}

static void what_the_host_does_between_images_waits(void **state)
{
    (void)state;
    uint64_t data = rig_alloc(4096);
    struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 1, 7, 1, data, 0);
    struct nvme_cqe cqe;

    images_hand_over();
    rig_turn(6);
    assert_int_equal(images.done_count, 1);
    rig_push(&io, &sqe);
    rig_ring(&io);
    rig_advance_ms(10);
    assert_false(rig_pop(&io, &cqe));
    images_take_over();
    rig_advance_ms(10);
    assert_false(rig_pop(&io, &cqe)); /* not before its namespaces are there */
    images_serve();
    assert_true(rig_pop(&io, &cqe));
    assert_int_equal(rig_status(&cqe), 0);
    assert_memory_equal(rig_ptr(data), rig.disk_memory + 7 * 512, 512);
    rig_ring_head(&io);
}

static void interrupt_that_may_be_lost_is_raised_again(void **state)
{
    (void)state;
    struct nvme_sqe flush = {.opcode = NVME_IO_FLUSH, .nsid = 1};
    struct nvme_cqe cqe;

    rig_push(&io, &flush);
    rig_ring(&io);
    rig_turn(2);
    assert_int_equal(rig.irq_count[1], 1);
    images_next();
    assert_int_equal(rig.irq_count[1], 2); /* the host has not taken it yet */
    assert_true(rig_pop(&io, &cqe));
    rig_ring_head(&io);
}

/* --- what the host has set ------------------------------------------------------------------- */

static void features_are_as_the_host_set_them(void **state)
{
    (void)state;
    uint32_t value;

    rig.slow.is_open = true; /* switching the cache off flushes */
    assert_int_equal(rig_set_feature(NVME_FEATURE_INTERRUPT_COALESCING, 0x0503), 0);
    assert_int_equal(rig_set_feature(NVME_FEATURE_INTERRUPT_VECTOR, 1u << 16 | 3), 0);
    assert_int_equal(rig_set_feature(NVME_FEATURE_VOLATILE_WRITE_CACHE, 0), 0);
    images_next();
    struct nvme_sqe get = {.opcode = NVME_ADMIN_GET_FEATURES,
                           .cdw10 = NVME_FEATURE_INTERRUPT_COALESCING};
    assert_int_equal(rig_admin(&get, &value), 0);
    assert_int_equal(value, 0x0503);
    get.cdw10 = NVME_FEATURE_INTERRUPT_VECTOR;
    get.cdw11 = 3;
    assert_int_equal(rig_admin(&get, &value), 0);
    assert_int_equal(value, 1u << 16 | 3);
    assert_true(atomic_load(&rig.ctrl->write_through));
    assert_int_equal(nvme_ep_setting_get(&rig.ep->coalescing), 0x0503);
}

static void event_request_is_answered_by_the_next_image(void **state)
{
    (void)state;
    struct nvme_sqe aer = {.opcode = NVME_ADMIN_ASYNC_EVENT};
    struct nvme_cqe cqe;

    uint16_t first = rig_push(&rig_admin_queue, &aer);
    uint16_t second = rig_push(&rig_admin_queue, &aer);
    rig_ring(&rig_admin_queue);
    rig_turn(2);
    images_next();
    assert_int_equal(rig.ctrl->aer_count, 2);
    assert_false(rig_pop(&rig_admin_queue, &cqe)); /* namespaces are no news */
    nvme_ctrl_event(rig.ctrl, NVME_EVENT_ERROR, NVME_EVENT_ERROR_INVALID_DOORBELL, NVME_LOG_ERROR);
    rig_turn(2);
    assert_true(rig_pop(&rig_admin_queue, &cqe));
    assert_true(rig_cid(&cqe) == first || rig_cid(&cqe) == second);
    rig_ring_head(&rig_admin_queue);
}

static void event_that_waits_is_told_by_the_next_image(void **state)
{
    (void)state;
    struct nvme_sqe aer = {.opcode = NVME_ADMIN_ASYNC_EVENT};
    struct nvme_cqe cqe;

    nvme_ctrl_event(rig.ctrl, NVME_EVENT_ERROR, NVME_EVENT_ERROR_INVALID_DOORBELL, NVME_LOG_ERROR);
    images_next();
    assert_int_equal(rig_do(&rig_admin_queue, &aer, &cqe), 0);
    assert_int_equal(cqe.dw0 & 0xff07, NVME_EVENT_ERROR_INVALID_DOORBELL << 8 | NVME_EVENT_ERROR);
}

static void doorbell_buffers_go_on(void **state)
{
    (void)state;
    rig_stop();
    rig_start_pair(&(struct rig_config){.doorbell_buffers = true}, &io, 16);
    uint64_t shadow = rig_alloc(4096);
    uint64_t event_idx = rig_alloc(4096);
    struct rig_queue later;

    assert_int_equal(rig_doorbell_buffers(shadow, event_idx), 0);
    rig_create_pair(&later, 2, 16);
    rig_shadow(&later, shadow, event_idx);
    for (uint32_t i = 0; i < 21; i++) {
        rig_read_block(&io, i); /* rings MMIO as before */
        rig_read_block(&later, i);
    }
    images_next();
    for (uint32_t i = 0; i < 21; i++) {
        rig_read_block(&io, i);
        rig_read_block(&later, i);
    }
    rig_shadow(&io, shadow, event_idx); /* the driver turns to the shadow only now */
    rig_read_block(&io, 3);
    images_next();
    rig_read_block(&io, 4);
    struct nvme_sqe get = {.opcode = NVME_ADMIN_GET_FEATURES, .cdw10 = NVME_FEATURE_QUEUES};
    assert_int_equal(rig_admin(&get, NULL), 0); /* its doorbell is in MMIO, as Linux has it */
}

static void host_memory_is_lent_back_and_granted_again(void **state)
{
    (void)state;
    uint64_t memory;
    struct nvme_sqe set = rig_start_lent(&io, &memory);

    assert_int_equal(rig.hmb.granted_count, 1);
    images_hand_over();
    rig_turn(6);
    assert_int_equal(images.done_count, 1);
    assert_null(rig.hmb.memory);
    images_take_over();
    images_serve();
    assert_int_equal(rig.hmb.granted_count, 2);
    assert_int_equal(rig.hmb.memory->len_bytes, 64 << 10);
    assert_int_equal(rig.hmb.memory->pieces[0].host_addr, memory);
    set.cdw11 = 0;
    assert_int_equal(rig_admin(&set, NULL), 0);
    assert_null(rig.hmb.memory);
}

/* --- not handed over ------------------------------------------------------------------------- */

static void cancelled_before_it_is_done_serves_on(void **state)
{
    (void)state;
    uint64_t data = rig_alloc(4096);
    struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 2, 0, 1, data, 0);
    struct nvme_cqe cqe;

    rig_push(&io, &sqe);
    rig_ring(&io);
    rig_turn(2);
    images_hand_over();
    rig_advance_ms(100);
    nvme_ep_hand_over_cancel(rig.ep);
    rig_turn(6);
    assert_int_equal(images.done_count, 0);
    rig_push(&io, &(struct nvme_sqe){.opcode = NVME_IO_FLUSH, .nsid = 1});
    rig_ring(&io);
    rig_turn(2);
    assert_true(rig_pop(&io, &cqe)); /* while the read is still under way */
    rig_ring_head(&io);
    rig_slow_release_all(&rig.slow);
    rig_turn(2);
    assert_true(rig_pop(&io, &cqe));
    rig_ring_head(&io);
    images_next(); /* a second time, it works */
    rig_read_block(&io, 1);
}

static void cancelled_after_it_was_done_serves_on(void **state)
{
    (void)state;
    images_hand_over();
    rig_turn(6);
    assert_int_equal(images.done_count, 1);
    nvme_ep_hand_over_cancel(rig.ep);
    rig_turn(6);
    rig_read_block(&io, 1);
    rig_disable();
    assert_int_equal(rig_csts(), 0);
    images_hand_over();
    rig_turn(6);
    assert_int_equal(images.done_count, 1);
    nvme_ep_hand_over_cancel(rig.ep);
    rig_enable();
}

static void disabled_function_is_handed_over_and_enabled_later(void **state)
{
    (void)state;
    rig_disable();
    images_hand_over();
    rig_turn(6);
    assert_int_equal(images.done_count, 1);
    images_take_over();
    images_serve();
    rig_enable();
    rig_create_pair(&io, 1, 16);
    rig_read_block(&io, 1);
}

static void reset_between_images_is_answered_by_the_next_one(void **state)
{
    (void)state;
    images_hand_over();
    rig_turn(6);
    uint32_t acks = rig.ack_count;
    rig_event(PCIE_EP_EVENT_RESET, 0, true);
    rig_turn(6);
    assert_int_equal(rig.ack_count, acks);
    images_take_over();
    assert_int_equal(rig.ack_count, acks + 1);
    assert_int_equal(rig_csts(), 0);
    images_serve();
    rig_enable();
}

static void disable_between_images_is_answered_by_the_next_one(void **state)
{
    (void)state;
    images_hand_over();
    rig_turn(6);
    rig_write32(NVME_REG_CC, 0);
    images_take_over();
    assert_int_equal(rig_csts(), 0);
    images_serve();
    rig_enable();
}

static void what_cannot_be_restored_is_refused(void **state)
{
    (void)state;
    images_hand_over();
    rig_turn(6);
    nvme_ep_save(rig.ep, &images.saved);
    struct handover_function good = images.saved;
#define REFUSED(change)                                                            \
    do {                                                                           \
        images.saved = good;                                                       \
        change;                                                                    \
        sched_init(sched_core_count(), SCHED_IDLE_POLL);                           \
        rig_ep_make();                                                             \
        assert_int_equal(nvme_ep_restore(rig.ep, &images.saved), STATUS_BAD_DATA); \
        assert_int_equal(rig.ep->state, NVME_EP_STATE_DISABLED);                   \
    } while (0)
    REFUSED(images.saved.cap ^= 1);
    REFUSED(images.saved.fn++);
    REFUSED(images.saved.cntlid++);
    REFUSED(images.saved.cc &= ~NVME_CC_EN);
    REFUSED(images.saved.csts = 0);
    REFUSED(images.saved.aer_count = LIMIT_AERS + 1);
    REFUSED(images.saved.has_dbbuf = 1);
    REFUSED(images.saved.ctrl.mdts = LIMIT_MDTS + 1);
    REFUSED(images.saved.ctrl.features[NVME_FEATURE_QUEUES] = 0x400040);
    REFUSED(images.saved.queues[0].sq_size = 0);
    REFUSED(images.saved.queues[0].cq_size = 0);
    REFUSED(images.saved.queues[1].sq_size = LIMIT_QUEUE_ENTRIES + 1);
    REFUSED(images.saved.queues[1].sq_size = 1);
    REFUSED(images.saved.queues[1].sq_head = images.saved.queues[1].sq_size);
    REFUSED(images.saved.queues[1].sq_cq_id = 2);
    REFUSED(images.saved.queues[1].sq_cq_id = 0);
    REFUSED(images.saved.queues[1].sq_cq_id = 0xffff);
    REFUSED(images.saved.queues[1].sq_priority = 4);
    REFUSED(images.saved.queues[1].sq_addr++);
    REFUSED(images.saved.queues[1].cq_addr++);
    REFUSED(images.saved.queues[1].cq_tail = images.saved.queues[1].cq_size);
    REFUSED(images.saved.queues[1].cq_head = images.saved.queues[1].cq_size);
    REFUSED(images.saved.queues[1].cq_vector = LIMIT_VECTORS);
    REFUSED(images.saved.piece_count = 1);
    REFUSED(images.saved.piece_count = LIMIT_HMB_PIECES + 1);
    images.saved = good;
    sched_init(sched_core_count(), SCHED_IDLE_POLL);
    rig_ep_make();
    assert_int_equal(nvme_ep_restore(rig.ep, &images.saved), STATUS_OK);
    nvme_ep_start(rig.ep);
    images_serve();
    rig_read_block(&io, 1);
}

static void error_recovery_that_was_set_is_not_handed_over(void **state)
{
    (void)state;
    struct nvme_sqe set = {.opcode = NVME_ADMIN_SET_FEATURES,
                           .nsid = 1,
                           .cdw10 = NVME_FEATURE_ERROR_RECOVERY,
                           .cdw11 = 5};

    assert_int_equal(rig_admin(&set, NULL), 0);
    images_hand_over();
    rig_advance_ms(100);
    assert_int_equal(images.done_count, 0);
    rig_read_block(&io, 1); /* it never stopped serving */
    nvme_ep_hand_over_cancel(rig.ep);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(host_goes_on_in_the_middle_of_its_queues),
        TEST(commands_under_way_end_first_and_none_is_cancelled),
        TEST(completions_that_wait_for_room_are_posted_first),
        TEST(what_the_host_does_between_images_waits),
        TEST(interrupt_that_may_be_lost_is_raised_again),
        TEST(features_are_as_the_host_set_them),
        TEST(event_request_is_answered_by_the_next_image),
        TEST(event_that_waits_is_told_by_the_next_image),
        TEST(doorbell_buffers_go_on),
        TEST(host_memory_is_lent_back_and_granted_again),
        TEST(cancelled_before_it_is_done_serves_on),
        TEST(cancelled_after_it_was_done_serves_on),
        TEST(disabled_function_is_handed_over_and_enabled_later),
        TEST(reset_between_images_is_answered_by_the_next_one),
        TEST(disable_between_images_is_answered_by_the_next_one),
        TEST(what_cannot_be_restored_is_refused),
        TEST(error_recovery_that_was_set_is_not_handed_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
