/*
 * The data of rping; see diag_rping_priv.h.
 */
#include "diag/diag_rping_priv.h"

#include <string.h>
#include "base/assert.h"

#define FIRST_LETTER 'A'
#define LETTERS      58 /* 'A' to 'z' */
#define DIGITS_MAX   10

static const char prefix[] = "rdma-ping-";
#define PREFIX_BYTES (sizeof(prefix) - 1)

/* "rdma-ping-N: "; returns its length. */
static uint32_t make_head(uint8_t head[PREFIX_BYTES + DIGITS_MAX + 2], uint32_t ping)
{
    uint8_t digits[DIGITS_MAX];
    uint32_t count = 0;
    uint32_t len = PREFIX_BYTES;

    do {
        digits[count++] = (uint8_t)('0' + ping % 10);
        ping /= 10;
    } while (ping != 0);
    memcpy(head, prefix, PREFIX_BYTES);
    while (count > 0) {
        head[len++] = digits[--count];
    }
    head[len++] = ':';
    head[len++] = ' ';
    return len;
}

void diag_rping_pattern(uint8_t *data, uint32_t len_bytes, uint32_t ping)
{
    uint8_t head[PREFIX_BYTES + DIGITS_MAX + 2];
    uint32_t head_bytes = make_head(head, ping);
    uint32_t letter = ping % LETTERS;

    ASSERT(len_bytes > head_bytes);
    memcpy(data, head, head_bytes);
    for (uint32_t i = head_bytes; i < len_bytes; i++) {
        data[i] = (uint8_t)(FIRST_LETTER + letter);
        letter = letter + 1 == LETTERS ? 0 : letter + 1;
    }
    data[len_bytes - 1] = 0;
}

/* N, as it stands in the head; false: there is none. */
static bool parse_head(const uint8_t *data, uint32_t len_bytes, uint32_t *ping)
{
    uint64_t value = 0;
    uint32_t at = PREFIX_BYTES;

    if (len_bytes <= PREFIX_BYTES || memcmp(data, prefix, PREFIX_BYTES) != 0) {
        return false;
    }
    while (at < len_bytes && at < PREFIX_BYTES + DIGITS_MAX && data[at] >= '0' && data[at] <= '9') {
        value = value * 10 + (uint64_t)(data[at] - '0');
        at++;
    }
    *ping = (uint32_t)value;
    return at > PREFIX_BYTES && value <= UINT32_MAX;
}

bool diag_rping_is_pattern(const uint8_t *data, uint32_t len_bytes)
{
    uint8_t head[PREFIX_BYTES + DIGITS_MAX + 2];
    uint32_t ping;

    if (!parse_head(data, len_bytes, &ping)) {
        return false;
    }
    uint32_t head_bytes = make_head(head, ping);
    uint32_t letter = ping % LETTERS;
    bool is_same = len_bytes > head_bytes && memcmp(data, head, head_bytes) == 0;
    for (uint32_t i = head_bytes; i + 1 < len_bytes; i++) {
        is_same = is_same && data[i] == FIRST_LETTER + letter;
        letter = letter + 1 == LETTERS ? 0 : letter + 1;
    }
    return is_same && data[len_bytes - 1] == 0;
}
