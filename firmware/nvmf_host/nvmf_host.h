/*
 * NVMe over Fabrics as host (initiator), over RDMA: associations with remote controllers, whose
 * namespaces become block devices (blk/blk.h), and discovery.
 *
 * An association belongs to a function (tenant) and a subsystem; it carries that function's host
 * NQN and identifier, and its own protection domain. It has an admin queue on core 0 and an I/O
 * queue on each core that has an RDMA device; requests of other cores are sent there by message.
 *
 * Data take one of three paths, chosen for each namespace in use:
 *
 *  - NVMF_PATH_TERMINATE: staged in NIC memory, two copies; always works;
 *
 *  - NVMF_PATH_ZERO_COPY: a key for this one I/O covers the request's own segments. Writes that fit
 *    into the capsule go along in it, from where they lie. The key is invalid and quiet before the
 *    request completes, by the target or here;
 *
 *  - NVMF_PATH_HOST_QUEUES: as zero-copy, but over queues whose receive ring, responses and
 *    completion ring lie in host memory (nvmf_host_memory_grant()). An association has one I/O
 *    queue on a core, so namespaces of other paths over it use these rings, too.
 *    Without that memory they are ordinary queues; what they serve is counted and told.
 *
 * What the provider's keys cannot express is staged, and counted.
 *
 * What a submitter sees:
 *
 *  - status, DNR, dw0, dw1 are the remote controller's; More and the retry delay are cleared;
 *
 *  - is_path_error with Host Path Error: no association now, or it was lost with the command under
 *    way. Nothing waits here for a better time: vol does. quiet_ns says when a command that changes
 *    state can have no effect any more: at once when it was not sent; the command quiesce time
 *    after the old controller was disabled in order; else that and the keep-alive timeout after the
 *    loss, twice that timeout where traffic keeps the controller alive;
 *
 *  - Abort Requested: it was cancelled.
 *
 * A late command is aborted; if that does not help in time, the association is reset (a controller
 * that answers on its admin queue is disabled in order first), then made anew with growing pauses.
 * A request is at most what the geometry says (max_transfer_bytes): vol splits.
 *
 * Leaves out: authentication, TCP and FC, metadata and protection information, ANA groups (their
 * statuses are path errors), fused commands.
 *
 * Source: NVM Express over Fabrics 1.1, NVM Express Base Specification 1.4.
 */
#ifndef NVMF_HOST_NVMF_HOST_H
#define NVMF_HOST_NVMF_HOST_H

#include <stdbool.h>
#include <stdint.h>
#include "base/limits.h"
#include "base/status.h"
#include "blk/blk.h"
#include "net/net.h"
#include "rdma/cm.h"
#include "rdma/verbs.h"
#include "spec/nvmf.h"

/* --- cores --------------------------------------------------------------------------------- */

struct nvmf_host_core_config {
    struct rdma_device *device; /* of the calling core */
    uint32_t command_count;     /* I/O commands under way of all its queues, 1..1024 */
    uint32_t stage_bytes;       /* NIC memory for NVMF_PATH_TERMINATE and for what keys cannot
                                   express; a multiple of 4096; 0: such requests end with Internal
                                   Error, DNR */
};

uint64_t nvmf_host_core_memory_bytes(const struct nvmf_host_core_config *config);

/* Lets the calling core carry queues; adds a poller. Once for each core that has a device; core 0's
 * must be there before the first association. `memory` is zeroed, 4096-byte aligned, and stays.
 * INVALID; NO_SPACE: of the device's objects. */
MUST_USE enum status nvmf_host_core_start(void *memory, const struct nvmf_host_core_config *config);

/* --- associations: all on core 0 ------------------------------------------------------------- */

