/*
 * Management messages (docs/spec/mgmt.md): one request, one response, the same in band (NVMe vendor
 * commands) and out of band (frames beside the console's text). Integers are little endian, text is
 * UTF-8 padded with zeroes.
 *
 * What may grow grows at the end: the response says how long its records are. Old tools skip what
 * they do not know; a field that lies beyond the record's end an old firmware does not have. Bits
 * and numbers are never used again.
 */
#ifndef SPEC_MGMT_H
#define SPEC_MGMT_H

#include <stdint.h>
#include "base/compiler.h"

/* --- messages -------------------------------------------------------------------------------- */

#define MGMT_MAGIC       0x474d4e53u /* "SNMG" */
#define MGMT_VERSION     1u
#define MGMT_MIN_VERSION 1u /* the oldest that is still understood */

/* A whole message, head included. */
#define MGMT_BAND_BYTES  4096u /* in band */
#define MGMT_FRAME_BYTES 1048u /* out of band: 1,024 of payload */

struct mgmt_head {
    uint32_t magic;
    uint8_t version; /* of the sender */
    uint8_t op;      /* enum mgmt_op; the response repeats it */
    uint16_t status; /* response: enum mgmt_status; request: 0 */
    uint32_t tag;    /* the requester's; the response repeats it */
    uint32_t flags;  /* MGMT_FLAG_* */
    uint32_t payload_bytes;
    uint32_t crc; /* CRC-32 (IEEE 802.3) of the 20 bytes before and of the payload */
};
ASSERT_SIZE(struct mgmt_head, 24);
#define MGMT_HEAD_CRC_BYTES 20u

#define MGMT_FLAG_RESPONSE (1u << 0)
#define MGMT_FLAG_HUNG     (1u << 1) /* core 0 hangs: an interrupt handler has answered */

enum mgmt_op {
    MGMT_OP_HELLO = 1,  /* struct mgmt_hello_request or nothing -> struct mgmt_hello */
    MGMT_OP_LIST = 2,   /* struct mgmt_list_request -> struct mgmt_list, records */
    MGMT_OP_READ = 3,   /* struct mgmt_read_request -> struct mgmt_read, bytes */
    MGMT_OP_WRITE = 4,  /* struct mgmt_write_request, bytes -> nothing */
    MGMT_OP_ACTION = 5, /* struct mgmt_action_request, arguments -> the action's own */
};

/* A response that is not OK carries nothing, or a text that says more. Append only. */
#define MGMT_STATUS_LIST(X)                                                                 \
    X(OK, 0, "done")                                                                        \
    X(BAD_MESSAGE, 1, "the message is damaged: magic, length or checksum")                  \
    X(UNKNOWN_OP, 2, "the firmware does not know this operation")                           \
    X(NOT_ALLOWED, 3, "not allowed from here: use the console, or options/in-band")         \
    X(OUT_OF_RANGE, 4, "a field of the request is out of range")                            \
    X(BUSY, 5, "not ready: ask again in 10 ms")                                             \
    X(OLD_FIRMWARE, 6, "the firmware is older than this tool: it speaks older messages")    \
    X(OLD_TOOL, 7, "this tool is older than the firmware: its messages are spoken no more") \
    X(NOT_FOUND, 8, "no such class, object or action in this firmware")                     \
    X(UNSUPPORTED, 9, "this board cannot do it")                                            \
    X(REFUSED, 10, "checked and refused")                                                   \
    X(FAILED, 11, "a device failed")                                                        \
    X(HUNG, 12, "core 0 hangs: only state can be read")

enum mgmt_status {
#define MGMT_STATUS_ENUM(name, value, text) MGMT_##name = (value),
    MGMT_STATUS_LIST(MGMT_STATUS_ENUM)
#undef MGMT_STATUS_ENUM
};

/* --- in band: NVMe admin commands with the vendor format (NVMe 1.4, figure 106; AVSCC is 1) ------
 * cdw10: dwords that are transferred, 1..1024; what follows the message is not looked at, or zero.
 * cdw11 (NDM): 0. NSID: 0. A host's response stays until its next MGMT_SEND or a reset. */
#define MGMT_NVME_SEND    0xc1u /* a request. Its faults are told by the response */
#define MGMT_NVME_RECEIVE 0xc2u /* the response to the last one; none: Command Sequence Error */
/* Log page: a row of response messages as to HELLO, LIST of the function's own record, LIST of its
 * counters; each follows at the next multiple of 8, zeroes end it. 4096 bytes. */
