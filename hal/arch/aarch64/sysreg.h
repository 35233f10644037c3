/*
 * System registers and barriers of the core (Arm ARM, D13). For hal/arch/aarch64 only.
 */
#ifndef AARCH64_SYSREG_H
#define AARCH64_SYSREG_H

#include <stdint.h>
#include "base/compiler.h"

#define SYSREG_READ(name)                                            \
    __extension__({                                                  \
        uint64_t value_;                                             \
        __asm__ volatile("mrs %0, " #name : "=r"(value_)::"memory"); \
        value_;                                                      \
    })

#define SYSREG_WRITE(name, value) \
    __asm__ volatile("msr " #name ", %0" ::"r"((uint64_t)(value)) : "memory")

ALWAYS_INLINE void isb(void)
{
    __asm__ volatile("isb" ::: "memory");
}

/* Everything before is complete, for all observers. */
ALWAYS_INLINE void dsb_sy(void)
{
    __asm__ volatile("dsb sy" ::: "memory");
}

/* Stores before are complete, for the cores. */
ALWAYS_INLINE void dsb_ishst(void)
{
    __asm__ volatile("dsb ishst" ::: "memory");
}

ALWAYS_INLINE void wfi(void)
{
    __asm__ volatile("wfi" ::: "memory");
}

#define DAIF_IRQ 0x80u /* PSTATE.I as read in DAIF */

ALWAYS_INLINE void irq_mask(void)
{
    __asm__ volatile("msr daifset, #2" ::: "memory");
}

ALWAYS_INLINE void irq_unmask(void)
{
    __asm__ volatile("msr daifclr, #2" ::: "memory");
}

#endif
