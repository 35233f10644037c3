/*
 * Life of an I/O queue, on its core: deadlines and cancels, and the orders of core 0 by which a
 * reset passes: stop, drain, start.
 */
#include "base/log.h"
#include "base/trace.h"
#include "hal/clock.h"
#include "nvme_drv/nvme_drv_priv.h"

#define WATCH_NS \
    (50 * NS_PER_MS) /* how often deadlines are looked at while something is under way */

ALWAYS_INLINE uint32_t slot_index(const struct nvme_drv_queue *q, const struct nvme_drv_slot *slot)
{
    return (uint32_t)(slot - q->slots);
}

/* --- calls to core 0 -------------------------------------------------------------------------- */

static void call_core0(struct nvme_drv_queue *q)
{
    /* DRV-CALL (release): the abort bits and the wish are seen by who sees is_calling, or by the
     * message that is on its way already. Pairs with the exchange in nvme_drv_admin_called(). */
    if (!atomic_exchange_explicit(&q->is_calling, true, memory_order_acq_rel)) {
        msg_send(0, &q->call);
    }
}

static void ask_reset(struct nvme_drv_queue *q)
{
    atomic_store_explicit(&q->wants_reset, true, memory_order_relaxed);
    call_core0(q);
}

/* Has the drive asked to end a command; a reset follows if it does not. */
static void begin_abort(struct nvme_drv_queue *q, struct nvme_drv_slot *slot)
{
    uint32_t index = slot_index(q, slot);

    slot->state = NVME_DRV_SLOT_ABORTING;
    slot->deadline_ns = sched_now_ns() + NVME_DRV_ABORT_NS;
    counter_add(&q->abort_count, 1);
    if (q->mode != NVME_DRV_MODE_RUN) {
        return; /* a reset is under way and will end it */
    }
    atomic_store_explicit(&q->abort_cids[index], slot->cid, memory_order_relaxed);
    /* DRV-ABORT (release): pairs with the exchange in nvme_drv_admin_called(). */
    atomic_fetch_or_explicit(&q->abort_bits[index / 64], BIT64(index % 64), memory_order_release);
    call_core0(q);
}

void nvme_drv_queue_break(struct nvme_drv_queue *q, const struct nvme_cqe *cqe)
{
    counter_add(&q->bad_completion_count, 1);
    q->is_broken = true;
    TRACE(q->core, DRIVE_ERROR, 0, q->drv->index, (uint16_t)cqe->dw3, 0xffff);
    LOG_LIMITED(ERROR,
                "nvme_drv: %s: completion for no command of ours, SQ %u CID %04x on queue %u",
                q->drv->name, (unsigned)cqe->sq_id, (unsigned)(uint16_t)cqe->dw3, (unsigned)q->qid);
    ask_reset(q);
}

/* --- deadlines -------------------------------------------------------------------------------- */

static void expire_slots(struct nvme_drv_queue *q, uint64_t now_ns)
{
    for (uint32_t i = 0; i < NVME_DRV_QUEUE_ENTRIES; i++) {
        struct nvme_drv_slot *slot = &q->slots[i];
        if (slot->state == NVME_DRV_SLOT_FREE || slot->state == NVME_DRV_SLOT_LOST) {
            continue;
        }
        if (slot->deadline_ns == 0) { /* the path of an I/O reads no clock; we see it first */
            slot->deadline_ns = now_ns + NVME_DRV_TIMEOUT_NS;
        }
        if (slot->deadline_ns > now_ns) {
            continue;
        }
        if (slot->state == NVME_DRV_SLOT_BUSY) {
            counter_add(&q->timeout_count, 1);
            slot->is_late = true;
            begin_abort(q, slot);
            LOG_LIMITED(WARN, "nvme_drv: %s: command %04x on queue %u is late, aborting it",
                        q->drv->name, (unsigned)slot->cid, (unsigned)q->qid);
        } else {
            slot->state = NVME_DRV_SLOT_LOST;
            ask_reset(q);
        }
    }
}

