/*
 * The responder: carries out requests in the order of their packet numbers, step by step
 * (SOFT_RESP_LIST), and owes one acknowledgement per batch of received packets (IBA 9.7.4,
 * 9.7.5.2).
 */
#include "rdma/soft_packet_priv.h"

#define NAK_SEQUENCE (ROCE_AETH_NAK | ROCE_NAK_PSN_SEQUENCE)

/* --- what the peer hears ---------------------------------------------------------------------- */

static void owe_ack(struct soft_qp *qp)
{
    qp->resp.ack_due = true;
    if (list_is_empty(&qp->ack_link)) {
        list_push_back(&qp->dev->acks, &qp->ack_link);
    }
}

void soft_respond_reads_done(struct soft_qp *qp)
{
    if (qp->resp.ack_due) {
        owe_ack(qp);
    }
}

/* One NAK until the expected packet comes: the rest of what is under way is dropped in silence
 * (9.7.5.2.8). */
static enum soft_resp refuse(struct soft_qp *qp, uint8_t syndrome)
{
    qp->resp.nak_due = syndrome;
    qp->resp.nak_sent = true;
    owe_ack(qp);
    return SOFT_RESP_DONE;
}

static void die(struct soft_qp *qp, uint32_t event)
{
    soft_qp_error(qp);
    soft_event_raise(qp->dev, &qp->event, event);
}

/* The peer broke a rule: it hears it, and the QP dies (9.9.3, table 61). READs from before are
 * answered first: for the peer a NAK that overtakes them says that they were lost (9.7.5.1). */
static enum soft_resp fail(struct soft_qp *qp, uint8_t code, enum rdma_event_type event)
{
    refuse(qp, (uint8_t)(ROCE_AETH_NAK | code));
    if (soft_read_waits(qp)) {
        qp->resp.is_closing = true;
        qp->resp.closing_event = (uint8_t)event;
    } else {
        die(qp, event);
    }
    return SOFT_RESP_DONE;
}

void soft_respond_refuse_read(struct soft_qp *qp, uint32_t psn)
{
    qp->resp.psn = psn; /* what the NAK is about */
    qp->resp.read_next = qp->resp.read_head;
    qp->resp.is_closing = false;
    fail(qp, ROCE_NAK_ACCESS, RDMA_EVENT_QP_ACCESS_ERR);
}

/* What was dropped behind a gap has come again by now: there is none. */
static bool gap_is_gone(const struct soft_responder *resp)
{
    return resp->nak_due == NAK_SEQUENCE && roce_psn_diff(resp->psn, resp->dropped_psn) > 0;
}

/* A READ request is acknowledged by its responses alone (9.7.5.1.2): an ACK with the PSN of its
 * last response, which may be lost, would tell the peer that it has the data. Linux' rxe believes
 * that. */
static bool send_ack(struct soft_qp *qp)
{
    struct soft_responder *resp = &qp->resp;
    bool is_nak = resp->nak_due != 0 && !gap_is_gone(resp);
    uint32_t psn = is_nak ? resp->psn : resp->ack_psn;
    struct soft_tx tx;

    if (qp->path.state != NET_PATH_READY) {
        return true; /* the peer asks again */
    }
    if (!soft_tx_begin(&tx, qp, &qp->path, ROCE_RC_ACK, psn)) {
        return false;
    }
    struct roce_aeth *aeth = soft_tx_header(&tx, sizeof(*aeth));
    aeth->syndrome = is_nak ? resp->nak_due : ROCE_AETH_ACK;
    aeth->msn = be24_make(is_nak ? resp->msn : resp->ack_msn);
    soft_tx_end(&tx);
    if (is_nak && ROCE_AETH_KIND(resp->nak_due) == ROCE_AETH_KIND_RNR) {
        qp->stats.rnr_tx++;
    } else if (is_nak && resp->nak_due == NAK_SEQUENCE) {
        qp->stats.nak_seq_tx++;
    }
    return true;
}

/* Answers go in the order of requests: while READs are being answered the acknowledgement waits,
 * and their responses are one (9.7.5.1.2). */
void soft_respond_acks(struct soft_device *dev)
{
    LIST_FOR_EACH(node, next, &dev->acks)
    {
        struct soft_qp *qp = LIST_ENTRY(node, struct soft_qp, ack_link);
        if (soft_read_waits(qp)) {
            list_remove(&qp->ack_link); /* soft_respond_reads_done() puts it back */
            continue;
        }
        if (qp->resp.ack_due && !send_ack(qp)) {
            return; /* no room: the poller comes again */
        }
        qp->resp.ack_due = false;
        qp->resp.nak_due = 0;
        list_remove(&qp->ack_link);
        if (UNLIKELY(qp->resp.is_closing)) {
            qp->resp.is_closing = false;
            die(qp, qp->resp.closing_event);
        }
    }
}

