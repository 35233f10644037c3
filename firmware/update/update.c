/*
 * One job at a time: what update_commit() asked for, or a confirmation. Each is a copy of the
 * record that is changed and written; a replacement writes the slot in between:
 *
 *   check -> record: slot empty -> slot -> record: image in it (and on trial) -> done
 *
 * so that no record ever names a slot that is being written. Between two steps the store may be
 * somebody else's.
 */
#include "update/update.h"

#include <string.h>
#include "base/bits.h"
#include "update/boot_state.h"

#define CONFIRM_ATTEMPTS 3u

enum step {
    STEP_IDLE,
    STEP_CHECK,   /* of the image */
    STEP_EMPTY,   /* a record without the slot's image is being written */
    STEP_SLOT,    /* the image is */
    STEP_RECORD,  /* the record with it, or with the trial */
    STEP_CONFIRM, /* the record with the running slot active */
};

/* Bytes of the image that are there. */
struct extent {
    uint32_t start, end;
};

struct update {
    struct update_config config;
    struct boot_record record; /* the next one */
    struct image_rules rules;
    struct image_checker checker;
    struct image_info image;
    enum image_fault last_fault;
    /* what was received: in order, with holes between them */
    struct extent extents[UPDATE_EXTENTS];
    uint32_t extent_count; /* 0 just when nobody holds it */
    uint16_t holder;
    uint64_t held_ns; /* its last piece */
    /* the job */
    enum step step;
    bool is_started;  /* the store does it */
    uint32_t actions; /* 0: none */
    uint8_t slot;
    uint32_t image_bytes;
    uint32_t confirm_attempts; /* 0: nobody asked */
    void (*done)(void *ctx, enum status status);
    void *ctx;
};

uint64_t update_bytes(void)
{
    return sizeof(struct update);
}

void update_init(struct update *update, const struct update_config *config)
{
    memset(update, 0, sizeof(*update));
    update->config = *config;
    if (config->running >= BOOT_SLOT_COUNT) {
        update->config.running = BOOT_SLOT_NONE;
    }
    update->holder = UPDATE_NOBODY;
}

/* --- receiving ------------------------------------------------------------------------------- */

static uint32_t max_bytes(const struct update *update)
{
    return min_u32(update->config.buffer_bytes, update->config.store->slot_bytes);
}

static uint32_t received_bytes(const struct update *update)
{
    return update->extent_count > 0 && update->extents[0].start == 0 ? update->extents[0].end : 0;
}

/* Other bytes than those that are there: another image begins. */
static bool is_new_start(const struct update *update, const void *data, uint32_t len_bytes)
{
    uint32_t same_bytes = min_u32(len_bytes, received_bytes(update));

    return memcmp(update->config.buffer, data, same_bytes) != 0;
}

/* Joins [start, end) with what it touches. False: too many holes. */
static bool add_extent(struct update *update, uint32_t start, uint32_t end)
{
    struct extent *extents = update->extents;
    uint32_t count = update->extent_count;
    uint32_t first = 0; /* that it touches, or is put before */

    while (first < count && extents[first].end < start) {
        first++;
    }
    uint32_t behind = first; /* the last that it touches */
    while (behind < count && extents[behind].start <= end) {
        behind++;
    }
    if (behind == first && count == UPDATE_EXTENTS) {
        return false;
    }
    if (behind > first) {
        start = min_u32(start, extents[first].start);
        end = (uint32_t)max_u64(end, extents[behind - 1].end);
    }
    memmove(&extents[first + 1], &extents[behind], (count - behind) * sizeof(extents[0]));
    extents[first] = (struct extent){start, end};
    update->extent_count = count - (behind - first) + 1;
    return true;
}

/* An action is under way that needs what was received. */
static bool needs_image(uint32_t actions)
{
    return (actions & (UPDATE_REPLACE | UPDATE_CHECK)) != 0;
}

static bool may_hold(const struct update *update, uint16_t who)
{
    return update->holder == UPDATE_NOBODY || update->holder == who || who == UPDATE_CONSOLE ||
           update->config.now_ns() - update->held_ns >= UPDATE_HOLD_NS;
}

static void drop(struct update *update)
{
    update->extent_count = 0;
    update->holder = UPDATE_NOBODY;
}

