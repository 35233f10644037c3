/*
 * Inside of the queue half of the initiator: what core.c, queue*.c, io*.c and stage.c share. All of
 * it belongs to the queue's core. nvmf_host_priv.h has what the associations see.
 *
 * A command holds, from the moment it is sent: a tag of its queue (hence a CID), a slot of the core
 * (64 bytes of registered memory for the capsule), with data a key of its tenant's domain, when
 * staged a piece of the core's NIC memory. It gives them back when three things have happened: the
 * response is there; the send has completed, where data went along in it; the key is quiet.
 *
 * Source: NVM Express over Fabrics 1.1, sections 2.1 to 2.4 and 7.3.
 */
#ifndef NVMF_HOST_QUEUE_PRIV_H
#define NVMF_HOST_QUEUE_PRIV_H

#include "hal/clock.h"
#include "nvmf_host/nvmf_host_priv.h"

#define NVMF_ABORT_NS        (300 * NS_PER_MS) /* from an abort to the end of its command */
#define NVMF_CANCEL_NS       (100 * NS_PER_MS) /* the same when its submitter cancelled it */
#define NVMF_SCAN_NS         (20 * NS_PER_MS)  /* deadlines are looked at so often */
#define NVMF_ADMIN_SLOTS     256               /* of a core, for what is no block request */
#define NVMF_DOMAIN_KEYS_MIN 4                 /* that a domain in use has for itself */
#define NVMF_DOMAIN_SLOTS    32                /* likewise */
#define NVMF_RECV_BATCH      16
#define NVMF_RECVS_MIN       64 /* of a tenant on a core */
#define NVMF_POLL_MAX        64
#define NVMF_PAGE_BYTES      4096u
#define NVMF_NO_TAG          0xffff

/* --- NIC memory for staging (stage.c) ----------------------------------------------------------
 */

/* Pages in pieces that are contiguous, so that a key of any provider can be bound to one. */
struct nvmf_stage {
    uint8_t *base;
    uint64_t *used; /* a bit for each page */
    uint32_t page_count;
    uint32_t free_count;
    uint32_t first; /* no page before this one is free */
};

uint64_t nvmf_stage_map_bytes(uint64_t stage_bytes);
void nvmf_stage_init(struct nvmf_stage *stage, void *base, uint64_t *map, uint64_t stage_bytes);
/* NULL: no piece is so long now; first fit. len_bytes is not 0. */
void *nvmf_stage_get(struct nvmf_stage *stage, uint32_t len_bytes);
void nvmf_stage_put(struct nvmf_stage *stage, void *piece, uint32_t len_bytes);
/* Whether it could ever be had. */
bool nvmf_stage_can_hold(const struct nvmf_stage *stage, uint32_t len_bytes);

/* --- rings and domains (core.c) ----------------------------------------------------------------
 */

/* Where responses arrive and are told, for all queues that use these. Here alone lies what is in
 * host memory for NVMF_PATH_HOST_QUEUES. */
struct nvmf_rings {
    struct rdma_cq *cq;
    struct rdma_srq *srq;
    struct nvme_cqe *responses; /* registered */
    uint32_t response_count;
    uint32_t batch_count; /* receives that are to be posted again */
    struct rdma_recv_wr batch[NVMF_RECV_BATCH];
    struct rdma_sge sges[NVMF_RECV_BATCH];
};

/* The same in host memory: nothing of its content is believed. */
struct nvmf_host_area {
    struct nvmf_rings rings;       /* of receives alone; cq: NULL while nobody uses them */
    struct rdma_mr *mr;            /* over the responses */
    uint8_t *memory;               /* NULL: none, or it is to be left */
    uint32_t user_count;           /* queues */
    struct nvmf_host_order *leave; /* waits for the last of them */
};

enum nvmf_domain_state {
    NVMF_DOMAIN_CLOSED,
    NVMF_DOMAIN_OPEN,
    NVMF_DOMAIN_CLOSING, /* nobody uses it; objects go as soon as the device lets go of them */
};

