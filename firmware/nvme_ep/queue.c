/*
 * Create and Delete of queues, and Abort. Core 0 checks the command and decides; an errand (a
 * message that lies in the command) goes to the queue's core, and its answer ends the command.
 * Source: NVM Express Base Specification 1.4, sections 5.1, 5.3 - 5.6, 3.1.8 - 3.1.10.
 */
#include "base/trace.h"
#include "nvme_ep/nvme_ep_priv.h"

#define AT_PRP1       NVME_ERROR_LOCATION(24, 0)
#define AT_QID        NVME_ERROR_LOCATION(40, 0)
#define AT_QSIZE      NVME_ERROR_LOCATION(42, 0)
#define AT_FLAGS      NVME_ERROR_LOCATION(44, 0)
#define AT_CDW11_HIGH NVME_ERROR_LOCATION(46, 0)

/* --- memory -------------------------------------------------------------------------------- */

bool nvme_ep_sq_map(struct nvme_ep_core *core, struct nvme_ep_sq *sq)
{
    uint64_t bus_addr = pcie_ep_map(&core->view, sq->host_addr, sq->size * NVME_SQE_BYTES, false);

    sq->base = NULL;
    if (bus_addr == PCIE_EP_NO_ADDR || !is_aligned(bus_addr, NVME_SQE_BYTES)) {
        return false;
    }
    sq->base = mem_bus_ptr(bus_addr);
    return true;
}

bool nvme_ep_cq_map(struct nvme_ep_core *core, struct nvme_ep_cq *cq)
{
    uint64_t bus_addr = pcie_ep_map(&core->view, cq->host_addr, cq->size * NVME_CQE_BYTES, true);

    cq->base = NULL;
    if (bus_addr == PCIE_EP_NO_ADDR || !is_aligned(bus_addr, NVME_CQE_BYTES)) {
        return false;
    }
    cq->base = mem_bus_ptr(bus_addr);
    return true;
}

static void cq_fill(struct nvme_ep_cq *cq, uint16_t id, uint64_t host_addr, uint32_t size)
{
    *cq = (struct nvme_ep_cq){.id = id,
                              .host_addr = host_addr,
                              .size = size,
                              .room = size - 1,
                              .phase = (uint64_t)NVME_CQE_PHASE << 32};
    list_init(&cq->held);
}

static void sq_fill(struct nvme_ep_sq *sq, uint16_t id, uint64_t host_addr, uint32_t size)
{
    *sq = (struct nvme_ep_sq){.id = id, .host_addr = host_addr, .size = size};
}

/* Takes a CQ into service. Its core. */
static bool cq_attach(struct nvme_ep_core *core, struct nvme_ep_cq *cq)
{
    if (!nvme_ep_cq_map(core, cq) || !nvme_ep_cq_create_doorbell(core, cq)) {
        return false;
    }
    nvme_ep_cq_load_settings(core, cq);
    core->cqs[core->cq_count++] = cq;
    return true;
}

enum status nvme_ep_admin_queue_create(struct nvme_ep *ep)
{
    struct nvme_ep_core *core = &ep->cores[0];
    struct nvme_ep_sq *sq = &ep->sqs[0];
    struct nvme_ep_cq *cq = &ep->cqs[0];
    uint32_t sq_size = (uint32_t)FIELD_GET(NVME_AQA_ASQS, ep->aqa) + 1;
    uint32_t cq_size = (uint32_t)FIELD_GET(NVME_AQA_ACQS, ep->aqa) + 1;

    if (sq_size < 2 || cq_size < 2 || !is_aligned(ep->asq | ep->acq, ep->page_bytes)) {
        return STATUS_INVALID; /* 3.1.8 */
    }
    sq_fill(sq, 0, ep->asq, sq_size);
    cq_fill(cq, 0, ep->acq, cq_size);
    sq->cq = cq;
    sq->pools = &ep->admin;
    cq->is_ien = true; /* vector 0 */
    if (!nvme_ep_sq_map(core, sq) || !nvme_ep_sq_create_doorbell(core, sq) ||
        !cq_attach(core, cq)) {
        return STATUS_INVALID;
    }
    ep->sq_state[0] = NVME_EP_QUEUE_LIVE;
    ep->cq_state[0] = NVME_EP_QUEUE_LIVE;
    ep->admin_sq = sq;
    return STATUS_OK;
}

