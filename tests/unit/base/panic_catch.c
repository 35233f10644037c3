#include "base/panic_catch.h"

jmp_buf panic_catch_return;

void panic_catch_hook(const char *text)
{
    (void)text;
    longjmp(panic_catch_return, 1);
}