/* A tenant on one core. */
struct nvmf_domain {
    struct nvmf_core *core;
    struct rdma_pd *pd;
    struct rdma_mr *mr;     /* over the core's capsules, responses and stage; no remote rights */
    struct rdma_key **keys; /* those that are free */
    uint32_t free_key_count;
    uint32_t key_count; /* made */
    uint32_t user_count;
    uint32_t used_slot_count; /* of the core's */
    uint16_t fn;
    uint8_t state; /* enum nvmf_domain_state */
    void *srq_memory;
    struct nvmf_rings rings;
    struct nvmf_host_area host;
};

struct nvmf_core {
    struct poller poller;
    struct rdma_device *device;
    struct rdma_cq *cq;
    uint32_t id;
    uint32_t free_slot_count;
    uint32_t slot_share; /* that requests of one tenant may have: others have something left */
    uint16_t *free_slots;
    struct nvme_sqe *capsules;      /* by slot */
    struct list queues;             /* those that are not CLOSED */
    struct list hungry;             /* of those, the ones in which something waits */
    struct list settling;           /* tags that wait for their key */
    struct list work;               /* queues that want a step in the next turn */
    bool is_freed;                  /* something that others wait for was given back */
    bool is_scan_due;               /* before its time: somebody cancelled */
    bool is_drained;                /* the last poll took all completions */
    bool is_bound_by_wr;            /* the provider binds keys by work requests alone */
    bool takes_any_ref;             /* keys can be bound to any list of segments */
    struct nvmf_queue *stage_claim; /* the queue that waits longest for NIC memory */
    struct nvmf_stage stage;
    struct timer timer;
    uint32_t slot_count;
    uint32_t closing_count;   /* domains */
    uint32_t host_area_count; /* in use */
    uint32_t key_count;       /* of all domains; at most slot_count */
    uint32_t cqe_count;       /* of the CQ: those that queues may fill in */
    uint32_t cqe_left;        /* not yet promised to a queue */
    uint8_t *wire;            /* what domains register */
    uint64_t wire_bytes;
    struct pool hellos; /* Connect data */
    struct nvmf_domain domains[LIMIT_FUNCTIONS];
    /* By core that has cancelled a request which it had sent here. */
    struct nvmf_cancel {
        struct msg msg;
        struct nvmf_core *core;
        _Atomic bool is_sent;
    } cancels[LIMIT_CORES];
};

/* One more user. AGAIN: the last ones' objects are still going; NO_SPACE; INVALID: no such tenant.
 */
MUST_USE enum status nvmf_domain_get(struct nvmf_core *core, uint16_t fn, struct nvmf_domain **out);
void nvmf_domain_put(struct nvmf_domain *domain);
/* In each turn while one is CLOSING. */
void nvmf_domain_release_all(struct nvmf_core *core);
/* Makes one more, or takes one from a tenant that has many; NULL: all are in use. */
struct rdma_key *nvmf_domain_more_keys(struct nvmf_domain *domain);

/* A key that is not bound, and quiet. */
ALWAYS_INLINE struct rdma_key *nvmf_key_get(struct nvmf_domain *domain)
{
    if (UNLIKELY(domain->free_key_count == 0)) {
        return nvmf_domain_more_keys(domain);
    }
    return domain->keys[--domain->free_key_count];
}

ALWAYS_INLINE void nvmf_key_put(struct nvmf_domain *domain, struct rdma_key *key)
{
    domain->keys[domain->free_key_count++] = key;
}

/* --- tags --------------------------------------------------------------------------------------
 */

enum nvmf_tag_state {
    NVMF_TAG_FREE,
    NVMF_TAG_SENT, /* no response yet */
    NVMF_TAG_DONE, /* the response is here; its send or its key is not over yet */
};

#define NVMF_TAG_CMD       (1u << 0) /* of a struct nvmf_cmd */
#define NVMF_TAG_SENDING   (1u << 1) /* data are in the capsule: the send must complete, too */
#define NVMF_TAG_STAGED    (1u << 2)
#define NVMF_TAG_CANCELLED (1u << 3)
#define NVMF_TAG_LATE      (1u << 4) /* its abort was asked for */

