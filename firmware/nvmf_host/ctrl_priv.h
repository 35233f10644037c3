/*
 * Inside of associations: their objects, and what their files call of each other. All of it runs on
 * core 0, but for what says "queue's core".
 *
 *   ctrl.c        public calls, memory, reports
 *   ctrl_state.c  the state machine: bring-up, loss, shut-down, pauses
 *   ctrl_admin.c  one command at a time, properties, CC and CSTS; discovery uses it too
 *   ctrl_check.c  what the controller says of itself: checked, then believed
 *   ctrl_queue.c  messages to the queues and back; routes; aborts
 *   event.c       asynchronous events, keep alive
 *   scan.c        namespaces
 *   discovery.c   discovery services
 */
#ifndef NVMF_HOST_CTRL_PRIV_H
#define NVMF_HOST_CTRL_PRIV_H

#include <string.h>
#include "hal/clock.h"
#include "nvmf_host/nvmf_host_priv.h"
#include "spec/nvme_feature.h"
#include "spec/nvme_identify.h"
#include "spec/nvme_log.h"

#define NVMF_ADMIN_ENTRIES 32
#define NVMF_DATA_BYTES    4096 /* the largest piece that an admin command transfers here */
#define NVMF_ADMIN_ABORTS  4    /* at a time, if the controller takes so many */
#define NVMF_NS_BUCKETS    64
#define NVMF_NAME_BYTES    32

/* --- admin commands (ctrl_admin.c) ---------------------------------------------------------- */

enum nvmf_step {
    NVMF_STEP_WAIT,
    NVMF_STEP_OK,
    NVMF_STEP_ERROR, /* answered with an error: cmd.status */
    NVMF_STEP_LOST,  /* not answered */
};

/* What a state machine waits for. */
struct nvmf_call {
    struct nvmf_cmd cmd;
    struct nvmf_admin *admin;
    bool is_issued;
    bool is_done;
};

enum nvmf_cc_phase {
    NVMF_CC_SET,
    NVMF_CC_GET,
    NVMF_CC_PAUSE,
};

/* How an admin queue is used: by an association, or by a discovery. */
struct nvmf_admin {
    struct nvmf_queue *queue;
    void (*wake)(struct nvmf_admin *admin);
    uint64_t timeout_ns;
    struct nvmf_scratch scratch; /* the target can change it at any time... */
    uint8_t *data;               /* ...so this copy, private, is what is looked at */
    struct nvmf_call step;       /* commands with data, features */
    struct nvmf_call property;   /* properties alone: usable while a step is under way */
    enum nvmf_cc_phase cc_phase; /* of nvmf_admin_set_cc() */
    uint64_t look_ns;            /* CSTS is not read before */
    uint64_t value;              /* of the last Property Get */
};

/* Issues `sqe` at the first call, then tells how it stands; `len_bytes` from the controller, at
 * most NVMF_DATA_BYTES, are in admin->data when it is OK. */
enum nvmf_step nvmf_admin_step(struct nvmf_admin *admin, const struct nvme_sqe *sqe,
                               uint32_t len_bytes);
enum nvmf_step nvmf_admin_identify(struct nvmf_admin *admin, uint32_t cns, uint32_t nsid);
/* `offset_bytes` and `len_bytes` are multiples of 4. */
enum nvmf_step nvmf_admin_get_log(struct nvmf_admin *admin, uint8_t page, uint64_t offset_bytes,
                                  uint32_t len_bytes);
/* The same for properties; the value is in admin->value. */
enum nvmf_step nvmf_admin_get(struct nvmf_admin *admin, uint32_t offset, bool is_8_bytes);
/* Writes CC, then reads CSTS until (CSTS & mask) == want, which is OK. For ever: deadlines are the
 * caller's, who calls again at `*look_ns` at the latest. CSTS as last read is in admin->value. */
enum nvmf_step nvmf_admin_set_cc(struct nvmf_admin *admin, uint32_t cc, uint32_t mask,
                                 uint32_t want, uint64_t *look_ns);
/* Forgets what was under way. The queue is CLOSED. */
void nvmf_admin_reset(struct nvmf_admin *admin);

#define NVMF_CC_ENABLED                                                \
    ((uint32_t)(NVME_CC_EN | FIELD_PREP(NVME_CC_IOSQES, NVME_IOSQES) | \
                FIELD_PREP(NVME_CC_IOCQES, NVME_IOCQES)))

/* Printable ASCII without padding; `to` has len_bytes + 1. */
void nvmf_text_copy(char *to, const void *from, uint32_t len_bytes);

/* --- a queue of an association (ctrl_queue.c) ----------------------------------------------- */

/* As core 0 knows it. */
enum nvmf_link_state {
    NVMF_LINK_CLOSED,
    NVMF_LINK_OPENING,
    NVMF_LINK_OPEN,
    NVMF_LINK_BROKEN, /* lost, stuck, or never open: has to be closed */
    NVMF_LINK_CLOSING,
};

