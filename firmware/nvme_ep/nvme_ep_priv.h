/*
 * Inside of the endpoint: commands, queues, cores, and what its files call of each other.
 *
 * Ownership: struct nvme_ep itself belongs to core 0. A queue belongs to the core in its `core`
 * field from the message that attaches it to the answer to the one that detaches it, before and
 * after that to core 0. A command belongs to the core whose pool it came from.
 */
#ifndef NVME_EP_NVME_EP_PRIV_H
#define NVME_EP_NVME_EP_PRIV_H

#include <stdatomic.h>
#include <string.h>
#include "base/bits.h"
#include "base/counter.h"
#include "base/list.h"
#include "base/pool.h"
#include "base/shm.h"
#include "hal/clock.h"
#include "nvme_ep/nvme_ep.h"
#include "sched/sched.h"
#include "spec/nvme_feature.h"
#include "spec/nvme_log.h"
#include "spec/nvme_queue.h"

#define NVME_EP_QUEUES (LIMIT_IO_QUEUES + 1) /* identifiers, the admin queue's 0 included */

/* Commands of the admin queue: beside those at work, all AERs may be outstanding. */
#define NVME_EP_ADMIN_COMMANDS 32u
#define NVME_EP_ADMIN_BIGS     2u

/* At most this many commands are fetched from one queue in one turn. */
#define NVME_EP_BATCH 32u

/* Events that are taken from the function while a fence runs, to see a reset among them. */
#define NVME_EP_EARLY_EVENTS 16u

/* And this many from all queues of a core: a device in memory copies up to 1 MiB for each of them
 * here and now, while fences and the other functions wait. */
#define NVME_EP_ROUND (4 * NVME_EP_BATCH)

/* Where bit buckets of SGLs point: written, never read. */
#define NVME_EP_TRASH_BYTES (64u * 1024)

/* SGL descriptors of one command that are looked at, empty ones and buckets included. */
#define NVME_EP_SGL_DESCRIPTORS (2u * LIMIT_SEGS)

#define NVME_EP_DOORBELL_SCAN_NS (UINT64_C(250) * NS_PER_MS)

/* --- commands ------------------------------------------------------------------------------ */

/* nvme.state. Only a command in state ACTIVE alone ends on the short path. */
#define NVME_EP_CMD_FREE      0u
#define NVME_EP_CMD_ACTIVE    (1u << 0) /* given to the core */
#define NVME_EP_CMD_BIG       (1u << 1) /* has a long segment list */
#define NVME_EP_CMD_ABORTING  (1u << 2) /* an Abort command waits for its end */
#define NVME_EP_CMD_CANCELLED (1u << 3) /* nvme_cancel() was called */
#define NVME_EP_CMD_ERRAND    (1u << 4) /* ours: Create, Delete, Abort, Doorbell Buffer Config */
#define NVME_EP_CMD_HELD      (1u << 5) /* has ended; waits for room in its CQ */

struct nvme_ep_cmd {
    CACHE_ALIGNED struct nvme_cmd nvme; /* first: the SQE opens the first line */
    struct nvme_ep_sq *sq;
    struct nvme_ep_core *core; /* of its pool; fixed */
    bool is_mapped;            /* blk.data was resolved to host memory */
    struct mem_seg segs[LIMIT_INLINE_SEGS];
    struct mem_seg *big;       /* state BIG */
    struct nvme_ep_cmd *abort; /* state ABORTING: the Abort command */

    /* An errand of an admin command to the core of a queue, and its answer. */
    struct msg msg;
    void *errand_queue;
    uint16_t errand_cid;
    bool errand_failed;
};

struct nvme_ep_pools {
    struct pool cmds;
    struct pool bigs;
    struct nvme_ep_cmd *all; /* the memory of `cmds`: walked on slow paths */
};

/* --- queues -------------------------------------------------------------------------------- */

struct nvme_ep_sq {
    /* What a fetch touches. */
    CACHE_ALIGNED const uint32_t *tail_db; /* doorbell, shadow doorbell, or tail_merged */
    const struct nvme_sqe *base;           /* NULL: not reachable now */
    struct nvme_ep_cq *cq;
    struct nvme_ep_pools *pools;
    _Atomic uint64_t sqe_count;
    uint32_t head;
    uint32_t size;
    uint16_t id;
    uint8_t priority; /* enum nvme_ep_class */
    uint8_t core;
    bool is_deleting;
    bool has_merged_tail;

