/*
 * Arm Generic Interrupt Controller, architecture version 2 (IHI 0048B), with the v2m frame that
 * turns message-signalled interrupts into shared ones (Server Base System Architecture, appendix
 * E). Supplies hal/irq.h. Leaves out: FIQ, priorities (all equal), GICv3 and its ITS.
 */
#ifndef DRIVERS_GICV2_H
#define DRIVERS_GICV2_H

#include <stdint.h>
#include "base/status.h"

/* Highest interrupt + 1 that can be attached. */
#define GICV2_IRQ_COUNT 512u

struct gicv2_params {
    uintptr_t distributor; /* mapped as device */
    uintptr_t interface;
    uintptr_t msi_frame; /* v2m registers; 0: none */
};

/* All interrupts off, the calling core's interface on. Core 0, once.
 * UNSUPPORTED: the distributor is not version 2. */
MUST_USE enum status gicv2_init(const struct gicv2_params *params);

#endif
