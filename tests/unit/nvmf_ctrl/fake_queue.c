#include "tests/unit/nvmf_ctrl/fake.h"

#include <string.h>
#include "base/assert.h"
#include "hal/clock.h"
#include "hal/cpu.h"
#include "tests/unit/nvmf_ctrl/fake_ctrl.h"

struct fake fake;

struct nvmf_core {
    uint32_t id;
    bool is_there;
    struct rdma_device device;
};
static struct nvmf_core cores[LIMIT_CORES];

struct fake_queue {
    struct nvmf_queue *queue; /* NULL: free */
    struct fake_target *target;
    struct list cmds;
    uint64_t close_ns;
    bool is_opening;
    bool closes;
    bool told_lost;
    bool tells_lost;
    bool tells_stuck;
    bool has_late;
    uint16_t late_cid;
    enum nvmf_fail lost_fail;
    bool traffic;
    uint32_t aborted_count;
    uint32_t not_aborted_count;
};
static struct fake_queue queues[FAKE_QUEUES];

void fake_init(uint32_t core_count)
{
    memset(&fake, 0, sizeof(fake));
    memset(queues, 0, sizeof(queues));
    memset(cores, 0, sizeof(cores));
    fake.core_count = core_count;
    fake.queue_bytes = 8192;
    for (uint32_t i = 0; i < core_count; i++) {
        fake.has_device[i] = true;
        cores[i].id = i;
    }
}

/* --- cores and scratch memory ----------------------------------------------------------------- */

struct nvmf_core *nvmf_core_find(uint32_t core)
{
    return core < LIMIT_CORES && fake.has_device[core] ? &cores[core] : NULL;
}

const struct rdma_device *nvmf_core_device(const struct nvmf_core *core)
{
    return &core->device;
}

uint32_t nvmf_core_id(const struct nvmf_core *core)
{
    return core->id;
}

/* No device here can have queues in host memory. */
uint64_t nvmf_host_area_bytes(const struct nvmf_core *core)
{
    (void)core;
    return 0;
}

void nvmf_host_order_send(struct nvmf_host_order *order)
{
    (void)order;
    ASSERT(false);
}

enum status nvmf_scratch_register(struct nvmf_core *core, uint16_t fn, struct nvmf_scratch *scratch)
{
    (void)fn;
    ASSERT(core->id == 0 && scratch->memory != NULL && scratch->len_bytes >= 4096);
    ASSERT((uintptr_t)scratch->memory % 4096 == 0);
    if (fake.scratch_status == STATUS_OK) {
        fake.scratch_count++;
    }
    return fake.scratch_status;
}

void nvmf_scratch_release(struct nvmf_scratch *scratch)
{
    (void)scratch;
    ASSERT(fake.scratch_count > 0);
    fake.scratch_count--;
}

const struct blk_ops nvmf_io_ops;

/* --- queues --------------------------------------------------------------------------------- */

static struct fake_queue *find(const struct nvmf_queue *queue)
{
    for (uint32_t i = 0; i < FAKE_QUEUES; i++) {
        if (queues[i].queue == queue) {
            return &queues[i];
        }
    }
    return NULL;
}

static struct fake_queue *find_qid(struct fake_target *t, uint32_t qid)
{
    for (uint32_t i = 0; i < FAKE_QUEUES; i++) {
        if (queues[i].queue != NULL && queues[i].target == t &&
            queues[i].queue->params.qid == qid && queues[i].queue->state != NVMF_QUEUE_CLOSED) {
            return &queues[i];
        }
    }
    return NULL;
}

static void check_core(const struct nvmf_queue *queue)
{
    ASSERT(cpu_self() == queue->core->id);
}

uint64_t nvmf_queue_memory_bytes(const struct rdma_device *device, uint32_t entries)
{
    ASSERT(device != NULL && entries >= 2);
    return fake.queue_bytes;
}

void nvmf_queue_init(struct nvmf_queue *queue, struct nvmf_core *core, void *memory,
                     uint32_t entries_max, const struct nvmf_queue_ops *ops, void *ctx)
{
    ASSERT((uintptr_t)memory % 4096 == 0 && entries_max >= 2);
    memset(memory, 0x5a, fake.queue_bytes); /* it is ours, all of it */
    *queue = (struct nvmf_queue){.core = core, .ops = ops, .ctx = ctx};
}

