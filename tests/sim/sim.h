/*
 * Simulation of the RoCEv2 provider: two or three devices over a wire that harms frames, in one
 * thread under the standing clock. A seed draws everything; a model beside it knows which bytes may
 * be where, which completions must come and in which order, and says `seed N: what` when it is not
 * so. The same seed gives the same run.
 *
 * Files: sim_main.c options, processes; sim_world.c devices, clock, end of a run; sim_plan.c what a
 * seed draws; sim_mem.c memory and its model; sim_qp.c queue pairs; sim_work.c work requests;
 * sim_check.c completions; sim_event.c what happens besides.
 */
#ifndef TESTS_SIM_SIM_H
#define TESTS_SIM_SIM_H

#include <stdbool.h>
#include <stdint.h>
#include "base/compiler.h"
#include "hal/clock.h"
#include "net/net.h"
#include "rdma/soft.h"
#include "rdma/verbs.h"
#include "tests/sim/sim_main.h"
#include "tests/sim/wire.h"

#define SIM_NODES    3
#define SIM_PAIRS    4 /* connections */
#define SIM_SGES     RDMA_SOFT_SGES
#define SIM_PIECES   24 /* of one buffer */
#define SIM_KEYS     32 /* of one device */
#define SIM_WINDOWS  4
#define SIM_WRS      256 /* of one queue pair, in a run */
#define SIM_RECVS    512 /* of one receive queue, in a run */
#define SIM_BLOCKS   4096
#define SIM_LINGERS  1024
#define SIM_START_NS (UINT64_C(100) * NS_PER_S)

/* --- what a seed draws (sim_plan.c) ----------------------------------------------------------- */

/* How far the wire may be blamed when a work request fails. */
enum sim_class {
    SIM_CLEAN, /* it harms nothing: all succeeds, nothing is sent again */
    SIM_MILD,  /* it harms little: all succeeds */
    SIM_HEAVY, /* retries may run out */
};

struct sim_plan {
    enum sim_class class;
    uint32_t node_count;
    uint32_t pair_count;
    uint16_t port_mtu;
    bool is_ipv6;
    bool ecn;
    bool faults_early; /* neighbours are looked for under faults too */
    struct wire_config wire;
    struct wire_faults faults;
    uint32_t buf_count;
    uint32_t big_count;
    uint32_t msg_bytes_max;
    uint32_t bytes_left; /* of all messages together */
    uint32_t packets_left;
    uint32_t arena_bytes;
    uint64_t act_ns;         /* mean time between two acts */
    uint64_t poll_ns;        /* and between two looks at the completions */
    uint32_t event_percent;  /* chance of an event (sim_event.c) at an act */
    uint32_t poison_percent; /* of a work request that must fail */
    uint32_t local_percent;  /* of keys bound by a work request */
    uint32_t reopen_count;   /* connections made anew after their end */
};
void sim_plan_draw(struct sim_plan *plan);

/* --- memory (sim_mem.c) ----------------------------------------------------------------------- */

enum sim_kind {
    SIM_NIC,  /* under the region of the NIC's memory */
    SIM_HOST, /* under that of host memory, through the windows */
    SIM_KEY,  /* under a key of its own */
};

struct sim_key {
    struct rdma_key *key;
    struct mem_ref ref;
    struct mem_seg segs[SIM_PIECES];
    bool is_used;
};

/* Memory of a work request: one range of addresses under one key, in one piece or several. */
struct sim_buf {
    struct sim_node *node; /* NULL: none */
    enum sim_kind kind;
    uint64_t addr;
    uint32_t value; /* lkey or rkey */
    uint32_t len_bytes;
    struct mem_seg piece; /* NIC, HOST */
    struct sim_key *key;  /* KEY: holds the pieces */
    bool is_frozen;       /* out of reach: it must not change any more */
    bool is_prepared;     /* its key will be bound by a work request */
};

/* Bytes of an arena, and beside them what they must be. What no buffer holds is poisoned. */
struct sim_arena {
    uint8_t *bytes;
    uint8_t *shadow;
    uint32_t len_bytes;
    uint32_t block_count; /* sorted */
    struct {
        uint32_t offset;
        uint32_t len_bytes;
    } blocks[SIM_BLOCKS];
};

void sim_arena_open(struct sim_arena *arena, uint32_t len_bytes);
/* Nothing was written that must not be. */
void sim_arena_close(struct sim_arena *arena);

/* False: no memory or no key now. */
bool sim_buf_get(struct sim_node *node, struct sim_buf *buf, enum sim_kind kind, uint32_t len_bytes,
                 uint32_t access);
