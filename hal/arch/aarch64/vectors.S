/*
 * Exception vectors (Arm ARM D1.10.2). All code runs at EL1 on SP_EL0, handlers run on SP_EL1; so
 * "current EL with SP0" is the normal case, "current EL with SPx" a fault inside a handler, and the
 * lower levels never occur.
 */
#include "hal/arch/aarch64/layout.h"

/* Room for a frame and the first two registers; the rest is done out of line. */
.macro enter_thread target
    .balign 128
    sub     sp, sp, #FRAME_BYTES
    stp     x0, x1, [sp, #FRAME_X]
    mrs     x0, sp_el0
    str     x0, [sp, #FRAME_SP]
    b       \target
.endm

/* The exception stack itself may be what broke: go to the emergency stack, unless on it already. The
 * two TPIDRs that nobody else uses hold what must not be lost until there is a stack. */
.macro enter_nested target
    .balign 128
    msr     tpidr_el0, x0
    mov     x0, sp
    msr     tpidrro_el0, x0
    b       \target
.endm

    .section .text.vectors, "ax"
    .balign 2048
    .global vectors
vectors:
    enter_thread save_and_fault     /* synchronous */
    enter_thread save_and_irq
    enter_thread save_and_fault     /* FIQ: nobody routes one here */
    enter_thread save_and_fault     /* SError */
    .rept 12
    enter_nested nested
    .endr

nested:
    mrs     x0, tpidr_el1
    cbz     x0, 2f                  /* before there is a struct cpu: stay */
    ldr     x0, [x0, #CPU_EMERGENCY_BOTTOM]
    cmp     sp, x0
    b.ls    1f
    mrs     x0, tpidr_el1
    ldr     x0, [x0, #CPU_EMERGENCY_TOP]
    cmp     sp, x0
    b.ls    2f
1:  mrs     x0, tpidr_el1
    ldr     x0, [x0, #CPU_EMERGENCY_TOP]
    mov     sp, x0
2:  mrs     x0, tpidr_el0
    sub     sp, sp, #FRAME_BYTES
    stp     x0, x1, [sp, #FRAME_X]
    mrs     x0, tpidrro_el0
    str     x0, [sp, #FRAME_SP]
    str     x30, [sp, #(FRAME_X + 30 * 8)]
    bl      save_rest
    mov     x0, sp
    bl      aarch64_fault
    bl      restore_rest
    ldr     x1, [sp, #FRAME_X]      /* the stack goes back to where it was: x0 comes last */
    msr     tpidr_el0, x1
    ldr     x1, [sp, #(FRAME_X + 8)]
    ldr     x0, [sp, #FRAME_SP]
    mov     sp, x0
    mrs     x0, tpidr_el0
    eret

save_and_fault:
    str     x30, [sp, #(FRAME_X + 30 * 8)]
    bl      save_rest
    mov     x0, sp
    bl      aarch64_fault           /* returns only from what it can repair */
    b       leave

save_and_irq:
    str     x30, [sp, #(FRAME_X + 30 * 8)]
    bl      save_rest
    mov     x0, sp
    bl      aarch64_irq
leave:
    bl      restore_rest
    ldp     x0, x1, [sp, #FRAME_X]
    add     sp, sp, #FRAME_BYTES
    eret

/* All of a frame but x0, x1, x30 and SP, which the vector stored. */
save_rest:
    stp      x2, x3, [sp, #(FRAME_X + 2 * 8)]
    stp      x4, x5, [sp, #(FRAME_X + 4 * 8)]
    stp      x6, x7, [sp, #(FRAME_X + 6 * 8)]
    stp      x8, x9, [sp, #(FRAME_X + 8 * 8)]
    stp      x10, x11, [sp, #(FRAME_X + 10 * 8)]
    stp      x12, x13, [sp, #(FRAME_X + 12 * 8)]
    stp      x14, x15, [sp, #(FRAME_X + 14 * 8)]
    stp      x16, x17, [sp, #(FRAME_X + 16 * 8)]
    stp      x18, x19, [sp, #(FRAME_X + 18 * 8)]
    stp      x20, x21, [sp, #(FRAME_X + 20 * 8)]
    stp      x22, x23, [sp, #(FRAME_X + 22 * 8)]
    stp      x24, x25, [sp, #(FRAME_X + 24 * 8)]
    stp      x26, x27, [sp, #(FRAME_X + 26 * 8)]
    stp      x28, x29, [sp, #(FRAME_X + 28 * 8)]
    mrs     x0, elr_el1
    mrs     x1, spsr_el1
    stp     x0, x1, [sp, #FRAME_PC]
    mrs     x0, esr_el1
    mrs     x1, far_el1
    stp     x0, x1, [sp, #FRAME_ESR]
    add     x0, sp, #FRAME_Q
    stp      q0, q1, [x0, #0]
    stp      q2, q3, [x0, #32]
    stp      q4, q5, [x0, #64]
    stp      q6, q7, [x0, #96]
    stp      q8, q9, [x0, #128]
    stp      q10, q11, [x0, #160]
    stp      q12, q13, [x0, #192]
    stp      q14, q15, [x0, #224]
    stp      q16, q17, [x0, #256]
    stp      q18, q19, [x0, #288]
    stp      q20, q21, [x0, #320]
    stp      q22, q23, [x0, #352]
    stp      q24, q25, [x0, #384]
    stp      q26, q27, [x0, #416]
    stp      q28, q29, [x0, #448]
    stp      q30, q31, [x0, #480]
    mrs     x0, fpsr
    mrs     x1, fpcr
    str     x0, [sp, #FRAME_FPSR]
    str     x1, [sp, #(FRAME_FPSR + 8)]
    ret

/* The mirror of save_rest, x30 too; ends with a jump to where it was called from. */
restore_rest:
    ldr     x0, [sp, #FRAME_FPSR]
    ldr     x1, [sp, #(FRAME_FPSR + 8)]
    msr     fpsr, x0
    msr     fpcr, x1
    add     x0, sp, #FRAME_Q
    ldp      q0, q1, [x0, #0]
    ldp      q2, q3, [x0, #32]
    ldp      q4, q5, [x0, #64]
    ldp      q6, q7, [x0, #96]
    ldp      q8, q9, [x0, #128]
    ldp      q10, q11, [x0, #160]
    ldp      q12, q13, [x0, #192]
    ldp      q14, q15, [x0, #224]
    ldp      q16, q17, [x0, #256]
    ldp      q18, q19, [x0, #288]
    ldp      q20, q21, [x0, #320]
    ldp      q22, q23, [x0, #352]
    ldp      q24, q25, [x0, #384]
    ldp      q26, q27, [x0, #416]
    ldp      q28, q29, [x0, #448]
    ldp      q30, q31, [x0, #480]
    ldp     x0, x1, [sp, #FRAME_PC]
    msr     elr_el1, x0
    msr     spsr_el1, x1
    ldp      x2, x3, [sp, #(FRAME_X + 2 * 8)]
    ldp      x4, x5, [sp, #(FRAME_X + 4 * 8)]
    ldp      x6, x7, [sp, #(FRAME_X + 6 * 8)]
    ldp      x8, x9, [sp, #(FRAME_X + 8 * 8)]
    ldp      x10, x11, [sp, #(FRAME_X + 10 * 8)]
    ldp      x12, x13, [sp, #(FRAME_X + 12 * 8)]
    ldp      x14, x15, [sp, #(FRAME_X + 14 * 8)]
    ldp      x16, x17, [sp, #(FRAME_X + 16 * 8)]
    ldp      x18, x19, [sp, #(FRAME_X + 18 * 8)]
    ldp      x20, x21, [sp, #(FRAME_X + 20 * 8)]
    ldp      x22, x23, [sp, #(FRAME_X + 22 * 8)]
    ldp      x24, x25, [sp, #(FRAME_X + 24 * 8)]
    ldp      x26, x27, [sp, #(FRAME_X + 26 * 8)]
    ldp      x28, x29, [sp, #(FRAME_X + 28 * 8)]
    mov     x0, x30
    ldr     x30, [sp, #(FRAME_X + 30 * 8)]
    br      x0

    .section .note.GNU-stack, "", %progbits
