#include "base/assert.h"

#include <execinfo.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "hal/console.h"
#include "hal/cpu.h"
#include "hal/native/native.h"

void (*native_panic_hook)(const char *text);

static void print(const char *format, ...) PRINTF_LIKE(1, 2);

static void print(const char *format, ...)
{
    char line[512];
    va_list args;
    va_start(args, format);
    int len_bytes = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    if (len_bytes > 0) {
        console_write(line, len_bytes < (int)sizeof(line) ? (size_t)len_bytes : sizeof(line) - 1);
    }
}

void panic(const char *format, ...)
{
    static atomic_flag once = ATOMIC_FLAG_INIT;
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);

    if (native_panic_hook != NULL) {
        native_panic_hook(text); /* does not return; if it does, we go on dying */
    }
    if (!atomic_flag_test_and_set(
            &once)) { /* the first tells; others (or a panic in here) just end */
        void *frames[32];
        print("PANIC on core %u: %s\n", (unsigned)cpu_self(), text);
        backtrace_symbols_fd(frames, backtrace(frames, 32), STDERR_FILENO);
    }
    abort();
}
