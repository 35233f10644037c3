/*
 * Builds a packet in a frame of net's: headers in place, payload as segments that point where it
 * lies, pad and ICRC behind it. Small payloads are copied behind the headers, which costs less than
 * a descriptor; so is what is sent again, since the memory may have changed between checksum and
 * transmission the first time.
 */
#include "rdma/soft_packet_priv.h"

bool soft_tx_begin(struct soft_tx *tx, struct soft_qp *qp, const struct net_path *path,
                   uint8_t opcode, uint32_t psn)
{
    struct soft_device *dev = qp->dev;

    if (net_tx_room(dev->nif) == 0) {
        counter_add(&dev->stats.tx_stalled, 1);
        return false;
    }
    tx->buf = net_buf_get(dev->nif);
    if (tx->buf == NULL) {
        counter_add(&dev->stats.tx_stalled, 1);
        return false;
    }
    tx->qp = qp;
    tx->path = path;
    tx->bth = (struct roce_bth *)(void *)net_path_begin(path, tx->buf);
    tx->next = (uint8_t *)(tx->bth + 1);
    tx->payload_bytes = 0;
    tx->region_count = 0;
    tx->points_out = false;
    /* Word by word: opcode, flags and P_Key; zero and QP number; zero and PSN. */
    uint32_t flags = qp->qp.type == RDMA_QP_RC ? ROCE_BTH_MIGRATED : 0;
    be32_store(&tx->bth->opcode, (uint32_t)opcode << 24 | flags << 16 | ROCE_PKEY_DEFAULT);
    be32_store(&tx->bth->congestion, qp->attr.dest_qpn);
    be32_store(&tx->bth->ack_req, psn);
    return true;
}

void soft_tx_copy(struct soft_tx *tx, const void *from, uint32_t len_bytes)
{
    memcpy(tx->next, from, len_bytes);
    tx->next += len_bytes;
    tx->payload_bytes += len_bytes;
}

/* --- payload ---------------------------------------------------------------------------------- */

/* A walk over [offset, offset + len) of a scatter list, span by span. */
struct walk {
    struct soft_device *dev;
    const struct rdma_pd *pd;
    const struct rdma_sge *sge;
    const struct rdma_sge *end;
    uint32_t skip_bytes;
    uint32_t left_bytes;
    uint32_t access;
    struct soft_region *region; /* of the span at hand */
    struct soft_span span;
};

/* The next span that is not empty, its region checked. False: at the end (left_bytes 0), or
 * refused. */
static bool walk_next(struct walk *w)
{
    while (w->left_bytes > 0 && w->sge != w->end) {
        const struct rdma_sge *sge = w->sge++;
        if (w->skip_bytes >= sge->len_bytes) {
            w->skip_bytes -= sge->len_bytes;
            continue;
        }
        w->span =
            (struct soft_span){.addr = sge->addr + w->skip_bytes,
                               .len_bytes = min_u32(sge->len_bytes - w->skip_bytes, w->left_bytes),
                               .value = sge->lkey,
                               .access = w->access};
        w->skip_bytes = 0;
        w->left_bytes -= w->span.len_bytes;
        w->region = soft_region_check(w->dev, w->pd, &w->span);
        return w->region != NULL;
    }
    return false;
}

/* Copies the whole walk to `to`. */
static bool copy_out(struct walk *w, uint8_t *to)
{
    struct mem_seg seg;
    uint32_t count;

    while (walk_next(w)) {
        uint64_t addr = w->span.addr;
        for (uint32_t left = w->span.len_bytes; left > 0; left -= seg.len_bytes) {
            if (soft_region_segs(w->region, addr, left, false, &seg, 1, &count) == 0) {
                return false;
            }
            memcpy(to, mem_seg_ptr(&seg), seg.len_bytes);
            to += seg.len_bytes;
            addr += seg.len_bytes;
        }
    }
    return w->region != NULL && w->left_bytes == 0;
}