#define MGMT_NVME_LOG_PAGE 0xc0u

/* --- out of band: a frame is MGMT_FRAME_START, base64 of the message (RFC 4648), newline ---- */
#define MGMT_FRAME_START 0x01u
#define MGMT_FRAME_CHARS 1400u /* base64 of MGMT_FRAME_BYTES: at most between start and end */
#define MGMT_FRAME_HANG_MS \
    200u /* core 0 that began no turn for so long, while a frame waits, hangs */

/* --- HELLO ----------------------------------------------------------------------------------- */

struct mgmt_hello_request { /* may be left out */
    uint8_t version;
    uint8_t min_version;
    uint8_t reserved[6];
    char tool[24]; /* "snicctl 0.1" */
};
ASSERT_SIZE(struct mgmt_hello_request, 32);

#define MGMT_ORIGIN_CONSOLE 0xffffu /* others: the function whose host asks */

#define MGMT_MAY_SEE_ALL (1u << 0) /* records of other functions and of the board, all objects */
#define MGMT_MAY_CHANGE  (1u << 1) /* WRITE and ACTION */

/* Answered whatever the version of the request. */
struct mgmt_hello {
    uint8_t version;
    uint8_t min_version;
    uint16_t origin;      /* MGMT_ORIGIN_CONSOLE or a function */
    uint32_t message_max; /* bytes of a message on this way, either direction */
    uint32_t may;         /* MGMT_MAY_* */
    uint32_t core_count;
    uint64_t classes; /* a bit for each class that may be listed from here */
    uint32_t objects; /* likewise: READ or WRITE */
    uint32_t actions;
    uint64_t uptime_ns;
    uint32_t function_count;
    uint8_t boot_slot; /* that runs: 0, 1, 0xff: started otherwise */
    uint8_t is_trial;
    uint16_t reserved;
    char board[24];    /* "qemu-virt" */
    char firmware[16]; /* "0.1" */
    char serial[24];
    char reset_cause[32]; /* "power-on", "panic" */
};
ASSERT_SIZE(struct mgmt_hello, 144);

/* --- LIST ------------------------------------------------------------------------------------ */

struct mgmt_list_request {
    uint16_t class;
    uint16_t max;   /* records; 0: as many as fit */
    uint32_t first; /* index: 0, then `next` of the response */
};
ASSERT_SIZE(struct mgmt_list_request, 8);

#define MGMT_LIST_END UINT32_MAX

struct mgmt_list {
    uint16_t class;
    uint16_t record_bytes;
    uint32_t count; /* records that follow; 0 does not mean the end */
    uint32_t next;  /* where to go on; MGMT_LIST_END */
    uint32_t reserved;
};
ASSERT_SIZE(struct mgmt_list, 16);

/* X(NAME, number, record): records are in spec/mgmt_record.h. */
#define MGMT_CLASS_LIST(X)                                                     \
    X(FUNCTION, 1, mgmt_function)   /* what a host sees */                     \
    X(QUEUE, 2, mgmt_queue)         /* an NVMe queue identifier's SQ and CQ */ \
    X(DRIVE, 3, mgmt_drive)         /* a local drive */                        \
    X(NAMESPACE, 4, mgmt_namespace) /* of a function, attached */              \
    X(VOLUME, 5, mgmt_volume)                                                  \
    X(PATH, 6, mgmt_path)               /* of a volume */                      \
    X(ASSOCIATION, 7, mgmt_association) /* of a function with a subsystem */   \
    X(CONNECTION, 8, mgmt_connection)   /* RDMA CM */                          \
    X(QP, 9, mgmt_qp)                                                          \
    X(PORT, 10, mgmt_port)       /* Ethernet and what stands on it */          \
    X(REACTOR, 11, mgmt_reactor) /* a core */                                  \
    X(POLLER, 12, mgmt_poller)                                                 \
    X(STAT, 13, mgmt_stat)     /* a counter */                                 \
    X(SLOT, 14, mgmt_slot)     /* an image in flash */                         \
    X(UPDATE, 15, mgmt_update) /* the update under way: one record */

