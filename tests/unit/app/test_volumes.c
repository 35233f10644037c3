/*
 * Names of what is ours, and the tree's volumes as app makes and attaches them.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "app/console_priv.h"
#include "app/rig.h"

/* --- names ----------------------------------------------------------------------------------- */

static void make_uuid(uint8_t uuid[16], const char *serial, uint16_t fn, uint32_t nsid)
{
    snprintf(app.config.serial, sizeof(app.config.serial), "%s", serial);
    app_make_uuid(uuid, fn, nsid);
}

/* In one host there may be two boards. */
static void uuid_differs_by_board_function_and_namespace(void **state)
{
    (void)state;
    uint8_t uuids[6][16];
    make_uuid(uuids[0], "AB", 0, 1);
    make_uuid(uuids[1], "AC", 0, 1);
    make_uuid(uuids[2], "AB", 1, 1);
    make_uuid(uuids[3], "AB", 0, 2);
    make_uuid(uuids[4], "AB", 0, LIMIT_NAMESPACES);
    make_uuid(uuids[5], "AB", 0, 0);
    for (uint32_t i = 0; i < ARRAY_SIZE(uuids); i++) {
        assert_int_equal(uuids[i][6] >> 4, 8); /* RFC 9562 4.2: version 8 ... */
        assert_int_equal(uuids[i][8] >> 6, 2); /* ... 4.1: of its variant */
        for (uint32_t k = 0; k < i; k++) {
            assert_memory_not_equal(uuids[i], uuids[k], 16);
        }
    }
    uint8_t again[16];
    make_uuid(again, "AB", 0, 1);
    assert_memory_equal(again, uuids[0], 16);
}

/* Who a function is to targets: their access lists know it. */
static void function_without_hostid_has_one_of_its_serial_number(void **state)
{
    (void)state;
    static struct app_function function;
    struct config_function words = {0};
    snprintf(app.config.serial, sizeof(app.config.serial), "SNIC0001");
    app_host_identity(&function, &words, 2);
    assert_memory_equal(function.hostid, "snic\x00\x02\x80\x00\x80", 9);
    assert_string_equal(function.hostnqn, "nqn.2014-08.org.nvmexpress:uuid:"
                                          "736e6963-0002-8000-804f-90f34936bd2f");
}

/* --- associations ---------------------------------------------------------------------------- */

static struct pcie_ep ports[2] = {{.fn = 0}, {.fn = 1}};

static const char remote[] =
    "/dts-v1/; / { compatible = \"snic,config\";\n"
    "subsystems { s: one { nqn = \"nqn.x:one\"; address = \"192.0.2.9\"; }; };\n"
    "};";

/* A function without an NQN: nvmf_ctrl_create() refuses, once. */
static void association_that_cannot_be_made_takes_memory_once(void **state)
{
    (void)state;
    rig_start(1, 0, RIG_POOL_BYTES, "ip=192.0.2.1/24");
    rig_tree(remote);
    app.functions[0].pcie = &ports[0];
    app.function_count = 1;
    assert_null(app_ctrl_get(0, 0));
    uint64_t left = app.pool_left;
    assert_null(app_ctrl_get(0, 0));
    assert_int_equal(app.pool_left, left);
    assert_int_equal(app.ctrl_count, 1);
    console_subsystems();
    app.function_count = 0; /* it has no endpoint */
    console_stats();
    rig_stop();
}

/* --- attaching ------------------------------------------------------------------------------- */

#define VOLUME_OF_TWO(words)                                                              \
    "/dts-v1/; / { compatible = \"snic,config\";\n"                                       \
    "volumes { v: v { " words " paths { path@0 { reg = <0>; ram = \"1M\"; }; }; }; };\n"  \
    "functions { function@0 { reg = <0>; namespace@1 { reg = <1>; volume = <&v>; }; };\n" \
    "function@1 { reg = <1>; namespace@1 { reg = <1>; volume = <&v>; }; }; }; };"

static struct blk_null other;

/* Two functions, which have the volume as their namespace 1; `taken` has another one there. */
static void start_two(const char *source, uint32_t taken)
{
    rig_start(1, 0, RIG_POOL_BYTES, "ip=192.0.2.1/24");
    rig_tree(source);
    vol_init(app_pool_take(vol_memory_bytes(1), 64), 1);
    assert_int_equal(blk_null_init(&other, "other", 4096, 9), STATUS_OK);
    for (uint32_t i = 0; i < 2; i++) {
        ports[i].doorbells_bytes = 4096;
        ports[i].vector_count = 2;
        struct nvme_ep_config config = {
            .pcie = &ports[i],
            .ctrl = {.serial = "x",
                     .model = "x",
                     .firmware = "x",
                     .subnqn = "nqn.x:y",
                     .cntlid = (uint16_t)(i + 1),
                     .io_queue_count = 1,
                     .namespace_count = 4,
                     .mdts = 5},
            .core_mask = 1,
            .ready_timeout_500ms = 1,
            .fence_cancel_ms = 1,
        };
        struct app_function *function = &app.functions[app.function_count++];
        void *memory = app_pool_take(sizeof(struct nvme_ep_memory), 4096);
        function->pcie = &ports[i];
        assert_int_equal(nvme_ep_init(memory, &config, &function->ep), STATUS_OK);
    }
    struct nvme_ctrl *ctrl = nvme_ep_ctrl(app.functions[taken].ep);
    assert_int_equal(nvme_ns_attach(ctrl, 1, &other.dev), STATUS_OK);
}

static void only_attached_namespaces_are_counted(void **state)
{
    (void)state;
    start_two(VOLUME_OF_TWO(""), 1);
    app_tree_volumes_start();
    assert_int_equal(app.volumes[0].attached_count, 1);
    assert_non_null(strstr(rig.log, "app: 1 namespaces are volumes of the tree"));
    rig_stop();
}

static void attach_tells_of_a_failure_before_a_success(void **state)
{
    (void)state;
    start_two(VOLUME_OF_TWO("status = \"disabled\";"), 0);
    app_tree_volumes_start();
    assert_int_equal(app.volumes[0].attached_count, 0);
    assert_int_equal(app_tree_volume_attach(0), STATUS_EXISTS);
    assert_int_equal(app.volumes[0].attached_count, 1);
    rig_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uuid_differs_by_board_function_and_namespace),
        cmocka_unit_test(function_without_hostid_has_one_of_its_serial_number),
        cmocka_unit_test(association_that_cannot_be_made_takes_memory_once),
        cmocka_unit_test(only_attached_namespaces_are_counted),
        cmocka_unit_test(attach_tells_of_a_failure_before_a_success),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
