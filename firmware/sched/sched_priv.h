/*
 * Inside of sched: the reactor of a core and its timer wheel.
 */
#ifndef SCHED_SCHED_PRIV_H
#define SCHED_SCHED_PRIV_H

#include "hal/cpu.h"
#include "sched/sched.h"

/* --- timer wheel --------------------------------------------------------------------------- */

/*
 * Hierarchical: level 0 has a slot for each of the next ticks, a slot of level n+1 stands for all
 * 64 slots of level n. A timer stands on the level of the highest base-64 digit in which its tick
 * differs from the wheel's; so no slot ever wraps, and the earliest timer is in the lowest occupied
 * slot of the lowest occupied level. Eight digits hold every 64-bit time: there is no deadline too
 * far.
 */
#define WHEEL_TICK_SHIFT 16 /* a tick is 2^16 ns */
#define WHEEL_DIGIT_BITS 6
#define WHEEL_SLOTS      (1u << WHEEL_DIGIT_BITS)
#define WHEEL_LEVELS     8
#define WHEEL_LAST_TICK  ((UINT64_C(1) << (64 - WHEEL_TICK_SHIFT)) - 1)

struct wheel {
    uint64_t tick;                   /* all slots before it are empty */
    uint64_t next_ns;                /* nothing to do before; a lower bound */
    uint64_t occupied[WHEEL_LEVELS]; /* a bit for each slot; its list may be empty by a cancel */
    struct list due;                 /* armed for a tick that had passed already */
    struct list firing;              /* taken out by wheel_run(), callbacks not yet called */
    struct list slots[WHEEL_LEVELS][WHEEL_SLOTS];
};

void wheel_init(struct wheel *wheel);
void wheel_insert(struct wheel *wheel, struct timer *timer);

/* Calls back all timers whose tick has come; those armed meanwhile for the past come next time.
 * Returns how many were called. */
uint32_t wheel_run(struct wheel *wheel, uint64_t now_ns);

/* --- reactor ------------------------------------------------------------------------------- */

struct reactor {
    /* Of the owner core; the first lines are what a turn touches. */
    CACHE_ALIGNED uint64_t now_ns;
    uint64_t clock_turn;      /* the turn that reads the clock next */
    uint64_t busy_turns_seen; /* busy_turn_count when the clock was read */
    bool attention;           /* sched_run() is to look: idle or stop */
    _Atomic uint64_t turn_count;
    _Atomic uint64_t busy_turn_count;
    _Atomic uint64_t sleep_count;
    _Atomic uint64_t sleep_ns;
    _Atomic uint64_t msg_count;
    uint64_t last_work_ns;
    uint64_t sampled_turn;          /* the last turn that was measured */
    struct poller *_Atomic running; /* whose turn it is, or was last; NULL: asleep, or none yet */

    /* Holes are NULL. Written by the owner core, read by any (reports). */
    struct poller *_Atomic *pollers_end; /* behind the last in use */
    struct poller *_Atomic pollers[LIMIT_POLLERS_PER_CORE];

    struct wheel wheel;

    /* Of all cores. */
    CACHE_ALIGNED struct msg *_Atomic inbox; /* last sent first */
    _Atomic bool is_asleep;                  /* senders must wake */
};

extern struct reactor reactors[LIMIT_CORES];
extern enum sched_idle sched_idle_policy;
extern _Atomic bool sched_is_stopped;

/* The reactor of the calling core. */
ALWAYS_INLINE struct reactor *reactor_self(void)
{
    return &reactors[cpu_self()];
}

/* For the owner core, which needs no order to read what itself wrote. NULL: a hole. */
ALWAYS_INLINE struct poller *reactor_poller(struct poller *_Atomic *slot)
{
    return atomic_load_explicit(slot, memory_order_relaxed);
}

#endif
