/*
 * Cores are threads; sleeping is a futex.
 *
 * No lost wake-up: `wake` of a core holds "woken since the last return from cpu_idle()". The kernel
 * compares it with 0 atomically with going to sleep, so a wake between our look and the sleep is
 * seen.
 */
#include "hal/cpu.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "base/assert.h"
#include "base/bits.h"
#include "base/limits.h"
#include "hal/clock.h"
#include "hal/native/native.h"

struct core {
    CACHE_ALIGNED _Atomic uint32_t wake; /* the futex */
    void (*entry)(void *arg);
    void *arg;
    pthread_t thread;
    bool is_started;
};

static struct core cores[LIMIT_CORES];
static uint32_t configured_count; /* 0: not configured */
static _Thread_local uint32_t self;

uint32_t cpu_self(void)
{
    return self;
}

uint32_t cpu_count(void)
{
    if (configured_count == 0) {
        cpu_set_t set;
        uint32_t allowed = 1;
        if (sched_getaffinity(0, sizeof(set), &set) == 0) {
            allowed = (uint32_t)CPU_COUNT(&set);
        }
        configured_count = min_u32(allowed, LIMIT_CORES);
    }
    return configured_count;
}

void native_cpu_set_count(uint32_t count)
{
    ASSERT(count >= 1 && count <= LIMIT_CORES);
    configured_count = count;
}

void native_cpu_become(uint32_t core)
{
    ASSERT(core < LIMIT_CORES);
    self = core;
    /* Wake-ups by deadline are not rounded up by the usual 50 us. */
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
}

static void *core_main(void *arg)
{
    struct core *core = arg;
    native_cpu_become((uint32_t)(core - cores));
    core->entry(core->arg);
    return NULL;
}

enum status cpu_start(uint32_t core, void (*entry)(void *arg), void *arg)
{
    if (core == 0 || core >= cpu_count()) {
        return STATUS_INVALID;
    }
    struct core *c = &cores[core];
    if (c->is_started) {
        return STATUS_EXISTS;
    }
    c->entry = entry;
    c->arg = arg;
    atomic_store(&c->wake, 0);
    if (pthread_create(&c->thread, NULL, core_main, c) != 0) {
        return STATUS_IO;
    }
    c->is_started = true;
    return STATUS_OK;
}

void native_cpu_join(void)
{
    for (uint32_t i = 0; i < LIMIT_CORES; i++) {
        if (cores[i].is_started) {
            pthread_join(cores[i].thread, NULL);
            cores[i].is_started = false;
        }
    }
}

void cpu_wake(uint32_t core)
{
    _Atomic uint32_t *wake = &cores[core].wake;

    /* CPU-WAKE (release): what the caller stored before is seen by the core after cpu_idle(); pairs
     * with the acquire exchange there. A wake that is already remembered needs no system call. */
    if (atomic_exchange_explicit(wake, 1, memory_order_acq_rel) == 0) {
        syscall(SYS_futex, wake, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
}

/* Sleeps until *wake differs from 0 or the deadline passed; may return early. False: it passed. */
static bool futex_sleep(_Atomic uint32_t *wake, uint64_t deadline_ns)
{
    struct timespec until;
    struct timespec *timeout = NULL;

    if (deadline_ns != UINT64_MAX) {
        /* FUTEX_WAIT wants a duration. */
        uint64_t now_ns = clock_now_ns();
        if (now_ns >= deadline_ns) {
            return false;
        }
        uint64_t duration_ns = deadline_ns - now_ns;
        until.tv_sec = (time_t)(duration_ns / NS_PER_S);
        until.tv_nsec = (long)(duration_ns % NS_PER_S);
        timeout = &until;
    }
    return syscall(SYS_futex, wake, FUTEX_WAIT_PRIVATE, 0, timeout, NULL, 0) == 0 ||
           errno != ETIMEDOUT;
}

void cpu_idle(uint64_t deadline_ns)
{
    _Atomic uint32_t *wake = &cores[self].wake;

    /* Pairs with CPU-WAKE. */
    while (atomic_exchange_explicit(wake, 0, memory_order_acq_rel) == 0) {
        if (!native_clock_is_real() && deadline_ns != UINT64_MAX) {
            if (clock_now_ns() < deadline_ns) {
                native_clock_set(deadline_ns);
            }
            return;
        }
        if (!futex_sleep(wake, deadline_ns)) {
            return; /* a wake from now on stays remembered */
        }
    }
}

void cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* There are no interrupts: what would be a handler runs in threads of its own and wakes the core.
 */
uint64_t cpu_irq_save(void)
{
    return 0;
}

void cpu_irq_restore(uint64_t state)
{
    (void)state;
}
