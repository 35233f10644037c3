#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <libfdt.h>
#include "update/rig.h"

static struct image_rules rules;
static struct image_info info;

static int setup(void **state)
{
    (void)state;
    rules = (struct image_rules){.key = &test_image_key, .board = TEST_IMAGE_BOARD};
    return 0;
}

/* In memory of just its length, so that reads beyond are seen. */
static enum image_fault check_bytes(const void *bytes, uint32_t len_bytes)
{
    uint8_t *copy = malloc(len_bytes); /* (aligned to 16) */
    memcpy(copy, bytes, len_bytes);
    enum image_fault fault = image_check(copy, len_bytes, &rules, &info);
    if (fault == IMAGE_OK) {
        assert_true(info.data > copy && info.data + info.data_bytes <= copy + len_bytes);
    } else {
        assert_null(info.data);
    }
    free(copy);
    return fault;
}

static enum image_fault check_named(const char *name)
{
    const struct test_image *image = rig_image(name);
    return check_bytes(image->bytes, image->len_bytes);
}

/* A property's place in the FIT. */
static const uint8_t *find(const void *fit, const char *path, const char *name, int *len_bytes)
{
    const uint8_t *value = fdt_getprop(fit, fdt_path_offset(fit, path), name, len_bytes);
    assert_non_null(value);
    return value;
}

#define IMAGE_PATH "/images/firmware"

/* --- good ones ------------------------------------------------------------------------------- */

static void image_check_signed_image_is_ok_and_says_what_it_is(void **state)
{
    (void)state;
    const struct test_image *image = rig_image("good-new");
    assert_int_equal(image_check(image->bytes, image->len_bytes, &rules, &info), IMAGE_OK);
    assert_int_equal(info.data_bytes, 64 + 96 + 4999);
    assert_int_equal(info.head.load_bytes, info.data_bytes);
    assert_int_equal(info.head.security_version, 2);
    assert_string_equal(info.head.version, "2.0");
    assert_string_equal(info.head.board, "test");
    assert_int_equal(info.head.load_addr, 0x40200000);
    assert_int_equal(image_fit_bytes(image->bytes), image->len_bytes);
    assert_int_equal(check_named("good"), IMAGE_OK);
    assert_int_equal(check_named("good-full"), IMAGE_OK);
}

static void image_check_more_bytes_than_the_image_is_ok(void **state)
{
    (void)state;
    const struct test_image *image = rig_image("good");
    static uint8_t longer[5000];
    memcpy(longer, image->bytes, image->len_bytes);
    assert_int_equal(check_bytes(longer, sizeof(longer)), IMAGE_OK);
}

/* No step is long: 4 KiB of 5159 bytes, the rest, and the signature. */
static void image_check_step_takes_a_piece_at_a_time(void **state)
{
    (void)state;
    const struct test_image *image = rig_image("good-new");
    struct image_checker checker;
    image_check_start(&checker, image->bytes, image->len_bytes, &rules, &info);
    for (uint32_t i = 0; i < 2; i++) {
        assert_true(image_check_step(&checker));
        assert_int_equal(checker.hashed_bytes, i == 0 ? IMAGE_STEP_BYTES : 5159);
        assert_null(info.data);
    }
    assert_false(image_check_step(&checker));
    assert_int_equal(checker.fault, IMAGE_OK);
    assert_int_equal(info.data_bytes, 5159);
    image_check_start(&checker, image->bytes, 100, &rules, &info);
    assert_false(image_check_step(&checker));
    assert_int_equal(checker.fault, IMAGE_CUT);
}

/* --- refused, one by one --------------------------------------------------------------------- */

static void image_check_names_what_is_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum image_fault fault;
    } rows[] = {
        {"unsigned", IMAGE_NOT_SIGNED},         {"other-key", IMAGE_BAD_SIGNATURE},
        {"other-board", IMAGE_OTHER_BOARD},     {"longer-board", IMAGE_OTHER_BOARD},
        {"other-hash", IMAGE_NO_DATA},          {"external-data", IMAGE_NO_DATA},
        {"short-data", IMAGE_NO_DATA},          {"no-data", IMAGE_NO_DATA},
        {"head-magic", IMAGE_BAD_HEAD},         {"head-version", IMAGE_BAD_HEAD},
        {"head-load-less", IMAGE_BAD_HEAD},     {"head-load-more", IMAGE_BAD_HEAD},
        {"head-run-less", IMAGE_BAD_HEAD},      {"head-run-huge", IMAGE_BAD_HEAD},
        {"head-unaligned", IMAGE_BAD_HEAD},     {"head-high", IMAGE_BAD_HEAD},
        {"head-board-empty", IMAGE_BAD_HEAD},   {"head-board-endless", IMAGE_BAD_HEAD},
        {"head-version-empty", IMAGE_BAD_HEAD}, {"head-version-endless", IMAGE_BAD_HEAD},
    };
    for (uint32_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(check_named(rows[i].name), rows[i].fault);
    }
    /* Each image has its row, or is good. */
    assert_int_equal(test_image_count, sizeof(rows) / sizeof(rows[0]) + 4);
}

