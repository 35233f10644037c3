/*
 * What the vectors call: interrupts, faults, and the words for a fault's syndrome.
 *
 * Syndromes: Arm ARM D13.2.37 (ESR_EL1). Leaves out: lower exception levels, AArch32.
 */
#include <stdio.h>
#include <string.h>
#include "base/bits.h"
#include "hal/arch.h"
#include "hal/arch/aarch64/cpu_priv.h"
#include "hal/arch/aarch64/semihost.h"
#include "hal/irq.h"

#define ESR_EC_SHIFT  26
#define ESR_EC_BITS   6
#define ESR_ISS_SHIFT 0
#define ESR_ISS_BITS  25
#define ISS_FSC_SHIFT 0 /* fault status code of aborts */
#define ISS_FSC_BITS  6
#define ISS_WNR       BIT32(6)
#define ISS_FNV       BIT32(10) /* FAR is not valid */

enum exception_class {
    EC_UNKNOWN = 0x00,
    EC_FP_TRAP = 0x07,
    EC_ILLEGAL_STATE = 0x0e,
    EC_SVC = 0x15,
    EC_HVC = 0x16,
    EC_SMC = 0x17,
    EC_SYSREG = 0x18,
    EC_FETCH_LOWER = 0x20,
    EC_FETCH = 0x21,
    EC_PC_ALIGN = 0x22,
    EC_DATA_LOWER = 0x24,
    EC_DATA = 0x25,
    EC_SP_ALIGN = 0x26,
    EC_SERROR = 0x2f,
    EC_BREAK = 0x3c,
};

void aarch64_irq(struct arch_regs *frame);
void aarch64_fault(struct arch_regs *frame);

extern char __text_start[], __text_end[];

void aarch64_irq(struct arch_regs *frame)
{
    struct cpu *cpu = cpu_this();
    const struct arch_regs *outer = cpu->frame;

    cpu->frame = frame;
    if (irq_dispatch() > 0) {
        atomic_store(&cpu->wake, true); /* a device's interrupt ends a sleep: hal/cpu.h */
    }
    cpu->frame = outer;
}

void aarch64_fault(struct arch_regs *frame)
{
    /* No debugger or emulator answers this instruction: it is undefined, and the call fails. */
    if (frame->pc == (uint64_t)(uintptr_t)semihost_instruction &&
        FIELD_GET(ESR_EC, frame->esr) == EC_UNKNOWN) {
        frame->pc += 4;
        frame->x[0] = (uint64_t)SEMIHOST_ABSENT;
        return;
    }
    panic_fault(frame);
}

/* --- words ------------------------------------------------------------------------------------ */

static const char *class_text(uint64_t class)
{
    switch (class) {
    case EC_UNKNOWN:
        return "undefined instruction";
    case EC_FP_TRAP:
        return "FP/SIMD instruction while it is off";
    case EC_ILLEGAL_STATE:
        return "illegal execution state";
    case EC_SVC:
    case EC_HVC:
    case EC_SMC:
        return "call to a level that is not there";
    case EC_SYSREG:
        return "trapped system register access";
    case EC_FETCH_LOWER:
    case EC_FETCH:
        return "instruction abort";
    case EC_PC_ALIGN:
        return "misaligned PC";
    case EC_DATA_LOWER:
    case EC_DATA:
        return "data abort";
    case EC_SP_ALIGN:
        return "misaligned stack pointer";
    case EC_SERROR:
        return "SError (late bus error)";
    case EC_BREAK:
        return "breakpoint instruction";
    default:
        return "unknown exception";
    }
}

/* Fault status codes: the low two bits are the level of the walk where `leveled`. */
static const struct fault_name {
    uint8_t code;
    bool leveled;
    const char *text;
} fault_names[] = {
    {0x00, true, "address size fault"},
    {0x04, true, "nothing is mapped there (translation fault)"},
    {0x08, true, "access flag fault"},
    {0x0c, true, "not allowed by the mapping (permission fault)"},
    {0x10, false, "bus error (synchronous external abort)"},
    {0x14, true, "bus error during the table walk"},
    {0x18, false, "parity or ECC error"},
    {0x1c, true, "parity or ECC error during the table walk"},
    {0x21, false, "alignment fault"},
    {0x30, false, "TLB conflict"},
    {0x35, false, "exclusive or atomic access that the memory does not support"},
};

static const struct fault_name *fault_find(uint64_t code)
{
    for (uint32_t i = 0; i < ARRAY_SIZE(fault_names); i++) {
        uint64_t mask = fault_names[i].leveled ? 0x3c : 0x3f;
        if ((code & mask) == fault_names[i].code) {
            return &fault_names[i];
        }
    }
    return NULL;
}

