#include "sched/sched_priv.h"

#include "base/bits.h"

/* The first tick that is not before the deadline. */
static uint64_t timer_tick(const struct timer *timer)
{
    uint64_t tick = timer->deadline_ns >> WHEEL_TICK_SHIFT;
    if (!is_aligned(timer->deadline_ns, UINT64_C(1) << WHEEL_TICK_SHIFT)) {
        tick++;
    }
    return min_u64(tick, WHEEL_LAST_TICK);
}

void wheel_init(struct wheel *wheel)
{
    wheel->tick = 0;
    wheel->next_ns = UINT64_MAX;
    list_init(&wheel->due);
    list_init(&wheel->firing);
    for (uint32_t level = 0; level < WHEEL_LEVELS; level++) {
        wheel->occupied[level] = 0;
        for (uint32_t slot = 0; slot < WHEEL_SLOTS; slot++) {
            list_init(&wheel->slots[level][slot]);
        }
    }
}

/* `tick` lies after wheel->tick. */
static void place(struct wheel *wheel, struct timer *timer, uint64_t tick)
{
    uint32_t highest_bit = 63 - (uint32_t)__builtin_clzll(tick ^ wheel->tick);
    uint32_t level = highest_bit / WHEEL_DIGIT_BITS;
    uint32_t slot = (uint32_t)(tick >> (level * WHEEL_DIGIT_BITS)) % WHEEL_SLOTS;

    list_push_back(&wheel->slots[level][slot], &timer->link);
    wheel->occupied[level] |= BIT64(slot);
}

void wheel_insert(struct wheel *wheel, struct timer *timer)
{
    uint64_t tick = timer_tick(timer);

    if (tick <= wheel->tick) {
        list_push_back(&wheel->due, &timer->link);
    } else {
        place(wheel, timer, tick);
    }
    wheel->next_ns = min_u64(wheel->next_ns, tick << WHEEL_TICK_SHIFT);
}

/* The earliest occupied slot and the tick at which it starts; false when all are empty. */
static bool earliest_slot(const struct wheel *wheel, uint32_t *level, uint32_t *slot,
                          uint64_t *start)
{
    for (uint32_t i = 0; i < WHEEL_LEVELS; i++) {
        if (wheel->occupied[i] != 0) {
            uint32_t shift = i * WHEEL_DIGIT_BITS;
            uint64_t block = align_down(wheel->tick, BIT64(shift + WHEEL_DIGIT_BITS));

            *level = i;
            *slot = lowest_bit(wheel->occupied[i]);
            *start = block + ((uint64_t)*slot << shift);
            return true;
        }
    }
    return false;
}

/* The wheel has come to the start of this slot: its timers fire or move to lower levels. */
static void open_slot(struct wheel *wheel, uint32_t level, uint32_t slot)
{
    struct list *node;

    wheel->occupied[level] &= ~BIT64(slot);
    while ((node = list_pop_front(&wheel->slots[level][slot])) != NULL) {
        struct timer *timer = LIST_ENTRY(node, struct timer, link);
        uint64_t tick = timer_tick(timer);

        if (tick <= wheel->tick) {
            list_push_back(&wheel->firing, node);
        } else {
            place(wheel, timer, tick);
        }
    }
}

uint32_t wheel_run(struct wheel *wheel, uint64_t now_ns)
{
    uint64_t now_tick = now_ns >> WHEEL_TICK_SHIFT;
    struct list *node;
    uint32_t level;
    uint32_t slot;
    uint64_t start;

    while ((node = list_pop_front(&wheel->due)) != NULL) {
        list_push_back(&wheel->firing, node);
    }
    /* Bounded: each step empties a slot, and timers only move downward. */
    while (earliest_slot(wheel, &level, &slot, &start) && start <= now_tick) {
        wheel->tick = start;
        open_slot(wheel, level, slot);
    }
    /* No occupied slot starts up to now, so every timer keeps its level as the wheel moves on. */
    wheel->tick = max_u64(wheel->tick, now_tick);
    wheel->next_ns = UINT64_MAX;
    if (earliest_slot(wheel, &level, &slot, &start)) {
        wheel->next_ns = start << WHEEL_TICK_SHIFT;
    }

    uint32_t count = 0;
    while ((node = list_pop_front(&wheel->firing)) != NULL) {
        struct timer *timer = LIST_ENTRY(node, struct timer, link);
        timer->fn(timer);
        count++;
    }
    return count;
}

void timer_init(struct timer *timer, timer_fn *fn)
{
    list_init(&timer->link);
    timer->deadline_ns = 0;
    timer->fn = fn;
}

void timer_arm(struct timer *timer, uint64_t deadline_ns)
{
    list_remove(&timer->link);
    timer->deadline_ns = deadline_ns;
    wheel_insert(&reactor_self()->wheel, timer);
}

void timer_cancel(struct timer *timer)
{
    list_remove(&timer->link);
}

bool timer_is_armed(const struct timer *timer)
{
    return !list_is_empty(&timer->link);
}
