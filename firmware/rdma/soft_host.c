/*
 * Receive rings and completion queues in the memory of a host, who may change what lies there at
 * any moment (types.h, struct rdma_host_recv).
 *
 * An entry is read once, as a copy; the copy is checked; what decides is kept here. So a receive
 * entry is the number of a buffer, and a completion names its QP by the place in our table: there
 * is no pointer, address or key to be forged, nor any to be learned but the ones of the host's own
 * I/O.
 *
 * Order: producer and consumer are the same core, so there is none to be made. Where host memory
 * lies behind PCIe, a read does not pass the posted writes before it (PCIe Base Specification,
 * 2.4.1, table of ordering rules, row "non-posted request", column "posted request"; the relaxed
 * ordering attribute must be off), and the mapping must keep accesses to one address in order.
 */
#include "rdma/soft_priv.h"

#include "base/shm.h"

#define NO_QP UINT32_MAX

struct soft_host_cqe {
    uint32_t qp_index; /* NO_QP: none, it is gone */
    uint32_t slot;
    uint32_t len_bytes;
    uint32_t imm;
    uint8_t status;
    uint8_t opcode;
    uint8_t flags;
    uint8_t vendor_err;
    uint32_t reserved[3];
};
ASSERT_SIZE(struct soft_host_cqe, 32);
ASSERT_SIZE(struct soft_host_cqe, sizeof(struct rdma_wc)); /* soft_cq_memory_bytes() */

static void count_read(struct soft_device *dev, uint32_t bytes)
{
    counter_add(&dev->stats.host_ring_reads, 1);
    counter_add(&dev->stats.host_ring_read_bytes, bytes);
}

static void count_write(struct soft_device *dev, uint32_t bytes)
{
    counter_add(&dev->stats.host_ring_writes, 1);
    counter_add(&dev->stats.host_ring_write_bytes, bytes);
}

/* --- receive rings ---------------------------------------------------------------------------- */

bool soft_host_recv_is_valid(const struct rdma_host_recv *host)
{
    return host->ring != NULL && host->slot_bytes != 0 && host->slot_count != 0;
}

static uint32_t *entry_of(const struct soft_recv_ring *ring, uint32_t index)
{
    return (uint32_t *)ring->host.ring + (index & ring->mask);
}

enum status soft_host_post(struct soft_device *dev, struct soft_recv_ring *ring,
                           const struct rdma_recv_wr *wr, const struct rdma_recv_wr **bad)
{
    enum status status = STATUS_OK;

    for (; wr != NULL; wr = wr->next) {
        if (wr->wr_id >= ring->host.slot_count) {
            status = STATUS_INVALID;
            break;
        }
        if (ring->head - ring->tail > ring->mask) {
            status = STATUS_AGAIN;
            break;
        }
        shm_store32(entry_of(ring, ring->head++), (uint32_t)wr->wr_id);
        count_write(dev, sizeof(uint32_t));
    }
    if (status != STATUS_OK && bad != NULL) {
        *bad = wr;
    }
    return status;
}

void soft_host_take(struct soft_device *dev, struct soft_recv_ring *ring, struct soft_recv_wqe *wqe)
{
    const struct rdma_host_recv *host = &ring->host;
    uint32_t slot = shm_load32(entry_of(ring, ring->tail++));
    uint32_t lkey = host->lkey;

    count_read(dev, sizeof(uint32_t));
    if (UNLIKELY(slot >= host->slot_count)) {
        counter_add(&dev->stats.host_ring_faults, 1);
        slot = 0;
        lkey = 0; /* nobody's: the message is not placed */
    }
    wqe->wr_id = slot;
    wqe->sge_count = 1;
    wqe->len_bytes = host->slot_bytes;
    wqe->sges[0] = (struct rdma_sge){.addr = host->slots_addr + (uint64_t)slot * host->slot_bytes,
                                     .len_bytes = host->slot_bytes,
                                     .lkey = lkey};
}

/* --- completion queues ------------------------------------------------------------------------ */

