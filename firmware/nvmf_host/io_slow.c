/*
 * Block requests, what is rare: other cores' requests, waiting, staging, deadlines and cancels, and
 * how requests end when their queue does.
 */
#include "base/log.h"
#include "blk/blk_cmd.h"
#include "nvmf_host/queue_priv.h"

#define PATH_RELATED(status) ((NVME_STATUS_CODE(status) >> 8) == 3)

/* --- other cores -------------------------------------------------------------------------------
 */

static struct blk_req *req_of(struct msg *msg)
{
    struct nvmf_ticket *ticket = CONTAINER_OF(msg, struct nvmf_ticket, msg);

    return CONTAINER_OF(ticket, struct blk_req, priv);
}

static bool is_cancelled(struct blk_req *req)
{
    return atomic_load_explicit(&nvmf_ticket(req)->is_cancelled, memory_order_acquire) != 0;
}

static void arrived(struct msg *msg)
{
    struct blk_req *req = req_of(msg);
    struct nvmf_queue *queue = nvmf_ticket(req)->queue;

    if (is_cancelled(req)) {
        nvmf_io_complete(queue->core, req, NVME_SC_ABORT_REQUESTED);
        return;
    }
    nvmf_io_start(queue, req);
}

void nvmf_io_forward(struct nvmf_queue *queue, struct blk_req *req,
                     struct nvmf_path_counters *counters)
{
    struct nvmf_ticket *ticket = nvmf_ticket(req);

    counter_add(&counters->forwards, 1);
    ticket->msg.fn = arrived;
    msg_send(queue->core->id, &ticket->msg);
}

static void came_back(struct msg *msg)
{
    struct blk_req *req = req_of(msg);

    blk_complete(req, req->status);
}

void nvmf_io_complete_far(struct blk_req *req, nvme_status_t status)
{
    struct nvmf_ticket *ticket = nvmf_ticket(req);

    req->status = status;
    ticket->msg.fn = came_back;
    msg_send(req->owner_core, &ticket->msg);
}

/* --- waiting -----------------------------------------------------------------------------------
 */

void nvmf_io_wait(struct nvmf_queue *queue, struct blk_req *req)
{
    list_push_back(&queue->inner->waiting, &req->link);
    nvmf_queue_hunger(queue);
}

void nvmf_io_end_path(const struct nvmf_core *core, struct blk_req *req, uint64_t quiet_ns)
{
    req->is_path_error = true;
    req->quiet_ns = quiet_ns;
    nvmf_io_complete(core, req, NVME_SC_HOST_PATH_ERROR);
}

/* What their owners send anew meanwhile ends at once: the queue is not OPEN. */
void nvmf_io_end_waiting(struct nvmf_queue *queue)
{
    struct nvmf_queue_inner *inner = queue->inner;
    struct list *node;

    while ((node = list_pop_front(&inner->waiting_cmd)) != NULL) {
        nvmf_cmd_end(LIST_ENTRY(node, struct nvmf_cmd, link));
    }
    while ((node = list_pop_front(&inner->waiting)) != NULL) {
        nvmf_io_end_path(queue->core, LIST_ENTRY(node, struct blk_req, link), 0);
    }
}

void nvmf_io_scan_waiting(struct nvmf_queue *queue, uint64_t now_ns)
{
    struct list over;
    struct list *node;

    /* Apart first: who hears of an end may cancel others. */
    list_init(&over);
    LIST_FOR_EACH(waiting, next, &queue->inner->waiting)
    {
        struct blk_req *req = LIST_ENTRY(waiting, struct blk_req, link);
        if ((req->deadline_ns != 0 && req->deadline_ns <= now_ns) || is_cancelled(req)) {
            list_remove(waiting);
            list_push_back(&over, waiting);
        }
    }
    while ((node = list_pop_front(&over)) != NULL) {
        struct blk_req *req = LIST_ENTRY(node, struct blk_req, link);
        queue->core->is_freed = true;
        if (is_cancelled(req)) {
            nvmf_io_complete(queue->core, req, NVME_SC_ABORT_REQUESTED);
        } else {
            nvmf_io_end_path(queue->core, req, 0);
        }
    }
}

