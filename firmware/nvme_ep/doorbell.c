/*
 * Doorbells: invalid writes, and the doorbell buffers in host memory (shadow doorbells, EventIdx).
 *
 * Drivers differ: some shadow every queue, others (Linux) leave the admin queue's doorbells in
 * MMIO. So a queue that exists when the buffers come, as the admin queue always does, is watched at
 * both places until its shadow changes for the first time: from then on the driver shadows it, and
 * the shadow is never behind the MMIO doorbell. Queues created later are shadowed.
 *
 * Source: NVM Express Base Specification 1.4, sections 3.1.24, 3.1.25, 5.2, 5.7, 7.13.
 */
#include "base/trace.h"
#include "nvme_ep/nvme_ep_priv.h"

#define AT_PRP1 NVME_ERROR_LOCATION(24, 0)
#define AT_PRP2 NVME_ERROR_LOCATION(32, 0)

/* --- invalid writes ------------------------------------------------------------------------ */

/* On core 0: error log entry, asynchronous event. */
static void doorbell_report(struct msg *msg)
{
    struct nvme_ep_core *core = CONTAINER_OF(msg, struct nvme_ep_core, doorbell_msg);
    struct nvme_ep *ep = core->ep;
    uint16_t qid = core->doorbell_qid;
    uint8_t info = core->doorbell_info;

    /* DOORBELL-MSG (release): pairs with the acquire in nvme_ep_doorbell_error(). */
    atomic_store_explicit(&core->doorbell_busy, false, memory_order_release);
    /* While it is handed over, too: then the event waits. */
    bool is_served =
        ep->state == NVME_EP_STATE_READY || ep->state == NVME_EP_STATE_HANDING ||
        (ep->state == NVME_EP_STATE_HANDED && ep->handover.from == NVME_EP_STATE_READY);
    if (is_served) {
        nvme_ctrl_log_error(ep->ctrl, qid, 0xffff, NVME_SC_INVALID_FIELD, NVME_ERROR_LOCATION_NONE,
                            0, 0);
        nvme_ctrl_event(ep->ctrl, NVME_EVENT_ERROR, info, NVME_LOG_ERROR);
    }
}

void nvme_ep_doorbell_error(struct nvme_ep_core *core, uint16_t qid, uint8_t info, uint32_t value)
{
    counter_add(&core->counters.doorbell_errors, 1);
    TRACE(core->index, BAD_DOORBELL, core->ep->pcie->fn, qid, value, info);
    if (atomic_load_explicit(&core->doorbell_busy, memory_order_acquire)) {
        return; /* one at a time: the event is masked after the first anyway (5.2) */
    }
    atomic_store_explicit(&core->doorbell_busy, true, memory_order_relaxed);
    core->doorbell_qid = qid;
    core->doorbell_info = info;
    core->doorbell_msg.fn = doorbell_report;
    msg_send(0, &core->doorbell_msg);
}

static void scan_one(struct nvme_ep *ep, uint32_t qid, uint8_t state, uint32_t *doorbell)
{
    uint32_t value;

    if (state != NVME_EP_QUEUE_FREE) {
        return;
    }
    value = shm_load32(doorbell);
    if (value != 0) {
        shm_store32(doorbell, 0); /* so that the next write is seen */
        nvme_ep_doorbell_error(&ep->cores[0], (uint16_t)qid, NVME_EVENT_ERROR_INVALID_DOORBELL,
                               value);
    }
}

void nvme_ep_doorbell_scan(struct timer *timer)
{
    struct nvme_ep *ep = CONTAINER_OF(timer, struct nvme_ep, scan_timer);

    for (uint32_t qid = 1; qid < NVME_EP_QUEUES; qid++) {
        scan_one(ep, qid, ep->sq_state[qid], nvme_ep_sq_doorbell(ep, qid));
        scan_one(ep, qid, ep->cq_state[qid], nvme_ep_cq_doorbell(ep, qid));
    }
    timer_arm(timer, sched_now_ns() + NVME_EP_DOORBELL_SCAN_NS);
}

/* --- where a queue is rung ----------------------------------------------------------------- */

