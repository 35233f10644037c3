/*
 * `schema`: the JSON schema of what --json prints, made from the same descriptions; docs/spec has a
 * copy. What is no record of management messages has its own part below.
 */
#include "command.h"

#include <string.h>

/* {"type": ["integer", "null"], "description": "..."} */
static void put_type(struct json *json, const char *name, const char *type, bool may_be_null,
                     const char *pattern, const char *help)
{
    json_open_flat(json, name, '{');
    if (may_be_null) {
        json_open(json, "type", '[');
        json_text(json, NULL, type);
        json_text(json, NULL, "null");
        json_close(json, ']');
    } else {
        json_text(json, "type", type);
    }
    if (pattern != NULL) {
        json_text(json, "pattern", pattern);
    }
    if (strcmp(type, "integer") == 0) {
        json_uint(json, "minimum", 0);
    }
    json_text(json, "description", help);
    json_close(json, '}');
}

static void put_field(struct json *json, const struct field *field)
{
    switch ((enum field_kind)field->kind) {
    case FIELD_UINT:
    case FIELD_INDEX:
    case FIELD_BYTES:
    case FIELD_NS:
        put_type(json, field->name, "integer", true, NULL, field->help);
        return;
    case FIELD_HEX:
        put_type(json, field->name, "string", true, "^0x[0-9a-f]+$", field->help);
        return;
    case FIELD_BOOL:
    case FIELD_BIT:
        put_type(json, field->name, "boolean", true, NULL, field->help);
        return;
    case FIELD_TEXT:
    case FIELD_STATE:
        put_type(json, field->name, "string", true, NULL, field->help);
        return;
    case FIELD_MAC:
        put_type(json, field->name, "string", true, "^([0-9a-f]{2}:){5}[0-9a-f]{2}$", field->help);
        return;
    case FIELD_UINTS:
    case FIELD_TEXTS:
        break;
    }
    json_open_flat(json, field->name, '{');
    json_text(json, "type", "array");
    json_open(json, "items", '{');
    json_text(json, "type", field->kind == FIELD_UINTS ? "integer" : "string");
    json_close(json, '}');
    json_text(json, "description", field->help);
    json_close(json, '}');
}

static void put_record(struct json *json, const struct record *record)
{
    json_open(json, record->singular, '{');
    json_text(json, "type", "object");
    json_text(json, "description", record->help);
    json_bool(json, "additionalProperties", false);
    json_open_flat(json, "required", '[');
    for (uint32_t i = 0; i < record->field_count; i++) {
        json_text(json, NULL, record->fields[i].name);
    }
    json_close(json, ']');
    json_open(json, "properties", '{');
    for (uint32_t i = 0; i < record->field_count; i++) {
        put_field(json, &record->fields[i]);
    }
    json_close(json, '}');
    json_close(json, '}');
}

/* An array of records, at the top. */
static void put_array(struct json *json, const struct record *record)
{
    char reference[64];

    snprintf(reference, sizeof(reference), "#/$defs/%s", record->singular);
    json_open_flat(json, record->name, '{');
    json_text(json, "type", "array");
    json_open(json, "items", '{');
    json_text(json, "$ref", reference);
    json_close(json, '}');
    json_close(json, '}');
}

