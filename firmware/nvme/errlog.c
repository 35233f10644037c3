/*
 * Error Information log (5.14.1.1): the newest entries of every core, merged when they are read.
 *
 * Entries live until power-off. Leaves out: keeping them over it.
 * Source: NVM Express Base Specification 1.4.
 */
#include <string.h>
#include "base/trace.h"
#include "nvme/nvme_priv.h"

#define WORDS (sizeof(struct nvme_error_entry) / 8)

void nvme_error_log_add(struct nvme_ctrl *ctrl, uint32_t core, struct nvme_error_entry *entry)
{
    struct nvme_core *own = &ctrl->core[core];
    struct nvme_error_slot *slot = &own->errors[own->error_next++ % NVME_ERROR_ENTRIES];
    uint64_t words[WORDS];

    entry->error_count = atomic_fetch_add_explicit(&ctrl->error_count, 1, memory_order_relaxed) + 1;
    memcpy(words, entry, sizeof(words));
    /* Word 0 is 0 while the others change: the fence pairs with the reader's, the release below
     * with its acquire. */
    atomic_store_explicit(&slot->word[0], 0, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    for (uint32_t i = 1; i < WORDS; i++) {
        atomic_store_explicit(&slot->word[i], words[i], memory_order_relaxed);
    }
    atomic_store_explicit(&slot->word[0], words[0], memory_order_release);
}

/* False: there is no entry, or its core is just writing it. */
static bool slot_read(const struct nvme_error_slot *slot, struct nvme_error_entry *entry)
{
    uint64_t words[WORDS];

    words[0] = atomic_load_explicit(&slot->word[0], memory_order_acquire);
    for (uint32_t i = 1; i < WORDS; i++) {
        words[i] = atomic_load_explicit(&slot->word[i], memory_order_relaxed);
    }
    atomic_thread_fence(memory_order_acquire);
    if (words[0] == 0 || atomic_load_explicit(&slot->word[0], memory_order_relaxed) != words[0]) {
        return false;
    }
    memcpy(entry, words, sizeof(words));
    return true;
}

/* Keeps `entries` sorted by error_count, newest first; the oldest falls out. */
static void insert(struct nvme_error_entry *entries, const struct nvme_error_entry *entry)
{
    uint32_t at = NVME_ERROR_ENTRIES;

    while (at > 0 && entries[at - 1].error_count < entry->error_count) {
        at--;
    }
    if (at == NVME_ERROR_ENTRIES) {
        return;
    }
    memmove(&entries[at + 1], &entries[at],
            (NVME_ERROR_ENTRIES - 1 - at) * sizeof(struct nvme_error_entry));
    entries[at] = *entry;
}

void nvme_error_log_read(struct nvme_ctrl *ctrl, struct nvme_error_entry *entries)
{
    memset(entries, 0, NVME_ERROR_ENTRIES * sizeof(*entries));
    for (uint32_t c = 0; c < LIMIT_CORES; c++) {
        for (uint32_t i = 0; i < NVME_ERROR_ENTRIES; i++) {
            struct nvme_error_entry entry;
            if (slot_read(&ctrl->core[c].errors[i], &entry)) {
                insert(entries, &entry);
            }
        }
    }
}

void nvme_ctrl_log_error(struct nvme_ctrl *ctrl, uint16_t sq_id, uint16_t cid, nvme_status_t status,
                         uint16_t location, uint64_t lba, uint32_t nsid)
{
    struct nvme_error_entry entry = {
        .sqid = sq_id,
        .cid = cid,
        .status = (uint16_t)(status << 1),
        .parameter_location = location,
        .lba = lba,
        .nsid = nsid,
    };
    nvme_error_log_add(ctrl, 0, &entry);
}

/* --- ends of commands ----------------------------------------------------------------------- */

/* What the host asked for itself is no error. */
static bool is_worth_logging(nvme_status_t status)
{
    uint32_t code = NVME_STATUS_CODE(status);
    return code != NVME_SC_ABORT_REQUESTED && code != NVME_SC_ABORT_SQ_DELETION &&
           code != NVME_SC_FIRMWARE_NEEDS_RESET; /* which says that it was done */
}

/* SMART, Media and Data Integrity Errors: unrecovered read errors and failed end-to-end checks. */
static bool is_media_error(nvme_status_t status)
{
    uint32_t code = NVME_STATUS_CODE(status);
    return code >= NVME_SC_UNRECOVERED_READ && code < NVME_SC_COMPARE_FAILURE;
}

static void log_command(struct nvme_cmd *cmd)
{
    const struct nvme_sqe *sqe = &cmd->blk.cmd;
    struct nvme_error_entry entry = {
        .sqid = cmd->sq_id,
        .cid = cmd->cid,
        .status = (uint16_t)(cmd->blk.status << 1),
        .parameter_location = cmd->error_location,
        .nsid = sqe->nsid,
    };
    if (cmd->sq_id != 0) {
        const struct nvme_op *op = nvme_io_op(sqe->opcode);
        if (op != NULL && (op->flags & NVME_OP_RANGE) != 0) {
            entry.lba = nvme_rw_slba(sqe);
        }
    }
    nvme_error_log_add(cmd->ctrl, cmd->blk.owner_core, &entry);
}

void nvme_end(struct nvme_cmd *cmd, nvme_status_t status)
{
    cmd->step = NVME_STEP_CORE;
    cmd->blk.status = status;
    if (UNLIKELY(status != 0) && is_worth_logging(status)) {
        if (is_media_error(status)) {
            atomic_fetch_add_explicit(&cmd->ctrl->media_error_count, 1, memory_order_relaxed);
        }
        cmd->blk.status = status | NVME_STATUS_MORE;
        TRACE(cmd->blk.owner_core, BAD_COMMAND, cmd->blk.fn, cmd->blk.trace_id, cmd->blk.cmd.opcode,
              status);
        log_command(cmd);
    }
    if (cmd->sq_id == 0) {
        TRACE(0, ADMIN_DONE, cmd->blk.fn, cmd->cid, cmd->blk.status, cmd->blk.dw0);
    }
    cmd->ctrl->ops->complete(cmd);
}

void nvme_fail(struct nvme_cmd *cmd, nvme_status_t status, uint16_t location)
{
    cmd->error_location = location;
    nvme_end(cmd, status | NVME_STATUS_DNR);
}

nvme_status_t nvme_flags_check(uint8_t flags, uint8_t psdt_allowed, uint16_t *location)
{
    if (FIELD_GET(NVME_SQE_FUSE, flags) != 0) {
        *location = NVME_AT_FUSE; /* 6.2: FUSES is 0 */
        return NVME_SC_INVALID_FIELD;
    }
    if ((psdt_allowed & BIT32(FIELD_GET(NVME_SQE_PSDT, flags))) == 0) {
        *location = NVME_AT_PSDT;
        return NVME_SC_INVALID_FIELD;
    }
    return NVME_SC_SUCCESS;
}
