/*
 * The queue half of the initiator on a wire with a model target: core 0 has the device, core 1 has
 * none and sends its requests there. No association: the test is the queues' owner.
 */
#ifndef TESTS_UNIT_NVMF_HOST_RIG_H
#define TESTS_UNIT_NVMF_HOST_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "hal/clock.h"
#include "hal/native/native.h"
#include "nvmf_host/queue_priv.h"
#include "rdma/soft.h"
#include "tests/model/node.h"
#include "tests/model/target.h"

#define RIG_NQN     "nqn.2026-01.test:sub"
#define RIG_HOSTNQN "nqn.2026-01.test:host"
#define RIG_BLOCK   512u
#define RIG_BLOCKS  8192u
#define RIG_SEGS    40
#define RIG_STEP_NS (100 * NS_PER_US)

/* What the owner of a queue was told. */
struct rig_queue {
    struct nvmf_queue queue; /* first */
    void *memory;
    uint32_t opened_count;
    uint32_t lost_count;
    uint32_t closed_count;
    uint32_t stuck_count;
    uint32_t abort_count;
    enum nvmf_fail fail;
    uint32_t code;
    uint16_t abort_cid;
    bool closes; /* as soon as it hears of anything bad */
    uint64_t quiet_ns;
};

struct rig_req {
    struct blk_req req; /* first */
    struct mem_seg segs[RIG_SEGS];
    uint8_t *data;
    uint32_t done_count;
    struct rig_req *next;  /* submitted when this one ends */
    struct rig_req *kills; /* cancelled when this one ends */
};

struct rig_config {
    uint32_t command_count; /* 0: 128 */
    uint32_t stage_bytes;
    uint32_t in_capsule_bytes; /* that the target takes */
    uint16_t entries;          /* of the I/O queue; 0: 32 */
    uint16_t crqsize;
    uint32_t keys;
    bool sq_flow;
    struct node_counts counts; /* of the initiator's device */
    uint8_t key_kind;          /* what the device is said to be able to; with `limit_keys` */
    bool limit_keys;
};

struct rig {
    struct rig_config config;
    struct wire *wire;
    struct model_node host;
    struct model_node peer;
    struct target *target;
    void *target_memory;
    void *core_memory;
    struct nvmf_core *core;
    struct nvmf_target where;
    struct rig_queue admin;
    struct rig_queue io;
    struct nvmf_ns ns;
    uint8_t *data; /* of requests */
};
extern struct rig rig;

void rig_open(const struct rig_config *config); /* NULL: nothing special */
/* Everything must have come back. */
void rig_close(void);
int rig_setup(void **state); /* rig_open(NULL), rig_connect() */
int rig_teardown(void **state);

void rig_turn(void); /* both cores, until nothing moves */
void rig_run(uint64_t duration_ns);

/* Whatever the outcome. */
void rig_queue_open(struct rig_queue *q, uint16_t qid);
void rig_queue_close(struct rig_queue *q, uint64_t quiet_ns);
/* Admin queue, enabled controller, I/O queue, route: all must succeed. */
void rig_connect(void);
void rig_connect_admin(void);
void rig_connect_io(void);
/* A command of the admin queue; its status. */
nvme_status_t rig_admin(struct nvme_sqe sqe, struct nvme_cqe *cqe);

/* Data in one piece at `data_offset` of rig.data. */
void rig_req(struct rig_req *r, uint8_t opcode, uint64_t slba, uint32_t lba_count,
             uint32_t data_offset);
/* The same in `count` pieces of uneven length and order. */
void rig_req_scatter(struct rig_req *r, uint32_t count);
void rig_submit(struct rig_req *r);
/* Submits and runs until it has ended. */
nvme_status_t rig_do(struct rig_req *r);
void rig_fill(uint32_t offset, uint32_t len_bytes, uint32_t seed);
bool rig_media_is(uint64_t slba, uint32_t lba_count, const uint8_t *data);

struct nvmf_path_counters *rig_counters(enum nvmf_path path);
uint64_t rig_count(const _Atomic uint64_t *counter);

#endif
