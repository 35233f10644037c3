/*
 * Cold boot of the firmware. The order, and why it is this one:
 *
 *   1. (assembly, hal/arch) exception level, early data, stacks, vectors; MMU and caches; .bss
 *   2. clock, from the core's own registers: every later line carries the time
 *   3. early console, from a build-time address: from here on a failure can be seen
 *   4. crash record: read before anything may panic and write a new one
 *   5. board: memory, cores, the real console, interrupts, buses, endpoints. Memory first, since
 *      devices are given buffers; interrupts before buses, since these hand out vectors
 *   6. app_main(), which starts the other cores (cpu_start) when it has work for them
 *
 * An image on trial that cannot start resets the board, so that its attempts come to an end and the
 * old one comes back; without a bootloader that counts them the board powers off.
 *
 * Leaves out: loading an image (the bootloader's), starting the other cores.
 */
#include "boot/boot.h"

#include "base/log.h"
#include "boot/crash_record.h"
#include "hal/clock.h"
#include "hal/console.h"
#include "hal/cpu.h"

static struct board board;

void boot_cold(const struct arch_start *start)
{
    static const char *const start_text[] = {
        [CRASH_START_POWER_ON] = "power-on",
        [CRASH_START_WARM] = "warm reset",
        [CRASH_START_PANIC] = "panic",
    };
    static const struct log_sink sink = {
        .write = console_write, .now_ns = clock_now_ns, .core = cpu_self};

    bool clock_runs = arch_clock_init(start->entry_ticks, 0) ||
                      arch_clock_init(start->entry_ticks, board_clock_hz(start->dtb));
    board_early_console();
    log_set_sink(&sink);
    LOG_INFO("snic: start at EL%u", (unsigned)start->entry_level);
    if (!clock_runs) {
        boot_stop("neither CNTFRQ_EL0 nor the board says how fast the counter runs");
    }
    enum crash_start kind = crash_record_start();
    board.reset_cause = start_text[kind];
    board.crash = crash_record_previous();
    board.crash_bytes = board.crash != NULL ? sizeof(struct crash_record) : 0;
    crash_record_log();
    boot_stage("processor and memory map up, after %s", board.reset_cause);

    board_init(start, &board);
    boot_stage("%s: %u cores, %u endpoints, %llu MiB for backends", board.name,
               (unsigned)board.core_count, (unsigned)board.ep_count,
               (unsigned long long)(board.pool_bytes >> 20));
    app_main(&board);
    board_exit(0);
}

void board_exit(int code)
{
    const struct boot_handoff *handoff = &board.handoff;

    if (code != 0 && handoff->magic == BOOT_HANDOFF_MAGIC && handoff->is_trial != 0) {
        LOG_ERROR("boot: this image is on trial: it gives way");
        board_reset();
    }
    boot_end(code);
}
