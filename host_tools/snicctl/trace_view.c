#include "trace_view.h"

#include <inttypes.h>
#include <string.h>
#include "text.h"

#define NO_RECORDS \
    " in the trace: `--record SECONDS` records I/Os first; old records are overwritten"

static uint32_t id_of(const struct trace_io *io)
{
    return (uint32_t)io->sqid << 16 | io->cid;
}

static bool is_shown(const struct trace_io *io, const struct trace_choice *choice)
{
    return choice->has_io ? id_of(io) == choice->io_id : io->sqid != 0;
}

/* It tells of the chosen I/O. */
static bool is_its_irq(const struct trace_ios *ios, const struct trace_record *r, uint32_t io_id)
{
    for (uint32_t i = 0; i < ios->count; i++) {
        const struct trace_io *io = &ios->ios[i];
        if (id_of(io) == io_id && io->fn == r->fn && io->irq_ns == r->time_ns &&
            (!ios->has_posts || io->vector == r->id)) {
            return true;
        }
    }
    return false;
}

static bool is_chosen(const struct trace_ios *ios, const struct trace_choice *choice,
                      const struct trace_entry *entry)
{
    const struct trace_record *r = &entry->record;
    const char *name = trace_event_name(r->event);

    if (choice->event != NULL && (name == NULL || strcasecmp(name, choice->event) != 0)) {
        return false;
    }
    if (!choice->has_io) {
        return true;
    }
    return r->event == TRACE_IRQ_RAISE
               ? is_its_irq(ios, r, choice->io_id)
               : entry->io != TRACE_NO_IO && id_of(&ios->ios[entry->io]) == choice->io_id;
}

/* --- records --------------------------------------------------------------------------------- */

static void put_since(FILE *out, bool is_known, uint64_t from_ns, uint64_t to_ns)
{
    if (is_known && to_ns >= from_ns) {
        fprintf(out, "  %+14.3f", (double)(to_ns - from_ns) / 1e3);
    } else {
        fprintf(out, "  %14s", "");
    }
}

static const char *command_name(const struct trace_io *io, char *room, size_t room_bytes)
{
    const char *name = io->is_fetched ? trace_opcode_name(io->sqid, io->opcode) : "?";

    if (name == NULL) {
        snprintf(room, room_bytes, "opcode 0x%02x", io->opcode);
    }
    return name == NULL ? room : name;
}

/* Before the first record of a command that is followed. */
static void put_io_head(FILE *out, const struct trace_io *io)
{
    char name[32];

    fprintf(out, "\n%u.%u of function %u: %s nsid %u slba %" PRIu64, io->sqid, io->cid, io->fn,
            command_name(io, name, sizeof(name)), io->nsid, io->slba);
    if (io->len_bytes > 0) {
        fprintf(out, ", %u bytes", io->len_bytes);
    }
    fputs(io->is_done ? "\n" : ", under way\n", out);
}

static void put_record(FILE *out, const struct trace_entry *entry, const struct trace_io *io,
                       uint64_t last_ns)
{
    const struct trace_record *r = &entry->record;
    const char *name = trace_event_name(r->event);
    char arguments[160];
    char number[24];

    trace_arguments(r, arguments, sizeof(arguments));
    snprintf(number, sizeof(number), "event %u", r->event);
    fprintf(out, "%14.6f", (double)r->time_ns / 1e9);
    put_since(out, last_ns != 0, last_ns, r->time_ns);
    put_since(out, io != NULL && io->is_fetched, io == NULL ? 0 : io->fetch_ns, r->time_ns);
    fprintf(out, "  %4u  %2u  %-13s%s%s\n", entry->core, r->fn, name == NULL ? number : name,
            arguments[0] == '\0' ? "" : " ", arguments);
}

void trace_show_records(struct call *call, const struct trace_set *set, const struct trace_ios *ios,
                        const struct trace_choice *choice)
{
    uint64_t last_ns = 0;
    const struct trace_io *last_io = NULL;
    uint32_t shown = 0;

    for (uint32_t i = 0; i < set->count; i++) {
        shown += is_chosen(ios, choice, &set->entries[i]);
    }
    if (shown == 0) {
        fprintf(call->out, "no such records%s\n", NO_RECORDS);
        return;
    }
    fprintf(call->out, "%14s  %14s  %14s  core  fn  event\n", "time, s", "since last, us",
            "since fetch");
    for (uint32_t i = 0; i < set->count; i++) {
        const struct trace_entry *entry = &set->entries[i];
        if (!is_chosen(ios, choice, entry)) {
            continue;
        }
        const struct trace_io *io = entry->io == TRACE_NO_IO ? NULL : &ios->ios[entry->io];
        if (choice->has_io && io != NULL && io != last_io) {
            put_io_head(call->out, io);
            last_io = io;
            last_ns = 0;
        }
        /* The interrupt that follows belongs to the one that is followed. */
        put_record(call->out, entry, choice->has_io && io == NULL ? last_io : io, last_ns);
        last_ns = entry->record.time_ns;
    }
}

