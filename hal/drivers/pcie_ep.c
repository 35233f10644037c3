/*
 * The part of the pcie_ep contract that is the same on every board: looking a host address up.
 */
#include "hal/pcie_ep.h"

uint64_t pcie_ep_map_search(struct pcie_ep_view *view, uint64_t host_addr, uint32_t len_bytes,
                            bool for_write)
{
    for (uint32_t i = 0; i < view->window_count; i++) {
        const struct pcie_ep_window *w = &view->windows[i];
        uint64_t offset = host_addr - w->host_addr; /* huge when the address lies below */

        if (offset < w->len_bytes && len_bytes <= w->len_bytes - offset &&
            (for_write ? w->writable : w->readable)) {
            view->last_hit = i;
            return w->bus_addr + offset;
        }
    }
    return PCIE_EP_NO_ADDR;
}
