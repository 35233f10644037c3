/*
 * Inside of the initiator: cores, queues, commands, associations, and what its files call of each
 * other. Two halves that meet here:
 *
 *  - queues (core.c, queue*.c, io*.c, stage.c): on the core that owns the queue. A queue is
 *    connected, carries commands, is taken down; it knows nothing of the association's states;
 *  - associations (ctrl*.c, scan.c, event.c, discovery.c): on core 0. They tell queues by messages
 *    what to do, and are told by messages what became of it.
 */
#ifndef NVMF_HOST_NVMF_HOST_PRIV_H
#define NVMF_HOST_NVMF_HOST_PRIV_H

#include <stdatomic.h>
#include "base/bits.h"
#include "base/counter.h"
#include "base/list.h"
#include "base/pool.h"
#include "nvmf_host/nvmf_host.h"
#include "sched/sched.h"

struct nvmf_core;
struct nvmf_queue;

/* --- admin and Fabrics commands -----------------------------------------------------------------
 */

/* One command with data in NIC memory, for what is no block request. The caller's from done() on.
 */
struct nvmf_cmd {
    struct nvme_sqe sqe; /* CID and SGL are the queue's to fill in */
    void *data;          /* NULL: none. Inside of the association's scratch memory (registered) */
    uint32_t len_bytes;
    uint8_t dir;        /* enum nvme_dir */
    bool is_path_error; /* result: never answered, since the queue ended or the time was over */
    nvme_status_t status;
    struct nvme_cqe cqe;
    uint64_t timeout_ns; /* from submission on; 0: none (Asynchronous Event Request) */
    void (*done)(struct nvmf_cmd *cmd);
    void *ctx;
    struct list link; /* the queue's */
    uint64_t deadline_ns;
};

/* --- queues --------------------------------------------------------------------------------------
 */

#define NVMF_QUEUE_STATE_LIST(X)                                    \
    X(CLOSED, "nothing of it is left")                              \
    X(RESOLVE, "the way to the target is being found")              \
    X(CONNECT_CM, "the target's CM is being asked")                 \
    X(CONNECT, "the Connect command is under way")                  \
    X(OPEN, "takes commands")                                       \
    X(BROKEN, "the connection was lost: its owner has to close it") \
    X(CLOSING, "commands end, keys fall silent, the queue pair is being destroyed")

enum nvmf_queue_state {
#define NVMF_QUEUE_STATE_ENUM(name, text) NVMF_QUEUE_##name,
    NVMF_QUEUE_STATE_LIST(NVMF_QUEUE_STATE_ENUM)
#undef NVMF_QUEUE_STATE_ENUM
};

const char *nvmf_queue_state_name(enum nvmf_queue_state state);

/* What the association tells a queue before each open; read by the queue's core while it is not
 * CLOSED. */
struct nvmf_queue_params {
    uint16_t qid; /* 0: admin */
    uint16_t entries;
    uint16_t cntlid;    /* NVMF_CNTLID_DYNAMIC for the admin queue */
    uint32_t kato_ms;   /* admin queue */
    bool sq_flow_off;   /* ask for it; the answer is in the queue */
    bool sgl_offsets;   /* I/O: in-capsule data are possible */
    bool host_rings;    /* I/O: over the tenant's host memory on that core, if there is any */
    uint32_t icd_bytes; /* I/O: (IOCCSZ * 16) - 64 - ICDOFF * 16, 0: none */
    uint32_t icd_offset_bytes;
    uint64_t step_timeout_ns;    /* of resolving, connecting, Connect: each */
    uint64_t command_timeout_ns; /* of requests without deadline */
};

/* How a queue tells its owner; on the queue's core, never from inside of a call of this header. */
struct nvmf_queue_ops {
    /* OPEN, or it failed (and is BROKEN: close it). queue->cntlid is the answer of the admin
     * queue's Connect. */
    void (*opened)(struct nvmf_queue *queue, enum nvmf_fail fail, uint32_t code);
    /* It was OPEN and is BROKEN. */
    void (*lost)(struct nvmf_queue *queue, enum nvmf_fail fail, uint32_t code);
    /* nvmf_queue_close() has ended. */
    void (*closed)(struct nvmf_queue *queue);
    /* A late command: ask the controller to abort it; its CID as on the wire. NVMe Abort is the
     * admin queue's, so the association does it. */
    void (*abort)(struct nvmf_queue *queue, uint16_t cid);
    /* The abort did not help, or the target broke the protocol: reset the association. */
    void (*stuck)(struct nvmf_queue *queue, enum nvmf_fail fail, uint32_t code);
};

/* All fields belong to the queue's core; "owner": who made it. */
struct nvmf_queue {
    struct nvmf_core *core;
    const struct nvmf_queue_ops *ops;
    void *ctx;              /* the owner's */
    struct nvmf_ctrl *ctrl; /* NULL: of a discovery */
    /* Who we are, who they are: the owner's memory, as long as the queue. */
    const struct nvmf_target *target;
    struct nvmf_queue_params params;
    uint8_t state;    /* enum nvmf_queue_state; _priv users: reports may read it */
    uint16_t cntlid;  /* by Connect */
    bool sq_flow_off; /* agreed */
    bool is_on_host;  /* its rings are in host memory */
    bool is_fallback_told;
    uint32_t in_flight;
    struct nvmf_queue_inner *inner; /* rings, tags: queue_priv.h; in the queue's memory */
};

