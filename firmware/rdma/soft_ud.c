/*
 * Datagrams (UD, in practice QP1) and where they go (IBA 9.8.3, 10.2.2). What is sent is copied at
 * once, so a work request completes in its turn; one that cannot be sent fails alone and the queue
 * goes on (the state SQE is not entered).
 */
#include "rdma/soft_packet_priv.h"

#include "spec/ip.h"

#define QKEY_CONTROLLED 0x80000000u /* the QP's own is meant (10.2.5) */
#define PORT_HASH_MASK  0x3fffu

/* --- address handles -------------------------------------------------------------------------- */

enum status soft_path_config(struct soft_device *dev, const struct rdma_av *av, uint32_t qpn,
                             struct net_path_config *config)
{
    const struct net_if_addr *source = net_if_addr(dev->nif, av->sgid_index);

    if (source == NULL || net_addr_is_ipv4(&source->addr) != net_addr_is_ipv4(&av->dgid)) {
        return STATUS_NOT_FOUND;
    }
    /* Paths of different QPs hash to different ways through the fabric (A17.3.1). */
    uint32_t hash = (qpn ^ qpn >> 14) & PORT_HASH_MASK;
    *config = (struct net_path_config){
        .src = source->addr,
        .dst = av->dgid,
        .src_port =
            av->udp_src_port != 0 ? av->udp_src_port : (uint16_t)(ROCE_UDP_SRC_PORT_BASE | hash),
        .dst_port = ROCE_UDP_PORT,
        .traffic_class =
            (uint8_t)((av->traffic_class & ~IP_ECN_MASK) | (dev->ecn ? IP_ECN_ECT0 : 0)),
        .hop_limit = av->hop_limit,
    };
    return STATUS_OK;
}

static void path_changed(struct net_path *path)
{
    struct soft_ah *ah = CONTAINER_OF(path, struct soft_ah, path);

    ah->ah.state = path->state;
    if (ah->is_used && list_is_empty(&ah->link)) {
        list_push_back(&soft_device_of(ah->ah.pd->device)->ah_changes, &ah->link);
    }
}

enum status soft_ah_create(struct rdma_pd *pd, const struct rdma_av *av, struct rdma_ah **out)
{
    struct soft_device *dev = soft_device_of(pd->device);
    struct net_path_config config;
    enum status status = soft_path_config(dev, av, SOFT_QP1, &config);

    if (status != STATUS_OK) {
        return status;
    }
    struct soft_ah *ah = pool_get(&dev->ah_pool);
    if (ah == NULL) {
        return STATUS_NO_SPACE;
    }
    memset(ah, 0, sizeof(*ah));
    ah->ah.pd = pd;
    list_init(&ah->link);
    status = net_path_open(dev->nif, &ah->path, &config, path_changed);
    if (status != STATUS_OK) {
        pool_put(&dev->ah_pool, ah);
        return status;
    }
    ah->ah.state = ah->path.state;
    ah->is_used = true;
    soft_pd_use(pd, true);
    *out = &ah->ah;
    return STATUS_OK;
}

void soft_ah_destroy(struct rdma_ah *rdma_ah)
{
    struct soft_ah *ah = CONTAINER_OF(rdma_ah, struct soft_ah, ah);
    struct soft_device *dev = soft_device_of(rdma_ah->pd->device);

    net_path_close(&ah->path);
    list_remove(&ah->link);
    soft_pd_use(rdma_ah->pd, false);
    ah->is_used = false;
    pool_put(&dev->ah_pool, ah);
}

/* --- send ------------------------------------------------------------------------------------- */

static bool put_payload(struct soft_tx *tx, struct soft_send_wqe *wqe)
{
    if ((wqe->flags & RDMA_SEND_INLINE) != 0) {
        soft_tx_copy(tx, wqe->inline_data, wqe->len_bytes);
        return true;
    }
    enum soft_tx_result result =
        wqe->len_bytes == 0
            ? SOFT_TX_OK
            : soft_tx_payload(tx, wqe->sges, wqe->sge_count, 0, wqe->len_bytes, 0, true);
    if (result == SOFT_TX_REFUSED) {
        wqe->status = RDMA_WC_LOC_PROT_ERR;
    }
    return result == SOFT_TX_OK;
}

