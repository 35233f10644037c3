/*
 * The reactor's turn, its sleep, and the messages that end the sleep.
 *
 * Cost matters here: what a turn does besides calling the pollers is paid by every I/O. So the
 * clock is read in one turn of CLOCK_TURNS, and everything that needs the time (timers, idling,
 * stopping, measuring) is looked at only then.
 */
#include "sched/sched_priv.h"

#include "base/bits.h"
#include "base/trace.h"
#include "hal/clock.h"

/* An idle turn takes some hundred ns, a busy one some us: well below a tick of the wheel. */
#define CLOCK_TURNS 4

/* One turn in about this many has the time of its pollers taken, and stands for the others. A
 * prime, so that it does not keep step with work that comes every n-th turn. */
#define SAMPLE_TURNS 61

/* --- messages ------------------------------------------------------------------------------ */

/*
 * The inbox is a stack: senders push with compare-and-swap, the owner takes all at once and
 * reverses them, which gives each sender's order back. Nothing is ever popped singly, so there is
 * no ABA.
 */
void msg_send(uint32_t core, struct msg *msg)
{
    struct reactor *r = &reactors[core];
    struct msg *last = atomic_load_explicit(&r->inbox, memory_order_relaxed);

    /* MSG-PUSH (release): pairs with MSG-TAKE; what the sender wrote before is seen by msg->fn. */
    do {
        atomic_store_explicit(&msg->next, last, memory_order_relaxed);
    } while (!atomic_compare_exchange_weak_explicit(&r->inbox, &last, msg, memory_order_seq_cst,
                                                    memory_order_relaxed));
    /* MSG-WAKE: push, then look at is_asleep; partner REACTOR-SLEEP: store is_asleep, then look at
     * the inbox. All four are sequentially consistent, so at least one of the two sees the other.
     */
    if (atomic_load_explicit(&r->is_asleep, memory_order_seq_cst)) {
        cpu_wake(core);
    }
}

/* Runs what is in the inbox now; what is sent meanwhile waits for the next turn. */
static uint32_t run_messages(struct reactor *r)
{
    /* MSG-TAKE (acquire): pairs with MSG-PUSH of every message of the chain, since each push is a
     * read-modify-write that continues the release sequence. */
    struct msg *stack = atomic_exchange_explicit(&r->inbox, NULL, memory_order_acquire);
    struct msg *queue = NULL;
    uint32_t count = 0;

    while (stack != NULL) {
        struct msg *next = atomic_load_explicit(&stack->next, memory_order_relaxed);
        atomic_store_explicit(&stack->next, queue, memory_order_relaxed);
        queue = stack;
        stack = next;
    }
    while (queue != NULL) {
        struct msg *next = atomic_load_explicit(&queue->next, memory_order_relaxed);
        queue->fn(queue); /* may send it again or free it */
        queue = next;
        count++;
    }
    counter_add(&r->msg_count, count);
    return count;
}

/* --- the turn ------------------------------------------------------------------------------ */

/* Reports of other cores read it. */
static void now_set(struct reactor *r, uint64_t now_ns)
{
    __atomic_store_n(&r->now_ns, now_ns, __ATOMIC_RELAXED);
}

/* Since the clock was read for the turn. */
static bool has_worked(const struct reactor *r)
{
    return counter_get(&r->busy_turn_count) != r->busy_turns_seen;
}

/* What needs the time; returns how many timers fired. */
static uint32_t look_at_clock(struct reactor *r)
{
    r->clock_turn = counter_get(&r->turn_count) + CLOCK_TURNS;
    now_set(r, clock_now_ns());
    trace_set_time(cpu_self(), r->now_ns);

    if (has_worked(r)) {
        r->last_work_ns = r->now_ns;
        r->busy_turns_seen = counter_get(&r->busy_turn_count);
    } else if (sched_idle_policy == SCHED_IDLE_ADAPTIVE &&
               r->now_ns - r->last_work_ns >= SCHED_SPIN_NS) {
        r->attention = true;
    }
    if (atomic_load_explicit(&sched_is_stopped, memory_order_relaxed)) {
        r->attention = true;
    }
    return r->now_ns >= r->wheel.next_ns ? wheel_run(&r->wheel, r->now_ns) : 0;
}

ALWAYS_INLINE uint32_t run_pollers(struct reactor *r)
{
    uint32_t work = 0;

    for (struct poller *_Atomic *slot = r->pollers; slot != r->pollers_end; slot++) {
        struct poller *poller = reactor_poller(slot);
        if (UNLIKELY(poller == NULL)) {
            continue;
        }
        atomic_store_explicit(&r->running, poller, memory_order_relaxed);
        counter_add(&poller->run_count, 1);
        uint32_t poller_work = poller->run(poller->ctx); /* which may remove the poller */
        if (poller_work != 0) {
            counter_add(&poller->work_count, poller_work);
            work += poller_work;
        }
    }
    return work;
}

/* As run_pollers(), with the clock read around each; the turn stands for `turns`. */
static uint32_t run_pollers_measured(struct reactor *r, uint64_t turns)
{
    uint32_t work = 0;
    uint64_t before_ns = clock_now_ns();

    for (struct poller *_Atomic *slot = r->pollers; slot != r->pollers_end; slot++) {
        struct poller *poller = reactor_poller(slot);
        if (poller == NULL) {
            continue;
        }
        atomic_store_explicit(&r->running, poller, memory_order_relaxed);
        counter_add(&poller->run_count, 1);
        uint32_t poller_work = poller->run(poller->ctx);
        uint64_t after_ns = clock_now_ns();
        if (poller_work != 0) {
            counter_add(&poller->work_count, poller_work);
            counter_add(&poller->busy_ns, (after_ns - before_ns) * turns);
        }
        work += poller_work;
        before_ns = after_ns;
    }
    return work;
}

