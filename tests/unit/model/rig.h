/*
 * A model target on a wire, and an initiator in pieces, which a test puts together message by
 * message. It uses nothing of our own initiator, so that it checks the model.
 */
#ifndef TESTS_UNIT_MODEL_RIG_H
#define TESTS_UNIT_MODEL_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "hal/clock.h"
#include "rdma/verbs.h"
#include "tests/model/node.h"
#include "tests/model/target.h"

#define RIG_NQN              "nqn.2024-01.test:one"
#define RIG_ENTRIES          16u
#define RIG_IN_CAPSULE_BYTES 4096u
#define RIG_STEP_NS          (50 * NS_PER_US)
#define RIG_PATIENCE_NS      (2 * NS_PER_S)
/* Where Connect data, admin data and I/O data lie in rig.data. */
#define RIG_AT_DATA 65536u
#define RIG_CC_ON \
    (NVME_CC_EN | NVME_IOSQES << NVME_CC_IOSQES_SHIFT | NVME_IOCQES << NVME_CC_IOCQES_SHIFT)

struct rig_queue {
    struct rdma_cm_id *id;
    struct rdma_qp *qp;
    struct rdma_cq *cq;
    void *qp_memory;
    void *cq_memory;
    uint16_t qid;
    uint16_t cntlid;
    bool is_up;
    bool is_down;
    uint32_t reason;
    struct nvmf_rdma_rej rej;
    struct nvmf_rdma_rep rep;
    uint32_t last_inv; /* key invalidated with the last answer */
    uint32_t last_bytes;
    struct nvme_cqe others[RIG_ENTRIES]; /* answers that came while another one was waited for */
    uint32_t other_count;
};

struct rig {
    struct wire *wire;
    struct model_node nodes[2];
    struct target *target;
    void *target_memory;
    struct rdma_pd *pd;
    struct rdma_mr *mr; /* of `data` and the queues' capsules */
    struct rdma_key *key;
    uint8_t *data;
    struct mem_seg seg;
    struct mem_ref ref;
    struct rig_queue admin;
    struct rig_queue io;
};
extern struct rig rig;

/* Fixtures. The end: target, devices and wire are quiet. */
int rig_setup(void **state);
int rig_teardown(void **state);

void rig_advance(uint64_t duration_ns);

/* --- queues --------------------------------------------------------------------------------- */

/* Asks for a connection; what comes of it is in `queue`. */
void rig_queue_open(struct rig_queue *queue, uint16_t qid, uint16_t cntlid);
void rig_queue_close(struct rig_queue *queue);
/* Connects, enables: the admin queue; that and an I/O queue of RIG_NQN. */
void rig_admin_up(const char *subnqn, uint32_t kato_ms);
void rig_io_up(void);

/* --- commands ------------------------------------------------------------------------------- */

/* Sends a capsule: the SQE, and `in_capsule` bytes of rig.data + RIG_AT_DATA. */
void rig_send(struct rig_queue *queue, const void *sqe, uint32_t in_capsule);
/* Takes answers until that of `cid`; false: none within the time. */
bool rig_take(struct rig_queue *queue, uint16_t cid, struct nvme_cqe *cqe, uint64_t patience_ns);
/* Binds the key to rig.data + RIG_AT_DATA and describes it in the SQE. */
void rig_keyed(struct nvme_sqe *sqe, uint32_t len_bytes);
/* All three, with a new CID. */
struct nvme_cqe rig_run(struct rig_queue *queue, struct nvme_sqe *sqe, uint32_t len_bytes);
nvme_status_t rig_status(const struct nvme_cqe *cqe);

struct nvme_cqe rig_send_connect(struct rig_queue *queue, const char *subnqn, uint8_t cattr,
                                 uint32_t kato_ms);
uint64_t rig_property(uint32_t offset);
void rig_cc_set(uint32_t cc);

struct nvme_sqe rig_io_sqe(uint8_t opcode, uint32_t nsid, uint64_t lba, uint32_t count);
/* Data that tells its place. */
void rig_fill(uint8_t seed, uint32_t len_bytes);

#endif
