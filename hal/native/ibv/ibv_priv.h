/*
 * Objects of the libibverbs provider. Each begins with its contract's struct, and lies in a pool of
 * the device. Everything belongs to the device's owner core, but for struct rdma_ibv_wake.
 */
#ifndef NATIVE_IBV_IBV_PRIV_H
#define NATIVE_IBV_IBV_PRIV_H

#include <pthread.h>
#include <stdatomic.h>
#include <infiniband/verbs.h>
#include "base/list.h"
#include "base/pool.h"
#include "hal/native/ibv/rdma_ibv.h"
#include "rdma/verbs.h"
#include "sched/sched.h"

/* Work requests that one call of the library takes, and scatter/gather entries of each. */
#define RDMA_IBV_BATCH 16
#define RDMA_IBV_SGES  16

/* The partition that everything uses: the default one. */
#define RDMA_IBV_PKEY_INDEX 0

/* --- finding objects by a number of the library's -------------------------------------------- */

struct rdma_ibv_node {
    struct rdma_ibv_node *next;
    uint32_t id;
};

struct rdma_ibv_table {
    struct rdma_ibv_node **buckets;
    uint32_t shift; /* 32 - log2 of their number */
};

ALWAYS_INLINE struct rdma_ibv_node **rdma_ibv_bucket(const struct rdma_ibv_table *table,
                                                     uint32_t id)
{
    /* Knuth's multiplicative hash: keys differ in their upper bits, QP numbers in their lower. */
    return &table->buckets[(id * UINT32_C(2654435761)) >> table->shift];
}

ALWAYS_INLINE struct rdma_ibv_node *rdma_ibv_find(const struct rdma_ibv_table *table, uint32_t id)
{
    struct rdma_ibv_node *node = *rdma_ibv_bucket(table, id);
    while (node != NULL && node->id != id) {
        node = node->next;
    }
    return node;
}

void rdma_ibv_insert(struct rdma_ibv_table *table, struct rdma_ibv_node *node, uint32_t id);
void rdma_ibv_remove(struct rdma_ibv_table *table, struct rdma_ibv_node *node); /* must be in it */

/* --- memory ---------------------------------------------------------------------------------- */

struct rdma_ibv_pd {
    struct rdma_pd base;
    struct ibv_pd *ibv;
    uint32_t user_count; /* objects made from it */
    struct list mrs;
};

struct rdma_ibv_mr {
    struct rdma_mr base;
    struct ibv_mr *ibv; /* NULL: deregistered because its window went away */
    struct list link;   /* of the domain */
    struct list host_link;
    struct list keys; /* bound to it */
    uintptr_t memory; /* [memory, + len_bytes) in this process ... */
    uint64_t addr;    /* ... is addressed from here on */
    uint64_t len_bytes;
    bool may_bind;
    struct pcie_ep_view *view; /* host region; NULL: NIC memory */
    uint32_t generation;       /* of the view, when last looked at */
    bool for_write;
};

struct rdma_ibv_key {
    struct rdma_key base;
    struct rdma_ibv_node node; /* in the device's table while bound, by value */
    struct ibv_mw *mw;         /* NULL: the kernel gave none when the last one was given up */
    uint32_t invalidates;      /* RDMA_WR_LOCAL_INVs under way */
    uint32_t batch;            /* number of the call that bound it last */
    /* While bound: */
    struct rdma_ibv_mr *mr;
    struct list mr_link;
    struct list qp_link; /* of the queue pair that it was bound through */
    uintptr_t memory;    /* [memory, + len_bytes) in this process ... */
    uint64_t iova;       /* ... is addressed from here on under the key */
    uint32_t len_bytes;
};

/* --- queues ---------------------------------------------------------------------------------- */

struct rdma_ibv_cq {
    struct rdma_cq base;
    struct ibv_cq *ibv;
    struct list link; /* of the device */
    uint32_t qp_count;
    /* Completions that were taken out of the library's queue and not yet by its owner, oldest
     * first: a ring in the caller's memory. The owner gave the CQ room for all work requests, and
     * those of these completions are not handed back yet: it cannot overflow. */
    struct ibv_wc *saved;
    uint32_t saved_mask;
    uint32_t saved_head;
    uint32_t saved_tail;
};

