#include "view.h"

#include <stdlib.h>
#include <string.h>
#include "text.h"

#define CELL_ROOM 1024

/* --- tables ---------------------------------------------------------------------------------- */

void table_start(struct table *table, uint32_t columns)
{
    memset(table, 0, sizeof(*table));
    table->columns = columns;
    table->is_right = calloc(columns, sizeof(*table->is_right));
}

/* `rows` counts cells until it is printed. */
void table_add(struct table *table, const char *text, bool is_number)
{
    char **cells = realloc(table->cells, (table->rows + 1) * sizeof(*cells));

    if (cells == NULL || table->is_right == NULL) {
        abort();
    }
    table->cells = cells;
    table->is_right[table->rows % table->columns] |= is_number;
    cells[table->rows++] = strdup(text == NULL || text[0] == '\0' ? "-" : text);
}

void table_print(struct table *table, FILE *out)
{
    size_t *widths = calloc(table->columns, sizeof(*widths));

    for (uint32_t i = 0; i < table->rows; i++) {
        size_t columns = text_columns(table->cells[i]);
        size_t *width = &widths[i % table->columns];
        *width = columns > *width ? columns : *width;
    }
    for (uint32_t i = 0; i < table->rows; i++) {
        uint32_t column = i % table->columns;
        int pad = (int)(widths[column] - text_columns(table->cells[i]));
        bool is_last = column + 1 == table->columns;
        bool is_right = table->is_right[column];
        fprintf(out, "%*s%s%*s%s", is_right ? pad : 0, "", table->cells[i],
                is_right || is_last ? 0 : pad, "", is_last ? "\n" : "  ");
        free(table->cells[i]);
    }
    free(widths);
    free(table->cells);
    free(table->is_right);
    memset(table, 0, sizeof(*table));
}

/* --- records as text ------------------------------------------------------------------------- */

static const uint8_t *row_at(const struct client_rows *rows, uint32_t index)
{
    return rows->bytes + (size_t)index * rows->record_bytes;
}

static bool is_number(const struct field *field)
{
    return field->kind == FIELD_UINT || field->kind == FIELD_INDEX || field->kind == FIELD_BYTES ||
           field->kind == FIELD_NS;
}

bool view_filter(const struct record *record, struct client_rows *rows, const char *where)
{
    const char *value = where == NULL ? NULL : strchr(where, '=');
    char name[64];
    char shown[CELL_ROOM];
    uint32_t kept = 0;

    if (where == NULL) {
        return true;
    }
    if (value == NULL || (size_t)(value - where) >= sizeof(name)) {
        return false;
    }
    memcpy(name, where, (size_t)(value - where));
    name[value - where] = '\0';
    const struct field *field = record_field(record, name);
    if (field == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < rows->count; i++) {
        const char *text =
            field_show(field, row_at(rows, i), rows->record_bytes, shown, sizeof(shown));
        if (strcmp(text == NULL ? "-" : text, value + 1) == 0) {
            memmove(rows->bytes + (size_t)kept * rows->record_bytes, row_at(rows, i),
                    rows->record_bytes);
            kept++;
        }
    }
    rows->count = kept;
    return true;
}

void view_table(const struct record *record, const struct client_rows *rows, FILE *out)
{
    struct table table;
    char shown[CELL_ROOM];
    uint32_t columns = 0;

    for (uint32_t i = 0; i < record->field_count; i++) {
        columns += record->fields[i].title != NULL;
    }
    table_start(&table, columns);
    for (uint32_t i = 0; i < record->field_count; i++) {
        if (record->fields[i].title != NULL) {
            table_add(&table, record->fields[i].title, is_number(&record->fields[i]));
        }
    }
    for (uint32_t row = 0; row < rows->count; row++) {
        for (uint32_t i = 0; i < record->field_count; i++) {
            const struct field *field = &record->fields[i];
            if (field->title != NULL) {
                table_add(
                    &table,
                    field_show(field, row_at(rows, row), rows->record_bytes, shown, sizeof(shown)),
                    false);
            }
        }
    }
    table_print(&table, out);
}

void view_blocks(const struct record *record, const struct client_rows *rows, FILE *out)
{
    char shown[CELL_ROOM];

    for (uint32_t row = 0; row < rows->count; row++) {
        fprintf(out, "%s%s\n", row > 0 ? "\n" : "", record->singular);
        for (uint32_t i = 0; i < record->field_count; i++) {
            const struct field *field = &record->fields[i];
            const char *text =
                field_show(field, row_at(rows, row), rows->record_bytes, shown, sizeof(shown));
            fprintf(out, "  %-20s %s\n", field->name, text == NULL ? "-" : text);
        }
    }
}

/* --- JSON ------------------------------------------------------------------------------------ */

static void json_elements(struct json *json, const struct field *field, const uint8_t *row,
                          uint32_t row_bytes)
{
    json_open_flat(json, field->name, '[');
    for (uint32_t i = 0; i < field->count; i++) {
        size_t len = 0;
        uint64_t value = 0;
        if (field->kind == FIELD_TEXTS) {
            const char *text = field_text(field, row, row_bytes, i, &len);
            if (text != NULL && len > 0) {
                json_text_len(json, NULL, text, len);
            }
        } else if (field_uint(field, row, row_bytes, i, &value)) {
            json_uint(json, NULL, value);
        }
    }
    json_close(json, ']');
}

static void json_field(struct json *json, const struct field *field, const uint8_t *row,
                       uint32_t row_bytes)
{
    char mac[32];
    uint64_t value = 0;
    size_t len = 0;
    const char *text;

    switch ((enum field_kind)field->kind) {
    case FIELD_UINTS:
    case FIELD_TEXTS:
        json_elements(json, field, row, row_bytes);
        return;
    case FIELD_TEXT:
    case FIELD_STATE:
        text = field_text(field, row, row_bytes, 0, &len);
        if (text == NULL) {
            json_null(json, field->name);
        } else {
            json_text_len(json, field->name, text, len);
        }
        return;
    case FIELD_MAC:
        text = field_show(field, row, row_bytes, mac, sizeof(mac));
        if (text == NULL) {
            json_null(json, field->name);
        } else {
            json_text(json, field->name, text);
        }
        return;
    case FIELD_UINT:
    case FIELD_INDEX:
    case FIELD_HEX:
    case FIELD_BYTES:
    case FIELD_NS:
    case FIELD_BOOL:
    case FIELD_BIT:
        break;
    }
    if (!field_uint(field, row, row_bytes, 0, &value)) {
        json_null(json, field->name);
    } else if (field->kind == FIELD_HEX) {
        json_hex(json, field->name, value, 1);
    } else if (field->kind == FIELD_BOOL || field->kind == FIELD_BIT) {
        json_bool(json, field->name, value != 0);
    } else {
        json_uint(json, field->name, value);
    }
}

void view_json(const struct record *record, const struct client_rows *rows, struct json *json,
               const char *name)
{
    json_open(json, name, '[');
    for (uint32_t row = 0; row < rows->count; row++) {
        json_open_flat(json, NULL, '{');
        for (uint32_t i = 0; i < record->field_count; i++) {
            json_field(json, &record->fields[i], row_at(rows, row), rows->record_bytes);
        }
        json_close(json, '}');
    }
    json_close(json, ']');
}
