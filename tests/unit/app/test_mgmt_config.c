/* The configuration in flash by management messages. */
#include "app/rig.h"

#include <string.h>
#include "app/mgmt_priv.h"
#include "app/update.h"
#include "base/crc.h"
#include "tests/model/flash.h"

#define BLOCK_BYTES 4096u
#define MAX_BYTES   (BLOCK_BYTES - 16u)
#define PIECE       300u

#define TREE(option)                                                                         \
    "/dts-v1/; / { compatible = \"snic,config\"; options { " option " }; volumes { v0: v { " \
    "paths { path@0 { reg = <0>; ram = \"1M\"; }; }; }; }; functions { function@0 { reg = "  \
    "<0>; namespace@1 { reg = <1>; volume = <&v0>; }; }; }; };"

static struct model_flash flash;
static struct mgmt_from from;
static _Alignas(8) uint8_t request[4096];
static _Alignas(8) uint8_t response[4096];
static const struct mgmt_head *const head = (const struct mgmt_head *)(const void *)response;
static _Alignas(8) uint8_t good[BLOCK_BYTES];
static _Alignas(8) uint8_t bad[BLOCK_BYTES];
static uint32_t good_bytes;
static uint32_t bad_bytes;

static uint32_t tree_bytes(const uint8_t *tree)
{
    return (uint32_t)tree[4] << 24 | (uint32_t)tree[5] << 16 | (uint32_t)tree[6] << 8 | tree[7];
}

static int setup(void **state)
{
    (void)state;
    rig_start(0, 0, RIG_POOL_BYTES, "serial=WORDS");
    model_flash_init(&flash, 4 * BLOCK_BYTES + 2 * 65536, BLOCK_BYTES, 256);
    rig.board.name = "test";
    rig.board.flash = &flash.flash;
    app_update_open(&rig.board);
    app_update_start();
    rig_compile(TREE("serial = \"TREE1\";"), good, sizeof(good));
    rig_compile(TREE("cereal = \"TREE1\";"), bad, sizeof(bad));
    good_bytes = tree_bytes(good);
    bad_bytes = tree_bytes(bad);
    from = (struct mgmt_from){.origin = MGMT_ORIGIN_CONSOLE,
                              .may_see_all = true,
                              .may_change = true,
                              .message_max = MGMT_FRAME_BYTES};
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    model_flash_free(&flash);
    rig_stop();
    return 0;
}

static enum mgmt_status ask(uint8_t op, const void *fixed, uint32_t fixed_bytes, const void *more,
                            uint32_t more_bytes)
{
    memcpy(request + sizeof(*head), fixed, fixed_bytes);
    if (more_bytes > 0) {
        memcpy(request + sizeof(*head) + fixed_bytes, more, more_bytes);
    }
    uint32_t len_bytes = mgmt_seal(request, op, 5, fixed_bytes + more_bytes);
    mgmt_serve(&app_mgmt_tables, &from, request, len_bytes, response);
    return (enum mgmt_status)head->status;
}

static enum mgmt_status write_piece(uint64_t offset, const uint8_t *data, uint32_t len_bytes)
{
    const struct mgmt_write_request words = {
        .object = MGMT_OBJECT_CONFIG, .data_bytes = len_bytes, .offset = offset};

    return ask(MGMT_OP_WRITE, &words, sizeof(words), data, len_bytes);
}

static void write_tree(const uint8_t *tree, uint32_t len_bytes)
{
    for (uint32_t at = 0; at < len_bytes; at += PIECE) {
        assert_int_equal(write_piece(at, tree + at, min_u32(PIECE, len_bytes - at)), MGMT_OK);
    }
}

static enum mgmt_status commit_as(uint32_t len_bytes, uint32_t crc, bool is_check)
{
    struct {
        struct mgmt_action_request action;
        struct mgmt_commit_config commit;
    } words = {.action = {.action = MGMT_ACTION_COMMIT_CONFIG,
                          .argument_bytes = sizeof(struct mgmt_commit_config)},
               .commit = {.tree_bytes = len_bytes, .crc = crc, .is_check = is_check}};

    return ask(MGMT_OP_ACTION, &words, sizeof(words), NULL, 0);
}

static enum mgmt_status commit(const uint8_t *tree, uint32_t len_bytes)
{
    return commit_as(len_bytes, crc32_update(0, tree, len_bytes), false);
}