    /* The rest. */
    CACHE_ALIGNED uint32_t *mmio_db;
    uint32_t *shadow_db; /* NULL: none */
    uint32_t *event_idx;
    uint32_t tail_merged; /* the further of both doorbells, for drivers that may ring either */
    uint32_t mmio_seen;
    uint32_t shadow_seen;
    uint32_t tail_bad; /* last invalid value, reported once; 0, which is always valid: none */
    uint64_t host_addr;
    struct nvme_ep_cmd *delete_cmd;
};

struct nvme_ep_cq {
    /* What a completion touches. */
    CACHE_ALIGNED uint8_t *base; /* NULL: not reachable now */
    uint64_t phase;              /* the phase tag where it stands in the CQE's second half */
    uint32_t tail;
    uint32_t room; /* entries that are free for sure; 0 also when something else needs a look */
    uint32_t size;
    uint16_t id;
    uint16_t vector;
    bool is_dirty;      /* has entries that are not signalled, is in core->dirty */
    bool is_ien;        /* interrupts enabled */
    bool is_coalescing; /* signals by threshold or time */
    bool is_dropping;   /* being reset: entries go nowhere */
    uint32_t held_count;
    uint8_t core;

    /* The rest. */
    CACHE_ALIGNED uint32_t *mmio_db;
    uint32_t *shadow_db;
    uint32_t *event_idx;
    uint32_t shadow_seen;
    bool is_shadowed;      /* the host rings the shadow */
    uint32_t head;         /* as last read and valid */
    uint32_t head_bad;     /* last invalid value, reported once; equal to head: none */
    uint32_t signalled;    /* tail when entries were last counted */
    uint32_t carried;      /* entries counted since the last interrupt or decision about it */
    uint64_t aggregate_ns; /* when the first of them has to be signalled */
    _Atomic uint64_t cqe_count;
    _Atomic uint64_t irq_count;
    uint64_t host_addr;
    struct list held; /* nvme_cmd.link */
};

/* Order of service; without weighted round robin all are URGENT. */
enum nvme_ep_class {
    NVME_EP_CLASS_URGENT,
    NVME_EP_CLASS_HIGH,
    NVME_EP_CLASS_MEDIUM,
    NVME_EP_CLASS_LOW,
    NVME_EP_CLASS_COUNT,
};

/* --- cores --------------------------------------------------------------------------------- */

/* Why a turn must not take the short way. */
#define NVME_EP_ATTEND_CONTROL  (1u << 0) /* core 0: the state machine has something to do */
#define NVME_EP_ATTEND_FENCE    (1u << 1)
#define NVME_EP_ATTEND_STOPPED  (1u << 2) /* fetch nothing */
#define NVME_EP_ATTEND_HELD     (1u << 3) /* completions wait for room */
#define NVME_EP_ATTEND_DELETE   (1u << 4) /* a queue is being deleted */
#define NVME_EP_ATTEND_COALESCE (1u << 5) /* an aggregation has a deadline */
#define NVME_EP_ATTEND_MERGE    (1u << 6) /* queues with two doorbells */

/* What a fence asks of each core. */
enum nvme_ep_fence {
    NVME_EP_FENCE_NONE,
    NVME_EP_FENCE_RELOAD,    /* take the new window table; nothing was taken away */
    NVME_EP_FENCE_VIEW,      /* end what refers to host memory, then take the new window table */
    NVME_EP_FENCE_STOP,      /* fetch no more; end everything */
    NVME_EP_FENCE_DRAIN,     /* cancel and end everything, forget all queues */
    NVME_EP_FENCE_SETTINGS,  /* arbitration, coalescing: read them again */
    NVME_EP_FENCE_DBBUF,     /* take the doorbell buffers into use */
    NVME_EP_FENCE_SIGNAL,    /* raise again what has unacknowledged completions */
    NVME_EP_FENCE_HMB,       /* no core has a part in it: the user of the Host Memory Buffer has */
    NVME_EP_FENCE_HAND_OVER, /* fetch no more; wait for everything without cancelling */
    NVME_EP_FENCE_HMB_LEND,  /* as HMB, but the buffer stays the controller's */
    NVME_EP_FENCE_RESUME,    /* fetch again */
};

