/*
 * The state machine of a drive, polled by core 0: reset, enable, watch. No state waits: each looks
 * and returns the next one. What the drive is asked during bring-up is in nvme_drv_identify.c.
 *
 *   STOPPING > DISABLING > DRAINING > BACKOFF > SETTLING > ENABLING > IDENTIFY_CTRL > SET_EVENTS >
 *   SET_QUEUES > CREATE_CQ, CREATE_SQ (each core) > STARTING > LIST_NS > IDENTIFY_NS, DESCRIBE_NS
 *   (each namespace) > READY;   READY > READ_EVENT > LIST_NS when the drive reports an event;
 *   any > STOPPING when something is wrong, DRAINING > FAILED or REMOVED when it cannot help.
 * Source: NVMe Base 1.4, sections 3.1 (registers) and 7.6.1 (initialization).
 */
#include "base/log.h"
#include "base/trace.h"
#include "hal/clock.h"
#include "nvme_drv/nvme_drv_priv.h"
#include "spec/nvme_feature.h"
#include "spec/nvme_queue.h"

#define DISABLE_NS      (250 * NS_PER_MS) /* then access to memory is cut instead; see the header */
#define LOOK_NS         NS_PER_MS         /* between two reads of CSTS that something waits for */
#define WATCH_NS        (100 * NS_PER_MS) /* between two reads of CSTS when all is well */
#define BACKOFF_NS      (100 * NS_PER_MS) /* after the second failure; doubled with each */
#define BACKOFF_DOUBLED 7                 /* at most so often: 12.8 s */
#define FLAP_NS         (10 * NS_PER_S)   /* a reset so soon after getting ready is suspicious */
#define REST_NS         (100 * NS_PER_US) /* how often the admin queue of a ready drive is polled */
#define EVENT_PAUSE_NS  (100 * NS_PER_MS)

#define GONE 0xffffffffu /* what a read of an absent device gives */

#define SMART_READ_ONLY BIT32(3) /* critical warning: media is in read only mode (figure 194) */

typedef enum nvme_drv_state state_fn(struct nvme_drv *drv, uint64_t now_ns);

/* --- ends of an attempt -------------------------------------------------------------------------
 */

enum nvme_drv_state nvme_drv_attempt_failed(struct nvme_drv *drv, const char *what)
{
    drv->failed_attempts++;
    LOG_LIMITED(WARN, "nvme_drv: %s: %s (attempt %u)", drv->name, what,
                (unsigned)drv->failed_attempts);
    return NVME_DRV_STOPPING;
}

enum nvme_drv_state nvme_drv_refuse(struct nvme_drv *drv, const char *why)
{
    LOG_ERROR("nvme_drv: %s: not usable: %s", drv->name, why);
    drv->failed_attempts++;
    drv->verdict = NVME_DRV_FAILED;
    return NVME_DRV_STOPPING;
}

static enum nvme_drv_state removed(struct nvme_drv *drv)
{
    LOG_ERROR("nvme_drv: %s: gone: its registers read as all ones", drv->name);
    drv->failed_attempts++; /* nobody shall wait for it */
    drv->verdict = NVME_DRV_REMOVED;
    return NVME_DRV_STOPPING;
}

static uint32_t csts(const struct nvme_drv *drv)
{
    return mmio_read32(drv->regs, NVME_REG_CSTS);
}

/* After this nothing that the drive does reaches memory: the read comes back behind what it wrote.
 */
static void cut_dma(struct nvme_drv *drv)
{
    pcie_rc_enable(drv->device, true, false);
    (void)pcie_rc_read32(drv->device, 0);
}

const char *nvme_drv_read_cap(struct nvme_drv *drv)
{
    uint64_t cap = mmio_read64(drv->regs, NVME_REG_CAP);
    uint64_t entries = FIELD_GET(NVME_CAP_MQES, cap) + 1;
    uint64_t doorbells_end;

    /* 0 is no time at all: take one unit. */
    drv->ready_timeout_ns = max_u64(FIELD_GET(NVME_CAP_TO, cap), 1) * 500 * NS_PER_MS;
    drv->stride_bytes = 4u << FIELD_GET(NVME_CAP_DSTRD, cap);
    drv->queue_entries = NVME_DRV_QUEUE_ENTRIES;
    while (drv->queue_entries > entries) {
        drv->queue_entries /= 2;
    }
    doorbells_end = NVME_DOORBELLS_OFFSET + (drv->core_count + 1) * 2ull * drv->stride_bytes;
    if (doorbells_end > drv->device->bar[0].len_bytes) {
        return "BAR 0 is too short for the doorbells";
    }
    if ((FIELD_GET(NVME_CAP_CSS, cap) & NVME_CAP_CSS_NVM) == 0) {
        return "no NVM command set";
    }
    if (FIELD_GET(NVME_CAP_MPSMIN, cap) != 0) {
        return "wants pages larger than 4 KiB";
    }
    return drv->queue_entries >= 2 ? NULL : "queues of one entry";
}

