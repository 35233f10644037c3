/*
 * A count that one core writes and any core reads: costs what a plain integer costs, and no reader
 * sees half a value. For statistics; it orders nothing.
 */
#ifndef BASE_COUNTER_H
#define BASE_COUNTER_H

#include <stdatomic.h>
#include <stdint.h>
#include "base/compiler.h"

/* Any core. */
ALWAYS_INLINE uint64_t counter_get(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

/* The writing core alone: not a read-modify-write. */
ALWAYS_INLINE void counter_set(_Atomic uint64_t *counter, uint64_t value)
{
    atomic_store_explicit(counter, value, memory_order_relaxed);
}

ALWAYS_INLINE void counter_add(_Atomic uint64_t *counter, uint64_t amount)
{
    counter_set(counter, counter_get(counter) + amount);
}

#endif
