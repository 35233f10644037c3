/*
 * Requests that are longer than what a path takes become several, one range of blocks each. A part
 * is a request of the volume like any other: it waits, goes again, chooses its path by itself.
 *
 * Parts come out of a pool of the core; a request whose next part finds none waits in a list of its
 * function until another part ends; functions take turns. What has failed sends no more parts. Only
 * commands that go by LBA and length can be split; atomicity beyond a part is lost, so vol_path.c
 * announces no more than that.
 */
#include "base/assert.h"
#include "vol/vol_priv.h"

/* What a request keeps while it is split, in blk_req.priv. Its link is in home->hungry while parts
 * are not yet sent. */
struct split {
    struct list children; /* under way */
    uint32_t lba_next;    /* first block that is not yet sent, from the start */
    uint32_t lba_count;   /* of all */
    uint16_t held;        /* children under way, and who is at work on it */
    nvme_status_t status; /* the first failure */
};
_Static_assert(sizeof(struct split) <= sizeof(((struct blk_req *)0)->priv), "priv");

struct child {
    struct blk_req req;
    struct list link; /* in split.children */
    struct vol *vol;
    struct blk_req *parent;
    struct mem_seg segs[LIMIT_SEGS + 1];
};

static uint32_t function_of(const struct blk_req *req)
{
    return req->fn % LIMIT_FUNCTIONS;
}

static struct split *split_of(struct blk_req *parent)
{
    return (struct split *)(void *)parent->priv;
}

/* --- when ------------------------------------------------------------------------------------ */

static bool goes_by_lba(uint8_t opcode)
{
    switch (opcode) {
    case NVME_IO_WRITE:
    case NVME_IO_READ:
    case NVME_IO_COMPARE:
    case NVME_IO_WRITE_ZEROES:
    case NVME_IO_VERIFY:
        return true;
    default:
        return false;
    }
}

static uint32_t part_lba_count(const struct vol *vol)
{
    return atomic_load_explicit(&vol->max_bytes, memory_order_relaxed) >> vol->lba_shift;
}

bool vol_must_split(const struct vol *vol, const struct blk_req *req)
{
    return goes_by_lba(req->cmd.opcode) && nvme_rw_lba_count(&req->cmd) > part_lba_count(vol);
}

/* --- parts ----------------------------------------------------------------------------------- */

/* The piece [offset, offset + len) of a reference, as segments of its own. False: too many. */
static bool slice(const struct mem_ref *ref, uint32_t offset_bytes, uint32_t len_bytes,
                  struct child *child)
{
    uint32_t count = 0;
    uint32_t left_bytes = len_bytes;

    for (uint32_t i = 0; i < ref->seg_count && left_bytes > 0; i++) {
        const struct mem_seg *seg = &ref->segs[i];
        if (offset_bytes >= seg->len_bytes) {
            offset_bytes -= seg->len_bytes;
            continue;
        }
        if (count == ARRAY_SIZE(child->segs)) {
            return false;
        }
        uint32_t part_bytes = min_u32(seg->len_bytes - offset_bytes, left_bytes);
        child->segs[count++] =
            (struct mem_seg){.bus_addr = seg->bus_addr + offset_bytes, .len_bytes = part_bytes};
        left_bytes -= part_bytes;
        offset_bytes = 0;
    }
    child->req.data = (struct mem_ref){.segs = child->segs,
                                       .len_bytes = len_bytes,
                                       .seg_count = (uint16_t)count,
                                       .space = ref->space};
    return left_bytes == 0;
}

static void child_done(struct blk_req *req);

/* The next part of `parent`, at most `lba_count` blocks. False: it cannot be described. */
static bool child_make(struct child *child, struct vol *vol, struct blk_req *parent,
                       uint32_t lba_count)
{
    struct split *split = split_of(parent);
    uint64_t slba = nvme_rw_slba(&parent->cmd) + split->lba_next;
    bool has_data = parent->data.len_bytes != 0;

    child->vol = vol;
    child->parent = parent;
    child->req = (struct blk_req){.cmd = parent->cmd,
                                  .done = child_done,
                                  .deadline_ns = parent->deadline_ns,
                                  .trace_id = parent->trace_id,
                                  .fn = parent->fn,
                                  .owner_core = parent->owner_core,
                                  .dir = parent->dir};
    if (has_data && !slice(&parent->data, split->lba_next << vol->lba_shift,
                           lba_count << vol->lba_shift, child)) {
        return false;
    }
    child->req.cmd.cdw10 = (uint32_t)slba;
    child->req.cmd.cdw11 = (uint32_t)(slba >> 32);
    child->req.cmd.cdw12 =
        (parent->cmd.cdw12 & ~(uint32_t)FIELD_MASK(NVME_RW_NLB)) | (lba_count - 1);
    return true;
}

/* Nobody is at work on it any more: it has ended. */
static void split_put(struct vol *vol, struct blk_req *parent)
{
    struct split *split = split_of(parent);

    if (--split->held > 0) {
        return;
    }
    nvme_status_t status = split->status;
    vol_outer(parent)->flags &= (uint8_t)~VOL_REQ_SPLIT;
    vol_end(vol, parent, status);
}

