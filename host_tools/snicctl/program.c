/*
 * Other programs: dtc, openssl, mkimage, addr2line. What they are fed may come from a board, and so
 * may what they say about it: their words on stderr are kept, and shown escaped when they fail.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "command.h"
#include "text.h"

#define ERRORS_SHOWN_BYTES 4096u

extern char **environ;

struct pump {
    int to;      /* -1: closed */
    int from[2]; /* stdout, stderr */
    const uint8_t *input;
    size_t input_bytes;
    size_t done; /* of it */
    FILE *out[2];
};

static void feed(struct pump *p)
{
    size_t count = p->input_bytes - p->done < 4096 ? p->input_bytes - p->done : 4096;
    ssize_t written = write(p->to, p->input + p->done, count);

    p->done = written < 0 ? p->input_bytes : p->done + (size_t)written;
}

static void take(struct pump *p, uint32_t i)
{
    char block[4096];
    ssize_t count = read(p->from[i], block, sizeof(block));

    if (count > 0) {
        fwrite(block, 1, (size_t)count, p->out[i]);
    } else if (count == 0 || errno != EINTR) {
        close(p->from[i]);
        p->from[i] = -1;
    }
}

/* Feeds and reads at once, so that no pipe fills up for ever. */
static void run_pump(struct pump *p)
{
    while (p->from[0] >= 0 || p->from[1] >= 0) {
        if (p->to >= 0 && p->done == p->input_bytes) {
            close(p->to);
            p->to = -1;
        }
        struct pollfd waits[] = {{.fd = p->from[0], .events = POLLIN},
                                 {.fd = p->from[1], .events = POLLIN},
                                 {.fd = p->to, .events = POLLOUT}};
        if (poll(waits, 3, -1) < 0) {
            if (errno != EINTR) {
                break;
            }
            continue;
        }
        if (p->to >= 0 && waits[2].revents != 0) {
            feed(p);
        }
        for (uint32_t i = 0; i < 2; i++) {
            if (p->from[i] >= 0 && waits[i].revents != 0) {
                take(p, i);
            }
        }
    }
    if (p->to >= 0) {
        close(p->to);
    }
}

/* Its stdin, stdout and stderr are the pipes' ends. False: there is no such program. */
static bool start(const char *const words[], int pipes[3][2], pid_t *child)
{
    posix_spawn_file_actions_t actions;

    posix_spawn_file_actions_init(&actions);
    for (int i = 0; i < 3; i++) {
        posix_spawn_file_actions_adddup2(&actions, pipes[i][i == 0 ? 0 : 1], i);
    }
    for (int i = 0; i < 3; i++) {
        posix_spawn_file_actions_addclose(&actions, pipes[i][0]);
        posix_spawn_file_actions_addclose(&actions, pipes[i][1]);
    }
    /* posix_spawn() does not write to the words. */
    int error =
        posix_spawnp(child, words[0], &actions, NULL, (char *const *)(uintptr_t)words, environ);
    posix_spawn_file_actions_destroy(&actions);
    for (int i = 0; i < 3; i++) {
        close(pipes[i][i == 0 ? 0 : 1]);
    }
    return error == 0;
}

static bool make_pipes(int pipes[3][2])
{
    for (int i = 0; i < 3; i++) {
        if (pipe(pipes[i]) != 0) {
            for (; i > 0; i--) {
                close(pipes[i - 1][0]);
                close(pipes[i - 1][1]);
            }
            return false;
        }
    }
    return true;
}

int program_run(const char *const words[], const void *input, size_t input_bytes, char **text,
                size_t *text_len)
{
    int pipes[3][2];
    char *errors = NULL;
    size_t errors_len = 0;
    pid_t child;
    int status = 0;

    *text = NULL;
    *text_len = 0;
    signal(SIGPIPE, SIG_IGN);
    if (!make_pipes(pipes)) {
        return 127;
    }
    bool is_started = start(words, pipes, &child);
    struct pump p = {.to = pipes[0][1],
                     .from = {pipes[1][0], pipes[2][0]},
                     .input = input,
                     .input_bytes = is_started ? input_bytes : 0,
                     .out = {open_memstream(text, text_len), open_memstream(&errors, &errors_len)}};
    run_pump(&p); /* without a program all ends are closed */
    fclose(p.out[0]);
    fclose(p.out[1]);
    int code = 127;
    if (is_started) {
        waitpid(child, &status, 0);
        code = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
    }
    if (code != 0 && errors_len > 0) {
        fflush(stdout);
        text_put(stderr, errors, errors_len < ERRORS_SHOWN_BYTES ? errors_len : ERRORS_SHOWN_BYTES,
                 true);
    }
    free(errors);
    return code;
}
