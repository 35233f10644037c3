/*
 * Messages, frames, base64 and escaped text of snicctl.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "host_tools/snicctl/json.h"
#include "host_tools/snicctl/message.h"
#include "host_tools/snicctl/text.h"

static void crc_check_value_is_known(void **state)
{
    (void)state;
    assert_int_equal(message_crc(0, "123456789", 9), 0xcbf43926);
    assert_int_equal(message_crc(message_crc(0, "1234", 4), "56789", 5), 0xcbf43926);
}

static void seal_then_check_is_ok(void **state)
{
    uint8_t message[64] = {0};
    struct mgmt_head head = {.op = MGMT_OP_LIST, .tag = 7};

    (void)state;
    memcpy(message, &head, sizeof(head));
    memcpy(message + sizeof(head), "payload", 7);
    uint32_t len = message_seal(message, 7);
    assert_int_equal(len, 31);
    assert_int_equal(message_check(message, len, &head), MESSAGE_OK);
    assert_int_equal(message_check(message, sizeof(message), &head), MESSAGE_OK); /* and more */
    for (uint32_t cut = 0; cut < len; cut++) {
        assert_int_equal(message_check(message, cut, &head), MESSAGE_SHORT);
    }
    for (uint32_t bit = 0; bit < len * 8; bit++) {
        message[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_not_equal(message_check(message, len, &head), MESSAGE_OK);
        message[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static bool scan_all(struct message_scan *scan, const char *text, size_t len)
{
    bool is_found = false;

    for (size_t i = 0; i < len; i++) {
        is_found = message_scan_byte(scan, (uint8_t)text[i]) || is_found;
    }
    return is_found;
}

static void frame_within_text_comes_back(void **state)
{
    struct message_scan scan = {0};
    uint8_t message[MGMT_FRAME_BYTES];
    uint8_t back[MGMT_FRAME_BYTES];
    char frame[MESSAGE_FRAME_ROOM];
    size_t len = 0;

    (void)state;
    for (uint32_t i = 0; i < sizeof(message); i++) {
        message[i] = (uint8_t)(i * 37);
    }
    for (uint32_t bytes = 1; bytes <= sizeof(message); bytes += bytes < 8 ? 1 : 173) {
        uint32_t chars = message_frame(message, bytes, frame);
        assert_true(chars <= sizeof(frame));
        assert_false(scan_all(&scan, "snic> half a line", 17));
        assert_true(scan_all(&scan, frame, chars));
        assert_true(message_base64(scan.text, scan.chars, back, sizeof(back), &len));
        assert_int_equal(len, bytes);
        assert_memory_equal(back, message, bytes);
    }
}

static void scan_restart_inside_drops_the_first(void **state)
{
    struct message_scan scan = {0};
    static const char text[] = "\001AAAA\001QUJD\r\n";
    uint8_t back[8];
    size_t len = 0;

    (void)state;
    assert_true(scan_all(&scan, text, sizeof(text) - 1));
    assert_true(message_base64(scan.text, scan.chars, back, sizeof(back), &len));
    assert_int_equal(len, 3);
    assert_memory_equal(back, "ABC", 3);
    assert_false(scan_all(&scan, "\001\n", 2)); /* empty */
}

static void scan_too_long_is_dropped(void **state)
{
    static struct message_scan scan;

    (void)state;
    assert_false(message_scan_byte(&scan, MGMT_FRAME_START));
    for (uint32_t i = 0; i < MGMT_FRAME_CHARS + 1; i++) {
        assert_false(message_scan_byte(&scan, 'A'));
    }
    assert_false(message_scan_byte(&scan, '\n'));
    assert_true(scan_all(&scan, "\001QUJD\n", 6)); /* the next is taken */
}

static void base64_bad_is_refused(void **state)
{
    static const char *const bad[] = {"A", "AB", "ABC", "A===", "====", "AB=C", "AB==CDEF", "A!CD"};
    uint8_t back[8];
    size_t len = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(message_base64(bad[i], strlen(bad[i]), back, sizeof(back), &len));
    }
    assert_false(message_base64("AAAA", 4, back, 2, &len)); /* no room */
}

/* --- text ------------------------------------------------------------------------------------ */

static void assert_safe(const char *in, size_t len, const char *out)
{
    char *text = NULL;
    size_t text_bytes = 0;
    FILE *file = open_memstream(&text, &text_bytes);

    text_put(file, in, len, false);
    fclose(file);
    assert_string_equal(text, out);
    free(text);
}

static void text_hostile_is_escaped(void **state)
{
    (void)state;
    assert_safe("plain \xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", 15,
                "plain \xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
    assert_safe("\033[2J\n\177", 6, "\\x1b[2J\\x0a\\x7f");
    assert_safe("\xc2\x9b", 2, "\\xc2\\x9b");          /* CSI as C1 */
    assert_safe("\xc0\xaf", 2, "\\xc0\\xaf");          /* too long a form */
    assert_safe("\xed\xa0\x80", 3, "\\xed\\xa0\\x80"); /* surrogate */
    assert_safe("\xe2\x80\xae", 3, "\\xe2\\x80\\xae"); /* right to left */
    assert_safe("\xe2\x82", 2, "\\xe2\\x82");          /* cut */
}

static void json_hostile_is_json(void **state)
{
    struct json json;
    char *text = NULL;
    size_t len = 0;
    FILE *file = open_memstream(&text, &len);

    (void)state;
    json_start(&json, file);
    json_open_flat(&json, NULL, '{');
    json_text_len(&json, "a", "\"\\\n\033\xff", 5);
    json_open(&json, "b", '[');
    json_uint(&json, NULL, UINT64_MAX);
    json_null(&json, NULL);
    json_close(&json, ']');
    json_close(&json, '}');
    fclose(file);
    assert_string_equal(text, "{\"a\": \"\\\"\\\\\\u000a\\u001b\\ufffd\", "
                              "\"b\": [18446744073709551615, null]}");
    free(text);
}

static void number_bad_is_refused(void **state)
{
    uint64_t value = 0;

    (void)state;
    assert_true(text_number("0x10", 16, &value) && value == 16);
    assert_true(text_number("4K", 4096, &value) && value == 4096);
    assert_false(text_number("4K", 4095, &value));
    assert_false(text_number("-1", UINT64_MAX, &value));
    assert_false(text_number("", UINT64_MAX, &value));
    assert_false(text_number("1x", UINT64_MAX, &value));
    assert_false(text_number("99999999999999999999", UINT64_MAX, &value));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc_check_value_is_known),
        cmocka_unit_test(seal_then_check_is_ok),
        cmocka_unit_test(frame_within_text_comes_back),
        cmocka_unit_test(scan_restart_inside_drops_the_first),
        cmocka_unit_test(scan_too_long_is_dropped),
        cmocka_unit_test(base64_bad_is_refused),
        cmocka_unit_test(text_hostile_is_escaped),
        cmocka_unit_test(json_hostile_is_json),
        cmocka_unit_test(number_bad_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
