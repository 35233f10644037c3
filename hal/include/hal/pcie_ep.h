/*
 * A PCIe endpoint function as the host sees it, seen from behind: its registers and doorbells,
 * ordered events, windows into host memory, and MSI-X.
 *
 * A port to silicon writes this one driver. On the boards of this tree the driver is
 * hal/drivers/pcie_ep_link.c over the link block of spec/link.h; the other end of it is pcielink
 * (qemu-virt) or the vfio-user server in the same process (native).
 *
 * Who runs where: events, register page and fences belong to the control core of the function (core
 * 0). Views, doorbells and interrupts are used by every core.
 */
#ifndef HAL_PCIE_EP_H
#define HAL_PCIE_EP_H

#include <stdbool.h>
#include <stdint.h>
#include "base/compiler.h"
#include "base/limits.h"
#include "base/shm.h"
#include "base/status.h"

/* One window: host addresses [host_addr, host_addr + len_bytes) appear on the NIC's bus at
 * bus_addr. */
struct pcie_ep_window {
    uint64_t host_addr;
    uint64_t len_bytes;
    uint64_t bus_addr;
    bool readable; /* the NIC may read it */
    bool writable; /* the NIC may write it */
};

/* A core's own copy of the window table: read without any lock or atomic by that core alone,
 * replaced by that core alone (pcie_ep_view_load) when the control core tells it to. */
struct pcie_ep_view {
    uint32_t generation;
    uint32_t window_count;
    uint32_t last_hit; /* index; most lookups hit the window of the one before */
    struct pcie_ep_window windows[LIMIT_DMA_WINDOWS];
};

enum pcie_ep_event_type {
    PCIE_EP_EVENT_NONE,
    PCIE_EP_EVENT_REG_WRITE,  /* the host wrote the register page; already stored as its mask allows
                               */
    PCIE_EP_EVENT_WINDOWS,    /* a new window table waits: fence, load it on each core, then ack */
    PCIE_EP_EVENT_BUS_MASTER, /* value: 1 on, 0 off. Off: fence as for WINDOWS, then ack */
    PCIE_EP_EVENT_RESET,   /* function-level or link reset: everything back to power-on, then ack */
    PCIE_EP_EVENT_LINK,    /* value: 1 a host is there, 0 it went away (as RESET; then ack) */
    PCIE_EP_EVENT_VECTORS, /* the host changed its vectors: use the new table, ack, raise again what
                              has unacknowledged completions */
};

struct pcie_ep_event {
    enum pcie_ep_event_type type;
    uint32_t offset;    /* REG_WRITE: byte offset in the register page */
    uint32_t len_bytes; /* REG_WRITE: 4 or 8 (other widths never arrive) */
    uint64_t value;
    uint32_t generation; /* what the ack must carry */
    bool revokes;        /* WINDOWS: some address that was reachable no longer is */
};

/* How doorbells reach us, and what follows for idling. */
enum pcie_ep_doorbells {
    PCIE_EP_DOORBELLS_MAPPED,  /* plain stores of the host: nobody wakes us, sleep at most 1 ms */
    PCIE_EP_DOORBELLS_TRAPPED, /* a write wakes the cores once armed */
};

struct pcie_ep;

struct pcie_ep_ops {
    bool (*event_pop)(struct pcie_ep *ep, struct pcie_ep_event *event);
    void (*event_ack)(struct pcie_ep *ep, const struct pcie_ep_event *event);
    void (*view_load)(struct pcie_ep *ep, struct pcie_ep_view *view);
    void (*reg_protect)(struct pcie_ep *ep, uint32_t offset, uint32_t writable_mask);
    void (*irq_raise)(struct pcie_ep *ep, uint16_t vector);
    void (*doorbells_arm)(struct pcie_ep *ep, bool armed);
    void (*ready)(struct pcie_ep *ep);
    void (*leave)(struct pcie_ep *ep); /* NULL: nobody to tell */
};

/* The driver embeds this as its first member and fills all fields before anyone sees it. */
struct pcie_ep {
    const struct pcie_ep_ops *ops;
    const char *name;
    uint8_t *regs;      /* the register page, 4 KiB, as the host reads it; written by us with
                           shm_store32/64 */
    uint8_t *doorbells; /* doorbell area, `doorbells_bytes` long, written by the host */
    uint32_t doorbells_bytes;
    uint16_t fn;           /* function id: the tenant */
    uint16_t vector_count; /* MSI-X vectors */
    uint8_t doorbell_mode; /* enum pcie_ep_doorbells */
    bool
        host_poll_is_cheap; /* polling host memory costs no bus round trip (doorbell buffers pay) */
    const uint32_t *event_head; /* changes with each event: the control core's one load per turn */
    uint32_t event_seen;        /* the driver's; equal to *event_head when there is no event */
};