/* Members of objects that are no records: where, name, type ("?": or null), what. */
static const struct {
    const char *object;
    const char *name;
    const char *type;
    const char *help;
} others[] = {
    {"from", "target", "string", "device or console that was asked"},
    {"from", "board", "string", "name of the board"},
    {"from", "firmware", "string", "version of the firmware"},
    {"from", "serial", "string", "serial number of the board"},
    {"from", "uptime_ns", "integer", "time since its start, ns"},
    {"from", "hung", "boolean", "core 0 hangs: an interrupt handler has answered"},
    {"board", "name", "string", "name of the board"},
    {"board", "firmware", "string", "version of the firmware"},
    {"board", "serial", "string", "serial number of the board"},
    {"board", "reset_cause", "string", "why it started"},
    {"board", "uptime_ns", "integer", "time since its start, ns"},
    {"board", "cores", "integer", "cores that run reactors"},
    {"board", "message_version", "integer", "newest messages that it speaks"},
    {"board", "message_min_version", "integer", "oldest messages that it speaks"},
    {"board", "boot_slot", "integer?", "slot that runs; null: started otherwise"},
    {"board", "trial", "boolean", "the firmware runs on trial"},
    {"board", "may_see_all", "boolean", "more than its own function is seen from here"},
    {"board", "may_change", "boolean", "changes are allowed from here"},
    {"board", "origin", "any", "\"console\", or the function whose host asks"},
    {"tool", "version", "string", "version of snicctl"},
    {"tool", "message_version", "integer", "newest messages that it speaks"},
    {"tool", "message_min_version", "integer", "oldest messages that it speaks"},
    {"crash", "text", "string", "what the panic said"},
    {"crash", "core", "integer", "core that panicked"},
    {"crash", "time_ns", "integer", "since its start, ns"},
    {"crash", "start_count", "integer", "starts since power-on"},
    {"crash", "panic_count", "integer", "panics since power-on"},
    {"crash", "esr", "string", "exception syndrome; 0x0: no exception"},
    {"crash", "far", "string", "address that faulted"},
    {"crash", "sp", "string", "stack pointer"},
    {"crash", "pstate", "string", "processor state"},
    {"crash", "x", "array", "registers x0 to x30"},
    {"crash", "frames", "array",
     "the panic's place and its callers: address, place (null: not known)"},
    {"config", "bytes", "integer", "bytes of the device tree"},
    {"config", "crc32", "string", "CRC-32 of the device tree"},
    {"config", "source", "string", "the tree as source"},
    {"image", "bytes", "integer", "bytes of the FIT"},
    {"image", "data_bytes", "integer", "bytes of the data that are signed"},
    {"image", "sha256", "string", "of the data"},
    {"image", "hash_good", "boolean", "the image says the same"},
    {"image", "signed", "boolean", "there is a signature"},
    {"image", "algorithm", "string", "of the signature"},
    {"image", "key_name", "string", "name of the key, a hint"},
    {"image", "signature_good", "boolean?",
     "it is by the key given by --key; null: none was given"},
    {"image", "head", "object?",
     "head in the data: board, version, security_version, load_addr, "
     "load_bytes, run_bytes; null: none"},
};

static void put_object(struct json *json, const char *object, bool may_be_null)
{
    json_open(json, object, '{');
    json_open_flat(json, "type", '[');
    json_text(json, NULL, "object");
    if (may_be_null) {
        json_text(json, NULL, "null");
    }
    json_close(json, ']');
    json_bool(json, "additionalProperties", false);
    json_open_flat(json, "required", '[');
    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        if (strcmp(others[i].object, object) == 0) {
            json_text(json, NULL, others[i].name);
        }
    }
    json_close(json, ']');
    json_open(json, "properties", '{');
    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        char type[16];
        if (strcmp(others[i].object, object) != 0) {
            continue;
        }
        size_t len = strcspn(others[i].type, "?");
        snprintf(type, sizeof(type), "%.*s", (int)len, others[i].type);
        if (strcmp(type, "any") == 0) {
            json_open_flat(json, others[i].name, '{');
            json_text(json, "description", others[i].help);
            json_close(json, '}');
        } else {
            put_type(json, others[i].name, type, others[i].type[len] == '?', NULL, others[i].help);
        }
    }
    json_close(json, '}');
    json_close(json, '}');
}

