/*
 * What commands are given, and the list of them. A command takes its options off the words by
 * args_*(), ends by args_done(), then does its work and returns the exit code.
 */
#ifndef SNICCTL_COMMAND_H
#define SNICCTL_COMMAND_H

#include <stdio.h>
#include "client.h"
#include "json.h"
#include "record.h"
#include "view.h"

/* Of the whole tool; these stand anywhere on the command line. */
struct options {
    const char *device; /* NULL: not given */
    const char *console;
    const char *rack; /* name of a rack; NULL: not given */
    uint32_t baud;
    bool is_json;
    bool is_all; /* all fields */
};

struct command;

struct call {
    const struct command *command;
    const struct options *options;
    struct client *client; /* NULL: the command needs none */
    FILE *out;
    char **words; /* behind the command's name; NULL ends */
    uint32_t word_count;
    enum fault fault; /* of args_*() */
};

enum command_needs {
    NEEDS_NOTHING,
    NEEDS_CLIENT,
};

struct command {
    const char *name;
    const char *usage; /* words behind the name */
    const char *text;  /* one line */
    enum command_needs needs;
    bool has_json;
    enum fault (*run)(struct call *call);
};

extern const struct command commands[]; /* ends by a name that is NULL */

const struct command *command_find(const char *name);

/* --- words ---- */

/* Takes the option `name` off the words: is it there? */
bool args_flag(struct call *call, const char *name);
/* Takes the option and the word behind it ("--x y" or "--x=y"); NULL: not there. */
const char *args_value(struct call *call, const char *name);
/* The same as a number; `otherwise` when not there. */
uint64_t args_number(struct call *call, const char *name, uint64_t max, uint64_t otherwise);
/* No option may be left, and so many other words. Says what is wrong. */
enum fault args_done(struct call *call, uint32_t min_words, uint32_t max_words);
/* `what` prints no object: --json is a fault of usage then. */
enum fault args_no_json(struct call *call, const char *what);

/* --- what commands share ---- */

/* Opens an object with the command's name and who has answered; the caller closes it and ends. */
void reply_start(struct call *call, struct json *json);
void reply_end(struct json *json);
/* A line about a board that hangs, when it does. For text. */
void reply_hung(struct call *call);

/* An array of the text's lines. */
void json_lines(struct json *json, const char *name, const char *text, size_t len_bytes);

/* How far something is: a bar on a terminal's stderr. */
void progress_start(const char *what);
void progress(size_t done, size_t all);

/* Lists a class. When it is not to be had from here, says why. */
enum fault list_class(struct call *call, enum mgmt_class class, struct client_rows *rows);
/* The same for what may be missing: no records then. */
enum fault list_if_there(struct call *call, enum mgmt_class class, struct client_rows *rows);
/* Says why this way in does not have something: `what` is "log", "commands of the console". */
enum fault not_from_here(struct call *call, const char *what);

/* Reads a file of at most `max` bytes; the caller frees. */
enum fault file_read(const char *path, size_t max, uint8_t **bytes, size_t *len_bytes);
enum fault file_write(const char *path, const void *bytes, size_t len_bytes);

/* Runs a program with these words (the first is its name, found in PATH; NULL ends) and gives what
 * it prints on stdout; the caller frees *text. Its exit code; 127: there is none. What it prints on
 * stderr is shown, escaped, when it fails. */
int program_run(const char *const words[], const void *input, size_t input_bytes, char **text,
                size_t *text_len);

/* A client to the board that the options name. The transport and client are the caller's. */
enum fault target_open(const struct options *options, struct transport *transport,
                       struct client *client);

/* --- commands ---- */

enum fault cmd_status(struct call *call);
enum fault cmd_records(struct call *call); /* those named as a class */
enum fault cmd_reactors(struct call *call);
enum fault cmd_stats(struct call *call);
enum fault cmd_log(struct call *call);
enum fault cmd_crash(struct call *call);
enum fault cmd_trace(struct call *call);
enum fault cmd_top(struct call *call);
enum fault cmd_config(struct call *call);
enum fault cmd_flash(struct call *call);
enum fault cmd_activate(struct call *call);
enum fault cmd_confirm(struct call *call);
enum fault cmd_rollback(struct call *call);
enum fault cmd_image(struct call *call);
enum fault cmd_run(struct call *call);
enum fault cmd_discover(struct call *call);
enum fault cmd_ping(struct call *call);
enum fault cmd_reset(struct call *call);
enum fault cmd_doctor(struct call *call);
enum fault cmd_fabric(struct call *call);
enum fault cmd_version(struct call *call);
enum fault cmd_help(struct call *call);
enum fault cmd_schema(struct call *call);

#endif
