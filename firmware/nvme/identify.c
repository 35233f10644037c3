/*
 * Identify (5.15): what the controller and its namespaces are.
 *
 * Namespace management is not offered, so FFFFFFFFh names no namespace here. One controller per
 * subsystem. Leaves out: NVM sets (04h), virtualization (14h, 15h), granularity (16h), UUID list
 * (17h). Source: NVM Express Base Specification 1.4.
 */
#include <string.h>
#include "base/assert.h"
#include "nvme/nvme_priv.h"

_Static_assert(sizeof(struct nvme_identify_ctrl) == sizeof(((struct nvme_ctrl *)0)->scratch) &&
                   sizeof(struct nvme_identify_ns) == sizeof(((struct nvme_ctrl *)0)->scratch),
               "every structure fills the scratch buffer");

/* --- controller ----------------------------------------------------------------------------- */

/* ONCS bits 0 to 3, 5 and 7 promise for every namespace: what all that are active now can do. A
 * namespace that comes later and cannot answers Invalid Opcode. Dataset Management is advisory:
 * always there. */
static uint16_t oncs(struct nvme_ctrl *ctrl)
{
    uint32_t features = nvme_ns_common_features(ctrl);

    return (uint16_t)(NVME_ONCS_DSM | NVME_ONCS_FEATURE_SELECT | NVME_ONCS_TIMESTAMP |
                      ((features & BLK_FEATURE_COMPARE) != 0 ? NVME_ONCS_COMPARE : 0) |
                      ((features & BLK_FEATURE_WRITE_ZEROES) != 0 ? NVME_ONCS_WRITE_ZEROES : 0) |
                      ((features & BLK_FEATURE_VERIFY) != 0 ? NVME_ONCS_VERIFY : 0) |
                      ((features & BLK_FEATURE_RESERVATIONS) != 0 ? NVME_ONCS_RESERVATIONS : 0));
}

static uint32_t units_of_4_kib(uint32_t bytes)
{
    return bytes / 4096 + (bytes % 4096 != 0);
}

static void identify_ctrl(struct nvme_ctrl *ctrl, struct nvme_identify_ctrl *id)
{
    const struct nvme_ctrl_config *config = &ctrl->config;
    bool has_firmware = nvme_firmware_is_offered(ctrl);

    id->vid = config->pci_vendor_id;
    id->ssvid = config->pci_subsystem_vendor_id;
    memcpy(id->sn, ctrl->serial, sizeof(id->sn));
    memcpy(id->mn, ctrl->model, sizeof(id->mn));
    memcpy(id->fr, ctrl->firmware, sizeof(id->fr));
    id->rab = NVME_ARBITRATION_BURST_DEFAULT;
    memcpy(id->ieee, config->ieee_oui, sizeof(id->ieee));
    id->mdts = config->mdts;
    id->cntlid = config->cntlid;
    id->ver = NVME_VERSION_1_4;
    id->rtd3e_us = NVME_RTD3E_MS * 1000;
    id->oaes = NVME_OAES_NS_ATTRIBUTE | (has_firmware ? NVME_OAES_FIRMWARE : 0);
    id->ctratt = nvme_host_id_is_known(ctrl) ? NVME_CTRATT_HOST_ID_128 : 0;
    id->cntrltype = NVME_CTRLTYPE_IO;

    id->oacs =
        (nvme_admin_op(ctrl, NVME_ADMIN_DOORBELL_BUFFER_CONFIG) != NULL ? NVME_OACS_DOORBELL_BUFFERS
                                                                        : 0) |
        (has_firmware ? NVME_OACS_FIRMWARE : 0);
    id->acl = NVME_ACL;
    id->aerl = LIMIT_AERS - 1;
    id->frmw = NVME_FRMW_SLOT1_RO | 1u << NVME_FRMW_SLOTS_SHIFT;
    if (has_firmware) {
        id->frmw = (uint8_t)(config->firmware_ops->slot_count << NVME_FRMW_SLOTS_SHIFT);
        id->fwug = 1;
        if (config->firmware_ops->activate != NULL &&
            (config->firmware_ops->can_activate == NULL ||
             config->firmware_ops->can_activate(config->firmware_ctx))) {
            id->frmw |= NVME_FRMW_WITHOUT_RESET;
            id->mtfa = NVME_MTFA_100MS;
        }
    }
    id->lpa = NVME_LPA_EFFECTS | NVME_LPA_EXTENDED_DATA;
    id->elpe = NVME_ERROR_ENTRIES - 1;
    if (nvme_host_memory_is_offered(ctrl)) {
        id->hmpre = units_of_4_kib(config->hmb_preferred_bytes);
        id->hmmin = units_of_4_kib(config->hmb_min_bytes);
        id->hmmaxd = LIMIT_HMB_PIECES;
    }
    id->wctemp_kelvin = NVME_WCTEMP_KELVIN;
    id->cctemp_kelvin = NVME_CCTEMP_KELVIN;
    id->kas = config->keep_alive ? NVME_KAS : 0;

    id->avscc = config->vendor != NULL ? 1 : 0;
    id->sqes = NVME_IOSQES << 4 | NVME_IOSQES;
    id->cqes = NVME_IOCQES << 4 | NVME_IOCQES;
    id->nn = ctrl->ns_count;
    id->oncs = oncs(ctrl);
    id->vwc = NVME_VWC_PRESENT | NVME_VWC_FLUSH_ALL;
    id->sgls = config->sgl ? NVME_SGLS_SUPPORTED | config->sgls : 0;
    memcpy(id->subnqn, ctrl->subnqn, sizeof(ctrl->subnqn));
}

