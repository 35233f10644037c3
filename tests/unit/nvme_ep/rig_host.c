/*
 * The host's half of the rig: its memory, the enable of the controller, its queues and the commands
 * that it puts there. The function, its registers and the devices are rig.c's.
 */
#include "tests/unit/nvme_ep/rig.h"

#include "hal/cpu.h"

/* --- host memory --------------------------------------------------------------------------- */

uint64_t rig_alloc(uint32_t bytes)
{
    uint64_t offset = rig.alloc_next;

    rig.alloc_next += align_up(bytes, 4096);
    ASSERT(rig.alloc_next <= RIG_RAM_BYTES);
    memset(rig.ram + offset, 0, align_up(bytes, 4096));
    return RIG_HOST_BASE + offset;
}

void *rig_ptr(uint64_t host_addr)
{
    ASSERT(host_addr >= RIG_HOST_BASE && host_addr < RIG_HOST_BASE + RIG_RAM_BYTES);
    return rig.ram + (host_addr - RIG_HOST_BASE);
}

/* How many turns something may take. Threads may have to wait for a processor. */
static uint32_t patience(void)
{
    return rig.config.threads ? 500000 : 20;
}

/* --- enable -------------------------------------------------------------------------------- */

void rig_enable_sized(uint32_t sq_size, uint32_t cq_size, uint32_t cc)
{
    struct rig_queue *q = &rig_admin_queue;

    *q = (struct rig_queue){.sq_size = (uint16_t)sq_size, .cq_size = (uint16_t)cq_size};
    q->phase = 1;
    q->sq_addr = rig_alloc(sq_size * NVME_SQE_BYTES);
    q->cq_addr = rig_alloc(cq_size * NVME_CQE_BYTES);
    rig_write32(NVME_REG_AQA, (cq_size - 1) << 16 | (sq_size - 1));
    rig_write64(NVME_REG_ASQ, q->sq_addr);
    rig_write64(NVME_REG_ACQ, q->cq_addr);
    rig_write32(NVME_REG_CC, cc);
    for (uint32_t i = 0; i < patience() && (rig_csts() & NVME_CSTS_RDY) == 0; i++) {
        rig_turn(1);
    }
    rig_turn(2);
}

void rig_enable(void)
{
    rig_enable_sized(32, 32, RIG_CC);
    ASSERT(rig_csts() == NVME_CSTS_RDY);
}

void rig_disable(void)
{
    rig_write32(NVME_REG_CC, rig_read32(NVME_REG_CC) & ~NVME_CC_EN);
    rig_turn(8);
    for (uint32_t i = 0; rig.config.threads && i < patience() && rig_csts() != 0; i++) {
        rig_turn(1);
    }
}

/* --- queues -------------------------------------------------------------------------------- */

uint32_t *rig_sq_doorbell(uint16_t qid)
{
    return (uint32_t *)(void *)(rig.doorbells + 2u * qid * (4u << rig.config.dstrd));
}

uint32_t *rig_cq_doorbell(uint16_t qid)
{
    return (uint32_t *)(void *)(rig.doorbells + (2u * qid + 1) * (4u << rig.config.dstrd));
}

uint16_t rig_push(struct rig_queue *queue, const struct nvme_sqe *sqe)
{
    struct nvme_sqe *slot =
        (struct nvme_sqe *)rig_ptr(queue->sq_addr + queue->sq_tail * NVME_SQE_BYTES);
    uint16_t cid = queue->next_cid++;

    *slot = *sqe;
    slot->cid = cid;
    queue->sq_tail = (queue->sq_tail + 1) % queue->sq_size;
    return cid;
}

/* Trapped: who writes the page wakes the cores that are armed. */
static void mmio_ring(uint32_t *mmio, uint32_t value)
{
    shm_store32_release(mmio, value);
    shm_full_barrier(); /* pairs with EP-ARM in poll.c */
    if (rig.config.threads && rig.config.trapped && shm_load32(&rig.armed_count) != 0) {
        for (uint32_t core = 0; core < sched_core_count(); core++) {
            cpu_wake(core);
        }
    }
}

/* 7.13: MMIO only when the shadow passes EventIdx. */
static void ring(uint32_t *mmio, uint32_t *shadow, const uint32_t *event_idx, uint32_t value)
{
    if (shadow == NULL) {
        mmio_ring(mmio, value);
        return;
    }
    uint16_t old = (uint16_t)shm_load32(shadow);
    shm_store32_release(shadow, value);
    shm_full_barrier();
    if ((uint16_t)(value - shm_load32(event_idx) - 1) < (uint16_t)(value - old)) {
        mmio_ring(mmio, value);
    }
}

void rig_ring(struct rig_queue *queue)
{
    ring(rig_sq_doorbell(queue->id), queue->shadow, queue->event_idx, queue->sq_tail);
}

bool rig_pop(struct rig_queue *queue, struct nvme_cqe *cqe)
{
    struct nvme_cqe *slot =
        (struct nvme_cqe *)rig_ptr(queue->cq_addr + queue->cq_head * NVME_CQE_BYTES);

    /* Acquire: pairs with CQE in complete.c. */
    if ((shm_load64_acquire(&slot->sq_head) >> 48 & 1) != queue->phase) {
        return false;
    }
    uint64_t half[2] = {shm_load64(slot), shm_load64(&slot->sq_head)};
    memcpy(cqe, half, sizeof(*cqe));
    queue->sq_head = cqe->sq_head;
    queue->cq_head = (queue->cq_head + 1) % queue->cq_size;
    if (queue->cq_head == 0) {
        queue->phase ^= 1;
    }
    return true;
}

