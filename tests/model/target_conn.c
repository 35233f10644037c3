/*
 * The model target: connection requests with their private data (NVMe-oF 1.1, 7.3.6.4), queues from
 * the first message to the last.
 */
#include "tests/model/target_priv.h"

#include <string.h>
#include "base/bits.h"

#define LINGER_NS   (500 * NS_PER_MS)
#define RETRY_COUNT 7
#define BACKLOG     32

bool target_queue_is_live(const struct target_queue *queue)
{
    return queue->state == QUEUE_CONNECTING || queue->state == QUEUE_UP;
}

/* --- objects -------------------------------------------------------------------------------- */

void target_slot_post(struct target_slot *slot)
{
    struct rdma_sge sge = {.addr = (uintptr_t)slot->capsule,
                           .len_bytes = slot->capsule_bytes,
                           .lkey = slot->queue->target->mr->lkey};
    struct rdma_recv_wr wr = {.wr_id = (uintptr_t)slot, .sges = &sge, .sge_count = 1};

    slot->state = SLOT_POSTED;
    slot->buf = NULL;
    slot->has_fault = false;
    if (rdma_post_recv(slot->queue->qp, &wr, NULL) != STATUS_OK) {
        slot->queue->target->stats.transport_errors++;
        slot->state = SLOT_NONE;
    }
}

/* QP and CQ; false: the device has none left. */
static bool objects_make(struct target_queue *queue)
{
    struct target *t = queue->target;
    struct rdma_cq_attr cq = {.entry_count = 5u * queue->entries, .memory = queue->cq_memory};

    if (rdma_cq_create(t->config.device, &cq, &queue->cq) != STATUS_OK) {
        queue->cq = NULL;
        return false;
    }
    struct rdma_qp_init_attr attr = {.type = RDMA_QP_RC,
                                     .pd = t->pd,
                                     .send_cq = queue->cq,
                                     .recv_cq = queue->cq,
                                     .send_wr_count = 4u * queue->entries,
                                     .recv_wr_count = queue->entries,
                                     .send_sge_count = 1,
                                     .recv_sge_count = 1,
                                     .memory = queue->qp_memory,
                                     .ctx = queue};
    if (rdma_qp_create(&attr, &queue->qp) != STATUS_OK) {
        queue->qp = NULL;
        ASSERT(rdma_cq_destroy(queue->cq) == STATUS_OK);
        queue->cq = NULL;
        return false;
    }
    return true;
}

/* False: call again. */
static bool objects_free(struct target_queue *queue)
{
    struct target *t = queue->target;

    if (queue->qp != NULL) {
        if (rdma_qp_destroy(queue->qp) != STATUS_OK) {
            return false;
        }
        queue->qp = NULL;
    }
    if (queue->cq != NULL) {
        ASSERT(rdma_cq_destroy(queue->cq) == STATUS_OK);
        queue->cq = NULL;
    }
    for (uint32_t i = 0; i < t->config.buf_count; i++) {
        if (t->bufs[i].queue == queue) {
            target_buf_put(t, &t->bufs[i]);
        }
    }
    return true;
}

/* --- the end of a queue --------------------------------------------------------------------- */

/* Commands under way end without an answer; what is held is executed later all the same. */
static void slots_abandon(struct target_queue *queue)
{
    struct target *t = queue->target;

    for (uint32_t i = 0; i < queue->entries; i++) {
        struct target_slot *slot = &queue->slots[i];
        list_remove(&slot->link);
        if (slot->buf != NULL) {
            slot->buf->slot = NULL;
            if (slot->state == SLOT_HELD && queue->qid != 0 && !t->knobs.drop_held &&
                !t->is_closing && queue->leaving == NULL) {
                slot->buf->queue = NULL;
                slot->buf->due_ns = slot->due_ns;
                list_push_back(&t->orphans, &slot->buf->link);
            }
        }
        slot->buf = NULL;
        slot->state = SLOT_NONE;
    }
}

