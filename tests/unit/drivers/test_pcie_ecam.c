#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#define MMIO_MOCK
#include "hal/drivers/pcie_ecam.c"

#define ECAM       UINT64_C(0x1000000000)
#define ECAM_BYTES (1u << 20)
#define LOW        UINT64_C(0x10000000)
#define HIGH       UINT64_C(0x8000000000)

struct function {
    uint32_t slot;
    uint32_t number;
    uint32_t config[64];
    uint64_t bar_bytes[6]; /* of a 64-bit BAR in its lower half */
    bool bar_64[6];
};

static struct {
    struct function functions[40];
    uint32_t count;
    struct {
        uint64_t address;
        uint64_t value;
    } writes[16]; /* outside of configuration space */
    uint32_t write_count;
    uint64_t mapped_bytes;
    uint32_t map_count;
    enum status map_status;
} fake;

static struct function *function_at(uintptr_t address)
{
    uint32_t slot = (uint32_t)(address >> 15 & 31);
    uint32_t number = (uint32_t)(address >> 12 & 7);
    for (uint32_t i = 0; i < fake.count; i++) {
        if (fake.functions[i].slot == slot && fake.functions[i].number == number) {
            return &fake.functions[i];
        }
    }
    return NULL;
}

uint64_t mmio_mock_read(uintptr_t address, unsigned bits)
{
    assert_int_equal(bits, 32);
    if (address < ECAM || address >= ECAM + ECAM_BYTES) {
        return 1; /* an MSI-X entry: masked */
    }
    struct function *function = function_at(address);
    uint32_t offset = (uint32_t)(address & 0xfff);
    return function == NULL ? UINT32_MAX : offset >= 256 ? 0 : function->config[offset / 4];
}

static void bar_write(struct function *function, uint32_t index, uint32_t value)
{
    uint32_t *slot = &function->config[4 + index];
    bool upper = index > 0 && function->bar_64[index - 1];
    uint64_t size = upper ? function->bar_bytes[index - 1] : function->bar_bytes[index];
    uint64_t mask = ~(size - 1);
    if (size == 0) {
        return;
    }
    if (upper) {
        *slot = value & (uint32_t)(mask >> 32);
    } else {
        *slot = (value & (uint32_t)mask & ~15u) | (function->bar_64[index] ? 4 : 0);
    }
}

void mmio_mock_write(uintptr_t address, unsigned bits, uint64_t value)
{
    assert_int_equal(bits, 32);
    if (address < ECAM || address >= ECAM + ECAM_BYTES) {
        fake.writes[fake.write_count].address = address;
        fake.writes[fake.write_count++].value = value;
        return;
    }
    struct function *function = function_at(address);
    uint32_t offset = (uint32_t)(address & 0xfff);
    assert_non_null(function);
    if (offset >= 0x10 && offset < 0x28) {
        bar_write(function, (offset - 0x10) / 4, (uint32_t)value);
    } else if (offset == 4) { /* status bits are cleared by ones: nobody should */
        assert_int_equal(value >> 16, 0);
        function->config[1] = (function->config[1] & 0xffff0000) | (uint32_t)value;
    } else {
        function->config[offset / 4] = (uint32_t)value;
    }
}

enum status irq_msi_attach(uint32_t core, irq_fn *fn, void *arg, struct irq_msi *msi)
{
    (void)fn, (void)arg;
    msi->bus_addr = UINT64_C(0x108020040);
    msi->data = 80 + core;
    return core < 2 ? STATUS_OK : STATUS_INVALID;
}

static enum status map(uint64_t base, uint64_t len_bytes, uint16_t vendor_id, uint16_t device_id,
                       uint32_t bar)
{
    (void)vendor_id, (void)device_id, (void)bar;
    assert_int_equal(base % 4096 + len_bytes % 4096, 0);
    fake.mapped_bytes += len_bytes;
    fake.map_count++;
    return fake.map_status;
}

static struct function *add(uint32_t slot, uint32_t number)
{
    struct function *function = &fake.functions[fake.count++];
    function->slot = slot;
    function->number = number;
    function->config[0] = 0x12340000u | 0x1af4;
    function->config[2] = 0x010802u << 8;
    return function;
}

/* An MSI-X capability at 0x40 with a table of `count` entries in BAR 0 at `offset`. */
static void add_msix(struct function *function, uint32_t count, uint32_t offset)
{
    function->config[1] |= STATUS_CAPABILITIES;
    function->config[0x34 / 4] = 0x40;
    function->config[0x40 / 4] = (count - 1) << 16 | CAPABILITY_MSIX;
    function->config[0x44 / 4] = offset;
}

