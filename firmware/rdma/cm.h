/*
 * Connection management: finds the way to an address, connects and accepts RC queue pairs, takes
 * them down. The calls have the shape of librdmacm's, events come by callback.
 *
 * A device has one; everything runs on the device's core. The provider for RoCEv2 in software
 * speaks the communication management protocol itself (IBA 12, with the RDMA IP CM service of annex
 * A11) over QP1; the one for libibverbs uses librdmacm.
 *
 * Passive: rdma_cm_listen() -> REQUEST (a new id) -> make a QP, rdma_cm_accept() or
 * rdma_cm_reject()
 *          -> ESTABLISHED ... DISCONNECTED -> rdma_cm_destroy()
 * Active:  rdma_cm_resolve() -> RESOLVED -> make a QP, rdma_cm_connect()
 *          -> ESTABLISHED, REJECTED or UNREACHABLE ... DISCONNECTED -> rdma_cm_destroy()
 *
 * The QP is given in RESET; CM takes it through INIT, RTR and RTS. Receives may be posted from the
 * INIT on that rdma_cm_qp_init() makes, before accept or connect; a peer may send at once.
 */
#ifndef RDMA_CM_H
#define RDMA_CM_H

#include <stdbool.h>
#include <stdint.h>
#include "base/compiler.h"
#include "base/status.h"
#include "net/net.h"
#include "rdma/types.h"

/* Private data that a caller can put into a message; REQ: less by the IP CM header (A11.3). */
#define RDMA_CM_REQ_PRIVATE_BYTES 56
#define RDMA_CM_REP_PRIVATE_BYTES 196
#define RDMA_CM_REJ_PRIVATE_BYTES 148

/* States of an id, for reports. */
#define RDMA_CM_STATE_LIST(X)                                      \
    X(IDLE, "made, nothing asked")                                 \
    X(LISTEN, "takes requests")                                    \
    X(RESOLVING, "the neighbour is being asked")                   \
    X(RESOLVED, "may connect")                                     \
    X(REQ_SENT, "connection request sent, no reply yet")           \
    X(REQ_RCVD, "request received, its owner has not decided")     \
    X(REP_SENT, "accepted, the peer has not confirmed")            \
    X(ESTABLISHED, "connected")                                    \
    X(DREQ_SENT, "disconnect requested, no answer yet")            \
    X(TIMEWAIT, "over; late packets die out before the id may go") \
    X(DEAD, "over")

enum rdma_cm_state {
#define RDMA_CM_STATE_ENUM(name, text) RDMA_CM_##name,
    RDMA_CM_STATE_LIST(RDMA_CM_STATE_ENUM)
#undef RDMA_CM_STATE_ENUM
};

const char *rdma_cm_state_name(enum rdma_cm_state state);

/* Reasons of a rejection (IBA table 108), those that are made or looked at here. */
enum rdma_cm_reject {
    RDMA_CM_REJ_NO_RESOURCES = 3,
    RDMA_CM_REJ_TIMEOUT = 4,
    RDMA_CM_REJ_UNSUPPORTED = 5,
    RDMA_CM_REJ_INVALID_COMM_ID = 6,
    RDMA_CM_REJ_INVALID_SERVICE_ID = 8,
    RDMA_CM_REJ_INVALID_TRANSPORT = 9,
    RDMA_CM_REJ_STALE_CONN = 10,
    RDMA_CM_REJ_INVALID_MTU = 26,
    RDMA_CM_REJ_CONSUMER = 28,
};

enum rdma_cm_event_type {
    RDMA_CM_EVENT_RESOLVED,
    RDMA_CM_EVENT_UNREACHABLE, /* nobody answered: neighbour, or the peer's CM */
    RDMA_CM_EVENT_REQUEST, /* id: a new one, the callback's from now on; listener: the old one */
    RDMA_CM_EVENT_ESTABLISHED,
    RDMA_CM_EVENT_REJECTED,      /* reason */
    RDMA_CM_EVENT_DISCONNECTED,  /* by the peer, or our own disconnect ended. The QP is in ERR */
    RDMA_CM_EVENT_TIMEWAIT_EXIT, /* nothing of the connection is left anywhere */
};

struct rdma_cm_id;

struct rdma_cm_event {
    enum rdma_cm_event_type type;
    struct rdma_cm_id *listener; /* REQUEST */
    const uint8_t
        *private_data;      /* REQUEST, ESTABLISHED (active side), REJECTED; until the return */
    uint32_t private_bytes; /* what the message has room for: padding is zero */
    uint32_t reason;        /* REJECTED, and DISCONNECTED by a rejection: enum rdma_cm_reject or
                               another number of the peer */
    uint8_t responder_resources; /* REQUEST, ESTABLISHED: READs that we may have to serve ... */
    uint8_t initiator_depth;     /* ... and that we may have under way; what both sides agreed on */
};

/* In a turn of a poller or timer of the device's core, never from inside a call of this header. The
 * id that it is about may be destroyed in it. */
typedef void rdma_cm_event_fn(struct rdma_cm_id *id, const struct rdma_cm_event *event);

/* The fields are the id's owner's to read, ctx also to write. */
struct rdma_cm_id {
    struct rdma_device *device;
    rdma_cm_event_fn *event;
    void *ctx;
    struct rdma_qp *qp;   /* given by accept or connect; stays the caller's */
    struct net_addr peer; /* remote address and port */
    uint16_t peer_port;
    struct net_addr local;
    uint16_t local_port; /* where it listens, or the port that the peer wanted */
    uint8_t state;       /* enum rdma_cm_state */
};

