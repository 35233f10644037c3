/*
 * Interrupt controller: hal/drivers/gicv2.c on this tree's boards. Another controller is another
 * file that defines the same functions; who uses interrupts does not notice.
 *
 * Interrupt numbers are the architecture's (GIC INTIDs): 0..15 between cores, 16..31 private to
 * each core, from 32 on shared devices. Handlers run with interrupts masked, on the stack that the
 * core keeps for exceptions; they may log, wake cores and touch atomics, and nothing else that
 * blocks.
 */
#ifndef HAL_IRQ_H
#define HAL_IRQ_H

#include <stdint.h>
#include "base/compiler.h"
#include "base/status.h"

#define IRQ_CORE_FIRST    0u
#define IRQ_PRIVATE_FIRST 16u
#define IRQ_SHARED_FIRST  32u

/* What this tree uses between cores. */
#define IRQ_CORE_WAKE 0u
#define IRQ_CORE_STOP 1u

typedef void irq_fn(void *arg);

enum irq_trigger {
    IRQ_TRIGGER_LEVEL,
    IRQ_TRIGGER_EDGE,
};

/* Routes interrupt `irq` to `fn(arg)` and enables it: a shared one on `core`, a private one or one
 * between cores on the calling core now and on every core that starts later (`core` is ignored).
 * INVALID: no such interrupt or core. EXISTS: it has a handler. Core 0. */
MUST_USE enum status irq_attach(uint32_t irq, enum irq_trigger trigger, uint32_t core, irq_fn *fn,
                                void *arg);

/* What a device writes where to raise a message-signalled interrupt. */
struct irq_msi {
    uint64_t bus_addr;
    uint32_t data;
};

/* Takes a free message-signalled interrupt and routes it as irq_attach() does.
 * UNSUPPORTED: the board has none. NO_SPACE: all are taken. INVALID: no such core. Core 0. */
MUST_USE enum status irq_msi_attach(uint32_t core, irq_fn *fn, void *arg, struct irq_msi *msi);

/* Raises interrupt `irq` (0..15) on `core`; memory written before is seen by its handler. Any core.
 */
void irq_send(uint32_t core, uint32_t irq);

/* The calling core's part of the controller; before it unmasks interrupts. */
void irq_core_init(void);

/* From the exception vector: runs the handlers of all pending interrupts. Returns how many came
 * from devices (32 and up). */
uint32_t irq_dispatch(void);

#endif
