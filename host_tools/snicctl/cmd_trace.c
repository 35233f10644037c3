/*
 * `trace`: records of all cores, decoded; I/Os with the times of their stages; what is recorded.
 */
#include "command.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "trace_view.h"

#define CORE_MAX_BYTES (1u << 20) /* a ring has 32 KiB */

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

static enum fault parse_io(const char *text, struct trace_choice *choice)
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

/* "ADMIN_FETCH, ..." when it is no event that this tool knows. */
static enum fault check_event(const char *event)
{
    char *names = NULL;
    size_t len = 0;
    FILE *file = open_memstream(&names, &len);
    bool is_found = event == NULL;

    for (uint16_t i = 0; i < UINT8_MAX; i++) {
        const char *name = trace_event_name(i);
        if (name != NULL) {
            fprintf(file, " %s", name);
            is_found = is_found || strcasecmp(name, event) == 0;
        }
    }
    fclose(file);
    enum fault fault = is_found
                           ? FAULT_NONE
                           : fault_say(FAULT_USAGE, "--event %s: expected one of:%s", event, names);
    free(names);
    return fault;
}

static enum fault show(struct call *call, const struct trace_choice *choice)
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
        trace_show_json(call, &set, &ios, choice);
    } else if (fault == FAULT_NONE && choice->is_ios) {
        reply_hung(call);
        trace_show_ios(call, &ios, choice);
    } else if (fault == FAULT_NONE) {
        reply_hung(call);
        trace_show_records(call, &set, &ios, choice);
    }
    free(set.entries);
    free(ios.ios);
    return fault;
}

/* Options that would not be heeded. */
static enum fault check_together(const struct trace_choice *choice, const char *enable,
                                 uint64_t seconds)
{
    bool is_choosing = choice->event != NULL || choice->has_io || choice->is_ios;

    if (enable != NULL && (seconds > 0 || is_choosing || choice->perfetto != NULL)) {
        return fault_say(FAULT_USAGE, "--enable sets what is recorded, and shows nothing: alone");
    }
    return choice->perfetto != NULL && is_choosing
               ? fault_say(FAULT_USAGE,
                           "--perfetto writes all records: not with --event, --io, --ios")
               : FAULT_NONE;
}

enum fault cmd_trace(struct call *call)
{
    const char *enable = args_value(call, "--enable");
    uint64_t seconds = args_number(call, "--record", 3600, 0);
    const char *io = args_value(call, "--io");
    struct trace_choice choice = {
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
    if (fault == FAULT_NONE) {
        fault = check_event(choice.event);
    }
    if (fault == FAULT_NONE) {
        fault = check_together(&choice, enable, seconds);
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
