/*
 * See ibv_cma.h.
 */
#include "hal/native/ibv/ibv_cma.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <rdma/rdma_cma.h>
#include <string.h>
#include "base/bits.h"

static struct rdma_event_channel *channel_of(const struct rdma_ibv_cma_channel *channel)
{
    return (struct rdma_event_channel *)(uintptr_t)channel;
}

static struct rdma_cm_id *id_of(const struct rdma_ibv_cma_id *id)
{
    return (struct rdma_cm_id *)(uintptr_t)id;
}

/* -1 and errno, as the library has it, into an error number. */
static int result(int returned)
{
    if (returned == 0) {
        return 0;
    }
    return errno != 0 ? errno : EIO;
}

/* --- addresses -------------------------------------------------------------------------------- */

static void to_sockaddr(const struct net_addr *addr, uint16_t port, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof(*out));
    if (net_addr_is_ipv4(addr)) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
        memcpy(&in.sin_addr, &addr->bytes[12], sizeof(in.sin_addr));
        memcpy(out, &in, sizeof(in));
    } else {
        struct sockaddr_in6 in = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
        memcpy(&in.sin6_addr, addr->bytes, sizeof(in.sin6_addr));
        memcpy(out, &in, sizeof(in));
    }
}

static void from_sockaddr(const struct sockaddr *in, struct net_addr *addr, uint16_t *port)
{
    memset(addr, 0, sizeof(*addr));
    *port = 0;
    if (in->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, in, sizeof(v4));
        const uint8_t *bytes = (const uint8_t *)&v4.sin_addr;
        *addr = net_addr_ipv4(bytes[0], bytes[1], bytes[2], bytes[3]);
        *port = ntohs(v4.sin_port);
    } else if (in->sa_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, in, sizeof(v6));
        memcpy(addr->bytes, &v6.sin6_addr, sizeof(v6.sin6_addr));
        *port = ntohs(v6.sin6_port);
    }
}

void rdma_ibv_cma_local(struct rdma_ibv_cma_id *id, struct net_addr *addr, uint16_t *port)
{
    from_sockaddr(rdma_get_local_addr(id_of(id)), addr, port);
}

void rdma_ibv_cma_peer(struct rdma_ibv_cma_id *id, struct net_addr *addr, uint16_t *port)
{
    from_sockaddr(rdma_get_peer_addr(id_of(id)), addr, port);
}

/* --- channel ---------------------------------------------------------------------------------- */

int rdma_ibv_cma_open(struct rdma_ibv_cma_channel **out)
{
    struct rdma_event_channel *channel = rdma_create_event_channel();

    if (channel == NULL) {
        return result(-1);
    }
    int flags = fcntl(channel->fd, F_GETFL);
    if (flags < 0 || fcntl(channel->fd, F_SETFL, flags | O_NONBLOCK) != 0) {
        int error = errno;
        rdma_destroy_event_channel(channel);
        return error;
    }
    *out = (struct rdma_ibv_cma_channel *)(void *)channel;
    return 0;
}

void rdma_ibv_cma_close(struct rdma_ibv_cma_channel *channel)
{
    rdma_destroy_event_channel(channel_of(channel));
}

int rdma_ibv_cma_fd(const struct rdma_ibv_cma_channel *channel)
{
    return channel_of(channel)->fd;
}

static enum rdma_ibv_cma_type convert_type(enum rdma_cm_event_type type)
{
    switch (type) {
    case RDMA_CM_EVENT_ADDR_RESOLVED:
        return RDMA_IBV_CMA_ADDR_RESOLVED;
    case RDMA_CM_EVENT_ROUTE_RESOLVED:
        return RDMA_IBV_CMA_ROUTE_RESOLVED;
    case RDMA_CM_EVENT_ADDR_ERROR:
    case RDMA_CM_EVENT_ROUTE_ERROR:
    case RDMA_CM_EVENT_CONNECT_ERROR:
    case RDMA_CM_EVENT_UNREACHABLE:
        return RDMA_IBV_CMA_FAILED;
    case RDMA_CM_EVENT_CONNECT_REQUEST:
        return RDMA_IBV_CMA_REQUEST;
    case RDMA_CM_EVENT_CONNECT_RESPONSE:
        return RDMA_IBV_CMA_RESPONSE;
    case RDMA_CM_EVENT_ESTABLISHED:
        return RDMA_IBV_CMA_ESTABLISHED;
    case RDMA_CM_EVENT_REJECTED:
        return RDMA_IBV_CMA_REJECTED;
    case RDMA_CM_EVENT_DISCONNECTED:
        return RDMA_IBV_CMA_DISCONNECTED;
    case RDMA_CM_EVENT_TIMEWAIT_EXIT:
        return RDMA_IBV_CMA_TIMEWAIT_EXIT;
    case RDMA_CM_EVENT_DEVICE_REMOVAL:
        return RDMA_IBV_CMA_REMOVED;
    case RDMA_CM_EVENT_ADDR_CHANGE:
    case RDMA_CM_EVENT_MULTICAST_JOIN:
    case RDMA_CM_EVENT_MULTICAST_ERROR:
    default:
        return RDMA_IBV_CMA_OTHER;
    }
}

