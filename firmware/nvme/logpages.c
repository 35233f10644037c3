/*
 * Get Log Page (5.14): error information, SMART, firmware slot, changed namespaces, effects.
 *
 * SMART tells what is known: counts since power-on; no temperature (there is no sensor: 0 K), no
 * wear (no medium of our own: nothing used, all spare), no unsafe shutdowns (nothing is kept over
 * power-off that could tell).
 * Source: NVM Express Base Specification 1.4.
 */
#include <string.h>
#include "hal/clock.h"
#include "nvme/nvme_priv.h"

/* --- pages: each fills the zeroed scratch buffer -------------------------------------------- */

static void fill_error(struct nvme_ctrl *ctrl)
{
    nvme_error_log_read(ctrl, (struct nvme_error_entry *)(void *)ctrl->scratch);
}

struct totals {
    uint64_t read_count;
    uint64_t write_count;
    uint64_t read_bytes;
    uint64_t write_bytes;
};

static void totals_add(struct totals *totals, const struct blk_stats *stats)
{
    totals->read_count += counter_get(&stats->read_count);
    totals->write_count += counter_get(&stats->write_count);
    totals->read_bytes += counter_get(&stats->read_bytes);
    totals->write_bytes += counter_get(&stats->write_bytes);
}

/* Thousands of 512 bytes, rounded up (figure 194). */
static uint64_t data_units(uint64_t bytes)
{
    return (bytes / 512 + 999) / 1000;
}

static void fill_smart(struct nvme_ctrl *ctrl)
{
    struct nvme_smart_log *log = (struct nvme_smart_log *)(void *)ctrl->scratch;
    struct totals totals = {0};

    totals_add(&totals, &ctrl->retired);
    for (uint32_t i = 0; i < ctrl->ns_count; i++) {
        if (ctrl->slots[i].state == NVME_NS_STATE_FREE) {
            continue;
        }
        for (uint32_t c = 0; c < LIMIT_CORES; c++) {
            totals_add(&totals, &ctrl->ns[i].core[c].stats);
        }
    }
    log->available_spare_percent = 100;
    log->data_units_read[0] = data_units(totals.read_bytes);
    log->data_units_written[0] = data_units(totals.write_bytes);
    log->host_read_commands[0] = totals.read_count;
    log->host_write_commands[0] = totals.write_count;
    log->power_cycles[0] = 1; /* this one: none before it is remembered */
    log->power_on_hours[0] = (clock_now_ns() - ctrl->start_ns) / (3600 * NS_PER_S);
    log->media_errors[0] = atomic_load_explicit(&ctrl->media_error_count, memory_order_relaxed);
    log->error_entries[0] = atomic_load_explicit(&ctrl->error_count, memory_order_relaxed);
}

static void fill_firmware(struct nvme_ctrl *ctrl)
{
    struct nvme_firmware_log *log = (struct nvme_firmware_log *)(void *)ctrl->scratch;

    log->afi = 1;
    memcpy(log->revision[0], ctrl->firmware, sizeof(log->revision[0]));
}

/* 5.14.1.4: at most 1,024 identifiers, which is all that there can be. */
static void fill_changed_ns(struct nvme_ctrl *ctrl)
{
    struct nvme_changed_ns_log *log = (struct nvme_changed_ns_log *)(void *)ctrl->scratch;
    uint32_t count = 0;

    _Static_assert(LIMIT_NAMESPACES <= ARRAY_SIZE(log->nsid), "the list cannot overflow");
    for (uint32_t i = 0; i < LIMIT_NAMESPACES; i++) {
        if ((ctrl->changed_ns[i / 64] >> i % 64 & 1) != 0) {
            log->nsid[count++] = i + 1;
        }
    }
}

static void fill_effects(struct nvme_ctrl *ctrl)
{
    struct nvme_effects_log *log = (struct nvme_effects_log *)(void *)ctrl->scratch;
    uint32_t features = nvme_ns_common_features(ctrl);

    for (uint32_t opcode = 0; opcode < 256; opcode++) {
        const struct nvme_op *admin = nvme_admin_op(ctrl, (uint8_t)opcode);
        const struct nvme_op *io = nvme_io_op((uint8_t)opcode);
        if (admin != NULL) {
            log->admin[opcode] = NVME_EFFECT_SUPPORTED | admin->effects;
        }
        if (io != NULL && (io->blk_features & ~features) == 0) {
            log->io[opcode] = NVME_EFFECT_SUPPORTED | io->effects;
        }
    }
}

