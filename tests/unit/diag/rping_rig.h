/*
 * What tests of rping share: a server of ours, runs of our client, and a peer in the test's hands
 * that says what the test wants, as a client (and as a server, where the test listens itself).
 */
#ifndef TESTS_UNIT_DIAG_RPING_RIG_H
#define TESTS_UNIT_DIAG_RPING_RIG_H

#include "diag/diag_rping.h"
#include "diag/diag_rping_priv.h"
#include "tests/unit/diag/rig.h"

/* --- the server ---------------------------------------------------------------------------- */

extern struct diag_rping *rping_server;

#define RPING_STAT(name) counter_get(&diag_rping_stats(rping_server)->name)

/* Everything new, and a server on DIAG_RPING_PORT. */
void rping_start(void);
/* Fixtures. The end: nobody is connected, nothing is left over. */
int rping_setup(void **state);
int rping_teardown(void **state);

/* Memory that the end of the test gives back; 8 times at the most. */
void *rping_take(uint64_t bytes);

/* --- our client ---------------------------------------------------------------------------- */

struct rping_outcome {
    uint32_t count; /* callbacks */
    struct diag_rping_result result;
};

struct diag_rping_client *rping_client_new(void);
/* To the server; `outcome` is cleared and gets the result. */
struct diag_rping_run rping_run_of(struct rping_outcome *outcome, uint32_t count,
                                   uint32_t len_bytes);

/* --- a peer in the test's hands ------------------------------------------------------------ */

struct rping_peer {
    struct rdma_pd *pd;
    struct rdma_cq *cq;
    struct rdma_mr *mr;
    struct rdma_qp *qp;
    struct rdma_cm_id *id;
    bool is_connected;
    bool is_over;
    ALIGNED(64) uint8_t cq_memory[64 * 40];
    ALIGNED(64) uint8_t qp_memory[256];
    struct diag_rping_info info;
    struct diag_rping_info reply;
    uint8_t data[65536];
};
extern struct rping_peer rping_peers[LIMIT_RPING_CONNS + 1];

/* All that it needs; no connection. */
void rping_peer_make(struct rping_peer *peer);
/* Made, it asks the server for a connection; the second one waits for it, too. */
void rping_peer_ask(struct rping_peer *peer);
void rping_peer_connect(struct rping_peer *peer);
/* Gives all back. */
void rping_peer_leave(struct rping_peer *peer);
/* A receive into peer->reply. */
void rping_peer_recv(struct rping_peer *peer);
/* So many bytes from peer->info on. */
void rping_peer_send(struct rping_peer *peer, uint32_t len_bytes);
/* The message that tells of peer->data. */
void rping_peer_tell(struct rping_peer *peer, uint32_t rkey, uint32_t len_bytes);
/* A message of the server came. */
bool rping_peer_told(struct rping_peer *peer);

#endif