/* As a tool does: until it is not busy. */
static enum mgmt_status commit_wait(const uint8_t *tree, uint32_t len_bytes)
{
    enum mgmt_status status = MGMT_BUSY;

    for (uint32_t i = 0; i < 1000 && status == MGMT_BUSY; i++) {
        status = commit(tree, len_bytes);
        rig_turn();
    }
    return status;
}

static const char *text(void)
{
    static char copy[400];

    assert_in_range(head->payload_bytes, 0, sizeof(copy) - 1);
    memcpy(copy, head + 1, head->payload_bytes);
    copy[head->payload_bytes] = '\0';
    return copy;
}

/* What the next start finds. */
static uint32_t in_flash(uint8_t *tree)
{
    struct store store;
    uint32_t len_bytes = 0;

    assert_int_equal(store_open(&store, &flash.flash), STATUS_OK);
    enum status status = store_read_config(&store, tree, BLOCK_BYTES, &len_bytes);
    return status == STATUS_OK ? len_bytes : 0;
}

static void assert_in_flash(const uint8_t *tree, uint32_t len_bytes)
{
    static uint8_t found[BLOCK_BYTES];

    assert_int_equal(in_flash(found), len_bytes);
    assert_memory_equal(found, tree, len_bytes);
}

static void commit_is_busy_until_the_tree_is_in_flash(void **state)
{
    (void)state;
    write_tree(good, good_bytes);
    flash.busy_polls = 3;
    assert_int_equal(commit(good, good_bytes), MGMT_BUSY);
    assert_true(app_update_is_writing());
    assert_int_equal(commit(good, good_bytes), MGMT_BUSY);
    assert_int_equal(write_piece(0, bad, 8), MGMT_BUSY); /* it must not change now */
    assert_int_equal(commit(bad, bad_bytes), MGMT_BUSY);
    assert_int_equal(commit_wait(good, good_bytes), MGMT_OK);
    assert_false(app_update_is_writing());
    assert_in_flash(good, good_bytes);
    uint32_t operations = flash.operations;
    assert_int_equal(commit(good, good_bytes), MGMT_OK); /* the answer was lost */
    rig_turn();
    assert_int_equal(flash.operations, operations);
    assert_string_equal(app.config.serial, "WORDS"); /* nothing that is in use has changed */
    assert_false(app.has_tree);
}

static void pieces_may_come_in_any_order_and_twice(void **state)
{
    (void)state;
    assert_int_equal(write_piece(200, good + 200, good_bytes - 200), MGMT_OK);
    assert_int_equal(write_piece(0, bad, 150), MGMT_OK);
    assert_int_equal(commit(good, good_bytes), MGMT_REFUSED);
    assert_int_equal(write_piece(100, good + 100, 100), MGMT_OK);
    assert_int_equal(write_piece(0, good, 150), MGMT_OK);
    assert_int_equal(commit_wait(good, good_bytes), MGMT_OK);
    assert_in_flash(good, good_bytes);
}

static void bad_trees_are_refused_with_the_words_of_a_start(void **state)
{
    (void)state;
    static struct config config;
    static struct config_tree tree;
    char words[200];

    assert_int_equal(config_tree_open(&tree, bad, bad_bytes, &config, words, sizeof(words)),
                     STATUS_INVALID);
    write_tree(bad, bad_bytes);
    assert_int_equal(commit(bad, bad_bytes), MGMT_REFUSED);
    assert_string_equal(text(), words);
    assert_non_null(strstr(words, "/options: cereal"));
    assert_int_equal(commit_as(bad_bytes, crc32_update(0, bad, bad_bytes) ^ 1, false),
                     MGMT_REFUSED);
    assert_non_null(strstr(text(), "damaged"));
    assert_int_equal(commit(bad, bad_bytes - 1), MGMT_REFUSED); /* shorter than it says */
    assert_int_equal(commit(bad, 3), MGMT_REFUSED);
    rig_turn();
    assert_int_equal(flash.operations, 0);
    write_tree(good, good_bytes);
    assert_int_equal(commit_wait(good, good_bytes), MGMT_OK);
}