/* A request leaves the waiting list for good. Parts of it that are under way keep their own end. */
static void end_waiting(struct nvme_drv_queue *q, struct blk_req *req, nvme_status_t status)
{
    struct nvme_drv_split *split = nvme_drv_waiting_split(req);

    list_remove(&req->link);
    if (split == NULL) {
        req->dw0 = 0;
        req->dw1 = 0;
        blk_complete(req, status);
        return;
    }
    split->is_waiting = false;
    split->is_stopped = true;
    if (split->status == 0) {
        split->status = status;
    }
    nvme_drv_split_settle(q, split);
}

static void expire_waiting(struct nvme_drv_queue *q, uint64_t now_ns)
{
    struct list expired;
    list_init(&expired);
    /* First out of the list, then done(): which may submit again. */
    LIST_FOR_EACH(node, temp, &q->waiting)
    {
        struct blk_req *req = LIST_ENTRY(node, struct blk_req, link);
        if (req->priv[NVME_DRV_PRIV_DEADLINE] <= now_ns) {
            list_remove(node);
            list_push_back(&expired, node);
        }
    }
    while (!list_is_empty(&expired)) {
        struct blk_req *req = LIST_ENTRY(expired.next, struct blk_req, link);
        counter_add(&q->timeout_count, 1);
        end_waiting(q, req, NVME_SC_COMMAND_INTERRUPTED);
    }
}

static void on_watch(struct timer *timer)
{
    struct nvme_drv_queue *q = CONTAINER_OF(timer, struct nvme_drv_queue, watch);
    uint64_t now_ns = sched_now_ns();

    expire_slots(q, now_ns);
    expire_waiting(q, now_ns);
    q->is_watched = false;
    if (q->in_flight != 0 || !list_is_empty(&q->waiting)) {
        nvme_drv_queue_watch(q);
    }
}

void nvme_drv_queue_watch(struct nvme_drv_queue *q)
{
    q->is_watched = true;
    timer_arm(&q->watch, sched_now_ns() + WATCH_NS);
}

/* --- cancel ----------------------------------------------------------------------------------- */

void nvme_drv_cancel(struct blk_dev *dev, struct blk_req *req)
{
    struct nvme_drv_ns *ns = CONTAINER_OF(dev, struct nvme_drv_ns, dev);
    struct nvme_drv_queue *q = ns->queues[req->owner_core];

    /* What is under way first: end_waiting() may give `req` back. */
    for (uint32_t i = 0; i < NVME_DRV_QUEUE_ENTRIES; i++) {
        struct nvme_drv_slot *slot = &q->slots[i];
        if (slot->state == NVME_DRV_SLOT_BUSY && slot->req == req) {
            begin_abort(q, slot);
        }
    }
    LIST_FOR_EACH(node, temp, &q->waiting)
    {
        if (node == &req->link) {
            end_waiting(q, req, NVME_SC_ABORT_REQUESTED);
            return;
        }
    }
}

/* --- orders of core 0 --------------------------------------------------------------------------
 */

/* The drive can no longer reach memory. What it finished before counts; the rest is interrupted. */
static void drain(struct nvme_drv_queue *q)
{
    /* Nothing under way: the ring may never have been set up, and its memory hold anything. */
    if (q->in_flight != 0 && !q->is_broken) {
        (void)nvme_drv_reap(q, NVME_DRV_QUEUE_ENTRIES);
    }
    for (uint32_t i = 0; i < NVME_DRV_QUEUE_ENTRIES; i++) {
        struct nvme_drv_slot *slot = &q->slots[i];
        if (slot->state == NVME_DRV_SLOT_FREE) {
            continue;
        }
        bool was_cancelled = slot->state != NVME_DRV_SLOT_BUSY && !slot->is_late;
        nvme_drv_finish(
            q, slot, was_cancelled ? NVME_SC_ABORT_REQUESTED : NVME_SC_COMMAND_INTERRUPTED, 0, 0);
    }
    ASSERT(q->in_flight == 0);
    for (uint32_t i = 0; i < NVME_DRV_ABORT_WORDS; i++) {
        atomic_store_explicit(&q->abort_bits[i], 0, memory_order_relaxed);
    }
    atomic_store_explicit(&q->wants_reset, false, memory_order_relaxed);
    if (q->mode == NVME_DRV_MODE_OFF) {
        while (!list_is_empty(&q->waiting)) {
            end_waiting(q, LIST_ENTRY(q->waiting.next, struct blk_req, link), NVME_SC_NS_NOT_READY);
        }
    }
}

