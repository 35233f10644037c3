/* Receive rings and CQs in the memory of a host that changes them (rdma/types.h, struct
 * rdma_host_recv): what it does to them harms its own queue pairs alone. */
#include "rdma/rig.h"

#include <stdlib.h>

#define SLOTS      16u
#define SLOT_BYTES 256u
#define SLOTS_AT   65536u /* offset in rig.memory */
#define CQES       32u
#define CQE_BYTES  32u
#define SEEDS      3000u

/* Of the host: rings and completions, each an allocation of its own for the sanitizer. */
struct host {
    uint32_t *ring;
    uint8_t *cqes;
    struct rdma_cq *cq;
    struct rdma_host_recv recv;
};

static struct host host_of(struct rdma_pd *pd, struct rdma_mr *mr, uint32_t wr_count)
{
    struct host host = {.ring = malloc(rdma_host_ring_bytes(wr_count))};
    host.cq = rig_host_cq(pd, CQES, &host.cqes);
    host.recv = (struct rdma_host_recv){.ring = host.ring,
                                        .slots_addr = addr_at(SLOTS_AT),
                                        .lkey = mr->lkey,
                                        .slot_bytes = SLOT_BYTES,
                                        .slot_count = SLOTS};
    return host;
}

static struct rdma_qp *host_qp(const struct host *host, uint32_t recv_wrs)
{
    return rig_qp(&(struct rig_qp_options){
        .recv_cq = host->cq, .host_recv = &host->recv, .recv_wrs = recv_wrs});
}

static enum status post_slot(struct rdma_qp *qp, uint64_t slot)
{
    return rdma_post_recv(qp, &(struct rdma_recv_wr){.wr_id = slot}, NULL);
}

static void send_to(const struct rdma_qp *qp, uint32_t psn, uint32_t len)
{
    struct pkt *made = pkt(SEND_ONLY, psn, len);
    made->qpn = qp->num;
    peer_send(made);
}

static void expect_slot(const struct host *host, uint32_t slot, enum rdma_wc_status status)
{
    expect_wc_at(host->cq, slot, status, __FILE__, __LINE__);
}

/* --- as it should be -------------------------------------------------------------------------- */

static void recv_through_host_rings_is_placed_and_told(void **state)
{
    (void)state;
    struct host host = host_of(rig.pd, rig.mr, SLOTS);
    struct rdma_qp *qp = host_qp(&host, SLOTS);
    assert_int_equal(post_slot(qp, 3), STATUS_OK);
    assert_int_equal(host.ring[0], 3); /* where it lies */
    peer_send(pkt(SEND_ONLY, RQ_PSN, 100));
    struct rdma_wc wc = *expect_wc_at(host.cq, 3, RDMA_WC_SUCCESS, __FILE__, __LINE__);
    assert_ptr_equal(wc.qp, qp);
    assert_int_equal(wc.len_bytes, 100);
    assert_int_equal(wc.opcode, RDMA_WC_RECV);
    assert_int_equal(wc.src_qpn, PEER_QPN);
    assert_filled(SLOTS_AT + 3 * SLOT_BYTES, 100, 0);
    assert_int_equal(rig.memory[SLOTS_AT + 3 * SLOT_BYTES + 100], 0xee);
    expect_ack(RQ_PSN, 1);
    assert_int_equal(STAT(host_ring_writes), 2);
    assert_int_equal(STAT(host_ring_write_bytes), 4 + CQE_BYTES);
    assert_int_equal(STAT(host_ring_reads), 2);
    assert_int_equal(STAT(host_ring_read_bytes), 4 + CQE_BYTES);
    assert_int_equal(STAT(host_ring_faults), 0);
    free(host.ring);
}

