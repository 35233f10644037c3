#include "update/rig.h"

#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "base/bits.h"
#include "bootloader/choose.h"

#define MAX_POLLS  100000u
#define SEND_BYTES 700u

static struct image_rules rules_of(const struct store *store)
{
    return (struct image_rules){.key = &test_image_key,
                                .board = TEST_IMAGE_BOARD,
                                .min_security_version = store->record.min_security_version};
}

const struct test_image *rig_image(const char *name)
{
    for (uint32_t i = 0; i < test_image_count; i++) {
        if (strcmp(test_images[i].name, name) == 0) {
            return &test_images[i];
        }
    }
    panic("there is no test image %s", name);
}

enum status rig_store_settle(struct store *store)
{
    for (uint32_t i = 0; i < MAX_POLLS; i++) {
        enum status status = store_poll(store);
        if (status != STATUS_AGAIN) {
            return status;
        }
    }
    panic("the store does not end");
}

static enum status write_record(struct store *store, const struct boot_record *record)
{
    enum status status = store_write_record(store, record);

    return status == STATUS_OK ? rig_store_settle(store) : status;
}

void rig_init(struct update_rig *rig, const char *name)
{
    const struct test_image *image = rig_image(name);
    struct image_rules rules;
    struct image_info info;

    memset(rig, 0, sizeof(*rig));
    model_flash_init(&rig->flash, 4 * RIG_BLOCK_BYTES + 2 * RIG_SLOT_BYTES, RIG_BLOCK_BYTES,
                     RIG_PROGRAM_BYTES);
    rig->update = malloc(update_bytes());
    ASSERT(rig->update != NULL);
    enum status status = store_open(&rig->store, &rig->flash.flash);
    ASSERT(status == STATUS_OK);
    rules = rules_of(&rig->store);
    enum image_fault fault = image_check(image->bytes, image->len_bytes, &rules, &info);
    ASSERT(fault == IMAGE_OK);
    status = store_write_slot(&rig->store, 0, image->bytes, image->len_bytes);
    ASSERT(status == STATUS_OK);
    status = rig_store_settle(&rig->store);
    ASSERT(status == STATUS_OK);

    struct boot_record record = rig->store.record;
    boot_state_end_write(&record, 0, image->len_bytes, &info.head);
    record.active = 0;
    status = write_record(&rig->store, &record);
    ASSERT(status == STATUS_OK);
    model_flash_power_on(&rig->flash, 1);
    rig->running = BOOT_SLOT_NONE;
}

void rig_free(struct update_rig *rig)
{
    free(rig->update);
    model_flash_free(&rig->flash);
}

/* --- the bootloader -------------------------------------------------------------------------- */

/* What the checked image is; NULL: none that may run. */
static const struct test_image *known_image(const uint8_t *bytes, uint32_t len_bytes)
{
    for (uint32_t i = 0; i < test_image_count; i++) {
        const struct test_image *image = &test_images[i];
        if (strncmp(image->name, "good", 4) == 0 && image->len_bytes == len_bytes &&
            memcmp(image->bytes, bytes, len_bytes) == 0) {
            return image;
        }
    }
    return NULL;
}

/* choose_load_fn, as the bootloader's own: by the FIT's size, not the record's. */
static enum image_fault load(void *ctx, uint8_t slot, uint32_t min_security_version,
                             struct choose_image *image)
{
    struct update_rig *rig = ctx;
    const uint32_t head_bytes = 8;
    struct image_rules rules = rules_of(&rig->store);
    struct image_info info;

    store_read_slot(&rig->store, slot, 0, rig->ram, head_bytes);
    uint32_t fit_bytes = image_fit_bytes(rig->ram);
    if (fit_bytes == 0 || fit_bytes > sizeof(rig->ram)) {
        return IMAGE_NO_FIT;
    }
    store_read_slot(&rig->store, slot, 0, rig->ram, fit_bytes);
    rules.min_security_version = min_security_version;
    enum image_fault fault = image_check(rig->ram, fit_bytes, &rules, &info);
    if (fault == IMAGE_OK) {
        image->head = info.head;
        image->fit_bytes = fit_bytes;
        rig->image = known_image(rig->ram, fit_bytes);
    }
    return fault;
}

bool rig_boot(struct update_rig *rig)
{
    rig->image = NULL;
    rig->running = BOOT_SLOT_NONE;
    enum status status = store_open(&rig->store, &rig->flash.flash);
    ASSERT(status == STATUS_OK);
    struct choice choice = choose_slot(&rig->store, load, rig);
    if (rig->flash.is_off || choice.slot == BOOT_SLOT_NONE) {
        return false;
    }
    rig->running = choice.slot;
    rig->is_trial = choice.is_trial;
    status = store_open(&rig->store, &rig->flash.flash); /* (the firmware's own) */
    ASSERT(status == STATUS_OK);
    rig_start_update(rig);
    return true;
}

/* --- the firmware ---------------------------------------------------------------------------- */

static uint64_t now_ns;

static uint64_t clock(void)
{
    return now_ns;
}

void rig_pass(uint64_t duration_ns)
{
    now_ns += duration_ns;
}

void rig_start_update(struct update_rig *rig)
{
    struct update_config config = {.now_ns = clock,
                                   .store = &rig->store,
                                   .rules = rules_of(&rig->store),
                                   .running = rig->running,
                                   .is_trial = rig->is_trial,
                                   .buffer = rig->buffer,
                                   .buffer_bytes = sizeof(rig->buffer)};

    rig->done_count = 0;
    update_init(rig->update, &config);
}

void rig_send(struct update_rig *rig, const struct test_image *image)
{
    for (uint32_t at = 0; at < image->len_bytes; at += SEND_BYTES) {
        uint32_t bytes = min_u32(SEND_BYTES, image->len_bytes - at);
        enum status status = update_receive(rig->update, RIG_WHO, at, image->bytes + at, bytes);
        ASSERT(status == STATUS_OK);
    }
}

uint32_t rig_settle(struct update_rig *rig)
{
    for (uint32_t i = 0; i < MAX_POLLS; i++) {
        if (update_poll(rig->update) == 0) {
            return i;
        }
    }
    panic("the update does not end");
}

static void on_done(void *ctx, enum status status)
{
    struct update_rig *rig = ctx;

    rig->done_count++;
    rig->done_status = status;
}

enum status rig_commit(struct update_rig *rig, uint32_t actions, uint8_t slot)
{
    uint32_t before = rig->done_count;
    enum status status = update_commit(rig->update, RIG_WHO, actions, slot, on_done, rig);

    if (status != STATUS_OK) {
        return status;
    }
    rig_settle(rig);
    ASSERT(rig->done_count == before + 1);
    return rig->done_status;
}

enum status rig_install(struct update_rig *rig, const char *image)
{
    rig_send(rig, rig_image(image));
    return rig_commit(rig, UPDATE_REPLACE | UPDATE_ACTIVATE, BOOT_SLOT_NONE);
}

bool rig_slot_holds(const struct update_rig *rig, uint8_t slot, const struct test_image *image)
{
    const uint8_t *bytes = rig->flash.bytes + rig->store.slot_offset[slot];

    return memcmp(bytes, image->bytes, image->len_bytes) == 0;
}
