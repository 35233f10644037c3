/*
 * The drive model's commands. Admin: what a driver needs. I/O: data really moves between test
 * memory and the blocks of the namespace.
 */
#include <stdio.h>
#include <string.h>
#include "drive_model.h"

#define PAGE       4096u
#define MAX_PIECES 1024

static const struct model_result invalid_field = {.status =
                                                      NVME_SC_INVALID_FIELD | NVME_STATUS_DNR};

/* --- where the data is ---------------------------------------------------------------------------
 */

struct piece {
    uint8_t *ptr;
    uint32_t len_bytes;
};

struct pieces {
    struct piece at[MAX_PIECES];
    uint32_t count;
};

static void add_piece(struct drive_model *m, struct pieces *pieces, uint64_t addr,
                      uint32_t len_bytes)
{
    if (pieces->count == MAX_PIECES || addr == 0) {
        drive_model_violation(m, "a list without end, or a null address");
        return;
    }
    pieces->at[pieces->count++] = (struct piece){(uint8_t *)(uintptr_t)addr, len_bytes};
}

static void walk_prp(struct drive_model *m, const struct nvme_sqe *cmd, uint32_t len_bytes,
                     struct pieces *pieces)
{
    uint32_t first = PAGE - (uint32_t)(cmd->prp1 % PAGE);
    uint64_t entry = cmd->prp2;

    m->prp_count++;
    if (cmd->prp1 % 4 != 0) {
        drive_model_violation(m, "PRP1 is not dword aligned");
    }
    if (first >= len_bytes) {
        add_piece(m, pieces, cmd->prp1, len_bytes);
        return;
    }
    add_piece(m, pieces, cmd->prp1, first);
    len_bytes -= first;
    if (len_bytes <= PAGE) {
        if (entry % PAGE != 0) {
            drive_model_violation(m, "PRP2 is not page aligned");
        }
        add_piece(m, pieces, entry, len_bytes);
        return;
    }
    if (entry % 8 != 0) {
        drive_model_violation(m, "PRP list is not qword aligned");
    }
    while (len_bytes != 0) {
        uint64_t addr;
        uint32_t take = len_bytes < PAGE ? len_bytes : PAGE;
        if (entry % PAGE == PAGE - 8 && len_bytes > PAGE) {
            drive_model_violation(m, "PRP list runs into the chaining entry");
        }
        memcpy(&addr, (const void *)(uintptr_t)entry, 8);
        if (addr % PAGE != 0) {
            drive_model_violation(m, "PRP entry is not page aligned");
        }
        add_piece(m, pieces, addr, take);
        len_bytes -= take;
        entry += 8;
    }
}

static void walk_sgl(struct drive_model *m, const struct nvme_sqe *cmd, uint32_t len_bytes,
                     struct pieces *pieces)
{
    const struct nvme_sgl_desc *desc = &cmd->sgl1;
    uint32_t count = 1;
    uint32_t sum = 0;

    m->sgl_count++;
    if (m->sgls == 0) {
        drive_model_violation(m, "SGL, which this drive does not have");
    }
    if (desc->type == NVME_SGL_LAST_SEGMENT << 4) {
        count = desc->len_bytes / 16;
        desc = (const struct nvme_sgl_desc *)(uintptr_t)desc->addr;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (desc[i].type != 0 || desc[i].len_bytes == 0) {
            drive_model_violation(m, "SGL descriptor is no data block, or empty");
        }
        if (m->sgls == 2 && ((desc[i].addr | desc[i].len_bytes) & 3) != 0) {
            drive_model_violation(m, "SGL descriptor is not of dwords");
        }
        add_piece(m, pieces, desc[i].addr, desc[i].len_bytes);
        sum += desc[i].len_bytes;
    }
    if (sum != len_bytes) {
        drive_model_violation(m, "SGL length differs from the command's");
    }
}