#define NVMF_CTRL_STATE_LIST(X)                                         \
    X(IDLE, "not started")                                              \
    X(CONNECT_ADMIN, "the admin queue is being connected")              \
    X(ENABLE, "properties: CAP, CC.EN, CSTS.RDY")                       \
    X(IDENTIFY, "Identify Controller")                                  \
    X(SET_QUEUES, "Set Features: number of queues")                     \
    X(CONNECT_IO, "the I/O queues are being connected")                 \
    X(SET_EVENTS, "asynchronous events, keep alive")                    \
    X(SCAN, "its namespaces are listed and identified")                 \
    X(LIVE, "serving")                                                  \
    X(DISABLE, "the controller is being disabled in order: CC.EN to 0") \
    X(SHUT_DOWN, "the controller is being shut down in order: CC.SHN")  \
    X(DRAIN, "queues are taken down; commands under way end")           \
    X(BACKOFF, "pausing before the next attempt")                       \
    X(CLOSED, "over, as asked; the memory may be given back")

enum nvmf_ctrl_state {
#define NVMF_CTRL_STATE_ENUM(name, text) NVMF_CTRL_##name,
    NVMF_CTRL_STATE_LIST(NVMF_CTRL_STATE_ENUM)
#undef NVMF_CTRL_STATE_ENUM
};

const char *nvmf_ctrl_state_name(enum nvmf_ctrl_state state);

/* Why an attempt or an association ended. `code`: what the peer said, where there is one. */
#define NVMF_FAIL_LIST(X)                                                                     \
    X(NONE, "nothing failed")                                                                 \
    X(NO_ROUTE, "no way to this address: see the port's ip, prefix and gateway")              \
    X(NO_ANSWER, "nobody answers at this address and port")                                   \
    X(CM_REJECTED, "the peer rejects the connection (code: reason of its CM): is nvmet-rdma " \
                   "listening on this port?")                                                 \
    X(RDMA_REJECTED, "the target rejects the queue (code: NVMe-oF RDMA status)")              \
    X(BAD_REPLY, "the target's answer makes no sense (code: which)")                          \
    X(CONNECT_REFUSED, "Connect was refused (code: NVMe status)")                             \
    X(BAD_SUBNQN, "the target has no such subsystem: check nqn")                              \
    X(BAD_HOSTNQN, "the subsystem does not allow this host: check hostnqn on both sides")     \
    X(CTRL_FULL, "the subsystem takes no more controllers or queues")                         \
    X(AUTHENTICATION, "the target wants authentication, which this firmware does not have")   \
    X(COMMAND_FAILED, "a command of the bring-up failed (code: NVMe status)")                 \
    X(UNSUITABLE, "the controller cannot be used: no keyed SGLs, or no I/O controller")       \
    X(NOT_READY, "CSTS.RDY did not follow in CAP.TO")                                         \
    X(FATAL, "CSTS.CFS: the controller met a fatal error")                                    \
    X(DISCONNECTED, "the target ended the connection")                                        \
    X(TRANSPORT, "the connection broke (code: work-completion status)")                       \
    X(KEEP_ALIVE, "Keep Alive was not answered in time")                                      \
    X(COMMAND_TIMEOUT, "a command did not end, nor did its abort help")                       \
    X(PROTOCOL, "the target broke the protocol (code: which)")                                \
    X(NO_MEMORY, "out of this firmware's objects: see base/limits.h")                         \
    X(ASKED, "reset by request")                                                              \
    X(HOST_MEMORY, "the host gave or takes memory for its queues: they move")

enum nvmf_fail {
#define NVMF_FAIL_ENUM(name, text) NVMF_FAIL_##name,
    NVMF_FAIL_LIST(NVMF_FAIL_ENUM)
#undef NVMF_FAIL_ENUM
};

const char *nvmf_fail_text(enum nvmf_fail fail);

/* Strings are copied. Zero in a field with a default: the default. */
struct nvmf_ctrl_config {
    const char *name; /* as configured, up to 31 characters */
    uint16_t fn;      /* tenant */
    struct net_addr addr;
    uint16_t port;       /* default 4420 */
    const char *subnqn;  /* 1..223 characters */
    const char *hostnqn; /* the function's, likewise */
    uint8_t hostid[16];
    uint16_t queue_entries;      /* of an I/O queue, 2..LIMIT_NVMF_QUEUE_ENTRIES; default 128 */
    uint32_t keep_alive_ms;      /* default 5000. The spec's 0, none, cannot be had: see quiet_ns */
    uint32_t connect_timeout_ms; /* of one step of the bring-up; default 10000: a lost
                                    connection request is sent again after 4.3 s */
    uint32_t command_timeout_ms; /* of a request without deadline; default 8000 */
    uint32_t backoff_low_ms;     /* first pause before a new attempt; doubles; default 200 */
    uint32_t backoff_high_ms;    /* and longest; default 5000 */
    uint32_t quiesce_ms;         /* command quiesce time where the controller tells none (CQT);
                                     default 1000 */
    bool sq_flow_control;        /* true: on. Default off where the target agrees */
    bool no_in_capsule;          /* data never go in capsules */
    bool host_queues; /* I/O queues lie in the function's host memory while there is any */
};

