/*
 * Bring-up states that ask the drive what it is: controller, active namespaces, each namespace and
 * its identifiers. What a drive says is read once, checked, and only then believed. Core 0. Source:
 * NVMe Base 1.4, section 5.15.
 */
#include <string.h>
#include "base/log.h"
#include "blk/blk_cmd.h"
#include "nvme_drv/nvme_drv_priv.h"
#include "spec/nvme_feature.h"

/* Identify Controller SGLS 1:0 (figure 247) */
#define SGLS_SUPPORT_MASK 3u
#define SGLS_BYTES        1u /* any alignment */
#define SGLS_DWORDS       2u

#define SMART_WARNINGS   0x1fu /* all critical warnings of 1.4 raise an event */
#define FLBAS_INDEX_MASK 0xfu  /* Identify Namespace FLBAS 3:0 */
#define DPS_TYPE_MASK    7u    /* and DPS 2:0 (figure 245) */

static enum nvme_drv_step identify(struct nvme_drv *drv, uint32_t cns, uint32_t nsid)
{
    struct nvme_sqe cmd = {.opcode = NVME_ADMIN_IDENTIFY,
                           .nsid = nsid,
                           .prp1 = nvme_drv_bus_addr(&drv->dma->data),
                           .cdw10 = cns};
    return nvme_drv_admin_step(drv, &cmd);
}

/* --- controller ------------------------------------------------------------------------------- */

/* A string of the drive for the log: printable, without the padding. `to` has len_bytes + 1. */
static void copy_text(char *to, const uint8_t *from, uint32_t len_bytes)
{
    uint32_t end = 0;
    for (uint32_t i = 0; i < len_bytes; i++) {
        uint8_t c = shm_load8(&from[i]);
        to[i] = c >= 0x20 && c < 0x7f ? (char)c : '?';
        if (c != ' ') {
            end = i + 1;
        }
    }
    to[end] = '\0';
}

/* Never BLK_FEATURE_RESERVATIONS, although the drive may have them: it knows one host, us, and a
 * drive may serve several functions. One tenant's registration would be every tenant's, and what
 * shuts others out would shut out nobody. */
static void take_features(struct nvme_drv *drv, const struct nvme_identify_ctrl *id)
{
    uint32_t oncs = shm_load16(&id->oncs);

    drv->features = BLK_FEATURE_FUA;
    if ((shm_load8(&id->vwc) & NVME_VWC_PRESENT) != 0) {
        drv->features |= BLK_FEATURE_FLUSH;
    }
    if ((oncs & NVME_ONCS_COMPARE) != 0) {
        drv->features |= BLK_FEATURE_COMPARE;
    }
    if ((oncs & NVME_ONCS_DSM) != 0) {
        drv->features |= BLK_FEATURE_DSM;
    }
    if ((oncs & NVME_ONCS_WRITE_ZEROES) != 0) {
        drv->features |= BLK_FEATURE_WRITE_ZEROES;
    }
    if ((oncs & NVME_ONCS_VERIFY) != 0) {
        drv->features |= BLK_FEATURE_VERIFY;
    }
}

/* AWUN, AWUPF, ACWU (figure 247) are zeroes based. */
static void take_ctrl_limits(struct nvme_drv *drv, const struct nvme_identify_ctrl *id)
{
    drv->limits = (struct blk_limits){.atomic_write = shm_load16(&id->awun) + 1u,
                                      .atomic_write_power_fail = shm_load16(&id->awupf) + 1u,
                                      .atomic_compare_write = shm_load16(&id->acwu) + 1u};
}

static void take_caps(struct nvme_drv *drv, const struct nvme_identify_ctrl *id)
{
    uint32_t mdts = shm_load8(&id->mdts);
    uint32_t sgl_support = shm_load32(&id->sgls) & SGLS_SUPPORT_MASK;

    drv->caps.max_bytes = LIMIT_TRANSFER_BYTES;
    if (mdts != 0 && mdts < LIMIT_MDTS) {
        drv->caps.max_bytes = NVME_DRV_PAGE_BYTES << mdts;
    }
    drv->caps.sgl = sgl_support == SGLS_BYTES || sgl_support == SGLS_DWORDS;
    drv->caps.sgl_align_mask = sgl_support == SGLS_DWORDS ? 3 : 0;
    drv->admin.abort_slot_count = (uint8_t)min_u32(shm_load8(&id->acl) + 1u, NVME_DRV_ABORT_SLOTS);
    drv->events = (uint32_t)FIELD_PREP(NVME_AEC_SMART, SMART_WARNINGS);
    if ((shm_load32(&id->oaes) & NVME_OAES_NS_ATTRIBUTE) != 0) {
        drv->events |= NVME_AEC_NS_ATTRIBUTE;
    }
}

