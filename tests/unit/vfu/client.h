/*
 * A scripted vfio-user client for tests: sends anything, right or wrong.
 */
#ifndef TESTS_VFU_CLIENT_H
#define TESTS_VFU_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "hal/native/vfu/vfu_proto.h"

struct client {
    int fd;
    void (*serve)(void *ctx); /* lets the server work after each send; NULL: it has a thread */
    void *ctx;
    uint16_t next_id;
    /* The last reply. */
    struct vfu_header header;
    uint8_t payload[VFU_MAX_PAYLOAD];
    uint32_t payload_bytes;
    int reply_fd; /* that came with it; -1: none. Closed by the next call */
};

/* True if the connection is still there. */
bool client_alive(struct client *client);

/* Sends `bytes` with `fd_count` descriptors, in one piece. */
void client_send(struct client *client, const void *bytes, size_t len, const int *fds,
                 size_t fd_count);

/* Reads one reply into client->payload. False: none came, or the connection ended. */
bool client_receive(struct client *client);

/* One command with its reply: the errno of the reply, 0 for success, -1 when the connection ended.
 */
int client_call(struct client *client, uint16_t command, const void *payload, uint32_t bytes,
                const int *fds, size_t fd_count);

/* Well-formed commands. */
int client_version(struct client *client, const char *json);
int client_dma_map(struct client *client, uint64_t addr, uint64_t size, uint64_t offset,
                   uint32_t flags, int fd);
int client_dma_unmap(struct client *client, uint64_t addr, uint64_t size, uint32_t flags);
int client_region_read(struct client *client, uint32_t region, uint64_t offset, void *to,
                       uint32_t count);
int client_region_write(struct client *client, uint32_t region, uint64_t offset, const void *from,
                        uint32_t count);
int client_irq_set(struct client *client, uint32_t flags, uint32_t index, uint32_t start,
                   uint32_t count, const int *fds, size_t fd_count);

uint32_t client_read32(struct client *client, uint32_t region, uint64_t offset);
int client_write32(struct client *client, uint32_t region, uint64_t offset, uint32_t value);

/* Descriptors that this process has open. */
uint32_t client_open_fd_count(void);

#endif
