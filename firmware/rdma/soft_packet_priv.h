/*
 * Inside of the provider in software: packets as they come in and go out, and their checksum.
 */
#ifndef RDMA_SOFT_PACKET_PRIV_H
#define RDMA_SOFT_PACKET_PRIV_H

#include "rdma/soft_priv.h"

/* --- packets: in (soft_rx.c) ------------------------------------------------------------------ */

/* A packet whose headers and ICRC are right. */
struct soft_packet {
    const struct net_rx *rx;
    const struct roce_bth *bth;
    const struct roce_reth *reth; /* those that the opcode has; else NULL */
    const struct roce_aeth *aeth;
    const struct roce_deth *deth;
    uint32_t imm;   /* immediate data, or the key */
    uint32_t flags; /* ROCE_OP_* */
    uint32_t psn;
    const uint8_t *payload;
    uint32_t payload_bytes;
};

/* --- packets: out (soft_tx.c) ----------------------------------------------------------------- */

/* A packet under construction. */
struct soft_tx {
    struct soft_qp *qp;
    const struct net_path *path;
    struct net_buf *buf;
    struct roce_bth *bth;
    uint8_t *next; /* behind the headers written so far */
    uint32_t payload_bytes;
    uint32_t region_count;
    struct soft_region *regions[RDMA_SOFT_SGES]; /* that segments point into */
    uint32_t frame_bytes;                        /* soft_tx_end() tells */
    bool points_out;                             /* a segment lies in memory that is not ours */
};

/* False: no buffer or no room at the port now; the QP stays active. */
bool soft_tx_begin(struct soft_tx *tx, struct soft_qp *qp, const struct net_path *path,
                   uint8_t opcode, uint32_t psn);
ALWAYS_INLINE void *soft_tx_header(struct soft_tx *tx, uint32_t len_bytes)
{
    void *header = tx->next;

    tx->next += len_bytes;
    return header;
}

enum soft_tx_result {
    SOFT_TX_OK,
    SOFT_TX_REFUSED, /* key, rights, range or domain; or a window that is gone */
    SOFT_TX_FULL,    /* no memory for a copy now */
};

/* Appends payload: [offset, + len) of a scatter list, or memory of our own (copied). `copy`: send a
 * copy, not the memory itself. On an error the buffer is given back. */
enum soft_tx_result soft_tx_payload(struct soft_tx *tx, const struct rdma_sge *sges,
                                    uint32_t sge_count, uint32_t offset_bytes, uint32_t len_bytes,
                                    uint32_t access, bool copy);
void soft_tx_copy(struct soft_tx *tx, const void *from, uint32_t len_bytes);
/* Pads, computes the ICRC, sends. Returns the frame's sequence number. */
uint64_t soft_tx_end(struct soft_tx *tx);

/* --- ICRC (soft_icrc.c) ----------------------------------------------------------------------- */

/* Invariant CRC (9.8.1, A17.3.3) of a packet: over the headers from l3 to the BTH with the fields
 * that change on the way set to ones; goes on with soft_icrc_update(). */
uint32_t soft_icrc_begin(const uint8_t *l3, bool is_ipv6, const struct roce_bth *bth);
uint32_t soft_icrc_update(uint32_t crc, const void *bytes, uint32_t len_bytes);
/* As it stands in the packet: the bytes in this order. */
ALWAYS_INLINE uint32_t soft_icrc_end(uint32_t crc)
{
    return ~crc;
}

#endif
