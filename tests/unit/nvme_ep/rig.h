/*
 * A rig around one endpoint: a PCIe function in plain memory, a host with queues in its own RAM,
 * and reactors that turn under a standing clock, all in the thread of the test.
 *
 * Under AddressSanitizer host RAM outside of the windows is poisoned while the firmware turns (what
 * a pending fence still allows excepted), so a stray access ends the test. No CMocka here: the
 * fuzzer uses it too.
 */
#ifndef RIG_H
#define RIG_H

#include <stdbool.h>
#include <stdint.h>
#include "blk/blk.h"
#include "blk/blk_ram.h"
#include "nvme_ep/nvme_ep_priv.h"

#define RIG_HOST_BASE UINT64_C(0x1200000000) /* host address of the first byte of host RAM */
#ifndef RIG_RAM_BYTES                        /* the fuzzer takes less */
#define RIG_RAM_BYTES  (16u << 20)
#define RIG_DISK_BYTES (4u << 20)
#endif
#define RIG_DOORBELL_BYTES 0x3000u
#define RIG_EVENTS         64u

/* --- a block device that keeps its requests until the test lets them go ---------------------- */

struct rig_slow {
    struct blk_dev dev;
    struct list held; /* blk_req.link */
    uint32_t held_count;
    uint32_t cancel_count;
    bool is_open;      /* completes at once */
    bool obeys_cancel; /* a cancelled request ends at once */
};

/* Ends the oldest held request; false: there is none. Acts as its owner core. */
bool rig_slow_release(struct rig_slow *slow, nvme_status_t status);
uint32_t rig_slow_release_all(struct rig_slow *slow);

/* --- a user of the Host Memory Buffer: writes all of it when it gets it and when it lets go --- */

struct rig_hmb {
    const struct nvme_ep_hmb *memory; /* NULL: does not have it */
    bool holds_on;                    /* answers by rig_hmb_let_go() */
    void (*done)(void *arg);
    void *arg;
    uint32_t granted_count;
    uint32_t revoke_count;
};

/* Answers a revoke that is due. */
void rig_hmb_let_go(void);

/* --- the rig ------------------------------------------------------------------------------- */

struct rig_config {
    uint32_t core_count; /* 0: 1 */
    uint32_t core_mask;  /* 0: all */
    uint8_t dstrd;
    bool weighted_round_robin;
    bool subsystem_reset;
    bool doorbell_buffers;
    bool no_sgl;
    bool trapped;
    uint16_t fence_cancel_ms; /* 0: 500 */
    uint16_t io_queue_count;  /* 0: LIMIT_IO_QUEUES, 31 with doorbell buffers */
    uint8_t mdts;             /* 0: LIMIT_MDTS */
    bool not_serving;         /* nvme_ep_serve() is left to the test */
    uint32_t hmb_preferred_bytes;
    uint32_t hmb_min_bytes;
    bool hmb_user; /* rig.hmb is the user of the Host Memory Buffer */
    bool threads;  /* each core is a thread under the real clock; the test is the host */
};

struct rig {
    struct pcie_ep pcie; /* first */
    struct rig_config config;
    struct nvme_ep *ep;
    struct nvme_ctrl *ctrl;

    /* The function. */
    _Alignas(4096) uint8_t regs[4096];
    _Alignas(4096) uint8_t doorbells[RIG_DOORBELL_BYTES];
    uint32_t masks[1024];
    struct pcie_ep_event events[RIG_EVENTS];
    uint32_t event_head;
    uint32_t event_tail;
    uint32_t generation;
    uint32_t ack_count;
    struct pcie_ep_event last_ack;
    bool is_ready;
    uint32_t armed_count;
    uint32_t irq_count[LIMIT_VECTORS];

    /* Windows: as they are, and as the last acknowledged event left them. */
    struct pcie_ep_window windows[LIMIT_DMA_WINDOWS];
    uint32_t window_count;
    struct pcie_ep_window old_windows[LIMIT_DMA_WINDOWS];
    uint32_t old_window_count;
    bool bus_master;

    /* Host RAM. */
    uint8_t *ram;
    uint64_t alloc_next; /* offset */

    struct blk_ram disk; /* namespace 1 */
    uint8_t *disk_memory;
    struct rig_slow slow; /* namespace 2 */
    struct rig_hmb hmb;
};

extern struct rig rig;

/* A queue pair as the host has it. */
struct rig_queue {
    uint16_t id;
    uint16_t sq_size;
    uint16_t cq_size;
    uint64_t sq_addr;
    uint64_t cq_addr;
    uint32_t sq_tail;
    uint32_t cq_head;
    uint32_t phase;
    uint32_t sq_head; /* as completions told */
    uint16_t next_cid;
    uint32_t *shadow; /* doorbell buffers: rung here; MMIO by EventIdx */
    uint32_t *event_idx;
};

