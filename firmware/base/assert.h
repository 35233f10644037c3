/*
 * ASSERT: for our own bugs only; kept in release builds; ends in panic with a dump.
 * Never assert on what a host, a peer, a drive or a file controls.
 */
#ifndef BASE_ASSERT_H
#define BASE_ASSERT_H

#include "base/compiler.h"

/* Prints the reason and the dump of the board, leaves the crash record, stops all cores.
 * Any core, any context. Each board supplies it (boot/panic.c, hal/native, the unit tests). */
NORETURN COLD void panic(const char *format, ...) PRINTF_LIKE(1, 2);

#ifdef ASSERT_BRIEF
/* Where the text has a budget, file and line tell which condition it was. */
NORETURN COLD void assert_failed(const char *file, int line);
#define ASSERT_FAILED(condition) assert_failed(__FILE__, __LINE__)
#else
#define ASSERT_FAILED(condition) panic("%s:%d: assertion failed: %s", __FILE__, __LINE__, condition)
#endif

#define ASSERT(condition)              \
    do {                               \
        if (UNLIKELY(!(condition))) {  \
            ASSERT_FAILED(#condition); \
        }                              \
    } while (0)

#endif
