/*
 * Single accesses to memory that somebody else changes meanwhile: host memory, BAR pages, rings
 * shared with a device or a host process. Each access happens exactly once, whole, and is not moved
 * across the order that its name states. Every acquire names its release in a comment where it is
 * used.
 *
 * Not for device registers: those are hal/mmio.h. Not between our cores: those are C11 atomics.
 */
#ifndef BASE_SHM_H
#define BASE_SHM_H

#include <stdint.h>
#include "base/compiler.h"

#define SHM_DEFINE(bits)                                                        \
    ALWAYS_INLINE uint##bits##_t shm_load##bits(const void *p)                  \
    {                                                                           \
        return __atomic_load_n((const uint##bits##_t *)p, __ATOMIC_RELAXED);    \
    }                                                                           \
    ALWAYS_INLINE uint##bits##_t shm_load##bits##_acquire(const void *p)        \
    {                                                                           \
        return __atomic_load_n((const uint##bits##_t *)p, __ATOMIC_ACQUIRE);    \
    }                                                                           \
    ALWAYS_INLINE void shm_store##bits(void *p, uint##bits##_t value)           \
    {                                                                           \
        __atomic_store_n((uint##bits##_t *)p, value, __ATOMIC_RELAXED);         \
    }                                                                           \
    ALWAYS_INLINE void shm_store##bits##_release(void *p, uint##bits##_t value) \
    {                                                                           \
        __atomic_store_n((uint##bits##_t *)p, value, __ATOMIC_RELEASE);         \
    }

SHM_DEFINE(8)
SHM_DEFINE(16)
SHM_DEFINE(32)
SHM_DEFINE(64)
#undef SHM_DEFINE

/* Copies 64 bytes, both sides 16-byte aligned, each byte read once and before anything that
 * follows. The pieces are not one access: for what its writer has published before and must not
 * change, such as a queue entry; a writer that changes it all the same only spoils the copy. */
ALWAYS_INLINE void shm_copy64(void *to, const void *from)
{
    const word128 *f = (const word128 *)from;
    word128 *t = (word128 *)to;
    word128 a = f[0];
    word128 b = f[1];
    word128 c = f[2];
    word128 d = f[3];

    t[0] = a;
    t[1] = b;
    t[2] = c;
    t[3] = d;
    /* The compiler must not look at `from` again. */
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/* The same for 32 bytes. */
ALWAYS_INLINE void shm_copy32(void *to, const void *from)
{
    const word128 *f = (const word128 *)from;
    word128 *t = (word128 *)to;
    word128 a = f[0];
    word128 b = f[1];

    t[0] = a;
    t[1] = b;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/* Orders everything before against everything after, stores against loads included
 * ("arm, full barrier, look again"). */
ALWAYS_INLINE void shm_full_barrier(void)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

#endif
