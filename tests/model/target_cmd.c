/*
 * The model target: a command from its capsule to its answer. Data are in a buffer of the target
 * before a command is executed, and after; the medium itself is never on the wire.
 */
#include "tests/model/target_priv.h"

#include <string.h>
#include "base/bits.h"

enum { /* in the low bits of wr_id, see work_done() of target.c */
    WORK_READ = 1,
    WORK_BUF = 2,
};

/* --- faults --------------------------------------------------------------------------------- */

static bool rule_fits(const struct target_fault *fault, const struct target_slot *slot)
{
    const struct nvme_sqe *sqe = &slot->sqe;
    uint16_t qid = slot->queue->qid;

    if (fault->qid != TARGET_ANY && (fault->qid == TARGET_IO ? qid == 0 : fault->qid != qid)) {
        return false;
    }
    if (fault->opcode != TARGET_ANY && fault->opcode != sqe->opcode) {
        return false;
    }
    if (sqe->opcode == NVMF_OPCODE) {
        if (fault->fctype != TARGET_ANY && fault->fctype != NVMF_SQE_FCTYPE(sqe)) {
            return false;
        }
    } else if (fault->nsid != 0 && fault->nsid != sqe->nsid) {
        return false;
    }
    return fault->cid == TARGET_ANY || fault->cid == sqe->cid;
}

static void fault_pick(struct target_slot *slot)
{
    struct target *t = slot->queue->target;

    for (uint32_t i = 0; i < t->rule_count; i++) {
        struct target_rule *rule = &t->rules[i];
        const struct target_fault *fault = &rule->fault;
        if (!rule_fits(fault, slot) || (fault->count != 0 && rule->hits >= fault->count) ||
            rule->seen++ < fault->skip ||
            (fault->chance_ppm != 0 && target_random(t, 1000000) >= fault->chance_ppm)) {
            continue;
        }
        rule->hits++;
        t->stats.faults++;
        slot->has_fault = true;
        slot->fault = *fault;
        slot->due_ns = clock_now_ns() + fault->delay_ns +
                       (fault->jitter_ns != 0 ? target_random(t, fault->jitter_ns + 1) : 0);
        return;
    }
}

static bool has_fault(const struct target_slot *slot, enum target_fault_kind kind)
{
    return slot->has_fault && slot->fault.kind == kind;
}

/* --- SGL ------------------------------------------------------------------------------------ */

static enum nvme_dir sqe_dir(const struct nvme_sqe *sqe)
{
    return (enum nvme_dir)((sqe->opcode == NVMF_OPCODE ? NVMF_SQE_FCTYPE(sqe) : sqe->opcode) & 3);
}

/* Data at an offset in the capsule: of I/O queues, and Connect's. */
static nvme_status_t sgl_in_capsule(struct target_slot *slot, uint32_t received_bytes)
{
    const struct target *t = slot->queue->target;
    bool is_connect =
        slot->sqe.opcode == NVMF_OPCODE && NVMF_SQE_FCTYPE(&slot->sqe) == NVMF_CONNECT;
    uint64_t most = slot->queue->qid == 0 ? 0 : t->config.in_capsule_bytes;

    if (is_connect && slot->queue->qid != 0) {
        most = max_u64(most, sizeof(struct nvmf_connect_data));
    }
    if (slot->dir != NVME_DIR_TO_CONTROLLER) {
        return NVME_SC_INVALID_FIELD | DNR;
    }
    if (!range_fits(slot->sqe.sgl1.addr, slot->sqe.sgl1.len_bytes, most)) {
        return NVME_SC_INVALID_SGL_OFFSET | DNR;
    }
    slot->len_bytes = slot->sqe.sgl1.len_bytes;
    slot->capsule_offset = NVMF_CMD_CAPSULE_BYTES + (uint32_t)slot->sqe.sgl1.addr;
    if (slot->capsule_offset + slot->len_bytes > received_bytes) {
        target_violated(slot->queue->target, "in-capsule data are not in the capsule");
        return NVME_SC_DATA_SGL_LENGTH_INVALID | DNR;
    }
    slot->in_capsule = true;
    return NVME_SC_SUCCESS;
}

