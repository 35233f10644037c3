/*
 * The model target: I/O commands over namespaces in memory (base specification 6). Each is executed
 * at one moment. Dataset Management deallocates, and what is deallocated reads as zero.
 */
#include "tests/model/target_priv.h"

#include <string.h>
#include "base/bits.h"

enum {
    LEN_RESV_ACQUIRE = 16,
    LEN_RESV_RELEASE = 8,
};

/* --- what a command is about ---------------------------------------------------------------- */

uint64_t target_io_len(const struct target_op *op)
{
    const struct nvme_sqe *sqe = op->sqe;

    switch (sqe->opcode) {
    case NVME_IO_WRITE:
    case NVME_IO_READ:
    case NVME_IO_COMPARE:
        return (uint64_t)nvme_rw_lba_count(sqe) << op->ns->config.lba_shift;
    case NVME_IO_DSM:
        return (FIELD_GET(NVME_DSM_NR, sqe->cdw10) + 1) * sizeof(struct nvme_dsm_range);
    case IO_RESV_REGISTER:
    case IO_RESV_ACQUIRE:
        return LEN_RESV_ACQUIRE;
    case IO_RESV_RELEASE:
        return LEN_RESV_RELEASE;
    case IO_RESV_REPORT:
        return ((uint64_t)sqe->cdw10 + 1) * 4;
    case NVME_IO_FLUSH:
    case NVME_IO_WRITE_ZEROES:
    case NVME_IO_VERIFY:
        return 0;
    default:
        return UINT64_MAX;
    }
}

static bool is_offered(const struct target_op *op)
{
    uint16_t off = op->target->knobs.oncs_off;

    switch (op->sqe->opcode) {
    case NVME_IO_COMPARE:
        return (off & NVME_ONCS_COMPARE) == 0;
    case NVME_IO_DSM:
        return (off & NVME_ONCS_DSM) == 0;
    case NVME_IO_WRITE_ZEROES:
        return (off & NVME_ONCS_WRITE_ZEROES) == 0;
    case NVME_IO_VERIFY:
        return (off & NVME_ONCS_VERIFY) == 0;
    case IO_RESV_REGISTER:
    case IO_RESV_REPORT:
    case IO_RESV_ACQUIRE:
    case IO_RESV_RELEASE:
        return (off & NVME_ONCS_RESERVATIONS) == 0;
    default:
        return true;
    }
}

static bool is_write(uint8_t opcode)
{
    return opcode == NVME_IO_WRITE || opcode == NVME_IO_WRITE_ZEROES || opcode == NVME_IO_DSM;
}

/* --- media ---------------------------------------------------------------------------------- */

static uint8_t *block(const struct target_ns *ns, uint64_t lba)
{
    return ns->media + (lba << ns->config.lba_shift);
}

static void versions_add(struct target_ns *ns, uint64_t lba, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        ns->versions[lba + i]++;
    }
}

static void zero(struct target_ns *ns, uint64_t lba, uint64_t count)
{
    memset(block(ns, lba), 0, count << ns->config.lba_shift);
    versions_add(ns, lba, count);
}

static void dsm(struct target_op *op)
{
    uint64_t count = FIELD_GET(NVME_DSM_NR, op->sqe->cdw10) + 1;
    struct nvme_dsm_range range;

    if ((op->sqe->cdw11 & NVME_DSM_DEALLOCATE) == 0) {
        return;
    }
    for (uint64_t i = 0; i < count; i++) {
        memcpy(&range, op->data + i * sizeof(range), sizeof(range));
        if (!range_fits(range.slba, range.lba_count, op->ns->lba_count)) {
            op->status = NVME_SC_LBA_OUT_OF_RANGE | DNR;
            return;
        }
    }
    for (uint64_t i = 0; i < count; i++) {
        memcpy(&range, op->data + i * sizeof(range), sizeof(range));
        zero(op->ns, range.slba, range.lba_count);
    }
}

static void execute(struct target_op *op)
{
    struct target_ns *ns = op->ns;
    uint64_t lba = nvme_rw_slba(op->sqe);
    uint64_t count = nvme_rw_lba_count(op->sqe);

    switch (op->sqe->opcode) {
    case NVME_IO_READ:
        op->target->stats.reads++;
        memcpy(op->data, block(ns, lba), op->len_bytes);
        break;
    case NVME_IO_WRITE:
        op->target->stats.writes++;
        memcpy(block(ns, lba), op->data, op->len_bytes);
        versions_add(ns, lba, count);
        break;
    case NVME_IO_COMPARE:
        op->status = memcmp(block(ns, lba), op->data, op->len_bytes) == 0
                         ? NVME_SC_SUCCESS
                         : NVME_SC_COMPARE_FAILURE | DNR;
        break;
    case NVME_IO_WRITE_ZEROES:
        zero(ns, lba, count);
        break;
    case NVME_IO_DSM:
        dsm(op);
        break;
    case NVME_IO_FLUSH:
    case NVME_IO_VERIFY:
        break;
    default:
        target_resv(op);
        break;
    }
}

/* --- checks --------------------------------------------------------------------------------- */

static bool has_lbas(uint8_t opcode)
{
    return opcode == NVME_IO_READ || opcode == NVME_IO_WRITE || opcode == NVME_IO_COMPARE ||
           opcode == NVME_IO_WRITE_ZEROES || opcode == NVME_IO_VERIFY;
}

static nvme_status_t check(const struct target_op *op)
{
    const struct nvme_sqe *sqe = op->sqe;

    if (op->ns == NULL || op->ns->lba_count == 0) {
        return NVME_SC_INVALID_NS_OR_FORMAT | DNR;
    }
    uint64_t len_bytes = target_io_len(op);
    if (len_bytes == UINT64_MAX || !is_offered(op)) {
        return NVME_SC_INVALID_OPCODE | DNR;
    }
    if (len_bytes != op->len_bytes) {
        return NVME_SC_DATA_SGL_LENGTH_INVALID | DNR;
    }
    if (has_lbas(sqe->opcode) &&
        !range_fits(nvme_rw_slba(sqe), nvme_rw_lba_count(sqe), op->ns->lba_count)) {
        return NVME_SC_LBA_OUT_OF_RANGE | DNR;
    }
    if (is_write(sqe->opcode) && op->ns->config.is_read_only) {
        return NVME_SC_NS_WRITE_PROTECTED | DNR;
    }
    if (target_resv_conflict(op, is_write(sqe->opcode))) {
        return NVME_SC_RESERVATION_CONFLICT | DNR;
    }
    return NVME_SC_SUCCESS;
}

void target_io(struct target_op *op)
{
    struct target *t = op->target;

    op->dw0 = 0;
    op->ns = target_ns_find(t, op->subsystem->index, op->sqe->nsid);
    if (op->sqe->opcode == NVME_IO_FLUSH && op->sqe->nsid == NVME_NSID_ALL) {
        op->ns = &op->subsystem->namespaces[0];
    }
    op->status = check(op);
    if (op->status != NVME_SC_SUCCESS) {
        return;
    }
    if (t->exec != NULL) {
        bool has_data = op->sqe->opcode != NVME_IO_READ && op->len_bytes > 0;
        struct target_exec exec = {.subsystem = op->subsystem->index,
                                   .cntlid = op->cntlid,
                                   .is_late = op->is_late,
                                   .sqe = op->sqe,
                                   .data = has_data ? op->data : NULL};
        t->exec(t->exec_ctx, &exec);
    }
    t->stats.others += op->sqe->opcode != NVME_IO_READ && op->sqe->opcode != NVME_IO_WRITE;
    execute(op);
}
