/* What a fuzzer got, taken in order: past its end all is 0. And the check that ends a run. */
#ifndef TESTS_FUZZ_INPUT_H
#define TESTS_FUZZ_INPUT_H

#include <stdint.h>
#include <stdlib.h>
#include "base/compiler.h"

struct input {
    const uint8_t *at;
    const uint8_t *end;
};

#define CHECK(condition)    \
    do {                    \
        if (!(condition)) { \
            abort();        \
        }                   \
    } while (0)

ALWAYS_INLINE uint8_t take8(struct input *in)
{
    return in->at < in->end ? *in->at++ : 0;
}

/* Little-endian. */
ALWAYS_INLINE uint32_t take16(struct input *in)
{
    uint32_t low = take8(in);
    return low | (uint32_t)take8(in) << 8;
}

ALWAYS_INLINE uint32_t take32(struct input *in)
{
    uint32_t low = take16(in);
    return low | take16(in) << 16;
}

#endif
