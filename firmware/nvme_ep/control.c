/*
 * What belongs to core 0: the function's events in their order, and the CSTS state machine.
 *
 * Nothing moves while a fence is running: events wait, so that each is answered when what it asks
 * for holds. The machine is stepped until it rests before the next event is taken, so a host that
 * writes CC.EN 1, 0, 1 in a row gets each of them.
 *
 * Source: NVM Express Base Specification 1.4, sections 3.1, 7.3, 7.6.
 */
#include "base/log.h"
#include "base/trace.h"
#include "nvme/handover.h"
#include "nvme_ep/nvme_ep_priv.h"

/* Events and steps of one turn. */
#define CONTROL_BATCH 16

/* --- states: one function each, returns the next ------------------------------------------- */

static bool is_enabled(const struct nvme_ep *ep)
{
    return (ep->cc & NVME_CC_EN) != 0;
}

static bool must_drain(const struct nvme_ep *ep)
{
    return ep->must_reset || !is_enabled(ep);
}

static enum nvme_ep_state drain(struct nvme_ep *ep)
{
    nvme_ep_fence_start(ep, NVME_EP_FENCE_DRAIN);
    return NVME_EP_STATE_DRAINING;
}

/* CFS first: the host may reset us while we still wait for commands to end. */
static enum nvme_ep_state fail(struct nvme_ep *ep, const char *why)
{
    LOG_LIMITED(ERROR, "nvme_ep: function %u: fatal: %s", ep->pcie->fn, why);
    ep->is_fatal = false;
    nvme_ep_csts_set(ep, 0, NVME_CSTS_CFS);
    nvme_ep_fence_start(ep, NVME_EP_FENCE_DRAIN);
    return NVME_EP_STATE_FAILING;
}

static void flushed(void *arg)
{
    struct nvme_ep *ep = arg;

    ep->is_flushed = true;
    nvme_ep_control_wake(ep);
}

static void flush(struct nvme_ep *ep)
{
    nvme_ep_shst_set(ep, NVME_SHST_OCCURRING);
    ep->is_flushed = false;
    nvme_ctrl_shutdown(ep->ctrl, flushed, ep);
}

static bool wants_shutdown(const struct nvme_ep *ep)
{
    return FIELD_GET(NVME_CC_SHN, ep->cc) != 0;
}

/* 7.6.2: a shutdown without EN has no commands to end, but caches to write. */
static void shutdown_while_disabled(struct nvme_ep *ep)
{
    uint32_t shst = (uint32_t)FIELD_GET(NVME_CSTS_SHST, ep->csts);

    if (!wants_shutdown(ep)) {
        if (shst != NVME_SHST_NORMAL) {
            nvme_ep_shst_set(ep, NVME_SHST_NORMAL);
        }
    } else if (shst == NVME_SHST_NORMAL) {
        flush(ep);
    } else if (shst == NVME_SHST_OCCURRING && ep->is_flushed) {
        nvme_ep_shst_set(ep, NVME_SHST_COMPLETE);
    }
}

/* What the ring gave us already is not there for the next image, and what waits in it may have a
 * deadline that the way there would use up. */
static bool wants_hand_over(const struct nvme_ep *ep)
{
    return ep->handover.done != NULL && ep->early_next == ep->early_count &&
           !pcie_ep_event_waits(ep->pcie);
}

/* Nothing of ours touches host memory in this state: it is handed over as it is. */
static enum nvme_ep_state hand_over_from(struct nvme_ep *ep, enum nvme_ep_state state)
{
    if (!wants_hand_over(ep)) {
        return state;
    }
    nvme_ep_hand_over_void_set(ep, false);
    ep->handover.from = state;
    return NVME_EP_STATE_HANDED;
}

static enum nvme_ep_state state_disabled(struct nvme_ep *ep)
{
    if (ep->must_reset) {
        return drain(ep);
    }
    if (is_enabled(ep)) {
        return NVME_EP_STATE_ENABLING;
    }
    shutdown_while_disabled(ep);
    return hand_over_from(ep, NVME_EP_STATE_DISABLED);
}

