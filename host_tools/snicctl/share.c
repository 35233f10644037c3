/*
 * What commands share: heads of replies, lists, files.
 */
#include "command.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SCHEMA_VERSION 1u

void reply_start(struct call *call, struct json *json)
{
    json_start(json, call->out);
    json_open(json, NULL, '{');
    json_uint(json, "schema", SCHEMA_VERSION);
    json_text(json, "command", call->command->name);
    if (call->client == NULL) {
        return;
    }
    const struct mgmt_hello *h = &call->client->hello;
    json_open_flat(json, "from", '{');
    json_text(json, "target", call->client->transport->name);
    json_text(json, "board", h->board);
    json_text(json, "firmware", h->firmware);
    json_text(json, "serial", h->serial);
    json_uint(json, "uptime_ns", h->uptime_ns);
    json_bool(json, "hung", call->client->is_hung);
    json_close(json, '}');
}

void reply_end(struct json *json)
{
    json_close(json, '}');
    json_end(json);
}

void reply_hung(struct call *call)
{
    if (call->client->is_hung) {
        fprintf(call->out, "CORE 0 HANGS: an interrupt handler has answered; `snicctl reactors` "
                           "names the poller\n");
    }
}

void json_lines(struct json *json, const char *name, const char *text, size_t len_bytes)
{
    const char *end = text + len_bytes;

    json_open(json, name, '[');
    while (text < end) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        const char *line_end = newline == NULL ? end : newline;
        size_t len = (size_t)(line_end - text);
        len -= len > 0 && text[len - 1] == '\r';
        json_text_len(json, NULL, text, len);
        text = line_end + 1;
    }
    json_close(json, ']');
}

/* --- lists ----------------------------------------------------------------------------------- */

enum fault not_from_here(struct call *call, const char *what)
{
    const struct client *c = call->client;

    if (c->is_hung) {
        return fault_say(FAULT_FAILED, "%s: %s: " CLIENT_HUNG_TEXT, c->transport->name, what);
    }
    if ((c->hello.may & MGMT_MAY_SEE_ALL) == 0) {
        return fault_say(FAULT_PERMISSION, "%s: %s: " CLIENT_TENANT_TEXT, c->transport->name, what);
    }
    return fault_say(FAULT_VERSION,
                     "%s: firmware %s on %s (messages %u to %u) does not know %s, as this tool "
                     "(" CLIENT_TOOL_VERSION ") does: update the firmware",
                     c->transport->name, c->hello.firmware, c->hello.board, c->hello.min_version,
                     c->hello.version, what);
}

enum fault list_class(struct call *call, enum mgmt_class class, struct client_rows *rows)
{
    memset(rows, 0, sizeof(*rows));
    if (!client_has_class(call->client, class)) {
        return not_from_here(call, record_of(class)->name);
    }
    return client_list(call->client, class, rows);
}

enum fault list_if_there(struct call *call, enum mgmt_class class, struct client_rows *rows)
{
    memset(rows, 0, sizeof(*rows));
    if (!client_has_class(call->client, class)) {
        return FAULT_NONE;
    }
    call->client->is_quiet = true;
    enum fault fault = client_list(call->client, class, rows);
    call->client->is_quiet = false;
    if (fault == FAULT_NONE || call->client->status == MGMT_OK) { /* else it was not said */
        return fault;
    }
    return call->client->status == MGMT_HUNG ? FAULT_NONE : client_refusal(call->client);
}

/* --- files ----------------------------------------------------------------------------------- */

static enum fault file_fault(const char *path)
{
    return fault_say(errno == EACCES ? FAULT_PERMISSION : FAULT_FAILED, "%s: %s", path,
                     strerror(errno));
}

enum fault file_read(const char *path, size_t max, uint8_t **bytes, size_t *len_bytes)
{
    FILE *file = fopen(path, "rb");
    size_t used = 0;

    *bytes = NULL;
    if (file == NULL) {
        return file_fault(path);
    }
    for (;;) {
        uint8_t *bigger = realloc(*bytes, used + 65537);
        if (bigger == NULL) {
            break;
        }
        *bytes = bigger;
        size_t count = fread(bigger + used, 1, 65536, file);
        used += count;
        bigger[used] = '\0';
        if (count == 0 || used > max) {
            break;
        }
    }
    bool is_bad = ferror(file) != 0;
    fclose(file);
    if (is_bad || used > max) {
        free(*bytes);
        *bytes = NULL;
        return is_bad ? file_fault(path)
                      : fault_say(FAULT_FAILED, "%s: larger than %zu bytes", path, max);
    }
    *len_bytes = used;
    return FAULT_NONE;
}

enum fault file_write(const char *path, const void *bytes, size_t len_bytes)
{
    if (strcmp(path, "-") == 0) {
        fwrite(bytes, 1, len_bytes, stdout);
        return fflush(stdout) == 0 ? FAULT_NONE : file_fault("stdout");
    }
    FILE *file = fopen(path, "wb");
    if (file == NULL) {
        return file_fault(path);
    }
    bool is_good = fwrite(bytes, 1, len_bytes, file) == len_bytes;
    is_good = fclose(file) == 0 && is_good;
    return is_good ? FAULT_NONE : file_fault(path);
}
