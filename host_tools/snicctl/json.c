#include "json.h"

#include <inttypes.h>
#include <string.h>
#include "text.h"

void json_start(struct json *json, FILE *out)
{
    *json = (struct json){.out = out};
}

void json_end(struct json *json)
{
    fputc('\n', json->out);
}

static void put_string(FILE *out, const char *text, size_t len_bytes)
{
    fputc('"', out);
    for (size_t i = 0; i < len_bytes;) {
        uint8_t c = (uint8_t)text[i];
        uint32_t count = text_char_bytes(text + i, len_bytes - i);
        if (c == '"' || c == '\\') {
            fprintf(out, "\\%c", c);
        } else if (count != 0) {
            fwrite(text + i, 1, count, out);
        } else if (c < 0x80) {
            fprintf(out, "\\u%04x", c);
        } else {
            fputs("\\ufffd", out);
        }
        i += count == 0 ? 1 : count;
    }
    fputc('"', out);
}

static void new_line(struct json *json)
{
    if (!json->is_flat) {
        fprintf(json->out, "\n%*s", (int)json->depth * 2, "");
    }
}

static void start_member(struct json *json, const char *name)
{
    if (json->has_member) {
        fputs(json->is_flat ? ", " : ",", json->out);
    }
    if (json->depth > 0 && (!json->is_flat || json->depth < json->flat_depth)) {
        new_line(json);
    }
    if (name != NULL) {
        put_string(json->out, name, strlen(name));
        fputs(": ", json->out);
    }
    json->has_member = true;
}

void json_open(struct json *json, const char *name, char bracket)
{
    start_member(json, name);
    fputc(bracket, json->out);
    json->depth++;
    json->has_member = false;
}

void json_open_flat(struct json *json, const char *name, char bracket)
{
    json_open(json, name, bracket);
    if (!json->is_flat) {
        json->is_flat = true;
        json->flat_depth = json->depth;
    }
}

void json_close(struct json *json, char bracket)
{
    bool was_flat = json->is_flat;

    if (was_flat && json->depth == json->flat_depth) {
        json->is_flat = false;
    }
    json->depth--;
    if (json->has_member && !was_flat) {
        new_line(json);
    }
    fputc(bracket, json->out);
    json->has_member = true;
}

void json_text_len(struct json *json, const char *name, const char *text, size_t len_bytes)
{
    start_member(json, name);
    put_string(json->out, text, len_bytes);
}

void json_text(struct json *json, const char *name, const char *text)
{
    json_text_len(json, name, text, strlen(text));
}

void json_uint(struct json *json, const char *name, uint64_t value)
{
    start_member(json, name);
    fprintf(json->out, "%" PRIu64, value);
}

void json_double(struct json *json, const char *name, double value)
{
    start_member(json, name);
    fprintf(json->out, "%.3f", value);
}

void json_hex(struct json *json, const char *name, uint64_t value, int digits)
{
    start_member(json, name);
    fprintf(json->out, "\"0x%0*" PRIx64 "\"", digits, value);
}

void json_bool(struct json *json, const char *name, bool value)
{
    start_member(json, name);
    fputs(value ? "true" : "false", json->out);
}

void json_null(struct json *json, const char *name)
{
    start_member(json, name);
    fputs("null", json->out);
}
