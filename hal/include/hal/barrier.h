/*
 * Barriers between the cores' memory and devices (DMA and MMIO).
 * Between a core and shared memory use base/shm.h; between cores C11 atomics.
 */
#ifndef HAL_BARRIER_H
#define HAL_BARRIER_H

#include "base/compiler.h"

#if defined(__aarch64__)
/* Stores to memory before are seen by a device before the MMIO store after (ring a doorbell). */
ALWAYS_INLINE void barrier_before_doorbell(void)
{
    __asm__ volatile("dmb oshst" ::: "memory");
}
/* An MMIO or memory load before is done before memory loads after (read what a device wrote). */
ALWAYS_INLINE void barrier_after_device_read(void)
{
    __asm__ volatile("dmb oshld" ::: "memory");
}
ALWAYS_INLINE void barrier_full_system(void)
{
    __asm__ volatile("dsb sy" ::: "memory");
}
#else
/* x86-64: stores are ordered among themselves, loads among themselves. */
ALWAYS_INLINE void barrier_before_doorbell(void)
{
    __asm__ volatile("" ::: "memory");
}
ALWAYS_INLINE void barrier_after_device_read(void)
{
    __asm__ volatile("" ::: "memory");
}
ALWAYS_INLINE void barrier_full_system(void)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
#endif

#endif
