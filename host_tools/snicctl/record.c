#include "record.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "text.h"

static uint32_t core_count = MGMT_CORES;

void record_set_cores(uint32_t count)
{
    core_count = count < MGMT_CORES ? count : MGMT_CORES;
}

static bool is_there(const struct field *field, uint32_t row_bytes, uint32_t index)
{
    return index < (field->kind == FIELD_UINTS ? core_count : field->count) &&
           (uint64_t)field->offset + (uint64_t)field->bytes * (index + 1) <= row_bytes;
}

bool field_uint(const struct field *field, const uint8_t *row, uint32_t row_bytes, uint32_t index,
                uint64_t *value)
{
    if (!is_there(field, row_bytes, index) || field->bytes > sizeof(*value)) {
        return false;
    }
    *value = 0;
    memcpy(value, row + field->offset + (size_t)field->bytes * index, field->bytes);
    if (field->kind == FIELD_INDEX) {
        return *value != MGMT_NONE16;
    }
    if (field->kind == FIELD_BIT) {
        *value = *value >> field->bit & 1;
    } else if (field->kind == FIELD_BOOL) {
        *value = *value != 0;
    }
    return field->bytes < 8 || field->kind == FIELD_HEX || *value != MGMT_UNKNOWN64;
}

const char *field_text(const struct field *field, const uint8_t *row, uint32_t row_bytes,
                       uint32_t index, size_t *len_bytes)
{
    if (!is_there(field, row_bytes, index)) {
        return NULL;
    }
    const char *text = (const char *)row + field->offset + (size_t)field->bytes * index;
    *len_bytes = text_len(text, field->bytes);
    return text;
}

/* Appends, escaped, as much as fits. */
static void append(char *out, size_t room_bytes, const char *text, size_t len_bytes)
{
    char *safe = NULL;
    size_t safe_len = 0;
    FILE *file = open_memstream(&safe, &safe_len);

    if (file == NULL) {
        return;
    }
    text_put(file, text, len_bytes, false);
    fclose(file);
    size_t used = strlen(out);
    snprintf(out + used, room_bytes - used, "%s", safe);
    free(safe);
}

static void show_uint(const struct field *field, uint64_t value, char *out, size_t room_bytes)
{
    switch ((enum field_kind)field->kind) {
    case FIELD_HEX:
        snprintf(out, room_bytes, "0x%" PRIx64, value);
        break;
    case FIELD_BYTES:
        text_bytes(out, room_bytes, value);
        break;
    case FIELD_NS:
        if (value == 0) {
            snprintf(out, room_bytes, "0");
            break;
        }
        text_ns(out, room_bytes, value);
        break;
    case FIELD_BOOL:
    case FIELD_BIT:
        snprintf(out, room_bytes, "%s", value != 0 ? "yes" : "no");
        break;
    case FIELD_UINT:
    case FIELD_INDEX:
    case FIELD_UINTS:
    case FIELD_TEXT:
    case FIELD_STATE:
    case FIELD_MAC:
    case FIELD_TEXTS:
        snprintf(out, room_bytes, "%" PRIu64, value);
        break;
    }
}

static const char *show_array(const struct field *field, const uint8_t *row, uint32_t row_bytes,
                              char *out, size_t room_bytes)
{
    bool is_any = false;

    out[0] = '\0';
    for (uint32_t i = 0; i < field->count; i++) {
        size_t len = 0;
        uint64_t value = 0;
        if (field->kind == FIELD_TEXTS) {
            const char *text = field_text(field, row, row_bytes, i, &len);
            if (text == NULL || len == 0) {
                continue;
            }
            append(out, room_bytes, is_any ? ", " : "", is_any ? 2 : 0);
            append(out, room_bytes, text, len);
        } else if (field_uint(field, row, row_bytes, i, &value)) {
            char number[32];
            snprintf(number, sizeof(number), "%s%" PRIu64, is_any ? " " : "", value);
            append(out, room_bytes, number, strlen(number));
        } else {
            continue;
        }
        is_any = true;
    }
    return is_any ? out : NULL;
}

const char *field_show(const struct field *field, const uint8_t *row, uint32_t row_bytes, char *out,
                       size_t room_bytes)
{
    uint64_t value = 0;
    size_t len = 0;

    out[0] = '\0';
    if (field->kind == FIELD_UINTS || field->kind == FIELD_TEXTS) {
        return show_array(field, row, row_bytes, out, room_bytes);
    }
    if (field->kind == FIELD_TEXT || field->kind == FIELD_STATE) {
        const char *text = field_text(field, row, row_bytes, 0, &len);
        if (text == NULL || len == 0) {
            return NULL;
        }
        append(out, room_bytes, text, len);
        return out;
    }
    if (field->kind == FIELD_MAC) {
        const uint8_t *mac = row + field->offset;
        if (!is_there(field, row_bytes, 0)) {
            return NULL;
        }
        snprintf(out, room_bytes, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3],
                 mac[4], mac[5]);
        return out;
    }
    if (!field_uint(field, row, row_bytes, 0, &value)) {
        return NULL;
    }
    show_uint(field, value, out, room_bytes);
    return out;
}

const struct field *record_field(const struct record *record, const char *name)
{
    for (uint32_t i = 0; i < record->field_count; i++) {
        if (strcmp(record->fields[i].name, name) == 0) {
            return &record->fields[i];
        }
    }
    return NULL;
}

const struct record *record_of(enum mgmt_class class)
{
    for (uint32_t i = 0; i < record_count(); i++) {
        if (record_at(i)->class == class) {
            return record_at(i);
        }
    }
    return NULL;
}

const struct record *record_by_name(const char *name)
{
    for (uint32_t i = 0; i < record_count(); i++) {
        if (strcmp(record_at(i)->name, name) == 0) {
            return record_at(i);
        }
    }
    return NULL;
}
