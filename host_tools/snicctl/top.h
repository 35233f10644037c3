/*
 * What `top` shows: the records of a class as they are now, counters as rates since the look
 * before, the busiest first.
 */
#ifndef SNICCTL_TOP_H
#define SNICCTL_TOP_H

#include <stdbool.h>
#include <stdio.h>
#include "client.h"
#include "record.h"

struct top {
    const struct record *record;
    struct client_rows now;
    struct client_rows before; /* no rows at first */
    uint64_t now_ns;           /* the board's time */
    uint64_t before_ns;
    uint32_t sort; /* field; those with the most first */
};

/* Another class; forgets what was seen. */
void top_use(struct top *top, const struct record *record);

/* Looks: the records of now become those of before. `now_ns`: the board's time. Takes *rows. */
void top_take(struct top *top, struct client_rows *rows, uint64_t now_ns);

/* The next column to sort by, forward or back. */
void top_sort_next(struct top *top, bool is_forward);

/* Titles, then rows, as lines. */
void top_print(const struct top *top, FILE *out);

void top_free(struct top *top);

#endif