void nvmf_queue_open(struct nvmf_queue *queue)
{
    struct fake_queue *q = find(queue);

    check_core(queue);
    ASSERT(queue->state == NVMF_QUEUE_CLOSED);
    if (q == NULL) {
        q = find(NULL);
        ASSERT(q != NULL);
    }
    *q = (struct fake_queue){.queue = queue, .is_opening = true};
    list_init(&q->cmds);
    for (uint32_t i = 0; i < fake.target_count; i++) {
        if (fake.targets[i].port == queue->target->port) {
            q->target = &fake.targets[i];
        }
    }
    ASSERT(queue->params.step_timeout_ns != 0 && queue->params.entries >= 2);
    if (q->target != NULL) {
        ASSERT(queue->params.qid <= LIMIT_CORES);
        q->target->params[queue->params.qid] = queue->params;
        memcpy(q->target->nqn, queue->target->subnqn, NVMF_NQN_BYTES);
        if (queue->params.qid != 0) {
            ASSERT(queue->params.cntlid == q->target->cntlid);
        }
    }
    queue->state = NVMF_QUEUE_RESOLVE;
}

void nvmf_queue_close(struct nvmf_queue *queue, uint64_t quiet_ns)
{
    struct fake_queue *q = find(queue);

    check_core(queue);
    ASSERT(q != NULL && queue->state != NVMF_QUEUE_CLOSED && queue->state != NVMF_QUEUE_CLOSING);
    if (queue->ctrl != NULL) {
        for (uint32_t i = 0; i < LIMIT_CORES; i++) {
            ASSERT(atomic_load(&nvmf_ctrl_shared(queue->ctrl)->route[i]) != queue);
        }
    }
    queue->state = NVMF_QUEUE_CLOSING;
    q->closes = true;
    q->is_opening = false;
    q->close_ns = clock_now_ns();
    if (q->target != NULL) {
        q->close_ns += q->target->close_delay_ns;
        if (queue->params.qid != 0) {
            q->target->last_quiet_ns = quiet_ns;
            q->target->io_close_count++;
        } else {
            fake_ctrl_forget(q->target);
        }
    }
}

void nvmf_queue_exec(struct nvmf_queue *queue, struct nvmf_cmd *cmd)
{
    struct fake_queue *q = find(queue);

    check_core(queue);
    ASSERT(q != NULL && cmd->done != NULL);
    if (queue->state != NVMF_QUEUE_OPEN) {
        cmd->is_path_error = true;
        cmd->done(cmd);
        return;
    }
    cmd->is_path_error = false;
    cmd->deadline_ns = cmd->timeout_ns != 0 ? clock_now_ns() + cmd->timeout_ns : UINT64_MAX;
    q->traffic = true;
    list_push_back(&q->cmds, &cmd->link);
}

void nvmf_queue_abort_done(struct nvmf_queue *queue, uint16_t cid, bool aborted)
{
    struct fake_queue *q = find(queue);

    check_core(queue);
    ASSERT(queue->state == NVMF_QUEUE_OPEN || queue->state == NVMF_QUEUE_BROKEN);
    (void)cid;
    if (aborted) {
        q->aborted_count++;
    } else {
        q->not_aborted_count++;
    }
}

bool nvmf_queue_had_traffic(struct nvmf_queue *queue)
{
    struct fake_queue *q = find(queue);
    bool traffic = q->traffic;

    check_core(queue);
    ASSERT(queue->state == NVMF_QUEUE_OPEN || queue->state == NVMF_QUEUE_BROKEN);
    q->traffic = false;
    return traffic;
}

/* --- one turn ------------------------------------------------------------------------------- */

static void end_cmds(struct fake_queue *q)
{
    struct list *node;

    while ((node = list_pop_front(&q->cmds)) != NULL) {
        struct nvmf_cmd *cmd = LIST_ENTRY(node, struct nvmf_cmd, link);
        cmd->is_path_error = true;
        cmd->done(cmd);
    }
}

static void open_step(struct fake_queue *q)
{
    struct nvmf_queue *queue = q->queue;
    struct fake_target *t = q->target;
    uint16_t qid = queue->params.qid;

    if (t != NULL && t->opens_never[qid]) {
        return;
    }
    q->is_opening = false;
    if (t == NULL || t->open_fail[qid] != NVMF_FAIL_NONE) {
        queue->state = NVMF_QUEUE_BROKEN;
        queue->ops->opened(queue, t == NULL ? NVMF_FAIL_NO_ANSWER : t->open_fail[qid],
                           t == NULL ? 0 : t->open_code);
        return;
    }
    t->connect_count++;
    queue->state = NVMF_QUEUE_OPEN;
    queue->sq_flow_off = queue->params.sq_flow_off;
    if (qid == 0) {
        fake_ctrl_connect(t);
        queue->cntlid = t->cntlid;
    }
    queue->ops->opened(queue, NVMF_FAIL_NONE, 0);
}

