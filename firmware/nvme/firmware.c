/*
 * Firmware Image Download (5.12) and Firmware Commit (5.11): pieces of an image and what becomes of
 * them. Where images are kept, which are good ones and what starts them is app's
 * (struct nvme_firmware_ops).
 *
 * A commit that a reset or an Abort takes from its command goes on; the Firmware Slot log tells
 * what became of it. An activation without a reset sends no event (figure 149, Firmware Activation
 * Starting): the host sees commands that take longer. Leaves out: boot partitions.
 * Source: NVM Express Base Specification 1.4, sections 5.11, 5.12, 5.14.1.3.
 */
#include <string.h>
#include "base/assert.h"
#include "nvme/nvme_priv.h"

_Static_assert(NVME_FIRMWARE_UNITS % 64 == 0, "the map has whole words");

bool nvme_firmware_is_offered(const struct nvme_ctrl *ctrl)
{
    return ctrl->config.firmware_ops != NULL;
}

/* --- Firmware Image Download ---------------------------------------------------------------- */

static bool is_received(const struct nvme_firmware *update, uint32_t unit)
{
    return (update->received[unit / 64] >> unit % 64 & 1) != 0;
}

static bool is_any_received(const struct nvme_firmware *update)
{
    uint64_t bits = 0;

    for (uint32_t i = 0; i < ARRAY_SIZE(update->received); i++) {
        bits |= update->received[i];
    }
    return bits != 0;
}

static void forget(struct nvme_firmware *update)
{
    memset(update->received, 0, sizeof(update->received));
}

/* A piece in units of FWUG; the last one of an image may end within a unit. */
struct piece {
    uint32_t offset_bytes;
    uint32_t len_bytes;
    uint32_t first, end; /* units */
};

static bool overlaps(const struct nvme_firmware *update, const struct piece *piece)
{
    for (uint32_t unit = piece->first; unit < piece->end; unit++) {
        if (is_received(update, unit)) {
            return true;
        }
    }
    return false;
}

/* NUMD and OFST (figures 184 and 185), in dwords. 0, or the status and where it lies. */
static nvme_status_t piece_parse(const struct nvme_ctrl *ctrl, const struct nvme_sqe *sqe,
                                 struct piece *piece, uint16_t *location)
{
    uint64_t len_bytes = ((uint64_t)sqe->cdw10 + 1) * 4;
    uint64_t offset_bytes = (uint64_t)sqe->cdw11 * 4;

    if (len_bytes > ctrl->mdts_bytes) {
        *location = NVME_AT_CDW10;
        return NVME_SC_INVALID_FIELD;
    }
    if (!is_aligned(offset_bytes, NVME_FWUG_BYTES) ||
        !range_fits(offset_bytes, len_bytes, LIMIT_FIRMWARE_BYTES)) {
        *location = NVME_AT_CDW11;
        return NVME_SC_INVALID_FIELD;
    }
    *piece = (struct piece){
        .offset_bytes = (uint32_t)offset_bytes,
        .len_bytes = (uint32_t)len_bytes,
        .first = (uint32_t)(offset_bytes / NVME_FWUG_BYTES),
        .end = (uint32_t)((offset_bytes + len_bytes - 1) / NVME_FWUG_BYTES) + 1,
    };
    return NVME_SC_SUCCESS;
}

static void piece_take(struct nvme_cmd *cmd, const struct piece *piece, bool starts_anew)
{
    const struct nvme_ctrl_config *config = &cmd->ctrl->config;
    struct nvme_firmware *update = &cmd->ctrl->firmware_update;

    enum status status =
        config->firmware_ops->receive(config->firmware_ctx, piece->offset_bytes, &cmd->blk.data);
    if (status == STATUS_NO_SPACE) {
        nvme_fail(cmd, NVME_SC_INVALID_FIELD, NVME_AT_CDW11);
        return;
    }
    if (status != STATUS_OK) {
        /* Somebody else's update will end: no DNR. */
        nvme_admin_end(
            cmd, status == STATUS_AGAIN ? NVME_SC_COMMAND_SEQUENCE_ERROR : NVME_SC_INTERNAL_ERROR,
            0);
        return;
    }
    if (starts_anew) {
        forget(update);
    }
    for (uint32_t unit = piece->first; unit < piece->end; unit++) {
        update->received[unit / 64] |= BIT64(unit % 64);
    }
    nvme_admin_end(cmd, NVME_SC_SUCCESS, 0);
}

