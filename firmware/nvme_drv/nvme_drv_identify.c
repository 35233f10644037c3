/*
 * Bring-up states that ask the drive what it is: controller, active namespaces, each namespace and
 * its identifiers. What a drive says is checked before it is believed. Core 0. Source: NVMe
 * Base 1.4, section 5.15.
 */
#include <string.h>
#include "base/log.h"
#include "nvme_drv/nvme_drv_priv.h"

#define CNS_NAMESPACE   0x00
#define CNS_CONTROLLER  0x01
#define CNS_ACTIVE_NS   0x02
#define CNS_DESCRIPTORS 0x03

/* Identify Controller, byte offsets (figure 247). */
#define IDC_SN   4   /* 20 characters */
#define IDC_MN   24  /* 40 characters */
#define IDC_FR   64  /* 8 characters */
#define IDC_MDTS 77  /* 2^n pages of CAP.MPSMIN; 0: no limit */
#define IDC_OAES 92  /* 4 bytes */
#define IDC_ACL  258 /* zeroes based */
#define IDC_SQES 512 /* smallest in 3:0, largest in 7:4, as powers of two */
#define IDC_CQES 513
#define IDC_ONCS 520 /* 2 bytes */
#define IDC_VWC  525
#define IDC_SGLS 536 /* 4 bytes */

#define OAES_NS_ATTRIBUTE BIT32(8)
#define ONCS_COMPARE      BIT32(0)
#define ONCS_DSM          BIT32(2)
#define ONCS_WRITE_ZEROES BIT32(3)
#define ONCS_VERIFY       BIT32(7)
#define VWC_PRESENT       BIT32(0)
#define SGLS_SUPPORT_MASK 3u
#define SGLS_BYTES        1u /* any alignment */
#define SGLS_DWORDS       2u
#define EVENT_SMART_ALL   0x1fu

/* Identify Namespace (figure 245). */
#define IDN_NSZE   0 /* 8 bytes */
#define IDN_FLBAS  26
#define IDN_DPS    29
#define IDN_NSATTR 99
#define IDN_NGUID  104 /* 16 bytes */
#define IDN_EUI64  120 /* 8 bytes */
#define IDN_LBAF   128 /* 4 bytes each: MS 15:0, LBADS 23:16 */

#define FLBAS_INDEX(flbas)     ((flbas)&0xfu)
#define DPS_TYPE_MASK          7u
#define NSATTR_WRITE_PROTECTED BIT32(0)

/* Namespace identification descriptor (figure 249): type, length, 2 reserved bytes, identifier. */
#define DESC_HEADER_BYTES 4
#define DESC_EUI64        1
#define DESC_NGUID        2
#define DESC_UUID         3

static uint32_t get32(const uint8_t *data, uint32_t offset)
{
    uint32_t value;
    memcpy(&value, data + offset, sizeof(value));
    return value;
}

static uint64_t get64(const uint8_t *data, uint32_t offset)
{
    uint64_t value;
    memcpy(&value, data + offset, sizeof(value));
    return value;
}

static enum nvme_drv_step identify(struct nvme_drv *drv, uint32_t cns, uint32_t nsid)
{
    struct nvme_sqe cmd = {.opcode = NVME_ADMIN_IDENTIFY,
                           .nsid = nsid,
                           .prp1 = nvme_drv_bus_addr(drv->dma->data),
                           .cdw10 = cns};
    return nvme_drv_admin_step(drv, &cmd);
}

/* --- controller ------------------------------------------------------------------------------- */

/* A string of the drive for the log: printable, without the padding. `to` has len_bytes + 1. */
static void copy_text(char *to, const uint8_t *from, uint32_t len_bytes)
{
    uint32_t end = 0;
    for (uint32_t i = 0; i < len_bytes; i++) {
        to[i] = from[i] >= 0x20 && from[i] < 0x7f ? (char)from[i] : '?';
        if (to[i] != ' ') {
            end = i + 1;
        }
    }
    to[end] = '\0';
}

static void take_features(struct nvme_drv *drv, const uint8_t *data)
{
    uint32_t oncs = get32(data, IDC_ONCS) & 0xffff;

    drv->features = BLK_FEATURE_FUA;
    if ((data[IDC_VWC] & VWC_PRESENT) != 0) {
        drv->features |= BLK_FEATURE_FLUSH;
    }
    if ((oncs & ONCS_COMPARE) != 0) {
        drv->features |= BLK_FEATURE_COMPARE;
    }
    if ((oncs & ONCS_DSM) != 0) {
        drv->features |= BLK_FEATURE_DSM;
    }
    if ((oncs & ONCS_WRITE_ZEROES) != 0) {
        drv->features |= BLK_FEATURE_WRITE_ZEROES;
    }
    if ((oncs & ONCS_VERIFY) != 0) {
        drv->features |= BLK_FEATURE_VERIFY;
    }
}

static void take_caps(struct nvme_drv *drv, const uint8_t *data)
{
    uint32_t mdts = data[IDC_MDTS];
    uint32_t sgl_support = get32(data, IDC_SGLS) & SGLS_SUPPORT_MASK;

    drv->caps.max_bytes = LIMIT_TRANSFER_BYTES;
    if (mdts != 0 && mdts < LIMIT_MDTS) {
        drv->caps.max_bytes = NVME_DRV_PAGE_BYTES << mdts;
    }
    drv->caps.sgl = sgl_support == SGLS_BYTES || sgl_support == SGLS_DWORDS;
    drv->caps.sgl_align_mask = sgl_support == SGLS_DWORDS ? 3 : 0;
    drv->admin.abort_slot_count = (uint8_t)min_u32(data[IDC_ACL] + 1u, NVME_DRV_ABORT_SLOTS);
    drv->events = EVENT_SMART_ALL | (get32(data, IDC_OAES) & OAES_NS_ATTRIBUTE);
}

