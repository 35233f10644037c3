/*
 * Fences: every core is told, does its part between two turns, and answers; when all have answered,
 * core 0 may tell the host. Core 0 begins where it decides, the others when the message comes.
 *
 * Fences that take host memory away stop fetching and wait for the commands that refer to it, and
 * for the user of the Host Memory Buffer (hmb.c). After fence_cancel_ms, at once in a reset or when
 * one waits behind the fence, commands are asked to end early. A command
 * that does not end at all keeps the fence open: then the other end takes the link down
 * (hal/pcie_ep.h), which is right, since something of ours may still write to host memory.
 * Source: NVM Express Base Specification 1.4, section 7.3; spec/link.h ("Fences").
 */
#include "base/trace.h"
#include "nvme_ep/nvme_ep_priv.h"

/* A host that changes its memory map takes a window away and gives it back in pieces (SeaBIOS does,
 * with its NVMe driver at work). Queues that are out of reach rest that long before it is fatal. */
#define LOST_GRACE_NS (UINT64_C(2) * NS_PER_S)

/* --- commands under way -------------------------------------------------------------------- */

/* Does this command stand against the core's fence? */
static bool cmd_blocks(const struct nvme_ep_cmd *cmd, enum nvme_ep_fence fence)
{
    uint8_t state = cmd->nvme.state;

    if (state == NVME_EP_CMD_FREE) {
        return false;
    }
    if ((state & NVME_EP_CMD_HELD) != 0) { /* event requests that were answered, too */
        return fence == NVME_EP_FENCE_HAND_OVER;
    }
    if (fence == NVME_EP_FENCE_VIEW) {
        return cmd->is_mapped;
    }
    /* Asynchronous Event Requests stay: they refer to nothing, nvme_ctrl_disable() drops them. */
    return !(cmd->nvme.sq_id == 0 && cmd->nvme.blk.cmd.opcode == NVME_ADMIN_ASYNC_EVENT);
}

static bool pools_block(const struct nvme_ep_pools *pools, enum nvme_ep_fence fence)
{
    if (pool_is_full(&pools->cmds)) {
        return false;
    }
    for (uint32_t i = 0; i < pools->cmds.count; i++) {
        if (cmd_blocks(&pools->all[i], fence)) {
            return true;
        }
    }
    return false;
}

static void pools_cancel(struct nvme_ep_pools *pools, enum nvme_ep_fence fence)
{
    for (uint32_t i = 0; i < pools->cmds.count; i++) {
        struct nvme_ep_cmd *cmd = &pools->all[i];
        if (cmd_blocks(cmd, fence) && (cmd->nvme.state & NVME_EP_CMD_ERRAND) == 0) {
            nvme_ep_cancel(cmd);
        }
    }
}

static bool core_blocks(struct nvme_ep_core *core)
{
    return pools_block(&core->io, core->fence) ||
           (core->index == 0 && pools_block(&core->ep->admin, core->fence));
}

static void core_cancel(struct nvme_ep_core *core)
{
    core->fence_cancelled = true;
    pools_cancel(&core->io, core->fence);
    if (core->index == 0) {
        pools_cancel(&core->ep->admin, core->fence);
    }
}

/* --- what a core does at the end ----------------------------------------------------------- */

/* Queue memory and doorbell buffers, once more, under the new windows. */
static bool queues_map(struct nvme_ep_core *core)
{
    bool is_reachable = true;

    for (uint32_t i = 0; i < core->sq_count; i++) {
        is_reachable &= nvme_ep_sq_map(core, core->sqs[i]);
        is_reachable &= nvme_ep_sq_map_doorbell(core, core->sqs[i]);
    }
    if (core->index == 0 && core->ep->admin_sq != NULL) {
        is_reachable &= nvme_ep_sq_map(core, core->ep->admin_sq);
        is_reachable &= nvme_ep_sq_map_doorbell(core, core->ep->admin_sq);
    }
    for (uint32_t i = 0; i < core->cq_count; i++) {
        is_reachable &= nvme_ep_cq_map(core, core->cqs[i]);
        is_reachable &= nvme_ep_cq_map_doorbell(core, core->cqs[i]);
    }
    return is_reachable;
}

static void lost_set(struct nvme_ep_core *core, bool is_lost)
{
    atomic_store_explicit(&core->is_lost, is_lost, memory_order_relaxed);
}