/* --- host queues -------------------------------------------------------------------------------
 */

void nvmf_io_fall_back(struct nvmf_queue *queue)
{
    counter_add(&queue->inner->paths[NVMF_PATH_HOST_QUEUES].fallbacks, 1);
    if (!queue->is_fallback_told) {
        queue->is_fallback_told = true;
        LOG_LIMITED(WARN,
                    "nvmf: function %u: its host grants no memory for queues: host-queues of %s go "
                    "over ordinary ones, data as in zero-copy",
                    (unsigned)queue->target->fn, queue->target->subnqn);
    }
}

/* --- staging -----------------------------------------------------------------------------------
 */

static bool are_pages(const struct mem_ref *ref)
{
    for (uint32_t i = 0; i < ref->seg_count; i++) {
        const struct mem_seg *seg = &ref->segs[i];
        if ((i > 0 && !is_aligned(seg->bus_addr, NVMF_PAGE_BYTES)) ||
            (i + 1u < ref->seg_count &&
             !is_aligned(seg->bus_addr + seg->len_bytes, NVMF_PAGE_BYTES))) {
            return false;
        }
    }
    return true;
}

bool nvmf_io_is_expressible(const struct nvmf_core *core, const struct mem_ref *ref)
{
    switch ((enum rdma_key_kind)core->device->attr.key_kind) {
    case RDMA_KEY_SCATTER:
        return true;
    case RDMA_KEY_PAGES:
        return ref->seg_count <= core->device->attr.key_segs_max && are_pages(ref);
    case RDMA_KEY_CONTIGUOUS:
    default:
        return ref->seg_count == 1;
    }
}

/* The queue that found none first gets the next piece that is long enough for it: else short
 * requests of others would go by for ever. */
static void *take_piece(struct nvmf_queue *queue, uint32_t len_bytes)
{
    struct nvmf_core *core = queue->core;

    if (core->stage_claim != NULL && core->stage_claim != queue) {
        return NULL;
    }
    void *piece = nvmf_stage_get(&core->stage, len_bytes);
    core->stage_claim = piece == NULL ? queue : NULL;
    return piece;
}

enum status nvmf_io_stage(struct nvmf_queue *queue, struct nvmf_tag_more *more, struct blk_req *req)
{
    struct nvmf_core *core = queue->core;
    struct nvmf_path_counters *counters = &queue->inner->paths[nvmf_ticket(req)->path];
    uint32_t len_bytes = req->data.len_bytes;

    if (!nvmf_stage_can_hold(&core->stage, len_bytes)) {
        return STATUS_NO_SPACE;
    }
    void *piece = take_piece(queue, len_bytes);
    if (piece == NULL) {
        counter_add(&counters->stage_waits, 1);
        return STATUS_AGAIN;
    }
    more->seg = (struct mem_seg){.bus_addr = (uintptr_t)piece, .len_bytes = len_bytes};
    more->ref = (struct mem_ref){
        .segs = &more->seg, .len_bytes = len_bytes, .seg_count = 1, .space = MEM_SPACE_NIC};
    if (req->dir == NVME_DIR_TO_CONTROLLER &&
        mem_ref_read(&req->data, 0, piece, len_bytes) != len_bytes) {
        nvmf_io_unstage(queue, more);
        return STATUS_INVALID;
    }
    return STATUS_OK;
}

void nvmf_io_unstage(struct nvmf_queue *queue, struct nvmf_tag_more *more)
{
    nvmf_stage_put(&queue->core->stage, mem_seg_ptr(&more->seg), more->seg.len_bytes);
    queue->core->is_freed = true;
}

/* --- unusual ends ------------------------------------------------------------------------------
 */

