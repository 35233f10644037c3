/*
 * A model of an NVMe over Fabrics target (RDMA), for tests: a controller in the same process, on a
 * device of its own (rdma/soft.h) at the other end of a wire (tests/sim/wire.h). It does what the
 * specification says, and what it says wrongly, late or not at all is told by knobs and faults.
 *
 * There: connection requests with their private data, Connect, properties with CC and CSTS, Keep
 * Alive, Identify, features, asynchronous events, log pages, Abort, discovery with referrals;
 * Read, Write, Write Zeroes, Dataset Management, Compare, Verify, Flush, reservations, over
 * namespaces in memory. Data go by RDMA READ and WRITE or in the capsule, keys are invalidated
 * with the answer. A command is executed at one moment: blocks are never torn.
 *
 * Leaves out: authentication, fused commands, metadata, multipath (ANA), persistence of
 * reservations, more than one SGL descriptor.
 *
 * Bounded: all memory is given by the caller. Deterministic under the standing clock. Belongs to
 * the device's core. Needs of the device: a PD, a region, for each queue a QP, a CQ and a CM id.
 *
 * Source: NVM Express over Fabrics 1.1, NVM Express 1.4.
 */
#ifndef TESTS_MODEL_TARGET_H
#define TESTS_MODEL_TARGET_H

#include <stdbool.h>
#include <stdint.h>
#include "net/net.h"
#include "rdma/cm.h"
#include "rdma/verbs.h"
#include "spec/nvmf.h"

#define TARGET_FAULTS 16
#define TARGET_ANY    (-1)

/* --- configuration ---------------------------------------------------------------------------- */

struct target_ns_config {
    uint32_t nsid;      /* 1.. */
    uint64_t lba_count; /* also the most that it can be resized to; 0: there is none at first... */
    uint64_t lba_count_max; /* ... but memory for so many; 0: lba_count */
    uint8_t lba_shift;      /* 9 or 12 */
    uint8_t nguid[16];
    uint8_t uuid[16];
    uint8_t eui64[8];
    bool is_read_only;
};

struct target_subsystem_config {
    const char *nqn;
    const char *host_nqn; /* the only host that may connect; NULL: any */
    const struct target_ns_config *namespaces;
    uint32_t ns_count;
};

struct target_referral {
    struct net_addr addr;
    uint16_t port;
    const char *nqn; /* NVMF_DISCOVERY_NQN, or of a subsystem there */
};

/* What `namespaces`, `subsystems`, `referrals` and strings point at stays. */
struct target_config {
    struct rdma_device *device;
    struct net_addr addr; /* ours, for the discovery log */
    uint16_t port;        /* 0: 4420 */
    const struct target_subsystem_config *subsystems;
    uint32_t subsystem_count;
    const struct target_referral *referrals;
    uint32_t referral_count;
    uint32_t ctrl_count;         /* 0: 8 */
    uint32_t queue_count;        /* admin queues too; 0: 32 */
    uint16_t queue_entries;      /* 0: 128 */
    uint16_t io_queues_per_ctrl; /* 0: 8 */
    uint32_t in_capsule_bytes;   /* multiple of 16; 0: none */
    uint32_t max_transfer_bytes; /* 4096 << MDTS; 0: 128 KiB */
    uint32_t buf_count;          /* commands with data at once, held ones too; 0: 64 */
};

struct target;

/* What each call reads of `config`: the counts alone. */
uint64_t target_memory_bytes(const struct target_config *config);

/* Makes the target in `memory` (zeroed, 64-byte aligned, stays), listens, and adds a poller named
 * "target" to the calling core. */
struct target *target_open(void *memory, const struct target_config *config);

/* Ends all connections, stops listening; turn the reactor until target_is_quiet(), then
 * target_free() gives everything back to the device and removes the poller. */
void target_close(struct target *target);
bool target_is_quiet(const struct target *target);
void target_free(struct target *target);

/* When something that the target waits for by itself is due; UINT64_MAX: nothing. */
uint64_t target_next_ns(const struct target *target);

/* --- knobs: fields that may change at any time ------------------------------------------------ */

