/*
 * Paths of a volume, on core 0: which may be used, and what geometry follows from all of them.
 *
 * The first path that is known says who the volume is: block size, size, identifiers. That stays;
 * paths that are somebody else are not used, not even the first one, should it change.
 */
#include <string.h>
#include "base/assert.h"
#include "vol/vol_priv.h"

/* --- one path -------------------------------------------------------------------------------- */

static bool is_zero(const uint8_t *bytes, uint32_t len_bytes)
{
    for (uint32_t i = 0; i < len_bytes; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

/* Both have one and they differ. */
static bool differ(const uint8_t *a, const uint8_t *b, uint32_t len_bytes)
{
    return memcmp(a, b, len_bytes) != 0 && !is_zero(a, len_bytes) && !is_zero(b, len_bytes);
}

static bool is_other(const struct blk_geometry *a, const struct blk_geometry *b)
{
    return differ(a->nguid, b->nguid, sizeof(a->nguid)) ||
           differ(a->uuid, b->uuid, sizeof(a->uuid)) ||
           differ(a->eui64, b->eui64, sizeof(a->eui64));
}

/* In whole blocks. 0: not even one. */
static uint32_t max_transfer(const struct blk_geometry *geometry)
{
    uint32_t max_bytes =
        geometry->max_transfer_bytes != 0 ? geometry->max_transfer_bytes : UINT32_MAX;

    return max_bytes >> geometry->lba_shift << geometry->lba_shift;
}

static uint64_t own_lba_count(const struct vol *vol)
{
    return vol->config.lba_count != 0 ? vol->config.lba_count
                                      : vol->paths[vol->reference].dev->geometry.lba_count;
}

static enum vol_path_state look(const struct vol *vol, const struct vol_path *path)
{
    const struct blk_geometry *geometry = &path->dev->geometry;

    if (!geometry->known) {
        return VOL_PATH_UNKNOWN;
    }
    if (geometry->lba_shift != vol->lba_shift || max_transfer(geometry) == 0) {
        return VOL_PATH_WRONG_BLOCK_SIZE;
    }
    if (is_other(geometry, &vol->identity)) {
        return VOL_PATH_WRONG_IDENTITY;
    }
    if (geometry->lba_count != own_lba_count(vol)) {
        return VOL_PATH_WRONG_SIZE;
    }
    if (vol->is_writable && (geometry->features & BLK_FEATURE_READ_ONLY) != 0) {
        return VOL_PATH_READ_ONLY;
    }
    return path->is_usable == NULL || path->is_usable(path->dev) ? VOL_PATH_USABLE : VOL_PATH_DOWN;
}

/* --- who the volume is ----------------------------------------------------------------------- */

/* A configured size and block size wait for a path that fits; without, the first known one does. */
static bool may_be_reference(const struct vol *vol, const struct blk_geometry *geometry)
{
    return geometry->known &&
           (vol->config.lba_count == 0 || (geometry->lba_count == vol->config.lba_count &&
                                           geometry->lba_shift == vol->config.lba_shift));
}

static void latch(struct vol *vol)
{
    for (uint32_t i = 0; i < vol->config.path_count && !vol->is_latched; i++) {
        const struct blk_geometry *geometry = &vol->paths[i].dev->geometry;
        if (may_be_reference(vol, geometry)) {
            vol->is_latched = true;
            vol->reference = i;
            vol->identity = *geometry;
            vol->lba_shift = geometry->lba_shift;
            vol->is_writable =
                !vol->config.is_read_only && (geometry->features & BLK_FEATURE_READ_ONLY) == 0;
        }
    }
}

/* --- geometry -------------------------------------------------------------------------------- */

static uint32_t gcd(uint32_t a, uint32_t b)
{
    while (b != 0) {
        uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* What one does not report, nobody promises. */
static uint32_t least(uint32_t a, uint32_t b)
{
    return min_u32(a, b);
}

/* A border for one is a border for all (0: none): gcd() has 0 as the neutral element. */
static void limits_join(struct blk_limits *to, const struct blk_limits *from)
{
    to->atomic_write = least(to->atomic_write, from->atomic_write);
    to->atomic_write_power_fail = least(to->atomic_write_power_fail, from->atomic_write_power_fail);
    to->atomic_compare_write = least(to->atomic_compare_write, from->atomic_compare_write);
    to->atomic_boundary = gcd(to->atomic_boundary, from->atomic_boundary);
    to->atomic_boundary_power_fail =
        gcd(to->atomic_boundary_power_fail, from->atomic_boundary_power_fail);
    to->optimal_boundary = gcd(to->optimal_boundary, from->optimal_boundary);
    to->preferred_write = least(to->preferred_write, from->preferred_write);
    to->preferred_write_align = least(to->preferred_write_align, from->preferred_write_align);
    to->preferred_dealloc = least(to->preferred_dealloc, from->preferred_dealloc);
    to->preferred_dealloc_align = least(to->preferred_dealloc_align, from->preferred_dealloc_align);
    to->optimal_write = least(to->optimal_write, from->optimal_write);
}

#define BLK_FEATURES_OF_ONE (BLK_FEATURE_FLUSH | BLK_FEATURE_READ_ONLY)

/* A cache of one path is to be flushed; it is to be written through when each cache can be. */
static uint32_t features_join(uint32_t a, uint32_t b)
{
    uint32_t either = (a | b) & BLK_FEATURES_OF_ONE;
    bool a_forces = (a & (BLK_FEATURE_FUA | BLK_FEATURE_FLUSH)) != BLK_FEATURE_FLUSH;
    bool b_forces = (b & (BLK_FEATURE_FUA | BLK_FEATURE_FLUSH)) != BLK_FEATURE_FLUSH;

    if (a_forces && b_forces) {
        either |= (a | b) & BLK_FEATURE_FUA;
    }
    return either | (a & b & ~(BLK_FEATURES_OF_ONE | BLK_FEATURE_FUA));
}

static bool is_joined(const struct vol_path *path)
{
    return path->state == VOL_PATH_USABLE || path->state == VOL_PATH_DOWN;
}

/* Of paths that may be used; `geometry` is as it was when there is none. */
static void join(struct vol *vol, struct blk_geometry *geometry)
{
    uint32_t max_bytes = UINT32_MAX;
    bool is_first = true;

    for (uint32_t i = 0; i < vol->config.path_count; i++) {
        const struct blk_geometry *from = &vol->paths[i].dev->geometry;
        if (!is_joined(&vol->paths[i])) {
            continue;
        }
        max_bytes = min_u32(max_bytes, max_transfer(from));
        if (is_first) {
            geometry->features = from->features;
            geometry->limits = from->limits;
            geometry->reservation_types = from->reservation_types;
        } else {
            geometry->features = features_join(geometry->features, from->features);
            limits_join(&geometry->limits, &from->limits);
            geometry->reservation_types &= from->reservation_types;
        }
        is_first = false;
    }
    if (is_first) {
        return;
    }
    /* A split write is atomic part by part. */
    uint32_t part_lbas = max_bytes >> vol->lba_shift;
    struct blk_limits *limits = &geometry->limits;
    limits->atomic_write = min_u32(limits->atomic_write, part_lbas);
    limits->atomic_write_power_fail = min_u32(limits->atomic_write_power_fail, part_lbas);
    limits->atomic_compare_write = min_u32(limits->atomic_compare_write, part_lbas);
    if (vol->config.is_read_only) {
        geometry->features |= BLK_FEATURE_READ_ONLY;
    }
    atomic_store_explicit(&vol->max_bytes, max_bytes, memory_order_relaxed);
}

static void identify(const struct vol *vol, struct blk_geometry *geometry)
{
    if (!is_zero(vol->config.uuid, sizeof(vol->config.uuid))) {
        memcpy(geometry->uuid, vol->config.uuid, sizeof(geometry->uuid));
        return; /* the only name then */
    }
    memcpy(geometry->uuid, vol->identity.uuid, sizeof(geometry->uuid));
    memcpy(geometry->nguid, vol->identity.nguid, sizeof(geometry->nguid));
    memcpy(geometry->eui64, vol->identity.eui64, sizeof(geometry->eui64));
}

static void geometry_update(struct vol *vol)
{
    struct blk_geometry *own = &vol->dev.geometry;
    struct blk_geometry geometry;

    memcpy(&geometry, own, sizeof(geometry)); /* padding too: it is compared */
    if (vol->is_latched) {
        geometry.known = true;
        geometry.lba_shift = vol->lba_shift;
        geometry.lba_count = own_lba_count(vol);
        identify(vol, &geometry);
    }
    join(vol, &geometry);
    if (memcmp(&geometry, own, sizeof(geometry)) != 0) {
        memcpy(own, &geometry, sizeof(geometry));
        if (vol->dev.changed != NULL) {
            vol->dev.changed(&vol->dev, vol->dev.changed_ctx);
        }
    }
}

/* --- all paths ------------------------------------------------------------------------------- */

static void best_set(struct vol *vol, struct vol_path *best)
{
    struct vol_path *old = atomic_load_explicit(&vol->best, memory_order_relaxed);

    if (best == old) {
        return;
    }
    if (best == NULL) {
        atomic_store_explicit(&vol->down_since_ns, sched_now_ns(), memory_order_relaxed);
    }
    /* VOL-BEST: release, after max_bytes and the geometry. */
    atomic_store_explicit(&vol->best, best, memory_order_release);
}

void vol_paths_look(struct vol *vol)
{
    struct vol_path *best = NULL;
    bool has_come = false;

    latch(vol);
    for (uint32_t i = 0; i < vol->config.path_count; i++) {
        struct vol_path *path = &vol->paths[i];
        uint8_t old = path->state;
        bool is_told = vol->is_latched || vol->config.lba_count != 0;
        path->state = (uint8_t)(is_told ? look(vol, path) : VOL_PATH_UNKNOWN);
        if (path->state == VOL_PATH_USABLE && best == NULL) {
            best = path;
        }
        has_come = has_come || (path->state == VOL_PATH_USABLE && old != VOL_PATH_USABLE);
        atomic_store_explicit(&path->max_bytes,
                              is_joined(path) ? max_transfer(&path->dev->geometry) : 0,
                              memory_order_release);
    }
    geometry_update(vol);
    best_set(vol, best);
    for (uint32_t core = 0; has_come && core < sched_core_count(); core++) {
        vol_wake(core);
    }
}

static void path_changed(struct blk_dev *dev, void *ctx)
{
    struct vol_path *path = ctx;

    ASSERT(path->dev == dev);
    vol_paths_look(path->vol);
}

void vol_path_watch(struct vol_path *path)
{
    path->dev->changed = path_changed;
    path->dev->changed_ctx = path;
}

void vol_path_unwatch(struct vol_path *path)
{
    path->dev->changed = NULL;
    path->dev->changed_ctx = NULL;
}
