/*
 * NIC memory of a core for requests whose data are staged: contiguous pieces of whole pages, first
 * fit over a bitmap. Nothing here waits: who finds no piece does.
 */
#include "nvmf_host/queue_priv.h"

#define WORD_BITS 64

static uint32_t pages_of(uint32_t len_bytes)
{
    return (uint32_t)(((uint64_t)len_bytes + NVMF_PAGE_BYTES - 1) / NVMF_PAGE_BYTES);
}

static bool is_used(const struct nvmf_stage *stage, uint32_t page)
{
    return (stage->used[page / WORD_BITS] & BIT64(page % WORD_BITS)) != 0;
}

uint64_t nvmf_stage_map_bytes(uint64_t stage_bytes)
{
    return align_up(stage_bytes / NVMF_PAGE_BYTES, WORD_BITS) / 8;
}

void nvmf_stage_init(struct nvmf_stage *stage, void *base, uint64_t *map, uint64_t stage_bytes)
{
    stage->base = base;
    stage->used = map;
    stage->page_count = (uint32_t)(stage_bytes / NVMF_PAGE_BYTES);
    stage->free_count = stage->page_count;
    stage->first = 0;
    for (uint32_t i = 0; i < nvmf_stage_map_bytes(stage_bytes) / 8; i++) {
        map[i] = 0;
    }
}

bool nvmf_stage_can_hold(const struct nvmf_stage *stage, uint32_t len_bytes)
{
    return pages_of(len_bytes) <= stage->page_count;
}

/* The first of `count` free pages in a row; page_count: there are none. */
static uint32_t find_run(const struct nvmf_stage *stage, uint32_t count)
{
    uint32_t begin = stage->first;

    for (uint32_t page = begin; page < stage->page_count; page++) {
        if (page % WORD_BITS == 0 && stage->used[page / WORD_BITS] == UINT64_MAX) {
            page += WORD_BITS - 1;
            begin = page + 1;
        } else if (is_used(stage, page)) {
            begin = page + 1;
        } else if (page + 1 - begin == count) {
            return begin;
        }
    }
    return stage->page_count;
}

void *nvmf_stage_get(struct nvmf_stage *stage, uint32_t len_bytes)
{
    uint32_t count = pages_of(len_bytes);

    if (count == 0 || count > stage->free_count) {
        return NULL;
    }
    uint32_t begin = find_run(stage, count);
    if (begin == stage->page_count) {
        return NULL;
    }
    for (uint32_t page = begin; page < begin + count; page++) {
        stage->used[page / WORD_BITS] |= BIT64(page % WORD_BITS);
    }
    stage->free_count -= count;
    if (begin == stage->first) {
        stage->first = begin + count;
    }
    return stage->base + (uint64_t)begin * NVMF_PAGE_BYTES;
}

void nvmf_stage_put(struct nvmf_stage *stage, void *piece, uint32_t len_bytes)
{
    uint32_t begin = (uint32_t)((uint64_t)((uint8_t *)piece - stage->base) / NVMF_PAGE_BYTES);
    uint32_t count = pages_of(len_bytes);

    for (uint32_t page = begin; page < begin + count; page++) {
        ASSERT(page < stage->page_count && is_used(stage, page));
        stage->used[page / WORD_BITS] &= ~BIT64(page % WORD_BITS);
    }
    stage->free_count += count;
    stage->first = min_u32(stage->first, begin);
}
