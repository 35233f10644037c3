/*
 * A client as perftest is one, for the tests of its server: what it sends on its control connection
 * in which order, and the data QP that it then connects to the same port. Also their fixtures: a
 * server that takes messages of up to PERF_SIZE bytes.
 */
#ifndef TESTS_UNIT_DIAG_PERF_CLIENT_H
#define TESTS_UNIT_DIAG_PERF_CLIENT_H

#include "diag/diag_perf.h"
#include "diag/diag_perf_priv.h"
#include "tests/unit/diag/rig.h"

#define PERF_SIZE    (1u << 20)
#define PERF_CLIENTS (LIMIT_PERF_CONNS + 1)

/* --- the server ---------------------------------------------------------------------------- */

extern struct diag_perf *perf_server;

#define PERF_STAT(name) counter_get(&diag_perf_stats(perf_server)->name)

/* Fixtures. The end: nobody is connected, nothing is left over, the memory is zero. */
int perf_setup(void **state);
int perf_teardown(void **state);

struct diag_perf_config perf_config(uint16_t port);
/* Memory of pages, to be freed. */
void *perf_zeroed(uint64_t bytes);

/* --- the client ---------------------------------------------------------------------------- */

struct perf_end {
    struct rdma_cm_id *id;
    struct rdma_qp *qp;
    bool is_connected;
    bool is_over;
    uint8_t responder_resources;
    ALIGNED(64) uint8_t qp_memory[512];
};

struct perf_client {
    struct rdma_pd *pd;
    struct rdma_cq *cq;
    struct rdma_mr *mr;
    struct perf_end control;
    struct perf_end data;
    uint32_t sends_done;
    uint32_t recvs_done;
    uint32_t recv_bytes;
    uint32_t failures;
    ALIGNED(64) uint8_t cq_memory[32 * 1024];
    uint8_t message[64];
    uint8_t reply[64];
    struct perf_dest server; /* as it said last */
    uint8_t post[PERF_SIZE]; /* what it sends */
    uint8_t poll[PERF_SIZE]; /* where it is written to */
};
extern struct perf_client perf_clients[PERF_CLIENTS];

extern const char perf_version[PERF_VERSION_BYTES];

/* Domain, completion queue, region; no connection. */
void perf_client_make(struct perf_client *client);
/* The control connection and all that is said on it before the first handshake. */
void perf_client_greet(struct perf_client *client);
/* All up to the first data. */
void perf_client_begin(struct perf_client *client, uint8_t reads);
void perf_client_poll(struct perf_client *client);
/* Data first, then control; gives all back. */
void perf_client_leave(struct perf_client *client);
/* The rest, when both ends have left. */
void perf_client_free(struct perf_client *client);

/* Makes the QP and asks for the connection; the second one waits for it, too. */
void perf_end_ask(struct perf_client *client, struct perf_end *end, uint8_t reads);
void perf_end_connect(struct perf_client *client, struct perf_end *end, uint8_t reads);
void perf_end_recv(struct perf_client *client, struct perf_end *end, void *to, uint32_t len_bytes);
/* Signaled; `offset` into what the server has told of its memory. */
enum status perf_end_post(struct perf_client *client, struct perf_end *end,
                          enum rdma_wr_opcode opcode, const void *from, uint32_t len_bytes,
                          uint64_t offset);
void perf_end_leave(struct perf_end *end);

/* ctx_xchg_data(): a message there and one of the same length back. */
void perf_exchange(struct perf_client *client, const void *message, uint32_t len_bytes);
/* ctx_hand_shake() */
void perf_hand_shake(struct perf_client *client, bool with_data);

/* Random bytes, none of them 0. */
void perf_fill(uint8_t *bytes, uint32_t len_bytes);

#endif
