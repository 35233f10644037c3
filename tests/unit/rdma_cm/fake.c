#include "tests/unit/rdma_cm/fake.h"

#include "base/assert.h"

static struct fake *fake_of(const struct rdma_device *device)
{
    return CONTAINER_OF((uintptr_t)device, struct fake, device);
}

static enum status pd_alloc(struct rdma_device *device, uint16_t fn, struct rdma_pd **out)
{
    struct fake *fake = fake_of(device);
    fake->pd = (struct rdma_pd){.device = device, .fn = fn};
    *out = &fake->pd;
    return STATUS_OK;
}

static enum status mr_reg(struct rdma_pd *pd, const struct rdma_mr_attr *attr, struct rdma_mr **out)
{
    struct fake *fake = fake_of(pd->device);
    ASSERT(attr->kind == RDMA_MR_NIC && attr->len_bytes > 0);
    fake->mr = (struct rdma_mr){.pd = pd, .lkey = 0x1234, .rkey = 0x1234};
    *out = &fake->mr;
    return STATUS_OK;
}

static uint64_t cq_memory_bytes(const struct rdma_device *device, uint32_t entry_count)
{
    (void)device;
    return entry_count * sizeof(struct rdma_wc);
}

static enum status cq_create(struct rdma_device *device, const struct rdma_cq_attr *attr,
                             struct rdma_cq **out)
{
    struct fake *fake = fake_of(device);
    ASSERT((uintptr_t)attr->memory % 64 == 0);
    fake->cq = (struct rdma_cq){.device = device, .ctx = attr->ctx};
    *out = &fake->cq;
    return STATUS_OK;
}

static void push_wc(struct fake *fake, const struct rdma_wc *wc)
{
    ASSERT(fake->cq_tail - fake->cq_head < FAKE_CQES);
    fake->cqes[fake->cq_tail++ % FAKE_CQES] = *wc;
}

static uint32_t cq_poll(struct rdma_cq *cq, struct rdma_wc *wcs, uint32_t max)
{
    struct fake *fake = fake_of(cq->device);
    uint32_t count = 0;

    while (count < max && fake->cq_head != fake->cq_tail) {
        wcs[count++] = fake->cqes[fake->cq_head++ % FAKE_CQES];
    }
    return count;
}

static uint64_t qp_memory_bytes(const struct rdma_device *device,
                                const struct rdma_qp_init_attr *attr)
{
    (void)device;
    return (attr->send_wr_count + attr->recv_wr_count) * 100;
}

static enum status qp_create(const struct rdma_qp_init_attr *attr, struct rdma_qp **out)
{
    struct fake *fake = fake_of(attr->pd->device);
    ASSERT(attr->type == RDMA_QP_GSI && (uintptr_t)attr->memory % 64 == 0);
    fake_qp_init(fake, &fake->qp1, MAD_GSI_QPN);
    fake->qp1.qp.type = RDMA_QP_GSI;
    *out = &fake->qp1.qp;
    return STATUS_OK;
}

static enum status qp_modify(struct rdma_qp *qp, const struct rdma_qp_attr *attr, uint32_t mask)
{
    struct fake *fake = fake_of(qp->pd->device);
    struct fake_qp *fake_qp = CONTAINER_OF(qp, struct fake_qp, qp);

    ASSERT((mask & RDMA_QP_STATE) != 0);
    if (qp->type == RDMA_QP_RC && fake->modify_status != STATUS_OK &&
        attr->state == fake->modify_state) {
        return fake->modify_status;
    }
    /* RESET, INIT, RTR, RTS follow on each other; ERR follows on all. */
    ASSERT(attr->state == RDMA_QP_ERR || attr->state == qp->state + 1 ||
           (attr->state == RDMA_QP_RTS && qp->state == RDMA_QP_SQE));
    ASSERT(fake_qp->move_count < FAKE_MOVES);
    fake_qp->moves[fake_qp->move_count].attr = *attr;
    fake_qp->moves[fake_qp->move_count++].mask = mask;
    qp->state = attr->state;
    return STATUS_OK;
}

static void complete_send(struct fake *fake, uint64_t wr_id)
{
    struct rdma_wc wc = {.wr_id = wr_id,
                         .qp = &fake->qp1.qp,
                         .status = fake->send_wc_status,
                         .opcode = RDMA_WC_SEND};
    push_wc(fake, &wc);
}

