/*
 * Parts of the flash, and one operation on them at a time: erase, program, read back. Records and
 * configurations have two copies: the one that counts is never touched, the other becomes the next.
 * A configuration's head goes in last.
 *
 * Leaves out: bad blocks, wear levelling (an update erases five blocks), and a record that was cut
 * so late that it reads whole now and not later.
 */
#include "update/store.h"

#include <string.h>
#include "base/assert.h"
#include "base/bits.h"
#include "base/crc.h"
#include "update/boot_state.h"

enum store_state {
    STORE_IDLE,
    STORE_ERASE,
    STORE_PROGRAM,
    STORE_VERIFY,
};

enum store_kind {
    STORE_RECORD,
    STORE_SLOT,
    STORE_TREE, /* of a configuration: its head follows */
    STORE_HEAD,
};

/* What one step reads, on the stack. */
#define READ_BYTES 256u

/* --- layout ---------------------------------------------------------------------------------- */

static uint64_t record_offset(const struct store *store, uint32_t copy)
{
    return (uint64_t)store->flash->block_bytes * copy;
}

static uint64_t config_offset(const struct store *store, uint32_t copy)
{
    return (uint64_t)store->flash->block_bytes * (BOOT_RECORD_COPIES + copy);
}

static uint32_t config_max_bytes(const struct store *store)
{
    return store->flash->block_bytes - (uint32_t)sizeof(struct boot_config_head);
}

static enum status lay_out(struct store *store)
{
    uint64_t block_bytes = store->flash->block_bytes;
    uint64_t head_bytes = block_bytes * (BOOT_RECORD_COPIES + BOOT_CONFIG_COPIES);

    if (block_bytes < sizeof(struct boot_record) || store->flash->len_bytes <= head_bytes) {
        return STATUS_INVALID;
    }
    uint64_t slot_bytes = (store->flash->len_bytes - head_bytes) / BOOT_SLOT_COUNT;
    store->slot_bytes = (uint32_t)align_down(min_u64(slot_bytes, BOOT_SLOT_MAX_BYTES), block_bytes);
    for (uint32_t i = 0; i < BOOT_SLOT_COUNT; i++) {
        store->slot_offset[i] = head_bytes + (uint64_t)store->slot_bytes * i;
    }
    return store->slot_bytes > 0 ? STATUS_OK : STATUS_INVALID;
}

static void read_flash(const struct store *store, uint64_t offset, void *out, uint32_t len_bytes)
{
    store->flash->ops->read(store->flash, offset, out, len_bytes);
}

/* --- what is there --------------------------------------------------------------------------- */

/* Whole, and its images fit into this flash's slots. */
static bool read_record(const struct store *store, uint32_t copy, struct boot_record *record)
{
    read_flash(store, record_offset(store, copy), record, sizeof(*record));
    bool is_whole = boot_state_is_valid(record);
    for (uint32_t i = 0; i < BOOT_SLOT_COUNT; i++) {
        is_whole = is_whole && record->slots[i].image_bytes <= store->slot_bytes;
    }
    if (!is_whole) {
        record->magic = 0;
    }
    return is_whole;
}

static void find_record(struct store *store)
{
    struct boot_record *second = &store->staged;
    bool is_first_whole = read_record(store, 0, &store->record);
    bool is_second_whole = read_record(store, 1, second);

    store->has_record = is_first_whole || is_second_whole;
    store->newest_record = is_first_whole ? 0 : 1;
    if (!store->has_record) {
        boot_state_init(&store->record);
    } else if (boot_state_newer(&store->record, second) == second) {
        store->record = *second;
        store->newest_record = 1;
    }
}

static uint32_t head_crc(const struct boot_config_head *head)
{
    return crc32_update(0, head, offsetof(struct boot_config_head, crc));
}

/* The head, and the tree as its CRC says. */
static bool read_config_head(const struct store *store, uint32_t copy,
                             struct boot_config_head *head)
{
    uint8_t piece[READ_BYTES];
    uint64_t offset = config_offset(store, copy);

