#include "tests/fuzz/nvme_dev.h"

#include "base/bits.h"
#include "nvme/nvme.h"

/* What a device may rely on. */
static void request_check(const struct fuzz_dev *dev, const struct blk_req *req)
{
    const struct blk_geometry *geometry = &dev->dev.geometry;
    uint32_t lba_count = nvme_rw_lba_count(&req->cmd);
    uint32_t needs = 0;

    CHECK(dev->attached && req->cmd.flags != 0xff);
    switch (req->cmd.opcode) {
    case NVME_IO_FLUSH:
        CHECK(req->data.space == MEM_SPACE_NONE && req->dir == NVME_DIR_NONE);
        return;
    case NVME_IO_DSM: {
        struct nvme_dsm_range range;
        CHECK(req->data.space == MEM_SPACE_NIC && (geometry->features & BLK_FEATURE_DSM) != 0);
        for (uint32_t at = 0; at < req->data.len_bytes; at += sizeof(range)) {
            CHECK(mem_ref_read(&req->data, at, &range, sizeof(range)) == sizeof(range));
            CHECK(range_fits(range.slba, range.lba_count, geometry->lba_count));
        }
        return;
    }
    case NVME_IO_RESERVATION_REGISTER:
    case NVME_IO_RESERVATION_REPORT:
    case NVME_IO_RESERVATION_ACQUIRE:
    case NVME_IO_RESERVATION_RELEASE:
        CHECK((geometry->features & BLK_FEATURE_RESERVATIONS) != 0);
        CHECK(req->dir == (req->cmd.opcode & 3) && req->data.space == MEM_SPACE_HOST);
        return;
    case NVME_IO_COMPARE:
        needs = BLK_FEATURE_COMPARE;
        FALLTHROUGH;
    case NVME_IO_READ:
    case NVME_IO_WRITE:
        CHECK(req->dir == (req->cmd.opcode & 3));
        CHECK(req->data.len_bytes == lba_count << geometry->lba_shift);
        break;
    case NVME_IO_WRITE_ZEROES:
        needs = BLK_FEATURE_WRITE_ZEROES;
        CHECK(req->data.space == MEM_SPACE_NONE);
        break;
    case NVME_IO_VERIFY:
        needs = BLK_FEATURE_VERIFY;
        CHECK(req->data.space == MEM_SPACE_NONE);
        break;
    default:
        CHECK(false);
    }
    CHECK((needs & ~geometry->features) == 0);
    CHECK(range_fits(nvme_rw_slba(&req->cmd), lba_count, geometry->lba_count));
    CHECK((geometry->features & BLK_FEATURE_READ_ONLY) == 0 ||
          (req->cmd.opcode != NVME_IO_WRITE && req->cmd.opcode != NVME_IO_WRITE_ZEROES));
}

static void dev_submit(struct blk_dev *blk, struct blk_req *req)
{
    struct fuzz_dev *dev = CONTAINER_OF(blk, struct fuzz_dev, dev);

    request_check(dev, req);
    dev->request_count++;
    if (dev->hold) {
        list_push_back(&dev->held, &req->link);
        return;
    }
    bool fails = dev->fail_every != 0 && dev->request_count % dev->fail_every == 0;
    blk_complete(req, fails ? NVME_SC_UNRECOVERED_READ : NVME_SC_SUCCESS);
}

static void dev_cancel(struct blk_dev *blk, struct blk_req *req)
{
    if (!CONTAINER_OF(blk, struct fuzz_dev, dev)->deaf) {
        list_remove(&req->link);
        blk_complete(req, NVME_SC_ABORT_REQUESTED);
    }
}

static const struct blk_ops dev_ops = {.submit = dev_submit, .cancel = dev_cancel};

void fuzz_dev_init(struct fuzz_dev *dev)
{
    *dev = (struct fuzz_dev){.dev = {.ops = &dev_ops, .name = "fuzz"}};
    list_init(&dev->held);
}

/* Only what is held now: an end may start the next request. */
void fuzz_dev_release(struct fuzz_dev *dev, nvme_status_t status)
{
    struct list now;

    list_init(&now);
    struct list *node;
    while ((node = list_pop_front(&dev->held)) != NULL) {
        list_push_back(&now, node);
    }
    while ((node = list_pop_front(&now)) != NULL) {
        blk_complete(LIST_ENTRY(node, struct blk_req, link), status);
    }
}

void fuzz_geometry_take(struct blk_geometry *geometry, struct input *in)
{
    uint8_t how = take8(in);

    geometry->known = (how & 1) == 0;
    geometry->lba_shift = (how & 2) != 0 ? 12 : (how & 0xc0) == 0xc0 ? 10 : 9;
    geometry->features = take8(in);
    geometry->limits.atomic_write = geometry->features * 257;
    geometry->limits.atomic_boundary = geometry->features;
    geometry->lba_count = (how & 4) != 0 ? take32(in) : take8(in);
    geometry->max_transfer_bytes = (how & 8) != 0 ? (uint32_t)take8(in) << 12 : 0;
}

void fuzz_dev_detached(void *arg)
{
    struct fuzz_dev *dev = arg;

    CHECK(dev->attached);
    dev->attached = false;
}
