/*
 * The model target: Get Log Page with the discovery log (NVMe-oF 1.1, 5.3), and asynchronous events
 * (base specification 5.2).
 */
#include "tests/model/target_priv.h"

#include <stdio.h>
#include <string.h>
#include "base/bits.h"

#define AEC_DISCOVERY BIT32(31)

/* --- events --------------------------------------------------------------------------------- */

static uint32_t event_log(uint32_t dw0)
{
    return (uint32_t)FIELD_GET(NVME_EVENT_LOG, dw0);
}

static bool is_masked(const struct target_ctrl *ctrl, uint32_t dw0)
{
    uint32_t log = event_log(dw0);

    return log == NVMF_LOG_DISCOVERY ? ctrl->is_discovery_masked
                                     : log < 32 && (ctrl->masked & BIT32(log)) != 0;
}

static void set_masked(struct target_ctrl *ctrl, uint32_t log, bool masked)
{
    if (log == NVMF_LOG_DISCOVERY) {
        ctrl->is_discovery_masked = masked;
    } else if (log < 32) {
        ctrl->masked = masked ? ctrl->masked | BIT32(log) : ctrl->masked & ~BIT32(log);
    }
}

static struct target_slot *aer_find(const struct target_ctrl *ctrl)
{
    if (ctrl->admin == NULL) {
        return NULL;
    }
    for (uint32_t i = 0; i < ctrl->admin->entries; i++) {
        if (ctrl->admin->slots[i].state == SLOT_AER) {
            return &ctrl->admin->slots[i];
        }
    }
    return NULL;
}

void target_events_flush(struct target_ctrl *ctrl)
{
    for (uint32_t i = 0; i < ctrl->event_count;) {
        uint32_t dw0 = ctrl->events[i];
        if (is_masked(ctrl, dw0)) {
            i++;
            continue;
        }
        struct target_slot *slot = aer_find(ctrl);
        if (slot == NULL) {
            return;
        }
        ctrl->event_count--;
        memmove(&ctrl->events[i], &ctrl->events[i + 1],
                (ctrl->event_count - i) * sizeof(ctrl->events[0]));
        set_masked(ctrl, event_log(dw0), true);
        ctrl->target->stats.events++;
        slot->state = SLOT_BUSY;
        slot->status = NVME_SC_SUCCESS;
        slot->dw0 = dw0;
        slot->dw1 = 0;
        target_slot_finish(slot);
        i = 0;
    }
}

void target_ctrl_event(struct target_ctrl *ctrl, uint32_t dw0)
{
    for (uint32_t i = 0; i < ctrl->event_count; i++) {
        if (ctrl->events[i] == dw0) {
            return;
        }
    }
    if (ctrl->event_count < TARGET_EVENTS) {
        ctrl->events[ctrl->event_count++] = dw0;
    }
    target_events_flush(ctrl);
}

void target_ctrl_ns_changed(struct target_ctrl *ctrl, uint32_t nsid)
{
    bool is_known = false;

    for (uint32_t i = 0; i < ctrl->changed_count && i < TARGET_CHANGED; i++) {
        is_known |= ctrl->changed[i] == nsid;
    }
    if (!is_known && ctrl->changed_count <= TARGET_CHANGED) {
        if (ctrl->changed_count < TARGET_CHANGED) {
            ctrl->changed[ctrl->changed_count] = nsid;
        }
        ctrl->changed_count++;
    }
    if ((ctrl->aec & NVME_AEC_NS_ATTRIBUTE) != 0) {
        target_ctrl_event(ctrl, NVME_EVENT_NOTICE | NVME_EVENT_NOTICE_NS_ATTRIBUTE << 8 |
                                    (uint32_t)NVME_LOG_CHANGED_NS << NVME_EVENT_LOG_SHIFT);
    }
}

/* --- discovery log -------------------------------------------------------------------------- */

/* Text in a field padded with spaces. */
static void pad(char *to, uint32_t field_bytes, const char *text)
{
    memset(to, ' ', field_bytes);
    memcpy(to, text, min_u64(strlen(text), field_bytes));
}

