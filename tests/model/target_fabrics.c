/*
 * The model target: Fabrics commands (NVMe-oF 1.1, 3), the controller's properties and what follows
 * on them: CSTS, shutdown, and the Keep Alive timer (base specification 7.11).
 */
#include "tests/model/target_priv.h"

#include <string.h>
#include "base/bits.h"

#define CAP_TIMEOUT_UNITS 15 /* 7.5 s */

/* --- Connect (3.3) -------------------------------------------------------------------------- */

#define DATA_FIELD(name) \
    ((uint32_t)offsetof(struct nvmf_connect_data, name) | NVMF_CONNECT_IATTR_DATA)
#define SQE_FIELD(name) ((uint32_t)offsetof(struct nvmf_connect_sqe, name))

static void invalid(struct target_slot *slot, uint32_t where)
{
    slot->status = NVMF_SC_CONNECT_INVALID_PARAMETERS | DNR;
    slot->dw0 = where;
}

static bool is_text(const char *text)
{
    return memchr(text, '\0', NVMF_NQN_BYTES) != NULL;
}

/* Index of the subsystem, TARGET_DISCOVERY; false: there is none of this name. */
static bool subsystem_find(struct target *t, const char *nqn, uint32_t *index)
{
    if (strcmp(nqn, NVMF_DISCOVERY_NQN) == 0) {
        *index = TARGET_DISCOVERY;
        return true;
    }
    for (uint32_t i = 0; i < t->config.subsystem_count; i++) {
        if (strcmp(nqn, t->config.subsystems[i].nqn) == 0) {
            *index = i;
            return true;
        }
    }
    return false;
}

static struct target_ctrl *ctrl_get(struct target *t)
{
    uint32_t used = target_ctrl_count(t);

    if (t->knobs.ctrl_limit != 0 && used >= t->knobs.ctrl_limit) {
        return NULL;
    }
    for (uint32_t i = 0; i < t->config.ctrl_count; i++) {
        if (!t->ctrls[i].in_use) {
            struct target_ctrl *ctrl = &t->ctrls[i];
            memset(ctrl, 0, sizeof(*ctrl));
            ctrl->target = t;
            ctrl->in_use = true;
            do { /* 0001h to FFEFh, not soon the same again */
                t->last_cntlid = t->last_cntlid < 0xffef ? (uint16_t)(t->last_cntlid + 1) : 1;
            } while (target_ctrl_find(t, t->last_cntlid) != ctrl &&
                     target_ctrl_find(t, t->last_cntlid) != NULL);
            ctrl->cntlid = t->last_cntlid;
            return ctrl;
        }
    }
    return NULL;
}

static void kato_set(struct target_ctrl *ctrl, uint32_t kato_ms)
{
    ctrl->kato_ms = (uint32_t)align_up(kato_ms, 1);
    if (kato_ms % TARGET_KA_UNIT_MS != 0) {
        ctrl->kato_ms += TARGET_KA_UNIT_MS - kato_ms % TARGET_KA_UNIT_MS;
    }
    target_alive(ctrl);
}

static void connect_admin(struct target_slot *slot, const struct nvmf_connect_sqe *sqe,
                          const struct nvmf_connect_data *data)
{
    struct target_queue *queue = slot->queue;
    struct target *t = queue->target;
    uint32_t subsystem;

    if (data->cntlid != NVMF_CNTLID_DYNAMIC) {
        invalid(slot, DATA_FIELD(cntlid));
        return;
    }
    if (!subsystem_find(t, data->subnqn, &subsystem)) {
        invalid(slot, DATA_FIELD(subnqn));
        return;
    }
    const char *allowed =
        subsystem == TARGET_DISCOVERY ? NULL : t->config.subsystems[subsystem].host_nqn;
    if (allowed != NULL && strcmp(allowed, data->hostnqn) != 0) {
        slot->status = NVMF_SC_CONNECT_INVALID_HOST | DNR;
        slot->dw0 = DATA_FIELD(hostnqn);
        return;
    }
    struct target_ctrl *ctrl = ctrl_get(t);
    if (ctrl == NULL) {
        slot->status = NVMF_SC_CONTROLLER_BUSY;
        return;
    }
    ctrl->subsystem = subsystem;
    ctrl->admin = queue;
    memcpy(ctrl->hostid, data->hostid, sizeof(ctrl->hostid));
    memcpy(ctrl->hostnqn, data->hostnqn, sizeof(ctrl->hostnqn));
    kato_set(ctrl, sqe->kato_ms);
    queue->ctrl = ctrl;
}