void sim_buf_put(struct sim_buf *buf); /* its key is quiet */
/* A buffer under a key that is not bound yet: value is what it will have. */
bool sim_buf_prepare(struct sim_node *node, struct sim_buf *buf, uint32_t len_bytes);
/* It lies in that window as a whole. */
bool sim_buf_in_window(const struct sim_buf *buf, const struct pcie_ep_window *window);

/* A pattern stands for the bytes of a message: byte i of pattern p. */
void sim_fill(const struct sim_buf *bufs, uint32_t count, uint64_t pattern);
/* What follows looks at [0, len_bytes) of the buffers. `what` goes into the message of a failure.
 */
/* They hold the pattern: from now on they must. */
void sim_expect(const struct sim_buf *bufs, uint32_t count, uint64_t pattern, uint64_t other,
                uint32_t len_bytes, const char *what);
/* Each byte is of the pattern, or what it was: from now on it stays. */
void sim_settle(const struct sim_buf *bufs, uint32_t count, uint64_t pattern, uint64_t other,
                const char *what);
/* Bytes that are of the pattern are as they must be: for buffers of which nobody knows whether the
 * message went there. */
void sim_absorb(const struct sim_buf *bufs, uint32_t count, uint64_t pattern, uint64_t other);

/* --- the world -------------------------------------------------------------------------------- */

struct sim_recv {
    uint64_t id;
    struct sim_buf bufs[SIM_SGES];
    uint32_t buf_count;
    uint32_t len_bytes;
    bool is_done;
};

/* Receives, posted or done: a queue pair's own, or shared. */
struct sim_recv_queue {
    struct rdma_srq *srq; /* NULL: a queue pair's */
    void *memory;
    struct sim_qp *qp;
    struct sim_node *node;
    uint32_t ring;
    uint32_t buf_bytes; /* of each receive */
    uint32_t count;
    uint32_t done;   /* completed, all before it too; own queues */
    uint32_t posted; /* not done */
    uint32_t wanted; /* messages posted that take one */
    struct sim_recv recvs[SIM_RECVS];
};

struct sim_wr {
    uint64_t id;
    uint64_t pattern;
    uint64_t other;   /* second pattern that bytes may be of; else the same */
    uint32_t allowed; /* 1 << status: beside SUCCESS and FLUSH */
    struct sim_buf local[SIM_SGES];
    uint32_t local_count;
    struct sim_buf remote; /* node NULL: none */
    uint32_t len_bytes;
    uint32_t imm;
    uint32_t access; /* BIND */
    uint8_t opcode;
    uint8_t flags;
    uint8_t status; /* when is_done */
    bool is_done;
    bool is_linked;        /* shares memory with the one behind or before it */
    bool keeps_local;      /* which the one behind it has */
    bool must_fail;        /* with one of `allowed` */
    uint32_t recv_allowed; /* 1 << status: that its receive may have beside SUCCESS and FLUSH */
    bool is_landed;        /* WRITE: seen at the peer */
    bool takes_recv;
    bool is_received;
};

static inline bool sim_wr_is_send(const struct sim_wr *wr)
{
    return wr->opcode <= RDMA_WR_SEND_WITH_INV;
}

static inline bool sim_wr_is_write(const struct sim_wr *wr)
{
    return wr->opcode == RDMA_WR_RDMA_WRITE || wr->opcode == RDMA_WR_RDMA_WRITE_WITH_IMM;
}

struct sim_qp {
    struct rdma_qp *qp; /* NULL: destroyed */
    void *memory;
    struct sim_node *node;
    struct sim_pair *pair;
    struct sim_qp *peer;
    uint32_t ring;
    bool signal_all;
    struct rdma_qp_attr attr;
    uint32_t wr_target; /* how many it will post */
    uint32_t wr_count;
    uint32_t wr_done;   /* all before it are */
    uint32_t recv_seen; /* of the peer's work requests: looked at for receives */
    bool has_failed;    /* a completion told so: the rest is flushed */
    bool has_poison;    /* posted */
    bool is_draining;   /* SQD */
    bool is_drained;
    struct sim_buf to_invalidate; /* bound by a work request, to be invalidated by another */
    bool is_dying;
    bool is_flushed; /* we took it to ERR */
    bool late_recvs;
    struct sim_recv_queue *rq;
    struct sim_recv_queue own_rq;
    struct sim_wr wrs[SIM_WRS];
    uint32_t events; /* 1 << type */
};

struct sim_pair {
    struct sim_qp qps[2];
    uint32_t doom; /* why anything may fail: 1 << SIM_DOOM_* ; 0: nothing may */
    uint32_t mtu_bytes;
    uint32_t allowed; /* statuses that its doom allows beside RETRY_EXC and FLUSH */
};

