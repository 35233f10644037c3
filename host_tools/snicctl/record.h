/*
 * What is in the records of management messages: one description, from which tables, JSON,
 * Prometheus text and the JSON schema are made. A record of an older firmware may be shorter than
 * ours: fields beyond its end have no value.
 */
#ifndef SNICCTL_RECORD_H
#define SNICCTL_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "spec/mgmt.h"
#include "spec/mgmt_record.h"

enum field_kind {
    FIELD_UINT,  /* 1, 2, 4 or 8 bytes; 8 of ones: unknown */
    FIELD_INDEX, /* number of something; 16 bits of ones: of nothing */
    FIELD_HEX,   /* shown with 0x */
    FIELD_BYTES, /* a size */
    FIELD_NS,    /* nanoseconds; 8 bytes of ones: unknown */
    FIELD_BOOL,  /* not 0 */
    FIELD_BIT,   /* the bit `bit` of an integer */
    FIELD_TEXT,  /* padded with zeroes */
    FIELD_STATE, /* the same, a word: nothing but what stands in the firmware's list */
    FIELD_MAC,   /* 6 bytes */
    FIELD_UINTS, /* an array of integers */
    FIELD_TEXTS, /* an array of texts; empty ones are not there */
};

enum field_metric {
    METRIC_NONE,
    METRIC_LABEL, /* tells records of a class apart */
    METRIC_GAUGE,
    METRIC_COUNTER,
};

struct field {
    const char *name;  /* in JSON */
    const char *title; /* of the column; NULL: in --all alone */
    const char *help;  /* one line, with the unit */
    uint16_t offset;
    uint16_t bytes; /* of one element */
    uint16_t count; /* elements */
    uint8_t bit;
    uint8_t kind;   /* enum field_kind */
    uint8_t metric; /* enum field_metric */
};

struct record {
    enum mgmt_class class;
    const char *name;     /* of the command and of the array in JSON: "queues" */
    const char *singular; /* in metrics: "queue" */
    const char *help;
    const char *none; /* said when there are no records */
    const struct field *fields;
    uint32_t field_count;
};

/* NULL: no such class here. */
const struct record *record_of(enum mgmt_class class);
const struct record *record_by_name(const char *name);
/* 0 .. count - 1. */
const struct record *record_at(uint32_t index);
uint32_t record_count(void);

/* Arrays by core have so many elements from now on; at first all that are in a record. */
void record_set_cores(uint32_t count);

const struct field *record_field(const struct record *record, const char *name);

/* The integer (element `index`) at `row` of `row_bytes` bytes: false when the firmware does not
 * have it or does not know it. */
bool field_uint(const struct field *field, const uint8_t *row, uint32_t row_bytes, uint32_t index,
                uint64_t *value);

/* The text (element `index`): NULL when the firmware does not have it; else its length. */
const char *field_text(const struct field *field, const uint8_t *row, uint32_t row_bytes,
                       uint32_t index, size_t *len_bytes);

/* As people read it. NULL: not there. Fits into `room` bytes, at least 256; longer is cut. */
const char *field_show(const struct field *field, const uint8_t *row, uint32_t row_bytes, char *out,
                       size_t room_bytes);

#endif