static nvme_status_t copy_back(struct nvmf_queue *queue, struct nvmf_tag *tag)
{
    struct nvmf_tag_more *more = nvmf_tag_more(queue->inner, tag);
    struct blk_req *req = tag->req;
    uint32_t len_bytes = more->seg.len_bytes;
    bool is_whole = true;

    if (tag->status == 0) {
        counter_add(&queue->inner->paths[tag->path].staged_bytes, len_bytes);
        if (req->dir == NVME_DIR_FROM_CONTROLLER) {
            is_whole =
                mem_ref_write(&req->data, 0, mem_seg_ptr(&more->seg), len_bytes) == len_bytes;
        }
    }
    nvmf_io_unstage(queue, more);
    return is_whole ? tag->status : NVME_SC_DATA_TRANSFER_ERROR;
}

nvme_status_t nvmf_io_finish_slowly(struct nvmf_queue *queue, struct nvmf_tag *tag)
{
    struct blk_req *req = tag->req;
    nvme_status_t status = tag->status;

    if ((tag->flags & NVMF_TAG_STAGED) != 0) {
        status = copy_back(queue, tag);
    }
    if (NVME_STATUS_CODE(status) == NVME_SC_ABORT_REQUESTED && (tag->flags & NVMF_TAG_LATE) != 0 &&
        (tag->flags & NVMF_TAG_CANCELLED) == 0) {
        /* We asked for it, the submitter did not. It has ended: nothing is to be waited for. */
        req->is_path_error = true;
        req->is_sent = true;
        return NVME_SC_HOST_PATH_ERROR;
    }
    /* The controller says that it did not do it, for a reason that another path may not have. */
    if (PATH_RELATED(status) || NVME_STATUS_CODE(status) == NVME_SC_ABORT_SQ_DELETION) {
        req->is_path_error = true;
        req->is_sent = true;
    }
    return status;
}

void nvmf_io_end_tag(struct nvmf_queue *queue, struct nvmf_tag *tag)
{
    struct blk_req *req = tag->req;
    bool is_cancelled_tag = (tag->flags & NVMF_TAG_CANCELLED) != 0;
    uint64_t quiet_ns = blk_changes_state(req->cmd.opcode) ? queue->inner->quiet_ns : 0;

    if ((tag->flags & NVMF_TAG_STAGED) != 0) {
        nvmf_io_unstage(queue, nvmf_tag_more(queue->inner, tag));
    }
    counter_add(&queue->inner->paths[tag->path].requests, 1);
    nvmf_tag_give(queue, tag);
    req->is_sent = true;
    if (is_cancelled_tag) {
        req->quiet_ns = quiet_ns;
        nvmf_io_complete(queue->core, req, NVME_SC_ABORT_REQUESTED);
    } else {
        nvmf_io_end_path(queue->core, req, quiet_ns);
    }
}

/* --- deadlines and cancels ---------------------------------------------------------------------
 */

/* How long the end of a command may take from its abort on. Who cancels may be a fence, for which a
 * host waits. */
static uint64_t abort_ns(const struct nvmf_tag *tag)
{
    return (tag->flags & NVMF_TAG_CANCELLED) != 0 ? NVMF_CANCEL_NS : NVMF_ABORT_NS;
}

void nvmf_io_late(struct nvmf_queue *queue, struct nvmf_tag *tag, uint64_t now_ns)
{
    struct nvmf_queue_inner *inner = queue->inner;

    if ((tag->flags & NVMF_TAG_LATE) == 0) {
        struct nvmf_ctrl_shared *shared = nvmf_ctrl_shared(queue->ctrl);
        tag->flags |= NVMF_TAG_LATE;
        nvmf_tag_deadline(inner, tag, now_ns + abort_ns(tag));
        if ((tag->flags & NVMF_TAG_CANCELLED) == 0) {
            counter_add(&shared->core[queue->core->id].timeouts, 1);
        }
        queue->ops->abort(queue, tag->cid);
        return;
    }
    tag->deadline_ns = UINT64_MAX;
    if (!inner->is_stuck) {
        inner->is_stuck = true;
        queue->ops->stuck(queue, NVMF_FAIL_COMMAND_TIMEOUT, tag->req->cmd.opcode);
    }
}