/* What CC asks for can be done (3.1.5). */
static bool cc_is_valid(const struct nvme_ep *ep)
{
    uint64_t ams = FIELD_GET(NVME_CC_AMS, ep->cc);

    return FIELD_GET(NVME_CC_CSS, ep->cc) == 0 &&
           FIELD_GET(NVME_CC_MPS, ep->cc) <= FIELD_GET(NVME_CAP_MPSMAX, ep->cap) &&
           (ams == NVME_CC_AMS_RR || (ams == NVME_CC_AMS_WRR && ep->config.weighted_round_robin));
}

void nvme_ep_features_load(struct nvme_ep *ep)
{
    nvme_ep_setting_set(&ep->arbitration, nvme_ctrl_feature(ep->ctrl, NVME_FEATURE_ARBITRATION, 0));
    nvme_ep_setting_set(&ep->coalescing,
                        nvme_ctrl_feature(ep->ctrl, NVME_FEATURE_INTERRUPT_COALESCING, 0));
    for (uint32_t v = 0; v < ep->pcie->vector_count && v < LIMIT_VECTORS; v++) {
        nvme_ep_setting_set(&ep->vector_config[v],
                            nvme_ctrl_feature(ep->ctrl, NVME_FEATURE_INTERRUPT_VECTOR, v));
    }
    ep->must_load_settings = true;
}

static enum nvme_ep_state state_enabling(struct nvme_ep *ep)
{
    if (must_drain(ep)) {
        return drain(ep);
    }
    if (!ep->is_serving) { /* the next image finds the enable in the register page */
        return hand_over_from(ep, NVME_EP_STATE_ENABLING);
    }
    ep->page_bytes = 4096u << FIELD_GET(NVME_CC_MPS, ep->cc);
    for (uint32_t offset = 0; offset < ep->doorbells_used_bytes; offset += sizeof(uint32_t)) {
        shm_store32(ep->pcie->doorbells + offset, 0); /* 3.1.24: reset value */
    }
    if (!cc_is_valid(ep)) {
        return fail(ep, "CC asks for what CAP does not offer");
    }
    if (nvme_ep_admin_queue_create(ep) != STATUS_OK) {
        return fail(ep, "the admin queue is not usable");
    }
    ep->is_fatal = false;
    nvme_ctrl_enable(ep->ctrl);
    nvme_ep_features_load(ep);
    timer_arm(&ep->scan_timer, sched_now_ns() + NVME_EP_DOORBELL_SCAN_NS);
    nvme_ep_shst_set(ep, NVME_SHST_NORMAL);
    nvme_ep_csts_set(ep, 0, NVME_CSTS_RDY);
    return NVME_EP_STATE_READY;
}

static enum nvme_ep_state state_ready(struct nvme_ep *ep)
{
    if (must_drain(ep)) {
        return drain(ep);
    }
    if (ep->is_fatal) {
        return fail(ep, "internal error");
    }
    if (wants_shutdown(ep)) {
        nvme_ep_shst_set(ep, NVME_SHST_OCCURRING);
        nvme_ep_fence_start(ep, NVME_EP_FENCE_STOP);
        return NVME_EP_STATE_QUIESCING;
    }
    if (wants_hand_over(ep) && nvme_ctrl_can_save(ep->ctrl)) {
        nvme_ep_hand_over_void_set(ep, false);
        nvme_ctrl_hold_events(ep->ctrl, true);
        nvme_ep_fence_start(ep, NVME_EP_FENCE_HAND_OVER);
        return NVME_EP_STATE_HANDING;
    }
    return NVME_EP_STATE_READY;
}

/* Fetches again. */
static enum nvme_ep_state resume(struct nvme_ep *ep)
{
    nvme_ctrl_hold_events(ep->ctrl, false);
    nvme_ep_fence_start(ep, NVME_EP_FENCE_RESUME);
    return NVME_EP_STATE_READY;
}

