#include "tests/unit/nvmf_ctrl/fake_ctrl.h"

#include <string.h>
#include "base/assert.h"
#include "hal/clock.h"

/* sqe.cid is the queue's to fill in: here it marks commands that were looked at. */
#define FRESH   0
#define WAITING 1
#define MUTE    2
#define TOLD    3

struct fake_target *fake_target_add(uint16_t port)
{
    struct fake_target *t = &fake.targets[fake.target_count++];

    ASSERT(fake.target_count <= FAKE_TARGETS);
    memset(t, 0, sizeof(*t));
    t->port = port;
    t->cap = UINT64_C(1) << NVME_CAP_CSS_SHIFT | 1023 | UINT64_C(2) << NVME_CAP_TO_SHIFT; /* 1 s */
    t->vs = 0x10300;
    memset(t->id.sn, ' ', sizeof(t->id.sn));
    memcpy(t->id.sn, "S1", 2);
    memset(t->id.mn, ' ', sizeof(t->id.mn));
    memcpy(t->id.mn, "Model", 5);
    memset(t->id.fr, ' ', sizeof(t->id.fr));
    memcpy(t->id.fr, "1.0", 3);
    t->id.mdts = 5;
    t->id.oaes = NVME_OAES_NS_ATTRIBUTE;
    t->id.ctratt = NVMF_CTRATT_TBKAS;
    t->id.cntrltype = NVME_CTRLTYPE_IO;
    t->id.acl = 3;
    t->id.aerl = 3;
    t->id.kas = 10;
    t->id.sqes = 0x66;
    t->id.cqes = 0x44;
    t->id.maxcmd = 128;
    t->id.oncs = NVME_ONCS_WRITE_ZEROES | NVME_ONCS_DSM;
    t->id.vwc = NVME_VWC_PRESENT;
    t->id.sgls = NVME_SGLS_SUPPORTED | NVMF_SGLS_KEYED | NVMF_SGLS_OFFSETS;
    t->id_fabrics.ioccsz = (64 + 4096) / 16;
    t->id_fabrics.iorcsz = 1;
    t->id_fabrics.msdbd = 1;
    t->queues_granted = 7 << 16 | 7;
    t->aer_limit = 4;
    t->cntlid = 0x10;
    t->fault_opcode = -1;
    t->fault_fctype = -1;
    t->fault_cdw10 = -1;
    return t;
}

struct fake_ns *fake_ns_add(struct fake_target *t, uint32_t nsid, uint8_t mark, uint64_t lba_count)
{
    uint32_t at = t->ns_count++;

    ASSERT(t->ns_count <= FAKE_NS);
    while (at > 0 && t->ns[at - 1].nsid > nsid) {
        t->ns[at] = t->ns[at - 1];
        at--;
    }
    struct fake_ns *ns = &t->ns[at];
    memset(ns, 0, sizeof(*ns));
    ns->nsid = nsid;
    ns->id.nsze = lba_count;
    ns->id.ncap = lba_count;
    ns->id.lbaf[0].lba_shift = 12;
    ns->nguid[0] = mark;
    ns->nguid[14] = (uint8_t)(nsid >> 8);
    ns->nguid[15] = (uint8_t)nsid;
    memcpy(ns->uuid, ns->nguid, 16);
    ns->uuid[1] = 0xee;
    return ns;
}

void fake_ns_remove(struct fake_target *t, uint32_t nsid)
{
    for (uint32_t i = 0; i < t->ns_count; i++) {
        if (t->ns[i].nsid == nsid) {
            memmove(&t->ns[i], &t->ns[i + 1], (t->ns_count - i - 1) * sizeof(t->ns[0]));
            t->ns_count--;
            return;
        }
    }
    ASSERT(false);
}

void fake_ctrl_connect(struct fake_target *t)
{
    t->cntlid++;
    t->id.cntlid = t->cntlid;
    t->cc = 0;
    t->csts = 0;
    t->aer_count = 0;
}

void fake_ctrl_forget(struct fake_target *t)
{
    t->aer_count = 0;
    memset(t->aers, 0, sizeof(t->aers));
}

void fake_ctrl_drop(struct fake_target *t, struct nvmf_cmd *cmd)
{
    for (uint32_t i = 0; t != NULL && i < 16; i++) {
        if (t->aers[i] == cmd) {
            t->aers[i] = NULL;
        }
    }
}

/* --- answers -------------------------------------------------------------------------------- */

static enum fake_result answer(struct nvmf_cmd *cmd, nvme_status_t status, uint32_t dw0)
{
    cmd->status = status;
    cmd->cqe.dw0 = dw0;
    return FAKE_DONE;
}

static enum fake_result give(struct nvmf_cmd *cmd, const void *data, uint32_t len_bytes)
{
    ASSERT(cmd->dir == NVME_DIR_FROM_CONTROLLER && cmd->data != NULL);
    memset(cmd->data, 0xa5, cmd->len_bytes);
    memcpy(cmd->data, data, len_bytes < cmd->len_bytes ? len_bytes : cmd->len_bytes);
    return answer(cmd, 0, 0);
}

