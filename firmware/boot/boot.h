/*
 * From the first C instruction to app_main(), and the ends of a run.
 *
 * The board supplies the functions of the last section; docs/PORTING.md walks through them.
 */
#ifndef BOOT_BOOT_H
#define BOOT_BOOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/compiler.h"
#include "hal/arch.h"
#include "hal/board.h"

/* Logs that a stage of the start-up is done, with the time since the stage before. Core 0. */
void boot_stage(const char *format, ...) PRINTF_LIKE(1, 2);

/* The board cannot start: says why on the console (through semihosting when there is none) and ends
 * the run with BOOT_EXIT_STOPPED. For what the outside gave us; our own bugs are panics. */
NORETURN COLD void boot_stop(const char *format, ...) PRINTF_LIKE(1, 2);

/* The end of a run: semihosting's exit for tests, else power off. board_exit(), which each image
 * has of its own (cold.c, the bootloader), comes here. */
NORETURN void boot_end(int code);

/* Exit codes of semihosting, for tests. */
#define BOOT_EXIT_STOPPED 90
#define BOOT_EXIT_PANIC   91

/* What happens after the dump of a panic. */
enum boot_panic_action {
    BOOT_PANIC_RESET,        /* warm reset; after BOOT_PANIC_LOOP early panics in a row: halt */
    BOOT_PANIC_RESET_ALWAYS, /* of an image on trial: the bootloader counts its attempts */
    BOOT_PANIC_HALT,
    BOOT_PANIC_EXIT, /* semihosting, for tests; halt where there is none */
};
#define BOOT_PANIC_LOOP     3
#define BOOT_PANIC_EARLY_NS (UINT64_C(10) * 1000000000)
void panic_set_action(enum boot_panic_action action);

/* Takes the word `key=value` out of blank-separated `config` and copies its value (cut to fit).
 * False: there is none. */
bool boot_take_word(char *config, const char *key, char *value, size_t value_bytes);

/* --- the board supplies ------------------------------------------------------------------------
 */

/* A console before anything is known about the machine, from a build-time address (already mapped
 * by arch_map() in here); or nothing, then boot_stop() speaks through semihosting. */
void board_early_console(void);

/* True when console_write() reaches somebody. */
bool board_has_console(void);

/* Frequency of the clock when the core does not know it; 0: the core knows. */
uint64_t board_clock_hz(const void *dtb);

/* Everything else: memory, cores, console, interrupts, buses, endpoints; fills `board`. Interrupts
 * are taken when it returns. Ends in boot_stop() when something that must be there is missing or
 * broken. */
void board_init(const struct arch_start *start, struct board *board);

#endif
