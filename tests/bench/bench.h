/*
 * What the entry of the benchmark image (bench_boot.c) calls.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include "hal/board.h"

/* Measures and prints; on core 0, with the counters of pmu.h running and no other core started.
 * Ends the run with exit code 0 by returning, with another by board_exit(). */
void bench_main(const struct board *board);

#endif
