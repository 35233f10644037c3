/*
 * Writes JSON (RFC 8259). The writer puts commas and line ends; the caller keeps open and close in
 * pairs, and gives a name to each member of an object and none to each element of an array.
 */
#ifndef SNICCTL_JSON_H
#define SNICCTL_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct json {
    FILE *out;
    uint32_t depth;
    bool has_member; /* of the object or array that is open */
    bool is_flat;    /* from here on in one line */
    uint32_t flat_depth;
};

void json_start(struct json *json, FILE *out);
/* The last line's end. */
void json_end(struct json *json);

/* `name`: NULL in an array and at the top. */
void json_open(struct json *json, const char *name, char bracket); /* '{' or '[' */
void json_close(struct json *json, char bracket);                  /* '}' or ']' */
/* The same, all of it in one line. */
void json_open_flat(struct json *json, const char *name, char bracket);

/* Bytes that are no UTF-8 become U+FFFD. */
void json_text(struct json *json, const char *name, const char *text);
void json_text_len(struct json *json, const char *name, const char *text, size_t len_bytes);
void json_uint(struct json *json, const char *name, uint64_t value);
void json_double(struct json *json, const char *name, double value);
/* "0x..." with `digits` digits. */
void json_hex(struct json *json, const char *name, uint64_t value, int digits);
void json_bool(struct json *json, const char *name, bool value);
void json_null(struct json *json, const char *name);

#endif
