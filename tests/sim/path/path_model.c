/*
 * Blocks: which writes a read may give. Time is counted in what the host does and sees: a write may
 * take effect at any moment from when it begins until it ends, also if it failed; after its end it
 * may still, but not once a write that began later was acknowledged (path.h).
 */
#include "tests/sim/path/path.h"

#include <string.h>

static uint64_t block_bytes(void)
{
    return UINT64_C(1) << path.plan.lba_shift;
}

void path_model_start(void)
{
    for (uint32_t v = 0; v < PATH_VOLUMES; v++) {
        for (uint32_t b = 0; b < PATH_BLOCKS; b++) {
            path.volumes[v].blocks[b] = (struct path_block){
                .count = 1, .writes = {{.is_sure = true, .dead_from = UINT64_MAX}}};
        }
    }
}

/* --- contents ------------------------------------------------------------------------------- */

static uint64_t word_of(uint64_t value, uint64_t lba, uint32_t volume, uint32_t index)
{
    if (value == 0) {
        return 0;
    }
    uint64_t z = value ^ lba << 40 ^ (uint64_t)volume << 56;
    return z ^ (uint64_t)index * UINT64_C(0x9e3779b97f4a7c15) << 20;
}

void path_block_text(uint64_t value, uint64_t lba, uint32_t volume, uint8_t *to, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes / 8; i++) {
        uint64_t word = word_of(value, lba, volume, i);
        memcpy(to + i * 8, &word, 8);
    }
}

uint8_t *path_io_byte(const struct path_io *io, uint32_t offset)
{
    uint32_t at = io->offset + offset;

    return path.arena + (uint64_t)io->pages[at / 4096] * 4096 + at % 4096;
}

/* Copies a block of the command's data; pages lie anywhere. */
static void block_copy(const struct path_io *io, uint32_t index, uint8_t *block, bool out)
{
    uint32_t bytes = (uint32_t)block_bytes();

    for (uint32_t i = 0; i < bytes; i += 8) { /* offsets are multiples of 8, pages too */
        uint8_t *at = path_io_byte(io, index * bytes + i);
        memcpy(out ? at : block + i, out ? block + i : at, 8);
    }
}

void path_fill(const struct path_io *io)
{
    uint8_t block[4096];

    for (uint32_t i = 0; i < io->block_count; i++) {
        path_block_text(io->value, io->lba + i, io->volume, block, (uint32_t)block_bytes());
        block_copy(io, i, block, true);
    }
}

/* --- writes --------------------------------------------------------------------------------- */

static uint64_t oldest_invoke(void)
{
    uint64_t oldest = path.tick;

    for (uint32_t i = 0; i < PATH_IOS; i++) {
        if (path.ios[i].in_use && path.ios[i].invoke < oldest) {
            oldest = path.ios[i].invoke;
        }
    }
    return oldest;
}

static void prune(struct path_block *block)
{
    uint64_t oldest = oldest_invoke();
    uint32_t kept = 0;

    for (uint32_t i = 0; i < block->count; i++) {
        if (block->writes[i].dead_from >= oldest) {
            block->writes[kept++] = block->writes[i];
        }
    }
    block->count = kept;
}

void path_write_begin(struct path_io *io)
{
    for (uint32_t i = 0; i < io->block_count; i++) {
        struct path_block *block = &path.volumes[io->volume].blocks[io->lba + i];
        if (block->count == PATH_WRITES) {
            prune(block);
        }
        PATH_CHECK(block->count < PATH_WRITES, "the model has no room: lba %llu",
                   (unsigned long long)(io->lba + i));
        block->writes[block->count++] = (struct path_write){.value = io->value,
                                                            .invoke = io->invoke,
                                                            .response = UINT64_MAX,
                                                            .dead_from = UINT64_MAX};
    }
}