/* --- namespaces ----------------------------------------------------------------------------- */

static bool is_zero(const uint8_t *bytes, size_t len_bytes)
{
    for (size_t i = 0; i < len_bytes; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

/* A namespace needs a name that lasts. Where its device has none, one is made of the subsystem's
 * name and the NSID: 64 bits of FNV-1a, our OUI, NSID; so it is as unique as the subsystem's name.
 */
static void nguid_derive(const struct nvme_ctrl *ctrl, uint32_t nsid, uint8_t nguid[16])
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (const char *c = ctrl->subnqn; *c != '\0'; c++) {
        hash = (hash ^ (uint8_t)*c) * UINT64_C(0x100000001b3);
    }
    for (uint32_t i = 0; i < 8; i++) {
        nguid[i] = (uint8_t)(hash >> (56 - 8 * i));
    }
    for (uint32_t i = 0; i < 3; i++) {
        nguid[8 + i] = ctrl->config.ieee_oui[2 - i]; /* NGUID is big endian */
    }
    nguid[11] = 1; /* never all zero, whatever the OUI */
    for (uint32_t i = 0; i < 4; i++) {
        nguid[12 + i] = (uint8_t)(nsid >> (24 - 8 * i));
    }
}

/* The NGUID, or all zero when the device has another name. */
static void nguid_get(const struct nvme_ctrl *ctrl, uint32_t nsid,
                      const struct blk_geometry *geometry, uint8_t nguid[16])
{
    memcpy(nguid, geometry->nguid, 16);
    if (is_zero(nguid, 16) && is_zero(geometry->eui64, sizeof(geometry->eui64)) &&
        is_zero(geometry->uuid, sizeof(geometry->uuid))) {
        nguid_derive(ctrl, nsid, nguid);
    }
}

/* A count of blocks in a zeroes based field of 16 bits; 0, not reported, is there the least. */
static uint16_t zeroes_based(uint32_t count)
{
    return count == 0 ? 0 : (uint16_t)min_u32(count - 1, UINT16_MAX);
}

/* 6.4: no atomic size is above its boundary. */
static uint32_t within(uint32_t count, uint32_t boundary)
{
    return boundary == 0 ? count : min_u32(count, boundary);
}

/* 5.15.2.2, 6.4, 8.25. What the device does not report is one block, or nothing, as the
 * specification has it for a zero; AWUN and AWUPF of the controller are one block. ACWU and NACWU
 * speak of Compare and Write, which is not offered (FUSES): 0. */
static void identify_limits(const struct blk_limits *limits, struct nvme_identify_ns *id)
{
    if ((limits->atomic_write | limits->atomic_write_power_fail) != 0) {
        id->nsfeat |= NVME_NSFEAT_ATOMICS;
    }
    uint32_t atomic = within(limits->atomic_write, limits->atomic_boundary);
    uint32_t power_fail =
        within(limits->atomic_write_power_fail, limits->atomic_boundary_power_fail);
    id->nawun = zeroes_based(atomic);
    id->nawupf = zeroes_based(min_u32(power_fail, atomic)); /* AWUPF is not above AWUN */
    id->nabsn = zeroes_based(limits->atomic_boundary);
    id->nabspf = zeroes_based(limits->atomic_boundary_power_fail);
    id->noiob = limits->optimal_boundary <= UINT16_MAX ? (uint16_t)limits->optimal_boundary : 0;
    if ((limits->preferred_write | limits->preferred_write_align | limits->preferred_dealloc |
         limits->preferred_dealloc_align | limits->optimal_write) != 0) {
        id->nsfeat |= NVME_NSFEAT_PREFERRED;
    }
    id->npwg = zeroes_based(limits->preferred_write);
    id->npwa = zeroes_based(limits->preferred_write_align);
    id->npdg = zeroes_based(limits->preferred_dealloc);
    id->npda = zeroes_based(limits->preferred_dealloc_align);
    id->nows = zeroes_based(limits->optimal_write);
}

static void identify_ns(struct nvme_ctrl *ctrl, uint32_t nsid, struct nvme_identify_ns *id)
{
    const struct blk_geometry *geometry = &ctrl->ns[nsid - 1].dev->geometry;
    uint64_t bytes = geometry->lba_count << geometry->lba_shift;

    if (!geometry->known) {
        return; /* allocated, size unknown: nothing to say but that it is there */
    }
    id->nsze = geometry->lba_count;
    id->ncap = geometry->lba_count;
    id->nuse = geometry->lba_count;
    memcpy(id->nvmcap, &bytes, sizeof(bytes));
    id->nsattr =
        (geometry->features & BLK_FEATURE_READ_ONLY) != 0 ? NVME_NSATTR_WRITE_PROTECTED : 0;
    if ((nvme_ns_features(ctrl, geometry) & BLK_FEATURE_RESERVATIONS) != 0) {
        id->rescap = geometry->reservation_types;
    }
    identify_limits(&geometry->limits, id);
    nguid_get(ctrl, nsid, geometry, id->nguid);
    memcpy(id->eui64, geometry->eui64, sizeof(id->eui64));
    id->lbaf[0].lba_shift = geometry->lba_shift;
}

static uint8_t *descriptor_add(uint8_t *at, enum nvme_nidt type, const uint8_t *id,
                               uint8_t len_bytes)
{
    if (is_zero(id, len_bytes)) {
        return at;
    }
    struct nvme_ns_descriptor head = {.nidt = (uint8_t)type, .nidl_bytes = len_bytes};
    memcpy(at, &head, sizeof(head));
    memcpy(at + sizeof(head), id, len_bytes);
    return at + sizeof(head) + len_bytes;
}

static void identify_descriptors(struct nvme_ctrl *ctrl, uint32_t nsid)
{
    const struct blk_geometry *geometry = &ctrl->ns[nsid - 1].dev->geometry;
    uint8_t *at = ctrl->scratch;
    uint8_t nguid[16];

    nguid_get(ctrl, nsid, geometry, nguid);
    at = descriptor_add(at, NVME_NIDT_EUI64, geometry->eui64, sizeof(geometry->eui64));
    at = descriptor_add(at, NVME_NIDT_NGUID, nguid, sizeof(nguid));
    at = descriptor_add(at, NVME_NIDT_UUID, geometry->uuid, sizeof(geometry->uuid));
    ASSERT(at > ctrl->scratch); /* 5.15.2.3: at least one */
}

/* Identifiers above `after`, ascending. */
static void identify_list(struct nvme_ctrl *ctrl, uint32_t after, bool allocated)
{
    uint8_t *at = ctrl->scratch;
    uint32_t room = NVME_NS_LIST_ENTRIES;

    for (uint32_t nsid = after + 1; nsid <= ctrl->ns_count && room != 0; nsid++) {
        if (allocated ? nvme_ns_slot_find(ctrl, nsid) != NULL : nvme_ns_find(ctrl, nsid) != NULL) {
            memcpy(at, &nsid, sizeof(nsid));
            at += sizeof(nsid);
            room--;
        }
    }
}

static void identify_ctrl_list(struct nvme_ctrl *ctrl, uint32_t from_cntlid)
{
    uint16_t list[2] = {0, 0}; /* count, then identifiers (4.9) */

    if (ctrl->config.cntlid >= from_cntlid) {
        list[0] = 1;
        list[1] = ctrl->config.cntlid;
    }
    memcpy(ctrl->scratch, list, sizeof(list));
}

/* --- the command ---------------------------------------------------------------------------- */

static bool nsid_is_valid(const struct nvme_ctrl *ctrl, uint32_t nsid)
{
    return nsid != 0 && nsid <= ctrl->ns_count;
}

/* Fills the zeroed scratch buffer. Returns the whole status and where it lies if it is bad. */
static nvme_status_t identify_fill(struct nvme_ctrl *ctrl, const struct nvme_sqe *sqe,
                                   uint16_t *location)
{
    uint32_t nsid = sqe->nsid;
    uint32_t cntid = (uint32_t)FIELD_GET(NVME_IDENTIFY_CNTID, sqe->cdw10);
    uint8_t cns = (uint8_t)FIELD_GET(NVME_IDENTIFY_CNS, sqe->cdw10);

    *location = NVME_AT_NSID;
    switch (cns) {
    case NVME_CNS_CTRL:
        identify_ctrl(ctrl, (struct nvme_identify_ctrl *)(void *)ctrl->scratch);
        return NVME_SC_SUCCESS;
    case NVME_CNS_NS:
    case NVME_CNS_ALLOCATED_NS:
        if (!nsid_is_valid(ctrl, nsid)) {
            return NVME_SC_INVALID_NS_OR_FORMAT | NVME_STATUS_DNR;
        }
        if (cns == NVME_CNS_NS ? nvme_ns_find(ctrl, nsid) != NULL
                               : nvme_ns_slot_find(ctrl, nsid) != NULL) {
            identify_ns(ctrl, nsid, (struct nvme_identify_ns *)(void *)ctrl->scratch);
        }
        return NVME_SC_SUCCESS; /* of one that is not there: zeroes (figure 244) */
    case NVME_CNS_ACTIVE_NS_LIST:
    case NVME_CNS_ALLOCATED_NS_LIST:
        if (nsid >= NVME_NSID_ALL - 1) {
            return NVME_SC_INVALID_NS_OR_FORMAT | NVME_STATUS_DNR;
        }
        identify_list(ctrl, nsid, cns == NVME_CNS_ALLOCATED_NS_LIST);
        return NVME_SC_SUCCESS;
    case NVME_CNS_NS_DESCRIPTORS:
        if (nvme_ns_find(ctrl, nsid) == NULL) {
            return nsid >= NVME_NSID_ALL - 1 ? NVME_SC_INVALID_NS_OR_FORMAT | NVME_STATUS_DNR
                                             : nvme_ns_refusal(ctrl, nsid);
        }
        identify_descriptors(ctrl, nsid);
        return NVME_SC_SUCCESS;
    case NVME_CNS_NS_CTRL_LIST:
        if (!nsid_is_valid(ctrl, nsid)) {
            return nvme_ns_refusal(ctrl, nsid);
        }
        if (nvme_ns_find(ctrl, nsid) != NULL) {
            identify_ctrl_list(ctrl, cntid);
        }
        return NVME_SC_SUCCESS;
    case NVME_CNS_CTRL_LIST:
        identify_ctrl_list(ctrl, cntid);
        return NVME_SC_SUCCESS;
    default:
        *location = NVME_AT_CDW10;
        return NVME_SC_INVALID_FIELD | NVME_STATUS_DNR;
    }
}

void nvme_admin_identify(struct nvme_cmd *cmd)
{
    struct nvme_ctrl *ctrl = cmd->ctrl;
    uint16_t location;

    memset(ctrl->scratch, 0, sizeof(ctrl->scratch));
    nvme_status_t status = identify_fill(ctrl, &cmd->blk.cmd, &location);
    if (status != 0) {
        cmd->error_location = location;
        nvme_end(cmd, status);
        return;
    }
    if (nvme_admin_reply(cmd, 0, NVME_IDENTIFY_BYTES, NVME_IDENTIFY_BYTES)) {
        nvme_admin_end(cmd, NVME_SC_SUCCESS, 0);
    }
}