/* Every queue is within reach: as before it was not. */
static void reach_regained(struct nvme_ep_core *core)
{
    if (!core->is_stopped) {
        core->attend &= ~NVME_EP_ATTEND_STOPPED;
    }
    nvme_ep_held_poll(core);
    nvme_ep_signal_again(core); /* what was due meanwhile, as after new vectors */
}

/* Some queue is out of reach: completions wait for all. */
static void cqs_rest(struct nvme_ep_core *core)
{
    for (uint32_t i = 0; i < core->cq_count; i++) {
        core->cqs[i]->base = NULL;
    }
}

void nvme_ep_reach_update(struct nvme_ep_core *core)
{
    bool is_lost = atomic_load_explicit(&core->is_lost, memory_order_relaxed);

    if (!core->is_suspended && !is_lost) {
        return;
    }
    if (!queues_map(core)) {
        if (core->is_suspended) {
            cqs_rest(core);
        }
    } else {
        core->is_suspended = false;
        lost_set(core, false);
        reach_regained(core);
    }
}

/* Without any window (bus mastering is off) the queues rest; when there are windows and the queues
 * lie outside of them, they are lost. */
static void view_take(struct nvme_ep_core *core)
{
    bool was_suspended = core->is_suspended;

    nvme_ep_signal_dirty(core); /* what is posted is signalled before the fence is answered */
    pcie_ep_view_load(core->ep->pcie, &core->view);
    core->is_muted = core->view.window_count == 0;
    core->is_suspended = !queues_map(core);
    lost_set(core, core->is_suspended && core->view.window_count != 0);
    if (core->is_suspended) {
        core->attend |= NVME_EP_ATTEND_STOPPED;
    } else if (!core->is_stopped) {
        core->attend &= ~NVME_EP_ATTEND_STOPPED;
    }
    for (uint32_t i = 0; i < core->cq_count; i++) {
        core->cqs[i]->room = 0; /* completions look before they post */
    }
    if (core->is_suspended) {
        cqs_rest(core);
    } else if (was_suspended) {
        reach_regained(core);
    } else {
        nvme_ep_held_poll(core);
    }
}

void nvme_ep_queues_adopt(struct nvme_ep_core *core)
{
    pcie_ep_view_load(core->ep->pcie, &core->view);
    core->is_muted = core->view.window_count == 0;
    core->is_suspended = !queues_map(core);
    lost_set(core, core->is_suspended && core->view.window_count != 0);
    if (core->is_suspended) {
        cqs_rest(core);
    }
}

/* Fetches again, and raises what may have been lost meanwhile. */
static void resume(struct nvme_ep_core *core)
{
    core->is_stopped = false;
    if (!core->is_suspended && !atomic_load_explicit(&core->is_lost, memory_order_relaxed)) {
        reach_regained(core);
    }
}

/* Nothing is under way any more: forgets every queue. */
static void queues_forget(struct nvme_ep_core *core)
{
    nvme_ep_deletions_poll(core);
    ASSERT(core->deleting_count == 0);
    core->sq_count = 0;
    core->cq_count = 0;
    core->dirty_count = 0;
    core->first = 0;
    memset(core->class_end, 0, sizeof(core->class_end));
    memset(core->class_next, 0, sizeof(core->class_next));
    core->dbbuf.is_set = false;
    core->is_stopped = false;
    core->coalesce_ns = 0;
    core->coalesce_due_ns = UINT64_MAX;
    core->attend &= NVME_EP_ATTEND_CONTROL;
    if (core->index == 0) {
        core->ep->admin_sq = NULL;
    }
    view_take(core);
}

static uint32_t weight_of(uint64_t field)
{
    return (uint32_t)field + 1; /* zeroes based */
}

