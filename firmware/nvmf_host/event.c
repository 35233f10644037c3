/*
 * What an association keeps going beside its states: Asynchronous Event Requests and Keep Alive.
 *
 * Source: NVMe Base 1.4, sections 5.2 (events), 5.18 and 7.12 (Keep Alive); NVMe over Fabrics 1.1,
 * section 4.1 (traffic based keep alive).
 */
#include "base/log.h"
#include "nvmf_host/ctrl_priv.h"

/* Between an event and the next request for one: a target that reports without end must not keep us
 * busy. */
#define EVENT_PAUSE_NS (10 * NS_PER_MS)

/* --- events --------------------------------------------------------------------------------- */

static void on_event(struct nvmf_ctrl *ctrl, uint32_t dw0)
{
    uint32_t type = (uint32_t)FIELD_GET(NVME_EVENT_TYPE, dw0);
    uint32_t info = (uint32_t)FIELD_GET(NVME_EVENT_INFO, dw0);
    uint32_t page = (uint32_t)FIELD_GET(NVME_EVENT_LOG, dw0);

    ctrl->event_count++;
    LOG_LIMITED(INFO, "nvmf: %s: %s (event type %u, %u, log page %02x)", ctrl->name,
                type == NVME_EVENT_ERROR                 ? "the controller reports an error"
                : type == NVME_EVENT_SMART               ? "the controller reports on its health"
                : type != NVME_EVENT_NOTICE              ? "an event"
                : info == NVME_EVENT_NOTICE_NS_ATTRIBUTE ? "namespaces changed"
                : info == NVME_EVENT_NOTICE_FIRMWARE     ? "firmware activation starts"
                                                         : "a notice",
                (unsigned)type, (unsigned)info, (unsigned)page);
    /* Reading the page lets the controller report again (5.2). */
    if (page == NVME_LOG_ERROR || page == NVME_LOG_SMART || page == NVME_LOG_FIRMWARE_SLOT ||
        page == NVME_LOG_CHANGED_NS) {
        ctrl->scan.log_bits |= (uint8_t)BIT32(page);
    }
    if (type == NVME_EVENT_NOTICE && info == NVME_EVENT_NOTICE_NS_ATTRIBUTE) {
        ctrl->scan.is_wanted = true;
    }
}

static void on_aer_done(struct nvmf_cmd *cmd)
{
    struct nvmf_ctrl *ctrl = cmd->ctx;
    struct nvmf_aer *aer = CONTAINER_OF(cmd, struct nvmf_aer, cmd);

    aer->is_busy = false;
    if (cmd->is_path_error) {
        return; /* the queue ended */
    }
    ctrl->aer_ns = sched_now_ns() + EVENT_PAUSE_NS;
    if (NVME_STATUS_CODE(cmd->status) == 0) {
        on_event(ctrl, cmd->cqe.dw0);
    } else {
        aer->is_refused = true;
        LOG_LIMITED(WARN, "nvmf: %s: asynchronous events are refused, status %03x", ctrl->name,
                    (unsigned)NVME_STATUS_CODE(cmd->status));
    }
    nvmf_ctrl_wake(ctrl);
}

void nvmf_aers_run(struct nvmf_ctrl *ctrl, uint64_t now_ns)
{
    for (uint32_t i = 0; i < ctrl->caps.aer_count; i++) {
        struct nvmf_aer *aer = &ctrl->aers[i];
        if (aer->is_busy || aer->is_refused) {
            continue;
        }
        if (now_ns < ctrl->aer_ns) {
            nvmf_ctrl_wake_at(ctrl, ctrl->aer_ns);
            return;
        }
        aer->is_busy = true;
        aer->cmd = (struct nvmf_cmd){
            .sqe = {.opcode = NVME_ADMIN_ASYNC_EVENT}, .done = on_aer_done, .ctx = ctrl};
        nvmf_queue_exec(ctrl->admin.queue, &aer->cmd);
    }
}

/* --- keep alive ----------------------------------------------------------------------------- */

static void on_keep_alive_done(struct nvmf_cmd *cmd)
{
    struct nvmf_ctrl *ctrl = cmd->ctx;

    ctrl->keep_alive_busy = false;
    if (cmd->is_path_error || NVME_STATUS_CODE(cmd->status) != 0) {
        ctrl->admin_failed = ctrl->admin_failed || cmd->is_path_error;
        nvmf_ctrl_fail(ctrl, NVMF_FAIL_KEEP_ALIVE,
                       cmd->is_path_error ? 0 : NVME_STATUS_CODE(cmd->status));
    }
}

static void send_keep_alive(struct nvmf_ctrl *ctrl)
{
    if (ctrl->keep_alive_busy) {
        return; /* its own timeout judges */
    }
    ctrl->keep_alive_busy = true;
    ctrl->keep_alive = (struct nvmf_cmd){.sqe = {.opcode = NVME_ADMIN_KEEP_ALIVE},
                                         .timeout_ns = ctrl->caps.kato_ms * NS_PER_MS,
                                         .done = on_keep_alive_done,
                                         .ctx = ctrl};
    nvmf_queue_exec(ctrl->admin.queue, &ctrl->keep_alive);
}

/* Traffic based, the controller looks back once in each KATO: a pause as long as that, spread over
 * two of ours, must not be possible. So we look twice as often then. */
static uint64_t period_ns(const struct nvmf_ctrl *ctrl)
{
    return ctrl->caps.kato_ms * NS_PER_MS / (ctrl->caps.tbkas ? 4 : 2);
}

void nvmf_keep_alive_run(struct nvmf_ctrl *ctrl, uint64_t now_ns)
{
    if (ctrl->is_asking && ctrl->ask_count == 0) {
        ctrl->is_asking = false;
        if (!ctrl->had_traffic) {
            send_keep_alive(ctrl);
        }
    }
    if (now_ns >= ctrl->keep_alive_ns) {
        ctrl->keep_alive_ns = now_ns + period_ns(ctrl);
        if (!ctrl->caps.tbkas) {
            send_keep_alive(ctrl);
        } else if (!ctrl->is_asking) {
            ctrl->is_asking = true;
            nvmf_links_ask(ctrl);
        }
    }
    nvmf_ctrl_wake_at(ctrl, ctrl->keep_alive_ns);
}

void nvmf_events_reset(struct nvmf_ctrl *ctrl, uint64_t now_ns)
{
    for (uint32_t i = 0; i < LIMIT_AERS; i++) {
        ctrl->aers[i].is_refused = false;
    }
    ctrl->aer_ns = 0;
    ctrl->is_asking = false;
    ctrl->keep_alive_ns = now_ns + period_ns(ctrl);
}
