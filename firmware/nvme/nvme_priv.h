/*
 * Inside of the controller core: its state, its tables, and what its files call of each other.
 *
 * Source: NVM Express Base Specification 1.4.
 */
#ifndef NVME_NVME_PRIV_H
#define NVME_NVME_PRIV_H

#include <stdatomic.h>
#include "base/bits.h"
#include "nvme/nvme.h"
#include "spec/nvme_feature.h"
#include "spec/nvme_identify.h"
#include "spec/nvme_log.h"

/* --- what this controller says of itself ---------------------------------------------------- */

#define NVME_ACL                       3  /* zeroes based: Abort commands at a time */
#define NVME_ERROR_ENTRIES             64 /* ELPE is one less */
#define NVME_KAS_UNIT_MS               100
#define NVME_KAS                       1 /* granularity of Keep Alive in that unit */
#define NVME_DSM_BUFFERS               4 /* range lists under way per core; more wait */
#define NVME_SHUTDOWN_MS               5000
#define NVME_MTFA_100MS                20 /* the longest pause of an activation without reset */
#define NVME_RTD3E_MS                  (NVME_SHUTDOWN_MS + 2000) /* commands under way end first */
#define NVME_DRAIN_POLL_NS             UINT64_C(1000000)
#define NVME_WCTEMP_KELVIN             343 /* nonzero since 1.2; no sensor can reach it */
#define NVME_CCTEMP_KELVIN             358
#define NVME_ARBITRATION_BURST_DEFAULT 4 /* 16 commands; RAB is the same */

/* Who has a command. Each step has one way out when the command is cancelled. */
enum nvme_step {
    NVME_STEP_CORE,     /* this core, in a call that is running, or a transport op has it */
    NVME_STEP_DEVICE,   /* one request at ns->dev: blk_cancel() */
    NVME_STEP_FLUSH,    /* flush of all namespaces: the call that submits is still on the stack */
    NVME_STEP_FLUSHED,  /* the same, and the device was done before that call returned */
    NVME_STEP_BUFFER,   /* waits in core[].waiting for a range list buffer */
    NVME_STEP_EVENT,    /* an Asynchronous Event Request in ctrl->aers */
    NVME_STEP_FIRMWARE, /* a Firmware Commit: config.firmware_ops has it */
};

/* --- commands: the tables ------------------------------------------------------------------- */

/* Rules for NSID (4.2, figures 139 and 346). */
#define NVME_OP_NSID_UNUSED BIT32(0) /* has to be 0 */
/* What an I/O command does (io.c). */
#define NVME_OP_DATA     BIT32(1) /* moves blocks between host and controller: MDTS counts */
#define NVME_OP_RANGE    BIT32(2) /* SLBA and NLB name blocks */
#define NVME_OP_WRITES   BIT32(3) /* changes blocks: refused when write protected */
#define NVME_OP_NSID_ALL BIT32(4) /* FFFFFFFFh is allowed */

/* Effects (5.14.1.5) are those beside CSUPP. */
/* clang-format off */
#define NVME_ADMIN_OPS(X)                                                                       \
    /* opcode               handler                      flags                effects */       \
    X(DELETE_SQ,              nvme_admin_delete_sq,        NVME_OP_NSID_UNUSED, 0)              \
    X(CREATE_SQ,              nvme_admin_create_sq,        NVME_OP_NSID_UNUSED, 0)              \
    X(GET_LOG_PAGE,           nvme_admin_get_log_page,     0,                   0)              \
    X(DELETE_CQ,              nvme_admin_delete_cq,        NVME_OP_NSID_UNUSED, 0)              \
    X(CREATE_CQ,              nvme_admin_create_cq,        NVME_OP_NSID_UNUSED, 0)              \
    X(IDENTIFY,               nvme_admin_identify,         0,                   0)              \
    X(ABORT,                  nvme_admin_abort,            NVME_OP_NSID_UNUSED, 0)              \
    X(SET_FEATURES,           nvme_admin_set_features,     0,                   0)              \
    X(GET_FEATURES,           nvme_admin_get_features,     0,                   0)              \
    X(ASYNC_EVENT,            nvme_admin_async_event,      NVME_OP_NSID_UNUSED, 0)              \
    X(FIRMWARE_COMMIT,        nvme_admin_firmware_commit,  NVME_OP_NSID_UNUSED, 0)              \
    X(FIRMWARE_DOWNLOAD,      nvme_admin_firmware_download, NVME_OP_NSID_UNUSED, 0)             \
    X(KEEP_ALIVE,             nvme_admin_keep_alive,       NVME_OP_NSID_UNUSED, 0)              \
    X(DOORBELL_BUFFER_CONFIG, nvme_admin_doorbell_buffers, NVME_OP_NSID_UNUSED, 0)

