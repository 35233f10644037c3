/*
 * What a panic leaves behind for the next start: a record in memory that a warm reset keeps.
 *
 * It lies outside of everything that is loaded or zeroed (linker symbols __warm_start, __warm_end),
 * so after power-on its content is anything: magic, version, size and CRC decide. Little endian.
 */
#ifndef BOOT_CRASH_RECORD_H
#define BOOT_CRASH_RECORD_H

#include <stdbool.h>
#include <stdint.h>
#include "hal/arch.h"
#include "spec/crash.h"

/* Why the board starts. */
enum crash_start {
    CRASH_START_POWER_ON, /* the record's memory held nothing of ours */
    CRASH_START_WARM,     /* reset without a panic */
    CRASH_START_PANIC,    /* reset after a panic: there is a crash to read */
};

/* Takes over what the run before left, makes the memory ready for this run. Core 0, first. */
enum crash_start crash_record_start(void);

/* The crash that the run before left; NULL: none. Valid for ever. */
const struct crash_record *crash_record_previous(void);

/* Starts since power-on, this one included. */
uint32_t crash_record_start_count(void);

/* Writes the record of this run's panic and makes it survive the reset. Returns how many early
 * panics there were in a row, this one included. The core that panics. */
uint32_t crash_record_write(const char *text, const struct arch_regs *regs, uint32_t core,
                            uint64_t time_ns, uint64_t early_ns);

/* Log lines about the crash that the run before left; nothing when there is none. */
void crash_record_log(void);

#endif
