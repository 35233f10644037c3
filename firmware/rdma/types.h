/*
 * The objects of the verbs (rdma/verbs.h) and what goes in and out of them: device attributes,
 * regions and keys, queues, work requests, completions, events, reports.
 */
#ifndef RDMA_TYPES_H
#define RDMA_TYPES_H

#include <stdbool.h>
#include <stdint.h>
#include "base/compiler.h"
#include "base/mem_ref.h"
#include "base/status.h"
#include "hal/pcie_ep.h"
#include "net/net.h"

struct rdma_device;
struct rdma_ops;
struct rdma_cm_ops;

/* --- device ----------------------------------------------------------------------------------- */

/* What a key can be bound to: each includes the ones before it. */
enum rdma_key_kind {
    RDMA_KEY_CONTIGUOUS, /* one segment (type 2 memory windows) */
    RDMA_KEY_PAGES,      /* pages: only the first may begin, only the last may end inside of one */
    RDMA_KEY_SCATTER,    /* any list of segments */
};

struct rdma_device_attr {
    uint32_t qp_count; /* QP1 not counted */
    uint32_t cq_count;
    uint32_t srq_count;
    uint32_t pd_count;
    uint32_t mr_count;
    uint32_t key_count;
    uint32_t ah_count;
    uint32_t wr_count_max;     /* work requests of a queue */
    uint32_t cqe_count_max;    /* entries of a CQ */
    uint32_t inline_bytes_max; /* of a send work request */
    uint32_t key_segs_max;     /* segments that a key can be bound to */
    uint32_t msg_bytes_max;
    uint8_t sge_max;            /* scatter/gather entries of a work request */
    uint8_t rd_atomic_max;      /* RDMA READs under way as requester, of a QP */
    uint8_t dest_rd_atomic_max; /* and as responder */
    uint8_t path_mtu_max;       /* enum rdma_mtu that the port allows */
    uint8_t key_kind;           /* enum rdma_key_kind */
    bool host_rings;            /* receive rings and CQs may lie in host memory (below) */
};

/* Asynchronous events (IBA 11.6.3). */
#define RDMA_EVENT_LIST(X)                                                      \
    X(COMM_EST, "the first packet arrived at a QP in RTR")                      \
    X(SQ_DRAINED, "a QP in SQD has nothing under way")                          \
    X(LAST_WQE_REACHED, "a QP in error takes no more from its shared queue")    \
    X(SRQ_LIMIT, "a shared receive queue has fewer entries than its limit")     \
    X(QP_FATAL, "a completion could not be written, or our own error: QP died") \
    X(QP_REQ_ERR, "the peer asked for what cannot be: QP died")                 \
    X(QP_ACCESS_ERR, "the peer reached for memory that it may not: QP died")    \
    X(CQ_ERR, "a completion queue overran")                                     \
    X(PORT_ACTIVE, "the link is up")                                            \
    X(PORT_ERR, "the link is down")                                             \
    X(DEVICE_FATAL, "the device is of no more use")

enum rdma_event_type {
#define RDMA_EVENT_ENUM(name, text) RDMA_EVENT_##name,
    RDMA_EVENT_LIST(RDMA_EVENT_ENUM)
#undef RDMA_EVENT_ENUM
};

struct rdma_event {
    enum rdma_event_type type;
    struct rdma_qp *qp; /* what it is about; the others are NULL */
    struct rdma_cq *cq;
    struct rdma_srq *srq;
};

/* Called in a poller's turn, never from inside a verb. Destroys nothing: it notes the fact, and
 * acts later. */
typedef void rdma_event_fn(void *ctx, const struct rdma_event *event);

/* Providers embed this as their first member. */
struct rdma_device {
    const struct rdma_ops *ops;
    const struct rdma_cm_ops *cm_ops; /* rdma/cm.h */
    const char *name;
    uint32_t core; /* the owner */
    struct rdma_device_attr attr;
    rdma_event_fn *event; /* NULL: events are counted only */
    void *event_ctx;
};

/* --- protection domains, memory --------------------------------------------------------------- */

/* A tenant has its own domains: what was made in one is of no use in another (IBA 10.2.3). */
struct rdma_pd {
    struct rdma_device *device;
    uint16_t fn; /* the tenant */
};

