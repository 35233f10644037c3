#include "tests/unit/diag/fake_rdma.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "base/bits.h"
#include "sched/sched.h"
#include "tests/unit/diag/fake_rdma_priv.h"

struct fake fake;
struct fake_rdma_faults fake_rdma_faults;
uint8_t fake_rdma_source;

struct net_addr fake_rdma_addr(uint8_t n)
{
    return (struct net_addr){{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, n}};
}

bool fake_fails(void)
{
    return fake_rdma_faults.fail_at != 0 && --fake_rdma_faults.fail_at == 0;
}

#define TAKE(array, out)                                  \
    for (uint32_t i_ = 0; i_ < ARRAY_SIZE(array); i_++) { \
        if (!(array)[i_].is_used) {                       \
            memset(&(array)[i_], 0, sizeof((array)[i_])); \
            (array)[i_].is_used = true;                   \
            (out) = &(array)[i_];                         \
            break;                                        \
        }                                                 \
    }

/* --- domains and regions ------------------------------------------------------------------- */

static enum status pd_alloc(struct rdma_device *device, uint16_t fn, struct rdma_pd **out)
{
    struct fake_pd *pd = NULL;
    if (!fake_fails()) {
        TAKE(fake.pds, pd);
    }
    if (pd == NULL) {
        return STATUS_NO_SPACE;
    }
    pd->base = (struct rdma_pd){.device = device, .fn = fn};
    *out = &pd->base;
    return STATUS_OK;
}

static enum status pd_free(struct rdma_pd *base)
{
    struct fake_pd *pd = (struct fake_pd *)base;
    assert_true(pd->is_used);
    for (uint32_t i = 0; i < ARRAY_SIZE(fake.mrs); i++) {
        if (fake.mrs[i].is_used && fake.mrs[i].base.pd == base) {
            return STATUS_AGAIN;
        }
    }
    pd->is_used = false;
    return STATUS_OK;
}

static enum status mr_reg(struct rdma_pd *pd, const struct rdma_mr_attr *attr, struct rdma_mr **out)
{
    struct fake_mr *mr = NULL;
    assert_int_equal(attr->kind, RDMA_MR_NIC);
    if ((attr->access & RDMA_ACCESS_REMOTE_WRITE) != 0 &&
        (attr->access & RDMA_ACCESS_LOCAL_WRITE) == 0) {
        return STATUS_INVALID;
    }
    if (attr->len_bytes == 0) {
        return STATUS_INVALID;
    }
    if (!fake_fails()) {
        TAKE(fake.mrs, mr);
    }
    if (mr == NULL) {
        return STATUS_NO_SPACE;
    }
    uint32_t key = 0x100 + fake.next_key++;
    mr->base = (struct rdma_mr){.pd = pd, .lkey = key, .rkey = key};
    mr->attr = *attr;
    *out = &mr->base;
    return STATUS_OK;
}

static enum status mr_dereg(struct rdma_mr *base)
{
    struct fake_mr *mr = (struct fake_mr *)base;
    assert_true(mr->is_used);
    base->lkey = 0;
    base->rkey = 0;
    if (fake_rdma_faults.dereg_again > 0) {
        fake_rdma_faults.dereg_again--;
        return STATUS_AGAIN;
    }
    mr->is_used = false;
    return STATUS_OK;
}

/* --- completion queues --------------------------------------------------------------------- */

static uint64_t cq_memory_bytes(const struct rdma_device *device, uint32_t entry_count)
{
    (void)device;
    return entry_count * sizeof(struct rdma_wc);
}

static enum status cq_create(struct rdma_device *device, const struct rdma_cq_attr *attr,
                             struct rdma_cq **out)
{
    struct fake_cq *cq = NULL;
    assert_true(is_aligned((uintptr_t)attr->memory, 64));
    if (!fake_fails()) {
        TAKE(fake.cqs, cq);
    }
    if (cq == NULL) {
        return STATUS_NO_SPACE;
    }
    cq->base = (struct rdma_cq){.device = device, .ctx = attr->ctx};
    cq->wcs = attr->memory;
    cq->room = attr->entry_count;
    *out = &cq->base;
    return STATUS_OK;
}

