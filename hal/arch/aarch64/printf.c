/*
 * snprintf() and vsnprintf() of <stdio.h>, in place of newlib's, which take 7 KiB and a heap.
 */
#include <stdio.h>

#include "base/fmt.h"

int vsnprintf(char *text, size_t text_bytes, const char *format, va_list args)
{
    return fmt_vsnprintf(text, text_bytes, format, args);
}

int snprintf(char *text, size_t text_bytes, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    int length = fmt_vsnprintf(text, text_bytes, format, args);
    va_end(args);
    return length;
}
