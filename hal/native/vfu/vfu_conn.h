/*
 * One client connection: messages in, replies out, file descriptors along with them.
 * Never blocks on the client for more than VFU_CONN_SEND_MS. No descriptor is ever left behind.
 */
#ifndef VFU_CONN_H
#define VFU_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "hal/native/vfu/vfu_proto.h"

#define VFU_CONN_SEND_MS 1000

struct vfu_conn {
    int fd;              /* -1: none */
    uint32_t have_bytes; /* of the message that is under way */
    struct vfu_header header;
    uint8_t payload[VFU_MAX_PAYLOAD];
    int fds[VFU_MAX_FDS];
    uint32_t fd_count;
};

/* A whole message. `fds` of which the handler takes one it sets to -1; the rest is closed. */
struct vfu_message {
    struct vfu_header header;
    const uint8_t *payload;
    uint32_t payload_bytes;
    int *fds;
    uint32_t fd_count;
};

enum vfu_conn_result {
    VFU_CONN_MESSAGE,
    VFU_CONN_AGAIN, /* nothing (whole) there yet */
    VFU_CONN_ENDED, /* the client went away or broke the framing: close */
};

void vfu_conn_open(struct vfu_conn *conn, int fd); /* takes `fd`, a stream socket */
void vfu_conn_close(struct vfu_conn *conn);

enum vfu_conn_result vfu_conn_receive(struct vfu_conn *conn, struct vfu_message *message);

/* Done with the message: closes the descriptors that nobody took. */
void vfu_conn_release(struct vfu_conn *conn);

/* Sends one message: header, `head`, `body`, and `fd` if not -1. False: close the connection. */
bool vfu_conn_send(struct vfu_conn *conn, const struct vfu_header *header, const void *head,
                   size_t head_bytes, const void *body, size_t body_bytes, int fd);

#endif
