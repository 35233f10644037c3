/*
 * NVMe's firmware commands over update/update.h, and activation: a host commits an image, resets
 * its controller, and finds the new firmware when it enables it again.
 *
 * An activation without a reset is app/handover.c's. With one, the board is restarted when the
 * reset has disabled the last function: while another host's
 * controller is in use the new image waits for a reset that leaves none. A function that is
 * disabled here does not become ready any more, so its host's next enable meets the firmware that
 * comes; to the host that is a controller that takes its time, within CAP.TO. RAM disks begin
 * empty.
 */
#include "app/update_nvme.h"

#include <string.h>
#include "app/app_priv.h"
#include "app/handover.h"
#include "app/update.h"
#include "base/log.h"
#include "hal/clock.h"

_Static_assert(BOOT_SLOT_MAX_BYTES <= LIMIT_FIRMWARE_BYTES, "a host can send any image");

static struct {
    /* the commit under way */
    void (*done)(void *arg, enum status status);
    void *arg;
} hosts;

/* Who a host is to the update, as it is to management. */
static uint16_t who_of(const void *ctx)
{
    return ((const struct app_function *)ctx)->pcie->fn;
}

/* --- download and commit --------------------------------------------------------------------- */

/* Straight from the host's memory: what it changes meanwhile it spoils for itself, since the copy
 * alone is checked. */
static enum status receive(void *ctx, uint32_t offset_bytes, const struct mem_ref *data)
{
    struct update *update = app_update_get();

    if (update == NULL) {
        return STATUS_IO;
    }
    for (uint32_t i = 0; i < data->seg_count; i++) {
        const struct mem_seg *seg = &data->segs[i];
        enum status status =
            update_receive(update, who_of(ctx), offset_bytes, mem_seg_ptr(seg), seg->len_bytes);
        if (status != STATUS_OK) {
            return status;
        }
        offset_bytes += seg->len_bytes;
    }
    return STATUS_OK;
}

static void committed(void *ctx, enum status status)
{
    void (*done)(void *arg, enum status status) = hosts.done;
    struct update_report report;

    (void)ctx;
    update_report(app_update_get(), &report);
    if (status == STATUS_OK) {
        LOG_INFO("app: a host's image is in its slot%s",
                 report.trial != BOOT_SLOT_NONE ? "; it starts with the next reset" : "");
    } else if (status == STATUS_BAD_DATA) {
        LOG_LIMITED(WARN, "app: a host's image is refused: it %s",
                    image_fault_text(report.last_fault));
        if (report.last_fault == IMAGE_TOO_OLD) {
            status = STATUS_UNSUPPORTED;
        }
    } else {
        LOG_LIMITED(ERROR, "app: a host's image: %s", status_text(status));
    }
    done(hosts.arg, status);
}

static enum status commit(void *ctx, uint32_t what, uint8_t slot,
                          void (*done)(void *arg, enum status status), void *arg)
{
    struct update *update = app_update_get();
    uint32_t actions = ((what & NVME_FIRMWARE_DO_REPLACE) != 0 ? UPDATE_REPLACE : 0) |
                       ((what & NVME_FIRMWARE_DO_ACTIVATE) != 0 ? UPDATE_ACTIVATE : 0);

    if (update == NULL) {
        return STATUS_IO;
    }
    if (!app_update_may_begin()) {
        return STATUS_AGAIN;
    }
    /* One at a time, and committed() comes later. */
    enum status status =
        update_commit(update, who_of(ctx), actions,
                      slot == 0 ? BOOT_SLOT_NONE : (uint8_t)(slot - 1), committed, NULL);
    if (status == STATUS_OK) {
        hosts.done = done;
        hosts.arg = arg;
    } else if (status == STATUS_BAD_DATA) {
        status = STATUS_UNSUPPORTED; /* an image that was good when it came, and is too old now */
    }
    return status;
}

/* --- reports --------------------------------------------------------------------------------- */

static uint8_t number_of(uint8_t slot)
{
    return slot < BOOT_SLOT_COUNT ? (uint8_t)(slot + 1) : 0;
}

/* The slot that the bootloader takes next, if it is another one than runs. An image that came from
 * elsewhere comes from there again. */
static uint8_t next_slot(const struct update_report *report)
{
    uint8_t next = report->trial != BOOT_SLOT_NONE ? report->trial : report->active;

    return report->running == BOOT_SLOT_NONE || next == report->running ? BOOT_SLOT_NONE : next;
}

/* Versions are strings of at most 15 characters, of which NVMe has room for 8. */
static void revision_put(char revision[8], const char *version)
{
    memset(revision, ' ', 8);
    for (uint32_t i = 0; i < 8 && version[i] != '\0'; i++) {
        revision[i] = version[i];
    }
}

static void report(void *ctx, struct nvme_firmware_report *out)
{
    struct update *update = app_update_get();
    struct update_report now;

    (void)ctx;
    if (update == NULL) {
        return;
    }
    update_report(update, &now);
    out->active = number_of(now.running);
    out->next = number_of(next_slot(&now));
    for (uint8_t slot = 0; slot < BOOT_SLOT_COUNT; slot++) {
        const struct boot_record_slot *entry = &now.record.slots[slot];
        if (slot == now.running) { /* perhaps before the first record */
            revision_put(out->revision[slot], app.version);
        } else if (entry->image_bytes != 0) {
            revision_put(out->revision[slot], entry->version);
        }
        out->load_failed |= slot != now.running && entry->failed != 0;
    }
}

/* --- activation ------------------------------------------------------------------------------ */

static bool is_in_use(const struct app_function *function)
{
    enum nvme_ep_state state = nvme_ep_snapshot(function->ep).state;

    return state != NVME_EP_STATE_DISABLED && state != NVME_EP_STATE_ENABLING;
}

static void disabled(void *ctx)
{
    struct update *update = app_update_get();
    struct update_report now;

    if (update == NULL) {
        return;
    }
    update_release(update, who_of(ctx));
    update_report(update, &now);
    /* A handover takes a disabled function along, and starts the image itself. */
    if (next_slot(&now) == BOOT_SLOT_NONE || !app_update_may_begin()) {
        return;
    }
    for (uint32_t i = 0; i < app.function_count; i++) {
        if (&app.functions[i] != ctx && is_in_use(&app.functions[i])) {
            LOG_LIMITED(INFO, "app: the image in slot %u waits for a reset of function %u, too",
                        (unsigned)number_of(next_slot(&now)), (unsigned)app.functions[i].pcie->fn);
            return;
        }
    }
    for (uint32_t i = 0; i < app.function_count; i++) {
        nvme_ep_hold(app.functions[i].ep);
    }
    LOG_INFO("app: no controller is enabled: the board restarts, for slot %u",
             (unsigned)number_of(next_slot(&now)));
    app_restart(0); /* a turn later: the reset that led here has been answered */
}

static enum status activate(void *ctx)
{
    (void)ctx;
    return app_hand_over(0);
}

const struct nvme_firmware_ops *app_update_nvme_ops(void)
{
    static const struct nvme_firmware_ops ops = {
        .slot_count = BOOT_SLOT_COUNT,
        .receive = receive,
        .commit = commit,
        .report = report,
        .activate = activate,
        .can_activate = app_can_hand_over,
        .disabled = disabled,
    };

    return app_update_store() != NULL ? &ops : NULL;
}
