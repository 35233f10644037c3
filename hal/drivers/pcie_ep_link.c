/*
 * See pcie_ep_link.h. Order and layout: spec/link.h; barriers are named there.
 */
#include "hal/drivers/pcie_ep_link.h"

#include "base/bits.h"
#include "hal/barrier.h"
#include "hal/clock.h"
#include "hal/cpu.h"

/* A table that changes while it is copied is copied again; the other end changes it only after our
 * acknowledgement, so a second time is already its fault. */
#define VIEW_TRIES 3

/* The other end may not listen yet at the first notification. */
#define HELLO_AGAIN_NS (10 * NS_PER_MS)

ALWAYS_INLINE struct pcie_ep_link *link_of(struct pcie_ep *ep)
{
    return CONTAINER_OF(ep, struct pcie_ep_link, ep);
}

static void *block_at(const struct pcie_ep_link *link, uint32_t offset)
{
    return (uint8_t *)link->params.block + offset;
}

/* --- windows -----------------------------------------------------------------------------------
 */

/* True if the window has whole pages and lies in the host's address space and, as bus address, in
 * what we were given. */
static bool window_is_sound(const struct pcie_ep_link *link, const struct link_window *w)
{
    if (!is_aligned(w->host_addr | w->len_bytes | w->target, LINK_PAGE_BYTES)) {
        return false;
    }
    if (w->len_bytes == 0 || w->host_addr > UINT64_MAX - w->len_bytes ||
        w->target > UINT64_MAX - w->len_bytes) {
        return false;
    }
    if (link->params.bus_bytes != UINT64_MAX &&
        !range_fits(w->target, w->len_bytes, link->params.bus_bytes)) {
        return false;
    }
    return w->target + w->len_bytes <= UINT64_MAX - link->params.bus_base;
}

static void window_copy(struct link_window *to, const struct link_window *from)
{
    to->host_addr = shm_load64(&from->host_addr);
    to->len_bytes = shm_load64(&from->len_bytes);
    to->target = shm_load64(&from->target);
    to->flags = shm_load32(&from->flags);
}

/* Copies the table of `generation`. False if it is not that table (any more). */
static bool view_copy(struct pcie_ep_link *link, struct pcie_ep_view *view, uint32_t generation)
{
    const struct link_window_table *table =
        block_at(link, LINK_OFFSET_WINDOWS + (generation & 1) * LINK_PAGE_BYTES);
    uint32_t window_count = shm_load32(&table->window_count);

    view->window_count = 0;
    if (window_count > LIMIT_DMA_WINDOWS) {
        window_count = 0;
        link->bad_window_count++;
    }
    for (uint32_t i = 0; i < window_count; i++) {
        struct link_window w;
        window_copy(&w, &table->windows[i]);
        if (!window_is_sound(link, &w)) {
            link->bad_window_count++;
            continue;
        }
        view->windows[view->window_count++] = (struct pcie_ep_window){
            .host_addr = w.host_addr,
            .len_bytes = w.len_bytes,
            .bus_addr = link->params.bus_base + w.target,
            .readable = (w.flags & LINK_WINDOW_READ) != 0,
            .writable = (w.flags & LINK_WINDOW_WRITE) != 0,
        };
    }
    __atomic_thread_fence(__ATOMIC_ACQUIRE); /* the copy is done before we look whether it held */
    return shm_load32(&table->generation) == generation &&
           shm_load32(&link->host->window_generation) == generation;
}

static COLD void link_view_load(struct pcie_ep *ep, struct pcie_ep_view *view)
{
    struct pcie_ep_link *link = link_of(ep);

    view->last_hit = 0;
    for (uint32_t try = 0; try < VIEW_TRIES; try++) {
        /* EVENT: the host side filled the table before it released the generation. */
        uint32_t generation = shm_load32_acquire(&link->host->window_generation);
        if (view_copy(link, view, generation)) {
            view->generation = generation;
            break;
        }
        link->bad_window_count++;
        view->window_count = 0;
    }
    if (view->window_count == 0) {
        view->windows[0].len_bytes = 0; /* last_hit is 0: the fast path must miss, too */
    }
}

/* --- vectors -----------------------------------------------------------------------------------
 */