/* False: no room now. */
static bool send_one(struct soft_qp *qp, struct soft_send_wqe *wqe)
{
    const struct soft_ah *ah = CONTAINER_OF(wqe->ah, struct soft_ah, ah);
    uint8_t opcode =
        wqe->opcode == RDMA_WR_SEND_WITH_IMM ? ROCE_UD_SEND_ONLY_IMM : ROCE_UD_SEND_ONLY;
    struct soft_tx tx;

    if (ah->ah.pd != qp->qp.pd) {
        wqe->status = RDMA_WC_LOC_QP_OP_ERR;
        return true;
    }
    if (ah->path.state != NET_PATH_READY) {
        wqe->status = RDMA_WC_GENERAL_ERR;
        return true;
    }
    if (wqe->len_bytes > rdma_mtu_bytes((enum rdma_mtu)qp->dev->device.attr.path_mtu_max)) {
        wqe->status = RDMA_WC_LOC_LEN_ERR;
        return true;
    }
    if (!soft_tx_begin(&tx, qp, &ah->path, opcode, qp->req.next_psn)) {
        return false;
    }
    tx.bth->dest_qpn = be24_make(wqe->remote_qpn);
    struct roce_deth *deth = soft_tx_header(&tx, sizeof(*deth));
    deth->qkey = be32_make((wqe->rkey & QKEY_CONTROLLED) != 0 ? qp->attr.qkey : wqe->rkey);
    deth->reserved = 0;
    deth->src_qpn = be24_make(qp->qp.num);
    if (wqe->opcode == RDMA_WR_SEND_WITH_IMM) {
        struct roce_imm *imm = soft_tx_header(&tx, sizeof(*imm));
        imm->value = be32_make(wqe->imm);
    }
    if (!put_payload(&tx, wqe)) {
        return wqe->status != RDMA_WC_WR_FLUSH_ERR;
    }
    soft_tx_end(&tx);
    qp->req.next_psn = roce_psn_add(qp->req.next_psn, 1);
    wqe->status = RDMA_WC_SUCCESS;
    return true;
}

uint32_t soft_ud_send(struct soft_qp *qp, uint32_t budget)
{
    struct soft_requester *req = &qp->req;
    uint32_t count = 0;

    while (count < budget && qp->qp.state == RDMA_QP_RTS && req->next != req->head &&
           send_one(qp, soft_wqe(qp, req->next))) {
        req->next++;
        req->una = req->next;
        count++;
    }
    soft_complete(qp);
    return count;
}

/* --- receive ---------------------------------------------------------------------------------- */

/* The network header as a GRH area holds it: IPv4 in its last 20 bytes (A17.4.5.2). */
static void grh_make(uint8_t grh[SOFT_GRH_BYTES], const struct net_rx *rx)
{
    if (rx->is_ipv6) {
        memcpy(grh, rx->l3, SOFT_GRH_BYTES);
    } else {
        memset(grh, 0, SOFT_GRH_BYTES / 2);
        memcpy(grh + SOFT_GRH_BYTES / 2, rx->l3, SOFT_GRH_BYTES / 2);
    }
}

void soft_ud_receive(struct soft_qp *qp, const struct soft_packet *packet)
{
    struct soft_recv_ring *rq = &qp->rq;
    uint8_t grh[SOFT_GRH_BYTES];

    if (be32_get(packet->deth->qkey) != qp->attr.qkey) {
        counter_add(&qp->dev->stats.key_violations, 1);
        return;
    }
    const struct soft_recv_wqe *wqe = &rq->wqes[rq->tail & rq->mask];
    uint32_t len_bytes = SOFT_GRH_BYTES + packet->payload_bytes;
    if (rq->tail == rq->head || len_bytes > wqe->len_bytes) {
        return; /* datagrams may be dropped (9.8.3.2) */
    }
    grh_make(grh, packet->rx);
    bool placed = soft_respond_place(qp, wqe->sges, wqe->sge_count, 0, grh, SOFT_GRH_BYTES) &&
                  soft_respond_place(qp, wqe->sges, wqe->sge_count, SOFT_GRH_BYTES, packet->payload,
                                     packet->payload_bytes);
    struct rdma_wc *wc = soft_cq_push(soft_cq_of(qp->qp.recv_cq));
    if (wc == NULL) {
        return;
    }
    *wc = (struct rdma_wc){
        .wr_id = wqe->wr_id,
        .qp = &qp->qp,
        .len_bytes = len_bytes,
        .imm = packet->imm,
        .src_qpn = be24_get(packet->deth->src_qpn),
        .status = placed ? RDMA_WC_SUCCESS : RDMA_WC_LOC_PROT_ERR,
        .opcode = RDMA_WC_RECV,
        .flags =
            (uint8_t)(RDMA_WC_GRH | ((packet->flags & ROCE_OP_IMM) != 0 ? RDMA_WC_WITH_IMM : 0))};
    rq->tail++;
    qp->stats.rx_packets++;
}
