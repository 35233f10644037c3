#include "blk/blk_ram.h"

#include <string.h>
#include "base/bits.h"
#include "base/stage.h"

/* A range of blocks as bytes of the medium; false: not inside it. The submitter has checked
 * already; a device in memory looks twice, since what lies beside the medium is ours. */
static bool range_bytes(const struct blk_ram *ram, uint64_t slba, uint32_t lba_count,
                        uint64_t *offset, uint64_t *len)
{
    uint8_t shift = ram->dev.geometry.lba_shift;
    if (!range_fits(slba, lba_count, ram->dev.geometry.lba_count)) {
        return false;
    }
    *offset = slba << shift;
    *len = (uint64_t)lba_count << shift;
    return true;
}

static nvme_status_t compare(const struct blk_req *req, const uint8_t *medium)
{
    for (uint32_t i = 0; i < req->data.seg_count; i++) {
        const struct mem_seg *seg = &req->data.segs[i];
        if (memcmp(medium, mem_seg_ptr(seg), seg->len_bytes) != 0) {
            return NVME_SC_COMPARE_FAILURE;
        }
        medium += seg->len_bytes;
    }
    return NVME_SC_SUCCESS;
}

/* Section 6.7: attributes other than Deallocate are hints, which memory has no use for. Deallocated
 * blocks read as zeroes. */
static nvme_status_t manage(const struct blk_ram *ram, const struct blk_req *req)
{
    uint32_t count = (uint32_t)FIELD_GET(NVME_DSM_NR, req->cmd.cdw10) + 1;
    if ((req->cmd.cdw11 & NVME_DSM_DEALLOCATE) == 0) {
        return NVME_SC_SUCCESS;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct nvme_dsm_range range;
        uint64_t offset;
        uint64_t len;
        uint32_t at = i * (uint32_t)sizeof(range);
        if (mem_ref_read(&req->data, at, &range, sizeof(range)) != sizeof(range)) {
            return NVME_SC_INVALID_FIELD | NVME_STATUS_DNR;
        }
        if (!range_bytes(ram, range.slba, range.lba_count, &offset, &len)) {
            return NVME_SC_LBA_OUT_OF_RANGE | NVME_STATUS_DNR;
        }
        memset(ram->memory + offset, 0, len);
    }
    return NVME_SC_SUCCESS;
}

/* Commands that name one range of blocks. */
static nvme_status_t execute(struct blk_ram *ram, struct blk_req *req)
{
    uint64_t offset;
    uint64_t len;
    if (!range_bytes(ram, nvme_rw_slba(&req->cmd), nvme_rw_lba_count(&req->cmd), &offset, &len)) {
        return NVME_SC_LBA_OUT_OF_RANGE | NVME_STATUS_DNR;
    }
    uint8_t *medium = ram->memory + offset;
    bool moves_data = req->cmd.opcode == NVME_IO_READ || req->cmd.opcode == NVME_IO_WRITE ||
                      req->cmd.opcode == NVME_IO_COMPARE;
    if (moves_data && req->data.len_bytes != len) {
        return NVME_SC_INVALID_FIELD | NVME_STATUS_DNR;
    }
    switch (req->cmd.opcode) {
    case NVME_IO_READ:
        mem_ref_write(&req->data, 0, medium, (uint32_t)len);
        return NVME_SC_SUCCESS;
    case NVME_IO_WRITE:
        mem_ref_read(&req->data, 0, medium, (uint32_t)len);
        return NVME_SC_SUCCESS;
    case NVME_IO_COMPARE:
        return compare(req, medium);
    case NVME_IO_WRITE_ZEROES:
        memset(medium, 0, len);
        return NVME_SC_SUCCESS;
    case NVME_IO_VERIFY: /* memory that can be read has nothing to verify */
        return NVME_SC_SUCCESS;
    default:
        return NVME_SC_INVALID_OPCODE | NVME_STATUS_DNR;
    }
}

static void submit(struct blk_dev *dev, struct blk_req *req)
{
    struct blk_ram *ram = CONTAINER_OF(dev, struct blk_ram, dev);
    nvme_status_t status;

    STAGE_ENTER(BACKEND);
    if (req->cmd.opcode == NVME_IO_FLUSH) {
        status = NVME_SC_SUCCESS; /* a write is in the memory when it completes */
    } else if (req->cmd.opcode == NVME_IO_DSM) {
        status = manage(ram, req);
    } else {
        status = execute(ram, req);
    }
    req->dw0 = 0;
    req->dw1 = 0;
    blk_complete(req, status);
}

enum status blk_ram_init(struct blk_ram *ram, const struct blk_ram_config *config)
{
    static const struct blk_ops ops = {.submit = submit};

    if (config->lba_shift != 9 && config->lba_shift != 12) {
        return STATUS_INVALID;
    }
    if (config->memory == NULL || config->size_bytes == 0 ||
        !is_aligned(config->size_bytes, UINT64_C(1) << config->lba_shift)) {
        return STATUS_INVALID;
    }
    *ram = (struct blk_ram){
        .dev =
            {
                .ops = &ops,
                .name = config->name,
                .geometry =
                    {
                        .lba_count = config->size_bytes >> config->lba_shift,
                        .features = BLK_FEATURE_WRITE_ZEROES | BLK_FEATURE_DSM |
                                    BLK_FEATURE_COMPARE | BLK_FEATURE_VERIFY | BLK_FEATURE_FUA,
                        .lba_shift = config->lba_shift,
                        .known = true,
                    },
            },
        .memory = config->memory,
        .size_bytes = config->size_bytes,
    };
    memcpy(ram->dev.geometry.uuid, config->uuid, sizeof(config->uuid));
    return STATUS_OK;
}
