/*
 * The turns of a core: completions, what waits for something, steps of queues, deadlines.
 *
 * Whatever arrives is the target's and hostile until its CID is found to be that of a command under
 * way. A response that cannot be ends the connection (NVMF_FAIL_PROTOCOL).
 */
#include "base/shm.h"
#include "nvmf_host/queue_priv.h"

#define LOOK_NS (20 * NS_PER_US)

/* Codes of NVMF_FAIL_PROTOCOL. */
enum protocol_error {
    PROTOCOL_LENGTH = 1, /* of a response capsule */
    PROTOCOL_CID,        /* no such command, or its response was here before */
    PROTOCOL_SQ_HEAD,    /* out of range */
    PROTOCOL_KEY,        /* invalidated one that is not this command's */
};

/* --- receives ----------------------------------------------------------------------------------
 */

void nvmf_recv_post(struct nvmf_rings *rings)
{
    uint32_t count = rings->batch_count;

    if (count == 0) {
        return;
    }
    for (uint32_t i = 0; i + 1 < count; i++) {
        rings->batch[i].next = &rings->batch[i + 1];
    }
    rings->batch[count - 1].next = NULL;
    rings->batch_count = 0;
    /* There is room: each of them was in it before. */
    enum status status = rdma_srq_post(rings->srq, rings->batch, NULL);
    ASSERT(status == STATUS_OK);
}

/* --- responses ---------------------------------------------------------------------------------
 */

/* An older value than the last one is no error: controllers complete on many cores. */
ALWAYS_INLINE bool take_sq_head(struct nvmf_queue *queue, uint16_t sq_head)
{
    struct nvmf_queue_inner *inner = queue->inner;
    uint32_t entries = queue->params.entries;

    if (UNLIKELY(sq_head >= entries)) {
        return queue->state == NVMF_QUEUE_CONNECT; /* how it tells that there is no flow control */
    }
    uint32_t ahead = (sq_head + entries - inner->sq_head) % entries;
    uint32_t taken = (inner->sq_tail + entries - inner->sq_head) % entries;
    if (ahead <= taken) {
        inner->sq_head = sq_head;
    }
    return true;
}

/* The key is not the target's any more. */
NOINLINE static void invalidate(struct nvmf_queue *queue, struct nvmf_tag *tag)
{
    if (tag->key->is_bound) {
        rdma_key_invalidate(tag->key);
        if ((tag->flags & NVMF_TAG_CMD) == 0) {
            counter_add(&queue->inner->paths[tag->path].local_invalidates, 1);
        }
    }
}

NOINLINE static void settle_later(struct nvmf_queue *queue, struct nvmf_tag *tag)
{
    list_push_back(&queue->core->settling, &nvmf_tag_more(queue->inner, tag)->link);
}

/* The response is there: what else it takes to end. */
ALWAYS_INLINE void settle(struct nvmf_queue *queue, struct nvmf_tag *tag)
{
    if (LIKELY(tag->key != NULL) && UNLIKELY(!rdma_key_is_quiet(tag->key))) {
        settle_later(queue, tag);
        return;
    }
    nvmf_tag_finish(queue, tag);
}