/* --- receive completions ---------------------------------------------------------------------- */

/* False: the CQ overran, nobody will hear of it. */
ALWAYS_INLINE bool push_recv(struct soft_qp *qp, const struct soft_recv_wqe *wqe,
                             const struct rdma_wc *wc)
{
    struct soft_cq *cq = soft_cq_of(qp->qp.recv_cq);
    struct rdma_wc *slot = soft_cq_push(cq);

    if (slot == NULL) {
        soft_event_raise(qp->dev, &qp->event, RDMA_EVENT_QP_FATAL);
        return false;
    }
    *slot = *wc;
    slot->wr_id = wqe->wr_id;
    slot->qp = &qp->qp;
    if (UNLIKELY(cq->host_cqes != NULL)) {
        soft_host_push(qp);
    }
    return true;
}

/* The receive under way ends with an error. */
static void end_wqe(struct soft_qp *qp, enum rdma_wc_status status)
{
    if (qp->resp.has_wqe) {
        qp->resp.has_wqe = false;
        push_recv(qp, &qp->resp.wqe,
                  &(struct rdma_wc){.status = (uint8_t)status, .opcode = RDMA_WC_RECV});
    }
}

ALWAYS_INLINE void copy_wqe(struct soft_recv_wqe *to, const struct soft_recv_wqe *from)
{
    to->wr_id = from->wr_id;
    to->sge_count = from->sge_count;
    to->len_bytes = from->len_bytes;
    for (uint32_t i = 0; i < from->sge_count; i++) {
        to->sges[i] = from->sges[i];
    }
}

/* Takes a receive for the message; false: there is none. */
ALWAYS_INLINE bool take_wqe(struct soft_qp *qp)
{
    struct soft_srq *srq = qp->qp.srq != NULL ? soft_srq_of(qp->qp.srq) : NULL;
    struct soft_recv_ring *ring = srq != NULL ? &srq->ring : &qp->rq;

    if (qp->resp.has_wqe) {
        return true;
    }
    if (ring->tail == ring->head) {
        return false;
    }
    if (LIKELY(ring->wqes != NULL)) {
        copy_wqe(&qp->resp.wqe, &ring->wqes[ring->tail++ & ring->mask]);
    } else {
        soft_host_take(qp->dev, ring, &qp->resp.wqe);
    }
    qp->resp.has_wqe = true;
    if (srq != NULL && srq->limit != 0 && ring->head - ring->tail < srq->limit) {
        srq->limit = 0;
        soft_event_raise(qp->dev, &srq->event, RDMA_EVENT_SRQ_LIMIT);
    }
    return true;
}

void soft_respond_flush(struct soft_qp *qp)
{
    end_wqe(qp, RDMA_WC_WR_FLUSH_ERR);
    if (qp->qp.srq != NULL) {
        soft_event_raise(qp->dev, &qp->event, RDMA_EVENT_LAST_WQE_REACHED);
        return;
    }
    while (qp->rq.tail != qp->rq.head) {
        (void)take_wqe(qp);
        end_wqe(qp, RDMA_WC_WR_FLUSH_ERR);
    }
}

/* --- placement -------------------------------------------------------------------------------- */

ALWAYS_INLINE void place_bytes(uint64_t bus_addr, const uint8_t *from, uint32_t len_bytes)
{
    STAGE_PUSH(PLACE);
    memcpy(mem_bus_ptr(bus_addr), from, len_bytes);
    STAGE_POP();
}

NOINLINE static bool place_pieces(struct soft_region *region, const struct soft_span *span,
                                  const uint8_t *from)
{
    uint64_t addr = span->addr;
    struct mem_seg seg;
    uint32_t count;

    for (uint32_t left = span->len_bytes; left > 0; left -= seg.len_bytes) {
        if (soft_region_segs(region, addr, left, true, &seg, 1, &count) == 0) {
            return false;
        }
        place_bytes(seg.bus_addr, from, seg.len_bytes);
        from += seg.len_bytes;
        addr += seg.len_bytes;
    }
    return true;
}

