/*
 * Admin queue of a drive: one step of the state machine, one Asynchronous Event Request and a few
 * Aborts at a time, each with a slot of its own. Core 0.
 * Source: NVMe Base 1.4, sections 5.1 (Abort), 5.2 (Asynchronous Event Request).
 */
#include "base/log.h"
#include "base/trace.h"
#include "hal/clock.h"
#include "nvme_drv/nvme_drv_priv.h"

#define STEP_TIMEOUT_NS (5 * NS_PER_S)
#define REAP_MAX        16

void nvme_drv_admin_init(struct nvme_drv *drv)
{
    struct nvme_drv_admin *admin = &drv->admin;

    admin->sq.entries = drv->dma->admin_sqes;
    admin->cq.entries = drv->dma->admin_cqes;
    nvme_drv_rings_init(&admin->sq, &admin->cq, 0, NVME_DRV_ADMIN_ENTRIES, drv->stride_bytes);
    for (uint32_t i = 0; i < NVME_DRV_ADMIN_SLOTS; i++) {
        /* Generations go on, so that no completion from before the reset can be taken for ours. */
        admin->slots[i].cid = (uint16_t)((admin->slots[i].cid & 0xff00u) + 0x100u + i);
        admin->slots[i].is_busy = false;
    }
    memset(admin->abort_bits, 0, sizeof(admin->abort_bits));
    admin->abort_waits = false;
    admin->step_is_issued = false;
    admin->step_is_done = false;
}

static void issue(struct nvme_drv *drv, uint32_t index, const struct nvme_sqe *cmd)
{
    struct nvme_drv_admin *admin = &drv->admin;
    struct nvme_sqe *sqe = nvme_drv_sq_push(&admin->sq);

    *sqe = *cmd;
    sqe->cid = admin->slots[index].cid;
    admin->slots[index].is_busy = true;
    nvme_drv_sq_ring(&admin->sq, drv->regs);
}

enum nvme_drv_step nvme_drv_admin_step(struct nvme_drv *drv, struct nvme_sqe *cmd)
{
    struct nvme_drv_admin *admin = &drv->admin;

    if (!admin->step_is_issued) {
        admin->step_is_issued = true;
        admin->step_is_done = false;
        admin->step_deadline_ns = sched_now_ns() + STEP_TIMEOUT_NS;
        issue(drv, NVME_DRV_ADMIN_STEP, cmd);
        return NVME_DRV_STEP_WAIT;
    }
    if (!admin->step_is_done) {
        return NVME_DRV_STEP_WAIT;
    }
    admin->step_is_issued = false;
    return admin->step_status == 0 ? NVME_DRV_STEP_OK : NVME_DRV_STEP_ERROR;
}

void nvme_drv_admin_request_event(struct nvme_drv *drv)
{
    struct nvme_sqe cmd = {.opcode = NVME_ADMIN_ASYNC_EVENT};

    if (!drv->admin.slots[NVME_DRV_ADMIN_EVENT].is_busy) {
        issue(drv, NVME_DRV_ADMIN_EVENT, &cmd);
    }
}

/* --- aborts ----------------------------------------------------------------------------------- */

void nvme_drv_admin_called(struct msg *msg)
{
    struct nvme_drv_queue *q = CONTAINER_OF(msg, struct nvme_drv_queue, call);
    struct nvme_drv *drv = q->drv;
    bool is_online = drv->state >= NVME_DRV_STARTING && drv->state <= NVME_DRV_READY;

    /* From here on a new call sends a new message. Pairs with DRV-CALL. */
    (void)atomic_exchange_explicit(&q->is_calling, false, memory_order_acq_rel);
    for (uint32_t i = 0; i < NVME_DRV_ABORT_WORDS; i++) {
        /* Pairs with DRV-ABORT. */
        uint64_t bits = atomic_exchange_explicit(&q->abort_bits[i], 0, memory_order_acquire);
        if (bits != 0 && is_online) {
            drv->admin.abort_bits[q->core][i] |= bits;
            drv->admin.abort_waits = true;
        }
    }
    if (atomic_exchange_explicit(&q->wants_reset, false, memory_order_relaxed) && is_online) {
        drv->reset_reason =
            q->is_broken ? "a completion that cannot be" : "a command that never ends";
    }
}

