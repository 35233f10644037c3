/*
 * What the files of hal/arch/aarch64 share.
 */
#ifndef AARCH64_CPU_PRIV_H
#define AARCH64_CPU_PRIV_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <reent.h>
#include "base/limits.h"
#include "hal/arch.h"
#include "hal/arch/aarch64/layout.h"

/* One core; TPIDR_EL1 of the core points at it. */
struct cpu {
    /* Read by assembly: see layout.h. */
    uint64_t emergency_bottom;
    uint64_t emergency_top;
    uint64_t exception_top;
    uint64_t thread_top;

    uint64_t hardware_id; /* MPIDR_EL1 affinity fields */
    void (*entry)(void *arg);
    void *arg;
    uint32_t index;
    _Atomic bool online;
    _Atomic bool stopped;

    /* Sleep and wake: see cpu_idle(). */
    _Atomic bool idle;
    _Atomic bool wake;

    /* Innermost interrupted state while a handler runs. */
    const struct arch_regs *frame;
    struct arch_regs stop_regs; /* valid once `stopped` */

    struct _reent reent; /* newlib's errno and streams of this core */
};

extern struct cpu cpus[LIMIT_CORES];
extern uint8_t cpu_stacks[LIMIT_CORES][STACKS_BYTES];

/* The calling core's. */
struct cpu *cpu_this(void);

/* Generic timer of the calling core (clock.c): interrupts at or just after `deadline_ns`. */
void timer_start(uint64_t deadline_ns);
void timer_stop(void);
/* On each core, before it sleeps for the first time. */
void timer_core_init(void);

/* newlib's state of a core (newlib.c); before the core uses anything of libc but memory functions.
 */
void newlib_core_init(struct cpu *cpu);

/* PSCI calls (psci.c), Arm DEN 0022: the raw return value. */
int64_t psci_cpu_on(uint64_t hardware_id, uint64_t entry, uint64_t context);

#endif
