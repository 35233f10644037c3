#include "hal/drivers/i6300esb.h"

#include "base/bits.h"

/* Configuration space, 16 and 8 bits wide: only so wide accesses are understood */
#define CFG_CONFIG         0x60u
#define CONFIG_NO_INT      0x3u
#define CFG_LOCK           0x68u
#define LOCK_WDT_ENABLE    BIT32(1)
#define CONFIG_PRESCALE_MS 0u /* bit 2 clear: a tick is 2^15 clocks of 30 ns */

/* Registers; RELOAD is 16 bits wide */
#define REG_TIMER1    0x00u
#define REG_TIMER2    0x04u
#define REG_RELOAD    0x0cu
#define RELOAD_TICKLE BIT32(8)
#define RELOAD_FIRED  BIT32(9) /* write 1 to clear */
#define REGS_BYTES    0x10u

#define TIMER_MAX   0xfffffu
#define TICK_PICO   983040000u /* 2^15 * 30 ns */
#define PICO_PER_MS UINT64_C(1000000000)
#define STAGES      2u

static struct i6300esb *self(struct watchdog *base)
{
    return CONTAINER_OF(base, struct i6300esb, base);
}

/* The next write to a register counts, and only that. */
static void unlock(const struct i6300esb *watchdog)
{
    mmio_write16(watchdog->regs, REG_RELOAD, 0x80);
    mmio_write16(watchdog->regs, REG_RELOAD, 0x86);
}

static void feed(struct watchdog *base)
{
    struct i6300esb *watchdog = self(base);

    unlock(watchdog);
    mmio_write16(watchdog->regs, REG_RELOAD, RELOAD_TICKLE);
}

static void stop(struct watchdog *base)
{
    pcie_rc_write8(self(base)->device, CFG_LOCK, 0);
}

static enum status start(struct watchdog *base, uint32_t timeout_ms)
{
    struct i6300esb *watchdog = self(base);
    uint64_t ticks = (timeout_ms * PICO_PER_MS / STAGES + TICK_PICO - 1) / TICK_PICO;

    if (ticks == 0 || ticks > TIMER_MAX) {
        return STATUS_INVALID;
    }
    stop(base);
    pcie_rc_write16(watchdog->device, CFG_CONFIG, CONFIG_NO_INT | CONFIG_PRESCALE_MS);
    unlock(watchdog);
    mmio_write32(watchdog->regs, REG_TIMER1, (uint32_t)ticks);
    unlock(watchdog);
    mmio_write32(watchdog->regs, REG_TIMER2, (uint32_t)ticks);
    pcie_rc_write8(watchdog->device, CFG_LOCK, LOCK_WDT_ENABLE);
    feed(base);
    return STATUS_OK;
}

static const struct watchdog_ops ops = {.start = start, .feed = feed, .stop = stop};

enum status i6300esb_find(struct i6300esb *watchdog)
{
    const struct pcie_rc_device *device = pcie_rc_device(0);

    for (uint32_t i = 1; device != NULL; i++) {
        if (device->vendor_id == I6300ESB_VENDOR && device->device_id == I6300ESB_DEVICE) {
            break;
        }
        device = pcie_rc_device(i);
    }
    if (device == NULL) {
        return STATUS_NOT_FOUND;
    }
    if (device->bar[0].bus_addr == 0 || device->bar[0].len_bytes < REGS_BYTES) {
        return STATUS_BAD_DATA;
    }
    *watchdog = (struct i6300esb){
        .base.ops = &ops, .device = device, .regs.base = (uintptr_t)device->bar[0].bus_addr};
    pcie_rc_enable(device, true, false);
    watchdog->has_fired = (mmio_read16(watchdog->regs, REG_RELOAD) & RELOAD_FIRED) != 0;
    if (watchdog->has_fired) {
        unlock(watchdog);
        mmio_write16(watchdog->regs, REG_RELOAD, RELOAD_FIRED);
    }
    return STATUS_OK;
}
