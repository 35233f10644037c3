#include "bootloader/place.h"

#include "base/assert.h"
#include "base/bits.h"

void place_add_ram(struct place *place, uint64_t base, uint64_t len_bytes)
{
    ASSERT(place->ram_count < PLACE_RAM_MAX);
    place->ram[place->ram_count++] = (struct place_range){base, len_bytes};
}

void place_take(struct place *place, uint64_t base, uint64_t len_bytes)
{
    ASSERT(place->taken_count < PLACE_TAKEN_MAX);
    place->taken[place->taken_count++] = (struct place_range){base, len_bytes};
}

bool place_is_free(const struct place *place, uint64_t base, uint64_t len_bytes)
{
    bool is_ram = false;

    for (uint32_t i = 0; i < place->ram_count; i++) {
        const struct place_range *ram = &place->ram[i];
        is_ram |= base >= ram->base && range_fits(base - ram->base, len_bytes, ram->len_bytes);
    }
    if (!is_ram || len_bytes == 0) {
        return false;
    }
    /* In RAM: no sum below wraps. */
    for (uint32_t i = 0; i < place->taken_count; i++) {
        const struct place_range *taken = &place->taken[i];
        if (base < taken->base + taken->len_bytes && taken->base < base + len_bytes) {
            return false;
        }
    }
    return true;
}
