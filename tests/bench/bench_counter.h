/*
 * Counter of executed instructions. Under QEMU -icount shift=0 a cycle is an instruction.
 */
#ifndef BENCH_BENCH_COUNTER_H
#define BENCH_BENCH_COUNTER_H

#include <stdint.h>
#include "base/compiler.h"

#if defined(__aarch64__) && !defined(__linux__)
#include "hal/arch/aarch64/pmu.h"
#define BENCH_COUNTS 1
ALWAYS_INLINE uint64_t bench_count(void)
{
    return pmu_cycles();
}
#else
#define BENCH_COUNTS 0
ALWAYS_INLINE uint64_t bench_count(void)
{
    return 0;
}
#endif

#endif
