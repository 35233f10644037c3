/*
 * The end after a bug or an unexpected fault: stop the other cores, tell everything, leave a record
 * in memory that survives a warm reset, then reset, halt or exit.
 *
 * Order: other cores are stopped first, so that they neither write over the evidence nor touch host
 * memory any more. The record comes before the long dump: a console that hangs must not cost it.
 * Uses no lock, no heap, and no log (whose lock the stopped core may hold).
 */
#include "base/assert.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include "boot/boot.h"
#include "boot/crash_record.h"
#include "hal/clock.h"
#include "hal/console.h"
#include "hal/cpu.h"

#define LINE_BYTES 200

static enum boot_panic_action action;

/* Core index + 1 of the core that panics; others that come here are stopped. */
static _Atomic uint32_t panic_core;
static _Atomic uint32_t panic_depth;

void panic_set_action(enum boot_panic_action new_action)
{
    action = new_action;
}

static void print(const char *format, ...) PRINTF_LIKE(1, 2);

static void print(const char *format, ...)
{
    char line[LINE_BYTES];
    va_list args;

    va_start(args, format);
    int length = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    if (length >= (int)sizeof(line)) {
        length = (int)sizeof(line) - 1;
    }
    console_write(line, length < 0 ? 0 : (size_t)length);
}

static unsigned long long hex(uint64_t value)
{
    return value;
}

static void print_backtrace(const struct arch_regs *regs)
{
    uint64_t frames[CRASH_RECORD_FRAMES];
    uint32_t count = arch_backtrace(regs, frames, CRASH_RECORD_FRAMES);

    print("  backtrace:");
    for (uint32_t i = 0; i < count; i++) {
        print(" 0x%llx", hex(frames[i]));
    }
    print("\n");
}

static void print_registers(const struct arch_regs *regs)
{
    print("  pc 0x%016llx  lr 0x%016llx  sp 0x%016llx\n", hex(regs->pc), hex(regs->x[30]),
          hex(regs->sp));
    print("  pstate 0x%08llx  esr 0x%08llx  far 0x%016llx\n", hex(regs->pstate), hex(regs->esr),
          hex(regs->far));
    for (uint32_t i = 0; i < 30; i += 3) {
        print("  x%-2u 0x%016llx  x%-2u 0x%016llx  x%-2u 0x%016llx\n", (unsigned)i, hex(regs->x[i]),
              (unsigned)i + 1, hex(regs->x[i + 1]), (unsigned)i + 2, hex(regs->x[i + 2]));
    }
}

static void dump(const char *text, const struct arch_regs *regs)
{
    print("\n*** panic on core %u after %llu us: %s\n", (unsigned)cpu_self(),
          hex(clock_now_ns() / NS_PER_US), text);
    print_registers(regs);
    print_backtrace(regs);
    print("  (names: aarch64-linux-gnu-addr2line -fipe <image>.elf <address>...)\n");
    for (uint32_t core = 0; core < cpu_count(); core++) {
        const struct arch_regs *stopped = arch_stopped_regs(core);
        if (core != cpu_self() && stopped != NULL) {
            print("  core %u was stopped at 0x%llx\n", (unsigned)core, hex(stopped->pc));
            print_backtrace(stopped);
        } else if (core != cpu_self()) {
            print("  core %u is off or does not answer\n", (unsigned)core);
        }
    }
}

NORETURN static void end(uint32_t early_count)
{
    if (action == BOOT_PANIC_RESET_ALWAYS ||
        (action == BOOT_PANIC_RESET && early_count < BOOT_PANIC_LOOP)) {
        print("  record kept; resetting\n");
        arch_reset();
    }
    if (action == BOOT_PANIC_RESET) {
        print("  %u panics in a row soon after the start\n", (unsigned)early_count);
    }
    if (action == BOOT_PANIC_EXIT) {
        arch_semihost_exit(BOOT_EXIT_PANIC);
    }
    print("  record kept; halted\n");
    arch_halt();
}

NORETURN static void die(const char *text, const struct arch_regs *regs)
{
    uint32_t self = cpu_self() + 1;
    uint32_t nobody = 0;

    (void)cpu_irq_save();
    if (!atomic_compare_exchange_strong(&panic_core, &nobody, self) && nobody != self) {
        arch_halt(); /* another core is telling its story: ours comes second */
    }
    switch (atomic_fetch_add(&panic_depth, 1)) {
    case 0:
        break;
    case 1: /* a fault while dumping: say it in the fewest words */
        print("\n*** panic in the panic: %s (pc 0x%llx)\n", text, hex(regs->pc));
        end(BOOT_PANIC_LOOP);
    default:
        arch_halt();
    }
    arch_stop_others();
    /* Panics of an image on trial are no loop of the image that comes after it. */
    uint64_t early_ns = action == BOOT_PANIC_RESET_ALWAYS ? 0 : BOOT_PANIC_EARLY_NS;
    uint32_t early_count = crash_record_write(text, regs, cpu_self(), clock_now_ns(), early_ns);
    dump(text, regs);
    end(early_count);
}

void panic(const char *format, ...)
{
    char text[CRASH_RECORD_TEXT_BYTES];
    struct arch_regs regs;
    va_list args;

    arch_regs_here(&regs);
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    die(text, &regs);
}

void panic_fault(const struct arch_regs *regs)
{
    char text[CRASH_RECORD_TEXT_BYTES];

    arch_fault_text(regs, text, sizeof(text));
    die(text, regs);
}

void assert_failed(const char *file, int line)
{
    panic("assertion failed: %s:%d", file, line);
}
