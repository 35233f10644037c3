/*
 * Fences: after CSTS.RDY = 0, an acknowledged reset or window change, or a deleted queue, nothing
 * touches host memory on its behalf. The rig poisons what must not be touched.
 */
#include <string.h>
#include "tests/unit/nvme_ep/rig_test.h"

static struct rig_queue io;

static int setup(void **state)
{
    (void)state;
    rig_start_pair(NULL, &io, 64);
    return 0;
}

static void start_slow(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 2, i, 1, rig_alloc(4096), 0);
        rig_push(&io, &sqe);
    }
    rig_ring(&io);
    rig_turn(3);
    assert_int_equal(rig.slow.held_count, count);
}

static uint32_t pop_status(uint16_t code)
{
    struct nvme_cqe cqe;
    uint32_t count = 0;

    while (rig_pop(&io, &cqe)) {
        assert_int_equal(NVME_STATUS_CODE(rig_status(&cqe)), code);
        count++;
    }
    return count;
}

/* --- windows ------------------------------------------------------------------------------- */

static void windows_added_are_there_at_once(void **state)
{
    (void)state;
    struct pcie_ep_window windows[2] = {rig.windows[0], rig.windows[0]};
    windows[1].host_addr = 0x5000000000;
    windows[1].len_bytes = 4096;
    start_slow(1);
    uint32_t acks = rig.ack_count;
    rig_windows_set(windows, 2, false);
    rig_turn(4);
    assert_int_equal(rig.ack_count, acks + 1); /* without waiting for the command */
    struct nvme_cqe cqe;
    struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 1, 0, 8, 0x5000000000, 0);
    assert_int_equal(rig_do(&io, &sqe, &cqe), 0);
}

static void windows_revoked_wait_for_what_refers_to_them(void **state)
{
    (void)state;
    start_slow(3);
    uint32_t acks = rig.ack_count;
    rig_revoke_last_page();
    rig_turn(5);
    assert_int_equal(rig.ack_count, acks);
    rig_advance_ms(100); /* before the deadline nobody is cancelled */
    assert_int_equal(rig.slow.cancel_count, 0);
    rig_slow_release(&rig.slow, 0);
    rig_slow_release(&rig.slow, 0);
    rig_turn(3);
    assert_int_equal(rig.ack_count, acks);
    rig_slow_release(&rig.slow, 0);
    rig_turn(3);
    assert_int_equal(rig.ack_count, acks + 1);
    assert_int_equal(pop_status(0), 3);
}

static void windows_revoked_fetch_nothing_meanwhile_and_go_on(void **state)
{
    (void)state;
    start_slow(1);
    rig_revoke_last_page();
    rig_turn(3);
    struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 1, 0, 1, rig_alloc(4096), 0);
    rig_push(&io, &sqe);
    rig_ring(&io);
    rig_turn(5);
    assert_int_equal(pop_status(0), 0);
    rig_slow_release(&rig.slow, 0);
    rig_turn(5);
    assert_int_equal(pop_status(0), 2);
}

static void windows_revoked_cancel_after_the_deadline(void **state)
{
    (void)state;
    start_slow(4);
    uint32_t acks = rig.ack_count;
    rig_revoke_last_page();
    rig_advance_ms(495);
    assert_int_equal(rig.ack_count, acks);
    rig_advance_ms(20);
    assert_int_equal(rig.slow.cancel_count, 4);
    assert_int_equal(rig.ack_count, acks + 1);
    assert_int_equal(pop_status(NVME_SC_ABORT_REQUESTED), 4);
}

static void windows_are_not_acknowledged_while_a_device_still_has_a_command(void **state)
{
    (void)state;
    rig.slow.obeys_cancel = false;
    start_slow(1);
    uint32_t acks = rig.ack_count;
    rig_revoke_last_page();
    rig_advance_ms(3000);
    assert_int_equal(rig.ack_count, acks); /* the other end takes the link down after 1 s */
    assert_int_equal(rig.slow.cancel_count, 1);
    rig_slow_release(&rig.slow, 0);
    rig_turn(3);
    assert_int_equal(rig.ack_count, acks + 1);
}