enum nvme_drv_state nvme_drv_state_identify_ctrl(struct nvme_drv *drv, uint64_t now_ns)
{
    const uint8_t *data = drv->dma->data;
    char serial[21];
    char model[41];
    char firmware[9];
    (void)now_ns;

    switch (identify(drv, CNS_CONTROLLER, 0)) {
    case NVME_DRV_STEP_WAIT:
        return NVME_DRV_IDENTIFY_CTRL;
    case NVME_DRV_STEP_ERROR:
        return nvme_drv_attempt_failed(drv, "Identify Controller was answered with an error");
    case NVME_DRV_STEP_OK:
        break;
    }
    if ((data[IDC_SQES] & 0xf) > NVME_IOSQES || data[IDC_SQES] >> 4 < NVME_IOSQES ||
        (data[IDC_CQES] & 0xf) > NVME_IOCQES || data[IDC_CQES] >> 4 < NVME_IOCQES) {
        return nvme_drv_refuse(drv, "queue entries are not of 64 and 16 bytes");
    }
    take_features(drv, data);
    take_caps(drv, data);
    copy_text(serial, data + IDC_SN, 20);
    copy_text(model, data + IDC_MN, 40);
    copy_text(firmware, data + IDC_FR, 8);
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
           a->known == b->known && memcmp(a->nguid, b->nguid, sizeof(a->nguid)) == 0 &&
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
    switch (identify(drv, CNS_ACTIVE_NS, 0)) {
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
    for (uint32_t i = 0; i < sizeof(drv->dma->data) / 4; i++) {
        uint32_t nsid = get32(drv->dma->data, i * 4);
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

/* Checks and takes what the drive says about a namespace; NULL, or why it cannot be used. */
static const char *take_ns(struct nvme_drv *drv, const uint8_t *data)
{
    uint32_t format = get32(data, IDN_LBAF + 4 * FLBAS_INDEX(data[IDN_FLBAS]));
    uint32_t lba_shift = (format >> 16) & 0xff;
    uint64_t lba_count = get64(data, IDN_NSZE);

    if (lba_shift != 9 && lba_shift != 12) {
        return "blocks are neither 512 nor 4096 bytes";
    }
    if ((format & 0xffff) != 0 || (data[IDN_DPS] & DPS_TYPE_MASK) != 0) {
        return "formatted with metadata or protection information";
    }
    if (lba_count == 0 || lba_count > UINT64_MAX >> lba_shift) {
        return "its size cannot be";
    }
    drv->draft = (struct blk_geometry){.lba_count = lba_count,
                                       .lba_shift = (uint8_t)lba_shift,
                                       .features = drv->features,
                                       .known = true};
    if ((data[IDN_NSATTR] & NSATTR_WRITE_PROTECTED) != 0) {
        drv->draft.features |= BLK_FEATURE_READ_ONLY;
    }
    memcpy(drv->draft.nguid, data + IDN_NGUID, sizeof(drv->draft.nguid));
    memcpy(drv->draft.eui64, data + IDN_EUI64, sizeof(drv->draft.eui64));
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
    enum nvme_drv_step step = identify(drv, CNS_NAMESPACE, nsid);
    if (step == NVME_DRV_STEP_WAIT) {
        return NVME_DRV_IDENTIFY_NS;
    }
    const char *complaint = step == NVME_DRV_STEP_OK ? take_ns(drv, drv->dma->data)
                                                     : "Identify was answered with an error";
    if (complaint != NULL) {
        LOG_LIMITED(WARN, "nvme_drv: %s: namespace %u is not used: %s", drv->name, (unsigned)nsid,
                    complaint);
        return next_ns(drv); /* not listed, hence lost at the end of the scan */
    }
    ns->is_listed = true;
    return NVME_DRV_DESCRIBE_NS;
}

/* Identifiers out of the descriptor list; it ends with a zero type, or where it breaks its form. */
static void take_descriptors(struct blk_geometry *draft, const uint8_t *data, uint32_t len_bytes)
{
    uint32_t at = 0;
    while (at + DESC_HEADER_BYTES <= len_bytes) {
        uint32_t type = data[at];
        uint32_t id_bytes = data[at + 1];
        const uint8_t *id = data + at + DESC_HEADER_BYTES;
        at += DESC_HEADER_BYTES + id_bytes;
        if (type == 0 || id_bytes == 0 || at > len_bytes) {
            return;
        }
        if (type == DESC_EUI64 && id_bytes == sizeof(draft->eui64)) {
            memcpy(draft->eui64, id, sizeof(draft->eui64));
        } else if (type == DESC_NGUID && id_bytes == sizeof(draft->nguid)) {
            memcpy(draft->nguid, id, sizeof(draft->nguid));
        } else if (type == DESC_UUID && id_bytes == sizeof(draft->uuid)) {
            memcpy(draft->uuid, id, sizeof(draft->uuid));
        }
    }
}

enum nvme_drv_state nvme_drv_state_describe_ns(struct nvme_drv *drv, uint64_t now_ns)
{
    uint32_t nsid = drv->scan[drv->scan_index];
    struct nvme_drv_ns *ns = scanned_ns(drv);
    (void)now_ns;

    enum nvme_drv_step step = identify(drv, CNS_DESCRIPTORS, nsid);
    if (step == NVME_DRV_STEP_WAIT) {
        return NVME_DRV_DESCRIBE_NS;
    }
    if (step == NVME_DRV_STEP_OK) { /* before NVMe 1.3 there are none */
        take_descriptors(&drv->draft, drv->dma->data, sizeof(drv->dma->data));
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
