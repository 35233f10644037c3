/*
 * A device for tests of updates: a flash, the bootloader's choice (bootloader/choose.h), and the
 * firmware's update. The power may go at any operation of the flash; rig->flash says when and
 * whether.
 */
#ifndef UNIT_UPDATE_RIG_H
#define UNIT_UPDATE_RIG_H

#include <stdbool.h>
#include <stdint.h>
#include "tests/model/flash.h"
#include "tests/model/images.h"
#include "update/boot_state.h"
#include "update/store.h"
#include "update/update.h"

#define RIG_BLOCK_BYTES   1024u
#define RIG_PROGRAM_BYTES 256u
#define RIG_SLOT_BYTES    8192u
/* Who sends and commits, where nothing else is said. */
#define RIG_WHO 3u

struct update_rig {
    struct model_flash flash;
    struct store store;
    struct update *update;
    _Alignas(8) uint8_t ram[RIG_SLOT_BYTES];    /* where the bootloader loads an image */
    _Alignas(8) uint8_t buffer[RIG_SLOT_BYTES]; /* where one arrives */
    uint8_t running;
    bool is_trial;
    const struct test_image *image; /* that runs; NULL: none of those that may */
    /* of the last commit */
    uint32_t done_count;
    enum status done_status;
};

const struct test_image *rig_image(const char *name);

/* As it leaves the factory: that image is the active one, in slot 0. */
void rig_init(struct update_rig *rig, const char *image);
void rig_free(struct update_rig *rig);

/* What the bootloader does, then the firmware's start. False: the power went, or nothing starts
 * (running is BOOT_SLOT_NONE then). */
bool rig_boot(struct update_rig *rig);

/* Puts the struct update up anew, as rig_boot() does. */
void rig_start_update(struct update_rig *rig);

/* Time of the update goes on. */
void rig_pass(uint64_t duration_ns);

/* Sends the image, in pieces. */
void rig_send(struct update_rig *rig, const struct test_image *image);

/* Polls until there is nothing to do. Returns the polls that did something. */
uint32_t rig_settle(struct update_rig *rig);

/* Commits and settles; its status, either at once or later. */
enum status rig_commit(struct update_rig *rig, uint32_t actions, uint8_t slot);

/* Sends, replaces and activates. */
enum status rig_install(struct update_rig *rig, const char *image);

/* Polls the store until the operation has ended. */
enum status rig_store_settle(struct store *store);

/* Does the slot hold just that image? */
bool rig_slot_holds(const struct update_rig *rig, uint8_t slot, const struct test_image *image);

#endif
