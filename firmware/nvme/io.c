/*
 * I/O commands: Read and Write without detour; the rest by table.
 *
 * The short path takes Read and Write, with PRPs or an SGL, on a namespace whose access is
 * NVME_NS_FAST. Whatever it does not like it gives, untouched, to the general path, which finds out
 * what is wrong. Leaves out: fused operations (FUSES is 0), protection information, metadata.
 * Source: NVM Express Base Specification 1.4, section 6.
 */
#include "base/assert.h"
#include "base/trace.h"
#include "nvme/nvme_priv.h"

static const struct nvme_op io_ops[] = {
#define IO_OP(name, handler, features, op_flags, op_effects) \
    [NVME_IO_##name] = {.run = (handler),                    \
                        .blk_features = (features),          \
                        .flags = (op_flags),                 \
                        .effects = (op_effects)},
    NVME_IO_OPS(IO_OP)
#undef IO_OP
};

const struct nvme_op *nvme_io_op(uint8_t opcode)
{
    if (opcode >= ARRAY_SIZE(io_ops) || io_ops[opcode].run == NULL) {
        return NULL;
    }
    return &io_ops[opcode];
}

/* --- holding a namespace -------------------------------------------------------------------- */

static struct nvme_ns_core *ns_core(const struct nvme_cmd *cmd)
{
    return &cmd->ns->core[cmd->blk.owner_core];
}

static void ns_take(struct nvme_cmd *cmd, struct nvme_ns *ns)
{
    cmd->ns = ns;
    counter_add(&ns_core(cmd)->in_flight, 1);
}

/* The last touch of the namespace: release, so that the control core, which loads the count with
 * acquire while it drains (namespaces.c), finds everything of this command done. */
static void ns_put(struct nvme_cmd *cmd)
{
    _Atomic uint64_t *in_flight = &ns_core(cmd)->in_flight;
    atomic_store_explicit(in_flight, counter_get(in_flight) - 1, memory_order_release);
}

static NOINLINE void device_submit(struct blk_dev *dev, struct blk_req *req)
{
    TRACE(req->owner_core, IO_SUBMIT, req->fn, req->trace_id, req->data.len_bytes,
          req->data.seg_count);
    blk_submit(dev, req);
}

/* --- the short path ------------------------------------------------------------------------- */

static void io_fail_held(struct nvme_cmd *cmd, nvme_status_t status)
{
    counter_add(&ns_core(cmd)->stats.error_count, 1);
    ns_put(cmd);
    nvme_end(cmd, status);
}

static void io_data_done(struct blk_req *req)
{
    struct nvme_cmd *cmd = CONTAINER_OF(req, struct nvme_cmd, blk);
    struct nvme_ns_core *core = ns_core(cmd);

    if (UNLIKELY(req->status != 0)) {
        io_fail_held(cmd, req->status);
        return;
    }
    if (req->dir == NVME_DIR_FROM_CONTROLLER) {
        counter_add(&core->stats.read_count, 1);
        counter_add(&core->stats.read_bytes, req->data.len_bytes);
    } else {
        counter_add(&core->stats.write_count, 1);
        counter_add(&core->stats.write_bytes, req->data.len_bytes);
    }
    ns_put(cmd);
    cmd->step = NVME_STEP_CORE;
    cmd->ctrl->ops->complete(cmd);
}

static void io_general(struct nvme_cmd *cmd);

