#include "blk/blk_null.h"

#include "base/bits.h"
#include "base/stage.h"

static void null_submit(struct blk_dev *dev, struct blk_req *req)
{
    (void)dev;
    STAGE_ENTER(BACKEND);
    blk_complete(req, NVME_SC_SUCCESS);
}

static const struct blk_ops null_ops = {.submit = null_submit};

enum status blk_null_init(struct blk_null *null, const char *name, uint64_t size_bytes,
                          uint8_t lba_shift)
{
    if ((lba_shift != 9 && lba_shift != 12) || size_bytes == 0 ||
        !is_aligned(size_bytes, UINT64_C(1) << lba_shift)) {
        return STATUS_INVALID;
    }
    *null =
        (struct blk_null){.dev = {.ops = &null_ops,
                                  .name = name,
                                  .geometry = {.lba_count = size_bytes >> lba_shift,
                                               .lba_shift = lba_shift,
                                               .known = true,
                                               .features = BLK_FEATURE_WRITE_ZEROES |
                                                           BLK_FEATURE_DSM | BLK_FEATURE_VERIFY}}};
    return STATUS_OK;
}
