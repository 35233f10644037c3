/*
 * The JSON of a VERSION message: what is taken, what is refused.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "base/compiler.h"
#include "hal/native/vfu/vfu_json.h"

static bool scan(const char *text, struct vfu_caps *caps)
{
    *caps = (struct vfu_caps){.max_msg_fds = 1, .max_data_xfer_size = 2};
    return vfu_json_caps(text, strlen(text), caps);
}

static void caps_sound_text_taken(void **state)
{
    struct vfu_caps caps;
    (void)state;

    assert_true(scan("{\"capabilities\":{\"max_msg_fds\":8,\"max_data_xfer_size\":1048576,"
                     "\"migration\":{\"pgsize\":4096},\"write_multiple\":true,"
                     "\"list\":[1,[],{},-2.5e+3,null,\"a\\\"b\"]}}",
                     &caps));
    assert_int_equal(caps.max_msg_fds, 8);
    assert_int_equal(caps.max_data_xfer_size, 1048576);
}

static void caps_unnamed_keep_their_value(void **state)
{
    struct vfu_caps caps;
    static const char *const texts[] = {"",
                                        " ",
                                        "{}",
                                        "{\"capabilities\":{}}",
                                        " { \"max_msg_fds\" : 5 } \n",
                                        "{\"other\":{\"max_msg_fds\":5}}",
                                        "{\"capabilities\":{\"x\":{\"max_msg_fds\":5}}}",
                                        "{\"capabilities\":[{\"max_msg_fds\":5}]}",
                                        "{\"capabilities\":3}"};
    (void)state;

    for (uint32_t i = 0; i < ARRAY_SIZE(texts); i++) {
        assert_true(scan(texts[i], &caps));
        assert_int_equal(caps.max_msg_fds, 1);
    }
}

static void caps_malformed_text_refused(void **state)
{
    struct vfu_caps caps;
    static const char *const texts[] = {"{",
                                        "}",
                                        "[]",
                                        "1",
                                        "\"a\"",
                                        "{}{}",
                                        "{},",
                                        "{\"a\"}",
                                        "{\"a\":}",
                                        "{\"a\":1,}",
                                        "{a:1}",
                                        "{\"a\":1 \"b\":2}",
                                        "{\"a\":tru}",
                                        "{\"a\":1]",
                                        "{\"a\":[1}",
                                        "{\"a\":[1,]}",
                                        "{\"a\":-}",
                                        "{\"a\":1.}",
                                        "{\"a\":1e}",
                                        "{\"a\":\"\x01\"}",
                                        "{\"a\":\"",
                                        "{\"a\":\"\\",
                                        "{\"capabilities\":{\"max_msg_fds\":-1}}",
                                        "{\"capabilities\":{\"max_msg_fds\":1.5}}",
                                        "{\"capabilities\":{\"max_msg_fds\":\"8\"}}",
                                        "{\"capabilities\":{\"max_msg_fds\":[]}}",
                                        "{\"capabilities\":{\"max_msg_fds\":null}}",
                                        "{\"capabilities\":{\"max_msg_fds\":99999999999999999999}}",
                                        "{\"a\":[[[[[[[[[1]]]]]]]]]}"};
    (void)state;

    for (uint32_t i = 0; i < ARRAY_SIZE(texts); i++) {
        if (scan(texts[i], &caps)) {
            fail_msg("taken: %s", texts[i]);
        }
    }
}

static void caps_every_prefix_of_a_text_ends(void **state)
{
    static const char text[] = "{\"capabilities\":{\"max_msg_fds\":8,\"x\":[1,{\"y\":\"z\"}]}}";
    struct vfu_caps caps;
    (void)state;

    for (size_t len = 1; len + 1 < sizeof(text); len++) {
        assert_false(vfu_json_caps(text, len, &caps));
    }
    assert_true(vfu_json_caps(text, sizeof(text), &caps)); /* with its zero byte */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(caps_sound_text_taken),
        cmocka_unit_test(caps_unnamed_keep_their_value),
        cmocka_unit_test(caps_malformed_text_refused),
        cmocka_unit_test(caps_every_prefix_of_a_text_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
