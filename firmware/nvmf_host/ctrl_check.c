/*
 * What a controller says of itself and its namespaces: every number checked before it is kept. The
 * data are a private copy. Leaves out: metadata, protection information, ANA.
 *
 * Source: NVMe Base 1.4, sections 3.1.1, 5.15.2; NVMe over Fabrics 1.1, section 4.1.
 */
#include "base/log.h"
#include "nvmf_host/ctrl_priv.h"

#define FLBAS_INDEX_MASK 0xfu /* FLBAS 3:0 (figure 245) */
#define DPS_TYPE_MASK    7u   /* DPS 2:0 */
#define NVME_VERSION_1_1 0x00010100u
#define NVME_VERSION_2_1 0x00020100u
#define KAS_UNIT_MS      100u

const char *nvmf_check_cap(struct nvmf_ctrl *ctrl, uint64_t cap)
{
    /* 0 is no time at all: take one unit. */
    ctrl->ready_timeout_ns = max_u64(FIELD_GET(NVME_CAP_TO, cap), 1) * 500 * NS_PER_MS;
    ctrl->max_entries = (uint32_t)FIELD_GET(NVME_CAP_MQES, cap) + 1;
    ctrl->caps.max_transfer_bytes = 4096u << FIELD_GET(NVME_CAP_MPSMIN, cap); /* unit of MDTS */
    if ((FIELD_GET(NVME_CAP_CSS, cap) & NVME_CAP_CSS_NVM) == 0) {
        return "no NVM command set";
    }
    return ctrl->max_entries >= 2 ? NULL : "queues of one entry";
}

/* --- controller ----------------------------------------------------------------------------- */

static uint32_t features(const struct nvme_identify_ctrl *id)
{
    static const struct {
        uint16_t oncs;
        uint16_t feature;
    } map[] = {
        {NVME_ONCS_COMPARE, BLK_FEATURE_COMPARE},           {NVME_ONCS_DSM, BLK_FEATURE_DSM},
        {NVME_ONCS_WRITE_ZEROES, BLK_FEATURE_WRITE_ZEROES}, {NVME_ONCS_VERIFY, BLK_FEATURE_VERIFY},
        {NVME_ONCS_RESERVATIONS, BLK_FEATURE_RESERVATIONS},
    };
    uint32_t bits = BLK_FEATURE_FUA;

    if ((id->vwc & NVME_VWC_PRESENT) != 0) {
        bits |= BLK_FEATURE_FLUSH;
    }
    for (uint32_t i = 0; i < ARRAY_SIZE(map); i++) {
        bits |= (id->oncs & map[i].oncs) != 0 ? map[i].feature : 0u;
    }
    return bits;
}

/* Capsules (fabrics 4.1): in-capsule data begin ICDOFF behind the SQE and end with the capsule. */
static const char *take_capsules(struct nvmf_ctrl *ctrl, const struct nvme_identify_ctrl *id)
{
    struct nvmf_identify_ctrl fabrics;

    memcpy(&fabrics, id->reserved1792_fabrics, sizeof(fabrics));
    if (fabrics.ioccsz < NVMF_CMD_CAPSULE_BYTES / NVMF_CAPSULE_UNIT_BYTES || fabrics.iorcsz == 0) {
        return "capsules are too small for commands and answers";
    }
    uint64_t room = (uint64_t)fabrics.ioccsz * NVMF_CAPSULE_UNIT_BYTES - NVMF_CMD_CAPSULE_BYTES;
    uint32_t offset_bytes = (uint32_t)fabrics.icdoff * NVMF_CAPSULE_UNIT_BYTES;
    ctrl->caps.icd_offset_bytes = offset_bytes;
    ctrl->caps.icd_bytes = 0;
    if (room > offset_bytes && !ctrl->config.no_in_capsule && ctrl->caps.sgl_offsets) {
        ctrl->caps.icd_bytes = (uint32_t)min_u64(room - offset_bytes, LIMIT_TRANSFER_BYTES);
    }
    return NULL;
}

