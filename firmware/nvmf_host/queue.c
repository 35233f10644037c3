/*
 * A queue's life: made, connected (the target's address, its CM, the Connect command), broken. What
 * ends it: queue_close.c. Whoever is told of it is told in a step of its own, from the poller.
 *
 * Source: NVM Express over Fabrics 1.1, 3.3 (Connect), 7.3.6 (RDMA connections).
 */
#include "base/log.h"
#include "base/trace.h"
#include "nvmf_host/queue_priv.h"

/* Codes of NVMF_FAIL_BAD_REPLY. */
enum bad_reply {
    BAD_REPLY_SHORT = 1,
    BAD_REPLY_RECFMT,
    BAD_REPLY_CRQSIZE,
    BAD_REPLY_CNTLID,
    BAD_REPLY_SQ_FLOW,
};

#define RETRY_COUNT     7
#define RNR_RETRY_COUNT 7
#define CNTLID_MAX      0xffef

const char *nvmf_queue_state_name(enum nvmf_queue_state state)
{
    static const char *const names[] = {
#define STATE_NAME(name, text) [NVMF_QUEUE_##name] = #name,
        NVMF_QUEUE_STATE_LIST(STATE_NAME)
#undef STATE_NAME
    };
    return (uint32_t)state < ARRAY_SIZE(names) ? names[state] : "?";
}

static void enter(struct nvmf_queue *queue, enum nvmf_queue_state state)
{
    TRACE(queue->core->id, QUEUE_STATE, queue->target->fn, queue->params.qid, queue->state, state);
    queue->state = (uint8_t)state;
}

static void enter_step(struct nvmf_queue *queue, enum nvmf_queue_state state)
{
    enter(queue, state);
    queue->inner->step_deadline_ns = sched_now_ns() + queue->params.step_timeout_ns;
}

/* --- memory ------------------------------------------------------------------------------------
 */

/* Work requests that are not known to be over: twice the commands, since the last ones were not
 * signalled, or since a bind goes before each. */
static uint32_t ring_entries(uint32_t entries)
{
    uint32_t count = 8;

    while (count < 2 * entries) {
        count *= 2;
    }
    return count;
}

static struct rdma_qp_init_attr qp_attr(struct rdma_pd *pd, struct rdma_srq *srq, uint32_t entries)
{
    return (struct rdma_qp_init_attr){.type = RDMA_QP_RC,
                                      .pd = pd,
                                      .srq = srq,
                                      .send_wr_count = ring_entries(entries),
                                      .send_sge_count = 2,
                                      .recv_sge_count = 1};
}

static uint16_t tag_mask(uint32_t entries)
{
    uint32_t count = 1;

    while (count < entries) {
        count *= 2;
    }
    return (uint16_t)(count - 1);
}

struct layout {
    uint8_t *memory;
    uint64_t bytes;
    struct nvmf_queue_inner *inner;
    struct nvmf_tag *tags;
    struct nvmf_tag_more *more;
    void *qp;
};

static void *cut(struct layout *layout, uint64_t bytes)
{
    void *piece = layout->memory == NULL ? NULL : layout->memory + layout->bytes;

    layout->bytes += align_up(bytes, CACHE_LINE_BYTES);
    return piece;
}

static void lay_out(struct layout *l, const struct rdma_device *device, uint32_t entries)
{
    struct rdma_pd pd = {.device = (struct rdma_device *)(uintptr_t)device};
    struct rdma_srq srq = {.pd = &pd};
    struct rdma_qp_init_attr attr = qp_attr(&pd, &srq, entries);
    uint64_t tags = (uint64_t)tag_mask(entries) + 1;

    l->inner = cut(l, sizeof(struct nvmf_queue_inner));
    l->tags = cut(l, tags * sizeof(struct nvmf_tag));
    l->more = cut(l, tags * sizeof(struct nvmf_tag_more));
    l->qp = cut(l, rdma_qp_memory_bytes(&attr));
}

uint64_t nvmf_queue_memory_bytes(const struct rdma_device *device, uint32_t entries)
{
    struct layout layout = {0};

    lay_out(&layout, device, entries);
    return layout.bytes;
}

