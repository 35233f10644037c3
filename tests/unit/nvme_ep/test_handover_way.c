/*
 * On the way to a handover (docs/spec/handover.md): what the host or its function does meanwhile,
 * rounds that are cancelled, and functions in other states than ready.
 */
#include <string.h>
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

/* A command that ends when the test lets it. */
static void push_slow(void)
{
    struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 2, 0, 1, rig_alloc(4096), 0);

    rig_push(&io, &sqe);
    rig_ring(&io);
    rig_turn(2);
    assert_int_equal(rig.slow.held_count, 1);
}

static void push_aers(uint32_t count)
{
    struct nvme_sqe aer = {.opcode = NVME_ADMIN_ASYNC_EVENT};

    for (uint32_t i = 0; i < count; i++) {
        rig_push(&rig_admin_queue, &aer);
    }
    rig_ring(&rig_admin_queue);
    rig_turn(2);
    assert_int_equal(rig.ctrl->aer_count, count);
}

static void doorbell_event(uint8_t info)
{
    nvme_ctrl_event(rig.ctrl, NVME_EVENT_ERROR, info, NVME_LOG_ERROR);
    rig_turn(2);
}

static void expect_event(uint8_t info)
{
    struct nvme_cqe cqe;

    assert_true(rig_pop(&rig_admin_queue, &cqe));
    assert_int_equal(rig_status(&cqe), 0);
    assert_int_equal(cqe.dw0 & 0xff07, info << 8 | NVME_EVENT_ERROR);
    rig_ring_head(&rig_admin_queue);
}

static void expect_silence(void)
{
    struct nvme_cqe cqe;

    assert_false(rig_pop(&rig_admin_queue, &cqe));
}

/* --- asynchronous events --------------------------------------------------------------------- */

/* All has been said to be at rest: the queues' state may have been saved. */
static void event_after_the_rest_is_told_by_the_next_image(void **state)
{
    (void)state;
    push_aers(4);
    images_hand_over();
    rig_turn(6);
    assert_int_equal(images.done_count, 1);
    doorbell_event(NVME_EVENT_ERROR_INVALID_DOORBELL);
    expect_silence();
    images_take_over();
    images_serve();
    expect_event(NVME_EVENT_ERROR_INVALID_DOORBELL);
    assert_int_equal(rig.ctrl->aer_count, 3);
}

static void event_on_the_way_is_told_after_a_cancel(void **state)
{
    (void)state;
    push_aers(1);
    push_slow();
    images_hand_over();
    rig_turn(4);
    assert_int_equal(rig.ep->state, NVME_EP_STATE_HANDING);
    doorbell_event(NVME_EVENT_ERROR_INVALID_DOORBELL);
    expect_silence();
    nvme_ep_hand_over_cancel(rig.ep);
    rig_turn(4);
    expect_event(NVME_EVENT_ERROR_INVALID_DOORBELL);
    rig_slow_release_all(&rig.slow);
    rig_turn(2);
}

/* A doorbell of no queue is looked for now and then, cleared, and reported: once. */
static void bad_doorbell_on_the_way_is_not_forgotten(void **state)
{
    (void)state;
    push_aers(1);
    push_slow();
    images_hand_over();
    rig_turn(4);
    shm_store32(rig_sq_doorbell(7), 3);
    rig_advance_ms(600);
    assert_int_equal(shm_load32(rig_sq_doorbell(7)), 0);
    expect_silence();
    rig_slow_release_all(&rig.slow);
    rig_turn(6);
    assert_int_equal(images.done_count, 1);
    images_take_over();
    images_serve();
    expect_event(NVME_EVENT_ERROR_INVALID_DOORBELL);
}

static void bad_doorbell_after_the_rest_is_found_by_the_next_image(void **state)
{
    (void)state;
    push_aers(1);
    images_hand_over();
    rig_turn(6);
    shm_store32(rig_sq_doorbell(7), 3);
    rig_advance_ms(600);
    assert_int_equal(shm_load32(rig_sq_doorbell(7)), 3);
    images_take_over();
    images_serve();
    rig_advance_ms(600);
    expect_event(NVME_EVENT_ERROR_INVALID_DOORBELL);
}

/* --- rounds ---------------------------------------------------------------------------------- */

/* What ends of the first round must not end the second one. */
static void second_round_waits_for_commands_like_the_first(void **state)
{
    (void)state;
    push_slow();
    for (uint32_t turns = 0; turns < 6; turns++) {
        images_hand_over();
        rig_turn(turns);
        nvme_ep_hand_over_cancel(rig.ep);
    }
    images_hand_over();
    rig_advance_ms(50);
    assert_int_equal(images.done_count, 0);
    assert_int_equal(rig.ep->state, NVME_EP_STATE_HANDING);
    rig_slow_release_all(&rig.slow);
    rig_turn(6);
    assert_int_equal(images.done_count, 1);
    images_take_over();
    images_serve();
    struct nvme_cqe cqe;
    assert_true(rig_pop(&io, &cqe));
    rig_ring_head(&io);
    rig_read_block(&io, 1);
}

