/*
 * CM: messages to bytes, bytes to messages (IBA 12.6, annex A11). What a peer sends is checked here
 * before anybody looks at it.
 */
#include "rdma/cm_priv.h"

#include "base/bits.h"

#define PUT8(name, value) ((uint8_t)FIELD_PREP(name, value))
#define GET8(name, value) ((uint8_t)FIELD_GET(name, value))

static void begin(struct cm_mad *mad, uint16_t attribute, uint64_t tid)
{
    memset(mad, 0, sizeof(*mad));
    mad->header = (struct mad_header){
        .base_version = MAD_BASE_VERSION,
        .mgmt_class = MAD_CLASS_CM,
        .class_version = MAD_CLASS_CM_VERSION,
        .method = MAD_METHOD_SEND,
        .tid = be64_make(tid),
        .attribute_id = be16_make(attribute),
    };
}

static void begin_answer(struct cm_mad *mad, uint16_t attribute, uint64_t tid,
                         const struct cm_conn *c)
{
    begin(mad, attribute, tid);
    mad->ids.local_comm_id = be32_make(c->comm_id);
    mad->ids.remote_comm_id = be32_make(c->remote_id);
}

static void put_private(uint8_t *to, uint32_t room_bytes, const void *from, uint32_t len_bytes)
{
    if (len_bytes > 0) {
        memcpy(to, from, min_u32(len_bytes, room_bytes));
    }
}

/* --- bytes --------------------------------------------------------------------------------- */

static void put_ip_address(uint8_t to[16], const struct net_addr *addr)
{
    if (net_addr_is_ipv4(addr)) {
        memcpy(to + CM_IP_IPV4_OFFSET, addr->bytes + CM_IP_IPV4_OFFSET, 4);
    } else {
        memcpy(to, addr->bytes, sizeof(addr->bytes));
    }
}

static void put_ip_header(const struct cm_conn *c, struct cm_ip_header *ip)
{
    ip->ip_version = PUT8(CM_IP_VERSION, net_addr_is_ipv4(&c->id.peer) ? 4u : 6u);
    ip->src_port = be16_make(c->id.local_port);
    put_ip_address(ip->src_addr, &c->id.local);
    put_ip_address(ip->dst_addr, &c->id.peer);
}

void cm_mad_req(const struct cm_conn *c, const void *private_data, uint32_t private_bytes,
                struct cm_mad *mad)
{
    const struct rdma_cm_soft_config *config = &c->cm->config;
    struct cm_req *req = &mad->req;
    struct cm_ip_header ip = {0};

    begin(mad, CM_ATTR_REQ, c->tid);
    req->local_comm_id = be32_make(c->comm_id);
    req->service_id = be64_make(CM_IP_SERVICE_ID(c->id.peer_port));
    req->local_ca_guid = c->cm->guid;
    req->local_qpn = be24_make(c->local_qpn);
    req->responder_resources = c->responder_resources;
    req->initiator_depth = c->initiator_depth;
    req->remote_response = PUT8(CM_REQ_REMOTE_RESPONSE, config->response_timeout) |
                           PUT8(CM_REQ_TRANSPORT, CM_TRANSPORT_RC);
    req->starting_psn = be24_make(c->rq_psn);
    req->local_response = PUT8(CM_REQ_LOCAL_RESPONSE, config->response_timeout) |
                          PUT8(CM_REQ_RETRY_COUNT, c->retry_count);
    req->pkey = be16_make(MAD_PKEY_DEFAULT);
    req->mtu = PUT8(CM_REQ_MTU, c->path_mtu) | PUT8(CM_REQ_RNR_RETRY, c->rnr_retry);
    req->max_retries = PUT8(CM_REQ_MAX_RETRIES, config->max_retries) |
                       PUT8(CM_REQ_SRQ, c->id.qp->srq != NULL ? 1u : 0u);
    req->primary_local_lid = be16_make(CM_LID_PERMISSIVE);
    req->primary_remote_lid = be16_make(CM_LID_PERMISSIVE);
    memcpy(req->primary_local_gid, c->id.local.bytes, sizeof(req->primary_local_gid));
    memcpy(req->primary_remote_gid, c->id.peer.bytes, sizeof(req->primary_remote_gid));
    req->primary_hop_limit = 64;
    req->primary_ack_timeout = PUT8(CM_REQ_ACK_TIMEOUT, c->ack_timeout);
    put_ip_header(c, &ip);
    memcpy(req->private_data, &ip, sizeof(ip));
    put_private(req->private_data + sizeof(ip), CM_IP_PRIVATE_BYTES, private_data, private_bytes);
}

void cm_mad_rep(const struct cm_conn *c, const void *private_data, uint32_t private_bytes,
                struct cm_mad *mad)
{
    struct cm_rep *rep = &mad->rep;