/* The HAND_OVER fence has ended, and after it the one for the host's memory. */
static enum nvme_ep_state state_handing(struct nvme_ep *ep)
{
    if (nvme_ep_hand_over_is_void(ep) || ep->is_fatal || pcie_ep_event_waits(ep->pcie)) {
        return resume(ep);
    }
    if (ep->hmb.is_used) { /* not earlier: commands may have needed it to end */
        nvme_ep_fence_start(ep, NVME_EP_FENCE_HMB_LEND);
        return NVME_EP_STATE_HANDING;
    }
    timer_cancel(&ep->scan_timer);
    timer_cancel(&ep->lost_timer);
    ep->handover.from = NVME_EP_STATE_READY;
    return NVME_EP_STATE_HANDED;
}

/* Only when it was cancelled: control_step() stays out of here. */
static enum nvme_ep_state state_handed(struct nvme_ep *ep)
{
    if (ep->handover.from != NVME_EP_STATE_READY) {
        return ep->handover.from;
    }
    timer_arm(&ep->scan_timer, sched_now_ns() + NVME_EP_DOORBELL_SCAN_NS);
    return resume(ep);
}

static enum nvme_ep_state state_resuming(struct nvme_ep *ep)
{
    if (must_drain(ep)) {
        return drain(ep);
    }
    if (!ep->is_serving) {
        return NVME_EP_STATE_RESUMING;
    }
    nvme_ep_restore_ctrl(ep);
    timer_arm(&ep->scan_timer, sched_now_ns() + NVME_EP_DOORBELL_SCAN_NS);
    return resume(ep);
}

/* Comes here when the STOP fence has ended. */
static enum nvme_ep_state state_quiescing(struct nvme_ep *ep)
{
    if (must_drain(ep)) {
        return drain(ep);
    }
    flush(ep);
    return NVME_EP_STATE_FLUSHING;
}

static enum nvme_ep_state state_flushing(struct nvme_ep *ep)
{
    if (must_drain(ep)) {
        return drain(ep);
    }
    if (ep->is_fatal) {
        return fail(ep, "internal error");
    }
    if (!ep->is_flushed) {
        return NVME_EP_STATE_FLUSHING;
    }
    /* Not earlier: what is flushed may be on its way through the buffer. */
    nvme_ep_fence_start(ep, NVME_EP_FENCE_HMB);
    return NVME_EP_STATE_RELEASING;
}

/* Comes here when the HMB fence has ended. */
static enum nvme_ep_state state_releasing(struct nvme_ep *ep)
{
    if (must_drain(ep)) {
        return drain(ep);
    }
    nvme_ep_shst_set(ep, NVME_SHST_COMPLETE);
    return NVME_EP_STATE_SHUT_DOWN;
}

static enum nvme_ep_state state_shut_down(struct nvme_ep *ep)
{
    return must_drain(ep) ? drain(ep) : hand_over_from(ep, NVME_EP_STATE_SHUT_DOWN);
}

/* What is left of the admin commands are AERs, which nvme_ctrl_disable() has dropped. */
static void aers_free(struct nvme_ep *ep)
{
    for (uint32_t i = 0; i < NVME_EP_ADMIN_COMMANDS; i++) {
        struct nvme_ep_cmd *cmd = &ep->admin_cmds[i];
        if (cmd->nvme.state != NVME_EP_CMD_FREE) {
            ASSERT(cmd->nvme.blk.cmd.opcode == NVME_ADMIN_ASYNC_EVENT);
            cmd->nvme.state = NVME_EP_CMD_FREE;
            counter_add(&ep->cores[0].counters.dropped, 1);
            pool_put(&ep->admin.cmds, cmd);
        }
    }
    ASSERT(pool_is_full(&ep->admin.cmds) && pool_is_full(&ep->admin.bigs));
}

/* Comes here when the DRAIN fence has ended: nothing of ours touches host memory any more. */
static enum nvme_ep_state state_draining(struct nvme_ep *ep)
{
    uint32_t csts = ep->csts & NVME_CSTS_NSSRO;

