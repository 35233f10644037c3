#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <libfdt.h>
#include <stdlib.h>
#include "base/bits.h"
#include "hal/drivers/dt.c"

#define BLOB_BYTES 4096

static uint8_t blob[BLOB_BYTES] ALIGNED(8);
static struct dt dt;

/* A property of 32-bit cells. */
#define CELLS(name, ...)                                                       \
    do {                                                                       \
        uint32_t cells_[] = {__VA_ARGS__};                                     \
        for (size_t i_ = 0; i_ < ARRAY_SIZE(cells_); i_++) {                   \
            cells_[i_] = cpu_to_fdt32(cells_[i_]);                             \
        }                                                                      \
        assert_int_equal(fdt_property(blob, name, cells_, sizeof(cells_)), 0); \
    } while (0)

static void node(const char *name)
{
    assert_int_equal(fdt_begin_node(blob, name), 0);
}

static void end(void)
{
    assert_int_equal(fdt_end_node(blob), 0);
}

static void text(const char *name, const char *value)
{
    assert_int_equal(fdt_property(blob, name, value, (int)strlen(value) + 1), 0);
}

static void tree_start(void)
{
    assert_int_equal(fdt_create(blob, sizeof(blob)), 0);
    assert_int_equal(fdt_finish_reservemap(blob), 0);
    node("");
    CELLS("#address-cells", 2);
    CELLS("#size-cells", 2);
}

static void tree_end(void)
{
    end();
    assert_int_equal(fdt_finish(blob), 0);
    assert_int_equal(dt_open(&dt, blob, sizeof(blob)), STATUS_OK);
}

/* As QEMU's virt has it, in short. */
static void tree_good(void)
{
    tree_start();
    node("memory@40000000");
    text("device_type", "memory");
    CELLS("reg", 0, 0x40000000, 0, 0x20000000, 1, 0, 1, 0);
    end();
    node("cpus");
    CELLS("#address-cells", 1);
    CELLS("#size-cells", 0);
    for (uint32_t i = 0; i < 3; i++) {
        node(i == 0 ? "cpu@0" : i == 1 ? "cpu@1" : "cpu@100");
        text("device_type", "cpu");
        text("enable-method", "psci");
        CELLS("reg", i == 2 ? 0x100 : i);
        end();
    }
    node("cpu-map");
    end();
    end();
    node("intc@8000000");
    text("compatible", "arm,cortex-a15-gic");
    CELLS("#address-cells", 2);
    CELLS("#size-cells", 2);
    CELLS("reg", 0, 0x8000000, 0, 0x10000, 0, 0x8010000, 0, 0x10000);
    assert_int_equal(fdt_property(blob, "ranges", NULL, 0), 0);
    node("v2m@8020000");
    text("compatible", "arm,gic-v2m-frame");
    CELLS("reg", 0, 0x8020000, 0, 0x1000);
    end();
    end();
    node("uart@9000000");
    text("compatible", "arm,pl011");
    CELLS("reg", 0, 0x9000000, 0, 0x1000);
    CELLS("interrupts", 0, 1, 4, 1, 11, 1);
    end();
    node("bus");
    CELLS("#address-cells", 1);
    CELLS("#size-cells", 1);
    CELLS("ranges", 0, 0, 0xc000000, 0x2000000);
    node("translated@0");
    CELLS("reg", 0x10, 0x100);
    end();
    end();
    node("pcie@10000000");
    text("compatible", "pci-host-ecam-generic");
    CELLS("#address-cells", 3);
    CELLS("#size-cells", 2);
    CELLS("reg", 0x40, 0x10000000, 0, 0x10000000);
    CELLS("bus-range", 2, 0xff);
    CELLS("ranges", 0x1000000, 0, 0, 0, 0x3eff0000, 0, 0x10000,   /* I/O */
          0x2000000, 0, 0x10000000, 0, 0x10000000, 0, 0x2eff0000, /* 32 bit */
          0x3000000, 0x80, 0, 0x80, 0, 0x80, 0);                  /* 64 bit */
    end();
    tree_end();
}

static int path(const char *path)
{
    int at = fdt_path_offset(blob, path);
    assert_true(at >= 0);
    return at;
}

static void assert_error(const char *where, const char *property, const char *problem)
{
    assert_string_equal(dt.error.node, where);
    if (property == NULL) {
        assert_null(dt.error.property);
    } else {
        assert_string_equal(dt.error.property, property);
    }
    assert_non_null(strstr(dt.error.problem, problem));
}

/* --- the whole ----------------------------------------------------------------------------------
 */

static void dt_open_refuses_what_is_no_tree(void **state)
{
    (void)state;
    tree_good();
    assert_int_equal(dt_open(&dt, NULL, BLOB_BYTES), STATUS_BAD_DATA);
    assert_int_equal(dt_open(&dt, blob, 100), STATUS_BAD_DATA);
    assert_error("device tree", NULL, "too large");
    blob[0] = 0;
    assert_int_equal(dt_open(&dt, blob, BLOB_BYTES), STATUS_BAD_DATA);
}

