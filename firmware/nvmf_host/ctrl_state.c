/*
 * The state machine of an association. No state waits: each looks and returns the next one; what it
 * waits for wakes it.
 *
 *   IDLE > CONNECT_ADMIN > ENABLE > IDENTIFY > SET_QUEUES > CONNECT_IO > SET_EVENTS > SCAN > LIVE
 *   LIVE > DISABLE > DRAIN when something is wrong and the admin queue works; any > DRAIN else;
 *   DRAIN > BACKOFF > CONNECT_ADMIN, or DRAIN > CLOSED;   any of the bring-up and LIVE > SHUT_DOWN
 *   > DRAIN when it is to end.
 * It never gives up; why an attempt ended is kept, and said once.
 *
 * Source: NVMe over Fabrics 1.1, sections 3.3 to 3.5 and 4; NVMe Base 1.4, sections 3.1, 7.6.
 */
#include "base/assert.h"
#include "base/log.h"
#include "base/trace.h"
#include "nvmf_host/ctrl_priv.h"

/* Commands that a fence cancelled may wait for it, and a fence has a second in all. A controller
 * that needs longer is as good as lost: what may still be executed there is waited for. */
#define DISABLE_NS  (250 * NS_PER_MS)
#define SETTLE_NS   (1 * NS_PER_S) /* of a shut-down: for commands under way */
#define SHUTDOWN_NS (2 * NS_PER_S) /* all of it */
#define LOOK_NS     (5 * NS_PER_MS)
#define MARGIN_NS   (100 * NS_PER_MS) /* of the time until the old controller is quiet */
#define STEADY_NS   (2 * NS_PER_S)    /* LIVE for so long: pauses begin anew */

#define BACKOFF_DOUBLED 16 /* at most so often */

typedef enum nvmf_ctrl_state state_fn(struct nvmf_ctrl *ctrl, uint64_t now_ns);

/* --- what wakes it -------------------------------------------------------------------------- */

void nvmf_ctrl_wake(struct nvmf_ctrl *ctrl)
{
    if (!ctrl->is_waking) {
        ctrl->is_waking = true;
        msg_send(0, &ctrl->wake_msg);
    }
}

void nvmf_ctrl_wake_at(struct nvmf_ctrl *ctrl, uint64_t at_ns)
{
    ctrl->timer_ns = min_u64(ctrl->timer_ns, at_ns);
}

void nvmf_ctrl_fail(struct nvmf_ctrl *ctrl, enum nvmf_fail fail, uint32_t code)
{
    if (ctrl->pending_fail == NVMF_FAIL_NONE) {
        ctrl->pending_fail = fail;
        ctrl->pending_code = code;
    }
    nvmf_ctrl_wake(ctrl);
}

bool nvmf_ctrl_admin_works(const struct nvmf_ctrl *ctrl)
{
    return ctrl->admin_link.state == NVMF_LINK_OPEN && !ctrl->admin_failed;
}

/* True when a step is OK. What else there is ends the attempt, or is waited for. */
static bool is_ok(struct nvmf_ctrl *ctrl, enum nvmf_step step, const struct nvmf_call *call)
{
    if (step == NVMF_STEP_ERROR) {
        nvmf_ctrl_fail(ctrl, NVMF_FAIL_COMMAND_FAILED, NVME_STATUS_CODE(call->cmd.status));
    } else if (step == NVMF_STEP_LOST) {
        ctrl->admin_failed = true;
        nvmf_ctrl_fail(ctrl, NVMF_FAIL_COMMAND_TIMEOUT, call->cmd.sqe.opcode);
    }
    return step == NVMF_STEP_OK;
}

static void refuse(struct nvmf_ctrl *ctrl, const char *why)
{
    LOG_LIMITED(WARN, "nvmf: %s: not usable: %s", ctrl->name, why);
    nvmf_ctrl_fail(ctrl, NVMF_FAIL_UNSUITABLE, 0);
}

/* --- up ------------------------------------------------------------------------------------- */

static enum nvmf_ctrl_state state_idle(struct nvmf_ctrl *ctrl, uint64_t now_ns)
{
    (void)now_ns;
    return ctrl->is_closing ? NVMF_CTRL_CLOSED : NVMF_CTRL_CONNECT_ADMIN;
}