void soft_host_push(struct soft_qp *qp)
{
    struct soft_cq *cq = soft_cq_of(qp->qp.recv_cq);
    const struct rdma_wc *wc = &cq->host_wc;
    _Alignas(16) struct soft_host_cqe cqe = {.qp_index = qp->index,
                                             .slot = (uint32_t)wc->wr_id,
                                             .len_bytes = wc->len_bytes,
                                             .imm = wc->imm,
                                             .status = wc->status,
                                             .opcode = wc->opcode,
                                             .flags = wc->flags,
                                             .vendor_err = wc->vendor_err};

    shm_copy32(&cq->host_cqes[(cq->head - 1) & cq->mask], &cqe);
    count_write(qp->dev, sizeof(cqe));
    qp->host_cqe_count++;
}

/* Whose completion it may be. */
static struct soft_qp *owner_of(struct soft_cq *cq, const struct soft_host_cqe *cqe)
{
    struct soft_device *dev = soft_device_of(cq->cq.device);
    struct soft_qp *qp;

    if (cqe->qp_index > dev->qp_pool.count) {
        return NULL;
    }
    qp = &dev->qps[cqe->qp_index];
    return qp->is_used && qp->host_cqe_count > 0 && qp->qp.recv_cq == &cq->cq ? qp : NULL;
}

static bool status_exists(uint8_t status)
{
#define STATUS_BIT(name, value, text) | UINT32_C(1) << (value)
    uint32_t known = 0 RDMA_WC_STATUS_LIST(STATUS_BIT);
#undef STATUS_BIT

    return status < 32 && (known >> status & 1) != 0;
}

static bool is_plausible(const struct soft_recv_ring *ring, const struct soft_host_cqe *cqe)
{
    bool is_recv = cqe->opcode == RDMA_WC_RECV;

    return cqe->slot < ring->host.slot_count && status_exists(cqe->status) &&
           (is_recv || cqe->opcode == RDMA_WC_RECV_RDMA_WITH_IMM) &&
           (!is_recv || cqe->len_bytes <= ring->host.slot_bytes) &&
           (cqe->flags & ~(RDMA_WC_WITH_IMM | RDMA_WC_WITH_INV)) == 0;
}

/* Checks the copy of an entry. False: it is nobody's. */
static bool take_cqe(struct soft_cq *cq, const struct soft_host_cqe *cqe, struct rdma_wc *wc)
{
    struct soft_qp *qp = owner_of(cq, cqe);

    if (UNLIKELY(qp == NULL)) {
        return false;
    }
    qp->host_cqe_count--;
    if (UNLIKELY(!is_plausible(soft_recv_ring_of(qp), cqe))) {
        counter_add(&qp->dev->stats.host_ring_faults, 1);
        *wc =
            (struct rdma_wc){.qp = &qp->qp, .status = RDMA_WC_GENERAL_ERR, .opcode = RDMA_WC_RECV};
        return true;
    }
    *wc = (struct rdma_wc){.wr_id = cqe->slot,
                           .qp = &qp->qp,
                           .len_bytes = cqe->len_bytes,
                           .imm = cqe->imm,
                           .src_qpn = qp->attr.dest_qpn,
                           .status = cqe->status,
                           .opcode = cqe->opcode,
                           .flags = cqe->flags,
                           .vendor_err = cqe->vendor_err};
    return true;
}

uint32_t soft_host_poll(struct soft_cq *cq, struct rdma_wc *wcs, uint32_t max)
{
    struct soft_device *dev = soft_device_of(cq->cq.device);
    uint32_t count = 0;

    while (count < max && cq->tail != cq->head) {
        _Alignas(16) struct soft_host_cqe cqe;
        shm_copy32(&cqe, &cq->host_cqes[cq->tail++ & cq->mask]);
        count_read(dev, sizeof(cqe));
        if (LIKELY(take_cqe(cq, &cqe, &wcs[count]))) {
            count++;
        } else if (cqe.qp_index != NO_QP) {
            counter_add(&dev->stats.host_ring_faults, 1);
        }
    }
    return count;
}

void soft_host_purge(struct soft_cq *cq, struct soft_qp *qp)
{
    for (uint32_t i = cq->tail; i != cq->head; i++) {
        uint32_t *qp_index = &cq->host_cqes[i & cq->mask].qp_index;
        if (shm_load32(qp_index) == qp->index) {
            shm_store32(qp_index, NO_QP);
        }
    }
    qp->host_cqe_count = 0; /* whatever the host makes of them */
}
