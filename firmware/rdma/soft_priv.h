/*
 * Inside of the provider in software.
 *
 * A packet that arrives: soft_rx.c checks it and finds the QP; requests go to soft_resp.c,
 * responses to soft_comp.c. A packet that leaves: soft_work() takes the QPs that have something to
 * say in turn: responses first (soft_read.c), then requests (soft_req.c); soft_tx.c builds it.
 *
 * When may the caller have his memory back? Every frame that points at memory has a sequence number
 * (net_send()). A work request remembers the last one that pointed at its data, and so does the
 * region that was used: they are done when net_tx_done_seq() has reached it.
 */
#ifndef RDMA_SOFT_PRIV_H
#define RDMA_SOFT_PRIV_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include "base/assert.h"
#include "base/bits.h"
#include "base/counter.h"
#include "base/list.h"
#include "base/pool.h"
#include "base/stage.h"
#include "rdma/soft.h"
#include "rdma/verbs.h"
#include "sched/sched.h"
#include "spec/roce.h"

struct soft_device;
struct soft_qp;

#define SOFT_QP1          1u
#define SOFT_QPN_MASK     0xffffffu
#define SOFT_GRH_BYTES    40u /* in front of what a UD QP receives */
#define SOFT_PACKETS_TURN 16u /* of one QP before the next has its turn */
#define SOFT_ACK_EVERY    (RDMA_SOFT_WINDOW_PACKETS / 4) /* request packets between two AckReq */
/* Payloads up to here are copied behind the headers: cheaper than a descriptor. */
#define SOFT_COPY_BYTES 128u
/* Segments of a frame's payload: one is the headers', one the ICRC's. */
#define SOFT_TX_SEGS (ETH_TX_SEGS - 2)

extern const uint16_t soft_op_flags[256]; /* ROCE_OP_*; 0: not one of ours */
extern const uint32_t soft_rnr_timer_us[32];

/* --- events: delivered by the poller ---------------------------------------------------------- */

/* Beside those of the list: the first packet of a peer, for the CM. */
#define SOFT_EVENT_CM_TYPE 31
#define SOFT_EVENT_CM      (1u << SOFT_EVENT_CM_TYPE)

/* In each object that can have one. */
struct soft_event {
    struct list link;
    uint32_t bits; /* 1 << enum rdma_event_type */
    struct rdma_qp *qp;
    struct rdma_cq *cq;
    struct rdma_srq *srq;
};

/* --- regions: MRs and keys in one table (soft_mem.c) ------------------------------------------ */

struct soft_pd {
    struct rdma_pd pd; /* first */
    uint32_t use_count;
};

enum soft_region_kind {
    SOFT_REGION_FREE,
    SOFT_REGION_NIC,
    SOFT_REGION_HOST,
    SOFT_REGION_KEY, /* bound or not: `is_valid` */
};

/* A key's value is tag << 16 | index of the region; index 0 is never used, tags are random. */
struct soft_region {
    union {
        struct rdma_mr mr; /* NIC, HOST */
        struct rdma_key key;
    };
    uint64_t base; /* first address under the key: pointer, host address or iova */
    uint64_t len_bytes;
    union {
        struct pcie_ep_view *view; /* HOST */
        struct {
            const struct mem_ref *ref; /* KEY */
            uint32_t cursor_seg;       /* where the last access ended: most begin there */
            uint32_t cursor_bytes;     /* offset of that segment in the reference */
        };
    };
    uint64_t tx_seq;     /* last frame that points at its memory */
    uint32_t value;      /* while is_valid */
    uint32_t cancels;    /* KEY: rdma_key_invalidate() calls: binds posted before are void */
    uint32_t next_value; /* KEY: what key_prepare() promised; 0: nothing */
    uint8_t kind;        /* enum soft_region_kind */
    uint8_t access;
    bool is_valid;
};

/* What an access under a key means. */
struct soft_span {
    uint64_t addr; /* under the key */
    uint32_t len_bytes;
    uint32_t value;
    uint32_t access; /* RDMA_ACCESS_*: all must be granted; 0: local read */
};

#define SOFT_VALUE_INDEX 0xffffu

/* Counts; returns NULL. */
struct soft_region *soft_region_refuse(struct soft_device *dev);

/* Segments of [addr, addr + len_bytes) of a checked region, at most `max`; returns the bytes that
 * they hold: fewer when there are more segments, 0 when a window is gone. */