void nvme_submit_io(struct nvme_cmd *cmd)
{
    struct blk_req *req = &cmd->blk;
    struct nvme_ctrl *ctrl = cmd->ctrl;

    cmd->step = NVME_STEP_DEVICE;
    cmd->cancelled = false;
    cmd->error_location = NVME_ERROR_LOCATION_NONE;
    req->meta = NULL;
    req->deadline_ns = 0;
    req->dw0 = 0;
    req->dw1 = 0;

    uint32_t index = req->cmd.nsid - 1;
    uint32_t opcode_flags = req->cmd.opcode | (uint32_t)req->cmd.flags << 8;
    _Static_assert(NVME_IO_WRITE == (int)NVME_DIR_TO_CONTROLLER &&
                       NVME_IO_READ == (int)NVME_DIR_FROM_CONTROLLER &&
                       NVME_IO_READ == NVME_IO_WRITE + 1,
                   "one comparison finds both, and the opcode is the direction");
    if (UNLIKELY((opcode_flags & ~ctrl->plain_flags) - NVME_IO_WRITE > 1 ||
                 index >= ctrl->ns_count)) {
        io_general(cmd);
        return;
    }
    struct nvme_ns *ns = &ctrl->ns[index];
    uint64_t slba = nvme_rw_slba(&req->cmd);
    uint32_t lba_count = nvme_rw_lba_count(&req->cmd);
    /* Acquire: with the release of ns_publish(), which wrote the fields before. */
    bool fast = atomic_load_explicit(&ns->access, memory_order_acquire) == NVME_NS_FAST;
    if (UNLIKELY(!fast || lba_count > ns->max_lba_count ||
                 !range_fits(slba, lba_count,
                             atomic_load_explicit(&ns->lba_count, memory_order_relaxed)))) {
        io_general(cmd);
        return;
    }
    ns_take(cmd, ns);
    req->dir = (uint8_t)opcode_flags; /* figure 138 */
    req->done = io_data_done;
    nvme_status_t status = ctrl->ops->map(cmd, lba_count << ns->lba_shift);
    if (UNLIKELY(status != 0)) {
        io_fail_held(cmd, status);
        return;
    }
    if (trace_is_on(TRACE_CLASS_IO)) {
        device_submit(ns->dev, req);
        return;
    }
    blk_submit(ns->dev, req);
}

/* --- the general path ----------------------------------------------------------------------- */

static void io_general(struct nvme_cmd *cmd)
{
    const struct nvme_sqe *sqe = &cmd->blk.cmd;
    struct nvme_ctrl *ctrl = cmd->ctrl;
    uint16_t location;

    cmd->step = NVME_STEP_CORE;
    cmd->ns = NULL;
    cmd->blk.data = (struct mem_ref){.space = MEM_SPACE_NONE};
    cmd->blk.dir = NVME_DIR_NONE;

    const struct nvme_op *op = nvme_io_op(sqe->opcode);
    if (op == NULL) {
        nvme_fail(cmd, NVME_SC_INVALID_OPCODE, NVME_AT_OPCODE);
        return;
    }
    nvme_status_t status = nvme_flags_check(sqe->flags, ctrl->psdt_allowed, &location);
    if (status != 0) {
        nvme_fail(cmd, status, location);
        return;
    }
    if (sqe->nsid == NVME_NSID_ALL && (op->flags & NVME_OP_NSID_ALL) != 0) {
        op->run(cmd);
        return;
    }
    struct nvme_ns *ns = nvme_ns_find(ctrl, sqe->nsid);
    if (ns == NULL) {
        status = nvme_ns_refusal(ctrl, sqe->nsid);
        cmd->error_location = NVME_AT_NSID;
        nvme_end(cmd, status);
        return;
    }
    if ((op->blk_features & ~ns->features) != 0) {
        nvme_fail(cmd, NVME_SC_INVALID_OPCODE, NVME_AT_OPCODE);
        return;
    }
    if ((op->flags & NVME_OP_WRITES) != 0 && (ns->features & BLK_FEATURE_READ_ONLY) != 0) {
        nvme_fail(cmd, NVME_SC_NS_WRITE_PROTECTED, NVME_ERROR_LOCATION_NONE);
        return;
    }
    cmd->ns = ns;
    op->run(cmd);
}

/* Counts a success as SMART wants it (5.14.1.2): Read and Compare are host reads, Read, Compare and
 * Verify read data units; Write writes. */
