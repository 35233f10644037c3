/*
 * The model target: memory, poller, and what happens from outside.
 */
#include "tests/model/target_priv.h"

#include <string.h>
#include "base/bits.h"

#define DEFAULT_CTRLS          8
#define DEFAULT_QUEUES         32
#define DEFAULT_ENTRIES        128
#define DEFAULT_IO_QUEUES      8
#define DEFAULT_TRANSFER_BYTES (128u << 10)
#define DEFAULT_BUFS           64
#define WC_BURST               32

/* --- memory --------------------------------------------------------------------------------- */

static void with_defaults(struct target_config *to, const struct target_config *config)
{
    *to = *config;
    to->port = config->port != 0 ? config->port : NVMF_RDMA_PORT;
    to->ctrl_count = config->ctrl_count != 0 ? config->ctrl_count : DEFAULT_CTRLS;
    to->queue_count = config->queue_count != 0 ? config->queue_count : DEFAULT_QUEUES;
    to->queue_entries = config->queue_entries != 0 ? config->queue_entries : DEFAULT_ENTRIES;
    to->io_queues_per_ctrl =
        config->io_queues_per_ctrl != 0 ? config->io_queues_per_ctrl : DEFAULT_IO_QUEUES;
    to->max_transfer_bytes =
        config->max_transfer_bytes != 0 ? config->max_transfer_bytes : DEFAULT_TRANSFER_BYTES;
    to->buf_count = config->buf_count != 0 ? config->buf_count : DEFAULT_BUFS;
}

/* Lays out memory: counts only, with base NULL. */
struct layout {
    uint8_t *base;
    uint64_t used_bytes;
};

static void *take(struct layout *layout, uint64_t bytes)
{
    uint64_t at = layout->used_bytes;

    layout->used_bytes = align_up(at + bytes, 64);
    return layout->base == NULL ? NULL : layout->base + at;
}

static void ns_layout(struct target_ns *ns, const struct target_ns_config *config,
                      struct layout *layout)
{
    uint64_t max = config->lba_count_max != 0 ? config->lba_count_max : config->lba_count;
    uint8_t *media = take(layout, max << config->lba_shift);
    uint32_t *versions = take(layout, max * sizeof(uint32_t));

    if (ns != NULL) {
        ns->config = *config;
        ns->lba_count = config->lba_count;
        ns->lba_count_max = max;
        ns->media = media;
        ns->versions = versions;
        ns->holder = -1;
    }
}

static void queue_layout(struct target *t, struct target_queue *queue,
                         const struct target_config *config, struct layout *layout)
{
    uint32_t entries =
        config->queue_entries > TARGET_ADMIN_ENTRIES ? config->queue_entries : TARGET_ADMIN_ENTRIES;
    uint32_t capsule_bytes =
        (uint32_t)align_up(NVMF_CMD_CAPSULE_BYTES + max_u64(config->in_capsule_bytes, 1024), 64);
    struct target_slot *slots = take(layout, entries * sizeof(struct target_slot));
    uint8_t *capsules = take(layout, (uint64_t)entries * capsule_bytes);
    struct rdma_pd pd = {.device = config->device};
    struct rdma_qp_init_attr attr = {
        .pd = &pd, .send_wr_count = 4 * entries, .recv_wr_count = entries};
    void *qp_memory = take(layout, rdma_qp_memory_bytes(&attr));
    void *cq_memory = take(layout, rdma_cq_memory_bytes(config->device, 5 * entries));

    if (layout->base == NULL) {
        return;
    }
    queue->kind = KIND_QUEUE;
    queue->target = t;
    queue->slots = slots;
    queue->qp_memory = qp_memory;
    queue->cq_memory = cq_memory;
    for (uint32_t i = 0; i < entries; i++) {
        slots[i].queue = queue;
        slots[i].capsule = capsules + (uint64_t)i * capsule_bytes;
        slots[i].capsule_bytes = capsule_bytes;
        slots[i].state = SLOT_NONE;
        list_init(&slots[i].link);
    }
}

static void bufs_layout(struct target *t, const struct target_config *config, struct layout *layout)
{
    struct target_buf *bufs = take(layout, config->buf_count * sizeof(struct target_buf));
    uint8_t *data = take(layout, (uint64_t)config->buf_count * config->max_transfer_bytes);

    if (layout->base == NULL) {
        return;
    }
    t->bufs = bufs;
    for (uint32_t i = 0; i < config->buf_count; i++) {
        bufs[i].data = data + (uint64_t)i * config->max_transfer_bytes;
        list_push_back(&t->free_bufs, &bufs[i].link);
    }
}

