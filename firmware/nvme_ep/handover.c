/*
 * Another image goes on serving the same host: what this one leaves, and how the next one takes it
 * over. The way there is part of the state machine (control.c) and of the fences (fence.c).
 *
 * What was saved came from our own predecessor through memory that no host can write, but perhaps
 * from another version: everything is checked before anything is changed. Leaves out: commands
 * under way (there are none), counters, the error log's entries.
 */
#include "base/log.h"
#include "nvme/handover.h"
#include "nvme_ep/nvme_ep_priv.h"
#include "spec/handover.h"

#define PHASE_BIT ((uint64_t)NVME_CQE_PHASE << 32)

/* --- leaving ------------------------------------------------------------------------------- */

void nvme_ep_hand_over(struct nvme_ep *ep, void (*done)(void *ctx), void *ctx)
{
    ASSERT(done != NULL && ep->handover.done == NULL);
    ep->handover.done = done;
    ep->handover.ctx = ctx;
    nvme_ep_control_wake(ep);
}

void nvme_ep_hand_over_cancel(struct nvme_ep *ep)
{
    ep->handover.done = NULL;
    nvme_ep_hand_over_void_set(ep, true);
    nvme_ep_control_wake(ep);
}

bool nvme_ep_hand_over_again(struct nvme_ep *ep)
{
    if (ep->state != NVME_EP_STATE_HANDED || ep->handover.done == NULL ||
        nvme_ep_hand_over_is_void(ep) || !pcie_ep_event_waits(ep->pcie)) {
        return false;
    }
    nvme_ep_hand_over_void_set(ep, true);
    nvme_ep_control_wake(ep);
    return true;
}

bool nvme_ep_can_hand_over(const struct nvme_ep *ep)
{
    return ep->state != NVME_EP_STATE_READY || (!ep->is_fatal && nvme_ctrl_can_save(ep->ctrl));
}

static void cq_save(const struct nvme_ep_cq *cq, struct handover_queue *to)
{
    to->cq_addr = cq->host_addr;
    to->cq_size = (uint16_t)cq->size;
    to->cq_head = (uint16_t)cq->head;
    to->cq_tail = (uint16_t)cq->tail;
    to->cq_vector = cq->vector;
    to->cq_phase = cq->phase != 0;
    to->cq_ien = cq->is_ien;
    to->cq_is_shadowed = cq->is_shadowed;
    to->cq_shadow_seen = cq->shadow_seen;
}

static void sq_save(const struct nvme_ep_sq *sq, struct handover_queue *to)
{
    to->sq_addr = sq->host_addr;
    to->sq_size = (uint16_t)sq->size;
    to->sq_head = (uint16_t)sq->head;
    to->sq_cq_id = sq->cq->id;
    to->sq_priority = sq->priority;
    to->sq_is_merged = sq->has_merged_tail;
    to->sq_tail_merged = sq->tail_merged;
    to->sq_mmio_seen = sq->mmio_seen;
    to->sq_shadow_seen = sq->shadow_seen;
}

static void aers_save(const struct nvme_ep *ep, struct handover_function *saved)
{
    for (uint32_t i = 0; i < NVME_EP_ADMIN_COMMANDS; i++) {
        const struct nvme_cmd *nvme = &ep->admin_cmds[i].nvme;
        if (nvme->state != NVME_EP_CMD_FREE) {
            ASSERT(nvme->blk.cmd.opcode == NVME_ADMIN_ASYNC_EVENT &&
                   saved->aer_count < HANDOVER_AERS);
            saved->aer_cids[saved->aer_count++] = nvme->cid;
        }
    }
}

/* But for these two, the registers' page says what there is to know: a start. */
static uint8_t saved_state(enum nvme_ep_state state)
{
    if (state == NVME_EP_STATE_READY) {
        return HANDOVER_READY;
    }
    return state == NVME_EP_STATE_SHUT_DOWN ? HANDOVER_SHUT_DOWN : HANDOVER_DISABLED;
}