/* What the library is told as wr_id: which queue, and which slot. A failed completion says neither
 * itself. */
#define RDMA_IBV_WR_ID_RECV (UINT64_C(1) << 32)

/* A send work request under way, by its free-running number. */
struct rdma_ibv_send_slot {
    uint64_t wr_id;
    struct rdma_ibv_key *key; /* BIND, LOCAL_INV of a key; else NULL */
    uint32_t value;           /* of the key */
    uint32_t opcode;          /* enum rdma_wr_opcode */
};
ASSERT_SIZE(struct rdma_ibv_send_slot, 24);

/* Receives of a queue under way: slots in the caller's memory; those that are free are chained. */
struct rdma_ibv_recv_slot {
    uint64_t wr_id;
    uint32_t next_free;
    uint32_t is_posted;
};
ASSERT_SIZE(struct rdma_ibv_recv_slot, 16);

#define RDMA_IBV_NO_SLOT UINT32_MAX

struct rdma_ibv_recv_slots {
    struct rdma_ibv_recv_slot *slots;
    uint32_t count;
    uint32_t posted;
    uint32_t first_free;
    uint8_t sge_count;
};

struct rdma_ibv_srq {
    struct rdma_srq base;
    struct ibv_srq *ibv;
    struct rdma_ibv_recv_slots recvs;
    uint32_t qp_count;
};

struct rdma_ibv_cm_id;

struct rdma_ibv_qp {
    struct rdma_qp base;
    struct rdma_ibv_node node; /* in the device's table, by number */
    struct ibv_qp *ibv;
    struct list link;             /* of the device */
    struct list keys;             /* bound through it */
    struct rdma_ibv_cm_id *cm_id; /* that has it, or NULL */
    struct rdma_ibv_send_slot *sends;
    uint32_t send_mask;
    uint32_t send_head; /* free running */
    uint32_t send_tail;
    uint32_t inline_bytes;
    uint8_t send_sge_count;
    struct rdma_ibv_recv_slots recvs;
};

struct rdma_ibv_ah {
    struct rdma_ah base;
    struct ibv_ah *ibv;
};

/* --- device ---------------------------------------------------------------------------------- */

/* Wakes the owner core when a descriptor has something to read, once for each time it is armed. */
#define RDMA_IBV_WAKE_FDS 4
struct rdma_ibv_wake {
    pthread_t thread;
    uint32_t core;
    int fds[RDMA_IBV_WAKE_FDS]; /* [0]: tells it to end */
    int arm_fd;
    _Atomic bool is_watching;
    bool is_started;
};

struct rdma_ibv_cm;

struct rdma_ibv_device {
    struct rdma_device base;
    struct ibv_context *context;
    char name[IBV_SYSFS_NAME_MAX];
    uint8_t port;
    uint8_t gid_index;
    uint32_t window_type; /* enum ibv_mw_type; 0: the device has none */
    uint32_t inv_flags;   /* of a completion, that say that the peer invalidated a key */
    struct net_addr addr;
    struct ibv_comp_channel *channel;
    struct rdma_ibv_cm *cm;
    struct pool pds;
    struct pool mrs;
    struct pool keys;
    struct pool cqs;
    struct pool srqs;
    struct pool qps;
    struct pool ahs;
    struct rdma_ibv_table qp_by_num;
    struct rdma_ibv_table key_by_value;
    struct list all_cqs;
    struct list all_qps;
    struct list host_mrs;
    struct poller poller;
    uint64_t events_due_ns;
    struct rdma_ibv_wake wake;
    void *memory; /* of the pools and tables */
    uint32_t batch;
    uint64_t event_count;
    /* One call of the library. */
    struct ibv_send_wr send_wrs[RDMA_IBV_BATCH];
    struct ibv_recv_wr recv_wrs[RDMA_IBV_BATCH];
    struct ibv_sge sges[RDMA_IBV_BATCH][RDMA_IBV_SGES];
    struct ibv_wc wcs[RDMA_IBV_BATCH];
};

ALWAYS_INLINE struct rdma_ibv_device *rdma_ibv_device_of(struct rdma_device *device)
{
    return CONTAINER_OF(device, struct rdma_ibv_device, base);
}