/* --- I/Os ------------------------------------------------------------------------------------ */

/* Columns that only some traces fill. */
struct columns {
    bool stages[TRACE_STAGE_COUNT];
    bool has_sends, has_waits, has_faults;
    const char *backend; /* NULL: no I/O has that stage */
};

static struct columns find_columns(const struct trace_ios *ios, const struct trace_choice *choice)
{
    struct columns columns = {.has_sends = false};
    uint64_t from_ns;
    uint64_t to_ns;

    for (uint32_t i = 0; i < ios->count; i++) {
        const struct trace_io *io = &ios->ios[i];
        if (!is_shown(io, choice)) {
            continue;
        }
        for (uint32_t k = 0; k < TRACE_STAGE_COUNT; k++) {
            columns.stages[k] =
                columns.stages[k] || trace_stage(io, (enum trace_stage)k, &from_ns, &to_ns);
        }
        columns.has_sends = columns.has_sends || io->send_count > 1;
        columns.has_waits = columns.has_waits || io->wait_count > 0;
        columns.has_faults = columns.has_faults || io->fault_count > 0;
        if (trace_stage(io, TRACE_STAGE_BACKEND, &from_ns, &to_ns)) {
            const char *name = trace_stage_name(io, TRACE_STAGE_BACKEND);
            bool is_same = columns.backend == NULL || strcmp(columns.backend, name) == 0;
            columns.backend = is_same ? name : "backend";
        }
    }
    return columns;
}

static void add_stage(struct table *table, const struct trace_io *io, enum trace_stage stage)
{
    char text[32];
    uint64_t from_ns;
    uint64_t to_ns;

    if (!trace_stage(io, stage, &from_ns, &to_ns)) {
        table_add(table, NULL, true);
        return;
    }
    text_ns(text, sizeof(text), to_ns - from_ns);
    table_add(table, text, true);
}

static void add_number(struct table *table, const char *format, uint64_t value)
{
    char text[48];

    snprintf(text, sizeof(text), format, value);
    table_add(table, text, true);
}

static void add_end(struct table *table, const struct trace_io *io)
{
    char text[48];

    if (io->is_done) {
        text_ns(text, sizeof(text), io->duration_ns);
        table_add(table, text, true);
        add_number(table, io->status == 0 ? "ok" : "0x%04" PRIx64, io->status);
    } else {
        table_add(table, "under way", true);
        table_add(table, NULL, true);
    }
}

static void add_io(struct table *table, const struct trace_io *io, const struct columns *columns)
{
    char text[48];

    snprintf(text, sizeof(text), "%.6f",
             (double)(io->is_fetched ? io->fetch_ns : io->done_ns) / 1e9);
    table_add(table, text, true);
    add_number(table, "%" PRIu64, io->fn);
    add_number(table, "%" PRIu64, io->core);
    snprintf(text, sizeof(text), "%u.%u", io->sqid, io->cid);
    table_add(table, text, false);
    table_add(table, command_name(io, text, sizeof(text)), false);
    add_number(table, "%" PRIu64, io->nsid);
    add_number(table, "%" PRIu64, io->slba);
    for (uint32_t i = 0; i < TRACE_STAGE_COUNT; i++) {
        if (columns->stages[i]) {
            add_stage(table, io, (enum trace_stage)i);
        }
    }
    add_end(table, io);
    if (columns->has_sends) {
        add_number(table, "%" PRIu64, io->send_count);
    }
    if (columns->has_waits) {
        add_number(table, "%" PRIu64, io->wait_count);
    }
    if (columns->has_faults) {
        add_number(table, "%" PRIu64, io->fault_count);
    }
}

/* At most so many columns. */
#define TITLES 20u