uint32_t soft_region_segs_any(struct soft_region *region, uint64_t addr, uint32_t len_bytes,
                              bool for_write, struct mem_seg *segs, uint32_t max, uint32_t *count);
ALWAYS_INLINE uint32_t soft_region_segs(struct soft_region *region, uint64_t addr,
                                        uint32_t len_bytes, bool for_write, struct mem_seg *segs,
                                        uint32_t max, uint32_t *count)
{
    if (LIKELY(region->kind == SOFT_REGION_NIC && len_bytes != 0 && max != 0)) {
        segs[0] = (struct mem_seg){.bus_addr = addr, .len_bytes = len_bytes};
        *count = 1;
        return len_bytes;
    }
    return soft_region_segs_any(region, addr, len_bytes, for_write, segs, max, count);
}

/* --- completion queues (soft_cq.c) ------------------------------------------------------------ */

struct soft_cq {
    struct rdma_cq cq; /* first */
    struct rdma_wc *wcs;
    uint32_t mask;
    uint32_t wcs_mask;  /* the same; 0 for a host ring, whose `wcs` is but `host_wc` */
    uint32_t head;      /* written next, free running */
    uint32_t tail;      /* read next */
    uint32_t use_count; /* QPs */
    bool has_overrun;
    struct soft_event event;
    struct soft_host_cqe *host_cqes; /* NULL: no host ring */
    struct rdma_pd *host_pd;
    struct rdma_wc host_wc; /* the completion under way to it */
};

/* --- receive queues --------------------------------------------------------------------------- */

struct soft_recv_wqe {
    uint64_t wr_id;
    uint32_t sge_count;
    uint32_t len_bytes;
    struct rdma_sge sges[RDMA_SOFT_SGES];
};

struct soft_recv_ring {
    struct soft_recv_wqe *wqes; /* NULL: host ring */
    uint32_t mask;
    uint32_t head;
    uint32_t tail;
    struct rdma_host_recv host;
};

struct soft_srq {
    struct rdma_srq srq; /* first */
    struct soft_recv_ring ring;
    uint32_t limit; /* 0: not armed */
    uint32_t use_count;
    struct soft_event event;
};

/* --- send queue ------------------------------------------------------------------------------- */

struct soft_send_wqe {
    uint64_t wr_id;
    union {
        struct rdma_sge sges[RDMA_SOFT_SGES];
        uint8_t inline_data[RDMA_SOFT_INLINE_BYTES];
        struct {
            struct rdma_key *key;
            const struct mem_ref *ref;
            uint32_t access;
            uint32_t cancels; /* of the key when it was posted */
        } bind;
    };
    union {
        uint64_t remote_addr; /* RDMA; bind: iova */
        struct rdma_ah *ah;   /* UD */
    };
    uint32_t rkey; /* RDMA; UD: qkey */
    uint32_t imm;  /* immediate data, or the key to invalidate; UD: kept apart in remote_qpn */
    uint32_t remote_qpn;
    uint32_t len_bytes;
    uint32_t first_psn; /* once begun */
    uint32_t last_psn;
    uint64_t tx_seq;
    uint8_t opcode; /* enum rdma_wr_opcode */
    uint8_t flags;  /* RDMA_SEND_* */
    uint8_t sge_count;
    uint8_t status; /* enum rdma_wc_status that it will have; WR_FLUSH_ERR until decided */
    uint8_t vendor_err;
    bool is_begun; /* has PSNs, or was executed */
    bool is_local; /* no packets: bind, invalidate */
};

/* --- responder: READs that were asked for ----------------------------------------------------- */

struct soft_read {
    uint64_t va;
    uint32_t rkey;
    uint32_t len_bytes;
    uint32_t first_psn;
    uint32_t last_psn;
    uint32_t msn;       /* with it (9.7.7.1) */
    uint32_t begin_psn; /* of the answer under way, which may be a part, repeated */
    uint32_t end_psn;   /* its last response */
    uint32_t end_bytes; /* where it ends in the READ */
    uint32_t send_psn;  /* next response; behind end_psn: all sent */
    bool is_new;        /* was never answered in whole: counts against max_dest_rd_atomic */
    bool is_repeat;     /* payloads are copied before they are sent */
    bool is_valid;
};

