#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "app/config.h"

static struct config config;
static uint32_t ignored;
static char error[200];

static enum status parse(const char *words)
{
    error[0] = '\0';
    return config_parse(words, &config, &ignored, error, sizeof(error));
}

static void assert_refused(const char *words, const char *names)
{
    assert_int_equal(parse(words), STATUS_INVALID);
    assert_non_null(strstr(error, names));
    assert_non_null(strstr(error, "expected"));
}

static void config_parse_empty_gives_defaults(void **state)
{
    (void)state;
    assert_int_equal(parse(""), STATUS_OK);
    assert_int_equal(config.idle, SCHED_IDLE_ADAPTIVE);
    assert_int_equal(config.cores, 0);
    assert_int_equal(config.io_queues, 64);
    assert_int_equal(config.functions[3].ns_count, 1);
    assert_int_equal(config.functions[3].ns[0].size_bytes, 64 << 20);
    assert_int_equal(config.functions[3].ns[0].lba_shift, 9);
}

static void config_parse_all_keys_are_set(void **state)
{
    (void)state;
    assert_int_equal(
        parse("  cores=2 idle=poll ns=ram:1G:4096,null:4K,drive:1:7 ns.2=none\tqueues=8 "
              "mdts=5 sgl=off dbbuf=on dstrd=0 serial=Ab9\n"),
        STATUS_OK);
    assert_int_equal(config.cores, 2);
    assert_int_equal(config.idle, SCHED_IDLE_POLL);
    assert_int_equal(config.io_queues, 8);
    assert_int_equal(config.mdts, 5);
    assert_string_equal(config.serial, "Ab9");
    assert_int_equal(config.dstrd, 0);
    assert_false(config.sgl);
    assert_int_equal(config.doorbell_buffers, CONFIG_ON);
    const struct config_function *f = &config.functions[1];
    assert_int_equal(f->ns_count, 3);
    assert_int_equal(f->ns[0].kind, CONFIG_NS_RAM);
    assert_true(f->ns[0].size_bytes == UINT64_C(1) << 30);
    assert_int_equal(f->ns[0].lba_shift, 12);
    assert_int_equal(f->ns[1].kind, CONFIG_NS_NULL);
    assert_int_equal(f->ns[1].size_bytes, 4096);
    assert_int_equal(f->ns[2].kind, CONFIG_NS_DRIVE);
    assert_int_equal(f->ns[2].drive, 1);
    assert_int_equal(f->ns[2].drive_nsid, 7);
    assert_int_equal(config.functions[2].ns_count, 0);
}

static void config_parse_foreign_words_are_counted(void **state)
{
    (void)state;
    assert_int_equal(parse("quiet console=ttyAMA0 cores=1"), STATUS_OK);
    assert_int_equal(ignored, 2);
    assert_string_equal(error, "quiet"); /* named, so that a typing error is found */
    assert_int_equal(config.cores, 1);
}

static void config_parse_bad_values_name_the_word(void **state)
{
    (void)state;
    assert_refused("cores=0", "cores");
    assert_refused("cores=5", "cores");
    assert_refused("cores=2x", "cores");
    assert_refused("cores=18446744073709551617", "cores");
    assert_refused("idle=never", "idle");
    assert_refused("queues=65", "queues");
    assert_refused("mdts=9", "mdts");
    assert_refused("mdts=0", "mdts");
    assert_refused("serial=", "serial");
    assert_refused("serial=1234567890123", "serial");
    assert_refused("serial=a.b", "serial");
    assert_refused("dstrd=5", "dstrd");
    assert_refused("sgl=maybe", "sgl");
    assert_refused("dbbuf=", "dbbuf");
    assert_refused("ns.4=ram:1M", "ns.4");
    assert_refused("ns.x=ram:1M", "ns.x");
}

static void config_parse_bad_namespaces_are_refused(void **state)
{
    (void)state;
    static const char *const lists[] = {
        "ns=",         "ns=ram:",          "ns=ram:0",     "ns=ram:1M:1024",
        "ns=ram:1000", "ns=ram:4608:4096", "ns=ram:1M,",   "ns=ram:1M;x",
        "ns=disk:1M",  "ns=drive:8",       "ns=drive:0:0", "ns=ram:99999999999G",
        "ns=null:1MM", "ns=ram:1M:"};
    for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
        assert_refused(lists[i], "ns");
    }
}

static void config_parse_too_many_namespaces_are_refused(void **state)
{
    (void)state;
    char words[2000] = "ns=null:4K";
    for (int i = 1; i < CONFIG_NS_MAX; i++) {
        strcat(words, ",null:4K");
    }
    assert_int_equal(parse(words), STATUS_OK);
    assert_int_equal(config.functions[0].ns_count, CONFIG_NS_MAX);
    strcat(words, ",null:4K");
    assert_refused(words, "ns");
}

static void config_parse_overlong_word_is_refused(void **state)
{
    (void)state;
    char words[2000] = "ns=ram:1K";
    while (strlen(words) < 1100) {
        strcat(words, ",ram:1K");
    }
    assert_int_equal(parse(words), STATUS_INVALID);
    assert_non_null(strstr(error, "characters"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(config_parse_empty_gives_defaults),
        cmocka_unit_test(config_parse_all_keys_are_set),
        cmocka_unit_test(config_parse_foreign_words_are_counted),
        cmocka_unit_test(config_parse_bad_values_name_the_word),
        cmocka_unit_test(config_parse_bad_namespaces_are_refused),
        cmocka_unit_test(config_parse_too_many_namespaces_are_refused),
        cmocka_unit_test(config_parse_overlong_word_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
