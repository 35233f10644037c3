/*
 * An endpoint to copy: fulfils hal/pcie_ep.h for a host that never comes. Each function says what
 * hardware must do there. hal/drivers/pcie_ep_link.c is a complete one.
 */
#ifndef TEMPLATE_TEMPLATE_EP_H
#define TEMPLATE_TEMPLATE_EP_H

#include <stdint.h>
#include "base/status.h"
#include "hal/mmio.h"
#include "hal/pcie_ep.h"

#define TEMPLATE_EP_DOORBELL_BYTES 4096

struct template_ep {
    struct pcie_ep ep; /* first: the contract's handle */
    struct mmio regs;  /* the endpoint controller's own */
    uint32_t event_count;
    uint8_t register_page[4096] ALIGNED(4096);
    uint8_t doorbells[TEMPLATE_EP_DOORBELL_BYTES] ALIGNED(4096);
};

/* Core 0, once. INVALID: base. */
MUST_USE enum status template_ep_init(struct template_ep *endpoint, uintptr_t base);

#endif