/* Steps of the responder for one request packet; each function returns the next. */
#define SOFT_RESP_LIST(X)                                        \
    X(PSN, "expected, early or late?")                           \
    X(SEQUENCE, "does the opcode follow on the one before?")     \
    X(RESOURCE, "is there a receive, is there room for a READ?") \
    X(LENGTH, "does the payload have the length that it must?")  \
    X(KEY, "may the peer reach that memory?")                    \
    X(EXECUTE, "place the data, or note the READ")               \
    X(COMPLETE, "end of a message: completion, MSN")             \
    X(REPEAT, "a request that was done already")                 \
    X(DONE, "nothing more to do with this packet")

enum soft_resp {
#define SOFT_RESP_ENUM(name, text) SOFT_RESP_##name,
    SOFT_RESP_LIST(SOFT_RESP_ENUM)
#undef SOFT_RESP_ENUM
};

/* --- queue pairs ------------------------------------------------------------------------------ */

struct soft_requester {
    struct soft_send_wqe *wqes;
    uint32_t mask;
    uint32_t head; /* posted */
    uint32_t next; /* being sent */
    uint32_t una;  /* oldest that is not acknowledged */
    uint32_t tail; /* oldest without completion */

    uint32_t next_psn; /* for the next work request that begins */
    uint32_t send_psn; /* of the next packet; behind max_psn: it is sent again */
    uint32_t max_psn;  /* behind the last ever sent */
    uint32_t una_psn;
    uint32_t since_ack_req; /* packets */

    uint8_t retries_left;
    uint8_t rnr_left;
    uint8_t reads_out;
    bool has_local_error; /* wqes[next] failed here: it ends when those before have */
    bool is_paused;       /* RNR: until rnr_until_ns */
    bool window_is_full;
    bool went_back;  /* since the last progress */
    bool is_drained; /* SQD: told */
    uint64_t rto_ns; /* deadline of the oldest packet; 0: none */
    uint64_t rnr_until_ns;
    uint64_t rto_duration_ns; /* of attr.timeout; 0: none */
};

struct soft_responder {
    uint32_t psn; /* expected */
    uint32_t msn;
    uint32_t ack_psn; /* newest packet done that is no READ request: an ACK names no other */
    uint32_t ack_msn;
    uint32_t dropped_psn; /* the last one behind the gap that nak_due is about */
    bool ack_due;
    bool nak_sent; /* one NAK for a gap, until the expected packet comes */
    bool is_in_message;
    bool has_wqe;
    uint16_t message_flags; /* ROCE_OP_SEND or _WRITE of the message under way */
    bool is_closing;        /* dies of closing_event when READs are answered and the NAK has left */
    uint8_t closing_event;
    uint8_t nak_due;      /* syndrome to be sent with ack_due; 0: a plain ACK */
    uint32_t done_bytes;  /* of the message */
    uint32_t write_bytes; /* WRITE: RETH length */
    uint32_t write_rkey;
    uint64_t write_va;
    struct soft_recv_wqe wqe; /* taken for the message under way */

    struct soft_read reads[RDMA_SOFT_READS];
    uint32_t read_head; /* noted, free running */
    uint32_t read_next; /* being answered */
};

/* DCQCN (Zhu et al., SIGCOMM 2015), with its usual parameters: soft_rate.c. */
struct soft_rate {
    uint64_t epoch_ns; /* measured while not limited: what the peer gets now */
    uint64_t epoch_bytes;
    uint64_t next_tx_ns;   /* the limiter: no packet before */
    uint64_t raise_ns;     /* when the rate is raised next */
    uint64_t cut_ns;       /* of the last cut */
    uint32_t current_mbps; /* 0: not limited */
    uint32_t target_mbps;
    uint32_t alpha_1024;
    uint32_t rounds;
    bool requests_first; /* in the next turn; else responses */
};

struct soft_qp {
    struct rdma_qp qp; /* first */
    struct soft_device *dev;
    struct list active_link; /* has something to send */
    struct list ack_link;    /* owes an acknowledgement */
    struct list reap_link;   /* completions wait for the device to let go of frames */
    struct soft_event event;
    struct timer timer;

    struct rdma_qp_attr attr;
    uint32_t mtu_bytes;
    struct net_path path;
    struct soft_requester req;
    struct soft_responder resp;
    struct soft_recv_ring rq;
    struct soft_rate rate;
    uint64_t tx_seq; /* last frame that points at memory of one of its work requests */
    uint64_t cnp_ns; /* when the last CNP was sent */
    uint32_t index;
    bool is_used;
    bool is_dying; /* destroyed, but for frames under way */
    bool signal_all;
    bool comm_est;   /* told */
    bool rate_waits; /* for rate.next_tx_ns */
    uint8_t send_sge_count;
    uint8_t recv_sge_count;
    uint32_t host_cqe_count; /* of it, in a CQ in host memory */
    struct rdma_qp_stats stats;
};

