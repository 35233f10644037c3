/*
 * See vfu_link.h; order and barriers: spec/link.h. The register page is in vfu_link_regs.c.
 */
#include "hal/native/vfu/vfu_link_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "base/bits.h"
#include "base/shm.h"

#define WAIT_SLICE_NS UINT64_C(1000000) /* how long one sleep for the NIC lasts at most */

static void *block_at(const struct vfu_link *link, uint32_t offset)
{
    return (uint8_t *)link->config.block + offset;
}

static uint64_t now_ns(const struct vfu_link *link)
{
    return link->config.ops->now_ns(link->config.ctx);
}

void vfu_link_wake(struct vfu_link *link, uint32_t core_mask)
{
    if (link->nic_attached && core_mask != 0) {
        link->config.ops->wake(link->config.ctx, core_mask);
    }
}

/* --- NIC comes and goes
 * --------------------------------------------------------------------------- */

/* 0 means "nothing to acknowledge"; odd and even take turns, since they name the window table. */
static uint32_t next_generation(uint32_t generation)
{
    return generation == UINT32_MAX ? 2 : generation + 1;
}

static void windows_publish(struct vfu_link *link);

void vfu_link_nic_gone(struct vfu_link *link)
{
    if (link->nic_ready) {
        vfu_link_regs_orphan(link);
    }
    link->nic_ready = false;
    link->nic_attached = false;
    for (uint32_t core = 0; core < LINK_CORES; core++) {
        shm_store32(&link->nic->core[core].armed, 0);
    }
}

/* A NIC says hello: what an earlier one left is void. */
static void nic_hello(struct vfu_link *link, uint32_t hello)
{
    vfu_link_nic_gone(link);
    link->nic_attached = true;
    link->hello_seen = hello;
    link->epoch = next_generation(link->epoch);
    shm_store32(&link->host->epoch, link->epoch);
    windows_publish(link); /* empty: no fence waits for a NIC that is not ready */
    /* HELLO */
    shm_store32_release(&link->host->hello_seen, hello);
}

static void look_for_hello(struct vfu_link *link)
{
    /* HELLO: what the NIC stored before is there. */
    uint32_t hello = shm_load32_acquire(&link->nic->hello);

    if (hello != link->hello_seen) {
        nic_hello(link, hello);
    }
}

/* --- failures ----------------------------------------------------------------------------------
 */

/* The NIC broke its contract: stop it before the host gets any answer. */
COLD static void link_fail(struct vfu_link *link, const char *why)
{
    char text[160];

    snprintf(text, sizeof(text), "fn %u: %s; the link goes down and the NIC is stopped",
             (unsigned)link->config.fn, why);
    link->config.ops->log(link->config.ctx, text);
    link->stats.failure_count++;
    link->failed = true;
    shm_store32_release(&link->host->link_up, 0);
    link->config.ops->stop_nic(link->config.ctx, why);
    vfu_link_nic_gone(link);
}

/* Sleeps a little for the NIC. False: the NIC that we wait for is gone. */
static bool wait_a_little(struct vfu_link *link, uint32_t epoch)
{
    if (!link->config.ops->wait(link->config.ctx, WAIT_SLICE_NS)) {
        vfu_link_nic_gone(link);
    } else {
        look_for_hello(link);
    }
    return link->nic_ready && link->epoch == epoch;
}

/* --- events ------------------------------------------------------------------------------------
 */

/* Waits for a free record. False: the NIC is gone or was stopped. */
static bool ring_has_room(struct vfu_link *link)
{
    uint64_t deadline_ns = now_ns(link) + link->config.fence_timeout_ns;
    uint32_t epoch = link->epoch;

    for (;;) {
        /* TAIL: the NIC has read the record before it released the tail. */
        uint32_t used = link->head - shm_load32_acquire(&link->nic->event_tail);
        if (used < LINK_EVENT_COUNT) {
            return true;
        }
        if (used > LINK_EVENT_COUNT) {
            link_fail(link, "the NIC's index of the event ring is impossible");
            return false;
        }
        link->stats.ring_full_count++;
        vfu_link_wake(link, 1);
        if (!wait_a_little(link, epoch)) {
            return false;
        }
        if (now_ns(link) >= deadline_ns) {
            link_fail(link, "the NIC does not read its events");
            return false;
        }
    }
}

bool vfu_link_event(struct vfu_link *link, const struct link_event *event)
{
    if (!link->nic_ready || !ring_has_room(link)) {
        return false;
    }
    struct link_event *record = (struct link_event *)block_at(link, LINK_OFFSET_EVENTS) +
                                (link->head & (LINK_EVENT_COUNT - 1));

    shm_store32(&record->index, link->head);
    shm_store16(&record->type, event->type);
    shm_store16(&record->len_bytes, event->len_bytes);
    shm_store32(&record->offset, event->offset);
    shm_store32(&record->generation, event->generation);
    shm_store64(&record->value, event->value);
    shm_store32(&record->flags, event->flags);
    link->head++;
    /* EVENT: record, register page and tables first. */
    shm_store32_release(&link->host->event_head, link->head);
    return true;
}

