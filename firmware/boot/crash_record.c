#include "boot/crash_record.h"

#include <stdio.h>
#include <string.h>
#include "base/crc.h"
#include "base/log.h"

extern struct crash_record __warm_start[];

_Static_assert(sizeof(struct crash_regs) == sizeof(struct arch_regs), "the same registers");
ASSERT_OFFSET(struct crash_regs, pc, offsetof(struct arch_regs, pc));
ASSERT_OFFSET(struct crash_regs, far, offsetof(struct arch_regs, far));

static struct crash_record previous;
static enum crash_start start_kind;

static uint32_t crc_of(const struct crash_record *record)
{
    size_t head_bytes = offsetof(struct crash_record, start_count);
    return crc32_update(0, (const uint8_t *)record + head_bytes, sizeof(*record) - head_bytes);
}

static void store(struct crash_record *record)
{
    record->magic = CRASH_RECORD_MAGIC;
    record->version = CRASH_RECORD_VERSION;
    record->size_bytes = sizeof(*record);
    record->crc = crc_of(record);
    __warm_start[0] = *record;
    arch_cache_clean(__warm_start, sizeof(*record));
}

static bool is_whole(const struct crash_record *record)
{
    return record->magic == CRASH_RECORD_MAGIC && record->version == CRASH_RECORD_VERSION &&
           record->size_bytes == sizeof(*record) && record->crc == crc_of(record);
}

enum crash_start crash_record_start(void)
{
    previous = __warm_start[0];
    bool is_ours = is_whole(&previous);
    if (!is_ours) {
        memset(&previous, 0, sizeof(previous));
    }
    previous.text[CRASH_RECORD_TEXT_BYTES - 1] = '\0';
    start_kind = !is_ours                 ? CRASH_START_POWER_ON
                 : previous.panicked != 0 ? CRASH_START_PANIC
                                          : CRASH_START_WARM;

    struct crash_record now = {
        .start_count = previous.start_count + 1,
        .panic_count = previous.panic_count,
        .early_panic_count = start_kind == CRASH_START_PANIC ? previous.early_panic_count : 0,
    };
    store(&now);
    return start_kind;
}

const struct crash_record *crash_record_previous(void)
{
    return start_kind == CRASH_START_PANIC ? &previous : NULL;
}

uint32_t crash_record_start_count(void)
{
    return previous.start_count + 1;
}

uint32_t crash_record_write(const char *text, const struct arch_regs *regs, uint32_t core,
                            uint64_t time_ns, uint64_t early_ns)
{
    struct crash_record record = __warm_start[0];

    if (!is_whole(&record)) { /* a bootloader that panics after power-on */
        memset(&record, 0, sizeof(record));
    }
    record.panic_count++;
    record.early_panic_count = time_ns < early_ns ? record.early_panic_count + 1 : 0;
    record.panicked = 1;
    record.core = core;
    record.time_ns = time_ns;
    memcpy(&record.regs, regs, sizeof(record.regs));
    record.frame_count = arch_backtrace(regs, record.frames, CRASH_RECORD_FRAMES);
    snprintf(record.text, sizeof(record.text), "%s", text);
    store(&record);
    return record.early_panic_count;
}

void crash_record_log(void)
{
    const struct crash_record *crash = crash_record_previous();
    char line[24 * CRASH_RECORD_FRAMES];
    size_t length = 0;

    if (crash == NULL) {
        return;
    }
    LOG_WARN(
        "boot: the run before ended in panic %u since power-on, on core %u after %llu.%06llu s:",
        (unsigned)crash->panic_count, (unsigned)crash->core,
        (unsigned long long)(crash->time_ns / 1000000000),
        (unsigned long long)(crash->time_ns / 1000 % 1000000));
    LOG_WARN("boot:   %s", crash->text);
    LOG_WARN("boot:   pc 0x%llx lr 0x%llx sp 0x%llx esr 0x%llx far 0x%llx",
             (unsigned long long)crash->regs.pc, (unsigned long long)crash->regs.x[30],
             (unsigned long long)crash->regs.sp, (unsigned long long)crash->regs.esr,
             (unsigned long long)crash->regs.far);
    line[0] = '\0';
    for (uint32_t i = 0; i < crash->frame_count && i < CRASH_RECORD_FRAMES; i++) {
        length += (size_t)snprintf(line + length, sizeof(line) - length, " 0x%llx",
                                   (unsigned long long)crash->frames[i]);
    }
    LOG_WARN("boot:   backtrace%s", line);
}