void nvme_admin_firmware_download(struct nvme_cmd *cmd)
{
    struct nvme_ctrl *ctrl = cmd->ctrl;
    struct nvme_firmware *update = &ctrl->firmware_update;
    struct piece piece;
    uint16_t location;

    nvme_status_t status = piece_parse(ctrl, &cmd->blk.cmd, &piece, &location);
    if (status != 0) {
        nvme_fail(cmd, status, location);
        return;
    }
    /* The start of an image that is there already: a host that begins again, after a download that
     * it did not finish. */
    bool starts_anew = piece.first == 0 && is_received(update, 0);
    if (!starts_anew && overlaps(update, &piece)) {
        nvme_fail(cmd, NVME_SC_OVERLAPPING_RANGE, NVME_AT_CDW11);
        return;
    }
    cmd->blk.dir = NVME_DIR_TO_CONTROLLER;
    status = ctrl->ops->map(cmd, piece.len_bytes);
    if (status != 0) {
        nvme_admin_end(cmd, status, 0);
        return;
    }
    piece_take(cmd, &piece, starts_anew);
}

/* --- Firmware Commit ------------------------------------------------------------------------- */

/* Figure 173, by what firmware_ops say; all others: Internal Error. */
static const nvme_status_t commit_statuses[] = {
    [STATUS_AGAIN] = NVME_SC_COMMAND_SEQUENCE_ERROR, /* it will end: no DNR */
    [STATUS_INVALID] = NVME_SC_INVALID_FIRMWARE_SLOT | NVME_STATUS_DNR,
    [STATUS_EXISTS] = NVME_SC_INVALID_FIRMWARE_SLOT | NVME_STATUS_DNR,
    [STATUS_NOT_FOUND] = NVME_SC_INVALID_FIRMWARE_IMAGE | NVME_STATUS_DNR,
    [STATUS_BAD_DATA] = NVME_SC_INVALID_FIRMWARE_IMAGE | NVME_STATUS_DNR,
    [STATUS_UNSUPPORTED] = NVME_SC_FIRMWARE_PROHIBITED | NVME_STATUS_DNR,
};

static bool activate(struct nvme_ctrl *ctrl)
{
    const struct nvme_firmware_ops *ops = ctrl->config.firmware_ops;

    return ops->activate != NULL && ops->activate(ctrl->config.firmware_ctx) == STATUS_OK;
}

static void commit_end(struct nvme_cmd *cmd, enum status status)
{
    uint32_t action = (uint32_t)FIELD_GET(NVME_FIRMWARE_ACTION, cmd->blk.cmd.cdw10);

    if (status == STATUS_OK) { /* 5.11.1: 11h says that all is done but for the reset */
        bool is_done = action != NVME_FIRMWARE_ACTIVATE_NOW || activate(cmd->ctrl);
        nvme_admin_end(cmd, is_done ? NVME_SC_SUCCESS : NVME_SC_FIRMWARE_NEEDS_RESET, 0);
        return;
    }
    if (status == STATUS_INVALID || status == STATUS_EXISTS) {
        cmd->error_location = NVME_AT_CDW10;
    }
    nvme_status_t code = status < ARRAY_SIZE(commit_statuses) ? commit_statuses[status] : 0;
    nvme_admin_end(cmd, code != 0 ? code : NVME_SC_INTERNAL_ERROR, 0);
}

static void committed(void *arg, enum status status)
{
    struct nvme_ctrl *ctrl = arg;
    struct nvme_firmware *update = &ctrl->firmware_update;
    struct nvme_cmd *cmd = update->commit;

    ASSERT(update->is_busy);
    update->is_busy = false;
    update->commit = NULL;
    if (cmd == NULL) {
        return; /* it was given up, and what was received with it */
    }
    if (update->replaces) {
        forget(update); /* it is in the slot, or of no use */
    }
    commit_end(cmd, status);
}