static enum nvmf_ctrl_state state_connect_admin(struct nvmf_ctrl *ctrl, uint64_t now_ns)
{
    struct nvmf_link *link = &ctrl->admin_link;
    (void)now_ns;

    if (!ctrl->is_entered) {
        link->queue.params = (struct nvmf_queue_params){
            .entries = NVMF_ADMIN_ENTRIES,
            .cntlid = NVMF_CNTLID_DYNAMIC,
            .kato_ms = ctrl->config.keep_alive_ms,
            .sq_flow_off = !ctrl->config.sq_flow_control,
            .step_timeout_ns = ctrl->admin.timeout_ns,
            .command_timeout_ns = ctrl->config.command_timeout_ms * NS_PER_MS};
        nvmf_link_open(link);
    }
    if (link->state == NVMF_LINK_BROKEN) {
        nvmf_ctrl_fail(ctrl, link->opened_fail, link->opened_code);
    }
    return link->state == NVMF_LINK_OPEN ? NVMF_CTRL_ENABLE : NVMF_CTRL_CONNECT_ADMIN;
}

/* CAP, then VS; true when both are there. */
static bool read_properties(struct nvmf_ctrl *ctrl)
{
    struct nvmf_admin *admin = &ctrl->admin;

    if (ctrl->max_entries == 0) {
        if (!is_ok(ctrl, nvmf_admin_get(admin, NVME_REG_CAP, true), &admin->property)) {
            return false;
        }
        const char *complaint = nvmf_check_cap(ctrl, admin->value);
        if (complaint != NULL) {
            refuse(ctrl, complaint);
            return false;
        }
    }
    if (ctrl->version == 0) {
        if (!is_ok(ctrl, nvmf_admin_get(admin, NVME_REG_VS, false), &admin->property)) {
            return false;
        }
        ctrl->version = (uint32_t)admin->value | 1; /* not 0 */
        ctrl->state_since_ns = sched_now_ns();      /* of CAP.TO */
    }
    return true;
}

static enum nvmf_ctrl_state state_enable(struct nvmf_ctrl *ctrl, uint64_t now_ns)
{
    struct nvmf_admin *admin = &ctrl->admin;
    uint64_t look_ns;

    if (!ctrl->is_entered) {
        ctrl->cntlid = ctrl->admin_link.queue.cntlid;
        ctrl->max_entries = 0;
        ctrl->version = 0;
    }
    if (!read_properties(ctrl)) {
        return NVMF_CTRL_ENABLE;
    }
    enum nvmf_step step =
        nvmf_admin_set_cc(admin, NVMF_CC_ENABLED, NVME_CSTS_RDY, NVME_CSTS_RDY, &look_ns);
    if (step == NVMF_STEP_OK) {
        return NVMF_CTRL_IDENTIFY;
    }
    (void)is_ok(ctrl, step, &admin->property);
    if ((admin->value & NVME_CSTS_CFS) != 0 && admin->cc_phase == NVMF_CC_PAUSE) {
        nvmf_ctrl_fail(ctrl, NVMF_FAIL_FATAL, 0);
    } else if (now_ns - ctrl->state_since_ns >= ctrl->ready_timeout_ns) {
        nvmf_ctrl_fail(ctrl, NVMF_FAIL_NOT_READY, 0);
    }
    nvmf_ctrl_wake_at(ctrl, look_ns);
    nvmf_ctrl_wake_at(ctrl, ctrl->state_since_ns + ctrl->ready_timeout_ns);
    return NVMF_CTRL_ENABLE;
}

static enum nvmf_ctrl_state state_identify(struct nvmf_ctrl *ctrl, uint64_t now_ns)
{
    struct nvmf_admin *admin = &ctrl->admin;

