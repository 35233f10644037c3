/* Lets a test see that something panics. Shared by the tests of this folder. */
#ifndef TESTS_UNIT_BASE_PANIC_CATCH_H
#define TESTS_UNIT_BASE_PANIC_CATCH_H

#include <setjmp.h>
#include "hal/native/native.h"

extern jmp_buf panic_catch_return;
extern char panic_catch_text[256]; /* of the last panic */
void panic_catch_hook(const char *text);

/* Runs a statement; fails the test unless it panics. */
#define ASSERT_PANICS(statement)                      \
    do {                                              \
        native_panic_hook = panic_catch_hook;         \
        if (setjmp(panic_catch_return) == 0) {        \
            statement;                                \
            native_panic_hook = NULL;                 \
            fail_msg("%s did not panic", #statement); \
        }                                             \
        native_panic_hook = NULL;                     \
    } while (0)

#endif