enum status update_receive(struct update *update, uint16_t who, uint32_t offset, const void *data,
                           uint32_t len_bytes)
{
    if (needs_image(update->actions) || !may_hold(update, who)) {
        return STATUS_AGAIN;
    }
    if (!range_fits(offset, len_bytes, max_bytes(update))) {
        return STATUS_NO_SPACE;
    }
    if (len_bytes == 0) {
        return STATUS_OK;
    }
    if (update->holder != who || (offset == 0 && is_new_start(update, data, len_bytes))) {
        drop(update);
    }
    if (!add_extent(update, offset, offset + len_bytes)) {
        return STATUS_NO_SPACE;
    }
    memcpy((uint8_t *)update->config.buffer + offset, data, len_bytes);
    update->holder = who;
    update->held_ns = update->config.now_ns();
    return STATUS_OK;
}

void update_release(struct update *update, uint16_t who)
{
    if (update->holder == who && !needs_image(update->actions)) {
        drop(update);
    }
}

/* --- what is asked for ----------------------------------------------------------------------- */

static bool may_replace(const struct update *update, uint8_t slot)
{
    return slot != update->config.running && slot != update->config.store->record.active;
}

/* Without a wish: of those that may be replaced one without an image first. */
static uint8_t slot_to_replace(const struct update *update)
{
    const struct boot_record *record = &update->config.store->record;
    uint8_t chosen = BOOT_SLOT_NONE;

    for (uint8_t slot = 0; slot < BOOT_SLOT_COUNT; slot++) {
        if (may_replace(update, slot) &&
            (chosen == BOOT_SLOT_NONE || record->slots[slot].image_bytes == 0)) {
            chosen = slot;
        }
    }
    return chosen;
}

/* Without a wish: one with an image, beside the one that runs. */
static uint8_t slot_to_activate(const struct update *update)
{
    const struct boot_record *record = &update->config.store->record;
    uint8_t running = update->config.running;

    if (running == BOOT_SLOT_NONE) {
        running = record->active;
    }
    for (uint8_t slot = 0; slot < BOOT_SLOT_COUNT; slot++) {
        if (slot != running && record->slots[slot].image_bytes != 0) {
            return slot;
        }
    }
    return BOOT_SLOT_NONE;
}

enum status update_commit(struct update *update, uint16_t who, uint32_t actions, uint8_t slot,
                          void (*done)(void *ctx, enum status status), void *ctx)
{
    bool is_replace = needs_image(actions);

    if (actions == 0 || actions > UPDATE_CHECK ||
        (slot != BOOT_SLOT_NONE && slot >= BOOT_SLOT_COUNT)) {
        return STATUS_INVALID;
    }
    if (update->actions != 0) {
        return STATUS_AGAIN;
    }
    if (slot == BOOT_SLOT_NONE) {
        slot = is_replace ? slot_to_replace(update) : slot_to_activate(update);
    }
    if (is_replace) {
        if (slot == BOOT_SLOT_NONE || !may_replace(update, slot)) {
            return STATUS_EXISTS;
        }
        if (update->holder != who) {
            return may_hold(update, who) ? STATUS_NOT_FOUND : STATUS_AGAIN;
        }
    } else if (slot == BOOT_SLOT_NONE) {
        return STATUS_NOT_FOUND;
    } else {
        struct boot_record trial = update->config.store->record;
        enum status status = boot_state_activate(&trial, slot);
        if (status != STATUS_OK) {
            return status;
        }
    }
    update->last_fault = IMAGE_OK;
    update->actions = actions;
    update->slot = slot;
    update->done = done;
    update->ctx = ctx;
    return STATUS_OK;
}

void update_confirm(struct update *update)
{
    update->confirm_attempts = CONFIRM_ATTEMPTS;
}

/* --- the job --------------------------------------------------------------------------------- */

static void end_job(struct update *update, enum status status)
{
    bool has_used_image = (update->actions & UPDATE_REPLACE) != 0 && status != STATUS_IO;

    update->step = STEP_IDLE;
    update->actions = 0;
    update->image_bytes = 0;
    if (has_used_image) {
        drop(update);
    }
    update->done(update->ctx, status);
}

static void start_activate(struct update *update)
{
    enum status status = boot_state_activate(&update->record, update->slot);

    /* A confirmation in between may have raised the least security version. */
    if (status != STATUS_OK) {
        end_job(update, STATUS_BAD_DATA);
        return;
    }
    update->step = STEP_RECORD;
}

static void start_replace(struct update *update)
{
    update->rules = update->config.rules;
    update->rules.min_security_version = update->record.min_security_version;
    image_check_start(&update->checker, update->config.buffer, received_bytes(update),
                      &update->rules, &update->image);
    update->step = STEP_CHECK;
}