/* Access rights. LOCAL_WRITE is needed for REMOTE_WRITE (IBA 10.6.3.1). */
#define RDMA_ACCESS_LOCAL_WRITE  (1u << 0)
#define RDMA_ACCESS_REMOTE_WRITE (1u << 1)
#define RDMA_ACCESS_REMOTE_READ  (1u << 2)

enum rdma_mr_kind {
    RDMA_MR_NIC, /* memory of the NIC: [memory, + len_bytes); its address is the pointer */
    /* Host addresses [host_addr, + len_bytes), through the windows of `view`; each access looks
     * there, so a window that went away is an access error. Frames under way may still be read: a
     * fence deregisters, and is done when that is OK. */
    RDMA_MR_HOST,
};

struct rdma_mr_attr {
    enum rdma_mr_kind kind;
    uint32_t access;
    void *memory;
    struct pcie_ep_view *view; /* of the owner core; outlives the region */
    uint64_t host_addr;
    uint64_t len_bytes;
};

struct rdma_mr {
    struct rdma_pd *pd;
    uint32_t lkey;
    uint32_t rkey;
};

/* A key for the memory of one I/O. Allocated once, bound and invalidated often, with a new value
 * each time: an old value is of no use. While bound, the reference and its segments stay as they
 * are. Addresses under it are `iova` + offset in the reference. */
struct rdma_key {
    struct rdma_pd *pd;
    uint32_t value; /* lkey and rkey, when bound; else the last one */
    bool is_bound;
};

/* --- queues ----------------------------------------------------------------------------------- */

/* Work-completion statuses (IBA 11.6.2; numbers as libibverbs has them). */
#define RDMA_WC_STATUS_LIST(X)                                                         \
    X(SUCCESS, 0, "success")                                                           \
    X(LOC_LEN_ERR, 1, "local length error")                                            \
    X(LOC_QP_OP_ERR, 2, "local QP operation error")                                    \
    X(LOC_PROT_ERR, 4, "local protection error")                                       \
    X(WR_FLUSH_ERR, 5, "flushed")                                                      \
    X(MW_BIND_ERR, 6, "key bind error")                                                \
    X(BAD_RESP_ERR, 7, "bad response")                                                 \
    X(LOC_ACCESS_ERR, 8, "local access error")                                         \
    X(REM_INV_REQ_ERR, 9, "remote invalid request")                                    \
    X(REM_ACCESS_ERR, 10, "remote access error")                                       \
    X(REM_OP_ERR, 11, "remote operation error")                                        \
    X(RETRY_EXC_ERR, 12, "transport retry counter exceeded: the peer does not answer") \
    X(RNR_RETRY_EXC_ERR, 13, "RNR retry counter exceeded: the peer posts no receives") \
    X(FATAL_ERR, 19, "fatal error")                                                    \
    X(GENERAL_ERR, 21, "general error")

enum rdma_wc_status {
#define RDMA_WC_STATUS_ENUM(name, value, text) RDMA_WC_##name = (value),
    RDMA_WC_STATUS_LIST(RDMA_WC_STATUS_ENUM)
#undef RDMA_WC_STATUS_ENUM
};

const char *rdma_wc_status_text(enum rdma_wc_status status);

enum rdma_wc_opcode {
    RDMA_WC_SEND,
    RDMA_WC_RDMA_WRITE,
    RDMA_WC_RDMA_READ,
    RDMA_WC_LOCAL_INV,
    RDMA_WC_BIND,
    RDMA_WC_RECV, /* this and those behind it are receive completions */
    RDMA_WC_RECV_RDMA_WITH_IMM,
};

#define RDMA_WC_WITH_IMM (1u << 0) /* imm holds immediate data */
#define RDMA_WC_WITH_INV (1u << 1) /* imm holds the rkey that the peer invalidated here */
#define RDMA_WC_GRH      (1u << 2) /* the first 40 bytes are a header of the network layer (UD) */