    read_flash(store, offset, head, sizeof(*head));
    if (head->magic != BOOT_CONFIG_MAGIC || head->tree_bytes > config_max_bytes(store)) {
        return false;
    }
    uint32_t crc = head_crc(head);
    offset += sizeof(*head);
    for (uint32_t done_bytes = 0; done_bytes < head->tree_bytes; done_bytes += READ_BYTES) {
        uint32_t bytes = min_u32(READ_BYTES, head->tree_bytes - done_bytes);
        read_flash(store, offset + done_bytes, piece, bytes);
        crc = crc32_update(crc, piece, bytes);
    }
    return crc == head->crc;
}

static void find_config(struct store *store)
{
    struct boot_config_head second;
    bool is_first_whole = read_config_head(store, 0, &store->config_head);
    bool is_second_whole = read_config_head(store, 1, &second);

    store->config_copy = is_first_whole ? 0 : 1;
    if (!is_first_whole && !is_second_whole) {
        memset(&store->config_head, 0, sizeof(store->config_head));
    } else if (is_second_whole &&
               (!is_first_whole || (int32_t)(second.sequence - store->config_head.sequence) > 0)) {
        store->config_head = second;
        store->config_copy = 1;
    }
}

enum status store_open(struct store *store, struct flash *flash)
{
    memset(store, 0, sizeof(*store));
    store->flash = flash;
    enum status status = lay_out(store);
    if (status == STATUS_OK) {
        find_record(store);
        find_config(store);
    }
    return status;
}

void store_read_slot(struct store *store, uint8_t slot, uint32_t offset, void *out,
                     uint32_t len_bytes)
{
    ASSERT(slot < BOOT_SLOT_COUNT && range_fits(offset, len_bytes, store->slot_bytes));
    ASSERT(store->state == STORE_IDLE);
    read_flash(store, store->slot_offset[slot] + offset, out, len_bytes);
}

enum status store_read_config(struct store *store, void *tree, uint32_t max_bytes,
                              uint32_t *out_bytes)
{
    const struct boot_config_head *head = &store->config_head;

    ASSERT(store->state == STORE_IDLE);
    if (head->tree_bytes == 0) {
        return STATUS_NOT_FOUND;
    }
    if (head->tree_bytes > max_bytes) {
        return STATUS_NO_SPACE;
    }
    read_flash(store, config_offset(store, store->config_copy) + sizeof(*head), tree,
               head->tree_bytes);
    *out_bytes = head->tree_bytes;
    return STATUS_OK;
}

bool store_is_readable(const struct store *store)
{
    struct boot_record record;

    read_flash(store, record_offset(store, store->newest_record), &record, sizeof(record));
    return memcmp(&record, &store->record, sizeof(record)) == 0;
}

/* --- an operation ---------------------------------------------------------------------------- */

static void start(struct store *store, enum store_kind kind, uint64_t base, const void *data,
                  uint32_t len_bytes)
{
    uint32_t whole_bytes = len_bytes & ~3u;

    store->kind = (uint8_t)kind;
    store->state = STORE_ERASE;
    store->erase_next = 0;
    store->erase_end = 0;
    store->base = base;
    store->data = data;
    store->len_bytes = len_bytes;
    store->position = 0;
    store->done_bytes = 0;
    memset(store->tail, 0xff, sizeof(store->tail));
    if (whole_bytes < len_bytes) {
        memcpy(store->tail, store->data + whole_bytes, len_bytes - whole_bytes);
    }
}

static void erase_for(struct store *store, uint64_t offset, uint64_t len_bytes)
{
    store->erase_next = offset;
    store->erase_end = offset + align_up(len_bytes, store->flash->block_bytes);
}

enum status store_write_record(struct store *store, const struct boot_record *record)
{
    if (store->state != STORE_IDLE) {
        return STATUS_AGAIN;
    }
    uint64_t offset = record_offset(store, store->newest_record ^ 1u);
    store->staged = *record;
    store->staged.sequence = store->record.sequence;
    boot_state_seal(&store->staged);
    start(store, STORE_RECORD, offset, &store->staged, sizeof(store->staged));
    erase_for(store, offset, 1);
    return STATUS_OK;
}

enum status store_write_slot(struct store *store, uint8_t slot, const void *image,
                             uint32_t len_bytes)
{
    ASSERT(slot < BOOT_SLOT_COUNT);
    if (store->state != STORE_IDLE) {
        return STATUS_AGAIN;
    }
    if (len_bytes > store->slot_bytes) {
        return STATUS_NO_SPACE;
    }
    start(store, STORE_SLOT, store->slot_offset[slot], image, len_bytes);
    erase_for(store, store->slot_offset[slot], len_bytes);
    return STATUS_OK;
}

