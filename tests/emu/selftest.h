/*
 * Firmware that tests its own start-up, cores and drivers under QEMU: an app_main() of its own on
 * the same board code. Bootargs `test=NAME` choose; tests/emu/run.py starts it and reads the lines.
 *
 * Lines: "selftest: ok NAME: DETAIL", "selftest: FAIL NAME: DETAIL"; the exit code is 1 after a
 * failure.
 */
#ifndef EMU_SELFTEST_H
#define EMU_SELFTEST_H

#include <stdbool.h>
#include <stdint.h>
#include "base/compiler.h"
#include "hal/board.h"

void selftest_check(bool holds, const char *name, const char *format, ...) PRINTF_LIKE(3, 4);

/* Each is one value of `test=`. */
void selftest_memory(const struct board *board);
void selftest_cores(const struct board *board);
void selftest_time(const struct board *board);
void selftest_devices(const struct board *board);
void selftest_pmu(const struct board *board);
void selftest_drives(const struct board *board); /* QEMU's -device nvme; overwrites them */
void selftest_eth(const struct board *board);    /* echoes frames until told to end */
void selftest_idle(const struct board *board);   /* sleeps until a byte comes over the console */
void selftest_faults(
    const struct board *board);                /* one fault per start, with a warm reset between */
void selftest_hang(const struct board *board); /* never ends */
NORETURN void selftest_panic_once(void);

#endif
