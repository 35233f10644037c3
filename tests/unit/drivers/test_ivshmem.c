/*
 * The ivshmem glue over fake registers and a fake bus.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define MMIO_MOCK
/* The board's bus and cores, under names of our own: the library has others. */
#define pcie_rc_device fake_rc_device
#define pcie_rc_enable fake_rc_enable
#define pcie_rc_msix   fake_rc_msix
#define cpu_wake       fake_cpu_wake
struct fake_rc_device;
#include "hal/drivers/ivshmem.c"

#define REGS UINT64_C(0x10000000)

static struct {
    struct fake_rc_device devices[4];
    uint32_t device_count;
    const struct fake_rc_device *enabled;
    bool bus_master;
    uint64_t written_address;
    uint64_t written_value;
    void (*handlers[8])(void *arg);
    void *args[8];
    uint32_t handler_limit;
    uint32_t woken;
} fake;

uint64_t mmio_mock_read(uintptr_t address, unsigned bits)
{
    assert_int_equal(bits, 32);
    assert_int_equal(address, REGS + 8);
    return 0xffffffff;
}

void mmio_mock_write(uintptr_t address, unsigned bits, uint64_t value)
{
    assert_int_equal(bits, 32);
    fake.written_address = address;
    fake.written_value = value;
}

const struct fake_rc_device *fake_rc_device(uint32_t index)
{
    return index < fake.device_count ? &fake.devices[index] : NULL;
}

void fake_rc_enable(const struct fake_rc_device *device, bool memory, bool bus_master)
{
    assert_true(memory);
    fake.enabled = device;
    fake.bus_master = bus_master;
}

enum status fake_rc_msix(const struct fake_rc_device *device, uint16_t vector, uint32_t core,
                         void (*handler)(void *arg), void *arg)
{
    assert_non_null(device);
    assert_int_equal(vector, core);
    if (vector >= fake.handler_limit) {
        return STATUS_UNSUPPORTED;
    }
    fake.handlers[vector] = handler;
    fake.args[vector] = arg;
    return STATUS_OK;
}

void fake_cpu_wake(uint32_t core)
{
    fake.woken |= 1u << core;
}

static struct fake_rc_device device(uint16_t device_id, bool has_msix)
{
    struct fake_rc_device d = {
        .vendor_id = 0x1af4, .device_id = device_id, .msix_cap = has_msix ? 0x40 : 0};
    d.bar[0].bus_addr = REGS;
    d.bar[0].len_bytes = 0x100;
    d.bar[2].bus_addr = UINT64_C(0x8000000000);
    d.bar[2].len_bytes = 0x20000;
    return d;
}

static int setup(void **state)
{
    (void)state;
    fake.device_count = 4;
    fake.devices[0] = device(0x1041, true); /* something else of the vendor */
    fake.devices[1] = device(0x1110, false);
    fake.devices[2] = device(0x1110, true);
    fake.devices[3] = device(0x1110, true);
    fake.devices[3].bar[2].bus_addr += 0x100000;
    fake.woken = 0;
    fake.handler_limit = 8;
    return 0;
}

static void find_tells_doorbell_from_plain(void **state)
{
    struct ivshmem found;
    (void)state;

    assert_int_equal(ivshmem_find(0, true, &found), STATUS_OK);
    assert_ptr_equal(found.device, &fake.devices[2]);
    assert_ptr_equal(fake.enabled, &fake.devices[2]);
    assert_true(fake.bus_master);
    assert_int_equal(found.memory_bytes, 0x20000);
    assert_int_equal(ivshmem_find(1, true, &found), STATUS_OK);
    assert_int_equal(found.memory_addr, UINT64_C(0x8000100000));
    assert_int_equal(ivshmem_find(0, false, &found), STATUS_OK);
    assert_ptr_equal(found.device, &fake.devices[1]);
    assert_false(fake.bus_master);
}

static void find_missing_device_not_found(void **state)
{
    struct ivshmem found;
    (void)state;

    assert_int_equal(ivshmem_find(2, true, &found), STATUS_NOT_FOUND);
    fake.device_count = 0;
    assert_int_equal(ivshmem_find(0, false, &found), STATUS_NOT_FOUND);
}

static void find_unassigned_bar_bad_data(void **state)
{
    struct ivshmem found;
    (void)state;

    fake.devices[1].bar[2].bus_addr = 0;
    assert_int_equal(ivshmem_find(0, false, &found), STATUS_BAD_DATA);
    fake.devices[2].bar[0].len_bytes = 8;
    assert_int_equal(ivshmem_find(0, true, &found), STATUS_BAD_DATA);
}

static void ring_writes_peer_and_vector(void **state)
{
    struct ivshmem found;
    (void)state;

    assert_int_equal(ivshmem_find(0, true, &found), STATUS_OK);
    ivshmem_ring(&found, 0x1234, 65);
    assert_int_equal(fake.written_address, REGS + 12);
    assert_int_equal(fake.written_value, 0x12340041);
    assert_int_equal(ivshmem_own_id(&found), -1);
}

static void wake_cores_vector_wakes_its_core(void **state)
{
    struct ivshmem found;
    (void)state;

    assert_int_equal(ivshmem_find(0, true, &found), STATUS_OK);
    assert_int_equal(ivshmem_wake_cores(&found, 4), STATUS_OK);
    fake.handlers[2](fake.args[2]);
    assert_int_equal(fake.woken, 1u << 2);
    fake.handler_limit = 2;
    assert_int_equal(ivshmem_wake_cores(&found, 4), STATUS_UNSUPPORTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(find_tells_doorbell_from_plain, setup),
        cmocka_unit_test_setup(find_missing_device_not_found, setup),
        cmocka_unit_test_setup(find_unassigned_bar_bad_data, setup),
        cmocka_unit_test_setup(ring_writes_peer_and_vector, setup),
        cmocka_unit_test_setup(wake_cores_vector_wakes_its_core, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
