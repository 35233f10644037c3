/*
 * Queue pairs: made, taken through their states (IBA 10.3.1; the kernel knows which attributes are
 * needed when), looked at, destroyed.
 */
#include "hal/native/ibv/ibv_priv.h"

#include <errno.h>
#include <string.h>
#include "base/bits.h"
#include "base/log.h"

static uint64_t sends_bytes(const struct rdma_qp_init_attr *attr)
{
    return (uint64_t)rdma_ibv_round_up(attr->send_wr_count) * sizeof(struct rdma_ibv_send_slot);
}

uint64_t rdma_ibv_qp_memory_bytes(const struct rdma_device *device,
                                  const struct rdma_qp_init_attr *attr)
{
    (void)device;
    uint64_t recv_bytes = attr->srq != NULL ? 0
                                            : (uint64_t)rdma_ibv_round_up(attr->recv_wr_count) *
                                                  sizeof(struct rdma_ibv_recv_slot);
    return sends_bytes(attr) + recv_bytes;
}

/* --- create ---------------------------------------------------------------------------------- */

static enum status check(const struct rdma_qp_init_attr *attr)
{
    const struct rdma_device *device = attr->pd->device;
    const struct rdma_device_attr *limits = &device->attr;

    if (attr->type == RDMA_QP_GSI) {
        return STATUS_UNSUPPORTED;
    }
    bool is_good = (attr->type == RDMA_QP_RC || attr->type == RDMA_QP_UD) && attr->memory != NULL &&
                   attr->send_cq->device == device && attr->recv_cq->device == device &&
                   (attr->srq == NULL || attr->srq->pd == attr->pd) && attr->send_wr_count >= 1 &&
                   attr->send_wr_count <= limits->wr_count_max && attr->send_sge_count >= 1 &&
                   attr->send_sge_count <= limits->sge_max;
    bool is_recv_good =
        attr->srq != NULL
            ? attr->recv_wr_count == 0
            : attr->recv_wr_count <= limits->wr_count_max &&
                  (attr->recv_wr_count == 0 ||
                   (attr->recv_sge_count >= 1 && attr->recv_sge_count <= limits->sge_max));
    return is_good && is_recv_good ? STATUS_OK : STATUS_INVALID;
}

static enum status make(struct rdma_ibv_device *d, const struct rdma_qp_init_attr *attr,
                        struct rdma_ibv_qp *qp)
{
    struct ibv_qp_init_attr init = {
        .qp_context = qp,
        .send_cq = rdma_ibv_cq_of(attr->send_cq)->ibv,
        .recv_cq = rdma_ibv_cq_of(attr->recv_cq)->ibv,
        .srq = attr->srq != NULL ? rdma_ibv_srq_of(attr->srq)->ibv : NULL,
        .cap = {.max_send_wr = rdma_ibv_round_up(attr->send_wr_count),
                .max_send_sge = attr->send_sge_count,
                .max_inline_data = d->base.attr.inline_bytes_max},
        .qp_type = attr->type == RDMA_QP_RC ? IBV_QPT_RC : IBV_QPT_UD,
        .sq_sig_all = attr->signal_all,
    };
    if (attr->srq == NULL) {
        init.cap.max_recv_wr = rdma_ibv_round_up(attr->recv_wr_count);
        init.cap.max_recv_sge = attr->recv_wr_count > 0 ? attr->recv_sge_count : 1;
    }
    qp->ibv = ibv_create_qp(rdma_ibv_pd_of(attr->pd)->ibv, &init);
    if (qp->ibv == NULL) {
        return rdma_ibv_status(errno);
    }
    qp->base.num = qp->ibv->qp_num;
    qp->inline_bytes = min_u32(init.cap.max_inline_data, d->base.attr.inline_bytes_max);
    return STATUS_OK;
}

enum status rdma_ibv_qp_create(const struct rdma_qp_init_attr *attr, struct rdma_qp **out)
{
    struct rdma_ibv_device *d = rdma_ibv_device_of(attr->pd->device);
    enum status status = attr->host_recv != NULL ? STATUS_UNSUPPORTED : check(attr);

