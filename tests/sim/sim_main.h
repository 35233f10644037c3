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

/* What runs count, by name; the list ends with NULL, at most SIM_SUMS. Many seeds print the sums,
 * and one that is 0 over SIM_SUM_SEEDS or more of them fails: what never happens is not tested. */
#define SIM_SUMS      12
#define SIM_SUM_SEEDS 100
extern const char *const sim_sum_names[];
void sim_sum(uint32_t index, uint64_t count); /* by sim_run() */

/* Ends the process: the seed has failed. */
NORETURN PRINTF_LIKE(1, 2) void sim_fail(const char *format, ...);

#endif
