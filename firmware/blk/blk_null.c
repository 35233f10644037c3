#include "blk/blk_null.h"

#include "base/bits.h"
#include "base/stage.h"

static void submit(struct blk_dev *dev, struct blk_req *req)
{
    (void)dev;
    STAGE_ENTER(BACKEND);
    req->dw0 = 0;
    req->dw1 = 0;
    blk_complete(req, NVME_SC_SUCCESS);
}

enum status blk_null_init(struct blk_null *null, const char *name, uint64_t size_bytes,
                          uint8_t lba_shift)
{
    static const struct blk_ops ops = {.submit = submit};

    if (lba_shift != 9 && lba_shift != 12) {
        return STATUS_INVALID;
    }
    if (size_bytes == 0 || !is_aligned(size_bytes, UINT64_C(1) << lba_shift)) {
        return STATUS_INVALID;
    }
    *null = (struct blk_null){
        .dev =
            {
                .ops = &ops,
                .name = name,
                .geometry =
                    {
                        .lba_count = size_bytes >> lba_shift,
                        .features = BLK_FEATURE_FUA | BLK_FEATURE_WRITE_ZEROES | BLK_FEATURE_DSM,
                        .lba_shift = lba_shift,
                        .known = true,
                    },
            },
    };
    return STATUS_OK;
}
