/*
 * Pool of equal objects in memory that the caller gives: no heap. Owned by one core.
 * A free object's first pointer links the free list (last in, first out: the warmest object first).
 */
#ifndef BASE_POOL_H
#define BASE_POOL_H

#include <stdbool.h>
#include <stdint.h>
#include "base/assert.h"
#include "base/compiler.h"

struct pool {
    void *free_list;
    uint32_t free_count;
    uint32_t count;
    uint32_t low_water; /* the fewest free objects ever seen */
    const char *name;
};

/* Puts `count` objects of `object_bytes` (a multiple of 8, not 0) at `memory` into the pool. */
void pool_init(struct pool *pool, const char *name, void *memory, uint32_t object_bytes,
               uint32_t count);

/* NULL when the pool is empty: the next pool_put() is what wakes. The content is what was left. */
ALWAYS_INLINE void *pool_get(struct pool *pool)
{
    void *object = pool->free_list;
    if (LIKELY(object != NULL)) {
        pool->free_list = *(void **)object;
        pool->free_count--;
        if (pool->free_count < pool->low_water) {
            pool->low_water = pool->free_count;
        }
    }
    return object;
}

ALWAYS_INLINE void pool_put(struct pool *pool, void *object)
{
    *(void **)object = pool->free_list;
    pool->free_list = object;
    pool->free_count++;
    ASSERT(pool->free_count <= pool->count);
}

/* Every object is back: what tests check after each case. */
ALWAYS_INLINE bool pool_is_full(const struct pool *pool)
{
    return pool->free_count == pool->count;
}

#endif
