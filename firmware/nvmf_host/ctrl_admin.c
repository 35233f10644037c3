/*
 * Commands of a state machine on an admin queue: one with data and one for properties at a time,
 * asked for again and again until there is an answer. Leaves out what is nobody's step: Keep Alive,
 * asynchronous events, aborts.
 *
 * Source: NVMe over Fabrics 1.1, sections 3.4 and 3.5 (properties); NVMe Base 1.4, section 3.1.
 */
#include "nvmf_host/ctrl_priv.h"

#define LOOK_NS (10 * NS_PER_MS) /* between two reads of CSTS */

_Static_assert(sizeof(struct nvmf_property_sqe) == sizeof(struct nvme_sqe), "both are capsules");

static void on_done(struct nvmf_cmd *cmd)
{
    struct nvmf_call *call = cmd->ctx;

    call->is_done = true;
    call->admin->wake(call->admin);
}

static enum nvmf_step run(struct nvmf_admin *admin, struct nvmf_call *call,
                          const struct nvme_sqe *sqe, uint32_t len_bytes)
{
    if (!call->is_issued) {
        call->admin = admin;
        call->is_issued = true;
        call->is_done = false;
        call->cmd =
            (struct nvmf_cmd){.sqe = *sqe,
                              .data = len_bytes != 0 ? admin->scratch.memory : NULL,
                              .len_bytes = len_bytes,
                              .dir = len_bytes != 0 ? NVME_DIR_FROM_CONTROLLER : NVME_DIR_NONE,
                              .timeout_ns = admin->timeout_ns,
                              .done = on_done,
                              .ctx = call};
        nvmf_queue_exec(admin->queue, &call->cmd);
        return NVMF_STEP_WAIT; /* also when it is done: one more turn */
    }
    if (!call->is_done) {
        return NVMF_STEP_WAIT;
    }
    call->is_issued = false;
    if (call->cmd.is_path_error) {
        return NVMF_STEP_LOST;
    }
    return NVME_STATUS_CODE(call->cmd.status) == 0 ? NVMF_STEP_OK : NVMF_STEP_ERROR;
}

enum nvmf_step nvmf_admin_step(struct nvmf_admin *admin, const struct nvme_sqe *sqe,
                               uint32_t len_bytes)
{
    enum nvmf_step step = run(admin, &admin->step, sqe, len_bytes);

    if (step == NVMF_STEP_OK && len_bytes != 0) {
        memcpy(admin->data, admin->scratch.memory, len_bytes);
    }
    return step;
}

enum nvmf_step nvmf_admin_identify(struct nvmf_admin *admin, uint32_t cns, uint32_t nsid)
{
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_IDENTIFY, .nsid = nsid, .cdw10 = cns};

    return nvmf_admin_step(admin, &sqe, NVME_IDENTIFY_BYTES);
}

enum nvmf_step nvmf_admin_get_log(struct nvmf_admin *admin, uint8_t page, uint64_t offset_bytes,
                                  uint32_t len_bytes)
{
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_GET_LOG_PAGE,
                           .nsid = page == NVMF_LOG_DISCOVERY ? 0 : NVME_NSID_ALL,
                           .cdw10 = (uint32_t)FIELD_PREP(NVME_LOG_LID, page) |
                                    (uint32_t)FIELD_PREP(NVME_LOG_NUMDL, len_bytes / 4 - 1),
                           .cdw12 = (uint32_t)offset_bytes,
                           .cdw13 = (uint32_t)(offset_bytes >> 32)};

    return nvmf_admin_step(admin, &sqe, len_bytes);
}

/* --- properties ----------------------------------------------------------------------------- */

static enum nvmf_step property(struct nvmf_admin *admin, enum nvmf_fctype fctype, uint32_t offset,
                               uint8_t attrib, uint64_t value)
{
    const struct nvmf_property_sqe property = {.opcode = NVMF_OPCODE,
                                               .fctype = (uint8_t)fctype,
                                               .attrib = attrib,
                                               .offset = offset,
                                               .value = value};
    struct nvme_sqe sqe;

    memcpy(&sqe, &property, sizeof(sqe));
    return run(admin, &admin->property, &sqe, 0);
}

enum nvmf_step nvmf_admin_get(struct nvmf_admin *admin, uint32_t offset, bool is_8_bytes)
{
    enum nvmf_step step = property(admin, NVMF_PROPERTY_GET, offset,
                                   is_8_bytes ? NVMF_PROPERTY_8_BYTES : NVMF_PROPERTY_4_BYTES, 0);

    if (step == NVMF_STEP_OK) {
        const struct nvme_cqe *cqe = &admin->property.cmd.cqe;
        admin->value = is_8_bytes ? (uint64_t)cqe->dw1 << 32 | cqe->dw0 : cqe->dw0;
    }
    return step;
}

enum nvmf_step nvmf_admin_set_cc(struct nvmf_admin *admin, uint32_t cc, uint32_t mask,
                                 uint32_t want, uint64_t *look_ns)
{
    enum nvmf_step step;

    *look_ns = UINT64_MAX;
    if (admin->cc_phase == NVMF_CC_SET) {
        step = property(admin, NVMF_PROPERTY_SET, NVME_REG_CC, NVMF_PROPERTY_4_BYTES, cc);
        if (step != NVMF_STEP_OK) {
            return step;
        }
        admin->cc_phase = NVMF_CC_GET;
    }
    if (admin->cc_phase == NVMF_CC_PAUSE) {
        if (sched_now_ns() < admin->look_ns) {
            *look_ns = admin->look_ns;
            return NVMF_STEP_WAIT;
        }
        admin->cc_phase = NVMF_CC_GET;
    }
    step = nvmf_admin_get(admin, NVME_REG_CSTS, false);
    if (step != NVMF_STEP_OK) {
        return step;
    }
    if ((admin->value & mask) == want) {
        admin->cc_phase = NVMF_CC_SET;
        return NVMF_STEP_OK;
    }
    admin->cc_phase = NVMF_CC_PAUSE;
    admin->look_ns = sched_now_ns() + LOOK_NS;
    *look_ns = admin->look_ns;
    return NVMF_STEP_WAIT;
}

void nvmf_admin_reset(struct nvmf_admin *admin)
{
    admin->step.is_issued = false;
    admin->property.is_issued = false;
    admin->cc_phase = NVMF_CC_SET;
    admin->value = 0;
}

/* --- text ----------------------------------------------------------------------------------- */

void nvmf_text_copy(char *to, const void *from, uint32_t len_bytes)
{
    const uint8_t *bytes = from;
    uint32_t end = 0;

    for (uint32_t i = 0; i < len_bytes && bytes[i] != 0; i++) {
        to[i] = bytes[i] >= 0x20 && bytes[i] < 0x7f ? (char)bytes[i] : '?';
        if (bytes[i] != ' ') {
            end = i + 1;
        }
    }
    to[end] = '\0';
}