static void io_account(struct nvme_cmd *cmd, uint8_t opcode)
{
    struct blk_stats *stats = &ns_core(cmd)->stats;
    uint64_t bytes = (uint64_t)nvme_rw_lba_count(&cmd->blk.cmd) << cmd->ns->lba_shift;

    switch (opcode) {
    case NVME_IO_READ:
    case NVME_IO_COMPARE:
        counter_add(&stats->read_count, 1);
        counter_add(&stats->read_bytes, bytes);
        break;
    case NVME_IO_VERIFY:
        counter_add(&stats->other_count, 1);
        counter_add(&stats->read_bytes, bytes);
        break;
    case NVME_IO_WRITE:
        counter_add(&stats->write_count, 1);
        counter_add(&stats->write_bytes, bytes);
        break;
    default:
        counter_add(&stats->other_count, 1);
        break;
    }
}

static void io_done(struct blk_req *req)
{
    struct nvme_cmd *cmd = CONTAINER_OF(req, struct nvme_cmd, blk);

    if (req->status != 0) {
        io_fail_held(cmd, req->status);
        return;
    }
    io_account(cmd, req->cmd.opcode);
    ns_put(cmd);
    nvme_end(cmd, NVME_SC_SUCCESS);
}

/* Maps what the command moves and gives it to the device. */
static void io_run(struct nvme_cmd *cmd, blk_done_fn *done)
{
    const struct nvme_op *op = nvme_io_op(cmd->blk.cmd.opcode);

    if ((op->flags & NVME_OP_DATA) != 0) {
        cmd->blk.dir = cmd->blk.cmd.opcode & 3; /* figure 138 */
        uint32_t len_bytes = nvme_rw_lba_count(&cmd->blk.cmd) << cmd->ns->lba_shift;
        nvme_status_t status = cmd->ctrl->ops->map(cmd, len_bytes);
        if (status != 0) {
            io_fail_held(cmd, status);
            return;
        }
    }
    cmd->blk.done = done;
    device_submit(cmd->ns->dev, &cmd->blk);
}

/* --- Force Unit Access where the device has a cache but no FUA ------------------------------ */

static void io_forced_flush(struct nvme_cmd *cmd, blk_done_fn *done)
{
    cmd->cursor = cmd->blk.cmd.opcode;
    cmd->blk.cmd.opcode = NVME_IO_FLUSH;
    cmd->blk.dir = NVME_DIR_NONE;
    cmd->blk.data = (struct mem_ref){.space = MEM_SPACE_NONE};
    cmd->blk.done = done;
    device_submit(cmd->ns->dev, &cmd->blk);
}

static void io_flushed_after_write(struct blk_req *req)
{
    struct nvme_cmd *cmd = CONTAINER_OF(req, struct nvme_cmd, blk);

    req->cmd.opcode = (uint8_t)cmd->cursor;
    io_done(req);
}

static void io_written_before_flush(struct blk_req *req)
{
    struct nvme_cmd *cmd = CONTAINER_OF(req, struct nvme_cmd, blk);

    if (req->status != 0 || cmd->cancelled) {
        io_fail_held(cmd, req->status != 0 ? req->status : NVME_SC_ABORT_REQUESTED);
        return;
    }
    io_forced_flush(cmd, io_flushed_after_write);
}

static void io_flushed_before_read(struct blk_req *req)
{
    struct nvme_cmd *cmd = CONTAINER_OF(req, struct nvme_cmd, blk);

    req->cmd.opcode = (uint8_t)cmd->cursor;
    if (req->status != 0 || cmd->cancelled) {
        io_fail_held(cmd, req->status != 0 ? req->status : NVME_SC_ABORT_REQUESTED);
        return;
    }
    io_run(cmd, io_done);
}

