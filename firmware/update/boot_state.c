/*
 * The rules of boot_state.h. A record is hostile until boot_state_is_valid() says true; whatever
 * the other functions make out of a valid one, sealed, is valid again.
 */
#include "update/boot_state.h"

#include <string.h>
#include "base/assert.h"
#include "base/crc.h"

static uint32_t record_crc(const struct boot_record *record)
{
    return crc32_update(0, record, offsetof(struct boot_record, crc));
}

static bool is_slot(uint8_t slot)
{
    return slot < BOOT_SLOT_COUNT;
}

static bool holds_image(const struct boot_record *record, uint8_t slot)
{
    return record->slots[slot].image_bytes != 0;
}

static bool is_new_enough(const struct boot_record *record, uint8_t slot)
{
    return record->slots[slot].security_version >= record->min_security_version;
}

static void end_trial(struct boot_record *record)
{
    record->trial = BOOT_SLOT_NONE;
    record->attempts_left = 0;
}

static void start_trial(struct boot_record *record, uint8_t slot)
{
    record->trial = slot;
    record->attempts_left = BOOT_TRIAL_ATTEMPTS;
    record->slots[slot].failed = 0;
}

const char *boot_slot_name(uint8_t slot)
{
    return slot == 0 ? "A" : slot == 1 ? "B" : "none";
}
_Static_assert(BOOT_SLOT_COUNT == 2, "each has a name");

void boot_state_init(struct boot_record *record)
{
    memset(record, 0, sizeof(*record));
    record->magic = BOOT_RECORD_MAGIC;
    record->version = BOOT_RECORD_VERSION;
    record->size_bytes = (uint16_t)sizeof(*record);
    record->active = BOOT_SLOT_NONE;
    record->trial = BOOT_SLOT_NONE;
}

/* A slot that the record names: NONE, or one whose image may be started. */
static bool is_named_well(const struct boot_record *record, uint8_t slot)
{
    return slot == BOOT_SLOT_NONE ||
           (is_slot(slot) && holds_image(record, slot) && record->slots[slot].failed == 0 &&
            is_new_enough(record, slot));
}

bool boot_state_is_valid(const struct boot_record *record)
{
    if (record->magic != BOOT_RECORD_MAGIC || record->version != BOOT_RECORD_VERSION ||
        record->size_bytes != sizeof(*record) || record->crc != record_crc(record)) {
        return false;
    }
    for (uint32_t i = 0; i < BOOT_SLOT_COUNT; i++) {
        const struct boot_record_slot *slot = &record->slots[i];
        if (slot->image_bytes > BOOT_SLOT_MAX_BYTES || slot->failed > 1 ||
            slot->version[sizeof(slot->version) - 1] != '\0') {
            return false;
        }
    }
    return is_named_well(record, record->active) && is_named_well(record, record->trial) &&
           (record->trial == BOOT_SLOT_NONE ? record->attempts_left == 0
                                            : record->trial != record->active) &&
           record->attempts_left <= BOOT_TRIAL_ATTEMPTS;
}

const struct boot_record *boot_state_newer(const struct boot_record *a, const struct boot_record *b)
{
    if (!boot_state_is_valid(a)) {
        return boot_state_is_valid(b) ? b : NULL;
    }
    if (!boot_state_is_valid(b)) {
        return a;
    }
    return (int32_t)(a->sequence - b->sequence) >= 0 ? a : b;
}

void boot_state_seal(struct boot_record *record)
{
    record->sequence++;
    record->crc = record_crc(record);
}

uint8_t boot_state_choose(struct boot_record *record, bool *is_changed)
{
    uint8_t trial = record->trial;

    *is_changed = trial != BOOT_SLOT_NONE;
    if (trial == BOOT_SLOT_NONE) {
        return record->active;
    }
    if (record->attempts_left > 0) {
        record->attempts_left--;
        return trial;
    }
    record->slots[trial].failed = 1;
    end_trial(record);
    return record->active;
}

void boot_state_reject(struct boot_record *record, uint8_t slot)
{
    ASSERT(is_slot(slot));
    uint8_t other = (uint8_t)(BOOT_SLOT_COUNT - 1 - slot);

    record->slots[slot].image_bytes = 0;
    record->slots[slot].failed = 1;
    if (record->trial == slot) {
        end_trial(record);
    }
    if (record->active == slot) {
        record->active = BOOT_SLOT_NONE;
        /* Better a trial of what is there than nothing. */
        if (record->trial == BOOT_SLOT_NONE && record->slots[other].failed == 0 &&
            holds_image(record, other) && is_new_enough(record, other)) {
            start_trial(record, other);
        }
    }
}

enum status boot_state_begin_write(struct boot_record *record, uint8_t slot)
{
    if (!is_slot(slot)) {
        return STATUS_INVALID;
    }
    if (record->active == slot) {
        return STATUS_EXISTS;
    }
    if (record->trial == slot) {
        end_trial(record);
    }
    memset(&record->slots[slot], 0, sizeof(record->slots[slot]));
    return STATUS_OK;
}

void boot_state_end_write(struct boot_record *record, uint8_t slot, uint32_t image_bytes,
                          const struct boot_image_head *head)
{
    ASSERT(is_slot(slot) && record->active != slot && record->trial != slot);
    struct boot_record_slot *entry = &record->slots[slot];

    _Static_assert(sizeof(entry->version) == sizeof(head->version), "the same text");
    memset(entry, 0, sizeof(*entry));
    entry->image_bytes = image_bytes;
    entry->security_version = head->security_version;
    memcpy(entry->version, head->version, sizeof(entry->version));
}

enum status boot_state_activate(struct boot_record *record, uint8_t slot)
{
    if (!is_slot(slot)) {
        return STATUS_INVALID;
    }
    if (!holds_image(record, slot)) {
        return STATUS_NOT_FOUND;
    }
    if (!is_new_enough(record, slot)) {
        return STATUS_BAD_DATA;
    }
    if (record->active == slot) {
        end_trial(record);
    } else {
        start_trial(record, slot);
    }
    return STATUS_OK;
}

bool boot_state_confirm(struct boot_record *record, uint8_t running)
{
    /* A trial that was taken back while it runs stays so: neither the one nor the other. */
    if (!is_slot(running) || (running != record->active && running != record->trial)) {
        return false;
    }
    uint32_t security_version = record->slots[running].security_version;
    bool is_changed = false;

    if (running == record->trial) {
        record->active = running;
        end_trial(record);
        is_changed = true;
    }
    if (record->min_security_version < security_version) {
        record->min_security_version = security_version;
        is_changed = true;
        if (record->trial != BOOT_SLOT_NONE && !is_new_enough(record, record->trial)) {
            end_trial(record);
        }
    }
    return is_changed;
}
