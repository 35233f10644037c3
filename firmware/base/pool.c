#include "base/pool.h"

COLD void pool_init(struct pool *pool, const char *name, void *memory, uint32_t object_bytes,
                    uint32_t count)
{
    ASSERT(object_bytes >= sizeof(void *) && object_bytes % sizeof(void *) == 0);
    ASSERT((uintptr_t)memory % sizeof(void *) == 0);

    pool->free_list = NULL;
    pool->free_count = count;
    pool->count = count;
    pool->low_water = count;
    pool->name = name;

    /* Linked from the last to the first, so that objects leave in the order of their addresses. */
    char *object = (char *)memory + (size_t)object_bytes * count;
    for (uint32_t i = 0; i < count; i++) {
        object -= object_bytes;
        *(void **)(void *)object = pool->free_list;
        pool->free_list = object;
    }
}
