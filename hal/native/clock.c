#include "hal/clock.h"

#include <stdatomic.h>
#include <time.h>
#include "hal/native/native.h"

/* A standing clock's time plus 1; 0: the real clock runs. */
static _Atomic uint64_t standing;
static _Atomic uint64_t start_ns; /* 0: not yet */

static uint64_t monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* Power-on is the first call. */
NOINLINE static uint64_t power_on_ns(void)
{
    uint64_t unset = 0;
    atomic_compare_exchange_strong(&start_ns, &unset, monotonic_ns());
    return atomic_load(&start_ns);
}

uint64_t clock_now_ns(void)
{
    uint64_t stands_at = atomic_load_explicit(&standing, memory_order_relaxed);
    if (UNLIKELY(stands_at != 0)) {
        return stands_at - 1;
    }
    uint64_t zero_ns = atomic_load_explicit(&start_ns, memory_order_relaxed);
    if (UNLIKELY(zero_ns == 0)) {
        zero_ns = power_on_ns();
    }
    return monotonic_ns() - zero_ns;
}

void clock_delay_ns(uint64_t duration_ns)
{
    if (!native_clock_is_real()) {
        native_clock_advance(duration_ns);
        return;
    }
    uint64_t end_ns = clock_now_ns() + duration_ns;
    while (clock_now_ns() < end_ns) {
        /* a busy wait, as the contract says */
    }
}

void native_clock_set(uint64_t now_ns)
{
    atomic_store_explicit(&standing, now_ns + 1, memory_order_relaxed);
}

void native_clock_advance(uint64_t duration_ns)
{
    native_clock_set(clock_now_ns() + duration_ns);
}

void native_clock_use_real(void)
{
    atomic_store_explicit(&standing, 0, memory_order_relaxed);
}

bool native_clock_is_real(void)
{
    return atomic_load_explicit(&standing, memory_order_relaxed) == 0;
}
