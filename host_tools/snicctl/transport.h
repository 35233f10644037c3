/*
 * Ways to a board: an NVMe device of this host (vendor commands), or a console (frames beside its
 * text). One request is under way at a time. Messages are not looked into here.
 */
#ifndef SNICCTL_TRANSPORT_H
#define SNICCTL_TRANSPORT_H

#include <stdbool.h>
#include <stdint.h>
#include "fault.h"
#include "message.h"

enum transport_result {
    TRANSPORT_OK,
    TRANSPORT_SILENT,  /* nothing came in time, or what came was no message: ask again */
    TRANSPORT_UNKNOWN, /* the device does not know the vendor commands */
    TRANSPORT_LOST,    /* the connection is gone; why[] says more */
    TRANSPORT_DENIED,  /* this user may not; why[] */
};

struct transport;

struct transport_ops {
    enum transport_result (*send)(struct transport *t, const uint8_t *message, uint32_t len_bytes);
    /* The next message. In band there is one for each request. */
    enum transport_result (*receive)(struct transport *t, uint8_t *message, uint32_t room_bytes,
                                     uint32_t *len_bytes, uint32_t timeout_ms);
};

struct transport {
    const struct transport_ops *ops;
    int fd; /* -1: closed */
    bool is_console;
    uint32_t message_max; /* bytes, as the way allows */
    char name[512];       /* for people; its path */
    char why[192];
    /* Console alone. */
    uint64_t nudge_ms; /* when an empty frame is sent for want of an answer */
    struct message_scan scan;
    uint8_t input[4096]; /* received, not yet looked at */
    uint32_t input_len, input_pos;
};

/* Opens what is at `path`, or says why not. The caller closes. */
enum fault transport_open_nvme(struct transport *t, const char *path);
/* A terminal line or a unix socket. `baud`: 0: as the line is set. */
enum fault transport_open_console(struct transport *t, const char *path, uint32_t baud);
/* A connected socket. */
void transport_use_console(struct transport *t, int fd, const char *name);
void transport_close(struct transport *t);

/* Milliseconds of a clock that only goes forward. */
uint64_t transport_now_ms(void);

#endif