ALWAYS_INLINE bool place_span(struct soft_qp *qp, const struct soft_span *span, const uint8_t *from)
{
    struct soft_region *region = soft_region_check(qp->dev, qp->qp.pd, span);

    if (region == NULL) {
        return false;
    }
    if (LIKELY(region->kind == SOFT_REGION_NIC)) {
        place_bytes(span->addr, from, span->len_bytes);
    } else if (!place_pieces(region, span, from)) {
        return false;
    }
    counter_add(&qp->dev->stats.placed_bytes, span->len_bytes);
    qp->stats.rx_bytes += span->len_bytes;
    return true;
}

bool soft_respond_place(struct soft_qp *qp, const struct rdma_sge *sges, uint32_t sge_count,
                        uint32_t offset_bytes, const uint8_t *from, uint32_t len_bytes)
{
    for (uint32_t i = 0; i < sge_count && len_bytes > 0; i++) {
        if (offset_bytes >= sges[i].len_bytes) {
            offset_bytes -= sges[i].len_bytes;
            continue;
        }
        struct soft_span span = {.addr = sges[i].addr + offset_bytes,
                                 .len_bytes = min_u32(sges[i].len_bytes - offset_bytes, len_bytes),
                                 .value = sges[i].lkey,
                                 .access = RDMA_ACCESS_LOCAL_WRITE};
        if (!place_span(qp, &span, from)) {
            return false;
        }
        offset_bytes = 0;
        from += span.len_bytes;
        len_bytes -= span.len_bytes;
    }
    return len_bytes == 0;
}

/* --- steps ------------------------------------------------------------------------------------ */

/* The expected packet came before its RNR NAK had left: nobody needs to hear that any more. */
static void forget_rnr(struct soft_responder *resp)
{
    resp->nak_sent = false;
    if (UNLIKELY(ROCE_AETH_KIND(resp->nak_due) == ROCE_AETH_KIND_RNR)) {
        resp->nak_due = 0;
    }
}

/* The first packet that is expected shows that the peer is connected (IBA 11.6.3.1, communication
 * established). */
static void note_peer(struct soft_qp *qp)
{
    qp->comm_est = true;
    soft_event_raise(qp->dev, &qp->event, SOFT_EVENT_CM_TYPE);
    if (qp->qp.state == RDMA_QP_RTR) {
        soft_event_raise(qp->dev, &qp->event, RDMA_EVENT_COMM_EST);
    }
}

static enum soft_resp step_psn(struct soft_qp *qp, const struct soft_packet *packet)
{
    struct soft_responder *resp = &qp->resp;
    int32_t ahead = roce_psn_diff(packet->psn, resp->psn);

    if (UNLIKELY(resp->is_closing)) {
        return SOFT_RESP_DONE;
    }
    if (LIKELY(ahead == 0)) {
        if (UNLIKELY(!qp->comm_est)) {
            note_peer(qp);
        }
        forget_rnr(resp);
        return SOFT_RESP_SEQUENCE;
    }
    if (ahead < 0) {
        return SOFT_RESP_REPEAT;
    }
    qp->stats.out_of_order++;
    if (resp->nak_due == 0 || roce_psn_diff(packet->psn, resp->dropped_psn) > 0) {
        resp->dropped_psn = packet->psn;
    }
    return resp->nak_sent ? SOFT_RESP_DONE : refuse(qp, NAK_SEQUENCE);
}

/* 9.7.4.1.2: First begins a message, Middle and Last go on with one of their kind; and the QP must
 * be open for the operation. */
static enum soft_resp step_sequence(struct soft_qp *qp, const struct soft_packet *packet)
{
    struct soft_responder *resp = &qp->resp;
    uint32_t kind = packet->flags & (ROCE_OP_SEND | ROCE_OP_WRITE | ROCE_OP_READ);
    bool first = (packet->flags & ROCE_OP_FIRST) != 0;
    bool allowed = (packet->flags & ROCE_OP_REFUSED) == 0; /* atomics: 9.7.4.1.2 */

    if (kind == ROCE_OP_WRITE) {
        allowed = (qp->attr.access & RDMA_ACCESS_REMOTE_WRITE) != 0;
    } else if (kind == ROCE_OP_READ) {
        allowed = (qp->attr.access & RDMA_ACCESS_REMOTE_READ) != 0;
    }
    if (first == resp->is_in_message || (!first && kind != resp->message_flags) || !allowed) {
        return fail(qp, ROCE_NAK_INVALID, RDMA_EVENT_QP_REQ_ERR);
    }
    if (first) {
        resp->message_flags = (uint16_t)kind;
        resp->done_bytes = 0;
    }
    if (first && packet->reth != NULL) {
        resp->write_va = be64_get(packet->reth->va);
        resp->write_rkey = be32_get(packet->reth->rkey);
        resp->write_bytes = be32_get(packet->reth->len_bytes);
    }
    return SOFT_RESP_RESOURCE;
}

