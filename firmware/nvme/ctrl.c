/*
 * The controller as a whole: made, enabled, disabled, shut down; commands cancelled.
 *
 * Source: NVM Express Base Specification 1.4, sections 3.1.5, 7.3, 7.6.
 */
#include <string.h>
#include "base/assert.h"
#include "hal/clock.h"
#include "nvme/nvme_priv.h"

#define SUBNQN_BYTES_MAX 223

/* --- made ----------------------------------------------------------------------------------- */

/* Copies a string and pads it with `pad`. INVALID: it is missing, empty, too long, or not printable
 * ASCII. */
static enum status string_fill(char *to, size_t to_bytes, size_t max_bytes, const char *from,
                               char pad)
{
    size_t len_bytes = 0;

    if (from == NULL) {
        return STATUS_INVALID;
    }
    for (; from[len_bytes] != '\0'; len_bytes++) {
        if (len_bytes == max_bytes || from[len_bytes] < 0x20 || from[len_bytes] > 0x7e) {
            return STATUS_INVALID;
        }
    }
    if (len_bytes == 0) {
        return STATUS_INVALID;
    }
    memset(to, pad, to_bytes);
    memcpy(to, from, len_bytes);
    return STATUS_OK;
}

static bool is_valid(const struct nvme_ctrl_config *config)
{
    return config->ops != NULL && config->ops->map != NULL && config->ops->complete != NULL &&
           config->io_queue_count >= 1 && config->io_queue_count <= LIMIT_IO_QUEUES &&
           config->vector_count >= 1 && config->vector_count <= LIMIT_VECTORS &&
           config->namespace_count <= LIMIT_NAMESPACES && config->mdts >= 1 &&
           config->mdts <= LIMIT_MDTS && config->hmb_min_bytes <= config->hmb_preferred_bytes &&
           (config->firmware_ops == NULL ||
            (config->firmware_ops->slot_count >= 1 &&
             config->firmware_ops->slot_count <= NVME_FIRMWARE_SLOTS));
}

static void shutdown_timed_out(struct timer *timer);
static void shutdown_again(struct msg *msg);

enum status nvme_ctrl_init(struct nvme_ctrl_memory *memory, const struct nvme_ctrl_config *config,
                           struct nvme_ctrl **out)
{
    struct nvme_ctrl *ctrl = (struct nvme_ctrl *)(void *)memory->bytes;

    if (!is_valid(config)) {
        return STATUS_INVALID;
    }
    memset(ctrl, 0, sizeof(*ctrl));
    if (string_fill(ctrl->serial, sizeof(ctrl->serial), 20, config->serial, ' ') != STATUS_OK ||
        string_fill(ctrl->model, sizeof(ctrl->model), 40, config->model, ' ') != STATUS_OK ||
        string_fill(ctrl->firmware, sizeof(ctrl->firmware), 8, config->firmware, ' ') !=
            STATUS_OK ||
        string_fill(ctrl->subnqn, sizeof(ctrl->subnqn), SUBNQN_BYTES_MAX, config->subnqn, '\0') !=
            STATUS_OK) {
        return STATUS_INVALID;
    }
    ctrl->config = *config;
    ctrl->ops = config->ops;
    ctrl->ns_count = config->namespace_count != 0 ? config->namespace_count : LIMIT_NAMESPACES;
    ctrl->mdts_bytes = UINT32_C(4096) << config->mdts;
    /* MPTR as an SGL segment (PSDT 10b) is not offered: SGLS bit 19 is clear. */
    ctrl->psdt_allowed = BIT32(NVME_PSDT_PRP) | (config->sgl ? BIT32(NVME_PSDT_SGL_MPTR) : 0);
    ctrl->plain_flags = config->sgl ? NVME_PSDT_SGL_MPTR << (8 + NVME_SQE_PSDT_SHIFT) : 0;
    ctrl->start_ns = clock_now_ns();
    timer_init(&ctrl->shutdown.timer, shutdown_timed_out);
    ctrl->shutdown.msg.fn = shutdown_again;
    nvme_keep_alive_init(ctrl);
    nvme_events_init(ctrl);
    nvme_io_init(ctrl);
    nvme_ns_init(ctrl);
    nvme_features_reset(ctrl);
    *out = ctrl;
    return STATUS_OK;
}

void *nvme_ctrl_transport(struct nvme_ctrl *ctrl)
{
    return ctrl->config.transport;
}

/* --- enabled and disabled (3.1.5, 7.3) ------------------------------------------------------ */

void nvme_ctrl_enable(struct nvme_ctrl *ctrl)
{
    ctrl->enabled = true;
    ctrl->is_shut_down = false;
    ctrl->holds_events = false;
    ctrl->io_queue_created = false;
    ctrl->abort_count = 0;
    ctrl->vendor_answer_bytes = 0;
    nvme_features_reset(ctrl);
    nvme_events_reset(ctrl);
    memset(ctrl->changed_ns, 0, sizeof(ctrl->changed_ns));
    nvme_firmware_enable(ctrl);
}

