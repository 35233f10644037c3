#include "message.h"

#include <string.h>

uint32_t message_crc(uint32_t crc, const void *bytes, size_t len_bytes)
{
    const uint8_t *p = bytes;

    crc = ~crc;
    for (size_t i = 0; i < len_bytes; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (0xedb88320u & -(crc & 1));
        }
    }
    return ~crc;
}

static uint32_t crc_of(const struct mgmt_head *head, const uint8_t *payload)
{
    return message_crc(message_crc(0, head, MGMT_HEAD_CRC_BYTES), payload, head->payload_bytes);
}

uint32_t message_seal(uint8_t *message, uint32_t payload_bytes)
{
    struct mgmt_head head;

    memcpy(&head, message, sizeof(head));
    head.magic = MGMT_MAGIC;
    head.payload_bytes = payload_bytes;
    head.crc = crc_of(&head, message + sizeof(head));
    memcpy(message, &head, sizeof(head));
    return (uint32_t)sizeof(head) + payload_bytes;
}

enum message_fault message_check(const uint8_t *bytes, size_t len_bytes, struct mgmt_head *head)
{
    if (len_bytes < sizeof(*head)) {
        return MESSAGE_SHORT;
    }
    memcpy(head, bytes, sizeof(*head));
    if (head->magic != MGMT_MAGIC) {
        return MESSAGE_BAD_MAGIC;
    }
    if (head->payload_bytes > len_bytes - sizeof(*head)) {
        return MESSAGE_SHORT;
    }
    return head->crc == crc_of(head, bytes + sizeof(*head)) ? MESSAGE_OK : MESSAGE_BAD_CRC;
}

/* --- frames ---------------------------------------------------------------------------------- */

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

uint32_t message_frame(const uint8_t *message, uint32_t len_bytes, char *frame)
{
    char *p = frame;

    *p++ = (char)MGMT_FRAME_START;
    for (uint32_t i = 0; i < len_bytes; i += 3) {
        uint32_t left = len_bytes - i;
        uint32_t bits = (uint32_t)message[i] << 16;
        bits |= left > 1 ? (uint32_t)message[i + 1] << 8 : 0;
        bits |= left > 2 ? message[i + 2] : 0u;
        *p++ = digits[bits >> 18];
        *p++ = digits[bits >> 12 & 63];
        *p++ = left > 1 ? digits[bits >> 6 & 63] : '=';
        *p++ = left > 2 ? digits[bits & 63] : '=';
    }
    *p++ = '\n';
    return (uint32_t)(p - frame);
}

bool message_scan_byte(struct message_scan *scan, uint8_t byte)
{
    if (byte == MGMT_FRAME_START) { /* inside of a frame too: the end of that one was lost */
        scan->is_open = true;
        scan->is_bad = false;
        scan->chars = 0;
        return false;
    }
    if (!scan->is_open || byte == '\r') {
        return false;
    }
    if (byte == '\n') {
        scan->is_open = false;
        return !scan->is_bad && scan->chars > 0;
    }
    if (scan->chars == sizeof(scan->text)) {
        scan->is_bad = true;
        return false;
    }
    scan->text[scan->chars++] = (char)byte;
    return false;
}

bool message_base64(const char *text, size_t chars, uint8_t *bytes, size_t room, size_t *len_bytes)
{
    size_t used = 0;

    if (chars % 4 != 0) {
        return false;
    }
    for (size_t i = 0; i < chars; i += 4) {
        bool is_last = i + 4 == chars;
        uint32_t pads = !is_last ? 0 : text[i + 3] != '=' ? 0 : text[i + 2] != '=' ? 1 : 2;
        uint32_t bits = 0;
        for (size_t k = 0; k < 4; k++) {
            char c = k >= 4 - pads ? 'A' : text[i + k];
            const char *found = c == '\0' ? NULL : strchr(digits, c);
            if (found == NULL) {
                return false;
            }
            bits = bits << 6 | (uint32_t)(found - digits);
        }
        for (uint32_t k = 0; k < 3 - pads; k++) {
            if (used == room) {
                return false;
            }
            bytes[used++] = (uint8_t)(bits >> (16 - 8 * k));
        }
    }
    *len_bytes = used;
    return true;
}
