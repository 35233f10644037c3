/*
 * pcie_ep over a link block: attach, registers, doorbells, and what a hostile other end can put
 * into the block and its ring. Windows, fences and vectors: test_pcie_ep_link_fences.c.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "base/bits.h"
#include "pcie_ep_link/loop.h"
#include "spec/nvme.h"

/* --- attach ------------------------------------------------------------------------------------
 */

static void init_sound_block_fills_handle(void **state)
{
    struct loop *loop = *state;

    assert_int_equal(loop_attach(loop), STATUS_OK);
    assert_int_equal(loop->ep->fn, 2);
    assert_int_equal(loop->ep->vector_count, LIMIT_VECTORS);
    assert_int_equal(loop->ep->doorbell_mode, PCIE_EP_DOORBELLS_TRAPPED);
    assert_true(loop->ep->host_poll_is_cheap);
    assert_false(pcie_ep_event_waits(loop->ep));
}

static void init_bad_params_refused(void **state)
{
    struct loop *loop = *state;
    struct pcie_ep_link_params params = {.name = "x", .block = NULL};

    assert_int_equal(pcie_ep_link_init(&loop->ep_link, &params), STATUS_INVALID);
}

static void init_wrong_block_refused(void **state)
{
    struct loop *loop = *state;

    loop->link.host->version++;
    assert_int_equal(loop_attach(loop), STATUS_BAD_DATA);
    loop->link.host->version--;
    loop->link.host->vector_count = LIMIT_VECTORS + 1;
    assert_int_equal(loop_attach(loop), STATUS_BAD_DATA);
    loop->link.host->vector_count = LIMIT_VECTORS;
    loop->link.host->fn = LIMIT_FUNCTIONS;
    assert_int_equal(loop_attach(loop), STATUS_BAD_DATA);
    loop->link.host->fn = 0;
    loop->link.host->magic ^= 1;
    assert_int_equal(loop_attach(loop), STATUS_BAD_DATA);
}

static void no_notify(void *ctx)
{
    (void)ctx;
}

static void no_raise(void *ctx, uint32_t peer, uint32_t vector)
{
    (void)ctx;
    (void)peer;
    (void)vector;
}

static void init_silent_other_end_times_out(void **state)
{
    struct loop *loop = *state;
    struct pcie_ep_link_params params = {.name = "x",
                                         .block = loop->block,
                                         .notify = no_notify,
                                         .raise = no_raise,
                                         .hello_timeout_ns = 100000};

    assert_int_equal(pcie_ep_link_init(&loop->ep_link, &params), STATUS_TIMED_OUT);
}

static void ready_host_there_describes_present(void **state)
{
    struct loop *loop = *state;

    vfu_link_host_came(&loop->link);
    vfu_link_set_windows(&loop->link, &loop_ram, 1, false);
    vfu_link_set_bus_master(&loop->link, true);
    loop_write32(loop, NVME_REG_AQA, 0x001f001f);
    loop_write64(loop, NVME_REG_ASQ, 0x4000);
    loop_write64(loop, NVME_REG_ACQ, 0x5000);
    loop_write32(loop, NVME_REG_CC, 0x00460001);
    loop_attach_ready(loop);

    static const enum pcie_ep_event_type expected[] = {
        PCIE_EP_EVENT_LINK,      PCIE_EP_EVENT_BUS_MASTER, PCIE_EP_EVENT_WINDOWS,
        PCIE_EP_EVENT_VECTORS,   PCIE_EP_EVENT_REG_WRITE,  PCIE_EP_EVENT_REG_WRITE,
        PCIE_EP_EVENT_REG_WRITE, PCIE_EP_EVENT_REG_WRITE};
    assert_int_equal(loop->event_count, ARRAY_SIZE(expected));
    for (uint32_t i = 0; i < loop->event_count; i++) {
        assert_int_equal(loop->events[i].type, expected[i]);
    }
    assert_int_equal(loop->events[7].offset, NVME_REG_CC);
    assert_int_equal(loop->events[7].value, 0x00460001);
    assert_int_equal(loop->events[5].value, 0x4000);
}

static void ready_no_host_sends_no_link(void **state)
{
    struct loop *loop = *state;

    loop_attach_ready(loop);
    for (uint32_t i = 0; i < loop->event_count; i++) {
        assert_int_not_equal(loop->events[i].type, PCIE_EP_EVENT_LINK);
        assert_int_not_equal(loop->events[i].type, PCIE_EP_EVENT_REG_WRITE);
    }
}

