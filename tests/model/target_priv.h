/*
 * Inside of the model target: its objects, and what its files call of each other.
 *  - target.c: memory, poller, what happens from outside; target_report.c: reports and rules;
 *  - target_conn.c: connection requests, queues; target_cmd.c: capsules in, answers out;
 *  - target_fabrics.c: Connect, properties; target_admin.c: admin commands; target_log.c: log pages
 *    and events; target_io.c: I/O commands; target_resv.c: reservations.
 */
#ifndef TESTS_MODEL_TARGET_PRIV_H
#define TESTS_MODEL_TARGET_PRIV_H

#include "tests/model/target.h"

#include "base/assert.h"
#include "base/list.h"
#include "hal/clock.h"
#include "sched/sched.h"
#include "spec/nvme_feature.h"
#include "spec/nvme_log.h"

#define DNR                  NVME_STATUS_DNR
#define TARGET_AERS          4
#define TARGET_EVENTS        4
#define TARGET_CHANGED       64
#define TARGET_IGNORED       8
#define TARGET_REGISTRANTS   8
#define TARGET_ADMIN_ENTRIES 32
#define TARGET_DISCOVERY     UINT32_MAX /* as subsystem */
#define TARGET_KA_UNIT_MS    1000u

/* Opcodes of reservations, NVMe 1.4 figure 346. */
enum {
    IO_RESV_REGISTER = 0x0d,
    IO_RESV_REPORT = 0x0e,
    IO_RESV_ACQUIRE = 0x11,
    IO_RESV_RELEASE = 0x15,
};

struct target_registrant {
    bool is_there;
    uint8_t hostid[16];
    uint16_t cntlid;
    uint64_t key;
};

struct target_ns {
    struct target_ns_config config;
    uint64_t lba_count; /* now; 0: not there */
    uint64_t lba_count_max;
    uint8_t *media;
    uint32_t *versions;
    struct target_registrant registrants[TARGET_REGISTRANTS];
    int holder; /* index of the registrant; -1: no reservation */
    uint8_t resv_type;
    uint32_t resv_generation;
};

struct target_subsystem {
    const struct target_subsystem_config *config;
    uint32_t index;
    struct target_ns *namespaces;
};

struct target_ctrl {
    struct target *target;
    bool in_use;
    uint16_t cntlid;
    uint32_t subsystem; /* or TARGET_DISCOVERY */
    struct target_queue *admin;
    uint32_t cc;
    uint32_t csts;
    uint64_t ready_due_ns;    /* CC.EN changed: CSTS.RDY follows then; 0: not waiting */
    uint64_t shutdown_due_ns; /* likewise */
    uint32_t kato_ms;
    uint64_t alive_due_ns; /* UINT64_MAX: never */
    uint32_t aec;
    uint8_t hostid[16];
    char hostnqn[NVMF_NQN_BYTES];
    uint32_t events[TARGET_EVENTS]; /* dw0, not told */
    uint32_t event_count;
    uint32_t masked; /* by log page number 0..31: told, the log was not read */
    bool is_discovery_masked;
    uint32_t changed[TARGET_CHANGED];
    uint32_t changed_count; /* TARGET_CHANGED + 1: too many */
};

enum target_slot_state {
    SLOT_POSTED,  /* its receive waits for a capsule */
    SLOT_BUSY,    /* inside of a call */
    SLOT_WAITING, /* for a buffer */
    SLOT_READING, /* data are on the way */
    SLOT_HELD,    /* a fault: to be executed when due */
    SLOT_DELAYED, /* a fault: to be answered when due */
    SLOT_AER,     /* an Asynchronous Event Request */
    SLOT_NONE,    /* of a queue that is not there */
};

/* Data of a command, and the command itself when it is held beyond its queue. */
struct target_buf {
    struct list link;           /* free, or held */
    struct target_queue *queue; /* work requests of it may name the data */
    struct target_slot *slot;   /* NULL: answered, or its queue is gone */
    uint8_t *data;
    struct nvme_sqe sqe;
    uint32_t len_bytes;
    uint32_t subsystem;
    uint16_t cntlid;
    uint8_t hostid[16];
    uint64_t due_ns;
};

struct target_slot {
    struct list link; /* waiting, or due */
    struct target_queue *queue;
    uint8_t *capsule;
    uint32_t capsule_bytes;
    enum target_slot_state state;
    struct nvme_sqe sqe;
    struct target_buf *buf;
    uint64_t due_ns;
    /* data */
    uint32_t len_bytes;
    uint8_t dir; /* enum nvme_dir */
    bool in_capsule;
    bool invalidate;
    uint64_t remote_addr;
    uint32_t key;
    uint32_t capsule_offset;
    /* the answer */
    nvme_status_t status;
    uint32_t dw0;
    uint32_t dw1;
    bool has_fault;
    struct target_fault fault;
};

enum target_queue_state {
    QUEUE_FREE,
    QUEUE_CONNECTING,
    QUEUE_UP,
    QUEUE_LINGER, /* the queue pair is broken; the peer is not told yet */
    QUEUE_DEAD,   /* being destroyed */
};

/* First in what a CM id's ctx points at. */
enum target_kind {
    KIND_TARGET = 1,
    KIND_QUEUE,
};