void nvme_ep_save(const struct nvme_ep *ep, struct handover_function *saved)
{
    const struct nvme_ep_dbbuf *dbbuf = &ep->cores[0].dbbuf;

    ASSERT(ep->state == NVME_EP_STATE_HANDED);
    *saved = (struct handover_function){.cap = ep->cap,
                                        .asq = ep->asq,
                                        .acq = ep->acq,
                                        .cc = ep->cc,
                                        .csts = ep->csts,
                                        .aqa = ep->aqa,
                                        .fn = ep->pcie->fn,
                                        .cntlid = ep->config.ctrl.cntlid,
                                        .is_ready = saved_state(ep->handover.from)};
    if (saved->is_ready != HANDOVER_READY) {
        return;
    }
    saved->has_dbbuf = dbbuf->is_set;
    saved->shadow_addr = dbbuf->shadow_addr;
    saved->event_idx_addr = dbbuf->event_idx_addr;
    nvme_ctrl_save(ep->ctrl, &saved->ctrl);
    aers_save(ep, saved);
    for (uint32_t qid = 0; qid < NVME_EP_QUEUES; qid++) {
        if (ep->cq_state[qid] != NVME_EP_QUEUE_FREE) {
            cq_save(&ep->cqs[qid], &saved->queues[qid]);
        }
        if (ep->sq_state[qid] != NVME_EP_QUEUE_FREE) {
            sq_save(&ep->sqs[qid], &saved->queues[qid]);
        }
    }
    saved->piece_count = ep->hmb.is_set ? ep->hmb.memory.piece_count : 0;
    for (uint32_t i = 0; i < saved->piece_count; i++) {
        saved->pieces[i].host_addr = ep->hmb.memory.pieces[i].host_addr;
        saved->pieces[i].len_bytes = ep->hmb.memory.pieces[i].len_bytes;
    }
}

/* --- can it be taken over? ------------------------------------------------------------------ */

static bool cq_is_valid(const struct nvme_ep *ep, const struct handover_queue *q)
{
    return q->cq_size >= 2 && q->cq_size <= LIMIT_QUEUE_ENTRIES && q->cq_head < q->cq_size &&
           q->cq_tail < q->cq_size && is_aligned(q->cq_addr, 4096) &&
           q->cq_vector < ep->pcie->vector_count;
}

static bool sq_is_valid(const struct handover_function *saved, uint32_t qid)
{
    const struct handover_queue *q = &saved->queues[qid];

    return q->sq_size >= 2 && q->sq_size <= LIMIT_QUEUE_ENTRIES && q->sq_head < q->sq_size &&
           is_aligned(q->sq_addr, 4096) && q->sq_priority < NVME_EP_CLASS_COUNT &&
           q->sq_cq_id < NVME_EP_QUEUES && (q->sq_cq_id == 0) == (qid == 0) &&
           saved->queues[q->sq_cq_id].cq_size != 0;
}

static bool queues_are_valid(const struct nvme_ep *ep, const struct handover_function *saved)
{
    if (saved->queues[0].sq_size == 0 || saved->queues[0].cq_size == 0) {
        return false;
    }
    for (uint32_t qid = 0; qid < NVME_EP_QUEUES; qid++) {
        const struct handover_queue *q = &saved->queues[qid];
        bool is_there = q->cq_size != 0 || q->sq_size != 0;
        if ((is_there && qid > ep->config.ctrl.io_queue_count) ||
            (q->cq_size != 0 && !cq_is_valid(ep, q)) ||
            (q->sq_size != 0 && !sq_is_valid(saved, qid))) {
            return false;
        }
    }
    return true;
}

