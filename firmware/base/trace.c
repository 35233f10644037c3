#include "base/trace.h"

#include <string.h>

struct trace_ring trace_rings[LIMIT_CORES];
_Atomic uint32_t trace_classes = TRACE_CLASS_CONTROL | TRACE_CLASS_FAULT;

void trace_put(struct trace_ring *ring, enum trace_event event, uint16_t fn, uint32_t id,
               uint64_t a, uint64_t b)
{
    trace_write(ring, event, fn, id, a, b);
}

/* Records that a reader may trust while `head` was written: the slot of number `head` itself may be
 * under the pen, so its old content, number head - LIMIT_TRACE_RECORDS, is out. */
#define TRACE_READABLE (LIMIT_TRACE_RECORDS - 1)

static uint64_t oldest_readable(uint64_t head)
{
    return head > TRACE_READABLE ? head - TRACE_READABLE : 0;
}

static void copy_record(struct trace_ring *ring, uint64_t number, struct trace_record *record)
{
    uint64_t copy[TRACE_RECORD_WORDS];
    for (uint32_t i = 0; i < TRACE_RECORD_WORDS; i++) {
        copy[i] = atomic_load_explicit(&ring->words[number % LIMIT_TRACE_RECORDS][i],
                                       memory_order_relaxed);
    }
    memcpy(record, copy, sizeof(copy));
}

uint32_t trace_read(uint32_t core, uint64_t *next, struct trace_record *records, uint32_t max,
                    uint64_t *lost)
{
    struct trace_ring *ring = &trace_rings[core];
    /* Pairs with TRACE-PUBLISH. */
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
    uint64_t asked = min_u64(*next, head); /* a position from the future starts over at the end */
    uint64_t first = max_u64(asked, oldest_readable(head));
    uint32_t count = (uint32_t)min_u64(head - first, max);

    for (uint32_t i = 0; i < count; i++) {
        copy_record(ring, first + i, &records[i]);
    }

    /* Pairs with TRACE-OVERWRITE: whatever was overwritten during the copy lies below the oldest
     * that is readable now. */
    atomic_thread_fence(memory_order_acquire);
    head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    uint32_t torn = (uint32_t)min_u64(max_u64(oldest_readable(head), first) - first, count);
    if (torn > 0) {
        memmove(records, records + torn, (count - torn) * sizeof(*records));
    }

    if (lost != NULL) {
        *lost = first + torn - asked;
    }
    *next = first + count;
    return count - torn;
}

const struct trace_event_info *trace_event_info(uint16_t event)
{
    static const struct trace_event_info infos[] = {
#define TRACE_EVENT_INFO(number, name, class, id, a, b) [number] = {#name, id, a, b},
        TRACE_EVENT_LIST(TRACE_EVENT_INFO)
#undef TRACE_EVENT_INFO
    };
    if (event >= ARRAY_SIZE(infos) || infos[event].name == NULL) {
        return NULL;
    }
    return &infos[event];
}