/* The guard page that `address` lies in, by name of its stack; NULL: none. */
static const char *guard_text(uint64_t address)
{
    uint64_t offset = address - (uint64_t)(uintptr_t)cpu_stacks;
    if (offset >= sizeof(cpu_stacks)) {
        return NULL;
    }
    offset %= STACKS_BYTES;
    if (offset < PAGE_BYTES) {
        return "thread";
    }
    if (offset >= STACK_THREAD_TOP && offset < STACK_THREAD_TOP + PAGE_BYTES) {
        return "exception";
    }
    if (offset >= STACK_EXCEPTION_TOP && offset < STACK_EXCEPTION_TOP + PAGE_BYTES) {
        return "emergency";
    }
    return NULL;
}

void arch_fault_text(const struct arch_regs *regs, char *text, size_t text_bytes)
{
    uint64_t class = FIELD_GET(ESR_EC, regs->esr);
    uint64_t iss = FIELD_GET(ESR_ISS, regs->esr);
    uint64_t code = FIELD_GET(ISS_FSC, iss);
    bool is_data = class == EC_DATA || class == EC_DATA_LOWER;
    bool is_abort = is_data || class == EC_FETCH || class == EC_FETCH_LOWER;

    if (!is_abort) {
        snprintf(text, text_bytes, "%s", class_text(class));
        return;
    }
    const char *access = !is_data ? "execution at" : (iss & ISS_WNR) != 0 ? "write to" : "read of";
    const struct fault_name *name = fault_find(code);
    const char *stack = guard_text(regs->far);
    char level[16] = "";
    if (name != NULL && name->leveled) {
        snprintf(level, sizeof(level), ", level %u", (unsigned)(code & 3));
    }
    int length =
        snprintf(text, text_bytes, "%s: %s 0x%llx%s: ", class_text(class), access,
                 (unsigned long long)regs->far, (iss & ISS_FNV) != 0 ? " (address not valid)" : "");
    if (length < 0 || (size_t)length >= text_bytes) {
        return;
    }
    text += length;
    text_bytes -= (size_t)length;
    if (stack != NULL) {
        snprintf(text, text_bytes, "stack overflow: guard page of the %s stack", stack);
    } else {
        snprintf(text, text_bytes, "%s%s", name != NULL ? name->text : "unknown fault", level);
    }
}

/* --- backtrace -------------------------------------------------------------------------------- */

static bool on_stack(uint64_t address)
{
    uint64_t offset = address - (uint64_t)(uintptr_t)cpu_stacks;
    return is_aligned(address, 16) && offset < sizeof(cpu_stacks) && guard_text(address) == NULL &&
           guard_text(address + 15) == NULL;
}

static bool in_text(uint64_t address)
{
    return address - (uint64_t)(uintptr_t)__text_start < (uint64_t)(__text_end - __text_start);
}

uint32_t arch_backtrace(const struct arch_regs *regs, uint64_t *pcs, uint32_t max_count)
{
    uint32_t count = 0;
    uint64_t frame = regs->x[29];
    uint64_t link = regs->x[30];

    if (count < max_count) {
        pcs[count++] = regs->pc;
    }
    /* A leaf function keeps no frame record: its caller is only in the link register. Elsewhere
     * that register may name the last call that returned, which is a hint too. */
    bool is_recorded = on_stack(frame) && ((const uint64_t *)(uintptr_t)frame)[1] == link;
    if (regs->esr != 0 && !is_recorded && in_text(link) && count < max_count) {
        pcs[count++] = link - 4;
    }
    /* A frame record is {previous frame, return address} (AAPCS64 6.2.3); frames go upward, but a
     * handler's lies on another stack than what it interrupted. */
    while (count < max_count && on_stack(frame)) {
        const uint64_t *record = (const uint64_t *)(uintptr_t)frame;
        if (!in_text(record[1]) || record[0] == frame) {
            break;
        }
        pcs[count++] = record[1] - 4; /* the call, not what comes after it */
        frame = record[0];
    }
    return count;
}

void arch_regs_here(struct arch_regs *regs)
{
    const uint64_t *record = __builtin_frame_address(0);

    memset(regs, 0, sizeof(*regs));
    regs->x[29] = record[0]; /* the caller's frame */
    regs->x[30] = record[1];
    regs->pc = record[1];
    regs->sp = (uint64_t)(uintptr_t)(record + 2);
}
