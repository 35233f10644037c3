/*
 * Run-to-completion scheduler: one reactor per core. A reactor turns a loop over its pollers, its
 * due timers and the messages that other cores sent; nothing in it blocks or is preempted.
 *
 * Every object has one owner core; other cores send a message. Leaves out: priorities, fairness
 * between pollers (each is a bounded batch), dynamic load balancing.
 */
#ifndef SCHED_SCHED_H
#define SCHED_SCHED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/compiler.h"
#include "base/counter.h"
#include "base/limits.h"
#include "base/list.h"

/* --- pollers ------------------------------------------------------------------------------- */

/* One bounded batch of work; returns the units of work done, 0 when there was nothing. Never
 * blocks. */
typedef uint32_t poller_run_fn(void *ctx);

/* Called with armed = true before the core sleeps: make sure that new work wakes it, then look once
 * more. Returns how long the core may sleep at most in ns: 0 when there is work (do not sleep),
 * UINT64_MAX when a wake-up is certain. Called with armed = false after waking (result ignored).
 * NULL: the poller needs no turn while others are idle (it is woken by messages or timers). */
typedef uint64_t poller_arm_fn(void *ctx, bool armed);

struct poller {
    const char *name;
    poller_run_fn *run;
    poller_arm_fn *arm;
    void *ctx;
    _Atomic uint64_t run_count;  /* turns; the three counts start at 0 when it is added */
    _Atomic uint64_t work_count; /* units of work, summed */
    _Atomic uint64_t busy_ns; /* time in turns with work: an estimate, one turn in 61 is measured */
};

/* Adds or removes a poller of the calling core, outside of or inside a poller's turn (removing
 * oneself is fine), not from poller_arm_fn. At most LIMIT_POLLERS_PER_CORE. Before sched_run()
 * starts on `core`, core 0 may add for it with sched_poller_add_to(). The memory stays a poller for
 * ever: a report of another core may still look at one that was removed. */
void sched_poller_add(struct poller *poller);
void sched_poller_remove(struct poller *poller);
void sched_poller_add_to(uint32_t core, struct poller *poller);

/* --- timers: owner core only --------------------------------------------------------------- */

struct timer;
typedef void timer_fn(struct timer *timer);

struct timer {
    struct list link;
    uint64_t deadline_ns;
    timer_fn *fn;
};

void timer_init(struct timer *timer, timer_fn *fn);
/* Fires once, never before `deadline_ns`, at most one wheel tick (2^16 ns = 66 us) and a few turns
 * of the reactor after it. Timers of one tick fire in the order in which they were armed. Arming an
 * armed timer moves it. A deadline that has passed fires in a later turn, also when armed from a
 * timer's callback. */
void timer_arm(struct timer *timer, uint64_t deadline_ns);
void timer_cancel(struct timer *timer); /* harmless when not armed */
bool timer_is_armed(const struct timer *timer);

/* --- messages ------------------------------------------------------------------------------ */

struct msg;
typedef void msg_fn(struct msg *msg);

/* Lives in the object that it is about; belongs to the receiver from send until `fn` runs. */
struct msg {
    struct msg *_Atomic next;
    msg_fn *fn;
};

/* Runs msg->fn(msg) once on `core`, after this returns (on the own core too: in a later part of the
 * turn). Messages of one sender arrive in order. Never full. Wakes a sleeping core. Any core. */
void msg_send(uint32_t core, struct msg *msg);

/* --- reactors ------------------------------------------------------------------------------ */

enum sched_idle {
    SCHED_IDLE_POLL,     /* never sleeps */
    SCHED_IDLE_ADAPTIVE, /* polls SCHED_SPIN_NS after the last work, then sleeps */
};

/* How long an adaptive reactor keeps polling after the last work. */
#define SCHED_SPIN_NS (UINT64_C(20) * 1000)

/* Once, on core 0, before anything else of this header. */
void sched_init(uint32_t core_count, enum sched_idle idle);
uint32_t sched_core_count(void);

/* Time as the calling core's reactor read it last: at the start of this turn, or up to three turns
 * before. Cheap: one load. */
uint64_t sched_now_ns(void);

/* Turns the calling core's reactor until sched_stop(). */
void sched_run(void);

/* One turn that reads the clock first; returns the units of work (messages, timers and pollers).
 * Never sleeps. For tests, benchmarks and simulation. */
uint32_t sched_turn(void);

/* Makes sched_run() return on all cores (the native board ends; firmware never does). Any core. */
void sched_stop(void);

/* For reports: calls `visit` for each poller of `core`. The numbers may be mid-turn. Any core, any
 * context. */
void sched_visit_pollers(uint32_t core, void (*visit)(const struct poller *poller, void *ctx),
                         void *ctx);

struct sched_stats {
    uint64_t turn_count;
    uint64_t busy_turn_count;
    uint64_t sleep_count;
    uint64_t sleep_ns;
    uint64_t msg_count;
    uint64_t clock_ns;            /* when it last read the clock, once in a few turns */
    const struct poller *running; /* whose turn it is, or was last; NULL: asleep, or none yet */
    bool is_asleep;
};
/* Any core, any context. */
struct sched_stats sched_stats(uint32_t core);

#endif