static struct target_queue *queue_of(struct target *t, const struct target_ctrl *ctrl, uint16_t qid)
{
    for (uint32_t i = 0; i < t->config.queue_count; i++) {
        if (t->queues[i].ctrl == ctrl && t->queues[i].qid == qid) {
            return &t->queues[i];
        }
    }
    return NULL;
}

static void connect_io(struct target_slot *slot, const struct nvmf_connect_data *data)
{
    struct target_queue *queue = slot->queue;
    struct target *t = queue->target;
    struct target_ctrl *ctrl = target_ctrl_find(t, data->cntlid);

    if (ctrl == NULL || ctrl->subsystem == TARGET_DISCOVERY) {
        invalid(slot, DATA_FIELD(cntlid));
    } else if (strcmp(t->config.subsystems[ctrl->subsystem].nqn, data->subnqn) != 0) {
        invalid(slot, DATA_FIELD(subnqn));
    } else if (strcmp(ctrl->hostnqn, data->hostnqn) != 0) {
        invalid(slot, DATA_FIELD(hostnqn));
    } else if (memcmp(ctrl->hostid, data->hostid, sizeof(ctrl->hostid)) != 0) {
        invalid(slot, DATA_FIELD(hostid));
    } else if ((ctrl->cc & NVME_CC_EN) == 0 || (ctrl->csts & NVME_CSTS_RDY) == 0 ||
               queue_of(t, ctrl, queue->qid) != NULL) {
        slot->status = NVME_SC_COMMAND_SEQUENCE_ERROR | DNR;
    } else {
        queue->ctrl = ctrl;
    }
}

static void connect(struct target_slot *slot)
{
    struct target_queue *queue = slot->queue;
    struct target *t = queue->target;
    struct nvmf_connect_data data;
    struct nvmf_connect_sqe sqe;

    memcpy(&sqe, &slot->sqe, sizeof(sqe));
    if (queue->is_connected) {
        slot->status = NVME_SC_COMMAND_SEQUENCE_ERROR | DNR;
        return;
    }
    if (!target_len_is(slot, sizeof(data))) {
        return;
    }
    memcpy(&data, slot->buf->data, sizeof(data));
    if (sqe.recfmt != 0) {
        slot->status = NVMF_SC_INCOMPATIBLE_FORMAT | DNR;
    } else if (sqe.qid != queue->qid) {
        invalid(slot, SQE_FIELD(qid));
    } else if (sqe.sqsize == 0 || sqe.sqsize >= queue->entries + 0u) {
        invalid(slot, SQE_FIELD(sqsize));
    } else if (!is_text(data.subnqn)) {
        invalid(slot, DATA_FIELD(subnqn));
    } else if (!is_text(data.hostnqn) || data.hostnqn[0] == '\0') {
        invalid(slot, DATA_FIELD(hostnqn));
    } else if (queue->qid == 0) {
        connect_admin(slot, &sqe, &data);
    } else {
        connect_io(slot, &data);
    }
    if (slot->status != NVME_SC_SUCCESS) {
        t->stats.connect_errors++;
        return;
    }
    t->stats.connects++;
    queue->is_connected = true;
    queue->sq_entries = sqe.sqsize + 1u;
    queue->sq_flow_off = (sqe.cattr & NVMF_CONNECT_NO_SQ_FLOW) != 0 && !t->knobs.keep_sq_flow;
    slot->dw0 = queue->ctrl->cntlid;
}

/* --- properties (3.4, 3.5) ------------------------------------------------------------------- */

