/*
 * Inside of nvme_drv: its objects, who owns them, and what its files call of each other.
 *
 *   nvme_drv.c           drives, public calls, memory
 *   nvme_drv_state.c     reset, enable, watch: the state machine of a drive (core 0)
 *   nvme_drv_identify.c  bring-up states that ask the drive what it is; namespaces (core 0)
 *   nvme_drv_admin.c     admin queue, asynchronous events, aborts (core 0)
 *   nvme_drv_io.c        requests to commands to completions (each core its queue)
 *   nvme_drv_queue.c     life of an I/O queue: stop, drain, start, deadlines, cancel (its core)
 *   nvme_drv_map.c       PRP lists, SGLs, where to split, when to bounce (no state)
 */
#ifndef NVME_DRV_NVME_DRV_PRIV_H
#define NVME_DRV_NVME_DRV_PRIV_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/counter.h"
#include "base/limits.h"
#include "base/list.h"
#include "base/pool.h"
#include "blk/blk.h"
#include "hal/mmio.h"
#include "hal/pcie_rc.h"
#include "nvme_drv/nvme_drv.h"
#include "nvme_drv/nvme_drv_ring.h"
#include "sched/sched.h"
#include "spec/nvme.h"
#include "spec/nvme_identify.h"
#include "spec/nvme_log.h"

#define NVME_DRV_PAGE_BYTES 4096u /* CC.MPS 0 */

/* --- sizes --------------------------------------------------------------------------------- */

#define NVME_DRV_QUEUE_ENTRIES 256 /* I/O queues; one command fewer can be under way */
#define NVME_DRV_NAMESPACES    16  /* of one drive */
#define NVME_DRV_ADMIN_ENTRIES 16
#define NVME_DRV_ABORT_SLOTS   4 /* Abort commands at a time, if the drive takes so many */

/* Per core, shared by all drives. */
#define NVME_DRV_SMALL_LISTS      LIMIT_COMMANDS_PER_CORE
#define NVME_DRV_SMALL_LIST_BYTES 256 /* 32 PRPs: 128 KiB; 16 SGL descriptors */
#define NVME_DRV_BIG_LISTS        LIMIT_BIG_COMMANDS_PER_CORE
#define NVME_DRV_BIG_LIST_BYTES   4096 /* 512 PRPs, never chained; 256 descriptors */
#define NVME_DRV_BOUNCES          16
#define NVME_DRV_BOUNCE_BYTES     8192 /* two pages: PRP 1 and PRP 2 suffice */
#define NVME_DRV_SPLITS           128

_Static_assert(NVME_DRV_BIG_LIST_BYTES / 8 + 1 >= LIMIT_SEGS, "one PRP list page is enough");
_Static_assert(NVME_DRV_QUEUE_ENTRIES == 256, "a CID is 8 bits of index, 8 bits of generation");

/* --- memory that drives read and write ------------------------------------------------------ */

struct nvme_drv_dma { /* of one drive */
    ALIGNED(4096) struct nvme_sqe io_sqes[LIMIT_CORES][NVME_DRV_QUEUE_ENTRIES];
    ALIGNED(4096) struct nvme_cqe io_cqes[LIMIT_CORES][NVME_DRV_QUEUE_ENTRIES];
    ALIGNED(4096) struct nvme_sqe admin_sqes[NVME_DRV_ADMIN_ENTRIES];
    ALIGNED(4096) struct nvme_cqe admin_cqes[NVME_DRV_ADMIN_ENTRIES];
    /* Of the one Identify or Get Log Page under way. The drive can change it at any time. */
    ALIGNED(4096) union {
        uint8_t bytes[NVME_IDENTIFY_BYTES];
        uint32_t nsids[NVME_NS_LIST_ENTRIES];
        struct nvme_identify_ctrl ctrl;
        struct nvme_identify_ns ns;
        struct nvme_smart_log smart;
        struct nvme_changed_ns_log changed_ns;
    } data;
};
_Static_assert(sizeof(struct nvme_cqe) * NVME_DRV_QUEUE_ENTRIES % 4096 == 0,
               "every queue begins on a page");