static void windows_revoked_leave_commands_without_data_alone(void **state)
{
    (void)state;
    struct nvme_sqe flush = {.opcode = NVME_IO_FLUSH, .nsid = 2};
    rig_push(&io, &flush);
    rig_ring(&io);
    rig_turn(3);
    assert_int_equal(rig.slow.held_count, 1);
    uint32_t acks = rig.ack_count;
    rig_revoke_last_page();
    rig_turn(4);
    assert_int_equal(rig.ack_count, acks + 1);
    rig_slow_release(&rig.slow, 0);
    rig_turn(2);
    assert_int_equal(pop_status(0), 1);
}

static void bus_master_off_rests_and_on_goes_on(void **state)
{
    (void)state;
    start_slow(2);
    uint32_t acks = rig.ack_count;
    rig_bus_master_set(false);
    rig_turn(3);
    assert_int_equal(rig.ack_count, acks);
    rig_slow_release_all(&rig.slow);
    rig_turn(3);
    assert_int_equal(rig.ack_count, acks + 1);
    assert_int_equal(pop_status(0), 2);
    assert_false(nvme_ep_snapshot(rig.ep).bus_master);
    struct nvme_sqe sqe = rig_rw(NVME_IO_READ, 1, 0, 1, rig_alloc(4096), 0);
    rig_push(&io, &sqe);
    rig_ring(&io);
    rig_advance_ms(5000);
    assert_int_equal(rig_csts(), NVME_CSTS_RDY); /* that is no error */
    assert_int_equal(pop_status(0), 0);
    rig_bus_master_set(true);
    rig_turn(4);
    assert_int_equal(pop_status(0), 1);
}

/* PCI: MSI-X is a write to memory, too. */
static void bus_master_off_raises_no_interrupt_until_it_is_on(void **state)
{
    (void)state;
    struct nvme_cqe cqe;
    struct nvme_sqe read = rig_rw(NVME_IO_READ, 1, 0, 1, rig_alloc(4096), 0);

    assert_int_equal(rig_set_feature(NVME_FEATURE_INTERRUPT_COALESCING, 100u << 8 | 7), 0);
    rig_turn(2);
    rig_push(&io, &read); /* its interrupt is due in 10 ms */
    rig_ring(&io);
    rig_turn(2);
    assert_true(rig_pop(&io, &cqe));
    uint32_t irqs = rig.irq_count[1];
    rig_bus_master_set(false);
    rig_turn(3);
    assert_int_equal(rig.last_ack.type, PCIE_EP_EVENT_BUS_MASTER);
    rig_advance_ms(50);
    rig_event(PCIE_EP_EVENT_VECTORS, 0, false);
    rig_advance_ms(50);
    assert_int_equal(rig.irq_count[1], irqs);
    rig_bus_master_set(true);
    rig_turn(4);
    assert_int_equal(rig.irq_count[1], irqs + 1);
    assert_int_equal(rig_csts(), NVME_CSTS_RDY);
}

static void bus_master_off_then_reset_and_enable(void **state)
{
    (void)state;
    start_slow(2);
    rig_bus_master_set(false);
    rig_advance_ms(600);
    rig_disable();
    assert_int_equal(rig_csts(), 0);
    assert_true(rig_pools_are_full());
    rig_bus_master_set(true);
    rig_turn(3);
    rig_enable();
}

/* --- disable and reset --------------------------------------------------------------------- */

static void disable_cancels_at_once_and_posts_nothing(void **state)
{
    (void)state;
    start_slow(5);
    rig_disable();
    assert_int_equal(rig_csts(), 0);
    assert_int_equal(rig.slow.cancel_count, 5);
    struct nvme_cqe cqe;
    assert_false(rig_pop(&io, &cqe));
    assert_true(rig_pools_are_full());
    assert_int_equal(nvme_ep_stats(rig.ep, 0).dropped_count, 5);
}