static enum status cq_destroy(struct rdma_cq *base)
{
    struct fake_cq *cq = (struct fake_cq *)base;
    assert_true(cq->is_used);
    cq->is_used = false;
    return STATUS_OK;
}

static uint32_t cq_poll(struct rdma_cq *base, struct rdma_wc *wcs, uint32_t max)
{
    struct fake_cq *cq = (struct fake_cq *)base;
    uint32_t count = min_u32(max, cq->count);
    memcpy(wcs, cq->wcs, count * sizeof(*wcs));
    cq->count -= count;
    memmove(cq->wcs, cq->wcs + count, cq->count * sizeof(*wcs));
    return count;
}

static void cq_forget(struct rdma_cq *base, const struct rdma_qp *qp)
{
    struct fake_cq *cq = (struct fake_cq *)base;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < cq->count; i++) {
        if (cq->wcs[i].qp != qp) {
            cq->wcs[kept++] = cq->wcs[i];
        }
    }
    cq->count = kept;
}

static void complete(struct rdma_cq *base, const struct rdma_wc *wc)
{
    struct fake_cq *cq = (struct fake_cq *)base;
    assert_true(cq->count < cq->room); /* else the CQ overran */
    cq->wcs[cq->count++] = *wc;
}

/* --- queue pairs --------------------------------------------------------------------------- */

static uint64_t qp_memory_bytes(const struct rdma_device *device,
                                const struct rdma_qp_init_attr *attr)
{
    (void)device;
    return 64 + attr->send_wr_count + attr->recv_wr_count;
}

static enum status qp_create(const struct rdma_qp_init_attr *attr, struct rdma_qp **out)
{
    struct fake_qp *qp = NULL;
    assert_true(is_aligned((uintptr_t)attr->memory, 64));
    assert_true(attr->send_wr_count <= FAKE_WRS && attr->recv_wr_count <= FAKE_WRS);
    if (!fake_fails()) {
        TAKE(fake.qps, qp);
    }
    if (qp == NULL) {
        return STATUS_NO_SPACE;
    }
    memset(attr->memory, 0xaa, qp_memory_bytes(attr->pd->device, attr));
    qp->base = (struct rdma_qp){.pd = attr->pd,
                                .send_cq = attr->send_cq,
                                .recv_cq = attr->recv_cq,
                                .ctx = attr->ctx,
                                .num = 0x10 + fake.next_qpn++,
                                .type = RDMA_QP_RC,
                                .state = RDMA_QP_RESET};
    qp->init = *attr;
    *out = &qp->base;
    return STATUS_OK;
}

static enum status qp_destroy(struct rdma_qp *base)
{
    struct fake_qp *qp = (struct fake_qp *)base;
    assert_true(qp->is_used);
    qp->send_count = 0;
    qp->recv_count = 0;
    qp->base.state = RDMA_QP_ERR;
    if (qp->peer != NULL) {
        qp->peer->peer = NULL;
        qp->peer = NULL;
    }
    cq_forget(base->send_cq, base);
    cq_forget(base->recv_cq, base);
    if (fake_rdma_faults.destroy_again > 0) {
        fake_rdma_faults.destroy_again--;
        return STATUS_AGAIN;
    }
    qp->is_used = false;
    return STATUS_OK;
}

void fake_qp_error(struct fake_qp *qp)
{
    if (qp->base.state == RDMA_QP_ERR) {
        return;
    }
    qp->base.state = RDMA_QP_ERR;
    for (uint32_t i = 0; i < qp->send_count; i++) {
        struct rdma_wc wc = {
            .wr_id = qp->sends[i].wr_id, .qp = &qp->base, .status = RDMA_WC_WR_FLUSH_ERR};
        complete(qp->base.send_cq, &wc);
    }
    for (uint32_t i = 0; i < qp->recv_count; i++) {
        struct rdma_wc wc = {.wr_id = qp->recvs[i].wr_id,
                             .qp = &qp->base,
                             .status = RDMA_WC_WR_FLUSH_ERR,
                             .opcode = RDMA_WC_RECV};
        complete(qp->base.recv_cq, &wc);
    }
    qp->send_count = 0;
    qp->recv_count = 0;
}