void rig_ring_head(struct rig_queue *queue)
{
    uint32_t stride = 4u << rig.config.dstrd;
    uint32_t *shadow = NULL;
    uint32_t *event_idx = NULL;

    if (queue->shadow != NULL) {
        shadow = queue->shadow + stride / 4;
        event_idx = queue->event_idx + stride / 4;
    }
    ring(rig_cq_doorbell(queue->id), shadow, event_idx, queue->cq_head);
}

uint16_t rig_do(struct rig_queue *queue, const struct nvme_sqe *sqe, struct nvme_cqe *cqe)
{
    uint16_t cid = rig_push(queue, sqe);

    rig_ring(queue);
    for (uint32_t i = 0; i < patience(); i++) {
        rig_turn(1);
        if (rig_pop(queue, cqe)) {
            ASSERT(rig_cid(cqe) == cid && cqe->sq_id == queue->id);
            rig_ring_head(queue);
            return rig_status(cqe);
        }
    }
    return RIG_NO_COMPLETION;
}

uint16_t rig_admin(const struct nvme_sqe *sqe, uint32_t *dw0)
{
    struct nvme_cqe cqe = {0};
    uint16_t status = rig_do(&rig_admin_queue, sqe, &cqe);

    if (dw0 != NULL) {
        *dw0 = cqe.dw0;
    }
    return status;
}

uint16_t rig_create_cq(uint16_t id, uint16_t size, uint64_t addr, uint32_t cdw11)
{
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_CREATE_CQ,
                           .prp1 = addr,
                           .cdw10 = (uint32_t)(uint16_t)(size - 1) << 16 | id,
                           .cdw11 = cdw11};
    return rig_admin(&sqe, NULL);
}

uint16_t rig_create_sq(uint16_t id, uint16_t size, uint64_t addr, uint32_t cdw11)
{
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_CREATE_SQ,
                           .prp1 = addr,
                           .cdw10 = (uint32_t)(uint16_t)(size - 1) << 16 | id,
                           .cdw11 = cdw11};
    return rig_admin(&sqe, NULL);
}

uint16_t rig_delete_cq(uint16_t id)
{
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_DELETE_CQ, .cdw10 = id};
    return rig_admin(&sqe, NULL);
}

uint16_t rig_delete_sq(uint16_t id)
{
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_DELETE_SQ, .cdw10 = id};
    return rig_admin(&sqe, NULL);
}

void rig_create_pair(struct rig_queue *queue, uint16_t id, uint16_t size)
{
    *queue = (struct rig_queue){.id = id, .sq_size = size, .cq_size = size, .phase = 1};
    queue->sq_addr = rig_alloc(size * NVME_SQE_BYTES);
    queue->cq_addr = rig_alloc(size * NVME_CQE_BYTES);
    ASSERT(rig_create_cq(id, size, queue->cq_addr,
                         (uint32_t)id << 16 | NVME_CREATE_CQ_IEN | NVME_CREATE_CQ_PC) == 0);
    ASSERT(rig_create_sq(id, size, queue->sq_addr, (uint32_t)id << 16 | NVME_CREATE_SQ_PC) == 0);
}

/* --- commands ------------------------------------------------------------------------------ */

struct nvme_sqe rig_rw(uint8_t opcode, uint32_t nsid, uint64_t slba, uint32_t lba_count,
                       uint64_t prp1, uint64_t prp2)
{
    return (struct nvme_sqe){.opcode = opcode,
                             .nsid = nsid,
                             .prp1 = prp1,
                             .prp2 = prp2,
                             .cdw10 = (uint32_t)slba,
                             .cdw11 = (uint32_t)(slba >> 32),
                             .cdw12 = lba_count - 1};
}

struct nvme_sqe rig_identify(uint64_t prp1)
{
    return (struct nvme_sqe){.opcode = NVME_ADMIN_IDENTIFY, .prp1 = prp1, .cdw10 = 1};
}

uint16_t rig_set_feature(uint8_t fid, uint32_t cdw11)
{
    struct nvme_sqe sqe = {.opcode = NVME_ADMIN_SET_FEATURES, .cdw10 = fid, .cdw11 = cdw11};
    return rig_admin(&sqe, NULL);
}

uint16_t rig_doorbell_buffers(uint64_t shadow, uint64_t event_idx)
{
    struct nvme_sqe sqe = {
        .opcode = NVME_ADMIN_DOORBELL_BUFFER_CONFIG, .prp1 = shadow, .prp2 = event_idx};
    return rig_admin(&sqe, NULL);
}

void rig_shadow(struct rig_queue *queue, uint64_t shadow, uint64_t event_idx)
{
    uint32_t offset = 2u * queue->id * (4u << rig.config.dstrd);

    queue->shadow = rig_ptr(shadow + offset);
    queue->event_idx = rig_ptr(event_idx + offset);
}

uint32_t rig_random(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*seed >> 33);
}
