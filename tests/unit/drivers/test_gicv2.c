#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#define MMIO_MOCK
#include "hal/drivers/gicv2.c"
#include "hal/native/native.h"

#define DIST  0x10000u
#define IFACE 0x20000u
#define V2M   0x30000u

static struct {
    uint32_t dist[0x400];
    uint32_t enabled[16];
    uint32_t pending[8]; /* what IAR returns, in order */
    uint32_t pending_at;
    uint32_t eoi[8];
    uint32_t eoi_count;
    uint32_t sgi;
    uint32_t version;
    uint32_t msi_typer;
} fake;

static uint32_t calls[4];

uint64_t mmio_mock_read(uintptr_t address, unsigned bits)
{
    switch (address) {
    case DIST + GICD_PIDR2:
        return fake.version << 4;
    case DIST + GICD_TYPER:
        return 3; /* 128 lines */
    case V2M + V2M_TYPER:
        return fake.msi_typer;
    case IFACE + GICC_IAR:
        return fake.pending_at < 8 && fake.pending[fake.pending_at] != 0
                   ? fake.pending[fake.pending_at++]
                   : 1023;
    default:
        break;
    }
    assert_in_range(address, DIST, DIST + 0xfff);
    if (bits == 8) {
        return address == DIST + GICD_ITARGETSR ? 1u << cpu_self()
                                                : ((uint8_t *)fake.dist)[address - DIST];
    }
    return fake.dist[(address - DIST) / 4];
}

void mmio_mock_write(uintptr_t address, unsigned bits, uint64_t value)
{
    if (address == IFACE + GICC_EOIR) {
        fake.eoi[fake.eoi_count++] = (uint32_t)value;
    } else if (address == DIST + GICD_SGIR) {
        fake.sgi = (uint32_t)value;
    } else if (address >= DIST + 0x100 && address < DIST + 0x140) {
        fake.enabled[(address - DIST - 0x100) / 4] |= (uint32_t)value;
    } else if (address >= DIST && address < DIST + 0x1000 && bits == 8) {
        ((uint8_t *)fake.dist)[address - DIST] = (uint8_t)value;
    } else if (address >= DIST && address < DIST + 0x1000) {
        fake.dist[(address - DIST) / 4] = (uint32_t)value;
    }
}

static void count_call(void *arg)
{
    calls[(uintptr_t)arg]++;
}

static int setup(void **state)
{
    (void)state;
    memset(&fake, 0, sizeof(fake));
    memset(&gic, 0, sizeof(gic));
    memset(calls, 0, sizeof(calls));
    fake.version = 2;
    fake.msi_typer = 80 << 16 | 2;
    native_cpu_set_count(2);
    const struct gicv2_params params = {DIST, IFACE, V2M};
    assert_int_equal(gicv2_init(&params), STATUS_OK);
    return 0;
}

static void gicv2_init_other_version_is_unsupported(void **state)
{
    (void)state;
    const struct gicv2_params params = {DIST, IFACE, 0};
    fake.version = 3;
    assert_int_equal(gicv2_init(&params), STATUS_UNSUPPORTED);
}

static void irq_attach_shared_sets_trigger_target_and_enables(void **state)
{
    (void)state;
    assert_int_equal(irq_attach(70, IRQ_TRIGGER_EDGE, 1, count_call, NULL), STATUS_OK);
    assert_int_equal(((uint8_t *)fake.dist)[GICD_ITARGETSR + 70], 2);
    assert_int_equal(fake.dist[GICD_ICFGR(4) / 4], 2u << 12);
    assert_int_equal(fake.enabled[2], 1u << 6);
}

static void irq_attach_twice_exists(void **state)
{
    (void)state;
    assert_int_equal(irq_attach(70, IRQ_TRIGGER_EDGE, 0, count_call, NULL), STATUS_OK);
    assert_int_equal(irq_attach(70, IRQ_TRIGGER_EDGE, 0, count_call, NULL), STATUS_EXISTS);
}

static void irq_attach_beyond_lines_or_cores_is_invalid(void **state)
{
    (void)state;
    assert_int_equal(irq_attach(128, IRQ_TRIGGER_EDGE, 0, count_call, NULL), STATUS_INVALID);
    assert_int_equal(irq_attach(70, IRQ_TRIGGER_EDGE, 2, count_call, NULL), STATUS_INVALID);
}

static void irq_dispatch_runs_all_pending_and_counts_devices(void **state)
{
    (void)state;
    assert_int_equal(irq_attach(1, IRQ_TRIGGER_EDGE, 0, count_call, (void *)1), STATUS_OK);
    assert_int_equal(irq_attach(70, IRQ_TRIGGER_EDGE, 0, count_call, (void *)2), STATUS_OK);
    fake.pending[0] = 1u << 10 | 1; /* between cores, from core 1 */
    fake.pending[1] = 70;
    fake.pending[2] = 71; /* nobody's */
    assert_int_equal(irq_dispatch(), 2);
    assert_int_equal(calls[1], 1);
    assert_int_equal(calls[2], 1);
    assert_int_equal(fake.eoi_count, 3);
    assert_int_equal(fake.eoi[0], 1u << 10 | 1);
}

static void irq_msi_attach_takes_each_once_then_no_space(void **state)
{
    (void)state;
    struct irq_msi msi;
    assert_int_equal(irq_msi_attach(0, count_call, NULL, &msi), STATUS_OK);
    assert_int_equal(msi.bus_addr, V2M + 0x40);
    assert_int_equal(msi.data, 80);
    assert_int_equal(irq_msi_attach(5, count_call, NULL, &msi), STATUS_INVALID);
    assert_int_equal(irq_msi_attach(0, count_call, NULL, &msi), STATUS_OK);
    assert_int_equal(msi.data, 81);
    assert_int_equal(irq_msi_attach(0, count_call, NULL, &msi), STATUS_NO_SPACE);
}

static void irq_msi_attach_without_frame_is_unsupported(void **state)
{
    (void)state;
    struct irq_msi msi;
    gic.msi_doorbell = 0;
    assert_int_equal(irq_msi_attach(0, count_call, NULL, &msi), STATUS_UNSUPPORTED);
}

static void irq_send_names_interface_and_number(void **state)
{
    (void)state;
    irq_send(0, 1);
    assert_int_equal(fake.sgi, 1u << 16 | 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(gicv2_init_other_version_is_unsupported, setup),
        cmocka_unit_test_setup(irq_attach_shared_sets_trigger_target_and_enables, setup),
        cmocka_unit_test_setup(irq_attach_twice_exists, setup),
        cmocka_unit_test_setup(irq_attach_beyond_lines_or_cores_is_invalid, setup),
        cmocka_unit_test_setup(irq_dispatch_runs_all_pending_and_counts_devices, setup),
        cmocka_unit_test_setup(irq_msi_attach_takes_each_once_then_no_space, setup),
        cmocka_unit_test_setup(irq_msi_attach_without_frame_is_unsupported, setup),
        cmocka_unit_test_setup(irq_send_names_interface_and_number, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
