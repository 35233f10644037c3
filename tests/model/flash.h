/*
 * A NOR flash for tests, in the heap: programming only clears bits, an erase sets a block's. Power
 * goes at a chosen operation, in its middle: the block or piece is left as a cut leaves it, drawn
 * from the seed, and nothing is done any more until the power is back. Operations can fail, and
 * take some polls.
 */
#ifndef TESTS_MODEL_FLASH_H
#define TESTS_MODEL_FLASH_H

#include <stdbool.h>
#include <stdint.h>
#include "hal/flash.h"

struct model_flash {
    struct flash flash;
    uint8_t *bytes;
    uint64_t random;
    uint32_t operations; /* erases and programs since power on */
    uint32_t cut_at;     /* power goes at this one, from 1; 0: never */
    uint32_t fail_at;    /* this one fails, half done; 0: none */
    uint32_t fail_count; /* and as many behind it, less one */
    uint32_t busy_polls; /* of each operation */
    bool is_off;
    bool is_unreadable; /* reads give its status: a chip that is busy for longer than it may */
    /* the operation under way */
    uint32_t left_polls;
    bool has_failed;
};

/* Blank. Sizes as in struct flash. */
void model_flash_init(struct model_flash *model, uint64_t len_bytes, uint32_t block_bytes,
                      uint32_t program_bytes);
void model_flash_free(struct model_flash *model);

/* The power is back: counts anew, no cut and no failure planned. What a cut does follows from
 * `seed`. */
void model_flash_power_on(struct model_flash *model, uint64_t seed);

#endif
