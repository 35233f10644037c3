/*
 * Frames on a console: whole ones, and what else may come.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "mgmt/frame.h"

static struct mgmt_frame frame;
static uint32_t texts; /* bytes that were no frame's */
static uint32_t ends;

static int setup(void **state)
{
    (void)state;
    memset(&frame, 0, sizeof(frame));
    texts = 0;
    ends = 0;
    return 0;
}

static void feed(const char *bytes, size_t len_bytes)
{
    for (size_t i = 0; i < len_bytes; i++) {
        enum mgmt_frame_event event = mgmt_frame_byte(&frame, (uint8_t)bytes[i]);
        texts += event == MGMT_FRAME_TEXT;
        ends += event == MGMT_FRAME_END;
    }
}

static void say(const char *text)
{
    feed(text, strlen(text));
}

static void frame_of_each_length_comes_back(void **state)
{
    (void)state;
    static uint8_t message[MGMT_FRAME_BYTES];
    char text[MGMT_FRAME_TEXT_BYTES];

    for (uint32_t i = 0; i < sizeof(message); i++) {
        message[i] = (uint8_t)(i * 7 + i / 256);
    }
    for (uint32_t len_bytes = 1; len_bytes <= sizeof(message); len_bytes++) {
        uint32_t chars = mgmt_frame_make(message, len_bytes, text);
        assert_int_equal(chars, (len_bytes + 2) / 3 * 4 + 2);
        feed(text, chars);
        assert_int_equal(ends, len_bytes);
        assert_int_equal(frame.len_bytes, len_bytes);
        assert_memory_equal(frame.bytes, message, len_bytes);
    }
    assert_int_equal(texts, 0);
}

/* RFC 4648, section 10. */
static void frame_is_the_base64_of_the_rfc(void **state)
{
    (void)state;
    static const char *const vectors[][2] = {
        {"f", "\001Zg==\n"},        {"fo", "\001Zm8=\n"},        {"foo", "\001Zm9v\n"},
        {"foob", "\001Zm9vYg==\n"}, {"fooba", "\001Zm9vYmE=\n"}, {"foobar", "\001Zm9vYmFy\n"}};
    char text[MGMT_FRAME_TEXT_BYTES];

    for (uint32_t i = 0; i < 6; i++) {
        uint32_t chars =
            mgmt_frame_make((const uint8_t *)vectors[i][0], (uint32_t)strlen(vectors[i][0]), text);
        assert_int_equal(chars, strlen(vectors[i][1]));
        assert_memory_equal(text, vectors[i][1], chars);
    }
}

static void frame_between_text_is_found(void **state)
{
    (void)state;
    say("hel\001Zm9v\r\nlo\n");
    assert_int_equal(ends, 1);
    assert_int_equal(texts, 6);
    assert_memory_equal(frame.bytes, "foo", 3);
}

static void frame_start_begins_anew(void **state)
{
    (void)state;
    say("\001AAA\001Zm9v\n");
    assert_int_equal(ends, 1);
    assert_int_equal(frame.len_bytes, 3);
    assert_memory_equal(frame.bytes, "foo", 3);
}

static void frame_bad_ones_are_dropped_whole(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "\001\n",          "\001A\n",        "\001AA\n",       "\001AAA\n",   "\001====\n",
        "\001A===\n",      "\001AA=A\n",     "\001AA==AAAA\n", "\001AAA=A\n", "\001AA==\002\n",
        "\001Zm9v Zm9v\n", "\001Zm9v-_-_\n", "\001Zm9\xffv\n", "\001=\n",
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        say(bad[i]);
        if (ends != 0) {
            fail_msg("bad frame %zu was taken", i);
        }
    }
    assert_int_equal(texts, 0);
    say("\001Zm9v\nx");
    assert_int_equal(ends, 1);
    assert_int_equal(texts, 1);
}

static void frame_too_long_is_dropped(void **state)
{
    (void)state;
    for (uint32_t extra = 1; extra < 5000; extra += 97) {
        say("\001");
        for (uint32_t i = 0; i < (MGMT_FRAME_BYTES + extra + 2) / 3; i++) {
            say("AAAA");
        }
        say("\n");
        assert_int_equal(ends, 0);
    }
    assert_int_equal(texts, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(frame_of_each_length_comes_back, setup),
        cmocka_unit_test_setup(frame_is_the_base64_of_the_rfc, setup),
        cmocka_unit_test_setup(frame_between_text_is_found, setup),
        cmocka_unit_test_setup(frame_start_begins_anew, setup),
        cmocka_unit_test_setup(frame_bad_ones_are_dropped_whole, setup),
        cmocka_unit_test_setup(frame_too_long_is_dropped, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