void nvmf_queue_init(struct nvmf_queue *queue, struct nvmf_core *core, void *memory,
                     uint32_t entries_max, const struct nvmf_queue_ops *ops, void *ctx)
{
    struct layout layout = {.memory = memory};

    lay_out(&layout, core->device, entries_max);
    struct nvmf_queue_inner *inner = layout.inner;
    queue->core = core;
    queue->ops = ops;
    queue->ctx = ctx;
    queue->inner = inner;
    queue->state = NVMF_QUEUE_CLOSED;
    inner->queue = queue;
    inner->tags = layout.tags;
    inner->more = layout.more;
    inner->qp_memory = layout.qp;
    inner->entries_max = (uint16_t)entries_max;
    inner->cid_mask = tag_mask(entries_max);
    for (uint32_t i = 0; i <= inner->cid_mask; i++) {
        inner->tags[i].cid = (uint16_t)i;
        list_init(&inner->more[i].link);
        inner->more[i].queue = queue;
    }
    list_init(&inner->waiting);
    list_init(&inner->waiting_cmd);
    list_init(&inner->link);
    list_init(&inner->hungry_link);
    list_init(&inner->work_link);
}

/* --- steps -------------------------------------------------------------------------------------
 */

void nvmf_queue_work(struct nvmf_queue *queue)
{
    if (list_is_empty(&queue->inner->work_link)) {
        list_push_back(&queue->core->work, &queue->inner->work_link);
    }
}

void nvmf_queue_stop(struct nvmf_queue *queue)
{
    struct rdma_qp *qp = queue->inner->qp;
    struct rdma_qp_attr error = {.state = RDMA_QP_ERR};

    if (qp != NULL && qp->state != RDMA_QP_RESET && qp->state != RDMA_QP_ERR &&
        rdma_qp_modify(qp, &error, RDMA_QP_STATE) != STATUS_OK) {
        LOG_LIMITED(WARN, "nvmf: a queue pair does not go to error"); /* it will be destroyed */
    }
}

void nvmf_queue_break(struct nvmf_queue *queue, enum nvmf_fail fail, uint32_t code)
{
    struct nvmf_queue_inner *inner = queue->inner;

    if (queue->state == NVMF_QUEUE_CLOSED || queue->state == NVMF_QUEUE_CLOSING ||
        queue->state == NVMF_QUEUE_BROKEN) {
        return;
    }
    if (queue->state != NVMF_QUEUE_OPEN) {
        inner->event = NVMF_EVENT_OPENED;
    } else if (inner->event != NVMF_EVENT_OPENED) { /* told: else opened() says that it failed */
        inner->event = fail == NVMF_FAIL_PROTOCOL ? NVMF_EVENT_STUCK : NVMF_EVENT_LOST;
    }
    enter(queue, NVMF_QUEUE_BROKEN);
    inner->fail = (uint8_t)fail;
    inner->fail_code = code;
    nvmf_queue_stop(queue);
    nvmf_queue_work(queue);
}

/* What broke without the device's help or before there was a queue pair. */
static void fail_status(struct nvmf_queue *queue, enum status status)
{
    nvmf_queue_break(queue, status == STATUS_NOT_FOUND ? NVMF_FAIL_NO_ROUTE : NVMF_FAIL_NO_MEMORY,
                     status);
}

static void tell(struct nvmf_queue *queue)
{
    struct nvmf_queue_inner *inner = queue->inner;
    enum nvmf_queue_event event = inner->event;

    inner->event = NVMF_EVENT_NONE;
    if (event == NVMF_EVENT_OPENED) {
        queue->ops->opened(queue, inner->fail, inner->fail_code);
    } else if (event == NVMF_EVENT_LOST) {
        queue->ops->lost(queue, inner->fail, inner->fail_code);
    } else if (event == NVMF_EVENT_STUCK) {
        queue->ops->stuck(queue, inner->fail, inner->fail_code);
    }
}

/* --- connecting --------------------------------------------------------------------------------
 */

