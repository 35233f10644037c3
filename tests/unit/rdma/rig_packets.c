/* What a test of the provider does with the rig (rdma/rig.h): memory, posting, completions, and the
 * peer's packets, there and back. */
#include "rdma/rig.h"

#include <stdlib.h>

/* --- memory ----------------------------------------------------------------------------------- */

static uint8_t pattern_at(uint32_t i, uint32_t seed)
{
    return (uint8_t)(i * 7 + (i >> 8) * 13 + seed * 101 + 3);
}

void pattern(uint8_t *bytes, uint32_t len, uint32_t seed)
{
    for (uint32_t i = 0; i < len; i++) {
        bytes[i] = pattern_at(i, seed);
    }
}

void fill(uint32_t offset, uint32_t len, uint32_t seed)
{
    pattern(rig.memory + offset, len, seed);
}

void assert_filled_at(uint32_t offset, uint32_t len, uint32_t seed, const char *file, int line)
{
    for (uint32_t i = 0; i < len; i++) {
        if (rig.memory[offset + i] != pattern_at(i, seed)) {
            print_error("byte %u of %u at %u is %02x\n", i, len, offset, rig.memory[offset + i]);
            _fail(file, line);
        }
    }
}

uint64_t addr_at(uint32_t offset)
{
    return (uint64_t)(uintptr_t)(rig.memory + offset);
}

/* --- posting ---------------------------------------------------------------------------------- */

struct send *send_wr(uint64_t id, enum rdma_wr_opcode opcode, uint32_t offset, uint32_t len)
{
    static struct send ring[16];
    static uint32_t next;
    struct send *send = &ring[next++ % ARRAY_SIZE(ring)];

    memset(send, 0, sizeof(*send));
    send->sges[0] =
        (struct rdma_sge){.addr = addr_at(offset), .len_bytes = len, .lkey = rig.mr->lkey};
    send->wr = (struct rdma_send_wr){.wr_id = id,
                                     .sges = send->sges,
                                     .sge_count = 1,
                                     .opcode = (uint8_t)opcode,
                                     .flags = RDMA_SEND_SIGNALED,
                                     .rdma = {.remote_addr = REMOTE_VA, .rkey = REMOTE_RKEY}};
    return send;
}

void post_wr(struct rdma_qp *qp, const struct rdma_send_wr *wr)
{
    assert_int_equal(rdma_post_send(qp, wr, NULL), STATUS_OK);
    rig_turn();
}

void post(uint64_t id, enum rdma_wr_opcode opcode, uint32_t offset, uint32_t len)
{
    post_wr(rig.qp, &send_wr(id, opcode, offset, len)->wr);
}

void post_recv_to(struct rdma_qp *qp, uint64_t id, uint32_t offset, uint32_t len)
{
    struct rdma_sge sge = {.addr = addr_at(offset), .len_bytes = len, .lkey = rig.mr->lkey};
    struct rdma_recv_wr wr = {.wr_id = id, .sges = &sge, .sge_count = 1};
    assert_int_equal(rdma_post_recv(qp, &wr, NULL), STATUS_OK);
}

void post_recv(uint64_t id, uint32_t offset, uint32_t len)
{
    post_recv_to(rig.qp, id, offset, len);
}

void post_srq_recv(struct rdma_srq *srq, uint64_t id, uint32_t offset, uint32_t len)
{
    struct rdma_sge sge = {.addr = addr_at(offset), .len_bytes = len, .lkey = rig.mr->lkey};
    struct rdma_recv_wr wr = {.wr_id = id, .sges = &sge, .sge_count = 1};
    assert_int_equal(rdma_srq_post(srq, &wr, NULL), STATUS_OK);
}

/* --- completions and events ------------------------------------------------------------------- */

const struct rdma_wc *expect_wc_at(struct rdma_cq *cq, uint64_t id, enum rdma_wc_status status,
                                   const char *file, int line)
{
    static struct rdma_wc wc;

    if (rdma_cq_poll(cq, &wc, 1) == 0) {
        print_error("no completion, %llu expected\n", (unsigned long long)id);
        _fail(file, line);
    }
    _assert_int_equal(wc.wr_id, id, file, line);
    if (wc.status != status) {
        print_error("status %s, expected %s\n", rdma_wc_status_text(wc.status),
                    rdma_wc_status_text(status));
        _fail(file, line);
    }
    return &wc;
}