/* Read, Write, Compare, Write Zeroes, Verify (6.9, 6.15, 6.6, 6.17, 6.14). */
void nvme_io_range(struct nvme_cmd *cmd)
{
    struct nvme_ns *ns = cmd->ns;
    struct nvme_sqe *sqe = &cmd->blk.cmd;
    uint32_t flags = nvme_io_op(sqe->opcode)->flags;
    uint32_t lba_count = nvme_rw_lba_count(sqe);
    bool writes = (flags & NVME_OP_WRITES) != 0;

    if ((flags & NVME_OP_DATA) != 0 && lba_count > ns->max_lba_count) {
        nvme_fail(cmd, NVME_SC_INVALID_FIELD, NVME_AT_CDW12); /* MDTS */
        return;
    }
    if (!range_fits(nvme_rw_slba(sqe), lba_count,
                    atomic_load_explicit(&ns->lba_count, memory_order_relaxed))) {
        nvme_fail(cmd, NVME_SC_LBA_OUT_OF_RANGE, NVME_AT_CDW10);
        return;
    }
    ns_take(cmd, ns);
    cmd->step = NVME_STEP_DEVICE;

    bool force = (sqe->cdw12 & NVME_RW_FUA) != 0 ||
                 (writes && atomic_load_explicit(&cmd->ctrl->write_through, memory_order_relaxed));
    if (!force || (ns->features & BLK_FEATURE_FLUSH) == 0) {
        io_run(cmd, io_done);
    } else if ((ns->features & BLK_FEATURE_FUA) != 0) {
        sqe->cdw12 |= NVME_RW_FUA;
        io_run(cmd, io_done);
    } else if (writes) {
        io_run(cmd, io_written_before_flush);
    } else {
        io_forced_flush(cmd, io_flushed_before_read);
    }
}

/* Flush (6.8). Without a volatile cache there is nothing to do. */
void nvme_io_flush(struct nvme_cmd *cmd)
{
    if (cmd->blk.cmd.nsid == NVME_NSID_ALL) {
        nvme_flush_all(cmd);
        return;
    }
    ns_take(cmd, cmd->ns);
    if ((cmd->ns->features & BLK_FEATURE_FLUSH) == 0) {
        cmd->blk.status = NVME_SC_SUCCESS;
        io_done(&cmd->blk);
        return;
    }
    cmd->step = NVME_STEP_DEVICE;
    io_run(cmd, io_done);
}

/* --- reservations (6.10 - 6.13, 8.8) --------------------------------------------------------- */

/* They are the device's: what the host sent goes there, and its answer comes back as it is. */
void nvme_io_reservation(struct nvme_cmd *cmd)
{
    const struct nvme_sqe *sqe = &cmd->blk.cmd;
    uint64_t len_bytes = NVME_RESERVATION_REGISTER_BYTES;

    _Static_assert(NVME_RESERVATION_REGISTER_BYTES == NVME_RESERVATION_ACQUIRE_BYTES, "as above");
    if (sqe->opcode == NVME_IO_RESERVATION_RELEASE) {
        len_bytes = NVME_RESERVATION_RELEASE_BYTES;
    } else if (sqe->opcode == NVME_IO_RESERVATION_REPORT) {
        len_bytes = ((uint64_t)sqe->cdw10 + 1) * 4; /* NUMD */
    }
    if (len_bytes > cmd->ctrl->mdts_bytes) {
        nvme_fail(cmd, NVME_SC_INVALID_FIELD, NVME_AT_CDW10);
        return;
    }
    ns_take(cmd, cmd->ns);
    cmd->blk.dir = sqe->opcode & 3; /* figure 138 */
    nvme_status_t status = cmd->ctrl->ops->map(cmd, (uint32_t)len_bytes);
    if (status != 0) {
        io_fail_held(cmd, status);
        return;
    }
    cmd->step = NVME_STEP_DEVICE;
    cmd->blk.done = io_done;
    device_submit(cmd->ns->dev, &cmd->blk);
}

/* --- flush of every namespace --------------------------------------------------------------- */