struct soft_ah {
    struct rdma_ah ah; /* first */
    struct net_path path;
    struct list link; /* a change to be told */
    bool is_used;
};

/* --- device ----------------------------------------------------------------------------------- */

struct soft_device {
    struct rdma_device device; /* first */
    struct net_if *nif;
    struct rng *rng;
    bool ecn;
    struct poller poller;
    struct list active;
    struct list acks;
    struct list reaps;
    struct list events;
    struct list ah_changes;
    struct soft_event event; /* of the port */
    bool link_up;

    struct soft_qp *qps; /* [0] is QP1 */
    uint32_t qp_index_bits;
    struct soft_region *regions;
    uint32_t region_count; /* [0] is never used */
    struct soft_cq *cqs;
    struct soft_srq *srqs;
    struct soft_pd *pds;
    struct soft_ah *ahs;
    struct pool qp_pool;
    struct pool region_pool; /* MRs */
    struct pool key_pool;
    struct pool cq_pool;
    struct pool srq_pool;
    struct pool pd_pool;
    struct pool ah_pool;
    bool has_cm;
    struct rdma_soft_stats stats;
};

ALWAYS_INLINE struct soft_qp *soft_qp_of(struct rdma_qp *qp)
{
    return (struct soft_qp *)(void *)qp;
}
ALWAYS_INLINE struct soft_cq *soft_cq_of(struct rdma_cq *cq)
{
    return (struct soft_cq *)(void *)cq;
}
ALWAYS_INLINE struct soft_srq *soft_srq_of(struct rdma_srq *srq)
{
    return (struct soft_srq *)(void *)srq;
}
ALWAYS_INLINE struct soft_device *soft_device_of(struct rdma_device *device)
{
    return (struct soft_device *)(void *)device;
}
ALWAYS_INLINE struct soft_send_wqe *soft_wqe(struct soft_qp *qp, uint32_t index)
{
    return &qp->req.wqes[index & qp->req.mask];
}
/* Checks an access against key, domain, rights and range. NULL: refused. */
ALWAYS_INLINE struct soft_region *
soft_region_find(struct soft_device *dev, const struct rdma_pd *pd, const struct soft_span *span)
{
    uint32_t index = span->value & SOFT_VALUE_INDEX;

    if (LIKELY(index < dev->region_count)) {
        struct soft_region *region = &dev->regions[index];
        if (LIKELY(region->is_valid && region->value == span->value && region->mr.pd == pd &&
                   (span->access & ~(uint32_t)region->access) == 0 &&
                   range_fits(span->addr - region->base, span->len_bytes, region->len_bytes))) {
            return region;
        }
    }
    return NULL;
}
/* Counts refusals, too. */
ALWAYS_INLINE struct soft_region *
soft_region_check(struct soft_device *dev, const struct rdma_pd *pd, const struct soft_span *span)
{
    struct soft_region *region = soft_region_find(dev, pd, span);

    return LIKELY(region != NULL) ? region : soft_region_refuse(dev);
}
void soft_rate_count(struct soft_qp *qp, uint32_t frame_bytes); /* soft_rate.c */
/* A packet left that counts for the rate. Without notifications there is never a limit. */
ALWAYS_INLINE void soft_rate_sent(struct soft_qp *qp, uint32_t frame_bytes)
{
    if (UNLIKELY(qp->dev->ecn)) {
        soft_rate_count(qp, frame_bytes);
    }
}
/* What happened to those before it decides. */
ALWAYS_INLINE void soft_forget_local_error(struct soft_qp *qp)
{
    if (UNLIKELY(qp->req.has_local_error)) {
        qp->req.has_local_error = false;
        soft_wqe(qp, qp->req.next)->status = RDMA_WC_WR_FLUSH_ERR;
    }
}

ALWAYS_INLINE struct soft_recv_ring *soft_recv_ring_of(struct soft_qp *qp)
{
    return qp->qp.srq != NULL ? &soft_srq_of(qp->qp.srq)->ring : &qp->rq;
}

/* Packets of a message, or of the answer to a READ. */
ALWAYS_INLINE uint32_t soft_packet_count(const struct soft_qp *qp, uint32_t len_bytes)
{
    return len_bytes == 0 ? 1 : (len_bytes - 1) / qp->mtu_bytes + 1;
}