static void settings_take(struct nvme_ep_core *core)
{
    const struct nvme_ep *ep = core->ep;
    uint32_t arbitration = nvme_ep_setting_get(&ep->arbitration);
    uint32_t coalescing = nvme_ep_setting_get(&ep->coalescing);
    uint32_t burst = (uint32_t)FIELD_GET(NVME_ARBITRATION_BURST, arbitration);
    uint64_t time = FIELD_GET(NVME_COALESCING_TIME, coalescing);
    uint64_t threshold = FIELD_GET(NVME_COALESCING_THRESHOLD, coalescing);

    core->page_bytes = ep->page_bytes;
    core->burst_setting = burst == FIELD_MASK(NVME_ARBITRATION_BURST)
                              ? NVME_EP_BATCH
                              : min_u32(1u << burst, NVME_EP_BATCH);
    nvme_ep_burst_update(core);
    core->is_weighted = FIELD_GET(NVME_CC_AMS, ep->cc) == NVME_CC_AMS_WRR;
    core->weight[NVME_EP_CLASS_HIGH] = weight_of(FIELD_GET(NVME_ARBITRATION_HIGH, arbitration));
    core->weight[NVME_EP_CLASS_MEDIUM] = weight_of(FIELD_GET(NVME_ARBITRATION_MEDIUM, arbitration));
    core->weight[NVME_EP_CLASS_LOW] = weight_of(FIELD_GET(NVME_ARBITRATION_LOW, arbitration));
    /* 5.21.1.8: a threshold of one entry, or no time, means no delay. */
    core->coalesce_ns = threshold == 0 ? 0 : time * 100 * NS_PER_US;
    core->coalesce_threshold = (uint32_t)threshold + 1;
    for (uint32_t i = 0; i < core->cq_count; i++) {
        nvme_ep_cq_load_settings(core, core->cqs[i]);
    }
}

static void dbbuf_take(struct nvme_ep_core *core)
{
    const struct nvme_sqe *sqe = &core->ep->dbbuf_cmd->nvme.blk.cmd;
    struct nvme_ep_sq *admin = core->index == 0 ? core->ep->admin_sq : NULL;
    bool is_reachable = true;

    core->dbbuf.is_set = true;
    core->dbbuf.shadow_addr = sqe->prp1;
    core->dbbuf.event_idx_addr = sqe->prp2;
    for (uint32_t i = 0; i < core->sq_count; i++) {
        is_reachable &= nvme_ep_sq_shadow_doorbell(core, core->sqs[i]);
    }
    if (admin != NULL) {
        is_reachable &= nvme_ep_sq_shadow_doorbell(core, admin);
    }
    for (uint32_t i = 0; i < core->cq_count; i++) {
        is_reachable &= nvme_ep_cq_shadow_doorbell(core, core->cqs[i]);
    }
    if (!is_reachable) {
        lost_set(core, true);
        core->attend |= NVME_EP_ATTEND_STOPPED;
    }
}

/* --- out of reach for long: core 0 ------------------------------------------------------------ */

static bool some_core_is_lost(const struct nvme_ep *ep)
{
    for (uint32_t core = 0; core < LIMIT_CORES; core++) {
        if ((ep->core_mask & BIT32(core)) != 0 &&
            atomic_load_explicit(&ep->cores[core].is_lost, memory_order_relaxed)) {
            return true;
        }
    }
    return false;
}

/* The queues stayed out of reach: no host that means to go on does that. */
void nvme_ep_lost_for_long(struct timer *timer)
{
    struct nvme_ep *ep = CONTAINER_OF(timer, struct nvme_ep, lost_timer);

    if (some_core_is_lost(ep)) {
        ep->is_fatal = true;
        nvme_ep_control_wake(ep);
    }
}

void nvme_ep_lost_update(struct nvme_ep *ep)
{
    if (!some_core_is_lost(ep)) {
        timer_cancel(&ep->lost_timer);
    } else if (!timer_is_armed(&ep->lost_timer)) {
        timer_arm(&ep->lost_timer, sched_now_ns() + LOST_GRACE_NS);
    }
}

/* --- there and back ------------------------------------------------------------------------ */

static void fence_answer(struct msg *msg)
{
    struct nvme_ep_core *core = CONTAINER_OF(msg, struct nvme_ep_core, fence_msg);
    struct nvme_ep *ep = core->ep;

    ASSERT(ep->fence_left > 0);
    ep->fence_left--;
    nvme_ep_control_wake(ep);
}

static void fence_finish(struct nvme_ep_core *core)
{
    switch ((enum nvme_ep_fence)core->fence) {
    case NVME_EP_FENCE_RELOAD:
    case NVME_EP_FENCE_VIEW:
        view_take(core);
        break;
    case NVME_EP_FENCE_STOP:
        core->is_stopped = true;
        core->attend |= NVME_EP_ATTEND_STOPPED;
        break;
    case NVME_EP_FENCE_DRAIN:
        queues_forget(core);
        break;
    case NVME_EP_FENCE_SETTINGS:
        settings_take(core);
        break;
    case NVME_EP_FENCE_DBBUF:
        dbbuf_take(core);
        break;
    case NVME_EP_FENCE_SIGNAL:
        nvme_ep_signal_again(core);
        break;
    case NVME_EP_FENCE_HAND_OVER:
        nvme_ep_signal_dirty(core);
        core->is_stopped = true;
        core->attend |= NVME_EP_ATTEND_STOPPED;
        break;
    case NVME_EP_FENCE_RESUME:
        resume(core);
        break;
    case NVME_EP_FENCE_HMB:
    case NVME_EP_FENCE_HMB_LEND:
    case NVME_EP_FENCE_NONE:
        break;
    }
    core->fence = NVME_EP_FENCE_NONE;
    core->attend &= ~NVME_EP_ATTEND_FENCE;
    counter_add(&core->counters.fences, 1);
    core->fence_msg.fn = fence_answer;
    msg_send(0, &core->fence_msg);
}

