/*
 * Scatter gather lists: data block, bit bucket, segment and last segment descriptors with
 * addresses. Each descriptor is read from host memory exactly once. Leaves out: keyed and transport
 * descriptors and offsets, which PCIe does not have.
 *
 * Source: NVM Express Base Specification 1.4, section 4.4.
 */
#include "nvme_ep/nvme_ep_priv.h"

#define LOCATION_SGL1 24
#define LOCATION_PSDT (1 | 6 << 8) /* byte 1, bit 6 */

struct walk {
    struct nvme_ep_builder builder;
    uint32_t left_bytes;  /* data that still has no place */
    uint32_t descriptors; /* that may still be looked at */
    /* The segment that is being read. */
    const struct nvme_sgl_desc *next; /* in host memory */
    uint32_t count;                   /* descriptors left in it */
    bool is_last;                     /* it may not point on */
};

static nvme_status_t refuse(nvme_status_t code)
{
    return (nvme_status_t)(code | NVME_STATUS_DNR);
}

/* One access for each half; a host that changes it meanwhile changes only what we see once. */
static struct nvme_sgl_desc descriptor_load(const struct nvme_sgl_desc *from)
{
    struct nvme_sgl_desc desc;
    uint64_t half[2] = {shm_load64(from), shm_load64((const uint8_t *)from + 8)};

    memcpy(&desc, half, sizeof(desc));
    return desc;
}

static nvme_status_t walk_data(struct walk *walk, const struct nvme_sgl_desc *desc)
{
    uint32_t len_bytes = desc->len_bytes;

    if (len_bytes == 0) {
        return NVME_SC_SUCCESS; /* 4.4: valid, transfers nothing */
    }
    if (len_bytes > walk->left_bytes) {
        return refuse(NVME_SC_DATA_SGL_LENGTH_INVALID); /* SGLS bit 18 is clear */
    }
    walk->left_bytes -= len_bytes;
    return nvme_ep_builder_add_host(&walk->builder, desc->addr, len_bytes);
}

/* To the host: that much data is discarded. From the host: as if its length were 0 (figure 117). */
static nvme_status_t walk_bucket(struct walk *walk, const struct nvme_sgl_desc *desc)
{
    uint32_t len_bytes = walk->builder.for_write ? desc->len_bytes : 0;
    uint8_t *trash = walk->builder.cmd->core->ep->trash;
    nvme_status_t status = NVME_SC_SUCCESS;

    if (len_bytes > walk->left_bytes) {
        return refuse(NVME_SC_DATA_SGL_LENGTH_INVALID);
    }
    walk->left_bytes -= len_bytes;
    while (len_bytes > 0 && status == NVME_SC_SUCCESS) {
        uint32_t piece_bytes = min_u32(len_bytes, NVME_EP_TRASH_BYTES);
        status = nvme_ep_builder_add(&walk->builder, (uintptr_t)trash, piece_bytes);
        len_bytes -= piece_bytes;
    }
    return status;
}

/* Goes on in the segment that `desc` points at; it must be the last of its own (`walk->count` 0).
 */
static nvme_status_t walk_segment(struct walk *walk, const struct nvme_sgl_desc *desc, bool is_last)
{
    struct nvme_ep_core *core = walk->builder.cmd->core;

    if (walk->count != 0) {
        return refuse(NVME_SC_INVALID_SGL_COUNT);
    }
    if (walk->is_last || desc->len_bytes == 0 || desc->len_bytes % sizeof(*desc) != 0 ||
        desc->addr % 8 != 0) {
        return refuse(NVME_SC_INVALID_SGL_SEGMENT);
    }
    uint32_t count = desc->len_bytes / (uint32_t)sizeof(*desc);
    if (count > walk->descriptors) {
        return refuse(NVME_SC_INVALID_SGL_COUNT);
    }
    uint64_t bus_addr = pcie_ep_map(&core->view, desc->addr, desc->len_bytes, false);
    if (bus_addr == PCIE_EP_NO_ADDR) {
        return nvme_ep_bad_address(walk->builder.cmd, desc->addr, desc->len_bytes);
    }
    walk->next = mem_bus_ptr(bus_addr);
    walk->count = count;
    walk->is_last = is_last;
    counter_add(&core->counters.list_reads, 1);
    counter_add(&core->counters.list_bytes, desc->len_bytes);
    return NVME_SC_SUCCESS;
}

static nvme_status_t walk_descriptor(struct walk *walk, const struct nvme_sgl_desc *desc)
{
    if (walk->descriptors == 0) {
        return refuse(NVME_SC_INVALID_SGL_COUNT);
    }
    walk->descriptors--;
    if ((desc->type & 0xf) != NVME_SGL_SUB_ADDRESS) {
        return refuse(NVME_SC_SGL_TYPE_INVALID);
    }
    switch (desc->type >> 4) {
    case NVME_SGL_DATA_BLOCK:
        return walk_data(walk, desc);
    case NVME_SGL_BIT_BUCKET:
        return walk_bucket(walk, desc);
    case NVME_SGL_SEGMENT:
        return walk_segment(walk, desc, false);
    case NVME_SGL_LAST_SEGMENT:
        return walk_segment(walk, desc, true);
    default:
        return refuse(NVME_SC_SGL_TYPE_INVALID);
    }
}

nvme_status_t nvme_ep_sgl_map(struct nvme_ep_cmd *cmd, uint32_t len_bytes)
{
    struct walk walk = {.left_bytes = len_bytes, .descriptors = NVME_EP_SGL_DESCRIPTORS};
    uint8_t psdt = cmd->nvme.blk.cmd.flags >> NVME_SQE_PSDT_SHIFT;

    /* 4.4 and 3.1: not reserved, offered, and never for admin commands over PCIe. */
    if (psdt > NVME_PSDT_SGL_MPTR_SGL || !cmd->core->ep->config.ctrl.sgl || cmd->nvme.sq_id == 0) {
        cmd->nvme.error_location = LOCATION_PSDT;
        return refuse(NVME_SC_INVALID_FIELD);
    }
    nvme_ep_builder_init(&walk.builder, cmd);
    nvme_status_t status = walk_descriptor(&walk, &cmd->nvme.blk.cmd.sgl1);
    while (status == NVME_SC_SUCCESS && walk.count > 0) {
        struct nvme_sgl_desc desc = descriptor_load(walk.next++);
        walk.count--;
        status = walk_descriptor(&walk, &desc);
    }
    if (status == NVME_SC_SUCCESS && walk.left_bytes != 0) {
        status = refuse(NVME_SC_DATA_SGL_LENGTH_INVALID);
    }
    if (status != NVME_SC_SUCCESS) {
        cmd->nvme.error_location = LOCATION_SGL1;
        return status;
    }
    nvme_ep_builder_finish(&walk.builder, len_bytes);
    return NVME_SC_SUCCESS;
}