enum mgmt_class {
#define MGMT_CLASS_ENUM(name, number, record) MGMT_CLASS_##name = (number),
    MGMT_CLASS_LIST(MGMT_CLASS_ENUM)
#undef MGMT_CLASS_ENUM
};

/* --- READ, WRITE: objects -------------------------------------------------------------------- */

enum mgmt_object {
    MGMT_OBJECT_LOG = 1,     /* read: the text of the log. Offset: bytes since the start */
    MGMT_OBJECT_TRACE = 2,   /* read: struct trace_record of core `part`. Offset: 32 per record */
    MGMT_OBJECT_CRASH = 3,   /* read: struct crash_record of the run before; empty: none */
    MGMT_OBJECT_CONSOLE = 4, /* read: what the last MGMT_ACTION_RUN has printed */
    MGMT_OBJECT_CONFIG = 5, /* read: the device tree in use. write: a new one, then COMMIT_CONFIG */
    MGMT_OBJECT_IMAGE = 6,  /* write: an image (FIT), then COMMIT_IMAGE */
};

struct mgmt_read_request {
    uint16_t object;
    uint16_t part;
    uint32_t max_bytes; /* 0: as many as fit */
    uint64_t offset;
};
ASSERT_SIZE(struct mgmt_read_request, 16);

#define MGMT_READ_GROWS (1u << 0) /* more may come: the log, the trace, a command at work */

struct mgmt_read {
    uint16_t object;
    uint16_t flags; /* MGMT_READ_* */
    uint32_t data_bytes;
    uint64_t offset; /* of the first byte; above the one asked for: what was before is lost */
    uint64_t end;    /* offset behind the last byte that there is now */
};
ASSERT_SIZE(struct mgmt_read, 24);

/* Pieces may come in any order and twice; offset 0 starts anew. */
struct mgmt_write_request {
    uint16_t object;
    uint16_t reserved;
    uint32_t data_bytes;
    uint64_t offset;
};
ASSERT_SIZE(struct mgmt_write_request, 16);

/* --- ACTION ---------------------------------------------------------------------------------- */

enum mgmt_action {
    MGMT_ACTION_RUN = 1,       /* a command line of the console, text; ends at once, its words are
                              MGMT_OBJECT_CONSOLE, complete when MGMT_READ_GROWS is gone. BUSY */
    MGMT_ACTION_RESET = 2,     /* warm reset; 100 ms after the answer */
    MGMT_ACTION_TRACE = 3,     /* u32: TRACE_CLASS_* that are recorded; answer: u32, those before */
    MGMT_ACTION_LOG_LEVEL = 4, /* u32: 0 errors .. 3 debug */
    MGMT_ACTION_COMMIT_IMAGE = 5,  /* struct mgmt_commit; class UPDATE tells the rest */
    MGMT_ACTION_CONFIRM = 6,       /* the running image works */
    MGMT_ACTION_COMMIT_CONFIG = 7, /* struct mgmt_commit_config: into flash, used from the next
                                      start on. BUSY until it is there: repeat. REFUSED: a text,
                                      node and property named */
    MGMT_ACTION_HAND_OVER = 8,     /* restarts, 100 ms after the answer, with the image that is
                                      next, which goes on serving the hosts
                                      (docs/spec/handover.md). REFUSED, with a text: hosts cannot
                                      be kept */
};

struct mgmt_action_request {
    uint16_t action;
    uint16_t reserved;
    uint32_t argument_bytes;
};
ASSERT_SIZE(struct mgmt_action_request, 8);

#define MGMT_COMMIT_REPLACE  1u /* what was written goes into the slot */
#define MGMT_COMMIT_ACTIVATE 2u /* the slot starts next, on trial: alone, rolls back or forward */
#define MGMT_COMMIT_CHECK    4u /* alone: check what was written; class UPDATE tells the outcome */

struct mgmt_commit {
    uint8_t slot;    /* 0, 1; 0xff: the firmware chooses */
    uint8_t actions; /* MGMT_COMMIT_* */
    uint8_t reserved[6];
};
ASSERT_SIZE(struct mgmt_commit, 8);

struct mgmt_commit_config {
    uint32_t tree_bytes; /* that were written; 0: forget the one in flash */
    uint32_t crc;        /* CRC-32 of them */
    uint8_t is_check;    /* 1: check only */
    uint8_t reserved[7];
};
ASSERT_SIZE(struct mgmt_commit_config, 16);

#endif