static void find_data(struct drive_model *m, const struct nvme_sqe *cmd, uint32_t len_bytes,
                      struct pieces *pieces)
{
    pieces->count = 0;
    m->data_bytes += len_bytes;
    if (!m->bus_master) {
        drive_model_violation(m, "data with bus mastering off");
    }
    if (cmd->flags >> 6 == 0) {
        walk_prp(m, cmd, len_bytes, pieces);
    } else {
        walk_sgl(m, cmd, len_bytes, pieces);
    }
}

static void scatter(const struct pieces *pieces, const uint8_t *from)
{
    for (uint32_t i = 0; i < pieces->count; i++) {
        memcpy(pieces->at[i].ptr, from, pieces->at[i].len_bytes);
        from += pieces->at[i].len_bytes;
    }
}

static void gather(const struct pieces *pieces, uint8_t *to)
{
    for (uint32_t i = 0; i < pieces->count; i++) {
        memcpy(to, pieces->at[i].ptr, pieces->at[i].len_bytes);
        to += pieces->at[i].len_bytes;
    }
}

/* --- I/O ----------------------------------------------------------------------------------------
 */

static struct model_result transfer(struct drive_model *m, const struct nvme_sqe *cmd,
                                    uint8_t *blocks, uint32_t len_bytes)
{
    static struct pieces pieces;
    static uint8_t other[2 << 20];

    if (m->mdts != 0 && len_bytes > PAGE << m->mdts) {
        drive_model_violation(m, "more data than MDTS");
        return invalid_field;
    }
    find_data(m, cmd, len_bytes, &pieces);
    if (cmd->opcode == NVME_IO_READ) {
        scatter(&pieces, blocks);
    } else if (cmd->opcode == NVME_IO_WRITE) {
        gather(&pieces, blocks);
    } else {
        gather(&pieces, other);
        if (memcmp(other, blocks, len_bytes) != 0) {
            return (struct model_result){.status = NVME_SC_COMPARE_FAILURE};
        }
    }
    return (struct model_result){.dw0 = 0x10};
}

static struct model_result deallocate(struct drive_model *m, const struct model_ns *ns,
                                      const struct nvme_sqe *cmd)
{
    static struct pieces pieces;
    uint8_t ranges[4096];
    uint32_t count = (cmd->cdw10 & 0xff) + 1;

    find_data(m, cmd, count * 16, &pieces);
    gather(&pieces, ranges);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t lba_count;
        uint64_t slba;
        memcpy(&lba_count, ranges + i * 16 + 4, 4);
        memcpy(&slba, ranges + i * 16 + 8, 8);
        if (slba + lba_count > ns->lba_count) {
            return (struct model_result){.status = NVME_SC_LBA_OUT_OF_RANGE | NVME_STATUS_DNR};
        }
        memset(ns->blocks + (slba << ns->lba_shift), 0, (size_t)lba_count << ns->lba_shift);
    }
    return (struct model_result){0};
}

static struct model_result execute_io(struct drive_model *m, const struct nvme_sqe *cmd)
{
    struct model_ns *ns = drive_model_ns(m, cmd->nsid);
    uint64_t slba = nvme_rw_slba(cmd);
    uint32_t lba_count = nvme_rw_lba_count(cmd);

    if (cmd->mptr != 0) {
        drive_model_violation(m, "MPTR holds somebody's address");
    }
    if (ns == NULL) {
        return (struct model_result){.status = NVME_SC_INVALID_NS_OR_FORMAT | NVME_STATUS_DNR};
    }
    if (cmd->opcode == NVME_IO_FLUSH) {
        return (struct model_result){.dw0 = 0xf1};
    }
    if (cmd->opcode == NVME_IO_DSM) {
        return deallocate(m, ns, cmd);
    }
    if (slba + lba_count > ns->lba_count) {
        return (struct model_result){.status = NVME_SC_LBA_OUT_OF_RANGE | NVME_STATUS_DNR};
    }
    uint8_t *blocks = ns->blocks + (slba << ns->lba_shift);
    uint32_t len_bytes = lba_count << ns->lba_shift;
    switch (cmd->opcode) {
    case NVME_IO_READ:
    case NVME_IO_WRITE:
    case NVME_IO_COMPARE:
        return transfer(m, cmd, blocks, len_bytes);
    case NVME_IO_WRITE_ZEROES:
        memset(blocks, 0, len_bytes);
        return (struct model_result){0};
    case NVME_IO_VERIFY:
        return (struct model_result){0};
    default:
        return (struct model_result){.status = NVME_SC_INVALID_OPCODE | NVME_STATUS_DNR};
    }
}

