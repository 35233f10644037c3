/*
 * What a panic leaves behind for the next start, and what management messages read of it
 * (MGMT_OBJECT_CRASH). Little endian. Memory that holds it may hold anything: magic, version, size
 * and CRC decide.
 */
#ifndef SPEC_CRASH_H
#define SPEC_CRASH_H

#include <stdint.h>
#include "base/compiler.h"

#define CRASH_RECORD_MAGIC      0x43494e53u /* "SNIC" */
#define CRASH_RECORD_VERSION    1u
#define CRASH_RECORD_TEXT_BYTES 160
#define CRASH_RECORD_FRAMES     16

/* As struct arch_regs (hal/arch.h). */
struct crash_regs {
    uint64_t x[31];
    uint64_t sp;
    uint64_t pc;
    uint64_t pstate;
    uint64_t esr; /* 0: no exception */
    uint64_t far;
};

struct crash_record {
    uint32_t magic;
    uint32_t version;
    uint32_t size_bytes;
    uint32_t crc;               /* CRC-32 of all that follows */
    uint32_t start_count;       /* starts since power-on, this one included */
    uint32_t panic_count;       /* panics since power-on */
    uint32_t early_panic_count; /* in a row, each soon after its start: a boot loop */
    uint32_t panicked;          /* the fields below are of the run before this start */
    uint32_t core;
    uint32_t frame_count;
    uint64_t time_ns; /* of the panic, since its start */
    struct crash_regs regs;
    uint64_t frames[CRASH_RECORD_FRAMES];
    char text[CRASH_RECORD_TEXT_BYTES];
};
ASSERT_SIZE(struct crash_record, 624);

#endif
