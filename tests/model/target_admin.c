/*
 * The model target: admin commands: Identify, features, Abort, Keep Alive, Asynchronous Event
 * Request (base specification 5; NVMe-oF 1.1, 4.1).
 */
#include "tests/model/target_priv.h"

#include <string.h>
#include "base/bits.h"

#define MODEL    "snic model target"
#define SERIAL   "model"
#define FIRMWARE "1"

#define FEATURE_HOST_ID 0x81
#define CTRATT_HOSTID   BIT32(0)
#define CQT_OFFSET      386 /* command quiesce time, ms (technical proposal 4129) */

static bool is_discovery(const struct target_slot *slot)
{
    return slot->queue->ctrl->subsystem == TARGET_DISCOVERY;
}

/* --- Identify (5.15) ------------------------------------------------------------------------ */

/* Text in a field that is padded with spaces. */
static void pad(char *to, uint32_t field_bytes, const char *text)
{
    size_t len_bytes = strlen(text);

    memset(to, ' ', field_bytes);
    memcpy(to, text, min_u64(len_bytes, field_bytes));
}

static uint8_t mdts(const struct target *t)
{
    uint8_t shift = 0;

    while ((4096u << (shift + 1)) <= t->config.max_transfer_bytes) {
        shift++;
    }
    return shift;
}

static void fabrics_part(const struct target *t, bool is_io, struct nvmf_identify_ctrl *to)
{
    uint32_t data_bytes = is_io ? t->config.in_capsule_bytes : 0;

    to->ioccsz = (NVMF_CMD_CAPSULE_BYTES + data_bytes) / NVMF_CAPSULE_UNIT_BYTES;
    to->iorcsz = NVMF_RESP_CAPSULE_BYTES / NVMF_CAPSULE_UNIT_BYTES;
    to->msdbd = 1;
}

static uint16_t oncs(const struct target *t)
{
    return (uint16_t)((NVME_ONCS_COMPARE | NVME_ONCS_DSM | NVME_ONCS_WRITE_ZEROES |
                       NVME_ONCS_RESERVATIONS | NVME_ONCS_VERIFY) &
                      ~t->knobs.oncs_off);
}

static uint32_t highest_nsid(const struct target *t, uint32_t subsystem)
{
    uint32_t highest = 0;

    for (uint32_t i = 0;
         subsystem != TARGET_DISCOVERY && i < t->subsystems[subsystem].config->ns_count; i++) {
        uint32_t nsid = t->subsystems[subsystem].namespaces[i].config.nsid;
        highest = nsid > highest ? nsid : highest;
    }
    return highest;
}

static void identify_ctrl(struct target_slot *slot)
{
    const struct target *t = slot->queue->target;
    const struct target_ctrl *ctrl = slot->queue->ctrl;
    struct nvme_identify_ctrl *id = (void *)slot->buf->data;
    bool is_io = !is_discovery(slot);
    uint16_t quiesce_ms = (uint16_t)t->knobs.quiesce_ms;

    pad((char *)id->sn, sizeof(id->sn), SERIAL);
    pad((char *)id->mn, sizeof(id->mn), MODEL);
    pad((char *)id->fr, sizeof(id->fr), FIRMWARE);
    id->mdts = mdts(t);
    id->cntlid = ctrl->cntlid;
    id->ver = NVME_VERSION_1_4;
    id->oaes = is_io ? NVME_OAES_NS_ATTRIBUTE : BIT32(31);
    id->ctratt = CTRATT_HOSTID | (t->knobs.no_traffic_keep_alive ? 0 : NVMF_CTRATT_TBKAS);
    id->cntrltype = is_io ? NVME_CTRLTYPE_IO : 2;
    id->acl = 3;
    id->aerl = TARGET_AERS - 1;
    id->lpa = NVME_LPA_EXTENDED_DATA;
    id->kas = TARGET_KA_UNIT_MS / 100;
    id->sqes = NVME_IOSQES << 4 | NVME_IOSQES;
    id->cqes = NVME_IOCQES << 4 | NVME_IOCQES;
    id->maxcmd = t->config.queue_entries;
    id->nn = highest_nsid(t, ctrl->subsystem);
    id->oncs = is_io ? oncs(t) : 0;
    id->sgls = NVME_SGLS_SUPPORTED | (t->knobs.no_keyed_sgl ? 0 : NVMF_SGLS_KEYED);
    if (is_io && t->config.in_capsule_bytes > 0) {
        id->sgls |= NVMF_SGLS_OFFSETS;
    }
    const char *nqn = is_io ? t->config.subsystems[ctrl->subsystem].nqn : NVMF_DISCOVERY_NQN;
    memcpy(id->subnqn, nqn, strlen(nqn));
    fabrics_part(t, is_io, (struct nvmf_identify_ctrl *)(void *)id->reserved1792_fabrics);
    memcpy(slot->buf->data + CQT_OFFSET, &quiesce_ms, sizeof(quiesce_ms));
}

