/*
 * Namespaces of an association: the active list, then each that somebody may have named: Identify
 * and its identification descriptors. Whoever named it gets geometry and NSID; who is not found has
 * none. A scan ends early when everybody was found.
 *
 * Leaves out: namespaces beyond LIMIT_NAMESPACES; which of them changed (all are looked at again).
 * Source: NVMe Base 1.4, sections 5.14.1.4, 5.15.2.
 */
#include "base/log.h"
#include "blk/blk_cmd.h"
#include "nvmf_host/ctrl_priv.h"

#define RETRY_NS (1 * NS_PER_S)    /* after a list that was refused while LIVE */
#define PAUSE_NS (100 * NS_PER_MS) /* between two scans */

/* --- names ---------------------------------------------------------------------------------- */

enum key_kind {
    KEY_NGUID,
    KEY_UUID,
    KEY_EUI64,
    KEY_NSID,
    KEY_COUNT,
};

static const struct {
    uint8_t offset;
    uint8_t len_bytes;
} keys[KEY_COUNT] = {
    [KEY_NGUID] = {offsetof(struct nvmf_ns_id, nguid), 16},
    [KEY_UUID] = {offsetof(struct nvmf_ns_id, uuid), 16},
    [KEY_EUI64] = {offsetof(struct nvmf_ns_id, eui64), 8},
    [KEY_NSID] = {offsetof(struct nvmf_ns_id, nsid), 4},
};

/* NULL: this one is all zero, none. `hash` begins at 0. */
static const uint8_t *key_of(const struct nvmf_ns_id *id, enum key_kind kind, uint32_t *hash)
{
    const uint8_t *key = (const uint8_t *)id + keys[kind].offset;
    uint8_t any = 0;

    for (uint32_t i = 0; i < keys[kind].len_bytes; i++) {
        any |= key[i];
        *hash = *hash * 31 + key[i];
    }
    *hash = (*hash ^ *hash >> 7) % NVMF_NS_BUCKETS;
    return any != 0 ? key : NULL;
}

/* What it is named by. KEY_COUNT: by nothing; it is never found. */
static enum key_kind kind_of(const struct nvmf_ns_id *id, uint32_t *hash)
{
    enum key_kind kind;

    for (kind = KEY_NGUID; kind < KEY_COUNT; kind++) {
        *hash = 0;
        if (key_of(id, kind, hash) != NULL) {
            break;
        }
    }
    return kind;
}

/* --- users ---------------------------------------------------------------------------------- */

static void tell(struct nvmf_ns *ns)
{
    if (ns->dev.changed != NULL) {
        ns->dev.changed(&ns->dev, ns->dev.changed_ctx);
    }
}

/* True if that is news. */
static bool set_usable(struct nvmf_ns *ns, bool is_usable)
{
    return atomic_exchange_explicit(&ns->is_usable, is_usable, memory_order_release) != is_usable;
}

void nvmf_ns_open(struct nvmf_ns *ns, struct nvmf_ctrl *ctrl, const struct nvmf_ns_id *id,
                  enum nvmf_path path, const char *name)
{
    uint32_t hash = 0;

    memset(ns, 0, sizeof(*ns));
    ns->dev.ops = &nvmf_io_ops;
    ns->dev.name = name;
    ns->ctrl = ctrl;
    ns->id = *id;
    ns->path = (uint8_t)path;
    if (kind_of(id, &hash) < KEY_NSID) {
        ctrl->ns_named++;
    }
    list_push_back(&ctrl->ns[hash], &ns->link);
    ctrl->ns_open++;
    ctrl->scan.unseen++;
    ctrl->scan.is_wanted = true;
    nvmf_ctrl_wake(ctrl);
}

void nvmf_ns_close(struct nvmf_ns *ns)
{
    struct nvmf_ctrl *ctrl = ns->ctrl;
    uint32_t hash = 0;

    if (kind_of(&ns->id, &hash) < KEY_NSID) {
        ctrl->ns_named--;
    }
    if (!ns->is_seen) {
        ctrl->scan.unseen--;
    }
    ctrl->ns_open--;
    list_remove(&ns->link);
    (void)set_usable(ns, false);
}