static void image_check_other_board_and_old_version_still_say_which(void **state)
{
    (void)state;
    assert_int_equal(check_named("other-board"), IMAGE_OTHER_BOARD);
    assert_string_equal(info.head.board, "tes");
    rules.min_security_version = 1;
    assert_int_equal(check_named("good"), IMAGE_OK);
    assert_int_equal(check_named("good-old"), IMAGE_TOO_OLD);
    assert_string_equal(info.head.version, "0.9");
}

static void image_check_same_image_by_the_other_key_needs_the_other_rules(void **state)
{
    (void)state;
    rules.key = &test_other_key;
    assert_int_equal(check_named("other-key"), IMAGE_OK);
    assert_int_equal(check_named("good"), IMAGE_BAD_SIGNATURE);
}

static void image_check_any_shorter_length_is_cut(void **state)
{
    (void)state;
    const struct test_image *image = rig_image("good");
    for (uint32_t bytes = 0; bytes < image->len_bytes; bytes++) {
        assert_int_equal(check_bytes(image->bytes, bytes), IMAGE_CUT);
    }
}

static void image_check_size_beyond_a_slot_is_cut(void **state)
{
    (void)state;
    const struct test_image *image = rig_image("good");
    uint8_t *large = calloc(1, BOOT_SLOT_MAX_BYTES + 4);
    memcpy(large, image->bytes, image->len_bytes);
    fdt_set_totalsize(large, BOOT_SLOT_MAX_BYTES);
    assert_int_equal(image_check(large, BOOT_SLOT_MAX_BYTES + 4, &rules, &info), IMAGE_OK);
    fdt_set_totalsize(large, BOOT_SLOT_MAX_BYTES + 4);
    assert_int_equal(image_check(large, BOOT_SLOT_MAX_BYTES + 4, &rules, &info), IMAGE_CUT);
    free(large);
}

static void image_check_no_tree_or_an_old_one_is_no_fit(void **state)
{
    (void)state;
    const struct test_image *image = rig_image("good");
    uint8_t bytes[4096];
    memset(bytes, 0xff, sizeof(bytes));
    assert_int_equal(check_bytes(bytes, sizeof(bytes)), IMAGE_NO_FIT);
    assert_int_equal(image_fit_bytes(bytes), 0);
    memcpy(bytes, image->bytes, image->len_bytes);
    fdt_set_version(bytes, 16);
    assert_int_equal(check_bytes(bytes, image->len_bytes), IMAGE_NO_FIT);
    fdt_set_version(bytes, 17);
    fdt_set_totalsize(bytes, 39);
    assert_int_equal(image_fit_bytes(bytes), 0);
    assert_int_equal(check_bytes(bytes, image->len_bytes), IMAGE_NO_FIT);
}

/* Another image's signature, or its hash and signature, do not make data good. */
static void image_check_parts_of_another_image_are_refused(void **state)
{
    (void)state;
    const struct test_image *image = rig_image("good");
    const struct test_image *other = rig_image("good-old");
    _Alignas(8) uint8_t bytes[4096];
    int len_bytes;
    memcpy(bytes, image->bytes, image->len_bytes);
    size_t at = (size_t)(find(bytes, IMAGE_PATH "/signature-1", "value", &len_bytes) - bytes);
    memcpy(bytes + at, find(other->bytes, IMAGE_PATH "/signature-1", "value", &len_bytes), 256);
    assert_int_equal(check_bytes(bytes, image->len_bytes), IMAGE_BAD_SIGNATURE);
    at = (size_t)(find(bytes, IMAGE_PATH "/hash-1", "value", &len_bytes) - bytes);
    memcpy(bytes + at, find(other->bytes, IMAGE_PATH "/hash-1", "value", &len_bytes), 32);
    assert_int_equal(check_bytes(bytes, image->len_bytes), IMAGE_BAD_HASH);
}

