/*
 * Requests of a volume. The short way: Read or Write, a path is there, nothing to split, nothing to
 * wait for. All else goes through vol_start(), which may be asked again and again until the request
 * has found its way or its time is over.
 *
 * Order of memory: the quiet time is raised before the request that may still take effect ends.
 * Whatever its submitter starts because of that end therefore sees it, on any core.
 *
 * A Flush waits for no quiet time: it promises that writes which had completed are on the medium.
 * A write that waits here, or that may still take effect, has not.
 * Source: NVM Express Base Specification 1.4, section 6 (opcodes, figure 346).
 */
#include "base/assert.h"
#include "base/trace.h"
#include "blk/blk_cmd.h"
#include "vol/vol_priv.h"

/* --- what a command is ----------------------------------------------------------------------- */

/* Whether twice is the same as once. Not so: Compare, which may find what came after it; writing
 * reservations; what is not known. */
static bool is_repeatable(uint8_t opcode)
{
    switch (opcode) {
    case NVME_IO_FLUSH:
    case NVME_IO_WRITE:
    case NVME_IO_READ:
    case NVME_IO_WRITE_ZEROES:
    case NVME_IO_DSM:
    case NVME_IO_VERIFY:
    case NVME_IO_RESERVATION_REPORT:
        return true;
    default:
        return false;
    }
}

/* --- ending ---------------------------------------------------------------------------------- */

#define COUNT(vol, req, name) counter_add(&vol_core(vol, req)->stats.name, 1)

void vol_end(struct vol *vol, struct blk_req *req, nvme_status_t status)
{
    counter_add(&vol_core(vol, req)->ended, 1);
    req->is_path_error = false; /* whoever is above has no other way */
    req->done = req->outer_done;
    blk_complete(req, status);
}

/* --- quiet time ------------------------------------------------------------------------------ */

/* VOL-QUIET: release, before the request ends; acquire where others ask. */
static void quiet_raise(struct vol *vol, uint64_t quiet_ns)
{
    uint64_t old_ns = atomic_load_explicit(&vol->quiet_ns, memory_order_relaxed);

    while (old_ns < quiet_ns &&
           !atomic_compare_exchange_weak_explicit(&vol->quiet_ns, &old_ns, quiet_ns,
                                                  memory_order_acq_rel, memory_order_relaxed)) {
    }
}

/* Whether a command that changes something has to wait. */
static bool must_be_quiet(struct vol *vol)
{
    uint64_t quiet_ns = atomic_load_explicit(&vol->quiet_ns, memory_order_acquire);

    if (LIKELY(quiet_ns == 0)) {
        return false;
    }
    if (sched_now_ns() < quiet_ns) {
        return true;
    }
    /* Over, unless another core has just raised it. */
    return !atomic_compare_exchange_strong_explicit(&vol->quiet_ns, &quiet_ns, 0,
                                                    memory_order_acq_rel, memory_order_relaxed) &&
           quiet_ns != 0;
}

/* --- waiting --------------------------------------------------------------------------------- */

static void wait_begin(struct vol *vol, struct blk_req *req, bool for_quiet)
{
    struct vol_outer *outer = vol_outer(req);
    struct vol_core *core = vol_core(vol, req);
    struct vol_home *home = vol_home(req->owner_core);

    TRACE(req->owner_core, VOL_WAIT, req->fn, req->trace_id, for_quiet, outer->tries);
    outer->flags |= VOL_REQ_WAITING;
    list_push_back(&core->waiting, &req->link);
    counter_add(&core->waiting_count, 1);
    if (list_is_empty(&core->link)) {
        list_push_back(&home->waiting, &core->link);
    }
    if (!timer_is_armed(&home->look)) {
        timer_arm(&home->look, sched_now_ns() + VOL_LOOK_NS);
    }
}

static void wait_end(struct vol *vol, struct blk_req *req)
{
    struct vol_core *core = vol_core(vol, req);

    vol_outer(req)->flags &= (uint8_t)~VOL_REQ_WAITING;
    list_remove(&req->link);
    counter_set(&core->waiting_count, counter_get(&core->waiting_count) - 1);
    if (list_is_empty(&core->waiting)) {
        list_remove(&core->link);
    }
}

