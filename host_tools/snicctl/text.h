/*
 * Text for people: what a board says is escaped, so that it can neither drive a terminal nor break
 * a line; numbers with units.
 */
#ifndef SNICCTL_TEXT_H
#define SNICCTL_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Bytes of the UTF-8 character at `p`, of which `len_bytes` (at least 1) may be read; 0: none that
 * may be printed: no UTF-8, a control character (C0, DEL, C1), U+2028 or U+2029. */
uint32_t text_char_bytes(const char *p, size_t len_bytes);

/* Bytes before the zero, at most `room_bytes`. */
size_t text_len(const char *p, size_t room_bytes);

/* Prints it; what may not be printed as \xNN. Newlines and tabs pass when `is_lines`. */
void text_put(FILE *out, const char *p, size_t len_bytes, bool is_lines);

/* Columns on a screen: characters. */
size_t text_columns(const char *p);

/* "1.5 GiB"; "512 B". Fits into 16 bytes. */
void text_bytes(char *out, size_t room_bytes, uint64_t bytes);

/* "1.250 s", "15.2 us". Fits into 16 bytes. */
void text_ns(char *out, size_t room_bytes, uint64_t ns);

/* "3 d 04:05:06". Fits into 32 bytes. */
void text_uptime(char *out, size_t room_bytes, uint64_t ns);

/* Decimal, or hexadecimal with 0x, with K, M or G behind it: false when it is no number, or above
 * `max`. */
bool text_number(const char *text, uint64_t max, uint64_t *value);

#endif
