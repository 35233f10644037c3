/*
 * The register page: what the host reads, what its writes mean.
 * Source: NVM Express Base Specification 1.4, section 3.1.
 */
#include "nvme_ep/nvme_ep_priv.h"
#include "spec/handover.h"

static void reg32_publish(struct nvme_ep *ep, uint32_t offset, uint32_t value)
{
    /* REGS (release): what the value says already holds; pairs with the host's read. */
    shm_store32_release(ep->pcie->regs + offset, value);
}

static void reg64_publish(struct nvme_ep *ep, uint32_t offset, uint64_t value)
{
    shm_store64_release(ep->pcie->regs + offset, value);
}

void nvme_ep_csts_set(struct nvme_ep *ep, uint32_t clear, uint32_t set)
{
    ep->csts = (ep->csts & ~clear) | set;
    reg32_publish(ep, NVME_REG_CSTS, ep->csts);
}

static uint32_t shst_prep(uint32_t shst)
{
    return (uint32_t)FIELD_PREP(NVME_CSTS_SHST, shst);
}

#define CSTS_SHST_MASK shst_prep((uint32_t)FIELD_MASK(NVME_CSTS_SHST))

void nvme_ep_shst_set(struct nvme_ep *ep, uint32_t shst)
{
    nvme_ep_csts_set(ep, CSTS_SHST_MASK, shst_prep(shst));
}

static uint64_t cap_value(const struct nvme_ep_config *config)
{
    uint64_t cap = FIELD_PREP(NVME_CAP_MQES, LIMIT_QUEUE_ENTRIES - 1) | NVME_CAP_CQR |
                   FIELD_PREP(NVME_CAP_TO, config->ready_timeout_500ms) |
                   FIELD_PREP(NVME_CAP_DSTRD, config->dstrd) |
                   FIELD_PREP(NVME_CAP_CSS, NVME_CAP_CSS_NVM);

    if (config->weighted_round_robin) {
        cap |= FIELD_PREP(NVME_CAP_AMS, NVME_CAP_AMS_WRR);
    }
    if (config->subsystem_reset) {
        cap |= NVME_CAP_NSSRS;
    }
    return cap;
}

/* Which bits the host can change, for each register up to the reserved ones. */
static void registers_protect(struct nvme_ep *ep)
{
    static const struct {
        uint32_t offset;
        uint32_t writable;
    } masks[] = {
        {NVME_REG_CAP, 0},
        {NVME_REG_CAP + 4, 0},
        {NVME_REG_VS, 0},
        {NVME_REG_INTMS, 0},
        {NVME_REG_INTMC, 0},
        {NVME_REG_CC, NVME_CC_WRITABLE},
        {NVME_REG_CSTS, 0},
        {NVME_REG_NSSR, 0},
        {NVME_REG_AQA, 0x0fff0fffu},
        {NVME_REG_ASQ, 0xfffff000},
        {NVME_REG_ASQ + 4, 0xffffffff},
        {NVME_REG_ACQ, 0xfffff000},
        {NVME_REG_ACQ + 4, 0xffffffff},
    };

    for (uint32_t i = 0; i < ARRAY_SIZE(masks); i++) {
        pcie_ep_reg_protect(ep->pcie, masks[i].offset, masks[i].writable);
    }
}

/* As after power-on (7.3.2): what a Controller Level Reset by other means than CC.EN leaves. */
void nvme_ep_registers_reset(struct nvme_ep *ep)
{
    ep->cc = 0;
    ep->aqa = 0;
    ep->asq = 0;
    ep->acq = 0;
    reg32_publish(ep, NVME_REG_CC, 0);
    reg32_publish(ep, NVME_REG_AQA, 0);
    reg64_publish(ep, NVME_REG_ASQ, 0);
    reg64_publish(ep, NVME_REG_ACQ, 0);
}

static uint64_t low_set(uint64_t reg, uint32_t value)
{
    return (reg & ~UINT64_C(0xffffffff)) | (value & 0xfffff000u);
}

static uint64_t high_set(uint64_t reg, uint32_t value)
{
    return (reg & 0xffffffffu) | (uint64_t)value << 32;
}

void nvme_ep_register_written(struct nvme_ep *ep, uint32_t offset, uint32_t value)
{
    switch (offset) {
    case NVME_REG_CC:
        ep->cc = value & NVME_CC_WRITABLE;
        break;
    case NVME_REG_CSTS:
        if ((value & NVME_CSTS_NSSRO) != 0) { /* 3.1.6: written 1 to clear */
            nvme_ep_csts_set(ep, NVME_CSTS_NSSRO, 0);
        }
        break;
    case NVME_REG_NSSR:
        if (value == NVME_NSSR_MAGIC && ep->config.subsystem_reset) {
            ep->must_reset = true;
            ep->is_subsystem_reset = true;
        }
        break;
    case NVME_REG_AQA:
        ep->aqa = value;
        break;
    case NVME_REG_ASQ:
        ep->asq = low_set(ep->asq, value);
        break;
    case NVME_REG_ASQ + 4:
        ep->asq = high_set(ep->asq, value);
        break;
    case NVME_REG_ACQ:
        ep->acq = low_set(ep->acq, value);
        break;
    case NVME_REG_ACQ + 4:
        ep->acq = high_set(ep->acq, value);
        break;
    default:
        break; /* read only, or reserved */
    }
}

uint64_t nvme_ep_cap(const struct nvme_ep *ep)
{
    return cap_value(&ep->config);
}

/* What never changes while we live. */
static void constants_publish(struct nvme_ep *ep)
{
    ep->cap = cap_value(&ep->config);
    reg64_publish(ep, NVME_REG_CAP, ep->cap);
    reg32_publish(ep, NVME_REG_VS, NVME_VERSION_1_4);
    reg32_publish(ep, NVME_REG_INTMS, 0);
    reg32_publish(ep, NVME_REG_INTMC, 0);
    reg32_publish(ep, NVME_REG_NSSR, 0);
    registers_protect(ep);
}

bool nvme_ep_registers_start(struct nvme_ep *ep)
{
    const uint8_t *regs = ep->pcie->regs;
    uint32_t cc = shm_load32_acquire(regs + NVME_REG_CC);
    uint32_t csts = shm_load32_acquire(regs + NVME_REG_CSTS);
    bool is_served = (cc & NVME_CC_EN) != 0 && (csts & NVME_CSTS_RDY) != 0;

    ep->aqa = shm_load32(regs + NVME_REG_AQA);
    ep->asq = shm_load64(regs + NVME_REG_ASQ) & ~UINT64_C(0xfff);
    ep->acq = shm_load64(regs + NVME_REG_ACQ) & ~UINT64_C(0xfff);
    ep->cc = is_served ? cc & NVME_CC_WRITABLE : 0;
    nvme_ep_csts_set(ep, ~UINT32_C(0), is_served ? NVME_CSTS_RDY | NVME_CSTS_CFS : 0);
    constants_publish(ep);
    return is_served;
}

void nvme_ep_registers_restore(struct nvme_ep *ep, const struct handover_function *saved)
{
    ep->cc = saved->cc;
    ep->csts = saved->csts; /* as the page has it */
    ep->aqa = saved->aqa;
    ep->asq = saved->asq;
    ep->acq = saved->acq;
    constants_publish(ep);
}
