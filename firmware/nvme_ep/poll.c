/*
 * A turn of a core: look at the doorbells, fetch commands in bursts, signal what was completed.
 *
 * Arbitration (4.13): the admin queue first; then round robin with the arbitration burst, or urgent
 * queues first and the other classes by weight. A queue whose CQ is full, or a core whose pool is
 * empty, fetches nothing until that ends.
 * Source: NVM Express Base Specification 1.4, sections 4.1, 4.13.
 */
#include "base/stage.h"
#include "base/trace.h"
#include "nvme_ep/nvme_ep_priv.h"

/* Sleeps with mapped doorbells: from 16 us, doubling up to 1 ms. */
#define MAPPED_SLEEP_NS     (UINT64_C(16) * NS_PER_US)
#define MAPPED_SLEEP_MAX_NS NS_PER_MS
#define MAPPED_SHIFT_MAX    6

/* While a fence or deletion waits for commands to end. */
#define FENCE_SLEEP_NS (UINT64_C(100) * NS_PER_US)

/* --- fetching ------------------------------------------------------------------------------ */

static COLD NOINLINE void tail_is_bad(struct nvme_ep_core *core, struct nvme_ep_sq *sq,
                                      uint32_t tail)
{
    if (tail != sq->tail_bad) { /* 5.2: reported once; nothing is fetched until it is valid */
        sq->tail_bad = tail;
        nvme_ep_doorbell_error(core, sq->id, NVME_EVENT_ERROR_INVALID_DOORBELL_VALUE, tail);
    }
}

/* What is counted once per batch. */
ALWAYS_INLINE void batch_count(struct nvme_ep_core *core, uint32_t count)
{
    struct nvme_ep_counters *counters = &core->counters;

    counter_add(&counters->sqes, count);
    counter_set(&counters->pool_low_water, core->io.cmds.low_water);
    for (uint32_t i = 0; i < 2; i++) {
        counter_set(&counters->mapped[i].count, core->mapped[i].count);
        counter_set(&counters->mapped[i].bytes, core->mapped[i].bytes);
    }
}

/* Fetches up to `limit` commands. Inlined twice, so that `submit` is a direct call. */
ALWAYS_INLINE uint32_t sq_fetch_to(struct nvme_ep_core *core, struct nvme_ep_sq *sq, uint32_t tail,
                                   uint32_t limit, void (*submit)(struct nvme_cmd *nvme))
{
    struct nvme_ep_pools *pools = sq->pools;
    uint32_t head = sq->head;
    uint32_t count = tail > head ? tail - head : tail + sq->size - head;
    uint32_t left;

    if (UNLIKELY(tail >= sq->size)) {
        tail_is_bad(core, sq, tail);
        return 0;
    }
    if (UNLIKELY(sq->cq->held_count != 0)) {
        return 0;
    }
    count = min_u32(count, limit);
    for (left = count; left > 0; left--) {
        /* A command may need a long list: there is one as long as we are here. */
        struct nvme_ep_cmd *cmd = pools->bigs.free_list != NULL ? pool_get(&pools->cmds) : NULL;
        if (UNLIKELY(cmd == NULL)) {
            counter_add(&core->counters.pool_empty, 1); /* a completion wakes */
            break;
        }
        STAGE_ENTER(FETCH);
        shm_copy64(&cmd->nvme.blk.cmd, &sq->base[head]); /* from here on only the copy exists */
        if (UNLIKELY(++head == sq->size)) {
            head = 0;
        }
        sq->head = head;
        if (left > 1) {
            PREFETCH_READ(&sq->base[head]);
        }
        nvme_ep_cmd_setup(cmd, sq, core->now_ns);
        TRACE(core->index, IO_FETCH, cmd->nvme.blk.fn, cmd->nvme.blk.trace_id,
              (uint64_t)cmd->nvme.blk.cmd.opcode << 32 | cmd->nvme.blk.cmd.nsid,
              nvme_rw_slba(&cmd->nvme.blk.cmd));
        STAGE_ENTER(DECODE);
        submit(&cmd->nvme);
        STAGE_ENTER(POLL);
    }
    count -= left;
    counter_add(&sq->sqe_count, count);
    batch_count(core, count);
    return count;
}

