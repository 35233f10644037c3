/*
 * Where a command's data is: DPTR to bus addresses; here PRPs and what they share with SGLs.
 * Each entry is read from host memory exactly once, checked, and only the copy is used.
 * Source: NVM Express Base Specification 1.4, section 4.3.
 */
#include "base/stage.h"
#include "base/trace.h"
#include "nvme_ep/nvme_ep_priv.h"

#define LOCATION_PRP1 24
#define LOCATION_PRP2 32

/* --- segments ------------------------------------------------------------------------------ */

void nvme_ep_builder_init(struct nvme_ep_builder *builder, struct nvme_ep_cmd *cmd)
{
    builder->cmd = cmd;
    builder->segs = cmd->segs;
    builder->count = 0;
    builder->limit = LIMIT_INLINE_SEGS;
    builder->for_write = cmd->nvme.blk.dir == NVME_DIR_FROM_CONTROLLER;
}

/* The inline segments are used up: goes on in a long list. */
static COLD nvme_status_t builder_grow(struct nvme_ep_builder *builder)
{
    struct nvme_ep_cmd *cmd = builder->cmd;

    if (builder->limit == LIMIT_SEGS) {
        return NVME_SC_INVALID_SGL_COUNT | NVME_STATUS_DNR; /* PRPs never need more */
    }
    /* Fetching stops while the pool is empty; a command that maps later than that may still find
     * it so and has to come again. */
    cmd->big = pool_get(&cmd->sq->pools->bigs);
    if (cmd->big == NULL) {
        counter_add(&cmd->core->counters.pool_empty, 1);
        return NVME_SC_COMMAND_INTERRUPTED;
    }
    cmd->nvme.state |= NVME_EP_CMD_BIG;
    memcpy(cmd->big, cmd->segs, sizeof(cmd->segs));
    builder->segs = cmd->big;
    builder->limit = LIMIT_SEGS;
    return NVME_SC_SUCCESS;
}

ALWAYS_INLINE nvme_status_t builder_add(struct nvme_ep_builder *builder, uint64_t bus_addr,
                                        uint32_t len_bytes)
{
    if (builder->count != 0) {
        struct mem_seg *last = &builder->segs[builder->count - 1];
        if (last->bus_addr + last->len_bytes == bus_addr) {
            last->len_bytes += len_bytes;
            return NVME_SC_SUCCESS;
        }
    }
    if (UNLIKELY(builder->count == builder->limit)) {
        nvme_status_t status = builder_grow(builder);
        if (status != NVME_SC_SUCCESS) {
            return status;
        }
    }
    struct mem_seg *seg = &builder->segs[builder->count++];
    seg->bus_addr = bus_addr;
    seg->len_bytes = len_bytes;
    return NVME_SC_SUCCESS;
}

nvme_status_t nvme_ep_builder_add(struct nvme_ep_builder *builder, uint64_t bus_addr,
                                  uint32_t len_bytes)
{
    return builder_add(builder, bus_addr, len_bytes);
}

nvme_status_t nvme_ep_bad_address(struct nvme_ep_cmd *cmd, uint64_t host_addr, uint32_t len_bytes)
{
    counter_add(&cmd->core->counters.bad_addresses, 1);
    TRACE(cmd->core->index, BAD_ADDRESS, cmd->nvme.blk.fn, cmd->nvme.blk.trace_id, host_addr,
          len_bytes);
    return NVME_SC_DATA_TRANSFER_ERROR | NVME_STATUS_DNR;
}

nvme_status_t nvme_ep_builder_add_host(struct nvme_ep_builder *builder, uint64_t host_addr,
                                       uint32_t len_bytes)
{
    uint64_t bus_addr =
        pcie_ep_map(&builder->cmd->core->view, host_addr, len_bytes, builder->for_write);

    if (UNLIKELY(bus_addr == PCIE_EP_NO_ADDR)) {
        return nvme_ep_bad_address(builder->cmd, host_addr, len_bytes);
    }
    return builder_add(builder, bus_addr, len_bytes);
}

