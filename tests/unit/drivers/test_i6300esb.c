#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#define MMIO_MOCK
/* The board's bus, under names of our own: the library has others. */
#define pcie_rc_device  fake_rc_device
#define pcie_rc_enable  fake_rc_enable
#define pcie_rc_write8  fake_rc_write8
#define pcie_rc_write16 fake_rc_write16
struct fake_rc_device;
#include "hal/drivers/i6300esb.c"

#define REGS UINT64_C(0x10000000)

/* The chip, as 300641 describes it: a write counts only after 80h, 86h. */
static struct {
    struct fake_rc_device devices[3];
    uint32_t device_count;
    bool is_enabled;
    uint16_t config;
    uint8_t lock;
    uint32_t timer[2];
    uint32_t feed_count;
    uint32_t unlock;
    bool has_fired;
} fake;

uint64_t mmio_mock_read(uintptr_t address, unsigned bits)
{
    assert_true(fake.is_enabled);
    assert_int_equal(address, REGS + 0x0c);
    assert_int_equal(bits, 16);
    return fake.has_fired ? 0x200 : 0;
}

static void reload_write(uint64_t value)
{
    if (value == 0x80) {
        fake.unlock = 1;
    } else if (value == 0x86 && fake.unlock == 1) {
        fake.unlock = 2;
    } else {
        assert_int_equal(fake.unlock, 2);
        fake.feed_count += (value & 0x100) != 0 ? 1 : 0;
        fake.has_fired = fake.has_fired && (value & 0x200) == 0;
        fake.unlock = 0;
    }
}

void mmio_mock_write(uintptr_t address, unsigned bits, uint64_t value)
{
    if (address == REGS + 0x0c) {
        assert_int_equal(bits, 16);
        reload_write(value);
        return;
    }
    assert_int_equal(bits, 32);
    assert_true(address == REGS || address == REGS + 4);
    assert_int_equal(fake.unlock, 2);
    fake.unlock = 0;
    fake.timer[(address - REGS) / 4] = (uint32_t)value;
}

const struct fake_rc_device *fake_rc_device(uint32_t index)
{
    return index < fake.device_count ? &fake.devices[index] : NULL;
}

void fake_rc_enable(const struct fake_rc_device *device, bool memory, bool bus_master)
{
    (void)device;
    assert_false(bus_master);
    fake.is_enabled = memory;
}

void fake_rc_write16(const struct fake_rc_device *device, uint16_t offset, uint16_t value)
{
    (void)device;
    assert_int_equal(offset, 0x60);
    fake.config = value;
}

void fake_rc_write8(const struct fake_rc_device *device, uint16_t offset, uint8_t value)
{
    (void)device;
    assert_int_equal(offset, 0x68);
    fake.lock = value;
}

static int setup(void **state)
{
    (void)state;
    memset(&fake, 0, sizeof(fake));
    fake.device_count = 3;
    fake.devices[1].vendor_id = 0x8086;
    fake.devices[1].device_id = 0x1234;
    fake.devices[2].vendor_id = 0x8086;
    fake.devices[2].device_id = 0x25ab;
    fake.devices[2].bar[0].bus_addr = REGS;
    fake.devices[2].bar[0].len_bytes = 4096;
    return 0;
}

static struct i6300esb dog;

static void watchdog_is_found_and_what_it_does_is_not_changed(void **state)
{
    (void)state;
    fake.lock = 2;
    assert_int_equal(i6300esb_find(&dog), STATUS_OK);
    assert_int_equal(fake.lock, 2);
    assert_false(dog.has_fired);
    fake.has_fired = true;
    assert_int_equal(i6300esb_find(&dog), STATUS_OK);
    assert_true(dog.has_fired);
    assert_int_equal(i6300esb_find(&dog), STATUS_OK); /* told once */
    assert_false(dog.has_fired);
}

static void watchdog_that_is_missing_or_without_address_is_told(void **state)
{
    (void)state;
    fake.devices[2].bar[0].bus_addr = 0;
    assert_int_equal(i6300esb_find(&dog), STATUS_BAD_DATA);
    fake.device_count = 2;
    assert_int_equal(i6300esb_find(&dog), STATUS_NOT_FOUND);
    fake.device_count = 0;
    assert_int_equal(i6300esb_find(&dog), STATUS_NOT_FOUND);
}

static void watchdog_two_stages_are_the_time(void **state)
{
    (void)state;
    assert_int_equal(i6300esb_find(&dog), STATUS_OK);
    assert_int_equal(dog.base.ops->start(&dog.base, 10000), STATUS_OK);
    assert_int_equal(fake.lock, 2);   /* runs, not locked */
    assert_int_equal(fake.config, 3); /* no interrupt, resets, ticks of 983.04 us */
    assert_int_equal(fake.feed_count, 1);
    double total_ms = 0.98304 * (fake.timer[0] + fake.timer[1]);
    assert_true(total_ms >= 10000 && total_ms < 10002);
    dog.base.ops->feed(&dog.base);
    assert_int_equal(fake.feed_count, 2);
    dog.base.ops->stop(&dog.base);
    assert_int_equal(fake.lock, 0);
}

static void watchdog_times_out_of_range_are_invalid(void **state)
{
    (void)state;
    assert_int_equal(i6300esb_find(&dog), STATUS_OK);
    assert_int_equal(dog.base.ops->start(&dog.base, 0), STATUS_INVALID);
    assert_int_equal(dog.base.ops->start(&dog.base, UINT32_MAX), STATUS_INVALID);
    assert_int_equal(fake.lock, 0);
    assert_int_equal(dog.base.ops->start(&dog.base, 2000000), STATUS_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(watchdog_is_found_and_what_it_does_is_not_changed, setup),
        cmocka_unit_test_setup(watchdog_that_is_missing_or_without_address_is_told, setup),
        cmocka_unit_test_setup(watchdog_two_stages_are_the_time, setup),
        cmocka_unit_test_setup(watchdog_times_out_of_range_are_invalid, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
