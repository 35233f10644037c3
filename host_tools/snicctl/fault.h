/*
 * How commands end: exit codes, and one message on stderr that says what was tried, what went wrong
 * and what to do.
 */
#ifndef SNICCTL_FAULT_H
#define SNICCTL_FAULT_H

#include <stdbool.h>
#include "base/compiler.h"

/* Exit codes: docs/man/snicctl.1. */
enum fault {
    FAULT_NONE = 0,
    FAULT_FAILED = 1,     /* refused, or something failed */
    FAULT_USAGE = 2,      /* wrong words */
    FAULT_NO_DEVICE = 3,  /* no device, or nobody answers */
    FAULT_PERMISSION = 4, /* this user may not, or this way in may not */
    FAULT_VERSION = 5,    /* the firmware is too old, or this tool is */
};

/* Says "snicctl: ..." on stderr and returns `fault`. */
enum fault fault_say(enum fault fault, const char *format, ...) PRINTF_LIKE(2, 3);

/* While held, what is said is kept, the last alone, and comes out at the end: for who owns the
 * screen. */
void fault_hold(bool is_held);
/* What is held is not said. */
void fault_forget(void);

/* Something worth knowing, which is no failure: on stderr. */
void fault_note(const char *format, ...) PRINTF_LIKE(1, 2);

#endif