    begin_answer(mad, CM_ATTR_REP, c->tid, c);
    rep->local_qpn = be24_make(c->local_qpn);
    rep->starting_psn = be24_make(c->rq_psn);
    rep->responder_resources = c->responder_resources;
    rep->initiator_depth = c->initiator_depth;
    rep->ack_delay =
        PUT8(CM_REP_ACK_DELAY, c->cm->config.ack_delay) |
        PUT8(CM_REP_FAILOVER, c->has_alternate ? (uint32_t)CM_FAILOVER_UNSUPPORTED : 0u);
    rep->rnr_retry =
        PUT8(CM_REP_RNR_RETRY, c->rnr_retry) | PUT8(CM_REP_SRQ, c->id.qp->srq != NULL ? 1u : 0u);
    rep->local_ca_guid = c->cm->guid;
    put_private(rep->private_data, sizeof(rep->private_data), private_data, private_bytes);
}

void cm_mad_rtu(const struct cm_conn *c, struct cm_mad *mad)
{
    begin_answer(mad, CM_ATTR_RTU, c->tid, c);
}

void cm_mad_mra(const struct cm_conn *c, struct cm_mad *mad)
{
    begin_answer(mad, CM_ATTR_MRA, c->tid, c);
    mad->mra.message = PUT8(CM_MESSAGE, CM_MESSAGE_REQ);
    mad->mra.service = PUT8(CM_MRA_SERVICE, CM_SERVICE_TIME);
}

void cm_mad_dreq(const struct cm_conn *c, struct cm_mad *mad)
{
    begin_answer(mad, CM_ATTR_DREQ, c->dreq_tid, c);
    mad->dreq.remote_qpn = be24_make(c->remote_qpn);
}

void cm_mad_drep(const struct cm_conn *c, struct cm_mad *mad)
{
    begin_answer(mad, CM_ATTR_DREP, c->drep_tid, c);
}

void cm_mad_rej(const struct cm_conn *c, uint8_t message, uint16_t reason, const void *private_data,
                uint32_t private_bytes, struct cm_mad *mad)
{
    struct cm_rej *rej = &mad->rej;

    begin_answer(mad, CM_ATTR_REJ, c->tid, c);
    rej->message = PUT8(CM_MESSAGE, message);
    rej->reason = be16_make(reason);
    if (reason == RDMA_CM_REJ_TIMEOUT) {
        rej->info_len = PUT8(CM_REJ_INFO_LEN, sizeof(c->cm->guid));
        memcpy(rej->info, c->cm->guid.bytes, sizeof(c->cm->guid));
    }
    put_private(rej->private_data, sizeof(rej->private_data), private_data, private_bytes);
}

/* A REQ has no second communication ID: there is zero, and zero is what the REJ then has. */
static void begin_stray(struct cm_mad *mad, uint16_t attribute, const struct cm_mad *to)
{
    begin(mad, attribute, be64_get(to->header.tid));
    mad->ids.local_comm_id = to->ids.remote_comm_id;
    mad->ids.remote_comm_id = to->ids.local_comm_id;
}

void cm_mad_stray_rej(const struct cm_mad *to, uint8_t message, uint16_t reason, struct cm_mad *mad)
{
    begin_stray(mad, CM_ATTR_REJ, to);
    mad->rej.message = PUT8(CM_MESSAGE, message);
    mad->rej.reason = be16_make(reason);
}

void cm_mad_stray_drep(const struct cm_mad *to, struct cm_mad *mad)
{
    begin_stray(mad, CM_ATTR_DREP, to);
}

/* --- checks -------------------------------------------------------------------------------- */

enum status cm_mad_check(const struct cm_mad *mad, uint32_t len_bytes)
{
    const struct mad_header *header = &mad->header;

    if (len_bytes != MAD_BYTES || header->base_version != MAD_BASE_VERSION ||
        header->mgmt_class != MAD_CLASS_CM || header->class_version != MAD_CLASS_CM_VERSION ||
        header->method != MAD_METHOD_SEND) {
        return STATUS_BAD_DATA;
    }
    uint16_t attribute = be16_get(header->attribute_id);
    return attribute >= CM_ATTR_REQ && attribute <= CM_ATTR_DREP ? STATUS_OK : STATUS_UNSUPPORTED;
}

/* A11.3: version 0, addresses of the family and equal to those that the packets use. */
static bool is_ip_header_good(const struct cm_ip_header *ip, const struct net_addr *src,
                              const struct net_addr *dst)
{
    uint8_t src_bytes[16] = {0};
    uint8_t dst_bytes[16] = {0};

    put_ip_address(src_bytes, src);
    put_ip_address(dst_bytes, dst);
    return ip->version == 0 &&
           FIELD_GET(CM_IP_VERSION, ip->ip_version) == (net_addr_is_ipv4(src) ? 4u : 6u) &&
           memcmp(ip->src_addr, src_bytes, sizeof(src_bytes)) == 0 &&
           memcmp(ip->dst_addr, dst_bytes, sizeof(dst_bytes)) == 0;
}

