/*
 * `log`: the text of the log, once or as it grows.
 */
#include "command.h"

#include <stdlib.h>
#include <string.h>
#include "text.h"

#define LOG_MAX_BYTES (16u << 20)
#define FOLLOW_MS     250u
#define ABSENT_MAX_MS 60000u /* a board that restarts is away for a while */

/* --- as it grows ------------------------------------------------------------------------------ */

struct follow {
    struct call *call;
    uint64_t next;      /* offset */
    uint64_t absent_ms; /* since when it does not answer; 0: it does */
};

/* Asks for the board's age. True: it is there. */
static bool is_there(struct follow *f, enum fault *fault)
{
    struct client *c = f->call->client;

    fault_hold(true);
    *fault = client_refresh(c);
    bool is_away = *fault != FAULT_NONE && c->is_silent;
    if (is_away && f->absent_ms == 0) {
        f->absent_ms = transport_now_ms();
        fault_forget();
        fault_note("%s does not answer: waiting", c->transport->name);
    } else if (is_away && transport_now_ms() - f->absent_ms < ABSENT_MAX_MS) {
        fault_forget();
    }
    fault_hold(false);
    if (is_away && transport_now_ms() - f->absent_ms < ABSENT_MAX_MS) {
        *fault = FAULT_NONE;
    }
    if (!is_away) {
        f->absent_ms = 0;
    }
    return *fault == FAULT_NONE && !is_away;
}

static void start_anew(struct follow *f)
{
    fprintf(f->call->out, "-- the board restarted, after %s --\n",
            f->call->client->hello.reset_cause);
    f->next = 0;
}

static enum fault show_new(struct follow *f)
{
    struct client_piece piece;
    bool is_full = true;

    while (is_full) {
        fault_hold(true);
        enum fault fault = client_read(f->call->client, MGMT_OBJECT_LOG, 0, f->next, &piece);
        if (fault != FAULT_NONE && f->call->client->is_silent) { /* the next look tells */
            fault_forget();
            fault = FAULT_NONE;
            is_full = false;
        }
        fault_hold(false);
        if (fault != FAULT_NONE || !is_full) {
            return fault;
        }
        if (piece.end < f->next) { /* restarted between the two questions: the next look tells */
            return FAULT_NONE;
        }
        if (piece.len_bytes > 0 && piece.offset > f->next) {
            fault_note("%llu bytes are lost", (unsigned long long)(piece.offset - f->next));
        }
        text_put(f->call->out, (const char *)piece.bytes, piece.len_bytes, true);
        is_full = piece.len_bytes > 0;
        f->next = is_full ? piece.offset + piece.len_bytes : f->next;
        fflush(f->call->out);
    }
    return FAULT_NONE;
}

/* Shows what is new until the connection is gone or somebody presses ^C. */
static enum fault follow(struct call *call, uint64_t next)
{
    struct follow f = {.call = call, .next = next};
    enum fault fault = FAULT_NONE;

    while (fault == FAULT_NONE) {
        uint32_t restart_count = call->client->restart_count;
        if (is_there(&f, &fault)) {
            if (call->client->restart_count != restart_count) {
                start_anew(&f);
            }
            fault = show_new(&f);
        }
        fflush(call->out);
        if (ferror(call->out) != 0) { /* who read it has gone */
            return FAULT_NONE;
        }
        client_pause_ms(FOLLOW_MS);
    }
    return fault;
}

/* --- the command ------------------------------------------------------------------------------ */

static enum fault set_level(struct call *call, const char *level)
{
    static const char *const levels[] = {"error", "warning", "info", "debug"};
    uint32_t number = 0;

    while (number < ARRAY_SIZE(levels) && strcmp(levels[number], level) != 0) {
        number++;
    }
    if (number == ARRAY_SIZE(levels)) {
        return fault_say(FAULT_USAGE, "--level %s: error, warning, info or debug", level);
    }
    if (!client_has_action(call->client, MGMT_ACTION_LOG_LEVEL)) {
        return not_from_here(call, "level of the log");
    }
    enum fault fault = client_act(call->client, MGMT_ACTION_LOG_LEVEL, &number, sizeof(number));
    if (fault == FAULT_NONE) {
        fprintf(call->out, "logged from now on: %s%s\n", level, number == 0 ? "" : " and worse");
    }
    return fault;
}

static enum fault show(struct call *call, bool is_follow)
{
    uint8_t *bytes = NULL;
    size_t len = 0;
    uint64_t offset = 0;
    struct json json;

    if (!client_has_object(call->client, MGMT_OBJECT_LOG)) {
        return not_from_here(call, "log");
    }
    enum fault fault =
        client_read_all(call->client, MGMT_OBJECT_LOG, 0, LOG_MAX_BYTES, &bytes, &len, &offset);
    if (fault == FAULT_NONE && call->options->is_json) {
        reply_start(call, &json);
        json_uint(&json, "offset", offset);
        json_lines(&json, "log", (const char *)bytes, len);
        reply_end(&json);
    } else if (fault == FAULT_NONE) {
        reply_hung(call);
        text_put(call->out, (const char *)bytes, len, true);
        fault = is_follow ? follow(call, offset + len) : FAULT_NONE;
    }
    free(bytes);
    return fault;
}

enum fault cmd_log(struct call *call)
{
    bool is_long = args_flag(call, "--follow");
    bool is_follow = args_flag(call, "-f") || is_long;
    const char *level = args_value(call, "--level");
    enum fault fault = args_done(call, 0, 0);

    if (fault == FAULT_NONE && (level != NULL || is_follow)) {
        fault = args_no_json(call, level != NULL ? "log --level" : "log -f");
    }
    if (fault == FAULT_NONE && level != NULL && is_follow) {
        fault = fault_say(FAULT_USAGE, "--level sets what is logged, -f shows it: one at a time");
    }
    if (fault != FAULT_NONE) {
        return fault;
    }
    return level != NULL ? set_level(call, level) : show(call, is_follow);
}
