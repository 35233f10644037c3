#include "base/panic_catch.h"

#include <stdio.h>

jmp_buf panic_catch_return;
char panic_catch_text[256];

void panic_catch_hook(const char *text)
{
    snprintf(panic_catch_text, sizeof(panic_catch_text), "%s", text);
    longjmp(panic_catch_return, 1);
}