/* Doorbell buffers, as this core uses them. */
struct nvme_ep_dbbuf {
    bool is_set;
    uint64_t shadow_addr;
    uint64_t event_idx_addr;
};

/* What nvme_ep_stats() adds up. */
struct nvme_ep_counters {
    _Atomic uint64_t sqes;
    _Atomic uint64_t cqes;
    _Atomic uint64_t irqs;
    _Atomic uint64_t list_reads;
    _Atomic uint64_t list_bytes;
    _Atomic uint64_t doorbell_errors;
    _Atomic uint64_t bad_addresses;
    _Atomic uint64_t pool_empty;
    _Atomic uint64_t pool_low_water;
    _Atomic uint64_t cq_full;
    _Atomic uint64_t dropped;
    _Atomic uint64_t cancels;
    _Atomic uint64_t fences;
    struct {
        _Atomic uint64_t count;
        _Atomic uint64_t bytes;
    } mapped[2]; /* data from the host, to the host */
};

struct nvme_ep_core {
    CACHE_ALIGNED struct nvme_ep *ep;
    uint32_t attend; /* NVME_EP_ATTEND_* */
    uint32_t sq_count;
    uint32_t burst; /* commands of one queue at a time */
    uint32_t burst_setting;
    uint32_t page_bytes;
    uint32_t dirty_count;
    uint32_t first;  /* where the next round starts: where a batch or a pool ended the last */
    uint64_t now_ns; /* of this turn */
    uint8_t index;
    bool is_weighted;
    bool is_stopped;   /* a STOP fence has ended, no DRAIN since */
    bool is_suspended; /* queue memory is out of reach */
    bool is_muted;     /* without any window (bus mastering is off) no interrupt is raised either */
    _Atomic(bool) is_lost; /* the same, and other memory is reachable: fatal if it lasts; core 0
                              reads it (relaxed: it looks again when a message says so) */
    uint8_t fence;         /* enum nvme_ep_fence */
    bool fence_cancelled;
    uint8_t idle_shift;                     /* mapped doorbells: sleeps grow */
    struct nvme_ep_sq *sqs[NVME_EP_QUEUES]; /* I/O queues, by class */
    uint32_t class_end[NVME_EP_CLASS_COUNT];
    uint32_t class_next[NVME_EP_CLASS_COUNT];
    uint32_t weight[NVME_EP_CLASS_COUNT]; /* commands per round */

    struct nvme_ep_cq *dirty[NVME_EP_QUEUES];
    struct nvme_ep_cq *cqs[NVME_EP_QUEUES];
    uint32_t cq_count;
    struct nvme_ep_sq *deleting[NVME_EP_QUEUES];
    uint32_t deleting_count;
    struct nvme_ep_pools io;
    struct nvme_ep_counters counters;
    struct nvme_ep_traffic mapped[2]; /* counted here per command, published once per batch */

    uint32_t coalesce_threshold; /* entries */
    uint64_t coalesce_ns;        /* 0: off */
    uint64_t coalesce_due_ns;    /* the earliest deadline */
    uint64_t cancel_ns;          /* when the fence cancels */

    struct msg fence_msg; /* there and back */
    struct nvme_ep_dbbuf dbbuf;

    _Atomic(bool) doorbell_busy; /* doorbell_msg is under way */
    struct msg doorbell_msg;
    uint16_t doorbell_qid;
    uint8_t doorbell_info;

    struct poller poller;
    struct pcie_ep_view view;
};

/* --- the endpoint -------------------------------------------------------------------------- */

enum nvme_ep_queue_state {
    NVME_EP_QUEUE_FREE,
    NVME_EP_QUEUE_CREATING,
    NVME_EP_QUEUE_LIVE,
    NVME_EP_QUEUE_DELETING,
};

/* The Host Memory Buffer (hmb.c). */
struct nvme_ep_hmb_state {
    const struct nvme_ep_hmb_ops *ops; /* NULL: no user */
    void *ctx;
    struct nvme_ep_hmb memory; /* as the host granted it; bus addresses as of the last `granted` */
    bool is_set;               /* the host has granted it and not taken it back */
    bool is_used;              /* the user has it */
    bool is_revoking;          /* the user was asked to let go */
    struct nvme_ep_cmd *cmd;   /* Set Features with EHM 0, waits for the user */
    struct pcie_ep_view next_view; /* to look at a table of windows that is not in use yet */
};

