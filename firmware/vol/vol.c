/*
 * Volumes: what cores have for all of them, making one, reports. See vol.h.
 */
#include "vol/vol.h"

#include <string.h>
#include "base/assert.h"
#include "hal/cpu.h"
#include "vol/vol_priv.h"

/* --- cores ----------------------------------------------------------------------------------- */

static struct vol_home *homes;
static uint32_t home_count;

uint64_t vol_memory_bytes(uint32_t core_count)
{
    return core_count * (sizeof(struct vol_home) + vol_split_memory_bytes());
}

struct vol_home *vol_home(uint32_t core)
{
    ASSERT(core < home_count);
    return &homes[core];
}

static void look_timer(struct timer *timer)
{
    vol_look(CONTAINER_OF(timer, struct vol_home, look));
}

static void look_asked(struct msg *msg)
{
    struct vol_home *home = CONTAINER_OF(msg, struct vol_home, wake);

    /* VOL-WAKE: takes it before it looks. Whoever finds it set has changed something that this look
     * will see. */
    atomic_exchange_explicit(&home->is_woken, false, memory_order_acq_rel);
    vol_look(home);
}

void vol_wake(uint32_t core)
{
    struct vol_home *home = vol_home(core);

    /* VOL-WAKE: after what was changed. */
    if (!atomic_exchange_explicit(&home->is_woken, true, memory_order_acq_rel)) {
        home->wake.fn = look_asked;
        msg_send(core, &home->wake);
    }
}

void vol_init(void *memory, uint32_t core_count)
{
    uint8_t *children = (uint8_t *)memory + core_count * sizeof(struct vol_home);

    ASSERT(core_count <= LIMIT_CORES);
    homes = memory;
    home_count = core_count;
    for (uint32_t i = 0; i < core_count; i++) {
        list_init(&homes[i].waiting);
        timer_init(&homes[i].look, look_timer);
        vol_split_init(&homes[i], children + i * vol_split_memory_bytes());
    }
}

/* --- one volume ------------------------------------------------------------------------------ */

uint64_t vol_bytes(void)
{
    return sizeof(struct vol);
}

/* One volume a device, and once: it has one place for who is told of changes. */
static bool is_free(const struct vol_config *config, uint32_t path)
{
    const struct blk_dev *dev = config->paths[path].dev;

    for (uint32_t i = 0; i < path; i++) {
        if (config->paths[i].dev == dev) {
            return false;
        }
    }
    return dev != NULL && dev->changed == NULL;
}

static bool is_valid(const struct vol_config *config)
{
    if (config->name == NULL || config->path_count == 0 ||
        config->path_count > LIMIT_VOLUME_PATHS) {
        return false;
    }
    if (config->lba_count != 0 && config->lba_shift != 9 && config->lba_shift != 12) {
        return false;
    }
    for (uint32_t i = 0; i < config->path_count; i++) {
        if (!is_free(config, i)) {
            return false;
        }
    }
    return true;
}

/* A configured size is known from the start. What is not known of the paths yet is not promised,
 * but for the cache: a Flush too many harms nobody. */
static void geometry_first(struct vol *vol)
{
    struct blk_geometry *geometry = &vol->dev.geometry;

    vol->lba_shift = vol->config.lba_shift;
    if (vol->config.lba_count == 0) {
        return;
    }
    geometry->known = true;
    geometry->lba_count = vol->config.lba_count;
    geometry->lba_shift = vol->config.lba_shift;
    geometry->features = BLK_FEATURE_FLUSH | (vol->config.is_read_only ? BLK_FEATURE_READ_ONLY : 0);
    memcpy(geometry->uuid, vol->config.uuid, sizeof(geometry->uuid));
}

enum status vol_create(void *memory, const struct vol_config *config, struct vol **out)
{
    struct vol *vol = memory;

    if (!is_valid(config)) {
        return STATUS_INVALID;
    }
    memset(vol, 0, sizeof(*vol));
    vol->config = *config;
    vol->wait_ns = config->wait_ms * UINT64_C(1000000);
    vol->reference = config->path_count;
    vol->dev.ops = &vol_ops;
    vol->dev.name = config->name;
    atomic_init(&vol->down_since_ns, sched_now_ns());
    atomic_init(&vol->max_bytes, UINT32_MAX);
    geometry_first(vol);
    for (uint32_t i = 0; i < LIMIT_CORES; i++) {
        vol->cores[i].vol = vol;
        list_init(&vol->cores[i].waiting);
        list_init(&vol->cores[i].link);
    }
    for (uint32_t i = 0; i < config->path_count; i++) {
        vol->paths[i].vol = vol;
        vol->paths[i].index = i;
        vol->paths[i].dev = config->paths[i].dev;
        vol->paths[i].is_usable = config->paths[i].is_usable;
        vol->paths[i].state = VOL_PATH_UNKNOWN;
        vol_path_watch(&vol->paths[i]);
    }
    vol_paths_look(vol);
    *out = vol;
    return STATUS_OK;
}

void vol_destroy(struct vol *vol)
{
    for (uint32_t i = 0; i < vol->config.path_count; i++) {
        vol_path_unwatch(&vol->paths[i]);
    }
    for (uint32_t i = 0; i < LIMIT_CORES; i++) {
        ASSERT(counter_get(&vol->cores[i].waiting_count) == 0);
    }
}

struct blk_dev *vol_blk(struct vol *vol)
{
    return &vol->dev;
}

void vol_paths_changed(struct vol *vol)
{
    vol_paths_look(vol);
}

/* --- reports --------------------------------------------------------------------------------- */

const char *vol_path_state_name(enum vol_path_state state)
{
    static const char *const names[] = {
        [VOL_PATH_USABLE] = "usable",
        [VOL_PATH_UNKNOWN] = "unknown",
        [VOL_PATH_DOWN] = "down",
        [VOL_PATH_WRONG_BLOCK_SIZE] = "wrong block size",
        [VOL_PATH_WRONG_SIZE] = "wrong size",
        [VOL_PATH_WRONG_IDENTITY] = "wrong identity",
        [VOL_PATH_READ_ONLY] = "read only",
    };
    return names[state];
}

void vol_info(const struct vol *vol, struct vol_info *info)
{
    *info = (struct vol_info){
        .name = vol->dev.name,
        .path_count = vol->config.path_count,
        .is_ready = atomic_load_explicit(&vol->best, memory_order_relaxed) != NULL,
        .quiet_ns = counter_get(&vol->quiet_ns),
    };
    if (info->quiet_ns <= sched_now_ns()) {
        info->quiet_ns = 0; /* the next that changes something finds out */
    }
    for (uint32_t i = 0; i < vol->config.path_count; i++) {
        info->paths[i].name = vol->paths[i].dev->name;
        info->paths[i].state = (enum vol_path_state)vol->paths[i].state;
    }
    for (uint32_t c = 0; c < LIMIT_CORES; c++) {
        const struct vol_core *core = &vol->cores[c];
        info->waiting += (uint32_t)counter_get(&core->waiting_count);
#define ADD_STAT(name, text) info->stats.name += counter_get(&core->stats.name);
        VOL_STAT_LIST(ADD_STAT)
#undef ADD_STAT
        info->stats.requests += counter_get(&core->ended);
        for (uint32_t i = 0; i < vol->config.path_count; i++) {
            info->paths[i].requests += counter_get(&core->path_requests[i]);
            info->stats.requests += counter_get(&core->path_requests[i]);
        }
    }
}
