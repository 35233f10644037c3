#include "boards/template/template_ep.h"

#include <string.h>

/* Port: from the controller's event queue, in the order in which the host caused them. A register
 * write arrives after it was stored into the register page as its mask allows. */
static bool event_pop(struct pcie_ep *ep, struct pcie_ep_event *event)
{
    (void)ep;
    event->type = PCIE_EP_EVENT_NONE;
    return false;
}

/* Port: let the host's operation go on (DMA unmap, FLR, bus master off): only now is it safe.
 * Hardware that does not wait must at least drop the NIC's accesses by itself in the meantime. */
static void event_ack(struct pcie_ep *ep, const struct pcie_ep_event *event)
{
    (void)ep, (void)event;
}

/* Port: the address translations that are in force; one window over everything that the outbound
 * path reaches is usual. None while bus mastering is off. */
static void view_load(struct pcie_ep *ep, struct pcie_ep_view *view)
{
    (void)ep;
    memset(view, 0, sizeof(*view));
}

/* Port: what the host may change of a register, if hardware can mask; else software keeps a copy.
 */
static void reg_protect(struct pcie_ep *ep, uint32_t offset, uint32_t writable_mask)
{
    (void)ep, (void)offset, (void)writable_mask;
}

/* Port: a posted write of the vector's message, ordered after the writes of the completion before
 * it. */
static void irq_raise(struct pcie_ep *ep, uint16_t vector)
{
    (void)ep, (void)vector;
}

/* Port: switch the doorbell interrupt on or off; it must end cpu_idle() on every core that armed.
 */
static void doorbells_arm(struct pcie_ep *ep, bool armed)
{
    (void)ep, (void)armed;
}

/* Port: let the link train, or let configuration requests through. */
static void ready(struct pcie_ep *ep)
{
    (void)ep;
}

static const struct pcie_ep_ops ops = {
    .event_pop = event_pop,
    .event_ack = event_ack,
    .view_load = view_load,
    .reg_protect = reg_protect,
    .irq_raise = irq_raise,
    .doorbells_arm = doorbells_arm,
    .ready = ready,
};

enum status template_ep_init(struct template_ep *endpoint, uintptr_t base)
{
    if (base == 0) {
        return STATUS_INVALID;
    }
    endpoint->regs.base = base;
    endpoint->ep = (struct pcie_ep){
        .ops = &ops,
        .name = "template",
        .regs = endpoint->register_page,
        .doorbells = endpoint->doorbells,
        .doorbells_bytes = sizeof(endpoint->doorbells),
        .vector_count = 1,
        .doorbell_mode = PCIE_EP_DOORBELLS_TRAPPED,
        .event_head = &endpoint->event_count,
    };
    return STATUS_OK;
}
