/*
 * The flash of flash.h. A cut erase leaves, piece by piece, old bytes, blank ones or a mixture of
 * bits; a cut program leaves some words done, one with some of its bits, the rest as they were.
 */
#include "tests/model/flash.h"

#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "base/bits.h"

/* What the cell array of a cut erase looks alike over. */
#define MIXED_BYTES 64u

static uint64_t draw(struct model_flash *model)
{
    uint64_t x = model->random;

    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    model->random = x;
    return x;
}

static void half_erase(struct model_flash *model, uint8_t *block)
{
    uint64_t kind = draw(model) % 5; /* hardly begun, hardly to do, or piece by piece */

    for (uint32_t at = 0; at < model->flash.block_bytes; at += MIXED_BYTES) {
        uint64_t how = kind < 3 ? kind : draw(model) % 3;
        for (uint32_t i = 0; i < MIXED_BYTES && how != 0; i++) {
            block[at + i] |= how == 1 ? 0xff : (uint8_t)draw(model);
        }
    }
}

static void program(uint8_t *to, const uint8_t *from, uint32_t len_bytes)
{
    for (uint32_t i = 0; i < len_bytes; i++) {
        to[i] &= from[i];
    }
}

/* From the start on, or here and there: a device may write its buffer in any order. */
static void half_program(struct model_flash *model, uint8_t *to, const uint8_t *from,
                         uint32_t len_bytes)
{
    uint32_t words = len_bytes / 4;
    uint32_t half = (uint32_t)(draw(model) % words);
    bool is_in_order = draw(model) % 2 == 0;

    for (uint32_t word = 0; word < words; word++) {
        if (is_in_order ? word < half : word != half && draw(model) % words > 1) {
            program(to + word * 4, from + word * 4, 4);
        }
    }
    for (uint32_t i = half * 4; i < half * 4 + 4; i++) {
        to[i] &= from[i] | (uint8_t)draw(model);
    }
}

/* Counts one. False: it is not done, or not wholly: *is_half. */
static bool begin(struct model_flash *model, bool *is_half)
{
    ASSERT(model->left_polls == 0); /* one at a time */
    *is_half = false;
    if (model->is_off) {
        return false;
    }
    model->operations++;
    model->left_polls = model->busy_polls;
    model->has_failed = model->fail_at != 0 && model->operations >= model->fail_at &&
                        model->operations < model->fail_at + model->fail_count;
    model->is_off = model->operations == model->cut_at;
    *is_half = model->has_failed || model->is_off;
    return !*is_half;
}

static struct model_flash *model_of(struct flash *flash)
{
    return CONTAINER_OF(flash, struct model_flash, flash);
}

static void flash_read(struct flash *flash, uint64_t offset, void *out, uint32_t len_bytes)
{
    struct model_flash *model = model_of(flash);

    ASSERT(range_fits(offset, len_bytes, flash->len_bytes));
    ASSERT(model->left_polls == 0);
    if (model->is_unreadable) {
        memset(out, 0x80, len_bytes);
        return;
    }
    memcpy(out, model->bytes + offset, len_bytes);
}

static void flash_erase(struct flash *flash, uint64_t offset)
{
    struct model_flash *model = model_of(flash);
    bool is_half;

    ASSERT(is_aligned(offset, flash->block_bytes) && offset < flash->len_bytes);
    if (begin(model, &is_half)) {
        memset(model->bytes + offset, 0xff, flash->block_bytes);
    } else if (is_half) {
        half_erase(model, model->bytes + offset);
    }
}

static void flash_program(struct flash *flash, uint64_t offset, const void *data,
                          uint32_t len_bytes)
{
    struct model_flash *model = model_of(flash);
    bool is_half;

    ASSERT(len_bytes > 0 && len_bytes % 4 == 0 && offset % 4 == 0);
    ASSERT(range_fits(offset, len_bytes, flash->len_bytes));
    ASSERT(offset / flash->program_bytes == (offset + len_bytes - 1) / flash->program_bytes);
    if (begin(model, &is_half)) {
        program(model->bytes + offset, data, len_bytes);
    } else if (is_half) {
        half_program(model, model->bytes + offset, data, len_bytes);
    }
}

/* Without power there is no answer, as on a bus to nothing. */
static enum status flash_poll(struct flash *flash)
{
    struct model_flash *model = model_of(flash);

    if (model->left_polls > 0) {
        model->left_polls--;
        return STATUS_AGAIN;
    }
    bool has_failed = model->has_failed || model->is_off;
    model->has_failed = false;
    return has_failed ? STATUS_IO : STATUS_OK;
}

void model_flash_init(struct model_flash *model, uint64_t len_bytes, uint32_t block_bytes,
                      uint32_t program_bytes)
{
    static const struct flash_ops ops = {
        .read = flash_read, .erase = flash_erase, .program = flash_program, .poll = flash_poll};

    memset(model, 0, sizeof(*model));
    model->flash = (struct flash){.ops = &ops,
                                  .len_bytes = len_bytes,
                                  .block_bytes = block_bytes,
                                  .program_bytes = program_bytes};
    model->bytes = malloc(len_bytes);
    ASSERT(model->bytes != NULL);
    memset(model->bytes, 0xff, len_bytes);
    model_flash_power_on(model, 1);
}

void model_flash_free(struct model_flash *model)
{
    free(model->bytes);
    model->bytes = NULL;
}

void model_flash_power_on(struct model_flash *model, uint64_t seed)
{
    model->random = seed * 0x9e3779b97f4a7c15u + 1;
    model->operations = 0;
    model->cut_at = 0;
    model->fail_at = 0;
    model->fail_count = 1;
    model->is_off = false;
    model->left_polls = 0;
    model->has_failed = false;
}
