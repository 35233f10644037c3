/*
 * The register page and the doorbells of a link: what the host reads and writes in BAR0.
 * Source: NVM Express Base Specification 1.4, section 3.
 */
#include "hal/native/vfu/vfu_link_priv.h"

#include <string.h>
#include "base/bits.h"
#include "base/shm.h"
#include "spec/nvme.h"

#define STRAP_TIMEOUT_500MS 40u /* CAP.TO: 20 s, enough for a NIC that boots first */
#define AQA_WRITABLE        0x0fff0fffu
#define QUEUE_BASE_WRITABLE 0xfffff000u /* of the low half of ASQ and ACQ */

static uint32_t reg_read(const struct vfu_link *link, uint32_t offset)
{
    return shm_load32_acquire(link->regs + offset);
}

static void reg_publish(struct vfu_link *link, uint32_t offset, uint32_t value)
{
    shm_store32_release(link->regs + offset, value);
}

void vfu_link_regs_strap(struct vfu_link *link)
{
    uint64_t cap =
        FIELD_PREP(NVME_CAP_MQES, LIMIT_QUEUE_ENTRIES - 1) | NVME_CAP_CQR |
        FIELD_PREP(NVME_CAP_AMS, NVME_CAP_AMS_WRR) | FIELD_PREP(NVME_CAP_TO, STRAP_TIMEOUT_500MS) |
        FIELD_PREP(NVME_CAP_DSTRD, link->config.dstrd) | FIELD_PREP(NVME_CAP_CSS, NVME_CAP_CSS_NVM);
    static const struct {
        uint32_t offset;
        uint32_t writable;
    } straps[] = {
        {NVME_REG_CC, NVME_CC_WRITABLE},     {NVME_REG_AQA, AQA_WRITABLE},
        {NVME_REG_ASQ, QUEUE_BASE_WRITABLE}, {NVME_REG_ASQ + 4, UINT32_MAX},
        {NVME_REG_ACQ, QUEUE_BASE_WRITABLE}, {NVME_REG_ACQ + 4, UINT32_MAX},
        /* INTMS, INTMC (set and clear bits) and NSSR (reads as 0) only make events. */
    };

    reg_publish(link, NVME_REG_CAP, (uint32_t)cap);
    reg_publish(link, NVME_REG_CAP + 4, (uint32_t)(cap >> 32));
    reg_publish(link, NVME_REG_VS, UINT32_C(0x00010400));
    for (uint32_t i = 0; i < ARRAY_SIZE(straps); i++) {
        shm_store32(link->masks + straps[i].offset, straps[i].writable);
    }
}

void vfu_link_regs_reset(struct vfu_link *link)
{
    for (uint32_t offset = 0; offset < LINK_REG_BYTES; offset += 4) {
        uint32_t writable = shm_load32(link->masks + offset);
        if (writable != 0) {
            reg_publish(link, offset, reg_read(link, offset) & ~writable);
        }
    }
    reg_publish(link, NVME_REG_CSTS, 0);
    for (uint32_t offset = 0; offset < LINK_DOORBELL_BYTES; offset += 4) {
        shm_store32(link->doorbells + offset, 0);
    }
    link->stale_enable = false;
}

void vfu_link_regs_orphan(struct vfu_link *link)
{
    uint32_t csts = reg_read(link, NVME_REG_CSTS);

    if ((reg_read(link, NVME_REG_CC) & NVME_CC_EN) != 0 && (csts & NVME_CSTS_RDY) != 0) {
        reg_publish(link, NVME_REG_CSTS, csts | NVME_CSTS_CFS);
        link->stale_enable = true;
    }
}

static void event_reg(struct vfu_link *link, uint32_t offset, uint32_t len_bytes, uint64_t value)
{
    (void)vfu_link_event(link, &(struct link_event){.type = LINK_EVENT_REG_WRITE,
                                                    .offset = offset,
                                                    .len_bytes = (uint16_t)len_bytes,
                                                    .value = value});
}

void vfu_link_regs_describe(struct vfu_link *link)
{
    uint32_t cc = reg_read(link, NVME_REG_CC);

    if (link->stale_enable) {
        /* The queues were another NIC's: the host has to disable and enable again. */
        reg_publish(link, NVME_REG_CSTS, reg_read(link, NVME_REG_CSTS) | NVME_CSTS_CFS);
        return;
    }
    if ((cc & NVME_CC_EN) == 0) {
        return;
    }
    event_reg(link, NVME_REG_AQA, 4, reg_read(link, NVME_REG_AQA));
    event_reg(link, NVME_REG_ASQ, 8, shm_load64(link->regs + NVME_REG_ASQ));
    event_reg(link, NVME_REG_ACQ, 8, shm_load64(link->regs + NVME_REG_ACQ));
    event_reg(link, NVME_REG_CC, 4, cc);
}

/* --- reads -------------------------------------------------------------------------------------
 */

