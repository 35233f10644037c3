/*
 * Memory of the simulation: arenas in which each buffer is an island in poisoned ground, and the
 * shadow that tells what each byte must be.
 */
#include "tests/sim/sim.h"

#include <string.h>
#include <sys/mman.h>
#include "base/bits.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define POISON(p, n)   ASAN_POISON_MEMORY_REGION((p), (n))
#define UNPOISON(p, n) ASAN_UNPOISON_MEMORY_REGION((p), (n))
#else
#define POISON(p, n)   ((void)(p), (void)(n))
#define UNPOISON(p, n) ((void)(p), (void)(n))
#endif

#define GRANULE     8u
#define CHUNK_BYTES 512u
#define ARENA_BYTES (8u << 20)
#define ARENAS      (4 * SIM_NODES)

/* --- arenas ----------------------------------------------------------------------------------- */

/* The same memory for each run: fresh pages are dear. */
static uint8_t *memory_take(uint32_t len_bytes)
{
    static uint8_t *memory[ARENAS];
    uint32_t index = sim.memory_taken++;

    SIM_CHECK(index < ARENAS && len_bytes <= ARENA_BYTES, "the simulation is too small: memory");
    if (memory[index] == NULL) {
        memory[index] =
            mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        SIM_CHECK(memory[index] != MAP_FAILED, "no memory");
    }
    return memory[index];
}

void sim_arena_open(struct sim_arena *arena, uint32_t len_bytes)
{
    int ground = (int)sim_below(256);

    arena->len_bytes = len_bytes;
    arena->block_count = 0;
    arena->bytes = memory_take(len_bytes);
    arena->shadow = memory_take(len_bytes);
    memset(arena->bytes, ground, len_bytes);
    memset(arena->shadow, ground, len_bytes);
    POISON(arena->bytes, len_bytes);
}

void sim_arena_close(struct sim_arena *arena)
{
    UNPOISON(arena->bytes, arena->len_bytes);
    if (memcmp(arena->bytes, arena->shadow, arena->len_bytes) != 0) {
        uint32_t at = 0;
        while (arena->bytes[at] == arena->shadow[at]) {
            at++;
        }
        sim_fail("memory at offset %u changed after it was settled: %02x, was %02x", at,
                 arena->bytes[at], arena->shadow[at]);
    }
}

/* A hole of `len_bytes`, searched from a random block on; returns the block's index, or
 * SIM_BLOCKS. */
static uint32_t hole_find(const struct sim_arena *arena, uint32_t len_bytes, uint32_t *offset)
{
    uint32_t count = arena->block_count;
    uint32_t first = (uint32_t)sim_below(count + 1);

    for (uint32_t n = 0; n <= count && count < SIM_BLOCKS; n++) {
        uint32_t i = (first + n) % (count + 1);
        uint32_t start =
            i == 0 ? 0 : arena->blocks[i - 1].offset + arena->blocks[i - 1].len_bytes + GRANULE;
        uint32_t end = i == count ? arena->len_bytes : arena->blocks[i].offset;
        if (end >= start + len_bytes + GRANULE) {
            uint32_t room = end - start - len_bytes - GRANULE;
            *offset =
                start + (uint32_t)sim_below(min_u32(room, 4 * GRANULE) / GRANULE + 1) * GRANULE;
            return i;
        }
    }
    return SIM_BLOCKS;
}

/* Memory of a random alignment; NULL: none. */
static uint8_t *block_get(struct sim_arena *arena, uint32_t len_bytes)
{
    uint32_t skew = sim_chance(50) ? (uint32_t)sim_below(GRANULE) : 0;
    uint32_t whole = (uint32_t)align_up(skew + len_bytes, GRANULE);
    uint32_t offset;
    uint32_t at = hole_find(arena, whole, &offset);

    if (at == SIM_BLOCKS) {
        return NULL;
    }
    memmove(&arena->blocks[at + 1], &arena->blocks[at],
            (arena->block_count - at) * sizeof(arena->blocks[0]));
    arena->blocks[at].offset = offset;
    arena->blocks[at].len_bytes = whole;
    arena->block_count++;
    UNPOISON(arena->bytes + offset, skew + len_bytes);
    return arena->bytes + offset + skew;
}

