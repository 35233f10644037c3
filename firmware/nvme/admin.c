/*
 * Admin commands: dispatch, queue commands, Abort, Keep Alive.
 *
 * Leaves out, all with status Invalid Opcode: namespace management, self-test, directives,
 * virtualization, NVMe-MI, Format, security, Sanitize.
 * Source: NVM Express Base Specification 1.4, section 5.
 */
#include "base/assert.h"
#include "base/trace.h"
#include "hal/clock.h"
#include "nvme/nvme_priv.h"

/* Opcodes are few and far between: side by side with their entries, not an index. */
static const struct nvme_op admin_ops[] = {
#define ADMIN_OP(name, handler, op_flags, op_effects) \
    {.run = (handler), .flags = (op_flags), .effects = (op_effects)},
    NVME_ADMIN_OPS(ADMIN_OP)
#undef ADMIN_OP
};
static const uint8_t admin_opcodes[] = {
#define ADMIN_OPCODE(name, handler, op_flags, op_effects) NVME_ADMIN_##name,
    NVME_ADMIN_OPS(ADMIN_OPCODE)
#undef ADMIN_OPCODE
};

/* What depends on the transport and the configuration. */
static bool is_offered(const struct nvme_ctrl *ctrl, uint8_t opcode)
{
    switch (opcode) {
    case NVME_ADMIN_CREATE_CQ:
        return ctrl->ops->create_cq != NULL;
    case NVME_ADMIN_CREATE_SQ:
        return ctrl->ops->create_sq != NULL;
    case NVME_ADMIN_DELETE_CQ:
        return ctrl->ops->delete_cq != NULL;
    case NVME_ADMIN_DELETE_SQ:
        return ctrl->ops->delete_sq != NULL;
    case NVME_ADMIN_DOORBELL_BUFFER_CONFIG:
        return ctrl->config.doorbell_buffers && ctrl->ops->doorbell_buffers != NULL;
    case NVME_ADMIN_KEEP_ALIVE:
        return ctrl->config.keep_alive;
    case NVME_ADMIN_FIRMWARE_COMMIT:
    case NVME_ADMIN_FIRMWARE_DOWNLOAD:
        return nvme_firmware_is_offered(ctrl);
    default:
        return true;
    }
}

const struct nvme_op *nvme_admin_op(const struct nvme_ctrl *ctrl, uint8_t opcode)
{
    if (opcode >= NVME_ADMIN_VENDOR_FIRST) {
        return nvme_vendor_op(ctrl, opcode);
    }
    for (uint32_t i = 0; i < ARRAY_SIZE(admin_ops); i++) {
        if (admin_opcodes[i] == opcode) {
            return is_offered(ctrl, opcode) ? &admin_ops[i] : NULL;
        }
    }
    return NULL;
}

void nvme_submit_admin(struct nvme_cmd *cmd)
{
    struct nvme_ctrl *ctrl = cmd->ctrl;
    const struct nvme_sqe *sqe = &cmd->blk.cmd;
    uint16_t location;

    cmd->step = NVME_STEP_CORE;
    cmd->cancelled = false;
    cmd->error_location = NVME_ERROR_LOCATION_NONE;
    cmd->ns = NULL;
    cmd->blk.meta = NULL;
    cmd->blk.deadline_ns = 0;
    cmd->blk.dw0 = 0;
    cmd->blk.dw1 = 0;
    cmd->blk.data = (struct mem_ref){.space = MEM_SPACE_NONE};
    cmd->blk.dir = NVME_DIR_NONE;
    TRACE(0, ADMIN_FETCH, cmd->blk.fn, cmd->cid, sqe->opcode, sqe->cdw10);

    const struct nvme_op *op = nvme_admin_op(ctrl, sqe->opcode);
    if (op == NULL) {
        nvme_fail(cmd, NVME_SC_INVALID_OPCODE, NVME_AT_OPCODE);
        return;
    }
    /* 4.2: PRPs alone for admin commands over PCIe. */
    uint8_t psdt_allowed = ctrl->config.admin_sgl ? ctrl->psdt_allowed : BIT32(NVME_PSDT_PRP);
    nvme_status_t status = nvme_flags_check(sqe->flags, psdt_allowed, &location);
    if (status != 0) {
        nvme_fail(cmd, status, location);
        return;
    }
    if ((op->flags & NVME_OP_NSID_UNUSED) != 0 && sqe->nsid != 0) {
        nvme_fail(cmd, NVME_SC_INVALID_FIELD, NVME_AT_NSID); /* 4.2, figure 105 */
        return;
    }
    op->run(cmd);
}

/* --- ends ----------------------------------------------------------------------------------- */