ALWAYS_INLINE void received(struct nvmf_queue *queue, const struct rdma_wc *wc,
                            const struct nvme_cqe *response)
{
    struct nvmf_queue_inner *inner = queue->inner;
    const struct nvme_cqe cqe = *response;
    struct nvmf_tag *tag = &inner->tags[cqe.dw3 & inner->cid_mask];

    if (UNLIKELY(wc->len_bytes != sizeof(cqe))) {
        nvmf_queue_break(queue, NVMF_FAIL_PROTOCOL, PROTOCOL_LENGTH);
        return;
    }
    if (UNLIKELY(tag->cid != (uint16_t)cqe.dw3 || tag->state != NVMF_TAG_SENT)) {
        nvmf_queue_break(queue, NVMF_FAIL_PROTOCOL, PROTOCOL_CID);
        return;
    }
    if (UNLIKELY(!queue->sq_flow_off) && !take_sq_head(queue, cqe.sq_head)) {
        nvmf_queue_break(queue, NVMF_FAIL_PROTOCOL, PROTOCOL_SQ_HEAD);
        return;
    }
    if (LIKELY((wc->flags & RDMA_WC_WITH_INV) != 0)) {
        if (UNLIKELY(tag->key == NULL || tag->key_value != wc->imm)) {
            nvmf_queue_break(queue, NVMF_FAIL_PROTOCOL, PROTOCOL_KEY);
            return;
        }
        if (LIKELY((tag->flags & NVMF_TAG_CMD) == 0)) {
            counter_add(&inner->paths[tag->path].remote_invalidates, 1);
        }
    }
    tag->state = NVMF_TAG_DONE;
    nvme_status_t status = (nvme_status_t)(cqe.dw3 >> NVME_CQE_STATUS_SHIFT);
    tag->status = NVME_STATUS_CODE(status) | (status & NVME_STATUS_DNR);
    tag->dw0 = cqe.dw0;
    tag->dw1 = cqe.dw1;
    if (UNLIKELY((tag->flags & NVMF_TAG_CMD) != 0) && tag->cmd != NULL) {
        tag->cmd->cqe = cqe;
        tag->cmd->status = tag->status;
    }
    if (UNLIKELY((tag->flags & NVMF_TAG_SENDING) != 0)) {
        return; /* what is sent again after a loss must find its key */
    }
    if (LIKELY(tag->key != NULL)) {
        if (UNLIKELY(tag->key->is_bound)) {
            invalidate(queue, tag);
        }
    }
    settle(queue, tag);
}

/* --- sends -------------------------------------------------------------------------------------
 */

NOINLINE static void sent(struct nvmf_queue *queue, uint64_t wr_id)
{
    struct nvmf_queue_inner *inner = queue->inner;
    uint16_t cid = (uint16_t)(wr_id >> NVMF_WR_CID_SHIFT);
    struct nvmf_tag *tag = &inner->tags[cid & inner->cid_mask];

    inner->reaped = (uint32_t)wr_id;
    queue->core->is_freed = true;
    if ((wr_id & NVMF_WR_DATA) == 0 || tag->cid != cid || (tag->flags & NVMF_TAG_SENDING) == 0) {
        return;
    }
    tag->flags &= (uint8_t)~NVMF_TAG_SENDING;
    if (tag->state == NVMF_TAG_DONE) {
        invalidate(queue, tag);
        settle(queue, tag);
    }
}

NOINLINE static void failed(struct nvmf_queue *queue, const struct rdma_wc *wc, bool is_recv)
{
    if (is_recv && wc->status == RDMA_WC_LOC_LEN_ERR) {
        nvmf_queue_break(queue, NVMF_FAIL_PROTOCOL, PROTOCOL_LENGTH);
    } else {
        nvmf_queue_break(queue, NVMF_FAIL_TRANSPORT, wc->status);
    }
}

ALWAYS_INLINE bool is_connected(const struct nvmf_queue *queue)
{
    return queue->state == NVMF_QUEUE_OPEN || queue->state == NVMF_QUEUE_CONNECT;
}

/* Everything that was received goes back to the ring, whatever it was. */
ALWAYS_INLINE void completed(const struct rdma_wc *wc)
{
    struct nvmf_queue *queue = wc->qp->ctx;

    if (UNLIKELY(wc->status != RDMA_WC_SUCCESS)) {
        failed(queue, wc, (wc->wr_id & NVMF_WR_RECV) != 0);
    } else if (UNLIKELY((wc->wr_id & NVMF_WR_RECV) == 0)) {
        if (is_connected(queue)) {
            sent(queue, wc->wr_id);
        }
        return;
    } else if (LIKELY(is_connected(queue))) {
        received(queue, wc, &queue->inner->rings->responses[(uint32_t)wc->wr_id]);
    }
    if ((wc->wr_id & NVMF_WR_RECV) != 0) {
        nvmf_recv_put(queue->inner->rings, (uint32_t)wc->wr_id);
    }
}

