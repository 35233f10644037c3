/*
 * What the two halves of connection management share: the calls (ibv_cm.c) and the events
 * (ibv_cm_event.c).
 */
#ifndef NATIVE_IBV_IBV_CM_PRIV_H
#define NATIVE_IBV_IBV_CM_PRIV_H

#include "hal/native/ibv/ibv_cma.h"
#include "hal/native/ibv/ibv_priv.h"
#include "rdma/cm.h"

/* For the neighbour, and for the route. */
#define RDMA_IBV_CM_RESOLVE_MS 2000

struct rdma_ibv_cm_id {
    struct rdma_cm_id base;
    struct rdma_ibv_cma_id *handle;
    struct list link;                /* of all ids */
    struct list owed_link;           /* DISCONNECTED is to be told, though the kernel will not */
    struct rdma_ibv_cm_id *listener; /* REQ_RCVD; NULL: it is gone */
    uint32_t backlog;                /* of a listener ... */
    uint32_t undecided;              /* ... and what its owner has not decided on */
    uint8_t responder_resources;     /* what the queue pair gets at most */
    uint8_t initiator_depth;
};

struct rdma_ibv_cm {
    struct rdma_ibv_device *device;
    struct rdma_ibv_cma_channel *channel;
    struct pool ids;
    struct list all_ids;
    struct list owed;
    void *memory;
};

ALWAYS_INLINE struct rdma_ibv_cm *rdma_ibv_cm_of(const struct rdma_ibv_cm_id *id)
{
    return rdma_ibv_device_of(id->base.device)->cm;
}

/* NULL: all are in use. */
struct rdma_ibv_cm_id *rdma_ibv_cm_id_get(struct rdma_ibv_cm *cm, rdma_cm_event_fn *event,
                                          void *ctx);
void rdma_ibv_cm_id_put(struct rdma_ibv_cm_id *id);
void rdma_ibv_cm_fill_addrs(struct rdma_ibv_cm_id *id);
/* The id's queue pair from INIT to RTS. */
enum status rdma_ibv_cm_qp_connect(struct rdma_ibv_cm_id *id);
/* To ERR, if there is one. */
void rdma_ibv_cm_kill_qp(struct rdma_ibv_cm_id *id);

#endif
