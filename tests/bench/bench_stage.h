/*
 * Sums of the stage marks (base/stage.h), in builds that have them.
 */
#ifndef BENCH_BENCH_STAGE_H
#define BENCH_BENCH_STAGE_H

#include <stdint.h>
#include "base/stage.h"

#ifdef STAGE_MARKS
/* Measures what a mark costs, and starts all sums at 0. */
void bench_stages_start(void);
/* Instructions of a stage since then, the marks subtracted. */
uint64_t bench_stage_sum(enum stage stage);
const char *bench_stage_name(enum stage stage);
#endif

#endif
