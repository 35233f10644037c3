/*
 * fabric: the rack's Ethernet, a learning switch whose ports are unix datagram sockets, that
 * loses, repeats, delays, disorders, corrupts and marks frames as it is told, and records them.
 *
 * A port is named by its station's socket, e.g. "nic.eth". The station binds that path and sends
 * to "nic.eth.switch", which the switch binds; the switch sends to "nic.eth". One datagram is one
 * frame from the destination address on, without FCS, 14 to FABRIC_FRAME_BYTES bytes. That is
 * what QEMU's
 *   -netdev dgram,local.type=unix,local.path=nic.eth,remote.type=unix,remote.path=nic.eth.switch
 * speaks. Stations come and go at any time. They must not connect(): the switch sends from
 * another socket than it receives on, one per port that is connected, so that poll() tells of
 * room.
 *
 * Not here: VLANs, spanning tree, ageing, flow control. A station that does not read has
 * FABRIC_QUEUE_FRAMES frames kept, then loses the newest.
 *
 * Faults belong to a port and a direction: `in` is what its station sends, `out` what it gets.
 * Each frame passes these steps in order: loss, corruption, ECN mark, duplication, reordering,
 * delay. All chances are drawn from one generator; the same seed and the same frames in the same
 * order have the same faults. A capture of a port holds what its station sent, before the faults
 * of `in`, and what it was given, after those of `out`.
 *
 * Parts: main.c (options), fabric.c (loop), port.c (sockets), frame.c (buffers), fdb.c
 * (addresses), fault.c (the steps), change.c (what alters a frame), pcap.c (captures), cmd.c
 * (commands of RUN_DIR/fabric.ctl; their list stands there). One thread.
 */
#ifndef FABRIC_FABRIC_H
#define FABRIC_FABRIC_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "base/compiler.h"
#include "boards/qemu-virt/ctl/ctl.h"

#define FABRIC_PORTS        16
#define FABRIC_FRAME_BYTES  9216
#define FABRIC_MIN_BYTES    14   /* both addresses and the type */
#define FABRIC_FRAMES       4096 /* buffers: all queues together */
#define FABRIC_QUEUE_FRAMES 1024 /* wait for one station */
#define FABRIC_BATCH        32   /* frames per system call */
#define FABRIC_FDB_ENTRIES  256  /* a power of two */
#define FABRIC_NAME_BYTES   64
#define FABRIC_PATH_BYTES   108 /* sun_path */
#define FABRIC_PPM          1000000u
#define FABRIC_CORRUPT_BITS 64 /* most that one frame has flipped */
#define FABRIC_REORDER_MAX  64 /* frames that a held one may wait for */
#define FABRIC_DELAY_MAX_US 10000000u

/* --- frames: frame.c -------------------------------------------------------------------------- */

struct fabric_frame {
    struct fabric_frame *next;
    uint64_t due_ns; /* when a delayed or held one goes on */
    uint32_t left;   /* frames that a held one still waits for */
    uint32_t len_bytes;
    uint8_t bytes[FABRIC_FRAME_BYTES];
};

struct fabric_queue {
    struct fabric_frame *first;
    struct fabric_frame *last;
    uint32_t count;
};

struct fabric_pool {
    struct fabric_frame frames[FABRIC_FRAMES];
    struct fabric_queue free;
};

void fabric_pool_init(struct fabric_pool *pool);
struct fabric_frame *fabric_frame_get(struct fabric_pool *pool); /* NULL: all are in use */
struct fabric_frame *fabric_frame_copy(struct fabric_pool *pool, const struct fabric_frame *frame);
void fabric_frame_put(struct fabric_pool *pool, struct fabric_frame *frame);
void fabric_queue_push(struct fabric_queue *queue, struct fabric_frame *frame);
struct fabric_frame *fabric_queue_pop(struct fabric_queue *queue); /* NULL: empty */

/* --- addresses: fdb.c ------------------------------------------------------------------------- */

#define FABRIC_FLOOD UINT32_MAX

struct fabric_fdb_entry {
    uint8_t mac[6];
    bool used;
    uint8_t port;
};

struct fabric_fdb {
    struct fabric_fdb_entry entries[FABRIC_FDB_ENTRIES];
    uint32_t count;
    uint32_t next_victim;
};

/* The station `mac` is at `port`. Group addresses are not learned. */
void fabric_fdb_learn(struct fabric_fdb *fdb, const uint8_t *mac, uint32_t port);
/* The port of `mac`; FABRIC_FLOOD: a group address, or unknown. */
uint32_t fabric_fdb_find(const struct fabric_fdb *fdb, const uint8_t *mac);

/* --- faults: fault.c, change.c ---------------------------------------------------------------- */

enum fabric_dir {
    FABRIC_IN,
    FABRIC_OUT,
    FABRIC_DIRS,
};

/* Which frames the faults of a stage are for; others pass, but count as passed for those held. */
enum fabric_only {
    FABRIC_ONLY_ALL,
    FABRIC_ONLY_ROCE, /* UDP port 4791 over IPv4 or IPv6, tagged or not */
};

struct fabric_fault {
    enum fabric_only only;
    uint32_t loss_ppm;
    uint32_t lose_next; /* this many frames are lost for certain, then none */
    uint32_t corrupt_ppm;
    uint32_t corrupt_bits; /* flipped per corrupted frame; 1..FABRIC_CORRUPT_BITS */
    uint32_t ecn_ppm;
    uint32_t dup_ppm;
    uint32_t reorder_ppm;
    uint32_t reorder_frames; /* 1..FABRIC_REORDER_MAX later ones pass a held frame */
    uint32_t reorder_us;     /* it goes on after that time at the latest */
    uint32_t delay_us;
};