static void flush_all_next(struct nvme_cmd *cmd);

static void flush_one_done(struct blk_req *req)
{
    struct nvme_cmd *cmd = CONTAINER_OF(req, struct nvme_cmd, blk);
    struct blk_stats *stats = &ns_core(cmd)->stats;

    if (req->status == 0) {
        counter_add(&stats->other_count, 1);
    } else {
        counter_add(&stats->error_count, 1);
        if (cmd->chain_status == 0) {
            cmd->chain_status = req->status;
        }
    }
    ns_put(cmd);
    if (cmd->step == NVME_STEP_FLUSH) {
        cmd->step = NVME_STEP_FLUSHED; /* flush_all_next() is below us and goes on */
        return;
    }
    flush_all_next(cmd);
}

static void flush_all_next(struct nvme_cmd *cmd)
{
    struct nvme_ctrl *ctrl = cmd->ctrl;

    while (cmd->cursor < ctrl->ns_count && !cmd->cancelled) {
        struct nvme_ns *ns = nvme_ns_find(ctrl, ++cmd->cursor);
        if (ns == NULL || (ns->features & BLK_FEATURE_FLUSH) == 0) {
            continue;
        }
        ns_take(cmd, ns);
        cmd->step = NVME_STEP_FLUSH;
        device_submit(ns->dev, &cmd->blk);
        if (cmd->step != NVME_STEP_FLUSHED) {
            cmd->step = NVME_STEP_DEVICE;
            return;
        }
    }
    cmd->step = NVME_STEP_CORE;
    if (cmd->cancelled && cmd->chain_status == 0) {
        cmd->chain_status = NVME_SC_ABORT_REQUESTED;
    }
    nvme_flush_all_done(cmd, cmd->chain_status);
}

/* The devices see a plain Flush; whatever the command was, its opcode is gone afterwards. */
void nvme_flush_all(struct nvme_cmd *cmd)
{
    cmd->blk.cmd.opcode = NVME_IO_FLUSH;
    cmd->blk.cmd.flags = 0;
    cmd->blk.dir = NVME_DIR_NONE;
    cmd->blk.data = (struct mem_ref){.space = MEM_SPACE_NONE};
    cmd->blk.done = flush_one_done;
    cmd->chain_status = 0;
    cmd->cursor = 0;
    flush_all_next(cmd);
}

/* --- Dataset Management (6.7) --------------------------------------------------------------- */

/* The range list is copied out of host memory once; the copy is checked, and the device gets the
 * copy: what the host writes there meanwhile changes nothing. */

static void dsm_run(struct nvme_cmd *cmd, uint32_t index);

/* Bounded recursion: a command that ends at once comes back here, finds dsm_draining set, returns.
 */
static void dsm_put_buffer(struct nvme_core *core, uint32_t index)
{
    core->dsm_free |= BIT32(index);
    if (core->dsm_draining) {
        return; /* the loop below us sees the free bit */
    }
    core->dsm_draining = true;
    while (core->dsm_free != 0 && !list_is_empty(&core->waiting)) {
        struct list *node = list_pop_front(&core->waiting);
        uint32_t next = lowest_bit(core->dsm_free);
        core->dsm_free &= ~BIT32(next);
        dsm_run(LIST_ENTRY(node, struct nvme_cmd, link), next);
    }
    core->dsm_draining = false;
}

static struct nvme_core *dsm_core(const struct nvme_cmd *cmd)
{
    return &cmd->ctrl->core[cmd->blk.owner_core];
}

static void dsm_done(struct blk_req *req)
{
    struct nvme_cmd *cmd = CONTAINER_OF(req, struct nvme_cmd, blk);
    struct nvme_core *core = dsm_core(cmd);
    uint32_t index = cmd->cursor;

    io_done(req);
    dsm_put_buffer(core, index);
}

static void dsm_end(struct nvme_cmd *cmd, nvme_status_t status)
{
    cmd->blk.status = status;
    dsm_done(&cmd->blk);
}