    if (status != STATUS_OK) {
        return status;
    }
    struct rdma_ibv_qp *qp = pool_get(&d->qps);
    if (qp == NULL) {
        return STATUS_NO_SPACE;
    }
    *qp = (struct rdma_ibv_qp){
        .base = {.pd = attr->pd,
                 .send_cq = attr->send_cq,
                 .recv_cq = attr->recv_cq,
                 .srq = attr->srq,
                 .ctx = attr->ctx,
                 .type = (uint8_t)attr->type,
                 .state = RDMA_QP_RESET},
        .sends = attr->memory,
        .send_mask = rdma_ibv_round_up(attr->send_wr_count) - 1,
        .send_sge_count = attr->send_sge_count,
    };
    status = make(d, attr, qp);
    if (status != STATUS_OK) {
        pool_put(&d->qps, qp);
        return status;
    }
    if (attr->srq == NULL) {
        uint32_t count = attr->recv_wr_count > 0 ? rdma_ibv_round_up(attr->recv_wr_count) : 0;
        rdma_ibv_recv_slots_init(&qp->recvs, (uint8_t *)attr->memory + sends_bytes(attr), count,
                                 attr->recv_sge_count);
    } else {
        rdma_ibv_srq_of(attr->srq)->qp_count++;
    }
    list_init(&qp->keys);
    list_push_back(&d->all_qps, &qp->link);
    rdma_ibv_insert(&d->qp_by_num, &qp->node, qp->base.num);
    rdma_ibv_pd_of(attr->pd)->user_count++;
    rdma_ibv_cq_of(attr->send_cq)->qp_count++;
    rdma_ibv_cq_of(attr->recv_cq)->qp_count++;
    *out = &qp->base;
    return STATUS_OK;
}

/* --- destroy --------------------------------------------------------------------------------- */

/* Nothing was heard of what is still under way, and its completions are not to be seen. */
static void forget_work(struct rdma_ibv_qp *qp)
{
    rdma_ibv_cq_purge(rdma_ibv_cq_of(qp->base.send_cq), qp);
    rdma_ibv_cq_purge(rdma_ibv_cq_of(qp->base.recv_cq), qp);
    if (qp->base.srq == NULL) {
        rdma_ibv_recv_slots_init(&qp->recvs, qp->recvs.slots, qp->recvs.count, qp->recvs.sge_count);
    }
}

enum status rdma_ibv_qp_destroy(struct rdma_qp *base)
{
    struct rdma_ibv_device *d = rdma_ibv_device_of(base->pd->device);
    struct rdma_ibv_qp *qp = rdma_ibv_qp_of(base);

    /* Keys first: their windows refer to the queue pair in the kernel. In ERR, so that no bind of
     * a window begins once it has been replaced. */
    rdma_ibv_cm_forget_qp(qp);
    if (base->state != RDMA_QP_RESET) {
        rdma_ibv_qp_to_error(qp);
    }
    rdma_ibv_sends_drop(qp);
    LIST_FOR_EACH(node, next, &qp->keys)
    {
        rdma_ibv_key_invalidate(&LIST_ENTRY(node, struct rdma_ibv_key, qp_link)->base);
    }
    int error = ibv_destroy_qp(qp->ibv);
    if (error != 0) {
        LOG_LIMITED(WARN, "ibv: %s: QP %u is not destroyed: %s", d->base.name, (unsigned)base->num,
                    strerror(error));
        return STATUS_AGAIN;
    }
    forget_work(qp);
    if (base->srq != NULL) {
        rdma_ibv_srq_of(base->srq)->qp_count--;
    }
    rdma_ibv_cq_of(base->send_cq)->qp_count--;
    rdma_ibv_cq_of(base->recv_cq)->qp_count--;
    rdma_ibv_pd_of(base->pd)->user_count--;
    rdma_ibv_remove(&d->qp_by_num, &qp->node);
    list_remove(&qp->link);
    pool_put(&d->qps, qp);
    return STATUS_OK;
}

/* --- modify ---------------------------------------------------------------------------------- */

enum status rdma_ibv_qp_apply(struct rdma_ibv_qp *qp, struct ibv_qp_attr *attr, int mask)
{
    int error = ibv_modify_qp(qp->ibv, attr, mask);

    if (error != 0) {
        return rdma_ibv_status(error);
    }
    if ((mask & IBV_QP_STATE) != 0) {
        qp->base.state = (uint8_t)attr->qp_state; /* the same numbers */
        if (attr->qp_state == IBV_QPS_RESET) {
            rdma_ibv_sends_drop(qp);
            forget_work(qp);
        }
    }
    return STATUS_OK;
}