    nvme_ctrl_disable(ep->ctrl);
    aers_free(ep);
    timer_cancel(&ep->scan_timer);
    timer_cancel(&ep->lost_timer);
    memset(ep->sq_state, NVME_EP_QUEUE_FREE, sizeof(ep->sq_state));
    memset(ep->cq_state, NVME_EP_QUEUE_FREE, sizeof(ep->cq_state));
    ep->is_fatal = false;
    ep->must_load_settings = false;
    if (ep->must_reset) {
        nvme_ep_registers_reset(ep);
        csts = ep->is_subsystem_reset ? NVME_CSTS_NSSRO : 0;
    }
    nvme_ep_csts_set(ep, ~UINT32_C(0), csts);
    if (ep->must_ack_reset) {
        pcie_ep_event_ack(ep->pcie, &ep->reset_event);
    }
    ep->must_reset = false;
    ep->must_ack_reset = false;
    ep->is_subsystem_reset = false;
    return NVME_EP_STATE_DISABLED;
}

/* Comes here when the DRAIN fence has ended. */
static enum nvme_ep_state state_failing(struct nvme_ep *ep)
{
    (void)ep;
    return NVME_EP_STATE_FATAL;
}

static enum nvme_ep_state state_fatal(struct nvme_ep *ep)
{
    return must_drain(ep) ? drain(ep) : hand_over_from(ep, NVME_EP_STATE_FATAL);
}

typedef enum nvme_ep_state state_fn(struct nvme_ep *ep);

static state_fn *const states[] = {
    [NVME_EP_STATE_DISABLED] = state_disabled,   [NVME_EP_STATE_ENABLING] = state_enabling,
    [NVME_EP_STATE_READY] = state_ready,         [NVME_EP_STATE_QUIESCING] = state_quiescing,
    [NVME_EP_STATE_FLUSHING] = state_flushing,   [NVME_EP_STATE_RELEASING] = state_releasing,
    [NVME_EP_STATE_SHUT_DOWN] = state_shut_down, [NVME_EP_STATE_DRAINING] = state_draining,
    [NVME_EP_STATE_FAILING] = state_failing,     [NVME_EP_STATE_FATAL] = state_fatal,
    [NVME_EP_STATE_HANDING] = state_handing,     [NVME_EP_STATE_HANDED] = state_handed,
    [NVME_EP_STATE_RESUMING] = state_resuming,
};

/* Where each state may go to, beside staying. */
#define TO(name) BIT32(NVME_EP_STATE_##name)
static const uint32_t transitions[] = {
    [NVME_EP_STATE_DISABLED] = TO(ENABLING) | TO(DRAINING) | TO(HANDED),
    [NVME_EP_STATE_ENABLING] = TO(READY) | TO(FAILING) | TO(DRAINING) | TO(HANDED),
    [NVME_EP_STATE_READY] = TO(QUIESCING) | TO(FAILING) | TO(DRAINING) | TO(HANDING),
    [NVME_EP_STATE_QUIESCING] = TO(FLUSHING) | TO(DRAINING),
    [NVME_EP_STATE_FLUSHING] = TO(RELEASING) | TO(FAILING) | TO(DRAINING),
    [NVME_EP_STATE_RELEASING] = TO(SHUT_DOWN) | TO(DRAINING),
    [NVME_EP_STATE_SHUT_DOWN] = TO(DRAINING) | TO(HANDED),
    [NVME_EP_STATE_DRAINING] = TO(DISABLED),
    [NVME_EP_STATE_FAILING] = TO(FATAL),
    [NVME_EP_STATE_FATAL] = TO(DRAINING) | TO(HANDED),
    [NVME_EP_STATE_HANDING] = TO(HANDED) | TO(READY),
    [NVME_EP_STATE_HANDED] = TO(READY) | TO(DISABLED) | TO(ENABLING) | TO(SHUT_DOWN) | TO(FATAL),
    [NVME_EP_STATE_RESUMING] = TO(READY) | TO(DRAINING),
};