/* On an error only wr_id, status, qp and vendor_err are good. */
struct rdma_wc {
    uint64_t wr_id;
    struct rdma_qp *qp;
    uint32_t len_bytes; /* received, or read */
    uint32_t imm;
    uint32_t src_qpn;   /* UD */
    uint8_t status;     /* enum rdma_wc_status */
    uint8_t opcode;     /* enum rdma_wc_opcode */
    uint8_t flags;      /* RDMA_WC_* */
    uint8_t vendor_err; /* RC: the AETH syndrome that was the cause, or 0 */
};
ASSERT_SIZE(struct rdma_wc, 32);

/* Rings in host memory, where attr.host_rings says so: the ring and the buffers of a receive queue,
 * and a CQ for its completions. Sends, their completions and all state of rings (heads, tails,
 * counts) are NIC memory. The host may change what lies there at any moment; what comes out of it
 * is worth this much:
 *  - a ring entry names one of `slot_count` buffers of equal size and nothing else. One that names
 *    none ends with LOC_PROT_ERR, and the QP dies;
 *  - a completion that rdma_cq_poll() returns is of a living QP of this CQ's domain that lacks one,
 *    its wr_id is a slot, len_bytes fits into the slot, status and opcode exist: else it is
 *    GENERAL_ERR with slot 0, or was dropped since it is nobody's. Both are counted (rdma/soft.h);
 *  - which slot, which status, len_bytes, imm and flags are what the host likes: a slot may come
 *    twice, or never. Whether a key is bound is asked of the key (is_bound).
 * Nothing here looks into windows but the region of the buffers: before the host gets the memory
 * back, QPs, SRQs and CQs over it are destroyed, and its regions deregistered. */
struct rdma_host_recv {
    void *ring;          /* rdma_host_ring_bytes() of the work requests, 64-byte aligned */
    uint64_t slots_addr; /* of slot 0, under lkey; they follow each other */
    uint32_t lkey;       /* LOCAL_WRITE; of the queue's domain */
    uint32_t slot_bytes; /* not 0 */
    uint32_t slot_count; /* not 0 */
};

struct rdma_cq_attr {
    uint32_t entry_count; /* at least; 1..cqe_count_max */
    void *memory;         /* rdma_cq_memory_bytes() of it, 64-byte aligned; stays until destroyed */
    /* NULL: `memory` is the NIC's. Else it is the host's, and the CQ serves receives of host rings
     * of QPs of this domain alone. */
    struct rdma_pd *host_pd;
    void *ctx;
};

struct rdma_cq {
    struct rdma_device *device;
    void *ctx;
};

struct rdma_srq_attr {
    struct rdma_pd *pd;
    uint32_t wr_count;
    uint32_t limit; /* RDMA_EVENT_SRQ_LIMIT once, when fewer are left; 0: never */
    void *memory;   /* rdma_srq_memory_bytes(), as above */
    const struct rdma_host_recv *host_recv; /* not NULL: instead of `memory`; copied */
    void *ctx;
};

struct rdma_srq {
    struct rdma_pd *pd;
    void *ctx;
};

enum rdma_qp_type {
    RDMA_QP_RC,
    RDMA_QP_UD,
    RDMA_QP_GSI, /* QP1: UD with the well-known number; one */
};

/* States of IBA 10.3.1, in libibverbs' order. */
#define RDMA_QP_STATE_LIST(X)                                            \
    X(RESET, "as created: posting is refused")                           \
    X(INIT, "receives can be posted")                                    \
    X(RTR, "ready to receive")                                           \
    X(RTS, "ready to send")                                              \
    X(SQD, "send queue drained: what is under way ends, no more begins") \
    X(SQE, "send queue in error (UD)")                                   \
    X(ERR, "everything is flushed")

enum rdma_qp_state {
#define RDMA_QP_STATE_ENUM(name, text) RDMA_QP_##name,
    RDMA_QP_STATE_LIST(RDMA_QP_STATE_ENUM)
#undef RDMA_QP_STATE_ENUM
};

const char *rdma_qp_state_name(enum rdma_qp_state state);