void nvmf_queue_abort_done(struct nvmf_queue *queue, uint16_t cid, bool aborted)
{
    struct nvmf_queue_inner *inner = queue->inner;
    struct nvmf_tag *tag = &inner->tags[cid & inner->cid_mask];

    (void)aborted; /* if not, it may have ended meanwhile, or never will */
    if (queue->state == NVMF_QUEUE_OPEN && tag->cid == cid && tag->state == NVMF_TAG_SENT &&
        (tag->flags & NVMF_TAG_LATE) != 0 && tag->deadline_ns != UINT64_MAX) {
        nvmf_tag_deadline(inner, tag, sched_now_ns() + abort_ns(tag));
    }
}

/* The next scan, in this turn or the next, asks for its abort. */
static void cancel_sent(struct nvmf_queue *queue, struct nvmf_tag *tag)
{
    if ((tag->flags & NVMF_TAG_CANCELLED) != 0) {
        return;
    }
    tag->flags |= NVMF_TAG_CANCELLED;
    if (tag->deadline_ns == UINT64_MAX) {
        return;
    }
    if (tag->state == NVMF_TAG_SENT && (tag->flags & NVMF_TAG_LATE) == 0) {
        nvmf_tag_deadline(queue->inner, tag, 0);
        queue->core->is_scan_due = true;
    } else if (tag->deadline_ns > sched_now_ns() + NVMF_CANCEL_NS) {
        nvmf_tag_deadline(queue->inner, tag, sched_now_ns() + NVMF_CANCEL_NS);
    }
}

void nvmf_io_cancel(struct blk_dev *dev, struct blk_req *req)
{
    struct nvmf_ticket *ticket = nvmf_ticket(req);
    struct nvmf_queue *queue = ticket->queue;
    struct nvmf_core *core = queue->core;

    (void)dev;
    if (core->id != req->owner_core) {
        struct nvmf_cancel *cancel = &core->cancels[req->owner_core];
        /* FAR-CANCEL (release): pairs with the exchange in nvmf_io_cancelled_far(). */
        atomic_store_explicit(&ticket->is_cancelled, true, memory_order_release);
        if (!atomic_exchange_explicit(&cancel->is_sent, true, memory_order_acq_rel)) {
            msg_send(core->id, &cancel->msg);
        }
    } else if (ticket->tag == NVMF_NO_TAG) {
        list_remove(&req->link);
        core->is_freed = true; /* others may have waited behind it */
        blk_complete(req, NVME_SC_ABORT_REQUESTED);
    } else {
        cancel_sent(queue, &queue->inner->tags[ticket->tag]);
    }
}

/* Some request that another core had sent here: each that is marked. */
void nvmf_io_cancelled_far(struct msg *msg)
{
    struct nvmf_cancel *cancel = CONTAINER_OF(msg, struct nvmf_cancel, msg);
    struct nvmf_core *core = cancel->core;

    /* Before the marks are looked at: one that is set later sends the message again. */
    (void)atomic_exchange_explicit(&cancel->is_sent, false, memory_order_acq_rel);
    core->is_scan_due = true; /* finds those that wait */
    LIST_FOR_EACH(node, next, &core->queues)
    {
        struct nvmf_queue_inner *inner = LIST_ENTRY(node, struct nvmf_queue_inner, link);
        for (uint32_t i = 0; i < inner->tag_count; i++) {
            struct nvmf_tag *tag = &inner->tags[i];
            if (tag->state == NVMF_TAG_SENT && (tag->flags & NVMF_TAG_CMD) == 0 &&
                tag->req->owner_core != core->id && is_cancelled(tag->req)) {
                cancel_sent(inner->queue, tag);
            }
        }
    }
}