/* True when the state changed. */
static bool state_step(struct nvme_ep *ep)
{
    enum nvme_ep_state next = states[ep->state](ep);

    if (next == ep->state) {
        return ep->fence != NVME_EP_FENCE_NONE; /* the same state, one fence further */
    }
    ASSERT((transitions[ep->state] & BIT32(next)) != 0);
    TRACE(0, CTRL_STATE, ep->pcie->fn, ep->config.ctrl.cntlid, ep->state, next);
    ep->state = next;
    if (next == NVME_EP_STATE_HANDED) {
        ep->handover.done(ep->handover.ctx);
    }
    return true;
}

/* --- events -------------------------------------------------------------------------------- */

static void reset_begin(struct nvme_ep *ep, const struct pcie_ep_event *event)
{
    ep->must_reset = true;
    ep->must_ack_reset = true;
    ep->reset_event = *event;
}

static void fence_for_event(struct nvme_ep *ep, const struct pcie_ep_event *event,
                            enum nvme_ep_fence fence, bool must_ack)
{
    ep->fence_event = *event;
    ep->fence_is_event = must_ack;
    nvme_ep_fence_start(ep, fence);
}

static bool is_reset(const struct pcie_ep_event *event)
{
    return event->type == PCIE_EP_EVENT_RESET ||
           (event->type == PCIE_EP_EVENT_LINK && event->value == 0);
}

/* A fence runs: events wait, but a reset among them has a deadline of its own that began when the
 * host caused it, so it does not wait until the fence would cancel. */
static void events_look_ahead(struct nvme_ep *ep)
{
    struct pcie_ep_event event;

    while (ep->early_count < NVME_EP_EARLY_EVENTS && pcie_ep_event_pop(ep->pcie, &event)) {
        ep->early[ep->early_count++] = event;
    }
    for (uint32_t i = ep->early_next; i < ep->early_count; i++) { /* some from an earlier fence */
        if (is_reset(&ep->early[i])) {
            atomic_store_explicit(&ep->fence_is_urgent, true, memory_order_relaxed);
        }
    }
}

static bool event_next(struct nvme_ep *ep, struct pcie_ep_event *event)
{
    if (ep->early_next == ep->early_count) {
        return pcie_ep_event_pop(ep->pcie, event);
    }
    *event = ep->early[ep->early_next++];
    if (ep->early_next == ep->early_count) {
        ep->early_next = 0;
        ep->early_count = 0;
    }
    return true;
}

static void event_handle(struct nvme_ep *ep, const struct pcie_ep_event *event)
{
    TRACE(0, EP_EVENT, ep->pcie->fn, event->type, event->offset, event->value);
    switch (event->type) {
    case PCIE_EP_EVENT_REG_WRITE:
        nvme_ep_register_written(ep, event->offset, (uint32_t)event->value);
        if (event->len_bytes == 8) {
            nvme_ep_register_written(ep, event->offset + 4, (uint32_t)(event->value >> 32));
        }
        break;
    case PCIE_EP_EVENT_WINDOWS:
        fence_for_event(ep, event, event->revokes ? NVME_EP_FENCE_VIEW : NVME_EP_FENCE_RELOAD,
                        true);
        break;
    case PCIE_EP_EVENT_BUS_MASTER:
        fence_for_event(ep, event, event->value != 0 ? NVME_EP_FENCE_RELOAD : NVME_EP_FENCE_VIEW,
                        event->value == 0);
        break;
    case PCIE_EP_EVENT_RESET:
        reset_begin(ep, event);
        break;
    case PCIE_EP_EVENT_LINK:
        if (event->value == 0) {
            reset_begin(ep, event);
        } else {
            fence_for_event(ep, event, NVME_EP_FENCE_RELOAD, true);
        }
        break;
    case PCIE_EP_EVENT_VECTORS:
        pcie_ep_event_ack(ep->pcie, event); /* the new table is in use from here on */
        nvme_ep_fence_start(ep, NVME_EP_FENCE_SIGNAL);
        break;
    case PCIE_EP_EVENT_NONE:
        break;
    }
}

/* --- the turn ------------------------------------------------------------------------------ */