/* Immediate data and the key that was invalidated come through. */
static void recv_of_invalidation_through_host_rings_names_the_key(void **state)
{
    (void)state;
    struct host host = host_of(rig.pd, rig.mr, SLOTS);
    struct rdma_qp *qp = host_qp(&host, SLOTS);
    struct mem_seg seg = {.bus_addr = addr_at(0), .len_bytes = 4096};
    struct mem_ref ref = {.segs = &seg, .len_bytes = 4096, .seg_count = 1, .space = MEM_SPACE_NIC};
    struct rdma_key *key = rig_key(rig.pd);
    assert_int_equal(rdma_key_bind(key, &ref, 0, ALL), STATUS_OK);
    assert_int_equal(post_slot(qp, 0), STATUS_OK);
    struct pkt *made = pkt(SEND_ONLY_INV, RQ_PSN, 16);
    made->imm = key->value;
    peer_send(made);
    const struct rdma_wc *wc = expect_wc_at(host.cq, 0, RDMA_WC_SUCCESS, __FILE__, __LINE__);
    assert_int_equal(wc->flags, RDMA_WC_WITH_INV);
    assert_int_equal(wc->imm, key->value);
    assert_false(key->is_bound);
    expect_ack(RQ_PSN, 1);
    free(host.ring);
}

static void host_rings_wrap_and_refuse_when_full(void **state)
{
    (void)state;
    struct host host = host_of(rig.pd, rig.mr, 4);
    struct rdma_qp *qp = host_qp(&host, 4);
    const struct rdma_recv_wr *bad = NULL;
    struct rdma_recv_wr wr = {.wr_id = SLOTS};
    assert_int_equal(rdma_post_recv(qp, &wr, &bad), STATUS_INVALID);
    assert_ptr_equal(bad, &wr);
    for (uint32_t i = 0; i < 100; i++) {
        for (uint32_t j = 0; j < 4; j++) {
            assert_int_equal(post_slot(qp, (i + j) % SLOTS), STATUS_OK);
        }
        assert_int_equal(post_slot(qp, 0), STATUS_AGAIN);
        for (uint32_t j = 0; j < 4; j++) {
            send_to(qp, RQ_PSN + i * 4 + j, 8);
            expect_slot(&host, (i + j) % SLOTS, RDMA_WC_SUCCESS);
        }
    }
    peer_drain();
    assert_int_equal(STAT(host_ring_faults), 0);
    free(host.ring);
}

static void message_longer_than_a_slot_ends_with_a_length_error(void **state)
{
    (void)state;
    struct host host = host_of(rig.pd, rig.mr, SLOTS);
    struct rdma_qp *qp = host_qp(&host, SLOTS);
    assert_int_equal(post_slot(qp, 2), STATUS_OK);
    send_to(qp, RQ_PSN, SLOT_BYTES + 4);
    expect_slot(&host, 2, RDMA_WC_LOC_LEN_ERR);
    expect_nak(RQ_PSN, NAK_INVALID, 0);
    expect_event(RDMA_EVENT_QP_REQ_ERR);
    free(host.ring);
}

static void host_cq_overrun_kills_the_qp(void **state)
{
    (void)state;
    struct host host = host_of(rig.pd, rig.mr, 64);
    struct rdma_qp *qp = host_qp(&host, 64);
    for (uint32_t i = 0; i < CQES + 1; i++) {
        assert_int_equal(post_slot(qp, i % SLOTS), STATUS_OK);
        send_to(qp, RQ_PSN + i, 8);
    }
    assert_int_equal(qp->state, RDMA_QP_ERR);
    assert_int_equal(take_events(), 2);
    peer_drain();
    for (uint32_t i = 0; i < CQES; i++) {
        expect_slot(&host, i % SLOTS, RDMA_WC_SUCCESS);
    }
    free(host.ring);
}

