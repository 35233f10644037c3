/*
 * The endpoint as others see it: making it, starting it, its numbers.
 */
#include "nvme_ep/nvme_ep.h"

#include "nvme_ep/nvme_ep_priv.h"

/* Bit buckets are understood (figure 247, SGLS bit 16). */
#define SGLS_BIT_BUCKET BIT32(16)

#define FENCE_CANCEL_MAX_MS 900

/* --- making -------------------------------------------------------------------------------- */

static void feature_changed(struct nvme_ctrl *ctrl, uint8_t fid, uint32_t cdw11)
{
    struct nvme_ep *ep = nvme_ep_of(ctrl);
    uint32_t vector = (uint32_t)FIELD_GET(NVME_VECTOR_INDEX, cdw11);

    switch (fid) {
    case NVME_FEATURE_ARBITRATION:
        nvme_ep_setting_set(&ep->arbitration, nvme_ctrl_feature(ctrl, fid, 0));
        break;
    case NVME_FEATURE_INTERRUPT_COALESCING:
        nvme_ep_setting_set(&ep->coalescing, nvme_ctrl_feature(ctrl, fid, 0));
        break;
    case NVME_FEATURE_INTERRUPT_VECTOR:
        if (vector < LIMIT_VECTORS) {
            nvme_ep_setting_set(&ep->vector_config[vector], nvme_ctrl_feature(ctrl, fid, vector));
        }
        break;
    default:
        return; /* the number of queues is looked up when one is created */
    }
    ep->must_load_settings = true;
    nvme_ep_control_wake(ep);
}

static void fatal(struct nvme_ctrl *ctrl)
{
    struct nvme_ep *ep = nvme_ep_of(ctrl);

    ep->is_fatal = true;
    nvme_ep_control_wake(ep);
}

static const struct nvme_transport_ops transport_ops = {
    .map = nvme_ep_map,
    .complete = nvme_ep_complete,
    .create_cq = nvme_ep_create_cq,
    .create_sq = nvme_ep_create_sq,
    .delete_cq = nvme_ep_delete_cq,
    .delete_sq = nvme_ep_delete_sq,
    .doorbell_buffers = nvme_ep_doorbell_buffers,
    .host_memory = nvme_ep_host_memory,
    .abort = nvme_ep_abort,
    .feature_changed = feature_changed,
    .fatal = fatal,
};

static bool config_is_valid(const struct nvme_ep_config *config)
{
    uint32_t cores = sched_core_count();

    return config->pcie != NULL && config->core_mask != 0 &&
           (config->core_mask & ~(BIT32(cores) - 1)) == 0 && config->dstrd <= 15 &&
           config->ready_timeout_500ms >= 1 && config->fence_cancel_ms >= 1 &&
           config->fence_cancel_ms <= FENCE_CANCEL_MAX_MS && config->ctrl.io_queue_count >= 1 &&
           config->ctrl.io_queue_count <= LIMIT_IO_QUEUES &&
           config->ctrl.hmb_preferred_bytes <= NVME_EP_HMB_PIECE_MAX;
}

/* Doorbell buffers are one page each, with the stride of the doorbells (7.13). */
static bool doorbell_buffers_pay(const struct nvme_ep *ep)
{
    return ep->pcie->host_poll_is_cheap &&
           2u * (ep->config.ctrl.io_queue_count + 1u) * ep->doorbell_stride <= 4096;
}

static void cmd_init(struct nvme_ep_cmd *cmd, struct nvme_ep_core *core)
{
    cmd->core = core;
    cmd->nvme.ctrl = core->ep->ctrl;
    cmd->nvme.blk.owner_core = core->index;
    cmd->nvme.blk.fn = core->ep->pcie->fn;
    cmd->nvme.blk.trace_id = 0;
    cmd->nvme.state = NVME_EP_CMD_FREE;
    cmd->nvme.aborted = false;
    cmd->nvme.error_location = NVME_ERROR_LOCATION_NONE;
    cmd->big = NULL;
    cmd->abort = NULL;
    list_init(&cmd->nvme.link);
}