static void cmd_step(struct fake_queue *q)
{
    LIST_FOR_EACH(node, next, &q->cmds)
    {
        struct nvmf_cmd *cmd = LIST_ENTRY(node, struct nvmf_cmd, link);
        enum fake_result result = fake_ctrl_execute(q->target, cmd);
        if (result == FAKE_BREAK) {
            q->tells_lost = true;
            q->lost_fail = NVMF_FAIL_TRANSPORT;
            return;
        }
        bool is_late = clock_now_ns() >= cmd->deadline_ns;
        if (result == FAKE_DONE || is_late) {
            list_remove(&cmd->link);
            cmd->is_path_error = result != FAKE_DONE;
            fake_ctrl_drop(q->target, cmd);
            cmd->done(cmd);
        }
    }
}

static void step(struct fake_queue *q)
{
    struct nvmf_queue *queue = q->queue;

    if (q->is_opening) {
        open_step(q);
    }
    if (queue->state == NVMF_QUEUE_OPEN) {
        cmd_step(q);
    }
    if (queue->state == NVMF_QUEUE_OPEN && q->tells_lost) {
        queue->state = NVMF_QUEUE_BROKEN;
        queue->ops->lost(queue, q->lost_fail, 12);
    }
    if (queue->state == NVMF_QUEUE_OPEN && q->tells_stuck) {
        q->tells_stuck = false;
        queue->ops->stuck(queue, NVMF_FAIL_COMMAND_TIMEOUT, 2);
    }
    if (queue->state == NVMF_QUEUE_OPEN && q->has_late) {
        q->has_late = false;
        queue->ops->abort(queue, q->late_cid);
    }
    if (q->closes && clock_now_ns() >= q->close_ns) {
        q->closes = false;
        end_cmds(q);
        queue->state = NVMF_QUEUE_CLOSED;
        queue->in_flight = 0;
        queue->ops->closed(queue);
    }
}

void fake_step(uint32_t core)
{
    for (uint32_t i = 0; i < FAKE_QUEUES; i++) {
        if (queues[i].queue != NULL && queues[i].queue->core->id == core) {
            step(&queues[i]);
            /* Its memory may be gone soon. */
            if (queues[i].queue->state == NVMF_QUEUE_CLOSED) {
                queues[i].queue = NULL;
            }
        }
    }
}

/* --- what tests do -------------------------------------------------------------------------- */

void fake_lose(struct fake_target *t, uint32_t qid, enum nvmf_fail fail)
{
    struct fake_queue *q = find_qid(t, qid);
    ASSERT(q != NULL);
    q->tells_lost = true;
    q->lost_fail = fail;
}

void fake_stuck(struct fake_target *t, uint32_t qid)
{
    find_qid(t, qid)->tells_stuck = true;
}

void fake_late(struct fake_target *t, uint32_t qid, uint16_t cid)
{
    struct fake_queue *q = find_qid(t, qid);
    q->has_late = true;
    q->late_cid = cid;
}

void fake_set_traffic(struct fake_target *t, uint32_t qid, bool is_there)
{
    find_qid(t, qid)->traffic = is_there;
}

void fake_set_in_flight(struct fake_target *t, uint32_t qid, uint32_t count)
{
    find_qid(t, qid)->queue->in_flight = count;
}

enum nvmf_queue_state fake_queue_state(struct fake_target *t, uint32_t qid)
{
    struct fake_queue *q = find_qid(t, qid);
    return q == NULL ? NVMF_QUEUE_CLOSED : (enum nvmf_queue_state)q->queue->state;
}

uint32_t fake_abort_done_count(struct fake_target *t, uint32_t qid, bool aborted)
{
    struct fake_queue *q = find_qid(t, qid);
    return aborted ? q->aborted_count : q->not_aborted_count;
}

bool fake_is_quiet(void)
{
    for (uint32_t i = 0; i < FAKE_QUEUES; i++) {
        if (queues[i].queue != NULL) {
            return false;
        }
    }
    return fake.scratch_count == 0;
}