/* Entries of a ring for `count`. */
ALWAYS_INLINE uint32_t soft_ring_entries(uint32_t count)
{
    return count <= 1 ? 1 : 1u << (32 - __builtin_clz(count - 1));
}

/* --- what the parts call of each other -------------------------------------------------------- */

/* soft.c */
void soft_qp_activate(struct soft_qp *qp); /* it has something to send */
/* `type`: enum rdma_event_type or SOFT_EVENT_CM_TYPE. */
void soft_event_raise(struct soft_device *dev, struct soft_event *event, uint32_t type);

/* soft_mem.c */
enum status soft_pd_alloc(struct rdma_device *device, uint16_t fn, struct rdma_pd **out);
enum status soft_pd_free(struct rdma_pd *pd);
/* Somebody uses the domain, or no more. */
void soft_pd_use(struct rdma_pd *pd, bool more);
enum status soft_mr_reg(struct rdma_pd *pd, const struct rdma_mr_attr *attr, struct rdma_mr **out);
enum status soft_mr_dereg(struct rdma_mr *mr);
enum status soft_key_alloc(struct rdma_pd *pd, struct rdma_key **out);
enum status soft_key_free(struct rdma_key *key);
uint32_t soft_key_prepare(struct rdma_key *key);
enum status soft_key_bind(struct rdma_key *key, const struct mem_ref *ref, uint64_t iova,
                          uint32_t access);
void soft_key_invalidate(struct rdma_key *key);
bool soft_key_is_quiet(const struct rdma_key *key);
/* Changes with each soft_key_invalidate(). */
uint32_t soft_key_cancels(const struct rdma_key *key);
/* Invalidates the key with this value in the domain, as a peer or a work request asks. False: there
 * is none. *tx_seq: when it is quiet. */
bool soft_key_invalidate_value(struct soft_device *dev, const struct rdma_pd *pd, uint32_t value,
                               uint64_t *tx_seq);

/* soft_cq.c */
uint64_t soft_cq_memory_bytes(const struct rdma_device *device, uint32_t entry_count);
enum status soft_cq_create(struct rdma_device *device, const struct rdma_cq_attr *attr,
                           struct rdma_cq **out);
enum status soft_cq_destroy(struct rdma_cq *cq);
uint32_t soft_cq_poll(struct rdma_cq *cq, struct rdma_wc *wcs, uint32_t max);
/* Where the next completion goes, to be filled in; NULL: overrun, the QP must die. For a host ring
 * that is `host_wc`, and soft_host_push() has to follow. */
struct rdma_wc *soft_cq_push(struct soft_cq *cq);
void soft_cq_purge(struct soft_cq *cq, struct rdma_qp *qp);
uint64_t soft_srq_memory_bytes(const struct rdma_device *device, uint32_t wr_count);
enum status soft_srq_create(const struct rdma_srq_attr *attr, struct rdma_srq **out);
enum status soft_srq_destroy(struct rdma_srq *srq);
enum status soft_srq_post(struct rdma_srq *srq, const struct rdma_recv_wr *wr,
                          const struct rdma_recv_wr **bad);

/* soft_host.c: rings in host memory */
bool soft_host_recv_is_valid(const struct rdma_host_recv *host);
enum status soft_host_post(struct soft_device *dev, struct soft_recv_ring *ring,
                           const struct rdma_recv_wr *wr, const struct rdma_recv_wr **bad);
/* The oldest entry of the ring, which has one. */
void soft_host_take(struct soft_device *dev, struct soft_recv_ring *ring,
                    struct soft_recv_wqe *wqe);
void soft_host_push(struct soft_qp *qp);
uint32_t soft_host_poll(struct soft_cq *cq, struct rdma_wc *wcs, uint32_t max);
void soft_host_purge(struct soft_cq *cq, struct soft_qp *qp);

/* soft_qp.c */
uint64_t soft_qp_memory_bytes(const struct rdma_device *device,
                              const struct rdma_qp_init_attr *attr);
enum status soft_qp_create(const struct rdma_qp_init_attr *attr, struct rdma_qp **out);
enum status soft_qp_destroy(struct rdma_qp *qp);
void soft_qp_query(const struct rdma_qp *qp, struct rdma_qp_info *info);
void soft_qp_visit(struct rdma_device *device, void (*visit)(struct rdma_qp *qp, void *ctx),
                   void *ctx);
