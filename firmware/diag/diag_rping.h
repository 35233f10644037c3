/*
 * rping: the echo of RDMA. A client names memory of its own by a SEND; the server fetches it by a
 * READ, then puts it back by a WRITE where the client says next, and says by a SEND that each is
 * done. Server and client, compatible with librdmacm's rping (-s, -c, -V; -P: several clients).
 *
 * Everything belongs to the device's core. What peers send is checked; a client that breaks the
 * protocol loses its connection, nothing else.
 *
 * Source: ours, after the wire format of rdma-core 44 (librdmacm/examples/rping.c): a message is
 * address (8 bytes), rkey (4), length (4), network order; the server's content means nothing.
 */
#ifndef DIAG_DIAG_RPING_H
#define DIAG_DIAG_RPING_H

#include <stdbool.h>
#include <stdint.h>
#include "base/compiler.h"
#include "base/status.h"
#include "net/net.h"
#include "rdma/types.h"

#define DIAG_RPING_PORT 7174
/* Data of a ping that our client sends; rping has about the same bounds. */
#define DIAG_RPING_LOW_BYTES  32u
#define DIAG_RPING_HIGH_BYTES 65535u

/* --- server -------------------------------------------------------------------------------- */

struct diag_rping;

/* For `device`, which it only looks at. */
uint64_t diag_rping_memory_bytes(struct rdma_device *device);

/* Listens on `port` at all addresses and adds its poller to the calling core. `memory` is 64-byte
 * aligned and stays. Else as the verbs and rdma_cm_listen() say; what was made is given back. */
MUST_USE enum status diag_rping_init(void *memory, struct rdma_device *device, uint16_t port,
                                     struct diag_rping **out);

#define DIAG_RPING_STAT_LIST(X)                                        \
    X(connections, "accepted")                                         \
    X(refused, "connections refused: as many as there may be")         \
    X(evicted, "connections ended because another wanted their place") \
    X(pings, "data fetched and put back")                              \
    X(bytes, "of them")                                                \
    X(mismatches, "fetched data that were not rping's pattern")        \
    X(protocol_errors, "messages that cannot be")                      \
    X(errors, "work requests that failed")

struct diag_rping_stats {
#define DIAG_RPING_STAT_FIELD(name, text) _Atomic uint64_t name;
    DIAG_RPING_STAT_LIST(DIAG_RPING_STAT_FIELD)
#undef DIAG_RPING_STAT_FIELD
};

/* Any core. */
const struct diag_rping_stats *diag_rping_stats(const struct diag_rping *rping);

/* No connection is left: what tests check. Owner core. */
bool diag_rping_is_quiet(const struct diag_rping *rping);

/* --- client -------------------------------------------------------------------------------- */

struct diag_rping_client;

/* How a run ended. */
enum diag_rping_end {
    DIAG_RPING_DONE,         /* all pings were answered; see mismatches */
    DIAG_RPING_UNREACHABLE,  /* nobody answered at the address */
    DIAG_RPING_REJECTED,     /* nobody listens there, or he does not want us */
    DIAG_RPING_DISCONNECTED, /* the peer ended the connection, or it broke */
    DIAG_RPING_TIMED_OUT,    /* connected, but a ping was not answered in time */
    DIAG_RPING_NO_RESOURCES, /* of ours */
};

struct diag_rping_result {
    enum diag_rping_end end;
    uint32_t pings;      /* answered */
    uint32_t mismatches; /* of these, data that came back otherwise than they went */
    uint64_t low_ns;     /* of one ping, when there was one */
    uint64_t high_ns;
    uint64_t sum_ns;
};

typedef void diag_rping_fn(void *ctx, const struct diag_rping_result *result);

struct diag_rping_run {
    struct net_addr addr;
    uint16_t port;
    uint32_t count;      /* pings, 1.. */
    uint32_t len_bytes;  /* DIAG_RPING_LOW_BYTES..DIAG_RPING_HIGH_BYTES */
    uint32_t timeout_ms; /* of one ping */
    diag_rping_fn *done; /* called once, when everything is given back */
    void *ctx;
};

uint64_t diag_rping_client_memory_bytes(struct rdma_device *device);
MUST_USE enum status diag_rping_client_init(void *memory, struct rdma_device *device,
                                            struct diag_rping_client **out);

/* Starts a run. AGAIN: one is under way. INVALID: out of range. Else as rdma_cm_resolve(). */
MUST_USE enum status diag_rping_client_start(struct diag_rping_client *client,
                                             const struct diag_rping_run *run);

/* Ends a run at once, as DISCONNECTED; harmless when there is none. */
void diag_rping_client_stop(struct diag_rping_client *client);

#endif
