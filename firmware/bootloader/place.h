/*
 * Where an image may be put: in RAM, and over nothing that the start still needs. Pure functions.
 */
#ifndef BOOTLOADER_PLACE_H
#define BOOTLOADER_PLACE_H

#include <stdbool.h>
#include <stdint.h>

#define PLACE_RAM_MAX   4u
#define PLACE_TAKEN_MAX 8u

struct place_range {
    uint64_t base;
    uint64_t len_bytes;
};

struct place {
    struct place_range ram[PLACE_RAM_MAX];
    uint32_t ram_count;
    struct place_range taken[PLACE_TAKEN_MAX];
    uint32_t taken_count;
};

/* Panic beyond the limits, which are the board's code to know. */
void place_add_ram(struct place *place, uint64_t base, uint64_t len_bytes);
void place_take(struct place *place, uint64_t base, uint64_t len_bytes);

/* All of it is RAM of one bank, and none of it is taken. Any numbers. */
bool place_is_free(const struct place *place, uint64_t base, uint64_t len_bytes);

#endif