/* A doorbell in host memory that may be read and written; NULL: out of reach. */
static uint32_t *buffer_doorbell(struct nvme_ep_core *core, uint64_t host_addr)
{
    uint64_t bus_addr = pcie_ep_map(&core->view, host_addr, sizeof(uint32_t), true);

    if (bus_addr == PCIE_EP_NO_ADDR || !is_aligned(bus_addr, sizeof(uint32_t)) ||
        pcie_ep_map(&core->view, host_addr, sizeof(uint32_t), false) != bus_addr) {
        return NULL;
    }
    return mem_bus_ptr(bus_addr);
}

bool nvme_ep_sq_map_doorbell(struct nvme_ep_core *core, struct nvme_ep_sq *sq)
{
    uint64_t offset = 2ull * sq->id * core->ep->doorbell_stride;

    sq->mmio_db = nvme_ep_sq_doorbell(core->ep, sq->id);
    sq->shadow_db = NULL;
    sq->event_idx = NULL;
    if (!core->dbbuf.is_set) {
        sq->tail_db = sq->mmio_db;
        return true;
    }
    sq->shadow_db = buffer_doorbell(core, core->dbbuf.shadow_addr + offset);
    sq->event_idx = buffer_doorbell(core, core->dbbuf.event_idx_addr + offset);
    sq->tail_db = sq->has_merged_tail ? &sq->tail_merged : sq->shadow_db;
    return sq->shadow_db != NULL && sq->event_idx != NULL;
}

bool nvme_ep_cq_map_doorbell(struct nvme_ep_core *core, struct nvme_ep_cq *cq)
{
    uint64_t offset = (2ull * cq->id + 1) * core->ep->doorbell_stride;

    cq->mmio_db = nvme_ep_cq_doorbell(core->ep, cq->id);
    cq->shadow_db = NULL;
    cq->event_idx = NULL;
    if (!core->dbbuf.is_set) {
        return true;
    }
    cq->shadow_db = buffer_doorbell(core, core->dbbuf.shadow_addr + offset);
    cq->event_idx = buffer_doorbell(core, core->dbbuf.event_idx_addr + offset);
    return cq->shadow_db != NULL && cq->event_idx != NULL;
}

bool nvme_ep_sq_create_doorbell(struct nvme_ep_core *core, struct nvme_ep_sq *sq)
{
    sq->has_merged_tail = false;
    if (!nvme_ep_sq_map_doorbell(core, sq)) {
        return false;
    }
    if (sq->shadow_db != NULL) {
        shm_store32(sq->shadow_db, 0); /* the host cannot use it before Create has ended */
    }
    return true;
}

bool nvme_ep_cq_create_doorbell(struct nvme_ep_core *core, struct nvme_ep_cq *cq)
{
    cq->is_shadowed = true;
    if (!nvme_ep_cq_map_doorbell(core, cq)) {
        return false;
    }
    if (cq->shadow_db != NULL) {
        shm_store32(cq->shadow_db, 0);
    }
    return true;
}

/* A queue that exists gets doorbell buffers: its shadow starts where its doorbell stands. The host
 * cannot use it yet, since its Doorbell Buffer Config is under way. */
bool nvme_ep_sq_shadow_doorbell(struct nvme_ep_core *core, struct nvme_ep_sq *sq)
{
    uint32_t tail = shm_load32_acquire(sq->tail_db);

    if (sq->tail_db == sq->mmio_db) {
        sq->mmio_seen = tail;
    } else if (!sq->has_merged_tail) {
        sq->mmio_seen = shm_load32(sq->mmio_db);
    }
    sq->has_merged_tail = true;
    sq->tail_merged = tail;
    sq->shadow_seen = tail;
    core->attend |= NVME_EP_ATTEND_MERGE;
    if (!nvme_ep_sq_map_doorbell(core, sq)) {
        return false;
    }
    shm_store32(sq->shadow_db, tail);
    return true;
}