/* --- every bit ------------------------------------------------------------------------------- */

struct part {
    const uint8_t *start;
    int len_bytes;
};

static bool is_in(const struct part *part, const uint8_t *at)
{
    return at >= part->start && at < part->start + part->len_bytes;
}

/* Every single flipped bit of the whole FIT: in the data and its hash it is damage, in the
 * signature it is a bad one, in the names that lead to them it is refused; all else (descriptions,
 * load address, timestamp, key's name, the configuration) may pass, and then the data is the same.
 */
static void image_check_any_flipped_bit_is_refused_or_of_no_account(void **state)
{
    (void)state;
    const struct test_image *image = rig_image("good");
    _Alignas(8) uint8_t bytes[4096];
    struct part data, hash, signature, hash_algo, signature_algo;
    uint32_t passed = 0;
    memcpy(bytes, image->bytes, image->len_bytes);
    data.start = find(bytes, IMAGE_PATH, "data", &data.len_bytes);
    hash.start = find(bytes, IMAGE_PATH "/hash-1", "value", &hash.len_bytes);
    signature.start = find(bytes, IMAGE_PATH "/signature-1", "value", &signature.len_bytes);
    hash_algo.start = find(bytes, IMAGE_PATH "/hash-1", "algo", &hash_algo.len_bytes);
    signature_algo.start =
        find(bytes, IMAGE_PATH "/signature-1", "algo", &signature_algo.len_bytes);
    for (uint32_t bit = 0; bit < image->len_bytes * 8; bit++) {
        uint8_t *at = &bytes[bit / 8];
        *at ^= (uint8_t)(1u << (bit % 8));
        enum image_fault fault = image_check(bytes, image->len_bytes, &rules, &info);
        if (is_in(&data, at) || is_in(&hash, at)) {
            assert_int_equal(fault, IMAGE_BAD_HASH);
        } else if (is_in(&signature, at)) {
            assert_int_equal(fault, IMAGE_BAD_SIGNATURE);
        } else if (is_in(&hash_algo, at)) {
            assert_int_equal(fault, IMAGE_NO_DATA);
        } else if (is_in(&signature_algo, at)) {
            assert_int_equal(fault, IMAGE_NOT_SIGNED);
        } else if (fault == IMAGE_OK) {
            assert_int_equal(info.data_bytes, data.len_bytes);
            assert_ptr_equal(info.data, data.start);
            passed++;
        }
        *at ^= (uint8_t)(1u << (bit % 8));
    }
    assert_true(passed > 100);
    assert_int_equal(image_check(bytes, image->len_bytes, &rules, &info), IMAGE_OK);
}

/* --- texts, the build's key ------------------------------------------------------------------ */

static void image_fault_text_says_something_of_each(void **state)
{
    (void)state;
    for (int fault = 0; fault < IMAGE_FAULT_COUNT; fault++) {
        for (int other = 0; other < fault; other++) {
            assert_string_not_equal(image_fault_text((enum image_fault)fault),
                                    image_fault_text((enum image_fault)other));
        }
    }
    assert_string_equal(image_fault_text(IMAGE_FAULT_COUNT), "is refused");
}

static void image_build_key_is_marked_when_it_is_the_development_one(void **state)
{
    (void)state;
    bool is_same = memcmp(image_build_key.modulus, test_image_key.modulus, 256) == 0;
    assert_int_equal(image_build_key.is_development, is_same);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, setup)
    const struct CMUnitTest tests[] = {
        TEST(image_check_signed_image_is_ok_and_says_what_it_is),
        TEST(image_check_more_bytes_than_the_image_is_ok),
        TEST(image_check_step_takes_a_piece_at_a_time),
        TEST(image_check_names_what_is_wrong),
        TEST(image_check_other_board_and_old_version_still_say_which),
        TEST(image_check_same_image_by_the_other_key_needs_the_other_rules),
        TEST(image_check_any_shorter_length_is_cut),
        TEST(image_check_size_beyond_a_slot_is_cut),
        TEST(image_check_no_tree_or_an_old_one_is_no_fit),
        TEST(image_check_parts_of_another_image_are_refused),
        TEST(image_check_any_flipped_bit_is_refused_or_of_no_account),
        TEST(image_fault_text_says_something_of_each),
        TEST(image_build_key_is_marked_when_it_is_the_development_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