/* The descriptor of the command: 7.3.5 */
static nvme_status_t sgl_parse(struct target_slot *slot, uint32_t received_bytes)
{
    const struct nvme_sqe *sqe = &slot->sqe;
    struct nvmf_keyed_desc desc;

    slot->dir = (uint8_t)sqe_dir(sqe);
    slot->len_bytes = 0;
    slot->in_capsule = false;
    slot->invalidate = false;
    if (FIELD_GET(NVME_SQE_PSDT, sqe->flags) != NVME_PSDT_SGL_MPTR) {
        target_violated(slot->queue->target, "PSDT is not 01b");
        return NVME_SC_INVALID_FIELD | DNR;
    }
    if (FIELD_GET(NVME_SQE_FUSE, sqe->flags) != 0) {
        return NVME_SC_INVALID_FIELD | DNR;
    }
    if (sqe->sgl1.type == NVMF_SGL_IN_CAPSULE) {
        return sgl_in_capsule(slot, received_bytes);
    }
    if (sqe->sgl1.type != NVMF_SGL_KEYED && sqe->sgl1.type != NVMF_SGL_KEYED_INVALIDATE) {
        return NVME_SC_SGL_TYPE_INVALID | DNR;
    }
    memcpy(&desc, &sqe->sgl1, sizeof(desc));
    slot->remote_addr = desc.addr;
    slot->len_bytes =
        (uint32_t)(desc.len_bytes[0] | desc.len_bytes[1] << 8 | desc.len_bytes[2] << 16);
    memcpy(&slot->key, desc.key, sizeof(slot->key));
    const struct target_knobs *knobs = &slot->queue->target->knobs;
    slot->invalidate = slot->len_bytes != 0 && !knobs->no_invalidate &&
                       (sqe->sgl1.type == NVMF_SGL_KEYED_INVALIDATE || knobs->invalidate_all);
    if (slot->len_bytes > slot->queue->target->config.max_transfer_bytes) {
        return NVME_SC_INVALID_FIELD | DNR;
    }
    return NVME_SC_SUCCESS;
}

bool target_len_is(struct target_slot *slot, uint64_t len_bytes)
{
    if (slot->len_bytes == len_bytes) {
        return true;
    }
    slot->status = NVME_SC_DATA_SGL_LENGTH_INVALID | DNR;
    return false;
}

/* --- answers -------------------------------------------------------------------------------- */

void target_slot_drop(struct target_slot *slot)
{
    if (slot->buf != NULL) {
        target_buf_put(slot->queue->target, slot->buf);
        slot->buf = NULL;
    }
    target_slot_post(slot);
}

static void post(struct target_queue *queue, struct rdma_send_wr *wr)
{
    if (rdma_post_send(queue->qp, wr, NULL) != STATUS_OK) {
        queue->target->stats.transport_errors++;
        target_queue_end(queue, true);
    }
}

static struct nvme_cqe cqe_make(struct target_slot *slot)
{
    struct target_queue *queue = slot->queue;
    uint16_t cid = slot->sqe.cid;
    uint16_t head = 0xffff;

    if (queue->sq_entries != 0) {
        queue->sq_head = (queue->sq_head + 1) % queue->sq_entries;
    }
    if (!queue->sq_flow_off) {
        head = (uint16_t)queue->sq_head;
    }
    if (has_fault(slot, TARGET_FAULT_WRONG_CID)) {
        cid ^= (uint16_t)slot->fault.value;
    }
    if (has_fault(slot, TARGET_FAULT_BAD_SQHD)) {
        head = (uint16_t)slot->fault.value;
    }
    return (struct nvme_cqe){.dw0 = slot->dw0,
                             .dw1 = slot->dw1,
                             .sq_head = head,
                             .sq_id = queue->qid,
                             .dw3 = cid | (uint32_t)slot->status << NVME_CQE_STATUS_SHIFT};
}

struct answer {
    struct nvme_cqe cqe;
    struct rdma_sge cqe_sge;
    struct rdma_sge data_sge;
    struct rdma_send_wr send;
    struct rdma_send_wr write;
};

