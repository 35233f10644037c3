/*
 * Generic timer (Arm ARM D11): the virtual counter as clock, the virtual timer as alarm.
 *
 * Nanoseconds are ticks times a fixed-point factor with 32 fractional bits: two multiplications,
 * exact for frequencies that divide 10^9 * 2^32, else slow by less than one part in 4 * 10^9 (up to
 * 1 GHz).
 */
#include "hal/clock.h"

#include "base/bits.h"
#include "hal/arch/aarch64/cpu_priv.h"
#include "hal/arch/aarch64/sysreg.h"
#include "hal/cpu.h"
#include "hal/irq.h"

__extension__ typedef unsigned __int128 uint128;

#define FRACTION_BITS 32

/* What a counter can be: below, a nanosecond would be too coarse to be useful; above, nobody builds
 * it. */
#define HZ_MIN UINT64_C(1000)
#define HZ_MAX UINT64_C(10000000000)

/* CNTV_CTL_EL0, D13.8.25 */
#define CNTV_CTL_ENABLE 0x1u
#define CNTV_CTL_IMASK  0x2u

/* Longest alarm: cpu_idle() looks and sets the next one. Keeps the arithmetic within 64 bits. */
#define ALARM_MAX_NS (10 * NS_PER_S)

static uint64_t start_ticks;
static uint64_t ns_per_tick = UINT64_C(1) << FRACTION_BITS; /* fixed point; until init: 1 GHz */
static uint64_t ticks_per_ns;                               /* fixed point */

bool arch_clock_init(uint64_t first_ticks, uint64_t hz)
{
    if (hz == 0) {
        hz = SYSREG_READ(cntfrq_el0);
    }
    if (hz < HZ_MIN || hz > HZ_MAX) {
        return false;
    }
    start_ticks = first_ticks;
    ns_per_tick = (NS_PER_S << FRACTION_BITS) / hz;
    ticks_per_ns = (hz << 30) / NS_PER_S << (FRACTION_BITS - 30); /* HZ_MAX << 30 fits 64 bits */
    return true;
}

uint64_t clock_now_ns(void)
{
    isb(); /* the counter is not read ahead of what the caller did before */
    uint64_t ticks = SYSREG_READ(cntvct_el0) - start_ticks;
    return (uint64_t)((uint128)ticks * ns_per_tick >> FRACTION_BITS);
}

void clock_delay_ns(uint64_t duration_ns)
{
    uint64_t start_ns = clock_now_ns();
    while (clock_now_ns() - start_ns < duration_ns) {
        cpu_relax();
    }
}

void timer_start(uint64_t deadline_ns)
{
    uint64_t now_ns = clock_now_ns();
    uint64_t wait_ns = deadline_ns > now_ns ? min_u64(deadline_ns - now_ns, ALARM_MAX_NS) : 0;
    uint64_t ticks = (uint64_t)((uint128)wait_ns * ticks_per_ns >> FRACTION_BITS) + 1;

    if (deadline_ns == UINT64_MAX) {
        timer_stop();
        return;
    }
    SYSREG_WRITE(cntv_cval_el0, SYSREG_READ(cntvct_el0) + ticks);
    SYSREG_WRITE(cntv_ctl_el0, CNTV_CTL_ENABLE);
    isb();
}

void timer_stop(void)
{
    SYSREG_WRITE(cntv_ctl_el0, CNTV_CTL_IMASK);
    isb();
}

void timer_core_init(void)
{
    timer_stop();
}

/* The interrupt has ended WFI; switched off, its level falls. */
static void on_alarm(void *arg)
{
    (void)arg;
    timer_stop();
}

enum status arch_timer_attach(uint32_t irq)
{
    return irq_attach(irq, IRQ_TRIGGER_LEVEL, 0, on_alarm, NULL);
}