static void pools_init(struct nvme_ep_pools *pools, struct nvme_ep_core *core,
                       struct nvme_ep_cmd *cmds, uint32_t cmd_count, void *bigs, uint32_t big_count)
{
    for (uint32_t i = 0; i < cmd_count; i++) {
        cmd_init(&cmds[i], core);
    }
    pools->all = cmds;
    pool_init(&pools->cmds, "nvme_ep commands", cmds, sizeof(struct nvme_ep_cmd), cmd_count);
    pool_init(&pools->bigs, "nvme_ep segment lists", bigs, LIMIT_SEGS * sizeof(struct mem_seg),
              big_count);
}

static void core_init(struct nvme_ep *ep, uint32_t index)
{
    struct nvme_ep_core *core = &ep->cores[index];

    memset(core, 0, sizeof(*core));
    core->ep = ep;
    core->index = (uint8_t)index;
    core->burst = 1;
    core->burst_setting = 1;
    core->page_bytes = 4096;
    core->coalesce_due_ns = UINT64_MAX;
    core->poller.name = "nvme_ep";
    core->poller.run = index == 0 ? nvme_ep_poll_control : nvme_ep_poll_io;
    core->poller.arm = nvme_ep_arm;
    core->poller.ctx = core;
    pools_init(&core->io, core, ep->cmds[index], LIMIT_COMMANDS_PER_CORE, ep->bigs[index],
               LIMIT_BIG_COMMANDS_PER_CORE);
    counter_set(&core->counters.pool_low_water, LIMIT_COMMANDS_PER_CORE);
}

enum status nvme_ep_init(struct nvme_ep_memory *memory, const struct nvme_ep_config *config,
                         struct nvme_ep **out)
{
    struct nvme_ep *ep = (struct nvme_ep *)(void *)memory;

    if (!config_is_valid(config)) {
        return STATUS_INVALID;
    }
    /* Not the pools' memory: what is not used is not touched. */
    memset(ep, 0, offsetof(struct nvme_ep, cores));
    ep->pcie = config->pcie;
    ep->config = *config;
    ep->core_mask = config->core_mask | BIT32(0);
    ep->doorbell_stride = 4u << config->dstrd;
    ep->doorbells_used_bytes = 2u * NVME_EP_QUEUES * ep->doorbell_stride;
    ep->page_bytes = 4096;
    if (ep->doorbells_used_bytes > ep->pcie->doorbells_bytes || ep->pcie->vector_count == 0) {
        return STATUS_INVALID;
    }
    ep->next_core = LIMIT_CORES - 1;
    ep->state = NVME_EP_STATE_DISABLED;
    timer_init(&ep->scan_timer, nvme_ep_doorbell_scan);
    ep->config.ctrl.ops = &transport_ops;
    ep->config.ctrl.transport = ep;
    ep->config.ctrl.fn = ep->pcie->fn;
    ep->config.ctrl.vector_count = ep->pcie->vector_count;
    ep->config.ctrl.doorbell_buffers = config->ctrl.doorbell_buffers && doorbell_buffers_pay(ep);
    ep->config.ctrl.sgls = SGLS_BIT_BUCKET;
    ep->config.ctrl.admin_sgl = false;
    enum status status = nvme_ctrl_init(&ep->ctrl_memory, &ep->config.ctrl, &ep->ctrl);
    if (status != STATUS_OK) {
        return status;
    }
    for (uint32_t core = 0; core < LIMIT_CORES; core++) {
        core_init(ep, core);
    }
    pools_init(&ep->admin, &ep->cores[0], ep->admin_cmds, NVME_EP_ADMIN_COMMANDS, ep->admin_bigs,
               NVME_EP_ADMIN_BIGS);
    *out = ep;
    return STATUS_OK;
}

void nvme_ep_start(struct nvme_ep *ep)
{
    nvme_ep_control_start(ep);
    for (uint32_t core = 0; core < LIMIT_CORES; core++) {
        if ((ep->core_mask & BIT32(core)) != 0) {
            sched_poller_add_to(core, &ep->cores[core].poller);
        }
    }
    pcie_ep_ready(ep->pcie);
}

void nvme_ep_serve(struct nvme_ep *ep)
{
    ep->is_serving = true;
    nvme_ep_control_wake(ep);
}

void nvme_ep_hold(struct nvme_ep *ep)
{
    ep->is_serving = false;
}

