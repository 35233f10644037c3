/*
 * A cryptographic random number generator: ChaCha20 (RFC 8439) that takes its next key from its own
 * output ("fast key erasure"), so that who reads its state later learns nothing of what it gave.
 * For what a peer must not guess: QP numbers, memory keys, packet sequence numbers.
 *
 * Owned by one core; each core gets its own by rng_fork(). The cipher is BearSSL's.
 */
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/compiler.h"
#include "base/status.h"

#define RNG_KEY_BYTES   32
#define RNG_BLOCK_BYTES 512
/* The least that a seed must have. */
#define RNG_SEED_BYTES 32

struct rng {
    uint8_t key[RNG_KEY_BYTES];
    uint8_t bytes[RNG_BLOCK_BYTES];
    uint32_t used; /* of bytes */
    bool is_seeded;
};

/* BAD_DATA: fewer than RNG_SEED_BYTES, or NULL: the board has no seed, and there can be no fabric.
 */
MUST_USE enum status rng_seed(struct rng *rng, const void *seed, size_t seed_bytes);

/* A generator of its own for another core, seeded from this one. */
void rng_fork(struct rng *parent, struct rng *child);

/* The generator is seeded. */
uint32_t rng_u32(struct rng *rng);
void rng_fill(struct rng *rng, void *bytes, size_t len_bytes);

#endif