/* Sends the next part; the request may have ended then. */
static void split_feed(struct vol_home *home, struct blk_req *parent)
{
    struct split *split = split_of(parent);
    struct child *child = pool_get(&home->children);
    struct vol *vol = vol_outer(parent)->path->vol;
    uint32_t lba_count = min_u32(split->lba_count - split->lba_next, part_lba_count(vol));

    ASSERT(child != NULL && lba_count > 0);
    while (!child_make(child, vol, parent, lba_count)) {
        if (lba_count == 1) { /* a block of more pieces than any transfer may have */
            pool_put(&home->children, child);
            split->status = NVME_SC_INVALID_FIELD | NVME_STATUS_DNR;
            list_remove(&parent->link);
            split_put(vol, parent);
            return;
        }
        lba_count /= 2;
    }
    split->lba_next += lba_count;
    home->child_counts[function_of(parent)]++;
    list_push_back(&split->children, &child->link);
    if (split->lba_next == split->lba_count) {
        list_remove(&parent->link); /* who fed it holds it no more: the child does */
    } else {
        split->held++;
    }
    vol_begin(&child->req, VOL_REQ_CHILD);
    vol_start(vol, &child->req);
}

/* The oldest of the next function that may have another part: requests of one function, whose path
 * is gone, must not hold up those of others. */
static struct blk_req *find_hungry(struct vol_home *home)
{
    for (uint32_t i = 0; i < LIMIT_FUNCTIONS; i++) {
        uint32_t fn = (home->hungry_next + i) % LIMIT_FUNCTIONS;
        struct list *list = &home->hungry[fn];
        if (!list_is_empty(list) && home->child_counts[fn] < VOL_PARTS_OF_FUNCTION) {
            home->hungry_next = fn + 1;
            return LIST_ENTRY(list->next, struct blk_req, link);
        }
    }
    return NULL;
}

/* Bounded recursion: a part that ends at once comes back here, finds is_feeding set, returns. */
static void feed(struct vol_home *home)
{
    struct blk_req *parent;

    if (home->is_feeding) {
        return;
    }
    home->is_feeding = true;
    while (home->children.free_count > 0 && (parent = find_hungry(home)) != NULL) {
        split_feed(home, parent);
    }
    home->is_feeding = false;
}

static void child_done(struct blk_req *req)
{
    struct child *child = CONTAINER_OF(req, struct child, req);
    struct blk_req *parent = child->parent;
    struct split *split = split_of(parent);
    struct vol *vol = child->vol;
    struct vol_home *home = vol_home(req->owner_core);

    counter_add(&vol_core(vol, req)->ended, UINT64_MAX); /* -1: a part */
    if (split->status == 0) {
        split->status = req->status;
    }
    list_remove(&child->link);
    pool_put(&home->children, child);
    home->child_counts[function_of(parent)]--;
    if (split->status != 0 && !list_is_empty(&parent->link)) {
        list_remove(&parent->link);
        split_put(vol, parent); /* for its place in the list; this part still holds it */
    }
    split_put(vol, parent);
    feed(home);
}

void vol_split(struct vol *vol, struct blk_req *req)
{
    struct split *split = split_of(req);

    counter_add(&vol_core(vol, req)->stats.splits, 1);
    vol_outer(req)->flags |= VOL_REQ_SPLIT;
    vol_outer(req)->path = &vol->paths[0]; /* names the volume */
    *split = (struct split){.lba_count = nvme_rw_lba_count(&req->cmd), .held = 1};
    list_init(&split->children);
    list_push_back(&vol_home(req->owner_core)->hungry[function_of(req)], &req->link);
    feed(vol_home(req->owner_core));
}

/* --- cancel ---------------------------------------------------------------------------------- */

static struct child *find_uncancelled(struct split *split)
{
    LIST_FOR_EACH(node, next, &split->children)
    {
        struct child *child = LIST_ENTRY(node, struct child, link);
        if ((vol_outer(&child->req)->flags & VOL_REQ_CANCELLED) == 0) {
            return child;
        }
    }
    return NULL;
}

/* Bounded recursion: vol_cancel() of a part does not come here, for parts are not split.
 * A part that is cancelled may end at once, and others with it: the list is read anew each time. */
void vol_split_cancel(struct vol *vol, struct blk_req *req)
{
    struct split *split = split_of(req);
    struct child *child;

    split->held++;
    if (split->status == 0) {
        split->status = NVME_SC_ABORT_REQUESTED;
    }
    if (!list_is_empty(&req->link)) {
        list_remove(&req->link);
        split_put(vol, req);
    }
    while ((child = find_uncancelled(split)) != NULL) {
        vol_cancel(&vol->dev, &child->req);
    }
    split_put(vol, req);
}

/* --- memory ---------------------------------------------------------------------------------- */

uint64_t vol_split_memory_bytes(void)
{
    return align_up(sizeof(struct child), CACHE_LINE_BYTES) * LIMIT_VOLUME_CHILDREN;
}

void vol_split_init(struct vol_home *home, void *memory)
{
    for (uint32_t fn = 0; fn < LIMIT_FUNCTIONS; fn++) {
        list_init(&home->hungry[fn]);
    }
    pool_init(&home->children, "volume parts", memory,
              (uint32_t)align_up(sizeof(struct child), CACHE_LINE_BYTES), LIMIT_VOLUME_CHILDREN);
}