struct fabric_fault_stats {
    uint64_t lost;
    uint64_t corrupted;
    uint64_t marked;
    uint64_t duplicated;
    uint64_t reordered;
    uint64_t delayed;
};

struct fabric_stage {
    struct fabric_fault fault;
    struct fabric_fault_stats stats;
    struct fabric_queue held;    /* wait for later frames */
    struct fabric_queue delayed; /* in order of due_ns */
};

/* What a stage needs of the switch. */
struct fabric_stage_env {
    struct fabric_pool *pool;
    uint64_t *rng;
    uint64_t now_ns;
    void (*deliver)(void *ctx, struct fabric_frame *frame); /* takes the frame */
    void *ctx;
};

void fabric_fault_clear(struct fabric_fault *fault);
void fabric_seed(uint64_t *rng, uint64_t seed);
/* The next 64 bits (splitmix64). */
uint64_t fabric_random(uint64_t *rng);
/* One frame through a stage, which takes it: delivered now, later, twice or never. */
void fabric_stage_pass(struct fabric_stage *stage, const struct fabric_stage_env *env,
                       struct fabric_frame *frame);
/* Delivers what is due; to be called when fabric_stage_due_ns() has come. */
void fabric_stage_tick(struct fabric_stage *stage, const struct fabric_stage_env *env);
uint64_t fabric_stage_due_ns(const struct fabric_stage *stage); /* UINT64_MAX: nothing waits */

bool fabric_is_roce(const uint8_t *bytes, uint32_t len_bytes);
/* Sets Congestion Experienced (RFC 3168, section 5) in an IPv4 or IPv6 packet whose sender is
 * ECN-capable, and makes the IPv4 checksum right. False: it is none, or is marked already. */
bool fabric_mark_ce(uint8_t *bytes, uint32_t len_bytes);
/* Flips `count` different bits, at least one in a frame of at least one byte. */
void fabric_flip_bits(uint8_t *bytes, uint32_t len_bytes, uint32_t count, uint64_t *rng);

/* --- captures: pcap.c ------------------------------------------------------------------------- */

/* A pcap file with nanoseconds, link type Ethernet. NULL: none (errno). */
FILE *fabric_pcap_open(const char *path);
/* `ns`: since 1970. 0, or -errno. */
int fabric_pcap_write(FILE *file, uint64_t ns, const void *bytes, uint32_t len_bytes);

/* --- ports: port.c ---------------------------------------------------------------------------- */

struct fabric_port_stats {
    uint64_t frames[FABRIC_DIRS]; /* in: from the station; out: given to the station */
    uint64_t bytes[FABRIC_DIRS];
    uint64_t runts;
    uint64_t giants;
    uint64_t no_buffer; /* from the station, lost: no buffer was free */
    uint64_t cut;       /* for the station or from it, lost: it is cut off */
    uint64_t full;      /* for the station, lost: it does not read */
    uint64_t absent;    /* for the station, lost: it is not there */
};

struct fabric_port {
    char name[FABRIC_NAME_BYTES]; /* the station's socket, below the run folder */
    int rx_fd;                    /* bound to name.switch */
    int tx_fd;                    /* connected to the station; -1: not now */
    bool blocked;                 /* tx_fd has no room */
    bool cut;
    uint32_t cut_from; /* bit per port: nothing passes between the two */
    struct fabric_stage stages[FABRIC_DIRS];
    struct fabric_queue tx;
    FILE *capture; /* NULL: none */
    bool capture_dirty;
    struct fabric_port_stats stats;
};

/* --- all -------------------------------------------------------------------------------------- */

struct fabric {
    struct fabric_port ports[FABRIC_PORTS];
    uint32_t port_count;
    struct fabric_fdb fdb;
    uint64_t seed;
    uint64_t rng;
    uint64_t now_ns; /* monotonic, of this turn */
    struct fabric_frame
        *batch[FABRIC_BATCH]; /* buffers that wait for the next frames; NULL: none */
    struct ctl ctl;
    const char *dir;
    bool quit;
    struct fabric_pool pool;
};

/* fabric.c */
/* Makes `dir`, the command socket dir/fabric.ctl and a port for each name. 0, or -errno. */
int fabric_open(struct fabric *f, const char *dir, uint64_t seed, const char *const *names,
                uint32_t name_count);
void fabric_close(struct fabric *f);
/* Waits for something, at most `timeout_ms` (-1: for ever), and handles it. */
void fabric_turn(struct fabric *f, int timeout_ms);
/* The port's index, or FABRIC_PORTS. */
uint32_t fabric_find_port(const struct fabric *f, const char *name);
/* A frame that came from the station of `port`; takes it. */
void fabric_receive(struct fabric *f, uint32_t port, struct fabric_frame *frame);
void fabric_capture(struct fabric_port *port, const struct fabric_frame *frame);

/* port.c */
int fabric_port_open(struct fabric_port *port, const char *dir, const char *name); /* 0, -errno */
void fabric_port_close(struct fabric_port *port, const char *dir);
void fabric_port_read(struct fabric *f, uint32_t port); /* a batch */
/* Gives the station what it takes; the rest stays, `blocked` then. */
void fabric_port_flush(struct fabric *f, uint32_t port);
/* The address of dir/name; false: too long. */
struct sockaddr_un;
bool fabric_address(struct sockaddr_un *address, const char *dir, const char *name);

/* cmd.c */
/* Runs one line and takes it apart; the answer is lines, the last one "ok" or "error: ...". */
void fabric_cmd(struct fabric *f, char *line, char *answer, uint32_t answer_bytes);

#endif
