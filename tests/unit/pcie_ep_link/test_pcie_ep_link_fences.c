/*
 * pcie_ep over a link block: windows, the fences that take them away, vectors.
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

#define BUS_BASE UINT64_C(0x8000000000)

/* --- windows and fences ------------------------------------------------------------------------
 */

static void view_load_maps_inside_window_only(void **state)
{
    struct loop *loop = *state;
    struct pcie_ep_view view;

    loop_bring_up(loop);
    pcie_ep_view_load(loop->ep, &view);
    assert_int_equal(view.window_count, 1);
    assert_int_equal(pcie_ep_map(&view, 0x1000, 0x8000, true), BUS_BASE + 0x2000);
    assert_int_equal(pcie_ep_map(&view, 0x8fff, 1, false), BUS_BASE + 0x9fff);
    assert_true(pcie_ep_map(&view, 0x8fff, 2, false) == PCIE_EP_NO_ADDR);
    assert_true(pcie_ep_map(&view, 0xfff, 1, false) == PCIE_EP_NO_ADDR);
    assert_true(pcie_ep_map(&view, UINT64_MAX, 0x1001, false) == PCIE_EP_NO_ADDR);
}

static void view_load_read_only_window_refuses_writes(void **state)
{
    struct loop *loop = *state;
    struct pcie_ep_view view;
    struct link_window rom = loop_ram;

    loop_bring_up(loop);
    rom.flags = LINK_WINDOW_READ;
    vfu_link_set_windows(&loop->link, &rom, 1, true);
    pcie_ep_view_load(loop->ep, &view);
    assert_true(pcie_ep_map(&view, 0x1000, 8, true) == PCIE_EP_NO_ADDR);
    assert_true(pcie_ep_map(&view, 0x1000, 8, false) != PCIE_EP_NO_ADDR);
}

static void bus_master_off_empties_view_after_ack(void **state)
{
    struct loop *loop = *state;
    struct pcie_ep_view view;

    loop_bring_up(loop);
    vfu_link_set_bus_master(&loop->link, false);
    assert_int_equal(loop->event_count, 1);
    assert_int_equal(loop->events[0].type, PCIE_EP_EVENT_BUS_MASTER);
    assert_int_equal(loop->events[0].value, 0);
    assert_true(loop->events[0].revokes);
    pcie_ep_view_load(loop->ep, &view);
    assert_int_equal(view.window_count, 0);
    assert_true(pcie_ep_map(&view, 0x1000, 1, false) == PCIE_EP_NO_ADDR);

    vfu_link_set_bus_master(&loop->link, true);
    assert_int_equal(loop->events[1].type, PCIE_EP_EVENT_BUS_MASTER);
    assert_int_equal(loop->events[2].type, PCIE_EP_EVENT_WINDOWS);
    pcie_ep_view_load(loop->ep, &view);
    assert_int_equal(view.window_count, 1);
}

static void view_load_hostile_windows_dropped(void **state)
{
    struct loop *loop = *state;
    struct pcie_ep_view view;

    loop_bring_up(loop);
    const struct link_window bad[] = {
        {.host_addr = 0, .len_bytes = 0, .target = 0, .flags = 3},
        {.host_addr = UINT64_MAX - 10, .len_bytes = 100, .target = 0, .flags = 3},
        {.host_addr = 0, .len_bytes = 0x100001, .target = 0, .flags = 3}, /* beyond host RAM */
        {.host_addr = 0, .len_bytes = 0x1000, .target = 0xff001, .flags = 3},
        {.host_addr = 0, .len_bytes = 0x1000, .target = UINT64_MAX - 10, .flags = 3},
        {.host_addr = 0x5000,
         .len_bytes = 0x1000,
         .target = 0xff000,
         .flags = 3}, /* the sound one */
    };
    vfu_link_set_windows(&loop->link, bad, ARRAY_SIZE(bad), false);
    pcie_ep_view_load(loop->ep, &view);
    assert_int_equal(view.window_count, 1);
    assert_int_equal(view.windows[0].host_addr, 0x5000);
    assert_int_equal(loop->ep_link.bad_window_count, 5);
}

static void view_load_hostile_count_gives_empty_view(void **state)
{
    struct loop *loop = *state;
    struct pcie_ep_view view;

    loop_bring_up(loop);
    uint32_t generation = loop->link.window_generation;
    struct link_window_table *table =
        (void *)((uint8_t *)loop->block + LINK_OFFSET_WINDOWS + (generation & 1) * 0x1000);
    table->window_count = LIMIT_DMA_WINDOWS + 1;
    pcie_ep_view_load(loop->ep, &view);
    assert_int_equal(view.window_count, 0);
    table->window_count = 1;
    table->generation++; /* a table that is not the one announced */
    pcie_ep_view_load(loop->ep, &view);
    assert_int_equal(view.window_count, 0);
    assert_true(pcie_ep_map(&view, 0x1000, 1, false) == PCIE_EP_NO_ADDR);
}

