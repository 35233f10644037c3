/*
 * `status`: the board at a glance, and what of it wants attention.
 */
#include "command.h"

#include <string.h>
#include "text.h"

struct picture {
    struct client_rows functions;
    struct client_rows volumes;
    struct client_rows paths;
    struct client_rows associations;
    struct client_rows ports;
    struct client_rows drives;
};

static const struct {
    enum mgmt_class class;
    size_t offset;
} parts[] = {
    {MGMT_CLASS_FUNCTION, offsetof(struct picture, functions)},
    {MGMT_CLASS_VOLUME, offsetof(struct picture, volumes)},
    {MGMT_CLASS_PATH, offsetof(struct picture, paths)},
    {MGMT_CLASS_ASSOCIATION, offsetof(struct picture, associations)},
    {MGMT_CLASS_PORT, offsetof(struct picture, ports)},
    {MGMT_CLASS_DRIVE, offsetof(struct picture, drives)},
};

static struct client_rows *rows_of(struct picture *p, uint32_t part)
{
    return (struct client_rows *)(void *)((char *)p + parts[part].offset);
}

static void json_board(struct call *call, struct json *json)
{
    const struct mgmt_hello *h = &call->client->hello;

    json_open(json, "board", '{');
    json_text(json, "name", h->board);
    json_text(json, "firmware", h->firmware);
    json_text(json, "serial", h->serial);
    json_text(json, "reset_cause", h->reset_cause);
    json_uint(json, "uptime_ns", h->uptime_ns);
    json_uint(json, "cores", h->core_count);
    json_uint(json, "message_version", h->version);
    json_uint(json, "message_min_version", h->min_version);
    if (h->boot_slot == 0xff) {
        json_null(json, "boot_slot");
    } else {
        json_uint(json, "boot_slot", h->boot_slot);
    }
    json_bool(json, "trial", h->is_trial != 0);
    json_bool(json, "may_see_all", (h->may & MGMT_MAY_SEE_ALL) != 0);
    json_bool(json, "may_change", (h->may & MGMT_MAY_CHANGE) != 0);
    if (h->origin == MGMT_ORIGIN_CONSOLE) {
        json_text(json, "origin", "console");
    } else {
        json_uint(json, "origin", h->origin);
    }
    json_close(json, '}');
}

static void put(FILE *out, const char *name, const char *text)
{
    fprintf(out, "%-12s", name);
    text_put(out, text, strlen(text), false);
    fputc('\n', out);
}

static void text_board(struct call *call)
{
    const struct mgmt_hello *h = &call->client->hello;
    char text[600];
    char uptime[32];

    text_uptime(uptime, sizeof(uptime), h->uptime_ns);
    snprintf(text, sizeof(text), "%s, serial number %s", h->board, h->serial);
    put(call->out, "board", text);
    snprintf(text, sizeof(text), "%s%s", h->firmware,
             h->is_trial ? " on trial: `snicctl confirm` keeps it" : "");
    put(call->out, "firmware", text);
    if (h->boot_slot != 0xff) {
        snprintf(text, sizeof(text), "%u", h->boot_slot);
        put(call->out, "slot", text);
    }
    snprintf(text, sizeof(text), "%s, after %s", uptime, h->reset_cause);
    put(call->out, "up", text);
    snprintf(text, sizeof(text), "%u", h->core_count);
    put(call->out, "cores", text);
    if (h->origin == MGMT_ORIGIN_CONSOLE) {
        snprintf(text, sizeof(text), "console %s", call->client->transport->name);
    } else {
        snprintf(text, sizeof(text), "in band, host of function %u%s", h->origin,
                 (h->may & MGMT_MAY_SEE_ALL) != 0 ? "" : ": sees its own alone");
    }
    put(call->out, "asked by", text);
}

enum fault cmd_status(struct call *call)
{
    struct picture picture = {0};
    struct json json;
    enum fault fault = args_done(call, 0, 0);

    for (uint32_t i = 0; i < ARRAY_SIZE(parts) && fault == FAULT_NONE; i++) {
        fault = list_if_there(call, parts[i].class, rows_of(&picture, i));
    }
    if (fault == FAULT_NONE && call->options->is_json) {
        reply_start(call, &json);
        json_board(call, &json);
        for (uint32_t i = 0; i < ARRAY_SIZE(parts); i++) {
            const struct record *record = record_of(parts[i].class);
            view_json(record, rows_of(&picture, i), &json, record->name);
        }
        reply_end(&json);
    } else if (fault == FAULT_NONE) {
        reply_hung(call);
        if (call->client->is_hung) {
            fprintf(call->out, "Volumes, paths, associations, ports and drives cannot be seen "
                               "meanwhile\n");
        }
        text_board(call);
        for (uint32_t i = 0; i < ARRAY_SIZE(parts); i++) {
            if (rows_of(&picture, i)->count > 0) {
                fputc('\n', call->out);
                view_table(record_of(parts[i].class), rows_of(&picture, i), call->out);
            }
        }
    }
    for (uint32_t i = 0; i < ARRAY_SIZE(parts); i++) {
        client_free(rows_of(&picture, i));
    }
    return fault;
}
