#include "mgmt/frame.h"

#include "base/assert.h"
#include "base/bits.h"

static const char alphabet[64] = {'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K', 'L', 'M',
                                  'N', 'O', 'P', 'Q', 'R', 'S', 'T', 'U', 'V', 'W', 'X', 'Y', 'Z',
                                  'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm',
                                  'n', 'o', 'p', 'q', 'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z',
                                  '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '+', '/'};

/* 0..63; 64: no digit. */
static uint32_t digit_of(uint8_t c)
{
    return c >= 'A' && c <= 'Z'   ? (uint32_t)c - 'A'
           : c >= 'a' && c <= 'z' ? (uint32_t)c - 'a' + 26
           : c >= '0' && c <= '9' ? (uint32_t)c - '0' + 52
           : c == '+'             ? 62u
           : c == '/'             ? 63u
                                  : 64u;
}

static void start(struct mgmt_frame *frame)
{
    frame->is_open = true;
    frame->is_bad = false;
    frame->digits = 0;
    frame->pads = 0;
    frame->bits = 0;
    frame->len_bytes = 0;
}

/* Four characters are there. */
static void group_end(struct mgmt_frame *frame)
{
    if (frame->len_bytes + 3 > sizeof(frame->bytes)) {
        frame->is_bad = true;
        return;
    }
    frame->bytes[frame->len_bytes] = (uint8_t)(frame->bits >> 16);
    frame->bytes[frame->len_bytes + 1] = (uint8_t)(frame->bits >> 8);
    frame->bytes[frame->len_bytes + 2] = (uint8_t)frame->bits;
    frame->len_bytes += 3u - frame->pads;
    frame->digits = 0;
    frame->bits = 0;
}

static void digit(struct mgmt_frame *frame, uint8_t c)
{
    uint32_t value = digit_of(c);

    if (c == '=' && frame->digits >= 2) {
        value = 0;
        frame->pads++;
    } else if (value == 64 || frame->pads != 0) { /* padding ends it */
        frame->is_bad = true;
        return;
    }
    frame->bits = frame->bits << 6 | value;
    if (++frame->digits == 4) {
        group_end(frame);
    }
}

enum mgmt_frame_event mgmt_frame_byte(struct mgmt_frame *frame, uint8_t byte)
{
    if (byte == MGMT_FRAME_START) { /* also inside of one: its end was lost */
        start(frame);
        return MGMT_FRAME_MORE;
    }
    if (!frame->is_open) {
        return MGMT_FRAME_TEXT;
    }
    if (byte == '\n') {
        bool is_good = !frame->is_bad && frame->digits == 0 && frame->len_bytes > 0 &&
                       frame->len_bytes <= MGMT_FRAME_BYTES;
        frame->is_open = false;
        return is_good ? MGMT_FRAME_END : MGMT_FRAME_MORE;
    }
    if (byte != '\r' && !frame->is_bad) {
        digit(frame, byte);
    }
    return MGMT_FRAME_MORE;
}

uint32_t mgmt_frame_make(const uint8_t *message, uint32_t len_bytes, char *text)
{
    uint32_t used = 0;

    ASSERT(len_bytes <= MGMT_FRAME_BYTES);
    text[used++] = (char)MGMT_FRAME_START;
    for (uint32_t i = 0; i < len_bytes; i += 3) {
        uint32_t left = min_u32(len_bytes - i, 3);
        uint32_t bits = (uint32_t)message[i] << 16;
        bits |= left > 1 ? (uint32_t)message[i + 1] << 8 : 0;
        bits |= left > 2 ? message[i + 2] : 0u;
        text[used++] = alphabet[bits >> 18];
        text[used++] = alphabet[bits >> 12 & 63];
        text[used++] = left > 1 ? alphabet[bits >> 6 & 63] : '=';
        text[used++] = left > 2 ? alphabet[bits & 63] : '=';
    }
    text[used++] = '\n';
    return used;
}
