/*
 * Management messages (spec/mgmt.h, docs/spec/mgmt.md): takes a request, checks it, answers it out
 * of tables of classes, objects and actions that app fills in. Who may do what is decided here.
 *
 * mgmt_serve() has no state, no lock and no loop that a request can make long; it runs on core 0 in
 * a poller's turn, and in an interrupt handler of core 0 that looks in when that core hangs: then
 * it uses only what is marked is_hang_safe. Leaves out: how messages travel (mgmt/frame.h, nvme).
 */
#ifndef MGMT_MGMT_H
#define MGMT_MGMT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/compiler.h"
#include "spec/mgmt.h"
#include "spec/mgmt_record.h"

/* --- who asks -------------------------------------------------------------------------------- */

struct mgmt_from {
    uint16_t origin;      /* MGMT_ORIGIN_CONSOLE, or a function below 31 */
    bool may_see_all;     /* else: records of its own function and the board's public ones */
    bool may_change;      /* WRITE and ACTION, and READ of objects */
    bool is_hung;         /* in the interrupt handler */
    uint32_t message_max; /* bytes of a message on this way */
};

/* --- tables ---------------------------------------------------------------------------------- */

/* Who may see a record, a bit each: functions 0..30, and the board's own. 0: there is none. */
#define MGMT_OWNER_FN(fn) (UINT32_C(1) << (fn))
#define MGMT_OWNER_BOARD  (UINT32_C(1) << 31) /* who may see all */
#define MGMT_OWNER_PUBLIC UINT32_MAX

struct mgmt_class_table {
    uint16_t id;           /* enum mgmt_class */
    uint16_t record_bytes; /* a multiple of 8, at most MGMT_FRAME_BYTES - 40 */
    /* fill() and count() read single words that nobody frees, take no lock and write nothing but
     * the record: any moment, core 0 in whatever state, other cores running. */
    bool is_hang_safe;
    /* All records are the board's: who may not see all is told of none, and nothing is asked. */
    bool is_boards;
    /* Indices that may have a record: 0..count - 1. */
    uint32_t (*count)(void);
    /* Fills the zeroed record; returns its owners. */
    uint32_t (*fill)(uint32_t index, void *record);
    /* NULL, or called before index 0: OK; BUSY: ask again. */
    enum mgmt_status (*prepare)(void);
    /* NULL, or the owners of a record whose filling is dear: asked first. */
    uint32_t (*owners)(uint32_t index);
};

struct mgmt_object_table {
    uint16_t id;       /* enum mgmt_object */
    bool is_hang_safe; /* read() is, as fill() above */
    /* NULL: cannot. `out` says part, offset and, as data_bytes, how many there is room for; fills
     * in the rest. OUT_OF_RANGE: part. */
    enum mgmt_status (*read)(uint16_t part, struct mgmt_read *out, uint8_t *data);
    /* NULL: cannot. As of the request, checked to lie inside of it. */
    enum mgmt_status (*write)(const struct mgmt_from *from, uint64_t offset, const uint8_t *data,
                              uint32_t len_bytes);
};

struct mgmt_action_table {
    uint16_t id; /* enum mgmt_action */
    /* `arguments` is anything. *answer_bytes: room of `answer`, then what was put there; with a
     * status that is not OK a text. */
    enum mgmt_status (*run)(const struct mgmt_from *from, const uint8_t *arguments,
                            uint32_t len_bytes, uint8_t *answer, uint32_t *answer_bytes);
};

struct mgmt_tables {
    /* Board's part of the answer: what follows function_count. Hang safe. */
    void (*hello)(struct mgmt_hello *hello);
    const struct mgmt_class_table *classes;
    const struct mgmt_object_table *objects;
    const struct mgmt_action_table *actions;
    uint32_t class_count, object_count, action_count;
};

/* --- serve ----------------------------------------------------------------------------------- */

/* Indices of a class that one request looks at, at most. */
#define MGMT_SCAN_MAX 256u

/* Answers `len_bytes` at `request`, which may be anything and lie anywhere, into `response` (8-byte
 * aligned, from->message_max bytes, at least MGMT_FRAME_BYTES; not the request's memory). Returns
 * the response's length, a whole message in any case. Core 0. */
uint32_t mgmt_serve(const struct mgmt_tables *tables, const struct mgmt_from *from,
                    const void *request, uint32_t len_bytes, void *response);

/* For who makes requests himself (the log page): head and CRC around `payload_bytes` that lie
 * behind the head. Returns the length. */
uint32_t mgmt_seal(void *message, uint8_t op, uint32_t tag, uint32_t payload_bytes);

#endif
