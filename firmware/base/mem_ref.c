#include "base/mem_ref.h"

#include <string.h>
#include "base/bits.h"

/* Where a walk over a reference stands. */
struct cursor {
    const struct mem_seg *seg;
    const struct mem_seg *end;
    uint32_t offset_bytes; /* in *seg */
};

/* Skips `offset_bytes`; a cursor past the end yields no more pieces. */
static struct cursor cursor_at(const struct mem_ref *ref, uint32_t offset_bytes)
{
    struct cursor c = {.seg = ref->segs, .end = ref->segs + ref->seg_count};

    while (c.seg != c.end && offset_bytes >= c.seg->len_bytes) {
        offset_bytes -= c.seg->len_bytes;
        c.seg++;
    }
    c.offset_bytes = offset_bytes;
    return c;
}

/* The next contiguous piece of at most `max_bytes`; its length, 0 at the end of the reference. */
static uint32_t cursor_next(struct cursor *c, uint32_t max_bytes, char **piece)
{
    while (c->seg != c->end && c->offset_bytes == c->seg->len_bytes) {
        c->seg++; /* done with it, or it is empty */
        c->offset_bytes = 0;
    }
    if (c->seg == c->end) {
        return 0;
    }
    uint32_t len_bytes = min_u32(max_bytes, c->seg->len_bytes - c->offset_bytes);
    *piece = (char *)mem_seg_ptr(c->seg) + c->offset_bytes;
    c->offset_bytes += len_bytes;
    return len_bytes;
}

enum walk {
    WALK_READ,  /* reference to buffer */
    WALK_WRITE, /* buffer to reference */
    WALK_ZERO,
};

/* `what` is a constant in each caller: three loops come out of this, none with a switch inside. */
ALWAYS_INLINE uint32_t walk(const struct mem_ref *ref, uint32_t offset_bytes, uint32_t len_bytes,
                            enum walk what, char *buffer)
{
    struct cursor c = cursor_at(ref, offset_bytes);
    uint32_t done_bytes = 0;

    while (done_bytes < len_bytes) {
        char *piece;
        uint32_t piece_bytes = cursor_next(&c, len_bytes - done_bytes, &piece);
        if (piece_bytes == 0) {
            break;
        }
        switch (what) {
        case WALK_READ:
            memcpy(buffer + done_bytes, piece, piece_bytes);
            break;
        case WALK_WRITE:
            memcpy(piece, buffer + done_bytes, piece_bytes);
            break;
        case WALK_ZERO:
            memset(piece, 0, piece_bytes);
            break;
        }
        done_bytes += piece_bytes;
    }
    return done_bytes;
}

uint32_t mem_ref_read(const struct mem_ref *ref, uint32_t offset_bytes, void *to,
                      uint32_t len_bytes)
{
    return walk(ref, offset_bytes, len_bytes, WALK_READ, to);
}

uint32_t mem_ref_write(const struct mem_ref *ref, uint32_t offset_bytes, const void *from,
                       uint32_t len_bytes)
{
    return walk(ref, offset_bytes, len_bytes, WALK_WRITE, (char *)(uintptr_t)from);
}

uint32_t mem_ref_zero(const struct mem_ref *ref, uint32_t offset_bytes, uint32_t len_bytes)
{
    return walk(ref, offset_bytes, len_bytes, WALK_ZERO, NULL);
}
