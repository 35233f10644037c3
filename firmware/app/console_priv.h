/*
 * What the files of the console share.
 */
#ifndef APP_CONSOLE_PRIV_H
#define APP_CONSOLE_PRIV_H

#include "app/app_priv.h"
#include "base/compiler.h"

/* As printf; at most 319 characters at once. Core 0. */
void console_say(const char *format, ...) PRINTF_LIKE(1, 2);

/* To the console, or to where the command's output is kept. Core 0. */
void console_out(const char *bytes, size_t len_bytes);

/* Runs a command line whose output is kept instead; it may answer later, see console_is_captured().
 * AGAIN: another is at work. INVALID: too long. Core 0. */
MUST_USE enum status console_run_captured(const char *text, uint32_t len_bytes);
bool console_is_captured(void);
const char *console_captured(uint32_t *len_bytes);

/* "fn0.commands 17" */
void console_say_number(const char *group, unsigned index, const char *name, uint64_t value);

/* The next word of *text, cut out in place; empty at the end. */
char *console_take_word(char **text);

/* The command that runs answers later; console_answered() prints the prompt. Meanwhile other such
 * commands must not begin. */
void console_later(void);
bool console_is_pending(void);
void console_answered(void);

/* Commands. */
void console_status(void);
void console_stats(void);
void console_queues(void);
void console_net(void);
void console_rdma(void);
void console_ping(char *arguments);
void console_rping(char *arguments);
void console_volumes(void);
void console_volume(char *arguments);
void console_subsystems(void);
void console_discover(char *arguments);

#endif
