/*
 * See fmt.h.
 */
#include "base/fmt.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include "base/bits.h"

#define NUMBER_BYTES 20 /* digits of the largest 64-bit number */

_Static_assert(sizeof(long) == 8 && sizeof(long long) == 8 && sizeof(size_t) == 8 &&
                   sizeof(ptrdiff_t) == 8 && sizeof(intmax_t) == 8 && sizeof(void *) == 8,
               "every length but hh, h and none is one of 64 bits");

struct output {
    char *text;
    size_t room_bytes; /* of text, without the zero */
    size_t len_bytes;  /* of the whole, written or not */
};

/* va_list may be an array, whose address a parameter does not have. */
struct arguments {
    va_list list;
};

/* What a conversion specification says. */
struct conversion {
    bool left, zeros, prefix;
    char sign; /* before numbers that are not negative; 0: none */
    uint32_t width;
    uint32_t precision; /* ANY: it says none */
    uint32_t value_bytes;
    char letter;
};

#define ANY UINT32_MAX

/* What becomes of it: head, zeros, body; the rest of the width is blank. */
struct field {
    char head[3]; /* with the zero */
    uint32_t zero_count;
    const char *body;
    uint32_t body_bytes;
};

static void put(struct output *out, char c)
{
    if (out->len_bytes < out->room_bytes) {
        out->text[out->len_bytes] = c;
    }
    out->len_bytes++;
}

static void put_many(struct output *out, char c, uint32_t count)
{
    for (; count > 0; count--) {
        put(out, c);
    }
}

static void put_field(struct output *out, const struct conversion *conv, const struct field *field)
{
    uint32_t head_bytes = (uint32_t)strlen(field->head);
    uint32_t used = head_bytes + field->zero_count + field->body_bytes;
    uint32_t blanks = conv->width > used ? conv->width - used : 0;

    put_many(out, ' ', conv->left ? 0 : blanks);
    for (uint32_t i = 0; i < head_bytes; i++) {
        put(out, field->head[i]);
    }
    put_many(out, '0', field->zero_count);
    for (uint32_t i = 0; i < field->body_bytes; i++) {
        put(out, field->body[i]);
    }
    put_many(out, ' ', conv->left ? blanks : 0);
}

/* --- the conversion specification ---------------------------------------------------------- */

static const char *read_flags(const char *at, struct conversion *conv)
{
    for (;; at++) {
        if (*at == '-') {
            conv->left = true;
        } else if (*at == '0') {
            conv->zeros = true;
        } else if (*at == '#') {
            conv->prefix = true;
        } else if (*at == '+' || (*at == ' ' && conv->sign != '+')) {
            conv->sign = *at;
        } else if (*at != ' ') {
            return at;
        }
    }
}

/* In one place: taking an argument apart costs a dozen instructions. */
static NOINLINE int take_int(struct arguments *args)
{
    return va_arg(args->list, int);
}

/* Digits, or * for an argument, which may be negative. */
static const char *read_number(const char *at, struct arguments *args, int *number)
{
    *number = 0;
    if (*at == '*') {
        *number = take_int(args);
        return at + 1;
    }
    for (; *at >= '0' && *at <= '9' && *number < INT16_MAX; at++) {
        *number = *number * 10 + (*at - '0');
    }
    return at;
}

/* Returns where its letter is. */
static const char *read_conversion(const char *at, struct arguments *args, struct conversion *conv)
{
    int number;

    *conv = (struct conversion){.precision = ANY, .value_bytes = sizeof(int)};
    at = read_number(read_flags(at, conv), args, &number);
    conv->left = conv->left || number < 0;
    conv->width = (uint32_t)(number < 0 ? -number : number);
    if (*at == '.') {
        at = read_number(at + 1, args, &number);
        conv->precision = number < 0 ? ANY : (uint32_t)number;
    }
    for (; *at == 'h'; at++) {
        conv->value_bytes /= 2;
    }
    for (; *at == 'l' || *at == 'j' || *at == 'z' || *at == 't'; at++) {
        conv->value_bytes = sizeof(uint64_t);
    }
    conv->letter = *at;
    return at;
}

/* --- conversions --------------------------------------------------------------------------- */