    if (!is_ok(ctrl, nvmf_admin_identify(admin, NVME_CNS_CTRL, 0), &admin->step)) {
        return NVMF_CTRL_IDENTIFY;
    }
    const char *complaint = nvmf_check_ctrl(ctrl, (const struct nvme_identify_ctrl *)admin->data);
    if (complaint != NULL) {
        refuse(ctrl, complaint);
        return NVMF_CTRL_IDENTIFY;
    }
    nvmf_events_reset(ctrl, now_ns);
    LOG_LIMITED(INFO, "nvmf: %s: %s, serial %s, firmware %s; %u KiB per command", ctrl->name,
                ctrl->caps.model, ctrl->caps.serial, ctrl->caps.firmware,
                (unsigned)(ctrl->caps.max_transfer_bytes / 1024));
    return NVMF_CTRL_SET_QUEUES;
}

static enum nvmf_ctrl_state state_set_queues(struct nvmf_ctrl *ctrl, uint64_t now_ns)
{
    uint32_t last = ctrl->link_count - 1; /* zeroes based */
    const struct nvme_sqe sqe = {.opcode = NVME_ADMIN_SET_FEATURES,
                                 .cdw10 = NVME_FEATURE_QUEUES,
                                 .cdw11 = last << NVME_QUEUES_CQ_SHIFT | last};
    (void)now_ns;

    if (!is_ok(ctrl, nvmf_admin_step(&ctrl->admin, &sqe, 0), &ctrl->admin.step)) {
        return NVMF_CTRL_SET_QUEUES;
    }
    uint32_t dw0 = ctrl->admin.step.cmd.cqe.dw0;
    uint32_t granted =
        (uint32_t)min_u64(FIELD_GET(NVME_QUEUES_SQ, dw0), FIELD_GET(NVME_QUEUES_CQ, dw0)) + 1;
    ctrl->granted = min_u32(granted, ctrl->link_count);
    if (ctrl->granted < ctrl->link_count) {
        LOG_LIMITED(INFO, "nvmf: %s: %u I/O queues of %u", ctrl->name, (unsigned)ctrl->granted,
                    (unsigned)ctrl->link_count);
    }
    return NVMF_CTRL_CONNECT_IO;
}

static void open_io(struct nvmf_ctrl *ctrl)
{
    ctrl->is_on_host = ctrl->config.host_queues && nvmf_host_memory_is_there(ctrl->config.fn);
    for (uint32_t i = 0; i < ctrl->granted; i++) {
        struct nvmf_link *link = &ctrl->links[i];
        link->queue.params = (struct nvmf_queue_params){
            .qid = (uint16_t)(i + 1),
            .entries = (uint16_t)ctrl->caps.queue_entries,
            .cntlid = ctrl->cntlid,
            .sq_flow_off = !ctrl->config.sq_flow_control,
            .sgl_offsets = ctrl->caps.sgl_offsets,
            .host_rings = ctrl->is_on_host,
            .icd_bytes = ctrl->caps.icd_bytes,
            .icd_offset_bytes = ctrl->caps.icd_offset_bytes,
            .step_timeout_ns = ctrl->admin.timeout_ns,
            .command_timeout_ns = ctrl->config.command_timeout_ms * NS_PER_MS};
        nvmf_link_open(link);
    }
}

static enum nvmf_ctrl_state state_connect_io(struct nvmf_ctrl *ctrl, uint64_t now_ns)
{
    const struct nvmf_link *first_broken = NULL;
    uint32_t open_count = 0;
    (void)now_ns;

    if (!ctrl->is_entered) {
        open_io(ctrl);
    }
    for (uint32_t i = ctrl->granted; i-- > 0;) {
        struct nvmf_link *link = &ctrl->links[i];
        if (link->state == NVMF_LINK_OPENING) {
            return NVMF_CTRL_CONNECT_IO;
        }
        if (link->state == NVMF_LINK_BROKEN) {
            first_broken = link;
        } else {
            open_count++;
        }
    }
    if (open_count == 0) {
        nvmf_ctrl_fail(ctrl, first_broken->opened_fail, first_broken->opened_code);
        return NVMF_CTRL_CONNECT_IO;
    }
    if (first_broken != NULL) {
        LOG_LIMITED(WARN, "nvmf: %s: %u I/O queues of %u: %s (%u)", ctrl->name,
                    (unsigned)open_count, (unsigned)ctrl->granted,
                    nvmf_fail_text(first_broken->opened_fail), (unsigned)first_broken->opened_code);
        for (uint32_t i = 0; i < ctrl->granted; i++) {
            if (ctrl->links[i].state == NVMF_LINK_BROKEN) {
                nvmf_link_close(&ctrl->links[i], 0);
            }
        }
    }
    return NVMF_CTRL_SET_EVENTS;
}

