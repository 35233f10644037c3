/*
 * Which function has granted host memory for its queues, and who has to hear of it (core 0).
 * Pieces are dealt out to the cores once, first fit; each core's share is host_area.c's matter.
 *
 * To let go takes three steps: no queue is opened there any more; associations with queues there
 * reset themselves; each core answers when its last queue there is gone. An association is reset as
 * a whole, since the loss of one I/O queue may end it (targets need not be able to delete queues
 * one by one): in order, if the controller answers within LEAVE_NS, for then it is known to be
 * quiet at once.
 */
#include "base/log.h"
#include "hal/clock.h"
#include "nvmf_host/nvmf_host_priv.h"

#define LEAVE_NS (50 * NS_PER_MS)

enum host_state {
    HOST_NONE,
    HOST_TAKING, /* cores are being told */
    HOST_THERE,
    HOST_LEAVING, /* cores are being asked */
};

struct host_memory {
    enum host_state state;
    uint32_t away_count; /* orders under way */
    uint64_t leave_ns;
    void (*done)(void *arg); /* of the revoke; NULL: none is wanted */
    void *arg;
    struct nvmf_host_order orders[LIMIT_CORES];
};

static struct host_memory hosts[LIMIT_FUNCTIONS];
static struct list users = {&users, &users};

void nvmf_host_user_add(struct nvmf_host_user *user)
{
    list_push_back(&users, &user->link);
}

void nvmf_host_user_remove(struct nvmf_host_user *user)
{
    list_remove(&user->link);
}

bool nvmf_host_memory_is_there(uint16_t fn)
{
    return fn < LIMIT_FUNCTIONS && hosts[fn].state == HOST_THERE;
}

uint64_t nvmf_host_memory_leave_ns(uint16_t fn)
{
    return fn < LIMIT_FUNCTIONS && hosts[fn].state == HOST_LEAVING ? hosts[fn].leave_ns
                                                                   : UINT64_MAX;
}

static void tell_users(uint16_t fn)
{
    LIST_FOR_EACH(node, next, &users)
    {
        struct nvmf_host_user *user = LIST_ENTRY(node, struct nvmf_host_user, link);
        if (user->fn == fn) {
            user->changed(user);
        }
    }
}

/* --- to the cores and back -------------------------------------------------------------------- */

static void begin_leave(struct host_memory *host);

static void end_leave(struct host_memory *host)
{
    void (*done)(void *arg) = host->done;

    host->state = HOST_NONE;
    host->done = NULL;
    done(host->arg);
}

static void order_done(struct nvmf_host_order *order)
{
    struct host_memory *host = &hosts[order->fn];

    if (--host->away_count > 0) {
        return;
    }
    if (host->state == HOST_LEAVING) {
        end_leave(host);
        return;
    }
    host->state = HOST_THERE;
    if (host->done != NULL) { /* taken back before anybody used it */
        begin_leave(host);
        return;
    }
    tell_users(order->fn);
}

static void send(struct host_memory *host, struct nvmf_core *core, uint16_t fn, void *memory)
{
    struct nvmf_host_order *order = &host->orders[nvmf_core_id(core)];

    *order = (struct nvmf_host_order){.core = core, .fn = fn, .memory = memory, .done = order_done};
    host->away_count++;
    nvmf_host_order_send(order);
}

/* --- granted ---------------------------------------------------------------------------------- */

/* Where pieces are cut: the first one that has room. */
struct cut {
    const struct nvmf_host_piece *pieces;
    uint32_t count;
    uint32_t index;
    uint64_t used_bytes; /* of that piece */
};

static void *cut_next(struct cut *cut, uint64_t bytes)
{
    while (cut->index < cut->count && bytes > cut->pieces[cut->index].len_bytes - cut->used_bytes) {
        cut->index++;
        cut->used_bytes = 0;
    }
    if (cut->index == cut->count) {
        return NULL;
    }
    void *memory = mem_bus_ptr(cut->pieces[cut->index].bus_addr + cut->used_bytes);
    cut->used_bytes += bytes;
    return memory;
}

enum status nvmf_host_memory_grant(uint16_t fn, const struct nvmf_host_piece *pieces,
                                   uint32_t count)
{
    struct cut cut = {.pieces = pieces, .count = count};
    uint32_t served = 0;
    uint32_t wanted = 0;

    if (fn >= LIMIT_FUNCTIONS) {
        return STATUS_INVALID;
    }
    struct host_memory *host = &hosts[fn];
    ASSERT(host->state == HOST_NONE);
    for (uint32_t i = 0; i < LIMIT_CORES; i++) {
        struct nvmf_core *core = nvmf_core_find(i);
        uint64_t bytes = core == NULL ? 0 : nvmf_host_area_bytes(core);
        if (bytes == 0) {
            continue;
        }
        wanted++;
        void *memory = cut_next(&cut, bytes);
        if (memory != NULL) {
            served++;
            host->state = HOST_TAKING;
            send(host, core, fn, memory);
        }
    }
    if (served < wanted) {
        LOG_LIMITED(WARN, "nvmf: function %u: host memory serves %u cores of %u", (unsigned)fn,
                    (unsigned)served, (unsigned)wanted);
    }
    return STATUS_OK;
}

/* --- taken back ------------------------------------------------------------------------------- */

static void begin_leave(struct host_memory *host)
{
    uint16_t fn = (uint16_t)(host - hosts);

    host->state = HOST_LEAVING;
    host->leave_ns = clock_now_ns() + LEAVE_NS;
    for (uint32_t i = 0; i < LIMIT_CORES; i++) {
        if (host->orders[i].memory != NULL) {
            send(host, host->orders[i].core, fn, NULL);
        }
    }
    tell_users(fn);
}

void nvmf_host_memory_revoke(uint16_t fn, void (*done)(void *arg), void *arg)
{
    if (fn >= LIMIT_FUNCTIONS || hosts[fn].state == HOST_NONE) {
        done(arg);
        return;
    }
    struct host_memory *host = &hosts[fn];
    ASSERT(host->done == NULL);
    host->done = done;
    host->arg = arg;
    if (host->state == HOST_THERE) {
        begin_leave(host);
    }
}