static uint32_t put_titles(const char **titles, const struct columns *columns)
{
    static const char *const first[] = {"fetched at", "fn",   "core", "sq.cid",
                                        "command",    "nsid", "slba"};
    const struct trace_io any = {.send_ns = 1};
    uint32_t count = 0;

    for (size_t i = 0; i < ARRAY_SIZE(first); i++) {
        titles[count++] = first[i];
    }
    for (uint32_t i = 0; i < TRACE_STAGE_COUNT; i++) {
        if (columns->stages[i]) {
            titles[count++] = i == TRACE_STAGE_BACKEND
                                  ? columns->backend
                                  : trace_stage_name(&any, (enum trace_stage)i);
        }
    }
    titles[count++] = "latency";
    titles[count++] = "status";
    if (columns->has_sends) {
        titles[count++] = "requests";
    }
    if (columns->has_waits) {
        titles[count++] = "waits";
    }
    if (columns->has_faults) {
        titles[count++] = "faults";
    }
    return count;
}

void trace_show_ios(struct call *call, const struct trace_ios *ios,
                    const struct trace_choice *choice)
{
    struct columns columns = find_columns(ios, choice);
    const char *titles[TITLES];
    uint32_t count = put_titles(titles, &columns);
    struct table table;

    uint32_t shown = 0;
    for (uint32_t i = 0; i < ios->count; i++) {
        shown += is_shown(&ios->ios[i], choice);
    }
    if (shown == 0) {
        fprintf(call->out, "no such I/Os%s\n", NO_RECORDS);
        return;
    }
    table_start(&table, count);
    for (uint32_t i = 0; i < count; i++) {
        bool is_text = strcmp(titles[i], "sq.cid") == 0 || strcmp(titles[i], "command") == 0;
        table_add(&table, titles[i], !is_text);
    }
    for (uint32_t i = 0; i < ios->count; i++) {
        if (is_shown(&ios->ios[i], choice)) {
            add_io(&table, &ios->ios[i], &columns);
        }
    }
    table_print(&table, call->out);
}

/* --- JSON ------------------------------------------------------------------------------------ */

static void json_ns(struct json *json, const char *name, uint64_t ns)
{
    if (ns == 0) {
        json_null(json, name);
    } else {
        json_uint(json, name, ns);
    }
}

static void json_io(struct json *json, const struct trace_io *io)
{
    json_open_flat(json, NULL, '{');
    json_uint(json, "fn", io->fn);
    json_uint(json, "core", io->core);
    json_uint(json, "sqid", io->sqid);
    json_uint(json, "cid", io->cid);
    json_uint(json, "opcode", io->opcode);
    json_uint(json, "nsid", io->nsid);
    json_uint(json, "slba", io->slba);
    json_ns(json, "fetch_ns", io->fetch_ns);
    json_ns(json, "submit_ns", io->submit_ns);
    json_ns(json, "send_ns", io->send_ns);
    json_ns(json, "back_ns", io->back_ns);
    json_ns(json, "done_ns", io->done_ns);
    json_ns(json, "post_ns", io->post_ns);
    json_ns(json, "irq_ns", io->irq_ns);
    json_ns(json, "duration_ns", io->duration_ns);
    json_bool(json, "done", io->is_done);
    json_uint(json, "status", io->status);
    json_uint(json, "requests", io->send_count);
    json_uint(json, "waits", io->wait_count);
    json_uint(json, "faults", io->fault_count);
    json_bool(json, "drive", io->is_drive);
    json_close(json, '}');
}

static void json_record(struct json *json, const struct trace_entry *entry)
{
    const struct trace_record *r = &entry->record;
    const char *name = trace_event_name(r->event);

    json_open_flat(json, NULL, '{');
    json_uint(json, "time_ns", r->time_ns);
    json_uint(json, "core", entry->core);
    json_uint(json, "fn", r->fn);
    json_uint(json, "event", r->event);
    if (name != NULL) {
        json_text(json, "name", name);
    } else {
        json_null(json, "name");
    }
    json_uint(json, "id", r->id);
    json_uint(json, "a", r->a);
    json_uint(json, "b", r->b);
    json_close(json, '}');
}

void trace_show_json(struct call *call, const struct trace_set *set, const struct trace_ios *ios,
                     const struct trace_choice *choice)
{
    struct json json;

    reply_start(call, &json);
    json_open(&json, "trace", '[');
    for (uint32_t i = 0; i < set->count; i++) {
        if (is_chosen(ios, choice, &set->entries[i])) {
            json_record(&json, &set->entries[i]);
        }
    }
    json_close(&json, ']');
    json_open(&json, "ios", '[');
    for (uint32_t i = 0; i < ios->count; i++) {
        if (is_shown(&ios->ios[i], choice)) {
            json_io(&json, &ios->ios[i]);
        }
    }
    json_close(&json, ']');
    reply_end(&json);
}