/* --- errands ------------------------------------------------------------------------------- */

static struct nvme_ep_cmd *errand_of(struct msg *msg)
{
    return CONTAINER_OF(msg, struct nvme_ep_cmd, msg);
}

static void errand_send(struct nvme_ep_cmd *cmd, uint32_t core, void *queue, msg_fn *fn)
{
    cmd->nvme.state |= NVME_EP_CMD_ERRAND;
    cmd->errand_queue = queue;
    cmd->errand_failed = false;
    cmd->msg.fn = fn;
    msg_send(core, &cmd->msg);
}

static void errand_answer(struct nvme_ep_cmd *cmd, bool failed, msg_fn *fn)
{
    cmd->errand_failed = failed;
    cmd->msg.fn = fn;
    msg_send(0, &cmd->msg);
}

static void queue_fail(struct nvme_cmd *nvme, nvme_status_t status, uint16_t location)
{
    nvme->error_location = location;
    nvme_admin_done(nvme, (nvme_status_t)(status | NVME_STATUS_DNR), 0);
}

static void queue_state_set(struct nvme_ep *ep, uint8_t *state, uint32_t id,
                            enum nvme_ep_queue_state to)
{
    TRACE(0, QUEUE_STATE, ep->pcie->fn, id, *state, to);
    *state = (uint8_t)to;
}

/* Queue ids that Set Features allotted (5.21.1.7). */
static bool id_is_valid(struct nvme_ep *ep, uint32_t id, bool is_cq)
{
    uint32_t value = nvme_ctrl_feature(ep->ctrl, NVME_FEATURE_QUEUES, 0);
    uint32_t count = is_cq ? (uint32_t)FIELD_GET(NVME_QUEUES_CQ, value)
                           : (uint32_t)FIELD_GET(NVME_QUEUES_SQ, value);

    return id != 0 && id <= count + 1 && id <= ep->config.ctrl.io_queue_count;
}

static bool size_is_valid(uint32_t size)
{
    return size >= 2 && size <= LIMIT_QUEUE_ENTRIES;
}

/* --- Create I/O Completion Queue (5.3) ------------------------------------------------------ */

static void cq_created(struct msg *msg)
{
    struct nvme_ep_cmd *cmd = errand_of(msg);
    struct nvme_ep *ep = nvme_ep_of(cmd->nvme.ctrl);
    struct nvme_ep_cq *cq = cmd->errand_queue;

    if (cmd->errand_failed) {
        queue_state_set(ep, &ep->cq_state[cq->id], cq->id, NVME_EP_QUEUE_FREE);
        queue_fail(&cmd->nvme, NVME_SC_INVALID_FIELD, AT_PRP1);
        return;
    }
    queue_state_set(ep, &ep->cq_state[cq->id], cq->id, NVME_EP_QUEUE_LIVE);
    nvme_admin_done(&cmd->nvme, NVME_SC_SUCCESS, 0);
}

static void cq_create_on_core(struct msg *msg)
{
    struct nvme_ep_cmd *cmd = errand_of(msg);
    struct nvme_ep_cq *cq = cmd->errand_queue;
    struct nvme_ep_core *core = &nvme_ep_of(cmd->nvme.ctrl)->cores[cq->core];

    errand_answer(cmd, !cq_attach(core, cq), cq_created);
}

static nvme_status_t cq_check(struct nvme_ep *ep, const struct nvme_sqe *sqe, uint16_t *location)
{
    uint32_t id = (uint32_t)FIELD_GET(NVME_QUEUE_ID, sqe->cdw10);
    uint32_t size = (uint32_t)FIELD_GET(NVME_QUEUE_SIZE, sqe->cdw10) + 1;
    bool is_ien = (sqe->cdw11 & NVME_CREATE_CQ_IEN) != 0;

    *location = AT_QID;
    if (!id_is_valid(ep, id, true) || ep->cq_state[id] != NVME_EP_QUEUE_FREE) {
        return NVME_SC_INVALID_QUEUE_ID;
    }
    *location = AT_QSIZE;
    if (!size_is_valid(size) || FIELD_GET(NVME_CC_IOCQES, ep->cc) != NVME_IOCQES) {
        return NVME_SC_INVALID_QUEUE_SIZE;
    }
    *location = AT_FLAGS;
    if ((sqe->cdw11 & NVME_CREATE_CQ_PC) == 0) { /* CAP.CQR */
        return NVME_SC_INVALID_FIELD;
    }
    *location = AT_CDW11_HIGH;
    if (is_ien && FIELD_GET(NVME_CREATE_CQ_IV, sqe->cdw11) >= ep->pcie->vector_count) {
        return NVME_SC_INVALID_INTERRUPT_VECTOR;
    }
    *location = AT_PRP1;
    if (!is_aligned(sqe->prp1, ep->page_bytes)) {
        return NVME_SC_INVALID_PRP_OFFSET;
    }
    return NVME_SC_SUCCESS;
}