/* Another image is to go on (handover.c). */
struct nvme_ep_handover {
    void (*done)(void *ctx); /* NULL: nobody asks for it */
    void *ctx;
    /* This round is void: cores end the fence as they are. Only the start of a round clears it.
     * Core 0 writes, relaxed. */
    _Atomic(bool) is_cancelled;
    enum nvme_ep_state from;               /* before HANDED */
    const struct handover_function *saved; /* by another image; NULL: not, or done with */
};

struct nvme_ep {
    struct pcie_ep *pcie;
    struct nvme_ctrl *ctrl;
    struct nvme_ep_config config;
    uint32_t core_mask; /* with core 0 */
    uint32_t next_core; /* of the next CQ */
    uint32_t page_bytes;
    uint32_t doorbell_stride;
    uint32_t doorbells_used_bytes;

    /* Registers as the host set them, and ours. */
    uint32_t cc;
    uint32_t csts;
    uint32_t aqa;
    uint64_t asq;
    uint64_t acq;
    uint64_t cap;

    enum nvme_ep_state state;
    bool is_serving;
    bool is_fatal;   /* asked for */
    bool is_flushed; /* nvme_ctrl_shutdown() has called back */
    bool must_reset; /* RESET, LINK down or NSSR: to power-on state */
    bool must_ack_reset;
    bool is_subsystem_reset;
    bool must_load_settings;
    bool must_reconcile; /* the register page may hold an enable of which no event will come */
    struct pcie_ep_event reset_event;

    /* The running fence. */
    uint32_t fence_left; /* cores, and the user of the Host Memory Buffer, that owe an answer */
    enum nvme_ep_fence fence;
    bool fence_is_event; /* ack fence_event at the end */
    struct pcie_ep_event fence_event;
    _Atomic(bool) fence_is_urgent; /* do not wait for cancel_ns; set by core 0, read by all */

    /* Came while a fence ran; handled in their order after it, before later ones. */
    struct pcie_ep_event early[NVME_EP_EARLY_EVENTS];
    uint32_t early_count;
    uint32_t early_next;

    struct nvme_ep_cmd *dbbuf_cmd; /* Doorbell Buffer Config under way */
    struct nvme_ep_hmb_state hmb;
    struct nvme_ep_handover handover;

    /* Features, for the cores to read in a SETTINGS fence. Relaxed: core 0 may change one while
     * others read; then another fence follows. */
    _Atomic uint32_t arbitration;
    _Atomic uint32_t coalescing;
    _Atomic uint32_t vector_config[LIMIT_VECTORS];

    uint8_t sq_state[NVME_EP_QUEUES]; /* enum nvme_ep_queue_state */
    uint8_t cq_state[NVME_EP_QUEUES];
    uint8_t cq_sq_count[NVME_EP_QUEUES];

    struct timer scan_timer; /* doorbells of queues that do not exist */
    struct timer lost_timer; /* queues are out of reach */
    struct nvme_ep_pools admin;
    struct nvme_ep_sq *admin_sq; /* &sqs[0] while enabled; its core is 0 */

    struct nvme_ep_core cores[LIMIT_CORES];
    struct nvme_ep_sq sqs[NVME_EP_QUEUES];
    struct nvme_ep_cq cqs[NVME_EP_QUEUES];

    struct nvme_ctrl_memory ctrl_memory;
    struct nvme_ep_cmd admin_cmds[NVME_EP_ADMIN_COMMANDS];
    struct mem_seg admin_bigs[NVME_EP_ADMIN_BIGS][LIMIT_SEGS];
    struct nvme_ep_cmd cmds[LIMIT_CORES][LIMIT_COMMANDS_PER_CORE];
    struct mem_seg bigs[LIMIT_CORES][LIMIT_BIG_COMMANDS_PER_CORE][LIMIT_SEGS];
    CACHE_ALIGNED uint8_t trash[NVME_EP_TRASH_BYTES];
};
_Static_assert(sizeof(struct nvme_ep) <= NVME_EP_BYTES, "NVME_EP_BYTES is too small");
_Static_assert(NVME_EP_ADMIN_COMMANDS > 2 * LIMIT_AERS, "AERs must not use up the admin commands");