bool nvme_ep_cq_shadow_doorbell(struct nvme_ep_core *core, struct nvme_ep_cq *cq)
{
    uint32_t head = nvme_ep_cq_head_read(cq);

    cq->is_shadowed = false;
    cq->shadow_seen = head;
    if (!nvme_ep_cq_map_doorbell(core, cq)) {
        return false;
    }
    shm_store32(cq->shadow_db, head);
    return true;
}

/* CQ-HEAD (acquire): pairs with the host's order "entry read, then doorbell"; our next entries go
 * over what it gave back. */
uint32_t nvme_ep_cq_head_read(struct nvme_ep_cq *cq)
{
    uint32_t shadow;

    if (cq->shadow_db == NULL) {
        return shm_load32_acquire(cq->mmio_db);
    }
    shadow = shm_load32_acquire(cq->shadow_db);
    if (!cq->is_shadowed) {
        if (shadow == cq->shadow_seen) {
            return shm_load32_acquire(cq->mmio_db);
        }
        cq->is_shadowed = true;
    }
    return shadow;
}

/* True while both doorbells have to be watched. */
static bool sq_merge(struct nvme_ep_sq *sq)
{
    if (!sq->has_merged_tail || sq->shadow_db == NULL) {
        return sq->has_merged_tail;
    }
    /* In this order: a driver that shadows writes the shadow first (7.13). */
    uint32_t mmio = shm_load32_acquire(sq->mmio_db);
    uint32_t shadow = shm_load32_acquire(sq->shadow_db);
    if (shadow != sq->shadow_seen) {
        sq->has_merged_tail = false;
        sq->tail_db = sq->shadow_db;
        return false;
    }
    if (mmio != sq->mmio_seen) {
        sq->mmio_seen = mmio;
        sq->tail_merged = mmio;
    }
    return true;
}

void nvme_ep_doorbell_merge(struct nvme_ep_core *core)
{
    bool is_needed = false;

    for (uint32_t i = 0; i < core->sq_count; i++) {
        is_needed |= sq_merge(core->sqs[i]);
    }
    if (core->index == 0 && core->ep->admin_sq != NULL) {
        is_needed |= sq_merge(core->ep->admin_sq);
    }
    if (!is_needed) {
        core->attend &= ~NVME_EP_ATTEND_MERGE;
    }
}

/* --- Doorbell Buffer Config (5.7) ---------------------------------------------------------- */

/* A whole page that may be read and written. */
static bool buffer_is_valid(struct nvme_ep *ep, uint64_t host_addr)
{
    struct pcie_ep_view *view = &ep->cores[0].view;
    uint64_t read = pcie_ep_map(view, host_addr, ep->page_bytes, false);

    return is_aligned(host_addr, ep->page_bytes) && read != PCIE_EP_NO_ADDR &&
           read == pcie_ep_map(view, host_addr, ep->page_bytes, true);
}

void nvme_ep_doorbell_buffers(struct nvme_cmd *nvme)
{
    struct nvme_ep *ep = nvme_ep_of(nvme->ctrl);
    struct nvme_ep_cmd *cmd = nvme_ep_cmd_of(nvme);
    uint64_t shadow_addr = nvme->blk.cmd.prp1;
    uint64_t event_idx_addr = nvme->blk.cmd.prp2;
    nvme_status_t status = NVME_SC_SUCCESS;

    if (!buffer_is_valid(ep, shadow_addr)) { /* 5.7.1: whatever is wrong with an address */
        status = NVME_SC_INVALID_FIELD;
        nvme->error_location = AT_PRP1;
    } else if (!buffer_is_valid(ep, event_idx_addr)) {
        status = NVME_SC_INVALID_FIELD;
        nvme->error_location = AT_PRP2;
    } else if (ep->dbbuf_cmd != NULL) {
        status = NVME_SC_COMMAND_SEQUENCE_ERROR; /* one at a time */
    }
    if (status != NVME_SC_SUCCESS) {
        nvme_admin_done(nvme, (nvme_status_t)(status | NVME_STATUS_DNR), 0);
        return;
    }
    nvme->state |= NVME_EP_CMD_ERRAND;
    ep->dbbuf_cmd = cmd;
    nvme_ep_control_wake(ep); /* a DBBUF fence takes them into use on every core */
}