/* Queues go round the cores in the order in which they are created. */
static uint32_t next_core(struct nvme_ep *ep)
{
    do {
        ep->next_core = (ep->next_core + 1) % LIMIT_CORES;
    } while ((ep->config.core_mask & BIT32(ep->next_core)) == 0);
    return ep->next_core;
}

void nvme_ep_cq_adopt(struct nvme_ep *ep, struct nvme_ep_cq *cq)
{
    cq->core = cq->id == 0 ? 0 : (uint8_t)next_core(ep);
    struct nvme_ep_core *core = &ep->cores[cq->core];
    core->cqs[core->cq_count++] = cq;
    ep->cq_state[cq->id] = NVME_EP_QUEUE_LIVE;
}

void nvme_ep_sq_adopt(struct nvme_ep *ep, struct nvme_ep_sq *sq)
{
    sq->core = sq->cq->core;
    struct nvme_ep_core *core = &ep->cores[sq->core];
    if (sq->id == 0) {
        sq->pools = &ep->admin;
        ep->admin_sq = sq;
        if (sq->has_merged_tail) {
            core->attend |= NVME_EP_ATTEND_MERGE;
        }
    } else {
        sq->pools = &core->io;
        ep->cq_sq_count[sq->cq->id]++;
        nvme_ep_sq_attach(core, sq);
    }
    ep->sq_state[sq->id] = NVME_EP_QUEUE_LIVE;
}

void nvme_ep_create_cq(struct nvme_cmd *nvme)
{
    struct nvme_ep *ep = nvme_ep_of(nvme->ctrl);
    const struct nvme_sqe *sqe = &nvme->blk.cmd;
    uint16_t location;
    nvme_status_t status = cq_check(ep, sqe, &location);

    if (status != NVME_SC_SUCCESS) {
        queue_fail(nvme, status, location);
        return;
    }
    uint16_t id = (uint16_t)FIELD_GET(NVME_QUEUE_ID, sqe->cdw10);
    struct nvme_ep_cq *cq = &ep->cqs[id];
    cq_fill(cq, id, sqe->prp1, (uint32_t)FIELD_GET(NVME_QUEUE_SIZE, sqe->cdw10) + 1);
    cq->is_ien = (sqe->cdw11 & NVME_CREATE_CQ_IEN) != 0;
    cq->vector = cq->is_ien ? (uint16_t)FIELD_GET(NVME_CREATE_CQ_IV, sqe->cdw11) : 0;
    cq->core = (uint8_t)next_core(ep);
    ep->cq_sq_count[id] = 0;
    shm_store32(nvme_ep_cq_doorbell(ep, id), 0); /* what it held belonged to an older queue */
    queue_state_set(ep, &ep->cq_state[id], id, NVME_EP_QUEUE_CREATING);
    errand_send(nvme_ep_cmd_of(nvme), cq->core, cq, cq_create_on_core);
}

/* --- Create I/O Submission Queue (5.4) ------------------------------------------------------ */

static void sq_created(struct msg *msg)
{
    struct nvme_ep_cmd *cmd = errand_of(msg);
    struct nvme_ep *ep = nvme_ep_of(cmd->nvme.ctrl);
    struct nvme_ep_sq *sq = cmd->errand_queue;

    if (cmd->errand_failed) {
        ep->cq_sq_count[sq->cq->id]--;
        queue_state_set(ep, &ep->sq_state[sq->id], sq->id, NVME_EP_QUEUE_FREE);
        queue_fail(&cmd->nvme, NVME_SC_INVALID_FIELD, AT_PRP1);
        return;
    }
    queue_state_set(ep, &ep->sq_state[sq->id], sq->id, NVME_EP_QUEUE_LIVE);
    nvme_admin_done(&cmd->nvme, NVME_SC_SUCCESS, 0);
}

