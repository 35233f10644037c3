/*
 * The same cases as a plain program: runs one of them many times, for a tool that counts what
 * bench_turn() executes.
 *
 *   bench_ep CASE IO_COUNT     CASE: index into the table, or "idle"
 *   bench_ep                   prints the table
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "hal/native/native.h"
#include "sched/sched.h"
#include "tests/bench/bench_ep.h"

static void print(const char *line)
{
    puts(line);
}

int main(int argc, char **argv)
{
    static _Alignas(4096) uint8_t memory[BENCH_MEMORY_BYTES];

    if (argc < 3) {
        for (uint32_t i = 0; i < bench_case_count; i++) {
            printf("%u %s depth %u bytes %u\n", i, bench_cases[i].name, bench_cases[i].depth,
                   bench_cases[i].bytes);
        }
        return 0;
    }
    native_cpu_become(0);
    sched_init(1, SCHED_IDLE_POLL);
    bench_ep_start(memory, print);
    uint32_t count = (uint32_t)strtoul(argv[2], NULL, 0);
    uint32_t index = (uint32_t)strtoul(argv[1], NULL, 0);
    if (strcmp(argv[1], "idle") == 0) {
        bench_ep_idle(count);
    } else if (index < bench_case_count) {
        bench_ep_run(&bench_cases[index], count);
    }
    return 0;
}
