/*
 * The console: a line at a time, commands for one who watches the firmware. Numbers are printed one
 * per line as "name value", so that scripts read them too; an answer ends with the prompt.
 *
 * Leaves out: history and editing beyond backspace. The management protocol comes later and stands
 * beside it.
 */
#include "app/app_priv.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "base/assert.h"
#include "hal/clock.h"
#include "hal/console.h"

#define LINE_BYTES     128
#define BYTES_PER_TURN 64
#define PROMPT         "snic> "
/* Asking the device costs a bus access, or a system call: not in every turn. Between two looks at
 * 115200 baud come fewer bytes than the smallest receive buffer holds. */
#define LOOK_NS NS_PER_MS
/* While the core sleeps. */
#define SLEEP_NS (UINT64_C(20) * NS_PER_MS)

static struct {
    struct poller poller;
    uint64_t looked_ns;
    char line[LINE_BYTES];
    uint32_t used;
} console;

static void say(const char *format, ...) PRINTF_LIKE(1, 2);

static void say(const char *format, ...)
{
    char text[192];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (len > 0) {
        console_write(text, (size_t)min_u32((uint32_t)len, sizeof(text) - 1));
    }
}

static void say_number(const char *group, unsigned index, const char *name, uint64_t value)
{
    say("%s%u.%s %llu\n", group, index, name, (unsigned long long)value);
}

/* --- commands ------------------------------------------------------------------------------ */

static void stats_of_function(uint32_t index)
{
    struct nvme_ep_stats s = nvme_ep_stats(app.functions[index].ep, NVME_EP_ALL_CORES);
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {
        {"commands", s.sqe_count},
        {"completions", s.cqe_count},
        {"interrupts", s.irq_count},
        {"sqe_reads", s.sqe_reads.count},
        {"sqe_read_bytes", s.sqe_reads.bytes},
        {"list_reads", s.list_reads.count},
        {"list_read_bytes", s.list_reads.bytes},
        {"cqe_writes", s.cqe_writes.count},
        {"cqe_write_bytes", s.cqe_writes.bytes},
        {"data_to_host", s.data_to_host.count},
        {"data_to_host_bytes", s.data_to_host.bytes},
        {"data_from_host", s.data_from_host.count},
        {"data_from_host_bytes", s.data_from_host.bytes},
        {"staged_bytes", s.staged_bytes},
        {"doorbell_errors", s.doorbell_error_count},
        {"bad_addresses", s.bad_address_count},
        {"pool_empty", s.pool_empty_count},
        {"cq_full", s.cq_full_count},
        {"dropped", s.dropped_count},
        {"cancels", s.cancel_count},
        {"fences", s.fence_count},
    };
    for (uint32_t i = 0; i < ARRAY_SIZE(rows); i++) {
        say_number("fn", index, rows[i].name, rows[i].value);
    }
}

static void command_stats(void)
{
    for (uint32_t i = 0; i < app.function_count; i++) {
        stats_of_function(i);
    }
    for (uint32_t i = 0; i < app.drive_count; i++) {
        if (app.drives[i] == NULL) {
            continue;
        }
        struct nvme_drv_stats s = nvme_drv_stats(app.drives[i]);
        say_number("drive", i, "commands", s.command_count);
        say_number("drive", i, "splits", s.split_count);
        say_number("drive", i, "staged_bytes", s.bounced_bytes);
        say_number("drive", i, "errors", s.error_count);
        say_number("drive", i, "timeouts", s.timeout_count);
        say_number("drive", i, "aborts", s.abort_count);
        say_number("drive", i, "resets", s.reset_count);
        say_number("drive", i, "bad_completions", s.bad_completion_count);
    }
}

static void command_status(void)
{
    say("uptime_ms %llu\n", (unsigned long long)(clock_now_ns() / NS_PER_MS));
    for (uint32_t i = 0; i < app.function_count; i++) {
        struct nvme_ep_snapshot s = nvme_ep_snapshot(app.functions[i].ep);
        say("fn%u.name %s\n", (unsigned)i, app.functions[i].pcie->name);
        say("fn%u.state %s\n", (unsigned)i, nvme_ep_state_name(s.state));
        say("fn%u.cc 0x%08x\nfn%u.csts 0x%08x\n", (unsigned)i, (unsigned)s.cc, (unsigned)i,
            (unsigned)s.csts);
        say_number("fn", i, "submission_queues", s.sq_count);
        say_number("fn", i, "completion_queues", s.cq_count);
        say_number("fn", i, "view_generation", s.view_generation);
        for (uint32_t core = 0; core < sched_core_count(); core++) {
            say("fn%u.core%u.in_flight %u\n", (unsigned)i, (unsigned)core,
                (unsigned)s.in_flight[core]);
        }
    }
    for (uint32_t i = 0; i < app.drive_count; i++) {
        if (app.drives[i] == NULL) {
            continue;
        }
        say("drive%u.name %s\n", (unsigned)i, nvme_drv_name(app.drives[i]));
        say("drive%u.state %s\n", (unsigned)i, nvme_drv_state_name(nvme_drv_state(app.drives[i])));
    }
}

