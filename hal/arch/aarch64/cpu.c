/*
 * Cores: start-up in C, the table of cores, sleep and wake, stop.
 *
 * Leaves out: switching cores off again, moving work between them.
 */
#include "hal/cpu.h"

#include <stdalign.h>
#include <string.h>
#include "base/assert.h"
#include "base/bits.h"
#include "hal/arch/aarch64/cpu_priv.h"
#include "hal/arch/aarch64/mmu.h"
#include "hal/arch/aarch64/sysreg.h"
#include "hal/clock.h"
#include "hal/irq.h"

/* MPIDR_EL1.Aff3..Aff0: what a device tree's cpu node has as `reg` and PSCI takes. */
#define MPIDR_AFFINITY UINT64_C(0xff00ffffff)

#define CPU_START_TIMEOUT_NS (1 * NS_PER_S)
#define STOP_TIMEOUT_NS      (20 * NS_PER_MS)

/* Layout of a device tree blob as far as it must be known before libfdt can run
 * (specification 5.2). */
#define DTB_MAGIC     0xedfe0dd0u /* 0xd00dfeed as a little-endian core reads it */
#define DTB_MAX_BYTES (2u << 20)

ASSERT_OFFSET(struct cpu, emergency_bottom, CPU_EMERGENCY_BOTTOM);
ASSERT_OFFSET(struct cpu, emergency_top, CPU_EMERGENCY_TOP);
ASSERT_OFFSET(struct cpu, exception_top, CPU_EXCEPTION_TOP);
ASSERT_OFFSET(struct cpu, thread_top, CPU_THREAD_TOP);
ASSERT_OFFSET(struct arch_regs, sp, FRAME_SP);
ASSERT_OFFSET(struct arch_regs, pc, FRAME_PC);
ASSERT_OFFSET(struct arch_regs, esr, FRAME_ESR);
ASSERT_OFFSET(struct arch_regs, far, FRAME_FAR);
ASSERT_SIZE(struct arch_regs, FRAME_REGS_BYTES);

/* In use before .bss is zeroed. */
struct cpu cpus[LIMIT_CORES] SECTION(".bss..early");
static uint32_t core_count SECTION(".bss..early");

/* Never zeroed: the boot core runs on it while .bss is. */
uint8_t cpu_stacks[LIMIT_CORES][STACKS_BYTES] ALIGNED(PAGE_BYTES) SECTION(".bss..noinit");

extern char __bss_start[], __bss_end[], __dtb_default[], secondary_entry[];

NORETURN void aarch64_start(uint64_t dtb, uint64_t entry_ticks, uint64_t entry_level);
NORETURN void aarch64_start_secondary(struct cpu *cpu);

struct cpu *cpu_this(void)
{
    return (struct cpu *)SYSREG_READ(tpidr_el1);
}

uint32_t cpu_self(void)
{
    return cpu_this()->index;
}

uint32_t cpu_count(void)
{
    return core_count;
}

static void cpu_add(uint64_t hardware_id)
{
    struct cpu *cpu = &cpus[core_count];
    uint64_t stacks = (uint64_t)(uintptr_t)cpu_stacks[core_count];

    cpu->index = core_count;
    cpu->hardware_id = hardware_id;
    cpu->thread_top = stacks + STACK_THREAD_TOP;
    cpu->exception_top = stacks + STACK_EXCEPTION_TOP;
    cpu->emergency_top = stacks + STACK_EMERGENCY_TOP;
    cpu->emergency_bottom = cpu->emergency_top - STACK_EMERGENCY_BYTES;
    core_count++;
}

enum status arch_core_add(uint64_t hardware_id)
{
    if (hardware_id == cpus[0].hardware_id) {
        return STATUS_OK;
    }
    if (core_count == LIMIT_CORES) {
        return STATUS_NO_SPACE;
    }
    cpu_add(hardware_id);
    return STATUS_OK;
}

/* --- start ------------------------------------------------------------------------------------ */

