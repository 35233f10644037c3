/*
 * What an image leaves to the next one that goes on serving the same host: the state of a
 * function's controller that lies nowhere else. Registers, doorbells, queues' content and pending
 * events lie in the link block and in host memory, where the next image finds them.
 *
 * Little endian, in memory that the start of an image does not touch. Another version or size is
 * not read: then the next image starts anew, and the host sees a reset (docs/spec/handover.md).
 * Clauses: NVM Express Base Specification 1.4.
 */
#ifndef SPEC_HANDOVER_H
#define SPEC_HANDOVER_H

#include <stdint.h>
#include "base/compiler.h"
#include "base/limits.h"

#define HANDOVER_MAGIC    0x4f48534eu /* "NSHO" */
#define HANDOVER_VERSION  1u
#define HANDOVER_QUEUES   (LIMIT_IO_QUEUES + 1)
#define HANDOVER_AERS     8u
#define HANDOVER_FEATURES 64u /* by identifier */
#define HANDOVER_EVENTS   8u  /* types */

/* One queue pair id; a size of 0: there is no such queue. Counts of entries, not zeroes based. */
struct handover_queue {
    uint64_t sq_addr;
    uint64_t cq_addr;
    uint16_t sq_size;
    uint16_t sq_head; /* next to fetch */
    uint16_t sq_cq_id;
    uint16_t sq_priority; /* QPRIO, 5.4 */
    uint16_t cq_size;
    uint16_t cq_head; /* as last read from the doorbell */
    uint16_t cq_tail; /* next to post */
    uint16_t cq_vector;
    uint8_t cq_phase; /* tag of the next entry */
    uint8_t cq_ien;
    uint8_t cq_is_shadowed; /* with doorbell buffers (7.13): the host rings the shadow */
    uint8_t sq_is_merged;   /* the same: both doorbells have to be watched */
    uint32_t sq_tail_merged;
    uint32_t sq_mmio_seen;
    uint32_t sq_shadow_seen;
    uint32_t cq_shadow_seen;
    uint32_t reserved;
};
ASSERT_SIZE(struct handover_queue, 56);

/* Asynchronous events of one type (5.2). */
struct handover_event {
    uint32_t pending; /* by information */
    uint8_t is_masked;
    uint8_t masked_log_page;
    uint8_t reserved[2];
    uint8_t log_page[32]; /* by information */
};
ASSERT_SIZE(struct handover_event, 40);

/* What the transport-free controller knows. */
struct handover_ctrl {
    uint32_t features[HANDOVER_FEATURES]; /* as Set Features left them */
    uint32_t host_memory[4];              /* cdw12 to cdw15 of Set Features 0Dh */
    uint64_t no_coalescing[2];            /* feature 09h: a bit for each vector */
    uint64_t timestamp_ms;                /* feature 0Eh at the time of saving */
    uint64_t changed_ns[LIMIT_NAMESPACES / 64];
    uint64_t error_count;
    uint64_t media_error_count;
    struct handover_event events[HANDOVER_EVENTS];
    uint32_t mdts;
    uint16_t under_temperature_kelvin;
    uint8_t timestamp_is_set;
    uint8_t host_acre;
    uint8_t io_queue_created;
    uint8_t reserved[7];
};
ASSERT_SIZE(struct handover_ctrl, 776);

struct handover_piece {
    uint64_t host_addr;
    uint32_t len_bytes;
    uint32_t reserved;
};
ASSERT_SIZE(struct handover_piece, 16);

/* What a function is; but for READY, nothing counts that follows `is_ready`. */
#define HANDOVER_DISABLED  0u /* or it waits for an enable or a reset that the registers tell */
#define HANDOVER_READY     1u /* RDY is set, queues are served */
#define HANDOVER_SHUT_DOWN 2u /* RDY is set, SHST is complete, there are no queues */

struct handover_function {
    uint64_t cap; /* the host has read it: the next image's must be the same */
    uint64_t asq;
    uint64_t acq;
    uint32_t cc;
    uint32_t csts;
    uint32_t aqa;
    uint16_t fn;
    uint16_t cntlid;
    uint8_t is_ready; /* HANDOVER_* */
    uint8_t has_dbbuf;
    uint16_t aer_count;
    uint16_t aer_cids[HANDOVER_AERS];
    uint32_t piece_count; /* Host Memory Buffer; 0: none */
    uint64_t shadow_addr; /* doorbell buffers (5.7) */
    uint64_t event_idx_addr;
    struct handover_ctrl ctrl;
    struct handover_queue queues[HANDOVER_QUEUES];
    struct handover_piece pieces[LIMIT_HMB_PIECES];
};
ASSERT_SIZE(struct handover_function, 80 + 776 + 56 * HANDOVER_QUEUES + 16 * LIMIT_HMB_PIECES);

struct handover {
    uint32_t magic;
    uint32_t version;
    uint32_t size_bytes; /* of all */
    uint32_t crc;        /* CRC-32 of all that follows */
    uint32_t function_count;
    uint32_t reserved;
    uint64_t reserved1;
    struct handover_function functions[LIMIT_FUNCTIONS];
};

#endif