/* --- responses in host memory ------------------------------------------------------------------
 */

/* Receive, completion, response: each is written once and read once. */
static void count_host(struct nvmf_queue_inner *inner, const struct nvmf_tag *tag)
{
    if ((tag->flags & NVMF_TAG_CMD) == 0) {
        counter_add(&inner->paths[tag->path].host_ring_reads, 3);
        counter_add(&inner->paths[tag->path].host_ring_writes, 3);
    }
}

/* The slot is in range, and the queue one of these rings: that is all that is known. */
static void completed_on_host(const struct rdma_wc *wc)
{
    struct nvmf_queue *queue = wc->qp->ctx;
    struct nvmf_queue_inner *inner = queue->inner;
    struct nvmf_rings *rings = inner->rings;

    if (wc->status != RDMA_WC_SUCCESS) {
        failed(queue, wc, true);
    } else if (is_connected(queue)) {
        const uint8_t *from = (const uint8_t *)&rings->responses[wc->wr_id];
        const uint64_t half[2] = {shm_load64(from), shm_load64(from + 8)};
        struct nvme_cqe cqe;
        COPY_FIXED(&cqe, half, sizeof(cqe));
        count_host(inner, &inner->tags[cqe.dw3 & inner->cid_mask]);
        received(queue, wc, &cqe);
    }
    nvmf_host_recv_put(rings, (uint32_t)wc->wr_id);
}

NOINLINE static uint32_t run_hosts(struct nvmf_core *core)
{
    struct rdma_wc wcs[NVMF_RECV_BATCH];
    uint32_t sum = 0;

    for (uint32_t i = 0; i < LIMIT_FUNCTIONS; i++) {
        struct nvmf_rings *rings = &core->domains[i].host.rings;
        uint32_t count = rings->cq == NULL ? 0 : rdma_cq_poll(rings->cq, wcs, ARRAY_SIZE(wcs));
        for (uint32_t j = 0; j < count; j++) {
            completed_on_host(&wcs[j]);
        }
        nvmf_recv_post(rings);
        core->is_drained = core->is_drained && count < ARRAY_SIZE(wcs);
        sum += count;
    }
    return sum;
}

static void post_receives(struct nvmf_core *core)
{
    for (uint32_t i = 0; i < LIMIT_FUNCTIONS; i++) {
        nvmf_recv_post(&core->domains[i].rings);
    }
}

/* --- what waits --------------------------------------------------------------------------------
 */

void nvmf_queue_hunger(struct nvmf_queue *queue)
{
    if (list_is_empty(&queue->inner->hungry_link)) {
        list_push_back(&queue->core->hungry, &queue->inner->hungry_link);
        queue->core->is_freed = true; /* it may be that nothing is under way that could wake it */
    }
}

/* Oldest first, until something runs out again. False: nothing waits any more. */
static bool feed(struct nvmf_queue *queue)
{
    struct nvmf_queue_inner *inner = queue->inner;

    for (uint32_t i = 0; i < LIMIT_NVMF_QUEUE_ENTRIES && is_connected(queue); i++) {
        struct list *node = list_pop_front(&inner->waiting_cmd);
        if (node != NULL) {
            if (!nvmf_cmd_issue(queue, LIST_ENTRY(node, struct nvmf_cmd, link))) {
                list_push_back(inner->waiting_cmd.next, node); /* to the front again */
                return true;
            }
            continue;
        }
        if (queue->state != NVMF_QUEUE_OPEN || list_is_empty(&inner->waiting)) {
            return false;
        }
        struct blk_req *req = LIST_ENTRY(list_pop_front(&inner->waiting), struct blk_req, link);
        if (!nvmf_io_issue(queue, req)) {
            list_push_back(inner->waiting.next, &req->link);
            return true;
        }
    }
    queue->core->is_freed = true; /* this was enough for one turn */
    return is_connected(queue);
}

