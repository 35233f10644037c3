/*
 * The console: bytes out, bytes in. Shared by log, panic and (later) management frames.
 */
#ifndef HAL_CONSOLE_H
#define HAL_CONSOLE_H

#include <stddef.h>

/* Writes all bytes, waiting for the device, at most a bounded time per byte; drops after that.
 * Any core, any context; lines of several cores may interleave unless base/log.h serialises. */
void console_write(const char *bytes, size_t len_bytes);

/* A byte that was received, or -1. Core 0 only. */
int console_read(void);

#endif