static void nic_lost_while_enabled_reports_fatal_until_disabled(void **state)
{
    struct loop *loop = *state;

    loop_bring_up(loop);
    loop_write32(loop, NVME_REG_CC, NVME_CC_EN);
    shm_store32(loop->ep->regs + NVME_REG_CSTS, NVME_CSTS_RDY);
    vfu_link_nic_gone(&loop->link);
    assert_int_equal(loop_read32(loop, NVME_REG_CSTS), NVME_CSTS_RDY | NVME_CSTS_CFS);

    /* A new NIC must not take over queues that another one had begun. */
    loop->event_count = 0;
    loop_attach_ready(loop);
    for (uint32_t i = 0; i < loop->event_count; i++) {
        assert_int_not_equal(loop->events[i].type, PCIE_EP_EVENT_REG_WRITE);
    }
    assert_true((loop_read32(loop, NVME_REG_CSTS) & NVME_CSTS_CFS) != 0);
    loop_write32(loop, NVME_REG_CC, 0);
    assert_int_equal(loop_read32(loop, NVME_REG_CSTS), 0);
}

static void nic_lost_before_ready_bit_keeps_enable_pending(void **state)
{
    struct loop *loop = *state;

    loop_bring_up(loop);
    loop_write32(loop, NVME_REG_CC, NVME_CC_EN);
    vfu_link_nic_gone(&loop->link);
    assert_int_equal(loop_read32(loop, NVME_REG_CSTS), 0);
    loop_attach_ready(loop);
    assert_int_equal(loop->events[loop->event_count - 1].type, PCIE_EP_EVENT_REG_WRITE);
    assert_int_equal(loop->events[loop->event_count - 1].offset, NVME_REG_CC);
}

/* --- registers ---------------------------------------------------------------------------------
 */

static void straps_before_any_nic_answer(void **state)
{
    struct loop *loop = *state;
    uint64_t cap;

    vfu_link_read(&loop->link, NVME_REG_CAP, (uint8_t *)&cap, sizeof(cap));
    assert_int_equal(FIELD_GET(NVME_CAP_MQES, cap), 1023);
    assert_int_equal(FIELD_GET(NVME_CAP_TO, cap), 40);
    assert_int_equal(FIELD_GET(NVME_CAP_DSTRD, cap), 4);
    assert_int_equal(loop_read32(loop, NVME_REG_VS), 0x00010400);
    uint8_t byte;
    vfu_link_read(&loop->link, NVME_REG_VS + 2, &byte, 1);
    assert_int_equal(byte, 1);
}

static void reg_write_no_nic_stores_under_mask(void **state)
{
    struct loop *loop = *state;

    loop_write32(loop, NVME_REG_CC, UINT32_MAX);
    assert_int_equal(loop_read32(loop, NVME_REG_CC), NVME_CC_WRITABLE);
    loop_write32(loop, NVME_REG_VS, 0);
    assert_int_equal(loop_read32(loop, NVME_REG_VS), 0x00010400);
    loop_write64(loop, NVME_REG_ASQ, UINT64_MAX);
    assert_int_equal(loop_read32(loop, NVME_REG_ASQ), 0xfffff000);
    assert_int_equal(loop_read32(loop, NVME_REG_ASQ + 4), UINT32_MAX);
    assert_int_equal(shm_load32(&loop->link.host->event_head), 0);
}

static void reg_write_nic_ready_stores_then_event_and_wakes(void **state)
{
    struct loop *loop = *state;

    loop_bring_up(loop);
    loop->wake_mask = 0;
    loop_write32(loop, NVME_REG_CC, 0x00460001);
    assert_int_equal(loop->wake_mask, 1);
    assert_true(pcie_ep_event_waits(loop->ep));

    struct pcie_ep_event event;
    assert_true(pcie_ep_event_pop(loop->ep, &event));
    assert_int_equal(event.type, PCIE_EP_EVENT_REG_WRITE);
    assert_int_equal(event.offset, NVME_REG_CC);
    assert_int_equal(event.len_bytes, 4);
    assert_int_equal(event.value, 0x00460001);
    assert_int_equal(shm_load32(loop->ep->regs + NVME_REG_CC), 0x00460001);
    assert_false(pcie_ep_event_waits(loop->ep));
    assert_false(pcie_ep_event_pop(loop->ep, &event));
}