static void block_put(struct sim_arena *arena, const uint8_t *bytes)
{
    uint32_t offset = (uint32_t)align_down((uint64_t)(bytes - arena->bytes), GRANULE);

    for (uint32_t i = 0; i < arena->block_count; i++) {
        if (arena->blocks[i].offset == offset) {
            POISON(arena->bytes + offset, arena->blocks[i].len_bytes);
            arena->block_count--;
            memmove(&arena->blocks[i], &arena->blocks[i + 1],
                    (arena->block_count - i) * sizeof(arena->blocks[0]));
            return;
        }
    }
    sim_fail("the simulation gave back a block that is none");
}

static struct sim_arena *arena_of(struct sim_node *node, const uint8_t *bytes)
{
    bool is_nic = bytes >= node->nic.bytes && bytes < node->nic.bytes + node->nic.len_bytes;

    return is_nic ? &node->nic : &node->host;
}

/* --- buffers ---------------------------------------------------------------------------------- */

static uint64_t host_addr_of(const struct sim_node *node, const uint8_t *bytes)
{
    return node->host_base + (uint64_t)(bytes - node->host.bytes);
}

static uint32_t piece_count(const struct sim_buf *buf)
{
    return buf->key != NULL ? buf->key->ref.seg_count : 1;
}

static const struct mem_seg *piece_at(const struct sim_buf *buf, uint32_t index)
{
    return buf->key != NULL ? &buf->key->segs[index] : &buf->piece;
}

static void pieces_put(struct sim_buf *buf)
{
    for (uint32_t i = 0; i < piece_count(buf); i++) {
        const uint8_t *bytes = mem_seg_ptr(piece_at(buf, i));
        block_put(arena_of(buf->node, bytes), bytes);
    }
}

/* Cuts the length at random places. */
static bool pieces_get(struct sim_buf *buf, uint32_t count)
{
    struct sim_key *key = buf->key;
    uint32_t left = buf->len_bytes;

    key->ref =
        (struct mem_ref){.segs = key->segs, .len_bytes = buf->len_bytes, .space = MEM_SPACE_HOST};
    for (uint32_t i = 0; i < count && left > 0; i++) {
        struct sim_arena *arena = sim_chance(50) ? &buf->node->nic : &buf->node->host;
        uint32_t bytes = i == count - 1 ? left : (uint32_t)sim_range(1, left);
        uint8_t *block = block_get(arena, bytes);
        if (block == NULL) {
            pieces_put(buf);
            return false;
        }
        key->segs[i] = (struct mem_seg){.bus_addr = (uintptr_t)block, .len_bytes = bytes};
        key->ref.seg_count++;
        left -= bytes;
    }
    return true;
}

/* A free key, with memory behind it. */
static bool key_find(struct sim_buf *buf)
{
    struct sim_node *node = buf->node;
    uint32_t index = (uint32_t)sim_below(SIM_KEYS);
    uint32_t pieces =
        sim_chance(80) ? (uint32_t)sim_range(1, 4) : (uint32_t)sim_range(5, SIM_PIECES);

    for (uint32_t n = 0; n < SIM_KEYS && buf->key == NULL; n++, index++) {
        struct sim_key *key = &node->keys[index % SIM_KEYS];
        buf->key = key->is_used ? NULL : key;
    }
    if (buf->key == NULL || buf->len_bytes == 0 || !pieces_get(buf, pieces)) {
        buf->key = NULL;
        return false;
    }
    buf->key->is_used = true;
    buf->addr = sim_chance(50) ? 0 : sim_random() >> 8;
    return true;
}

static bool key_get(struct sim_buf *buf, uint32_t access)
{
    struct sim_node *node = buf->node;

    if (!key_find(buf)) {
        return false;
    }
    enum status status = rdma_key_bind(buf->key->key, &buf->key->ref, buf->addr, access);
    SIM_CHECK(status == STATUS_OK, "node %u: key_bind: %s", node->index, status_text(status));
    buf->value = buf->key->key->value;
    return true;
}