/* --- admin
 * ---------------------------------------------------------------------------------------- */

static void put(uint8_t *to, uint64_t value, uint32_t bytes)
{
    memcpy(to, &value, bytes);
}

static void fill_ctrl(const struct drive_model *m, uint8_t *page)
{
    memcpy(page + 4, "SN\x01ODEL             ", 20);
    memset(page + 24, ' ', 40);
    memcpy(page + 24, "model drive", 11);
    memcpy(page + 64, "1.0     ", 8);
    page[77] = m->mdts;
    put(page + 92, 1u << 8, 4);
    page[258] = m->acl;
    page[512] = 0x66;
    page[513] = 0x44;
    put(page + 516, MODEL_NAMESPACES, 4);
    put(page + 520, m->oncs, 2);
    page[525] = m->vwc;
    put(page + 526, m->awun, 2);
    put(page + 528, m->awupf, 2);
    put(page + 532, m->acwu, 2);
    put(page + 536, m->sgls, 4);
}

static void fill_ns_list(const struct drive_model *m, uint8_t *page)
{
    uint32_t last = 0;
    for (uint32_t count = 0; count < MODEL_NAMESPACES; count++) {
        uint32_t next = UINT32_MAX;
        for (uint32_t i = 0; i < MODEL_NAMESPACES; i++) {
            if (m->ns[i].nsid > last && m->ns[i].nsid < next) {
                next = m->ns[i].nsid;
            }
        }
        if (next == UINT32_MAX) {
            return;
        }
        put(page + count * 4, next, 4);
        last = next;
    }
}

static struct model_result identify(struct drive_model *m, const struct nvme_sqe *cmd)
{
    uint8_t page[4096] = {0};
    const struct model_ns *ns = drive_model_ns(m, cmd->nsid);

    switch (cmd->cdw10 & 0xff) {
    case 0x00:
        if (ns != NULL) { /* of an inactive namespace all is zero */
            put(page + 0, ns->lba_count, 8);
            page[26] = 1; /* format 1 of 2 */
            page[25] = 1;
            page[99] = ns->is_protected ? 1 : 0;
            page[24] = ns->nsfeat;
            page[31] = 0xff; /* RESCAP */
            memcpy(page + 34, ns->limits, 14);
            memcpy(page + 64, ns->limits + 7, 10);
            memset(page + 104, 0xa0 + (int)ns->nsid, 16);
            put(page + 132, (uint32_t)ns->lba_shift << 16 | ns->metadata_bytes, 4);
        }
        break;
    case 0x01:
        fill_ctrl(m, page);
        break;
    case 0x02:
        fill_ns_list(m, page);
        break;
    case 0x03:
        memcpy(page, "\x01\x08\0\0EUIEUIEU\x03\x10\0\0UUIDUUIDUUIDUUID", 32);
        break;
    default:
        return invalid_field;
    }
    memcpy((void *)(uintptr_t)cmd->prp1, page, sizeof(page));
    return (struct model_result){0};
}