static void sq_create_on_core(struct msg *msg)
{
    struct nvme_ep_cmd *cmd = errand_of(msg);
    struct nvme_ep_sq *sq = cmd->errand_queue;
    struct nvme_ep_core *core = &nvme_ep_of(cmd->nvme.ctrl)->cores[sq->core];
    bool is_ready = nvme_ep_sq_map(core, sq) && nvme_ep_sq_create_doorbell(core, sq);

    if (is_ready) {
        nvme_ep_sq_attach(core, sq);
    }
    errand_answer(cmd, !is_ready, sq_created);
}

static nvme_status_t sq_check(struct nvme_ep *ep, const struct nvme_sqe *sqe, uint16_t *location)
{
    uint32_t id = (uint32_t)FIELD_GET(NVME_QUEUE_ID, sqe->cdw10);
    uint32_t size = (uint32_t)FIELD_GET(NVME_QUEUE_SIZE, sqe->cdw10) + 1;
    uint32_t cq_id = (uint32_t)FIELD_GET(NVME_CREATE_SQ_CQID, sqe->cdw11);

    *location = AT_QID;
    if (!id_is_valid(ep, id, false) || ep->sq_state[id] != NVME_EP_QUEUE_FREE) {
        return NVME_SC_INVALID_QUEUE_ID;
    }
    *location = AT_CDW11_HIGH;
    if (!id_is_valid(ep, cq_id, true)) { /* the admin queue's 0 too */
        return NVME_SC_INVALID_QUEUE_ID;
    }
    if (ep->cq_state[cq_id] != NVME_EP_QUEUE_LIVE) {
        return NVME_SC_CQ_INVALID;
    }
    *location = AT_QSIZE;
    if (!size_is_valid(size) || FIELD_GET(NVME_CC_IOSQES, ep->cc) != NVME_IOSQES) {
        return NVME_SC_INVALID_QUEUE_SIZE;
    }
    *location = AT_FLAGS;
    if ((sqe->cdw11 & NVME_CREATE_SQ_PC) == 0) {
        return NVME_SC_INVALID_FIELD;
    }
    *location = AT_PRP1;
    if (!is_aligned(sqe->prp1, ep->page_bytes)) {
        return NVME_SC_INVALID_PRP_OFFSET;
    }
    return NVME_SC_SUCCESS;
}

void nvme_ep_create_sq(struct nvme_cmd *nvme)
{
    struct nvme_ep *ep = nvme_ep_of(nvme->ctrl);
    const struct nvme_sqe *sqe = &nvme->blk.cmd;
    uint16_t location;
    nvme_status_t status = sq_check(ep, sqe, &location);

    if (status != NVME_SC_SUCCESS) {
        queue_fail(nvme, status, location);
        return;
    }
    uint16_t id = (uint16_t)FIELD_GET(NVME_QUEUE_ID, sqe->cdw10);
    struct nvme_ep_sq *sq = &ep->sqs[id];
    sq_fill(sq, id, sqe->prp1, (uint32_t)FIELD_GET(NVME_QUEUE_SIZE, sqe->cdw10) + 1);
    sq->cq = &ep->cqs[FIELD_GET(NVME_CREATE_SQ_CQID, sqe->cdw11)];
    sq->core = sq->cq->core;
    sq->pools = &ep->cores[sq->core].io;
    sq->priority = (uint8_t)FIELD_GET(NVME_CREATE_SQ_PRIO, sqe->cdw11);
    ep->cq_sq_count[sq->cq->id]++;
    shm_store32(nvme_ep_sq_doorbell(ep, id), 0);
    queue_state_set(ep, &ep->sq_state[id], id, NVME_EP_QUEUE_CREATING);
    errand_send(nvme_ep_cmd_of(nvme), sq->core, sq, sq_create_on_core);
}

/* --- Delete I/O Completion Queue (5.5) ------------------------------------------------------ */

