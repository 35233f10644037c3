/*
 * Arm semihosting: exit codes and output through a debugger or QEMU. For tests and for the time
 * when there is no console. Where nobody answers, calls return SEMIHOST_ABSENT (exception.c sees to
 * it).
 */
#ifndef AARCH64_SEMIHOST_H
#define AARCH64_SEMIHOST_H

#include <stdint.h>

#define SEMIHOST_ABSENT INT64_C(-255)

/* Semihosting specification, chapter 5 */
#define SEMIHOST_SYS_WRITE0 0x04
#define SEMIHOST_SYS_EXIT   0x18

/* ADP_Stopped_ApplicationExit: the second word is the exit code */
#define SEMIHOST_APPLICATION_EXIT 0x20026

int64_t semihost_call(uint64_t operation, const void *argument);

/* The trapping instruction in semihost_call(). */
extern char semihost_instruction[];

#endif