/* No path for so long that nobody should wait any more. */
static bool is_given_up(struct vol *vol)
{
    /* VOL-BEST: acquire, so that down_since_ns is that of this outage. */
    return atomic_load_explicit(&vol->best, memory_order_acquire) == NULL &&
           sched_now_ns() - atomic_load_explicit(&vol->down_since_ns, memory_order_relaxed) >=
               vol->wait_ns;
}

static void limit_set(const struct vol *vol, struct blk_req *req)
{
    struct vol_outer *outer = vol_outer(req);

    if (outer->limit_ns == 0) {
        outer->limit_ns = sched_now_ns() + vol->wait_ns;
        if (req->deadline_ns != 0) {
            outer->limit_ns = min_u64(outer->limit_ns, req->deadline_ns);
        }
    }
}

/* Lets it wait, or ends it: its time is over, or nobody waits any more. */
static void hold(struct vol *vol, struct blk_req *req, bool for_quiet)
{
    struct vol_outer *outer = vol_outer(req);
    bool is_over = outer->limit_ns == 0 && !for_quiet && is_given_up(vol);

    limit_set(vol, req);
    if (is_over || sched_now_ns() >= outer->limit_ns) {
        COUNT(vol, req, expired);
        vol_end(vol, req, NVME_SC_NS_NOT_READY);
        return;
    }
    if (for_quiet && (outer->flags & VOL_REQ_QUIETED) == 0) {
        outer->flags |= VOL_REQ_QUIETED;
        COUNT(vol, req, quieted);
    } else if (!for_quiet && (outer->flags & VOL_REQ_HELD) == 0) {
        outer->flags |= VOL_REQ_HELD;
        COUNT(vol, req, held);
    }
    wait_begin(vol, req, for_quiet);
}

/* Whatever waits tries again; what has to wait on comes into the list anew, and has its next turn
 * in the next look. */
static void look_at(struct vol_core *core)
{
    struct list round;

    list_init(&round);
    while (!list_is_empty(&core->waiting)) {
        list_push_back(&round, list_pop_front(&core->waiting));
    }
    while (!list_is_empty(&round)) {
        struct blk_req *req = LIST_ENTRY(round.next, struct blk_req, link);
        wait_end(core->vol, req);
        vol_start(core->vol, req);
    }
}

void vol_look(struct vol_home *home)
{
    struct list round;
    struct list *node;

    list_init(&round);
    while ((node = list_pop_front(&home->waiting)) != NULL) {
        list_push_back(&round, node);
    }
    while ((node = list_pop_front(&round)) != NULL) {
        look_at(LIST_ENTRY(node, struct vol_core, link));
    }
    if (!list_is_empty(&home->waiting)) {
        timer_arm(&home->look, sched_now_ns() + VOL_LOOK_NS);
    } else {
        timer_cancel(&home->look);
    }
}

/* --- sending --------------------------------------------------------------------------------- */

ALWAYS_INLINE void send(struct vol_path *path, struct blk_req *req)
{
    vol_outer(req)->path = path;
    blk_submit(path->dev, req);
}

/* The first path that would take it now; one that failed it comes last. */
static struct vol_path *choose(struct vol *vol, struct blk_req *req)
{
    const struct vol_outer *outer = vol_outer(req);
    uint32_t count = vol->config.path_count;
    uint32_t first = (outer->flags & VOL_REQ_FAILED) != 0 ? outer->path->index + 1 : 0;

    for (uint32_t i = 0; i < count; i++) {
        struct vol_path *path = &vol->paths[(first + i) % count];
        uint32_t max_bytes = atomic_load_explicit(&path->max_bytes, memory_order_acquire);
        bool is_too_long = (outer->flags & VOL_REQ_CHILD) != 0 && req->data.len_bytes > max_bytes;
        if (max_bytes != 0 && !is_too_long &&
            (path->is_usable == NULL || path->is_usable(path->dev))) {
            return path;
        }
    }
    return NULL;
}

NOINLINE void vol_start(struct vol *vol, struct blk_req *req)
{
    struct vol_outer *outer = vol_outer(req);

    if (blk_changes_state(req->cmd.opcode) && must_be_quiet(vol)) {
        hold(vol, req, true);
        return;
    }
    struct vol_path *path = choose(vol, req);
    if (path == NULL) {
        hold(vol, req, false);
        return;
    }
    if ((outer->flags & VOL_REQ_CHILD) == 0 && vol_must_split(vol, req)) {
        vol_split(vol, req);
        return;
    }
    if ((outer->flags & VOL_REQ_FAILED) != 0) {
        COUNT(vol, req, retries);
    }
    send(path, req);
}

