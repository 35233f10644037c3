/*
 * See vfu_json.h. RFC 8259, without checking what is inside strings beyond escapes and control
 * bytes.
 */
#include "hal/native/vfu/vfu_json.h"

#include <string.h>

#define DEPTH_MAX 8

struct slice {
    const char *at;
    size_t len;
};

struct scan {
    const char *at;
    const char *end;
    uint32_t depth;
    bool is_object[DEPTH_MAX];
    struct slice key[DEPTH_MAX]; /* the last key of each open object */
    struct vfu_caps *caps;
};

static void skip_blank(struct scan *s)
{
    while (s->at < s->end &&
           (*s->at == ' ' || *s->at == '\t' || *s->at == '\n' || *s->at == '\r')) {
        s->at++;
    }
}

static bool take(struct scan *s, char c)
{
    skip_blank(s);
    if (s->at < s->end && *s->at == c) {
        s->at++;
        return true;
    }
    return false;
}

static bool take_word(struct scan *s, const char *word)
{
    size_t len = strlen(word);
    if ((size_t)(s->end - s->at) >= len && memcmp(s->at, word, len) == 0) {
        s->at += len;
        return true;
    }
    return false;
}

static bool take_string(struct scan *s, struct slice *out)
{
    if (!take(s, '"')) {
        return false;
    }
    out->at = s->at;
    while (s->at < s->end && *s->at != '"') {
        if ((unsigned char)*s->at < 0x20) {
            return false;
        }
        if (*s->at == '\\' && ++s->at == s->end) {
            return false;
        }
        s->at++;
    }
    out->len = (size_t)(s->at - out->at);
    return take(s, '"');
}

static size_t skip_digits(struct scan *s)
{
    const char *start = s->at;
    while (s->at < s->end && *s->at >= '0' && *s->at <= '9') {
        s->at++;
    }
    return (size_t)(s->at - start);
}

/* A number; *value is set and *whole true if it is a natural number below 2^63. */
static bool take_number(struct scan *s, uint64_t *value, bool *whole)
{
    bool negative = take(s, '-');
    const char *digits = s->at;
    size_t count = skip_digits(s);

    *whole = !negative && count <= 18;
    *value = 0;
    for (size_t i = 0; i < count && *whole; i++) {
        *value = *value * 10 + (uint64_t)(digits[i] - '0');
    }
    if (s->at < s->end && *s->at == '.') {
        s->at++;
        *whole = false;
        if (skip_digits(s) == 0) {
            return false;
        }
    }
    if (s->at < s->end && (*s->at == 'e' || *s->at == 'E')) {
        s->at++;
        *whole = false;
        if (s->at < s->end && (*s->at == '+' || *s->at == '-')) {
            s->at++;
        }
        if (skip_digits(s) == 0) {
            return false;
        }
    }
    return count > 0;
}

static bool key_is(const struct scan *s, uint32_t level, const char *name)
{
    return s->is_object[level] && s->key[level].len == strlen(name) &&
           memcmp(s->key[level].at, name, s->key[level].len) == 0;
}

/* The place of a capability that must be a natural number; NULL: some other value. */
static uint64_t *wanted(const struct scan *s)
{
    if (s->depth != 2 || !key_is(s, 0, "capabilities")) {
        return NULL;
    }
    if (key_is(s, 1, "max_msg_fds")) {
        return &s->caps->max_msg_fds;
    }
    return key_is(s, 1, "max_data_xfer_size") ? &s->caps->max_data_xfer_size : NULL;
}

static bool take_scalar(struct scan *s)
{
    struct slice text;
    uint64_t value;
    bool whole;
    uint64_t *place = wanted(s);

    skip_blank(s);
    if (s->at == s->end) {
        return false;
    }
    if (*s->at == '"') {
        return place == NULL && take_string(s, &text);
    }
    if (*s->at == '-' || (*s->at >= '0' && *s->at <= '9')) {
        if (!take_number(s, &value, &whole) || (place != NULL && !whole)) {
            return false;
        }
        if (place != NULL) {
            *place = value;
        }
        return true;
    }
    return place == NULL && (take_word(s, "true") || take_word(s, "false") || take_word(s, "null"));
}

/* In an object: key and colon before each value. */
static bool take_key(struct scan *s)
{
    uint32_t level = s->depth - 1;
    return !s->is_object[level] || (take_string(s, &s->key[level]) && take(s, ':'));
}

static char closing(const struct scan *s)
{
    return s->is_object[s->depth - 1] ? '}' : ']';
}

/* After a value: closes what ends here; then a comma and the next key, unless all is closed. */
static bool after_value(struct scan *s)
{
    while (s->depth > 0) {
        if (take(s, ',')) {
            return take_key(s);
        }
        if (!take(s, closing(s))) {
            return false;
        }
        s->depth--;
    }
    return true;
}

/* Opens an object or array. *empty: it was closed at once. */
static bool open_container(struct scan *s, bool is_object, bool *empty)
{
    *empty = false;
    if (s->depth == DEPTH_MAX || wanted(s) != NULL) {
        return false;
    }
    s->is_object[s->depth] = is_object;
    s->key[s->depth] = (struct slice){.at = s->at, .len = 0};
    s->depth++;
    if (take(s, closing(s))) {
        s->depth--;
        *empty = true;
        return true;
    }
    return take_key(s);
}

bool vfu_json_caps(const char *text, size_t len_bytes, struct vfu_caps *caps)
{
    const char *zero = len_bytes == 0 ? NULL : memchr(text, 0, len_bytes);
    struct scan s = {.at = text, .caps = caps};
    bool empty;

    s.end = zero != NULL ? zero : text + len_bytes;
    skip_blank(&s);
    if (s.at == s.end) {
        return true;
    }
    if (!take(&s, '{') || !open_container(&s, true, &empty)) {
        return false;
    }
    /* Each turn consumes at least one byte or ends. */
    while (s.depth > 0) {
        bool is_object = take(&s, '{');
        if (is_object || take(&s, '[')) {
            if (!open_container(&s, is_object, &empty)) {
                return false;
            }
            if (!empty) {
                continue;
            }
        } else if (!take_scalar(&s)) {
            return false;
        }
        if (!after_value(&s)) {
            return false;
        }
    }
    skip_blank(&s);
    return s.at == s.end;
}
