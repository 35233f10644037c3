/*
 * pcielink: the model of the NIC's PCIe endpoint controller, as a process between two QEMUs.
 *
 * To the host's QEMU it is a vfio-user server (hal/native/vfu); to the NIC's QEMU an ivshmem server
 * that shares the link block (firmware/spec/link.h) and passes eventfds on. One thread, one poll
 * loop.
 *
 * Parts: main.c (options), pcielink.c (loop), nic.c (the NIC's connection: attach, detach, stop),
 * vectors.c (interrupt vectors as ivshmem peers), ram.c (which windows the NIC can reach), cmd.c
 * (commands of RUN_DIR/ctl).
 */
#ifndef PCIELINK_PCIELINK_H
#define PCIELINK_PCIELINK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/compiler.h"
#include "boards/qemu-virt/ctl/ctl.h"
#include "hal/native/vfu/vfu_server.h"

#define PCIELINK_PATH_BYTES 256

/* --- NIC ----------------------------------------------------------------------------------------
 */

struct pcielink_nic {
    int listen_fd;
    struct vfu_accept accept;
    int conn_fd; /* ivshmem socket of the NIC's QEMU; -1: none */
    int pid_fd;  /* that process */
    pid_t pid;
    int wake_fd[LIMIT_CORES];    /* the NIC's own vectors: its cores */
    int notify_fd;               /* vector 0 of peer LINK_PEER_HOST */
    int relay_fd[LIMIT_VECTORS]; /* vectors 1.. of that peer */
    uint64_t attach_count;
    uint64_t stop_count;
};

/* --- interrupt vectors -------------------------------------------------------------------------
 */

/* ivshmem only appends eventfds to a peer. So a change that is no append makes a new peer; the NIC
 * is told when its QEMU has read the peer from the socket, and the old peer is retired when the NIC
 * acknowledged. Peer ids are not used twice in the life of a NIC's QEMU: it frees a retired peer's
 * table and would write into it. After the last id the host side passes interrupts on itself. */

enum pcielink_vectors_state {
    PCIELINK_VECTORS_IDLE,
    PCIELINK_VECTORS_SENDING,   /* eventfds go into the NIC's socket */
    PCIELINK_VECTORS_SENT,      /* the NIC's QEMU has not read them all */
    PCIELINK_VECTORS_PUBLISHED, /* the NIC has not acknowledged */
};

struct pcielink_vectors {
    enum pcielink_vectors_state state;
    bool dirty;                     /* the host changed something since the last transition began */
    bool relay;                     /* ids used up */
    int host_fd[LIMIT_VECTORS];     /* -1: nobody listens */
    uint32_t serial[LIMIT_VECTORS]; /* counts changes of host_fd */
    int quiet_fd;                   /* fills holes */
    uint32_t next_id;
    /* The peer that the NIC uses or is about to use, and the one to retire; 0: none. */
    uint32_t peer;
    uint32_t old_peer;
    uint32_t peer_count; /* eventfds sent */
    uint32_t goal_count; /* to send */
    uint32_t peer_serial[LIMIT_VECTORS];
    bool peer_live[LIMIT_VECTORS];
    uint32_t generation;
    uint64_t change_count; /* SET_IRQS */
    uint64_t peer_total;
};

/* --- host RAM
 * ------------------------------------------------------------------------------------- */

struct pcielink_ram {
    int fd;
    dev_t dev;
    ino_t ino;
    uint64_t bytes;
};

/* --- all
 * ------------------------------------------------------------------------------------------ */

struct pcielink_options {
    const char *dir;
    const char *ram;
    uint64_t ram_bytes;
    bool trapped;
    bool cheap_poll;
    uint8_t dstrd;
    uint64_t fence_ns;   /* 0: a second */
    uint64_t version_ns; /* how long a host may take to VERSION; 0: VFU_SERVER_VERSION_NS */
};

struct pcielink {
    struct pcielink_options options;
    struct vfu_link link;
    struct vfu_server server;
    struct pcielink_nic nic;
    struct pcielink_vectors vectors;
    struct pcielink_ram ram;
    struct ctl ctl;
    int block_fd;
    void *block;
    char cntrl_path[PCIELINK_PATH_BYTES];
    char nic_path[PCIELINK_PATH_BYTES];
    bool quit;
};

/* pcielink.c */
int pcielink_open(struct pcielink *p, const struct pcielink_options *options); /* 0, -errno */
void pcielink_close(struct pcielink *p);
void pcielink_turn(struct pcielink *p, int timeout_ms); /* waits for something and handles it */
void pcielink_log(const char *format, ...) PRINTF_LIKE(1, 2);
uint64_t pcielink_now_ns(void);
/* A listening unix socket at `path`, replacing one that nobody serves; -errno. */
int pcielink_listen(const char *path);
void pcielink_signal(int event_fd);
void pcielink_drain(int event_fd);

/* nic.c */
int pcielink_nic_open(struct pcielink *p);
void pcielink_nic_close(struct pcielink *p);
void pcielink_nic_accept(struct pcielink *p);
/* Looks whether the NIC's process or connection ended; detaches it then. False: it did. */
bool pcielink_nic_check(struct pcielink *p);
void pcielink_nic_stop(struct pcielink *p, const char *why);
/* One ivshmem message; `fd` may be -1. 0, -EAGAIN (later), or -errno: the NIC is lost. */
int pcielink_nic_send(struct pcielink *p, int64_t value, int fd);

/* vectors.c */
int pcielink_vectors_open(struct pcielink *p);
void pcielink_vectors_close(struct pcielink *p);
void pcielink_vectors_set(struct pcielink *p, uint32_t vector, int fd);
void pcielink_vectors_nic_changed(struct pcielink *p); /* another NIC, or none */
/* Moves the transition on. True: something is under way, call again in a millisecond. */
bool pcielink_vectors_turn(struct pcielink *p);
void pcielink_vectors_relay(struct pcielink *p, uint32_t vector);

/* ram.c */
int pcielink_ram_open(struct pcielink *p);
void pcielink_ram_close(struct pcielink *p);
int pcielink_ram_map(struct pcielink *p, int fd, uint64_t offset, uint64_t len_bytes,
                     uint64_t *target);

/* cmd.c: runs one line (struct ctl; `ctx` is the struct pcielink) */
void pcielink_cmd(void *ctx, int fd, char *line);

#endif
