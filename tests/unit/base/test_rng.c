#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/rng.h"
#include "base/panic_catch.h"

/* RFC 8439 A.1: key and nonce all zero. Vector 1 is block 0, vector 2 block 1. */
static const uint8_t vector1[64] = {
    0x76, 0xb8, 0xe0, 0xad, 0xa0, 0xf1, 0x3d, 0x90, 0x40, 0x5d, 0x6a, 0xe5, 0x53, 0x86, 0xbd, 0x28,
    0xbd, 0xd2, 0x19, 0xb8, 0xa0, 0x8d, 0xed, 0x1a, 0xa8, 0x36, 0xef, 0xcc, 0x8b, 0x77, 0x0d, 0xc7,
    0xda, 0x41, 0x59, 0x7c, 0x51, 0x57, 0x48, 0x8d, 0x77, 0x24, 0xe0, 0x3f, 0xb8, 0xd8, 0x4a, 0x37,
    0x6a, 0x43, 0xb8, 0xf4, 0x15, 0x18, 0xa1, 0x1c, 0xc3, 0x87, 0xb6, 0x69, 0xb2, 0xee, 0x65, 0x86};
static const uint8_t vector2[64] = {
    0x9f, 0x07, 0xe7, 0xbe, 0x55, 0x51, 0x38, 0x7a, 0x98, 0xba, 0x97, 0x7c, 0x73, 0x2d, 0x08, 0x0d,
    0xcb, 0x0f, 0x29, 0xa0, 0x48, 0xe3, 0x65, 0x69, 0x12, 0xc6, 0x53, 0x3e, 0x32, 0xee, 0x7a, 0xed,
    0x29, 0xb7, 0x21, 0x76, 0x9c, 0xe6, 0x4e, 0x43, 0xd5, 0x71, 0x33, 0xb0, 0x74, 0xd8, 0x39, 0xd5,
    0x31, 0xed, 0x1f, 0x28, 0x51, 0x0a, 0xfb, 0x45, 0xac, 0xe1, 0x0a, 0x1f, 0x4b, 0x79, 0x4d, 0x6f};

/* What is given out of one run of the cipher. */
#define RUN_BYTES (RNG_BLOCK_BYTES - RNG_KEY_BYTES)

static const uint8_t zero_seed[RNG_SEED_BYTES];

static struct rng seeded(const void *seed, size_t seed_bytes)
{
    struct rng rng;
    memset(&rng, 0xee, sizeof(rng));
    assert_int_equal(rng_seed(&rng, seed, seed_bytes), STATUS_OK);
    return rng;
}

static bool holds(const void *memory, size_t memory_bytes, const void *what, size_t len_bytes)
{
    const uint8_t *bytes = memory;
    for (size_t i = 0; i + len_bytes <= memory_bytes; i++) {
        if (memcmp(bytes + i, what, len_bytes) == 0) {
            return true;
        }
    }
    return false;
}

/* RFC 8439 A.1 vector 2: the stream is the cipher's from block 1 on. */
static void rng_fill_zero_seed_gives_rfc8439_block_1(void **state)
{
    (void)state;
    struct rng rng = seeded(zero_seed, sizeof(zero_seed));
    uint8_t out[sizeof(vector2)];
    rng_fill(&rng, out, sizeof(out));
    assert_memory_equal(out, vector2, sizeof(out));
}

/* RFC 8439 A.1 vector 1: block 0 is the next key. */
static void rng_fill_first_byte_makes_block_0_the_key(void **state)
{
    (void)state;
    struct rng rng = seeded(zero_seed, sizeof(zero_seed));
    uint8_t out;
    rng_fill(&rng, &out, 1);
    assert_memory_equal(rng.key, vector1, RNG_KEY_BYTES);

    /* the second run is what a generator gives that has this key as its seed */
    uint8_t rest[RUN_BYTES - 1];
    uint8_t second[RUN_BYTES];
    uint8_t expected[RUN_BYTES];
    rng_fill(&rng, rest, sizeof(rest));
    rng_fill(&rng, second, sizeof(second));
    struct rng other = seeded(vector1, RNG_KEY_BYTES);
    rng_fill(&other, expected, sizeof(expected));
    assert_memory_equal(second, expected, sizeof(second));
}

static void rng_fill_in_parts_gives_the_same_stream(void **state)
{
    (void)state;
    static uint8_t whole[3 * RNG_BLOCK_BYTES];
    static uint8_t parts[3 * RNG_BLOCK_BYTES];
    struct rng a = seeded(vector2, sizeof(vector2));
    struct rng b = a;
    rng_fill(&a, whole, sizeof(whole));
    size_t done = 0;
    for (size_t part = 0; done < sizeof(parts); part++) {
        size_t len = part % 37;
        len = len < sizeof(parts) - done ? len : sizeof(parts) - done;
        rng_fill(&b, parts + done, len);
        done += len;
    }
    assert_memory_equal(whole, parts, sizeof(whole));
    assert_memory_equal(&a, &b, sizeof(a));
}

