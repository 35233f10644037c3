#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/bits.h"
#include "base/crc.h"
#include "update/rig.h"

#define FLASH_BYTES (4 * RIG_BLOCK_BYTES + 2 * RIG_SLOT_BYTES)

static struct model_flash model;
static struct store store;
static uint8_t data[RIG_SLOT_BYTES];

static void open_store(void)
{
    assert_int_equal(store_open(&store, &model.flash), STATUS_OK);
}

static int setup(void **state)
{
    (void)state;
    model_flash_init(&model, FLASH_BYTES, RIG_BLOCK_BYTES, RIG_PROGRAM_BYTES);
    for (uint32_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)(i * 7 + i / 256);
    }
    open_store();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    model_flash_free(&model);
    return 0;
}

/* A record that tells itself from others. */
static struct boot_record marked(uint32_t mark)
{
    struct boot_record record = store.record;
    record.reserved1 = mark;
    return record;
}

static enum status write_record(uint32_t mark)
{
    struct boot_record record = marked(mark);
    assert_int_equal(store_write_record(&store, &record), STATUS_OK);
    return rig_store_settle(&store);
}

static enum status write_config(const void *tree, uint32_t len_bytes)
{
    assert_int_equal(store_write_config(&store, tree, len_bytes), STATUS_OK);
    return rig_store_settle(&store);
}

static enum status write_slot(uint8_t slot, uint32_t len_bytes)
{
    assert_int_equal(store_write_slot(&store, slot, data, len_bytes), STATUS_OK);
    return rig_store_settle(&store);
}

/* The tree that counts; 0 bytes: none. */
static uint32_t read_config(uint8_t *tree)
{
    uint32_t len_bytes = 0;
    enum status status = store_read_config(&store, tree, RIG_BLOCK_BYTES, &len_bytes);
    assert_true(status == STATUS_OK || status == STATUS_NOT_FOUND);
    return len_bytes;
}

/* --- layout ---------------------------------------------------------------------------------- */

static void store_open_lays_out_records_configs_slots(void **state)
{
    (void)state;
    assert_false(store.has_record);
    assert_int_equal(store.record.active, BOOT_SLOT_NONE);
    assert_int_equal(store.slot_bytes, RIG_SLOT_BYTES);
    assert_int_equal(store.slot_offset[0], 4 * RIG_BLOCK_BYTES);
    assert_int_equal(store.slot_offset[1], 4 * RIG_BLOCK_BYTES + RIG_SLOT_BYTES);
    assert_int_equal(read_config(data), 0);
}

static void store_open_slots_are_whole_blocks_and_not_above_the_most(void **state)
{
    (void)state;
    model.flash.len_bytes -= RIG_BLOCK_BYTES;
    open_store();
    assert_int_equal(store.slot_bytes, RIG_SLOT_BYTES - RIG_BLOCK_BYTES);
    model_flash_free(&model);
    model_flash_init(&model, 64u << 20, 256u << 10, 2048);
    open_store();
    assert_int_equal(store.slot_bytes, BOOT_SLOT_MAX_BYTES);
    assert_int_equal(store.slot_offset[1], 4 * (256u << 10) + BOOT_SLOT_MAX_BYTES);
}

static void store_open_flash_too_small_is_invalid(void **state)
{
    (void)state;
    for (uint32_t blocks = 0; blocks < 6; blocks++) {
        model.flash.len_bytes = blocks * RIG_BLOCK_BYTES;
        assert_int_equal(store_open(&store, &model.flash), STATUS_INVALID);
    }
    model.flash.len_bytes = 6 * RIG_BLOCK_BYTES;
    open_store();
    model.flash.block_bytes = 64;
    assert_int_equal(store_open(&store, &model.flash), STATUS_INVALID);
}

/* --- records --------------------------------------------------------------------------------- */

static void store_write_record_takes_turns_and_the_newer_counts(void **state)
{
    (void)state;
    for (uint32_t mark = 1; mark <= 5; mark++) {
        assert_int_equal(write_record(mark), STATUS_OK);
        open_store();
        assert_true(store.has_record);
        assert_int_equal(store.record.reserved1, mark);
        assert_int_equal(store.record.sequence, mark);
        assert_int_equal(store.newest_record, (mark - 1) % 2);
    }
}

static void store_write_record_sequence_goes_on_from_what_counts(void **state)
{
    (void)state;
    struct boot_record record;
    assert_int_equal(write_record(1), STATUS_OK);
    boot_state_init(&record); /* as of somebody who never read */
    assert_int_equal(store_write_record(&store, &record), STATUS_OK);
    assert_int_equal(rig_store_settle(&store), STATUS_OK);
    assert_int_equal(store.record.sequence, 2);
}

static void store_open_damaged_record_leaves_the_one_before(void **state)
{
    (void)state;
    assert_int_equal(write_record(1), STATUS_OK);
    assert_int_equal(write_record(2), STATUS_OK);
    model.bytes[RIG_BLOCK_BYTES + 40] ^= 1;
    open_store();
    assert_int_equal(store.record.reserved1, 1);
    model.bytes[40] ^= 1;
    open_store();
    assert_false(store.has_record);
    assert_int_equal(store.record.sequence, 0);
}

