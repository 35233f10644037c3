/*
 * Sizes and offsets that assembly and C share. C asserts them (cpu.c).
 */
#ifndef AARCH64_LAYOUT_H
#define AARCH64_LAYOUT_H

#define PAGE_BYTES 4096

/* Stacks of a core, each above a guard page. The thread stack runs reactors (SP_EL0); the exception
 * stack runs handlers and the dump of a fault (SP_EL1: the core switches to it by itself, so that
 * an overflow of the thread stack is dumped like any fault); the emergency stack takes faults in
 * handlers. */
#define STACK_THREAD_BYTES    0x10000
#define STACK_EXCEPTION_BYTES 0x4000
#define STACK_EMERGENCY_BYTES 0x2000

#define STACK_THREAD_TOP    (PAGE_BYTES + STACK_THREAD_BYTES)
#define STACK_EXCEPTION_TOP (STACK_THREAD_TOP + PAGE_BYTES + STACK_EXCEPTION_BYTES)
#define STACK_EMERGENCY_TOP (STACK_EXCEPTION_TOP + PAGE_BYTES + STACK_EMERGENCY_BYTES)
#define STACKS_BYTES        STACK_EMERGENCY_TOP

/* struct cpu, as far as assembly reads it */
#define CPU_EMERGENCY_BOTTOM 0
#define CPU_EMERGENCY_TOP    8
#define CPU_EXCEPTION_TOP    16
#define CPU_THREAD_TOP       24

/* Frame of an exception: struct arch_regs, then the SIMD registers (handlers are C and use them) */
#define FRAME_X          0
#define FRAME_SP         248
#define FRAME_PC         256
#define FRAME_PSTATE     264
#define FRAME_ESR        272
#define FRAME_FAR        280
#define FRAME_REGS_BYTES 288
#define FRAME_Q          288
#define FRAME_FPSR       800
#define FRAME_BYTES      816

#endif
