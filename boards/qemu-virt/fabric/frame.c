/*
 * Buffers of frames, and queues of them. The last one given back is the next one taken: only as
 * much memory is touched as frames are under way.
 */
#include "boards/qemu-virt/fabric/fabric.h"

#include <string.h>

void fabric_pool_init(struct fabric_pool *pool)
{
    pool->free = (struct fabric_queue){.first = NULL};
    for (uint32_t i = 0; i < FABRIC_FRAMES; i++) {
        fabric_queue_push(&pool->free, &pool->frames[i]);
    }
}

struct fabric_frame *fabric_frame_get(struct fabric_pool *pool)
{
    return fabric_queue_pop(&pool->free);
}

struct fabric_frame *fabric_frame_copy(struct fabric_pool *pool, const struct fabric_frame *frame)
{
    struct fabric_frame *copy = fabric_frame_get(pool);

    if (copy != NULL) {
        copy->len_bytes = frame->len_bytes;
        memcpy(copy->bytes, frame->bytes, frame->len_bytes);
    }
    return copy;
}

void fabric_frame_put(struct fabric_pool *pool, struct fabric_frame *frame)
{
    struct fabric_queue *free = &pool->free;

    frame->next = free->first;
    free->first = frame;
    free->last = free->last == NULL ? frame : free->last;
    free->count++;
}

void fabric_queue_push(struct fabric_queue *queue, struct fabric_frame *frame)
{
    frame->next = NULL;
    if (queue->last == NULL) {
        queue->first = frame;
    } else {
        queue->last->next = frame;
    }
    queue->last = frame;
    queue->count++;
}

struct fabric_frame *fabric_queue_pop(struct fabric_queue *queue)
{
    struct fabric_frame *frame = queue->first;

    if (frame != NULL) {
        queue->first = frame->next;
        queue->last = queue->first == NULL ? NULL : queue->last;
        queue->count--;
    }
    return frame;
}