struct target_knobs {
    /* connections */
    uint16_t reject_status; /* enum nvmf_rdma_status: the next reject_count requests end so */
    uint32_t reject_count;
    uint32_t ignore_count;    /* the next requests are never answered */
    uint16_t reject_qid_from; /* requests for queues of this number or above are rejected with
                                 NO_RESOURCES; 0: none */
    uint16_t crqsize;         /* what the reply says; 0: the truth */
    /* Connect */
    uint32_t ctrl_limit; /* more are refused: Controller Busy... 0: as many as there is room */
    bool keep_sq_flow;   /* does not agree to do without SQ flow control */
    uint16_t max_queues; /* that Set Features grants; 0: all */
    /* controller */
    bool never_ready;           /* CSTS.RDY does not follow CC.EN */
    bool never_not_ready;       /* nor when it is cleared */
    bool fatal_at_enable;       /* CSTS.CFS instead */
    uint64_t ready_delay_ns;    /* CC.EN to CSTS.RDY, both ways */
    uint64_t shutdown_delay_ns; /* CC.SHN to CSTS.SHST */
    bool ignore_keep_alive;     /* its timer never fires */
    bool no_traffic_keep_alive; /* CTRATT.TBKAS is 0: Keep Alive alone counts */
    bool
        disable_keeps_io; /* CC.EN to 0 ends neither I/O queues nor their commands, as Linux does */
    bool lone_queues; /* the loss of an I/O queue leaves the controller alone, as Linux does; else
                         the association ends */
    /* answers */
    bool no_invalidate;  /* keys are never invalidated */
    bool invalidate_all; /* also where the descriptor does not ask for it */
    uint16_t oncs_off;   /* bits of ONCS that are not there */
    bool no_keyed_sgl;   /* SGLS says so */
    uint32_t quiesce_ms; /* CQT, Identify Controller bytes 387:386; 0: not reported */
    /* commands held when their association ends are dropped; else they are executed when due */
    bool drop_held;
    bool no_abort; /* Abort ends nothing and says so, as Linux does */
};

struct target_knobs *target_knobs(struct target *target);

/* --- faults: rules that pick commands --------------------------------------------------------- */

#define TARGET_FAULT_LIST(X)                                                            \
    X(DROP, "not executed, never answered")                                             \
    X(MUTE, "executed, never answered")                                                 \
    X(DELAY, "executed now, answered delay_ns later")                                   \
    X(HOLD, "executed and answered delay_ns later: also after its association is gone") \
    X(FAIL, "not executed, answered with status `value` (dw0: value2)")                 \
    X(TWICE, "answered twice")                                                          \
    X(WRONG_CID, "the answer's CID is another: xor value")                              \
    X(BAD_SQHD, "the answer's SQHD is `value`")                                         \
    X(SHORT, "the answer has `value` bytes")                                            \
    X(WRONG_KEY, "the answer invalidates key xor value")                                \
    X(NO_INVALIDATE, "the answer invalidates no key")                                   \
    X(DATA_SHORT, "`value` bytes of data are transferred, no more")                     \
    X(BAD_DATA, "a byte of the data read is changed")                                   \
    X(OVERRUN, "`value` bytes are written behind the end of what the descriptor names") \
    X(EARLY, "answered before the data were transferred")                               \
    X(DIE, "the queue's connection breaks before it is executed")                       \
    X(EXECUTE_DIE, "the queue's connection breaks after it is executed, before the answer")

enum target_fault_kind {
#define TARGET_FAULT_ENUM(name, text) TARGET_FAULT_##name,
    TARGET_FAULT_LIST(TARGET_FAULT_ENUM)
#undef TARGET_FAULT_ENUM
};

struct target_fault {
    enum target_fault_kind kind;
    int qid;             /* TARGET_ANY, TARGET_IO: any but 0 */
    int opcode;          /* or TARGET_ANY */
    int fctype;          /* of opcode 7Fh, or TARGET_ANY */
    int cid;             /* or TARGET_ANY */
    uint32_t nsid;       /* 0: any */
    uint32_t skip;       /* matching commands that are let alone first */
    uint32_t count;      /* then so many are hit; 0: all */
    uint32_t chance_ppm; /* of each; 0: always. Not together with skip */
    uint64_t delay_ns;
    uint64_t jitter_ns; /* 0..jitter_ns more */
    uint32_t value;
    uint32_t value2;
};
#define TARGET_IO (-2)

/* The first rule that matches is the one. Returns its index for target_fault_hits(). */
uint32_t target_fault_add(struct target *target, const struct target_fault *fault);
void target_faults_clear(struct target *target);
uint32_t target_fault_hits(const struct target *target, uint32_t index);
/* What chances and jitter are drawn from. */
void target_seed(struct target *target, uint64_t seed);

/* --- what happens from outside ---------------------------------------------------------------- */

/* The namespace gets so many blocks; 0: it goes away (its data too). Controllers are told. False:
 * there is none, or too many. */