static void fence_nic_acks_returns_after_ack(void **state)
{
    struct loop *loop = *state;

    loop_bring_up(loop);
    vfu_link_reset(&loop->link);
    assert_int_equal(loop->event_count, 1);
    assert_int_equal(loop->events[0].type, PCIE_EP_EVENT_RESET);
    assert_int_equal(loop->link.nic->fence_ack, loop->link.window_generation);
    assert_int_equal(loop->stop_count, 0);
}

static void fence_nic_silent_stops_nic_and_downs_link(void **state)
{
    struct loop *loop = *state;

    loop_bring_up(loop);
    loop->nic_acks = false;
    uint64_t start_ns = loop->now_ns;
    vfu_link_set_windows(&loop->link, NULL, 0, true);
    assert_int_equal(loop->stop_count, 1);
    assert_true(loop->now_ns - start_ns >= VFU_LINK_FENCE_NS);
    assert_true(loop->now_ns - start_ns < 2 * VFU_LINK_FENCE_NS);
    assert_int_equal(loop_read32(loop, NVME_REG_CSTS), UINT32_MAX); /* link down */
    assert_non_null(strstr(loop->log, "fence"));

    /* Nobody waits any more, and a NIC that restarts brings the link back, reset. */
    vfu_link_reset(&loop->link);
    assert_int_equal(loop->stop_count, 1);
    loop->nic_acks = true;
    loop_attach_ready(loop);
    assert_int_equal(loop_read32(loop, NVME_REG_CC), 0);
    assert_int_equal(loop_read32(loop, NVME_REG_VS), 0x00010400);
}

static void fence_late_ack_of_earlier_generation_does_not_count(void **state)
{
    struct loop *loop = *state;
    struct pcie_ep_event old = {.type = PCIE_EP_EVENT_WINDOWS};

    loop_bring_up(loop);
    old.generation = loop->link.window_generation;
    pcie_ep_event_ack(loop->ep, &old);
    loop->nic_acks = false;
    vfu_link_reset(&loop->link);
    assert_int_equal(loop->stop_count, 1);
}

static void fence_nic_dies_returns_without_stop(void **state)
{
    struct loop *loop = *state;

    loop_bring_up(loop);
    loop->nic_dies_in_wait = true;
    vfu_link_reset(&loop->link);
    assert_int_equal(loop->stop_count, 0);
    assert_false(loop->link.nic_attached);
}

static void fence_nic_restarts_returns_without_stop(void **state)
{
    struct loop *loop = *state;

    loop_bring_up(loop);
    loop->nic_restarts_in_wait = true;
    loop->nic_acks = false;
    vfu_link_reset(&loop->link);
    assert_int_equal(loop->stop_count, 0);
    assert_true(loop->link.nic_attached);
    assert_false(loop->link.nic_ready);
}

/* A NIC that resets itself: no fence waits for it. */
static void fence_after_the_nic_left_does_not_wait(void **state)
{
    struct loop *loop = *state;

    loop_bring_up(loop);
    loop->nic_acks = false;
    pcie_ep_leave(loop->ep);
    assert_false(loop->link.nic_ready);
    uint64_t start_ns = loop->now_ns;
    vfu_link_set_bus_master(&loop->link, false);
    vfu_link_reset(&loop->link);
    assert_true(loop->now_ns == start_ns);
    assert_int_equal(loop->stop_count, 0);
    assert_false(loop->link.failed);
    loop->nic_acks = true;
    loop_attach_ready(loop);
    assert_true(loop->link.nic_ready);
    assert_int_equal(loop->link.stats.failure_count, 0);
}

static void fence_no_nic_does_not_wait(void **state)
{
    struct loop *loop = *state;

    vfu_link_host_came(&loop->link);
    vfu_link_set_bus_master(&loop->link, true);
    vfu_link_set_windows(&loop->link, &loop_ram, 1, false);
    vfu_link_reset(&loop->link);
    vfu_link_host_left(&loop->link);
    assert_int_equal(loop->now_ns, 0);
}

static void host_left_resets_registers_after_fence(void **state)
{
    struct loop *loop = *state;

    loop_bring_up(loop);
    loop_write32(loop, NVME_REG_CC, NVME_CC_EN);
    loop_write32(loop, LINK_DOORBELL_OFFSET, 3);
    loop_nic_turn(loop, true);
    loop->event_count = 0;
    vfu_link_host_left(&loop->link);
    assert_int_equal(loop->events[0].type, PCIE_EP_EVENT_LINK);
    assert_int_equal(loop->events[0].value, 0);
    assert_int_equal(loop_read32(loop, NVME_REG_CC), 0);
    assert_int_equal(shm_load32(loop->ep->doorbells), 0);
    vfu_link_host_came(&loop->link);
    loop_nic_turn(loop, true);
    assert_int_equal(loop->events[1].type, PCIE_EP_EVENT_LINK);
    assert_int_equal(loop->events[1].value, 1);
}

