/*
 * A board that is none: answers management messages on a console from fixed records, in the ways
 * that a tool must be ready for. Bytes as docs/spec/mgmt.md has them.
 */
#ifndef TESTS_HOST_TOOLS_FAKE_H
#define TESTS_HOST_TOOLS_FAKE_H

#include <stdbool.h>
#include <stdint.h>

enum fake_mode {
    FAKE_GOOD,
    FAKE_EMPTY,           /* a board without host, volumes, ports */
    FAKE_OLD,             /* shorter records and HELLO, fewer classes */
    FAKE_NEW,             /* longer ones, a later version that still speaks ours */
    FAKE_TOO_NEW,         /* speaks ours no more */
    FAKE_TOO_OLD,         /* version 0 */
    FAKE_HUNG,            /* answers after an empty frame, and only state */
    FAKE_TENANT,          /* as a host sees it */
    FAKE_BUSY,            /* each third answer is BUSY */
    FAKE_NOISY,           /* text, damaged frames and stale answers between the good ones */
    FAKE_LOSSY,           /* loses each third request */
    FAKE_NO_FLASH,        /* no slots; what needs flash is UNSUPPORTED */
    FAKE_REFUSES,         /* images and configurations */
    FAKE_HOSTILE_SHORT,   /* a list says more than it has */
    FAKE_HOSTILE_CRC,     /* no checksum is right */
    FAKE_HOSTILE_LOOP,    /* a list that goes in circles */
    FAKE_HOSTILE_ENDLESS, /* a list without end */
    FAKE_HOSTILE_TEXT,    /* escape sequences, quotes, broken UTF-8, texts that do not end */
    FAKE_HOSTILE_READ,    /* READ contradicts itself */
    FAKE_LIVE,            /* time and counters grow with each HELLO */
    FAKE_SILENT,
    FAKE_WORN,            /* flash does not take what is written */
    FAKE_TRIAL,           /* runs an image on trial, which is never confirmed */
    FAKE_TRIAL_KEPT,      /* the same; what takes the trial back has no effect */
    FAKE_TRIAL_STICKS,    /* the same; comes back with it although it was taken back */
    FAKE_DIES_CONFIRMING, /* an image on trial dies when its slots are asked for */
    FAKE_DIES_CHECKING,   /* started a moment ago; restarts while an update is at work */
    FAKE_NO_UPDATE,       /* has no record of its update */
    FAKE_CUTS,            /* writes half of an image */
    FAKE_LATE,            /* answers its first action after a second */
    FAKE_NEVER_RESETS,
    FAKE_CRASH_LOOP,    /* the first run ends after some looks, the next is older when seen */
    FAKE_BARE_TRACE,    /* a trace with requests, and without what comes before them */
    FAKE_TRIAL_FAILS,   /* comes back from a reset with the old image */
    FAKE_STAYS_AWAY,    /* does not come back */
    FAKE_RESTARTS,      /* after three HELLOs; ends the connection after some more */
    FAKE_HOSTILE_CRAWL, /* READ gives a byte at a time, without end */
    FAKE_MODE_COUNT,
};

/* NULL: beyond the last. "good", "old", ... */
const char *fake_mode_name(enum fake_mode mode);

/* Serves until the other side closes `fd`, a stream socket, which stays the caller's. */
void fake_serve(int fd, enum fake_mode mode);

/* The records of a class: count * record_bytes; NULL: none. */
const void *fake_records(uint32_t class, uint32_t *count, uint32_t *record_bytes);

/* What READ gives. */
const void *fake_object(uint32_t object, uint32_t part, uint32_t *len_bytes);

/* Records of the trace; of an older firmware. */
const void *fake_trace(uint32_t core, uint32_t *len_bytes);
const void *fake_old_trace(uint32_t core, uint32_t *len_bytes);
const void *fake_bare_trace(uint32_t core, uint32_t *len_bytes);

/* Counters grow: for `top`. */
void fake_advance(void);

#endif
