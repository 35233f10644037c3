/*
 * A packet from the wire: headers and lengths, the QP that it is for, the ICRC, the peer that it is
 * from; only then anybody looks at what it says (IBA 9.6).
 */
#include "rdma/soft_packet_priv.h"

#include "hal/clock.h"
#include "spec/ip.h"

/* A QP sends one notification in this time (A17.9.3; the usual parameter of DCQCN). */
#define CNP_INTERVAL_NS (50 * NS_PER_US)

static struct soft_qp *find_qp(struct soft_device *dev, uint32_t qpn)
{
    uint32_t index = qpn == SOFT_QP1 ? 0 : qpn & ((1u << dev->qp_index_bits) - 1);

    if (index > dev->qp_pool.count) {
        return NULL;
    }
    struct soft_qp *qp = &dev->qps[index];
    return qp->is_used && !qp->is_dying && qp->qp.num == qpn ? qp : NULL;
}

/* The state and the kind of the QP fit the packet (9.6.1.3). */
static bool takes(const struct soft_qp *qp, uint32_t flags)
{
    bool is_rc = qp->qp.type == RDMA_QP_RC;
    bool ready = qp->qp.state == RDMA_QP_RTS || qp->qp.state == RDMA_QP_SQD;

    if ((flags & (ROCE_OP_REQUEST | ROCE_OP_CNP)) != 0) {
        ready = ready || qp->qp.state == RDMA_QP_RTR;
    }
    return ready && is_rc == ((flags & ROCE_OP_DETH) == 0);
}

static bool is_from_peer(const struct soft_qp *qp, const struct net_rx *rx)
{
    const uint8_t *dst = qp->path.config.dst.bytes;

    if (qp->path.is_ipv6 != rx->is_ipv6) {
        return false;
    }
    if (rx->is_ipv6) {
        return memcmp(rx->l3 + offsetof(struct ipv6_header, src), dst, 16) == 0;
    }
    uint32_t theirs;
    uint32_t known;
    COPY_FIXED(&theirs, ASSUME_ALIGNED(rx->l3 + offsetof(struct ipv4_header, src), 4),
               sizeof(theirs));
    COPY_FIXED(&known, dst + 12, sizeof(known));
    return theirs == known;
}

/* False: what cannot be. */
static bool parse(struct soft_packet *packet)
{
    const struct net_rx *rx = packet->rx;
    const struct roce_bth *bth = packet->bth;
    uint32_t first = be32_load(&bth->opcode); /* opcode, flags, P_Key */
    uint32_t pad_bytes = (uint32_t)FIELD_GET(ROCE_BTH_PAD, first >> 16);
    uint32_t header_bytes = roce_op_header_bytes(packet->flags);
    const uint8_t *next = (const uint8_t *)(bth + 1);

    if (packet->flags == 0 ||
        (first & (ROCE_BTH_VERSION << 16 | ROCE_PKEY_MASK)) !=
            (ROCE_PKEY_DEFAULT & ROCE_PKEY_MASK) ||
        (rx->payload_bytes & 3) != 0 ||
        rx->payload_bytes < header_bytes + pad_bytes + ROCE_ICRC_BYTES) {
        return false;
    }
    packet->psn = be32_load(&bth->ack_req) & ROCE_PSN_MASK;
    packet->payload = rx->payload + header_bytes;
    packet->payload_bytes = rx->payload_bytes - header_bytes - pad_bytes - ROCE_ICRC_BYTES;
    if ((packet->flags & ROCE_OP_RETH) != 0) {
        packet->reth = (const struct roce_reth *)(const void *)next;
        next += sizeof(struct roce_reth);
    }
    if ((packet->flags & ROCE_OP_DETH) != 0) {
        packet->deth = (const struct roce_deth *)(const void *)next;
        next += sizeof(struct roce_deth);
    }
    if ((packet->flags & ROCE_OP_AETH) != 0) {
        packet->aeth = (const struct roce_aeth *)(const void *)next;
        next += sizeof(struct roce_aeth);
    }
    if ((packet->flags & (ROCE_OP_IMM | ROCE_OP_INV)) != 0) {
        packet->imm = be32_get(((const struct roce_imm *)(const void *)next)->value);
    }
    return (packet->flags & (ROCE_OP_PAYLOAD | ROCE_OP_CNP)) != 0 ||
           packet->payload_bytes + pad_bytes == 0;
}