/* The next command that somebody wants aborted; false when there is none. */
static bool take_abort(struct nvme_drv *drv, uint32_t *cdw10)
{
    for (uint32_t core = 0; core < drv->core_count; core++) {
        for (uint32_t i = 0; i < NVME_DRV_ABORT_WORDS; i++) {
            uint64_t *bits = &drv->admin.abort_bits[core][i];
            if (*bits != 0) {
                struct nvme_drv_queue *q = &drv->queues[core];
                uint32_t index = i * 64 + lowest_bit(*bits);
                *bits &= *bits - 1;
                *cdw10 = (uint32_t)atomic_load_explicit(&q->abort_cids[index], memory_order_relaxed)
                             << 16 |
                         q->qid;
                return true;
            }
        }
    }
    return false;
}

static uint32_t start_aborts(struct nvme_drv *drv)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < drv->admin.abort_slot_count && drv->admin.abort_waits; i++) {
        struct nvme_sqe cmd = {.opcode = NVME_ADMIN_ABORT};
        if (drv->admin.slots[NVME_DRV_ADMIN_ABORT + i].is_busy) {
            continue;
        }
        if (!take_abort(drv, &cmd.cdw10)) {
            drv->admin.abort_waits = false;
        } else {
            issue(drv, NVME_DRV_ADMIN_ABORT + i, &cmd);
            count++;
        }
    }
    return count;
}

/* --- completions -------------------------------------------------------------------------------
 */

static void on_event(struct nvme_drv *drv, nvme_status_t status, uint32_t dw0)
{
    if (status != 0) {
        LOG_LIMITED(WARN, "nvme_drv: %s: no asynchronous events, status %03x", drv->name,
                    (unsigned)NVME_STATUS_CODE(status));
        return; /* not asked for again before the next reset */
    }
    drv->event_count++;
    drv->event_log = (uint8_t)FIELD_GET(NVME_EVENT_LOG, dw0);
    drv->event_waits = true;
    LOG_LIMITED(INFO, "nvme_drv: %s: asynchronous event type %u, log page %02x", drv->name,
                (unsigned)FIELD_GET(NVME_EVENT_TYPE, dw0), (unsigned)drv->event_log);
}

static void complete(struct nvme_drv *drv, const struct nvme_cqe *cqe)
{
    struct nvme_drv_admin *admin = &drv->admin;
    uint16_t cid = (uint16_t)cqe->dw3;
    uint32_t index = cid & 0xff;
    nvme_status_t status = (nvme_status_t)(cqe->dw3 >> NVME_CQE_STATUS_SHIFT);

    if (index >= NVME_DRV_ADMIN_SLOTS || !admin->slots[index].is_busy ||
        admin->slots[index].cid != cid || cqe->sq_id != 0) {
        drv->bad_completion_count++;
        drv->reset_reason = "an admin completion that cannot be";
        return;
    }
    admin->slots[index].is_busy = false;
    admin->slots[index].cid = (uint16_t)(cid + 0x100);
    if (index == NVME_DRV_ADMIN_STEP) {
        admin->step_is_done = true;
        admin->step_status = status;
        admin->step_dw0 = cqe->dw0;
    } else if (index == NVME_DRV_ADMIN_EVENT) {
        on_event(drv, status, cqe->dw0);
    }
    /* An Abort's answer tells nothing that the aborted command's own end, or its deadline, does
     * not. */
}

uint32_t nvme_drv_admin_poll(struct nvme_drv *drv)
{
    struct nvme_cqe cqe;
    uint32_t count = 0;

    while (count < REAP_MAX && drv->reset_reason == NULL && nvme_drv_cq_pop(&drv->admin.cq, &cqe)) {
        complete(drv, &cqe);
        count++;
    }
    nvme_drv_cq_ring(&drv->admin.cq, drv->regs);
    if (drv->admin.step_is_issued && !drv->admin.step_is_done &&
        sched_now_ns() > drv->admin.step_deadline_ns) {
        drv->reset_reason = "an admin command that never ends";
    }
    if (drv->admin.abort_waits) {
        count += start_aborts(drv);
    }
    return count;
}
