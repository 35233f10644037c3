/*
 * Frames on a console: MGMT_FRAME_START, base64 of a message (RFC 4648, padded), newline
 * (docs/spec/mgmt.md). Byte by byte, since that is how an interrupt handler gets them; anything may
 * come. No state but the struct's; any context.
 */
#ifndef MGMT_FRAME_H
#define MGMT_FRAME_H

#include <stdbool.h>
#include <stdint.h>
#include "spec/mgmt.h"

struct mgmt_frame {
    bool is_open;   /* between start and newline */
    bool is_bad;    /* the rest of it is dropped */
    uint8_t digits; /* base64 characters of the group under way */
    uint8_t pads;
    uint32_t bits; /* of the group */
    uint32_t len_bytes;
    _Alignas(8) uint8_t bytes[MGMT_FRAME_BYTES + 2]; /* the last group may be longer */
};

enum mgmt_frame_event {
    MGMT_FRAME_TEXT, /* the byte is no frame's */
    MGMT_FRAME_MORE, /* it is */
    MGMT_FRAME_END,  /* and ends a good one: bytes and len_bytes hold until the next start */
};

/* All zero: fresh. */
enum mgmt_frame_event mgmt_frame_byte(struct mgmt_frame *frame, uint8_t byte);

/* Characters that a message of so many bytes takes, start and newline included. */
#define MGMT_FRAME_TEXT_BYTES (MGMT_FRAME_CHARS + 2)

/* Writes the frame of `len_bytes` (at most MGMT_FRAME_BYTES) at `message` to `text`, of
 * MGMT_FRAME_TEXT_BYTES; returns its length. */
uint32_t mgmt_frame_make(const uint8_t *message, uint32_t len_bytes, char *text);

#endif
