/*
 * Device registers. The only place of `volatile`.
 *
 * Built with MMIO_MOCK, tests supply the accesses and see each of them in order.
 */
#ifndef HAL_MMIO_H
#define HAL_MMIO_H

#include <stdint.h>
#include "base/compiler.h"

/* A mapped register block. `base` stays valid for the life of the device. */
struct mmio {
    uintptr_t base;
};

#ifdef MMIO_MOCK
/* Tests supply these two; `bits` is 8, 16, 32 or 64. */
uint64_t mmio_mock_read(uintptr_t address, unsigned bits);
void mmio_mock_write(uintptr_t address, unsigned bits, uint64_t value);
#define MMIO_DEFINE(bits)                                                                 \
    ALWAYS_INLINE uint##bits##_t mmio_read##bits(struct mmio m, uint32_t offset)          \
    {                                                                                     \
        return (uint##bits##_t)mmio_mock_read(m.base + offset, bits);                     \
    }                                                                                     \
    ALWAYS_INLINE void mmio_write##bits(struct mmio m, uint32_t offset, uint##bits##_t v) \
    {                                                                                     \
        mmio_mock_write(m.base + offset, bits, v);                                        \
    }
#else
/* Accesses are made once, in program order among themselves; order against normal memory is the
 * caller's: hal/barrier.h. */
#define MMIO_DEFINE(bits)                                                                 \
    ALWAYS_INLINE uint##bits##_t mmio_read##bits(struct mmio m, uint32_t offset)          \
    {                                                                                     \
        return *(volatile uint##bits##_t *)(m.base + offset);                             \
    }                                                                                     \
    ALWAYS_INLINE void mmio_write##bits(struct mmio m, uint32_t offset, uint##bits##_t v) \
    {                                                                                     \
        *(volatile uint##bits##_t *)(m.base + offset) = v;                                \
    }
#endif

MMIO_DEFINE(8)
MMIO_DEFINE(16)
MMIO_DEFINE(32)
MMIO_DEFINE(64)
#undef MMIO_DEFINE

#endif
