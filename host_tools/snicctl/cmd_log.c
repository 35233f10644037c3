/*
 * `log`, and commands of the console: run, ping, discover; reset.
 */
#include "command.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "text.h"

#define LOG_MAX_BYTES (16u << 20)
#define FOLLOW_MS     250u

static void pause_ms(uint32_t ms)
{
    struct timespec time = {.tv_sec = 0, .tv_nsec = (long)ms * 1000000};

    nanosleep(&time, NULL);
}

static void json_lines(struct json *json, const char *name, const char *text, size_t len_bytes)
{
    const char *end = text + len_bytes;

    json_open(json, name, '[');
    while (text < end) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        const char *line_end = newline == NULL ? end : newline;
        size_t len = (size_t)(line_end - text);
        len -= len > 0 && text[len - 1] == '\r';
        json_text_len(json, NULL, text, len);
        text = line_end + 1;
    }
    json_close(json, ']');
}

/* Shows what is new until the connection is gone or somebody presses ^C. */
static enum fault follow(struct call *call, uint64_t next)
{
    struct client_piece piece;

    for (;;) {
        enum fault fault = client_read(call->client, MGMT_OBJECT_LOG, 0, next, &piece);
        if (fault != FAULT_NONE) {
            return fault;
        }
        if (piece.len_bytes == 0) {
            fflush(call->out);
            pause_ms(FOLLOW_MS);
            continue;
        }
        if (piece.offset > next) {
            fault_note("%llu bytes are lost", (unsigned long long)(piece.offset - next));
        }
        text_put(call->out, (const char *)piece.bytes, piece.len_bytes, true);
        next = piece.offset + piece.len_bytes;
    }
}

enum fault cmd_log(struct call *call)
{
    bool is_follow = args_flag(call, "--follow") || args_flag(call, "-f");
    const char *level = args_value(call, "--level");
    static const char *const levels[] = {"error", "warning", "info", "debug"};
    uint8_t *bytes = NULL;
    size_t len = 0;
    uint64_t offset = 0;
    struct json json;

    enum fault fault = args_done(call, 0, 0);
    if (fault == FAULT_NONE && level != NULL) {
        uint32_t number = 0;
        while (number < ARRAY_SIZE(levels) && strcmp(levels[number], level) != 0) {
            number++;
        }
        return number < ARRAY_SIZE(levels)
                   ? client_act(call->client, MGMT_ACTION_LOG_LEVEL, &number, sizeof(number))
                   : fault_say(FAULT_USAGE, "--level: error, warning, info or debug");
    }
    if (fault == FAULT_NONE && !client_has_object(call->client, MGMT_OBJECT_LOG)) {
        fault = not_from_here(call, "the log");
    }
    if (fault == FAULT_NONE) {
        fault =
            client_read_all(call->client, MGMT_OBJECT_LOG, 0, LOG_MAX_BYTES, &bytes, &len, &offset);
    }
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

/* --- commands of the console ------------------------------------------------------------------ */

static void to_file(void *ctx, const char *text, size_t len)
{
    fwrite(text, 1, len, ctx);
}

/* Runs the line and shows what it prints. False: it printed something with `bad` in it. */
static enum fault run_line(struct call *call, const char *line, const char *bad)
{
    char *text = NULL;
    size_t len = 0;
    struct json json;

    if (!client_has_action(call->client, MGMT_ACTION_RUN)) {
        return not_from_here(call, "commands of the console");
    }
    FILE *file = open_memstream(&text, &len);
    enum fault fault = client_run(call->client, line, to_file, file);
    fclose(file);
    if (fault == FAULT_NONE && call->options->is_json) {
        reply_start(call, &json);
        json_text(&json, "line", line);
        json_lines(&json, "output", text, len);
        reply_end(&json);
    } else if (len > 0) {
        text_put(call->out, text, len, true);
    }
    if (fault == FAULT_NONE && bad != NULL && strstr(text, bad) != NULL) {
        fault = FAULT_FAILED;
    }
    free(text);
    return fault;
}

static enum fault run_words(struct call *call, const char *first, const char *bad)
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
    return run_line(call, line, bad);
}

enum fault cmd_run(struct call *call)
{
    enum fault fault = args_done(call, 1, 32);

    return fault != FAULT_NONE ? fault : run_words(call, "", "no command '");
}

enum fault cmd_discover(struct call *call)
{
    enum fault fault = args_done(call, 1, 2);

    return fault != FAULT_NONE ? fault : run_words(call, "discover", "discover: ");
}

enum fault cmd_ping(struct call *call)
{
    bool is_rdma = args_flag(call, "--rdma");
    enum fault fault = args_done(call, 1, is_rdma ? 4 : 1);

    return fault != FAULT_NONE ? fault : run_words(call, is_rdma ? "rping" : "ping", "no answer");
}

enum fault cmd_reset(struct call *call)
{
    enum fault fault = args_done(call, 0, 0);

    if (fault == FAULT_NONE && !client_has_action(call->client, MGMT_ACTION_RESET)) {
        fault = not_from_here(call, "a reset");
    }
    if (fault == FAULT_NONE) {
        fault = client_act(call->client, MGMT_ACTION_RESET, NULL, 0);
    }
    if (fault == FAULT_NONE) {
        fprintf(call->out, "the board resets\n");
    }
    return fault;
}
