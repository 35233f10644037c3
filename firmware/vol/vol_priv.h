/*
 * Inside of volumes: paths (vol_path.c, core 0), requests (vol_io.c, any core), parts of requests
 * that are too long for a path (vol_split.c), and what a core has for all volumes.
 *
 * A request waits in a list of its volume's part on its core. The core looks at what waits when
 * core 0 says that a path came, when a request has another path to go, and every VOL_LOOK_NS while
 * anything waits: that bounds how late a deadline or the end of a quiet time is seen.
 */
#ifndef VOL_VOL_PRIV_H
#define VOL_VOL_PRIV_H

#include <stdatomic.h>
#include "base/bits.h"
#include "base/list.h"
#include "base/pool.h"
#include "sched/sched.h"
#include "vol/vol.h"

/* Parts that one function may have under way on a core: some are left for each other one. */
#define VOL_PARTS_OF_FUNCTION (LIMIT_VOLUME_CHILDREN - 8 * (LIMIT_FUNCTIONS - 1))

#define VOL_LOOK_NS (UINT64_C(5) * 1000 * 1000)

struct vol_path {
    struct vol *vol;
    struct blk_dev *dev;
    bool (*is_usable)(const struct blk_dev *dev);
    uint32_t index;
    uint8_t state; /* enum vol_path_state; core 0 */
    /* Longest transfer on it; 0: it must not be used, whatever is_usable says. Core 0 writes. */
    _Atomic uint32_t max_bytes;
};

/* A volume's part on one core, which owns all of it but for reads by reports. */
struct vol_core {
    CACHE_ALIGNED struct list waiting; /* requests, by their link */
    struct list link;                  /* in vol_home.waiting while anything waits */
    struct vol *vol;
    _Atomic uint64_t waiting_count;
    _Atomic uint64_t path_requests[LIMIT_VOLUME_PATHS]; /* that came back from it */
    /* What is to be added to the sum of those for requests that ended: others that ended, less
     * parts and what was sent again. */
    _Atomic uint64_t ended;
    struct {
#define VOL_CORE_STAT(name, text) _Atomic uint64_t name;
        VOL_STAT_LIST(VOL_CORE_STAT)
#undef VOL_CORE_STAT
    } stats;
};

struct vol {
    struct blk_dev dev;
    /* Read by every request, written by core 0 (quiet_ns: by all) when something happens. */
    CACHE_ALIGNED struct vol_path *_Atomic best; /* NULL: no path is usable */
    _Atomic uint64_t quiet_ns;                   /* 0: nothing has to be waited for */
    _Atomic uint64_t down_since_ns;              /* while best is NULL */
    _Atomic uint32_t max_bytes;                  /* the least of the paths */
    uint8_t lba_shift;                           /* fixed once the geometry is known */
    uint64_t wait_ns;
    struct vol_path paths[LIMIT_VOLUME_PATHS];
    /* Core 0. */
    struct vol_config config;
    bool is_latched; /* the geometry is known: `identity` is what every path has to be */
    bool is_writable;
    uint32_t reference; /* the path whose size the volume has; path_count: none */
    struct blk_geometry identity;
    struct vol_core cores[LIMIT_CORES];
};

/* What a core has for all volumes. */
struct vol_home {
    CACHE_ALIGNED struct list waiting;   /* parts of volumes in which something waits */
    struct list hungry[LIMIT_FUNCTIONS]; /* split requests of which a part is not yet sent */
    uint32_t hungry_next;                /* the function whose turn it is */
    struct pool children;
    uint32_t child_counts[LIMIT_FUNCTIONS]; /* in use, by function */
    struct timer look;
    struct msg wake;
    _Atomic bool is_woken; /* `wake` is under way */
    bool is_feeding;
};

/* --- a request --------------------------------------------------------------------------------
 */

/* What a volume keeps in blk_req.outer_priv. */
struct vol_outer {
    struct vol_path *path; /* which it is on, or was last */
    uint64_t limit_ns;     /* it waits until then; 0: it never had to */
    uint8_t flags;         /* VOL_REQ_* */
    uint8_t tries;         /* that failed since it waited */
};
_Static_assert(sizeof(struct vol_outer) <= sizeof(((struct blk_req *)0)->outer_priv), "outer_priv");

#define VOL_REQ_WAITING   BIT32(0) /* here, in a list */
#define VOL_REQ_SPLIT     BIT32(1) /* its children are under way, it is not */
#define VOL_REQ_CHILD     BIT32(2)
#define VOL_REQ_CANCELLED BIT32(3)
#define VOL_REQ_FAILED    BIT32(4) /* outer.path failed it: others first */
#define VOL_REQ_HELD      BIT32(5) /* counted so, once */
#define VOL_REQ_QUIETED   BIT32(6) /* likewise */

ALWAYS_INLINE struct vol_outer *vol_outer(struct blk_req *req)
{
    return (struct vol_outer *)(void *)req->outer_priv;
}

ALWAYS_INLINE struct vol_core *vol_core(struct vol *vol, const struct blk_req *req)
{
    return &vol->cores[req->owner_core];
}

/* Ends a request towards who submitted it. */
void vol_end(struct vol *vol, struct blk_req *req, nvme_status_t status);

/* Takes a request on its way: sends, splits, lets it wait, or ends it. */
void vol_start(struct vol *vol, struct blk_req *req);

/* Makes it the volume's, for vol_start(). */
void vol_begin(struct blk_req *req, uint8_t flags);

void vol_cancel(struct blk_dev *dev, struct blk_req *req);

/* All that waits on the calling core, whose home it is, tries again. */
void vol_look(struct vol_home *home);

extern const struct blk_ops vol_ops;

/* --- cores ------------------------------------------------------------------------------------
 */

struct vol_home *vol_home(uint32_t core);

/* Lets the calling core, or another, look at what waits, soon. Any core. */
void vol_wake(uint32_t core);

/* --- parts of requests ------------------------------------------------------------------------
 */

/* A command that goes by LBA, and longer than what every path takes. */
bool vol_must_split(const struct vol *vol, const struct blk_req *req);
/* Ends in vol_end() when all parts have ended; the first failure is its status. */
void vol_split(struct vol *vol, struct blk_req *req);
void vol_split_cancel(struct vol *vol, struct blk_req *req);
uint64_t vol_split_memory_bytes(void);
void vol_split_init(struct vol_home *home, void *memory);

/* --- paths: core 0 ----------------------------------------------------------------------------
 */

/* Looks at every path anew; wakes who waits; tells who watches the volume. */
void vol_paths_look(struct vol *vol);

/* Its device's changed() leads to vol_paths_look(), or to nobody any more. */
void vol_path_watch(struct vol_path *path);
void vol_path_unwatch(struct vol_path *path);

#endif