void nvme_ep_hmb_use(struct nvme_ep *ep, const struct nvme_ep_hmb_ops *ops, void *ctx)
{
    ASSERT(!ep->is_serving && ep->hmb.ops == NULL);
    ep->hmb.ops = ops;
    ep->hmb.ctx = ctx;
}

struct nvme_ctrl *nvme_ep_ctrl(struct nvme_ep *ep)
{
    return ep->ctrl;
}

/* --- numbers ------------------------------------------------------------------------------- */

const char *nvme_ep_state_name(enum nvme_ep_state state)
{
    static const char *const names[] = {
#define STATE_NAME(name, text) [NVME_EP_STATE_##name] = #name,
        NVME_EP_STATE_LIST(STATE_NAME)
#undef STATE_NAME
    };

    return (uint32_t)state < ARRAY_SIZE(names) ? names[state] : "?";
}

static void counters_add(struct nvme_ep_stats *sum, const struct nvme_ep_counters *c)
{
    sum->sqe_count += counter_get(&c->sqes);
    sum->cqe_count += counter_get(&c->cqes);
    sum->irq_count += counter_get(&c->irqs);
    sum->list_reads.count += counter_get(&c->list_reads);
    sum->list_reads.bytes += counter_get(&c->list_bytes);
    sum->data_from_host.count += counter_get(&c->mapped[0].count);
    sum->data_from_host.bytes += counter_get(&c->mapped[0].bytes);
    sum->data_to_host.count += counter_get(&c->mapped[1].count);
    sum->data_to_host.bytes += counter_get(&c->mapped[1].bytes);
    sum->doorbell_error_count += counter_get(&c->doorbell_errors);
    sum->bad_address_count += counter_get(&c->bad_addresses);
    sum->pool_empty_count += counter_get(&c->pool_empty);
    sum->cq_full_count += counter_get(&c->cq_full);
    sum->dropped_count += counter_get(&c->dropped);
    sum->cancel_count += counter_get(&c->cancels);
    sum->fence_count += counter_get(&c->fences);
}

struct nvme_ep_stats nvme_ep_stats(const struct nvme_ep *ep, uint32_t core)
{
    struct nvme_ep_stats sum = {0};

    for (uint32_t i = 0; i < LIMIT_CORES; i++) {
        if (core == NVME_EP_ALL_CORES || core == i) {
            counters_add(&sum, &ep->cores[i].counters);
        }
    }
    /* One access each; not counted apart on the way. */
    sum.sqe_reads.count = sum.sqe_count;
    sum.sqe_reads.bytes = sum.sqe_count * NVME_SQE_BYTES;
    sum.cqe_writes.count = sum.cqe_count;
    sum.cqe_writes.bytes = sum.cqe_count * NVME_CQE_BYTES;
    return sum;
}

/* Plain fields of the owner core are read whole, once each: what is wanted is how it looks. */
static void cq_info(const struct nvme_ep *ep, uint16_t qid, struct nvme_ep_queue_info *info)
{
    const struct nvme_ep_cq *cq = &ep->cqs[qid];

    info->cq_size = (uint16_t)cq->size;
    info->cqe_count = counter_get(&cq->cqe_count);
    info->cq_head = (uint16_t)__atomic_load_n(&cq->head, __ATOMIC_RELAXED);
    info->cq_tail = (uint16_t)(info->cqe_count % cq->size);
    info->cq_vector = cq->vector;
    info->cq_held = (uint16_t)__atomic_load_n(&cq->held_count, __ATOMIC_RELAXED);
    info->cq_ien = cq->is_ien;
    info->core = cq->core;
    info->irq_count = counter_get(&cq->irq_count);
    info->cq_host_addr = cq->host_addr;
    /* A shadow lies in host memory, which may be out of reach: not looked at from here. */
    info->is_shadowed = cq->is_shadowed && cq->shadow_db != NULL;
    info->cq_doorbell = info->is_shadowed ? cq->head : shm_load32(nvme_ep_cq_doorbell(ep, qid));
    info->phase = info->cqe_count / cq->size % 2 == 0; /* 4.6: the first round has 1 */
    info->is_coalescing = cq->is_coalescing;
    info->is_far = cq->base == NULL;
}

