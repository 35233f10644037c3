/*
 * Performance counters of the calling core (Arm ARM D7): cycles and retired instructions.
 * For measurements only. Under QEMU exact with -icount shift=0, meaningless without.
 */
#ifndef AARCH64_PMU_H
#define AARCH64_PMU_H

#include <stdint.h>
#include "base/compiler.h"
#include "hal/arch/aarch64/sysreg.h"

#define PMCR_E  0x1u  /* enable */
#define PMCR_P  0x2u  /* event counters to zero */
#define PMCR_C  0x4u  /* cycle counter to zero */
#define PMCR_LC 0x40u /* the cycle counter has 64 bits */

#define PMU_EVENT_INST_RETIRED 0x08u
#define PMU_CYCLE_COUNTER      (1u << 31)

/* Starts both counters at zero, on the calling core. */
ALWAYS_INLINE void pmu_start(void)
{
    SYSREG_WRITE(pmcr_el0, PMCR_E | PMCR_P | PMCR_C | PMCR_LC);
    SYSREG_WRITE(pmevtyper0_el0, PMU_EVENT_INST_RETIRED);
    SYSREG_WRITE(pmccfiltr_el0, 0);
    SYSREG_WRITE(pmcntenset_el0, PMU_CYCLE_COUNTER | 1);
    isb();
}

ALWAYS_INLINE uint64_t pmu_cycles(void)
{
    isb();
    return SYSREG_READ(pmccntr_el0);
}

/* 32 bits: wraps after four thousand million instructions; subtract as uint32_t. */
ALWAYS_INLINE uint32_t pmu_instructions(void)
{
    isb();
    return (uint32_t)SYSREG_READ(pmevcntr0_el0);
}

#endif