/* --- down ------------------------------------------------------------------------------------ */

static enum nvme_drv_state state_stopping(struct nvme_drv *drv, uint64_t now_ns)
{
    (void)now_ns;
    if (!drv->is_entered) {
        nvme_drv_order(drv, NVME_DRV_VERB_STOP);
    }
    return drv->orders_pending == 0 ? NVME_DRV_DISABLING : NVME_DRV_STOPPING;
}

static enum nvme_drv_state state_disabling(struct nvme_drv *drv, uint64_t now_ns)
{
    bool is_over = now_ns - drv->state_since_ns >= min_u64(DISABLE_NS, drv->ready_timeout_ns);

    if (drv->verdict == NVME_DRV_REMOVED) {
        cut_dma(drv);
        return NVME_DRV_DRAINING;
    }
    if (drv->is_entered && now_ns < drv->look_ns && !is_over) {
        return NVME_DRV_DISABLING;
    }
    drv->look_ns = now_ns + LOOK_NS;
    uint32_t status = csts(drv);
    uint32_t cc = mmio_read32(drv->regs, NVME_REG_CC);
    if (status == GONE && cc == GONE) {
        (void)removed(drv);
        cut_dma(drv);
        return NVME_DRV_DRAINING;
    }
    if ((cc & NVME_CC_EN) != 0) {
        /* 3.1.5: EN is not to be cleared while the controller is still on its way to ready. */
        if ((status & (NVME_CSTS_RDY | NVME_CSTS_CFS)) == 0 && !is_over) {
            return NVME_DRV_DISABLING;
        }
        mmio_write32(drv->regs, NVME_REG_CC, cc & ~NVME_CC_EN);
        if (!is_over) {
            return NVME_DRV_DISABLING;
        }
    } else if ((status & NVME_CSTS_RDY) != 0 && !is_over) {
        return NVME_DRV_DISABLING;
    }
    cut_dma(drv); /* even where RDY is 0: it costs nothing to be sure */
    return NVME_DRV_DRAINING;
}

static enum nvme_drv_state state_draining(struct nvme_drv *drv, uint64_t now_ns)
{
    (void)now_ns;
    if (!drv->is_entered) {
        /* Requests wait through the reset of a drive that worked, but not for one that fails. */
        nvme_drv_order(drv, drv->failed_attempts == 0 ? NVME_DRV_VERB_DRAIN_HOLD
                                                      : NVME_DRV_VERB_DRAIN_OFF);
    }
    if (drv->orders_pending != 0) {
        return NVME_DRV_DRAINING;
    }
    if (drv->verdict != NVME_DRV_BACKOFF) {
        nvme_drv_ns_lose_all(drv);
    }
    return drv->verdict;
}

static enum nvme_drv_state state_backoff(struct nvme_drv *drv, uint64_t now_ns)
{
    uint32_t failures = drv->failed_attempts + drv->flaps;
    uint64_t pause_ns = 0;

    if (failures > 1) { /* the first one may have been bad luck */
        pause_ns = BACKOFF_NS << min_u32(failures - 2, BACKOFF_DOUBLED);
    }
    return now_ns - drv->state_since_ns >= pause_ns ? NVME_DRV_SETTLING : NVME_DRV_BACKOFF;
}

/* --- up -------------------------------------------------------------------------------------- */

static enum nvme_drv_state state_settling(struct nvme_drv *drv, uint64_t now_ns)
{
    if (drv->is_entered && now_ns < drv->look_ns) {
        return NVME_DRV_SETTLING;
    }
    drv->look_ns = now_ns + LOOK_NS;
    uint32_t status = csts(drv);
    if (status == GONE) {
        return removed(drv);
    }
    if ((status & NVME_CSTS_RDY) == 0) {
        const char *complaint = nvme_drv_read_cap(drv);
        return complaint == NULL ? NVME_DRV_ENABLING : nvme_drv_refuse(drv, complaint);
    }
    if (now_ns - drv->state_since_ns >= drv->ready_timeout_ns) {
        return nvme_drv_attempt_failed(drv, "CSTS.RDY stays 1 after CC.EN went to 0");
    }
    return NVME_DRV_SETTLING;
}

