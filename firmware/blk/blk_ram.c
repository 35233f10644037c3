#include "blk/blk_ram.h"

#include <string.h>
#include "base/bits.h"
#include "base/stage.h"
#include "sched/sched.h"

/* A request that is zeroed in steps, in blk_req.priv. */
struct job {
    struct msg msg;
    uint64_t offset_bytes; /* of what is left of the range */
    uint32_t left_lbas;
    uint16_t range_next; /* Dataset Management: the range after this one */
    bool is_cancelled;
};
_Static_assert(sizeof(struct job) <= sizeof(((struct blk_req *)0)->priv), "blk_req.priv");

static struct blk_ram *ram_of(struct blk_dev *dev)
{
    return CONTAINER_OF(dev, struct blk_ram, dev);
}

/* --- transfers ----------------------------------------------------------------------------- */

/* Who submits has checked the range against the geometry; a device that goes by the request alone
 * stays safe when that is wrong. NULL: *status names the fault. */
ALWAYS_INLINE uint8_t *req_memory(struct blk_ram *ram, const struct blk_req *req,
                                  nvme_status_t *status)
{
    uint64_t slba = nvme_rw_slba(&req->cmd);
    uint32_t lba_count = nvme_rw_lba_count(&req->cmd);

    if (UNLIKELY(!range_fits(slba, lba_count, ram->dev.geometry.lba_count))) {
        *status = NVME_SC_LBA_OUT_OF_RANGE | NVME_STATUS_DNR;
        return NULL;
    }
    if (UNLIKELY(req->data.len_bytes != (uint64_t)lba_count << ram->dev.geometry.lba_shift)) {
        *status = NVME_SC_INVALID_FIELD | NVME_STATUS_DNR;
        return NULL;
    }
    return ram->memory + (slba << ram->dev.geometry.lba_shift);
}

static nvme_status_t ram_read(struct blk_ram *ram, const struct blk_req *req)
{
    nvme_status_t status = NVME_SC_SUCCESS;
    const uint8_t *from = req_memory(ram, req, &status);

    for (uint32_t i = 0; from != NULL && i < req->data.seg_count; i++) {
        const struct mem_seg *seg = &req->data.segs[i];
        memcpy(mem_seg_ptr(seg), from, seg->len_bytes);
        from += seg->len_bytes;
    }
    return status;
}

static nvme_status_t ram_write(struct blk_ram *ram, const struct blk_req *req)
{
    nvme_status_t status = NVME_SC_SUCCESS;
    uint8_t *to = req_memory(ram, req, &status);

    for (uint32_t i = 0; to != NULL && i < req->data.seg_count; i++) {
        const struct mem_seg *seg = &req->data.segs[i];
        memcpy(to, mem_seg_ptr(seg), seg->len_bytes);
        to += seg->len_bytes;
    }
    return status;
}

static nvme_status_t ram_compare(struct blk_ram *ram, const struct blk_req *req)
{
    nvme_status_t status = NVME_SC_SUCCESS;
    const uint8_t *have = req_memory(ram, req, &status);

    for (uint32_t i = 0; have != NULL && i < req->data.seg_count; i++) {
        const struct mem_seg *seg = &req->data.segs[i];
        if (memcmp(have, mem_seg_ptr(seg), seg->len_bytes) != 0) {
            return NVME_SC_COMPARE_FAILURE;
        }
        have += seg->len_bytes;
    }
    return status;
}

static nvme_status_t ram_verify(const struct blk_ram *ram, const struct blk_req *req)
{
    return range_fits(nvme_rw_slba(&req->cmd), nvme_rw_lba_count(&req->cmd),
                      ram->dev.geometry.lba_count)
               ? NVME_SC_SUCCESS
               : NVME_SC_LBA_OUT_OF_RANGE | NVME_STATUS_DNR;
}

/* --- zeroing in steps ---------------------------------------------------------------------- */

static struct job *job_of(struct blk_req *req)
{
    return (struct job *)(void *)req->priv;
}

static bool job_set_range(struct blk_ram *ram, struct job *job, uint64_t slba, uint32_t lba_count)
{
    if (!range_fits(slba, lba_count, ram->dev.geometry.lba_count)) {
        return false;
    }
    job->offset_bytes = slba << ram->dev.geometry.lba_shift;
    job->left_lbas = lba_count;
    return true;
}

/* Copies the next range out of the data. */
static nvme_status_t job_next_range(struct blk_ram *ram, struct blk_req *req)
{
    struct job *job = job_of(req);
    struct nvme_dsm_range range;
    uint32_t offset_bytes = job->range_next * (uint32_t)sizeof(range);

    if (mem_ref_read(&req->data, offset_bytes, &range, sizeof(range)) != sizeof(range)) {
        return NVME_SC_INVALID_FIELD | NVME_STATUS_DNR; /* shorter than NR says */
    }
    job->range_next++;
    return job_set_range(ram, job, range.slba, range.lba_count)
               ? NVME_SC_SUCCESS
               : NVME_SC_LBA_OUT_OF_RANGE | NVME_STATUS_DNR;
}

static uint32_t range_count(const struct blk_req *req)
{
    return req->cmd.opcode == NVME_IO_DSM ? (uint32_t)FIELD_GET(NVME_DSM_NR, req->cmd.cdw10) + 1
                                          : 0;
}