struct nvmf_target {
    struct net_addr addr;
    uint16_t port;
    uint16_t fn;
    char subnqn[NVMF_NQN_BYTES];
    char hostnqn[NVMF_NQN_BYTES];
    uint8_t hostid[16];
};

/* Memory of a queue's inner part; of the largest provider: `device` decides. */
uint64_t nvmf_queue_memory_bytes(const struct rdma_device *device, uint32_t entries);

/* Fills in a queue that is CLOSED; `memory` is zeroed, 4096-byte aligned, and stays. Core 0, before
 * the queue's core hears of it. */
void nvmf_queue_init(struct nvmf_queue *queue, struct nvmf_core *core, void *memory,
                     uint32_t entries_max, const struct nvmf_queue_ops *ops, void *ctx);

/* CLOSED: resolves, connects, sends Connect with queue->params. Ends in opened(). Queue's core, as
 * all that follow. */
void nvmf_queue_open(struct nvmf_queue *queue);

/* Any state but CLOSED and CLOSING. Everything under way ends with a path error; requests that
 * change state and were sent get `quiet_ns`. No memory is touched on their behalf when they end:
 * the queue pair is in error, keys are invalid and quiet. Then closed(). */
void nvmf_queue_close(struct nvmf_queue *queue, uint64_t quiet_ns);

/* OPEN (the Connect itself: inside). Completes by cmd->done(), maybe before it returns when the
 * queue is not OPEN. Waits when all tags are taken. */
void nvmf_queue_exec(struct nvmf_queue *queue, struct nvmf_cmd *cmd);

/* The association has done with an abort that the queue asked for: `aborted` or not, the command
 * itself still has to end. */
void nvmf_queue_abort_done(struct nvmf_queue *queue, uint16_t cid, bool aborted);

/* Commands that were sent since the last call; for traffic based keep alive. */
bool nvmf_queue_had_traffic(struct nvmf_queue *queue);

/* --- cores ---------------------------------------------------------------------------------------
 */

/* The part of a core that is `core`'s; NULL: it has no device. Core 0; the answer does not change
 * after start-up. */
struct nvmf_core *nvmf_core_find(uint32_t core);
const struct rdma_device *nvmf_core_device(const struct nvmf_core *core);
uint32_t nvmf_core_id(const struct nvmf_core *core);

/* Registered NIC memory for data of struct nvmf_cmd: makes [memory, + bytes) known to the domain of
 * `fn` on core 0, once for each association. NO_SPACE. */
struct nvmf_scratch {
    void *memory;
    uint32_t len_bytes;
    struct rdma_mr *mr;
};
MUST_USE enum status nvmf_scratch_register(struct nvmf_core *core, uint16_t fn,
                                           struct nvmf_scratch *scratch);
void nvmf_scratch_release(struct nvmf_scratch *scratch);

/* --- host memory of a tenant on a core (host_area.c) --------------------------------------------
 */

/* An order of core 0 to a core, and the answer. */
struct nvmf_host_order {
    struct msg msg;
    struct nvmf_core *core;
    uint16_t fn;
    void *memory; /* that queues may use from now on; NULL: none, and none does any more */
    void (*done)(struct nvmf_host_order *order); /* on core 0; never from inside of the call */
};
void nvmf_host_order_send(struct nvmf_host_order *order);
uint64_t nvmf_host_area_bytes(const struct nvmf_core *core);

/* --- host memory and associations (host_rings.c): core 0 ----------------------------------------
 */

struct nvmf_host_user {
    struct list link;
    uint16_t fn;
    /* Memory has come, or has to be left; on core 0. */
    void (*changed)(struct nvmf_host_user *user);
};
void nvmf_host_user_add(struct nvmf_host_user *user);
void nvmf_host_user_remove(struct nvmf_host_user *user);
/* Queues that are opened now may use it. */
bool nvmf_host_memory_is_there(uint16_t fn);
/* It is being revoked: what is in it has to be gone by then. UINT64_MAX: it is not. */
uint64_t nvmf_host_memory_leave_ns(uint16_t fn);

/* --- block requests (io*.c)
 * ------------------------------------------------------------------------ */

/* Ops of every nvmf_ns's device. */
extern const struct blk_ops nvmf_io_ops;

/* --- associations
 * ---------------------------------------------------------------------------------- */

/* Counters of one core; base/counter.h. */
struct nvmf_path_counters {
#define NVMF_PATH_COUNTER_FIELD(name, text) _Atomic uint64_t name;
    NVMF_PATH_STAT_LIST(NVMF_PATH_COUNTER_FIELD)
#undef NVMF_PATH_COUNTER_FIELD
};

/* What requests read of an association, from any core: the rest is in ctrl_priv.h. */
struct nvmf_ctrl_shared {
    /* By submitting core: the queue that takes its requests, another core's if it has none; NULL:
     * there is none now. A queue that is named here is OPEN or BROKEN until the next quiescence
     * (the association clears the routes, then sends each core a message, then closes). */
    struct nvmf_queue *_Atomic route[LIMIT_CORES];
    CACHE_ALIGNED struct {
        CACHE_ALIGNED struct nvmf_path_counters path[NVMF_PATH_COUNT];
        _Atomic uint64_t timeouts;
        _Atomic uint64_t aborts;
    } core[LIMIT_CORES];
};

struct nvmf_ctrl_shared *nvmf_ctrl_shared(struct nvmf_ctrl *ctrl);

#endif
