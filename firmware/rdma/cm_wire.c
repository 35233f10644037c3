/*
 * CM: QP1. Buffers of datagrams, address handles (one for each peer, while somebody needs it), the
 * poller. Messages of connections wait as bits in the connection and become datagrams only when
 * there are a way and a buffer: however many connect at once, none is lost here.
 */
#include "rdma/cm_priv.h"

#include "base/bits.h"

#define WR_IS_TX (UINT64_C(1) << 32) /* in a wr_id; below it the index of the buffer */

/* --- paths --------------------------------------------------------------------------------- */

static void on_ah_changed(struct rdma_ah *ah)
{
    struct cm_path *path = ah->ctx;

    if (list_is_empty(&path->changed_link)) {
        list_push_back(&path->cm->changed, &path->changed_link);
    }
}

static void path_settle(struct cm_path *path)
{
    if (!list_is_empty(&path->users) || path->tx_count > 0) {
        return;
    }
    list_remove(&path->hash_link);
    list_remove(&path->changed_link);
    rdma_ah_destroy(path->ah);
    pool_put(&path->cm->path_pool, path);
}

static struct list *path_bucket(const struct cm *cm, const struct net_addr *peer,
                                uint8_t sgid_index)
{
    return &cm->path_heads[cm_hash(cm, sgid_index, peer)];
}

static enum status path_make(struct cm *cm, const struct net_addr *peer, uint8_t sgid_index,
                             struct cm_path **out)
{
    struct rdma_av av = {
        .dgid = *peer,
        .sgid_index = sgid_index,
    };
    struct cm_path *path = pool_get(&cm->path_pool);

    if (path == NULL) {
        return STATUS_NO_SPACE;
    }
    *path = (struct cm_path){.cm = cm, .peer = *peer, .sgid_index = sgid_index};
    enum status status = rdma_ah_create(cm->pd, &av, &path->ah);
    if (status != STATUS_OK) {
        pool_put(&cm->path_pool, path);
        return status;
    }
    path->ah->ctx = path;
    path->ah->changed = on_ah_changed;
    list_init(&path->changed_link);
    list_init(&path->users);
    list_init(&path->waiting);
    list_push_back(path_bucket(cm, peer, sgid_index), &path->hash_link);
    if (path->ah->state == NET_PATH_FAILED) {
        on_ah_changed(path->ah); /* it was faster than we */
    }
    *out = path;
    return STATUS_OK;
}

static enum status path_get(struct cm *cm, const struct net_addr *peer, uint8_t sgid_index,
                            struct cm_path **out)
{
    LIST_FOR_EACH(node, temp, path_bucket(cm, peer, sgid_index))
    {
        struct cm_path *path = LIST_ENTRY(node, struct cm_path, hash_link);
        if (path->sgid_index == sgid_index && net_addr_equal(&path->peer, peer)) {
            *out = path;
            return STATUS_OK;
        }
    }
    return path_make(cm, peer, sgid_index, out);
}

enum status cm_wire_attach(struct cm_conn *c)
{
    enum status status = path_get(c->cm, &c->id.peer, c->sgid_index, &c->path);

    if (status != STATUS_OK) {
        c->path = NULL;
        return status;
    }
    list_push_back(&c->path->users, &c->path_link);
    return STATUS_OK;
}

void cm_wire_detach(struct cm_conn *c)
{
    struct cm_path *path = c->path;

    if (path != NULL) {
        list_remove(&c->path_link);
        c->path = NULL;
        path_settle(path);
    }
}

/* --- datagrams to send --------------------------------------------------------------------- */

static struct cm_tx *tx_get(struct cm *cm, struct cm_path *path)
{
    struct list *node = list_pop_front(&cm->free_tx);

    if (node == NULL) {
        return NULL;
    }
    struct cm_tx *tx = LIST_ENTRY(node, struct cm_tx, link);
    cm->free_tx_count--;
    tx->path = path;
    path->tx_count++;
    return tx;
}

static void tx_put(struct cm *cm, struct cm_tx *tx)
{
    struct cm_path *path = tx->path;

    tx->path = NULL;
    list_push_back(&cm->free_tx, &tx->link);
    cm->free_tx_count++;
    path->tx_count--;
    path_settle(path);
}

static void post(struct cm *cm, struct cm_tx *tx)
{
    struct rdma_sge sge = {
        .addr = (uint64_t)(uintptr_t)&cm->dma->tx[tx->index],
        .len_bytes = MAD_BYTES,
        .lkey = cm->mr->lkey,
    };
    struct rdma_send_wr wr = {
        .wr_id = WR_IS_TX | tx->index,
        .sges = &sge,
        .sge_count = 1,
        .opcode = RDMA_WR_SEND,
        .flags = RDMA_SEND_SIGNALED,
        .ud = {.ah = tx->path->ah, .remote_qpn = MAD_GSI_QPN, .remote_qkey = MAD_GSI_QKEY},
    };

    if (rdma_post_send(cm->qp, &wr, NULL) != STATUS_OK) {
        CM_COUNT(cm, tx_errors);
        tx_put(cm, tx);
        return;
    }
    CM_COUNT(cm, tx_mads);
}

