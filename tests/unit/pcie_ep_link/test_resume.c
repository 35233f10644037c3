/*
 * Another image goes on with the link of the one before: no hello, no epoch, nothing lost.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>
#include "pcie_ep_link/loop.h"
#include "spec/nvme.h"

static enum status resume(struct loop *loop)
{
    struct pcie_ep_link_params params = loop->ep_link.params;

    params.resume = true;
    memset(&loop->ep_link, 0x5a, sizeof(loop->ep_link));
    return pcie_ep_link_init(&loop->ep_link, &params);
}

static void cc_write(struct loop *loop, uint32_t value)
{
    vfu_link_write(&loop->link, NVME_REG_CC, (const uint8_t *)&value, sizeof(value));
}

static void events_between_images_are_the_next_ones(void **state)
{
    struct loop *loop = *state;

    loop_bring_up(loop);
    uint32_t epoch = loop->ep_link.epoch;
    cc_write(loop, NVME_CC_EN);
    assert_int_equal(resume(loop), STATUS_OK);
    assert_int_equal(loop->ep_link.epoch, epoch);
    pcie_ep_ready(loop->ep); /* the image says so as at any start: no news for the other end */
    assert_int_equal(loop->link.host->epoch, epoch);
    loop_nic_turn(loop, true);
    assert_int_equal(loop->event_count, 1);
    assert_int_equal(loop->events[0].type, PCIE_EP_EVENT_REG_WRITE);
    assert_int_equal(loop->events[0].value, NVME_CC_EN);
}

static void windows_and_vectors_are_still_there(void **state)
{
    struct loop *loop = *state;
    struct pcie_ep_view view = {0};

    loop_bring_up(loop);
    struct link_vector_table *table =
        (struct link_vector_table *)(void *)((uint8_t *)loop->block + LINK_OFFSET_VECTORS);
    *table = (struct link_vector_table){.peer = 9, .first = 2, .count = 4, .live = {0xf}};
    assert_int_equal(resume(loop), STATUS_OK);
    pcie_ep_view_load(loop->ep, &view);
    assert_int_equal(view.window_count, 1);
    assert_int_equal(pcie_ep_map(&view, 0x1000, 16, true), UINT64_C(0x8000002000));
    pcie_ep_irq_raise(loop->ep, 1);
    assert_int_equal(loop->raise_peer, 9);
    assert_int_equal(loop->raise_vector, 3);
}

/* The host side waits for a fence while images change. */
static void fence_is_answered_by_the_next_image(void **state)
{
    struct loop *loop = *state;

    loop_bring_up(loop);
    assert_int_equal(resume(loop), STATUS_OK);
    vfu_link_set_windows(&loop->link, &loop_ram, 0, true); /* waits: nic_acks takes its turn */
    assert_int_equal(loop->event_count, 1);
    assert_int_equal(loop->events[0].type, PCIE_EP_EVENT_WINDOWS);
    assert_int_equal(loop->stop_count, 0);
}

static void sleeping_cores_of_the_image_before_are_forgotten(void **state)
{
    struct loop *loop = *state;

    loop_bring_up(loop);
    pcie_ep_doorbells_arm(loop->ep, true);
    assert_int_not_equal(loop->ep_link.nic->core[0].armed, 0);
    assert_int_equal(resume(loop), STATUS_OK);
    assert_int_equal(loop->ep_link.nic->core[0].armed, 0);
}

static void nobody_to_follow_is_not_found(void **state)
{
    struct loop *loop = *state;

    assert_int_equal(loop_attach(loop), STATUS_OK); /* hello, but never ready */
    assert_int_equal(resume(loop), STATUS_NOT_FOUND);
    loop_attach_ready(loop);
    loop->ep_link.nic->hello++; /* another start that the other end has not seen */
    assert_int_equal(resume(loop), STATUS_NOT_FOUND);
}

static void link_that_was_never_used_is_not_found(void **state)
{
    struct loop *loop = *state;

    assert_int_equal(loop_attach(loop), STATUS_OK);
    loop->link.host->epoch = 0;
    assert_int_equal(resume(loop), STATUS_NOT_FOUND);
}

#define T(name) cmocka_unit_test_setup_teardown(name, loop_setup, loop_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(events_between_images_are_the_next_ones),
        T(windows_and_vectors_are_still_there),
        T(fence_is_answered_by_the_next_image),
        T(sleeping_cores_of_the_image_before_are_forgotten),
        T(nobody_to_follow_is_not_found),
        T(link_that_was_never_used_is_not_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