/* --- fences ------------------------------------------------------------------------------------
 */

bool vfu_link_is_up(const struct vfu_link *link)
{
    return link->host_present && !link->admin_down && !link->failed;
}

/* Writes the table that holds now into the page that the NIC does not use, and makes it valid. */
static void windows_publish(struct vfu_link *link)
{
    uint32_t generation = next_generation(link->window_generation);
    struct link_window_table *table =
        block_at(link, LINK_OFFSET_WINDOWS + (generation & 1) * LINK_PAGE_BYTES);
    bool reachable = link->nic_ready && link->bus_master && vfu_link_is_up(link);
    uint32_t count = reachable ? link->window_count : 0;

    shm_store32_release(&table->generation, 0); /* not valid while it is written */
    __atomic_thread_fence(__ATOMIC_RELEASE);
    for (uint32_t i = 0; i < count; i++) {
        const struct link_window *from = &link->windows[i];
        struct link_window *to = &table->windows[i];
        shm_store64(&to->host_addr, from->host_addr);
        shm_store64(&to->len_bytes, from->len_bytes);
        shm_store64(&to->target, from->target);
        shm_store32(&to->flags, from->flags);
    }
    shm_store32(&table->window_count, count);
    shm_store32_release(&table->generation, generation);
    link->window_generation = generation;
    shm_store32_release(&link->host->window_generation, generation);
}

/* Publishes the windows with an event and returns when the NIC acknowledged it, or cannot harm. */
static void fence(struct vfu_link *link, enum link_event_type type, uint32_t flags)
{
    windows_publish(link);
    uint32_t generation = link->window_generation;
    uint32_t epoch = link->epoch;
    struct link_event event = {.type = (uint16_t)type, .generation = generation, .flags = flags};

    if (!vfu_link_event(link, &event)) {
        return; /* no NIC: nobody to wait for */
    }
    link->fence_generation = generation;
    vfu_link_wake(link, 1);

    uint64_t start_ns = now_ns(link);
    link->stats.fence_count++;
    /* FENCE: the NIC's and its devices' accesses come before its release of the answer. */
    while (shm_load32_acquire(&link->nic->fence_ack) != generation) {
        if (now_ns(link) - start_ns >= link->config.fence_timeout_ns) {
            link_fail(link, "the NIC did not acknowledge a fence in time");
            return;
        }
        if (!wait_a_little(link, epoch)) {
            return;
        }
    }
    link->stats.fence_max_ns = max_u64(link->stats.fence_max_ns, now_ns(link) - start_ns);
}

/* --- NIC serves ----------------------------------------------------------------------------------
 */

static void event_simple(struct vfu_link *link, enum link_event_type type, uint64_t value,
                         uint32_t generation)
{
    (void)vfu_link_event(
        link,
        &(struct link_event){.type = (uint16_t)type, .value = value, .generation = generation});
}

/* A NIC serves from now on: events that describe what it finds. */
static void nic_becomes_ready(struct vfu_link *link)
{
    link->nic_ready = true;
    if (link->failed) {
        link->failed = false;
        vfu_link_regs_reset(link);
    }
    windows_publish(link);
    if (vfu_link_is_up(link)) {
        shm_store32_release(&link->host->link_up, 1);
        event_simple(link, LINK_EVENT_LINK, 1, 0);
    }
    if (link->bus_master) {
        event_simple(link, LINK_EVENT_BUS_MASTER, 1, 0);
    }
    event_simple(link, LINK_EVENT_WINDOWS, 0, link->window_generation);
    event_simple(link, LINK_EVENT_VECTORS, 0, link->vector_generation);
    vfu_link_regs_describe(link);
    vfu_link_wake(link, 1);
}

/* A NIC that failed and cannot restart answered at last. It still has the controller of a host that
 * is gone: it must have reset that before the next host's memory comes within its reach. */
static void nic_revive(struct vfu_link *link)
{
    link->config.ops->log(link->config.ctx, "the NIC acknowledged late and is back");
    link->nic_attached = true;
    link->nic_ready = true;
    fence(link, LINK_EVENT_RESET, LINK_EVENT_REVOKES);
    if (link->nic_ready) {
        nic_becomes_ready(link);
    }
}

void vfu_link_poll(struct vfu_link *link)
{
    look_for_hello(link);
    if (link->nic_attached && !link->nic_ready &&
        shm_load32_acquire(&link->nic->ready) == link->epoch) {
        nic_becomes_ready(link);
    }
    if (link->failed && link->config.revive && !link->nic_attached && !link->host_present &&
        shm_load32_acquire(&link->nic->fence_ack) == link->fence_generation &&
        shm_load32_acquire(&link->nic->event_tail) == link->head) {
        nic_revive(link);
    }
}

bool vfu_link_vectors_acked(const struct vfu_link *link, uint32_t generation)
{
    return !link->nic_ready || shm_load32_acquire(&link->nic->vector_ack) == generation;
}