static void disable_waits_for_a_device_that_cannot_cancel(void **state)
{
    (void)state;
    rig.slow.obeys_cancel = false;
    start_slow(1);
    rig_disable();
    rig_advance_ms(2000);
    assert_int_equal(rig_csts(), NVME_CSTS_RDY);
    rig_slow_release(&rig.slow, 0);
    rig_turn(4);
    assert_int_equal(rig_csts(), 0);
    struct nvme_cqe cqe;
    assert_false(rig_pop(&io, &cqe));
}

static void disable_with_outstanding_events_forgets_them(void **state)
{
    (void)state;
    struct nvme_sqe event = {.opcode = NVME_ADMIN_ASYNC_EVENT};
    for (uint32_t i = 0; i < LIMIT_AERS; i++) {
        rig_push(&rig_admin_queue, &event);
    }
    rig_ring(&rig_admin_queue);
    rig_turn(2);
    rig_disable();
    assert_int_equal(rig_csts(), 0);
    assert_true(rig_pools_are_full());
    rig_enable();
    struct nvme_sqe sqe = rig_identify(rig_alloc(4096));
    assert_int_equal(rig_admin(&sqe, NULL), 0);
}

static void reset_takes_the_memory_away_for_good(void **state)
{
    (void)state;
    start_slow(3);
    rig_event(PCIE_EP_EVENT_RESET, 0, true);
    rig.bus_master = false; /* from the acknowledgement on nothing may be touched */
    rig_turn(6);
    assert_int_equal(rig.last_ack.type, PCIE_EP_EVENT_RESET);
    rig_push(&io, &(struct nvme_sqe){0});
    rig_ring(&io);
    rig_turn(10);
    assert_int_equal(rig_csts(), 0);
    rig.bus_master = true;
    rig_event(PCIE_EP_EVENT_BUS_MASTER, 1, false);
    rig_turn(3);
    rig_enable();
}

static void reset_while_deleting_a_queue_ends_both(void **state)
{
    (void)state;
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_DELETE_SQ, .cdw10 = 1};
    rig.slow.obeys_cancel = false;
    start_slow(2);
    rig_push(&rig_admin_queue, &sqe);
    rig_ring(&rig_admin_queue);
    rig_turn(3);
    rig_event(PCIE_EP_EVENT_RESET, 0, true);
    rig_turn(5);
    assert_int_equal(rig.ack_count, 0);
    rig_slow_release_all(&rig.slow);
    rig_turn(6);
    assert_int_equal(rig.ack_count, 1);
    assert_true(rig_pools_are_full());
}

static void reset_behind_a_running_fence_is_answered_after_it(void **state)
{
    (void)state;
    start_slow(1);
    rig_revoke_last_page();
    rig_turn(2);
    rig_event(PCIE_EP_EVENT_RESET, 0, true);
    rig_advance_ms(520);
    assert_int_equal(rig.ack_count, 2);
    assert_int_equal(rig.last_ack.type, PCIE_EP_EVENT_RESET);
    assert_int_equal(rig_csts(), 0);
}

static void reset_behind_a_revocation_cancels_at_once(void **state)
{
    (void)state;
    start_slow(3);
    rig_revoke_last_page();
    rig_turn(2);
    assert_int_equal(rig.slow.cancel_count, 0);
    rig_event(PCIE_EP_EVENT_RESET, 0, true);
    rig_turn(8); /* the clock stands */
    assert_int_equal(rig.slow.cancel_count, 3);
    assert_int_equal(rig.ack_count, 2);
    assert_int_equal(rig.last_ack.type, PCIE_EP_EVENT_RESET);
    assert_int_equal(rig_csts(), 0);
}

