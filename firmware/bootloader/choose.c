#include "bootloader/choose.h"

#include "base/log.h"
#include "update/boot_state.h"

/* A trial, what was active, a trial of the other one after that was rejected, and NONE. */
#define ROUNDS_MAX 6u

/* False: the flash did not take it; the record before still counts. The flash's own limits end the
 * wait. */
static bool write_record(struct store *store, const struct boot_record *record)
{
    enum status status = store_write_record(store, record);

    if (status == STATUS_OK) {
        do {
            status = store_poll(store);
        } while (status == STATUS_AGAIN);
    }
    if (status != STATUS_OK) {
        LOG_ERROR("bootloader: the boot record cannot be written: %s", status_text(status));
    }
    return status == STATUS_OK;
}

static enum image_fault try_slot(uint8_t slot, uint32_t min_security_version, choose_load_fn *load,
                                 void *ctx, struct choose_image *image)
{
    enum image_fault fault = load(ctx, slot, min_security_version, image);

    if (fault != IMAGE_OK) {
        LOG_ERROR("bootloader: the image in slot %s %s", boot_slot_name(slot),
                  image_fault_text(fault));
    }
    return fault;
}

/* What runs is what a later trial falls back to: the record says so from the start. */
static void adopt(struct store *store, uint8_t slot, const struct choose_image *image)
{
    struct boot_record record = store->record;

    boot_state_end_write(&record, slot, image->fit_bytes, &image->head);
    if (boot_state_activate(&record, slot) == STATUS_OK && boot_state_confirm(&record, slot)) {
        (void)write_record(store, &record);
    }
}

static struct choice choose_without_record(struct store *store, choose_load_fn *load, void *ctx)
{
    struct choose_image image;

    LOG_WARN("bootloader: no boot record: the first slot that verifies");
    for (uint8_t slot = 0; slot < BOOT_SLOT_COUNT; slot++) {
        if (try_slot(slot, 0, load, ctx, &image) == IMAGE_OK) {
            adopt(store, slot, &image);
            return (struct choice){.slot = slot};
        }
    }
    return (struct choice){.slot = BOOT_SLOT_NONE};
}

struct choice choose_slot(struct store *store, choose_load_fn *load, void *ctx)
{
    struct boot_record record = store->record;
    struct choose_image image;

    if (!store->has_record) {
        return choose_without_record(store, load, ctx);
    }
    for (uint32_t round = 0; round < ROUNDS_MAX; round++) {
        bool is_changed;
        uint8_t slot = boot_state_choose(&record, &is_changed);
        bool is_written = !is_changed || write_record(store, &record);
        if (slot == BOOT_SLOT_NONE) {
            break;
        }
        bool is_trial = slot == record.trial;
        if (is_trial && !is_written) {
            /* An attempt that is not counted may be one without end. */
            if (record.active == BOOT_SLOT_NONE ||
                boot_state_activate(&record, record.active) != STATUS_OK) {
                break;
            }
            continue;
        }
        if (try_slot(slot, record.min_security_version, load, ctx, &image) == IMAGE_OK) {
            return (struct choice){slot, is_trial, is_trial ? record.attempts_left : 0};
        }
        if (!store_is_readable(store)) {
            LOG_ERROR("bootloader: the flash cannot be read: no image is rejected");
            break;
        }
        boot_state_reject(&record, slot);
        (void)write_record(store, &record);
    }
    return (struct choice){.slot = BOOT_SLOT_NONE};
}
