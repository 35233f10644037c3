/*
 * Network byte order: integers on a wire are structs of bytes, so that nobody reads one without
 * turning it round, and so that they lie anywhere. Compilers make single loads and stores of these
 * where the core can do them unaligned; with -mstrict-align they are byte accesses, unless the
 * object is known to be aligned.
 */
#ifndef BASE_ENDIAN_H
#define BASE_ENDIAN_H

#include <stdint.h>
#include "base/compiler.h"

struct be16 {
    uint8_t bytes[2];
};
struct be24 {
    uint8_t bytes[3];
};
struct be32 {
    uint8_t bytes[4];
};
struct be64 {
    uint8_t bytes[8];
};

ALWAYS_INLINE uint16_t be16_get(struct be16 v)
{
    return (uint16_t)(v.bytes[0] << 8 | v.bytes[1]);
}

ALWAYS_INLINE struct be16 be16_make(uint16_t value)
{
    return (struct be16){{(uint8_t)(value >> 8), (uint8_t)value}};
}

ALWAYS_INLINE uint32_t be24_get(struct be24 v)
{
    return (uint32_t)v.bytes[0] << 16 | (uint32_t)v.bytes[1] << 8 | v.bytes[2];
}

/* The upper 8 bits of `value` are dropped. */
ALWAYS_INLINE struct be24 be24_make(uint32_t value)
{
    return (struct be24){{(uint8_t)(value >> 16), (uint8_t)(value >> 8), (uint8_t)value}};
}

ALWAYS_INLINE uint32_t be32_get(struct be32 v)
{
    return (uint32_t)v.bytes[0] << 24 | (uint32_t)v.bytes[1] << 16 | (uint32_t)v.bytes[2] << 8 |
           v.bytes[3];
}

ALWAYS_INLINE struct be32 be32_make(uint32_t value)
{
    return (struct be32){
        {(uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8), (uint8_t)value}};
}

ALWAYS_INLINE uint64_t be64_get(struct be64 v)
{
    struct be32 high = {{v.bytes[0], v.bytes[1], v.bytes[2], v.bytes[3]}};
    struct be32 low = {{v.bytes[4], v.bytes[5], v.bytes[6], v.bytes[7]}};

    return (uint64_t)be32_get(high) << 32 | be32_get(low);
}

ALWAYS_INLINE struct be64 be64_make(uint64_t value)
{
    return (struct be64){{(uint8_t)(value >> 56), (uint8_t)(value >> 48), (uint8_t)(value >> 40),
                          (uint8_t)(value >> 32), (uint8_t)(value >> 24), (uint8_t)(value >> 16),
                          (uint8_t)(value >> 8), (uint8_t)value}};
}

/* The same for what is known to lie at a multiple of 4: one load or store. */
ALWAYS_INLINE uint32_t be32_load(const void *aligned)
{
    return __builtin_bswap32(*(const word32 *)ASSUME_ALIGNED(aligned, 4));
}

ALWAYS_INLINE void be32_store(void *aligned, uint32_t value)
{
    *(word32 *)ASSUME_ALIGNED(aligned, 4) = __builtin_bswap32(value);
}

#endif