void rdma_ibv_qp_to_error(struct rdma_ibv_qp *qp)
{
    struct ibv_qp_attr attr = {.qp_state = IBV_QPS_ERR};

    ibv_modify_qp(qp->ibv, &attr, IBV_QP_STATE);
    qp->base.state = RDMA_QP_ERR;
}

static bool in_range(const struct rdma_device_attr *limits, const struct rdma_qp_attr *attr,
                     uint32_t mask)
{
    const struct {
        uint32_t bit;
        uint32_t value;
        uint32_t max;
    } values[] = {
        {RDMA_QP_STATE, attr->state, RDMA_QP_ERR},
        {RDMA_QP_PATH_MTU, attr->path_mtu, limits->path_mtu_max},
        {RDMA_QP_TIMEOUT, attr->timeout, 31},
        {RDMA_QP_RETRY_CNT, attr->retry_cnt, 7},
        {RDMA_QP_RNR_RETRY, attr->rnr_retry, 7},
        {RDMA_QP_RQ_PSN, attr->rq_psn, 0xffffff},
        {RDMA_QP_SQ_PSN, attr->sq_psn, 0xffffff},
        {RDMA_QP_DEST_QPN, attr->dest_qpn, 0xffffff},
        {RDMA_QP_MAX_RD_ATOMIC, attr->max_rd_atomic, limits->rd_atomic_max},
        {RDMA_QP_MAX_DEST_RD_ATOMIC, attr->max_dest_rd_atomic, limits->dest_rd_atomic_max},
        {RDMA_QP_MIN_RNR_TIMER, attr->min_rnr_timer, 31},
    };
    for (uint32_t i = 0; i < ARRAY_SIZE(values); i++) {
        if ((mask & values[i].bit) != 0 && values[i].value > values[i].max) {
            return false;
        }
    }
    return (mask & RDMA_QP_PATH_MTU) == 0 || attr->path_mtu >= RDMA_MTU_256;
}

static int convert_mask(const struct rdma_qp_attr *attr, uint32_t mask)
{
    static const struct {
        uint32_t ours;
        int ibv;
    } bits[] = {
        {RDMA_QP_STATE, IBV_QP_STATE},
        {RDMA_QP_ACCESS, IBV_QP_ACCESS_FLAGS},
        {RDMA_QP_QKEY, IBV_QP_QKEY},
        {RDMA_QP_AV, IBV_QP_AV},
        {RDMA_QP_PATH_MTU, IBV_QP_PATH_MTU},
        {RDMA_QP_TIMEOUT, IBV_QP_TIMEOUT},
        {RDMA_QP_RETRY_CNT, IBV_QP_RETRY_CNT},
        {RDMA_QP_RNR_RETRY, IBV_QP_RNR_RETRY},
        {RDMA_QP_RQ_PSN, IBV_QP_RQ_PSN},
        {RDMA_QP_SQ_PSN, IBV_QP_SQ_PSN},
        {RDMA_QP_DEST_QPN, IBV_QP_DEST_QPN},
        {RDMA_QP_MAX_RD_ATOMIC, IBV_QP_MAX_QP_RD_ATOMIC},
        {RDMA_QP_MAX_DEST_RD_ATOMIC, IBV_QP_MAX_DEST_RD_ATOMIC},
        {RDMA_QP_MIN_RNR_TIMER, IBV_QP_MIN_RNR_TIMER},
    };
    int result = 0;

    for (uint32_t i = 0; i < ARRAY_SIZE(bits); i++) {
        result |= (mask & bits[i].ours) != 0 ? bits[i].ibv : 0;
    }
    /* What this tree does not choose. */
    if ((mask & RDMA_QP_STATE) != 0 && attr->state == RDMA_QP_INIT) {
        result |= IBV_QP_PORT | IBV_QP_PKEY_INDEX;
    }
    if ((mask & RDMA_QP_STATE) != 0 && attr->state == RDMA_QP_SQD) {
        result |= IBV_QP_EN_SQD_ASYNC_NOTIFY;
    }
    return result;
}

enum status rdma_ibv_qp_modify(struct rdma_qp *base, const struct rdma_qp_attr *attr, uint32_t mask)
{
    struct rdma_ibv_qp *qp = rdma_ibv_qp_of(base);
    struct rdma_ibv_device *d = rdma_ibv_device_of(base->pd->device);