struct nvmf_tag {
    union {
        struct blk_req *req;
        struct nvmf_cmd *cmd;
    };                    /* NULL: its owner was told already, the response is still to come */
    struct rdma_key *key; /* NULL: none */
    uint64_t deadline_ns;
    uint32_t dw0;
    uint32_t dw1;
    uint32_t key_value;
    nvme_status_t status;
    uint16_t cid;  /* index, and above it a generation: differs with each use */
    uint16_t next; /* FREE */
    uint16_t slot;
    uint8_t state; /* enum nvmf_tag_state */
    uint8_t flags; /* NVMF_TAG_* */
    uint8_t path;  /* enum nvmf_path */
};

/* What few need. */
struct nvmf_tag_more {
    struct list link;
    struct mem_seg seg; /* of data in NIC memory */
    struct mem_ref ref;
    struct nvmf_queue *queue;
};

/* --- queues ------------------------------------------------------------------------------------
 */

enum nvmf_queue_event {
    NVMF_EVENT_NONE,
    NVMF_EVENT_OPENED,
    NVMF_EVENT_LOST,
    NVMF_EVENT_STUCK,
};

struct nvmf_queue_inner {
    struct nvmf_queue *queue;
    struct nvmf_tag *tags;
    struct nvmf_tag_more *more;
    struct nvmf_path_counters *paths; /* of this core; by enum nvmf_path */
    struct nvmf_domain *domain;
    struct nvmf_rings *rings;
    struct rdma_qp *qp;
    uint64_t next_deadline_ns; /* no tag's is earlier */
    uint64_t stalled_since_ns; /* UINT64_MAX: it is not */
    uint32_t icd_bytes;        /* data that go in capsules */
    uint16_t free_tag;
    uint16_t cid_mask;
    uint16_t sq_tail; /* as the controller counts; with SQ flow control */
    uint16_t sq_head;
    uint32_t posted; /* work requests, ever; free-running */
    uint32_t reaped; /* of those, known to be over */
    uint32_t ring_entries;
    uint32_t signal_every;
    uint32_t unsignalled;
    /* The work request of a capsule: filled in but for slot, wr_id, flags and data. */
    struct rdma_send_wr wr;
    struct rdma_sge sges[2];

    struct list waiting;     /* struct blk_req, link */
    struct list waiting_cmd; /* struct nvmf_cmd, link */
    struct list link;        /* in core->queues */
    struct list hungry_link; /* in core->hungry */
    struct list work_link;   /* in core->work */

    struct rdma_cm_id *id;
    struct nvmf_cmd connect;
    void *hello; /* struct nvmf_connect_data; NULL: not taken */
    uint64_t step_deadline_ns;
    uint64_t quiet_ns; /* CLOSING */
    uint32_t fail_code;
    uint32_t cqe_count; /* promised by the core */
    uint32_t traffic_mark;
    uint16_t tag_count; /* that may be used now */
    uint16_t entries_max;
    uint8_t fail;  /* enum nvmf_fail */
    uint8_t event; /* enum nvmf_queue_event: to be told in the next step */
    bool is_torn;  /* CLOSING: the queue pair is in error */
    bool is_stuck; /* told */
    void *qp_memory;
};

/* --- work requests -----------------------------------------------------------------------------
 */

/* wr_id of a receive: this and the index of its response; of a send: how many were posted up to and
 * with it, above that the CID when its completion is waited for. */
#define NVMF_WR_RECV      BIT64(63)
#define NVMF_WR_DATA      BIT64(62)
#define NVMF_WR_CID_SHIFT 32

/* --- block requests on their way ---------------------------------------------------------------
 */

/* What blk_req.priv is here. */
struct nvmf_ticket {
    struct msg msg; /* between the submitter's core and the queue's */
    struct nvmf_queue *queue;
    uint32_t nsid;
    uint16_t tag; /* NVMF_NO_TAG: not sent yet */
    uint8_t path;
    _Atomic uint8_t is_cancelled; /* by the submitter's core, when that is not the queue's */
};
_Static_assert(sizeof(struct nvmf_ticket) <= sizeof(((struct blk_req *)0)->priv),
               "a request has this much room for its device");