/* Key and length of the capsule as they are, or as a fault has them. */
static void answer_send(struct target_slot *slot, struct answer *a)
{
    uint32_t bytes = NVMF_RESP_CAPSULE_BYTES;
    uint32_t key = slot->key;

    if (has_fault(slot, TARGET_FAULT_SHORT)) {
        bytes = min_u32(slot->fault.value, bytes);
    }
    if (has_fault(slot, TARGET_FAULT_WRONG_KEY)) {
        key ^= slot->fault.value;
    }
    bool invalidate = slot->invalidate && !has_fault(slot, TARGET_FAULT_NO_INVALIDATE);
    slot->queue->target->stats.invalidates += invalidate;
    a->cqe_sge = (struct rdma_sge){.addr = (uintptr_t)&a->cqe, .len_bytes = bytes};
    a->send = (struct rdma_send_wr){.wr_id = WORK_BUF,
                                    .sges = &a->cqe_sge,
                                    .sge_count = 1,
                                    .opcode = invalidate ? RDMA_WR_SEND_WITH_INV : RDMA_WR_SEND,
                                    .flags = RDMA_SEND_SIGNALED | RDMA_SEND_INLINE,
                                    .imm = invalidate ? key : 0};
}

/* Data to the host; false: none. */
static bool answer_write(struct target_slot *slot, struct answer *a)
{
    struct target *t = slot->queue->target;
    uint32_t bytes = slot->len_bytes;

    if (slot->dir != NVME_DIR_FROM_CONTROLLER || slot->buf == NULL ||
        NVME_STATUS_CODE(slot->status) != NVME_SC_SUCCESS) {
        return false;
    }
    if (has_fault(slot, TARGET_FAULT_DATA_SHORT)) {
        bytes = min_u32(bytes, slot->fault.value);
    }
    if (has_fault(slot, TARGET_FAULT_OVERRUN)) {
        bytes = min_u32(bytes + slot->fault.value, t->config.max_transfer_bytes);
    }
    if (has_fault(slot, TARGET_FAULT_BAD_DATA)) {
        slot->buf->data[bytes / 2] ^= 1;
    }
    a->data_sge = (struct rdma_sge){
        .addr = (uintptr_t)slot->buf->data, .len_bytes = bytes, .lkey = t->mr->lkey};
    a->write = (struct rdma_send_wr){.wr_id = WORK_BUF,
                                     .sges = &a->data_sge,
                                     .sge_count = 1,
                                     .opcode = RDMA_WR_RDMA_WRITE,
                                     .rdma = {.remote_addr = slot->remote_addr, .rkey = slot->key}};
    t->stats.rdma_writes++;
    return bytes > 0;
}

static void answer(struct target_slot *slot)
{
    struct target_queue *queue = slot->queue;
    struct answer a = {.cqe = cqe_make(slot)};
    struct target_buf *buf = slot->buf;
    bool is_twice = has_fault(slot, TARGET_FAULT_TWICE);
    bool is_early = has_fault(slot, TARGET_FAULT_EARLY);

    queue->target->stats.answers++;
    queue->target->stats.errors += NVME_STATUS_CODE(slot->status) != NVME_SC_SUCCESS;
    answer_send(slot, &a);
    struct rdma_send_wr *first = &a.send;
    struct rdma_send_wr *last = &a.send;
    if (answer_write(slot, &a)) {
        first = is_early ? &a.send : &a.write;
        last = is_early ? &a.write : &a.send;
        first->next = last;
    }
    last->flags |= RDMA_SEND_SIGNALED;
    if (buf != NULL) { /* goes back with the last work request */
        buf->slot = NULL;
        last->wr_id = (uintptr_t)buf | WORK_BUF;
    }
    target_slot_post(slot);
    post(queue, first);
    if (is_twice && target_queue_is_live(queue)) {
        a.send.opcode = RDMA_WR_SEND;
        a.send.wr_id = WORK_BUF;
        a.send.next = NULL;
        post(queue, &a.send);
    }
}