static void dt_open_refuses_a_damaged_structure(void **state)
{
    (void)state;
    tree_good();
    memset(blob + fdt_off_dt_struct(blob) + 100, 0xff, 64);
    assert_int_equal(dt_open(&dt, blob, BLOB_BYTES), STATUS_BAD_DATA);
}

static void read_everything(void)
{
    struct dt_range ranges[4];
    uint64_t ids[4];
    uint32_t count;
    struct dt_pcie pcie;
    struct dt_irq irq;
    const char *value;
    int at;
    enum status status = dt_memory(&dt, ranges, 4, &count);
    status = dt_cores(&dt, ids, 4, &count);
    if (dt_find(&dt, -1, "pci-host-ecam-generic", &at) == STATUS_OK) {
        status = dt_pcie(&dt, at, &pcie);
    }
    if (dt_find(&dt, -1, "arm,pl011", &at) == STATUS_OK) {
        status = dt_interrupt(&dt, at, 1, &irq);
        status = dt_reg(&dt, at, 0, &ranges[0]);
        status = dt_string(&dt, at, "compatible", &value);
    }
    if (dt_find(&dt, -1, "arm,cortex-a15-gic", &at) == STATUS_OK &&
        dt_find_child(&dt, at, "arm,gic-v2m-frame", &at) == STATUS_OK) {
        status = dt_reg(&dt, at, 0, &ranges[0]);
    }
    (void)status;
}

/* A tree with random damage is read or refused: the sanitizers see what dt.c reads beyond its end.
 */
static void dt_random_damage_is_harmless(void **state)
{
    (void)state;
    tree_good();
    size_t len_bytes = fdt_totalsize(blob);
    uint8_t *good = malloc(len_bytes);
    uint8_t *damaged = malloc(len_bytes); /* exact size: a read beyond it is seen */
    uint32_t opened = 0;
    memcpy(good, blob, len_bytes);
    srandom(1);
    for (int round = 0; round < 5000; round++) {
        memcpy(damaged, good, len_bytes);
        for (long i = random() % 4; i >= 0; i--) {
            damaged[(size_t)random() % len_bytes] = (uint8_t)random();
        }
        if (dt_open(&dt, damaged, (uint32_t)len_bytes) == STATUS_OK) {
            opened++;
            read_everything();
        }
    }
    assert_true(opened > 100);
    free(good);
    free(damaged);
}

/* --- single values ------------------------------------------------------------------------------
 */

static void dt_find_absent_names_what_was_looked_for(void **state)
{
    (void)state;
    int at;
    tree_good();
    assert_int_equal(dt_find(&dt, -1, "cfi-flash", &at), STATUS_NOT_FOUND);
    assert_error("cfi-flash", NULL, "no such node");
}

static void dt_find_disabled_is_absent(void **state)
{
    (void)state;
    int at;
    tree_start();
    node("a");
    text("compatible", "x");
    text("status", "disabled");
    end();
    node("b");
    text("compatible", "x");
    text("status", "okay");
    end();
    tree_end();
    assert_int_equal(dt_find(&dt, -1, "x", &at), STATUS_OK);
    assert_int_equal(at, path("/b"));
}

static void dt_reg_reads_by_the_parents_cells(void **state)
{
    (void)state;
    struct dt_range range;
    tree_good();
    assert_int_equal(dt_reg(&dt, path("/memory@40000000"), 1, &range), STATUS_OK);
    assert_int_equal(range.base, UINT64_C(1) << 32);
    assert_int_equal(range.len_bytes, UINT64_C(1) << 32);
    assert_int_equal(dt_reg(&dt, path("/intc@8000000/v2m@8020000"), 0, &range), STATUS_OK);
    assert_int_equal(range.base, 0x8020000);
    assert_int_equal(dt_reg(&dt, path("/uart@9000000"), 1, &range), STATUS_NOT_FOUND);
    assert_error("/uart@9000000", "reg", "too few");
}

static void dt_reg_behind_a_translating_bus_is_unsupported(void **state)
{
    (void)state;
    struct dt_range range;
    tree_good();
    assert_int_equal(dt_reg(&dt, path("/bus/translated@0"), 0, &range), STATUS_UNSUPPORTED);
    assert_error("/bus", "ranges", "translates");
}

static void dt_reg_odd_cells_is_bad_data(void **state)
{
    (void)state;
    struct dt_range range;
    tree_start();
    node("a");
    CELLS("reg", 0, 1, 2);
    end();
    node("b");
    CELLS("reg", 0xffffffff, 0xfffff000, 0, 0x2000);
    end();
    node("c");
    CELLS("#address-cells", 3);
    node("d");
    CELLS("reg", 0, 0, 0, 0);
    end();
    end();
    tree_end();
    assert_int_equal(dt_reg(&dt, path("/a"), 0, &range), STATUS_BAD_DATA);
    assert_int_equal(dt_reg(&dt, path("/b"), 0, &range), STATUS_BAD_DATA);
    assert_error("/b", "reg", "wraps");
    assert_int_equal(dt_reg(&dt, path("/c/d"), 0, &range), STATUS_BAD_DATA);
    assert_error("/c", "#address-cells", "neither 1 nor 2");
}