static void take_times(struct nvmf_ctrl *ctrl, const struct nvme_identify_ctrl *id)
{
    uint32_t unit_ms = id->kas * KAS_UNIT_MS;
    uint32_t kato_ms = ctrl->config.keep_alive_ms;

    /* 5.21.1.15: the controller rounds up to its granularity. */
    ctrl->caps.kato_ms = (uint32_t)(((uint64_t)kato_ms + unit_ms - 1) / unit_ms) * unit_ms;
    ctrl->caps.tbkas = (id->ctratt & NVMF_CTRATT_TBKAS) != 0;
    ctrl->caps.quiesce_ms = ctrl->config.quiesce_ms;
    if (ctrl->version >= NVME_VERSION_2_1 && id->cqt_ms != 0) {
        ctrl->caps.quiesce_ms = id->cqt_ms;
    }
}

static void take_limits(struct nvmf_ctrl *ctrl, const struct nvme_identify_ctrl *id)
{
    struct nvmf_ctrl_caps *caps = &ctrl->caps;
    uint64_t unit_bytes = caps->max_transfer_bytes;

    caps->max_transfer_bytes = LIMIT_TRANSFER_BYTES;
    if (id->mdts != 0 && id->mdts < LIMIT_MDTS) { /* the unit is at least 4096 */
        caps->max_transfer_bytes = (uint32_t)min_u64(unit_bytes << id->mdts, LIMIT_TRANSFER_BYTES);
    }
    caps->queue_entries = min_u32(ctrl->config.queue_entries, ctrl->max_entries);
    if (id->maxcmd != 0) { /* one command under way needs two entries */
        caps->queue_entries = min_u32(caps->queue_entries, (uint32_t)max_u64(id->maxcmd, 2));
    }
    caps->awun = id->awun + 1u;
    caps->awupf = id->awupf + 1u;
    caps->acwu = (id->fuses & NVME_FUSES_COMPARE_WRITE) != 0 ? id->acwu + 1u : 0;
    caps->abort_count = (uint8_t)min_u32(id->acl + 1u, NVMF_ADMIN_ABORTS);
    caps->aer_count = (uint8_t)min_u32(id->aerl + 1u, LIMIT_AERS);
    caps->events = (id->oaes & NVME_OAES_NS_ATTRIBUTE) != 0 ? NVME_AEC_NS_ATTRIBUTE : 0;
    caps->events |= (id->oaes & NVME_OAES_FIRMWARE) != 0 ? NVME_AEC_FIRMWARE : 0;
}

const char *nvmf_check_ctrl(struct nvmf_ctrl *ctrl, const struct nvme_identify_ctrl *id)
{
    struct nvmf_ctrl_caps *caps = &ctrl->caps;

    if (id->cntrltype > NVME_CTRLTYPE_IO) { /* 0: before 1.4, not told */
        return "no I/O controller";
    }
    if (id->cntlid != ctrl->cntlid) {
        return "its CNTLID is not the one that Connect gave";
    }
    if ((id->sqes & 0xf) > NVME_IOSQES || id->sqes >> 4 < NVME_IOSQES ||
        (id->cqes & 0xf) > NVME_IOCQES || id->cqes >> 4 < NVME_IOCQES) {
        return "queue entries are not of 64 and 16 bytes";
    }
    if ((id->sgls & FIELD_MASK(NVMF_SGLS_SUPPORTED)) == 0 || (id->sgls & NVMF_SGLS_KEYED) == 0) {
        return "no keyed SGLs";
    }
    if (id->kas == 0) {
        return "no Keep Alive";
    }
    caps->sgl_offsets = (id->sgls & NVMF_SGLS_OFFSETS) != 0;
    const char *complaint = take_capsules(ctrl, id);
    if (complaint != NULL) {
        return complaint;
    }
    caps->features = features(id);
    take_times(ctrl, id);
    take_limits(ctrl, id);
    nvmf_text_copy(caps->serial, id->sn, sizeof(id->sn));
    nvmf_text_copy(caps->model, id->mn, sizeof(id->mn));
    nvmf_text_copy(caps->firmware, id->fr, sizeof(id->fr));
    return NULL;
}