/* What the Commit Action means; false: there is no such action here. */
static bool action_parse(uint32_t action, bool has_image, uint32_t *what)
{
    switch (action) {
    case NVME_FIRMWARE_REPLACE:
        *what = NVME_FIRMWARE_DO_REPLACE;
        return true;
    case NVME_FIRMWARE_REPLACE_AND_ACTIVATE:
        *what = NVME_FIRMWARE_DO_REPLACE | NVME_FIRMWARE_DO_ACTIVATE;
        return true;
    case NVME_FIRMWARE_ACTIVATE:
        *what = NVME_FIRMWARE_DO_ACTIVATE;
        return true;
    case NVME_FIRMWARE_ACTIVATE_NOW:
        *what = NVME_FIRMWARE_DO_ACTIVATE | (has_image ? NVME_FIRMWARE_DO_REPLACE : 0);
        return true;
    default:
        return false;
    }
}

void nvme_admin_firmware_commit(struct nvme_cmd *cmd)
{
    const struct nvme_ctrl_config *config = &cmd->ctrl->config;
    struct nvme_firmware *update = &cmd->ctrl->firmware_update;
    uint32_t slot = (uint32_t)FIELD_GET(NVME_FIRMWARE_SLOT, cmd->blk.cmd.cdw10);
    uint32_t action = (uint32_t)FIELD_GET(NVME_FIRMWARE_ACTION, cmd->blk.cmd.cdw10);
    bool has_image = is_any_received(update);
    uint32_t what;

    if (!action_parse(action, has_image, &what)) {
        nvme_fail(cmd, NVME_SC_INVALID_FIELD, NVME_AT_CDW10);
        return;
    }
    if (slot > config->firmware_ops->slot_count) {
        commit_end(cmd, STATUS_INVALID);
        return;
    }
    if (update->is_busy) {
        commit_end(cmd, STATUS_AGAIN);
        return;
    }
    update->replaces = (what & NVME_FIRMWARE_DO_REPLACE) != 0;
    if (update->replaces && !has_image) {
        commit_end(cmd, STATUS_NOT_FOUND);
        return;
    }
    update->is_busy = true;
    update->commit = cmd;
    cmd->step = NVME_STEP_FIRMWARE;
    enum status status = config->firmware_ops->commit(config->firmware_ctx, what, (uint8_t)slot,
                                                      committed, cmd->ctrl);
    if (status != STATUS_OK) {
        update->is_busy = false;
        update->commit = NULL;
        commit_end(cmd, status);
    }
}

/* --- the controller's life ------------------------------------------------------------------- */

void nvme_firmware_cancel(struct nvme_cmd *cmd)
{
    ASSERT(cmd->ctrl->firmware_update.commit == cmd);
    cmd->ctrl->firmware_update.commit = NULL;
    forget(&cmd->ctrl->firmware_update);
    nvme_admin_end(cmd, NVME_SC_ABORT_REQUESTED, 0);
}

/* Figure 148, Firmware Image Load Error: to each host once. */
void nvme_firmware_enable(struct nvme_ctrl *ctrl)
{
    struct nvme_firmware_report report = {0};

    if (!nvme_firmware_is_offered(ctrl) || ctrl->firmware_update.failure_told) {
        return;
    }
    ctrl->config.firmware_ops->report(ctrl->config.firmware_ctx, &report);
    if (report.load_failed) {
        ctrl->firmware_update.failure_told = true;
        nvme_ctrl_log_error(ctrl, 0xffff, 0xffff, NVME_SC_INVALID_FIRMWARE_IMAGE,
                            NVME_ERROR_LOCATION_NONE, 0, 0);
        nvme_ctrl_event(ctrl, NVME_EVENT_ERROR, NVME_EVENT_ERROR_FIRMWARE_LOAD, NVME_LOG_ERROR);
    }
}

void nvme_firmware_disable(struct nvme_ctrl *ctrl)
{
    if (!nvme_firmware_is_offered(ctrl)) {
        return;
    }
    forget(&ctrl->firmware_update); /* 5.11: a reset discards what was downloaded */
    ctrl->config.firmware_ops->disabled(ctrl->config.firmware_ctx);
}