static void fill_vendor(struct nvme_ctrl *ctrl)
{
    _Static_assert(NVME_VENDOR_BYTES <= sizeof(ctrl->scratch), "the page fits");
    ctrl->config.vendor->log(ctrl->config.fn, ctrl->scratch);
}

/* --- the command ---------------------------------------------------------------------------- */

struct log_page {
    void (*fill)(struct nvme_ctrl *ctrl);
    uint32_t len_bytes;
};

static const struct log_page log_pages[] = {
    [NVME_LOG_ERROR] = {fill_error, NVME_ERROR_ENTRIES * sizeof(struct nvme_error_entry)},
    [NVME_LOG_SMART] = {fill_smart, sizeof(struct nvme_smart_log)},
    [NVME_LOG_FIRMWARE_SLOT] = {fill_firmware, sizeof(struct nvme_firmware_log)},
    [NVME_LOG_CHANGED_NS] = {fill_changed_ns, sizeof(struct nvme_changed_ns_log)},
    [NVME_LOG_EFFECTS] = {fill_effects, sizeof(struct nvme_effects_log)},
};
_Static_assert(NVME_ERROR_ENTRIES * sizeof(struct nvme_error_entry) <= NVME_IDENTIFY_BYTES,
               "every page fits the scratch buffer");

/* NULL: there is no such page. */
static const struct log_page *log_page_find(const struct nvme_ctrl *ctrl, uint32_t lid)
{
    static const struct log_page vendor = {fill_vendor, NVME_VENDOR_BYTES};

    if (lid == NVME_LOG_VENDOR) {
        return ctrl->config.vendor != NULL ? &vendor : NULL;
    }
    return lid < ARRAY_SIZE(log_pages) && log_pages[lid].fill != NULL ? &log_pages[lid] : NULL;
}

/* 5.14: page, namespace, offset. Returns 0, or the status and where it lies. */
static nvme_status_t log_check(const struct nvme_cmd *cmd, const struct log_page *page,
                               uint16_t *location)
{
    const struct nvme_sqe *sqe = &cmd->blk.cmd;
    uint64_t offset = (uint64_t)sqe->cdw13 << 32 | sqe->cdw12;

    if (page == NULL) {
        *location = NVME_AT_CDW10;
        return NVME_SC_INVALID_LOG_PAGE;
    }
    if (sqe->nsid != 0 && sqe->nsid != NVME_NSID_ALL) {
        *location = NVME_AT_NSID; /* all pages are the controller's: LPA bit 0 is clear */
        return NVME_SC_INVALID_FIELD;
    }
    if (!is_aligned(offset, 4) || offset > page->len_bytes) {
        *location = NVME_AT_CDW12;
        return NVME_SC_INVALID_FIELD;
    }
    return NVME_SC_SUCCESS;
}

void nvme_admin_get_log_page(struct nvme_cmd *cmd)
{
    struct nvme_ctrl *ctrl = cmd->ctrl;
    const struct nvme_sqe *sqe = &cmd->blk.cmd;
    uint32_t lid = (uint32_t)FIELD_GET(NVME_LOG_LID, sqe->cdw10);
    uint64_t dwords = (FIELD_GET(NVME_LOG_NUMDU, sqe->cdw11) << NVME_LOG_NUMDL_BITS |
                       FIELD_GET(NVME_LOG_NUMDL, sqe->cdw10)) +
                      1;
    const struct log_page *page = log_page_find(ctrl, lid);
    uint16_t location;

    nvme_status_t status = log_check(cmd, page, &location);
    if (status == 0 && dwords * 4 > ctrl->mdts_bytes) {
        status = NVME_SC_INVALID_FIELD;
        location = NVME_ERROR_LOCATION(42, 0);
    }
    if (status != 0) {
        nvme_fail(cmd, status, location);
        return;
    }
    memset(ctrl->scratch, 0, sizeof(ctrl->scratch));
    page->fill(ctrl);
    if (!nvme_admin_reply(cmd, sqe->cdw12, page->len_bytes, (uint32_t)dwords * 4)) {
        return;
    }
    if ((sqe->cdw10 & NVME_LOG_RAE) == 0) {
        if (lid == NVME_LOG_CHANGED_NS) {
            memset(ctrl->changed_ns, 0, sizeof(ctrl->changed_ns));
        }
        nvme_events_log_read(ctrl, (uint8_t)lid);
    }
    nvme_admin_end(cmd, NVME_SC_SUCCESS, 0);
}
