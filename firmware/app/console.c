/*
 * The console: a line at a time, commands for one who watches the firmware. Numbers are printed one
 * per line as "name value", so that scripts read them too; an answer ends with the prompt.
 *
 * A management message may run a command too: what it prints is kept for that one to read, and what
 * is typed meanwhile waits. Leaves out: history and editing beyond backspace.
 */
#include "app/config_priv.h"
#include "app/console_priv.h"
#include "app/mgmt_priv.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "base/assert.h"
#include "hal/clock.h"
#include "hal/console.h"

#define LINE_BYTES     128
#define CAPTURE_BYTES  32768
#define BYTES_PER_TURN 64
#define PROMPT         "snic> "
/* Asking the device costs a bus access, or a system call: not in every turn. Between two looks at
 * 115200 baud come fewer bytes than the smallest receive buffer holds. */
#define LOOK_NS     NS_PER_MS
#define HANG_HIGH_S 60u
/* While the core sleeps. */
#define SLEEP_NS (UINT64_C(20) * NS_PER_MS)

static struct {
    struct poller poller;
    uint64_t looked_ns;
    char line[LINE_BYTES];
    uint32_t used;
    bool is_pending;  /* a command answers later, and prints the prompt then */
    int held;         /* a byte that was read and waits; 0: none */
    bool is_captured; /* the command that is at work is a management message's */
    uint32_t captured_bytes;
    char captured[CAPTURE_BYTES]; /* what the last of those has printed */
} console;

void console_out(const char *bytes, size_t len_bytes)
{
    if (!console.is_captured) {
        console_write(bytes, len_bytes);
        return;
    }
    len_bytes = min_u64(len_bytes, CAPTURE_BYTES - console.captured_bytes);
    memcpy(console.captured + console.captured_bytes, bytes, len_bytes);
    console.captured_bytes += (uint32_t)len_bytes;
}

void console_say(const char *format, ...)
{
    char text[320]; /* an NQN has up to 223 characters */
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (len > 0) {
        console_out(text, min_u32((uint32_t)len, sizeof(text) - 1));
    }
}

void console_say_number(const char *group, unsigned index, const char *name, uint64_t value)
{
    console_say("%s%u.%s %llu\n", group, index, name, (unsigned long long)value);
}

/* --- commands ------------------------------------------------------------------------------ */

static void say_poller(const struct poller *poller, void *ctx)
{
    (void)ctx;
    console_say("  %-16s %12llu turns %12llu work %9llu ms busy\n", poller->name,
                (unsigned long long)poller->run_count, (unsigned long long)poller->work_count,
                (unsigned long long)(poller->busy_ns / NS_PER_MS));
}