static void command_that_was_rung_meanwhile_is_fetched_after_a_cancel(void **state)
{
    (void)state;
    struct nvme_sqe flush = {.opcode = NVME_IO_FLUSH, .nsid = 1};
    struct nvme_cqe cqe;

    for (uint32_t is_done = 0; is_done < 2; is_done++) {
        push_slow();
        images_hand_over();
        rig_turn(4);
        rig_push(&io, &flush);
        rig_ring(&io);
        rig_turn(4);
        assert_false(rig_pop(&io, &cqe));
        if (is_done != 0) {
            rig_slow_release_all(&rig.slow);
            rig_turn(6);
            assert_int_equal(images.done_count, 1);
        }
        nvme_ep_hand_over_cancel(rig.ep);
        rig_turn(6);
        rig_slow_release_all(&rig.slow);
        rig_turn(2);
        for (uint32_t i = 0; i < 2; i++) {
            assert_true(rig_pop(&io, &cqe));
            rig_ring_head(&io);
        }
    }
}

static void cancelled_while_host_memory_is_lent_back_serves_on(void **state)
{
    (void)state;
    uint64_t memory;
    rig_start_lent(&io, &memory);
    rig.hmb.holds_on = true;
    images_hand_over();
    rig_turn(6);
    assert_int_equal(rig.hmb.revoke_count, 1);
    assert_int_equal(images.done_count, 0);
    nvme_ep_hand_over_cancel(rig.ep);
    rig_turn(6); /* the user still has to answer */
    rig.hmb.holds_on = false;
    rig_hmb_let_go();
    rig_turn(6);
    assert_int_equal(rig.hmb.granted_count, 2);
    assert_int_equal(images.done_count, 0);
    rig_read_block(&io, 1);
    images_next();
    assert_int_equal(rig.hmb.granted_count, 3);
}

/* --- events of the function ------------------------------------------------------------------ */

/* The host waits for it at most 1 s: not behind commands and another image. */
static void reset_on_the_way_is_answered_at_once(void **state)
{
    (void)state;
    push_slow();
    images_hand_over();
    rig_turn(4);
    uint32_t acks = rig.ack_count;
    rig_event(PCIE_EP_EVENT_RESET, 0, true);
    rig_turn(8);
    assert_int_equal(rig.ack_count, acks + 1);
    assert_int_equal(rig_csts(), 0);
    rig_turn(4);
    assert_int_equal(images.done_count, 1); /* and then it rests, disabled */
    images_take_over();
    images_serve();
    assert_int_equal(images.saved.is_ready, HANDOVER_DISABLED);
    rig_enable();
}

static void disable_on_the_way_is_answered_at_once(void **state)
{
    (void)state;
    push_slow();
    images_hand_over();
    rig_turn(4);
    rig_write32(NVME_REG_CC, 0);
    rig_turn(8);
    assert_int_equal(rig_csts(), 0);
    assert_int_equal(images.done_count, 1);
    nvme_ep_hand_over_cancel(rig.ep);
    rig_turn(4);
    rig_enable();
}

/* An unmap of memory that nobody uses. */
static void unmap_on_the_way_is_answered_and_the_way_begins_anew(void **state)
{
    (void)state;
    struct pcie_ep_window windows[LIMIT_DMA_WINDOWS];
    struct nvme_cqe cqe;

    push_slow();
    images_hand_over();
    rig_turn(4);
    uint32_t acks = rig.ack_count;
    memcpy(windows, rig.windows, sizeof(windows));
    rig_windows_set(windows, rig.window_count, false);
    rig_turn(8);
    assert_int_equal(rig.ack_count, acks + 1);
    assert_int_equal(rig.slow.cancel_count, 0);
    assert_int_equal(images.done_count, 0);
    rig_slow_release_all(&rig.slow);
    rig_turn(8);
    assert_int_equal(images.done_count, 1);
    images_take_over();
    images_serve();
    assert_true(rig_pop(&io, &cqe));
    assert_int_equal(rig_status(&cqe), 0);
    rig_ring_head(&io);
    rig_read_block(&io, 1);
}