static void lose(struct nvmf_ns *ns)
{
    bool was_there = atomic_exchange_explicit(&ns->nsid, 0, memory_order_relaxed) != 0;

    if (set_usable(ns, false) || was_there) {
        LOG_LIMITED(WARN, "nvmf: %s: %s is gone", ns->ctrl->name, ns->dev.name);
        tell(ns);
    }
}

static bool is_same_geometry(const struct blk_geometry *a, const struct blk_geometry *b)
{
    return a->lba_count == b->lba_count && a->features == b->features &&
           a->max_transfer_bytes == b->max_transfer_bytes && a->lba_shift == b->lba_shift &&
           a->reservation_types == b->reservation_types && a->known == b->known &&
           memcmp(&a->limits, &b->limits, sizeof(a->limits)) == 0 &&
           memcmp(a->nguid, b->nguid, sizeof(a->nguid)) == 0 &&
           memcmp(a->eui64, b->eui64, sizeof(a->eui64)) == 0 &&
           memcmp(a->uuid, b->uuid, sizeof(a->uuid)) == 0;
}

static void find(struct nvmf_ns *ns, uint32_t nsid)
{
    struct nvmf_ctrl *ctrl = ns->ctrl;
    bool is_news = !is_same_geometry(&ns->dev.geometry, &ctrl->scan.draft);

    if (is_news) {
        ns->dev.geometry = ctrl->scan.draft;
    }
    ns->is_seen = true;
    ctrl->scan.unseen--;
    atomic_store_explicit(&ns->nsid, nsid, memory_order_relaxed);
    is_news |= set_usable(ns, ctrl->state == NVMF_CTRL_LIVE);
    if (is_news) {
        tell(ns);
    }
}

/* Everybody who named what `nsid` turned out to be. */
static void find_all(struct nvmf_ctrl *ctrl, uint32_t nsid)
{
    const struct blk_geometry *draft = &ctrl->scan.draft;
    struct nvmf_ns_id id = {.nsid = nsid};

    memcpy(id.nguid, draft->nguid, sizeof(id.nguid));
    memcpy(id.uuid, draft->uuid, sizeof(id.uuid));
    memcpy(id.eui64, draft->eui64, sizeof(id.eui64));
    for (enum key_kind kind = KEY_NGUID; kind < KEY_COUNT; kind++) {
        uint32_t hash = 0;
        const uint8_t *key = key_of(&id, kind, &hash);
        if (key == NULL) {
            continue;
        }
        LIST_FOR_EACH(node, next, &ctrl->ns[hash])
        {
            struct nvmf_ns *ns = LIST_ENTRY(node, struct nvmf_ns, link);
            uint32_t unused = 0;
            if (!ns->is_seen && kind_of(&ns->id, &unused) == kind &&
                memcmp((const uint8_t *)&ns->id + keys[kind].offset, key, keys[kind].len_bytes) ==
                    0) {
                find(ns, nsid);
            }
        }
    }
}

/* Somebody may have named it. */
static bool is_named(struct nvmf_ctrl *ctrl, uint32_t nsid)
{
    const struct nvmf_ns_id id = {.nsid = nsid};
    uint32_t hash = 0;

    (void)key_of(&id, KEY_NSID, &hash);
    LIST_FOR_EACH(node, next, &ctrl->ns[hash])
    {
        if (LIST_ENTRY(node, struct nvmf_ns, link)->id.nsid == nsid) {
            return true;
        }
    }
    return ctrl->ns_named != 0;
}

static void each_ns(struct nvmf_ctrl *ctrl, void (*fn)(struct nvmf_ns *ns))
{
    for (uint32_t i = 0; i < NVMF_NS_BUCKETS; i++) {
        LIST_FOR_EACH(node, next, &ctrl->ns[i])
        {
            fn(LIST_ENTRY(node, struct nvmf_ns, link));
        }
    }
}

