/*
 * Trace Event Format: processes are functions, threads are cores; an I/O is a nestable asynchronous
 * event whose stages are inside of it, everything else an instant. Times are us.
 */
#include "trace.h"

#include <inttypes.h>
#include "json.h"

static void start(struct json *json, const char *name, const char *class, const char *phase,
                  uint64_t time_ns, uint32_t fn, uint32_t core)
{
    json_open_flat(json, NULL, '{');
    json_text(json, "name", name);
    json_text(json, "cat", class);
    json_text(json, "ph", phase);
    json_double(json, "ts", (double)time_ns / 1000);
    json_uint(json, "pid", fn);
    json_uint(json, "tid", core);
}

static void put_name(struct json *json, const char *what, uint32_t fn, uint32_t core,
                     const char *name)
{
    start(json, what, "__metadata", "M", 0, fn, core);
    json_open(json, "args", '{');
    json_text(json, "name", name);
    json_close(json, '}');
    json_close(json, '}');
}

/* The functions and cores that there are. */
static void put_names(struct json *json, const struct trace_set *set)
{
    uint64_t seen[64] = {0};
    char name[32];

    for (uint32_t i = 0; i < set->count; i++) {
        uint32_t fn = set->entries[i].record.fn;
        uint32_t core = set->entries[i].core;
        if (fn >= ARRAY_SIZE(seen) || core >= 64 || (seen[fn] >> core & 1) != 0) {
            continue;
        }
        if (seen[fn] == 0) {
            snprintf(name, sizeof(name), "function %u", fn);
            put_name(json, "process_name", fn, core, name);
        }
        seen[fn] |= UINT64_C(1) << core;
        snprintf(name, sizeof(name), "core %u", core);
        put_name(json, "thread_name", fn, core, name);
    }
}

static void put_edge(struct json *json, const char *name, const char *class, const char *phase,
                     const struct trace_io *io, uint64_t id, uint64_t time_ns)
{
    start(json, name, class, phase, time_ns, io->fn, io->core);
    json_uint(json, "id", id);
    json_close(json, '}');
}

static void put_span(struct json *json, const char *name, const char *class,
                     const struct trace_io *io, uint64_t id, uint64_t from_ns, uint64_t to_ns)
{
    put_edge(json, name, class, "b", io, id, from_ns);
    put_edge(json, name, class, "e", io, id, to_ns);
}

/* When it has ended: with its entry in the CQ told, or done. */
static uint64_t end_of(const struct trace_io *io)
{
    uint64_t end_ns = io->post_ns > io->done_ns ? io->post_ns : io->done_ns;

    return io->irq_ns > end_ns ? io->irq_ns : end_ns;
}

static void put_io(struct json *json, const struct trace_io *io, uint32_t id)
{
    const char *opcode = trace_opcode_name(io->sqid, io->opcode);
    const char *name = opcode == NULL ? "command" : opcode;
    uint64_t from_ns;
    uint64_t to_ns;

    start(json, name, "io", "b", io->fetch_ns, io->fn, io->core);
    json_uint(json, "id", id);
    json_open(json, "args", '{');
    json_uint(json, "sqid", io->sqid);
    json_uint(json, "cid", io->cid);
    json_uint(json, "nsid", io->nsid);
    json_uint(json, "slba", io->slba);
    json_uint(json, "bytes", io->len_bytes);
    json_hex(json, "status", io->status, 4);
    json_close(json, '}');
    json_close(json, '}');
    for (uint32_t i = 0; i < TRACE_STAGE_COUNT; i++) {
        if (trace_stage(io, (enum trace_stage)i, &from_ns, &to_ns)) {
            put_span(json, trace_stage_name(io, (enum trace_stage)i), "io", io, id, from_ns, to_ns);
        }
    }
    put_edge(json, name, "io", "e", io, id, end_of(io));
}

/* The response to the request that `entry` is; NULL: it is not in the trace. */
static const struct trace_entry *find_response(const struct trace_set *set,
                                               const struct trace_entry *entry)
{
    uint16_t wanted =
        entry->record.event == TRACE_FABRIC_SEND ? TRACE_FABRIC_DONE : TRACE_DRIVE_DONE;

    for (uint32_t i = entry->next; i != 0; i = set->entries[i].next) {
        const struct trace_record *r = &set->entries[i].record;
        if (r->event == wanted && r->a == entry->record.a) {
            return &set->entries[i];
        }
    }
    return NULL;
}

/* Each request to a target or drive by itself: those of an I/O in parts overlap. */
static void put_requests(struct json *json, const struct trace_set *set, const struct trace_io *io)
{
    char name[64];

    for (uint32_t i = io->first, k = 0; k < io->entry_count; i = set->entries[i].next, k++) {
        const struct trace_entry *entry = &set->entries[i];
        const struct trace_record *r = &entry->record;
        bool is_send = r->event == TRACE_FABRIC_SEND || r->event == TRACE_DRIVE_SEND;
        const struct trace_entry *response = is_send ? find_response(set, entry) : NULL;
        if (response == NULL) {
            continue;
        }
        snprintf(name, sizeof(name), "%s %u qid %u cid %u",
                 r->event == TRACE_DRIVE_SEND ? "drive" : "cntlid", (unsigned)(r->a >> 32),
                 (unsigned)(r->a >> 16 & 0xffff), (unsigned)(r->a & 0xffff));
        put_span(json, name, "request", io, i, r->time_ns, response->record.time_ns);
    }
}

/* Told by the slices. */
static bool is_in_slices(uint16_t event)
{
    return event == TRACE_IO_FETCH || event == TRACE_IO_SUBMIT || event == TRACE_IO_DONE ||
           (event >= TRACE_FABRIC_SEND && event <= TRACE_IO_POST);
}

void trace_perfetto(const struct trace_set *set, const struct trace_ios *ios, FILE *out)
{
    struct json json;
    char arguments[160];
    char number[24];

    json_start(&json, out);
    json_open(&json, NULL, '{');
    json_text(&json, "displayTimeUnit", "ns");
    json_open(&json, "traceEvents", '[');
    put_names(&json, set);
    for (uint32_t i = 0; i < ios->count; i++) {
        if (ios->ios[i].is_fetched && ios->ios[i].is_done) {
            put_io(&json, &ios->ios[i], i + 1);
            put_requests(&json, set, &ios->ios[i]);
        }
    }
    for (uint32_t i = 0; i < set->count; i++) {
        const struct trace_record *record = &set->entries[i].record;
        const char *name = trace_event_name(record->event);
        bool is_sliced = set->entries[i].io != TRACE_NO_IO;
        is_sliced = is_sliced && ios->ios[set->entries[i].io].is_fetched &&
                    ios->ios[set->entries[i].io].is_done;
        if (is_sliced && is_in_slices(record->event)) {
            continue;
        }
        snprintf(number, sizeof(number), "event %u", record->event);
        trace_arguments(record, arguments, sizeof(arguments));
        start(&json, name == NULL ? number : name, trace_class_name(record->event), "i",
              record->time_ns, record->fn, set->entries[i].core);
        json_text(&json, "s", "t");
        json_open(&json, "args", '{');
        json_text(&json, "what", arguments);
        json_close(&json, '}');
        json_close(&json, '}');
    }
    json_close(&json, ']');
    json_close(&json, '}');
    json_end(&json);
}
