#include "hal/drivers/gicv2.h"

#include <stdbool.h>
#include "base/bits.h"
#include "base/limits.h"
#include "hal/barrier.h"
#include "hal/cpu.h"
#include "hal/irq.h"
#include "hal/mmio.h"

/* Distributor, IHI 0048B 4.3 */
#define GICD_CTLR         0x000u
#define GICD_TYPER        0x004u
#define GICD_ISENABLER(n) (0x100u + 4 * (n))
#define GICD_ICENABLER(n) (0x180u + 4 * (n))
#define GICD_ICPENDR(n)   (0x280u + 4 * (n))
#define GICD_IPRIORITYR   0x400u             /* a byte each */
#define GICD_ITARGETSR    0x800u             /* a byte each */
#define GICD_ICFGR(n)     (0xc00u + 4 * (n)) /* two bits each: 10 edge, 00 level */
#define GICD_SGIR         0xf00u
#define GICD_PIDR2        0xfe8u

#define GICD_TYPER_LINES_SHIFT 0
#define GICD_TYPER_LINES_BITS  5
#define SGIR_TARGET_SHIFT      16
#define PIDR2_ARCH_SHIFT       4
#define PIDR2_ARCH_BITS        4

/* CPU interface, 4.4 */
#define GICC_CTLR 0x000u
#define GICC_PMR  0x004u
#define GICC_BPR  0x008u
#define GICC_IAR  0x00cu
#define GICC_EOIR 0x010u

#define IAR_ID_MASK  0x3ffu
#define IAR_SPURIOUS 1020u /* 1020..1023 */

#define PRIORITY_ALL 0xa0u

/* v2m frame, SBSA appendix E */
#define V2M_TYPER       0x008u
#define V2M_SETSPI      0x040u
#define V2M_FIRST_SHIFT 16
#define V2M_FIRST_BITS  10
#define V2M_COUNT_SHIFT 0
#define V2M_COUNT_BITS  10

/* A pending interrupt is handled at once; this bounds one that never falls. */
#define DISPATCH_MAX 64u

static struct {
    struct mmio distributor;
    struct mmio interface;
    uint32_t line_count;
    uint64_t msi_doorbell; /* bus address of V2M_SETSPI */
    uint32_t msi_next;
    uint32_t msi_end;
    uint8_t core_mask[LIMIT_CORES]; /* the bit of each core's interface, once it has started */
    struct {
        irq_fn *fn;
        void *arg;
    } handler[GICV2_IRQ_COUNT];
} gic;

static void set_enabled(uint32_t irq)
{
    mmio_write32(gic.distributor, GICD_ISENABLER(irq / 32), BIT32(irq % 32));
}

enum status gicv2_init(const struct gicv2_params *params)
{
    gic.distributor.base = params->distributor;
    gic.interface.base = params->interface;
    uint32_t version = (uint32_t)FIELD_GET(PIDR2_ARCH, mmio_read32(gic.distributor, GICD_PIDR2));
    if (version != 2) {
        return STATUS_UNSUPPORTED;
    }
    mmio_write32(gic.distributor, GICD_CTLR, 0);
    uint32_t lines = mmio_read32(gic.distributor, GICD_TYPER);
    gic.line_count =
        min_u32(32 * ((uint32_t)FIELD_GET(GICD_TYPER_LINES, lines) + 1), GICV2_IRQ_COUNT);
    for (uint32_t i = IRQ_SHARED_FIRST / 32; i < gic.line_count / 32; i++) {
        mmio_write32(gic.distributor, GICD_ICENABLER(i), UINT32_MAX);
        mmio_write32(gic.distributor, GICD_ICPENDR(i), UINT32_MAX);
    }
    if (params->msi_frame != 0) {
        uint32_t typer = mmio_read32((struct mmio){params->msi_frame}, V2M_TYPER);
        gic.msi_doorbell = params->msi_frame + V2M_SETSPI;
        gic.msi_next = (uint32_t)FIELD_GET(V2M_FIRST, typer);
        gic.msi_end = min_u32(gic.msi_next + (uint32_t)FIELD_GET(V2M_COUNT, typer), gic.line_count);
    }
    mmio_write32(gic.distributor, GICD_CTLR, 1);
    irq_core_init();
    return STATUS_OK;
}