void cm_owe(struct cm_conn *c, uint8_t messages)
{
    c->owed |= messages;
    if (list_is_empty(&c->sender_link)) {
        list_push_back(&c->cm->senders, &c->sender_link);
    }
}

static void build(const struct cm_conn *c, uint8_t message, struct cm_mad *mad)
{
    switch (message) {
    case CM_OWES_MSG:
        *mad = c->msg;
        break;
    case CM_OWES_MRA:
        cm_mad_mra(c, mad);
        break;
    case CM_OWES_RTU:
        cm_mad_rtu(c, mad);
        break;
    case CM_OWES_DREP:
        cm_mad_drep(c, mad);
        break;
    default:
        cm_mad_dreq(c, mad);
        break;
    }
}

/* Turns what the connection owes into datagrams. Without a way they are lost, as on the wire: who
 * waits for an answer repeats. While the neighbour is being asked they wait. */
static void serve(struct cm_conn *c)
{
    struct cm *cm = c->cm;

    if (c->path == NULL && c->owed != 0 && cm_wire_attach(c) != STATUS_OK) {
        CM_COUNT(cm, tx_dropped);
        c->owed = 0;
    }
    while (c->owed != 0 && c->path->ah->state == NET_PATH_READY) {
        struct cm_tx *tx = tx_get(cm, c->path);
        if (tx == NULL) {
            cm_owe(c, 0); /* a completion makes room */
            return;
        }
        uint8_t message = (uint8_t)(1u << lowest_bit(c->owed));
        c->owed &= (uint8_t)~message;
        build(c, message, &cm->dma->tx[tx->index]);
        post(cm, tx);
    }
    cm_conn_settle(c);
}

static uint32_t serve_senders(struct cm *cm)
{
    uint32_t count = 0;

    while (count < CM_BATCH && cm->free_tx_count > 0 && !list_is_empty(&cm->senders)) {
        serve(LIST_ENTRY(list_pop_front(&cm->senders), struct cm_conn, sender_link));
        count++;
    }
    return count;
}

void cm_send_stray(struct cm *cm, const struct net_addr *peer, uint8_t sgid_index,
                   const struct cm_mad *mad)
{
    struct cm_path *path;

    if (path_get(cm, peer, sgid_index, &path) != STATUS_OK) {
        CM_COUNT(cm, tx_dropped);
        return;
    }
    bool is_ready = path->ah->state == NET_PATH_READY;
    struct cm_tx *tx =
        is_ready || cm->stray_count < CM_STRAYS_MAX ? tx_get(cm, path) : (struct cm_tx *)NULL;
    if (tx == NULL) {
        CM_COUNT(cm, tx_dropped);
        path_settle(path);
        return;
    }
    cm->dma->tx[tx->index] = *mad;
    if (is_ready) {
        post(cm, tx);
    } else {
        list_push_back(&path->waiting, &tx->link);
        cm->stray_count++;
    }
}

/* --- a neighbour was found, or not --------------------------------------------------------- */

static void path_ready(struct cm_path *path)
{
    struct cm *cm = path->cm;
    struct list *node;

    while ((node = list_pop_front(&path->waiting)) != NULL) {
        cm->stray_count--;
        post(cm, LIST_ENTRY(node, struct cm_tx, link));
    }
    LIST_FOR_EACH(user, temp, &path->users)
    {
        struct cm_conn *c = LIST_ENTRY(user, struct cm_conn, path_link);
        if (c->owed != 0) {
            cm_owe(c, 0);
        }
        if (c->id.state == RDMA_CM_RESOLVING) {
            cm_fsm(c, CM_IN_PATH_READY, NULL);
        }
    }
}

/* Never ready any more: who wants to send later makes a new one. */
static void path_failed(struct cm_path *path)
{
    struct cm *cm = path->cm;
    struct list *node;

    list_remove(&path->hash_link);
    while ((node = list_pop_front(&path->users)) != NULL) {
        struct cm_conn *c = LIST_ENTRY(node, struct cm_conn, path_link);
        c->path = NULL;
        if (c->id.state == RDMA_CM_RESOLVING) {
            cm_fsm(c, CM_IN_PATH_FAILED, NULL);
        } else {
            c->owed = 0;
            cm_conn_settle(c);
        }
    }
    while ((node = list_pop_front(&path->waiting)) != NULL) {
        struct cm_tx *tx = LIST_ENTRY(node, struct cm_tx, link);
        cm->stray_count--;
        CM_COUNT(cm, tx_dropped);
        list_push_back(&cm->free_tx, &tx->link);
        cm->free_tx_count++;
        tx->path = NULL;
        path->tx_count--;
    }
}

