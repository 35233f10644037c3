/*
 * Which slot is started, and what the boot record says before and after: rules alone, on top of
 * update/boot_state.h. No hardware: images are loaded by an operation of the caller.
 *
 *   - The trial, if it has attempts left, which are counted in flash before it starts; else the
 *     active slot. An image that does not verify is rejected in the record; then the next.
 *   - No record at all (a new flash): slot A, else B, which becomes the active one.
 *   - Nothing that verifies: BOOT_SLOT_NONE, and the record keeps why.
 *
 * Flash that fails to take a record costs the trial, never the start of what was active. Flash that
 * cannot be read costs the start, and no image: nothing is rejected then.
 */
#ifndef BOOTLOADER_CHOOSE_H
#define BOOTLOADER_CHOOSE_H

#include <stdbool.h>
#include <stdint.h>
#include "update/image.h"
#include "update/store.h"

/* What was loaded. */
struct choose_image {
    struct boot_image_head head;
    uint32_t fit_bytes;
};

/* Checks the slot's image and puts it where it runs, *image filled in: IMAGE_OK, or why not. */
typedef enum image_fault choose_load_fn(void *ctx, uint8_t slot, uint32_t min_security_version,
                                        struct choose_image *image);

struct choice {
    uint8_t slot; /* it is loaded; BOOT_SLOT_NONE: neither */
    bool is_trial;
    uint8_t attempts_left;
};

/* `store` is opened and idle. Waits for the flash: as long as its operations may take. */
struct choice choose_slot(struct store *store, choose_load_fn *load, void *ctx);

#endif