static void start(struct nvme_drv_queue *q)
{
    uint32_t count = q->drv->queue_entries - 1;

    q->free_slot = NVME_DRV_NO_SLOT;
    for (uint32_t i = count; i-- > 0;) {
        q->slots[i].next = q->free_slot;
        q->free_slot = (uint16_t)i;
    }
    q->caps = q->drv->caps;
    q->is_broken = false;
    q->mode = NVME_DRV_MODE_RUN;
}

static void on_answer(struct msg *msg)
{
    struct nvme_drv_queue *q = CONTAINER_OF(msg, struct nvme_drv_queue, order);
    ASSERT(q->drv->orders_pending > 0);
    q->drv->orders_pending--;
}

static void on_order(struct msg *msg)
{
    struct nvme_drv_queue *q = CONTAINER_OF(msg, struct nvme_drv_queue, order);

    switch (q->verb) {
    case NVME_DRV_VERB_STOP:
        if (q->mode == NVME_DRV_MODE_RUN) {
            q->mode = NVME_DRV_MODE_HOLD;
        }
        break;
    case NVME_DRV_VERB_DRAIN_HOLD:
        drain(q);
        break;
    case NVME_DRV_VERB_DRAIN_OFF:
        q->mode = NVME_DRV_MODE_OFF;
        drain(q);
        break;
    case NVME_DRV_VERB_START:
        start(q);
        break;
    }
    q->order.fn = on_answer;
    msg_send(0, &q->order);
}

void nvme_drv_order(struct nvme_drv *drv, enum nvme_drv_verb verb)
{
    ASSERT(drv->orders_pending == 0);
    drv->orders_pending = drv->core_count;
    for (uint32_t core = 0; core < drv->core_count; core++) {
        struct nvme_drv_queue *q = &drv->queues[core];
        q->verb = verb;
        q->order.fn = on_order;
        msg_send(core, &q->order);
    }
}

/* --- poller ------------------------------------------------------------------------------------
 */

/* Nobody wakes us for a completion, so the core does not sleep while one can come. */
uint64_t nvme_drv_queue_sleep_ns(const struct nvme_drv_queue *q)
{
    if (q->mode == NVME_DRV_MODE_RUN && (q->in_flight != 0 || !list_is_empty(&q->waiting))) {
        return 0;
    }
    return UINT64_MAX; /* orders come as messages, deadlines by a timer, requests by our own core */
}

void nvme_drv_queue_init(struct nvme_drv_queue *q, struct nvme_drv *drv, uint32_t core,
                         struct nvme_drv_slot *slots)
{
    *q = (struct nvme_drv_queue){0};
    q->drv = drv;
    q->core = (uint8_t)core;
    q->qid = (uint16_t)(core + 1);
    q->regs = drv->regs;
    q->slots = slots;
    q->pools = &nvme_drv_pools[core];
    q->sq.entries = drv->dma->io_sqes[core];
    q->cq.entries = drv->dma->io_cqes[core];
    q->free_slot = NVME_DRV_NO_SLOT;
    q->mode = NVME_DRV_MODE_OFF;
    list_init(&q->waiting);
    timer_init(&q->watch, on_watch);
    q->call.fn = nvme_drv_admin_called;
    for (uint32_t i = 0; i < NVME_DRV_QUEUE_ENTRIES; i++) {
        slots[i] = (struct nvme_drv_slot){.cid = (uint16_t)i};
    }
}