/* A ring of the host's with a CQ of our own, and a shared one. */
static void host_srq_serves_a_cq_in_nic_memory(void **state)
{
    (void)state;
    struct host host = host_of(rig.pd, rig.mr, 8);
    struct rdma_srq_attr attr = {.pd = rig.pd, .wr_count = 8, .host_recv = &host.recv};
    struct rdma_srq *srq;
    assert_int_equal(rdma_srq_create(&attr, &srq), STATUS_OK);
    struct rdma_qp *qp = rig_qp(&(struct rig_qp_options){.srq = srq});
    struct rdma_recv_wr wr = {.wr_id = 7};
    assert_int_equal(rdma_srq_post(srq, &wr, NULL), STATUS_OK);
    send_to(qp, RQ_PSN, 16);
    expect_recv_wc(7, RDMA_WC_SUCCESS);
    expect_ack(RQ_PSN, 1);
    struct rdma_qp *other = rig_qp(&(struct rig_qp_options){.srq = srq, .recv_cq = host.cq});
    assert_int_equal(rdma_srq_post(srq, &wr, NULL), STATUS_OK);
    send_to(other, RQ_PSN, 16);
    expect_slot(&host, 7, RDMA_WC_SUCCESS);
    peer_drain();
    rig_qp_destroy(other);
    rig_qp_destroy(qp);
    assert_int_equal(rdma_srq_destroy(srq), STATUS_OK);
    free(host.ring);
}

/* --- who may have them ------------------------------------------------------------------------ */

static enum status try_qp(enum rdma_qp_type type, struct rdma_pd *pd, struct rdma_cq *send_cq,
                          struct rdma_cq *recv_cq, const struct rdma_host_recv *recv)
{
    static uint8_t memory[65536] __attribute__((aligned(64)));
    struct rdma_qp_init_attr attr = {.type = type,
                                     .pd = pd,
                                     .send_cq = send_cq,
                                     .recv_cq = recv_cq,
                                     .send_wr_count = 4,
                                     .recv_wr_count = 4,
                                     .send_sge_count = 1,
                                     .recv_sge_count = 1,
                                     .memory = memory,
                                     .host_recv = recv};
    struct rdma_qp *qp;
    enum status status = rdma_qp_create(&attr, &qp);
    if (status == STATUS_OK) {
        assert_int_equal(rdma_qp_destroy(qp), STATUS_OK);
    }
    return status;
}

static void host_rings_in_the_wrong_place_are_refused(void **state)
{
    (void)state;
    struct host host = host_of(rig.pd, rig.mr, 4);
    struct rdma_pd *other = rig_pd();
    struct rdma_host_recv bad = host.recv;
    const enum rdma_qp_type rc = RDMA_QP_RC;
    assert_true(rig.dev->attr.host_rings);
    assert_int_equal(try_qp(rc, rig.pd, rig.cq, host.cq, &host.recv), STATUS_OK);
    assert_int_equal(try_qp(rc, rig.pd, rig.cq, rig.recv_cq, &host.recv), STATUS_OK);
    /* Sends, other tenants, receives that are no slots, datagrams. */
    assert_int_equal(try_qp(rc, rig.pd, host.cq, rig.recv_cq, NULL), STATUS_INVALID);
    assert_int_equal(try_qp(rc, other, rig.cq, host.cq, &host.recv), STATUS_INVALID);
    assert_int_equal(try_qp(rc, rig.pd, rig.cq, host.cq, NULL), STATUS_INVALID);
    assert_int_equal(try_qp(RDMA_QP_UD, rig.pd, rig.cq, rig.recv_cq, &host.recv), STATUS_INVALID);
    bad.slot_count = 0;
    assert_int_equal(try_qp(rc, rig.pd, rig.cq, host.cq, &bad), STATUS_INVALID);
    bad = host.recv;
    bad.slot_bytes = 0;
    assert_int_equal(try_qp(rc, rig.pd, rig.cq, host.cq, &bad), STATUS_INVALID);
    bad = host.recv;
    bad.ring = NULL;
    assert_int_equal(try_qp(rc, rig.pd, rig.cq, host.cq, &bad), STATUS_INVALID);
    free(host.ring);
}

