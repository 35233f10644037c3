/*
 * Block requests to commands and back: the way that nearly all take. What is rare: io_slow.c.
 *
 *   submit --> issue: tag, slot, key bound to the request's own segments, capsule --> wire
 *         \--> waiting list of the queue (something ran out) --> issue
 *         \--> message to the queue's core --> as above
 *   response (queue_run.c) --> key invalid and quiet --> finish --> blk_complete
 *
 * Source: NVM Express over Fabrics 1.1, 2.3 (SGLs), 7.3.5 (keyed descriptors,
 * in-capsule data).
 */
#include "base/trace.h"
#include "nvmf_host/queue_priv.h"

/* --- submit ------------------------------------------------------------------------------------
 */

/* What no command can be made of. */
ALWAYS_INLINE bool is_valid(const struct blk_req *req)
{
    uint32_t len_bytes = req->data.len_bytes;

    return req->meta == NULL && FIELD_GET(NVME_SQE_FUSE, req->cmd.flags) == 0 &&
           req->cmd.opcode != NVMF_OPCODE && len_bytes <= NVMF_KEYED_LEN_MAX &&
           (len_bytes == 0 || req->dir == NVME_DIR_TO_CONTROLLER ||
            req->dir == NVME_DIR_FROM_CONTROLLER);
}

/* What a command has of data. */
struct data {
    struct rdma_key *key; /* NULL: none */
    uint32_t key_value;
    uint8_t flags; /* NVMF_TAG_STAGED, NVMF_TAG_SENDING */
    uint64_t desc; /* upper half of SGL1; the lower one, address or offset, is 0 */
};

enum way {
    WAY_SENT,  /* or ended */
    WAY_WAITS, /* something is not there now */
    WAY_OPEN,  /* go on */
};

/* No key can be bound to it, or the device has it not in memory that it knows. */
NOINLINE static enum way refuse(struct nvmf_queue *queue, struct blk_req *req)
{
    nvmf_io_complete(queue->core, req, NVME_SC_INTERNAL_ERROR | NVME_STATUS_DNR);
    return WAY_SENT;
}

/* Moves the data to NIC memory, or makes room for them there; *ref then names that. It belongs to
 * the tag that will be taken next. */
NOINLINE static enum way stage(struct nvmf_queue *queue, struct blk_req *req, struct data *data,
                               const struct mem_ref **ref)
{
    struct nvmf_tag_more *more = &queue->inner->more[queue->inner->free_tag];

    enum status status = nvmf_io_stage(queue, more, req);
    if (status == STATUS_OK) {
        data->flags |= NVMF_TAG_STAGED;
        *ref = &more->ref;
        return WAY_OPEN;
    }
    return status == STATUS_AGAIN ? WAY_WAITS : refuse(queue, req);
}

/* What was taken for data goes back. */
NOINLINE static void undo(struct nvmf_queue *queue, const struct data *data)
{
    struct nvmf_queue_inner *inner = queue->inner;

    if (data->key != NULL) {
        nvmf_key_put(inner->domain, data->key);
    }
    if ((data->flags & NVMF_TAG_STAGED) != 0) {
        nvmf_io_unstage(queue, &inner->more[inner->free_tag]);
    }
}

/* Binds a key to `ref` and describes it; data of a write go in the capsule if they fit. */
ALWAYS_INLINE bool bind(struct nvmf_queue *queue, const struct blk_req *req,
                        const struct mem_ref *ref, struct nvmf_path_counters *counters,
                        struct data *data)
{
    struct nvmf_queue_inner *inner = queue->inner;
    uint32_t len_bytes = req->data.len_bytes;
    uint32_t access = RDMA_ACCESS_REMOTE_WRITE | RDMA_ACCESS_LOCAL_WRITE;

    if (req->dir == NVME_DIR_TO_CONTROLLER) {
        access = RDMA_ACCESS_REMOTE_READ;
        if (len_bytes <= inner->icd_bytes) {
            access = 0; /* nothing that the target could use */
            data->flags |= NVMF_TAG_SENDING;
        }
    }
    if (UNLIKELY(!nvmf_key_bind(queue, data->key, ref, access, &data->key_value))) {
        return false;
    }
    counter_add(&counters->key_binds, 1);
    if (UNLIKELY((data->flags & NVMF_TAG_SENDING) != 0)) {
        inner->sges[1] = (struct rdma_sge){.len_bytes = len_bytes, .lkey = data->key_value};
        data->desc = nvmf_sgl_desc(len_bytes, 0, NVMF_SGL_IN_CAPSULE);
        counter_add(&counters->in_capsule_bytes, len_bytes);
    } else {
        data->desc = nvmf_sgl_desc(len_bytes, data->key_value, NVMF_SGL_KEYED_INVALIDATE);
    }
    return true;
}