/* The last core has answered. */
static void fence_end(struct nvme_ep *ep)
{
    enum nvme_ep_fence fence = ep->fence;

    ep->fence = NVME_EP_FENCE_NONE;
    if (ep->fence_is_event) {
        ep->fence_is_event = false;
        pcie_ep_event_ack(ep->pcie, &ep->fence_event);
    }
    nvme_ep_lost_update(ep);
    nvme_ep_hmb_fence_ended(ep, fence);
    if (fence == NVME_EP_FENCE_DBBUF) {
        struct nvme_ep_cmd *cmd = ep->dbbuf_cmd;
        ep->dbbuf_cmd = NULL;
        nvme_admin_done(&cmd->nvme, NVME_SC_SUCCESS, 0);
    }
}

/* An enable that an earlier firmware took from the event ring and did not live to answer: the page
 * says EN, no event will come. Once there are windows, act on it. */
static bool reconcile(struct nvme_ep *ep)
{
    uint32_t cc = shm_load32_acquire(ep->pcie->regs + NVME_REG_CC) & NVME_CC_WRITABLE;

    if (!ep->must_reconcile || ep->cores[0].view.window_count == 0) {
        return false;
    }
    if (pcie_ep_event_waits(ep->pcie)) {
        return true; /* came before what we read: the admin queue's registers may be among them */
    }
    ep->must_reconcile = false;
    if (cc == ep->cc) {
        return false;
    }
    ep->cc = cc;
    return true;
}

/* One thing that waits; false: there is none, or it has to wait. */
static bool control_step(struct nvme_ep *ep)
{
    struct pcie_ep_event event;

    if (ep->state == NVME_EP_STATE_HANDED && !nvme_ep_hand_over_is_void(ep)) {
        return false; /* whatever comes is the next image's */
    }
    if (ep->fence != NVME_EP_FENCE_NONE) {
        if (ep->fence_left != 0) {
            if (ep->state == NVME_EP_STATE_HANDING) {
                /* It would wait for commands and another image: no; first it, then another try. */
                if (pcie_ep_event_waits(ep->pcie)) {
                    nvme_ep_hand_over_void_set(ep, true);
                }
            } else {
                events_look_ahead(ep);
            }
            return false;
        }
        fence_end(ep);
        return true;
    }
    if (ep->must_load_settings) {
        ep->must_load_settings = false;
        nvme_ep_fence_start(ep, NVME_EP_FENCE_SETTINGS);
        return true;
    }
    if (ep->dbbuf_cmd != NULL) {
        nvme_ep_fence_start(ep, NVME_EP_FENCE_DBBUF);
        return true;
    }
    if (ep->hmb.cmd != NULL) {
        nvme_ep_fence_start(ep, NVME_EP_FENCE_HMB);
        return true;
    }
    if (state_step(ep)) {
        return true;
    }
    if (event_next(ep, &event)) {
        event_handle(ep, &event);
        return true;
    }
    return reconcile(ep);
}

uint32_t nvme_ep_control_run(struct nvme_ep *ep)
{
    uint32_t work = 0;

    ep->cores[0].attend &= ~NVME_EP_ATTEND_CONTROL;
    while (work < CONTROL_BATCH && control_step(ep)) {
        work++;
    }
    if (work == CONTROL_BATCH) {
        nvme_ep_control_wake(ep); /* there may be more */
    }
    return work;
}

void nvme_ep_control_start(struct nvme_ep *ep)
{
    timer_init(&ep->lost_timer, nvme_ep_lost_for_long);
    if (ep->handover.saved != NULL) {
        nvme_ep_control_wake(ep);
        return;
    }
    ep->must_reconcile = ep->state != NVME_EP_STATE_SHUT_DOWN; /* so was it handed over */
    if (ep->must_reconcile && nvme_ep_registers_start(ep)) {
        /* An earlier firmware served this host; its queues and commands are lost. */
        LOG_WARN("nvme_ep: function %u: the host is enabled, but by another life of ours: CFS",
                 ep->pcie->fn);
        ep->state = NVME_EP_STATE_FATAL;
        ep->must_reconcile = false;
    }
    for (uint32_t core = 0; core < LIMIT_CORES; core++) {
        pcie_ep_view_load(ep->pcie, &ep->cores[core].view);
    }
    nvme_ep_control_wake(ep);
}
