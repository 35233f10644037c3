/*
 * Shows records: as a table, as blocks with all fields, as JSON, as Prometheus text. All by the
 * descriptions of record.h.
 */
#ifndef SNICCTL_VIEW_H
#define SNICCTL_VIEW_H

#include <stdio.h>
#include "client.h"
#include "json.h"
#include "record.h"

/* --- a table of texts ---- */

struct table {
    uint32_t columns;
    uint32_t rows;  /* the titles are the first */
    char **cells;   /* rows * columns; owned */
    bool *is_right; /* per column: numbers stand right */
};

void table_start(struct table *table, uint32_t columns);
/* Copies. NULL: "-". The next cell in reading order. */
void table_add(struct table *table, const char *text, bool is_number);
/* Rows with columns as wide as they must be; the last is not padded. Frees the table. */
void table_print(struct table *table, FILE *out);

/* --- records ---- */

/* Those that have what `where` asks for ("FIELD=VALUE", as shown; NULL: all) stay. False: no such
 * field. */
bool view_filter(const struct record *record, struct client_rows *rows, const char *where);

void view_table(const struct record *record, const struct client_rows *rows, FILE *out);
/* Every field of every record, "name: value". */
void view_blocks(const struct record *record, const struct client_rows *rows, FILE *out);
/* An array named `name`. */
void view_json(const struct record *record, const struct client_rows *rows, struct json *json,
               const char *name);
/* Metrics "snic_<singular>_<field>". */
void view_prometheus(const struct record *record, const struct client_rows *rows, FILE *out);
/* Counters of class STAT, whose names are in the records: "snic_<group>_<name>_total". */
void view_prometheus_stats(const struct client_rows *rows, FILE *out);

#endif
