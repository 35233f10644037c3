/*
 * A small vfio-user NVMe client: what a virtual machine does, without the virtual machine. It
 * shares no code with the server under test but the NVMe structures; the messages are written out
 * here after the vfio-user protocol specification of QEMU (docs/interop/vfio-user.rst).
 *
 * One process, one controller, polled queues. Every call that fails prints why and exits with 1:
 * these are test programs.
 */
#ifndef TESTS_NATIVE_VFU_CLIENT_H
#define TESTS_NATIVE_VFU_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "spec/nvme.h"

struct vfu_queue {
    uint16_t id;
    uint16_t entries;
    uint16_t sq_tail;
    uint16_t cq_head;
    uint32_t phase; /* NVME_CQE_PHASE or 0: what a new entry carries */
    struct nvme_sqe *sq;
    struct nvme_cqe *cq;
    uint32_t *sq_doorbell;
    uint32_t *cq_doorbell;
};

struct vfu_client {
    int socket;
    uint16_t next_message;
    uint8_t *bar0;        /* the mapped part, or NULL when the doorbells are trapped */
    uint64_t bar0_offset; /* of the mapped part inside BAR0 */
    uint64_t bar0_bytes;
    uint8_t *memory; /* what the controller may reach, at address memory_addr */
    uint64_t memory_addr;
    uint64_t memory_bytes;
    uint64_t memory_used;
    uint32_t doorbell_stride_bytes;
    uint32_t max_entries;
    struct vfu_queue admin;
};

/* Connects to DIR/cntrl, maps `memory_bytes` of own memory for DMA, turns bus mastering on. */
void vfu_client_open(struct vfu_client *client, const char *dir, uint64_t memory_bytes);
void vfu_client_close(struct vfu_client *client);

/* 4 KiB aligned memory that the controller can reach; never freed. */
void *vfu_client_alloc(struct vfu_client *client, uint64_t bytes);
uint64_t vfu_client_addr(const struct vfu_client *client, const void *memory);

uint32_t vfu_client_read32(struct vfu_client *client, uint32_t offset);
uint64_t vfu_client_read64(struct vfu_client *client, uint32_t offset);
void vfu_client_write32(struct vfu_client *client, uint32_t offset, uint32_t value);
void vfu_client_write64(struct vfu_client *client, uint32_t offset, uint64_t value);
void vfu_client_reset(struct vfu_client *client); /* DEVICE_RESET */

/* Disables, sets the admin queue up, enables, waits for RDY. */
void vfu_client_enable(struct vfu_client *client);

/* One admin command, polled: the status field without phase. `data` may be NULL. */
nvme_status_t vfu_client_admin(struct vfu_client *client, struct nvme_sqe *sqe, const void *data,
                               uint32_t *dw0);

/* Creates I/O queue pair `id`. */
void vfu_client_create_queue(struct vfu_client *client, struct vfu_queue *queue, uint16_t id,
                             uint16_t entries);

/* The next free submission entry; the caller does not exceed entries - 1 commands under way. */
struct nvme_sqe *vfu_queue_next(struct vfu_queue *queue);
/* Tells the controller about all entries taken since. Trapped doorbells cost a message. */
void vfu_queue_ring(struct vfu_client *client, struct vfu_queue *queue);
/* The next completion or NULL. */
const struct nvme_cqe *vfu_queue_poll(struct vfu_queue *queue);
void vfu_queue_ack(struct vfu_client *client, struct vfu_queue *queue);
/* Submits one command and polls for its completion. */
nvme_status_t vfu_queue_run(struct vfu_client *client, struct vfu_queue *queue,
                            const struct nvme_sqe *sqe);

#endif