static enum status post_send(struct rdma_qp *qp, const struct rdma_send_wr *wr,
                             const struct rdma_send_wr **bad)
{
    struct fake *fake = fake_of(qp->pd->device);
    struct fake_ah *ah = CONTAINER_OF(wr->ud.ah, struct fake_ah, ah);
    struct fake_sent sent = {.to = ah->av.dgid};

    (void)bad;
    ASSERT(qp == &fake->qp1.qp && qp->state == RDMA_QP_RTS);
    ASSERT(wr->next == NULL && wr->sge_count == 1 && wr->opcode == RDMA_WR_SEND);
    ASSERT(wr->ud.remote_qpn == 1 && wr->ud.remote_qkey == 0x80010000);
    ASSERT(ah->in_use && ah->ah.state == NET_PATH_READY);
    ASSERT(wr->sges[0].len_bytes == MAD_BYTES && wr->sges[0].lkey == fake->mr.lkey);
    memcpy(&sent.mad, mem_bus_ptr(wr->sges[0].addr), MAD_BYTES);
    fake->sent[fake->sent_count % FAKE_SENT] = sent;
    fake->sent_count++;
    if (fake->holds_sends) {
        ASSERT(fake->held_count < FAKE_CQES);
        fake->held[fake->held_count++] = wr->wr_id;
    } else {
        complete_send(fake, wr->wr_id);
    }
    if (fake->wire != NULL) {
        fake->wire(fake, &sent);
    }
    return STATUS_OK;
}

static enum status post_recv(struct rdma_qp *qp, const struct rdma_recv_wr *wr,
                             const struct rdma_recv_wr **bad)
{
    struct fake *fake = fake_of(qp->pd->device);

    (void)bad;
    ASSERT(fake->recv_tail - fake->recv_head < FAKE_RECVS);
    ASSERT(wr->sges[0].len_bytes == MAD_GRH_BYTES + MAD_BYTES);
    fake->recvs[fake->recv_tail % FAKE_RECVS].wr_id = wr->wr_id;
    fake->recvs[fake->recv_tail++ % FAKE_RECVS].memory = mem_bus_ptr(wr->sges[0].addr);
    return STATUS_OK;
}

static enum status ah_create(struct rdma_pd *pd, const struct rdma_av *av, struct rdma_ah **out)
{
    struct fake *fake = fake_of(pd->device);

    if (fake->ah_status != STATUS_OK) {
        return fake->ah_status;
    }
    for (uint32_t i = 0; i < FAKE_AHS; i++) {
        struct fake_ah *ah = &fake->ahs[i];
        if (!ah->in_use) {
            *ah = (struct fake_ah){.ah = {.pd = pd, .state = fake->ah_state}, .av = *av};
            ah->in_use = true;
            fake->ah_count++;
            *out = &ah->ah;
            return STATUS_OK;
        }
    }
    return STATUS_NO_SPACE;
}

static void ah_destroy(struct rdma_ah *ah)
{
    struct fake *fake = fake_of(ah->pd->device);
    struct fake_ah *fake_ah = CONTAINER_OF(ah, struct fake_ah, ah);

    ASSERT(fake_ah->in_use);
    fake_ah->in_use = false;
    fake->ah_count--;
}

static const struct rdma_ops ops = {
    .pd_alloc = pd_alloc,
    .mr_reg = mr_reg,
    .cq_memory_bytes = cq_memory_bytes,
    .cq_create = cq_create,
    .cq_poll = cq_poll,
    .qp_memory_bytes = qp_memory_bytes,
    .qp_create = qp_create,
    .qp_modify = qp_modify,
    .post_send = post_send,
    .post_recv = post_recv,
    .ah_create = ah_create,
    .ah_destroy = ah_destroy,
};

/* --- for tests ----------------------------------------------------------------------------- */

struct net_addr fake_ipv4(uint8_t last)
{
    return (struct net_addr){{[10] = 0xff, [11] = 0xff, 192, 0, 2, last}};
}

