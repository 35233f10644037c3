/*
 * vsnprintf() of C11 (7.21.6.12) for what the firmware prints: integers, characters, strings and
 * pointers. A hundredth of a C library's stdio, no heap, no locale, no errno.
 *
 * Leaves out: floating point, %n, %o, wide characters, the flag "'".
 */
#ifndef BASE_FMT_H
#define BASE_FMT_H

#include <stdarg.h>
#include <stddef.h>
#include "base/compiler.h"

/* As vsnprintf(): writes at most `text_bytes` with the zero behind, returns the length that the
 * whole has. Flags - + space # 0, width and precision (numbers or *), lengths hh h l ll j z t,
 * conversions d i u x X c s p %. From a conversion that it does not know, the format is copied as
 * it is. A string of NULL is "(null)". Any core, any context. */
int fmt_vsnprintf(char *text, size_t text_bytes, const char *format, va_list args)
    PRINTF_LIKE(3, 0);

#endif
