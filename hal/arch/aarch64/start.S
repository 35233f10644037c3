/*
 * First instructions of the boot core and of the others.
 *
 * Entered, with MMU and data cache off, at EL1 or EL2, as
 *   - an ELF loaded to its link address (x0 = 0: the device tree lies at __dtb_default);
 *   - a flat arm64 Image (Linux Documentation/arm64/booting: x0 = device tree), at its link address or
 *     anywhere that does not overlap it: it copies itself.
 * Leaves out: EL3 (that is the platform's firmware), big endian, cores that start without PSCI.
 */
#include "hal/arch/aarch64/layout.h"

    .section .text.header, "ax"
    .global _start
_start:
    b       boot_core
    .long   0
    .quad   __image_text_offset     /* from the start of RAM, a multiple of 2 MiB + this */
    .quad   __image_bytes           /* up to the end of .bss and stacks */
    .quad   0x2                     /* little endian, 4 KiB pages, at text_offset of RAM's start */
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .long   0
    /* the image's own head follows (spec/boot.h), if it has one */

    .section .text.boot, "ax"
boot_core:
    mov     x19, x0                 /* device tree or 0 */
    mrs     x21, CurrentEL
    lsr     x21, x21, #2
    bl      enter_el1
    isb
    mrs     x20, cntvct_el0         /* time 0 */

    /* Not where we were linked (flash, or an Image loader's own choice): copy text to data. */
    adr     x1, _start
    ldr     x2, =_start
    cmp     x1, x2
    b.eq    2f
    ldr     x3, =__load_end
1:  ldp     x4, x5, [x1], #16
    stp     x4, x5, [x2], #16
    cmp     x2, x3
    b.lo    1b
    dsb     sy
    ic      iallu
    dsb     sy
    isb
    ldr     x1, =2f
    br      x1
2:
    /* What runs before .bss is zeroed: page tables and struct cpu. No cache line that a loader left
     * behind may be written over it later, so drop them first, stacks included. */
    ldr     x1, =__early_start
    ldr     x2, =__early_end
    ldr     x3, =__noinit_end
    mov     x4, x1
3:  dc      ivac, x4
    add     x4, x4, #64
    cmp     x4, x3
    b.lo    3b
    dsb     sy
4:  stp     xzr, xzr, [x1], #16
    cmp     x1, x2
    b.lo    4b

    /* SP_EL1 for exceptions, SP_EL0 for everything else: see layout.h. */
    ldr     x1, =cpu_stacks
    ldr     x2, =STACK_EXCEPTION_TOP
    add     x2, x1, x2
    mov     sp, x2
    msr     spsel, #0
    ldr     x2, =STACK_THREAD_TOP
    add     x2, x1, x2
    mov     sp, x2
    ldr     x1, =vectors
    msr     vbar_el1, x1
    isb
    mov     x29, xzr                /* end of every backtrace */
    mov     x30, xzr
    mov     x0, x19
    mov     x1, x20
    mov     x2, x21
    b       aarch64_start

/* PSCI CPU_ON enters here with x0 = struct cpu of this core. Its stacks and its struct were written with
 * caches on and cleaned to memory by cpu_start(). */
    .global secondary_entry
secondary_entry:
    mov     x19, x0
    bl      enter_el1
    ldr     x1, [x19, #CPU_EXCEPTION_TOP]
    mov     sp, x1
    msr     spsel, #0
    ldr     x1, [x19, #CPU_THREAD_TOP]
    mov     sp, x1
    ldr     x1, =vectors
    msr     vbar_el1, x1
    isb
    mov     x29, xzr
    mov     x30, xzr
    mov     x0, x19
    b       aarch64_start_secondary

/* From EL2 or EL1 to EL1h with interrupts masked, FP/SIMD on, MMU off. Returns to x30; uses x9, x10. */
enter_el1:
    mrs     x9, CurrentEL
    cmp     x9, #(2 << 2)
    b.ne    5f
    mov     x10, #(1 << 31)         /* HCR_EL2.RW: EL1 is AArch64; nothing is trapped */
    msr     hcr_el2, x10
    mov     x10, #3                 /* EL1 may use the physical timer and counter */
    msr     cnthctl_el2, x10
    msr     cntvoff_el2, xzr
    mov     x10, #0x33ff            /* CPTR_EL2: FP/SIMD not trapped */
    msr     cptr_el2, x10
    msr     hstr_el2, xzr
    mrs     x10, pmcr_el0           /* MDCR_EL2.HPMN: all event counters are EL1's */
    ubfx    x10, x10, #11, #5
    msr     mdcr_el2, x10
    mrs     x10, midr_el1
    msr     vpidr_el2, x10
    mrs     x10, mpidr_el1
    msr     vmpidr_el2, x10
    msr     vttbr_el2, xzr
    mov     x10, #0x3c5             /* EL1h, DAIF */
    msr     spsr_el2, x10
    adr     x10, 5f
    msr     elr_el2, x10
    ldr     x10, =0x30d00800        /* SCTLR_EL1: RES1 bits, MMU and caches off */
    msr     sctlr_el1, x10
    eret
5:  msr     daifset, #0xf
    mov     x10, #(3 << 20)         /* CPACR_EL1.FPEN */
    msr     cpacr_el1, x10
    isb
    ret

    .section .note.GNU-stack, "", %progbits