static uint64_t cap(const struct target *t)
{
    return FIELD_PREP(NVME_CAP_MQES, t->config.queue_entries - 1u) | NVME_CAP_CQR |
           FIELD_PREP(NVME_CAP_TO, CAP_TIMEOUT_UNITS) | FIELD_PREP(NVME_CAP_CSS, NVME_CAP_CSS_NVM);
}

static void property_get(struct target_slot *slot, const struct nvmf_property_sqe *sqe)
{
    const struct target_ctrl *ctrl = slot->queue->ctrl;
    bool is_8_bytes = (sqe->attrib & 7) == NVMF_PROPERTY_8_BYTES;
    uint64_t value;

    if (is_8_bytes != (sqe->offset == NVME_REG_CAP)) {
        slot->status = NVME_SC_INVALID_FIELD | DNR;
        return;
    }
    switch (sqe->offset) {
    case NVME_REG_CAP:
        value = cap(slot->queue->target);
        break;
    case NVME_REG_VS:
        value = NVME_VERSION_1_4;
        break;
    case NVME_REG_CC:
        value = ctrl->cc;
        break;
    case NVME_REG_CSTS:
        value = ctrl->csts;
        break;
    default:
        slot->status = NVME_SC_INVALID_FIELD | DNR;
        return;
    }
    slot->dw0 = (uint32_t)value;
    slot->dw1 = (uint32_t)(value >> 32);
}

/* What the controller took over a queue that is gone: a reset ends it too. */
static void orphans_drop(struct target_ctrl *ctrl)
{
    struct target *t = ctrl->target;

    LIST_FOR_EACH(node, temp, &t->orphans)
    {
        struct target_buf *buf = LIST_ENTRY(node, struct target_buf, link);
        if (buf->cntlid == ctrl->cntlid) {
            list_remove(node);
            target_buf_put(t, buf);
        }
    }
}

/* What CC.EN going up demands (3.1.5 of the base specification). */
static bool is_cc_good(const struct target_ctrl *ctrl, uint32_t cc)
{
    bool is_io = ctrl->subsystem != TARGET_DISCOVERY;
    bool sizes = FIELD_GET(NVME_CC_IOSQES, cc) == NVME_IOSQES &&
                 FIELD_GET(NVME_CC_IOCQES, cc) == NVME_IOCQES;

    return (sizes || !is_io) && FIELD_GET(NVME_CC_MPS, cc) == 0 &&
           FIELD_GET(NVME_CC_AMS, cc) == 0 && FIELD_GET(NVME_CC_CSS, cc) == 0;
}

static void cc_set(struct target_ctrl *ctrl, uint32_t cc)
{
    struct target *t = ctrl->target;
    const struct target_knobs *knobs = &t->knobs;
    uint32_t changed = ctrl->cc ^ cc;
    uint64_t now_ns = clock_now_ns();

    ctrl->cc = cc;
    if ((changed & NVME_CC_EN) != 0 && (cc & NVME_CC_EN) != 0) {
        if (knobs->fatal_at_enable || !is_cc_good(ctrl, cc)) {
            ctrl->csts |= NVME_CSTS_CFS;
        } else {
            ctrl->ready_due_ns = now_ns + knobs->ready_delay_ns;
        }
    } else if ((changed & NVME_CC_EN) != 0) {
        if (!knobs->disable_keeps_io) {
            target_ctrl_end_io(ctrl);
            orphans_drop(ctrl);
        }
        ctrl->shutdown_due_ns = 0;
        ctrl->ready_due_ns = now_ns + knobs->ready_delay_ns;
    }
    if (FIELD_GET(NVME_CC_SHN, cc) != 0 && FIELD_GET(NVME_CSTS_SHST, ctrl->csts) == 0) {
        ctrl->csts |= (uint32_t)FIELD_PREP(NVME_CSTS_SHST, NVME_SHST_OCCURRING);
        ctrl->shutdown_due_ns = now_ns + knobs->shutdown_delay_ns;
    }
    target_ctrl_turn(ctrl, now_ns);
}