/* Segments for the whole walk. 1: done, 0: refused, -1: too many pieces. */
static int point_out(struct soft_tx *tx, struct walk *w)
{
    struct net_buf *buf = tx->buf;
    uint32_t used = 0;

    while (walk_next(w)) {
        uint32_t count;
        uint32_t bytes = soft_region_segs(w->region, w->span.addr, w->span.len_bytes, false,
                                          &buf->segs[1 + used], SOFT_TX_SEGS - used, &count);
        if (bytes < w->span.len_bytes) {
            return count < SOFT_TX_SEGS - used ? 0 : -1;
        }
        used += count;
        tx->regions[tx->region_count++] = w->region;
        if (used == SOFT_TX_SEGS && w->left_bytes > 0) {
            return -1;
        }
    }
    if (w->region == NULL || w->left_bytes > 0) {
        return 0;
    }
    buf->seg_count = 1 + used;
    return 1;
}

static enum soft_tx_result payload_any(struct soft_tx *tx, const struct rdma_sge *sges,
                                       uint32_t sge_count, uint32_t offset_bytes,
                                       uint32_t len_bytes, uint32_t access, bool copy)
{
    struct soft_device *dev = tx->qp->dev;
    struct walk start = {.dev = dev,
                         .pd = tx->qp->qp.pd,
                         .sge = sges,
                         .end = sges + sge_count,
                         .skip_bytes = offset_bytes,
                         .left_bytes = len_bytes,
                         .access = access};
    struct walk w = start;
    uint8_t *to = tx->next;
    int pointed = -1;

    if (len_bytes > SOFT_COPY_BYTES && !copy) {
        pointed = point_out(tx, &w);
        if (pointed > 0) {
            tx->payload_bytes += len_bytes;
            tx->points_out = true;
            counter_add(&dev->stats.zero_copy_bytes, len_bytes);
            return SOFT_TX_OK;
        }
        tx->region_count = 0;
    }
    if (pointed != 0 && len_bytes > SOFT_COPY_BYTES) {
        to = net_big_get(dev->nif, tx->buf);
        if (to == NULL) {
            counter_add(&dev->stats.tx_stalled, 1);
            net_buf_put(dev->nif, tx->buf);
            return SOFT_TX_FULL;
        }
    }
    w = start;
    if (pointed == 0 || !copy_out(&w, to)) {
        net_buf_put(dev->nif, tx->buf);
        return SOFT_TX_REFUSED;
    }
    if (to == tx->next) {
        tx->next += len_bytes;
    } else {
        tx->buf->segs[1] = (struct mem_seg){.bus_addr = (uintptr_t)to, .len_bytes = len_bytes};
        tx->buf->seg_count = 2;
        tx->qp->stats.copies++;
    }
    tx->payload_bytes += len_bytes;
    counter_add(&dev->stats.copied_bytes, len_bytes);
    return SOFT_TX_OK;
}

/* The common case of a small payload: one piece of our own memory. False: it is not that, or it is
 * refused. */
static bool copy_plain(struct soft_tx *tx, const struct rdma_sge *sge, uint32_t offset_bytes,
                       uint32_t len_bytes, uint32_t access)
{
    struct soft_device *dev = tx->qp->dev;
    struct soft_span span = {.addr = sge->addr + offset_bytes,
                             .len_bytes = len_bytes,
                             .value = sge->lkey,
                             .access = access};

    if ((uint64_t)offset_bytes + len_bytes > sge->len_bytes) {
        return false;
    }
    const struct soft_region *region = soft_region_find(dev, tx->qp->qp.pd, &span);
    if (region == NULL || region->kind != SOFT_REGION_NIC) {
        return false;
    }
    soft_tx_copy(tx, mem_bus_ptr(span.addr), len_bytes);
    counter_add(&dev->stats.copied_bytes, len_bytes);
    return true;
}

