/*
 * The two rings of an NVMe queue pair, seen from the host's side of the drive: submit into one,
 * reap the other. The only code of this driver that turns indices into entries, phases and doorbell
 * values.
 *
 * Indices run freely and are masked on use. A submission queue is never full: callers keep fewer
 * commands under way than it has entries, and a command that completed was fetched. So SQHD of the
 * completions, which a broken drive may set to anything, is not used at all.
 * Source: NVM Express Base 1.4, sections 3.1.24, 4.1 and 4.6.
 */
#ifndef NVME_DRV_NVME_DRV_RING_H
#define NVME_DRV_NVME_DRV_RING_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include "base/compiler.h"
#include "base/shm.h"
#include "hal/barrier.h"
#include "hal/mmio.h"
#include "spec/nvme.h"

struct nvme_drv_sq {
    struct nvme_sqe *entries;
    uint32_t tail;
    uint32_t rung; /* the tail that the drive knows */
    uint32_t mask;
    uint32_t doorbell; /* offset in the registers */
};

struct nvme_drv_cq {
    struct nvme_cqe *entries;
    uint32_t head;
    uint32_t rung;
    uint32_t mask;
    uint32_t doorbell;
};

/* The next free entry; the drive sees nothing of it before ring. Fill all 64 bytes. */
ALWAYS_INLINE struct nvme_sqe *nvme_drv_sq_push(struct nvme_drv_sq *sq)
{
    return &sq->entries[sq->tail++ & sq->mask];
}

/* Tells the drive about all entries pushed since; nothing to do costs two loads. */
ALWAYS_INLINE void nvme_drv_sq_ring(struct nvme_drv_sq *sq, struct mmio regs)
{
    if (sq->rung != sq->tail) {
        sq->rung = sq->tail;
        /* DRV-SQ: entries, PRP lists and data are in memory before the drive hears of them. */
        barrier_before_doorbell();
        mmio_write32(regs, sq->doorbell, sq->tail & sq->mask);
    }
}

/* Copies the next completion out; false when there is none. */
ALWAYS_INLINE bool nvme_drv_cq_pop(struct nvme_drv_cq *cq, struct nvme_cqe *copy)
{
    const struct nvme_cqe *entry = &cq->entries[cq->head & cq->mask];
    /* DRV-CQ (acquire): the drive writes the dword with the phase last (4.6); what it wrote before,
     * read data included, is seen after. */
    uint32_t dw3 = shm_load32_acquire(&entry->dw3);
    /* The first pass has phase 1, the second 0, and so on; mask + 1 is the size of a pass. */
    bool is_odd_pass = (cq->head & (cq->mask + 1)) != 0;

    if (((dw3 & NVME_CQE_PHASE) != 0) == is_odd_pass) {
        return false;
    }
    copy->dw0 = shm_load32(&entry->dw0);
    copy->dw1 = shm_load32(&entry->dw1);
    copy->sq_head = shm_load16(&entry->sq_head);
    copy->sq_id = shm_load16(&entry->sq_id);
    copy->dw3 = dw3;
    cq->head++;
    return true;
}

/* Gives the popped entries back to the drive. */
ALWAYS_INLINE void nvme_drv_cq_ring(struct nvme_drv_cq *cq, struct mmio regs)
{
    if (cq->rung != cq->head) {
        cq->rung = cq->head;
        /* DRV-CQ-FREE: the loads of the entries are done before the drive may write them again (a
         * load barrier orders loads before it against the store after it). */
        barrier_after_device_read();
        mmio_write32(regs, cq->doorbell, cq->head & cq->mask);
    }
}

/* Both rings as a fresh queue pair of `entry_count` (a power of two) entries has them. The drive
 * must be disabled. `stride_bytes`: 4 << CAP.DSTRD. */
static inline void nvme_drv_rings_init(struct nvme_drv_sq *sq, struct nvme_drv_cq *cq, uint16_t qid,
                                       uint32_t entry_count, uint32_t stride_bytes)
{
    sq->tail = sq->rung = 0;
    sq->mask = entry_count - 1;
    sq->doorbell = NVME_DOORBELLS_OFFSET + 2u * qid * stride_bytes;
    cq->head = cq->rung = 0;
    cq->mask = entry_count - 1;
    cq->doorbell = NVME_DOORBELLS_OFFSET + (2u * qid + 1) * stride_bytes;
    memset(cq->entries, 0, entry_count * sizeof(struct nvme_cqe)); /* phase 0: not written yet */
}

#endif