static void vectors_load(struct pcie_ep_link *link)
{
    const struct link_vector_table *table = block_at(link, LINK_OFFSET_VECTORS);
    uint32_t peer = shm_load32(&table->peer);
    uint32_t first = shm_load32(&table->first);
    uint32_t count = shm_load32(&table->count);
    bool sound = peer <= LINK_PEER_LAST && first <= UINT8_MAX && count <= UINT8_MAX - first;

    if (!sound) {
        link->bad_event_count++;
        count = 0;
    }
    for (uint32_t word = 0; word < ARRAY_SIZE(link->live); word++) {
        uint32_t live = shm_load32(&table->live[word]);
        uint32_t left = count > word * 32 ? count - word * 32 : 0;
        if (left < 32) {
            live &= BIT32(left) - 1;
        }
        /* Each word by itself: a raise that sees old and new mixed reaches a peer that drops it or
         * a host that tolerates it, and the completion is raised again after the acknowledgement.
         */
        atomic_store_explicit(&link->live[word], live, memory_order_relaxed);
    }
    if (sound) {
        atomic_store_explicit(&link->raise_to, peer << 16 | first, memory_order_relaxed);
    }
}

static void link_irq_raise(struct pcie_ep *ep, uint16_t vector)
{
    struct pcie_ep_link *link = link_of(ep);

    if (vector >= LIMIT_VECTORS ||
        (atomic_load_explicit(&link->live[vector / 32], memory_order_relaxed) &
         BIT32(vector % 32)) == 0) {
        return; /* the host does not listen */
    }
    uint32_t to = atomic_load_explicit(&link->raise_to, memory_order_relaxed);
    /* Partner: the host's driver reads the CQE's phase after the interrupt. */
    barrier_before_doorbell();
    link->params.raise(link->params.ctx, to >> 16, (to & UINT16_MAX) + vector);
}

/* --- events ------------------------------------------------------------------------------------
 */

static void tail_publish(struct pcie_ep_link *link)
{
    /* TAIL: our loads from the record come before its reuse. */
    shm_store32_release(&link->nic->event_tail, link->ep.event_seen);
}

/* Takes over what `record` says. False if it says nonsense. */
static bool event_decode(struct pcie_ep_link *link, const struct link_event *record, uint32_t index,
                         struct pcie_ep_event *event)
{
    uint32_t type = shm_load16(&record->type);

    *event = (struct pcie_ep_event){
        .offset = shm_load32(&record->offset),
        .len_bytes = shm_load16(&record->len_bytes),
        .value = shm_load64(&record->value),
        .generation = shm_load32(&record->generation),
        .revokes = (shm_load32(&record->flags) & LINK_EVENT_REVOKES) != 0,
    };
    if (shm_load32(&record->index) != index) {
        return false;
    }
    switch (type) {
    case LINK_EVENT_REG_WRITE:
        event->type = PCIE_EP_EVENT_REG_WRITE;
        return (event->len_bytes == 4 || event->len_bytes == 8) &&
               range_fits(event->offset, event->len_bytes, LINK_REG_BYTES) &&
               is_aligned(event->offset, event->len_bytes);
    case LINK_EVENT_WINDOWS:
        event->type = PCIE_EP_EVENT_WINDOWS;
        return true;
    case LINK_EVENT_BUS_MASTER:
        event->type = PCIE_EP_EVENT_BUS_MASTER;
        return event->value <= 1;
    case LINK_EVENT_RESET:
        event->type = PCIE_EP_EVENT_RESET;
        return true;
    case LINK_EVENT_LINK:
        event->type = PCIE_EP_EVENT_LINK;
        return event->value <= 1;
    case LINK_EVENT_VECTORS:
        event->type = PCIE_EP_EVENT_VECTORS;
        vectors_load(link);
        return true;
    default:
        return false;
    }
}

/* The ring makes no sense: skip all of it and start the function anew, which is always safe. */
static void events_lost(struct pcie_ep_link *link, uint32_t head, struct pcie_ep_event *event)
{
    link->bad_event_count++;
    link->ep.event_seen = head;
    tail_publish(link);
    *event = (struct pcie_ep_event){
        .type = PCIE_EP_EVENT_RESET,
        .generation = shm_load32(&link->host->window_generation),
    };
}

