/*
 * The server's side of perftest (ib_write_bw, ib_read_bw, ib_read_lat, ib_send_bw, ib_send_lat) for
 * clients that connect by the RDMA CM: their option -R. One listener serves them all; what a client
 * runs is learned from what it does.
 *
 * Everything belongs to the device's core. A client that breaks the protocol loses its connections.
 * Leaves out: ib_write_lat, whose server makes the first WRITE, of a length that nobody told it;
 * both directions at once (-b); UD and other transports; atomics.
 *
 * A client has one connection for control and one for each of its data QPs, all to the same port.
 * Control is lock step: each message is answered by one as long. 56 bytes are the client's address
 * (struct perf_dest), answered by ours; whatever else it says of itself (version, cycle buffer,
 * cache line, MTU, results) is answered by the same, which lets every version of it agree with us.
 *
 * Source: ours, after what perftest 4.5-0.17 (Debian 12) sends: src/perftest_communication.c,
 * perftest_resources.c.
 */
#ifndef DIAG_DIAG_PERF_H
#define DIAG_DIAG_PERF_H

#include <stdbool.h>
#include <stdint.h>
#include "base/compiler.h"
#include "base/status.h"
#include "rdma/types.h"

#define DIAG_PERF_PORT 18515

struct diag_perf;

struct diag_perf_config {
    struct rdma_device *device;
    uint16_t port;
    uint32_t len_bytes; /* largest message, at least 4096, a multiple of it */
};

/* (LIMIT_PERF_SESSIONS + 1) * len_bytes and some. */
uint64_t diag_perf_memory_bytes(const struct diag_perf_config *config);

/* Listens at all addresses and adds its poller to the calling core. `memory` is 4096-byte aligned,
 * zeroed and stays. Else as the verbs and rdma_cm_listen() say; what was made is given back. */
MUST_USE enum status diag_perf_init(void *memory, const struct diag_perf_config *config,
                                    struct diag_perf **out);

#define DIAG_PERF_STAT_LIST(X)                                        \
    X(connections, "accepted")                                        \
    X(refused, "connections refused: as many as there may be")        \
    X(evicted, "connections ended because others wanted their place") \
    X(sessions, "clients that got memory")                            \
    X(messages, "received on data connections")                       \
    X(bytes, "of them")                                               \
    X(answers, "sent in latency tests")                               \
    X(protocol_errors, "connections that said what cannot be")        \
    X(errors, "work requests that failed, when clients vanish for instance")

struct diag_perf_stats {
#define DIAG_PERF_STAT_FIELD(name, text) _Atomic uint64_t name;
    DIAG_PERF_STAT_LIST(DIAG_PERF_STAT_FIELD)
#undef DIAG_PERF_STAT_FIELD
};

/* Any core. */
const struct diag_perf_stats *diag_perf_stats(const struct diag_perf *perf);

/* No connection is left and all memory is clean: what tests check. Owner core. */
bool diag_perf_is_quiet(const struct diag_perf *perf);

#endif
