/*
 * `trace`: records of all cores, decoded; I/Os with the times of their stages; what is recorded.
 */
#include "command.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "text.h"
#include "trace.h"

#define CORE_MAX_BYTES (16u << 20)

static const struct {
    const char *word;
    uint32_t bit;
} classes[] = {{"sched", TRACE_CLASS_SCHED},
               {"control", TRACE_CLASS_CONTROL},
               {"io", TRACE_CLASS_IO},
               {"fault", TRACE_CLASS_FAULT}};

/* "io,control", "all", "none" -> bits. */
static bool parse_classes(const char *text, uint32_t *bits)
{
    char copy[128];
    char *rest = copy;

    *bits = 0;
    snprintf(copy, sizeof(copy), "%s", text);
    for (char *word = strsep(&rest, ","); word != NULL; word = strsep(&rest, ",")) {
        bool is_found = strcasecmp(word, "none") == 0;
        if (strcasecmp(word, "all") == 0) {
            *bits = TRACE_CLASS_ALL;
            is_found = true;
        }
        for (uint32_t i = 0; i < ARRAY_SIZE(classes); i++) {
            if (strcasecmp(word, classes[i].word) == 0) {
                *bits |= classes[i].bit;
                is_found = true;
            }
        }
        if (!is_found) {
            fault_say(FAULT_USAGE, "%s: no class; there are sched, control, io, fault, all, none",
                      word);
            return false;
        }
    }
    return true;
}

static enum fault set_classes(struct call *call, uint32_t bits, uint32_t *before)
{
    if (!client_has_action(call->client, MGMT_ACTION_TRACE)) {
        return not_from_here(call, "control of the trace");
    }
    enum fault fault = client_act(call->client, MGMT_ACTION_TRACE, &bits, sizeof(bits));
    *before = 0;
    if (fault == FAULT_NONE && call->client->answer_bytes >= sizeof(*before)) {
        memcpy(before, call->client->answer, sizeof(*before));
    }
    return fault;
}

/* "io, fault" */
static void put_classes(FILE *out, uint32_t bits)
{
    bool is_any = false;

    for (uint32_t i = 0; i < ARRAY_SIZE(classes); i++) {
        if ((bits & classes[i].bit) != 0) {
            fprintf(out, "%s%s", is_any ? "," : "", classes[i].word);
            is_any = true;
        }
    }
    fputs(is_any ? "" : "none", out);
}

/* Records I/Os for so long, then as before. */
static enum fault record_for(struct call *call, uint64_t seconds)
{
    struct timespec time = {.tv_sec = (time_t)seconds};
    uint32_t before;
    uint32_t ignored;

    enum fault fault =
        set_classes(call, TRACE_CLASS_IO | TRACE_CLASS_CONTROL | TRACE_CLASS_FAULT, &before);
    if (fault != FAULT_NONE) {
        return fault;
    }
    nanosleep(&time, NULL);
    return set_classes(call, before, &ignored);
}

static enum fault read_all(struct call *call, struct trace_set *set)
{
    uint32_t cores = call->client->hello.core_count;

    for (uint32_t core = 0; core < cores && core < LIMIT_CORES; core++) {
        uint8_t *bytes = NULL;
        size_t len = 0;
        enum fault fault = client_read_all(call->client, MGMT_OBJECT_TRACE, (uint16_t)core,
                                           CORE_MAX_BYTES, &bytes, &len, NULL);
        bool is_added = fault != FAULT_NONE || trace_add(set, core, bytes, len);
        free(bytes);
        if (fault != FAULT_NONE || !is_added) {
            return is_added ? fault : fault_say(FAULT_FAILED, "out of memory");
        }
    }
    trace_sort(set);
    return FAULT_NONE;
}

/* --- shown ----------------------------------------------------------------------------------- */

struct choice {
    const char *event; /* NULL: any */
    bool has_io;       /* records of this command alone */
    uint32_t io_id;
    bool is_ios; /* the table of I/Os */
    const char *perfetto;
};

static bool is_chosen(const struct choice *choice, const struct trace_record *record)
{
    const char *name = trace_event_name(record->event);

    if (choice->event != NULL && (name == NULL || strcasecmp(name, choice->event) != 0)) {
        return false;
    }
    bool is_of_command = record->event == TRACE_IO_FETCH || record->event == TRACE_IO_SUBMIT ||
                         record->event == TRACE_IO_DONE || record->event == TRACE_BAD_ADDRESS ||
                         record->event == TRACE_BAD_COMMAND;
    return !choice->has_io || (is_of_command && record->id == choice->io_id);
}

