/*
 * From a scatter list to what a drive accepts. Source: NVMe Base 1.4, 4.3 (PRP) and 4.4 (SGL).
 *
 * PRP: the first entry may begin anywhere on a dword, all others begin on a page, and all but the
 * last end on one. An SGL takes any list. Neighbours that touch on the bus are one piece for both.
 */
#include "nvme_drv/nvme_drv_priv.h"

#define PAGE_MASK     (NVME_DRV_PAGE_BYTES - 1)
#define SGL_MAX_DESCS (NVME_DRV_BIG_LIST_BYTES / sizeof(struct nvme_sgl_desc))

/* The piece of segment `i` that is left at `cursor`. */
ALWAYS_INLINE struct mem_seg piece_at(const struct mem_ref *ref,
                                      const struct nvme_drv_cursor *cursor, uint32_t i)
{
    struct mem_seg piece = ref->segs[i];
    if (i == cursor->seg) {
        piece.bus_addr += cursor->seg_offset_bytes;
        piece.len_bytes -= cursor->seg_offset_bytes;
    }
    return piece;
}

/* How far PRPs go from `cursor` on, at most `want_bytes`; *pages: entries for that. */
static uint32_t prp_reach(const struct mem_ref *ref, const struct nvme_drv_cursor *cursor,
                          uint32_t want_bytes, uint32_t *pages)
{
    uint32_t reach_bytes = 0;
    uint64_t end = 0;
    *pages = 0;
    for (uint32_t i = cursor->seg; i < ref->seg_count && reach_bytes < want_bytes; i++) {
        struct mem_seg piece = piece_at(ref, cursor, i);
        uint32_t len_bytes = min_u32(piece.len_bytes, want_bytes - reach_bytes);
        uint32_t in_page = (uint32_t)piece.bus_addr & PAGE_MASK;
        if (len_bytes == 0) {
            continue;
        }
        if (reach_bytes == 0) {
            if ((in_page & 3) != 0) {
                break;
            }
            *pages = (in_page + len_bytes + PAGE_MASK) / NVME_DRV_PAGE_BYTES;
        } else if (piece.bus_addr == end) {
            /* Goes on where the last one ended: its last page may grow. */
            uint32_t room_bytes = (NVME_DRV_PAGE_BYTES - in_page) & PAGE_MASK;
            if (len_bytes > room_bytes) {
                *pages += (len_bytes - room_bytes + PAGE_MASK) / NVME_DRV_PAGE_BYTES;
            }
        } else if (in_page == 0 && (end & PAGE_MASK) == 0) {
            *pages += (len_bytes + PAGE_MASK) / NVME_DRV_PAGE_BYTES;
        } else {
            break;
        }
        reach_bytes += len_bytes;
        end = piece.bus_addr + len_bytes;
    }
    return reach_bytes;
}

/* The same for an SGL. */
static uint32_t sgl_reach(const struct nvme_drv_caps *caps, const struct mem_ref *ref,
                          const struct nvme_drv_cursor *cursor, uint32_t want_bytes,
                          uint32_t *descs)
{
    uint32_t reach_bytes = 0;
    uint64_t end = 0;
    *descs = 0;
    for (uint32_t i = cursor->seg; i < ref->seg_count && reach_bytes < want_bytes; i++) {
        struct mem_seg piece = piece_at(ref, cursor, i);
        uint32_t len_bytes = min_u32(piece.len_bytes, want_bytes - reach_bytes);
        if (len_bytes == 0) {
            continue;
        }
        if (((piece.bus_addr | len_bytes) & caps->sgl_align_mask) != 0) {
            break;
        }
        if (reach_bytes == 0 || piece.bus_addr != end) {
            if (*descs == SGL_MAX_DESCS) {
                break;
            }
            (*descs)++;
        }
        reach_bytes += len_bytes;
        end = piece.bus_addr + len_bytes;
    }
    return reach_bytes;
}

void nvme_drv_cursor_advance(struct nvme_drv_cursor *cursor, const struct mem_ref *ref,
                             uint32_t len_bytes)
{
    cursor->offset_bytes += len_bytes;
    cursor->seg_offset_bytes += len_bytes;
    while (cursor->seg < ref->seg_count &&
           cursor->seg_offset_bytes >= ref->segs[cursor->seg].len_bytes) {
        cursor->seg_offset_bytes -= ref->segs[cursor->seg].len_bytes;
        cursor->seg++;
    }
}

/* Copies no more than it must: the blocks from here on that PRPs cannot express. */
static struct nvme_drv_part plan_bounce(const struct mem_ref *ref,
                                        const struct nvme_drv_cursor *cursor,
                                        uint32_t granule_bytes, uint32_t remaining_bytes)
{
    struct nvme_drv_part part = {.how = NVME_DRV_CANNOT};
    struct nvme_drv_cursor c = *cursor;
    uint32_t limit_bytes = min_u32(remaining_bytes, NVME_DRV_BOUNCE_BYTES);

    while (part.len_bytes + granule_bytes <= limit_bytes) {
        uint32_t pages;
        part.how = NVME_DRV_BOUNCE;
        part.len_bytes += granule_bytes;
        nvme_drv_cursor_advance(&c, ref, granule_bytes);
        if (prp_reach(ref, &c, granule_bytes, &pages) == granule_bytes) {
            break;
        }
    }
    return part;
}

