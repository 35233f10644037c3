/*
 * Management records of functions, their queues and namespaces, and of local drives.
 */
#include "app/mgmt_priv.h"

#include "hal/clock.h"

#define QUEUE_IDS (LIMIT_IO_QUEUES + 1)

/* --- functions: hang safe -------------------------------------------------------------------- */

uint32_t app_mgmt_function_count(void)
{
    return app.function_count;
}

uint32_t app_mgmt_function(uint32_t index, void *record)
{
    struct mgmt_function *out = record;
    const struct app_function *function = &app.functions[index];
    struct nvme_ep_snapshot s = nvme_ep_snapshot(function->ep);

    out->fn = function->pcie->fn;
    out->flags = (uint16_t)((s.serving ? MGMT_FUNCTION_SERVING : 0) |
                            (s.bus_master ? MGMT_FUNCTION_BUS_MASTER : 0) |
                            (s.hmb_is_used ? MGMT_FUNCTION_HMB_USED : 0));
    out->cc = s.cc;
    out->csts = s.csts;
    out->aqa = s.aqa;
    out->cap = s.cap;
    out->asq = s.asq;
    out->acq = s.acq;
    out->hmb_bytes = s.hmb_bytes;
    out->fence_left = s.fence_left;
    out->view_generation = s.view_generation;
    out->sq_count = (uint16_t)s.sq_count;
    out->cq_count = (uint16_t)s.cq_count;
    _Static_assert(LIMIT_CORES <= MGMT_CORES, "room for each core");
    for (uint32_t i = 0; i < sched_core_count(); i++) {
        out->in_flight[i] = s.in_flight[i];
        out->pool_low_water[i] = s.pool_low_water[i];
    }
    app_mgmt_text(out->state, sizeof(out->state), nvme_ep_state_name(s.state));
    app_mgmt_text(out->name, sizeof(out->name), function->pcie->name);
    app_mgmt_text(out->serial, sizeof(out->serial), function->serial);
    app_mgmt_text(out->subnqn, sizeof(out->subnqn), function->subnqn);
    app_mgmt_text(out->hostnqn, sizeof(out->hostnqn), function->hostnqn);
    return MGMT_OWNER_FN(out->fn);
}

/* --- queues: hang safe ----------------------------------------------------------------------- */

uint32_t app_mgmt_queue_count(void)
{
    return app.function_count * QUEUE_IDS;
}

static uint8_t queue_flags(const struct nvme_ep_queue_info *q)
{
    return (uint8_t)((q->sq_size != 0 ? MGMT_QUEUE_SQ : 0) | (q->cq_size != 0 ? MGMT_QUEUE_CQ : 0) |
                     (q->cq_ien ? MGMT_QUEUE_IEN : 0) |
                     (q->is_coalescing ? MGMT_QUEUE_COALESCING : 0) |
                     (q->phase ? MGMT_QUEUE_PHASE : 0) | (q->is_shadowed ? MGMT_QUEUE_SHADOW : 0) |
                     (q->is_far ? MGMT_QUEUE_FAR : 0) | (q->is_deleting ? MGMT_QUEUE_DELETING : 0));
}

uint32_t app_mgmt_queue(uint32_t index, void *record)
{
    struct mgmt_queue *out = record;
    const struct app_function *function = &app.functions[index / QUEUE_IDS];
    uint16_t qid = (uint16_t)(index % QUEUE_IDS);
    struct nvme_ep_queue_info q = nvme_ep_queue_info(function->ep, qid);

    if (q.sq_size == 0 && q.cq_size == 0) {
        return 0;
    }
    out->fn = function->pcie->fn;
    out->qid = qid;
    out->flags = queue_flags(&q);
    out->core = q.core;
    out->priority = q.priority;
    out->cq_id = q.sq_cq_id;
    out->vector = q.cq_vector;
    out->sq_base = q.sq_host_addr;
    out->cq_base = q.cq_host_addr;
    out->sq_size = q.sq_size;
    out->sq_head = q.sq_head;
    out->sq_doorbell = q.sq_doorbell;
    out->cq_size = q.cq_size;
    out->cq_tail = q.cq_tail;
    out->cq_head = q.cq_head;
    out->cq_doorbell = q.cq_doorbell;
    out->cq_held = q.cq_held;
    out->sqe_count = q.sqe_count;
    out->cqe_count = q.cqe_count;
    out->irq_count = q.irq_count;
    if (q.sq_size != 0) {
        uint64_t now_ns = clock_now_ns();
        uint64_t oldest_ns;
        out->in_flight = nvme_ep_queue_commands(function->ep, qid, &oldest_ns);
        out->oldest_ns = oldest_ns != 0 && oldest_ns < now_ns ? now_ns - oldest_ns : 0;
    }
    struct nvme_ep_snapshot s = nvme_ep_snapshot(function->ep);
    out->coalesce_entries = s.coalesce_entries;
    out->coalesce_us = s.coalesce_us;
    return MGMT_OWNER_FN(out->fn);
}

/* --- drives ---------------------------------------------------------------------------------- */

uint32_t app_mgmt_drive_count(void)
{
    return app.drive_count;
}

uint32_t app_mgmt_drive(uint32_t index, void *record)
{
    struct mgmt_drive *out = record;
    struct nvme_drv *drive = app.drives[index];

    if (drive == NULL) {
        return 0;
    }
    out->index = (uint16_t)index;
    app_mgmt_text(out->name, sizeof(out->name), nvme_drv_name(drive));
    app_mgmt_text(out->state, sizeof(out->state), nvme_drv_state_name(nvme_drv_state(drive)));
    return MGMT_OWNER_BOARD;
}

/* --- namespaces: the identifiers of one function behind those of the other ------------------- */

uint32_t app_mgmt_namespace_count(void)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < app.function_count; i++) {
        count += app.functions[i].ns_room;
    }
    return count;
}

uint32_t app_mgmt_namespace(uint32_t index, void *record)
{
    struct mgmt_namespace *out = record;
    const struct app_function *function = app.functions;

    while (index >= function->ns_room) {
        index -= function->ns_room;
        function++;
    }
    const struct nvme_ns *ns = nvme_ns_find(nvme_ep_ctrl(function->ep), index + 1);
    if (ns == NULL) {
        return 0;
    }
    out->fn = function->pcie->fn;
    out->nsid = index + 1;
    if (ns->dev->geometry.known) {
        out->lba_count = ns->dev->geometry.lba_count;
        out->block_bytes = 1u << ns->dev->geometry.lba_shift;
    }
    app_mgmt_text(out->name, sizeof(out->name), ns->dev->name);
    return MGMT_OWNER_FN(out->fn);
}
