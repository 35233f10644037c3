/*
 * The JSON text of a VERSION message: checked as a whole, a few numbers taken out.
 * Bounded: depth 8, no recursion, no memory. Strings are compared byte by byte, escapes unresolved.
 */
#ifndef VFU_JSON_H
#define VFU_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vfu_caps {
    uint64_t max_msg_fds;        /* file descriptors the sender takes in one message */
    uint64_t max_data_xfer_size; /* bytes of a region access */
};

/* Reads `len_bytes` of text, up to its zero byte if there is one. Fields that the text does not
 * name keep their value. An empty text is fine. False: not one JSON object, or a number that is
 * none. */
bool vfu_json_caps(const char *text, size_t len_bytes, struct vfu_caps *caps);

#endif