/* MMU off: no libc (its memory functions need normal memory), nothing in .bss. */
void aarch64_start(uint64_t dtb, uint64_t entry_ticks, uint64_t entry_level)
{
    cpu_add(SYSREG_READ(mpidr_el1) & MPIDR_AFFINITY);
    SYSREG_WRITE(tpidr_el1, (uintptr_t)&cpus[0]);

    if (dtb == 0) {
        dtb = (uint64_t)(uintptr_t)__dtb_default;
    }
    const uint32_t *header = (const uint32_t *)(uintptr_t)dtb;
    bool is_dtb = is_aligned(dtb, sizeof(uint64_t)) && header[0] == DTB_MAGIC;
    uint32_t dtb_bytes = is_dtb ? __builtin_bswap32(header[1]) : 0;
    mmu_build(dtb, min_u32(dtb_bytes, DTB_MAX_BYTES));
    mmu_enable();

    memset(__bss_start, 0, (size_t)(__bss_end - __bss_start));
    newlib_core_init(&cpus[0]);
    atomic_store_explicit(&cpus[0].online, true, memory_order_relaxed);
    __asm__ volatile("msr daifclr, #4"); /* SError: a late bus error is dumped, not kept */

    const struct arch_start start = {
        .dtb = is_dtb ? header : NULL,
        .entry_ticks = entry_ticks,
        .entry_level = (uint32_t)entry_level,
    };
    boot_cold(&start);
}

void aarch64_start_secondary(struct cpu *cpu)
{
    mmu_enable();
    SYSREG_WRITE(tpidr_el1, (uintptr_t)cpu);
    newlib_core_init(cpu);
    timer_core_init();
    irq_core_init();
    irq_unmask();
    __asm__ volatile("msr daifclr, #4");
    atomic_store_explicit(&cpu->online, true, memory_order_release);
    cpu->entry(cpu->arg);
    panic("cpu: the entry of core %u returned", (unsigned)cpu->index);
}

/* PSCI return codes, DEN 0022 5.2.2 */
static enum status psci_status(int64_t code)
{
    switch (code) {
    case 0:
        return STATUS_OK;
    case -2: /* INVALID_PARAMETERS */
    case -9: /* INVALID_ADDRESS */
        return STATUS_INVALID;
    case -4: /* ALREADY_ON */
        return STATUS_EXISTS;
    default:
        return STATUS_IO;
    }
}

enum status cpu_start(uint32_t core, void (*entry)(void *arg), void *arg)
{
    if (core >= core_count) {
        return STATUS_INVALID;
    }
    struct cpu *cpu = &cpus[core];
    if (atomic_load_explicit(&cpu->online, memory_order_acquire)) {
        return STATUS_EXISTS;
    }
    cpu->entry = entry;
    cpu->arg = arg;
    /* The new core reads its struct with caches off, and no old line of its stack may be written
     * over what it stores there before it turns its cache on. */
    arch_cache_clean(cpu, sizeof(*cpu));
    const uint8_t *thread_top = cpu_stacks[core] + STACK_THREAD_TOP;
    arch_cache_clean(thread_top - STACK_THREAD_BYTES, STACK_THREAD_BYTES);

    enum status status = psci_status(psci_cpu_on(
        cpu->hardware_id, (uint64_t)(uintptr_t)secondary_entry, (uint64_t)(uintptr_t)cpu));
    uint64_t deadline_ns = clock_now_ns() + CPU_START_TIMEOUT_NS;
    while (status == STATUS_OK && !atomic_load_explicit(&cpu->online, memory_order_acquire)) {
        if (clock_now_ns() > deadline_ns) {
            status = STATUS_IO;
        }
        cpu_relax();
    }
    return status;
}

/* --- sleep and wake --------------------------------------------------------------------------- */

/* A sleeper stores `idle`, then reads `wake`; a waker stores `wake`, then reads `idle`. Both are
 * sequentially consistent, so at least one sees the other: either the sleeper does not sleep, or
 * the waker sends an interrupt, which ends WFI even while masked. A core that is awake costs no
 * interrupt. */