/* Entered by transports and by our own handlers: the last word on an admin command. */
void nvme_admin_done(struct nvme_cmd *cmd, nvme_status_t status, uint32_t dw0)
{
    struct nvme_ctrl *ctrl = cmd->ctrl;

    switch (cmd->blk.cmd.opcode) {
    case NVME_ADMIN_ABORT:
        ctrl->abort_count--; /* what did not get as far as being counted ends by nvme_fail() */
        break;
    case NVME_ADMIN_CREATE_CQ:
    case NVME_ADMIN_CREATE_SQ:
        if (status == 0) {
            ctrl->io_queue_created = true;
        }
        break;
    case NVME_ADMIN_SET_FEATURES: /* one alone goes to a transport */
        nvme_features_host_memory_done(cmd, status);
        break;
    default:
        break;
    }
    nvme_admin_end(cmd, status, dw0);
}

void nvme_admin_end(struct nvme_cmd *cmd, nvme_status_t status, uint32_t dw0)
{
    cmd->blk.dw0 = dw0;
    nvme_end(cmd, status);
}

bool nvme_admin_reply(struct nvme_cmd *cmd, uint32_t offset_bytes, uint32_t valid_bytes,
                      uint32_t len_bytes)
{
    uint32_t from_scratch =
        offset_bytes < valid_bytes ? min_u32(valid_bytes - offset_bytes, len_bytes) : 0;

    ASSERT(valid_bytes <= sizeof(cmd->ctrl->scratch));
    cmd->blk.dir = NVME_DIR_FROM_CONTROLLER;
    nvme_status_t status = cmd->ctrl->ops->map(cmd, len_bytes);
    if (status != 0) {
        nvme_admin_end(cmd, status, 0);
        return false;
    }
    uint32_t written = 0;
    if (from_scratch != 0) {
        written = mem_ref_write(&cmd->blk.data, 0, cmd->ctrl->scratch + offset_bytes, from_scratch);
    }
    if (from_scratch < len_bytes) {
        written += mem_ref_zero(&cmd->blk.data, from_scratch, len_bytes - from_scratch);
    }
    if (written != len_bytes) {
        nvme_admin_end(cmd, NVME_SC_DATA_TRANSFER_ERROR, 0);
        return false;
    }
    return true;
}

/* --- queue commands: the transport's -------------------------------------------------------- */

void nvme_admin_create_cq(struct nvme_cmd *cmd)
{
    cmd->ctrl->ops->create_cq(cmd);
}

void nvme_admin_create_sq(struct nvme_cmd *cmd)
{
    cmd->ctrl->ops->create_sq(cmd);
}

void nvme_admin_delete_cq(struct nvme_cmd *cmd)
{
    cmd->ctrl->ops->delete_cq(cmd);
}

void nvme_admin_delete_sq(struct nvme_cmd *cmd)
{
    cmd->ctrl->ops->delete_sq(cmd);
}

void nvme_admin_doorbell_buffers(struct nvme_cmd *cmd)
{
    cmd->ctrl->ops->doorbell_buffers(cmd);
}

/* --- Abort (5.1) ---------------------------------------------------------------------------- */

void nvme_admin_abort(struct nvme_cmd *cmd)
{
    struct nvme_ctrl *ctrl = cmd->ctrl;
    uint16_t sq_id = (uint16_t)FIELD_GET(NVME_ABORT_SQID, cmd->blk.cmd.cdw10);
    uint16_t cid = (uint16_t)FIELD_GET(NVME_ABORT_CID, cmd->blk.cmd.cdw10);

    if (ctrl->abort_count > NVME_ACL) {
        nvme_fail(cmd, NVME_SC_ABORT_LIMIT_EXCEEDED, NVME_ERROR_LOCATION_NONE);
        return;
    }
    ctrl->abort_count++;
    if (ctrl->ops->abort == NULL) {
        nvme_admin_done(cmd, NVME_SC_SUCCESS, 1); /* not aborted */
        return;
    }
    ctrl->ops->abort(cmd, sq_id, cid);
}

/* --- Keep Alive (5.18, 7.12) ---------------------------------------------------------------- */

void nvme_admin_keep_alive(struct nvme_cmd *cmd)
{
    nvme_keep_alive_restart(cmd->ctrl);
    nvme_admin_end(cmd, NVME_SC_SUCCESS, 0);
}

static void keep_alive_expired(struct timer *timer)
{
    struct nvme_ctrl *ctrl = CONTAINER_OF(timer, struct nvme_ctrl, keep_alive);

    nvme_ctrl_log_error(ctrl, 0, 0xffff, NVME_SC_KEEP_ALIVE_EXPIRED, NVME_ERROR_LOCATION_NONE, 0,
                        0);
    if (ctrl->ops->fatal != NULL) {
        ctrl->ops->fatal(ctrl);
    }
}

void nvme_keep_alive_init(struct nvme_ctrl *ctrl)
{
    timer_init(&ctrl->keep_alive, keep_alive_expired);
}

void nvme_keep_alive_restart(struct nvme_ctrl *ctrl)
{
    uint64_t kato_ms = ctrl->features.value[NVME_FEATURE_KEEP_ALIVE];

    if (kato_ms == 0 || !ctrl->enabled || ctrl->is_shut_down) {
        timer_cancel(&ctrl->keep_alive);
        return;
    }
    timer_arm(&ctrl->keep_alive, sched_now_ns() + kato_ms * NS_PER_MS);
}