static void store_open_record_with_images_beyond_the_slots_does_not_count(void **state)
{
    (void)state;
    struct boot_record record = store.record;
    record.slots[1].image_bytes = RIG_SLOT_BYTES + 1;
    boot_state_seal(&record);
    assert_true(boot_state_is_valid(&record));
    memcpy(model.bytes, &record, sizeof(record));
    open_store();
    assert_false(store.has_record);
    record.slots[1].image_bytes = RIG_SLOT_BYTES;
    boot_state_seal(&record);
    memcpy(model.bytes, &record, sizeof(record));
    open_store();
    assert_true(store.has_record);
}

/* --- slots ----------------------------------------------------------------------------------- */

static void store_write_slot_any_length_lies_in_flash_and_nothing_else(void **state)
{
    (void)state;
    static const uint32_t lengths[] = {1,   2,    3,    4,    5,    255,  256,
                                       257, 1023, 1024, 1025, 3001, 8191, RIG_SLOT_BYTES};
    uint8_t back[RIG_SLOT_BYTES];
    for (uint32_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        uint8_t slot = (uint8_t)(i % 2);
        memset(model.bytes, 0, FLASH_BYTES); /* what is not erased stays so */
        assert_int_equal(write_slot(slot, lengths[i]), STATUS_OK);
        assert_int_equal(store_done_bytes(&store), lengths[i]);
        store_read_slot(&store, slot, 0, back, lengths[i]);
        assert_memory_equal(back, data, lengths[i]);
        uint64_t end = store.slot_offset[slot] + align_up(lengths[i], RIG_BLOCK_BYTES);
        for (uint64_t at = 0; at < FLASH_BYTES; at++) {
            bool is_ours = at >= store.slot_offset[slot] && at < end;
            assert_true(is_ours || model.bytes[at] == 0);
        }
    }
}

static void store_write_slot_too_long_is_refused(void **state)
{
    (void)state;
    assert_int_equal(store_write_slot(&store, 0, data, RIG_SLOT_BYTES + 1), STATUS_NO_SPACE);
    assert_int_equal(store_poll(&store), STATUS_OK);
    assert_int_equal(model.operations, 0);
}

/* A bit that no erase sets: the device says that all is well. */
static void store_poll_flash_reads_back_otherwise_is_io(void **state)
{
    (void)state;
    data[5000] = 0xff;
    assert_int_equal(store_write_slot(&store, 1, data, 6000), STATUS_OK);
    while (store_done_bytes(&store) < 6000) {
        assert_int_equal(store_poll(&store), STATUS_AGAIN);
    }
    model.bytes[store.slot_offset[1] + 5000] &= 0xfe;
    assert_int_equal(rig_store_settle(&store), STATUS_IO);
    assert_int_equal(store_poll(&store), STATUS_OK);
}

static void store_write_while_busy_is_again(void **state)
{
    (void)state;
    struct boot_record record = store.record;
    assert_int_equal(store_write_slot(&store, 0, data, 100), STATUS_OK);
    assert_int_equal(store_write_slot(&store, 1, data, 100), STATUS_AGAIN);
    assert_int_equal(store_write_record(&store, &record), STATUS_AGAIN);
    assert_int_equal(store_write_config(&store, data, 100), STATUS_AGAIN);
    assert_int_equal(rig_store_settle(&store), STATUS_OK);
    assert_int_equal(store_write_record(&store, &record), STATUS_OK);
}

/* Each poll does one thing: the busy device is asked, and nothing else. */
static void store_poll_slow_device_is_asked_until_it_is_done(void **state)
{
    (void)state;
    model.busy_polls = 7;
    assert_int_equal(write_slot(0, 3000), STATUS_OK);
    assert_true(rig_slot_holds(&(struct update_rig){.flash = model, .store = store}, 0,
                               &(struct test_image){.bytes = data, .len_bytes = 3000}));
}

/* --- configurations -------------------------------------------------------------------------- */

static void store_write_config_the_newer_counts(void **state)
{
    (void)state;
    uint8_t tree[RIG_BLOCK_BYTES];
    uint32_t ignored;
    assert_int_equal(write_config(data, 333), STATUS_OK);
    assert_int_equal(read_config(tree), 333);
    assert_int_equal(write_config(data + 1, 1008), STATUS_OK);
    open_store();
    assert_int_equal(read_config(tree), 1008);
    assert_memory_equal(tree, data + 1, 1008);
    assert_int_equal(store_read_config(&store, tree, 1007, &ignored), STATUS_NO_SPACE);
    assert_int_equal(store_write_config(&store, data, 1009), STATUS_NO_SPACE);
    model.bytes[3 * RIG_BLOCK_BYTES + 500] ^= 4;
    open_store();
    assert_int_equal(read_config(tree), 333);
}

