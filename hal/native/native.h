/*
 * What the native HAL (a Linux process) has beyond the contracts: for its main() and for tests.
 */
#ifndef NATIVE_NATIVE_H
#define NATIVE_NATIVE_H

#include <stdbool.h>
#include <stdint.h>
#include "base/compiler.h"

/* How many cores cpu_count() reports, 1..LIMIT_CORES; before the first is started. At start: as
 * many as the process may run on. */
void native_cpu_set_count(uint32_t count);

/* Makes the calling thread core `core` (tests that start threads of their own). */
void native_cpu_become(uint32_t core);

/* Waits for the threads of all started cores, whose entries must have returned; then none is
 * started. Core 0. */
void native_cpu_join(void);

/* From now on clock_now_ns() stands at `now_ns` until it is moved; back to the real one by
 * native_clock_use_real(). cpu_idle() with a deadline moves a standing clock there and returns.
 * Turn reactors by sched_turn() then: in sched_run() the time of polling before sleep would never
 * pass. */
void native_clock_set(uint64_t now_ns);
void native_clock_advance(uint64_t duration_ns);
void native_clock_use_real(void);
bool native_clock_is_real(void);

/* Where console_write() goes; stderr at start. -1: nowhere. */
void native_console_set_fd(int fd);

/* Called by panic() with its text instead of abort(); for tests, which leave by longjmp. */
extern void (*native_panic_hook)(const char *text);

#endif