ALWAYS_INLINE struct nvmf_ticket *nvmf_ticket(struct blk_req *req)
{
    return (struct nvmf_ticket *)(void *)req->priv;
}

/* --- what the files call of each other ----------------------------------------------------------
 */

/* queue.c */
/* In the next turn its step runs. */
void nvmf_queue_work(struct nvmf_queue *queue);
/* The queue pair, if there is one, goes to error: nothing is received from now on. */
void nvmf_queue_stop(struct nvmf_queue *queue);
/* The connection is of no use any more; the owner hears it in the next step. Any state. */
void nvmf_queue_break(struct nvmf_queue *queue, enum nvmf_fail fail, uint32_t code);
/* One step of what goes over several turns; false: nothing is left to do. */
bool nvmf_queue_step(struct nvmf_queue *queue);

/* As nvmf_key_bind(), for providers that bind by work requests. */
bool nvmf_key_bind_by_wr(struct nvmf_queue *queue, struct rdma_key *key, const struct mem_ref *ref,
                         uint32_t access, uint32_t *value);

/* host_area.c */
/* One more queue over the tenant's host memory. False: there is none. */
bool nvmf_host_area_get(struct nvmf_domain *domain);
/* The queue's pair is destroyed. */
void nvmf_host_area_put(struct nvmf_domain *domain);

/* queue_close.c */
bool nvmf_queue_close_step(struct nvmf_queue *queue);

/* queue_cmd.c */
void nvmf_cmd_finish(struct nvmf_queue *queue, struct nvmf_tag *tag);
/* False: no tag, slot or key. */
MUST_USE bool nvmf_cmd_issue(struct nvmf_queue *queue, struct nvmf_cmd *cmd);
void nvmf_cmd_end(struct nvmf_cmd *cmd); /* never answered */
/* Its time is over: its owner hears it; the tag stays until the response or the end. */
void nvmf_cmd_late(struct nvmf_queue *queue, struct nvmf_tag *tag);
void nvmf_cmd_scan_waiting(struct nvmf_queue *queue, uint64_t now_ns);

/* queue_run.c */
uint32_t nvmf_core_run(void *ctx);
uint64_t nvmf_core_arm(void *ctx, bool armed);
void nvmf_core_scan(struct timer *timer);
void nvmf_recv_post(struct nvmf_rings *rings);
/* Puts a receive back; posted in batches. */
ALWAYS_INLINE void nvmf_recv_put(struct nvmf_rings *rings, uint32_t index)
{
    uint32_t n = rings->batch_count++;

    rings->batch[n].wr_id = NVMF_WR_RECV | index;
    rings->sges[n].addr = (uintptr_t)&rings->responses[index];
    if (UNLIKELY(rings->batch_count == NVMF_RECV_BATCH)) {
        nvmf_recv_post(rings);
    }
}
/* As nvmf_recv_put() for a ring in host memory, whose receives are but slots. */
ALWAYS_INLINE void nvmf_host_recv_put(struct nvmf_rings *rings, uint32_t slot)
{
    rings->batch[rings->batch_count++].wr_id = slot;
    if (rings->batch_count == NVMF_RECV_BATCH) {
        nvmf_recv_post(rings);
    }
}
/* Something waits in the queue. */
void nvmf_queue_hunger(struct nvmf_queue *queue);

/* io.c */
void nvmf_io_finish(struct nvmf_queue *queue, struct nvmf_tag *tag);
/* False: it has to wait for something. True: sent, or ended. */
MUST_USE bool nvmf_io_issue(struct nvmf_queue *queue, struct blk_req *req);
/* It has arrived at the queue's core. */
void nvmf_io_start(struct nvmf_queue *queue, struct blk_req *req);
/* Every way out for a request: by message, when it came from another core. */
void nvmf_io_complete(const struct nvmf_core *core, struct blk_req *req, nvme_status_t status);

/* io_slow.c */
void nvmf_io_forward(struct nvmf_queue *queue, struct blk_req *req,
                     struct nvmf_path_counters *counters);