static COLD bool link_event_pop(struct pcie_ep *ep, struct pcie_ep_event *event)
{
    struct pcie_ep_link *link = link_of(ep);
    /* EVENT: the records up to head were complete before head was released. */
    uint32_t head = shm_load32_acquire(&link->host->event_head);

    if (head - ep->event_seen > LINK_EVENT_COUNT) {
        events_lost(link, head, event);
        return true;
    }
    while (head != ep->event_seen) {
        uint32_t index = ep->event_seen;
        bool sound =
            event_decode(link, &link->events[index & (LINK_EVENT_COUNT - 1)], index, event);
        ep->event_seen++;
        tail_publish(link);
        if (sound) {
            return true;
        }
        link->bad_event_count++;
    }
    event->type = PCIE_EP_EVENT_NONE;
    return false;
}

static void link_event_ack(struct pcie_ep *ep, const struct pcie_ep_event *event)
{
    struct pcie_ep_link *link = link_of(ep);
    void *word = event->type == PCIE_EP_EVENT_VECTORS ? (void *)&link->nic->vector_ack
                                                      : (void *)&link->nic->fence_ack;
    if (event->generation == 0) {
        return; /* nobody waits */
    }
    /* FENCE: all of our accesses and our devices' are done before the host is answered. */
    barrier_full_system();
    shm_store32_release(word, event->generation);
    barrier_before_doorbell();
    link->params.notify(link->params.ctx);
}

/* --- registers, doorbells ----------------------------------------------------------------------
 */

static void link_reg_protect(struct pcie_ep *ep, uint32_t offset, uint32_t writable_mask)
{
    struct pcie_ep_link *link = link_of(ep);

    if (is_aligned(offset, 4) && range_fits(offset, 4, LINK_REG_BYTES)) {
        shm_store32_release((uint8_t *)block_at(link, LINK_OFFSET_MASKS) + offset, writable_mask);
    }
}

static void link_doorbells_arm(struct pcie_ep *ep, bool armed)
{
    struct pcie_ep_link *link = link_of(ep);
    uint32_t core = cpu_self();

    if (core >= LIMIT_CORES || (!armed && link->arm_count[core] == 0)) {
        return;
    }
    link->arm_count[core] += armed ? 1u : UINT32_MAX;
    shm_store32(&link->nic->core[core].armed, link->arm_count[core] != 0);
    if (armed) {
        /* ARM: the caller looks at the doorbells after this; the host side stores a doorbell,
         * then looks here. One of us sees the other. */
        shm_full_barrier();
    }
}

static void link_ready(struct pcie_ep *ep)
{
    struct pcie_ep_link *link = link_of(ep);

    /* HELLO: registers and masks are published before the other end lets the host at us. */
    shm_store32_release(&link->nic->ready, link->epoch);
    barrier_before_doorbell();
    link->params.notify(link->params.ctx);
}

/* The hello of a NIC that never becomes ready: what the one before had is void. */
static COLD void link_leave(struct pcie_ep *ep)
{
    struct pcie_ep_link *link = link_of(ep);

    shm_store32(&link->nic->ready, 0);
    /* FENCE: as an acknowledgement, of everything. */
    barrier_full_system();
    /* HELLO */
    shm_store32_release(&link->nic->hello, shm_load32(&link->nic->hello) + 1);
    barrier_before_doorbell();
    link->params.notify(link->params.ctx);
}

/* --- attaching ---------------------------------------------------------------------------------
 */

static const struct pcie_ep_ops link_ops = {
    .event_pop = link_event_pop,
    .event_ack = link_event_ack,
    .view_load = link_view_load,
    .reg_protect = link_reg_protect,
    .irq_raise = link_irq_raise,
    .doorbells_arm = link_doorbells_arm,
    .ready = link_ready,
    .leave = link_leave,
};

/* What the block says of itself, each read once: the host's VMM may be able to write it. */
struct block_facts {
    uint32_t flags;
    uint32_t vector_count;
    uint16_t fn;
};