static NOINLINE uint32_t sq_fetch_io(struct nvme_ep_core *core, struct nvme_ep_sq *sq,
                                     uint32_t tail, uint32_t limit)
{
    return sq_fetch_to(core, sq, tail, limit, nvme_submit_io);
}

static NOINLINE uint32_t sq_fetch_admin(struct nvme_ep_core *core, struct nvme_ep_sq *sq,
                                        uint32_t tail)
{
    return sq_fetch_to(core, sq, tail, NVME_EP_BATCH, nvme_submit_admin);
}

/* The tail doorbell; equal to the head when there is nothing.
 * SQ-TAIL (acquire): pairs with the host's order "SQE, then doorbell". */
ALWAYS_INLINE uint32_t sq_tail(const struct nvme_ep_sq *sq)
{
    return shm_load32_acquire(sq->tail_db);
}

/* --- arbitration --------------------------------------------------------------------------- */

ALWAYS_INLINE bool pools_are_empty(const struct nvme_ep_pools *pools)
{
    return pools->cmds.free_list == NULL || pools->bigs.free_list == NULL;
}

/* Round robin over queues [from, to): each up to a burst, from *next on, until `budget` is spent.
 * When that or a pool ends the round early, the next one starts where it is the next queue's turn.
 */
ALWAYS_INLINE uint32_t round_robin(struct nvme_ep_core *core, uint32_t from, uint32_t to,
                                   uint32_t *next, uint32_t budget)
{
    uint32_t i = *next;
    uint32_t work = 0;

    for (uint32_t n = from; n < to; n++) {
        struct nvme_ep_sq *sq = core->sqs[i];
        uint32_t tail = sq_tail(sq);
        uint32_t this = i;
        if (UNLIKELY(++i >= to)) {
            i = from;
        }
        if (tail == sq->head) {
            continue;
        }
        uint32_t count = sq_fetch_io(core, sq, tail, min_u32(core->burst, budget - work));
        work += count;
        if (UNLIKELY(work >= budget || pools_are_empty(&core->io))) {
            *next = count != 0 ? i : this;
            break;
        }
    }
    return work;
}

/* Bursts of one class until its budget is spent or it has nothing more. */
static uint32_t class_run(struct nvme_ep_core *core, enum nvme_ep_class class, uint32_t budget)
{
    uint32_t from = class == NVME_EP_CLASS_URGENT ? 0 : core->class_end[class - 1];
    uint32_t to = core->class_end[class];

    if (from == to) {
        return 0;
    }
    if (core->class_next[class] < from || core->class_next[class] >= to) {
        core->class_next[class] = from;
    }
    uint32_t work = 0;
    uint32_t count;
    do {
        count = round_robin(core, from, to, &core->class_next[class], budget - work);
        work += count;
    } while (count != 0 && work < budget);
    return work;
}

/* 4.13.2: strictly urgent ones first; the others get what their weight allows in each round, and
 * urgent ones have another chance after each class. */
static NOINLINE uint32_t fetch_weighted(struct nvme_ep_core *core)
{
    uint32_t work = class_run(core, NVME_EP_CLASS_URGENT, NVME_EP_BATCH);

    for (uint32_t c = NVME_EP_CLASS_HIGH; c < NVME_EP_CLASS_COUNT && work < NVME_EP_BATCH; c++) {
        work +=
            class_run(core, (enum nvme_ep_class)c, min_u32(core->weight[c], NVME_EP_BATCH - work));
        if (work < NVME_EP_BATCH) {
            work += class_run(core, NVME_EP_CLASS_URGENT, NVME_EP_BATCH - work);
        }
    }
    return work;
}

ALWAYS_INLINE uint32_t fetch_round(struct nvme_ep_core *core)
{
    if (UNLIKELY(core->is_weighted)) {
        return fetch_weighted(core);
    }
    if (core->first >= core->sq_count) {
        core->first = 0;
    }
    return round_robin(core, 0, core->sq_count, &core->first, NVME_EP_ROUND);
}

/* The arbitration burst is for queues among each other: one alone takes a whole batch. */
void nvme_ep_burst_update(struct nvme_ep_core *core)
{
    core->burst = core->sq_count <= 1 ? NVME_EP_BATCH : core->burst_setting;
}

