/*
 * What drivers of virtio devices share: a modern device behind the root complex (PCI transport,
 * virtio_pci.c) and the split virtqueue, of which the driver fills one end.
 *
 * All that the device writes is doubted here: its capabilities, its used indices. What a used entry
 * says is for the driver of the device to check. Barriers are those for devices (ORDER_PLATFORM):
 * an emulated device does not need more, a real one not less. Leaves out: the legacy interface,
 * INTx, packed rings, indirect descriptors.
 * Source: VIRTIO 1.2, sections 2.7, 3.1.1 and 4.1.
 *
 * Start: virtio_open(), virtio_negotiate(), for each queue virtq_init() and virtio_queue_start(),
 * virtio_start().
 */
#ifndef DRIVERS_VIRTIO_H
#define DRIVERS_VIRTIO_H

#include <stdbool.h>
#include <stdint.h>
#include "base/bits.h"
#include "base/compiler.h"
#include "base/shm.h"
#include "base/status.h"
#include "hal/barrier.h"
#include "hal/mmio.h"
#include "hal/pcie_rc.h"
#include "spec/virtio.h"

/* --- device ----------------------------------------------------------------------------------- */

struct virtio_device {
    const struct pcie_rc_device *pci;
    struct mmio common; /* struct virtio_pci_common */
    struct mmio notify; /* queue q at its queue_notify_off * notify_multiplier */
    struct mmio config; /* of the device's type */
    uint32_t notify_bytes;
    uint32_t notify_multiplier;
    uint32_t config_bytes;
    uint64_t features; /* negotiated */
};

/* Finds the modern registers, lets the device answer, resets it, then turns bus mastering on.
 * Core 0, at start.
 * UNSUPPORTED: it has no modern interface. BAD_DATA: a capability leads outside of the BARs or is
 * misaligned. TIMED_OUT: it does not reset within a second. */
MUST_USE enum status virtio_open(struct virtio_device *dev, const struct pcie_rc_device *pci);

/* Begins a reset; when virtio_is_reset() the device has let go of all memory (2.1.2, 2.4). */
void virtio_reset(const struct virtio_device *dev);
bool virtio_is_reset(const struct virtio_device *dev);

/* From reset to FEATURES_OK (3.1.1, steps 2 - 6): accepts what the device offers of `wanted`.
 * UNSUPPORTED: something of `required` is not offered, or the device does not like the choice (it
 * is FAILED then). */
MUST_USE enum status virtio_negotiate(struct virtio_device *dev, uint64_t wanted,
                                      uint64_t required);

/* Entries that the device has for queue `index`, at most; 0: no such queue, or a size that the
 * specification does not allow. After virtio_negotiate(). */
uint32_t virtio_queue_size(const struct virtio_device *dev, uint16_t index);

/* MSI-X entry for changes of the configuration. False: the device refuses (4.1.5.1.2). */
MUST_USE bool virtio_set_config_vector(const struct virtio_device *dev, uint16_t vector);

/* Device status; reading clears nothing. */
uint8_t virtio_status(const struct virtio_device *dev);

/* DRIVER_OK (3.1.1, step 8): from now on the device reads and writes memory. */
void virtio_start(const struct virtio_device *dev);

/* The driver gives up (2.1): FAILED. */
void virtio_fail(const struct virtio_device *dev);

/* --- queue ------------------------------------------------------------------------------------ */

struct virtq {
    struct virtq_desc *desc;
    struct virtq_avail *avail;
    struct virtq_used *used;
    struct mmio notify;
    uint16_t index; /* of the queue in the device */
    uint16_t mask;
    uint16_t avail_idx;     /* next entry that we write; free running as all three */
    uint16_t published_idx; /* what the device knows of it */
    uint16_t used_idx;      /* next entry that we read */
    bool has_event_idx;
};

/* Memory of a queue with `size` entries; aligned to CACHE_LINE_BYTES. */
#define VIRTQ_LINES(bytes) (((bytes) + CACHE_LINE_BYTES - 1) / CACHE_LINE_BYTES * CACHE_LINE_BYTES)
#define VIRTQ_MEMORY_BYTES(size)                                        \
    (VIRTQ_LINES(16u * (size)) + VIRTQ_LINES(VIRTQ_AVAIL_BYTES(size)) + \
     VIRTQ_LINES(VIRTQ_USED_BYTES(size)))

