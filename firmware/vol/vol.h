/*
 * Volumes: what a host sees as a namespace, over one or more paths: block devices below (RAM, local
 * drive, remote namespace) that hold the same data. A volume is a block device itself.
 *
 * It chooses a path for each request, splits what is too long for the path, waits when no path is
 * there, and tries again what a path could not do, under the rule "retry must not corrupt":
 *  - a request that ended with is_path_error is tried again, on whatever path is usable then, until
 *    the volume's limit (wait_ms) is over; then it ends with Namespace Not Ready without DNR, and
 *    new requests end so at once until a path is usable again;
 *  - a request that changes state and may have been executed waits until the old path is quiet
 *    (quiet_ns). Until then every request that changes state waits, on all paths and on all cores,
 *    since an older one may still take effect after it; reads go on. This holds after a cancel too;
 *  - what is not idempotent (Compare, reservations, and what is unknown) is never sent twice: if it
 *    was sent and may have been executed, it ends with Command Interrupted without DNR.
 * A cancelled request that waits here ends at once with Abort Requested.
 *
 * Geometry: given by configuration, or that of the first path that knows it. A path whose geometry
 * does not fit (block size, size, identifiers, read-only) is not used, and says so. Features and
 * atomic sizes are what all paths can do. A volume whose geometry was known once keeps it while it
 * has no path: present and not ready, not absent.
 *
 * Any core submits; each core has its own part. Paths are chosen in the order in which they were
 * given: the first that is usable.
 */
#ifndef VOL_VOL_H
#define VOL_VOL_H

#include <stdbool.h>
#include <stdint.h>
#include "base/compiler.h"
#include "base/limits.h"
#include "base/status.h"
#include "blk/blk.h"

struct vol;

/* Why a path is not in use, or that it is. */
#define VOL_PATH_STATE_LIST(X)                                                       \
    X(USABLE, "usable")                                                              \
    X(UNKNOWN, "its geometry is not known yet")                                      \
    X(DOWN, "there is no way to it now")                                             \
    X(WRONG_BLOCK_SIZE, "its blocks have another size")                              \
    X(WRONG_SIZE, "it is smaller or larger than the volume")                         \
    X(WRONG_IDENTITY, "its NGUID or UUID is not the one of the volume's other path") \
    X(READ_ONLY, "it cannot be written, the volume can")

enum vol_path_state {
#define VOL_PATH_STATE_ENUM(name, text) VOL_PATH_##name,
    VOL_PATH_STATE_LIST(VOL_PATH_STATE_ENUM)
#undef VOL_PATH_STATE_ENUM
};

const char *vol_path_state_name(enum vol_path_state state); /* "wrong block size" */

struct vol_path_config {
    struct blk_dev *dev; /* its changed() becomes the volume's */
    /* Whether requests would go through now. Any core. NULL: always, once the geometry is known. */
    bool (*is_usable)(const struct blk_dev *dev);
};

struct vol_config {
    const char *name;    /* stays with the caller */
    uint32_t path_count; /* 1..LIMIT_VOLUME_PATHS */
    struct vol_path_config paths[LIMIT_VOLUME_PATHS];
    uint32_t wait_ms; /* how long requests wait for a path; 0: not at all */
    /* Configured geometry; lba_count 0: the path's. */
    uint64_t lba_count;
    uint8_t lba_shift;
    uint8_t uuid[16]; /* what the host sees; all zero: the path's */
    bool is_read_only;
};

/* One for each core that submits: children of split requests, shared by all volumes. `memory`
 * zeroed, 64-byte aligned. Core 0, before volumes are made. */
uint64_t vol_memory_bytes(uint32_t core_count);
void vol_init(void *memory, uint32_t core_count);

/* Size of one volume's memory; fields are in vol/vol_priv.h. */
uint64_t vol_bytes(void);

/* Makes a volume; it follows its paths from now on. Core 0. INVALID: a field. */
MUST_USE enum status vol_create(void *memory, const struct vol_config *config, struct vol **out);

/* No request is under way (its namespace is detached). The memory may be given back. Core 0. */
void vol_destroy(struct vol *vol);

/* The device that a namespace is attached with. */
struct blk_dev *vol_blk(struct vol *vol);

/* Something about a path changed that is not geometry: is_usable() answers anew. Core 0. */
void vol_paths_changed(struct vol *vol);

/* --- reports: core 0, numbers of other cores may be a moment old -------------------------------
 */

#define VOL_STAT_LIST(X)                                                                \
    X(requests, "requests ended")                                                       \
    X(splits, "requests that became several")                                           \
    X(retries, "times that a request was sent again")                                   \
    X(held, "requests that waited for a path")                                          \
    X(quieted, "requests that waited until an older one could have no effect any more") \
    X(interrupted, "ended with Command Interrupted: must not be sent twice")            \
    X(expired, "ended because no path came in time")

struct vol_stats {
#define VOL_STAT_FIELD(name, text) uint64_t name;
    VOL_STAT_LIST(VOL_STAT_FIELD)
#undef VOL_STAT_FIELD
};

struct vol_info {
    const char *name;
    uint32_t path_count;
    struct {
        const char *name;
        enum vol_path_state state;
        uint64_t requests; /* that it has done, or failed */
    } paths[LIMIT_VOLUME_PATHS];
    bool is_ready;     /* a path is usable */
    uint32_t waiting;  /* requests, now */
    uint64_t quiet_ns; /* requests that change state wait until then; 0: they do not */
    struct vol_stats stats;
};

void vol_info(const struct vol *vol, struct vol_info *info);

#endif