static void cq_deleted(struct msg *msg)
{
    struct nvme_ep_cmd *cmd = errand_of(msg);
    struct nvme_ep *ep = nvme_ep_of(cmd->nvme.ctrl);
    struct nvme_ep_cq *cq = cmd->errand_queue;

    shm_store32(nvme_ep_cq_doorbell(ep, cq->id), 0);
    nvme_ep_lost_update(ep);
    queue_state_set(ep, &ep->cq_state[cq->id], cq->id, NVME_EP_QUEUE_FREE);
    nvme_admin_done(&cmd->nvme, NVME_SC_SUCCESS, 0);
}

static void cq_delete_on_core(struct msg *msg)
{
    struct nvme_ep_cmd *cmd = errand_of(msg);
    struct nvme_ep_cq *cq = cmd->errand_queue;
    struct nvme_ep_core *core = &nvme_ep_of(cmd->nvme.ctrl)->cores[cq->core];

    nvme_ep_signal_dirty(core); /* so that it is in no list */
    for (uint32_t i = 0; i < core->cq_count; i++) {
        if (core->cqs[i] == cq) {
            core->cqs[i] = core->cqs[--core->cq_count];
            break;
        }
    }
    nvme_ep_reach_update(core);
    errand_answer(cmd, false, cq_deleted);
}

void nvme_ep_delete_cq(struct nvme_cmd *nvme)
{
    struct nvme_ep *ep = nvme_ep_of(nvme->ctrl);
    uint32_t id = (uint32_t)FIELD_GET(NVME_QUEUE_ID, nvme->blk.cmd.cdw10);

    if (id == 0 || id >= NVME_EP_QUEUES || ep->cq_state[id] != NVME_EP_QUEUE_LIVE) {
        queue_fail(nvme, NVME_SC_INVALID_QUEUE_ID, AT_QID);
        return;
    }
    if (ep->cq_sq_count[id] != 0) {
        queue_fail(nvme, NVME_SC_INVALID_QUEUE_DELETION, AT_QID);
        return;
    }
    queue_state_set(ep, &ep->cq_state[id], id, NVME_EP_QUEUE_DELETING);
    errand_send(nvme_ep_cmd_of(nvme), ep->cqs[id].core, &ep->cqs[id], cq_delete_on_core);
}

/* --- Delete I/O Submission Queue (5.6) ------------------------------------------------------ */

void nvme_ep_cancel(struct nvme_ep_cmd *cmd)
{
    if ((cmd->nvme.state & NVME_EP_CMD_CANCELLED) != 0) {
        return;
    }
    cmd->nvme.state |= NVME_EP_CMD_CANCELLED;
    cmd->nvme.aborted = true;
    counter_add(&cmd->core->counters.cancels, 1);
    nvme_cancel(&cmd->nvme);
}

static void sq_deleted(struct msg *msg)
{
    struct nvme_ep_cmd *cmd = errand_of(msg);
    struct nvme_ep *ep = nvme_ep_of(cmd->nvme.ctrl);
    struct nvme_ep_sq *sq = cmd->errand_queue;

    shm_store32(nvme_ep_sq_doorbell(ep, sq->id), 0);
    ep->cq_sq_count[sq->cq->id]--;
    nvme_ep_lost_update(ep);
    queue_state_set(ep, &ep->sq_state[sq->id], sq->id, NVME_EP_QUEUE_FREE);
    nvme_admin_done(&cmd->nvme, NVME_SC_SUCCESS, 0);
}

/* Calls for the end of each command of the queue that is under way; true when there is one. */
static bool sq_cancel_all(struct nvme_ep_core *core, const struct nvme_ep_sq *sq)
{
    bool is_busy = false;

    for (uint32_t i = 0; i < core->io.cmds.count && !pool_is_full(&core->io.cmds); i++) {
        struct nvme_ep_cmd *cmd = &core->io.all[i];
        if (cmd->nvme.state != NVME_EP_CMD_FREE && cmd->sq == sq) {
            nvme_ep_cancel(cmd);
            is_busy = is_busy || cmd->nvme.state != NVME_EP_CMD_FREE;
        }
    }
    return is_busy;
}