/* An empty queue of `size` (a power of two) entries that wants no interrupts. */
void virtq_init(struct virtq *q, void *memory, uint32_t size, bool has_event_idx);

/* Tells the device where queue `index` is and enables it; `vector` may be VIRTIO_NO_VECTOR.
 * INVALID: the device's queue is smaller. BAD_DATA: its notification lies outside of the BAR.
 * UNSUPPORTED: it refuses the vector. */
MUST_USE enum status virtio_queue_start(const struct virtio_device *dev, uint16_t index,
                                        struct virtq *q, uint16_t vector);

/* Hands the chain that begins at descriptor `head` over; the device hears of it by publish. Never
 * more chains than entries. */
ALWAYS_INLINE void virtq_push(struct virtq *q, uint16_t head)
{
    shm_store16(&q->avail->ring[q->avail_idx++ & q->mask], head);
}

/* The two words behind the rings (2.7.7, 2.7.10). */
ALWAYS_INLINE uint16_t *virtq_used_event(struct virtq *q)
{
    return &q->avail->ring[q->mask + 1];
}

ALWAYS_INLINE const void *virtq_avail_event(const struct virtq *q)
{
    return &q->used->ring[q->mask + 1];
}

/* Chains that were pushed and that the device has not heard of. */
ALWAYS_INLINE uint32_t virtq_unpublished(const struct virtq *q)
{
    return (uint16_t)(q->avail_idx - q->published_idx);
}

/* Publishes all that was pushed and tells the device if it wants that. True: it was told. */
ALWAYS_INLINE bool virtq_publish(struct virtq *q)
{
    uint16_t old_idx = q->published_idx;
    bool is_wanted;

    if (q->avail_idx == old_idx) {
        return false;
    }
    q->published_idx = q->avail_idx;
    /* VIRTQ-AVAIL: descriptors, buffers and entries are in memory before the index (2.7.13.3). */
    barrier_before_doorbell();
    shm_store16(&q->avail->idx, q->avail_idx);
    /* VIRTQ-KICK: publish, full barrier, look whether to notify; partner: the device, which asks
     * for notifications, then looks at the index once more (2.7.13.4). */
    barrier_full_system();
    if (q->has_event_idx) {
        is_wanted = virtq_is_event(shm_load16(virtq_avail_event(q)), q->avail_idx, old_idx);
    } else {
        is_wanted = (shm_load16(&q->used->flags) & VIRTQ_USED_NO_NOTIFY) == 0;
    }
    if (is_wanted) {
        mmio_write16(q->notify, 0, q->index);
    }
    return is_wanted;
}

/* Entries that the device says it has used and that were not taken yet; above virtq_given(): it is
 * broken. */
ALWAYS_INLINE uint32_t virtq_ready(const struct virtq *q)
{
    uint32_t count = (uint16_t)(shm_load16(&q->used->idx) - q->used_idx);

    if (count != 0) {
        /* VIRTQ-USED: the index, then the entries and the buffers that they stand for (2.7.14). */
        barrier_after_device_read();
    }
    return count;
}

/* Chains that the device has. */
ALWAYS_INLINE uint32_t virtq_given(const struct virtq *q)
{
    return (uint16_t)(q->published_idx - q->used_idx);
}

/* Takes one of the entries that virtq_ready() counted; to be read once, by base/shm.h. */
ALWAYS_INLINE const struct virtq_used_elem *virtq_take(struct virtq *q)
{
    return &q->used->ring[q->used_idx++ & q->mask];
}

/* armed: an interrupt when the device uses the next entry. True: it has done so already.
 * Not armed: none (with EVENT_IDX one in 65,535 entries); false. */
ALWAYS_INLINE bool virtq_arm(struct virtq *q, bool armed)
{
    if (q->has_event_idx) {
        shm_store16(virtq_used_event(q), armed ? q->used_idx : (uint16_t)(q->used_idx - 1));
    } else {
        shm_store16(&q->avail->flags, armed ? 0 : (uint16_t)VIRTQ_AVAIL_NO_INTERRUPT);
    }
    if (!armed) {
        return false;
    }
    /* VIRTQ-ARM: ask for the interrupt, full barrier, look; partner: the device, which stores the
     * used index, then looks whether to interrupt (2.7.7). */
    barrier_full_system();
    return shm_load16(&q->used->idx) != q->used_idx;
}

#endif
