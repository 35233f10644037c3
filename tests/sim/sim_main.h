/*
 * What a simulation gives to the program around it (sim_main.c), which runs its seeds.
 */
#ifndef TESTS_SIM_SIM_MAIN_H
#define TESTS_SIM_SIM_MAIN_H

#include <stdbool.h>
#include <stdint.h>
#include "base/compiler.h"

/* One run. */
void sim_run(uint64_t seed, bool trace);

/* Ends the process: the seed has failed. */
NORETURN PRINTF_LIKE(1, 2) void sim_fail(const char *format, ...);

#endif