void target_queue_end(struct target_queue *queue, bool in_order)
{
    struct target *t = queue->target;
    struct target_ctrl *ctrl = queue->ctrl;

    if (!target_queue_is_live(queue)) {
        return;
    }
    t->stats.disconnects++;
    slots_abandon(queue);
    queue->ctrl = NULL;
    if (in_order) {
        queue->state = QUEUE_DEAD;
        rdma_cm_destroy(queue->id);
        queue->id = NULL;
    } else {
        struct rdma_qp_attr attr = {.state = RDMA_QP_ERR};
        queue->state = QUEUE_LINGER;
        queue->linger_ns = clock_now_ns() + LINGER_NS;
        (void)!rdma_qp_modify(queue->qp, &attr, RDMA_QP_STATE);
    }
    if (ctrl == NULL || !ctrl->in_use) {
        return;
    }
    if (ctrl->admin == queue) {
        ctrl->admin = NULL;
        target_ctrl_end(ctrl, in_order);
    } else if (!t->knobs.lone_queues && queue->leaving == NULL) {
        target_ctrl_end(ctrl, in_order);
    }
}

bool target_queue_turn(struct target_queue *queue)
{
    if (queue->state == QUEUE_LINGER && clock_now_ns() >= queue->linger_ns) {
        queue->state = QUEUE_DEAD;
        rdma_cm_destroy(queue->id);
        queue->id = NULL;
    }
    if (queue->state != QUEUE_DEAD || !objects_free(queue)) {
        return false;
    }
    queue->state = QUEUE_FREE;
    queue->leaving = NULL;
    return true;
}

void target_ctrl_end(struct target_ctrl *ctrl, bool in_order)
{
    struct target_queue *admin = ctrl->admin;

    ctrl->in_use = false;
    ctrl->admin = NULL;
    if (admin != NULL) {
        target_queue_end(admin, in_order);
    }
    target_ctrl_end_io(ctrl);
}

/* The controller goes on; its I/O queues end, and their commands with them when it does. */
void target_ctrl_end_io(struct target_ctrl *ctrl)
{
    struct target *t = ctrl->target;

    for (uint32_t i = 0; i < t->config.queue_count; i++) {
        struct target_queue *queue = &t->queues[i];
        if (queue->ctrl == ctrl && queue != ctrl->admin) {
            queue->leaving = ctrl->in_use ? ctrl : NULL;
            target_queue_end(queue, true);
        }
    }
}

/* --- connection requests -------------------------------------------------------------------- */

/* Which status the request deserves; 0: none, it is good. */
static enum nvmf_rdma_status request_check(struct target *t, const struct nvmf_rdma_req *req,
                                           const struct rdma_cm_event *event)
{
    struct target_knobs *knobs = &t->knobs;

    if (event->private_bytes < sizeof(*req)) {
        return NVMF_RDMA_INVALID_PRIVATE_DATA_LENGTH;
    }
    if (req->recfmt != NVMF_RDMA_RECFMT) {
        return NVMF_RDMA_INVALID_RECFMT;
    }
    if (knobs->reject_count > 0) {
        knobs->reject_count--;
        return (enum nvmf_rdma_status)knobs->reject_status;
    }
    if (req->qid > t->config.io_queues_per_ctrl) {
        return NVMF_RDMA_INVALID_QID;
    }
    if (req->hsqsize == 0 || (req->qid == 0 && req->hsqsize >= TARGET_ADMIN_ENTRIES)) {
        return NVMF_RDMA_INVALID_HSQSIZE;
    }
    if (req->hrqsize == 0) {
        return NVMF_RDMA_INVALID_HRQSIZE;
    }
    if (event->initiator_depth == 0) {
        return NVMF_RDMA_INVALID_IRD; /* nothing could be fetched */
    }
    if (req->qid != 0 && target_ctrl_find(t, req->cntlid) == NULL) {
        return NVMF_RDMA_INVALID_CNTLID;
    }
    if (knobs->reject_qid_from != 0 && req->qid >= knobs->reject_qid_from) {
        return NVMF_RDMA_NO_RESOURCES;
    }
    return (enum nvmf_rdma_status)0;
}

static struct target_queue *queue_get(struct target *t, const struct nvmf_rdma_req *req)
{
    for (uint32_t i = 0; i < t->config.queue_count; i++) {
        struct target_queue *queue = &t->queues[i];
        if (queue->state == QUEUE_FREE) {
            uint32_t most = req->qid == 0 ? TARGET_ADMIN_ENTRIES : t->config.queue_entries;
            queue->entries = (uint16_t)min_u32(req->hsqsize + 1u, most);
            queue->qid = req->qid;
            queue->is_connected = false;
            queue->ctrl = NULL;
            queue->leaving = NULL;
            queue->sq_head = 0;
            queue->sq_flow_off = false;
            return queue;
        }
    }
    return NULL;
}