ALWAYS_INLINE struct nvme_ep_cmd *nvme_ep_cmd_of(struct nvme_cmd *nvme)
{
    return CONTAINER_OF(nvme, struct nvme_ep_cmd, nvme);
}

ALWAYS_INLINE uint32_t nvme_ep_setting_get(const _Atomic uint32_t *setting)
{
    return atomic_load_explicit(setting, memory_order_relaxed);
}

ALWAYS_INLINE void nvme_ep_setting_set(_Atomic uint32_t *setting, uint32_t value)
{
    atomic_store_explicit(setting, value, memory_order_relaxed);
}

ALWAYS_INLINE struct nvme_ep *nvme_ep_of(struct nvme_ctrl *ctrl)
{
    return nvme_ctrl_transport(ctrl);
}

ALWAYS_INLINE uint32_t *nvme_ep_sq_doorbell(const struct nvme_ep *ep, uint32_t qid)
{
    return (uint32_t *)(void *)(ep->pcie->doorbells + 2 * qid * ep->doorbell_stride);
}

ALWAYS_INLINE uint32_t *nvme_ep_cq_doorbell(const struct nvme_ep *ep, uint32_t qid)
{
    return (uint32_t *)(void *)(ep->pcie->doorbells + (2 * qid + 1) * ep->doorbell_stride);
}

/* Wakes the state machine. Core 0. */
ALWAYS_INLINE void nvme_ep_control_wake(struct nvme_ep *ep)
{
    ep->cores[0].attend |= NVME_EP_ATTEND_CONTROL;
}

/* --- registers.c: core 0 ------------------------------------------------------------------- */

/* Publishes everything. True: the page says that an earlier life of ours serves this host. */
MUST_USE bool nvme_ep_registers_start(struct nvme_ep *ep);
uint64_t nvme_ep_cap(const struct nvme_ep *ep);
/* Goes on with the registers as they were saved; the host sees no change. */
void nvme_ep_registers_restore(struct nvme_ep *ep, const struct handover_function *saved);
/* As after power-on (7.3.2): what a Controller Level Reset by other means than CC.EN leaves. */
void nvme_ep_registers_reset(struct nvme_ep *ep);
/* The host wrote a register of 32 bits. */
void nvme_ep_register_written(struct nvme_ep *ep, uint32_t offset, uint32_t value);
void nvme_ep_csts_set(struct nvme_ep *ep, uint32_t clear, uint32_t set);
void nvme_ep_shst_set(struct nvme_ep *ep, uint32_t shst);

/* --- control.c: events, state machine ------------------------------------------------------ */

/* Handles what waits; returns the units of work. Core 0, each turn in which there is something. */
uint32_t nvme_ep_control_run(struct nvme_ep *ep);
void nvme_ep_control_start(struct nvme_ep *ep);
/* Features that cores go by, from the controller. Core 0. */
void nvme_ep_features_load(struct nvme_ep *ep);

/* --- fence.c ------------------------------------------------------------------------------- */

/* Sends the fence to every core; ep->fence_left is 0 when all have answered. Core 0. */
void nvme_ep_fence_start(struct nvme_ep *ep, enum nvme_ep_fence fence);
/* Some core's queues went out of reach, or came back: starts or ends the time it may last. Core 0.
 */
void nvme_ep_lost_update(struct nvme_ep *ep);
void nvme_ep_lost_for_long(struct timer *timer);
/* Looks whether this core's part is done. Owner core. */
void nvme_ep_fence_poll(struct nvme_ep_core *core);
/* A queue was taken out: goes on if it was the one out of reach. Owner core. */
void nvme_ep_reach_update(struct nvme_ep_core *core);

/* Queue memory and doorbell buffers under the core's view; without them the core rests. Before its
 * poller runs, or the owner core. */
void nvme_ep_queues_adopt(struct nvme_ep_core *core);

/* --- queue.c: Create and Delete, on core 0 and on the owner core ---------------------------- */

/* Prepares and attaches the admin queue from AQA, ASQ, ACQ. INVALID: they are not usable. Core 0.
 */
MUST_USE enum status nvme_ep_admin_queue_create(struct nvme_ep *ep);
/* Puts a queue back that another image has left: its fields are set, memory is not mapped, no
 * poller runs yet. The CQ first. Core 0. */