#define NVME_OP_READ_DATA  (NVME_OP_DATA | NVME_OP_RANGE)
#define NVME_OP_WRITE_DATA (NVME_OP_DATA | NVME_OP_RANGE | NVME_OP_WRITES)

#define NVME_IO_OPS(X)                                                                          \
    /* opcode     handler        device must have          flags         effects */             \
    X(FLUSH,        nvme_io_flush, 0,                        NVME_OP_NSID_ALL,   0)             \
    X(WRITE,        nvme_io_range, 0,                        NVME_OP_WRITE_DATA,                \
      NVME_EFFECT_BLOCK_CONTENT)                                                                \
    X(READ,         nvme_io_range, 0,                        NVME_OP_READ_DATA,  0)             \
    X(COMPARE,      nvme_io_range, BLK_FEATURE_COMPARE,      NVME_OP_READ_DATA,  0)             \
    X(WRITE_ZEROES, nvme_io_range, BLK_FEATURE_WRITE_ZEROES, NVME_OP_RANGE | NVME_OP_WRITES,    \
      NVME_EFFECT_BLOCK_CONTENT)                                                                \
    X(DSM,          nvme_io_dsm,   0,                        NVME_OP_WRITES,                    \
      NVME_EFFECT_BLOCK_CONTENT)                                                                \
    X(VERIFY,       nvme_io_range, BLK_FEATURE_VERIFY,       NVME_OP_RANGE,      0)             \
    X(RESERVATION_REGISTER, nvme_io_reservation, BLK_FEATURE_RESERVATIONS, 0,    0)             \
    X(RESERVATION_REPORT,   nvme_io_reservation, BLK_FEATURE_RESERVATIONS, 0,    0)             \
    X(RESERVATION_ACQUIRE,  nvme_io_reservation, BLK_FEATURE_RESERVATIONS, 0,    0)             \
    X(RESERVATION_RELEASE,  nvme_io_reservation, BLK_FEATURE_RESERVATIONS, 0,    0)
/* clang-format on */

struct nvme_op {
    void (*run)(struct nvme_cmd *cmd); /* NULL: no such command */
    uint32_t blk_features;             /* what the namespace's device must have */
    uint16_t flags;                    /* NVME_OP_* */
    uint16_t effects;                  /* beside CSUPP */
};

/* NULL: not a command of this controller, as it is configured. */
const struct nvme_op *nvme_admin_op(const struct nvme_ctrl *ctrl, uint8_t opcode);
const struct nvme_op *nvme_io_op(uint8_t opcode);

/* vendor.c: NULL: not offered. */
const struct nvme_op *nvme_vendor_op(const struct nvme_ctrl *ctrl, uint8_t opcode);

#define NVME_ADMIN_PROTOTYPE(name, handler, flags, effects) void handler(struct nvme_cmd *cmd);
NVME_ADMIN_OPS(NVME_ADMIN_PROTOTYPE)
#undef NVME_ADMIN_PROTOTYPE
void nvme_io_flush(struct nvme_cmd *cmd);
void nvme_io_range(struct nvme_cmd *cmd);
void nvme_io_dsm(struct nvme_cmd *cmd);
void nvme_io_reservation(struct nvme_cmd *cmd);

/* --- features: the table -------------------------------------------------------------------- */

#define NVME_FEATURE_PER_NS    BIT32(0)
#define NVME_FEATURE_TRANSPORT BIT32(1) /* the transport acts on it: ops->feature_changed */
#define NVME_FEATURE_DATA      BIT32(2) /* the value is in a data buffer, not in cdw11 */
#define NVME_FEATURE_CHECKED   BIT32(3) /* bits outside of `mask` are refused, not ignored */
#define NVME_FEATURE_FIXED     BIT32(4) /* cannot be set */