static void qp_query(const struct rdma_qp *base, struct rdma_qp_info *info)
{
    const struct fake_qp *qp = (const struct fake_qp *)base;
    *info = (struct rdma_qp_info){.send_posted = qp->send_count, .recv_posted = qp->recv_count};
    info->attr.dest_qpn = qp->dest_qpn;
    info->attr.access = qp->access;
    info->stats.rx_packets = qp->rx_packets;
}

static enum status post_send(struct rdma_qp *base, const struct rdma_send_wr *wr,
                             const struct rdma_send_wr **bad)
{
    struct fake_qp *qp = (struct fake_qp *)base;
    (void)bad;
    assert_null(wr->next);
    if (base->state != RDMA_QP_RTS && base->state != RDMA_QP_ERR) {
        return STATUS_INVALID;
    }
    if (fake_rdma_faults.post_again > 0) {
        fake_rdma_faults.post_again--;
        return STATUS_AGAIN;
    }
    if (qp->send_count == qp->init.send_wr_count) {
        return STATUS_AGAIN;
    }
    assert_true(wr->sge_count <= qp->init.send_sge_count);
    struct fake_wr *to = &qp->sends[qp->send_count++];
    *to = (struct fake_wr){.wr_id = wr->wr_id,
                           .opcode = wr->opcode,
                           .flags = wr->flags,
                           .sge_count = wr->sge_count,
                           .remote_addr = wr->rdma.remote_addr,
                           .rkey = wr->rdma.rkey};
    memcpy(to->sges, wr->sges, wr->sge_count * sizeof(wr->sges[0]));
    if (base->state == RDMA_QP_ERR) {
        struct rdma_wc wc = {.wr_id = wr->wr_id, .qp = base, .status = RDMA_WC_WR_FLUSH_ERR};
        qp->send_count--;
        complete(base->send_cq, &wc);
    }
    return STATUS_OK;
}

static enum status post_recv(struct rdma_qp *base, const struct rdma_recv_wr *wr,
                             const struct rdma_recv_wr **bad)
{
    struct fake_qp *qp = (struct fake_qp *)base;
    (void)bad;
    for (; wr != NULL; wr = wr->next) {
        if (base->state == RDMA_QP_RESET) {
            return STATUS_INVALID;
        }
        if (qp->recv_count == qp->init.recv_wr_count) {
            return STATUS_AGAIN;
        }
        assert_true(wr->sge_count <= qp->init.recv_sge_count);
        struct fake_wr *to = &qp->recvs[qp->recv_count++];
        *to = (struct fake_wr){.wr_id = wr->wr_id, .sge_count = wr->sge_count};
        memcpy(to->sges, wr->sges, wr->sge_count * sizeof(wr->sges[0]));
    }
    return STATUS_OK;
}

static void qp_visit(struct rdma_device *device, void (*visit)(struct rdma_qp *qp, void *ctx),
                     void *ctx)
{
    (void)device;
    for (uint32_t i = 0; i < FAKE_QPS; i++) {
        if (fake.qps[i].is_used) {
            visit(&fake.qps[i].base, ctx);
        }
    }
}

/* --- work ---------------------------------------------------------------------------------- */

/* Memory of [addr, + len) under the key; NULL: no such key, another domain, range or right. */
static uint8_t *reach(const struct rdma_pd *pd, uint32_t key, uint64_t addr, uint64_t len_bytes,
                      uint32_t access)
{
    for (uint32_t i = 0; i < ARRAY_SIZE(fake.mrs); i++) {
        const struct fake_mr *mr = &fake.mrs[i];
        uint64_t base = (uintptr_t)mr->attr.memory;
        if (mr->is_used && mr->base.rkey == key && key != 0 && mr->base.pd == pd) {
            bool fits = addr >= base && range_fits(addr - base, len_bytes, mr->attr.len_bytes);
            return fits && (mr->attr.access & access) == access ? (uint8_t *)(uintptr_t)addr : NULL;
        }
    }
    return NULL;
}

