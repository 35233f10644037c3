/*
 * ChaCha20 with fast key erasure: of each run of the cipher the first block (counter 0) becomes the
 * next key, the blocks behind it (counter 1 and up) are given out and erased as they are given.
 * The nonce stays zero: no key serves twice.
 *
 * Leaves out: reseeding (boards have one source, at start), and the copies that the cipher itself
 * leaves on the stack until later calls overwrite them. Source: RFC 8439 2.4.
 */
#include "base/rng.h"

#include <bearssl/bearssl_block.h>
#include <string.h>
#include "base/assert.h"
#include "base/bits.h"

/* The old key waits at the end of the block while the new one is made, then it is erased in place:
 * no copy of it stands anywhere else. */
#define STREAM_BYTES (RNG_BLOCK_BYTES - RNG_KEY_BYTES)

static const uint8_t nonce[12];

static void refill(struct rng *rng)
{
    uint8_t *old_key = rng->bytes + STREAM_BYTES;

    memcpy(old_key, rng->key, RNG_KEY_BYTES);
    memset(rng->key, 0, RNG_KEY_BYTES);
    memset(rng->bytes, 0, STREAM_BYTES);
    br_chacha20_ct_run(old_key, nonce, 0, rng->key, RNG_KEY_BYTES);
    br_chacha20_ct_run(old_key, nonce, 1, rng->bytes, STREAM_BYTES);
    memset(old_key, 0, RNG_KEY_BYTES);
    rng->used = 0;
}

enum status rng_seed(struct rng *rng, const void *seed, size_t seed_bytes)
{
    const uint8_t *bytes = seed;

    if (seed == NULL || seed_bytes < RNG_SEED_BYTES) {
        return STATUS_BAD_DATA;
    }
    memset(rng, 0, sizeof(*rng));
    for (size_t i = 0; i < seed_bytes; i++) {
        if (i != 0 && i % RNG_KEY_BYTES == 0) {
            refill(rng); /* each part of a long seed goes through the cipher */
        }
        rng->key[i % RNG_KEY_BYTES] ^= bytes[i];
    }
    memset(rng->bytes, 0, RNG_BLOCK_BYTES);
    rng->used = STREAM_BYTES;
    rng->is_seeded = true;
    return STATUS_OK;
}

void rng_fork(struct rng *parent, struct rng *child)
{
    memset(child, 0, sizeof(*child));
    rng_fill(parent, child->key, RNG_KEY_BYTES);
    child->used = STREAM_BYTES;
    child->is_seeded = true;
}

void rng_fill(struct rng *rng, void *bytes, size_t len_bytes)
{
    uint8_t *to = bytes;

    ASSERT(rng->is_seeded);
    while (len_bytes > 0) {
        if (rng->used == STREAM_BYTES) {
            refill(rng);
        }
        size_t part_bytes = (size_t)min_u64(len_bytes, STREAM_BYTES - rng->used);
        memcpy(to, rng->bytes + rng->used, part_bytes);
        memset(rng->bytes + rng->used, 0, part_bytes);
        rng->used += (uint32_t)part_bytes;
        to += part_bytes;
        len_bytes -= part_bytes;
    }
}

uint32_t rng_u32(struct rng *rng)
{
    uint32_t value;

    rng_fill(rng, &value, sizeof(value));
    return value;
}