static enum status make_qp(struct nvmf_queue *queue)
{
    struct nvmf_queue_inner *inner = queue->inner;
    struct nvmf_core *core = queue->core;
    struct nvmf_domain *domain = inner->domain;
    struct rdma_qp_init_attr attr = qp_attr(domain->pd, inner->rings->srq, inner->entries_max);

    if (core->cqe_left < attr.send_wr_count) {
        return STATUS_NO_SPACE;
    }
    attr.send_cq = core->cq; /* what sends is NIC memory, always */
    attr.recv_cq = inner->rings->cq;
    attr.memory = inner->qp_memory;
    attr.ctx = queue;
    enum status status = rdma_qp_create(&attr, &inner->qp);
    if (status != STATUS_OK) {
        inner->qp = NULL;
        return status;
    }
    inner->cqe_count = attr.send_wr_count;
    core->cqe_left -= inner->cqe_count;
    inner->ring_entries = attr.send_wr_count;
    inner->signal_every = attr.send_wr_count / 4;
    return STATUS_OK;
}

static enum status connect_cm(struct nvmf_queue *queue)
{
    struct nvmf_queue_inner *inner = queue->inner;
    const struct nvmf_queue_params *params = &queue->params;
    struct nvmf_rdma_req req = {.recfmt = NVMF_RDMA_RECFMT,
                                .qid = params->qid,
                                .hrqsize = params->entries,
                                .hsqsize = (uint16_t)(params->entries - 1),
                                .cntlid = params->qid == 0 ? 0 : params->cntlid};
    struct rdma_cm_param param = {
        .private_data = &req,
        .private_bytes = sizeof(req),
        .responder_resources = queue->core->device->attr.dest_rd_atomic_max,
        .initiator_depth = 0,
        .retry_count = RETRY_COUNT,
        .rnr_retry_count = RNR_RETRY_COUNT,
        .access = RDMA_ACCESS_REMOTE_READ | RDMA_ACCESS_REMOTE_WRITE,
    };
    enum status status = make_qp(queue);
    if (status != STATUS_OK) {
        return status;
    }
    param.qp = inner->qp;
    return rdma_cm_connect(inner->id, &param);
}

static void resolved(struct nvmf_queue *queue)
{
    if (queue->state != NVMF_QUEUE_RESOLVE) {
        return;
    }
    enter_step(queue, NVMF_QUEUE_CONNECT_CM);
    enum status status = connect_cm(queue);
    if (status != STATUS_OK) {
        fail_status(queue, status);
    }
}

static void rejected(struct nvmf_queue *queue, const struct rdma_cm_event *event)
{
    struct nvmf_rdma_rej rej;

    if (event->reason == RDMA_CM_REJ_CONSUMER && event->private_data != NULL &&
        event->private_bytes >= sizeof(rej)) {
        COPY_FIXED(&rej, event->private_data, sizeof(rej));
        if (rej.recfmt == NVMF_RDMA_RECFMT && rej.sts != 0) {
            nvmf_queue_break(queue, NVMF_FAIL_RDMA_REJECTED, rej.sts);
            return;
        }
    }
    nvmf_queue_break(queue, NVMF_FAIL_CM_REJECTED, event->reason);
}

/* A tag for each command that may be under way: fewer than the queue has entries (2.4, with and
 * without SQ flow control), and no more than the controller has receives for. */
static void make_tags(struct nvmf_queue *queue, uint32_t crqsize)
{
    struct nvmf_queue_inner *inner = queue->inner;
    uint32_t count = min_u32(queue->params.entries - 1u, crqsize);

    inner->tag_count = (uint16_t)count;
    inner->free_tag = NVMF_NO_TAG;
    for (uint32_t i = count; i-- > 0;) {
        inner->tags[i].next = inner->free_tag;
        inner->free_tag = (uint16_t)i;
    }
}