static void identify_ns(struct target_slot *slot)
{
    const struct target *t = slot->queue->target;
    uint32_t subsystem = slot->queue->ctrl->subsystem;
    const struct target_ns *ns = target_ns_find(slot->queue->target, subsystem, slot->sqe.nsid);
    struct nvme_identify_ns *id = (void *)slot->buf->data;

    if (slot->sqe.nsid == 0 || slot->sqe.nsid > highest_nsid(t, subsystem)) {
        slot->status = NVME_SC_INVALID_NS_OR_FORMAT | DNR;
        return;
    }
    if (ns == NULL || ns->lba_count == 0) {
        return; /* zero filled */
    }
    id->nsze = ns->lba_count;
    id->ncap = ns->lba_count;
    id->nuse = ns->lba_count;
    id->lbaf[0].lba_shift = ns->config.lba_shift;
    id->rescap = 0x7e;
    id->nmic = 1;
    id->dlfeat = 1; /* deallocated blocks read as zero */
    id->nsattr = ns->config.is_read_only ? NVME_NSATTR_WRITE_PROTECTED : 0;
    memcpy(id->nguid, ns->config.nguid, sizeof(id->nguid));
    memcpy(id->eui64, ns->config.eui64, sizeof(id->eui64));
}

/* Ascending, those above the SQE's. */
static void active_list(struct target_slot *slot)
{
    const struct target *t = slot->queue->target;
    uint32_t subsystem = slot->queue->ctrl->subsystem;
    uint32_t *list = (void *)slot->buf->data;
    uint32_t count = 0;

    if (slot->sqe.nsid >= 0xfffffffe) {
        slot->status = NVME_SC_INVALID_NS_OR_FORMAT | DNR;
        return;
    }
    uint32_t most = highest_nsid(t, subsystem);
    for (uint32_t nsid = slot->sqe.nsid + 1; nsid <= most && count < NVME_NS_LIST_ENTRIES; nsid++) {
        const struct target_ns *ns = target_ns_find(slot->queue->target, subsystem, nsid);
        if (ns != NULL && ns->lba_count > 0) {
            list[count++] = nsid;
        }
    }
}

static uint8_t *descriptor(uint8_t *to, enum nvme_nidt type, const uint8_t *id, uint8_t len_bytes)
{
    static const uint8_t none[16];
    struct nvme_ns_descriptor head = {.nidt = (uint8_t)type, .nidl_bytes = len_bytes};

    if (memcmp(id, none, len_bytes) == 0) {
        return to;
    }
    memcpy(to, &head, sizeof(head));
    memcpy(to + sizeof(head), id, len_bytes);
    return to + sizeof(head) + len_bytes;
}

static void descriptors(struct target_slot *slot)
{
    const struct target_ns *ns =
        target_ns_find(slot->queue->target, slot->queue->ctrl->subsystem, slot->sqe.nsid);
    uint8_t *at = slot->buf->data;

    if (ns == NULL || ns->lba_count == 0) {
        slot->status = NVME_SC_INVALID_NS_OR_FORMAT | DNR;
        return;
    }
    at = descriptor(at, NVME_NIDT_UUID, ns->config.uuid, 16);
    at = descriptor(at, NVME_NIDT_NGUID, ns->config.nguid, 16);
    (void)descriptor(at, NVME_NIDT_EUI64, ns->config.eui64, 8);
}

static void identify(struct target_slot *slot)
{
    if (!target_len_is(slot, NVME_IDENTIFY_BYTES)) {
        return;
    }
    memset(slot->buf->data, 0, NVME_IDENTIFY_BYTES);
    uint64_t cns = FIELD_GET(NVME_IDENTIFY_CNS, slot->sqe.cdw10);
    if (cns == NVME_CNS_CTRL) {
        identify_ctrl(slot);
    } else if (is_discovery(slot)) {
        slot->status = NVME_SC_INVALID_FIELD | DNR;
    } else if (cns == NVME_CNS_NS) {
        identify_ns(slot);
    } else if (cns == NVME_CNS_ACTIVE_NS_LIST) {
        active_list(slot);
    } else if (cns == NVME_CNS_NS_DESCRIPTORS) {
        descriptors(slot);
    } else {
        slot->status = NVME_SC_INVALID_FIELD | DNR;
    }
}

/* --- features (5.13, 5.21) ------------------------------------------------------------------ */

static uint32_t queues_granted(const struct target *t)
{
    uint32_t most = t->config.io_queues_per_ctrl;

    return t->knobs.max_queues != 0 && t->knobs.max_queues < most ? t->knobs.max_queues : most;
}