static bool pieces_are_valid(const struct nvme_ep *ep, const struct handover_function *saved)
{
    uint64_t bytes = 0;

    if (saved->piece_count == 0) {
        return true;
    }
    if (saved->piece_count > LIMIT_HMB_PIECES || ep->config.ctrl.hmb_preferred_bytes == 0) {
        return false;
    }
    for (uint32_t i = 0; i < saved->piece_count; i++) {
        const struct handover_piece *piece = &saved->pieces[i];
        if (piece->len_bytes == 0 || piece->len_bytes > NVME_EP_HMB_PIECE_MAX ||
            !is_aligned(piece->host_addr | piece->len_bytes, 4096)) {
            return false;
        }
        bytes += piece->len_bytes;
    }
    return bytes >= ep->config.ctrl.hmb_min_bytes;
}

static bool is_valid(const struct nvme_ep *ep, const struct handover_function *saved)
{
    const uint8_t *regs = ep->pcie->regs;

    if (saved->fn != ep->pcie->fn || saved->cntlid != ep->config.ctrl.cntlid ||
        saved->cap != nvme_ep_cap(ep)) {
        return false;
    }
    if (saved->is_ready == HANDOVER_DISABLED) {
        return true;
    }
    /* CC itself may have been written since: that write waits in the events. */
    if ((saved->cc & NVME_CC_EN) == 0 || FIELD_GET(NVME_CC_MPS, saved->cc) != 0 ||
        (shm_load32(regs + NVME_REG_CSTS) & NVME_CSTS_RDY) == 0 ||
        (saved->csts & NVME_CSTS_RDY) == 0) {
        return false;
    }
    if (saved->is_ready == HANDOVER_SHUT_DOWN) {
        return FIELD_GET(NVME_CSTS_SHST, saved->csts) == NVME_SHST_COMPLETE;
    }
    return saved->is_ready == HANDOVER_READY && saved->aer_count <= LIMIT_AERS &&
           (!saved->has_dbbuf || ep->config.ctrl.doorbell_buffers) &&
           nvme_ctrl_can_restore(ep->ctrl, &saved->ctrl) && queues_are_valid(ep, saved) &&
           pieces_are_valid(ep, saved);
}

/* --- taking over --------------------------------------------------------------------------- */

static void cq_restore(struct nvme_ep *ep, uint32_t qid, const struct handover_queue *q)
{
    struct nvme_ep_cq *cq = &ep->cqs[qid];

    *cq = (struct nvme_ep_cq){.id = (uint16_t)qid,
                              .host_addr = q->cq_addr,
                              .size = q->cq_size,
                              .head = q->cq_head,
                              .head_bad = q->cq_head,
                              .tail = q->cq_tail,
                              .signalled = q->cq_tail,
                              .phase = q->cq_phase != 0 ? PHASE_BIT : 0,
                              .vector = q->cq_vector,
                              .is_ien = q->cq_ien != 0,
                              .is_shadowed = q->cq_is_shadowed != 0,
                              .shadow_seen = q->cq_shadow_seen};
    list_init(&cq->held);
    /* Reports take tail and phase from it: the first round has the phase 1. */
    counter_set(&cq->cqe_count, q->cq_phase != 0 ? q->cq_tail : q->cq_size + q->cq_tail);
    nvme_ep_cq_adopt(ep, cq);
}

static void sq_restore(struct nvme_ep *ep, uint32_t qid, const struct handover_queue *q)
{
    struct nvme_ep_sq *sq = &ep->sqs[qid];

    *sq = (struct nvme_ep_sq){.id = (uint16_t)qid,
                              .host_addr = q->sq_addr,
                              .size = q->sq_size,
                              .head = q->sq_head,
                              .cq = &ep->cqs[q->sq_cq_id],
                              .priority = (uint8_t)q->sq_priority,
                              .has_merged_tail = q->sq_is_merged != 0,
                              .tail_merged = q->sq_tail_merged,
                              .mmio_seen = q->sq_mmio_seen,
                              .shadow_seen = q->sq_shadow_seen};
    counter_set(&sq->sqe_count, q->sq_head);
    nvme_ep_sq_adopt(ep, sq);
}