struct nvme_drv_part nvme_drv_plan(const struct nvme_drv_caps *caps, const struct mem_ref *ref,
                                   const struct nvme_drv_cursor *cursor, uint32_t granule_bytes)
{
    uint32_t remaining_bytes = ref->len_bytes - cursor->offset_bytes;
    uint32_t want_bytes = min_u32(remaining_bytes, caps->max_bytes);
    struct nvme_drv_part part = {.how = NVME_DRV_NO_DATA};

    if (ref->len_bytes == 0) {
        return part;
    }
    if (cursor->seg >= ref->seg_count || want_bytes < granule_bytes) {
        part.how = NVME_DRV_CANNOT; /* segments end before the length does, or it cannot be split */
        return part;
    }
    part.how = NVME_DRV_PRP;
    part.len_bytes = prp_reach(ref, cursor, want_bytes, &part.entry_count);
    if (part.len_bytes == want_bytes) {
        return part;
    }
    if (caps->sgl) {
        struct nvme_drv_part sgl = {.how = NVME_DRV_SGL};
        sgl.len_bytes = sgl_reach(caps, ref, cursor, want_bytes, &sgl.entry_count);
        sgl.len_bytes -= sgl.len_bytes % granule_bytes;
        if (sgl.len_bytes > part.len_bytes) {
            return sgl; /* entry_count may be one too many after rounding: harmless */
        }
    }
    part.len_bytes -= part.len_bytes % granule_bytes;
    if (part.len_bytes != 0) {
        (void)prp_reach(ref, cursor, part.len_bytes, &part.entry_count);
        return part;
    }
    return plan_bounce(ref, cursor, granule_bytes, remaining_bytes);
}

void nvme_drv_build_prp(struct nvme_sqe *sqe, uint64_t *list, const struct mem_ref *ref,
                        const struct nvme_drv_cursor *cursor, uint32_t len_bytes)
{
    uint64_t second = 0;
    uint64_t *out = list != NULL ? list : &second;
    uint32_t count = 0;
    bool is_first = true;

    for (uint32_t i = cursor->seg; len_bytes != 0; i++) {
        struct mem_seg piece = piece_at(ref, cursor, i);
        uint32_t left_bytes = min_u32(piece.len_bytes, len_bytes);
        uint64_t addr = piece.bus_addr;
        len_bytes -= left_bytes;
        while (left_bytes != 0) {
            uint32_t in_page = (uint32_t)addr & PAGE_MASK;
            uint32_t take_bytes = min_u32(left_bytes, NVME_DRV_PAGE_BYTES - in_page);
            if (is_first) {
                sqe->prp1 = addr;
                is_first = false;
            } else if (in_page == 0) {
                out[count++] = addr; /* else it goes on in the page before */
            }
            addr += take_bytes;
            left_bytes -= take_bytes;
        }
    }
    if (count > 1) {
        sqe->prp2 = nvme_drv_bus_addr(list);
    } else {
        sqe->prp2 = count == 0 ? 0 : out[0];
    }
}

void nvme_drv_build_sgl(struct nvme_sqe *sqe, struct nvme_sgl_desc *list, const struct mem_ref *ref,
                        const struct nvme_drv_cursor *cursor, uint32_t len_bytes)
{
    struct nvme_sgl_desc single = {0};
    struct nvme_sgl_desc *out = list != NULL ? list : &single;
    uint32_t count = 0;

    for (uint32_t i = cursor->seg; len_bytes != 0; i++) {
        struct mem_seg piece = piece_at(ref, cursor, i);
        uint32_t take_bytes = min_u32(piece.len_bytes, len_bytes);
        len_bytes -= take_bytes;
        if (take_bytes == 0) {
            continue;
        }
        if (count != 0 && out[count - 1].addr + out[count - 1].len_bytes == piece.bus_addr) {
            out[count - 1].len_bytes += take_bytes;
        } else {
            out[count++] = (struct nvme_sgl_desc){
                .addr = piece.bus_addr, .len_bytes = take_bytes, .type = NVME_SGL_DATA_BLOCK << 4};
        }
    }
    sqe->flags = (uint8_t)(sqe->flags | FIELD_PREP(NVME_SQE_PSDT, NVME_PSDT_SGL_MPTR));
    if (count == 1) {
        sqe->sgl1 = out[0];
    } else {
        sqe->sgl1 =
            (struct nvme_sgl_desc){.addr = nvme_drv_bus_addr(list),
                                   .len_bytes = count * (uint32_t)sizeof(struct nvme_sgl_desc),
                                   .type = NVME_SGL_LAST_SEGMENT << 4};
    }
}