static enum nvmf_ctrl_state state_set_events(struct nvmf_ctrl *ctrl, uint64_t now_ns)
{
    const struct nvme_sqe sqe = {.opcode = NVME_ADMIN_SET_FEATURES,
                                 .cdw10 = NVME_FEATURE_ASYNC_EVENT,
                                 .cdw11 = ctrl->caps.events};
    enum nvmf_step step = nvmf_admin_step(&ctrl->admin, &sqe, 0);
    (void)now_ns;

    if (step == NVMF_STEP_ERROR) {
        return NVMF_CTRL_SCAN; /* it reports what it likes */
    }
    return is_ok(ctrl, step, &ctrl->admin.step) ? NVMF_CTRL_SCAN : NVMF_CTRL_SET_EVENTS;
}

static enum nvmf_ctrl_state state_scan(struct nvmf_ctrl *ctrl, uint64_t now_ns)
{
    return is_ok(ctrl, nvmf_scan_run(ctrl, now_ns), &ctrl->admin.step) ? NVMF_CTRL_LIVE
                                                                       : NVMF_CTRL_SCAN;
}

static enum nvmf_ctrl_state state_live(struct nvmf_ctrl *ctrl, uint64_t now_ns)
{
    if (!ctrl->is_entered) {
        ctrl->was_live = true;
        ctrl->connect_count++;
        ctrl->attempt_count = 0;
        LOG_LIMITED(INFO, "nvmf: %s: live, controller %u", ctrl->name, (unsigned)ctrl->cntlid);
        nvmf_routes_publish(ctrl);
        nvmf_scan_set_live(ctrl, true);
    }
    /* A list that is refused now is asked for again. */
    enum nvmf_step step = nvmf_scan_run(ctrl, now_ns);
    if (step == NVMF_STEP_LOST) {
        (void)is_ok(ctrl, step, &ctrl->admin.step);
    }
    return NVMF_CTRL_LIVE;
}

/* --- down ----------------------------------------------------------------------------------- */

/* No new requests; true when those that looked for a way before have found it, or not. */
static bool is_fenced(struct nvmf_ctrl *ctrl)
{
    if (!ctrl->is_fenced) {
        ctrl->is_fenced = true;
        nvmf_scan_set_live(ctrl, false);
        nvmf_routes_clear(ctrl);
    }
    return ctrl->away_count == 0;
}

/* A host that wants its memory back does not wait for a controller. */
static uint64_t hurried(const struct nvmf_ctrl *ctrl, uint64_t end_ns)
{
    return ctrl->is_on_host ? min_u64(end_ns, nvmf_host_memory_leave_ns(ctrl->config.fn)) : end_ns;
}

/* Writes CC and waits for CSTS, no longer than until `end_ns`. WAIT: not there yet. */
static enum nvmf_step change_cc(struct nvmf_ctrl *ctrl, uint32_t cc, uint32_t mask, uint32_t want,
                                uint64_t end_ns)
{
    uint64_t look_ns;

    if (!nvmf_ctrl_admin_works(ctrl) || sched_now_ns() >= end_ns) {
        return NVMF_STEP_LOST;
    }
    enum nvmf_step step = nvmf_admin_set_cc(&ctrl->admin, cc, mask, want, &look_ns);
    nvmf_ctrl_wake_at(ctrl, min_u64(look_ns, end_ns));
    return step;
}

static enum nvmf_ctrl_state state_disable(struct nvmf_ctrl *ctrl, uint64_t now_ns)
{
    uint64_t end_ns =
        hurried(ctrl, ctrl->state_since_ns + min_u64(DISABLE_NS, ctrl->ready_timeout_ns));
    (void)now_ns;

