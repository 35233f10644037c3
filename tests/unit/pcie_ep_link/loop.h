/*
 * Both ends of a link block in one thread: the driver under test, the host side, and a NIC that
 * acts when the host side waits for it.
 */
#ifndef TESTS_PCIE_EP_LINK_LOOP_H
#define TESTS_PCIE_EP_LINK_LOOP_H

#include "hal/drivers/pcie_ep_link.h"
#include "hal/native/vfu/vfu_link.h"

#define LOOP_LOG 64

struct loop {
    struct vfu_link link;
    struct pcie_ep_link ep_link;
    struct pcie_ep *ep;
    void *block;
    uint64_t now_ns; /* stands; each wait moves it on */
    bool nic_acks;   /* the NIC pops and acknowledges whenever the host side waits */
    bool nic_dies_in_wait;
    bool nic_restarts_in_wait;
    uint32_t wake_mask; /* since cleared */
    uint32_t stop_count;
    uint32_t notify_count;
    uint32_t raise_count;
    uint32_t raise_peer;
    uint32_t raise_vector;
    uint32_t event_count; /* events that the NIC popped while the host side waited */
    struct pcie_ep_event events[LOOP_LOG];
    char log[256];
};

/* NIC not attached yet. `trapped` doorbells. */
void loop_open(struct loop *loop, bool trapped);
void loop_close(struct loop *loop);

/* Fixtures of tests: their state is a loop with trapped doorbells. */
int loop_setup(void **state);
int loop_teardown(void **state);

enum status loop_attach(struct loop *loop); /* hello */
void loop_attach_ready(struct loop *loop);  /* hello, ready, and the first events popped */

/* Pops all events into loop->events. */
void loop_nic_turn(struct loop *loop, bool ack);

/* Accesses of the host to the registers. */
void loop_write32(struct loop *loop, uint32_t offset, uint32_t value);
void loop_write64(struct loop *loop, uint32_t offset, uint64_t value);
uint32_t loop_read32(struct loop *loop, uint32_t offset);

/* Host there, bus mastering on, one window (loop_ram), NIC ready and idle. */
void loop_bring_up(struct loop *loop);
extern const struct link_window loop_ram;

#endif