static void reg_write_odd_width_ignored(void **state)
{
    struct loop *loop = *state;
    const uint8_t bytes[8] = {1, 2, 3, 4, 5, 6, 7, 8};

    loop_bring_up(loop);
    vfu_link_write(&loop->link, NVME_REG_CC, bytes, 2);
    vfu_link_write(&loop->link, NVME_REG_CC + 2, bytes, 4);
    vfu_link_write(&loop->link, NVME_REG_CC, bytes, 1);
    assert_int_equal(loop->link.stats.reg_bad_count, 3);
    assert_false(pcie_ep_event_waits(loop->ep));
}

static void reg_write_8_bytes_at_4_makes_two_events(void **state)
{
    struct loop *loop = *state;
    struct pcie_ep_event event;

    loop_bring_up(loop);
    loop_write64(loop, NVME_REG_AQA, UINT64_C(0x5000000000ff00ff)); /* 0x24: only 4 byte aligned */
    assert_true(pcie_ep_event_pop(loop->ep, &event));
    assert_int_equal(event.offset, NVME_REG_AQA);
    assert_int_equal(event.len_bytes, 4);
    assert_true(pcie_ep_event_pop(loop->ep, &event));
    assert_int_equal(event.offset, NVME_REG_ASQ);
    assert_int_equal(event.value, 0x50000000);
}

static void reg_protect_changes_mask(void **state)
{
    struct loop *loop = *state;

    loop_bring_up(loop);
    pcie_ep_reg_protect(loop->ep, NVME_REG_CC, 1);
    pcie_ep_reg_protect(loop->ep, LINK_REG_BYTES, UINT32_MAX); /* outside: nothing happens */
    pcie_ep_reg_protect(loop->ep, 2, UINT32_MAX);
    loop_write32(loop, NVME_REG_CC, UINT32_MAX);
    assert_int_equal(loop_read32(loop, NVME_REG_CC), 1);
    assert_int_equal(loop_read32(loop, 0x100), 0);
}

/* --- doorbells ---------------------------------------------------------------------------------
 */

static void doorbell_trapped_wakes_armed_cores_only(void **state)
{
    struct loop *loop = *state;

    loop_bring_up(loop);
    loop->wake_mask = 0;
    loop_write32(loop, LINK_DOORBELL_OFFSET + 64, 7);
    assert_int_equal(loop->wake_mask, 0);
    assert_int_equal(shm_load32(loop->ep->doorbells + 64), 7);

    pcie_ep_doorbells_arm(loop->ep, true);
    loop_write32(loop, LINK_DOORBELL_OFFSET + 64, 8);
    assert_int_equal(loop->wake_mask, 1);
    pcie_ep_doorbells_arm(loop->ep, false);
    loop->wake_mask = 0;
    loop_write32(loop, LINK_DOORBELL_OFFSET + 64, 9);
    assert_int_equal(loop->wake_mask, 0);
}

static void doorbell_arm_nests(void **state)
{
    struct loop *loop = *state;

    loop_bring_up(loop);
    pcie_ep_doorbells_arm(loop->ep, false); /* not armed: harmless */
    pcie_ep_doorbells_arm(loop->ep, true);
    pcie_ep_doorbells_arm(loop->ep, true);
    pcie_ep_doorbells_arm(loop->ep, false);
    assert_int_not_equal(shm_load32(&loop->link.nic->core[0].armed), 0);
    pcie_ep_doorbells_arm(loop->ep, false);
    assert_int_equal(shm_load32(&loop->link.nic->core[0].armed), 0);
}

static void doorbell_read_is_zero(void **state)
{
    struct loop *loop = *state;

    loop_write32(loop, LINK_DOORBELL_OFFSET, 7);
    assert_int_equal(loop_read32(loop, LINK_DOORBELL_OFFSET), 0);
}

/* --- ring --------------------------------------------------------------------------------------
 */

static void ring_full_nic_reads_loses_nothing(void **state)
{
    struct loop *loop = *state;

    loop_bring_up(loop);
    for (uint32_t i = 0; i < LINK_EVENT_COUNT + 10; i++) {
        loop_write32(loop, NVME_REG_AQA, i & 0xfff);
    }
    loop_nic_turn(loop, true);
    assert_true(loop->link.stats.ring_full_count > 0);
    assert_int_equal(loop->stop_count, 0);
    assert_int_equal(loop->ep_link.bad_event_count, 0);
    assert_int_equal(loop->ep->event_seen, loop->link.head);
}