void fake_init(struct fake *fake, uint8_t last)
{
    memset(fake, 0, sizeof(*fake));
    fake->device.ops = &ops;
    fake->device.name = "fake";
    fake->device.attr = (struct rdma_device_attr){
        .rd_atomic_max = 16, .dest_rd_atomic_max = 16, .path_mtu_max = RDMA_MTU_4096};
    fake->addrs[0] = (struct net_if_addr){
        .addr = {{0xfe, 0x80, [8] = 0x50, 0x54, 0, 0xff, 0xfe, 0, 0, last}}, .prefix_bits = 64};
    fake->addrs[1] = (struct net_if_addr){.addr = fake_ipv4(last), .prefix_bits = 24};
    fake->addrs[2] =
        (struct net_if_addr){.addr = {{0x20, 0x01, 0x0d, 0xb8, [15] = last}}, .prefix_bits = 64};
    fake->addr_count = 3;
    fake->ah_state = NET_PATH_READY;
    fake->random = last * 0x9e3779b9u;
}

const struct net_if_addr *fake_addr(const struct net_if *nif, uint32_t index)
{
    const struct fake *fake = (const struct fake *)(const void *)nif;
    return index < fake->addr_count ? &fake->addrs[index] : NULL;
}

uint32_t fake_random(struct rng *rng)
{
    struct fake *fake = (struct fake *)(void *)rng;
    fake->random = fake->random * 1664525u + 1013904223u;
    return fake->random;
}

struct rdma_cm_soft_config fake_config(struct fake *fake, uint32_t id_count)
{
    return (struct rdma_cm_soft_config){
        .id_count = id_count,
        .nif = (const struct net_if *)(const void *)fake,
        .addr = fake_addr,
        .rng = (struct rng *)(void *)fake,
        .random = fake_random,
    };
}

void fake_qp_init(struct fake *fake, struct fake_qp *qp, uint32_t num)
{
    memset(qp, 0, sizeof(*qp));
    qp->qp = (struct rdma_qp){.pd = &fake->pd, .num = num, .type = RDMA_QP_RC};
}

void fake_clear(struct fake *fake)
{
    fake->sent_count = 0;
}

static void put_header(uint8_t *grh, const struct net_addr *src, const struct net_addr *dst)
{
    if (net_addr_is_ipv4(src)) {
        /* The first 20 bytes stay as they were. */
        memset(grh + 20, 0, 20);
        grh[20] = 0x45;
        memcpy(grh + 32, src->bytes + 12, 4);
        memcpy(grh + 36, dst->bytes + 12, 4);
    } else {
        memset(grh, 0, MAD_GRH_BYTES);
        grh[0] = 0x60;
        memcpy(grh + 8, src->bytes, 16);
        memcpy(grh + 24, dst->bytes, 16);
    }
}

void fake_inject(struct fake *fake, const struct net_addr *src, const struct net_addr *dst,
                 const void *mad, uint32_t len_bytes)
{
    if (fake->recv_head == fake->recv_tail) {
        fake->no_recv_count++;
        return;
    }
    uint32_t slot = fake->recv_head++ % FAKE_RECVS;
    struct rdma_wc wc = {
        .wr_id = fake->recvs[slot].wr_id,
        .qp = &fake->qp1.qp,
        .len_bytes = MAD_GRH_BYTES + len_bytes,
        .src_qpn = 1,
        .opcode = RDMA_WC_RECV,
        .flags = RDMA_WC_GRH,
    };
    put_header(fake->recvs[slot].memory, src, dst);
    if (len_bytes > 0) {
        memcpy(fake->recvs[slot].memory + MAD_GRH_BYTES, mad,
               len_bytes < MAD_BYTES ? len_bytes : MAD_BYTES);
    }
    push_wc(fake, &wc);
}

void fake_ah_move(struct fake *fake, uint8_t state)
{
    for (uint32_t i = 0; i < FAKE_AHS; i++) {
        struct rdma_ah *ah = &fake->ahs[i].ah;
        if (fake->ahs[i].in_use && ah->state != state) {
            ah->state = state;
            ah->changed(ah);
        }
    }
}

void fake_release(struct fake *fake)
{
    for (uint32_t i = 0; i < fake->held_count; i++) {
        complete_send(fake, fake->held[i]);
    }
    fake->held_count = 0;
}