static void established(struct nvmf_queue *queue, const struct rdma_cm_event *event)
{
    struct nvmf_rdma_rep rep;

    if (queue->state != NVMF_QUEUE_CONNECT_CM) {
        return;
    }
    if (event->private_data == NULL || event->private_bytes < sizeof(rep)) {
        nvmf_queue_break(queue, NVMF_FAIL_BAD_REPLY, BAD_REPLY_SHORT);
        return;
    }
    COPY_FIXED(&rep, event->private_data, sizeof(rep));
    if (rep.recfmt != NVMF_RDMA_RECFMT) {
        nvmf_queue_break(queue, NVMF_FAIL_BAD_REPLY, BAD_REPLY_RECFMT);
    } else if (rep.crqsize == 0) {
        nvmf_queue_break(queue, NVMF_FAIL_BAD_REPLY, BAD_REPLY_CRQSIZE);
    } else {
        make_tags(queue, rep.crqsize);
        enter_step(queue, NVMF_QUEUE_CONNECT);
        nvmf_queue_work(queue); /* its step sends Connect: nothing is posted from here */
    }
}

static void cm_event(struct rdma_cm_id *id, const struct rdma_cm_event *event)
{
    struct nvmf_queue *queue = id->ctx;

    switch (event->type) {
    case RDMA_CM_EVENT_RESOLVED:
        resolved(queue);
        break;
    case RDMA_CM_EVENT_UNREACHABLE:
        nvmf_queue_break(queue, NVMF_FAIL_NO_ANSWER, 0);
        break;
    case RDMA_CM_EVENT_REJECTED:
        rejected(queue, event);
        break;
    case RDMA_CM_EVENT_ESTABLISHED:
        established(queue, event);
        break;
    case RDMA_CM_EVENT_DISCONNECTED:
        nvmf_queue_break(queue, NVMF_FAIL_DISCONNECTED, event->reason);
        break;
    case RDMA_CM_EVENT_REQUEST:
    case RDMA_CM_EVENT_TIMEWAIT_EXIT:
    default:
        break;
    }
}

/* The tenant's objects, then the way. */
static void begin(struct nvmf_queue *queue)
{
    struct nvmf_queue_inner *inner = queue->inner;
    const struct nvmf_target *target = queue->target;

    if (inner->domain == NULL) {
        enum status status = nvmf_domain_get(queue->core, target->fn, &inner->domain);
        if (status == STATUS_AGAIN) {
            nvmf_queue_work(queue);
            return;
        }
        if (status != STATUS_OK) {
            inner->domain = NULL;
            nvmf_queue_break(queue, NVMF_FAIL_NO_MEMORY, status);
            return;
        }
        queue->is_on_host = queue->params.host_rings && nvmf_host_area_get(inner->domain);
        inner->rings = queue->is_on_host ? &inner->domain->host.rings : &inner->domain->rings;
        inner->sges[0].len_bytes = NVMF_CMD_CAPSULE_BYTES;
        inner->sges[0].lkey = inner->domain->mr->lkey;
        inner->wr.sges = inner->sges;
        inner->wr.opcode = RDMA_WR_SEND;
    }
    enum status status = rdma_cm_resolve(queue->core->device, &target->addr, target->port, cm_event,
                                         queue, &inner->id);
    if (status != STATUS_OK) {
        inner->id = NULL;
        fail_status(queue, status);
    }
}

void nvmf_queue_open(struct nvmf_queue *queue)
{
    struct nvmf_queue_inner *inner = queue->inner;
    struct nvmf_core *core = queue->core;
    const struct nvmf_queue_params *params = &queue->params;

    ASSERT(queue->state == NVMF_QUEUE_CLOSED && params->entries >= 2 &&
           params->entries <= inner->entries_max);
    if (list_is_empty(&core->queues)) {
        timer_arm(&core->timer, sched_now_ns() + NVMF_SCAN_NS);
    }
    list_push_back(&core->queues, &inner->link);
    queue->sq_flow_off = false;
    queue->is_on_host = false;
    queue->is_fallback_told = false;
    queue->cntlid = params->cntlid;
    inner->paths = queue->ctrl == NULL ? NULL : nvmf_ctrl_shared(queue->ctrl)->core[core->id].path;
    inner->icd_bytes =
        params->sgl_offsets && params->icd_offset_bytes == 0 && core->device->attr.sge_max >= 2
            ? params->icd_bytes
            : 0;
    inner->next_deadline_ns = UINT64_MAX;
    inner->stalled_since_ns = UINT64_MAX;
    inner->free_tag = NVMF_NO_TAG;
    inner->tag_count = 0;
    inner->sq_tail = 0;
    inner->sq_head = 0;
    inner->posted = 0;
    inner->reaped = 0;
    inner->unsignalled = 0;
    inner->traffic_mark = 0;
    inner->event = NVMF_EVENT_NONE;
    inner->is_torn = false;
    inner->is_stuck = false;
    enter_step(queue, NVMF_QUEUE_RESOLVE);
    nvmf_queue_work(queue); /* nothing is told from inside of this call */
}

