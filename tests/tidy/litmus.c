/*
 * Each named primitive in a function of its own, for check_barriers.py: it compiles this for
 * aarch64 and looks at the instructions. Never linked, never run.
 */
#include <stdatomic.h>
#include "base/shm.h"
#include "base/trace.h"
#include "hal/barrier.h"
#include "hal/drivers/virtio_net_priv.h"
#include "hal/mmio.h"
#include "nvme_drv/nvme_drv_ring.h"

uint32_t litmus_acquire(const uint32_t *ready, const uint32_t *data);
uint32_t litmus_acquire(const uint32_t *ready, const uint32_t *data)
{
    return shm_load32_acquire(ready) != 0 ? shm_load32(data) : 0;
}

void litmus_release(uint32_t *data, uint32_t *ready);
void litmus_release(uint32_t *data, uint32_t *ready)
{
    shm_store32(data, 1);
    shm_store32_release(ready, 1);
}

uint32_t litmus_arm(uint32_t *armed, const uint32_t *doorbell);
uint32_t litmus_arm(uint32_t *armed, const uint32_t *doorbell)
{
    shm_store32(armed, 1);
    shm_full_barrier();
    return shm_load32(doorbell);
}

void litmus_doorbell(uint32_t *data, struct mmio regs);
void litmus_doorbell(uint32_t *data, struct mmio regs)
{
    shm_store32(data, 1);
    barrier_before_doorbell();
    mmio_write32(regs, 0, 1);
}

uint32_t litmus_device_read(struct mmio regs, const uint32_t *data);
uint32_t litmus_device_read(struct mmio regs, const uint32_t *data)
{
    uint32_t status = mmio_read32(regs, 0);
    barrier_after_device_read();
    return status + shm_load32(data);
}

void litmus_fence(uint32_t *data, uint32_t *answer);
void litmus_fence(uint32_t *data, uint32_t *answer)
{
    shm_store32(data, 1);
    barrier_full_system();
    shm_store32(answer, 1);
}

void litmus_trace(uint64_t a);
void litmus_trace(uint64_t a)
{
    trace_write(&trace_rings[0], TRACE_IO_FETCH, 0, 0, a, 0);
}

void litmus_drv_sq_ring(struct nvme_drv_sq *sq, struct mmio regs);
void litmus_drv_sq_ring(struct nvme_drv_sq *sq, struct mmio regs)
{
    nvme_drv_sq_ring(sq, regs);
}

bool litmus_drv_cq_pop(struct nvme_drv_cq *cq, struct nvme_cqe *copy);
bool litmus_drv_cq_pop(struct nvme_drv_cq *cq, struct nvme_cqe *copy)
{
    return nvme_drv_cq_pop(cq, copy);
}

void litmus_drv_cq_ring(struct nvme_drv_cq *cq, struct mmio regs);
void litmus_drv_cq_ring(struct nvme_drv_cq *cq, struct mmio regs)
{
    nvme_drv_cq_ring(cq, regs);
}

bool litmus_virtq_publish(struct virtq *q);
bool litmus_virtq_publish(struct virtq *q)
{
    return virtq_publish(q);
}

uint32_t litmus_virtq_take(struct virtq *q);
uint32_t litmus_virtq_take(struct virtq *q)
{
    return virtq_ready(q) == 0 ? 0 : shm_load32(&virtq_take(q)->id);
}

bool litmus_virtq_arm(struct virtq *q);
bool litmus_virtq_arm(struct virtq *q)
{
    return virtq_arm(q, true);
}

void litmus_virtq_refill(struct virtio_net *net);
void litmus_virtq_refill(struct virtio_net *net)
{
    virtio_net_publish_posted(net);
}
