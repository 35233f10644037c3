/*
 * The benchmark image: everything in one memory on one core. The last line is "bench done".
 */
#include "tests/bench/bench.h"

#include "base/assert.h"
#include "base/bits.h"
#include "hal/console.h"
#include "sched/sched.h"
#include "tests/bench/bench_ep.h"
#include "tests/bench/bench_path.h"
#include "tests/bench/bench_rdma.h"

static void print(const char *line)
{
    size_t len_bytes = 0;

    while (line[len_bytes] != '\0') {
        len_bytes++;
    }
    console_write(line, len_bytes);
    console_write("\n", 1);
}

void bench_main(const struct board *board)
{
    uintptr_t base = (uintptr_t)align_up((uintptr_t)board->pool_base, 4096);

    ASSERT(board->pool_bytes >=
           BENCH_MEMORY_BYTES + BENCH_RDMA_MEMORY_BYTES + BENCH_PATH_MEMORY_BYTES + 4096);
    sched_init(1, SCHED_IDLE_POLL);
    bench_ep_start((void *)base, print);
    bench_ep_report();
    bench_rdma_report((void *)(base + BENCH_MEMORY_BYTES), print);
    bench_path_report((void *)(base + BENCH_MEMORY_BYTES + BENCH_RDMA_MEMORY_BYTES), print);
    print("bench done");
}