static void domain_of_a_host_cq_stays(void **state)
{
    (void)state;
    struct rdma_pd *pd;
    static uint8_t memory[4096] __attribute__((aligned(64)));
    struct rdma_cq *cq;
    assert_int_equal(rdma_pd_alloc(rig.dev, 9, &pd), STATUS_OK);
    struct rdma_cq_attr attr = {.entry_count = 4, .memory = memory, .host_pd = pd};
    assert_int_equal(rdma_cq_create(rig.dev, &attr, &cq), STATUS_OK);
    assert_int_equal(rdma_pd_free(pd), STATUS_AGAIN);
    assert_int_equal(rdma_cq_destroy(cq), STATUS_OK);
    assert_int_equal(rdma_pd_free(pd), STATUS_OK);
}

/* --- a hostile host --------------------------------------------------------------------------- */

/* An entry that names no slot: the message goes nowhere, this QP dies, others do not notice. */
static void recv_entry_out_of_range_kills_its_qp_alone(void **state)
{
    (void)state;
    struct host host = host_of(rig.pd, rig.mr, SLOTS);
    struct rdma_qp *qp = host_qp(&host, SLOTS);
    struct rdma_qp *other = rig_qp(NULL);
    static const uint32_t values[] = {SLOTS, SLOTS + 1, 0x7fffffff, 0xffffffff};
    for (uint32_t i = 0; i < ARRAY_SIZE(values); i++) {
        uint64_t refused = STAT(key_violations);
        assert_int_equal(post_slot(qp, 5), STATUS_OK);
        host.ring[0] = values[i];
        send_to(qp, RQ_PSN, 64);
        expect_slot(&host, 0, RDMA_WC_LOC_PROT_ERR);
        expect_nak(RQ_PSN, NAK_OPERATION, 0);
        expect_event(RDMA_EVENT_QP_FATAL);
        assert_int_equal(STAT(host_ring_faults), i + 1);
        assert_int_equal(STAT(key_violations), refused + 1);
        for (uint32_t j = 0; j < SLOTS * SLOT_BYTES; j++) {
            assert_int_equal(rig.memory[SLOTS_AT + j], 0xee);
        }
        rig_qp_destroy(qp);
        qp = host_qp(&host, SLOTS);
        rig.qp = qp;
    }
    post_recv_to(other, 77, 0, 64);
    send_to(other, RQ_PSN, 32);
    expect_recv_wc(77, RDMA_WC_SUCCESS);
    peer_drain();
    free(host.ring);
}

/* The region of the buffers decides at each access: gone, nothing is placed. */
static void recv_after_the_slots_are_gone_is_refused(void **state)
{
    (void)state;
    struct rdma_mr *mr = rig_mr(rig.pd, SLOTS_AT, SLOTS * SLOT_BYTES, RDMA_ACCESS_LOCAL_WRITE);
    struct host host = host_of(rig.pd, mr, SLOTS);
    struct rdma_qp *qp = host_qp(&host, SLOTS);
    assert_int_equal(post_slot(qp, 5), STATUS_OK);
    rig_mr_dereg(mr);
    send_to(qp, RQ_PSN, 64);
    expect_slot(&host, 5, RDMA_WC_LOC_PROT_ERR);
    expect_nak(RQ_PSN, NAK_OPERATION, 0);
    expect_event(RDMA_EVENT_QP_FATAL);
    free(host.ring);
}

static bool status_is_known(uint8_t status)
{
    return strcmp(rdma_wc_status_text((enum rdma_wc_status)status), "unknown status") != 0;
}

/* What is said about every completion of a host CQ. */
static void check_wc(const struct rdma_wc *wc, const struct host *host)
{
    assert_non_null(wc->qp);
    assert_ptr_equal(wc->qp->recv_cq, host->cq);
    assert_ptr_equal(wc->qp->pd, rig.pd);
    assert_true(wc->wr_id < SLOTS);
    assert_true(status_is_known(wc->status));
    assert_true(wc->opcode == RDMA_WC_RECV || wc->opcode == RDMA_WC_RECV_RDMA_WITH_IMM);
    assert_true(wc->opcode != RDMA_WC_RECV || wc->len_bytes <= SLOT_BYTES);
    assert_int_equal(wc->flags & ~(RDMA_WC_WITH_IMM | RDMA_WC_WITH_INV), 0);
}