/* --- Connect (3.3) -----------------------------------------------------------------------------
 */

static void put_hello(struct nvmf_queue *queue)
{
    struct nvmf_queue_inner *inner = queue->inner;

    if (inner->hello != NULL) {
        pool_put(&queue->core->hellos, inner->hello);
        inner->hello = NULL;
    }
}

static enum nvmf_fail refusal(nvme_status_t status, uint32_t dw0)
{
    switch (NVME_STATUS_CODE(status)) {
    case NVMF_SC_CONTROLLER_BUSY:
        return NVMF_FAIL_CTRL_FULL;
    case NVMF_SC_CONNECT_INVALID_HOST:
        return NVMF_FAIL_BAD_HOSTNQN;
    case NVMF_SC_AUTHENTICATION_REQUIRED:
        return NVMF_FAIL_AUTHENTICATION;
    case NVMF_SC_CONNECT_INVALID_PARAMETERS: {
        uint32_t offset = (uint32_t)FIELD_GET(NVMF_CONNECT_IPO, dw0);
        if ((dw0 & NVMF_CONNECT_IATTR_DATA) == 0) {
            return NVMF_FAIL_CONNECT_REFUSED;
        }
        if (offset == offsetof(struct nvmf_connect_data, subnqn)) {
            return NVMF_FAIL_BAD_SUBNQN;
        }
        return offset == offsetof(struct nvmf_connect_data, hostnqn) ? NVMF_FAIL_BAD_HOSTNQN
                                                                     : NVMF_FAIL_CONNECT_REFUSED;
    }
    default:
        return NVMF_FAIL_CONNECT_REFUSED;
    }
}

/* The controller says 0xffff for an SQ head when it does without SQ flow control. */
static void connected(struct nvmf_cmd *cmd)
{
    struct nvmf_queue *queue = cmd->ctx;
    struct nvmf_queue_inner *inner = queue->inner;
    bool is_flow_off = cmd->cqe.sq_head == UINT16_MAX;

    put_hello(queue);
    if (queue->state != NVMF_QUEUE_CONNECT) {
        return;
    }
    if (cmd->is_path_error) {
        nvmf_queue_break(queue, NVMF_FAIL_NO_ANSWER, 0);
    } else if (cmd->status != NVME_SC_SUCCESS) {
        nvmf_queue_break(queue, refusal(cmd->status, cmd->cqe.dw0), cmd->status);
    } else if (FIELD_GET(NVMF_CONNECT_AUTHREQ, cmd->cqe.dw0) != 0) {
        nvmf_queue_break(queue, NVMF_FAIL_AUTHENTICATION, 0);
    } else if (queue->params.qid == 0 && (cmd->cqe.dw0 & UINT16_MAX) > CNTLID_MAX) {
        nvmf_queue_break(queue, NVMF_FAIL_BAD_REPLY, BAD_REPLY_CNTLID);
    } else if (!is_flow_off && cmd->cqe.sq_head >= queue->params.entries) {
        nvmf_queue_break(queue, NVMF_FAIL_BAD_REPLY, BAD_REPLY_SQ_FLOW);
    } else if (is_flow_off && !queue->params.sq_flow_off) {
        nvmf_queue_break(queue, NVMF_FAIL_BAD_REPLY, BAD_REPLY_SQ_FLOW);
    } else {
        if (queue->params.qid == 0) {
            queue->cntlid = (uint16_t)FIELD_GET(NVMF_CONNECT_CNTLID, cmd->cqe.dw0);
        }
        queue->sq_flow_off = is_flow_off;
        enter(queue, NVMF_QUEUE_OPEN);
        inner->fail = NVMF_FAIL_NONE;
        inner->fail_code = 0;
        inner->event = NVMF_EVENT_OPENED;
        nvmf_queue_work(queue);
    }
}

