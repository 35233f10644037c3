/*
 * Log lines for people: "[seconds] core level module: text". Never per I/O (that is base/trace.h).
 *
 * What a host, a peer, a drive or a file can cause goes through LOG_LIMITED: a few lines per second
 * and place, the rest counted. Leaves out: storage, levels per module.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/compiler.h"

enum log_level {
    LOG_LEVEL_ERROR, /* something that should work does not */
    LOG_LEVEL_WARN,  /* it works, but somebody should look */
    LOG_LEVEL_INFO,  /* start-up and changes of state */
    LOG_LEVEL_DEBUG, /* for one who searches a bug */
};

/* A longer line is cut, its end marked by "...". */
#define LOG_LINE_BYTES 256

/* What the board gives; set once at start, before other cores run. */
struct log_sink {
    void (*write)(const char *bytes, size_t len_bytes); /* a whole line in one call */
    uint64_t (*now_ns)(void);
    uint32_t (*core)(void);
};

/* Until a sink is set, and with NULL, lines are dropped and counted. */
void log_set_sink(const struct log_sink *sink);

/* Lines above `level` are dropped. At start: LOG_LEVEL_INFO. Any core. */
void log_set_level(enum log_level level);

/* One line; `format` starts with "module: " and has no newline. Any core, any context: lines of
 * several cores do not mix, except when a holder of the console is stuck (then text goes before
 * order). */
void log_line(enum log_level level, const char *format, ...) PRINTF_LIKE(2, 3);

#define LOG_ERROR(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define LOG_WARN(...)  log_line(LOG_LEVEL_WARN, __VA_ARGS__)
#define LOG_INFO(...)  log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define LOG_DEBUG(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* Between these two nobody else's log lines go out: for text that must not be cut, frames. False:
 * the holder is stuck, or is what the calling interrupt handler has interrupted; go on all the
 * same. Any core, any context; waits as long as a line takes. */
bool log_lock(void);
void log_unlock(bool was_locked);

/* --- rate limit ---------------------------------------------------------------------------- */

#define LOG_LIMIT_BURST     5 /* lines of one place per window */
#define LOG_LIMIT_WINDOW_NS UINT64_C(1000000000)

/* One place in the source. All zero: fresh. */
struct log_limit {
    _Atomic uint64_t window_start_ns;
    _Atomic uint32_t line_count;       /* asked for in this window */
    _Atomic uint32_t suppressed_count; /* since the last line that passed */
};

/* True when a line may pass now; else it is counted. Any core. */
bool log_limit_pass(struct log_limit *limit);

/* As log_line(); tells how many lines were suppressed before this one. */
void log_line_limited(struct log_limit *limit, enum log_level level, const char *format, ...)
    PRINTF_LIKE(3, 4);

/* LOG_LIMITED(WARN, "nvme: bad opcode %02x", opcode) */
#define LOG_LIMITED(level, ...)                                                \
    do {                                                                       \
        static struct log_limit log_limit_here;                                \
        if (log_limit_pass(&log_limit_here)) {                                 \
            log_line_limited(&log_limit_here, LOG_LEVEL_##level, __VA_ARGS__); \
        }                                                                      \
    } while (0)

/* For reports. */
struct log_stats {
    uint64_t line_count;       /* given to the sink */
    uint64_t suppressed_count; /* held back by a limit */
    uint64_t dropped_count;    /* there was no sink */
};
struct log_stats log_stats(void);

#endif