struct rdma_qp_init_attr {
    enum rdma_qp_type type;
    struct rdma_pd *pd;
    struct rdma_cq *send_cq; /* with room for all work requests of its queues, flushed ones too */
    struct rdma_cq *recv_cq;
    struct rdma_srq *srq;   /* NULL: own receive queue */
    uint32_t send_wr_count; /* rounded up to a power of two */
    uint32_t recv_wr_count; /* 0 with an SRQ */
    uint8_t send_sge_count; /* 1..sge_max */
    uint8_t recv_sge_count;
    bool signal_all; /* every send work request is signalled */
    void *memory;    /* rdma_qp_memory_bytes() of this, 64-byte aligned; stays */
    /* RC without SRQ: the receive queue lies there; copied. NULL: inside of `memory`. */
    const struct rdma_host_recv *host_recv;
    void *ctx;
};

struct rdma_qp {
    struct rdma_pd *pd;
    struct rdma_cq *send_cq;
    struct rdma_cq *recv_cq;
    struct rdma_srq *srq;
    void *ctx;
    uint32_t num;  /* 24 bits, unpredictable; QP1: 1 */
    uint8_t type;  /* enum rdma_qp_type */
    uint8_t state; /* enum rdma_qp_state */
};

enum rdma_mtu {
    RDMA_MTU_256 = 1,
    RDMA_MTU_512,
    RDMA_MTU_1024,
    RDMA_MTU_2048,
    RDMA_MTU_4096,
};

ALWAYS_INLINE uint32_t rdma_mtu_bytes(enum rdma_mtu mtu)
{
    return 128u << mtu;
}

/* Address vector: where packets go. */
struct rdma_av {
    struct net_addr dgid;
    uint8_t sgid_index;    /* net_if_addr() */
    uint8_t traffic_class; /* DSCP; the ECN bits are the provider's */
    uint8_t hop_limit;     /* 0: 64 */
    uint16_t udp_src_port; /* 0xc000..0xffff; 0: chosen from the QP's number */
};

/* Attributes of modify, by bit of the mask; IBA table 92 says which are needed when, and INVALID is
 * the answer when they are not there. */
#define RDMA_QP_STATE              (1u << 0)
#define RDMA_QP_ACCESS             (1u << 1)
#define RDMA_QP_QKEY               (1u << 2)
#define RDMA_QP_AV                 (1u << 3)
#define RDMA_QP_PATH_MTU           (1u << 4)
#define RDMA_QP_TIMEOUT            (1u << 5)
#define RDMA_QP_RETRY_CNT          (1u << 6)
#define RDMA_QP_RNR_RETRY          (1u << 7)
#define RDMA_QP_RQ_PSN             (1u << 8)
#define RDMA_QP_SQ_PSN             (1u << 9)
#define RDMA_QP_DEST_QPN           (1u << 10)
#define RDMA_QP_MAX_RD_ATOMIC      (1u << 11)
#define RDMA_QP_MAX_DEST_RD_ATOMIC (1u << 12)
#define RDMA_QP_MIN_RNR_TIMER      (1u << 13)

struct rdma_qp_attr {
    uint8_t state;  /* enum rdma_qp_state */
    uint8_t access; /* remote rights of RC: RDMA_ACCESS_REMOTE_* */
    uint8_t path_mtu;
    uint8_t timeout;   /* 4.096 us * 2^n, 0..31; 0: none (IBA 9.7.6.1.3) */
    uint8_t retry_cnt; /* 0..7 */
    uint8_t rnr_retry; /* 0..7; 7: for ever */
    uint8_t max_rd_atomic;
    uint8_t max_dest_rd_atomic;
    uint8_t min_rnr_timer; /* 0..31, table 45 */
    uint32_t qkey;
    uint32_t rq_psn; /* 24 bits */
    uint32_t sq_psn;
    uint32_t dest_qpn;
    struct rdma_av av;
};

/* --- work requests ---------------------------------------------------------------------------- */

struct rdma_sge {
    uint64_t addr;
    uint32_t len_bytes;
    uint32_t lkey;
};

enum rdma_wr_opcode {
    RDMA_WR_SEND,
    RDMA_WR_SEND_WITH_IMM,
    RDMA_WR_SEND_WITH_INV,
    RDMA_WR_RDMA_WRITE,
    RDMA_WR_RDMA_WRITE_WITH_IMM,
    RDMA_WR_RDMA_READ,
    RDMA_WR_LOCAL_INV, /* invalidates the key with this value, in its turn */
    RDMA_WR_BIND,      /* binds a key, in its turn: rdma_key_prepare() gave the value before */
};

