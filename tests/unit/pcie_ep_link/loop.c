#include "pcie_ep_link/loop.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void on_wake(void *ctx, uint32_t core_mask)
{
    struct loop *loop = ctx;
    loop->wake_mask |= core_mask;
}

static bool on_wait(void *ctx, uint64_t timeout_ns)
{
    struct loop *loop = ctx;

    loop->now_ns += timeout_ns;
    if (loop->nic_dies_in_wait) {
        return false;
    }
    if (loop->nic_restarts_in_wait) {
        loop->nic_restarts_in_wait = false;
        loop->ep_link.nic->hello++;
        return true;
    }
    if (loop->nic_acks) {
        loop_nic_turn(loop, true);
    }
    return true;
}

static void on_stop(void *ctx, const char *why)
{
    struct loop *loop = ctx;
    (void)why;
    loop->stop_count++;
}

static uint64_t on_now(void *ctx)
{
    return ((struct loop *)ctx)->now_ns;
}

static void on_log(void *ctx, const char *text)
{
    struct loop *loop = ctx;
    snprintf(loop->log, sizeof(loop->log), "%s", text);
}

static void on_raise(void *ctx, uint32_t peer, uint32_t vector)
{
    struct loop *loop = ctx;
    loop->raise_count++;
    loop->raise_peer = peer;
    loop->raise_vector = vector;
}

static void on_notify(void *ctx)
{
    struct loop *loop = ctx;
    loop->notify_count++;
    vfu_link_poll(&loop->link);
}

void loop_open(struct loop *loop, bool trapped)
{
    static const struct vfu_link_ops ops = {
        .wake = on_wake, .wait = on_wait, .stop_nic = on_stop, .now_ns = on_now, .log = on_log};

    memset(loop, 0, sizeof(*loop));
    loop->nic_acks = true;
    loop->block = aligned_alloc(LINK_PAGE_BYTES, LINK_BLOCK_BYTES);
    assert_non_null(loop->block);
    struct vfu_link_config config = {
        .ops = &ops,
        .ctx = loop,
        .block = loop->block,
        .fn = 2,
        .function_count = 3,
        .vector_count = LIMIT_VECTORS,
        .trapped = trapped,
        .cheap_poll = true,
        .dstrd = 4,
        .host_ram_bytes = 0x100000,
    };
    assert_int_equal(vfu_link_init(&loop->link, &config), 0);
}

void loop_close(struct loop *loop)
{
    free(loop->block);
}

enum status loop_attach(struct loop *loop)
{
    struct pcie_ep_link_params params = {
        .name = "ep0",
        .block = loop->block,
        .bus_base = UINT64_C(0x8000000000),
        .bus_bytes = 0x100000,
        .ctx = loop,
        .raise = on_raise,
        .notify = on_notify,
        .hello_timeout_ns = 1000000,
    };
    enum status status = pcie_ep_link_init(&loop->ep_link, &params);
    loop->ep = &loop->ep_link.ep;
    return status;
}

void loop_attach_ready(struct loop *loop)
{
    assert_int_equal(loop_attach(loop), STATUS_OK);
    pcie_ep_ready(loop->ep);
    loop_nic_turn(loop, true);
}

void loop_nic_turn(struct loop *loop, bool ack)
{
    struct pcie_ep_event event;

    while (pcie_ep_event_pop(loop->ep, &event)) {
        if (loop->event_count < LOOP_LOG) {
            loop->events[loop->event_count++] = event;
        }
        if (ack) {
            pcie_ep_event_ack(loop->ep, &event);
        }
    }
}

void loop_write32(struct loop *loop, uint32_t offset, uint32_t value)
{
    vfu_link_write(&loop->link, offset, (const uint8_t *)&value, sizeof(value));
}

void loop_write64(struct loop *loop, uint32_t offset, uint64_t value)
{
    vfu_link_write(&loop->link, offset, (const uint8_t *)&value, sizeof(value));
}

uint32_t loop_read32(struct loop *loop, uint32_t offset)
{
    uint32_t value;
    vfu_link_read(&loop->link, offset, (uint8_t *)&value, sizeof(value));
    return value;
}

const struct link_window loop_ram = {.host_addr = 0x1000,
                                     .len_bytes = 0x8000,
                                     .target = 0x2000,
                                     .flags = LINK_WINDOW_READ | LINK_WINDOW_WRITE};

void loop_bring_up(struct loop *loop)
{
    vfu_link_host_came(&loop->link);
    vfu_link_set_windows(&loop->link, &loop_ram, 1, false);
    vfu_link_set_bus_master(&loop->link, true);
    loop_attach_ready(loop);
    loop->event_count = 0;
}

int loop_setup(void **state)
{
    static struct loop loop;
    loop_open(&loop, true);
    *state = &loop;
    return 0;
}

int loop_teardown(void **state)
{
    loop_close(*state);
    return 0;
}
