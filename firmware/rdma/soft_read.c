/*
 * The responder's answers to READs. Requests are noted in a ring and answered by the poller, a few
 * packets a turn, straight from the memory that they name; each packet's access is checked again.
 * The ring keeps those that were answered, since a response may be lost (IBA 9.7.4.5: resources for
 * repeated READs).
 */
#include "rdma/soft_packet_priv.h"

static struct soft_read *read_at(struct soft_qp *qp, uint32_t index)
{
    return &qp->resp.reads[index % RDMA_SOFT_READS];
}

bool soft_read_has_room(struct soft_qp *qp)
{
    const struct soft_responder *resp = &qp->resp;
    uint32_t count = 0;

    for (uint32_t i = resp->read_next; i != resp->read_head; i++) {
        count += read_at(qp, i)->is_new;
    }
    return count < qp->attr.max_dest_rd_atomic;
}

enum soft_resp soft_read_note(struct soft_qp *qp, const struct soft_packet *packet)
{
    struct soft_responder *resp = &qp->resp;
    uint32_t count = soft_packet_count(qp, resp->write_bytes);
    uint32_t last_psn = roce_psn_add(packet->psn, count - 1);

    if (resp->read_head - resp->read_next == RDMA_SOFT_READS) {
        resp->read_next++; /* a repetition: the others were counted */
    }
    resp->psn = roce_psn_add(resp->psn, count);
    resp->msn = (resp->msn + 1) & ROCE_PSN_MASK;
    *read_at(qp, resp->read_head++) = (struct soft_read){.va = resp->write_va,
                                                         .rkey = resp->write_rkey,
                                                         .len_bytes = resp->write_bytes,
                                                         .first_psn = packet->psn,
                                                         .last_psn = last_psn,
                                                         .msn = resp->msn,
                                                         .begin_psn = packet->psn,
                                                         .end_psn = last_psn,
                                                         .end_bytes = resp->write_bytes,
                                                         .send_psn = packet->psn,
                                                         .is_new = true,
                                                         .is_valid = true};
    soft_qp_activate(qp);
    return SOFT_RESP_DONE;
}

static uint32_t offset_of(const struct soft_qp *qp, const struct soft_read *read, uint32_t psn)
{
    return (uint32_t)roce_psn_diff(psn, read->first_psn) * qp->mtu_bytes;
}

/* The request names a part of the memory that this one named, where the PSN says. */
static bool is_part_of(const struct soft_qp *qp, const struct soft_read *read,
                       const struct soft_packet *packet)
{
    if (!read->is_valid || roce_psn_diff(packet->psn, read->first_psn) < 0 ||
        roce_psn_diff(packet->psn, read->last_psn) > 0) {
        return false;
    }
    uint32_t offset = offset_of(qp, read, packet->psn);
    return be64_get(packet->reth->va) == read->va + offset &&
           be32_get(packet->reth->rkey) == read->rkey &&
           be32_get(packet->reth->len_bytes) <= read->len_bytes - offset;
}

/* Asked again, in whole or in part (9.7.5.2.4). What is too old, or was not asked for then, is
 * dropped. */
enum soft_resp soft_read_repeat(struct soft_qp *qp, const struct soft_packet *packet)
{
    struct soft_responder *resp = &qp->resp;

    for (uint32_t back = 1; back <= RDMA_SOFT_READS; back++) {
        uint32_t index = resp->read_head - back;
        struct soft_read *read = read_at(qp, index);
        if (is_part_of(qp, read, packet)) {
            uint32_t len_bytes = be32_get(packet->reth->len_bytes);
            read->begin_psn = packet->psn;
            read->end_psn = roce_psn_add(packet->psn, soft_packet_count(qp, len_bytes) - 1);
            read->end_bytes = offset_of(qp, read, packet->psn) + len_bytes;
            read->send_psn = packet->psn;
            read->is_repeat = true;
            if ((int32_t)(index - resp->read_next) < 0) {
                resp->read_next = index;
            }
            soft_qp_activate(qp);
            break;
        }
    }
    return SOFT_RESP_DONE;
}

static uint8_t opcode_of(const struct soft_read *read)
{
    bool first = read->send_psn == read->begin_psn;
    bool last = read->send_psn == read->end_psn;

    if (first) {
        return last ? ROCE_RC_READ_RESP_ONLY : ROCE_RC_READ_RESP_FIRST;
    }
    return last ? ROCE_RC_READ_RESP_LAST : ROCE_RC_READ_RESP_MIDDLE;
}

/* One response. False: not now, or refused, which ended the QP. */
static bool send_response(struct soft_qp *qp, struct soft_read *read)
{
    uint32_t offset = offset_of(qp, read, read->send_psn);
    uint32_t bytes = min_u32(read->end_bytes - offset, qp->mtu_bytes);
    struct rdma_sge sge = {.addr = read->va + offset, .len_bytes = bytes, .lkey = read->rkey};
    uint8_t opcode = opcode_of(read);
    struct soft_tx tx;

    if (!soft_tx_begin(&tx, qp, &qp->path, opcode, read->send_psn)) {
        return false;
    }
    if ((soft_op_flags[opcode] & ROCE_OP_AETH) != 0) {
        struct roce_aeth *aeth = soft_tx_header(&tx, sizeof(*aeth));
        aeth->syndrome = ROCE_AETH_ACK;
        aeth->msn = be24_make(read->msn);
    }
    if (bytes > 0) {
        enum soft_tx_result result =
            soft_tx_payload(&tx, &sge, 1, 0, bytes, RDMA_ACCESS_REMOTE_READ, read->is_repeat);
        if (result == SOFT_TX_REFUSED && read->is_repeat && !read->is_new) {
            /* The peer may have had its answer, and the key was taken back after that: no reason to
             * die. If it still waits, its retries run out. */
            read->is_valid = false;
            return true;
        }
        if (result == SOFT_TX_REFUSED) {
            soft_respond_refuse_read(qp, read->send_psn);
        }
        if (result != SOFT_TX_OK) {
            return false;
        }
    }
    soft_tx_end(&tx);
    soft_rate_sent(qp, tx.frame_bytes);
    read->send_psn = roce_psn_add(read->send_psn, 1);
    return true;
}

static uint32_t respond(struct soft_qp *qp, uint32_t budget)
{
    struct soft_responder *resp = &qp->resp;
    uint32_t count = 0;

    while (soft_read_waits(qp)) {
        struct soft_read *read = read_at(qp, resp->read_next);
        if (!read->is_valid || roce_psn_diff(read->send_psn, read->end_psn) > 0) {
            read->is_new = false;
            resp->read_next++;
            continue;
        }
        if (count == budget || !soft_rate_allows(qp) || !send_response(qp, read)) {
            break;
        }
        count++;
    }
    return count;
}

uint32_t soft_read_respond(struct soft_qp *qp, uint32_t budget)
{
    uint32_t count = 0;

    if (!soft_read_waits(qp)) {
        return 0;
    }
    if (LIKELY(qp->path.state == NET_PATH_READY)) {
        count = respond(qp, budget);
    } else if (qp->path.state != NET_PATH_RESOLVING) {
        qp->resp.read_next = qp->resp.read_head; /* nowhere to send it: the peer asks again */
    }
    if (!soft_read_waits(qp)) {
        soft_respond_reads_done(qp);
    }
    return count;
}