struct nvmf_ctrl;

uint64_t nvmf_ctrl_memory_bytes(const struct nvmf_ctrl_config *config);

/* Makes an association and begins to connect. `memory` is zeroed, 4096-byte aligned; the
 * association's until CLOSED. INVALID: a field; NO_SPACE: LIMIT_NVMF_CTRLS. */
MUST_USE enum status nvmf_ctrl_create(void *memory, const struct nvmf_ctrl_config *config,
                                      struct nvmf_ctrl **out);

/* Ends it in order: commands under way end, the controller is shut down (at most 2 s), then
 * done(arg) is called; the devices of its namespaces must not be used any more. */
void nvmf_ctrl_close(struct nvmf_ctrl *ctrl, void (*done)(void *arg), void *arg);

/* Resets it, as a lost connection would. */
void nvmf_ctrl_reset(struct nvmf_ctrl *ctrl);

/* --- namespaces ------------------------------------------------------------------------------ */

enum nvmf_path {
    NVMF_PATH_ZERO_COPY,
    NVMF_PATH_TERMINATE,
    NVMF_PATH_HOST_QUEUES,
    NVMF_PATH_COUNT,
};

const char *nvmf_path_name(enum nvmf_path path); /* "zero-copy", ... */

/* How a namespace is named: the first of these that is not zero. */
struct nvmf_ns_id {
    uint8_t nguid[16];
    uint8_t uuid[16];
    uint8_t eui64[8];
    uint32_t nsid;
};

/* One user of a remote namespace. The fields are nvmf_host's own. */
struct nvmf_ns {
    struct blk_dev dev; /* first; geometry unknown until the controller has told */
    struct nvmf_ctrl *ctrl;
    struct list link;
    struct nvmf_ns_id id;
    uint8_t path;           /* enum nvmf_path */
    _Atomic uint32_t nsid;  /* as found; 0: not there now */
    _Atomic bool is_usable; /* there, and the association is LIVE */
    bool is_seen;           /* in the scan under way */
};

/* A device for a namespace of `ctrl`; `name` and `ns` stay until the association is CLOSED or
 * nvmf_ns_close(). dev.changed() is called whenever its geometry or is_usable changed; the geometry
 * of a namespace that went away stays as it was. Core 0. */
void nvmf_ns_open(struct nvmf_ns *ns, struct nvmf_ctrl *ctrl, const struct nvmf_ns_id *id,
                  enum nvmf_path path, const char *name);
/* No request of it is under way. Core 0. */
void nvmf_ns_close(struct nvmf_ns *ns);

/* Requests end at once with a path error while false. Any core. */
ALWAYS_INLINE bool nvmf_ns_is_usable(const struct nvmf_ns *ns)
{
    return atomic_load_explicit(&ns->is_usable, memory_order_acquire);
}

/* --- host memory for queues: core 0 ----------------------------------------------------------
 */

/* What each core that was started with `command_count` wants of a function's; a multiple of 4096.
 */
uint64_t nvmf_host_memory_bytes(uint32_t command_count);

struct nvmf_host_piece {
    uint64_t bus_addr; /* a multiple of 4096 */
    uint32_t len_bytes;
};

/* The function's queues may lie there from now on. Associations with host_queues move: they are
 * reset in order, and connect again without a pause. Cores for which the pieces are too small keep
 * ordinary rings. `pieces` are copied. Not before nvmf_host_memory_revoke() has ended. INVALID: fn.
 */