void nvmf_io_complete_far(struct blk_req *req, nvme_status_t status);
void nvmf_io_wait(struct nvmf_queue *queue, struct blk_req *req);
/* Host Path Error. */
void nvmf_io_end_path(const struct nvmf_core *core, struct blk_req *req, uint64_t quiet_ns);
/* NVMF_PATH_HOST_QUEUES over ordinary rings: counted, told once in a while. */
void nvmf_io_fall_back(struct nvmf_queue *queue);
/* The queue is going: what waits, and what was sent. */
void nvmf_io_end_waiting(struct nvmf_queue *queue);
void nvmf_io_end_tag(struct nvmf_queue *queue, struct nvmf_tag *tag);
/* The status for the submitter of what did not just succeed, or was staged. */
nvme_status_t nvmf_io_finish_slowly(struct nvmf_queue *queue, struct nvmf_tag *tag);
/* A deadline has passed, or the submitter has cancelled. */
void nvmf_io_late(struct nvmf_queue *queue, struct nvmf_tag *tag, uint64_t now_ns);
void nvmf_io_scan_waiting(struct nvmf_queue *queue, uint64_t now_ns);
void nvmf_io_cancel(struct blk_dev *dev, struct blk_req *req);
void nvmf_io_cancelled_far(struct msg *msg);
/* Whether a key of the core's device can be bound to it. */
bool nvmf_io_is_expressible(const struct nvmf_core *core, const struct mem_ref *ref);
/* A piece of NIC memory for the request's data, filled if they go out; more->ref names it. AGAIN;
 * NO_SPACE: it can never be had; INVALID: the data are shorter than they say. */
MUST_USE enum status nvmf_io_stage(struct nvmf_queue *queue, struct nvmf_tag_more *more,
                                   struct blk_req *req);
void nvmf_io_unstage(struct nvmf_queue *queue, struct nvmf_tag_more *more);

/* --- small things of all of them ----------------------------------------------------------------
 */

ALWAYS_INLINE struct nvmf_tag_more *nvmf_tag_more(const struct nvmf_queue_inner *inner,
                                                  const struct nvmf_tag *tag)
{
    return &inner->more[tag->cid & inner->cid_mask];
}

/* A place for one more command on the wire: a tag, and room in the controller's queue and in the
 * send queue (a bind may come with it). */
ALWAYS_INLINE bool nvmf_queue_has_place(const struct nvmf_queue *queue)
{
    const struct nvmf_queue_inner *inner = queue->inner;

    if (UNLIKELY(inner->free_tag == NVMF_NO_TAG ||
                 inner->posted - inner->reaped + 2 > inner->ring_entries)) {
        return false;
    }
    if (!queue->sq_flow_off) {
        uint32_t next = inner->sq_tail + 1u;
        return (next == queue->params.entries ? 0 : next) != inner->sq_head;
    }
    return true;
}

/* That and a slot: block requests leave some for other commands, and for other tenants. */
ALWAYS_INLINE bool nvmf_queue_has_room(const struct nvmf_queue *queue, bool for_io)
{
    const struct nvmf_core *core = queue->core;
    bool has_slot = for_io ? core->free_slot_count > NVMF_ADMIN_SLOTS &&
                                 queue->inner->domain->used_slot_count < core->slot_share
                           : core->free_slot_count > 0;

    return has_slot && nvmf_queue_has_place(queue);
}

ALWAYS_INLINE struct nvmf_tag *nvmf_tag_take(struct nvmf_queue *queue)
{
    struct nvmf_queue_inner *inner = queue->inner;
    struct nvmf_core *core = queue->core;
    struct nvmf_tag *tag = &inner->tags[inner->free_tag];

    inner->free_tag = tag->next;
    inner->domain->used_slot_count++;
    tag->slot = core->free_slots[--core->free_slot_count];
    tag->state = NVMF_TAG_SENT;
    queue->in_flight++;
    if (!queue->sq_flow_off) {
        inner->sq_tail++;
        if (inner->sq_tail == queue->params.entries) {
            inner->sq_tail = 0;
        }
    }
    return tag;
}

