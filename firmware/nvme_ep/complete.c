/*
 * Completion queues: posting entries, holding them while the queue is full, interrupts.
 *
 * The CQ head doorbell shares its cache line with the host core that rings it, so it is read only
 * when the entries that were free at the last look are used up (cq->room). Interrupts are raised
 * once per turn and queue.
 * Source: NVM Express Base Specification 1.4, sections 4.1, 4.6, 7.5 (coalescing: 5.21.1.8, .9).
 */
#include "base/stage.h"
#include "base/trace.h"
#include "nvme_ep/nvme_ep_priv.h"

#define PHASE_BIT ((uint64_t)NVME_CQE_PHASE << 32)

ALWAYS_INLINE void cq_mark_dirty(struct nvme_ep_core *core, struct nvme_ep_cq *cq)
{
    if (!cq->is_dirty) {
        cq->is_dirty = true;
        core->dirty[core->dirty_count++] = cq;
    }
}

/* Writes the entry; there is room. */
ALWAYS_INLINE void cq_post(struct nvme_ep_cq *cq, const struct nvme_ep_sq *sq,
                           const struct nvme_cmd *nvme)
{
    uint8_t *cqe = cq->base + (size_t)cq->tail * NVME_CQE_BYTES;
    uint64_t first = (uint64_t)nvme->blk.dw1 << 32 | nvme->blk.dw0;
    uint64_t second = (uint64_t)nvme->blk.status << (32 + NVME_CQE_STATUS_SHIFT) | cq->phase |
                      (uint64_t)nvme->cid << 32 | (uint32_t)sq->id << 16 | sq->head;

    shm_store64(cqe, first);
    /* CQE (release): the data and the first half are there before the phase tag. One store writes
     * the whole second half. Pairs with the host's read of the phase before it reads the rest. */
    shm_store64_release(cqe + 8, second);
    cq->room--;
    if (UNLIKELY(++cq->tail == cq->size)) {
        cq->tail = 0;
        cq->phase ^= PHASE_BIT;
    }
}

static uint32_t distance(uint32_t from, uint32_t to, uint32_t size)
{
    return to >= from ? to - from : to + size - from;
}

/* Counts what was posted since the last count; often enough for the indices not to lap. */
static void cq_count(struct nvme_ep_core *core, struct nvme_ep_cq *cq)
{
    uint32_t count = distance(cq->signalled, cq->tail, cq->size);

    cq->signalled = cq->tail;
    cq->carried += count;
    counter_add(&cq->cqe_count, count);
    counter_add(&core->counters.cqes, count);
}

bool nvme_ep_cq_refill(struct nvme_ep_core *core, struct nvme_ep_cq *cq)
{
    if (cq->base == NULL || cq->is_dropping) {
        return false;
    }
    /* The host is done with entries before the head that it rings: control dependency, and the
     * stores that follow go to entries that it gave back. */
    uint32_t head = nvme_ep_cq_head_read(cq);
    uint32_t used = distance(cq->head, cq->tail, cq->size);
    if (head < cq->size && distance(cq->head, head, cq->size) <= used) {
        __atomic_store_n(&cq->head, head, __ATOMIC_RELAXED); /* reports read it */
        cq->head_bad = head;
    } else if (head != cq->head_bad) { /* 5.2: out of range, or ahead of what was posted */
        cq->head_bad = head;
        nvme_ep_doorbell_error(core, cq->id, NVME_EVENT_ERROR_INVALID_DOORBELL_VALUE, head);
    }
    cq_count(core, cq);
    cq->room = cq->size - 1 - distance(cq->head, cq->tail, cq->size);
    return cq->room != 0;
}

/* Reports of core 0 read it. */
static void held_count_set(struct nvme_ep_cq *cq, uint32_t count)
{
    __atomic_store_n(&cq->held_count, count, __ATOMIC_RELAXED);
}

/* Off the short way, which is taken only while nothing is traced. */
static void cq_post_traced(struct nvme_ep_cq *cq, struct nvme_ep_cmd *cmd)
{
    const struct blk_req *req = &cmd->nvme.blk;

    cq_post(cq, cmd->sq, &cmd->nvme);
    TRACE(cq->core, IO_POST, req->fn, req->trace_id, cq->id, cq->vector);
}

/* --- ends of commands ---------------------------------------------------------------------- */

ALWAYS_INLINE void cmd_free_to(struct nvme_ep_cmd *cmd, struct nvme_ep_pools *pools)
{
    cmd->nvme.state = NVME_EP_CMD_FREE;
    pool_put(&pools->cmds, cmd);
}

static void cmd_free(struct nvme_ep_cmd *cmd)
{
    cmd_free_to(cmd, cmd->sq->pools);
}