uint16_t cm_mad_read_req(const struct cm *cm, const struct cm_mad *mad, const struct net_addr *src,
                         const struct net_addr *dst, struct cm_request *request)
{
    const struct cm_req *req = &mad->req;
    uint64_t service_id = be64_get(req->service_id);
    uint8_t mtu = GET8(CM_REQ_MTU, req->mtu);
    struct cm_ip_header ip;

    memcpy(&ip, req->private_data, sizeof(ip));
    request->port = (uint16_t)service_id;
    request->peer_port = be16_get(ip.src_port);
    if ((service_id & CM_IP_SERVICE_MASK) != CM_IP_SERVICE_ID(0)) {
        return RDMA_CM_REJ_INVALID_SERVICE_ID;
    }
    if (FIELD_GET(CM_REQ_TRANSPORT, req->remote_response) != CM_TRANSPORT_RC ||
        FIELD_GET(CM_REQ_EXTENDED_TRANSPORT, req->max_retries) != 0) {
        return RDMA_CM_REJ_INVALID_TRANSPORT;
    }
    if (mtu < RDMA_MTU_256 || mtu > cm->device->attr.path_mtu_max) {
        return RDMA_CM_REJ_INVALID_MTU;
    }
    /* The packets of the connection go where this one came from, and nowhere else. */
    if (be24_get(req->local_qpn) <= MAD_GSI_QPN ||
        (be16_get(req->pkey) & MAD_PKEY_BASE) != MAD_PKEY_BASE ||
        memcmp(req->primary_local_gid, src->bytes, sizeof(src->bytes)) != 0 ||
        memcmp(req->primary_remote_gid, dst->bytes, sizeof(dst->bytes)) != 0 ||
        !is_ip_header_good(&ip, src, dst)) {
        return RDMA_CM_REJ_UNSUPPORTED;
    }
    return 0;
}

void cm_mad_take_req(struct cm_conn *c, const struct cm_req *req)
{
    static const uint8_t no_gid[16];
    const struct rdma_device_attr *attr = &c->cm->device->attr;
    uint8_t response = GET8(CM_REQ_LOCAL_RESPONSE, req->local_response);
    uint8_t ack_timeout = GET8(CM_REQ_ACK_TIMEOUT, req->primary_ack_timeout);

    c->remote_id = be32_get(req->local_comm_id);
    c->has_remote_id = true;
    c->remote_qpn = be24_get(req->local_qpn);
    c->sq_psn = be24_get(req->starting_psn);
    c->path_mtu = GET8(CM_REQ_MTU, req->mtu);
    c->retry_count = GET8(CM_REQ_RETRY_COUNT, req->local_response);
    c->rnr_retry = GET8(CM_REQ_RNR_RETRY, req->mtu);
    c->tries_left = GET8(CM_REQ_MAX_RETRIES, req->max_retries);
    /* The sender's READs we serve, and it serves ours. */
    c->responder_resources = cm_min_u8(req->initiator_depth, attr->dest_rd_atomic_max);
    c->initiator_depth = cm_min_u8(req->responder_resources, attr->rd_atomic_max);
    c->ack_timeout = cm_clamp_u8(ack_timeout, CM_ACK_TIMEOUT_MIN, CM_ACK_TIMEOUT_MAX);
    c->peer_response = cm_clamp_u8(GET8(CM_REQ_REMOTE_RESPONSE, req->remote_response),
                                   CM_PEER_RESPONSE_MIN, CM_PEER_RESPONSE_MAX);
    /* Its wish, but not longer than ours: who sends a REQ and goes away holds an id. */
    response = cm_clamp_u8(response, CM_PEER_RESPONSE_MIN, c->cm->config.response_timeout);
    c->wait_ns = cm_time_ns(response) + 2 * cm_time_ns(c->cm->config.packet_lifetime);
    c->has_alternate = memcmp(req->alternate_local_gid, no_gid, sizeof(no_gid)) != 0;
}

/* What our QP waits for an acknowledgement: the way there and back, and the peer's own delay
 * (9.7.6.1.3); a sum of powers of two, rounded to one. */
static uint8_t ack_timeout_of(uint8_t lifetime, uint8_t ack_delay)
{
    uint8_t way = (uint8_t)(lifetime + 1);

    if (ack_delay > way) {
        return (uint8_t)(ack_delay + (way + 1 == ack_delay ? 1 : 0));
    }
    return (uint8_t)(way + (way <= ack_delay + 1 ? 1 : 0));
}

bool cm_mad_take_rep(struct cm_conn *c, const struct cm_rep *rep)
{
    uint32_t qpn = be24_get(rep->local_qpn);
    uint8_t ack_delay = GET8(CM_REP_ACK_DELAY, rep->ack_delay);

    if (qpn <= MAD_GSI_QPN) {
        return false;
    }
    c->remote_id = be32_get(rep->local_comm_id);
    c->has_remote_id = true;
    c->remote_qpn = qpn;
    c->sq_psn = be24_get(rep->starting_psn);
    c->rnr_retry = GET8(CM_REP_RNR_RETRY, rep->rnr_retry);
    c->responder_resources = cm_min_u8(c->responder_resources, rep->initiator_depth);
    c->initiator_depth = cm_min_u8(c->initiator_depth, rep->responder_resources);
    c->ack_timeout = cm_clamp_u8(ack_timeout_of(c->cm->config.packet_lifetime, ack_delay),
                                 CM_ACK_TIMEOUT_MIN, CM_ACK_TIMEOUT_MAX);
    return true;
}
