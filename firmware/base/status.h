/*
 * Local failures: one append-only list for the whole firmware.
 *
 * Failures that a protocol names (NVMe status, RoCE syndrome, CM reject) have types of their own
 * and never travel as enum status. Our own bugs are ASSERTs.
 */
#ifndef BASE_STATUS_H
#define BASE_STATUS_H

#include "base/compiler.h"

#define STATUS_LIST(X)                                                    \
    X(OK, 0, "done")                                                      \
    X(AGAIN, 1, "full or not ready now: the call says what wakes it")     \
    X(INVALID, 2, "an argument or a configuration value is out of range") \
    X(NOT_FOUND, 3, "no such object")                                     \
    X(EXISTS, 4, "the object is there already")                           \
    X(NO_SPACE, 5, "a limit of base/limits.h is reached")                 \
    X(TIMED_OUT, 6, "a deadline passed")                                  \
    X(IO, 7, "a device answered with an error")                           \
    X(BAD_DATA, 8, "data from outside failed its check")                  \
    X(UNSUPPORTED, 9, "this board or device cannot do it")                \
    X(OUT_OF_WINDOW, 10, "a host address lies outside the DMA windows")   \
    X(CANCELLED, 11, "ended by a cancel, reset or fence")

enum status {
#define STATUS_ENUM(name, value, text) STATUS_##name = (value),
    STATUS_LIST(STATUS_ENUM)
#undef STATUS_ENUM
};

/* A short English text for a log line; "unknown status" for a value outside the list. */
const char *status_text(enum status status);

#endif
