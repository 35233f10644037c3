/*
 * Requests to commands to completions, on the core of the queue. The way of a request:
 *
 *   submit --> one command for all of it --------------------------> finish --> blk_complete
 *         \--> split: several commands, each of them finishes, then settle --> blk_complete
 *         \--> waiting list (no slot, list or buffer; or the drive is being reset) --> pump --> as
 * above
 *
 * Completions of a drive are hostile until their CID is found to be that of a command under way.
 */
#include "base/trace.h"
#include "hal/cpu.h"
#include "nvme_drv/nvme_drv_priv.h"

#define REAP_MAX 64 /* completions per turn */

/* Opcodes whose data is that of an LBA range: they can be split. */
#define LBA_DATA_OPCODES (BIT32(NVME_IO_READ) | BIT32(NVME_IO_WRITE) | BIT32(NVME_IO_COMPARE))

ALWAYS_INLINE bool has_lba_data(const struct nvme_sqe *cmd)
{
    return cmd->opcode < 32 && ((LBA_DATA_OPCODES >> cmd->opcode) & 1) != 0;
}

/* 0, or why the request cannot be done. The length is checked although the submitter did so: the
 * drive trusts the command's LBA count and would go on past the end of a list that is too short. */
ALWAYS_INLINE nvme_status_t check(struct nvme_drv_ns *ns, const struct blk_req *req)
{
    uint32_t lba_shift = atomic_load_explicit(&ns->lba_shift, memory_order_relaxed);

    if (UNLIKELY(lba_shift == 0)) {
        return NVME_SC_NS_NOT_READY;
    }
    if (UNLIKELY(req->meta != NULL || FIELD_GET(NVME_SQE_FUSE, req->cmd.flags) != 0)) {
        return NVME_SC_INVALID_FIELD | NVME_STATUS_DNR;
    }
    if (has_lba_data(&req->cmd) &&
        UNLIKELY((uint64_t)nvme_rw_lba_count(&req->cmd) << lba_shift != req->data.len_bytes)) {
        return NVME_SC_INVALID_FIELD | NVME_STATUS_DNR;
    }
    return 0;
}

ALWAYS_INLINE uint64_t deadline_of(const struct blk_req *req)
{
    return req->deadline_ns != 0 ? req->deadline_ns : sched_now_ns() + NVME_DRV_TIMEOUT_NS;
}

/* --- slots ---------------------------------------------------------------------------------- */

/* A slot for a command of `req`; the queue has one free. */
ALWAYS_INLINE struct nvme_drv_slot *take_slot(struct nvme_drv_queue *q, struct blk_req *req,
                                              struct nvme_drv_split *split, uint64_t deadline_ns)
{
    struct nvme_drv_slot *slot = &q->slots[q->free_slot];

    q->free_slot = slot->next;
    q->in_flight++;
    counter_add(&q->command_count, 1);
    slot->req = req;
    slot->split = split;
    slot->deadline_ns = deadline_ns;
    slot->extra_kind = NVME_DRV_EXTRA_NONE;
    slot->is_late = false;
    slot->state = NVME_DRV_SLOT_BUSY;
    return slot;
}

NOINLINE static void give_extra(struct nvme_drv_queue *q, struct nvme_drv_slot *slot)
{
    struct nvme_drv_pools *pools = q->pools;

    switch ((enum nvme_drv_extra)slot->extra_kind) {
    case NVME_DRV_EXTRA_SMALL_LIST:
        pool_put(&pools->small_lists, slot->extra);
        break;
    case NVME_DRV_EXTRA_BIG_LIST:
        pool_put(&pools->big_lists, slot->extra);
        break;
    case NVME_DRV_EXTRA_BOUNCE:
        pool_put(&pools->bounces, slot->extra);
        break;
    case NVME_DRV_EXTRA_NONE:
        break;
    }
}

/* The slot can be used again, under another CID: a completion that comes twice is then found out.
 */
ALWAYS_INLINE void give_slot(struct nvme_drv_queue *q, struct nvme_drv_slot *slot)
{
    if (UNLIKELY(slot->extra_kind != NVME_DRV_EXTRA_NONE)) {
        give_extra(q, slot);
    }
    uint16_t index = slot->cid & (NVME_DRV_QUEUE_ENTRIES - 1);
    slot->state = NVME_DRV_SLOT_FREE;
    slot->cid = (uint16_t)(slot->cid + NVME_DRV_QUEUE_ENTRIES);
    slot->next = q->free_slot;
    q->free_slot = index;
    q->in_flight--;
}