/* A device may take its time after a cancel: a drive that does not answer an Abort is reset, a
 * remote controller is left. All of the link's second is there for it, since a reset cancels at
 * once. */
static void reset_leaves_the_device_the_whole_second(void **state)
{
    (void)state;
    rig.slow.obeys_cancel = false;
    start_slow(4);
    rig_event(PCIE_EP_EVENT_RESET, 0, true);
    rig_turn(2); /* the clock stands */
    assert_int_equal(rig.slow.cancel_count, 4);
    rig_advance_ms(950);
    assert_int_equal(rig.ack_count, 0);
    assert_int_equal(rig.slow.cancel_count, 4); /* once each */
    rig_slow_release_all(&rig.slow);
    rig_advance_ms(2);
    assert_int_equal(rig.ack_count, 1);
    assert_true(rig_pools_are_full());
}

static void disable_leaves_the_device_its_time(void **state)
{
    (void)state;
    rig.slow.obeys_cancel = false;
    start_slow(4);
    rig_write32(NVME_REG_CC, 0);
    rig_turn(2);
    assert_int_equal(rig.slow.cancel_count, 4);
    rig_advance_ms(900);
    assert_int_equal(rig_csts(), NVME_CSTS_RDY);
    rig_slow_release_all(&rig.slow);
    rig_turn(6);
    assert_int_equal(rig_csts(), 0);
}

/* fence_cancel_ms and the device's time share the second of an unmap: 100 + 850 fit, and what ends
 * by itself before is not cancelled. */
static void windows_revoked_share_the_second_with_the_device(void **state)
{
    (void)state;
    rig_stop();
    rig_start_pair(&(struct rig_config){.fence_cancel_ms = 100}, &io, 64);
    rig.slow.obeys_cancel = false;
    start_slow(3);
    uint32_t acks = rig.ack_count;
    rig_revoke_last_page();
    rig_advance_ms(95);
    assert_true(rig_slow_release(&rig.slow, 0));
    rig_advance_ms(10);
    assert_int_equal(rig.slow.cancel_count, 2);
    rig_advance_ms(850);
    assert_int_equal(rig.ack_count, acks);
    rig_slow_release(&rig.slow, NVME_SC_ABORT_REQUESTED);
    rig_slow_release(&rig.slow, NVME_SC_ABORT_REQUESTED);
    rig_advance_ms(2);
    assert_int_equal(rig.ack_count, acks + 1);
}

/* Commands that wait for a way to their device, or on the wire, at CC.SHN: they are given
 * fence_cancel_ms, the flush 5 s, and RTD3E says so. */
static void shutdown_with_a_device_out_of_reach_ends_within_rtd3e(void **state)
{
    (void)state;
    uint64_t page = rig_alloc(4096);
    struct nvme_sqe sqe = rig_identify(page);
    uint32_t rtd3e_us;
    assert_int_equal(rig_admin(&sqe, NULL), 0);
    memcpy(&rtd3e_us, (uint8_t *)rig_ptr(page) + 88, sizeof(rtd3e_us));

    rig.slow.obeys_cancel = true;
    start_slow(3);
    rig_write32(NVME_REG_CC, RIG_CC | 1u << NVME_CC_SHN_SHIFT);
    rig_advance_ms(rtd3e_us / 1000);
    assert_int_equal(FIELD_GET(NVME_CSTS_SHST, rig_csts()), NVME_SHST_COMPLETE);
    assert_int_equal(pop_status(NVME_SC_ABORT_REQUESTED), 3);
    assert_int_equal(rig.slow.held_count, 0); /* the flush was cancelled */
}