/* `t` is NULL when bytes are counted. */
static void lay_out(struct target *t, const struct target_config *config, struct layout *layout)
{
    take(layout, sizeof(struct target));
    struct target_ctrl *ctrls = take(layout, config->ctrl_count * sizeof(struct target_ctrl));
    struct target_queue *queues = take(layout, config->queue_count * sizeof(struct target_queue));
    struct target_subsystem *subsystems =
        take(layout, config->subsystem_count * sizeof(struct target_subsystem));

    if (t != NULL) {
        t->ctrls = ctrls;
        for (uint32_t i = 0; i < config->ctrl_count; i++) {
            ctrls[i].target = t;
        }
        t->queues = queues;
        t->subsystems = subsystems;
    }
    for (uint32_t i = 0; i < config->subsystem_count; i++) {
        const struct target_subsystem_config *from = &config->subsystems[i];
        struct target_ns *namespaces = take(layout, from->ns_count * sizeof(struct target_ns));
        for (uint32_t n = 0; n < from->ns_count; n++) {
            ns_layout(t != NULL ? &namespaces[n] : NULL, &from->namespaces[n], layout);
        }
        if (t != NULL) {
            subsystems[i] =
                (struct target_subsystem){.config = from, .index = i, .namespaces = namespaces};
        }
    }
    for (uint32_t i = 0; i < config->queue_count; i++) {
        queue_layout(t, t != NULL ? &queues[i] : NULL, config, layout);
    }
    bufs_layout(t, config, layout);
}

uint64_t target_memory_bytes(const struct target_config *config)
{
    struct target_config full;
    struct layout layout = {.base = NULL};

    with_defaults(&full, config);
    lay_out(NULL, &full, &layout);
    return layout.used_bytes;
}

struct target_buf *target_buf_get(struct target *t)
{
    struct list *link = list_pop_front(&t->free_bufs);

    if (link == NULL) {
        return NULL;
    }
    struct target_buf *buf = LIST_ENTRY(link, struct target_buf, link);
    buf->queue = NULL;
    buf->slot = NULL;
    return buf;
}

void target_buf_put(struct target *t, struct target_buf *buf)
{
    buf->queue = NULL;
    buf->slot = NULL;
    list_push_back(&t->free_bufs, &buf->link);
}

/* --- small things --------------------------------------------------------------------------- */

uint64_t target_random(struct target *t, uint64_t limit)
{
    uint64_t z = t->random_state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return limit == 0 ? 0 : (z ^ (z >> 31)) % limit;
}

void target_violated(struct target *t, const char *what)
{
    t->stats.violations++;
    t->violation = what;
}

struct target_ctrl *target_ctrl_find(struct target *t, uint16_t cntlid)
{
    for (uint32_t i = 0; i < t->config.ctrl_count; i++) {
        if (t->ctrls[i].in_use && t->ctrls[i].cntlid == cntlid) {
            return &t->ctrls[i];
        }
    }
    return NULL;
}

struct target_ns *target_ns_find(struct target *t, uint32_t subsystem, uint32_t nsid)
{
    if (subsystem >= t->config.subsystem_count) {
        return NULL;
    }
    const struct target_subsystem *s = &t->subsystems[subsystem];
    for (uint32_t i = 0; i < s->config->ns_count; i++) {
        if (s->namespaces[i].config.nsid == nsid) {
            return &s->namespaces[i];
        }
    }
    return NULL;
}

/* --- poller --------------------------------------------------------------------------------- */

/* wr_id: a pointer with the kind in its low bits. */
static void work_done(struct target_queue *queue, const struct rdma_wc *wc)
{
    struct target *t = queue->target;
    void *object = (void *)(uintptr_t)(wc->wr_id & ~UINT64_C(7));
    uint64_t kind = wc->wr_id & 7;

    if (kind == 2 && object != NULL) { /* the last work request that names this buffer */
        target_buf_put(t, object);
    }
    if (!target_queue_is_live(queue)) {
        return;
    }
    if (wc->status != RDMA_WC_SUCCESS) {
        t->stats.transport_errors++;
        target_queue_end(queue, true);
        return;
    }
    if (kind == 0) {
        target_capsule(object, wc->len_bytes);
    } else if (kind == 1) {
        target_data_arrived(object);
    }
}

static uint32_t queue_poll(struct target_queue *queue)
{
    struct rdma_wc wcs[WC_BURST];

    if (queue->cq == NULL) {
        return 0;
    }
    uint32_t count = rdma_cq_poll(queue->cq, wcs, WC_BURST);
    for (uint32_t i = 0; i < count; i++) {
        work_done(queue, &wcs[i]);
    }
    return count + target_queue_turn(queue);
}

