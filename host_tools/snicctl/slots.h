/*
 * Slots of images as the board's record has them, and the board's restart, waited for: what
 * `flash`, `rollback`, `confirm` and `reset` claim is what the board has said afterwards.
 */
#ifndef SNICCTL_SLOTS_H
#define SNICCTL_SLOTS_H

#include "command.h"

#define SLOTS_MAX        8u
#define SLOT_NONE        0xffu
#define SLOTS_RESTART_MS 60000u /* what a board needs at most to come back */

struct slots {
    struct mgmt_slot slots[SLOTS_MAX]; /* texts end */
    uint32_t count;                    /* 0: no flash, or not told */
};

enum fault slots_read(struct call *call, struct slots *slots);
/* The first with all bits of `flags` and none of `without`; NULL: there is none. */
const struct mgmt_slot *slots_find(const struct slots *slots, uint32_t flags, uint32_t without);
const struct mgmt_slot *slots_at(const struct slots *slots, uint32_t slot);

/* Has the board restart, by MGMT_ACTION_RESET or MGMT_ACTION_HAND_OVER, waits until it is back and
 * says with what. FAULT_NO_DEVICE: it does not come back; FAULT_FAILED: not with the slot that was
 * to start, or it has not restarted at all. `due`: what starts; NULL: what waits for its trial, or
 * whatever starts when none does. `is_confirmed`: waits until what was due is confirmed, too. */
enum fault slots_restart(struct call *call, uint16_t action, const struct mgmt_slot *due,
                         bool is_confirmed, uint32_t timeout_ms);

#endif