/* Digits of `value`, which end at `end`; returns where they begin. */
static char *digits_of(uint64_t value, uint32_t base, char ten, char *end)
{
    for (; value != 0; value /= base) {
        uint32_t digit = (uint32_t)(value % base);
        *--end = (char)(digit < 10 ? (uint32_t)'0' + digit : (uint32_t)ten + digit - 10);
    }
    return end;
}

/* Of the argument's low bytes, sign-extended when it is signed. */
static uint64_t take_number(struct arguments *args, const struct conversion *conv, bool is_signed)
{
    if (conv->value_bytes == sizeof(uint64_t)) {
        return va_arg(args->list, unsigned long long);
    }
    uint32_t unused_bits = 64 - 8 * conv->value_bytes;
    uint64_t value = (uint64_t)take_int(args) << unused_bits;
    return is_signed ? (uint64_t)((int64_t)value >> unused_bits) : value >> unused_bits;
}

static void put_number(struct output *out, const struct conversion *conv, struct arguments *args)
{
    char number[NUMBER_BYTES];
    struct field field = {0};
    bool is_hex = (conv->letter | 0x20) == 'x';
    bool is_signed = !is_hex && conv->letter != 'u';
    uint64_t value = take_number(args, conv, is_signed);

    if (is_signed && (int64_t)value < 0) {
        value = -value;
        field.head[0] = '-';
    } else if (is_signed) {
        field.head[0] = conv->sign;
    } else if (is_hex && conv->prefix && value != 0) {
        field.head[0] = '0';
        field.head[1] = conv->letter;
    }
    char *end = number + sizeof(number);
    char *first = digits_of(value, is_hex ? 16 : 10, (char)('a' + conv->letter - 'x'), end);
    field.body = first;
    field.body_bytes = (uint32_t)(end - first);
    uint32_t least = conv->precision;
    if (least == ANY) {
        uint32_t head_bytes = (uint32_t)strlen(field.head);
        bool fills = conv->zeros && !conv->left && conv->width > head_bytes;
        least = fills ? conv->width - head_bytes : 1;
    }
    field.zero_count = least > field.body_bytes ? least - field.body_bytes : 0;
    put_field(out, conv, &field);
}

static void put_text(struct output *out, const struct conversion *conv, const char *text)
{
    struct field field = {.body = text == NULL ? "(null)" : text};

    while (field.body_bytes < conv->precision && field.body[field.body_bytes] != '\0') {
        field.body_bytes++;
    }
    put_field(out, conv, &field);
}

/* False: its letter is none of ours. */
static bool put_conversion(struct output *out, struct conversion *conv, struct arguments *args)
{
    char c = '%';

    switch (conv->letter) {
    case 'p':
        *conv = (struct conversion){.prefix = true,
                                    .left = conv->left,
                                    .width = conv->width,
                                    .precision = ANY,
                                    .value_bytes = sizeof(void *),
                                    .letter = 'x'};
        FALLTHROUGH;
    case 'd':
    case 'i':
    case 'u':
    case 'x':
    case 'X':
        put_number(out, conv, args);
        return true;
    case 's':
        put_text(out, conv, va_arg(args->list, const char *));
        return true;
    case 'c':
        c = (char)take_int(args);
        FALLTHROUGH;
    case '%':
        put_field(out, conv, &(struct field){.body = &c, .body_bytes = 1});
        return true;
    default:
        return false;
    }
}

int fmt_vsnprintf(char *text, size_t text_bytes, const char *format, va_list args)
{
    struct output out = {.text = text, .room_bytes = text_bytes > 0 ? text_bytes - 1 : 0};
    struct arguments arguments;
    bool is_plain = false; /* from here on */

    va_copy(arguments.list, args);
    for (const char *at = format; *at != '\0'; at++) {
        struct conversion conv;
        if (is_plain || *at != '%') {
            put(&out, *at);
            continue;
        }
        const char *letter = read_conversion(at + 1, &arguments, &conv);
        if (put_conversion(&out, &conv, &arguments)) {
            at = letter;
        } else {
            is_plain = true;
            put(&out, *at);
        }
    }
    va_end(arguments.list);
    if (text_bytes > 0) {
        text[min_u64(out.len_bytes, out.room_bytes)] = '\0';
    }
    return (int)out.len_bytes;
}