void nvme_ep_deletions_poll(struct nvme_ep_core *core)
{
    for (uint32_t i = 0; i < core->deleting_count;) {
        struct nvme_ep_sq *sq = core->deleting[i];
        nvme_ep_held_drop(core, sq); /* 5.6: their entries need not be posted */
        if (sq_cancel_all(core, sq)) {
            i++;
            continue;
        }
        core->deleting[i] = core->deleting[--core->deleting_count];
        errand_answer(sq->delete_cmd, false, sq_deleted);
    }
    if (core->deleting_count == 0) {
        core->attend &= ~NVME_EP_ATTEND_DELETE;
    }
}

static void sq_delete_on_core(struct msg *msg)
{
    struct nvme_ep_cmd *cmd = errand_of(msg);
    struct nvme_ep_sq *sq = cmd->errand_queue;
    struct nvme_ep_core *core = &nvme_ep_of(cmd->nvme.ctrl)->cores[sq->core];

    nvme_ep_sq_detach(core, sq);
    sq->is_deleting = true;
    sq->delete_cmd = cmd;
    core->deleting[core->deleting_count++] = sq;
    core->attend |= NVME_EP_ATTEND_DELETE;
    nvme_ep_reach_update(core);
}

void nvme_ep_delete_sq(struct nvme_cmd *nvme)
{
    struct nvme_ep *ep = nvme_ep_of(nvme->ctrl);
    uint32_t id = (uint32_t)FIELD_GET(NVME_QUEUE_ID, nvme->blk.cmd.cdw10);

    if (id == 0 || id >= NVME_EP_QUEUES || ep->sq_state[id] != NVME_EP_QUEUE_LIVE) {
        queue_fail(nvme, NVME_SC_INVALID_QUEUE_ID, AT_QID);
        return;
    }
    queue_state_set(ep, &ep->sq_state[id], id, NVME_EP_QUEUE_DELETING);
    errand_send(nvme_ep_cmd_of(nvme), ep->sqs[id].core, &ep->sqs[id], sq_delete_on_core);
}

/* --- Abort (5.1) --------------------------------------------------------------------------- */

static void abort_answered(struct msg *msg)
{
    struct nvme_ep_cmd *cmd = errand_of(msg);

    nvme_admin_done(&cmd->nvme, NVME_SC_SUCCESS, cmd->errand_failed ? 1 : 0);
}

static struct nvme_ep_cmd *command_find(struct nvme_ep_pools *pools, const struct nvme_ep_sq *sq,
                                        uint16_t cid)
{
    for (uint32_t i = 0; i < pools->cmds.count; i++) {
        struct nvme_ep_cmd *cmd = &pools->all[i];
        if (cmd->nvme.state != NVME_EP_CMD_FREE && cmd->sq == sq && cmd->nvme.cid == cid) {
            return cmd;
        }
    }
    return NULL;
}

static void abort_on_core(struct msg *msg)
{
    struct nvme_ep_cmd *cmd = errand_of(msg);
    struct nvme_ep_sq *sq = cmd->errand_queue;
    struct nvme_ep_cmd *target = command_find(sq->pools, sq, cmd->errand_cid);

    /* What has ended, is ours, or is being aborted already is not ours to abort. */
    if (target == NULL || (target->nvme.state &
                           (NVME_EP_CMD_HELD | NVME_EP_CMD_ERRAND | NVME_EP_CMD_ABORTING)) != 0) {
        errand_answer(cmd, true, abort_answered);
        return;
    }
    /* The end of the target tells whether it was aborted: complete.c sends the answer. */
    cmd->msg.fn = abort_answered;
    target->abort = cmd;
    target->nvme.state |= NVME_EP_CMD_ABORTING;
    nvme_ep_cancel(target);
}

void nvme_ep_abort(struct nvme_cmd *nvme, uint16_t sq_id, uint16_t cid)
{
    struct nvme_ep *ep = nvme_ep_of(nvme->ctrl);
    struct nvme_ep_cmd *cmd = nvme_ep_cmd_of(nvme);

    if (sq_id >= NVME_EP_QUEUES || ep->sq_state[sq_id] != NVME_EP_QUEUE_LIVE) {
        nvme_admin_done(nvme, NVME_SC_SUCCESS, 1);
        return;
    }
    cmd->errand_cid = cid;
    errand_send(cmd, ep->sqs[sq_id].core, &ep->sqs[sq_id], abort_on_core);
}