/* Arrays of small objects: the members of their elements, blank-separated; empty: texts. */
static const struct {
    const char *name;
    const char *members;
    const char *help;
} arrays[] = {
    {"log", "", "lines of the log"},
    {"output", "", "lines that the command has printed"},
    {"trace", "time_ns core fn event name id a b", "records by time; base/trace_events.h"},
    {"ios",
     "fn core sqid cid opcode nsid slba fetch_ns submit_ns send_ns back_ns done_ns post_ns irq_ns "
     "duration_ns done status requests waits faults drive",
     "commands of I/O queues: when each was fetched, submitted, first sent to a target or drive, "
     "last "
     "answered, done, posted, signalled; times that were not seen are null"},
    {"findings", "verdict what advice", "verdict: ok, note, warning, failed"},
    {"gids", "device port netdev up mtu index type address", "RDMA ports of this machine"},
    {"addresses", "node address kind reached why", "addresses of the configuration"},
};

static void put_small_array(struct json *json, const char *name, const char *members,
                            const char *help)
{
    char copy[320];
    char *rest = copy;

    snprintf(copy, sizeof(copy), "%s", members);
    json_open_flat(json, name, '{');
    json_text(json, "type", "array");
    json_text(json, "description", help);
    json_open(json, "items", '{');
    if (members[0] == '\0') {
        json_text(json, "type", "string");
    } else {
        json_text(json, "type", "object");
        json_open(json, "required", '[');
        for (char *word = strsep(&rest, " "); word != NULL; word = strsep(&rest, " ")) {
            json_text(json, NULL, word);
        }
        json_close(json, ']');
    }
    json_close(json, '}');
    json_close(json, '}');
}

static void put_top(struct json *json)
{
    static const char *const objects[] = {"from", "board", "tool", "crash", "config", "image"};

    put_type(json, "schema", "integer", false, NULL, "version of this schema: 1");
    json_open_flat(json, "command", '{');
    json_open(json, "enum", '[');
    for (const struct command *c = commands; c->name != NULL; c++) {
        if (c->has_json) {
            json_text(json, NULL, c->name);
        }
    }
    json_close(json, ']');
    json_close(json, '}');
    for (size_t i = 0; i < ARRAY_SIZE(objects); i++) {
        bool may_be_null = strcmp(objects[i], "crash") == 0 || strcmp(objects[i], "config") == 0;
        put_object(json, objects[i], may_be_null);
    }
    put_type(json, "offset", "integer", false, NULL, "log: bytes before the first line");
    put_type(json, "line", "string", false, NULL, "run: the command");
    put_type(json, "ok", "boolean", false, NULL,
             "run, ping, discover: it has done what it was asked");
    for (size_t i = 0; i < ARRAY_SIZE(arrays); i++) {
        put_small_array(json, arrays[i].name, arrays[i].members, arrays[i].help);
    }
    for (uint32_t i = 0; i < record_count(); i++) {
        put_array(json, record_at(i));
    }
}

enum fault cmd_schema(struct call *call)
{
    struct json json;
    enum fault fault = args_done(call, 0, 0);

    if (fault != FAULT_NONE) {
        return fault;
    }
    json_start(&json, call->out);
    json_open(&json, NULL, '{');
    json_text(&json, "$schema", "https://json-schema.org/draft/2020-12/schema");
    json_text(&json, "title", "snicctl --json");
    json_text(&json, "description",
              "One object. Made by `snicctl schema`. A value is null when the firmware does not "
              "have it or does not know it.");
    json_text(&json, "type", "object");
    json_bool(&json, "additionalProperties", false);
    json_open_flat(&json, "required", '[');
    json_text(&json, NULL, "schema");
    json_text(&json, NULL, "command");
    json_close(&json, ']');
    json_open(&json, "properties", '{');
    put_top(&json);
    json_close(&json, '}');
    json_open(&json, "$defs", '{');
    for (uint32_t i = 0; i < record_count(); i++) {
        put_record(&json, record_at(i));
    }
    json_close(&json, '}');
    json_close(&json, '}');
    json_end(&json);
    return FAULT_NONE;
}