static void set_features(struct target_slot *slot)
{
    struct target_ctrl *ctrl = slot->queue->ctrl;
    uint32_t value = slot->sqe.cdw11;
    uint32_t most = queues_granted(slot->queue->target) - 1;

    switch (FIELD_GET(NVME_FEATURE_ID, slot->sqe.cdw10)) {
    case NVME_FEATURE_QUEUES:
        if (is_discovery(slot) || (value & 0xffff) == 0xffff || value >> 16 == 0xffff) {
            slot->status = NVME_SC_INVALID_FIELD | DNR;
            return;
        }
        slot->dw0 =
            (uint32_t)FIELD_PREP(NVME_QUEUES_SQ, most) | (uint32_t)FIELD_PREP(NVME_QUEUES_CQ, most);
        break;
    case NVME_FEATURE_ASYNC_EVENT:
        ctrl->aec = value;
        target_events_flush(ctrl);
        break;
    case NVME_FEATURE_KEEP_ALIVE:
        ctrl->kato_ms = (value + TARGET_KA_UNIT_MS - 1) / TARGET_KA_UNIT_MS * TARGET_KA_UNIT_MS;
        target_alive(ctrl);
        break;
    default:
        slot->status = NVME_SC_INVALID_FIELD | DNR;
        break;
    }
}

static void get_features(struct target_slot *slot)
{
    const struct target_ctrl *ctrl = slot->queue->ctrl;
    uint32_t most = queues_granted(slot->queue->target) - 1;

    switch (FIELD_GET(NVME_FEATURE_ID, slot->sqe.cdw10)) {
    case NVME_FEATURE_QUEUES:
        slot->dw0 =
            (uint32_t)FIELD_PREP(NVME_QUEUES_SQ, most) | (uint32_t)FIELD_PREP(NVME_QUEUES_CQ, most);
        break;
    case NVME_FEATURE_ASYNC_EVENT:
        slot->dw0 = ctrl->aec;
        break;
    case NVME_FEATURE_KEEP_ALIVE:
        slot->dw0 = ctrl->kato_ms;
        break;
    case FEATURE_HOST_ID:
        if (target_len_is(slot, sizeof(ctrl->hostid))) {
            memcpy(slot->buf->data, ctrl->hostid, sizeof(ctrl->hostid));
        }
        break;
    default:
        slot->status = NVME_SC_INVALID_FIELD | DNR;
        break;
    }
}

/* --- Abort (5.1) ---------------------------------------------------------------------------- */

static bool slot_abort(struct target_slot *slot)
{
    if (slot->state != SLOT_WAITING && slot->state != SLOT_HELD && slot->state != SLOT_AER) {
        return false;
    }
    list_remove(&slot->link);
    slot->state = SLOT_BUSY;
    slot->has_fault = false;
    slot->status = NVME_SC_ABORT_REQUESTED;
    slot->dw0 = 0;
    slot->dw1 = 0;
    target_slot_finish(slot);
    return true;
}

static void do_abort(struct target_slot *slot)
{
    struct target *t = slot->queue->target;
    uint16_t qid = (uint16_t)FIELD_GET(NVME_ABORT_SQID, slot->sqe.cdw10);
    uint16_t cid = (uint16_t)FIELD_GET(NVME_ABORT_CID, slot->sqe.cdw10);

    slot->dw0 = 1; /* not aborted */
    if (t->knobs.no_abort) {
        return;
    }
    for (uint32_t q = 0; q < t->config.queue_count; q++) {
        struct target_queue *queue = &t->queues[q];
        if (queue->ctrl != slot->queue->ctrl || queue->qid != qid) {
            continue;
        }
        for (uint32_t i = 0; i < queue->entries; i++) {
            if (&queue->slots[i] != slot && queue->slots[i].sqe.cid == cid &&
                slot_abort(&queue->slots[i])) {
                t->stats.aborts++;
                slot->dw0 = 0;
                return;
            }
        }
    }
}

static void async_event(struct target_slot *slot)
{
    struct target_queue *queue = slot->queue;
    uint32_t count = 0;

    for (uint32_t i = 0; i < queue->entries; i++) {
        count += queue->slots[i].state == SLOT_AER;
    }
    if (count >= TARGET_AERS) {
        slot->status = NVME_SC_AER_LIMIT_EXCEEDED;
        return;
    }
    slot->state = SLOT_AER;
    target_events_flush(queue->ctrl);
}

void target_admin(struct target_slot *slot)
{
    switch (slot->sqe.opcode) {
    case NVME_ADMIN_IDENTIFY:
        identify(slot);
        break;
    case NVME_ADMIN_GET_LOG_PAGE:
        target_get_log(slot);
        break;
    case NVME_ADMIN_SET_FEATURES:
        set_features(slot);
        break;
    case NVME_ADMIN_GET_FEATURES:
        get_features(slot);
        break;
    case NVME_ADMIN_ABORT:
        do_abort(slot);
        break;
    case NVME_ADMIN_KEEP_ALIVE:
        slot->queue->target->stats.keep_alives++;
        target_alive(slot->queue->ctrl);
        break;
    case NVME_ADMIN_ASYNC_EVENT:
        async_event(slot);
        break;
    default:
        slot->status = NVME_SC_INVALID_OPCODE | DNR;
        break;
    }
}
