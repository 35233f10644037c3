/*
 * What commands share: heads of replies, lists, files, other programs.
 */
#include "command.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SCHEMA_VERSION 1u

void reply_start(struct call *call, struct json *json)
{
    json_start(json, call->out);
    json_open(json, NULL, '{');
    json_uint(json, "schema", SCHEMA_VERSION);
    json_text(json, "command", call->command->name);
    if (call->client == NULL) {
        return;
    }
    const struct mgmt_hello *h = &call->client->hello;
    json_open_flat(json, "from", '{');
    json_text(json, "target", call->client->transport->name);
    json_text(json, "board", h->board);
    json_text(json, "firmware", h->firmware);
    json_text(json, "serial", h->serial);
    json_uint(json, "uptime_ns", h->uptime_ns);
    json_bool(json, "hung", call->client->is_hung);
    json_close(json, '}');
}

void reply_end(struct json *json)
{
    json_close(json, '}');
    json_end(json);
}

void reply_hung(struct call *call)
{
    if (call->client->is_hung) {
        fprintf(call->out, "CORE 0 HANGS: an interrupt handler has answered; `snicctl reactors` "
                           "names the poller\n");
    }
}

/* --- lists ----------------------------------------------------------------------------------- */

enum fault not_from_here(struct call *call, const char *what)
{
    const struct client *c = call->client;

    if ((c->hello.may & MGMT_MAY_SEE_ALL) == 0) {
        return fault_say(FAULT_PERMISSION,
                         "%s: a host may not have %s in band: use --console, or give the board "
                         "options { in-band = \"all\"; }",
                         c->transport->name, what);
    }
    return fault_say(FAULT_VERSION, "%s: firmware %s on %s does not have %s", c->transport->name,
                     c->hello.firmware, c->hello.board, what);
}

enum fault list_class(struct call *call, enum mgmt_class class, struct client_rows *rows)
{
    memset(rows, 0, sizeof(*rows));
    if (!client_has_class(call->client, class)) {
        return not_from_here(call, record_of(class)->name);
    }
    return client_list(call->client, class, rows);
}

enum fault list_if_there(struct call *call, enum mgmt_class class, struct client_rows *rows)
{
    memset(rows, 0, sizeof(*rows));
    if (!client_has_class(call->client, class)) {
        return FAULT_NONE;
    }
    call->client->is_quiet = true;
    enum fault fault = client_list(call->client, class, rows);
    call->client->is_quiet = false;
    return call->client->status == MGMT_HUNG ? FAULT_NONE : fault;
}

/* --- files ----------------------------------------------------------------------------------- */

static enum fault file_fault(const char *path)
{
    return fault_say(errno == EACCES ? FAULT_PERMISSION : FAULT_FAILED, "%s: %s", path,
                     strerror(errno));
}

enum fault file_read(const char *path, size_t max, uint8_t **bytes, size_t *len_bytes)
{
    FILE *file = fopen(path, "rb");
    size_t used = 0;

    *bytes = NULL;
    if (file == NULL) {
        return file_fault(path);
    }
    for (;;) {
        uint8_t *bigger = realloc(*bytes, used + 65537);
        if (bigger == NULL) {
            break;
        }
        *bytes = bigger;
        size_t count = fread(bigger + used, 1, 65536, file);
        used += count;
        bigger[used] = '\0';
        if (count == 0 || used > max) {
            break;
        }
    }
    bool is_bad = ferror(file) != 0;
    fclose(file);
    if (is_bad || used > max) {
        free(*bytes);
        *bytes = NULL;
        return is_bad ? file_fault(path)
                      : fault_say(FAULT_FAILED, "%s: larger than %zu bytes", path, max);
    }
    *len_bytes = used;
    return FAULT_NONE;
}

enum fault file_write(const char *path, const void *bytes, size_t len_bytes)
{
    if (strcmp(path, "-") == 0) {
        fwrite(bytes, 1, len_bytes, stdout);
        return fflush(stdout) == 0 ? FAULT_NONE : file_fault("stdout");
    }
    FILE *file = fopen(path, "wb");
    if (file == NULL) {
        return file_fault(path);
    }
    bool is_good = fwrite(bytes, 1, len_bytes, file) == len_bytes;
    is_good = fclose(file) == 0 && is_good;
    return is_good ? FAULT_NONE : file_fault(path);
}

/* --- programs -------------------------------------------------------------------------------- */

extern char **environ;

/* Feeds and reads at once, so that neither pipe fills up for ever. */
static void pump(int to, int from, const uint8_t *input, size_t input_bytes, char **text,
                 size_t *text_len)
{
    FILE *out = open_memstream(text, text_len);
    size_t done = 0;

    for (;;) {
        char block[4096];
        if (to >= 0 && done == input_bytes) {
            close(to);
            to = -1;
        }
        struct pollfd waits[] = {{.fd = from, .events = POLLIN}, {.fd = to, .events = POLLOUT}};
        if (poll(waits, to >= 0 ? 2 : 1, -1) < 0 && errno != EINTR) {
            break;
        }
        if (to >= 0 && (waits[1].revents & (POLLOUT | POLLERR | POLLHUP)) != 0) {
            size_t count = input_bytes - done < 4096 ? input_bytes - done : 4096;
            ssize_t written = write(to, input + done, count);
            done = written < 0 ? input_bytes : done + (size_t)written;
        }
        if ((waits[0].revents & (POLLIN | POLLHUP)) != 0) {
            ssize_t count = read(from, block, sizeof(block));
            if (count <= 0) {
                break;
            }
            fwrite(block, 1, (size_t)count, out);
        }
    }
    if (to >= 0) {
        close(to);
    }
    fclose(out);
}

int program_run(const char *const words[], const void *input, size_t input_bytes, char **text,
                size_t *text_len)
{
    posix_spawn_file_actions_t actions;
    int to[2];
    int from[2];
    pid_t child;
    int status = 0;

    *text = NULL;
    *text_len = 0;
    if (pipe(to) != 0 || pipe(from) != 0) {
        return 127;
    }
    signal(SIGPIPE, SIG_IGN);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, to[0], 0);
    posix_spawn_file_actions_adddup2(&actions, from[1], 1);
    for (int i = 0; i < 2; i++) {
        posix_spawn_file_actions_addclose(&actions, to[i]);
        posix_spawn_file_actions_addclose(&actions, from[i]);
    }
    /* posix_spawn() does not write to the words. */
    int error =
        posix_spawnp(&child, words[0], &actions, NULL, (char *const *)(uintptr_t)words, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(to[0]);
    close(from[1]);
    if (error != 0) {
        close(to[1]);
        close(from[0]);
        return 127;
    }
    pump(to[1], from[0], input, input_bytes, text, text_len);
    close(from[0]);
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}