static void sq_info(const struct nvme_ep *ep, uint16_t qid, struct nvme_ep_queue_info *info)
{
    const struct nvme_ep_sq *sq = &ep->sqs[qid];

    info->sq_size = (uint16_t)sq->size;
    info->sqe_count = counter_get(&sq->sqe_count);
    info->sq_head = (uint16_t)(info->sqe_count % sq->size); /* both start at 0 */
    info->sq_tail = (uint16_t)shm_load32(nvme_ep_sq_doorbell(ep, qid));
    info->sq_doorbell = sq->shadow_db == NULL ? info->sq_tail : info->sq_head;
    info->sq_cq_id = sq->cq->id;
    info->core = sq->core;
    info->sq_host_addr = sq->host_addr;
    info->priority = sq->priority;
    info->is_deleting = sq->is_deleting;
    info->is_far = info->is_far || sq->base == NULL;
}

struct nvme_ep_queue_info nvme_ep_queue_info(const struct nvme_ep *ep, uint16_t qid)
{
    struct nvme_ep_queue_info info = {0};

    if (qid >= NVME_EP_QUEUES) {
        return info;
    }
    if (ep->cq_state[qid] != NVME_EP_QUEUE_FREE) {
        cq_info(ep, qid, &info);
    }
    if (ep->sq_state[qid] != NVME_EP_QUEUE_FREE) {
        sq_info(ep, qid, &info);
    }
    return info;
}

uint32_t nvme_ep_queue_commands(const struct nvme_ep *ep, uint16_t qid, uint64_t *oldest_ns)
{
    const struct nvme_ep_sq *sq = &ep->sqs[qid % NVME_EP_QUEUES];
    const struct nvme_ep_cmd *cmds = qid == 0 ? ep->admin_cmds : ep->cmds[sq->core];
    uint32_t room = qid == 0 ? NVME_EP_ADMIN_COMMANDS : LIMIT_COMMANDS_PER_CORE;
    uint32_t count = 0;
    uint64_t oldest = UINT64_MAX;

    for (uint32_t i = 0; i < room; i++) {
        const struct nvme_ep_cmd *cmd = &cmds[i];
        if (__atomic_load_n(&cmd->nvme.state, __ATOMIC_RELAXED) != NVME_EP_CMD_FREE &&
            __atomic_load_n(&cmd->sq, __ATOMIC_RELAXED) == sq) {
            count++;
            oldest = min_u64(oldest, __atomic_load_n(&cmd->nvme.start_ns, __ATOMIC_RELAXED));
        }
    }
    *oldest_ns = count == 0 ? 0 : oldest;
    return count;
}

/* Fetched, but neither posted nor dropped; event requests that wait count, those that a disable
 * forgot do not. */
static uint32_t in_flight(const struct nvme_ep_counters *c)
{
    return (uint32_t)(counter_get(&c->sqes) - counter_get(&c->cqes) - counter_get(&c->dropped));
}

struct nvme_ep_snapshot nvme_ep_snapshot(const struct nvme_ep *ep)
{
    struct nvme_ep_snapshot snapshot = {
        .state = ep->state,
        .cc = ep->cc,
        .csts = ep->csts,
        .aqa = ep->aqa,
        .asq = ep->asq,
        .acq = ep->acq,
        .cap = ep->cap,
        .coalesce_entries = (nvme_ep_setting_get(&ep->coalescing) & 0xff) + 1,
        .coalesce_us = (nvme_ep_setting_get(&ep->coalescing) >> 8 & 0xff) * 100,
        .serving = ep->is_serving,
        .bus_master = ep->cores[0].view.window_count != 0,
        .fence_left = ep->fence_left,
        .hmb_bytes = ep->hmb.is_set ? ep->hmb.memory.len_bytes : 0,
        .hmb_is_used = ep->hmb.is_used,
        .view_generation = ep->cores[0].view.generation,
    };

    for (uint32_t qid = 1; qid < NVME_EP_QUEUES; qid++) {
        snapshot.sq_count += ep->sq_state[qid] != NVME_EP_QUEUE_FREE;
        snapshot.cq_count += ep->cq_state[qid] != NVME_EP_QUEUE_FREE;
    }
    for (uint32_t i = 0; i < LIMIT_CORES; i++) {
        snapshot.in_flight[i] = in_flight(&ep->cores[i].counters);
        snapshot.pool_low_water[i] = (uint32_t)counter_get(&ep->cores[i].counters.pool_low_water);
    }
    return snapshot;
}