static void dt_interrupt_translates_types_and_triggers(void **state)
{
    (void)state;
    struct dt_irq irq;
    tree_good();
    assert_int_equal(dt_interrupt(&dt, path("/uart@9000000"), 0, &irq), STATUS_OK);
    assert_int_equal(irq.irq, 33);
    assert_false(irq.is_edge);
    assert_int_equal(dt_interrupt(&dt, path("/uart@9000000"), 1, &irq), STATUS_OK);
    assert_int_equal(irq.irq, 27);
    assert_true(irq.is_edge);
    assert_int_equal(dt_interrupt(&dt, path("/uart@9000000"), 2, &irq), STATUS_BAD_DATA);
    assert_int_equal(dt_interrupt(&dt, path("/bus"), 0, &irq), STATUS_NOT_FOUND);
}

static void dt_string_without_end_is_bad_data(void **state)
{
    (void)state;
    const char *value;
    tree_start();
    assert_int_equal(fdt_property(blob, "x", "abc", 3), 0);
    tree_end();
    assert_int_equal(dt_string(&dt, 0, "x", &value), STATUS_BAD_DATA);
    assert_int_equal(dt_string(&dt, 0, "y", &value), STATUS_NOT_FOUND);
}

static void dt_u32_of_other_size_is_bad_data(void **state)
{
    (void)state;
    uint32_t value;
    tree_start();
    CELLS("x", 1, 2);
    tree_end();
    assert_int_equal(dt_u32(&dt, 0, "x", &value), STATUS_BAD_DATA);
    assert_error("/", "x", "not one cell");
}

/* --- things that every board has ----------------------------------------------------------------
 */

static void dt_memory_lists_all_ranges(void **state)
{
    (void)state;
    struct dt_range ranges[2];
    uint32_t count;
    tree_good();
    assert_int_equal(dt_memory(&dt, ranges, 2, &count), STATUS_OK);
    assert_int_equal(count, 2);
    assert_int_equal(ranges[0].base, 0x40000000);
    assert_int_equal(dt_memory(&dt, ranges, 1, &count), STATUS_NO_SPACE);
}

static void dt_memory_missing_or_empty_is_an_error(void **state)
{
    (void)state;
    struct dt_range ranges[2];
    uint32_t count;
    tree_start();
    tree_end();
    assert_int_equal(dt_memory(&dt, ranges, 2, &count), STATUS_NOT_FOUND);
    tree_start();
    node("memory");
    text("device_type", "memory");
    end();
    tree_end();
    assert_int_equal(dt_memory(&dt, ranges, 2, &count), STATUS_BAD_DATA);
    assert_error("/memory", "reg", "missing");
}

static void dt_cores_are_listed_and_counted(void **state)
{
    (void)state;
    uint64_t ids[4] = {0};
    uint32_t count;
    tree_good();
    assert_int_equal(dt_cores(&dt, ids, 4, &count), STATUS_OK);
    assert_int_equal(count, 3);
    assert_int_equal(ids[2], 0x100);
    ids[2] = 7;
    assert_int_equal(dt_cores(&dt, ids, 2, &count), STATUS_OK);
    assert_int_equal(count, 3);
    assert_int_equal(ids[2], 7);
}

static void dt_pcie_windows_are_told_apart(void **state)
{
    (void)state;
    struct dt_pcie pcie;
    tree_good();
    assert_int_equal(dt_pcie(&dt, path("/pcie@10000000"), &pcie), STATUS_OK);
    assert_int_equal(pcie.ecam.base, UINT64_C(0x4010000000));
    assert_int_equal(pcie.first_bus, 2);
    assert_int_equal(pcie.memory32.base, 0x10000000);
    assert_int_equal(pcie.memory32.len_bytes, 0x2eff0000);
    assert_int_equal(pcie.memory64.base, UINT64_C(1) << 39);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dt_open_refuses_what_is_no_tree),
        cmocka_unit_test(dt_open_refuses_a_damaged_structure),
        cmocka_unit_test(dt_random_damage_is_harmless),
        cmocka_unit_test(dt_find_absent_names_what_was_looked_for),
        cmocka_unit_test(dt_find_disabled_is_absent),
        cmocka_unit_test(dt_reg_reads_by_the_parents_cells),
        cmocka_unit_test(dt_reg_behind_a_translating_bus_is_unsupported),
        cmocka_unit_test(dt_reg_odd_cells_is_bad_data),
        cmocka_unit_test(dt_interrupt_translates_types_and_triggers),
        cmocka_unit_test(dt_string_without_end_is_bad_data),
        cmocka_unit_test(dt_u32_of_other_size_is_bad_data),
        cmocka_unit_test(dt_memory_lists_all_ranges),
        cmocka_unit_test(dt_memory_missing_or_empty_is_an_error),
        cmocka_unit_test(dt_cores_are_listed_and_counted),
        cmocka_unit_test(dt_pcie_windows_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