/* True when pcie_ep_event_pop() has something. Control core. */
ALWAYS_INLINE bool pcie_ep_event_waits(const struct pcie_ep *ep)
{
    return shm_load32_acquire(ep->event_head) != ep->event_seen;
}

/* The next event, in the order in which the host caused them. False: none. Control core. */
ALWAYS_INLINE bool pcie_ep_event_pop(struct pcie_ep *ep, struct pcie_ep_event *event)
{
    return ep->ops->event_pop(ep, event);
}

/* Says that nothing of ours touches what the event took away (WINDOWS, BUS_MASTER off, RESET, LINK,
 * VECTORS). The host's operation waits for it, at most 1 s: then the link goes down. Control core.
 */
ALWAYS_INLINE void pcie_ep_event_ack(struct pcie_ep *ep, const struct pcie_ep_event *event)
{
    ep->ops->event_ack(ep, event);
}

/* Copies the newest window table into the calling core's view. With bus mastering off it is empty.
 */
ALWAYS_INLINE void pcie_ep_view_load(struct pcie_ep *ep, struct pcie_ep_view *view)
{
    ep->ops->view_load(ep, view);
}

/* From now on the host's writes change only these bits of the aligned 32-bit register at `offset`;
 * at power-on the board's straps say so for CC, AQA, ASQ, ACQ. Events arrive for every write. */
ALWAYS_INLINE void pcie_ep_reg_protect(struct pcie_ep *ep, uint32_t offset, uint32_t writable_mask)
{
    ep->ops->reg_protect(ep, offset, writable_mask);
}

/* Raises an MSI-X interrupt. What was stored before (the CQE) is seen by the host before it.
 * A vector that the host does not listen to is dropped. Any core. */
ALWAYS_INLINE void pcie_ep_irq_raise(struct pcie_ep *ep, uint16_t vector)
{
    ep->ops->irq_raise(ep, vector);
}

/* Trapped doorbells: from the return of arm(true) on, a doorbell write wakes each core that armed.
 * Look at the doorbells once more after arming. No effect when mapped, but for register events,
 * which always wake core 0. Any core; counts nest by core. */
ALWAYS_INLINE void pcie_ep_doorbells_arm(struct pcie_ep *ep, bool armed)
{
    ep->ops->doorbells_arm(ep, armed);
}

/* Tells the other end that the firmware serves from now on: until then the straps answer the host
 * and events are kept. Called once after start, when registers have been published. Control core.
 */
ALWAYS_INLINE void pcie_ep_ready(struct pcie_ep *ep)
{
    ep->ops->ready(ep);
}

/* The firmware goes, by a reset of its board: nothing of ours touches host memory any more, and no
 * event gets an answer; the host's operations that wait for one go on. Until the next start the
 * straps answer the host, as before the first one. The last call. Control core. */
ALWAYS_INLINE void pcie_ep_leave(struct pcie_ep *ep)
{
    if (ep->ops->leave != NULL) {
        ep->ops->leave(ep);
    }
}

/* Slow half of pcie_ep_map(): searches all windows, moves last_hit. */
uint64_t pcie_ep_map_search(struct pcie_ep_view *view, uint64_t host_addr, uint32_t len_bytes,
                            bool for_write);

#define PCIE_EP_NO_ADDR UINT64_MAX

/* The common half: looks into the window of the lookup before alone. False when the address is not
 * there (it may be in another window) or the window does not allow the access. For hot paths that
 * leave everything else to a function of their own. The view's own core. */
ALWAYS_INLINE bool pcie_ep_map_last(const struct pcie_ep_view *view, uint64_t host_addr,
                                    uint32_t len_bytes, bool for_write, uint64_t *bus_addr)
{
    const struct pcie_ep_window *w = &view->windows[view->last_hit];
    uint64_t offset = host_addr - w->host_addr;

    *bus_addr = w->bus_addr + offset;
    /* An unused window has len_bytes 0: no offset is below it. */
    return LIKELY(offset < w->len_bytes && len_bytes <= w->len_bytes - offset &&
                  (for_write ? w->writable : w->readable));
}

/* The bus address of [host_addr, +len_bytes), which must lie inside one window that allows the
 * access; PCIE_EP_NO_ADDR otherwise. `for_write`: the NIC (or its devices) will write host memory.
 * The view's own core. */
ALWAYS_INLINE uint64_t pcie_ep_map(struct pcie_ep_view *view, uint64_t host_addr,
                                   uint32_t len_bytes, bool for_write)
{
    uint64_t bus_addr;

    return pcie_ep_map_last(view, host_addr, len_bytes, for_write, &bus_addr)
               ? bus_addr
               : pcie_ep_map_search(view, host_addr, len_bytes, for_write);
}

#endif