void target_slot_finish(struct target_slot *slot)
{
    struct target *t = slot->queue->target;

    if (!target_queue_is_live(slot->queue)) {
        return; /* ended by what was executed; the slot is gone */
    }
    if (has_fault(slot, TARGET_FAULT_EXECUTE_DIE)) {
        target_queue_end(slot->queue, false);
    } else if (has_fault(slot, TARGET_FAULT_MUTE)) {
        target_slot_drop(slot);
    } else if (has_fault(slot, TARGET_FAULT_DELAY)) {
        slot->state = SLOT_DELAYED;
        list_push_back(&t->due, &slot->link);
    } else {
        answer(slot);
    }
}

/* --- execution ------------------------------------------------------------------------------ */

static void io_execute(struct target_slot *slot)
{
    struct target_queue *queue = slot->queue;
    struct target *t = queue->target;
    struct target_op op = {.target = t,
                           .subsystem = &t->subsystems[queue->ctrl->subsystem],
                           .sqe = &slot->sqe,
                           .data = slot->buf != NULL ? slot->buf->data : NULL,
                           .len_bytes = slot->len_bytes,
                           .cntlid = queue->ctrl->cntlid,
                           .hostid = queue->ctrl->hostid};

    target_io(&op);
    slot->status = op.status;
    slot->dw0 = op.dw0;
}

/* Controllers that are not enabled take no commands but Fabrics' (3.5.1 of the base specification:
 * CC.EN). */
static bool is_refused(struct target_slot *slot)
{
    const struct target_ctrl *ctrl = slot->queue->ctrl;

    if (!slot->queue->is_connected || (ctrl->csts & NVME_CSTS_RDY) == 0 ||
        (ctrl->cc & NVME_CC_EN) == 0) {
        slot->status = NVME_SC_COMMAND_SEQUENCE_ERROR | DNR;
        return true;
    }
    return false;
}

static void execute(struct target_slot *slot)
{
    slot->state = SLOT_BUSY;
    slot->status = NVME_SC_SUCCESS;
    slot->dw0 = 0;
    slot->dw1 = 0;
    if (slot->sqe.opcode == NVMF_OPCODE) {
        target_fabrics(slot);
    } else if (is_refused(slot)) {
        /* the status says it */
    } else if (slot->queue->qid == 0) {
        target_admin(slot);
    } else {
        io_execute(slot);
    }
    if (slot->state == SLOT_BUSY) { /* else it waits, was answered, or its queue is gone */
        target_slot_finish(slot);
    }
}

/* Everything is there: now, or when a fault says so. */
static void ready(struct target_slot *slot)
{
    struct target *t = slot->queue->target;
    struct target_queue *queue = slot->queue;

    if (!has_fault(slot, TARGET_FAULT_HOLD) || queue->ctrl == NULL) {
        execute(slot);
        return;
    }
    if (slot->buf != NULL) {
        slot->buf->sqe = slot->sqe;
        slot->buf->len_bytes = slot->len_bytes;
        slot->buf->subsystem = queue->ctrl->subsystem;
        slot->buf->cntlid = queue->ctrl->cntlid;
        memcpy(slot->buf->hostid, queue->ctrl->hostid, sizeof(slot->buf->hostid));
    }
    slot->state = SLOT_HELD;
    list_push_back(&t->due, &slot->link);
}

void target_slot_due(struct target_slot *slot)
{
    if (slot->state == SLOT_HELD) {
        execute(slot);
    } else {
        slot->has_fault = false;
        answer(slot);
    }
}

void target_orphan_due(struct target *t, struct target_buf *buf)
{
    struct target_op op = {.target = t,
                           .subsystem = &t->subsystems[buf->subsystem],
                           .sqe = &buf->sqe,
                           .data = buf->data,
                           .len_bytes = buf->len_bytes,
                           .cntlid = buf->cntlid,
                           .hostid = buf->hostid,
                           .is_late = true};

    t->stats.late++;
    target_io(&op);
    target_buf_put(t, buf);
}

/* --- arrival -------------------------------------------------------------------------------- */

void target_data_arrived(struct target_slot *slot)
{
    if (slot->state == SLOT_READING) {
        ready(slot);
    }
}