void vfu_link_read(struct vfu_link *link, uint32_t offset, uint8_t *to, uint32_t len_bytes)
{
    if (link->failed || link->admin_down) {
        memset(to, 0xff, len_bytes); /* what a read returns that no device completes */
        return;
    }
    memset(to, 0, len_bytes);
    if (offset >= LINK_REG_BYTES) {
        return; /* doorbells: reads are not defined (3.1.16); 0 */
    }
    if (len_bytes == 8 && is_aligned(offset, 8)) {
        uint64_t value = shm_load64_acquire(link->regs + offset);
        memcpy(to, &value, sizeof(value));
    } else if (len_bytes == 4 && is_aligned(offset, 4)) {
        uint32_t value = reg_read(link, offset);
        memcpy(to, &value, sizeof(value));
    } else {
        for (uint32_t i = 0; i < len_bytes && offset + i < LINK_REG_BYTES; i++) {
            to[i] = shm_load8_acquire(link->regs + offset + i);
        }
    }
}

/* --- writes ------------------------------------------------------------------------------------
 */

/* Stores what the host may change. */
static void reg_store(struct vfu_link *link, uint32_t offset, uint32_t value)
{
    uint32_t writable = shm_load32_acquire(link->masks + offset);

    if (writable != 0) {
        reg_publish(link, offset, (reg_read(link, offset) & ~writable) | (value & writable));
    }
}

/* Nobody serves: CSTS follows CC as far as it must, so that no driver waits in vain. */
static void straps_follow_cc(struct vfu_link *link, uint32_t cc)
{
    uint32_t csts = reg_read(link, NVME_REG_CSTS);

    if ((cc & NVME_CC_EN) == 0) {
        csts = 0;
    }
    if (FIELD_GET(NVME_CC_SHN, cc) != 0) {
        csts &= ~(uint32_t)FIELD_PREP(NVME_CSTS_SHST, UINT32_MAX);
        csts |= (uint32_t)FIELD_PREP(NVME_CSTS_SHST, NVME_SHST_COMPLETE);
    }
    reg_publish(link, NVME_REG_CSTS, csts);
}

static void reg_write(struct vfu_link *link, uint32_t offset, uint64_t value, uint32_t len_bytes)
{
    link->stats.reg_write_count++;
    reg_store(link, offset, (uint32_t)value);
    if (len_bytes == 8) {
        reg_store(link, offset + 4, (uint32_t)(value >> 32));
    }
    if (offset == NVME_REG_CC) {
        bool ends_stale = link->stale_enable && (value & NVME_CC_EN) == 0;
        if (!link->nic_ready || ends_stale) {
            straps_follow_cc(link, (uint32_t)value);
        }
        if (ends_stale) {
            link->stale_enable = false;
        }
    }
    event_reg(link, offset, len_bytes, value);
    vfu_link_wake(link, 1);
}

/* Wakes every core that asked for it, after a doorbell was stored. */
static void doorbell_wake(struct vfu_link *link)
{
    uint32_t core_mask = 0;

    /* ARM: doorbell first, then look who sleeps; the NIC arms first, then looks at doorbells. */
    shm_full_barrier();
    for (uint32_t core = 0; core < LINK_CORES; core++) {
        if (shm_load32(&link->nic->core[core].armed) != 0) {
            core_mask |= BIT32(core);
        }
    }
    vfu_link_wake(link, core_mask);
}

static void doorbell_write(struct vfu_link *link, uint32_t offset, uint32_t value)
{
    link->stats.doorbell_count++;
    /* Partner: the acquire load of the tail by the queue's poller; the host's SQEs come before. */
    shm_store32_release(link->doorbells + (offset - LINK_DOORBELL_OFFSET), value);
    doorbell_wake(link);
}

static void write32(struct vfu_link *link, uint32_t offset, uint32_t value)
{
    if (offset < LINK_REG_BYTES) {
        reg_write(link, offset, value, 4);
    } else {
        doorbell_write(link, offset, value);
    }
}

void vfu_link_write(struct vfu_link *link, uint32_t offset, const uint8_t *from, uint32_t len_bytes)
{
    uint64_t value = 0;

    if (link->failed || link->admin_down) {
        return;
    }
    if ((len_bytes != 4 && len_bytes != 8) || !is_aligned(offset, 4) ||
        !range_fits(offset, len_bytes, LINK_MSIX_TABLE_OFFSET)) {
        link->stats.reg_bad_count++; /* 3.1: other widths are not defined; nothing happens */
        return;
    }
    memcpy(&value, from, len_bytes);
    if (len_bytes == 8 && offset < LINK_REG_BYTES && is_aligned(offset, 8)) {
        reg_write(link, offset, value, 8);
        return;
    }
    write32(link, offset, (uint32_t)value);
    if (len_bytes == 8) {
        write32(link, offset + 4, (uint32_t)(value >> 32));
    }
}