static void command_reactors(void)
{
    for (uint32_t core = 0; core < sched_core_count(); core++) {
        struct sched_stats s = sched_stats(core);
        console_say("core%u: %llu turns, %llu busy, %llu messages, slept %llu times, %llu ms\n",
                    (unsigned)core, (unsigned long long)s.turn_count,
                    (unsigned long long)s.busy_turn_count, (unsigned long long)s.msg_count,
                    (unsigned long long)s.sleep_count,
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

/* For one who wants to see how a hang looks. */
static void command_hang(char *arguments)
{
    uint64_t seconds = 1;

    if (arguments[0] != '\0' && !config_whole_number(arguments, 1, HANG_HIGH_S, &seconds)) {
        console_say("hang [SECONDS], 1 to %u\n", HANG_HIGH_S);
        return;
    }
    clock_delay_ns(seconds * NS_PER_S);
}

static void command_help(void);

/* Words behind a command's name are its arguments; only some take any. */
static const struct {
    const char *name;
    const char *arguments;
    const char *text;
    void (*run)(void);
    void (*run_with)(char *arguments);
} commands[] = {
    {"help", "", "this text", command_help, NULL},
    {"status", "", "states of functions and drives", console_status, NULL},
    {"stats", "", "counters of functions, drives, volumes and data paths", console_stats, NULL},
    {"queues", "", "every queue pair as it is now", console_queues, NULL},
    {"net", "", "addresses, neighbours and counters of Ethernet ports", console_net, NULL},
    {"rdma", "", "RDMA devices, their queue pairs, connections, services", console_rdma, NULL},
    {"ping", "ADDRESS", "one ICMP echo", NULL, console_ping},
    {"rping", "ADDRESS [COUNT] [SIZE] [CONNECTIONS]",
     "RDMA echoes with an rping server, 10 of 64 bytes", NULL, console_rping},
    {"volumes", "", "volumes of the device tree, their paths and what waits", console_volumes,
     NULL},
    {"volume", "attach|detach NAME", "a volume comes or goes while the host runs", NULL,
     console_volume},
    {"subsystems", "", "remote subsystems: state, and why not", console_subsystems, NULL},
    {"discover", "ADDRESS [PORT]", "what a discovery service tells", NULL, console_discover},
    {"reactors", "", "turns, work and sleep of every core and poller", command_reactors, NULL},
    {"reset", "", "warm reset of the board", command_reset, NULL},
    {"hang", "[SECONDS]", "core 0 does nothing else for so long, to see how that looks", NULL,
     command_hang},
    {"panic", "", "die on purpose, to see the dump", command_panic, NULL},
};

static void command_help(void)
{
    for (uint32_t i = 0; i < ARRAY_SIZE(commands); i++) {
        char usage[56];
        snprintf(usage, sizeof(usage), "%s %s", commands[i].name, commands[i].arguments);
        console_say("  %-44s %s\n", usage, commands[i].text);
    }
}

/* --- lines --------------------------------------------------------------------------------- */

char *console_take_word(char **text)
{
    char *word = *text + strspn(*text, " ");
    char *end = word + strcspn(word, " ");

    *text = *end == '\0' ? end : end + 1;
    *end = '\0';
    return word;
}

static void line_run(char *line)
{
    char *name = console_take_word(&line);
    for (uint32_t i = 0; i < ARRAY_SIZE(commands); i++) {
        if (strcmp(name, commands[i].name) != 0) {
            continue;
        }
        if (commands[i].run_with != NULL) {
            commands[i].run_with(line);
        } else {
            commands[i].run();
        }
        return;
    }
    if (name[0] != '\0') {
        console_say("no command '%s'; try help\n", name);
    }
}

void console_later(void)
{
    console.is_pending = true;
}

bool console_is_pending(void)
{
    return console.is_pending;
}

void console_answered(void)
{
    console.is_pending = false;
    if (!console.is_captured) {
        console_say(PROMPT);
    }
    console.is_captured = false;
}

enum status console_run_captured(const char *text, uint32_t len_bytes)
{
    char line[LINE_BYTES];

    if (len_bytes >= sizeof(line)) {
        return STATUS_INVALID;
    }
    if (console.is_pending || console.is_captured) {
        return STATUS_AGAIN;
    }
    memcpy(line, text, len_bytes);
    line[len_bytes] = '\0';
    console.captured_bytes = 0;
    console.is_captured = true;
    line_run(line);
    console.is_captured = console.is_pending;
    return STATUS_OK;
}

bool console_is_captured(void)
{
    return console.is_captured;
}

const char *console_captured(uint32_t *len_bytes)
{
    *len_bytes = console.captured_bytes;
    return console.captured;
}

static void line_byte(char c)
{
    if (c == '\r' || c == '\n') {
        console.line[console.used] = '\0';
        console.used = 0;
        console_say("\n");
        line_run(console.line);
        if (!console.is_pending) {
            console_say(PROMPT);
        }
    } else if (c == '\b' || c == 0x7f) {
        if (console.used > 0) {
            console.used--;
            console_say("\b \b");
        }
    } else if (c >= ' ' && c < 0x7f && console.used < LINE_BYTES - 1) {
        console.line[console.used++] = c;
        console_write(&c, 1);
    }
}

static uint32_t console_run(void *ctx)
{
    (void)ctx;
    uint32_t work = app_mgmt_frames_poll();
    uint64_t now_ns = sched_now_ns();

    if (LIKELY(now_ns - console.looked_ns < LOOK_NS)) {
        return work;
    }
    console.looked_ns = now_ns;
    for (uint32_t i = 0; i < BYTES_PER_TURN && !(console.is_captured && console.held != 0); i++) {
        int c = console.held != 0 ? console.held : console_read();
        console.held = 0;
        if (c < 0) {
            break;
        }
        if (console.is_captured) {
            console.held = c; /* and what comes behind it waits in the device */
            break;
        }
        line_byte((char)c);
        work++;
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
    console_say(PROMPT);
}