/* The command as the submitter gave it, with what is ours. MPTR holds a host's idea of an address.
 */
ALWAYS_INLINE uint64_t trace_drive(const struct nvme_drv_queue *q, const struct nvme_drv_slot *slot)
{
    return (uint64_t)q->drv->index << 32 | (uint32_t)q->qid << 16 | slot->cid;
}

ALWAYS_INLINE struct nvme_sqe *push_cmd(struct nvme_drv_queue *q, const struct nvme_drv_slot *slot,
                                        const struct nvme_drv_ns *ns, uint32_t len_bytes)
{
    struct nvme_sqe *sqe = nvme_drv_sq_push(&q->sq);
    const struct nvme_sqe *cmd = &slot->req->cmd;

    TRACE(q->core, DRIVE_SEND, slot->req->fn, slot->req->trace_id, trace_drive(q, slot), len_bytes);
    sqe->opcode = cmd->opcode;
    sqe->flags = 0;
    sqe->cid = slot->cid;
    sqe->nsid = ns->nsid;
    sqe->cdw2 = cmd->cdw2;
    sqe->cdw3 = cmd->cdw3;
    sqe->mptr = 0;
    sqe->cdw10 = cmd->cdw10;
    sqe->cdw11 = cmd->cdw11;
    sqe->cdw12 = cmd->cdw12;
    sqe->cdw13 = cmd->cdw13;
    sqe->cdw14 = cmd->cdw14;
    sqe->cdw15 = cmd->cdw15;
    return sqe;
}

/* --- submit ---------------------------------------------------------------------------------- */

/* One command for `part` of the request. False: no slot, list or buffer is free now. */
static bool issue_part(struct nvme_drv_queue *q, struct nvme_drv_ns *ns, struct blk_req *req,
                       struct nvme_drv_split *split, const struct nvme_drv_cursor *cursor,
                       const struct nvme_drv_part *part, uint64_t deadline_ns)
{
    struct nvme_drv_pools *pools = q->pools;
    uint8_t kind = NVME_DRV_EXTRA_NONE;
    struct pool *pool = NULL;
    void *extra = NULL;

    if (q->free_slot == NVME_DRV_NO_SLOT) {
        return false;
    }
    if (part->how == NVME_DRV_BOUNCE) {
        kind = NVME_DRV_EXTRA_BOUNCE;
        pool = &pools->bounces;
    } else if (part->entry_count > (part->how == NVME_DRV_PRP ? 2u : 1u)) {
        uint32_t entry_bytes = part->how == NVME_DRV_PRP ? 8 : 16;
        uint32_t listed = part->how == NVME_DRV_PRP ? part->entry_count - 1 : part->entry_count;
        bool is_small = listed * entry_bytes <= NVME_DRV_SMALL_LIST_BYTES;
        kind = is_small ? NVME_DRV_EXTRA_SMALL_LIST : NVME_DRV_EXTRA_BIG_LIST;
        pool = is_small ? &pools->small_lists : &pools->big_lists;
    }
    if (pool != NULL && (extra = pool_get(pool)) == NULL) {
        return false;
    }
    struct nvme_drv_slot *slot = take_slot(q, req, split, deadline_ns);
    slot->extra = extra;
    slot->extra_kind = kind;

    struct nvme_sqe *sqe = push_cmd(q, slot, ns, part->len_bytes);
    sqe->prp1 = 0;
    sqe->prp2 = 0;
    if (part->how == NVME_DRV_PRP) {
        nvme_drv_build_prp(sqe, extra, &req->data, cursor, part->len_bytes);
    } else if (part->how == NVME_DRV_SGL) {
        nvme_drv_build_sgl(sqe, extra, &req->data, cursor, part->len_bytes);
    } else if (part->how == NVME_DRV_BOUNCE) {
        slot->offset_bytes = cursor->offset_bytes;
        slot->bounce_bytes = part->len_bytes;
        counter_add(&q->bounced_bytes, part->len_bytes);
        sqe->prp1 = nvme_drv_bus_addr(extra);
        sqe->prp2 = part->len_bytes > NVME_DRV_PAGE_BYTES ? sqe->prp1 + NVME_DRV_PAGE_BYTES : 0;
        if ((req->cmd.opcode & 3) == NVME_DIR_TO_CONTROLLER) {
            (void)mem_ref_read(&req->data, cursor->offset_bytes, extra, part->len_bytes);
        }
    }
    if (split != NULL) {
        uint32_t lba_shift = atomic_load_explicit(&ns->lba_shift, memory_order_relaxed);
        uint64_t slba = nvme_rw_slba(&req->cmd) + (cursor->offset_bytes >> lba_shift);
        sqe->cdw10 = (uint32_t)slba;
        sqe->cdw11 = (uint32_t)(slba >> 32);
        sqe->cdw12 = (sqe->cdw12 & ~0xffffu) | ((part->len_bytes >> lba_shift) - 1);
    }
    return true;
}