static void entry_make(const struct target *t, uint32_t index, struct nvmf_discovery_entry *to)
{
    bool is_own = index < t->config.subsystem_count;
    const struct target_referral *referral =
        is_own ? NULL : &t->config.referrals[index - t->config.subsystem_count];
    const struct net_addr *addr = is_own ? &t->config.addr : &referral->addr;
    const char *nqn = is_own ? t->config.subsystems[index].nqn : referral->nqn;
    char text[NET_ADDR_TEXT_BYTES];

    memset(to, 0, sizeof(*to));
    to->trtype = NVMF_TRTYPE_RDMA;
    to->adrfam = net_addr_is_ipv4(addr) ? NVMF_ADRFAM_IPV4 : NVMF_ADRFAM_IPV6;
    to->subtype = strcmp(nqn, NVMF_DISCOVERY_NQN) == 0 ? NVMF_SUBTYPE_REFERRAL : NVMF_SUBTYPE_NVME;
    to->treq = NVMF_TREQ_NO_SQ_FLOW;
    to->portid = 1;
    to->cntlid = NVMF_CNTLID_DYNAMIC;
    to->asqsz = TARGET_ADMIN_ENTRIES;
    snprintf(text, sizeof(text), "%u", (unsigned)(is_own ? t->config.port : referral->port));
    pad(to->trsvcid, sizeof(to->trsvcid), text);
    net_addr_text(addr, text);
    pad(to->traddr, sizeof(to->traddr), text);
    memcpy(to->subnqn, nqn, strlen(nqn)); /* padded with zeroes */
    to->tsas.qptype = 1;
    to->tsas.prtype = 1;
    to->tsas.cms = NVMF_RDMA_CMS_RDMA_CM;
}

/* Bytes [offset, + bytes) of the log. */
static void discovery_log(const struct target *t, uint64_t offset, uint32_t bytes, uint8_t *to)
{
    uint32_t count = t->config.subsystem_count + t->config.referral_count;
    union {
        struct nvmf_discovery_header header;
        struct nvmf_discovery_entry entry;
        uint8_t bytes[sizeof(struct nvmf_discovery_entry)];
    } page;

    memset(to, 0, bytes);
    for (uint64_t done = 0; done < bytes;) {
        uint64_t index = (offset + done) / sizeof(page);
        uint64_t in_page = (offset + done) % sizeof(page);
        uint64_t part = min_u64(bytes - done, sizeof(page) - in_page);
        if (index > count) {
            return;
        }
        memset(&page, 0, sizeof(page));
        if (index == 0) {
            page.header.genctr = t->discovery_generation;
            page.header.numrec = count;
        } else {
            entry_make(t, (uint32_t)index - 1, &page.entry);
        }
        memcpy(to + done, page.bytes + in_page, part);
        done += part;
    }
}

/* --- Get Log Page (5.14) -------------------------------------------------------------------- */

static void changed_log(struct target_slot *slot, uint64_t offset, uint32_t bytes)
{
    struct target_ctrl *ctrl = slot->queue->ctrl;
    uint8_t *to = slot->buf->data;

    memset(to, 0, bytes);
    if (offset == 0) {
        if (ctrl->changed_count > TARGET_CHANGED) {
            memset(to, 0xff, min_u64(bytes, sizeof(uint32_t)));
        } else {
            memcpy(to, ctrl->changed, min_u64(bytes, ctrl->changed_count * sizeof(uint32_t)));
        }
        ctrl->changed_count = 0;
    }
}

void target_get_log(struct target_slot *slot)
{
    struct target_ctrl *ctrl = slot->queue->ctrl;
    const struct nvme_sqe *sqe = &slot->sqe;
    uint32_t log = (uint32_t)FIELD_GET(NVME_LOG_LID, sqe->cdw10);
    uint64_t bytes =
        ((FIELD_GET(NVME_LOG_NUMDU, sqe->cdw11) << 16 | FIELD_GET(NVME_LOG_NUMDL, sqe->cdw10)) +
         1) *
        4;
    uint64_t offset = (uint64_t)sqe->cdw13 << 32 | sqe->cdw12;

    if (!target_len_is(slot, bytes)) {
        return;
    }
    bool is_discovery = ctrl->subsystem == TARGET_DISCOVERY;
    if (offset % 4 != 0) {
        slot->status = NVME_SC_INVALID_FIELD | DNR;
        return;
    }
    if (is_discovery && log == NVMF_LOG_DISCOVERY) {
        discovery_log(slot->queue->target, offset, (uint32_t)bytes, slot->buf->data);
    } else if (!is_discovery && log == NVME_LOG_CHANGED_NS) {
        changed_log(slot, offset, (uint32_t)bytes);
    } else if (log == NVME_LOG_ERROR ||
               (!is_discovery && (log == NVME_LOG_SMART || log == NVME_LOG_FIRMWARE_SLOT))) {
        memset(slot->buf->data, 0, bytes);
    } else {
        slot->status = NVME_SC_INVALID_LOG_PAGE | DNR;
        return;
    }
    if ((sqe->cdw10 & NVME_LOG_RAE) == 0) {
        set_masked(ctrl, log, false);
        target_events_flush(ctrl);
    }
}