static bool icrc_is_right(struct soft_device *dev, const struct soft_packet *packet)
{
    const struct net_rx *rx = packet->rx;
    uint32_t bytes = rx->payload_bytes - (uint32_t)sizeof(struct roce_bth) - ROCE_ICRC_BYTES;
    uint32_t sent;

    STAGE_PUSH(ICRC);
    uint32_t crc = soft_icrc_begin(rx->l3, rx->is_ipv6, packet->bth);
    crc = soft_icrc_end(soft_icrc_update(crc, packet->bth + 1, bytes));
    STAGE_POP();
    COPY_FIXED(&sent, ASSUME_ALIGNED(rx->payload + rx->payload_bytes - ROCE_ICRC_BYTES, 4),
               sizeof(sent));
    counter_add(&dev->stats.icrc_bytes, rx->payload_bytes - ROCE_ICRC_BYTES);
    return crc == sent;
}

/* Congestion was experienced on the way: the sender is told. */
static void notify(struct soft_qp *qp)
{
    uint64_t now_ns = sched_now_ns();
    struct soft_tx tx;

    if (!qp->dev->ecn || (qp->cnp_ns != 0 && now_ns - qp->cnp_ns < CNP_INTERVAL_NS) ||
        qp->path.state != NET_PATH_READY || !soft_tx_begin(&tx, qp, &qp->path, ROCE_CNP, 0)) {
        return;
    }
    tx.bth->congestion = ROCE_BTH_BECN;
    memset(soft_tx_header(&tx, ROCE_CNP_BYTES), 0, ROCE_CNP_BYTES);
    soft_tx_end(&tx);
    qp->cnp_ns = now_ns;
    qp->stats.cnp_tx++;
}

/* The peer is there: a way that nobody answered on is asked for anew, or it would never hear us. */
static void look_for_path(struct soft_qp *qp)
{
    if (qp->path.state == NET_PATH_FAILED || qp->path.state == NET_PATH_CLOSED) {
        (void)soft_path_reopen(qp);
    }
}

static void deliver(struct soft_qp *qp, const struct soft_packet *packet)
{
    uint32_t flags = packet->flags;

    if (UNLIKELY(qp->path.state != NET_PATH_READY) && qp->qp.type == RDMA_QP_RC) {
        look_for_path(qp);
    }

    if (UNLIKELY(packet->rx->ecn == IP_ECN_CE) && (flags & ROCE_OP_PAYLOAD) != 0 &&
        qp->qp.type == RDMA_QP_RC) {
        notify(qp);
    }
    if ((flags & ROCE_OP_DETH) != 0) {
        soft_ud_receive(qp, packet);
    } else if ((flags & ROCE_OP_REQUEST) != 0) {
        soft_respond_packet(qp, packet);
    } else if (UNLIKELY((flags & ROCE_OP_CNP) != 0)) {
        soft_rate_notified(qp);
    } else {
        qp->stats.rx_packets++;
        soft_complete_packet(qp, packet);
    }
}

void soft_rx(void *ctx, const struct net_rx *rx)
{
    struct soft_device *dev = ctx;
    struct soft_packet packet = {.rx = rx};

    counter_add(&dev->stats.rx_packets, 1);
    if (rx->payload_bytes < sizeof(struct roce_bth) + ROCE_ICRC_BYTES) {
        counter_add(&dev->stats.rx_malformed, 1);
        return;
    }
    packet.bth = (const struct roce_bth *)(const void *)rx->payload;
    packet.flags = soft_op_flags[packet.bth->opcode];
    if (!parse(&packet)) {
        counter_add(&dev->stats.rx_malformed, 1);
        return;
    }
    struct soft_qp *qp = find_qp(dev, be32_load(&packet.bth->congestion) & SOFT_QPN_MASK);
    if (qp == NULL || !takes(qp, packet.flags)) {
        counter_add(&dev->stats.rx_no_qp, 1);
        return;
    }
    /* The address costs one comparison, the checksum a look at each byte. */
    if (qp->qp.type == RDMA_QP_RC && !is_from_peer(qp, rx)) {
        counter_add(&dev->stats.rx_wrong_peer, 1);
        return;
    }
    if (!icrc_is_right(dev, &packet)) {
        counter_add(&dev->stats.rx_icrc, 1);
        return;
    }
    deliver(qp, &packet);
}