/* `sure` is known to have been executed by `tick`: what had ended before it began is gone. */
static void bury(struct path_block *block, const struct path_write *sure, uint64_t tick)
{
    for (uint32_t i = 0; i < block->count; i++) {
        struct path_write *w = &block->writes[i];
        if (w->response < sure->invoke && w->dead_from > tick) {
            w->dead_from = tick;
        }
    }
}

static struct path_write *write_find(struct path_block *block, const struct path_io *io)
{
    for (uint32_t i = 0; i < block->count; i++) {
        if (block->writes[i].invoke == io->invoke) {
            return &block->writes[i];
        }
    }
    return NULL;
}

void path_write_end(const struct path_io *io, bool is_acked)
{
    uint64_t tick = path.tick;

    for (uint32_t i = 0; i < io->block_count; i++) {
        struct path_block *block = &path.volumes[io->volume].blocks[io->lba + i];
        struct path_write *w = write_find(block, io);
        PATH_CHECK(w != NULL, "a write that the model does not know");
        w->response = tick;
        if (is_acked) {
            w->is_sure = true;
            bury(block, w, tick);
        }
    }
}

uint64_t path_block_guess(uint32_t volume, uint64_t lba)
{
    const struct path_block *block = &path.volumes[volume].blocks[lba];

    for (uint32_t i = block->count; i > 0; i--) {
        if (block->writes[i - 1].is_sure && block->writes[i - 1].dead_from == UINT64_MAX) {
            return block->writes[i - 1].value;
        }
    }
    return 0;
}

/* --- reads ---------------------------------------------------------------------------------- */

static void tell(const struct path_block *block, uint32_t volume, uint64_t lba, uint64_t invoke)
{
    for (uint32_t i = 0; i < block->count; i++) {
        const struct path_write *w = &block->writes[i];
        path_trace("volume %u lba %llu: value %llx began %llu ended %lld gone from %lld%s", volume,
                   (unsigned long long)lba, (unsigned long long)w->value,
                   (unsigned long long)w->invoke, (long long)w->response, (long long)w->dead_from,
                   w->is_sure ? "" : " (not sure)");
    }
    path_trace("the read began at %llu", (unsigned long long)invoke);
}

/* The one write that the block is of; a torn block is of none. */
static void block_check(uint32_t volume, uint64_t lba, const uint8_t *bytes, uint64_t invoke)
{
    struct path_block *block = &path.volumes[volume].blocks[lba];
    uint32_t size = (uint32_t)block_bytes();
    uint8_t want[4096];
    struct path_write *found = NULL;
    uint32_t count = 0;
    bool was_there = false;

    for (uint32_t i = 0; i < block->count; i++) {
        struct path_write *w = &block->writes[i];
        path_block_text(w->value, lba, volume, want, size);
        if (memcmp(bytes, want, size) != 0) {
            continue;
        }
        was_there = true;
        if (w->dead_from >= invoke) {
            found = w;
            count++;
        }
    }
    if (found == NULL) {
        uint64_t words[2];
        memcpy(words, bytes, sizeof(words));
        tell(block, volume, lba, invoke);
        sim_fail("volume %u, lba %llu: %s (begins %llx %llx)", volume, (unsigned long long)lba,
                 was_there ? "an overwritten value came back" : "not any value written",
                 (unsigned long long)words[0], (unsigned long long)words[1]);
    }
    if (count == 1 && !found->is_sure) {
        found->is_sure = true;
    }
    if (count == 1) {
        bury(block, found, path.tick);
    }
}

void path_read_check(const struct path_io *io)
{
    uint8_t block[4096];

    for (uint32_t i = 0; i < io->block_count; i++) {
        block_copy(io, i, block, false);
        block_check(io->volume, io->lba + i, block, io->invoke);
    }
}

void path_media_check(void)
{
    for (uint32_t v = 0; v < path.plan.volume_count; v++) {
        for (uint32_t b = 0; b < PATH_BLOCKS; b++) {
            block_check(v, b, target_block(path.target, 0, v + 1, b), path.tick);
        }
    }
}