/* None can be saved; all can be changed, but for Host Identifier (81h), which features.c knows. */
/* clang-format off */
#define NVME_FEATURES(X)                                                                        \
    /* feature            mask of cdw11  default                     flags */                   \
    X(ARBITRATION,          0xffffff07u, NVME_ARBITRATION_BURST_DEFAULT, NVME_FEATURE_TRANSPORT)\
    X(POWER_MANAGEMENT,     0x000000ffu, 0,                          0)                         \
    X(TEMPERATURE_THRESHOLD, 0x003fffffu, NVME_WCTEMP_KELVIN,        0)                         \
    X(ERROR_RECOVERY,       0x0001ffffu, 0,                          NVME_FEATURE_PER_NS)       \
    X(VOLATILE_WRITE_CACHE, 0x00000001u, NVME_WRITE_CACHE_ENABLE,    0)                         \
    X(QUEUES,               0xffffffffu, 0 /* by configuration */,   NVME_FEATURE_TRANSPORT)    \
    X(INTERRUPT_COALESCING, 0x0000ffffu, 0,                          NVME_FEATURE_TRANSPORT)    \
    X(INTERRUPT_VECTOR,     0x0001ffffu, 0 /* by vector */,          NVME_FEATURE_TRANSPORT)    \
    X(WRITE_ATOMICITY,      0x00000001u, 0,                          0)                         \
    X(ASYNC_EVENT,          0x000003ffu, NVME_AEC_NS_ATTRIBUTE,      NVME_FEATURE_CHECKED)      \
    X(HOST_MEMORY,          0x00000003u, 0,                          NVME_FEATURE_DATA)         \
    X(TIMESTAMP,            0,           0,                          NVME_FEATURE_DATA)         \
    X(KEEP_ALIVE,           0xffffffffu, 0,                          0)                         \
    X(HOST_BEHAVIOR,        0,           0,                          NVME_FEATURE_DATA)
/* clang-format on */

#define NVME_FEATURE_SLOTS (NVME_FEATURE_HOST_BEHAVIOR + 1)

struct nvme_feature_values {
    uint32_t value[NVME_FEATURE_SLOTS]; /* cdw11 of the plain ones, by identifier */
    uint16_t temperature_under_kelvin;  /* the over threshold is in value[] */
    uint64_t vector_no_coalescing[(LIMIT_VECTORS + 63) / 64];
    uint64_t timestamp_ms; /* at timestamp_set_ns */
    uint64_t timestamp_set_ns;
    bool timestamp_is_set;
    uint8_t host_acre;
    bool host_memory_busy;   /* the transport has a Set Features of it */
    uint32_t host_memory[4]; /* cdw12 to cdw15 as they were set, while cdw11 says EHM */
};

/* --- error log ------------------------------------------------------------------------------ */

/* Each core keeps the newest entries of its own, so that nobody waits for anybody; a reader merges
 * them by error_count. Word 0 is that count, 0 while the entry is being written. */
struct nvme_error_slot {
    _Atomic uint64_t word[sizeof(struct nvme_error_entry) / 8];
};

/* --- namespaces ----------------------------------------------------------------------------- */

enum nvme_ns_state {
    NVME_NS_STATE_FREE,     /* not allocated */
    NVME_NS_STATE_INACTIVE, /* allocated; its device does not know its geometry yet, or it does not
                               fit */
    NVME_NS_STATE_ACTIVE,   /* serves commands */
    NVME_NS_STATE_RELOAD,   /* refuses commands; when the last one ended it gets its new geometry */
    NVME_NS_STATE_DETACH,   /* refuses commands; when the last one ended it is free */
};

/* What only the control core needs of a namespace. */
struct nvme_ns_slot {
    struct nvme_ctrl *ctrl;
    void (*detached)(void *arg);
    void *detached_arg;
    struct list link;                 /* of grace.waiting, grace.round or grace.draining */
    struct nvme_ns_slot *next_of_dev; /* another slot with the same device */
    uint32_t error_recovery;          /* feature 05h */
    _Atomic uint8_t state;            /* enum nvme_ns_state; other cores may look */
};

struct nvme_grace_msg {
    struct msg msg;
    struct nvme_ctrl *ctrl;
};

/* Once a message has been to every core, no core can still be between seeing a namespace open and
 * counting its command: from then on the counts in flight only fall. */
struct nvme_grace {
    struct nvme_grace_msg msgs[LIMIT_CORES];
    uint32_t replies_due; /* 0: no round is under way */
    struct list waiting;  /* for the next round */
    struct list round;    /* in the round under way */
    struct list draining; /* after their round: until nothing is in flight */
    struct timer timer;
};

/* --- asynchronous events -------------------------------------------------------------------- */

struct nvme_event_state {
    uint32_t pending;     /* by information, 0..31 */
    uint8_t log_page[32]; /* by information */
    bool masked;          /* reported, and its log page has not been read since */
    uint8_t masked_log_page;
};