static void ring_full_nic_silent_stops_nic(void **state)
{
    struct loop *loop = *state;

    loop_bring_up(loop);
    loop->nic_acks = false;
    for (uint32_t i = 0; i < LINK_EVENT_COUNT + 1; i++) {
        loop_write32(loop, NVME_REG_AQA, i & 0xfff);
    }
    assert_int_equal(loop->stop_count, 1);
}

static void ring_hostile_tail_stops_nic(void **state)
{
    struct loop *loop = *state;

    loop_bring_up(loop);
    loop->link.nic->event_tail += 1;
    loop_write32(loop, NVME_REG_CC, 0);
    loop_write32(loop, NVME_REG_CC, 0);
    assert_int_equal(loop->stop_count, 1);
}

static void pop_hostile_head_resets_function(void **state)
{
    struct loop *loop = *state;
    struct pcie_ep_event event;

    loop_bring_up(loop);
    shm_store32(&loop->link.host->event_head, loop->link.head + LINK_EVENT_COUNT + 1);
    assert_true(pcie_ep_event_pop(loop->ep, &event));
    assert_int_equal(event.type, PCIE_EP_EVENT_RESET);
    assert_false(pcie_ep_event_waits(loop->ep));
}

static void pop_hostile_records_skipped(void **state)
{
    struct loop *loop = *state;
    struct pcie_ep_event event;
    static const struct link_event bad[] = {
        {.type = 99},
        {.type = LINK_EVENT_NONE},
        {.type = LINK_EVENT_REG_WRITE, .offset = 0x14, .len_bytes = 2},
        {.type = LINK_EVENT_REG_WRITE, .offset = 0x1000, .len_bytes = 4},
        {.type = LINK_EVENT_REG_WRITE, .offset = 0xffffffff, .len_bytes = 8},
        {.type = LINK_EVENT_REG_WRITE, .offset = 0x14, .len_bytes = 8},
        {.type = LINK_EVENT_BUS_MASTER, .value = 2},
        {.type = LINK_EVENT_LINK, .value = 2},
        {.type = LINK_EVENT_RESET, .index = 7}, /* not its place in the ring */
    };

    loop_bring_up(loop);
    struct link_event *ring = (void *)((uint8_t *)loop->block + LINK_OFFSET_EVENTS);
    for (uint32_t i = 0; i < ARRAY_SIZE(bad); i++) {
        uint32_t index = loop->link.head++;
        ring[index & (LINK_EVENT_COUNT - 1)] = bad[i];
        ring[index & (LINK_EVENT_COUNT - 1)].index = index + bad[i].index;
    }
    shm_store32_release(&loop->link.host->event_head, loop->link.head);
    loop_write32(loop, NVME_REG_CC, 1);
    assert_true(pcie_ep_event_pop(loop->ep, &event));
    assert_int_equal(event.type, PCIE_EP_EVENT_REG_WRITE);
    assert_int_equal(event.offset, NVME_REG_CC);
    assert_int_equal(loop->ep_link.bad_event_count, ARRAY_SIZE(bad));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, loop_setup, loop_teardown)
    const struct CMUnitTest tests[] = {
        T(init_sound_block_fills_handle),
        T(init_bad_params_refused),
        T(init_wrong_block_refused),
        T(init_silent_other_end_times_out),
        T(ready_host_there_describes_present),
        T(ready_no_host_sends_no_link),
        T(nic_lost_while_enabled_reports_fatal_until_disabled),
        T(nic_lost_before_ready_bit_keeps_enable_pending),
        T(straps_before_any_nic_answer),
        T(reg_write_no_nic_stores_under_mask),
        T(reg_write_nic_ready_stores_then_event_and_wakes),
        T(reg_write_odd_width_ignored),
        T(reg_write_8_bytes_at_4_makes_two_events),
        T(reg_protect_changes_mask),
        T(doorbell_trapped_wakes_armed_cores_only),
        T(doorbell_arm_nests),
        T(doorbell_read_is_zero),
        T(ring_full_nic_reads_loses_nothing),
        T(ring_full_nic_silent_stops_nic),
        T(ring_hostile_tail_stops_nic),
        T(pop_hostile_head_resets_function),
        T(pop_hostile_records_skipped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