MUST_USE enum status nvmf_host_memory_grant(uint16_t fn, const struct nvmf_host_piece *pieces,
                                            uint32_t count);

/* Takes down what lies there, then done(arg): nothing of ours touches it any more. Controllers that
 * answer are disabled in order first, for which there are 50 ms: else commands that change state
 * take as long to be quiet as after a lost connection. Without memory granted: at once. */
void nvmf_host_memory_revoke(uint16_t fn, void (*done)(void *arg), void *arg);

/* --- discovery (NVMe-oF 5) ---------------------------------------------------------------------
 */

struct nvmf_discovery_config {
    uint16_t fn;
    struct net_addr addr;
    uint16_t port; /* default 4420 */
    const char *hostnqn;
    uint8_t hostid[16];
    uint32_t timeout_ms; /* of all of it, referrals too; default 10000 */
    /* Each entry, referrals among them as they are followed (at most 8 services, none twice); text
     * fields are terminated and stripped. `depth`: 0 for the service asked. */
    void (*found)(const struct nvmf_discovery_entry *entry, uint32_t depth, void *ctx);
    void (*done)(enum nvmf_fail fail, uint32_t code, void *ctx);
    void *ctx;
};

uint64_t nvmf_discovery_memory_bytes(void);

/* One at a time; `memory` (zeroed, 4096-byte aligned) stays until done(). AGAIN: one is under way.
 * Core 0. */
MUST_USE enum status nvmf_discover(void *memory, const struct nvmf_discovery_config *config);

/* --- reports: core 0 ---------------------------------------------------------------------------
 */

/* Of one path, summed over the cores. */
#define NVMF_PATH_STAT_LIST(X)                                                        \
    X(requests, "requests ended")                                                     \
    X(read_bytes, "data to the submitter")                                            \
    X(write_bytes, "data from the submitter")                                         \
    X(staged_bytes, "of those, through NIC memory")                                   \
    X(in_capsule_bytes, "of those, inside command capsules")                          \
    X(key_binds, "keys bound")                                                        \
    X(remote_invalidates, "keys that the target invalidated")                         \
    X(local_invalidates, "keys that were invalidated here")                           \
    X(stage_waits, "requests that waited for NIC memory")                             \
    X(forwards, "requests sent to another core's queue")                              \
    X(fallbacks, "requests that another path served, for want of host rings")         \
    X(host_ring_reads, "reads of receives, completions and responses in host memory") \
    X(host_ring_writes, "writes of them")

struct nvmf_path_stats {
#define NVMF_PATH_STAT_FIELD(name, text) uint64_t name;
    NVMF_PATH_STAT_LIST(NVMF_PATH_STAT_FIELD)
#undef NVMF_PATH_STAT_FIELD
};

struct nvmf_ctrl_info {
    const char *name;
    const char *subnqn;
    uint16_t fn;
    uint16_t cntlid;
    enum nvmf_ctrl_state state;
    enum nvmf_fail fail; /* of the last attempt or association that ended */
    uint32_t fail_code;
    uint32_t queue_count;      /* I/O queues connected */
    uint32_t host_queue_count; /* of those, over rings in host memory */
    uint32_t queue_entries;
    uint32_t in_flight;
    uint32_t ns_count;      /* that the controller has */
    uint32_t connect_count; /* associations that were made */
    uint32_t attempt_count; /* attempts since the last one was LIVE */
    uint64_t next_ns;       /* BACKOFF: the next attempt */
    uint64_t timeout_count; /* commands that passed their deadline */
    uint64_t abort_count;
    uint64_t event_count; /* asynchronous events */
    uint64_t memory_bytes;
    uint32_t in_capsule_bytes; /* that the target takes */
    uint32_t max_transfer_bytes;
    uint32_t keep_alive_ms;
    uint32_t quiesce_ms;
    bool sq_flow_control;
    char model[41];
    char serial[21];
    char firmware[9];
};

void nvmf_ctrl_info(const struct nvmf_ctrl *ctrl, struct nvmf_ctrl_info *info);
void nvmf_ctrl_stats(const struct nvmf_ctrl *ctrl, enum nvmf_path path,
                     struct nvmf_path_stats *stats);

#endif
