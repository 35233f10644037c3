/*
 * Objects of management messages: the log's text, trace, crash record, what a console command
 * printed, the configuration; and the actions.
 */
#include "app/handover.h"
#include "app/mgmt_priv.h"

#include <libfdt.h>
#include <stdatomic.h>
#include <string.h>
#include "app/console_priv.h"
#include "app/handover.h"
#include "app/update.h"
#include "base/log.h"
#include "base/trace.h"
#include "hal/clock.h"
#include "hal/console.h"
#include "hal/cpu.h"

#define LOG_BYTES 16384u /* a power of two */
/* What a reader may not trust while somebody writes on: a line, and one of a core that does not
 * wait for the lock. */
#define LOG_MARGIN     (2 * LOG_LINE_BYTES)
#define RESET_DELAY_NS (UINT64_C(100) * NS_PER_MS)

/* Copies from `bytes` what the reader asks for; `out` has the offset. */
static enum mgmt_status read_flat(const void *bytes, uint32_t len_bytes, struct mgmt_read *out,
                                  uint8_t *data)
{
    uint32_t offset = (uint32_t)min_u64(out->offset, len_bytes);

    out->offset = offset;
    out->end = len_bytes;
    out->data_bytes = min_u32(out->data_bytes, len_bytes - offset);
    if (out->data_bytes > 0) {
        memcpy(data, (const uint8_t *)bytes + offset, out->data_bytes);
    }
    return MGMT_OK;
}

/* --- log ------------------------------------------------------------------------------------- */

static struct {
    _Atomic uint64_t head; /* bytes ever written */
    char text[LOG_BYTES];
} kept;

/* Under the log's lock, but for a core that found its holder stuck. */
static void log_write(const char *bytes, size_t len_bytes)
{
    uint64_t head = atomic_load_explicit(&kept.head, memory_order_relaxed);

    for (size_t i = 0; i < len_bytes; i++) {
        kept.text[(head + i) % LOG_BYTES] = bytes[i];
    }
    /* LOG-KEEP (release): pairs with the acquire in app_mgmt_read_log(). */
    atomic_store_explicit(&kept.head, head + len_bytes, memory_order_release);
    console_write(bytes, len_bytes);
}

void app_mgmt_log_start(void)
{
    static const struct log_sink sink = {log_write, clock_now_ns, cpu_self};

    log_set_sink(&sink);
}

enum mgmt_status app_mgmt_read_log(uint16_t part, struct mgmt_read *out, uint8_t *data)
{
    uint64_t head = atomic_load_explicit(&kept.head, memory_order_acquire); /* LOG-KEEP */
    uint64_t oldest = head > LOG_BYTES - LOG_MARGIN ? head - (LOG_BYTES - LOG_MARGIN) : 0;

    (void)part;
    out->offset = max_u64(min_u64(out->offset, head), oldest);
    out->end = head;
    out->flags = MGMT_READ_GROWS;
    out->data_bytes = (uint32_t)min_u64(out->data_bytes, head - out->offset);
    for (uint32_t i = 0; i < out->data_bytes; i++) {
        data[i] = (uint8_t)kept.text[(out->offset + i) % LOG_BYTES];
    }
    return MGMT_OK;
}

/* --- trace, crash ---------------------------------------------------------------------------- */

enum mgmt_status app_mgmt_read_trace(uint16_t part, struct mgmt_read *out, uint8_t *data)
{
    uint64_t next = out->offset / sizeof(struct trace_record);
    uint32_t room = out->data_bytes / sizeof(struct trace_record);

    if (part >= sched_core_count()) {
        return MGMT_OUT_OF_RANGE;
    }
    uint32_t count = trace_read(part, &next, (struct trace_record *)(void *)data, room, NULL);
    out->flags = MGMT_READ_GROWS;
    out->data_bytes = count * (uint32_t)sizeof(struct trace_record);
    out->offset = (next - count) * sizeof(struct trace_record);
    out->end = atomic_load_explicit(&trace_rings[part].head, memory_order_relaxed) *
               sizeof(struct trace_record);
    return MGMT_OK;
}

enum mgmt_status app_mgmt_read_crash(uint16_t part, struct mgmt_read *out, uint8_t *data)
{
    (void)part;
    return read_flat(app.board->crash, app.board->crash_bytes, out, data);
}

/* --- console, configuration ------------------------------------------------------------------ */

