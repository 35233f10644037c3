/*
 * A vfio-user server for one NVMe function: listens on a unix socket, serves one client at a time,
 * and connects configuration space, BAR0, interrupts and DMA windows to a link (vfu_link.h).
 *
 * Every message is checked; a bad one gets an error reply or costs the client its connection.
 * Nothing that a client does leaks a descriptor or memory. One thread calls all functions; the
 * caller polls vfu_server_poll_fd() for input and calls vfu_server_turn().
 *
 * Leaves out: migration, dirty tracking, write_multiple, I/O fds, DMA by messages (a client must
 * share its memory by descriptors).
 */
#ifndef VFU_SERVER_H
#define VFU_SERVER_H

#include <stdbool.h>
#include <stdint.h>
#include "hal/native/vfu/vfu_accept.h"
#include "hal/native/vfu/vfu_conn.h"
#include "hal/native/vfu/vfu_dma.h"
#include "hal/native/vfu/vfu_link.h"
#include "hal/native/vfu/vfu_pci.h"

struct vfu_irq_ops {
    /* Vector `vector` signals `fd` from now on, an eventfd that does not block; -1: nobody listens.
     * Takes the descriptor. */
    void (*set)(void *ctx, uint32_t vector, int fd);
    /* After one or more set(): the table as a whole is new. */
    void (*commit)(void *ctx);
    /* Signals the vector as if the NIC had raised it. */
    void (*trigger)(void *ctx, uint32_t vector);
};

struct vfu_server_config {
    const char *path; /* of the socket; NULL: none, see vfu_server_adopt() */
    struct vfu_link *link;
    const struct vfu_dma_ops *dma_ops;
    const struct vfu_irq_ops *irq_ops;
    void *ctx; /* for both */
    uint16_t vendor_id;
    uint16_t device_id;
    int doorbell_fd;             /* memory of the doorbells, for the client to map; -1: trapped */
    uint64_t doorbell_fd_offset; /* where they are in it; at least LINK_DOORBELL_OFFSET */
    uint64_t version_timeout_ns; /* 0: VFU_SERVER_VERSION_NS */
};

/* A client that is not through with VERSION by then is dropped: others may wait behind it. */
#define VFU_SERVER_VERSION_NS UINT64_C(5000000000)

struct vfu_server_stats {
    uint64_t message_count;
    uint64_t error_count; /* messages answered by an error */
    uint64_t client_count;
    uint64_t dropped_count; /* clients that lost their connection for what they sent, or did not */
};

/* Large: static or heap, not stack. Fields are the library's. */
struct vfu_server {
    struct vfu_server_config config;
    struct vfu_link *link;
    struct vfu_dma dma;
    struct vfu_pci pci;
    struct vfu_conn conn;
    int listen_fd;
    struct vfu_accept accept;
    bool negotiated; /* VERSION was answered: a host is there */
    bool told_no_fd; /* this client was told that such windows are out of reach */
    bool drop;       /* close the connection after this message */
    uint64_t version_due_ns;
    struct vfu_server_stats stats;
    uint64_t log_window_ns;
    uint32_t log_count;
    uint8_t msix_table[LIMIT_VECTORS * 16];
    uint8_t data[VFU_MAX_XFER_BYTES];
};

/* 0 or -errno; -EADDRINUSE: somebody listens there. A socket that nobody serves is replaced. */
int vfu_server_open(struct vfu_server *server, const struct vfu_server_config *config);

/* Drops the client (fencing), closes and removes the socket. */
void vfu_server_close(struct vfu_server *server);

/* Serves the client at the other end of `fd` (takes it), as if it had connected. */
void vfu_server_adopt(struct vfu_server *server, int fd);

/* A function-level reset that the host did not ask for. */
void vfu_server_reset(struct vfu_server *server);

/* A listening unix stream socket at `path`, replacing one that nobody serves; -errno. */
int vfu_server_listen(const char *path);

/* Drops the client, if there is one. */
void vfu_server_drop(struct vfu_server *server);

/* The descriptor to poll for input: the client's, or the listening one; -1: none for now. It
 * changes by turns. */
int vfu_server_poll_fd(const struct vfu_server *server);
bool vfu_server_has_client(const struct vfu_server *server);

/* How long the caller may wait for input, as poll() takes it: 0 a turn is due, -1 for ever. */
int vfu_server_wait_ms(const struct vfu_server *server);

/* Accepts, handles a bounded batch of messages, or drops a client that says nothing. To be called
 * when there is input or a turn is due. Never blocks but for the link's fences. */
void vfu_server_turn(struct vfu_server *server);

#endif