ALWAYS_INLINE uint32_t run_inbox(struct reactor *r)
{
    if (LIKELY(atomic_load_explicit(&r->inbox, memory_order_relaxed) == NULL)) {
        return 0;
    }
    return run_messages(r);
}

ALWAYS_INLINE uint32_t end_turn(struct reactor *r, uint32_t work)
{
    if (work != 0) {
        counter_add(&r->busy_turn_count, 1);
    }
    return work;
}

/* A turn that reads the clock. */
NOINLINE static uint32_t turn_with_clock(struct reactor *r)
{
    uint32_t work = look_at_clock(r) + run_inbox(r);
    uint64_t turns = counter_get(&r->turn_count) - r->sampled_turn;

    if (turns >= SAMPLE_TURNS) {
        r->sampled_turn = counter_get(&r->turn_count);
        work += run_pollers_measured(r, turns);
    } else {
        work += run_pollers(r);
    }
    return end_turn(r, work);
}

uint32_t sched_turn(void)
{
    struct reactor *r = reactor_self();
    counter_add(&r->turn_count, 1);
    return turn_with_clock(r);
}

/* --- idling -------------------------------------------------------------------------------- */

/* Arms pollers up to the first that has work; returns for how long the core may sleep. *armed_end
 * is behind the last slot gone through. */
static uint64_t arm_pollers(struct reactor *r, struct poller *_Atomic **armed_end)
{
    struct poller *_Atomic *slot = r->pollers;
    uint64_t limit_ns = UINT64_MAX;

    while (slot != r->pollers_end && limit_ns != 0) {
        struct poller *poller = reactor_poller(slot++);
        if (poller != NULL && poller->arm != NULL) {
            limit_ns = min_u64(limit_ns, poller->arm(poller->ctx, true));
        }
    }
    *armed_end = slot;
    return limit_ns;
}

static void disarm_pollers(struct reactor *r, struct poller *_Atomic *armed_end)
{
    for (struct poller *_Atomic *slot = r->pollers; slot != armed_end; slot++) {
        struct poller *poller = reactor_poller(slot);
        if (poller != NULL && poller->arm != NULL) {
            poller->arm(poller->ctx, false);
        }
    }
}

/* Sleeps unless something came meanwhile. */
static void sleep_until(struct reactor *r, uint64_t until_ns)
{
    uint64_t start_ns = r->now_ns;

    TRACE(cpu_self(), SCHED_SLEEP, 0, 0, until_ns, 0);
    atomic_store_explicit(&r->running, NULL, memory_order_relaxed);
    cpu_idle(until_ns);
    now_set(r, clock_now_ns());
    trace_set_time(cpu_self(), r->now_ns);
    counter_add(&r->sleep_count, 1);
    counter_add(&r->sleep_ns, r->now_ns - start_ns);
    TRACE(cpu_self(), SCHED_WAKE, 0, 0, r->now_ns - start_ns, 0);
}

NOINLINE static void idle(struct reactor *r)
{
    struct poller *_Atomic *armed_end;

    now_set(r, clock_now_ns());
    if (wheel_run(&r->wheel, r->now_ns) > 0) { /* also brings the next deadline up to date */
        counter_add(&r->busy_turn_count, 1);
        return;
    }
    /* REACTOR-SLEEP: partner of MSG-WAKE, and of sched_stop(), whose cpu_wake() is remembered. */
    atomic_store_explicit(&r->is_asleep, true, memory_order_seq_cst);
    uint64_t limit_ns = arm_pollers(r, &armed_end);
    bool has_mail = atomic_load_explicit(&r->inbox, memory_order_seq_cst) != NULL;
    bool must_stop = atomic_load_explicit(&sched_is_stopped, memory_order_seq_cst);

    if (limit_ns != 0 && !has_mail && !must_stop) {
        uint64_t limit_end_ns =
            limit_ns > UINT64_MAX - r->now_ns ? UINT64_MAX : r->now_ns + limit_ns;
        sleep_until(r, min_u64(r->wheel.next_ns, limit_end_ns));
    }
    atomic_store_explicit(&r->is_asleep, false, memory_order_relaxed);
    disarm_pollers(r, armed_end);
    /* One turn to see what woke us; without work, sleep again right after it. */
    r->clock_turn = 0;
}

/* Looks at why look_at_clock() wanted attention; true when the reactor must stop. */
static bool attend(struct reactor *r)
{
    r->attention = false;
    if (atomic_load_explicit(&sched_is_stopped, memory_order_acquire)) {
        return true;
    }
    if (!has_worked(r)) {
        idle(r);
    }
    return false;
}

void sched_run(void)
{
    struct reactor *r = reactor_self();

    now_set(r, clock_now_ns());
    r->last_work_ns = r->now_ns;
    while (true) {
        uint64_t turn = counter_get(&r->turn_count) + 1;
        counter_set(&r->turn_count, turn);
        if (LIKELY(turn < r->clock_turn)) {
            end_turn(r, run_inbox(r) + run_pollers(r));
            continue;
        }
        turn_with_clock(r);
        if (UNLIKELY(r->attention) && attend(r)) {
            return;
        }
    }
}

void sched_stop(void)
{
    atomic_store_explicit(&sched_is_stopped, true, memory_order_seq_cst);
    for (uint32_t i = 0; i < sched_core_count(); i++) {
        cpu_wake(i);
    }
}