struct target_queue {
    enum target_kind kind;
    struct target *target;
    enum target_queue_state state;
    struct rdma_cm_id *id;
    struct rdma_qp *qp;
    struct rdma_cq *cq;
    void *qp_memory;
    void *cq_memory;
    struct target_slot *slots;
    uint16_t qid;     /* of the connection request */
    uint16_t entries; /* receives */
    bool is_connected;
    struct target_ctrl *ctrl;
    struct target_ctrl *leaving; /* waits until this queue is gone: CC.EN was cleared */
    uint32_t sq_entries;         /* by Connect */
    uint32_t sq_head;
    bool sq_flow_off;
    uint64_t linger_ns;
};

struct target_rule {
    struct target_fault fault;
    uint32_t seen;
    uint32_t hits;
};

struct target {
    enum target_kind kind;
    struct target_config config;
    struct poller poller;
    struct rdma_pd *pd;
    struct rdma_mr *mr;
    struct rdma_cm_id *listener;
    struct rdma_cm_id *ignored[TARGET_IGNORED];
    uint32_t ignored_count;
    struct target_subsystem *subsystems;
    struct target_ctrl *ctrls;
    struct target_queue *queues;
    struct target_buf *bufs;
    struct list free_bufs;
    struct list orphans; /* held bufs whose queue is gone */
    struct list waiting; /* slots */
    struct list due;     /* slots held or delayed */
    struct target_knobs knobs;
    struct target_rule rules[TARGET_FAULTS];
    uint32_t rule_count;
    uint64_t random_state;
    uint16_t last_cntlid;
    uint64_t discovery_generation;
    bool is_closing;
    target_exec_fn *exec;
    void *exec_ctx;
    struct target_stats stats;
    const char *violation;
};

/* --- memory (target.c) ------------------------------------------------------------------------ */

uint64_t target_random(struct target *target, uint64_t limit);
void target_violated(struct target *target, const char *what);
struct target_buf *target_buf_get(struct target *target);
void target_buf_put(struct target *target, struct target_buf *buf);
struct target_ctrl *target_ctrl_find(struct target *target, uint16_t cntlid);

/* --- queues (target_conn.c) ------------------------------------------------------------------- */

enum status target_listen(struct target *target);
/* Ends the connection, in order or by breaking the queue pair; its controller goes with it where
 * that is the rule. Not twice. */
void target_queue_end(struct target_queue *queue, bool in_order);
/* Turns of what is ending; true: something moved. */
bool target_queue_turn(struct target_queue *queue);
/* All queues of the controller, then itself. */
void target_ctrl_end(struct target_ctrl *ctrl, bool in_order);
void target_ctrl_end_io(struct target_ctrl *ctrl);
bool target_queue_is_live(const struct target_queue *queue);
/* Posts the slot's receive. */
void target_slot_post(struct target_slot *slot);

/* --- commands (target_cmd.c) ------------------------------------------------------------------ */

void target_capsule(struct target_slot *slot, uint32_t len_bytes);
void target_data_arrived(struct target_slot *slot);
/* With its buffer, when there was none before. */
void target_slot_go_on(struct target_slot *slot);
/* A held or delayed slot is due. */
void target_slot_due(struct target_slot *slot);
void target_orphan_due(struct target *target, struct target_buf *buf);
/* Executed: status, dw0, dw1 are there. */
void target_slot_finish(struct target_slot *slot);
/* Gives the slot back without an answer. */
void target_slot_drop(struct target_slot *slot);

/* The length that the command asks for is the descriptor's; else the status is set. */
bool target_len_is(struct target_slot *slot, uint64_t len_bytes);

/* --- what commands do: set slot->status, dw0, dw1; data to the host in the slot's buffer ------ */

void target_fabrics(struct target_slot *slot);
void target_admin(struct target_slot *slot);
bool target_ctrl_turn(struct target_ctrl *ctrl, uint64_t now_ns); /* CSTS, Keep Alive */
uint64_t target_ctrl_next_ns(const struct target_ctrl *ctrl);
void target_alive(struct target_ctrl *ctrl);

void target_get_log(struct target_slot *slot);
/* Asynchronous events: notes one, and tells those that can be told. */
void target_ctrl_event(struct target_ctrl *ctrl, uint32_t dw0);
void target_ctrl_ns_changed(struct target_ctrl *ctrl, uint32_t nsid);
void target_events_flush(struct target_ctrl *ctrl);

/* What is executed, and for whom: of a slot, or of a buffer whose queue is gone. */
struct target_op {
    struct target *target;
    struct target_subsystem *subsystem;
    struct target_ns *ns;
    const struct nvme_sqe *sqe;
    uint8_t *data;
    uint32_t len_bytes;
    uint16_t cntlid;
    const uint8_t *hostid;
    bool is_late;
    nvme_status_t status;
    uint32_t dw0;
};
/* Bytes that the command transfers, as its fields say; UINT64_MAX: no such command. */
uint64_t target_io_len(const struct target_op *op);
void target_io(struct target_op *op);
struct target_ns *target_ns_find(struct target *target, uint32_t subsystem, uint32_t nsid);

void target_resv(struct target_op *op);
/* Whether a reservation of somebody else forbids it. */
bool target_resv_conflict(const struct target_op *op, bool is_write);

#endif
