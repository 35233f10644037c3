/*
 * Between the two files of vfu_link.
 */
#ifndef VFU_LINK_PRIV_H
#define VFU_LINK_PRIV_H

#include "hal/native/vfu/vfu_link.h"

/* Appends an event for the NIC; waits while the ring is full. False: no NIC serves (any more). */
bool vfu_link_event(struct vfu_link *link, const struct link_event *event);

void vfu_link_wake(struct vfu_link *link, uint32_t core_mask);
bool vfu_link_is_up(const struct vfu_link *link);

/* Register page as at power-on, before any NIC. */
void vfu_link_regs_strap(struct vfu_link *link);

/* After a function reset: all that the host can write, CSTS and the doorbells are 0. */
void vfu_link_regs_reset(struct vfu_link *link);

/* The NIC that served is gone: a controller that was enabled is fatally broken until reset. */
void vfu_link_regs_orphan(struct vfu_link *link);

/* Register writes that a NIC that comes now still has to act on. */
void vfu_link_regs_describe(struct vfu_link *link);

#endif