bool target_ns_resize(struct target *target, uint32_t subsystem, uint32_t nsid, uint64_t lba_count);
/* Another disk in its place: new NGUID and UUID, content zero. */
bool target_ns_replace(struct target *target, uint32_t subsystem, uint32_t nsid,
                       const uint8_t nguid[16], const uint8_t uuid[16]);
/* Any other event: dw0 of the completion. To all controllers of the subsystem. */
void target_event(struct target *target, uint32_t subsystem, uint32_t dw0);
/* Discovery log changes: generation, and an event to discovery controllers. */
void target_set_referrals(struct target *target, const struct target_referral *referrals,
                          uint32_t count);

/* CNTLID TARGET_ANY: all. qid TARGET_ANY: all queues of it. With `in_order` by a disconnect of the
 * CM, else the queue pairs break. Held commands go on. */
void target_drop_queues(struct target *target, int cntlid, int qid, bool in_order);
/* CSTS.CFS. */
void target_fatal(struct target *target, int cntlid);
/* Off: controllers, queues, held commands and reservations are gone (cut the wire meanwhile, or
 * the peers are told), nobody listens. On: media are as they were. */
void target_power(struct target *target, bool is_on);

/* --- media ------------------------------------------------------------------------------------ */

/* The block's content; NULL: no such block. */
const uint8_t *target_block(const struct target *target, uint32_t subsystem, uint32_t nsid,
                            uint64_t lba);
/* Writes that changed it, since start; 0: none. */
uint32_t target_block_version(const struct target *target, uint32_t subsystem, uint32_t nsid,
                              uint64_t lba);

/* Each execution of an I/O command, before media change. `data`: what is written. */
struct target_exec {
    uint32_t subsystem;
    uint16_t cntlid; /* of the controller that took it */
    bool is_late;    /* its association is over */
    const struct nvme_sqe *sqe;
    const uint8_t *data; /* NULL: none */
};
typedef void target_exec_fn(void *ctx, const struct target_exec *exec);
void target_on_exec(struct target *target, target_exec_fn *fn, void *ctx);

/* --- reports ---------------------------------------------------------------------------------- */

#define TARGET_STAT_LIST(X)                                              \
    X(requests, "connection requests")                                   \
    X(rejects, "of those, rejected")                                     \
    X(connects, "Connect commands that succeeded")                       \
    X(connect_errors, "and that did not")                                \
    X(disconnects, "queues that ended")                                  \
    X(commands, "capsules received")                                     \
    X(answers, "capsules sent")                                          \
    X(errors, "of those, with an error status")                          \
    X(reads, "Read commands executed")                                   \
    X(writes, "Write commands executed")                                 \
    X(others, "other I/O commands executed")                             \
    X(late, "executed after their association was over")                 \
    X(in_capsule, "commands with data in the capsule")                   \
    X(rdma_reads, "RDMA READs posted")                                   \
    X(rdma_writes, "RDMA WRITEs posted")                                 \
    X(invalidates, "keys invalidated")                                   \
    X(aborts, "commands that an Abort ended")                            \
    X(keep_alives, "Keep Alive commands")                                \
    X(keep_alive_expired, "controllers that died for want of one")       \
    X(events, "asynchronous events told")                                \
    X(faults, "commands that a fault hit")                               \
    X(transport_errors, "work requests that failed while a queue lived") \
    X(violations, "what a host must not do")

struct target_stats {
#define TARGET_STAT_FIELD(name, text) uint64_t name;
    TARGET_STAT_LIST(TARGET_STAT_FIELD)
#undef TARGET_STAT_FIELD
};

const struct target_stats *target_stats(const struct target *target);
/* What the last violation was; "" for none. */
const char *target_violation(const struct target *target);

uint32_t target_ctrl_count(const struct target *target);  /* associations */
uint32_t target_queue_count(const struct target *target); /* connected, admin queues too */
uint32_t target_held_count(const struct target *target);  /* commands held or delayed */

struct target_ctrl_info {
    uint16_t cntlid;
    uint32_t subsystem; /* UINT32_MAX: discovery */
    uint32_t cc;
    uint32_t csts;
    uint32_t io_queue_count;
    uint32_t kato_ms;
    uint32_t aer_count; /* outstanding */
    bool sq_flow_off;   /* of the admin queue */
    uint8_t hostid[16];
    char hostnqn[NVMF_NQN_BYTES];
};
/* The index-th association; false: there are fewer. */
bool target_ctrl_info(const struct target *target, uint32_t index, struct target_ctrl_info *info);

#endif
