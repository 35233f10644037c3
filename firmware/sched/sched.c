#include "sched/sched.h"

#include "base/assert.h"
#include "hal/clock.h"
#include "hal/cpu.h"
#include "sched/sched_priv.h"

struct reactor reactors[LIMIT_CORES];
enum sched_idle sched_idle_policy;
_Atomic bool sched_is_stopped;
static uint32_t core_count;

static void reactor_init(struct reactor *r)
{
    __atomic_store_n(&r->now_ns, clock_now_ns(), __ATOMIC_RELAXED);
    r->clock_turn = 1;
    r->busy_turns_seen = 0;
    r->pollers_end = r->pollers;
    r->attention = false;
    counter_set(&r->turn_count, 0);
    counter_set(&r->busy_turn_count, 0);
    counter_set(&r->sleep_count, 0);
    counter_set(&r->sleep_ns, 0);
    counter_set(&r->msg_count, 0);
    r->last_work_ns = r->now_ns;
    r->sampled_turn = 0;
    for (uint32_t i = 0; i < LIMIT_POLLERS_PER_CORE; i++) {
        atomic_init(&r->pollers[i], NULL);
    }
    wheel_init(&r->wheel);
    atomic_init(&r->inbox, NULL);
    atomic_init(&r->is_asleep, false);
    atomic_init(&r->running, NULL);
}

COLD void sched_init(uint32_t count, enum sched_idle idle)
{
    ASSERT(count >= 1 && count <= LIMIT_CORES);
    core_count = count;
    sched_idle_policy = idle;
    atomic_store(&sched_is_stopped, false);
    for (uint32_t i = 0; i < LIMIT_CORES; i++) {
        reactor_init(&reactors[i]);
    }
}

uint32_t sched_core_count(void)
{
    return core_count;
}

uint64_t sched_now_ns(void)
{
    return reactor_self()->now_ns;
}

/* --- pollers ------------------------------------------------------------------------------- */

static void add(struct reactor *r, struct poller *poller)
{
    struct poller *_Atomic *slot = r->pollers;

    while (slot != r->pollers + LIMIT_POLLERS_PER_CORE && reactor_poller(slot) != NULL) {
        ASSERT(reactor_poller(slot) != poller);
        slot++;
    }
    ASSERT(slot != r->pollers + LIMIT_POLLERS_PER_CORE);
    counter_set(&poller->run_count, 0);
    counter_set(&poller->work_count, 0);
    counter_set(&poller->busy_ns, 0);
    if (slot == r->pollers_end) {
        r->pollers_end++;
    }
    /* POLLER-ADD (release): its fields are set; pairs with the acquire in sched_visit_pollers(). */
    atomic_store_explicit(slot, poller, memory_order_release);
}

void sched_poller_add(struct poller *poller)
{
    add(reactor_self(), poller);
}

void sched_poller_add_to(uint32_t core, struct poller *poller)
{
    ASSERT(core < core_count);
    add(&reactors[core], poller);
}

void sched_poller_remove(struct poller *poller)
{
    struct reactor *r = reactor_self();

    for (struct poller *_Atomic *slot = r->pollers; slot != r->pollers_end; slot++) {
        if (reactor_poller(slot) == poller) {
            atomic_store_explicit(slot, NULL, memory_order_relaxed);
            return;
        }
    }
}

COLD void sched_visit_pollers(uint32_t core, void (*visit)(const struct poller *poller, void *ctx),
                              void *ctx)
{
    if (core >= LIMIT_CORES) {
        return;
    }
    for (uint32_t i = 0; i < LIMIT_POLLERS_PER_CORE; i++) {
        /* Pairs with POLLER-ADD. */
        const struct poller *poller =
            atomic_load_explicit(&reactors[core].pollers[i], memory_order_acquire);
        if (poller != NULL) {
            visit(poller, ctx);
        }
    }
}

COLD struct sched_stats sched_stats(uint32_t core)
{
    if (core >= LIMIT_CORES) {
        return (struct sched_stats){0};
    }
    const struct reactor *r = &reactors[core];
    return (struct sched_stats){
        .turn_count = counter_get(&r->turn_count),
        .busy_turn_count = counter_get(&r->busy_turn_count),
        .sleep_count = counter_get(&r->sleep_count),
        .sleep_ns = counter_get(&r->sleep_ns),
        .msg_count = counter_get(&r->msg_count),
        .clock_ns = __atomic_load_n(&r->now_ns, __ATOMIC_RELAXED),
        .running = atomic_load_explicit(&r->running, memory_order_relaxed),
        .is_asleep = atomic_load_explicit(&r->is_asleep, memory_order_relaxed),
    };
}