static enum status init(void)
{
    const struct pcie_ecam_params params = {
        .ecam = ECAM,
        .ecam_bytes = ECAM_BYTES,
        .memory32 = {LOW, 1u << 20},
        .memory64 = {HIGH, UINT64_C(1) << 39},
        .map = map,
    };
    return pcie_ecam_init(&params);
}

static int setup(void **state)
{
    (void)state;
    memset(&fake, 0, sizeof(fake));
    return 0;
}

static void ecam_init_empty_bus_finds_nothing(void **state)
{
    (void)state;
    assert_int_equal(init(), STATUS_OK);
    assert_null(pcie_rc_device(0));
}

static void ecam_init_small_space_is_invalid(void **state)
{
    (void)state;
    const struct pcie_ecam_params params = {.ecam = ECAM, .ecam_bytes = 4096, .map = map};
    assert_int_equal(pcie_ecam_init(&params), STATUS_INVALID);
}

static void ecam_init_bars_are_aligned_and_apart(void **state)
{
    (void)state;
    struct function *first = add(1, 0);
    struct function *second = add(3, 0);
    first->bar_bytes[0] = 256; /* less than a page still gets a page of its own */
    first->bar_bytes[1] = 0x4000;
    first->bar_bytes[2] = UINT64_C(1) << 30;
    first->bar_64[2] = true;
    first->config[6] = 4;
    second->bar_bytes[0] = 0x1000;
    second->bar_64[0] = true;
    second->config[4] = 4;
    assert_int_equal(init(), STATUS_OK);

    const struct pcie_rc_device *a = pcie_rc_device(0);
    const struct pcie_rc_device *b = pcie_rc_device(1);
    assert_null(pcie_rc_device(2));
    assert_int_equal(a->bar[0].bus_addr, LOW);
    assert_int_equal(a->bar[1].bus_addr, LOW + 0x4000);
    assert_int_equal(a->bar[2].bus_addr, HIGH);
    assert_int_equal(a->bar[2].len_bytes, 1u << 30);
    assert_int_equal(b->bar[0].bus_addr, HIGH + (1u << 30));
    assert_int_equal(first->config[6], 4); /* low half: the flags alone */
    assert_int_equal(first->config[7], 0x80);
    assert_int_equal(fake.map_count, 4);
    assert_int_equal(b->device, 3);
}

static void ecam_init_too_large_bar_leaves_the_others_usable(void **state)
{
    (void)state;
    struct function *function = add(1, 0);
    function->bar_bytes[0] = 2u << 20; /* the low window has 1 MiB */
    function->bar_bytes[1] = 0x1000;
    assert_int_equal(init(), STATUS_NO_SPACE);
    assert_int_equal(pcie_rc_device(0)->bar[0].bus_addr, 0);
    assert_int_equal(pcie_rc_device(0)->bar[1].bus_addr, LOW);
}

static void ecam_init_unmappable_bar_is_not_assigned(void **state)
{
    (void)state;
    add(1, 0)->bar_bytes[0] = 0x1000;
    fake.map_status = STATUS_NO_SPACE;
    assert_int_equal(init(), STATUS_NO_SPACE);
    assert_int_equal(pcie_rc_device(0)->bar[0].bus_addr, 0);
}

static void ecam_init_io_bar_is_left_alone(void **state)
{
    (void)state;
    add(1, 0)->config[4] = 0xe001;
    assert_int_equal(init(), STATUS_OK);
    assert_int_equal(fake.functions[0].config[4], 0xe001);
    assert_int_equal(pcie_rc_device(0)->bar[0].len_bytes, 0);
}

static void ecam_init_finds_functions_only_of_multifunction_devices(void **state)
{
    (void)state;
    add(1, 0);
    add(1, 1); /* an alias: the device does not say that it has more */
    add(2, 0)->config[3] = HEADER_MULTI;
    add(2, 5);
    assert_int_equal(init(), STATUS_OK);
    assert_int_equal(pcie_rc_device(2)->function, 5);
    assert_null(pcie_rc_device(3));
}

static void ecam_init_bridges_are_not_devices(void **state)
{
    (void)state;
    add(0, 0)->config[2] = 0x060000u << 8;
    add(1, 0)->config[3] = 1u << 16;
    assert_int_equal(init(), STATUS_OK);
    assert_null(pcie_rc_device(0));
}

