#include "mgmt/mgmt_images.h"

#include <stdio.h>
#include <string.h>
#include "base/bits.h"

static struct {
    struct update *update;
    const struct store *store;
    enum status result;     /* of the last commit */
    enum image_fault fault; /* if that is BAD_DATA */
} images;

void mgmt_images_set(struct update *update, const struct store *store)
{
    images.update = update;
    images.store = store;
}

/* --- what there is ---------------------------------------------------------------------------- */

uint32_t mgmt_slot_count(void)
{
    return images.update != NULL ? BOOT_SLOT_COUNT : 0;
}

uint32_t mgmt_slot_fill(uint32_t index, void *record)
{
    struct mgmt_slot *out = record;
    struct update_report report;

    update_report(images.update, &report);
    const struct boot_record_slot *slot = &report.record.slots[index];
    bool is_trial = index == report.trial || (index == report.running && report.is_trial);
    out->slot = (uint16_t)index;
    out->flags =
        (uint16_t)((index == report.running ? MGMT_SLOT_RUNNING : 0) |
                   (index == report.active ? MGMT_SLOT_ACTIVE : 0) |
                   (is_trial ? MGMT_SLOT_TRIAL : 0) | (slot->failed != 0 ? MGMT_SLOT_FAILED : 0));
    out->image_bytes = slot->image_bytes;
    out->security_version = slot->security_version;
    out->min_security_version = report.record.min_security_version;
    out->attempts_left = index == report.trial ? report.record.attempts_left : 0;
    out->slot_bytes = images.store->slot_bytes;
    memcpy(out->version, slot->version, sizeof(out->version) - 1);
    return MGMT_OWNER_PUBLIC;
}

uint32_t mgmt_update_count(void)
{
    return images.update != NULL ? 1 : 0;
}

uint32_t mgmt_update_fill(uint32_t index, void *record)
{
    struct mgmt_update *out = record;
    struct update_report report;

    (void)index;
    update_report(images.update, &report);
    bool is_busy = images.result == STATUS_AGAIN;
    out->received_bytes = report.received_bytes;
    out->image_bytes = report.image_bytes;
    out->done_bytes = report.done_bytes;
    out->is_busy = is_busy ? 1 : 0;
    snprintf(out->state, sizeof(out->state), "%s", update_state_text(report.state));
    if (images.result == STATUS_BAD_DATA) {
        snprintf(out->fault, sizeof(out->fault), "the image %s", image_fault_text(images.fault));
    } else if (!is_busy && images.result != STATUS_OK) {
        snprintf(out->fault, sizeof(out->fault), "%s", status_text(images.result));
    }
    return MGMT_OWNER_PUBLIC;
}

/* --- changes ---------------------------------------------------------------------------------- */

static enum mgmt_status status_of(enum status status)
{
    static const uint8_t statuses[] = {
        [STATUS_OK] = MGMT_OK,
        [STATUS_AGAIN] = MGMT_BUSY,
        [STATUS_INVALID] = MGMT_OUT_OF_RANGE,
        [STATUS_NOT_FOUND] = MGMT_NOT_FOUND,
        [STATUS_EXISTS] = MGMT_REFUSED,
        [STATUS_NO_SPACE] = MGMT_OUT_OF_RANGE,
        [STATUS_TIMED_OUT] = MGMT_FAILED,
        [STATUS_IO] = MGMT_FAILED,
        [STATUS_BAD_DATA] = MGMT_REFUSED,
    };

    return (uint32_t)status < ARRAY_SIZE(statuses) ? statuses[status] : MGMT_FAILED;
}

enum mgmt_status mgmt_image_write(const struct mgmt_from *from, uint64_t offset,
                                  const uint8_t *data, uint32_t len_bytes)
{
    if (images.update == NULL) {
        return MGMT_UNSUPPORTED;
    }
    if (offset > BOOT_SLOT_MAX_BYTES) {
        return MGMT_OUT_OF_RANGE;
    }
    _Static_assert(MGMT_ORIGIN_CONSOLE == UPDATE_CONSOLE, "the same sender");
    return status_of(
        update_receive(images.update, from->origin, (uint32_t)offset, data, len_bytes));
}

static void commit_done(void *ctx, enum status status)
{
    struct update_report report;

    (void)ctx;
    update_report(images.update, &report);
    images.result = status;
    /* A good one that cannot be started any more: a confirmation in between. */
    images.fault = report.last_fault == IMAGE_OK ? IMAGE_TOO_OLD : report.last_fault;
}

enum mgmt_status mgmt_image_commit(const struct mgmt_from *from, const uint8_t *arguments,
                                   uint32_t len_bytes, uint8_t *answer, uint32_t *answer_bytes)
{
    struct mgmt_commit commit;
    uint32_t room = *answer_bytes;

    *answer_bytes = 0;
    if (images.update == NULL) {
        return MGMT_UNSUPPORTED;
    }
    if (len_bytes < sizeof(commit)) {
        return MGMT_OUT_OF_RANGE;
    }
    memcpy(&commit, arguments, sizeof(commit));
    _Static_assert(MGMT_COMMIT_REPLACE == UPDATE_REPLACE, "the same bit");
    _Static_assert(MGMT_COMMIT_ACTIVATE == UPDATE_ACTIVATE, "the same bit");
    _Static_assert(MGMT_COMMIT_CHECK == UPDATE_CHECK, "the same bit");
    enum status status =
        update_commit(images.update, from->origin, commit.actions, commit.slot, commit_done, NULL);
    if (status == STATUS_OK) {
        images.result = STATUS_AGAIN; /* done() comes later */
        return MGMT_OK;
    }
    const char *text = status == STATUS_EXISTS      ? "the slot is in use"
                       : status == STATUS_BAD_DATA  ? "its image is older than what is allowed"
                       : status == STATUS_NOT_FOUND ? "no image was received, or is in that slot"
                                                    : "";
    *answer_bytes = min_u32((uint32_t)snprintf((char *)answer, room, "%s", text), room);
    return status_of(status);
}

enum mgmt_status mgmt_image_confirm(const struct mgmt_from *from, const uint8_t *arguments,
                                    uint32_t len_bytes, uint8_t *answer, uint32_t *answer_bytes)
{
    (void)from;
    (void)arguments;
    (void)len_bytes;
    (void)answer;
    *answer_bytes = 0;
    if (images.update == NULL) {
        return MGMT_UNSUPPORTED;
    }
    update_confirm(images.update);
    return MGMT_OK;
}