bool sim_buf_get(struct sim_node *node, struct sim_buf *buf, enum sim_kind kind, uint32_t len_bytes,
                 uint32_t access)
{
    *buf = (struct sim_buf){.node = node, .kind = kind, .len_bytes = len_bytes};
    if (kind == SIM_KEY) {
        if (key_get(buf, access)) {
            return true;
        }
        kind = SIM_NIC;
    }
    struct sim_arena *arena = kind == SIM_NIC ? &node->nic : &node->host;
    uint8_t *block = block_get(arena, len_bytes == 0 ? 1 : len_bytes);
    if (block == NULL) {
        buf->node = NULL;
        return false;
    }
    buf->kind = kind;
    buf->piece = (struct mem_seg){.bus_addr = (uintptr_t)block, .len_bytes = len_bytes};
    buf->addr = kind == SIM_NIC ? (uintptr_t)block : host_addr_of(node, block);
    buf->value = kind == SIM_NIC ? node->nic_mr->lkey : node->host_mr->lkey;
    return true;
}

bool sim_buf_prepare(struct sim_node *node, struct sim_buf *buf, uint32_t len_bytes)
{
    *buf = (struct sim_buf){.node = node, .kind = SIM_KEY, .len_bytes = len_bytes};
    if (!key_find(buf)) {
        buf->node = NULL;
        return false;
    }
    buf->is_prepared = true;
    buf->value = rdma_key_prepare(buf->key->key);
    return true;
}

bool sim_buf_in_window(const struct sim_buf *buf, const struct pcie_ep_window *window)
{
    return buf->node != NULL && buf->kind == SIM_HOST && buf->addr >= window->host_addr &&
           buf->addr + buf->len_bytes <= window->host_addr + window->len_bytes;
}

void sim_buf_put(struct sim_buf *buf)
{
    for (uint32_t i = 0; i < piece_count(buf); i++) {
        const struct mem_seg *piece = piece_at(buf, i);
        const uint8_t *bytes = mem_seg_ptr(piece);
        struct sim_arena *arena = arena_of(buf->node, bytes);
        SIM_CHECK(memcmp(bytes, arena->shadow + (bytes - arena->bytes), piece->len_bytes) == 0,
                  "node %u: a buffer changed after it was settled", buf->node->index);
    }
    pieces_put(buf);
    if (buf->key != NULL) {
        buf->key->is_used = false;
    }
    buf->node = NULL;
}

/* --- patterns --------------------------------------------------------------------------------- */

static uint64_t pattern_word(uint64_t pattern, uint64_t index)
{
    uint64_t z = pattern + index * UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 29)) * UINT64_C(0xbf58476d1ce4e5b9);
    return z ^ (z >> 32);
}

/* Bytes [offset, + len_bytes) of a pattern, at most CHUNK_BYTES. */
static void pattern_bytes(uint64_t pattern, uint32_t offset, uint8_t *to, uint32_t len_bytes)
{
    uint64_t words[CHUNK_BYTES / 8 + 1];
    uint32_t skip = offset % 8;

    for (uint32_t i = 0; i < (skip + len_bytes + 7) / 8; i++) {
        words[i] = pattern_word(pattern, offset / 8 + i);
    }
    memcpy(to, (const uint8_t *)words + skip, len_bytes);
}

/* A walk over the bytes of buffers in chunks. */
struct walk {
    const struct sim_buf *buf;
    const struct sim_buf *end;
    uint32_t piece;
    uint32_t in_piece;
    uint32_t offset; /* of the chunk in the message */
    uint32_t left;
    struct sim_node *node;
    uint8_t *bytes;
    uint8_t *shadow;
    uint32_t len_bytes;
};

static struct walk walk_begin(const struct sim_buf *bufs, uint32_t count, uint32_t len_bytes)
{
    return (struct walk){.buf = bufs, .end = bufs + count, .left = len_bytes};
}