static void rng_u32_is_the_next_four_bytes(void **state)
{
    (void)state;
    struct rng rng = seeded(zero_seed, sizeof(zero_seed));
    uint32_t first;
    memcpy(&first, vector2, sizeof(first));
    assert_int_equal(rng_u32(&rng), first);
}

static void rng_seed_short_or_absent_is_bad_data(void **state)
{
    (void)state;
    struct rng rng = {0};
    assert_int_equal(rng_seed(&rng, NULL, 64), STATUS_BAD_DATA);
    assert_int_equal(rng_seed(&rng, zero_seed, RNG_SEED_BYTES - 1), STATUS_BAD_DATA);
    assert_int_equal(rng_seed(&rng, NULL, 0), STATUS_BAD_DATA);
    assert_false(rng.is_seeded);
}

/* Each bit of a seed, of a long one too, changes what comes out. */
static void rng_seed_any_bit_changes_the_stream(void **state)
{
    (void)state;
    uint8_t seed[75];
    uint8_t reference[16];
    memset(seed, 0x5a, sizeof(seed));
    struct rng rng = seeded(seed, sizeof(seed));
    rng_fill(&rng, reference, sizeof(reference));
    for (size_t bit = 0; bit < sizeof(seed) * 8; bit++) {
        uint8_t out[16];
        seed[bit / 8] ^= (uint8_t)(1u << bit % 8);
        rng = seeded(seed, sizeof(seed));
        rng_fill(&rng, out, sizeof(out));
        seed[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_memory_not_equal(out, reference, sizeof(out));
    }
}

static void rng_fork_children_and_parent_share_nothing(void **state)
{
    (void)state;
    uint8_t out[3][256];
    struct rng parent = seeded(vector1, sizeof(vector1));
    struct rng child[2];
    rng_fork(&parent, &child[0]);
    rng_fork(&parent, &child[1]);
    rng_fill(&parent, out[0], sizeof(out[0]));
    rng_fill(&child[0], out[1], sizeof(out[1]));
    rng_fill(&child[1], out[2], sizeof(out[2]));
    for (int i = 0; i < 3; i++) {
        for (int k = 0; k < 3; k++) {
            for (size_t at = 0; i != k && at + 8 <= sizeof(out[0]); at += 8) {
                assert_false(holds(out[k], sizeof(out[k]), out[i] + at, 8));
            }
        }
    }
}

/* What the parent handed to a child is not in the parent any more. */
static void rng_fork_child_key_is_not_left_in_parent(void **state)
{
    (void)state;
    struct rng parent = seeded(vector1, sizeof(vector1));
    struct rng child;
    rng_fork(&parent, &child);
    assert_false(holds(&parent, sizeof(parent), child.key, 8));
}

/* Who reads the state learns nothing of what was given: not the bytes, not the key behind them. */
static void rng_fill_given_bytes_and_old_keys_are_erased(void **state)
{
    (void)state;
    struct rng rng = seeded(vector1, RNG_SEED_BYTES);
    for (int round = 0; round < 40; round++) {
        uint8_t key[RNG_KEY_BYTES];
        uint8_t out[100];
        memcpy(key, rng.key, sizeof(key));
        uint32_t used_before = rng.used;
        rng_fill(&rng, out, sizeof(out));
        for (size_t at = 0; at + 8 <= sizeof(out); at++) {
            assert_false(holds(&rng, sizeof(rng), out + at, 8));
        }
        if (rng.used < used_before) { /* a new run of the cipher */
            assert_false(holds(&rng, sizeof(rng), key, 8));
        }
    }
}

static void rng_fill_unseeded_is_our_bug(void **state)
{
    (void)state;
    static struct rng rng;
    uint8_t out[4];
    ASSERT_PANICS(rng_fill(&rng, out, sizeof(out)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rng_fill_zero_seed_gives_rfc8439_block_1),
        cmocka_unit_test(rng_fill_first_byte_makes_block_0_the_key),
        cmocka_unit_test(rng_fill_in_parts_gives_the_same_stream),
        cmocka_unit_test(rng_u32_is_the_next_four_bytes),
        cmocka_unit_test(rng_seed_short_or_absent_is_bad_data),
        cmocka_unit_test(rng_seed_any_bit_changes_the_stream),
        cmocka_unit_test(rng_fork_children_and_parent_share_nothing),
        cmocka_unit_test(rng_fork_child_key_is_not_left_in_parent),
        cmocka_unit_test(rng_fill_given_bytes_and_old_keys_are_erased),
        cmocka_unit_test(rng_fill_unseeded_is_our_bug),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