static enum soft_resp step_resource(struct soft_qp *qp, const struct soft_packet *packet)
{
    bool needs_wqe = (packet->flags & (ROCE_OP_SEND | ROCE_OP_IMM)) != 0;

    if ((packet->flags & ROCE_OP_READ) != 0 && !soft_read_has_room(qp)) {
        return fail(qp, ROCE_NAK_INVALID, RDMA_EVENT_QP_REQ_ERR);
    }
    if (needs_wqe && !take_wqe(qp)) {
        return refuse(qp, (uint8_t)(ROCE_AETH_RNR | qp->attr.min_rnr_timer));
    }
    return SOFT_RESP_LENGTH;
}

/* 9.7.4.1.5, .6: all packets but the last are full; a Last has data; the whole has the length that
 * was told, or fits. */
static enum soft_resp step_length(struct soft_qp *qp, const struct soft_packet *packet)
{
    const struct soft_responder *resp = &qp->resp;
    bool first = (packet->flags & ROCE_OP_FIRST) != 0;
    bool last = (packet->flags & ROCE_OP_LAST) != 0;
    uint64_t total = (uint64_t)resp->done_bytes + packet->payload_bytes;
    bool is_valid =
        last ? packet->payload_bytes <= qp->mtu_bytes : packet->payload_bytes == qp->mtu_bytes;

    if (last && !first && packet->payload_bytes == 0) {
        is_valid = false;
    }
    if ((packet->flags & ROCE_OP_WRITE) != 0) {
        is_valid = is_valid && resp->write_bytes <= qp->dev->device.attr.msg_bytes_max &&
                   (last ? total == resp->write_bytes : total < resp->write_bytes);
    } else if ((packet->flags & ROCE_OP_READ) != 0) {
        is_valid =
            packet->payload_bytes == 0 && resp->write_bytes <= qp->dev->device.attr.msg_bytes_max;
    } else if (total > resp->wqe.len_bytes) {
        end_wqe(qp, RDMA_WC_LOC_LEN_ERR);
        is_valid = false;
    }
    return is_valid ? SOFT_RESP_KEY : fail(qp, ROCE_NAK_INVALID, RDMA_EVENT_QP_REQ_ERR);
}

/* The whole range at the first packet; the packet's own part again at each, since the key may be
 * invalidated under way. A length of 0 touches nothing (9.7.4.1.3). */
static enum soft_resp step_key(struct soft_qp *qp, const struct soft_packet *packet)
{
    const struct soft_responder *resp = &qp->resp;
    bool is_read = (packet->flags & ROCE_OP_READ) != 0;
    struct soft_span span = {.addr = resp->write_va,
                             .len_bytes = resp->write_bytes,
                             .value = resp->write_rkey,
                             .access =
                                 is_read ? RDMA_ACCESS_REMOTE_READ : RDMA_ACCESS_REMOTE_WRITE};

    /* Where one packet is all of a WRITE, its placement checks the same range. */
    bool is_whole_write = !is_read && (packet->flags & ROCE_OP_LAST) != 0;
    if ((packet->flags & ROCE_OP_SEND) != 0 || resp->write_bytes == 0 || is_whole_write) {
        return SOFT_RESP_EXECUTE;
    }
    if ((packet->flags & ROCE_OP_FIRST) != 0 &&
        soft_region_check(qp->dev, qp->qp.pd, &span) == NULL) {
        return fail(qp, ROCE_NAK_ACCESS, RDMA_EVENT_QP_ACCESS_ERR);
    }
    return SOFT_RESP_EXECUTE;
}

static enum soft_resp step_execute(struct soft_qp *qp, const struct soft_packet *packet)
{
    struct soft_responder *resp = &qp->resp;