ALWAYS_INLINE uint64_t nvme_drv_bus_addr(const void *ptr)
{
    return (uint64_t)(uintptr_t)ptr; /* devices see memory where we do: base/mem_ref.h */
}

/* --- I/O: each queue belongs to its core ------------------------------------------------------ */

/* Pools of one core, shared by its queues on all drives. */
struct nvme_drv_pools {
    CACHE_ALIGNED struct pool small_lists;
    struct pool big_lists;
    struct pool bounces;
    struct pool splits;
};

/* Where a walk over the data of a request stands. */
struct nvme_drv_cursor {
    uint32_t offset_bytes;     /* in the request */
    uint32_t seg_offset_bytes; /* in segment `seg` */
    uint32_t seg;
};

enum nvme_drv_how {
    NVME_DRV_NO_DATA,
    NVME_DRV_PRP,
    NVME_DRV_SGL,
    NVME_DRV_BOUNCE,
    NVME_DRV_CANNOT,
};

/* One command's share of a request. */
struct nvme_drv_part {
    enum nvme_drv_how how;
    uint32_t len_bytes;
    uint32_t entry_count; /* PRP: pages; SGL: descriptors */
};

/* What the drive's Identify data says about commands; written by core 0 while queues are stopped.
 */
struct nvme_drv_caps {
    uint32_t max_bytes; /* of one command: a power of two, 8 KiB..LIMIT_TRANSFER_BYTES */
    bool sgl;
    uint8_t sgl_align_mask; /* 3: addresses and lengths in dwords */
};

/* A request that became several commands. */
struct nvme_drv_split {
    struct blk_req *req;
    struct nvme_drv_cursor cursor; /* what comes next */
    uint64_t deadline_ns;
    uint32_t outstanding;
    uint32_t dw0;
    uint32_t dw1;
    nvme_status_t status; /* the first error */
    bool is_stopped;      /* nothing more is to be submitted */
    bool is_waiting;      /* the request is in the queue's waiting list */
};

enum nvme_drv_slot_state {
    NVME_DRV_SLOT_FREE,
    NVME_DRV_SLOT_BUSY,
    NVME_DRV_SLOT_ABORTING, /* an Abort is on its way; the deadline is now that of the abort */
    NVME_DRV_SLOT_LOST,     /* a reset was asked for */
};

enum nvme_drv_extra {
    NVME_DRV_EXTRA_NONE,
    NVME_DRV_EXTRA_SMALL_LIST,
    NVME_DRV_EXTRA_BIG_LIST,
    NVME_DRV_EXTRA_BOUNCE,
};

/* One command under way. */
struct nvme_drv_slot {
    struct blk_req *req;
    struct nvme_drv_split *split; /* NULL: the command is the whole request */
    void *extra;                  /* list or bounce buffer */
    uint64_t deadline_ns;         /* 0: the watch timer has not seen the command yet */
    uint32_t offset_bytes;        /* of a bounced part in the request */
    uint32_t bounce_bytes;
    uint16_t cid;  /* index, and a generation that each use moves on */
    uint16_t next; /* free list */
    uint8_t state; /* enum nvme_drv_slot_state */
    uint8_t extra_kind;
    bool is_late; /* its own deadline, not a cancel, led to the abort */
    uint8_t reserved;
};

enum nvme_drv_mode {
    NVME_DRV_MODE_OFF,  /* requests end at once: Namespace Not Ready */
    NVME_DRV_MODE_HOLD, /* requests wait */
    NVME_DRV_MODE_RUN,
};

/* What core 0 tells the core of a queue. */
enum nvme_drv_verb {
    NVME_DRV_VERB_STOP,       /* submit nothing more; requests wait */
    NVME_DRV_VERB_DRAIN_HOLD, /* end what is under way */
    NVME_DRV_VERB_DRAIN_OFF,  /* and what waits */
    NVME_DRV_VERB_START,
};

