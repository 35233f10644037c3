/*
 * Corners in the life of a link: before the NIC is ready, after it failed and came back, and when
 * generations start over.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/bits.h"
#include "pcie_ep_link/loop.h"
#include "spec/nvme.h"

static void host_brings_up(struct loop *loop)
{
    vfu_link_host_came(&loop->link);
    vfu_link_set_windows(&loop->link, &loop_ram, 1, false);
    vfu_link_set_bus_master(&loop->link, true);
}

/* Before `ready` no fence waits for the NIC: so it must not hold what a fence would take away. */
static void view_load_before_ready_is_empty(void **state)
{
    struct loop *loop = *state;
    struct pcie_ep_view view;

    host_brings_up(loop);
    assert_int_equal(loop_attach(loop), STATUS_OK);
    pcie_ep_view_load(loop->ep, &view);
    assert_int_equal(view.window_count, 0);

    pcie_ep_ready(loop->ep);
    pcie_ep_view_load(loop->ep, &view);
    assert_int_equal(view.window_count, 1);
}

static void view_load_after_restart_before_ready_is_empty(void **state)
{
    struct loop *loop = *state;
    struct pcie_ep_view view;

    host_brings_up(loop);
    loop_attach_ready(loop);
    assert_int_equal(loop_attach(loop), STATUS_OK); /* the next life of the NIC */
    pcie_ep_view_load(loop->ep, &view);
    assert_int_equal(view.window_count, 0);
}

/* A NIC that cannot restart comes back with the controller of the host before: it must forget it
 * before another host's memory comes within its reach. */
static void revive_after_window_fence_resets_function_first(void **state)
{
    struct loop *loop = *state;
    struct pcie_ep_event event;
    bool has_reset = false;

    loop->link.config.revive = true;
    host_brings_up(loop);
    loop_attach_ready(loop);
    loop->nic_acks = false;
    vfu_link_set_windows(&loop->link, NULL, 0, true);
    assert_int_equal(loop->stop_count, 1);
    vfu_link_host_left(&loop->link);

    assert_true(pcie_ep_event_pop(loop->ep, &event)); /* it wakes up at last */
    assert_int_equal(event.type, PCIE_EP_EVENT_WINDOWS);
    loop->nic_acks = true;
    loop->event_count = 0;
    pcie_ep_event_ack(loop->ep, &event);
    vfu_link_poll(&loop->link);
    assert_false(loop->link.failed);
    assert_true(loop->link.nic_ready);
    for (uint32_t i = 0; i < loop->event_count; i++) {
        has_reset |= loop->events[i].type == PCIE_EP_EVENT_RESET;
    }
    assert_true(has_reset); /* and acknowledged: revival waited for it */
}

static void revive_nic_hangs_again_stays_down(void **state)
{
    struct loop *loop = *state;
    struct pcie_ep_event event;

    loop->link.config.revive = true;
    host_brings_up(loop);
    loop_attach_ready(loop);
    loop->nic_acks = false;
    vfu_link_set_windows(&loop->link, NULL, 0, true);
    vfu_link_host_left(&loop->link);
    assert_true(pcie_ep_event_pop(loop->ep, &event));
    pcie_ep_event_ack(loop->ep, &event); /* and hangs in the reset */
    vfu_link_poll(&loop->link);
    assert_true(loop->link.failed);
    assert_false(loop->link.nic_ready);
    uint64_t start_ns = loop->now_ns;
    vfu_link_poll(&loop->link);
    assert_true(loop->now_ns == start_ns); /* not asked again before it answered */

    loop->nic_acks = true;
    loop_nic_turn(loop, true);
    vfu_link_poll(&loop->link);
    assert_false(loop->link.failed);
}

/* The table that a NIC may still read is never the one that is written. */
static void generation_starting_over_uses_the_other_table(void **state)
{
    struct loop *loop = *state;

    host_brings_up(loop);
    loop_attach_ready(loop);
    loop->link.window_generation = UINT32_MAX - 1;
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t before = loop->link.window_generation;
        vfu_link_set_windows(&loop->link, &loop_ram, 1, false);
        assert_int_not_equal(loop->link.window_generation, 0);
        assert_int_not_equal(loop->link.window_generation & 1, before & 1);
    }
    assert_int_equal(loop->stop_count, 0);
}

static void view_load_windows_not_in_whole_pages_dropped(void **state)
{
    struct loop *loop = *state;
    static const struct link_window crooked[] = {
        {.host_addr = 0x10001, .len_bytes = 0x1000, .target = 0x1000, .flags = LINK_WINDOW_READ},
        {.host_addr = 0x20000, .len_bytes = 0x1000, .target = 0x1004, .flags = LINK_WINDOW_READ},
        {.host_addr = 0x30000, .len_bytes = 0x1001, .target = 0x1000, .flags = LINK_WINDOW_READ},
        {.host_addr = 0x40000, .len_bytes = 0x1000, .target = 0x1000, .flags = LINK_WINDOW_READ},
    };
    struct pcie_ep_view view;

    host_brings_up(loop);
    loop_attach_ready(loop);
    vfu_link_set_windows(&loop->link, crooked, ARRAY_SIZE(crooked), true);
    pcie_ep_view_load(loop->ep, &view);
    assert_int_equal(view.window_count, 1);
    assert_true(view.windows[0].host_addr == 0x40000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(view_load_before_ready_is_empty, loop_setup, loop_teardown),
        cmocka_unit_test_setup_teardown(view_load_after_restart_before_ready_is_empty, loop_setup,
                                        loop_teardown),
        cmocka_unit_test_setup_teardown(revive_after_window_fence_resets_function_first, loop_setup,
                                        loop_teardown),
        cmocka_unit_test_setup_teardown(revive_nic_hangs_again_stays_down, loop_setup,
                                        loop_teardown),
        cmocka_unit_test_setup_teardown(view_load_windows_not_in_whole_pages_dropped, loop_setup,
                                        loop_teardown),
        cmocka_unit_test_setup_teardown(generation_starting_over_uses_the_other_table, loop_setup,
                                        loop_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
