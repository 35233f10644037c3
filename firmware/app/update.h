/*
 * The parts of app that keep images: the store in flash, the update, the confirmation of the image
 * that runs, and the watchdog. Core 0.
 */
#ifndef APP_UPDATE_H
#define APP_UPDATE_H

#include <stdbool.h>
#include <stdint.h>
#include "hal/board.h"
#include "update/update.h"

/* NULL: the board has no flash that can be used. */
struct update *app_update_get(void);
/* Its store. */
struct store *app_update_store(void);
/* An image, a record or a configuration is on its way into flash. */
bool app_update_is_writing(void);

/* Opens the flash, before the configuration is read; takes the memory that messages put the next
 * one into, so that no configuration can leave none. */
void app_update_open(const struct board *board);

/* The configuration's tree in flash, copied into memory that stays. NULL: there is none. */
const void *app_update_config_tree(uint32_t *tree_bytes);

/* Starts the poller; feeds the watchdog from now on, if it runs. When the scheduler is there. */
void app_update_start(void);

/* Resets the board after `delay_ns`, when the flash is idle, or after a minute; the links of
 * functions that touch no memory of their host are told that it leaves (pcie_ep_leave()). Once:
 * later calls change nothing. */
void app_restart(uint64_t delay_ns);
bool app_is_restarting(void);

/* False: the board is about to restart, hosts may wait for it: nothing more goes into flash. */
bool app_update_may_begin(void);

/* The endpoints serve: the image confirms itself when the volumes have paths, or 30 s have passed.
 */
void app_update_serving(void);

#endif