void nvme_ep_sq_attach(struct nvme_ep_core *core, struct nvme_ep_sq *sq)
{
    uint32_t class = core->is_weighted ? sq->priority : NVME_EP_CLASS_URGENT;
    uint32_t at = core->class_end[class];

    for (uint32_t i = core->sq_count; i > at; i--) {
        core->sqs[i] = core->sqs[i - 1];
    }
    core->sqs[at] = sq;
    core->sq_count++;
    for (uint32_t c = class; c < NVME_EP_CLASS_COUNT; c++) {
        core->class_end[c]++;
    }
    if (sq->has_merged_tail) {
        core->attend |= NVME_EP_ATTEND_MERGE;
    }
    nvme_ep_burst_update(core);
}

void nvme_ep_sq_detach(struct nvme_ep_core *core, struct nvme_ep_sq *sq)
{
    uint32_t at = 0;

    while (at < core->sq_count && core->sqs[at] != sq) {
        at++;
    }
    if (at == core->sq_count) {
        return;
    }
    core->sq_count--;
    for (uint32_t i = at; i < core->sq_count; i++) {
        core->sqs[i] = core->sqs[i + 1];
    }
    for (uint32_t c = 0; c < NVME_EP_CLASS_COUNT; c++) {
        if (core->class_end[c] > at) {
            core->class_end[c]--;
        }
    }
    nvme_ep_burst_update(core);
}

/* Not while nothing is fetched: what another image is told of doorbells stands still. */
ALWAYS_INLINE bool must_merge(const struct nvme_ep_core *core)
{
    return (core->attend & (NVME_EP_ATTEND_MERGE | NVME_EP_ATTEND_STOPPED)) == NVME_EP_ATTEND_MERGE;
}

/* --- the pollers --------------------------------------------------------------------------- */

/* What is not for every turn; false: fetch nothing. */
static NOINLINE bool core_attend(struct nvme_ep_core *core)
{
    if ((core->attend & NVME_EP_ATTEND_HELD) != 0) {
        nvme_ep_held_poll(core);
    }
    if ((core->attend & NVME_EP_ATTEND_DELETE) != 0) {
        nvme_ep_deletions_poll(core);
    }
    if ((core->attend & NVME_EP_ATTEND_FENCE) != 0) {
        nvme_ep_fence_poll(core);
    }
    if ((core->attend & NVME_EP_ATTEND_COALESCE) != 0) {
        nvme_ep_coalesce_poll(core);
    }
    if (must_merge(core)) {
        nvme_ep_doorbell_merge(core);
    }
    return (core->attend & (NVME_EP_ATTEND_FENCE | NVME_EP_ATTEND_STOPPED)) == 0;
}

ALWAYS_INLINE uint32_t admin_fetch(struct nvme_ep_core *core)
{
    struct nvme_ep_sq *sq = core->ep->admin_sq;
    uint32_t tail;

    if (UNLIKELY(sq == NULL)) {
        return 0;
    }
    tail = sq_tail(sq);
    return LIKELY(tail == sq->head) ? 0 : sq_fetch_admin(core, sq, tail);
}

ALWAYS_INLINE uint32_t core_poll(struct nvme_ep_core *core, bool is_control)
{
    uint32_t work = 0;

    STAGE_ENTER(POLL);
    core->now_ns = sched_now_ns();
    if (is_control && UNLIKELY(pcie_ep_event_waits(core->ep->pcie) ||
                               (core->attend & NVME_EP_ATTEND_CONTROL) != 0)) {
        work += nvme_ep_control_run(core->ep);
    }
    if (LIKELY(core->attend == 0) || core_attend(core)) {
        if (is_control) {
            work += admin_fetch(core);
        }
        work += fetch_round(core);
    }
    if (core->dirty_count != 0) {
        STAGE_ENTER(IRQ);
        nvme_ep_signal_dirty(core);
        work++;
    }
    if (work != 0) {
        core->idle_shift = 0;
    }
    STAGE_ENTER(OTHER);
    return work;
}

uint32_t nvme_ep_poll_control(void *ctx)
{
    return core_poll(ctx, true);
}

uint32_t nvme_ep_poll_io(void *ctx)
{
    return core_poll(ctx, false);
}

/* --- sleeping ------------------------------------------------------------------------------ */