enum nvme_drv_state nvme_drv_state_identify_ctrl(struct nvme_drv *drv, uint64_t now_ns)
{
    const struct nvme_identify_ctrl *id = &drv->dma->data.ctrl;
    char serial[21];
    char model[41];
    char firmware[9];
    (void)now_ns;

    switch (identify(drv, NVME_CNS_CTRL, 0)) {
    case NVME_DRV_STEP_WAIT:
        return NVME_DRV_IDENTIFY_CTRL;
    case NVME_DRV_STEP_ERROR:
        return nvme_drv_attempt_failed(drv, "Identify Controller was answered with an error");
    case NVME_DRV_STEP_OK:
        break;
    }
    uint8_t sqes = shm_load8(&id->sqes); /* smallest in 3:0, largest in 7:4, powers of two */
    uint8_t cqes = shm_load8(&id->cqes);
    if ((sqes & 0xf) > NVME_IOSQES || sqes >> 4 < NVME_IOSQES || (cqes & 0xf) > NVME_IOCQES ||
        cqes >> 4 < NVME_IOCQES) {
        return nvme_drv_refuse(drv, "queue entries are not of 64 and 16 bytes");
    }
    take_features(drv, id);
    take_caps(drv, id);
    take_ctrl_limits(drv, id);
    copy_text(serial, id->sn, sizeof(id->sn));
    copy_text(model, id->mn, sizeof(id->mn));
    copy_text(firmware, id->fr, sizeof(id->fr));
    LOG_LIMITED(INFO, "nvme_drv: %s: %s, serial %s, firmware %s; %u KiB per command, %s", drv->name,
                model, serial, firmware, (unsigned)(drv->caps.max_bytes / 1024),
                drv->caps.sgl ? "SGL" : "PRP only");
    return NVME_DRV_SET_EVENTS;
}

/* --- publishing ------------------------------------------------------------------------------- */

static bool geometry_equals(const struct blk_geometry *a, const struct blk_geometry *b)
{
    return a->lba_count == b->lba_count && a->features == b->features &&
           a->max_transfer_bytes == b->max_transfer_bytes && a->lba_shift == b->lba_shift &&
           a->known == b->known && memcmp(&a->limits, &b->limits, sizeof(a->limits)) == 0 &&
           memcmp(a->nguid, b->nguid, sizeof(a->nguid)) == 0 &&
           memcmp(a->eui64, b->eui64, sizeof(a->eui64)) == 0 &&
           memcmp(a->uuid, b->uuid, sizeof(a->uuid)) == 0;
}

static void publish(struct nvme_drv_ns *ns, const struct blk_geometry *geometry)
{
    atomic_store_explicit(&ns->lba_shift, geometry->known ? geometry->lba_shift : 0,
                          memory_order_relaxed);
    if (geometry_equals(&ns->dev.geometry, geometry)) {
        return;
    }
    ns->dev.geometry = *geometry;
    if (ns->dev.changed != NULL) {
        ns->dev.changed(&ns->dev, ns->dev.changed_ctx);
    }
}

static void lose(struct nvme_drv_ns *ns)
{
    const struct blk_geometry unknown = {0};
    publish(ns, &unknown);
}

void nvme_drv_ns_lose_all(struct nvme_drv *drv)
{
    for (uint32_t i = 0; i < NVME_DRV_NAMESPACES; i++) {
        if (drv->ns[i].nsid != 0) {
            lose(&drv->ns[i]);
        }
    }
}

/* The entry of the namespace that is being looked at; NULL when the table is full. */
static struct nvme_drv_ns *scanned_ns(struct nvme_drv *drv)
{
    struct blk_dev *dev = nvme_drv_blk(drv, drv->scan[drv->scan_index]);
    return dev == NULL ? NULL : CONTAINER_OF(dev, struct nvme_drv_ns, dev);
}

