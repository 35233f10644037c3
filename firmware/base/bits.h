/*
 * Bit fields of registers and wire formats: named by shift and width, never by C bit-fields.
 */
#ifndef BASE_BITS_H
#define BASE_BITS_H

#include <stdbool.h>
#include <stdint.h>
#include "base/compiler.h"

#define BIT32(n) (UINT32_C(1) << (n))
#define BIT64(n) (UINT64_C(1) << (n))

/* A field is written once as two macros: NAME_SHIFT and NAME_BITS. */
#define FIELD_MASK(name)        ((UINT64_C(1) << name##_BITS) - 1)
#define FIELD_GET(name, value)  (((uint64_t)(value) >> name##_SHIFT) & FIELD_MASK(name))
#define FIELD_PREP(name, value) (((uint64_t)(value)&FIELD_MASK(name)) << name##_SHIFT)

ALWAYS_INLINE bool is_power_of_two(uint64_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

/* `alignment` is a power of two. */
ALWAYS_INLINE uint64_t align_up(uint64_t value, uint64_t alignment)
{
    return (value + alignment - 1) & ~(alignment - 1);
}

ALWAYS_INLINE uint64_t align_down(uint64_t value, uint64_t alignment)
{
    return value & ~(alignment - 1);
}

ALWAYS_INLINE bool is_aligned(uint64_t value, uint64_t alignment)
{
    return (value & (alignment - 1)) == 0;
}

ALWAYS_INLINE uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

ALWAYS_INLINE uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

ALWAYS_INLINE uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* True if [start, start + length) lies in [0, limit), without wrapping. */
ALWAYS_INLINE bool range_fits(uint64_t start, uint64_t length, uint64_t limit)
{
    return length <= limit && start <= limit - length;
}

/* Index of the lowest set bit; `value` is not 0. */
ALWAYS_INLINE uint32_t lowest_bit(uint64_t value)
{
    return (uint32_t)__builtin_ctzll(value);
}

#endif