extern struct rig_queue rig_admin_queue;

/* Everything new; the firmware is started, serving and has 2 namespaces (1: RAM disk of 512-byte
 * blocks, 2: slow device of 4096-byte blocks), the host has not touched it. `config` NULL:
 * defaults. */
void rig_start(const struct rig_config *config);
/* Resets the function and asserts that every pool is full. */
void rig_stop(void);
/* Parts of rig_start(), for another image that goes on: after sched_init(); its namespaces. */
void rig_ep_make(void);
void rig_devices_start(void);
/* True when no command of the endpoint is in use. */
bool rig_pools_are_full(void);

/* Turns each core's reactor `count` times. With threads: lets time pass. */
void rig_turn(uint32_t count);
void rig_advance_ms(uint32_t ms); /* the clock, with turns on the way */

/* Host memory: zeroed pages; a pointer to an address in it. */
uint64_t rig_alloc(uint32_t bytes);
void *rig_ptr(uint64_t host_addr);

/* Registers, as the host's accesses. */
void rig_write32(uint32_t offset, uint32_t value);
void rig_write64(uint32_t offset, uint64_t value);
uint32_t rig_read32(uint32_t offset);
uint64_t rig_read64(uint32_t offset);
uint32_t rig_csts(void);

/* Events of the function. The generation of the last one. */
uint32_t rig_event(enum pcie_ep_event_type type, uint64_t value, bool revokes);
/* Replaces the windows and sends the event. */
void rig_windows_set(const struct pcie_ep_window *windows, uint32_t count, bool revokes);
void rig_bus_master_set(bool on);

/* Admin queue of `size` entries, CC.EN = 1, turns until CSTS.RDY or 20 turns. */
#define RIG_CC (NVME_CC_EN | 6u << NVME_CC_IOSQES_SHIFT | 4u << NVME_CC_IOCQES_SHIFT)
void rig_enable(void);
void rig_enable_sized(uint32_t sq_size, uint32_t cq_size, uint32_t cc);
void rig_disable(void);

/* Queues. */
uint32_t *rig_sq_doorbell(uint16_t qid);
uint32_t *rig_cq_doorbell(uint16_t qid);
/* Puts a command into the queue; gives it the next CID, which is returned. Rings only by
 * rig_ring(). */
uint16_t rig_push(struct rig_queue *queue, const struct nvme_sqe *sqe);
void rig_ring(struct rig_queue *queue);
/* Takes the next completion; does not ring the head. */
bool rig_pop(struct rig_queue *queue, struct nvme_cqe *cqe);
void rig_ring_head(struct rig_queue *queue);
/* Push, ring, turn, pop, ring. A missing completion is status 0xffff. */
#define RIG_NO_COMPLETION 0xffffu
uint16_t rig_do(struct rig_queue *queue, const struct nvme_sqe *sqe, struct nvme_cqe *cqe);
/* The same on the admin queue; dw0 may be NULL. */
uint16_t rig_admin(const struct nvme_sqe *sqe, uint32_t *dw0);

ALWAYS_INLINE uint16_t rig_status(const struct nvme_cqe *cqe)
{
    return (uint16_t)(cqe->dw3 >> NVME_CQE_STATUS_SHIFT);
}

ALWAYS_INLINE uint16_t rig_cid(const struct nvme_cqe *cqe)
{
    return (uint16_t)cqe->dw3;
}

/* Create and Delete; statuses as completed. */
uint16_t rig_create_cq(uint16_t id, uint16_t size, uint64_t addr, uint32_t cdw11);
uint16_t rig_create_sq(uint16_t id, uint16_t size, uint64_t addr, uint32_t cdw11);
uint16_t rig_delete_cq(uint16_t id);
uint16_t rig_delete_sq(uint16_t id);
/* Both queues of a pair, interrupts on vector `id`; panics when refused. */
void rig_create_pair(struct rig_queue *queue, uint16_t id, uint16_t size);

struct nvme_sqe rig_rw(uint8_t opcode, uint32_t nsid, uint64_t slba, uint32_t lba_count,
                       uint64_t prp1, uint64_t prp2);
struct nvme_sqe rig_identify(uint64_t prp1);
uint16_t rig_set_feature(uint8_t fid, uint32_t cdw11);

/* Doorbell buffers. Returns the status; then queues are shadowed by rig_shadow(). */
uint16_t rig_doorbell_buffers(uint64_t shadow, uint64_t event_idx);
void rig_shadow(struct rig_queue *queue, uint64_t shadow, uint64_t event_idx);

/* A small generator: the same numbers for the same seed. */
uint32_t rig_random(uint64_t *seed);

#endif