static const struct fake_ns *find_ns(const struct fake_target *t, uint32_t nsid)
{
    for (uint32_t i = 0; i < t->ns_count; i++) {
        if (t->ns[i].nsid == nsid) {
            return &t->ns[i];
        }
    }
    return NULL;
}

static uint8_t *put_id(uint8_t *at, uint8_t type, const uint8_t *id, uint8_t len_bytes)
{
    at[0] = type;
    at[1] = len_bytes;
    memcpy(at + 4, id, len_bytes);
    return at + 4 + len_bytes;
}

static enum fake_result identify(struct fake_target *t, struct nvmf_cmd *cmd)
{
    static const uint8_t none[16];
    uint8_t page[4096] = {0};
    const struct fake_ns *ns = find_ns(t, cmd->sqe.nsid);
    uint32_t nsids[1024] = {0};
    uint32_t count = 0;

    t->identify_count++;
    ASSERT(cmd->len_bytes == 4096);
    switch (cmd->sqe.cdw10 & 0xff) {
    case NVME_CNS_CTRL:
        memcpy(t->id.reserved1792_fabrics, &t->id_fabrics, sizeof(t->id_fabrics));
        return give(cmd, &t->id, sizeof(t->id));
    case NVME_CNS_ACTIVE_NS_LIST:
        for (uint32_t i = 0; i < t->ns_count && count < 1024; i++) {
            if (t->ns[i].nsid > cmd->sqe.nsid) {
                nsids[count++] = t->ns[i].nsid;
            }
        }
        return give(cmd, nsids, sizeof(nsids));
    case NVME_CNS_NS:
        return ns == NULL ? give(cmd, page, sizeof(page)) : give(cmd, &ns->id, sizeof(ns->id));
    case NVME_CNS_NS_DESCRIPTORS:
        if (ns == NULL) {
            return answer(cmd, NVME_SC_INVALID_NS_OR_FORMAT | NVME_STATUS_DNR, 0);
        }
        if (t->has_descriptor_list) {
            memcpy(page, t->descriptor_list, sizeof(t->descriptor_list));
        } else {
            uint8_t *at = page;
            if (memcmp(ns->eui64, none, 8) != 0) {
                at = put_id(at, NVME_NIDT_EUI64, ns->eui64, 8);
            }
            if (memcmp(ns->nguid, none, 16) != 0) {
                at = put_id(at, NVME_NIDT_NGUID, ns->nguid, 16);
            }
            if (memcmp(ns->uuid, none, 16) != 0) {
                (void)put_id(at, NVME_NIDT_UUID, ns->uuid, 16);
            }
        }
        return give(cmd, page, sizeof(page));
    default:
        return answer(cmd, NVME_SC_INVALID_FIELD | NVME_STATUS_DNR, 0);
    }
}

static enum fake_result get_log(struct fake_target *t, struct nvmf_cmd *cmd)
{
    uint8_t page = (uint8_t)cmd->sqe.cdw10;
    uint64_t offset = (uint64_t)cmd->sqe.cdw13 << 32 | cmd->sqe.cdw12;
    uint8_t zeros[4096] = {0};

    ASSERT((FIELD_GET(NVME_LOG_NUMDL, cmd->sqe.cdw10) + 1) * 4 == cmd->len_bytes);
    t->log_count[page]++;
    if (page != NVMF_LOG_DISCOVERY) {
        return give(cmd, zeros, sizeof(zeros));
    }
    ASSERT(offset + cmd->len_bytes <= sizeof(t->log));
    if (offset != 0 && t->log_change_count > 0) {
        t->log_change_count--;
        t->log[0][0]++; /* GENCTR */
    }
    return give(cmd, (const uint8_t *)t->log + offset, cmd->len_bytes);
}

static void set_cc(struct fake_target *t, uint32_t cc)
{
    uint32_t old = t->cc;

    t->cc = cc;
    if ((cc & NVME_CC_EN) != (old & NVME_CC_EN) || FIELD_GET(NVME_CC_SHN, cc) != 0) {
        t->csts_due_ns = clock_now_ns() + t->ready_delay_ns;
    }
}

static uint32_t csts(struct fake_target *t)
{
    if (clock_now_ns() >= t->csts_due_ns) {
        bool is_on = (t->cc & NVME_CC_EN) != 0;
        if (is_on ? !t->never_ready : !t->never_idle) {
            t->csts = is_on ? NVME_CSTS_RDY : 0;
        }
        if (FIELD_GET(NVME_CC_SHN, t->cc) != 0 && !t->never_shut) {
            t->csts |= NVME_SHST_COMPLETE << NVME_CSTS_SHST_SHIFT;
        }
    }
    return t->csts | (t->is_fatal ? NVME_CSTS_CFS : 0);
}

static enum fake_result fabrics(struct fake_target *t, struct nvmf_cmd *cmd)
{
    struct nvmf_property_sqe sqe;

