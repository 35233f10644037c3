/* Cores: start, wake, sleep, libc on several cores at once. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/bits.h"
#include "hal/clock.h"
#include "hal/console.h"
#include "hal/cpu.h"
#include "selftest.h"

#define WAKE_LIMIT_NS        (50 * NS_PER_US)  /* of board time: under -icount */
#define WAKE_LIMIT_LOADED_NS (500 * NS_PER_MS) /* wall clock of a busy machine */
#define WAKE_ROUNDS          20u
#define PING_PONG_ROUNDS     3000u
#define LIBC_ROUNDS          300u

enum command {
    COMMAND_SLEEP,
    COMMAND_MEASURE,
    COMMAND_PING_PONG,
    COMMAND_LIBC,
};

static struct {
    _Atomic uint32_t command;
    _Atomic uint32_t sent; /* serial number of the command */
    _Atomic uint32_t done[LIMIT_CORES];
    _Atomic uint64_t send_ns;
    _Atomic uint64_t latency_ns;
    _Atomic uint32_t ball; /* ping-pong: odd: the other core's turn */
    _Atomic uint32_t error_count;
    uint32_t arg[LIMIT_CORES];
} shared;

static void use_libc(uint32_t core)
{
    for (uint32_t i = 0; i < LIBC_ROUNDS; i++) {
        size_t len_bytes = 64 + (i + core * 37) % 300;
        unsigned char *block = malloc(len_bytes);
        char text[32];
        if (block == NULL) {
            atomic_fetch_add(&shared.error_count, 1);
            return;
        }
        memset(block, (int)core, len_bytes);
        snprintf(text, sizeof(text), "%u:%u", (unsigned)core, (unsigned)i);
        bool good =
            (uint32_t)atoi(text) == core && block[0] == core && block[len_bytes - 1] == core;
        atomic_fetch_add(&shared.error_count, good ? 0 : 1);
        free(block);
    }
}

static void play(uint32_t rest)
{
    for (uint32_t i = 0; i < PING_PONG_ROUNDS; i++) {
        while (atomic_load(&shared.ball) % 2 != rest) {
            cpu_idle(UINT64_MAX);
        }
        atomic_fetch_add(&shared.ball, 1);
        cpu_wake(rest == 1 ? 0 : 1);
    }
}

static void core_main(void *arg)
{
    uint32_t core = cpu_self();
    uint32_t seen = 0;

    atomic_fetch_add(&shared.error_count, *(uint32_t *)arg == core ? 0 : 1);
    atomic_store(&shared.done[core], 1);
    for (;;) {
        while (atomic_load(&shared.sent) == seen) {
            cpu_idle(UINT64_MAX);
        }
        uint64_t now_ns = clock_now_ns();
        seen = atomic_load(&shared.sent);
        uint32_t command = atomic_load(&shared.command);
        if (command == COMMAND_MEASURE) {
            atomic_store(&shared.latency_ns, now_ns - atomic_load(&shared.send_ns));
        } else if (command == COMMAND_PING_PONG && core == 1) {
            play(1);
        } else if (command == COMMAND_LIBC) {
            use_libc(core);
        }
        atomic_store(&shared.done[core], seen + 1);
    }
}

static bool wait_done(uint32_t core, uint32_t serial)
{
    uint64_t deadline_ns = clock_now_ns() + 5 * NS_PER_S;
    while (atomic_load(&shared.done[core]) != serial + 1) {
        if (clock_now_ns() > deadline_ns) {
            return false;
        }
        cpu_relax();
    }
    return true;
}

/* Publishes a command and wakes the cores up to `last`. */
static uint32_t send(enum command command, uint32_t last)
{
    uint32_t serial = atomic_load(&shared.sent) + 1;
    atomic_store(&shared.command, command);
    atomic_store(&shared.send_ns, clock_now_ns());
    atomic_store(&shared.sent, serial);
    for (uint32_t core = 1; core <= last; core++) {
        cpu_wake(core);
    }
    return serial;
}

static void start_all(const struct board *board)
{
    bool all_up = true;
    for (uint32_t core = 1; core < board->core_count; core++) {
        shared.arg[core] = core;
        enum status status = cpu_start(core, core_main, &shared.arg[core]);
        all_up = all_up && status == STATUS_OK && wait_done(core, 0);
    }
    selftest_check(all_up && atomic_load(&shared.error_count) == 0, "cores_all_start", "%u cores",
                   (unsigned)board->core_count);
}

static void measure_wake(bool exact)
{
    uint64_t worst_ns = 0;
    bool all_done = true;
    for (uint32_t i = 0; i < WAKE_ROUNDS && all_done; i++) {
        cpu_idle(clock_now_ns() + NS_PER_MS); /* by now core 1 sleeps */
        all_done = wait_done(1, send(COMMAND_MEASURE, 1));
        worst_ns = max_u64(worst_ns, atomic_load(&shared.latency_ns));
    }
    selftest_check(all_done && worst_ns <= (exact ? WAKE_LIMIT_NS : WAKE_LIMIT_LOADED_NS),
                   "cores_wake_in_time", "at most %llu ns", (unsigned long long)worst_ns);
}

void selftest_cores(const struct board *board)
{
    enum status status = cpu_start(board->core_count, core_main, NULL);
    selftest_check(status == STATUS_INVALID, "core_that_is_not_there_is_refused", "%s",
                   status_text(status));
    status = cpu_start(0, core_main, NULL);
    selftest_check(status == STATUS_EXISTS, "core_that_runs_is_refused", "%s", status_text(status));
    if (board->core_count == 1) {
        return;
    }
    start_all(board);
    measure_wake(strstr(board->config, "icount") != NULL);

    /* Hangs when a wake is lost: both sleep without a deadline. */
    uint32_t serial = send(COMMAND_PING_PONG, 1);
    play(0);
    selftest_check(wait_done(1, serial), "cores_lose_no_wake", "%u rounds", PING_PONG_ROUNDS);

    serial = send(COMMAND_LIBC, board->core_count - 1);
    use_libc(0);
    bool all_done = true;
    for (uint32_t core = 1; core < board->core_count; core++) {
        all_done = wait_done(core, serial) && all_done;
    }
    selftest_check(all_done && atomic_load(&shared.error_count) == 0, "libc_works_on_all_cores",
                   "%u errors", (unsigned)atomic_load(&shared.error_count));
}

/* All cores sleep; the runner looks at what QEMU costs meanwhile, then sends bytes. */
void selftest_idle(const struct board *board)
{
    uint32_t count = 0;
    uint32_t sleeps = 0;
    int byte = 0;

    for (uint32_t core = 1; core < board->core_count; core++) {
        shared.arg[core] = core;
        enum status status = cpu_start(core, core_main, &shared.arg[core]);
        selftest_check(status == STATUS_OK, "idle_core_starts", "%u", (unsigned)core);
    }
    selftest_check(true, "idle_begins", "send a line");
    while (byte != '\r' && byte != '\n') {
        byte = console_read();
        if (byte < 0) {
            cpu_idle(UINT64_MAX);
            sleeps++;
        } else {
            count++;
        }
    }
    selftest_check(count == 65, "console_receives_by_interrupt", "%u bytes, %u sleeps",
                   (unsigned)count, (unsigned)sleeps);
}