#define NVME_DRV_NO_SLOT     0xffff
#define NVME_DRV_ABORT_WORDS (NVME_DRV_QUEUE_ENTRIES / 64)

struct nvme_drv_queue {
    /* Per I/O. */
    CACHE_ALIGNED struct nvme_drv_sq sq;
    struct nvme_drv_cq cq;
    struct mmio regs;
    struct nvme_drv_slot *slots;
    struct list waiting; /* requests in order of arrival; see nvme_drv_io.c for their priv[] */
    uint16_t free_slot;
    uint16_t qid;
    uint32_t in_flight;
    uint8_t mode;    /* enum nvme_drv_mode */
    bool is_broken;  /* sent a completion that cannot be; trusted again after the next reset */
    bool is_watched; /* the timer is armed */
    uint8_t core;
    struct nvme_drv_caps caps;
    struct nvme_drv_pools *pools;
    struct nvme_drv *drv;
    _Atomic uint64_t command_count;

    /* Rarer. */
    _Atomic uint64_t split_count;
    _Atomic uint64_t bounced_bytes;
    _Atomic uint64_t error_count;
    _Atomic uint64_t timeout_count;
    _Atomic uint64_t abort_count;
    _Atomic uint64_t bad_completion_count;
    struct timer watch;

    /* From core 0 and back: one order at a time. */
    struct msg order;
    enum nvme_drv_verb verb;

    /* To core 0: commands to abort, and a wish for a reset. */
    CACHE_ALIGNED struct msg call;
    atomic_bool is_calling; /* `call` is on its way */
    atomic_bool wants_reset;
    _Atomic uint64_t abort_bits[NVME_DRV_ABORT_WORDS];
    _Atomic uint16_t abort_cids[NVME_DRV_QUEUE_ENTRIES];
};

/* --- a drive: core 0, but for what is said otherwise ------------------------------------------ */

struct nvme_drv_ns {
    struct blk_dev dev;
    struct nvme_drv *drv;
    uint32_t nsid;              /* 0: free entry */
    _Atomic uint32_t lba_shift; /* 0: not usable now. Any core reads it */
    struct nvme_drv_queue *queues[LIMIT_CORES];
    bool is_found;  /* seen at least once */
    bool is_listed; /* in the list that is being worked through */
    char name[16];
};

enum nvme_drv_admin_slot_use {
    NVME_DRV_ADMIN_STEP,  /* what the state machine waits for */
    NVME_DRV_ADMIN_EVENT, /* Asynchronous Event Request */
    NVME_DRV_ADMIN_ABORT, /* the first of NVME_DRV_ABORT_SLOTS */
    NVME_DRV_ADMIN_SLOTS = NVME_DRV_ADMIN_ABORT + NVME_DRV_ABORT_SLOTS,
};

struct nvme_drv_admin {
    struct nvme_drv_sq sq;
    struct nvme_drv_cq cq;
    struct {
        uint16_t cid;
        bool is_busy;
    } slots[NVME_DRV_ADMIN_SLOTS];
    uint8_t abort_slot_count;
    bool step_is_issued;
    bool step_is_done;
    nvme_status_t step_status;
    uint32_t step_dw0;
    uint64_t step_deadline_ns;
    /* Aborts that wait for a slot: as the queues' abort_bits. */
    uint64_t abort_bits[LIMIT_CORES][NVME_DRV_ABORT_WORDS];
    bool abort_waits;
};

struct nvme_drv {
    struct nvme_drv_queue queues[LIMIT_CORES];
    struct nvme_drv_admin admin;
    struct mmio regs;
    const struct pcie_rc_device *device;
    struct nvme_drv_dma *dma;
    uint32_t index;  /* in our table */
    uint32_t number; /* as nvme_drv_device() counts: part of the name */
    uint32_t core_count;
    char name[16];