enum mgmt_status app_mgmt_read_console(uint16_t part, struct mgmt_read *out, uint8_t *data)
{
    uint32_t len_bytes;
    const char *text = console_captured(&len_bytes);

    (void)part;
    out->flags = console_is_captured() ? MGMT_READ_GROWS : 0;
    return read_flat(text, len_bytes, out, data);
}

enum mgmt_status app_mgmt_read_config(uint16_t part, struct mgmt_read *out, uint8_t *data)
{
    /* Checked when it was opened, wherever it came from. */
    uint32_t len_bytes = app.has_tree ? fdt_totalsize(app.tree.blob) : 0;

    (void)part;
    return read_flat(app.has_tree ? app.tree.blob : NULL, len_bytes, out, data);
}

/* --- actions --------------------------------------------------------------------------------- */

enum mgmt_status app_mgmt_run(const struct mgmt_from *from, const uint8_t *arguments,
                              uint32_t len_bytes, uint8_t *answer, uint32_t *answer_bytes)
{
    (void)from;
    (void)answer;
    *answer_bytes = 0;
    for (uint32_t i = 0; i < len_bytes; i++) {
        if (arguments[i] < ' ' || arguments[i] > '~') {
            return MGMT_OUT_OF_RANGE;
        }
    }
    enum status status = console_run_captured((const char *)arguments, len_bytes);
    return status == STATUS_OK ? MGMT_OK : status == STATUS_AGAIN ? MGMT_BUSY : MGMT_OUT_OF_RANGE;
}

enum mgmt_status app_mgmt_reset(const struct mgmt_from *from, const uint8_t *arguments,
                                uint32_t len_bytes, uint8_t *answer, uint32_t *answer_bytes)
{
    (void)from;
    (void)arguments;
    (void)len_bytes;
    (void)answer;
    *answer_bytes = 0;
    LOG_LIMITED(WARN, "app: reset, as a management message asks");
    app_restart(RESET_DELAY_NS);
    return MGMT_OK;
}

enum mgmt_status app_mgmt_hand_over(const struct mgmt_from *from, const uint8_t *arguments,
                                    uint32_t len_bytes, uint8_t *answer, uint32_t *answer_bytes)
{
    static const char why[] =
        "its hosts cannot be kept: RAM disks, a host that has set Error Recovery, no function, no "
        "flash, or nothing that outlasts a reset";

    (void)from;
    (void)arguments;
    (void)len_bytes;
    *answer_bytes = 0;
    if (app_update_is_writing()) {
        return MGMT_BUSY;
    }
    enum status status = app_hand_over(RESET_DELAY_NS);
    if (status == STATUS_UNSUPPORTED) {
        *answer_bytes = sizeof(why) - 1;
        memcpy(answer, why, sizeof(why) - 1);
    }
    return status == STATUS_OK ? MGMT_OK : status == STATUS_AGAIN ? MGMT_BUSY : MGMT_REFUSED;
}

/* The one argument of 32 bits. */
static bool take_u32(const uint8_t *arguments, uint32_t len_bytes, uint32_t max, uint32_t *value)
{
    if (len_bytes < sizeof(*value)) {
        return false;
    }
    memcpy(value, arguments, sizeof(*value));
    return *value <= max;
}

enum mgmt_status app_mgmt_trace(const struct mgmt_from *from, const uint8_t *arguments,
                                uint32_t len_bytes, uint8_t *answer, uint32_t *answer_bytes)
{
    uint32_t before = atomic_load_explicit(&trace_classes, memory_order_relaxed);
    uint32_t classes;

    (void)from;
    *answer_bytes = 0;
    if (!take_u32(arguments, len_bytes, TRACE_CLASS_ALL, &classes)) {
        return MGMT_OUT_OF_RANGE;
    }
    trace_enable(classes);
    memcpy(answer, &before, sizeof(before));
    *answer_bytes = sizeof(before);
    return MGMT_OK;
}

enum mgmt_status app_mgmt_log_level(const struct mgmt_from *from, const uint8_t *arguments,
                                    uint32_t len_bytes, uint8_t *answer, uint32_t *answer_bytes)
{
    uint32_t level;

    (void)from;
    (void)answer;
    *answer_bytes = 0;
    if (!take_u32(arguments, len_bytes, LOG_LEVEL_DEBUG, &level)) {
        return MGMT_OUT_OF_RANGE;
    }
    log_set_level((enum log_level)level);
    return MGMT_OK;
}