static void enable(struct nvme_drv *drv)
{
    nvme_drv_admin_init(drv);
    drv->reset_reason = NULL;
    drv->event_waits = false;
    pcie_rc_enable(drv->device, true, true);
    mmio_write32(drv->regs, NVME_REG_AQA,
                 (uint32_t)(FIELD_PREP(NVME_AQA_ASQS, NVME_DRV_ADMIN_ENTRIES - 1) |
                            FIELD_PREP(NVME_AQA_ACQS, NVME_DRV_ADMIN_ENTRIES - 1)));
    mmio_write64(drv->regs, NVME_REG_ASQ, nvme_drv_bus_addr(drv->dma->admin_sqes));
    mmio_write64(drv->regs, NVME_REG_ACQ, nvme_drv_bus_addr(drv->dma->admin_cqes));
    barrier_before_doorbell(); /* the zeroed queue is in memory before the drive looks at it */
    mmio_write32(drv->regs, NVME_REG_CC,
                 (uint32_t)(NVME_CC_EN | FIELD_PREP(NVME_CC_IOSQES, NVME_IOSQES) |
                            FIELD_PREP(NVME_CC_IOCQES, NVME_IOCQES)));
}

static enum nvme_drv_state state_enabling(struct nvme_drv *drv, uint64_t now_ns)
{
    if (!drv->is_entered) {
        enable(drv);
        drv->look_ns = now_ns;
    }
    if (now_ns < drv->look_ns) {
        return NVME_DRV_ENABLING;
    }
    drv->look_ns = now_ns + LOOK_NS;
    uint32_t status = csts(drv);
    if (status == GONE) {
        return removed(drv);
    }
    if ((status & NVME_CSTS_CFS) != 0) {
        return nvme_drv_attempt_failed(drv, "fatal status while being enabled");
    }
    if ((status & NVME_CSTS_RDY) != 0) {
        return NVME_DRV_IDENTIFY_CTRL;
    }
    if (now_ns - drv->state_since_ns >= drv->ready_timeout_ns) {
        return nvme_drv_attempt_failed(drv, "does not become ready");
    }
    return NVME_DRV_ENABLING;
}

static enum nvme_drv_state state_set_events(struct nvme_drv *drv, uint64_t now_ns)
{
    struct nvme_sqe cmd = {
        .opcode = NVME_ADMIN_SET_FEATURES, .cdw10 = NVME_FEATURE_ASYNC_EVENT, .cdw11 = drv->events};
    (void)now_ns;
    /* A drive that refuses reports what it likes: not an error. */
    return nvme_drv_admin_step(drv, &cmd) == NVME_DRV_STEP_WAIT ? NVME_DRV_SET_EVENTS
                                                                : NVME_DRV_SET_QUEUES;
}

static enum nvme_drv_state state_set_queues(struct nvme_drv *drv, uint64_t now_ns)
{
    uint32_t last = drv->core_count - 1; /* zeroes based */
    struct nvme_sqe cmd = {.opcode = NVME_ADMIN_SET_FEATURES,
                           .cdw10 = NVME_FEATURE_QUEUES,
                           .cdw11 = last << 16 | last};
    (void)now_ns;
    enum nvme_drv_step step = nvme_drv_admin_step(drv, &cmd);
    if (step == NVME_DRV_STEP_WAIT) {
        return NVME_DRV_SET_QUEUES;
    }
    if (step == NVME_DRV_STEP_ERROR) {
        return nvme_drv_attempt_failed(drv, "Number of Queues was answered with an error");
    }
    if ((drv->admin.step_dw0 & 0xffff) < last || drv->admin.step_dw0 >> 16 < last) {
        return nvme_drv_refuse(drv, "fewer I/O queue pairs than cores");
    }
    for (uint32_t core = 0; core < drv->core_count; core++) {
        struct nvme_drv_queue *q = &drv->queues[core]; /* drained: its core does not touch it */
        nvme_drv_rings_init(&q->sq, &q->cq, q->qid, drv->queue_entries, drv->stride_bytes);
    }
    drv->queue_index = 0;
    return NVME_DRV_CREATE_CQ;
}

