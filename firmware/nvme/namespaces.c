/*
 * Namespaces: the table, attach and detach, geometry that changes.
 *
 * Commands of every core look a namespace up without a lock. To take one away, `access` goes to
 * none, then a message visits every core (a command that saw it open has been counted by then),
 * then the counts in flight are watched until they are zero. Source: NVM Express Base
 * Specification 1.4, section 6.1.
 */
#include <string.h>
#include "base/assert.h"
#include "nvme/nvme_priv.h"

/* --- looking up ----------------------------------------------------------------------------- */

struct nvme_ns *nvme_ns_find(struct nvme_ctrl *ctrl, uint32_t nsid)
{
    if (nsid - 1 >= ctrl->ns_count) {
        return NULL;
    }
    struct nvme_ns *ns = &ctrl->ns[nsid - 1];
    /* Acquire: pairs with the release of publish(). */
    return atomic_load_explicit(&ns->access, memory_order_acquire) != NVME_NS_NONE ? ns : NULL;
}

struct nvme_ns_slot *nvme_ns_slot_find(struct nvme_ctrl *ctrl, uint32_t nsid)
{
    if (nsid - 1 >= ctrl->ns_count || ctrl->slots[nsid - 1].state == NVME_NS_STATE_FREE ||
        ctrl->slots[nsid - 1].state == NVME_NS_STATE_DETACH) {
        return NULL;
    }
    return &ctrl->slots[nsid - 1];
}

nvme_status_t nvme_ns_refusal(const struct nvme_ctrl *ctrl, uint32_t nsid)
{
    if (nsid == NVME_NSID_ALL) {
        return NVME_SC_INVALID_FIELD | NVME_STATUS_DNR;
    }
    if (nsid - 1 >= ctrl->ns_count) {
        return NVME_SC_INVALID_NS_OR_FORMAT | NVME_STATUS_DNR;
    }
    /* Another core's look at the state: old or new, either answer is right at this moment. */
    return atomic_load_explicit(&ctrl->slots[nsid - 1].state, memory_order_relaxed) ==
                   NVME_NS_STATE_RELOAD
               ? NVME_SC_NS_NOT_READY
               : NVME_SC_INVALID_FIELD | NVME_STATUS_DNR;
}

/* 8.8: who has no identifier cannot be a registrant. */
uint32_t nvme_ns_features(const struct nvme_ctrl *ctrl, const struct blk_geometry *geometry)
{
    return nvme_host_id_is_known(ctrl) ? geometry->features
                                       : geometry->features & ~BLK_FEATURE_RESERVATIONS;
}

uint32_t nvme_ns_common_features(struct nvme_ctrl *ctrl)
{
    uint32_t features =
        nvme_host_id_is_known(ctrl) ? UINT32_MAX : ~(uint32_t)BLK_FEATURE_RESERVATIONS;

    for (uint32_t nsid = 1; nsid <= ctrl->ns_count; nsid++) {
        const struct nvme_ns *ns = nvme_ns_find(ctrl, nsid);
        if (ns != NULL) {
            features &= ns->features;
        }
    }
    return features;
}

/* --- opening -------------------------------------------------------------------------------- */

static uint32_t ns_index(const struct nvme_ns_slot *slot)
{
    return (uint32_t)(slot - slot->ctrl->slots);
}

static struct nvme_ns *ns_of(const struct nvme_ns_slot *slot)
{
    return &slot->ctrl->ns[ns_index(slot)];
}

static void state_set(struct nvme_ns_slot *slot, enum nvme_ns_state state)
{
    atomic_store_explicit(&slot->state, (uint8_t)state, memory_order_relaxed);
}

static bool geometry_fits(const struct nvme_ctrl *ctrl, const struct blk_geometry *geometry)
{
    return (geometry->lba_shift == 9 || geometry->lba_shift == 12) && geometry->lba_count != 0 &&
           geometry->lba_count <= UINT64_MAX >> geometry->lba_shift &&
           (geometry->max_transfer_bytes == 0 || geometry->max_transfer_bytes >= ctrl->mdts_bytes);
}

static uint8_t access_of(const struct nvme_ctrl *ctrl, uint32_t features)
{
    bool cache = (features & BLK_FEATURE_FLUSH) != 0;
    bool write_through = atomic_load_explicit(&ctrl->write_through, memory_order_relaxed);

    if ((features & BLK_FEATURE_READ_ONLY) != 0 ||
        (cache && (write_through || (features & BLK_FEATURE_FUA) == 0))) {
        return NVME_NS_GENERAL;
    }
    return NVME_NS_FAST;
}

void nvme_ns_update_access(struct nvme_ctrl *ctrl)
{
    for (uint32_t i = 0; i < ctrl->ns_count; i++) {
        if (ctrl->slots[i].state == NVME_NS_STATE_ACTIVE) {
            atomic_store_explicit(&ctrl->ns[i].access, access_of(ctrl, ctrl->ns[i].features),
                                  memory_order_release);
        }
    }
}