#define RDMA_SEND_SIGNALED (1u << 0)
/* Begins when all READs before it have ended, LOCAL_INV when everything before it has (10.8.3.3):
 * without, what is sent again after a loss finds its key gone. */
#define RDMA_SEND_FENCE     (1u << 1)
#define RDMA_SEND_SOLICITED (1u << 2)
#define RDMA_SEND_INLINE    (1u << 3) /* the data are copied now, lkey does not matter */

struct rdma_ah;

struct rdma_send_wr {
    uint64_t wr_id;
    const struct rdma_send_wr *next; /* NULL: the last of the chain */
    const struct rdma_sge *sges;     /* read before the call returns */
    uint8_t sge_count;
    uint8_t opcode; /* enum rdma_wr_opcode */
    uint8_t flags;  /* RDMA_SEND_* */
    uint32_t imm;   /* WITH_IMM: the number; WITH_INV, LOCAL_INV: the key's value */
    union {
        struct {
            uint64_t remote_addr;
            uint32_t rkey;
        } rdma;
        struct {
            struct rdma_ah *ah;
            uint32_t remote_qpn;
            uint32_t remote_qkey;
        } ud;
        struct {
            struct rdma_key *key;
            const struct mem_ref *ref; /* stays until the key is invalid and quiet */
            uint64_t iova;
            uint32_t access;
        } bind;
    };
};

struct rdma_recv_wr {
    uint64_t wr_id; /* host ring: the slot */
    const struct rdma_recv_wr *next;
    const struct rdma_sge *sges; /* host ring: not looked at */
    uint8_t sge_count;
};

/* Where a UD work request goes. Its path is found out when it is created; a send over one that is
 * not READY completes with GENERAL_ERR. */
struct rdma_ah {
    struct rdma_pd *pd;
    uint8_t state; /* enum net_path_state */
    void (*changed)(
        struct rdma_ah *ah); /* NULL: nobody; never called from inside rdma_ah_create() */
    void *ctx;
};

/* --- reports ---------------------------------------------------------------------------------- */

#define RDMA_QP_STAT_LIST(X)                                                             \
    X(tx_packets, "packets sent, acknowledgements included")                             \
    X(rx_packets, "packets accepted")                                                    \
    X(tx_bytes, "payload sent")                                                          \
    X(rx_bytes, "payload placed")                                                        \
    X(retransmits, "request packets sent again")                                         \
    X(copies, "payloads copied in order to be sent (sent again, or in too many pieces)") \
    X(timeouts, "no acknowledgement in time")                                            \
    X(nak_seq_rx, "PSN sequence error NAKs received")                                    \
    X(nak_seq_tx, "and sent")                                                            \
    X(rnr_rx, "RNR NAKs received")                                                       \
    X(rnr_tx, "and sent")                                                                \
    X(duplicates, "requests that had been done")                                         \
    X(out_of_order, "packets beyond the one expected")                                   \
    X(cnp_rx, "congestion notifications received")                                       \
    X(cnp_tx, "and sent")                                                                \
    X(window_full, "turns in which the window held sending back")

struct rdma_qp_stats {
#define RDMA_QP_STAT_FIELD(name, text) uint64_t name;
    RDMA_QP_STAT_LIST(RDMA_QP_STAT_FIELD)
#undef RDMA_QP_STAT_FIELD
};

/* A QP as it is now. What a provider cannot know is 0. */
struct rdma_qp_info {
    struct rdma_qp_attr attr;
    struct rdma_qp_stats stats;
    uint32_t send_posted; /* work requests not completed */
    uint32_t recv_posted;
    uint32_t sq_next_psn; /* of the next new packet */
    uint32_t sq_una_psn;  /* oldest not acknowledged */
    uint32_t rq_psn;      /* expected next */
    uint32_t msn;
    uint32_t window_packets;
    uint32_t rate_mbps; /* of the limiter; 0: not limited */
    uint8_t retries_left;
    uint8_t rnr_retries_left;
    uint8_t reads_out; /* READs under way as requester */
    uint8_t reads_in;  /* and as responder */
};

#endif