    if (!is_fenced(ctrl)) {
        return NVMF_CTRL_DISABLE;
    }
    enum nvmf_step step = change_cc(ctrl, NVMF_CC_ENABLED & ~NVME_CC_EN, NVME_CSTS_RDY, 0, end_ns);
    ctrl->is_disabled = step == NVMF_STEP_OK;
    return step == NVMF_STEP_WAIT ? NVMF_CTRL_DISABLE : NVMF_CTRL_DRAIN;
}

static enum nvmf_ctrl_state state_shut_down(struct nvmf_ctrl *ctrl, uint64_t now_ns)
{
    uint32_t cc = NVMF_CC_ENABLED | BIT32(NVME_CC_SHN_SHIFT); /* normal */

    if (!is_fenced(ctrl)) {
        return NVMF_CTRL_SHUT_DOWN;
    }
    /* 7.6.2: first the commands under way should end. */
    uint64_t settle_ns = hurried(ctrl, ctrl->state_since_ns + SETTLE_NS);
    if (now_ns < settle_ns && nvmf_links_in_flight(ctrl) != 0 && nvmf_ctrl_admin_works(ctrl)) {
        nvmf_ctrl_wake_at(ctrl, now_ns + LOOK_NS);
        return NVMF_CTRL_SHUT_DOWN;
    }
    enum nvmf_step step =
        change_cc(ctrl, cc, (uint32_t)(FIELD_MASK(NVME_CSTS_SHST) << NVME_CSTS_SHST_SHIFT),
                  NVME_SHST_COMPLETE << NVME_CSTS_SHST_SHIFT,
                  hurried(ctrl, ctrl->state_since_ns + SHUTDOWN_NS));
    return step == NVMF_STEP_WAIT ? NVMF_CTRL_SHUT_DOWN : NVMF_CTRL_DRAIN;
}

/* From when on no command of this association can have any effect: the controller ends for want
 * of a Keep Alive (base 1.4, 7.12; traffic based, up to two periods after the last command), and
 * what it has begun ends within the quiesce time. One that was disabled in order has ended what it
 * began (base 1.4, 3.1.5), but Linux' nvmet clears CSTS.RDY while its drives are still at work: the
 * quiesce time is given to it, too. */
static uint64_t quiet_ns(const struct nvmf_ctrl *ctrl)
{
    uint64_t keep_alive_ns = ctrl->caps.kato_ms * NS_PER_MS * (ctrl->caps.tbkas ? 2 : 1);

    if (!ctrl->was_live) {
        return 0;
    }
    return clock_now_ns() + (ctrl->is_disabled ? 0 : keep_alive_ns + MARGIN_NS) +
           ctrl->caps.quiesce_ms * NS_PER_MS;
}

static void close_links(struct nvmf_ctrl *ctrl)
{
    uint64_t at_ns = quiet_ns(ctrl);

    for (uint32_t i = 0; i < ctrl->link_count; i++) {
        nvmf_link_close(&ctrl->links[i], at_ns);
    }
    nvmf_link_close(&ctrl->admin_link, 0);
}

static bool are_links_closed(const struct nvmf_ctrl *ctrl)
{
    for (uint32_t i = 0; i < ctrl->link_count; i++) {
        if (ctrl->links[i].state != NVMF_LINK_CLOSED) {
            return false;
        }
    }
    return ctrl->admin_link.state == NVMF_LINK_CLOSED;
}

static enum nvmf_ctrl_state state_drain(struct nvmf_ctrl *ctrl, uint64_t now_ns)
{
    (void)now_ns;
    if (!is_fenced(ctrl)) {
        return NVMF_CTRL_DRAIN;
    }
    close_links(ctrl);             /* those that are not closed, or closing */
    if (!are_links_closed(ctrl)) { /* their aborts are home then */
        return NVMF_CTRL_DRAIN;
    }
    return ctrl->is_closing ? NVMF_CTRL_CLOSED : NVMF_CTRL_BACKOFF;
}

/* Not all at the same moment: up to a quarter more, by name. */
static uint64_t jittered(const struct nvmf_ctrl *ctrl, uint64_t pause_ns)
{
    uint32_t hash = ctrl->config.fn;

    for (const char *c = ctrl->name; *c != '\0'; c++) {
        hash = hash * 31 + (uint8_t)*c;
    }
    return pause_ns + pause_ns * (hash & 0xff) / 1024;
}

