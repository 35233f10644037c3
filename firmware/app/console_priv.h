/*
 * What the files of the console share.
 */
#ifndef APP_CONSOLE_PRIV_H
#define APP_CONSOLE_PRIV_H

#include "app/app_priv.h"
#include "base/compiler.h"

/* As printf; at most 319 characters at once. Core 0. */
void console_say(const char *format, ...) PRINTF_LIKE(1, 2);

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
void console_update(void);
void console_volume_stats(void); /* a part of stats */

#endif