/* The data is at `segs`: says so, and counts it. */
ALWAYS_INLINE void data_set(struct nvme_ep_cmd *cmd, const struct mem_seg *segs, uint32_t seg_count,
                            uint32_t len_bytes, bool for_write)
{
    struct mem_ref *data = &cmd->nvme.blk.data;
    struct nvme_ep_traffic *mapped = &cmd->core->mapped[for_write];

    data->segs = segs;
    data->len_bytes = len_bytes;
    data->seg_count = (uint16_t)seg_count;
    data->space = MEM_SPACE_HOST;
    cmd->is_mapped = true;
    mapped->count++;
    mapped->bytes += len_bytes;
}

void nvme_ep_builder_finish(struct nvme_ep_builder *builder, uint32_t len_bytes)
{
    data_set(builder->cmd, builder->segs, builder->count, len_bytes, builder->for_write);
}

/* --- PRP lists ----------------------------------------------------------------------------- */

/* A walk through a PRP list. */
struct prp_list {
    const uint64_t *entries; /* in host memory */
    uint32_t left;           /* entries up to the end of this page of the list */
};

/* Opens the list at `host_addr`, of which `entry_count` entries are wanted at most (more follow by
 * a chain pointer in the last slot of the page). */
static nvme_status_t prp_list_open(struct prp_list *list, struct nvme_ep_cmd *cmd,
                                   uint64_t host_addr, uint32_t entry_count)
{
    struct nvme_ep_core *core = cmd->core;
    uint32_t page_bytes = core->page_bytes;
    uint32_t room = (page_bytes - (uint32_t)(host_addr & (page_bytes - 1))) / 8;
    uint32_t len_bytes = min_u32(room, entry_count) * 8;
    uint64_t bus_addr = pcie_ep_map(&core->view, host_addr, len_bytes, false);

    if (UNLIKELY(bus_addr == PCIE_EP_NO_ADDR)) {
        return nvme_ep_bad_address(cmd, host_addr, len_bytes);
    }
    list->entries = mem_bus_ptr(bus_addr);
    list->left = room;
    counter_add(&core->counters.list_reads, 1);
    counter_add(&core->counters.list_bytes, len_bytes);
    return NVME_SC_SUCCESS;
}

/* Host addresses from `w->host_addr` on, below this offset, hold a whole page; 0: none does. */
static uint64_t window_page_limit(const struct pcie_ep_window *w, uint32_t page_bytes,
                                  bool for_write)
{
    bool is_allowed = for_write ? w->writable : w->readable;

    return is_allowed && w->len_bytes >= page_bytes ? w->len_bytes - page_bytes + 1 : 0;
}

/* The page at `entry` on the bus; PCIE_EP_NO_ADDR. Moves on to the window that it is in. */
static NOINLINE uint64_t prp_page_search(struct nvme_ep_builder *builder, uint64_t entry,
                                         const struct pcie_ep_window **w, uint64_t *limit)
{
    struct nvme_ep_core *core = builder->cmd->core;
    uint64_t bus_addr =
        pcie_ep_map_search(&core->view, entry, core->page_bytes, builder->for_write);

    *w = &core->view.windows[core->view.last_hit];
    *limit = window_page_limit(*w, core->page_bytes, builder->for_write);
    return bus_addr;
}