    if (!in_range(&d->base.attr, attr, mask)) {
        return STATUS_INVALID;
    }
    struct ibv_qp_attr out = {
        .qp_state = (enum ibv_qp_state)attr->state,
        .path_mtu = (enum ibv_mtu)attr->path_mtu,
        .qkey = attr->qkey,
        .rq_psn = attr->rq_psn,
        .sq_psn = attr->sq_psn,
        .dest_qp_num = attr->dest_qpn,
        .qp_access_flags = (unsigned int)rdma_ibv_access(attr->access & ~RDMA_ACCESS_LOCAL_WRITE),
        .pkey_index = RDMA_IBV_PKEY_INDEX,
        .en_sqd_async_notify = 1,
        .max_rd_atomic = attr->max_rd_atomic,
        .max_dest_rd_atomic = attr->max_dest_rd_atomic,
        .min_rnr_timer = attr->min_rnr_timer,
        .port_num = d->port,
        .timeout = attr->timeout,
        .retry_cnt = attr->retry_cnt,
        .rnr_retry = attr->rnr_retry,
    };
    if ((mask & RDMA_QP_AV) != 0) {
        rdma_ibv_fill_ah(d, &attr->av, &out.ah_attr);
    }
    return rdma_ibv_qp_apply(qp, &out, convert_mask(attr, mask));
}

/* --- reports --------------------------------------------------------------------------------- */

static void fill_info(const struct ibv_qp_attr *attr, struct rdma_qp_info *info)
{
    info->attr = (struct rdma_qp_attr){
        .state = (uint8_t)attr->qp_state,
        .access =
            (uint8_t)((attr->qp_access_flags & IBV_ACCESS_REMOTE_WRITE ? RDMA_ACCESS_REMOTE_WRITE
                                                                       : 0) |
                      (attr->qp_access_flags & IBV_ACCESS_REMOTE_READ ? RDMA_ACCESS_REMOTE_READ
                                                                      : 0)),
        .path_mtu = (uint8_t)attr->path_mtu,
        .timeout = attr->timeout,
        .retry_cnt = attr->retry_cnt,
        .rnr_retry = attr->rnr_retry,
        .max_rd_atomic = attr->max_rd_atomic,
        .max_dest_rd_atomic = attr->max_dest_rd_atomic,
        .min_rnr_timer = attr->min_rnr_timer,
        .qkey = attr->qkey,
        .rq_psn = attr->rq_psn,
        .sq_psn = attr->sq_psn,
        .dest_qpn = attr->dest_qp_num,
        .av = {.sgid_index = attr->ah_attr.grh.sgid_index,
               .traffic_class = attr->ah_attr.grh.traffic_class,
               .hop_limit = attr->ah_attr.grh.hop_limit},
    };
    memcpy(info->attr.av.dgid.bytes, attr->ah_attr.grh.dgid.raw, sizeof(info->attr.av.dgid.bytes));
    info->sq_next_psn = attr->sq_psn;
    info->rq_psn = attr->rq_psn;
}

void rdma_ibv_qp_query(const struct rdma_qp *base, struct rdma_qp_info *info)
{
    const struct rdma_ibv_qp *qp = rdma_ibv_qp_of((struct rdma_qp *)(uintptr_t)base);
    struct ibv_qp_attr attr;
    struct ibv_qp_init_attr init;

    *info = (struct rdma_qp_info){0};
    int mask = IBV_QP_STATE | IBV_QP_ACCESS_FLAGS | IBV_QP_PATH_MTU | IBV_QP_TIMEOUT |
               IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC |
               IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER | IBV_QP_QKEY | IBV_QP_RQ_PSN |
               IBV_QP_SQ_PSN | IBV_QP_DEST_QPN | IBV_QP_AV;
    if (ibv_query_qp(qp->ibv, &attr, mask, &init) == 0) {
        fill_info(&attr, info);
    } else {
        info->attr.state = base->state;
    }
    info->send_posted = qp->send_head - qp->send_tail;
    info->recv_posted = rdma_ibv_recv_slots_of(qp)->posted;
}

void rdma_ibv_qp_visit(struct rdma_device *device, void (*visit)(struct rdma_qp *qp, void *ctx),
                       void *ctx)
{
    LIST_FOR_EACH(node, next, &rdma_ibv_device_of(device)->all_qps)
    {
        visit(&LIST_ENTRY(node, struct rdma_ibv_qp, link)->base, ctx);
    }
}
