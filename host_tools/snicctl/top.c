#include "top.h"

#include <stdlib.h>
#include <string.h>
#include "text.h"
#include "view.h"

#define CELL_ROOM 512

/* Not what stays as it is, nor what is long. */
static bool is_shown(const struct field *field)
{
    bool is_fixed = (field->kind == FIELD_HEX && field->metric != METRIC_LABEL) ||
                    (field->kind == FIELD_BIT && field->metric == METRIC_NONE);

    return field->title != NULL && !is_fixed && field->kind != FIELD_UINTS &&
           field->kind != FIELD_TEXTS;
}

static bool is_rate(const struct field *field)
{
    return field->metric == METRIC_COUNTER;
}

void top_use(struct top *top, const struct record *record)
{
    top_free(top);
    top->record = record;
    for (uint32_t i = record->field_count; i > 0;
         i--) { /* the first counter, else the first field */
        const struct field *field = &record->fields[i - 1];
        bool is_work = is_rate(field) && is_shown(field);
        if (is_work && (strstr(field->name, "sqe") != NULL || strstr(field->name, "busy") != NULL ||
                        !is_rate(&record->fields[top->sort]))) {
            top->sort = i - 1;
        }
    }
}

void top_free(struct top *top)
{
    client_free(&top->now);
    client_free(&top->before);
    memset(top, 0, sizeof(*top));
}

void top_take(struct top *top, struct client_rows *rows, uint64_t now_ns)
{
    client_free(&top->before);
    top->before = top->now;
    top->before_ns = top->now_ns;
    top->now = *rows;
    top->now_ns = now_ns;
    memset(rows, 0, sizeof(*rows));
}

void top_sort_next(struct top *top, bool is_forward)
{
    uint32_t count = top->record->field_count;

    for (uint32_t i = 0; i < count; i++) {
        top->sort = (top->sort + (is_forward ? 1 : count - 1)) % count;
        if (is_shown(&top->record->fields[top->sort])) {
            return;
        }
    }
}

static bool is_same(const struct top *top, const uint8_t *a, const uint8_t *b)
{
    for (uint32_t i = 0; i < top->record->field_count; i++) {
        const struct field *field = &top->record->fields[i];
        bool is_there = (uint32_t)field->offset + field->bytes <= top->now.record_bytes;
        if (field->metric == METRIC_LABEL && is_there &&
            memcmp(a + field->offset, b + field->offset, field->bytes) != 0) {
            return false;
        }
    }
    return true;
}

/* The same object at the look before; NULL: it was not there. */
static const uint8_t *row_before(const struct top *top, uint32_t index)
{
    const uint8_t *row = top->now.bytes + (size_t)index * top->now.record_bytes;

    if (top->before.record_bytes != top->now.record_bytes) {
        return NULL;
    }
    for (uint32_t i = 0; i < top->before.count; i++) {
        /* Mostly it stands where it stood. */
        uint32_t at = (index + i) % top->before.count;
        const uint8_t *before = top->before.bytes + (size_t)at * top->before.record_bytes;
        if (is_same(top, row, before)) {
            return before;
        }
    }
    return NULL;
}

/* By second. False: not known yet. */
static bool rate_of(const struct top *top, const struct field *field, const uint8_t *row,
                    const uint8_t *before, double *rate)
{
    uint64_t now = 0;
    uint64_t then = 0;

    if (before == NULL || top->now_ns <= top->before_ns ||
        !field_uint(field, row, top->now.record_bytes, 0, &now) ||
        !field_uint(field, before, top->now.record_bytes, 0, &then) || now < then) {
        return false;
    }
    *rate = (double)(now - then) * 1e9 / (double)(top->now_ns - top->before_ns);
    return true;
}

struct order {
    double key;
    uint32_t index;
};

static int compare(const void *a, const void *b)
{
    const struct order *x = a;
    const struct order *y = b;

    if (x->key != y->key) {
        return x->key > y->key ? -1 : 1;
    }
    return x->index < y->index ? -1 : 1;
}

static void put_cell(const struct top *top, struct table *table, const struct field *field,
                     const uint8_t *row, const uint8_t *before)
{
    char text[CELL_ROOM];
    double rate = 0;

    if (!is_rate(field)) {
        table_add(table, field_show(field, row, top->now.record_bytes, text, sizeof(text)), false);
        return;
    }
    if (!rate_of(top, field, row, before, &rate)) {
        table_add(table, NULL, false);
        return;
    }
    if (field->kind == FIELD_NS) { /* time by time */
        snprintf(text, sizeof(text), "%.1f %%", rate / 1e7);
    } else {
        snprintf(text, sizeof(text), "%.0f", rate);
    }
    table_add(table, text, false);
}

static void put_titles(const struct top *top, struct table *table)
{
    char title[64];

    for (uint32_t i = 0; i < top->record->field_count; i++) {
        const struct field *field = &top->record->fields[i];
        bool is_number = field->kind == FIELD_UINT || field->kind == FIELD_NS ||
                         field->kind == FIELD_BYTES || field->kind == FIELD_INDEX;
        if (is_shown(field)) {
            snprintf(title, sizeof(title), "%s%s%s", field->title,
                     is_rate(field) && field->kind != FIELD_NS ? "/s" : "",
                     i == top->sort ? "*" : "");
            table_add(table, title, is_number);
        }
    }
}

void top_print(const struct top *top, FILE *out)
{
    struct order *order = calloc(top->now.count + 1, sizeof(*order));
    const struct field *sort = &top->record->fields[top->sort];
    struct table table;
    uint32_t columns = 0;

    for (uint32_t i = 0; i < top->now.count && order != NULL; i++) {
        const uint8_t *row = top->now.bytes + (size_t)i * top->now.record_bytes;
        uint64_t value = 0;
        order[i].index = i;
        if (is_rate(sort)) {
            rate_of(top, sort, row, row_before(top, i), &order[i].key);
        } else if (field_uint(sort, row, top->now.record_bytes, 0, &value)) {
            order[i].key = (double)value;
        }
    }
    for (uint32_t i = 0; i < top->record->field_count; i++) {
        columns += is_shown(&top->record->fields[i]);
    }
    table_start(&table, columns);
    put_titles(top, &table);
    if (order != NULL && top->now.count > 0) {
        qsort(order, top->now.count, sizeof(*order), compare);
    }
    for (uint32_t i = 0; i < top->now.count && order != NULL; i++) {
        uint32_t index = order[i].index;
        const uint8_t *row = top->now.bytes + (size_t)index * top->now.record_bytes;
        const uint8_t *before = row_before(top, index);
        for (uint32_t k = 0; k < top->record->field_count; k++) {
            if (is_shown(&top->record->fields[k])) {
                put_cell(top, &table, &top->record->fields[k], row, before);
            }
        }
    }
    table_print(&table, out);
    free(order);
}
