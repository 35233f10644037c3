/*
 * Trace records (base/trace.h) of all cores, decoded; I/Os put together out of them.
 */
#ifndef SNICCTL_TRACE_H
#define SNICCTL_TRACE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "base/trace.h"

struct trace_entry {
    struct trace_record record;
    uint32_t core;
    uint32_t order; /* in which it was added */
};

struct trace_set {
    struct trace_entry *entries; /* by time */
    uint32_t count;
};

/* An I/O: from its fetch to its end. Times are ns, 0: not seen. */
struct trace_io {
    uint16_t fn;
    uint16_t sqid;
    uint16_t cid;
    uint8_t opcode;
    bool is_fetched; /* its beginning is in the trace */
    bool is_done;
    uint32_t core;
    uint32_t nsid;
    uint64_t slba;
    uint64_t fetch_ns;
    uint64_t submit_ns;
    uint64_t done_ns;
    uint64_t irq_ns;      /* the next interrupt of that core and function */
    uint64_t duration_ns; /* as the firmware measured */
    uint16_t status;
    uint32_t len_bytes; /* 0: not known */
    uint32_t fault_count;
};

struct trace_ios {
    struct trace_io *ios; /* in the order in which they began */
    uint32_t count;
};

/* Adds records of a core. False: no memory. */
bool trace_add(struct trace_set *set, uint32_t core, const uint8_t *bytes, size_t len_bytes);
/* In the order of their times. */
void trace_sort(struct trace_set *set);
bool trace_find_ios(const struct trace_set *set, struct trace_ios *ios);

/* NULL: this tool does not know it. */
const char *trace_event_name(uint16_t event);
const char *trace_class_name(uint16_t event);
const char *trace_opcode_name(uint8_t opcode);

/* "sqid 1 cid 10, read nsid 1, slba 4096": the arguments with their names. */
void trace_arguments(const struct trace_record *record, char *out, size_t room_bytes);

/* Trace Event Format (JSON), which ui.perfetto.dev and chrome://tracing open. */
void trace_perfetto(const struct trace_set *set, const struct trace_ios *ios, FILE *out);

#endif