/* Submits the commands of a split request that are still to come. False: resources ran out. */
static bool issue_rest(struct nvme_drv_queue *q, struct nvme_drv_ns *ns,
                       struct nvme_drv_split *split)
{
    const struct mem_ref *ref = &split->req->data;
    uint32_t lba_shift = atomic_load_explicit(&ns->lba_shift, memory_order_relaxed);

    while (!split->is_stopped && split->cursor.offset_bytes < ref->len_bytes) {
        struct nvme_drv_part part = {.how = NVME_DRV_CANNOT};
        if (lba_shift != 0) { /* else the namespace went away meanwhile */
            part = nvme_drv_plan(&q->caps, ref, &split->cursor, 1u << lba_shift);
        }
        if (part.how == NVME_DRV_CANNOT) {
            split->status =
                lba_shift == 0 ? NVME_SC_NS_NOT_READY : NVME_SC_INVALID_FIELD | NVME_STATUS_DNR;
            split->is_stopped = true;
        } else if (!issue_part(q, ns, split->req, split, &split->cursor, &part,
                               split->deadline_ns)) {
            return false;
        } else {
            split->outstanding++;
            nvme_drv_cursor_advance(&split->cursor, ref, part.len_bytes);
        }
    }
    return true;
}

void nvme_drv_split_settle(struct nvme_drv_queue *q, struct nvme_drv_split *split)
{
    struct blk_req *req = split->req;

    if (split->outstanding != 0 ||
        (!split->is_stopped && split->cursor.offset_bytes < req->data.len_bytes)) {
        return;
    }
    if (split->is_waiting) {
        list_remove(&req->link);
    }
    nvme_status_t status = split->status;
    req->dw0 = split->dw0;
    req->dw1 = split->dw1;
    pool_put(&q->pools->splits, split);
    blk_complete(req, status);
}

static void wait_for_turn(struct nvme_drv_queue *q, struct nvme_drv_ns *ns, struct blk_req *req,
                          struct nvme_drv_split *split, uint64_t deadline_ns, bool is_first)
{
    req->priv[NVME_DRV_PRIV_DEADLINE] = deadline_ns;
    req->priv[NVME_DRV_PRIV_SPLIT] = (uintptr_t)split;
    req->priv[NVME_DRV_PRIV_NS] = (uintptr_t)ns;
    if (split != NULL) {
        split->is_waiting = true;
    }
    /* Pushing back from the first node's view is pushing to the front. */
    list_push_back(is_first ? q->waiting.next : &q->waiting, &req->link);
    if (!q->is_watched) {
        nvme_drv_queue_watch(q);
    }
}

/* Starts a request of any shape. False: it waits, at the front or the end of the list. */
static bool start(struct nvme_drv_queue *q, struct nvme_drv_ns *ns, struct blk_req *req,
                  uint64_t deadline_ns, bool is_first)
{
    const struct mem_ref *ref = &req->data;
    bool can_split = has_lba_data(&req->cmd);
    uint32_t lba_shift = atomic_load_explicit(&ns->lba_shift, memory_order_relaxed);
    struct nvme_drv_cursor cursor = {0};
    struct nvme_drv_part part =
        nvme_drv_plan(&q->caps, ref, &cursor, can_split ? 1u << lba_shift : ref->len_bytes);

    if (part.how == NVME_DRV_CANNOT) {
        blk_complete(req, NVME_SC_INVALID_FIELD | NVME_STATUS_DNR);
        return true;
    }
    if (part.len_bytes == ref->len_bytes) {
        if (issue_part(q, ns, req, NULL, &cursor, &part, deadline_ns)) {
            return true;
        }
        wait_for_turn(q, ns, req, NULL, deadline_ns, is_first);
        return false;
    }
    struct nvme_drv_split *split =
        q->free_slot == NVME_DRV_NO_SLOT ? NULL : pool_get(&q->pools->splits);
    if (split == NULL) {
        wait_for_turn(q, ns, req, NULL, deadline_ns, is_first);
        return false;
    }
    *split = (struct nvme_drv_split){.req = req, .deadline_ns = deadline_ns};
    counter_add(&q->split_count, 1);
    if (!issue_rest(q, ns, split)) {
        wait_for_turn(q, ns, req, split, deadline_ns, is_first);
        return false;
    }
    nvme_drv_split_settle(q, split);
    return true;
}

