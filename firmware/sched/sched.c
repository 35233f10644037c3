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
    r->now_ns = clock_now_ns();
    r->clock_turn = 1;
    r->poller_count = 0;
    r->has_worked = false;
    r->attention = false;
    r->stats = (struct sched_stats){0};
    r->last_work_ns = r->now_ns;
    r->sampled_turn = 0;
    for (uint32_t i = 0; i < LIMIT_POLLERS_PER_CORE; i++) {
        atomic_init(&r->pollers[i], NULL);
    }
    wheel_init(&r->wheel);
    atomic_init(&r->inbox, NULL);
    atomic_init(&r->is_asleep, false);
}

void sched_init(uint32_t count, enum sched_idle idle)
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
    uint32_t slot = 0;

    while (slot < LIMIT_POLLERS_PER_CORE && reactor_poller(r, slot) != NULL) {
        ASSERT(reactor_poller(r, slot) != poller);
        slot++;
    }
    ASSERT(slot < LIMIT_POLLERS_PER_CORE);
    poller->run_count = 0;
    poller->work_count = 0;
    poller->busy_ns = 0;
    if (slot >= r->poller_count) {
        r->poller_count = slot + 1;
    }
    /* POLLER-ADD (release): its fields are set; pairs with the acquire in sched_visit_pollers(). */
    atomic_store_explicit(&r->pollers[slot], poller, memory_order_release);
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

    for (uint32_t i = 0; i < r->poller_count; i++) {
        if (reactor_poller(r, i) == poller) {
            atomic_store_explicit(&r->pollers[i], NULL, memory_order_relaxed);
            return;
        }
    }
}

void sched_visit_pollers(uint32_t core, void (*visit)(const struct poller *poller, void *ctx),
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

struct sched_stats sched_stats(uint32_t core)
{
    if (core >= LIMIT_CORES) {
        return (struct sched_stats){0};
    }
    return reactors[core].stats;
}
