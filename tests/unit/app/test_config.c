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
    assert_int_equal(config.functions[0].io_queues, 64);
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
    assert_int_equal(config.functions[0].io_queues, 8);
    assert_int_equal(config.functions[3].mdts, 5);
    assert_string_equal(config.serial, "Ab9");
    assert_int_equal(config.functions[0].dstrd, 0);
    assert_false(config.functions[0].sgl);
    assert_int_equal(config.functions[0].doorbell_buffers, CONFIG_ON);
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

static void config_parse_function_words_are_every_functions_unless_numbered(void **state)
{
    (void)state;
    assert_int_equal(parse("queues=8 queues.1=4 mdts.3=5 sgl.2=off dbbuf.0=off dstrd.1=2 room.2=99 "
                           "wait=0"),
                     STATUS_OK);
    assert_int_equal(config.functions[0].io_queues, 8);
    assert_int_equal(config.functions[1].io_queues, 4);
    assert_int_equal(config.functions[2].mdts, 8);
    assert_int_equal(config.functions[3].mdts, 5);
    assert_true(config.functions[1].sgl);
    assert_false(config.functions[2].sgl);
    assert_int_equal(config.functions[0].doorbell_buffers, CONFIG_OFF);
    assert_int_equal(config.functions[1].doorbell_buffers, CONFIG_AUTO);
    assert_int_equal(config.functions[1].dstrd, 2);
    assert_int_equal(config.functions[1].ns_room, 0);
    assert_int_equal(config.functions[2].ns_room, 99);
    assert_int_equal(config.serve_wait_ms, 0);
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
    assert_refused("queues.4=1", "queues.4");
    assert_refused("room=1025", "room");
    assert_refused("wait=19001", "wait");
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

/* --- fabric -------------------------------------------------------------------------------- */

static void assert_addr(const struct net_addr *addr, const char *text)
{
    char is[NET_ADDR_TEXT_BYTES];
    net_addr_text(addr, is);
    assert_string_equal(is, text);
}

static void config_parse_no_fabric_words_give_defaults(void **state)
{
    (void)state;
    assert_int_equal(parse(""), STATUS_OK);
    for (uint32_t i = 0; i < LIMIT_ETH_PORTS; i++) {
        const struct config_port *port = &config.ports[i];
        assert_int_equal(port->ip4.prefix_bits, 0);
        assert_int_equal(port->ip6.prefix_bits, 0);
        assert_true(net_addr_is_zero(&port->gateway4));
        assert_true(net_addr_is_zero(&port->gateway6));
        assert_int_equal(port->vlan, 0);
        assert_int_equal(port->mtu_bytes, 0);
        assert_true(port->ecn);
    }
    assert_false(config.diag_rping);
    assert_false(config.diag_perf);
    assert_int_equal(config.rping_port, 7174);
    assert_int_equal(config.perf_port, 18515);
    assert_int_equal(config.perf_bytes, 8 << 20);
}

static void config_parse_addresses_are_port_0s_unless_numbered(void **state)
{
    (void)state;
    assert_int_equal(parse("ip=192.0.2.7/24 gw=192.0.2.1 ip6=2001:db8::7/64 gw6=2001:db8::1 "
                           "ip.1=198.51.100.9/32 gw6.3=fe80::1"),
                     STATUS_OK);
    assert_addr(&config.ports[0].ip4.addr, "192.0.2.7");
    assert_int_equal(config.ports[0].ip4.prefix_bits, 24);
    assert_addr(&config.ports[0].gateway4, "192.0.2.1");
    assert_addr(&config.ports[0].ip6.addr, "2001:db8::7");
    assert_int_equal(config.ports[0].ip6.prefix_bits, 64);
    assert_addr(&config.ports[0].gateway6, "2001:db8::1");
    assert_addr(&config.ports[1].ip4.addr, "198.51.100.9");
    assert_int_equal(config.ports[1].ip4.prefix_bits, 32);
    assert_int_equal(config.ports[2].ip4.prefix_bits, 0);
    assert_addr(&config.ports[3].gateway6, "fe80::1");
}

static void config_parse_port_words_are_every_ports_unless_numbered(void **state)
{
    (void)state;
    assert_int_equal(parse("vlan=7 mtu=4200 ecn=off mtu.2=1500 vlan.1=0 ecn.3=on"), STATUS_OK);
    assert_int_equal(config.ports[0].vlan, 7);
    assert_int_equal(config.ports[1].vlan, 0);
    assert_int_equal(config.ports[3].vlan, 7);
    assert_int_equal(config.ports[1].mtu_bytes, 4200);
    assert_int_equal(config.ports[2].mtu_bytes, 1500);
    assert_false(config.ports[0].ecn);
    assert_true(config.ports[3].ecn);
}

static void config_parse_bad_fabric_values_name_the_word(void **state)
{
    (void)state;
    static const char *const words[][2] = {
        {"ip=192.0.2.7", "ip"},
        {"ip=192.0.2.7/0", "ip"},
        {"ip=192.0.2.7/33", "ip"},
        {"ip=192.0.2.256/24", "ip"},
        {"ip=/24", "ip"},
        {"ip=2001:db8::7/64", "ip"},
        {"ip=224.0.0.1/24", "ip"},
        {"ip=0.0.0.0/8", "ip"},
        {"ip=127.0.0.1/8", "ip"},
        {"ip.4=192.0.2.7/24", "ip.4"},
        {"ip.=192.0.2.7/24", "ip."},
        {"ip6=192.0.2.7/24", "ip6"},
        {"ip6=2001:db8::7", "ip6"},
        {"ip6=2001:db8::7/129", "ip6"},
        {"ip6=ff02::1/64", "ip6"},
        {"ip6=::1/128", "ip6"},
        {"gw=nobody", "gw"},
        {"gw=fe80::1", "gw"},
        {"gw6=192.0.2.1", "gw6"},
        {"vlan=4095", "vlan"},
        {"vlan=x", "vlan"},
        {"mtu=1279", "mtu"},
        {"mtu=9001", "mtu"},
        {"mtu.9=1500", "mtu.9"},
        {"ecn=yes", "ecn"},
        {"diag=rping,", "diag"},
        {"diag=", "diag"},
        {"diag=all", "diag"},
        {"diag=rping;perf", "diag"},
        {"rping.port=0", "rping.port"},
        {"rping.port=65536", "rping.port"},
        {"perf.port=-1", "perf.port"},
        {"perf.size=1K", "perf.size"},
        {"perf.size=65M", "perf.size"},
        {"perf.size=4Kx", "perf.size"},
        {"perf.size=5000", "perf.size"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        assert_refused(words[i][0], words[i][1]);
    }
}

static void config_parse_gateway_outside_of_its_network_is_refused(void **state)
{
    (void)state;
    assert_refused("gw=192.0.2.1", "gw");
    assert_refused("ip=192.0.2.7/25 gw=192.0.2.129", "gw");
    assert_refused("gw.1=192.0.2.1 ip=192.0.2.7/24", "gw.1");
    assert_refused("ip6=2001:db8::7/64 gw6=2001:db8:0:1::1", "gw6");
    assert_int_equal(parse("gw=192.0.2.126 ip=192.0.2.7/25"), STATUS_OK); /* in any order */
    assert_int_equal(parse("ip6=2001:db8::7/61 gw6=2001:db8:0:7::1"), STATUS_OK);
}

static void config_parse_diag_lists_services(void **state)
{
    (void)state;
    assert_int_equal(parse("diag=perf,rping rping.port=7 perf.port=65535 perf.size=1M"), STATUS_OK);
    assert_true(config.diag_rping);
    assert_true(config.diag_perf);
    assert_int_equal(config.rping_port, 7);
    assert_int_equal(config.perf_port, 65535);
    assert_int_equal(config.perf_bytes, 1 << 20);
    assert_int_equal(parse("diag=perf"), STATUS_OK);
    assert_false(config.diag_rping);
    assert_int_equal(parse("diag=perf diag=none"), STATUS_OK);
    assert_false(config.diag_perf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(config_parse_empty_gives_defaults),
        cmocka_unit_test(config_parse_all_keys_are_set),
        cmocka_unit_test(config_parse_function_words_are_every_functions_unless_numbered),
        cmocka_unit_test(config_parse_foreign_words_are_counted),
        cmocka_unit_test(config_parse_bad_values_name_the_word),
        cmocka_unit_test(config_parse_bad_namespaces_are_refused),
        cmocka_unit_test(config_parse_too_many_namespaces_are_refused),
        cmocka_unit_test(config_parse_overlong_word_is_refused),
        cmocka_unit_test(config_parse_no_fabric_words_give_defaults),
        cmocka_unit_test(config_parse_addresses_are_port_0s_unless_numbered),
        cmocka_unit_test(config_parse_port_words_are_every_ports_unless_numbered),
        cmocka_unit_test(config_parse_bad_fabric_values_name_the_word),
        cmocka_unit_test(config_parse_gateway_outside_of_its_network_is_refused),
        cmocka_unit_test(config_parse_diag_lists_services),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