static void enter(struct nvmf_ns *ns)
{
    if (atomic_load_explicit(&ns->nsid, memory_order_relaxed) != 0 && set_usable(ns, true)) {
        tell(ns);
    }
}

static void leave(struct nvmf_ns *ns)
{
    if (set_usable(ns, false)) {
        tell(ns);
    }
}

void nvmf_scan_set_live(struct nvmf_ctrl *ctrl, bool is_live)
{
    each_ns(ctrl, is_live ? enter : leave);
}

/* --- the scan ------------------------------------------------------------------------------- */

static void unsee(struct nvmf_ns *ns)
{
    ns->is_seen = false;
}

static void lose_unseen(struct nvmf_ns *ns)
{
    if (!ns->is_seen) {
        lose(ns);
    }
}

static enum nvmf_scan_step next_ns(struct nvmf_ctrl *ctrl)
{
    struct nvmf_scan *scan = &ctrl->scan;

    while (scan->unseen != 0 && scan->index < scan->count) {
        if (is_named(ctrl, scan->nsids[scan->index])) {
            return NVMF_SCAN_STEP_NS;
        }
        scan->index++;
    }
    each_ns(ctrl, lose_unseen);
    return NVMF_SCAN_STEP_IDLE;
}

static enum nvmf_scan_step take_list(struct nvmf_ctrl *ctrl)
{
    struct nvmf_scan *scan = &ctrl->scan;
    uint32_t last = 0;

    scan->count = 0;
    scan->index = 0;
    memcpy(scan->nsids, ctrl->admin.data, sizeof(scan->nsids));
    for (uint32_t i = 0; i < NVME_NS_LIST_ENTRIES; i++) {
        uint32_t nsid = scan->nsids[i];
        if (nsid <= last || nsid == NVME_NSID_ALL) { /* 5.15.2.3: ascending, zero ends it */
            break;
        }
        last = nsid;
        scan->count++;
    }
    ctrl->ns_count = scan->count;
    if (scan->count == NVME_NS_LIST_ENTRIES) {
        LOG_LIMITED(WARN, "nvmf: %s: namespaces behind %u are not looked at", ctrl->name,
                    (unsigned)last);
    }
    scan->is_wanted = false;
    scan->unseen = ctrl->ns_open;
    each_ns(ctrl, unsee);
    return next_ns(ctrl);
}

static enum nvmf_step read_log(struct nvmf_ctrl *ctrl)
{
    struct nvmf_scan *scan = &ctrl->scan;
    uint8_t page = (uint8_t)lowest_bit(scan->log_bits);
    /* What it says is not believed, or not needed: namespaces are looked at anyway. */
    enum nvmf_step step =
        nvmf_admin_get_log(&ctrl->admin, page, 0, page == NVME_LOG_CHANGED_NS ? 4096 : 512);

    if (step == NVMF_STEP_OK || step == NVMF_STEP_ERROR) {
        scan->log_bits &= (uint8_t)~BIT32(page);
        step = NVMF_STEP_OK;
    }
    return step;
}

static enum nvmf_step list(struct nvmf_ctrl *ctrl, uint64_t now_ns)
{
    struct nvmf_scan *scan = &ctrl->scan;
    enum nvmf_step step = nvmf_admin_identify(&ctrl->admin, NVME_CNS_ACTIVE_NS_LIST, 0);

    if (step == NVMF_STEP_OK) {
        scan->not_before_ns = now_ns + PAUSE_NS;
        scan->step = take_list(ctrl);
    } else if (step == NVMF_STEP_ERROR) {
        LOG_LIMITED(WARN, "nvmf: %s: the list of namespaces is refused", ctrl->name);
        scan->not_before_ns = now_ns + RETRY_NS;
        scan->is_wanted = true;
        scan->step = NVMF_SCAN_STEP_IDLE;
    }
    return step;
}