/* Adds `count` whole pages that the list names. PRP1 has made a segment already. */
static nvme_status_t prp_list_add(struct nvme_ep_builder *builder, const uint64_t *entries,
                                  uint32_t count)
{
    const struct pcie_ep_view *view = &builder->cmd->core->view;
    const struct pcie_ep_window *w = &view->windows[view->last_hit];
    uint32_t page_bytes = builder->cmd->core->page_bytes;
    uint64_t limit = window_page_limit(w, page_bytes, builder->for_write);
    struct mem_seg *seg = &builder->segs[builder->count - 1];
    const struct mem_seg *last = &builder->segs[builder->limit - 1];
    uint64_t seg_end = seg->bus_addr + seg->len_bytes;

    for (uint32_t i = 0; i < count; i++) {
        uint64_t entry = shm_load64(&entries[i]);
        uint64_t bus_addr = w->bus_addr + (entry - w->host_addr);
        if (UNLIKELY((entry & (page_bytes - 1)) != 0)) { /* only PRP1 and PRP2 have offsets */
            return NVME_SC_INVALID_PRP_OFFSET | NVME_STATUS_DNR;
        }
        if (UNLIKELY(entry - w->host_addr >= limit)) {
            bus_addr = prp_page_search(builder, entry, &w, &limit);
            if (bus_addr == PCIE_EP_NO_ADDR) {
                return nvme_ep_bad_address(builder->cmd, entry, page_bytes);
            }
        }
        if (bus_addr == seg_end) {
            seg->len_bytes += page_bytes;
        } else {
            if (UNLIKELY(seg == last)) {
                nvme_status_t status = builder_grow(builder);
                if (status != NVME_SC_SUCCESS) {
                    return status;
                }
                seg = &builder->segs[LIMIT_INLINE_SEGS - 1];
                last = &builder->segs[builder->limit - 1];
            }
            seg++;
            seg->bus_addr = bus_addr;
            seg->len_bytes = page_bytes;
        }
        seg_end = bus_addr + page_bytes;
    }
    builder->count = (uint32_t)(seg - builder->segs) + 1;
    return NVME_SC_SUCCESS;
}

/* All pages behind the first come from a list. */
static nvme_status_t prp_list_walk(struct nvme_ep_builder *builder, uint64_t list_addr,
                                   uint32_t left_bytes)
{
    uint32_t page_bytes = builder->cmd->core->page_bytes;
    uint32_t whole_count = left_bytes / page_bytes;
    uint32_t rest_bytes = left_bytes % page_bytes;
    struct prp_list list = {0};

    if (UNLIKELY((list_addr & 7) != 0)) { /* 4.3: a list starts qword aligned, at any offset */
        return NVME_SC_INVALID_PRP_OFFSET | NVME_STATUS_DNR;
    }
    for (;;) {
        uint32_t entry_count = whole_count + (rest_bytes != 0);
        nvme_status_t status = prp_list_open(&list, builder->cmd, list_addr, entry_count);
        if (UNLIKELY(status != NVME_SC_SUCCESS)) {
            return status;
        }
        bool has_chain = entry_count > list.left; /* then the last slot points on */
        uint32_t run = min_u32(whole_count, has_chain ? list.left - 1 : list.left);
        status = prp_list_add(builder, list.entries, run);
        if (UNLIKELY(status != NVME_SC_SUCCESS)) {
            return status;
        }
        whole_count -= run;
        if (LIKELY(!has_chain && rest_bytes == 0)) {
            return NVME_SC_SUCCESS;
        }
        uint64_t entry = shm_load64(&list.entries[run]);
        if (UNLIKELY((entry & (page_bytes - 1)) != 0)) {
            return NVME_SC_INVALID_PRP_OFFSET | NVME_STATUS_DNR;
        }
        if (!has_chain) {
            return nvme_ep_builder_add_host(builder, entry, rest_bytes);
        }
        list_addr = entry;
    }
}

/* More than what PRP1 alone can say. `first_bytes` lie in its page. */
static nvme_status_t prp_map_pages(struct nvme_ep_cmd *cmd, uint32_t len_bytes,
                                   uint32_t first_bytes)
{
    const struct nvme_sqe *sqe = &cmd->nvme.blk.cmd;
    uint64_t prp2 = sqe->prp2;
    uint32_t page_bytes = cmd->core->page_bytes;
    uint32_t left_bytes = len_bytes - first_bytes;
    struct nvme_ep_builder builder;

    nvme_ep_builder_init(&builder, cmd);
    nvme_status_t status = nvme_ep_builder_add_host(&builder, sqe->prp1, first_bytes);
    if (UNLIKELY(status != NVME_SC_SUCCESS)) {
        cmd->nvme.error_location = LOCATION_PRP1;
        return status;
    }
    if (left_bytes == 0) {
        status = NVME_SC_SUCCESS; /* PRP2 is reserved */
    } else if (left_bytes > page_bytes) {
        status = prp_list_walk(&builder, prp2, left_bytes);
    } else if (UNLIKELY((prp2 & (page_bytes - 1)) != 0)) {
        status = NVME_SC_INVALID_PRP_OFFSET | NVME_STATUS_DNR;
    } else {
        status = nvme_ep_builder_add_host(&builder, prp2, left_bytes);
    }
    if (UNLIKELY(status != NVME_SC_SUCCESS)) {
        cmd->nvme.error_location = LOCATION_PRP2;
        return status;
    }
    nvme_ep_builder_finish(&builder, len_bytes);
    return NVME_SC_SUCCESS;
}