void irq_core_init(void)
{
    /* The target registers of private interrupts read as the reading core's own bit (4.3.12). */
    gic.core_mask[cpu_self()] = mmio_read8(gic.distributor, GICD_ITARGETSR);
    mmio_write32(gic.distributor, GICD_ICENABLER(0), UINT32_MAX);
    for (uint32_t irq = 0; irq < IRQ_SHARED_FIRST; irq++) {
        mmio_write8(gic.distributor, GICD_IPRIORITYR + irq, PRIORITY_ALL);
        if (gic.handler[irq].fn != NULL) {
            set_enabled(irq);
        }
    }
    mmio_write32(gic.interface, GICC_PMR, 0xff);
    mmio_write32(gic.interface, GICC_BPR, 0);
    mmio_write32(gic.interface, GICC_CTLR, 1);
}

static void set_trigger(uint32_t irq, enum irq_trigger trigger)
{
    uint32_t shift = irq % 16 * 2 + 1;
    uint32_t config = mmio_read32(gic.distributor, GICD_ICFGR(irq / 16));
    config = (config & ~BIT32(shift)) | (trigger == IRQ_TRIGGER_EDGE ? BIT32(shift) : 0);
    mmio_write32(gic.distributor, GICD_ICFGR(irq / 16), config);
}

enum status irq_attach(uint32_t irq, enum irq_trigger trigger, uint32_t core, irq_fn *fn, void *arg)
{
    bool is_shared = irq >= IRQ_SHARED_FIRST;
    if (irq >= gic.line_count || (is_shared && core >= cpu_count())) {
        return STATUS_INVALID;
    }
    if (gic.handler[irq].fn != NULL) {
        return STATUS_EXISTS;
    }
    gic.handler[irq].arg = arg;
    gic.handler[irq].fn = fn;
    if (is_shared) {
        /* A core that has not started has no known interface yet: interfaces are numbered as cores.
         */
        uint8_t target = gic.core_mask[core];
        if (target == 0) {
            target = (uint8_t)BIT32(core);
        }
        set_trigger(irq, trigger);
        mmio_write8(gic.distributor, GICD_IPRIORITYR + irq, PRIORITY_ALL);
        mmio_write8(gic.distributor, GICD_ITARGETSR + irq, target);
    }
    barrier_full_system(); /* the handler is in memory before the interrupt can come */
    set_enabled(irq);
    return STATUS_OK;
}

enum status irq_msi_attach(uint32_t core, irq_fn *fn, void *arg, struct irq_msi *msi)
{
    if (gic.msi_doorbell == 0) {
        return STATUS_UNSUPPORTED;
    }
    if (gic.msi_next == gic.msi_end) {
        return STATUS_NO_SPACE;
    }
    enum status status = irq_attach(gic.msi_next, IRQ_TRIGGER_EDGE, core, fn, arg);
    if (status == STATUS_OK) {
        msi->bus_addr = gic.msi_doorbell;
        msi->data = gic.msi_next++;
    }
    return status;
}

void irq_send(uint32_t core, uint32_t irq)
{
    barrier_full_system(); /* what the handler will look at is in memory */
    mmio_write32(gic.distributor, GICD_SGIR,
                 (uint32_t)gic.core_mask[core] << SGIR_TARGET_SHIFT | irq);
}

uint32_t irq_dispatch(void)
{
    uint32_t device_count = 0;

    for (uint32_t i = 0; i < DISPATCH_MAX; i++) {
        uint32_t iar = mmio_read32(gic.interface, GICC_IAR);
        uint32_t irq = iar & IAR_ID_MASK;
        if (irq >= IAR_SPURIOUS) {
            break;
        }
        barrier_after_device_read();
        if (irq < GICV2_IRQ_COUNT && gic.handler[irq].fn != NULL) {
            gic.handler[irq].fn(gic.handler[irq].arg);
        }
        mmio_write32(gic.interface, GICC_EOIR, iar); /* an SGI's source core goes back, too */
        device_count += irq >= IRQ_SHARED_FIRST;
    }
    return device_count;
}
