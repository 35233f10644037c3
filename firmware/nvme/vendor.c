/*
 * Vendor commands: a message from the host, and the answer to it (docs/spec/mgmt.md). What messages
 * mean is the business of who gave the ops.
 *
 * Source: NVM Express Base Specification 1.4, figure 106 (format), 8.1.
 */
#include <string.h>
#include "nvme/nvme_priv.h"

/* cdw10 says how many dwords go which way; false: the command has ended. */
static bool length_take(struct nvme_cmd *cmd, uint32_t *len_bytes)
{
    const struct nvme_sqe *sqe = &cmd->blk.cmd;

    if (sqe->cdw10 == 0 || sqe->cdw10 > NVME_VENDOR_BYTES / 4) {
        nvme_fail(cmd, NVME_SC_INVALID_FIELD, NVME_AT_CDW10);
        return false;
    }
    if (sqe->cdw11 != 0) { /* there is no metadata */
        nvme_fail(cmd, NVME_SC_INVALID_FIELD, NVME_AT_CDW11);
        return false;
    }
    *len_bytes = sqe->cdw10 * 4;
    return true;
}

static void vendor_send(struct nvme_cmd *cmd)
{
    struct nvme_ctrl *ctrl = cmd->ctrl;
    uint32_t len_bytes;

    if (!length_take(cmd, &len_bytes)) {
        return;
    }
    cmd->blk.dir = NVME_DIR_TO_CONTROLLER;
    nvme_status_t status = ctrl->ops->map(cmd, len_bytes);
    if (status == 0 && mem_ref_read(&cmd->blk.data, 0, ctrl->scratch, len_bytes) != len_bytes) {
        status = NVME_SC_DATA_TRANSFER_ERROR;
    }
    if (status == 0) {
        ctrl->vendor_answer_bytes = ctrl->config.vendor->serve(ctrl->config.fn, ctrl->scratch,
                                                               len_bytes, ctrl->vendor_answer);
    }
    nvme_admin_end(cmd, status, 0);
}

static void vendor_receive(struct nvme_cmd *cmd)
{
    struct nvme_ctrl *ctrl = cmd->ctrl;
    uint32_t len_bytes;

    if (!length_take(cmd, &len_bytes)) {
        return;
    }
    if (ctrl->vendor_answer_bytes == 0) {
        nvme_fail(cmd, NVME_SC_COMMAND_SEQUENCE_ERROR, NVME_ERROR_LOCATION_NONE);
        return;
    }
    memcpy(ctrl->scratch, ctrl->vendor_answer, ctrl->vendor_answer_bytes);
    if (nvme_admin_reply(cmd, 0, ctrl->vendor_answer_bytes, len_bytes)) {
        nvme_admin_end(cmd, NVME_SC_SUCCESS, ctrl->vendor_answer_bytes);
    }
}

const struct nvme_op *nvme_vendor_op(const struct nvme_ctrl *ctrl, uint8_t opcode)
{
    static const struct nvme_op send = {.run = vendor_send, .flags = NVME_OP_NSID_UNUSED};
    static const struct nvme_op receive = {.run = vendor_receive, .flags = NVME_OP_NSID_UNUSED};

    return ctrl->config.vendor == NULL           ? NULL
           : opcode == NVME_ADMIN_VENDOR_SEND    ? &send
           : opcode == NVME_ADMIN_VENDOR_RECEIVE ? &receive
                                                 : NULL;
}