static enum nvmf_ctrl_state state_backoff(struct nvmf_ctrl *ctrl, uint64_t now_ns)
{
    if (!ctrl->is_entered && ctrl->fail == NVMF_FAIL_HOST_MEMORY) {
        ctrl->next_ns = now_ns; /* nothing is wrong */
    } else if (!ctrl->is_entered) {
        /* Nobody there by this name, or not for us: only a person can change that. */
        bool is_slow = ctrl->fail == NVMF_FAIL_BAD_SUBNQN || ctrl->fail == NVMF_FAIL_BAD_HOSTNQN;
        uint64_t pause_ms = (uint64_t)ctrl->config.backoff_low_ms << ctrl->backoff_steps;
        if (is_slow || pause_ms >= ctrl->config.backoff_high_ms) {
            pause_ms = ctrl->config.backoff_high_ms;
        }
        ctrl->backoff_steps = min_u32(ctrl->backoff_steps + 1, BACKOFF_DOUBLED);
        ctrl->next_ns = now_ns + jittered(ctrl, pause_ms * NS_PER_MS);
    }
    if (ctrl->is_closing) {
        return NVMF_CTRL_CLOSED;
    }
    nvmf_ctrl_wake_at(ctrl, ctrl->next_ns);
    return now_ns >= ctrl->next_ns ? NVMF_CTRL_CONNECT_ADMIN : NVMF_CTRL_BACKOFF;
}

static enum nvmf_ctrl_state state_closed(struct nvmf_ctrl *ctrl, uint64_t now_ns)
{
    (void)ctrl;
    (void)now_ns;
    return NVMF_CTRL_CLOSED;
}

/* --- the machine ---------------------------------------------------------------------------- */

static state_fn *const state_fns[] = {
    [NVMF_CTRL_IDLE] = state_idle,
    [NVMF_CTRL_CONNECT_ADMIN] = state_connect_admin,
    [NVMF_CTRL_ENABLE] = state_enable,
    [NVMF_CTRL_IDENTIFY] = state_identify,
    [NVMF_CTRL_SET_QUEUES] = state_set_queues,
    [NVMF_CTRL_CONNECT_IO] = state_connect_io,
    [NVMF_CTRL_SET_EVENTS] = state_set_events,
    [NVMF_CTRL_SCAN] = state_scan,
    [NVMF_CTRL_LIVE] = state_live,
    [NVMF_CTRL_DISABLE] = state_disable,
    [NVMF_CTRL_SHUT_DOWN] = state_shut_down,
    [NVMF_CTRL_DRAIN] = state_drain,
    [NVMF_CTRL_BACKOFF] = state_backoff,
    [NVMF_CTRL_CLOSED] = state_closed,
};

/* An attempt begins: nothing of the last one counts. */
static void forget(struct nvmf_ctrl *ctrl)
{
    ctrl->attempt_count++;
    ctrl->pending_fail = NVMF_FAIL_NONE;
    ctrl->was_live = false;
    ctrl->is_fenced = false;
    ctrl->admin_failed = false;
    ctrl->is_disabled = false;
    memset(&ctrl->caps, 0, sizeof(ctrl->caps));
    nvmf_admin_reset(&ctrl->admin);
    nvmf_scan_reset(ctrl);
}

static void set_state(struct nvmf_ctrl *ctrl, enum nvmf_ctrl_state next, uint64_t now_ns)
{
    ASSERT(ctrl->state != NVMF_CTRL_CLOSED);
    TRACE(0, NVMF_CTRL, 0, ctrl->cntlid, ctrl->state, next);
    if (ctrl->state == NVMF_CTRL_LIVE && now_ns - ctrl->state_since_ns >= STEADY_NS) {
        ctrl->backoff_steps = 0;
    }
    if (next == NVMF_CTRL_CONNECT_ADMIN) {
        forget(ctrl);
    }
    ctrl->admin.cc_phase = NVMF_CC_SET;
    ctrl->state = next;
    ctrl->state_since_ns = now_ns;
    ctrl->is_entered = false;
}