struct nvmf_link {
    struct nvmf_queue queue; /* its core's */
    struct nvmf_ctrl *ctrl;
    uint32_t core;              /* that owns the queue */
    enum nvmf_link_state state; /* core 0's */

    /* Orders of core 0. None is sent before the one of its kind came home. */
    struct msg open_msg;
    struct msg close_msg;
    struct msg ask_msg; /* "was there traffic?" and back */
    uint64_t quiet_ns;  /* of the close */
    bool had_traffic;   /* the answer */

    /* Reports of the queue; each at most once between an open and its end. */
    struct msg opened_msg;
    struct msg broken_msg;
    struct msg closed_msg;
    uint32_t opened_code;
    uint32_t broken_code;
    uint8_t opened_fail;
    uint8_t broken_fail;
    /* Queue's core: */
    bool is_up;     /* between open and close */
    bool is_broken; /* broken_msg was sent */
    bool is_over;   /* closed() came; told when the abort is home */

    /* One abort at a time: to core 0, to the controller, and back. The others wait here. */
    struct msg abort_msg;
    struct nvmf_cmd abort_cmd; /* core 0's while away */
    struct list abort_link;    /* ctrl->aborts: waits for a free one of the controller's */
    bool abort_is_away;        /* queue's core */
    bool abort_helped;
    uint16_t abort_cid;
    uint16_t abort_cids[LIMIT_NVMF_QUEUE_ENTRIES]; /* queue's core: a ring */
    uint32_t abort_head;
    uint32_t abort_tail;
};

/* --- an association ------------------------------------------------------------------------- */

enum nvmf_scan_step {
    NVMF_SCAN_STEP_IDLE,
    NVMF_SCAN_STEP_LOG,
    NVMF_SCAN_STEP_LIST,
    NVMF_SCAN_STEP_NS,
    NVMF_SCAN_STEP_DESCRIPTORS,
};

struct nvmf_scan {
    enum nvmf_scan_step step;
    bool is_wanted;
    uint8_t log_bits;       /* log pages to be read: what their events wait for */
    uint64_t not_before_ns; /* a target that reports without end must not keep us busy */
    uint32_t nsids[NVME_NS_LIST_ENTRIES];
    uint32_t count;
    uint32_t index;
    uint32_t unseen; /* struct nvmf_ns that were not found yet */
    struct blk_geometry draft;
};
_Static_assert(NVME_NS_LIST_ENTRIES == LIMIT_NAMESPACES, "one page of the list is all of it");

/* Identify Controller, as far as it is kept. */
struct nvmf_ctrl_caps {
    uint32_t features; /* BLK_FEATURE_* */
    uint32_t max_transfer_bytes;
    uint32_t icd_bytes;
    uint32_t icd_offset_bytes;
    uint32_t queue_entries;
    uint32_t kato_ms; /* rounded as the controller does */
    uint32_t quiesce_ms;
    uint32_t awun; /* in blocks; 0: not reported */
    uint32_t awupf;
    uint32_t acwu;
    uint32_t events; /* of Asynchronous Event Configuration */
    uint8_t aer_count;
    uint8_t abort_count;
    bool tbkas;
    bool sgl_offsets;
    char model[41];
    char serial[21];
    char firmware[9];
};

struct nvmf_pass { /* one core, asked to come by */
    struct msg msg;
    struct nvmf_ctrl *ctrl;
};

struct nvmf_aer {
    struct nvmf_cmd cmd;
    bool is_busy;
    bool is_refused; /* until the next bring-up */
};

struct nvmf_ctrl {
    struct nvmf_ctrl_shared shared;
    struct nvmf_target target;
    struct nvmf_ctrl_config config; /* the pointers in it mean nothing */
    char name[NVMF_NAME_BYTES];
    uint64_t memory_bytes;
    struct nvmf_admin admin;
    struct nvmf_link admin_link;
    struct nvmf_link links[LIMIT_CORES]; /* I/O; the first link_count */
    uint32_t link_count;

    enum nvmf_ctrl_state state;
    bool is_entered; /* the state function ran before */
    uint64_t state_since_ns;
    bool is_closing;
    void (*done)(void *arg);
    void *done_arg;

    struct timer timer;
    struct msg wake_msg;
    bool is_waking; /* wake_msg is on its way */
    uint64_t timer_ns;

    enum nvmf_fail pending_fail; /* not acted upon yet */
    uint32_t pending_code;
    enum nvmf_fail fail;
    uint32_t fail_code;
    bool was_live;     /* since CONNECT_ADMIN: somebody may have sent requests */
    bool is_fenced;    /* routes were cleared since then */
    bool admin_failed; /* the admin queue is open, maybe, but of no use */
    bool is_disabled;  /* by CC.EN: no command has any effect any more */
    uint32_t backoff_steps;
    uint64_t next_ns;

    uint64_t ready_timeout_ns;
    uint32_t version;
    uint32_t max_entries; /* CAP.MQES */
    struct nvmf_ctrl_caps caps;
    uint16_t cntlid;
    uint32_t granted; /* I/O queues */
    struct nvmf_host_user host_user;
    bool is_on_host; /* I/O queues were opened over host memory */