/* The provider refuses: memory that it does not know, perhaps. A copy in NIC memory it takes. */
NOINLINE static enum way bind_staged(struct nvmf_queue *queue, struct blk_req *req,
                                     struct nvmf_path_counters *counters, struct data *data)
{
    const struct mem_ref *ref = NULL;
    bool was_staged = (data->flags & NVMF_TAG_STAGED) != 0;
    enum way way = WAY_OPEN;

    data->flags &= NVMF_TAG_STAGED;
    if (!was_staged) {
        way = stage(queue, req, data, &ref);
    }
    if (way != WAY_OPEN) {
        undo(queue, data);
    } else if (was_staged || !bind(queue, req, ref, counters, data)) {
        undo(queue, data); /* first: who hears of the end may send the next one */
        way = refuse(queue, req);
    }
    return way;
}

/* The data of a request that has some. */
ALWAYS_INLINE enum way prepare(struct nvmf_queue *queue, struct blk_req *req, struct data *data)
{
    uint8_t path = nvmf_ticket(req)->path;
    struct nvmf_path_counters *counters = &queue->inner->paths[path];
    const struct mem_ref *ref = &req->data;

    data->key = nvmf_key_get(queue->inner->domain);
    if (UNLIKELY(data->key == NULL)) {
        return WAY_WAITS;
    }
    if (UNLIKELY(path != NVMF_PATH_ZERO_COPY || !queue->core->takes_any_ref)) {
        if (path == NVMF_PATH_TERMINATE || !nvmf_io_is_expressible(queue->core, ref)) {
            enum way way = stage(queue, req, data, &ref);
            if (way != WAY_OPEN) {
                undo(queue, data);
                return way;
            }
        }
        if (path == NVMF_PATH_HOST_QUEUES && !queue->is_on_host) {
            nvmf_io_fall_back(queue);
        }
    }
    if (UNLIKELY(!bind(queue, req, ref, counters, data))) {
        return bind_staged(queue, req, counters, data);
    }
    return WAY_OPEN;
}

/* Written out: memcpy() would be a call, a loop is not unrolled. */
ALWAYS_INLINE void copy_sqe(word64 *to, const word64 *from)
{
    to[0] = from[0];
    to[1] = from[1];
    to[2] = from[2];
    to[3] = from[3];
    to[4] = from[4];
    to[5] = from[5];
    to[6] = from[6];
    to[7] = from[7];
}

/* The capsule in its slot: the command as the submitter gave it, with what is ours. MPTR holds a
 * host's idea of an address. */
ALWAYS_INLINE void fill_capsule(struct nvme_sqe *sqe, const struct nvme_sqe *cmd, uint16_t cid,
                                uint32_t nsid, uint64_t desc)
{
    copy_sqe((word64 *)sqe, (const word64 *)cmd);
    sqe->flags = FIELD_PREP(NVME_SQE_PSDT, NVME_PSDT_SGL_MPTR);
    sqe->cid = cid;
    sqe->nsid = nsid;
    sqe->mptr = 0;
    sqe->prp1 = 0;
    sqe->prp2 = desc;
}

/* In trace records: what the target calls it. */
ALWAYS_INLINE uint64_t trace_association(const struct nvmf_queue *queue, const struct nvmf_tag *tag)
{
    return (uint64_t)queue->params.cntlid << 32 | (uint32_t)queue->params.qid << 16 | tag->cid;
}

