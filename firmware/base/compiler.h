/*
 * The one place for compiler extensions (gcc and clang).
 */
#ifndef BASE_COMPILER_H
#define BASE_COMPILER_H

#include <stddef.h>

#define ALWAYS_INLINE     static inline __attribute__((always_inline))
#define NOINLINE          __attribute__((noinline))
#define COLD              __attribute__((cold))
#define NORETURN          __attribute__((noreturn))
#define MUST_USE          __attribute__((warn_unused_result))
#define UNUSED            __attribute__((unused))
#define USED              __attribute__((used))
#define WEAK              __attribute__((weak))
#define PACKED            __attribute__((packed))
#define ALIGNED(bytes)    __attribute__((aligned(bytes)))
#define SECTION(name)     __attribute__((section(name)))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))
#define FALLTHROUGH       __attribute__((fallthrough))

#define LIKELY(x)   __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* 16 bytes that are copied as a whole; may lie over any type. */
typedef unsigned __int128 word128 __attribute__((may_alias));

/* The same for smaller ones: where memcpy() would be a call, as it is in a freestanding build. */
typedef unsigned short word16 __attribute__((may_alias));
typedef unsigned int word32 __attribute__((may_alias));
typedef unsigned long long word64 __attribute__((may_alias));

/* The pointer, of which the compiler now knows that it is aligned. */
#define ASSUME_ALIGNED(p, bytes) __builtin_assume_aligned((p), (bytes))

/* Asks for a line that will be read soon. */
#define PREFETCH_READ(p)  __builtin_prefetch((p), 0)
#define PREFETCH_WRITE(p) __builtin_prefetch((p), 1)

/* Copies a constant number of bytes in place: in a freestanding build memcpy() is a call. */
#define COPY_FIXED(to, from, bytes) ((void)__builtin_memcpy((to), (from), (bytes)))

/* One step of CRC-32 (IEEE 802.3, reflected) over 8 bytes, 4 or 1, where the core has instructions.
 */
#if defined(__ARM_FEATURE_CRC32) && defined(__clang__)
#define CRC32_STEP8(crc, word) __builtin_arm_crc32d((crc), (word))
#define CRC32_STEP4(crc, word) __builtin_arm_crc32w((crc), (word))
#define CRC32_STEP1(crc, byte) __builtin_arm_crc32b((crc), (byte))
#elif defined(__ARM_FEATURE_CRC32)
#define CRC32_STEP8(crc, word) __builtin_aarch64_crc32x((crc), (word))
#define CRC32_STEP4(crc, word) __builtin_aarch64_crc32w((crc), (word))
#define CRC32_STEP1(crc, byte) __builtin_aarch64_crc32b((crc), (byte))
#endif

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* The object of `type` whose field `member` is at `ptr`. */
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* Data that one core writes often stands alone on its cache lines. */
#define CACHE_LINE_BYTES 64
#define CACHE_ALIGNED    ALIGNED(CACHE_LINE_BYTES)

/* Every byte of a wire struct is named: size and offset are asserted beside it. */
#define ASSERT_SIZE(type, bytes) \
    _Static_assert(sizeof(type) == (bytes), #type " must have " #bytes " bytes")
#define ASSERT_OFFSET(type, member, offset) \
    _Static_assert(offsetof(type, member) == (offset), #type "." #member " is misplaced")

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "NVMe and PCIe structures are read in place: the core must be little endian");

#endif