static bool has_leaving_queues(const struct target_ctrl *ctrl)
{
    const struct target *t = ctrl->target;

    for (uint32_t i = 0; i < t->config.queue_count; i++) {
        if (t->queues[i].leaving == ctrl) {
            return true;
        }
    }
    return false;
}

static void property_set(struct target_slot *slot, const struct nvmf_property_sqe *sqe)
{
    if (sqe->offset != NVME_REG_CC || (sqe->attrib & 7) != NVMF_PROPERTY_4_BYTES) {
        slot->status = NVME_SC_INVALID_FIELD | DNR;
        return;
    }
    cc_set(slot->queue->ctrl, (uint32_t)sqe->value);
}

void target_fabrics(struct target_slot *slot)
{
    struct nvmf_property_sqe property;
    uint8_t fctype = NVMF_SQE_FCTYPE(&slot->sqe);

    memcpy(&property, &slot->sqe, sizeof(property));
    if (fctype == NVMF_CONNECT) {
        connect(slot);
    } else if (!slot->queue->is_connected) {
        slot->status = NVME_SC_COMMAND_SEQUENCE_ERROR | DNR;
    } else if (slot->queue->qid != 0) {
        slot->status = NVME_SC_INVALID_OPCODE | DNR;
    } else if (fctype == NVMF_PROPERTY_GET) {
        property_get(slot, &property);
    } else if (fctype == NVMF_PROPERTY_SET) {
        property_set(slot, &property);
    } else {
        slot->status = NVME_SC_INVALID_OPCODE | DNR;
    }
}

/* --- what time brings ------------------------------------------------------------------------ */

void target_alive(struct target_ctrl *ctrl)
{
    ctrl->alive_due_ns =
        ctrl->kato_ms == 0 ? UINT64_MAX : clock_now_ns() + ctrl->kato_ms * NS_PER_MS;
}

static bool ready_turn(struct target_ctrl *ctrl, uint64_t now_ns)
{
    const struct target_knobs *knobs = &ctrl->target->knobs;
    bool is_on = (ctrl->cc & NVME_CC_EN) != 0;

    if (ctrl->ready_due_ns == 0 || now_ns < ctrl->ready_due_ns ||
        (is_on ? knobs->never_ready : knobs->never_not_ready || has_leaving_queues(ctrl))) {
        return false;
    }
    ctrl->ready_due_ns = 0;
    ctrl->csts = is_on ? ctrl->csts | NVME_CSTS_RDY : 0;
    if (!is_on) {
        ctrl->cc = 0;
        ctrl->aec = 0;
        ctrl->event_count = 0;
        ctrl->changed_count = 0;
        ctrl->masked = 0;
    }
    return true;
}

bool target_ctrl_turn(struct target_ctrl *ctrl, uint64_t now_ns)
{
    bool moved = ready_turn(ctrl, now_ns);

    if (ctrl->shutdown_due_ns != 0 && now_ns >= ctrl->shutdown_due_ns) {
        ctrl->shutdown_due_ns = 0;
        ctrl->csts &= ~(uint32_t)FIELD_PREP(NVME_CSTS_SHST, 3);
        ctrl->csts |= (uint32_t)FIELD_PREP(NVME_CSTS_SHST, NVME_SHST_COMPLETE);
        moved = true;
    }
    if (now_ns >= ctrl->alive_due_ns && !ctrl->target->knobs.ignore_keep_alive) {
        ctrl->target->stats.keep_alive_expired++;
        target_ctrl_end(ctrl, true);
        moved = true;
    }
    return moved;
}

uint64_t target_ctrl_next_ns(const struct target_ctrl *ctrl)
{
    const struct target_knobs *knobs = &ctrl->target->knobs;
    uint64_t next_ns = knobs->ignore_keep_alive ? UINT64_MAX : ctrl->alive_due_ns;

    if (ctrl->ready_due_ns > clock_now_ns()) {
        next_ns = min_u64(next_ns, ctrl->ready_due_ns);
    }
    if (ctrl->shutdown_due_ns != 0) {
        next_ns = min_u64(next_ns, ctrl->shutdown_due_ns);
    }
    return next_ns;
}