/* --- namespaces ------------------------------------------------------------------------------- */

/* After the last namespace: those that the list no longer has are gone. */
static enum nvme_drv_state scan_ends(struct nvme_drv *drv)
{
    for (uint32_t i = 0; i < NVME_DRV_NAMESPACES; i++) {
        if (drv->ns[i].nsid != 0 && !drv->ns[i].is_listed) {
            lose(&drv->ns[i]);
        }
    }
    return NVME_DRV_READY;
}

static enum nvme_drv_state next_ns(struct nvme_drv *drv)
{
    drv->scan_index++;
    return drv->scan_index < drv->scan_count ? NVME_DRV_IDENTIFY_NS : scan_ends(drv);
}

enum nvme_drv_state nvme_drv_state_list_ns(struct nvme_drv *drv, uint64_t now_ns)
{
    (void)now_ns;
    switch (identify(drv, NVME_CNS_ACTIVE_NS_LIST, 0)) {
    case NVME_DRV_STEP_WAIT:
        return NVME_DRV_LIST_NS;
    case NVME_DRV_STEP_ERROR:
        return nvme_drv_attempt_failed(drv, "the list of namespaces was answered with an error");
    case NVME_DRV_STEP_OK:
        break;
    }
    for (uint32_t i = 0; i < NVME_DRV_NAMESPACES; i++) {
        drv->ns[i].is_listed = false;
    }
    drv->scan_count = 0;
    drv->scan_index = 0;
    uint32_t last = 0;
    for (uint32_t i = 0; i < NVME_NS_LIST_ENTRIES; i++) {
        uint32_t nsid = shm_load32(&drv->dma->data.nsids[i]);
        if (nsid <= last || nsid == NVME_NSID_ALL) { /* 5.15.2.3: ascending, zero ends it */
            break;
        }
        if (drv->scan_count == NVME_DRV_NAMESPACES) {
            LOG_LIMITED(WARN, "nvme_drv: %s: namespaces from %u on are not used", drv->name,
                        (unsigned)nsid);
            break;
        }
        drv->scan[drv->scan_count++] = nsid;
        last = nsid;
    }
    return drv->scan_count != 0 ? NVME_DRV_IDENTIFY_NS : scan_ends(drv);
}

/* A namespace's atomic size, zeroes based: 0 says that it is the controller's (figure 245). */
static void take_own(uint32_t *count, const uint16_t *field)
{
    uint32_t value = shm_load16(field);

    if (value != 0) {
        *count = value + 1;
    }
}

/* The drive's promise holds for one of its commands, so it is ours up to where a request becomes
 * several (nvme_drv_map.c): above the largest transfer, and anywhere without SGLs of bytes. */
static void take_atomics(const struct nvme_drv *drv, const struct nvme_identify_ns *id,
                         struct blk_geometry *draft)
{
    struct blk_limits *limits = &draft->limits;
    uint32_t most = drv->caps.max_bytes >> draft->lba_shift;
    bool is_whole = drv->caps.sgl && drv->caps.sgl_align_mask == 0;

    if (!is_whole || shm_load16(&id->nabo) != 0) {
        return; /* with an offset to its boundaries neither */
    }
    *limits = drv->limits;
    if ((shm_load8(&id->nsfeat) & NVME_NSFEAT_ATOMICS) != 0) {
        take_own(&limits->atomic_write, &id->nawun);
        take_own(&limits->atomic_write_power_fail, &id->nawupf);
        take_own(&limits->atomic_compare_write, &id->nacwu);
    }
    take_own(&limits->atomic_boundary, &id->nabsn); /* 0: none */
    take_own(&limits->atomic_boundary_power_fail, &id->nabspf);
    limits->atomic_write = min_u32(limits->atomic_write, most);
    limits->atomic_write_power_fail = min_u32(limits->atomic_write_power_fail, most);
    limits->atomic_compare_write = min_u32(limits->atomic_compare_write, most);
}

static void take_preferred(const struct nvme_identify_ns *id, struct blk_limits *limits)
{
    limits->optimal_boundary = shm_load16(&id->noiob);
    if ((shm_load8(&id->nsfeat) & NVME_NSFEAT_PREFERRED) != 0) {
        limits->preferred_write = shm_load16(&id->npwg) + 1u;
        limits->preferred_write_align = shm_load16(&id->npwa) + 1u;
        limits->preferred_dealloc = shm_load16(&id->npdg) + 1u;
        limits->preferred_dealloc_align = shm_load16(&id->npda) + 1u;
        limits->optimal_write = shm_load16(&id->nows) + 1u;
    }
}

