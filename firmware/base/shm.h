/*
 * Single accesses to memory that somebody else changes meanwhile: host memory, BAR pages, rings shared
 * with a device or a host process. Each access happens exactly once, whole, and is not moved across
 * the order that its name states. Every acquire names its release in a comment where it is used.
 *
 * Not for device registers: those are hal/mmio.h. Not between our cores: those are C11 atomics.
 */
#ifndef BASE_SHM_H
#define BASE_SHM_H

#include <stdint.h>
#include "base/compiler.h"

#define SHM_DEFINE(bits)                                                                    \
    ALWAYS_INLINE uint##bits##_t shm_load##bits(const void *p)                              \
    {                                                                                       \
        return __atomic_load_n((const uint##bits##_t *)p, __ATOMIC_RELAXED);                \
    }                                                                                       \
    ALWAYS_INLINE uint##bits##_t shm_load##bits##_acquire(const void *p)                    \
    {                                                                                       \
        return __atomic_load_n((const uint##bits##_t *)p, __ATOMIC_ACQUIRE);                \
    }                                                                                       \
    ALWAYS_INLINE void shm_store##bits(void *p, uint##bits##_t value)                       \
    {                                                                                       \
        __atomic_store_n((uint##bits##_t *)p, value, __ATOMIC_RELAXED);                     \
    }                                                                                       \
    ALWAYS_INLINE void shm_store##bits##_release(void *p, uint##bits##_t value)             \
    {                                                                                       \
        __atomic_store_n((uint##bits##_t *)p, value, __ATOMIC_RELEASE);                     \
    }

SHM_DEFINE(8)
SHM_DEFINE(16)
SHM_DEFINE(32)
SHM_DEFINE(64)
#undef SHM_DEFINE

/* Orders everything before against everything after, stores against loads included
 * ("arm, full barrier, look again"). */
ALWAYS_INLINE void shm_full_barrier(void)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

#endif
