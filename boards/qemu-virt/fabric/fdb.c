/*
 * Which station is at which port. An address has a few places where it may stand; when all are
 * taken, one of them gives way, so a station that invents addresses costs floods, nothing more.
 */
#include "boards/qemu-virt/fabric/fabric.h"

#include <string.h>

#define PLACES 8

static uint32_t home_of(const uint8_t *mac)
{
    uint32_t hash = 2166136261u; /* FNV-1a */

    for (uint32_t i = 0; i < 6; i++) {
        hash = (hash ^ mac[i]) * 16777619u;
    }
    return hash ^ (hash >> 16);
}

static uint32_t place(uint32_t home, uint32_t i)
{
    return (home + i) & (FABRIC_FDB_ENTRIES - 1);
}

static bool is_group(const uint8_t *mac)
{
    return (mac[0] & 1) != 0;
}

void fabric_fdb_learn(struct fabric_fdb *fdb, const uint8_t *mac, uint32_t port)
{
    uint32_t home = home_of(mac);
    struct fabric_fdb_entry *free = NULL;

    if (is_group(mac)) {
        return;
    }
    for (uint32_t i = 0; i < PLACES; i++) {
        struct fabric_fdb_entry *entry = &fdb->entries[place(home, i)];
        if (entry->used && memcmp(entry->mac, mac, sizeof(entry->mac)) == 0) {
            entry->port = (uint8_t)port;
            return;
        }
        if (!entry->used && free == NULL) {
            free = entry;
        }
    }
    if (free == NULL) {
        free = &fdb->entries[place(home, fdb->next_victim++ % PLACES)];
    } else {
        fdb->count++;
    }
    memcpy(free->mac, mac, sizeof(free->mac));
    free->used = true;
    free->port = (uint8_t)port;
}

uint32_t fabric_fdb_find(const struct fabric_fdb *fdb, const uint8_t *mac)
{
    uint32_t home = home_of(mac);

    for (uint32_t i = 0; !is_group(mac) && i < PLACES; i++) {
        const struct fabric_fdb_entry *entry = &fdb->entries[place(home, i)];
        if (entry->used && memcmp(entry->mac, mac, sizeof(entry->mac)) == 0) {
            return entry->port;
        }
    }
    return FABRIC_FLOOD;
}