static void queues_restore(struct nvme_ep *ep, const struct handover_function *saved)
{
    for (uint32_t core = 0; core < LIMIT_CORES; core++) {
        struct nvme_ep_core *c = &ep->cores[core];
        c->is_stopped = true;
        c->attend |= NVME_EP_ATTEND_STOPPED;
        c->is_weighted = FIELD_GET(NVME_CC_AMS, saved->cc) == NVME_CC_AMS_WRR;
        c->dbbuf = (struct nvme_ep_dbbuf){.is_set = saved->has_dbbuf != 0,
                                          .shadow_addr = saved->shadow_addr,
                                          .event_idx_addr = saved->event_idx_addr};
    }
    for (uint32_t qid = 0; qid < NVME_EP_QUEUES; qid++) {
        if (saved->queues[qid].cq_size != 0) {
            cq_restore(ep, qid, &saved->queues[qid]);
        }
    }
    for (uint32_t qid = 0; qid < NVME_EP_QUEUES; qid++) {
        if (saved->queues[qid].sq_size != 0) {
            sq_restore(ep, qid, &saved->queues[qid]);
        }
    }
    for (uint32_t core = 0; core < LIMIT_CORES; core++) {
        nvme_ep_queues_adopt(&ep->cores[core]);
    }
}

static void aers_restore(struct nvme_ep *ep, const struct handover_function *saved)
{
    for (uint32_t i = 0; i < saved->aer_count; i++) {
        struct nvme_ep_cmd *cmd = pool_get(&ep->admin.cmds);
        ASSERT(cmd != NULL); /* NVME_EP_ADMIN_COMMANDS */
        cmd->nvme.blk.cmd =
            (struct nvme_sqe){.opcode = NVME_ADMIN_ASYNC_EVENT, .cid = saved->aer_cids[i]};
        nvme_ep_cmd_setup(cmd, &ep->sqs[0], sched_now_ns());
        counter_add(&ep->cores[0].counters.sqes, 1);
        nvme_submit_admin(&cmd->nvme);
    }
}

static void pieces_restore(struct nvme_ep *ep, const struct handover_function *saved)
{
    struct nvme_ep_hmb *memory = &ep->hmb.memory;

    memory->piece_count = saved->piece_count;
    memory->len_bytes = 0;
    for (uint32_t i = 0; i < saved->piece_count; i++) {
        memory->pieces[i] = (struct nvme_ep_hmb_piece){.host_addr = saved->pieces[i].host_addr,
                                                       .len_bytes = saved->pieces[i].len_bytes};
        memory->len_bytes += saved->pieces[i].len_bytes;
    }
    ep->hmb.is_set = saved->piece_count != 0; /* the end of the next fence grants it */
}

void nvme_ep_restore_ctrl(struct nvme_ep *ep)
{
    const struct handover_function *saved = ep->handover.saved;

    ep->handover.saved = NULL;
    nvme_ctrl_restore(ep->ctrl, &saved->ctrl);
    nvme_ep_features_load(ep);
    aers_restore(ep, saved);
}

enum status nvme_ep_restore(struct nvme_ep *ep, const struct handover_function *saved)
{
    if (!is_valid(ep, saved)) {
        return STATUS_BAD_DATA;
    }
    if (saved->is_ready == HANDOVER_DISABLED) {
        return STATUS_OK; /* as a first start: the registers' page says the same */
    }
    nvme_ep_registers_restore(ep, saved);
    if (saved->is_ready == HANDOVER_SHUT_DOWN) {
        ep->state = NVME_EP_STATE_SHUT_DOWN; /* which the host leaves with CC.EN = 0 */
        return STATUS_OK;
    }
    queues_restore(ep, saved);
    pieces_restore(ep, saved);
    ep->handover.saved = saved;
    ep->state = NVME_EP_STATE_RESUMING;
    LOG_INFO("nvme_ep: function %u: goes on where the image before ended", ep->pcie->fn);
    return STATUS_OK;
}