void nvme_ep_cq_adopt(struct nvme_ep *ep, struct nvme_ep_cq *cq);
void nvme_ep_sq_adopt(struct nvme_ep *ep, struct nvme_ep_sq *sq);
void nvme_ep_create_cq(struct nvme_cmd *nvme);
void nvme_ep_create_sq(struct nvme_cmd *nvme);
void nvme_ep_delete_cq(struct nvme_cmd *nvme);
void nvme_ep_delete_sq(struct nvme_cmd *nvme);
void nvme_ep_abort(struct nvme_cmd *nvme, uint16_t sq_id, uint16_t cid);
/* Ends deletions whose commands have ended. Owner core. */
void nvme_ep_deletions_poll(struct nvme_ep_core *core);
/* Asks for the end of a command, once. Owner core. */
void nvme_ep_cancel(struct nvme_ep_cmd *cmd);
/* Bus addresses of queue memory and doorbells; false: out of reach. Its core. */
MUST_USE bool nvme_ep_sq_map(struct nvme_ep_core *core, struct nvme_ep_sq *sq);
MUST_USE bool nvme_ep_cq_map(struct nvme_ep_core *core, struct nvme_ep_cq *cq);

/* --- poll.c: fetching ---------------------------------------------------------------------- */

/* Of a command whose SQE is there. What is constant for the life of a pool's commands was set by
 * nvme_ep_init(). */
ALWAYS_INLINE void nvme_ep_cmd_setup(struct nvme_ep_cmd *cmd, struct nvme_ep_sq *sq,
                                     uint64_t now_ns)
{
    struct nvme_cmd *nvme = &cmd->nvme;

    nvme->blk.data.len_bytes = 0;
    nvme->blk.data.seg_count = 0;
    nvme->blk.data.space = MEM_SPACE_NONE;
    nvme->blk.data.reserved = 0;
    nvme->start_ns = now_ns;
    nvme->sq_id = sq->id;
    nvme->cid = nvme->blk.cmd.cid;
    nvme->blk.trace_id = (uint32_t)sq->id << 16 | nvme->cid;
    nvme->state = NVME_EP_CMD_ACTIVE;
    cmd->sq = sq;
    cmd->is_mapped = false;
}

uint32_t nvme_ep_poll_control(void *ctx); /* core 0 */
uint32_t nvme_ep_poll_io(void *ctx);      /* other cores */
uint64_t nvme_ep_arm(void *ctx, bool armed);
void nvme_ep_burst_update(struct nvme_ep_core *core);
/* Sorts a queue in by its class, or takes it out. Owner core. */
void nvme_ep_sq_attach(struct nvme_ep_core *core, struct nvme_ep_sq *sq);
void nvme_ep_sq_detach(struct nvme_ep_core *core, struct nvme_ep_sq *sq);

/* --- complete.c: completion queues and interrupts -------------------------------------------- */

void nvme_ep_complete(struct nvme_cmd *nvme);
/* Signals the CQs that got entries in this turn. Owner core. */
void nvme_ep_signal_dirty(struct nvme_ep_core *core);
/* Signals aggregations whose time has come. Owner core. */
void nvme_ep_coalesce_poll(struct nvme_ep_core *core);
/* Raises again for each CQ within reach whose head is not its tail. Owner core. */
void nvme_ep_signal_again(struct nvme_ep_core *core);
/* Posts held completions as far as there is room. Owner core. */
void nvme_ep_held_poll(struct nvme_ep_core *core);
/* Frees held completions of a queue that goes away; `sq` NULL: of all queues of the core. */
void nvme_ep_held_drop(struct nvme_ep_core *core, const struct nvme_ep_sq *sq);
/* Reads the CQ head doorbell; true when there is room now. Owner core. */
bool nvme_ep_cq_refill(struct nvme_ep_core *core, struct nvme_ep_cq *cq);
/* Coalescing and vector settings from the features. Owner core. */
void nvme_ep_cq_load_settings(struct nvme_ep_core *core, struct nvme_ep_cq *cq);

/* --- doorbell.c: invalid values, doorbell buffers ------------------------------------------- */