static void store_write_config_empty_one_is_none(void **state)
{
    (void)state;
    uint8_t tree[RIG_BLOCK_BYTES];
    assert_int_equal(write_config(data, 333), STATUS_OK);
    assert_int_equal(write_config(NULL, 0), STATUS_OK);
    assert_int_equal(read_config(tree), 0);
    open_store();
    assert_int_equal(read_config(tree), 0);
    assert_int_equal(write_config(data, 5), STATUS_OK);
    open_store();
    assert_int_equal(read_config(tree), 5);
}

static void store_open_config_head_that_lies_about_its_size_does_not_count(void **state)
{
    (void)state;
    struct boot_config_head head = {
        .magic = BOOT_CONFIG_MAGIC, .tree_bytes = RIG_BLOCK_BYTES - 15, .sequence = 9};
    memcpy(model.bytes + 2 * RIG_BLOCK_BYTES, &head, sizeof(head));
    head.tree_bytes = UINT32_MAX;
    memcpy(model.bytes + 3 * RIG_BLOCK_BYTES, &head, sizeof(head));
    open_store();
    assert_int_equal(read_config(data), 0);
}

/* --- failures and cuts ----------------------------------------------------------------------- */

/* Each operation fails in turn: what counted still counts, and the next try succeeds. */
static void store_write_failing_at_each_operation_leaves_the_old(void **state)
{
    (void)state;
    uint8_t tree[RIG_BLOCK_BYTES];
    assert_int_equal(write_record(1), STATUS_OK);
    assert_int_equal(write_config(data, 700), STATUS_OK);
    enum status status = STATUS_IO;
    for (uint32_t n = 1; status != STATUS_OK; n++) {
        model_flash_power_on(&model, n);
        model.fail_at = n;
        status = write_record(2);
        assert_int_equal(store.record.reserved1, status == STATUS_OK ? 2 : 1);
        assert_true(n < 10);
    }
    status = STATUS_IO;
    for (uint32_t n = 1; status != STATUS_OK; n++) {
        model_flash_power_on(&model, n);
        model.fail_at = n;
        status = write_config(data + 4, 800);
        assert_int_equal(read_config(tree), status == STATUS_OK ? 800 : 700);
        open_store();
        assert_int_equal(read_config(tree), status == STATUS_OK ? 800 : 700);
        assert_true(n < 10);
    }
    status = STATUS_IO;
    for (uint32_t n = 1; status != STATUS_OK; n++) {
        model_flash_power_on(&model, n);
        model.fail_at = n;
        status = write_slot(0, 3000);
        assert_true(n < 30);
    }
}

static void store_write_cut_at_each_operation_leaves_the_old_or_the_new(void **state)
{
    (void)state;
    uint8_t tree[RIG_BLOCK_BYTES];
    assert_int_equal(write_record(1), STATUS_OK);
    assert_int_equal(write_config(data, 700), STATUS_OK);
    for (uint32_t seed = 1; seed <= 300; seed++) {
        uint32_t mark = store.record.reserved1;
        uint32_t tree_bytes = read_config(tree);
        model_flash_power_on(&model, seed);
        model.cut_at = 1 + seed % 7;
        enum status status = write_record(mark + 1);
        model_flash_power_on(&model, seed);
        open_store();
        assert_true(store.record.reserved1 == mark + 1 ||
                    (status != STATUS_OK && store.record.reserved1 == mark));
        model_flash_power_on(&model, seed + 1000);
        model.cut_at = 1 + seed % 11;
        status = write_config(data + seed, tree_bytes + 1);
        model_flash_power_on(&model, seed);
        open_store();
        uint32_t now_bytes = read_config(tree);
        assert_true(now_bytes == tree_bytes + 1 ||
                    (status != STATUS_OK && now_bytes == tree_bytes));
        if (now_bytes > tree_bytes) {
            assert_memory_equal(tree, data + seed, now_bytes);
        }
    }
    assert_true(store.record.reserved1 > 10);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(store_open_lays_out_records_configs_slots),
        TEST(store_open_slots_are_whole_blocks_and_not_above_the_most),
        TEST(store_open_flash_too_small_is_invalid),
        TEST(store_write_record_takes_turns_and_the_newer_counts),
        TEST(store_write_record_sequence_goes_on_from_what_counts),
        TEST(store_open_damaged_record_leaves_the_one_before),
        TEST(store_open_record_with_images_beyond_the_slots_does_not_count),
        TEST(store_write_slot_any_length_lies_in_flash_and_nothing_else),
        TEST(store_write_slot_too_long_is_refused),
        TEST(store_poll_flash_reads_back_otherwise_is_io),
        TEST(store_write_while_busy_is_again),
        TEST(store_poll_slow_device_is_asked_until_it_is_done),
        TEST(store_write_config_the_newer_counts),
        TEST(store_write_config_empty_one_is_none),
        TEST(store_open_config_head_that_lies_about_its_size_does_not_count),
        TEST(store_write_failing_at_each_operation_leaves_the_old),
        TEST(store_write_cut_at_each_operation_leaves_the_old_or_the_new),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