/* Nobody is in it: takes the geometry over and opens the namespace, or leaves it inactive. */
static void publish(struct nvme_ns_slot *slot)
{
    struct nvme_ns *ns = ns_of(slot);
    const struct blk_geometry *geometry = &ns->dev->geometry;

    if (!geometry->known || !geometry_fits(slot->ctrl, geometry)) {
        state_set(slot, NVME_NS_STATE_INACTIVE);
        return;
    }
    atomic_store_explicit(&ns->lba_count, geometry->lba_count, memory_order_relaxed);
    ns->lba_shift = geometry->lba_shift;
    ns->features = nvme_ns_features(slot->ctrl, geometry);
    ns->max_lba_count = slot->ctrl->mdts_bytes >> geometry->lba_shift;
    state_set(slot, NVME_NS_STATE_ACTIVE);
    /* Release: the fields before are seen by whoever sees it open (nvme_ns_find, nvme_submit_io).
     */
    atomic_store_explicit(&ns->access, access_of(slot->ctrl, geometry->features),
                          memory_order_release);
}

/* --- closing -------------------------------------------------------------------------------- */

static void device_changed(struct blk_dev *dev, void *ctx);

static void stats_retire(struct blk_stats *to, const struct blk_stats *from)
{
    counter_add(&to->read_count, counter_get(&from->read_count));
    counter_add(&to->write_count, counter_get(&from->write_count));
    counter_add(&to->other_count, counter_get(&from->other_count));
    counter_add(&to->error_count, counter_get(&from->error_count));
    counter_add(&to->read_bytes, counter_get(&from->read_bytes));
    counter_add(&to->write_bytes, counter_get(&from->write_bytes));
    counter_add(&to->staged_bytes, counter_get(&from->staged_bytes));
}

/* A device may be attached several times, to several controllers: the first slot gets the call and
 * passes it on. All of them belong to core 0. */
static void device_watch(struct nvme_ns_slot *slot, struct blk_dev *dev)
{
    slot->next_of_dev = dev->changed_ctx;
    dev->changed = device_changed;
    dev->changed_ctx = slot;
}

static void device_unwatch(struct nvme_ns_slot *slot, struct blk_dev *dev)
{
    struct nvme_ns_slot *other = dev->changed_ctx;

    if (other == slot) {
        dev->changed_ctx = slot->next_of_dev;
        dev->changed = dev->changed_ctx != NULL ? device_changed : NULL;
    } else {
        while (other->next_of_dev != slot) {
            other = other->next_of_dev;
        }
        other->next_of_dev = slot->next_of_dev;
    }
    slot->next_of_dev = NULL;
}

static void slot_free(struct nvme_ns_slot *slot)
{
    struct nvme_ns *ns = ns_of(slot);
    void (*detached)(void *arg) = slot->detached;

    device_unwatch(slot, ns->dev);
    ns->dev = NULL;
    for (uint32_t c = 0; c < LIMIT_CORES; c++) {
        stats_retire(&slot->ctrl->retired, &ns->core[c].stats);
        memset(&ns->core[c].stats, 0, sizeof(ns->core[c].stats));
    }
    slot->detached = NULL;
    slot->error_recovery = 0;
    state_set(slot, NVME_NS_STATE_FREE);
    if (detached != NULL) {
        detached(slot->detached_arg);
    }
}

/* Acquire: pairs with the release of ns_put() (io.c). */
static bool is_in_flight(const struct nvme_ns *ns)
{
    for (uint32_t c = 0; c < LIMIT_CORES; c++) {
        if (atomic_load_explicit(&ns->core[c].in_flight, memory_order_acquire) != 0) {
            return true;
        }
    }
    return false;
}

static void drain_look(struct nvme_ctrl *ctrl)
{
    LIST_FOR_EACH(node, next, &ctrl->grace.draining)
    {
        struct nvme_ns_slot *slot = LIST_ENTRY(node, struct nvme_ns_slot, link);
        if (is_in_flight(ns_of(slot))) {
            continue;
        }
        list_remove(&slot->link);
        if (slot->state == NVME_NS_STATE_DETACH) {
            slot_free(slot);
        } else {
            publish(slot);
            nvme_events_ns_changed(ctrl, ns_index(slot) + 1);
        }
    }
    if (!list_is_empty(&ctrl->grace.draining)) {
        timer_arm(&ctrl->grace.timer, sched_now_ns() + NVME_DRAIN_POLL_NS);
    }
}

static void drain_timer(struct timer *timer)
{
    struct nvme_grace *grace = CONTAINER_OF(timer, struct nvme_grace, timer);

    drain_look(CONTAINER_OF(grace, struct nvme_ctrl, grace));
}

static void grace_back(struct msg *msg);

/* On each core: whatever command it was in before is counted now. */
static void grace_visit(struct msg *msg)
{
    msg->fn = grace_back;
    msg_send(0, msg);
}

static void list_move(struct list *to, struct list *from)
{
    struct list *node;

    while ((node = list_pop_front(from)) != NULL) {
        list_push_back(to, node);
    }
}