enum sim_doom {
    SIM_DOOM_POISON,  /* a work request that must fail was posted */
    SIM_DOOM_ERR,     /* we took a side to ERR */
    SIM_DOOM_DESTROY, /* or destroyed it */
    SIM_DOOM_KEY,     /* a key was invalidated under way */
    SIM_DOOM_WINDOW,
    SIM_DOOM_CUT,
    SIM_DOOM_RETRY, /* retries ran out, as they may */
    SIM_DOOM_END,
};

struct sim_node {
    uint32_t index;
    struct net_if *nif;
    struct rdma_device *device;
    void *net_memory;
    void *rdma_memory;
    struct rng rng;
    struct rdma_pd *pd;
    struct rdma_cq *cqs[2]; /* send, receive; or one */
    void *cq_memory[2];
    bool one_cq;
    struct rdma_mr *nic_mr;
    struct rdma_mr *host_mr;
    struct pcie_ep_view view;
    struct sim_arena nic;
    struct sim_arena host;
    uint64_t host_base;
    struct sim_key keys[SIM_KEYS];
    struct sim_recv_queue srq;
    bool has_srq;
    uint64_t cut_until_ns;
    uint32_t lost_windows;
};

/* A buffer that its owner may still see written or read, until the queue pair there is gone. */
struct sim_linger {
    struct sim_buf buf;
    struct sim_qp *qp; /* the one at the buffer's node */
    uint64_t pattern;
    uint64_t other;
    bool is_target; /* it may be written */
};

struct sim {
    uint64_t seed;
    uint64_t random;
    bool trace;
    bool is_ending;
    struct sim_plan plan;
    struct wire *wire;
    struct sim_node nodes[SIM_NODES];
    struct sim_pair pairs[SIM_PAIRS];
    uint32_t linger_count;
    struct sim_linger lingers[SIM_LINGERS];
    uint32_t memory_taken; /* arenas and shadows */
    uint64_t next_id;
    uint64_t act_ns;
    uint64_t poll_ns;
    uint64_t progress_ns;   /* when a completion came last */
    uint64_t held_until_ns; /* reaping stands still */
    bool is_held;
    bool has_mutated;   /* memory that was being sent */
    bool was_disturbed; /* SIM_CLEAN is no reason to expect no retries */
};
extern struct sim sim;

PRINTF_LIKE(1, 2) void sim_trace(const char *format, ...);
#define SIM_CHECK(condition, ...)  \
    do {                           \
        if (!(condition)) {        \
            sim_fail(__VA_ARGS__); \
        }                          \
    } while (0)

uint64_t sim_random(void);
uint64_t sim_below(uint64_t limit);              /* 0..limit - 1 */
uint64_t sim_range(uint64_t low, uint64_t high); /* both included */
bool sim_chance(uint32_t percent);

/* Turns the reactor until nothing moves. */
void sim_settle_turns(void);

/* --- queue pairs (sim_qp.c) ------------------------------------------------------------------- */

void sim_pair_open(struct sim_pair *pair, struct sim_node *a, struct sim_node *b);
/* Destroys one side, as far as the device lets. */
bool sim_qp_destroy(struct sim_qp *qp);
void sim_qp_flush(struct sim_qp *qp); /* to ERR */
void sim_qp_state(struct sim_qp *qp, enum rdma_qp_state state);
/* Nothing is missing: all that was posted has ended. */
bool sim_qp_is_done(const struct sim_qp *qp);
const char *sim_qp_name(const struct sim_qp *qp);

/* --- work (sim_work.c) ------------------------------------------------------------------------ */

void sim_work_post(struct sim_qp *qp);                          /* some work requests */
void sim_recvs_post(struct sim_recv_queue *rq, uint32_t count); /* as many as there is room for */

/* --- completions (sim_check.c) ---------------------------------------------------------------- */

void sim_poll(uint32_t max); /* all completion queues, `max` each */
/* Work requests at the end that are not signalled have ended, if all completions were polled and
 * the queue is empty. */
void sim_silent_ends(struct sim_qp *qp);
/* The queue pair is gone: its work has ended without completions. */
void sim_qp_gone(struct sim_qp *qp);
void sim_doom(struct sim_pair *pair, enum sim_doom why);
/* The memory of a work request is taken away from its peer now: its key is invalid. */
void sim_remote_revoke(struct sim_wr *wr);
/* Bytes of all buffers in the window are as they must be, and stay. */
void sim_window_freeze(struct sim_node *node, const struct pcie_ep_window *window);
/* Side by side with what the devices counted. */
void sim_stats_check(const struct sim_qp *qp);

/* --- events (sim_event.c) --------------------------------------------------------------------- */

void sim_event_act(void);
void sim_event_end(void); /* what was held or cut for a while goes on */
/* Ends connections that failed, and makes some of them anew. */
void sim_pairs_tend(void);
void sim_event_fn(void *ctx, const struct rdma_event *event);

#endif