static void show_records(struct call *call, const struct trace_set *set,
                         const struct choice *choice)
{
    uint64_t last_ns = 0;
    char arguments[160];

    for (uint32_t i = 0; i < set->count; i++) {
        const struct trace_record *r = &set->entries[i].record;
        const char *name = trace_event_name(r->event);
        if (!is_chosen(choice, r)) {
            continue;
        }
        trace_arguments(r, arguments, sizeof(arguments));
        fprintf(call->out, "%14.6f  ", (double)r->time_ns / 1e9);
        if (last_ns == 0) {
            fprintf(call->out, "%12s", "");
        } else {
            fprintf(call->out, "%+12.3f", (double)(r->time_ns - last_ns) / 1e3);
        }
        fprintf(call->out, " us  core %u fn %u  ", set->entries[i].core, r->fn);
        if (name != NULL) {
            fprintf(call->out, "%-14s %s\n", name, arguments);
        } else {
            fprintf(call->out, "event %-8u %s\n", r->event, arguments);
        }
        last_ns = r->time_ns;
    }
}

static void add_span(struct table *table, uint64_t from_ns, uint64_t to_ns)
{
    char text[32];

    if (from_ns == 0 || to_ns < from_ns || to_ns == 0) {
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

/* Without records of IO_SUBMIT its stages are not known: no columns then. */
static void add_io(struct table *table, const struct trace_io *io, bool has_stages)
{
    char text[48];
    const char *opcode = io->is_fetched ? trace_opcode_name(io->opcode) : NULL;

    snprintf(text, sizeof(text), "%.6f",
             (double)(io->is_fetched ? io->fetch_ns : io->done_ns) / 1e9);
    table_add(table, text, true);
    add_number(table, "%" PRIu64, io->fn);
    add_number(table, "%" PRIu64, io->core);
    snprintf(text, sizeof(text), "%u.%u", io->sqid, io->cid);
    table_add(table, text, false);
    snprintf(text, sizeof(text), "opcode 0x%02x", io->opcode);
    table_add(table, !io->is_fetched ? "?" : opcode != NULL ? opcode : text, false);
    add_number(table, "%" PRIu64, io->nsid);
    add_number(table, "%" PRIu64, io->slba);
    if (has_stages) {
        add_span(table, io->fetch_ns, io->submit_ns);
        add_span(table, io->submit_ns, io->done_ns);
    }
    add_span(table, io->fetch_ns, io->done_ns);
    add_span(table, io->done_ns, io->irq_ns);
    if (io->is_done) {
        text_ns(text, sizeof(text), io->duration_ns);
        table_add(table, text, true);
        add_number(table, io->status == 0 ? "ok" : "0x%04" PRIx64, io->status);
    } else {
        table_add(table, "under way", true);
        table_add(table, NULL, true);
    }
}

static void show_ios(struct call *call, const struct trace_ios *ios, const struct choice *choice)
{
    static const struct {
        const char *title;
        bool is_text;
        bool is_stage;
    } columns[] = {
        {"fetched at", false, false}, {"fn", false, false},     {"core", false, false},
        {"sq.cid", true, false},      {"command", true, false}, {"nsid", false, false},
        {"slba", false, false},       {"decode", false, true},  {"backend", false, true},
        {"to done", false, false},    {"to irq", false, false}, {"latency", false, false},
        {"status", false, false},
    };
    struct table table;
    bool has_stages = false;

    for (uint32_t i = 0; i < ios->count; i++) {
        has_stages = has_stages || ios->ios[i].submit_ns != 0;
    }
    table_start(&table, ARRAY_SIZE(columns) - (has_stages ? 0 : 2));
    for (uint32_t i = 0; i < ARRAY_SIZE(columns); i++) {
        if (has_stages || !columns[i].is_stage) {
            table_add(&table, columns[i].title, !columns[i].is_text);
        }
    }
    for (uint32_t i = 0; i < ios->count; i++) {
        const struct trace_io *io = &ios->ios[i];
        if (!choice->has_io || ((uint32_t)io->sqid << 16 | io->cid) == choice->io_id) {
            add_io(&table, io, has_stages);
        }
    }
    table_print(&table, call->out);
}

static void json_ns(struct json *json, const char *name, uint64_t ns)
{
    if (ns == 0) {
        json_null(json, name);
    } else {
        json_uint(json, name, ns);
    }
}

static void json_ios(struct json *json, const struct trace_ios *ios)
{
    json_open(json, "ios", '[');
    for (uint32_t i = 0; i < ios->count; i++) {
        const struct trace_io *io = &ios->ios[i];
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
        json_ns(json, "done_ns", io->done_ns);
        json_ns(json, "irq_ns", io->irq_ns);
        json_ns(json, "duration_ns", io->duration_ns);
        json_bool(json, "done", io->is_done);
        json_uint(json, "status", io->status);
        json_close(json, '}');
    }
    json_close(json, ']');
}

static void show_json(struct call *call, const struct trace_set *set, const struct trace_ios *ios,
                      const struct choice *choice)
{
    struct json json;

    reply_start(call, &json);
    json_open(&json, "trace", '[');
    for (uint32_t i = 0; i < set->count; i++) {
        const struct trace_record *r = &set->entries[i].record;
        const char *name = trace_event_name(r->event);
        if (!is_chosen(choice, r)) {
            continue;
        }
        json_open_flat(&json, NULL, '{');
        json_uint(&json, "time_ns", r->time_ns);
        json_uint(&json, "core", set->entries[i].core);
        json_uint(&json, "fn", r->fn);
        json_uint(&json, "event", r->event);
        if (name != NULL) {
            json_text(&json, "name", name);
        } else {
            json_null(&json, "name");
        }
        json_uint(&json, "id", r->id);
        json_uint(&json, "a", r->a);
        json_uint(&json, "b", r->b);
        json_close(&json, '}');
    }
    json_close(&json, ']');
    json_ios(&json, ios);
    reply_end(&json);
}

static enum fault write_perfetto(struct call *call, const struct trace_set *set,
                                 const struct trace_ios *ios, const char *path)
{
    FILE *file = fopen(path, "w");

    if (file == NULL) {
        return fault_say(FAULT_FAILED, "%s: %s", path, strerror(errno));
    }
    trace_perfetto(set, ios, file);
    if (fclose(file) != 0) {
        return fault_say(FAULT_FAILED, "%s: %s", path, strerror(errno));
    }
    fprintf(call->out, "%s: %u records, %u I/Os; ui.perfetto.dev opens it\n", path, set->count,
            ios->count);
    return FAULT_NONE;
}

/* --- the command ----------------------------------------------------------------------------- */

static enum fault parse_io(const char *text, struct choice *choice)
{
    unsigned sqid;
    unsigned cid;
    char end;

    if (text == NULL) {
        return FAULT_NONE;
    }
    if (sscanf(text, "%u.%u%c", &sqid, &cid, &end) != 2 || sqid > 65535 || cid > 65535) {
        return fault_say(FAULT_USAGE, "--io %s: expected SQID.CID, as `trace --ios` shows it",
                         text);
    }
    choice->has_io = true;
    choice->io_id = sqid << 16 | cid;
    return FAULT_NONE;
}

static enum fault show(struct call *call, const struct choice *choice)
{
    struct trace_set set = {0};
    struct trace_ios ios = {0};

    enum fault fault = read_all(call, &set);
    if (fault == FAULT_NONE && !trace_find_ios(&set, &ios)) {
        fault = fault_say(FAULT_FAILED, "out of memory");
    }
    if (fault == FAULT_NONE && choice->perfetto != NULL) {
        fault = write_perfetto(call, &set, &ios, choice->perfetto);
    } else if (fault == FAULT_NONE && call->options->is_json) {
        show_json(call, &set, &ios, choice);
    } else if (fault == FAULT_NONE && choice->is_ios) {
        reply_hung(call);
        show_ios(call, &ios, choice);
    } else if (fault == FAULT_NONE) {
        reply_hung(call);
        show_records(call, &set, choice);
    }
    free(set.entries);
    free(ios.ios);
    return fault;
}

enum fault cmd_trace(struct call *call)
{
    const char *enable = args_value(call, "--enable");
    uint64_t seconds = args_number(call, "--record", 3600, 0);
    const char *io = args_value(call, "--io");
    struct choice choice = {
        .event = args_value(call, "--event"),
        .is_ios = args_flag(call, "--ios"),
        .perfetto = args_value(call, "--perfetto"),
    };
    uint32_t bits = 0;
    uint32_t before;

    enum fault fault = args_done(call, 0, 0);
    if (fault == FAULT_NONE) {
        fault = parse_io(io, &choice);
    }
    if (fault == FAULT_NONE && (enable != NULL || choice.perfetto != NULL)) {
        fault = args_no_json(call, enable != NULL ? "trace --enable" : "trace --perfetto");
    }
    if (fault == FAULT_NONE && !client_has_object(call->client, MGMT_OBJECT_TRACE)) {
        fault = not_from_here(call, "trace");
    }
    if (fault == FAULT_NONE && enable != NULL) {
        if (!parse_classes(enable, &bits)) {
            return FAULT_USAGE;
        }
        fault = set_classes(call, bits, &before);
        if (fault == FAULT_NONE) {
            fputs("recorded from now on: ", call->out);
            put_classes(call->out, bits);
            fputs("; before: ", call->out);
            put_classes(call->out, before);
            fputc('\n', call->out);
        }
        return fault;
    }
    if (fault == FAULT_NONE && seconds > 0) {
        fault = record_for(call, seconds);
    }
    return fault != FAULT_NONE ? fault : show(call, &choice);
}