/* At rest, while others are not yet. */
static void event_after_the_rest_can_be_answered_before_the_end(void **state)
{
    (void)state;
    images_hand_over();
    rig_turn(6);
    assert_int_equal(images.done_count, 1);
    assert_false(nvme_ep_hand_over_again(rig.ep));
    uint32_t acks = rig.ack_count;
    rig_event(PCIE_EP_EVENT_VECTORS, 0, false);
    rig_turn(4);
    assert_int_equal(rig.ack_count, acks);
    assert_true(nvme_ep_hand_over_again(rig.ep));
    assert_false(nvme_ep_hand_over_again(rig.ep));
    rig_turn(8);
    assert_int_equal(rig.ack_count, acks + 1);
    assert_int_equal(images.done_count, 2);
    images_take_over();
    images_serve();
    rig_read_block(&io, 1);
}

/* --- other states ---------------------------------------------------------------------------- */

static void shut_down_function_is_handed_over_as_it_is(void **state)
{
    (void)state;
    push_aers(1);
    rig.slow.is_open = true;
    rig_write32(NVME_REG_CC, RIG_CC | 1u << NVME_CC_SHN_SHIFT);
    rig_turn(8);
    uint32_t csts = rig_csts();
    assert_int_equal(FIELD_GET(NVME_CSTS_SHST, csts), NVME_SHST_COMPLETE);
    assert_true(nvme_ep_can_hand_over(rig.ep));
    images_hand_over();
    rig_turn(6);
    assert_int_equal(images.done_count, 1);
    images_take_over();
    images_serve();
    assert_int_equal(rig_csts(), csts); /* RDY, complete, not CFS */
    rig_write32(NVME_REG_CC, 0);
    rig_turn(4);
    assert_int_equal(rig_csts(), 0);
    rig_enable();
    rig_create_pair(&io, 1, 16);
    rig_read_block(&io, 1);
    rig_write32(NVME_REG_CC, RIG_CC | 1u << NVME_CC_SHN_SHIFT);
    rig_turn(8);
    images_hand_over();
    rig_turn(6);
    nvme_ep_hand_over_cancel(rig.ep);
    rig_turn(4);
    assert_int_equal(rig.ep->state, NVME_EP_STATE_SHUT_DOWN);
}

static void dead_function_hinders_nobody(void **state)
{
    (void)state;
    rig.ep->is_fatal = true;
    nvme_ep_control_wake(rig.ep);
    rig_turn(6);
    assert_int_equal(rig.ep->state, NVME_EP_STATE_FATAL);
    assert_true(nvme_ep_can_hand_over(rig.ep));
    images_hand_over();
    rig_turn(4);
    assert_int_equal(images.done_count, 1);
    images_take_over();
    images_serve();
    assert_true((rig_csts() & NVME_CSTS_CFS) != 0);
    rig_disable();
    rig_enable();
}

static void enable_that_waits_is_answered_by_the_next_image(void **state)
{
    (void)state;
    rig_disable();
    nvme_ep_hold(rig.ep);
    rig_write32(NVME_REG_CC, RIG_CC);
    rig_turn(4);
    assert_int_equal(rig.ep->state, NVME_EP_STATE_ENABLING);
    assert_true(nvme_ep_can_hand_over(rig.ep));
    images_hand_over();
    rig_turn(4);
    assert_int_equal(images.done_count, 1);
    images_take_over();
    assert_int_equal(rig_csts(), 0);
    images_serve();
    assert_int_equal(rig_csts(), NVME_CSTS_RDY);
}

static void error_recovery_is_known_before_the_way_begins(void **state)
{
    (void)state;
    struct nvme_sqe set = {.opcode = NVME_ADMIN_SET_FEATURES,
                           .nsid = 1,
                           .cdw10 = NVME_FEATURE_ERROR_RECOVERY,
                           .cdw11 = 5};

    assert_true(nvme_ep_can_hand_over(rig.ep));
    assert_int_equal(rig_admin(&set, NULL), 0);
    assert_false(nvme_ep_can_hand_over(rig.ep));
    rig_disable(); /* which forgets it */
    assert_true(nvme_ep_can_hand_over(rig.ep));
    rig_enable();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(event_after_the_rest_is_told_by_the_next_image),
        TEST(event_on_the_way_is_told_after_a_cancel),
        TEST(bad_doorbell_on_the_way_is_not_forgotten),
        TEST(bad_doorbell_after_the_rest_is_found_by_the_next_image),
        TEST(second_round_waits_for_commands_like_the_first),
        TEST(command_that_was_rung_meanwhile_is_fetched_after_a_cancel),
        TEST(cancelled_while_host_memory_is_lent_back_serves_on),
        TEST(reset_on_the_way_is_answered_at_once),
        TEST(disable_on_the_way_is_answered_at_once),
        TEST(unmap_on_the_way_is_answered_and_the_way_begins_anew),
        TEST(event_after_the_rest_can_be_answered_before_the_end),
        TEST(shut_down_function_is_handed_over_as_it_is),
        TEST(dead_function_hinders_nobody),
        TEST(enable_that_waits_is_answered_by_the_next_image),
        TEST(error_recovery_is_known_before_the_way_begins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