static enum nvme_drv_state state_create_cq(struct nvme_drv *drv, uint64_t now_ns)
{
    const struct nvme_drv_queue *q = &drv->queues[drv->queue_index];
    struct nvme_sqe cmd = {.opcode = NVME_ADMIN_CREATE_CQ,
                           .prp1 = nvme_drv_bus_addr(q->cq.entries),
                           .cdw10 = (drv->queue_entries - 1) << 16 | q->qid,
                           .cdw11 = NVME_CREATE_CQ_PC};
    (void)now_ns;
    switch (nvme_drv_admin_step(drv, &cmd)) {
    case NVME_DRV_STEP_WAIT:
        return NVME_DRV_CREATE_CQ;
    case NVME_DRV_STEP_ERROR:
        return nvme_drv_attempt_failed(drv, "Create I/O Completion Queue was refused");
    case NVME_DRV_STEP_OK:
        break;
    }
    return NVME_DRV_CREATE_SQ;
}

static enum nvme_drv_state state_create_sq(struct nvme_drv *drv, uint64_t now_ns)
{
    const struct nvme_drv_queue *q = &drv->queues[drv->queue_index];
    struct nvme_sqe cmd = {.opcode = NVME_ADMIN_CREATE_SQ,
                           .prp1 = nvme_drv_bus_addr(q->sq.entries),
                           .cdw10 = (drv->queue_entries - 1) << 16 | q->qid,
                           .cdw11 = (uint32_t)FIELD_PREP(NVME_CREATE_SQ_CQID, q->qid) |
                                    NVME_CREATE_SQ_PC};
    (void)now_ns;
    switch (nvme_drv_admin_step(drv, &cmd)) {
    case NVME_DRV_STEP_WAIT:
        return NVME_DRV_CREATE_SQ;
    case NVME_DRV_STEP_ERROR:
        return nvme_drv_attempt_failed(drv, "Create I/O Submission Queue was refused");
    case NVME_DRV_STEP_OK:
        break;
    }
    return ++drv->queue_index < drv->core_count ? NVME_DRV_CREATE_CQ : NVME_DRV_STARTING;
}

static enum nvme_drv_state state_starting(struct nvme_drv *drv, uint64_t now_ns)
{
    (void)now_ns;
    if (!drv->is_entered) {
        nvme_drv_order(drv, NVME_DRV_VERB_START);
    }
    if (drv->orders_pending != 0) {
        return NVME_DRV_STARTING;
    }
    nvme_drv_admin_request_event(drv);
    return NVME_DRV_LIST_NS;
}

/* --- ready ------------------------------------------------------------------------------------ */

static enum nvme_drv_state state_read_event(struct nvme_drv *drv, uint64_t now_ns)
{
    uint32_t len_bytes = drv->event_log == NVME_LOG_CHANGED_NS ? sizeof(struct nvme_changed_ns_log)
                                                               : sizeof(struct nvme_smart_log);
    struct nvme_sqe cmd = {.opcode = NVME_ADMIN_GET_LOG_PAGE,
                           .nsid = NVME_NSID_ALL,
                           .prp1 = nvme_drv_bus_addr(&drv->dma->data),
                           .cdw10 = (len_bytes / 4 - 1) << 16 | drv->event_log};
    (void)now_ns;
    enum nvme_drv_step step = nvme_drv_admin_step(drv, &cmd);
    if (step == NVME_DRV_STEP_WAIT) {
        return NVME_DRV_READ_EVENT;
    }
    if (step == NVME_DRV_STEP_OK && drv->event_log == NVME_LOG_SMART) {
        drv->critical_warning = shm_load8(&drv->dma->data.smart.critical_warning);
        drv->features &= ~BLK_FEATURE_READ_ONLY;
        if ((drv->critical_warning & SMART_READ_ONLY) != 0) {
            drv->features |= BLK_FEATURE_READ_ONLY;
        }
    }
    drv->event_waits = false;
    nvme_drv_admin_request_event(drv);
    return NVME_DRV_LIST_NS;
}

static enum nvme_drv_state state_ready(struct nvme_drv *drv, uint64_t now_ns)
{
    if (!drv->is_entered) {
        drv->look_ns = now_ns + WATCH_NS;
        if (!drv->was_up) {
            LOG_INFO("nvme_drv: %s: ready", drv->name);
        }
        drv->failed_attempts = 0;
        drv->was_up = true;
    }
    if (drv->event_waits && now_ns >= drv->event_ns) {
        drv->event_ns = now_ns + EVENT_PAUSE_NS;
        return NVME_DRV_READ_EVENT;
    }
    if (now_ns < drv->look_ns) {
        return NVME_DRV_READY;
    }
    drv->look_ns = now_ns + WATCH_NS;
    uint32_t status = csts(drv);
    if (status == GONE) {
        return removed(drv);
    }
    if ((status & NVME_CSTS_CFS) != 0) {
        drv->reset_reason = "fatal status";
    }
    return NVME_DRV_READY;
}

