#include "text.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

static uint32_t sequence_bytes(uint8_t first)
{
    return first < 0x80                    ? 1
           : first >= 0xc2 && first < 0xe0 ? 2
           : first >= 0xe0 && first < 0xf0 ? 3
           : first >= 0xf0 && first < 0xf5 ? 4
                                           : 0;
}

uint32_t text_char_bytes(const char *p, size_t len_bytes)
{
    uint8_t first = (uint8_t)p[0];
    uint32_t count = sequence_bytes(first);
    uint32_t code = count == 1 ? first : first & (0x7fu >> count);

    if (count == 0 || count > len_bytes) {
        return 0;
    }
    for (uint32_t i = 1; i < count; i++) {
        if (((uint8_t)p[i] & 0xc0) != 0x80) {
            return 0;
        }
        code = code << 6 | ((uint8_t)p[i] & 0x3f);
    }
    bool is_long = (count == 3 && code < 0x800) || (count == 4 && code < 0x10000);
    bool is_surrogate = code >= 0xd800 && code < 0xe000;
    bool is_control = code < 0x20 || (code >= 0x7f && code < 0xa0);
    /* Line ends, and what turns the direction of writing. */
    bool is_layout = (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
    return is_long || is_surrogate || is_control || is_layout || code > 0x10ffff ? 0 : count;
}

size_t text_len(const char *p, size_t room_bytes)
{
    size_t len = 0;

    while (len < room_bytes && p[len] != '\0') {
        len++;
    }
    return len;
}

void text_put(FILE *out, const char *p, size_t len_bytes, bool is_lines)
{
    for (size_t i = 0; i < len_bytes;) {
        uint32_t count = text_char_bytes(p + i, len_bytes - i);
        if (count != 0) {
            fwrite(p + i, 1, count, out);
            i += count;
        } else if (is_lines && (p[i] == '\n' || p[i] == '\t')) {
            fputc(p[i++], out);
        } else if (is_lines && p[i] == '\r') {
            i++;
        } else {
            fprintf(out, "\\x%02x", (unsigned)(uint8_t)p[i++]);
        }
    }
}

size_t text_columns(const char *p)
{
    size_t columns = 0;

    for (; *p != '\0'; p++) {
        columns += ((uint8_t)*p & 0xc0) != 0x80;
    }
    return columns;
}

void text_bytes(char *out, size_t room_bytes, uint64_t bytes)
{
    static const char units[] = "KMGTPE";
    double value = (double)bytes;
    int unit = -1;

    while (value >= 1024 && unit < 5) {
        value /= 1024;
        unit++;
    }
    if (unit < 0) {
        snprintf(out, room_bytes, "%u B", (unsigned)bytes);
    } else {
        bool is_whole = value == (double)(uint64_t)value;
        snprintf(out, room_bytes, is_whole ? "%.0f %ciB" : "%.1f %ciB", value, units[unit]);
    }
}

void text_ns(char *out, size_t room_bytes, uint64_t ns)
{
    if (ns < 1000) {
        snprintf(out, room_bytes, "%u ns", (unsigned)ns);
    } else if (ns < 1000000) {
        snprintf(out, room_bytes, "%.1f us", (double)ns / 1e3);
    } else if (ns < 1000000000) {
        snprintf(out, room_bytes, "%.1f ms", (double)ns / 1e6);
    } else {
        snprintf(out, room_bytes, "%.2f s", (double)ns / 1e9);
    }
}

void text_uptime(char *out, size_t room_bytes, uint64_t ns)
{
    uint64_t s = ns / 1000000000;

    if (s < 60) {
        text_ns(out, room_bytes, ns);
    } else if (s < 86400) {
        snprintf(out, room_bytes, "%02u:%02u:%02u", (unsigned)(s / 3600), (unsigned)(s / 60 % 60),
                 (unsigned)(s % 60));
    } else {
        snprintf(out, room_bytes, "%" PRIu64 " d %02u:%02u:%02u", s / 86400,
                 (unsigned)(s / 3600 % 24), (unsigned)(s / 60 % 60), (unsigned)(s % 60));
    }
}

bool text_number(const char *text, uint64_t max, uint64_t *value)
{
    char *end;

    if (!isdigit((unsigned char)text[0])) {
        return false;
    }
    errno = 0;
    uint64_t number = strtoull(text, &end, text[0] == '0' && text[1] == 'x' ? 16 : 10);
    uint64_t unit = *end == 'K' ? 1u << 10 : *end == 'M' ? 1u << 20 : *end == 'G' ? 1u << 30 : 1;
    end += unit != 1;
    if (errno != 0 || *end != '\0' || number > max / unit) {
        return false;
    }
    *value = number * unit;
    return true;
}
