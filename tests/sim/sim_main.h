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

/* So many runs one process may make: 1 where something of a run stays behind. */
extern const uint32_t sim_runs_max;

/* Ends the process: the seed has failed. */
NORETURN PRINTF_LIKE(1, 2) void sim_fail(const char *format, ...);

#endif