static void check_alone_writes_nothing(void **state)
{
    (void)state;
    write_tree(good, good_bytes);
    assert_int_equal(commit_as(good_bytes, crc32_update(0, good, good_bytes), true), MGMT_OK);
    rig_turn();
    assert_int_equal(flash.operations, 0);
    assert_int_equal(commit_as(0, 0, true), MGMT_OK);
    write_tree(bad, bad_bytes);
    assert_int_equal(commit_as(bad_bytes, crc32_update(0, bad, bad_bytes), true), MGMT_REFUSED);
    assert_non_null(strstr(text(), "/options: cereal"));
    rig_turn();
    assert_int_equal(flash.operations, 0);
}

static void zero_bytes_forget_the_tree(void **state)
{
    (void)state;
    static uint8_t found[BLOCK_BYTES];

    write_tree(good, good_bytes);
    assert_int_equal(commit_wait(good, good_bytes), MGMT_OK);
    write_tree(bad, 40); /* not looked at */
    assert_int_equal(commit_wait(good, 0), MGMT_OK);
    assert_int_equal(in_flash(found), 0);
    assert_int_equal(commit_as(0, 0x1234, false), MGMT_OK);
    write_tree(good, good_bytes);
    assert_int_equal(commit(good, good_bytes), MGMT_BUSY); /* it is another one than the last */
    assert_int_equal(commit_wait(good, good_bytes), MGMT_OK);
    assert_in_flash(good, good_bytes);
}

static void flash_that_fails_is_told_once_and_tried_again(void **state)
{
    (void)state;
    write_tree(good, good_bytes);
    flash.fail_at = flash.operations + 1;
    assert_int_equal(commit_wait(good, good_bytes), MGMT_FAILED);
    assert_non_null(strstr(text(), "still counts"));
    assert_int_equal(commit_wait(good, good_bytes), MGMT_OK);
    assert_in_flash(good, good_bytes);
}

static void commit_waits_for_an_operation_of_the_flash(void **state)
{
    (void)state;
    struct store *store = app_update_store();
    struct boot_record record = store->record;

    write_tree(good, good_bytes);
    assert_int_equal(store_write_record(store, &record), STATUS_OK);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(commit(good, good_bytes), MGMT_BUSY);
        rig_turn();
        assert_int_equal(flash.operations, 0);
    }
    while (store_poll(store) == STATUS_AGAIN) {
    }
    assert_int_equal(commit_wait(good, good_bytes), MGMT_OK);
    assert_in_flash(good, good_bytes);
    assert_true(store->has_record);
}

static void bounds_and_rights_are_checked(void **state)
{
    (void)state;
    assert_int_equal(write_piece(MAX_BYTES - 8, good, 8), MGMT_OK);
    assert_int_equal(write_piece(MAX_BYTES - 8, good, 9), MGMT_OUT_OF_RANGE);
    assert_int_equal(write_piece(UINT64_MAX, good, 9), MGMT_OUT_OF_RANGE);
    assert_int_equal(write_piece(UINT64_C(1) << 32, good, 9), MGMT_OUT_OF_RANGE);
    assert_int_equal(commit_as(MAX_BYTES + 1, 0, false), MGMT_OUT_OF_RANGE);
    assert_int_equal(commit_as(UINT32_MAX, 0, false), MGMT_OUT_OF_RANGE);
    const struct mgmt_action_request words = {.action = MGMT_ACTION_COMMIT_CONFIG,
                                              .argument_bytes = 15};
    assert_int_equal(ask(MGMT_OP_ACTION, &words, sizeof(words), good, 15), MGMT_OUT_OF_RANGE);
    from = (struct mgmt_from){.origin = 0, .message_max = MGMT_BAND_BYTES};
    assert_int_equal(write_piece(0, good, 8), MGMT_NOT_ALLOWED);
    assert_int_equal(commit(good, good_bytes), MGMT_NOT_ALLOWED);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(commit_is_busy_until_the_tree_is_in_flash),
        TEST(pieces_may_come_in_any_order_and_twice),
        TEST(bad_trees_are_refused_with_the_words_of_a_start),
        TEST(check_alone_writes_nothing),
        TEST(zero_bytes_forget_the_tree),
        TEST(flash_that_fails_is_told_once_and_tried_again),
        TEST(commit_waits_for_an_operation_of_the_flash),
        TEST(bounds_and_rights_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