/* Tells the Abort command that waits for a command, if one does. 5.1: dword 0 bit 0 is 0 only when
 * that one was aborted and its entry is posted already, so this comes after the entry. */
static void tell_abort(struct nvme_ep_cmd *abort, bool was_aborted)
{
    if (abort != NULL) {
        abort->errand_failed = !was_aborted;
        msg_send(0, &abort->msg);
    }
}

/* What a command holds beside its place in the CQ. */
static void cmd_let_go(struct nvme_ep_cmd *cmd)
{
    if ((cmd->nvme.state & NVME_EP_CMD_BIG) != 0) {
        pool_put(&cmd->sq->pools->bigs, cmd->big);
        cmd->big = NULL;
    }
    cmd->abort = NULL;
    /* 5.6: what a deletion aborts says so. */
    if (cmd->sq->is_deleting && NVME_STATUS_CODE(cmd->nvme.blk.status) == NVME_SC_ABORT_REQUESTED) {
        cmd->nvme.blk.status =
            (nvme_status_t)((cmd->nvme.blk.status & ~0x7ffu) | NVME_SC_ABORT_SQ_DELETION);
    }
    cmd->nvme.state = NVME_EP_CMD_ACTIVE;
    cmd->is_mapped = false;
}

static NOINLINE void complete_slow(struct nvme_ep_cmd *cmd)
{
    struct nvme_ep_core *core = cmd->core;
    struct nvme_ep_cq *cq = cmd->sq->cq;
    struct nvme_ep_cmd *abort = cmd->abort; /* NULL but in state ABORTING */
    bool was_aborted = NVME_STATUS_CODE(cmd->nvme.blk.status) == NVME_SC_ABORT_REQUESTED;

    TRACE(cmd->core->index, IO_DONE, cmd->nvme.blk.fn, cmd->nvme.blk.trace_id, cmd->nvme.blk.status,
          cmd->core->now_ns - cmd->nvme.start_ns);
    cmd_let_go(cmd);
    if (cq->is_dropping) {
        counter_add(&core->counters.dropped, 1);
        cmd_free(cmd);
        tell_abort(abort, was_aborted);
        return;
    }
    /* Those that wait already go first. */
    if (cq->held_count == 0 && (cq->room != 0 || nvme_ep_cq_refill(core, cq))) {
        cq_post_traced(cq, cmd);
        cq_mark_dirty(core, cq);
        cmd_free(cmd);
        tell_abort(abort, was_aborted);
        return;
    }
    counter_add(&core->counters.cq_full, 1);
    cmd->nvme.state = NVME_EP_CMD_HELD;
    list_push_back(&cq->held, &cmd->nvme.link);
    held_count_set(cq, cq->held_count + 1);
    core->attend |= NVME_EP_ATTEND_HELD;
    tell_abort(abort, false); /* the Abort cannot wait for a host that takes nothing */
}

void nvme_ep_complete(struct nvme_cmd *nvme)
{
    struct nvme_ep_cmd *cmd = nvme_ep_cmd_of(nvme);
    struct nvme_ep_sq *sq = cmd->sq;
    struct nvme_ep_cq *cq = sq->cq;
    struct nvme_ep_pools *pools = sq->pools;

    STAGE_ENTER(COMPLETE);
    if (UNLIKELY(nvme->state != NVME_EP_CMD_ACTIVE || cq->room == 0 ||
                 trace_is_on(TRACE_CLASS_IO))) {
        complete_slow(cmd);
        return;
    }
    cq_post(cq, sq, nvme);
    cq_mark_dirty(cmd->core, cq);
    cmd_free_to(cmd, pools);
    STAGE_ENTER(FETCH);
}

/* --- held completions ---------------------------------------------------------------------- */

/* Posts what there is room for; true when nothing is left. */
static bool cq_post_held(struct nvme_ep_core *core, struct nvme_ep_cq *cq)
{
    while (cq->held_count != 0 && (cq->room != 0 || nvme_ep_cq_refill(core, cq))) {
        struct list *link = list_pop_front(&cq->held);
        struct nvme_ep_cmd *cmd = nvme_ep_cmd_of(LIST_ENTRY(link, struct nvme_cmd, link));
        held_count_set(cq, cq->held_count - 1);
        cq_post_traced(cq, cmd);
        cq_mark_dirty(core, cq);
        cmd_free(cmd);
    }
    return cq->held_count == 0;
}