/* --- ops->map ------------------------------------------------------------------------------ */

/* Everything that is not the case below. */
static NOINLINE nvme_status_t prp_map(struct nvme_ep_cmd *cmd, uint32_t len_bytes)
{
    uint64_t prp1 = cmd->nvme.blk.cmd.prp1;
    uint32_t page_bytes = cmd->core->page_bytes;
    uint32_t first_bytes = page_bytes - (uint32_t)(prp1 & (page_bytes - 1));

    if ((prp1 & 3) != 0) { /* 4.3: PRP1 is dword aligned */
        cmd->nvme.error_location = LOCATION_PRP1;
        return NVME_SC_INVALID_PRP_OFFSET | NVME_STATUS_DNR;
    }
    return prp_map_pages(cmd, len_bytes, min_u32(first_bytes, len_bytes));
}

static NOINLINE nvme_status_t map_general(struct nvme_ep_cmd *cmd, uint32_t len_bytes)
{
    nvme_status_t status;

    if ((cmd->nvme.blk.cmd.flags >> NVME_SQE_PSDT_SHIFT) == NVME_PSDT_PRP) {
        status = prp_map(cmd, len_bytes);
    } else {
        status = nvme_ep_sgl_map(cmd, len_bytes);
    }
    STAGE_ENTER(DECODE);
    return status;
}

/* True when the data is one piece: with PRPs all in the page of PRP1; or an SGL that is one data
 * block, whose descriptor has the address where PRP1 is, then the length, and no type bits (figure
 * 116). */
ALWAYS_INLINE bool is_one_piece(const struct nvme_ep_cmd *cmd, uint32_t len_bytes)
{
    const struct nvme_sqe *sqe = &cmd->nvme.blk.cmd;
    uint32_t page_bytes = cmd->core->page_bytes;
    uint32_t psdt = (uint32_t)sqe->flags >> NVME_SQE_PSDT_SHIFT;

    if (LIKELY(psdt == NVME_PSDT_PRP)) {
        uint32_t offset = (uint32_t)sqe->prp1 & (page_bytes - 1);
        return (sqe->prp1 & 3) == 0 && offset + len_bytes <= page_bytes;
    }
    /* What is not offered or not for this queue the core has refused; the general path again. */
    return psdt == NVME_PSDT_SGL_MPTR && sqe->prp2 == len_bytes;
}

/* The commonest case by itself, without a call: one piece, in the window of the command before. */
nvme_status_t nvme_ep_map(struct nvme_cmd *nvme, uint32_t len_bytes)
{
    struct nvme_ep_cmd *cmd = nvme_ep_cmd_of(nvme);
    struct nvme_ep_core *core = cmd->core;
    bool for_write = nvme->blk.dir == NVME_DIR_FROM_CONTROLLER;
    uint64_t addr = nvme->blk.cmd.prp1;
    uint64_t bus_addr;

    STAGE_ENTER(MAP);
    if (UNLIKELY(!is_one_piece(cmd, len_bytes) ||
                 !pcie_ep_map_last(&core->view, addr, len_bytes, for_write, &bus_addr))) {
        return map_general(cmd, len_bytes);
    }
    cmd->segs[0].bus_addr = bus_addr;
    cmd->segs[0].len_bytes = len_bytes;
    data_set(cmd, cmd->segs, 1, len_bytes, for_write);
    STAGE_ENTER(DECODE);
    return NVME_SC_SUCCESS;
}