void nvme_ctrl_disable(struct nvme_ctrl *ctrl)
{
    ctrl->enabled = false;
    timer_cancel(&ctrl->keep_alive);
    nvme_events_reset(ctrl);
    /* Nobody waits for a shutdown any more; what it has under way ends in its own time. */
    timer_cancel(&ctrl->shutdown.timer);
    ctrl->shutdown.done = NULL;
    ctrl->shutdown.again = false;
    if (ctrl->shutdown.busy) {
        nvme_cancel(&ctrl->shutdown.cmd);
    }
    nvme_firmware_disable(ctrl);
}

/* --- shutdown (7.6.2) ----------------------------------------------------------------------- */

static void shutdown_answer(struct nvme_ctrl *ctrl)
{
    void (*done)(void *arg) = ctrl->shutdown.done;

    timer_cancel(&ctrl->shutdown.timer);
    ctrl->shutdown.done = NULL;
    if (done != NULL) {
        done(ctrl->shutdown.arg);
    }
}

static void shutdown_timed_out(struct timer *timer)
{
    struct nvme_shutdown *shutdown = CONTAINER_OF(timer, struct nvme_shutdown, timer);
    struct nvme_ctrl *ctrl = CONTAINER_OF(shutdown, struct nvme_ctrl, shutdown);

    if (shutdown->busy) {
        nvme_cancel(&shutdown->cmd); /* its end finds nobody to tell */
    }
    shutdown_answer(ctrl);
}

static void shutdown_start(struct nvme_ctrl *ctrl)
{
    struct nvme_cmd *cmd = &ctrl->shutdown.cmd;

    memset(cmd, 0, sizeof(*cmd));
    cmd->ctrl = ctrl;
    cmd->blk.fn = ctrl->config.fn;
    cmd->blk.cmd.nsid = NVME_NSID_ALL;
    ctrl->shutdown.busy = true;
    nvme_flush_all(cmd);
}

/* In a turn of its own, not inside the end of the flush that was given up. */
static void shutdown_again(struct msg *msg)
{
    struct nvme_shutdown *shutdown = CONTAINER_OF(msg, struct nvme_shutdown, msg);
    struct nvme_ctrl *ctrl = CONTAINER_OF(shutdown, struct nvme_ctrl, shutdown);

    shutdown->busy = false;
    if (shutdown->again) {
        shutdown->again = false;
        shutdown_start(ctrl);
    }
}

void nvme_ctrl_shutdown(struct nvme_ctrl *ctrl, void (*done)(void *arg), void *arg)
{
    ctrl->is_shut_down = true;
    timer_cancel(&ctrl->keep_alive); /* the host need not speak any more */
    ctrl->shutdown.done = done;
    ctrl->shutdown.arg = arg;
    timer_arm(&ctrl->shutdown.timer, sched_now_ns() + NVME_SHUTDOWN_MS * NS_PER_MS);
    if (ctrl->shutdown.busy) {
        ctrl->shutdown.again = true; /* a flush that was given up says nothing about later writes */
        return;
    }
    shutdown_start(ctrl);
}

/* The end of a flush of all namespaces: of a Flush command, a Set Features, or a shutdown. */
void nvme_flush_all_done(struct nvme_cmd *cmd, nvme_status_t status)
{
    struct nvme_ctrl *ctrl = cmd->ctrl;

    if (cmd != &ctrl->shutdown.cmd) {
        nvme_end(cmd, status);
        return;
    }
    ctrl->shutdown.busy = false;
    if (ctrl->shutdown.again) {
        ctrl->shutdown.busy = true; /* until the message arrives */
        msg_send(0, &ctrl->shutdown.msg);
        return;
    }
    shutdown_answer(ctrl);
}

/* --- cancel --------------------------------------------------------------------------------- */

void nvme_cancel(struct nvme_cmd *cmd)
{
    cmd->cancelled = true;
    switch ((enum nvme_step)cmd->step) {
    case NVME_STEP_DEVICE:
        blk_cancel(cmd->ns->dev, &cmd->blk);
        break;
    case NVME_STEP_BUFFER:
        nvme_dsm_cancel(cmd);
        break;
    case NVME_STEP_EVENT:
        nvme_event_cancel(cmd);
        break;
    case NVME_STEP_FIRMWARE:
        nvme_firmware_cancel(cmd);
        break;
    case NVME_STEP_CORE:
    case NVME_STEP_FLUSH:
    case NVME_STEP_FLUSHED:
        break; /* it ends by itself, without anything outside that could hang */
    }
}