/* --- controller ----------------------------------------------------------------------------- */

struct nvme_dsm_buffer {
    struct nvme_dsm_range ranges[NVME_DSM_RANGES];
    struct mem_seg seg;
};

/* What belongs to one core. */
struct nvme_core {
    CACHE_ALIGNED struct list waiting; /* commands that need a range list buffer */
    uint32_t dsm_free;                 /* by bit */
    bool dsm_draining;                 /* the loop over `waiting` is on the stack */
    uint32_t error_next;               /* of errors[] */
    struct nvme_error_slot errors[NVME_ERROR_ENTRIES];
    struct nvme_dsm_buffer dsm[NVME_DSM_BUFFERS];
};

/* In units of FWUG: whether a piece of the image begins or goes on there. */
#define NVME_FIRMWARE_UNITS (LIMIT_FIRMWARE_BYTES / NVME_FWUG_BYTES)

struct nvme_firmware {
    uint64_t received[NVME_FIRMWARE_UNITS / 64];
    struct nvme_cmd *commit; /* waits for the end of the one under way; NULL: nobody does */
    bool is_busy;            /* a commit is under way, perhaps for a command that was given up */
    bool replaces;           /* it takes what was received */
    bool failure_told;       /* report.load_failed was */
};

struct nvme_shutdown {
    struct nvme_cmd cmd; /* flushes all namespaces */
    void (*done)(void *arg);
    void *arg;
    struct timer timer;
    struct msg msg;
    bool busy;  /* `cmd` is under way, perhaps for a shutdown that was given up */
    bool again; /* start anew when it ends */
};

struct nvme_ctrl {
    /* Read by every command. */
    const struct nvme_transport_ops *ops;
    struct nvme_ns *ns; /* the table below, by NSID - 1 */
    uint32_t ns_count;  /* NN */
    uint32_t mdts_bytes;
    uint32_t plain_flags; /* opcode and flags bytes: flags that the short path leaves to map() */
    uint8_t psdt_allowed; /* by PSDT value, a bit: I/O commands */
    _Atomic bool write_through; /* the host switched the volatile write cache off */

    /* The control core's. */
    struct nvme_ctrl_config config;
    char serial[20], model[40], firmware[8], subnqn[224];
    bool enabled;
    bool is_shut_down;     /* CC.SHN since enable: events are reported no more */
    bool holds_events;     /* nvme_ctrl_hold_events() */
    bool io_queue_created; /* since enable */
    uint32_t abort_count;  /* under way */
    struct nvme_feature_values features;
    struct list aers;
    uint32_t aer_count;
    struct nvme_event_state events[NVME_EVENT_TYPES];
    uint64_t changed_ns[LIMIT_NAMESPACES / 64];
    struct timer keep_alive;
    struct nvme_shutdown shutdown;
    struct nvme_firmware firmware_update;
    uint64_t start_ns;        /* power on */
    struct blk_stats retired; /* of devices that were detached */
    _Atomic uint64_t error_count;
    _Atomic uint64_t media_error_count;
    struct nvme_grace grace;
    _Alignas(8) uint8_t scratch[NVME_IDENTIFY_BYTES]; /* replies of admin commands */
    _Alignas(8) uint8_t vendor_answer[NVME_VENDOR_BYTES];
    uint32_t vendor_answer_bytes; /* 0: none */

    struct nvme_core core[LIMIT_CORES];
    struct nvme_ns_slot slots[LIMIT_NAMESPACES];
    CACHE_ALIGNED struct nvme_ns ns_table[LIMIT_NAMESPACES];
};
_Static_assert(sizeof(struct nvme_ctrl) <= NVME_CTRL_BYTES, "NVME_CTRL_BYTES is too small");
_Static_assert(_Alignof(struct nvme_ctrl) <= 64, "struct nvme_ctrl_memory aligns to 64");

/* --- calls between the files ---------------------------------------------------------------- */

/* Byte and bit of a command where an error lies (figure 193, Parameter Error Location). */
#define NVME_AT_OPCODE NVME_ERROR_LOCATION(0, 0)
#define NVME_AT_FUSE   NVME_ERROR_LOCATION(1, 0)
#define NVME_AT_PSDT   NVME_ERROR_LOCATION(1, 6)
#define NVME_AT_NSID   NVME_ERROR_LOCATION(4, 0)
#define NVME_AT_CDW10  NVME_ERROR_LOCATION(40, 0)
#define NVME_AT_CDW11  NVME_ERROR_LOCATION(44, 0)
#define NVME_AT_CDW12  NVME_ERROR_LOCATION(48, 0)