/* --- namespaces ----------------------------------------------------------------------------- */

/* 0's based, where 0 stands for the controller's value. */
static uint32_t atomic_size(bool is_told, uint16_t value, uint32_t of_ctrl)
{
    return is_told && value != 0 ? value + 1u : of_ctrl;
}

static void take_blk_limits(struct blk_limits *limits, const struct nvmf_ctrl_caps *caps,
                            const struct nvme_identify_ns *id)
{
    bool has_atomics = (id->nsfeat & NVME_NSFEAT_ATOMICS) != 0;

    *limits = (struct blk_limits){.optimal_boundary = id->noiob};
    /* A boundary that does not begin at block 0 cannot be said: then nothing is promised. */
    if (id->nabo == 0 || (id->nabsn == 0 && id->nabspf == 0)) {
        limits->atomic_write = atomic_size(has_atomics, id->nawun, caps->awun);
        limits->atomic_write_power_fail = atomic_size(has_atomics, id->nawupf, caps->awupf);
        limits->atomic_compare_write =
            caps->acwu != 0 ? atomic_size(has_atomics, id->nacwu, caps->acwu) : 0;
        limits->atomic_boundary = id->nabsn != 0 ? id->nabsn + 1u : 0;
        limits->atomic_boundary_power_fail = id->nabspf != 0 ? id->nabspf + 1u : 0;
    }
    if ((id->nsfeat & NVME_NSFEAT_PREFERRED) != 0) {
        limits->preferred_write = id->npwg + 1u;
        limits->preferred_write_align = id->npwa + 1u;
        limits->preferred_dealloc = id->npdg + 1u;
        limits->preferred_dealloc_align = id->npda + 1u;
        limits->optimal_write = id->nows + 1u;
    }
}

const char *nvmf_check_ns(struct nvmf_ctrl *ctrl, const struct nvme_identify_ns *id)
{
    struct blk_geometry *draft = &ctrl->scan.draft;
    uint32_t index = id->flbas & FLBAS_INDEX_MASK;
    const struct nvme_lba_format *format = &id->lbaf[index];

    if (id->nsze == 0) {
        return "it is not there any more";
    }
    if (index > id->nlbaf || (format->lba_shift != 9 && format->lba_shift != 12)) {
        return "blocks are neither 512 nor 4096 bytes";
    }
    if (format->metadata_bytes != 0 || (id->dps & DPS_TYPE_MASK) != 0) {
        return "formatted with metadata or protection information";
    }
    if (id->nsze > UINT64_MAX >> format->lba_shift) {
        return "its size cannot be";
    }
    *draft = (struct blk_geometry){.lba_count = id->nsze,
                                   .lba_shift = format->lba_shift,
                                   .features = ctrl->caps.features,
                                   .max_transfer_bytes = ctrl->caps.max_transfer_bytes,
                                   .known = true};
    if ((id->nsattr & NVME_NSATTR_WRITE_PROTECTED) != 0) {
        draft->features |= BLK_FEATURE_READ_ONLY;
    }
    if (id->rescap == 0) {
        draft->features &= ~BLK_FEATURE_RESERVATIONS;
    }
    draft->reservation_types = (draft->features & BLK_FEATURE_RESERVATIONS) != 0 ? id->rescap : 0;
    take_blk_limits(&draft->limits, &ctrl->caps, id);
    memcpy(draft->nguid, id->nguid, sizeof(draft->nguid));
    memcpy(draft->eui64, id->eui64, sizeof(draft->eui64));
    return NULL;
}
