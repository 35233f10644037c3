/*
 * Host memory of a tenant on one core: receive ring, responses and completion ring of its queues
 * (NVMF_PATH_HOST_QUEUES). The objects over it are made with the first queue that uses them and go
 * with the last, so what a host has spoiled is anew with each reset.
 *
 * Everything there is hostile (rdma/types.h, struct rdma_host_recv): a slot that comes is in range
 * and there are as many as were posted, but it may come twice, its length, status and content are
 * the host's to forge. That a response is copied before it is looked at, and that its CID has to be
 * one under way on that queue, is queue_run.c's part.
 */
#include "nvmf_host/queue_priv.h"

static uint32_t recvs_of(uint32_t command_count)
{
    uint32_t count = NVMF_RECVS_MIN;

    while (count < command_count) {
        count *= 2;
    }
    return count;
}

/* As many receives as the tenant's ordinary ring has: more commands cannot be under way. */
uint64_t nvmf_host_memory_bytes(uint32_t command_count)
{
    uint32_t recvs = recvs_of(command_count);

    return align_up(recvs * (sizeof(struct rdma_wc) + sizeof(struct nvme_cqe)) +
                        rdma_host_ring_bytes(recvs),
                    NVMF_PAGE_BYTES);
}

uint64_t nvmf_host_area_bytes(const struct nvmf_core *core)
{
    return core->device->attr.host_rings
               ? nvmf_host_memory_bytes(core->domains[0].rings.response_count)
               : 0;
}

/* --- objects ---------------------------------------------------------------------------------- */

static enum status make_srq(struct nvmf_domain *domain, void *ring)
{
    struct nvmf_host_area *area = &domain->host;
    struct nvmf_rings *rings = &area->rings;
    struct rdma_host_recv recv = {.ring = ring,
                                  .slots_addr = (uintptr_t)rings->responses,
                                  .lkey = area->mr->lkey,
                                  .slot_bytes = sizeof(struct nvme_cqe),
                                  .slot_count = rings->response_count};
    struct rdma_srq_attr attr = {
        .pd = domain->pd, .wr_count = rings->response_count, .host_recv = &recv};

    enum status status = rdma_srq_create(&attr, &rings->srq);
    if (status != STATUS_OK) {
        rings->srq = NULL;
        return status;
    }
    rings->batch_count = 0;
    for (uint32_t i = 0; i < rings->response_count; i++) {
        nvmf_host_recv_put(rings, i);
    }
    nvmf_recv_post(rings);
    return STATUS_OK;
}

static enum status make_objects(struct nvmf_domain *domain)
{
    struct nvmf_host_area *area = &domain->host;
    struct nvmf_rings *rings = &area->rings;
    uint32_t count = domain->rings.response_count;
    uint8_t *next = area->memory;
    struct rdma_cq_attr cq_attr = {
        .entry_count = count, .memory = next, .host_pd = domain->pd, .ctx = domain->core};

    enum status status = rdma_cq_create(domain->core->device, &cq_attr, &rings->cq);
    if (status != STATUS_OK) {
        rings->cq = NULL;
        return status;
    }
    next += rdma_cq_memory_bytes(domain->core->device, count);
    rings->responses = (struct nvme_cqe *)(void *)next;
    rings->response_count = count;
    next += count * sizeof(struct nvme_cqe);
    /* The bus address is good until it is let go: no look into the windows each time. */
    struct rdma_mr_attr mr_attr = {.kind = RDMA_MR_NIC,
                                   .access = RDMA_ACCESS_LOCAL_WRITE,
                                   .memory = rings->responses,
                                   .len_bytes = count * sizeof(struct nvme_cqe)};
    status = rdma_mr_reg(domain->pd, &mr_attr, &area->mr);
    if (status != STATUS_OK) {
        area->mr = NULL;
        return status;
    }
    return make_srq(domain, next);
}

/* No queue pair uses them, and nothing is ever sent from there: nothing can hold them. */
static void drop_objects(struct nvmf_host_area *area)
{
    enum status status = STATUS_OK;

    if (area->rings.srq != NULL) {
        status = rdma_srq_destroy(area->rings.srq);
        ASSERT(status == STATUS_OK);
    }
    if (area->mr != NULL) {
        status = rdma_mr_dereg(area->mr);
        ASSERT(status == STATUS_OK);
    }
    if (area->rings.cq != NULL) {
        status = rdma_cq_destroy(area->rings.cq);
        ASSERT(status == STATUS_OK);
    }
    area->rings.srq = NULL;
    area->rings.cq = NULL;
    area->mr = NULL;
}

/* --- users ------------------------------------------------------------------------------------ */

bool nvmf_host_area_get(struct nvmf_domain *domain)
{
    struct nvmf_host_area *area = &domain->host;

    if (area->memory == NULL) {
        return false;
    }
    if (area->user_count == 0) {
        if (make_objects(domain) != STATUS_OK) {
            drop_objects(area);
            return false;
        }
        domain->core->host_area_count++;
    }
    area->user_count++;
    return true;
}

static void answer(struct nvmf_host_order *order);

void nvmf_host_area_put(struct nvmf_domain *domain)
{
    struct nvmf_host_area *area = &domain->host;
    struct nvmf_host_order *order = area->leave;

    if (--area->user_count > 0) {
        return;
    }
    drop_objects(area);
    domain->core->host_area_count--;
    if (order != NULL) {
        area->leave = NULL;
        answer(order);
    }
}

/* --- orders ----------------------------------------------------------------------------------- */

static void came_home(struct msg *msg)
{
    struct nvmf_host_order *order = CONTAINER_OF(msg, struct nvmf_host_order, msg);

    order->done(order);
}

static void answer(struct nvmf_host_order *order)
{
    order->msg.fn = came_home;
    msg_send(0, &order->msg);
}

static void carry_out(struct msg *msg)
{
    struct nvmf_host_order *order = CONTAINER_OF(msg, struct nvmf_host_order, msg);
    struct nvmf_host_area *area = &order->core->domains[order->fn].host;

    area->memory = order->memory;
    if (order->memory == NULL && area->user_count > 0) {
        area->leave = order; /* the association is closing them */
        return;
    }
    answer(order);
}

void nvmf_host_order_send(struct nvmf_host_order *order)
{
    order->msg.fn = carry_out;
    msg_send(order->core->id, &order->msg);
}
