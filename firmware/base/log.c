#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include "base/bits.h"

/* A line at 115200 baud takes 22 ms. Whoever waits much longer finds the holder stuck (a panic) and
 * writes without the lock. */
#define LOCK_TRIES 20000000u

static struct log_sink sink;
static _Atomic int max_level = LOG_LEVEL_INFO;
static _Atomic uint32_t lock_holder; /* core + 1; 0: free */
static _Atomic uint64_t line_count;
static _Atomic uint64_t suppressed_count;
static _Atomic uint64_t dropped_count;

static void count(_Atomic uint64_t *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

void log_set_sink(const struct log_sink *new_sink)
{
    if (new_sink == NULL) {
        sink = (struct log_sink){0};
    } else {
        sink = *new_sink;
    }
}

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&max_level, (int)level, memory_order_relaxed);
}

bool log_lock(void)
{
    if (sink.core == NULL) {
        return false;
    }
    uint32_t self = sink.core() + 1;

    for (uint32_t i = 0; i < LOCK_TRIES; i++) {
        uint32_t holder = 0;
        /* LOG-LOCK (acquire): pairs with LOG-UNLOCK. */
        if (atomic_compare_exchange_weak_explicit(&lock_holder, &holder, self, memory_order_acquire,
                                                  memory_order_relaxed)) {
            return true;
        }
        if (holder == self) {
            return false; /* an interrupt of this core in the middle of a line: no use to wait */
        }
    }
    return false;
}

void log_unlock(bool was_locked)
{
    if (was_locked) {
        /* LOG-UNLOCK (release): the device saw the line before the next holder writes. */
        atomic_store_explicit(&lock_holder, 0, memory_order_release);
    }
}

/* Appends; returns the new length, which says by exceeding the buffer that something was cut. */
static size_t append(char *line, size_t len_bytes, const char *format, va_list args)
    PRINTF_LIKE(3, 0);

static size_t append(char *line, size_t len_bytes, const char *format, va_list args)
{
    if (len_bytes >= LOG_LINE_BYTES) {
        return len_bytes;
    }
    int added = vsnprintf(line + len_bytes, LOG_LINE_BYTES - len_bytes, format, args);
    return added < 0 ? len_bytes : len_bytes + (size_t)added;
}

static size_t append_text(char *line, size_t len_bytes, const char *format, ...) PRINTF_LIKE(3, 4);

static size_t append_text(char *line, size_t len_bytes, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    len_bytes = append(line, len_bytes, format, args);
    va_end(args);
    return len_bytes;
}

/* Puts the newline (and the mark of a cut) and hands the line over. */
static void finish(char *line, size_t len_bytes)
{
    static const char cut[] = "...";

    if (len_bytes > LOG_LINE_BYTES - 1) {
        len_bytes = LOG_LINE_BYTES - 1;
        for (size_t i = 0; i < sizeof(cut) - 1; i++) {
            line[len_bytes - (sizeof(cut) - 1) + i] = cut[i];
        }
    }
    line[len_bytes++] = '\n';

    bool was_locked = log_lock();
    sink.write(line, len_bytes);
    log_unlock(was_locked);
    count(&line_count);
}

/* False when nobody wants the line. */
static bool wanted(enum log_level level)
{
    if ((int)level > atomic_load_explicit(&max_level, memory_order_relaxed)) {
        return false;
    }
    if (sink.write == NULL) {
        count(&dropped_count);
        return false;
    }
    return true;
}

static size_t start(char *line, enum log_level level)
{
    static const char letters[] = "EWID";
    uint64_t now_us = sink.now_ns() / 1000;

    return append_text(line, 0, "[%5u.%06u] %u %c ", (unsigned)(now_us / 1000000),
                       (unsigned)(now_us % 1000000), (unsigned)sink.core(), letters[level]);
}

void log_line(enum log_level level, const char *format, ...)
{
    char line[LOG_LINE_BYTES];

    if (!wanted(level)) {
        return;
    }
    va_list args;
    va_start(args, format);
    size_t len_bytes = append(line, start(line, level), format, args);
    va_end(args);
    finish(line, len_bytes);
}

bool log_limit_pass(struct log_limit *limit)
{
    uint64_t now_ns = sink.now_ns == NULL ? 0 : sink.now_ns();
    uint64_t start_ns = atomic_load_explicit(&limit->window_start_ns, memory_order_relaxed);

    /* One core opens the new window; a line that another counts meanwhile is lost at worst. */
    if (now_ns - start_ns >= LOG_LIMIT_WINDOW_NS &&
        atomic_compare_exchange_strong_explicit(&limit->window_start_ns, &start_ns, now_ns,
                                                memory_order_relaxed, memory_order_relaxed)) {
        atomic_store_explicit(&limit->line_count, 0, memory_order_relaxed);
    }
    /* Compared before it is counted, so that the count cannot wrap round to "few". */
    if (atomic_load_explicit(&limit->line_count, memory_order_relaxed) < LOG_LIMIT_BURST) {
        atomic_fetch_add_explicit(&limit->line_count, 1, memory_order_relaxed);
        return true;
    }
    atomic_fetch_add_explicit(&limit->suppressed_count, 1, memory_order_relaxed);
    count(&suppressed_count);
    return false;
}

void log_line_limited(struct log_limit *limit, enum log_level level, const char *format, ...)
{
    char line[LOG_LINE_BYTES];

    if (!wanted(level)) {
        return;
    }
    uint32_t suppressed =
        atomic_exchange_explicit(&limit->suppressed_count, 0, memory_order_relaxed);
    size_t len_bytes = start(line, level);
    if (suppressed > 0) {
        len_bytes =
            append_text(line, len_bytes, "(%u like this suppressed) ", (unsigned)suppressed);
    }
    va_list args;
    va_start(args, format);
    len_bytes = append(line, len_bytes, format, args);
    va_end(args);
    finish(line, len_bytes);
}

struct log_stats log_stats(void)
{
    return (struct log_stats){
        .line_count = atomic_load_explicit(&line_count, memory_order_relaxed),
        .suppressed_count = atomic_load_explicit(&suppressed_count, memory_order_relaxed),
        .dropped_count = atomic_load_explicit(&dropped_count, memory_order_relaxed),
    };
}