static uint32_t due_turn(struct target *t, uint64_t now_ns)
{
    uint32_t work = 0;

    for (uint32_t i = 0; i < t->config.ctrl_count; i++) {
        work += t->ctrls[i].in_use && target_ctrl_turn(&t->ctrls[i], now_ns);
    }
    /* what is done with one may take others out of the list: so begin again */
    for (bool found = true; found;) {
        found = false;
        LIST_FOR_EACH(node, temp, &t->due)
        {
            struct target_slot *slot = LIST_ENTRY(node, struct target_slot, link);
            if (slot->due_ns <= now_ns) {
                list_remove(node);
                target_slot_due(slot);
                found = true;
                work++;
                break;
            }
        }
    }
    LIST_FOR_EACH(node, temp, &t->orphans)
    {
        struct target_buf *buf = LIST_ENTRY(node, struct target_buf, link);
        if (buf->due_ns <= now_ns) {
            list_remove(node);
            target_orphan_due(t, buf);
            work++;
        }
    }
    return work;
}

static uint32_t turn(void *ctx)
{
    struct target *t = ctx;
    uint32_t work = 0;

    for (uint32_t i = 0; i < t->config.queue_count; i++) {
        if (t->queues[i].state != QUEUE_FREE) {
            work += queue_poll(&t->queues[i]);
        }
    }
    work += due_turn(t, clock_now_ns());
    while (!list_is_empty(&t->waiting) && !list_is_empty(&t->free_bufs)) {
        target_slot_go_on(LIST_ENTRY(list_pop_front(&t->waiting), struct target_slot, link));
        work++;
    }
    return work;
}

uint64_t target_next_ns(const struct target *t)
{
    uint64_t next_ns = UINT64_MAX;

    for (uint32_t i = 0; i < t->config.ctrl_count; i++) {
        if (t->ctrls[i].in_use) {
            next_ns = min_u64(next_ns, target_ctrl_next_ns(&t->ctrls[i]));
        }
    }
    for (const struct list *node = t->due.next; node != &t->due; node = node->next) {
        const struct target_slot *slot =
            (const struct target_slot *)((const char *)node - offsetof(struct target_slot, link));
        next_ns = min_u64(next_ns, slot->due_ns);
    }
    for (const struct list *node = t->orphans.next; node != &t->orphans; node = node->next) {
        const struct target_buf *buf =
            (const struct target_buf *)((const char *)node - offsetof(struct target_buf, link));
        next_ns = min_u64(next_ns, buf->due_ns);
    }
    for (uint32_t i = 0; i < t->config.queue_count; i++) {
        if (t->queues[i].state == QUEUE_LINGER) {
            next_ns = min_u64(next_ns, t->queues[i].linger_ns);
        }
    }
    return next_ns;
}

/* --- open, close ---------------------------------------------------------------------------- */

struct target *target_open(void *memory, const struct target_config *config)
{
    struct target *t = memory;
    struct layout layout = {.base = memory};

    t->kind = KIND_TARGET;
    with_defaults(&t->config, config);
    list_init(&t->free_bufs);
    list_init(&t->orphans);
    list_init(&t->waiting);
    list_init(&t->due);
    lay_out(t, &t->config, &layout);
    t->violation = "";
    t->random_state = 1;
    t->discovery_generation = 1;
    struct rdma_mr_attr mr = {.kind = RDMA_MR_NIC,
                              .access = RDMA_ACCESS_LOCAL_WRITE,
                              .memory = memory,
                              .len_bytes = layout.used_bytes};
    ASSERT(rdma_pd_alloc(config->device, 0, &t->pd) == STATUS_OK);
    ASSERT(rdma_mr_reg(t->pd, &mr, &t->mr) == STATUS_OK);
    ASSERT(target_listen(t) == STATUS_OK);
    t->poller = (struct poller){.name = "target", .run = turn, .ctx = t};
    sched_poller_add(&t->poller);
    return t;
}

static void stop(struct target *t, bool in_order)
{
    if (t->listener != NULL) {
        rdma_cm_destroy(t->listener);
        t->listener = NULL;
    }
    while (t->ignored_count > 0) {
        rdma_cm_destroy(t->ignored[--t->ignored_count]);
    }
    for (uint32_t i = 0; i < t->config.ctrl_count; i++) {
        if (t->ctrls[i].in_use) {
            target_ctrl_end(&t->ctrls[i], in_order);
        }
    }
    for (uint32_t i = 0; i < t->config.queue_count; i++) {
        if (t->queues[i].state == QUEUE_CONNECTING || t->queues[i].state == QUEUE_UP) {
            target_queue_end(&t->queues[i], in_order);
        }
    }
    for (struct list *node; (node = list_pop_front(&t->orphans)) != NULL;) {
        target_buf_put(t, LIST_ENTRY(node, struct target_buf, link));
    }
}

void target_close(struct target *t)
{
    t->is_closing = true;
    stop(t, true);
}

