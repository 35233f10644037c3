/*
 * What start-up, panic and board code ask from the processor architecture, beyond hal/cpu.h.
 * Only firmware/boot, boards and hal use it: everything above is portable without.
 */
#ifndef HAL_ARCH_H
#define HAL_ARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/compiler.h"
#include "base/status.h"

/* --- memory map ---------------------------------------------------------------------------- */

/* Addresses are mapped one to one; nothing is mapped that nobody asked for. */
enum arch_map {
    ARCH_MAP_MEMORY,    /* normal, write-back, inner shareable; read, write, never execute */
    ARCH_MAP_READ_ONLY, /* the same, read only */
    ARCH_MAP_DEVICE,    /* registers: no gathering, no reordering, aligned accesses only */
};

/* Maps [base, base + len_bytes), both multiples of 4 KiB. Large ranges cost few table pages.
 * INVALID: alignment, beyond what the core can address, or address 0, which stays unmapped so that
 * null pointers fault. EXISTS: a part is mapped (what is before
 * it stays mapped). NO_SPACE: out of table pages. Core 0. */
MUST_USE enum status arch_map(uint64_t base, uint64_t len_bytes, enum arch_map kind);

/* As arch_map(), but at another address, put into *alias: for devices that lie at address 0. */
MUST_USE enum status arch_map_alias(uint64_t base, uint64_t len_bytes, enum arch_map kind,
                                    uintptr_t *alias);

/* As arch_map() for memory, but leaves out what is mapped or kept unmapped on purpose (guard
 * pages): for a RAM bank in which the image lies. */
MUST_USE enum status arch_map_rest(uint64_t base, uint64_t len_bytes);

/* Writes the range back so that it survives a reset that drops the caches. Any core. */
void arch_cache_clean(const void *base, size_t len_bytes);

/* --- cores --------------------------------------------------------------------------------- */

/* How to call the platform's firmware (PSCI, Arm DEN 0022). */
enum arch_psci {
    ARCH_PSCI_NONE,
    ARCH_PSCI_HVC,
    ARCH_PSCI_SMC,
};
void arch_psci_set(enum arch_psci conduit);

/* Makes a further core known by its hardware id (MPIDR affinity); its index is the next free one.
 * The boot core is known as 0 already and is skipped. NO_SPACE: beyond LIMIT_CORES. Core 0, at
 * start. */
MUST_USE enum status arch_core_add(uint64_t hardware_id);

/* Interrupt of the core's own timer, used by cpu_idle(). Once, core 0, after the controller is up.
 */
MUST_USE enum status arch_timer_attach(uint32_t irq);

/* Handlers for wake and stop between cores; then interrupts are taken. Once, core 0. */
MUST_USE enum status arch_irq_start(void);

/* Frequency of the counter behind clock_now_ns(), Hz; 0: what the core says. False: neither is
 * usable. `start_ticks` becomes time 0. Core 0, once. */
MUST_USE bool arch_clock_init(uint64_t start_ticks, uint64_t hz);

/* --- ends ---------------------------------------------------------------------------------- */

/* Ends the emulator with `code` when it offers semihosting; returns when it does not. */
void arch_semihost_exit(int code);
/* Prints through semihosting, for when there is no other console; nothing when not offered. */
void arch_semihost_write(const char *text);

/* Return when the platform cannot. */
void arch_reset(void);
void arch_power_off(void);

/* Goes on in another image at `entry`, as its loader: MMU and caches off, interrupts masked, x0 =
 * `dtb`. What the image reads before its own caches are on was cleaned by arch_cache_clean(). Core
 * 0, while no other core runs. */
NORETURN void arch_jump(uintptr_t entry, uintptr_t dtb);

/* Interrupts off and asleep for ever; the calling core only. */
NORETURN void arch_halt(void);

/* --- faults and dumps ---------------------------------------------------------------------- */

/* Registers where something was interrupted. The first fields are as the vectors store them. */
struct arch_regs {
    uint64_t x[31]; /* x29: frame pointer, x30: link register */
    uint64_t sp;
    uint64_t pc;
    uint64_t pstate;
    uint64_t esr; /* why: exception syndrome, 0 when it is no exception */
    uint64_t far; /* address that faulted, where ESR says so */
};

/* Registers of the caller, as far as a backtrace needs them. */
NOINLINE void arch_regs_here(struct arch_regs *regs);

/* The syndrome in words: "data abort: write to 0x0: translation fault, level 1". */
void arch_fault_text(const struct arch_regs *regs, char *text, size_t text_bytes);

/* Return addresses by frame pointers, the pc first, after a fault then the link register; stops at
 * the first frame that is not on a stack of ours. Returns the count. */
uint32_t arch_backtrace(const struct arch_regs *regs, uint64_t *pcs, uint32_t max_count);

/* Stops all other running cores where they are; waits at most 20 ms for them. */
void arch_stop_others(void);
/* Where `core` was stopped; NULL: not stopped (off, or it does not answer). */
const struct arch_regs *arch_stopped_regs(uint32_t core);

/* --- what the firmware supplies ------------------------------------------------------------ */

/* After the architecture's own start-up: C runs with caches, zeroed .bss, interrupts masked.
 * `dtb`: the device tree blob, mapped read only; NULL: none that has its magic. Core 0. */
struct arch_start {
    const void *dtb;
    uint64_t entry_ticks; /* counter at the first instruction */
    uint32_t entry_level; /* exception level of entry */
};
NORETURN void boot_cold(const struct arch_start *start);

/* An exception that nobody expected (firmware/boot/panic.c). Any core. */
NORETURN void panic_fault(const struct arch_regs *regs);

#endif