static void say_why(struct nvmf_ctrl *ctrl)
{
    if (ctrl->pending_fail == NVMF_FAIL_HOST_MEMORY) {
        LOG_LIMITED(INFO, "nvmf: %s: %s", ctrl->name, nvmf_fail_text(ctrl->pending_fail));
    } else if (ctrl->fail != ctrl->pending_fail || ctrl->fail_code != ctrl->pending_code ||
               ctrl->was_live) {
        LOG_LIMITED(WARN, "nvmf: %s: %s%s (code %u)", ctrl->name,
                    ctrl->was_live ? "association lost: " : "", nvmf_fail_text(ctrl->pending_fail),
                    (unsigned)ctrl->pending_code);
    }
    ctrl->fail = ctrl->pending_fail;
    ctrl->fail_code = ctrl->pending_code;
}

static bool is_up(enum nvmf_ctrl_state state)
{
    return state >= NVMF_CTRL_CONNECT_ADMIN && state <= NVMF_CTRL_LIVE;
}

/* Where failures and nvmf_ctrl_close() lead; else the state itself. */
static enum nvmf_ctrl_state diverted(struct nvmf_ctrl *ctrl)
{
    if (!is_up(ctrl->state)) {
        return ctrl->state; /* on the way down already */
    }
    if (ctrl->pending_fail != NVMF_FAIL_NONE) {
        say_why(ctrl);
        return ctrl->was_live && nvmf_ctrl_admin_works(ctrl) ? NVMF_CTRL_DISABLE : NVMF_CTRL_DRAIN;
    }
    if (ctrl->is_closing) {
        return ctrl->state > NVMF_CTRL_ENABLE ? NVMF_CTRL_SHUT_DOWN : NVMF_CTRL_DRAIN;
    }
    return ctrl->state;
}

/* Beside the states. */
static void run_rest(struct nvmf_ctrl *ctrl, uint64_t now_ns)
{
    if (ctrl->state > NVMF_CTRL_IDENTIFY && ctrl->state <= NVMF_CTRL_LIVE) {
        nvmf_keep_alive_run(ctrl, now_ns);
    }
    if (ctrl->state == NVMF_CTRL_SCAN || ctrl->state == NVMF_CTRL_LIVE) {
        nvmf_aers_run(ctrl, now_ns);
        nvmf_aborts_run(ctrl);
    } else {
        nvmf_aborts_drop(ctrl);
    }
}

void nvmf_ctrl_move(struct nvmf_ctrl *ctrl)
{
    bool is_there = nvmf_host_memory_is_there(ctrl->config.fn);

    if (ctrl->state >= NVMF_CTRL_CONNECT_IO && ctrl->state <= NVMF_CTRL_LIVE &&
        ctrl->is_on_host != is_there) {
        nvmf_ctrl_fail(ctrl, NVMF_FAIL_HOST_MEMORY, 0);
    }
    nvmf_ctrl_wake(ctrl); /* what is on its way down may have to hurry */
}

void nvmf_ctrl_run(struct nvmf_ctrl *ctrl)
{
    uint64_t now_ns = sched_now_ns();

    ctrl->timer_ns = UINT64_MAX;
    /* Bounded: a state that changes leads on at once, but no further than once around. */
    for (uint32_t i = 0; i < ARRAY_SIZE(state_fns); i++) {
        enum nvmf_ctrl_state next = diverted(ctrl);
        if (next == ctrl->state) {
            next = state_fns[ctrl->state](ctrl, now_ns);
            ctrl->is_entered = true;
            if (next == ctrl->state) {
                break;
            }
        }
        set_state(ctrl, next, now_ns);
    }
    run_rest(ctrl, now_ns);
    if (ctrl->state == NVMF_CTRL_CLOSED && !ctrl->is_waking) {
        nvmf_ctrl_finish(ctrl);
        return;
    }
    if (ctrl->timer_ns != UINT64_MAX) {
        timer_arm(&ctrl->timer, ctrl->timer_ns);
    } else {
        timer_cancel(&ctrl->timer);
    }
}