static void copy_nqn(char *to, const char *from)
{
    for (uint32_t i = 0; i < NVMF_NQN_BYTES - 1 && from[i] != '\0'; i++) {
        to[i] = from[i];
    }
}

static void send_connect(struct nvmf_queue *queue)
{
    struct nvmf_queue_inner *inner = queue->inner;
    const struct nvmf_target *target = queue->target;
    const struct nvmf_queue_params *params = &queue->params;
    struct nvmf_cmd *cmd = &inner->connect;
    struct nvmf_connect_data *hello = pool_get(&queue->core->hellos);

    if (hello == NULL) {
        nvmf_queue_break(queue, NVMF_FAIL_NO_MEMORY, STATUS_NO_SPACE);
        return;
    }
    inner->hello = hello;
    *hello = (struct nvmf_connect_data){.cntlid = params->cntlid};
    COPY_FIXED(hello->hostid, target->hostid, sizeof(hello->hostid));
    copy_nqn(hello->subnqn, target->subnqn);
    copy_nqn(hello->hostnqn, target->hostnqn);
    *cmd = (struct nvmf_cmd){.data = hello,
                             .len_bytes = sizeof(*hello),
                             .dir = NVME_DIR_TO_CONTROLLER,
                             .deadline_ns = inner->step_deadline_ns,
                             .done = connected,
                             .ctx = queue};
    struct nvmf_connect_sqe *sqe = (struct nvmf_connect_sqe *)(void *)&cmd->sqe;
    sqe->opcode = NVMF_OPCODE;
    sqe->fctype = NVMF_CONNECT;
    sqe->qid = params->qid;
    sqe->sqsize = (uint16_t)(params->entries - 1);
    sqe->cattr = params->sq_flow_off ? NVMF_CONNECT_NO_SQ_FLOW : 0;
    sqe->kato_ms = params->qid == 0 ? params->kato_ms : 0;
    list_push_back(&inner->waiting_cmd, &cmd->link);
    nvmf_queue_hunger(queue);
}

/* --- steps -------------------------------------------------------------------------------------
 */

bool nvmf_queue_step(struct nvmf_queue *queue)
{
    struct nvmf_queue_inner *inner = queue->inner;

    if (inner->event != NVMF_EVENT_NONE && queue->state != NVMF_QUEUE_CLOSING) {
        tell(queue);
    }
    switch ((enum nvmf_queue_state)queue->state) {
    case NVMF_QUEUE_RESOLVE:
        if (inner->id == NULL) {
            begin(queue);
        }
        return false;
    case NVMF_QUEUE_CONNECT:
        if (inner->posted == 0 && inner->hello == NULL) {
            send_connect(queue);
        }
        return false;
    case NVMF_QUEUE_CLOSING:
        return nvmf_queue_close_step(queue);
    case NVMF_QUEUE_BROKEN:
        nvmf_io_end_waiting(queue); /* what was not sent need not wait for the owner */
        return false;
    case NVMF_QUEUE_CLOSED:
    case NVMF_QUEUE_CONNECT_CM:
    case NVMF_QUEUE_OPEN:
    default:
        return false;
    }
}

/* --- keys of providers that bind by work requests ------------------------------------------------
 */

bool nvmf_key_bind_by_wr(struct nvmf_queue *queue, struct rdma_key *key, const struct mem_ref *ref,
                         uint32_t access, uint32_t *value)
{
    struct nvmf_queue_inner *inner = queue->inner;
    struct rdma_send_wr wr = {.wr_id = inner->posted + 1,
                              .opcode = RDMA_WR_BIND,
                              .bind = {.key = key, .ref = ref, .access = access}};

    *value = rdma_key_prepare(key);
    if (rdma_post_send(inner->qp, &wr, NULL) != STATUS_OK) {
        return false;
    }
    inner->posted++;
    return true;
}