bool rdma_ibv_cma_next(struct rdma_ibv_cma_channel *channel, struct rdma_ibv_cma_event *event)
{
    struct rdma_cm_event *in;

    if (rdma_get_cm_event(channel_of(channel), &in) != 0) {
        return false;
    }
    event->type = convert_type(in->event);
    event->id = (struct rdma_ibv_cma_id *)(void *)in->id;
    /* A request's new id has inherited the listener's context. */
    event->ctx = in->id->context;
    event->status = in->status;
    event->responder_resources = in->param.conn.responder_resources;
    event->initiator_depth = in->param.conn.initiator_depth;
    event->private_bytes = 0;
    if (in->param.conn.private_data != NULL) {
        event->private_bytes = in->param.conn.private_data_len;
        memcpy(event->private_data, in->param.conn.private_data, event->private_bytes);
    }
    rdma_ack_cm_event(in);
    return true;
}

/* --- ids -------------------------------------------------------------------------------------- */

int rdma_ibv_cma_create(struct rdma_ibv_cma_channel *channel, void *ctx,
                        struct rdma_ibv_cma_id **out)
{
    struct rdma_cm_id *id = NULL;
    int error = result(rdma_create_id(channel_of(channel), &id, ctx, RDMA_PS_TCP));

    *out = (struct rdma_ibv_cma_id *)(void *)id;
    return error;
}

void rdma_ibv_cma_set_ctx(struct rdma_ibv_cma_id *id, void *ctx)
{
    id_of(id)->context = ctx;
}

void rdma_ibv_cma_destroy(struct rdma_ibv_cma_id *id)
{
    rdma_destroy_id(id_of(id));
}

int rdma_ibv_cma_listen(struct rdma_ibv_cma_id *id, const struct net_addr *addr, uint16_t port,
                        int backlog)
{
    struct sockaddr_storage where;

    to_sockaddr(addr, port, &where);
    int error = result(rdma_bind_addr(id_of(id), (struct sockaddr *)&where));
    return error != 0 ? error : result(rdma_listen(id_of(id), backlog));
}

int rdma_ibv_cma_resolve_addr(struct rdma_ibv_cma_id *id, const struct net_addr *src,
                              const struct net_addr *dst, uint16_t port, int timeout_ms)
{
    struct sockaddr_storage from;
    struct sockaddr_storage to;

    to_sockaddr(src, 0, &from);
    to_sockaddr(dst, port, &to);
    return result(rdma_resolve_addr(
        id_of(id), net_addr_is_ipv4(src) == net_addr_is_ipv4(dst) ? (struct sockaddr *)&from : NULL,
        (struct sockaddr *)&to, timeout_ms));
}

int rdma_ibv_cma_resolve_route(struct rdma_ibv_cma_id *id, int timeout_ms)
{
    return result(rdma_resolve_route(id_of(id), timeout_ms));
}

const char *rdma_ibv_cma_device(const struct rdma_ibv_cma_id *id)
{
    const struct ibv_context *context = id_of(id)->verbs;
    return context != NULL ? ibv_get_device_name(context->device) : "";
}

uint8_t rdma_ibv_cma_port(const struct rdma_ibv_cma_id *id)
{
    return id_of(id)->port_num;
}

int rdma_ibv_cma_qp_attr(struct rdma_ibv_cma_id *id, struct ibv_qp_attr *attr, int *mask)
{
    return result(rdma_init_qp_attr(id_of(id), attr, mask));
}

static struct rdma_conn_param convert_param(const struct rdma_ibv_cma_param *param)
{
    return (struct rdma_conn_param){
        .private_data = param->private_data,
        .private_data_len = param->private_bytes,
        .responder_resources = param->responder_resources,
        .initiator_depth = param->initiator_depth,
        .flow_control = 0, /* end-to-end credits: not looked at */
        .retry_count = param->retry_count,
        .rnr_retry_count = param->rnr_retry_count,
        .srq = param->has_srq,
        .qp_num = param->qpn,
    };
}

int rdma_ibv_cma_connect(struct rdma_ibv_cma_id *id, const struct rdma_ibv_cma_param *param)
{
    struct rdma_conn_param out = convert_param(param);
    return result(rdma_connect(id_of(id), &out));
}

int rdma_ibv_cma_establish(struct rdma_ibv_cma_id *id)
{
    return result(rdma_establish(id_of(id)));
}

int rdma_ibv_cma_accept(struct rdma_ibv_cma_id *id, const struct rdma_ibv_cma_param *param)
{
    struct rdma_conn_param out = convert_param(param);
    return result(rdma_accept(id_of(id), &out));
}

int rdma_ibv_cma_reject(struct rdma_ibv_cma_id *id, const void *private_data, uint8_t private_bytes)
{
    return result(rdma_reject(id_of(id), private_data, private_bytes));
}

int rdma_ibv_cma_disconnect(struct rdma_ibv_cma_id *id)
{
    return result(rdma_disconnect(id_of(id)));
}

int rdma_ibv_cma_first_packet(struct rdma_ibv_cma_id *id)
{
    return result(rdma_notify(id_of(id), IBV_EVENT_COMM_EST));
}