static bool sq_has_work(const struct nvme_ep_sq *sq)
{
    uint32_t tail = sq_tail(sq);

    return tail != sq->head && tail < sq->size && sq->cq->held_count == 0;
}

static void sq_arm(struct nvme_ep_sq *sq)
{
    if (sq->event_idx != NULL) {
        shm_store32(sq->event_idx, sq->head); /* 7.13: ring the MMIO doorbell beyond this */
    }
}

static void queues_arm(struct nvme_ep_core *core)
{
    struct nvme_ep_sq *admin = core->index == 0 ? core->ep->admin_sq : NULL;
    /* After a shutdown the buffers may be the host's own memory again (7.6.2). */
    bool is_fetching = (core->attend & NVME_EP_ATTEND_STOPPED) == 0;

    for (uint32_t i = 0; i < core->sq_count && is_fetching; i++) {
        sq_arm(core->sqs[i]);
    }
    if (admin != NULL && is_fetching) {
        sq_arm(admin);
    }
    for (uint32_t i = 0; i < core->cq_count; i++) {
        struct nvme_ep_cq *cq = core->cqs[i];
        if (cq->held_count != 0 && cq->event_idx != NULL) {
            shm_store32(cq->event_idx, cq->head);
        }
    }
}

/* A head that was not looked at yet, for completions that wait for it. */
static bool cq_has_work(struct nvme_ep_cq *cq)
{
    uint32_t head;

    if (cq->held_count == 0 || cq->base == NULL) {
        return false;
    }
    head = nvme_ep_cq_head_read(cq);
    return head != cq->head && head != cq->head_bad;
}

static bool queues_have_work(struct nvme_ep_core *core)
{
    struct nvme_ep_sq *admin = core->index == 0 ? core->ep->admin_sq : NULL;

    if (must_merge(core)) {
        nvme_ep_doorbell_merge(core);
    }
    for (uint32_t i = 0; i < core->cq_count; i++) {
        if (cq_has_work(core->cqs[i])) { /* posted while nothing is fetched, too */
            return true;
        }
    }
    if ((core->attend & (NVME_EP_ATTEND_FENCE | NVME_EP_ATTEND_STOPPED)) != 0) {
        return false;
    }
    for (uint32_t i = 0; i < core->sq_count; i++) {
        if (sq_has_work(core->sqs[i])) {
            return true;
        }
    }
    return admin != NULL && sq_has_work(admin);
}

/* How long a core may sleep that found nothing. */
static uint64_t sleep_limit(struct nvme_ep_core *core)
{
    uint64_t limit_ns = UINT64_MAX;
    bool has_queues = core->sq_count != 0 || (core->index == 0 && core->ep->admin_sq != NULL);

    if (has_queues && core->ep->pcie->doorbell_mode == PCIE_EP_DOORBELLS_MAPPED) {
        limit_ns = min_u64(MAPPED_SLEEP_NS << core->idle_shift, MAPPED_SLEEP_MAX_NS);
        if (core->idle_shift < MAPPED_SHIFT_MAX) {
            core->idle_shift++;
        }
    }
    if ((core->attend & (NVME_EP_ATTEND_FENCE | NVME_EP_ATTEND_DELETE)) != 0) {
        limit_ns = min_u64(limit_ns, FENCE_SLEEP_NS);
    }
    if ((core->attend & NVME_EP_ATTEND_COALESCE) != 0) {
        uint64_t now_ns = sched_now_ns();
        limit_ns =
            min_u64(limit_ns, core->coalesce_due_ns > now_ns ? core->coalesce_due_ns - now_ns : 0);
    }
    return limit_ns;
}

uint64_t nvme_ep_arm(void *ctx, bool armed)
{
    struct nvme_ep_core *core = ctx;

    pcie_ep_doorbells_arm(core->ep->pcie, armed);
    if (!armed) {
        return 0;
    }
    queues_arm(core);
    /* EP-ARM: armed and EventIdx are out before the doorbells are looked at again; pairs with the
     * barrier of the host, or of who writes for it, between doorbell and look at these. */
    shm_full_barrier();
    if (core->index == 0 &&
        (pcie_ep_event_waits(core->ep->pcie) || (core->attend & NVME_EP_ATTEND_CONTROL) != 0)) {
        return 0;
    }
    if (queues_have_work(core)) {
        return 0;
    }
    return sleep_limit(core);
}