/* Each queue once; the next time another is the first, but for the one that waits for NIC memory,
 * which others must not take then. */
NOINLINE static void feed_all(struct nvmf_core *core)
{
    struct list again;
    struct list *node;

    list_init(&again);
    core->is_freed = false;
    core->stage_claim = NULL;
    for (uint32_t i = 0; i < LIMIT_NVMF_QUEUES; i++) {
        node = list_pop_front(&core->hungry);
        if (node == NULL) {
            break;
        }
        list_push_back(&again, node);
        if (!feed(LIST_ENTRY(node, struct nvmf_queue_inner, hungry_link)->queue)) {
            list_remove(node);
        }
    }
    if (core->stage_claim == NULL && !list_is_empty(&again)) {
        list_push_back(&again, list_pop_front(&again));
    }
    while ((node = list_pop_front(&again)) != NULL) {
        list_push_back(&core->hungry, node);
    }
}

NOINLINE static uint32_t settle_all(struct nvmf_core *core)
{
    uint32_t count = 0;

    LIST_FOR_EACH(node, next, &core->settling)
    {
        struct nvmf_tag_more *more = LIST_ENTRY(node, struct nvmf_tag_more, link);
        struct nvmf_queue_inner *inner = more->queue->inner;
        struct nvmf_tag *tag = &inner->tags[more - inner->more];
        if (!rdma_key_is_quiet(tag->key)) {
            continue;
        }
        list_remove(node);
        nvmf_tag_finish(more->queue, tag);
        count++;
    }
    return count;
}

NOINLINE static void step_all(struct nvmf_core *core)
{
    struct list now;
    struct list *node;

    list_init(&now);
    while ((node = list_pop_front(&core->work)) != NULL) {
        list_push_back(&now, node);
    }
    while ((node = list_pop_front(&now)) != NULL) {
        struct nvmf_queue *queue = LIST_ENTRY(node, struct nvmf_queue_inner, work_link)->queue;
        if (nvmf_queue_step(queue)) {
            nvmf_queue_work(queue);
        }
    }
}

/* --- poller ------------------------------------------------------------------------------------
 */

uint32_t nvmf_core_run(void *ctx)
{
    struct nvmf_core *core = ctx;
    struct rdma_wc wcs[NVMF_POLL_MAX];
    uint32_t count = rdma_cq_poll(core->cq, wcs, NVMF_POLL_MAX);

    for (uint32_t i = 0; i < count; i++) {
        completed(&wcs[i]);
    }
    if (count > 0) {
        post_receives(core);
    }
    core->is_drained = count < NVMF_POLL_MAX;
    if (UNLIKELY(core->host_area_count > 0)) {
        count += run_hosts(core);
    }
    if (UNLIKELY(core->is_scan_due)) {
        nvmf_core_scan(&core->timer);
    }
    if (UNLIKELY(!list_is_empty(&core->settling))) {
        count += settle_all(core);
    }
    if (UNLIKELY(!list_is_empty(&core->work))) {
        step_all(core);
        count++;
    }
    if (UNLIKELY(!list_is_empty(&core->hungry)) && core->is_freed) {
        feed_all(core);
    }
    if (UNLIKELY(core->closing_count > 0)) {
        nvmf_domain_release_all(core);
    }
    return count;
}

/* What waits for the device without a completion that would wake us is looked at again soon. */
uint64_t nvmf_core_arm(void *ctx, bool armed)
{
    const struct nvmf_core *core = ctx;

    (void)armed;
    return list_is_empty(&core->settling) && list_is_empty(&core->work) && !core->is_scan_due &&
                   core->closing_count == 0
               ? (core->is_freed && !list_is_empty(&core->hungry) ? 0 : UINT64_MAX)
               : LOOK_NS;
}