/* Posts all receives and accepts; false: it could not be. */
static bool queue_accept(struct target_queue *queue, struct rdma_cm_id *id,
                         const struct rdma_cm_event *event)
{
    struct nvmf_rdma_rep rep = {.crqsize = queue->entries};
    struct target *t = queue->target;

    if (t->knobs.crqsize != 0) {
        rep.crqsize = t->knobs.crqsize;
    }
    if (rdma_cm_qp_init(id, queue->qp, RDMA_ACCESS_LOCAL_WRITE) != STATUS_OK) {
        return false;
    }
    for (uint32_t i = 0; i < queue->entries; i++) {
        target_slot_post(&queue->slots[i]);
    }
    struct rdma_cm_param param = {.qp = queue->qp,
                                  .private_data = &rep,
                                  .private_bytes = sizeof(rep),
                                  .responder_resources = event->responder_resources,
                                  .initiator_depth = event->initiator_depth,
                                  .retry_count = RETRY_COUNT,
                                  .rnr_retry_count = RETRY_COUNT,
                                  .access = RDMA_ACCESS_LOCAL_WRITE};
    return rdma_cm_accept(id, &param) == STATUS_OK;
}

static void reject(struct target *t, struct rdma_cm_id *id, enum nvmf_rdma_status status)
{
    struct nvmf_rdma_rej rej = {.recfmt = NVMF_RDMA_RECFMT, .sts = (uint16_t)status};

    t->stats.rejects++;
    (void)!rdma_cm_reject(id, &rej, sizeof(rej));
    rdma_cm_destroy(id);
}

static void on_request(struct target *t, struct rdma_cm_id *id, const struct rdma_cm_event *event)
{
    struct nvmf_rdma_req req = {.recfmt = 0};

    t->stats.requests++;
    if (t->knobs.ignore_count > 0 && t->ignored_count < TARGET_IGNORED) {
        t->knobs.ignore_count--;
        t->ignored[t->ignored_count++] = id;
        return;
    }
    memcpy(&req, event->private_data, min_u64(sizeof(req), event->private_bytes));
    enum nvmf_rdma_status status = request_check(t, &req, event);
    if ((int)status != 0) {
        reject(t, id, status);
        return;
    }
    struct target_queue *queue = queue_get(t, &req);
    if (queue == NULL || !objects_make(queue)) {
        reject(t, id, NVMF_RDMA_NO_RESOURCES);
        return;
    }
    id->ctx = queue;
    queue->id = id;
    queue->state = QUEUE_CONNECTING;
    if (!queue_accept(queue, id, event)) {
        queue->state = QUEUE_DEAD;
        queue->id = NULL;
        reject(t, id, NVMF_RDMA_NO_RESOURCES);
    }
}

/* Of a request that was ignored: its peer has given up. */
static void on_ignored(struct target *t, struct rdma_cm_id *id)
{
    for (uint32_t i = 0; i < t->ignored_count; i++) {
        if (t->ignored[i] == id) {
            t->ignored[i] = t->ignored[--t->ignored_count];
            rdma_cm_destroy(id);
            return;
        }
    }
}

static void on_event(struct rdma_cm_id *id, const struct rdma_cm_event *event)
{
    if (*(const enum target_kind *)id->ctx == KIND_TARGET) {
        if (event->type == RDMA_CM_EVENT_REQUEST) {
            on_request(id->ctx, id, event);
        } else {
            on_ignored(id->ctx, id);
        }
        return;
    }
    struct target_queue *queue = id->ctx;
    if (event->type == RDMA_CM_EVENT_TIMEWAIT_EXIT) {
        return;
    }
    if (event->type == RDMA_CM_EVENT_ESTABLISHED) {
        queue->state = queue->state == QUEUE_CONNECTING ? QUEUE_UP : queue->state;
    } else if (queue->state == QUEUE_LINGER) {
        queue->linger_ns = 0;
    } else {
        target_queue_end(queue, true);
    }
}

enum status target_listen(struct target *t)
{
    struct net_addr any = {{0}};

    return rdma_cm_listen(t->config.device, &any, t->config.port, BACKLOG, on_event, t,
                          &t->listener);
}