static void ecam_init_capability_loop_ends(void **state)
{
    (void)state;
    struct function *function = add(1, 0);
    function->config[1] = STATUS_CAPABILITIES;
    function->config[0x34 / 4] = 0x40;
    function->config[0x40 / 4] = 0x4001; /* points at itself */
    assert_int_equal(init(), STATUS_OK);
    assert_int_equal(pcie_rc_device(0)->msix_cap, 0);
}

static void ecam_init_more_devices_than_the_table_reports_no_space(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 32; i++) {
        add(i, 0);
    }
    fake.functions[0].config[3] = HEADER_MULTI;
    add(0, 1);
    assert_int_equal(init(), STATUS_NO_SPACE);
    assert_non_null(pcie_rc_device(PCIE_ECAM_MAX_DEVICES - 1));
    assert_null(pcie_rc_device(PCIE_ECAM_MAX_DEVICES));
}

static void rc_enable_changes_only_its_two_bits(void **state)
{
    (void)state;
    add(1, 0)->config[1] = 0xf9100000;
    assert_int_equal(init(), STATUS_OK);
    pcie_rc_enable(pcie_rc_device(0), true, true);
    assert_int_equal(fake.functions[0].config[1], 0xf9100000 | 0x406);
    pcie_rc_enable(pcie_rc_device(0), true, false);
    assert_int_equal(fake.functions[0].config[1], 0xf9100000 | 0x402);
}

static void rc_msix_programs_and_unmasks_the_entry(void **state)
{
    (void)state;
    struct function *function = add(1, 0);
    function->bar_bytes[0] = 0x1000;
    add_msix(function, 4, 0x800);
    assert_int_equal(init(), STATUS_OK);
    assert_int_equal(pcie_rc_msix(pcie_rc_device(0), 3, 1, NULL, NULL), STATUS_OK);
    assert_int_equal(fake.write_count, 4);
    assert_int_equal(fake.writes[0].address, LOW + 0x830);
    assert_int_equal(fake.writes[0].value, 0x08020040);
    assert_int_equal(fake.writes[1].value, 1);
    assert_int_equal(fake.writes[2].value, 81);
    assert_int_equal(fake.writes[3].value, 0);
    assert_int_equal(function->config[0x40 / 4] >> 30, 2); /* enabled, not masked */
}

static void rc_msix_refuses_what_the_device_does_not_have(void **state)
{
    (void)state;
    struct function *function = add(1, 0);
    function->bar_bytes[0] = 0x1000;
    add_msix(function, 4, 0xff0);
    add(2, 0);
    assert_int_equal(init(), STATUS_OK);
    assert_int_equal(pcie_rc_msix(pcie_rc_device(1), 0, 0, NULL, NULL), STATUS_UNSUPPORTED);
    assert_int_equal(pcie_rc_msix(pcie_rc_device(0), 4, 0, NULL, NULL), STATUS_UNSUPPORTED);
    assert_int_equal(pcie_rc_msix(pcie_rc_device(0), 1, 0, NULL, NULL), STATUS_UNSUPPORTED);
    assert_int_equal(pcie_rc_msix(pcie_rc_device(0), 0, 2, NULL, NULL), STATUS_UNSUPPORTED);
    assert_int_equal(fake.write_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(ecam_init_empty_bus_finds_nothing, setup),
        cmocka_unit_test_setup(ecam_init_small_space_is_invalid, setup),
        cmocka_unit_test_setup(ecam_init_bars_are_aligned_and_apart, setup),
        cmocka_unit_test_setup(ecam_init_too_large_bar_leaves_the_others_usable, setup),
        cmocka_unit_test_setup(ecam_init_unmappable_bar_is_not_assigned, setup),
        cmocka_unit_test_setup(ecam_init_io_bar_is_left_alone, setup),
        cmocka_unit_test_setup(ecam_init_finds_functions_only_of_multifunction_devices, setup),
        cmocka_unit_test_setup(ecam_init_bridges_are_not_devices, setup),
        cmocka_unit_test_setup(ecam_init_capability_loop_ends, setup),
        cmocka_unit_test_setup(ecam_init_more_devices_than_the_table_reports_no_space, setup),
        cmocka_unit_test_setup(rc_enable_changes_only_its_two_bits, setup),
        cmocka_unit_test_setup(rc_msix_programs_and_unmasks_the_entry, setup),
        cmocka_unit_test_setup(rc_msix_refuses_what_the_device_does_not_have, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
