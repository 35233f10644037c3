/*
 * Records as Prometheus text (exposition format 0.0.4).
 */
#include "view.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "text.h"

/* The value of a label: backslash, quote and what cannot be printed are escaped. */
static void put_label(FILE *out, const char *name, const char *value, bool is_first)
{
    fprintf(out, "%s%s=\"", is_first ? "{" : ",", name);
    for (; *value != '\0'; value++) {
        if (*value == '"' || *value == '\\') {
            fputc('\\', out);
        }
        fputc(*value, out);
    }
    fputc('"', out);
}

static void put_labels(FILE *out, const struct record *record, const uint8_t *row,
                       uint32_t row_bytes)
{
    char shown[512];
    bool is_first = true;

    for (uint32_t i = 0; i < record->field_count; i++) {
        const struct field *field = &record->fields[i];
        if (field->metric == METRIC_LABEL) {
            const char *text = field_show(field, row, row_bytes, shown, sizeof(shown));
            put_label(out, field->name, text == NULL ? "" : text, is_first);
            is_first = false;
        }
    }
    fputs(is_first ? "" : "}", out);
}

void view_prometheus(const struct record *record, const struct client_rows *rows, FILE *out)
{
    for (uint32_t i = 0; i < record->field_count && rows->count > 0; i++) {
        const struct field *field = &record->fields[i];
        bool is_counter = field->metric == METRIC_COUNTER;
        if ((!is_counter && field->metric != METRIC_GAUGE) ||
            (uint32_t)field->offset + field->bytes > rows->record_bytes) {
            continue;
        }
        const char *end = is_counter ? "_total" : "";
        fprintf(out, "# HELP snic_%s_%s%s %s\n", record->singular, field->name, end, field->help);
        fprintf(out, "# TYPE snic_%s_%s%s %s\n", record->singular, field->name, end,
                is_counter ? "counter" : "gauge");
        for (uint32_t row = 0; row < rows->count; row++) {
            const uint8_t *bytes = rows->bytes + (size_t)row * rows->record_bytes;
            uint64_t value = 0;
            if (field_uint(field, bytes, rows->record_bytes, 0, &value)) {
                fprintf(out, "snic_%s_%s%s", record->singular, field->name, end);
                put_labels(out, record, bytes, rows->record_bytes);
                fprintf(out, " %" PRIu64 "\n", value);
            }
        }
    }
}

/* --- counters, whose names come from the board ------------------------------------------------ */

/* Letters, digits and underscores alone. */
static void clean_name(char *out, size_t room, const char *group, size_t group_len,
                       const char *name, size_t name_len)
{
    snprintf(out, room, "snic_%.*s_%.*s", (int)group_len, group, (int)name_len, name);
    for (char *p = out; *p != '\0'; p++) {
        if (!isalnum((unsigned char)*p) || (*p & 0x80) != 0) {
            *p = '_';
        }
    }
}

struct counter {
    char name[96];
    uint32_t order;
    uint64_t index;
    bool has_index;
    uint64_t value;
};

/* Metrics of one name stand together, in the order in which they came. */
static int compare(const void *a, const void *b)
{
    const struct counter *x = a;
    const struct counter *y = b;
    int names = strcmp(x->name, y->name);

    return names != 0 ? names : x->order < y->order ? -1 : 1;
}

void view_prometheus_stats(const struct client_rows *rows, FILE *out)
{
    const struct record *record = record_of(MGMT_CLASS_STAT);
    struct counter *counters = calloc(rows->count + 1, sizeof(*counters));
    uint32_t count = 0;

    for (uint32_t i = 0; i < rows->count && counters != NULL; i++) {
        const uint8_t *row = rows->bytes + (size_t)i * rows->record_bytes;
        struct counter *c = &counters[count];
        size_t group_len = 0;
        size_t name_len = 0;
        const char *group =
            field_text(record_field(record, "group"), row, rows->record_bytes, 0, &group_len);
        const char *name =
            field_text(record_field(record, "name"), row, rows->record_bytes, 0, &name_len);
        if (group == NULL || name == NULL ||
            !field_uint(record_field(record, "value"), row, rows->record_bytes, 0, &c->value)) {
            continue;
        }
        clean_name(c->name, sizeof(c->name), group, group_len, name, name_len);
        c->has_index =
            field_uint(record_field(record, "index"), row, rows->record_bytes, 0, &c->index);
        c->order = count++;
    }
    if (counters != NULL) {
        qsort(counters, count, sizeof(*counters), compare);
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct counter *c = &counters[i];
        if (i == 0 || strcmp(c->name, counters[i - 1].name) != 0) {
            fprintf(out, "# TYPE %s_total counter\n", c->name);
        }
        if (c->has_index) {
            fprintf(out, "%s_total{index=\"%" PRIu64 "\"} %" PRIu64 "\n", c->name, c->index,
                    c->value);
        } else {
            fprintf(out, "%s_total %" PRIu64 "\n", c->name, c->value);
        }
    }
    free(counters);
}