bool target_is_quiet(const struct target *t)
{
    uint32_t free_count = 0;

    for (uint32_t i = 0; i < t->config.queue_count; i++) {
        if (t->queues[i].state != QUEUE_FREE) {
            return false;
        }
    }
    for (const struct list *node = t->free_bufs.next; node != &t->free_bufs; node = node->next) {
        free_count++;
    }
    return free_count == t->config.buf_count && t->waiting.next == &t->waiting &&
           t->due.next == &t->due;
}

void target_free(struct target *t)
{
    sched_poller_remove(&t->poller);
    ASSERT(rdma_mr_dereg(t->mr) == STATUS_OK);
    ASSERT(rdma_pd_free(t->pd) == STATUS_OK);
}

/* --- what happens from outside -------------------------------------------------------------- */

void target_power(struct target *t, bool is_on)
{
    if (!is_on) {
        stop(t, true);
        for (uint32_t s = 0; s < t->config.subsystem_count; s++) {
            for (uint32_t n = 0; n < t->subsystems[s].config->ns_count; n++) {
                struct target_ns *ns = &t->subsystems[s].namespaces[n];
                memset(ns->registrants, 0, sizeof(ns->registrants));
                ns->holder = -1;
            }
        }
    } else if (t->listener == NULL) {
        ASSERT(target_listen(t) == STATUS_OK);
    }
}

static void ns_tell(struct target *t, uint32_t subsystem, uint32_t nsid)
{
    for (uint32_t i = 0; i < t->config.ctrl_count; i++) {
        if (t->ctrls[i].in_use && t->ctrls[i].subsystem == subsystem) {
            target_ctrl_ns_changed(&t->ctrls[i], nsid);
        }
    }
}

bool target_ns_resize(struct target *t, uint32_t subsystem, uint32_t nsid, uint64_t lba_count)
{
    struct target_ns *ns = target_ns_find(t, subsystem, nsid);

    if (ns == NULL || lba_count > ns->lba_count_max) {
        return false;
    }
    if (lba_count < ns->lba_count) {
        memset(ns->media + (lba_count << ns->config.lba_shift), 0,
               (ns->lba_count - lba_count) << ns->config.lba_shift);
    }
    ns->lba_count = lba_count;
    ns_tell(t, subsystem, nsid);
    return true;
}

bool target_ns_replace(struct target *t, uint32_t subsystem, uint32_t nsid, const uint8_t nguid[16],
                       const uint8_t uuid[16])
{
    struct target_ns *ns = target_ns_find(t, subsystem, nsid);

    if (ns == NULL) {
        return false;
    }
    memcpy(ns->config.nguid, nguid, 16);
    memcpy(ns->config.uuid, uuid, 16);
    memset(ns->config.eui64, 0, 8);
    memset(ns->media, 0, ns->lba_count_max << ns->config.lba_shift);
    memset(ns->versions, 0, ns->lba_count_max * sizeof(uint32_t));
    ns_tell(t, subsystem, nsid);
    return true;
}

void target_event(struct target *t, uint32_t subsystem, uint32_t dw0)
{
    for (uint32_t i = 0; i < t->config.ctrl_count; i++) {
        if (t->ctrls[i].in_use && t->ctrls[i].subsystem == subsystem) {
            target_ctrl_event(&t->ctrls[i], dw0);
        }
    }
}

#define EVENT_DISCOVERY_CHANGED (NVME_EVENT_NOTICE | 0xf0u << 8 | NVMF_LOG_DISCOVERY << 16)

void target_set_referrals(struct target *t, const struct target_referral *referrals, uint32_t count)
{
    t->config.referrals = referrals;
    t->config.referral_count = count;
    t->discovery_generation++;
    target_event(t, TARGET_DISCOVERY, EVENT_DISCOVERY_CHANGED);
}

void target_drop_queues(struct target *t, int cntlid, int qid, bool in_order)
{
    for (uint32_t i = 0; i < t->config.queue_count; i++) {
        struct target_queue *queue = &t->queues[i];
        bool fits = queue->ctrl != NULL && (cntlid == TARGET_ANY || queue->ctrl->cntlid == cntlid);
        if (target_queue_is_live(queue) && fits && (qid == TARGET_ANY || queue->qid == qid)) {
            target_queue_end(queue, in_order);
        }
    }
}

void target_fatal(struct target *t, int cntlid)
{
    for (uint32_t i = 0; i < t->config.ctrl_count; i++) {
        struct target_ctrl *ctrl = &t->ctrls[i];
        if (ctrl->in_use && (cntlid == TARGET_ANY || ctrl->cntlid == cntlid)) {
            ctrl->csts |= NVME_CSTS_CFS;
        }
    }
}
