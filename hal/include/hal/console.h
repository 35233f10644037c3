/*
 * The console: bytes out, bytes in. Shared by log, panic and management frames.
 */
#ifndef HAL_CONSOLE_H
#define HAL_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Writes all bytes, waiting for the device, at most a bounded time per byte; drops after that.
 * Any core, any context; lines of several cores may interleave unless base/log.h serialises. */
void console_write(const char *bytes, size_t len_bytes);

/* A byte that was received, or -1. Core 0 only. */
int console_read(void);

/* Shows each received byte to `take` before console_read() does; true: it is gone, no reader sees
 * it. Called in the interrupt handler that receives, on core 0, whatever core 0 is doing; a board
 * without such an interrupt calls it in console_read(). At most once. */
void console_set_take(bool (*take)(uint8_t byte));

#endif
