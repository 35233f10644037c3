/*
 * Time since power-on, monotonic, the same on all cores.
 */
#ifndef HAL_CLOCK_H
#define HAL_CLOCK_H

#include <stdint.h>

#define NS_PER_US UINT64_C(1000)
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S  UINT64_C(1000000000)

/* Nanoseconds. Any core, any context. Reactors read it once per turn: see sched_now_ns(). */
uint64_t clock_now_ns(void);

/* Busy-waits; only for start-up and panic. */
void clock_delay_ns(uint64_t duration_ns);

#endif
