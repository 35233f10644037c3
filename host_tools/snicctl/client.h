/*
 * Asks a board: tags, checksums, repetition, versions, paging. Whatever arrives is checked before
 * it is used; what makes no sense ends the question. All functions say on stderr what went wrong
 * and return the exit code.
 */
#ifndef SNICCTL_CLIENT_H
#define SNICCTL_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "fault.h"
#include "spec/mgmt.h"
#include "transport.h"

#define CLIENT_TOOL_VERSION "0.1"
#define CLIENT_BUSY_MS      5000u
#define CLIENT_PATIENCE_MS  180000u /* a full trace over a slow line needs some of it */

#define CLIENT_HUNG_TEXT                                                                          \
    "core 0 hangs; only these commands work: status, functions, queues, reactors, stats, slots, " \
    "top, log, trace, crash, doctor"
#define CLIENT_TENANT_TEXT                                                                     \
    "a host may see only its own function, and change nothing; use --console, or set options " \
    "{ in-band = \"all\"; } in the board's configuration"

struct client {
    struct transport *transport;
    struct mgmt_hello hello; /* fields that the firmware does not have are 0 */
    uint8_t version;         /* of messages that are sent */
    bool is_hung;            /* core 0 hangs: an interrupt handler has answered */
    bool is_quiet;           /* say nothing about refusals: the caller does */
    bool is_once;            /* a request is sent once, not again */
    bool is_silent;          /* the last one had no answer */
    uint32_t busy_ms;        /* how long BUSY is asked again */
    uint32_t patience_ms;    /* how long a whole list, or object, may take */
    uint8_t op;              /* of the last request */
    uint16_t what;           /* its class, object or action */
    uint32_t tag;
    uint32_t repeat_count;  /* requests that were sent again */
    uint64_t seen_ms;       /* when HELLO was answered last */
    uint32_t restart_count; /* restarts of the board that its age has shown */
    uint32_t late_tag;      /* of an action that has no answer yet; 0: none */
    bool is_late;           /* its answer came while another one was waited for */
    uint16_t late_status;
    uint32_t late_bytes;
    enum mgmt_status status; /* of the last answer */
    uint32_t answer_bytes;   /* payload of the last answer */
    uint8_t answer[MGMT_BAND_BYTES];
    uint8_t late[MGMT_BAND_BYTES];
};

/* Says HELLO. The transport stays the caller's. */
enum fault client_open(struct client *c, struct transport *transport);

/* HELLO, its answer into *hello. */
enum fault client_hello(struct client *c, struct mgmt_hello *hello);

/* HELLO again: c->hello, is_hung, restart_count. */
enum fault client_refresh(struct client *c);
/* The board was asked for its age at `asked_ms`, or later: counts a restart when c->hello is
 * younger than a board can be that had `age_ns` when it was seen, at `seen_ms` or before. */
void client_count_restart(struct client *c, uint64_t age_ns, uint64_t seen_ms, uint64_t asked_ms);

/* Which ones the firmware has and this way in allows. */
bool client_has_class(const struct client *c, enum mgmt_class class);
bool client_has_object(const struct client *c, enum mgmt_object object);
bool client_has_action(const struct client *c, enum mgmt_action action);

/* One request, `parts` one behind the other; the answer's payload is in c->answer until the next. A
 * status that is not OK is FAULT_FAILED (or what fits better), and said unless is_quiet. */
struct client_part {
    const void *bytes;
    uint32_t len_bytes;
};
enum fault client_ask(struct client *c, enum mgmt_op op, const struct client_part *parts,
                      uint32_t part_count);

/* Says why the last request was refused, as is_quiet keeps it from being said. Exit code. */
enum fault client_refusal(const struct client *c);
/* The answer is shorter than it must be, or contradicts itself: says what. */
enum fault client_nonsense(const struct client *c, const char *what);
void client_pause_ms(uint32_t ms);

/* The text with which a refusal says more; empty: none. Ends by a zero; up to the next request. */
const char *client_reason(const struct client *c);

/* --- LIST ---- */

struct client_rows {
    uint8_t *bytes; /* count records of record_bytes each */
    uint32_t count;
    uint32_t record_bytes; /* as the firmware has them */
};

/* All records of a class. The caller frees by client_free(), also after a fault. */
enum fault client_list(struct client *c, enum mgmt_class class, struct client_rows *rows);
void client_free(struct client_rows *rows);

/* --- READ, WRITE ---- */

struct client_piece {
    const uint8_t *bytes; /* in c->answer: until the next request */
    uint32_t len_bytes;
    uint64_t offset; /* of the first; above the one asked for: what was before is lost */
    uint64_t end;
    bool may_grow;
};
enum fault client_read(struct client *c, enum mgmt_object object, uint16_t part, uint64_t offset,
                       struct client_piece *piece);

/* The whole object up to its end as it is when reading begins, at most `max` bytes. The caller
 * frees *bytes. *offset (may be NULL): of the first byte. */
enum fault client_read_all(struct client *c, enum mgmt_object object, uint16_t part, size_t max,
                           uint8_t **bytes, size_t *len_bytes, uint64_t *offset);

/* Writes all pieces; `progress` (may be NULL) is told after each. */
enum fault client_write(struct client *c, enum mgmt_object object, const uint8_t *bytes,
                        size_t len_bytes, void (*progress)(size_t done, size_t all));

/* --- ACTION ---- */

/* Once: sent again only when the board says that it has not taken it, or has lost it. */
enum fault client_act(struct client *c, enum mgmt_action action, const void *arguments,
                      uint32_t len_bytes);

/* Runs a command of the console; gives each piece of what it prints to `show`. */
enum fault client_run(struct client *c, const char *line, uint32_t timeout_ms,
                      void (*show)(void *ctx, const char *text, size_t len), void *ctx);

#endif
