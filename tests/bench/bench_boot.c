/*
 * Entry of the benchmark image: the firmware's own start-up on one core, then bench_main() instead
 * of the application. Under QEMU -icount shift=0 the counters of hal/arch/aarch64/pmu.h are exact.
 */
#include "hal/arch/aarch64/pmu.h"
#include "hal/board.h"
#include "tests/bench/bench.h"

/* The model target is in it, too: linker/aarch64.ld.in. */
__asm__(".globl no_text_budget\n.set no_text_budget, 1");

void app_main(const struct board *board)
{
    pmu_start();
    bench_main(board);
    board_exit(0);
}