static bool walk_next(struct walk *w)
{
    w->offset += w->len_bytes;
    w->len_bytes = 0;
    while (w->left > 0 && w->buf != w->end) {
        if (w->piece == piece_count(w->buf)) {
            w->buf++;
            w->piece = 0;
            w->in_piece = 0;
            continue;
        }
        const struct mem_seg *piece = piece_at(w->buf, w->piece);
        if (w->in_piece == piece->len_bytes) {
            w->piece++;
            w->in_piece = 0;
            continue;
        }
        w->node = w->buf->node;
        struct sim_arena *arena = arena_of(w->node, mem_seg_ptr(piece));
        w->bytes = (uint8_t *)mem_seg_ptr(piece) + w->in_piece;
        w->shadow = arena->shadow + (w->bytes - arena->bytes);
        w->len_bytes = min_u32(min_u32(piece->len_bytes - w->in_piece, w->left), CHUNK_BYTES);
        w->in_piece += w->len_bytes;
        w->left -= w->len_bytes;
        return true;
    }
    return false;
}

void sim_fill(const struct sim_buf *bufs, uint32_t count, uint64_t pattern)
{
    struct walk w = walk_begin(bufs, count, UINT32_MAX);

    while (walk_next(&w)) {
        pattern_bytes(pattern, w.offset, w.bytes, w.len_bytes);
        memcpy(w.shadow, w.bytes, w.len_bytes);
    }
}

/* Each byte is of one of the patterns, or (`or_old`) what it was. */
static void compare(const struct walk *w, uint64_t pattern, uint64_t other, bool or_old,
                    const char *what)
{
    uint8_t first[CHUNK_BYTES];
    uint8_t second[CHUNK_BYTES];

    SIM_CHECK(!w->buf->is_frozen || memcmp(w->bytes, w->shadow, w->len_bytes) == 0,
              "node %u: %s: written after the window was gone", w->node->index, what);
    if (or_old && memcmp(w->bytes, w->shadow, w->len_bytes) == 0) {
        return;
    }
    pattern_bytes(pattern, w->offset, first, w->len_bytes);
    if (memcmp(w->bytes, first, w->len_bytes) == 0) {
        return;
    }
    pattern_bytes(other, w->offset, second, w->len_bytes);
    for (uint32_t i = 0; i < w->len_bytes; i++) {
        uint8_t byte = w->bytes[i];
        if (byte != first[i] && byte != second[i] && !(or_old && byte == w->shadow[i])) {
            sim_fail("node %u: %s: byte %u is %02x, not %02x; it was %02x", w->node->index, what,
                     w->offset + i, byte, first[i], w->shadow[i]);
        }
    }
}

void sim_expect(const struct sim_buf *bufs, uint32_t count, uint64_t pattern, uint64_t other,
                uint32_t len_bytes, const char *what)
{
    struct walk w = walk_begin(bufs, count, len_bytes);

    while (walk_next(&w)) {
        compare(&w, pattern, other, false, what);
        memcpy(w.shadow, w.bytes, w.len_bytes);
    }
    SIM_CHECK(w.left == 0, "the simulation looked for more than there is: %s", what);
}

void sim_settle(const struct sim_buf *bufs, uint32_t count, uint64_t pattern, uint64_t other,
                const char *what)
{
    struct walk w = walk_begin(bufs, count, UINT32_MAX);

    while (walk_next(&w)) {
        compare(&w, pattern, other, true, what);
        memcpy(w.shadow, w.bytes, w.len_bytes);
    }
}

void sim_absorb(const struct sim_buf *bufs, uint32_t count, uint64_t pattern, uint64_t other)
{
    uint8_t first[CHUNK_BYTES];
    uint8_t second[CHUNK_BYTES];
    struct walk w = walk_begin(bufs, count, UINT32_MAX);

    while (walk_next(&w)) {
        pattern_bytes(pattern, w.offset, first, w.len_bytes);
        pattern_bytes(other, w.offset, second, w.len_bytes);
        for (uint32_t i = 0; i < w.len_bytes; i++) {
            if (w.bytes[i] == first[i] || w.bytes[i] == second[i]) {
                w.shadow[i] = w.bytes[i];
            }
        }
    }
}
