/*
 * What every image has, the firmware and the bootloader: log lines of the start-up, ends of a run.
 */
#include "boot/boot.h"

#include <stdarg.h>
#include <stdio.h>
#include "base/log.h"
#include "hal/clock.h"

#define LINE_BYTES 192

void boot_stage(const char *format, ...)
{
    static uint64_t last_ns;
    char text[LINE_BYTES];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    uint64_t now_ns = clock_now_ns();
    LOG_INFO("boot: %s (%llu us)", text, (unsigned long long)((now_ns - last_ns) / NS_PER_US));
    last_ns = now_ns;
}

void boot_stop(const char *format, ...)
{
    char text[LINE_BYTES];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (board_has_console()) {
        LOG_ERROR("boot: stopped: %s", text);
    } else {
        arch_semihost_write("boot: stopped: ");
        arch_semihost_write(text);
        arch_semihost_write("\n");
    }
    board_exit(BOOT_EXIT_STOPPED);
}

/* --- ends ------------------------------------------------------------------------------------- */

void boot_end(int code)
{
    arch_semihost_exit(code);
    arch_power_off();
    arch_halt();
}

void board_keep(const void *base, size_t len_bytes)
{
    arch_cache_clean(base, len_bytes);
}

void board_reset(void)
{
    arch_reset();
    LOG_ERROR("boot: the platform did not reset; halted");
    arch_halt();
}