/* Whatever is not the one case below. */
NOINLINE static void submit_slowly(struct nvme_drv_queue *q, struct nvme_drv_ns *ns,
                                   struct blk_req *req, nvme_status_t status)
{
    ASSERT(req->owner_core == cpu_self() && req->owner_core < q->drv->core_count);
    req->dw0 = 0;
    req->dw1 = 0;
    if (status == 0 && q->mode == NVME_DRV_MODE_OFF) {
        status = NVME_SC_NS_NOT_READY;
    }
    if (status != 0) {
        blk_complete(req, status);
    } else if (q->mode != NVME_DRV_MODE_RUN || !list_is_empty(&q->waiting)) {
        wait_for_turn(q, ns, req, NULL, deadline_of(req), false);
    } else {
        (void)start(q, ns, req, deadline_of(req), false);
    }
}

void nvme_drv_submit(struct blk_dev *dev, struct blk_req *req)
{
    struct nvme_drv_ns *ns = CONTAINER_OF(dev, struct nvme_drv_ns, dev);
    struct nvme_drv_queue *q = ns->queues[req->owner_core];
    const struct mem_seg *seg = req->data.segs;
    nvme_status_t status = check(ns, req);

    /* The common case: one segment in at most two pages, a free slot, nobody waits. */
    if (UNLIKELY(status != 0 || req->data.seg_count != 1 || q->mode != NVME_DRV_MODE_RUN ||
                 !list_is_empty(&q->waiting) || q->free_slot == NVME_DRV_NO_SLOT ||
                 (seg->bus_addr & 3) != 0 || seg->len_bytes != req->data.len_bytes ||
                 (seg->bus_addr & (NVME_DRV_PAGE_BYTES - 1)) + seg->len_bytes >
                     2 * NVME_DRV_PAGE_BYTES)) {
        submit_slowly(q, ns, req, status);
        return;
    }
    const struct nvme_drv_slot *slot = take_slot(q, req, NULL, req->deadline_ns);
    struct nvme_sqe *sqe = push_cmd(q, slot, ns, seg->len_bytes);
    uint64_t last_page =
        (seg->bus_addr + seg->len_bytes - 1) & ~(uint64_t)(NVME_DRV_PAGE_BYTES - 1);
    sqe->prp1 = seg->bus_addr;
    sqe->prp2 = last_page > seg->bus_addr ? last_page : 0;
}

/* Continues what waits, oldest first, until something runs out again. */
NOINLINE static void pump(struct nvme_drv_queue *q)
{
    for (uint32_t i = 0; i < NVME_DRV_QUEUE_ENTRIES && !list_is_empty(&q->waiting); i++) {
        struct blk_req *req = LIST_ENTRY(list_pop_front(&q->waiting), struct blk_req, link);
        struct nvme_drv_ns *ns = (struct nvme_drv_ns *)(uintptr_t)req->priv[NVME_DRV_PRIV_NS];
        struct nvme_drv_split *split = nvme_drv_waiting_split(req);
        uint64_t deadline_ns = req->priv[NVME_DRV_PRIV_DEADLINE];
        if (split != NULL) {
            split->is_waiting = false;
            if (!issue_rest(q, ns, split)) {
                wait_for_turn(q, ns, req, split, deadline_ns, true);
                return;
            }
            nvme_drv_split_settle(q, split);
            continue;
        }
        nvme_status_t status = check(ns, req); /* the geometry may have changed */
        if (status != 0) {
            blk_complete(req, status);
        } else if (!start(q, ns, req, deadline_ns, true)) {
            return;
        }
    }
}

