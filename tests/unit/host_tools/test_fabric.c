/*
 * `snicctl fabric`: which GIDs of a machine a NIC's address can reach.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <libfdt.h>
#include "host_tools/snicctl/fabric.h"

static struct fabric_gid gid(const char *text, uint32_t mtu)
{
    struct fabric_address address;
    struct fabric_gid g = {.device = "rxe0",
                           .netdev = "eth1",
                           .port = 1,
                           .is_up = true,
                           .is_ethernet = true,
                           .is_roce_v2 = true,
                           .mtu = mtu};

    assert_true(fabric_parse(text, &address));
    memcpy(g.gid, address.addr, sizeof(g.gid));
    return g;
}

static enum fabric_verdict judge(const char *text, uint32_t mtu, const struct fabric_gid *gids,
                                 uint32_t count)
{
    struct fabric_address address = {.mtu = 0};
    char why[160];
    uint32_t best = 99;

    assert_true(fabric_parse(text, &address));
    address.mtu = mtu;
    return fabric_judge(&address, gids, count, &best, why, sizeof(why));
}

static void address_parse_networks_are_of_128_bits(void **state)
{
    struct fabric_address address;
    char text[48];

    (void)state;
    assert_true(fabric_parse("192.0.2.1/24", &address));
    assert_int_equal(address.prefix, 120);
    fabric_text(address.addr, text, sizeof(text));
    assert_string_equal(text, "192.0.2.1");
    assert_true(fabric_parse("fd00::1/64", &address));
    assert_int_equal(address.prefix, 64);
    assert_true(fabric_parse("192.0.2.1", &address));
    assert_int_equal(address.prefix, 128);
    assert_false(fabric_parse("192.0.2.1/33", &address));
    assert_false(fabric_parse("192.0.2.1/", &address));
    assert_false(fabric_parse("somewhere", &address));
}

static void path_mtu_leaves_room_for_heads(void **state)
{
    (void)state;
    assert_int_equal(fabric_path_mtu(1500), 1024);
    assert_int_equal(fabric_path_mtu(4200), 4096);
    assert_int_equal(fabric_path_mtu(9000), 4096);
    assert_int_equal(fabric_path_mtu(1280), 1024);
}

static void judge_best_gid_decides(void **state)
{
    struct fabric_gid gids[3] = {gid("fe80::1", 4096), gid("192.0.2.101", 4096),
                                 gid("192.0.2.101", 4096)};

    (void)state;
    gids[1].is_roce_v2 = false; /* the same address as RoCEv1 and as RoCEv2 */
    assert_int_equal(judge("192.0.2.1/24", 4200, gids, 3), FABRIC_REACHED);
    assert_int_equal(judge("192.0.2.1/24", 1500, gids, 3), FABRIC_SMALL_MTU);
    assert_int_equal(judge("192.0.3.1/24", 4200, gids, 3), FABRIC_OTHER_NETWORK);
    assert_int_equal(judge("192.0.3.1/23", 4200, gids, 3), FABRIC_REACHED);
    assert_int_equal(judge("192.0.2.101", 0, gids, 3), FABRIC_REACHED); /* a target: this machine */
    assert_int_equal(judge("192.0.2.102", 0, gids, 3), FABRIC_OTHER_NETWORK);
    assert_int_equal(judge("192.0.2.1/24", 4200, gids, 2), FABRIC_NOT_ROCE_V2);
    gids[2].is_up = false;
    assert_int_equal(judge("192.0.2.1/24", 4200, gids, 3), FABRIC_DOWN);
    assert_int_equal(judge("192.0.2.1/24", 4200, gids, 0), FABRIC_OTHER_NETWORK);
}

static void tree_ports_and_targets_are_read(void **state)
{
    static char tree[2048];
    struct fabric_address addresses[8];

    (void)state;
    assert_int_equal(fdt_create_empty_tree(tree, sizeof(tree)), 0);
    int ports = fdt_add_subnode(tree, 0, "ports");
    int port = fdt_add_subnode(tree, ports, "port@0");
    assert_int_equal(fdt_setprop_string(tree, port, "ip", "192.0.2.1/24"), 0);
    assert_int_equal(fdt_setprop_u32(tree, port, "mtu", 4200), 0);
    int targets = fdt_add_subnode(tree, 0, "subsystems");
    int target = fdt_add_subnode(tree, targets, "first");
    assert_int_equal(fdt_setprop_string(tree, target, "address", "192.0.2.101"), 0);
    assert_int_equal(fabric_read_tree(tree, addresses, 8), 2);
    assert_string_equal(addresses[0].name, "port@0");
    assert_int_equal(addresses[0].mtu, 4200);
    assert_string_equal(addresses[1].name, "first");
    assert_int_equal(addresses[1].prefix, 128);
    assert_int_equal(fabric_read_tree(tree, addresses, 1), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(address_parse_networks_are_of_128_bits),
        cmocka_unit_test(path_mtu_leaves_room_for_heads),
        cmocka_unit_test(judge_best_gid_decides),
        cmocka_unit_test(tree_ports_and_targets_are_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