uint32_t vfu_link_set_vectors(struct vfu_link *link, const struct link_vector_table *table)
{
    struct link_vector_table *to = block_at(link, LINK_OFFSET_VECTORS);

    link->vector_generation = next_generation(link->vector_generation);
    shm_store32(&to->peer, table->peer);
    shm_store32(&to->first, table->first);
    shm_store32(&to->count, table->count);
    for (uint32_t i = 0; i < ARRAY_SIZE(to->live); i++) {
        shm_store32(&to->live[i], table->live[i]);
    }
    shm_store32_release(&to->generation, link->vector_generation);
    shm_store32_release(&link->host->vector_generation, link->vector_generation);
    event_simple(link, LINK_EVENT_VECTORS, 0, link->vector_generation);
    vfu_link_wake(link, 1);
    return link->vector_generation;
}

/* --- host --------------------------------------------------------------------------------------
 */

void vfu_link_host_came(struct vfu_link *link)
{
    link->host_present = true;
    if (vfu_link_is_up(link)) {
        shm_store32_release(&link->host->link_up, 1);
        event_simple(link, LINK_EVENT_LINK, 1, 0);
        vfu_link_wake(link, 1);
    }
}

void vfu_link_host_left(struct vfu_link *link)
{
    if (!link->host_present) {
        return;
    }
    link->host_present = false;
    link->bus_master = false;
    link->window_count = 0;
    shm_store32_release(&link->host->link_up, 0);
    fence(link, LINK_EVENT_LINK, LINK_EVENT_REVOKES);
    vfu_link_regs_reset(link);
}

void vfu_link_reset(struct vfu_link *link)
{
    link->bus_master = false;
    fence(link, LINK_EVENT_RESET, LINK_EVENT_REVOKES);
    vfu_link_regs_reset(link);
}

void vfu_link_set_bus_master(struct vfu_link *link, bool on)
{
    if (link->bus_master == on) {
        return;
    }
    link->bus_master = on;
    if (on) {
        event_simple(link, LINK_EVENT_BUS_MASTER, 1, 0);
        fence(link, LINK_EVENT_WINDOWS, 0);
    } else {
        fence(link, LINK_EVENT_BUS_MASTER, LINK_EVENT_REVOKES);
    }
}

void vfu_link_set_windows(struct vfu_link *link, const struct link_window *windows,
                          uint32_t window_count, bool revokes)
{
    link->window_count = min_u32(window_count, LIMIT_DMA_WINDOWS);
    for (uint32_t i = 0; i < link->window_count; i++) {
        link->windows[i] = windows[i];
    }
    if (link->bus_master && vfu_link_is_up(link)) {
        fence(link, LINK_EVENT_WINDOWS, revokes ? LINK_EVENT_REVOKES : 0);
    }
}

void vfu_link_set_down(struct vfu_link *link, bool down)
{
    if (link->admin_down == down) {
        return;
    }
    link->admin_down = down;
    if (!link->host_present || link->failed) {
        return;
    }
    shm_store32_release(&link->host->link_up, !down);
    if (down) {
        fence(link, LINK_EVENT_LINK, LINK_EVENT_REVOKES);
        vfu_link_regs_reset(link);
    } else {
        event_simple(link, LINK_EVENT_LINK, 1, 0);
        fence(link, LINK_EVENT_WINDOWS, 0);
    }
}

/* --- start -------------------------------------------------------------------------------------
 */

int vfu_link_init(struct vfu_link *link, const struct vfu_link_config *config)
{
    if (config->block == NULL || !is_aligned((uintptr_t)config->block, LINK_PAGE_BYTES) ||
        config->vector_count == 0 || config->vector_count > LIMIT_VECTORS ||
        config->fn >= LIMIT_FUNCTIONS || config->dstrd > LINK_DSTRD_MAX) {
        return -EINVAL;
    }
    memset(link, 0, sizeof(*link));
    link->config = *config;
    if (config->fence_timeout_ns == 0) {
        link->config.fence_timeout_ns = VFU_LINK_FENCE_NS;
    }
    memset(config->block, 0, LINK_BLOCK_BYTES);
    link->host = block_at(link, LINK_OFFSET_HOST);
    link->nic = block_at(link, LINK_OFFSET_NIC);
    link->regs = block_at(link, LINK_OFFSET_BAR);
    link->masks = block_at(link, LINK_OFFSET_MASKS);
    link->doorbells =
        config->doorbells != NULL ? config->doorbells : link->regs + LINK_DOORBELL_OFFSET;

    *link->host = (struct link_host_page){
        .version = LINK_VERSION,
        .block_bytes = LINK_BLOCK_BYTES,
        .fn = config->fn,
        .function_count = config->function_count,
        .flags = (config->trapped ? LINK_FLAG_TRAPPED : 0) |
                 (config->cheap_poll ? LINK_FLAG_CHEAP_POLL : 0),
        .event_count = LINK_EVENT_COUNT,
        .doorbell_bytes = LINK_DOORBELL_BYTES,
        .vector_count = config->vector_count,
        .host_ram_bytes = config->host_ram_bytes,
    };
    vfu_link_regs_strap(link);
    windows_publish(link);
    shm_store64_release(&link->host->magic, LINK_MAGIC);
    return 0;
}