static void link_taken_down_and_up_tells_nic(void **state)
{
    struct loop *loop = *state;
    struct pcie_ep_view view;

    loop_bring_up(loop);
    vfu_link_set_down(&loop->link, true);
    assert_int_equal(loop_read32(loop, NVME_REG_VS), UINT32_MAX);
    assert_int_equal(loop->events[0].type, PCIE_EP_EVENT_LINK);
    pcie_ep_view_load(loop->ep, &view);
    assert_int_equal(view.window_count, 0);
    vfu_link_set_down(&loop->link, false);
    assert_int_equal(loop_read32(loop, NVME_REG_VS), 0x00010400);
    pcie_ep_view_load(loop->ep, &view);
    assert_int_equal(view.window_count, 1);
}

/* --- vectors -----------------------------------------------------------------------------------
 */

static void irq_raise_live_vector_signals_peer(void **state)
{
    struct loop *loop = *state;
    struct link_vector_table table = {.peer = 9, .first = 1, .count = 65, .live = {1u << 3, 0, 1}};

    loop_bring_up(loop);
    pcie_ep_irq_raise(loop->ep, 3);
    assert_int_equal(loop->raise_count, 0); /* no vectors yet */
    uint32_t generation = vfu_link_set_vectors(&loop->link, &table);
    assert_false(vfu_link_vectors_acked(&loop->link, generation));
    loop_nic_turn(loop, true);
    assert_true(vfu_link_vectors_acked(&loop->link, generation));

    pcie_ep_irq_raise(loop->ep, 3);
    assert_int_equal(loop->raise_count, 1);
    assert_int_equal(loop->raise_peer, 9);
    assert_int_equal(loop->raise_vector, 4);
    pcie_ep_irq_raise(loop->ep, 64);
    assert_int_equal(loop->raise_vector, 65);
    pcie_ep_irq_raise(loop->ep, 2);   /* the host does not listen */
    pcie_ep_irq_raise(loop->ep, 200); /* no such vector */
    assert_int_equal(loop->raise_count, 2);
}

static void vectors_hostile_table_raises_nothing(void **state)
{
    struct loop *loop = *state;
    struct link_vector_table table = {.peer = 9, .first = 250, .count = 10, .live = {UINT32_MAX}};

    loop_bring_up(loop);
    vfu_link_set_vectors(&loop->link, &table);
    loop_nic_turn(loop, true);
    pcie_ep_irq_raise(loop->ep, 0);
    table = (struct link_vector_table){.peer = 70000, .count = 1, .live = {1}};
    vfu_link_set_vectors(&loop->link, &table);
    loop_nic_turn(loop, true);
    pcie_ep_irq_raise(loop->ep, 0);
    table = (struct link_vector_table){.peer = 5, .count = 1, .live = {3}};
    vfu_link_set_vectors(&loop->link, &table);
    loop_nic_turn(loop, true);
    pcie_ep_irq_raise(loop->ep, 1); /* live, but beyond the peer's count */
    assert_int_equal(loop->raise_count, 0);
}

static void vectors_ack_does_not_answer_fence(void **state)
{
    struct loop *loop = *state;
    struct pcie_ep_event event = {.type = PCIE_EP_EVENT_VECTORS};

    loop_bring_up(loop);
    event.generation = loop->link.window_generation + 1; /* as the next fence will have */
    pcie_ep_event_ack(loop->ep, &event);
    loop->nic_acks = false;
    vfu_link_reset(&loop->link);
    assert_int_equal(loop->stop_count, 1);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, loop_setup, loop_teardown)
    const struct CMUnitTest tests[] = {
        T(view_load_maps_inside_window_only),
        T(view_load_read_only_window_refuses_writes),
        T(bus_master_off_empties_view_after_ack),
        T(view_load_hostile_windows_dropped),
        T(view_load_hostile_count_gives_empty_view),
        T(fence_nic_acks_returns_after_ack),
        T(fence_nic_silent_stops_nic_and_downs_link),
        T(fence_late_ack_of_earlier_generation_does_not_count),
        T(fence_nic_dies_returns_without_stop),
        T(fence_nic_restarts_returns_without_stop),
        T(fence_after_the_nic_left_does_not_wait),
        T(fence_no_nic_does_not_wait),
        T(host_left_resets_registers_after_fence),
        T(link_taken_down_and_up_tells_nic),
        T(irq_raise_live_vector_signals_peer),
        T(vectors_hostile_table_raises_nothing),
        T(vectors_ack_does_not_answer_fence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