/* Its path failed it and it may go again: at once when there is a path that it has not tried in
 * this round, else after a while. */
static void retry(struct vol *vol, struct blk_req *req)
{
    struct vol_outer *outer = vol_outer(req);

    outer->flags |= VOL_REQ_FAILED;
    outer->tries++;
    const struct vol_path *next = choose(vol, req);
    if (outer->tries < vol->config.path_count && next != NULL && next != outer->path) {
        limit_set(vol, req);
        wait_begin(vol, req, false);
        vol_wake(req->owner_core); /* not from here: it may come back at once */
        return;
    }
    outer->tries = 0;
    hold(vol, req, false);
}

static NOINLINE void fail(struct vol *vol, struct blk_req *req)
{
    uint8_t opcode = req->cmd.opcode;
    bool was_seen = req->is_sent || req->quiet_ns != 0;

    counter_add(&vol_core(vol, req)->ended, UINT64_MAX); /* -1: not by this */
    if (req->quiet_ns > sched_now_ns() && blk_changes_state(opcode)) {
        quiet_raise(vol, req->quiet_ns);
    }
    if (!req->is_path_error) {
        vol_end(vol, req, req->status);
        return;
    }
    req->dw0 = 0;
    req->dw1 = 0;
    if ((vol_outer(req)->flags & VOL_REQ_CANCELLED) != 0) {
        vol_end(vol, req, NVME_SC_ABORT_REQUESTED);
    } else if (was_seen && !is_repeatable(opcode)) {
        COUNT(vol, req, interrupted);
        vol_end(vol, req, NVME_SC_COMMAND_INTERRUPTED);
    } else {
        retry(vol, req);
    }
}

static void path_done(struct blk_req *req)
{
    struct vol_path *path = vol_outer(req)->path;

    counter_add(&vol_core(path->vol, req)->path_requests[path->index], 1);
    if (UNLIKELY(req->status != 0)) {
        fail(path->vol, req);
        return;
    }
    req->done = req->outer_done;
    req->done(req);
}

/* --- the device ------------------------------------------------------------------------------ */

ALWAYS_INLINE void begin(struct blk_req *req, uint8_t flags)
{
    struct vol_outer *outer = vol_outer(req);

    req->outer_done = req->done;
    req->done = path_done;
    outer->limit_ns = 0;
    outer->flags = flags;
    outer->tries = 0;
}

void vol_begin(struct blk_req *req, uint8_t flags)
{
    begin(req, flags);
}

static void vol_submit(struct blk_dev *dev, struct blk_req *req)
{
    struct vol *vol = CONTAINER_OF(dev, struct vol, dev);
    /* VOL-BEST: acquire, pairs with vol_paths_look(), which wrote max_bytes before. */
    struct vol_path *path = atomic_load_explicit(&vol->best, memory_order_acquire);

    begin(req, 0);
    _Static_assert(NVME_IO_READ == NVME_IO_WRITE + 1, "one comparison finds both");
    if (UNLIKELY((uint32_t)req->cmd.opcode - NVME_IO_WRITE > 1 || path == NULL ||
                 req->data.len_bytes >
                     atomic_load_explicit(&vol->max_bytes, memory_order_relaxed) ||
                 atomic_load_explicit(&vol->quiet_ns, memory_order_acquire) != 0)) {
        vol_start(vol, req);
        return;
    }
    send(path, req);
}

void vol_cancel(struct blk_dev *dev, struct blk_req *req)
{
    struct vol *vol = CONTAINER_OF(dev, struct vol, dev);
    struct vol_outer *outer = vol_outer(req);

    if ((outer->flags & VOL_REQ_WAITING) != 0) {
        wait_end(vol, req);
        vol_end(vol, req, NVME_SC_ABORT_REQUESTED);
        return;
    }
    outer->flags |= VOL_REQ_CANCELLED;
    if ((outer->flags & VOL_REQ_SPLIT) != 0) {
        vol_split_cancel(vol, req);
    } else {
        blk_cancel(outer->path->dev, req);
    }
}

const struct blk_ops vol_ops = {.submit = vol_submit, .cancel = vol_cancel};