/* Each bit of a completion, flipped between its writing and its reading. */
static void cqe_with_any_bit_changed_tells_no_nonsense(void **state)
{
    (void)state;
    struct host host = host_of(rig.pd, rig.mr, SLOTS);
    struct rdma_qp *qp = host_qp(&host, SLOTS);
    uint32_t told = 0, dropped = 0;
    for (uint32_t bit = 0; bit < CQE_BYTES * 8; bit++) {
        assert_int_equal(post_slot(qp, bit % SLOTS), STATUS_OK);
        send_to(qp, RQ_PSN + bit, 20);
        host.cqes[bit % CQES * CQE_BYTES + bit / 8] ^= (uint8_t)(1u << bit % 8);
        struct rdma_wc wcs[2];
        uint32_t count = rdma_cq_poll(host.cq, wcs, 2);
        assert_true(count <= 1);
        told += count;
        dropped += 1 - count;
        if (count == 1) {
            check_wc(&wcs[0], &host);
            assert_ptr_equal(wcs[0].qp, qp);
        }
    }
    assert_int_equal(dropped, 32); /* those of the QP's place: there is no other on this CQ */
    assert_int_equal(told, CQE_BYTES * 8 - 32);
    assert_int_equal(qp->state, RDMA_QP_RTS); /* the engine itself did not mind */
    peer_drain();
    free(host.ring);
}

/* A completion is given to another QP: only to one on this CQ that has some, and no more often than
 * it has any. */
static void cqe_of_another_qp_is_counted_where_it_belongs(void **state)
{
    (void)state;
    struct host host = host_of(rig.pd, rig.mr, SLOTS);
    struct host second = host;
    second.ring = malloc(rdma_host_ring_bytes(SLOTS));
    second.recv.ring = second.ring;
    struct rdma_qp *a = host_qp(&host, SLOTS);
    struct rdma_qp *b = host_qp(&second, SLOTS);
    assert_int_equal(post_slot(a, 1), STATUS_OK);
    assert_int_equal(post_slot(a, 2), STATUS_OK);
    assert_int_equal(post_slot(b, 3), STATUS_OK);
    send_to(a, RQ_PSN, 8);
    send_to(a, RQ_PSN + 1, 8);
    send_to(b, RQ_PSN, 8);
    memcpy(host.cqes, host.cqes + (size_t)2 * CQE_BYTES, 4); /* all three say b */
    memcpy(host.cqes + CQE_BYTES, host.cqes + (size_t)2 * CQE_BYTES, 4);
    struct rdma_wc wcs[4];
    assert_int_equal(rdma_cq_poll(host.cq, wcs, 4), 1);
    assert_ptr_equal(wcs[0].qp, b);
    assert_int_equal(STAT(host_ring_faults), 2);
    peer_drain();
    free(second.ring);
    free(host.ring);
}

/* Nor to one on another CQ, though that has some. */
static void cqe_of_a_qp_on_another_cq_is_dropped(void **state)
{
    (void)state;
    struct host host = host_of(rig.pd, rig.mr, SLOTS);
    struct host second = host_of(rig.pd, rig.mr, SLOTS);
    struct rdma_qp *a = host_qp(&host, SLOTS);
    struct rdma_qp *b = host_qp(&second, SLOTS);
    struct rdma_wc wc;
    assert_int_equal(post_slot(a, 1), STATUS_OK);
    assert_int_equal(post_slot(b, 2), STATUS_OK);
    send_to(a, RQ_PSN, 8);
    send_to(b, RQ_PSN, 8);
    memcpy(host.cqes, second.cqes, CQE_BYTES);
    assert_int_equal(rdma_cq_poll(host.cq, &wc, 1), 0);
    assert_int_equal(STAT(host_ring_faults), 1);
    expect_slot(&second, 2, RDMA_WC_SUCCESS);
    peer_drain();
    free(second.ring);
    free(host.ring);
}