void expect_no_wc_at(const char *file, int line)
{
    struct rdma_cq *both[] = {rig.cq, rig.recv_cq};
    struct rdma_wc wc;

    for (uint32_t i = 0; i < 2; i++) {
        if (rdma_cq_poll(both[i], &wc, 1) != 0) {
            print_error("a completion: %llu, %s\n", (unsigned long long)wc.wr_id,
                        rdma_wc_status_text(wc.status));
            _fail(file, line);
        }
    }
}

void expect_event_at(enum rdma_event_type type, const char *file, int line)
{
    _assert_int_equal(rig.event_count, 1, file, line);
    _assert_int_equal(rig.events[0], type, file, line);
    rig.event_count = 0;
}

uint32_t take_events(void)
{
    uint32_t count = rig.event_count;
    rig.event_count = 0;
    return count;
}

/* --- the peer speaks -------------------------------------------------------------------------- */

/* Last and Only. */
static bool asks(enum op opcode)
{
    return (opcode >= SEND_LAST && opcode <= SEND_ONLY_IMM) ||
           (opcode >= WRITE_LAST && opcode <= WRITE_ONLY_IMM) || opcode == SEND_LAST_INV ||
           opcode == SEND_ONLY_INV;
}

struct pkt *pkt(enum op opcode, uint32_t psn, uint32_t len)
{
    static struct pkt ring[8];
    static uint32_t next;
    struct pkt *pkt = &ring[next++ % ARRAY_SIZE(ring)];

    memset(pkt, 0, offsetof(struct pkt, payload));
    pkt->src_host = 2;
    pkt->tos = 2;
    pkt->ttl = 64;
    pkt->src_port = 0xd00d;
    pkt->opcode = (uint8_t)opcode;
    pkt->migrated = true;
    pkt->pad = PKT_PAD_RIGHT;
    pkt->pkey = 0xffff;
    pkt->qpn = rig.qp == NULL ? 0 : rig.qp->num;
    pkt->psn = PKT_PSN(psn);
    pkt->ack_req = asks(opcode);
    assert_true(len <= PKT_PAYLOAD_MAX);
    pkt->len = len;
    pattern(pkt->payload, len, 0);
    return pkt;
}

struct pkt *pkt_rdma(enum op opcode, uint32_t psn, uint32_t len, uint64_t va, uint32_t rkey,
                     uint32_t dma_len)
{
    struct pkt *made = pkt(opcode, psn, len);
    made->va = va;
    made->rkey = rkey;
    made->dma_len = dma_len;
    return made;
}

struct pkt *pkt_ack(uint32_t psn, uint8_t syndrome, uint32_t msn)
{
    struct pkt *made = pkt(ACKNOWLEDGE, psn, 0);
    made->syndrome = syndrome;
    made->msn = msn;
    return made;
}

void peer_queue(const struct pkt *made)
{
    static uint8_t frame[PKT_FRAME_MAX];
    uint32_t len = pkt_build(made, frame);
    wire_inject(rig.wire, 0, frame, len);
}

void peer_send(const struct pkt *made)
{
    peer_queue(made);
    rig_turn();
}

void peer_send_raw(const uint8_t *frame, uint32_t len)
{
    wire_inject(rig.wire, 0, frame, len);
    rig_turn();
}

void peer_ack(uint32_t psn)
{
    peer_send(pkt_ack(psn, ACK_SYNDROME, 0));
}

void peer_nak(uint32_t psn, uint8_t syndrome)
{
    peer_send(pkt_ack(psn, syndrome, 0));
}

/* --- the peer hears --------------------------------------------------------------------------- */

bool peer_take(struct pkt *made)
{
    struct pkt *first = rig.inbox;
    if (first == NULL) {
        return false;
    }
    rig.inbox = first->next;
    if (rig.inbox == NULL) {
        rig.inbox_end = &rig.inbox;
    }
    *made = *first;
    free(first);
    return true;
}

uint32_t peer_drain(void)
{
    static struct pkt made;
    uint32_t count = 0;
    while (peer_take(&made)) {
        count++;
    }
    return count;
}