static uint32_t serve_changed(struct cm *cm)
{
    uint32_t count = 0;

    while (count < CM_BATCH && !list_is_empty(&cm->changed)) {
        struct cm_path *path =
            LIST_ENTRY(list_pop_front(&cm->changed), struct cm_path, changed_link);
        path->tx_count++; /* it stays while we look at it */
        if (path->ah->state == NET_PATH_READY) {
            path_ready(path);
        } else if (path->ah->state == NET_PATH_FAILED) {
            path_failed(path);
        }
        path->tx_count--;
        path_settle(path);
        count++;
    }
    return count;
}

/* --- receive ------------------------------------------------------------------------------- */

void cm_post_recv(struct cm *cm, uint32_t index)
{
    struct cm_rx *rx = &cm->dma->rx[index];
    struct rdma_sge sge = {
        .addr = (uint64_t)(uintptr_t)rx,
        .len_bytes = sizeof(*rx),
        .lkey = cm->mr->lkey,
    };
    struct rdma_recv_wr wr = {.wr_id = index, .sges = &sge, .sge_count = 1};

    rx->grh[0] = 0; /* an IPv4 header leaves the bytes before it as they were */
    if (rdma_post_recv(cm->qp, &wr, NULL) != STATUS_OK) {
        CM_COUNT(cm, rx_lost_buffers);
    }
}

/* The addresses in the header in front of the datagram (annex A17). */
static bool read_addresses(const struct cm_rx *rx, struct net_addr *src, struct net_addr *dst)
{
    const uint8_t *v4 = rx->grh + MAD_GRH_IPV4_OFFSET;

    if (rx->grh[0] >> 4 == 6) {
        memcpy(src->bytes, rx->grh + 8, sizeof(src->bytes));
        memcpy(dst->bytes, rx->grh + 24, sizeof(dst->bytes));
        return true;
    }
    if (v4[0] >> 4 != 4) {
        return false;
    }
    *src = (struct net_addr){{[10] = 0xff, [11] = 0xff, v4[12], v4[13], v4[14], v4[15]}};
    *dst = (struct net_addr){{[10] = 0xff, [11] = 0xff, v4[16], v4[17], v4[18], v4[19]}};
    return true;
}

static void on_received(struct cm *cm, const struct rdma_wc *wc)
{
    const struct cm_rx *rx = &cm->dma->rx[wc->wr_id];
    struct net_addr src;
    struct net_addr dst;
    uint8_t sgid_index;

    CM_COUNT(cm, rx_mads);
    if ((wc->flags & RDMA_WC_GRH) == 0 || wc->src_qpn != MAD_GSI_QPN ||
        wc->len_bytes < MAD_GRH_BYTES || !read_addresses(rx, &src, &dst) ||
        !cm_local_index(cm, &dst, &sgid_index)) {
        CM_COUNT(cm, rx_malformed);
        return;
    }
    cm_receive(cm, &rx->mad, wc->len_bytes - MAD_GRH_BYTES, &src, &dst, sgid_index);
}

/* --- poller -------------------------------------------------------------------------------- */

static void on_sent(struct cm *cm, const struct rdma_wc *wc)
{
    tx_put(cm, &cm->tx[(uint32_t)wc->wr_id]);
    if (wc->status == RDMA_WC_SUCCESS) {
        return;
    }
    CM_COUNT(cm, tx_errors);
    if (cm->qp->state == RDMA_QP_SQE) { /* table 92: what failed keeps no datagram from leaving */
        struct rdma_qp_attr attr = {.state = RDMA_QP_RTS};
        if (rdma_qp_modify(cm->qp, &attr, RDMA_QP_STATE) != STATUS_OK) {
            CM_COUNT(cm, qp_errors);
        }
    }
}

static uint32_t poll_cq(struct cm *cm)
{
    struct rdma_wc wcs[CM_BATCH];
    uint32_t count = rdma_cq_poll(cm->cq, wcs, CM_BATCH);

    for (uint32_t i = 0; i < count; i++) {
        if ((wcs[i].wr_id & WR_IS_TX) != 0) {
            on_sent(cm, &wcs[i]);
            continue;
        }
        if (wcs[i].status == RDMA_WC_SUCCESS) {
            on_received(cm, &wcs[i]);
        }
        if (cm->qp->state == RDMA_QP_RTS) {
            cm_post_recv(cm, (uint32_t)wcs[i].wr_id);
        }
    }
    return count;
}

uint32_t cm_poll(void *ctx)
{
    struct cm *cm = ctx;
    uint32_t count = poll_cq(cm);

    count += serve_changed(cm);
    count += cm_events_deliver(cm);
    count += serve_senders(cm);
    return count;
}

/* What the device brings wakes the device's own poller. */
uint64_t cm_arm(void *ctx, bool armed)
{
    const struct cm *cm = ctx;
    bool has_work =
        !list_is_empty(&cm->changed) || !list_is_empty(&cm->events) || !list_is_empty(&cm->senders);

    return armed && has_work ? 0 : UINT64_MAX;
}

bool cm_wire_is_quiet(const struct cm *cm)
{
    return pool_is_full(&cm->path_pool) && cm->free_tx_count == CM_TX_MADS &&
           list_is_empty(&cm->events) && list_is_empty(&cm->senders);
}