/* To ERR: nothing is sent or taken any more, receives are flushed; soft_complete() then flushes
 * what was to be sent. Harmless in ERR and RESET. */
void soft_qp_stop(struct soft_qp *qp);
/* Both. */
void soft_qp_error(struct soft_qp *qp);
/* Forgets all work without completions. */
void soft_qp_clear(struct soft_qp *qp);

/* soft_modify.c */
/* Asks for the neighbour anew after the path failed. */
bool soft_path_reopen(struct soft_qp *qp);
enum status soft_qp_modify(struct rdma_qp *qp, const struct rdma_qp_attr *attr, uint32_t mask);

/* soft_post.c */
enum status soft_post_send(struct rdma_qp *qp, const struct rdma_send_wr *wr,
                           const struct rdma_send_wr **bad);
enum status soft_post_recv(struct rdma_qp *qp, const struct rdma_recv_wr *wr,
                           const struct rdma_recv_wr **bad);
enum status soft_recv_ring_post(struct soft_device *dev, struct soft_recv_ring *ring,
                                uint32_t sge_max, const struct rdma_recv_wr *wr,
                                const struct rdma_recv_wr **bad);

/* soft_req.c: the requester sends. Returns packets. */
uint32_t soft_request(struct soft_qp *qp, uint32_t budget);
/* There is something that it could send now. */
bool soft_request_waits(const struct soft_qp *qp);
/* Goes back to una_psn, as after a gap or a time-out. */
void soft_request_again(struct soft_qp *qp);
/* The work request at `una` failed: it and all behind it end. */
void soft_request_fail(struct soft_qp *qp, enum rdma_wc_status status, uint8_t vendor_err);
void soft_timer_fired(struct timer *timer);
void soft_timer_update(struct soft_qp *qp); /* after a deadline was set */

/* soft_comp.c: what comes back to the requester */
struct soft_packet;
void soft_complete_packet(struct soft_qp *qp, const struct soft_packet *packet);
/* Moves `una` over what needs no packets; then completions as far as the device let go. */
void soft_complete(struct soft_qp *qp);

/* soft_resp.c: the responder */
void soft_respond_packet(struct soft_qp *qp, const struct soft_packet *packet);
void soft_respond_acks(struct soft_device *dev); /* the batch is over: acknowledge */
/* No READ waits to be answered any more: an acknowledgement that waited for that is due. */
void soft_respond_reads_done(struct soft_qp *qp);
/* Memory that a READ names is out of reach now: the peer hears it at this response. */
void soft_respond_refuse_read(struct soft_qp *qp, uint32_t psn);
/* Flushes receives. */
void soft_respond_flush(struct soft_qp *qp);
bool soft_respond_place(struct soft_qp *qp, const struct rdma_sge *sges, uint32_t sge_count,
                        uint32_t offset_bytes, const uint8_t *from, uint32_t len_bytes);

/* soft_read.c: responses to READs */
bool soft_read_has_room(struct soft_qp *qp); /* for one READ more (9.7.4.1.4) */
enum soft_resp soft_read_note(struct soft_qp *qp, const struct soft_packet *packet);
enum soft_resp soft_read_repeat(struct soft_qp *qp, const struct soft_packet *packet);
uint32_t soft_read_respond(struct soft_qp *qp, uint32_t budget);
ALWAYS_INLINE bool soft_read_waits(const struct soft_qp *qp)
{
    return qp->resp.read_next != qp->resp.read_head;
}

/* soft_ud.c */
uint32_t soft_ud_send(struct soft_qp *qp, uint32_t budget);
void soft_ud_receive(struct soft_qp *qp, const struct soft_packet *packet);
enum status soft_ah_create(struct rdma_pd *pd, const struct rdma_av *av, struct rdma_ah **out);
void soft_ah_destroy(struct rdma_ah *ah);
enum status soft_path_config(struct soft_device *dev, const struct rdma_av *av, uint32_t qpn,
                             struct net_path_config *config);

/* soft_rate.c */
void soft_rate_notified(struct soft_qp *qp); /* a CNP came */
/* May a packet leave now? False: the timer is armed. */
bool soft_rate_allows(struct soft_qp *qp);
void soft_rate_reset(struct soft_qp *qp);

void soft_rx(void *ctx, const struct net_rx *rx); /* soft_rx.c */
void soft_icrc_init(void);                        /* once before all else */

#endif