ALWAYS_INLINE struct rdma_ibv_pd *rdma_ibv_pd_of(struct rdma_pd *pd)
{
    return CONTAINER_OF(pd, struct rdma_ibv_pd, base);
}

ALWAYS_INLINE struct rdma_ibv_qp *rdma_ibv_qp_of(struct rdma_qp *qp)
{
    return CONTAINER_OF(qp, struct rdma_ibv_qp, base);
}

ALWAYS_INLINE struct rdma_ibv_cq *rdma_ibv_cq_of(struct rdma_cq *cq)
{
    return CONTAINER_OF(cq, struct rdma_ibv_cq, base);
}

ALWAYS_INLINE struct rdma_ibv_srq *rdma_ibv_srq_of(struct rdma_srq *srq)
{
    return CONTAINER_OF(srq, struct rdma_ibv_srq, base);
}

ALWAYS_INLINE struct rdma_ibv_key *rdma_ibv_key_of(struct rdma_key *key)
{
    return CONTAINER_OF(key, struct rdma_ibv_key, base);
}

/* To a power of two. */
ALWAYS_INLINE uint32_t rdma_ibv_round_up(uint32_t count)
{
    uint32_t result = 1;
    while (result < count && result < UINT32_C(1) << 31) {
        result <<= 1;
    }
    return result;
}

/* An error number (positive) of the library as our own status. */
enum status rdma_ibv_status(int error);

/* --- ibv_wake.c ------------------------------------------------------------------------------ */

enum status rdma_ibv_wake_start(struct rdma_ibv_wake *wake, uint32_t core, const int *fds,
                                uint32_t count);
void rdma_ibv_wake_arm(struct rdma_ibv_wake *wake);
void rdma_ibv_wake_stop(struct rdma_ibv_wake *wake);

/* --- ibv_mem.c ------------------------------------------------------------------------------- */

enum status rdma_ibv_pd_alloc(struct rdma_device *device, uint16_t fn, struct rdma_pd **out);
enum status rdma_ibv_pd_free(struct rdma_pd *pd);
enum status rdma_ibv_mr_reg(struct rdma_pd *pd, const struct rdma_mr_attr *attr,
                            struct rdma_mr **out);
enum status rdma_ibv_mr_dereg(struct rdma_mr *mr);
/* Deregisters the host regions whose windows are no longer where they were. */
uint32_t rdma_ibv_mr_sweep(struct rdma_ibv_device *device);
int rdma_ibv_access(uint32_t access);

/* --- ibv_key.c ------------------------------------------------------------------------------- */

enum status rdma_ibv_key_alloc(struct rdma_pd *pd, struct rdma_key **out);
enum status rdma_ibv_key_free(struct rdma_key *key);
uint32_t rdma_ibv_key_prepare(struct rdma_key *key);
enum status rdma_ibv_key_bind(struct rdma_key *key, const struct mem_ref *ref, uint64_t iova,
                              uint32_t access);
void rdma_ibv_key_invalidate(struct rdma_key *key);
bool rdma_ibv_key_is_quiet(const struct rdma_key *key);

/* Fills in the library's work request for RDMA_WR_BIND; the key counts as bound then. */
enum status rdma_ibv_key_begin_bind(struct rdma_ibv_qp *qp, const struct rdma_send_wr *wr,
                                    struct ibv_send_wr *out);
/* A key that is bound no more, for what reason ever: only our own state changes. */
void rdma_ibv_key_unbound(struct rdma_ibv_key *key);
/* The bound key with this value, or NULL. */
struct rdma_ibv_key *rdma_ibv_key_find(struct rdma_ibv_device *device, uint32_t value);
/* Gives up the window and takes another: ends whatever the old one was good for, at once. */
void rdma_ibv_key_renew(struct rdma_ibv_key *key);
/* Puts the region's lkey and address in the place of a key's. */
void rdma_ibv_key_translate(struct rdma_ibv_device *device, struct rdma_pd *pd,
                            struct ibv_sge *sge);

/* --- ibv_queue.c, ibv_qp.c -------------------------------------------------------------------- */

uint64_t rdma_ibv_cq_memory_bytes(const struct rdma_device *device, uint32_t entry_count);
enum status rdma_ibv_cq_create(struct rdma_device *device, const struct rdma_cq_attr *attr,
                               struct rdma_cq **out);
