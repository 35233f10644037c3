/*
 * Binary trace: one ring of fixed records per core, written by that core alone, overwriting the
 * oldest. Any core (or an interrupt handler) can read it meanwhile. Names of events:
 * base/trace_events.h.
 *
 * A class that is off costs a load and a branch; one that is on about 20 instructions. The time is
 * the one of the reactor's turn (trace_set_time), so that no clock is read per record.
 */
#ifndef BASE_TRACE_H
#define BASE_TRACE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/bits.h"
#include "base/compiler.h"
#include "base/limits.h"
#include "base/trace_events.h"

enum trace_event {
#define TRACE_EVENT_ENUM(number, name, class, id, a, b) TRACE_##name = (number),
    TRACE_EVENT_LIST(TRACE_EVENT_ENUM)
#undef TRACE_EVENT_ENUM
};

enum trace_class {
#define TRACE_CLASS_ENUM(name, bit) TRACE_CLASS_##name = 1 << (bit),
    TRACE_CLASS_LIST(TRACE_CLASS_ENUM)
#undef TRACE_CLASS_ENUM
    TRACE_CLASS_ALL = 0xff,
};

/* The class of each event as a constant: TRACE_IO_FETCH_CLASS. */
enum trace_event_class {
#define TRACE_EVENT_CLASS(number, name, class, id, a, b) TRACE_##name##_CLASS = TRACE_CLASS_##class,
    TRACE_EVENT_LIST(TRACE_EVENT_CLASS)
#undef TRACE_EVENT_CLASS
};

/* As it lies in memory and as host tools read it: little endian. */
struct trace_record {
    uint64_t time_ns;
    uint16_t event; /* enum trace_event */
    uint16_t fn;    /* tenant */
    uint32_t id;
    uint64_t a;
    uint64_t b;
};
ASSERT_SIZE(struct trace_record, 32);

#define TRACE_RECORD_WORDS (sizeof(struct trace_record) / sizeof(uint64_t))

struct trace_ring {
    CACHE_ALIGNED _Atomic uint64_t head; /* records ever written; only the owner core writes */
    uint64_t time_ns;                    /* owner core */
    _Atomic uint64_t words[LIMIT_TRACE_RECORDS][TRACE_RECORD_WORDS];
};
_Static_assert((LIMIT_TRACE_RECORDS & (LIMIT_TRACE_RECORDS - 1)) == 0, "power of two");

extern struct trace_ring trace_rings[LIMIT_CORES];

/* TRACE_CLASS_* that are on. At start: CONTROL and FAULT. */
extern _Atomic uint32_t trace_classes;

/* Which classes all cores record from now on. Any core. */
ALWAYS_INLINE void trace_enable(uint32_t classes)
{
    atomic_store_explicit(&trace_classes, classes, memory_order_relaxed);
}

/* The time that the records of the calling core carry from now on. */
ALWAYS_INLINE void trace_set_time(uint32_t core, uint64_t now_ns)
{
    trace_rings[core].time_ns = now_ns;
}

/* Writes a record. The ring's core. */
ALWAYS_INLINE void trace_write(struct trace_ring *ring, enum trace_event event, uint16_t fn,
                               uint32_t id, uint64_t a, uint64_t b)
{
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    _Atomic uint64_t *words = ring->words[head % LIMIT_TRACE_RECORDS];

    /* TRACE-OVERWRITE (release): who sees one of the words below also sees `head`, hence that the
     * old record in this slot is going. Pairs with the acquire fence in trace_read(). */
    atomic_thread_fence(memory_order_release);
    atomic_store_explicit(&words[0], ring->time_ns, memory_order_relaxed);
    atomic_store_explicit(&words[1], (uint64_t)id << 32 | (uint32_t)fn << 16 | (uint16_t)event,
                          memory_order_relaxed);
    atomic_store_explicit(&words[2], a, memory_order_relaxed);
    atomic_store_explicit(&words[3], b, memory_order_relaxed);
    /* TRACE-PUBLISH (release): pairs with the acquire load of head in trace_read(). */
    atomic_store_explicit(&ring->head, head + 1, memory_order_release);
}

/* The same, once in the text for all trace points. */
void trace_put(struct trace_ring *ring, enum trace_event event, uint16_t fn, uint32_t id,
               uint64_t a, uint64_t b);

ALWAYS_INLINE bool trace_is_on(enum trace_class class)
{
    return UNLIKELY((atomic_load_explicit(&trace_classes, memory_order_relaxed) & class) != 0);
}

/* TRACE(cpu_self(), IO_FETCH, fn, id, a, b): `core` is the calling core; not from interrupt
 * handlers. */
#define TRACE(core, name, fn, id, a, b)                                                 \
    do {                                                                                \
        if (UNLIKELY((atomic_load_explicit(&trace_classes, memory_order_relaxed) &      \
                      TRACE_##name##_CLASS) != 0)) {                                    \
            trace_put(&trace_rings[core], TRACE_##name, (uint16_t)(fn), (uint32_t)(id), \
                      (uint64_t)(a), (uint64_t)(b));                                    \
        }                                                                               \
    } while (0)

/* Copies the oldest records from number *next on, at most `max`, and moves *next behind them.
 * Returns how many; *lost (may be NULL) tells how many were overwritten before. Takes no lock and
 * always ends; the owner may go on writing. Any core, any context. */
uint32_t trace_read(uint32_t core, uint64_t *next, struct trace_record *records, uint32_t max,
                    uint64_t *lost);

/* Names for reports; NULL for a number outside the list. */
struct trace_event_info {
    const char *name;
    const char *id;
    const char *a;
    const char *b;
};
const struct trace_event_info *trace_event_info(uint16_t event);

#endif