    struct nvmf_pass passes[LIMIT_CORES];
    uint32_t away_count; /* passes and questions that are not home */
    uint32_t ask_count;  /* of those, questions */

    struct list aborts; /* links that wait */
    uint32_t abort_busy;

    struct nvmf_aer aers[LIMIT_AERS];
    uint64_t aer_ns; /* not asked again before */
    struct nvmf_cmd keep_alive;
    bool keep_alive_busy;
    bool had_traffic; /* by the answers to the last question */
    bool is_asking;   /* whether there was traffic */
    uint64_t keep_alive_ns;

    struct list ns[NVMF_NS_BUCKETS]; /* struct nvmf_ns, by the hash of their names */
    uint32_t ns_named;               /* of those, by more than the NSID */
    uint32_t ns_open;
    uint32_t ns_count; /* that the controller has */
    struct nvmf_scan scan;

    uint32_t connect_count;
    uint32_t attempt_count;
    uint64_t event_count;
};

/* --- ctrl.c --------------------------------------------------------------------------------- */

bool nvmf_nqn_is_valid(const char *nqn); /* 1..223 characters */
/* CLOSED was reached: gives everything back and calls done(). The association is gone then. */
void nvmf_ctrl_finish(struct nvmf_ctrl *ctrl);
/* Host memory has come or has to be left: the I/O queues move. */
void nvmf_ctrl_move(struct nvmf_ctrl *ctrl);

/* --- ctrl_state.c --------------------------------------------------------------------------- */

void nvmf_ctrl_run(struct nvmf_ctrl *ctrl);
/* Has nvmf_ctrl_run() called soon. From anywhere on core 0, callbacks included. */
void nvmf_ctrl_wake(struct nvmf_ctrl *ctrl);
/* Inside of nvmf_ctrl_run(): and again at this time, at the latest. */
void nvmf_ctrl_wake_at(struct nvmf_ctrl *ctrl, uint64_t at_ns);
/* The association cannot go on. The first reason is the one that is kept. */
void nvmf_ctrl_fail(struct nvmf_ctrl *ctrl, enum nvmf_fail fail, uint32_t code);
bool nvmf_ctrl_admin_works(const struct nvmf_ctrl *ctrl);

/* --- ctrl_check.c --------------------------------------------------------------------------- */

/* NULL, or why the controller cannot be used. */
const char *nvmf_check_cap(struct nvmf_ctrl *ctrl, uint64_t cap);
const char *nvmf_check_ctrl(struct nvmf_ctrl *ctrl, const struct nvme_identify_ctrl *id);
/* Fills in scan.draft. */
const char *nvmf_check_ns(struct nvmf_ctrl *ctrl, const struct nvme_identify_ns *id);
void nvmf_check_descriptors(struct blk_geometry *draft, const uint8_t *data, uint32_t len_bytes);

/* --- ctrl_queue.c --------------------------------------------------------------------------- */

/* Sets up what goes around a queue that nvmf_queue_init() is called for. */
void nvmf_link_init(struct nvmf_link *link, struct nvmf_ctrl *ctrl, struct nvmf_core *core,
                    void *memory, uint32_t entries_max);
void nvmf_link_open(struct nvmf_link *link);
void nvmf_link_close(struct nvmf_link *link, uint64_t quiet_ns);
/* Requests go to the queues that are open. */
void nvmf_routes_publish(struct nvmf_ctrl *ctrl);
/* They do not any more, from when away_count is 0 again. */
void nvmf_routes_clear(struct nvmf_ctrl *ctrl);
/* Asks each open queue; nvmf_ctrl_run() is called when ask_count is 0 again. */
void nvmf_links_ask(struct nvmf_ctrl *ctrl);
/* Sends aborts that wait, as many as the controller takes; or sends them home. */
void nvmf_aborts_run(struct nvmf_ctrl *ctrl);
void nvmf_aborts_drop(struct nvmf_ctrl *ctrl);
uint32_t nvmf_links_in_flight(const struct nvmf_ctrl *ctrl);

/* --- event.c -------------------------------------------------------------------------------- */

/* With each bring-up. */
void nvmf_events_reset(struct nvmf_ctrl *ctrl, uint64_t now_ns);
void nvmf_aers_run(struct nvmf_ctrl *ctrl, uint64_t now_ns);
void nvmf_keep_alive_run(struct nvmf_ctrl *ctrl, uint64_t now_ns);

/* --- scan.c --------------------------------------------------------------------------------- */

void nvmf_scan_init(struct nvmf_ctrl *ctrl);
/* OK: nothing (more) to do now. ERROR: the list of namespaces was refused. */
enum nvmf_step nvmf_scan_run(struct nvmf_ctrl *ctrl, uint64_t now_ns);
/* With each bring-up. */
void nvmf_scan_reset(struct nvmf_ctrl *ctrl);
/* The association became LIVE, or is not any more. */
void nvmf_scan_set_live(struct nvmf_ctrl *ctrl, bool is_live);

#endif