/* The attributes are hints and give no reason to refuse anything. */
static bool dsm_ranges_fit(const struct nvme_dsm_range *ranges, uint32_t count, uint64_t lba_count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (!range_fits(ranges[i].slba, ranges[i].lba_count, lba_count)) {
            return false;
        }
    }
    return true;
}

static void dsm_run(struct nvme_cmd *cmd, uint32_t index)
{
    struct nvme_ns *ns = cmd->ns;
    struct nvme_dsm_buffer *buffer = &dsm_core(cmd)->dsm[index];
    uint32_t count = (cmd->blk.cmd.cdw10 & (uint32_t)FIELD_MASK(NVME_DSM_NR)) + 1;
    uint32_t len_bytes = count * (uint32_t)sizeof(struct nvme_dsm_range);

    cmd->step = NVME_STEP_CORE;
    cmd->cursor = index;
    if (mem_ref_read(&cmd->blk.data, 0, buffer->ranges, len_bytes) != len_bytes) {
        dsm_end(cmd, NVME_SC_DATA_TRANSFER_ERROR);
        return;
    }
    if (!dsm_ranges_fit(buffer->ranges, count,
                        atomic_load_explicit(&ns->lba_count, memory_order_relaxed))) {
        dsm_end(cmd, NVME_SC_LBA_OUT_OF_RANGE | NVME_STATUS_DNR);
        return;
    }
    if ((ns->features & BLK_FEATURE_DSM) == 0) {
        dsm_end(cmd, NVME_SC_SUCCESS); /* advisory: to deallocate nothing is allowed */
        return;
    }
    buffer->seg = (struct mem_seg){.bus_addr = (uintptr_t)buffer->ranges, .len_bytes = len_bytes};
    cmd->blk.data = (struct mem_ref){
        .segs = &buffer->seg, .len_bytes = len_bytes, .seg_count = 1, .space = MEM_SPACE_NIC};
    cmd->blk.done = dsm_done;
    cmd->step = NVME_STEP_DEVICE;
    device_submit(ns->dev, &cmd->blk);
}

void nvme_io_dsm(struct nvme_cmd *cmd)
{
    struct nvme_core *core = dsm_core(cmd);
    uint32_t count = (cmd->blk.cmd.cdw10 & (uint32_t)FIELD_MASK(NVME_DSM_NR)) + 1;

    ns_take(cmd, cmd->ns);
    cmd->blk.dir = NVME_DIR_TO_CONTROLLER;
    nvme_status_t status =
        cmd->ctrl->ops->map(cmd, count * (uint32_t)sizeof(struct nvme_dsm_range));
    if (status != 0) {
        io_fail_held(cmd, status);
        return;
    }
    if ((cmd->blk.cmd.cdw11 & NVME_DSM_DEALLOCATE) == 0) {
        cmd->blk.status = NVME_SC_SUCCESS; /* only hints, of which nothing is made */
        io_done(&cmd->blk);
        return;
    }
    if (core->dsm_free == 0) {
        cmd->step = NVME_STEP_BUFFER; /* dsm_put_buffer() wakes it */
        list_push_back(&core->waiting, &cmd->link);
        return;
    }
    uint32_t index = lowest_bit(core->dsm_free);
    core->dsm_free &= ~BIT32(index);
    dsm_run(cmd, index);
}

void nvme_dsm_cancel(struct nvme_cmd *cmd)
{
    list_remove(&cmd->link);
    io_fail_held(cmd, NVME_SC_ABORT_REQUESTED);
}

void nvme_io_init(struct nvme_ctrl *ctrl)
{
    for (uint32_t c = 0; c < LIMIT_CORES; c++) {
        list_init(&ctrl->core[c].waiting);
        ctrl->core[c].dsm_free = BIT32(NVME_DSM_BUFFERS) - 1;
    }
}