enum status store_write_config(struct store *store, const void *tree, uint32_t len_bytes)
{
    struct boot_config_head *head = &store->staged_head;
    uint64_t offset = config_offset(store, store->config_copy ^ 1u);

    if (store->state != STORE_IDLE) {
        return STATUS_AGAIN;
    }
    if (len_bytes > config_max_bytes(store)) {
        return STATUS_NO_SPACE;
    }
    head->magic = BOOT_CONFIG_MAGIC;
    head->tree_bytes = len_bytes;
    head->sequence = store->config_head.sequence + 1;
    head->crc = crc32_update(head_crc(head), tree, len_bytes);
    start(store, STORE_TREE, offset + sizeof(*head), tree, len_bytes);
    erase_for(store, offset, 1);
    return STATUS_OK;
}

/* Programs from `position` on, up to where a piece of the flash ends. */
static void program_piece(struct store *store)
{
    uint32_t piece_bytes = store->flash->program_bytes;
    uint64_t offset = store->base + store->position;
    uint32_t room_bytes = piece_bytes - (uint32_t)(offset & (piece_bytes - 1));
    uint32_t left_bytes = store->len_bytes - store->position;

    if (left_bytes >= 4) {
        uint32_t bytes = min_u32(room_bytes, left_bytes & ~3u);
        store->flash->ops->program(store->flash, offset, store->data + store->position, bytes);
        store->position += bytes;
    } else {
        store->flash->ops->program(store->flash, offset, store->tail, 4);
        store->position = store->len_bytes;
    }
}

/* Compares a piece; false: it differs. */
static bool verify_piece(struct store *store)
{
    uint8_t piece[READ_BYTES];
    uint32_t bytes = min_u32(READ_BYTES, store->len_bytes - store->position);

    read_flash(store, store->base + store->position, piece, bytes);
    bool is_same = memcmp(piece, store->data + store->position, bytes) == 0;
    store->position += bytes;
    return is_same;
}

/* All of it is there: what was written counts now. */
static enum status finish(struct store *store)
{
    store->state = STORE_IDLE;
    switch ((enum store_kind)store->kind) {
    case STORE_RECORD:
        store->newest_record ^= 1u;
        store->record = store->staged;
        store->has_record = true;
        break;
    case STORE_TREE:
        start(store, STORE_HEAD, config_offset(store, store->config_copy ^ 1u), &store->staged_head,
              sizeof(store->staged_head));
        return STATUS_AGAIN;
    case STORE_HEAD:
        store->config_copy ^= 1u;
        store->config_head = store->staged_head;
        break;
    case STORE_SLOT:
        break;
    }
    return STATUS_OK;
}

static enum status fail(struct store *store)
{
    store->state = STORE_IDLE;
    return STATUS_IO;
}

enum status store_poll(struct store *store)
{
    if (store->state == STORE_IDLE) {
        return STATUS_OK;
    }
    enum status status = store->flash->ops->poll(store->flash);
    if (status != STATUS_OK) {
        return status == STATUS_AGAIN ? status : fail(store);
    }
    switch ((enum store_state)store->state) {
    case STORE_ERASE:
        if (store->erase_next < store->erase_end) {
            store->flash->ops->erase(store->flash, store->erase_next);
            store->erase_next += store->flash->block_bytes;
        } else {
            store->state = STORE_PROGRAM;
        }
        return STATUS_AGAIN;
    case STORE_PROGRAM:
        store->done_bytes = store->position;
        if (store->position < store->len_bytes) {
            program_piece(store);
        } else {
            store->state = STORE_VERIFY;
            store->position = 0;
        }
        return STATUS_AGAIN;
    case STORE_VERIFY:
        if (store->position < store->len_bytes) {
            return verify_piece(store) ? STATUS_AGAIN : fail(store);
        }
        return finish(store);
    case STORE_IDLE:
        break;
    }
    return STATUS_OK;
}

uint32_t store_done_bytes(const struct store *store)
{
    return store->done_bytes;
}
