/* Addresses and their text: RFC 4291 2.2, RFC 5952. */
#include "net/rig.h"

static void expect_text(const char *text, const char *canonical)
{
    struct net_addr parsed;
    char back[NET_ADDR_TEXT_BYTES];
    if (!net_addr_parse(text, &parsed)) {
        fail_msg("%s is not taken", text);
    }
    net_addr_text(&parsed, back);
    assert_string_equal(back, canonical);
}

static void addr_ipv4_text_is_read_and_written(void **state)
{
    (void)state;
    expect_text("192.0.2.1", "192.0.2.1");
    expect_text("0.0.0.0", "0.0.0.0");
    expect_text("255.255.255.255", "255.255.255.255");
    struct net_addr expected = net_addr_ipv4(192, 0, 2, 1);
    struct net_addr parsed = addr("192.0.2.1");
    assert_true(net_addr_equal(&parsed, &expected));
    static const uint8_t MAPPED[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1};
    assert_memory_equal(parsed.bytes, MAPPED, 16);
}

static void addr_other_ipv4_text_is_refused(void **state)
{
    (void)state;
    static const char *const BAD[] = {"",          "1",          "1.2.3",     "1.2.3.4.5",
                                      "1.2.3.",    ".1.2.3",     "1..2.3",    "256.1.1.1",
                                      "1.2.3.256", "01.2.3.4",   "1.2.3.00",  "1.2.3.4 ",
                                      " 1.2.3.4",  "1.2.3.0004", "1.2.3.-4",  "a.2.3.4",
                                      "1.2.3.4/8", "1,2,3,4",    "0x1.2.3.4", "99999999999.1.1.1"};
    struct net_addr parsed;
    for (uint32_t i = 0; i < ARRAY_SIZE(BAD); i++) {
        if (net_addr_parse(BAD[i], &parsed)) {
            fail_msg("\"%s\" is taken", BAD[i]);
        }
    }
}

/* RFC 4291 2.2: the three forms. */
static void addr_ipv6_text_is_read(void **state)
{
    (void)state;
    expect_text("ABCD:EF01:2345:6789:ABCD:EF01:2345:6789",
                "abcd:ef01:2345:6789:abcd:ef01:2345:6789");
    expect_text("2001:DB8:0:0:8:800:200C:417A", "2001:db8::8:800:200c:417a");
    expect_text("FF01:0:0:0:0:0:0:101", "ff01::101");
    expect_text("0:0:0:0:0:0:0:1", "::1");
    expect_text("0:0:0:0:0:0:0:0", "::");
    expect_text("::", "::");
    expect_text("::1", "::1");
    expect_text("1::", "1::");
    expect_text("1::8", "1::8");
    expect_text("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0");
    expect_text("::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8");
    expect_text("0:0:0:0:0:0:13.1.68.3", "::d01:4403");
    expect_text("::13.1.68.3", "::d01:4403");
    expect_text("1:2:3:4:5:6:13.1.68.3", "1:2:3:4:5:6:d01:4403");
    expect_text("64:ff9b::192.0.2.33", "64:ff9b::c000:221");
    /* An IPv4-mapped address is an IPv4 one here. */
    expect_text("::FFFF:129.144.52.38", "129.144.52.38");
    expect_text("0:0:0:0:0:ffff:8190:3426", "129.144.52.38");
}

/* RFC 5952 4.1 to 4.3 */
static void addr_text_is_as_rfc_5952_recommends(void **state)
{
    (void)state;
    expect_text("2001:0db8::0001", "2001:db8::1");               /* 4.1 */
    expect_text("2001:db8:0:0:0:0:2:1", "2001:db8::2:1");        /* 4.2.1 */
    expect_text("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"); /* 4.2.2 */
    expect_text("2001:db8::1:1:1:1:1", "2001:db8:0:1:1:1:1:1");  /* 4.2.2 */
    expect_text("2001:0:0:1:0:0:0:1", "2001:0:0:1::1");          /* 4.2.3: the longest */
    expect_text("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1");    /* 4.2.3: the first */
    expect_text("2001:DB8::AAAA:BBBB", "2001:db8::aaaa:bbbb");   /* 4.3 */
    expect_text("1:0:0:2:3:4:0:0", "1::2:3:4:0:0");              /* 4.2.3 */
    expect_text("fe80:0:0:0:ff:fe00:1:0", "fe80::ff:fe00:1:0");
}

static void addr_other_ipv6_text_is_refused(void **state)
{
    (void)state;
    static const char *const BAD[] = {":",
                                      ":::",
                                      "1",
                                      "1:",
                                      ":1",
                                      "1:2:3:4:5:6:7",
                                      "1:2:3:4:5:6:7:",
                                      "1:2:3:4:5:6:7:8:",
                                      "1:2:3:4:5:6:7:8:9",
                                      "1:2:3:4:5:6:7:8::",
                                      "::1:2:3:4:5:6:7:8",
                                      "1::2:3:4:5:6:7:8",
                                      "1::2::3",
                                      "::1::",
                                      "1:::2",
                                      "12345::",
                                      "g::",
                                      "::1 ",
                                      "fe80::1%eth0",
                                      "::1/64",
                                      "1:2:3:4:5:6:7:1.2.3.4",
                                      "::1.2.3.4:5",
                                      "1.2.3.4::",
                                      "::1.2.3",
                                      "::1.2.3.04",
                                      "1:2:3:4:5:1.2.3.4"};
    struct net_addr parsed;
    for (uint32_t i = 0; i < ARRAY_SIZE(BAD); i++) {
        if (net_addr_parse(BAD[i], &parsed)) {
            fail_msg("\"%s\" is taken", BAD[i]);
        }
    }
}