void target_slot_go_on(struct target_slot *slot)
{
    struct target_queue *queue = slot->queue;
    struct target *t = queue->target;

    slot->state = SLOT_BUSY;
    slot->buf = target_buf_get(t);
    if (slot->buf == NULL) {
        slot->state = SLOT_WAITING;
        list_push_back(&t->waiting, &slot->link);
        return;
    }
    slot->buf->queue = queue;
    slot->buf->slot = slot;
    if (slot->in_capsule) {
        t->stats.in_capsule++;
        memcpy(slot->buf->data, slot->capsule + slot->capsule_offset, slot->len_bytes);
    }
    uint32_t bytes = slot->len_bytes;
    if (has_fault(slot, TARGET_FAULT_DATA_SHORT)) {
        bytes = min_u32(bytes, slot->fault.value);
    }
    if (slot->in_capsule || slot->dir != NVME_DIR_TO_CONTROLLER || bytes == 0) {
        ready(slot);
        return;
    }
    struct rdma_sge sge = {
        .addr = (uintptr_t)slot->buf->data, .len_bytes = bytes, .lkey = t->mr->lkey};
    struct rdma_send_wr wr = {.wr_id = (uintptr_t)slot | WORK_READ,
                              .sges = &sge,
                              .sge_count = 1,
                              .opcode = RDMA_WR_RDMA_READ,
                              .flags = RDMA_SEND_SIGNALED,
                              .rdma = {.remote_addr = slot->remote_addr, .rkey = slot->key}};
    slot->state = SLOT_READING;
    t->stats.rdma_reads++;
    post(queue, &wr);
}

/* CID that another command of the queue has (figure 105 of the base specification). */
static bool is_cid_taken(const struct target_slot *slot)
{
    const struct target_queue *queue = slot->queue;

    for (uint32_t i = 0; i < queue->entries; i++) {
        const struct target_slot *other = &queue->slots[i];
        if (other != slot && other->state != SLOT_POSTED && other->state != SLOT_NONE &&
            other->sqe.cid == slot->sqe.cid) {
            return true;
        }
    }
    return false;
}

static void refuse(struct target_slot *slot, nvme_status_t status, uint32_t dw0)
{
    slot->status = status;
    slot->dw0 = dw0;
    slot->dw1 = 0;
    slot->invalidate = false;
    target_slot_finish(slot);
}

/* DROP, DIE and FAIL end it here; true: it ended. */
static bool fault_at_once(struct target_slot *slot, uint32_t received_bytes)
{
    if (has_fault(slot, TARGET_FAULT_DROP)) {
        target_slot_drop(slot);
    } else if (has_fault(slot, TARGET_FAULT_DIE)) {
        target_queue_end(slot->queue, false);
    } else if (has_fault(slot, TARGET_FAULT_FAIL)) {
        (void)sgl_parse(slot, received_bytes);
        slot->status = (nvme_status_t)slot->fault.value;
        slot->dw0 = slot->fault.value2;
        slot->dw1 = 0;
        target_slot_finish(slot);
    } else {
        return false;
    }
    return true;
}

void target_capsule(struct target_slot *slot, uint32_t len_bytes)
{
    struct target_queue *queue = slot->queue;
    struct target *t = queue->target;

    t->stats.commands++;
    slot->state = SLOT_BUSY;
    if (len_bytes < NVMF_CMD_CAPSULE_BYTES) {
        target_violated(t, "a capsule of less than 64 bytes");
        target_queue_end(queue, true);
        return;
    }
    memcpy(&slot->sqe, slot->capsule, sizeof(slot->sqe));
    queue->state = QUEUE_UP;
    if (queue->ctrl != NULL && !t->knobs.no_traffic_keep_alive) {
        target_alive(queue->ctrl);
    }
    fault_pick(slot);
    if (fault_at_once(slot, len_bytes)) {
        return;
    }
    nvme_status_t status = sgl_parse(slot, len_bytes);
    if (status == NVME_SC_SUCCESS && is_cid_taken(slot)) {
        target_violated(t, "the CID of another command");
        status = NVME_SC_CID_CONFLICT;
    }
    if (status != NVME_SC_SUCCESS) {
        refuse(slot, status, 0);
    } else if (slot->len_bytes > 0 || has_fault(slot, TARGET_FAULT_HOLD)) {
        target_slot_go_on(slot);
    } else {
        ready(slot);
    }
}