/* Identify and, behind it, the descriptors. */
static enum nvmf_step look(struct nvmf_ctrl *ctrl)
{
    struct nvmf_scan *scan = &ctrl->scan;
    bool is_second = scan->step == NVMF_SCAN_STEP_DESCRIPTORS;
    uint32_t nsid = scan->nsids[scan->index];
    enum nvmf_step step =
        nvmf_admin_identify(&ctrl->admin, is_second ? NVME_CNS_NS_DESCRIPTORS : NVME_CNS_NS, nsid);

    if (step == NVMF_STEP_WAIT || step == NVMF_STEP_LOST) {
        return step;
    }
    if (is_second) {
        if (step == NVMF_STEP_OK) { /* before NVMe 1.3 there are none */
            blk_take_descriptors(&scan->draft, ctrl->admin.data, NVME_IDENTIFY_BYTES);
        }
        find_all(ctrl, nsid);
    } else {
        const char *complaint =
            step == NVMF_STEP_OK
                ? nvmf_check_ns(ctrl, (const struct nvme_identify_ns *)ctrl->admin.data)
                : "Identify is refused";
        if (complaint == NULL) {
            scan->step = NVMF_SCAN_STEP_DESCRIPTORS;
            return NVMF_STEP_OK;
        }
        LOG_LIMITED(WARN, "nvmf: %s: namespace %u is not used: %s", ctrl->name, (unsigned)nsid,
                    complaint);
    }
    scan->index++;
    scan->step = next_ns(ctrl);
    return NVMF_STEP_OK;
}

/* What comes when nothing is under way. */
static enum nvmf_scan_step next_job(struct nvmf_ctrl *ctrl, uint64_t now_ns)
{
    struct nvmf_scan *scan = &ctrl->scan;

    if (!scan->is_wanted && scan->log_bits == 0) {
        return NVMF_SCAN_STEP_IDLE;
    }
    if (now_ns < scan->not_before_ns) {
        nvmf_ctrl_wake_at(ctrl, scan->not_before_ns);
        return NVMF_SCAN_STEP_IDLE;
    }
    return scan->log_bits != 0 ? NVMF_SCAN_STEP_LOG : NVMF_SCAN_STEP_LIST;
}

enum nvmf_step nvmf_scan_run(struct nvmf_ctrl *ctrl, uint64_t now_ns)
{
    struct nvmf_scan *scan = &ctrl->scan;
    enum nvmf_step step = NVMF_STEP_OK;

    while (step == NVMF_STEP_OK) { /* bounded: each turn issues a command or ends */
        switch (scan->step) {
        case NVMF_SCAN_STEP_IDLE:
            scan->step = next_job(ctrl, now_ns);
            if (scan->step == NVMF_SCAN_STEP_IDLE) {
                return NVMF_STEP_OK;
            }
            break;
        case NVMF_SCAN_STEP_LOG:
            step = read_log(ctrl);
            if (step == NVMF_STEP_OK) {
                scan->step = NVMF_SCAN_STEP_IDLE;
            }
            break;
        case NVMF_SCAN_STEP_LIST:
            step = list(ctrl, now_ns);
            break;
        case NVMF_SCAN_STEP_NS:
        case NVMF_SCAN_STEP_DESCRIPTORS:
            step = look(ctrl);
            break;
        }
    }
    return step;
}

void nvmf_scan_reset(struct nvmf_ctrl *ctrl)
{
    ctrl->scan.step = NVMF_SCAN_STEP_IDLE;
    ctrl->scan.log_bits = 0;
    ctrl->scan.is_wanted = true;
    ctrl->scan.not_before_ns = 0;
}

void nvmf_scan_init(struct nvmf_ctrl *ctrl)
{
    for (uint32_t i = 0; i < NVMF_NS_BUCKETS; i++) {
        list_init(&ctrl->ns[i]);
    }
}
