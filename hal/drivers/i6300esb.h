/*
 * The watchdog of Intel's 6300ESB I/O controller hub (300641, chapter 15), a PCI function that QEMU
 * has for any machine: hal/watchdog.h.
 *
 * Two stages of equal length; at the end of the first it could interrupt (it does not), at the end
 * of the second it resets the board. Leaves out: locking the settings, the 1 MHz prescaler.
 */
#ifndef DRIVERS_I6300ESB_H
#define DRIVERS_I6300ESB_H

#include <stdbool.h>
#include "base/status.h"
#include "hal/mmio.h"
#include "hal/pcie_rc.h"
#include "hal/watchdog.h"

#define I6300ESB_VENDOR 0x8086u
#define I6300ESB_DEVICE 0x25abu

struct i6300esb {
    struct watchdog base;
    const struct pcie_rc_device *device;
    struct mmio regs;
    bool has_fired; /* the reset before this start was its doing */
};

/* Finds it among the enumerated devices; one that runs goes on. NOT_FOUND: there is none.
 * BAD_DATA: its registers have no address. */
MUST_USE enum status i6300esb_find(struct i6300esb *watchdog);

#endif
