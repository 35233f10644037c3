/*
 * Another image goes on serving the hosts of this one, without a reset of theirs. Core 0.
 */
#ifndef APP_HANDOVER_H
#define APP_HANDOVER_H

#include "app/app_priv.h"

/* Begins in a later turn: every function comes to rest, associations end in order, and the board is
 * restarted with what the next image needs in memory. Functions that do not come to rest within
 * APP_HAND_OVER_MS serve on, and the next image waits for a reset. UNSUPPORTED: no image waits, the
 * board keeps nothing, or there are RAM disks, whose content would be gone. AGAIN: under way. */
#define APP_HAND_OVER_MS 1000
MUST_USE enum status app_hand_over(void);

/* At start, before nvme_ep_start(): goes on where the image before ended, if it left something. */
void app_take_over(struct app_function *function);

#endif