/* What a QP left in the CQ is nobody's, though the host puts it back; nor does a QP that takes its
 * place in the table hear of it. */
static void cqe_of_a_qp_that_is_gone_is_nobodys(void **state)
{
    (void)state;
    struct host host = host_of(rig.pd, rig.mr, SLOTS);
    for (uint32_t reset = 0; reset < 2; reset++) {
        struct rdma_qp *qp = host_qp(&host, SLOTS);
        uint8_t saved[CQES * CQE_BYTES];
        struct rdma_wc wc;
        assert_int_equal(post_slot(qp, 1), STATUS_OK);
        send_to(qp, RQ_PSN, 8);
        peer_drain();
        memcpy(saved, host.cqes, sizeof(saved));
        if (reset == 1) {
            assert_int_equal(rig_qp_to(qp, RDMA_QP_RESET), STATUS_OK);
        } else {
            rig_qp_destroy(qp);
            qp = host_qp(&host, SLOTS);
        }
        memcpy(host.cqes, saved, sizeof(saved));
        assert_int_equal(rdma_cq_poll(host.cq, &wc, 1), 0);
        assert_int_equal(STAT(host_ring_faults), reset + 1);
        rig_qp_destroy(qp);
    }
    free(host.ring);
}

/* Flushed receives are as many as there were, in range, whatever the ring says now. */
static void flush_of_a_spoiled_ring_ends_every_receive(void **state)
{
    (void)state;
    struct host host = host_of(rig.pd, rig.mr, SLOTS);
    struct rdma_qp *qp = host_qp(&host, SLOTS);
    for (uint32_t i = 0; i < 10; i++) {
        assert_int_equal(post_slot(qp, i), STATUS_OK);
    }
    memset(host.ring, 0xff, rdma_host_ring_bytes(SLOTS));
    host.ring[4] = 6;
    assert_int_equal(rig_qp_to(qp, RDMA_QP_ERR), STATUS_OK);
    struct rdma_wc wcs[16];
    assert_int_equal(rdma_cq_poll(host.cq, wcs, 16), 10);
    for (uint32_t i = 0; i < 10; i++) {
        check_wc(&wcs[i], &host);
        assert_int_equal(wcs[i].status, RDMA_WC_WR_FLUSH_ERR);
        assert_int_equal(wcs[i].wr_id, i == 4 ? 6 : 0);
    }
    free(host.ring);
}

/* --- a hostile host, at random ---------------------------------------------------------------- */

static uint64_t random_state;

static uint32_t draw(uint32_t below)
{
    random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (uint32_t)(random_state >> 33) % below;
}

static void scribble(uint8_t *bytes, uint32_t len)
{
    for (uint32_t n = draw(6); n > 0; n--) {
        static const uint8_t values[] = {0, 1, 2, 5, 6, 15, 16, 0x7f, 0x80, 0xff};
        bytes[draw(len)] = draw(2) == 0 ? values[draw(ARRAY_SIZE(values))] : (uint8_t)draw(256);
    }
}

struct victim {
    struct host host;
    struct rdma_qp *qp;
    uint32_t psn;
};

static void victim_step(struct victim *v)
{
    scribble((uint8_t *)v->host.ring, (uint32_t)rdma_host_ring_bytes(SLOTS));
    scribble(v->host.cqes, CQES * CQE_BYTES);
    if (v->qp->state == RDMA_QP_ERR || draw(50) == 0) {
        rig_qp_destroy(v->qp);
        v->qp = host_qp(&v->host, SLOTS);
        v->psn = RQ_PSN;
    }
    for (uint32_t n = draw(4); n > 0; n--) {
        (void)post_slot(v->qp, draw(SLOTS));
    }
    scribble((uint8_t *)v->host.ring, (uint32_t)rdma_host_ring_bytes(SLOTS));
    if (rig_info(v->qp).recv_posted > 0) {
        send_to(v->qp, v->psn++, draw(SLOT_BYTES + 1));
    }
    scribble(v->host.cqes, CQES * CQE_BYTES);
    struct rdma_wc wcs[8];
    uint32_t count = rdma_cq_poll(v->host.cq, wcs, 1 + draw(8));
    for (uint32_t i = 0; i < count; i++) {
        check_wc(&wcs[i], &v->host);
    }
}