bool nvmf_io_issue(struct nvmf_queue *queue, struct blk_req *req)
{
    struct nvmf_queue_inner *inner = queue->inner;
    struct nvmf_ticket *ticket = nvmf_ticket(req);
    struct data data = {.desc = nvmf_sgl_desc(0, 0, NVMF_SGL_KEYED)};

    if (UNLIKELY(!nvmf_queue_has_room(queue, true))) {
        return false;
    }
    if (LIKELY(req->data.len_bytes != 0)) {
        enum way way = prepare(queue, req, &data);
        if (UNLIKELY(way != WAY_OPEN)) {
            return way == WAY_SENT;
        }
    }
    struct nvmf_tag *tag = nvmf_tag_take(queue);
    ticket->tag = tag->cid & inner->cid_mask;
    tag->req = req;
    tag->key = data.key;
    tag->key_value = data.key_value;
    tag->flags = data.flags;
    tag->path = ticket->path;
    nvmf_tag_deadline(inner, tag,
                      req->deadline_ns != 0 ? req->deadline_ns
                                            : sched_now_ns() + queue->params.command_timeout_ns);
    fill_capsule(&queue->core->capsules[tag->slot], &req->cmd, tag->cid, ticket->nsid, data.desc);
    TRACE(queue->core->id, FABRIC_SEND, req->fn, req->trace_id, trace_association(queue, tag),
          req->data.len_bytes);
    nvmf_tag_post(queue, tag);
    return true;
}

void nvmf_io_start(struct nvmf_queue *queue, struct blk_req *req)
{
    if (UNLIKELY(queue->state != NVMF_QUEUE_OPEN)) {
        nvmf_io_end_path(queue->core, req, 0);
    } else if (UNLIKELY(!is_valid(req))) {
        nvmf_io_complete(queue->core, req, NVME_SC_INVALID_FIELD | NVME_STATUS_DNR);
    } else if (UNLIKELY(!list_is_empty(&queue->inner->waiting)) || !nvmf_io_issue(queue, req)) {
        nvmf_io_wait(queue, req);
    }
}

static void submit(struct blk_dev *dev, struct blk_req *req)
{
    struct nvmf_ns *ns = CONTAINER_OF(dev, struct nvmf_ns, dev);
    struct nvmf_ctrl_shared *shared = nvmf_ctrl_shared(ns->ctrl);
    struct nvmf_queue *queue =
        atomic_load_explicit(&shared->route[req->owner_core], memory_order_acquire);
    struct nvmf_ticket *ticket = nvmf_ticket(req);

    req->dw0 = 0;
    req->dw1 = 0;
    /* Usable first: one that is going has no NSID before it is not usable. */
    bool is_usable = nvmf_ns_is_usable(ns);
    ticket->nsid = atomic_load_explicit(&ns->nsid, memory_order_relaxed);
    if (UNLIKELY(queue == NULL || !is_usable || ticket->nsid == 0)) {
        req->is_path_error = true;
        blk_complete(req, NVME_SC_HOST_PATH_ERROR);
        return;
    }
    ticket->queue = queue;
    ticket->tag = NVMF_NO_TAG;
    ticket->path = ns->path;
    atomic_store_explicit(&ticket->is_cancelled, false, memory_order_relaxed);
    if (UNLIKELY(queue->core->id != req->owner_core)) {
        nvmf_io_forward(queue, req, &shared->core[req->owner_core].path[ns->path]);
        return;
    }
    nvmf_io_start(queue, req);
}

const struct blk_ops nvmf_io_ops = {.submit = submit, .cancel = nvmf_io_cancel};

/* --- the end -----------------------------------------------------------------------------------
 */

void nvmf_io_complete(const struct nvmf_core *core, struct blk_req *req, nvme_status_t status)
{
    if (UNLIKELY(req->owner_core != core->id)) {
        nvmf_io_complete_far(req, status);
        return;
    }
    blk_complete(req, status);
}

void nvmf_io_finish(struct nvmf_queue *queue, struct nvmf_tag *tag)
{
    struct nvmf_path_counters *counters = &queue->inner->paths[tag->path];
    struct blk_req *req = tag->req;
    nvme_status_t status = tag->status;

    TRACE(queue->core->id, FABRIC_DONE, req->fn, req->trace_id, trace_association(queue, tag),
          status);
    if (UNLIKELY(status != 0 || (tag->flags & NVMF_TAG_STAGED) != 0)) {
        status = nvmf_io_finish_slowly(queue, tag);
    }
    req->dw0 = tag->dw0;
    req->dw1 = tag->dw1;
    nvmf_tag_give(queue, tag);
    counter_add(&counters->requests, 1);
    if (LIKELY(status == 0)) {
        counter_add(req->dir == NVME_DIR_FROM_CONTROLLER ? &counters->read_bytes
                                                         : &counters->write_bytes,
                    req->data.len_bytes);
    }
    nvmf_io_complete(queue->core, req, status);
}