static enum nvme_drv_state state_failed(struct nvme_drv *drv, uint64_t now_ns)
{
    (void)now_ns;
    return drv->verdict;
}

/* --- the machine ------------------------------------------------------------------------------ */

static state_fn *const state_fns[] = {
    [NVME_DRV_STOPPING] = state_stopping,
    [NVME_DRV_DISABLING] = state_disabling,
    [NVME_DRV_DRAINING] = state_draining,
    [NVME_DRV_BACKOFF] = state_backoff,
    [NVME_DRV_SETTLING] = state_settling,
    [NVME_DRV_ENABLING] = state_enabling,
    [NVME_DRV_IDENTIFY_CTRL] = nvme_drv_state_identify_ctrl,
    [NVME_DRV_SET_EVENTS] = state_set_events,
    [NVME_DRV_SET_QUEUES] = state_set_queues,
    [NVME_DRV_CREATE_CQ] = state_create_cq,
    [NVME_DRV_CREATE_SQ] = state_create_sq,
    [NVME_DRV_STARTING] = state_starting,
    [NVME_DRV_READ_EVENT] = state_read_event,
    [NVME_DRV_LIST_NS] = nvme_drv_state_list_ns,
    [NVME_DRV_IDENTIFY_NS] = nvme_drv_state_identify_ns,
    [NVME_DRV_DESCRIBE_NS] = nvme_drv_state_describe_ns,
    [NVME_DRV_READY] = state_ready,
    [NVME_DRV_FAILED] = state_failed,
    [NVME_DRV_REMOVED] = state_failed,
};

/* The admin queue is in use. */
static bool is_enabled(enum nvme_drv_state state)
{
    return state > NVME_DRV_ENABLING && state <= NVME_DRV_READY;
}

static void set_state(struct nvme_drv *drv, enum nvme_drv_state next, uint64_t now_ns)
{
    TRACE(0, DRIVE_STATE, 0, drv->index, drv->state, next);
    if (next == NVME_DRV_STOPPING) {
        drv->reset_count++;
        drv->admin.step_is_issued = false; /* whatever was asked is void */
        drv->flaps = drv->was_up && now_ns - drv->ready_since_ns < FLAP_NS ? drv->flaps + 1 : 0;
        drv->was_up = false;
    }
    if (next == NVME_DRV_READY && !drv->was_up) {
        drv->ready_since_ns = now_ns;
    }
    drv->state = next;
    drv->state_since_ns = now_ns;
    drv->is_entered = false;
}

uint32_t nvme_drv_run(struct nvme_drv *drv, uint64_t now_ns)
{
    uint32_t count = 0;

    /* Most turns of core 0 end here: a drive at rest has nothing urgent to say. */
    if (drv->state == NVME_DRV_READY && now_ns < drv->rest_until_ns && !drv->admin.abort_waits &&
        drv->reset_reason == NULL) {
        return 0;
    }
    drv->rest_until_ns = now_ns + REST_NS;

    if (is_enabled(drv->state)) {
        count = nvme_drv_admin_poll(drv);
        /* Not while the cores still answer an order: STOPPING gives the next one. */
        if (drv->reset_reason != NULL && drv->orders_pending == 0) {
            LOG_LIMITED(ERROR, "nvme_drv: %s: controller reset because of %s", drv->name,
                        drv->reset_reason);
            drv->reset_reason = NULL;
            if (!drv->was_up) {
                drv->failed_attempts++;
            }
            set_state(drv, NVME_DRV_STOPPING, now_ns);
        }
    }
    /* Bounded: a state that changes leads on at once, but no further than once around. */
    for (uint32_t i = 0; i < ARRAY_SIZE(state_fns); i++) {
        enum nvme_drv_state next = state_fns[drv->state](drv, now_ns);
        drv->is_entered = true;
        if (next == drv->state) {
            break;
        }
        set_state(drv, next, now_ns);
        count++;
    }
    return count;
}

uint64_t nvme_drv_sleep_ns(const struct nvme_drv *drv)
{
    if (drv->state == NVME_DRV_FAILED || drv->state == NVME_DRV_REMOVED) {
        return UINT64_MAX;
    }
    if (drv->state == NVME_DRV_READY && !drv->admin.abort_waits) {
        return WATCH_NS; /* events and drives that went away are found so late, at most */
    }
    return 100 * NS_PER_US; /* bring-up: a core that sleeps shortly costs little time per step */
}