static bool block_read(const struct link_host_page *host, struct block_facts *facts)
{
    if (shm_load64_acquire(&host->magic) != LINK_MAGIC) {
        return false;
    }
    facts->flags = shm_load32(&host->flags);
    facts->vector_count = shm_load32(&host->vector_count);
    facts->fn = shm_load16(&host->fn);
    return shm_load32(&host->version) == LINK_VERSION &&
           shm_load32(&host->block_bytes) == LINK_BLOCK_BYTES &&
           shm_load32(&host->event_count) == LINK_EVENT_COUNT &&
           shm_load32(&host->doorbell_bytes) == LINK_DOORBELL_BYTES && facts->vector_count >= 1 &&
           facts->vector_count <= LIMIT_VECTORS && facts->fn < LIMIT_FUNCTIONS;
}

/* Says hello and waits for the answer, after which the ring is empty and the epoch ours. */
static enum status hello(struct pcie_ep_link *link)
{
    uint32_t nonce = shm_load32(&link->nic->hello) + 1;
    uint64_t again_ns = clock_now_ns() + HELLO_AGAIN_NS;
    uint64_t deadline_ns = clock_now_ns() + link->params.hello_timeout_ns;

    for (uint32_t core = 0; core < LINK_CORES; core++) {
        shm_store32(&link->nic->core[core].armed, 0);
    }
    shm_store32(&link->nic->ready, 0);
    /* HELLO */
    shm_store32_release(&link->nic->hello, nonce);
    barrier_before_doorbell();
    link->params.notify(link->params.ctx);
    while (shm_load32_acquire(&link->host->hello_seen) != nonce) {
        uint64_t now_ns = clock_now_ns();
        if (now_ns >= deadline_ns) {
            return STATUS_TIMED_OUT;
        }
        if (now_ns >= again_ns) {
            again_ns = now_ns + HELLO_AGAIN_NS;
            link->params.notify(link->params.ctx);
        }
        cpu_relax();
    }
    link->epoch = shm_load32(&link->host->epoch);
    link->ep.event_seen = shm_load32(&link->host->event_head);
    tail_publish(link);
    return STATUS_OK;
}

/* The NIC of this epoch was ready, and the other end has not begun another one. */
static enum status resume(struct pcie_ep_link *link)
{
    link->epoch = shm_load32_acquire(&link->host->epoch);
    if (link->epoch == 0 || shm_load32(&link->nic->ready) != link->epoch ||
        shm_load32(&link->host->hello_seen) != shm_load32(&link->nic->hello)) {
        return STATUS_NOT_FOUND;
    }
    for (uint32_t core = 0; core < LINK_CORES; core++) {
        shm_store32(&link->nic->core[core].armed, 0);
    }
    link->ep.event_seen = shm_load32(&link->nic->event_tail);
    vectors_load(link);
    return STATUS_OK;
}

COLD enum status pcie_ep_link_init(struct pcie_ep_link *link,
                                   const struct pcie_ep_link_params *params)
{
    if (params->block == NULL || !is_aligned((uintptr_t)params->block, LINK_PAGE_BYTES) ||
        params->raise == NULL || params->notify == NULL || params->name == NULL) {
        return STATUS_INVALID;
    }
    struct link_host_page *host = params->block;
    struct block_facts facts;
    if (!block_read(host, &facts)) {
        return STATUS_BAD_DATA;
    }
    *link = (struct pcie_ep_link){.params = *params, .host = host};
    link->nic = block_at(link, LINK_OFFSET_NIC);
    link->events = block_at(link, LINK_OFFSET_EVENTS);

    uint8_t *bar = block_at(link, LINK_OFFSET_BAR);
    link->ep = (struct pcie_ep){
        .ops = &link_ops,
        .name = params->name,
        .regs = bar,
        .doorbells = params->doorbells != NULL ? params->doorbells : bar + LINK_DOORBELL_OFFSET,
        .doorbells_bytes = LINK_DOORBELL_BYTES,
        .fn = facts.fn,
        .vector_count = (uint16_t)facts.vector_count,
        .doorbell_mode = (facts.flags & LINK_FLAG_TRAPPED) != 0 ? PCIE_EP_DOORBELLS_TRAPPED
                                                                : PCIE_EP_DOORBELLS_MAPPED,
        .host_poll_is_cheap = (facts.flags & LINK_FLAG_CHEAP_POLL) != 0,
        .event_head = &host->event_head,
    };
    return params->resume ? resume(link) : hello(link);
}