/* With its key, which is quiet. The next use has another CID. */
ALWAYS_INLINE void nvmf_tag_give(struct nvmf_queue *queue, struct nvmf_tag *tag)
{
    struct nvmf_queue_inner *inner = queue->inner;
    struct nvmf_core *core = queue->core;
    uint16_t index = tag->cid & inner->cid_mask;

    if (tag->key != NULL) {
        nvmf_key_put(inner->domain, tag->key);
        tag->key = NULL;
    }
    core->free_slots[core->free_slot_count++] = tag->slot;
    inner->domain->used_slot_count--;
    core->is_freed = true;
    tag->state = NVMF_TAG_FREE;
    tag->cid = (uint16_t)(tag->cid + inner->cid_mask + 1);
    tag->next = inner->free_tag;
    inner->free_tag = index;
    queue->in_flight--;
}

/* What the two kinds of commands have in common once the three conditions hold. */
ALWAYS_INLINE void nvmf_tag_finish(struct nvmf_queue *queue, struct nvmf_tag *tag)
{
    if (UNLIKELY((tag->flags & NVMF_TAG_CMD) != 0)) {
        nvmf_cmd_finish(queue, tag);
    } else {
        nvmf_io_finish(queue, tag);
    }
}

ALWAYS_INLINE void nvmf_tag_deadline(struct nvmf_queue_inner *inner, struct nvmf_tag *tag,
                                     uint64_t deadline_ns)
{
    tag->deadline_ns = deadline_ns;
    if (UNLIKELY(deadline_ns < inner->next_deadline_ns)) {
        inner->next_deadline_ns = deadline_ns;
    }
}

/* Gives the key to `ref`, at address 0; *value: what the peer has to name. False: the provider
 * cannot, or the queue broke. */
MUST_USE ALWAYS_INLINE bool nvmf_key_bind(struct nvmf_queue *queue, struct rdma_key *key,
                                          const struct mem_ref *ref, uint32_t access,
                                          uint32_t *value)
{
    if (UNLIKELY(queue->core->is_bound_by_wr)) {
        return nvmf_key_bind_by_wr(queue, key, ref, access, value);
    }
    if (UNLIKELY(rdma_key_bind(key, ref, 0, access) != STATUS_OK)) {
        return false;
    }
    *value = key->value;
    return true;
}

/* The upper half of SGL1: of a keyed descriptor (7.3.5.1), or of one for data in the capsule, with
 * no key. The lower half is 0: keys begin there. */
ALWAYS_INLINE uint64_t nvmf_sgl_desc(uint32_t len_bytes, uint32_t key_value, uint8_t type)
{
    return (uint64_t)type << 56 | (uint64_t)key_value << 24 | len_bytes;
}

/* Sends the capsule that the tag's slot holds, and, with NVMF_TAG_SENDING, the data that
 * inner->sges[1] names. The caller has made sure of room. */
ALWAYS_INLINE void nvmf_tag_post(struct nvmf_queue *queue, struct nvmf_tag *tag)
{
    struct nvmf_queue_inner *inner = queue->inner;
    struct rdma_send_wr *wr = &inner->wr;
    uint64_t wr_id = (uint64_t)tag->cid << NVMF_WR_CID_SHIFT | ++inner->posted;

    inner->sges[0].addr = (uintptr_t)&queue->core->capsules[tag->slot];
    wr->sge_count = 1;
    wr->flags = 0;
    if (UNLIKELY((tag->flags & NVMF_TAG_SENDING) != 0)) {
        wr_id |= NVMF_WR_DATA;
        wr->sge_count = 2;
        wr->flags = RDMA_SEND_SIGNALED;
    }
    if (++inner->unsignalled >= inner->signal_every || wr->flags != 0) {
        wr->flags = RDMA_SEND_SIGNALED;
        inner->unsignalled = 0;
    }
    wr->wr_id = wr_id;
    if (UNLIKELY(rdma_post_send(inner->qp, wr, NULL) != STATUS_OK)) {
        nvmf_queue_break(queue, NVMF_FAIL_TRANSPORT, RDMA_WC_LOC_QP_OP_ERR);
    }
}

#endif