/* --- deadlines ---------------------------------------------------------------------------------
 */

static void scan_tags(struct nvmf_queue *queue, uint64_t now_ns)
{
    struct nvmf_queue_inner *inner = queue->inner;

    if (inner->next_deadline_ns > now_ns) {
        return;
    }
    inner->next_deadline_ns = UINT64_MAX;
    for (uint32_t i = 0; i < inner->tag_count && is_connected(queue); i++) {
        struct nvmf_tag *tag = &inner->tags[i];
        bool is_sending = (tag->flags & NVMF_TAG_SENDING) != 0;
        if (tag->state == NVMF_TAG_FREE || (tag->state == NVMF_TAG_DONE && !is_sending)) {
            continue;
        }
        if (tag->deadline_ns <= now_ns) {
            if (tag->state == NVMF_TAG_DONE) {
                /* Answered, but not received: no abort helps. */
                nvmf_queue_break(queue, NVMF_FAIL_TRANSPORT, RDMA_WC_RNR_RETRY_EXC_ERR);
                return;
            }
            if ((tag->flags & NVMF_TAG_CMD) != 0) {
                nvmf_cmd_late(queue, tag);
            } else {
                nvmf_io_late(queue, tag, now_ns);
            }
        }
        if (tag->state != NVMF_TAG_FREE) {
            inner->next_deadline_ns = min_u64(inner->next_deadline_ns, tag->deadline_ns);
        }
    }
}

/* Everything has been answered, and yet there is no place for a command: the controller's head
 * stands still, or it receives nothing. No command is late that could tell. */
static void scan_stall(struct nvmf_queue *queue, uint64_t now_ns)
{
    struct nvmf_queue_inner *inner = queue->inner;

    if (queue->in_flight > 0 || nvmf_queue_has_place(queue)) {
        inner->stalled_since_ns = UINT64_MAX;
        return;
    }
    inner->stalled_since_ns = min_u64(inner->stalled_since_ns, now_ns);
    if (now_ns - inner->stalled_since_ns >= queue->params.command_timeout_ns) {
        nvmf_queue_break(queue, NVMF_FAIL_PROTOCOL, PROTOCOL_SQ_HEAD);
    }
}

static void scan(struct nvmf_queue *queue, uint64_t now_ns)
{
    const struct nvmf_queue_inner *inner = queue->inner;

    if (queue->state == NVMF_QUEUE_RESOLVE || queue->state == NVMF_QUEUE_CONNECT_CM) {
        if (inner->step_deadline_ns <= now_ns) {
            nvmf_queue_break(queue, NVMF_FAIL_NO_ANSWER, 0);
        }
        return;
    }
    if (!is_connected(queue)) {
        return;
    }
    if (inner->qp->state == RDMA_QP_ERR) {
        nvmf_queue_break(queue, NVMF_FAIL_TRANSPORT, RDMA_WC_FATAL_ERR);
        return;
    }
    nvmf_cmd_scan_waiting(queue, now_ns);
    nvmf_io_scan_waiting(queue, now_ns);
    scan_tags(queue, now_ns);
    scan_stall(queue, now_ns);
}

void nvmf_core_scan(struct timer *timer)
{
    struct nvmf_core *core = CONTAINER_OF(timer, struct nvmf_core, timer);
    uint64_t now_ns = sched_now_ns();

    core->is_scan_due = false;
    LIST_FOR_EACH(node, next, &core->queues)
    {
        scan(LIST_ENTRY(node, struct nvmf_queue_inner, link)->queue, now_ns);
    }
    if (!list_is_empty(&core->queues)) {
        timer_arm(&core->timer, now_ns + NVMF_SCAN_NS);
    }
}