    enum nvme_drv_state state;
    enum nvme_drv_state verdict; /* FAILED or REMOVED: where DRAINING leads; else BACKOFF */
    bool is_entered;             /* the state function ran before */
    uint64_t state_since_ns;
    uint64_t look_ns; /* registers are not read before */
    uint64_t ready_since_ns;
    uint64_t rest_until_ns;   /* READY: not looked at before, unless somebody asks */
    const char *reset_reason; /* not NULL: somebody asks for a reset */
    bool was_up;              /* has been READY since the last reset */
    uint32_t failed_attempts; /* since the drive was ready last */
    uint32_t flaps;           /* resets that came soon after it got ready */
    uint32_t orders_pending;  /* cores that have not answered */
    uint32_t queue_index;     /* CREATE_CQ, CREATE_SQ */

    /* From CAP and Identify. */
    uint64_t ready_timeout_ns;
    uint32_t stride_bytes;
    uint32_t queue_entries;
    uint32_t features;        /* BLK_FEATURE_* */
    struct blk_limits limits; /* the controller's: of namespaces that have none of their own */
    uint32_t events;          /* what SET_EVENTS asks for */
    struct nvme_drv_caps caps;

    /* Asynchronous events. */
    bool event_waits;
    uint8_t event_log;
    uint64_t
        event_ns; /* not handled before: a drive that reports without end must not keep us busy */

    /* Namespaces. */
    struct nvme_drv_ns ns[NVME_DRV_NAMESPACES];
    uint32_t scan[NVME_DRV_NAMESPACES];
    uint32_t scan_count;
    uint32_t scan_index;
    struct blk_geometry draft;
    void (*found)(struct blk_dev *dev, uint32_t nsid, void *ctx);
    void *found_ctx;

    uint64_t event_count;
    uint64_t reset_count;
    uint64_t bad_completion_count;
    uint8_t critical_warning;
};

/* --- nvme_drv.c ------------------------------------------------------------------------------ */

extern struct nvme_drv_pools nvme_drv_pools[LIMIT_CORES];

/* Every pool of `core` is full: nothing is under way. Tests. */
bool nvme_drv_pools_are_full(uint32_t core);

/* --- nvme_drv_state.c ------------------------------------------------------------------------ */

/* One turn; returns how much was done. */
uint32_t nvme_drv_run(struct nvme_drv *drv, uint64_t now_ns);
/* How long core 0 may sleep at most. */
uint64_t nvme_drv_sleep_ns(const struct nvme_drv *drv);
/* Takes over what CAP says; NULL, or why the drive cannot be used. */
const char *nvme_drv_read_cap(struct nvme_drv *drv);
/* What a state function returns when the drive did not do its part: logs, counts, resets. */
enum nvme_drv_state nvme_drv_attempt_failed(struct nvme_drv *drv, const char *what);
/* The same when no further attempt could help. */
enum nvme_drv_state nvme_drv_refuse(struct nvme_drv *drv, const char *why);
/* Gives all cores an order; orders_pending counts their answers. */
void nvme_drv_order(struct nvme_drv *drv, enum nvme_drv_verb verb);

/* --- nvme_drv_identify.c --------------------------------------------------------------------- */

enum nvme_drv_state nvme_drv_state_identify_ctrl(struct nvme_drv *drv, uint64_t now_ns);
enum nvme_drv_state nvme_drv_state_list_ns(struct nvme_drv *drv, uint64_t now_ns);
enum nvme_drv_state nvme_drv_state_identify_ns(struct nvme_drv *drv, uint64_t now_ns);
enum nvme_drv_state nvme_drv_state_describe_ns(struct nvme_drv *drv, uint64_t now_ns);
/* All namespaces become unusable. */
void nvme_drv_ns_lose_all(struct nvme_drv *drv);

/* --- nvme_drv_admin.c ------------------------------------------------------------------------ */

enum nvme_drv_step {
    NVME_DRV_STEP_WAIT,
    NVME_DRV_STEP_OK,
    NVME_DRV_STEP_ERROR, /* the drive answered with an error: admin.step_status */
};