/* Ends a command of any queue: logs a failure, calls the transport. Its core. */
void nvme_end(struct nvme_cmd *cmd, nvme_status_t status);
/* nvme_end() of one that names its bad field. DNR is set. */
void nvme_fail(struct nvme_cmd *cmd, nvme_status_t status, uint16_t location);

/* Ends an admin command: nvme_admin_done() is the same for transports. */
void nvme_admin_end(struct nvme_cmd *cmd, nvme_status_t status, uint32_t dw0);
void nvme_admin_fail(struct nvme_cmd *cmd, nvme_status_t status, uint16_t location);
/* Sends `len_bytes` (a multiple of 4) of ctrl->scratch from `offset_bytes` on, zeroes behind
 * `valid_bytes`; false: the command has failed and ended. */
bool nvme_admin_reply(struct nvme_cmd *cmd, uint32_t offset_bytes, uint32_t valid_bytes,
                      uint32_t len_bytes);

/* FUSE and PSDT (4.2): 0, or Invalid Field and *location. */
nvme_status_t nvme_flags_check(uint8_t flags, uint8_t psdt_allowed, uint16_t *location);

/* The status, DNR included, for an NSID that names no active namespace (6.1): Invalid Namespace if
 * it can name none, Invalid Field if it is inactive or FFFFFFFFh, Namespace Not Ready for the
 * moment in which its geometry changes. */
nvme_status_t nvme_ns_refusal(const struct nvme_ctrl *ctrl, uint32_t nsid);
/* An allocated namespace, or NULL. */
struct nvme_ns_slot *nvme_ns_slot_find(struct nvme_ctrl *ctrl, uint32_t nsid);
void nvme_ns_init(struct nvme_ctrl *ctrl);
/* What ctrl->write_through says has changed. */
void nvme_ns_update_access(struct nvme_ctrl *ctrl);
/* BLK_FEATURE_* of a device that the host may see. */
uint32_t nvme_ns_features(const struct nvme_ctrl *ctrl, const struct blk_geometry *geometry);
/* What every active namespace can do: for ONCS. */
uint32_t nvme_ns_common_features(struct nvme_ctrl *ctrl);

void nvme_io_init(struct nvme_ctrl *ctrl);
/* Flushes all active namespaces one after the other, then nvme_flush_all_done(). */
void nvme_flush_all(struct nvme_cmd *cmd);
void nvme_flush_all_done(struct nvme_cmd *cmd, nvme_status_t status);
void nvme_dsm_cancel(struct nvme_cmd *cmd);

void nvme_features_reset(struct nvme_ctrl *ctrl);
/* Goes by the value of Volatile Write Cache. */
void nvme_features_write_cache_take(struct nvme_ctrl *ctrl);
/* The transport has ended a Set Features command that it took over. */
void nvme_features_host_memory_done(struct nvme_cmd *cmd, nvme_status_t status);
/* Offered: the transport can, and the configuration wants it. */
bool nvme_host_memory_is_offered(const struct nvme_ctrl *ctrl);
/* The host has an identifier for the subsystems behind. */
bool nvme_host_id_is_known(const struct nvme_ctrl *ctrl);

bool nvme_firmware_is_offered(const struct nvme_ctrl *ctrl);
void nvme_firmware_enable(struct nvme_ctrl *ctrl);
void nvme_firmware_disable(struct nvme_ctrl *ctrl);
void nvme_firmware_cancel(struct nvme_cmd *cmd);

void nvme_events_init(struct nvme_ctrl *ctrl);
void nvme_events_reset(struct nvme_ctrl *ctrl);
/* A log page was read without RAE: its events are cleared. */
void nvme_events_log_read(struct nvme_ctrl *ctrl, uint8_t log_page);
void nvme_events_ns_changed(struct nvme_ctrl *ctrl, uint32_t nsid);
void nvme_event_cancel(struct nvme_cmd *cmd);

void nvme_keep_alive_init(struct nvme_ctrl *ctrl);
void nvme_keep_alive_restart(struct nvme_ctrl *ctrl);

/* Any core: `core` is the caller's. */
void nvme_error_log_add(struct nvme_ctrl *ctrl, uint32_t core, struct nvme_error_entry *entry);
void nvme_error_log_read(struct nvme_ctrl *ctrl, struct nvme_error_entry *entries);

#endif
