/*
 * Commands that show records, whatever they are: the class bears the command's name.
 */
#include "command.h"

#include <stdlib.h>
#include <string.h>

static enum fault bad_filter(const struct record *record, const char *where)
{
    char *names = NULL;
    size_t len = 0;
    FILE *file = open_memstream(&names, &len);

    for (uint32_t i = 0; i < record->field_count; i++) {
        fprintf(file, " %s", record->fields[i].name);
    }
    fclose(file);
    enum fault fault =
        fault_say(FAULT_USAGE, "--where %s: expected FIELD=VALUE, FIELD one of:%s", where, names);
    free(names);
    return fault;
}

static void show_text(struct call *call, const struct record *record,
                      const struct client_rows *rows, const char *where)
{
    if (rows->count == 0 && where != NULL) {
        fprintf(call->out, "no %s with %s\n", record->name, where);
    } else if (rows->count == 0) {
        fprintf(call->out, "%s\n", record->none);
    } else if (call->options->is_all) {
        view_blocks(record, rows, call->out);
    } else {
        view_table(record, rows, call->out);
    }
}

enum fault cmd_records(struct call *call)
{
    const struct record *record = record_by_name(call->command->name);
    const char *where = args_value(call, "--where");
    struct client_rows rows;
    struct json json;

    enum fault fault = args_done(call, 0, 0);
    if (fault != FAULT_NONE) {
        return fault;
    }
    fault = list_class(call, record->class, &rows);
    if (fault == FAULT_NONE && !view_filter(record, &rows, where)) {
        fault = bad_filter(record, where);
    }
    if (fault == FAULT_NONE && call->options->is_json) {
        reply_start(call, &json);
        view_json(record, &rows, &json, record->name);
        reply_end(&json);
    } else if (fault == FAULT_NONE) {
        reply_hung(call);
        show_text(call, record, &rows, where);
    }
    client_free(&rows);
    return fault;
}

enum fault cmd_reactors(struct call *call)
{
    const struct record *of_reactors = record_of(MGMT_CLASS_REACTOR);
    const struct record *of_pollers = record_of(MGMT_CLASS_POLLER);
    const char *where = args_value(call, "--where");
    struct client_rows reactors = {0};
    struct client_rows pollers = {0};
    struct json json;

    enum fault fault = args_done(call, 0, 0);
    if (fault == FAULT_NONE) {
        fault = list_class(call, MGMT_CLASS_REACTOR, &reactors);
    }
    if (fault == FAULT_NONE) {
        fault = list_class(call, MGMT_CLASS_POLLER, &pollers);
    }
    if (fault == FAULT_NONE && !view_filter(of_pollers, &pollers, where)) {
        fault = bad_filter(of_pollers, where);
    }
    if (fault == FAULT_NONE && call->options->is_json) {
        reply_start(call, &json);
        view_json(of_reactors, &reactors, &json, "reactors");
        view_json(of_pollers, &pollers, &json, "pollers");
        reply_end(&json);
    } else if (fault == FAULT_NONE) {
        reply_hung(call);
        show_text(call, of_reactors, &reactors, NULL);
        fputc('\n', call->out);
        show_text(call, of_pollers, &pollers, where);
    }
    client_free(&reactors);
    client_free(&pollers);
    return fault;
}

/* --- counters -------------------------------------------------------------------------------- */

static enum fault show_prometheus(struct call *call)
{
    const struct mgmt_hello *h = &call->client->hello;
    struct client_rows rows;
    enum fault fault = FAULT_NONE;

    fprintf(call->out, "# TYPE snic_uptime_seconds gauge\nsnic_uptime_seconds %.3f\n",
            (double)h->uptime_ns / 1e9);
    for (uint32_t i = 0; i < record_count() && fault == FAULT_NONE; i++) {
        const struct record *record = record_at(i);
        fault = list_if_there(call, record->class, &rows);
        if (fault == FAULT_NONE && record->class == MGMT_CLASS_STAT) {
            view_prometheus_stats(&rows, call->out);
        } else if (fault == FAULT_NONE) {
            view_prometheus(record, &rows, call->out);
        }
        client_free(&rows);
    }
    fprintf(call->out, "# TYPE snic_hung gauge\nsnic_hung %d\n", call->client->is_hung);
    return fault;
}

static void show_counters(struct call *call, const struct client_rows *rows)
{
    const struct record *record = record_of(MGMT_CLASS_STAT);
    char shown[256];

    for (uint32_t i = 0; i < rows->count; i++) {
        const uint8_t *row = rows->bytes + (size_t)i * rows->record_bytes;
        const char *last = "";
        for (uint32_t k = 0; k < record->field_count; k++) {
            const char *text =
                field_show(&record->fields[k], row, rows->record_bytes, shown, sizeof(shown));
            bool is_point = strcmp(record->fields[k].name, "name") == 0;
            bool is_value = strcmp(record->fields[k].name, "value") == 0;
            fprintf(call->out, "%s%s%s",
                    is_point   ? "."
                    : is_value ? " "
                               : "",
                    text == NULL ? (is_value ? "-" : "") : text, last);
        }
        fputc('\n', call->out);
    }
}

enum fault cmd_stats(struct call *call)
{
    bool is_prometheus = args_flag(call, "--prometheus");
    const char *where = args_value(call, "--where");
    const struct record *record = record_of(MGMT_CLASS_STAT);
    struct client_rows rows;
    struct json json;

    enum fault fault = args_done(call, 0, 0);
    if (fault == FAULT_NONE && is_prometheus) {
        fault = where != NULL ? fault_say(FAULT_USAGE, "--prometheus shows all numbers: no --where")
                              : args_no_json(call, "stats --prometheus");
    }
    if (fault != FAULT_NONE || is_prometheus) {
        return fault != FAULT_NONE ? fault : show_prometheus(call);
    }
    fault = list_class(call, MGMT_CLASS_STAT, &rows);
    if (fault == FAULT_NONE && !view_filter(record, &rows, where)) {
        fault = bad_filter(record, where);
    }
    if (fault == FAULT_NONE && call->options->is_json) {
        reply_start(call, &json);
        view_json(record, &rows, &json, record->name);
        reply_end(&json);
    } else if (fault == FAULT_NONE) {
        reply_hung(call);
        if (rows.count == 0) {
            show_text(call, record, &rows, where);
        }
        show_counters(call, &rows);
    }
    client_free(&rows);
    return fault;
}