enum soft_tx_result soft_tx_payload(struct soft_tx *tx, const struct rdma_sge *sges,
                                    uint32_t sge_count, uint32_t offset_bytes, uint32_t len_bytes,
                                    uint32_t access, bool copy)
{
    if (len_bytes <= SOFT_COPY_BYTES && copy_plain(tx, sges, offset_bytes, len_bytes, access)) {
        return SOFT_TX_OK;
    }
    return payload_any(tx, sges, sge_count, offset_bytes, len_bytes, access, copy);
}
/* --- end -------------------------------------------------------------------------------------- */

/* Over headers, data segments (those behind the first) and pad. */
static uint32_t icrc(const struct soft_tx *tx, const uint8_t *trailer, uint32_t pad_bytes)
{
    const struct net_buf *buf = tx->buf;
    const uint8_t *headers = (const uint8_t *)(tx->bth + 1);
    uint32_t headers_bytes = (uint32_t)(tx->next - headers);
    uint32_t crc = soft_icrc_begin(buf->head + buf->l3_offset, tx->path->is_ipv6, tx->bth);

    if (buf->seg_count == 1) { /* all of it is there */
        return soft_icrc_end(soft_icrc_update(crc, headers, headers_bytes + pad_bytes));
    }
    crc = soft_icrc_update(crc, headers, headers_bytes);
    for (uint32_t i = 1; i < buf->seg_count; i++) {
        crc = soft_icrc_update(crc, mem_seg_ptr(&buf->segs[i]), buf->segs[i].len_bytes);
    }
    return soft_icrc_end(soft_icrc_update(crc, trailer, pad_bytes));
}

uint64_t soft_tx_end(struct soft_tx *tx)
{
    struct soft_device *dev = tx->qp->dev;
    struct net_buf *buf = tx->buf;
    uint32_t pad_bytes = -tx->payload_bytes & 3;
    uint32_t head_bytes = (uint32_t)(tx->next - (uint8_t *)tx->bth);
    uint8_t *trailer = tx->next;

    if (buf->seg_count > 1) {
        trailer += -pad_bytes & 3; /* behind headers, whose length is a multiple of 4 */
    }
    uint8_t *icrc_at = trailer + pad_bytes; /* so in any case */
    if (pad_bytes != 0) {
        tx->bth->flags |= (uint8_t)FIELD_PREP(ROCE_BTH_PAD, pad_bytes);
        for (uint8_t *pad = trailer; pad < icrc_at; pad++) {
            *pad = 0;
        }
    }
    buf->segs[0].len_bytes += head_bytes;
    buf->len_bytes += head_bytes + pad_bytes + ROCE_ICRC_BYTES;
    for (uint32_t i = 1; i < buf->seg_count; i++) {
        buf->len_bytes += buf->segs[i].len_bytes;
    }
    net_path_finish(tx->path, buf);
    STAGE_PUSH(ICRC);
    uint32_t crc = icrc(tx, trailer, pad_bytes);
    STAGE_POP();
    *(word32 *)ASSUME_ALIGNED(icrc_at, 4) = crc;
    /* The trailer lies behind the headers: a segment of its own when data stand between. */
    if (buf->seg_count > 1) {
        buf->segs[buf->seg_count++] = (struct mem_seg){.bus_addr = (uintptr_t)trailer,
                                                       .len_bytes = pad_bytes + ROCE_ICRC_BYTES};
    } else {
        buf->segs[0].len_bytes += pad_bytes + ROCE_ICRC_BYTES;
    }
    uint32_t frame_bytes = buf->len_bytes;
    uint64_t seq = net_send(dev->nif, buf);
    for (uint32_t i = 0; i < tx->region_count; i++) {
        tx->regions[i]->tx_seq = seq;
    }
    if (tx->points_out) {
        tx->qp->tx_seq = seq;
    }
    counter_add(&dev->stats.tx_packets, 1);
    counter_add(&dev->stats.icrc_bytes, tx->payload_bytes + head_bytes);
    tx->qp->stats.tx_packets++;
    tx->qp->stats.tx_bytes += tx->payload_bytes;
    tx->frame_bytes = frame_bytes;
    return seq;
}