void cpu_wake(uint32_t core)
{
    if (core >= core_count) {
        return;
    }
    struct cpu *cpu = &cpus[core];
    atomic_store(&cpu->wake, true);
    if (atomic_load(&cpu->idle) && core != cpu_self()) {
        irq_send(core, IRQ_CORE_WAKE);
    }
}

void cpu_idle(uint64_t deadline_ns)
{
    struct cpu *cpu = cpu_this();
    uint64_t state = cpu_irq_save();

    atomic_store(&cpu->idle, true);
    /* The exchange acquires what the waker published before its store in cpu_wake(). */
    while (!atomic_exchange(&cpu->wake, false) && clock_now_ns() < deadline_ns) {
        timer_start(deadline_ns);
        dsb_sy(); /* stores are out before the core may stop its clock */
        wfi();
        irq_unmask(); /* what ended WFI is handled here; a device's handler sets `wake` */
        isb();
        irq_mask();
    }
    timer_stop();
    atomic_store(&cpu->idle, false);
    cpu_irq_restore(state);
}

void cpu_relax(void)
{
    __asm__ volatile("yield" ::: "memory");
}

uint64_t cpu_irq_save(void)
{
    uint64_t state = SYSREG_READ(daif);
    irq_mask();
    return state;
}

void cpu_irq_restore(uint64_t state)
{
    SYSREG_WRITE(daif, state);
}

/* The wake itself is the flag; the interrupt has done its work by ending WFI. */
static void on_wake(void *arg)
{
    (void)arg;
}

/* --- stop ------------------------------------------------------------------------------------- */

static void on_stop(void *arg)
{
    (void)arg;
    struct cpu *cpu = cpu_this();
    cpu->stop_regs = *cpu->frame;
    atomic_store_explicit(&cpu->stopped, true, memory_order_release);
    arch_halt();
}

enum status arch_irq_start(void)
{
    enum status status = irq_attach(IRQ_CORE_WAKE, IRQ_TRIGGER_EDGE, 0, on_wake, NULL);
    if (status == STATUS_OK) {
        status = irq_attach(IRQ_CORE_STOP, IRQ_TRIGGER_EDGE, 0, on_stop, NULL);
    }
    if (status == STATUS_OK) {
        timer_core_init();
        irq_unmask();
    }
    return status;
}

void arch_stop_others(void)
{
    uint32_t self = cpu_self();
    uint64_t deadline_ns = clock_now_ns() + STOP_TIMEOUT_NS;

    for (uint32_t core = 0; core < core_count; core++) {
        if (core != self && atomic_load(&cpus[core].online)) {
            irq_send(core, IRQ_CORE_STOP);
        }
    }
    for (uint32_t core = 0; core < core_count; core++) {
        while (core != self && atomic_load(&cpus[core].online) &&
               !atomic_load(&cpus[core].stopped) && clock_now_ns() < deadline_ns) {
            cpu_relax();
        }
    }
}

const struct arch_regs *arch_stopped_regs(uint32_t core)
{
    return core < core_count && atomic_load_explicit(&cpus[core].stopped, memory_order_acquire)
               ? &cpus[core].stop_regs
               : NULL;
}

void arch_halt(void)
{
    irq_mask();
    for (;;) {
        wfi();
    }
}

/* --- caches ----------------------------------------------------------------------------------- */

void arch_cache_clean(const void *base, size_t len_bytes)
{
    uint64_t line_bytes = UINT64_C(4) << (SYSREG_READ(ctr_el0) >> 16 & 0xf);
    uint64_t at = align_down((uint64_t)(uintptr_t)base, line_bytes);
    uint64_t end = (uint64_t)(uintptr_t)base + len_bytes;

    for (; at < end; at += line_bytes) {
        __asm__ volatile("dc civac, %0" ::"r"(at) : "memory");
    }
    dsb_sy();
}
