/*
 * Between vfu_server.c (connection, dispatch) and vfu_server_cmd.c (what each command does).
 */
#ifndef VFU_SERVER_PRIV_H
#define VFU_SERVER_PRIV_H

#include "hal/native/vfu/vfu_server.h"

/* What a command answers: a fixed part, bytes after it, a descriptor. */
struct vfu_reply {
    uint8_t head[64];
    uint32_t head_bytes;
    const uint8_t *body;
    uint32_t body_bytes;
    int fd; /* -1: none; stays the server's */
};

/* Executes one command after VERSION. 0 or -errno, which becomes the error reply. */
int vfu_server_command(struct vfu_server *server, const struct vfu_message *message,
                       struct vfu_reply *reply);

/* Function reset: configuration space, MSI-X table, link. */
void vfu_server_reset_function(struct vfu_server *server);

/* Nobody listens to any vector. */
void vfu_server_irqs_clear(struct vfu_server *server);

/* One line through the link's log, at most a few each second. */
void vfu_server_log(struct vfu_server *server, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