static bool is_given_up(const struct nvme_ep_core *core)
{
    return core->fence == NVME_EP_FENCE_HAND_OVER && nvme_ep_hand_over_is_void(core->ep);
}

void nvme_ep_fence_poll(struct nvme_ep_core *core)
{
    if (!is_given_up(core) && core_blocks(core)) {
        bool is_due = core->now_ns >= core->cancel_ns ||
                      atomic_load_explicit(&core->ep->fence_is_urgent, memory_order_relaxed);
        if (!core->fence_cancelled && is_due) {
            core_cancel(core);
        }
        if (core_blocks(core)) {
            return;
        }
    }
    fence_finish(core);
}

/* Completions go nowhere from here on. */
static void drain_begin(struct nvme_ep_core *core)
{
    for (uint32_t i = 0; i < core->cq_count; i++) {
        struct nvme_ep_cq *cq = core->cqs[i];
        cq->is_dropping = true;
        cq->is_dirty = false;
        cq->room = 0;
    }
    core->dirty_count = 0;
    nvme_ep_held_drop(core, NULL);
    core_cancel(core);
}

static void fence_begin(struct msg *msg)
{
    struct nvme_ep_core *core = CONTAINER_OF(msg, struct nvme_ep_core, fence_msg);
    struct nvme_ep *ep = core->ep;

    core->now_ns = sched_now_ns();
    core->fence = (uint8_t)ep->fence;
    core->fence_cancelled = false;
    core->cancel_ns = core->now_ns + ep->config.fence_cancel_ms * NS_PER_MS;
    switch (ep->fence) {
    case NVME_EP_FENCE_DRAIN:
        drain_begin(core);
        core->attend |= NVME_EP_ATTEND_FENCE;
        break;
    case NVME_EP_FENCE_HAND_OVER:
        core->cancel_ns = UINT64_MAX; /* the host is to see no error */
        core->attend |= NVME_EP_ATTEND_FENCE;
        break;
    case NVME_EP_FENCE_VIEW:
    case NVME_EP_FENCE_STOP:
        core->attend |= NVME_EP_ATTEND_FENCE;
        break;
    case NVME_EP_FENCE_RELOAD:
    case NVME_EP_FENCE_SETTINGS:
    case NVME_EP_FENCE_DBBUF:
    case NVME_EP_FENCE_SIGNAL:
    case NVME_EP_FENCE_RESUME:
        fence_finish(core);
        break;
    case NVME_EP_FENCE_HMB:
    case NVME_EP_FENCE_HMB_LEND:
    case NVME_EP_FENCE_NONE:
        ASSERT(false);
    }
}

void nvme_ep_fence_start(struct nvme_ep *ep, enum nvme_ep_fence fence)
{
    ASSERT(ep->fence == NVME_EP_FENCE_NONE && ep->fence_left == 0);
    ep->fence = fence;
    atomic_store_explicit(&ep->fence_is_urgent, false, memory_order_relaxed);
    /* First, so that its time runs beside the cores'. */
    if (nvme_ep_hmb_must_revoke(ep, fence)) {
        ep->fence_left++;
        nvme_ep_hmb_revoke(ep);
    }
    if (fence == NVME_EP_FENCE_HMB || fence == NVME_EP_FENCE_HMB_LEND) {
        nvme_ep_control_wake(ep);
        return;
    }
    ep->fence_left++; /* core 0, which is always in the mask */
    for (uint32_t core = 1; core < LIMIT_CORES; core++) {
        if ((ep->core_mask & BIT32(core)) != 0) {
            ep->fence_left++;
            ep->cores[core].fence_msg.fn = fence_begin;
            msg_send(core, &ep->cores[core].fence_msg);
        }
    }
    /* At once, not by message: an admin command that is fetched in the rest of this turn could send
     * an errand behind the fence, and the queue that it creates would outlive a reset. */
    fence_begin(&ep->cores[0].fence_msg);
}