/* Checks and takes what the drive says about a namespace; NULL, or why it cannot be used. */
static const char *take_ns(struct nvme_drv *drv, const struct nvme_identify_ns *id)
{
    const struct nvme_lba_format *format = &id->lbaf[shm_load8(&id->flbas) & FLBAS_INDEX_MASK];
    uint8_t lba_shift = shm_load8(&format->lba_shift);
    uint64_t lba_count = shm_load64(&id->nsze);

    if (lba_shift != 9 && lba_shift != 12) {
        return "blocks are neither 512 nor 4096 bytes";
    }
    if (shm_load16(&format->metadata_bytes) != 0 || (shm_load8(&id->dps) & DPS_TYPE_MASK) != 0) {
        return "formatted with metadata or protection information";
    }
    if (lba_count == 0 || lba_count > UINT64_MAX >> lba_shift) {
        return "its size cannot be";
    }
    drv->draft = (struct blk_geometry){
        .lba_count = lba_count, .lba_shift = lba_shift, .features = drv->features, .known = true};
    if ((shm_load8(&id->nsattr) & NVME_NSATTR_WRITE_PROTECTED) != 0) {
        drv->draft.features |= BLK_FEATURE_READ_ONLY;
    }
    take_atomics(drv, id, &drv->draft);
    take_preferred(id, &drv->draft.limits);
    memcpy(drv->draft.nguid, id->nguid, sizeof(drv->draft.nguid));
    memcpy(drv->draft.eui64, id->eui64, sizeof(drv->draft.eui64));
    return NULL;
}

enum nvme_drv_state nvme_drv_state_identify_ns(struct nvme_drv *drv, uint64_t now_ns)
{
    uint32_t nsid = drv->scan[drv->scan_index];
    struct nvme_drv_ns *ns = scanned_ns(drv);
    (void)now_ns;

    if (ns == NULL) {
        LOG_LIMITED(WARN, "nvme_drv: %s: namespace %u is one too many", drv->name, (unsigned)nsid);
        return next_ns(drv);
    }
    enum nvme_drv_step step = identify(drv, NVME_CNS_NS, nsid);
    if (step == NVME_DRV_STEP_WAIT) {
        return NVME_DRV_IDENTIFY_NS;
    }
    const char *complaint = step == NVME_DRV_STEP_OK ? take_ns(drv, &drv->dma->data.ns)
                                                     : "Identify was answered with an error";
    if (complaint != NULL) {
        LOG_LIMITED(WARN, "nvme_drv: %s: namespace %u is not used: %s", drv->name, (unsigned)nsid,
                    complaint);
        return next_ns(drv); /* not listed, hence lost at the end of the scan */
    }
    ns->is_listed = true;
    return NVME_DRV_DESCRIBE_NS;
}

enum nvme_drv_state nvme_drv_state_describe_ns(struct nvme_drv *drv, uint64_t now_ns)
{
    uint32_t nsid = drv->scan[drv->scan_index];
    struct nvme_drv_ns *ns = scanned_ns(drv);
    (void)now_ns;

    enum nvme_drv_step step = identify(drv, NVME_CNS_NS_DESCRIPTORS, nsid);
    if (step == NVME_DRV_STEP_WAIT) {
        return NVME_DRV_DESCRIBE_NS;
    }
    if (step == NVME_DRV_STEP_OK) { /* before NVMe 1.3 there are none */
        blk_take_descriptors(&drv->draft, drv->dma->data.bytes, sizeof(drv->dma->data.bytes));
    }
    bool is_first = !ns->is_found;
    ns->is_found = true;
    publish(ns, &drv->draft);
    if (is_first) {
        LOG_INFO("nvme_drv: %s: %llu blocks of %u bytes", ns->name,
                 (unsigned long long)ns->dev.geometry.lba_count, 1u << ns->dev.geometry.lba_shift);
        if (drv->found != NULL) {
            drv->found(&ns->dev, nsid, drv->found_ctx);
        }
    }
    return next_ns(drv);
}