/* Reports an invalid doorbell write to the host (5.2, AEN error status). The queue's core. */
void nvme_ep_doorbell_error(struct nvme_ep_core *core, uint16_t qid, uint8_t info, uint32_t value);
/* Looks for writes to doorbells of queues that do not exist. Core 0, from a timer. */
void nvme_ep_doorbell_scan(struct timer *timer);
void nvme_ep_doorbell_buffers(struct nvme_cmd *nvme);
/* Where a queue is rung: of a new queue, of one that exists when doorbell buffers come, and again
 * after the windows changed. False: the buffers are out of reach. Its core. */
MUST_USE bool nvme_ep_sq_create_doorbell(struct nvme_ep_core *core, struct nvme_ep_sq *sq);
MUST_USE bool nvme_ep_cq_create_doorbell(struct nvme_ep_core *core, struct nvme_ep_cq *cq);
MUST_USE bool nvme_ep_sq_shadow_doorbell(struct nvme_ep_core *core, struct nvme_ep_sq *sq);
MUST_USE bool nvme_ep_cq_shadow_doorbell(struct nvme_ep_core *core, struct nvme_ep_cq *cq);
MUST_USE bool nvme_ep_sq_map_doorbell(struct nvme_ep_core *core, struct nvme_ep_sq *sq);
MUST_USE bool nvme_ep_cq_map_doorbell(struct nvme_ep_core *core, struct nvme_ep_cq *cq);
/* Looks at both doorbells of queues that have two. Owner core. */
void nvme_ep_doorbell_merge(struct nvme_ep_core *core);
/* The head doorbell of a CQ, raw. Owner core. */
uint32_t nvme_ep_cq_head_read(struct nvme_ep_cq *cq);

/* --- hmb.c: Host Memory Buffer; core 0 ------------------------------------------------------- */

void nvme_ep_host_memory(struct nvme_cmd *nvme);
/* A fence starts: true when the user has to let go for it. It may already have done so when
 * nvme_ep_hmb_revoke() returns; its answer is one of those that ep->fence_left counts. */
MUST_USE bool nvme_ep_hmb_must_revoke(struct nvme_ep *ep, enum nvme_ep_fence fence);
void nvme_ep_hmb_revoke(struct nvme_ep *ep);
/* A fence has ended: forgets the buffer, or gives it back to the user. */
void nvme_ep_hmb_fence_ended(struct nvme_ep *ep, enum nvme_ep_fence fence);

/* --- handover.c ---------------------------------------------------------------------------- */

/* The second half of nvme_ep_restore(), when namespaces are attached. */
void nvme_ep_restore_ctrl(struct nvme_ep *ep);

ALWAYS_INLINE bool nvme_ep_hand_over_is_void(const struct nvme_ep *ep)
{
    return atomic_load_explicit(&ep->handover.is_cancelled, memory_order_relaxed);
}

ALWAYS_INLINE void nvme_ep_hand_over_void_set(struct nvme_ep *ep, bool is_void)
{
    atomic_store_explicit(&ep->handover.is_cancelled, is_void, memory_order_relaxed);
}

/* --- prp.c, sgl.c -------------------------------------------------------------------------- */

/* Collects segments; contiguous ones are merged. */
struct nvme_ep_builder {
    struct nvme_ep_cmd *cmd;
    struct mem_seg *segs;
    uint32_t count;
    uint32_t limit;
    bool for_write;
};

nvme_status_t nvme_ep_map(struct nvme_cmd *nvme, uint32_t len_bytes);
nvme_status_t nvme_ep_sgl_map(struct nvme_ep_cmd *cmd, uint32_t len_bytes);
void nvme_ep_builder_init(struct nvme_ep_builder *builder, struct nvme_ep_cmd *cmd);
/* Adds a piece of the bus. */
nvme_status_t nvme_ep_builder_add(struct nvme_ep_builder *builder, uint64_t bus_addr,
                                  uint32_t len_bytes);
/* Adds a piece of host memory after checking it against the windows. */
nvme_status_t nvme_ep_builder_add_host(struct nvme_ep_builder *builder, uint64_t host_addr,
                                       uint32_t len_bytes);
void nvme_ep_builder_finish(struct nvme_ep_builder *builder, uint32_t len_bytes);
/* Counts and traces an address outside the windows; the status that names it. */
nvme_status_t nvme_ep_bad_address(struct nvme_ep_cmd *cmd, uint64_t host_addr, uint32_t len_bytes);

#endif
