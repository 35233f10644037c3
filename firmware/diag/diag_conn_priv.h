/*
 * What the services share: one RC connection with its queue pair, opened towards the CM and given
 * back whole, in however many turns the device needs for it.
 */
#ifndef DIAG_DIAG_CONN_PRIV_H
#define DIAG_DIAG_CONN_PRIV_H

#include <stdbool.h>
#include <stdint.h>
#include "base/status.h"
#include "rdma/cm.h"
#include "rdma/verbs.h"

struct diag_conn {
    struct rdma_cm_id *id; /* NULL: gone */
    struct rdma_qp *qp;
    void *qp_memory; /* diag_conn_memory_bytes() */
};

struct diag_conn_config {
    struct rdma_pd *pd;
    struct rdma_cq *cq; /* of sends and receives */
    uint32_t send_wr_count;
    uint32_t recv_wr_count;
    uint8_t send_sge_count;
    uint8_t recv_sge_count;
};

/* Of the QP, for pd->device. */
uint64_t diag_conn_memory_bytes(const struct diag_conn_config *config);

/* Makes the QP and takes it to INIT. `ctx` becomes the QP's and the id's. On failure the id stays
 * the caller's; of the QP diag_conn_close() gives back what there is. */
MUST_USE enum status diag_conn_open(struct diag_conn *conn, struct rdma_cm_id *id,
                                    const struct diag_conn_config *config, uint8_t access,
                                    void *ctx);

/* Ends the connection, whatever its state. False: the device still reads memory of ours; call again
 * in a later turn. Harmless when all is gone. */
MUST_USE bool diag_conn_close(struct diag_conn *conn);

/* READs that both sides agreed on, as far as the device can, for rdma_cm_accept(). */
struct rdma_cm_param diag_accept_param(const struct diag_conn *conn,
                                       const struct rdma_cm_event *request, uint8_t access);

/* Cuts pieces of aligned memory off the front, in the order in which somebody asks. With base 0 it
 * only counts. */
struct diag_cut {
    uint8_t *next;
    uint64_t bytes; /* cut so far */
};
void *diag_cut(struct diag_cut *cut, uint64_t len_bytes);

#endif
