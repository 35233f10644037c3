/*
 * The switch's addresses: what is learned, what is not, what happens when there are too many.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "boards/qemu-virt/fabric/fabric.h"

static void mac_of(uint8_t *mac, uint32_t number)
{
    mac[0] = 0x52;
    mac[1] = 0x54;
    for (uint32_t i = 0; i < 4; i++) {
        mac[2 + i] = (uint8_t)(number >> (8 * (3 - i)));
    }
}

static void fdb_unknown_address_floods(void **state)
{
    (void)state;
    struct fabric_fdb fdb = {.count = 0};
    uint8_t mac[6];

    mac_of(mac, 1);
    assert_int_equal(fabric_fdb_find(&fdb, mac), FABRIC_FLOOD);
}

static void fdb_learned_address_is_found_and_moves(void **state)
{
    (void)state;
    struct fabric_fdb fdb = {.count = 0};
    uint8_t mac[6];
    uint8_t other[6];

    mac_of(mac, 1);
    mac_of(other, 2);
    fabric_fdb_learn(&fdb, mac, 3);
    fabric_fdb_learn(&fdb, other, 4);
    assert_int_equal(fabric_fdb_find(&fdb, mac), 3);
    assert_int_equal(fabric_fdb_find(&fdb, other), 4);
    fabric_fdb_learn(&fdb, mac, 5);
    assert_int_equal(fabric_fdb_find(&fdb, mac), 5);
    assert_int_equal(fabric_fdb_find(&fdb, other), 4);
    assert_int_equal(fdb.count, 2);
}

static void fdb_group_address_is_not_learned_and_floods(void **state)
{
    (void)state;
    struct fabric_fdb fdb = {.count = 0};
    const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    const uint8_t multicast[6] = {0x33, 0x33, 0, 0, 0, 1};

    fabric_fdb_learn(&fdb, broadcast, 1);
    fabric_fdb_learn(&fdb, multicast, 1);
    assert_int_equal(fdb.count, 0);
    assert_int_equal(fabric_fdb_find(&fdb, broadcast), FABRIC_FLOOD);
    assert_int_equal(fabric_fdb_find(&fdb, multicast), FABRIC_FLOOD);
}

static void fdb_too_many_addresses_never_lead_to_a_wrong_port(void **state)
{
    (void)state;
    struct fabric_fdb fdb = {.count = 0};
    uint32_t found = 0;
    uint8_t mac[6];

    for (uint32_t i = 0; i < 10 * FABRIC_FDB_ENTRIES; i++) {
        mac_of(mac, i);
        fabric_fdb_learn(&fdb, mac, i % FABRIC_PORTS);
        assert_int_equal(fabric_fdb_find(&fdb, mac), i % FABRIC_PORTS); /* the newest is there */
    }
    for (uint32_t i = 0; i < 10 * FABRIC_FDB_ENTRIES; i++) {
        mac_of(mac, i);
        uint32_t port = fabric_fdb_find(&fdb, mac);
        assert_true(port == FABRIC_FLOOD || port == i % FABRIC_PORTS);
        found += port != FABRIC_FLOOD;
    }
    assert_int_equal(found, fdb.count);
    assert_true(fdb.count <= FABRIC_FDB_ENTRIES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fdb_unknown_address_floods),
        cmocka_unit_test(fdb_learned_address_is_found_and_moves),
        cmocka_unit_test(fdb_group_address_is_not_learned_and_floods),
        cmocka_unit_test(fdb_too_many_addresses_never_lead_to_a_wrong_port),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