static void command_queues(void)
{
    say("fn qid core  sq size head tail   cq size head tail vector held    commands\n");
    for (uint32_t i = 0; i < app.function_count; i++) {
        for (uint16_t qid = 0; qid <= LIMIT_IO_QUEUES; qid++) {
            struct nvme_ep_queue_info q = nvme_ep_queue_info(app.functions[i].ep, qid);
            if (q.sq_size == 0 && q.cq_size == 0) {
                continue;
            }
            say("%2u %3u %4u     %4u %4u %4u     %4u %4u %4u %6u %4u %11llu\n", (unsigned)i, qid,
                q.core, q.sq_size, q.sq_head, q.sq_tail, q.cq_size, q.cq_head, q.cq_tail,
                q.cq_vector, q.cq_held, (unsigned long long)q.sqe_count);
        }
    }
}

static void say_poller(const struct poller *poller, void *ctx)
{
    (void)ctx;
    say("  %-16s %12llu turns %12llu work %9llu ms busy\n", poller->name,
        (unsigned long long)poller->run_count, (unsigned long long)poller->work_count,
        (unsigned long long)(poller->busy_ns / NS_PER_MS));
}

static void command_reactors(void)
{
    for (uint32_t core = 0; core < sched_core_count(); core++) {
        struct sched_stats s = sched_stats(core);
        say("core%u: %llu turns, %llu busy, %llu messages, slept %llu times, %llu ms\n",
            (unsigned)core, (unsigned long long)s.turn_count, (unsigned long long)s.busy_turn_count,
            (unsigned long long)s.msg_count, (unsigned long long)s.sleep_count,
            (unsigned long long)(s.sleep_ns / NS_PER_MS));
        sched_visit_pollers(core, say_poller, NULL);
    }
}

static void command_reset(void)
{
    board_reset();
}

static void command_panic(void)
{
    panic("asked for on the console");
}

static void command_help(void);

static const struct {
    const char *name;
    const char *text;
    void (*run)(void);
} commands[] = {
    {"help", "this text", command_help},
    {"status", "states of functions and drives", command_status},
    {"stats", "counters of functions and drives", command_stats},
    {"queues", "every queue pair as it is now", command_queues},
    {"reactors", "turns, work and sleep of every core and poller", command_reactors},
    {"reset", "warm reset of the board", command_reset},
    {"panic", "die on purpose, to see the dump", command_panic},
};

static void command_help(void)
{
    for (uint32_t i = 0; i < ARRAY_SIZE(commands); i++) {
        say("  %-10s %s\n", commands[i].name, commands[i].text);
    }
}

/* --- lines --------------------------------------------------------------------------------- */

static void line_run(const char *line)
{
    for (uint32_t i = 0; i < ARRAY_SIZE(commands); i++) {
        if (strcmp(line, commands[i].name) == 0) {
            commands[i].run();
            return;
        }
    }
    if (line[0] != '\0') {
        say("no command '%s'; try help\n", line);
    }
}

static void line_byte(char c)
{
    if (c == '\r' || c == '\n') {
        console.line[console.used] = '\0';
        console.used = 0;
        say("\n");
        line_run(console.line);
        say(PROMPT);
    } else if (c == '\b' || c == 0x7f) {
        if (console.used > 0) {
            console.used--;
            say("\b \b");
        }
    } else if (c >= ' ' && c < 0x7f && console.used < LINE_BYTES - 1) {
        console.line[console.used++] = c;
        console_write(&c, 1);
    }
}

static uint32_t console_run(void *ctx)
{
    (void)ctx;
    uint32_t work = 0;
    uint64_t now_ns = sched_now_ns();

    if (LIKELY(now_ns - console.looked_ns < LOOK_NS)) {
        return 0;
    }
    console.looked_ns = now_ns;
    for (; work < BYTES_PER_TURN; work++) {
        int c = console_read();
        if (c < 0) {
            break;
        }
        line_byte((char)c);
    }
    return work;
}

/* A board whose console has no interrupt is looked at now and then while the core sleeps. */
static uint64_t console_arm(void *ctx, bool armed)
{
    (void)ctx;
    (void)armed;
    return SLEEP_NS;
}

void app_console_start(void)
{
    console.poller = (struct poller){.name = "console", .run = console_run, .arm = console_arm};
    sched_poller_add(&console.poller);
    say(PROMPT);
}