static void addr_any_text_round_trips(void **state)
{
    (void)state;
    uint32_t seed = 1;
    for (uint32_t i = 0; i < 20000; i++) {
        struct net_addr original;
        struct net_addr back;
        char text[NET_ADDR_TEXT_BYTES];
        for (uint32_t k = 0; k < 16; k += 2) {
            seed = seed * 1664525 + 1013904223;
            uint32_t value = seed >> 16 & 3 ? 0 : seed >> 8; /* many zero groups */
            original.bytes[k] = (uint8_t)(value >> 8);
            original.bytes[k + 1] = (uint8_t)value;
        }
        net_addr_text(&original, text);
        assert_true(strlen(text) < NET_ADDR_TEXT_BYTES);
        assert_true(net_addr_parse(text, &back));
        assert_memory_equal(back.bytes, original.bytes, 16);
    }
}

static void addr_kinds_are_told_apart(void **state)
{
    (void)state;
    static const char *const HOSTS[] = {"1.0.0.1", "192.0.2.1",   "223.255.255.254",
                                        "fe80::1", "2001:db8::1", "::2"};
    static const char *const OTHERS[] = {
        "0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1",      "240.0.0.1",
        "::",      "::1",     "ff02::1",   "255.255.255.255"};
    for (uint32_t i = 0; i < ARRAY_SIZE(HOSTS); i++) {
        struct net_addr a = addr(HOSTS[i]);
        assert_true(net_addr_is_host(&a));
    }
    for (uint32_t i = 0; i < ARRAY_SIZE(OTHERS); i++) {
        struct net_addr a = addr(OTHERS[i]);
        assert_false(net_addr_is_host(&a));
    }
    struct net_addr a = addr("::");
    assert_true(net_addr_is_zero(&a));
    assert_false(net_addr_is_ipv4(&a));
    a = addr("0.0.0.0");
    assert_false(net_addr_is_zero(&a)); /* ::ffff:0.0.0.0: none is all zero */
    assert_true(net_addr_is_ipv4(&a));
    a = addr("febf::1");
    assert_true(net_addr_is_link_local6(&a));
    a = addr("fec0::1");
    assert_false(net_addr_is_link_local6(&a));
}

static bool same(const char *a, const char *b, uint32_t bits)
{
    struct net_addr x = addr(a);
    struct net_addr y = addr(b);
    return net_addr_same_prefix(&x, &y, bits);
}

static void addr_prefixes_compare_to_the_bit(void **state)
{
    (void)state;
    assert_true(same("192.0.2.1", "192.0.2.254", 24));
    assert_true(same("192.0.2.128", "192.0.2.254", 25));
    assert_false(same("192.0.2.127", "192.0.2.254", 25));
    assert_true(same("192.0.2.1", "10.0.0.1", 0));
    assert_true(same("192.0.2.1", "192.0.2.1", 32));
    assert_false(same("192.0.2.1", "192.0.2.0", 32));
    assert_false(same("192.0.2.1", "::1", 0)); /* families */
    assert_true(same("2001:db8::1", "2001:db8::2", 126));
    assert_false(same("2001:db8::1", "2001:db8::2", 127));
    assert_true(same("2001:db8::1", "2001:db8::1", 128));
    assert_true(same("2001:db8::1", "fe80::", 0));
    assert_true(same("fe80::1", "febf::1", 10));
    assert_false(same("fe80::1", "fec0::1", 10));
}

/* RFC 4291 2.7.1, its example */
static void addr_solicited_node_group_is_made(void **state)
{
    (void)state;
    struct net_addr a = addr("4037::01:800:200E:8C6C");
    struct net_addr expected = addr("FF02::1:FF0E:8C6C");
    struct net_addr group = net_addr_solicited_node(&a);
    assert_true(net_addr_equal(&group, &expected));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addr_ipv4_text_is_read_and_written),
        cmocka_unit_test(addr_other_ipv4_text_is_refused),
        cmocka_unit_test(addr_ipv6_text_is_read),
        cmocka_unit_test(addr_text_is_as_rfc_5952_recommends),
        cmocka_unit_test(addr_other_ipv6_text_is_refused),
        cmocka_unit_test(addr_any_text_round_trips),
        cmocka_unit_test(addr_kinds_are_told_apart),
        cmocka_unit_test(addr_prefixes_compare_to_the_bit),
        cmocka_unit_test(addr_solicited_node_group_is_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
