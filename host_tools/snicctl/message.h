/*
 * Management messages and frames as bytes (docs/spec/mgmt.md): made and checked here, for either
 * end. No state but what the caller holds.
 */
#ifndef SNICCTL_MESSAGE_H
#define SNICCTL_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "spec/mgmt.h"

/* Bytes of a frame: start, base64, newline. */
#define MESSAGE_FRAME_ROOM (MGMT_FRAME_CHARS + 2u)

/* CRC-32 (IEEE 802.3); `crc`: 0, or of the bytes before. */
uint32_t message_crc(uint32_t crc, const void *bytes, size_t len_bytes);

/* Fills in magic, length and CRC of a message whose other fields and payload are there. Returns its
 * length. */
uint32_t message_seal(uint8_t *message, uint32_t payload_bytes);

enum message_fault {
    MESSAGE_OK,
    MESSAGE_SHORT,     /* no head, or less than the head says */
    MESSAGE_BAD_MAGIC, /* none of ours */
    MESSAGE_BAD_CRC,
};

/* Checks the message at `bytes` and copies its head; what follows it is not looked at. */
enum message_fault message_check(const uint8_t *bytes, size_t len_bytes, struct mgmt_head *head);

/* A frame of the message, at most MGMT_FRAME_BYTES; returns its characters. */
uint32_t message_frame(const uint8_t *message, uint32_t len_bytes, char *frame);

/* Finds frames in a stream of text. */
struct message_scan {
    bool is_open;
    bool is_bad;
    uint32_t chars;
    char text[MGMT_FRAME_CHARS];
};

/* Takes a byte; true: a frame has ended, scan->text has its scan->chars characters. */
bool message_scan_byte(struct message_scan *scan, uint8_t byte);

/* Decodes base64 (RFC 4648, padded). False: it is none, or has more than `room` bytes. */
bool message_base64(const char *text, size_t chars, uint8_t *bytes, size_t room, size_t *len_bytes);

#endif
