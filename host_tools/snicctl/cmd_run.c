/*
 * Commands of the board's console: run, ping, discover. What they print decides how they end: lines
 * that begin with "error ", and the line without which a command has not done what it was asked for
 * (firmware/app/console_*.c).
 */
#include "command.h"

#include <stdlib.h>
#include <string.h>
#include "text.h"

#define RUN_DEFAULT_S 60u
#define RUN_MAX_S     86400u

/* --- how it ended ---------------------------------------------------------------------------- */

/* The line that must be there; NULL: nothing may be printed at all. */
static const struct {
    const char *command;
    const char *line;
} ends[] = {
    {"ping", "ping.round_trip_us "},
    {"rping", "rping.end done"},
    {"discover", "discover.end done"},
    {"volume", "done"},
    {"hang", NULL},
};

struct verdict {
    bool is_bad;
    char why[200]; /* the line that says it; empty: none does */
};

static bool begins(const char *line, size_t len, const char *with)
{
    size_t with_len = strlen(with);

    return len >= with_len && memcmp(line, with, with_len) == 0;
}

/* A line that says by itself that it did not work. */
static const char *complaint(const char *line, size_t *len)
{
    static const char *const bad[] = {"no command '", "the command before is still at work",
                                      "rping.end "};
    static const char *const zero = "rping.mismatches ";

    if (begins(line, *len, "error ")) {
        *len -= 6;
        return line + 6;
    }
    if (begins(line, *len, "rping.end done")) {
        return NULL;
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        if (begins(line, *len, bad[i])) {
            return line;
        }
    }
    bool is_mismatch = begins(line, *len, zero) && !begins(line, *len, "rping.mismatches 0");
    return is_mismatch ? line : NULL;
}

static void judge_line(struct verdict *verdict, const char *line, size_t len, const char *wanted,
                       bool *is_there)
{
    const char *why = complaint(line, &len);

    *is_there = *is_there || (wanted != NULL && begins(line, len, wanted));
    if (why != NULL && !verdict->is_bad) {
        verdict->is_bad = true;
        snprintf(verdict->why, sizeof(verdict->why), "%.*s", (int)len, why);
    }
}

/* Whatever the text says; it ends by a zero. */
static struct verdict judge(const char *line, const char *text)
{
    struct verdict verdict = {.is_bad = false};
    line += strspn(line, " "); /* the board skips them, too */
    size_t name_len = strcspn(line, " ");
    const char *wanted = NULL;
    const char *last = "";
    bool is_mute = false;
    bool is_there = false;

    for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
        if (strlen(ends[i].command) == name_len && strncmp(line, ends[i].command, name_len) == 0) {
            wanted = ends[i].line;
            is_mute = wanted == NULL;
        }
    }
    for (const char *p = text; *p != '\0';) {
        size_t len = strcspn(p, "\r\n");
        judge_line(&verdict, p, len, wanted, &is_there);
        last = len > 0 ? p : last;
        p += len + (p[len] != '\0');
    }
    bool is_missing = (wanted != NULL && !is_there) || (is_mute && last[0] != '\0');
    if (is_missing && !verdict.is_bad) {
        bool is_usage = strncmp(last, line, name_len) == 0 && last[name_len] == ' ';
        verdict.is_bad = true;
        snprintf(verdict.why, sizeof(verdict.why), "%s%.*s", is_usage ? "expected: " : "",
                 (int)strcspn(last, "\r\n"), last);
    }
    return verdict;
}

static enum fault verdict_fault(const struct call *call, const char *line,
                                const struct verdict *verdict)
{
    if (!verdict->is_bad) {
        return FAULT_NONE;
    }
    return fault_say(FAULT_FAILED, "%s: `%s`: %s", call->client->transport->name, line,
                     verdict->why[0] != '\0' ? verdict->why
                                             : "it printed nothing that says how it ended");
}

/* --- the commands ---------------------------------------------------------------------------- */

static void to_file(void *ctx, const char *text, size_t len)
{
    fwrite(text, 1, len, ctx);
}

static void show_json(struct call *call, const char *line, const char *text, size_t len,
                      bool is_good)
{
    struct json json;

    reply_start(call, &json);
    json_text(&json, "line", line);
    json_lines(&json, "output", text, len);
    json_bool(&json, "ok", is_good);
    reply_end(&json);
}

/* Runs the line and shows what it prints. */
static enum fault run_line(struct call *call, const char *line, uint64_t timeout_s)
{
    char *text = NULL;
    size_t len = 0;

    if (!client_has_action(call->client, MGMT_ACTION_RUN)) {
        return not_from_here(call, "commands of its console");
    }
    FILE *file = open_memstream(&text, &len);
    if (file == NULL) {
        return fault_say(FAULT_FAILED, "out of memory");
    }
    enum fault fault = client_run(call->client, line, (uint32_t)timeout_s * 1000, to_file, file);
    fclose(file);
    struct verdict verdict = judge(line, text);
    if (fault == FAULT_NONE && call->options->is_json) {
        show_json(call, line, text, len, !verdict.is_bad);
    } else if (len > 0 && !call->options->is_json) {
        text_put(call->out, text, len, true);
    }
    if (fault == FAULT_NONE) {
        fault = verdict_fault(call, line, &verdict);
    }
    free(text);
    return fault;
}

static enum fault run_words(struct call *call, const char *first, uint64_t timeout_s)
{
    char line[256];
    size_t used = (size_t)snprintf(line, sizeof(line), "%s", first);

    for (uint32_t i = 0; i < call->word_count; i++) {
        used += (size_t)snprintf(line + used, used < sizeof(line) ? sizeof(line) - used : 0, "%s%s",
                                 used > 0 ? " " : "", call->words[i]);
        if (used >= sizeof(line)) {
            return fault_say(FAULT_USAGE, "the command line is too long");
        }
    }
    return run_line(call, line, timeout_s);
}

enum fault cmd_run(struct call *call)
{
    uint64_t timeout_s = args_number(call, "--timeout", RUN_MAX_S, RUN_DEFAULT_S);
    enum fault fault = args_done(call, 1, 32);

    return fault != FAULT_NONE ? fault : run_words(call, "", timeout_s);
}

enum fault cmd_discover(struct call *call)
{
    uint64_t timeout_s = args_number(call, "--timeout", RUN_MAX_S, RUN_DEFAULT_S);
    enum fault fault = args_done(call, 1, 2);

    return fault != FAULT_NONE ? fault : run_words(call, "discover", timeout_s);
}

enum fault cmd_ping(struct call *call)
{
    uint64_t timeout_s = args_number(call, "--timeout", RUN_MAX_S, RUN_DEFAULT_S);
    bool is_rdma = args_flag(call, "--rdma");
    enum fault fault = args_done(call, 1, is_rdma ? 4 : 1);

    return fault != FAULT_NONE ? fault : run_words(call, is_rdma ? "rping" : "ping", timeout_s);
}