static void grace_start(struct nvme_ctrl *ctrl)
{
    struct nvme_grace *grace = &ctrl->grace;

    list_move(&grace->round, &grace->waiting);
    grace->replies_due = sched_core_count();
    for (uint32_t c = 0; c < sched_core_count(); c++) {
        grace->msgs[c].ctrl = ctrl;
        grace->msgs[c].msg.fn = grace_visit;
        msg_send(c, &grace->msgs[c].msg);
    }
}

static void grace_back(struct msg *msg)
{
    struct nvme_ctrl *ctrl = CONTAINER_OF(msg, struct nvme_grace_msg, msg)->ctrl;
    struct nvme_grace *grace = &ctrl->grace;

    if (--grace->replies_due != 0) {
        return;
    }
    list_move(&grace->draining, &grace->round);
    if (!list_is_empty(&grace->waiting)) {
        grace_start(ctrl);
    }
    drain_look(ctrl);
}

/* Refuses new commands at once; the rest follows when the last one has ended. */
static void close_down(struct nvme_ns_slot *slot, enum nvme_ns_state state)
{
    struct nvme_ctrl *ctrl = slot->ctrl;
    bool is_under_way = slot->state == NVME_NS_STATE_RELOAD;

    state_set(slot, state);
    /* Seen by every core before its answer to the message of grace_start(). */
    atomic_store_explicit(&ns_of(slot)->access, NVME_NS_NONE, memory_order_release);
    if (is_under_way) {
        return;
    }
    list_push_back(&ctrl->grace.waiting, &slot->link);
    if (ctrl->grace.replies_due == 0) {
        grace_start(ctrl);
    }
}

/* --- the device speaks up ------------------------------------------------------------------- */

static void slot_device_changed(struct nvme_ns_slot *slot)
{
    struct nvme_ns *ns = ns_of(slot);
    const struct blk_geometry *geometry = &ns->dev->geometry;

    switch ((enum nvme_ns_state)slot->state) {
    case NVME_NS_STATE_INACTIVE:
        publish(slot);
        break;
    case NVME_NS_STATE_ACTIVE:
        if (geometry->known && geometry_fits(slot->ctrl, geometry) &&
            geometry->lba_shift == ns->lba_shift &&
            nvme_ns_features(slot->ctrl, geometry) == ns->features) {
            atomic_store_explicit(&ns->lba_count, geometry->lba_count, memory_order_relaxed);
            break;
        }
        close_down(slot, NVME_NS_STATE_RELOAD);
        return; /* the host hears of it when it is done */
    case NVME_NS_STATE_FREE:
    case NVME_NS_STATE_RELOAD:
    case NVME_NS_STATE_DETACH:
        return;
    }
    nvme_events_ns_changed(slot->ctrl, ns_index(slot) + 1);
}

static void device_changed(struct blk_dev *dev, void *ctx)
{
    (void)dev;
    for (struct nvme_ns_slot *slot = ctx; slot != NULL; slot = slot->next_of_dev) {
        slot_device_changed(slot);
    }
}

/* --- the application's calls ---------------------------------------------------------------- */

enum status nvme_ns_attach(struct nvme_ctrl *ctrl, uint32_t nsid, struct blk_dev *dev)
{
    if (nsid - 1 >= ctrl->ns_count ||
        (dev->geometry.known && !geometry_fits(ctrl, &dev->geometry))) {
        return STATUS_INVALID;
    }
    struct nvme_ns_slot *slot = &ctrl->slots[nsid - 1];
    if (slot->state != NVME_NS_STATE_FREE) {
        return STATUS_EXISTS;
    }
    ctrl->ns[nsid - 1].dev = dev;
    device_watch(slot, dev);
    publish(slot);
    nvme_events_ns_changed(ctrl, nsid);
    return STATUS_OK;
}

enum status nvme_ns_detach(struct nvme_ctrl *ctrl, uint32_t nsid, void (*done)(void *arg),
                           void *arg)
{
    if (nsid - 1 >= ctrl->ns_count || ctrl->slots[nsid - 1].state == NVME_NS_STATE_FREE) {
        return STATUS_NOT_FOUND;
    }
    struct nvme_ns_slot *slot = &ctrl->slots[nsid - 1];
    if (slot->state == NVME_NS_STATE_DETACH) {
        return STATUS_EXISTS;
    }
    slot->detached = done;
    slot->detached_arg = arg;
    close_down(slot, NVME_NS_STATE_DETACH);
    nvme_events_ns_changed(ctrl, nsid);
    return STATUS_OK;
}

void nvme_ns_init(struct nvme_ctrl *ctrl)
{
    ctrl->ns = ctrl->ns_table;
    for (uint32_t i = 0; i < LIMIT_NAMESPACES; i++) {
        ctrl->slots[i].ctrl = ctrl;
        list_init(&ctrl->slots[i].link);
        ctrl->ns[i].nsid = i + 1;
    }
    list_init(&ctrl->grace.waiting);
    list_init(&ctrl->grace.round);
    list_init(&ctrl->grace.draining);
    timer_init(&ctrl->grace.timer, drain_timer);
}
