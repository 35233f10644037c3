/*
 * librdmacm without its names: it and rdma/cm.h both have a struct rdma_cm_id, so no source file
 * includes both. This header is what is between them; nothing here knows the contract.
 *
 * Everything but the events is a command to the kernel and done when it returns. Results are 0 or
 * an error number, positive.
 */
#ifndef NATIVE_IBV_IBV_CMA_H
#define NATIVE_IBV_IBV_CMA_H

#include <infiniband/verbs.h>
#include <stdbool.h>
#include <stdint.h>
#include "net/net.h"

struct rdma_ibv_cma_channel;
struct rdma_ibv_cma_id;

enum rdma_ibv_cma_type {
    RDMA_IBV_CMA_ADDR_RESOLVED,
    RDMA_IBV_CMA_ROUTE_RESOLVED,
    RDMA_IBV_CMA_FAILED, /* resolving, or nobody answers */
    RDMA_IBV_CMA_REQUEST,
    RDMA_IBV_CMA_RESPONSE,
    RDMA_IBV_CMA_ESTABLISHED,
    RDMA_IBV_CMA_REJECTED, /* status: the reason */
    RDMA_IBV_CMA_DISCONNECTED,
    RDMA_IBV_CMA_TIMEWAIT_EXIT,
    RDMA_IBV_CMA_REMOVED, /* the device goes away */
    RDMA_IBV_CMA_OTHER,
};

#define RDMA_IBV_CMA_PRIVATE_BYTES 256

struct rdma_ibv_cma_event {
    enum rdma_ibv_cma_type type;
    void *ctx;                  /* of the id; of the listener for a REQUEST */
    struct rdma_ibv_cma_id *id; /* REQUEST: a new one, without ctx */
    int status;
    uint8_t responder_resources;
    uint8_t initiator_depth;
    uint8_t private_bytes;
    uint8_t private_data[RDMA_IBV_CMA_PRIVATE_BYTES];
};

struct rdma_ibv_cma_param {
    uint32_t qpn;
    bool has_srq;
    const void *private_data;
    uint8_t private_bytes;
    uint8_t responder_resources;
    uint8_t initiator_depth;
    uint8_t retry_count;
    uint8_t rnr_retry_count;
};

int rdma_ibv_cma_open(struct rdma_ibv_cma_channel **out);
void rdma_ibv_cma_close(struct rdma_ibv_cma_channel *channel);
int rdma_ibv_cma_fd(const struct rdma_ibv_cma_channel *channel);
/* True: an event, copied; the library's own is acknowledged already. */
bool rdma_ibv_cma_next(struct rdma_ibv_cma_channel *channel, struct rdma_ibv_cma_event *event);

int rdma_ibv_cma_create(struct rdma_ibv_cma_channel *channel, void *ctx,
                        struct rdma_ibv_cma_id **out);
void rdma_ibv_cma_set_ctx(struct rdma_ibv_cma_id *id, void *ctx);
/* No event of it comes after this. */
void rdma_ibv_cma_destroy(struct rdma_ibv_cma_id *id);

/* A zero address: all, of either family. */
int rdma_ibv_cma_listen(struct rdma_ibv_cma_id *id, const struct net_addr *addr, uint16_t port,
                        int backlog);
/* From `src`, when it is of the family of `dst`. */
int rdma_ibv_cma_resolve_addr(struct rdma_ibv_cma_id *id, const struct net_addr *src,
                              const struct net_addr *dst, uint16_t port, int timeout_ms);
int rdma_ibv_cma_resolve_route(struct rdma_ibv_cma_id *id, int timeout_ms);

/* Once resolved, or of a request: the name of its device ("" before), port, and the addresses. */
const char *rdma_ibv_cma_device(const struct rdma_ibv_cma_id *id);
uint8_t rdma_ibv_cma_port(const struct rdma_ibv_cma_id *id);
void rdma_ibv_cma_local(struct rdma_ibv_cma_id *id, struct net_addr *addr, uint16_t *port);
void rdma_ibv_cma_peer(struct rdma_ibv_cma_id *id, struct net_addr *addr, uint16_t *port);

/* What the kernel's CM would set to take the queue pair to attr->qp_state. */
int rdma_ibv_cma_qp_attr(struct rdma_ibv_cma_id *id, struct ibv_qp_attr *attr, int *mask);

int rdma_ibv_cma_connect(struct rdma_ibv_cma_id *id, const struct rdma_ibv_cma_param *param);
int rdma_ibv_cma_establish(struct rdma_ibv_cma_id *id);
int rdma_ibv_cma_accept(struct rdma_ibv_cma_id *id, const struct rdma_ibv_cma_param *param);
int rdma_ibv_cma_reject(struct rdma_ibv_cma_id *id, const void *private_data,
                        uint8_t private_bytes);
int rdma_ibv_cma_disconnect(struct rdma_ibv_cma_id *id);
/* The first packet came before the confirmation. */
int rdma_ibv_cma_first_packet(struct rdma_ibv_cma_id *id);

#endif