const struct pkt *expect_at(enum op opcode, uint32_t psn, const char *file, int line)
{
    static struct pkt got;

    if (!peer_take(&got)) {
        print_error("no packet, opcode %02x psn %06x expected\n", opcode, PKT_PSN(psn));
        _fail(file, line);
    }
    if (got.opcode != opcode || got.psn != PKT_PSN(psn)) {
        print_error("opcode %02x psn %06x syndrome %02x, expected %02x %06x\n", got.opcode, got.psn,
                    got.syndrome, opcode, PKT_PSN(psn));
        _fail(file, line);
    }
    _assert_int_equal(got.is_icrc_wrong, 0, file, line);
    _assert_int_equal(got.pkey, 0xffff, file, line);
    _assert_int_equal(got.version, 0, file, line);
    _assert_int_equal(got.src_host, 1, file, line);
    _assert_int_equal(got.ttl, 64, file, line);
    _assert_true(got.src_port >= 0xc000, "source port", file, line);
    if (!op_has_deth(got.opcode)) {
        _assert_int_equal(got.qpn, PEER_QPN, file, line);
        _assert_int_equal(got.migrated, 1, file, line);
    }
    if (opcode != CNP) {
        _assert_int_equal(got.congestion, 0, file, line);
    }
    return &got;
}

const struct pkt *expect_data_at(enum op opcode, uint32_t psn, uint32_t len, uint32_t seed,
                                 uint32_t offset, const char *file, int line)
{
    const struct pkt *got = expect_at(opcode, psn, file, line);

    _assert_int_equal(got->len, len, file, line);
    for (uint32_t i = 0; i < len; i++) {
        if (got->payload[i] != pattern_at(offset + i, seed)) {
            print_error("byte %u of psn %06x differs\n", i, PKT_PSN(psn));
            _fail(file, line);
        }
    }
    return got;
}

void expect_response_at(uint32_t psn, uint8_t syndrome, uint32_t msn, const char *file, int line)
{
    const struct pkt *got = expect_at(ACKNOWLEDGE, psn, file, line);

    _assert_int_equal(got->syndrome, syndrome, file, line);
    _assert_int_equal(got->msn, msn, file, line);
    _assert_int_equal(got->len, 0, file, line);
    _assert_int_equal(got->ack_req, 0, file, line);
}

void expect_silence_at(const char *file, int line)
{
    static struct pkt got;

    if (peer_take(&got)) {
        print_error("a packet: opcode %02x psn %06x syndrome %02x\n", got.opcode, got.psn,
                    got.syndrome);
        _fail(file, line);
    }
}

/* --- who may reach what ----------------------------------------------------------------------- */

/* The peer's attempt is refused: NAK Remote Access Error, the QP is dead, memory is as it was. */
void expect_refused(const struct pkt *made)
{
    uint32_t msn = rig_info(rig.qp).msn;
    uint64_t before = STAT(key_violations);
    peer_send(made);
    expect_nak(made->psn, NAK_ACCESS, msn);
    expect_silence();
    assert_int_equal(rig.qp->state, RDMA_QP_ERR);
    expect_event(RDMA_EVENT_QP_ACCESS_ERR);
    assert_true(STAT(key_violations) > before);
    rig_qp_destroy(rig.qp);
    rig_qp(NULL);
}

const struct pkt *a_write(uint64_t va, uint32_t rkey, uint32_t len)
{
    return pkt_rdma(WRITE_ONLY, RQ_PSN, len, va, rkey, len);
}

const struct pkt *a_read(uint64_t va, uint32_t rkey, uint32_t len)
{
    return pkt_rdma(READ_REQUEST, RQ_PSN, 0, va, rkey, len);
}

/* Both work, at psn and psn + 1. */
void expect_reachable(uint32_t psn, uint64_t va, uint32_t rkey, uint32_t len, uint32_t msn)
{
    peer_send(pkt_rdma(WRITE_ONLY, psn, len, va, rkey, len));
    expect_ack(psn, msn);
    peer_send(pkt_rdma(READ_REQUEST, psn + 1, 0, va, rkey, len));
    expect_data(READ_ONLY, psn + 1, len, 0, 0);
}