/* Zeroes up to a step's bytes of what is left of the range; returns them. */
static uint32_t job_zero(struct blk_ram *ram, struct job *job, uint32_t budget_bytes)
{
    uint8_t lba_shift = ram->dev.geometry.lba_shift;
    uint32_t lba_count = min_u32(job->left_lbas, budget_bytes >> lba_shift);
    uint32_t len_bytes = lba_count << lba_shift;

    memset(ram->memory + job->offset_bytes, 0, len_bytes);
    job->offset_bytes += len_bytes;
    job->left_lbas -= lba_count;
    return len_bytes;
}

static void job_run(struct blk_ram *ram, struct blk_req *req);

static void job_continue(struct msg *msg)
{
    struct blk_req *req = CONTAINER_OF(msg, struct blk_req, priv);

    job_run((struct blk_ram *)(void *)req->link.next, req);
}

/* One step; ends the request or sends itself on. */
static void job_run(struct blk_ram *ram, struct blk_req *req)
{
    struct job *job = job_of(req);
    uint32_t budget_bytes = BLK_RAM_STEP_BYTES;
    nvme_status_t status = NVME_SC_SUCCESS;

    if (job->is_cancelled) {
        blk_complete(req, NVME_SC_ABORT_REQUESTED);
        return;
    }
    while (budget_bytes > 0 && status == NVME_SC_SUCCESS) {
        if (job->left_lbas > 0) {
            budget_bytes -= job_zero(ram, job, budget_bytes);
        } else if (job->range_next < range_count(req)) {
            status = job_next_range(ram, req);
        } else {
            break;
        }
    }
    if (status != NVME_SC_SUCCESS || (job->left_lbas == 0 && job->range_next >= range_count(req))) {
        blk_complete(req, status);
        return;
    }
    job->msg.fn = job_continue;
    msg_send(req->owner_core, &job->msg);
}

static struct job *job_start(struct blk_ram *ram, struct blk_req *req)
{
    struct job *job = job_of(req);

    *job = (struct job){.is_cancelled = false};
    req->link.next = (struct list *)(void *)ram; /* the link is the device's: here it names it */
    return job;
}

/* --- device -------------------------------------------------------------------------------- */

/* Write Zeroes and Dataset Management: may go on after the call. */
static void ram_start_job(struct blk_ram *ram, struct blk_req *req)
{
    const struct nvme_sqe *cmd = &req->cmd;
    struct job *job = job_start(ram, req);

    if (cmd->opcode == NVME_IO_WRITE_ZEROES &&
        !job_set_range(ram, job, nvme_rw_slba(cmd), nvme_rw_lba_count(cmd))) {
        blk_complete(req, NVME_SC_LBA_OUT_OF_RANGE | NVME_STATUS_DNR);
        return;
    }
    if (cmd->opcode == NVME_IO_DSM && (cmd->cdw11 & NVME_DSM_DEALLOCATE) == 0) {
        blk_complete(req, NVME_SC_SUCCESS); /* hints, of which nothing is made */
        return;
    }
    job_run(ram, req);
}

static void ram_submit(struct blk_dev *dev, struct blk_req *req)
{
    struct blk_ram *ram = ram_of(dev);
    nvme_status_t status;

    STAGE_ENTER(BACKEND);
    switch (req->cmd.opcode) {
    case NVME_IO_READ:
        status = ram_read(ram, req);
        break;
    case NVME_IO_WRITE:
        status = ram_write(ram, req);
        break;
    case NVME_IO_COMPARE:
        status = ram_compare(ram, req);
        break;
    case NVME_IO_VERIFY:
        status = ram_verify(ram, req);
        break;
    case NVME_IO_FLUSH:
        status = NVME_SC_SUCCESS;
        break;
    case NVME_IO_WRITE_ZEROES:
    case NVME_IO_DSM:
        ram_start_job(ram, req);
        return;
    default:
        status = NVME_SC_INVALID_OPCODE | NVME_STATUS_DNR;
        break;
    }
    blk_complete(req, status);
}

/* Only a request in steps can still be here when somebody asks. */
static void ram_cancel(struct blk_dev *dev, struct blk_req *req)
{
    (void)dev;
    job_of(req)->is_cancelled = true;
}

static const struct blk_ops ram_ops = {.submit = ram_submit, .cancel = ram_cancel};

enum status blk_ram_init(struct blk_ram *ram, const struct blk_ram_config *config)
{
    if (config->memory == NULL || (config->lba_shift != 9 && config->lba_shift != 12) ||
        config->size_bytes == 0 ||
        !is_aligned(config->size_bytes, UINT64_C(1) << config->lba_shift)) {
        return STATUS_INVALID;
    }
    *ram = (struct blk_ram){
        .dev = {.ops = &ram_ops,
                .name = config->name,
                .geometry = {.lba_count = config->size_bytes >> config->lba_shift,
                             .lba_shift = config->lba_shift,
                             .known = true,
                             .features = BLK_FEATURE_WRITE_ZEROES | BLK_FEATURE_DSM |
                                         BLK_FEATURE_COMPARE | BLK_FEATURE_VERIFY}},
        .memory = config->memory};
    memcpy(ram->dev.geometry.uuid, config->uuid, sizeof(config->uuid));
    return STATUS_OK;
}
