/*
 * Trace records (base/trace.h) of all cores, decoded; I/Os put together out of them.
 */
#ifndef SNICCTL_TRACE_H
#define SNICCTL_TRACE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "base/trace.h"

#define TRACE_NO_IO UINT32_MAX

struct trace_entry {
    struct trace_record record;
    uint32_t core;
    uint32_t order; /* in which it was added */
    uint32_t io;    /* index of its I/O; TRACE_NO_IO: of none */
    uint32_t next;  /* the next entry of the same I/O; 0: there is none */
};

struct trace_set {
    struct trace_entry *entries; /* by time */
    uint32_t count;
};

/* An I/O: from its fetch to its entry in the CQ. Times are ns, 0: not seen. */
struct trace_io {
    uint16_t fn;
    uint16_t sqid;
    uint16_t cid;
    uint8_t opcode;
    bool is_fetched; /* its beginning is in the trace */
    bool is_done;
    bool is_posted;
    bool is_drive; /* its requests went to a local drive */
    uint32_t core;
    uint32_t nsid;
    uint64_t slba;
    uint64_t fetch_ns;
    uint64_t submit_ns; /* first */
    uint64_t send_ns;   /* first request to a target or drive */
    uint64_t back_ns;   /* last response */
    uint64_t done_ns;
    uint64_t post_ns;
    uint64_t irq_ns;      /* the interrupt that tells of it */
    uint64_t duration_ns; /* as the firmware measured */
    uint16_t status;
    uint16_t vector;
    uint32_t len_bytes; /* 0: not known */
    uint32_t send_count;
    uint32_t fault_count; /* responses that were not good, refused addresses and commands */
    uint32_t wait_count;  /* the volume let it wait */
    uint32_t entry_count;
    uint32_t first, last; /* entries: trace_entry.next leads from one to the other */
};

struct trace_ios {
    struct trace_io *ios; /* in the order in which they began */
    uint32_t count;
    bool has_posts; /* the firmware tells of entries in CQs */
};

/* Stages: what goes on between two moments of an I/O. */
enum trace_stage {
    TRACE_STAGE_CONTROLLER, /* fetch to submit: parsed, checked, data mapped */
    TRACE_STAGE_VOLUME,     /* submit to first request: queues, waits for a path */
    TRACE_STAGE_BACKEND,    /* first request to last response: fabric and target, or drive */
    TRACE_STAGE_END,        /* last response to the end of the command */
    TRACE_STAGE_CQ,         /* end to the entry: room in the CQ */
    TRACE_STAGE_IRQ,        /* entry to interrupt */
    TRACE_STAGE_COUNT,
};

/* From and to of a stage, ns. False: not seen. */
bool trace_stage(const struct trace_io *io, enum trace_stage stage, uint64_t *from_ns,
                 uint64_t *to_ns);
const char *trace_stage_name(const struct trace_io *io, enum trace_stage stage);

/* Adds records of a core. False: no memory. */
bool trace_add(struct trace_set *set, uint32_t core, const uint8_t *bytes, size_t len_bytes);
/* In the order of their times. */
void trace_sort(struct trace_set *set);
/* Puts the I/Os together; says of each entry to which it belongs. False: no memory. */
bool trace_find_ios(struct trace_set *set, struct trace_ios *ios);

/* NULL: this tool does not know it. */
const char *trace_event_name(uint16_t event);
const char *trace_class_name(uint16_t event);
/* Of an I/O queue, or of the admin queue. */
const char *trace_opcode_name(uint16_t sqid, uint8_t opcode);

/* "sqid 1 cid 10, read nsid 1, slba 4096": the arguments with their names. */
void trace_arguments(const struct trace_record *record, char *out, size_t room_bytes);

/* Trace Event Format (JSON), which ui.perfetto.dev and chrome://tracing open. */
void trace_perfetto(const struct trace_set *set, const struct trace_ios *ios, FILE *out);

#endif