void nvme_ep_held_poll(struct nvme_ep_core *core)
{
    bool is_done = true;

    for (uint32_t i = 0; i < core->cq_count; i++) {
        if (core->cqs[i]->held_count != 0 && !cq_post_held(core, core->cqs[i])) {
            is_done = false;
        }
    }
    if (is_done) {
        core->attend &= ~NVME_EP_ATTEND_HELD;
    }
}

static void cq_drop_held(struct nvme_ep_core *core, struct nvme_ep_cq *cq,
                         const struct nvme_ep_sq *sq)
{
    LIST_FOR_EACH(link, next, &cq->held)
    {
        struct nvme_ep_cmd *cmd = nvme_ep_cmd_of(LIST_ENTRY(link, struct nvme_cmd, link));
        if (sq != NULL && cmd->sq != sq) {
            continue;
        }
        list_remove(link);
        held_count_set(cq, cq->held_count - 1);
        counter_add(&core->counters.dropped, 1);
        cmd_free(cmd);
    }
}

void nvme_ep_held_drop(struct nvme_ep_core *core, const struct nvme_ep_sq *sq)
{
    for (uint32_t i = 0; i < core->cq_count; i++) {
        cq_drop_held(core, core->cqs[i], sq);
    }
}

/* --- interrupts ---------------------------------------------------------------------------- */

static void cq_raise(struct nvme_ep_core *core, struct nvme_ep_cq *cq)
{
    cq->carried = 0;
    cq->aggregate_ns = 0;
    if (UNLIKELY(core->is_muted)) {
        return; /* raised when the queues are within reach again */
    }
    counter_add(&core->counters.irqs, 1);
    counter_add(&cq->irq_count, 1);
    TRACE(core->index, IRQ_RAISE, core->ep->pcie->fn, cq->vector, 0, 0);
    pcie_ep_irq_raise(core->ep->pcie, cq->vector);
}

/* Waits for the threshold or for the time after the first entry. */
static void cq_aggregate(struct nvme_ep_core *core, struct nvme_ep_cq *cq)
{
    if (cq->carried >= core->coalesce_threshold) {
        cq_raise(core, cq);
        return;
    }
    if (cq->aggregate_ns == 0) {
        cq->aggregate_ns = core->now_ns + core->coalesce_ns;
        core->coalesce_due_ns = min_u64(core->coalesce_due_ns, cq->aggregate_ns);
        core->attend |= NVME_EP_ATTEND_COALESCE;
    }
}

void nvme_ep_signal_dirty(struct nvme_ep_core *core)
{
    for (uint32_t i = 0; i < core->dirty_count; i++) {
        struct nvme_ep_cq *cq = core->dirty[i];

        cq->is_dirty = false;
        cq_count(core, cq);
        if (!cq->is_ien || cq->is_dropping) {
            continue;
        }
        if (UNLIKELY(cq->is_coalescing)) {
            cq_aggregate(core, cq);
        } else {
            cq_raise(core, cq);
        }
    }
    core->dirty_count = 0;
}

void nvme_ep_coalesce_poll(struct nvme_ep_core *core)
{
    uint64_t due_ns = UINT64_MAX;

    if (core->now_ns < core->coalesce_due_ns) {
        return;
    }
    for (uint32_t i = 0; i < core->cq_count; i++) {
        struct nvme_ep_cq *cq = core->cqs[i];
        if (cq->aggregate_ns == 0) {
            continue;
        }
        if (cq->aggregate_ns <= core->now_ns) {
            cq_raise(core, cq);
        } else {
            due_ns = min_u64(due_ns, cq->aggregate_ns);
        }
    }
    core->coalesce_due_ns = due_ns;
    if (due_ns == UINT64_MAX) {
        core->attend &= ~NVME_EP_ATTEND_COALESCE;
    }
}

void nvme_ep_signal_again(struct nvme_ep_core *core)
{
    for (uint32_t i = 0; i < core->cq_count; i++) {
        struct nvme_ep_cq *cq = core->cqs[i];
        if (cq->is_ien && cq->base != NULL && !cq->is_dropping) {
            nvme_ep_cq_refill(core, cq); /* brings the head up to date */
            if (cq->head != cq->tail) {
                cq_raise(core, cq);
            }
        }
    }
}

void nvme_ep_cq_load_settings(struct nvme_ep_core *core, struct nvme_ep_cq *cq)
{
    uint32_t config = nvme_ep_setting_get(&core->ep->vector_config[cq->vector]);

    /* 5.21.1.9: CD takes a vector out; never the admin queue's (5.21.1.8). */
    cq->is_coalescing =
        core->coalesce_ns != 0 && cq->id != 0 && (config & NVME_VECTOR_COALESCING_DISABLE) == 0;
    if (!cq->is_coalescing && cq->aggregate_ns != 0) {
        cq_raise(core, cq);
    }
}