/* Rings and slots as after a controller reset. The drive is disabled. */
void nvme_drv_admin_init(struct nvme_drv *drv);
/* Issues `cmd` (its CID is set here) at the first call in a state, then tells how it stands. */
enum nvme_drv_step nvme_drv_admin_step(struct nvme_drv *drv, struct nvme_sqe *cmd);
/* Handles completions and starts aborts; returns how much was done. */
uint32_t nvme_drv_admin_poll(struct nvme_drv *drv);
void nvme_drv_admin_request_event(struct nvme_drv *drv);
/* msg_fn of queue->call: collects aborts and reset wishes of a queue. */
void nvme_drv_admin_called(struct msg *msg);

/* --- nvme_drv_io.c --------------------------------------------------------------------------- */

void nvme_drv_submit(struct blk_dev *dev, struct blk_req *req);
/* One turn; returns how many completions were handled. */
uint32_t nvme_drv_queue_run(struct nvme_drv_queue *q);
/* Ends a command: data that was bounced is delivered, everything that it held is given back. */
void nvme_drv_finish(struct nvme_drv_queue *q, struct nvme_drv_slot *slot, nvme_status_t status,
                     uint32_t dw0, uint32_t dw1);
/* Handles completions; returns how many. */
uint32_t nvme_drv_reap(struct nvme_drv_queue *q, uint32_t max);
/* Ends a split request if nothing of it is under way or to come. */
void nvme_drv_split_settle(struct nvme_drv_queue *q, struct nvme_drv_split *split);

/* priv[] of a request in the waiting list. */
#define NVME_DRV_PRIV_DEADLINE 0
#define NVME_DRV_PRIV_SPLIT    1 /* struct nvme_drv_split *, 0 while nothing was submitted */
#define NVME_DRV_PRIV_NS       2 /* struct nvme_drv_ns * */

ALWAYS_INLINE struct nvme_drv_split *nvme_drv_waiting_split(const struct blk_req *req)
{
    return (struct nvme_drv_split *)(uintptr_t)req->priv[NVME_DRV_PRIV_SPLIT];
}

/* --- nvme_drv_queue.c ------------------------------------------------------------------------ */

void nvme_drv_queue_init(struct nvme_drv_queue *q, struct nvme_drv *drv, uint32_t core,
                         struct nvme_drv_slot *slots);
void nvme_drv_cancel(struct blk_dev *dev, struct blk_req *req);
/* How long the core may sleep at most. */
uint64_t nvme_drv_queue_sleep_ns(const struct nvme_drv_queue *q);
/* Has deadlines looked at from now on. */
void nvme_drv_queue_watch(struct nvme_drv_queue *q);
/* The drive sent what it must not: no completion of it is believed until it was reset. */
void nvme_drv_queue_break(struct nvme_drv_queue *q, const struct nvme_cqe *cqe);

/* --- nvme_drv_map.c -------------------------------------------------------------------------- */

/* The largest next part of `ref` from `cursor` on, a multiple of `granule_bytes`; the granule is
 * the block size, or the whole length for what cannot be split. */
struct nvme_drv_part nvme_drv_plan(const struct nvme_drv_caps *caps, const struct mem_ref *ref,
                                   const struct nvme_drv_cursor *cursor, uint32_t granule_bytes);
void nvme_drv_cursor_advance(struct nvme_drv_cursor *cursor, const struct mem_ref *ref,
                             uint32_t len_bytes);
/* Fill DPTR (and PSDT) of `sqe`. `list` may be NULL where two entries, or one descriptor, do. */
void nvme_drv_build_prp(struct nvme_sqe *sqe, uint64_t *list, const struct mem_ref *ref,
                        const struct nvme_drv_cursor *cursor, uint32_t len_bytes);
void nvme_drv_build_sgl(struct nvme_sqe *sqe, struct nvme_sgl_desc *list, const struct mem_ref *ref,
                        const struct nvme_drv_cursor *cursor, uint32_t len_bytes);

#endif