/* Memory of others, and a QP of another tenant that works all the time. */
static void host_that_scribbles_harms_nobody_else(void **state)
{
    (void)state;
    random_state = 1;
    struct rdma_pd *pd = rig_pd();
    struct rdma_mr *mr = rig_mr(pd, 0, 4096, RDMA_ACCESS_LOCAL_WRITE);
    struct rdma_qp *other = rig_qp(&(struct rig_qp_options){.pd = pd});
    struct victim victims[2];
    for (uint32_t i = 0; i < 2; i++) {
        victims[i].host = host_of(rig.pd, rig.mr, SLOTS);
        victims[i].host.recv.slots_addr += (uint64_t)i * SLOTS * SLOT_BYTES;
        victims[i].qp = host_qp(&victims[i].host, SLOTS);
        victims[i].psn = RQ_PSN;
    }
    for (uint32_t seed = 0; seed < SEEDS; seed++) {
        victim_step(&victims[draw(2)]);
        struct rdma_sge sge = {.addr = addr_at(0), .len_bytes = 64, .lkey = mr->lkey};
        struct rdma_recv_wr wr = {.wr_id = seed, .sges = &sge, .sge_count = 1};
        assert_int_equal(rdma_post_recv(other, &wr, NULL), STATUS_OK);
        send_to(other, RQ_PSN + seed, 64);
        const struct rdma_wc *wc = expect_recv_wc(seed, RDMA_WC_SUCCESS);
        assert_ptr_equal(wc->qp, other);
        peer_drain();
        take_events();
    }
    assert_filled(0, 64, 0);
    assert_true(STAT(host_ring_faults) > SEEDS / 20);
    for (uint32_t i = SLOTS_AT + 2 * SLOTS * SLOT_BYTES; i < RIG_MEMORY_BYTES; i++) {
        assert_int_equal(rig.memory[i], 0xee);
    }
    for (uint32_t i = 64; i < SLOTS_AT; i++) {
        assert_int_equal(rig.memory[i], 0xee);
    }
    for (uint32_t i = 0; i < 2; i++) {
        rig_qp_destroy(victims[i].qp);
        free(victims[i].host.ring);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(recv_through_host_rings_is_placed_and_told),
        RIG_TEST(recv_of_invalidation_through_host_rings_names_the_key),
        RIG_TEST(host_rings_wrap_and_refuse_when_full),
        RIG_TEST(message_longer_than_a_slot_ends_with_a_length_error),
        RIG_TEST(host_cq_overrun_kills_the_qp),
        RIG_TEST(host_srq_serves_a_cq_in_nic_memory),
        RIG_TEST(host_rings_in_the_wrong_place_are_refused),
        RIG_TEST(domain_of_a_host_cq_stays),
        RIG_TEST(recv_entry_out_of_range_kills_its_qp_alone),
        RIG_TEST(recv_after_the_slots_are_gone_is_refused),
        RIG_TEST(cqe_with_any_bit_changed_tells_no_nonsense),
        RIG_TEST(cqe_of_another_qp_is_counted_where_it_belongs),
        RIG_TEST(cqe_of_a_qp_on_another_cq_is_dropped),
        RIG_TEST(cqe_of_a_qp_that_is_gone_is_nobodys),
        RIG_TEST(flush_of_a_spoiled_ring_ends_every_receive),
        RIG_TEST(host_that_scribbles_harms_nobody_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