static void go_on_checking(struct update *update)
{
    if (image_check_step(&update->checker)) {
        return;
    }
    update->last_fault = update->checker.fault;
    if (update->last_fault != IMAGE_OK ||
        boot_state_begin_write(&update->record, update->slot) != STATUS_OK) {
        end_job(update, STATUS_BAD_DATA);
        return;
    }
    if (update->actions == UPDATE_CHECK) {
        end_job(update, STATUS_OK);
        return;
    }
    update->image_bytes = image_fit_bytes(update->config.buffer);
    bool is_empty =
        memcmp(&update->record, &update->config.store->record, sizeof(update->record)) == 0;
    update->step = is_empty ? STEP_SLOT : STEP_EMPTY;
}

static void start_confirm(struct update *update)
{
    if (boot_state_confirm(&update->record, update->config.running)) {
        update->step = STEP_CONFIRM;
    } else {
        update->confirm_attempts = 0;
    }
}

/* AGAIN: the store is busy for somebody else. */
static enum status start_step(struct update *update)
{
    struct store *store = update->config.store;

    return update->step == STEP_SLOT
               ? store_write_slot(store, update->slot, update->config.buffer, update->image_bytes)
               : store_write_record(store, &update->record);
}

/* What the store was doing has ended. */
static void go_on(struct update *update, enum status status)
{
    switch (update->step) {
    case STEP_CONFIRM:
        update->step = STEP_IDLE;
        update->confirm_attempts = status == STATUS_OK ? 0 : update->confirm_attempts - 1;
        break;
    case STEP_EMPTY:
        update->step = STEP_SLOT;
        if (status != STATUS_OK) {
            end_job(update, status);
        }
        break;
    case STEP_SLOT:
        if (status != STATUS_OK) {
            end_job(update, status);
            break;
        }
        boot_state_end_write(&update->record, update->slot, update->image_bytes,
                             &update->image.head);
        if ((update->actions & UPDATE_ACTIVATE) != 0) {
            start_activate(update);
        } else {
            update->step = STEP_RECORD;
        }
        break;
    case STEP_RECORD:
        end_job(update, status);
        break;
    case STEP_IDLE:
    case STEP_CHECK:
        break;
    }
}

static uint32_t start_job(struct update *update)
{
    if (update->confirm_attempts == 0 && update->actions == 0) {
        return 0;
    }
    update->record = update->config.store->record;
    if (update->confirm_attempts > 0) {
        start_confirm(update);
    } else if (needs_image(update->actions)) {
        start_replace(update);
    } else {
        start_activate(update);
    }
    return 1;
}

uint32_t update_poll(struct update *update)
{
    enum status status;

    if (update->step == STEP_IDLE) {
        return start_job(update);
    }
    if (update->step == STEP_CHECK) {
        go_on_checking(update);
        return 1;
    }
    if (update->is_started) {
        status = store_poll(update->config.store);
        update->is_started = status == STATUS_AGAIN;
    } else {
        status = start_step(update);
        update->is_started = status == STATUS_OK;
    }
    if (!update->is_started && status != STATUS_AGAIN) {
        go_on(update, status);
    }
    return 1;
}

/* --- reports --------------------------------------------------------------------------------- */

const char *update_state_text(enum update_state state)
{
    static const char *const texts[] = {
        [UPDATE_IDLE] = "idle",         [UPDATE_RECEIVING] = "receiving",
        [UPDATE_WRITING] = "writing",   [UPDATE_RECORDING] = "recording",
        [UPDATE_CHECKING] = "checking",
    };

    return texts[state];
}

bool update_is_busy(const struct update *update)
{
    return update->step != STEP_IDLE || update->actions != 0 || update->confirm_attempts != 0;
}

static enum update_state state_of(const struct update *update)
{
    if (update->step == STEP_RECORD || update->step == STEP_CONFIRM) {
        return UPDATE_RECORDING;
    }
    if (update->actions != 0) {
        return update->actions == UPDATE_CHECK ? UPDATE_CHECKING : UPDATE_WRITING;
    }
    return update->extent_count > 0 ? UPDATE_RECEIVING : UPDATE_IDLE;
}

void update_report(const struct update *update, struct update_report *report)
{
    const struct store *store = update->config.store;
    uint8_t running = update->config.running;

    memset(report, 0, sizeof(*report));
    report->state = state_of(update);
    report->running = running;
    report->active = store->record.active;
    report->trial = store->record.trial;
    report->is_trial =
        update->config.is_trial && running != BOOT_SLOT_NONE && store->record.active != running;
    report->received_bytes = received_bytes(update);
    report->image_bytes = update->image_bytes;
    if (update->step == STEP_SLOT) {
        report->done_bytes = store_done_bytes(store);
    } else if (update->step == STEP_RECORD) {
        report->done_bytes = update->image_bytes;
    }
    report->last_fault = update->last_fault;
    report->record = store->record;
}
