/*
 * Traces for people and for programs.
 */
#ifndef SNICCTL_TRACE_VIEW_H
#define SNICCTL_TRACE_VIEW_H

#include "command.h"
#include "trace.h"

struct trace_choice {
    const char *event; /* NULL: any */
    bool has_io;       /* records of this command alone */
    uint32_t io_id;    /* SQID << 16 | CID */
    bool is_ios;       /* the table of I/Os */
    const char *perfetto;
};

/* A record a line, with the time since the one before and since the fetch of its I/O. */
void trace_show_records(struct call *call, const struct trace_set *set, const struct trace_ios *ios,
                        const struct trace_choice *choice);
/* An I/O a line, with what each stage took; those of the admin queue only when one is chosen. */
void trace_show_ios(struct call *call, const struct trace_ios *ios,
                    const struct trace_choice *choice);
void trace_show_json(struct call *call, const struct trace_set *set, const struct trace_ios *ios,
                     const struct trace_choice *choice);

#endif
