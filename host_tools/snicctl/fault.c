#include "fault.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "text.h"

static bool is_holding;
static char held[1100];

static void put(const char *lead, const char *text)
{
    fflush(stdout);
    fputs(lead, stderr);
    text_put(stderr, text, strlen(text), false); /* a line: what a board says adds none */
    fputc('\n', stderr);
}

/* The text may have words of the board in it. */
static void say(const char *lead, const char *format, va_list args)
{
    char text[1024];

    vsnprintf(text, sizeof(text), format, args);
    if (is_holding) {
        snprintf(held, sizeof(held), "%s%s", lead, text);
    } else {
        put(lead, text);
    }
}

void fault_hold(bool is_held)
{
    is_holding = is_held;
    if (!is_held && held[0] != '\0') {
        put("", held);
    }
    held[0] = '\0';
}

void fault_forget(void)
{
    held[0] = '\0';
}

enum fault fault_say(enum fault fault, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say("snicctl: ", format, args);
    va_end(args);
    return fault;
}

void fault_note(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say("snicctl: note: ", format, args);
    va_end(args);
}