    if ((packet->flags & ROCE_OP_READ) != 0) {
        return soft_read_note(qp, packet);
    }
    if ((packet->flags & ROCE_OP_SEND) != 0) {
        if (!soft_respond_place(qp, resp->wqe.sges, resp->wqe.sge_count, resp->done_bytes,
                                packet->payload, packet->payload_bytes)) {
            end_wqe(qp, RDMA_WC_LOC_PROT_ERR);
            return fail(qp, ROCE_NAK_OPERATION, RDMA_EVENT_QP_FATAL);
        }
    } else if (packet->payload_bytes > 0) {
        struct soft_span span = {.addr = resp->write_va + resp->done_bytes,
                                 .len_bytes = packet->payload_bytes,
                                 .value = resp->write_rkey,
                                 .access = RDMA_ACCESS_REMOTE_WRITE};
        if (!place_span(qp, &span, packet->payload)) {
            return fail(qp, ROCE_NAK_ACCESS, RDMA_EVENT_QP_ACCESS_ERR);
        }
    }
    resp->done_bytes += packet->payload_bytes;
    return SOFT_RESP_COMPLETE;
}

static bool push_message(struct soft_qp *qp, const struct soft_packet *packet)
{
    struct soft_responder *resp = &qp->resp;
    bool is_send = (packet->flags & ROCE_OP_SEND) != 0;

    if (!resp->has_wqe) {
        return true;
    }
    resp->has_wqe = false;
    return push_recv(
        qp, &resp->wqe,
        &(struct rdma_wc){
            .len_bytes = resp->done_bytes,
            .imm = packet->imm,
            .src_qpn = qp->attr.dest_qpn,
            .status = RDMA_WC_SUCCESS,
            .opcode = is_send ? RDMA_WC_RECV : RDMA_WC_RECV_RDMA_WITH_IMM,
            .flags = (uint8_t)(((packet->flags & ROCE_OP_IMM) != 0 ? RDMA_WC_WITH_IMM : 0) |
                               ((packet->flags & ROCE_OP_INV) != 0 ? RDMA_WC_WITH_INV : 0)),
        });
}

static enum soft_resp step_complete(struct soft_qp *qp, const struct soft_packet *packet)
{
    struct soft_responder *resp = &qp->resp;
    bool last = (packet->flags & ROCE_OP_LAST) != 0;
    uint64_t tx_seq;

    if ((packet->flags & ROCE_OP_INV) != 0 &&
        !soft_key_invalidate_value(qp->dev, qp->qp.pd, packet->imm, &tx_seq)) {
        end_wqe(qp, RDMA_WC_LOC_ACCESS_ERR);
        return fail(qp, ROCE_NAK_ACCESS, RDMA_EVENT_QP_ACCESS_ERR);
    }
    /* What cannot be told is not acknowledged. */
    if (last && !push_message(qp, packet)) {
        return fail(qp, ROCE_NAK_OPERATION, RDMA_EVENT_QP_FATAL);
    }
    resp->psn = roce_psn_add(resp->psn, 1);
    resp->is_in_message = !last;
    if (last) {
        resp->msn = (resp->msn + 1) & ROCE_PSN_MASK;
    }
    resp->ack_psn = packet->psn;
    resp->ack_msn = resp->msn;
    if ((packet->bth->ack_req & ROCE_BTH_ACK_REQ) != 0) {
        owe_ack(qp);
    }
    return SOFT_RESP_DONE;
}

/* It was done before: the peer has not heard so (9.7.4.5, 9.7.5.2.4). */
static enum soft_resp step_repeat(struct soft_qp *qp, const struct soft_packet *packet)
{
    qp->stats.duplicates++;
    if ((packet->flags & ROCE_OP_READ) != 0) {
        return soft_read_repeat(qp, packet);
    }
    owe_ack(qp);
    return SOFT_RESP_DONE;
}

void soft_respond_packet(struct soft_qp *qp, const struct soft_packet *packet)
{
    enum soft_resp step = step_psn(qp, packet);

    qp->stats.rx_packets++;
    /* Steps only go forward, most packets through all of them: a chain costs less than a table. */
    if (step == SOFT_RESP_SEQUENCE) {
        step = step_sequence(qp, packet);
    }
    if (step == SOFT_RESP_RESOURCE) {
        step = step_resource(qp, packet);
    }
    if (step == SOFT_RESP_LENGTH) {
        step = step_length(qp, packet);
    }
    if (step == SOFT_RESP_KEY) {
        step = step_key(qp, packet);
    }
    if (step == SOFT_RESP_EXECUTE) {
        step = step_execute(qp, packet);
    }
    if (step == SOFT_RESP_COMPLETE) {
        step = step_complete(qp, packet);
    }
    if (UNLIKELY(step == SOFT_RESP_REPEAT)) {
        step_repeat(qp, packet);
    }
}