static uint32_t wr_bytes(const struct fake_wr *wr)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < wr->sge_count; i++) {
        sum += wr->sges[i].len_bytes;
    }
    return sum;
}

static uint8_t staging[FAKE_MESSAGE_BYTES];

/* Moves bytes between the staging memory and the segments. */
static bool move(const struct rdma_pd *pd, const struct fake_wr *wr, uint32_t len_bytes, bool out,
                 uint32_t access)
{
    uint32_t done = 0;
    for (uint32_t i = 0; i < wr->sge_count && done < len_bytes; i++) {
        uint32_t part = min_u32(wr->sges[i].len_bytes, len_bytes - done);
        uint8_t *at = reach(pd, wr->sges[i].lkey, wr->sges[i].addr, part, access);
        if (at == NULL) {
            return part == 0;
        }
        if (out) {
            memcpy(staging + done, at, part);
        } else {
            memcpy(at, staging + done, part);
        }
        done += part;
    }
    return done == len_bytes;
}

static void fail_both(struct fake_qp *qp, enum rdma_wc_status status)
{
    struct rdma_wc wc = {.wr_id = qp->sends[0].wr_id, .qp = &qp->base, .status = (uint8_t)status};
    complete(qp->base.send_cq, &wc);
    qp->send_count--;
    memmove(qp->sends, qp->sends + 1, qp->send_count * sizeof(qp->sends[0]));
    fake_qp_error(qp);
    if (qp->peer != NULL) {
        fake_qp_error(qp->peer);
    }
}

/* OK: done; RNR: not yet; else what goes wrong. */
static enum rdma_wc_status deliver(struct fake_qp *qp, uint32_t len_bytes)
{
    struct fake_qp *peer = qp->peer;
    struct fake_wr *recv = &peer->recvs[0];
    if (wr_bytes(recv) < len_bytes ||
        !move(peer->base.pd, recv, len_bytes, false, RDMA_ACCESS_LOCAL_WRITE)) {
        return RDMA_WC_REM_INV_REQ_ERR;
    }
    struct rdma_wc wc = {
        .wr_id = recv->wr_id, .qp = &peer->base, .opcode = RDMA_WC_RECV, .len_bytes = len_bytes};
    complete(peer->base.recv_cq, &wc);
    peer->recv_count--;
    memmove(peer->recvs, peer->recvs + 1, peer->recv_count * sizeof(peer->recvs[0]));
    return RDMA_WC_SUCCESS;
}

static enum rdma_wc_status execute(struct fake_qp *qp, const struct fake_wr *wr)
{
    struct fake_qp *peer = qp->peer;
    uint32_t len_bytes = wr_bytes(wr);
    uint32_t access = wr->opcode == RDMA_WR_RDMA_READ ? RDMA_ACCESS_LOCAL_WRITE : 0;
    assert_true(len_bytes <= FAKE_MESSAGE_BYTES);

    if (wr->opcode != RDMA_WR_RDMA_READ && !move(qp->base.pd, wr, len_bytes, true, access)) {
        return RDMA_WC_LOC_PROT_ERR;
    }
    if (wr->opcode == RDMA_WR_SEND) {
        return deliver(qp, len_bytes);
    }
    uint32_t right =
        wr->opcode == RDMA_WR_RDMA_READ ? RDMA_ACCESS_REMOTE_READ : RDMA_ACCESS_REMOTE_WRITE;
    uint8_t *at = reach(peer->base.pd, wr->rkey, wr->remote_addr, len_bytes, right);
    if (at == NULL || (peer->access & right) == 0) {
        return RDMA_WC_REM_ACCESS_ERR;
    }
    if (wr->opcode == RDMA_WR_RDMA_WRITE) {
        memcpy(at, staging, len_bytes);
        return RDMA_WC_SUCCESS;
    }
    assert_int_equal(wr->opcode, RDMA_WR_RDMA_READ);
    memcpy(staging, at, len_bytes);
    return move(qp->base.pd, wr, len_bytes, false, access) ? RDMA_WC_SUCCESS : RDMA_WC_LOC_PROT_ERR;
}