static struct model_result create_queue(struct drive_model *m, const struct nvme_sqe *cmd,
                                        bool is_cq)
{
    uint32_t qid = cmd->cdw10 & 0xffff;
    uint32_t entries = (cmd->cdw10 >> 16) + 1;

    if (qid == 0 || qid > m->io_queues || entries > m->mqes + 1 || entries < 2 ||
        cmd->prp1 % PAGE != 0 || (cmd->cdw11 & 1) == 0 ||
        (!is_cq && m->cq_entries[cmd->cdw11 >> 16] == 0)) {
        drive_model_violation(m, "Create Queue with bad fields");
        return invalid_field;
    }
    if (is_cq) {
        m->cq_addr[qid] = cmd->prp1;
        m->cq_entries[qid] = entries;
        m->cq_tail[qid] = 0;
    } else {
        m->sq_addr[qid] = cmd->prp1;
        m->sq_entries[qid] = entries;
        m->sq_head[qid] = 0;
    }
    return (struct model_result){0};
}

/* 5.1: the aborted command completes on its own queue; dw0 bit 0 tells when nothing was aborted. */
static struct model_result abort_command(struct drive_model *m, const struct nvme_sqe *cmd)
{
    m->abort_count++;
    for (uint32_t i = 0; i < m->pending_count && !m->ignores_aborts; i++) {
        struct model_pending p = m->pending[i];
        if (p.sq_id == (cmd->cdw10 & 0xffff) && p.cmd.cid == cmd->cdw10 >> 16) {
            uint32_t entries = m->cq_entries[p.sq_id];
            struct nvme_cqe *cqe =
                (struct nvme_cqe *)(uintptr_t)m->cq_addr[p.sq_id] + m->cq_tail[p.sq_id] % entries;
            uint32_t phase = (m->cq_tail[p.sq_id] / entries) % 2 == 0 ? NVME_CQE_PHASE : 0;
            memmove(&m->pending[i], &m->pending[i + 1],
                    (--m->pending_count - i) * sizeof(m->pending[0]));
            cqe->sq_id = p.sq_id;
            cqe->dw3 = p.cmd.cid | phase | (uint32_t)NVME_SC_ABORT_REQUESTED << 17;
            m->cq_tail[p.sq_id]++;
            return (struct model_result){0};
        }
    }
    return (struct model_result){.dw0 = 1};
}

static struct model_result get_log(struct drive_model *m, const struct nvme_sqe *cmd)
{
    uint32_t len_bytes = ((cmd->cdw10 >> 16) + 1) * 4;
    uint8_t page[4096] = {0};

    if (len_bytes > sizeof(page)) {
        return invalid_field;
    }
    page[0] = m->critical_warning;
    memcpy((void *)(uintptr_t)cmd->prp1, page, len_bytes);
    return (struct model_result){0};
}

static struct model_result execute_admin(struct drive_model *m, const struct nvme_sqe *cmd)
{
    switch (cmd->opcode) {
    case NVME_ADMIN_IDENTIFY:
        return identify(m, cmd);
    case NVME_ADMIN_SET_FEATURES:
        if ((cmd->cdw10 & 0xff) == 7) {
            uint32_t n = m->io_queues - 1;
            return (struct model_result){.dw0 = n << 16 | n};
        }
        return (struct model_result){0};
    case NVME_ADMIN_CREATE_CQ:
        return create_queue(m, cmd, true);
    case NVME_ADMIN_CREATE_SQ:
        return create_queue(m, cmd, false);
    case NVME_ADMIN_ABORT:
        return abort_command(m, cmd);
    case NVME_ADMIN_GET_LOG_PAGE:
        return get_log(m, cmd);
    case NVME_ADMIN_ASYNC_EVENT: {
        struct model_result result = {.dw0 = m->event_dw0, .is_silent = m->event_dw0 == 0};
        m->event_dw0 = 0;
        return result;
    }
    default:
        return (struct model_result){.status = NVME_SC_INVALID_OPCODE | NVME_STATUS_DNR};
    }
}

struct model_result drive_model_execute(struct drive_model *m, const struct model_pending *p)
{
    return p->sq_id == 0 ? execute_admin(m, &p->cmd) : execute_io(m, &p->cmd);
}