enum status rdma_ibv_cq_destroy(struct rdma_cq *cq);
/* Asks for a wake-up at the next completion. False: some are there. */
bool rdma_ibv_cq_arm(struct rdma_ibv_cq *cq);
/* Takes out what is there for this queue pair, whose queues are at rest. */
void rdma_ibv_cq_purge(struct rdma_ibv_cq *cq, const struct rdma_ibv_qp *qp);

uint64_t rdma_ibv_srq_memory_bytes(const struct rdma_device *device, uint32_t wr_count);
enum status rdma_ibv_srq_create(const struct rdma_srq_attr *attr, struct rdma_srq **out);
enum status rdma_ibv_srq_destroy(struct rdma_srq *srq);

void rdma_ibv_recv_slots_init(struct rdma_ibv_recv_slots *slots, void *memory, uint32_t count,
                              uint8_t sge_count);
struct rdma_ibv_recv_slots *rdma_ibv_recv_slots_of(const struct rdma_ibv_qp *qp);
/* Ends the receive with this number; returns its wr_id. */
uint64_t rdma_ibv_recv_slot_put(struct rdma_ibv_recv_slots *slots, uint32_t slot);

enum status rdma_ibv_ah_create(struct rdma_pd *pd, const struct rdma_av *av, struct rdma_ah **out);
void rdma_ibv_ah_destroy(struct rdma_ah *ah);
void rdma_ibv_fill_ah(const struct rdma_ibv_device *device, const struct rdma_av *av,
                      struct ibv_ah_attr *out);

uint64_t rdma_ibv_qp_memory_bytes(const struct rdma_device *device,
                                  const struct rdma_qp_init_attr *attr);
enum status rdma_ibv_qp_create(const struct rdma_qp_init_attr *attr, struct rdma_qp **out);
enum status rdma_ibv_qp_destroy(struct rdma_qp *qp);
enum status rdma_ibv_qp_modify(struct rdma_qp *qp, const struct rdma_qp_attr *attr, uint32_t mask);
/* The same in the library's terms; follows the state. */
enum status rdma_ibv_qp_apply(struct rdma_ibv_qp *qp, struct ibv_qp_attr *attr, int mask);
/* To ERR, if it is not there; what the device says to it does not matter. */
void rdma_ibv_qp_to_error(struct rdma_ibv_qp *qp);
void rdma_ibv_qp_query(const struct rdma_qp *qp, struct rdma_qp_info *info);
void rdma_ibv_qp_visit(struct rdma_device *device, void (*visit)(struct rdma_qp *qp, void *ctx),
                       void *ctx);

/* --- ibv_post.c, ibv_poll.c ------------------------------------------------------------------- */

enum status rdma_ibv_post_send(struct rdma_qp *qp, const struct rdma_send_wr *wr,
                               const struct rdma_send_wr **bad);
enum status rdma_ibv_post_recv(struct rdma_qp *qp, const struct rdma_recv_wr *wr,
                               const struct rdma_recv_wr **bad);
enum status rdma_ibv_srq_post(struct rdma_srq *srq, const struct rdma_recv_wr *wr,
                              const struct rdma_recv_wr **bad);
uint32_t rdma_ibv_cq_poll(struct rdma_cq *cq, struct rdma_wc *wcs, uint32_t max);
/* Ends all send work requests: nobody knows how far they got. */
void rdma_ibv_sends_drop(struct rdma_ibv_qp *qp);

/* --- ibv_cm.c -------------------------------------------------------------------------------- */

extern const struct rdma_cm_ops rdma_ibv_cm_ops;

enum status rdma_ibv_cm_open(struct rdma_ibv_device *device, uint32_t id_count);
void rdma_ibv_cm_close(struct rdma_ibv_device *device);
int rdma_ibv_cm_fd(const struct rdma_ibv_device *device);
uint32_t rdma_ibv_cm_poll(struct rdma_ibv_device *device);
bool rdma_ibv_cm_is_quiet(const struct rdma_ibv_device *device);
/* The first packet came to this queue pair before the confirmation of its peer. */
void rdma_ibv_cm_first_packet(struct rdma_ibv_qp *qp);
/* The queue pair goes: its id must not touch it again. */
void rdma_ibv_cm_forget_qp(struct rdma_ibv_qp *qp);

#endif
