/*
 * Another image goes on serving the hosts of this one, without a reset of theirs. Core 0.
 */
#ifndef APP_HANDOVER_H
#define APP_HANDOVER_H

#include "app/app_priv.h"

/* Begins after delay_ns, in a later turn (what asked for it is answered meanwhile): every function
 * comes to rest, associations end in order, and the board is restarted with what the next image
 * needs in memory. Functions that do not come to rest within APP_HAND_OVER_MS serve on, and the
 * next image waits for a reset. UNSUPPORTED: it takes one (app_can_hand_over(), or a host has set
 * what is not handed over). AGAIN: under way, or a restart is. */
#define APP_HAND_OVER_MS 1000
MUST_USE enum status app_hand_over(uint64_t delay_ns);

/* False: never, as it is: no image can be stored, the board keeps nothing over a reset, or there
 * are RAM disks, whose content would be gone. `ctx` is not used. */
bool app_can_hand_over(void *ctx);

/* Functions come to rest, or rest: whoever would write to flash waits. */
bool app_is_handing_over(void);

/* At start, before nvme_ep_start(): goes on where the image before ended, if it left something. */
void app_take_over(struct app_function *function);

#endif