struct rdma_cm_param {
    struct rdma_qp *qp;
    const void *private_data;
    uint32_t private_bytes;      /* at most RDMA_CM_*_PRIVATE_BYTES of the message */
    uint8_t responder_resources; /* READs of the peer that we serve at once; capped by the device */
    uint8_t initiator_depth;     /* READs of ours */
    uint8_t retry_count;         /* 0..7; connect: of both sides, accept: not looked at */
    uint8_t rnr_retry_count;     /* 0..7, 7: for ever */
    uint8_t access;              /* RDMA_ACCESS_REMOTE_* of the QP */
};

struct rdma_cm_ops {
    enum status (*listen)(struct rdma_device *device, const struct net_addr *addr, uint16_t port,
                          uint32_t backlog, rdma_cm_event_fn *event, void *ctx,
                          struct rdma_cm_id **out);
    enum status (*resolve)(struct rdma_device *device, const struct net_addr *dst, uint16_t port,
                           rdma_cm_event_fn *event, void *ctx, struct rdma_cm_id **out);
    enum status (*qp_init)(struct rdma_cm_id *id, struct rdma_qp *qp, uint8_t access);
    enum status (*connect)(struct rdma_cm_id *id, const struct rdma_cm_param *param);
    enum status (*accept)(struct rdma_cm_id *id, const struct rdma_cm_param *param);
    enum status (*reject)(struct rdma_cm_id *id, const void *private_data, uint32_t private_bytes);
    enum status (*disconnect)(struct rdma_cm_id *id);
    void (*destroy)(struct rdma_cm_id *id);
    void (*visit)(struct rdma_device *device, void (*visit)(const struct rdma_cm_id *id, void *ctx),
                  void *ctx);
};

/* Requests for `port` (the RDMA_PS_TCP space: service id 0x0000000001060000 + port), at the address
 * or, zero, at all of ours. `backlog`: undecided requests, 1..64; more are rejected with
 * NO_RESOURCES. INVALID: port 0, the backlog, an address that is not ours. EXISTS: somebody listens
 * there. NO_SPACE: out of ids. */
MUST_USE ALWAYS_INLINE enum status rdma_cm_listen(struct rdma_device *device,
                                                  const struct net_addr *addr, uint16_t port,
                                                  uint32_t backlog, rdma_cm_event_fn *event,
                                                  void *ctx, struct rdma_cm_id **out)
{
    return device->cm_ops->listen(device, addr, port, backlog, event, ctx, out);
}

/* A new id, on its way to dst: RESOLVED or UNREACHABLE follows. NOT_FOUND: no route. NO_SPACE. */
MUST_USE ALWAYS_INLINE enum status rdma_cm_resolve(struct rdma_device *device,
                                                   const struct net_addr *dst, uint16_t port,
                                                   rdma_cm_event_fn *event, void *ctx,
                                                   struct rdma_cm_id **out)
{
    return device->cm_ops->resolve(device, dst, port, event, ctx, out);
}

/* Takes the QP from RESET to INIT, so that receives can be posted before accept or connect (which
 * do it when it was not done). INVALID: no QP, one of another connection, the id's state. AGAIN: a
 * connection of the QP's number is in time wait. */
MUST_USE ALWAYS_INLINE enum status rdma_cm_qp_init(struct rdma_cm_id *id, struct rdma_qp *qp,
                                                   uint8_t access)
{
    return id->device->cm_ops->qp_init(id, qp, access);
}

/* In RESOLVED. INVALID: state, private data too long, a retry count, no QP; AGAIN as qp_init. */
MUST_USE ALWAYS_INLINE enum status rdma_cm_connect(struct rdma_cm_id *id,
                                                   const struct rdma_cm_param *param)
{
    return id->device->cm_ops->connect(id, param);
}

/* In REQ_RCVD. The same; ESTABLISHED follows when the peer has confirmed or its first packet came,
 * DISCONNECTED if it never does. */
MUST_USE ALWAYS_INLINE enum status rdma_cm_accept(struct rdma_cm_id *id,
                                                  const struct rdma_cm_param *param)
{
    return id->device->cm_ops->accept(id, param);
}

/* In REQ_RCVD: refuses (reason CONSUMER) and leaves the id to be destroyed. */
MUST_USE ALWAYS_INLINE enum status rdma_cm_reject(struct rdma_cm_id *id, const void *private_data,
                                                  uint32_t private_bytes)
{
    return id->device->cm_ops->reject(id, private_data, private_bytes);
}

/* In ESTABLISHED: takes the QP to ERR, tells the peer; DISCONNECTED follows in any case. INVALID:
 * not connected. */
MUST_USE ALWAYS_INLINE enum status rdma_cm_disconnect(struct rdma_cm_id *id)
{
    return id->device->cm_ops->disconnect(id);
}

/* Any state; no event follows. A connection ends as by disconnect, an undecided request is
 * rejected; what the protocol still owes is done by CM alone. The QP must be destroyed after it, or
 * have been before. */
ALWAYS_INLINE void rdma_cm_destroy(struct rdma_cm_id *id)
{
    id->device->cm_ops->destroy(id);
}

/* For reports: each id, those in TIMEWAIT too. */
ALWAYS_INLINE void rdma_cm_visit(struct rdma_device *device,
                                 void (*visit)(const struct rdma_cm_id *id, void *ctx), void *ctx)
{
    device->cm_ops->visit(device, visit, ctx);
}

#endif