/* --- completion ------------------------------------------------------------------------------ */

NOINLINE static void finish_part(struct nvme_drv_queue *q, struct nvme_drv_split *split,
                                 nvme_status_t status, uint32_t dw0, uint32_t dw1)
{
    split->outstanding--;
    if (split->status == 0) {
        split->status = status;
        split->dw0 = dw0;
        split->dw1 = dw1;
    }
    if (status != 0) {
        split->is_stopped = true;
    }
    nvme_drv_split_settle(q, split);
}

/* What an unhappy or unusual end needs; returns the status for the submitter. */
NOINLINE static nvme_status_t finish_slowly(struct nvme_drv_queue *q,
                                            const struct nvme_drv_slot *slot, nvme_status_t status)
{
    struct blk_req *req = slot->req;

    if (status != 0) {
        counter_add(&q->error_count, 1);
        TRACE(q->core, DRIVE_ERROR, req->fn, q->drv->index, slot->cid, status);
        if (slot->is_late && NVME_STATUS_CODE(status) == NVME_SC_ABORT_REQUESTED) {
            return NVME_SC_COMMAND_INTERRUPTED; /* we asked for it, the submitter did not */
        }
    } else if (slot->extra_kind == NVME_DRV_EXTRA_BOUNCE &&
               (req->cmd.opcode & 3) == NVME_DIR_FROM_CONTROLLER &&
               mem_ref_write(&req->data, slot->offset_bytes, slot->extra, slot->bounce_bytes) !=
                   slot->bounce_bytes) {
        return NVME_SC_DATA_TRANSFER_ERROR;
    }
    return status;
}

void nvme_drv_finish(struct nvme_drv_queue *q, struct nvme_drv_slot *slot, nvme_status_t status,
                     uint32_t dw0, uint32_t dw1)
{
    struct blk_req *req = slot->req;
    struct nvme_drv_split *split = slot->split;

    TRACE(q->core, DRIVE_DONE, req->fn, req->trace_id, trace_drive(q, slot), status);
    if (UNLIKELY(status != 0 || slot->extra_kind == NVME_DRV_EXTRA_BOUNCE)) {
        status = finish_slowly(q, slot, status);
    }
    give_slot(q, slot);
    if (UNLIKELY(split != NULL)) {
        finish_part(q, split, status, dw0, dw1);
        return;
    }
    req->dw0 = dw0;
    req->dw1 = dw1;
    blk_complete(req, status);
}

uint32_t nvme_drv_reap(struct nvme_drv_queue *q, uint32_t max)
{
    struct nvme_cqe cqe;
    uint32_t count = 0;

    while (count < max && nvme_drv_cq_pop(&q->cq, &cqe)) {
        uint16_t cid = (uint16_t)cqe.dw3;
        struct nvme_drv_slot *slot = &q->slots[cid & (NVME_DRV_QUEUE_ENTRIES - 1)];
        if (UNLIKELY(slot->cid != cid || slot->state == NVME_DRV_SLOT_FREE ||
                     cqe.sq_id != q->qid)) {
            nvme_drv_queue_break(q, &cqe);
            break;
        }
        nvme_status_t status = (nvme_status_t)(cqe.dw3 >> NVME_CQE_STATUS_SHIFT);
        status = NVME_STATUS_CODE(status) | (status & NVME_STATUS_DNR);
        count++;
        nvme_drv_finish(q, slot, status, cqe.dw0, cqe.dw1);
    }
    return count;
}

uint32_t nvme_drv_queue_run(struct nvme_drv_queue *q)
{
    uint32_t count = 0;

    if (q->mode != NVME_DRV_MODE_RUN) {
        return 0;
    }
    nvme_drv_sq_ring(&q->sq, q->regs);
    if (q->in_flight != 0 && !q->is_broken) {
        if (UNLIKELY(!q->is_watched)) {
            nvme_drv_queue_watch(q);
        }
        count = nvme_drv_reap(q, REAP_MAX);
        nvme_drv_cq_ring(&q->cq, q->regs);
    }
    if (UNLIKELY(!list_is_empty(&q->waiting))) {
        pump(q);
    }
    nvme_drv_sq_ring(&q->sq, q->regs);
    return count;
}