static uint32_t qp_run(struct fake_qp *qp)
{
    static const uint8_t opcodes[] = {
        [RDMA_WR_SEND] = RDMA_WC_SEND,
        [RDMA_WR_RDMA_WRITE] = RDMA_WC_RDMA_WRITE,
        [RDMA_WR_RDMA_READ] = RDMA_WC_RDMA_READ,
    };
    struct fake_wr wr = qp->sends[0];
    if (qp->base.state != RDMA_QP_RTS || qp->send_count == 0 || qp->peer == NULL) {
        return 0;
    }
    if (wr.opcode == RDMA_WR_SEND && qp->peer->recv_count == 0) {
        return 0; /* receiver not ready */
    }
    qp->peer->rx_packets++;
    enum rdma_wc_status status = execute(qp, &wr);
    if (status != RDMA_WC_SUCCESS) {
        fail_both(qp, status);
        return 1;
    }
    qp->send_count--;
    memmove(qp->sends, qp->sends + 1, qp->send_count * sizeof(qp->sends[0]));
    if ((wr.flags & RDMA_SEND_SIGNALED) != 0) {
        struct rdma_wc wc = {.wr_id = wr.wr_id,
                             .qp = &qp->base,
                             .opcode = opcodes[wr.opcode],
                             .len_bytes = wr_bytes(&wr)};
        complete(qp->base.send_cq, &wc);
    }
    return 1;
}

static uint32_t fake_run(void *ctx)
{
    uint32_t work = fake_cm_run();
    (void)ctx;
    for (uint32_t i = 0; i < FAKE_QPS; i++) {
        if (fake.qps[i].is_used) {
            work += qp_run(&fake.qps[i]);
        }
    }
    return work;
}

/* --- start --------------------------------------------------------------------------------- */

static const struct rdma_ops ops = {
    .pd_alloc = pd_alloc,
    .pd_free = pd_free,
    .mr_reg = mr_reg,
    .mr_dereg = mr_dereg,
    .cq_memory_bytes = cq_memory_bytes,
    .cq_create = cq_create,
    .cq_destroy = cq_destroy,
    .cq_poll = cq_poll,
    .qp_memory_bytes = qp_memory_bytes,
    .qp_create = qp_create,
    .qp_destroy = qp_destroy,
    .qp_query = qp_query,
    .post_send = post_send,
    .post_recv = post_recv,
    .qp_visit = qp_visit,
};

struct rdma_device *fake_rdma_start(void)
{
    static struct poller poller = {.name = "fake", .run = fake_run};
    memset(&fake, 0, sizeof(fake));
    memset(&fake_rdma_faults, 0, sizeof(fake_rdma_faults));
    fake_rdma_source = 1;
    fake.device = (struct rdma_device){
        .ops = &ops,
        .cm_ops = &fake_cm_ops,
        .name = "fake",
        .attr = {.qp_count = FAKE_QPS,
                 .wr_count_max = FAKE_WRS,
                 .cqe_count_max = 65536,
                 .sge_max = 4,
                 .inline_bytes_max = 0,
                 .rd_atomic_max = 16,
                 .dest_rd_atomic_max = 16,
                 .msg_bytes_max = FAKE_MESSAGE_BYTES},
    };
    sched_poller_add(&poller);
    return &fake.device;
}

#define COUNT(array, count)                               \
    for (uint32_t i_ = 0; i_ < ARRAY_SIZE(array); i_++) { \
        (count) += (array)[i_].is_used ? 1u : 0u;         \
    }

uint32_t fake_rdma_qp_count(void)
{
    uint32_t count = 0;
    COUNT(fake.qps, count);
    return count;
}

bool fake_rdma_is_quiet(uint32_t listeners)
{
    uint32_t ids = 0;
    COUNT(fake.ids, ids);
    return fake_rdma_qp_count() == 0 && ids == listeners && fake.event_count == 0;
}
