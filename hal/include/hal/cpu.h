/*
 * Cores: which one am I, start the others, sleep and wake.
 */
#ifndef HAL_CPU_H
#define HAL_CPU_H

#include <stdbool.h>
#include <stdint.h>
#include "base/status.h"

/* Index of the calling core, 0..cpu_count()-1; the boot core is 0. Any context. */
uint32_t cpu_self(void);

/* Cores that the board has and LIMIT_CORES allows. */
uint32_t cpu_count(void);

/* Starts `entry(arg)` on a core that is off; `entry` does not return. Core 0 only.
 * INVALID: no such core. EXISTS: it runs. IO: the firmware interface (PSCI) refused. */
MUST_USE enum status cpu_start(uint32_t core, void (*entry)(void *arg), void *arg);

/* Ends a later or running cpu_idle() of `core`; one wake is remembered. Any core, any context. */
void cpu_wake(uint32_t core);

/* Sleeps until cpu_wake(), a device interrupt or `deadline_ns` (UINT64_MAX: none).
 * A wake or interrupt since the last return from cpu_idle() ends it at once, so
 * "publish that I sleep; full barrier; look again; cpu_idle()" loses nothing.
 * The calling core only. */
void cpu_idle(uint64_t deadline_ns);

/* A hint in a busy-wait loop. */
void cpu_relax(void);

/* Between these two no interrupt handler runs on the calling core; nests. For data shared with a
 * handler. Nothing to do where there are no handlers (native). */
uint64_t cpu_irq_save(void);
void cpu_irq_restore(uint64_t state);

#endif