    memcpy(&sqe, &cmd->sqe, sizeof(sqe));
    if (sqe.fctype == NVMF_PROPERTY_SET) {
        ASSERT(sqe.offset == NVME_REG_CC && sqe.attrib == NVMF_PROPERTY_4_BYTES);
        set_cc(t, (uint32_t)sqe.value);
        return answer(cmd, 0, 0);
    }
    ASSERT(sqe.fctype == NVMF_PROPERTY_GET);
    if (sqe.offset == NVME_REG_CAP) {
        ASSERT(sqe.attrib == NVMF_PROPERTY_8_BYTES);
        cmd->cqe.dw1 = (uint32_t)(t->cap >> 32);
        return answer(cmd, 0, (uint32_t)t->cap);
    }
    ASSERT(sqe.attrib == NVMF_PROPERTY_4_BYTES);
    ASSERT(sqe.offset == NVME_REG_VS || sqe.offset == NVME_REG_CSTS);
    return answer(cmd, 0, sqe.offset == NVME_REG_VS ? t->vs : csts(t));
}

static enum fake_result event_request(struct fake_target *t, struct nvmf_cmd *cmd)
{
    if (t->aer_count >= t->aer_limit) {
        return answer(cmd, NVME_SC_AER_LIMIT_EXCEEDED | NVME_STATUS_DNR, 0);
    }
    for (uint32_t i = 0; i < 16; i++) {
        if (t->aers[i] == NULL) {
            t->aers[i] = cmd;
            t->aer_count++;
            t->aer_max = t->aer_count > t->aer_max ? t->aer_count : t->aer_max;
            return FAKE_WAIT;
        }
    }
    ASSERT(false);
    return FAKE_WAIT;
}

bool fake_event(struct fake_target *t, uint32_t dw0)
{
    for (uint32_t i = 0; i < 16; i++) {
        if (t->aers[i] != NULL) {
            (void)answer(t->aers[i], 0, dw0);
            t->aers[i]->sqe.cid = TOLD;
            t->aers[i] = NULL;
            t->aer_count--;
            return true;
        }
    }
    return false;
}

static enum fake_result execute(struct fake_target *t, struct nvmf_cmd *cmd)
{
    switch (cmd->sqe.opcode) {
    case NVMF_OPCODE:
        return fabrics(t, cmd);
    case NVME_ADMIN_IDENTIFY:
        return identify(t, cmd);
    case NVME_ADMIN_GET_LOG_PAGE:
        return get_log(t, cmd);
    case NVME_ADMIN_SET_FEATURES:
        if ((cmd->sqe.cdw10 & 0xff) == NVME_FEATURE_QUEUES) {
            return answer(cmd, 0, t->queues_granted);
        }
        ASSERT((cmd->sqe.cdw10 & 0xff) == NVME_FEATURE_ASYNC_EVENT);
        t->aen_config = cmd->sqe.cdw11;
        return answer(cmd, 0, 0);
    case NVME_ADMIN_KEEP_ALIVE:
        t->keep_alive_count++;
        return t->no_keep_alive ? FAKE_WAIT : answer(cmd, 0, 0);
    case NVME_ADMIN_ASYNC_EVENT:
        return event_request(t, cmd);
    case NVME_ADMIN_ABORT:
        t->abort_count++;
        t->abort_sqid = (uint16_t)cmd->sqe.cdw10;
        t->abort_cid = (uint16_t)(cmd->sqe.cdw10 >> 16);
        return t->silent_abort == 1 ? FAKE_WAIT : answer(cmd, 0, t->silent_abort == 2);
    default:
        return answer(cmd, NVME_SC_INVALID_OPCODE | NVME_STATUS_DNR, 0);
    }
}

static bool is_hit(struct fake_target *t, const struct nvmf_cmd *cmd)
{
    uint8_t opcode = cmd->sqe.opcode;

    if (opcode != NVME_ADMIN_KEEP_ALIVE && opcode != NVME_ADMIN_ASYNC_EVENT &&
        ++t->command_count == t->fault_number) {
        return true;
    }
    return t->fault_opcode == opcode &&
           (t->fault_fctype < 0 || t->fault_fctype == NVMF_SQE_FCTYPE(&cmd->sqe)) &&
           (t->fault_cdw10 < 0 || t->fault_cdw10 == (int)(cmd->sqe.cdw10 & 0xff));
}

enum fake_result fake_ctrl_execute(struct fake_target *t, struct nvmf_cmd *cmd)
{
    enum fake_result result;

    if (cmd->sqe.cid == TOLD) {
        return FAKE_DONE;
    }
    if (cmd->sqe.cid != FRESH) {
        return FAKE_WAIT;
    }
    if (is_hit(t, cmd)) {
        cmd->sqe.cid = MUTE;
        switch (t->fault) {
        case FAKE_STATUS:
            return answer(cmd, t->fault_status, 0);
        case FAKE_SILENT:
            return FAKE_WAIT;
        case FAKE_LOSE:
            return FAKE_BREAK;
        case FAKE_OK:
            break;
        }
    }
    result = execute(t, cmd);
    if (result == FAKE_WAIT) {
        cmd->sqe.cid = WAITING;
    }
    return result;
}