static void link_down_behind_a_shutdown_cancels_at_once(void **state)
{
    (void)state;
    start_slow(3);
    rig_write32(NVME_REG_CC, RIG_CC | 1u << NVME_CC_SHN_SHIFT);
    rig_turn(3);
    assert_int_equal(rig.slow.cancel_count, 0);
    rig_write32(NVME_REG_AQA, 0x00070007); /* what else the host does on the way, in its order */
    rig_event(PCIE_EP_EVENT_LINK, 0, true);
    rig_write32(NVME_REG_AQA, 0x001f001f);
    rig_turn(8);
    assert_int_equal(rig.slow.cancel_count, 4); /* the shutdown's flush, too */
    assert_int_equal(rig.last_ack.type, PCIE_EP_EVENT_LINK);
    assert_int_equal(rig_csts(), 0);
    assert_int_equal(rig.ep->aqa, 0x001f001f); /* after the reset, not before it */
}

static void reset_behind_two_fences_hurries_both(void **state)
{
    (void)state;
    struct nvme_sqe flush = {.opcode = NVME_IO_FLUSH, .nsid = 2};

    rig_push(&io, &flush); /* a revocation does not wait for it, a shutdown does */
    struct nvme_sqe read = rig_rw(NVME_IO_READ, 2, 0, 1, rig_alloc(4096), 0);
    rig_push(&io, &read);
    rig_ring(&io);
    rig_turn(3);
    assert_int_equal(rig.slow.held_count, 2);
    rig_revoke_last_page();
    rig_turn(2);
    rig_write32(NVME_REG_CC, RIG_CC | 1u << NVME_CC_SHN_SHIFT);
    rig_event(PCIE_EP_EVENT_RESET, 0, true);
    rig_turn(8);
    assert_int_equal(rig.last_ack.type, PCIE_EP_EVENT_RESET);
    assert_int_equal(rig_csts(), 0);
}

static void events_behind_a_running_fence_keep_their_order(void **state)
{
    (void)state;
    start_slow(1);
    rig_revoke_last_page();
    rig_turn(2);
    for (uint32_t i = 0; i < 3 * NVME_EP_EARLY_EVENTS; i++) {
        rig_write32(NVME_REG_AQA, i << 16 | i);
        if (i % 5 == 0) {
            rig_turn(1);
        }
    }
    rig_turn(3);
    assert_int_equal(rig.ep->aqa, 0x001f001f);
    rig_slow_release_all(&rig.slow);
    rig_turn(10);
    uint32_t last = 3 * NVME_EP_EARLY_EVENTS - 1;
    assert_int_equal(rig.ep->aqa, last << 16 | last);
    rig_write32(NVME_REG_AQA, 0x001f001f);
    rig_turn(2);
    assert_int_equal(rig.ep->aqa, 0x001f001f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, rig_teardown)
        T(windows_added_are_there_at_once),
        T(windows_revoked_wait_for_what_refers_to_them),
        T(windows_revoked_fetch_nothing_meanwhile_and_go_on),
        T(windows_revoked_cancel_after_the_deadline),
        T(windows_are_not_acknowledged_while_a_device_still_has_a_command),
        T(windows_revoked_leave_commands_without_data_alone),
        T(bus_master_off_rests_and_on_goes_on),
        T(bus_master_off_raises_no_interrupt_until_it_is_on),
        T(bus_master_off_then_reset_and_enable),
        T(disable_cancels_at_once_and_posts_nothing),
        T(disable_waits_for_a_device_that_cannot_cancel),
        T(disable_with_outstanding_events_forgets_them),
        T(reset_takes_the_memory_away_for_good),
        T(reset_while_deleting_a_queue_ends_both),
        T(reset_behind_a_running_fence_is_answered_after_it),
        T(reset_behind_a_revocation_cancels_at_once),
        T(reset_leaves_the_device_the_whole_second),
        T(disable_leaves_the_device_its_time),
        T(windows_revoked_share_the_second_with_the_device),
        T(shutdown_with_a_device_out_of_reach_ends_within_rtd3e),
        T(link_down_behind_a_shutdown_cancels_at_once),
        T(reset_behind_two_fences_hurries_both),
        T(events_behind_a_running_fence_keep_their_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
