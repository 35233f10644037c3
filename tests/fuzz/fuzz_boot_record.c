/*
 * Fuzzes what is read from flash at start. The bytes: one of flags; what lies in both records and
 * both configurations, 96 bytes each; then what is done, a byte each. Flags 0 and 1: the records'
 * magic and CRC are put right; 2 and 3: the configurations'.
 *
 * What must hold: no stray access, no failed assertion; from a valid record all that can be done to
 * it makes valid ones, whose images fit into the slots; the least security version never sinks.
 */
#include <stdint.h>
#include <string.h>
#include "base/assert.h"
#include "base/bits.h"
#include "base/crc.h"
#include "tests/model/flash.h"
#include "update/boot_state.h"
#include "update/store.h"

#define BLOCK_BYTES 256u
#define PART_BYTES  96u

static struct model_flash model;
static struct store store;
static uint8_t slot_bytes[BOOT_SLOT_MAX_BYTES];

static void make_right(uint32_t part, uint8_t *bytes)
{
    struct boot_record record;
    struct boot_config_head head;

    if (part < BOOT_RECORD_COPIES) {
        memcpy(&record, bytes, sizeof(record));
        record.magic = BOOT_RECORD_MAGIC;
        record.version = BOOT_RECORD_VERSION;
        record.size_bytes = sizeof(record);
        record.crc = crc32_update(0, &record, offsetof(struct boot_record, crc));
        memcpy(bytes, &record, sizeof(record));
    } else {
        memcpy(&head, bytes, sizeof(head));
        head.magic = BOOT_CONFIG_MAGIC;
        uint32_t tree_bytes = min_u32(head.tree_bytes, BLOCK_BYTES - (uint32_t)sizeof(head));
        head.crc = crc32_update(0, &head, offsetof(struct boot_config_head, crc));
        head.crc = crc32_update(head.crc, bytes + sizeof(head), tree_bytes);
        memcpy(bytes, &head, sizeof(head));
    }
}

static void do_one(struct boot_record *record, uint8_t what)
{
    uint8_t slot = (what >> 3) % (BOOT_SLOT_COUNT + 1);
    struct boot_image_head head = {.security_version = what >> 4, .version = "1"};
    bool is_changed;
    enum status ignored = STATUS_OK;

    slot = slot == BOOT_SLOT_COUNT ? BOOT_SLOT_NONE : slot;
    switch (what % 6) {
    case 0:
        slot = boot_state_choose(record, &is_changed);
        ASSERT(slot == BOOT_SLOT_NONE ||
               (slot < BOOT_SLOT_COUNT && record->slots[slot].image_bytes != 0));
        break;
    case 1:
        boot_state_reject(record, slot % BOOT_SLOT_COUNT);
        break;
    case 2:
        ignored = boot_state_begin_write(record, slot);
        break;
    case 3:
        if (boot_state_begin_write(record, slot) == STATUS_OK) {
            boot_state_end_write(record, slot, what + 1u, &head);
        }
        break;
    case 4:
        ignored = boot_state_activate(record, slot);
        break;
    default:
        boot_state_confirm(record, slot);
        break;
    }
    (void)ignored;
}

static void write_record(const struct boot_record *record)
{
    enum status status = store_write_record(&store, record);

    ASSERT(status == STATUS_OK);
    do {
        status = store_poll(&store);
    } while (status == STATUS_AGAIN);
    ASSERT(status == STATUS_OK);
}

static void check_record(void)
{
    const struct boot_record *record = &store.record;

    ASSERT(!store.has_record || boot_state_is_valid(record));
    for (uint8_t slot = 0; slot < BOOT_SLOT_COUNT; slot++) {
        ASSERT(record->slots[slot].image_bytes <= store.slot_bytes);
        store_read_slot(&store, slot, 0, slot_bytes, record->slots[slot].image_bytes);
    }
}

static void check_config(void)
{
    uint8_t tree[BLOCK_BYTES];
    uint32_t tree_bytes = 0;
    enum status status = store_read_config(&store, tree, sizeof(tree), &tree_bytes);

    ASSERT(status == STATUS_OK || status == STATUS_NOT_FOUND);
    ASSERT(tree_bytes <= BLOCK_BYTES - sizeof(struct boot_config_head));
    ASSERT((status == STATUS_OK) == (tree_bytes > 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    if (len < 1 + 4 * PART_BYTES || len > 1 + 4 * PART_BYTES + 64) {
        return 0;
    }
    if (model.bytes == NULL) {
        model_flash_init(&model, 8 * BLOCK_BYTES, BLOCK_BYTES, 64);
    }
    memset(model.bytes, 0xff, 8 * BLOCK_BYTES);
    model_flash_power_on(&model, 1);
    for (uint32_t part = 0; part < 4; part++) {
        memcpy(model.bytes + part * BLOCK_BYTES, bytes + 1 + part * PART_BYTES, PART_BYTES);
        if ((bytes[0] >> part & 1) != 0) {
            make_right(part, model.bytes + part * BLOCK_BYTES);
        }
    }
    enum status status = store_open(&store, &model.flash);
    ASSERT(status == STATUS_OK);
    check_record();
    check_config();
    for (size_t i = 1 + 4 * PART_BYTES; i < len; i++) {
        struct boot_record record = store.record;
        do_one(&record, bytes[i]);
        ASSERT(record.min_security_version >= store.record.min_security_version);
        write_record(&record);
        check_record();
        struct boot_record before = store.record;
        status = store_open(&store, &model.flash);
        ASSERT(status == STATUS_OK && store.has_record);
        ASSERT(memcmp(&before, &store.record, sizeof(before)) == 0);
    }
    check_config();
    return 0;
}
